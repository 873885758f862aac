"""join and lookup."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trailhawk.errors import BindingError, Span, UnsupportedError
from trailhawk.kql import syntax
from trailhawk.kql.functions import WINDOWS
from trailhawk.kql.names import Names
from trailhawk.kql.operators.groups import fresh_riders, key_parts
from trailhawk.kql.operators.registry import step
from trailhawk.kql.operators.shared import carried, refs, riding_calls
from trailhawk.kql.plan import (
    Aggregate,
    AggregateCall,
    ColumnRef,
    Const,
    Expr,
    Filter,
    Join,
    JoinKind,
    Node,
    OutColumn,
    Project,
    Window,
)
from trailhawk.kql.records import replace
from trailhawk.kql.schema import HIDDEN_PREFIX
from trailhawk.kql.scope import (
    Env,
    Scope,
    suggestion,
)
from trailhawk.kql.types import KqlType

if TYPE_CHECKING:
    from trailhawk.kql.binder import Binder

_T = KqlType
_JOIN_KINDS = {kind.value: kind for kind in JoinKind} | {
    "anti": JoinKind.LEFT_ANTI,
    "leftantisemi": JoinKind.LEFT_ANTI,
    "rightantisemi": JoinKind.RIGHT_ANTI,
}


_KINDS_ELSEWHERE = {
    "left": "did you mean 'leftouter'?",
    "right": "did you mean 'rightouter'?",
    "outer": "did you mean 'fullouter'?",
    "full": "did you mean 'fullouter'?",
    "cross": "for every pair give both sides a column of one value, and join on that",
}
_KEYS = "a join's key is a column or $left.a == $right.b"
_WITH_RIGHT_ROWS = frozenset({JoinKind.RIGHT_OUTER, JoinKind.FULL_OUTER, JoinKind.RIGHT_ANTI})


@step(syntax.Join)
def join(binder: Binder, node: Node, operator: syntax.Join, env: Env) -> Node:
    kind = join_kind(operator, "innerunique")
    parted = bool(carried(binder, node))
    if parted and kind in _WITH_RIGHT_ROWS:
        # Its right rows without a match belong to every part, also to those that have no row left.
        raise UnsupportedError(f"join kind={kind.value} inside a sub-pipe", operator.span)
    right = binder.table(operator.right, env)
    keys = join_keys(binder, node, right, operator, env)
    if parted and kind is JoinKind.INNER_UNIQUE:
        node, kind = _first_of_key(binder, node, [left for left, _ in keys]), JoinKind.INNER
    if parted and kind is JoinKind.RIGHT_SEMI:
        return _right_rows(binder, node, right, keys)
    if kind in (JoinKind.LEFT_SEMI, JoinKind.LEFT_ANTI):
        return Join(node.columns, node, right, kind, keys)
    if kind in (JoinKind.RIGHT_SEMI, JoinKind.RIGHT_ANTI):
        return Join(right.columns, node, right, kind, keys)
    columns = beside(node, right.columns)
    return Join(columns, node, right, kind, keys)


def _first_of_key(binder: Binder, node: Node, keys: Sequence[Expr]) -> Node:
    """One row for each key of each part, as an innerunique join takes them."""
    number = OutColumn(binder.new_id(), f"{HIDDEN_PREFIX}row", _T.LONG)
    call = AggregateCall(WINDOWS["row_number"], (), _T.LONG, (*keys, *refs(carried(binder, node))))
    numbered = Window((*node.columns, number), node, (call,))
    first = binder.scalars.call("<=", [ColumnRef(_T.LONG, number.id), Const(_T.LONG, 1)], Span(0, 0))
    return Project(node.columns, Filter(numbered.columns, numbered, first), refs(node.columns))


def _right_rows(binder: Binder, node: Node, right: Node, keys: tuple[tuple[Expr, Expr], ...]) -> Node:
    """The right rows whose key each part has, with what tells the parts apart."""
    found = tuple(OutColumn(binder.new_id(), f"{HIDDEN_PREFIX}key", a.type) for a, _ in keys)
    along = (*key_parts(binder, node), *fresh_riders(binder, node))
    grouping = (*(a for a, _ in keys), *refs(carried(binder, node)))
    different = Aggregate((*found, *along), node, grouping, riding_calls(node))
    pairs = tuple((ref, b) for ref, (_, b) in zip(refs(found), keys, strict=True))
    joined = Join((*different.columns, *right.columns), different, right, JoinKind.INNER, pairs)
    columns = (*right.columns, *along)
    return Project(columns, joined, refs(columns))


def beside(node: Node, right: Sequence[OutColumn]) -> tuple[OutColumn, ...]:
    """The left's columns and the right's, these renamed where a name is taken."""
    taken = {column.name for column in node.columns}
    names = Names({*taken, *(column.name for column in right)})
    shown = (names.unique(column.name) if column.name in taken else column.name for column in right)
    return (*node.columns, *(replace(column, name=name) for column, name in zip(right, shown, strict=True)))


def join_kind(operator: syntax.Join | syntax.Lookup, default: str) -> JoinKind:
    for item in operator.properties:
        if item.name == "kind":
            text = item.value.text if isinstance(item.value, syntax.Name) else ""
            if text not in _JOIN_KINDS:
                hint = _KINDS_ELSEWHERE.get(text.lower()) or suggestion(text, _JOIN_KINDS)
                raise BindingError(f"there is no join kind '{text}'", item.span, hint=hint)
            return _JOIN_KINDS[text]
    return _JOIN_KINDS[default]


def join_keys(
    binder: Binder, left: Node, right: Node, operator: syntax.Join | syntax.Lookup, env: Env
) -> tuple[tuple[Expr, Expr], ...]:
    found: list[tuple[Expr, Expr]] = []
    pending = list(operator.keys)
    while pending:
        key = pending.pop(0)
        if isinstance(key, syntax.Binary) and key.op == "and":
            pending[:0] = [key.left, key.right]
            continue
        if isinstance(key, syntax.Name):
            a = _key_of(binder, key, left, "left", env)
            b = _key_of(binder, key, right, "right", env)
        elif isinstance(key, syntax.Binary) and key.op == "==":
            sides = (left.columns, right.columns)
            scope = Scope((), env, sides)
            one, other = key.left, key.right
            if _side(one) is _side(other) is None:
                raise BindingError(_KEYS, key.span, hint="write $left.a == $right.b")
            if _side(one) == "$right" or _side(other) == "$left":
                one, other = other, one
            a, b = binder.scalars.bind(one, scope), binder.scalars.bind(other, scope)
        else:
            raise BindingError(_KEYS, key.span)
        if _T.DYNAMIC in (a.type, b.type):
            raise BindingError("a dynamic value cannot be a join's key", key.span, hint="use tostring(...)")
        if a.type is not b.type and not (a.type.is_number and b.type.is_number):
            raise BindingError(f"the key's types differ: {a.type.value} and {b.type.value}", key.span)
        found.append((a, b))
    if not found:
        raise BindingError("a join needs keys", operator.span, hint="write `on` and the columns that meet")
    return tuple(found)


def _key_of(binder: Binder, key: syntax.Name, node: Node, side: str, env: Env) -> Expr:
    """A key that is called the same on both sides, of one of them."""
    try:
        return binder.scalars.bind(key, Scope(node.columns, env))
    except BindingError as error:
        if error.code != "unknown-column":
            raise
        hint = error.hint or "keys of two names are $left.a == $right.b"
        message = f"there is no column '{key.text}' on the {side} side"
        raise BindingError(message, key.span, hint=hint, code=error.code) from None


@step(syntax.Lookup)
def lookup(binder: Binder, node: Node, operator: syntax.Lookup, env: Env) -> Node:
    kind = join_kind(operator, "leftouter")
    if kind not in (JoinKind.LEFT_OUTER, JoinKind.INNER):
        raise BindingError("lookup is leftouter or inner", operator.span)
    right = binder.table(operator.right, env)
    keys = join_keys(binder, node, right, operator, env)
    used = {b.id for _, b in keys if isinstance(b, ColumnRef)}
    joined = Join(beside(node, right.columns), node, right, kind, keys)
    kept = [column for column in joined.columns if column.id not in used]
    # The right key is dropped; a clashing name was numbered as if it were not there.
    names = Names(column.name for column in node.columns)
    right_ids = {column.id: column.name for column in right.columns}
    shown = [replace(c, name=names.unique(right_ids[c.id])) if c.id in right_ids else c for c in kept]
    return Project(tuple(shown), joined, refs(kept))


def _side(expr: syntax.Expr) -> str | None:
    """`$left` or `$right` where the expression names one."""
    while isinstance(expr, syntax.Member | syntax.Index):
        expr = expr.target
    if isinstance(expr, syntax.Call):
        sides = {side for arg in expr.args if (side := _side(arg))}
        return sides.pop() if len(sides) == 1 else None
    return expr.text if isinstance(expr, syntax.Name) and expr.text.startswith("$") else None
