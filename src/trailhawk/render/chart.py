"""Charts in the terminal for `| render`: bars for categories, columns over time, one strip a series."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import TYPE_CHECKING

from trailhawk.kql.schema import Column
from trailhawk.kql.types import KqlType
from trailhawk.render.text import cell
from trailhawk.visible import visible

if TYPE_CHECKING:
    from rich.text import Text

_COLOURS = ("cyan", "magenta", "yellow", "green", "blue", "red")
_EIGHTHS_UP = " ▁▂▃▄▅▆▇█"
_EIGHTHS_RIGHT = " ▏▎▍▌▋▊▉█"
_MAX_SERIES = 8
_MAX_BARS = 40
_OVER_TIME = frozenset(
    {"timechart", "areachart", "stackedareachart", "linechart", "anomalychart", "scatterchart"}
)


@dataclass(frozen=True)
class Series:
    """One line of a chart: its name and (x, y) in the order of x as it came."""

    name: str
    points: tuple[tuple[object, float], ...]


def chart(
    kind: str, columns: Sequence[Column], rows: Sequence[Sequence[object]], *, width: int = 100
) -> list[Text] | None:
    """The lines of a chart at most `width` cells wide, or None where rows of this shape have none."""
    x = _x_column(kind, columns)
    if x is None or not rows:
        return None
    series = _series(columns, rows, x)
    if not series:
        return None
    shown, left_out = series[:_MAX_SERIES], series[_MAX_SERIES:]
    if kind in _OVER_TIME and columns[x].type is KqlType.DATETIME:
        lines = _over_time(shown, width)
    else:
        lines = _bars(shown, width)
    if left_out:
        lines.append(_line(f"{len(left_out)} more series are not drawn", "dim"))
    return lines


def _x_column(kind: str, columns: Sequence[Column]) -> int | None:
    places = range(len(columns))
    if kind in _OVER_TIME:
        return next((place for place in places if columns[place].type is KqlType.DATETIME), None)
    return 0 if len(columns) > 1 else None


def _series(columns: Sequence[Column], rows: Sequence[Sequence[object]], x: int) -> list[Series]:
    """The rows split by their text columns, once for each column of numbers; the largest series first."""
    numbers = [place for place, column in enumerate(columns) if place != x and _is_number(column.type)]
    keys = [place for place, column in enumerate(columns) if place != x and place not in numbers]
    points: dict[str, list[tuple[object, float]]] = {}
    for row in rows:
        key = [cell(row[place]) for place in keys]
        for place in numbers:
            amount = _amount(row[place])
            if amount is not None and row[x] is not None:
                name = ", ".join([*key, *([columns[place].name] if len(numbers) > 1 or not keys else [])])
                points.setdefault(name, []).append((row[x], amount))
    found = [Series(name, tuple(members)) for name, members in points.items()]
    return sorted(found, key=lambda one: -sum(abs(amount) for _, amount in one.points)) if keys else found


def _is_number(type_: KqlType) -> bool:
    return type_.is_number or type_ is KqlType.TIMESPAN


def _amount(value: object) -> float | None:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, (int, float, Decimal)) and value == value:
        return float(value)
    return None


# --- bars ---------------------------------------------------------------------------------------------


def _bars(series: Sequence[Series], width: int) -> list[Text]:
    """A row a category and series: label, bar, value; the series of one category stand together."""
    bars = [
        (cell(x), one.name, amount, _COLOURS[place % len(_COLOURS)])
        for place, one in enumerate(series)
        for x, amount in one.points
    ]
    order = {category: place for place, category in enumerate(dict.fromkeys(bar[0] for bar in bars))}
    bars.sort(key=lambda bar: order[bar[0]])
    shown = [
        (category if len(series) == 1 else f"{category}  {visible(name)}", amount, colour)
        for category, name, amount, colour in bars[:_MAX_BARS]
    ]
    label_width = min(max(len(label) for label, _, _ in shown), width // 2)
    room = max(width - label_width - 16, 10)
    most = max(amount for _, amount, _ in shown)
    lines = [_bar(label, amount, colour, label_width, room, most) for label, amount, colour in shown]
    if len(bars) > len(shown):
        lines.append(_line(f"{len(bars) - len(shown)} more bars are not drawn", "dim"))
    return lines


def _bar(label: str, amount: float, colour: str, label_width: int, room: int, most: float) -> Text:
    eighths = round(max(amount, 0) / most * room * 8) if most > 0 else 0
    bar = "█" * (eighths // 8) + (_EIGHTHS_RIGHT[eighths % 8] if eighths % 8 else "")
    cut = label if len(label) <= label_width else label[: label_width - 1] + "…"
    return _line(cut.rjust(label_width) + " ").append(bar, style=colour).append(f" {_number(amount)}")


# --- columns over time --------------------------------------------------------------------------------


def _over_time(series: Sequence[Series], width: int) -> list[Text]:
    """One series as tall columns; several as strips under each other on one scale."""
    times = [x for one in series for x, _ in one.points if isinstance(x, datetime)]
    first, last = min(times), max(times)
    amounts = [amount for one in series for _, amount in one.points]
    low, high = min(0.0, *amounts), max(0.0, *amounts)
    axis = max(len(_number(low)), len(_number(high)))
    slots, cells = _slots(times, first, last, max(width - axis - 2, 10))
    height = 10 if len(series) == 1 else 3
    lines: list[Text] = []
    for place, one in enumerate(series):
        heights = _heights(one, first, last, slots, low, high)
        colour = _COLOURS[place % len(_COLOURS)]
        if len(series) > 1:
            lines.append(_line(" " * (axis + 2)).append(visible(one.name), style=f"bold {colour}"))
        lines += _columns(heights, cells, height, axis, low, high, colour)
    left, right = cell(first), cell(last)
    lines.append(_line(" " * (axis + 2) + left + right.rjust(max(slots * cells - len(left), len(right) + 2))))
    return lines


def _slots(times: Sequence[datetime], first: datetime, last: datetime, room: int) -> tuple[int, int]:
    """How many columns there are and how many cells wide each is: one a bin where that fits."""
    moments = sorted(set(times))
    step = min((later - earlier for earlier, later in pairwise(moments)), default=timedelta())
    bins = round((last - first) / step) + 1 if step else 1
    return (bins, max(1, min(4, room // bins))) if bins <= room else (room, 1)


def _heights(
    series: Series, first: datetime, last: datetime, slots: int, low: float, high: float
) -> list[float | None]:
    """The highest value of each slot as a share of the scale, None where the slot has no point."""
    heights: list[float | None] = [None] * slots
    whole = (last - first) / timedelta(microseconds=1) or 1.0
    for x, amount in series.points:
        if isinstance(x, datetime):
            slot = round((x - first) / timedelta(microseconds=1) / whole * (slots - 1))
            share = (amount - low) / (high - low) if high > low else 0.0
            heights[slot] = max(share, heights[slot] or 0.0)
    return heights


def _columns(
    heights: Sequence[float | None], cells: int, height: int, axis: int, low: float, high: float, colour: str
) -> list[Text]:
    lines = []
    for level in range(height - 1, -1, -1):
        label = _number(high) if level == height - 1 else _number(low) if level == 0 else ""
        glyphs = "".join(_glyph(share, level, height) * cells for share in heights)
        lines.append(_line(f"{label:>{axis}} │").append(glyphs, style=colour))
    return lines


def _glyph(share: float | None, level: int, height: int) -> str:
    if share is None:
        return " "
    # A point that is there is never drawn as nothing.
    eighths = max(round(share * height * 8), 1) - level * 8
    return _EIGHTHS_UP[min(max(eighths, 0), 8)]


def _number(amount: float) -> str:
    return f"{int(amount):,}" if amount == int(amount) else f"{amount:,.2f}"


def _line(text: str, style: str = "") -> Text:
    from rich.text import Text

    return Text(visible(text), style=style, no_wrap=True)
