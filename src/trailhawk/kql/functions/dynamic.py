"""Dynamic values: JSON text of type JSON in the engine. A missing path is null, never an error."""

from __future__ import annotations

import re
from collections.abc import Callable

from sqlglot import exp

from trailhawk.errors import BindingError, UnsupportedError
from trailhawk.kql.functions import sql
from trailhawk.kql.functions.conversion import WHOLE_KINDS, if_kind, iso, timespan_parts
from trailhawk.kql.functions.python import Flag, Json, Text, python
from trailhawk.kql.functions.registry import (
    AnyArg,
    Arg,
    Bool,
    Dynamic,
    DynamicArg,
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
    if arg.type is KqlType.DECIMAL:  # the engine would write all its places: 0.1 would not be 0.1
        return sql.call("to_json", sql.cast(arg.sql, KqlType.REAL))
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
        sql.try_cast(given, KqlType.DYNAMIC),
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


@scalar(aliases=("pack", "pack_dictionary"))
def bag_pack(*pairs: AnyArg) -> Dynamic:
    """A property bag of names and values.

    >>> bag_pack("a", 1, "b", "x")
    {"a":1,"b":"x"}
    """
    if len(pairs) % 2 or any(name.type is not KqlType.STRING for name in pairs[::2]):
        raise BindingError("bag_pack() takes pairs of a name and a value")
    args = [pair.sql if index % 2 == 0 else json_value(pair) for index, pair in enumerate(pairs)]
    return sql.call("json_object", *args)


@scalar()
def pack_array(*values: AnyArg) -> Dynamic:
    """An array of the values; `pack_array(*)` has those of all columns.

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


_MAX_STEPS = 20
"""Steps of a path that bag_set_key() writes to."""
_STEP = re.compile(r"\.([A-Za-z_]\w*)|\[(\d+)\]|\[['\"]([^'\"]*)['\"]\]|\.\[['\"]([^'\"]*)['\"]\]")


def json_pointer(path: str) -> str:
    """A JSON path `$.a[0]['b c']` as a JSON pointer."""
    steps: list[str] = []
    at = 1
    while at < len(path) or not path.startswith("$"):
        found = _STEP.match(path, at)
        if found is None:
            raise UnsupportedError(f"the JSON path '{path}'")
        step = next(group for group in found.groups() if group is not None)
        steps.append(step.replace("~", "~0").replace("/", "~1"))
        at = found.end()
    return "".join(f"/{step}" for step in steps)


@scalar()
def bag_has_key(bag: Dynamic, key: String) -> Bool:
    """Does the property bag have this name at its top, or this path `$.a.b`?

    >>> bag_has_key(dynamic({"a": 1}), "a")
    True
    >>> bag_has_key(dynamic({"a": {"b": 1}}), "$.a.b")
    True
    """
    path = sql.string_value(key)
    if path is not None and path.startswith("$."):
        return sql.coalesce(sql.call("json_exists", bag, json_pointer(path)), exp.false())
    at_top = sql.coalesce(sql.call("list_contains", sql.call("json_keys", bag), key), exp.false())
    if path is not None:
        return at_top
    below = bag_has_path.overloads[0].build(bag.copy(), key.copy())
    return sql.case((sql.call("starts_with", key.copy(), "$."), below), otherwise=at_top)


def _steps(path: str) -> list[str]:
    """The names along a JSON path; UnsupportedError where that is none."""
    return [step.replace("~1", "/").replace("~0", "~") for step in json_pointer(path).split("/")[1:]]


def _names(path: str) -> list[str]:
    """The names along a path of a column; what is no JSON path is a name itself."""
    try:
        return _steps(path) or [path]
    except UnsupportedError:
        return [path]


@python("bag_has_path", internal=True)
def bag_has_path(bag: Json, path: Text) -> Flag:
    """Whether the bag has what the path names."""
    for name in _names(path):
        if not isinstance(bag, dict) or name not in bag:
            return False
        bag = bag[name]
    return True


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
    return _if_array(array, sql.elements(array.copy()))


def texts(array: exp.Expr) -> exp.Expr:
    """The elements of a JSON array as texts; NULL of what is no array."""
    return _if_array(array, sql.element_texts(array.copy()))


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
    each = sql.coalesce(sql.call("list_bool_and", _has_each(value, array)), exp.true())
    return sql.all_of(sql.negate(sql.is_null(texts(array.copy()))), each)


@scalar(internal=True)
def if_number(value: Dynamic) -> Dynamic:
    """The value if it is a number, else null: what mv-expand casts to a number is not read from text."""
    return if_kind(value, value.copy(), *WHOLE_KINDS, "DOUBLE")


@scalar(internal=True)
def if_text(value: Dynamic) -> Dynamic:
    """The value if it is a text, else null: what mv-expand casts to a datetime or a guid."""
    return if_kind(value, value.copy(), "VARCHAR")


@scalar(internal=True)
def if_truth(value: Dynamic) -> Dynamic:
    """The value if it is a bool or a whole number, else null: what mv-expand casts to a bool."""
    return if_kind(value, value.copy(), *WHOLE_KINDS, "BOOLEAN")


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
        (exp.EQ(this=kind, expression=sql.literal("ARRAY")), sql.elements(value.copy())),
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
        (exp.EQ(this=kind, expression=sql.literal("ARRAY")), sql.elements(value.copy())),
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


def struct(**fields: exp.Expr) -> exp.Expr:
    """A struct of named values."""
    return sql.call(
        "struct_pack",
        *[exp.PropertyEQ(this=exp.to_identifier(name), expression=value) for name, value in fields.items()],
    )


def entries(bag: exp.Expr) -> exp.Expr:
    """The pairs of a property bag as a list of structs of `k` and `v`; NULL of what is no bag."""

    def pair(name: exp.Expr) -> exp.Expr:
        value = sql.call("json_extract", bag.copy(), sql.call("concat", "/", _pointer(name)))
        return struct(k=name.copy(), v=value)

    is_bag = exp.EQ(this=sql.call("json_type", bag), expression=sql.literal("OBJECT"))
    return sql.case(
        (is_bag, sql.each(sql.call("json_keys", bag.copy()), "th_key", pair)), otherwise=exp.Null()
    )


def bag_of(pairs: exp.Expr, most: exp.Expr | None = None) -> exp.Expr:
    """The property bag of a list of structs of `k` and `v`; of a name that comes twice the first stays.

    At most so many names are taken, the first ones."""

    def part(item: exp.Expr, name: str) -> exp.Expr:
        return sql.field(item.copy(), name)

    numbered = _numbered(pairs, lambda e, i: struct(k=part(e, "k"), i=i, v=part(e, "v")))

    def first_of_each(ordered: exp.Expr) -> exp.Expr:
        item, place = exp.column("th_entry"), exp.column("th_place")
        before = sql.call("list_extract", ordered.copy(), sql.binary(exp.Sub, place.copy(), sql.literal(1)))
        test = sql.any_of(
            exp.EQ(this=place, expression=sql.literal(1)),
            sql.binary(exp.NEQ, part(item, "k"), part(before, "k")),
        )
        names = [exp.to_identifier("th_entry"), exp.to_identifier("th_place")]
        return sql.call("list_filter", ordered, exp.Lambda(this=test, expressions=names))

    unique = sql.let(sql.call("list_sort", numbered), "th_ordered", first_of_each)
    by_place = sql.each(unique, "th_entry", lambda e: struct(i=part(e, "i"), k=part(e, "k"), v=part(e, "v")))

    def text(item: exp.Expr) -> exp.Expr:
        value = sql.coalesce(sql.cast(part(item, "v"), KqlType.STRING), sql.literal("null"))
        return sql.call("concat", sql.cast(sql.call("to_json", part(item, "k")), KqlType.STRING), ":", value)

    ordered = sql.call("list_sort", by_place)
    kept = ordered if most is None else sql.call("list_slice", ordered, 1, most)
    members = sql.call("array_to_string", sql.each(kept, "th_entry", text), ",")
    whole = sql.call("concat", "{", members, "}")
    return sql.cast(whole, KqlType.DYNAMIC)


def _numbered(items: exp.Expr, body: Callable[[exp.Expr, exp.Expr], exp.Expr]) -> exp.Expr:
    names = [exp.to_identifier("th_entry"), exp.to_identifier("th_place")]
    tree = body(exp.column("th_entry"), exp.column("th_place"))
    return sql.call("list_transform", items, exp.Lambda(this=tree, expressions=names))


@scalar()
def bag_merge(*bags: Dynamic) -> Dynamic:
    """One bag of several; where more than one has a name, the leftmost one's value stays.

    >>> bag_merge(dynamic({"a": 1}), dynamic({"a": 2, "b": 3}))
    {"a":1,"b":3}
    >>> bag_merge(dynamic({"a": {"x": null}}), dynamic({"a": {"y": 2}}))
    {"a":{"x":null}}
    """
    lists = [sql.coalesce(entries(bag), exp.Array()) for bag in bags]
    return bag_of(sql.call("flatten", exp.Array(expressions=lists)))


def _is_bag(value: exp.Expr) -> exp.Expr:
    return sql.binary(exp.EQ, sql.call("json_type", value.copy()), sql.literal("OBJECT"))


def _with(bag: exp.Expr, name: exp.Expr, value: exp.Expr) -> exp.Expr:
    """The bag with one name set to a value: in its place, or at the end where the bag has it not.

    NULL of what is no bag.
    """
    fresh = struct(k=name, v=value)

    def pair(entry: exp.Expr) -> exp.Expr:
        is_it = sql.binary(exp.EQ, sql.field(entry.copy(), "k"), name.copy())
        return sql.case((is_it, fresh.copy()), otherwise=entry)

    pairs = sql.each(entries(bag), "th_pair", pair)
    lists = [pairs, exp.Array(expressions=[fresh.copy()])]
    return sql.case(
        (_is_bag(bag), bag_of(sql.call("flatten", exp.Array(expressions=lists)))), otherwise=exp.Null()
    )


def _set_at(bag: exp.Expr, steps: list[str], value: exp.Expr) -> exp.Expr:
    """The bag with a value at a path; what is on the way and no bag becomes one."""
    if not steps:
        return value

    def merged(found: exp.Expr) -> exp.Expr:
        empty = sql.cast(sql.literal("{}"), KqlType.DYNAMIC)
        whole = sql.case((_is_bag(found), found.copy()), otherwise=empty)
        inner = sql.call("json_extract", found.copy(), "/" + steps[0].replace("~", "~0").replace("/", "~1"))
        return _with(whole, sql.literal(steps[0]), _set_at(inner, steps[1:], value))

    return sql.let(bag, f"th_bag{len(steps)}", merged)


@scalar()
def bag_set_key(bag: Dynamic, key: String, value: AnyArg) -> Dynamic:
    """The property bag with one name, or what a path `$.a.b` names, set to a value; null of what is no bag.

    >>> bag_set_key(dynamic({"a": 1}), "b", "x")
    {"a":1,"b":"x"}
    >>> bag_set_key(dynamic({"a": 1, "b": 2}), "a", 3)
    {"a":3,"b":2}
    >>> bag_set_key(dynamic({"a": {"b": 1}}), "$.a.c", 2).a.c
    2
    >>> bag_set_key(dynamic(null), "a", 2)
    null
    """
    path = sql.string_value(key)
    if path is not None and path.startswith("$"):
        steps = _steps(path)
        if len(steps) > _MAX_STEPS:
            raise UnsupportedError(f"bag_set_key() with a path of more than {_MAX_STEPS} steps")
        return sql.case((_is_bag(bag), _set_at(bag, steps, json_value(value))), otherwise=exp.Null())
    at_top = _with(bag, key, json_value(value))
    if path is not None:
        return at_top
    below = bag_with.overloads[0].build(bag.copy(), key.copy(), json_value(value))
    return sql.case((sql.call("starts_with", key.copy(), "$"), below), otherwise=at_top)


@python("bag_with", internal=True)
def bag_with(bag: Json, path: Text, value: Json) -> Json | None:
    """The bag with a value at a path; what is on the way and no bag becomes one."""
    if not isinstance(bag, dict):
        return None
    whole = here = dict(bag)
    *way, last = _names(path)
    for name in way:
        found = here.get(name)
        here[name] = dict(found) if isinstance(found, dict) else {}
        here = here[name]
    here[last] = value
    return whole


@scalar()
def bag_remove_keys(bag: Dynamic, keys: DynamicArg) -> Dynamic:
    """The property bag without some names; a name may be a path `$.a.b`.

    >>> bag_remove_keys(dynamic({"a": 1, "b": null, "c": 2}), dynamic(["a", "d"]))
    {"b":null,"c":2}
    >>> bag_remove_keys(dynamic({"a": {"x": 1, "y": 2}}), dynamic(["$.a.x", "$.a.y.z", "$.b.c"]))
    {"a":{"y":2}}
    """
    if not isinstance(keys.value, list) or any(str(key).startswith("$.") for key in keys.value):
        return bag_without.overloads[0].build(bag, keys.sql)

    def stays(entry: exp.Expr) -> exp.Expr:
        return sql.negate(
            sql.call("list_contains", sql.coalesce(texts(keys.sql), exp.Array()), sql.field(entry, "k"))
        )

    pairs = entries(bag)
    return sql.case(
        (sql.is_null(pairs), exp.Null()), otherwise=bag_of(sql.keep(pairs.copy(), "th_entry", stays))
    )


@python("bag_without", internal=True)
def bag_without(bag: Json, keys: Json) -> Json | None:
    """The bag without the names, and without what the paths among them name."""
    if not isinstance(bag, dict):
        return None
    found: object = bag
    for key in keys if isinstance(keys, list) else []:
        found = _without(found, _names(str(key)) if str(key).startswith("$.") else [str(key)])
    return found


def _without(bag: object, names: list[str]) -> object:
    name, *below = names
    if not isinstance(bag, dict) or name not in bag:
        return bag
    if below:
        return {**bag, name: _without(bag[name], below)}
    return {other: value for other, value in bag.items() if other != name}


@scalar()
def bag_zip(keys: Dynamic, values: Dynamic) -> Dynamic:
    """A property bag of an array of names and one of values; what is no text is no name.

    >>> bag_zip(dynamic(["a", "b"]), dynamic([1, "x"]))
    {"a":1,"b":"x"}
    >>> bag_zip(dynamic(["a", "b"]), dynamic([1]))
    {"a":1,"b":null}
    """

    def pair(item: exp.Expr, place: exp.Expr) -> exp.Expr:
        name = sql.call("json_extract_string", item, "$")
        value = sql.call("list_extract", sql.coalesce(elements(values), exp.Array()), place)
        return struct(k=name, v=value, t=sql.call("json_type", item.copy()))

    pairs = _numbered(elements(keys), pair)
    named = sql.keep(
        pairs, "th_pair", lambda p: exp.EQ(this=sql.field(p, "t"), expression=sql.literal("VARCHAR"))
    )
    return sql.case((sql.is_null(elements(keys)), exp.Null()), otherwise=bag_of(named))
