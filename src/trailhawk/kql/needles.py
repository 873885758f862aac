"""What a row must hold to pass the filters above a scan: texts that an index over terms can look up."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from trailhawk.kql.plan import (
    Aggregate,
    AllOf,
    AnyOf,
    Apply,
    Call,
    ColumnRef,
    Const,
    Expr,
    Filter,
    Join,
    JoinKind,
    Limit,
    Need,
    Needle,
    Node,
    Project,
    Scan,
    Sort,
    Union,
    Unnest,
    Window,
    substitute,
)
from trailhawk.kql.records import replace
from trailhawk.kql.types import KqlType

_EDGES = {
    "has": (True, True),
    "has_cs": (True, True),
    "==": (True, True),
    "=~": (True, True),
    "hasprefix": (True, False),
    "hasprefix_cs": (True, False),
    "startswith": (True, False),
    "startswith_cs": (True, False),
    "hassuffix": (False, True),
    "hassuffix_cs": (False, True),
    "endswith": (False, True),
    "endswith_cs": (False, True),
    "contains": (False, False),
    "contains_cs": (False, False),
}
"""For each test of a column against a text: does the text begin and end where a term does?"""

_LISTS = frozenset({"in", "in~", "has_any_of"})
_NOTHING = AnyOf(())
_TERM = re.compile(r"[0-9A-Za-z]")
_FIRST = re.compile(r"^[0-9A-Za-z]+")
_LAST = re.compile(r"[0-9A-Za-z]+\Z")
_KEEPS_LEFT = frozenset({JoinKind.INNER, JoinKind.LEFT_OUTER, JoinKind.LEFT_SEMI, JoinKind.LEFT_ANTI})
_KEEPS_RIGHT = frozenset({JoinKind.INNER, JoinKind.RIGHT_OUTER, JoinKind.RIGHT_SEMI, JoinKind.RIGHT_ANTI})


def with_needs(node: Node, above: Sequence[Expr] = ()) -> Node:
    """The plan with `need` on each scan whose text columns the filters above test."""
    match node:
        case Scan():
            return replace(node, need=_scan_need(node, above)) if above else node
        case Filter():
            return replace(node, input=with_needs(node.input, (*above, node.predicate)))
        case Project() | Sort():
            return replace(node, input=with_needs(node.input, above))
        case Unnest():
            # Every row above comes of one below with the same values in the columns below.
            return replace(node, input=with_needs(node.input, above))
        case Limit() | Window() | Aggregate():
            return replace(node, input=with_needs(node.input))
        case Join():
            return replace(
                node,
                left=with_needs(node.left, above if node.kind in _KEEPS_LEFT else ()),
                right=with_needs(node.right, above if node.kind in _KEEPS_RIGHT else ()),
            )
        case Union():
            inputs = []
            for item, row in zip(node.inputs, node.values, strict=True):
                values = {column.id: value for column, value in zip(node.columns, row, strict=True)}
                inputs.append(with_needs(item, [substitute(one, dict(values)) for one in above]))
            return replace(node, inputs=tuple(inputs))
        case Apply():
            return replace(node, inputs=tuple(with_needs(item) for item in node.inputs))
        case _:
            return node


def _scan_need(scan: Scan, above: Iterable[Expr]) -> Need | None:
    names = {
        column.id: stored
        for column, stored in zip(scan.columns, scan.stored, strict=True)
        if column.type is KqlType.STRING
    }
    return _all([_need(predicate, names) for predicate in above])


def _need(expr: Expr, names: Mapping[int, str]) -> Need | None:
    """What a row must hold for the condition to be true; None where nothing can be said."""
    match expr:
        case Const(type=KqlType.BOOL, value=False):
            return _NOTHING
        case Call(args=args) if (join := _JOINS.get(expr.overload.name)) is not None:
            return join([_need(arg, names) for arg in args])
        case Call(args=(left, Const(type=KqlType.STRING, value=str() as text))) if (
            expr.overload.name in _EDGES
        ):
            return _test(left, text, _EDGES[expr.overload.name], names)
        case Call(args=(Const(type=KqlType.STRING, value=str() as text), ColumnRef() as right)) if (
            expr.overload.name == "=="
        ):
            return _test(right, text, (True, True), names)
        case Call(args=(term, *sources)) if expr.overload.name == "has_anywhere":
            sought = _text(term)
            return (
                None if sought is None else _any(_test(one, sought, (True, True), names) for one in sources)
            )
        case Call(args=(left, *items)) if expr.overload.name in _LISTS:
            texts = [_text(item) for item in items]
            return _any(None if text is None else _test(left, text, (True, True), names) for text in texts)
        case _:
            return None


def _text(expr: Expr) -> str | None:
    """The text of a constant."""
    if isinstance(expr, Const) and expr.type is KqlType.STRING and isinstance(expr.value, str):
        return expr.value
    return None


def _test(value: Expr, text: str, edges: tuple[bool, bool], names: Mapping[int, str]) -> Need | None:
    match value:
        case ColumnRef(id=id_) if id_ in names:
            needle = Needle(frozenset((names[id_],)), text, *edges)
            return needle if _tells(needle) else None
        case Const(type=KqlType.STRING, value=str() as constant) if text.lower() not in constant.lower():
            # A column that is the same in every row, such as the table's name in a search.
            return _NOTHING
        case _:
            return None


def _tells(needle: Needle) -> bool:
    """Is there a whole term of ASCII letters and digits in it?"""
    text = needle.text
    if not needle.left:
        text = _FIRST.sub("", text)
    if not needle.right:
        text = _LAST.sub("", text)
    return _TERM.search(text) is not None


def _all(parts: Iterable[Need | None]) -> Need | None:
    known = tuple(part for part in parts if part is not None)
    if len(known) < 2:
        return known[0] if known else None
    return AllOf(known)


def _any(parts: Iterable[Need | None]) -> Need | None:
    """One of the parts; needles of one text in several columns become one."""
    columns: dict[Needle, frozenset[str]] = {}
    others: list[Need] = []
    for part in parts:
        if part is None:
            return None
        for one in part.parts if isinstance(part, AnyOf) else (part,):
            if isinstance(one, Needle):
                text = replace(one, columns=frozenset())
                columns[text] = columns.get(text, frozenset()) | one.columns
            else:
                others.append(one)
    found = (*(replace(text, columns=names) for text, names in columns.items()), *others)
    return found[0] if len(found) == 1 else AnyOf(found)


_JOINS: dict[str, Callable[[list[Need | None]], Need | None]] = {"and": _all, "or": _any}
