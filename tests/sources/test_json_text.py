import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trailhawk.sources.json_text import parsed, tidy

_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text('aé\\"/😀', max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("came", "kept"),
    [
        ('{"b" : 1.10, "a": [ 1, 2 ]}', '{"b":1.10,"a":[1,2]}'),
        (r'"caf\u00e9 \ud83d\ude00 \/ \u003c"', '"café 😀 / <"'),
        (r'"\u0022 \u005c \u000a \u0007 \\u00e9"', r'"\" \\ \n \u0007 \\u00e9"'),
        ("12345678901234567890123.000", "12345678901234567890123.000"),
        ('"a  b"', '"a  b"'),
    ],
)
def test_text_is_kept_but_for_blanks_and_escapes(came: str, kept: str) -> None:
    assert tidy(came) == kept


@given(_JSON, st.booleans(), st.sampled_from([None, 2]))
def test_tidying_keeps_the_value_and_all_spellings_agree(
    value: object, ascii_only: bool, indent: int
) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    assert json.loads(tidy(text)) == value
    assert tidy(text) == json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("\x7f", "\x7f")


@given(st.dictionaries(st.text("abc", min_size=1), _JSON), st.randoms())
def test_the_hash_sees_no_order_of_members(value: dict[str, object], random: object) -> None:
    turned = dict(reversed(value.items()))
    assert _hash(json.dumps(value).encode()) == _hash(
        json.dumps(turned, ensure_ascii=False, indent=1).encode()
    )


def _hash(text: bytes) -> int:
    return parsed(text)[1]


def test_the_hash_sees_the_order_of_a_list() -> None:
    assert parsed(b"[1,2]")[1] != parsed(b"[2,1]")[1]
