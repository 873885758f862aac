"""Everything that a written report of an incident holds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime

from trailhawk.detect.alert import Alert
from trailhawk.detect.bookmarks import Bookmark
from trailhawk.engine.result import Engine
from trailhawk.incidents.blast import Blast, blast
from trailhawk.incidents.change import Change
from trailhawk.incidents.evidence import Evidence, evidence
from trailhawk.incidents.graph import Graph, graph
from trailhawk.incidents.incident import Incident
from trailhawk.incidents.moments import Moment, bookmarked, moments
from trailhawk.incidents.report import Report, report


@dataclass(frozen=True, slots=True)
class Case:
    """An incident as of `now`: its report, blast radius and graph, and the log objects it rests on."""

    report: Report
    blast: Blast
    graph: Graph
    evidence: tuple[Evidence, ...]
    timeline: tuple[Moment, ...]
    now: datetime


def case(
    engine: Engine,
    incident: Incident,
    alerts: Sequence[Alert],
    *,
    changes: Iterable[Change] = (),
    bookmarks: Iterable[Bookmark] = (),
    now: datetime,
) -> Case:
    """What is known of an incident. `alerts` and `changes` are its own, `bookmarks` may be anybody's."""
    told = report(engine, incident, alerts, now=now)
    with ThreadPoolExecutor(max_workers=3) as pool:
        drawn = pool.submit(graph, engine, told, now=now)
        reached = pool.submit(blast, engine, told, now=now)
        logs = pool.submit(evidence, engine, told.timeline, told.manifest, now=now)
        return Case(
            report=told,
            blast=reached.result(),
            graph=drawn.result(),
            evidence=logs.result(),
            timeline=moments(told, changes, bookmarked(told, bookmarks)),
            now=now,
        )
