"""Dynamic values: JSON text of type JSON in the engine. A missing path is null, never an error."""

from __future__ import annotations

from sqlglot import exp

from trailhawk.kql.functions import sql
from trailhawk.kql.functions.conversion import iso, timespan_parts
from trailhawk.kql.functions.registry import (
    AnyArg,
    Arg,
    Bool,
    Dynamic,
    Guid,
    Integer,
    Long,
    Number,
    Real,
    String,
    Timespan,
    scalar,
)
from trailhawk.kql.functions.registry import Datetime as DatetimeType
from trailhawk.kql.types import KqlType


def json_value(arg: Arg) -> exp.Expr:
    """The argument as a JSON value: times as KQL text, a dynamic as it is."""
    if arg.type is KqlType.DYNAMIC:
        return arg.sql
    if arg.type is KqlType.DATETIME:
        return sql.call("to_json", iso(arg.sql))
    if arg.type is KqlType.TIMESPAN:
        return sql.call("to_json", timespan_parts(arg.sql))
    return sql.call("to_json", arg.sql)


@scalar(aliases=("parsejson", "todynamic", "toobject"), name_after="")
def parse_json(text: String) -> Dynamic:
    """The JSON text as a dynamic value; text that is not JSON becomes a dynamic string.

    >>> parse_json('{"a": [1, 2]}').a[1]
    2
    >>> tostring(parse_json("not json"))
    not json
    """
    # The empty text is no JSON at all, and null.
    given = sql.call("nullif", text, "")
    return sql.coalesce(
        exp.TryCast(this=given, to=exp.DataType.build("JSON", dialect="duckdb")),
        sql.call("to_json", given.copy()),
    )


PARSE_JSON = parse_json.overloads[0]
"""parse_json(string): a path below it reads the text itself, and may be promoted."""


@parse_json.overload
def _(value: Dynamic) -> Dynamic:
    return value


@parse_json.overload
def _(value: DatetimeType) -> Dynamic:
    return sql.call("to_json", iso(value))


@parse_json.overload
def _(value: Timespan) -> Dynamic:
    return sql.call("to_json", timespan_parts(value))


@parse_json.overload
def _(value: Guid) -> Dynamic:
    return sql.call("to_json", value)


@parse_json.overload
def _(value: Bool) -> Dynamic:
    return sql.call("to_json", value)


@parse_json.overload
def _(value: Number) -> Dynamic:
    return sql.call("to_json", value)


@scalar(internal=True)
def dynamic_at(value: Dynamic, index: Integer) -> Dynamic:
    """value[index] for a computed index; a negative one counts from the end."""
    return sql.call("json_extract", value, sql.call("concat", "$[", sql.cast(index, KqlType.STRING), "]"))


@scalar(internal=True)
def dynamic_member(value: Dynamic, name: String) -> Dynamic:
    """value[name] for a computed name."""
    escaped = sql.call("replace", sql.call("replace", name, "~", "~0"), "/", "~1")
    return sql.call("json_extract", value, sql.call("concat", "/", escaped))


@scalar(aliases=("pack",))
def bag_pack(*pairs: AnyArg) -> Dynamic:
    """A property bag of names and values.

    >>> bag_pack("a", 1, "b", "x")
    {"a":1,"b":"x"}
    """
    args = [pair.sql if index % 2 == 0 else json_value(pair) for index, pair in enumerate(pairs)]
    return sql.call("json_object", *args)


@scalar()
def pack_array(*values: AnyArg) -> Dynamic:
    """An array of the values.

    >>> pack_array(1, "x")
    [1,"x"]
    """
    return sql.call("json_array", *[json_value(value) for value in values])


@scalar()
def bag_keys(bag: Dynamic) -> Dynamic:
    """The names in a property bag.

    >>> bag_keys(dynamic({"a": 1, "b": 2}))
    ["a","b"]
    """
    is_bag = exp.EQ(this=sql.call("json_type", bag), expression=sql.literal("OBJECT"))
    return sql.case(
        (is_bag, sql.call("to_json", sql.call("json_keys", bag.copy()))), otherwise=sql.null(KqlType.DYNAMIC)
    )


@scalar()
def bag_has_key(bag: Dynamic, key: String) -> Bool:
    """Does the property bag have this name at its top?

    >>> bag_has_key(dynamic({"a": 1}), "a")
    True
    """
    return sql.coalesce(sql.call("list_contains", sql.call("json_keys", bag), key), exp.false())


@scalar(aliases=("arraylength",))
def array_length(array: Dynamic) -> Long:
    """How many elements the array has; null of what is no array.

    >>> array_length(dynamic([1, 2, 3]))
    3
    """
    return sql.cast(_if_array(array, sql.call("json_array_length", array.copy())), KqlType.LONG)


def _if_array(value: exp.Expr, then: exp.Expr) -> exp.Expr:
    is_array = exp.EQ(this=sql.call("json_type", value), expression=sql.literal("ARRAY"))
    return sql.case((is_array, then), otherwise=exp.Null())


def elements(array: exp.Expr) -> exp.Expr:
    """The JSON values of a JSON array as a list; NULL of what is no array."""
    return _if_array(array, sql.call("json_extract", array.copy(), "$[*]"))


def texts(array: exp.Expr) -> exp.Expr:
    """The elements of a JSON array as texts; NULL of what is no array."""
    return _if_array(array, sql.call("json_extract_string", array.copy(), "$[*]"))


def _each(items: exp.Expr, body: exp.Expr) -> exp.Expr:
    return sql.call(
        "list_transform", items, exp.Lambda(this=body, expressions=[exp.to_identifier("th_item")])
    )


@scalar(internal=True)
def in_array(value: String, array: Dynamic) -> Bool:
    """`value in (array)` for an array that is not a constant."""
    return sql.coalesce(sql.call("list_contains", texts(array), value), exp.false())


@scalar(internal=True)
def in_array_fold(value: String, array: Dynamic) -> Bool:
    """`value in~ (array)` for an array that is not a constant."""
    folded = _each(texts(array), exp.Lower(this=exp.column("th_item")))
    return sql.coalesce(sql.call("list_contains", folded, sql.lower(value)), exp.false())


def _has_each(value: exp.Expr, array: exp.Expr) -> exp.Expr:
    from trailhawk.kql.functions.operators import has

    return _each(texts(array), has(value, exp.column("th_item")))


@scalar(internal=True)
def has_any_array(value: String, array: Dynamic) -> Bool:
    """`value has_any (array)` for an array that is not a constant."""
    return sql.coalesce(sql.call("list_bool_or", _has_each(value, array)), exp.false())


@scalar(internal=True)
def has_all_array(value: String, array: Dynamic) -> Bool:
    """`value has_all (array)` for an array that is not a constant."""
    return sql.coalesce(sql.call("list_bool_and", _has_each(value, array)), exp.false())


@scalar(internal=True)
def expand_list(value: Dynamic) -> Dynamic:
    """What mv-expand makes rows of: an array's elements, a bag's pairs, else the value itself.

    The SQL is a list, not JSON. null gives one null, an empty array nothing.
    """
    kind = sql.call("json_type", value)
    pair = sql.call(
        "json_object",
        exp.column("th_item"),
        sql.call("json_extract", value.copy(), sql.call("concat", "/", _pointer(exp.column("th_item")))),
    )
    return sql.case(
        (exp.EQ(this=kind, expression=sql.literal("ARRAY")), sql.call("json_extract", value.copy(), "$[*]")),
        (
            exp.EQ(this=kind.copy(), expression=sql.literal("OBJECT")),
            _each(sql.call("json_keys", value.copy()), pair),
        ),
        otherwise=exp.Array(expressions=[value.copy()]),
    )


def _pointer(name: exp.Expr) -> exp.Expr:
    return sql.call("replace", sql.call("replace", name, "~", "~0"), "/", "~1")


@scalar(internal=True)
def expand_bag_arrays(value: Dynamic) -> Dynamic:
    """mv-expand with bagexpansion=array: a bag's pairs as [name, value] arrays."""
    kind = sql.call("json_type", value)
    pair = sql.call(
        "json_array",
        exp.column("th_item"),
        sql.call("json_extract", value.copy(), sql.call("concat", "/", _pointer(exp.column("th_item")))),
    )
    return sql.case(
        (exp.EQ(this=kind, expression=sql.literal("ARRAY")), sql.call("json_extract", value.copy(), "$[*]")),
        (
            exp.EQ(this=kind.copy(), expression=sql.literal("OBJECT")),
            _each(sql.call("json_keys", value.copy()), pair),
        ),
        otherwise=exp.Array(expressions=[value.copy()]),
    )


@scalar(internal=True)
def range_places(steps: Real) -> Dynamic:
    """The places 0, 1, ... up to `steps` as a list of whole numbers; none if it is negative."""
    return sql.call(
        "generate_series",
        sql.cast(sql.literal(0), KqlType.LONG),
        sql.cast(exp.Floor(this=steps), KqlType.LONG),
    )


@scalar()
def bag_merge(first: Dynamic, second: Dynamic) -> Dynamic:
    """One bag of two; where both have a name, the left one's value stays.

    >>> bag_merge(dynamic({"a": 1}), dynamic({"a": 2, "b": 3}))
    {"a":1,"b":3}
    """
    return sql.call("json_merge_patch", second, first)
