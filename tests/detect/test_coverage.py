"""Coverage: what a technique's standing follows from, and the forms it is shown in."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Final

import pytest
from rich.console import Console

from trailhawk.cli import run
from trailhawk.connectors.health import StreamHealth
from trailhawk.detect.attack_table import attack_table
from trailhawk.detect.canary import LastCanary
from trailhawk.detect.coverage import Coverage, Covered, Flow, Standing, TableFlow, coverage, table_flows
from trailhawk.detect.proof import Holding
from trailhawk.detect.rule import Rule, RuleKind, Severity
from trailhawk.kql.schema import INGESTION_TIME
from trailhawk.lake.table import fitted
from trailhawk.render.coverage import as_json, navigator, page, print_matrix
from trailhawk.render.text import to_json

NOW: Final = datetime(2026, 3, 2, 12, tzinfo=UTC)
YESTERDAY: Final = NOW - timedelta(days=1)
PASSED: Final = NOW - timedelta(days=1)
TRAIL, FLOW = "AWSCloudTrail", "AWSVPCFlow"


def made(name: str, *techniques: str, table: str = TRAIL, hunt: bool = False) -> Rule:
    return Rule(
        id=name,
        name=name,
        query=table,
        kind=RuleKind.HUNTING if hunt else RuleKind.SCHEDULED,
        severity=Severity.MEDIUM,
        techniques=techniques,
        data_types=(table,),
    )


def laid(
    *content: Rule,
    flows: Mapping[str, Flow] = {TRAIL: Flow.ARRIVING},
    canaries: Mapping[str, bool] = {},
    disabled: Iterable[str] = (),
    version: int = 19,
) -> Coverage:
    off = set(disabled)
    return coverage(
        content,
        attack=attack_table(),
        version=version,
        reads=lambda rule: frozenset(rule.query.split()) if rule.query else None,
        flows={name: TableFlow(name, flow, 0, None) for name, flow in flows.items()},
        enabled=lambda rule: rule.id not in off,
        canaries={
            name: LastCanary(
                name, name, YESTERDAY, passed, "", "" if passed else "no alert", "object", PASSED
            )
            for name, passed in canaries.items()
        },
        now=NOW,
    )


def of(found: Coverage, number: str) -> Covered:
    return next(each for each in found.matrix if each.technique.id == number)


def test_without_content_nothing_is_covered() -> None:
    found = laid()
    assert {each.standing for each in found.matrix} == {Standing.NONE}
    assert found.counted()[Standing.NONE] == len(found.matrix) > 90


@pytest.mark.parametrize(
    ("content", "options", "standing"),
    [
        ([made("r", "T1530")], {}, Standing.WATCHED),
        ([made("r", "T1530")], {"canaries": {"r": True}}, Standing.PROVEN),
        ([made("r", "T1530")], {"disabled": ["r"], "canaries": {"r": True}}, Standing.OFF),
        ([made("r", "T1530")], {"flows": {TRAIL: Flow.SILENT}}, Standing.BLIND),
        ([made("r", "T1530")], {"flows": {TRAIL: Flow.NEVER}}, Standing.BLIND),
        ([made("r", "T1530")], {"flows": {TRAIL: Flow.PARTLY}}, Standing.WATCHED),
        ([made("r", "T1530")], {"canaries": {"r": False}}, Standing.FAILING),
        ([made("r", "T1530"), made("s", "T1530")], {"canaries": {"r": False}}, Standing.WATCHED),
        ([made("h", "T1530", hunt=True)], {}, Standing.HUNTED),
        ([made("h", "T1530", hunt=True)], {"canaries": {"h": True}}, Standing.HUNTED),
        ([made("r", "T1530"), made("h", "T1530", hunt=True)], {"disabled": ["r"]}, Standing.HUNTED),
        (
            [made("r", "T1530"), made("s", "T1530", table=FLOW)],
            {"flows": {FLOW: Flow.NEVER}},
            Standing.WATCHED,
        ),
    ],
)
def test_how_a_technique_stands(content: list[Rule], options: dict[str, object], standing: Standing) -> None:
    found = laid(*content, **options)  # type: ignore[arg-type]  # the options of the case, by name
    assert of(found, "T1530").standing is standing
    assert {each.standing for each in found.matrix} == {Standing.NONE, standing}


def test_a_rule_of_two_tables_is_partly_fed_by_one() -> None:
    rule = replace(made("r", "T1530"), query=f"{TRAIL} {FLOW}")
    found = laid(rule, flows={TRAIL: Flow.ARRIVING, FLOW: Flow.NEVER})
    assert found.sources[0].flow is Flow.PARTLY
    assert of(found, "T1530").tables == (TRAIL, FLOW)
    assert laid(rule, flows={TRAIL: Flow.SILENT, FLOW: Flow.NEVER}).sources[0].flow is Flow.SILENT


def test_tables_that_hold_no_logs_are_not_waited_for() -> None:
    found = laid(replace(made("r", "T1530"), query="SecurityAlert"), flows={TRAIL: Flow.NEVER})
    assert (found.sources[0].tables, found.sources[0].flow) == ((), Flow.ARRIVING)


def test_a_query_that_does_not_compile_is_taken_at_its_word_and_marked() -> None:
    source = laid(replace(made("r", "T1530"), query="")).sources[0]
    assert source.tables == (TRAIL,)
    assert "does not compile" in source.reason


def test_a_sub_technique_counts_for_its_technique_and_not_for_its_siblings() -> None:
    found = laid(made("r", "T1098.001", "T1098"))
    assert of(found, "T1098").standing is of(found, "T1098.001").standing is Standing.WATCHED
    assert len(of(found, "T1098").sources) == 1
    assert of(found, "T1098.003").standing is Standing.NONE


def test_a_technique_stands_in_the_columns_of_the_version_shown() -> None:
    rule = made("r", "T1562.008")
    new, old = laid(rule), laid(rule, version=18)
    assert of(new, "T1685.002").standing is of(old, "T1562.008").standing is Standing.WATCHED
    columns = {tactic.name: {each.technique.id for each in column} for tactic, column in new.columns}
    assert "T1685.002" in columns["DefenseImpairment"]
    assert "T1078.004" in columns["Stealth"] & columns["InitialAccess"]
    assert "DefenseEvasion" not in columns
    assert "DefenseEvasion" in {tactic.name for tactic, _ in old.columns}


def test_what_is_beyond_the_matrix_is_told() -> None:
    found = laid(made("r", "T1567", "T4242"))
    assert [each.technique.id for each in found.beyond] == ["T1567"]
    assert found.unknown == ("T4242",)


# --- the data ----------------------------------------------------------------------------------------------


def stream(table: str, name: str, state: str) -> StreamHealth:
    zero = timedelta(0)
    return StreamHealth(name, table, "", "", state, "", 9, NOW, zero, zero, None, None, 1, 1)


@pytest.fixture
def flows(holding: Holding) -> dict[str, TableFlow]:
    """Four tables: with a row an hour ago, with an older row, empty, with a silent stream."""
    import pyarrow as pa

    from trailhawk.sources import TABLES

    tables = {table.name: table for table in TABLES}

    def rows(name: str, *ages: int) -> pa.Table:
        times = [(NOW - timedelta(hours=age)).replace(tzinfo=None) for age in ages]
        values = pa.array(times, pa.timestamp("us"))
        return fitted(pa.table({"TimeGenerated": values, INGESTION_TIME: values}), tables[name])

    given = {TRAIL: (1, 30), FLOW: (48,), "AWSGuardDuty": (), "AWSWAF": (1, 2)}
    engine = holding({name: rows(name, *ages) for name, ages in given.items()})
    newest = {name: NOW - timedelta(hours=min(ages)) if ages else None for name, ages in given.items()}
    streams = [stream("AWSWAF", "a", "ok"), stream("AWSWAF", "b", "silent"), stream(TRAIL, "c", "learning")]
    return table_flows(engine, newest, streams, now=NOW)


def test_how_the_data_comes(flows: dict[str, TableFlow]) -> None:
    assert {name: (each.flow, each.rows) for name, each in flows.items()} == {
        TRAIL: (Flow.ARRIVING, 1),
        FLOW: (Flow.SILENT, 0),
        "AWSGuardDuty": (Flow.NEVER, 0),
        "AWSWAF": (Flow.PARTLY, 2),
    }
    assert flows["AWSWAF"].silent == ("b",)


def test_old_data_is_looked_at_as_of_its_time(holding: Holding) -> None:
    import pyarrow as pa

    from trailhawk.sources import TABLES

    times = pa.array(
        [(NOW + timedelta(days=day)).replace(tzinfo=None) for day in (-3, -2, 5)], pa.timestamp("us")
    )
    trail = next(table for table in TABLES if table.name == TRAIL)
    engine = holding({TRAIL: fitted(pa.table({"TimeGenerated": times, INGESTION_TIME: times}), trail)})
    newest = {TRAIL: NOW + timedelta(days=5)}
    for now, rows, flow in ((NOW, 0, Flow.SILENT), (NOW - timedelta(days=1.5), 1, Flow.ARRIVING)):
        found = table_flows(engine, newest, [], now=now)[TRAIL]
        assert (found.rows, found.flow) == (rows, flow)


def test_where_every_stream_is_silent_the_table_is(holding: Holding) -> None:
    found = table_flows(
        holding({}), {TRAIL: NOW - timedelta(days=3)}, [stream(TRAIL, "a", "silent")], now=NOW
    )
    assert found[TRAIL].flow is Flow.SILENT


# --- the forms ---------------------------------------------------------------------------------------------

HOSTILE = 'Rule <script>alert(1)</script> & "x" \x1b[31m\u202e'


def printed(found: Coverage, width: int, *, colour: bool = False) -> str:
    out = StringIO()
    console = Console(
        file=out,
        width=width,
        force_terminal=colour,
        color_system="truecolor" if colour else None,
        highlight=False,
    )
    print_matrix(console, found, width=width)
    return out.getvalue()


@pytest.mark.parametrize("width", [40, 80, 120, 160, 200])
def test_the_matrix_fits_the_terminal(width: int) -> None:
    found = laid(made("r", "T1530"), made("h", "T1530", hunt=True))
    matrix = printed(found, width).partition("ATT&CK 19")[0]
    lines = matrix.splitlines()
    assert max(map(len, lines)) <= width
    assert sum(line.count("(TA") for line in lines) == len(found.columns)
    assert len(re.findall(r"\+ T1530 .*?1r 1h", matrix)) == 1
    assert len(re.findall(r"(?:^|  )\. +(?:T\d{4}|\.\d{3}|T\d{4}\.\d{3}) ", matrix, re.MULTILINE)) == sum(
        each.standing is Standing.NONE for _, column in found.columns for each in column
    )


def test_the_wider_the_terminal_the_shorter_the_matrix() -> None:
    heights = [len(printed(laid(), width).splitlines()) for width in (80, 120, 200)]
    assert heights == sorted(heights, reverse=True)
    assert heights[-1] < 60


def test_colours_add_nothing_that_the_marks_do_not_say() -> None:
    found = laid(made("r", "T1530"), canaries={"r": True})
    coloured = printed(found, 120, colour=True)
    assert "\x1b[" in coloured
    plain = re.sub(r"\x1b\[[\d;]*m", "", coloured)
    assert [line.rstrip() for line in plain.splitlines()] == [
        line.rstrip() for line in printed(found, 120).splitlines()
    ]


class _Page(HTMLParser):
    """The tags of a page, ids, links, and text outside of its style."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.addresses: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in ("meta", "br"):
            self.open.append(tag)
        for name, value in attrs:
            if name == "id" and value:
                self.ids.add(value)
            if name == "href" and value:
                self.links.add(value)
            if name in ("src", "action"):
                self.addresses.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_safe_and_needs_no_network() -> None:
    found = laid(made(HOSTILE, "T1530"), made("h", "T1098.001", hunt=True), canaries={HOSTILE: True})
    text = page(found)
    read = _Page()
    read.feed(text)
    assert read.open == []
    assert "script" not in read.tags
    assert read.addresses == []
    assert "://" not in text
    assert "url(" not in text
    assert read.links == {"#T1530", "#T1098", "#T1098.001"}
    assert {link[1:] for link in read.links} <= read.ids
    assert "&lt;script&gt;" in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "@media print" in text
    assert "2026-03-01T12:00:00Z" in text


def test_the_layer_is_one_of_format_4_5() -> None:
    found = laid(made("r", "T1562.008", "T1567"), made("h", "T1562.008", hunt=True), canaries={"r": True})
    layer = json.loads(to_json(navigator(found)))
    assert layer["versions"] == {"attack": "19", "navigator": "4.9.0", "layer": "4.5"}
    assert layer["domain"] == "enterprise-attack"
    assert layer["gradient"]["minValue"] < layer["gradient"]["maxValue"]
    by_id = {each["techniqueID"]: each for each in layer["techniques"]}
    assert len(by_id) == len(layer["techniques"]) == len(found.matrix) + 1
    shown = by_id["T1685.002"]
    assert (shown["score"], shown["comment"]) == (100, "r\nhunt: h")
    assert {"name": "last canary", "value": "2026-03-01T12:00:00Z"} in shown["metadata"]
    assert all(set(each) == {"name", "value"} and each["value"] for each in shown["metadata"])
    assert shown["links"] == [{"label": "ATT&CK", "url": "https://attack.mitre.org/techniques/T1685/002/"}]
    assert by_id["T1490"]["score"] == 0
    assert "T1567" in by_id


def test_the_json_has_every_technique_with_its_rules_and_data() -> None:
    shown = json.loads(to_json(as_json(laid(made("r", "T1530"), flows={TRAIL: Flow.NEVER}))))
    (collection,) = [each for each in shown["tactics"] if each["id"] == "TA0009"]
    (technique,) = [each for each in collection["techniques"] if each["id"] == "T1530"]
    assert technique["standing"] == "blind"
    assert technique["rules"][0]["data"] == "never"
    assert shown["data"] == [
        {"table": TRAIL, "state": "never", "rows": 0, "last": None, "silent": [], "rules": 1, "hunts": 0}
    ]
    assert shown["sums"]["blind"] == 1


def test_the_command_writes_page_and_layer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home, page_, layer = str(tmp_path / "home"), tmp_path / "c.html", tmp_path / "l.json"
    assert run(["--home", home, "coverage", "--html", str(page_), "--navigator", str(layer), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["unknown"] == []
    assert shown["sums"]["blind"] > 50
    assert page_.read_text().startswith("<!DOCTYPE html>")
    assert json.loads(layer.read_text())["name"] == "Trailhawk"
    assert run(["--home", home, "coverage", "--attack", "17"]) == 2
