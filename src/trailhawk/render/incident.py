"""The page of an incident and the list of incidents, and the same as data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING

from trailhawk.render.attack import technique
from trailhawk.render.console import page_width, results
from trailhawk.render.output import Format, Shown, show_list
from trailhawk.render.table import page_rows
from trailhawk.render.text import members, moment, plain, printable_json, size, to_json
from trailhawk.visible import visible
from trailhawk.words import counted

if TYPE_CHECKING:
    from rich.console import Console, Group
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text
    from rich.tree import Tree

    from trailhawk.detect.alert import Alert
    from trailhawk.detect.entities import Entity
    from trailhawk.detect.history import Summary
    from trailhawk.incidents.incident import Incident
    from trailhawk.incidents.lineage import Issue, Lineage, Use
    from trailhawk.incidents.manifest import Line, Manifest
    from trailhawk.incidents.report import Report
    from trailhawk.incidents.timeline import Event

SEVERITY_STYLE = {"High": "bold red", "Medium": "yellow", "Low": "cyan", "Informational": "dim"}
_NARROW = 16
"""Characters of an owner's name in the list."""


def as_data(incident: Incident) -> dict[str, object]:
    """An incident as one JSON object: what `incidents list` prints."""
    return {**_plain(incident), "entities": [_entity(each) for each in incident.entities]}


def report_as_data(report: Report) -> dict[str, object]:
    """All that is known of an incident as one JSON object."""
    besides = report.manifest.besides
    return {
        **as_data(report.incident),
        "techniques": [{"id": each, "name": technique(each)} for each in report.incident.techniques],
        "story": list(report.story),
        "entities": [_entity(each) for each in report.entities],
        "alerts": [_alert(each) for each in report.alerts],
        "timeline": [_plain(each) for each in report.timeline],
        "lineage": {
            "issues": [{**_plain(each), "instance": each.instance} for each in report.lineage.issues],
            "uses": [_plain(each) for each in report.lineage.uses],
        },
        "manifest": {
            "unknown": report.manifest.unknown,
            "objects": None if report.manifest.unknown else report.manifest.objects,
            "bytes": None if report.manifest.unknown else report.manifest.bytes,
            "denied": report.manifest.denied,
            "seconds": report.manifest.seconds,
            "gaps": [{**_plain(each), "told": each.told} for each in report.manifest.gaps],
            "besides": besides and {**_plain(besides), "told": besides.told},
            "lines": [_plain(each) for each in report.manifest.lines],
        },
    }


def _plain(thing: object) -> dict[str, object]:
    return {name: plain(value) for name, value in members(thing).items()}


def _entity(entity: Entity) -> dict[str, object]:
    return {"type": entity.type, "name": entity.name, **dict(entity.identifiers)}


def show_incidents(
    incidents: Sequence[Incident], form: Format, *, total: int = 0, gravest: bool = False
) -> None:
    """Print the list of incidents, and how many more there are than these if the `total` is larger."""
    if form is Format.JSON:
        _print_incidents_json(incidents)
        return
    rows = [
        {
            "number": each.number,
            "severity": each.severity.value,
            "title": each.title,
            "status": status_of(each),
            "owner": each.owner[:_NARROW],
            "alerts": len(each.alert_ids),
            # To the minute, so that the list fits a terminal of 80 columns.
            "first_activity": each.first_activity.strftime("%Y-%m-%d %H:%M"),
        }
        for each in incidents
    ]
    columns = [
        Shown("number", "no.", right=True),
        Shown("severity", "severity"),
        Shown("title", "title"),
        Shown("status", "status"),
        Shown("alerts", "alerts", right=True, extra=True),
        Shown("first_activity", "first (UTC)", extra=True),
    ]
    if any(each.owner for each in incidents):
        columns.insert(4, Shown("owner", "owner"))
    show_list(rows, columns, form, empty="no incidents")
    if total > len(incidents):
        which = "gravest" if gravest else "newest"
        print(f"the {which} {len(incidents):,} of {total:,} incidents; --limit 0 shows all")


def _print_incidents_json(incidents: Sequence[Incident]) -> None:
    """The same as a list of `as_data`, for thousands: written by a serializer in C."""
    import msgspec

    first = True
    for each in incidents:
        data = msgspec.to_builtins(each, builtin_types=(datetime,))
        data["entities"] = [
            {"type": one.type, "name": one.name, **dict(one.identifiers)} for one in each.entities
        ]
        line = printable_json(msgspec.json.encode(data).decode())
        print("[" if first else ",", line, sep="\n ", end="")
        first = False
    print("[]" if first else "\n]")


def status_of(incident: Incident) -> str:
    """New, Active, or how it was closed."""
    closing = incident.closing
    return f"{incident.status.value}: {closing.classification.value}" if closing else incident.status.value


def show_detection(summary: Summary, incidents: Sequence[Incident], form: Format) -> None:
    """Print what a run over history did: each rule's windows, the new alerts, all incidents."""
    rules = [{**members(each), "rule": each.rule.name, "rule_id": each.rule.id} for each in summary.rules]
    if form is Format.JSON:
        data = {
            "start": summary.start,
            "end": summary.end,
            "rules": rules,
            "alerts": [_alert(each) for each in summary.alerts],
            "incidents": [as_data(each) for each in incidents],
        }
        print(to_json(data, indent=2))
        return
    columns = [
        Shown("rule", "rule"),
        Shown("alerts", "new alerts", right=True),
        Shown("run", "windows run", right=True),
        Shown("learning", "learning", right=True),
        Shown("failed", "failed", right=True),
    ]
    loud = [each for each in rules if each["alerts"] or each["failed"]]
    if loud:
        show_list(loud, columns, form, empty="")
    print(_windows_told(summary))
    for rule in summary.rules:
        if rule.error:
            print(visible(f"failed: {rule.rule.name}: {rule.error}"))
        if rule.reason:
            print(visible(f"skipped: {rule.reason}: {counted(rule.skipped, 'window')} of {rule.rule.name}"))
    alerts = [
        Shown("at", "run at"),
        Shown("severity", "severity"),
        Shown("name", "alert"),
        Shown("rule_name", "rule", extra=True),
    ]
    show_list([_alert(each) for each in summary.alerts], alerts, form, empty="no new alerts")
    show_incidents(incidents, form)


def _windows_told(summary: Summary) -> str:
    """One line about all rules: the windows that were run, and those that were not and why."""

    def windows(name: str) -> int:
        return sum(getattr(rule, name) for rule in summary.rules)

    rules, alerts = counted(len(summary.rules), "rule"), counted(len(summary.alerts), "new alert")
    parts = [f"{rules}, {alerts}: {counted(windows('run'), 'window')} run"]
    for name, told in (
        ("before", "run before"),
        ("learning", "skipped for want of history (learning)"),
        ("suppressed", "suppressed"),
        ("failed", "failed"),
    ):
        if count := windows(name):
            parts.append(f"{count:,} {told}")
    new_to_it = sum(1 for rule in summary.rules if rule.learning and not (rule.run or rule.before))
    if new_to_it:
        parts.append(f"too little history to run at all: {counted(new_to_it, 'rule')}")
    return ", ".join(parts)


def show_report(report: Report, form: Format, *, most_events: int) -> None:
    """Print the page of an incident; the timeline stops after `most_events` events, 0 for never."""
    if form is Format.JSON:
        print(to_json(report_as_data(report), indent=2))
        return
    console = results()
    print_report(console, report, width=page_width(console), most_events=most_events)


def _alert(alert: Alert) -> dict[str, object]:
    return {
        **_plain(alert),
        "entities": [_entity(each) for each in alert.entities],
        "custom_details": {name: list(values) for name, values in alert.custom_details},
        "properties": dict(alert.properties),
    }


# --- the page -------------------------------------------------------------------------------------------


def print_report(console: Console, report: Report, *, width: int, most_events: int) -> None:
    """Print the page: head, story, entities, timeline, lineage, manifest, ATT&CK, alerts.

    The timeline stops after `most_events` events, 0 for never.
    """
    from rich.padding import Padding
    from rich.panel import Panel

    incident = report.incident
    style = SEVERITY_STYLE.get(incident.severity.value, "")
    console.print(Panel(_head(incident), border_style=style, padding=(0, 1)), width=width)
    _section(console, "What happened")
    for sentence in (*report.story, *report.to_do):
        console.print(_bullet(sentence), width=width)
    if report.to_do:
        report_of = f"trailhawk incidents report {incident.number} --out report.html"
        console.print(_dim(f"  All steps with their commands: {report_of}"))
    _section(console, "Who and what")
    console.print(_entities(report.entities), width=width)
    _section(console, f"Timeline: {counted(len(report.timeline), 'event')}")
    shown = report.timeline[: most_events or None]
    console.print(_timeline(shown, width), width=width)
    if len(shown) < len(report.timeline):
        later = len(report.timeline) - len(shown)
        console.print(_dim(f"  {counted(later, 'later event')} not shown; --events 0 shows all"))
    if report.lineage.issues or report.lineage.uses:
        _section(console, "Credential lineage")
        console.print(Padding(_lineage(report.lineage), (0, 2)), width=width)
    if report.manifest.lines:
        _section(console, f"What left: {what_left(report.manifest)}")
        console.print(_manifest(report.manifest, width), width=width)
    _section(console, "ATT&CK")
    for each in incident.techniques:
        console.print(_bullet(f"{each} {technique(each)}".strip()), width=width)
    console.print(_dim(f"  tactics: {', '.join(incident.tactics) or 'none'}"))
    _section(console, f"Alerts: {len(report.alerts)}")
    console.print(_alerts(report.alerts, width), width=width)


def _severity(graded: Incident | Alert) -> Text:
    name = graded.severity.value
    return _cell(name, SEVERITY_STYLE.get(name, ""))


def _section(console: Console, title: str) -> None:
    console.print()
    console.print(_cell(title, "bold"))


def _bullet(sentence: str) -> Table:
    from rich.table import Table

    row = Table.grid(padding=(0, 1))
    row.add_row(" •", _cell(sentence))
    return row


def _indented(text: str) -> Padding:
    from rich.padding import Padding

    return Padding(_cell(text), (0, 0, 0, 2))


def _dim(text: str) -> Text:
    return _cell(text, "dim")


def _head(incident: Incident) -> Text:
    from rich.text import Text

    return Text.assemble(
        (f"Incident {incident.number}  ", "bold"),
        _severity(incident),
        f"  {incident.status.value}\n",
        (visible(incident.title), "bold"),
        f"\n{moment(incident.first_activity)} to {moment(incident.last_activity)}",
    )


def _entities(entities: Iterable[Entity]) -> Table:
    from rich.text import Text

    by_type: dict[str, list[str]] = {}
    for entity in entities:
        by_type.setdefault(entity.type, []).append(entity.name)
    table = _grid()
    for kind, names in by_type.items():
        table.add_row(_dim(f"  {kind}"), Text("\n", overflow="fold").join(map(_cell, dict.fromkeys(names))))
    return table


def _timeline(events: Sequence[Event], width: int) -> Group:
    """The events in order of time; a heading wherever key, address or client change."""
    from rich.console import Group

    parts: list[Padding | Table] = []
    for (key, address, program), calls in groupby(
        events, key=lambda each: (each.key, each.address, _program(each.client))
    ):
        with_key = f" with key {key}" if key else ""
        parts.append(_indented(f"from {address}{with_key}, {program}"))
        parts.append(_calls(list(calls), width))
    return Group(*parts)


def _calls(events: Sequence[Event], width: int) -> Table:
    rows = []
    for event in events:
        call = _cell(f"{event.service}:{event.name}")
        if event.error:
            call.append(f"\n{visible(event.error)}", style="red")
        when = _cell(event.at.strftime("%m-%d %H:%M:%S"))
        rows.append([when, call, _cell(event.target), _cell(event.event_id)])
    # An event id is copied into queries: keep it whole where there is room.
    whole = ["time (UTC)", *(["call", "event id"] if width >= 100 else [])]
    return page_rows(["time (UTC)", "call", "on", "event id"], rows, width=width, whole=whole)


def _lineage(lineage: Lineage) -> Tree:
    """Each issuing call with its key and the key's uses; a key issued with another stands under that one."""
    from rich.tree import Tree

    root = Tree("", hide_root=True, guide_style="dim")
    nodes: dict[str, Tree] = {}
    for issue in lineage.issues:
        above = nodes.get(issue.caller_key, root) if issue.caller_key else root
        nodes[issue.key] = above.add(_issue(issue))
    for key in dict.fromkeys(use.key for use in lineage.uses):
        node = nodes.get(key) or root.add(_cell(f"{key} (where it was issued is not stored)"))
        for (address, program), uses in _by_origin(use for use in lineage.uses if use.key == key).items():
            node.add(_uses(address, program, uses))
    return root


def _issue(issue: Issue) -> Text:
    to = (
        f"instance {issue.instance}"
        if issue.instance
        else issue.caller_arn or issue.caller_id or issue.service
    )
    how = f"issued to {to} by {issue.api} at {moment(issue.at)}, event {issue.event_id}"
    return (
        _cell(issue.key, "bold")
        .append(visible(f"  {issue.role or issue.user}"), "not bold")
        .append("\n")
        .append_text(_cell(how, "not bold dim"))
    )


def _by_origin(uses: Iterable[Use]) -> dict[tuple[str, str], list[Use]]:
    """Uses by address and program: the rest of a user agent differs from call to call."""
    origins: dict[tuple[str, str], list[Use]] = {}
    for use in uses:
        origins.setdefault((use.address, _program(use.client)), []).append(use)
    return origins


def _uses(address: str, program: str, uses: Sequence[Use]) -> Text:
    refused = sum(use.denied for use in uses)
    calls = counted(sum(use.calls for use in uses), "call") + (f", {refused:,} refused" if refused else "")
    first, last = min(use.first for use in uses), max(use.last for use in uses)
    times = moment(first) if first == last else f"{moment(first)} to {moment(last)}"
    return _cell(f"used from {address} with {program}: {calls}, {times}")


def what_left(manifest: Manifest) -> str:
    """How much left, for the title of a manifest."""
    known = f"{counted(manifest.objects, 'object')}, {size(manifest.bytes)}"
    refused = f", {counted(manifest.denied, 'read')} refused" if manifest.denied else ""
    return ("not known" if manifest.unknown else known) + refused


def _manifest(manifest: Manifest, width: int) -> Group:
    """The objects under who read them: one heading for each caller, address and client."""
    from rich.console import Group

    readers: dict[tuple[str, str, str, str], list[Line]] = {}
    for line in manifest.lines:
        readers.setdefault((line.session, line.access_key, line.address, line.client), []).append(line)
    parts: list[Padding | Table] = []
    for (session, key, address, client), lines in readers.items():
        caller = session.rsplit("assumed-role/", 1)[-1]
        parts.append(_indented(f"read by {caller} with key {key} from {address} with {_program(client)}"))
        parts.append(_objects(lines, width))
    return Group(*parts)


def _objects(lines: Iterable[Line], width: int) -> Table:
    rows = []
    for line in lines:
        texts = [
            f"s3://{line.bucket}/{line.key}" + (f" copied to {line.copied_to}" if line.copied_to else ""),
            f"{line.bytes:,}",
            f"{line.reads:,}" + (f" (+{line.denied:,} refused)" if line.denied else ""),
            line.first.strftime("%m-%d %H:%M:%S"),
            line.last.strftime("%m-%d %H:%M:%S"),
        ]
        rows.append(list(map(_cell, texts)))
    names = ["object", "bytes", "reads", "first read (UTC)", "last read (UTC)"]
    return page_rows(names, rows, width=width, right=["bytes", "reads"])


def _program(client: str) -> str:
    """The first word of a user agent: the program and its version."""
    return client.split(" ", 1)[0] or "an unnamed client"


def _alerts(alerts: Sequence[Alert], width: int) -> Table:
    rows = [
        [_cell(moment(alert.at)), _severity(alert), _cell(alert.name), _cell(alert.rule_name)]
        for alert in alerts
    ]
    return page_rows(["run at", "severity", "alert", "rule"], rows, width=width)


def _cell(text: str, style: str = "") -> Text:
    from rich.text import Text

    return Text(visible(text), style=style, overflow="fold")


def _grid() -> Table:
    from rich.table import Table

    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    return grid
