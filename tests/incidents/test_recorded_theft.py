"""A recorded campaign (55 files, 55 minutes): the theft of an instance session is one incident."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from trailhawk.detect.rule import Severity
from trailhawk.workspace import Workspace

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "invictus_stratus"

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the recorded logs are not beside this checkout")


def test_the_theft_is_one_incident_with_exactly_its_two_events(tmp_path: Path) -> None:
    truth = json.loads((DATA / "ground_truth.json").read_text())["instance_credential_theft"]
    workspace = Workspace(tmp_path, clock=lambda: datetime(2023, 7, 11, tzinfo=UTC))
    workspace.ingest([DATA / "CloudTrail"], lambda _: None)
    summary = workspace.detect(workspace.content.rules())
    assert [rule.failed for rule in summary.rules] == [0] * len(summary.rules)

    before = workspace.incidents.all()
    # The same account saw many other attacks of the exercise; each rests on its own credentials.
    (incident,) = (each for each in before if truth["instance"] in each.title)
    assert incident.severity is Severity.HIGH
    assert truth["role"] in incident.title

    report = workspace.report(incident.number)
    assert {event.event_id for event in report.timeline} == {event["eventID"] for event in truth["events"]}
    assert truth["instance_public_ip"] not in {event.address for event in report.timeline}
    issued = [issue.key for issue in report.lineage.issues if issue.instance == truth["instance"]]
    assert truth["events"][0]["accessKeyId"] in issued
    assert len(issued) == 2
    keys = {entity.value for entity in report.entities if entity.type == "AwsAccessKey"}
    assert keys == set(issued)

    again = workspace.detect(workspace.content.rules())
    assert again.alerts == ()
    assert workspace.incidents.all() == before
