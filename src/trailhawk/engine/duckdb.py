"""DuckDB as the embedded engine: plans over the lake's Parquet files, within limits of memory and time."""

from __future__ import annotations

import atexit
import copy
import itertools
import os
import re
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import duckdb
from duckdb.func import FunctionNullHandling, PythonUDFType

from trailhawk.engine.footers import Footers
from trailhawk.engine.python import applied, frame, udf
from trailhawk.engine.reading import MANY, Files, Group, Reading, Tables
from trailhawk.engine.result import Result, TimeRange
from trailhawk.engine.watch import WATCHER, Stopped, aside
from trailhawk.errors import LakeError, LimitError, QueryError
from trailhawk.kql.compiler import Checked, Compiled, check, compile_query
from trailhawk.kql.functions.python import PREFIX, PYTHON
from trailhawk.kql.functions.sql import SQL_TYPES
from trailhawk.kql.literals import DATETIME_MAX, DATETIME_MIN
from trailhawk.kql.lower import column_name, lower
from trailhawk.kql.operators.external import ReadExternal, refuse
from trailhawk.kql.passes import optimize, scans
from trailhawk.kql.plan import Aggregate, Apply, Filter, Frame, Limit, Node, OutColumn, Project, Scan, Sort
from trailhawk.kql.schema import HIDDEN_PREFIX, Catalog, Column, Promoted, Table, json_path
from trailhawk.kql.stored import Functions
from trailhawk.kql.types import KqlType
from trailhawk.kql.wrapping import wrapping

if TYPE_CHECKING:
    import pyarrow as pa

    from trailhawk.engine.activity import Activity
    from trailhawk.engine.explain import Explained
    from trailhawk.kql.plan import Need
    from trailhawk.lake.table import DataFile, Found

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_DEFAULT_MEMORY = 4 << 30
_FIRST_TIME, _LAST_TIME = DATETIME_MIN // 10, DATETIME_MAX // 10
"""Microseconds since 1970 of the first and the last moment that KQL knows."""
_FEW = 10_000
"""A result cut to so many rows is small."""
_GROWTH = 2
"""The process may grow by so many times the engine's memory: results and Python's values stand beside it."""
_FILE_FAILED = re.compile(r"parquet|magic bytes|zstd|snappy|thrift|no files found", re.IGNORECASE)
_DATA_FILE = re.compile(r"'((?:[^']|'')+\.parquet)'")
_READ_FILE = ".parquet'"
_REGEX_REFUSED = re.compile(
    r"(?:Invalid Input Error|Pattern failed to parse): "
    r"((?:missing|unexpected|invalid|no argument|bad repetition|trailing)"
    r"[^:]*(?:[)\]]|operator|escape sequence|class|range|size|group|\\))(?:: (.*))?"
)
"""What RE2 says of an expression that is none, and the piece that it is about."""
_OVERFLOW = re.compile(
    r"Overflow (in \w+ of (INT|integer|numeric value|-\d)|on abs)|Type INT128 with value -?\d+ can't be cast"
)
_REWRITE_REFUSED = re.compile(
    r"Invalid replacement string[^:]*: Rewrite schema (?:error: )?(.*?)\.?$", re.MULTILINE
)
_DECIMALS_OVERFLOW = re.compile(r"Overflow in (HUGEINT|\w+ of DECIMAL)|Casting value \S+ to type DECIMAL")
"""Sums of decimals alone grow beyond HUGEINT: those of whole numbers start with 64 bits."""
_UDF_FAILED = "Python exception occurred while executing the UDF"
_Done = TypeVar("_Done")

# Said where a statement is executed, see `_table`.
warnings.filterwarnings("ignore", "Arrow output on a DB-API result", UserWarning)
_PYTHON = re.compile(rf"\b{PREFIX}\w+", re.IGNORECASE)
_UDF_TYPES = {KqlType.DYNAMIC: "VARCHAR"}
"""A Python function takes and gives JSON as plain text."""


@dataclass(frozen=True)
class Limits:
    """Bounds of one engine: bytes of memory, threads, seconds a query, bytes of temporary files."""

    memory: int | None = None
    threads: int | None = None
    seconds: float = 600.0
    temporary: int = 20 << 30
    few_rows: bool = False
    """Whether results are small: a statement is then prepared once and not twice, which of a small query is a
    third of its time, and its rows are copied once more."""
    looks_first: bool = False
    """Whether it is looked for the news that a result must rest on before a query over many rows is run."""


class _TooLargeError(QueryError):
    """A whole number too large for its type, which the engine refuses."""


def default_memory() -> int:
    """A quarter of the machine's memory, at most 4 GiB."""
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return min(pages * size // 4, _MAX_DEFAULT_MEMORY)


def _gives_few(plan: Node) -> bool:
    """Whether a result is likely small: groups, or rows cut to a number."""
    match plan:
        case Aggregate():
            return True
        case Limit():
            return (isinstance(plan.count, int) and plan.count <= _FEW) or _gives_few(plan.input)
        case Project() | Filter() | Sort():
            return _gives_few(plan.input)
    return False


def _table(cursor: duckdb.DuckDBPyConnection, sql: str, few: bool) -> pa.Table:
    """The rows of a statement. Executed, it is prepared once and not twice, but its rows are copied again."""
    return (cursor.execute(sql) if few else cursor.sql(sql)).to_arrow_table()


def _placed(body: Callable[[], _Done], compiled: Compiled) -> _Done:
    """The body's result; an error of the plan is told with its place in the query's text."""
    try:
        return body()
    except QueryError as error:
        if error.span is None:
            raise
        raise compiled.explained(error) from None


class DuckDBEngine:
    """Runs KQL over a lake. Safe to use from several threads: each query has a cursor of its own.

    `relations` gives the rows that are not in a snapshot of the lake (yet), for tables the catalog knows,
    as Arrow with the table's stored columns. `functions` are stored KQL functions.
    """

    def __init__(
        self,
        tables: Tables,
        *,
        relations: Mapping[str, Callable[[Files], pa.Table]] | None = None,
        functions: Functions | None = None,
        limits: Limits | None = None,
        temporary: Path | None = None,
        external: ReadExternal = refuse,
    ) -> None:
        self.tables = tables
        self.relations = relations or {}
        self.functions = functions
        self.limits = limits or Limits()
        self.external = external
        memory = (self.limits.memory or default_memory()) >> 20 << 20
        config: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": f"{memory}B",
            "python_enable_replacements": False,
            "error_on_division_by_zero": False,
            "autoload_known_extensions": False,
            "autoinstall_known_extensions": False,
            "max_temp_directory_size": f"{self.limits.temporary >> 20}MiB",
        }
        if self.limits.threads:
            config["threads"] = self.limits.threads
        if temporary is not None:
            config["temp_directory"] = str(temporary)
        self._connection = duckdb.connect(":memory:", config=config)
        # To read a data file's footer takes 0.6 ms; those kept (0.14 MB) make room where memory is needed.
        self._connection.execute("SET GLOBAL parquet_metadata_cache = true")
        self._footers = Footers(self._connection, memory)
        # A connection that holds Python functions must be closed before the interpreter goes.
        atexit.register(self._connection.close)
        self._added: set[str] = set()
        self._lock = threading.Lock()

    def query(
        self,
        text: str,
        *,
        now: datetime,
        window: TimeRange | None = None,
        parameters: Mapping[str, object] | None = None,
        picked: TimeRange | None = None,
    ) -> Result:
        """Rows of the query's last tabular statement; `parameters` are values for those it declares.

        `picked` is what {{StartTimeISO}} and {{EndTimeISO}} mean, `window` unless given.

        Raises QueryError: syntax, binding, unsupported, or LimitError where memory or time ran out.
        """
        return self._watched(
            lambda: self._result(
                self.compiled(text, now=now, window=window, parameters=parameters, picked=picked)
            )
        )

    def _watched(self, body: Callable[[], _Done]) -> _Done:
        """The body's result, within the limits of time and memory; LimitError beyond them."""
        growth = _GROWTH * (self.limits.memory or default_memory())
        try:
            with self._footers.used():
                return WATCHER.run(lambda _: body(), seconds=self.limits.seconds, growth=growth)
        except RecursionError:
            raise LimitError("a value or the query nests too deep") from None
        except MemoryError:
            raise _too_much_memory() from None

    def compiled(
        self,
        text: str,
        *,
        now: datetime,
        window: TimeRange | None = None,
        parameters: Mapping[str, object] | None = None,
        picked: TimeRange | None = None,
    ) -> Compiled:
        """The plan of a query, which is run only where an operator's columns follow from the data."""
        clip = window or TimeRange()
        return compile_query(
            text,
            self.tables,
            now=now,
            start=clip.start,
            end=clip.end,
            functions=self.functions,
            probe=self._probe,
            parameters=parameters,
            external=self.external,
            picked=(picked.start, picked.end) if picked else None,
            ingested=clip.ingested,
            replayed=clip.replayed,
        )

    def _result(self, compiled: Compiled) -> Result:
        table = _placed(lambda: self._rows(compiled.plan), compiled)
        columns = tuple(Column(column.name, column.type) for column in compiled.columns)
        wanted = [column_name(column.id) for column in compiled.columns]
        others = tuple(self._result(other) for other in compiled.others)
        read = frozenset(scan.table.name for scan in scans(compiled.plan))
        return Result(columns, _named(table, wanted, columns), compiled.chart, others, compiled.name, read)

    def activity(
        self, text: str, *, period: timedelta, history: TimeRange, frequency: timedelta | None = None
    ) -> Activity:
        """Where in history a rule's query could have had a result; raises QueryError.

        With the `frequency` of its runs it is told more closely for these.
        """
        from trailhawk.engine.activity import activity  # needs NumPy, which a query does not

        return self._watched(
            lambda: activity(
                text,
                self.tables,
                self._rows,
                period=period,
                history=history,
                functions=self.functions,
                frequency=frequency,
            )
        )

    def rows(self, plan: Node) -> pa.Table:
        """The rows of a plan; columns have the names that `lower.column_name` gives their ids."""
        return self._watched(lambda: self._rows(plan))

    def _rows(self, plan: Node) -> pa.Table:
        """The rows of an optimized plan."""
        if self.limits.looks_first and self._is_without_news(plan):
            return self.holding({})._computed(plan)
        return self._computed(plan)

    def _is_without_news(self, plan: Node) -> bool:
        from trailhawk.engine.news import is_without_news

        return is_without_news(plan, Reading(self.tables), self._any)

    def _any(self, plan: Node) -> bool:
        """Whether a plan gives a row."""
        return bool(self._computed(plan).num_rows)

    def _computed(self, plan: Node) -> pa.Table:
        cursor = self._connection.cursor()
        try:
            return self._run(cursor, self._lower(plan, cursor), few=_gives_few(plan))
        except _TooLargeError:
            wide = wrapping(plan)
            if wide == plan:
                raise
            return self._computed(wide)
        finally:
            cursor.close()

    def explain(self, text: str, *, now: datetime, window: TimeRange | None = None) -> str:
        """The SQL that a query becomes."""
        return self.explained(text, now=now, window=window).sql

    def explained(
        self,
        text: str,
        *,
        now: datetime,
        window: TimeRange | None = None,
        parameters: Mapping[str, object] | None = None,
    ) -> Explained:
        """What a query becomes and what it would read; no row is read but for those that a plugin takes its
        columns from."""
        from trailhawk.engine.explain import Explained, outline, read

        def explained() -> Explained:
            reading = Reading(self.tables)
            compiled = self.compiled(text, now=now, window=window, parameters=parameters)
            plans, statements = [], []
            for each in (compiled, *compiled.others):
                plan = reading.settled(each.plan, but=self.relations.__contains__)
                plans.append(outline(plan))
                sql = partial(
                    lower,
                    plan,
                    lambda scan: self._selects(scan, reading),
                    _applied_later,
                    is_large=lambda scan: reading.rows(scan) >= MANY,
                )
                statements.append(_placed(sql, each))
            return Explained(
                "\n".join(plans), ";\n".join(statements), tuple(read(one) for one in reading.chosen)
            )

        return self._watched(explained)

    def check(self, text: str, *, now: datetime, parameters: Mapping[str, object] | None = None) -> Checked:
        """All errors of a query, or the columns of its results; no row is read but for those that a plugin
        takes its columns from."""
        return self._watched(
            lambda: check(
                text,
                self.tables,
                now=now,
                functions=self.functions,
                probe=self._probe,
                parameters=parameters,
            )
        )

    def over(self, tables: Tables) -> DuckDBEngine:
        """The same engine (and its memory) over other tables."""
        other = copy.copy(self)
        other.tables = tables
        return other

    def holding(self, rows: Mapping[str, pa.Table]) -> DuckDBEngine:
        """The same engine over the same tables, which hold nothing but these rows (their stored columns)."""
        other = self.over(_Empty(self.tables))
        other.relations = {name: partial(_given, table) for name, table in rows.items()}
        return other

    def close(self) -> None:
        self._connection.close()

    # --- Python ------------------------------------------------------------------------------------------

    def _lower(self, plan: Node, cursor: duckdb.DuckDBPyConnection) -> str:
        """The SQL of a plan; what Python computes on the way is run now, and read from relations."""
        relations = itertools.count()

        def apply(node: Apply, inputs: tuple[str, ...]) -> str:
            tables = [self._run(cursor, sql) for sql in inputs]
            frames = [frame(table, given) for table, given in zip(tables, node.given, strict=True)]
            name = f"applied_{next(relations)}"
            cursor.register(name, applied(node, tuple(frames)))
            return name

        reading = Reading(self.tables)
        settled = reading.settled(plan, but=self.relations.__contains__)
        return lower(
            settled,
            lambda scan: self._scan(scan, cursor, reading, f"relation_{next(relations)}"),
            apply,
            is_large=lambda scan: reading.rows(scan) >= MANY,
        )

    def _probe(self, plan: Node) -> Frame:
        """The rows of a plan, for operators whose columns follow from the data."""
        optimized = optimize(plan)
        return frame(self._rows(optimized), plan.columns)

    def _add_functions(self, sql: str) -> None:
        """Make the Python functions that a statement calls known to the engine."""
        for name in {found.lower() for found in _PYTHON.findall(sql)} & PYTHON.keys():
            with self._lock:
                if name not in self._added:
                    function = PYTHON[name]
                    self._connection.create_function(
                        name,
                        udf(function, self.limits.seconds),
                        [_UDF_TYPES.get(type_, SQL_TYPES[type_]) for type_ in function.params],
                        _UDF_TYPES.get(function.returns, SQL_TYPES[function.returns]),
                        type=PythonUDFType.ARROW,
                        null_handling=FunctionNullHandling.SPECIAL,
                    )
                    self._added.add(name)

    def _run(self, cursor: duckdb.DuckDBPyConnection, sql: str, *, few: bool = False) -> pa.Table:
        return self._watched(lambda: self._run_watched(cursor, sql, few or self.limits.few_rows))

    def _run_watched(self, cursor: duckdb.DuckDBPyConnection, sql: str, few: bool) -> pa.Table:
        self._add_functions(sql)
        self._footers.read(sql.count(_READ_FILE))
        query = WATCHER.current()
        try:
            with query.inside(cursor):
                return aside(lambda: _table(cursor, sql, few), cursor)
        except duckdb.InterruptException:
            raise query.error() from None
        except duckdb.OutOfMemoryException:
            raise _too_much_memory() from None
        except duckdb.Error as error:
            raise _damage(error, sql) or _refused(error, self.limits.seconds) from error

    # --- scans ---------------------------------------------------------------------------------------------

    def _scan(self, scan: Scan, cursor: duckdb.DuckDBPyConnection, reading: Reading, relation: str) -> str:
        """The SQL of a table's rows; those not in files are made known to the cursor by this name."""
        name = scan.table.name
        if name not in self.relations:
            return self._selects(scan, reading)
        rows = self.relations[name](reading.snapshot(name))
        rows = rows.select(_read(scan, rows.column_names))
        cursor.register(relation, rows)
        beside = f"SELECT {_columns(scan, frozenset(rows.column_names))} FROM {relation}"
        return self._selects(scan, reading, beside)

    def _selects(self, scan: Scan, reading: Reading, beside: str | None = None) -> str:
        """SELECTs over the files that may hold rows, one for each set of columns that files have, and the one
        over what is not in files."""
        selects = [_select(scan, group) for group in reading.choose(scan).groups]
        if beside is not None:
            selects.append(beside)
        if not selects:
            return f"SELECT {_nulls(scan)} WHERE FALSE"
        return " UNION ALL ".join(selects)


@dataclass(frozen=True)
class _Empty:
    """The tables of a catalog without their files."""

    catalog: Catalog

    def table(self, name: str) -> Table | None:
        return self.catalog.table(name)

    def table_names(self) -> tuple[str, ...]:
        return self.catalog.table_names()

    def snapshot(self, name: str) -> Files:
        return self

    def files(self, since: datetime | None = None, until: datetime | None = None) -> tuple[DataFile, ...]:
        return ()

    def look(self, files: Sequence[DataFile], need: Need) -> Found:
        from trailhawk.lake.table import Found

        return Found(())


def _applied_later(node: Apply, inputs: tuple[str, ...]) -> str:
    """The name that stands for what Python would compute of these inputs."""
    return f"python_{node.name}"


def _given(table: pa.Table, snapshot: Files) -> pa.Table:
    return table


def _read(scan: Scan, present: list[str]) -> list[str]:
    """Those of the columns that are there which a scan reads, but one at least: to tell the engine of all of
    a wide table takes longer than many a query over few rows."""
    read = {*scan.stored, *(item.column for item in scan.table.promoted if item.hidden in scan.stored)}
    return [name for name in present if name in read] or present[:1]


def _select(scan: Scan, group: Group) -> str:
    """The rows of files, near enough those of the spans: the engine leaves out row groups by their times."""
    paths = ", ".join(_quote(file.path) for file in group.files)
    select = f"SELECT {_columns(scan, group.columns)} FROM read_parquet([{paths}], hive_partitioning=false)"
    if group.spans is None:
        return select
    time = f'"{scan.table.time_column}"'
    tests = (f"{time} BETWEEN {_time(first)} AND {_time(last)}" for first, last in group.spans)
    return f"{select} WHERE {' OR '.join(tests)}"


def _time(moment: datetime) -> str:
    return f"TIMESTAMP '{moment.replace(tzinfo=None).isoformat(sep=' ')}'"


def _nulls(scan: Scan) -> str:
    """The select list of a scan without any file."""
    items = [f"CAST(NULL AS {SQL_TYPES[column.type]}) AS {column_name(column.id)}" for column in scan.columns]
    return ", ".join(items) or "1 AS one"


def _columns(scan: Scan, present: frozenset[str]) -> str:
    """The select list of a scan over files that have these columns."""
    promoted = {item.hidden: item for item in scan.table.promoted}
    items = [
        f"{_stored(column, name, present, promoted, scan.table)} AS {column_name(column.id)}"
        for column, name in zip(scan.columns, scan.stored, strict=True)
    ]
    return ", ".join(items) or "1 AS one"


def _stored(
    column: OutColumn, name: str, present: frozenset[str], promoted: Mapping[str, Promoted], table: Table
) -> str:
    """A stored column, or what stands for it in files that lack it."""
    quoted = f'"{name}"'
    if name in promoted:
        if name in present:
            return quoted
        item = promoted[name]
        # A file from before the path was promoted: read the JSON, as the promotion would have.
        source = f"nullif(\"{item.column}\", '')" if _has(item.column, present, table) else "NULL"
        return f"try(json_extract_string({source}, {_quote(json_path(item.path))}))"
    if name in present:
        return f"CAST({quoted} AS JSON)" if column.type is KqlType.DYNAMIC else quoted
    if column.type is KqlType.STRING and not name.startswith(HIDDEN_PREFIX):
        return "''"
    return f"CAST(NULL AS {SQL_TYPES[column.type]})"


def _has(column: str, present: frozenset[str], table: Table) -> bool:
    # `present` lists only the scan's own columns; the JSON column itself is in every file of the table.
    return column in present or table.column(column) is not None


def _too_much_memory() -> LimitError:
    return LimitError("the query needs more memory than it may use", hint="narrow its time range")


def _damage(error: duckdb.Error, sql: str) -> LakeError | None:
    """The error of a data file that the statement reads, if it is one; the engine does not always name it."""
    if not _FILE_FAILED.search(str(error).partition("\n")[0]):
        return None
    from trailhawk.lake.files import DamagedFileError, damaged

    paths = [path.replace("''", "'") for path in _DATA_FILE.findall(sql)]
    named = next((path for path in paths if path in str(error)), None)
    if named is None:
        return damaged(paths)
    return damaged([named]) or DamagedFileError(named, error)


def _refused(error: duckdb.Error, seconds: float) -> QueryError:
    """What the engine says as an error of ours; an exception of a Python function is in its text alone."""
    said = str(error)
    if _OVERFLOW.search(said):
        return _TooLargeError("a number or timespan is too large for its type")
    if wrong := _REGEX_REFUSED.search(said):
        return QueryError(
            f"{_quote(wrong[2]) if wrong[2] else 'this'} is no regular expression: {wrong[1]}",
            hint="expressions are RE2's, without look-around and back-references",
        )
    if wrong := _REWRITE_REFUSED.search(said):
        return QueryError(f"a rewrite of replace_regex() is none: {wrong[1]}")
    if _DECIMALS_OVERFLOW.search(said):
        return QueryError("a decimal has more than 21 digits before the point")
    if _UDF_FAILED not in said:
        return QueryError(f"the engine refused: {said.splitlines()[0]}")
    if f"{Stopped.__name__}:" in said or said.rstrip().endswith(Stopped.__name__):
        return LimitError(f"the query ran longer than {seconds:g} s")
    if RecursionError.__name__ in said:
        return LimitError("a value nests too deep")
    if MemoryError.__name__ in said:
        return _too_much_memory()
    lines = [line for line in said.splitlines() if line.strip()]
    return QueryError(f"a function failed: {lines[-1] if len(lines) > 1 else lines[0]}")


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _named(table: pa.Table, wanted: Iterable[str], columns: tuple[Column, ...]) -> pa.Table:
    """The engine's columns in KQL's order and under KQL's names."""
    import pyarrow as pa

    arrays = [table.column(name) for name in wanted]
    arrays = [_in_years(found) if pa.types.is_timestamp(found.type) else found for found in arrays]
    return pa.table(arrays, names=[column.name for column in columns])


def _in_years(times: pa.ChunkedArray) -> pa.ChunkedArray:
    """Times of the years 1 to 9999, which is what KQL knows; what the engine computed beyond them is null."""
    import pyarrow as pa

    if len(times) <= _FEW:  # looked through sooner than pyarrow.compute is loaded, which takes 0.03 s
        whole = (chunk.view(pa.int64()).to_pylist() for chunk in times.chunks)
        if all(_FIRST_TIME <= tick <= _LAST_TIME for ticks in whole for tick in ticks if tick is not None):
            return times
    import pyarrow.compute as pc

    ticks = times.cast(pa.int64())
    found = pc.min_max(ticks).as_py()
    if found["min"] is None or (found["min"] >= _FIRST_TIME and found["max"] <= _LAST_TIME):
        return times
    known = pc.and_(pc.greater_equal(ticks, _FIRST_TIME), pc.less_equal(ticks, _LAST_TIME))
    return pc.if_else(known, times, pa.scalar(None, times.type))
