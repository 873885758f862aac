"""Bookmarks: rows of a query's result that somebody wants to keep, with notes, tags and entities.

The state database is the truth. Nothing in it is overwritten: making, changing and removing a bookmark are
revisions, each with who did it and when, and the table HuntingBookmark has a row for each.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime

import msgspec
import sqlalchemy as sa

from trailhawk.detect.entities import Entity, distinct, entities
from trailhawk.detect.rule import EntityMapping, FieldMapping
from trailhawk.detect.store import Moment, go_on_after, make_tables, metadata, reading
from trailhawk.errors import NotFoundError, UsageError
from trailhawk.kql.scope import suggestion

MAX_ROW_BYTES = 64 << 10
MAX_NOTES, MAX_NAME, MAX_TAG = 10_000, 256, 64
MAX_TAGS = 20
_TIME_COLUMNS = ("TimeGenerated", "StartTime", "StartTimeUtc", "FirstSeen", "EndTime", "LastSeen")

_revisions = sa.Table(
    "bookmark_revisions",
    metadata,
    sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("bookmark_id", sa.String, nullable=False, index=True),
    sa.Column("at", Moment, nullable=False),
    sa.Column("removed", sa.Boolean, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sqlite_autoincrement=True,
)


@dataclass(frozen=True, slots=True)
class Bookmark:
    """A kept row. `row` is the row as JSON, `event_time` the first time in it, None where it has none.

    `query_start` and `query_end` are the times that the query was run for, `updated_by` who changed it last.
    """

    id: str
    name: str
    notes: str
    tags: tuple[str, ...]
    entities: tuple[Entity, ...]
    query: str
    query_start: datetime | None
    query_end: datetime
    row: str
    event_time: datetime | None
    created_at: datetime
    created_by: str
    updated_at: datetime
    updated_by: str


@dataclass(frozen=True, slots=True)
class Revision:
    """A bookmark as it was after one change; `removed` when it was taken away."""

    sequence: int
    bookmark: Bookmark
    removed: bool


def bookmark(
    row: Mapping[str, object],
    row_json: str,
    *,
    query: str,
    query_start: datetime | None,
    query_end: datetime,
    mappings: Sequence[EntityMapping] = (),
    given: Iterable[Entity] = (),
    name: str = "",
    notes: str = "",
    tags: Iterable[str] = (),
    now: datetime,
    by: str,
) -> Bookmark:
    """A bookmark of this row; its entities are those that the mappings find in it and those given.

    UsageError where something is too long, or a mapping names no column of the row.
    """
    if len(row_json.encode()) > MAX_ROW_BYTES:
        raise UsageError(f"the row is larger than {MAX_ROW_BYTES:,} bytes", hint="project fewer columns")
    for mapping in mappings:
        for field in mapping.fields:
            if field.column not in row:
                near = suggestion(field.column, row) or f"there is {', '.join(row)}"
                raise UsageError(f"the row has no column '{field.column}'", hint=near)
    found = distinct([*entities(mappings, [row]), *given])
    return Bookmark(
        id=str(uuid.uuid4()),
        name=_short("name", name, MAX_NAME) or (found[0].name[:MAX_NAME] if found else "bookmark"),
        notes=_short("note", notes, MAX_NOTES),
        tags=checked_tags(tags),
        entities=found,
        query=query,
        query_start=query_start,
        query_end=query_end,
        row=row_json,
        event_time=_event_time(row),
        created_at=now,
        created_by=by,
        updated_at=now,
        updated_by=by,
    )


def checked_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """The tags without blanks around them, each once; UsageError for too many or too long ones."""
    found = tuple(dict.fromkeys(tag.strip() for tag in tags if tag.strip()))
    if len(found) > MAX_TAGS:
        raise UsageError(f"{len(found)} tags; a bookmark has {MAX_TAGS} at most")
    return tuple(_short("tag", tag, MAX_TAG) for tag in found)


def given_entity(text: str) -> Entity:
    """`IP.Address=203.0.113.66` as an entity; UsageError for another form."""
    kind, identifier, value = _parts(text, "VALUE")
    return Entity(kind, ((identifier, value),))


def given_mapping(text: str) -> EntityMapping:
    """`AwsPrincipal.Arn=Principal` as the mapping of a column; UsageError for another form."""
    kind, identifier, column = _parts(text, "COLUMN")
    return EntityMapping(kind, (FieldMapping(identifier, column),))


def _parts(text: str, right: str) -> tuple[str, str, str]:
    left, _, value = text.partition("=")
    kind, _, identifier = left.partition(".")
    if not (kind.strip() and identifier.strip() and value.strip()):
        raise UsageError(
            f"'{text}' is no entity", hint=f"write Type.Identifier={right}, as in IP.Address=..."
        )
    return kind.strip(), identifier.strip(), value.strip()


def _short(what: str, text: str, most: int) -> str:
    if len(text) > most:
        raise UsageError(f"the {what} has {len(text):,} characters; {most:,} is the most")
    return text.strip()


def _event_time(row: Mapping[str, object]) -> datetime | None:
    """The row's own time: of the columns that hold one by custom, else the first that is a time."""
    named = [row.get(name) for name in _TIME_COLUMNS]
    return next((value for value in (*named, *row.values()) if isinstance(value, datetime)), None)


class BookmarkStore:
    """The bookmarks in the state database."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine
        make_tables(engine, [_revisions])

    def add(self, made: Bookmark) -> Bookmark:
        """Keep a new bookmark."""
        with self.engine.begin() as connection:
            self._write(connection, made, removed=False)
        return made

    def change(
        self,
        text: str,
        *,
        name: str | None = None,
        notes: str | None = None,
        tags: Iterable[str] | None = None,
        now: datetime,
        by: str,
    ) -> Bookmark:
        """Give a bookmark another name, note or tags; None leaves what there is. NotFoundError as `one`."""
        with self.engine.begin() as connection:
            old = self._one(connection, text)
            new = replace(
                old,
                name=old.name if name is None else _short("name", name, MAX_NAME) or old.name,
                notes=old.notes if notes is None else _short("note", notes, MAX_NOTES),
                tags=old.tags if tags is None else checked_tags(tags),
                updated_at=now,
                updated_by=by,
            )
            self._write(connection, new, removed=False)
        return new

    def remove(self, text: str, *, now: datetime, by: str) -> Bookmark:
        """Take a bookmark away; what it held stays in the database. NotFoundError as `one`."""
        with self.engine.begin() as connection:
            gone = replace(self._one(connection, text), updated_at=now, updated_by=by)
            self._write(connection, gone, removed=True)
        return gone

    def all(self, *, tag: str = "") -> tuple[Bookmark, ...]:
        """The bookmarks that are kept, the newest first; with `tag` those that have it."""
        with self._reading() as connection:
            found = self._kept(connection)
        return tuple(each for each in reversed(found) if not tag or tag in each.tags)

    def one(self, text: str) -> Bookmark:
        """The bookmark of this id, or whose id alone begins so; NotFoundError for none or several."""
        with self._reading() as connection:
            return self._one(connection, text)

    def history(self, bookmark_id: str) -> tuple[Revision, ...]:
        """All revisions of a bookmark, the oldest first."""
        query = sa.select(_revisions).where(_revisions.c.bookmark_id == bookmark_id)
        with self._reading() as connection:
            return tuple(map(_revision, connection.execute(query.order_by(_revisions.c.sequence))))

    def go_on_after(self, sequence: int) -> None:
        """See `detect.store.go_on_after`."""
        go_on_after(self.engine, _revisions, sequence)

    def pending(self, after_sequence: int, *, limit: int | None = 1_000) -> tuple[Revision, ...]:
        """The revisions after this sequence number, the oldest first: what the lake has not yet."""
        query = sa.select(_revisions).where(_revisions.c.sequence > after_sequence)
        with self._reading() as connection:
            rows = connection.execute(query.order_by(_revisions.c.sequence).limit(limit))
            return tuple(map(_revision, rows))

    def _reading(self) -> AbstractContextManager[sa.Connection]:
        """A connection that takes no lock."""
        return reading(self.engine)

    def _write(self, connection: sa.Connection, each: Bookmark, *, removed: bool) -> None:
        connection.execute(
            sa.insert(_revisions).values(
                bookmark_id=each.id, at=each.updated_at, removed=removed, body=msgspec.json.encode(each)
            )
        )

    def _kept(self, connection: sa.Connection) -> list[Bookmark]:
        """The newest revision of each bookmark that is not removed, in the order of making."""
        newest = sa.select(sa.func.max(_revisions.c.sequence)).group_by(_revisions.c.bookmark_id)
        query = sa.select(_revisions).where(
            _revisions.c.sequence.in_(newest), _revisions.c.removed.is_(False)
        )
        found = [_revision(row).bookmark for row in connection.execute(query.order_by(_revisions.c.sequence))]
        return sorted(found, key=lambda each: each.created_at)

    def _one(self, connection: sa.Connection, text: str) -> Bookmark:
        kept = self._kept(connection)
        wanted = text.strip().lower()
        found = [each for each in kept if wanted and each.id.startswith(wanted)]
        if len(found) == 1:
            return found[0]
        what = (
            f"'{text}' begins the ids of {len(found)} bookmarks"
            if found
            else f"there is no bookmark '{text}'"
        )
        raise NotFoundError(what, hint="'trailhawk hunt bookmark list' shows them")


def _revision(row: sa.Row[tuple[object, ...]]) -> Revision:
    return Revision(row.sequence, msgspec.json.decode(row.body, type=Bookmark), row.removed)
