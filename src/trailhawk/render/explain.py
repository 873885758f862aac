"""What `query --explain` tells: the plan, the SQL, and what would be read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trailhawk.render.output import RowFormat
from trailhawk.render.text import members, to_json
from trailhawk.visible import visible

if TYPE_CHECKING:
    from trailhawk.engine.explain import Explained, Read


def show_explained(explained: Explained, form: RowFormat) -> None:
    """Print how a query would be run; JSON has `plan`, `sql` and `reads`."""
    if form in (RowFormat.JSON, RowFormat.JSONL):
        found = {
            "plan": explained.plan,
            "sql": explained.sql,
            "reads": [members(read) for read in explained.reads],
        }
        print(to_json(found, indent=2 if form is RowFormat.JSON else None))
        return
    for heading, text in (("plan", explained.plan), ("SQL", explained.sql)):
        print(f"-- {heading}")
        print(visible(text, keep="\n"))
    print("-- read")
    if not explained.reads:
        print("no table")
    for read in explained.reads:
        print(visible(_line(read)))


def _line(read: Read) -> str:
    line = (
        f"{read.table}: {read.files_read:,} of {read.files:,} files, "
        f"{read.bytes_read:,} of {read.bytes:,} bytes; columns {', '.join(read.columns) or 'none'}"
    )
    if not read.sought:
        return line
    if not read.row_groups:
        return f"{line}; index not used for {read.sought}"
    return (
        f"{line}; the index rules out {read.row_groups_skipped:,} of {read.row_groups:,} row groups "
        f"for {read.sought}"
    )
