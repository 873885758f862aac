"""Plan to plan, same rows: definitions inlined, JSON paths promoted, times and texts found that bound a scan,
columns pruned."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from trailhawk.kql.functions.conversion import DYNAMIC_TEXT, OF_PROMOTED
from trailhawk.kql.functions.dynamic import PARSE_JSON
from trailhawk.kql.needles import with_needs
from trailhawk.kql.plan import (
    NOW,
    Aggregate,
    AggregateCall,
    Apply,
    Call,
    ColumnRef,
    Const,
    Expr,
    Filter,
    InQuery,
    Join,
    JoinKind,
    Limit,
    Node,
    OutColumn,
    PathExpr,
    Project,
    ScalarQuery,
    Scan,
    Shared,
    Sort,
    SortKey,
    Union,
    Unnest,
    Values,
    Window,
    references,
    substitute,
    walk,
)
from trailhawk.kql.ranges import Range, compared, of_column, written
from trailhawk.kql.records import replace
from trailhawk.kql.schema import Path, Promoted
from trailhawk.kql.types import KqlType

_MOST_READ: Final = 1.25
"""Uses of a shared query that read so many times its time in all still read apart from each other."""

Bounds = dict[int, Range]
"""For a column's id: the range in ticks that its values lie in, of the rows that are needed."""

_TURNED: Final = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
"""The comparison that says the same with its sides exchanged."""


def optimize(plan: Node, needed: Collection[int] | None = None) -> Node:
    """The plan as it is lowered, with the columns `needed` (all if not said).

    Subqueries inside expressions are optimized on their own. Columns are pruned first as well as last:
    the other passes then walk a few columns of a wide table instead of all.
    """
    wanted = {column.id for column in plan.columns} if needed is None else set(needed)
    inlined, _ = _inline(_Pruning(_Promotions()).prune(plan, wanted))
    promotions = _Promotions()
    promotions.find_scans(inlined)
    promoted = changed(inlined, promotions.rewrite, {})
    return with_needs(_Pruning(promotions).prune(_bound(promoted, {}), wanted))


def shared_plans(plan: Node) -> dict[int, Node]:
    """The optimized plan of each `materialize` below an optimized plan, with the columns any use reads."""
    needed: dict[int, set[int]] = {}
    plans: dict[int, Node] = {}
    pending = [plan]
    while pending:
        for use in _uses(pending.pop()):
            read = needed.get(use.key, set()) | set(use.sources)
            if use.key not in plans or read != needed[use.key]:
                needed[use.key] = read
                plans[use.key] = optimize(use.plan, read)
                pending.append(plans[use.key])
    return plans


def read_apart(plan: Node, plans: Mapping[int, Node], is_large: Callable[[Scan], bool]) -> set[int]:
    """The keys of those `materialize` whose uses read parts of a large table's time that hardly overlap.

    To read each part again takes about as long as to compute the whole once, and keeps no row in memory.
    """
    uses: dict[int, list[Shared]] = {}
    for each in (plan, *plans.values()):
        for use in _uses(each):
            uses.setdefault(use.key, []).append(use)
    return {
        key
        for key, own in uses.items()
        if (scan := _scanned(plans[key])) and is_large(scan) and _is_apart(scan, own)
    }


def _is_apart(scan: Scan, uses: Sequence[Shared]) -> bool:
    """Whether the times that the uses read of a scan come to hardly more than its own."""
    if scan.since is None or scan.until is None:
        return False
    first, end = scan.since, scan.until
    read = (
        min(end if use.until is None else use.until, end)
        - max(first if use.since is None else use.since, first)
        for use in uses
    )
    return sum(max(each, 0) for each in read) <= _MOST_READ * (end - first)


def _scanned(node: Node) -> Scan | None:
    """The scan below filters and projections that give the same whenever they are computed."""
    match node:
        case Scan():
            return node
        case Filter() | Project():
            parts = (part for expr in _own_expressions(node) for part in walk(expr))
            return None if any(is_fresh(part) for part in parts) else _scanned(node.input)
    return None


def is_fresh(expr: Expr) -> bool:
    """Whether an expression gives another value each time, or holds a query."""
    return isinstance(expr, ScalarQuery | InQuery) or _is_random(expr)


def _is_random(expr: Expr) -> bool:
    return isinstance(expr, Call) and expr.overload.name in ("rand", "new_guid", "random_place")


def is_random(plan: Node) -> bool:
    """Whether a plan gives other rows each time that it is computed."""
    parts = (part for node in nodes(plan) for expr in _own_expressions(node) for part in walk(expr))
    return any(_is_random(part) for part in parts)


def outer_columns(plan: Node) -> set[int]:
    """Ids of the columns of a row around it that a plan reads: those that it does not give itself."""
    given = {NOW.id}
    read: set[int] = set()
    for node in nodes(plan):
        given.update(column.id for column in node.columns)
        for expr in _own_expressions(node):
            read |= references(expr)
    return read - given


def scans(plan: Node) -> Iterator[Scan]:
    """Every scan of an optimized plan: those of its shared queries and of queries inside expressions too."""
    for each in (plan, *shared_plans(plan).values()):
        yield from (node for node in nodes(each) if isinstance(node, Scan))


def applied(plan: Node) -> Iterator[Apply]:
    """Every function over rows of an optimized plan, found as `scans` finds its scans."""
    for each in (plan, *shared_plans(plan).values()):
        yield from (node for node in nodes(each) if isinstance(node, Apply))


def _uses(node: Node) -> Iterator[Shared]:
    """The shared queries a plan reads."""
    return (each for each in nodes(node) if isinstance(each, Shared))


def nodes(node: Node) -> Iterator[Node]:
    """A node and all below it, those of queries inside expressions too; a shared query is not entered."""
    pending = [node]
    while pending:
        yield (current := pending.pop())
        pending += reversed([*below(current)])


def below(node: Node) -> Iterator[Node]:
    """What a node reads: the plans of queries inside its expressions, and its inputs."""
    for expr in _own_expressions(node):
        if isinstance(expr, ColumnRef | Const):  # most are
            continue
        for part in walk(expr):
            if isinstance(part, ScalarQuery | InQuery):
                yield part.plan
    yield from _inputs(node)


def _own_expressions(node: Node) -> Iterable[Expr]:
    """The expressions of a node itself."""
    match node:
        case Filter():
            return (node.predicate,)
        case Project():
            return node.values
        case Aggregate():
            return (*node.keys, *_of_calls(node.aggregates))
        case Sort():
            return [key.value for key in node.keys]
        case Join():
            return [key for pair in node.keys for key in pair]
        case Union():
            return [value for row in node.values for value in row]
        case Unnest():
            return node.lists
        case Window():
            return _of_calls(node.calls)
        case Limit(count=Expr() as count):
            return (count,)
        case Scan() | Values() | Limit() | Shared() | Apply():
            return ()
    raise AssertionError(type(node))


def _of_calls(calls: Sequence[AggregateCall]) -> list[Expr]:
    return [expr for call in calls for expr in (*call.args, *call.partition)]


# --- expressions inside nodes ------------------------------------------------------------------------------


def changed(node: Node, change: Callable[[Expr], Expr], shared: dict[int, Node] | None) -> Node:
    """The plan with `change` made of each of its expressions; it sees to those below them itself.

    `shared` keeps what became of shared plans: one that a hundred parts use is changed once. Without it only
    the node's own expressions are changed.
    """

    def calls(items: tuple[AggregateCall, ...]) -> tuple[AggregateCall, ...]:
        return tuple(
            replace(item, args=tuple(map(change, item.args)), partition=tuple(map(change, item.partition)))
            for item in items
        )

    match node:
        case Scan() | Values():
            return node
        case Filter():
            return replace(node, input=_below(node.input, change, shared), predicate=change(node.predicate))
        case Project():
            return replace(
                node, input=_below(node.input, change, shared), values=tuple(map(change, node.values))
            )
        case Aggregate():
            return replace(
                node,
                input=_below(node.input, change, shared),
                keys=tuple(map(change, node.keys)),
                aggregates=calls(node.aggregates),
            )
        case Sort():
            keys = tuple(SortKey(change(key.value), key.descending, key.nulls_first) for key in node.keys)
            return replace(node, input=_below(node.input, change, shared), keys=keys)
        case Limit():
            count = node.count if isinstance(node.count, int) else change(node.count)
            return replace(node, input=_below(node.input, change, shared), count=count)
        case Join():
            return replace(
                node,
                left=_below(node.left, change, shared),
                right=_below(node.right, change, shared),
                keys=tuple((change(a), change(b)) for a, b in node.keys),
            )
        case Union():
            return replace(
                node,
                inputs=tuple(_below(item, change, shared) for item in node.inputs),
                values=tuple(tuple(map(change, row)) for row in node.values),
            )
        case Unnest():
            lists = tuple(map(change, node.lists))
            return replace(node, input=_below(node.input, change, shared), lists=lists)
        case Window():
            return replace(node, input=_below(node.input, change, shared), calls=calls(node.calls))
        case Shared():
            if shared is not None and node.key not in shared:
                shared[node.key] = changed(node.plan, change, shared)
            return node if shared is None else replace(node, plan=shared[node.key])
        case Apply():
            return replace(node, inputs=tuple(_below(item, change, shared) for item in node.inputs))
    raise AssertionError(type(node))


def _below(node: Node, change: Callable[[Expr], Expr], shared: dict[int, Node] | None) -> Node:
    return node if shared is None else changed(node, change, shared)


# --- inlining ----------------------------------------------------------------------------------------------


def _is_cheap(expr: Expr) -> bool:
    """Worth writing again where it is used: a column, a constant, JSON read from a column's text."""
    match expr:
        case ColumnRef() | Const():
            return True
        case PathExpr():
            return _is_cheap(expr.base)
        case Call():
            return expr.overload in (PARSE_JSON, DYNAMIC_TEXT) and _is_cheap(expr.args[0])
        case _:
            return False


def _inline(node: Node) -> tuple[Node, dict[int, Expr]]:
    """The plan with cheap definitions put where they are used, and the definitions visible above it.

    Above a Project a column may so be read that the Project does not list: pruning passes it through.
    """
    match node:
        case Scan() | Values():
            return node, {}
        case Project():
            below, known = _inline(node.input)
            values = tuple(_subplans(substitute(value, known)) for value in node.values)
            cheap = {
                column.id: value
                for column, value in zip(node.columns, values, strict=True)
                if _is_cheap(value) and not (isinstance(value, ColumnRef) and value.id == column.id)
            }
            return replace(node, input=below, values=values), {**known, **cheap}
        case Filter() | Sort() | Limit() | Aggregate() | Unnest() | Window():
            below, known = _inline(node.input)
            own = changed(replace(node, input=below), lambda expr: _subplans(substitute(expr, known)), None)
            return own, {} if isinstance(node, Aggregate) else known
        case Join():
            left, on_left = _inline(node.left)
            right, on_right = _inline(node.right)
            keys = tuple(
                (_subplans(substitute(a, on_left)), _subplans(substitute(b, on_right))) for a, b in node.keys
            )
            return replace(node, left=left, right=right, keys=keys), {}
        case Union():
            done = [_inline(item) for item in node.inputs]
            rows = tuple(
                tuple(_subplans(substitute(value, known)) for value in row)
                for row, (_, known) in zip(node.values, done, strict=True)
            )
            return replace(node, inputs=tuple(item for item, _ in done), values=rows), {}
        case Apply():
            return replace(node, inputs=tuple(_inline(item)[0] for item in node.inputs)), {}
        case Shared():
            # Every use of one shared query must stay one and the same plan, so it is optimized once, below.
            return node, {}
    raise AssertionError(type(node))


def _subplans(expr: Expr) -> Expr:
    """The expression with the queries inside it optimized."""
    match expr:
        case ScalarQuery():
            return replace(expr, plan=optimize(expr.plan))
        case InQuery():
            return replace(expr, value=_subplans(expr.value), plan=optimize(expr.plan))
        case Call():
            args = tuple([_subplans(arg) for arg in expr.args])
            return (
                expr
                if all(a is b for a, b in zip(args, expr.args, strict=True))
                else replace(expr, args=args)
            )
        case _:
            return expr


# --- promoted JSON paths -----------------------------------------------------------------------------------


@dataclass
class _Promotions:
    """`tostring(parse_json(Column).path)` read from a hidden column, for the paths a table promotes."""

    columns: dict[int, dict[Path, Promoted]] = field(default_factory=dict)
    """For a scanned column's id: its promoted paths."""
    given: dict[tuple[int, Path], OutColumn] = field(default_factory=dict)
    hidden: dict[int, tuple[int, str]] = field(default_factory=dict)
    """For a promoted column's id: the scanned column it comes from, and its stored name."""

    def find_scans(self, node: Node) -> None:
        for scan in _scans(node):
            paths: dict[str, dict[Path, Promoted]] = {}
            for item in scan.table.promoted:
                paths.setdefault(item.column, {})[item.path] = item
            for column, stored in zip(scan.columns, scan.stored, strict=True):
                if stored in paths:
                    self.columns[column.id] = paths[stored]

    def rewrite(self, expr: Expr) -> Expr:
        match expr:
            case ColumnRef() | Const():
                return expr
            case Call(
                overload=overload,
                args=(PathExpr(base=Call(overload=parse, args=(ColumnRef(id=id_),))) as path,),
            ) if overload is DYNAMIC_TEXT and parse is PARSE_JSON:
                promoted = self.columns.get(id_, {}).get(path.steps)
                return expr if promoted is None else self._column(id_, promoted)
            case Call(args=(text, _)) if expr.overload.name in OF_PROMOTED and isinstance(
                read := self.rewrite(text), ColumnRef
            ):
                # The value itself would be read from the whole JSON.
                return replace(expr, overload=OF_PROMOTED[expr.overload.name], args=(read,))
            case Call():
                args = tuple([self.rewrite(arg) for arg in expr.args])
                return (
                    expr
                    if all(a is b for a, b in zip(args, expr.args, strict=True))
                    else replace(expr, args=args)
                )
            case PathExpr():
                return replace(expr, base=self.rewrite(expr.base))
            case InQuery():
                return replace(expr, value=self.rewrite(expr.value))
            case _:
                return expr

    def _column(self, source: int, promoted: Promoted) -> Expr:
        key = (source, promoted.path)
        if key not in self.given:
            # Ids count up from 1 in the binder; a promoted one is negative.
            column = OutColumn(-1 - len(self.given) - source * 1000, promoted.hidden, KqlType.STRING)
            self.given[key] = column
            self.hidden[column.id] = (source, promoted.hidden)
        return ColumnRef(KqlType.STRING, self.given[key].id)


def _scans(node: Node) -> Iterator[Scan]:
    if isinstance(node, Scan):
        yield node
    for item in _inputs(node):
        yield from _scans(item)


def _inputs(node: Node) -> tuple[Node, ...]:
    match node:
        case Join():
            return (node.left, node.right)
        case Union() | Apply():
            return node.inputs
        case Scan() | Values() | Shared():
            return ()
        case Filter() | Project() | Aggregate() | Sort() | Limit() | Unnest() | Window():
            return (node.input,)
    raise AssertionError(type(node))


# --- time ranges -------------------------------------------------------------------------------------------


def _bound(node: Node, bounds: Bounds) -> Node:
    """The plan with `since` and `until` on each scan whose time column the filters above bound."""
    match node:
        case Scan():
            times = [
                c
                for c, stored in zip(node.columns, node.stored, strict=True)
                if stored == node.table.time_column
            ]
            low, high = bounds.get(times[0].id, Range()) if times else Range()
            return replace(node, since=low, until=high)
        case Filter():
            return replace(node, input=_bound(node.input, _narrow(bounds, node.predicate)))
        case Project():
            narrowed = dict(bounds)
            for column, value in zip(node.columns, node.values, strict=True) if bounds else ():
                if column.id in bounds and isinstance(value, Call):
                    _add(narrowed, value, bounds[column.id])
            return replace(node, input=_bound(node.input, narrowed))
        case Sort():
            return replace(node, input=_bound(node.input, bounds))
        case Limit() | Window() | Aggregate() | Unnest():
            return replace(node, input=_bound(node.input, {}))
        case Join():
            from_left = node.kind in (
                JoinKind.INNER,
                JoinKind.LEFT_OUTER,
                JoinKind.LEFT_SEMI,
                JoinKind.LEFT_ANTI,
            )
            from_right = node.kind in (
                JoinKind.INNER,
                JoinKind.RIGHT_OUTER,
                JoinKind.RIGHT_SEMI,
                JoinKind.RIGHT_ANTI,
            )
            return replace(
                node,
                left=_bound(node.left, bounds if from_left else {}),
                right=_bound(node.right, bounds if from_right else {}),
            )
        case Union():
            inputs = []
            for item, row in zip(node.inputs, node.values, strict=True):
                mapped = {
                    value.id: bounds[column.id]
                    for column, value in zip(node.columns, row, strict=True)
                    if isinstance(value, ColumnRef) and column.id in bounds
                }
                inputs.append(_bound(item, mapped))
            return replace(node, inputs=tuple(inputs))
        case Apply():
            return replace(node, inputs=tuple(_bound(item, {}) for item in node.inputs))
        case Shared():
            time = _event_time(node.plan)
            own = [c.id for c, source in zip(node.columns, node.sources, strict=True) if source == time]
            low, high = bounds.get(own[0], Range()) if own else Range()
            return replace(node, since=low, until=high)
        case Values():
            return node
    raise AssertionError(type(node))


def _event_time(node: Node) -> int | None:
    """The id of the event time among the columns of a plan whose rows are rows of one table."""
    match node:
        case Scan():
            return node.event_time.id if node.event_time else None
        case Filter():
            return _event_time(node.input)
        case Project():
            below = _event_time(node.input)
            named = zip(node.columns, node.values, strict=True)
            return next((c.id for c, v in named if isinstance(v, ColumnRef) and v.id == below), None)
    return None


def _narrow(bounds: Bounds, predicate: Expr) -> Bounds:
    """The bounds with those that a predicate's conjuncts add."""
    narrowed = dict(bounds)
    for conjunct in conjuncts(predicate):
        match conjunct:
            case (
                Call(
                    args=(Call(args=(value, Const(value=str() as form))) as call, Const(value=str() as text))
                )
                | Call(
                    args=(Const(value=str() as text), Call(args=(value, Const(value=str() as form))) as call)
                )
            ):
                if (conjunct.overload.name, call.overload.name) == ("==", "format_datetime"):
                    _add(narrowed, value, written(form, text))
            case Call(args=(value, Const() as const)):
                _add(narrowed, value, compared(conjunct.overload.name, const))
            case Call(args=(Const() as const, value)):
                op = _TURNED.get(conjunct.overload.name, conjunct.overload.name)
                _add(narrowed, value, compared(op, const))
            case Call(args=(left, right)) if conjunct.overload.name == "or":
                one, other = _narrow({}, left), _narrow({}, right)
                for column in one.keys() & other.keys():
                    span = one[column].join(other[column])
                    narrowed[column] = narrowed.get(column, Range()).meet(span)
    return narrowed


def _add(bounds: Bounds, value: Expr, span: Range | None) -> None:
    """The bounds with that of the column which a value is computed of, where the value lies in a range."""
    if span and (found := of_column(value, span)):
        column, own = found
        bounds[column.id] = bounds.get(column.id, Range()).meet(own)


def conjuncts(predicate: Expr) -> Iterator[Expr]:
    """The conditions that a predicate joins by `and`."""
    if isinstance(predicate, Call) and predicate.overload.name == "and":
        for arg in predicate.args:
            yield from conjuncts(arg)
    else:
        yield predicate


# --- pruning -----------------------------------------------------------------------------------------------


@dataclass
class _Pruning:
    """Keeps of each node what the nodes above read, and passes through what they read from further below."""

    promotions: _Promotions

    def prune(self, node: Node, needed: set[int]) -> Node:
        match node:
            case Scan():
                return self._scan(node, needed)
            case Values():
                return node
            case Project():
                return self._project(node, needed)
            case Filter():
                below = self.prune(node.input, needed | references(node.predicate))
                return replace(node, columns=below.columns, input=below)
            case Sort():
                keys = set().union(*(references(key.value) for key in node.keys))
                below = self.prune(node.input, needed | keys)
                return replace(node, columns=below.columns, input=below)
            case Limit():
                below = self.prune(node.input, needed)
                return replace(node, columns=below.columns, input=below)
            case Aggregate():
                return self._aggregate(node, needed)
            case Join():
                return self._join(node, needed)
            case Union():
                return self._union(node, needed)
            case Unnest():
                own = node.columns[len(node.input.columns) :]
                read = set().union(*(references(item) for item in node.lists))
                below = self.prune(node.input, (needed - {c.id for c in own}) | read)
                return replace(node, columns=(*below.columns, *own), input=below)
            case Window():
                own = node.columns[len(node.input.columns) :]
                read = {
                    id_
                    for call in node.calls
                    for arg in (*call.args, *call.partition)
                    for id_ in references(arg)
                }
                below = self.prune(node.input, (needed | read) - {c.id for c in own})
                return replace(node, columns=(*below.columns, *own), input=below)
            case Apply():
                pruned = zip(node.inputs, node.given, strict=True)
                return replace(
                    node,
                    inputs=tuple(self.prune(item, {column.id for column in given}) for item, given in pruned),
                )
            case Shared():
                kept = [(c, s) for c, s in zip(node.columns, node.sources, strict=True) if c.id in needed]
                return replace(node, columns=tuple(c for c, _ in kept), sources=tuple(s for _, s in kept))
        raise AssertionError(type(node))

    def _scan(self, node: Scan, needed: set[int]) -> Scan:
        kept = [(c, s) for c, s in zip(node.columns, node.stored, strict=True) if c.id in needed]
        own = {column.id for column in node.columns}
        for column in self.promotions.given.values():
            source, stored = self.promotions.hidden[column.id]
            if column.id in needed and source in own:
                kept.append((column, stored))
        return replace(node, columns=tuple(c for c, _ in kept), stored=tuple(s for _, s in kept))

    def _project(self, node: Project, needed: set[int]) -> Project:
        kept = [(c, v) for c, v in zip(node.columns, node.values, strict=True) if c.id in needed]
        own = {column.id for column in node.columns}
        through = needed - own
        read = set().union(*(references(value) for _, value in kept)) | through
        below = self.prune(node.input, read)
        passed = [(c, ColumnRef(c.type, c.id)) for c in below.columns if c.id in through]
        pairs: list[tuple[OutColumn, Expr]] = [*kept, *passed]
        return Project(tuple(c for c, _ in pairs), below, tuple(v for _, v in pairs))

    def _aggregate(self, node: Aggregate, needed: set[int]) -> Aggregate:
        width = len(node.keys)
        kept = [
            (column, call)
            for column, call in zip(node.columns[width:], node.aggregates, strict=True)
            if column.id in needed
        ]
        read = set().union(*(references(key) for key in node.keys))
        read |= {id_ for _, call in kept for arg in call.args for id_ in references(arg)}
        below = self.prune(node.input, read)
        columns = (*node.columns[:width], *(column for column, _ in kept))
        return Aggregate(columns, below, node.keys, tuple(call for _, call in kept))

    def _join(self, node: Join, needed: set[int]) -> Join:
        left_read = set().union(*(references(a) for a, _ in node.keys))
        right_read = set().union(*(references(b) for _, b in node.keys))
        left = self.prune(node.left, needed | left_read)
        right = self.prune(node.right, needed | right_read)
        names = {column.id: column for column in node.columns}
        if node.kind in (JoinKind.LEFT_SEMI, JoinKind.LEFT_ANTI):
            columns = left.columns
        elif node.kind in (JoinKind.RIGHT_SEMI, JoinKind.RIGHT_ANTI):
            columns = right.columns
        else:
            columns = (*left.columns, *right.columns)
        return replace(node, columns=tuple(names.get(c.id, c) for c in columns), left=left, right=right)

    def _union(self, node: Union, needed: set[int]) -> Union:
        places = [i for i, column in enumerate(node.columns) if column.id in needed]
        rows = tuple(tuple(row[i] for i in places) for row in node.values)
        inputs = tuple(
            self.prune(item, set().union(*(references(value) for value in row)))
            for item, row in zip(node.inputs, rows, strict=True)
        )
        return Union(tuple(node.columns[i] for i in places), inputs, rows)
