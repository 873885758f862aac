"""The four other kinds of log together: what the simulation hands to each, and when they are written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..benign.day import day_of
from ..record import Json, Record
from ..techniques.attack import Attack
from ..text import iso
from ..world import DAY, World
from .access import LOGGED, AccessLog
from .files import Bucket, Tally
from .findings import FindingLog, ordinary_findings
from .flow import Flow, FlowLog
from .proxy import METADATA, ProxyLog, ordinary_requests

DEFAULT_FLOWS_PER_DAY = 1_200
LEAST_FLOWS_PER_DAY = 20
_REQUESTS, _REFUSED = 0.25, 0.5
"""Shares: a web request makes two flow records, a refused attempt one."""


@dataclass(frozen=True)
class Totals:
    """What was written of each kind."""

    flow: Tally
    access: Tally
    findings: Tally
    proxy: Tally

    @property
    def files(self) -> int:
        return sum(tally.files for tally in (self.flow, self.access, self.findings, self.proxy))

    @property
    def records(self) -> int:
        return sum(tally.records for tally in (self.flow, self.access, self.findings, self.proxy))

    @property
    def bytes(self) -> int:
        return sum(tally.bytes for tally in (self.flow, self.access, self.findings, self.proxy))


class OtherLogs:
    """Writes the other logs under `folder`: hand over each CloudTrail record, then end each day.

    `flows_per_day` is about how many flow records there are besides those of the calls to AWS.
    """

    def __init__(self, world: World, folder: Path, *, flows_per_day: int) -> None:
        self._world = world
        self._flows_per_day = flows_per_day
        self._flow = FlowLog(world, Bucket(folder))
        self._access = AccessLog(world, Bucket(folder))
        self._findings = FindingLog(world, Bucket(folder))
        self._proxy = ProxyLog(world, Bucket(folder))
        self._attack_flows: list[Flow] = []

    @property
    def totals(self) -> Totals:
        logs = (self._flow, self._access, self._findings, self._proxy)
        return Totals(*(log.bucket.tally for log in logs))

    def add(self, record: Record) -> None:
        """What this call leaves in the other logs."""
        self._flow.add(record)
        self._access.add(record)

    def add_attack(self, attack: Attack) -> None:
        """What an attack leaves besides its CloudTrail records, which come through `add`."""
        for request in attack.requests:
            self._proxy.add(request)
            self._attack_flows += self._flow.add_request(request)
        for finding in attack.findings:
            self._findings.add(finding)

    def end_day(self, number: int) -> None:
        """Add the ordinary web traffic of day `number` (from 1) and write the day."""
        world, day = self._world, day_of(self._world, number)
        count = round(self._flows_per_day * _REQUESTS)
        requests = list(ordinary_requests(world, day, world.rng("web-requests", number), count))
        for request in requests:
            self._proxy.add(request)
            self._flow.add_request(request)
        self._flow.add_refused(day, world.rng("refused", number), round(self._flows_per_day * _REFUSED))
        for finding in ordinary_findings(world, day, world.rng("ordinary-findings", number), requests):
            self._findings.add(finding)
        # A burst of calls may run over midnight, and the last day is written whole.
        until = day.end + DAY if number == world.days else day.end
        self._flow.flush(until)
        self._access.flush()
        self._findings.flush()
        self._proxy.flush(day.end)

    def truth(self, attack: Attack) -> Json:
        """What was written, and which of it the attack left."""
        totals = self.totals
        buckets = {self._world.buckets[name].name for name in LOGGED}
        return {
            "vpc_flow": {
                **_counts(totals.flow),
                "attack": [
                    {
                        "start": iso(flow.start),
                        "interface": flow.interface,
                        "source": flow.source,
                        "target": flow.target,
                        "source_port": flow.source_port,
                        "target_port": flow.target_port,
                        "bytes": flow.bytes,
                    }
                    for flow in self._attack_flows
                ],
            },
            "s3_access": {
                **_counts(totals.access),
                "buckets": sorted(buckets),
                "attack_request_ids": [
                    record.body["requestID"] for record in attack.records if _bucket_of(record) in buckets
                ],
            },
            "guardduty": {
                **_counts(totals.findings),
                "attack_ids": sorted({str(finding.body["id"]) for finding in attack.findings}),
            },
            "proxy": {
                **_counts(totals.proxy),
                "attack": [
                    {"time": iso(each.at), "client": each.client, "host": each.host, "path": each.path}
                    for each in attack.requests
                ],
                "metadata_requests": sum(each.host == METADATA for each in attack.requests),
            },
        }


def _counts(tally: Tally) -> Json:
    return {"files": tally.files, "records": tally.records}


def _bucket_of(record: Record) -> object:
    request = record.body["requestParameters"]
    return request.get("bucketName") if isinstance(request, dict) else None
