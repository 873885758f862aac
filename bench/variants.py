"""Every variant of the simulated attacks through the whole road, against what its truth expects.

    python bench/variants.py [--variants V1,slow,...] [--seeds 1,2,3] [--days 35] [--watched 10]
        [--events-per-day 3000] [--hidden-events 1000000]

For each variant and seed: simulate, take in, run every shipped rule over the last days, compare. The table
has a line for each, with the reasons where something is not as the truth says. Exit code 1 if any is not.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import resource
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, process_time

from trailhawk.detect.rule import Severity
from trailhawk.incidents.incident import Incident
from trailhawk.incidents.report import Report
from trailhawk.simulate.run import a_day, simulate
from trailhawk.simulate.techniques import SCENARIOS, Variant
from trailhawk.workspace import Workspace

LAST_DAY = dt.date(2026, 3, 31)
NOW = dt.datetime(2026, 4, 1, 12, tzinfo=dt.UTC)
Json = Mapping[str, object]


@dataclass(frozen=True)
class Verdict:
    """What was found, and what of it is not as the truth says."""

    grave: tuple[Incident, ...]
    """Incidents of Medium or more."""
    others: int
    """Incidents below."""
    wrong: tuple[str, ...]
    report: Report | None


def judge(workspace: Workspace, truth: Json) -> Verdict:
    """Compare a workspace that has run its rules with `truth.json`."""
    expected = truth["expected"]
    assert isinstance(expected, dict)
    incidents = [each for each in workspace.incidents.all() if each.merged_into is None]
    grave = tuple(each for each in incidents if each.severity.rank >= Severity.MEDIUM.rank)
    wrong: list[str] = []
    if len(grave) != expected["incidents"]:
        wrong.append(f"{len(grave)} incidents instead of {expected['incidents']}")
        wrong += [f"{each.severity.value}: {each.title}" for each in grave]
    inside = {alert for each in grave for alert in each.alert_ids}
    loose = [
        alert.name
        for alert in workspace.alerts.alerts()
        if alert.severity.rank >= Severity.MEDIUM.rank and alert.id not in inside
    ]
    wrong += [f"alert outside: {name}" for name in loose]
    report = None
    if expected["incidents"] and grave:
        gravest = max(grave, key=lambda each: (each.severity.rank, len(each.alert_ids)))
        report = workspace.report(gravest.number)
        wrong += _differences(report, expected)
    return Verdict(grave, len(incidents) - len(grave), tuple(wrong), report)


def _differences(report: Report, expected: dict[str, object]) -> Iterator[str]:
    incident = report.incident
    if incident.severity.rank < Severity(expected["severity"]).rank:
        yield f"{incident.severity.value} instead of {expected['severity']}"
    told = {event.event_id for event in report.timeline}
    wanted = set(_list(expected["event_ids"]))
    if told != wanted:
        yield f"timeline: {len(told - wanted)} too many, {len(wanted - told)} missing of {len(wanted)}"
    objects: dict[tuple[str, str], list[int]] = {}
    for line in report.manifest.lines:
        if line.reads:
            sums = objects.setdefault((line.bucket, line.key), [0, 0])
            sums[0] += line.bytes
            sums[1] += line.reads
    left = {
        (one["bucket"], one["key"]): [one["bytes"], one["reads"]]
        for one in _list(expected["objects"])
        if isinstance(one, dict)
    }
    if objects != left or report.manifest.bytes != expected["bytes"]:
        yield f"manifest: {report.manifest.objects} objects, {report.manifest.bytes} bytes"
    refused = sum(bool(event.error) for event in report.timeline)
    if refused != expected["refused"]:
        yield f"{refused} calls refused instead of {expected['refused']}"
    entities = expected["entities"]
    assert isinstance(entities, dict)
    for kind, values in entities.items():
        missing = set(values) - {entity.value for entity in report.entities if entity.type == kind}
        if missing:
            yield f"no {kind} {', '.join(sorted(missing))}"


def _list(value: object) -> list[object]:
    assert isinstance(value, list)
    return value


@dataclass(frozen=True)
class Outcome:
    """One variant of one seed: how much it was, how long it took (seconds), and the verdict."""

    events: int
    simulated: float
    taken: float
    detected: float
    processor: float
    verdict: Verdict
    wrong: tuple[str, ...]


def whole(scenario: str, variant: Variant, folder: Path, *, seed: int, asked: argparse.Namespace) -> Outcome:
    """Simulate a variant, take it in, run every rule over the watched days, and judge."""
    hidden = a_day(asked.hidden_events, days=asked.days, end=LAST_DAY)
    started, processor = perf_counter(), process_time()
    made = simulate(
        scenario,
        folder / "sim",
        variant=variant.name,
        seed=seed,
        days=asked.days,
        events_per_day=hidden if variant.events else asked.events_per_day,
        end=LAST_DAY,
    )
    simulated = perf_counter()
    workspace = Workspace.open(folder / "home", clock=lambda: NOW)
    workspace.ingest([made.logs], lambda _: None)
    taken = perf_counter()
    first = dt.datetime.combine(LAST_DAY, dt.time(), dt.UTC) - dt.timedelta(days=asked.watched - 1)
    found = workspace.detect(workspace.content.rules(), start=first if asked.watched < asked.days else None)
    detected = perf_counter()
    verdict = judge(workspace, json.loads(made.truth.read_text()))
    return Outcome(
        events=made.events,
        simulated=simulated - started,
        taken=taken - simulated,
        detected=detected - taken,
        processor=process_time() - processor,
        verdict=verdict,
        wrong=(*verdict.wrong, *(f"{each.rule.name} failed" for each in found.rules if each.error)),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="Every variant of the simulated attacks, against its truth.")
    parser.add_argument("--variants", default="", help="names or numbers; all unless given")
    parser.add_argument("--seeds", default="1")
    parser.add_argument("--days", type=int, default=35)
    parser.add_argument("--watched", type=int, default=10, help="rules run over the last so many days")
    parser.add_argument("--events-per-day", type=int, default=3_000)
    parser.add_argument("--hidden-events", type=int, default=1_000_000, help="events of V9 in all")
    parser.add_argument("--tell", action="store_true", help="print the story of each incident")
    asked = parser.parse_args()
    chosen = {each.lower() for each in asked.variants.split(",") if each}
    variants = [
        (scenario.name, variant)
        for scenario in SCENARIOS
        for variant in scenario.variants
        if not chosen or {variant.name, variant.number.lower()} & chosen
    ]
    failed = 0
    print("     variant        seed     events   made  taken   rules     cpu  outcome")
    for seed in map(int, asked.seeds.split(",")):
        for scenario, variant in variants:
            with tempfile.TemporaryDirectory() as name:
                outcome = whole(scenario, variant, Path(name), seed=seed, asked=asked)
            failed += bool(outcome.wrong)
            _print(variant, seed, outcome, tell=asked.tell)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"seconds wall and processor; peak memory {peak:,.0f} MiB; {failed} wrong")
    return 1 if failed else 0


def _print(variant: Variant, seed: int, outcome: Outcome, *, tell: bool) -> None:
    verdict = outcome.verdict
    told = ", ".join(f"{each.severity.value}: {each.title}" for each in verdict.grave) or "silence"
    print(
        f"{variant.number:4} {variant.name:15}{seed:4}{outcome.events:11,}  {outcome.simulated:5.0f} "
        f"{outcome.taken:6.0f} {outcome.detected:7.0f} {outcome.processor:7.0f}  "
        f"{'WRONG' if outcome.wrong else 'right'}: {told} (+{verdict.others} below Medium)",
        flush=True,
    )
    story = verdict.report.story if tell and verdict.report else ()
    for line in (*outcome.wrong, *story):
        print(f"{'':41}{line}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
