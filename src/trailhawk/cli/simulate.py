"""Writing the logs of an attack."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from trailhawk.cli.options import FormatOption, QuietOption, examples, single
from trailhawk.cli.times import day, utc_now
from trailhawk.render.output import Format, show_one
from trailhawk.render.text import members

app = single()


def _scenarios() -> list[tuple[str, str]]:
    from trailhawk.simulate.techniques import SCENARIOS

    return [(scenario.name, scenario.description) for scenario in SCENARIOS]


@app.command(
    epilog=examples(
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

    Logs go to DIR/logs in AWS's layout, what really happened to DIR/truth.json.
    The same seed, days, rate and end give the same bytes.
    """
    from trailhawk.render.console import progress
    from trailhawk.simulate.run import simulate as run_simulation

    last = day(end) if end else utc_now().date() - timedelta(days=1)
    with progress("simulate, days", quiet=quiet) as bar:
        summary = run_simulation(
            scenario,
            Path(out),
            days=days,
            seed=seed,
            events_per_day=events_per_day,
            flows_per_day=flows_per_day,
            end=last,
            progress=bar,
        )
    show_one(members(summary), form)
