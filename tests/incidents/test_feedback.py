"""Closing incidents as false positives shows in the rule's precision, and proposes an exception."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from trailhawk.cli import run
from trailhawk.detect.alert import Alert
from trailhawk.detect.entities import entity
from trailhawk.detect.rule import EntityMapping, FieldMapping, Rule, RuleKind, Severity
from trailhawk.incidents.feedback import proposals
from trailhawk.incidents.incident import Classification, Closing, Reason
from trailhawk.kql.schema import Column
from trailhawk.kql.types import KqlType
from trailhawk.workspace import Workspace

Raised = Callable[..., Alert]
NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
FALSE = Closing.of(Classification.FALSE_POSITIVE, Reason.INCORRECT_ALERT_LOGIC)

RULE = Rule(
    id="r",
    name="r",
    query="T",
    kind=RuleKind.SCHEDULED,
    severity=Severity.LOW,
    entity_mappings=(
        EntityMapping("IP", (FieldMapping("Address", "Ip"),)),
        EntityMapping("AwsPrincipal", (FieldMapping("Arn", "Who"),)),
        EntityMapping("AwsBucket", (FieldMapping("Name", "Buckets"),)),
    ),
)
COLUMNS = [Column("Ip", KqlType.STRING), Column("Who", KqlType.STRING), Column("Buckets", KqlType.DYNAMIC)]


def named(raised: Raised, name: str, address: str, who: str, *buckets: str) -> Alert:
    return raised(
        name,
        entity("IP", Address=address),
        entity("AwsPrincipal", Arn=who),
        *(entity("AwsBucket", Name=bucket) for bucket in buckets),
    )


def test_what_false_positives_share_and_no_true_one_has(raised: Raised) -> None:
    alerts = [
        named(raised, "f1", "192.0.2.1", "scanner", "a"),
        named(raised, "f2", "192.0.2.1", "scanner", "a", "b"),
        named(raised, "f3", "192.0.2.2", "scanner", "b"),
        named(raised, "t1", "192.0.2.1", "thief", "a"),
        named(raised, "u1", "192.0.2.9", "scanner", "c"),
        named(raised, "u2", "192.0.2.9", "other", "c"),
    ]
    judged = {"f1": "FalsePositive", "f2": "FalsePositive", "f3": "FalsePositive", "t1": "TruePositive"}
    first, *others = proposals(RULE, alerts, judged, COLUMNS)
    assert first.where == 'Who == "scanner"'
    assert (first.before, first.after, first.false, first.true, first.unjudged) == (6, 2, 3, 0, 1)
    assert all(each.true == 0 and each.false for each in others)
    # The address of the thief is in none of them: it alone would take a true positive along.
    assert not any('"192.0.2.1"' in each.where for each in others)
    assert proposals(RULE, alerts, {"t1": "TruePositive"}, COLUMNS) == ()


def test_a_pair_is_proposed_where_it_takes_less_else(raised: Raised) -> None:
    alerts = [
        named(raised, "f1", "192.0.2.1", "scanner"),
        named(raised, "u1", "192.0.2.1", "other"),
        named(raised, "u2", "192.0.2.7", "scanner"),
    ]
    first = proposals(RULE, alerts, {"f1": "FalsePositive"}, COLUMNS)[0]
    assert sorted(first.where.split(" and ")) == ['Ip == "192.0.2.1"', 'Who == "scanner"']
    assert (first.false, first.unjudged, first.after) == (1, 0, 2)


def test_an_alert_is_taken_only_if_all_its_values_are(raised: Raised) -> None:
    alerts = [
        named(raised, "f1", "", "", "logs"),
        named(raised, "t1", "", "", "cards"),
        named(raised, "u1", "", "", "logs", "cards"),
    ]
    (only,) = proposals(RULE, alerts, {"f1": "FalsePositive", "t1": "TruePositive"}, COLUMNS)
    assert (only.false, only.true, only.unjudged) == (1, 0, 0)
    assert 'dynamic(["logs"])' in only.where


def test_two_columns_of_one_entity_propose_nothing(raised: Raised) -> None:
    rule = Rule(
        **{name: getattr(RULE, name) for name in ("id", "name", "query", "kind", "severity")},
        entity_mappings=(
            EntityMapping("IP", (FieldMapping("Address", "Source"),)),
            EntityMapping("IP", (FieldMapping("Address", "Target"),)),
        ),
    )
    alert = named(raised, "f1", "192.0.2.1", "")
    columns = [Column("Source", KqlType.STRING), Column("Target", KqlType.STRING)]
    assert proposals(rule, [alert], {"f1": "FalsePositive"}, columns) == ()


WAVE = """
id: 6d0d2f0e-0000-4000-8000-000000000001
name: A hand is waved
kind: Scheduled
severity: High
queryFrequency: 1h
queryPeriod: 1h
eventGroupingSettings: {aggregationKind: AlertPerResult}
query: |
  AwsCalls | where EventName == "WaveHand"
  | summarize StartTime = min(TimeGenerated), EndTime = max(TimeGenerated),
      Addresses = make_set(SourceIpAddress) by Principal
entityMappings:
  - entityType: AwsPrincipal
    fieldMappings: [{identifier: Arn, columnName: Principal}]
  - entityType: IP
    fieldMappings: [{identifier: Address, columnName: Addresses}]
"""


def record(number: int, user: str, address: str) -> dict[str, object]:
    return {
        "eventVersion": "1.11",
        "eventID": f"0a4b3c2d-0000-4000-8000-{number:012d}",
        "eventTime": f"2026-03-02T{number:02d}:45:00Z",
        "eventSource": "example.amazonaws.com",
        "eventName": "WaveHand",
        "recipientAccountId": "111122223333",
        "sourceIPAddress": address,
        "userIdentity": {"type": "IAMUser", "arn": f"arn:aws:iam::111122223333:user/{user}"},
    }


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Five alerts of one rule: a scanner's from two addresses, and a thief's from one of these."""
    home = tmp_path / "home"
    (home / "rules").mkdir(parents=True)
    (home / "rules" / "wave.yaml").write_text(WAVE)
    workspace = Workspace.open(home, clock=lambda: NOW)
    log = tmp_path / "log.json"
    calls = [(1, "scanner", "192.0.2.1"), (2, "scanner", "192.0.2.2"), (3, "scanner", "192.0.2.1")]
    calls += [(4, "thief", "192.0.2.1"), (5, "ana", "192.0.2.50")]
    log.write_text(json.dumps({"Records": [record(*call) for call in calls]}))
    workspace.ingest([log], lambda _: None)
    workspace.detect([workspace.content.rule("A hand is waved")], end=NOW)
    store = workspace.incidents
    for incident in store.all():
        (who,) = incident.values("AwsPrincipal")
        if who.endswith("scanner"):
            store.close(incident.number, FALSE, by="ana", now=NOW)
        if who.endswith("thief"):
            store.close(incident.number, Closing.of(Classification.TRUE_POSITIVE), by="ana", now=NOW)
    workspace.alerts.engine.dispose()
    return home


def test_from_a_closed_incident_to_an_exception(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def command(*words: str) -> Any:
        assert run(["--home", str(home), *words, "--format", "json"]) == 0
        return json.loads(capsys.readouterr().out)

    (found,) = command("rules", "precision")
    assert (found["alerts"], found["true"], found["false"], found["judged"]) == (5, 1, 3, 4)
    assert found["precision"] == 0.25
    assert command("rules", "show", "A hand is waved")["judged"]["precision"] == 0.25
    made = command("rules", "propose", "A hand is waved", "--last", "36500d")
    assert made["precision"] == 0.25
    first = made["proposals"][0]
    assert (first["before"], first["after"], first["false"], first["true"]) == (5, 2, 3, 0)
    assert first["where"] == 'Principal == "arn:aws:iam::111122223333:user/scanner"'
    # The commands that are proposed do to history what was counted.
    by_list = next(each for each in made["proposals"] if each["where"].startswith("isnotempty(Addresses)"))
    for each, expected in ((first, 3), (by_list, 1)):
        assert each["false"] == each["before"] - each["after"] == expected
        words = shlex.split(each["command"])[1:]
        words[words.index("--until") + 1] = "2099-01-01"
        tried = command(*words, "--dry-run", "--last", "36500d", "--quiet")
        (told,) = tried["would_have_taken"]
        assert (told["before"], told["after"]) == (each["before"], each["after"])
        assert told["gone"] == [f"FalsePositive: {expected}"]


def test_precision_in_words(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--home", str(home), "rules", "precision"]) == 0
    assert "25%" in capsys.readouterr().out
    assert run(["--home", str(home), "rules", "show", "A hand is waved"]) == 0
    assert "25% of 4 judged alerts were true positives" in capsys.readouterr().out
    assert run(["--home", str(home), "rules", "propose", "A hand is waved", "--last", "36500d"]) == 0
    assert "--dry-run" in capsys.readouterr().out


def test_a_reopened_incident_judges_nothing(home: Path) -> None:
    workspace = Workspace.open(home, clock=lambda: NOW)
    store = workspace.incidents
    rule = workspace.content.rule("A hand is waved")
    for incident in store.all():
        store.reopen(incident.number, by="ana", now=NOW)
    assert store.precisions()[rule.id].precision is None
    assert workspace.content.proposals(rule, last=timedelta(days=100)) == ()
    workspace.alerts.engine.dispose()
