"""scan: sequences of rows found by steps that remember what matched before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import localcontext
from typing import TYPE_CHECKING

from trailhawk.errors import BindingError, Span, UnsupportedError
from trailhawk.kql import decimals, syntax
from trailhawk.kql.evaluate import Value, evaluator
from trailhawk.kql.operators.registry import step
from trailhawk.kql.operators.rows import sort_key
from trailhawk.kql.operators.shared import carried, property_text, refs
from trailhawk.kql.plan import (
    Apply,
    Call,
    ColumnRef,
    Const,
    Expr,
    Frame,
    Node,
    OutColumn,
    PathExpr,
    Project,
    Sort,
    SortKey,
    references,
)
from trailhawk.kql.records import field_names, replace
from trailhawk.kql.schema import HIDDEN_PREFIX
from trailhawk.kql.scope import Env, Scope, visible
from trailhawk.kql.types import KqlType

if TYPE_CHECKING:
    from trailhawk.kql.binder import Binder

_T = KqlType
MAX_STEPS = 100


@dataclass(frozen=True)
class _Slot:
    """A value that the state keeps: a column of the last row that matched a step."""

    step: int
    column: OutColumn
    place: int
    empty: object


@dataclass(frozen=True)
class _Step:
    """A step ready to run over rows; `assignments` are (place of an input or declared column, value)."""

    condition: Value
    assignments: tuple[tuple[int, Value], ...]
    optional: bool
    output: str


@dataclass
class _Binding:
    """What the steps' expressions refer to: the row's columns, declared ones, and the state."""

    binder: Binder
    names: list[str]
    columns: tuple[OutColumn, ...]
    declared: tuple[OutColumn, ...]
    defaults: tuple[object, ...]
    slots: dict[tuple[int, int], _Slot] = field(default_factory=dict)
    computed: list[tuple[OutColumn, Expr]] = field(default_factory=list)

    def expression(self, expr: syntax.Expr, to: KqlType, env: Env) -> Expr:
        """The expression, what depends on the row alone put among the computed columns."""
        rewritten = self._with_state(expr)
        state = [slot.column for slot in self.slots.values()]
        scope = Scope((*self.columns, *self.declared, *state), env)
        bound = self.binder.scalars.convert(self.binder.scalars.bind(rewritten, scope), to, expr.span)
        return self._hoisted(bound, {column.id for column in (*self.declared, *state)})

    def _with_state(self, expr: syntax.Expr) -> syntax.Expr:
        """`step.column` as a column of the state."""
        if isinstance(expr, syntax.Member) and isinstance(expr.target, syntax.Name):
            name = expr.target.text
            if name in self.names and not any(column.name == name for column in self.columns):
                return syntax.Name(expr.span, self._slot(self.names.index(name), expr).column.name)
        values: dict[str, object] = {}
        for name in field_names(expr):
            value = getattr(expr, name)
            if isinstance(value, syntax.Expr):
                values[name] = self._with_state(value)
            elif isinstance(value, tuple) and any(isinstance(part, syntax.Expr) for part in value):
                values[name] = tuple(
                    self._with_state(part) if isinstance(part, syntax.Expr) else part for part in value
                )
        return replace(expr, **values) if values else expr

    def _slot(self, number: int, expr: syntax.Member) -> _Slot:
        known = (*visible(self.columns), *self.declared)
        column = next((column for column in known if column.name == expr.name), None)
        if column is None:
            raise BindingError(f"the rows of scan have no column '{expr.name}'", expr.span)
        key = (number, column.id)
        if key not in self.slots:
            places = [c.id for c in (*self.columns, *self.declared)]
            place = places.index(column.id)
            is_declared = place >= len(self.columns)
            nothing = "" if column.type is _T.STRING else None
            self.slots[key] = _Slot(
                number,
                OutColumn(self.binder.new_id(), f"#{self.names[number]}.{column.name}", column.type),
                place,
                self.defaults[place - len(self.columns)] if is_declared else nothing,
            )
        return self.slots[key]

    def _hoisted(self, expr: Expr, state: set[int]) -> Expr:
        if isinstance(expr, Const | ColumnRef):
            return expr
        if not self._reads(expr, state):
            column = OutColumn(self.binder.new_id(), "", expr.type)
            self.computed.append((column, expr))
            return ColumnRef(expr.type, column.id)
        match expr:
            case Call():
                return replace(expr, args=tuple(self._hoisted(arg, state) for arg in expr.args))
            case PathExpr():
                return replace(expr, base=self._hoisted(expr.base, state))
            case _:
                return expr

    def _reads(self, expr: Expr, state: set[int]) -> bool:
        return bool(references(expr) & state)


@step(syntax.Scan)
def scan(binder: Binder, node: Node, operator: syntax.Scan, env: Env) -> Node:
    """Rows that match a step, in order, with the columns that the steps assign."""
    _check(node, operator)
    scope = Scope(node.columns, env)
    parts: tuple[Expr, ...] = refs(carried(binder, node))
    parts += tuple(binder.scalars.bind(key, scope) for key in operator.partition_by)
    if operator.order_by:
        node = Sort(node.columns, node, tuple(sort_key(binder, key, scope) for key in operator.order_by))
    declared, defaults = _declared(binder, operator, env)
    steps = operator.steps
    binding = _Binding(binder, [item.name for item in steps], node.columns, declared, defaults)
    targets = (*node.columns, *declared)
    places = {column.name: targets.index(column) for column in (*visible(node.columns), *declared)}
    bound: list[tuple[Expr, list[tuple[int, Expr, Span]]]] = []
    for item in steps:
        condition = binding.expression(item.condition, _T.BOOL, env)
        assigned: list[tuple[int, Expr, Span]] = []
        for named in item.assignments:
            if named.names[0] not in places:
                raise BindingError(f"scan neither reads nor declares '{named.names[0]}'", named.span)
            place = places[named.names[0]]
            value = binding.expression(named.value, targets[place].type, env)
            assigned.append((place, value, named.value.span))
        bound.append((condition, assigned))
    keys = tuple(OutColumn(binder.new_id(), "", part.type) for part in parts)
    extra = (*(column for column, _ in binding.computed), *keys)
    given = Project(
        (*node.columns, *extra), node, (*refs(node.columns), *(v for _, v in binding.computed), *parts)
    )
    # A row as the steps see it: its columns, the declared ones, what was computed, and the state.
    slots = list(binding.slots.values())
    row_columns = (*node.columns, *declared, *extra, *(slot.column for slot in slots))
    ids = {column.id: place for place, column in enumerate(row_columns)}
    ready = [
        _Step(
            evaluator(condition, ids, item.condition.span),
            tuple((place, evaluator(value, ids, span)) for place, value, span in assigned),
            item.optional,
            item.output,
        )
        for item, (condition, assigned) in zip(steps, bound, strict=True)
    ]
    width, key_count = len(node.columns), len(keys)

    def run(inputs: tuple[Frame, ...]) -> list[list[object]]:
        runs: dict[tuple[object, ...], _Run] = {}
        found: list[tuple[int, int, tuple[object, ...]]] = []
        with localcontext(decimals.EXACT):
            for number, row in enumerate(inputs[0].rows()):
                part = row[len(row) - key_count :]
                if part not in runs:
                    runs[part] = _Run(ready, slots, defaults, width, found.append)
                runs[part].row(number, row)
        for item in runs.values():
            item.end()
        found.sort(key=lambda entry: entry[:2])
        rows = [(*values, place) for place, (_, _, values) in enumerate(found)]
        return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in shown]

    own = tuple(replace(column, id=binder.new_id()) for column in (*node.columns, *declared))
    match_id = property_text(operator, "with_match_id")
    number = OutColumn(binder.new_id(), match_id or f"{HIDDEN_PREFIX}match", _T.LONG)
    order = OutColumn(binder.new_id(), f"{HIDDEN_PREFIX}order", _T.LONG)
    shown = (*own, number, order)
    applied = Apply(shown, (given,), (given.columns,), run, "scan")
    return Sort(shown, applied, (SortKey(ColumnRef(_T.LONG, order.id), descending=False, nulls_first=True),))


def _check(node: Node, operator: syntax.Scan) -> None:
    names = [item.name for item in operator.steps]
    if not names:
        raise BindingError("scan needs a step", operator.span)
    if len(names) > MAX_STEPS:
        raise BindingError(f"scan takes at most {MAX_STEPS} steps", operator.span)
    if len(set(names)) < len(names):
        raise BindingError("two steps of scan have one name", operator.span)
    columns = {column.name for column in visible(node.columns)}
    match_id = property_text(operator, "with_match_id")
    for name in [item.name for item in operator.declare] + ([match_id] if match_id else []):
        if name in columns:
            raise BindingError(f"the rows have a column '{name}' already", operator.span)
        columns.add(name)
    if property_text(operator, "with_step_name") or property_text(operator, "kind"):
        raise UnsupportedError("scan with with_step_name or kind", operator.span)


def _declared(
    binder: Binder, operator: syntax.Scan, env: Env
) -> tuple[tuple[OutColumn, ...], tuple[object, ...]]:
    """The declared columns and what they hold before a step assigns them."""
    columns: list[OutColumn] = []
    defaults: list[object] = []
    for item in operator.declare:
        if item.type is None:
            raise BindingError("a declared column has a type", item.span)
        value: Expr = Const(item.type, "" if item.type is _T.STRING else None)
        if item.default is not None:
            constant = binder.scalars.constant(item.default, env, "a declared column's value")
            value = binder.scalars.convert(constant, item.type, item.default.span)
        if not isinstance(value, Const):
            raise BindingError(f"this is no {item.type.value}", item.span)
        columns.append(OutColumn(binder.new_id(), item.name, item.type))
        defaults.append(value.value)
    return tuple(columns), tuple(defaults)


State = tuple[int, tuple[object, ...]]
"""The number of a sequence and the values of the slots."""
Emit = Callable[[tuple[int, int, tuple[object, ...]]], None]
"""Takes a found row: number of the input's row, how many came of it before, values and match id."""


class _Run:
    """One pass over rows. Each step holds a state while it has an active sequence.

    https://learn.microsoft.com/kusto/query/scan-operator#scan-logic
    """

    def __init__(
        self,
        steps: Sequence[_Step],
        slots: Sequence[_Slot],
        defaults: tuple[object, ...],
        width: int,
        emit: Emit,
    ) -> None:
        self.steps = steps
        self.slots = slots
        self.defaults = defaults
        self.width = width
        self.emit = emit
        self.empty = tuple(slot.empty for slot in slots)
        self.states: list[State | None] = [None] * len(steps)
        self.waiting: list[tuple[int, int, tuple[object, ...]] | None] = [None] * len(steps)
        """Of a step with output=last: the row that is the last so far."""
        self.sequences = 0
        self.emitted = 0

    def row(self, number: int, row: tuple[object, ...]) -> None:
        """Try the steps from the last to the first."""
        self.emitted = 0
        seen = (*row[: self.width], *self.defaults, *row[self.width :])
        for place in reversed(range(len(self.steps))):
            before = self._before(place)
            state = None if before is None else self.states[before]
            if before is not None and state is not None and self._meets(place, seen, state[1]):
                self._flush(place)
                self.states[before] = None
                self._flush(before)
                self._match(place, number, seen, state)
                continue
            own = self.states[place]
            if own is None and not self._may_begin(place):
                continue
            values = self.empty if own is None else own[1]
            if self._meets(place, seen, values):
                if own is None:
                    self._flush(place)
                    own = (self.sequences, values)
                    self.sequences += 1
                self._match(place, number, seen, own)

    def _before(self, place: int) -> int | None:
        """The step whose sequence goes on here: the one before, past optional ones without a sequence."""
        for before in reversed(range(place)):
            if self.states[before] is not None:
                return before
            if not self.steps[before].optional:
                break
        return None

    def _may_begin(self, place: int) -> bool:
        return all(item.optional for item in self.steps[:place])

    def _meets(self, place: int, seen: tuple[object, ...], slots: tuple[object, ...]) -> bool:
        return self.steps[place].condition((*seen, *slots)) is True

    def _match(self, place: int, number: int, seen: tuple[object, ...], state: State) -> None:
        item = self.steps[place]
        assigned = [*seen[: self.width], *self.defaults]
        for column, value in item.assignments:
            assigned[column] = value((*seen, *state[1]))
        values = tuple(assigned)
        kept = tuple(
            values[slot.place] if slot.step == place else old
            for slot, old in zip(self.slots, state[1], strict=True)
        )
        self.states[place] = (state[0], kept)
        found = (number, self.emitted, (*values, state[0]))
        self.emitted += 1
        if item.output == "all":
            self.emit(found)
        elif item.output == "last":
            self.waiting[place] = found

    def _flush(self, place: int) -> None:
        """The series of matches of a step is over."""
        found = self.waiting[place]
        if found is not None:
            self.emit(found)
            self.waiting[place] = None

    def end(self) -> None:
        for place in range(len(self.steps)):
            self._flush(place)
