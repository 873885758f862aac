"""Statements with several results: fork, facet, graph-to-table of nodes and edges; names that `as` gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trailhawk.errors import BindingError
from trailhawk.kql import syntax
from trailhawk.kql.plan import Node
from trailhawk.kql.records import replace
from trailhawk.kql.scope import Env, TableBinding

if TYPE_CHECKING:
    from trailhawk.kql.binder import Binder


def named(expr: syntax.Expr, env: Env) -> Env:
    """The names that a statement gives to tables, for the statements after it."""
    if not isinstance(expr, syntax.Pipe):
        return env
    names: dict[str, TableBinding] = {}
    for place, operator in enumerate(expr.operators):
        before = syntax.Pipe(expr.span, expr.source, expr.operators[:place])
        inner = env.with_(names) if names else env
        if isinstance(operator, syntax.As):
            names = {**names, operator.name: TableBinding(before, inner)}
        elif isinstance(operator, syntax.GraphToTable):
            for output in operator.outputs:
                if output.name is not None:
                    names = {**names, output.name: TableBinding(_exported(before, operator, output), inner)}
    return env.with_(names) if names else env


def name_of(expr: syntax.Expr) -> str:
    """What a statement calls its table, by a last `as`; '' where it does not."""
    last = expr.operators[-1] if isinstance(expr, syntax.Pipe) and expr.operators else None
    return last.name if isinstance(last, syntax.As) else ""


def results(binder: Binder, expr: syntax.Expr, env: Env) -> list[tuple[str, Node]] | None:
    """The named results of a statement that gives several, or only names; None of one that gives a table."""
    if not isinstance(expr, syntax.Pipe) or not expr.operators:
        return None
    steps, last = expr.operators[:-1], expr.operators[-1]
    fork = steps[-1] if steps else None
    if isinstance(last, syntax.Render) and isinstance(fork, syntax.Fork):
        steps, last = steps[:-1], _drawn(fork, last)
    before = syntax.Pipe(expr.span, expr.source, steps)
    match last:
        case syntax.Fork():
            return [
                (branch.name or "", binder.table(_followed(before, branch.body), env))
                for branch in last.branches
            ]
        case syntax.Facet():
            bodies = [] if last.body is None else [("", binder.table(_followed(before, last.body), env))]
            return bodies + [_counted(binder, before, column, env) for column in last.columns]
        case syntax.GraphToTable() if len(last.outputs) > 1:
            if all(output.name is not None for output in last.outputs):
                return []
            return [
                (output.name or output.kind, binder.table(_exported(before, last, output), env))
                for output in last.outputs
            ]
    return None


def _drawn(fork: syntax.Fork, render: syntax.Render) -> syntax.Fork:
    """A fork of which each branch is drawn so."""
    branches = tuple(
        replace(branch, body=replace(branch.body, operators=(*branch.body.operators, render)))
        for branch in fork.branches
    )
    return replace(fork, branches=branches)


def _followed(before: syntax.Pipe, body: syntax.Pipe) -> syntax.Pipe:
    """The steps of a sub-pipe after those of the pipe it stands in."""
    return syntax.Pipe(body.span, before, body.operators)


def _counted(binder: Binder, before: syntax.Pipe, column: syntax.Expr, env: Env) -> tuple[str, Node]:
    """A facet: each value of a column and how many rows have it, under the column's name."""
    if not isinstance(column, syntax.Name):
        raise BindingError("facet takes names of columns", column.span)
    count = syntax.Named(
        column.span,
        (f"count_{column.text}",),
        syntax.Call(column.span, "count", (), column.span),
        (column.span,),
    )
    counted = syntax.Pipe(column.span, before, (syntax.Summarize(column.span, (count,), (column,)),))
    return column.text, binder.table(counted, env)


def _exported(before: syntax.Pipe, operator: syntax.GraphToTable, output: syntax.GraphOutput) -> syntax.Pipe:
    return syntax.Pipe(operator.span, before, (syntax.GraphToTable(operator.span, (output,)),))
