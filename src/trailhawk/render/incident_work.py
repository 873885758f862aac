"""What people do about incidents, for people: comments, tasks, what was done, similar ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trailhawk.incidents.change import told
from trailhawk.render.console import page_width, results
from trailhawk.render.incident import as_data, status_of
from trailhawk.render.output import Format, Shown, print_json_list, show_list
from trailhawk.render.table import page_rows
from trailhawk.render.text import moment
from trailhawk.visible import visible

if TYPE_CHECKING:
    from trailhawk.incidents.change import Change
    from trailhawk.incidents.incident import Incident
    from trailhawk.incidents.similar import Similar

_LONG = 300
"""Characters of a change in the list of changes."""


def change_as_data(change: Change) -> dict[str, object]:
    """A change as one JSON object, without the incident."""
    return {
        "sequence": change.sequence,
        "number": change.number,
        "kind": change.kind.value,
        "at": change.at,
        "by": change.by,
        "what": told(change),
        "fields": sorted(change.fields) if change.before else [],
        "alerts_added": list(change.alerts_added),
        "alerts_removed": list(change.alerts_removed),
        "others": list(change.others),
    }


def show_changes(changes: Sequence[Change], form: Format) -> None:
    """Print what was just done, or the list of all that was."""
    if form is Format.JSON:
        print_json_list([change_as_data(each) for each in changes])
        return
    for each in changes:
        print(visible(f"incident {each.number}: {told(each) or each.kind.value.lower()}"))


def print_work(incident: Incident, changes: Sequence[Change]) -> None:
    """Print who works on an incident and what was done."""
    facts = [
        ("owner", incident.owner or "nobody"),
        ("labels", ", ".join(incident.labels)),
        ("closed as", _closing(incident)),
    ]
    _heading("Work")
    for name, text in facts:
        if text:
            print(visible(f"  {name}: {text}"))
    if incident.tasks:
        _heading(f"Tasks: {sum(task.done_at is None for task in incident.tasks)} open")
        rows = [
            [
                str(task.id),
                "done" if task.done_at else "open",
                task.title,
                task.description,
                task.done_by or task.by,
            ]
            for task in incident.tasks
        ]
        _rows(["id", "state", "task", "about", "by"], rows)
    if incident.comments:
        _heading(f"Comments: {len(incident.comments)}")
        for comment in incident.comments:
            print(visible(f"  {moment(comment.at)} {comment.by}:"))
            for line in comment.text.splitlines():
                print(visible(f"    {line}"))
    _heading("What was done")
    _rows(["when", "who", "what"], [[moment(each.at), each.by, _short(told(each))] for each in changes])


def _rows(names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.text import Text

    console = results()
    width = page_width(console)
    texts = [[Text(visible(text), overflow="fold") for text in row] for row in rows]
    console.print(page_rows(names, texts, width=width), width=width)


def _short(text: str) -> str:
    return text if len(text) <= _LONG else f"{text[:_LONG]}..."


def _heading(text: str) -> None:
    print(f"\n{text}")


def _closing(incident: Incident) -> str:
    closing = incident.closing
    if closing is None:
        return ""
    reason = f", {closing.reason.value}" if closing.reason else ""
    return f"{closing.classification.value}{reason}{f': {closing.comment}' if closing.comment else ''}"


def show_similar(found: Sequence[Similar], form: Format) -> None:
    """Print similar incidents with the reasons."""
    if form is Format.JSON:
        print_json_list(
            [{**as_data(each.incident), "score": each.score, "reasons": list(each.reasons)} for each in found]
        )
        return
    rows = [
        {
            "number": each.incident.number,
            "score": each.score,
            "title": each.incident.title,
            "status": status_of(each.incident),
            "reasons": _few(each.reasons),
        }
        for each in found
    ]
    columns = [
        Shown("number", "no.", right=True),
        Shown("score", "score", right=True),
        Shown("title", "title"),
        Shown("status", "status"),
        Shown("reasons", "why"),
    ]
    show_list(rows, columns, form, empty="no similar incidents")


def _few(reasons: Sequence[str], most: int = 5) -> str:
    more = f"; {len(reasons) - most} more" if len(reasons) > most else ""
    return "; ".join(reasons[:most]) + more
