"""Ways in for logs: what there is, whether it works, running one."""

from __future__ import annotations

import threading
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from trailhawk.cli.options import (
    EXIT_FAILURE,
    FormatOption,
    QuietOption,
    examples,
    group,
    home_of,
    tell,
    workspace_of,
)
from trailhawk.cli.signals import stopped_by_signals
from trailhawk.render.output import Format, Shown, for_programs, show_list, show_one
from trailhawk.render.text import members, to_json
from trailhawk.visible import visible
from trailhawk.words import counted

if TYPE_CHECKING:
    from trailhawk.connectors.connector import Connector, State

app = group("The ways in for logs that trailhawk.toml of the home names.")

NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="The connector's name in trailhawk.toml.", show_default=False)
]

_LOOK_SECONDS = 0.5


@app.command("list", epilog=examples("trailhawk connectors list", "trailhawk connectors list --format json"))
def list_(context: typer.Context, form: FormatOption = Format.TABLE) -> None:
    """List the connectors with their type and where they bring logs from."""
    found = workspace_of(context).connector_settings
    things = [{"name": each.name, "type": each.type, "where": each.where} for each in found.values()]
    columns = [Shown("name", "name"), Shown("type", "type"), Shown("where", "where")]
    file = home_of(context) / "trailhawk.toml"
    show_list(things, columns, form, empty=f"no connectors: {file} has none, see docs/connectors.md")


@app.command(
    epilog=examples(
        "trailhawk connectors run cloudtrail",
        "trailhawk connectors run backfill --once",
    )
)
def run(
    context: typer.Context,
    name: NameArgument,
    once: Annotated[bool, typer.Option("--once", help="End when there is nothing more to take now.")] = False,
    form: FormatOption = Format.TABLE,
    quiet: QuietOption = False,
) -> None:
    """Take what a connector brings into the lake, until it is told to stop.

    Ctrl-C and SIGTERM end it: what it has read is stored first, and the rest
    is given back. It may run several times at once, on any number of machines.
    """
    connector = workspace_of(context).connector(name)
    stop = threading.Event()
    with stopped_by_signals(stop):
        state = _run(connector, stop, once=once, quiet=quiet)
    show_one({key: value for key, value in members(state).items() if key in _SUMMARY}, form)
    if state.set_aside:
        tell(
            f"{counted(state.set_aside, 'object was', 'objects were')} set aside:"
            " 'trailhawk quarantine list' shows them"
        )
    if state.problem:
        tell(f"last problem: {state.problem}")


@app.command("test", epilog=examples("trailhawk connectors test cloudtrail"))
def try_(context: typer.Context, name: NameArgument, form: FormatOption = Format.TABLE) -> None:
    """Try what a connector cannot work without: sign in, see the queue or bucket, read an object.

    Nothing is taken into the lake. It ends with 1 where something fails.
    """
    _examined(context, name, form, thorough=False)


@app.command(
    epilog=examples(
        "trailhawk connectors doctor cloudtrail", "trailhawk connectors doctor cloudtrail --format json"
    )
)
def doctor(context: typer.Context, name: NameArgument, form: FormatOption = Format.TABLE) -> None:
    """Look at every link from the trail to the lake and say what is wrong.

    Identity, trust of the role, queue and its policy, bucket, notification and
    its filter, encryption, the trail and its data events. What may not be
    looked at is unknown. A policy statement that is missing is printed. It
    ends with 1 where something fails.
    """
    _examined(context, name, form, thorough=True)


def _examined(context: typer.Context, name: str, form: Format, *, thorough: bool) -> None:
    from trailhawk.connectors.config import one
    from trailhawk.connectors.doctor import Verdict, examine

    workspace = workspace_of(context)
    settings = one(workspace.connector_settings, name, sources=workspace.sources)
    checks = list(examine(settings, thorough=thorough))
    columns = [Shown("name", "check"), Shown("verdict", "verdict"), Shown("said", "what was found")]
    show_list([members(check) for check in checks], columns, form, empty="nothing was looked at")
    if form is Format.TABLE:
        for check in checks:
            if check.statement is not None:
                print(f"\n{visible(check.policy)} lacks, for {visible(check.name)}:")
                print(to_json(check.statement, indent=2))
    if any(check.verdict is Verdict.FAILED for check in checks):
        raise typer.Exit(EXIT_FAILURE)


class ConnectorType(StrEnum):
    """The types that need something in AWS."""

    SQS = "sqs"
    S3 = "s3"


class SetupForm(StrEnum):
    """What `setup` prints."""

    CLOUDFORMATION = "cloudformation"
    POLICIES = "policies"


@app.command(
    epilog=examples(
        "trailhawk connectors setup > trailhawk.yaml",
        "trailhawk connectors setup --type s3 --format policies",
        "trailhawk connectors setup --issuer https://sts.windows.net/TENANT/ --audience api://trailhawk "
        "--subject OBJECT-ID",
    )
)
def setup(
    kind: Annotated[
        ConnectorType, typer.Option("--type", help="sqs: a queue told of new objects; s3: the bucket listed.")
    ] = ConnectorType.SQS,
    form: Annotated[
        SetupForm,
        typer.Option(
            "--format",
            help="A CloudFormation template, or the policies alone as JSON.",
            callback=for_programs,
        ),
    ] = SetupForm.CLOUDFORMATION,
    issuer: Annotated[
        str,
        typer.Option(
            "--issuer",
            metavar="URL",
            help="The OpenID Connect provider whose tokens may assume the role, as their claim iss has it; "
            "an external id unless given.",
        ),
    ] = "",
    audience: Annotated[
        str, typer.Option("--audience", metavar="TEXT", help="The audience of these tokens.")
    ] = "sts.amazonaws.com",
    subject: Annotated[
        str, typer.Option("--subject", metavar="TEXT", help="The subject of these tokens.")
    ] = "",
) -> None:
    """Print what is to be set up in AWS: queue, role and policies with no right too many."""
    from trailhawk.connectors.setup import Trust, policies, template

    trust = Trust(issuer, audience, subject)
    if form is SetupForm.CLOUDFORMATION:
        print(template(kind.value, trust), end="")
    else:
        print(to_json(policies(kind.value, trust), indent=2))


_SUMMARY = ("name", "type", "objects", "records", "rows", "bytes", "skipped", "set_aside", "passed_over")


def _run(connector: Connector, stop: threading.Event, *, once: bool, quiet: bool) -> State:
    """Run a connector in a thread of its own and show how far it is; its last state."""
    from trailhawk.render.console import progress

    failed: list[BaseException] = []

    def work() -> None:
        try:
            connector.run(stop, once=once)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work, name=connector.name, daemon=True)
    thread.start()
    told = ""
    with progress(f"{connector.name}, objects", quiet=quiet) as bar:
        while thread.is_alive():
            thread.join(_LOOK_SECONDS)
            state = connector.state()
            bar(state.objects, state.total or 0)
            if state.problem and state.problem != told:
                told = state.problem
                tell(f"{connector.name}: {told}")
    if failed:
        raise failed[0]
    return connector.state()
