"""Playbooks: as they are read, run, approved, taken back, and taken up again after a crash."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from trailhawk.cli import run as typed
from trailhawk.detect.alert import Alert
from trailhawk.detect.entities import AWS_ACCESS_KEY, AWS_INSTANCE, AWS_PRINCIPAL, IP, Entity, entity
from trailhawk.detect.rule import Severity
from trailhawk.errors import NotFoundError, UsageError
from trailhawk.incidents.grouping import linked
from trailhawk.incidents.incident import Incident
from trailhawk.respond.containment import ACTIONS
from trailhawk.respond.outbox import State
from trailhawk.respond.playbook import KINDS, MOST_STEPS, PlaybookError, Playbooks, parse_playbook
from trailhawk.respond.playbook_runs import CLAIM, Run, RunState, StepState
from trailhawk.workspace import Workspace

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOSTILE = "{{ 7 * 7 }} '); drop table incidents; -- <script>\r\nBcc: x@example.net \u202e"
KEY = "AKIAIOSFODNN7EXAMPLE"


class Home:
    """A home whose clock stands where it is put."""

    def __init__(self, folder: Path, settings: str = "") -> None:
        folder.mkdir(exist_ok=True)
        (folder / "trailhawk.toml").write_text(settings)
        self.now = AT
        self.workspace = Workspace.open(folder, clock=lambda: self.now)
        self.folder = folder

    def raise_(self, name: str, *found: Entity, severity: Severity = Severity.HIGH) -> int:
        raised = Alert(
            id=f"id of {name}",
            rule_id="11111111-2222-3333-4444-555555555555",
            rule_name="The rule",
            at=self.now,
            started_at=self.now - timedelta(minutes=30),
            ended_at=self.now,
            name=name,
            description="",
            severity=severity,
            tactics=("Exfiltration",),
            techniques=("T1530",),
            entities=found or (entity(AWS_ACCESS_KEY, Id=KEY), entity(IP, Address="203.0.113.66")),
            custom_details=(("Bucket", ("files", "logs")),),
            properties=(),
            query="",
            rows=1,
        )
        alerts, incidents = self.workspace.alerts, self.workspace.incidents
        with alerts.engine.begin() as connection:
            alerts.record(connection, [], alerts.new_alerts(connection, [raised]))
            incidents.add(connection, [raised], [linked(raised, None, [])])
        return incidents.incidents_of([raised.id])[raised.id]

    def incident(self, number: int) -> Incident:
        return self.workspace.incidents.incident(number)

    def play(self, text: str, number: int, name: str = "mine") -> Run:
        player = self.workspace.response.player
        playbook = parse_playbook(text, name=name)
        return player.go(player.start(playbook, origin=f"test {name}", by="ana", number=number))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home", '[notify.channels.desk]\ntype = "webhook"\nurl = "http://127.0.0.1:1"\n')


# --- steps -------------------------------------------------------------------------------------------------

EVERY = """
description: All kinds of steps but those in AWS.
steps:
  - query:
      kql: |
        declare query_parameters(IP: dynamic, AwsAccessKey: dynamic, IncidentNumber: long, Start: datetime);
        print Addresses=IP, Keys=AwsAccessKey, Number=IncidentNumber, At=Start
      as: facts
      comment: true
  - comment: "{{ incident.title }} from {{ entities.IP | join(', ') }}: {{ results.facts[0].Number }}"
  - task: {title: "Ask about {{ incident.title }}", description: "{{ playbook }}"}
  - label: [seen, "rule {{ incident.rule_names[0] }}"]
  - set: {severity: Low, status: Active, owner: ana}
  - watchlist: {alias: bad-addresses, add: IP}
  - notify: {channel: desk, text: "{{ incident.title }} {{ results.facts | length }}"}
"""


def test_every_kind_of_step(home: Home) -> None:
    number = home.raise_("Key read")
    run = home.play(EVERY, number)
    assert [each.state for each in run.steps] == [StepState.DONE] * 7, [each.detail for each in run.steps]
    assert run.state is RunState.DONE
    incident = home.incident(number)
    facts, said = incident.comments
    assert "203.0.113.66" in facts.text
    assert KEY in facts.text
    assert said.text == f"Key read from 203.0.113.66: {number}"
    assert {each.by for each in incident.comments} == {"Playbook - mine"}
    assert [(each.title, each.description) for each in incident.tasks] == [("Ask about Key read", "mine")]
    assert incident.labels == ("seen", "rule The rule")
    assert (incident.severity, incident.status.value, incident.owner) == (Severity.LOW, "Active", "ana")
    rows = home.workspace.query("_GetWatchlist('bad-addresses')", now=AT).rows()
    assert [(row["SearchKey"], row["Incident"]) for row in rows] == [("203.0.113.66", str(number))]
    (notice,) = home.workspace.response.outbox.notices([State.WAITING])
    assert (notice.channel, notice.number, notice.said) == ("desk", number, "Key read 1")


def test_log_text_stays_text(home: Home) -> None:
    found = (entity(IP, Address=HOSTILE), entity(AWS_ACCESS_KEY, Id=HOSTILE))
    number = home.raise_(HOSTILE, *found)
    run = home.play(EVERY, number)
    assert run.state is RunState.DONE, [each.detail for each in run.steps]
    incident = home.incident(number)
    facts, said = incident.comments
    assert "49" not in said.text
    assert "{{ 7 * 7 }}" in said.text
    assert "drop table" in facts.text
    assert "\u202e" not in said.text
    assert "\n" not in incident.tasks[0].title
    rows = home.workspace.query("_GetWatchlist('bad-addresses')", now=AT).rows()
    assert [row["SearchKey"] for row in rows] == [HOSTILE]
    assert len(home.workspace.incidents.all()) == 1


def test_a_step_that_fails_does_not_stop_the_others(home: Home) -> None:
    number = home.raise_("Key read")
    run = home.play(
        """
steps:
  - notify: nobody
  - comment: "{{ results.nothing }}"
  - query: {kql: "Nothing | take 1", as: a}
  - watchlist: {alias: none-of-it, add: Host}
  - comment: done
""",
        number,
    )
    assert run.state is RunState.FAILED
    states = [each.state for each in run.steps]
    assert states == [*[StepState.FAILED] * 3, StepState.DONE, StepState.DONE]
    assert "no channel 'nobody'" in run.steps[0].detail
    assert "cannot be filled in" in run.steps[1].detail
    assert [each.text for each in home.incident(number).comments] == ["done"]


def test_rows_are_bounded(home: Home) -> None:
    number = home.raise_("Key read")
    text = "steps: [{query: {kql: 'range N from 1 to 5000 step 1 | extend T=strrep(\"x\", 500)', as: rows}}]"
    run = home.play(text, number)
    assert len(run.steps[0].data["rows"]) == 100
    assert run.steps[0].detail.startswith("100 rows, the first of more")
    assert len(run.steps[0].detail) <= 4_000


def test_templates_reach_nothing_but_what_they_are_given(home: Home) -> None:
    number = home.raise_("Key read")
    for template in (
        "{{ incident.__class__.__mro__ }}",
        "{{ ''.__class__ }}",
        "{{ incident.values.__globals__ }}",
        "{% for i in range(10000000) %}x{% endfor %}",
        "{{ self.__init__.__globals__ }}",
    ):
        run = home.play(
            f"steps: [{{comment: {json.dumps(template)}}}]", number, name=f"p{hash(template)}"[:60]
        )
        assert run.state is RunState.FAILED, template
    assert home.incident(number).comments == ()


def test_a_dry_run_changes_nothing(home: Home) -> None:
    number = home.raise_("Key read")
    before = home.incident(number)
    told = home.workspace.response.player.dry_run(parse_playbook(EVERY, name="mine"), number)
    assert [each.state for each in told] == [StepState.PLANNED] * 7
    assert told[1].detail == f"Key read from 203.0.113.66: {number}"
    assert home.incident(number) == before
    assert home.workspace.response.player.runs.runs() == ()
    assert home.workspace.response.outbox.notices() == ()
    with pytest.raises(NotFoundError):
        home.workspace.watchlists.watchlist("bad-addresses")


# --- crashes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", range(1, 8))
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_run_that_crashed_goes_on_and_does_nothing_twice(
    home: Home, monkeypatch: pytest.MonkeyPatch, place: int, when: str
) -> None:
    """The process ends right before or right after a step did its work, but before that is written down."""
    number = home.raise_("Key read")
    player = home.workspace.response.player
    run_id = player.start(parse_playbook(EVERY, name="mine"), origin="x", by="ana", number=number)
    real = player._done

    def dies(run: Run, step: Any, done: Any, *, again: bool) -> Any:
        if done.place == place:
            if when == "after":
                real(run, step, done, again=again)
            raise KeyboardInterrupt
        return real(run, step, done, again=again)

    monkeypatch.setattr(player, "_done", dies)
    with pytest.raises(KeyboardInterrupt):
        player.go(run_id)
    monkeypatch.setattr(player, "_done", real)
    assert player.resume() == 0  # somebody may still be at it
    home.now += CLAIM + timedelta(seconds=1)
    assert player.resume() == 1
    run = player.runs.run(run_id)
    assert run.state is RunState.DONE
    incident = home.incident(number)
    assert (len(incident.comments), len(incident.tasks), len(incident.labels)) == (2, 1, 2)
    assert len(home.workspace.response.outbox.notices()) == 1
    assert home.workspace.watchlists.watchlist("bad-addresses").items == 1
    assert player.resume() == 0


def test_one_origin_is_one_run(home: Home) -> None:
    number = home.raise_("Key read")
    assert home.play(EVERY, number).id == home.play(EVERY, number).id
    assert len(home.incident(number).comments) == 2


# --- in AWS ------------------------------------------------------------------------------------------------


@pytest.fixture
def cloud(aws_account: str) -> Any:
    import boto3

    return boto3.client("iam", endpoint_url=aws_account, region_name="eu-west-1")


def aws_home(folder: Path, server: str, more: str = "") -> Home:
    return Home(folder, f'[respond.aws]\nregion = "eu-west-1"\nendpoint_url = "{server}"\n{more}')


def status_of(cloud: Any, key: str) -> str:
    (found,) = [
        each
        for each in cloud.list_access_keys(UserName="ann")["AccessKeyMetadata"]
        if each["AccessKeyId"] == key
    ]
    return str(found["Status"])


def a_key(cloud: Any) -> str:
    cloud.create_user(UserName="ann")
    return str(cloud.create_access_key(UserName="ann")["AccessKey"]["AccessKeyId"])


KEYS = "steps: [{aws: {action: deactivate-access-key, approval: %s}}, {comment: told}]"


def test_what_is_done_in_aws_waits_for_approval_and_is_taken_back(
    tmp_path: Path, aws_server: str, cloud: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    home, key = aws_home(tmp_path / "home", aws_server), a_key(cloud)
    home.now = datetime.now(UTC)  # the clock of the shell below
    number = home.raise_("Key read", entity(AWS_ACCESS_KEY, Id=key))
    run = home.play(KEYS % "true", number)
    assert run.state is RunState.WAITING
    assert run.steps[0].state is StepState.WAITING
    assert "iam update-access-key" in run.steps[0].detail
    assert key in run.steps[0].detail
    assert status_of(cloud, key) == "Active"
    assert home.incident(number).comments == ()

    # As it is typed, in another process
    shell = ["--home", str(home.folder), "playbook"]
    assert typed([*shell, "approve", str(run.id), "--by", "ben"]) == 0
    assert status_of(cloud, key) == "Inactive"
    done = home.workspace.response.player.runs.run(run.id)
    assert (done.state, done.decided_by) == (RunState.DONE, "ben")
    assert [each.text for each in home.incident(number).comments] == ["told"]
    assert typed([*shell, "approve", str(run.id)]) == 2
    assert "does not wait: it is done" in capsys.readouterr().err

    assert typed([*shell, "undo", str(run.id)]) == 0
    assert status_of(cloud, key) == "Active"
    assert home.workspace.response.player.runs.run(run.id).state is RunState.UNDONE
    assert typed([*shell, "undo", str(run.id)]) == 2


def test_a_run_may_be_rejected(tmp_path: Path, aws_server: str, cloud: Any) -> None:
    home, key = aws_home(tmp_path / "home", aws_server), a_key(cloud)
    number = home.raise_("Key read", entity(AWS_ACCESS_KEY, Id=key))
    run = home.play(KEYS % "true", number)
    assert home.workspace.response.player.reject(run.id, by="ben").state is RunState.REJECTED
    assert status_of(cloud, key) == "Active"
    with pytest.raises(UsageError, match="does not wait"):
        home.workspace.response.player.approve(run.id, by="ben")


def test_a_run_waits_for_a_day(
    tmp_path: Path, aws_server: str, cloud: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    home, key = aws_home(tmp_path / "home", aws_server), a_key(cloud)
    number = home.raise_("Key read", entity(AWS_ACCESS_KEY, Id=key))
    run = home.play(KEYS % "true", number)
    player = home.workspace.response.player
    planned = run.steps[0].at
    assert planned
    assert player.approvable_until(run) == planned + timedelta(hours=24)
    home.now = planned + timedelta(hours=24)
    with pytest.raises(UsageError, match=f"run {run.id} could be approved until") as refused:
        player.approve(run.id, by="ben")
    assert f"playbook run {run.playbook} --incident {number}" in str(refused.value.hint)
    assert status_of(cloud, key) == "Active"
    # By the clock of today all of this is long ago.
    shell = ["--home", str(home.folder), "playbook"]
    assert typed([*shell, "approve", str(run.id)]) == 2
    assert typed([*shell, "runs", str(run.id)]) == 0
    told = capsys.readouterr()
    assert f"run {run.id} of {run.playbook}: expired" in told.out
    assert "plans it anew" in told.err
    again = home.play(KEYS % "true", number, name="again")
    home.now += timedelta(hours=23)
    assert player.approve(again.id, by="ben").state is RunState.DONE
    assert status_of(cloud, key) == "Inactive"
    assert player.approvable_until(player.runs.run(again.id)) is None
    assert player.reject(run.id, by="ben").state is RunState.REJECTED


def test_how_long_a_run_waits_is_set(tmp_path: Path, aws_server: str, cloud: Any) -> None:
    home, key = aws_home(tmp_path / "home", aws_server, "approval_hours = 2\n"), a_key(cloud)
    number = home.raise_("Key read", entity(AWS_ACCESS_KEY, Id=key))
    run = home.play(KEYS % "true", number)
    home.now += timedelta(hours=2, minutes=1)
    with pytest.raises(UsageError, match="could be approved until"):
        home.workspace.response.player.approve(run.id, by="ben")


ALLOW = 'allow_without_approval = ["deactivate-access-key"]\n'


@pytest.mark.parametrize(
    ("settings", "approval", "waits"),
    [("", "false", True), (ALLOW, "true", True), (ALLOW, "false", False)],
)
def test_both_playbook_and_settings_must_let_it_go_without(
    tmp_path: Path, aws_server: str, cloud: Any, settings: str, approval: str, waits: bool
) -> None:
    home, key = aws_home(tmp_path / "home", aws_server, settings), a_key(cloud)
    number = home.raise_("Key read", entity(AWS_ACCESS_KEY, Id=key))
    run = home.play(KEYS % approval, number)
    assert run.state is (RunState.WAITING if waits else RunState.DONE)
    assert status_of(cloud, key) == ("Active" if waits else "Inactive")


def test_what_was_approved_is_done_and_nothing_that_came_since(
    tmp_path: Path, aws_server: str, cloud: Any
) -> None:
    home, key = aws_home(tmp_path / "home", aws_server), a_key(cloud)
    number = home.raise_("Key read", entity(AWS_ACCESS_KEY, Id=key))
    run = home.play(KEYS % "true", number)
    other = str(cloud.create_access_key(UserName="ann")["AccessKey"]["AccessKeyId"])
    same = home.raise_("Again", entity(AWS_ACCESS_KEY, Id=key), entity(AWS_ACCESS_KEY, Id=other))
    assert same == number
    home.workspace.response.player.approve(run.id, by="ben")
    assert (status_of(cloud, key), status_of(cloud, other)) == ("Inactive", "Active")


def dies_after_the_call(home: Home, key: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """The id of a run whose process ended when AWS had done what it asked for, before that was written."""
    number = home.raise_("Key read", entity(AWS_ACCESS_KEY, Id=key))
    player = home.workspace.response.player
    containment = player._containment()
    real = containment.apply

    def dies(plan: Any) -> Any:
        real(plan)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(containment, "apply", dies)
        run_id = player.start(parse_playbook(KEYS % "false", name="k"), origin="x", by="ana", number=number)
        with pytest.raises(KeyboardInterrupt):
            player.go(run_id)
    return run_id


def test_a_crash_in_aws_keeps_what_puts_it_back(
    tmp_path: Path, aws_server: str, cloud: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, key = aws_home(tmp_path / "home", aws_server, ALLOW), a_key(cloud)
    run_id = dies_after_the_call(home, key, monkeypatch)
    assert status_of(cloud, key) == "Inactive"
    home.now += CLAIM + timedelta(seconds=1)
    player = home.workspace.response.player
    player.resume()
    assert player.runs.run(run_id).state is RunState.DONE
    player.undo(run_id, by="ben")
    assert status_of(cloud, key) == "Active"


TWICE = """
steps:
  - aws: {action: deactivate-access-key, approval: false}
  - aws: {action: deny-user, targets: [ann]}
"""


@pytest.mark.parametrize("writes", range(1, 4))
def test_a_crash_while_it_is_planned_leaves_it_to_wait(
    tmp_path: Path, aws_server: str, cloud: Any, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    """What waits is not passed over by the process that takes the run up again."""
    home, key = aws_home(tmp_path / "home", aws_server), a_key(cloud)
    number = home.raise_("Key read", entity(AWS_ACCESS_KEY, Id=key))
    player = home.workspace.response.player
    run_id = player.start(parse_playbook(TWICE, name="k"), origin="x", by="ana", number=number)
    left = [writes]

    def dies(name: str) -> Any:
        real = getattr(player.runs, name)

        def write(*given: Any, **named: Any) -> None:
            left[0] -= 1
            if not left[0]:
                raise KeyboardInterrupt
            real(*given, **named)

        return write

    with monkeypatch.context() as patched:
        for name in ("step", "end"):
            patched.setattr(player.runs, name, dies(name))
        with pytest.raises(KeyboardInterrupt):
            player.go(run_id)
    home.now += CLAIM + timedelta(seconds=1)
    player.resume()
    run = player.runs.run(run_id)
    assert run.state is RunState.WAITING
    assert {each.state for each in run.steps} == {StepState.WAITING}
    assert player.approve(run_id, by="ben").state is RunState.DONE
    assert status_of(cloud, key) == "Inactive"


def test_approval_that_is_asked_for_since_a_crash_keeps_what_puts_it_back(
    tmp_path: Path, aws_server: str, cloud: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, key = aws_home(tmp_path / "home", aws_server, ALLOW), a_key(cloud)
    run_id = dies_after_the_call(home, key, monkeypatch)
    home = aws_home(home.folder, aws_server)
    home.now += CLAIM + timedelta(seconds=1)
    player = home.workspace.response.player
    player.resume()
    assert player.runs.run(run_id).state is RunState.WAITING
    assert player.approve(run_id, by="ben").state is RunState.DONE
    player.undo(run_id, by="ben")
    assert status_of(cloud, key) == "Active"


def test_one_target_that_fails_does_not_stop_the_others(tmp_path: Path, aws_server: str, cloud: Any) -> None:
    home, key = aws_home(tmp_path / "home", aws_server, ALLOW), a_key(cloud)
    found = (entity(AWS_ACCESS_KEY, Id="AKIAGONEGONEGONEGONE"), entity(AWS_ACCESS_KEY, Id=key))
    number = home.raise_("Key read", *found)
    run = home.play(KEYS % "false", number)
    assert run.state is RunState.FAILED
    assert "NoSuchEntity" in run.steps[0].detail
    assert status_of(cloud, key) == "Inactive"
    home.workspace.response.player.undo(run.id, by="ben")
    assert status_of(cloud, key) == "Active"


def test_one_target_that_cannot_be_planned_does_not_stop_the_others(
    tmp_path: Path, aws_server: str, cloud: Any
) -> None:
    """Such as a role of the thief's own account; who approves sees why it is left out."""
    home, key = aws_home(tmp_path / "home", aws_server), a_key(cloud)
    found = (entity(AWS_ACCESS_KEY, Id="AKIAGONEGONEGONEGONE"), entity(AWS_ACCESS_KEY, Id=key))
    number = home.raise_("Key read", *found)
    player = home.workspace.response.player
    (told, _) = player.dry_run(parse_playbook(KEYS % "true", name="k"), number)
    assert told.state is StepState.PLANNED
    run = home.play(KEYS % "true", number)
    assert run.state is RunState.WAITING
    for detail in (told.detail, run.steps[0].detail):
        assert "NoSuchEntity" in detail
        assert key in detail
    done = player.approve(run.id, by="ben")
    assert done.steps[0].state is StepState.FAILED  # not all of it is contained
    assert "NoSuchEntity" in done.steps[0].detail
    assert status_of(cloud, key) == "Inactive"
    player.undo(run.id, by="ben")
    assert status_of(cloud, key) == "Active"


@pytest.mark.parametrize("is_ours", [False, True])
def test_what_an_automatic_step_could_not_contain_fails_it_unless_it_is_of_others(
    tmp_path: Path, aws_server: str, cloud: Any, is_ours: bool
) -> None:
    import boto3

    ec2 = boto3.client("ec2", endpoint_url=aws_server, region_name="eu-west-1")
    instance = ec2.run_instances(ImageId="ami-12c6146b", MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
    home = aws_home(tmp_path / "home", aws_server, 'allow_without_approval = ["require-imdsv2"]\n')
    whose = "123456789012" if is_ours else "999988887777"
    other = f"arn:aws:ec2:eu-west-1:{whose}:instance/i-0123456789abcdef0"
    number = home.raise_("Stolen", entity(AWS_INSTANCE, Id=other), entity(AWS_INSTANCE, Id=instance))
    run = home.play("steps: [{aws: {action: require-imdsv2, approval: false}}]", number)
    assert run.steps[0].state is (StepState.FAILED if is_ours else StepState.DONE)
    assert run.state is (RunState.FAILED if is_ours else RunState.DONE)
    assert "i-0123456789abcdef0" in run.steps[0].detail
    assert ("is not known" if is_ours else "of account 999988887777") in run.steps[0].detail

    def tokens() -> str:
        found = ec2.describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"][0]
        return str(found["MetadataOptions"]["HttpTokens"])

    assert tokens() == "required"
    home.workspace.response.player.undo(run.id, by="ben")
    assert tokens() == "optional"


def test_the_shipped_playbooks_can_be_run(tmp_path: Path, aws_server: str, cloud: Any) -> None:
    home = aws_home(tmp_path / "home", aws_server)
    cloud.create_role(RoleName="app", AssumeRolePolicyDocument="{}")
    found = (
        entity(AWS_PRINCIPAL, Arn="arn:aws:iam::123456789012:role/app"),
        entity(AWS_ACCESS_KEY, Id="ASIAIOSFODNN7EXAMPLE"),
    )
    number = home.raise_("Key read", *found)
    playbooks = home.workspace.response.playbooks
    assert set(playbooks.names()) >= {"contain-instance-role", "deactivate-keys", "close-buckets"}
    for each in playbooks.all():
        assert each.description
        told = home.workspace.response.player.dry_run(each, number)
        assert {one.state for one in told} == {StepState.PLANNED}, (each.name, told)
    player = home.workspace.response.player
    role = playbooks.playbook("contain-instance-role")
    run = player.go(player.start(role, origin="x", by="ana", number=number))
    assert run.state is RunState.WAITING
    assert player.approve(run.id, by="ben").state is RunState.DONE
    assert cloud.list_role_policies(RoleName="app")["PolicyNames"] == ["AWSRevokeOlderSessions"]
    player.undo(run.id, by="ben")
    assert cloud.list_role_policies(RoleName="app")["PolicyNames"] == []


def call(number: int, region: str, source: str = "ec2.amazonaws.com", **more: object) -> dict[str, object]:
    """A record of CloudTrail, half an hour before AT."""
    return {
        "eventVersion": "1.11",
        "eventID": f"00000000-0000-0000-0000-{number:012}",
        "eventTime": "2026-03-01T11:30:00Z",
        "eventSource": source,
        "eventName": "Anything",
        "awsRegion": region,
        "recipientAccountId": "123456789012",
        "userIdentity": {"type": "IAMUser"},
        **more,
    }


@pytest.mark.parametrize("settings", ['region = "eu-west-1"\n', ""])
def test_an_instance_is_contained_in_the_region_that_the_logs_name(
    tmp_path: Path, aws_server: str, cloud: Any, settings: str
) -> None:
    import boto3

    ec2 = boto3.client("ec2", endpoint_url=aws_server, region_name="us-west-2")
    instance = ec2.run_instances(ImageId="ami-12c6146b", MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
    home = Home(tmp_path / "home", f'[respond.aws]\nendpoint_url = "{aws_server}"\n{settings}')
    stolen = {"type": "AssumedRole", "principalId": f"AROAEXAMPLE:{instance}"}
    records = [
        *(call(place, "ap-southeast-1", "s3.amazonaws.com", userIdentity=stolen) for place in range(9)),
        call(
            20, "sa-east-1", errorCode="Client.InvalidInstanceID.NotFound", requestParameters={"i": instance}
        ),
        call(30, "us-west-2", responseElements={"instancesSet": {"items": [{"instanceId": instance}]}}),
        call(
            40, "us-west-1", requestParameters={"resourcesSet": {"items": [{"resourceId": "i-0aaaaaaaaaa"}]}}
        ),
    ]
    logs = tmp_path / "logs.json"
    logs.write_text(json.dumps({"Records": records}))
    home.workspace.ingest([logs], lambda _: None)
    number = home.raise_("Stolen", entity(AWS_INSTANCE, Id=instance))
    player = home.workspace.response.player
    (told,) = player.dry_run(parse_playbook(IMDS, name="k"), number)
    assert told.state is StepState.PLANNED
    assert f"{instance} in 123456789012, us-west-2:\nec2 modify-instance" in told.detail
    run = home.play(IMDS, number)
    assert player.approve(run.id, by="ben").state is RunState.DONE

    def tokens() -> str:
        found = ec2.describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"][0]
        return str(found["MetadataOptions"]["HttpTokens"])

    assert tokens() == "required"
    player.undo(run.id, by="ben")
    assert tokens() == "optional"


IMDS = "steps: [{aws: {action: require-imdsv2}}]"


def test_an_instance_whose_region_is_not_known_is_left_alone(
    tmp_path: Path, aws_server: str, cloud: Any
) -> None:
    home = Home(tmp_path / "home", f'[respond.aws]\nendpoint_url = "{aws_server}"\n')
    number = home.raise_("Stolen", entity(AWS_INSTANCE, Id="i-0123456789abcdef0"))
    run = home.play(IMDS, number)
    assert run.state is RunState.FAILED
    assert "region of i-0123456789abcdef0 is not known: the logs do not tell" in run.steps[0].detail


def test_who_approves_sees_every_call(tmp_path: Path, aws_server: str, cloud: Any) -> None:
    home = aws_home(tmp_path / "home", aws_server)
    names = [f"a-role-with-a-rather-long-name-{place:02}" for place in range(20)]
    for name in names:
        cloud.create_role(RoleName=name, AssumeRolePolicyDocument="{}")
    found = [entity(AWS_PRINCIPAL, Arn=f"arn:aws:iam::123456789012:role/{name}") for name in names]
    number = home.raise_("Stolen", *found)
    run = home.play("steps: [{aws: {action: revoke-role-sessions}}]", number)
    assert run.state is RunState.WAITING
    assert [name for name in names if f'"RoleName": "{name}"' not in run.steps[0].detail] == []


def test_a_run_that_cannot_go_on_keeps_no_other_waiting(home: Home) -> None:
    """Its kept text may be of an older version that had other steps."""
    number = home.raise_("Key read")
    player = home.workspace.response.player
    playbook = parse_playbook("steps: [{comment: a}]", name="old")
    old = player.start(replace(playbook, source="steps: [{shell: rm}]"), origin="o", by="ana", number=number)
    new = player.start(playbook, origin="n", by="ana", number=number)
    assert player.resume() == 2
    assert player.runs.run(old).state is RunState.FAILED
    assert "unknown field `shell`" in player.runs.run(old).steps[0].detail
    assert player.runs.run(new).state is RunState.DONE
    assert player.resume() == 0


# --- files -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("steps: []", "0 steps"),
        ("steps: [{}]", "step 1: has nothing"),
        ("steps: [{comment: a, task: b}]", "step 1: has comment and task"),
        ("steps: [{shell: rm}]", "unknown field `shell`"),
        ("steps: [{comment: 5}]", r"\$\.steps\[0\]\.comment"),
        ("steps: [{comment: '{{ oops'}]", "step 1: no template"),
        ("steps: [{query: {kql: 'T | where'}}]", "step 1: syntax"),
        ("steps: [{query: {kql: 'print 1', as: a}}, {query: {kql: 'print 2', as: a}}]", "under one name"),
        ("steps: [{set: {}}]", "sets nothing"),
        ("steps: [{set: {severity: Grave}}]", "'Grave' is no severity"),
        ("steps: [{set: {status: Closed}}]", "closed with a classification"),
        ("steps: [{watchlist: {alias: 'a b', add: IP}}]", "no alias"),
        ("steps: [{aws: {action: delete-account}}]", "'delete-account' is no action"),
        ("steps: [{aws: {action: deny-user, targets: ['a b']}}]", "'a b' is none of users"),
        ("steps: {a: b", "no YAML"),
        ("name: ../x\nsteps: [{comment: a}]", "is no name"),
        (f"steps: [{', '.join(['{comment: a}'] * (MOST_STEPS + 1))}]", "51 steps"),
    ],
)
def test_what_is_wrong_with_a_file_is_told(text: str, said: str) -> None:
    with pytest.raises(PlaybookError, match=said):
        parse_playbook(text, name="mine")


def test_a_playbook_of_the_home_replaces_one_of_the_package(tmp_path: Path) -> None:
    (tmp_path / "deactivate-keys.yaml").write_text("description: mine\nsteps: [{comment: a}]")
    found = Playbooks(tmp_path)
    assert found.playbook("Deactivate-Keys").description == "mine"
    with pytest.raises(NotFoundError, match="deactivate-keys"):
        found.playbook("nothing")


@pytest.mark.parametrize(
    "content",
    [
        b"steps: [{shell: rm}]",
        b"\xff\xfe\xff",
        b"steps: [{comment: '" + b"{% for i in [1] %}" * 30 + b"{% endfor %}" * 30 + b"'}]",
    ],
)
def test_one_wrong_file_leaves_the_others_in_the_list(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    folder = tmp_path / "playbooks"
    folder.mkdir()
    (folder / "broken.yaml").write_bytes(content)
    assert typed(["--home", str(tmp_path), "playbook", "list"]) == 0
    shown = capsys.readouterr()
    assert "deactivate-keys" in shown.out
    assert "broken" in shown.err
    with pytest.raises(PlaybookError, match="broken"):
        Playbooks(folder).all()
    assert Playbooks(folder).playbook("close-buckets").steps


def test_the_list_waits_for_no_client_of_aws_and_no_lake(tmp_path: Path) -> None:
    script = (
        "import sys; from trailhawk.cli import run; run(['--home', sys.argv[1], 'playbook', 'list']);"
        "sys.exit(bool({'boto3', 'botocore', 'deltalake', 'pyarrow', 'numpy'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, capture_output=True)


def test_commands(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    number = home.raise_("Key read")
    folder = home.folder / "playbooks"
    folder.mkdir()
    (folder / "mine.yaml").write_text(EVERY)
    shell = ["--home", str(home.folder), "playbook"]
    assert typed([*shell, "list"]) == 0
    assert "mine" in capsys.readouterr().out
    assert typed([*shell, "show", "mine"]) == 0
    assert capsys.readouterr().out.strip() == EVERY.strip()
    assert typed([*shell, "run", "mine", "--incident", str(number), "--dry-run"]) == 0
    assert "Key read from 203.0.113.66" in capsys.readouterr().out
    assert typed([*shell, "run", "mine", "--incident", str(number), "--format", "json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert (made["state"], len(made["steps"])) == ("done", 7)
    assert typed([*shell, "runs", "--format", "json"]) == 0
    assert [each["id"] for each in json.loads(capsys.readouterr().out)] == [made["id"]]
    assert typed([*shell, "runs", str(made["id"])]) == 0
    assert "7. notify: done" in capsys.readouterr().out
    assert typed([*shell, "permissions", "contain-instance-role"]) == 0
    rights = {right for one in json.loads(capsys.readouterr().out)["Statement"] for right in one["Action"]}
    wanted = {
        right
        for name in ("revoke-role-sessions", "require-imdsv2")
        for rights_of, _ in ACTIONS[name].rights
        for right in rights_of
    }
    assert rights == wanted | {"sts:GetCallerIdentity"}
    assert typed([*shell, "run", "nothing", "--incident", "1"]) == 1
    assert set(KINDS.values()) == {
        "query",
        "notify",
        "comment",
        "task",
        "label",
        "set",
        "watchlist",
        "aws",
    }
