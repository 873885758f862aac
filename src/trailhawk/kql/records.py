"""Records: the frozen values that syntax trees and plans are made of.

They are msgspec's structs rather than dataclasses: a hundred classes are defined at each start of the
program, and thousands of values made for each query, both in C.
"""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

R = TypeVar("R")


class Record(Struct, frozen=True):
    """A frozen value: equal and hashed by its fields and its very class."""


def replace(record: R, /, **changes: Any) -> R:
    """The record (or frozen dataclass) with some fields changed."""
    if isinstance(record, Struct):
        return msgspec.structs.replace(record, **changes)
    return dataclasses.replace(record, **changes)  # type: ignore[type-var]  # the only other kind there is


def field_names(record: Record) -> tuple[str, ...]:
    """The names of a record's fields, in order."""
    return record.__struct_fields__
