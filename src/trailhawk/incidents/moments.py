"""One timeline of all that belongs to an incident: events, alerts, bookmarks, and what people did."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from trailhawk.detect.bookmarks import Bookmark
from trailhawk.incidents.change import Change, ChangeKind, told
from trailhawk.incidents.report import Report


class MomentKind(Enum):
    EVENT = "event"
    ALERT = "alert"
    BOOKMARK = "bookmark"
    COMMENT = "comment"
    CHANGE = "change"


@dataclass(frozen=True, slots=True)
class Moment:
    """Something at a time: what it says, on what or by whom (`detail`), and its id where it has one."""

    at: datetime
    kind: MomentKind
    says: str
    detail: str = ""
    id: str = ""


def moments(report: Report, changes: Iterable[Change], bookmarks: Iterable[Bookmark]) -> tuple[Moment, ...]:
    """All of them in order of time. `bookmarks` are those of the incident, see `bookmarked`."""
    found = [
        *_events(report),
        *_alerts(report),
        *(
            Moment(
                each.event_time or each.created_at,
                MomentKind.BOOKMARK,
                each.name,
                f"{each.notes} ({each.created_by})".strip(),
                each.id,
            )
            for each in bookmarks
        ),
        *_done(changes),
    ]
    places = {kind: place for place, kind in enumerate(MomentKind)}
    return tuple(sorted(found, key=lambda each: (each.at, places[each.kind], each.id, each.says)))


def bookmarked(report: Report, bookmarks: Iterable[Bookmark]) -> tuple[Bookmark, ...]:
    """The bookmarks that name a session, key, principal or object of the incident: what joins alerts too, or
    is one of what was touched."""
    joining = ("AwsSession", "AwsAccessKey", "AwsPrincipal", "AwsObject", "AwsInstance")
    own = {
        (each.type, value)
        for each in report.entities
        if each.type in joining
        for _, value in each.identifiers
    }
    return tuple(
        bookmark
        for bookmark in bookmarks
        if any((each.type, value) in own for each in bookmark.entities for _, value in each.identifiers)
    )


def _events(report: Report) -> Iterator[Moment]:
    for event in report.timeline:
        error = f" refused: {event.error}" if event.error else ""
        says = f"{event.service}:{event.name}{error}"
        where = f"{event.target} from {event.address}".strip()
        yield Moment(event.at, MomentKind.EVENT, says, where, event.event_id)


def _alerts(report: Report) -> Iterator[Moment]:
    for alert in report.alerts:
        yield Moment(
            alert.started_at,
            MomentKind.ALERT,
            alert.name,
            f"{alert.severity.value}, {alert.rule_name}",
            alert.id,
        )


def _done(changes: Iterable[Change]) -> Iterator[Moment]:
    for change in changes:
        is_comment = change.kind is ChangeKind.COMMENTED
        if change.is_automatic and not is_comment:
            continue  # alerts that came stand there as alerts
        kind = MomentKind.COMMENT if is_comment else MomentKind.CHANGE
        yield Moment(change.at, kind, told(change), change.by, str(change.sequence))
