"""The backtest: the same alerts as the replay, nothing stored, what it cost, what exceptions take away."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from support.calls import DAY, call
from trailhawk.cli import run
from trailhawk.detect.backtest import Backtest, backtest, compare, preview, same
from trailhawk.detect.exceptions import Exceptions, RuleException
from trailhawk.detect.history import detect
from trailhawk.detect.rule import Aggregation, Rule, RuleKind, Severity
from trailhawk.detect.store import AlertStore, open_state
from trailhawk.engine.duckdb import DuckDBEngine
from trailhawk.incidents.incident import Classification, Closing, Reason
from trailhawk.workspace import Workspace

NOW = DAY + timedelta(days=60)
HOUR = timedelta(hours=1)
LATER = datetime(2100, 1, 1, tzinfo=UTC)
RULE = Rule(
    id="deletes",
    name="Deletes",
    query=(
        "AWSCloudTrail | where EventName == 'DeleteBucket' "
        "| project TimeGenerated, Address = SourceIpAddress, AwsEventId"
    ),
    kind=RuleKind.SCHEDULED,
    severity=Severity.LOW,
    frequency=HOUR,
    period=HOUR,
    aggregation=Aggregation.PER_RESULT,
    custom_details=(("EventIds", "AwsEventId"),),
)

EngineOf = Callable[[Sequence[dict[str, object]]], DuckDBEngine]


CALLS = [
    call(0, "198.51.100.1", "ListBuckets"),
    call(1.5, "203.0.113.7"),
    call(1.6, "203.0.113.8"),
    call(27.5, "203.0.113.7"),
    call(50, "198.51.100.1", "ListBuckets"),
]


@pytest.fixture
def tested(engine_of: EngineOf, tmp_path: Path) -> Callable[..., Backtest]:
    engine = engine_of(CALLS)
    count = 0

    def test(rule: Rule = RULE, **members: object) -> Backtest:
        nonlocal count
        count += 1
        folder = tmp_path / f"backtest-{count}"
        folder.mkdir()
        given = {"start": DAY, "end": DAY + timedelta(days=3), "now": NOW} | members
        given["exceptions"] = Exceptions(given.get("exceptions", ()), engine)  # type: ignore[arg-type]
        return backtest(rule, engine, tables=["AWSCloudTrail"], folder=folder, **given)  # type: ignore[arg-type]

    return test


def excepted(where: str, number: int = 1) -> RuleException:
    return RuleException(number, RULE.id, RULE.name, where, "agreed", NOW, NOW, "ada")


def test_the_alerts_are_those_of_the_replay(engine_of: EngineOf, tested: Callable[..., Backtest]) -> None:
    found = tested(sample=2)
    store = AlertStore(open_state("sqlite://"))
    summary = detect(engine_of([]), store, [RULE], tables=["AWSCloudTrail"], now=NOW)
    assert found.alerts == summary.alerts
    assert found.days == ((date(2026, 3, 1), 2), (date(2026, 3, 2), 1), (date(2026, 3, 3), 0))
    assert found.rows == 3
    assert [(s.at.day, s.row["Address"]) for s in found.sample] == [(2, "203.0.113.7"), (1, "203.0.113.7")]
    assert found.precision is None


def test_what_it_cost(tested: Callable[..., Backtest]) -> None:
    found = tested()
    assert 2 <= found.cost.windows < found.windows, "quiet windows need no query"
    assert 0 < found.cost.most_seconds <= found.cost.seconds
    assert 0 < found.cost.most_rows <= found.cost.rows
    assert found.cost.most_rows <= len(CALLS)
    assert 0 < found.cost.most_bytes <= found.cost.bytes


def test_only_the_time_asked_for(tested: Callable[..., Backtest]) -> None:
    found = tested(start=DAY + timedelta(hours=24))
    assert [alert.at.day for alert in found.alerts] == [2]


def test_what_each_exception_takes_away(tested: Callable[..., Backtest]) -> None:
    found = tested(exceptions=[excepted("Address endswith '.7'"), excepted("Address endswith '.8'", 2)])
    assert found.alerts == ()
    told = [(e.exception.id, e.rows, e.windows, e.alerts) for e in found.effects]
    assert told == [(1, 2, 2, 2), (2, 1, 1, 1)]
    single = replace(RULE, aggregation=Aggregation.SINGLE)
    found = tested(single, exceptions=[excepted("Address endswith '.7'")])
    assert [(e.rows, e.alerts) for e in found.effects] == [(2, 1)], "the other alert only has fewer rows"
    assert len(found.alerts) == 1


def test_a_candidate_before_and_after_with_what_was_judged(tested: Callable[..., Backtest]) -> None:
    candidate = excepted("Address endswith '.7'", 0)
    raised = tested().alerts
    judged = [(raised[0], "FalsePositive"), (raised[1], "TruePositive"), (raised[2], "FalsePositive")]
    told = preview(candidate, tested(exceptions=[candidate]), judged)
    assert (told.rows, told.windows, told.before, told.after) == (2, 2, 3, 1)
    left = {alert.id for alert in tested(exceptions=[candidate]).alerts}
    assert sorted(told.gone) == sorted(Counter(n for alert, n in judged if alert.id not in left).items())
    nothing = excepted("Address == ''", 0)
    told = preview(nothing, tested(exceptions=[nothing]), judged)
    assert (told.rows, told.before, told.after, told.gone) == (0, 3, 3, ())


def test_precision_is_of_what_is_still_raised(tested: Callable[..., Backtest]) -> None:
    raised = tested().alerts
    names = ["TruePositive", "FalsePositive", "BenignPositive"]
    judged = list(zip(raised, names, strict=True))
    assert tested(judged=judged).precision == pytest.approx(1 / 3)
    without = excepted("Address endswith '.7'")
    found = tested(judged=judged, exceptions=[without])
    (left,) = found.alerts
    names_by_id = {alert.id: name for alert, name in judged}
    assert found.precision == float(names_by_id[left.id] == "TruePositive")
    assert sum(each.alerts for each in found.verdicts) == 3
    assert sum(each.raised for each in found.verdicts) == 1


def test_two_versions(tested: Callable[..., Backtest]) -> None:
    first = tested()
    narrower = tested(replace(RULE, query=RULE.query + " | where Address endswith '.7' | extend More = 1"))
    differs = compare(first, narrower)
    assert (len(differs.gained), len(differs.lost), differs.both) == (0, 1, 2)
    wider = tested(replace(RULE, query=RULE.query.replace("'DeleteBucket'", "'ListBuckets'")))
    differs = compare(first, wider)
    assert (len(differs.gained), len(differs.lost), differs.both) == (2, 3, 0)
    nameless = [replace(alert, id=f"x{n}", custom_details=()) for n, alert in enumerate(first.alerts)]
    assert same(nameless, first.alerts) == {"x0", "x1", "x2"}


def test_a_query_that_fails_is_told(tested: Callable[..., Backtest]) -> None:
    found = tested(replace(RULE, query="AWSCloudTrail | where Nowhere == 1"))
    assert "Nowhere" in found.error
    assert found.alerts == ()


# --- the commands ------------------------------------------------------------------------------------------

FILE = """
id: 6d0d2f0e-0000-4000-8000-0000000000bb
name: A hand is waved
kind: Scheduled
severity: High
queryFrequency: 1h
queryPeriod: 1h
query: |
  AwsCalls
  | where EventName == "WaveHand"
  | project TimeGenerated, Principal, Address, EventIds = pack_array(EventId)
entityMappings:
  - entityType: AwsPrincipal
    fieldMappings: [{identifier: Arn, columnName: Principal}]
customDetails: {EventIds: EventIds}
eventGroupingSettings: {aggregationKind: AlertPerResult}
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with a rule of its own and three calls that it finds."""
    home = tmp_path / "home"
    (home / "rules").mkdir(parents=True)
    (home / "rules" / "wave.yaml").write_text(FILE)
    calls = [(1, "203.0.113.7"), (2, "203.0.113.8"), (30, "203.0.113.7")]
    records = [
        call(hours, address, "WaveHand")
        | {"eventVersion": "1.11", "eventID": f"0a4b3c2d-0000-4000-8000-00000000000{number}"}
        for number, (hours, address) in enumerate(calls)
    ]
    log = tmp_path / "log.json"
    log.write_text(json.dumps({"Records": records}))
    assert run(["--home", str(home), "ingest", str(log), "-q"]) == 0
    return home


def trailhawk(home: Path, capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    capsys.readouterr()
    ended = run(["--home", str(home), "rules", *words])
    told = capsys.readouterr()
    assert ended == code, told.err
    return told.err if code else told.out


def test_what_people_found_out_is_in_the_precision(home: Path) -> None:
    workspace = Workspace.open(home)
    rule = workspace.content.rule("hand is waved")
    raised = workspace.detect([rule]).alerts
    assert len(raised) == 3
    number_of = workspace.incidents.incidents_of([alert.id for alert in raised])
    first, second = sorted(set(number_of.values()))[:2]
    workspace.incidents.close(first, Closing.of(Classification.TRUE_POSITIVE), by="ada", now=NOW)
    wrong = Closing.of(Classification.FALSE_POSITIVE, Reason.INCORRECT_ALERT_LOGIC)
    workspace.incidents.close(second, wrong, by="ada", now=NOW)
    found = workspace.content.backtest(rule, last=timedelta(days=9))
    assert {each.classification: each.raised for each in found.verdicts} == dict(
        Counter(
            "TruePositive" if number == first else "FalsePositive"
            for number in number_of.values()
            if number in (first, second)
        )
    )
    assert found.precision is not None
    assert 0 < found.precision < 1
    candidate, _ = workspace.content.draft_exception(
        "hand is waved", "true", until=LATER, reason="x", by="ada"
    )
    told = workspace.content.preview_exception(candidate, rule, last=timedelta(days=9))
    assert (told.before, told.after) == (3, 0)
    assert dict(told.gone) == {each.classification: each.raised for each in found.verdicts}


def test_those_of_every_rule_are_shown_where_they_fit(home: Path) -> None:
    workspace = Workspace.open(home)
    candidate, rules = workspace.content.draft_exception(
        "*", "Address == 'x'", until=LATER, reason="x", by="ada"
    )
    workspace.content.exceptions.add(candidate)
    rule = workspace.content.rule("hand is waved")
    assert rule in rules
    assert [each.rule_id for each in workspace.content.exceptions_of(rule)] == ["*"]
    other = replace(rule, query="AWSCloudTrail | project TimeGenerated")
    assert workspace.content.exceptions_of(other) == []


def test_the_commands(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def tell(*words: str, code: int = 0) -> str:
        return trailhawk(home, capsys, *words, code=code)

    assert tell("backtest", "hand is waved", "--rows", "1").count("203.0.113.") == 1
    other = tmp_path / "other.yaml"
    other.write_text(FILE.replace('"WaveHand"', '"WaveHand" and Address endswith "8"'))
    told = json.loads(tell("backtest", "hand is waved", "--against", str(other), "--format", "json"))
    other_version = told["against"]
    assert [len(other_version[name]) for name in ("gained", "lost")] == [0, 2]
    assert other_version["both"] == 1
    assert (len(told["alerts"]), told["rows"], told["precision"]) == (3, 3, None)
    assert len(json.loads(tell("backtest", str(other), "--format", "json"))["alerts"]) == 1

    ask = ("except", "hand is waved", "--where", "Address endswith '.7'", "--until", "2100-01-01")
    tried = json.loads(tell(*ask, "--reason", "x", "--dry-run", "--last", "9d", "--format", "json"))
    (would,) = tried["would_have_taken"]
    assert (tried["made"], would["rows"], would["before"], would["after"]) == (False, 2, 3, 1)
    made = json.loads(tell(*ask, "--reason", "the scanner\x1b[31m", "--format", "json"))
    assert made["made"]
    assert "\x1b" not in tell("exceptions", "list")
    workspace = Workspace.open(home)
    assert len(workspace.detect([workspace.content.rule("hand is waved")]).alerts) == 1
    (listed,) = json.loads(tell("exceptions", "list", "--rule", "hand is waved", "--format", "json"))
    assert (listed["state"], listed["rows"], listed["windows"]) == ("active", 2, 2)
    shown = json.loads(tell("show", "hand is waved", "--format", "json"))
    assert [each["rows"] for each in shown["exceptions"]] == [2]
    shown_to_people = tell("show", "hand is waved")
    assert "2 rows taken" in shown_to_people
    assert f"except {made['id']}" in shown_to_people
    told = json.loads(tell("backtest", "hand is waved", "--format", "json"))
    assert [(e["rows"], e["alerts"]) for e in told["exceptions"]] == [(2, 2)]
    tell("exceptions", "remove", str(made["id"]), "--reason", "gone")
    (listed,) = json.loads(tell("exceptions", "list", "--removed", "--format", "json"))
    assert (listed["state"], listed["removed_why"]) == ("removed", "gone")

    wrong = tell(*ask[:2], "--where", "Adress == 'x'", *ask[4:], "--reason", "x", code=2)
    assert wrong.startswith("usage: --where: binding: ")
    assert "1:1" in wrong
    assert "no exception 9" in tell("exceptions", "remove", "9", code=1)
    assert "a hunt" in tell("backtest", "identity/keys-by-last-use.yaml", code=2)
