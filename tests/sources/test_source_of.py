"""Whose an object is: what is asked once for all sources comes to the same as asking each of them."""

import random

from support.programs import program
from trailhawk.sources import SOURCES, Source, source_of
from trailhawk.sources.once import once

FUZZ = program("bench/fuzz_sources.py")
DAMAGED = 40
"""Of each case, half of them in their first bytes, where forms are told."""


def asked_each(name: str, head: bytes) -> Source | None:
    return next((each for each in SOURCES if each.recognises(name, head)), None)


def test_the_source_of_good_and_damaged_objects() -> None:
    chance = random.Random(161)
    victims = [case.victim for case in FUZZ.CASES.values()]
    told = set()
    for case in FUZZ.CASES.values():
        whole = case.wrap([case.before, case.victim, case.after])
        heads = [whole, b"\xef\xbb\xbf" + whole, b" \r\n" + whole]
        for number in range(DAMAGED):
            cut = chance.randrange(1, 80) if number % 2 else len(whole)
            heads.append(FUZZ.mutated(whole[:cut], chance, chance.choice(victims)) + whole[cut:])
        for head in heads:
            found = source_of(SOURCES, case.path, head)
            assert found is asked_each(case.path, head), head
            told.add(found.name if found else "")
    assert len(told) > len(SOURCES) * 0.9


def test_a_question_is_asked_once_for_the_bytes_asked_about_last() -> None:
    asked: list[bytes] = []

    def question(head: bytes) -> int:
        asked.append(head)
        return len(head)

    length = once(question)
    assert [length(b"ab"), length(bytes(bytearray(b"ab"))), length(b"abc"), length(b"ab")] == [2, 2, 3, 2]
    assert asked == [b"ab", b"abc", b"ab"]
