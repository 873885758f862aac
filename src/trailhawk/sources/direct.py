"""Records as their vendor writes them, mapped to columns at C speed; what is written otherwise is left over.

A source describes its record once (`Layout`). A record that has only known members, of the usual types,
becomes a row here; every other one is named in `left`, for the source's careful road, which must give
the same row for any record that both can read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np
import orjson
from msgspec import Raw
from msgspec.structs import astuple
from numpy.typing import NDArray

from trailhawk.kql.schema import Promoted, Table, json_path
from trailhawk.kql.types import KqlType
from trailhawk.lake.table import ID, PAYLOAD, REST, whole
from trailhawk.sources.json_text import Tree, beyond, hashed, tidy

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

PIECE: Final = 2_000
"""Records mapped at a time: their bytes and columns stay in the processor's cache."""

_SECOND: Final = len("2026-03-01T09:30:00Z")
_FIRST_YEAR, _LAST_YEAR = np.datetime64("1970-01-01", "us"), np.datetime64("2201-01-01", "us")
_ABSENT = Raw(b"")
_NO_ROWS: Final = np.zeros(0, bool)

Mask = NDArray[np.bool_]


def _octets(some: bytes) -> Mask:
    """By byte whether it is one of these."""
    return np.isin(np.arange(256), np.frombuffer(some, np.uint8))


_BACKSLASH: Final = 0x5C
_BLANK: Final = 0x20  # the greatest of the blanks; nothing else below it stands in JSON
_PARTS: Final = _octets(b"{}[],:")  # beside each blank outside of strings, or beside its neighbours
_REWRITTEN: Final = _octets(b"u/")  # after a backslash


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


class Direct:
    """Maps records of one layout. Not for several threads at once."""

    def __init__(self, layout: Layout, connection: duckdb.DuckDBPyConnection) -> None:
        self._layout = layout
        self._connection = connection
        fields: list[tuple[str, Any] | tuple[str, Any, Any]] = [(layout.time, str)]
        fields += [(member, str | None, "") for member in layout.text.values()]
        fields += [(member, bool | None, None) for member in layout.flags.values()]
        fields += [(member, Raw, _ABSENT) for member in (*layout.json.values(), *layout.inner, *layout.rest)]
        places = {member: place for place, member in enumerate(layout.order)}
        fields.sort(key=lambda field: places.get(field[0], len(places)))
        self._members = [field[0] for field in fields]
        record = msgspec.defstruct("Record", fields, gc=False, forbid_unknown_fields=True, kw_only=True)
        self._decode = msgspec.json.Decoder(record).decode
        self._inner = [_Inner(layout, member) for member in layout.inner]
        self._promoted: dict[str, list[Promoted]] = {}
        for path in layout.table.promoted:
            self._promoted.setdefault(path.column, []).append(path)
        lists = [
            f'json_extract_string(nullif("{column}", \'\'), [{", ".join(map(_literal, paths))}]) "{column}"'
            for column, paths in self._promoted.items()
        ]
        self._promote = f"SELECT {', '.join(lists)} FROM json_texts"
        mapped = {layout.table.time_column, *layout.text, *layout.flags, *layout.json}.union(
            *layout.inner.values()
        )
        self._empty = [column.name for column in layout.table.stored if column.name not in mapped]

    def rows(self, records: Sequence[bytes]) -> Mapped:
        """Rows with the layout's columns, the promoted ones, `_th_rest` and the hashes.

        Text columns whose values repeat are Arrow dictionaries.
        """
        import duckdb
        import pyarrow as pa

        pieces: list[pa.Table] = []
        goods: list[Mask] = []
        kept: list[int] = []
        rests: dict[int, dict[str, object]] = {}
        inner = [_Seen(each) for each in self._inner]
        for start in range(0, len(records), PIECE):
            part = records[start : start + PIECE]
            places, piece, good = self._piece(part, len(kept), rests, inner)
            if piece is not None:
                pieces.append(piece)
                goods.append(good)
                kept += [start + place for place in places]
        if not pieces:
            return Mapped(None, [], list(range(len(records))))
        table, good = pa.concat_tables(pieces), np.concatenate(goods)
        try:
            columns = dict(zip(table.column_names, table.columns, strict=True))
            for seen in inner:
                made, readable = seen.columns(rests)
                columns |= made
                good &= readable
            event, account = self._layout.identity
            columns[ID] = _identities(columns[event], columns[account])
            for name in self._empty:
                columns[name] = _constant("", len(good))
            columns[REST] = _rest(rests, len(good))
            table = pa.table(columns)
            if not good.all():
                kept = np.asarray(kept)[good].tolist()
                table = table.filter(pa.array(good))
            table = self._with_promoted(table)
        except (pa.ArrowInvalid, duckdb.Error, orjson.JSONEncodeError):
            # A day that no month has; JSON that one parser lets through and the other does not; what has no
            # column and is nested deeper than orjson writes.
            return Mapped(None, [], list(range(len(records))))
        left = sorted(set(range(len(records))).difference(kept)) if len(kept) < len(records) else []
        return Mapped(table, kept, left)

    def _piece(
        self,
        records: Sequence[bytes],
        before: int,
        rests: dict[int, dict[str, object]],
        inner: Sequence[_Seen],
    ) -> tuple[list[int], pa.Table | None, Mask]:
        """The rows of some records, the places of these, as far as they can be read, and which to keep.

        `before` rows were read before. The members whose values repeat are only gathered here.
        """
        import pyarrow as pa

        places, values = self._values(records)
        if not values:
            return [], None, _NO_ROWS
        members = dict(zip(self._members, zip(*values, strict=True), strict=True))
        try:
            columns, good = self._columns(members)
            beyond_columns: dict[int, dict[str, object]] = {}
            for member in self._layout.rest:
                _add_rest(member, members[member], before, beyond_columns)
        except ValueError:  # text that is not UTF-8, a day that no month has
            return [], None, _NO_ROWS
        rests.update(beyond_columns)
        for seen in inner:
            seen.add(members[seen.member])
        texts = records if len(places) == len(records) else [records[place] for place in places]
        hashes = np.fromiter(map(hashed, texts), np.uint64, len(texts)).view(np.int64)
        return places, pa.table({**columns, PAYLOAD: pa.array(hashes)}), good

    def _values(self, records: Sequence[bytes]) -> tuple[list[int], list[tuple[Any, ...]]]:
        """The members of the records that have only known ones, in the order of `_members`."""
        decode = self._decode
        try:
            return list(range(len(records))), list(map(astuple, map(decode, records)))
        except UNREADABLE:
            pass
        places: list[int] = []
        values: list[tuple[Any, ...]] = []
        for place, record in enumerate(records):
            try:
                values.append(astuple(decode(record)))
            except UNREADABLE:
                continue
            places.append(place)
        return places, values

    def _columns(self, members: Mapping[str, tuple[Any, ...]]) -> tuple[dict[str, Any], Mask]:
        """Columns of one piece, and which rows are to be kept."""
        import pyarrow as pa
        import pyarrow.compute as pc

        layout = self._layout
        times, good = _times(pa.array(members[layout.time], pa.string()))
        columns: dict[str, Any] = {layout.table.time_column: times}
        for column, member in layout.text.items():
            columns[column] = _text(members[member], repeated=column in layout.repeated)
        for column, member in layout.flags.items():
            columns[column] = pa.array(members[member], pa.bool_())
        for column, member in layout.json.items():
            columns[column] = _json(members[member])
        for column, text in layout.special.items():
            special = pc.match_substring(columns[column].dictionary, text)
            if pc.any(special).as_py():
                good &= ~special.take(columns[column].indices).to_numpy(zero_copy_only=False)
        return columns, good

    def _with_promoted(self, table: pa.Table) -> pa.Table:
        """The table with the promoted paths of its JSON columns. duckdb.Error for what is no JSON to it."""
        import pyarrow as pa
        import pyarrow.compute as pc

        paths = self._promoted
        if not paths:
            return table
        self._connection.register("json_texts", table.select(list(paths)))
        try:
            found = self._connection.sql(self._promote).to_arrow_table()
        finally:
            self._connection.unregister("json_texts")
        columns = dict(zip(table.column_names, table.columns, strict=True))
        none = pa.nulls(table.num_rows, pa.string())
        for column, promoted in paths.items():
            lists = whole(found[column])  # NULL for no JSON, else one of its values for each path
            valid = lists.flatten().is_valid().to_numpy(zero_copy_only=False)
            is_found = valid.reshape(-1, len(promoted)).any(axis=0)
            for place, path in enumerate(promoted):
                columns[path.hidden] = pc.list_element(lists, place) if is_found[place] else none
        return pa.table(columns)


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
            return self._decode(text or b"null"), {}, True
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


class _Seen:
    """The values of a member in the rows of a group; each is read once."""

    def __init__(self, inner: _Inner) -> None:
        self.member = inner.member
        self._inner = inner
        self._slices: list[pa.Array] = []

    def add(self, values: Sequence[Raw]) -> None:
        """Take the values of the rows that follow."""
        self._slices.append(_slices(values))

    def columns(self, rests: dict[int, dict[str, object]]) -> tuple[dict[str, pa.Array], Mask]:
        """The columns, and which rows could be read; adds what has no column by row to `rests`."""
        import pyarrow as pa

        unique = whole(pa.chunked_array(self._slices).dictionary_encode().unify_dictionaries())
        at, codes = unique.indices, unique.indices.to_numpy()
        values = unique.dictionary.to_pylist()
        read, beyond_it, readable = zip(*map(self._inner.read, values), strict=True)
        good = np.array(readable)
        found: dict[str, Sequence[str | None]] = {}
        self._inner.nested.columns(read, found)
        columns: dict[str, pa.Array] = {}
        for name, (kind, _) in self._inner.columns.items():
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
    return pa.DictionaryArray.from_arrays(pa.array(unique.indices.to_numpy()[codes]), unique.dictionary)


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


def _literal(path: Promoted) -> str:
    return "'" + json_path(path.path).replace("'", "''") + "'"


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


def _json(values: Sequence[Raw]) -> pa.Array:
    """JSON slices as text, '' for absent and null; only those with a blank or an escape are rewritten."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if values[0] is _ABSENT and values.count(_ABSENT) == len(values):
        return pa.repeat(pa.scalar(""), len(values))
    slices = _slices(values)
    _, places, text = slices.buffers()
    if not text:
        return pa.repeat(pa.scalar(""), len(values))
    offsets = np.frombuffer(places, np.int32)
    tidied = {
        place: text
        for place in _untidy(np.frombuffer(text, np.uint8), offsets)
        if (text := tidy(bytes(values[place]).decode()).encode()) != bytes(values[place])
    }
    if tidied:
        texts = [tidied.get(place, text) for place, text in enumerate(slices.to_pylist())]
        slices = pa.array(texts, pa.binary())
    if (offsets[1:] - offsets[:-1] == len(b"null")).any():
        slices = pc.if_else(pc.equal(slices, b"null"), b"", slices)
    return slices.cast(pa.string())


def _slices(values: Sequence[Raw]) -> pa.Array:
    """JSON slices as bytes."""
    import pyarrow as pa

    offsets = np.zeros(len(values) + 1, np.int32)
    np.cumsum(np.fromiter(map(len, values), np.int32, len(values)), out=offsets[1:])
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(values))]
    return pa.Array.from_buffers(pa.binary(), len(values), buffers)


def _untidy(octets: NDArray[np.uint8], offsets: NDArray[np.int32]) -> list[int]:
    """The places of JSON slices with a blank outside of strings or an escape to rewrite, perhaps some more.

    A blank outside of strings has beside it, or beside its neighbouring blanks, what parts values. None
    stands at an end of a slice.
    """
    hits = np.flatnonzero((octets <= _BLANK) | (octets == _BACKSLASH))
    if not len(hits):
        return []
    before, at, after = octets[hits - 1], octets[hits], octets[hits + 1]
    blank = (at != _BACKSLASH) & (_PARTS[before] | _PARTS[after])
    escape = (at == _BACKSLASH) & _REWRITTEN[after]
    found = hits[blank | escape]
    places: list[int] = np.unique(np.searchsorted(offsets, found, "right") - 1).tolist()
    return places


def _add_rest(member: str, values: Sequence[Raw], before: int, rests: dict[int, dict[str, object]]) -> None:
    """Add by row what a member without a column says; `before` rows came earlier."""
    if values.count(_ABSENT) == len(values):
        return
    for row, raw in enumerate(values, before):
        if raw is not _ABSENT and (value := orjson.loads(bytes(raw))) not in (None, "", {}):
            rests.setdefault(row, {})[member] = value


def _rest(rests: Mapping[int, dict[str, object]], rows: int) -> pa.Array:
    import pyarrow as pa

    if not rests:
        return pa.nulls(rows, pa.string())
    texts: list[str | None] = [None] * rows
    for row, rest in rests.items():
        texts[row] = orjson.dumps(rest, option=orjson.OPT_SORT_KEYS).decode()
    return pa.array(texts, pa.string())


def _text(values: Sequence[str | None], *, repeated: bool) -> pa.Array:
    """Text, '' for null, as a dictionary where it repeats; many members have one value in all records of a
    piece."""
    import pyarrow as pa

    if values[0] == values[-1] and values.count(values[0]) == len(values):
        text = values[0] or ""
        return _constant(text, len(values)) if repeated else pa.repeat(pa.scalar(text), len(values))
    texts = pa.array(values, pa.string())
    texts = texts.fill_null("") if texts.null_count else texts
    return texts.dictionary_encode() if repeated else texts


def _identities(events: pa.ChunkedArray, accounts: pa.Array) -> pa.Array:
    """Hashes of the two values, those of `json_text.identity`; NULL where the first is empty."""
    import pyarrow as pa
    import pyarrow.compute as pc

    texts = (
        pc.binary_join_element_wise(events, accounts.cast(pa.string()), "\0").cast(pa.binary()).to_pylist()
    )
    hashes = np.fromiter(map(hashed, texts), np.uint64, len(texts)).view(np.int64)
    empty = pc.equal(events, "").to_numpy()
    return pa.array(hashes, mask=empty) if empty.any() else pa.array(hashes)
