"""What a rule reads that this lake has not: tables of other connectors, their parsers, watchlists.

Published rules are often written for several clouds. Such a rule is taken and skipped with its reason, as
one that fetches a list from a host that is not allowed; a name that nobody knows stays an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import datetime

from trailhawk.detect.rule import Rule
from trailhawk.engine.result import Engine
from trailhawk.errors import QueryError
from trailhawk.kql.lexer import tokens

IsThere = Callable[[str], bool]
"""Whether a query may read a table of this name."""

_NAME = re.compile(r"\w+")
_PARSER = re.compile(r"_?(Im|ASim|im|vim)_?[A-Z]\w+")
"""Functions of Sentinel's information model: https://learn.microsoft.com/azure/sentinel/normalization"""

_NAMES_OF_SENTINEL = """
AADManagedIdentitySignInLogs AADNonInteractiveUserSignInLogs AADProvisioningLogs AADRiskyUsers
AADServicePrincipalSignInLogs AADUserRiskEvents AlertEvidence AlertInfo Anomalies ASimAuditEventLogs
ASimAuthenticationEventLogs ASimDnsActivityLogs ASimFileEventLogs ASimNetworkSessionLogs
ASimProcessEventLogs ASimWebSessionLogs AuditLogs AZFWApplicationRule AZFWDnsQuery AZFWNetworkRule
AZFWThreatIntel AzureActivity AzureDevOpsAuditing AzureDiagnostics AzureMetrics BehaviorAnalytics
CloudAppEvents CommonSecurityLog ContainerInventory DeviceEvents DeviceFileCertificateInfo
DeviceFileEvents DeviceImageLoadEvents DeviceInfo DeviceLogonEvents DeviceNetworkEvents
DeviceNetworkInfo DeviceProcessEvents DeviceRegistryEvents DnsEvents DnsInventory Dynamics365Activity
EmailAttachmentInfo EmailEvents EmailPostDeliveryEvents EmailUrlInfo Event GCPAuditLogs GCPVPCFlow
GoogleCloudSCC Heartbeat HuntingBookmark IdentityDirectoryEvents IdentityInfo IdentityLogonEvents
IdentityQueryEvents IntuneAuditLogs KubeEvents LAQueryLogs McasShadowItReporting
MicrosoftGraphActivityLogs OfficeActivity Operation Perf PowerBIActivity ProjectActivity
ProtectionStatus SecureScores SecurityAlert SecurityBaseline SecurityEvent SecurityIncident
SecurityRecommendation SentinelAudit SentinelHealth SigninLogs StorageBlobLogs StorageFileLogs
StorageQueueLogs StorageTableLogs Syslog ThreatIntelIndicators ThreatIntelligenceIndicator
ThreatIntelObjects UrlClickEvents Usage UserAccessAnalytics UserPeerAnalytics VMConnection
W3CIISLog Watchlist WindowsEvent WindowsFirewall WireData
"""
# Reference: https://learn.microsoft.com/azure/sentinel/data-source-schema-reference
_OF_SENTINEL = frozenset(_NAMES_OF_SENTINEL.split())


def needed(rule: Rule, is_there: IsThere) -> tuple[str, ...]:
    """The tables that a rule says it needs, reads, and that are not here."""
    texts = tokens(rule.query).texts
    named = dict.fromkeys(found[0] for each in rule.data_types if (found := _NAME.match(each)))
    return tuple(name for name in named if name in texts and not is_there(name))


def absent(rule: Rule, error: QueryError, is_there: IsThere) -> tuple[str, ...]:
    """What is missing, when that is why the rule's query does not bind; nothing where it is wrong itself."""
    return tuple(dict.fromkeys([*_named_by(rule, error), *_needed_by(rule, error, is_there)]))


def _named_by(rule: Rule, error: QueryError) -> Iterator[str]:
    name = "" if error.span is None else rule.query[error.span.start : error.span.end]
    if error.code == "unknown-watchlist":
        yield f"watchlist {name}"
    if error.code == "unknown-function" and _PARSER.fullmatch(name):
        yield f"{name}()"
    if error.code == "unknown-table" and (name in _OF_SENTINEL or name.endswith("_CL")):
        yield name


def _needed_by(rule: Rule, error: QueryError, is_there: IsThere) -> tuple[str, ...]:
    """`union isfuzzy=true` goes on without a table, so that what follows misses its columns."""
    return needed(rule, is_there) if error.code in ("unknown-table", "unknown-column") else ()


def is_there(engine: Engine, now: datetime) -> IsThere:
    """Asks this engine."""

    def asked(table: str) -> bool:
        try:
            engine.query(f"{table} | take 0", now=now)
        except QueryError:
            return False
        return True

    return asked


def reason(names: tuple[str, ...]) -> str:
    """Why a rule is skipped."""
    return f"it reads {', '.join(names)}, which this lake has not"
