"""What a rule would have raised: for people with a picture of the days, for scripts as one object."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, time
from typing import TYPE_CHECKING

from trailhawk.detect.backtest import compare
from trailhawk.kql.schema import Column
from trailhawk.kql.types import KqlType
from trailhawk.render.chart import chart
from trailhawk.render.console import page_width, results
from trailhawk.render.output import Format
from trailhawk.render.table import print_fields, print_rows
from trailhawk.render.text import members, size, to_json
from trailhawk.visible import visible
from trailhawk.words import counted

if TYPE_CHECKING:
    from trailhawk.detect.alert import Alert
    from trailhawk.detect.backtest import Backtest, Comparison

_MOST_ALERTS = 20


def show_backtest(first: Backtest, second: Backtest | None, form: Format) -> None:
    """Print a backtest, and with a second one what that gains and loses."""
    differs = compare(first, second) if second else None
    if form is Format.JSON:
        told = _object(first)
        if second and differs:
            told["against"] = {
                **_object(second),
                "both": differs.both,
                "gained": [_alert(alert) for alert in differs.gained],
                "lost": [_alert(alert) for alert in differs.lost],
            }
        print(to_json(told, indent=2))
        return
    _print(first)
    if second and differs:
        print("\nThe other version\n")
        _print(second)
        _print_difference(differs)


def _object(found: Backtest) -> dict[str, object]:
    return {
        "rule": found.rule.id,
        "name": found.rule.name,
        "source": found.rule.source,
        "start": found.start,
        "end": found.end,
        "windows": found.windows,
        "learning": found.learning,
        "suppressed": found.suppressed,
        "failed": found.failed,
        "error": found.error,
        "alerts": [_alert(alert) for alert in found.alerts],
        "days": {day.isoformat(): count for day, count in found.days},
        "rows": found.rows,
        "sample": [{"at": each.at, "row": each.row} for each in found.sample],
        "cost": members(found.cost),
        "exceptions": [
            {
                "id": each.exception.id,
                "where": each.exception.where,
                "reason": each.exception.reason,
                "rows": each.rows,
                "windows": each.windows,
                "alerts": each.alerts,
            }
            for each in found.effects
        ],
        "verdicts": [members(each) for each in found.verdicts],
        "precision": found.precision,
    }


def _alert(alert: Alert) -> dict[str, object]:
    return {
        "id": alert.id,
        "at": alert.at,
        "name": alert.name,
        "severity": alert.severity.value,
        "rows": alert.rows,
    }


def _print(found: Backtest) -> None:
    console = results()
    cost = found.cost
    windows = max(cost.windows, 1)
    # Windows of quiet times need no query, so fewer are run than there are.
    fields: dict[str, object] = {
        "rule": found.rule.name,
        "from": found.start,
        "to": found.end,
        "windows": f"{found.windows:,}, {cost.windows:,} with a query"
        + "".join(
            f", {count:,} {what}"
            for count, what in (
                (found.learning, "learning"),
                (found.suppressed, "suppressed"),
                (found.failed, "failed"),
            )
            if count
        ),
        "alerts": f"{len(found.alerts):,} of {counted(found.rows, 'row')}{_a_day(found)}",
        "cost": f"{cost.seconds:.1f} s, {counted(cost.rows, 'row')}, {size(cost.bytes)}",
        "a window": f"{1000 * cost.seconds / windows:.0f} ms, {counted(cost.rows // windows, 'row')}, "
        f"{size(cost.bytes // windows)}; at most {1000 * cost.most_seconds:.0f} ms, "
        f"{counted(cost.most_rows, 'row')}, {size(cost.most_bytes)}",
    }
    if found.verdicts:
        fields["verdicts"] = ", ".join(
            f"{each.classification} {each.raised:,}"
            + (f" (of {each.alerts:,})" if each.raised != each.alerts else "")
            for each in found.verdicts
        )
        if found.precision is not None:
            fields["precision"] = f"{found.precision:.0%}"
    else:
        fields["precision"] = "no incident with its alerts was classified"
    if found.error:
        fields["error"] = found.error
    print_fields(console, fields)
    if found.alerts:
        print()
        columns = (Column("day", KqlType.DATETIME), Column("alerts a day", KqlType.LONG))
        rows = [(datetime.combine(day, time(), UTC), count) for day, count in found.days]
        for line in chart("timechart", columns, rows, width=min(page_width(console), 80)) or ():
            console.print(line)
    if found.effects:
        print("\nTaken away by exceptions")
        print_rows(
            console,
            ["number", "where", "reason", "rows", "windows", "alerts"],
            [
                (e.exception.id, e.exception.where, e.exception.reason, e.rows, e.windows, e.alerts)
                for e in found.effects
            ],
            right=["number", "rows", "windows", "alerts"],
        )
    if found.sample:
        print("\nRows behind the alerts, the newest first")
        names = list(dict.fromkeys(name for each in found.sample for name in each.row))
        print_rows(console, ["T", *names], [(s.at, *map(s.row.get, names)) for s in found.sample])


def _a_day(found: Backtest) -> str:
    if found.start is None or found.end is None:
        return ""
    days = (found.end - found.start).total_seconds() / 86_400
    return f", {len(found.alerts) / days:.2g} a day" if days >= 1 else ""


def _print_difference(differs: Comparison) -> None:
    print(
        f"\n{counted(differs.both, 'alert')} of both,"
        f" {len(differs.gained):,} gained, {len(differs.lost):,} lost"
    )
    for mark, alerts in (("+", differs.gained), ("-", differs.lost)):
        _print_alerts(mark, alerts)


def _print_alerts(mark: str, alerts: Iterable[Alert]) -> None:
    found = list(alerts)
    for alert in found[:_MOST_ALERTS]:
        print(visible(f"{mark} {alert.at:%Y-%m-%d %H:%M} {alert.severity.value}: {alert.name}"))
    if len(found) > _MOST_ALERTS:
        print(f"{mark} and {len(found) - _MOST_ALERTS:,} more")
