"""Ingest filters: what they drop is counted and can be had back; what they would cost is told before."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest

from trailhawk.detect import content
from trailhawk.detect.filtered import INGESTED, AsThen
from trailhawk.detect.prices import PRICES, prices
from trailhawk.detect.refetch import Dropped, dropped
from trailhawk.detect.rule import Rule
from trailhawk.detect.spans import Mask, Moments
from trailhawk.detect.trial import Trial, sizes
from trailhawk.engine.duckdb import DuckDBEngine
from trailhawk.engine.transform import RowTransform
from trailhawk.errors import NotFoundError, UsageError
from trailhawk.workspace import Workspace

FLOW_HEADER = (
    "version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end action "
    "log-status"
)
DAY = datetime(2026, 3, 1, tzinfo=UTC)


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = DAY + timedelta(days=2)

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.open(tmp_path / "home", clock=Clock())


def call(number: int, name: str, **more: object) -> dict[str, object]:
    return {
        "eventVersion": "1.11",
        "eventID": f"event-{number}",
        "eventTime": (DAY + timedelta(minutes=number)).isoformat().replace("+00:00", "Z"),
        "eventSource": "s3.amazonaws.com" if "Object" in name else "cloudtrail.amazonaws.com",
        "eventName": name,
        "recipientAccountId": "111122223333",
        "requestParameters": {"bucketName": f"bucket-{number % 3}", "key": "secret/name"},
        **more,
    }


def put(path: Path, records: Iterable[Mapping[str, object]]) -> Path:
    path.write_text(json.dumps({"Records": list(records)}))
    return path


def flows(path: Path, count: int, *, first: int = 0) -> Path:
    """Flow records, which have no id of their own."""
    start = int(DAY.timestamp())
    lines = [
        f"2 111122223333 eni-1 10.0.0.1 10.0.0.2 {n} 443 6 1 {40 + n} {start + n} {start + n + 10} "
        f"{'ACCEPT' if n % 2 else 'REJECT'} OK"
        for n in range(first, first + count)
    ]
    path.write_text("\n".join([FLOW_HEADER, *lines]) + "\n")
    return path


def take(workspace: Workspace, *paths: Path) -> Any:
    return workspace.ingest(paths, lambda _: None)


def rows(workspace: Workspace, query: str) -> list[tuple[object, ...]]:
    return workspace.query(query, now=DAY + timedelta(days=9)).tuples()


def apply(workspace: Workspace, table: str, text: str) -> None:
    workspace.transform(table, text)
    workspace.filters.apply(table, text, by="ana", now=workspace.clock())


def from_disk(item: Dropped) -> BinaryIO:
    return Path(item.location).open("rb")


def test_dropped_masked_and_counted(workspace: Workspace, tmp_path: Path) -> None:
    apply(
        workspace,
        "AWSCloudTrail",
        """source | where EventName != 'HeadObject'
        | extend More = bag_set_key(parse_json(RequestParameters), 'bucketName', 'masked')
        | extend RequestParameters = tostring(More) | project-away More
        | project-away UserAgent""",
    )
    names = ["GetObject", "HeadObject", "StopLogging"] * 4
    log = put(tmp_path / "log.json", [call(n, name, userAgent="cli") for n, name in enumerate(names)])
    summary = take(workspace, log)
    assert (summary.records, summary.rows, summary.filtered) == (12, 8, 4)
    ledger = "IngestLedger | project Records, Rows, Duplicates, Filtered, Quarantined"
    assert rows(workspace, ledger) == [(12, 8, 0, 4, 0)]
    # The promoted column follows the masked one, and JSON keeps what was not masked.
    found = rows(
        workspace,
        "AWSCloudTrail | extend p = parse_json(RequestParameters)"
        " | summarize count() by tostring(p.bucketName), tostring(p.key), UserAgent",
    )
    assert found == [("masked", "secret/name", "", 8)]
    # A masked record is known when it comes again.
    again = put(tmp_path / "again.json", [call(0, "GetObject", userAgent="cli"), call(99, "GetObject")])
    summary = take(workspace, again)
    assert (summary.rows, summary.duplicates) == (1, 1)


def test_versions_are_kept(workspace: Workspace) -> None:
    with pytest.raises(NotFoundError):
        workspace.filters.remove("AWSCloudTrail", by="ana", now=DAY)
    apply(workspace, "AWSCloudTrail", "source | where EventName != 'A'")
    apply(workspace, "AWSCloudTrail", "source | where EventName != 'B'")
    workspace.filters.remove("AWSCloudTrail", by="bo", now=DAY)
    assert workspace.filters.current("AWSCloudTrail") is None
    found = workspace.filters.versions("AWSCloudTrail")
    assert [(one.version, one.by, bool(one.text)) for one in found] == [
        (1, "ana", True),
        (2, "ana", True),
        (3, "bo", False),
    ]


def test_a_process_that_runs_on_follows(workspace: Workspace) -> None:
    lasting = workspace.transforms(lasting=True)["AWSCloudTrail"]
    batch = workspace.lake.delta("AWSCloudTrail").table
    import pyarrow as pa

    from trailhawk.lake.table import stored_schema

    names = [column.name for column in batch.stored]
    some = pa.Table.from_pylist(
        [{"TimeGenerated": DAY.replace(tzinfo=None), "EventName": name} for name in "ABC"],
        stored_schema(batch),
    ).select(names)
    assert lasting(some).kept.tolist() == [True] * 3
    apply(workspace, "AWSCloudTrail", "source | where EventName != 'A'")
    assert lasting(some).kept.tolist() == [False, True, True]
    apply(workspace, "AWSCloudTrail", "source | where EventName == 'A'")
    assert lasting(some).kept.tolist() == [True, False, False]
    workspace.filters.remove("AWSCloudTrail", by="bo", now=DAY)
    assert lasting(some).rows.num_rows == 3


def test_dropped_rows_come_back_once(workspace: Workspace, tmp_path: Path) -> None:
    """Rows without ids too: those that a filter kept are stored already."""
    apply(workspace, "AWSVPCFlow", "source | where Action != 'REJECT' and SrcPort > 3")
    taken = take(workspace, flows(tmp_path / "flow.log", 20))
    assert (taken.rows, taken.filtered) == (8, 12)
    count = "AWSVPCFlow | summarize count(), dcount(SrcPort)"
    apply(workspace, "AWSVPCFlow", "source | where Action != 'REJECT'")
    back = workspace.refetch("AWSVPCFlow", from_disk)
    assert back.rows == 2
    assert rows(workspace, count) == [(10, 10)]
    assert workspace.refetch("AWSVPCFlow", from_disk).rows == 0
    workspace.filters.remove("AWSVPCFlow", by="ana", now=workspace.clock())
    assert workspace.refetch("AWSVPCFlow", from_disk).rows == 10
    assert rows(workspace, count) == [(20, 20)]
    assert workspace.refetch("AWSVPCFlow", from_disk).objects == 0
    balanced = "IngestLedger | where Records != Rows + Duplicates + Filtered + Quarantined | count"
    assert rows(workspace, balanced) == [(0,)]


def test_an_object_that_changed_or_is_gone_is_told(workspace: Workspace, tmp_path: Path) -> None:
    apply(workspace, "AWSCloudTrail", "source | where EventName != 'GetObject'")
    log = put(tmp_path / "log.json", [call(0, "GetObject"), call(1, "StopLogging")])
    take(workspace, log)
    workspace.filters.remove("AWSCloudTrail", by="ana", now=workspace.clock())
    log.unlink()
    assert workspace.refetch("AWSCloudTrail", from_disk).rows == 0
    assert [part.reason for part in workspace.quarantine()] == ["cannot be read: No such file or directory"]
    put(log, [call(0, "GetObject"), call(1, "StopLogging")])
    assert workspace.refetch("AWSCloudTrail", from_disk).rows == 1


RULE = """
id: {id}
name: {name}
description: For a test.
severity: Low
kind: Scheduled
queryFrequency: 1h
queryPeriod: 1h
triggerOperator: gt
triggerThreshold: 0
tactics: [Impact]
query: |
  {query}
"""


@pytest.fixture
def tried(workspace: Workspace, tmp_path: Path) -> Workspace:
    """A home with three rules, a hunt and three hours of calls."""
    rules = workspace.home / "rules"
    rules.mkdir()
    queries = {
        "Somebody stops logging": "AWSCloudTrail | where EventName == 'StopLogging' | project EventName",
        "Many reads": "AWSCloudTrail | where EventName == 'GetObject' | summarize Reads = count()",
        "A function in between": "AWSS3BucketAPILogParsed | where EventName == 'GetObject' | project Key",
        "Nothing of this table": "AWSVPCFlow | where Action == 'REJECT' | project SrcPort",
        "Nobody reads": "AWSCloudTrail | summarize n = countif(EventName == 'GetObject') | where n == 0",
    }
    for number, (name, query) in enumerate(queries.items()):
        text = RULE.format(id=f"00000000-0000-4000-8000-{number:012d}", name=name, query=query)
        (rules / f"{number}.yaml").write_text(text)
    hunts = workspace.home / "hunts"
    hunts.mkdir()
    (hunts / "hunt.yaml").write_text(
        "id: 00000000-0000-4000-8000-0000000000aa\nname: Who reads\ndescription: For a test.\n"
        "tactics: [Impact]\nquery: AWSCloudTrail | where EventName contains 'Object' | project EventName\n"
    )
    names = ["GetObject", "GetObject", "StopLogging"]
    log = put(tmp_path / "log.json", [call(n, names[n % 3]) for n in range(180)])
    take(workspace, log, flows(tmp_path / "flow.log", 10))
    return workspace


def test_what_a_filter_would_save_and_cost(tried: Workspace, tmp_path: Path) -> None:
    own = tmp_path / "prices.yaml"
    own.write_text("sentinel_analytics: {usd: 2, bytes: 1000}\ns3_standard: {usd: 1, bytes: 1000}\n")
    found = tried.try_filter(
        "AWSCloudTrail",
        "source | where EventName != 'GetObject'",
        last=timedelta(days=7),
        prices=own,
        progress=lambda done, total: None,
    )
    assert (found.rows, found.dropped) == (180, 120)
    saving = found.savings[0]
    assert (saving.event_source, saving.event_name) == ("s3.amazonaws.com", "GetObject")
    assert (saving.rows, saving.dropped, saving.bytes_saved) == (120, 120, saving.bytes)
    assert saving.sentinel_usd_a_month == pytest.approx(saving.bytes_saved_a_month / 1000 * 2, rel=1e-3)
    assert saving.s3_usd_a_month > 0
    # 179 minutes of a month of 30.4375 days
    assert saving.rows_saved_a_month == pytest.approx(120 * 30.4375 * 1440 / 179, rel=1e-3)
    effects = {effect.name: effect for effect in found.effects}
    assert {"Many reads", "A function in between", "Nobody reads", "Who reads"} <= set(effects)
    assert not {"Nothing of this table", "Somebody stops logging"} & set(effects)
    assert (effects["Many reads"].lost, effects["Many reads"].other) == (3, 3)
    assert (effects["A function in between"].lost, effects["A function in between"].other) == (3, 0)
    assert (effects["Nobody reads"].lost, effects["Nobody reads"].other) == (0, 3)
    assert (effects["Who reads"].kind, effects["Who reads"].lost) == ("hunt", 120)
    # Nothing was dropped, nothing alerted, nothing left behind.
    assert rows(tried, "AWSCloudTrail | count") == [(180,)]
    assert not tried.filters.versions()
    assert not tried.incidents.all()
    assert list((tried.home / "temporary").iterdir()) == []


@pytest.mark.usefixtures("own_rules")
def test_masking_is_counted_too(tried: Workspace) -> None:
    found = tried.try_filter(
        "AWSCloudTrail",
        "source | extend RequestParameters = iff(EventName == 'GetObject', '', RequestParameters)",
        last=timedelta(hours=1),
        progress=lambda done, total: None,
    )
    assert found.dropped == 0
    assert 0 < found.rows <= 61
    saving = found.savings[0]
    assert 0 < saving.bytes_saved < saving.bytes
    assert "Somebody stops logging" not in {effect.name for effect in found.effects}


def test_bytes_are_those_of_the_values_as_text() -> None:
    import pyarrow as pa

    columns = {
        "Time": pa.array([DAY.replace(tzinfo=None), None], pa.timestamp("us")),
        "Port": pa.array([443, None], pa.int64()),
        "Share": pa.array([0.5, None]),
        "Text": pa.array(["é", ""]),
        "Flag": pa.array([True, None]),
    }
    assert sizes(pa.table(columns)).tolist() == [28 + 3 + 3 + 2 + 4, 0]


def test_nothing_to_try_on(workspace: Workspace) -> None:
    with pytest.raises(UsageError, match="is empty"):
        workspace.try_filter("AWSCloudTrail", "source", last=timedelta(days=1), progress=lambda *_: None)


def try_it(workspace: Workspace, text: str, *, table: str = "AWSCloudTrail", days: float = 7) -> Trial:
    return workspace.try_filter(table, text, last=timedelta(days=days), progress=lambda done, total: None)


@pytest.fixture
def own_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rules and hunts of the home alone: those of the package take seconds."""
    whole = {"rules": content.rules, "hunts": content.hunts}
    of_package = {each.id for load in whole.values() for each in load()}

    def own(kind: str) -> Callable[..., tuple[Rule, ...]]:
        return lambda *args, **named: tuple(
            rule for rule in whole[kind](*args, **named) if rule.id not in of_package
        )

    for kind in whole:
        monkeypatch.setattr(content, kind, own(kind))


def put_rule(workspace: Workspace, number: int, name: str, query: str, **more: str) -> None:
    folder = workspace.home / "rules"
    folder.mkdir(exist_ok=True)
    text = RULE.format(id=f"00000000-0000-4000-8000-{number:012d}", name=name, query=query)
    for member, value in more.items():
        text = re.sub(rf"(?m)^{member}:.*\n|\Z", f"{member}: {value}\n", text, count=1)
    (folder / f"{number}.yaml").write_text(text)


@pytest.mark.usefixtures("own_rules")
def test_a_filter_that_keeps_all_costs_nothing(tried: Workspace) -> None:
    found = try_it(tried, "source")
    assert (found.dropped, [each for each in found.effects if not each.error]) == (0, [])


@pytest.mark.usefixtures("own_rules")
def test_windows_go_on_where_a_filter_drops_the_last_rows(workspace: Workspace, tmp_path: Path) -> None:
    """A rule that looks back further still finds what is there, and what is absent is found absent."""
    put_rule(
        workspace,
        1,
        "Long",
        "AWSCloudTrail | where EventName == 'StopLogging' | project EventName",
        queryPeriod="5h",
    )
    put_rule(workspace, 2, "Nobody", "AWSCloudTrail | summarize n = count() | where n == 0")
    names = {0: "GetObject", 70: "StopLogging", 300: "GetObject"}
    take(workspace, put(tmp_path / "log.json", [call(n, name) for n, name in names.items()]))
    effects = {
        each.name: each for each in try_it(workspace, "source | where EventName != 'GetObject'").effects
    }
    assert "Long" not in effects
    assert (effects["Nobody"].results, effects["Nobody"].lost, effects["Nobody"].other) == (3, 0, 2)
    effects = {each.name: each for each in try_it(workspace, "source | where false").effects}
    assert (effects["Long"].lost, effects["Nobody"].other) == (effects["Long"].results, 3)


@pytest.mark.usefixtures("own_rules")
def test_what_an_exception_takes_is_no_loss(tried: Workspace) -> None:
    lost = {each.name for each in try_it(tried, "source | where EventName != 'StopLogging'").effects}
    assert "Somebody stops logging" in lost
    draft, _ = tried.content.draft_exception(
        "Somebody stops logging",
        "EventName == 'StopLogging'",
        until=DAY + timedelta(days=30),
        reason="known",
        by="ana",
    )
    tried.content.exceptions.add(draft)
    lost = {each.name for each in try_it(tried, "source | where EventName != 'StopLogging'").effects}
    assert "Somebody stops logging" not in lost


@pytest.mark.usefixtures("own_rules")
def test_a_rule_without_its_history_is_told_as_unknown(tried: Workspace) -> None:
    put_rule(tried, 9, "New to it", "AWSCloudTrail | project EventName", learningPeriod="3d")
    found = try_it(tried, "source | where EventName != 'GetObject'")
    effect = next(each for each in found.effects if each.name == "New to it")
    assert (effect.lost, effect.error) == (0, "it needs 3.0 days of history, which the lake has not")


@pytest.mark.usefixtures("own_rules")
def test_a_short_history_is_said_to_be_short(tried: Workspace) -> None:
    notes = try_it(tried, "source | where EventName != 'GetObject'").notes
    assert notes == (
        "the table holds 3.0 hours of the 7.0 days asked for",
        "a month is 245 times that long: its figures are a guess",
    )
    apply(tried, "AWSCloudTrail", "source | where EventName != 'GetObject'")
    assert try_it(tried, "source").notes[0].startswith("a filter is in force")


@pytest.mark.usefixtures("own_rules")
def test_one_event_of_next_year_is_not_all_that_is_tried(tried: Workspace, tmp_path: Path) -> None:
    take(tried, put(tmp_path / "ahead.json", [call(400 * 1440, "GetObject")]))
    found = try_it(tried, "source | where EventName != 'GetObject'")
    assert (found.rows, found.dropped) == (180, 120)
    assert "rows after 2026-03-01 03:00 lie in the future and are left out" in found.notes


@pytest.mark.usefixtures("own_rules")
def test_now_is_the_moment_of_the_ingest(workspace: Workspace, tmp_path: Path) -> None:
    """In a trial, and for what is fetched again: a row that was kept then is not dropped today."""
    clock = workspace.clock
    assert isinstance(clock, Clock)
    text = "source | where TimeGenerated > ago(3h) and SrcPort > 4"
    clock.now = DAY + timedelta(hours=2)
    apply(workspace, "AWSVPCFlow", text)
    taken = take(workspace, flows(tmp_path / "flow.log", 20))
    assert (taken.rows, taken.filtered) == (15, 5)
    clock.now = DAY + timedelta(days=3)
    assert try_it(workspace, text, table="AWSVPCFlow").dropped == 0
    workspace.filters.remove("AWSVPCFlow", by="ana", now=clock())
    assert workspace.refetch("AWSVPCFlow", from_disk).rows == 5
    assert rows(workspace, "AWSVPCFlow | summarize count(), dcount(SrcPort)") == [(20, 20)]


def test_objects_of_one_minute_are_fetched_again_together(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version that dropped nothing is not even compiled."""
    clock = workspace.clock
    assert isinstance(clock, Clock)
    clock.now = DAY + timedelta(hours=1)
    apply(workspace, "AWSVPCFlow", "source | where SrcPort > 900")
    used = "source | where TimeGenerated > ago(3h) and SrcPort % 2 == 0"
    apply(workspace, "AWSVPCFlow", used)
    clock.now = DAY + timedelta(hours=2)
    for number in range(3):
        take(workspace, flows(tmp_path / f"{number}.log", 10, first=10 * number))
    assert clock.now < DAY + timedelta(hours=2, minutes=1)
    workspace.filters.remove("AWSVPCFlow", by="ana", now=clock())
    compiled, moments = list[str](), list[datetime]()
    transform, at = workspace.transform, RowTransform.at
    monkeypatch.setattr(
        workspace,
        "transform",
        lambda table, text: compiled.append(text) or transform(table, text),  # type: ignore[func-returns-value]
    )
    monkeypatch.setattr(RowTransform, "at", lambda self, moment: moments.append(moment) or at(self, moment))  # type: ignore[func-returns-value]
    done = workspace.refetch("AWSVPCFlow", from_disk)
    assert (done.objects, done.rows) == (3, 15)
    assert compiled == [used]
    assert moments == [DAY + timedelta(hours=2)]
    assert rows(workspace, "AWSVPCFlow | summarize count(), dcount(SrcPort)") == [(30, 30)]


@pytest.mark.usefixtures("own_rules")
def test_now_in_a_filter_of_a_young_table(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What hunts look back on begins before the first row. Each minute's filter is compiled once."""
    hunts = workspace.home / "hunts"
    hunts.mkdir()
    (hunts / "hunt.yaml").write_text(
        "id: 00000000-0000-4000-8000-0000000000ab\nname: All flows\ndescription: For a test.\n"
        "tactics: [Impact]\nquery: AWSVPCFlow | summarize count()\n"
    )
    clock = workspace.clock
    assert isinstance(clock, Clock)
    clock.now = DAY + timedelta(hours=2)
    take(workspace, flows(tmp_path / "flow.log", 20), flows(tmp_path / "later.log", 20, first=3600))
    clock.now = DAY + timedelta(hours=2, minutes=1)
    take(workspace, flows(tmp_path / "more.log", 10, first=20))
    clock.now = DAY + timedelta(days=1)
    monkeypatch.setattr("trailhawk.detect.trial._CHUNK_ROWS", 5)
    compiled: list[datetime] = []
    made = RowTransform.at
    monkeypatch.setattr(
        RowTransform,
        "at",
        lambda self, moment: compiled.append(moment) or made(self, moment),  # type: ignore[func-returns-value]
    )
    kept = "source | where TimeGenerated > ago(3h) and SrcPort > 4"
    found = try_it(workspace, kept, table="AWSVPCFlow")
    assert (found.rows, found.dropped, compiled) == (50, 5, [])
    # Where the engine wants a constant, each minute has its own.
    found = try_it(
        workspace,
        f"{kept} | extend Action = format_datetime(now(), iff(isnotnull(now()), 'HH', 'mm'))",
        table="AWSVPCFlow",
    )
    assert found.dropped == 5
    assert sorted(compiled) == [DAY + timedelta(hours=2, minutes=each) for each in (0, 1)]


@pytest.mark.parametrize(
    "text",
    [
        "source | where SrcPort % 7 != 0 and TimeGenerated > ago(70m)",
        (
            "let Then = now(-1h); source | where TimeGenerated between (Then .. now())"
            " | extend Action = strcat(Action, format_datetime(Then, 'yyyy-MM-dd HH:mm'), dayofweek(now()))"
        ),
        (
            "source | project-away Action | project TimeGenerated, Start = bin(now(), 1h), SrcPort,"
            " LogStatus = strcat(startofday(now()), now() - TimeGenerated)"
        ),
        (
            "source | where case(hourofday(now()) < 1, false, SrcPort > 10)"
            " | extend DstAddr = tostring(datetime_diff('second', now(), TimeGenerated))"
        ),
    ],
)
def test_a_moment_for_each_row_gives_what_each_minute_gives(
    workspace: Workspace, tmp_path: Path, text: str
) -> None:
    import pyarrow as pa

    take(workspace, flows(tmp_path / "flow.log", 60))
    found = workspace.query("AWSVPCFlow", now=DAY + timedelta(days=9)).table
    ingested = [DAY.replace(tzinfo=None) + timedelta(minutes=3 * (n % 40), seconds=n) for n in range(60)]
    rows = found.append_column(INGESTED, pa.array(ingested, pa.timestamp("us")))
    names = [column.name for column in workspace.lake.delta("AWSVPCFlow").table.stored]
    transform = workspace.transform("AWSVPCFlow", text)
    at_once = AsThen(transform)(rows, names)
    kept, minutes = np.zeros(60, bool), [moment.replace(second=0, tzinfo=UTC) for moment in ingested]
    for place, minute in enumerate(minutes):
        one = transform.at(minute)(rows.select(names).slice(place, 1))
        kept[place] = one.kept[0]
        if kept[place]:
            made = at_once.rows.slice(int(kept.sum()) - 1, 1)
            assert made.to_pylist() == one.rows.to_pylist()
    assert at_once.kept.tolist() == kept.tolist()


@pytest.fixture
def many_kinds(workspace: Workspace, tmp_path: Path) -> Workspace:
    """A home whose rules and hunts read a table in all kinds of ways, and eight hours of calls."""
    reads = "AWSCloudTrail | where EventName == 'GetObject'"
    queries = {
        "Rare": "AWSCloudTrail | where EventName == 'StopLogging' | project EventName, SourceIpAddress",
        "Joined": f"{reads} | join kind=inner (AWSCloudTrail | where EventName == 'StopLogging') on UserAgent"
        " | project EventName, EventName1",
        "Newly seen": "AWSCloudTrail | where TimeGenerated > ago(1h) and EventName == 'StopLogging'"
        " | join kind=leftanti (AWSCloudTrail | where TimeGenerated < ago(1h)) on SourceIpAddress"
        " | project SourceIpAddress",
        "One value": f"let Most = toscalar({reads} | count); AWSVPCFlow | where SrcPort < Most"
        " | project SrcPort",
        "Whoever": "union AWSCloudTrail, AWSVPCFlow | where TimeGenerated > ago(30m) | summarize n = count()"
        " by SourceIpAddress | where n > 9",
        "In a list": f"AWSVPCFlow | where SrcAddr in ({reads} | distinct SourceIpAddress) | project SrcPort",
        "Twice": f"let Reads = materialize({reads}); Reads | where UserAgent has 'cli' | project UserAgent"
        " | union (Reads | where SourceIpAddress endswith '3' | project UserAgent = SourceIpAddress)",
        "Wide": f"{reads} | evaluate pivot(SourceIpAddress, count(), UserAgent)",
        "At night": f"{reads} | where hourofday(now()) < 9 | project UserAgent",
        "Nobody": "AWSCloudTrail | where EventName == 'StopLogging' | summarize n = count() | where n == 0",
        "Broken": "AWSCloudTrail | where Nothing == 1",
    }
    for number, (name, query) in enumerate(queries.items()):
        put_rule(workspace, number, name, query, queryPeriod="6h" if name == "Newly seen" else "1h")
    put_rule(workspace, 20, "Once a day", f"{reads} | project UserAgent", suppression="1d")
    put_rule(
        workspace, 21, "Too few", f"{reads} | project UserAgent", triggerOperator="lt", triggerThreshold="3"
    )
    put_rule(workspace, 22, "New to it", f"{reads} | project UserAgent", learningPeriod="9d")
    hunts = workspace.home / "hunts"
    hunts.mkdir()
    for number, query in enumerate(
        (f"{reads} | summarize count() by UserAgent", "AWSCloudTrail | where EventName == 'StopLogging'")
    ):
        (hunts / f"{number}.yaml").write_text(
            f"id: 00000000-0000-4000-8000-0000000000a{number}\nname: Hunt {number}\ndescription: Test.\n"
            f'tactics: [Impact]\nquery: "{query}"\n'
        )
    names = ["GetObject", "HeadObject", "GetObject", "ListBuckets"]
    calls = [
        call(
            31 * n,
            "StopLogging" if n % 9 == 7 else names[n % 4],
            userAgent=f"cli/{n % 5}",
            sourceIPAddress=f"10.0.0.{n % 4}",
        )
        for n in range(16)
    ]
    take(workspace, put(tmp_path / "log.json", calls), flows(tmp_path / "flow.log", 60))
    return workspace


FILTERS = [
    (
        "source | extend UserAgent = iff(UserAgent == 'cli/1', 'masked', UserAgent)"
        " | where not(EventName == 'GetObject' and SourceIpAddress endswith '2')"
    ),
    "source | extend TimeGenerated = iff(EventName == 'GetObject', TimeGenerated + 2h, TimeGenerated)",
    "source | where EventName != 'StopLogging' or TimeGenerated > datetime(2026-03-01 04:00)",
    "source | where EventName != 'HeadObject'",
    "source | where not(EventName == 'GetObject' and UserAgent == 'cli/3')",
    "source | extend SourceIpAddress = iff(EventName == 'StopLogging', '', SourceIpAddress)",
    "source | where TimeGenerated > ago(1d)",
    "source",
]


@pytest.mark.usefixtures("own_rules")
@pytest.mark.parametrize("text", FILTERS[: int(os.environ.get("TRAILHAWK_TRIED_FILTERS", "3"))])
def test_only_what_is_reached_is_run_and_the_answer_is_the_same(
    many_kinds: Workspace, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """As if every window of every rule, and every hunt, were run over both states of the table."""
    run: list[str] = []
    query = DuckDBEngine.query
    monkeypatch.setattr(
        DuckDBEngine,
        "query",
        lambda *args, **named: run.append(args[1]) or query(*args, **named),  # type: ignore[func-returns-value]
    )
    found, few = try_it(many_kinds, text), len(run)
    monkeypatch.setattr("trailhawk.detect.trial.reach", lambda *_, **__: Everywhere())
    monkeypatch.setattr("trailhawk.detect.trial.reads_any", lambda *_: True)
    plain = try_it(many_kinds, text)
    assert found == plain
    assert {each.name for each in plain.effects} >= {"Broken", "New to it"}
    assert few < (len(run) - few) * 0.95


class Everywhere:
    """A reach that leaves out no window."""

    def touches(self, at: Moments) -> Mask:
        return np.ones(len(at), bool)


@pytest.mark.usefixtures("own_rules")
def test_hunts_see_what_was_before(workspace: Workspace, tmp_path: Path) -> None:
    """A hunt for what is new compares with days before those that are tried."""
    hunts = workspace.home / "hunts"
    hunts.mkdir()
    query = (
        "let Known = AWSCloudTrail | where TimeGenerated < datetime({{StartTimeISO}}) | distinct EventName; "
        "AWSCloudTrail | where TimeGenerated >= datetime({{StartTimeISO}}) | where EventName !in (Known)"
        " | distinct EventName"
    )
    (hunts / "hunt.yaml").write_text(
        "id: 00000000-0000-4000-8000-0000000000aa\nname: What is new\ndescription: For a test.\n"
        f'tactics: [Impact]\nquery: "{query}"\n'
    )
    calls = [call(0, "GetObject"), call(3 * 1440, "GetObject"), call(3 * 1440 + 9, "StopLogging")]
    workspace.clock.now = DAY + timedelta(days=4)  # type: ignore[attr-defined]  # the test's own clock
    take(workspace, put(tmp_path / "log.json", calls))
    effects = try_it(workspace, "source | where EventName != 'GetObject'", days=1).effects
    assert "What is new" not in {each.name for each in effects}
    (effect,) = (
        each
        for each in try_it(workspace, "source | where EventName != 'StopLogging'", days=1).effects
        if each.name == "What is new"
    )
    assert (effect.results, effect.lost) == (1, 1)


def test_only_tables_of_logs_take_a_filter(workspace: Workspace) -> None:
    with pytest.raises(UsageError, match="IngestLedger takes no filter"):
        workspace.transform("IngestLedger", "source")


def test_the_hash_of_a_large_object_stands_in_its_last_part() -> None:
    """Of which perhaps nothing was dropped; parts of one batch come in any order."""
    ledger = [
        {
            "TimeGenerated": DAY,
            "Object": "s3:b/k",
            "Location": "s3://b/k",
            "Bucket": "b",
            "Key": "k",
            "Sha256": digest,
            "Source": "vpcflow",
            "State": "part",
            "Rows": 10,
            "Duplicates": 0,
            "Filtered": filtered,
        }
        for digest, filtered in (("", 3), ("abc", 0), ("", 2))
    ]
    (found,) = dropped(ledger, [])
    assert (found.sha256, found.rows) == ("abc", 5)


def test_prices(tmp_path: Path) -> None:
    found = prices()
    assert found.sentinel.of(1e9) == found.sentinel.usd > found.s3.usd > 0
    assert all(price.source.startswith("https://") and price.date for price in (found.sentinel, found.s3))
    assert PRICES.exists()
    own = tmp_path / "prices.yaml"
    for text in ("", "[", "sentinel_analytics: {usd: x, bytes: 1}", "sentinel_analytics: {usd: 1, bytes: 0}"):
        own.write_text(text)
        with pytest.raises(UsageError, match=r"prices\.yaml"):
            prices(own)


@pytest.mark.usefixtures("own_rules")
def test_from_the_command_line(tried: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from trailhawk.cli import run

    home, file = ["--home", str(tried.home)], tmp_path / "drop.kql"
    file.write_text("source | where EventName != 'GetObject'")
    assert run([*home, "filter", "try", str(file), "--quiet"]) == 0
    shown = capsys.readouterr().out
    assert "120 of 180 rows dropped (66.7%)" in shown
    assert "Many reads" in shown
    assert run([*home, "filter", "apply", str(file), "--by", "ana", "--note", "noise"]) == 0
    assert run([*home, "filter", "list", "--format", "json"]) == 0
    assert '"by":"ana"' in capsys.readouterr().out
    log = put(tmp_path / "more.json", [call(n, "GetObject") for n in range(500, 510)])
    assert run([*home, "ingest", str(log), "--quiet", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["filtered"] == 10
    assert run([*home, "filter", "remove", "AWSCloudTrail"]) == 0
    capsys.readouterr()
    assert run([*home, "filter", "refetch", "AWSCloudTrail", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 10
    log.write_text("[]")
    file.write_text("source | summarize count()")
    for command in ("try", "apply"):
        assert run([*home, "filter", command, str(file)]) == 1
        assert "unsupported: summarize in an ingest transform at 1:10" in capsys.readouterr().err
    assert run([*home, "filter", "try", str(file), "--last", "soon"]) == 2
    assert run([*home, "filter", "try", str(file), "--table", "Nothing"]) == 1
