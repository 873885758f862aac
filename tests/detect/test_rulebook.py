"""Rules taken in from files, enabled and disabled."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from trailhawk.detect import content
from trailhawk.detect.rule import Rule, RuleKind, Severity
from trailhawk.detect.rule_file import load_rules, parse_rules
from trailhawk.detect.rulebook import RuleState, RuleStates, named, take_in
from trailhawk.detect.store import open_state, sqlite_url
from trailhawk.detect.validate import Finding, Level
from trailhawk.errors import NotFoundError, RuleError

NOW = datetime(2026, 3, 2, tzinfo=UTC)
YAML = """
id: 6d0d2f0e-0000-4000-8000-000000000001
name: A trail is stopped
kind: Scheduled
severity: High
queryFrequency: 1h
queryPeriod: 1h
query: AWSCloudTrail | where EventName == "StopLogging"
"""
HUNT = """
id: 6d0d2f0e-0000-4000-8000-000000000002
name: Trails stopped ever
query: AWSCloudTrail | where EventName == "StopLogging"
"""
TEMPLATE = {
    "$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#",
    "resources": [
        {
            "id": "[concat(resourceId('x'), '/alertRules/6d0d2f0e-0000-4000-8000-000000000003')]",
            "name": "[concat(parameters('workspace'),'/x/6d0d2f0e-0000-4000-8000-000000000003')]",
            "type": "Microsoft.OperationalInsights/workspaces/providers/alertRules",
            "kind": "Scheduled",
            "properties": {
                "displayName": "Root signs in",
                "description": "as it says",
                "severity": "Medium",
                "enabled": False,
                "query": "AWSCloudTrail | where EventName == 'ConsoleLogin'",
                "queryFrequency": "PT5H",
                "queryPeriod": "P1D",
                "triggerOperator": "GreaterThan",
                "triggerThreshold": 2,
                "suppressionDuration": "PT5H",
                "suppressionEnabled": False,
                "tactics": ["InitialAccess"],
                "techniques": ["T1078"],
                "alertRuleTemplateName": None,
                "entityMappings": None,
                "eventGroupingSettings": {"aggregationKind": "AlertPerResult"},
            },
        },
        {"type": "Microsoft.Insights/alertRules", "kind": "Other", "properties": {}},
    ],
}


def rule(name: str = "A trail is stopped", **members: object) -> Rule:
    made = Rule(name, name, "", RuleKind.SCHEDULED, Severity.LOW)
    return replace(made, **members)  # type: ignore[arg-type]  # members by name


def sound(_: Rule) -> tuple[Finding, ...]:
    return ()


def test_an_arm_template_gives_its_analytics_rules() -> None:
    (found,) = parse_rules(json.dumps(TEMPLATE), source="rules.json")
    assert (found.id, found.name) == ("6d0d2f0e-0000-4000-8000-000000000003", "Root signs in")
    assert (found.frequency.total_seconds(), found.period.days, found.threshold) == (18_000, 1, 2)
    assert (found.techniques, found.severity, found.suppression) == (("T1078",), Severity.MEDIUM, None)
    assert not RuleStates(open_state("sqlite://")).of([found])[found.id].enabled


@pytest.mark.parametrize(
    ("text", "told"),
    [("{", "not JSON"), ("[]", "no rule or hunt"), ('{"resources": []}', "no rule or hunt")],
)
def test_what_is_no_template_is_told(text: str, told: str) -> None:
    with pytest.raises(RuleError, match=told):
        parse_rules(text, source="a.json")


def test_sub_techniques_stand_for_their_techniques() -> None:
    (resource, *_) = TEMPLATE["resources"]
    told = {
        "techniques": ["T1078", "T1589", "T1589"],
        "subTechniques": ["T1589.002", "T1589.003", "T1562.008"],
    }
    properties = {**resource["properties"], **told}  # type: ignore[index]
    text = json.dumps({"resources": [{**resource, "properties": properties}]})  # type: ignore[dict-item]
    (found,) = parse_rules(text, source="a.json")
    assert found.techniques == ("T1078", "T1589.002", "T1589.003", "T1562.008")


def test_a_template_that_has_its_name_without_display_is_read() -> None:
    (resource, *_) = TEMPLATE["resources"]
    properties = dict(resource["properties"])  # type: ignore[index]
    properties["name"] = properties.pop("displayName")
    text = json.dumps({"resources": [{**resource, "properties": properties}]})  # type: ignore[dict-item]
    assert [each.name for each in parse_rules(text, source="a.json")] == ["Root signs in"]


def test_many_files_walked_in_turn_are_parsed_once() -> None:
    """A cache smaller than a walk forgets each file just before it is asked for again."""
    text = json.dumps(TEMPLATE)
    names = [f"{number}.json" for number in range(1100)]
    first = [parse_rules(text, source=name) for name in names]
    assert all(parse_rules(text, source=name) is one for name, one in zip(names, first, strict=True))


def test_files_are_taken_in_as_they_are(tmp_path: Path) -> None:
    pack, home = tmp_path / "pack", tmp_path / "home"
    (pack / "deep").mkdir(parents=True)
    (pack / "deep" / "stop.yaml").write_text(YAML)
    (pack / "hunt.yml").write_text(HUNT)
    (pack / "arm.json").write_text(json.dumps(TEMPLATE))
    (pack / "broken.yaml").write_text("id: [")
    (pack / "README.md").write_text("no rule")
    found = list(take_in([pack], home, sound))
    assert [(each.source, each.taken) for each in found] == [
        ("arm.json", True),
        ("broken.yaml", False),
        ("deep/stop.yaml", True),
        ("hunt.yml", True),
    ]
    assert (home / "rules" / "deep" / "stop.yaml").read_text() == YAML
    assert (home / "hunts" / "hunt.yml").read_text() == HUNT
    assert [each.name for each in load_rules([home / "rules"])] == ["A trail is stopped", "Root signs in"]
    assert [each.replaced for each in take_in([pack / "hunt.yml"], home, sound)] == [True]


def test_a_file_with_an_error_is_not_taken(tmp_path: Path) -> None:
    file = tmp_path / "stop.yaml"
    file.write_text(YAML)
    wrong = (Finding(Level.ERROR, "query", "no such table"),)
    (found,) = take_in([file], tmp_path / "home", lambda _: wrong)
    assert not found.taken
    assert not (tmp_path / "home").exists()


def test_a_rule_is_found_by_a_part_that_only_it_has() -> None:
    rules = [rule("A trail is stopped", id="1"), rule("A trail is deleted", id="2"), rule("A trail", id="3")]
    assert named(rules, "STOPPED").id == "1"
    assert named(rules, "a trail").id == "3"
    files = [rule("A role", id="6", source="a/made-by-hand.yaml"), rule("A key made-by-hand", id="7")]
    assert named(files, "made-by-hand").id == "6"
    with pytest.raises(NotFoundError, match="part of 2 rules"):
        named(rules, "ed")
    with pytest.raises(NotFoundError, match="no rule 'x'"):
        named(rules, "x")
    with pytest.raises(NotFoundError) as caught:
        named([rule("A trail", id="4", source="trails/trail-stopped.yaml")], "trail-stoped")
    assert caught.value.hint == "did you mean 'trail-stopped'? see 'trailhawk rules list'"
    twins = [rule("A trail", id="4", source="a.yaml"), rule("A trail", id="5", source="b.yaml")]
    with pytest.raises(NotFoundError, match=r"what 2 rules are called: 4 \(a\.yaml\), 5 \(b\.yaml\)"):
        named(twins, "a trail")
    assert named(twins, "b.yaml").id == "5"


def test_states_are_kept_with_who_and_why(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "state.db")
    states = RuleStates(open_state(url))
    one, two = rule("one"), rule("two", extra=(("enabled", False),))
    assert {name: state.enabled for name, state in states.of([one, two]).items()} == {
        "one": True,
        "two": False,
    }
    states.set(one, enabled=False, reason="travel", now=NOW, by="ana")
    states.set(two, enabled=True, reason="", now=NOW, by="ana")
    again = RuleStates(open_state(url)).of([one, two])
    assert again == {"one": RuleState(False, "travel", NOW, "ana"), "two": RuleState(True, "", NOW, "ana")}


def test_a_broken_file_can_be_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("id: [")
    (tmp_path / "b.yaml").write_text(YAML)
    (tmp_path / "c.yaml").write_text(YAML)
    told: list[str] = []
    assert [each.source for each in load_rules([tmp_path], fault=lambda e: told.append(e.message))] == [
        "b.yaml"
    ]
    assert [text.split(":")[0] for text in told] == ["a.yaml", "c.yaml"]
    with pytest.raises(RuleError, match=r"a\.yaml: not YAML"):
        load_rules([tmp_path])


def test_two_rules_of_one_id_are_both_kept_and_told(tmp_path: Path) -> None:
    pack, home = tmp_path / "pack", tmp_path / "home"
    pack.mkdir()
    (pack / "a.yaml").write_text(YAML)
    (pack / "b.yaml").write_text(YAML.replace("StopLogging", "DeleteTrail"))
    (pack / "c (2).yaml").write_text(YAML)
    first, second, copy = take_in([pack], home, sound)
    assert first.findings == ()
    assert second.taken
    assert "is also that of a.yaml" in second.findings[0].message
    assert "the same rule as a.yaml: left out" in copy.findings[0].message
    kept = load_rules([home / "rules"])
    assert len({rule.id for rule in kept}) == len(kept) == 2
    assert all(rule.id in (first.findings or second.findings)[0].message for rule in kept)


def test_a_newer_version_replaces_the_file_of_the_older(tmp_path: Path) -> None:
    old, new, home = tmp_path / "old.yaml", tmp_path / "new.yaml", tmp_path / "home"
    old.write_text(YAML)
    new.write_text(YAML.replace("StopLogging", "DeleteTrail"))
    list(take_in([old], home, sound))
    assert [each.replaced for each in take_in([new], home, sound)] == [True]
    assert [each.name for each in (home / "rules").iterdir()] == ["new.yaml"]


def test_a_file_of_the_same_name_with_another_rule_stands_beside(tmp_path: Path) -> None:
    home = tmp_path / "home"
    for number in "12":
        folder = tmp_path / number
        folder.mkdir()
        (folder / "rule.yaml").write_text(YAML.replace("000000000001", f"00000000000{number}"))
        list(take_in([folder], home, sound))
    assert len(load_rules([home / "rules"])) == 2


PACKAGE = {
    "variables": {
        "analyticRuleObject1": {"_analyticRulecontentId1": "6d0d2f0e-0000-4000-8000-000000000004"},
        "huntingQueryObject1": {"_huntingQuerycontentId1": "6d0d2f0e-0000-4000-8000-000000000005"},
    },
    "resources": [
        {
            "type": "Microsoft.OperationalInsights/workspaces/providers/contentTemplates",
            "name": "[variables('analyticRuleObject1').analyticRuleTemplateSpecName1]",
            "properties": {
                "contentId": "[variables('analyticRuleObject1')._analyticRulecontentId1]",
                "mainTemplate": {
                    "variables": {},
                    "resources": [
                        {
                            "type": "Microsoft.SecurityInsights/AlertRuleTemplates",
                            "name": "[variables('analyticRuleObject1')._analyticRulecontentId1]",
                            "kind": "NRT",
                            "properties": {
                                "displayName": "Root signs in",
                                "enabled": False,
                                "severity": "Medium",
                                "query": "AWSCloudTrail | take 1",
                            },
                        },
                        {
                            "type": "Microsoft.OperationalInsights/workspaces/providers/metadata",
                            "properties": {"kind": "AnalyticsRule"},
                        },
                    ],
                },
            },
        },
        {
            "type": "Microsoft.OperationalInsights/workspaces/providers/contentTemplates",
            "properties": {
                "contentId": "[variables('huntingQueryObject1')._huntingQuerycontentId1]",
                "mainTemplate": {
                    "resources": [
                        {
                            "type": "Microsoft.OperationalInsights/savedSearches",
                            "name": "A_Hunting_Query_1",
                            "properties": {
                                "category": "Hunting Queries",
                                "displayName": "[[Roots that signed in",
                                "query": "AWSCloudTrail | take 2",
                                "tags": [
                                    {"name": "description", "value": "as it says"},
                                    {"name": "tactics", "value": "InitialAccess,Persistence"},
                                    {"name": "techniques", "value": "T1078"},
                                ],
                            },
                        },
                    ],
                },
            },
        },
    ],
}


def test_a_package_of_a_solution_holds_templates_of_rules_and_hunts(tmp_path: Path) -> None:
    file, home = tmp_path / "mainTemplate.json", tmp_path / "home"
    file.write_text(json.dumps(PACKAGE))
    rule, hunt = parse_rules(file.read_bytes(), source=file.name)
    assert (rule.id, rule.name, rule.kind) == (
        "6d0d2f0e-0000-4000-8000-000000000004",
        "Root signs in",
        RuleKind.NRT,
    )
    assert RuleStates(open_state("sqlite://")).of([rule])[rule.id].enabled
    assert (hunt.id, hunt.name, hunt.kind) == (
        "6d0d2f0e-0000-4000-8000-000000000005",
        "[Roots that signed in",
        RuleKind.HUNTING,
    )
    assert (hunt.tactics, hunt.techniques) == (("InitialAccess", "Persistence"), ("T1078",))
    assert [each.taken for each in take_in([file], home, sound)] == [True, True]
    own = {"6d0d2f0e-0000-4000-8000-000000000004", "6d0d2f0e-0000-4000-8000-000000000005"}
    assert [each.id for each in content.rules([home / "rules"]) if each.id in own] == [rule.id]
    assert [each.id for each in content.hunts([home / "hunts"]) if each.id in own] == [hunt.id]
