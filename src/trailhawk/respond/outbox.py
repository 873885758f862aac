"""What is to be told, and every try to tell it, in the state database.

A change of an incident and the notices it makes are written in the transaction that moves the cursor over
the incidents' log, so each is made once. A notice is taken by one process at a time; one that ends while it
sends leaves its claim, and after a while the notice is sent again under the same delivery id, which the log
says.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Final

import sqlalchemy as sa

from trailhawk.detect.store import Moment, make_tables, metadata, reading
from trailhawk.errors import NotFoundError
from trailhawk.incidents.change import Change, told
from trailhawk.respond.channel import Channel, When

CLAIM: Final = timedelta(minutes=5)
"""After so long a notice that somebody began to send counts as left by a process that ended."""
MAX_TRIES: Final = 10
MOST_IN_DIGEST: Final = 200
"""Changes in one message; what is more goes in a next one."""
FIRST_WAIT, LONGEST_WAIT = timedelta(seconds=30), timedelta(hours=1)

_NAMESPACE = uuid.UUID("0c0d9a54-7f0a-5b1b-9a6e-2f6f5d1f9b31")

_notices = sa.Table(
    "notices",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("channel", sa.String, nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("sequence", sa.BigInteger, nullable=False),
    sa.Column("occasion", sa.String, nullable=False),
    sa.Column("said", sa.String, nullable=False),
    sa.Column("at", Moment, nullable=False),
    sa.Column("due_at", Moment, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("tries", sa.Integer, nullable=False),
    sa.Column("claimed_at", Moment),
    sa.Column("delivery", sa.String, nullable=False),
    sa.UniqueConstraint("channel", "sequence"),
    sa.Index("notices_due", "state", "due_at"),
    sqlite_autoincrement=True,
)

_tries = sa.Table(
    "notice_tries",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("delivery", sa.String, nullable=False, index=True),
    sa.Column("channel", sa.String, nullable=False),
    sa.Column("at", Moment, nullable=False),
    sa.Column("outcome", sa.String, nullable=False),
    sa.Column("detail", sa.String, nullable=False),
    sqlite_autoincrement=True,
)

_holds = sa.Table(
    "notice_holds",
    metadata,
    sa.Column("channel", sa.String, primary_key=True),
    sa.Column("until", Moment, nullable=False),
)
"""Until when a receiver wants nothing."""

_ANY: Final = 1 << 30


class State(Enum):
    WAITING = "waiting"
    SENDING = "sending"
    SENT = "sent"
    FAILED = "failed"


class Outcome(Enum):
    """How a try ended; `uncertain` means that it may have arrived all the same."""

    SENT = "sent"
    NOT_SENT = "not sent"
    UNCERTAIN = "uncertain"
    LEFT = "left"
    """The process that was sending ended before it could say."""


@dataclass(frozen=True, slots=True)
class Notice:
    """A change that one channel is to be told of. `delivery` names the message it goes out in."""

    id: int
    channel: str
    number: int
    sequence: int
    occasion: str
    said: str
    at: datetime
    due_at: datetime
    state: State
    tries: int
    delivery: str


@dataclass(frozen=True, slots=True)
class Try:
    """One try to send a message, and what came of it."""

    delivery: str
    channel: str
    at: datetime
    outcome: Outcome
    detail: str


class Outbox:
    """Notices of all channels, in the state database."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        make_tables(engine, [_notices, _tries, _holds])

    def add(self, connection: sa.Connection, channel: Channel, change: Change, occasion: When) -> None:
        """Write down that a channel is to be told of a change, in the transaction of the connection."""
        due = change.at if not channel.digest_hours else _next(change.at, channel.digest_hours)
        connection.execute(
            sa.insert(_notices).values(
                channel=channel.name,
                number=change.number,
                sequence=change.sequence,
                occasion=occasion.value,
                said=told(change)[:2_000],
                at=change.at,
                due_at=due,
                state=State.WAITING.value,
                tries=0,
                delivery=str(uuid.uuid5(_NAMESPACE, f"{channel.name}\n{change.sequence}")),
            )
        )

    def tell(
        self, channel: Channel, number: int, said: str, *, occasion: str, key: str, now: datetime
    ) -> bool:
        """Write down that a channel is to be told something that is no change of an incident.

        `key` says what it is: the same is written once, and whether it was is what comes back.
        """
        delivery = uuid.uuid5(_NAMESPACE, f"{channel.name}\n{key}")
        # Numbers below zero are beside those of the incidents' log; 62 bits of an id, so that none is there
        # twice.
        sequence = -(delivery.int >> 66) - 1
        due = now if not channel.digest_hours else _next(now, channel.digest_hours)
        known = sa.select(_notices.c.id).where(
            _notices.c.channel == channel.name, _notices.c.sequence == sequence
        )
        with self._engine.begin() as connection:
            if connection.execute(known).first() is not None:
                return False
            connection.execute(
                sa.insert(_notices).values(
                    channel=channel.name,
                    number=number,
                    sequence=sequence,
                    occasion=occasion,
                    said=said[:2_000],
                    at=now,
                    due_at=due,
                    state=State.WAITING.value,
                    tries=0,
                    delivery=str(delivery),
                )
            )
        return True

    def left(self, now: datetime) -> int:
        """Put back what processes that ended had begun to send; how many notices."""
        gone = (_notices.c.state == State.SENDING.value) & (_notices.c.claimed_at < now - CLAIM)
        with self._engine.begin() as connection:
            rows = connection.execute(
                sa.select(_notices.c.delivery, _notices.c.channel).where(gone).distinct()
            ).all()
            for row in rows:
                self._write_try(
                    connection, Try(row.delivery, row.channel, now, Outcome.LEFT, "the process ended")
                )
            # It was a try: one that ends the process each time does not go on for ever, and a digest that may
            # have arrived is sent again as it was.
            tries = _notices.c.tries + 1
            state = sa.case((tries >= MAX_TRIES, State.FAILED.value), else_=State.WAITING.value)
            back = {"state": state, "claimed_at": None, "tries": tries}
            changed = sa.update(_notices).where(gone).values(back)
            return connection.execute(changed).rowcount

    def room(self, channel: Channel, now: datetime) -> int:
        """How many messages a channel may have now; 0 where its receiver wants none yet."""
        sent = (_tries.c.channel == channel.name) & (_tries.c.outcome == Outcome.SENT.value)
        late = sent & (_tries.c.at > now - timedelta(hours=1)) & (_tries.c.at <= now)
        with reading(self._engine) as connection:
            if _is_held(connection, channel.name, now):
                return 0
            if not channel.most_hourly:
                return _ANY
            count = connection.scalar(sa.select(sa.func.count()).select_from(_tries).where(late))
        return max(channel.most_hourly - int(count or 0), 0)

    def due(self, channel: Channel, now: datetime) -> int:
        """How many messages of a channel are due, each change in one of its own."""
        waiting = (_notices.c.channel == channel.name) & (_notices.c.state == State.WAITING.value)
        query = sa.select(sa.func.count(_notices.c.delivery.distinct()))
        with reading(self._engine) as connection:
            return int(connection.scalar(query.where(waiting, _notices.c.due_at <= now)) or 0)

    def take(self, channel: Channel, now: datetime, *, together: bool = False) -> tuple[Notice, ...]:
        """The next message of a channel: one notice, or all that are due for a digest or `together`; claimed
        for the caller. None where nothing is due, or the channel's receiver wants nothing yet.

        A message that was tried before holds what it held then: who has it already drops the second by its
        id.
        """
        due = (
            (_notices.c.channel == channel.name)
            & (_notices.c.state == State.WAITING.value)
            & (_notices.c.due_at <= now)
        )
        with self._engine.begin() as connection:
            if _is_held(connection, channel.name, now):
                return ()
            query = sa.select(_notices).where(due).order_by(_notices.c.id)
            several = together or channel.digest_hours
            rows = connection.execute(query.limit(MOST_IN_DIGEST * 2 if several else 1)).all()
            if not rows:
                return ()
            delivery = rows[0].delivery
            if rows[0].tries:
                rows = connection.execute(
                    sa.select(_notices).where(due, _notices.c.delivery == delivery).order_by(_notices.c.id)
                ).all()
            else:
                rows = [row for row in rows if not row.tries][:MOST_IN_DIGEST]
            claimed = connection.execute(
                sa.update(_notices)
                .where(_notices.c.id.in_([row.id for row in rows]), _notices.c.state == State.WAITING.value)
                .values(state=State.SENDING.value, claimed_at=now, delivery=delivery)
            )
            if claimed.rowcount != len(rows):
                connection.rollback()  # another process was quicker
                return ()
        return tuple(_notice(row, delivery) for row in rows)

    def sent(self, notices: Sequence[Notice], now: datetime, detail: str) -> None:
        """Write down that a message went out."""
        self._end(notices, now, Outcome.SENT, detail, state=State.SENT)

    def not_sent(
        self,
        notices: Sequence[Notice],
        now: datetime,
        detail: str,
        *,
        again: bool,
        perhaps: bool,
        hold: timedelta = timedelta(),
    ) -> datetime | None:
        """Write down that it did not; when it is tried again, None where it is given up. For so long as
        `hold` nothing is sent to the channel."""
        tries = notices[0].tries + 1
        outcome = Outcome.UNCERTAIN if perhaps else Outcome.NOT_SENT
        if hold:
            self._hold(notices[0].channel, now + hold)
        if not again or tries >= MAX_TRIES:
            self._end(notices, now, outcome, f"{detail}; given up", state=State.FAILED)
            return None
        wait: timedelta = max(min(FIRST_WAIT * 2 ** (tries - 1), LONGEST_WAIT), hold)
        due = now + wait
        self._end(notices, now, outcome, detail, state=State.WAITING, due=due)
        return due

    def _hold(self, channel: str, until: datetime) -> None:
        waiting = (_notices.c.channel == channel) & (_notices.c.state == State.WAITING.value)
        early = waiting & (_notices.c.due_at < until)
        with self._engine.begin() as connection:
            own = _holds.c.channel == channel
            known: datetime | None = connection.scalar(sa.select(_holds.c.until).where(own))
            if known is None:
                connection.execute(sa.insert(_holds).values(channel=channel, until=until))
            else:
                connection.execute(sa.update(_holds).where(own).values(until=max(known, until)))
            connection.execute(sa.update(_notices).where(early).values(due_at=until))

    def _end(
        self,
        notices: Sequence[Notice],
        now: datetime,
        outcome: Outcome,
        detail: str,
        *,
        state: State,
        due: datetime | None = None,
    ) -> None:
        values: dict[str, object] = {
            "state": state.value,
            "claimed_at": None,
            "tries": notices[0].tries + 1,
        }
        if due is not None:
            values["due_at"] = due
        with self._engine.begin() as connection:
            ids = [notice.id for notice in notices]
            connection.execute(sa.update(_notices).where(_notices.c.id.in_(ids)).values(values))
            self._write_try(
                connection, Try(notices[0].delivery, notices[0].channel, now, outcome, detail[:2_000])
            )

    def _write_try(self, connection: sa.Connection, one: Try) -> None:
        connection.execute(
            sa.insert(_tries).values(
                delivery=one.delivery,
                channel=one.channel,
                at=one.at,
                outcome=one.outcome.value,
                detail=one.detail,
            )
        )

    def again(self, delivery: str, now: datetime) -> int:
        """Send a message that was given up once more; how many notices it holds. NotFoundError for none.

        It was tried: it holds what it held, under its id, and is given up again after nine tries more.
        """
        failed = (_notices.c.delivery == delivery) & (_notices.c.state == State.FAILED.value)
        with self._engine.begin() as connection:
            values = {"state": State.WAITING.value, "due_at": now, "tries": 1}
            count = connection.execute(sa.update(_notices).where(failed).values(values)).rowcount
        if not count:
            raise NotFoundError(
                f"no message {delivery} was given up", hint="`trailhawk notify log` lists them"
            )
        return count

    def notices(self, states: Iterable[State] = tuple(State), *, limit: int = 200) -> tuple[Notice, ...]:
        """The newest notices in these states, oldest first."""
        wanted = [state.value for state in states]
        query = sa.select(_notices).where(_notices.c.state.in_(wanted)).order_by(_notices.c.id.desc())
        with reading(self._engine) as connection:
            rows = connection.execute(query.limit(limit)).all()
        return tuple(_notice(row, row.delivery) for row in reversed(rows))

    def tries(self, *, limit: int = 200) -> tuple[Try, ...]:
        """The newest tries, oldest first."""
        query = sa.select(_tries).order_by(_tries.c.id.desc()).limit(limit)
        with reading(self._engine) as connection:
            rows = connection.execute(query).all()
        return tuple(
            Try(row.delivery, row.channel, row.at, Outcome(row.outcome), row.detail) for row in reversed(rows)
        )


def _is_held(connection: sa.Connection, channel: str, now: datetime) -> bool:
    held = sa.select(_holds.c.channel).where(_holds.c.channel == channel, _holds.c.until > now)
    return connection.execute(held).first() is not None


def _next(at: datetime, hours: int) -> datetime:
    """The end of the span of so many hours since the epoch in which a moment lies."""
    length = hours * 3600
    whole = int(at.timestamp()) // length * length
    return datetime.fromtimestamp(whole + length, at.tzinfo)


def _notice(row: sa.Row[tuple[object, ...]], delivery: str) -> Notice:
    return Notice(
        id=row.id,
        channel=row.channel,
        number=row.number,
        sequence=row.sequence,
        occasion=row.occasion,
        said=row.said,
        at=row.at,
        due_at=row.due_at,
        state=State(row.state),
        tries=row.tries,
        delivery=delivery,
    )
