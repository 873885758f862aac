"""Recorded attacks against all rules: is each technique named by an alert that rests on its rows?"""

from __future__ import annotations

import datetime as dt
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from trailhawk.detect.alert import EVENT_IDS, Alert
from trailhawk.detect.rule import Severity
from trailhawk.workspace import Workspace

LIST = Path(__file__).parent / "techniques.yaml"
BAR = 0.95
NOW = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)
Record = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Technique:
    """One entry of the list. `calls` are service:name of the rows that are the attack, between `since` and
    `until` (UTC, bounds included), by a caller whose ARN holds `by`, where these are given."""

    technique: str
    data: str
    attack: tuple[str, ...]
    calls: tuple[str, ...]
    since: str = ""
    until: str = "~"
    by: str = ""
    failed: str = ""

    @property
    def set(self) -> str:
        """The data set: its recordings share a lake."""
        return self.data.split("/")[0]

    def is_row(self, record: Record) -> bool:
        source, identity = str(record["eventSource"]), record.get("userIdentity") or {}
        assert isinstance(identity, dict)
        return (
            f"{source.removesuffix('.amazonaws.com')}:{record['eventName']}" in self.calls
            and self.since <= str(record["eventTime"]) <= self.until
            and self.by in str(identity.get("arn", ""))
        )


@dataclass(frozen=True, slots=True)
class Result:
    technique: Technique
    rows: int
    alerts: tuple[str, ...]
    near: tuple[str, ...]

    @property
    def found(self) -> bool:
        return bool(self.alerts)


@dataclass(frozen=True, slots=True)
class Found:
    results: tuple[Result, ...]
    beside: tuple[tuple[str, Alert], ...]
    """Data set and alert, of Medium or more, that rests on no row of an attack."""
    medium: int

    @property
    def kept(self) -> bool:
        return sum(result.found for result in self.results) >= BAR * len(self.results)

    def lines(self) -> Iterator[str]:
        found = sum(result.found for result in self.results)
        count = len(self.results)
        yield f"{found} of {count} techniques found ({found / count:.0%}; bar {BAR:.0%})"
        for failed, title in ((False, "done"), (True, "failed in the recording")):
            some = [result for result in self.results if bool(result.technique.failed) is failed]
            yield f"  {title}: {sum(result.found for result in some)} of {len(some)}"
        for result in self.results:
            if not result.found:
                yield f"  missed: {result.technique.technique} ({result.technique.data}), {result.rows} rows"
                yield from (f"    {near}" for near in result.near)
        yield f"{len(self.beside)} of {self.medium} alerts of Medium or more rest on no row of an attack"
        for data, alert in self.beside:
            yield f"  {data}: [{alert.severity.value}] {alert.name} ({alert.rule_name})"

    def figures(self) -> dict[str, object]:
        return {
            "techniques": len(self.results),
            "found": sum(result.found for result in self.results),
            "bar": BAR,
            "kept": self.kept,
            "results": [
                {
                    "technique": result.technique.technique,
                    "data": result.technique.data,
                    "attack": result.technique.attack,
                    "failed": result.technique.failed,
                    "rows": result.rows,
                    "alerts": result.alerts,
                    "near": result.near,
                }
                for result in self.results
            ],
            "alerts_of_medium_or_more": self.medium,
            "on_no_attack_row": [
                {"data": data, "severity": alert.severity.value, "alert": alert.name, "rule": alert.rule_name}
                for data, alert in self.beside
            ],
        }


def listed() -> tuple[Technique, ...]:
    """The list, checked."""
    found = []
    for entry in yaml.safe_load(LIST.read_text(encoding="utf-8")):
        attack, rows = entry.pop("attack"), entry.pop("rows")
        calls = rows.pop("calls")
        found.append(Technique(**entry, **rows, attack=tuple(attack), calls=tuple(calls)))
    return tuple(found)


def measure(data: Path) -> Found | None:
    """What the rules find; None where a recording is missing."""
    wanted = listed()
    if not all((data / technique.data).exists() for technique in wanted):
        return None
    results, beside, medium = [], [], 0
    for name in dict.fromkeys(technique.set for technique in wanted):
        here = [technique for technique in wanted if technique.set == name]
        files = dict.fromkeys(technique.data for technique in here)
        records = {file: [*_records(data / file)] for file in files}
        found = _alerts([record for some in records.values() for record in some])
        alerts = [alert for alert in found if alert.severity.rank >= Severity.MEDIUM.rank]
        results += [_result(technique, records[technique.data], alerts) for technique in here]
        attack = {
            str(record["eventID"]) for each in here for record in records[each.data] if each.is_row(record)
        }
        beside += [(name, alert) for alert in alerts if not attack & set(alert.detail(EVENT_IDS))]
        medium += len(alerts)
    return Found(tuple(results), tuple(beside), medium)


def _records(path: Path) -> Iterator[Record]:
    """The records of a file of JSON lines, or of a folder of CloudTrail's files, user agents blanked."""
    if path.is_file():
        found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    else:
        files = sorted((path / "CloudTrail").glob("*.json"))
        found = [
            record for file in files for record in json.loads(file.read_text(encoding="utf-8"))["Records"]
        ]
    for record in found:
        yield {**record, "userAgent": "-"} if "userAgent" in record else record


def _alerts(records: Sequence[Record]) -> tuple[Alert, ...]:
    """What all rules raise over these records, in a home of their own."""
    with tempfile.TemporaryDirectory() as name:
        logs = Path(name) / "cloudtrail.json"
        logs.write_text(json.dumps({"Records": records}), encoding="utf-8")
        workspace = Workspace.open(Path(name) / "home", clock=lambda: NOW)
        workspace.ingest([logs])
        workspace.detect(workspace.content.rules())
        return workspace.alerts.alerts()


def _result(technique: Technique, records: Sequence[Record], alerts: Sequence[Alert]) -> Result:
    rows = {str(record["eventID"]) for record in records if technique.is_row(record)}
    if not rows:
        raise SystemExit(f"techniques.yaml: no row of {technique.technique} in {technique.data}")
    resting = [alert for alert in alerts if rows & set(alert.detail(EVENT_IDS))]
    naming = [alert for alert in resting if _names(alert, technique)]
    return Result(
        technique,
        len(rows),
        tuple(f"[{alert.severity.value}] {alert.name}" for alert in naming),
        tuple(f"[{alert.severity.value}] {alert.name}: {', '.join(alert.techniques)}" for alert in resting),
    )


def _names(alert: Alert, technique: Technique) -> bool:
    """Whether the alert has one of the technique's ids, or the parent of one."""
    wanted = {*technique.attack, *(each.split(".")[0] for each in technique.attack)}
    return bool(wanted & set(alert.techniques))
