"""What happened to incidents: the log that automation, the activity list and SecurityIncident read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import datetime
from enum import Enum
from typing import Final

from trailhawk.incidents.incident import Incident, Status
from trailhawk.words import counted

GROUPING: Final = "grouping"
"""Who changes an incident when alerts come."""


class ChangeKind(Enum):
    """What was done. A change may touch more than its kind says: see `Change.fields`."""

    CREATED = "Created"
    ALERTS_ADDED = "AlertsAdded"
    REGROUPED = "Regrouped"
    """A late alert moved the bounds of Sentinel's grouping, and alerts went from one incident to another."""
    MERGED = "Merged"
    """It took others in, named in `others`."""
    MERGED_AWAY = "MergedAway"
    """It went into another and is closed."""
    SPLIT = "Split"
    """Some of its alerts went to an incident of their own, named in `others`."""
    UPDATED = "Updated"
    COMMENTED = "Commented"
    TASK = "Task"
    CLOSED = "Closed"
    REOPENED = "Reopened"


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one incident: who did what and when, and how it stood before and after.

    `sequence` rises from change to change, over all incidents; `before` is None where the incident began.
    """

    sequence: int
    kind: ChangeKind
    by: str
    at: datetime
    before: Incident | None
    after: Incident
    alerts_added: tuple[str, ...] = ()
    alerts_removed: tuple[str, ...] = ()
    others: tuple[int, ...] = ()

    @property
    def number(self) -> int:
        return self.after.number

    @property
    def fields(self) -> frozenset[str]:
        """The members of Incident that changed, but for when and by whom it was modified."""
        if self.before is None:
            return _COMPARED
        return frozenset(n for n in _COMPARED if getattr(self.before, n) != getattr(self.after, n))

    @property
    def is_automatic(self) -> bool:
        """Whether it came of alerts alone."""
        return self.by == GROUPING


_COMPARED = frozenset(field.name for field in fields(Incident)) - {
    "modified_at",
    "modified_by",
    "first_modified_at",
    "set_by_hand",
}


def told(change: Change) -> str:
    """A change in words, one line, for the list of what was done. Texts in it are as people gave them."""
    return "; ".join(_told(change))


def _told(change: Change) -> Iterator[str]:
    before, after = change.before, change.after
    others = ", ".join(map(str, change.others))
    added, removed = len(change.alerts_added), len(change.alerts_removed)
    match change.kind:
        case ChangeKind.CREATED:
            yield f"split from {others}" if others else "created"
        case ChangeKind.MERGED:
            yield f"merged with {others}"
        case ChangeKind.MERGED_AWAY:
            yield f"merged into {others}"
        case ChangeKind.SPLIT:
            yield f"split: {others} made"
        case ChangeKind.REGROUPED:
            yield "regrouped"
        case ChangeKind.ALERTS_ADDED | ChangeKind.UPDATED | ChangeKind.COMMENTED | ChangeKind.TASK:
            pass
        case ChangeKind.CLOSED | ChangeKind.REOPENED:
            pass
    if added:
        yield f"{counted(added, 'alert')} added"
    if removed:
        yield f"{counted(removed, 'alert')} went elsewhere"
    if before is None or change.kind is ChangeKind.MERGED_AWAY:
        return
    if before.status is not after.status:
        yield f"status {before.status.value} -> {after.status.value}{_why(after)}"
    if before.severity is not after.severity:
        yield f"severity {before.severity.value} -> {after.severity.value}"
    if before.owner != after.owner:
        yield f"owner {before.owner or 'nobody'} -> {after.owner or 'nobody'}"
    if before.title != after.title:
        yield f"title: {after.title}"
    if before.description != after.description and "description" in after.set_by_hand:
        yield "description changed"
    for label in after.labels:
        if label not in before.labels:
            yield f"label {label} added"
    for label in before.labels:
        if label not in after.labels:
            yield f"label {label} taken off"
    if change.kind in (ChangeKind.COMMENTED, ChangeKind.CLOSED):
        for comment in after.comments[len(before.comments) :]:
            yield f"comment: {comment.text}"
    if change.kind is ChangeKind.TASK:
        done = {task.id: task.done_at for task in before.tasks}
        for task in after.tasks:
            if task.id not in done:
                yield f"task {task.id} added: {task.title}"
            elif done[task.id] != task.done_at:
                yield f"task {task.id} {'done' if task.done_at else 'open again'}: {task.title}"


def _why(after: Incident) -> str:
    if after.status is not Status.CLOSED or after.closing is None:
        return ""
    reason = f", {after.closing.reason.value}" if after.closing.reason else ""
    comment = f": {after.closing.comment}" if after.closing.comment else ""
    return f" as {after.closing.classification.value}{reason}{comment}"
