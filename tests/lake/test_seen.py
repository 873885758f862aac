import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from trailhawk.lake.seen import repeated

_RECORDS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2)), max_size=30)


@given(_RECORDS)
def test_repeats_and_conflicts_are_those_of_a_plain_loop(records: list[tuple[int, int]]) -> None:
    duplicate, conflict = repeated(
        np.array([identity for identity, _ in records], np.int64),
        np.array([payload for _, payload in records], np.int64),
    )
    met: dict[int, set[int]] = {}
    for place, (identity, payload) in enumerate(records):
        known = met.setdefault(identity, set())
        assert duplicate[place] == (payload in known)
        assert conflict[place] == (bool(known) and payload not in known)
        known.add(payload)
