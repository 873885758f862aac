"""Arrays and sets inside dynamic values. What is no array gives null."""

from __future__ import annotations

from collections.abc import Callable

from sqlglot import exp

from trailhawk.errors import BindingError
from trailhawk.kql.functions import sql
from trailhawk.kql.functions.conversion import iso, timespan_parts
from trailhawk.kql.functions.dynamic import elements, json_value, struct
from trailhawk.kql.functions.python import Flag, Json, python
from trailhawk.kql.functions.registry import (
    AnyArg,
    Arg,
    Bool,
    Datetime,
    Dynamic,
    Integer,
    Long,
    Number,
    Real,
    Sql,
    Timespan,
    scalar,
)
from trailhawk.kql.types import KqlType

_LIMIT = 1_048_576
"""The longest array range() makes."""
_HOUR = 36_000_000_000


def _minus(left: Sql, right: Sql | int) -> Sql:
    return sql.binary(exp.Sub, left, sql.literal(right))


def _plus(left: Sql, right: Sql | int) -> Sql:
    return sql.binary(exp.Add, left, sql.literal(right))


def _less(left: Sql, right: Sql | int) -> Sql:
    return sql.binary(exp.LT, left, sql.literal(right))


def _size(items: Sql) -> Sql:
    return sql.call("len", items.copy())


def _slice(items: Sql, first: Sql | int, last: Sql | int) -> Sql:
    """The items from first to last, counted from 1, both included."""
    return sql.call("list_slice", items.copy(), first, last)


def _with_items(array: Sql, body: Callable[[Sql], Sql]) -> Sql:
    """`body` over the list of the array's elements, as a JSON array; null of what is no array."""
    return sql.let(
        elements(array),
        "th_items",
        lambda items: sql.case((sql.is_null(items), exp.Null()), otherwise=sql.array(body(items.copy()))),
    )


def _items(array: Sql) -> Sql:
    """The elements; none of what is no array."""
    # The engine takes the elements of a constant null for one JSON value.
    return exp.Cast(
        this=sql.coalesce(elements(array), exp.Array()), to=exp.DataType.build("JSON[]", dialect="duckdb")
    )


def _all_arrays(arrays: tuple[Sql, ...], value: Sql) -> Sql:
    missing = [sql.is_null(elements(array.copy())) for array in arrays]
    return sql.case((sql.any_of(*missing), exp.Null()), otherwise=value)


@scalar()
def array_concat(*arrays: Dynamic) -> Dynamic:
    """The elements of all arrays, one array after the other.

    >>> array_concat(dynamic([1, 2]), dynamic(["a"]))
    [1,2,"a"]
    """
    return sql.array(sql.call("flatten", exp.Array(expressions=[_items(array) for array in arrays])))


_FAR = 2**31
"""A place that no array has."""


@scalar()
def array_slice(array: Dynamic, start: Long, end: Long) -> Dynamic:
    """The elements from start to end, both included; negative places count from the end.

    >>> array_slice(dynamic([1, 2, 3, 4, 5]), 1, 2)
    [2,3]
    >>> array_slice(dynamic([1, 2, 3, 4, 5]), -3, -2)
    [3,4]
    """

    def place(items: Sql, at: Sql) -> Sql:
        back = sql.call("greatest", _plus(_plus(_size(items), at.copy()), 1), 0)
        far = sql.binary(exp.GT, at.copy(), sql.literal(_FAR))
        return sql.case((_less(at.copy(), 0), back), (far, sql.literal(_FAR)), otherwise=_plus(at.copy(), 1))

    def part(items: Sql) -> Sql:
        return _slice(items, sql.call("greatest", place(items, start), 1), place(items, end))

    return _with_items(array, part)


@scalar()
def array_reverse(array: Dynamic) -> Dynamic:
    """The elements in reverse order.

    >>> array_reverse(dynamic([1, 2, 3]))
    [3,2,1]
    """
    return _with_items(array, lambda items: sql.call("list_reverse", items))


@scalar()
def array_index_of(
    array: Dynamic,
    value: AnyArg,
    start: Long | None = None,
    length: Long | None = None,
    occurrence: Long | None = None,
) -> Long:
    """The place of a value in the array, or -1; sought from `start` in `length` elements (-1: all).

    >>> array_index_of(dynamic(["this", "is", "an"]), "an")
    2
    >>> array_index_of(dynamic(["an", "is", "an"]), "an", 0, -1, 2)
    2
    >>> array_index_of(dynamic([1, 2]), 3)
    -1
    """
    wanted = json_value(value)

    def place(items: Sql) -> Sql:
        if start is None:
            return sql.call("list_position", items, wanted)
        back = sql.call("greatest", _plus(_size(items), start.copy()), 0)
        first = sql.case((_less(start.copy(), 0), back), otherwise=start.copy())

        def fits(at: Sql) -> Sql:
            tests: list[Sql] = [
                sql.binary(exp.EQ, sql.call("list_extract", items.copy(), at), wanted.copy()),
                sql.binary(exp.GT, at.copy(), first.copy()),
            ]
            if length is not None:
                unlimited = sql.binary(exp.EQ, length.copy(), sql.literal(-1))
                near = sql.binary(exp.LTE, sql.binary(exp.Sub, at.copy(), first.copy()), length.copy())
                tests.append(exp.Paren(this=sql.any_of(unlimited, near)))
            return sql.all_of(*tests)

        places = sql.keep(sql.call("range", sql.literal(1), _plus(_size(items), 1)), "th_place", fits)
        return sql.call("list_extract", places, occurrence if occurrence is not None else 1)

    found = sql.let(_items(array), "th_items", place)
    result = sql.cast(_minus(sql.coalesce(found, sql.literal(0)), 1), KqlType.LONG)
    wrong = [_less(arg.copy(), least) for arg, least in ((length, -1), (occurrence, 0)) if arg is not None]
    return sql.case((sql.any_of(*wrong), exp.Null()), otherwise=result) if wrong else result


def _key(item: Sql) -> Sql:
    """What an element sorts by: numbers first, then text, then the rest."""
    number = sql.case(
        (
            exp.In(
                this=sql.call("json_type", item.copy()),
                expressions=[sql.literal(t) for t in ("BIGINT", "UBIGINT", "DOUBLE")],
            ),
            sql.try_cast(sql.call("json_extract_string", item.copy(), "$"), KqlType.REAL),
        ),
        otherwise=exp.Null(),
    )
    text = sql.binary(exp.EQ, sql.call("json_type", item.copy()), sql.literal("VARCHAR"))
    kind = sql.case(
        (sql.negate(sql.is_null(number)), sql.literal(1)), (text, sql.literal(2)), otherwise=sql.literal(3)
    )
    return struct(
        kind=kind,
        number=sql.coalesce(number.copy(), sql.literal(0)),
        text=sql.text(sql.call("json_extract_string", item.copy(), "$")),
        item=item.copy(),
    )


def _sorted(array: Sql, nulls_last: Sql | None, order: str) -> Sql:
    def body(items: Sql) -> Sql:
        nulls = sql.keep(items.copy(), "th_item", sql.is_json_null)
        values = sql.keep(items.copy(), "th_item", lambda item: sql.negate(sql.is_json_null(item)))
        keys = sql.call("list_sort", sql.each(values, "th_item", _key), order)
        ordered = sql.each(keys, "th_key", lambda key: sql.field(key, "item"))
        last = sql.call("list_concat", ordered, nulls)
        if nulls_last is None:
            return last
        first = sql.call("list_concat", nulls.copy(), ordered.copy())
        return sql.case((nulls_last, last), otherwise=first)

    return _with_items(array, body)


def _sorted_together(array: Sql, others: tuple[Arg, ...], *, descending: bool) -> Sql:
    last = others[-1]
    given = others[:-1] if last.type is KqlType.BOOL else others
    if any(other.type is not KqlType.DYNAMIC for other in given):
        raise BindingError("array_sort_asc() and array_sort_desc() take arrays, and at last a bool")
    nulls_last = last.sql if last.type is KqlType.BOOL else exp.true()
    arrays = sql.call("json_array", array, *[other.sql for other in given])
    flags = exp.true() if descending else exp.false()
    return arrays_sorted.overloads[0].build(arrays, flags, nulls_last)


@python("arrays_sorted", internal=True)
def arrays_sorted(arrays: Json, descending: Flag, nulls_last: Flag) -> Json | None:
    """Arrays in the order that sorts the first."""
    if not isinstance(arrays, list) or not isinstance(arrays[0], list):
        return None
    first = arrays[0]
    nulls = [place for place, item in enumerate(first) if item is None]
    values = [place for place, item in enumerate(first) if item is not None]
    values.sort(key=lambda place: _rank(first[place]), reverse=descending)
    order = values + nulls if nulls_last else nulls + values
    return [
        [array[place] for place in order] if isinstance(array, list) and len(array) == len(first) else None
        for array in arrays
    ]


def _rank(item: object) -> tuple[int, float, str]:
    """What an element sorts by, as `_key` in SQL."""
    if isinstance(item, int | float) and not isinstance(item, bool):
        return 1, item, ""
    return (2, 0, item) if isinstance(item, str) else (3, 0, str(item))


@scalar(column_each="sorted")
def array_sort_asc(array: Dynamic, nulls_last: Bool | None = None) -> Dynamic:
    """The elements from small to large: numbers, then text; nulls at the end unless `nulls_last` is false.

    >>> array_sort_asc(dynamic([10, null, 9, "b", "a"]))
    [9,10,"a","b",null]
    >>> array_sort_asc(dynamic([null, 2, 1]), false)
    [null,1,2]

    Further arrays follow the first; one of another length becomes null. Each gives a column of its own.

    >>> array_sort_asc(dynamic([2, 1]), dynamic(["b", "a"]))[1]
    ["a","b"]
    """
    return _sorted(array, nulls_last, "ASC")


@array_sort_asc.overload
def _(array: Dynamic, *others: AnyArg) -> Dynamic:
    return _sorted_together(array, others, descending=False)


@scalar(column_each="sorted")
def array_sort_desc(array: Dynamic, nulls_last: Bool | None = None) -> Dynamic:
    """The elements from large to small; nulls at the end unless `nulls_last` is false.

    >>> array_sort_desc(dynamic([9, null, 10]))
    [10,9,null]
    """
    return _sorted(array, nulls_last, "DESC")


@array_sort_desc.overload
def _(array: Dynamic, *others: AnyArg) -> Dynamic:
    return _sorted_together(array, others, descending=True)


@scalar()
def array_sum(array: Dynamic) -> Real:
    """The sum of an array of numbers; null if an element is none.

    >>> array_sum(dynamic([1, 2.5]))
    3.5
    >>> array_sum(dynamic([1, "a"]))
    null
    """

    def total(items: Sql) -> Sql:
        texts = sql.each(items, "th_item", lambda item: sql.call("json_extract_string", item, "$"))
        numbers = sql.each(texts, "th_text", lambda text: sql.try_cast(text, KqlType.REAL))
        return sql.let(
            numbers,
            "th_numbers",
            lambda found: sql.case(
                (
                    sql.binary(exp.EQ, sql.call("list_count", found), _size(found)),
                    sql.coalesce(sql.call("list_sum", found.copy()), sql.cast(sql.literal(0), KqlType.REAL)),
                ),
                otherwise=exp.Null(),
            ),
        )

    return sql.let(elements(array), "th_items", total)


def _split_at(items: Sql, places: Sql) -> Sql:
    """The parts of the items between these places (a list; negative ones count from the end)."""

    def fixed(at: Sql) -> Sql:
        back = sql.call("greatest", _plus(_size(items), at.copy()), 0)
        return sql.case((_less(at, 0), back), otherwise=sql.call("least", at.copy(), _size(items)))

    bounds = sql.call(
        "list_concat",
        exp.Array(expressions=[sql.cast(sql.literal(0), KqlType.LONG)]),
        sql.each(places, "th_at", fixed),
        exp.Array(expressions=[sql.cast(_size(items), KqlType.LONG)]),
    )

    def parts(edges: Sql) -> Sql:
        def part(place: Sql) -> Sql:
            left = sql.call("list_extract", edges.copy(), place)
            right = sql.call("list_extract", edges.copy(), _plus(place.copy(), 1))
            return _slice(items, _plus(left, 1), right)

        return sql.each(sql.call("range", 1, _size(edges)), "th_part", part)

    return sql.let(bounds, "th_edges", parts)


@scalar()
def array_split(array: Dynamic, index: Long) -> Dynamic:
    """The array cut at an index, or at each index of an array, as an array of arrays.

    >>> array_split(dynamic([1, 2, 3, 4, 5]), 2)
    [[1,2],[3,4,5]]
    >>> array_split(dynamic([1, 2, 3, 4, 5]), dynamic([1, 3]))
    [[1],[2,3],[4,5]]
    """
    return _with_items(array, lambda items: _split_at(items, exp.Array(expressions=[index])))


@array_split.overload
def _(array: Dynamic, indices: Dynamic) -> Dynamic:
    places = sql.each(_items(indices), "th_index", lambda item: sql.try_cast(item, KqlType.LONG))
    return _with_items(array, lambda items: _split_at(items, places))


def _rotated(items: Sql, count: Sql, *, to_left: bool) -> Sql:
    """The items moved round; a negative count moves the other way."""
    size = sql.call("greatest", _size(items), 1)
    turn = sql.floor_mod(count, size)
    first = turn if to_left else sql.binary(exp.Sub, size.copy(), turn)
    rotated = sql.call(
        "list_concat", _slice(items, _plus(first, 1), _size(items)), _slice(items, 1, first.copy())
    )
    return sql.case((sql.negate(sql.is_null(count.copy())), rotated), otherwise=exp.Null())


@scalar()
def array_rotate_left(array: Dynamic, count: Long) -> Dynamic:
    """The elements moved to the left; those pushed out come back at the right.

    >>> array_rotate_left(dynamic([1, 2, 3, 4, 5]), 2)
    [3,4,5,1,2]
    >>> array_rotate_left(dynamic([1, 2, 3, 4, 5]), -2)
    [4,5,1,2,3]
    """
    return _with_items(array, lambda items: _rotated(items, count, to_left=True))


@scalar()
def array_rotate_right(array: Dynamic, count: Long) -> Dynamic:
    """The elements moved to the right; those pushed out come back at the left.

    >>> array_rotate_right(dynamic([1, 2, 3, 4, 5]), 2)
    [4,5,1,2,3]
    """
    return _with_items(array, lambda items: _rotated(items, count, to_left=False))


def _shifted(items: Sql, count: Sql, filler: Sql, *, to_left: bool) -> Sql:
    """The items moved and filled up; a negative count moves the other way."""
    size = _size(items)
    # Bounded before its sign goes: the smallest number has no positive one beside it.
    bounded = sql.call("greatest", count.copy(), exp.Neg(this=size.copy()))
    gap = sql.call("least", exp.Abs(this=bounded), size)
    fill = sql.each(sql.call("range", gap), "th_gap", lambda _: filler)
    left = sql.call("list_concat", _slice(items, _plus(gap.copy(), 1), size.copy()), fill)
    right = sql.call("list_concat", fill.copy(), _slice(items, 1, _minus(size.copy(), gap.copy())))
    forth, back = (left, right) if to_left else (right, left)
    return sql.case((_less(count.copy(), 0), back), otherwise=forth)


@scalar()
def array_shift_left(array: Dynamic, count: Long, default: AnyArg | None = None) -> Dynamic:
    """The elements moved to the left; the places left free are null or the default.

    >>> array_shift_left(dynamic([1, 2, 3, 4, 5]), 2)
    [3,4,5,null,null]
    >>> array_shift_left(dynamic([1, 2, 3, 4, 5]), -2, -1)
    [-1,-1,1,2,3]
    """
    filler = sql.null(KqlType.DYNAMIC) if default is None else json_value(default)
    return _with_items(array, lambda items: _shifted(items, count, filler, to_left=True))


@scalar()
def array_shift_right(array: Dynamic, count: Long, default: AnyArg | None = None) -> Dynamic:
    """The elements moved to the right; the places left free are null or the default.

    >>> array_shift_right(dynamic([1, 2, 3, 4, 5]), 2)
    [null,null,1,2,3]
    """
    filler = sql.null(KqlType.DYNAMIC) if default is None else json_value(default)
    return _with_items(array, lambda items: _shifted(items, count, filler, to_left=False))


@scalar(aliases=("array_iif",))
def array_iff(condition: Dynamic, when_true: AnyArg, when_false: AnyArg) -> Dynamic:
    """For each condition the element of the first array where it is true, else of the second.

    >>> array_iff(dynamic([true, false, true]), dynamic([1, 2, 3]), dynamic([4, 5, 6]))
    [1,5,3]
    >>> array_iff(dynamic([true, false]), "yes", "no")
    ["yes","no"]
    >>> array_iff(dynamic([1, 0, "neither truth nor number", null]), "yes", "no")
    ["yes","no",null,null]
    """

    def element(of: AnyArg, place: Sql) -> Sql:
        if of.type is not KqlType.DYNAMIC:
            return json_value(of)
        found = sql.call("list_extract", elements(of.sql), place.copy())
        is_array = sql.binary(exp.EQ, sql.call("json_type", of.sql.copy()), sql.literal("ARRAY"))
        return sql.case((is_array, found), otherwise=of.sql.copy())

    def chosen(items: Sql) -> Sql:
        def one(place: Sql) -> Sql:
            item = sql.call("list_extract", items.copy(), place.copy())
            test = sql.call("json_extract_string", item, "$")
            number = sql.try_cast(test, KqlType.REAL)
            yes = exp.Paren(
                this=sql.any_of(
                    sql.binary(exp.EQ, test, sql.literal("true")),
                    sql.coalesce(sql.binary(exp.NEQ, number, sql.literal(0)), exp.false()),
                )
            )
            neither = [
                sql.binary(exp.EQ, sql.call("json_type", item.copy()), sql.literal(kind))
                for kind in ("VARCHAR", "ARRAY", "OBJECT")
            ]
            unknown = sql.any_of(sql.is_null(test.copy()), *neither)
            return sql.case(
                (unknown, exp.Null()), (yes, element(when_true, place)), otherwise=element(when_false, place)
            )

        return sql.each(sql.call("range", sql.literal(1), _plus(_size(items), 1)), "th_place", one)

    return _with_items(condition, chosen)


@scalar("zip")
def zip_(*arrays: Dynamic) -> Dynamic:
    """An array of the arrays of elements at the same place; a short array is filled up with null.

    >>> zip(dynamic([1, 3, 5]), dynamic([2, 4]))
    [[1,2],[3,4],[5,null]]
    """
    sizes = [sql.call("coalesce", _size(elements(array)), 0) for array in arrays]
    places = sql.call("range", sql.literal(1), _plus(sql.call("greatest", *sizes), 1))

    def row(place: Sql) -> Sql:
        return exp.Array(
            expressions=[sql.call("list_extract", _items(array.copy()), place.copy()) for array in arrays]
        )

    return sql.array(sql.each(places, "th_place", row))


# --- sets --------------------------------------------------------------------------------------------------


def _distinct(items: Sql) -> Sql:
    """The different items in order, so that two runs give the same text."""
    return sql.call("list_sort", sql.call("list_distinct", items))


@scalar()
def set_union(*sets: Dynamic) -> Dynamic:
    """The different elements of all arrays.

    >>> set_union(dynamic([1, 2, 2]), dynamic([2, 3]))
    [1,2,3]
    """
    every = sql.call("flatten", exp.Array(expressions=[_items(array) for array in sets]))
    return _all_arrays(sets, sql.array(_distinct(every)))


@scalar()
def set_intersect(*sets: Dynamic) -> Dynamic:
    """The different elements that stand in every array.

    >>> set_intersect(dynamic([1, 2, 3]), dynamic([3, 2, 9]))
    [2,3]
    """
    common = elements(sets[0])
    for array in sets[1:]:
        common = sql.call("list_intersect", common, elements(array))
    return _all_arrays(sets, sql.array(_distinct(common)))


@scalar()
def set_difference(*sets: Dynamic) -> Dynamic:
    """The different elements of the first array that stand in none of the others.

    >>> set_difference(dynamic([1, 2, 3]), dynamic([2]))
    [1,3]
    """
    others = sql.call("flatten", exp.Array(expressions=[_items(array) for array in sets[1:]]))

    def alone(item: Sql) -> Sql:
        return sql.negate(sql.call("list_contains", others, item))

    return _all_arrays(sets, sql.array(sql.keep(_distinct(elements(sets[0])), "th_item", alone)))


@scalar()
def set_has_element(array: Dynamic, value: AnyArg) -> Bool:
    """Is the value an element of the array?

    >>> set_has_element(dynamic(["this", "is"]), "is")
    True
    >>> set_has_element(dynamic([1, 2]), 3)
    False
    """
    return sql.coalesce(sql.call("list_contains", elements(array), json_value(value)), exp.false())


@scalar()
def set_equals(left: Dynamic, right: Dynamic) -> Bool:
    """Do two arrays hold the same elements, whatever their order and number?

    >>> set_equals(dynamic([1, 2]), dynamic([2, 1, 1]))
    True
    """
    return sql.binary(exp.EQ, _distinct(elements(left)), _distinct(elements(right)))


@scalar()
def jaccard_index(left: Dynamic, right: Dynamic) -> Real:
    """The size of two sets' intersection by that of their union.

    >>> jaccard_index(dynamic([1, 2, 3]), dynamic([1, 2, 3, 4]))
    0.75
    """
    both = sql.call("len", sql.call("list_intersect", elements(left), elements(right)))
    every = sql.call("list_distinct", sql.call("list_concat", elements(left.copy()), elements(right.copy())))
    share = sql.binary(exp.Div, sql.cast(both, KqlType.REAL), sql.cast(sql.call("len", every), KqlType.REAL))
    return _all_arrays((left, right), share)


# --- series of values --------------------------------------------------------------------------------------


def _series(start: Sql, stop: Sql, step: Sql) -> Sql:
    """start, start + step ... up to stop, at most a million or so of them."""
    pace = exp.cast(step.copy(), "INT128")
    last = _plus(start.copy(), sql.binary(exp.Mul, pace, sql.literal(_LIMIT - 1)))
    ascending = sql.binary(exp.GT, step.copy(), sql.literal(0))
    limit = sql.case(
        (ascending, sql.call("least", stop, last)), otherwise=sql.call("greatest", stop.copy(), last.copy())
    )
    given = sql.case((sql.is_null(stop.copy()), exp.Null()), otherwise=limit)
    return sql.call("generate_series", start, _long(given), step)


def _long(value: Sql) -> Sql:
    return sql.cast(value, KqlType.LONG)


@scalar("range")
def range_(start: Integer, stop: Integer, step: Integer | None = None) -> Dynamic:
    """An array of equally spaced numbers, datetimes or timespans; without a step 1 or an hour apart.

    >>> range(1, 8, 3)
    [1,4,7]
    >>> range(1h, 3h)
    ["01:00:00","02:00:00","03:00:00"]
    >>> range(0.5, 2.0, 0.5)
    [0.5,1.0,1.5,2.0]
    """
    return sql.array(_series(_long(start), _long(stop), _long(sql.literal(1) if step is None else step)))


@range_.overload
def _(start: Number, stop: Number, step: Number | None = None) -> Dynamic:
    first, last, pace = [
        sql.cast(part, KqlType.REAL) for part in (start, stop, sql.literal(1) if step is None else step)
    ]
    count = exp.Floor(this=sql.binary(exp.Div, _minus(last, first), pace))
    places = _series(_long(sql.literal(0)), sql.try_cast(count, KqlType.LONG), _long(sql.literal(1)))
    return sql.array(
        sql.each(
            places, "th_place", lambda place: _plus(first.copy(), sql.binary(exp.Mul, place, pace.copy()))
        )
    )


@range_.overload
def _(start: Timespan, stop: Timespan, step: Timespan | None = None) -> Dynamic:
    ticks = _series(start, stop, _long(sql.literal(_HOUR)) if step is None else step)
    return sql.array(sql.each(ticks, "th_ticks", timespan_parts))


@range_.overload
def _(start: Datetime, stop: Datetime, step: Timespan | None = None) -> Dynamic:
    pace = sql.literal(_HOUR) if step is None else step
    micros = _series(
        sql.epoch_us(start), sql.epoch_us(stop), _long(sql.binary(exp.IntDiv, pace, sql.literal(10)))
    )
    return sql.array(sql.each(micros, "th_micros", lambda at: iso(sql.call("make_timestamp", at))))
