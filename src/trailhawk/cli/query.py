"""Asking in KQL."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from trailhawk.cli.options import EXIT_FAILURE, examples, fail, single, workspace_of
from trailhawk.cli.times import moment, time_range, utc_now
from trailhawk.errors import QueryError, UsageError
from trailhawk.render.output import RowFormat, show_result

app = single()


@app.command(
    epilog=examples(
        "trailhawk query 'AWSCloudTrail | count'",
        "trailhawk query --timespan 7d 'AWSCloudTrail | where isnotempty(ErrorCode) | take 5'",
        "trailhawk query -f hunt.kql --format csv > hunt.csv",
        "echo 'print now()' | trailhawk query - --now 2026-01-31T12:00:00Z --format json",
    )
)
def query(
    context: typer.Context,
    kql: Annotated[
        str, typer.Argument(metavar="KQL", help="The query, or - to read it from standard input.")
    ] = "",
    file: Annotated[
        str, typer.Option("--file", "-f", metavar="FILE", help="Read the query from a file.")
    ] = "",
    timespan: Annotated[
        str,
        typer.Option(
            "--timespan", metavar="SPAN", help="Only rows of this time: 7d, 12h or 2023-07-01/2023-07-02."
        ),
    ] = "",
    now: Annotated[str, typer.Option("--now", metavar="TIME", help="What now() and ago() mean.")] = "",
    form: Annotated[RowFormat, typer.Option("--format", help="How the rows are printed.")] = RowFormat.TABLE,
    rows: Annotated[
        int, typer.Option("--rows", metavar="N", help="Most rows of a table; 0 for all.", min=0)
    ] = 100,
    batch: Annotated[
        bool, typer.Option("--batch", help="Many queries: JSON lines with id and query on standard input.")
    ] = False,
) -> None:
    """Run a KQL query.

    A query that ends in 'render timechart', 'barchart' or 'columnchart' is
    drawn as a chart unless another format is asked for.
    """
    from trailhawk.engine.result import TimeRange

    at = moment(now) if now else utc_now()
    if batch:
        if kql or file:
            raise UsageError("--batch reads its queries from standard input")
        from trailhawk.engine.batch import run_batch

        for answer in run_batch(sys.stdin, workspace_of(context).engine, now=at):
            print(answer, flush=True)
        return
    text = _query_text(kql, file)
    window = TimeRange(*time_range(timespan, at)) if timespan else None
    try:
        result = workspace_of(context).query(text, now=at, window=window)
    except QueryError as error:
        raise typer.Exit(fail(error.render(text), EXIT_FAILURE)) from None
    show_result(result, form, most=rows)


def _query_text(kql: str, file: str) -> str:
    """The query from wherever the caller has it; UsageError where there is none or more than one."""
    if bool(kql) == bool(file):
        raise UsageError("give one query: as text, with -f FILE, or as - on standard input")
    try:
        if file:
            return Path(file).read_text(encoding="utf-8-sig")
        return sys.stdin.read() if kql == "-" else kql
    except UnicodeDecodeError:
        raise UsageError(f"{file or 'standard input'} is not UTF-8 text") from None
