"""The variants of the simulated attacks through the whole road, each with the outcome that its truth states.

Small: three days of few events, the last of them watched, by the rules that look at such things; all rules
run where nobody attacks. `make test` takes two of them. TRAILHAWK_VARIANTS=all takes every variant and all
rules; bench/variants.py is the whole.
"""

from __future__ import annotations

import os
import random
import shutil
from datetime import UTC, datetime, time
from pathlib import Path
from types import ModuleType
from typing import Any

import orjson
import pytest

from support.programs import program
from trailhawk.simulate.run import simulate
from trailhawk.simulate.techniques import SCENARIOS
from trailhawk.workspace import Workspace

DAYS, RATE, FLOWS, SEED = 3, 300, 20, 7
ALL_RULES = os.environ.get("TRAILHAWK_VARIANTS") == "all"
NEAR = (
    "cloudtrail/",
    "proxy/",
    "findings/",
    "data/bucket-read",
    "data/bucket-transfer",
    "access/calls-refused",
    "access/function-or-task",
)
"""Where the rules lie that look at stolen credentials, proxies, findings and reads of buckets."""
LIKE_THE_ORDINARY = ("plain", "from-aws", "forged", "hidden")
"""What differs in them from others is nothing to a rule's logic, or is tested elsewhere."""
FEW = ("V2", "F1")
"""Variants that `make test` takes."""


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    return program("bench/variants.py")


def simulated(folder: Path, scenario: str, variant: str, bench: ModuleType) -> Any:
    """The truth of a variant whose logs are then in `folder`."""
    made = simulate(
        scenario,
        folder,
        variant=variant,
        seed=SEED,
        days=DAYS,
        events_per_day=RATE,
        flows_per_day=FLOWS,
        end=bench.LAST_DAY,
    )
    return orjson.loads(made.truth.read_bytes())


def watch(workspace: Workspace, bench: ModuleType, *, everything: bool = False) -> None:
    """Run the rules over the last day; none may fail."""
    rules = [
        rule
        for rule in workspace.content.rules()
        if everything or ALL_RULES or any(part in Path(rule.source).as_posix() for part in NEAR)
    ]
    last_day = datetime.combine(bench.LAST_DAY, time(), UTC)
    found = workspace.detect(rules, start=last_day)
    assert [rule.error for rule in found.rules if rule.error] == []


@pytest.mark.parametrize(
    ("scenario", "variant"),
    [
        pytest.param(
            scenario.name,
            variant.name,
            id=variant.number,
            marks=[
                pytest.mark.skipif(
                    variant.name in LIKE_THE_ORDINARY and not ALL_RULES,
                    reason="TRAILHAWK_VARIANTS=all takes it",
                ),
                *([] if variant.number in FEW else [pytest.mark.long]),
            ],
        )
        for scenario in SCENARIOS
        for variant in scenario.variants
        if variant.name != "look-alikes"
    ],
)
def test_outcome_is_the_one_stated(scenario: str, variant: str, tmp_path: Path, bench: ModuleType) -> None:
    truth = simulated(tmp_path / "sim", scenario, variant, bench)
    workspace = Workspace.open(tmp_path / "home", clock=lambda: bench.NOW)
    workspace.ingest([tmp_path / "sim" / "logs"], lambda _: None)
    watch(workspace, bench)
    verdict = bench.judge(workspace, truth)
    assert verdict.wrong == ()
    if variant == "denied":
        story = " ".join(verdict.report.story)
        assert "Nothing left" in story
        assert "AccessDenied x" in story
        assert verdict.report.manifest.objects == 0
    if variant == "large-objects":
        assert len(truth["expected"]["objects"]) < sum(one["reads"] for one in truth["expected"]["objects"])


@pytest.mark.long
def test_silence_over_what_resembles_an_attack(tmp_path: Path, bench: ModuleType) -> None:
    """Files in disorder, repeated, some of them late enough to come after the rules have run."""
    truth = simulated(tmp_path / "sim", "cloud-breach-s3", "look-alikes", bench)
    assert truth["counts"]["duplicate_files"] > 0
    assert truth["counts"]["latest_minutes"] > 30
    assert {"nightly_backup", "analyst_sync", "last_day_move", "several_keys_at_once"} <= {
        one["name"] for one in truth["look_alikes"]
    }
    logs = tmp_path / "sim" / "logs"
    files = sorted(path for path in logs.rglob("*") if path.is_file() and not path.name.startswith("."))
    chance = random.Random(SEED)
    late = {path for path in files if "/CloudTrail/" in path.as_posix() and chance.random() < 0.1}
    early = [path for path in files if path not in late]
    chance.shuffle(early)
    workspace = Workspace.open(tmp_path / "home", clock=lambda: bench.NOW)
    workspace.ingest(early, lambda _: None)
    watch(workspace, bench)
    workspace.ingest(sorted(late), lambda _: None)
    again = tmp_path / "again"
    again.mkdir()
    for path in early[:20]:
        shutil.copy(path, again / f"{path.parent.name}-{path.name}")
    assert workspace.ingest([again], lambda _: None).rows == 0
    watch(workspace, bench, everything=True)
    verdict = bench.judge(workspace, truth)
    assert verdict.wrong == ()
    assert verdict.grave == ()
