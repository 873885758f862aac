"""Labelled single events: do our rules for an idea fire where they should, and are they silent elsewhere?"""

from __future__ import annotations

import datetime as dt
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from trailhawk.detect.proof import trial
from trailhawk.detect.rule import Expectation, Rule, RuleTest
from trailhawk.detect.schedule import WindowState
from trailhawk.workspace import Workspace

LIST = Path(__file__).parent / "panther.yaml"
FOLDER = "panther_labelled"
FIRE_BAR, SILENT_BAR = 0.80, 0.90
NO_TIME = "2024-03-04T10:00:00Z"
"""When a record happened that does not say."""

Record = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Case:
    """One event, the rule idea it is for, and whether that idea is to fire. `place` tells it apart."""

    kind: str
    place: int
    idea: str
    title: str
    expected: bool
    log: Record


@dataclass(frozen=True, slots=True)
class Result:
    """Rules that fired, and those that could not run with their reason."""

    case: Case
    mapped: tuple[str, ...]
    fired: tuple[str, ...]
    failed: tuple[str, ...]

    @property
    def right(self) -> bool:
        return bool(self.fired) is self.case.expected and not (self.failed and not self.fired)


@dataclass(frozen=True, slots=True)
class Found:
    results: tuple[Result, ...]

    def _share(self, expected: bool, kind: str | None = None) -> tuple[int, int]:
        some = [r for r in self.results if r.case.expected is expected and kind in (None, r.case.kind)]
        return sum(result.right for result in some), len(some)

    @property
    def kept(self) -> bool:
        (fired, true), (silent, false) = self._share(True), self._share(False)
        return fired >= FIRE_BAR * true and silent >= SILENT_BAR * false

    def lines(self) -> Iterator[str]:
        fired, true = self._share(True)
        silent, false = self._share(False)
        yield f"{fired} of {true} that should fire do ({fired / true:.1%}; bar {FIRE_BAR:.0%})"
        yield f"{silent} of {false} that should not fire do not ({silent / false:.1%}; bar {SILENT_BAR:.0%})"
        for kind in dict.fromkeys(result.case.kind for result in self.results):
            (a, b), (c, d) = self._share(True, kind), self._share(False, kind)
            yield f"  {kind}: {a} of {b} fire, {c} of {d} are silent"
        for result in self.results:
            if not result.right:
                case = result.case
                wrong = "silent" if case.expected else f"fired: {', '.join(result.fired)}"
                if result.failed:
                    wrong = f"failed: {'; '.join(result.failed)}"
                elif not result.mapped:
                    wrong = "no rule stands for it"
                yield f"  {case.kind} {case.idea}: '{case.title}': {wrong}"

    def figures(self) -> dict[str, object]:
        fired, true = self._share(True)
        silent, false = self._share(False)
        return {
            "fire": [fired, true],
            "silent": [silent, false],
            "bars": [FIRE_BAR, SILENT_BAR],
            "kept": self.kept,
            "misses": [
                {
                    "kind": result.case.kind,
                    "idea": result.case.idea,
                    "case": result.case.title,
                    "expected": result.case.expected,
                    "rules": result.mapped,
                    "fired": result.fired,
                    "failed": result.failed,
                }
                for result in self.results
                if not result.right
            ],
        }


def measure(data: Path) -> Found | None:
    """How our rules do; None where the cases are missing."""
    folder = data / FOLDER
    if not folder.is_dir():
        return None
    mapping = yaml.safe_load(LIST.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as name:
        workspace = Workspace.open(Path(name))
        rules = {Path(rule.source).stem: rule for rule in workspace.content.rules()}
        tables = [table for table in map(workspace.lake.table, workspace.lake.table_names()) if table]
        results = []
        for case in _cases(folder):
            mapped = _mapped(mapping, case, rules)
            fired, failed = [], []
            for rule in mapped:
                run = trial(rule, _test(case), tables, workspace.engine.holding)
                if run.state is not WindowState.DONE:
                    failed.append(f"{Path(rule.source).stem}: {run.reason}")
                elif run.alerts:
                    fired.append(Path(rule.source).stem)
            results.append(
                Result(case, tuple(Path(r.source).stem for r in mapped), tuple(fired), tuple(failed))
            )
    return Found(tuple(results))


def _mapped(mapping: Mapping[str, object], case: Case, rules: Mapping[str, Rule]) -> Sequence[Rule]:
    names = mapping.get(case.idea, "none")
    if names == "none":
        return []
    assert isinstance(names, list)
    unknown = [name for name in names if name not in rules]
    if unknown:
        raise SystemExit(f"panther.yaml: {case.idea}: no rule file {', '.join(unknown)}")
    return [rules[name] for name in names]


def _cases(folder: Path) -> Iterator[Case]:
    for file in sorted(folder.glob("*.shared.jsonl")):
        kind = file.name.split(".")[0]
        for place, line in enumerate(file.read_text(encoding="utf-8").splitlines()):
            entry = json.loads(line)
            if not entry["needs_mocks"]:
                yield Case(kind, place, entry["rule_id"], entry["test_name"], entry["expected"], entry["log"])


# --- a case as the log that its source reads ---------------------------------------------------------------


def _test(case: Case) -> RuleTest:
    events: tuple[Record, ...] = ()
    logs: tuple[tuple[str, tuple[Record | str, ...]], ...] = ()
    if case.kind == "cloudtrail":
        events = (_record(case.log) | {"eventTime": _time(case)},)
    elif case.kind == "guardduty":
        logs = (("AWSGuardDuty", ({k: v for k, v in case.log.items() if not k.startswith("p_")},)),)
    elif case.kind == "vpcflow":
        logs = (("AWSVPCFlow", _flow(case.log)),)
    else:
        logs = (("AWSS3ServerAccess", (_access(case.log),)),)
    return RuleTest(case.title, Expectation(int(case.expected)), events, logs, at=_at(case))


_MEMBERS = {
    name.lower(): name
    for name in (
        "additionalEventData", "apiVersion", "awsRegion", "errorCode", "errorMessage", "eventCategory",
        "eventID", "eventName", "eventSource", "eventTime", "eventType", "eventVersion", "managementEvent",
        "readOnly", "recipientAccountId", "requestID", "requestParameters", "resources", "responseElements",
        "serviceEventDetails", "sharedEventID", "sourceIPAddress", "tlsDetails", "userAgent",
        "userIdentity", "vpcEndpointId",
    )
}  # fmt: skip
"""CloudTrail's members by how a warehouse writes them as columns."""


def _record(log: Record) -> dict[str, object]:
    """The CloudTrail record: its members spelled as CloudTrail does, the warehouse's own columns left out."""
    return {_MEMBERS.get(k.lower(), k): v for k, v in log.items() if not k.startswith("p_")}


def _at(case: Case) -> dt.datetime:
    """When the rules run: right after the event."""
    text = {
        "cloudtrail": _record(case.log).get("eventTime"),
        "guardduty": case.log.get("updatedAt"),
        "s3serveraccess": case.log.get("time"),
        "vpcflow": case.log.get("start"),
    }[case.kind]
    return _moment(text) + dt.timedelta(microseconds=1)


def _time(case: Case) -> str:
    return f"{_moment(_record(case.log).get('eventTime')):%Y-%m-%dT%H:%M:%SZ}"


def _moment(text: object) -> dt.datetime:
    """The time a record tells, or NO_TIME where it tells none or one that is blacked out."""
    try:
        moment = dt.datetime.fromisoformat(str(text))
    except ValueError:
        moment = dt.datetime.fromisoformat(NO_TIME)
    return moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)


_FLOW_FIELDS = {
    "version": "version", "account": "account-id", "interfaceId": "interface-id", "srcAddr": "srcaddr",
    "dstAddr": "dstaddr", "srcPort": "srcport", "dstPort": "dstport", "protocol": "protocol",
    "packets": "packets", "bytes": "bytes", "action": "action", "status": "log-status",
    "vpcId": "vpc-id", "subNetId": "subnet-id", "instanceId": "instance-id", "tcpFlags": "tcp-flags",
    "trafficType": "type", "pktSrcAddr": "pkt-srcaddr", "pktDstAddr": "pkt-dstaddr",
    "flowDirection": "flow-direction",
}  # fmt: skip


def _flow(log: Record) -> tuple[str, str]:
    """Header and line of a flow log in a format with the fields of the record."""
    start = int(_moment(log.get("start")).timestamp())
    fields = {_FLOW_FIELDS[name]: str(value) for name, value in log.items() if name in _FLOW_FIELDS}
    fields |= {"start": str(start), "end": str(start + 60)}
    return " ".join(fields), " ".join(fields.values())


def _access(log: Record) -> str:
    """The line of S3's access log: an object read with success where the case does not tell what was done."""
    read = {"operation": "REST.GET.OBJECT", "httpstatus": 200} if "operation" not in log else {}

    def word(name: str) -> str:
        return str(log.get(name, read.get(name, "-")))

    moment = _moment(log.get("time"))
    return " ".join(
        [
            word("bucketowner"), word("bucket"), f"[{moment:%d/%b/%Y:%H:%M:%S} +0000]", word("remoteip"),
            word("requester"), word("requestid"), word("operation"), word("key"), f'"{word("requesturi")}"',
            word("httpstatus"), word("errorcode"), word("bytessent"), word("objectsize"), word("totaltime"),
            word("turnaroundtime"), f'"{word("referrer")}"', f'"{word("useragent")}"', word("versionid"),
            word("hostid"), word("signatureversion"), word("ciphersuite"), word("authenticationtype"),
            word("hostheader"), word("tlsVersion"),
        ]
    )  # fmt: skip
