"""Rules of a home run by the schedule: from a log file to alert, incident and the table SecurityAlert."""

from __future__ import annotations

import json
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from support.lakes import damaged
from trailhawk.detect.rule import Rule
from trailhawk.detect.scheduler import Round
from trailhawk.errors import LakeError, RuleError, raised
from trailhawk.incidents.moments import MomentKind
from trailhawk.lake import LogError
from trailhawk.workspace import Workspace
from trailhawk.workspace.content import Content

START = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
RULE = """
id: 6d0d2f0e-0000-4000-8000-000000000001
name: A hand is waved
kind: Scheduled
severity: High
queryFrequency: 1h
queryPeriod: 1h
query: AwsCalls | where EventName == "WaveHand" | project TimeGenerated, Principal, EventIds = EventId
entityMappings:
  - entityType: AwsPrincipal
    fieldMappings: [{identifier: Arn, columnName: Principal}]
customDetails: {EventIds: EventIds}
"""
WAVES = {"6d0d2f0e-0000-4000-8000-000000000001"}
FLOWS = {"6d0d2f0e-0000-4000-8000-000000000002"}
ISSUED = """
id: 6d0d2f0e-0000-4000-8000-000000000002
name: A flow of somebody's key
kind: Scheduled
severity: High
queryFrequency: 1h
queryPeriod: 1h
query: AWSVPCFlow | project TimeGenerated, Key = 'AKIAEXAMPLE'
entityMappings:
  - entityType: AwsAccessKey
    fieldMappings: [{identifier: Id, columnName: Key}]
"""
KEYED = """  - entityType: AwsAccessKey
    fieldMappings: [{identifier: Id, columnName: Key}]
"""
OWN = WAVES | FLOWS


def log_in(folder: Path) -> Path:
    """A log of one event, over which the rule alerts."""
    record = {
        "eventVersion": "1.11",
        "eventID": "0a4b3c2d-0000-4000-8000-000000000001",
        "eventTime": "2026-03-02T09:45:00Z",
        "eventSource": "example.amazonaws.com",
        "eventName": "WaveHand",
        "recipientAccountId": "111122223333",
        "userIdentity": {"type": "IAMUser", "arn": "arn:aws:iam::111122223333:user/ana"},
    }
    log = folder / "log.json"
    log.write_text(json.dumps({"Records": [record]}))
    return log


def flow_in(folder: Path, at: int = 1772444700) -> Path:
    """A flow log of one flow, of 9:45 unless told."""
    flow = folder / "flow.log"
    flow.write_text(
        "version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end "
        "action log-status\n"
        f"2 111122223333 eni-1 203.0.113.66 10.0.0.5 50000 22 6 10 8400 {at} {at + 60} ACCEPT OK\n"
    )
    return flow


@pytest.fixture
def only_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the rules of the package, whose windows take long to run."""
    rules = Content.rules

    def own(self: Content, *given: Any, **named: Any) -> tuple[Rule, ...]:
        return tuple(rule for rule in rules(self, *given, **named) if rule.id in OWN)

    monkeypatch.setattr(Content, "rules", own)


def test_the_schedule_raises_an_incident_once(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    now = START + timedelta(minutes=25)
    home = tmp_path / "home"
    (home / "rules").mkdir(parents=True)
    (home / "rules" / "stop.yaml").write_text(RULE)
    (home / "rules" / "broken.yaml").write_text("id: [")
    workspace = Workspace.open(home, clock=lambda: now)
    workspace.ingest([log_in(tmp_path)], lambda _: None)
    told: list[RuleError] = []

    def due() -> Round:
        return workspace.run_due_rules(fault=told.append)

    assert due().alerts == ()
    request.getfixturevalue("only_own")  # all those of the package have run now
    now += timedelta(minutes=10)
    (alert,) = due().alerts
    assert (alert.name, alert.at) == ("A hand is waved", datetime(2026, 3, 2, 10, tzinfo=UTC))
    assert [error.message.split(":")[0] for error in told] == ["broken.yaml"] * 2
    (incident,) = workspace.incidents.all()
    assert incident.severity.value == "High"
    now += timedelta(minutes=1)
    assert due().alerts == ()
    assert workspace.query("SecurityAlert | count", now=now).rows() == [{"Count": 1}]


@pytest.mark.usefixtures("only_own")
def test_a_table_whose_log_is_damaged_stops_no_rule_that_does_not_read_it(tmp_path: Path) -> None:
    """Nor the care for other tables; health says which it is, and a rule that reads it waits."""
    now = START
    home = tmp_path / "home"
    (home / "rules").mkdir(parents=True)
    (home / "rules" / "stop.yaml").write_text(RULE)
    flows = RULE.replace("0001\n", "0002\n").replace(RULE.split("query: ")[1], "AWSVPCFlow\n")
    (home / "rules" / "flows.yaml").write_text(flows)
    (home / "trailhawk.toml").write_text("[lake]\nretention_days = 1\n")
    workspace = Workspace.open(home, clock=lambda: now)
    workspace.ingest([log_in(tmp_path)], lambda _: None)
    assert [each["kind"] for each in workspace.health()] == ["Stream"]
    log = home / "lake" / "AWSVPCFlow" / "_delta_log" / f"{0:020}.json"
    log.parent.mkdir(parents=True)
    log.write_text("damaged")
    assert workspace.run_due_rules(fault=raised).alerts == ()
    now = START + timedelta(hours=1)
    done = workspace.run_due_rules(fault=raised)
    assert [alert.name for alert in done.alerts] == ["A hand is waved"]
    (waits,) = (each for each in done.postponed if each.window.rule_id.endswith("0002"))
    assert "log of table AWSVPCFlow cannot be read" in waits.reason
    told: list[LakeError] = []
    done_for = workspace.caretaker.compact(told=told.append)
    assert "AWSVPCFlow" not in done_for
    assert "AWSCloudTrail" in done_for
    now += timedelta(days=9)
    gone = workspace.caretaker.forget(now=workspace.caretaker.believed(), told=told.append)
    assert [each.rows for each in gone if each.table == "AWSCloudTrail"] == [1]
    assert [str(log.parent) in each.hint for each in told] == [True, True]
    (ill,) = (each for each in workspace.health() if each["kind"] == "Table")
    assert (ill["name"], ill["state"]) == ("AWSVPCFlow", "unreadable")
    with pytest.raises(LogError, match="AWSVPCFlow"):
        workspace.caretaker.vacuum()


@pytest.mark.usefixtures("only_own")
@pytest.mark.parametrize("table", ["AWSCloudTrail", "IngestLedger"])
def test_a_rule_with_many_windows_due_over_a_damaged_log_stops_no_other(tmp_path: Path, table: str) -> None:
    """A rule that waits collects them; and alerts with keys are there, whose origin is looked for now and
    then. A damaged ledger stops no rule at all, and health names both."""
    now = START
    home = tmp_path / "home"
    (home / "rules").mkdir(parents=True)
    keyed = RULE.replace("EventIds = EventId", "EventIds = EventId, Key = 'AKIAEXAMPLE'")
    keyed = keyed.replace("customDetails", KEYED + "customDetails").replace("cy: 1h", "cy: 30m")
    (home / "rules" / "stop.yaml").write_text(keyed)
    flows = RULE.replace("0001\n", "0002\n").replace(RULE.split("query: ")[1], "AWSVPCFlow | take 1\n")
    (home / "rules" / "flows.yaml").write_text(flows)
    workspace = Workspace.open(home, clock=lambda: now)
    workspace.ingest([log_in(tmp_path), flow_in(tmp_path, 1772457300)], lambda _: None)
    assert workspace.run_due_rules(fault=raised).alerts == ()
    now = START + timedelta(hours=1)
    assert len(workspace.run_due_rules(fault=raised).alerts) == 1
    now = START + timedelta(hours=5.5)
    with damaged(home, table):
        done = Workspace.open(home, clock=lambda: now).run_due_rules(fault=raised)
        waits, ran = ({each.window.rule_id for each in some} & OWN for some in (done.postponed, done.runs))
        assert (waits, ran) == ((WAVES, FLOWS) if table == "AWSCloudTrail" else (set(), OWN))
        told = Workspace.open(home, clock=lambda: now).health()
        assert [each["name"] for each in told if each["kind"] == "Table"] == [table]


@pytest.mark.usefixtures("only_own")
@pytest.mark.parametrize("table", ["SecurityAlert", "SecurityIncident", "SentinelHealth"])
def test_a_damaged_table_of_our_own_stops_no_rule(tmp_path: Path, table: str) -> None:
    """Of a process that began when it was damaged; what was raised meanwhile comes into it once, later."""
    now = START
    home = tmp_path / "home"
    (home / "rules").mkdir(parents=True)
    (home / "rules" / "stop.yaml").write_text(RULE)
    (home / "rules" / "flows.yaml").write_text(ISSUED)
    workspace = Workspace.open(home, clock=lambda: now)
    workspace.ingest([log_in(tmp_path)], lambda _: None)
    assert workspace.run_due_rules(fault=raised).alerts == ()
    now = START + timedelta(hours=1)
    assert len(workspace.run_due_rules(fault=raised).alerts) == 1
    with damaged(home, table):
        workspace = Workspace.open(home, clock=lambda: now)
        workspace.ingest([flow_in(tmp_path)], lambda _: None)
        now += timedelta(minutes=5)
        assert len(workspace.run_due_rules(fault=raised).alerts) == 1
        now += timedelta(minutes=5)
        assert workspace.run_due_rules(fault=raised).alerts == ()
        assert [each["name"] for each in workspace.health() if each["kind"] == "Table"] == [table]
        assert len(workspace.incidents.all()) == 2
        with pytest.raises(LogError, match=table) if table != "SentinelHealth" else nullcontext():
            workspace.export()
    now += timedelta(minutes=5)
    workspace.run_due_rules(fault=raised)
    for own in ("SecurityAlert", "SecurityIncident"):
        assert workspace.lake.snapshot(own).rows == 2
        assert workspace.query(f"{own} | count", now=now).rows() == [{"Count": 2}]


@pytest.mark.usefixtures("only_own")
def test_an_alert_is_stored_though_the_origin_of_its_keys_cannot_be_read(tmp_path: Path) -> None:
    """Its incident says so; what asked for the key joins incidents once it can be read, however late."""
    now = START
    home = tmp_path / "home"
    (home / "rules").mkdir(parents=True)
    keyed = RULE.replace("EventIds = EventId", "EventIds = EventId, Key = 'ASIAPARENT'")
    (home / "rules" / "stop.yaml").write_text(keyed.replace("customDetails", KEYED + "customDetails"))
    (home / "rules" / "flows.yaml").write_text(ISSUED)
    workspace = Workspace.open(home, clock=lambda: now)
    issue = json.loads(log_in(tmp_path).read_text())
    issue["Records"][0] |= {
        "eventID": "0a4b3c2d-0000-4000-8000-000000000002",
        "eventSource": "sts.amazonaws.com",
        "eventName": "AssumeRole",
        "userIdentity": {"type": "IAMUser", "accessKeyId": "ASIAPARENT"},
        "responseElements": {"credentials": {"accessKeyId": "AKIAEXAMPLE"}},
    }
    (tmp_path / "issue.json").write_text(json.dumps(issue))
    workspace.ingest([log_in(tmp_path), tmp_path / "issue.json"], lambda _: None)
    assert workspace.run_due_rules(fault=raised).alerts == ()
    now = START + timedelta(hours=1)
    assert len(workspace.run_due_rules(fault=raised).alerts) == 1
    with damaged(home, "AWSCloudTrail"):
        workspace = Workspace.open(home, clock=lambda: now)
        workspace.ingest([flow_in(tmp_path)], lambda _: None)
        now += timedelta(minutes=5)
        assert len(workspace.run_due_rules(fault=raised).alerts) == 1
        _, told = workspace.incidents.all()
        (comment,) = told.comments
        assert "log of table AWSCloudTrail cannot be read" in comment.text
        assert comment.by == "grouping"
        now += timedelta(days=2)
        workspace.run_due_rules(fault=raised)
    timeline = workspace.case(told.number).timeline
    assert [each.detail for each in timeline if each.kind is MomentKind.COMMENT] == ["grouping"]
    now += timedelta(minutes=5)
    workspace.run_due_rules(fault=raised)
    (joined,) = workspace.incidents.all()
    assert len(joined.alert_ids) == 2
