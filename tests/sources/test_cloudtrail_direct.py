"""The fast road and the careful road give the same row for any record that both can read."""

import json
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trailhawk.native.records import joined
from trailhawk.sources.cloudtrail import TABLE, CloudTrail, _layout, _reader
from trailhawk.sources.direct import Direct
from trailhawk.sources.framing import LEAST_CUT

SOURCE = CloudTrail()
pytestmark = pytest.mark.usefixtures("compiled")

_WORDS = st.sampled_from(
    ["", "a", "GetObject", "AuthorizeSecurityGroupIngress", 'q"\\', "käse 😀", "a/b", "\t", "null"]
)
_TEXT = _WORDS | st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
_TIMES = st.sampled_from(
    [
        "2026-03-01T09:30:00Z",
        "2026-03-01T09:30:00.250Z",
        "2026-02-30T00:00:00Z",
        "2026-03-01 09:30:00",
        "1969-12-31T23:59:59Z",
    ]
)
_NUMBERS = (
    st.sampled_from([0, 1.5, -0.0, 89.0, 12345678901234567890, 1e100, 0.001, 1e15, 100.25, -0.5])
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.decimals(-1000, 1000, places=4).map(float)
)
_ODD = st.none() | st.booleans() | _NUMBERS | _TEXT
_JSON = st.recursive(
    _ODD, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3), max_leaves=6
)
_PARAMETERS = st.dictionaries(
    st.sampled_from(["bucketName", "key", "roleArn", "x-amz-copy-source", "other"]), _JSON, max_size=4
)


def _mostly(usual: st.SearchStrategy[Any], odd: st.SearchStrategy[Any] = _ODD) -> st.SearchStrategy[Any]:
    return st.one_of(usual, usual, usual, odd)


_IDENTITY = st.fixed_dictionaries(
    {},
    optional={
        "type": _mostly(_TEXT),
        "arn": _mostly(_TEXT),
        "accessKeyId": _mostly(_TEXT),
        "inScopeOf": _JSON,
        "sessionContext": _mostly(
            st.fixed_dictionaries(
                {},
                optional={
                    "sessionIssuer": _mostly(
                        st.fixed_dictionaries({}, optional={"arn": _mostly(_TEXT), "x": _JSON})
                    ),
                    "attributes": st.fixed_dictionaries(
                        {},
                        optional={
                            "creationDate": _mostly(_TIMES),
                            "mfaAuthenticated": _mostly(st.sampled_from(["true", "false", "True"])),
                        },
                    ),
                    "ec2RoleDelivery": _mostly(_TEXT),
                    "sourceIdentity": _JSON,
                },
            )
        ),
    },
)
_RECORD = st.fixed_dictionaries(
    {"eventTime": _mostly(_TIMES)},
    optional={
        "eventID": _mostly(_TEXT),
        "recipientAccountId": _mostly(_TEXT),
        "eventName": _mostly(_TEXT),
        "eventVersion": _mostly(st.just("1.11"), _NUMBERS),
        "readOnly": _mostly(st.booleans()),
        "managementEvent": _mostly(st.booleans()),
        "errorCode": _mostly(_TEXT),
        "userIdentity": _mostly(_IDENTITY),
        "tlsDetails": _mostly(
            st.fixed_dictionaries({}, optional={"tlsVersion": _TEXT, "keyExchange": _TEXT})
        ),
        "requestParameters": _mostly(_PARAMETERS, _JSON),
        "responseElements": _mostly(st.none(), _JSON),
        "additionalEventData": _mostly(st.dictionaries(st.sampled_from(["bytesTransferredOut", "x"]), _JSON)),
        "resources": _JSON,
        "addendum": _JSON,
        "sessionCredentialFromConsole": _JSON,
        "insightDetails": _JSON,
        "unheardOf": _JSON,
        "@timestamp": _mostly(st.just(1772357400)),
    },
)


def _rows(table: pa.Table) -> list[dict[str, object]]:
    names = sorted(table.column_names)
    rows: list[dict[str, object]] = table.select(names).to_pylist()
    return rows


@settings(max_examples=60, deadline=None)
@given(st.lists(_RECORD, min_size=1, max_size=12), st.booleans(), st.sampled_from([None, 1]))
def test_both_roads_give_the_same_rows(
    records: list[dict[str, object]], ascii_only: bool, indent: int | None
) -> None:
    texts = [json.dumps(record, ensure_ascii=ascii_only, indent=indent).encode() for record in records]
    mapped = SOURCE._direct().rows(texts)
    careful = SOURCE._careful(texts)
    assert set(mapped.kept) <= set(careful.kept)
    assert sorted([*mapped.kept, *mapped.left]) == list(range(len(texts)))
    both = dict(zip(careful.kept, _rows(careful.table), strict=True))
    fast = _rows(mapped.table) if mapped.table is not None else []
    assert fast == [both[place] for place in mapped.kept]
    together = SOURCE.rows(texts)
    assert list(together.kept) == sorted(careful.kept)
    assert _rows(together.table) == _rows(careful.table)
    assert sorted(together.bad) == sorted(careful.bad)
    whole = b'{"Records":[' + b",".join(texts) + b" " * LEAST_CUT + b"]}"
    cut = [chunk.records for chunk in SOURCE.chunks(iter([whole]))]
    assert [record for records in cut for record in records] == texts
    read = SOURCE.rows(joined(cut))
    assert _rows(read.table) == _rows(careful.table)
    assert sorted(read.bad) == sorted(careful.bad)


USUAL = {
    "eventVersion": "1.11",
    "userIdentity": {"type": "AssumedRole", "sessionContext": {"attributes": {"mfaAuthenticated": "false"}}},
    "eventTime": "2026-03-01T09:30:00Z",
    "eventName": "GetObject",
    "requestParameters": {"bucketName": "b", "n": 1.10},
    "responseElements": None,
    "readOnly": True,
    "eventID": "1",
    "recipientAccountId": "111122223333",
}


def test_usual_records_take_the_fast_road() -> None:
    console = USUAL | {"sessionCredentialFromConsole": "true", "tlsDetails": {"keyExchange": "x25519"}}
    mapped = SOURCE._direct().rows([json.dumps(record).encode() for record in (USUAL, console)])
    assert (mapped.kept, mapped.left) == ([0, 1], [])
    assert mapped.table is not None
    for name in ("EventName", "UserIdentityType", "CipherSuite", "AWSRegion", "DestinationPort"):
        assert pa.types.is_dictionary(mapped.table.schema.field(name).type), name
    stored = {column.name for column in TABLE.stored} | {path.hidden for path in TABLE.promoted}
    assert stored <= set(mapped.table.column_names)


def test_usual_records_need_no_duckdb() -> None:
    def connect() -> duckdb.DuckDBPyConnection:
        raise AssertionError

    direct = Direct(_layout(), _reader(), connect)
    assert direct.rows([json.dumps(USUAL).encode()]).kept == [0]
    doubtful = USUAL | {"requestParameters": {"bucketName": ["b"]}}
    with pytest.raises(AssertionError):
        direct.rows([json.dumps(doubtful).encode()])


@pytest.mark.parametrize("member", ["addendum", "requestParameters"])
def test_numbers_beyond_doubles_are_refused_alone(member: str) -> None:
    usual = json.dumps(USUAL).encode()
    beyond = b'{"eventTime":"2026-03-01T09:30:00Z","eventID":"1","%b":{"n":[1e999]}}' % member.encode()
    rows = SOURCE.rows([usual, beyond, usual])
    assert list(rows.kept) == [0, 2]
    assert [place for place, _ in rows.bad] == [1]


@pytest.mark.parametrize(
    "identity", ['{"type":"Root","type":"IAMUser"}', '{"type":"Root","sessionContext":{"a":1,"a":2}}']
)
def test_of_members_with_one_name_the_careful_road_takes_one(identity: str) -> None:
    usual = json.dumps(USUAL).encode()
    doubled = b'{"eventTime":"2026-03-01T09:30:00Z","eventID":"1","userIdentity":%b}' % identity.encode()
    mapped = SOURCE._direct().rows([usual, doubled])
    assert (mapped.kept, mapped.left) == ([0], [1])


@pytest.mark.parametrize(
    "changes",
    [
        {"eventName": "AuthorizeSecurityGroupIngress"},
        {"readOnly": "true"},
        {"eventVersion": 1.11},
        {"eventTime": 1772357400},
        {"unheardOf": 1},
        {"userIdentity": "anonymous"},
        {"insightDetails": {}},
    ],
)
def test_unusual_records_are_left_to_the_careful_road(changes: dict[str, object]) -> None:
    texts = [json.dumps(record).encode() for record in (USUAL, USUAL | changes, USUAL)]
    mapped = SOURCE._direct().rows(texts)
    assert (mapped.kept, mapped.left) == ([0, 2], [1])
    assert list(SOURCE.rows(texts).kept) == [0, 1, 2]


@pytest.mark.parametrize("member", ["vpcEndpointAccountId", "requestParameters", "userIdentity"])
def test_text_that_is_not_utf8_is_told_of_its_record_alone(member: str) -> None:
    good = b'{"eventTime":"2026-03-01T09:30:00Z","eventID":"a","recipientAccountId":"1"}'
    bad = good[:-1] + b',"%s":{"arn":"\xff\xfe"}}' % member.encode()
    made = SOURCE.rows([good, bad, good])
    assert list(made.kept) == [0, 2]
    assert [place for place, _ in made.bad] == [1]


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        (b'{"a" :1}', '{"a":1}'),
        (b'{"a"\t\r\n : [1 , 2 ] }', '{"a":[1,2]}'),
        (b'[{"a":"b c, d : e"} ]', '[{"a":"b c, d : e"}]'),
        (b'{"a":"b c, d"}', '{"a":"b c, d"}'),
        (b'{"a":"\\u00e9\\/"}', '{"a":"\u00e9/"}'),
        (b"[ ]", "[]"),
        (b"null", ""),
        (b'"as"', '"as"'),
        (b"1234", "1234"),
    ],
)
def test_blanks_outside_of_strings_are_left_out(written: bytes, stored: str) -> None:
    text = b'{"eventTime":"2026-03-01T09:30:00Z","eventID":"a","recipientAccountId":"1"%s}'
    plain = text % b""
    made = SOURCE.rows([plain, text % (b',"requestParameters":' + written), plain])
    assert made.table["RequestParameters"].to_pylist() == ["", stored, ""]
