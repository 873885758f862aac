"""Run a simulation: build the world, tell its days, add the attack, write the files and the truth."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from time import perf_counter

import orjson

from ..errors import NotFoundError, UsageError
from .benign import WEEKEND, ordinary_day
from .benign.changes import look_alikes
from .delivery import Delivery, Tally, trail_digests
from .logs.other import DEFAULT_FLOWS_PER_DAY, LEAST_FLOWS_PER_DAY, OtherLogs
from .record import Json
from .techniques import SCENARIOS, Scenario, Variant
from .techniques.attack import Attack
from .text import iso
from .world import DAY, World, build

DEFAULT_DAYS = 35
DEFAULT_EVENTS_PER_DAY = 3_000
LEAST_EVENTS_PER_DAY = 300
DIGEST_KEYS = "digest-keys.json"
"""Beside the logs: the public keys of the digests, as ListPublicKeys gives them."""


@dataclass(frozen=True)
class Summary:
    """What a simulation wrote. `records` counts repeats, `events` counts distinct event ids; `files` and
    both are of CloudTrail. `other_files` and `other_records` are of the other logs."""

    scenario: str
    variant: str
    logs: Path
    truth: Path
    first_day: date
    last_day: date
    files: int
    digests: int
    records: int
    events: int
    attack_events: int
    other_files: int
    other_records: int
    bytes: int
    seconds: float


def simulate(
    scenario: str,
    out: Path,
    *,
    variant: str = "",
    days: int = DEFAULT_DAYS,
    seed: int,
    events_per_day: int | None = None,
    flows_per_day: int = DEFAULT_FLOWS_PER_DAY,
    end: date,
    progress: Callable[[int, int], None] | None = None,
) -> Summary:
    """Write the logs of `days` days up to and with `end` to `out/logs`, and the truth to `out/truth.json`.

    The attack is on the last day. The same arguments give the same bytes. `progress` hears (days done, days).
    Beside CloudTrail there are VPC flow records, S3 access logs, GuardDuty findings and a proxy's log of the
    same days, with about `flows_per_day` flow records besides those of the calls; 0 leaves all of them out.
    `variant` is the name or number of a variant, the scenario's first unless given; it says how many events
    there are unless `events_per_day` does.
    One that fails or is interrupted leaves no files.
    Raises NotFoundError for an unknown scenario or variant and UsageError for sizes out of range or a folder
    in use.
    """
    started = perf_counter()
    chosen = _scenario(scenario)
    told = _variant(chosen, variant)
    if events_per_day is None:
        events_per_day = a_day(told.events, days=days, end=end) if told.events else DEFAULT_EVENTS_PER_DAY
    if days < 1 or events_per_day < LEAST_EVENTS_PER_DAY:
        raise UsageError(
            f"cannot simulate {days} days of {events_per_day} events",
            hint=f"at least 1 day and {LEAST_EVENTS_PER_DAY} events a day",
        )
    if flows_per_day and flows_per_day < LEAST_FLOWS_PER_DAY:
        raise UsageError(
            f"cannot simulate {flows_per_day} flow records a day",
            hint=f"at least {LEAST_FLOWS_PER_DAY}, or 0 for CloudTrail alone",
        )
    logs, truth_file = _room(out)
    first_day = end - timedelta(days=days - 1)
    start = int(datetime(first_day.year, first_day.month, first_day.day, tzinfo=UTC).timestamp())
    with _whole_or_none(logs, truth_file, out / DIGEST_KEYS):
        world = build(seed=seed, start=start, days=days, events_per_day=events_per_day, setting=told.setting)
        attack = told.attack(world, world.rng("attack", scenario))
        digests = trail_digests(partial(world.rng, "digest key"))
        delivery = Delivery(logs, world.rng("delivery"), digests)
        others = OtherLogs(world, logs, flows_per_day=flows_per_day) if flows_per_day else None
        marked: dict[str, list[str]] = defaultdict(list)
        for number in range(1, days + 1):
            for record, mark in ordinary_day(world, number):
                if record.at >= world.end:
                    continue
                delivery.add(record)
                if others:
                    others.add(record)
                if mark:
                    marked[mark].append(record.event_id)
            if number == days:
                for record in (*attack.records, *attack.background):
                    delivery.add(record)
                    if others:
                        others.add(record)
                if others:
                    others.add_attack(attack)
            delivery.flush(start + number * DAY, last=number == days)
            if others:
                others.end_day(number)
            if progress:
                progress(number, days)
        truth = _truth(chosen, told, world, attack, marked, delivery.tally)
        if others:
            truth["other_logs"] = others.truth(attack)
        truth_file.write_bytes(orjson.dumps(truth, option=orjson.OPT_INDENT_2) + b"\n")
        (out / DIGEST_KEYS).write_bytes(digests.key_list(world.start, world.end + DAY))
    tally = delivery.tally
    return Summary(
        scenario=scenario,
        variant=told.name,
        logs=logs,
        truth=truth_file,
        first_day=first_day,
        last_day=end,
        files=tally.files,
        digests=tally.digests,
        records=tally.records,
        events=tally.distinct,
        attack_events=len(attack.records),
        other_files=others.totals.files if others else 0,
        other_records=others.totals.records if others else 0,
        bytes=tally.bytes + (others.totals.bytes if others else 0),
        seconds=perf_counter() - started,
    )


def a_day(events: int, *, days: int, end: date) -> int:
    """The events of a working day that make so many in all days up to and with `end`."""
    dates = (end - timedelta(days=back) for back in range(max(days, 1)))
    return round(events / sum(1.0 if each.weekday() < 5 else WEEKEND for each in dates))


def _scenario(name: str) -> Scenario:
    for scenario in SCENARIOS:
        if scenario.name == name:
            return scenario
    known = ", ".join(scenario.name for scenario in SCENARIOS)
    raise NotFoundError(f"no scenario named '{name}'", hint=f"there are: {known}")


def _variant(scenario: Scenario, name: str) -> Variant:
    """The variant of this name or number; the first for an empty one."""
    if not name:
        return scenario.variants[0]
    for variant in scenario.variants:
        if name.lower() in (variant.name, variant.number.lower()):
            return variant
    known = ", ".join(f"{variant.name} ({variant.number})" for variant in scenario.variants)
    raise NotFoundError(f"no variant of {scenario.name} named '{name}'", hint=f"there are: {known}")


def _room(out: Path) -> tuple[Path, Path]:
    """The log folder and the truth file of a simulation, neither of them there yet."""
    logs, truth = out / "logs", out / "truth.json"
    if truth.exists():
        raise UsageError(f"{out} already holds a simulation", hint="choose another folder or remove it")
    if logs.exists() and any(logs.iterdir()):
        raise UsageError(
            f"{logs} already holds files, and {truth} is not there: a simulation that was ended in between, "
            "or other logs",
            hint=f"choose another folder, or remove {logs} if it is the first",
        )
    logs.mkdir(parents=True, exist_ok=True)
    return logs, truth


@contextmanager
def _whole_or_none(logs: Path, *files: Path) -> Iterator[None]:
    """Where the simulation does not come to its end, as by Ctrl-C, what it wrote is removed."""
    try:
        yield
    except BaseException:
        shutil.rmtree(logs, ignore_errors=True)  # what stays is told by the next one
        for file in files:
            file.unlink(missing_ok=True)
        raise


def _truth(
    scenario: Scenario,
    variant: Variant,
    world: World,
    attack: Attack,
    marked: Mapping[str, list[str]],
    tally: Tally,
) -> Json:
    resembling = (*look_alikes(world), *attack.look_alikes)
    return {
        "scenario": scenario.name,
        "variant": {"name": variant.name, "number": variant.number, "story": variant.description},
        "seed": world.seed,
        "first": iso(world.start),
        "end": iso(world.end),
        "days": world.days,
        "attack": dict(attack.truth) or None,
        "expected": attack.expectation,
        "look_alikes": [
            {"name": one.name, "day": one.day, "story": one.story, **one.about} for one in resembling
        ],
        "marked_events": dict(sorted(marked.items())),
        "counts": {
            "records": tally.records,
            "events": tally.distinct,
            "repeated_records": tally.repeated,
            "files": tally.files,
            "digest_files": tally.digests,
            "duplicate_files": tally.duplicate_files,
            "late_files": tally.late_files,
            "latest_minutes": tally.latest_minutes,
        },
    }
