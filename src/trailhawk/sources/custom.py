"""Tables of the user's own: each YAML file in the home's `sources` folder describes a log of JSON lines.

    name: okta                           # the source's name
    table: Okta_CL                       # the table's name
    description: Sign-ins of our Okta.
    objects: okta/.*\\.json(\\.gz)?$       # which objects: a pattern that their place must hold
    head: '"actor"'                      # and, if wanted, one that their first 64 KiB must hold
    records: [events]                    # members that hold lists of records, if they are wrapped
    time: {from: published, format: iso} # iso, epoch, epoch-ms, or a pattern of strptime
    id: uuid                             # what a record is known by, if it has an id
    columns:
      - {name: Actor, type: string, from: actor.alternateId, description: Who it was.}
      - {name: Target, type: dynamic, from: '$.target'}

A file may instead give a flow log's custom format, for lines that come without a header:

    name: our-flow
    reads: vpcflow
    fields: version vpc-id interface-id srcaddr dstaddr start end

The guide is docs/sources.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trailhawk.errors import SourceError
from trailhawk.kql.schema import HIDDEN_PREFIX
from trailhawk.kql.types import KqlType
from trailhawk.sources import framing
from trailhawk.sources.columns import Line, declared
from trailhawk.sources.json_rows import Field, JsonRows, Record, Steps, at, shape, text_of
from trailhawk.sources.moments import formatted, moment
from trailhawk.sources.source import Chunk, Rows, Source
from trailhawk.sources.vpc_flow import FIELDS as FLOW_FIELDS

_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,62}")
_TABLE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,44}_CL")
_COLUMN: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,44}")
_STEP: Final = re.compile(r"""\.?([^.\[\]"'\s]+)|\[\s*(?:"([^"]+)"|'([^']+)'|(\d{1,6}))\s*\]""")
_RESERVED: Final = frozenset(("TimeGenerated", "Type", "TenantId", "SourceSystem"))
_TYPES: Final = {
    kind.value: kind
    for kind in (
        KqlType.STRING,
        KqlType.INT,
        KqlType.LONG,
        KqlType.REAL,
        KqlType.BOOL,
        KqlType.DATETIME,
        KqlType.DYNAMIC,
    )
}
_MAX_COLUMNS: Final = 500
_MAX_PATTERN: Final = 1000
_TIMES: Final[Mapping[str, Callable[[object], int | None]]] = {
    "iso": lambda value: moment(value) if isinstance(value, str) else None,
    "epoch": lambda value: _scaled(value, 1_000_000),
    "epoch-ms": lambda value: _scaled(value, 1000),
}


@dataclass(frozen=True, slots=True)
class Custom:
    """What a folder describes: sources of the user's own, and fields of custom flow logs."""

    sources: tuple[Source, ...] = ()
    flow_formats: tuple[tuple[str, ...], ...] = ()


def load(folder: Path, *, taken: Iterable[str] = ()) -> Custom:
    """The sources that the YAML files of a folder describe, none where there is no folder.

    `taken` are names of tables and sources that exist. SourceError names file, field, and what to do.
    """
    names = set(taken)
    sources: list[Source] = []
    formats: list[tuple[str, ...]] = []
    for path in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]):
        described = _Described(path.name, _document(path))
        if described.has("reads"):
            formats.append(described.flow_fields())
            continue
        source = described.source()
        for name in (source.name, source.table.name):
            if name in names:
                raise described.wrong(
                    "table" if name == source.table.name else "name", f"{name!r} exists already"
                )
            names.add(name)
        sources.append(source)
    return Custom(tuple(sources), tuple(formats))


def steps(text: str) -> tuple[str | int, ...] | None:
    """The steps of a JSON path; None for what is none.

    >>> steps("$.actor['display name'].list[0]"), steps("a.b"), steps("a[")
    (('actor', 'display name', 'list', 0), ('a', 'b'), None)
    """
    rest = text.strip().removeprefix("$")
    found: list[str | int] = []
    place = 0
    while place < len(rest):
        match = _STEP.match(rest, place)
        if match is None:
            return None
        plain, double, single, number = match.groups()
        found.append(int(number) if number is not None else plain or double or single)
        place = match.end()
    return tuple(found) or None


class CustomSource:
    """A log of JSON records that the user described."""

    def __init__(
        self,
        name: str,
        mapping: JsonRows,
        *,
        objects: re.Pattern[str],
        head: re.Pattern[bytes] | None,
        lists: Sequence[str],
    ) -> None:
        self.name = name
        self.table = mapping.table
        self._mapping = mapping
        self._objects = objects
        self._head = head
        self.shape = shape(lists=lists)

    def recognises(self, name: str, head: bytes) -> bool:
        return (
            self._objects.search(name) is not None
            and head.removeprefix(framing.BOM).lstrip()[:1] in (b"{", b"[")
            and (self._head is None or self._head.search(head) is not None)
        )

    def is_digest(self, head: bytes) -> bool:
        return False

    def is_own(self, head: bytes) -> bool:
        """Whether the first record of an object that begins so is this log's: it has its time."""
        first = next((chunk.records[:1] for chunk in self.chunks(iter((head,))) if chunk.records), ())
        return bool(first) and not self.rows(first).bad

    def chunks(self, blocks: Iterator[bytes]) -> Iterator[Chunk]:
        return framing.chunks(blocks, self.shape)

    def rows(self, records: Sequence[bytes]) -> Rows:
        return self._mapping.rows(records)


class _Described:
    """A YAML document on its way to a source; every wrong field is told by file and name."""

    def __init__(self, file: str, document: Mapping[str, object]) -> None:
        self._file = file
        self._document = document

    def has(self, field: str) -> bool:
        return field in self._document

    def wrong(self, field: str, what: str, hint: str = "see docs/sources.md") -> SourceError:
        return SourceError(f"{self._file}: {field}: {what}", hint=hint)

    def flow_fields(self) -> tuple[str, ...]:
        self._only(("name", "reads", "fields"))
        if self._document["reads"] != "vpcflow":
            raise self.wrong("reads", "only vpcflow takes a format", "leave it out for a table of your own")
        fields = tuple(self._text("fields").replace("${", "").replace("}", "").split())
        for field in fields:
            if field.encode() not in FLOW_FIELDS:
                raise self.wrong("fields", f"{field!r} is no field of flow logs", "they are named as in AWS")
        if len(set(fields)) < len(fields) or not {"start", "end"} & set(fields):
            raise self.wrong(
                "fields", "each once, and start or end among them", "write them as in the flow log"
            )
        return fields

    def source(self) -> CustomSource:
        self._only(("name", "table", "description", "objects", "head", "records", "time", "id", "columns"))
        name = self._matching("name", _NAME, "small letters, digits and -, such as okta")
        table = self._matching("table", _TABLE, "letters, digits and _, with _CL at its end, such as Okta_CL")
        time_steps, time = self._time()
        lines: list[Line] = [("TimeGenerated", KqlType.DATETIME, "Time of the event, UTC.", "")]
        fields = [Field("TimeGenerated", KqlType.DATETIME, (time_steps,), time)]
        for line, field in self._columns():
            lines.append(line)
            fields.append(field)
        described = declared(table, self._text("description", ""), lines)
        identity = self._path("id", self._document["id"]) if self.has("id") else ()
        head = self._pattern("head") if self.has("head") else None
        mapping = JsonRows(described, fields, what=f"record of {name}", identity=_identity(identity))
        return CustomSource(
            name,
            mapping,
            objects=self._pattern("objects"),
            head=None if head is None else re.compile(head.pattern.encode()),
            lists=self._names("records"),
        )

    def _columns(self) -> Iterator[tuple[Line, Field]]:
        columns = self._document.get("columns")
        if not isinstance(columns, list) or not 0 < len(columns) <= _MAX_COLUMNS:
            raise self.wrong("columns", f"a list of 1 to {_MAX_COLUMNS} columns is needed")
        seen = {name.lower() for name in _RESERVED}
        for place, column in enumerate(columns):
            where = f"columns[{place}]"
            if not isinstance(column, dict) or not {"name", "type", "from"} <= column.keys():
                raise self.wrong(where, "a column has name, type and from")
            unknown = column.keys() - {"name", "type", "from", "description"}
            if unknown:
                raise self.wrong(where, f"unknown: {', '.join(sorted(map(str, unknown)))}")
            name, kind = column["name"], column["type"]
            if not isinstance(name, str) or _COLUMN.fullmatch(name) is None or name.startswith(HIDDEN_PREFIX):
                raise self.wrong(f"{where}.name", f"{name!r} is no name of a column", "letters, digits and _")
            if name.lower() in seen:
                raise self.wrong(
                    f"{where}.name", f"{name!r} is there already", "names differ by more than case"
                )
            if kind not in _TYPES:
                raise self.wrong(f"{where}.type", f"{kind!r} is no type", f"there is {', '.join(_TYPES)}")
            seen.add(name.lower())
            path = self._path(f"{where}.from", column["from"])
            meaning = str(column.get("description", "") or f"{column['from']} of the record.")
            yield (name, _TYPES[kind], meaning, ""), Field(name, _TYPES[kind], (path,))

    def _time(self) -> tuple[Steps, Callable[[object], int | None]]:
        given = self._document.get("time")
        if isinstance(given, str):
            return self._path("time", given), moment
        if not isinstance(given, dict) or "from" not in given or given.keys() - {"from", "format"}:
            raise self.wrong("time", "from and format are needed", "such as {from: published, format: iso}")
        pattern = given.get("format", "iso")
        path = self._path("time.from", given["from"])
        if not isinstance(pattern, str):
            raise self.wrong("time.format", "iso, epoch, epoch-ms or a pattern such as '%d/%m/%Y %H:%M:%S'")
        if pattern in _TIMES:
            return path, _TIMES[pattern]
        if "%" not in pattern:
            known = ", ".join(_TIMES)
            raise self.wrong("time.format", f"{pattern!r} is no format", f"{known}, or a pattern of strptime")
        return path, lambda value: formatted(value, pattern) if isinstance(value, str) else None

    def _only(self, known: Sequence[str]) -> None:
        for field in self._document:
            if field not in known:
                raise self.wrong(str(field), "no field of a source", f"there is {', '.join(known)}")

    def _text(self, field: str, default: str | None = None) -> str:
        value = self._document.get(field, default)
        if not isinstance(value, str):
            raise self.wrong(field, "a text is needed")
        return value

    def _matching(self, field: str, pattern: re.Pattern[str], hint: str) -> str:
        text = self._text(field)
        if pattern.fullmatch(text) is None:
            raise self.wrong(field, f"{text!r} cannot be used", hint)
        return text

    def _pattern(self, field: str) -> re.Pattern[str]:
        text = self._text(field)
        try:
            if not text or len(text) > _MAX_PATTERN:
                raise self.wrong(field, f"a pattern of 1 to {_MAX_PATTERN} characters is needed")
            return re.compile(text)
        except re.error as error:
            raise self.wrong(field, f"{text!r} is no pattern: {error}") from None

    def _names(self, field: str) -> list[str]:
        value = self._document.get(field, [])
        if not isinstance(value, list) or not all(isinstance(name, str) and name for name in value):
            raise self.wrong(field, "a list of member names is needed")
        return value

    def _path(self, field: str, value: object) -> Steps:
        found = steps(value) if isinstance(value, str) else None
        if found is None:
            raise self.wrong(field, f"{value!r} is no JSON path", "such as actor.id or $.list[0]['odd name']")
        return found


def _identity(path: Steps) -> Callable[[Record], str]:
    return lambda record: text_of(at(record, path)) if path else ""


def _scaled(value: object, scale: int) -> int | None:
    """A number, perhaps as text, in this many microseconds each."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e17:
        return None
    return moment(round(value * scale)) if value * scale >= 1e14 else None


def _document(path: Path) -> Mapping[str, object]:
    import yaml

    from trailhawk.documents import Loader

    try:
        text = path.read_text(encoding="utf-8")
        found = yaml.load(text, Loader=Loader)
    except OSError as error:
        raise SourceError(f"{path.name}: cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        first = " ".join(str(error).split())[:200]
        raise SourceError(f"{path.name}: not YAML: {first}", hint="see docs/sources.md") from None
    if not isinstance(found, dict):
        raise SourceError(f"{path.name}: not the description of a source", hint="see docs/sources.md")
    return {str(name): value for name, value in found.items()}
