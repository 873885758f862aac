"""Files outside the lake that `externaldata` may read: of folders and hosts on a list, empty by default."""

from __future__ import annotations

import csv
import gzip
import io
import json
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from decimal import Decimal
from fnmatch import fnmatchcase
from itertools import chain, islice
from pathlib import Path
from urllib.parse import unquote, urlsplit
from uuid import UUID
from zipfile import BadZipFile, ZipFile

from trailhawk.engine.download import AllowedHosts, Bounds, download
from trailhawk.errors import LimitError, NotAllowedError, QueryError, Span
from trailhawk.kql.literals import datetime_ticks, timespan_ticks
from trailhawk.kql.operators.external import ExternalFile, refuse
from trailhawk.kql.types import KqlType
from trailhawk.settings import ExternalDataSettings

_T = KqlType
_INT64 = 2**63
KEEP_SECONDS = 300.0
MAX_VALUES = 4_000_000
"""Values of a file, and of all that are kept: some hundreds of megabytes as Python has them."""
MAX_MEMBERS = 10_000
"""Files that one zip may hold."""

_BROKEN: tuple[type[Exception], ...] = (
    OSError,
    EOFError,
    BadZipFile,
    zlib.error,
    csv.Error,
    RuntimeError,  # a zip that is encrypted, or packed in a way that Python does not know
    ValueError,  # one with names that are no text, or places before its beginning
)
with suppress(ImportError):  # not every Python has it
    from lzma import LZMAError

    _BROKEN += (LZMAError,)

Record = Sequence[object]


class External:
    """Reads files of these folders (links followed first) and hosts; nothing unless something is listed.

    `bounds.max_bytes` holds for a file as it comes and again unpacked. What was read, or could not be, is
    kept for `keep` seconds: a rule asks for the same file in every window. Safe to use from several threads.
    """

    def __init__(
        self,
        folders: Iterable[Path] = (),
        hosts: AllowedHosts | None = None,
        *,
        bounds: Bounds | None = None,
        keep: float = KEEP_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folders = tuple(folders)
        self._hosts = hosts or AllowedHosts()
        self._bounds = bounds or Bounds()
        self._keep = keep
        self._clock = clock
        self._kept: dict[ExternalFile, _Kept] = {}
        self._lock = threading.Lock()

    def __call__(self, file: ExternalFile) -> list[list[object]]:
        """The values of the file's columns. NotAllowedError where the list does not have it, LimitError
        beyond the bounds, QueryError where it cannot be read."""
        key = replace(file, span=Span(0, 0))
        with self._lock:
            kept = self._kept.get(key)
            if kept is None or self._clock() >= kept.until:
                self._kept.pop(key, None)
                kept = self._outcome(file)
                self._make_room(kept.size)
                self._kept[key] = kept
        if isinstance(kept.outcome, QueryError):
            # A copy: the one that is kept must not carry the place of another query.
            raise kept.outcome.again(file.span)
        return kept.outcome

    def allows(self, file: ExternalFile) -> bool:
        """Whether the list has the file; nothing of it is read."""
        if urlsplit(file.uri).scheme in ("http", "https"):
            return self._hosts.entry(file.uri) is not None
        try:
            self._path(file)
        except NotAllowedError:
            return False
        return True

    def _outcome(self, file: ExternalFile) -> _Kept:
        outcome: list[list[object]] | QueryError
        try:
            outcome = self._values(file)
        except QueryError as error:
            outcome = error
        return _Kept(outcome, self._clock() + self._keep)

    def _make_room(self, size: int) -> None:
        while self._kept and size + sum(kept.size for kept in self._kept.values()) > MAX_VALUES:
            self._kept.pop(next(iter(self._kept)))

    def _values(self, file: ExternalFile) -> list[list[object]]:
        try:
            texts = (part.decode("utf-8-sig", errors="replace") for part in self._content(file))
            read, skipped = _READERS[file.format], int(file.skip_first)
            records = chain.from_iterable(islice(read(text, file), skipped, None) for text in texts)
            return _columns(records, file)
        except _BROKEN as error:
            raise QueryError(f"{file.place} cannot be read: {error}", file.span) from error

    def _content(self, file: ExternalFile) -> list[bytes]:
        """The file's bytes, unpacked by its ending; a zip is several files."""
        parts = urlsplit(file.uri)
        if parts.scheme in ("http", "https"):
            packed = download(file, self._hosts, self._bounds)
            return self._unpacked(unquote(parts.path), packed, file)
        path = self._path(file)
        with path.open("rb") as plain:
            return self._unpacked(path.name, self._bounded(plain.read, file), file)

    def _path(self, file: ExternalFile) -> Path:
        """Where a file of an allowed folder really lies."""
        parts = urlsplit(file.uri)
        if parts.scheme not in ("", "file") or parts.hostname:
            refuse(file)
        path = Path(unquote(parts.path) if parts.scheme else file.uri)
        try:
            found = path.resolve(strict=True)
        except (OSError, RuntimeError, ValueError):
            refuse(file)
        allowed = (folder.resolve() for folder in self._folders)
        if (
            not path.is_absolute()
            or not found.is_file()
            or not any(found.is_relative_to(folder) for folder in allowed)
        ):
            refuse(file)
        return found

    def _unpacked(self, name: str, content: bytes, file: ExternalFile) -> list[bytes]:
        """Bytes unpacked by the ending of their name: gz, or zip (those of its files that are asked for)."""
        if name.lower().endswith(".gz"):
            with gzip.open(io.BytesIO(content)) as stream:
                return [self._bounded(stream.read, file)]
        if name.lower().endswith(".zip"):
            parts: list[bytes] = []
            size = 0
            with ZipFile(io.BytesIO(content)) as archive:
                members = archive.infolist()
                if len(members) > MAX_MEMBERS:
                    raise LimitError(f"{file.place} has more than {MAX_MEMBERS:,} files", file.span)
                chosen = [member for member in members if fnmatchcase(member.filename, file.zip_pattern)]
                if members and not chosen:
                    raise QueryError(f"{file.place} has no file '{file.zip_pattern}'", file.span)
                for member in chosen:
                    with archive.open(member) as stream:
                        parts.append(self._bounded(stream.read, file, size))
                    size += len(parts[-1])
            return parts
        return [content]

    def _bounded(self, read: Callable[[int], bytes], file: ExternalFile, before: int = 0) -> bytes:
        most = self._bounds.max_bytes
        found = read(most - before + 1)
        if before + len(found) > most:
            raise LimitError(f"{file.place} has more than {most >> 20} MiB", file.span)
        return found


def allowed(settings: ExternalDataSettings, home: Path) -> External:
    """The reader that a home's settings describe; a folder without root lies in the home."""
    places = [place for place in settings.allow if "://" not in place]
    addresses = [place for place in settings.allow if "://" in place]
    return External(
        [home / Path(place).expanduser() for place in places],
        AllowedHosts.of(addresses, private=settings.private_hosts),
        bounds=Bounds(settings.max_mib << 20, settings.timeout_seconds, settings.max_redirects),
    )


@dataclass(frozen=True, slots=True)
class _Kept:
    """What came of reading a file, and until when that is good."""

    outcome: list[list[object]] | QueryError
    until: float

    @property
    def size(self) -> int:
        return 1 if isinstance(self.outcome, QueryError) else 1 + sum(map(len, self.outcome))


def _columns(records: Iterable[Record], file: ExternalFile) -> list[list[object]]:
    """The values of records by column."""
    values: list[list[object]] = [[] for _ in file.columns]
    most = MAX_VALUES // len(file.columns)
    for number, record in enumerate(records):
        if number >= most:
            raise LimitError(f"{file.place} has more than {MAX_VALUES:,} values", file.span)
        for place, (_, type_) in enumerate(file.columns):
            values[place].append(_value(record[place], type_))
    return values


# --- formats -----------------------------------------------------------------------------------------------


def _delimited(delimiter: str) -> Callable[[str, ExternalFile], Iterator[Record]]:
    def read(text: str, file: ExternalFile) -> Iterator[Record]:
        width = len(file.columns)
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter):
            if row:
                yield [*row, *[""] * (width - len(row))][:width]

    return read


def _lines(text: str, file: ExternalFile) -> Iterator[Record]:
    """Each line is the value of the first column."""
    for line in text.splitlines():
        yield [line, *[None] * (len(file.columns) - 1)]


def _json_lines(text: str, file: ExternalFile) -> Iterator[Record]:
    for line in text.splitlines():
        if line.strip():
            yield from _records([_decoded(line, file)], file)


def _json_values(text: str, file: ExternalFile) -> Iterator[Record]:
    """Values one after the other, over any number of lines; an array is its elements."""
    decoder, place = json.JSONDecoder(), 0
    while True:
        while place < len(text) and text[place] in " \t\r\n,":
            place += 1
        if place >= len(text):
            return
        try:
            value, place = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            raise QueryError(f"{file.place} is not JSON", file.span) from None
        yield from _records(value if isinstance(value, list) else [value], file)


def _decoded(text: str, file: ExternalFile) -> object:
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError):
        raise QueryError(f"{file.place} is not JSON", file.span) from None
    return value


def _records(values: Iterable[object], file: ExternalFile) -> Iterator[Record]:
    for value in values:
        if isinstance(value, dict):
            yield [value.get(name) for name, _ in file.columns]


_READERS: dict[str, Callable[[str, ExternalFile], Iterator[Record]]] = {
    "csv": _delimited(","),
    "tsv": _delimited("\t"),
    "txt": _lines,
    "json": _json_lines,
    "multijson": _json_values,
}


# --- values ------------------------------------------------------------------------------------------------


def _value(value: object, type_: KqlType) -> object:
    """The value as the column's type, null where it is none of it."""
    if type_ is _T.STRING:
        if value is None:
            return ""
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if value is None or value == "":
        return None
    if type_ is _T.DYNAMIC:
        return _dynamic(value)
    try:
        return _CONVERT[type_](value)
    except (ValueError, OverflowError, ArithmeticError):
        return None


def _dynamic(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        parsed: object = json.loads(value)
    except (ValueError, RecursionError):
        return value
    return parsed


def _long(value: object) -> int | None:
    number = int(value) if isinstance(value, bool | int | float) else int(str(value).strip(), 0)
    return number if -_INT64 <= number < _INT64 else None


def _int(value: object) -> int | None:
    number = _long(value)
    return number if number is not None and -(2**31) <= number < 2**31 else None


def _bool(value: object) -> bool | None:
    return {"true": True, "1": True, "false": False, "0": False}.get(str(value).strip().lower())


_CONVERT: dict[KqlType, Callable[[object], object]] = {
    _T.LONG: _long,
    _T.INT: _int,
    _T.REAL: lambda value: float(str(value)),
    _T.DECIMAL: lambda value: Decimal(str(value)),
    _T.BOOL: _bool,
    _T.DATETIME: lambda value: datetime_ticks(str(value)),
    _T.TIMESPAN: lambda value: timespan_ticks(str(value)),
    _T.GUID: lambda value: str(UUID(str(value))),
}
