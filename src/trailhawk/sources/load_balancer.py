"""Logs of load balancers: access logs of Application and Network Load Balancers as Sentinel's tables, and in
tables of ours those of Classic Load Balancers, and connections and health checks of the Application ones.

Formats: https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-access-logs.html ,
https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-connection-logs.html ,
https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-health-check-logs.html ,
https://docs.aws.amazon.com/elasticloadbalancing/latest/network/load-balancer-access-logs.html ,
https://docs.aws.amazon.com/elasticloadbalancing/latest/classic/access-log-collection.html
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from trailhawk.kql.schema import Table
from trailhawk.kql.types import KqlType
from trailhawk.sources.columns import Line, declared
from trailhawk.sources.moments import moment
from trailhawk.sources.text_rows import TextSource, Values, fields_of, rest_of

_TEXT, _TIME, _INT, _LONG = KqlType.STRING, KqlType.DATETIME, KqlType.INT, KqlType.LONG

# In the order of the log; the last text is what stands there.
_ALB: Final = (
    ("ALBType", _TEXT, "http, https, h2, grpcs, ws or wss.", "type"),
    ("TimeGenerated", _TIME, "When the load balancer answered, UTC.", "time"),
    ("Alb", _TEXT, "Id of the load balancer.", "elb"),
    ("ClientIp", _TEXT, "Address of the client.", "client"),
    ("ClientPort", _INT, "Port of the client.", ""),
    ("TargetIp", _TEXT, "Address of the target.", "target"),
    ("TargetPort", _INT, "Port of the target.", ""),
    ("RequestProcessingTime", _TEXT, "Seconds until the request was sent to the target.", "text"),
    ("TargetProcessingTime", _TEXT, "Seconds until the target began to answer.", "text"),
    ("ResponseProcessingTime", _TEXT, "Seconds until the answer was sent.", "text"),
    ("ElbStatusCode", _INT, "Status of the load balancer's answer.", "text"),
    ("TargetStatusCode", _TEXT, "Status of the target's answer.", "text"),
    ("ReceivedBytes", _LONG, "Bytes of the request.", "text"),
    ("SentBytes", _LONG, "Bytes of the answer.", "text"),
    ("RequestRaw", _TEXT, "Request line.", "text"),
    ("UserAgent", _TEXT, "User agent.", "text"),
    ("SslCipher", _TEXT, "TLS cipher.", "text"),
    ("SslProtocol", _TEXT, "TLS protocol.", "text"),
    ("TargetGroupArn", _TEXT, "ARN of the target group.", "text"),
    ("TraceId", _TEXT, "X-Amzn-Trace-Id header.", "text"),
    ("DomainName", _TEXT, "Server name of the TLS hello.", "text"),
    ("ChosenCertArn", _TEXT, "ARN of the certificate shown.", "text"),
    ("MatchedRulePriority", _TEXT, "Priority of the rule that matched.", "text"),
    ("RequestCreationTime", _TEXT, "When the request came.", "text"),
    ("ActionsExecuted", _TEXT, "Actions taken.", "text"),
    ("RedirectUrl", _TEXT, "Where it was sent on to.", "text"),
    ("LambdaErrorReason", _TEXT, "Why a Lambda target failed.", "text"),
    ("TargetPortList", _TEXT, "Targets of the request.", "text"),
    ("TargetStatusCodeList", _TEXT, "Statuses of the targets.", "text"),
    ("Classification", _TEXT, "Whether the request kept to the RFC.", "text"),
    ("ClassificationReason", _TEXT, "Why it was classed so.", "text"),
    ("ConnTraceId", _TEXT, "Id of the connection.", "text"),
)
_NLB: Final = (
    ("NLBType", _TEXT, "Type of the listener, tls.", "type"),
    ("Version", _TEXT, "Version of the log entry.", "text"),
    ("TimeGenerated", _TIME, "When the connection ended, UTC.", "time"),
    ("Nlb", _TEXT, "Id of the load balancer.", "text"),
    ("Listener", _TEXT, "Id of the listener.", "text"),
    ("ClientIPPort", _TEXT, "Address and port of the client.", "text"),
    ("TargetIPPort", _TEXT, "Address and port of the target.", "text"),
    ("ConnectionTime", _TEXT, "Milliseconds that the connection lasted.", "text"),
    ("TlsHandshakeTime", _TEXT, "Milliseconds of the TLS handshake.", "text"),
    ("ReceivedBytes", _TEXT, "Bytes from the client.", "text"),
    ("SentBytes", _TEXT, "Bytes to the client.", "text"),
    ("IncomingTLSAlert", _TEXT, "TLS alert from the client.", "text"),
    ("ChosenCertArn", _TEXT, "ARN of the certificate shown.", "text"),
    ("ChosenCertSerial", _TEXT, "Always -.", "text"),
    ("TLSCipher", _TEXT, "TLS cipher.", "text"),
    ("TLSProtocolVersion", _TEXT, "TLS protocol.", "text"),
    ("TLSNamedGroup", _TEXT, "Named group of the key exchange.", "text"),
    ("DomainName", _TEXT, "Server name of the TLS hello.", "text"),
    ("ALPNFEProtocol", _TEXT, "Application protocol with the client.", "text"),
    ("ALPNBEProtocol", _TEXT, "Application protocol with the target.", "text"),
    ("ALPNClientPrefList", _TEXT, "Application protocols the client offered.", "text"),
    ("TLSConnectionCreationTime", _TEXT, "When the connection began.", "text"),
)
_CLASSIC: Final = (
    ("TimeGenerated", _TIME, "When the load balancer got the request, UTC.", "time"),
    ("Elb", _TEXT, "Name of the load balancer.", "text"),
    ("ClientIp", _TEXT, "Address of the client.", "client"),
    ("ClientPort", _INT, "Port of the client.", ""),
    ("BackendIp", _TEXT, "Address of the instance.", "target"),
    ("BackendPort", _INT, "Port of the instance.", ""),
    ("RequestProcessingTime", _TEXT, "Seconds until the request was sent to the instance.", "text"),
    ("BackendProcessingTime", _TEXT, "Seconds until the instance began to answer.", "text"),
    ("ResponseProcessingTime", _TEXT, "Seconds until the answer was sent.", "text"),
    ("ElbStatusCode", _INT, "Status of the load balancer's answer.", "text"),
    ("BackendStatusCode", _INT, "Status of the instance's answer.", "text"),
    ("ReceivedBytes", _LONG, "Bytes of the request.", "text"),
    ("SentBytes", _LONG, "Bytes of the answer.", "text"),
    ("RequestRaw", _TEXT, "Request line.", "text"),
    ("UserAgent", _TEXT, "User agent.", "text"),
    ("SslCipher", _TEXT, "TLS cipher.", "text"),
    ("SslProtocol", _TEXT, "TLS protocol.", "text"),
)
_CONNECTION: Final = (
    ("TimeGenerated", _TIME, "When the connection was made or failed, UTC.", "time"),
    ("ClientIp", _TEXT, "Address of the client.", "text"),
    ("ClientPort", _INT, "Port of the client.", "text"),
    ("ListenerPort", _INT, "Port of the listener.", "text"),
    ("TlsProtocol", _TEXT, "TLS protocol.", "text"),
    ("TlsCipher", _TEXT, "TLS cipher.", "text"),
    ("TlsHandshakeLatency", _TEXT, "Seconds of the TLS handshake.", "text"),
    ("LeafClientCertSubject", _TEXT, "Subject of the client's certificate.", "text"),
    ("LeafClientCertValidity", _TEXT, "From when to when that certificate is valid.", "text"),
    ("LeafClientCertSerialNumber", _TEXT, "Serial number of that certificate.", "text"),
    ("TlsVerifyStatus", _TEXT, "Success, or Failed: and why the connection was refused.", "text"),
    ("ConnTraceId", _TEXT, "Id of the connection, which its requests name too.", "text"),
    ("TlsKeyExchange", _TEXT, "Key exchange of the TLS handshake.", "text"),
)
_HEALTH: Final = (
    ("CheckType", _TEXT, "Protocol of the health check, such as http.", "text"),
    ("TimeGenerated", _TIME, "When the health check was begun, UTC.", "time"),
    ("Latency", _TEXT, "Seconds that the health check took.", "text"),
    ("TargetIp", _TEXT, "Address of the target, or its id.", "target"),
    ("TargetPort", _INT, "Port of the target.", ""),
    ("TargetGroupId", _TEXT, "Name of the target group.", "text"),
    ("Status", _TEXT, "PASS or FAIL.", "text"),
    ("StatusCode", _TEXT, "Status of the target's answer.", "text"),
    ("ReasonCode", _TEXT, "Why the health check failed.", "text"),
)
ALB_TABLE: Final = declared(
    "AWSALBAccessLogs",
    "Requests to Application Load Balancers, one row a request.",
    _ALB,
    statistics=("ClientIp",),
)
NLB_TABLE: Final = declared(
    "AWSNLBAccessLogs", "TLS connections to Network Load Balancers, one row a connection.", _NLB
)
CLASSIC_TABLE: Final = declared(
    "AWSClassicELBAccessLogs_CL",
    "Requests to Classic Load Balancers, one row a request.",
    _CLASSIC,
    statistics=("ClientIp",),
)
CONNECTION_TABLE: Final = declared(
    "AWSALBConnectionLogs_CL",
    "Connections to Application Load Balancers, refused ones too, one row a connection.",
    _CONNECTION,
    statistics=("ClientIp",),
)
HEALTH_TABLE: Final = declared(
    "AWSALBHealthCheckLogs_CL",
    "Health checks that Application Load Balancers made of their targets, one row a check.",
    _HEALTH,
)
_ALB_FIELDS: Final = [name for name, _, _, place in _ALB if place]
_NLB_FIELDS: Final = [name for name, _, _, place in _NLB if place]
_ALB_LEAST: Final = _ALB_FIELDS.index("UserAgent") + 1
_NLB_LEAST: Final = _NLB_FIELDS.index("SentBytes") + 1
_ALB_ORDER: Final = (
    "TimeGenerated",
    *(name for name in _ALB_FIELDS if name != "TimeGenerated"),
    "ClientPort",
    "TargetPort",
)
_NLB_ORDER: Final = ("TimeGenerated", *(name for name in _NLB_FIELDS if name != "TimeGenerated"))
_CLIENT, _TARGET = _ALB_ORDER.index("ClientIp"), _ALB_ORDER.index("TargetIp")
_ISO: Final = rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d"


def parse_alb(line: str) -> Values | str:
    """The values of an Application Load Balancer's line; why it is none."""
    named = _named(line, _ALB_FIELDS, _ALB_LEAST)
    if isinstance(named, str):
        return named
    at, values, rest = named
    client, client_port = _endpoint(values[_CLIENT - 1])
    target, target_port = _endpoint(values[_TARGET - 1])
    values[_CLIENT - 1], values[_TARGET - 1] = client, target
    return (at, *values, client_port, target_port, rest)


def parse_nlb(line: str) -> Values | str:
    """The values of a Network Load Balancer's line; why it is none."""
    named = _named(line, _NLB_FIELDS, _NLB_LEAST)
    if isinstance(named, str):
        return named
    at, values, rest = named
    return (at, *values, rest)


def _named(line: str, names: list[str], least: int) -> tuple[int | None, list[str], str | None] | str:
    """The time of a line, its other values in the order of `names`, and what is left over as JSON."""
    found = fields_of(line)
    if found is None:
        return "a quote that is not closed"
    if len(found) < least:
        return f"{len(found)} fields, at least {least} are needed"
    more = found[len(names) :]
    values = found[: len(names)] + [""] * (len(names) - len(found))
    at = moment(values.pop(names.index("TimeGenerated")))
    return at, values, rest_of({"more": more}) if more else None


def _endpoint(text: str) -> tuple[str, str]:
    """Address and port; IPv6 may stand in brackets or not.

    >>> _endpoint("10.0.0.1:80"), _endpoint("[2001:db8::1]:80"), _endpoint("-")
    (('10.0.0.1', '80'), ('2001:db8::1', '80'), ('-', ''))
    """
    address, colon, port = text.rpartition(":")
    return (address.strip("[]"), port) if colon else (text, "")


ALB: Final = TextSource(
    "alb",
    ALB_TABLE,
    _ALB_ORDER,
    parse_alb,
    first=re.compile(rb"(?:https?|h2|grpcs|wss?) %s[.\d]*Z (?:app/|-)" % _ISO),
    what="load balancer line",
    probe=b"Enable AccessLog for ELB: ",
)
NLB: Final = TextSource(
    "nlb",
    NLB_TABLE,
    _NLB_ORDER,
    parse_nlb,
    first=re.compile(rb"tls \d+\.\d+ %s" % _ISO),
    what="load balancer line",
)


class _Lines:
    """Reads lines whose fields are those of a table, in its order; ends with a port fill two columns."""

    def __init__(self, lines: Sequence[Line], least: str) -> None:
        self._fields = [name for name, _, _, place in lines if place]
        self._least = self._fields.index(least) + 1
        others = [name for name in self._fields if name != "TimeGenerated"]
        self._ends = [others.index(name) for name, _, _, place in lines if place in ("client", "target")]
        ports = [name for name, _, _, place in lines if not place]
        self.columns = ("TimeGenerated", *others, *ports)

    def __call__(self, line: str) -> Values | str:
        named = _named(line, self._fields, self._least)
        if isinstance(named, str):
            return named
        at, values, rest = named
        ports: list[str] = []
        for place in self._ends:
            values[place], port = _endpoint(values[place])
            ports.append(port)
        return (at, *values, *ports, rest)


def _source(
    name: str, table: Table, lines: Sequence[Line], *, least: str, first: bytes, probe: bytes
) -> TextSource:
    parse = _Lines(lines, least)
    return TextSource(
        name,
        table,
        parse.columns,
        parse,
        first=re.compile(first),
        what="load balancer line",
        probe=b"Enable %s for ELB: " % probe,
    )


CLASSIC: Final = _source(
    "elb",
    CLASSIC_TABLE,
    _CLASSIC,
    least="RequestRaw",
    first=rb"%s\.\d{6}Z [A-Za-z0-9-]{1,32} \S{2,45}:\d{1,5} (?:\S{2,45}:\d{1,5}|-) -?\d" % _ISO,
    probe=b"AccessLog",
)
CONNECTION: Final = _source(
    "alb-connection",
    CONNECTION_TABLE,
    _CONNECTION,
    least="TlsVerifyStatus",
    first=rb"%s\.\d{1,6}Z [0-9A-Fa-f.:]{2,45} \d{1,5} \d{1,5} (?:TLS\S{1,10}|-) " % _ISO,
    probe=b"ConnectionLog",
)
HEALTH: Final = _source(
    "alb-health",
    HEALTH_TABLE,
    _HEALTH,
    least="Status",
    first=rb"[a-z0-9]{1,10} %s\.\d{1,6}Z (?:[\d.]+|-) \S{1,300} \S{1,300} (?:PASS|FAIL)\b" % _ISO,
    probe=b"HealthCheckLog",
)
