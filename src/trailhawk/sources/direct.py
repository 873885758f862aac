"""Records as their vendor writes them, mapped to columns at C speed; what is written otherwise is left over.

A source describes its record once (`Layout`). A record that has only known members, of the usual types,
becomes a row here; every other one is named in `left`, for the source's careful road, which must give
the same row for any record that both can read.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np
import orjson
from msgspec import Raw
from msgspec.structs import astuple
from numpy.typing import NDArray

from trailhawk.kql.schema import Promoted, Table
from trailhawk.kql.types import KqlType
from trailhawk.lake.table import ID, PAYLOAD, REST
from trailhawk.sources.json_text import Tree, beyond, hashed, identity, tidy

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

PIECE: Final = 1_000
"""Records mapped at a time: their bytes and columns stay in the processor's cache."""

_SECOND: Final = len("2026-03-01T09:30:00Z")
_FIRST_YEAR, _LAST_YEAR = np.datetime64("1970-01-01", "us"), np.datetime64("2201-01-01", "us")
_ABSENT = Raw(b"")
_UNTIDY: Final = re.compile(rb"[ \t\r\n]|\\[u/]")

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Layout:
    """Where the columns stand in a record. Columns that are nowhere here are empty.

    `text`, `flags` and `json` map columns to members; `time` is the event time's member. `inner` maps
    members whose values repeat from record to record (who called, with which protocol) to columns with
    their type and path below; `known` is the tree of these members, what is beyond goes into `_th_rest`,
    as `rest` members do. `identity` are the columns that make a record one and the same. A record with
    one of `special` in the value of a text column is left over.
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
        record = msgspec.defstruct("Record", fields, gc=False, forbid_unknown_fields=True)
        self._members = [field[0] for field in fields]
        self._decode = msgspec.json.Decoder(record).decode
        self._promoted: dict[str, list[Promoted]] = {}
        for path in layout.table.promoted:
            self._promoted.setdefault(path.column, []).append(path)
        lists = [
            f'json_extract_string(nullif("{column}", \'\'), [{", ".join(map(_literal, paths))}]) "{column}"'
            for column, paths in self._promoted.items()
        ]
        self._promote = f"SELECT {', '.join(lists)} FROM json_texts"
        self._inner = [
            _Inner(member, columns, layout.known[member] or {}) for member, columns in layout.inner.items()
        ]

    def rows(self, records: Sequence[bytes]) -> Mapped:
        """Rows with the layout's columns, the promoted ones, `_th_rest` and the hashes."""
        import duckdb
        import pyarrow as pa

        pieces: list[pa.Table] = []
        kept: list[int] = []
        for start in range(0, len(records), PIECE):
            places, piece = self._piece(records[start : start + PIECE])
            if piece is not None:
                pieces.append(piece)
                kept += [start + place for place in places]
        if not pieces:
            return Mapped(None, [], list(range(len(records))))
        table = pa.concat_tables(pieces)
        try:
            table = self._with_promoted(table)
        except duckdb.Error:  # JSON that one parser lets through and the other does not
            return Mapped(None, [], list(range(len(records))))
        left = sorted(set(range(len(records))).difference(kept)) if len(kept) < len(records) else []
        return Mapped(table, kept, left)

    def _piece(self, records: Sequence[bytes]) -> tuple[list[int], pa.Table | None]:
        """The rows of some records and the places of these, as far as they can be read."""
        import pyarrow as pa

        places, values = self._values(records)
        if not values:
            return [], None
        try:
            columns, good = self._columns(dict(zip(self._members, zip(*values, strict=True), strict=True)))
        except (pa.ArrowInvalid, UnicodeDecodeError):  # text that is not UTF-8, a day that no month has
            return [], None
        texts = records if len(places) == len(records) else [records[place] for place in places]
        hashes = np.fromiter(map(hashed, texts), np.uint64, len(texts)).view(np.int64)
        table = pa.table({**columns, PAYLOAD: pa.array(hashes)})
        if not good.all():
            places = np.asarray(places)[good].tolist()
            table = table.filter(pa.array(good))
        return places, table if places else None

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

    def _columns(self, members: Mapping[str, tuple[Any, ...]]) -> tuple[dict[str, pa.Array], Mask]:
        """Columns, and which rows are to be kept."""
        import pyarrow as pa
        import pyarrow.compute as pc

        layout = self._layout
        times, good = _times(pa.array(members[layout.time], pa.string()))
        columns: dict[str, pa.Array] = {layout.table.time_column: times}
        for column, member in layout.text.items():
            columns[column] = _text(members[member])
        for column, member in layout.flags.items():
            columns[column] = pa.array(members[member], pa.bool_())
        for column, member in layout.json.items():
            columns[column] = _json(members[member])
        for column, text in layout.special.items():
            good &= ~pc.match_substring(columns[column], text).to_numpy(zero_copy_only=False)
        rests: dict[int, dict[str, object]] = {}
        for inner in self._inner:
            good &= inner.add(members[inner.member], columns, rests)
        for member in layout.rest:
            _add_rest(member, members[member], rests)
        columns[REST] = _rest(rests, len(good))
        event, account = layout.identity
        columns[ID] = _identities(members[layout.text[event]], members[layout.text[account]])
        for name in (column.name for column in layout.table.stored):
            if name not in columns:
                columns[name] = pa.repeat(pa.scalar(""), len(good))
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
        for column, promoted in paths.items():
            filled = np.flatnonzero(pc.not_equal(table[column], "").to_numpy())
            values = found[column].combine_chunks().flatten()
            valid = values.is_valid().to_numpy(zero_copy_only=False).reshape(len(filled), len(promoted))
            starts = np.arange(len(filled)) * len(promoted)
            for place, path in enumerate(promoted):
                made = pa.nulls(table.num_rows, pa.string())
                if (has := valid[:, place]).any():
                    at = np.full(table.num_rows, -1)
                    at[filled[has]] = starts[has] + place
                    made = values.take(pa.array(at, mask=at < 0)).cast(pa.string())
                table = table.append_column(path.hidden, made)
        return table


UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that are not the JSON that is asked for."""


class _Inner:
    """The columns of a member whose values repeat: each value is read once a piece."""

    def __init__(
        self, member: str, columns: Mapping[str, tuple[KqlType, tuple[str, ...]]], known: Tree
    ) -> None:
        self.member = member
        self._columns = columns
        self._known = known
        self._usual = _Nested({path: name for name, (_, path) in columns.items()})
        self._decode = msgspec.json.Decoder(self._usual.type | None).decode

    def add(
        self, values: Sequence[Raw], columns: dict[str, pa.Array], rests: dict[int, dict[str, object]]
    ) -> Mask:
        """Add the columns and what has none, by row; which rows could be read."""
        import pyarrow as pa

        numbers: defaultdict[bytes, int] = defaultdict(count().__next__)
        codes = np.fromiter(map(numbers.__getitem__, map(bytes, values)), np.int64, len(values))
        read, rest, readable = self._read(list(numbers))
        good: Mask = readable.take(codes)
        at = pa.array(codes)
        uniques: dict[str, pa.Array] = {}
        found: dict[str, Sequence[str | None]] = {}
        self._usual.columns(read, found)
        for name, (kind, _) in self._columns.items():
            texts = pa.array(found[name], pa.string())
            if kind is KqlType.DATETIME:
                made, usual = _times(texts)
                good &= (usual | _is_empty(texts)).take(codes)
            elif kind is KqlType.BOOL:
                made = pa.array([_FLAGS.get((text or "").lower()) for text in found[name]], pa.bool_())
            else:
                made = texts.fill_null("") if texts.null_count else texts
            uniques[name] = made
        repeated = pa.record_batch(uniques).take(at)
        columns.update(zip(uniques, repeated.columns, strict=True))
        if rest:
            for row, code in enumerate(codes.tolist()):
                if code in rest:
                    rests.setdefault(row, {})[self.member] = rest[code]
        return good

    def _read(self, texts: list[bytes]) -> tuple[list[Any], dict[int, dict[str, object]], Mask]:
        """The values, what of them has no column by place, and which could be read."""
        try:
            return list(map(self._decode, (text or b"null" for text in texts))), {}, np.ones(len(texts), bool)
        except UNREADABLE:
            pass
        read: list[Any] = []
        rest: dict[int, dict[str, object]] = {}
        readable = np.ones(len(texts), bool)
        for place, text in enumerate(texts):
            try:
                read.append(self._decode(text or b"null"))
            except UNREADABLE:
                known, beyond_it = self._apart(text)
                read.append(known)
                readable[place] = beyond_it is not None
                if beyond_it:
                    rest[place] = beyond_it
        return read, rest, readable

    def _apart(self, text: bytes) -> tuple[Any, dict[str, object] | None]:
        """A value with members that have no column, and these; None where a member is of an odd type."""
        try:
            value = orjson.loads(text)
            if not isinstance(value, dict):
                return None, None
            return msgspec.convert(_within(value, self._known), self._usual.type), beyond(value, self._known)
        except (ValueError, *UNREADABLE):
            return None, None


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
    steps = (f"[{step}]" if isinstance(step, int) else f'."{step}"' for step in path.path)
    return f"'${''.join(steps)}'"


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

    if values.count(_ABSENT) == len(values):
        return pa.repeat(pa.scalar(""), len(values))
    slices = [b"" if text == b"null" else text for text in map(bytes, values)]
    packed = pa.array(slices, pa.binary())
    untidy = [place for place in _suspects(packed) if _UNTIDY.search(slices[place])]
    for place in untidy:
        slices[place] = tidy(slices[place].decode()).encode()
    return (pa.array(slices, pa.binary()) if untidy else packed).cast(pa.string())


def _suspects(slices: pa.Array) -> Iterator[int]:
    """The places of slices with a blank or a backslash."""
    _, offsets, content = slices.buffers()
    if content is None:
        return
    octets = np.frombuffer(content, np.uint8)
    hits = np.flatnonzero((octets <= 0x20) | (octets == 0x5C))
    if len(hits):
        starts = np.frombuffer(offsets, np.int32)[1 : len(slices) + 1]
        hits = hits[hits < starts[-1]]
        yield from np.unique(np.searchsorted(starts, hits, "right")).tolist()


def _add_rest(member: str, values: Sequence[Raw], rests: dict[int, dict[str, object]]) -> None:
    if values.count(_ABSENT) == len(values):
        return
    for row, raw in enumerate(values):
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


def _text(values: Sequence[str | None]) -> pa.Array:
    """Text, '' for null; many members have one value in all records of a piece."""
    import pyarrow as pa

    if values.count(values[0]) == len(values):
        return pa.repeat(pa.scalar(values[0] or ""), len(values))
    texts = pa.array(values, pa.string())
    return texts.fill_null("") if texts.null_count else texts


def _identities(events: Sequence[str | None], accounts: Sequence[str | None]) -> pa.Array:
    """Hashes of the two values; NULL where the first is empty."""
    import pyarrow as pa

    texts = [each if None not in each else [text or "" for text in each] for each in (events, accounts)]
    hashes = np.fromiter(map(identity, *texts), np.uint64, len(events)).view(np.int64)
    if "" not in texts[0]:
        return pa.array(hashes)
    return pa.array(hashes, mask=np.fromiter((not event for event in events), bool, len(events)))
