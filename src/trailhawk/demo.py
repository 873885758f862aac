"""The whole road once, shown: simulate, take in, detect, explain, ask."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from time import perf_counter

from trailhawk.errors import LakeError
from trailhawk.incidents.literal import strings
from trailhawk.render.console import page_width, progress, results
from trailhawk.render.incident import print_report
from trailhawk.render.output import RowFormat, show_result
from trailhawk.words import counted
from trailhawk.workspace import Workspace

SCENARIO = "cloud-breach-s3"
DAYS = 35
WATCHED_DAYS = 10
EVENTS_PER_DAY = 3_200
_MARK = "made-by-trailhawk-demo"


def demo(folder: Path, *, seed: int, quiet: bool) -> None:
    """Run the demonstration in this folder, which an earlier one may have left; print everything."""
    console = results()
    logs = _fresh(folder) / "sim"
    with _step(f"{DAYS} days of a company's logs, of five kinds, an attack on the last") as say:
        from trailhawk.simulate.run import simulate

        workspace = Workspace.open(folder)
        last_day = workspace.clock().date() - timedelta(days=1)
        with progress("simulate, days", quiet=quiet) as bar:
            made = simulate(
                SCENARIO,
                logs,
                days=DAYS,
                seed=seed,
                events_per_day=EVENTS_PER_DAY,
                end=last_day,
                progress=bar,
            )
        records, files = made.records + made.other_records, made.files + made.other_files
        say(f"{counted(records, 'record')} in {counted(files, 'file')}")
    with _step("Taking them into the lake") as say:
        with progress("ingest, objects", quiet=quiet) as bar:
            taken = workspace.ingest([made.logs], lambda done: bar(done.objects, done.all_objects))
        say(
            f"{counted(taken.rows, 'row')}, {counted(taken.duplicates, 'duplicate')},"
            f" {taken.quarantined:,} quarantined"
        )
    with _step(f"Running every rule over the last {WATCHED_DAYS} days, window by window") as say:
        with progress("detect, windows", quiet=quiet) as bar:
            found = workspace.detect(workspace.content.rules(), start=_midnight(last_day), progress=bar)
        windows = sum(rule.run for rule in found.rules)
        say(
            f"{counted(windows, 'window')} of {counted(len(found.rules), 'rule')},"
            f" {counted(len(found.alerts), 'alert')}"
        )
    incidents = workspace.incidents.all()
    if not incidents:
        raise LakeError("the demonstration found no incident", hint="please report this with the seed")
    gravest = max(incidents, key=lambda each: (each.severity.rank, len(each.alert_ids))).number
    print()
    report = workspace.report(gravest)
    print_report(console, report, width=page_width(console), most_events=50)
    keys = list(dict.fromkeys(event.key for event in report.timeline if event.key))
    sessions = list(dict.fromkeys(event.session for event in report.timeline if event.session))
    for title, text in _questions(keys, sessions).items():
        _ask(workspace, title, text)
    _next(folder, gravest)


def _midnight(last_day: date) -> datetime:
    """The start of the days that are watched; those before are the history that rules compare with."""
    return datetime.combine(last_day - timedelta(days=WATCHED_DAYS - 1), time(), UTC)


def _fresh(folder: Path) -> Path:
    """The folder, empty but for our mark; refuses to empty one that no demonstration made."""
    mark = folder / _MARK
    if folder.exists() and any(folder.iterdir()):
        if not mark.exists():
            raise LakeError(f"{folder} holds something else", hint="choose another --home")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    mark.touch()
    return folder


@contextmanager
def _step(title: str) -> Iterator[Callable[[str], None]]:
    """Print what begins, and at its end what came of it and how long it took."""
    print(f"{title} ...", flush=True)
    started = perf_counter()
    outcome: list[str] = []
    yield outcome.append
    print(f"  {', '.join(outcome)}; {perf_counter() - started:.1f} s", flush=True)


def _questions(keys: Sequence[str], sessions: Sequence[str]) -> dict[str, str]:
    """What an analyst would ask next, in KQL."""
    return {
        "Who used the stolen key, and from where?": (
            f"AWSCloudTrail\n| where UserIdentityAccessKeyId in {strings(keys)}\n"
            "| summarize Calls = count(), First = min(TimeGenerated), Last = max(TimeGenerated)\n"
            "    by SourceIpAddress, EventName\n| sort by First asc"
        ),
        "How many bytes did that session read from S3, hour by hour?": (
            f'AWSCloudTrail\n| where EventName == "GetObject" and UserIdentityArn in {strings(sessions)}\n'
            "| extend Bytes = tolong(parse_json(AdditionalEventData).bytesTransferredOut)\n"
            "| summarize Bytes = sum(Bytes) by bin(TimeGenerated, 1h)\n| render timechart"
        ),
        "How did the key get out? Only the web server's own log tells.": (
            'ProxyAccess\n| where HostHeader == "169.254.169.254"\n'
            "| project TimeGenerated, RemoteIp, Method, RequestUri, HttpStatus"
        ),
        "Which calls are refused most?": (
            "AWSCloudTrail\n| where isnotempty(ErrorCode)\n| summarize Calls = count() by ErrorCode\n"
            "| top 8 by Calls\n| render barchart"
        ),
    }


def _ask(workspace: Workspace, title: str, text: str) -> None:
    """Print a question, its query and the answer."""
    print(f"\n{title}\n")
    print("\n".join(f"    {line}" for line in text.splitlines()))
    started = perf_counter()
    result = workspace.query(text, now=workspace.clock())
    seconds = perf_counter() - started
    print()
    show_result(result, RowFormat.TABLE, most=20)
    print(f"  {counted(result.table.num_rows, 'row')}; {seconds:.2f} s")


def _next(folder: Path, number: int) -> None:
    """Print commands to go on with, as they can be typed here."""
    program = sys.argv[0]
    known = shutil.which("trailhawk") == os.path.abspath(program) or not os.access(program, os.X_OK)
    name = "trailhawk" if known else shlex.quote(_near(Path(program)))
    here = f"{name} --home {shlex.quote(_near(folder))}"
    print("\nTry next:\n")
    for command in (
        "incidents list",
        f"incidents show {number} --format json",
        "query 'AWSCloudTrail | summarize Calls = count() by EventName | top 10 by Calls'",
        "query 'SecurityAlert | project TimeGenerated, AlertSeverity, AlertName'",
        "rules list",
    ):
        print(f"  {here} {command}")
    print(f"\nWhat the attacker really did: {_near(folder / 'sim' / 'truth.json')}")


def _near(path: Path) -> str:
    """The path from here where it lies below, the whole path otherwise."""
    path = path.absolute()
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
