"""How fast KQL is: `python bench/kql [--rows N] [--folder DIR] [--json FILE]`.

Four parts, each with the bar it is to keep: the time to compile rules; hunts against SQL by hand over the
same files; the same hunts against duckdb-kql and chdb (`pip install duckdb-kql chdb`); needles with and
without the index of terms. All take their turns in the same run, and of several turns the best counts. The
lake and the others' stores stay in DIR for the next run.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import data
import engines
import pyarrow as pa
from queries import HUNTS, Hunt
from rules import rules

from trailhawk.engine.duckdb import DuckDBEngine
from trailhawk.kql import compiler
from trailhawk.kql.lower import lower
from trailhawk.lake import Lake
from trailhawk.lake.terms import FOLDER
from trailhawk.sources.cloudtrail import TABLE

Figures = dict[str, object]


def compile_times(lake: Lake, *, rounds: int) -> Figures:
    """Milliseconds from the text of a rule to its SQL, read anew each time."""
    found, busy = [], []
    for _ in range(rounds):
        for _, text in rules():
            compiler._parsed.cache_clear()
            started, at = time.perf_counter(), time.process_time()
            compiled = compiler.compile_query(text, lake, now=data.NOW)
            lower(compiled.plan, lambda scan: "SELECT 1", lambda node, inputs: "applied")
            found.append((time.perf_counter() - started) * 1000)
            busy.append((time.process_time() - at) * 1000)
    found.sort()
    busy.sort()
    return {
        "rules": len(found) // rounds,
        "median_ms": round(statistics.median(found), 2),
        "p99_ms": round(found[int(len(found) * 0.99)], 2),
        "processor_median_ms": round(statistics.median(busy), 2),
        "processor_p99_ms": round(busy[int(len(busy) * 0.99)], 2),
        "bars_ms": [10, 50],
        "kept": statistics.median(found) <= 10 and found[int(len(found) * 0.99)] <= 50,
    }


Times = dict[str, float]


def best_of(turns: int, runs: Mapping[str, Callable[[], pa.Table]]) -> tuple[Times, Times, dict[str, int]]:
    """Of each the best seconds by the clock and of the processor, taking turns, and how many rows it gave.
    What fails is left out."""
    best: Times = {}
    busy: Times = {}
    rows: dict[str, int] = {}
    failed: set[str] = set()
    for _ in range(turns):
        for name, run in runs.items():
            if name in failed:
                continue
            started, at = time.perf_counter(), time.process_time()
            try:
                table = run()
            except Exception as error:  # others refuse what they cannot do, each with errors of its own
                if name in ("trailhawk", "sql"):
                    raise
                print(f"    {name}: {str(error).splitlines()[0][:100]}", file=sys.stderr)
                failed.add(name)
                continue
            seconds = time.perf_counter() - started
            used = time.process_time() - at
            best[name] = min(seconds, best.get(name, seconds))
            busy[name] = min(used, busy.get(name, used))
            rows[name] = table.num_rows
    return best, busy, rows


def hunts(lake: Lake, folder: Path, *, turns: int, others: bool) -> tuple[Figures, Figures]:
    """The hunts, beside SQL by hand and beside other engines of KQL."""
    running: dict[str, engines.Run] = {"trailhawk": engines.trailhawk(lake), "sql": engines.by_hand(lake)}
    dialect: Callable[[Hunt], bool] = bool
    if others:
        running["duckdb-kql"] = engines.duckdb_kql(lake, folder)
        running["chdb"], dialect = engines.chdb(lake, folder)
    queries: list[Figures] = []
    ratios: list[float] = []
    processor: list[float] = []
    against: dict[str, list[float]] = {"duckdb-kql": [], "chdb": []}
    for hunt in HUNTS:
        best, busy, rows = best_of(turns, {name: partial(run, hunt) for name, run in running.items()})
        if rows["trailhawk"] != rows["sql"]:
            raise SystemExit(f"{hunt.name}: {rows['trailhawk']} rows, by hand {rows['sql']}")
        ratios.append(best["trailhawk"] / best["sql"])
        processor.append(busy["trailhawk"] / busy["sql"])
        for name, found in against.items():
            if name in best:
                found.append(best["trailhawk"] / best[name])
        shown = {name: round(seconds * 1000, 1) for name, seconds in best.items()}
        queries.append({"name": hunt.name, "rows": rows, "ms": shown, "ratio": round(ratios[-1], 2)})
        queries[-1]["processor_ratio"] = round(processor[-1], 2)
        if others:
            queries[-1]["chdb_dialect"] = dialect(hunt)
        print(
            f"  {hunt.name:32} {ratios[-1]:5.2f} {processor[-1]:5.2f}  "
            + "  ".join(f"{n} {ms:.0f} ms" for n, ms in shown.items())
        )
    by_hand: Figures = {
        "queries": queries,
        "median": round(statistics.median(ratios), 2),
        "worst": round(max(ratios), 2),
        "processor_median": round(statistics.median(processor), 2),
        "processor_worst": round(max(processor), 2),
        "bars": [1.15, 1.5],
        "kept": statistics.median(ratios) <= 1.15 and max(ratios) <= 1.5,
    }
    beside: Figures = {
        name: {
            "queries_run": len(found),
            "median_of_our_share": round(statistics.median(found), 2),
            "kept": statistics.median(found) < 1,
        }
        for name, found in against.items()
        if found
    }
    return by_hand, beside


NEEDLES = {
    "on 2 of 30 days": (data.RARE, 10.0),
    "nowhere": (data.ABSENT, 30.0),
    "everywhere": (data.COMMON, 1 / 1.1),
}


def needles(lake: Lake, *, turns: int) -> Figures:
    """`search` with the index and without it: the same files, read by a lake that finds no index there."""
    engine = DuckDBEngine(lake)
    bare = DuckDBEngine(_WithoutIndex(lake))
    shown: Figures = {}
    for what, (address, bar) in NEEDLES.items():
        text = f'search in (AWSCloudTrail) "{address}"'
        runs = {
            "trailhawk": lambda text=text: engine.query(text, now=data.NOW).table,
            "without": lambda text=text: bare.query(text, now=data.NOW).table,
        }
        best, _, rows = best_of(turns, runs)
        if rows["trailhawk"] != rows["without"]:
            raise SystemExit(f"{what}: {rows['trailhawk']} rows with the index, {rows['without']} without")
        faster = best["without"] / best["trailhawk"]
        milliseconds = {name: round(seconds * 1000) for name, seconds in best.items()}
        print(f"  needle {what}: {milliseconds} ms")
        shown[what] = {
            "rows": rows["trailhawk"],
            "ms": round(best["trailhawk"] * 1000, 1),
            "without_ms": round(best["without"] * 1000, 1),
            "times_faster": round(faster, 2),
            "bar": round(bar, 2),
            "kept": faster >= bar,
        }
    root = lake.root / TABLE.name
    index = sum(path.stat().st_size for path in (root / FOLDER).iterdir())
    size = sum(file.size for file in lake.snapshot(TABLE.name).files())
    shown["index_share_of_the_lake"] = round(index / size, 4)
    return shown


class _WithoutIndex(Lake):
    """A lake beside whose files there is no index."""

    def __init__(self, lake: Lake) -> None:
        super().__init__(lake.root, [TABLE])
        self._indexes[TABLE.name]._root = lake.root / "no index here"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rows", type=int, default=1_000_000, help="about so many; the bars are for 10000000"
    )
    parser.add_argument(
        "--folder", type=Path, help="where lake and stores are kept; a temporary one unless given"
    )
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write all figures there")
    parser.add_argument("--no-others", action="store_true", help="without duckdb-kql and chdb")
    options = parser.parse_args()
    others = not options.no_others
    if others and (missing := engines.missing()):
        raise SystemExit(
            f"not installed: {' '.join(missing)}; `pip install {' '.join(missing)}`, or --no-others"
        )
    gc.set_threshold(50_000, 20, 50)  # as the command line has it
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        figures = run(folder, rows=options.rows, turns=options.turns, others=others)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


def run(folder: Path, *, rows: int, turns: int, others: bool) -> Figures:
    print(f"machine: {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start")
    lake = data.lake_of(folder, rows)
    figures: Figures = {"rows": lake.snapshot(TABLE.name).rows, "load_at_start": round(os.getloadavg()[0], 2)}
    print(f"{figures['rows']:,} rows")
    figures["compile"] = compile_times(lake, rounds=5)
    print("  compile", figures["compile"])
    figures["by_hand"], figures["others"] = hunts(lake, folder / f"lake-{rows}", turns=turns, others=others)
    figures["index"] = needles(lake, turns=min(turns, 3))
    figures["load_at_end"] = round(os.getloadavg()[0], 2)
    summary = {name: value for name, value in figures.items() if name != "by_hand"}
    by_hand = figures["by_hand"]
    if isinstance(by_hand, dict):
        summary["by_hand"] = {name: value for name, value in by_hand.items() if name != "queries"}
    print(json.dumps(summary, indent=2))
    return figures


if __name__ == "__main__":
    sys.exit(main())
