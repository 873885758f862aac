"""VPC flow records of the instances: calls to AWS that CloudTrail has, web requests, and what is refused.

Version 2 with its header line, an hour to a file. A window of ten minutes makes one record of each
connection and direction. Traffic to the metadata service is in no flow log.
https://docs.aws.amazon.com/vpc/latest/userguide/flow-log-records.html
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple, cast

from ..benign.day import Day, spread
from ..record import Record
from ..text import hex_id
from ..world import HOUR, MINUTE, PRODUCTION, WAF, Instance, World
from .files import Bucket, stamp
from .proxy import WebRequest

HEADER = (
    "version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end action "
    "log-status"
)
WINDOW = 10 * MINUTE
TCP = 6
ENDPOINTS = {
    "s3": "192.0.2.80",
    "dynamodb": "192.0.2.81",
    "sqs": "192.0.2.82",
    "kms": "192.0.2.83",
    "secretsmanager": "192.0.2.84",
    "ssm": "192.0.2.85",
    "sts": "192.0.2.86",
}
"""Where the services answer, in an address range for documentation."""
_OTHER_ENDPOINT = "192.0.2.89"
_REFUSED_PORTS = (22, 23, 445, 3389, 5900, 6379, 8080, 9200)
_SEGMENT = 1_400


class Flow(NamedTuple):
    """One flow record: a connection in one direction within one window."""

    start: int
    end: int
    account: str
    interface: str
    source: str
    target: str
    source_port: int
    target_port: int
    packets: int
    bytes: int
    action: str = "ACCEPT"

    @property
    def line(self) -> str:
        return (
            f"2 {self.account} {self.interface} {self.source} {self.target} {self.source_port} "
            f"{self.target_port} {TCP} {self.packets} {self.bytes} {self.start} {self.end} {self.action} OK"
        )


@dataclass
class _Connection:
    """Calls of an instance to one service within a window."""

    start: int
    end: int
    out_bytes: int = 0
    in_bytes: int = 0


@dataclass
class FlowLog:
    """Takes CloudTrail records and web requests in any order; `flush` writes the hours of a day."""

    world: World
    bucket: Bucket
    _instances: dict[str, Instance] = field(default_factory=dict)
    _connections: dict[tuple[str, str, int], _Connection] = field(default_factory=dict)
    _waiting: dict[tuple[str, int], list[Flow]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        members = self.world.everything_running()
        self._instances = {member.id: member for member in members if member.account == PRODUCTION}

    def add(self, record: Record) -> None:
        """Count a call that an instance makes from its own address; any other leaves no flow here."""
        instance = self._caller(record)
        if instance is None:
            return
        service = str(record.body["eventSource"]).partition(".")[0]
        endpoint = ENDPOINTS.get(service, _OTHER_ENDPOINT)
        connection = self._connections.setdefault(
            (instance.id, endpoint, record.at // WINDOW), _Connection(record.at, record.at + 1)
        )
        extra = cast("Mapping[str, object]", record.body.get("additionalEventData") or {})
        connection.start = min(connection.start, record.at)
        connection.end = max(connection.end, record.at + 1)
        connection.out_bytes += 1_900 + _number(extra.get("bytesTransferredIn"))
        connection.in_bytes += 1_300 + _number(extra.get("bytesTransferredOut"))

    def add_request(self, request: WebRequest) -> tuple[Flow, Flow]:
        """The two flows of a web request to the proxy, which are queued too."""
        server = self.world.instances[WAF]
        pair = _request_flows(server, request)
        self._waiting[server.region, request.at // HOUR].extend(pair)
        return pair

    def add_refused(self, day: Day, rng: Random, count: int) -> None:
        """Attempts from the internet that a security group turns away."""
        members = sorted(self._instances.values(), key=lambda member: member.name)
        for at in spread(rng, day, count):
            instance = rng.choice(members)
            if not instance.runs(at):
                continue
            self._queue(
                instance,
                Flow(
                    at,
                    at + rng.randint(1, 50),
                    instance.account,
                    instance.interface,
                    f"203.0.113.{rng.randint(2, 60)}",
                    instance.private,
                    rng.randint(1025, 65_000),
                    rng.choice(_REFUSED_PORTS),
                    1,
                    44,
                    "REJECT",
                ),
            )

    def flush(self, until: int) -> None:
        """Write every whole hour before `until`."""
        self._close_connections(until)
        for region, hour in sorted(self._waiting):
            if hour * HOUR < until:
                self._write(region, hour, self._waiting.pop((region, hour)))

    def _queue(self, instance: Instance, flow: Flow) -> None:
        self._waiting[instance.region, flow.start // HOUR].append(flow)

    def _caller(self, record: Record) -> Instance | None:
        """The instance that made a call from where it stands: a stolen key's call is not its own."""
        identity = cast("Mapping[str, object]", record.body["userIdentity"])
        instance = self._instances.get(str(identity.get("principalId", "")).rpartition(":")[2])
        if instance is None:
            return None
        here = (instance.private, instance.address(record.at))
        return instance if record.body["sourceIPAddress"] in here else None

    def _close_connections(self, until: int) -> None:
        for key in [key for key in self._connections if key[2] * WINDOW < until]:
            instance_id, endpoint, window = key
            instance, connection = self._instances[instance_id], self._connections.pop(key)
            port = self.world.rng("port", *key).randint(32_768, 60_999)
            end = min(connection.end, (window + 1) * WINDOW)
            common = (connection.start, end, instance.account, instance.interface)
            private = instance.private
            self._queue(
                instance,
                Flow(*common, private, endpoint, port, 443, *_packets(connection.out_bytes)),
            )
            self._queue(
                instance,
                Flow(*common, endpoint, private, 443, port, *_packets(connection.in_bytes)),
            )

    def _write(self, region: str, hour: int, flows: list[Flow]) -> None:
        end = (hour + 1) * HOUR
        lines = [flow.line for flow in sorted(flows)] + list(self._silent(region, hour, flows))
        rng = self.world.rng("flow-file", region, hour)
        name = f"{PRODUCTION}_vpcflowlogs_{region}_{self._flow_log_id(region)}_{stamp('%Y%m%dT%H%MZ', end)}"
        key = (
            f"AWSLogs/{PRODUCTION}/vpcflowlogs/{region}/{stamp('%Y/%m/%d', hour * HOUR)}/"
            f"{name}_{hex_id(rng, 8)}.log.gz"
        )
        self.bucket.put(key, lines, header=HEADER)

    def _silent(self, region: str, hour: int, flows: list[Flow]) -> Iterator[str]:
        """A NODATA record for each interface that saw nothing in the hour."""
        heard = {flow.interface for flow in flows}
        for instance in sorted(self._instances.values(), key=lambda member: member.name):
            alive = instance.born <= hour * HOUR < instance.gone
            if instance.region == region and alive and instance.interface not in heard:
                span = f"{hour * HOUR} {(hour + 1) * HOUR - 1}"
                yield f"2 {instance.account} {instance.interface} - - - - - - - {span} - NODATA"

    def _flow_log_id(self, region: str) -> str:
        return "fl-" + hex_id(self.world.rng("flow-log", region), 17)


def _request_flows(server: Instance, request: WebRequest) -> tuple[Flow, Flow]:
    port = 80 if request.host != "banking.example.com" else 443
    end = request.at + 1 + request.milliseconds // 1000
    asked = 5, 420 + len(request.path) + len(request.agent) + len(request.host)
    common = (request.at, end, server.account, server.interface)
    return (
        Flow(*common, request.client, server.private, request.port, port, *asked),
        Flow(*common, server.private, request.client, port, request.port, *_packets(request.size + 320)),
    )


def _packets(payload: int) -> tuple[int, int]:
    """Packets of so many bytes of payload, and all bytes with 52 of headers each."""
    packets = 4 + payload // _SEGMENT
    return packets, payload + 52 * packets


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0
