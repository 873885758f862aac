"""Writing the logs of an attack."""

from __future__ import annotations

import shlex
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from trailhawk.cli.options import FormatOption, QuietOption, examples, single, tell
from trailhawk.cli.times import day, utc_now
from trailhawk.errors import UsageError
from trailhawk.render.output import Format, Shown, show_list, show_one
from trailhawk.render.text import members

app = single()

LIST = "list"
_COLUMNS = (
    Shown("scenario", "scenario"),
    Shown("variant", "variant"),
    Shown("number", "number"),
    Shown("description", "what happens"),
)


def _scenarios() -> list[tuple[str, str]]:
    from trailhawk.simulate.techniques import SCENARIOS

    found = [(scenario.name, scenario.description) for scenario in SCENARIOS]
    return [*found, (LIST, "every scenario with its variants")]


def _variants() -> list[tuple[str, str]]:
    from trailhawk.simulate.techniques import SCENARIOS

    return [
        (variant.name, f"{variant.number}: {variant.description}")
        for scenario in SCENARIOS
        for variant in scenario.variants
    ]


def _every_variant() -> list[dict[str, object]]:
    from trailhawk.simulate.techniques import SCENARIOS

    return [
        {
            "scenario": scenario.name,
            "variant": variant.name,
            "number": variant.number,
            "events": variant.events,
            "description": variant.description,
        }
        for scenario in SCENARIOS
        for variant in scenario.variants
    ]


@app.command(
    epilog=examples(
        "trailhawk simulate cloud-breach-s3 --out sim",
        "trailhawk simulate cloud-breach-s3 --out sim --days 7 --seed 3 --end 2026-01-31",
        "trailhawk simulate cloud-breach-s3 --variant slow --out sim",
        "trailhawk simulate cloud-breach-s3 --variant V9 --events 2000000 --out sim",
        "trailhawk simulate function-credentials --out sim",
        "trailhawk simulate list",
    )
)
def simulate(
    scenario: Annotated[
        str,
        typer.Argument(
            metavar="SCENARIO",
            help="The attack: cloud-breach-s3 or function-credentials; or list, for all with their variants.",
            autocompletion=_scenarios,
        ),
    ],
    out: Annotated[
        str, typer.Option("--out", metavar="DIR", help="New folder for logs and truth.", show_default=False)
    ] = "",
    variant: Annotated[
        str,
        typer.Option(
            "--variant",
            metavar="NAME",
            help="How the attack goes: slow, denied, ... or V2, V7, ...; the ordinary way unless given.",
            show_default=False,
            autocompletion=_variants,
        ),
    ] = "",
    days: Annotated[
        int, typer.Option("--days", metavar="N", help="How many days; the attack is on the last.")
    ] = 35,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Another seed is another company.")] = 1,
    events_per_day: Annotated[
        int | None,
        typer.Option(
            "--events-per-day",
            metavar="N",
            help="About how many events a day; 3000 unless the variant says otherwise.",
            show_default=False,
        ),
    ] = None,
    events: Annotated[
        int | None,
        typer.Option(
            "--events",
            metavar="N",
            help="About how many events of all days together, instead of --events-per-day.",
            show_default=False,
        ),
    ] = None,
    flows_per_day: Annotated[
        int,
        typer.Option(
            "--flows-per-day",
            metavar="N",
            help="About how many flow records of ordinary traffic; 0 writes CloudTrail alone.",
        ),
    ] = 1200,
    end: Annotated[
        str,
        typer.Option(
            "--end", metavar="DATE", help="The last day; yesterday unless given.", show_default=False
        ),
    ] = "",
    form: FormatOption = Format.TABLE,
    quiet: QuietOption = False,
) -> None:
    """Write the logs of a company's ordinary days with an attack on the last.

    CloudTrail, VPC flow records, S3 access logs, GuardDuty findings and the
    access log of a web server tell the same story.

    The attack goes one of several ways (--variant); some are refused, some only
    resemble an attack. `simulate list` tells them.

    Logs go to DIR/logs in AWS's layout, what really happened to DIR/truth.json,
    and what a detection should say of it. The same variant, seed, days, rate and
    end give the same bytes.
    """
    from trailhawk.render.console import progress
    from trailhawk.simulate.run import a_day
    from trailhawk.simulate.run import simulate as run_simulation

    if scenario == LIST:
        show_list(_every_variant(), _COLUMNS, form, empty="There are no scenarios.")
        return
    if not out:
        raise UsageError("no folder for the logs", hint="name a new one with --out DIR")
    last = day(end) if end else utc_now().date() - timedelta(days=1)
    if events is not None:
        if events_per_day is not None:
            raise UsageError("--events and --events-per-day are both given", hint="give one of them")
        events_per_day = a_day(events, days=days, end=last)
    with progress("simulate, days", quiet=quiet) as bar:
        summary = run_simulation(
            scenario,
            Path(out),
            variant=variant,
            days=days,
            seed=seed,
            events_per_day=events_per_day,
            flows_per_day=flows_per_day,
            end=last,
            progress=bar,
        )
    show_one({**members(summary), "seconds": round(summary.seconds, 2)}, form)
    if form is Format.TABLE:
        tell(f"next: trailhawk ingest {shlex.quote(str(summary.logs))} && trailhawk detect")
