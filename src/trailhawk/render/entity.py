"""The page of an entity, for people and for scripts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trailhawk.render.console import page_width, results
from trailhawk.render.incident import SEVERITY_STYLE
from trailhawk.render.output import Format
from trailhawk.render.text import members, plain, to_json
from trailhawk.visible import visible
from trailhawk.words import counted

if TYPE_CHECKING:
    from rich.text import Text

    from trailhawk.incidents.entity import EntityPage, Sum
    from trailhawk.incidents.incident import Incident

_MOST_NEIGHBOURS = 8
_GRID_WIDTH = 72
"""Below that many columns lines are easier to read than a grid."""


def show_entity(page: EntityPage, incidents: Sequence[Incident], form: Format) -> None:
    """Print what is known of an entity, and the incidents that name it."""
    if form is Format.JSON:
        print(to_json(_as_data(page, incidents), indent=2))
        return
    from rich.table import Table

    console = results()
    width = page_width(console)
    console.print(_text(f"{page.node.type} ", "dim").append_text(_text(page.node.name, "bold")), width=width)
    if page.whole is None:
        console.print(_text("no call of CloudTrail is about it in this time", "dim"), width=width)
    else:
        console.print(_text(f"{_counted(page.whole)}, {_span(page.whole)}"), width=width)
    for incident in incidents:
        head = _text(f"Incident {incident.number} ", "")
        head.append(incident.severity.value, SEVERITY_STYLE.get(incident.severity.value, ""))
        head.append(visible(f" {incident.status.value}: {incident.title}"))
        console.print(head, width=width)
    for kind, sums in page.lists.items():
        console.print()
        console.print(_text(kind.capitalize(), "bold"), width=width)
        table = Table(box=None, pad_edge=True, show_header=False, padding=(0, 1))
        table.add_column(overflow="fold")
        table.add_column(justify="right", no_wrap=True)
        table.add_column(no_wrap=True)
        for each in sums:
            if width < _GRID_WIDTH:
                console.print(_text(f" {each.name}  ").append_text(_text(_counted(each))), width=width)
                console.print(_text(f"   {_span(each)}", "dim"), width=width)
            else:
                table.add_row(_text(each.name), _text(_counted(each)), _text(_span(each), "dim"))
        if table.row_count:
            console.print(table, width=width)
    for found in page.expanded:
        console.print()
        count = len(found.edges) + found.left_out
        console.print(_text(f"{found.expansion.title} ({count:,})", "bold"), width=width)
        names = {node.id: node.name for node in found.nodes}
        for edge in found.edges[:_MOST_NEIGHBOURS]:
            times = f" x{edge.count:,}" if edge.count > 1 else ""
            size = f", {edge.bytes:,} bytes" if edge.bytes else ""
            last = f"last {edge.last:%Y-%m-%d %H:%M}" if edge.last else ""
            line = _text(f"  {names.get(edge.target, edge.target)}")
            console.print(line.append_text(_text(f"  {edge.says}{times}{size}, {last}", "dim")), width=width)
        if count > _MOST_NEIGHBOURS:
            console.print(_text(f"  and {count - _MOST_NEIGHBOURS:,} more", "dim"), width=width)


def _counted(each: Sum) -> str:
    refused = f", {each.refused:,} refused" if each.refused else ""
    return f"{counted(each.calls, 'call')}{refused}"


def _span(each: Sum) -> str:
    if each.first == each.last:
        return f"{each.first:%Y-%m-%d %H:%M}"
    return f"{each.first:%Y-%m-%d %H:%M} to {each.last:%Y-%m-%d %H:%M}"


def _as_data(page: EntityPage, incidents: Sequence[Incident]) -> dict[str, object]:
    return {
        "type": page.node.type,
        "name": page.node.name,
        "calls": plain(members(page.whole)) if page.whole else None,
        "lists": {kind: [plain(members(each)) for each in sums] for kind, sums in page.lists.items()},
        "incidents": [
            {
                "number": each.number,
                "title": each.title,
                "severity": each.severity.value,
                "status": each.status.value,
            }
            for each in incidents
        ],
        "related": [
            {
                "question": each.expansion.id,
                "title": each.expansion.title,
                "left_out": each.left_out,
                "found": [plain(members(edge)) for edge in each.edges],
            }
            for each in page.expanded
        ],
    }


def _text(text: str, style: str = "") -> Text:
    from rich.text import Text

    return Text(visible(text), style=style, overflow="fold")
