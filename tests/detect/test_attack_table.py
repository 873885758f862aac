"""ATT&CK's table: two versions of it, names, and what a rule may say."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

import pytest

from trailhawk.detect import content
from trailhawk.detect.attack_table import attack_table, parse_attack_table
from trailhawk.detect.rule import Rule, RuleKind, Severity
from trailhawk.errors import RuleError

TABLE: Final = attack_table()


def rule(tactics: tuple[str, ...] = (), techniques: tuple[str, ...] = ()) -> Rule:
    return Rule(
        id="r",
        name="r",
        query="print 1",
        kind=RuleKind.SCHEDULED,
        severity=Severity.LOW,
        frequency=timedelta(hours=1),
        tactics=tactics,
        techniques=techniques,
    )


def test_defense_evasion_is_split_in_version_19() -> None:
    names = {version: [tactic.name for tactic in TABLE.tactics(version)] for version in TABLE.versions}
    assert (len(names[18]), len(names[19])) == (14, 15)
    assert set(names[18]) - set(names[19]) == {"DefenseEvasion"}
    assert set(names[19]) - set(names[18]) == {"Stealth", "DefenseImpairment"}
    short = {tactic.short: tactic.id for tactic in TABLE.tactics(19)}
    assert (short["stealth"], short["defense-impairment"]) == ("TA0005", "TA0112")
    assert "command-and-control" in short


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("T1562.001", "T1685"),
        ("T1562.008", "T1685.002"),
        ("T1562.007", "T1686.001"),
        ("T1562.004", "T1686"),
    ],
)
def test_ids_that_changed_are_known_both_ways(old: str, new: str) -> None:
    assert (TABLE.translated(old, 19), TABLE.translated(new, 18)) == (new, old)
    assert (TABLE.translated(old, 18), TABLE.translated(new, 19)) == (old, new)


def test_ids_that_did_not_change_or_are_not_ours_stay() -> None:
    assert TABLE.named(["T1078.004", "T9999", "T1562", "T1562.001"], 19) == ("T1078.004", "T9999", "T1685")


def test_a_sub_technique_is_called_after_its_technique() -> None:
    assert TABLE.name("T1078.004") == "Valid Accounts: Cloud Accounts"
    assert (TABLE.name("T1078"), TABLE.name("T9999")) == ("Valid Accounts", "")


def test_every_technique_has_tactics_of_its_versions_and_a_parent() -> None:
    for number, each in TABLE.techniques.items():
        assert re.fullmatch(r"T\d{4}(\.\d{3})?", number)
        assert not each.parent or each.parent in TABLE.techniques
        for version in TABLE.versions:
            names = {tactic.name for tactic in TABLE.tactics(version)}
            present = each.since <= version <= each.until
            assert (version in each.tactics) is present
            assert not present or (each.tactics[version] and set(each.tactics[version]) <= names)


def test_all_that_our_content_names_is_in_the_table() -> None:
    named = [*content.rules(), *content.hunts()]
    assert {number for each in named for number in each.techniques} <= TABLE.techniques.keys()
    assert [(each.source, *complaint) for each in named for complaint in TABLE.complaints(each)] == []


def test_names_of_either_version_are_taken_and_others_complained_of() -> None:
    good = rule(("DefenseEvasion", "Stealth", "DefenseImpairment", "InhibitResponseFunction"), ("T1003.001",))
    assert list(TABLE.complaints(good)) == []
    assert [member for member, _ in TABLE.complaints(rule(("Stealing",), ("T107", "TA0005")))] == [
        "tactics",
        "relevantTechniques",
        "relevantTechniques",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "versions: [18]\ntactics: []\ntechniques: {T1001: {name: a, tactics: [Impact]}}",
            "no tactic Impact",
        ),
        ("versions: [18]\ntactics: []\ntechniques: {T1001.001: {name: a, tactics: []}}", "no T1001"),
        ("versions: [18]\ntactics: []\ntechniques: {T1001: {name: a, tactics: [], tacitcs: 1}}", "tacitcs"),
        ("versions: [", "is wrong"),
    ],
)
def test_a_wrong_table_says_what_is_wrong(text: str, said: str) -> None:
    with pytest.raises(RuleError, match=said):
        parse_attack_table(text.encode())
