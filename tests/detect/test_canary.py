"""Canaries: from a raw log to the alert, each test by itself in one lake, and where one stops."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree

import pytest

from trailhawk.cli import run
from trailhawk.detect.canary import Canary, Entry, Stage
from trailhawk.detect.rule_file import parse_rules
from trailhawk.run import Event, Job, jobs
from trailhawk.workspace import Workspace

NOW = datetime(2026, 6, 1, tzinfo=UTC)
HEAD = """
name: {name}
id: 6d0d2f0e-0000-4000-8000-0000000000{number:02d}
kind: {kind}
severity: High
query: |
  {query}
"""
SCHEDULED = "queryFrequency: 1h\nqueryPeriod: {period}\n"
WAVES = "AwsCalls | where EventName == 'WaveHand' | summarize Calls = count(), make_set(EventId) by Principal"
EVENT = (
    "{{eventTime: '{time}', eventSource: a.amazonaws.com, eventName: WaveHand, recipientAccountId: "
    "'111122223333', sourceIPAddress: 203.0.113.66, userIdentity: {{type: IAMUser, arn: "
    "'arn:aws:iam::111122223333:user/{user}', accountId: '111122223333'}}}}"
)


def rule(
    number: int,
    query: str,
    given: str,
    *,
    kind: str = "Scheduled",
    period: str = "1h",
    more: str = "",
    alerts: int = 1,
) -> str:
    text = HEAD.format(name=f"Rule {number}", number=number, kind=kind, query=query)
    if kind == "Scheduled":
        text += SCHEDULED.format(period=period)
    what = "rows" if kind == "Hunting" else "alerts"
    return text + f"{more}\ntests:\n  - name: it fires\n{given}    expect: {{{what}: {alerts}}}\n"


def events(*users: str, time: str = "2026-03-02T09:05:00Z") -> str:
    lines = "".join(f"      - {EVENT.format(time=time, user=user)}\n" for user in users)
    return f"    events:\n{lines}"


def sent(tmp_path: Path, *files: str, home: str = "home") -> dict[str, Canary]:
    """By rule name, how the canaries of these rule files ended."""
    workspace = Workspace.open(tmp_path / home, clock=lambda: NOW)
    rules = [each for file in files for each in parse_rules(file.encode(), source="a.yaml")]
    return {each.rule.name: each for each in workspace.content.canaries(rules)}


def test_a_rule_fires_from_the_raw_log_and_it_is_kept(tmp_path: Path) -> None:
    found = sent(tmp_path, rule(1, WAVES, events("ada")))
    one = found["Rule 1"]
    assert one.passed, one.reason
    assert (one.entry, one.note) == (Entry.LOG, "")
    assert one.seconds > 0
    workspace = Workspace.open(tmp_path / "home")
    (last,) = workspace.content.last_canaries().values()
    assert (last.passed, last.at, last.passed_at) == (True, NOW, NOW)
    assert not list((tmp_path / "home" / "temporary").iterdir())
    assert workspace.alerts.alerts() == ()
    assert workspace.lake.snapshot("AWSCloudTrail").rows == 0


def test_tests_in_one_lake_do_not_see_each_other(tmp_path: Path) -> None:
    lone = "AwsCalls | summarize Callers = dcount(Principal), make_set(EventId) | where Callers == {}"
    found = sent(
        tmp_path,
        rule(1, lone.format(1), events("ada")),
        rule(2, lone.format(2), events("ada", "eve")),
        rule(3, lone.format(1), events("ada")),
    )
    assert {name: each.reason for name, each in found.items()} == {"Rule 1": "", "Rule 2": "", "Rule 3": ""}


def test_records_of_one_id_go_into_a_lake_of_their_own(tmp_path: Path) -> None:
    same = events("ada").replace("{eventTime", "{eventID: 0a4b3c2d-0000-4000-8000-000000000001, eventTime")
    found = sent(tmp_path, rule(1, WAVES, same), rule(2, WAVES, same))
    assert all(each.passed for each in found.values()), [each.reason for each in found.values()]


def test_where_each_one_stopped(tmp_path: Path) -> None:
    no_log = "    logs:\n      AWSVPCFlow: ['nothing that a flow log has']\n    at: 2026-03-02T10:00:00Z\n"
    found = sent(
        tmp_path,
        rule(1, WAVES.replace("WaveHand", "Nod"), events("ada")),
        rule(2, WAVES + " | where Nowhere == 1", events("ada")),
        rule(3, "AWSVPCFlow | project TimeGenerated", no_log),
        rule(4, WAVES, events("ada"), alerts=0),
        rule(5, WAVES, events("ada")),
        rule(6, "AwsCalls | take 0", events("ada"), kind="Hunting"),
        rule(7, WAVES, events("ada").replace("2026-03-02T09:05:00Z", "some day")),
    )
    told = {name: (each.stage, each.reason) for name, each in found.items()}
    assert told["Rule 1"] == (Stage.ALERT, "no alert: its query gives 0 rows")
    assert told["Rule 2"][0] is Stage.QUERY
    assert "Nowhere" in told["Rule 2"][1]
    assert told["Rule 3"] == (Stage.INGEST, "quarantined: not a log of a known kind")
    assert found["Rule 4"].test is None
    assert not found["Rule 4"].failed
    assert told["Rule 5"] == (None, "")
    assert told["Rule 6"] == (Stage.ALERT, "no rows: its query finds nothing")
    assert told["Rule 7"][0] is Stage.INGEST
    kept = Workspace.open(tmp_path / "home").content.last_canaries()
    assert len(kept) == 6, "a rule without such a test leaves no trace"
    assert [each.rule_name for each in kept.values() if each.passed] == ["Rule 5"]


def test_a_failure_keeps_when_it_passed_last(tmp_path: Path) -> None:
    sent(tmp_path, rule(1, WAVES, events("ada")))
    sent(tmp_path, rule(1, WAVES.replace("WaveHand", "Nod"), events("ada")))
    (last,) = Workspace.open(tmp_path / "home").content.last_canaries().values()
    assert (last.passed, last.passed_at, last.stage) == (False, NOW, "alert")


def test_rules_with_history_get_it(tmp_path: Path) -> None:
    first_seen = WAVES + " | where Calls == 1"
    learning = rule(1, first_seen, events("ada"), period="14d", more="learningPeriod: 14d")
    newcomer = (
        "let known = AwsCalls | where TimeGenerated < ago(1h) | distinct Principal;\n"
        "  AwsCalls | where TimeGenerated >= ago(1h) and Principal !in (known)\n"
        "  | project Principal, EventId"
    )
    lines = events("ada", time="2026-02-20T10:00:00Z") + events("ada", "eve").removeprefix("    events:\n")
    found = sent(tmp_path, learning, rule(2, newcomer, lines, period="14d"))
    assert {name: each.reason for name, each in found.items()} == {"Rule 1": "", "Rule 2": ""}


def test_rules_that_go_by_ingestion_fire(tmp_path: Path) -> None:
    found = sent(tmp_path, rule(1, "AwsCalls | project Principal, EventId", events("ada"), kind="NRT"))
    assert found["Rule 1"].passed, found["Rule 1"].reason


def test_rows_of_cloudtrail_become_records_and_others_enter_at_the_table(tmp_path: Path) -> None:
    row = (
        "{TimeGenerated: '2026-03-02T09:05:00Z', EventName: WaveHand, EventSource: a.amazonaws.com, "
        "RequestParameters: {roleArn: x}, UserIdentityArn: 'arn:aws:iam::111122223333:user/ada', "
        "SessionIssuerArn: 'arn:aws:iam::111122223333:role/r', EventVersion: '1.09'}"
    )
    rows = f"    rows:\n      AWSCloudTrail:\n        - {row}\n"
    ask = (
        "AWSCloudTrail | where tostring(parse_json(RequestParameters).roleArn) == 'x' "
        "and EventVersion == '1.09' and SessionIssuerArn endswith 'role/r' and EventName == 'WaveHand' "
        "| project AwsEventId"
    )
    security = rows.replace("EventVersion: '1.09'", "CidrIp: 0.0.0.0/0")
    ledger = "    rows:\n      AWSGuardDuty: [{TimeGenerated: '2026-03-02T09:05:00Z', Severity: 8}]\n"
    nowhere = ledger.replace("AWSGuardDuty", "Elsewhere")
    beside = "    rows:\n      IngestLedger: [{TimeGenerated: '2026-03-02T09:05:00Z', Rows: 3}]\n"
    both = "AwsCalls | where toscalar(IngestLedger | summarize sum(Rows)) == 3 | project EventId"
    found = sent(
        tmp_path,
        rule(1, ask, rows),
        rule(2, "AWSCloudTrail | where CidrIp == '0.0.0.0/0' | project EventName", security),
        rule(3, "AWSGuardDuty | where Severity >= 8 | project TimeGenerated", ledger),
        rule(4, "AWSGuardDuty | project TimeGenerated", nowhere),
        rule(5, both, events("ada") + beside),
    )
    assert [found[f"Rule {n}"].reason for n in (1, 2, 3, 5)] == ["", "", "", ""]
    entries = [found[f"Rule {n}"].entry for n in (1, 2, 3, 5)]
    assert entries == [Entry.LOG, Entry.TABLE, Entry.TABLE, Entry.LOG]
    assert found["Rule 5"].note == "enters at the table: no log fills IngestLedger"
    assert "CidrIp" in found["Rule 2"].note
    assert found["Rule 3"].note.startswith("enters at the table: rows of AWSGuardDuty")
    assert "which is no table" in found["Rule 4"].reason


def test_rows_of_flows_become_lines(tmp_path: Path) -> None:
    flow = (
        "{TimeGenerated: '2026-03-02T09:05:00Z', SrcAddr: 10.0.0.5, DstAddr: 203.0.113.66, DstPort: 22, %s}"
    )
    rows = f"    rows:\n      AWSVPCFlow:\n        - {flow}\n"
    ask = "AWSVPCFlow | where SrcAddr == '10.0.0.5' and DstPort == 22 and %s | project TimeGenerated"
    found = sent(
        tmp_path,
        rule(1, ask % "TcpFlags == 2 and Start == TimeGenerated", rows % "TcpFlags: 2, VpcId: vpc-1"),
        rule(2, ask % "Type == 'AWSVPCFlow'", rows % "Action: 'AC CEPT'"),
        rule(3, ask % "End == Start", rows % "Start: '2026-03-02T09:05:00Z', End: '2026-03-02T09:05:00Z'"),
        rule(4, ask % "Start > TimeGenerated", rows % "Start: '2026-03-02T09:06:00Z'"),
    )
    assert [each.reason for each in found.values()] == ["", "", "", ""]
    (bad,) = sent(tmp_path, rule(5, ask % "true", rows % "End: soon")).values()
    assert bad.reason == "'soon' is no time; write 2026-03-02T09:00:00Z"
    assert [each.entry for each in found.values()] == [Entry.LOG, Entry.TABLE, Entry.LOG, Entry.TABLE]


def test_the_homes_filter_and_exceptions_are_on_the_road(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"
    (home / "rules").mkdir(parents=True)
    ids = "customDetails: {EventIds: set_EventId}"
    (home / "rules" / "one.yaml").write_text(rule(1, WAVES, events("ada"), more=ids))
    words = ["--home", str(home), "rules"]
    junit = tmp_path / "junit.xml"

    def canary(code: int) -> dict[str, object]:
        capsys.readouterr()
        assert run([*words, "canary", "Rule 1", "--junit", str(junit), "--format", "json"]) == code
        (told,) = json.loads(capsys.readouterr().out)
        assert isinstance(told, dict)
        return told

    assert canary(0)["state"] == "passed"
    assert ElementTree.parse(junit).find(".//failure") is None
    ask = ["except", "Rule 1", "--where", "Principal has 'ada'", "--until", "2100-01-01", "--reason", "x"]
    assert run([*words, *ask]) == 0
    assert canary(1)["reason"] == "no alert: exception 1 takes its rows"
    assert ElementTree.parse(junit).find(".//failure") is not None
    assert run([*words, "test", str(home / "rules")]) == 0
    assert run([*words, "test", str(home / "rules"), "--exceptions"]) == 1
    workspace = Workspace.open(home)
    assert workspace.content.exceptions.counts() == {}, "a canary is not counted"
    workspace.content.exceptions.remove(1, now=NOW, by="ada")
    workspace.filters.apply("AWSCloudTrail", "source | where EventName != 'WaveHand'", now=NOW, by="ada")
    assert canary(1)["reason"] == "row missing: the ingest filter of AWSCloudTrail drops it"
    capsys.readouterr()
    assert run([*words, "canary", "Rule 1"]) == 1
    told = capsys.readouterr().out
    assert "FAILED one.yaml: Rule 1" in told
    assert "1 canary: 1 failed" in told


def test_those_of_enabled_rules_are_sent(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path / "home", clock=lambda: NOW)
    chosen = workspace.content.canary_rules()
    off = chosen[0]
    workspace.content.rule_states.set(off, enabled=False, reason="", now=NOW, by="ada")
    assert off not in workspace.content.canary_rules()
    assert len(workspace.content.canary_rules()) == len(chosen) - 1
    assert len(workspace.content.canaries(chosen[:3], stopped=lambda: True)) == 1
    assert timedelta(0) <= NOW - min(each.at for each in workspace.content.last_canaries().values())


def test_the_process_sends_them_where_the_settings_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    told: list[Event] = []
    stop = threading.Event()

    def hear(event: Event) -> None:
        told.append(event)
        if "sent" in event.message:
            stop.set()

    def work_of(workspace: Workspace) -> list[Job]:
        return [job for job in jobs(workspace, tell=hear, status_seconds=60) if job.name == "canary"]

    assert work_of(Workspace.open(home)) == []
    (home / "trailhawk.toml").write_text("[run]\ncanary_seconds = 1\n")
    workspace = Workspace.open(home)
    files = [rule(1, WAVES, events("ada")), rule(2, "AwsCalls | take 0", events("ada"))]
    chosen = [each for file in files for each in parse_rules(file.encode(), source="a.yaml")]
    monkeypatch.setattr(workspace.content, "canary_rules", lambda **_: chosen)
    (job,) = work_of(workspace)
    job.work(stop)
    assert [(event.level, event.message) for event in told] == [
        ("error", "'Rule 2' does not fire: no alert: its query gives 0 rows"),
        ("info", "2 sent, 1 failed"),
    ]
