"""One question asked in several ways has one answer: operators over constants, columns and values of earlier
rows, and random queries with the passes and without, in parts and whole.

TRAILHAWK_QUERIES=2000 for a long run, TRAILHAWK_QUERIES_SEED for another one.
"""

from __future__ import annotations

import json
import math
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from support.catalog import NoTables
from trailhawk.engine.duckdb import DuckDBEngine, Limits
from trailhawk.errors import BindingError, QueryError
from trailhawk.kql.schema import INGESTION_TIME
from trailhawk.lake import Lake
from trailhawk.lake.compaction import compact
from trailhawk.lake.table import described, fitted
from trailhawk.sources.cloudtrail import TABLE
from trailhawk.sources.promote import promoted

NOW = datetime(2026, 3, 5, tzinfo=UTC)
DAY = datetime(2026, 3, 1)
SIZE = int(os.environ.get("TRAILHAWK_QUERIES", "25"))
SEED = int(os.environ.get("TRAILHAWK_QUERIES_SEED", "1"))
LIMITS = Limits(threads=1, few_rows=True)

VALUES = {
    "bool": ("true", "false", "bool(null)"),
    "int": ("int(0)", "int(7)", "int(-1)", "int(null)"),
    "long": ("0", "3", "-7", "9223372036854775807", "long(null)"),
    "real": ("0.0", "0.1", "2.2", "-2.5", "1e17", "-1e-17", "real(nan)", "real(+inf)", "real(null)"),
    "decimal": (
        *("decimal(0)", "decimal(0.1)", "decimal(2.2)", "decimal(-2.25)"),
        *("decimal(1e17)", "decimal(-1e-17)", "decimal(null)"),
    ),
    "string": ("''", "'a'", "'user/a'", "'/A'", "'a-b'", "'g-é'", "'%_'", "'x a'"),
    "datetime": ("datetime(2024-02-29)", "datetime(1969-12-31 23:59:59.5)", "datetime(null)"),
    "timespan": ("0s", "1d", "-90m", "timespan(null)"),
    "dynamic": ("dynamic(null)", "dynamic([1])", "dynamic('a')", "dynamic(5)", "dynamic({'a': null})"),
}
NUMBERS = ("int", "long", "real", "decimal")
TEXT_OPERATORS = tuple(
    f"{no}{base}{case}"
    for base in ("has", "contains", "startswith", "endswith", "hasprefix", "hassuffix")
    for no in ("", "!")
    for case in ("", "_cs")
)


def forms() -> Iterator[tuple[str, tuple[str, str]]]:
    """Expressions over {0} and {1}, and the types of these."""
    for operator in (*TEXT_OPERATORS, "=~", "!~", "==", "!="):
        yield f"{{0}} {operator} {{1}}", ("string", "string")
    for left in NUMBERS:
        for right in NUMBERS:
            for operator in ("+", "-", "*", "/", "%", "<", ">=", "==", "!="):
                yield f"{{0}} {operator} {{1}}", (left, right)
            yield "bin({0}, {1})", (left, right)
    for operator in ("/", "*"):
        yield f"{{0}} {operator} {{1}}", ("timespan", "real")
    for type_ in VALUES:
        yield "strcat({0}, '|', {1})", (type_, "string")
        yield "coalesce({0}, {1})", (type_, type_)
        yield "iff(isnull({0}) or isempty(tostring({1})), 1, 2)", (type_, type_)


def answers(engine: DuckDBEngine, queries: Sequence[str]) -> list[object]:
    """The one value that each query gives, or what is wrong with it."""
    found: list[object] = []
    for query in queries:
        try:
            found.append(str(engine.query(query, now=NOW).tuples()[-1][-1]))
        except BindingError:
            raise
        except QueryError as error:
            found.append(f"refused: {error.code}")
    return found


def test_constants_columns_and_earlier_rows() -> None:
    engine = DuckDBEngine(NoTables(), limits=LIMITS)
    chance = random.Random(SEED)
    every = list(forms())
    for form, types in chance.sample(every, min(10 * SIZE, len(every))):
        one, other = (chance.choice(VALUES[type_]) for type_ in types)
        if "nan" in one + other and "null" in one + other:
            continue  # Neither is in an order; which of the two an order says is nobody's concern.
        table = f"datatable(a: {types[0]}, b: {types[1]}) [{one}, {other}, {one}, {other}]"
        over = form.format("a", "b")
        ways = [f"print {form.format(one, other)}", f"{table} | project {over}"]
        kind = engine.query(ways[1], now=NOW).columns[0].type.value
        ways.append(
            f"{table} | serialize | scan declare (c: {types[0]}, d: {types[1]}, given: {kind}) with"
            f" (step s: true => given = {form.format('s.c', 's.d')}, c = a, d = b;)"
        )
        assert len(set(answers(engine, ways))) == 1, ways


# --- queries ------------------------------------------------------------------------------------------------

PARAMETERS = (
    "",
    "[]",
    '{"bucketName":"cards","key":"a/b.csv"}',
    '{"bucketName":"Cards","n":5}',
    '{"bucketName":"","n":null}',
    '{"bucketName":null,"list":[1,null,"x"]}',
    '{"bucketName":{"x":1},"userName":"ünal"}',
    '{"key":"k%_","list":[]}',
)
TEXTS = ("''", "'cards'", "'a'", "'ann'", "'/b'", "'GetObject'", "'ünal'", "'s3.amazonaws.com'", "'10.0.0.1'")
COLUMNS = ("EventName", "UserAgent", "SourceIpAddress", "RequestParameters", "Type", "AwsEventId")
PATHS = ("bucketName", "key", "n", "list", "list[1]", "userName", "other")


def rows(chance: random.Random, day: int, first: int) -> pa.Table:
    made = [
        {
            "TimeGenerated": DAY + timedelta(days=day, seconds=chance.choice((0, 86399, 4000, 50000))),
            "AwsEventId": f"e{first + place:04}",
            "EventName": chance.choice(("GetObject", "getobject", "AssumeRole", "")),
            "UserAgent": chance.choice(("aws-cli/2.1", "[Boto3/1.26]", "", "a/b")),
            "SourceIpAddress": chance.choice(("10.0.0.1", "10.0.0.12", "s3.amazonaws.com", "")),
            "RequestParameters": chance.choice(PARAMETERS),
            "ReadOnly": chance.choice((True, False, None)),
            "SessionCreationDate": chance.choice((None, DAY)),
        }
        for place in range(25)
    ]
    table = described(made, TABLE)
    times = pa.array([DAY + timedelta(days=day, hours=1)] * len(made), pa.timestamp("us"))
    return table.append_column(INGESTION_TIME, times)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> DuckDBEngine:
    """Three days: older files lack the promoted paths, one day is compacted, small files have an index."""
    chance = random.Random(SEED)
    patch = pytest.MonkeyPatch()
    patch.setattr("trailhawk.lake.terms.LEAST_ROWS", 10)
    lake = Lake(tmp_path_factory.mktemp("lake"), [TABLE])
    delta = lake.delta(TABLE.name)
    delta.create()
    for number in range(6):
        table = rows(chance, number // 2, 25 * number)
        if number % 3:
            for item in TABLE.promoted:
                table = table.append_column(item.hidden, promoted(table[item.column], item.path))
            table = fitted(table, TABLE)
        delta.commit(delta.stage(table))
    assert compact(delta, (DAY + timedelta(days=1)).date(), [p for p in delta.live() if "03-02" in p])
    patch.undo()
    return DuckDBEngine(lake, limits=LIMITS)


class Maker:
    """Random expressions over AWSCloudTrail."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance

    def path(self) -> str:
        return f"parse_json(RequestParameters).{self.chance.choice(PATHS)}"

    def text(self) -> str:
        column, path, other = self.chance.choice(COLUMNS), self.path(), self.chance.choice(COLUMNS)
        return self.chance.choice(
            (column, column, f"tostring({path})", f"strcat({column}, {other})", f"tolower({column})")
        )

    def time(self) -> str:
        return self.chance.choice(
            ("datetime(2026-03-02)", "ago(3d)", "datetime(2026-03-01 23:59:59)", "now()")
        )

    def predicate(self, depth: int = 2) -> str:
        chance = self.chance
        if depth and chance.random() < 0.4:
            one, other = self.predicate(depth - 1), self.predicate(depth - 1)
            return chance.choice((f"({one} and {other})", f"({one} or {other})", f"not({one})"))
        sought, listed = chance.choice(TEXTS), ", ".join(chance.sample(TEXTS, 2))
        return chance.choice(
            (
                f"{self.text()} {chance.choice((*TEXT_OPERATORS, '==', '!=', '=~'))} {sought}",
                f"{self.text()} {chance.choice(('in', '!in', 'in~', 'has_any', 'has_all'))} ({listed})",
                f"{self.path()} {chance.choice(('==', '!=', 'has'))} {sought}",
                f"tolong({self.path()}) > 3",
                f"isnull({self.path()})",
                f"TimeGenerated {chance.choice(('<', '>=', '=='))} {self.time()}",
                f"SessionCreationDate {chance.choice(('<', '!='))} {self.time()}",
                "ReadOnly",
                f"{self.text()} in ((AWSCloudTrail | where {sought} == EventName | project UserAgent))",
            )
        )

    def steps(self) -> str:
        """Operators that leave the columns and AwsEventId one row's own."""
        chance = self.chance
        step: Callable[[], str] = lambda: chance.choice(  # noqa: E731
            (
                f"| where {self.predicate()}",
                f"| extend UserAgent = {self.text()}",
                f"| extend RequestParameters = iff({self.predicate(1)}, RequestParameters, '')",
                f"| sort by {chance.choice(COLUMNS)} asc, AwsEventId asc | take {chance.choice((5, 60))}",
                f"| join kind=leftsemi (AWSCloudTrail | where {self.predicate(1)}) on EventName",
                f"| summarize arg_max(AwsEventId, *) by {chance.choice(('EventName', 'UserAgent'))}",
                f"| extend TimeGenerated = TimeGenerated + {chance.choice(('1d', '0s', '-1d'))}",
            )
        )
        return "AWSCloudTrail " + " ".join(step() for _ in range(chance.randrange(3)))


def counted(engine: DuckDBEngine, query: str) -> Counter[str]:
    def shown(value: object) -> object:
        return "nan" if isinstance(value, float) and math.isnan(value) else value

    found = engine.query(query, now=NOW).tuples()
    return Counter(json.dumps([shown(value) for value in row], default=str) for row in found)


SHOWN = "project AwsEventId, EventName, UserAgent, x = tostring(parse_json(RequestParameters).bucketName)"


@pytest.mark.parametrize("number", range(SIZE))
def test_a_query_in_parts_and_whole(
    engine: DuckDBEngine, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = Maker(random.Random(1000 * SEED + number))
    source, test, key = make.steps(), make.predicate(), make.text()
    whole = counted(engine, f"{source} | {SHOWN}")
    passed = counted(engine, f"{source} | where {test} | {SHOWN}")
    failed = counted(engine, f"{source} | where not({test}) | {SHOWN}")
    unknown = counted(engine, f"{source} | where isnull({test}) | {SHOWN}")
    assert passed + failed + unknown == whole, (source, test)
    apart = ", ".join(
        f"({source} | where {part})" for part in ("ReadOnly", "not(ReadOnly)", "isnull(ReadOnly)")
    )
    for same in (
        f"{source} | extend t = {test} | where t | {SHOWN}",
        f"let T = materialize({source}); T | where {test} and toscalar(T | count) >= 0 | {SHOWN}",
        f"let f = (T: (*)) {{ T | where {test} }}; f(({source})) | {SHOWN}",
        f"union {apart} | where {test} | {SHOWN}",
    ):
        assert counted(engine, same) == passed, same
    groups = f"{source} | where {test} | summarize n = count(), latest = max(TimeGenerated) by k = {key}"
    (total,) = counted(engine, f"{groups} | summarize sum(n)")
    assert json.loads(total) == [passed.total()], groups
    columns = engine.query(groups, now=NOW).columns
    schema = engine.query(f"{groups} | getschema | project ColumnName, ColumnType", now=NOW).tuples()
    assert schema == [(column.name, column.type.value) for column in columns]
    optimized = counted(engine, groups)
    if "arg_max" in source:  # All columns of the table: the engine takes the passes to do it.
        return
    for module in ("trailhawk.kql.compiler", "trailhawk.kql.passes", "trailhawk.engine.duckdb"):
        monkeypatch.setattr(f"{module}.optimize", lambda plan, needed=None: plan)
    assert counted(engine, groups) == optimized, groups
    assert counted(engine, f"{source} | where {test} | {SHOWN}") == passed, (source, test)
