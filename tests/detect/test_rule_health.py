"""What SentinelHealth says of rules: a row of each run of the schedule."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from trailhawk.connectors.sentinel_health import SENTINEL_HEALTH, append, latest
from trailhawk.detect.rule import Aggregation, Rule, RuleKind, Severity
from trailhawk.detect.rule_health import of_round
from trailhawk.detect.run import Run
from trailhawk.detect.schedule import LEARNING, Window, WindowState
from trailhawk.detect.scheduler import Round
from trailhawk.lake import Lake
from trailhawk.workspace import Workspace

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)
RULE = Rule(
    id="stop",
    name="Stopped",
    query="AWSCloudTrail",
    kind=RuleKind.SCHEDULED,
    severity=Severity.HIGH,
    frequency=HOUR,
    period=14 * 24 * HOUR,
    aggregation=Aggregation.PER_RESULT,
)


def ran(state: WindowState, reason: str = "", **members: object) -> Run:
    window = Window("stop", NOW - HOUR / 2, NOW - 14 * 24 * HOUR, NOW - HOUR)
    run = Run(window, state, reason, began=NOW, seconds=0.25)
    return dataclasses.replace(run, **members)  # type: ignore[arg-type]


def test_a_run_has_sentinels_words() -> None:
    (record,) = of_round(Round(runs=(ran(WindowState.DONE, rows=3),)), [RULE])
    assert (record.operation, record.status, record.reason) == ("Scheduled analytics rule run", "Success", "")
    assert (record.id, record.name, record.type, record.kind) == (
        "stop",
        "Stopped",
        "Analytics rule",
        "Scheduled",
    )
    said = record.properties
    assert said["QueryResultAmount"] == 3
    assert (said["QueryFrequency"], said["QueryPeriod"]) == ("01:00:00", "14.00:00:00")
    assert said["QueryStartTimeUTC"] == "2026-03-02T09:30:00.000Z"
    assert said["QueryEndTimeUTC"] == "2026-03-02T09:30:00.250Z"
    assert said["WindowEndUTC"] == "2026-03-02T09:00:00.000Z"
    assert (said["TriggerType"], said["TriggerOperator"]) == ("Scheduled", "GreaterThan")


def test_how_runs_end() -> None:
    nrt = dataclasses.replace(RULE, kind=RuleKind.NRT)
    failed = ran(WindowState.FAILED, "binding: no column EventNam", is_permanent=True)
    later = ran(WindowState.FAILED, "limit: the query ran longer than 600 s")
    (one,) = of_round(Round(runs=(failed,), disabled=(nrt,)), [nrt])
    assert (one.operation, one.status, one.reason) == ("NRT analytics rule run", "Failure", "binding")
    assert one.description == "binding: no column EventNam; the rule is disabled"
    (one,) = of_round(Round(postponed=(later,)), [RULE])
    assert (one.status, one.reason) == ("Failure", "limit")
    (one,) = of_round(Round(runs=(ran(WindowState.DONE, rows=151),)), [RULE])
    assert (one.status, one.reason) == ("Partial success", "alerts summed up")
    (one,) = of_round(Round(runs=(ran(WindowState.SKIPPED, "externaldata of example.com"),)), [RULE])
    assert (one.status, one.description) == ("Partial success", "externaldata of example.com")
    # Learning and suppression are no runs.
    assert of_round(Round(runs=(ran(WindowState.SKIPPED, LEARNING, began=None),)), [RULE]) == []


def test_rows_of_rules_are_no_connectors_and_cost_little(tmp_path: Path) -> None:
    lake = Lake(tmp_path, [SENTINEL_HEALTH])
    runs = tuple(
        ran(WindowState.DONE, window=Window("stop", NOW + n * HOUR, NOW, NOW + (n - 1) * HOUR))
        for n in range(2_000)
    )
    records = of_round(Round(runs=runs), [RULE])
    append(lake.apart(), records, now=NOW)
    append(lake.apart(), [], now=NOW)
    snapshot = lake.snapshot(SENTINEL_HEALTH.name)
    assert (snapshot.rows, snapshot.version) == (2_000, 1)
    assert sum(file.size for file in snapshot.files()) < 100 * snapshot.rows
    assert latest(lake) == {}


def test_a_round_tells_of_its_runs_in_one_commit(tmp_path: Path) -> None:
    now = NOW
    home = tmp_path / "home"
    (home / "rules").mkdir(parents=True)
    for name, query in (("good", "AWSCloudTrail | take 1"), ("bad", "AWSCloudTrail | where Nam == 1")):
        (home / "rules" / f"{name}.yaml").write_text(
            f"id: {name}\nname: Own {name}\nkind: Scheduled\nseverity: Low\nqueryFrequency: 1h\n"
            f"queryPeriod: 1h\nquery: {query}\n"
        )
    workspace = Workspace.open(home, clock=lambda: now)
    own = tuple(rule for rule in workspace.content.rules() if rule.name.startswith("Own"))
    workspace.content.rules = lambda *_, **__: own  # type: ignore[method-assign]
    done = workspace.run_due_rules(fault=lambda _: None)
    assert len(done.runs) == 2
    assert workspace.lake.snapshot("SentinelHealth").version == 1
    rows = workspace.query(
        "SentinelHealth | where SentinelResourceType == 'Analytics rule' | sort by SentinelResourceName asc"
        " | project SentinelResourceName, Status, Reason, Properties = tostring(ExtendedProperties)",
        now=now,
    ).rows()
    assert [(row["SentinelResourceName"], row["Status"], row["Reason"]) for row in rows] == [
        ("Own bad", "Failure", "binding"),
        ("Own good", "Success", ""),
    ]
    assert json.loads(str(rows[1]["Properties"]))["RuleId"] == "good"
    # A round without a window that is due writes nothing.
    workspace.run_due_rules(fault=lambda _: None)
    assert workspace.lake.snapshot("SentinelHealth").version == 1
