"""Templates: what they may do, and that none of them goes on for ever or fills the memory."""

from __future__ import annotations

import time
import tracemalloc

import pytest

from trailhawk.errors import UsageError
from trailhawk.respond.template import MOST_TURNS, check, on_one_line, render

DOUBLED = "{% set x = 'ab' %}" + "BODY" * 60
X = "{% set x = 'x' * 1000 %}" + "{% set x = x ~ x %}" * 9
"""A text of half a million characters, which is well."""
ENDLESS = [
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "{% for i in range(99999) %}{{ range(99999) | list | length }}{% endfor %}",
    "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{% for i in [1] recursive %}{{ loop([1]) }}{% endfor %}",
    "{{ 'ab' * 999999999 }}",
    "{{ 999999999 * ['ab'] }}",
    "{{ 9 ** 999999999 }}",
    "{{ 'ab' | center(999999999) }}",
    "{{ '%999999999d' % 1 }}",
    "{{ '%999999999d' | format(1) }}",
    "{{ '%*d' | format(999999999, 1) }}",
    "{{ '{:999999999}'.format(1) }}",
    "{{ 'ab'.ljust(999999999) }}",
    "{{ 'ab'.zfill(999999999) }}",
    "{{ 'ab' | indent(999999999) }}",
    "{{ [1] | batch(999999999, 'x') | list }}",
    "{{ ['x' * 1000000] * 1000000 | join }}",
    "{{ (['x' * 100000] * 1000) | join }}",
    "{{ ('x' * 100000) | replace('', 'y' * 100000) }}",
    DOUBLED.replace("BODY", "{% set x = x ~ x %}"),
    DOUBLED.replace("BODY", "{% set x = x + x %}"),
    DOUBLED.replace("BODY", "{% set x %}{{ x }}{{ x }}{% endset %}"),
    DOUBLED.replace("BODY", "{% set x = [x, x] | join %}"),
    DOUBLED.replace("BODY", "{% set x = [x, x] | string %}"),
    DOUBLED.replace("BODY", "{% set x = [x, x] %}") + "{{ x }}",
    DOUBLED.replace("BODY", "{% set x = [x, x] %}") + "{{ x ~ 'a' }}",
    DOUBLED.replace("BODY", "{% set x = {1: x, 2: x} %}") + "{{ x.items() | tojson }}",
    DOUBLED.replace("BODY", "{% set x = x | list + x | list %}"),
    DOUBLED.replace("BODY", "{% set x = x | replace('a', 'aa') %}"),
    DOUBLED.replace("BODY", "{% macro f() %}{{ x }}{{ x }}{% endmacro %}{% set x = f() %}"),
    "{{ ['x' * 200000] * 200 }}",
    X + "{{ [x, x, x, x] }}",
    X + "{{ ([x, x, x, x] | tojson) }}",
    X + "{{ 'a\nb' | indent(width=x) }}",
    X + "{{ x | replace('x', 'y' * 1000) }}",
    X + "{{ ('%(a)s' * 100) | format(a=x) }}",
    X + "{{ [" + "x," * 500 + "] | sort }}",
    X + "{{ [" + "x | upper," * 500 + "] | length }}",
    X + "{{ [" + "x[1:]," * 500 + "] | length }}",
    X + "{{ [" + "x | list," * 50 + "] | length }}",
    X + "{{ x.splitlines() ~ x.split('x') }}",
    X + "{% set y %}{% for i in range(1000) %}{{ x }}{% endfor %}{% endset %}",
    "{% set y %}{% for i in range(90000) %}" + "x" * 100_000 + "{% endfor %}{% endset %}",
    "{% filter upper %}{% for i in range(90000) %}" + "x" * 100_000 + "{% endfor %}{% endfilter %}",
    "{{ [[1], [2]] | sum(start=[]) }}",
    "{{ 1 | tojson(indent=1000) }}",
    "{{ 1 | round(999999999, 'ceil') }}",
    "{{ lipsum(999999999) }}",
    "{{ namespace(x=1).x }}",
    "{{ 'a b' | wordwrap(1) }}",
    "{{ range }}",
]


@pytest.mark.parametrize("text", ENDLESS)
def test_no_template_goes_on_for_ever_or_fills_the_memory(text: str) -> None:
    began = time.process_time()
    tracemalloc.start()
    with pytest.raises(UsageError):
        render(text, {}, str, most=1_000, seconds=0.5)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 64 << 20
    assert time.process_time() - began < 10


@pytest.mark.parametrize("text", ["{% for i in [1] %}" * 30 + "{% endfor %}" * 30, "{{ " + "(" * 5000])
def test_what_is_nested_too_deep_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        check(text)


def test_what_is_written_for_ever_is_cut() -> None:
    assert render("{% for i in range(40000) %}abc{% endfor %}", {}, str, most=10) == "abcabcabca"
    assert MOST_TURNS < 1_000_000


@pytest.mark.parametrize(
    "text",
    [
        "{{ x | safe }}",
        "{{ x | urlize }}",
        "{% autoescape false %}{{ x }}{% endautoescape %}",
        "{{ nothing }}",
        "{{ x.__class__ }}",
        "{{ x | attr('__class__') }}",
        "{% include 'x' %}",
        "{{ x",
        "{{ 1 / 0 }}",
        "x" * 200_001,
    ],
)
def test_what_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        render(text, {"x": "<b>"}, str, html=True, most=1_000)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{{ x }}", "&lt;b&gt;"),
        ("{{ x ~ '<i>' }}", "&lt;b&gt;&lt;i&gt;"),
        ("{{ [x, 1] | join('<br>') }}", "&lt;b&gt;&lt;br&gt;1"),
        ("{{ x | replace('b', 'i') | upper }}", "&lt;I&gt;"),
        ("{% set y %}<p>{{ x }}</p>{% endset %}{{ y }}", "<p>&lt;b&gt;</p>"),
        ("{% macro f(t) %}<p>{{ t }}</p>{% endmacro %}{{ f(x) }}", "<p>&lt;b&gt;</p>"),
        ("{% filter upper %}a{{ x }}{% endfilter %}", "A&LT;B&GT;"),
        ("{{ '%.1f' | format(2.25) }} {{ 2 * 3 + 2 ** 3 % 5 }}", "2.2 9"),
        ("{% for i in rows if i.n > 1 %}{{ loop.index }}{{ i.n }}{% else %}none{% endfor %}", "1223"),
        ("{{ rows | map(attribute='n') | select('odd') | list }}", "[1, 3]"),
        (
            "{{ ['<', 1, none] }} {{ {'a': [true]} | tojson }}",
            '[&#39;&lt;&#39;, 1, None] {"a": [true]}',
        ),
        ("{{ '-' * 3 ~ x[1:2] }}{{ 'a\nb' | indent(2) }}", "---ba\n  b"),
        ("{{ rows | join('-', attribute='n') }}{{ rows | map(attribute='n') | join }}", "1-2-3123"),
        ("{{ rows | sum(attribute='n') }}{{ x | indent }}{{ 7 | round(1) }}", "6&lt;b&gt;7"),
        ("{{ 'a b'.split() | length }}{{ x.startswith('<') }}", "2True"),
    ],
)
def test_what_is_written(text: str, said: str) -> None:
    values = {"x": "<b>", "rows": [{"n": 1}, {"n": 2}, {"n": 3}]}
    check(text)
    assert render(text, values, str, html=True, most=1_000) == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a \t b", "a \t b"),
        ("a \n\n \r\n b", "a b"),
        ("\n a\u2028b \x85", " a b "),
        (" \n ", " "),
        ("", ""),
    ],
)
def test_a_text_is_put_on_one_line(text: str, said: str) -> None:
    assert on_one_line(text) == said


def test_long_blanks_are_put_on_one_line_at_once() -> None:
    began = time.process_time()
    blanks = " " * 200_000
    assert on_one_line(f"a{blanks}b") == f"a{blanks}b"
    assert on_one_line(f"a{blanks}b\n{blanks}c") == f"a{blanks}b c"
    assert on_one_line(f"a{blanks * 5}\nb") == "a b"
    assert time.process_time() - began < 2
