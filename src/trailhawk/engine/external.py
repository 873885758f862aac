"""Files outside the lake that `externaldata` may read: those of folders on a list, empty by default."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from urllib.parse import unquote, urlsplit
from uuid import UUID

from trailhawk.errors import LimitError, QueryError
from trailhawk.kql.literals import datetime_ticks, timespan_ticks
from trailhawk.kql.operators.external import ExternalFile, refuse
from trailhawk.kql.types import KqlType

_T = KqlType
_INT64 = 2**63


@dataclass(frozen=True)
class AllowedFolders:
    """Reads files inside these folders (links followed first), of at most `max_bytes`, unpacked or not."""

    folders: tuple[Path, ...] = ()
    max_bytes: int = 100 << 20

    def __call__(self, file: ExternalFile) -> list[list[object]]:
        """The values of the file's columns; UnsupportedError where the list does not have it."""
        parts = urlsplit(file.uri)
        if parts.scheme not in ("", "file") or parts.hostname:
            return refuse(file)
        path = Path(unquote(parts.path) if parts.scheme else file.uri)
        try:
            found = path.resolve(strict=True)
        except (OSError, RuntimeError, ValueError):
            return refuse(file)
        allowed = (folder.resolve() for folder in self.folders)
        if not path.is_absolute() or not any(found.is_relative_to(folder) for folder in allowed):
            return refuse(file)
        try:
            text = self._bytes(found, file).decode("utf-8-sig", errors="replace")
        except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise QueryError(f"{file.place} cannot be read: {error}", file.span) from error
        records = list(_READERS[file.format](text, file))[1 if file.skip_first else 0 :]
        return [
            [_value(record[place], type_) for record in records]
            for place, (_, type_) in enumerate(file.columns)
        ]

    def _bytes(self, path: Path, file: ExternalFile) -> bytes:
        """The file's bytes, unpacked by its ending: gz, or zip (its files one after the other)."""
        name = path.name.lower()
        if name.endswith(".gz"):
            with gzip.open(path) as stream:
                return self._bounded(stream.read, file)
        if name.endswith(".zip"):
            with zipfile.ZipFile(path) as archive:
                whole = b""
                for member in archive.infolist():
                    with archive.open(member) as stream:
                        whole += self._bounded(stream.read, file, len(whole))
                return whole
        with path.open("rb") as plain:
            return self._bounded(plain.read, file)

    def _bounded(self, read: Callable[[int], bytes], file: ExternalFile, before: int = 0) -> bytes:
        found = read(self.max_bytes - before + 1)
        if before + len(found) > self.max_bytes:
            raise LimitError(f"{file.place} has more than {self.max_bytes >> 20} MiB", file.span)
        return found


# --- formats -----------------------------------------------------------------------------------------------

Record = Sequence[object]


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
