"""Text. Positions count from 0; regular expressions are RE2's."""

from __future__ import annotations

import re

from sqlglot import exp

from trailhawk.errors import UnsupportedError
from trailhawk.kql.functions import expressions, sql
from trailhawk.kql.functions.dynamic import elements, json_pointer, json_value, texts
from trailhawk.kql.functions.operators import has
from trailhawk.kql.functions.python import Json, python
from trailhawk.kql.functions.python import Text as PlainText
from trailhawk.kql.functions.registry import (
    AnyArg,
    Arg,
    Bool,
    Datetime,
    Decimal,
    Dynamic,
    DynamicArg,
    Int,
    Integer,
    IntegerArg,
    Long,
    NeedsConstantError,
    Number,
    NumberArg,
    Sql,
    String,
    StringArg,
    Text,
    Timespan,
    scalar,
)
from trailhawk.kql.types import TICKS_PER_DAY, TICKS_PER_SECOND, KqlType


def _known(arg: Arg | None) -> int | None:
    """The value of a constant whole number."""
    return arg.value if arg is not None and isinstance(arg.value, int) else None


def _constant(arg: Arg, what: str) -> str:
    """The text of an argument that has to be a constant."""
    if not isinstance(arg.value, str):
        raise NeedsConstantError(f"{what} that is not a constant")
    return arg.value


def _plus(value: Sql, number: int) -> Sql:
    return sql.binary(exp.Add, value, sql.literal(number))


def _is(left: Sql, right: Sql | str | int) -> Sql:
    return sql.binary(exp.EQ, left, sql.literal(right))


def _length(value: Sql) -> Sql:
    return sql.call("length", value.copy())


# --- joining and cutting -----------------------------------------------------------------------------------


@scalar()
def strcat(*values: Text) -> String:
    """The values as text, one after the other.

    >>> strcat("i-", 12, ":", 1h)
    i-12:01:00:00
    >>> strcat("a", int(null), "b")
    ab
    """
    return sql.joined(*values)


@scalar()
def strcat_delim(delimiter: Text, value: Text, *values: Text) -> String:
    """The values as text with a delimiter between them.

    >>> strcat_delim("-", 1, "2", "", 1s)
    1-2--00:00:01
    """
    return sql.call("concat_ws", delimiter, value, *values)


@scalar(aliases=("array_strcat",))
def strcat_array(array: Dynamic, delimiter: Text) -> String:
    """The elements of an array as text with a delimiter between them.

    >>> strcat_array(dynamic([1, 2, "x"]), "->")
    1->2->x
    >>> strcat_array(dynamic([]), ",") == ""
    True
    >>> strcat_array(dynamic("abc"), ",")
    abc
    """
    joined = _joined(sql.each(texts(array), "th_item", sql.text), delimiter)
    return sql.coalesce(joined, sql.text(sql.call("json_extract_string", array.copy(), "$")))


def _joined(items: Sql, delimiter: Sql) -> Sql:
    """The texts with a delimiter between them."""
    if sql.string_value(delimiter) is not None:
        return sql.call("array_to_string", items, delimiter)
    # The engine joins with a constant only: one that no text holds gives way to the delimiter.
    return sql.call("replace", sql.call("array_to_string", items, "\U0010ffff"), "\U0010ffff", delimiter)


@scalar(name_after="strlen")
def strlen(source: String) -> Long:
    """The number of characters.

    >>> strlen("hello")
    5
    >>> strlen("⒦⒰⒮⒯⒪")
    5
    """
    return sql.call("length", source)


@scalar(name_after="string_size")
def string_size(source: String) -> Long:
    """The number of bytes in UTF-8.

    >>> string_size("⒦⒰⒮⒯⒪")
    15
    """
    return sql.call("strlen", source)


_MOST_PLACES = 2**31 - 2


def _bounded(number: Sql) -> Sql:
    """A start, length or count, at most as large as texts are long: the engine takes none far larger."""
    if isinstance(number, exp.Literal):
        return sql.literal(min(int(number.this), _MOST_PLACES))
    beyond = sql.binary(exp.GT, number.copy(), sql.literal(_MOST_PLACES))
    return sql.case((beyond, sql.literal(_MOST_PLACES)), otherwise=sql.cast(number.copy(), KqlType.LONG))


def _from(source: Sql, start: Arg) -> Sql:
    """The start counted from 1; a negative one counts from the end, and before the text there is nothing."""
    known = _known(start)
    given = _bounded(start.sql)
    if known is not None and known >= 0:
        return _plus(given, 1)
    counted = _plus(sql.binary(exp.Add, _length(source), given), 1)
    there = sql.binary(exp.GTE, counted, sql.literal(1))
    back = sql.case((there, counted.copy()), otherwise=_plus(_length(source), 1))
    if known is not None:
        return back
    forth = sql.binary(exp.GTE, given.copy(), sql.literal(0))
    return sql.case((forth, _plus(given.copy(), 1)), otherwise=back)


@scalar()
def substring(source: Text, start: IntegerArg, length: IntegerArg | None = None) -> String:
    """A part of the text, from `start` for `length` characters; a negative start counts from the end.

    >>> substring("123456", 2, 2)
    34
    >>> substring("123456", 1)
    23456
    >>> substring("123456", -2)
    56
    >>> substring("abc", 5) == "" and substring("abc", -5) == ""
    True
    """
    parts = [_from(source, start)]
    if length is not None:
        known, size = _known(length), _bounded(length.sql)
        parts.append(size if known is not None and known >= 0 else sql.call("greatest", size, 0))
    return sql.text(sql.call("substring", source, *parts))


@scalar()
def tolower(source: Text) -> String:
    """The text in lower case.

    >>> tolower("GetObject")
    getobject
    """
    return sql.lower(source)


@scalar()
def toupper(source: Text) -> String:
    """The text in upper case.

    >>> toupper("GetObject")
    GETOBJECT
    """
    return exp.Upper(this=source)


@scalar()
def reverse(source: Text) -> String:
    """The text backwards.

    >>> reverse(12345)
    54321
    """
    return sql.call("reverse", source)


def _places(source: Sql, match: Sql) -> Sql:
    """The list of the positions of a text, overlapping ones too, counted from 0."""

    def stands_at(place: Sql) -> Sql:
        return _is(sql.call("substring", source.copy(), _plus(place, 1), _length(match)), match.copy())

    inside = sql.call("greatest", _plus(sql.binary(exp.Sub, _length(source), _length(match)), 1), 0)
    return sql.keep(sql.call("range", inside), "th_place", stands_at)


def _size_of(length: Arg) -> Sql:
    """The number of characters to look at; -1 is all."""
    known, size = _known(length), _bounded(length.sql)
    if known is not None:
        return size if known >= 0 else sql.literal(0)
    every = sql.literal(_MOST_PLACES)
    return sql.case((_is(length.sql, -1), every), otherwise=sql.call("greatest", size, 0))


@scalar()
def indexof(
    source: Text,
    match: Text,
    start: IntegerArg | None = None,
    length: IntegerArg | None = None,
    occurrence: IntegerArg | None = None,
) -> Long:
    """The position of a text in the source, or -1; sought from `start` within `length` characters (-1: all).

    >>> indexof("abcdefg", "cde")
    2
    >>> indexof("abcdefg", "cde", 1, 2)
    -1
    >>> indexof("abcdefg", "cde", -5)
    2
    >>> indexof("abcdefgabcdefg", "cde", 1, 10, 2)
    9
    """
    if start is None:
        return sql.binary(exp.Sub, sql.call("strpos", source, match), sql.literal(1))
    size = None if length is None or _known(length) == -1 else _size_of(length)

    def after(place: Sql) -> Sql:
        """The place of the next match after this one; -2 if there is none."""
        parts = [_plus(place.copy(), 2), *([] if size is None else [size.copy()])]
        found = sql.call("strpos", sql.call("substring", source.copy(), *parts), match.copy())
        gone = sql.any_of(sql.binary(exp.LT, place.copy(), sql.literal(-1)), _is(found, 0))
        return sql.case((gone, sql.literal(-2)), otherwise=sql.binary(exp.Add, place.copy(), found.copy()))

    before = sql.cast(sql.binary(exp.Sub, _from(source, start), sql.literal(2)), KqlType.LONG)
    if occurrence is None:
        place = sql.let(before, "th_place", after)
    else:
        # Each match is sought in `length` characters after the one before, as Kusto does.
        step = exp.Lambda(
            this=sql.cast(after(exp.column("th_place")), KqlType.LONG),
            expressions=[exp.to_identifier("th_place"), exp.to_identifier("th_number")],
        )
        too_many = sql.binary(exp.GT, occurrence.sql, _plus(_length(source), 1))
        # The engine computes constants in all branches before it looks which one is taken.
        steps = sql.call("range", sql.case((too_many, sql.literal(0)), otherwise=occurrence.sql.copy()))
        place = sql.call("list_reduce", steps, step, before)
        place = sql.case((too_many.copy(), sql.literal(-1)), otherwise=place)
    found = sql.cast(sql.call("greatest", place, -1), KqlType.LONG)
    wrong = [
        sql.binary(exp.LT, arg.sql.copy(), sql.literal(least))
        for arg, least in ((length, -1), (occurrence, 0))
        if arg is not None and ((known := _known(arg)) is None or known < least)
    ]
    return sql.case((sql.any_of(*wrong), exp.Null()), otherwise=found) if wrong else found


_MARK = "\U0010fffe"


@scalar()
def indexof_regex(
    source: Text,
    regex: String,
    start: Integer | None = None,
    length: Integer | None = None,
    occurrence: Integer | None = None,
) -> Long:
    """The position of a match of a regular expression, or -1: the first, or that number `occurrence`.

    Sought from `start` in `length` characters (-1: all); matches do not overlap. A start before the text,
    a length below -1 or a negative occurrence gives null.

    >>> indexof_regex("abcabc", "c.b")
    2
    >>> indexof_regex("abc", "[0-9]")
    -1
    >>> indexof_regex("abcabcdefg", "a.c", 0, 9, 2)
    3
    >>> indexof_regex("ababaa", "a.a", 0, -1, 2)
    -1
    >>> indexof_regex("abcabc", "a.c", 1, 4)
    -1
    >>> indexof_regex("abcabc", "b", -2)
    null
    >>> indexof_regex("abcabc", "b", 0, -2)
    null
    >>> indexof_regex("abcabc", "b", 0, -1, -1)
    null
    """
    regex = expressions.regex(regex)
    if start is None:
        before = sql.call("regexp_extract", source, sql.joined("(?s:^(.*?))(?:", regex, ")"), 1)
        found = expressions.matches(source.copy(), regex.copy())
        return sql.case((found, _length(before)), otherwise=sql.literal(-1))
    start = _bounded(start)
    nth = sql.literal(1) if occurrence is None else _bounded(occurrence)
    part: Sql = sql.call("substr", source, _plus(start, 1))
    if length is not None:
        all_ = sql.binary(exp.LT, length, sql.literal(0))
        of_length = sql.call("substr", source.copy(), _plus(start.copy(), 1), _bounded(length))
        part = sql.case((all_, part), otherwise=of_length)
    # A mark that no text holds stands before each match; the pieces between marks tell the places.
    marked = sql.call("regexp_replace", part, sql.joined("(?:", regex, ")"), f"{_MARK}\\0", "g")

    def place(pieces: Sql) -> Sql:
        before = sql.call("list_slice", pieces, 1, nth)
        length_before = sql.call("length", sql.call("array_to_string", before, ""))
        known = sql.all_of(
            sql.binary(exp.GT, sql.call("len", pieces.copy()), nth.copy()),
            sql.binary(exp.GT, nth.copy(), sql.literal(0)),
        )
        return sql.case((known, sql.binary(exp.Add, length_before, start.copy())), otherwise=sql.literal(-1))

    wrong = [
        sql.binary(exp.LT, value.copy(), sql.literal(least))
        for value, least in ((start, 0), (length, -1), (occurrence, 0))
        if value is not None
    ]
    nth_place = sql.let(sql.call("string_split", marked, _MARK), "th_pieces", place)
    return sql.case((sql.any_of(*wrong), exp.Null()), otherwise=nth_place)


def _overlaps_itself(text: str) -> bool:
    return any(text.startswith(text[shift:]) for shift in range(1, len(text)))


@scalar()
def countof(source: String, search: StringArg, kind: StringArg | None = None) -> Long:
    """How often a text stands in the source, overlaps counted; with kind "regex" how often it matches.

    An empty text stands nowhere.

    >>> countof("aaaa", "aa")
    3
    >>> countof("abc", "")
    0
    >>> countof("ababa", "ab")
    2
    >>> countof("ababa", "aba", "regex")
    1
    """
    if kind is not None and _constant(kind, "a kind of countof()").lower() == "regex":
        return sql.cast(
            sql.call("len", sql.call("regexp_extract_all", source, expressions.regex(search.sql))),
            KqlType.LONG,
        )
    if search.value == "":
        return sql.case((sql.is_null(source), exp.Null()), otherwise=sql.cast(sql.literal(0), KqlType.LONG))
    if not isinstance(search.value, str):
        found = sql.call("len", _places(source, search.sql))
        return sql.cast(sql.case((_is(search.sql.copy(), ""), sql.literal(0)), otherwise=found), KqlType.LONG)
    if _overlaps_itself(search.value):
        return sql.cast(sql.call("len", _places(source, search.sql)), KqlType.LONG)
    without = sql.call("replace", source.copy(), search.sql, "")
    gone = sql.binary(exp.Sub, _length(source), _length(without))
    return sql.binary(exp.IntDiv, gone, sql.literal(len(search.value)))


@scalar(name_after="")
def split(source: Text, delimiter: StringArg, index: IntegerArg | None = None) -> Dynamic:
    """The parts of the text between delimiters; with an index an array of that part alone.

    >>> split("aa_bb", "_")
    ["aa","bb"]
    >>> split("aaa_bbb_ccc", "_", 1)
    ["bbb"]
    >>> split("", "_")
    [""]
    >>> split("a_b", "_", 7)
    []
    """
    parts: Sql = sql.call("string_split", source, delimiter.sql)
    if not delimiter.value:
        parts = exp.Array(expressions=[source.copy()])
    elif not isinstance(delimiter.value, str):
        whole = exp.Array(expressions=[source.copy()])
        parts = sql.case((_is(delimiter.sql.copy(), ""), whole), otherwise=parts)
    if index is None:
        return sql.array(parts)
    place = _plus(sql.call("least", index.sql, 2**31), 1)
    inside = sql.call("list_slice", parts, sql.call("greatest", place, 0), place.copy())
    return sql.array(
        sql.case((sql.binary(exp.GT, place.copy(), sql.literal(0)), inside), otherwise=exp.Array())
    )


@scalar()
def strrep(value: Text, multiplier: Long, delimiter: Text | None = None) -> String:
    """The value as text, repeated (at most 1024 times).

    >>> strrep("ABC", 2)
    ABCABC
    >>> strrep(123, 3, ".")
    123.123.123
    >>> strlen(strrep("ABC", long(null)))
    0
    """
    # The engine's least() passes over nulls.
    known = sql.coalesce(multiplier, sql.literal(0))
    times = sql.call("range", sql.call("least", known, 1024))
    copies = sql.each(times, "th_time", lambda _: value)
    return sql.text(_joined(copies, delimiter if delimiter is not None else sql.literal("")))


@scalar()
def strcmp(left: Text, right: Text) -> Long:
    """-1, 0 or 1 as the left text comes before, equals or comes after the right one.

    >>> strcmp("ABC", "abc")
    -1
    >>> strcmp("b", "a")
    1
    """
    before = sql.binary(exp.LT, left, right)
    return sql.case(
        (before, sql.literal(-1)), (_is(left.copy(), right.copy()), sql.literal(0)), otherwise=sql.literal(1)
    )


# --- replacing and extracting ------------------------------------------------------------------------------


@scalar()
def replace_string(source: String, lookup: String, rewrite: String) -> String:
    """The text with every lookup replaced.

    >>> replace_string("a.b.c", ".", "-")
    a-b-c
    """
    return sql.call("replace", source, lookup, rewrite)


@scalar()
def replace_regex(source: String, regex: String, rewrite: String) -> String:
    r"""The text with every match replaced; \\0 in the rewrite is the match, \\1 its first group.

    >>> replace_regex("arn:aws:iam", "(:)", "[\\1]")
    arn[:]aws[:]iam
    """
    return _replaced(source, regex, rewrite)


_NAMED_IN_REWRITES = tuple("0123456789\\")


def _replaced(source: Sql, pattern: Sql, rewrite: Sql) -> Sql:
    regex = expressions.regex(pattern)
    known, written = sql.string_value(regex), sql.string_value(rewrite) or ""
    hint = r"\0 is the match, \1 its first group and \\ a backslash"
    for named in re.findall(r"\\(.?)", written, re.DOTALL):
        if named not in _NAMED_IN_REWRITES:
            raise UnsupportedError("a rewrite with a backslash before neither a digit nor another", hint=hint)
        if known is not None and named != "\\" and int(named) > len(capture_groups(known)):
            raise UnsupportedError(rf"a rewrite with \{named}, a group that the expression lacks", hint=hint)
    return sql.call("regexp_replace", source, regex, rewrite, "g")


@scalar()
def replace(regex: String, rewrite: String, source: String) -> String:
    """The older spelling of replace_regex(), with the source last.

    >>> replace("[0-9]+", "#", "a1b22")
    a#b#
    """
    return _replaced(source, regex, rewrite)


@scalar()
def replace_strings(source: String, lookups: Dynamic, rewrites: Dynamic) -> String:
    """The text with each lookup replaced by its rewrite; what was put in is not replaced again.

    >>> replace_strings("cat and dog", dynamic(["cat", "dog"]), dynamic(["dog", "pigeon"]))
    dog and pigeon
    """

    # Each lookup gives way to one character for private use, and these to the rewrites at the end.
    def mark(item: Sql) -> Sql:
        return sql.call("chr", sql.binary(exp.Add, sql.cast(item, KqlType.INT), sql.literal(0x100000)))

    def fold(first: Sql, step: Sql) -> Sql:
        names = [exp.to_identifier("th_text"), exp.to_identifier("th_item")]
        items = sql.each(
            sql.call(
                "range", sql.literal(1), _plus(sql.call("coalesce", sql.call("len", texts(lookups)), 0), 1)
            ),
            "th_number",
            lambda number: sql.cast(number, KqlType.STRING),
        )
        return sql.call("list_reduce", items, exp.Lambda(this=step, expressions=names), first)

    def at(array: Sql, item: Sql) -> Sql:
        return sql.text(sql.call("list_extract", texts(array), sql.cast(item, KqlType.LONG)))

    def rewrite(item: Sql) -> Sql:
        """The rewrite of an item; one that is no text leaves the lookup as it is."""
        kind = sql.call(
            "json_type", sql.call("list_extract", elements(rewrites), sql.cast(item, KqlType.LONG))
        )
        return sql.case((_is(kind, "VARCHAR"), at(rewrites, item.copy())), otherwise=at(lookups, item.copy()))

    now, item = exp.column("th_text"), exp.column("th_item")
    marked = fold(source, sql.call("replace", now, at(lookups, item), mark(item)))
    return fold(marked, sql.call("replace", now.copy(), mark(item.copy()), rewrite(item.copy())))


@scalar()
def translate(search: StringArg, replacement: StringArg, source: String) -> String:
    """The text with each character of `search` replaced by the one at its place in `replacement`.

    A replacement that is too short goes on with its last character.

    >>> translate("krasp", "otsku", "spark")
    kusto
    >>> translate("abc", "x", "abc")
    xxx
    >>> translate("abc", "", "ab") == ""
    True
    """
    old, new = _constant(search, "a list of translate()"), _constant(replacement, "a list of translate()")
    return sql.call("translate", source, old, new.ljust(len(old), new[-1]) if new else "")


def _ends(regex: Sql, *, start: bool, end: bool) -> Sql:
    """The pattern of leading or trailing matches."""
    regex = expressions.regex(regex)
    known = sql.string_value(regex)
    parts = [p for p, wanted in (("^(?:{})+", start), ("(?:{})+$", end)) if wanted]
    if known is not None:
        return exp.Literal.string("|".join(part.replace("{}", known) for part in parts))
    pieces: list[Sql | str] = []
    for number, part in enumerate(parts):
        left, right = part.split("{}")
        pieces += [("|" if number else "") + left, regex.copy(), right]
    return sql.joined(*pieces)


@scalar()
def trim(regex: String, source: String) -> String:
    """The text without the matches of a regular expression at its start and end.

    >>> trim("--", "--https://bing.com--")
    https://bing.com
    >>> trim(@"[^\\w]+", "-  Te st1// $")
    Te st1
    >>> trim("a", "aaxaa")
    x
    """
    return sql.call("regexp_replace", source, _ends(regex, start=True, end=True), "", "g")


@scalar()
def trim_start(regex: String, source: String) -> String:
    """The text without the matches of a regular expression at its start.

    >>> trim_start("https://", "https://bing.com")
    bing.com
    """
    return sql.call("regexp_replace", source, _ends(regex, start=True, end=False), "")


@scalar()
def trim_end(regex: String, source: String) -> String:
    """The text without the matches of a regular expression at its end.

    >>> trim_end(".com", "bing.com")
    bing
    """
    return sql.call("regexp_replace", source, _ends(regex, start=False, end=True), "")


def capture_groups(regex: str) -> list[str]:
    """The capture groups of a regular expression: their names, or '' for one without."""
    outside = re.sub(r"\[\^?\]?(?:\\.|\[:\w+:\]|[^\]\\])*\]|\\Q.*?(?:\\E|$)|\\.", "", regex, flags=re.DOTALL)
    return [found[1] or "" for found in re.finditer(r"\((?:(?!\?)|\?P?<(\w+)>)", outside)]


@scalar()
def extract(regex: StringArg, group: IntegerArg, source: String) -> String:
    """What a capture group of a regular expression matches first (group 0: the whole match); '' if nothing.

    >>> extract("x=([0-9.]+)", 1, "hello x=45.6|wo")
    45.6
    >>> extract("x=([0-9.]+)", 1, "hello") == ""
    True
    >>> extract("(?<key>[a-z]+)=(?<value>[0-9]+)", 2, "x=45")
    45
    >>> extract("(a)", 12, "a") == ""
    True
    """
    number = _known(group)
    if number is None:
        raise NeedsConstantError("a capture group of extract() that is not a constant")
    if number < 0:
        return sql.literal("")
    if number > expressions.MOST_GROUPS:
        known = _constant(regex, f"a regular expression of extract() with a group {number}")
        if number > len(capture_groups(known)):  # else the engine would be given a name for each
            return sql.call("left", expressions.group(source, regex.sql, 0), 0)  # what is wrong is told still
    return sql.text(expressions.group(source, regex.sql, number))


_MOST_GROUPS = 16


@scalar(aliases=("extractall",))
def extract_all(regex: StringArg, source: String) -> Dynamic:
    """All matches of a regular expression's group; with several groups an array of each match; null if none.

    Groups can be chosen, by number or name; of a number that there is none the others count, or all groups.

    >>> extract_all("([0-9]+)", "a1b22")
    ["1","22"]
    >>> extract_all("([a-z])([0-9])", "a1b2")
    [["a","1"],["b","2"]]
    >>> extract_all("([a-z])([0-9])", dynamic([2, 5]), "a1b2")
    ["1","2"]
    >>> isnull(extract_all("([0-9]+)", "abc"))
    True
    """
    return _all_matches(regex, None, source)


@extract_all.overload
def _(regex: StringArg, groups: DynamicArg, source: String) -> Dynamic:
    return _all_matches(regex, groups, source)


def _numbered(group: object, names: list[str]) -> int:
    """The number of a capture group that is given by number or name; 0 of a number that it has not."""
    if isinstance(group, str) and group and group in names:
        return names.index(group) + 1
    if isinstance(group, int) and not isinstance(group, bool):
        return group if 1 <= group <= len(names) else 0
    shown = sql.json_text(group)
    raise UnsupportedError(f"extract_all() of the capture group {shown}, which the expression has not")


def _all_matches(regex: StringArg, groups: DynamicArg | None, source: Sql) -> Sql:
    names = capture_groups(_constant(regex, "a regular expression of extract_all()"))
    if not names:
        raise UnsupportedError("extract_all() with a regular expression without a capture group")
    if len(names) > _MOST_GROUPS:
        raise UnsupportedError(f"extract_all() with more than {_MOST_GROUPS} capture groups")
    wanted = list(range(1, len(names) + 1))
    if groups is not None:
        if not isinstance(groups.value, list):
            raise NeedsConstantError("capture groups of extract_all() that are not a constant")
        wanted = [number for item in groups.value if (number := _numbered(item, names))] or wanted
    fields = exp.Array(expressions=[sql.literal(f"g{index + 1}") for index in range(len(names))])
    matches = sql.call("regexp_extract_all", source, expressions.regex(regex.sql), fields)

    def chosen(match: Sql) -> Sql:
        found = [sql.text(sql.field(match.copy(), f"g{number}")) for number in wanted]
        return found[0] if len(found) == 1 else exp.Array(expressions=found)

    lists = sql.each(matches, "th_match", chosen)
    return sql.let(
        lists,
        "th_all",
        lambda found: sql.case(
            (_is(sql.call("len", found), 0), exp.Null()), otherwise=sql.array(found.copy())
        ),
    )


@scalar(aliases=("extractjson",))
def extract_json(path: StringArg, source: String) -> String:
    """The value at a JSON path in JSON text, as text; '' if there is none.

    >>> extract_json("$.hosts[1].AvailableMB", '{"hosts": [{}, {"AvailableMB": 12}]}')
    12
    >>> extract_json("$.a", "not json") == ""
    True
    """
    json = exp.TryCast(this=source, to=exp.DataType.build("JSON", dialect="duckdb"))
    pointer = json_pointer(_constant(path, "a path of extract_json()"))
    return sql.text(sql.call("json_extract_string", json, pointer or "$"))


@scalar()
def regex_quote(source: Text) -> String:
    r"""The text as a regular expression that matches it.

    >>> regex_quote("(so$me.Te^xt)")
    \(so\$me\.Te\^xt\)
    """
    return sql.call("regexp_escape", source)


@scalar()
def has_any_index(source: String, values: Dynamic) -> Long:
    """The index of the first of the values that is a term of the source, or -1.

    >>> has_any_index("this is an example", dynamic(["that", "example", "this"]))
    1
    >>> has_any_index("this", dynamic(["that"]))
    -1
    """
    tests = sql.each(texts(values), "th_item", lambda item: has(source, item))
    place = sql.coalesce(sql.call("list_position", tests, exp.true()), sql.literal(0))
    return sql.cast(sql.binary(exp.Sub, place, sql.literal(1)), KqlType.LONG)


# --- encodings ---------------------------------------------------------------------------------------------


@scalar()
def isascii(source: Text) -> Bool:
    """Is every character an ASCII one?

    >>> isascii("plain")
    True
    >>> isascii("é")
    False
    """
    return _is(sql.call("strlen", source), _length(source))


@scalar()
def isutf8(source: Text) -> Bool:
    """Is the text valid UTF-8? Here it always is.

    >>> isutf8("é")
    True
    """
    return _is(source, source.copy())


def _percent_encoded(source: Sql) -> Sql:
    """Percent encoding with small hexadecimal digits, as Kusto writes them."""

    def small(part: Sql) -> Sql:
        return sql.joined(sql.lower(sql.call("substring", part, 1, 2)), sql.call("substring", part.copy(), 3))

    parts = sql.call("string_split", sql.call("url_encode", source), "%")
    lowered = sql.let(
        parts,
        "th_parts",
        lambda pieces: sql.joined(
            sql.call("list_extract", pieces, 1),
            sql.call(
                "array_to_string",
                sql.each(
                    sql.call("list_slice", pieces.copy(), 2, sql.call("len", pieces.copy())),
                    "th_part",
                    lambda part: sql.joined("%", small(part)),
                ),
                "",
            ),
        ),
    )
    for old, new in (("%21", "!"), ("%28", "("), ("%29", ")"), ("%2a", "*"), ("~", "%7e")):
        lowered = sql.call("replace", lowered, old, new)
    return lowered


@scalar()
def url_encode(url: String) -> String:
    """The text percent-encoded, a space as +.

    >>> url_encode("https://www.bing.com/hello world")
    https%3a%2f%2fwww.bing.com%2fhello+world
    """
    return sql.call("replace", _percent_encoded(url), "%20", "+")


@scalar()
def url_encode_component(url: String) -> String:
    """The text percent-encoded, a space as %20.

    >>> url_encode_component("https://www.bing.com/hello world")
    https%3a%2f%2fwww.bing.com%2fhello%20world
    """
    return _percent_encoded(url)


@scalar()
def url_decode(url: String) -> String:
    """Percent-encoded text as it was; + is a space, what is no UTF-8 the sign for an unknown character.

    >>> url_decode("https%3a%2f%2fwww.bing.com%2fhello+world")
    https://www.bing.com/hello world
    >>> url_decode("..%c0%af%41%zz") == "..\ufffd\ufffdA%zz"
    True
    """
    spaced = sql.call("replace", url, "+", " ")
    decoded = sql.attempt(spaced, lambda given: sql.call("url_decode", given))
    return sql.coalesce(decoded, url_decoded_bytes.overloads[0].build(spaced.copy()))


@python("url_decoded_bytes", internal=True)
def url_decoded_bytes(url: PlainText) -> PlainText:
    """The text of bytes that are no UTF-8, which the engine refuses."""
    from urllib.parse import unquote

    return unquote(url)


@scalar(aliases=("base64_encodestring",))
def base64_encode_tostring(source: String) -> String:
    """The text in base64.

    >>> base64_encode_tostring("Kusto")
    S3VzdG8=
    """
    return sql.call("to_base64", sql.call("encode", source))


@scalar(aliases=("base64_decodestring",))
def base64_decode_tostring(source: String) -> String:
    """The text that base64 stands for; '' if it is no base64 or no UTF-8.

    >>> base64_decode_tostring("S3VzdG8=")
    Kusto
    >>> base64_decode_tostring("?") == ""
    True
    """
    return sql.text(sql.attempt(source, lambda given: sql.call("decode", sql.call("from_base64", given))))


@scalar()
def base64_decode_toarray(source: String) -> Dynamic:
    """The bytes that base64 stands for; null if it is no base64.

    >>> base64_decode_toarray("S3VzdG8=")
    [75,117,115,116,111]
    """
    digits = sql.call("hex", sql.attempt(source, lambda given: sql.call("from_base64", given)))

    def byte(place: Sql, text: Sql) -> Sql:
        start = _plus(sql.binary(exp.Mul, place, sql.literal(2)), 1)
        return sql.cast(sql.joined("0x", sql.call("substring", text, start, 2)), KqlType.INT)

    def all_bytes(text: Sql) -> Sql:
        places = sql.call("range", sql.binary(exp.IntDiv, _length(text), sql.literal(2)))
        return sql.array(sql.each(places, "th_place", lambda place: byte(place, text)))

    return sql.let(digits, "th_hex", all_bytes)


@scalar()
def base64_encode_fromarray(array: Dynamic) -> String:
    """Bytes in base64; '' of what is no array of bytes.

    >>> base64_encode_fromarray(dynamic([75, 117, 115, 116, 111]))
    S3VzdG8=
    """
    digits = sql.each(
        texts(array), "th_byte", lambda byte: sql.call("format", "{:02x}", sql.try_cast(byte, KqlType.INT))
    )
    text = sql.call("array_to_string", digits, "")
    return sql.text(sql.attempt(text, lambda given: sql.call("to_base64", sql.call("from_hex", given))))


def _digest(name: str, source: Sql) -> Sql:
    """A hash in hexadecimal digits; of no text there is none."""
    nothing = sql.binary(exp.EQ, source.copy(), sql.literal(""))
    return sql.case((nothing, sql.literal("")), otherwise=sql.call(name, source))


@scalar()
def hash_md5(source: Text) -> String:
    """The MD5 of the value's text, in hexadecimal.

    >>> hash_md5("World")
    f5a7924e621e84c9280a9a27e1bcb7f6
    """
    return _digest("md5", source)


@scalar()
def hash_sha1(source: Text) -> String:
    """The SHA-1 of the value's text, in hexadecimal.

    >>> hash_sha1("World")
    70c07ec18ef89c5309bbb0937f3a6342411e1fdd
    """
    return _digest("sha1", source)


@scalar()
def hash_sha256(source: Text) -> String:
    """The SHA-256 of the value's text, in hexadecimal.

    >>> hash_sha256(datetime(2020-01-01))
    ba666752dc1a20eb750b0eb64e780cc4c968bc9fb8813461c1d7e750f302d71d
    """
    return _digest("sha256", source)


def _hex(value: Sql, width: Sql | None) -> Sql:
    digits = sql.lower(sql.call("to_hex", value))
    if width is None:
        return sql.text(digits)
    # The engine's least() and greatest() pass over nulls.
    return sql.text(_padded(digits, sql.call("least", sql.call("greatest", width, _length(digits)), 16)))


def _padded(digits: Sql, width: Sql) -> Sql:
    """The digits with zeros before them, never cut."""
    size = sql.cast(sql.call("greatest", width, _length(digits)), KqlType.INT)
    return sql.call("lpad", digits, size, "0")


@scalar(name_after="")
def tohex(value: Long, width: Long | None = None) -> String:
    """The number in hexadecimal, of `width` digits or more (up to 16); a negative one as two's complement.

    >>> tohex(256)
    100
    >>> tohex(-256)
    ffffffffffffff00
    >>> tohex(256, 8)
    00000100
    >>> tohex(toint(-256), 8)
    ffffff00
    >>> tohex(256, 20)
    0000000000000100
    """
    return _hex(value, width)


@tohex.overload
def _(value: Int, width: Long | None = None) -> String:
    unsigned = sql.binary(exp.BitwiseAnd, sql.cast(value, KqlType.LONG), sql.literal(0xFFFFFFFF))
    return _hex(unsigned, width)


@scalar(aliases=("to_utf8",))
def unicode_codepoints_from_string(source: Text) -> Dynamic:
    """The Unicode code points of the text.

    >>> unicode_codepoints_from_string("⒦u")
    [9382,117]
    """
    places = sql.call("range", sql.literal(1), _plus(_length(source), 1))
    return sql.array(
        sql.each(
            places, "th_place", lambda place: sql.call("unicode", sql.call("substring", source, place, 1))
        )
    )


@scalar(aliases=("make_string",))
def unicode_codepoints_to_string(*values: AnyArg) -> String:
    """The text of code points, given one by one or in arrays.

    >>> unicode_codepoints_to_string(75, 117, dynamic([115, 116]), 111)
    Kusto
    """

    def points(value: Arg) -> Sql:
        if value.type is KqlType.DYNAMIC:
            return sql.each(texts(value.sql), "th_point", lambda point: sql.try_cast(point, KqlType.INT))
        return exp.Array(expressions=[sql.try_cast(value.sql, KqlType.INT)])

    every = sql.call("flatten", exp.Array(expressions=[points(value) for value in values]))
    return sql.text(
        sql.call(
            "array_to_string",
            sql.each(every, "th_point", lambda point: sql.call("try", sql.call("chr", point))),
            "",
        )
    )


# --- taking apart ------------------------------------------------------------------------------------------

_URL = (
    r"^([A-Za-z][A-Za-z0-9+.\-]*)://(?:([^:@/?#]*):([^@/?#]*)@)?(\[[^\]]*\]|[^:/?#]*)(?::(\d*))?"
    r"(?:/$|([^?#]*)(?:\?([^#]*))?(?:#(.*))?$)"
)
_URL_PARTS = ("Scheme", "Username", "Password", "Host", "Port", "Path", "Query Parameters", "Fragment")


@python("query_parameters", internal=True)
def query_parameters(query: PlainText) -> Json:
    """The bag of `a=1&b=2`, names in order; one that comes twice has an array, one without a value none."""
    found: dict[str, list[str]] = {}
    for name, _, value in (pair.partition("=") for pair in query.split("&")):
        if name and value:
            found.setdefault(name, []).append(value)
    return {name: values[0] if len(values) == 1 else values for name, values in sorted(found.items())}


def _parameters(query: Sql) -> Sql:
    return query_parameters.overloads[0].build(query)


@scalar(aliases=("parseurl",))
def parse_url(url: String) -> Dynamic:
    """The parts of a URL: Scheme, Host, Port, Path, Username, Password, Query Parameters and Fragment.

    A slash that ends the URL behind the host is no path. All parts of what is no URL are empty.

    >>> parse_url("https://u:p@host:80/a/b?k1=v1&k2=v2#here")["Query Parameters"].k2
    v2
    >>> parse_url("https://host/a?k=1&b=2&k=3&c=")["Query Parameters"]
    {"b":"2","k":["1","3"]}
    >>> parse_url("host/a").Path == ""
    True
    >>> strcat(parse_url("https://host/a/b").Host, " ", parse_url("https://host/a/b").Path)
    host /a/b
    """
    names = exp.Array(expressions=[sql.literal(part) for part in _URL_PARTS])

    def bag(match: Sql) -> Sql:
        args: list[Sql | str] = []
        for part in (
            "Scheme",
            "Host",
            "Port",
            "Path",
            "Username",
            "Password",
            "Query Parameters",
            "Fragment",
        ):
            value = sql.text(sql.field(match.copy(), part))
            args += [part, _parameters(value) if part == "Query Parameters" else value]
        return sql.call("json_object", *args)

    return sql.let(sql.call("regexp_extract", url, _URL, names), "th_url", bag)


@scalar(aliases=("parseurlquery",))
def parse_urlquery(query: String) -> Dynamic:
    """The parameters of a URL's query part.

    >>> parse_urlquery("k1=v1&k2=v2")
    {"Query Parameters":{"k1":"v1","k2":"v2"}}
    """
    bare = sql.call("regexp_replace", query, r"^\?", "")
    return sql.call("json_object", "Query Parameters", _parameters(bare))


@scalar()
def parse_path(path: String) -> Dynamic:
    r"""The parts of a file path: Scheme, RootPath, DirectoryPath, DirectoryName, Filename, Extension and the
    AlternateDataStreamName.

    >>> parse_path(@"C:\temp\file.txt").DirectoryPath
    C:\temp
    >>> parse_path("/usr/lib/file.tar.gz").Extension
    gz
    """

    def part(value: Sql, pattern: str) -> Sql:
        return sql.call("regexp_extract", value, pattern, 1)

    scheme = part(path, r"^([A-Za-z][A-Za-z0-9+.\-]*)://")
    rest = sql.call("regexp_replace", path.copy(), r"^[A-Za-z][A-Za-z0-9+.\-]*://", "")
    directory = part(rest, r"(?s)^(.*)[/\\][^/\\]*$")
    last = part(rest.copy(), r"([^/\\]*)$")
    file_name = part(last, r"^([^:]*)")
    return sql.call(
        "json_object",
        "Scheme",
        scheme,
        "RootPath",
        part(rest.copy(), r"^(?:\\\\\?\\)?([A-Za-z]:)"),
        "DirectoryPath",
        directory,
        "DirectoryName",
        part(directory.copy(), r"([^/\\]*)$"),
        "Filename",
        file_name,
        "Extension",
        part(file_name.copy(), r"\.([^.]*)$"),
        "AlternateDataStreamName",
        part(last.copy(), r"^[^:]*:(.*)$"),
    )


@scalar()
def parse_version(version: String) -> Decimal:
    """A version of one to four parts as a number that orders as versions do; null of another text.

    >>> parse_version("0.0.3") < parse_version("0.2")
    True
    >>> isnull(parse_version("1.x"))
    True
    """
    digits = sql.call("string_split", version, ".")
    padded = sql.joined(
        *[
            sql.call(
                "lpad", sql.call("coalesce", sql.call("list_extract", digits.copy(), place), "0"), 8, "0"
            )
            for place in range(1, 5)
        ]
    )
    number = exp.cast(padded, exp.DataType.build("DECIMAL(38, 0)", dialect="duckdb"))
    valid = expressions.matches(version.copy(), r"^\d{1,8}(\.\d{1,8}){0,3}$")
    return sql.case((valid, number), otherwise=exp.Null())


@scalar(name_after="")
def parse_csv(source: String) -> Dynamic:
    r"""The fields of the first record in comma-separated text.

    >>> parse_csv('aa,"b,b",,"say ""hi"" "')
    ["aa","b,b","","say \"hi\" "]
    >>> parse_csv("a,b\nc,d")
    ["a","b"]
    """
    record = sql.call("regexp_extract", source, r'^(?:[^"\r\n]|"(?:[^"]|"")*")*', 0)
    names = exp.Array(expressions=[sql.literal("quoted"), sql.literal("plain")])
    fields = sql.call("regexp_extract_all", sql.joined(",", record), r',(?:"((?:[^"]|"")*)"|([^,]*))', names)

    def value(match: Sql) -> Sql:
        quoted = sql.call("replace", sql.field(match, "quoted"), '""', '"')
        return sql.call("coalesce", quoted, sql.field(match.copy(), "plain"), "")

    return sql.array(sql.each(fields, "th_field", value))


# --- formats -----------------------------------------------------------------------------------------------

_DATETIME_PARTS = {
    "d": "%-d",
    "dd": "%d",
    "h": "%-I",
    "hh": "%I",
    "H": "%-H",
    "HH": "%H",
    "m": "%-M",
    "mm": "%M",
    "M": "%-m",
    "MM": "%m",
    "s": "%-S",
    "ss": "%S",
    "y": "%-y",
    "yy": "%y",
    "yyyy": "%Y",
    "tt": "%p",
}
_TOKEN = re.compile(r"([A-Za-z])\1*|[ /\-:,._\[\]]")


def _tokens(form: str, function: str) -> list[str]:
    """The elements and delimiters of a format."""
    tokens: list[str] = []
    at = 0
    while at < len(form):
        found = _TOKEN.match(form, at)
        if found is None:
            raise UnsupportedError(f"'{form[at]}' in the format of {function}()")
        tokens.append(found[0])
        at = found.end()
    return tokens


def _fraction(digits: Sql, token: str) -> Sql:
    """The first digits of a second's seven; for F without the zeros at the end."""
    cut = sql.call("substring", digits, 1, len(token))
    return sql.call("rtrim", cut, "0") if token[0] == "F" else cut


@scalar(name_after="")
def format_datetime(date: Datetime, form: StringArg) -> String:
    """The datetime as text in a format of d, dd, f to fffffff, F to FFFFFFF, h, hh, H, HH, m, mm, M, MM, s,
    ss, y, yy, yyyy and tt; '' of null.

    >>> format_datetime(datetime(2017-01-29 09:00:05), "yy-MM-dd [HH:mm:ss]")
    17-01-29 [09:00:05]
    >>> format_datetime(datetime(2017-01-29 13:00:05.12), "M/d/yyyy h:mm tt fff FFF")
    1/29/2017 1:00 PM 120 12
    """
    pieces: list[Sql | str] = []
    for token in _tokens(_constant(form, "a format of format_datetime()"), "format_datetime"):
        if token in _DATETIME_PARTS:
            pieces.append(sql.call("strftime", date.copy(), _DATETIME_PARTS[token]))
        elif token[0] in "fF" and len(token) <= 7:
            pieces.append(_fraction(sql.joined(sql.call("strftime", date.copy(), "%f"), "0"), token))
        elif token in ("T", "Z") or not token.isalpha():
            pieces.append(token)
        else:
            raise UnsupportedError(f"'{token}' in the format of format_datetime()")
    return sql.case((sql.is_null(date), sql.literal("")), otherwise=sql.joined(*pieces, ""))


_TIMESPAN_UNITS = {
    "h": (3600 * TICKS_PER_SECOND, 24),
    "m": (60 * TICKS_PER_SECOND, 60),
    "s": (TICKS_PER_SECOND, 60),
}


@scalar(name_after="")
def format_timespan(timespan: Timespan, form: StringArg) -> String:
    """The timespan as text in a format of d to dddddddd, H, HH, m, mm, s, ss, f to fffffff and F to FFFFFFF.

    >>> format_timespan(time(29.09:00:05.12345), "dd.hh:mm:ss:FF")
    29.09:00:05:12
    >>> format_timespan(time(29.09:00:05.12345), "ddd.h:mm:ss [fffffff]")
    029.9:00:05 [1234500]
    """
    size = exp.Abs(this=timespan)

    def number(unit: int, modulus: int, width: int) -> Sql:
        whole = sql.binary(exp.IntDiv, size.copy(), sql.literal(unit))
        part = sql.binary(exp.Mod, whole, sql.literal(modulus)) if modulus else whole
        digits = sql.cast(part, KqlType.STRING)
        return _padded(digits, sql.literal(width))

    pieces: list[Sql | str] = []
    for token in _tokens(_constant(form, "a format of format_timespan()"), "format_timespan"):
        unit = _TIMESPAN_UNITS.get(token[0].lower() if token[0] == "H" else token[0])
        if token[0] == "d" and len(token) <= 8:
            pieces.append(number(TICKS_PER_DAY, 0, len(token)))
        elif unit and len(token) <= 2:
            pieces.append(number(*unit, len(token)))
        elif token[0] in "fF" and len(token) <= 7:
            fraction = sql.binary(exp.Mod, size.copy(), sql.literal(TICKS_PER_SECOND))
            digits = sql.call("lpad", sql.cast(fraction, KqlType.STRING), 7, "0")
            pieces.append(_fraction(digits, token))
        elif not token.isalpha():
            pieces.append(token)
        else:
            raise UnsupportedError(f"'{token}' in the format of format_timespan()")
    return sql.case((sql.is_null(timespan.copy()), sql.literal("")), otherwise=sql.joined(*pieces, ""))


_BYTE_UNITS = ("Bytes", "KB", "MB", "GB", "TB", "PB", "EB")


@scalar(name_after="")
def format_bytes(size: Number, precision: NumberArg | None = None, units: StringArg | None = None) -> String:
    """A number of bytes as text in Bytes, KB, MB, GB, TB, PB or EB, chosen by size unless given.

    >>> format_bytes(564)
    564 Bytes
    >>> format_bytes(10332, 1)
    10.1 KB
    >>> format_bytes(20010332, 0, "KB")
    19541 KB
    >>> strlen(format_bytes(long(null), 0, "KB"))
    0
    """
    value = sql.cast(size, KqlType.REAL)
    places = sql.literal(0) if precision is None else sql.try_cast(precision.sql, KqlType.INT)

    def shown(power: int) -> Sql:
        scaled = sql.binary(exp.Div, value.copy(), sql.literal(1024**power))
        rounded = sql.cast(sql.call("round", scaled, places.copy()), KqlType.STRING)
        return exp.DPipe(
            this=sql.call("regexp_replace", rounded, r"\.0$", ""),
            expression=sql.literal(f" {_BYTE_UNITS[power]}"),
        )

    unit = "" if units is None else _constant(units, "units of format_bytes()")
    if unit:
        if unit not in _BYTE_UNITS:
            raise UnsupportedError(
                f"the unit '{unit}' of format_bytes()", hint=f"take one of {', '.join(_BYTE_UNITS)}"
            )
        return sql.text(shown(_BYTE_UNITS.index(unit)))
    enough = [
        (sql.binary(exp.GTE, exp.Abs(this=value.copy()), sql.literal(1024**power)), shown(power))
        for power in range(6, 0, -1)
    ]
    return sql.text(sql.case(*enough, otherwise=shown(0)))


_MOST_REPEATED = 1_048_576  # the values that an array of range() has at most


@scalar(name_after="repeat")
def repeat(value: AnyArg, count: Long) -> Dynamic:
    """An array of the value, `count` times; null of a negative count, an error beyond 1,048,576.

    >>> repeat("a", 3)
    ["a","a","a"]
    >>> repeat(1, 0)
    []
    """
    too_many = sql.binary(exp.GT, count.copy(), sql.literal(_MOST_REPEATED))
    # The engine computes constants in all branches before it looks which one is taken.
    times = sql.case((too_many, sql.literal(0)), otherwise=count)
    copies = sql.each(sql.call("range", times), "th_time", lambda _: json_value(value))
    refused = sql.call("error", sql.literal("repeat() gives at most 1048576 values"))
    return sql.case(
        (sql.binary(exp.LT, count.copy(), sql.literal(0)), exp.Null()),
        (too_many.copy(), refused),
        otherwise=sql.array(copies),
    )
