"""Scalar expressions: names looked up, overloads chosen, conversions written out, constants folded."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Final, Protocol

from sqlglot import exp

from trailhawk.errors import BindingError, LimitError, QueryError, Span, UnsupportedError
from trailhawk.kql import decimals, syntax
from trailhawk.kql.evaluate import evaluator
from trailhawk.kql.folding import either, fold
from trailhawk.kql.functions import AGGREGATES, FUNCTIONS, WINDOWS, sql
from trailhawk.kql.functions.registry import ORDERED, Aggregate, Arg, NeedsConstantError, Overload, widest
from trailhawk.kql.literals import DATETIME_MIN
from trailhawk.kql.parser.limits import MAX_PROBLEMS
from trailhawk.kql.passes import is_random, outer_columns
from trailhawk.kql.plan import Aggregate as Grouped
from trailhawk.kql.plan import (
    AggregateCall,
    Call,
    ColumnRef,
    Const,
    Expr,
    InQuery,
    Node,
    OutColumn,
    PathExpr,
    Place,
    Project,
    ScalarQuery,
    Shared,
    Values,
    references,
    substitute,
)
from trailhawk.kql.records import replace
from trailhawk.kql.schema import INGESTION_TIME, LOG_OBJECT
from trailhawk.kql.scope import (
    Env,
    FunctionBinding,
    ScalarBinding,
    Scope,
    TableBinding,
    no_function,
    suggestion,
    visible,
)
from trailhawk.kql.types import TICKS_PER_SECOND, KqlType

_T = KqlType
MAX_SIZE = 50_000
"""Parts of one expression, with its lets and functions written out."""
FALSE = Const(_T.BOOL, False)
_CONVERSIONS = {
    _T.STRING: "tostring",
    _T.LONG: "tolong",
    _T.INT: "toint",
    _T.REAL: "todouble",
    _T.DECIMAL: "todecimal",
    _T.BOOL: "tobool",
    _T.DATETIME: "todatetime",
    _T.TIMESPAN: "totimespan",
    _T.GUID: "toguid",
    _T.DYNAMIC: "todynamic",
}
_OF_DYNAMIC = {
    "tolong": "long_of_dynamic",
    "toint": "int_of_dynamic",
    "todouble": "real_of_dynamic",
    "toreal": "real_of_dynamic",
}
"""Conversions that read a dynamic number or bool otherwise than a text."""
# Negated operators: the plain one inside a not().
_NEGATED = {
    f"!{name}": name
    for base in ("has", "hasprefix", "hassuffix", "contains", "startswith", "endswith")
    for name in (base, f"{base}_cs")
} | {"!in": "in", "!in~": "in~"}
_NOTHINGS = frozenset({"null", "none", "nil"})
_TEXT_ORDER = "the order of texts is told by strcmp(one, other) < 0"
_LENGTHS = "a length of time is written 1d, 12h, 30m or 10s"
_TEXTS = frozenset({_T.STRING, _T.DYNAMIC})
_SIZES = {_T.BOOL: 1, _T.INT: 4, _T.GUID: 16, _T.DECIMAL: 34}
"""Bytes of a value, where they are not eight."""
_NEIGHBOURS = frozenset({"prev", "next"})
"""Functions whose third argument stands for a value of the first that is not there: it takes its type."""
_COMPARISONS = frozenset({"==", "!=", "<", "<=", ">", ">="})
_TEXT_COMPARISONS = frozenset({"=~", "!~"})
_CHOICES = frozenset({"case", "iff", "iif"})
_ARRAYS = frozenset({"percentiles_array_tdigest"})
"""Functions that take typeof(...) for the elements of the array they give."""


class TableBinder(Protocol):
    """What the scalar binder asks of the binder of tables."""

    def table(self, expr: syntax.Expr, env: Env) -> Node: ...

    def is_table(self, expr: syntax.Expr, env: Env) -> bool: ...

    def new_id(self) -> int: ...

    def call_scope(
        self, function: FunctionBinding, args: Sequence[syntax.Expr], scope: Scope, span: Span
    ) -> Env: ...

    def table_names(self) -> tuple[str, ...]: ...


@dataclass
class Collector:
    """Gathers the aggregates (or window functions) met in an expression, and their columns.

    Window functions are computed for each `partition` on its own.
    """

    functions: dict[str, Aggregate]
    calls: list[AggregateCall] = field(default_factory=list)
    columns: list[OutColumn] = field(default_factory=list)
    partition: tuple[Expr, ...] = ()


def ticks_of(moment: datetime) -> int:
    """Ticks since the Unix epoch of an aware datetime."""
    seconds = int(moment.timestamp() // 1)
    return seconds * TICKS_PER_SECOND + moment.microsecond * 10


_LEAST: Final = {
    **dict.fromkeys(("set_union", "set_intersect", "set_difference"), 1),
    **dict.fromkeys(("has_any_ipv4", "has_any_ipv4_prefix", "ipv6_is_in_any_range"), 2),
}
"""How many arguments functions need at least that take any number of them."""


def _over_any(overload: Overload, args: Sequence[Expr]) -> exp.Expr:
    """The SQL of a call over columns of any name."""
    return overload.sql(
        [
            Arg(sql.constant(arg.value, arg.type), arg.type, arg.value)
            if isinstance(arg, Const)
            else Arg(exp.column("any"), arg.type)
            for arg in args
        ]
    )


def _need_order(value: Expr, span: Span) -> None:
    """BindingError for a value of a type of which none is the largest."""
    if value.type not in ORDERED and not _is_null(value):
        message, hint = f"a {value.type.value} value has no order", "use tostring(...) or tolong(...)"
        raise BindingError(message, span, hint=hint, code="wrong-type")


def too_few(shown: str, least: int, span: Span) -> BindingError:
    """The error for a call with fewer arguments than the function needs."""
    noun = "argument" if least == 1 else "arguments"
    return BindingError(f"{shown} takes at least {least} {noun}", span, code="wrong-arguments")


class ScalarBinder:
    """Binds expressions. `now` is what now() and ago() mean, in ticks or as a column.

    Where errors are gathered in `found`, what is wrong with one side of `and` and `or` goes there, and every
    function is asked for its SQL at once, so that what it has against its constants is told with the place;
    else that is found where the plan is lowered, if what is wrong is needed at all. What wants a constant may
    have one when the plan is optimized: `is_wanting` then says that it is to be lowered.
    """

    def __init__(
        self, tables: TableBinder, now: int | ColumnRef, *, found: list[QueryError] | None = None
    ) -> None:
        self.tables = tables
        self.found = found
        self.is_wanting = False
        self.now = Const(_T.DATETIME, now) if isinstance(now, int) else now
        self.sizes: dict[int, tuple[Expr, int]] = {}
        self.random: dict[tuple[int, int], tuple[Expr, Env]] = {}
        """What toscalar() gave for what is random, by its place and the names around it."""
        self.options: dict[str, syntax.Expr | None] = {}
        """Values of `set` statements, by name."""
        self.special: dict[str, Callable[[syntax.Call, Scope, Collector | None], Expr]] = {
            "now": self._now,
            "ago": self._ago,
            "iff": self._iff,
            "iif": self._iff,
            "case": self._case,
            "coalesce": self._coalesce,
            "max_of": self._widest_of,
            "min_of": self._widest_of,
            "toscalar": self._toscalar,
            "column_ifexists": self._column_ifexists,
            "columnifexists": self._column_ifexists,
            "ingestion_time": self._ingestion_time,
            "log_object": self._log_object,
            "pack_all": self._pack_all,
            "pack_array": self._pack_array,
            "assert": self._assert,
            "column_names_of": self._column_names_of,
            "bag_pack_columns": self._bag_pack_columns,
            "bin_auto": self._bin_auto,
            "around": self._around,
            "estimate_data_size": self._estimate_data_size,
        }

    # --- the walk ------------------------------------------------------------------------------------------

    def bind(self, expr: syntax.Expr, scope: Scope, collect: Collector | None = None) -> Expr:
        """The typed expression. Aggregates are taken only where there is a collector for them."""
        match expr:
            case syntax.Literal():
                return _known(Const(expr.type, expr.value), expr.span)
            case syntax.Name():
                return self._name(expr, scope)
            case syntax.Member():
                return self._member(expr, scope, collect)
            case syntax.Index():
                return self._index(expr, scope, collect)
            case syntax.Unary():
                operand = self.bind(expr.operand, scope, collect)
                return operand if expr.op == "+" else self.call("neg", [operand], expr.span)
            case syntax.Binary():
                return self._binary(expr, scope, collect)
            case syntax.InList():
                return self._in(expr, scope, collect)
            case syntax.Between():
                return self._between(expr, scope, collect)
            case syntax.Call():
                return self._call(expr, scope, collect)
            case syntax.Pipe() if expr.source is not None and not expr.operators:
                return self.bind(expr.source, scope, collect)
            case syntax.Pipe() | syntax.DataTable() | syntax.ExternalData():
                raise BindingError(
                    "a table stands where a value is expected", expr.span, hint="use toscalar(...)"
                )
            case syntax.Named():
                raise BindingError(
                    "'=' names a column and cannot stand here", expr.span, hint="did you mean '=='?"
                )
            case syntax.Star():
                raise BindingError("'*' cannot stand here", expr.span)
            case syntax.TypeOf():
                raise BindingError("typeof() cannot stand here", expr.span)
            case _:
                raise UnsupportedError(type(expr).__name__.lower(), expr.span)

    def predicate(self, expr: syntax.Expr, scope: Scope, collect: Collector | None = None) -> Expr:
        """A bool; what is of another type is an error."""
        bound = self.bind(expr, scope, collect)
        return self._as_bool(bound, expr.span)

    def _as_bool(self, bound: Expr, span: Span) -> Expr:
        if bound.type is _T.BOOL:
            return bound
        if bound.type is _T.DYNAMIC:
            return self.convert(bound, _T.BOOL, span)
        is_text = isinstance(bound, Const) and bound.type is _T.STRING
        hint = "the comparison is written again for each, or as x in (one, other)" if is_text else ""
        raise BindingError(
            f"a bool is expected, this is a {bound.type.value}", span, hint=hint, code="wrong-type"
        )

    def knows(self, name: str, env: Env) -> bool:
        """Is there a scalar function of this name?"""
        if isinstance(env.get(name), FunctionBinding) or name in self.special:
            return True
        return name in FUNCTIONS and not FUNCTIONS[name].internal

    def bounded(self, expr: Expr, span: Span) -> Expr:
        """The expression, unless it has grown beyond bounds.

        Lets and functions that use each other twice are small as shared parts, but endless as text.
        """
        if self._size(expr) > MAX_SIZE:
            raise LimitError(f"an expression of more than {MAX_SIZE:,} parts", span)
        return expr

    def _size(self, expr: Expr) -> int:
        known = self.sizes.get(id(expr))
        if known is not None:
            return known[1]
        match expr:
            case Call():
                size = 1 + sum(self._size(arg) for arg in expr.args)
            case PathExpr():
                size = 1 + self._size(expr.base)
            case InQuery():
                size = 1 + self._size(expr.value)
            case _:
                size = 1
        self.sizes[id(expr)] = expr, size  # the expression too, so that its id is not given again
        return size

    def constant(self, expr: syntax.Expr, env: Env, what: str) -> Const:
        """A constant expression, as `take` and `range` need one."""
        bound = self.bind(expr, Scope((), env))
        if not isinstance(bound, Const):
            raise BindingError(f"{what} must be a constant", expr.span)
        return bound

    # --- names ---------------------------------------------------------------------------------------------

    def _name(self, expr: syntax.Name, scope: Scope) -> Expr:
        column = scope.column(expr.text)
        if column is not None:
            return ColumnRef(column.type, column.id)
        binding = scope.env.get(expr.text)
        match binding:
            case ScalarBinding():
                return binding.value
            case FunctionBinding() if not binding.value.parameters:
                return self._user_function(binding, (), scope, expr.span)
            case TableBinding() | FunctionBinding():
                raise BindingError(
                    f"'{expr.text}' is not a value", expr.span, hint="use toscalar(...) for a table"
                )
        hint = suggestion(expr.text, [*scope.by_name, *scope.env.all_names()])
        if expr.text.lower() in _NOTHINGS:
            hint = "null is found with isnull(...), an empty text with isempty(...)"
        elif expr.text in AGGREGATES or self.knows(expr.text, scope.env):
            hint = f"it is a function: {expr.text}(...)"
        raise BindingError(
            f"there is no column or variable '{expr.text}'", expr.span, hint=hint, code="unknown-column"
        )

    def _member(self, expr: syntax.Member, scope: Scope, collect: Collector | None) -> Expr:
        if isinstance(expr.target, syntax.Name) and expr.target.text in ("$left", "$right"):
            if scope.sides is None:
                raise BindingError(
                    f"'{expr.target.text}' stands only in a join's condition", expr.target.span
                )
            side = Scope(scope.sides[expr.target.text == "$right"], scope.env)
            return self._name(syntax.Name(expr.span, expr.name), side)
        return self._step(self.bind(expr.target, scope, collect), expr.name, expr.span)

    def _index(self, expr: syntax.Index, scope: Scope, collect: Collector | None) -> Expr:
        base = self.bind(expr.target, scope, collect)
        index = self.bind(expr.index, scope, collect)
        if (
            isinstance(index, Const)
            and isinstance(index.value, str | int)
            and not isinstance(index.value, bool)
        ):
            return self._step(base, index.value, expr.span)
        if base.type is not _T.DYNAMIC:
            raise BindingError(f"a {base.type.value} has no members", expr.span, hint="use parse_json(...)")
        name = "dynamic_at" if index.type.is_integer else "dynamic_member"
        return self.call(name, [base, index], expr.span)

    def _step(self, base: Expr, step: str | int, span: Span) -> Expr:
        if base.type is not _T.DYNAMIC:
            raise BindingError(f"a {base.type.value} has no members", span, hint="use parse_json(...)")
        if isinstance(base, Const):
            return Const(_T.DYNAMIC, _value_at(base.value, step))
        if isinstance(base, PathExpr):
            return PathExpr(_T.DYNAMIC, base.base, (*base.steps, step))
        return PathExpr(_T.DYNAMIC, base, (step,))

    # --- operators -----------------------------------------------------------------------------------------

    def _binary(self, expr: syntax.Binary, scope: Scope, collect: Collector | None) -> Expr:
        if expr.op in ("and", "or"):
            left, right = (self._side(side, scope, collect) for side in (expr.left, expr.right))
            return either(expr.op, left, right) or self.call(expr.op, [left, right], expr.span)
        if isinstance(expr.left, syntax.Star):
            return self._any_column(expr, scope)
        left, right = self.bind(expr.left, scope, collect), self.bind(expr.right, scope, collect)
        return self.operate(expr.op, left, right, expr)

    def _side(self, expr: syntax.Expr, scope: Scope, collect: Collector | None) -> Expr:
        """One side of `and` or `or`; where errors are gathered, its own do not hide those of the other."""
        if self.found is None:
            return self.predicate(expr, scope, collect)
        try:
            return self.predicate(expr, scope, collect)
        except BindingError as error:
            if len(self.found) >= MAX_PROBLEMS - 1:
                raise
            self.found.append(error)
            return Const(_T.BOOL, None)

    def operate(self, op: str, left: Expr, right: Expr, expr: syntax.Binary) -> Expr:
        """A comparison, arithmetic or text operator over bound operands."""
        if op in _NEGATED:
            return self.call("not", [self.operate(_NEGATED[op], left, right, expr)], expr.span)
        has_text = any(isinstance(side, Const) and side.type is _T.STRING for side in (left, right))
        if op in _COMPARISONS:
            left, right = self._comparable(left, right, expr)
        elif op not in _TEXT_COMPARISONS and left.type is _T.DYNAMIC and op in ("+", "-", "*", "/", "%"):
            left = self.convert(left, right.type if right.type is not _T.DYNAMIC else _T.REAL, expr.left.span)
        elif op in FUNCTIONS and FUNCTIONS[op].overloads[0].param(0).types == {_T.STRING}:
            for side, name in ((left, "left"), (right, "right")):
                if side.type not in (_T.STRING, _T.DYNAMIC):
                    raise BindingError(
                        f"'{op}' is for text; its {name} side is a {side.type.value}",
                        expr.span,
                        hint="use tostring(...)",
                    )
        hint = ""
        if op in ("+", "-"):
            types = {left.type, right.type}
            hint = "texts are joined with strcat(...)" if _T.STRING in types else _LENGTHS
        found = self.call(op, [left, right], expr.span, spelling=f"'{op}'", hint=hint)
        if has_text and op in ("==", "!=") and left.type is not _T.STRING and not _is_known(right):
            # A text that is not of the other side's type is no null, which a null would equal.
            return self.call("coalesce", [found, Const(_T.BOOL, op == "!=")], expr.span)
        return found

    def _comparable(self, left: Expr, right: Expr, expr: syntax.Binary) -> tuple[Expr, Expr]:
        """Both sides in one type that can be compared."""
        a, b = left.type, right.type
        if a is b is _T.DYNAMIC:
            return self.convert(left, _T.STRING, expr.span), self.convert(right, _T.STRING, expr.span)
        is_order = expr.op not in ("==", "!=")
        has_none = is_order and (bool({a, b} & {_T.STRING, _T.GUID}) or {a, b} == {_T.DYNAMIC, _T.BOOL})
        if (a is b or (a.is_number and b.is_number)) and not has_none:
            return left, right
        if _T.DYNAMIC in (a, b) and not has_none:
            other = b if a is _T.DYNAMIC else a
            return self._compared(left, other, expr.span), self._compared(right, other, expr.span)
        if expr.op in ("==", "!="):
            # A text constant beside another type is read as that type; otherwise both are compared as text.
            for text, value in ((left, right), (right, left)):
                if isinstance(text, Const) and text.type is _T.STRING:
                    return value, self.convert(text, value.type, expr.span)
            if _T.BOOL in (a, b) and (a.is_number or b.is_number):
                return self.convert(left, _T.BOOL, expr.span), self.convert(right, _T.BOOL, expr.span)
            if _T.STRING in (a, b) and _T.DATETIME not in (a, b):
                return self.convert(left, _T.STRING, expr.span), self.convert(right, _T.STRING, expr.span)
            if _T.GUID in (a, b) and _T.STRING in (a, b):
                return self.convert(left, _T.GUID, expr.span), self.convert(right, _T.GUID, expr.span)
        hint = ""
        if _T.DATETIME in (a, b):
            is_text = _T.STRING in (a, b)
            hint = "use todatetime(...)" if is_text else "a moment is written datetime(2024-01-31) or ago(7d)"
        elif _T.TIMESPAN in (a, b):
            hint = _LENGTHS
        elif _T.STRING in (a, b):
            others = {a, b} - {_T.STRING}
            hint = _TEXT_ORDER if others <= {_T.DYNAMIC} else "use tolong(...) or todouble(...)"
        elif _T.DYNAMIC in (a, b):
            hint = f"use {_CONVERSIONS[b if a is _T.DYNAMIC else a]}(...)"
        raise BindingError(
            f"'{expr.op}' cannot compare {a.value} with {b.value}", expr.span, hint=hint, code="wrong-type"
        )

    def _compared(self, expr: Expr, other: KqlType, span: Span) -> Expr:
        """A side of a comparison of a dynamic with a value of another type, which is done in that type.

        With a number it is the dynamic's text that is read as one: a bool is none, whether all of the JSON is
        there or only the text that is stored of it.
        """
        if not other.is_number:
            return self.convert(expr, other, span)
        text = self.convert(expr, _T.STRING, span) if expr.type is _T.DYNAMIC else expr
        return self.convert(text, _T.REAL, span)

    def _any_column(self, expr: syntax.Binary, scope: Scope) -> Expr:
        """`* has "x"`: true of one of the text columns."""
        right = self.bind(expr.right, scope)
        texts = [
            self.convert(ColumnRef(column.type, column.id), _T.STRING, expr.span)
            for column in _columns(scope)
            if column.type in (_T.STRING, _T.DYNAMIC, _T.GUID)
        ]
        term = right.value if isinstance(right, Const) else None
        if expr.op == "has" and len(texts) > 1 and isinstance(term, str) and term and "\n" not in term:
            return self.call("has_anywhere", [right, *texts], expr.span)
        return self.any_of([self.operate(expr.op, text, right, expr) for text in texts], expr.span)

    def any_of(self, tests: Sequence[Expr], span: Span) -> Expr:
        """The tests joined by `or`, as a balanced tree; false for none."""
        if not tests:
            return Const(_T.BOOL, False)
        if len(tests) == 1:
            return tests[0]
        middle = len(tests) // 2
        return self.call("or", [self.any_of(tests[:middle], span), self.any_of(tests[middle:], span)], span)

    def _in(self, expr: syntax.InList, scope: Scope, collect: Collector | None) -> Expr:
        value = self.bind(expr.left, scope, collect) if not isinstance(expr.left, syntax.Star) else None
        if value is None:
            raise UnsupportedError(f"* {expr.op}", expr.span)
        op = _NEGATED.get(expr.op, expr.op)
        fold_case = op == "in~" or op in ("has_any", "has_all")
        if len(expr.items) == 1 and self.tables.is_table(expr.items[0], scope.env):
            plan = self._first_column(expr.items[0], scope.env)
            if op in ("has_any", "has_all"):
                text = self.convert(value, _T.STRING, expr.left.span)
                return self.call(f"{op}_array", [text, self._as_list(plan, expr.span)], expr.span)
            key = self._sought(value, plan.columns[0].type, expr.left.span)
            return InQuery(_T.BOOL, key, plan, expr.op.startswith("!"), fold_case)
        items: list[Expr] = []
        for item in expr.items:
            bound = self.bind(item, scope, collect)
            if isinstance(bound, Const) and isinstance(bound.value, list):
                items.extend(_constant(element) for element in bound.value)
            elif bound.type is _T.DYNAMIC and value.type is not _T.DYNAMIC and len(expr.items) == 1:
                name = {"in": "in_array", "in~": "in_array_fold"}.get(op, op + "_array")
                test = self.call(name, [self.convert(value, _T.STRING, expr.span), bound], expr.span)
                return self.call("not", [test], expr.span) if expr.op.startswith("!") else test
            else:
                items.append(bound)
        test = self._one_of(op, value, items, expr)
        return self.call("not", [test], expr.span) if expr.op.startswith("!") else test

    def _one_of(self, op: str, value: Expr, items: list[Expr], expr: syntax.InList) -> Expr:
        if op in ("has_any", "has_all"):
            text = self.convert(value, _T.STRING, expr.left.span)
            terms = [self.convert(item, _T.STRING, expr.span) for item in items]
            if op == "has_any":
                return self.call("has_any_of", [text, *terms], expr.span) if terms else FALSE
            tests = [self.call("has", [text, term], expr.span) for term in terms]
            negated = [self.call("not", [test], expr.span) for test in tests]
            return self.call("not", [self.any_of(negated, expr.span)], expr.span)
        if op == "in~":
            to = _T.STRING
        else:
            to = (
                value.type
                if value.type is not _T.DYNAMIC
                else (widest(item.type for item in items) or _T.STRING)
            )
            to = _T.STRING if to is _T.DYNAMIC else to
            if to.is_number and any(item.type.is_number for item in items):
                to = widest([to, *(item.type for item in items if item.type.is_number)]) or to
        if not items:
            return Const(_T.BOOL, False)
        converted = [self._convert_for(item, to, expr.span) for item in items]
        return self.call(op, [self._sought(value, to, expr.left.span), *converted], expr.span)

    def _between(self, expr: syntax.Between, scope: Scope, collect: Collector | None) -> Expr:
        value = self.bind(expr.left, scope, collect)
        low, high = self.bind(expr.low, scope, collect), self.bind(expr.high, scope, collect)
        if value.type is _T.DATETIME and high.type is _T.TIMESPAN:
            high = self.call("+", [low, high], expr.high.span)
        as_binary = syntax.Binary(expr.span, "between", expr.left, expr.low)
        above = self.operate(">=", value, low, as_binary)
        below = self.operate("<=", value, high, as_binary)
        both = self.call("and", [above, below], expr.span)
        return self.call("not", [both], expr.span) if expr.negated else both

    # --- calls ---------------------------------------------------------------------------------------------

    def _call(self, expr: syntax.Call, scope: Scope, collect: Collector | None) -> Expr:
        binding = scope.env.get(expr.name)
        if isinstance(binding, FunctionBinding):
            return self._user_function(binding, expr.args, scope, expr.span)
        if expr.name in self.special:
            return self.special[expr.name](expr, scope, collect)
        if collect is not None and expr.name in collect.functions:
            return self._collected(expr, scope, collect)
        return self._built_in(expr, scope, collect)

    def _built_in(self, expr: syntax.Call, scope: Scope, collect: Collector | None) -> Expr:
        if expr.name in FUNCTIONS and not FUNCTIONS[expr.name].internal:
            given = [arg for arg in expr.args if not isinstance(arg, syntax.TypeOf)]
            args = [self._argument(arg, scope, collect) for arg in given]
            types = [arg for arg in expr.args if isinstance(arg, syntax.TypeOf)]
            called = self.call(expr.name, args, expr.span)
            if types and types[0].type is not None and expr.name not in _ARRAYS:
                return self.convert(called, types[0].type, expr.span)
            return called
        if expr.name in AGGREGATES:
            raise BindingError(f"the aggregate '{expr.name}' stands only in summarize", expr.name_span)
        if expr.name in WINDOWS:
            raise BindingError(f"'{expr.name}' stands only in extend, project and where", expr.name_span)
        known = [
            *(n for n, f in FUNCTIONS.items() if not f.internal),
            *self.special,
            *AGGREGATES,
            *scope.env.all_names(),
        ]
        raise no_function(expr, known)

    def _collected(self, expr: syntax.Call, scope: Scope, collect: Collector) -> Expr:
        function = collect.functions[expr.name]
        inner = collect if function.window else None
        args = [self._argument(arg, scope, inner) for arg in expr.args if not isinstance(arg, syntax.Star)]
        if function.name in _NEIGHBOURS and len(args) == 3:
            args[2] = self.convert(args[2], args[0].type, expr.args[2].span)
        return self.collect(function, args, expr.span, collect)

    def _argument(self, expr: syntax.Expr, scope: Scope, collect: Collector | None) -> Expr:
        """A built-in function's argument. `name = value` is the value, as the place says what it is for.

        With a column's name in front it is more likely meant as a comparison, and refused.
        """
        if isinstance(expr, syntax.Named) and not any(scope.column(name) for name in expr.names):
            expr = expr.value
        return self.bind(expr, scope, collect)

    def collect(self, function: Aggregate, args: list[Expr], span: Span, collect: Collector) -> Expr:
        """A column for an aggregate; the same aggregate asked for twice is computed once."""
        for param, arg in zip(function.overload.params, args, strict=False):
            if param.types == ORDERED:
                _need_order(arg, span)
        types = tuple(arg.type for arg in args)
        nulls = tuple(_is_null(arg) for arg in args)
        if function.overload.match(types, nulls) is None:
            raise BindingError(
                f"{function.name}() does not take ({', '.join(type_.value for type_ in types)})",
                span,
                hint=f"it is {_usage(function.name, function.overload)}",
                code="wrong-arguments",
            )
        converted = self._converted(function.overload, args, span)
        type_ = function.overload.result(tuple(arg.type for arg in converted))
        if self.found is not None:
            self._try(function.overload, converted, span)
        call = AggregateCall(function, converted, type_, collect.partition, Place(span))
        for known, column in zip(collect.calls, collect.columns, strict=True):
            if known == call:
                return ColumnRef(column.type, column.id)
        column = OutColumn(self.tables.new_id(), "", call.type)
        collect.calls.append(call)
        collect.columns.append(column)
        return ColumnRef(column.type, column.id)

    def call(
        self, name: str, args: Sequence[Expr], span: Span, *, spelling: str = "", hint: str = ""
    ) -> Expr:
        """A scalar function over bound arguments, converted to what its overload takes.

        Where an operator calls it, its error shows the `spelling` and the `hint` in place of the usage."""
        if len(args) == 1 and args[0].type is _T.DYNAMIC and name in _OF_DYNAMIC:
            name, args = _OF_DYNAMIC[name], [args[0], args[0]]
        function = FUNCTIONS[name]
        types = tuple(arg.type for arg in args)
        overload = function.resolve(types, tuple(_is_null(arg) for arg in args))
        if overload is None:
            shown = spelling or f"{name}()"
            raise BindingError(
                f"{shown} does not take ({', '.join(type_.value for type_ in types)})",
                span,
                hint=hint if spelling else f"it is {_usage(name, function.overloads[0])}",
                code="wrong-arguments",
            )
        if len(args) < _LEAST.get(name, 0):
            raise too_few(spelling or f"{name}()", _LEAST[name], span)
        converted = self._converted(overload, args, span)
        type_ = overload.result(tuple(arg.type for arg in converted))
        constants = tuple(arg for arg in converted if isinstance(arg, Const))
        if len(constants) == len(converted) and (folded := fold(function.name, constants, type_)) is not None:
            return folded
        if self.found is not None:
            self._try(overload, converted, span)
        return Call(type_, overload, converted, Place(span))

    def _try(self, overload: Overload, args: tuple[Expr, ...], span: Span) -> None:
        """Write the SQL of a call for nothing but its error, which gets the call's place."""
        try:
            _over_any(overload, args)
        except NeedsConstantError:
            self.is_wanting = True
        except QueryError as error:
            raise error if error.span else error.again(span) from None

    def _converted(self, overload: Overload, args: Sequence[Expr], span: Span) -> tuple[Expr, ...]:
        return tuple(
            self.convert(arg, overload.param(index).convert_to(arg.type), span)
            for index, arg in enumerate(args)
        )

    def convert(self, expr: Expr, to: KqlType, span: Span) -> Expr:
        """The expression as another type; what does not convert at run time is null."""
        if expr.type is to:
            return expr
        if isinstance(expr, Const):
            constant = _convert_constant(expr, to)
            if constant is not None:
                return _known(constant, span)
        name = _CONVERSIONS[to]
        if expr.type is _T.DYNAMIC and to is not _T.STRING:
            if name in _OF_DYNAMIC:
                return self.call(name, [expr], span)
            expr = self.convert(expr, _T.STRING, span)
        return self.call(name, [expr], span)

    def _convert_for(self, expr: Expr, to: KqlType, span: Span) -> Expr:
        if expr.type is not to and expr.type.is_number and to.is_number:
            return expr
        return self.convert(expr, to, span)

    def _sought(self, expr: Expr, to: KqlType, span: Span) -> Expr:
        """What `in` looks for among values of a type: a dynamic as `==` compares it."""
        is_dynamic = expr.type is _T.DYNAMIC
        return self._compared(expr, to, span) if is_dynamic else self._convert_for(expr, to, span)

    def _user_function(
        self, binding: FunctionBinding, args: Sequence[syntax.Expr], scope: Scope, span: Span
    ) -> Expr:
        env = self.tables.call_scope(binding, args, scope, span)
        if binding.value.body is None or self.tables.is_table(binding.value.body, env):
            raise BindingError(f"'{binding.name}' gives a table", span, hint="use toscalar(...)")
        return self.bounded(self.bind(binding.value.body, Scope((), env)), span)

    # --- functions that are not ordinary -------------------------------------------------------------------

    def _now(self, expr: syntax.Call, scope: Scope, collect: Collector | None) -> Expr:
        if not expr.args:
            return self.now
        return self.call("+", [self.now, self._length(expr, scope, collect)], expr.span)

    def _ago(self, expr: syntax.Call, scope: Scope, collect: Collector | None) -> Expr:
        if len(expr.args) != 1:
            raise BindingError("ago() takes one timespan", expr.span)
        return self.call("-", [self.now, self._length(expr, scope, collect)], expr.span)

    def _length(self, expr: syntax.Call, scope: Scope, collect: Collector | None) -> Expr:
        """The one argument of now() or ago()."""
        length = self.bind(expr.args[0], scope, collect)
        if length.type not in (_T.TIMESPAN, _T.DYNAMIC):
            message = f"{expr.name}() takes a timespan, this is a {length.type.value}"
            raise BindingError(message, expr.args[0].span, hint=_LENGTHS, code="wrong-arguments")
        return length

    def _iff(self, expr: syntax.Call, scope: Scope, collect: Collector | None) -> Expr:
        if len(expr.args) != 3:
            raise BindingError(f"{expr.name}() takes a condition and two values", expr.span)
        return self._case(expr, scope, collect)

    def _case(self, expr: syntax.Call, scope: Scope, collect: Collector | None) -> Expr:
        if len(expr.args) < 3 or len(expr.args) % 2 == 0:
            raise BindingError("case() takes pairs of condition and value, and a last value", expr.span)
        conditions = [self.predicate(arg, scope, collect) for arg in expr.args[:-1:2]]
        values = self._one_type(
            [
                *(self.bind(arg, scope, collect) for arg in expr.args[1::2]),
                self.bind(expr.args[-1], scope, collect),
            ],
            expr,
        )
        args: list[Expr] = []
        last = values[-1]
        for condition, value in zip(conditions, values[:-1], strict=True):
            # What a constant rules out is not even asked for: a function's parameter often chooses so.
            if not isinstance(condition, Const):
                args += (condition, value)
            elif condition.value is True:
                last = value
                break
        return Call(last.type, FUNCTIONS["case"].overloads[0], (*args, last)) if args else last

    def _one_type(self, values: list[Expr], expr: syntax.Call) -> list[Expr]:
        typed = {value.type for value in values if not _is_null(value)} or {value.type for value in values}
        if all(type_.is_number for type_ in typed):  # beside real(null) a whole number is a real
            typed |= {value.type for value in values if value.type.is_number}
        to = widest(typed)
        if to is None and expr.name not in _CHOICES:
            shown = ", ".join(sorted(type_.value for type_ in typed))
            raise BindingError(
                f"{expr.name}() takes values of one type, these are {shown}", expr.span, code="wrong-type"
            )
        to = to or _T.DYNAMIC
        if expr.name in _CHOICES:  # a dynamic beside values of a type is converted to it
            to = widest(typed - {_T.DYNAMIC}) or to
        return [
            Const(to, None) if _is_null(value) else self.convert(value, to, expr.span) for value in values
        ]

    def _coalesce(self, expr: syntax.Call, scope: Scope, collect: Collector | None) -> Expr:
        if not expr.args:
            raise too_few(f"{expr.name}()", 1, expr.span)
        values = self._one_type([self.bind(arg, scope, collect) for arg in expr.args], expr)
        name = "coalesce_text" if values[0].type is _T.STRING else "coalesce"
        return Call(values[0].type, FUNCTIONS[name].overloads[0], tuple(values))

    def _widest_of(self, expr: syntax.Call, scope: Scope, collect: Collector | None) -> Expr:
        if not expr.args:
            raise too_few(f"{expr.name}()", 1, expr.span)
        values = self._one_type([self.bind(arg, scope, collect) for arg in expr.args], expr)
        _need_order(values[0], expr.span)
        return Call(values[0].type, FUNCTIONS[expr.name].overloads[0], tuple(values))

    def _toscalar(self, expr: syntax.Call, scope: Scope, collect: Collector | None) -> Expr:
        if len(expr.args) != 1:
            raise BindingError("toscalar() takes one query", expr.span)
        if self.tables.is_table(expr.args[0], scope.env):
            plan = self._first_column(expr.args[0], scope.env)
            if _is_time(plan.columns[0].type) and (const := _only_row(plan).get(plan.columns[0].id)):
                return const  # so that a filter written with it bounds the files
        else:
            value = self.bind(expr.args[0], scope, collect)
            if isinstance(value, Const) or references(value):
                return value
            row = Values((OutColumn(self.tables.new_id(), "", _T.BOOL),), ((Const(_T.BOOL, True),),))
            plan = Project((OutColumn(self.tables.new_id(), "", value.type),), row, (value,))
            if not is_random(plan):
                return value
        if not is_random(plan):
            return ScalarQuery(plan.columns[0].type, plan)
        # What is random is one value wherever its name stands, and however often a function is called.
        env = scope.env
        while not env.names and env.parent is not None:
            env = env.parent
        key = (expr.span.start, id(env))
        if key not in self.random:
            columns = (replace(plan.columns[0], id=self.tables.new_id()),)
            once = Shared(columns, self.tables.new_id(), plan, (plan.columns[0].id,))
            self.random[key] = (ScalarQuery(plan.columns[0].type, once), env)
        return self.random[key][0]

    def _as_list(self, plan: Node, span: Span) -> Expr:
        """The different values of a plan's one column as one array of texts."""
        column = plan.columns[0]
        value = self.convert(ColumnRef(column.type, column.id), _T.STRING, span)
        call = AggregateCall(AGGREGATES["make_set"], (value,), _T.DYNAMIC)
        listed = (OutColumn(self.tables.new_id(), column.name, _T.DYNAMIC),)
        return ScalarQuery(_T.DYNAMIC, Grouped(listed, plan, (), (call,)))

    def _first_column(self, expr: syntax.Expr, env: Env) -> Node:
        """A table cut to its first column, so that the others are not even read."""
        plan = self.tables.table(expr, env)
        if outer_columns(plan):
            raise BindingError(
                "a query in an expression cannot use the columns of the row around it",
                expr.span,
                hint="join the tables instead",
            )
        shown = visible(plan.columns)
        if not shown:
            raise BindingError("the table has no column", expr.span)
        return Project(shown[:1], plan, (ColumnRef(shown[0].type, shown[0].id),))

    def _column_ifexists(self, expr: syntax.Call, scope: Scope, collect: Collector | None) -> Expr:
        if len(expr.args) != 2:
            raise BindingError("column_ifexists() takes a name and a default", expr.span)
        name = self.bind(expr.args[0], scope, collect)
        if not isinstance(name, Const) or not isinstance(name.value, str):
            raise BindingError("column_ifexists() takes the name as a constant text", expr.args[0].span)
        column = scope.column(name.value)
        if column is not None:
            return ColumnRef(column.type, column.id)
        return self.bind(expr.args[1], scope, collect)

    def _ingestion_time(self, expr: syntax.Call, scope: Scope, collect: Collector | None) -> Expr:
        hidden = scope.by_name.get(INGESTION_TIME)
        return ColumnRef(_T.DATETIME, hidden.id) if hidden else Const(_T.DATETIME, None)

    def _log_object(self, expr: syntax.Call, scope: Scope, collect: Collector | None) -> Expr:
        """Our own: the ledger's Object of the log object that a row came from, '' where it came from none."""
        hidden = scope.by_name.get(LOG_OBJECT)
        return ColumnRef(_T.STRING, hidden.id) if hidden else Const(_T.STRING, "")

    def _pack_all(self, expr: syntax.Call, scope: Scope, collect: Collector | None) -> Expr:
        """All columns as one bag; with true those that are null or empty are left out."""
        without_empty = bool(expr.args) and self.constant(expr.args[0], scope.env, "pack_all's choice").value
        pairs = [
            [Const(_T.STRING, column.name), ColumnRef(column.type, column.id)] for column in _columns(scope)
        ]
        if not without_empty:
            return self.call("bag_pack", [part for pair in pairs for part in pair], expr.span)
        bags: list[Expr] = [Const(_T.DYNAMIC, {})]
        for name, value in pairs:
            given = self.call("isnotempty", [self.convert(value, _T.STRING, expr.span)], expr.span)
            bag = self.call("bag_pack", [name, value], expr.span)
            choose = FUNCTIONS["case"].overloads[0]
            bags.append(Call(_T.DYNAMIC, choose, (given, bag, Const(_T.DYNAMIC, {}))))
        return self.call("bag_merge", bags, expr.span)

    def _pack_array(self, expr: syntax.Call, scope: Scope, collect: Collector | None) -> Expr:
        """Values as an array; `*` alone stands for those of all columns."""
        if len(expr.args) == 1 and isinstance(expr.args[0], syntax.Star):
            values = [ColumnRef(column.type, column.id) for column in _columns(scope)]
            return self.call("pack_array", values, expr.span)
        return self._built_in(expr, scope, collect)

    def _bag_pack_columns(self, expr: syntax.Call, scope: Scope, collect: Collector | None) -> Expr:
        """Columns as one bag, each under its name."""
        parts: list[Expr] = []
        for arg in expr.args:
            if not isinstance(arg, syntax.Name):
                raise BindingError("bag_pack_columns() takes columns", arg.span, hint="use bag_pack(...)")
            parts += [Const(_T.STRING, arg.text), self.bind(arg, scope, collect)]
        return self.call("bag_pack", parts, expr.span)

    def _bin_auto(self, expr: syntax.Call, scope: Scope, collect: Collector | None) -> Expr:
        """bin_at() with the size and the fixed point of two `set` statements."""
        if len(expr.args) != 1:
            raise BindingError("bin_auto() takes one value", expr.span)
        size = self.options.get("query_bin_auto_size")
        if size is None:
            hint = "write `set query_bin_auto_size = 1h;` before the query"
            raise BindingError("bin_auto() has no size", expr.span, hint=hint)
        value = self.bind(expr.args[0], scope, collect)
        at = self.options.get("query_bin_auto_at")
        first = DATETIME_MIN if value.type is _T.DATETIME else 0
        fixed = Const(value.type, first) if at is None else self.constant(at, scope.env, "query_bin_auto_at")
        return self.call("bin_at", [value, self.constant(size, scope.env, "its size"), fixed], expr.span)

    def _around(self, expr: syntax.Call, scope: Scope, collect: Collector | None) -> Expr:
        """Is the value no farther from a center than a delta?"""
        if len(expr.args) != 3:
            raise BindingError("around() takes a value, a center and a delta", expr.span)
        value, center, delta = [self.bind(arg, scope, collect) for arg in expr.args]
        low, high = [self.call(sign, [center, delta], expr.span) for sign in "-+"]
        compared = [
            self.operate(op, value, bound, syntax.Binary(expr.span, op, expr.args[0], expr.args[1]))
            for op, bound in ((">=", low), ("<=", high))
        ]
        return self.call("and", compared, expr.span)

    def _estimate_data_size(self, expr: syntax.Call, scope: Scope, collect: Collector | None) -> Expr:
        """The bytes that the columns of a row take: eight for a number or a time, a text's own length."""
        columns: list[Expr] = []
        for arg in expr.args:
            if isinstance(arg, syntax.Star):
                columns += [ColumnRef(c.type, c.id) for c in scope.columns if scope.column(c.name) is c]
            else:
                columns.append(self.bind(arg, scope, collect))
        known = sum(_SIZES.get(column.type, 8) for column in columns if column.type not in _TEXTS)
        total: Expr = Const(_T.LONG, known)
        for column in columns:
            if column.type in _TEXTS:
                size = self.call("string_size", [self.convert(column, _T.STRING, expr.span)], expr.span)
                total = self.call("+", [total, size], expr.span)
        return total

    def _assert(self, expr: syntax.Call, scope: Scope, collect: Collector | None) -> Expr:
        """True, or an error with the query's own message."""
        if len(expr.args) != 2:
            raise BindingError("assert() takes a condition and a message", expr.span)
        condition = self.predicate(expr.args[0], scope)
        message = self.bind(expr.args[1], scope)
        if references(condition) or not isinstance(message, Const):
            raise BindingError("assert() takes a constant condition and a constant message", expr.span)
        if evaluator(condition, {}, expr.span)(()) is not True:
            raise BindingError(f"assert() has failed with message: '{message.value}'", expr.span)
        return Const(_T.BOOL, True)

    def _column_names_of(self, expr: syntax.Call, scope: Scope, collect: Collector | None) -> Expr:
        if len(expr.args) != 1:
            raise BindingError("column_names_of() takes one table", expr.span)
        plan = self.tables.table(expr.args[0], scope.env)
        return Const(_T.DYNAMIC, [column.name for column in visible(plan.columns)])


def _only_row(plan: Node) -> dict[int, Const]:
    """The constants, by their columns, in a table of one row that is written in the query."""
    match plan:
        case Values(rows=(row,)):
            values: Sequence[Expr] = row
        case Project():
            below: dict[int, Expr] = {**_only_row(plan.input)}
            values = [substitute(value, below) for value in plan.values] if below else ()
        case _:
            return {}
    return {
        column.id: value
        for column, value in zip(plan.columns, values, strict=False)
        if isinstance(value, Const)
    }


def _is_known(expr: Expr) -> bool:
    return isinstance(expr, Const) and expr.value is not None


def _is_null(expr: Expr) -> bool:
    return isinstance(expr, Const) and expr.value is None


def _constant(value: object) -> Const:
    """An element of a dynamic literal as a constant of its own type."""
    if isinstance(value, bool):
        return Const(_T.BOOL, value)
    if isinstance(value, int):
        return Const(_T.LONG, value)
    if isinstance(value, float):
        return Const(_T.REAL, value)
    if isinstance(value, str):
        return Const(_T.STRING, value)
    return Const(_T.DYNAMIC, value if isinstance(value, list | dict) else None)


def _value_at(
    value: object, step: str | int
) -> list[object] | dict[str, object] | str | int | float | bool | None:
    found: object = None
    if isinstance(value, dict) and isinstance(step, str):
        found = value.get(step)
    elif isinstance(value, list) and isinstance(step, int) and -len(value) <= step < len(value):
        found = value[step]
    return found if isinstance(found, list | dict | str | int | float | bool) else None


def _known(constant: Const, span: Span) -> Const:
    """The constant, if the engine has a decimal so large."""
    if isinstance(constant.value, Decimal) and decimals.held(constant.value) is None:
        raise UnsupportedError("a decimal of more than 21 digits before the point", span)
    return constant


def _convert_constant(constant: Const, to: KqlType) -> Const | None:
    """Conversions of constants that need no engine; None where it is asked."""
    value = constant.value
    if value is None:
        return Const(to, "" if to is _T.STRING else None)
    if constant.type is _T.DYNAMIC:
        if isinstance(value, str) and to is _T.STRING:
            return Const(to, value)
        inner = _constant(value)
        if inner.type is not _T.DYNAMIC and to is not _T.DYNAMIC:
            return inner if inner.type is to else _convert_constant(inner, to)
        return None
    if to is _T.DYNAMIC:
        return (
            Const(to, value)
            if isinstance(value, bool | int | float | str) and not _is_time(constant.type)
            else None
        )
    if constant.type.is_number and to.is_number and isinstance(value, int | float):
        if to is _T.REAL:
            return Const(to, float(value))
        if to.is_integer and isinstance(value, int):
            return Const(to, value)
        if to is _T.DECIMAL:
            return Const(to, Decimal(str(value)) if math.isfinite(value) else None)
    return fold(_CONVERSIONS[to], (constant,), to)


def _columns(scope: Scope) -> list[OutColumn]:
    """The columns a query may name."""
    return [column for column in scope.columns if scope.column(column.name) is column]


def _is_time(type_: KqlType) -> bool:
    return type_ in (_T.DATETIME, _T.TIMESPAN)


def _usage(name: str, overload: Overload) -> str:
    """How a function is called: `substring(source, startingIndex, [length])`."""
    params = [f"[{param.name}]" if param.optional else param.name for param in overload.params]
    if overload.variadic is not None:
        params += [overload.variadic.name, "..."]
    return f"{name}({', '.join(params)})"
