"""GuardDuty: every road and spelling gives the same row."""

import datetime as dt
import gzip
import json
from typing import Any

import pytest

from support.text import dump
from trailhawk.sources.guardduty import GUARDDUTY, camel

FINDING = {
    "schemaVersion": "2.0",
    "accountId": "1234567891234",
    "region": "eu-central-1",
    "partition": "aws",
    "id": "d6b1",
    "arn": "arn:aws:guardduty:eu-central-1:111122223333:detector/d1/finding/d6b1",
    "type": "UnauthorizedAccess:IAMUser/InstanceCredentialExfiltration.OutsideAWS",
    "resource": {
        "resourceType": "AccessKey",
        "accessKeyDetails": {"accessKeyId": "ASIAEXAMPLE", "userName": "waf", "userType": "Role"},
        "instanceDetails": {
            "instanceId": "i-0123456789abcdef0",
            "platform": None,
            "tags": [{"key": "Name", "value": "wäf 😀"}],
        },
    },
    "service": {
        "serviceName": "guardduty",
        "detectorId": "d1",
        "action": {
            "actionType": "AWS_API_CALL",
            "awsApiCallAction": {"api": "GetObject", "affectedResources": {"AWS::S3::Bucket": "cards"}},
        },
        "evidence": None,
        "additionalInfo": {"value": '{"a":1.10}', "type": "default"},
        "count": 1,
    },
    "severity": 8.5,
    "createdAt": "2026-03-01T09:00:00.000Z",
    "updatedAt": "2026-03-01T09:30:00.250Z",
    "title": "Credentials used from outside.",
    "description": "Credentials for the role waf are used from an address outside of AWS.",
}


def pascal(value: Any) -> Any:
    """As the SDKs spell it."""
    if isinstance(value, dict):
        return {
            (name if ":" in name else name[:1].upper() + name[1:]): pascal(item)
            for name, item in value.items()
        }
    return [pascal(item) for item in value] if isinstance(value, list) else value


def snake(value: Any) -> Any:
    """As other tools spell it."""
    if isinstance(value, dict):
        return {
            (name if ":" in name else "".join(f"_{c.lower()}" if c.isupper() else c for c in name)): snake(
                item
            )
            for name, item in value.items()
        }
    return [snake(item) for item in value] if isinstance(value, list) else value


def event(detail: object) -> dict[str, object]:
    return {"version": "0", "detail-type": "GuardDuty Finding", "source": "aws.guardduty", "detail": detail}


def test_a_finding_becomes_a_row(read: Any) -> None:
    (row,) = read(dump(FINDING)).rows
    expected = {
        "TimeGenerated": dt.datetime(2026, 3, 1, 9, 30, 0, 250000),
        "TimeCreated": dt.datetime(2026, 3, 1, 9),
        "AccountId": "1234567891234",
        "ActivityType": "UnauthorizedAccess:IAMUser/InstanceCredentialExfiltration.OutsideAWS",
        "Severity": 8,
        "SeverityScore": 8.5,
        "Title": "Credentials used from outside.",
        "_th_ServiceDetails_action_actionType": "AWS_API_CALL",
        "_th_ResourceDetails_instanceDetails_instanceId": "i-0123456789abcdef0",
    }
    assert {name: row[name] for name in expected} == expected
    assert json.loads(row["ResourceDetails"]) == FINDING["resource"]
    assert row["ServiceDetails"] == json.dumps(FINDING["service"], separators=(",", ":"), ensure_ascii=False)


@pytest.mark.parametrize(
    "data",
    [
        dump(FINDING) + b"\n" + dump(FINDING | {"id": "other"}) + b"\n",
        dump([FINDING, FINDING | {"id": "other"}]),
        dump({"findings": [FINDING, FINDING | {"id": "other"}]}),
        dump(event(FINDING)) + b"\n" + dump(event(FINDING | {"id": "other"})),
        dump(event(FINDING)) + dump(event(FINDING | {"id": "other"})),
        json.dumps(event(FINDING), indent=1).encode() + b"\r\n" + dump(FINDING | {"id": "other"}),
        dump(pascal(FINDING)) + b"\n" + dump(pascal(FINDING | {"id": "other"})),
        dump({"Findings": [pascal(FINDING), pascal(FINDING | {"id": "other"})]}),
        dump(event(pascal(FINDING))) + b"\n" + dump(event(pascal(FINDING | {"id": "other"}))),
        dump(snake(FINDING)) + b"\n" + dump(snake(FINDING | {"id": "other"})),
    ],
)
def test_every_road_and_spelling_gives_the_same_row(data: bytes, read: Any) -> None:
    (plain,) = read(dump(FINDING)).rows
    for packed in (data, gzip.compress(data), b"\xef\xbb\xbf" + data):
        found = read(packed)
        assert (found.source, found.reasons) == ("guardduty", [])
        assert [row["Id"] for row in found.rows] == ["d6b1", "other"]
        assert json.loads(found.rows[0].pop("ServiceDetails")) == FINDING["service"]
        assert {**found.rows[0], "ServiceDetails": plain["ServiceDetails"]} == plain


def test_the_same_finding_by_two_roads_is_one_record_and_an_update_is_another() -> None:
    again = FINDING | {"updatedAt": "2026-03-01T10:00:00.000Z"}
    made = GUARDDUTY.rows([dump(FINDING), dump(pascal(FINDING)), dump(again)]).table.to_pylist()
    assert made[0]["_th_id"] == made[1]["_th_id"]
    assert json.loads(made[0]["ServiceDetails"]) == json.loads(made[1]["ServiceDetails"])
    assert made[2]["_th_id"] != made[0]["_th_id"]


@pytest.mark.parametrize(
    ("severity", "whole", "score"),
    [(2, 2, 2.0), (6.9, 6, 6.9), (8.9, 8, 8.9), (9.5, 9, 9.5), ("5.0", None, 5.0), (None, None, None)],
)
def test_severity_keeps_its_band(severity: object, whole: int | None, score: float | None, read: Any) -> None:
    (row,) = read(dump(FINDING | {"severity": severity})).rows
    assert (row.get("Severity"), row.get("SeverityScore")) == (whole, score)


def test_times_as_seconds_are_read(read: Any) -> None:
    (row,) = read(dump(FINDING | {"createdAt": 1772355600.5, "updatedAt": 1772357400.25})).rows
    assert row["TimeCreated"] == dt.datetime(2026, 3, 1, 9, 0, 0, 500000)
    assert row["TimeGenerated"] == dt.datetime(2026, 3, 1, 9, 30, 0, 250000)


@pytest.mark.parametrize(
    "data", [b'{"findings":[]}', b'{"findings":[]}\n{"findings": []}\n', b'{"Findings":[]}']
)
def test_an_empty_answer_holds_nothing(data: bytes, read: Any) -> None:
    found = read(data)
    assert (found.source, found.records) == ("guardduty", 0)


def test_one_bad_finding_costs_only_itself(read: Any) -> None:
    timeless = {name: value for name, value in FINDING.items() if name not in ("updatedAt", "createdAt")}
    lines = [
        dump(FINDING),
        dump(FINDING)[:400],
        dump(timeless),
        dump(FINDING | {"updatedAt": "soon"}),
        dump(FINDING),
    ]
    found = read(b"\n".join(lines))
    assert len(found.rows) == 2
    assert found.reasons == ["record cut off or not JSON", "no updatedAt", "updatedAt is no time: 'soon'"]
    assert found.bad[0].start == len(lines[0]) + 1


def test_events_in_an_array_are_unwrapped_each(read: Any) -> None:
    found = read(dump([event(FINDING), event(pascal(FINDING)), {"findings": [FINDING]}, FINDING, 5, []]))
    assert (found.source, len(found.rows), len(found.bad)) == ("guardduty", 4, 2)


def test_what_has_no_column_is_kept(read: Any) -> None:
    (row,) = read(dump(FINDING | {"associatedAttackSequenceArn": "arn:x"})).rows
    assert json.loads(row["_th_rest"]) == {"associatedAttackSequenceArn": "arn:x"}


@pytest.mark.parametrize(
    ("spellings", "written"),
    [
        (("SourceIps", "source_ips"), "sourceIPs"),
        (("Latitude", "latitude"), "lat"),
        (("LoginAttributes", "login_attributes"), "LoginAttributes"),
        (("ProductType", "product_type"), "productCodeType"),
        (("TaskCreatedAt", "task_created_at"), "createdAt"),
        (("IpAddressV4", "ip_address_v4", "ipAddressV4"), "ipAddressV4"),
    ],
)
def test_names_that_guardduty_writes_otherwise(spellings: tuple[str, ...], written: str) -> None:
    assert {camel(name) for name in spellings} == {written}


SEQUENCE = FINDING | {
    "type": "AttackSequence:S3/CompromisedData",
    "resource": {"resourceType": "AttackSequence"},
    "severity": 9.5,
    "service": {
        "serviceName": "guardduty",
        "detectorId": "d1",
        "featureName": "Correlation",
        "detection": {
            "sequence": {
                "uid": "s1",
                "description": "A sequence of actions on data in S3.",
                "actors": [{"id": "a1", "user": {"name": "ann", "type": "IAMUser"}}],
                "endpoints": [{"id": "e1", "ip": "203.0.113.66", "location": {"city": "x"}}],
                "resources": [{"uid": "arn:aws:s3:::cards", "resourceType": "S3_BUCKET"}],
                "sequenceIndicators": [{"key": "ATTACK_TACTIC", "values": ["Exfiltration"]}],
                "signals": [
                    {"uid": "g1", "type": "FINDING", "severity": 8, "signalIndicators": []},
                    {"uid": "g2", "type": "S3_DATA_EVENTS", "count": 40, "actorIds": ["a1"]},
                ],
            }
        },
    },
}


@pytest.mark.parametrize("spelt", [lambda value: value, pascal, snake])
def test_an_attack_sequence_is_kept_whole(spelt: Any, read: Any) -> None:
    found = read(dump(event(spelt(SEQUENCE))))
    assert (found.source, found.reasons) == ("guardduty", [])
    (row,) = found.rows
    assert (row["ActivityType"], row["Severity"], row["SeverityScore"]) == (SEQUENCE["type"], 9, 9.5)
    assert row["_th_ResourceDetails_resourceType"] == "AttackSequence"
    assert json.loads(row["ServiceDetails"]) == SEQUENCE["service"]
    assert "_th_rest" not in row
