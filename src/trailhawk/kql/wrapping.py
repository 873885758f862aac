"""Whole numbers that grow beyond 64 bits: their lower 64 bits stay, as in KQL's engine.

The SQL engine refuses them instead. So a query is run as it is, and only one that was refused for this is run
again over the plan that `wrapping` gives.
"""

from __future__ import annotations

from trailhawk.kql.functions import FUNCTIONS
from trailhawk.kql.passes import changed
from trailhawk.kql.plan import Call, Expr, InQuery, Node, PathExpr, ScalarQuery
from trailhawk.kql.records import replace
from trailhawk.kql.types import KqlType

_WIDE = {
    "+": "wide_add",
    "-": "wide_subtract",
    "*": "wide_multiply",
    "/": "wide_divide",
    "%": "wide_modulo",
    "bin": "wide_bin",
    "neg": "wide_neg",
    "abs": "wide_abs",
}
_WHOLE = frozenset({KqlType.INT, KqlType.LONG})


def wrapping(plan: Node) -> Node:
    """The plan with sums and products of whole numbers computed wider, and cut to 64 bits."""
    return _wide_plan(plan, {})


def _wide_plan(plan: Node, shared: dict[int, Node]) -> Node:
    return changed(plan, lambda expr: _wide(expr, shared), shared)


def _wide(expr: Expr, shared: dict[int, Node]) -> Expr:
    match expr:
        case Call():
            args = tuple(_wide(arg, shared) for arg in expr.args)
            wide = _WIDE.get(expr.overload.name)
            if wide and all(arg.type in _WHOLE for arg in args):
                return Call(expr.type, FUNCTIONS[wide].overloads[0], args)
            return replace(expr, args=args)
        case PathExpr():
            return replace(expr, base=_wide(expr.base, shared))
        case ScalarQuery():
            return replace(expr, plan=_wide_plan(expr.plan, shared))
        case InQuery():
            return replace(expr, value=_wide(expr.value, shared), plan=_wide_plan(expr.plan, shared))
        case _:
            return expr
