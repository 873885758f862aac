"""Python bodies over the engine's columns: scalar functions as DuckDB UDFs, table functions over frames."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from decimal import Decimal
from inspect import Parameter, Signature
from typing import TYPE_CHECKING

import msgspec

from trailhawk.engine.watch import WATCHER
from trailhawk.kql import decimals
from trailhawk.kql.functions.python import PythonFunction
from trailhawk.kql.functions.sql import json_text
from trailhawk.kql.lower import column_name
from trailhawk.kql.plan import Apply, Frame, OutColumn
from trailhawk.kql.types import KqlType

if TYPE_CHECKING:
    import pyarrow as pa


_PART = 50_000
"""Rows that are made Python's values at a time."""


def frame(table: pa.Table, columns: tuple[OutColumn, ...]) -> Frame:
    """An engine's result as a frame, its columns found by their SQL names."""
    return Frame(
        columns, tuple(_values(table.column(column_name(column.id)), column.type) for column in columns)
    )


def applied(node: Apply, inputs: tuple[Frame, ...]) -> pa.Table:
    """The rows of an Apply as Arrow, columns under their SQL names."""
    import numpy as np
    import pyarrow as pa

    with np.errstate(all="ignore"):
        values = node.function(inputs)
    arrays = [_array(items, column.type) for items, column in zip(values, node.columns, strict=True)]
    return pa.table(arrays, names=[column_name(column.id) for column in node.columns])


def udf(function: PythonFunction, seconds: float) -> Callable[..., pa.Array]:
    """The body over Arrow columns, as DuckDB calls it; one call lasts at most these seconds.

    NumPy warns nobody: the result says what was infinite or no number.
    """
    import numpy as np

    def over(*args: pa.ChunkedArray) -> pa.Array:
        with WATCHER.calling(seconds), np.errstate(all="ignore"):
            columns = [_values(arg, type_) for arg, type_ in zip(args, function.params, strict=True)]
            return _array([function.body(*row) for row in zip(*columns, strict=True)], function.returns)

    over.__annotations__.clear()  # DuckDB would look its names up here
    # DuckDB counts the parameters of the signature, and would count *args as one.
    over.__signature__ = Signature(  # type: ignore[attr-defined]  # a function may carry its signature
        [Parameter(f"c{place}", Parameter.POSITIONAL_ONLY) for place in range(len(function.params))]
    )
    return over


def _values(array: pa.ChunkedArray, type_: KqlType) -> list[object]:
    import pyarrow as pa

    if type_ is KqlType.DATETIME:
        whole = array.cast(pa.timestamp("us")).cast(pa.int64()).to_pylist()
        return [None if value is None else value * 10 for value in whole]
    values: list[object] = []
    # A part at a time: only between Python's own steps can it be stopped.
    for start in range(0, len(array), _PART):
        values += array.slice(start, _PART).to_pylist()
    if type_ is KqlType.DYNAMIC:
        return [None if value is None else _decoded(str(value)) for value in values]
    if type_ is KqlType.STRING:
        return ["" if value is None else value for value in values]
    return values


def _decoded(text: str) -> object:
    """What a dynamic value's text says, the text itself where only the engine takes it for JSON (`[1,]`)."""
    try:
        value: object = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text
    return value


def _array(values: Sequence[object], type_: KqlType) -> pa.Array:
    import pyarrow as pa

    match type_:
        case KqlType.DATETIME:
            micros = [value // 10 if isinstance(value, int) else None for value in values]
            return pa.array(micros, pa.int64()).cast(pa.timestamp("us"))
        case KqlType.DYNAMIC:
            return pa.array(
                [None if value is None else json_text(_plain(value)) for value in values], pa.string()
            )
        case KqlType.BOOL:
            return pa.array(values, pa.bool_())
        case KqlType.INT:
            return pa.array(values, pa.int32())
        case KqlType.LONG | KqlType.TIMESPAN:
            return pa.array(values, pa.int64())
        case KqlType.REAL:
            return pa.array(values, pa.float64())
        case KqlType.DECIMAL:
            return pa.array([_decimal(value) for value in values], pa.decimal128(38, 17))
        case _:
            return pa.array(values, pa.string())


def _decimal(value: object) -> Decimal | None:
    return decimals.held(Decimal(str(value))) if value is not None else None


def _plain(value: object) -> object:
    """The value as JSON can hold it: NumPy's scalars and arrays as Python's, not-a-number as null's text."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value
