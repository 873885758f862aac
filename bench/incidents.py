"""Incidents in number: how long grouping, listing, showing and asking take, and how much memory.

    python bench/incidents.py --alerts 100000 --incidents 5000

Alerts go into incidents as `detect` puts them, a batch a transaction; then each command runs in a process of
its own, so that its time has the start in it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from trailhawk.detect.alert import Alert
from trailhawk.detect.entities import entity
from trailhawk.detect.rule import Severity
from trailhawk.incidents.grouping import linked
from trailhawk.incidents.incident import REASONS, Classification, Closing
from trailhawk.workspace import Workspace

START = datetime(2026, 1, 1, tzinfo=UTC)
RULES = 100
BATCH = 20


def alerts(count: int, incidents: int) -> Iterator[Alert]:
    """Alerts in order of time; those of one incident share a key and lie close together."""
    chance = random.Random(7)
    each = max(1, count // incidents)
    starts = sorted(chance.randrange(0, 180 * 86_400) for _ in range(incidents))
    made = []
    for number, second in enumerate(starts):
        for place in range(each):
            at = START + timedelta(seconds=second + 300 * place)
            rule = chance.randrange(RULES)
            made.append(
                Alert(
                    id=f"{number:08x}-0000-4000-8000-{place:012x}",
                    rule_id=f"00000000-0000-4000-8000-{rule:012x}",
                    rule_name=f"Rule number {rule} of the measurement",
                    at=at,
                    started_at=at - timedelta(minutes=5),
                    ended_at=at,
                    name=f"Something happened to role web-{number % 400} on host {place}",
                    description="A description of what the rule looks for, as long as they usually are. " * 3,
                    severity=list(Severity)[1 + chance.randrange(3)],
                    tactics=("Collection", "Exfiltration"),
                    techniques=("T1530",),
                    entities=(
                        entity("AwsAccessKey", Id=f"ASIA{number:016d}"),
                        entity("AwsSession", Id=f"AROA{number:016d}:i-{number:017x}"),
                        entity("AwsPrincipal", Arn=f"arn:aws:iam::111122223333:role/web-{number % 400}"),
                        entity("IP", Address=f"198.51.{chance.randrange(100)}.{chance.randrange(256)}"),
                        entity("AwsBucket", Name=f"bucket-{chance.randrange(300)}"),
                        entity("AwsAccount", Id="111122223333"),
                    ),
                    custom_details=(("EventIds", tuple(f"e-{number}-{place}-{n}" for n in range(10))),),
                    properties=(),
                    query="AWSCloudTrail | where EventName == 'GetObject'",
                    rows=1,
                )
            )
    made.sort(key=lambda alert: (alert.at, alert.id))
    yield from made


def fill(home: Path, count: int, incidents: int) -> None:
    """A home with these alerts in their incidents, some of these worked on; prints what it cost."""
    workspace = Workspace.open(home)
    store, state = workspace.incidents, workspace.alerts
    made = list(alerts(count, incidents))
    spans: list[float] = []
    for place in range(0, len(made), BATCH):
        batch = made[place : place + BATCH]
        began = time.process_time()
        with state.engine.begin() as connection:
            state.record(connection, [], batch)
            store.add(connection, batch, [linked(each, None, ()) for each in batch])
        spans.append((time.process_time() - began) / len(batch))
    tenth = max(1, len(spans) // 10)
    first, last = sum(spans[:tenth]) / tenth, sum(spans[-tenth:]) / tenth
    print(f"grouping: {sum(spans) * BATCH:.1f} s of processor time; an alert {first * 1e3:.2f} ms at the")
    print(f"  beginning and {last * 1e3:.2f} ms at the end")
    now = START + timedelta(days=200)
    for incident in store.all()[::5]:
        how = list(Classification)[incident.number // 5 % 4]
        store.close(incident.number, Closing.of(how, next(iter(REASONS[how]), None)), by="bench", now=now)
    began = time.process_time()
    workspace.export()
    print(f"export: {time.process_time() - began:.1f} s of processor time")
    state.engine.dispose()
    print(f"state database: {(home / 'state.db').stat().st_size / 2**20:.0f} MiB")


def measure(home: Path, words: Sequence[str]) -> tuple[float, float, float]:
    """Seconds by the clock, seconds of processor time and MiB at the peak, of one command."""
    began = time.perf_counter()
    child = os.posix_spawn(
        sys.executable,
        [sys.executable, "-m", "trailhawk", "--home", str(home), *words],
        os.environ,
        file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)],
    )
    _, status, used = os.wait4(child, 0)
    if status:
        raise SystemExit(f"{' '.join(words)} failed")
    return time.perf_counter() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def commands(incidents: int, home: Path) -> list[list[str]]:
    latest = "SecurityIncident | summarize arg_max(LastModifiedTime, *) by IncidentNumber"
    middle = str(incidents // 2)
    return [
        ["--version"],
        ["query", "print 1"],
        ["incidents", "list"],
        ["incidents", "list", "--format", "json"],
        [
            "incidents",
            "list",
            "--status",
            "new",
            "--severity",
            "high",
            "--entity",
            "arn:aws:iam::111122223333:role/web-3",
        ],
        ["incidents", "show", middle],
        ["incidents", "graph", middle, "--out", str(home / "measured.html")],
        ["incidents", "report", middle, "--out", str(home / "measured.html")],
        ["incidents", "similar", middle],
        ["incidents", "comment", middle, "measured"],
        ["rules", "precision"],
        ["query", f"{latest} | summarize count() by Status, Classification"],
        ["query", f"{latest} | where IncidentNumber == {middle}"],
        ["query", "SecurityAlert | summarize count() by AlertName | top 10 by count_"],
        ["query", f"SecurityAlert | where Entities has 'ASIA{incidents // 2:016d}' | count"],
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--alerts", type=int, default=100_000)
    parser.add_argument("--incidents", type=int, default=5_000)
    parser.add_argument("--home", type=Path, help="keep the home here, or use the one that is here")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = given.home or Path(folder)
        if not (home / "state.db").exists():
            # In a process of its own: a child's peak memory counts from what its parent held.
            filling = multiprocessing.get_context("spawn").Process(
                target=fill, args=(home, given.alerts, given.incidents)
            )
            filling.start()
            filling.join()
        print(f"{'wall':>6} {'cpu':>6} {'MiB':>5}  the best of {given.rounds}")
        for words in commands(given.incidents, home):
            best = min(measure(home, words) for _ in range(given.rounds))
            print(f"{best[0]:6.2f} {best[1]:6.2f} {best[2]:5.0f}  {' '.join(words)[:90]}", flush=True)


if __name__ == "__main__":
    main()
