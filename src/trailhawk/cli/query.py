"""Asking in KQL."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from datetime import datetime
from os.path import isfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from trailhawk.cli.options import (
    EXIT_FAILURE,
    RowFormatOption,
    TimespanOption,
    examples,
    fail,
    is_bare,
    offered,
    single,
    tell,
    workspace_of,
)
from trailhawk.cli.times import OLD, moment, time_range, utc_now
from trailhawk.errors import QueryError, UsageError
from trailhawk.render.output import RowFormat, print_utf8, show_result
from trailhawk.render.text import moment as moment_text

if TYPE_CHECKING:
    from trailhawk.engine.result import Result, TimeRange
    from trailhawk.workspace import TableState

_RELATIVE: Final = re.compile(r"\b(ago|now)\s*\(")
"""What makes a query count back from now."""

app = single()


@app.command(
    epilog=examples(
        "trailhawk query 'AWSCloudTrail | count'",
        "trailhawk query --timespan 7d 'AWSCloudTrail | where isnotempty(ErrorCode) | take 5'",
        "trailhawk query -f hunt.kql --format csv > hunt.csv",
        "trailhawk query -f hunt.kql -p user=alice -p since=2023-07-01",
        "trailhawk query --check -f hunt.kql --format json",
        "trailhawk query --explain 'AWSCloudTrail | where SourceIpAddress has \"203.0.113.77\"'",
        "echo 'print now()' | trailhawk query - --now 2026-01-31T12:00:00Z --format json",
    )
)
def query(
    context: typer.Context,
    kql: Annotated[
        str,
        typer.Argument(
            metavar="KQL",
            help="The query, or - to read it from standard input.",
            autocompletion=offered("sources"),
        ),
    ] = "",
    file: Annotated[
        str, typer.Option("--file", "-f", metavar="FILE", help="Read the query from a file.")
    ] = "",
    timespan: TimespanOption = "",
    now: Annotated[str, typer.Option("--now", metavar="TIME", help="What now() and ago() mean.")] = "",
    form: RowFormatOption = RowFormat.TABLE,
    rows: Annotated[
        int, typer.Option("--rows", metavar="N", help="Most rows of a table; 0 for all.", min=0)
    ] = 100,
    parameter: Annotated[
        list[str] | None,
        typer.Option(
            "--parameter",
            "-p",
            metavar="NAME=VALUE",
            help="A value for what the query declares by 'declare query_parameters'; may be repeated.",
        ),
    ] = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Do not run it: tell all its errors, or the columns of its results."),
    ] = False,
    explain: Annotated[
        bool,
        typer.Option("--explain", help="Do not run it: tell its plan, its SQL and what it would read."),
    ] = False,
    batch: Annotated[
        bool, typer.Option("--batch", help="Many queries: JSON lines with id and query on standard input.")
    ] = False,
) -> None:
    """Run a KQL query.

    A query that ends in 'render timechart', 'barchart' or 'columnchart' is
    drawn as a chart unless another format is asked for. Of a query with
    several results (fork, facet, several statements) each is shown under its
    name, that of the last statement first.
    """
    from trailhawk.engine.result import TimeRange
    from trailhawk.render.console import working

    at = moment(now) if now else utc_now()
    if batch:
        if kql or file or parameter or check or explain:
            raise UsageError("--batch reads its queries, and their parameters, from standard input")
        from trailhawk.engine.batch import run_batch

        print_utf8()
        for answer in run_batch(sys.stdin, workspace_of(context).engine, now=at):
            print(answer, flush=True)
        return
    text = _query_text(kql, file)
    window = TimeRange(*time_range(timespan, at)) if timespan else None
    values = _parameters(parameter or ())
    workspace = workspace_of(context)
    if check:
        from trailhawk.render.check import show_checked

        checked = workspace.engine.check(text, now=at, parameters=values)
        show_checked(checked, text, form)
        raise typer.Exit(EXIT_FAILURE if checked.errors else 0)
    try:
        if explain:
            from trailhawk.render.explain import show_explained

            explained = workspace.engine.explained(text, now=at, window=window, parameters=values)
            show_explained(explained, form)
            return
        with working("query"):
            result = workspace.query(text, now=at, window=window, parameters=values)
    except QueryError as error:
        if isfile(kql):
            raise UsageError(f"{kql} is a file", hint="write -f FILE to read the query from it") from None
        errors: tuple[QueryError, ...] = (error,)
        if error.kind in ("syntax", "binding", "unsupported"):
            # More may be wrong than the first thing; what was found by running is told as it is.
            errors = workspace.engine.check(text, now=at, parameters=values).errors or errors
        told = "\n".join(each.render(text) for each in errors)
        raise typer.Exit(fail(told, EXIT_FAILURE)) from None
    show_result(result, form, most=rows)
    if form is RowFormat.TABLE and result.read and _is_nothing(result) and not is_bare(context, workspace):
        counted_from = at if _RELATIVE.search(text) else None
        for name in sorted(result.read & set(workspace.lake.table_names())):
            _tell_why_empty(workspace.table_state(name), window or TimeRange(), counted_from)


def _is_nothing(result: Result) -> bool:
    """Whether there is no row, or a count of none."""
    found = sum(each.table.num_rows for each in result.all())
    return not found or (found == 1 and result.tuples() == [(0,)])


def _tell_why_empty(table: TableState, window: TimeRange, now: datetime | None) -> None:
    """What a table holds, where that may be why a query of it has no result; `now` where it speaks of it."""
    if table.first is None or table.last is None:
        tell(f"{table.name} holds no rows")
        return
    held = f"{table.name} holds {moment_text(table.first)} to {moment_text(table.last)}"
    if (window.start and table.last < window.start) or (window.end and table.first >= window.end):
        tell(f"{held}, nothing of the timespan asked for")
    elif now and now - table.last > OLD:
        tell(f"{held}; --now TIME says what now() and ago() count from")


def _parameters(given: Sequence[str]) -> dict[str, object]:
    """`name=value` texts by name; what type a value has is for the query to say."""
    values: dict[str, object] = {}
    for item in given:
        name, equals, value = item.partition("=")
        if not equals or not name.strip():
            raise UsageError(f"'{item}' is no parameter", hint="write --parameter name=value")
        if name.strip() in values:
            raise UsageError(f"the parameter '{name.strip()}' is given twice")
        values[name.strip()] = value
    return values


def _query_text(kql: str, file: str) -> str:
    """The query from wherever the caller has it; UsageError where there is none or more than one."""
    if bool(kql) == bool(file):
        raise UsageError("give one query: as text, with -f FILE, or as - on standard input")
    try:
        if file:
            return Path(file).read_text(encoding="utf-8-sig")
        text = sys.stdin.read() if kql == "-" else kql
        try:
            text.encode()
        except UnicodeEncodeError:  # in a locale of plain C the command line's bytes are kept as they are
            text = os.fsencode(text).decode()
        return text
    except UnicodeError:
        named = file or ("standard input" if kql == "-" else "the query")
        raise UsageError(f"{named} is not UTF-8 text") from None
