"""Records as their vendor writes them, mapped to columns at C speed; what is written otherwise is left over.

A source describes its record once (`Layout`). A record that has only known members, of the usual types,
becomes a row here; every other one is named in `left`, for the source's careful road, which must give
the same row for any record that both can read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np
import orjson
from msgspec.structs import astuple
from numpy.typing import NDArray

from trailhawk.kql.schema import Table, json_path
from trailhawk.kql.types import KqlType
from trailhawk.lake.table import ID, PAYLOAD, REST, whole
from trailhawk.native.records import Paths, Reader, Slices, Strings, Want, hashes
from trailhawk.sources.json_text import Tree, beyond, tidy

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

_SECOND: Final = len("2026-03-01T09:30:00Z")
_FIRST_YEAR, _LAST_YEAR = np.datetime64("1970-01-01", "us"), np.datetime64("2201-01-01", "us")

Mask = NDArray[np.bool_]
Connect = Callable[[], "duckdb.DuckDBPyConnection"]
"""A connection to DuckDB, which takes a tenth of a second to load and is seldom asked."""


@dataclass(frozen=True)
class Layout:
    """Where the columns stand in a record. Columns that are nowhere here are empty.

    `text`, `flags` and `json` map columns to members; `time` is the event time's member. `inner` maps
    members whose values repeat from record to record (who called, with which protocol) to columns with
    their type and path below; `known` is the tree of these members, what is beyond goes into `_th_rest`,
    as `rest` members do. `identity` are the columns that make a record one and the same. A record with
    one of `special` in the value of a text column is left over. `order` are members as they usually come one
    after the other: each is then known without a search.

    `repeated` are text columns with few values, kept as dictionaries as the inner ones are.
    """

    table: Table
    time: str
    text: Mapping[str, str]
    flags: Mapping[str, str]
    json: Mapping[str, str]
    inner: Mapping[str, Mapping[str, tuple[KqlType, tuple[str, ...]]]]
    known: Tree
    rest: tuple[str, ...]
    identity: tuple[str, str]
    special: Mapping[str, str]
    repeated: frozenset[str]
    order: tuple[str, ...]


@dataclass(frozen=True)
class Mapped:
    """Rows, the places of their records, and the places of the records that are left over."""

    table: pa.Table | None
    kept: list[int]
    left: list[int]


def reader(layout: Layout) -> Reader:
    """What finds the members of a layout's records."""
    members = [(layout.time, Want.TIME)]
    members += [(member, Want.TEXT) for member in layout.text.values()]
    members += [(member, Want.FLAG) for member in layout.flags.values()]
    members += [(member, Want.ANY) for member in (*layout.json.values(), *layout.inner, *layout.rest)]
    places = {member: place for place, member in enumerate(layout.order)}
    members.sort(key=lambda member: places.get(member[0], len(places)))
    repeated = [member for column, member in layout.text.items() if column in layout.repeated]
    return Reader(members, [*repeated, *layout.inner])


class Direct:
    """Maps records of one layout. Not for several threads at once."""

    def __init__(self, layout: Layout, reader: Reader, connect: Connect) -> None:
        self._layout = layout
        self._reader = reader
        self._inner = [_Inner(layout, member) for member in layout.inner]
        self._promoted = [_Promoted(column, layout.table, connect) for column in layout.json]
        mapped = {layout.table.time_column, *layout.text, *layout.flags, *layout.json}.union(
            *layout.inner.values()
        )
        self._empty = [column.name for column in layout.table.stored if column.name not in mapped]

    def rows(self, records: Sequence[bytes]) -> Mapped:
        """Rows with the layout's columns, the promoted ones, `_th_rest` and the hashes.

        Text columns whose values repeat are Arrow dictionaries. Without the kernel all is left over.
        """
        import pyarrow as pa

        found = self._reader.read(records)
        if found is None or not len(found):
            return Mapped(None, [], list(range(len(records))))
        try:
            columns, good = self._columns(self._reader.by_name(found))
        except (pa.ArrowInvalid, _DoubtfulError, orjson.JSONEncodeError):
            # A day that no month has; JSON that one parser lets through and the other does not.
            return Mapped(None, [], list(range(len(records))))
        kept = found.records.tolist()
        payloads = found.hashes.view(np.int64).copy()
        times = pa.array(found.times.copy()).view(pa.timestamp("us"))
        table = pa.table({self._layout.table.time_column: times, **columns, PAYLOAD: pa.array(payloads)})
        if not good.all():
            kept = found.records[good].tolist()
            table = table.filter(pa.array(good))
        left = sorted(set(range(len(records))).difference(kept)) if len(kept) < len(records) else []
        return Mapped(table, kept, left)

    def _columns(self, members: Mapping[str, Slices]) -> tuple[dict[str, Any], Mask]:
        """All columns but the time and the payload's hash, and which rows are to be kept."""
        import pyarrow.compute as pc

        layout = self._layout
        good = np.ones(len(members[layout.time].forms), bool)
        columns: dict[str, Any] = {}
        for column, member in layout.text.items():
            columns[column] = _text(members[member], repeated=column in layout.repeated)
        for column, member in layout.flags.items():
            columns[column] = members[member].flags()
        for promoted in self._promoted:
            columns |= promoted.columns(members[layout.json[promoted.column]])
        for column, text in layout.special.items():
            special = pc.match_substring(columns[column].dictionary, text)
            if pc.any(special).as_py():
                good &= ~special.take(columns[column].indices).to_numpy(zero_copy_only=False)
        rests: dict[int, dict[str, object]] = {}
        for member in layout.rest:
            _add_rest(member, members[member], rests)
        for inner in self._inner:
            made, readable = inner.columns_of(members[inner.member], rests)
            columns |= made
            good &= readable
        event, account = layout.identity
        columns[ID] = _identities(columns[event], columns[account])
        for name in self._empty:
            columns[name] = _constant("", len(good))
        columns[REST] = _rest(rests, len(good))
        return columns, good


class _DoubtfulError(Exception):
    """To DuckDB it is no JSON."""


class _Promoted:
    """A column of JSON, with its promoted paths."""

    def __init__(self, column: str, table: Table, connect: Connect) -> None:
        self.column = column
        self._connect = connect
        self._hidden = [path.hidden for path in table.promoted if path.column == column]
        paths = [path.path for path in table.promoted if path.column == column]
        self._paths = Paths([[str(step) for step in path] for path in paths])
        literals = ", ".join("'" + json_path(path).replace("'", "''") + "'" for path in paths)
        self._sql = f"SELECT json_extract_string(text, [{literals}]) AS found FROM json_texts"

    def columns(self, slices: Slices) -> dict[str, pa.Array]:
        """The column's text and one column a path. _DoubtfulError for what is no JSON to DuckDB."""
        import pyarrow as pa

        rows = len(slices.forms)
        none = pa.nulls(rows, pa.string())
        if not slices.is_value.any():
            return {self.column: pa.repeat(pa.scalar(""), rows), **dict.fromkeys(self._hidden, none)}
        texts = _json(slices)
        columns = {self.column: texts.array()}
        if not self._hidden:
            return columns
        found, doubtful = self._paths.read(texts)
        for name, values in zip(self._hidden, found, strict=True):
            is_found = values.is_present
            columns[name] = values.strings().array(is_found) if is_found.any() else none
        if doubtful.any():
            self._read_again(columns, doubtful)
        return columns

    def _read_again(self, columns: dict[str, pa.Array], doubtful: Mask) -> None:
        """The paths of the rows where how a value is printed is for DuckDB to say."""
        import duckdb
        import pyarrow as pa
        import pyarrow.compute as pc

        mask, connection = pa.array(doubtful), self._connect()
        connection.register("json_texts", pa.table({"text": columns[self.column].filter(mask)}))
        try:
            found = whole(connection.sql(self._sql).to_arrow_table()["found"])
        except duckdb.Error as error:
            raise _DoubtfulError from error
        finally:
            connection.unregister("json_texts")
        for place, name in enumerate(self._hidden):
            columns[name] = pc.replace_with_mask(columns[name], mask, pc.list_element(found, place))


UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that are not the JSON that is asked for."""


class _Inner:
    """A member whose values repeat: how one is read, and its columns."""

    def __init__(self, layout: Layout, member: str) -> None:
        self.member = member
        self.columns = layout.inner[member]
        self.nested = _Nested({path: name for name, (_, path) in self.columns.items()})
        self._known = layout.known[member] or {}
        self._decode = msgspec.json.Decoder(self.nested.type | None).decode

    def read(self, text: bytes) -> tuple[Any, dict[str, object], bool]:
        """A value, what of it has no column, and whether it could be read."""
        try:
            return self._decode(text), {}, True
        except UNREADABLE:
            pass
        try:
            value = orjson.loads(text)
            if not isinstance(value, dict):
                return None, {}, False
            return (
                msgspec.convert(_within(value, self._known), self.nested.type),
                beyond(value, self._known),
                True,
            )
        except (ValueError, *UNREADABLE):
            return None, {}, False

    def columns_of(
        self, slices: Slices, rests: dict[int, dict[str, object]]
    ) -> tuple[dict[str, pa.Array], Mask]:
        """The columns, and which rows could be read; adds what has no column by row to `rests`."""
        import pyarrow as pa

        codes = slices.numbers
        at = pa.array(codes)
        values = [slices.bytes_at(row) or b"null" for row in slices.firsts.tolist()]
        read, beyond_it, readable = zip(*map(self.read, values), strict=True)
        good = np.array(readable) & ~slices.at(slices.firsts).doubled()
        found: dict[str, Sequence[str | None]] = {}
        self.nested.columns(read, found)
        columns: dict[str, pa.Array] = {}
        for name, (kind, _) in self.columns.items():
            texts = pa.array(found[name], pa.string())
            if kind is KqlType.DATETIME:
                times, usual = _times(texts)
                good &= usual | _is_empty(texts)
                columns[name] = times.take(at)
            elif kind is KqlType.BOOL:
                flags = [_FLAGS.get((text or "").lower()) for text in found[name]]
                columns[name] = pa.array(flags, pa.bool_()).take(at)
            else:
                columns[name] = _encoded(texts.fill_null(""), codes)
        if any(beyond_it):
            for row, code in enumerate(codes.tolist()):
                if beyond_it[code]:
                    rests.setdefault(row, {})[self.member] = beyond_it[code]
        return columns, good.take(codes)


def _encoded(texts: pa.Array, codes: NDArray[np.int32]) -> pa.Array:
    """The texts at these places as a dictionary."""
    import pyarrow as pa

    unique = texts.dictionary_encode()
    return pa.DictionaryArray.from_arrays(pa.array(unique.indices.to_numpy().take(codes)), unique.dictionary)


def _constant(text: str, rows: int) -> pa.Array:
    import pyarrow as pa

    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([text]))


class _Nested:
    """A tree of members that are text (or null), as a struct, and back to columns."""

    def __init__(self, names: Mapping[tuple[str, ...], str]) -> None:
        self._leaves = {path[0]: name for path, name in names.items() if len(path) == 1}
        below: dict[str, dict[tuple[str, ...], str]] = {}
        for path, name in names.items():
            if len(path) > 1:
                below.setdefault(path[0], {})[path[1:]] = name
        self._below = {member: _Nested(inner) for member, inner in below.items()}
        fields: list[tuple[str, Any, Any]] = [(member, str | None, None) for member in self._leaves]
        fields += [(member, inner.type | None, None) for member, inner in self._below.items()]
        self.type: Any = msgspec.defstruct("Nested", fields, gc=False, forbid_unknown_fields=True)
        self._none = self.type()

    def columns(self, values: Sequence[Any], found: dict[str, Sequence[str | None]]) -> None:
        """Add the leaves of the values (None for a whole one that is absent) by column name."""
        members = list(
            zip(*(astuple(self._none if value is None else value) for value in values), strict=True)
        )
        for name, texts in zip(self._leaves.values(), members, strict=False):
            found[name] = texts
        for inner, below in zip(self._below.values(), members[len(self._leaves) :], strict=True):
            inner.columns(below, found)


_FLAGS: Final = {"true": True, "false": False}


def _within(value: dict[str, object], known: Tree) -> dict[str, object]:
    """The members that the tree knows."""
    found: dict[str, object] = {}
    for name, inner in known.items():
        if name in value:
            member = value[name]
            found[name] = _within(member, inner) if inner and isinstance(member, dict) else member
    return found


def _is_empty(texts: pa.Array) -> Mask:
    import pyarrow.compute as pc

    return np.asarray(pc.equal(texts.fill_null(""), "").to_numpy(zero_copy_only=False), bool)


def _times(texts: pa.Array) -> tuple[pa.Array, Mask]:
    """Times written like 2026-03-01T09:30:00Z, and which were; the others are NULL. ArrowInvalid where
    one is no time after all."""
    import pyarrow as pa
    import pyarrow.compute as pc

    usual = pc.and_(pc.equal(pc.binary_length(texts), _SECOND), pc.ends_with(texts, "Z")).fill_null(False)
    good = usual.to_numpy(zero_copy_only=False)
    if not good.all():
        texts = pc.if_else(usual, texts, None)
    times = texts.cast(pa.timestamp("us", "UTC")).cast(pa.timestamp("us"))
    values = times.to_numpy(zero_copy_only=False)
    return times, good & (values >= _FIRST_YEAR) & (values < _LAST_YEAR)


def _json(slices: Slices) -> Strings:
    """JSON as text, '' for absent and null; only what has a blank or an escape is rewritten."""
    texts = slices.strings(as_json=True)
    untidy = np.flatnonzero(slices.is_untidy & slices.is_value)
    if not len(untidy):
        return texts
    tidied = texts.array().to_pylist()
    for row in untidy.tolist():
        tidied[row] = tidy(tidied[row])
    return Strings.of(tidied)


def _add_rest(member: str, slices: Slices, rests: dict[int, dict[str, object]]) -> None:
    """Add by row what a member without a column says."""
    for row in np.flatnonzero(slices.is_value).tolist():
        if (value := orjson.loads(slices.bytes_at(row))) not in ("", {}):
            rests.setdefault(row, {})[member] = value


def _rest(rests: Mapping[int, dict[str, object]], rows: int) -> pa.Array:
    import pyarrow as pa

    if not rests:
        return pa.nulls(rows, pa.string())
    texts: list[str | None] = [None] * rows
    for row, rest in rests.items():
        texts[row] = orjson.dumps(rest, option=orjson.OPT_SORT_KEYS).decode()
    return pa.array(texts, pa.string())


def _text(slices: Slices, *, repeated: bool) -> pa.Array:
    """Text, '' for null, as a dictionary where it repeats."""
    import pyarrow as pa

    if not repeated:
        return slices.strings().array()
    texts = slices.at(slices.firsts).strings().array()
    if slices.has_escapes:  # one text may be written in several ways
        return _encoded(texts, slices.numbers)
    # A copy: the numbers stand in one piece of memory with all that was read.
    return pa.DictionaryArray.from_arrays(pa.array(slices.numbers.copy()), texts)


def _identities(events: pa.Array, accounts: pa.Array) -> pa.Array:
    """Hashes of the two values, those of `json_text.identity`; NULL where the first is empty."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found = hashes(pc.binary_join_element_wise(events, accounts.cast(pa.string()), "\0")).view(np.int64)
    empty = pc.equal(events, "").to_numpy(zero_copy_only=False)
    return pa.array(found, mask=empty) if empty.any() else pa.array(found)
