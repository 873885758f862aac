"""ThreatIntelIndicators: what was told of indicators, as Log Analytics' table has it.

A row for each observable of an indicator and each time it was told, changed or told again; the newest row of
Id, ObservableKey and ObservableValue counts.
https://learn.microsoft.com/azure/azure-monitor/reference/tables/threatintelindicators
"""

from __future__ import annotations

import base64
from datetime import datetime
from typing import TYPE_CHECKING

import orjson

from trailhawk.detect.intel import Indicator
from trailhawk.detect.intel.observable import Observable
from trailhawk.kql.schema import Column, Table
from trailhawk.kql.types import KqlType
from trailhawk.lake.table import as_stored

if TYPE_CHECKING:
    from collections.abc import Mapping

_S, _T, _D, _B = KqlType.STRING, KqlType.DATETIME, KqlType.DYNAMIC, KqlType.BOOL

THREAT_INTEL = Table(
    name="ThreatIntelIndicators",
    description="Indicators of threat intelligence, one row an observable each time it was told.",
    columns=(
        Column("TenantId", _S),
        Column("TimeGenerated", _T, "When it was taken in, changed, or told again."),
        Column("AdditionalFields", _D, "TLPLevel, and how the parts of a compound pattern are joined."),
        Column("AzureTenantId", _S),
        Column("Confidence", KqlType.INT, "From 0 to 100, as the source is sure of it."),
        Column("Created", _T, "When the source made it."),
        Column("Data", _D, "The whole indicator, as STIX."),
        Column("Id", _S, "The source in base64, ---, and the indicator's id."),
        Column("IsActive", _B, "Neither revoked nor deleted, and not past its end when this was told."),
        Column("IsDeleted", _B, "Whether it was removed here."),
        Column("LastUpdateMethod", _S, "What told it: Import, Republish, Expire or Remove."),
        Column("Modified", _T, "When the source changed it."),
        Column("ObservableKey", _S, "Left side of the comparison, such as ipv4-addr:value."),
        Column("ObservableValue", _S, "Right side of the comparison."),
        Column("Pattern", _S, "The whole pattern."),
        Column("Revoked", _B, "Whether the source has taken it back."),
        Column("SourceSystem", _S, "Name of the source."),
        Column("Tags", _S, "Labels and kinds of indicator, between commas."),
        Column("ValidFrom", _T, "From when it holds."),
        Column("ValidUntil", _T, "Until when it holds; null for ever."),
        Column("WorkspaceId", _S),
        Column("Type", _S),
    ),
    constants={"Type": "ThreatIntelIndicators", "TenantId": "00000000-0000-0000-0000-000000000000"},
    statistics=("TimeGenerated", "ObservableKey"),
)

IMPORT, REPUBLISH, EXPIRE, REMOVE = "Import", "Republish", "Expire", "Remove"

Key = tuple[str, str, str]
"""Id, ObservableKey, ObservableValue."""


def full_id(source: str, indicator: str) -> str:
    """The Id column: two sources may know the same indicator."""
    return f"{base64.b64encode(source.encode()).decode()}---{indicator}"


def rows_of(indicator: Indicator, *, source: str, now: datetime) -> dict[Key, dict[str, object]]:
    """The rows of an indicator as told now, one an observable; one without any for a pattern of none."""
    more: dict[str, object] = {"TLPLevel": indicator.tlp} if indicator.tlp else {}
    if indicator.joined:
        more |= {"PatternJoinedBy": indicator.joined, "PatternParts": len(indicator.observables)}
    common: dict[str, object] = {
        "TimeGenerated": as_stored(now),
        "AdditionalFields": orjson.dumps(more).decode() if more else None,
        "Confidence": indicator.confidence,
        "Created": as_stored(indicator.created),
        "Data": indicator.data,
        "Id": full_id(source, indicator.id),
        "IsActive": is_active(indicator.revoked, indicator.valid_until, now),
        "IsDeleted": False,
        "LastUpdateMethod": IMPORT,
        "Modified": as_stored(indicator.modified),
        "Pattern": indicator.pattern,
        "Revoked": indicator.revoked,
        "SourceSystem": source,
        "Tags": ", ".join(indicator.tags),
        "ValidFrom": as_stored(indicator.valid_from or indicator.created or now),
        "ValidUntil": as_stored(indicator.valid_until),
    }
    rows: dict[Key, dict[str, object]] = {}
    for each in indicator.observables or (Observable("", ""),):
        key = (str(common["Id"]), each.key, each.value)
        rows[key] = common | {"ObservableKey": each.key, "ObservableValue": each.value}
    return rows


def is_active(revoked: object, valid_until: datetime | None, now: datetime) -> bool:
    return revoked is not True and (valid_until is None or valid_until > now)


def says_the_same(old: Mapping[str, object], new: Mapping[str, object]) -> bool:
    """Whether a row tells nothing that an older one has not told."""
    told = ("Data", "ValidUntil", "IsDeleted", "IsActive", "Confidence", "Tags", "Revoked")
    return all(old[name] == new[name] for name in told)
