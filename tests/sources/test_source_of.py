"""Whose an object is: what is asked once for all sources comes to the same as asking each of them."""

import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from support.programs import program
from trailhawk.sources import SOURCES, Source, source_of, with_custom
from trailhawk.sources.once import once

FUZZ = program("bench/fuzz_sources.py")
DAMAGED = 40
"""Of each case, half of them in their first bytes, where forms are told."""


BEGUN = b'{"Records":[{"eventVersion":"1.11","eventSource":"s3.amazonaws.com"},'
"""How CloudTrail's own files begin."""
FORMAT = "${account-id} ${start} ${end} ${action}"
LINE = b'{"Records":[{"eventVersion":"1.11","eventSource":"x"}]} 1 2 ACCEPT'
"""Of that format, however it begins."""
OKTA = """
name: okta
table: Okta_CL
objects: okta/
time: {from: published, format: iso}
columns:
  - {name: Actor, type: string, from: actor}
"""


def asked_each(sources: Iterable[Source], name: str, head: bytes) -> Source | None:
    return next((each for each in sources if each.recognises(name, head)), None)


def heads_of(case: Any) -> Iterator[bytes]:
    """Good and damaged beginnings of its objects, also behind that of CloudTrail's files."""
    chance = random.Random(161)
    victims = [each.victim for each in FUZZ.CASES.values()]
    whole = case.wrap([case.before, case.victim, case.after])
    heads = [whole, b"\xef\xbb\xbf" + whole, b" \r\n" + whole]
    for number in range(DAMAGED):
        cut = chance.randrange(1, 80) if number % 2 else len(whole)
        heads.append(FUZZ.mutated(whole[:cut], chance, chance.choice(victims)) + whole[cut:])
    for head in heads:
        yield head
        yield BEGUN + head[head.find(b"{") :]
        yield FUZZ.mutated(BEGUN, chance, chance.choice(victims)) + head


def test_the_source_of_good_and_damaged_objects() -> None:
    told = set()
    for case in FUZZ.CASES.values():
        for head in heads_of(case):
            found = source_of(SOURCES, case.path, head)
            asked = asked_each(SOURCES, case.path, head)
            assert (found and found.name) == (asked and asked.name), head
            told.add(found.name if found else "")
    assert len(told) > len(SOURCES) * 0.9


def test_an_object_is_read_as_by_the_source_that_looks_for_what_is_around() -> None:
    for case in FUZZ.CASES.values():
        for head in heads_of(case):
            found = source_of(SOURCES, case.path, head)
            asked = asked_each(SOURCES, case.path, head)
            if found is None or asked is None or found is asked:
                continue
            assert found.is_digest(head) is asked.is_digest(head)
            mine, other = (list(each.chunks(iter((head,)))) for each in (found, asked))
            assert [(list(chunk.records), chunk.bad) for chunk in mine] == [
                (list(chunk.records), chunk.bad) for chunk in other
            ]


def test_what_the_user_described_is_asked_before_what_begins_as_cloudtrail(tmp_path: Path) -> None:
    Path(tmp_path, "okta.yaml").write_text(OKTA)
    Path(tmp_path, "flow.yaml").write_text(f"name: flow\nreads: vpcflow\nfields: {FORMAT}\n")
    sources = with_custom(tmp_path)
    for name, head, expected in (
        ("okta/1.json", BEGUN + b"{}]}", "okta"),
        ("a.json", BEGUN + b"{}]}", "cloudtrail"),
        ("flows", LINE, "vpcflow"),
    ):
        found, asked = source_of(sources, name, head), asked_each(sources, name, head)
        assert found is not None
        assert asked is not None
        assert found.name == asked.name == expected


def test_a_question_is_asked_once_for_the_bytes_asked_about_last() -> None:
    asked: list[bytes] = []

    def question(head: bytes) -> int:
        asked.append(head)
        return len(head)

    length = once(question)
    assert [length(b"ab"), length(bytes(bytearray(b"ab"))), length(b"abc"), length(b"ab")] == [2, 2, 3, 2]
    assert asked == [b"ab", b"abc", b"ab"]
