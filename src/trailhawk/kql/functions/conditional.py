"""Null tests and choices."""

from __future__ import annotations

import math

from sqlglot import exp

from trailhawk.kql.functions import sql
from trailhawk.kql.functions.registry import (
    NOT_CONSTANT,
    AnyArg,
    Arg,
    Bool,
    DynamicText,
    Same,
    Scalar,
    Sql,
    String,
    scalar,
)
from trailhawk.kql.types import KqlType


@scalar()
def isnull(value: AnyArg) -> Bool:
    """Is the value null? Never true of a string.

    >>> isnull(int(null))
    True
    >>> isnull("")
    False
    """
    if value.type is KqlType.STRING:
        return exp.false()
    if value.type is KqlType.DYNAMIC:
        return sql.is_json_null(value.sql)
    return sql.is_null(value.sql)


@scalar(aliases=("notnull",))
def isnotnull(value: AnyArg) -> Bool:
    """Is the value there? Always true of a string.

    >>> isnotnull(1)
    True
    """
    if value.type is KqlType.STRING:
        return exp.true()
    if value.type is KqlType.DYNAMIC:
        return sql.negate(sql.is_json_null(value.sql))
    return sql.negate(sql.is_null(value.sql))


@scalar()
def isempty(value: String) -> Bool:
    """Is the text empty, or the value null?

    >>> isempty("")
    True
    """
    return sql.binary(exp.EQ, value, sql.literal(""))


@isempty.overload
def _(value: DynamicText) -> Bool:
    return isempty(value)


@isempty.overload
def _(value: Scalar) -> Bool:
    return sql.is_null(value)


@scalar(aliases=("notempty",))
def isnotempty(value: String) -> Bool:
    """Is there text, or a value?

    >>> isnotempty("x")
    True
    """
    return sql.binary(exp.NEQ, value, sql.literal(""))


@isnotempty.overload
def _(value: DynamicText) -> Bool:
    return isnotempty(value)


@isnotempty.overload
def _(value: Scalar) -> Bool:
    return sql.negate(sql.is_null(value))


@scalar()
def case_(*parts: Scalar) -> Same:
    """The value after the first condition that is true, else the last value.

    >>> case(1 > 2, "a", 2 > 1, "b", "c")
    b
    >>> iff(1 > 2, "yes", "no")
    no
    """
    branches = [(parts[i], parts[i + 1]) for i in range(0, len(parts) - 1, 2)]
    return sql.case(*branches, otherwise=parts[-1])


@scalar()
def coalesce(*values: AnyArg) -> Same:
    """The first value that is not null, for text that is not empty.

    >>> coalesce(int(null), 5)
    5
    >>> coalesce("", "x")
    x
    """
    *before, last = values
    first, *others = [*[_or_null(value) for value in before], last.sql]
    return exp.Coalesce(this=first, expressions=others)


def _or_null(value: Arg) -> Sql:
    """A value to which another follows: of a dynamic one that is not known, JSON's null is the engine's."""
    may_be_null = value.type is KqlType.DYNAMIC and value.value is NOT_CONSTANT
    return sql.without_json_null(value.sql) if may_be_null else value.sql


@scalar(internal=True)
def coalesce_text(*values: String) -> String:
    """coalesce() of text, where empty counts as null."""
    return sql.text(
        exp.Coalesce(
            this=sql.call("nullif", values[0], ""),
            expressions=[sql.call("nullif", value, "") for value in values[1:]],
        )
    )


@scalar()
def max_of(*values: AnyArg) -> Same:
    """The largest of the values; nulls are left out, and NaN where there is a number.

    >>> max_of(1, 3, 2)
    3
    >>> max_of(0.0 / 0.0, 1.0)
    1.0
    """
    most = sql.call("greatest", *[value.sql for value in values])
    if values[0].type is not KqlType.REAL:
        return most
    # The engine has NaN above all numbers.
    nan = sql.constant(math.nan, KqlType.REAL)
    numbers = [sql.call("nullif", value.sql.copy(), nan.copy()) for value in values]
    return sql.coalesce(sql.call("greatest", *numbers), most)


@scalar()
def min_of(*values: Scalar) -> Same:
    """The smallest of the values; nulls are left out, and NaN where there is a number.

    >>> min_of(1, 3, 2)
    1
    """
    return sql.call("least", *values)
