"""Names of result columns, as Kusto gives them."""

from __future__ import annotations

from collections.abc import Iterable

from trailhawk.kql import syntax
from trailhawk.kql.functions import AGGREGATES, FUNCTIONS
from trailhawk.kql.functions.aggregates import ROW_FUNCTIONS

_OWN_PREFIX = {"any": "any", "anyif": "anyif", "make_dictionary": "dictionary"}
"""Older spellings that give their column another name than the newer ones."""


class Names:
    """Names given so far in one list of columns."""

    def __init__(self, used: Iterable[str] = ()) -> None:
        self.used = set(used)
        self.before = frozenset(self.used)
        self.counter = 0

    def unique(self, name: str) -> str:
        """The name, with the first free number behind it where it is taken."""
        found, number = name, 0
        while found in self.used:
            number += 1
            found = f"{name}{number}"
        self.used.add(found)
        return found

    def computed(self) -> str:
        """Column1, Column2, ... for what has no name; names that stood before the list are passed over."""
        self.counter += 1
        while f"Column{self.counter}" in self.before:
            self.counter += 1
        return f"Column{self.counter}"


def auto_name(expr: syntax.Expr) -> str | None:
    """The name Kusto gives an unnamed expression's column; None for Column1 and so on."""
    match expr:
        case syntax.Name():
            return expr.text
        case syntax.Member():
            base = auto_name(expr.target)
            return f"{base}_{expr.name}" if base else expr.name
        case syntax.Index():
            base = auto_name(expr.target)
            step = expr.index.value if isinstance(expr.index, syntax.Literal) else None
            if isinstance(step, str | int):
                return f"{base}_{step}" if base else str(step)
            return f"{base}_" if base else None
        case syntax.Call() if expr.name in FUNCTIONS:
            after = FUNCTIONS[expr.name].name_after
            if after is None:
                return None
            if after.startswith("="):
                return after[1:]
            first = auto_name(expr.args[0]) if expr.args else None
            if after == "":
                return first
            return f"{after}_{first or ''}"
        case syntax.Call(name="bin_auto", args=(value,)):
            return auto_name(value)
        case syntax.Call() if expr.name in ("column_ifexists", "columnifexists") and expr.args:
            named = expr.args[0]
            return named.value if isinstance(named, syntax.Literal) and isinstance(named.value, str) else None
        case syntax.Pipe() if expr.source is not None and not expr.operators:
            return auto_name(expr.source)
        case _:
            return None


def percentile_name(value: str | None, percent: object) -> str:
    """percentile_x_50, percentile_x_12_5"""
    if isinstance(percent, float) and percent.is_integer():
        percent = int(percent)
    return f"percentile_{value or ''}_{percent}".replace(".", "_")


def aggregate_name(expr: syntax.Expr) -> str | None:
    """The name of an unnamed aggregate's column: count_, dcount_user, set_key."""
    if isinstance(expr, syntax.Index | syntax.Member):
        base = aggregate_name(expr.target)
        step = expr.name if isinstance(expr, syntax.Member) else getattr(expr.index, "value", None)
        if step is None:
            return None
        return f"{base}_{step}" if base else str(step)
    if isinstance(expr, syntax.Call) and (expr.name in AGGREGATES or expr.name in ROW_FUNCTIONS):
        first = auto_name(expr.args[0]) if expr.args else None
        if expr.name in ("percentile", "percentilew") and len(expr.args) > 1:
            return percentile_name(first, getattr(expr.args[-1], "value", ""))
        prefix = _OWN_PREFIX.get(expr.name, AGGREGATES[expr.name].prefix)
        if prefix == "":
            return first
        return f"{prefix}_{first or ''}"
    if not isinstance(expr, syntax.Call) or expr.name not in FUNCTIONS:
        return None
    after = FUNCTIONS[expr.name].name_after
    if after is None or after.startswith("=") or not expr.args:
        return None
    inner = expr.args[0]
    is_bare = isinstance(inner, syntax.Call) and inner.name in ("take_any", "take_anyif")
    name = None if is_bare else aggregate_name(inner)
    return f"{after}_{name or ''}" if after else name
