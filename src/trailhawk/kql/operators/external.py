"""externaldata: rows of files outside the lake, read by what the engine allows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import urlsplit

from trailhawk.errors import BindingError, LimitError, NotAllowedError, Span, UnsupportedError
from trailhawk.kql import syntax
from trailhawk.kql.operators.shared import property_text
from trailhawk.kql.plan import Apply, Frame, Node, OutColumn
from trailhawk.kql.scope import Env
from trailhawk.kql.types import KqlType

if TYPE_CHECKING:
    from trailhawk.kql.binder import Binder

_FORMATS = ("csv", "tsv", "json", "multijson", "txt")
_KNOWN = frozenset({"format", "ignorefirstrecord", "zippattern"})
_LONGEST_PATTERN = 1_000


@dataclass(frozen=True, slots=True)
class ExternalFile:
    """A file that a query names: where it is, how it is written, which columns are read.

    `place` is how it is told in messages: the host, or the path of a file here; never a key. Of a zip the
    files are read whose names the wildcards of `zip_pattern` match.
    """

    uri: str
    format: str
    columns: tuple[tuple[str, KqlType], ...]
    skip_first: bool
    span: Span
    zip_pattern: str = "*"

    @property
    def place(self) -> str:
        return urlsplit(self.uri).hostname or self.uri


ReadExternal = Callable[[ExternalFile], list[list[object]]]
"""The values of each column of a file, as a `Frame` has them; NotAllowedError where it may not be read."""


@dataclass(frozen=True, slots=True)
class ExternalRows:
    """The rows of files outside the lake: what an `Apply` of externaldata calls."""

    files: tuple[ExternalFile, ...]
    read: ReadExternal
    width: int

    def __call__(self, inputs: tuple[Frame, ...]) -> list[list[object]]:
        values: list[list[object]] = [[] for _ in range(self.width)]
        for file in self.files:
            for column, found in zip(values, self.read(file), strict=True):
                column.extend(found)
        return values


def refuse(file: ExternalFile) -> list[list[object]]:
    """Nothing is allowed."""
    not_allowed(file.place, file)


def not_allowed(place: str, file: ExternalFile) -> NoReturn:
    """The refusal of a place that a file leads to."""
    hint = "it is not in 'allow' of [externaldata] in trailhawk.toml"
    raise NotAllowedError(f"externaldata {place}", file.span, hint=hint)


def externaldata(binder: Binder, expr: syntax.ExternalData, env: Env) -> Node:
    """Binds whatever the files are; whether they may be read is asked when the query runs."""
    columns = tuple(OutColumn(binder.new_id(), column.name, column.type) for column in expr.columns)
    if not columns:
        raise BindingError("externaldata names its columns", expr.span)
    for item in expr.properties:
        if item.name.lower() not in _KNOWN:
            raise UnsupportedError(f"externaldata with {item.name}", item.span)
    given = property_text(expr, "format")
    skip = (property_text(expr, "ignorefirstrecord") or "false").lower() == "true"
    pattern = property_text(expr, "zippattern") or "*"
    if len(pattern) > _LONGEST_PATTERN:
        raise LimitError(f"a zipPattern has at most {_LONGEST_PATTERN:,} characters", expr.span)
    named = tuple((column.name, column.type) for column in expr.columns)
    files = []
    for uri in expr.uris:
        text = str(binder.scalars.constant(uri, env, "a file's address").value).split(";")[0]
        kind = (given or _by_name(text)).lower()
        if kind not in _FORMATS:
            raise UnsupportedError(f"externaldata format={kind}", expr.span, hint=", ".join(_FORMATS))
        files.append(ExternalFile(text, kind, named, skip, uri.span, pattern))
    rows = ExternalRows(tuple(files), binder.external, len(columns))
    return Apply(columns, (), (), rows, "externaldata")


def _by_name(uri: str) -> str:
    """The format by the file's name; csv where it does not tell."""
    parts = urlsplit(uri).path.lower().rsplit("/", 1)[-1].split(".")[1:]
    endings = [part for part in parts if part not in ("gz", "zip")]
    return endings[-1] if endings and endings[-1] in _FORMATS else "csv"
