"""Watchlists: lists of the user's own that queries read with `_GetWatchlist('alias')`.

The state database is the truth. Nothing in it is overwritten: each import or removal is a version, and an
item has a row for each version that made, changed or deleted it. An item is known by its search key (and its
place among those of the same key), so that an import again changes what changed.
"""

from __future__ import annotations

import csv
import io
import re
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import sqlalchemy as sa

from trailhawk.detect.store import Moment, go_on_after, make_tables, metadata, reading
from trailhawk.errors import NotFoundError, SourceError, UsageError
from trailhawk.kql.schema import HIDDEN_PREFIX, WATCHLIST_ALIASES, Column, Table, watchlist_table
from trailhawk.kql.scope import suggestion
from trailhawk.kql.types import KqlType

if TYPE_CHECKING:
    import pyarrow as pa

MAX_BYTES = 3_800_000
MAX_LINE = 10_240
"""Bytes of a file and characters of a line: Sentinel's bounds."""
_ALIAS = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,62}[A-Za-z0-9])?")
_ID, _UPDATED, _KEY = "_DTItemId", "LastUpdatedTimeUTC", "SearchKey"
_OWN = frozenset({_ID.lower(), _UPDATED.lower(), _KEY.lower()})

_versions = sa.Table(
    "watchlist_versions",
    metadata,
    sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("alias", sa.String, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("at", Moment, nullable=False),
    sa.Column("removed", sa.Boolean, nullable=False),
    sa.Column("search_key", sa.String, nullable=False),
    sa.Column("columns", sa.LargeBinary, nullable=False),
    sa.Column("source", sa.String, nullable=False),
    sa.Column("items", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("alias", "version"),
    sqlite_autoincrement=True,
)

_items = sa.Table(
    "watchlist_items",
    metadata,
    sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("alias", sa.String, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("item_id", sa.String, nullable=False),
    sa.Column("at", Moment, nullable=False),
    sa.Column("status", sa.String, nullable=False),
    sa.Column("search_key", sa.String, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Index("watchlist_items_by_alias", "alias", "version"),
    sqlite_autoincrement=True,
)


@dataclass(frozen=True, slots=True)
class Sheet:
    """A CSV file read: its columns, the one that is the search key, and its rows in order."""

    columns: tuple[str, ...]
    key: str
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Watchlist:
    """A watchlist at one of its versions; `source` is the file it came from."""

    alias: str
    version: int
    key: str
    columns: tuple[str, ...]
    items: int
    updated_at: datetime
    source: str

    @property
    def table(self) -> Table:
        """What a query sees, under a name that no query can write: it holds the version, and so the rows."""
        columns = (
            Column(_ID, KqlType.STRING, "Id of the item."),
            Column(_UPDATED, KqlType.DATETIME, "When the item was made or last changed."),
            Column(_KEY, KqlType.STRING, f"The value of {self.key}."),
            *(Column(name, KqlType.STRING) for name in self.columns),
        )
        name = f"{watchlist_table(self.alias)}_{self.version}"
        # The time range of a query is ignored: there is no time column.
        return Table(name, columns, f"Items of the watchlist {self.alias}.", time_column="")


@dataclass(frozen=True, slots=True)
class Item:
    """A row of a watchlist."""

    id: str
    key: str
    values: Mapping[str, str]
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Change:
    """What a version did to an item: `status` is Created, Updated or Deleted, `body` its values as JSON."""

    item_id: str
    status: str
    key: str
    body: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Revision:
    """A version of a watchlist with what it changed; `first`: there was no watchlist of the alias before."""

    sequence: int
    alias: str
    version: int
    at: datetime
    removed: bool
    first: bool
    search_key: str
    source: str
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did to a watchlist's items."""

    alias: str
    version: int
    key: str
    created: int
    updated: int
    deleted: int
    unchanged: int


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a watchlist: when and from which file it came, what it changed, how many items it has.

    `removed`: it took the watchlist out of use.
    """

    alias: str
    version: int
    at: datetime
    source: str
    items: int
    created: int
    updated: int
    deleted: int
    removed: bool


ALIASES = Table(
    WATCHLIST_ALIASES,
    (Column("WatchlistAlias", KqlType.STRING),),
    "The aliases of the watchlists.",
    time_column="",
)


def is_alias(text: str) -> bool:
    """Whether a watchlist can have this alias."""
    return _ALIAS.fullmatch(text) is not None


class WatchlistStore:
    """The watchlists in the state database."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine
        make_tables(engine, [_versions, _items])

    def load(self, alias: str, path: Path, *, key: str | None, now: datetime) -> Imported:
        """Make a watchlist of a CSV file, or bring it to what the file says.

        `key` names the search key's column; unless given it is the watchlist's, or else the first. Raises
        UsageError for an alias or key that cannot be, SourceError for a file that is no such CSV.
        """
        if not _ALIAS.fullmatch(alias):
            raise UsageError(
                f"'{alias}' is no alias",
                hint="use letters, digits, - and _, 64 at most, a letter or digit first",
            )
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        with self.engine.begin() as connection:
            latest = self._latest(connection, alias)
            known = None if latest is None else latest.key
            sheet = read_csv(content, source=path.name, key=key, known_key=known)
            return self._write(connection, alias, sheet, source=path.name, now=now)

    def add(
        self,
        alias: str,
        keys: Iterable[str],
        *,
        column: str,
        values: Mapping[str, str],
        source: str,
        now: datetime,
    ) -> int:
        """Put keys on a watchlist that it lacks; how many there were. One that is not there is made, with
        this column as its search key and one for each of `values`.

        `values` go into the columns of these names, where the watchlist has them. UsageError beyond the
        bounds of a watchlist's file.
        """
        if not is_alias(alias):
            raise UsageError(f"'{alias}' is no alias")
        with self.engine.begin() as connection:
            latest = self._latest(connection, alias)
            columns = (column, *values) if latest is None else latest.columns
            key = column if latest is None else latest.key
            items = () if latest is None else self._items(connection, alias, latest.version)
            known = {item.key for item in items}
            fresh = [each for each in dict.fromkeys(keys) if each and each not in known]
            if not fresh:
                return 0
            rows = [tuple(item.values.get(name, "") for name in columns) for item in items]
            for each in fresh:
                filled = {**values, key: each}
                rows.append(tuple(filled.get(name, "") for name in columns))
            longest = max(sum(len(value) + 3 for value in row) for row in rows)
            if longest > MAX_LINE or sum(len(value) + 3 for row in rows for value in row) > MAX_BYTES:
                raise UsageError(f"the watchlist '{alias}' would be longer than it may be")
            self._write(connection, alias, Sheet(tuple(columns), key, tuple(rows)), source=source, now=now)
        return len(fresh)

    def _write(
        self, connection: sa.Connection, alias: str, sheet: Sheet, *, source: str, now: datetime
    ) -> Imported:
        version = self._last_version(connection, alias) + 1
        place = sheet.columns.index(sheet.key)
        seen: Counter[str] = Counter()
        wanted: dict[tuple[str, int], dict[str, str]] = {}
        for row in sheet.rows:
            wanted[row[place], seen[row[place]]] = dict(zip(sheet.columns, row, strict=True))
            seen[row[place]] += 1
        present = _by_key(self._items(connection, alias, version))
        changes: list[dict[str, object]] = []

        def change(status: str, item_id: str, key: str, values: Mapping[str, str]) -> None:
            changes.append(
                {
                    "alias": alias,
                    "version": version,
                    "item_id": item_id,
                    "at": now,
                    "status": status,
                    "search_key": key,
                    "body": msgspec.json.encode(values),
                }
            )

        for identity, item in present.items():
            if identity not in wanted:
                change("Deleted", item.id, item.key, item.values)
        for identity, values in wanted.items():
            old = present.get(identity)
            if old is None:
                change("Created", str(uuid.uuid4()), identity[0], values)
            elif old.values != values:
                change("Updated", old.id, identity[0], values)
        if changes:
            connection.execute(sa.insert(_items), changes)
        self._add_version(connection, alias, version, sheet, source=source, removed=False, now=now)
        done = Counter(str(one["status"]) for one in changes)
        return Imported(
            alias,
            version,
            sheet.key,
            created=done["Created"],
            updated=done["Updated"],
            deleted=done["Deleted"],
            unchanged=len(wanted) - done["Created"] - done["Updated"],
        )

    def remove(self, alias: str, *, now: datetime) -> Watchlist:
        """Take a watchlist out of use; its history stays. NotFoundError where there is none."""
        with self.engine.begin() as connection:
            latest = self._latest(connection, alias)
            if latest is None:
                raise self._unknown(connection, alias)
            version = latest.version + 1
            rows = [
                {
                    "alias": alias,
                    "version": version,
                    "item_id": item.id,
                    "at": now,
                    "status": "Deleted",
                    "search_key": item.key,
                    "body": msgspec.json.encode(item.values),
                }
                for item in self._items(connection, alias, version)
            ]
            if rows:
                connection.execute(sa.insert(_items), rows)
            sheet = Sheet(latest.columns, latest.key, ())
            self._add_version(connection, alias, version, sheet, source=latest.source, removed=True, now=now)
            return latest

    def _add_version(
        self,
        connection: sa.Connection,
        alias: str,
        version: int,
        sheet: Sheet,
        *,
        source: str,
        removed: bool,
        now: datetime,
    ) -> None:
        connection.execute(
            sa.insert(_versions).values(
                alias=alias,
                version=version,
                at=now,
                removed=removed,
                search_key=sheet.key,
                columns=msgspec.json.encode(sheet.columns),
                source=source,
                items=len(sheet.rows),
            )
        )

    # --- reading -------------------------------------------------------------------------------------------

    def all(self) -> tuple[Watchlist, ...]:
        """The watchlists in use, by alias."""
        with self._reading() as connection:
            return self._all(connection)

    def watchlist(self, alias: str, *, version: int | None = None) -> Watchlist:
        """The watchlist of this alias as it is, or as it was; NotFoundError with the nearest alias."""
        with self._reading() as connection:
            if version is None:
                found = self._latest(connection, alias)
            else:
                query = sa.select(_versions).where(_versions.c.alias == alias, _versions.c.version == version)
                row = connection.execute(query).one_or_none()
                found = None if row is None else _watchlist(row)
                if found is None and self._latest(connection, alias) is not None:
                    raise NotFoundError(f"the watchlist '{alias}' has no version {version}")
            if found is None:
                raise self._unknown(connection, alias)
            return found

    def history(self, alias: str) -> tuple[Version, ...]:
        """Every version there was of this alias, oldest first, removals too; NotFoundError where none was."""
        counts = sa.select(_items.c.version, _items.c.status, sa.func.count()).where(_items.c.alias == alias)
        versions = sa.select(_versions).where(_versions.c.alias == alias).order_by(_versions.c.version)
        with self._reading() as connection:
            rows = connection.execute(versions).all()
            if not rows:
                raise self._unknown(connection, alias)
            done = {
                (version, status): count
                for version, status, count in connection.execute(
                    counts.group_by(_items.c.version, _items.c.status)
                )
            }
        return tuple(
            Version(
                alias=row.alias,
                version=row.version,
                at=row.at,
                source=row.source,
                items=row.items,
                created=done.get((row.version, "Created"), 0),
                updated=done.get((row.version, "Updated"), 0),
                deleted=done.get((row.version, "Deleted"), 0),
                removed=row.removed,
            )
            for row in rows
        )

    def items(self, alias: str, version: int) -> tuple[Item, ...]:
        """The items of a watchlist as they were at this version, the oldest first."""
        with self._reading() as connection:
            return self._items(connection, alias, version)

    def rows(self, table: str) -> pa.Table:
        """The rows of the table that a watchlist's version is to queries, or of the table of aliases."""
        import pyarrow as pa

        from trailhawk.lake.table import as_stored  # the lake takes its time to load: not for an alias

        if table == WATCHLIST_ALIASES:
            return pa.table({"WatchlistAlias": pa.array([one.alias for one in self.all()], pa.string())})
        name, _, version = table.rpartition("_")
        watchlist = self.watchlist(_alias(name), version=int(version))
        items = self.items(watchlist.alias, watchlist.version)
        moments = [as_stored(item.updated_at) for item in items]
        columns = {
            _ID: pa.array([item.id for item in items], pa.string()),
            _UPDATED: pa.array(moments, pa.timestamp("us")),
            _KEY: pa.array([item.key for item in items], pa.string()),
        }
        for name in watchlist.columns:
            columns[name] = pa.array([item.values.get(name, "") for item in items], pa.string())
        return pa.table(columns)

    def table(self, name: str) -> Table:
        """The table behind the name that the binder gives a watchlist; NotFoundError with a near alias."""
        return self.watchlist(_alias(name)).table

    def go_on_after(self, sequence: int) -> None:
        """See `detect.store.go_on_after`."""
        go_on_after(self.engine, _versions, sequence)

    def pending(self, after_sequence: int, *, limit: int | None = 20) -> tuple[Revision, ...]:
        """The versions stored after this sequence number, the oldest first: what the lake has not yet."""
        query = sa.select(_versions).where(_versions.c.sequence > after_sequence)
        with self._reading() as connection:
            rows = connection.execute(query.order_by(_versions.c.sequence).limit(limit)).all()
            return tuple(self._revision(connection, row) for row in rows)

    def _revision(self, connection: sa.Connection, row: sa.Row[tuple[object, ...]]) -> Revision:
        items = sa.select(_items).where(_items.c.alias == row.alias, _items.c.version == row.version)
        changes = tuple(
            Change(item.item_id, item.status, item.search_key, item.body.decode(), item.at)
            for item in connection.execute(items.order_by(_items.c.sequence))
        )
        before = sa.select(_versions.c.removed).where(
            _versions.c.alias == row.alias, _versions.c.version == row.version - 1
        )
        first = connection.scalar(before) is not False
        return Revision(
            row.sequence,
            row.alias,
            row.version,
            row.at,
            row.removed,
            first,
            row.search_key,
            row.source,
            changes,
        )

    def _reading(self) -> AbstractContextManager[sa.Connection]:
        """A connection that takes no lock."""
        return reading(self.engine)

    def _all(self, connection: sa.Connection) -> tuple[Watchlist, ...]:
        last = sa.select(sa.func.max(_versions.c.sequence)).group_by(_versions.c.alias)
        query = sa.select(_versions).where(_versions.c.sequence.in_(last), _versions.c.removed.is_(False))
        return tuple(map(_watchlist, connection.execute(query.order_by(_versions.c.alias))))

    def _latest(self, connection: sa.Connection, alias: str) -> Watchlist | None:
        query = sa.select(_versions).where(_versions.c.alias == alias)
        row = connection.execute(query.order_by(_versions.c.version.desc()).limit(1)).one_or_none()
        return None if row is None or row.removed else _watchlist(row)

    def _last_version(self, connection: sa.Connection, alias: str) -> int:
        query = sa.select(sa.func.max(_versions.c.version)).where(_versions.c.alias == alias)
        return connection.scalar(query) or 0

    def _unknown(self, connection: sa.Connection, alias: str) -> NotFoundError:
        near = suggestion(alias, [one.alias for one in self._all(connection)])
        return NotFoundError(
            f"there is no watchlist '{alias}'", hint=near or "'trailhawk watchlist list' shows them"
        )

    def _items(self, connection: sa.Connection, alias: str, version: int) -> tuple[Item, ...]:
        query = sa.select(_items).where(_items.c.alias == alias, _items.c.version <= version)
        found: dict[str, Item] = {}
        for row in connection.execute(query.order_by(_items.c.sequence)):
            if row.status == "Deleted":
                found.pop(row.item_id, None)
            else:
                values = msgspec.json.decode(row.body, type=dict[str, str])
                found[row.item_id] = Item(row.item_id, row.search_key, values, row.at)
        return tuple(found.values())


def read_csv(content: bytes, *, source: str, key: str | None = None, known_key: str | None = None) -> Sheet:
    """The rows of a CSV file with a header, in UTF-8, with or without byte order mark.

    Raises SourceError with the line that is wrong, UsageError where there is no column `key`.
    """
    if len(content) > MAX_BYTES:
        raise SourceError(f"{source} is larger than {MAX_BYTES:,} bytes", hint="split it into watchlists")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise SourceError(f"{source} is not UTF-8 text") from None
    if "\0" in text:
        raise SourceError(f"{source} is not text: it holds NUL characters")
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text), 1):
        if len(line) > MAX_LINE:
            raise SourceError(f"{source}, line {number}: longer than {MAX_LINE:,} characters")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[tuple[str, ...]] = []
    columns: tuple[str, ...] = ()
    try:
        for row in reader:
            if not row:
                continue
            if not columns:
                columns = _header(row, source)
            elif len(row) != len(columns):
                raise SourceError(
                    f"{source}, line {reader.line_num}: {len(row)} values for {len(columns)} columns",
                    hint='a value with a comma stands in "..."',
                )
            else:
                rows.append(tuple(row))
    except csv.Error as error:
        raise SourceError(f"{source}, line {reader.line_num}: {error}") from None
    if not columns:
        raise SourceError(f"{source} is empty", hint="its first line names the columns")
    if key is not None and key not in columns:
        hint = suggestion(key, columns) or f"there is {', '.join(columns[:20])}"
        raise UsageError(f"{source} has no column '{key}'", hint=hint)
    return Sheet(columns, key or (known_key if known_key in columns else None) or columns[0], tuple(rows))


def _header(row: Iterable[str], source: str) -> tuple[str, ...]:
    """The names of the columns; they differ in more than case, since the engine folds it."""
    columns = tuple(name.strip() for name in row)
    seen: dict[str, str] = {}
    for place, name in enumerate(columns, 1):
        folded = name.lower()
        if not name:
            raise SourceError(f"{source}: column {place} has no name")
        if folded in _OWN or folded.startswith(HIDDEN_PREFIX):
            raise SourceError(f"{source}: a column cannot be called '{name}'", hint="queries see one of ours")
        if folded in seen:
            raise SourceError(f"{source}: two columns are called '{seen[folded]}' and '{name}'")
        seen[folded] = name
    return columns


def _by_key(items: Iterable[Item]) -> dict[tuple[str, int], Item]:
    """The items by search key and place among those of the same key."""
    seen: Counter[str] = Counter()
    found = {}
    for item in items:
        found[item.key, seen[item.key]] = item
        seen[item.key] += 1
    return found


def _watchlist(row: sa.Row[tuple[object, ...]]) -> Watchlist:
    return Watchlist(
        alias=row.alias,
        version=row.version,
        key=row.search_key,
        columns=msgspec.json.decode(row.columns, type=tuple[str, ...]),
        items=row.items,
        updated_at=row.at,
        source=row.source,
    )


def _alias(table: str) -> str:
    """The alias in a hidden table's name."""
    return bytes.fromhex(table.removeprefix(watchlist_table(""))).decode()
