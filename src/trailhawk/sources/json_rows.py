"""JSON records to rows by a list of columns: what most of AWS's JSON logs need and no more."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Final

import msgspec
import orjson
import xxhash
from msgspec import Raw

from trailhawk.kql.schema import Promoted, Table
from trailhawk.kql.types import KqlType
from trailhawk.lake.table import ID, PAYLOAD, REST, arrow_type
from trailhawk.sources import framing
from trailhawk.sources.json_text import Tree, beyond, hashed, signed, tidy
from trailhawk.sources.moments import moment
from trailhawk.sources.source import Chunk, Rows

if TYPE_CHECKING:
    import pyarrow as pa

Record = dict[str, object]
Steps = tuple[str | int, ...]
"""Members and places in lists, from the record down."""
Time = Callable[[object], int | None]

_RANGE: Final = {KqlType.INT: 1 << 31, KqlType.LONG: 1 << 63}
_DEEP: Final = 250
_DIGITS: Final = re.compile(r"-?\d{1,19}", re.ASCII)
_FLAGS: Final = {"true": True, "false": False}
CLOUDTRAIL: Final = re.compile(rb'"eventSource"\s*:')
"""What every CloudTrail event has, and no record of another log."""


@dataclass(frozen=True, slots=True)
class Field:
    """A column and where its value stands; the first place of `paths` that holds a value counts.

    `time` reads a datetime column's value.
    """

    name: str
    type: KqlType
    paths: tuple[Steps, ...]
    time: Time = moment


def paths(places: str) -> tuple[Steps, ...]:
    """Places apart by `|`, steps apart by dots.

    >>> paths("updatedAt|detail.time")
    (('updatedAt',), ('detail', 'time'))
    """
    return tuple(tuple(place.split(".")) for place in places.split("|") if place)


def at(value: object, steps: Sequence[str | int]) -> object:
    """What stands at the end of these steps, None where they lead nowhere."""
    for step in steps:
        if isinstance(value, dict) and isinstance(step, str):
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int) and -len(value) <= step < len(value):
            value = value[step]
        else:
            return None
    return value


def text_of(value: object) -> str:
    """A JSON value as the text of a string column: '' for null, JSON for objects and arrays.

    >>> text_of(None), text_of(True), text_of(1.5), text_of({"a": ["é"]})
    ('', 'true', '1.5', '{"a":["é"]}')
    """
    if isinstance(value, str):
        return value
    return "" if value is None else orjson.dumps(value).decode()


def number(value: object, kind: KqlType) -> int | None:
    """A whole number in the range of `kind`; fractions are cut off, as toint() does."""
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        value = int(value)
    if isinstance(value, float) and math.isfinite(value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if -_RANGE[kind] <= value < _RANGE[kind] else None


def real(value: object) -> float | None:
    """A number, also as text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def flag(value: object) -> bool | None:
    """true or false, also as text."""
    if isinstance(value, str):
        return _FLAGS.get(value.lower())
    return value if isinstance(value, bool) else None


def converted(value: object, field: Field) -> object:
    """A value as the field's type; None where it is none of it."""
    match field.type:
        case KqlType.STRING:
            return text_of(value)
        case KqlType.INT | KqlType.LONG:
            return number(value, field.type)
        case KqlType.REAL:
            return real(value)
        case KqlType.BOOL:
            return flag(value)
        case _:
            return field.time(value)


class Slices:
    """Cuts members out of JSON text as they stand there: order of members and digits of numbers are kept."""

    def __init__(self, members: Sequence[Steps]) -> None:
        self._tops = tuple(dict.fromkeys(str(steps[0]) for steps in members))
        self._places = {top: index for index, top in enumerate(self._tops)}
        shape = msgspec.defstruct(
            "Members",
            [(f"m{i}", Raw, msgspec.field(name=top, default=Raw(b""))) for i, top in enumerate(self._tops)],
            gc=False,
        )
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(shape)
        self._below = {
            top: Slices(inner)
            for top in self._tops
            if (inner := [steps[1:] for steps in members if steps[0] == top and len(steps) > 1])
        }

    def cut(self, text: bytes) -> dict[Steps, str]:
        """The JSON text of each member that is there and not null, minified."""
        found: dict[Steps, str] = {}
        self._cut(text, (), found)
        return found

    def _cut(self, text: bytes, above: Steps, found: dict[Steps, str]) -> None:
        values = msgspec.structs.astuple(self._decoder.decode(text))
        for top, place in self._places.items():
            piece = bytes(values[place])
            if not piece or piece == b"null":
                continue
            found[(*above, top)] = tidy(piece.decode())
            if top in self._below and piece.startswith(b"{"):
                self._below[top]._cut(piece, (*above, top), found)


class JsonRows:
    """Maps the records of one table.

    `time` names the column without which a record is none. `identity` gives what a record is known by, ''
    for nothing. `prepare` may bring a record into the spelling that the paths are written for.
    """

    def __init__(
        self,
        table: Table,
        fields: Sequence[Field],
        *,
        what: str,
        identity: Callable[[Record], str] = lambda _: "",
        prepare: Callable[[Record], Record | None] = lambda _: None,
        ignored: Sequence[Steps] = (),
    ) -> None:
        self.table = table
        self._what = what
        self._identity = identity
        self._prepare = prepare
        (self._time,) = (field for field in fields if field.name == table.time_column)
        self._plain = [f for f in fields if f.type is not KqlType.DYNAMIC and f is not self._time]
        self._dynamic = [f for f in fields if f.type is KqlType.DYNAMIC]
        self._slices = Slices([steps for field in self._dynamic for steps in field.paths if _named(steps)])
        self._places = {field.name: field.paths for field in fields}
        self._known = _tree([*(steps for field in fields for steps in field.paths if steps), *ignored])
        self._whole = any(() in field.paths for field in fields)

    def rows(self, records: Sequence[bytes]) -> Rows:
        """Rows of these records; what is no JSON object or has no time is bad."""
        import pyarrow as pa

        names = [field.name for field in (self._time, *self._plain, *self._dynamic)]
        names += [item.hidden for item in self.table.promoted] + [ID, PAYLOAD, REST]
        made: list[tuple[object, ...]] = []
        kept: list[int] = []
        bad: list[tuple[int, str]] = []
        for place, text in enumerate(records):
            row = self._row(text)
            if isinstance(row, str):
                bad.append((place, row))
            else:
                made.append(row)
                kept.append(place)
        types = self._types()
        columns = zip(*made, strict=True) if made else iter([()] * len(names))
        arrays = [pa.array(values, types[name]) for name, values in zip(names, columns, strict=True)]
        return Rows(pa.table(arrays, names), kept, tuple(bad))

    def _types(self) -> dict[str, pa.DataType]:
        import pyarrow as pa

        return {
            **{column.name: arrow_type(column.type) for column in self.table.stored},
            **{item.hidden: pa.string() for item in self.table.promoted},
            ID: pa.int64(),
            PAYLOAD: pa.int64(),
            REST: pa.string(),
        }

    def _row(self, text: bytes) -> tuple[object, ...] | str:
        """The values of a row, or why the record is none."""
        payload = signed(hashed(text))
        original = text
        try:
            value = parsed(text)
            prepared = self._prepare(value)
            if prepared is not None:
                text = orjson.dumps(prepared)
                value = prepared
        except (ValueError, TypeError) as error:
            return f"not a {self._what}: {error}"
        found = self._first(value, self._time.paths)
        moment_ = self._time.time(found)
        if moment_ is None:
            name = ".".join(map(str, self._time.paths[0]))
            return f"no {name}" if found is None else f"{name} is no time: {str(found)[:64]!r}"
        rest = beyond(value, self._known) if not self._whole else {}
        plain = []
        for field in self._plain:
            raw = self._first(value, field.paths)
            cell = converted(raw, field)
            if cell is None and raw is not None and raw != "":
                rest[".".join(map(str, field.paths[0]))] = raw  # not of the column's type: kept beside
            plain.append(cell)
        slices = self._slices.cut(text) if self._dynamic else {}
        whole = tidy(original.decode()) if self._whole else None
        dynamic = [self._slice(field, slices, whole, value) for field in self._dynamic]
        promoted = [self._promoted(value, item) for item in self.table.promoted]
        identity = self._identity(value)
        return (
            moment_,
            *plain,
            *dynamic,
            *promoted,
            signed(xxhash.xxh3_64_intdigest(identity.encode())) if identity else None,
            payload,
            orjson.dumps(rest, option=orjson.OPT_SORT_KEYS).decode() if rest else None,
        )

    @staticmethod
    def _first(value: Record, places: tuple[Steps, ...]) -> object:
        for steps in places:
            found = at(value, steps)
            if found is not None:
                return found
        return None

    @staticmethod
    def _slice(field: Field, slices: dict[Steps, str], whole: str | None, value: Record) -> str | None:
        for steps in field.paths:
            found = slices.get(steps) if steps else whole
            if steps and not _named(steps) and (item := at(value, steps)) is not None:
                found = orjson.dumps(item).decode()
            if found is not None:
                return found
        return None

    def _promoted(self, value: Record, item: Promoted) -> str | None:
        for steps in self._places[item.column]:
            found = at(value, (*steps, *item.path))
            if found is not None:
                return text_of(found)
        return None


def parsed(text: bytes) -> Record:
    """A record's value. ValueError or TypeError for what is no JSON object, or is nested too deeply."""
    value = orjson.loads(text)
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    if text.count(b"{") + text.count(b"[") > _DEEP:
        orjson.dumps(value)  # refuses what is nested more than 254 deep
    return value


def _named(steps: Steps) -> bool:
    """Whether a path goes through members only, so that its value can be cut out."""
    return bool(steps) and all(isinstance(step, str) for step in steps)


def _tree(members: Sequence[Steps]) -> Tree:
    """As json_text.tree, of paths that are already cut into steps."""
    root: Tree = {}
    for steps in members:
        names = [str(step) for step in takewhile(lambda step: isinstance(step, str), steps)]
        here: Tree | None = root
        for name in names[:-1]:
            here = here.setdefault(name, {}) if here is not None else None
        if here is not None and names:
            here[names[-1]] = None
    return root


_DEEPEST_WRAPPER: Final = 5


def shape(lists: Sequence[str] = (), inner: Sequence[str] = (), starts: str = "") -> framing.Shape:
    """How JSON records are wrapped: in arrays under these names, or each in a member of its own (`inner`).

    A record begins at `{` after a line break, and where one of the names in `starts` (apart by `|`) stands
    first, so that the next one is found after a broken one.
    """
    names = list(dict.fromkeys((*lists, *inner)))
    members = msgspec.defstruct(
        "Wrapper",
        [(f"m{i}", Raw, msgspec.field(name=name, default=Raw(b""))) for i, name in enumerate(names)],
        gc=False,
    )
    decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(members | list[Raw])
    array: msgspec.json.Decoder[list[Raw]] = msgspec.json.Decoder(list[Raw])

    def unwrap(text: bytes, depth: int = 0) -> list[bytes] | None:
        try:
            packed = decoder.decode(text)
            if isinstance(packed, list):
                return [record for each in packed for record in unpacked(bytes(each), depth + 1)]
            for name, raw in zip(names, msgspec.structs.astuple(packed), strict=True):
                piece = bytes(raw)
                if name in lists and piece.startswith(b"["):
                    return list(map(bytes, array.decode(piece)))
                if name in inner and piece.startswith(b"{"):
                    return unpacked(piece, depth + 1)
        except RecursionError as error:
            raise msgspec.DecodeError("nested too deeply") from error
        return None

    def unpacked(value: bytes, depth: int) -> list[bytes]:
        # The members of an array may be wrapped in their turn, as events of EventBridge are.
        found = unwrap(value, depth) if names and depth < _DEEPEST_WRAPPER and value[:1] == b"{" else None
        return [value] if found is None else found

    opening = "|".join(lists) or "(?!)"
    first = rf'|\{{\s*"(?:{starts})"\s*:' if starts else ""
    return framing.Shape(
        unwrap=unwrap,
        opening=re.compile(rf'\{{\s*"(?:{opening})"\s*:\s*\['.encode()),
        record_start=re.compile(rf"(?<=\n)\{{{first}".encode()),
    )


class JsonSource:
    """A log of JSON records: lines, an array, a wrapper or events of EventBridge.

    `marks` are patterns that must all stand in an object's first bytes; with `guard`, what every CloudTrail
    event has must not.
    """

    def __init__(
        self,
        name: str,
        table: Table,
        mapping: JsonRows,
        *,
        framing: framing.Shape,
        marks: Sequence[str],
        guard: bool = True,
    ) -> None:
        self.name = name
        self.table = table
        self._mapping = mapping
        self.shape = framing
        self._guard = guard
        self._marks = [re.compile(mark.encode()) for mark in marks]

    def recognises(self, name: str, head: bytes) -> bool:
        start = head.removeprefix(framing.BOM).lstrip()[:1]
        return (
            start in (b"{", b"[")
            and not (self._guard and CLOUDTRAIL.search(head))
            and all(mark.search(head) for mark in self._marks)
        )

    def is_digest(self, head: bytes) -> bool:
        return False

    def chunks(self, blocks: Iterator[bytes]) -> Iterator[Chunk]:
        return framing.chunks(blocks, self.shape)

    def rows(self, records: Sequence[bytes]) -> Rows:
        return self._mapping.rows(records)
