"""A plan that is computed once and used several times."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from trailhawk.kql.plan import Node, Shared
from trailhawk.kql.records import replace

if TYPE_CHECKING:
    from trailhawk.kql.binder import Binder


def once(binder: Binder, plan: Node) -> Callable[[], Shared]:
    """Each call gives a use of the plan with columns of its own, in the plan's order."""
    number = binder.new_id()

    def use() -> Shared:
        columns = tuple(replace(column, id=binder.new_id()) for column in plan.columns)
        return Shared(columns, number, plan, tuple(column.id for column in plan.columns))

    return use
