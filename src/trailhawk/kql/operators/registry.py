"""Which function binds which operator: `@step` for a step of a pipe, `@source` for a pipe's beginning."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from trailhawk.kql import syntax
from trailhawk.kql.lazy import Registry
from trailhawk.kql.plan import Node
from trailhawk.kql.scope import Env

if TYPE_CHECKING:
    from trailhawk.kql.binder import Binder

Op = TypeVar("Op", bound=syntax.Operator)
StepOf = Callable[["Binder", Node, Op, Env], Node]
SourceOf = Callable[["Binder", Op, Env], Node]

STEPS: Registry[type[syntax.Operator], Callable[..., Node]] = Registry()
SOURCES: Registry[type[syntax.Operator], Callable[..., Node]] = Registry()


def step(kind: type[Op]) -> Callable[[StepOf[Op]], StepOf[Op]]:
    """Register what binds an operator to the plan of the rows before it."""

    def register(bind: StepOf[Op]) -> StepOf[Op]:
        STEPS[kind] = bind
        return bind

    return register


def source(kind: type[Op]) -> Callable[[SourceOf[Op]], SourceOf[Op]]:
    """Register what binds an operator that begins a pipe."""

    def register(bind: SourceOf[Op]) -> SourceOf[Op]:
        SOURCES[kind] = bind
        return bind

    return register
