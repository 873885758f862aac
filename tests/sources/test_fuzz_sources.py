"""Damaged records between good ones: bench/fuzz_sources.py with a kept seed, and hypothesis.

TRAILHAWK_FUZZ sets the number of inputs a source (`make test-long` takes 5,000).
"""

import dataclasses
import datetime as dt
import io
import json
import os
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.programs import program
from trailhawk.sources import SOURCES, Unpacked, known_by
from trailhawk.sources.moments import clf, moment

INPUTS = int(os.environ.get("TRAILHAWK_FUZZ", "300"))
SEED = 20260301


FUZZ = program("bench/fuzz_sources.py")
BY_NAME = {source.name: source for source in SOURCES}
SLOW = settings(max_examples=max(50, INPUTS // 10), deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.fuzz
@pytest.mark.parametrize("name", FUZZ.CASES)
def test_damage_costs_only_the_damaged_record(name: str) -> None:
    counts = FUZZ.run(name, inputs=INPUTS, seed=SEED)
    assert counts.inputs == INPUTS
    assert counts.records == counts.rows + counts.bad
    assert counts.rows > counts.inputs or FUZZ.CASES[name].of_a_piece, "most good neighbours are rows"


def test_every_source_is_fuzzed() -> None:
    assert {case.source.name for case in FUZZ.CASES.values()} == set(BY_NAME)


@pytest.mark.parametrize("name", FUZZ.CASES)
def test_a_form_is_its_sources_and_nobody_elses(name: str) -> None:
    """The first source that knows an object is its own, and the tables' sources know no log but theirs."""
    case = FUZZ.CASES[name]
    data = case.wrap([case.before, case.victim, case.after])
    head, _ = known_by(iter(Unpacked(io.BytesIO(data))))
    known = [source.name for source in SOURCES if source.recognises(case.path, head)]
    assert known[:1] in ([case.source.name], []), "some are told by more than a few records"
    made = ("sentinel-", "athena-", "elastic-", "cloudtrail-history")
    assert [other for other in known[1:] if other.startswith(made)] == []


@pytest.mark.parametrize("name", FUZZ.CASES)
def test_what_is_undamaged_is_rows(name: str) -> None:
    case, fuzz = FUZZ.CASES[name], FUZZ.Fuzz(FUZZ.CASES[name])
    fuzz.check([(case.wrap([case.before, case.victim, case.after]), not case.of_a_piece)])
    assert (fuzz.rows, fuzz.bad) == (fuzz.records, 0)
    assert fuzz.rows >= 3


def test_of_inputs_that_are_made_rows_together_the_one_at_fault_is_told() -> None:
    case = FUZZ.CASES["route53"]
    fuzz = FUZZ.Fuzz(dataclasses.replace(case, kept=("a.example.", "b.example.")), at_once=2)
    fuzz.one(b"first")
    with pytest.raises(FUZZ.FuzzError, match="is lost") as told:
        fuzz.one(b"second")
    assert "first" in told.value.__notes__[0]
    assert "second" not in told.value.__notes__[0]


@pytest.mark.fuzz
@SLOW
@given(st.sampled_from(sorted(FUZZ.CASES)), st.binary(max_size=300))
def test_any_bytes_between_good_records(name: str, data: bytes) -> None:
    fuzz = FUZZ.Fuzz(FUZZ.CASES[name])
    case = FUZZ.CASES[name]
    # Some bytes open a string, a list or a header that has a claim to what follows them: only the line logs
    # have a mark where the next record must start.
    fuzz.check([(case.wrap([case.before, data, case.after]), False)])


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.fuzz
@SLOW
@given(
    st.sampled_from(sorted(name for name in FUZZ.CASES if FUZZ.CASES[name].victim.startswith(b'{"'))),
    st.data(),
)
def test_any_value_in_any_member(name: str, data: st.DataObject) -> None:
    """A record of the right names with any values is a row or a bad one, and its neighbours are rows."""
    case = FUZZ.CASES[name]
    record = json.loads(case.victim)
    for member in data.draw(st.lists(st.sampled_from(sorted(record)), unique=True)):
        record[member] = data.draw(_JSON)
    FUZZ.Fuzz(case).one(json.dumps(record).encode())


@pytest.mark.fuzz
@SLOW
@given(st.sampled_from(["vpcflow", "s3access", "proxy", "alb", "nlb"]), st.data())
def test_any_text_in_any_field(name: str, data: st.DataObject) -> None:
    case = FUZZ.CASES[name]
    words = case.victim.decode().split(" ")
    text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"), max_size=12)
    for place in data.draw(st.lists(st.integers(0, len(words) - 1), max_size=4)):
        words[place] = data.draw(text)
    FUZZ.Fuzz(case).one(" ".join(words).encode())


@given(st.datetimes(dt.datetime(1970, 1, 1, 0, 0, 1), dt.datetime(2199, 12, 31)), st.timezones())
def test_a_time_is_read_as_it_was_written(at: dt.datetime, zone: Any) -> None:
    local = at.replace(tzinfo=dt.UTC).astimezone(zone)
    if not local.utcoffset() or local.utcoffset().seconds % 60 == 0:  # type: ignore[union-attr]
        micros = (at - dt.datetime(1970, 1, 1)) // dt.timedelta(microseconds=1)
        assert moment(local.isoformat()) == micros
        assert clf(local.strftime("%d/%b/%Y:%H:%M:%S %z")) == micros // 1_000_000 * 1_000_000


@given(st.text() | st.floats() | st.integers() | st.none() | st.booleans() | st.lists(st.integers()))
def test_any_value_is_a_time_or_none(value: object) -> None:
    found = moment(value)
    assert found is None or 0 <= found < 7_258_118_400_000_000
    if isinstance(value, str):
        clf(value)
