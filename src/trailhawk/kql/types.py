"""KQL's scalar types."""

from __future__ import annotations

from enum import Enum


class KqlType(Enum):
    """A scalar type by its KQL name.

    How values travel: datetime is microseconds UTC in lake and engine, and 100 ns ticks since the
    Unix epoch as a constant; timespan is 100 ns ticks in a BIGINT everywhere; dynamic is JSON text;
    string is never null.
    """

    BOOL = "bool"
    INT = "int"
    LONG = "long"
    REAL = "real"
    DECIMAL = "decimal"
    STRING = "string"
    DATETIME = "datetime"
    TIMESPAN = "timespan"
    GUID = "guid"
    DYNAMIC = "dynamic"

    @property
    def is_number(self) -> bool:
        return self in _NUMBERS

    @property
    def is_integer(self) -> bool:
        return self in (KqlType.INT, KqlType.LONG)


_NUMBERS = frozenset({KqlType.INT, KqlType.LONG, KqlType.REAL, KqlType.DECIMAL})

# The names a query may write: https://learn.microsoft.com/kusto/query/scalar-data-types/
TYPE_NAMES = {
    "bool": KqlType.BOOL,
    "boolean": KqlType.BOOL,
    "int": KqlType.INT,
    "long": KqlType.LONG,
    "real": KqlType.REAL,
    "double": KqlType.REAL,
    "decimal": KqlType.DECIMAL,
    "string": KqlType.STRING,
    "datetime": KqlType.DATETIME,
    "date": KqlType.DATETIME,
    "timespan": KqlType.TIMESPAN,
    "time": KqlType.TIMESPAN,
    "guid": KqlType.GUID,
    "uuid": KqlType.GUID,
    "uniqueid": KqlType.GUID,
    "dynamic": KqlType.DYNAMIC,
}

TICKS_PER_SECOND = 10_000_000
TICKS_PER_DAY = 86_400 * TICKS_PER_SECOND
