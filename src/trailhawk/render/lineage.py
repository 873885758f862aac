"""The rows of CredentialLineage() as a tree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

from trailhawk.render.console import page_width, results
from trailhawk.render.text import moment
from trailhawk.visible import visible
from trailhawk.words import counted

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree

Row = Mapping[str, object]

MOST_KEYS: Final = 60
"""Keys below one asker that are drawn: those used from several addresses before all others, then those used
last; the others are counted."""


def show_lineage(who: str, rows: Sequence[Row]) -> None:
    """Print who asked for what, from the top down."""
    from rich.tree import Tree

    below: dict[str, list[Row]] = {}
    keys = {str(row["Key"]) for row in rows}
    for row in rows:
        below.setdefault(str(row["From"] or ""), []).append(row)
    root = Tree("", hide_root=True, guide_style="dim")
    drawn: set[str] = set()
    for asker, own in below.items():
        if asker in keys:
            continue  # drawn below its own issue
        if asker:
            kind = str(own[0]["FromKind"]).lower()
            node = root.add(_text(f"{kind} {asker}", "bold" if asker == who else ""))
        else:
            node = root.add(_text("where it was issued is not stored", "dim"))
        _add(node, own, below, drawn, who)
    console = results()
    console.print(root, width=page_width(console))


def _add(node: Tree, rows: Sequence[Row], below: Mapping[str, list[Row]], drawn: set[str], who: str) -> None:
    newest = sorted(rows, key=lambda row: (str(row["LastUsed"] or ""), str(row["At"])), reverse=True)
    ranked = sorted(newest, key=lambda row: (not row["IsInTwoPlaces"], _places(row) < 2, not row["IsUsed"]))
    shown, left_out = ranked[:MOST_KEYS], ranked[MOST_KEYS:]
    for row in sorted(shown, key=lambda row: (not row["IsUsed"], str(row["At"]), str(row["Key"]))):
        key = str(row["Key"])
        if key in drawn:
            continue
        drawn.add(key)
        branch = node.add(_key(row, who))
        for line in _uses(row):
            branch.add(line)
        _add(branch, below.get(key, []), below, drawn, who)
    if left_out:
        used = sum(1 for row in left_out if row["IsUsed"])
        more = f"and {counted(len(left_out), 'more key')}, {used:,} of them used: --format json has all"
        node.add(_text(more, "dim"))


def _key(row: Row, who: str) -> Text:
    key = str(row["Key"])
    text = _text(key, "bold reverse" if key == who else "bold")
    if row["RoleArn"]:
        text.append(visible(f"  {str(row['RoleArn']).rsplit('/', 1)[-1]}"), "not bold")
    at = row["At"]
    if isinstance(at, datetime):
        how = f"\nby {row['Api']} at {moment(at)} from {row['Address']}, event {row['EventId']}"
        text.append(visible(how, keep="\n"), "not bold dim")
    if row["SourceIdentity"]:
        text.append(visible(f"\nsource identity {row['SourceIdentity']}", keep="\n"), "not bold dim")
    return text


def _uses(row: Row) -> Iterator[Text]:
    if not row["IsUsed"]:
        yield _text("never used", "dim")
        return
    first, last, calls = row["FirstUsed"], row["LastUsed"], row["Calls"]
    addresses = row["Addresses"]
    where = ", ".join(map(str, addresses)) if isinstance(addresses, list) else ""
    when = f"{_moment(first)} to {_moment(last)}" if first != last else _moment(first)
    refused = f", {row['Denied']:,} refused" if row["Denied"] else ""
    yield _text(f"{calls:,} call{'' if calls == 1 else 's'}{refused} from {where}, {when}")
    if row["IsInTwoPlaces"]:
        yield _text("used from two places at the same time", "bold red")
    elif _places(row) > 1:
        yield _text(f"used from {_places(row)} addresses, one after the other", "yellow")


def _places(row: Row) -> int:
    addresses = row["Addresses"]
    return len(addresses) if isinstance(addresses, list) else 0


def _moment(value: object) -> str:
    return moment(value) if isinstance(value, datetime) else ""


def _text(text: str, style: str = "") -> Text:
    from rich.text import Text

    return Text(visible(text), style=style, overflow="fold")
