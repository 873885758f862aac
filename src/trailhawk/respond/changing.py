"""What rules and playbooks set of an incident, all at once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import TypeVar

from trailhawk.detect.rule import Severity
from trailhawk.errors import UsageError
from trailhawk.incidents.change import Change
from trailhawk.incidents.incident import Classification, Closing, Reason, Status
from trailhawk.incidents.store import IncidentStore

_E = TypeVar("_E", bound=Enum)


@dataclass(frozen=True, slots=True)
class Setting:
    """What is set; None leaves it as it is. An incident is closed by `closing`."""

    severity: Severity | None = None
    status: Status | None = None
    owner: str | None = None
    labels: tuple[str, ...] = ()
    closing: Closing | None = None

    def __str__(self) -> str:
        parts = [f"severity {self.severity.value}"] if self.severity else []
        parts += [f"status {self.status.value}"] if self.status else []
        parts += [f"owner {self.owner or 'nobody'}"] if self.owner is not None else []
        parts += [f"label {label}" for label in self.labels]
        parts += [f"closed as {self.closing.classification.value}"] if self.closing else []
        return ", ".join(parts)


def member(kind: type[_E], text: str, what: str) -> _E:
    """The member of an enumeration with this value, case and blanks aside; UsageError for another."""
    wanted = "".join(text.split()).lower()
    found = next((each for each in kind if str(each.value).lower() == wanted), None)
    if found is None:
        raise UsageError(f"'{text}' is no {what}", hint=f"there is {', '.join(str(e.value) for e in kind)}")
    return found


def setting(
    *,
    severity: str | None = None,
    status: str | None = None,
    owner: str | None = None,
    labels: tuple[str, ...] = (),
    classification: str | None = None,
    reason: str | None = None,
    comment: str | None = None,
) -> Setting:
    """What a file says is to be set. UsageError for words that there are not, for a closing without a
    classification and a classification without a closing."""
    wanted = member(Status, status, "status") if status else None
    closing = None
    if wanted is Status.CLOSED:
        if not classification:
            raise UsageError("an incident is closed with a classification", hint="write classification")
        closing = Closing.of(
            member(Classification, classification, "classification"),
            member(Reason, reason, "reason") if reason else None,
            comment or "",
        )
    elif classification or reason:
        raise UsageError("a classification goes with status Closed")
    return Setting(
        severity=member(Severity, severity, "severity") if severity else None,
        status=None if closing else wanted,
        owner=owner,
        labels=labels,
        closing=closing,
    )


def change(
    incidents: IncidentStore, number: int, wanted: Setting, *, by: str, now: datetime
) -> tuple[Change, ...]:
    """Set it; the changes that were made, none where all was so already."""
    done = incidents.set(
        number,
        by=by,
        now=now,
        severity=wanted.severity,
        status=wanted.status,
        owner=wanted.owner,
        add_labels=wanted.labels,
    )
    closed = incidents.close(number, wanted.closing, by=by, now=now) if wanted.closing else None
    return tuple(each for each in (done, closed) if each is not None)
