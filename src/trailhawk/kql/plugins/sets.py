"""dcount_intersect."""

from __future__ import annotations

from trailhawk.errors import BindingError
from trailhawk.kql.functions.python import Json, Whole, python
from trailhawk.kql.functions.sketches import HASHES, SPACE
from trailhawk.kql.plan import ColumnRef, Expr, Node, OutColumn, Project
from trailhawk.kql.plugins.registry import Use, plugin
from trailhawk.kql.plugins.shared import Arguments, kept
from trailhawk.kql.types import KqlType

_T = KqlType
MAX_SETS = 16


@python("dcount_of_intersection", internal=True)
def dcount_of_intersection(sketches: Json) -> Whole | None:
    """How many different values are in all of the sets that these sketches of hll() stand for."""
    if not isinstance(sketches, list) or not all(isinstance(sketch, list) for sketch in sketches):
        return None
    common = set.intersection(*({item for item in sketch if isinstance(item, int)} for sketch in sketches))
    full = [int(max(sketch)) for sketch in sketches if len(sketch) >= HASHES]
    if not full:
        return len(common)
    # Below the least bound every hash of every set is known: what is common there stands for all.
    bound = int(min(full))
    return round(sum(item <= bound for item in common) * SPACE / bound)


@plugin("dcount_intersect")
def dcount_intersect(use: Use) -> Node:
    """Counts of the values common to the first, the first two, the first three, ... of sketches of hll().

    `dcount_intersect(hll1, hll2, ...)`: columns s0, s1, ... beside the input's.
    """
    values = [Arguments(use).as_value(arg) for arg in use.call.args]
    if not 2 <= len(values) <= MAX_SETS or any(value.type is not _T.DYNAMIC for value in values):
        raise BindingError(f"dcount_intersect() takes 2 to {MAX_SETS} sketches of hll()", use.call.span)
    call = use.binder.scalars.call
    columns = list(kept(use))
    shown: list[Expr] = [ColumnRef(column.type, column.id) for column in columns]
    for number in range(len(values)):
        packed = call("pack_array", [value.value for value in values[: number + 1]], use.call.span)
        shown.append(call("dcount_of_intersection", [packed], use.call.span))
        columns.append(OutColumn(use.binder.new_id(), f"s{number}", _T.LONG))
    return Project(tuple(columns), use.node, tuple(shown))
