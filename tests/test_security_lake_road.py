"""An attack that Security Lake's Parquet alone tells: rules fire, and the trail brings nothing new."""

import datetime as dt
from pathlib import Path

import pytest

from support.programs import program
from trailhawk.simulate.run import simulate
from trailhawk.workspace import Workspace

LAST = dt.date(2026, 3, 18)
NOW = dt.datetime(2026, 3, 19, tzinfo=dt.UTC)
FIRING = {
    "bucket-found-and-copied-with-instance-role.yaml",
    "caller-asks-who-it-is.yaml",
    "instance-session-by-hand-from-new-address.yaml",
    "metadata-version-one-used.yaml",
}


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("lake") / "sim"
    simulate("cloud-breach-s3", out, seed=7, days=3, events_per_day=300, flows_per_day=60, end=LAST)
    return out / "logs"


@pytest.mark.parametrize("version", [1, 2])
def test_rules_fire_on_security_lake_alone(logs: Path, tmp_path: Path, version: int) -> None:
    program("bench/security_lake.py").write(logs, tmp_path / "parquet", version)
    workspace = Workspace.open(tmp_path / "home", clock=lambda: NOW)
    lake = workspace.ingest([tmp_path / "parquet"], lambda _: None)
    assert (lake.quarantined, lake.rows > 900) == (0, True)
    rules = [rule for rule in workspace.content.rules(()) if Path(rule.source).name in FIRING]
    assert len(rules) == len(FIRING)
    start = dt.datetime.combine(LAST, dt.time(), dt.UTC)
    found = workspace.detect(rules, start=start, end=start + dt.timedelta(days=1))
    assert {alert.rule_id for alert in found.alerts} == {rule.id for rule in rules}
    # The trail's own files: events that are there already, as far as the format kept them.
    trails = [path for path in logs.glob("AWSLogs/*/CloudTrail") if path.is_dir()]
    direct = workspace.ingest(trails, lambda _: None)
    assert direct.records > 900
    assert direct.duplicates == direct.records if version == 2 else direct.duplicates > 0
