"""Which function binds which plugin of `evaluate`: `@plugin("name")`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trailhawk.kql import syntax
from trailhawk.kql.plan import Node
from trailhawk.kql.scope import Env, Scope

if TYPE_CHECKING:
    from trailhawk.kql.binder import Binder


@dataclass(frozen=True)
class Use:
    """One `evaluate`: the rows before it, the call, and the schema it declares (`open` for a leading `*`)."""

    binder: Binder
    node: Node
    env: Env
    call: syntax.Call
    columns: tuple[syntax.ColumnDecl, ...] | None = None
    open: bool = False

    @property
    def name(self) -> str:
        return self.call.name

    @property
    def scope(self) -> Scope:
        return Scope(self.node.columns, self.env)


Plugin = Callable[[Use], Node]

PLUGINS: dict[str, Plugin] = {}


def plugin(name: str) -> Callable[[Plugin], Plugin]:
    """Register what binds a plugin."""

    def register(bind: Plugin) -> Plugin:
        PLUGINS[name] = bind
        return bind

    return register
