"""Counts as a sentence has them."""

from __future__ import annotations

from trailhawk.words import counted, suggestion


def test_one_is_no_plural() -> None:
    assert [counted(count, "gap") for count in (0, 1, 2, 1204)] == ["0 gaps", "1 gap", "2 gaps", "1,204 gaps"]
    assert counted(1, "rule or hunt", "rules and hunts") == "1 rule or hunt"
    assert counted(2, "rule or hunt", "rules and hunts") == "2 rules and hunts"


def test_what_was_meant() -> None:
    assert suggestion("NAM", ["Name", "Host"]) == "did you mean 'Name'?"
    assert suggestion("region", ["Name", "Host"]) == "there is Name, Host"
    assert suggestion("region", []) == "there is none"
