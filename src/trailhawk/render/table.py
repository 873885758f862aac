"""Rows for a person: a grid where it fits, one record under the other where it does not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from trailhawk.render.text import cell
from trailhawk.visible import visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

# A column as wide as a time in ISO 8601 is never folded; a grid without room for that becomes records.
_READABLE = 20
_AT_EASE = 44
_LEAST = 14  # in a page, of which 80 columns show four of such a grid
_PIPE_WIDTH = 240
_NAMED = 8


def print_rows(
    console: Console,
    names: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    total: int | None = None,
    right: Iterable[str] = (),
    title: str = "",
) -> None:
    """Print rows as a grid or as records, then a note where `total` says that there are more.

    `right` names the columns set flush right (numbers).
    """
    from rich.text import Text

    texts = [[cell(value) for value in row] for row in rows]
    if not names:
        console.print("(no columns)")
    elif not texts:
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        listed = ", ".join(map(visible, names[:_NAMED]))
        console.print(Text(f"no rows; columns: {listed}{more}"), soft_wrap=True)
    elif _fits(console, names, texts):
        _print_grid(console, names, texts, frozenset(right), title)
    else:
        _print_records(console, names, texts)
    total = len(texts) if total is None else total
    if total > len(texts):
        note = f"{len(texts):,} of {total:,} rows shown; --rows 0 shows all"
        console.print(Text(note, style="dim"))


def page_rows(
    names: Sequence[str],
    rows: Sequence[Sequence[Text]],
    *,
    width: int,
    right: Iterable[str] = (),
    whole: Iterable[str] = (),
) -> Table:
    """Rows in a page of this width, folded into it: a grid, or records where its columns would be shreds.

    `right` names the columns set flush right, `whole` those that a grid does not fold.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    if _needed(names, [[text.plain for text in row] for row in rows], _LEAST) > width:
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for number, row in enumerate(rows):
            if number:
                table.add_row()
            for name, text in zip(names, row, strict=True):
                table.add_row(Text(f"  {name}", style="dim"), text)
        return table
    table = Table(box=box.SIMPLE_HEAD, pad_edge=True, padding=(0, 1), header_style="dim")
    for name in names:
        side: Literal["left", "right"] = "right" if name in right else "left"
        table.add_column(Text(name), justify=side, overflow="fold", no_wrap=name in whole)
    for row in rows:
        table.add_row(*row)
    return table


def print_fields(console: Console, fields: Mapping[str, object]) -> None:
    """Print one thing as lines of name and value."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for name, value in fields.items():
        table.add_row(Text(name, style="bold"), Text(cell(value)))
    console.print(table)


def _width(console: Console) -> int:
    return console.width if console.is_terminal else _PIPE_WIDTH


def fits(console: Console, names: Sequence[str], rows: Sequence[Sequence[object]]) -> bool:
    """Whether these rows become a grid, and not records."""
    return _fits(console, names, [[cell(value) for value in row] for row in rows])


def has_room(console: Console, names: Sequence[str], rows: Sequence[Sequence[object]]) -> bool:
    """Whether a grid of these rows can be read at ease: texts of some length are folded seldom."""
    return _fits(console, names, [[cell(value) for value in row] for row in rows], readable=_AT_EASE)


def _fits(
    console: Console, names: Sequence[str], texts: Sequence[Sequence[str]], *, readable: int = _READABLE
) -> bool:
    return _needed(names, texts, readable) <= _width(console)


def _needed(names: Sequence[str], texts: Sequence[Sequence[str]], readable: int) -> int:
    """The width of a grid in which no column is folded below what can be read."""
    return sum(
        min(max([len(name), *(len(row[place]) for row in texts)]), max(len(name), readable)) + 3
        for place, name in enumerate(names)
    )


def _print_grid(
    console: Console, names: Sequence[str], texts: Sequence[Sequence[str]], right: frozenset[str], title: str
) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    heading = Text(title) if title else None
    table = Table(box=box.SIMPLE_HEAD, title=heading, title_justify="left", pad_edge=False)
    for place, name in enumerate(names):
        side: Literal["left", "right"] = "right" if name in right else "left"
        whole = all(len(row[place]) <= _READABLE for row in texts)
        table.add_column(Text(visible(name)), justify=side, overflow="fold", no_wrap=whole)
    for row in texts:
        table.add_row(*[Text(text) for text in row])
    # Into a pipe nothing is folded: the reader there is a program or a pager.
    console.print(table, width=None if console.is_terminal else _natural(names, texts), crop=False)


def _natural(names: Sequence[str], texts: Sequence[Sequence[str]]) -> int:
    from rich.cells import cell_len

    return sum(
        max([cell_len(visible(name)), *(cell_len(row[place]) for row in texts)]) + 3
        for place, name in enumerate(names)
    )


def _print_records(console: Console, names: Sequence[str], texts: Sequence[Sequence[str]]) -> None:
    from rich.text import Text

    wide = max(len(name) for name in names)
    for number, row in enumerate(texts, 1):
        console.print(Text(f"-- {number} ".ljust(min(_width(console), 80), "-"), style="dim"))
        for name, text in zip(names, row, strict=True):
            if text:  # of a wide table most columns are empty in any one row
                line = Text.assemble((visible(name).ljust(wide), "bold"), "  ", text)
                console.print(line, soft_wrap=True)
