"""Who is told of incidents, and whether it arrived."""

from __future__ import annotations

from typing import Annotated

import typer

from trailhawk.cli.options import EXIT_FAILURE, FormatOption, examples, group, tell, workspace_of
from trailhawk.render.output import Format, Shown, print_json_list, show_list
from trailhawk.render.text import members
from trailhawk.visible import visible

app = group("Mail, chat and webhooks about incidents: `[notify.channels.NAME]` of trailhawk.toml.")


@app.command("list", epilog=examples("trailhawk notify list", "trailhawk notify list --format json"))
def notify_list(context: typer.Context, form: FormatOption = Format.TABLE) -> None:
    """List the channels: where, about what, from which severity on."""
    from trailhawk.respond.channel import Email, channels

    rows = [
        {
            "channel": each.name,
            "type": type(each.way).__name__.lower(),
            "to": ", ".join(each.way.to)
            if isinstance(each.way, Email)
            else each.way.url_env or _host(each.way.url),
            "when": ", ".join(one.value for one in each.when),
            "severity": each.severity.value,
            "digest_hours": each.digest_hours,
            "most_hourly": each.most_hourly,
        }
        for each in channels(workspace_of(context).settings.notify)
    ]
    if form is Format.JSON:
        print_json_list(rows)
        return
    columns = [
        Shown("channel", "channel"),
        Shown("type", "type"),
        Shown("to", "to"),
        Shown("when", "when"),
        Shown("severity", "from severity"),
        Shown("digest_hours", "digest (hours)", right=True),
    ]
    show_list(rows, columns, form, empty="no channels; docs/notify.md shows how to set one up")


def _host(url: str) -> str:
    """Of an address only what is no secret: in Apprise's form and in webhooks the path often is one."""
    from urllib.parse import urlsplit

    scheme = url.partition("://")[0]
    if scheme not in ("http", "https"):
        return f"{scheme}://..."
    try:
        return f"{scheme}://{urlsplit(url).hostname or '...'}"
    except ValueError:
        return f"{scheme}://..."


@app.command("test", epilog=examples("trailhawk notify test desk"))
def notify_test(
    context: typer.Context,
    channel: Annotated[str, typer.Argument(metavar="CHANNEL", help="Its name.")],
    form: FormatOption = Format.TABLE,
) -> int:
    """Send a message to a channel now, and say what the other side answered."""
    from trailhawk.respond.notifier import sample

    workspace = workspace_of(context)
    done = workspace.response.notifier.test(channel, sample(workspace.clock()))
    if form is Format.JSON:
        print_json_list([members(done)])
    elif done.sent:
        print(visible(f"sent: {done.detail}"))
    else:
        tell(f"not sent: {done.detail}")
    return 0 if done.sent else EXIT_FAILURE


@app.command("send", epilog=examples("trailhawk notify send"))
def notify_send(context: typer.Context, form: FormatOption = Format.TABLE) -> int:
    """Send what is due now; `trailhawk run` does it by itself."""
    from trailhawk.respond.notifier import Delivered

    notifier = workspace_of(context).response.notifier
    notifier.collect()
    done: list[Delivered] = []

    def told(one: Delivered) -> None:
        tell(f"{one.channel}: {'sent' if one.sent else f'not sent: {one.detail}'}")
        done.append(one)

    went = notifier.deliver(told)
    if form is Format.JSON:
        print_json_list([members(one) for one in done])
    else:
        print(f"{went:,} sent, {len(done) - went:,} not sent")
    return EXIT_FAILURE if went < len(done) else 0


@app.command("log", epilog=examples("trailhawk notify log", "trailhawk notify log --format json"))
def notify_log(
    context: typer.Context,
    most: Annotated[int, typer.Option("--most", metavar="N", help="How many tries.", min=1)] = 50,
    form: FormatOption = Format.TABLE,
) -> None:
    """Show the tries to send, newest last: when, to whom, and what came of each."""
    rows = [
        members(each) | {"outcome": each.outcome.value}
        for each in workspace_of(context).response.outbox.tries(limit=most)
    ]
    if form is Format.JSON:
        print_json_list(rows)
        return
    columns = [
        Shown("at", "at"),
        Shown("channel", "channel"),
        Shown("outcome", "outcome"),
        Shown("detail", "detail"),
        Shown("delivery", "delivery"),
    ]
    show_list(rows, columns, form, empty="nothing was sent yet")


@app.command("waiting", epilog=examples("trailhawk notify waiting"))
def notify_waiting(context: typer.Context, form: FormatOption = Format.TABLE) -> None:
    """Show what is still to be sent, and what was given up."""
    from trailhawk.respond.outbox import State

    states = (State.WAITING, State.SENDING, State.FAILED)
    rows = [
        members(each) | {"state": each.state.value}
        for each in workspace_of(context).response.outbox.notices(states)
    ]
    if form is Format.JSON:
        print_json_list(rows)
        return
    columns = [
        Shown("channel", "channel"),
        Shown("state", "state"),
        Shown("number", "incident", right=True),
        Shown("occasion", "occasion"),
        Shown("due_at", "due"),
        Shown("tries", "tries", right=True),
        Shown("delivery", "delivery"),
    ]
    show_list(rows, columns, form, empty="nothing waits")


@app.command("retry", epilog=examples("trailhawk notify retry 6f0b3a52-1c59-5f5e-8d1a-0a7f6a1b2c3d"))
def notify_retry(
    context: typer.Context,
    delivery: Annotated[str, typer.Argument(metavar="DELIVERY", help="As `notify log` names it.")],
    form: FormatOption = Format.TABLE,
) -> None:
    """Send a message once more that was given up."""
    workspace = workspace_of(context)
    count = workspace.response.outbox.again(delivery, workspace.clock())
    if form is Format.JSON:
        print_json_list([{"delivery": delivery, "notices": count}])
    else:
        print(f"{count:,} will be sent again")
