"""Operators that read columns out of text: parse, parse-where, parse-kv."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from trailhawk.errors import BindingError
from trailhawk.kql import syntax
from trailhawk.kql.functions import FUNCTIONS
from trailhawk.kql.functions.text import capture_groups
from trailhawk.kql.operators.registry import step
from trailhawk.kql.operators.shared import property_text, refs, scope_of
from trailhawk.kql.plan import (
    Call,
    Const,
    Expr,
    Filter,
    Node,
    OutColumn,
    PathExpr,
    Project,
)
from trailhawk.kql.scope import (
    Env,
)
from trailhawk.kql.types import KqlType

if TYPE_CHECKING:
    from trailhawk.kql.binder import Binder

_T = KqlType
# Types whose text a pattern can tell; what else is asked for is converted, and must convert.
_GROUPS = {
    _T.LONG: r"\s*([+-]?\d+)",
    _T.INT: r"\s*([+-]?\d+)",
    _T.REAL: r"\s*([+-]?[\d.]+(?:[eE][+-]?\d+)?)",
}
_CLOCK = r"\d{1,2}:\d{1,2}(?::\d{1,2}(?:\.\d+)?)?"
_MOMENT = rf"(?:[T ]{_CLOCK}(?:Z|[+-]\d{{2}}:?\d{{2}}| ?(?i:[AP]M)\b)?)?"
_HEX = "[0-9A-Fa-f]"
_GUID = rf"{_HEX}{{8}}-(?:{_HEX}{{4}}-){{3}}{_HEX}{{12}}"
# Where nothing in the pattern says where a value ends, its own look does.
_SHAPES = _GROUPS | {
    _T.REAL: r"\s*([+-]?(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+)?)",
    _T.BOOL: r"\s*((?i:true|false)|[+-]?\d+)",
    _T.DATETIME: rf"\s*(\d{{4}}-\d{{1,2}}-\d{{1,2}}{_MOMENT}|\d{{1,2}}/\d{{1,2}}/\d{{1,4}}{_MOMENT})",
    _T.TIMESPAN: rf"\s*(-?(?:\d+\.\d{{1,2}}:\d{{1,2}}:\d{{1,2}}(?:\.\d+)?|{_CLOCK}))",
    _T.GUID: rf"\s*({_GUID}|{_HEX}{{32}}|\{{{_GUID}\}})",
}
# With kind=regex a real begins with a digit, and no number is a bool.
_OF_REGEX = {_T.REAL: r"\s*([+-]?\d[\d.]*(?:[eE][+-]?\d+)?)", _T.BOOL: r"\s*((?i:true|false))"}
_OPEN_GROUP = re.compile(r"(\\.|\[(?:\\.|[^\]\\])*\])|\((?!\?)|\(\?P?<\w+>")


@step(syntax.Parse)
def parse(binder: Binder, node: Node, operator: syntax.Parse, env: Env) -> Node:
    """Columns read out of a text. Where the pattern does not match, all of them are null.

    kind=relaxed leaves null only what does not convert; kind=regex takes the texts as regular expressions.
    """
    kind = property_text(operator, "kind") or "simple"
    if kind not in ("simple", "regex", "relaxed"):
        raise BindingError(f"there is no parse kind '{kind}'", operator.span, hint="simple, relaxed or regex")
    span = operator.span
    given = binder.scalars.bind(operator.value, scope_of(node, env))
    value = binder.scalars.convert(given, _T.STRING, operator.value.span)
    pattern, targets = _pattern(binder, operator, env, kind)
    text = Const(_T.STRING, pattern)
    valid = binder.scalars.call("matches regex", [value, text], span)
    found: list[tuple[str, Expr]] = []
    for place, (name, type_) in enumerate(targets, start=1):
        group = binder.scalars.call("parse_group", [value, text, Const(_T.LONG, place)], span)
        converted = binder.scalars.convert(group, type_, span)
        found.append((name, converted))
        if kind != "relaxed" and type_ is not _T.STRING and type_ not in _GROUPS:
            valid = binder.scalars.call(
                "and", [valid, binder.scalars.call("isnotnull", [converted], span)], span
            )
    if operator.where:
        node = Filter(node.columns, node, valid)
    elif isinstance(valid, Call) and valid.overload.name == "and":
        choose = FUNCTIONS["case"].overloads[0]
        found = [
            (name, Call(item.type, choose, (valid, item, Const(item.type, None)))) for name, item in found
        ]
    return _with_columns(binder, node, found)


def _with_columns(binder: Binder, node: Node, found: Sequence[tuple[str, Expr]]) -> Node:
    """The node's columns and the found ones; one of the same name is replaced in its place."""
    columns = list(node.columns)
    values: list[Expr] = list(refs(columns))
    for name, value in found:
        column = OutColumn(binder.new_id(), name, value.type)
        places = [i for i, known in enumerate(columns) if known.name == name]
        if places:
            columns[places[0]], values[places[0]] = column, value
        else:
            columns.append(column)
            values.append(value)
    return Project(tuple(columns), node, tuple(values))


def _pattern(
    binder: Binder, operator: syntax.Parse, env: Env, kind: str
) -> tuple[str, list[tuple[str, KqlType]]]:
    """The pattern as one regular expression with a group for each column, and the columns."""
    regex = kind == "regex"
    pieces: list[str] = []
    targets: list[tuple[str, KqlType]] = []
    for place, part in enumerate(operator.pattern):
        last = place == len(operator.pattern) - 1
        before = operator.pattern[place - 1] if place else part
        if place and before.text is part.text is None and (part.name or not before.name):
            raise BindingError(
                "nothing tells where this part of the pattern begins",
                part.span,
                hint="a text in quotes stands between two parts",
            )
        is_text = before.name is not None and (before.type or _T.STRING) is _T.STRING
        if place and is_text and part.name is None and part.text is None:
            raise BindingError(
                f"nothing tells where '{before.name}' ends before '*'",
                part.span,
                hint="a text in quotes stands between them",
            )
        if part.text is not None:
            text = str(binder.scalars.constant(part.text, env, "parse's text").value)
            pieces.append(_without_groups(text) if regex else re.escape(text).replace("\\ ", " "))
        elif part.name is not None:
            type_ = part.type or _T.STRING
            if any(name == part.name for name, _ in targets):
                raise BindingError(f"the pattern reads '{part.name}' twice", part.span)
            targets.append((part.name, type_))
            untyped = "(.*)" if last or regex else "(.*?)"
            following = None if last else operator.pattern[place + 1]
            open_ended = following is not None and following.text is None and following.name is None
            shapes = (_SHAPES if open_ended or (regex and last) else _GROUPS) | (_OF_REGEX if regex else {})
            group = shapes.get(type_, untyped)
            if regex and last and type_ in shapes.keys() - _GROUPS.keys() - _OF_REGEX.keys():
                group = f"{group[:-1]}|.*)"
            # What is no number is taken too, and becomes null.
            pieces.append(f"{group[:-1]}|.*?)" if kind == "relaxed" and type_ in shapes else group)
        else:
            pieces.append(".*" if last else ".*?")
    whole = "".join(pieces)
    if not regex:
        return f"(?s)^{whole}$", targets
    flags = property_text(operator, "flags")
    return (f"(?{flags}){whole}" if flags else whole), targets


def _without_groups(pattern: str) -> str:
    """The expression with its own groups made plain, so that ours keep their numbers."""
    return _OPEN_GROUP.sub(lambda match: match.group(1) or "(?:", pattern)


@step(syntax.ParseKv)
def parse_kv(binder: Binder, node: Node, operator: syntax.ParseKv, env: Env) -> Node:
    """Columns from pairs of key and value in a text; a key's first value counts."""
    span = operator.span
    given = binder.scalars.bind(operator.value, scope_of(node, env))
    value = binder.scalars.convert(given, _T.STRING, operator.value.span)
    options: dict[str, list[object]] = {}
    for item in operator.properties:
        known = options.setdefault(item.name.lower(), [])
        option = binder.scalars.constant(item.value, env, item.name)
        if option.type is not (_T.BOOL if item.name.lower() == "greedy" else _T.STRING):
            raise BindingError(f"parse-kv's {item.name} is of another type", item.span)
        known.append(option.value)
    unknown = options.keys() - {"regex", "pair_delimiter", "kv_delimiter", "quote", "escape", "greedy"}
    if unknown:
        raise BindingError(f"parse-kv has no option '{min(unknown)}'", span)
    for regex in options.get("regex", []):
        if len(capture_groups(str(regex))) < 2:
            raise BindingError(
                "parse-kv's regular expression has a group for the key and a group for the value", span
            )

    def text(name: str) -> Const:
        return Const(_T.STRING, str(options.get(name, [""])[0]))

    found: list[tuple[str, Expr]] = []
    names: list[object] = [column.name for column in operator.columns]
    for place, column in enumerate(operator.columns):
        if column.name in names[:place]:
            raise BindingError(f"the pairs give '{column.name}' twice", column.span)
    quotes, escapes = options.get("quote", []), options.get("escape", [])
    bag = binder.scalars.call(
        "kv_pairs",
        [
            value,
            Const(_T.DYNAMIC, names),
            text("pair_delimiter"),
            text("kv_delimiter"),
            Const(_T.DYNAMIC, quotes),
            Const(_T.DYNAMIC, escapes),
            Const(_T.BOOL, options.get("greedy") == [True]),
        ],
        span,
    )
    for column in operator.columns:
        part: Expr = PathExpr(_T.DYNAMIC, bag, (column.name,))
        if "regex" in options:
            part = binder.scalars.call(
                "kv_regex", [value, text("regex"), Const(_T.STRING, column.name)], span
            )
        found.append((column.name, binder.scalars.convert(part, column.type, span)))
    return _with_columns(binder, node, found)
