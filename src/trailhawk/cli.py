"""The command line: what is typed, which rooms do it, how it ends."""

from __future__ import annotations

import gc
import os
import re
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trailhawk import __version__
from trailhawk.errors import QueryError, TrailhawkError, UsageError
from trailhawk.render.output import Format, RowFormat, Shown, show_list, show_one, show_result
from trailhawk.render.text import members, visible

if TYPE_CHECKING:
    from trailhawk.connectors.quarantine import Quarantined
    from trailhawk.workspace import Workspace

EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

app = typer.Typer(
    name="trailhawk",
    help="Hunt threats in AWS logs on your own machine: take logs in, ask in KQL, detect, explain incidents.",
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _examples(*lines: str) -> str:
    """The closing part of a command's help; typer keeps the line ends after \\b."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines).replace("[", "\\[")


@app.callback(invoke_without_command=True)
def trailhawk(
    context: typer.Context,
    home: Annotated[
        str,
        typer.Option(
            "--home",
            envvar="TRAILHAWK_HOME",
            metavar="DIR",
            show_default=False,
            help="Folder of the lake and the state; the platform's data folder unless given.",
        ),
    ] = "",
    version: Annotated[bool, typer.Option("--version", help="Print the version and end.")] = False,
) -> None:
    if version:
        print(f"trailhawk {__version__}")
        raise typer.Exit
    context.obj = home
    if context.invoked_subcommand is None:
        print(context.get_help())


def _home(context: typer.Context) -> Path:
    given = context.find_root().obj
    if given:
        return Path(given).expanduser()
    from platformdirs import user_data_path

    return user_data_path("trailhawk", appauthor=False)


FormatOption = Annotated[Format, typer.Option("--format", help="How the result is printed.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")]
RulesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--rules", metavar="DIR", help="A folder of rules beside the built-in ones; may be repeated."
    ),
]


def _workspace(context: typer.Context) -> Workspace:
    from trailhawk.workspace import Workspace

    return Workspace.open(_home(context))


# --- logs ---------------------------------------------------------------------------------------------------


@app.command(
    epilog=_examples(
        "trailhawk ingest ~/logs/cloudtrail",
        "trailhawk ingest one.json.gz two.json --format json",
    )
)
def ingest(
    context: typer.Context,
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Log files, and folders of them.")],
    form: FormatOption = Format.TABLE,
    quiet: QuietOption = False,
) -> None:
    """Take logs into the lake.

    CloudTrail as AWS writes it, as JSON array or as JSON lines, gzipped or not.
    What was taken before is skipped, an event that was stored before is not
    stored again, and what cannot be read is kept in quarantine.
    """
    from trailhawk.render.console import progress

    with progress("ingest, objects", quiet=quiet) as bar:
        summary = _workspace(context).ingest(paths, lambda done: bar(done.objects, done.all_objects))
    show_one({**members(summary), "seconds": round(summary.seconds, 2)}, form)
    if not summary.objects:
        _tell("no files found there; hidden ones are passed over")
    if summary.quarantined:
        _tell(f"{summary.quarantined:,} parts could not be stored: 'trailhawk quarantine list' shows them")


quarantine = typer.Typer(help="What could not be stored, with place and reason.")
app.add_typer(quarantine, name="quarantine")


@quarantine.command(
    "list", epilog=_examples("trailhawk quarantine list", "trailhawk quarantine list --format json")
)
def quarantine_list(context: typer.Context, form: FormatOption = Format.TABLE) -> None:
    """List all parts in quarantine, the oldest first."""
    parts = [_part(part) for part in _workspace(context).quarantine()]
    columns = [
        Shown("id", "id"),
        Shown("at", "put here"),
        Shown("reason", "reason"),
        Shown("start", "first byte", right=True),
        Shown("size", "bytes", right=True),
        Shown("location", "object"),
    ]
    show_list(parts, columns, form, empty="nothing in quarantine")


@quarantine.command("show", epilog=_examples("trailhawk quarantine show 0a1b2c3d4e5f"))
def quarantine_show(
    context: typer.Context,
    part: Annotated[str, typer.Argument(metavar="ID", help="Its id in the list.")],
    form: FormatOption = Format.TABLE,
) -> None:
    """Show one part with its content, at most 64 KiB of it."""
    from trailhawk.connectors.quarantine import encode, show

    found = show(_workspace(context).lake, part)
    content, encoding = encode(found.content)
    show_one({**_part(found), "encoding": encoding, "content": content}, form)


def _part(part: Quarantined) -> dict[str, object]:
    return {name: value for name, value in members(part).items() if name != "content"}


@app.command(epilog=_examples("trailhawk tables", "trailhawk tables --format json"))
def tables(context: typer.Context, form: FormatOption = Format.TABLE) -> None:
    """List the tables with their rows, time range and size."""
    columns = [
        Shown("name", "table"),
        Shown("rows", "rows", right=True),
        Shown("first", "first event"),
        Shown("last", "last event"),
        Shown("files", "files", right=True),
        Shown("bytes", "bytes", right=True),
        Shown("description", "what it holds"),
    ]
    states = [members(state) for state in _workspace(context).tables()]
    show_list(states, columns, form, empty="no tables")


# --- queries ------------------------------------------------------------------------------------------------


@app.command(
    epilog=_examples(
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

    at = _moment(now) if now else _now()
    if batch:
        if kql or file:
            raise UsageError("--batch reads its queries from standard input")
        from trailhawk.engine.batch import run_batch

        for answer in run_batch(sys.stdin, _workspace(context).engine, now=at):
            print(answer, flush=True)
        return
    text = _query_text(kql, file)
    window = TimeRange(*time_range(timespan, at)) if timespan else None
    try:
        result = _workspace(context).query(text, now=at, window=window)
    except QueryError as error:
        raise typer.Exit(_fail(error.render(text), EXIT_FAILURE)) from None
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


functions = typer.Typer(help="The stored functions that queries may call by name.")
app.add_typer(functions, name="functions")


@functions.command("list", epilog=_examples("trailhawk functions list"))
def functions_list(context: typer.Context, form: FormatOption = Format.TABLE) -> None:
    """List the functions of the package and of the home's folder 'functions'.

    A function is a file of KQL there, called by the file's name: comment lines
    that say what it is for, then a query, or (parameters) { query }.
    """
    found = [
        {
            "name": function.name,
            "parameters": function.parameters,
            "about": function.fault or function.documentation.partition("\n")[0],
            "source": function.source,
        }
        for function in _workspace(context).functions.all()
    ]
    columns = [Shown("name", "function"), Shown("about", "what it is for"), Shown("source", "file")]
    show_list(found, columns, form, empty="no functions")


@functions.command("show", epilog=_examples("trailhawk functions show imAuthentication"))
def functions_show(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name in the list.")],
    form: FormatOption = Format.TABLE,
) -> None:
    """Show one function: its parameters, documentation and text."""
    function = _workspace(context).functions.named(name)
    if form is Format.TABLE:
        print(visible(f"// {function.source}\n{function.text or function.fault}".rstrip(), keep="\n"))
        return
    show_one(
        {
            "name": function.name,
            "parameters": function.parameters,
            "documentation": function.documentation,
            "source": function.source,
            "text": function.text,
            "fault": function.fault,
        },
        form,
    )


watchlist = typer.Typer(help="Lists of your own that queries read with _GetWatchlist('alias').")
app.add_typer(watchlist, name="watchlist")
AliasArgument = Annotated[str, typer.Argument(metavar="ALIAS", help="The name that queries use.")]


@watchlist.command(
    "import",
    epilog=_examples(
        "trailhawk watchlist import admins admins.csv", "trailhawk watchlist import admins new.csv --key Arn"
    ),
)
def watchlist_import(
    context: typer.Context,
    alias: AliasArgument,
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="CSV in UTF-8, 3.8 MB at most; its first line names columns."),
    ],
    key: Annotated[
        str, typer.Option("--key", metavar="COLUMN", help="Column of SearchKey; the first unless given.")
    ] = "",
    form: FormatOption = Format.TABLE,
) -> None:
    """Make a watchlist of a CSV file, or bring it to what the file says.

    Items that are not in the file any more are deleted; what each version
    held stays.
    """
    workspace = _workspace(context)
    done = workspace.watchlists.load(alias, file, key=key or None, now=workspace.clock())
    show_one(members(done), form)


@watchlist.command("list", epilog=_examples("trailhawk watchlist list"))
def watchlist_list(context: typer.Context, form: FormatOption = Format.TABLE) -> None:
    """List the watchlists."""
    found = [{**members(one), "columns": list(one.columns)} for one in _workspace(context).watchlists.all()]
    columns = [
        Shown("alias", "alias"),
        Shown("items", "items", right=True),
        Shown("key", "search key"),
        Shown("columns", "columns"),
        Shown("version", "version", right=True),
        Shown("updated_at", "updated"),
    ]
    show_list(found, columns, form, empty="no watchlists")


@watchlist.command(
    "show",
    epilog=_examples("trailhawk watchlist show admins", "trailhawk watchlist show admins --version 1"),
)
def watchlist_show(
    context: typer.Context,
    alias: AliasArgument,
    version: Annotated[
        int, typer.Option("--version", metavar="N", help="As it was then; as it is unless given.", min=0)
    ] = 0,
    form: FormatOption = Format.TABLE,
) -> None:
    """Show the items of a watchlist."""
    store = _workspace(context).watchlists
    found = store.watchlist(alias, version=version or None)
    items = [
        {"SearchKey": item.key, **item.values, "LastUpdatedTimeUTC": item.updated_at, "_DTItemId": item.id}
        for item in store.items(alias, found.version)
    ]
    columns = [Shown(name, name) for name in ("SearchKey", *found.columns, "LastUpdatedTimeUTC")]
    show_list(items, columns, form, empty="no items")


@watchlist.command("remove", epilog=_examples("trailhawk watchlist remove admins"))
def watchlist_remove(context: typer.Context, alias: AliasArgument, form: FormatOption = Format.TABLE) -> None:
    """Take a watchlist out of use; what it held stays in the state database."""
    workspace = _workspace(context)
    show_one(members(workspace.watchlists.remove(alias, now=workspace.clock())), form)


# --- detection ----------------------------------------------------------------------------------------------


rules = typer.Typer(help="The detection rules.")
app.add_typer(rules, name="rules")


@rules.command("list", epilog=_examples("trailhawk rules list", "trailhawk rules list --rules my-rules"))
def rules_list(
    context: typer.Context,
    folders: RulesOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """List the rules with severity, frequency, period and techniques."""
    found = [
        {
            "id": rule.id,
            "name": rule.name,
            "severity": rule.severity.value,
            "kind": rule.kind.value,
            "frequency": rule.frequency,
            "period": rule.period,
            "tactics": list(rule.tactics),
            "techniques": list(rule.techniques),
            "source": rule.source,
        }
        for rule in _workspace(context).rules(map(Path, folders or ()))
    ]
    columns = [
        Shown("name", "rule"),
        Shown("severity", "severity"),
        Shown("frequency", "every", right=True),
        Shown("period", "looks back", right=True),
        Shown("techniques", "techniques"),
        Shown("source", "file"),
    ]
    show_list(found, columns, form, empty="no rules")


@app.command(
    epilog=_examples(
        "trailhawk detect",
        "trailhawk detect --from 2023-07-01 --to 2023-07-15 --rules my-rules",
    )
)
def detect(
    context: typer.Context,
    start: Annotated[
        str, typer.Option("--from", metavar="TIME", help="First moment; all that is stored unless given.")
    ] = "",
    end: Annotated[str, typer.Option("--to", metavar="TIME", help="Moment before which it ends.")] = "",
    folders: RulesOption = None,
    form: FormatOption = Format.TABLE,
    quiet: QuietOption = False,
) -> None:
    """Run every rule over the stored history.

    Window by window, as a scheduler would have run them, by the time of the
    events. A window whose rule needs more history than there is is skipped:
    learning. Running it again raises only what is new.
    """
    from trailhawk.render.console import progress

    workspace = _workspace(context)
    first, last = _moment(start) if start else None, _moment(end) if end else None
    if first and last and first >= last:
        raise UsageError(f"--from {start} is not before --to {end}")
    with progress("detect, windows", quiet=quiet) as bar:
        summary = workspace.detect(
            workspace.rules(map(Path, folders or ())), start=first, end=last, progress=bar
        )
    from trailhawk.render.incident import show_detection

    show_detection(summary, workspace.incidents.all(), form)
    if any(rule.failed for rule in summary.rules):
        raise typer.Exit(EXIT_FAILURE)


incidents = typer.Typer(help="What the alerts add up to.")
app.add_typer(incidents, name="incidents")


@incidents.command(
    "list", epilog=_examples("trailhawk incidents list", "trailhawk incidents list --format json")
)
def incidents_list(context: typer.Context, form: FormatOption = Format.TABLE) -> None:
    """List the incidents by number."""
    from trailhawk.render.incident import show_incidents

    show_incidents(_workspace(context).incidents.all(), form)


@incidents.command(
    "show", epilog=_examples("trailhawk incidents show 1", "trailhawk incidents show 1 --format json")
)
def incidents_show(
    context: typer.Context,
    number: Annotated[int, typer.Argument(metavar="N", help="Its number in the list.")],
    events: Annotated[
        int, typer.Option("--events", metavar="N", help="Most events of the timeline; 0 for all.", min=0)
    ] = 50,
    form: FormatOption = Format.TABLE,
) -> None:
    """Show one incident in full.

    Story, entities, timeline, where the credentials came from, which objects
    left, and the ATT&CK techniques.
    """
    from trailhawk.render.incident import show_report

    show_report(_workspace(context).report(number), form, most_events=events)


# --- simulation ---------------------------------------------------------------------------------------------


def _scenarios() -> list[tuple[str, str]]:
    from trailhawk.simulate.techniques import SCENARIOS

    return [(scenario.name, scenario.description) for scenario in SCENARIOS]


@app.command(
    epilog=_examples(
        "trailhawk simulate cloud-breach-s3 --out sim",
        "trailhawk simulate cloud-breach-s3 --out sim --days 7 --seed 3 --end 2026-01-31",
    )
)
def simulate(
    scenario: Annotated[
        str,
        typer.Argument(metavar="SCENARIO", help="The attack: cloud-breach-s3.", autocompletion=_scenarios),
    ],
    out: Annotated[str, typer.Option("--out", metavar="DIR", help="New folder for logs and truth.")],
    days: Annotated[
        int, typer.Option("--days", metavar="N", help="How many days; the attack is on the last.")
    ] = 35,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Another seed is another company.")] = 1,
    events_per_day: Annotated[
        int, typer.Option("--events-per-day", metavar="N", help="About how many events.")
    ] = 3000,
    end: Annotated[
        str,
        typer.Option(
            "--end", metavar="DATE", help="The last day; yesterday unless given.", show_default=False
        ),
    ] = "",
    form: FormatOption = Format.TABLE,
    quiet: QuietOption = False,
) -> None:
    """Write the CloudTrail logs of a company's ordinary days with an attack on the last.

    Logs go to DIR/logs in AWS's layout, what really happened to DIR/truth.json.
    The same seed, days, rate and end give the same bytes.
    """
    from trailhawk.render.console import progress
    from trailhawk.simulate.run import simulate as run_simulation

    last = _day(end) if end else _now().date() - timedelta(days=1)
    with progress("simulate, days", quiet=quiet) as bar:
        summary = run_simulation(
            scenario, Path(out), days=days, seed=seed, events_per_day=events_per_day, end=last, progress=bar
        )
    show_one(members(summary), form)


@app.command(epilog=_examples("trailhawk demo", "trailhawk --home /tmp/try demo --seed 3"))
def demo(
    context: typer.Context,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Another seed is another company.")] = 1,
    quiet: QuietOption = False,
) -> None:
    """Show the whole road: simulate, take in, detect, explain, ask.

    Works in the folder 'demo' of the home, which it empties first if an
    earlier demonstration made it.
    """
    from trailhawk.demo import demo as run_demo

    run_demo(_home(context) / "demo", seed=seed, quiet=quiet)


# --- times ----------------------------------------------------------------------------------------------

_PART = re.compile(r"(\d+)(d|h|m|s)")
_ISO_DURATION = re.compile(r"P(?:(\d+)W)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?")
_UNITS = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds"}


def _now() -> datetime:
    return datetime.now(UTC)


def _moment(text: str) -> datetime:
    """A date or time in ISO 8601, UTC where no offset is written."""
    try:
        moment = datetime.fromisoformat(text.strip())
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise UsageError(f"'{text}' is no time", hint="write 2023-07-01 or 2023-07-01T12:00:00Z") from None


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text.strip())
    except ValueError:
        raise UsageError(f"'{text}' is no day", hint="write 2023-07-01") from None


def _duration(text: str) -> timedelta | None:
    """`7d`, `1d12h`, `PT30M`; None for what is no duration."""
    text = text.strip()
    if text and not _PART.sub("", text):
        return sum((timedelta(**{_UNITS[unit]: int(n)}) for n, unit in _PART.findall(text)), timedelta())
    iso_form = _ISO_DURATION.fullmatch(text)
    if iso_form is None or not any(iso_form.groups()):
        return None
    weeks, days, hours, minutes, seconds = (int(part or 0) for part in iso_form.groups())
    return timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)


def time_range(text: str, now: datetime) -> tuple[datetime | None, datetime | None]:
    """`7d` up to now, or an ISO 8601 interval: `start/end`, `start/7d`, `7d/end`, `start/`, `/end`."""
    try:
        return _time_range(text, now)
    except OverflowError:
        raise UsageError(f"the timespan '{text}' reaches beyond the years 1 to 9999") from None


def _time_range(text: str, now: datetime) -> tuple[datetime | None, datetime | None]:
    hint = "write 7d, 12h, or 2023-07-01/2023-07-02"
    start_text, slash, end_text = text.partition("/")
    if not slash:
        back = _duration(text)
        if back is None:
            raise UsageError(f"'{text}' is no timespan", hint=hint)
        return now - back, now
    back, forth = _duration(start_text), _duration(end_text)
    start = _moment(start_text) if start_text and back is None else None
    end = _moment(end_text) if end_text and forth is None else None
    if back is not None:
        start = None if end is None else end - back
    if forth is not None:
        end = None if start is None else start + forth
    if (back or forth) and not (start and end):
        raise UsageError(f"'{text}' is no timespan", hint=hint)
    if start and end and start >= end:
        raise UsageError(f"the timespan '{text}' ends before it starts")
    return start, end


# --- how it ends ----------------------------------------------------------------------------------------


def main() -> None:
    """Run the command line of this process and end it."""
    # Imports alone make some 300,000 lasting objects; looked through at every 700 they cost a start 0.08 s.
    gc.set_threshold(50_000, 20, 50)
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command line; the exit code: 0, 1 for failure, 2 for wrong use, 130 interrupted."""
    try:
        command = typer.main.get_command(app)
        outcome = command.main(_home_first(arguments), prog_name="trailhawk", standalone_mode=False)
        sys.stdout.flush()
        return outcome if isinstance(outcome, int) else 0
    except TrailhawkError as error:
        return _fail(f"{error.kind}: {error}", EXIT_USAGE if isinstance(error, UsageError) else EXIT_FAILURE)
    except typer.TyperException as error:
        return _fail(f"usage: {error.format_message().rstrip('.')}{_help_hint(error)}", error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", EXIT_INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output has left; the interpreter's own flush at the end must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILURE
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"error: {where}{error.strerror or _one_line(error)}", EXIT_FAILURE)
    except Exception as error:
        # What no room has an answer to is a fault of ours, or a damaged file that a library stumbles over.
        if os.environ.get("TRAILHAWK_TRACEBACK"):
            raise
        what = f"{type(error).__name__}: {_one_line(error)}"
        return _fail(f"internal error: {what}; TRAILHAWK_TRACEBACK=1 shows where", EXIT_FAILURE)


def _home_first(arguments: Sequence[str]) -> list[str]:
    """The arguments with `--home DIR` in front, wherever it was typed."""
    words = list(arguments)
    end = words.index("--") if "--" in words else len(words)
    place = next((at for at, word in enumerate(words[:end]) if word.split("=")[0] == "--home"), 0)
    length = 1 if words and "=" in words[place] else 2
    return words[place : place + length] + words[:place] + words[place + length :] if place else words


def _fail(message: str, code: int) -> int:
    _tell(message)
    return code


def _one_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _tell(message: str) -> None:
    print(visible(message, keep="\n"), file=sys.stderr)


def _help_hint(error: typer.TyperException) -> str:
    command = getattr(getattr(error, "ctx", None), "command_path", "trailhawk")
    return f"; try '{command} --help'"
