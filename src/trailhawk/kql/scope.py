"""Where names are looked up: the columns of the row at hand, then the `let`s around it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from trailhawk.errors import BindingError
from trailhawk.kql import syntax
from trailhawk.kql.plan import Expr, OutColumn
from trailhawk.kql.schema import HIDDEN_PREFIX

_CLUSTER = "a Kusto cluster's {}, which a lake does not have"
_CURSORS = _CLUSTER.format("database cursors") + "; use ingestion_time()"
_CLUSTER_FUNCTIONS = {
    **dict.fromkeys(
        ("current_principal", "current_principal_details", "current_principal_is_member_of"),
        _CLUSTER.format("users"),
    ),
    **dict.fromkeys(("cursor_after", "cursor_before_or_at", "cursor_current"), _CURSORS),
    **dict.fromkeys(("extent_id", "extent_tags"), _CLUSTER.format("extents")),
}


class NoTableError(BindingError):
    """A table, or a function in the place of one, that nobody knows; `union isfuzzy=true` goes on without."""


@dataclass(frozen=True)
class ScalarBinding:
    """`let x = 5` or a function's scalar parameter."""

    value: Expr


@dataclass(frozen=True)
class TableBinding:
    """`let T = ...`: bound anew, with ids of its own, at each use."""

    value: syntax.Expr
    env: Env


@dataclass(frozen=True)
class FunctionBinding:
    """`let f = (a: long) { ... }` or a stored function."""

    name: str
    value: syntax.Function
    env: Env


@dataclass(frozen=True)
class PatternBinding:
    """`declare pattern name`: tables by constant arguments."""

    value: syntax.DeclarePattern
    env: Env


Binding = ScalarBinding | TableBinding | FunctionBinding | PatternBinding


@dataclass(frozen=True)
class Env:
    """The `let`s that are visible; an inner one hides an outer one."""

    names: Mapping[str, Binding] = field(default_factory=dict)
    parent: Env | None = None

    def get(self, name: str) -> Binding | None:
        env: Env | None = self
        while env is not None:
            if name in env.names:
                return env.names[name]
            env = env.parent
        return None

    def all_names(self) -> list[str]:
        return [*self.names, *(self.parent.all_names() if self.parent else [])]

    def with_(self, names: Mapping[str, Binding]) -> Env:
        return Env(names, self)


class StoredNames(Mapping[str, Binding]):
    """Stored functions by name, each read when it is first called, with the others around it.

    `path` are the functions that are being called: one of them called again would go on without end.
    """

    def __init__(self, functions: Mapping[str, syntax.Function], path: tuple[str, ...] = ()) -> None:
        self._functions = functions
        self._path = path

    def __contains__(self, name: object) -> bool:
        return name in self._functions

    def __iter__(self) -> Iterator[str]:
        return iter(self._functions)

    def __len__(self) -> int:
        return len(self._functions)

    def __getitem__(self, name: str) -> Binding:
        path = (*self._path, name)
        if name in self._path:
            raise BindingError(f"the function '{name}' calls itself: {' > '.join(path)}")
        return FunctionBinding(name, self._functions[name], Env(StoredNames(self._functions, path)))


def no_function(call: syntax.Call, known: Iterable[str]) -> BindingError:
    """The error for a call of what nobody knows."""
    return BindingError(
        f"there is no function '{call.name}'",
        call.name_span,
        hint=_CLUSTER_FUNCTIONS.get(call.name) or suggestion(call.name, known),
        code="unknown-function",
    )


def visible(columns: Iterable[OutColumn]) -> tuple[OutColumn, ...]:
    """The columns a query may name."""
    return tuple(column for column in columns if not column.name.startswith(HIDDEN_PREFIX))


@dataclass(frozen=True)
class Scope:
    """What an expression may refer to. `sides` is ($left, $right) in a join's condition."""

    columns: tuple[OutColumn, ...]
    env: Env
    sides: tuple[tuple[OutColumn, ...], tuple[OutColumn, ...]] | None = None
    by_name: dict[str, OutColumn] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        for column in self.columns:
            self.by_name.setdefault(column.name, column)

    def column(self, name: str) -> OutColumn | None:
        return None if name.startswith(HIDDEN_PREFIX) else self.by_name.get(name)


def suggestion(name: str, known: Iterable[str]) -> str:
    """A hint that names the nearest known word, '' if none is near."""
    if len(name) < 2:
        return ""
    names = sorted({item for item in known if not item.startswith(HIDDEN_PREFIX)})
    folded = {item.lower(): item for item in names}
    near = difflib.get_close_matches(name.lower(), list(folded), n=1, cutoff=0.6)
    return f"did you mean '{folded[near[0]]}'?" if near else ""
