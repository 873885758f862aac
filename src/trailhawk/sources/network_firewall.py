"""AWS Network Firewall's alert, flow and TLS logs as Sentinel's three tables of them.

Format: https://docs.aws.amazon.com/network-firewall/latest/developerguide/firewall-logging-contents.html
"""

from __future__ import annotations

from typing import Final

from trailhawk.kql.types import KqlType
from trailhawk.sources.columns import Line, declared
from trailhawk.sources.json_rows import Field, JsonRows, JsonSource, paths, shape

_TEXT, _TIME, _BOOL = KqlType.STRING, KqlType.DATETIME, KqlType.BOOL

_ENDS: Final[tuple[Line, ...]] = (
    ("AvailabilityZone", _TEXT, "Zone of the firewall's endpoint.", "availability_zone"),
    ("DestIp", _TEXT, "Destination address.", "event.dest_ip"),
    ("DestPort", _TEXT, "Destination port.", "event.dest_port"),
    ("FirewallName", _TEXT, "Name of the firewall.", "firewall_name"),
    ("SrcIp", _TEXT, "Source address.", "event.src_ip"),
    ("SrcPort", _TEXT, "Source port.", "event.src_port"),
)
_TIMES: Final[tuple[Line, ...]] = (
    ("TimeGenerated", _TIME, "When the firewall wrote the record, UTC.", "event.timestamp|event_timestamp"),
)
_EVENT: Final[tuple[Line, ...]] = (
    ("AppProto", _TEXT, "Application protocol.", "event.app_proto"),
    ("EventType", _TEXT, "Kind of the event.", "event.event_type"),
    ("FlowId", _TEXT, "Id of the flow.", "event.flow_id"),
    ("Proto", _TEXT, "Transport protocol.", "event.proto"),
    ("Timestamp", _TIME, "When the packet was seen.", "event.timestamp"),
)
_ALERT: Final[tuple[Line, ...]] = (
    *_TIMES,
    ("AlertAction", _TEXT, "What the rule did.", "event.alert.action"),
    ("Category", _TEXT, "Category of the rule.", "event.alert.category"),
    ("Direction", _TEXT, "Direction of the traffic.", "event.direction"),
    ("EventTimestamp", _TIME, "Time of the event, in whole seconds.", "event_timestamp"),
    ("PktSrc", _TEXT, "Where the packet came from.", "event.pkt_src"),
    ("Rev", _TEXT, "Revision of the rule.", "event.alert.rev"),
    ("Severity", _TEXT, "Severity of the rule.", "event.alert.severity"),
    ("Signature", _TEXT, "Message of the rule.", "event.alert.signature"),
    ("SignatureId", _TEXT, "Id of the rule.", "event.alert.signature_id"),
    ("Sni", _TEXT, "Server name of the TLS hello.", "event.tls.sni|event.sni"),
    ("TxId", _TEXT, "Id of the transaction in the flow.", "event.tx_id"),
    ("VerdictAction", _TEXT, "What became of the packet.", "event.verdict.action"),
    ("Version", _TEXT, "TLS version.", "event.tls.version"),
    *_EVENT,
    *_ENDS,
)
_FLOW: Final[tuple[Line, ...]] = (
    *_TIMES,
    ("Ack", _BOOL, "TCP flag ACK.", "event.tcp.ack"),
    ("Ecn", _BOOL, "TCP flag ECN.", "event.tcp.ecn"),
    ("EventTimestamp", _TEXT, "Time of the event, in seconds since 1970.", "event_timestamp"),
    ("Fin", _BOOL, "TCP flag FIN.", "event.tcp.fin"),
    ("NetFlowAge", _TEXT, "Seconds that the flow lasted.", "event.netflow.age"),
    ("NetFlowBytes", _TEXT, "Bytes of the flow.", "event.netflow.bytes"),
    ("NetFlowEnd", _TIME, "End of the flow.", "event.netflow.end"),
    ("NetFlowMaxttl", _TEXT, "Largest TTL seen.", "event.netflow.max_ttl"),
    ("NetFlowMinttl", _TEXT, "Smallest TTL seen.", "event.netflow.min_ttl"),
    ("NetFlowPkts", _TEXT, "Packets of the flow.", "event.netflow.pkts"),
    ("NetFlowStart", _TIME, "Start of the flow.", "event.netflow.start"),
    ("Psh", _BOOL, "TCP flag PSH.", "event.tcp.psh"),
    ("Rst", _BOOL, "TCP flag RST.", "event.tcp.rst"),
    ("Syn", _BOOL, "TCP flag SYN.", "event.tcp.syn"),
    ("TCPFlags", _TEXT, "TCP flags seen, hexadecimal.", "event.tcp.tcp_flags"),
    *_EVENT,
    *_ENDS,
)
_TLS: Final[tuple[Line, ...]] = (
    *_TIMES,
    ("Action", _TEXT, "What the firewall did.", "event.verdict.action|event.revocation_check.action"),
    ("ErrorMessage", _TEXT, "What went wrong in the inspection.", "event.tls_error.error_message"),
    ("EventTimestamp", _TIME, "Time of the event, in whole seconds.", "event_timestamp"),
    (
        "LeafCertificateFingerprint",
        _TEXT,
        "Fingerprint of the leaf certificate.",
        "event.revocation_check.leaf_cert_fpr",
    ),
    ("Sni", _TEXT, "Server name of the TLS hello.", "event.sni|event.tls.sni"),
    ("Status", _TEXT, "Outcome of the revocation check.", "event.revocation_check.status"),
    *_ENDS,
)


def _source(name: str, table: str, meaning: str, lines: tuple[Line, ...], mark: str) -> JsonSource:
    described = declared(table, meaning, lines, statistics=("SrcIp", "DestIp"))
    fields = [Field(column, kind, paths(place)) for column, kind, _, place in lines]
    return JsonSource(
        name,
        described,
        JsonRows(described, fields, what="Network Firewall record"),
        framing=shape(starts="firewall_name"),
        marks=(r'"firewall_name"\s*:', r'"event_timestamp"\s*:', mark),
    )


NETWORK_FIREWALL: Final = (
    _source(
        "networkfirewall-flow",
        "AWSNetworkFirewallFlow",
        "Flows that passed a Network Firewall, one row a direction.",
        _FLOW,
        r'"event_type"\s*:\s*"(?:netflow|flow)"',
    ),
    _source(
        "networkfirewall-tls",
        "AWSNetworkFirewallTls",
        "TLS inspections of a Network Firewall.",
        _TLS,
        r'"tls_error"\s*:|"revocation_check"\s*:',
    ),
    _source(
        "networkfirewall-alert",
        "AWSNetworkFirewallAlert",
        "Packets on which a rule of a Network Firewall acted.",
        _ALERT,
        r'"event"\s*:',
    ),
)
