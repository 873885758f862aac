"""Small pieces of SQL that function bodies are made of."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import msgspec
from sqlglot import exp

from trailhawk.kql.functions.registry import Arg, Sql
from trailhawk.kql.types import KqlType

_EPOCH = datetime(1970, 1, 1)  # a plain offset for literals without zone
SQL_TYPES = {
    KqlType.BOOL: "BOOLEAN",
    KqlType.INT: "INT",
    KqlType.LONG: "BIGINT",
    KqlType.REAL: "DOUBLE",
    KqlType.DECIMAL: "DECIMAL(38, 17)",
    KqlType.STRING: "TEXT",
    KqlType.DATETIME: "TIMESTAMP",
    KqlType.TIMESPAN: "BIGINT",
    KqlType.GUID: "TEXT",
    KqlType.DYNAMIC: "JSON",
}
_DATA_TYPES = {kql: exp.DataType.build(name, dialect="duckdb") for kql, name in SQL_TYPES.items()}
_LISTS = {
    kql: exp.DataType.build(f"{SQL_TYPES[kql]}[]", dialect="duckdb")
    for kql in (KqlType.DYNAMIC, KqlType.STRING)
}


def call(name: str, *args: Sql | str | int) -> exp.Anonymous:
    """A function call written as it stands; plain str and int become literals."""
    return exp.Anonymous(this=name, expressions=[literal(arg) for arg in args])


def copied(tree: Sql) -> Sql:
    """A copy of a tree; `copy()` goes by way of `copy.deepcopy`, which takes twice as long."""
    return tree.__deepcopy__(None)


def json_text(value: object) -> str:
    """A dynamic constant as compact JSON."""
    return msgspec.json.encode(value).decode()


def constant(value: object, type_: KqlType) -> exp.Expr:
    """A constant as SQL; datetimes and timespans come in ticks."""
    if value is None:
        return null(type_)
    match type_:
        case KqlType.BOOL:
            return exp.Boolean(this=bool(value))
        case KqlType.STRING | KqlType.GUID:
            return exp.Literal.string(str(value))
        case KqlType.DYNAMIC:
            return cast(exp.Literal.string(json_text(value)), type_)
        case KqlType.DATETIME if isinstance(value, int):
            moment = _EPOCH + timedelta(microseconds=value // 10)
            return cast(exp.Literal.string(moment.isoformat(sep=" ")), type_)
        case KqlType.REAL if isinstance(value, int | float):
            return cast(exp.Literal.string(repr(float(value))), type_)
        case _:
            return cast(exp.Literal.string(str(value)), type_)


def literal(value: Sql | str | int) -> Sql:
    if isinstance(value, str):
        return exp.Literal.string(value)
    if isinstance(value, int):
        return exp.Literal.number(value)
    return value


def cast(value: Sql, to: KqlType) -> exp.Cast:
    return exp.Cast(this=value, to=_DATA_TYPES[to].copy())


def try_cast(value: Sql, to: KqlType) -> exp.TryCast:
    return exp.TryCast(this=value, to=_DATA_TYPES[to].copy())


def decimal(number: Arg) -> exp.TryCast:
    """A number as a decimal: a real as its shortest text says, since its noise would be exact digits."""
    value = cast(number.sql, KqlType.STRING) if number.type is KqlType.REAL else number.sql
    return try_cast(value, KqlType.DECIMAL)


def alike(*args: Arg) -> list[Sql]:
    """Numbers that are computed with one another: a real beside a decimal is made one."""
    if all(arg.type is not KqlType.DECIMAL for arg in args):
        return [arg.sql for arg in args]
    return [decimal(arg) if arg.type is KqlType.REAL else arg.sql for arg in args]


def huge(value: Sql) -> exp.Cast:
    """The number as a whole one of 128 bits."""
    return exp.Cast(this=value, to=exp.DataType.build("INT128", dialect="duckdb"))


def lower_bits(value: Sql) -> exp.Cast:
    """The lower 64 bits of a whole number of 128 bits, as a long."""
    half = huge(literal(2**63))
    lower = binary(exp.BitwiseAnd, binary(exp.Add, value, half), huge(literal(2**64 - 1)))
    return cast(binary(exp.Sub, lower, half.copy()), KqlType.LONG)


def elements(array: Sql) -> Sql:
    """The JSON values of a JSON array as a list.

    The cast is for a null that is a constant: for it the engine would give JSON, which is no list.
    """
    return exp.Cast(this=call("json_extract", array, "$[*]"), to=_LISTS[KqlType.DYNAMIC].copy())


def element_texts(array: Sql) -> Sql:
    """The elements of a JSON array as a list of texts; see `elements`."""
    return exp.Cast(this=call("json_extract_string", array, "$[*]"), to=_LISTS[KqlType.STRING].copy())


def null(of: KqlType) -> Sql:
    """A typed null; for string the empty text, since strings are never null."""
    return exp.Literal.string("") if of is KqlType.STRING else cast(exp.Null(), of)


def coalesce(value: Sql, otherwise: Sql) -> exp.Coalesce:
    return exp.Coalesce(this=value, expressions=[otherwise])


def text(value: Sql) -> exp.Coalesce:
    """A nullable text as a KQL string: '' for null."""
    return coalesce(value, exp.Literal.string(""))


def is_json_null(value: Sql) -> Sql:
    """Is a dynamic value null, to the engine or as JSON has it? Spaces may stand around that one."""
    return coalesce(call("regexp_matches", value, r"^\s*null"), exp.true())


def without_json_null(value: Sql) -> Sql:
    """A dynamic value, computed once, of which JSON's null, too, is null to the engine."""
    there = keep(exp.Array(expressions=[value]), "th_given", lambda given: negate(is_json_null(given)))
    return call("list_extract", there, 1)


def case(*branches: tuple[Sql, Sql], otherwise: Sql) -> exp.Case:
    return exp.Case(ifs=[exp.If(this=test, true=value) for test, value in branches], default=otherwise)


def is_null(value: Sql) -> exp.Is:
    return exp.Is(this=_operand(value), expression=exp.Null())


def all_of(*conditions: Sql) -> Sql:
    return exp.and_(*conditions, copy=False)


def any_of(*conditions: Sql) -> Sql:
    return exp.or_(*conditions, copy=False)


def negate(value: Sql) -> exp.Not:
    return exp.Not(this=_operand(value))


def _operand(value: Sql) -> Sql:
    return (
        exp.Paren(this=value)
        if isinstance(value, exp.Binary | exp.Connector | exp.Not | exp.Is | exp.In | exp.Between)
        else value
    )


def binary(kind: type[exp.Binary], left: Sql, right: Sql) -> exp.Binary:
    """`left op right` with parentheses where an operand is an operation itself."""
    return kind(this=_operand(left), expression=_operand(right))


def lower(value: Sql) -> Sql:
    """Lower case, folded here for a literal."""
    if isinstance(value, exp.Literal) and value.is_string:
        return exp.Literal.string(value.this.lower())
    return exp.Lower(this=value)


def string_value(value: Sql) -> str | None:
    """The text of a string literal, else None."""
    return value.this if isinstance(value, exp.Literal) and value.is_string else None


def ticks_to_interval(ticks: Sql) -> Sql:
    """100 ns ticks as an INTERVAL of microseconds."""
    return call("to_microseconds", binary(exp.IntDiv, ticks, literal(10)))


def epoch_us(value: Sql) -> Sql:
    """Microseconds since the Unix epoch of a TIMESTAMP."""
    return call("epoch_us", value)


def floor_mod(value: Sql, divisor: Sql) -> Sql:
    """The remainder that is never negative: 0 <= result < |divisor|."""
    size = exp.Abs(this=divisor.copy())
    once = binary(exp.Mod, value, divisor)
    return binary(exp.Mod, binary(exp.Add, once, size), size.copy())


def let(value: Sql, name: str, body: Callable[[Sql], Sql]) -> Sql:
    """`body` over a value that is computed once and named `name`; a column is taken as it is."""
    if isinstance(value, exp.Column) or is_promoted(value):
        return body(value)
    return call("list_extract", each(exp.Array(expressions=[value]), name, body), 1)


def promoted(column: Sql) -> exp.Greatest:
    """A promoted path as text. A function, which the engine computes once for each text of a column's
    dictionary; of COALESCE it makes a copy for each row: three times as long to group by."""
    return exp.Greatest(this=column, expressions=[literal("")], ignore_nulls=True)


def is_promoted(item: Sql) -> bool:
    """A promoted path as text."""
    return isinstance(item, exp.Greatest) and isinstance(item.this, exp.Column)


def each(items: Sql, name: str, body: Callable[[Sql], Sql]) -> Sql:
    """The list of `body` over each item, which is named `name`."""
    return call("list_transform", items, _function(body(exp.column(name)), name))


def keep(items: Sql, name: str, test: Callable[[Sql], Sql]) -> Sql:
    """The items for which the test is true."""
    return call("list_filter", items, _function(test(exp.column(name)), name))


def _function(body: Sql, name: str) -> exp.Lambda:
    return exp.Lambda(this=body, expressions=[exp.to_identifier(name)])


def field(value: Sql, name: str) -> Sql:
    """A field of a struct."""
    return call("struct_extract", value, name)


def array(items: Sql) -> Sql:
    """A list as a JSON array."""
    return call("to_json", items)


def joined(*parts: Sql | str) -> Sql:
    """The texts one after the other; null counts as empty."""
    return call("concat", *parts)


def attempt(value: Sql, body: Callable[[Sql], Sql]) -> Sql:
    """`body` over the value, NULL where it raises. (The engine's TRY takes no subquery inside.)"""
    if value.find(exp.Subquery) is None:
        return call("try", body(value))
    return let(value, "th_tried", lambda given: call("try", body(given)))
