"""Loads the compiled kernel, if there is one made of the sources as they are, and declares its functions."""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from trailhawk.native import build

PAD: Final = 64
"""`KERNEL_PAD` of kernel.h."""

SWITCH: Final = "TRAILHAWK_KERNEL"
"""The environment's variable that is `off` where the kernel is to be left out."""

_SOURCES: Final = build.digest()
"""Of the sources that belong to this module. The project may be brought up to date and compiled between
the start of a process and its first use of the kernel, whose functions may then take other arguments."""

NO_MEMORY: Final = -1
_BAD_INPUT: Final = -2


def library() -> ctypes.CDLL | None:
    """The compiled functions; None where they are left out, not built, or built of other sources."""
    return None if os.environ.get(SWITCH) == "off" else _loaded()


@functools.cache
def _loaded() -> ctypes.CDLL | None:
    found = build.load(build.OBJECT, _SOURCES)
    if found is None:
        return None
    for name, (result, arguments) in PROTOTYPES.items():
        function = getattr(found, name)
        function.argtypes = arguments
        function.restype = result
        if result is Status:
            function.errcheck = _checked
    return found


class Status(ctypes.c_int):
    """What a function returns that can fail; it raises then."""


def _checked(status: Status, function: Any, _: Sequence[object]) -> int:
    """The number that a function returned. MemoryError or ValueError where it says that it failed."""
    if status.value == NO_MEMORY:
        raise MemoryError(f"no memory for {function.__name__}")
    if status.value == _BAD_INPUT:
        raise ValueError(f"{function.__name__} was given what cannot be")
    return status.value


_INT32 = ctypes.c_int32
_INT64 = ctypes.c_int64
_AT = ctypes.c_void_p  # of an array whose size its caller has made sure of
_SET = ctypes.c_void_p


def _array(kind: type[np.generic], *, written: bool = False) -> Any:
    """An array that C may take as it lies; another one is refused at the call."""
    if written:
        return np.ctypeslib.ndpointer(kind, flags=("C_CONTIGUOUS", "ALIGNED", "WRITEABLE"))
    return np.ctypeslib.ndpointer(kind, flags=("C_CONTIGUOUS", "ALIGNED"))


PROTOTYPES: Final[dict[str, tuple[Any, list[Any]]]] = {
    "terms_new": (_SET, [ctypes.c_uint64, _INT64]),
    "terms_free": (None, [_SET]),
    "terms_add": (
        Status,
        [_SET, _array(np.uint8), _INT64, _array(np.int32), _INT64, _array(np.uint8), _INT64, _INT64],
    ),
    "terms_count": (_INT64, [_SET]),
    "terms_take": (Status, [_SET, _array(np.uint64, written=True), _INT64]),
    "text_hashes": (
        Status,
        [_array(np.uint8), _INT64, _array(np.int32), _INT64, _array(np.uint64, written=True)],
    ),
    "json_records": (Status, [_AT, _AT, _INT64, _AT, _AT]),
    "json_list": (_INT64, [_AT, _INT64, _INT64, _AT, _AT, _AT, _AT]),
    "json_doubled": (None, [_AT, _AT, _INT64, _AT]),
    "json_joined": (Status, [_AT, _AT, _AT, _INT64, _AT]),
    "json_paths": (None, [_AT, _AT, _INT64, _AT, _AT, _AT, _INT32, _AT, _AT, _AT, _AT]),
    "text_gathered": (_INT64, [_AT, _AT, _AT, _INT64, _INT32, _AT, _AT]),
    "codes_used": (Status, [_array(np.int32), _INT64, _INT64, _array(np.uint8, written=True)]),
    "terms_fill": (Status, [_array(np.uint64), _INT64, _array(np.uint8, written=True), _INT64, _INT64]),
}
"""The functions of `kernel.h`: what each returns, and what it takes."""
