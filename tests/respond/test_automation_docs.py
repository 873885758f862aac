"""docs/automation.md: its examples load and run, and it names what there is."""

from __future__ import annotations

import re
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from trailhawk.detect.alert import Alert
from trailhawk.detect.entities import AWS_ACCESS_KEY, IP, entity
from trailhawk.detect.rule import Severity
from trailhawk.incidents.grouping import linked
from trailhawk.respond.automation import ENTITY_PROPERTIES, Operator
from trailhawk.respond.containment import ACTIONS, ResponseSettings
from trailhawk.respond.playbook import KINDS, parse_playbook
from trailhawk.respond.playbook_runs import RunState, StepState
from trailhawk.settings import Section
from trailhawk.workspace import Workspace

PAGE = (Path(__file__).parents[2] / "docs" / "automation.md").read_text()
AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.+?)```", PAGE, re.DOTALL)


def raised(workspace: Workspace) -> int:
    alert = Alert(
        id="one",
        rule_id="r",
        rule_name="The rule",
        at=AT,
        started_at=AT - timedelta(minutes=30),
        ended_at=AT,
        name="Key read",
        description="",
        severity=Severity.MEDIUM,
        tactics=("Exfiltration",),
        techniques=(),
        entities=(entity(AWS_ACCESS_KEY, Id="AKIAIOSFODNN7EXAMPLE"), entity(IP, Address="203.0.113.66")),
        custom_details=(),
        properties=(),
        query="",
        rows=1,
    )
    with workspace.alerts.engine.begin() as connection:
        workspace.alerts.record(connection, [], [alert])
        workspace.incidents.add(connection, [alert], [linked(alert, None, [])])
    return workspace.incidents.incidents_of(["one"])["one"]


def test_the_rule_and_the_playbook_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rule, playbook = blocks("yaml")
    (tmp_path / "automation").mkdir()
    (tmp_path / "automation" / "stolen-key.yaml").write_text(rule)
    (tmp_path / "playbooks").mkdir()
    # The page's playbook stands in for the one that the rule names: nothing here may reach AWS.
    without_aws = "\n".join(line for line in playbook.splitlines() if "aws:" not in line)
    (tmp_path / "playbooks" / "deactivate-keys.yaml").write_text(without_aws)
    (tmp_path / "trailhawk.toml").write_text(
        '[notify.channels.desk]\ntype = "webhook"\nurl = "https://hooks.example.com"\n'
    )
    workspace = Workspace.open(tmp_path, clock=lambda: AT)
    automator = workspace.response.automator(fault=lambda error: pytest.fail(str(error)))
    automator.begin()
    number = raised(workspace)
    (run,) = workspace.response.run_automation(automator)
    assert not run.error
    incident = workspace.incidents.incident(number)
    assert (incident.severity, incident.owner) == (Severity.HIGH, "ana")
    assert incident.labels == ("stolen-key", f"key-{number}")
    assert [each.title for each in incident.tasks] == [
        "Ask the owner of the key",
        "Ask who kept AKIAIOSFODNN7EXAMPLE",
    ]
    (played,) = workspace.response.player.runs.runs()
    assert played.state is RunState.DONE
    assert {each.state for each in played.steps} == {StepState.DONE}
    (query,) = blocks("kql")
    assert workspace.query(query, now=AT).rows()


def test_the_playbook_of_the_page_is_whole() -> None:
    _, playbook = blocks("yaml")
    kinds = {KINDS[type(step)] for step in parse_playbook(playbook, name="mine").steps}
    assert kinds == set(KINDS.values())


def test_the_settings_of_the_page_load_and_each_key_is_named() -> None:
    (text,) = blocks("toml")
    section = Section(Path("trailhawk.toml"), "respond.aws", tomllib.loads(text)["respond"]["aws"])
    found = ResponseSettings.read(section)
    assert found.allow_without_approval == {"deactivate-access-key"}
    assert [key for key in section._known if f"`{key}`" not in PAGE] == []


def test_the_page_names_what_there_is() -> None:
    named = [
        *ACTIONS,
        *(name for name in ENTITY_PROPERTIES if name.startswith("Aws")),
        *(each.value for each in Operator if not each.value.startswith("Not")),
        *KINDS.values(),
    ]
    assert [name for name in named if f"`{name}`" not in PAGE] == []
