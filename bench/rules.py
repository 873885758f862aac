"""How fast many rules are: `python bench/rules.py [--rules N] [--rows N] [--day N] [--folder DIR]`.

The lake holds two weeks of history and one more day of new events (see `bench/kql/data.py`; flow logs, access
logs and a proxy's log beside them). The rules are the package's, then forty with long look-backs, then the
package's hunts, then the package's rules again. Measured, each in a process of its own:

- alone: each rule's newest window by itself, one after the other, as `trailhawk query` would run it;
- round: one round of the scheduler, in which every rule has one window due; for a quarter, a half and all of
  the rules, to show how it grows with them (run again with other --rows for the growth with rows);
- day (with --replay): every window of the last day, as `trailhawk detect` replays it.

The lake stays in DIR for the next run.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "kql"))

import data
from rules import rules as forty

from trailhawk.detect.rule import Aggregation, Rule, RuleKind, Severity
from trailhawk.detect.schedule import last_run
from trailhawk.engine.result import TimeRange
from trailhawk.errors import QueryError
from trailhawk.sources.cloudtrail import TABLE
from trailhawk.workspace import Workspace

HISTORY_DAYS = 14
HOUR, DAY = dt.timedelta(hours=1), dt.timedelta(days=1)
CLOCK = data.NOW + dt.timedelta(minutes=6)
"""When the windows that end at midnight are due."""

Figures = dict[str, object]


def lake_of(folder: Path, rows: int, day_rows: int) -> Path:
    """The home with the lake of so many rows of history and of the last day; made where there is none."""
    home = folder / f"rules-{rows}-{day_rows}"
    done = home / "lake-done"
    if done.exists():
        return home
    base = data.month(folder)
    shutil.rmtree(home, ignore_errors=True)
    for name in base.table_names():
        if name != TABLE.name and (base.root / name).exists():
            shutil.copytree(base.root / name, home / "lake" / name)
    workspace = Workspace.open(home)
    delta = workspace.lake.delta(TABLE.name)
    delta.create()
    files = base.snapshot(TABLE.name).files()
    per_copy = sum(file.rows for file in files) / len({file.first.date() for file in files if file.first})
    for number in range(HISTORY_DAYS + 1):
        day = data.LAST_DAY - dt.timedelta(days=number)
        wanted = rows / HISTORY_DAYS if number else day_rows
        table = data.multiplied(base, day, max(1, round(wanted / per_copy)))
        delta.commit([delta.stage_sorted(data.slices(table), day)])
        print(f"  {day}: {table.num_rows:,} rows", flush=True)
    done.touch()
    return home


def chosen(workspace: Workspace, count: int) -> list[Rule]:
    """So many rules: the package's, forty of long look-backs, the hunts as rules, copies of the package's."""
    own = [rule for rule in workspace.content.rules() if rule.kind is not RuleKind.HUNTING]
    found = list(own)
    for number, (name, text) in enumerate(forty()):
        found.append(
            Rule(
                id=f"forty-{number}",
                name=name,
                query=text,
                kind=RuleKind.SCHEDULED,
                severity=Severity.MEDIUM,
                frequency=HOUR,
                period=14 * DAY,
                aggregation=Aggregation.PER_RESULT,
            )
        )
    for hunt in workspace.content.hunts():
        found.append(replace(hunt, kind=RuleKind.SCHEDULED, frequency=HOUR, period=DAY))
    copy = 0
    while len(found) < count:
        copy += 1
        found += [replace(rule, id=f"{rule.id}-{copy}", name=f"{rule.name} ({copy})") for rule in own]
    return found[:count]


def alone(workspace: Workspace, rules: list[Rule]) -> Figures:
    """Each rule's newest window through a plain query, one after the other."""
    rows = failed = 0
    for rule in rules:
        at = last_run(rule.frequency, data.NOW)
        try:
            result = workspace.query(rule.query, now=at, window=TimeRange(at - rule.period, at))
        except QueryError:
            failed += 1
            continue
        rows += result.table.num_rows
    return {"windows": len(rules), "failed": failed, "rows": rows}


def one_round(workspace: Workspace, rules: list[Rule]) -> Figures:
    """One round of the scheduler, with alerts, incidents and the export to the lake."""
    workspace.content.rules = lambda *_, **__: tuple(rules)  # type: ignore[method-assign]
    done = workspace.run_due_rules(fault=lambda _: None)
    states = [each.state.value for each in done.runs]
    return {
        "windows": len(states),
        "failed": states.count("failed"),
        "skipped": states.count("skipped"),
        "alerts": len(done.alerts),
    }


def replay(workspace: Workspace, rules: list[Rule]) -> Figures:
    """Every window of the last day."""
    found = workspace.detect(rules, start=data.NOW - DAY, end=data.NOW)
    return {
        "windows": sum(each.run for each in found.rules),
        "failed": sum(each.failed for each in found.rules),
        "skipped": sum(each.learning + each.suppressed + each.skipped for each in found.rules),
        "alerts": len(found.alerts),
    }


PARTS = {"alone": alone, "round": one_round, "day": replay}


def measure(part: str, home: Path, count: int) -> Figures:
    """Run a part over a fresh state database in this process."""
    with tempfile.TemporaryDirectory(dir=home.parent) as name:
        fresh = Path(name)
        (fresh / "lake").mkdir()
        for table in (home / "lake").iterdir():
            if table.name in ("SecurityAlert", "SentinelHealth"):
                continue  # the runs write these
            (fresh / "lake" / table.name).symlink_to(table, target_is_directory=True)
        workspace = Workspace.open(fresh, clock=lambda: CLOCK)
        rules = chosen(workspace, count)
        started, busy = time.perf_counter(), time.process_time()
        figures = PARTS[part](workspace, rules)
        return {
            "part": part,
            "rules": count,
            "seconds": round(time.perf_counter() - started, 1),
            "processor_seconds": round(time.process_time() - busy, 1),
            "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
            **figures,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rules", type=int, default=200)
    parser.add_argument("--rows", type=int, default=10_000_000, help="rows of history")
    parser.add_argument("--day", type=int, default=1_000_000, help="rows of the last day")
    parser.add_argument("--folder", type=Path, help="where the lake is kept")
    parser.add_argument("--replay", action="store_true", help="replay the last day too")
    parser.add_argument("--only", choices=sorted(PARTS), help="one part, for all rules, in this process")
    parser.add_argument("--json", type=Path, help="write the figures here")
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="trailhawk-rules-"))
    folder.mkdir(parents=True, exist_ok=True)
    home = lake_of(folder.absolute(), given.rows, given.day)
    if given.only:
        print(json.dumps(measure(given.only, home, given.rules)), flush=True)
        return
    counts = sorted({max(1, given.rules // 4), max(1, given.rules // 2), given.rules})
    wanted = [("alone", given.rules), *(("round", count) for count in counts)]
    if given.replay:
        wanted.append(("day", given.rules))
    found = []
    print(f"{given.rows:,} rows of history, {given.day:,} of the day, {os.cpu_count()} cores", flush=True)
    for part, count in wanted:
        command = [sys.executable, __file__, "--folder", str(folder), "--rows", str(given.rows)]
        command += ["--day", str(given.day), "--rules", str(count), "--only", part]
        told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        figures = json.loads(told.strip().splitlines()[-1])
        found.append(figures)
        print(
            f"{part:6} {count:4} rules  {figures['seconds']:8.1f} s  {figures['processor_seconds']:8.1f} s"
            f" of processor  {figures['peak_mib']:6,} MiB  {figures['windows']:6,} windows"
            f"  {figures['failed']} failed  {figures.get('alerts', '-')} alerts",
            flush=True,
        )
    if given.json:
        given.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
