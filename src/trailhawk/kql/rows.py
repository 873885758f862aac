"""What `arg_max(x, *)` and the like carry of a row: no more than the query reads of it.

Among equals a hash of the carried values decides, so all uses of one call, in whatever part of the query,
carry the same ones: they see the same row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from trailhawk.kql.functions.aggregates import ROW_FIELD, ROW_OF
from trailhawk.kql.passes import changed, nodes, optimize, shared_plans
from trailhawk.kql.plan import Call, Const, Expr, InQuery, Node, PathExpr, Project, ScalarQuery, walk
from trailhawk.kql.records import replace
from trailhawk.kql.types import KqlType

Read = Mapping[object, set[object]]
"""For the number of a call: the places of its row that are read."""


def narrowed(plans: Sequence[Node]) -> tuple[Node, ...]:
    """The bound plans of a query with the values left out of rows that no part of it reads."""
    read: dict[object, set[object]] = {}
    for optimized in map(optimize, plans):
        for plan in (optimized, *shared_plans(optimized).values()):
            for number, place in _fields(plan):
                read.setdefault(number, set()).add(place)
    shared: dict[int, Node] = {}
    return tuple(_narrow_plan(plan, read, shared) for plan in plans)


def _fields(plan: Node) -> Iterator[tuple[object, object]]:
    """The number of the call and the place of each value that a plan reads of a row."""
    for node in nodes(plan):
        if isinstance(node, Project):
            for value in node.values:
                for part in walk(value):
                    match part:
                        case Call(overload=overload, args=(Const() as number, Const() as place, *_)) if (
                            overload is ROW_FIELD
                        ):
                            yield number.value, place.value


def _narrow_plan(plan: Node, read: Read, shared: dict[int, Node]) -> Node:
    return changed(plan, lambda expr: _narrow(expr, read, shared), shared)


def _narrow(expr: Expr, read: Read, shared: dict[int, Node]) -> Expr:
    match expr:
        case Call(overload=overload, args=(Const() as number, _, *values)) if overload is ROW_OF:
            kept = [
                (place, value) for place, value in enumerate(values) if place in read.get(number.value, ())
            ]
            if not kept:  # the row itself is not read
                return expr
            places: list[object] = [place for place, _ in kept]
            own = [_narrow(value, read, shared) for _, value in kept]
            return replace(expr, args=(number, Const(KqlType.DYNAMIC, places), *own))
        case Call():
            return replace(expr, args=tuple([_narrow(arg, read, shared) for arg in expr.args]))
        case PathExpr():
            return replace(expr, base=_narrow(expr.base, read, shared))
        case ScalarQuery():
            return replace(expr, plan=_narrow_plan(expr.plan, read, shared))
        case InQuery():
            plan = _narrow_plan(expr.plan, read, shared)
            return replace(expr, value=_narrow(expr.value, read, shared), plan=plan)
        case _:
            return expr
