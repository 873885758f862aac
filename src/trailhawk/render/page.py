"""An incident as a page: the report (HTML, Markdown) and the graph (HTML, GraphML), each one file that asks
for nothing from any network.

Names come from logs that attackers write too. In HTML every value is escaped by the template and made
visible (no control or direction marks); the graph's data is JSON in which nothing can end the script, and
the script puts it on the page as text only. In Markdown whatever could be markup is escaped.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING

from trailhawk.render.attack import technique
from trailhawk.render.incident import report_as_data, what_left
from trailhawk.render.text import csv_lines, plain, size, span
from trailhawk.visible import visible

if TYPE_CHECKING:
    from jinja2 import Environment

    from trailhawk.incidents.case import Case
    from trailhawk.incidents.graph import Edge, Graph, Node
    from trailhawk.incidents.lineage import Issue, Lineage, Use
    from trailhawk.incidents.manifest import Manifest
    from trailhawk.incidents.report import Report
    from trailhawk.incidents.timeline import Event

MOST_EVENTS = 500
MOST_OBJECTS = 500
_MOST_MARKS = 400
_MARKDOWN = re.compile(r"([\\`*_{}\[\]#|!~])")


def report_page(case: Case) -> str:
    """The report as one HTML file."""
    return _render("report.html.j2", case)


def report_markdown(case: Case) -> str:
    """The report as Markdown."""
    return _render("report.md.j2", case)


def graph_page(case: Case) -> str:
    """The graph alone as one HTML file."""
    return _render("graph.html.j2", case)


def report_data(case: Case) -> dict[str, object]:
    """The report as one JSON object."""
    return {
        **report_as_data(case.report),
        "steps": [plain(each) for each in case.report.steps],
        "moments": [plain(each) for each in case.timeline],
        "graph": graph_data(case.graph),
        "blast": plain(case.blast),
        "evidence": [plain(each) for each in case.evidence],
        "written_at": plain(case.now),
    }


def graph_data(graph: Graph) -> dict[str, object]:
    """The graph as JSON's own types; an expansion's id is made of its own and its node's."""
    return {
        "nodes": [_node(node) for node in graph.nodes],
        "edges": [_edge(edge) for edge in graph.edges],
        "expanded": [
            {
                "id": f"{each.expansion.id} {each.node}",
                "node": each.node,
                "title": each.expansion.title,
                "query": _asked(each.expansion.query, each.node.partition(":")[2]),
                "nodes": [_node(node) for node in each.nodes],
                "edges": [_edge(edge) for edge in each.edges],
                "left_out": each.left_out,
            }
            for each in graph.expanded
        ],
    }


def manifest_csv(manifest: Manifest) -> str:
    """The manifest as CSV, one line for each object and caller, by time of the first read."""
    names = [
        *("bucket", "object", "version", "bytes", "reads", "denied", "first_read", "last_read", "session"),
        *("access_key", "address", "client", "source", "copied_to"),
    ]
    lines = sorted(manifest.lines, key=lambda line: (line.first, line.bucket, line.key, line.version))
    rows = (
        [
            *(
                line.bucket,
                line.key,
                line.version,
                line.bytes,
                line.reads,
                line.denied,
                line.first,
                line.last,
            ),
            *(line.session, line.access_key, line.address, line.client, line.source, line.copied_to),
        ]
        for line in lines
    )
    return "\r\n".join([*csv_lines(names, rows), ""])


def graphml(graph: Graph) -> str:
    """The graph in GraphML (http://graphml.graphdrawing.org), expansions included."""
    keys = {
        "node": ("type", "name", "title"),
        "edge": ("says", "count", "first", "last", "bytes", "expansion"),
    }
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        '<graphml xmlns="http://graphml.graphdrawing.org/xmlns">',
    ]
    for place, names in keys.items():
        for name in names:
            kind = "long" if name in ("count", "bytes") else "string"
            lines.append(f'  <key id="{name}" for="{place}" attr.name="{name}" attr.type="{kind}"/>')
    lines.append('  <graph id="incident" edgedefault="directed">')
    nodes: dict[str, Node] = {node.id: node for node in graph.nodes}
    edges: list[tuple[Edge, str]] = [(edge, "") for edge in graph.edges]
    for each in graph.expanded:
        for node in each.nodes:
            nodes.setdefault(node.id, node)
        edges += [(edge, each.expansion.id) for edge in each.edges]
    for node in nodes.values():
        title = dict(node.facts).get("title", "")
        values = {"type": node.type, "name": node.name, "title": title}
        lines.append(f"    <node id={_attribute(node.id)}>{_data(values)}</node>")
    for edge, expansion in edges:
        if edge.source in nodes and edge.target in nodes:
            values = {name: str(value or "") for name, value in _edge(edge).items()} | {
                "expansion": expansion
            }
            ends = f"source={_attribute(edge.source)} target={_attribute(edge.target)}"
            lines.append(f"    <edge {ends}>{_data({name: values[name] for name in keys['edge']})}</edge>")
    return "\n".join([*lines, "  </graph>", "</graphml>", ""])


def _attribute(text: str) -> str:
    return f'"{escape(visible(text))}"'


def _data(values: Mapping[str, str]) -> str:
    return "".join(
        f'<data key="{name}">{escape(visible(value), quote=False)}</data>'
        for name, value in values.items()
        if value
    )


def _node(node: Node) -> dict[str, object]:
    facts = dict(node.facts)
    return {
        "id": visible(node.id),
        "type": visible(node.type),
        "name": visible(node.name),
        "title": visible(facts.pop("title", "")),
        "facts": [[name, visible(value)] for name, value in facts.items()],
    }


def _edge(edge: Edge) -> dict[str, object]:
    return {
        "source": visible(edge.source),
        "target": visible(edge.target),
        "says": visible(edge.says),
        "count": edge.count,
        "first": _time(edge.first),
        "last": _time(edge.last),
        "bytes": edge.bytes,
    }


def _asked(query: str, name: str) -> str:
    """An expansion's query as it can be run by hand, for one entity."""
    from trailhawk.incidents.literal import string

    return query.replace(
        "declare query_parameters(Names: dynamic);", f"let Names = dynamic([{string(name)}]);"
    ).strip()


# --- templates ---------------------------------------------------------------------------------------------


def _render(name: str, case: Case) -> str:
    report, incident = case.report, case.report.incident
    lines = sorted(report.manifest.lines, key=lambda line: (line.first, line.bucket, line.key))
    by_kind: dict[str, dict[str, None]] = {}
    for each in report.entities:
        by_kind.setdefault(each.type, {})[each.name] = None
    return (
        _templates()
        .get_template(name)
        .render(
            incident=incident,
            report=report,
            now=case.now,
            figures=_figures(report),
            lanes=_lanes(report),
            steps=case.report.steps,
            graph_data=_for_script(graph_data(case.graph)),
            edges=case.graph.edges,
            css=_page_file("page.css"),
            script=_page_file("graph.js"),
            manifest_title=what_left(report.manifest),
            lines=lines[:MOST_OBJECTS],
            lines_left=max(0, len(lines) - MOST_OBJECTS),
            lineage=_lineage(report.lineage),
            techniques=[(each, technique(each)) for each in incident.techniques],
            entities=[(kind, list(names)) for kind, names in by_kind.items()],
            events=report.timeline[:MOST_EVENTS],
            events_left=max(0, len(report.timeline) - MOST_EVENTS),
            moments=case.timeline[:MOST_EVENTS],
            moments_left=max(0, len(case.timeline) - MOST_EVENTS),
            evidence=case.evidence,
            blast=case.blast,
        )
    )


@cache
def _templates() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("trailhawk.render", "pages"),
        autoescape=lambda name: bool(name and name.endswith(".html.j2")),
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"time": _time, "spaced": _spaced, "md": _markdown, "fenced": _fenced}
    return made


def _shown(value: object) -> object:
    """Text without what a browser would obey; what a template marks as safe stays."""
    from markupsafe import Markup

    return visible(value, keep="\n") if isinstance(value, str) and not isinstance(value, Markup) else value


@cache
def _page_file(name: str) -> str:
    return files("trailhawk.render").joinpath("pages").joinpath(name).read_text(encoding="utf-8")


def _for_script(value: object) -> str:
    """JSON inside a script element: no character of it can end the element or open a comment."""
    text = json.dumps(plain(value), ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _time(value: datetime | None) -> str:
    return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S") if value else ""


def _spaced(tactic: str) -> str:
    """`CredentialAccess` as `Credential Access`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", tactic)


def _markdown(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", escape(visible(text), quote=False))


def _fenced(text: str) -> str:
    """A code block; its fence is longer than any run of backticks inside."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}sh\n{visible(text)}\n{fence}"


def _figures(report: Report) -> list[tuple[str, str]]:
    incident, read = report.incident, report.manifest
    sources = dict.fromkeys(event.address for event in report.timeline if event.address)
    return [
        ("objects left", "?" if read.unknown else f"{read.objects:,}"),
        (
            "bytes left",
            "?" if read.unknown else size(read.bytes).partition(" (")[2].rstrip(")") or f"{read.bytes:,}",
        ),
        ("calls", f"{len(report.timeline):,}"),
        ("addresses", f"{len(sources):,}") if len(sources) != 1 else ("address", next(iter(sources))),
        ("from first to last", span(_whole(incident.last_activity - incident.first_activity))),
        ("alerts", f"{len(report.alerts):,}"),
    ]


def _whole(value: timedelta) -> timedelta:
    return timedelta(seconds=round(value.total_seconds()))


# --- when it happened --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Mark:
    lane: int
    x: float
    kind: str
    says: str


@dataclass(frozen=True, slots=True)
class _Tick:
    x: float
    says: str
    anchor: str


@dataclass(frozen=True, slots=True)
class _Lanes:
    names: tuple[str, ...]
    marks: tuple[_Mark, ...]
    ticks: tuple[_Tick, ...]
    height: int


def _lanes(report: Report) -> _Lanes:
    """Calls and alerts on a line each for address and service, over time; x runs from 200 to 980."""
    calls = report.timeline[:_MOST_MARKS]
    moments = [e.at for e in calls] + [a.started_at for a in report.alerts]
    if not moments:
        return _Lanes((), (), (), 0)
    first, last = min(moments), max(moments)
    whole = max((last - first).total_seconds(), 1.0)

    def x(at: datetime) -> float:
        return round(200 + 780 * (at - first).total_seconds() / whole, 1)

    names = list(dict.fromkeys(_lane(event) for event in calls))[:11]
    marks = [
        _Mark(
            names.index(_lane(event)),
            x(event.at),
            "refused" if event.error else "call",
            f"{_time(event.at)} {event.name} {event.target} {event.error}".strip(),
        )
        for event in calls
        if _lane(event) in names
    ]
    names.append("alerts: first event")
    marks += [
        _Mark(len(names) - 1, x(alert.started_at), "alert", f"{_time(alert.started_at)} {alert.name}")
        for alert in report.alerts[:_MOST_MARKS]
    ]
    # At least a second apart, or the same time would stand there twice.
    parts = min(4, int((last - first).total_seconds()))
    times = [first + (last - first) * part / max(parts, 1) for part in range(parts + 1)]
    ticks = [_Tick(x(at), _time(at), "end" if part == 4 else "middle") for part, at in enumerate(times)]
    shown = tuple(name if len(name) <= 30 else name[:29] + "…" for name in names)
    return _Lanes(shown, tuple(marks), tuple(ticks), 20 + 22 * len(names) + 14)


def _lane(event: Event) -> str:
    return f"{event.address} {event.service}"


# --- lineage as a tree -------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Branch:
    key: str
    issue: Issue | None
    to: str
    uses: list[_Uses]
    below: list[_Branch]


@dataclass(frozen=True, slots=True)
class _Uses:
    address: str
    program: str
    calls: int
    denied: int
    first: datetime
    last: datetime


def _lineage(lineage: Lineage) -> list[_Branch]:
    """Each issuing call under the one whose key it was made with; keys of unknown issue at the end."""
    branches: dict[str, _Branch] = {}
    roots: list[_Branch] = []
    for issue in lineage.issues:
        to = (
            f"instance {issue.instance}"
            if issue.instance
            else issue.caller_arn or issue.caller_id or issue.service
        )
        branch = _Branch(issue.key, issue, to, _uses(lineage.uses, issue.key), [])
        above = branches.get(issue.caller_key) if issue.caller_key else None
        (above.below if above else roots).append(branch)
        branches.setdefault(issue.key, branch)
    for key in dict.fromkeys(use.key for use in lineage.uses):
        if key not in branches:
            roots.append(_Branch(key, None, "", _uses(lineage.uses, key), []))
    return roots


def _uses(uses: Iterable[Use], key: str) -> list[_Uses]:
    """By address and program; the rest of a user agent differs from call to call."""
    origins: dict[tuple[str, str], list[Use]] = {}
    for use in uses:
        if use.key == key:
            program = use.client.split(" ", 1)[0] or "an unnamed client"
            origins.setdefault((use.address, program), []).append(use)
    return [_summed(address, program, own) for (address, program), own in origins.items()]


def _summed(address: str, program: str, uses: Sequence[Use]) -> _Uses:
    return _Uses(
        address,
        program,
        sum(use.calls for use in uses),
        sum(use.denied for use in uses),
        min(use.first for use in uses),
        max(use.last for use in uses),
    )
