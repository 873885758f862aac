"""Operators that read columns out of text: parse, parse-where."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from trailhawk.errors import UnsupportedError
from trailhawk.kql import syntax
from trailhawk.kql.operators.registry import step
from trailhawk.kql.operators.shared import property_text, refs, scope_of
from trailhawk.kql.plan import (
    Const,
    Expr,
    Filter,
    Node,
    OutColumn,
    Project,
)
from trailhawk.kql.scope import (
    Env,
)
from trailhawk.kql.types import KqlType

if TYPE_CHECKING:
    from trailhawk.kql.binder import Binder

_T = KqlType
_GROUPS = {_T.LONG: r"\s*([+-]?\d+)", _T.INT: r"\s*([+-]?\d+)", _T.REAL: r"\s*([+-]?[\d.]+(?:[eE][+-]?\d+)?)"}


@step(syntax.Parse)
def parse(binder: Binder, node: Node, operator: syntax.Parse, env: Env) -> Node:
    kind = property_text(operator, "kind") or "simple"
    if kind not in ("simple", "regex"):
        raise UnsupportedError(f"parse kind={kind}", operator.span)
    scope = scope_of(node, env)
    value = binder.scalars.convert(binder.scalars.bind(operator.value, scope), _T.STRING, operator.value.span)
    pattern, targets = parse_pattern(binder, operator, env, regex=kind == "regex")
    if kind == "regex" and (flags := property_text(operator, "flags")):
        pattern = f"(?{flags}){pattern}"
    text = Const(_T.STRING, pattern)
    matches = binder.scalars.call("matches regex", [value, text], operator.span)
    items: list[tuple[str, Expr]] = []
    for place, (name, type_) in enumerate(targets, start=1):
        found = binder.scalars.call("parse_group", [value, text, Const(_T.LONG, place)], operator.span)
        items.append((name, binder.scalars.convert(found, type_, operator.span)))
    if operator.where:
        node = Filter(node.columns, node, matches)
    columns = list(node.columns)
    values: list[Expr] = list(refs(columns))
    for name, extracted in items:
        column = OutColumn(binder.new_id(), name, extracted.type)
        places = [i for i, known in enumerate(columns) if known.name == name]
        if places:
            columns[places[0]], values[places[0]] = column, extracted
        else:
            columns.append(column)
            values.append(extracted)
    return Project(tuple(columns), node, tuple(values))


def parse_pattern(
    binder: Binder, operator: syntax.Parse, env: Env, *, regex: bool
) -> tuple[str, list[tuple[str, KqlType]]]:
    """The pattern as one regular expression with a group for each column."""
    pieces: list[str] = []
    targets: list[tuple[str, KqlType]] = []
    for place, part in enumerate(operator.pattern):
        last = place == len(operator.pattern) - 1
        if part.text is not None:
            text = str(binder.scalars.constant(part.text, env, "parse's text").value)
            pieces.append(text if regex else re.escape(text).replace("\\ ", " "))
        elif part.name is not None:
            type_ = part.type or _T.STRING
            targets.append((part.name, type_))
            pieces.append(_GROUPS.get(type_, "(.*)" if last else "(.*?)"))
        else:
            pieces.append(".*" if last else ".*?")
    anchored = "".join(pieces)
    return (anchored if regex else f"(?s)^{anchored}$"), targets
