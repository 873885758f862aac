"""Automation rules: as they are read, when they hold, what they do, each once, and never in a circle."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from trailhawk.cli import run as typed
from trailhawk.detect.alert import Alert
from trailhawk.detect.entities import AWS_ACCESS_KEY, AWS_BUCKET, IP, entity
from trailhawk.detect.rule import Severity
from trailhawk.incidents.grouping import linked
from trailhawk.incidents.incident import Classification, Closing, Incident, Status, assemble
from trailhawk.respond.automation import (
    ENTITY_PROPERTIES,
    MOST_ACTIONS,
    MOST_CONDITIONS,
    Operator,
    Rule,
    Trigger,
    View,
    matches,
)
from trailhawk.respond.automation_file import AutomationError, load_rules, parse_rules
from trailhawk.respond.automation_runs import CLAIM, Run, State
from trailhawk.respond.automator import MOST_CHAIN, Automator
from trailhawk.respond.playbook_runs import RunState
from trailhawk.workspace import Workspace

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
RULE_ID = "11111111-2222-3333-4444-555555555555"


def an_alert(name: str, *, key: str = "AKIAIOSFODNN7EXAMPLE", at: datetime = AT) -> Alert:
    return Alert(
        id=f"id of {name}",
        rule_id=RULE_ID,
        rule_name="Stolen key",
        at=at,
        started_at=at - timedelta(minutes=30),
        ended_at=at,
        name=name,
        description="Somebody reads.",
        severity=Severity.MEDIUM,
        tactics=("Exfiltration", "Collection"),
        techniques=("T1530",),
        entities=(
            entity(AWS_ACCESS_KEY, Id=key),
            entity(IP, Address="203.0.113.66"),
            entity(AWS_BUCKET, Name="Files"),
        ),
        custom_details=(("Bucket", ("files", "logs")), ("Client", ("curl",))),
        properties=(),
        query="",
        rows=1,
    )


class Home:
    """A home with rules, whose clock stands where it is put."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = AT
        self.workspace = Workspace.open(folder, clock=lambda: self.now)
        self.incidents = self.workspace.incidents
        self.faults: list[str] = []

    def write(self, name: str, rule: object, *, folder: str = "automation") -> Path:
        path = self.folder / folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(rule) if not isinstance(rule, str) else rule)
        return path

    def automator(self, **settings: Any) -> Automator:
        made = self.workspace.response.automator(fault=lambda error: self.faults.append(str(error)))
        for name, value in settings.items():
            setattr(made, f"_{name}", value)
        return made

    def raise_(self, name: str, **more: Any) -> int:
        raised = an_alert(name, at=self.now, **more)
        with self.workspace.alerts.engine.begin() as connection:
            alerts = self.workspace.alerts
            alerts.record(connection, [], alerts.new_alerts(connection, [raised]))
            self.incidents.add(connection, [raised], [linked(raised, None, [])])
        return self.incidents.incidents_of([raised.id])[raised.id]

    def work(self) -> list[Run]:
        return self.workspace.response.run_automation(self.automator())

    def incident(self, number: int) -> Incident:
        return self.incidents.incident(number)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def condition(name: str, operator: str, *values: str) -> dict[str, Any]:
    inside = {"propertyName": name, "operator": operator, "propertyValues": list(values)}
    return {"conditionType": "Property", "conditionProperties": inside}


def rule(
    name: str = "mine",
    *conditions: object,
    when: str = "Created",
    on: str = "Incidents",
    order: int = 1,
    actions: object = None,
    **configuration: object,
) -> dict[str, Any]:
    usual = [{"order": 1, "actionType": "ModifyProperties", "actionConfiguration": configuration}]
    return {
        "displayName": name,
        "order": order,
        "triggeringLogic": {
            "isEnabled": True,
            "triggersOn": on,
            "triggersWhen": when,
            "conditions": list(conditions),
        },
        "actions": actions or usual,
    }


def read(document: object) -> Rule:
    return parse_rules(json.dumps(document).encode(), source="rule.json")[0]


def view(**more: Any) -> View:
    alert = an_alert("Key read")
    incident = replace(assemble(1, [alert]), labels=("red", "Blue"), **more)
    return View(incident, None, lambda _: (alert,))


# --- conditions --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "operator", "values", "holds"),
    [
        ("IncidentTitle", "Equals", ["key READ"], True),
        ("IncidentTitle", "NotEquals", ["key read"], False),
        ("IncidentTitle", "Contains", ["nothing", "y r"], True),
        ("IncidentTitle", "NotContains", ["nothing", "y r"], False),
        ("IncidentTitle", "StartsWith", ["KEY"], True),
        ("IncidentTitle", "NotStartsWith", ["read"], True),
        ("IncidentTitle", "EndsWith", ["read"], True),
        ("IncidentTitle", "NotEndsWith", ["read"], False),
        ("IncidentDescription", "Contains", ["somebody"], True),
        ("IncidentSeverity", "Equals", ["High", "Medium"], True),
        ("IncidentStatus", "Equals", ["New"], True),
        ("IncidentTactics", "Contains", ["exfiltration"], True),
        ("IncidentTactics", "NotContains", ["exfiltration"], False),
        ("IncidentLabel", "Equals", ["blue"], True),
        ("IncidentLabel", "NotEquals", ["green"], True),
        ("IncidentProviderName", "Equals", ["trailhawk"], True),
        ("IncidentRelatedAnalyticRuleIds", "Equals", [RULE_ID.upper()], True),
        ("IncidentRelatedAnalyticRuleIds", "Equals", [f"/subscriptions/x/alertRules/{RULE_ID}"], True),
        ("IncidentRelatedAnalyticRuleIds", "Equals", ["stolen key"], True),
        ("IncidentRelatedAnalyticRuleIds", "NotEquals", ["another"], True),
        ("IncidentCustomDetailsKey", "Equals", ["bucket"], True),
        ("IncidentCustomDetailsValue", "Contains", ["log"], True),
        ("IPAddress", "StartsWith", ["203.0.113."], True),
        ("IPAddress", "Equals", ["198.51.100.1"], False),
        ("AwsAccessKeyId", "StartsWith", ["akia"], True),
        ("AwsBucketName", "Equals", ["files"], True),
        ("AwsInstanceId", "Equals", ["i-1"], False),
        ("AwsInstanceId", "NotEquals", ["i-1"], True),
        ("AccountName", "Contains", [""], False),
    ],
)
def test_properties(name: str, operator: str, values: list[str], holds: bool) -> None:
    found = read(rule("r", condition(name, operator, *values), severity="High"))
    assert found.holds(view()) is holds


@pytest.mark.parametrize("operator", Operator)
def test_a_negation_is_the_contrary(operator: Operator) -> None:
    name = operator.value
    other = Operator(name.removeprefix("Not") if name.startswith("Not") else f"Not{name}")
    for found in ([], ["a"], ["a", "b"], ["xay"]):
        for wanted in (["a"], ["b", "c"], ["z"]):
            assert matches(found, operator, wanted) is not matches(found, other, wanted)


def test_and_or_and_lists() -> None:
    def boolean(operator: str, *inner: object) -> dict[str, Any]:
        inside = {"operator": operator, "innerConditions": list(inner)}
        return {"conditionType": "Boolean", "conditionProperties": inside}

    def array(kind: str, which: str, *items: object) -> dict[str, Any]:
        inside = {"arrayType": kind, "arrayConditionType": which, "itemConditions": list(items)}
        return {"conditionType": "PropertyArray", "conditionProperties": inside}

    yes, no = (
        condition("IncidentSeverity", "Equals", "Medium"),
        condition("IncidentStatus", "Equals", "Closed"),
    )
    key = condition("IncidentCustomDetailsKey", "Equals", "Bucket")
    curl = condition("IncidentCustomDetailsValue", "Equals", "curl")
    logs = condition("IncidentCustomDetailsValue", "Equals", "logs")
    for wanted, holds in (
        (boolean("And", yes, yes), True),
        (boolean("And", yes, no), False),
        (boolean("Or", no, yes), True),
        (boolean("Or", no, boolean("And", yes, boolean("Or", no, no))), False),
        (array("CustomDetails", "AnyItem", key, array("CustomDetailValues", "AnyItem", logs)), True),
        (array("CustomDetails", "AnyItem", key, array("CustomDetailValues", "AnyItem", curl)), False),
        (array("CustomDetails", "AnyItem", key, array("CustomDetailValues", "AllItems", logs)), False),
        (array("IncidentLabels", "AnyItem", condition("IncidentLabel", "Equals", "red")), True),
        (array("IncidentLabels", "AnyItem", condition("IncidentLabel", "NotEquals", "red")), True),
        (array("IncidentLabels", "AllItems", condition("IncidentLabel", "NotEquals", "red")), False),
    ):
        assert read(rule("r", wanted, severity="High")).holds(view()) is holds, wanted


def changed(name: str, end: str = "", *values: str) -> dict[str, Any]:
    inside = {"propertyName": name, "changeType": end or None, "propertyValues": list(values) or None}
    return {"conditionType": "PropertyChanged", "conditionProperties": inside}


def added(kind: str) -> dict[str, Any]:
    return {
        "conditionType": "PropertyArrayChanged",
        "conditionProperties": {"arrayType": kind, "changeType": "Added"},
    }


@pytest.mark.parametrize(
    ("wanted", "holds"),
    [
        (changed("IncidentSeverity"), "severity"),
        (changed("IncidentSeverity", "ChangedFrom", "Medium"), "severity"),
        (changed("IncidentSeverity", "ChangedFrom", "Low"), ""),
        (changed("IncidentSeverity", "ChangedTo", "high"), "severity"),
        (changed("IncidentOwner", "ChangedTo", "ana"), "owner"),
        (changed("IncidentStatus", "ChangedTo", "Closed"), "status"),
        (added("Labels"), "label"),
        (added("Comments"), "comment"),
        (added("Alerts"), "alert"),
        (condition("IncidentUpdatedBySource", "Equals", "AlertGrouping"), "alert"),
        (condition("IncidentUpdatedBySource", "Equals", "User"), "severity owner status label comment"),
    ],
)
def test_what_an_update_changed(home: Home, wanted: object, holds: str) -> None:
    home.write("r.json", rule("watches", wanted, when="Updated", labels=[{"labelName": "seen"}]))
    home.automator().begin()
    number = home.raise_("Key read")
    assert home.work() == []
    by: dict[str, Any] = {"by": "ben", "now": AT}
    store = home.incidents
    occasions: dict[str, Callable[[], object]] = {
        "severity": lambda: store.set(number, severity=Severity.HIGH, **by),
        "owner": lambda: store.set(number, owner="ana", **by),
        "label": lambda: store.set(number, add_labels=["x"], **by),
        "comment": lambda: store.comment(number, "said", **by),
        "task": lambda: store.add_task(number, "do", **by),
        "title": lambda: store.set(number, title="another", **by),
        "alert": lambda: home.raise_("Again"),
        "status": lambda: store.close(number, Closing.of(Classification.TRUE_POSITIVE), **by),
    }
    ran = []
    for name, happens in occasions.items():
        happens()
        if home.work():
            ran.append(name)
    assert sorted(ran) == sorted(holds.split())


# --- what they do ------------------------------------------------------------------------------------------


def test_actions_in_order_and_who_did_it(home: Home) -> None:
    actions = [
        {"order": 2, "actionType": "AddIncidentTask", "actionConfiguration": {"title": "Ask the owner"}},
        {
            "order": 1,
            "actionType": "ModifyProperties",
            "actionConfiguration": {
                "severity": "High",
                "status": "Active",
                "owner": {"objectId": None, "assignedTo": None, "userPrincipalName": "ana@example.com"},
                "labels": [{"labelName": "auto"}],
            },
        },
        {
            "order": 3,
            "actionType": "ModifyProperties",
            "actionConfiguration": {
                "status": "Closed",
                "classification": "BenignPositive",
                "classificationReason": "SuspiciousButExpected",
                "classificationComment": "known",
            },
        },
    ]
    home.write("r.json", rule("all of it", actions=actions))
    home.automator().begin()
    number = home.raise_("Key read")
    (run,) = home.work()
    assert (run.state, run.rule, run.number) == (State.DONE, "all of it", number)
    assert [each.action.split()[0] for each in run.steps] == ["set", "add", "set"]
    incident = home.incident(number)
    assert (incident.severity, incident.status) == (Severity.HIGH, Status.CLOSED)
    assert (incident.owner, incident.labels) == ("ana@example.com", ("auto",))
    assert incident.closing == Closing.of(Classification.BENIGN_POSITIVE, None, "known")
    assert [(each.title, each.by) for each in incident.tasks] == [
        ("Ask the owner", "Automation rule - all of it")
    ]
    rows = home.workspace.query(
        'SecurityIncident | where ModifiedBy contains "Automation" | summarize count() by ModifiedBy', now=AT
    ).rows()
    assert rows == [{"ModifiedBy": "Automation rule - all of it", "count_": 3}]
    health = home.workspace.query(
        "SentinelHealth | project OperationName, SentinelResourceName, Status, SentinelResourceType", now=AT
    ).rows()
    assert [tuple(row.values()) for row in health] == [
        ("Automation rule run", "all of it", "Success", "Automation rule")
    ]
    assert home.work() == []


def test_later_rules_see_what_earlier_ones_left(home: Home) -> None:
    high = condition("IncidentSeverity", "Equals", "High")
    home.write("a.json", rule("second", high, order=2, labels=[{"labelName": "second saw high"}]))
    home.write("b.json", rule("first", order=1, severity="High"))
    home.write("c.json", rule("zeroth", high, order=0, labels=[{"labelName": "zeroth saw high"}]))
    home.automator().begin()
    number = home.raise_("Key read")
    assert [run.rule for run in home.work()] == ["first", "second"]
    assert home.incident(number).labels == ("second saw high",)


def test_rules_that_are_off_or_past_or_of_another_time(home: Home) -> None:
    off, past, later = (
        rule("off", severity="High"),
        rule("past", severity="High"),
        rule("later", severity="Low"),
    )
    off["triggeringLogic"]["isEnabled"] = False
    past["triggeringLogic"]["expirationTimeUtc"] = "2026-03-01T12:00:00Z"
    later["triggeringLogic"]["expirationTimeUtc"] = "2026-03-01T12:00:01"
    for place, each in enumerate((off, past, later)):
        home.write(f"{place}.json", each)
    home.raise_("Before there was a rule", key="AKIAAAAAAAAAAAAAAAAA")
    home.automator().begin()
    home.raise_("Key read")
    assert [run.rule for run in home.work()] == ["later"]


def test_a_home_that_was_empty_when_the_rules_came(home: Home) -> None:
    home.write("r.json", rule("mine", severity="High"))
    home.automator().begin()
    number = home.raise_("Key read")
    home.automator().begin()  # the process starts anew
    assert [run.number for run in home.work()] == [number]


def test_the_one_process_runs_them(home: Home) -> None:
    import threading

    from trailhawk.run import jobs

    home.write("r.json", rule("mine", severity="High"))
    home.write("broken.yaml", "displayName: [")
    told: list[str] = []
    (job,) = [
        each
        for each in jobs(home.workspace, tell=lambda event: told.append(event.message), status_seconds=60)
        if each.name == "automation"
    ]
    number = home.raise_("Key read")
    stop = threading.Event()
    thread = threading.Thread(target=job.work, args=(stop,))
    thread.start()
    for _ in range(1200):
        if "'mine' ran" in told:
            break
        stop.wait(0.05)
    stop.set()
    thread.join()
    assert "'mine' ran" in told
    assert any("broken.yaml" in each and "left out" in each for each in told)
    assert home.incident(number).severity is Severity.HIGH


def test_an_action_that_fails_does_not_stop_the_others(home: Home) -> None:
    actions = [
        {"order": 1, "actionType": "RunPlaybook", "actionConfiguration": {"playbook": "no-such"}},
        {"order": 2, "actionType": "AddIncidentTask", "actionConfiguration": {"title": "after"}},
    ]
    home.write("r.json", rule("mine", actions=actions))
    home.automator().begin()
    number = home.raise_("Key read")
    (run,) = home.work()
    assert run.state is State.FAILED
    assert "no playbook 'no-such'" in run.error
    assert len(home.incident(number).tasks) == 1
    statuses = home.workspace.query("SentinelHealth | project Status", now=AT).rows()
    assert [row["Status"] for row in statuses] == ["Partial success", "Failure"]


# --- circles and crashes -----------------------------------------------------------------------------------


def test_no_rule_goes_in_circles(home: Home) -> None:
    """Each rule undoes what the other did, for every update: they end by themselves."""
    home.write("a.json", rule("up", added("Comments"), when="Updated", severity="High"))
    home.write("b.json", rule("down", changed("IncidentSeverity"), when="Updated", severity="Low"))
    home.write(
        "c.json",
        rule("up again", changed("IncidentSeverity", "ChangedTo", "Low"), when="Updated", severity="High"),
    )
    home.automator().begin()
    number = home.raise_("Key read")
    home.incidents.comment(number, "go", by="ben", now=AT)
    runs = home.work()
    assert [run.rule for run in runs] == ["up", "down", "up again"]
    assert [len(run.chain) for run in runs] == [1, 2, 3]
    assert home.work() == []
    home.incidents.comment(number, "again", by="ben", now=AT)
    assert [run.rule for run in home.work()] == ["up"]  # the severity is High already: nothing is changed
    home.incidents.set(number, severity=Severity.MEDIUM, by="ben", now=AT)
    assert [run.rule for run in home.work()] == ["down", "up again"]


def test_chains_end(home: Home) -> None:
    for place in range(MOST_CHAIN + 5):
        follows = condition("IncidentLabel", "Equals", f"step {place}")
        home.write(
            f"{place}.json",
            rule(f"rule {place}", follows, added("Labels"), when="Updated", order=100 - place,
                 labels=[{"labelName": f"step {place + 1}"}]),
        )  # fmt: skip
    home.automator().begin()
    number = home.raise_("Key read")
    home.incidents.set(number, add_labels=["step 0"], by="ben", now=AT)
    longest = max(len(run.chain) for run in home.work())
    assert longest == MOST_CHAIN


def test_a_rule_of_a_playbook_is_in_the_chain(home: Home) -> None:
    home.write("p.yaml", "steps: [{comment: hello}]", folder="playbooks")
    play = [{"order": 1, "actionType": "RunPlaybook", "actionConfiguration": {"playbook": "p"}}]
    home.write("r.json", rule("echo", added("Comments"), when="Updated", actions=play))
    home.automator().begin()
    number = home.raise_("Key read")
    home.incidents.comment(number, "go", by="ben", now=AT)
    assert len(home.work()) == 1
    assert home.work() == []
    assert [each.text for each in home.incident(number).comments] == ["go", "hello"]


@pytest.mark.parametrize("place", range(1, 4))
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_crash_is_gone_over_and_nothing_done_twice(
    home: Home, monkeypatch: pytest.MonkeyPatch, place: int, when: str
) -> None:
    home.write("p.yaml", "steps: [{comment: hello}]", folder="playbooks")
    actions = [
        {"order": 1, "actionType": "AddIncidentTask", "actionConfiguration": {"title": "ask"}},
        {"order": 2, "actionType": "RunPlaybook", "actionConfiguration": {"playbook": "p"}},
        {"order": 3, "actionType": "ModifyProperties", "actionConfiguration": {"severity": "High"}},
    ]
    # What the second rule sets must not let the first one in when it is asked again.
    high = condition("IncidentSeverity", "Equals", "High")
    home.write("a.json", rule("only if high", high, order=1, labels=[{"labelName": "wrong"}]))
    home.write("b.json", rule("main", order=2, actions=actions))
    home.write("c.json", rule("last", order=3, labels=[{"labelName": "last"}]))
    automator = home.automator()
    automator.begin()
    number = home.raise_("Key read")
    real = automator._act

    def dies(of: Rule, run: Run, occasion: Any, action: Any, at: int, *, again: bool) -> str:
        if (of.name, at) == ("main", place):
            if when == "after":
                real(of, run, occasion, action, at, again=again)
            raise KeyboardInterrupt
        return real(of, run, occasion, action, at, again=again)

    monkeypatch.setattr(automator, "_act", dies)
    automator.collect()
    with pytest.raises(KeyboardInterrupt):
        automator.work()
    assert home.work() == []  # somebody may still be at it
    home.now += CLAIM + timedelta(seconds=1)
    assert [run.rule for run in home.work()] == ["main", "last"]
    incident = home.incident(number)
    assert [each.title for each in incident.tasks] == ["ask"]
    assert [each.text for each in incident.comments] == ["hello"]
    assert (incident.severity, incident.labels) == (Severity.HIGH, ("last",))
    assert all(run.state is State.DONE for run in home.automator().runs.runs())
    assert home.work() == []


def test_two_processes_run_each_rule_once(home: Home) -> None:
    import threading

    home.write("r.json", rule("mine", actions=[
        {"order": 1, "actionType": "AddIncidentTask", "actionConfiguration": {"title": "ask"}}
    ]))  # fmt: skip
    home.automator().begin()
    numbers = [home.raise_(f"Alert {place}", key=f"AKIA{place:016}") for place in range(8)]
    others = [Home(home.folder).automator() for _ in range(3)]

    def work(automator: Automator) -> None:
        automator.collect()
        automator.work()

    threads = [threading.Thread(target=work, args=(each,)) for each in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    home.work()
    assert [len(home.incident(number).tasks) for number in numbers] == [1] * 8


# --- playbooks and alerts ----------------------------------------------------------------------------------


def test_a_rule_for_alerts_runs_a_playbook(home: Home) -> None:
    home.write("p.yaml", "steps: [{comment: '{{ incident.title }}'}]", folder="playbooks")
    logic_app = "/subscriptions/x/providers/Microsoft.Logic/workflows/p"
    asked = {"logicAppResourceId": logic_app, "tenantId": "y"}
    play = [{"order": 1, "actionType": "RunPlaybook", "actionConfiguration": asked}]
    ours = condition("AlertAnalyticRuleIds", "Contains", f"/alertRules/{RULE_ID}")
    home.write("r.json", rule("on alerts", ours, on="Alerts", actions=play))
    home.write(
        "s.json",
        rule("others", condition("AlertAnalyticRuleIds", "Equals", "z"), on="Alerts", actions=play),
    )
    home.raise_("Before", key="AKIAAAAAAAAAAAAAAAAA")
    home.automator().begin()
    number = home.raise_("Key read")
    (run,) = home.work()
    assert (run.rule, run.trigger) == ("on alerts", Trigger.ALERT_CREATED)
    assert [each.text for each in home.incident(number).comments] == ["Key read"]
    (played,) = home.workspace.response.player.runs.runs()
    assert (played.state, played.by) == (RunState.DONE, "Automation rule - on alerts")
    assert home.work() == []


def test_a_rule_does_not_wait_for_ever(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    home.write("p.yaml", "steps: [{comment: slow}]", folder="playbooks")
    actions = [
        {"order": 1, "actionType": "RunPlaybook", "actionConfiguration": {"playbook": "p"}},
        {"order": 2, "actionType": "AddIncidentTask", "actionConfiguration": {"title": "after"}},
    ]
    home.write("r.json", rule("mine", actions=actions))
    automator = home.automator(wait_seconds=0.05)
    automator.begin()
    number = home.raise_("Key read")
    player, may = home.workspace.response.player, threading.Event()
    real = player._done

    def slow(*arguments: Any, **named: Any) -> Any:
        may.wait(30)
        return real(*arguments, **named)

    monkeypatch.setattr(player, "_done", slow)
    (run,) = home.workspace.response.run_automation(automator)
    assert run.steps[0].detail == "playbook p, run 1: goes on"
    assert len(home.incident(number).tasks) == 1
    assert home.incident(number).comments == ()
    may.set()
    automator.wait()
    assert [each.text for each in home.incident(number).comments] == ["slow"]


# --- files -------------------------------------------------------------------------------------------------

TEMPLATE = {
    "$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#",
    "parameters": {"workspace": {"type": "String"}},
    "resources": [
        {
            "name": "[concat(parameters('workspace'),'/Microsoft.SecurityInsights/0A0A0A0A-1111-2222-3333-444444444444')]",  # noqa: E501
            "type": "Microsoft.OperationalInsights/workspaces/providers/automationRules",
            "apiVersion": "2023-12-01-preview",
            "properties": rule(
                "exported",
                condition("IncidentRelatedAnalyticRuleIds", "Contains", f"[concat('/alertRules/{RULE_ID}')]"),
                severity="Low",
                owner=None,
                labels=[],
            ),
        },
        {"type": "Microsoft.Logic/workflows", "name": "p", "properties": {}},
    ],
}


def test_an_exported_template() -> None:
    (found,) = parse_rules(json.dumps(TEMPLATE).encode("utf-8-sig"), source="export.json")
    assert found.id == "0a0a0a0a-1111-2222-3333-444444444444"
    assert found.holds(view())
    (resource, _) = TEMPLATE["resources"]
    for document in ({"value": [resource]}, resource, [resource], [resource["properties"]]):  # type: ignore[index]
        (same,) = parse_rules(json.dumps(document).encode(), source="export.json")
        assert (same.name, same.conditions) == (found.name, found.conditions)


def test_yaml() -> None:
    text = """
displayName: Grave
triggeringLogic:
  triggersOn: incidents
  triggersWhen: created
  expirationTimeUtc: 2027-01-01T00:00:00Z
  conditions:
    - conditionType: Property
      conditionProperties: {propertyName: IncidentTitle, operator: Contains, propertyValues: [key]}
actions:
  - actionType: ModifyProperties
    actionConfiguration: {severity: High, owner: ana, labels: [a, b]}
"""
    (found,) = parse_rules(text.encode(), source="grave.yaml")
    assert found.expires_at == datetime(2027, 1, 1, tzinfo=UTC)
    assert found.holds(view())
    assert str(found.actions[0]) == "set severity High, owner ana, label a, label b"


def many(count: int) -> list[dict[str, Any]]:
    return [condition("IncidentTitle", "Equals", "x") for _ in range(count)]


TASK = {"actionType": "AddIncidentTask", "actionConfiguration": {"title": "t"}}


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ([], "no automation rule"),
        (5, "a rule is a mapping"),
        ({}, "displayName"),
        (rule("r", when="Deleted", severity="Low"), "no trigger Incidents Deleted"),
        (rule("r", condition("Colour", "Equals", "x"), severity="Low"), "no propertyName 'Colour'"),
        (rule("r", condition("IncidentTitle", "Is", "x"), severity="Low"), "no operator 'Is'"),
        (rule("r", condition("IncidentTitle", "Equals"), severity="Low"), "no propertyValues"),
        (rule("r", {"conditionType": "Python", "conditionProperties": {}}, severity="Low"), "conditionType"),
        (rule("r", added("Labels"), severity="Low"), "is asked when an incident is updated only"),
        (
            rule("r", changed("IncidentTitle"), when="Updated", severity="Low"),
            "no propertyName 'IncidentTitle'",
        ),
        (rule("r"), "sets nothing"),
        (rule("r", severity="Grave"), "'Grave' is no severity"),
        (rule("r", status="Closed"), "closed with a classification"),
        (rule("r", actions=[{"actionType": "Shell"}]), "no actionType 'Shell'"),
        (rule("r", actions=[{"actionType": "RunPlaybook"}]), "names no playbook"),
        (rule("r", *many(MOST_CONDITIONS + 1), severity="Low"), "51 conditions"),
        (rule("r", actions=[TASK] * (MOST_ACTIONS + 1)), "21 actions"),
        (rule("r", on="Alerts", severity="Low"), "runs playbooks, nothing else"),
        (
            rule("r", condition("IncidentTitle", "Equals", "x"), on="Alerts", actions=[TASK]),
            "conditions on AlertAnalyticRuleIds only",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_told(document: object, said: str) -> None:
    with pytest.raises(AutomationError, match=said) as caught:
        parse_rules(json.dumps(document).encode(), source="rule.json")
    assert "rule.json" in str(caught.value)


def test_the_bounds_themselves_are_allowed() -> None:
    found = read(rule("r", *many(MOST_CONDITIONS), actions=[TASK] * MOST_ACTIONS))
    assert (len(found.conditions), len(found.actions)) == (MOST_CONDITIONS, MOST_ACTIONS)


def test_deep_and_broken_files() -> None:
    deep: dict[str, Any] = condition("IncidentTitle", "Equals", "x")
    for _ in range(20):
        inside = {"operator": "And", "innerConditions": [deep]}
        deep = {"conditionType": "Boolean", "conditionProperties": inside}
    with pytest.raises(AutomationError, match="deep in each other"):
        read(rule("r", deep, severity="Low"))
    for content in (b"{", b"\xff\xfe", b"[" * 100_000):
        with pytest.raises(AutomationError, match="cannot be read"):
            parse_rules(content, source="rule.json")


def test_a_folder(home: Home) -> None:
    home.write("a.json", rule("a", severity="Low") | {"id": "same"})
    home.write("b.json", rule("b", severity="Low") | {"id": "same"})
    home.write("c.yaml", "displayName: [")
    home.write("notes.txt", "no rule")
    found = load_rules(home.folder / "automation", fault=lambda error: home.faults.append(str(error)))
    assert [each.name for each in found] == ["a"]
    assert len(home.faults) == 2
    assert load_rules(home.folder / "nowhere") == ()


def test_our_entities_have_properties() -> None:
    ours = {kind for kind, _ in ENTITY_PROPERTIES.values() if kind.startswith("Aws")}
    assert ours == {
        "AwsPrincipal", "AwsSession", "AwsAccessKey", "AwsInstance", "AwsBucket", "AwsObject", "AwsAccount"
    }  # fmt: skip


def test_commands(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    shell = ["--home", str(home.folder), "automation"]
    key = condition("IncidentTitle", "Contains", "key")
    path = home.write(
        "r.json", rule("mine", key, condition("IPAddress", "Equals", "1.2.3.4"), severity="High")
    )
    number = home.raise_("Key read")
    assert typed([*shell, "list", "--format", "json"]) == 0
    (listed,) = json.loads(capsys.readouterr().out)
    assert (listed["name"], listed["actions"]) == ("mine", ["set severity High"])
    assert typed([*shell, "show", "MINE"]) == 0
    assert "set severity High" in capsys.readouterr().out
    assert typed([*shell, "test", str(path), "--incident", str(number), "--format", "json"]) == 0
    tested = json.loads(capsys.readouterr().out)
    assert [each["holds"] for each in tested] == [True, False, False]
    assert home.incident(number).severity is Severity.MEDIUM
    assert typed([*shell, "validate"]) == 0
    home.write("bad.yaml", "displayName: x")
    assert typed([*shell, "validate"]) == 1
    assert "bad.yaml" in capsys.readouterr().out
    (home.folder / "automation" / "bad.yaml").unlink()
    home.write("r.json", rule("mine", key, severity="High"))
    assert typed([*shell, "run"]) == 0
    assert home.incident(number).severity is Severity.MEDIUM  # it was there before there were rules
    other = home.raise_("Key used", key="AKIAAAAAAAAAAAAAAAAA")
    assert typed([*shell, "run"]) == 0
    assert home.incident(other).severity is Severity.HIGH
    capsys.readouterr()
    assert typed([*shell, "runs", "--incident", str(other), "--format", "json"]) == 0
    (run,) = json.loads(capsys.readouterr().out)
    assert (run["rule"], run["state"], run["incident"]) == ("mine", "done", other)
    assert typed([*shell, "show", "nothing"]) == 1
