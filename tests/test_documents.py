"""YAML in which a key stands twice is refused, wherever it is."""

from __future__ import annotations

import pytest
import yaml

from trailhawk.documents import Loader


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("query: A\nname: B\nquery: C\n", "'query' stands at line 1 and again"),
        ("a:\n  - {b: 1}\n  - c: 1\n    'c': 2\n", "'c' stands at line 3 and again"),
        ("a: {b: {c: 1, c: 1}}", "'c' stands at line 1 and again"),
        ("? {a: 1, a: 2}\n: b", "'a' stands at line 1 and again"),
    ],
)
def test_a_key_that_stands_twice(text: str, told: str) -> None:
    for read in (lambda: yaml.load(text, Loader=Loader), lambda: list(yaml.load_all(text, Loader=Loader))):
        with pytest.raises(yaml.constructor.ConstructorError, match=told):
            read()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a: &a {b: 1}\nc: {<<: *a, b: 2}\nd: *a\n",
        "1: a\n'1': b\n",
        "a: &a\n  b: *a\n",
        "{a: {c: 1}, b: {c: 1}}",
    ],
)
def test_what_is_no_key_twice(text: str) -> None:
    assert repr(yaml.load(text, Loader=Loader)) == repr(yaml.load(text, Loader=yaml.CSafeLoader))
