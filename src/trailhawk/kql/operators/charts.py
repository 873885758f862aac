"""render: which chart is asked for, and whether its properties are ones that it can have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trailhawk.errors import BindingError, Span
from trailhawk.kql import syntax
from trailhawk.kql.operators.registry import step
from trailhawk.kql.operators.shared import scope_of
from trailhawk.kql.plan import Chart, Const, Node
from trailhawk.kql.scope import Env, Scope, suggestion, visible
from trailhawk.kql.types import KqlType

if TYPE_CHECKING:
    from trailhawk.kql.binder import Binder

_T = KqlType
_CHARTS = tuple(
    """
    3Dchart anomalychart areachart barchart card columnchart graph ladderchart linechart list piechart
    pivotchart plotly sankey scatterchart stackedareachart table timechart timeline timepivot treemap
    """.split()  # noqa: SIM905  # A list of a word a line is no easier to read.
)
_CHOICES = {
    "kind": ("default", "unstacked", "stacked", "stacked100", "map"),
    "legend": ("visible", "hidden"),
    "ysplit": ("none", "axes", "panels"),
    "xaxis": ("linear", "log"),
    "yaxis": ("linear", "log"),
}
_COLUMN = frozenset({"xcolumn"})
_COLUMNS = frozenset({"by", "series", "ycolumns", "anomalycolumns"})
_ENDS = frozenset({"xmin", "xmax", "ymin", "ymax"})
_NAMES = (*_CHOICES, *sorted(_COLUMN | _COLUMNS | _ENDS | syntax.TITLES), "accumulate")


@step(syntax.Render)
def render(binder: Binder, node: Node, operator: syntax.Render, env: Env) -> Node:
    """The rows as they are; the query is told how to draw them."""
    if operator.chart not in _CHARTS:
        raise _none(f"there is no chart '{operator.chart}'", operator.span, operator.chart, _CHARTS)
    scope = scope_of(node, env)
    found: list[tuple[str, str]] = []
    places: dict[str, int] = {}
    for item in operator.properties:
        # The values of a list are properties of one name at one place.
        if item.name in places and (item.name not in _COLUMNS or places[item.name] != item.span.start):
            raise BindingError(f"'{item.name}' is given twice", item.span)
        places[item.name] = item.span.start
        found.append((item.name, _value(binder, item, scope)))
    binder.chart = Chart(operator.chart, tuple(found))
    return node


def _value(binder: Binder, item: syntax.Property, scope: Scope) -> str:
    """What a property says, as text; BindingError where a chart has no such property or value."""
    name, value = item.name, item.value
    if name in syntax.TITLES:
        bound = binder.scalars.bind(value, scope)
        if bound.type not in (_T.STRING, _T.DYNAMIC):
            raise BindingError(f"'{name}' is a text, this is a {bound.type.value}", value.span)
        return str(bound.value) if isinstance(bound, Const) else ""
    if isinstance(value, syntax.Name):
        return _word(item, value, scope)
    if name == "accumulate" and isinstance(value, syntax.Literal) and value.type is _T.BOOL:
        return str(value.value).lower()
    if name in _ENDS:
        end = binder.scalars.bind(value, scope)
        if isinstance(end, Const) and end.type not in (_T.STRING, _T.BOOL):
            return str(end.value)
    raise _wrong(name, item.span)


def _word(item: syntax.Property, value: syntax.Name, scope: Scope) -> str:
    """A property whose value is a word of a list, or a column."""
    if item.name in _CHOICES:
        choices = _CHOICES[item.name]
        if value.text not in choices:
            raise _none(f"there is no {item.name} '{value.text}'", value.span, value.text, choices)
    elif item.name in _COLUMN | _COLUMNS:
        if scope.column(value.text) is None:
            known = [column.name for column in visible(scope.columns)]
            hint = suggestion(value.text, known)
            raise BindingError(
                f"there is no column '{value.text}'", value.span, hint=hint, code="unknown-column"
            )
    else:
        raise _wrong(item.name, item.span)
    return value.text


def _wrong(name: str, span: Span) -> BindingError:
    """The error of a property that is none, or whose value is of another kind."""
    if name in _CHOICES:
        wanted = f"one of {', '.join(_CHOICES[name])}, without quotes"
    elif name in _COLUMN | _COLUMNS:
        wanted = "a column's name, without quotes"
    elif name in _ENDS:
        wanted = "a number"
    elif name == "accumulate":
        wanted = "true or false"
    else:
        return _none(f"render has no property '{name}'", span, name, _NAMES)
    return BindingError(f"'{name}' is {wanted}", span)


def _none(message: str, span: Span, given: str, known: Sequence[str]) -> BindingError:
    """The error of a name that is not among the known ones, with the nearest of them or all."""
    return BindingError(message, span, hint=suggestion(given, known) or f"it is one of {', '.join(known)}")
