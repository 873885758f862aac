"""Proving that no log is missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trailhawk.cli.options import (
    EXIT_FAILURE,
    FormatOption,
    QuietOption,
    examples,
    single,
    tell,
    workspace_of,
)
from trailhawk.cli.times import moment, utc_now
from trailhawk.errors import UsageError
from trailhawk.render.output import Format, Shown, show_list, show_one
from trailhawk.render.text import members
from trailhawk.words import counted

if TYPE_CHECKING:
    from trailhawk.connectors.verify import Ledger, Report
    from trailhawk.workspace import Workspace

app = single()

_MOST_FINDINGS = 200
_MOST_UNLISTED = 10
_LEDGER_SLICE = 50_000


@app.command(
    epilog=examples(
        "trailhawk verify s3://my-trail-bucket --from 2026-01-01",
        "trailhawk verify ~/copy-of-bucket --keys keys.json",
        "trailhawk verify sim/logs --keys sim/digest-keys.json --format json",
    )
)
def verify(
    context: typer.Context,
    target: Annotated[
        str, typer.Argument(metavar="BUCKET|FOLDER", help="s3://bucket or s3://bucket/prefix, or a folder.")
    ],
    keys: Annotated[
        str,
        typer.Option(
            "--keys",
            metavar="FILE",
            help="Public keys: PEM, DER, or what 'aws cloudtrail list-public-keys' prints; CloudTrail is "
            "asked unless given.",
        ),
    ] = "",
    start: Annotated[
        str, typer.Option("--from", metavar="TIME", help="Only digests that end after this.")
    ] = "",
    end: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="TIME",
            help="Only digests that end by then; for a bucket until now.",
            show_default=False,
        ),
    ] = "",
    with_lake: Annotated[
        bool, typer.Option("--lake/--no-lake", help="Whether the lake must have every log file.")
    ] = True,
    files: Annotated[
        bool, typer.Option("--files", help="List every log file, not only what is wrong.")
    ] = False,
    profile: Annotated[str, typer.Option("--profile", metavar="NAME", help="Profile of AWS's files.")] = "",
    region: Annotated[str, typer.Option("--region", metavar="NAME", help="Region to sign in at.")] = "",
    form: FormatOption = Format.TABLE,
    quiet: QuietOption = False,
) -> None:
    """Prove that no CloudTrail log is missing, in the bucket and in the lake.

    Checks the chain of CloudTrail's digest files (signature, hash of the one
    before, hours without any) and the hash of every log file they name, and
    looks each of them up in IngestLedger. Ends with 1 when anything is wrong.
    """
    from trailhawk.connectors.digest import GivenKeys, ListedKeys
    from trailhawk.connectors.trail_store import Aws, FolderStore, bucket_of
    from trailhawk.connectors.verify import LogStore
    from trailhawk.connectors.verify import verify as run_verify
    from trailhawk.render.console import progress

    since, until = moment(start) if start else None, moment(end) if end else None
    if since and until and since >= until:
        raise UsageError(f"--from {start} is not before --to {end}")
    place = bucket_of(target)
    store: LogStore
    if place:
        store = Aws(profile=profile, region=region).bucket(*place)
        until = min(until or utc_now(), utc_now())
    elif Path(target).is_dir():
        store = FolderStore(Path(target))
    else:
        raise UsageError(f"no such folder: {target}", hint="a bucket is written s3://bucket")
    chosen = GivenKeys(Path(keys)) if keys else ListedKeys(Aws(profile=profile, region=region).list_keys)
    with progress("verify, files", quiet=quiet) as bar:
        ledger = _ledger(workspace_of(context), since) if with_lake else None
        report = run_verify(store, chosen, ledger, since=since, until=until, progress=bar)
    _show(report, form, files=files)
    if not report.chains:
        tell(f"no digest files there: was log file validation on, and is {target} the trail's place?")
    if not report.ok:
        raise typer.Exit(EXIT_FAILURE)


def _ledger(workspace: Workspace, since: datetime | None) -> Ledger:
    """What the ledger has; nothing is ingested before it was delivered."""
    from trailhawk.connectors.verify import Ledger
    from trailhawk.engine.result import TimeRange

    query = f"IngestLedger | project {', '.join(Ledger.COLUMNS)}"
    table = workspace.query(query, now=utc_now(), window=TimeRange(since)).table

    def rows() -> Iterator[Mapping[str, Any]]:
        for begin in range(0, table.num_rows, _LEDGER_SLICE):
            yield from table.slice(begin, _LEDGER_SLICE).to_pylist()

    return Ledger(rows())


def _show(report: Report, form: Format, *, files: bool) -> None:
    logs = [members(log) for log in report.logs] if files else []
    findings = [members(finding) for finding in report.findings]
    chains = [members(chain) for chain in report.chains]
    if form is Format.JSON:
        whole = {
            "ok": report.ok,
            "chains": chains,
            "findings": findings,
            "unlisted": list(report.unlisted),
        }
        show_one(whole | ({"logs": logs} if files else {}), form)
        return
    counts = ("digests", "valid", "logs", "complete", "missing", "tampered", "unproven", "not_taken", "gaps")
    columns = [
        Shown("account", "account"),
        Shown("region", "region"),
        Shown("chain", "trail"),
        Shown("first", "from"),
        Shown("last", "to"),
        *(Shown(name, name.replace("not_taken", "not in lake"), right=True) for name in counts),
    ]
    for chain in chains:
        chain["chain"] = f"{chain['trail']}{' (backfill)' if chain['backfill'] else ''}"
    show_list(chains, columns, form, empty="no digests")
    if files:
        print()
        columns = [Shown(name, name) for name in ("state", "place", "detail")]
        show_list(logs, columns, form, empty="no log files")
    if findings:
        print()
        columns = [
            Shown("what", "what is wrong"),
            Shown("at", "at"),
            Shown("place", "where"),
            Shown("detail", "why"),
        ]
        show_list(findings[:_MOST_FINDINGS], columns, form, empty="")
    if len(findings) > _MOST_FINDINGS:
        tell(f"{len(findings) - _MOST_FINDINGS:,} more: --format json has all")
    if report.unlisted:
        some = "".join(f"\n  {place}" for place in report.unlisted[:_MOST_UNLISTED])
        unlisted = counted(len(report.unlisted), "log file is", "log files are")
        tell(f"{unlisted} named by no digest and not proven:{some}")
    if report.ok:
        restarts = sum(chain.restarts for chain in report.chains)
        proven = sum(chain.logs for chain in report.chains)
        again = f"; {counted(restarts, 'time')} a chain began anew without a gap" if restarts else ""
        what = "nothing that digests name" if report.unlisted else "nothing"
        print(f"\n{what} is missing: {counted(proven, 'log file is', 'log files are')} proven{again}")
