"""The whole road in one command."""

from __future__ import annotations

from typing import Annotated

import typer

from trailhawk.cli.options import QuietOption, examples, home_of, single

app = single()


@app.command(epilog=examples("trailhawk demo", "trailhawk --home /tmp/try demo --seed 3"))
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

    run_demo(home_of(context) / "demo", seed=seed, quiet=quiet)
