"""The answers of posture checks, for people and for scripts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from trailhawk.render.incident import SEVERITY_STYLE
from trailhawk.render.output import Format, print_json_list
from trailhawk.render.text import members
from trailhawk.visible import visible

if TYPE_CHECKING:
    from trailhawk.detect.posture import Answer

_MOST_SHOWN: Final = 15
_GRID_WIDTH: Final = 72
"""Below that many columns a line for each finding is easier to read than a grid."""


def show_posture(answers: Sequence[Answer], form: Format) -> None:
    """Print each check with its findings; those without any are summed up."""
    if form is Format.JSON:
        print_json_list([_plain(each) for each in answers])
        return
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from trailhawk.render.console import page_width, results

    console = results()
    width = page_width(console)
    for answer in (each for each in answers if each.found):
        check = answer.check
        count = len(answer.found) + answer.left_out
        head = Text(f"{check.severity.value}  ", style=SEVERITY_STYLE.get(check.severity.value, ""))
        head.append(f"{check.title} ({count:,})", style="bold")
        console.print(head, width=width)
        console.print(Text(check.why, style="dim"), width=width)
        table = Table(box=box.SIMPLE, pad_edge=True, show_header=False, padding=(0, 1))
        for overflow in ("fold", "fold", "ellipsis", "ellipsis"):
            table.add_column(overflow=overflow)
        for each in answer.found[:_MOST_SHOWN]:
            often, last = f"{each.count:,}x", f"last {each.last:%Y-%m-%d %H:%M}"
            if width < _GRID_WIDTH:
                line = Text(visible(f"  {each.subject}  {each.detail}"), overflow="fold")
                console.print(line.append(f"  {often}, {last}", style="dim"), width=width)
            else:
                table.add_row(
                    Text(visible(each.subject)),
                    Text(visible(each.detail)),
                    Text(often, style="dim"),
                    Text(last, style="dim"),
                )
        if table.row_count:
            console.print(table, width=width)
        if count > _MOST_SHOWN:
            console.print(
                Text(f"  and {count - _MOST_SHOWN:,} more; --format json has them", style="dim"), width=width
            )
        console.print(Text(f"  Do: {check.fix}\n"), width=width)
    well = [each for each in answers if not each.found and not each.blind]
    if well:
        console.print(
            Text(f"Nothing found ({len(well)}): {'; '.join(e.check.title for e in well)}"), width=width
        )
    for answer in (each for each in answers if each.blind):
        console.print(
            Text(
                f"Cannot say, {', '.join(answer.blind)} holds nothing: {answer.check.title}", style="yellow"
            ),
            width=width,
        )


def _plain(answer: Answer) -> dict[str, object]:
    return {
        "check": answer.check.id,
        "title": answer.check.title,
        "severity": answer.check.severity.value,
        "why": answer.check.why,
        "fix": answer.check.fix,
        "blind": list(answer.blind),
        "left_out": answer.left_out,
        "found": [members(each) for each in answer.found],
    }
