"""Follows the incidents' log and tells the channels."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from trailhawk.detect.rule import Severity
from trailhawk.errors import NotFoundError, TrailhawkError
from trailhawk.incidents.change import Change
from trailhawk.incidents.incident import Incident, Status
from trailhawk.incidents.store import IncidentStore
from trailhawk.respond.channel import Channel, When
from trailhawk.respond.message import Item, Message, message
from trailhawk.respond.outbox import Notice, Outbox
from trailhawk.respond.sending import NotSentError, send

CURSOR: Final = "notify"
_MOST_AT_ONCE: Final = 200
_MOST_SECONDS: Final = 60.0
"""Of one channel in one round: one whose receiver takes its time does not keep the others waiting."""
_MOST_ENTITIES: Final = 200
_MOST_STORIES: Final = 20
"""Of one digest: each story is a report, and all of them are to be told before others take us for dead."""

Story = Callable[[Incident], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Delivered:
    """What came of one message: `detail` is the other side's answer, or why it did not go out."""

    channel: str
    delivery: str
    notices: int
    sent: bool
    detail: str
    again_at: datetime | None = None


class Notifier:
    """Tells channels of incidents. `story` gives an incident's sentences."""

    def __init__(
        self,
        incidents: IncidentStore,
        outbox: Outbox,
        channels: Sequence[Channel],
        *,
        clock: Callable[[], datetime],
        environment: Mapping[str, str],
        story: Story,
        templates: Path | None = None,
    ) -> None:
        self._incidents = incidents
        self._outbox = outbox
        self._channels = tuple(channels)
        self._clock = clock
        self._environment = environment
        self._story = story
        self._templates = templates

    def begin(self) -> None:
        """Who sets up channels wants news, not all that ever happened."""
        self._incidents.begin_at_the_end(CURSOR)

    def collect(self) -> int:
        """Write down what the channels are to be told of what has happened since; how many changes."""
        done = 0
        while count := self._incidents.consume(CURSOR, self._note):
            done += count
        return done

    def _note(self, connection: sa.Connection, change: Change) -> None:
        for channel in self._channels:
            if occasion := channel.wants(change):
                self._outbox.add(connection, channel, change, occasion)

    def deliver(self, told: Callable[[Delivered], None] = lambda _: None) -> int:
        """Send what is due; how many messages went out."""
        self._outbox.left(self._clock())
        went = 0
        for channel in self._channels:
            began = time.monotonic()
            for _ in range(_MOST_AT_ONCE):
                now = self._clock()
                room = self._outbox.room(channel, now)
                if not room:
                    break
                together = self._outbox.due(channel, now) > room
                notices = self._outbox.take(channel, now, together=together)
                if not notices:
                    break
                done, is_reached = self._send(channel, notices)
                told(done)
                went += done.sent
                if not is_reached or time.monotonic() - began > _MOST_SECONDS:
                    break  # the others of this channel wait for the next round, and other channels do not
        return went

    def _send(self, channel: Channel, notices: Sequence[Notice]) -> tuple[Delivered, bool]:
        """Send one message; what came of it, and whether the next of the channel may be tried at once."""
        delivery, count = notices[0].delivery, len(notices)
        try:
            said = send(channel.way, self._message(notices), self._environment, now=self._clock())
        except NotSentError as error:
            again = self._outbox.not_sent(
                notices,
                self._clock(),
                str(error),
                again=error.again,
                perhaps=error.perhaps,
                hold=error.hold,
            )
            return Delivered(channel.name, delivery, count, False, str(error), again), not error.again
        except TrailhawkError as error:  # a template
            again = self._outbox.not_sent(notices, self._clock(), str(error), again=True, perhaps=False)
            return Delivered(channel.name, delivery, count, False, str(error), again), True
        except Exception as error:  # the border: a message that nothing can be done with keeps no other back
            said = f"{type(error).__name__} while sending"
            again = self._outbox.not_sent(notices, self._clock(), said, again=True, perhaps=True)
            return Delivered(channel.name, delivery, count, False, said, again), True
        self._outbox.sent(notices, self._clock(), said)
        return Delivered(channel.name, delivery, count, True, said), True

    def _message(self, notices: Sequence[Notice]) -> Message:
        known = {number: self._incidents.incident(number) for number in {each.number for each in notices}}
        left = self._with_story(notices, known)
        items = []
        for notice in notices:
            incident = known[notice.number]
            story = self._told(incident) if notice.number in left else ()
            left.discard(notice.number)
            items.append(Item(incident, notice.occasion, notice.said, notice.at, story))
        data = {
            "delivery": notices[0].delivery,
            "changes": [
                {
                    "sequence": notice.sequence,
                    "occasion": notice.occasion,
                    "said": notice.said,
                    "at": notice.at.isoformat(),
                    "incident": _as_data(item.incident),
                    "story": list(item.story),
                }
                for notice, item in zip(notices, items, strict=True)
            ],
        }
        # The moment of the notice, not of the try: what is sent again is the same to the byte, as far as the
        # incident still stands as it did.
        return message(notices[0].delivery, items, at=notices[-1].at, folder=self._templates, data=data)

    def _told(self, incident: Incident) -> tuple[str, ...]:
        """An incident's story. Where it cannot be told, that it cannot: people are told all the same."""
        try:
            return self._story(incident)
        except Exception as error:  # the border: a fault of a report is no reason to tell nobody
            said = str(error) if isinstance(error, TrailhawkError) else type(error).__name__
            return (f"More could not be said: {said}",)

    def _with_story(self, notices: Sequence[Notice], known: Mapping[int, Incident]) -> set[int]:
        """The incidents whose story is told, each once: those that are new or graver, the gravest first."""
        tells = (When.CREATED.value, When.SEVERITY_RAISED.value)
        new = dict.fromkeys(each.number for each in notices if each.occasion in tells)
        return set(sorted(new, key=lambda number: -known[number].severity.rank)[:_MOST_STORIES])

    def test(self, name: str, item: Item) -> Delivered:
        """Send a message of its own to one channel at once. NotFoundError for a channel that is not there."""
        channel = next((each for each in self._channels if each.name == name), None)
        if channel is None:
            known = ", ".join(each.name for each in self._channels)
            hint = f"there is {known}" if known else "none is set up; docs/notify.md shows how"
            raise NotFoundError(f"no channel '{name}'", hint=hint)
        delivery = str(uuid.uuid4())
        data = {"delivery": delivery, "changes": [], "test": True}
        made = message(delivery, [item], at=item.at, folder=self._templates, data=data)
        try:
            return Delivered(
                name, delivery, 0, True, send(channel.way, made, self._environment, now=self._clock())
            )
        except NotSentError as error:
            return Delivered(name, delivery, 0, False, str(error))


def _as_data(incident: Incident) -> Mapping[str, Any]:
    """What a webhook gets of an incident."""
    return {
        "number": incident.number,
        "title": incident.title,
        "severity": incident.severity.value,
        "status": incident.status.value,
        "owner": incident.owner,
        "labels": list(incident.labels),
        "first_activity": incident.first_activity.isoformat(),
        "last_activity": incident.last_activity.isoformat(),
        "alerts": len(incident.alert_ids),
        "rules": list(incident.rule_names),
        "tactics": list(incident.tactics),
        "techniques": list(incident.techniques),
        "entities": [
            {"type": each.type, **dict(each.identifiers)} for each in incident.entities[:_MOST_ENTITIES]
        ],
    }


def sample(now: datetime) -> Item:
    """What a test message is about."""
    incident = Incident(
        number=0,
        title="This is a test: the channel works",
        description="",
        severity=Severity.INFORMATIONAL,
        status=Status.NEW,
        created_at=now,
        modified_at=now,
        first_activity=now,
        last_activity=now,
        alert_ids=(),
        rule_ids=(),
        rule_names=(),
        entities=(),
        tactics=(),
        techniques=(),
    )
    return Item(incident, "test", "sent by hand", now)
