"""Records are cut and read as a parser of JSON reads them, or not at all."""

from __future__ import annotations

import ctypes
import json
from random import Random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trailhawk.native.kernel import SWITCH
from trailhawk.native.records import (
    Found,
    Joined,
    Paths,
    Reader,
    Records,
    Strings,
    Want,
    hashes,
    joined,
    used,
)
from trailhawk.sources.json_text import hashed

pytestmark = pytest.mark.usefixtures("compiled")

MEMBERS = [("time", Want.TIME), ("text", Want.TEXT), ("flag", Want.FLAG), ("any", Want.ANY)]
READER = Reader(MEMBERS, ["text", "any"])
TIME = '"time":"2026-03-01T09:30:00Z"'
LIST = '{"Records":['

_LEAF = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False, width=16)
    | st.text()
)
_ANY = st.recursive(
    _LEAF, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)
_RECORD = st.fixed_dictionaries(
    {"time": st.just("2026-03-01T09:30:00Z")},
    optional={"text": st.none() | st.text(), "flag": st.none() | st.booleans(), "any": _ANY},
)


def cut(text: str) -> Records | None:
    return READER.cut(text.encode(errors="surrogatepass"), len(LIST))


def values(records: list[bytes] | Joined) -> list[dict[str, object]]:
    """What was found of usual records, as Python has it."""
    found = READER.read(records)
    assert found is not None
    assert found.hashes.tolist() == [hashed(records[place]) for place in found.records.tolist()]
    members = READER.by_name(found)
    texts = members["text"].strings().array().to_pylist()
    flags = members["flag"].flags().to_pylist()
    any_ = [members["any"].bytes_at(row) for row in range(len(found))]
    for name in ("text", "any"):
        slices = members[name]
        first = [slices.bytes_at(row) for row in slices.firsts[slices.numbers].tolist()]
        assert first == [slices.bytes_at(row) for row in range(len(found))]
        assert len(set(first)) == len(slices.firsts)
    rows = zip(found.records.tolist(), texts, flags, any_, strict=True)
    return [
        {"place": place, "text": text, "flag": flag, "any": json.loads(value or b"null")}
        for place, text, flag, value in rows
    ]


@given(st.lists(_RECORD, min_size=1, max_size=6), st.booleans(), st.sampled_from([None, 1]))
def test_what_it_finds_is_what_a_parser_finds(
    records: list[dict[str, object]], ascii_only: bool, indent: int | None
) -> None:
    texts = [json.dumps(record, ensure_ascii=ascii_only, indent=indent) for record in records]
    expected = [
        {
            "place": place,
            "text": record.get("text") or "",
            "flag": record.get("flag"),
            "any": record.get("any"),
        }
        for place, record in enumerate(records)
    ]
    assert values([text.encode() for text in texts]) == expected
    whole = cut(LIST + ",".join(texts) + "]}")
    assert whole is not None
    assert list(whole) == [text.encode() for text in texts]
    assert whole.size == sum(len(text.encode()) for text in texts)
    runs = joined([whole, whole])
    assert isinstance(runs, Joined)
    assert list(runs) == [*whole, *whole]
    mixed = joined([list(whole), [], list(whole), whole, list(whole)])
    assert isinstance(mixed, Joined)
    assert list(mixed) == [*whole] * 4
    assert values(mixed) == [each | {"place": place} for place, each in enumerate(expected * 4)]
    again = [each | {"place": place} for place, each in enumerate([*expected, *expected])]
    assert values(runs) == again


@pytest.mark.parametrize(
    ("record", "is_usual"),
    [
        ("{%s}", True),
        ('{ %s , "any" : [ 1 , {"a":-0.5e+7} ] }', True),
        ('{%s,"text":"\\ud83d\\ude00"}', True),
        ('{%s,"text":"\ud800"}', False),
        ('{%s,"text":1}', False),
        ('{%s,"flag":"true"}', False),
        ('{%s,"text":"a","text":"b"}', False),
        ('{%s,"t\\u0065xt":"a"}', False),
        ('{%s,"unheard":1}', False),
        ('{"any":1}', False),
        ('{"time":"2026-02-29T00:00:00Z"}', False),
        ('{"time":"2026-03-01T24:00:00Z"}', False),
        ('{"time":"2026-03-01T00:00:00.0Z"}', False),
        ('{"time":null}', False),
        ("{}", False),
    ],
)
def test_other_records_are_cut_and_left(record: str, is_usual: bool) -> None:
    text = record.replace("%s", TIME)
    found = cut(f"{LIST}{{{TIME}}},{text},{{{TIME}}}]}}")
    assert found is not None
    assert found[1] == text.encode(errors="surrogatepass")
    assert found.found.records.tolist() == ([0, 1, 2] if is_usual else [0, 2])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "]}",
        "{%s}",
        "{%s}]",
        "{%s}]}}",
        '{%s}],"more":1}',
        "{%s},]}",
        "{%s},1]}",
        "{%s} {%s}]}",
        "{%s,}]}",
        '{%s,"any":01}]}',
        '{%s,"any":1.}]}',
        '{%s,"any":.5}]}',
        '{%s,"any":+1}]}',
        '{%s,"any":tru}]}',
        '{%s,"any":[1,]}]}',
        '{%s,"any":{"a"}}]}',
        '{%s,"any":"\t"}]}',
        '{%s,"any":"\\x"}]}',
        '{%s,"any":"\\u12g4"}]}',
        '{%s,"any":"\\ud83d"}]}',
        '{%s,"any":1e999}]}',
        '{%s,"any":[' + "9" * 400 + "]}]}",
        '{%s,"any":"\\ude00\\ud83d"}]}',
        '{%s,"any":"}]}',
        '{%s,"any":\0}]}',
        '{%s,"any":' + "[" * 65 + "]" * 65 + "}]}",
        "{%s}]}" + "\0",
    ],
)
def test_what_is_damaged_is_not_cut(text: str) -> None:
    assert cut(LIST + text.replace("%s", TIME)) is None


def test_times_are_those_of_the_calendar() -> None:
    times = ["1970-01-01T00:00:00Z", "2000-02-29T23:59:59Z", "2100-03-01T00:00:00Z", "2200-12-31T12:00:00Z"]
    found = READER.read([f'{{"time":"{time}"}}'.encode() for time in times])
    assert found is not None
    assert found.times.astype("datetime64[us]").astype("datetime64[s]").astype(str).tolist() == [
        time.removesuffix("Z") for time in times
    ]


def test_paths_are_those_of_a_parser() -> None:
    texts = ['{"a":{"b":"x\\"y","c":null},"d":12}', '{"a":"z","a":{"b":"no"}}', "[1]", "", '{"d":-7.0}']
    found, doubtful = Paths([["a", "b"], ["d"]]).read(Strings.of(texts))
    values = [each.strings().array(each.is_present).to_pylist() for each in found]
    assert values == [['x"y', None, None, None, None], ["12", None, None, None, "-7.0"]]
    assert not doubtful.any()


def test_paths_may_be_deep_and_have_long_names() -> None:
    paths = [["a", "b", "c", "d", "e", "f"], ["a", "n" * 31], ["n" * 31], ["n" * 32], ["n" * 300], [""]]
    for path in paths:
        text = '"found"'
        for step in reversed(path):
            text = f'{{"{step}x":1,"{step}":{text},"x{step}":2}}'
        values = [each.strings().array().to_pylist() for each in Paths(paths).read(Strings.of([text]))[0]]
        assert values == [["found" if each == path else ""] for each in paths]


@pytest.mark.parametrize("value", ["[]", '{"a":1}', "1.50", "1e3", "-0", "0.0001", "1" * 19, '"\\u0001"'])
def test_what_may_be_printed_otherwise_is_doubtful(value: str) -> None:
    _, doubtful = Paths([["d"]]).read(Strings.of([f'{{"d":{value}}}']))
    assert doubtful.tolist() == [True]


@pytest.mark.parametrize(
    ("value", "is_doubled"),
    [
        ('{"a":1,"b":{"a":[{},{"c":1}]}}', False),
        ('[ { "a" : 1 } , { "a" : 2 } ]', False),
        ('{"a":1,"a":2}', True),
        ('{"b":[{"a":{"c" : 1, "c":1}}]}', True),
        ('{"a":1,"\\u0061":2}', True),
        (json.dumps({str(name): 1 for name in range(70)}), True),
        ("null", False),
    ],
)
def test_doubled_names_are_seen(value: str, is_doubled: bool) -> None:
    found = READER.read([f'{{{TIME},"any":{value}}}'.encode()])
    assert found is not None
    assert READER.by_name(found)["any"].doubled().tolist() == [is_doubled]


def test_runs_of_several_readers_are_records_alone() -> None:
    one, other = (
        cut(f"{LIST}{{{TIME}}}]}}"),
        Reader(MEMBERS, []).cut(f"{LIST}{{{TIME}}}]}}".encode(), len(LIST)),
    )
    assert one is not None
    assert other is not None
    assert joined([one, other]) == [f"{{{TIME}}}".encode()] * 2
    assert joined([[b"1"], [b"2"]]) == [b"1", b"2"]
    assert joined([]) == []


def test_no_records_have_no_size() -> None:
    none = Records(READER, b"", Found(0, len(MEMBERS)), 0)
    assert (len(none), none.size, none.longest) == (0, 0, 0)


def test_hashes_of_texts_of_any_length() -> None:
    texts = [Random(size).randbytes(size) for size in (*range(1_100), 2_048, 2_049, 70_000)]
    found = hashes(pa.array([b"before", *texts], pa.binary())[1:])
    assert found.tolist() == [hashed(text) for text in texts]


@pytest.mark.parametrize("ends", [[-1, 3], [0, 8], [3, 0], [0, 7, 3], [2**31 - 1, 2**31 - 1]])
def test_texts_outside_of_the_buffer_are_not_hashed(compiled: ctypes.CDLL, ends: list[int]) -> None:
    found = np.empty(len(ends) - 1, np.uint64)
    with pytest.raises(ValueError, match="text_hashes"):
        compiled.text_hashes(np.zeros(7, np.uint8), 7, np.array(ends, np.int32), len(found), found)


@pytest.mark.parametrize("switch", ["on", "off"])
def test_values_that_no_code_names_are_told(switch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SWITCH, switch)
    codes = np.array([3, 1, 3, 3], np.int32)
    assert used(codes, 5).tolist() == [False, True, False, True, False]
    assert used(codes[:0], 2).tolist() == [False, False]


@pytest.mark.parametrize("switch", ["on", "off"])
@pytest.mark.parametrize("code", [-1, 2, 2**31 - 1])
def test_a_code_beyond_the_values_is_refused(code: int, switch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SWITCH, switch)
    with pytest.raises(ValueError, match="codes_used"):
        used(np.array([0, code], np.int32), 2)
