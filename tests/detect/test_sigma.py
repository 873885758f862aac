"""Sigma rules taken in, and run over CloudTrail events: each must find the events it means and no other."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from trailhawk.cli import run
from trailhawk.detect.rule import Rule, Severity
from trailhawk.detect.sigma.fields import LOG_SOURCES
from trailhawk.errors import RuleError
from trailhawk.workspace import Workspace

pytest.importorskip("sigma.backends.kusto")

from trailhawk.detect.sigma.importing import MAX_BYTES, Outcome, State

NOW = datetime(2026, 3, 2, 9, 10, tzinfo=UTC)
CLOUDTRAIL = {"product": "aws", "service": "cloudtrail"}


def event(name: str, minute: int = 0, **members: object) -> dict[str, object]:
    """A CloudTrail record whose id is its name."""
    return {
        "eventVersion": "1.11",
        "eventID": name,
        "eventTime": f"2026-03-02T09:{minute:02}:00Z",
        "eventSource": "s3.amazonaws.com",
        "eventName": "GetObject",
        "awsRegion": "eu-central-1",
        "sourceIPAddress": "203.0.113.7",
        "userAgent": "[Boto3/1.34 md/Botocore]",
        "recipientAccountId": "111122223333",
        "requestParameters": None,
        "responseElements": None,
        "userIdentity": {
            "type": "IAMUser",
            "arn": "arn:aws:iam::111122223333:user/ann",
            "principalId": "AIDAANN",
            "accountId": "111122223333",
            "accessKeyId": "AKIAANN",
            "userName": "ann",
        },
    } | members


EVE = {
    "type": "AssumedRole",
    "arn": "arn:aws:sts::111122223333:assumed-role/web/i-1",
    "principalId": "AROAWEB:i-1",
    "accountId": "111122223333",
    "sessionContext": {
        "sessionIssuer": {"type": "Role", "arn": "arn:aws:iam::111122223333:role/web", "userName": "web"},
        "attributes": {"mfaAuthenticated": "false", "creationDate": "2026-03-02T08:00:00Z"},
    },
}
EVENTS = [
    event("read", requestParameters={"bucketName": "Payroll-2026", "key": "a/b c.csv", "count": 7}),
    event("read-web", 1, userIdentity=EVE, requestParameters={"bucketName": "payroll-old", "count": 70}),
    event(
        "stop", 2, eventSource="cloudtrail.amazonaws.com", eventName="StopLogging", errorCode="AccessDenied"
    ),
    event(
        "delete",
        3,
        eventSource="cloudtrail.amazonaws.com",
        eventName="DeleteTrail",
        sourceIPAddress="10.1.2.3",
    ),
    event(
        "service",
        4,
        eventName="PutObject",
        sourceIPAddress="config.amazonaws.com",
        userAgent="aws-internal/3",
    ),
    event(
        "six",
        5,
        eventName="PutObject",
        sourceIPAddress="2001:db8::17",
        userAgent='curl/8 "quoted" back\\slash',
    ),
    event(
        "login",
        6,
        eventSource="signin.amazonaws.com",
        eventName="ConsoleLogin",
        responseElements={"ConsoleLogin": "Success"},
        additionalEventData={"MFAUsed": "No"},
        readOnly=False,
    ),
    event(
        "open",
        7,
        eventSource="ec2.amazonaws.com",
        eventName="AuthorizeSecurityGroupIngress",
        requestParameters={
            "ipPermissions": {"items": [{"toPort": 22, "ipRanges": {"items": [{"cidrIp": "0.0.0.0/0"}]}}]}
        },
    ),
]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    home = tmp_path_factory.mktemp("sigma")
    log = home / "log.json"
    log.write_text(json.dumps({"Records": EVENTS}))
    workspace = Workspace.open(home, clock=lambda: NOW)
    workspace.ingest([log])
    return workspace


def take(workspace: Workspace, folder: Path, *rules: object, name: str = "rule.yml") -> list[Outcome]:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("---\n".join(each if isinstance(each, str) else yaml.safe_dump(each) for each in rules))
    return workspace.content.import_sigma([folder])


def sigma(detection: object, **members: object) -> dict[str, object]:
    return {"title": "A rule", "logsource": CLOUDTRAIL, "detection": detection} | members


def ids(workspace: Workspace, rule: Rule, now: datetime = NOW) -> set[str]:
    """The ids of the events that a rule's results rest on."""
    return {one for row in workspace.query(rule.query, now=now).rows() for one in row["EventIds"]}  # type: ignore[attr-defined]


ALL = {str(each["eventID"]) for each in EVENTS}
CASES: dict[str, tuple[object, set[str]]] = {
    "a value, case aside": ({"eventName": "getobject"}, {"read", "read-web"}),
    "a list of values": ({"eventName": ["StopLogging", "DeleteTrail"]}, {"stop", "delete"}),
    "values and wildcards": (
        {"eventName": ["StopLogging", "Delete*", "*Login"]},
        {"stop", "delete", "login"},
    ),
    "startswith": ({"requestParameters.bucketName|startswith": "payroll"}, {"read", "read-web"}),
    "endswith": ({"requestParameters.bucketName|endswith": ["-2026", "-x"]}, {"read"}),
    "contains all": ({"userAgent|contains|all": ["boto3", "botocore"]}, ALL - {"service", "six"}),
    "contains all, one lacks": ({"userAgent|contains|all": ["boto3", "curl"]}, set()),
    "a wildcard inside": ({"requestParameters.bucketName": "pay*2026"}, {"read"}),
    "wildcards inside a list": ({"eventName": ["Stop*ing", "Get?bject"]}, {"stop", "read", "read-web"}),
    "a single wildcard is one letter": ({"eventName": "StopLoggin?"}, {"stop"}),
    "a wildcard inside, in order": ({"eventName": "Logging*Stop"}, set()),
    "an escaped wildcard": ({"userAgent|contains": "\\*"}, set()),
    "quotes and backslashes": ({"userAgent|contains": 'd" back\\slash'}, {"six"}),
    "re": ({"eventName|re": "^(Stop|Delete)[A-Z]"}, {"stop", "delete"}),
    "re minds case": ({"eventName|re": "^stop"}, set()),
    "re with a flag": ({"eventName|re|i": "^stop"}, {"stop"}),
    "cased": ({"requestParameters.bucketName|cased": "payroll-2026"}, set()),
    "cased startswith": ({"requestParameters.bucketName|startswith|cased": "Pay"}, {"read"}),
    "cidr": ({"sourceIPAddress|cidr": "10.0.0.0/8"}, {"delete"}),
    "cidr of IPv6": ({"sourceIPAddress|cidr": ["2001:db8::/32", "10.0.0.0/8"]}, {"delete", "six"}),
    "exists": ({"requestParameters.bucketName|exists": True}, {"read", "read-web"}),
    "exists not": ({"eventName": "PutObject", "errorCode|exists": False}, {"service", "six"}),
    "null": ({"eventSource": "cloudtrail.amazonaws.com", "errorCode": None}, {"delete"}),
    "null or a value": (
        {"eventSource": "cloudtrail.amazonaws.com", "errorCode": [None, "AccessDenied"]},
        {"stop", "delete"},
    ),
    "empty": ({"eventSource": "cloudtrail.amazonaws.com", "errorCode": ""}, {"delete"}),
    "anything": ({"errorCode": "*"}, {"stop"}),
    "a number": ({"requestParameters.count": 7}, {"read"}),
    "greater": ({"requestParameters.count|gt": 8}, {"read-web"}),
    "at most": ({"requestParameters.count|lte": 7}, {"read"}),
    "a boolean of JSON": ({"readOnly": False}, {"login"}),
    "a boolean written as text": (
        {"userIdentity.sessionContext.attributes.mfaAuthenticated": "false"},
        {"read-web"},
    ),
    "a field with blanks": ({"requestParameters.key|contains": "b c"}, {"read"}),
    "a whole document": ({"requestParameters|contains": "payroll"}, {"read", "read-web"}),
    "a place in an array": (
        {"requestParameters.ipPermissions.items[0].ipRanges.items.0.cidrIp": "0.0.0.0/0"},
        {"open"},
    ),
    "issuer": (
        {"userIdentity.sessionContext.sessionIssuer.type": "Role", "userIdentity.type": "AssumedRole"},
        {"read-web"},
    ),
    "response and additional": (
        {"responseElements.ConsoleLogin": "Success", "additionalEventData.MFAUsed": "No"},
        {"login"},
    ),
    "fieldref": ({"userIdentity.userName|fieldref": "userIdentity.principalId"}, set()),
    "fieldref within": ({"userIdentity.arn|fieldref|endswith": "userIdentity.userName"}, ALL - {"read-web"}),
    "alternatives of maps": (
        [{"eventName": "StopLogging"}, {"errorCode": None, "eventName": "DeleteTrail"}],
        {"stop", "delete"},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_selection_finds_its_events(workspace: Workspace, tmp_path: Path, case: str) -> None:
    selection, expected = CASES[case]
    (taken,) = take(workspace, tmp_path, sigma({"selection": selection, "condition": "selection"}))
    assert taken.rule is not None, taken.reason
    assert ids(workspace, taken.rule) == expected


HOSTILE = (
    '") or true or ("',
    "' | take 10 //",
    "a\\",
    "\\",
    'a"b',
    "line\nbreak\tand tab",
    "$(x) `y` {z} {{z}} [0]",
    "*?",
    "\\*",
    "%s %d {0}",
    "ünïcödé \U0001f600 \u202e",
    "a" * 2000,
)


def escaped(text: str) -> str:
    """A text as Sigma writes it where nothing in it is a wildcard."""
    return text.replace("\\", "\\\\").replace("*", "\\*").replace("?", "\\?")


def test_hostile_values_are_values(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path / "home", clock=lambda: NOW)
    events = [
        event(str(n), requestParameters={"key": text, "items": [text]}) for n, text in enumerate(HOSTILE)
    ]
    log = tmp_path / "log.json"
    log.write_text(json.dumps({"Records": events}))
    workspace.ingest([log])
    for field in ("requestParameters.key|cased", "requestParameters.items|cased"):
        rules = [sigma({"s": {field: escaped(text)}, "condition": "s"}) for text in HOSTILE]
        for n, taken in enumerate(take(workspace, tmp_path / "rules", *rules)):
            assert taken.rule is not None, taken.reason
            assert ids(workspace, taken.rule) == {str(n)}, HOSTILE[n]


@pytest.mark.parametrize(
    "field", ['a"]) or true //', "requestParameters.a\\", "requestParameters.a\nb", "requestParameters.*"]
)
def test_hostile_fields_are_fields(workspace: Workspace, tmp_path: Path, field: str) -> None:
    (found,) = take(workspace, tmp_path, sigma({"s": {field: "x"}, "condition": "s"}))
    if found.rule is not None:
        assert ids(workspace, found.rule) == set()
    else:
        assert "has no column for it" in found.reason or "no Sigma rule" in found.reason


LISTS: dict[str, tuple[object, bool]] = {
    "equal, two lists deep": (
        {"requestParameters.ipPermissions.items.ipRanges.items.cidrIp": "0.0.0.0/0"},
        True,
    ),
    "one of": ({"requestParameters.ipPermissions.items.ipRanges.items.cidrIp": ["::/0", "0.0.0.0/0"]}, True),
    "part of a value": ({"requestParameters.ipPermissions.items.ipRanges.items.cidrIp": "0.0.0.0"}, False),
    "starts": ({"requestParameters.ipPermissions.items.ipRanges.items.cidrIp|startswith": "10.1"}, True),
    "starts within": (
        {"requestParameters.ipPermissions.items.ipRanges.items.cidrIp|startswith": "1.0"},
        False,
    ),
    "ends": ({"requestParameters.ipPermissions.items.ipRanges.items.cidrIp|endswith": ".0/16"}, True),
    "wildcards": ({"requestParameters.ipPermissions.items.ipRanges.items.cidrIp": "10.*/16"}, True),
    "a number": ({"requestParameters.ipPermissions.items.toPort": 22}, True),
    "part of a number": ({"requestParameters.ipPermissions.items.toPort": 2}, False),
    "in a list of a list": ({"requestParameters.containerDefinitions.command|contains": "$AWS_X"}, True),
    "quotes within": ({"requestParameters.containerDefinitions.command|contains": 'say "hi"'}, True),
    "all of": ({"requestParameters.containerDefinitions.command|contains|all": ["curl", "nothing"]}, False),
    "a list of texts": (
        {"requestParameters.policyArns": "ARN:aws:iam::aws:policy/AdministratorAccess"},
        True,
    ),
    "cased": ({"requestParameters.policyArns|cased": "ARN:aws:iam::aws:policy/AdministratorAccess"}, False),
    "re": ({"requestParameters.policyArns|re": "policy/Admin[a-z]+"}, True),
    "exists": ({"requestParameters.ipPermissions.items.ipRanges.items.cidrIp|exists": True}, True),
    "exists not": ({"requestParameters.ipPermissions.items.groups.items.groupId|exists": False}, True),
    "null": ({"requestParameters.ipPermissions.items.ipRanges.items.cidrIp": None}, False),
    "a place in a list": ({"requestParameters.policyArns[0]|endswith": "/AdministratorAccess"}, True),
    "another place": ({"requestParameters.policyArns[1]|endswith": "/AdministratorAccess"}, False),
}


@pytest.fixture(scope="module")
def lists(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = Workspace.open(tmp_path_factory.mktemp("lists"), clock=lambda: NOW)
    ranges = [[{"cidrIp": "192.0.2.0/24"}], [{"cidrIp": "10.1.0.0/16"}, {"cidrIp": "0.0.0.0/0"}]]
    request = {
        "ipPermissions": {"items": [{"toPort": 22, "ipRanges": {"items": each}} for each in ranges]},
        "containerDefinitions": [{"name": "a"}, {"command": ["sh", "-c", 'curl $AWS_X; say "hi"']}],
        "policyArns": ["arn:aws:iam::aws:policy/AdministratorAccess", "arn:aws:iam::aws:policy/X"],
    }
    log = workspace.home / "log.json"
    log.write_text(json.dumps({"Records": [event("lists", requestParameters=request)]}))
    workspace.ingest([log])
    return workspace


@pytest.mark.parametrize("case", LISTS)
def test_a_path_looks_into_lists(lists: Workspace, tmp_path: Path, case: str) -> None:
    selection, is_found = LISTS[case]
    (taken,) = take(lists, tmp_path, sigma({"selection": selection, "condition": "selection"}))
    assert taken.rule is not None, taken.reason
    assert ids(lists, taken.rule) == ({"lists"} if is_found else set())


CONDITIONS: dict[str, tuple[dict[str, object], set[str]]] = {
    "and not": (
        {
            "selection": {"eventName": "PutObject"},
            "filter": {"sourceIPAddress": "*.amazonaws.com"},
            "condition": "selection and not filter",
        },
        {"six"},
    ),
    "not a range, where a service's name stands": (
        {
            "selection": {"eventName": ["PutObject", "DeleteTrail"]},
            "filter": {"sourceIPAddress|cidr": ["10.0.0.0/8", "2001:db8::/32"]},
            "condition": "selection and not filter",
        },
        {"service"},
    ),
    "not a comparison of what is no number": (
        {
            "selection": {"eventName": ["GetObject", "StopLogging"]},
            "filter": {"requestParameters.count|gt": 8},
            "condition": "selection and not filter",
        },
        {"read", "stop"},
    ),
    "not an absent field": (
        {"selection": {"errorCode": "AccessDenied"}, "condition": "not selection"},
        ALL - {"stop"},
    ),
    "1 of a pattern": (
        {
            "selection_a": {"eventName": "StopLogging"},
            "selection_b": {"eventName": "DeleteTrail"},
            "other": {"eventName": "GetObject"},
            "condition": "1 of selection_*",
        },
        {"stop", "delete"},
    ),
    "1 of them": (
        {
            "a": {"eventName": "StopLogging"},
            "b": {"errorCode": "*"},
            "c": {"eventName": "X"},
            "condition": "1 of them",
        },
        {"stop"},
    ),
    "all of them": (
        {"a": {"eventSource|startswith": "cloudtrail"}, "b": {"errorCode": "*"}, "condition": "all of them"},
        {"stop"},
    ),
    "not 1 of filters": (
        {
            "selection": {"eventSource": ["s3.amazonaws.com", "cloudtrail.amazonaws.com"]},
            "filter_services": {"sourceIPAddress|endswith": ".amazonaws.com"},
            "filter_sessions": {"userIdentity.type": "AssumedRole"},
            "filter_inside": {"sourceIPAddress|cidr": "10.0.0.0/8"},
            "condition": "selection and not 1 of filter_*",
        },
        {"read", "stop", "six"},
    ),
    "a list beside a wildcard, within and": (
        {
            "a": {"eventName": ["StopLogging", "Get*"], "eventSource": "cloudtrail.amazonaws.com"},
            "condition": "a",
        },
        {"stop"},
    ),
    "keywords": (
        {"keywords": ["payroll-old", "AuthorizeSecurity"], "condition": "keywords"},
        {"read-web", "open"},
    ),
    "keywords, all": ({"keywords": {"|all": ["payroll", "web"]}, "condition": "keywords"}, {"read-web"}),
    "keywords with a wildcard": ({"keywords": ["payroll*2026"], "condition": "keywords"}, {"read"}),
    "not keywords": (
        {
            "selection": {"eventName": "GetObject"},
            "keywords": ["payroll-old"],
            "condition": "selection and not keywords",
        },
        {"read"},
    ),
    "several conditions": (
        {"a": {"eventName": "StopLogging"}, "b": {"eventName": "DeleteTrail"}, "condition": ["a", "b"]},
        {"stop", "delete"},
    ),
}


@pytest.mark.parametrize("case", CONDITIONS)
def test_a_condition_finds_its_events(workspace: Workspace, tmp_path: Path, case: str) -> None:
    detection, expected = CONDITIONS[case]
    (taken,) = take(workspace, tmp_path, sigma(detection))
    assert taken.rule is not None, taken.reason
    assert ids(workspace, taken.rule) == expected


def test_every_field_of_a_record_binds(workspace: Workspace, tmp_path: Path) -> None:
    trail, flows = LOG_SOURCES
    for source in (trail, flows):
        selection = dict.fromkeys(source.columns, "x") | {f"{root}.a.b": 1 for root in source.documents}
        logs = {"product": source.product, "service": source.service}
        (taken,) = take(workspace, tmp_path, sigma({"s": selection, "condition": "s"}, logsource=logs))
        assert taken.state is State.TAKEN, taken.reason


FULL = """
title: Trail stopped {{Account}}
id: 4f1b2c00-0000-4000-8000-000000000001
status: test
license: DRL 1.1
description: |
  A trail no longer records.
references: [https://example.org/a, https://example.org/b]
author: Ann Author, Bob
date: 2024-01-02
tags: [attack.defense-evasion, attack.command_and_control, attack.t1562.008, attack.g0010, cve.2020-1]
logsource: {product: aws, service: cloudtrail}
detection: {selection: {eventName: StopLogging}, condition: selection}
falsepositives: [Maintenance of trails]
level: critical
"""


def test_what_a_rule_says_of_itself_is_kept(workspace: Workspace, tmp_path: Path) -> None:
    (taken,) = take(workspace, tmp_path, FULL)
    rule = taken.rule
    assert rule is not None
    assert (rule.id, rule.name) == ("4f1b2c00-0000-4000-8000-000000000001", "Trail stopped {{Account}}")
    assert rule.severity is Severity.HIGH
    assert rule.tactics == ("DefenseEvasion", "CommandAndControl")
    assert rule.techniques == ("T1562.008",)
    assert rule.tags == ("Sigma", "attack.g0010", "cve.2020-1")
    assert rule.description == (
        "A trail no longer records.\nMay be harmless: Maintenance of trails.\n"
        "References: https://example.org/a, https://example.org/b\nSigma rule by Ann Author, Bob, DRL 1.1."
    )
    assert dict(rule.extra)["sigma"]["author"] == "Ann Author, Bob"  # type: ignore[index]
    assert [mapping.type for mapping in rule.entity_mappings] == [
        "AwsPrincipal",
        "AwsSession",
        "AwsAccessKey",
        "IP",
        "AwsAccount",
    ]
    assert rule.details.display_name_format == "Trail stopped { {Account} } by {{Principal}}"
    stored = workspace.home / "rules" / rule.source
    assert stored.is_file()
    assert [each.id for each in workspace.content.rules() if each.id == rule.id] == [rule.id]


def test_an_alert_names_events_and_entities(workspace: Workspace, tmp_path: Path) -> None:
    (taken,) = take(workspace, tmp_path, FULL)
    assert taken.rule is not None
    day = timedelta(days=1)
    summary = workspace.detect([taken.rule], start=NOW - day, end=NOW + day)
    (alert,) = summary.alerts
    assert alert.detail("EventIds") == ("stop",)
    assert alert.values("AwsPrincipal") == ("arn:aws:iam::111122223333:user/ann",)
    assert alert.values("IP") == ("203.0.113.7",)


def test_a_rule_taken_again_replaces_itself(workspace: Workspace, tmp_path: Path) -> None:
    (first,) = take(workspace, tmp_path / "a", FULL, name="old.yml")
    (again,) = take(workspace, tmp_path / "b", FULL.replace("critical", "low"), name="sub/new.yml")
    assert first.rule is not None
    assert again.rule is not None
    assert again.rule.source == first.rule.source
    assert (
        next(each for each in workspace.content.rules() if each.id == first.rule.id).severity is Severity.LOW
    )


def test_an_id_of_your_own_rule_is_not_taken(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path / "home", clock=lambda: NOW)
    (workspace.home / "rules").mkdir()
    own = {
        "id": "4f1b2c00-0000-4000-8000-000000000001",
        "name": "mine",
        "query": "print 1",
        "queryFrequency": "1h",
    }
    (workspace.home / "rules" / "mine.yaml").write_text(yaml.safe_dump(own))
    (taken,) = take(workspace, tmp_path / "s", FULL)
    assert taken.state is State.FAILED
    assert "that of your rule mine.yaml" in taken.reason


# --- correlations ------------------------------------------------------------------------------------------

BASE = sigma({"s": {"eventName|startswith": ["Stop", "Delete"]}, "condition": "s"}, name="base")
GETS = sigma({"s": {"eventName": "GetObject"}, "condition": "s"}, name="gets")


def correlation(kind: str, condition: object, **members: object) -> dict[str, object]:
    body = {"type": kind, "rules": ["base"], "timespan": "5m", "condition": condition} | members
    return {"title": "Together", "correlation": body, "level": "high"}


CORRELATIONS: dict[str, tuple[dict[str, object], set[str]]] = {
    "enough events": (
        correlation("event_count", {"gte": 2}, **{"group-by": ["userIdentity.arn"]}),
        {"stop", "delete"},
    ),
    "more events than there are": (correlation("event_count", {"gt": 2}), set()),
    "events, ungrouped": (correlation("event_count", {"gt": 1}), {"stop", "delete"}),
    "events apart": (correlation("event_count", {"gte": 2}, timespan="30s"), set()),
    "grouped apart": (correlation("event_count", {"gte": 2}, **{"group-by": ["sourceIPAddress"]}), set()),
    "values": (
        correlation(
            "value_count", {"field": "sourceIPAddress", "gte": 2}, **{"group-by": ["userIdentity.arn"]}
        ),
        {"stop", "delete"},
    ),
    "values that are one": (correlation("value_count", {"field": "eventSource", "gte": 2}), set()),
    "absent values are none": (correlation("value_count", {"field": "errorCode", "gte": 2}), set()),
    "temporal": (
        correlation(
            "temporal", {"gte": 2}, rules=["base", "gets"], **{"group-by": ["userIdentity.userName"]}
        ),
        {"read", "stop", "delete"},
    ),
    "temporal, grouped apart": (
        correlation(
            "temporal", {"gte": 2}, rules=["base", "gets"], **{"group-by": ["userIdentity.type", "eventName"]}
        ),
        set(),
    ),
    "aliases": (
        correlation(
            "temporal",
            {"gte": 2},
            rules=["base", "gets"],
            aliases={"who": {"base": "userIdentity.accountId", "gets": "recipientAccountId"}},
            **{"group-by": ["who"]},
        ),
        {"read", "read-web", "stop", "delete"},
    ),
}


@pytest.mark.parametrize("case", CORRELATIONS)
def test_a_correlation_finds_its_events(workspace: Workspace, tmp_path: Path, case: str) -> None:
    rule, expected = CORRELATIONS[case]
    outcomes = take(workspace, tmp_path, rule, BASE, GETS)
    taken = outcomes[0]
    assert taken.rule is not None, taken.reason
    assert outcomes[1].reason == "only a part of the correlation 'Together'"
    assert ids(workspace, taken.rule, NOW - timedelta(minutes=5)) == expected


def test_a_correlation_tells_of_a_stretch_once(workspace: Workspace, tmp_path: Path) -> None:
    """Windows one after the other: only in one of them an event comes that makes the stretch whole."""
    rule, _ = CORRELATIONS["enough events"]
    taken = take(workspace, tmp_path, rule, BASE)[0].rule
    assert taken is not None
    summary = workspace.detect([taken], start=NOW - timedelta(days=1), end=NOW + timedelta(days=1))
    assert [sorted(alert.detail("EventIds")) for alert in summary.alerts] == [["delete", "stop"]]


@pytest.mark.parametrize("timespan", ["7m", "1h", "5h", "1d"])
def test_a_correlation_alerts_in_each_window_that_brings_an_event_to_it(
    tmp_path: Path, timespan: str
) -> None:
    """Of pairs all along a day, wherever windows and steps begin, each is told of when its second one came,
    and of no third time."""
    rng = random.Random(3)
    moments = sorted(NOW - timedelta(seconds=rng.randrange(86_400)) for _ in range(30))
    events = [
        event(f"{number} {part}", eventName="StopLogging", sourceIPAddress=f"203.0.113.{number}",
              eventTime=f"{moment + timedelta(seconds=40 * part):%Y-%m-%dT%H:%M:%SZ}")
        for number, moment in enumerate(moments) for part in (0, 1)
    ]  # fmt: skip
    (tmp_path / "log.json").write_text(json.dumps({"Records": events}))
    workspace = Workspace.open(tmp_path / "home", clock=lambda: NOW + timedelta(days=2))
    workspace.ingest([tmp_path / "log.json"])
    rule = correlation("event_count", {"gte": 2}, timespan=timespan, **{"group-by": ["sourceIPAddress"]})
    taken = take(workspace, tmp_path / "sigma", rule, BASE)[0].rule
    assert taken is not None
    found = sorted(sorted(alert.detail("EventIds")) for alert in workspace.detect([taken]).alerts)
    assert found == sorted([f"{number} 0", f"{number} 1"] for number in range(30))


@pytest.mark.parametrize("fields", [[], ["userIdentity.arn"]])
def test_a_correlation_names_the_events_of_all_its_stretches(tmp_path: Path, fields: list[str]) -> None:
    """Two stretches that fulfil the condition alike: both are told of, an event between them is not."""
    names = {"first": 0, "second": 10, "alone": 120, "third": 200, "fourth": 210}
    events = [
        event(
            name, eventName="StopLogging", eventTime=f"{NOW - timedelta(seconds=240 - at):%Y-%m-%dT%H:%M:%SZ}"
        )
        for name, at in names.items()
    ]
    (tmp_path / "log.json").write_text(json.dumps({"Records": events}))
    workspace = Workspace.open(tmp_path / "home", clock=lambda: NOW)
    workspace.ingest([tmp_path / "log.json"])
    rule = correlation("event_count", {"gte": 2}, timespan="30s", **{"group-by": fields})
    taken = take(workspace, tmp_path / "sigma", rule, BASE)[0].rule
    assert taken is not None
    (row,) = workspace.query(taken.query, now=NOW).rows()
    assert isinstance(row["EventIds"], list)
    assert set(row["EventIds"]) == {"first", "second", "third", "fourth"}
    assert (row["Events"], row["Count"]) == (4, 2)


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        (correlation("temporal_ordered", {"gte": 2}), "type temporal_ordered are not translated"),
        (
            correlation("value_sum", {"field": "requestParameters.count", "gte": 2}),
            "value_sum are not translated",
        ),
        (correlation("event_count", {"lt": 2}), "only gt and gte"),
        (correlation("event_count", {"gte": 2}, timespan="30d"), "longer than a rule can look back"),
        (correlation("event_count", {"gte": 2}, rules=["nobody"]), "nobody"),
        (correlation("event_count", {"gte": 2}, **{"group-by": ["nowhere"]}), "field 'nowhere'"),
        (correlation("value_count", {"gte": 2}), "field"),
    ],
)
def test_a_correlation_that_cannot_be_said_is_named(
    workspace: Workspace, tmp_path: Path, rule: object, reason: str
) -> None:
    found = take(workspace, tmp_path, rule, BASE, GETS)[0]
    assert found.state is not State.TAKEN
    assert reason in found.reason


# --- what is not taken -------------------------------------------------------------------------------------

GOOD = {"s": {"eventName": "X"}, "condition": "s"}
NOT_TAKEN: dict[str, tuple[object, State, str]] = {
    "an unknown field": (
        sigma({"s": {"eventname": "x"}, "condition": "s"}),
        State.FAILED,
        (
            "field 'eventname': AWSCloudTrail has no column for it; did you mean 'eventName'? "
            "known are additionalEventData.*, apiVersion, awsRegion,"
        ),
    ),
    "an unknown member": (
        sigma({"s": {"userIdentity.foo": "x"}, "condition": "s"}),
        State.FAILED,
        "known are userIdentity.accessKeyId, userIdentity.accountId, userIdentity.arn,",
    ),
    "a member of what is no document": (
        sigma({"s": {"eventName.x": "x"}, "condition": "s"}),
        State.FAILED,
        "field 'eventName.x'",
    ),
    "other logs": (
        sigma(GOOD, logsource={"product": "windows", "category": "process_creation"}),
        State.SKIPPED,
        "log source category process_creation, product windows; there is aws/cloudtrail, aws/vpcflow",
    ),
    "no log source": (sigma(GOOD, logsource=None), State.SKIPPED, "log source none"),
    "deprecated": (sigma(GOOD, status="deprecated"), State.SKIPPED, "deprecated"),
    "a condition of nothing": (sigma({"s": {"eventName": "x"}, "condition": "t"}), State.FAILED, "t"),
    "an old aggregation": (
        sigma({"s": {"eventName": "x"}, "condition": "s | count() > 5"}),
        State.FAILED,
        "write it as a correlation",
    ),
    "a placeholder": (
        sigma({"s": {"eventName|expand": "%names%"}, "condition": "s"}),
        State.FAILED,
        "%names%",
    ),
    "a regular expression with a look ahead": (
        sigma({"s": {"eventName|re": "a(?=b)"}, "condition": "s"}),
        State.FAILED,
        "Regular expression",
    ),
    "a range that is none": (
        sigma({"s": {"sourceIPAddress|cidr": "10.0.0.0/99"}, "condition": "s"}),
        State.FAILED,
        "10.0.0.0/99",
    ),
    "an unknown modifier": (sigma({"s": {"eventName|magic": "x"}, "condition": "s"}), State.FAILED, "magic"),
    "part of a time": (
        sigma({"s": {"requestParameters.time|hour": 3}, "condition": "s"}),
        State.FAILED,
        "parts of a time",
    ),
    "deep parentheses": (
        sigma({"s": {"eventName": "x"}, "condition": "(" * 30 + "s" + ")" * 30}),
        State.FAILED,
        "parentheses",
    ),
    "a long condition": (
        sigma({"s": {"eventName": "x"}, "condition": "s or " * 2000 + "s"}),
        State.FAILED,
        "characters",
    ),
    "no detection": ({"title": "x", "logsource": CLOUDTRAIL}, State.FAILED, "detection"),
    "detection of a wrong type": (
        {"title": "x", "logsource": CLOUDTRAIL, "detection": [1]},
        State.FAILED,
        "no Sigma rule",
    ),
    "a list": ("[1, 2]", State.FAILED, "a Sigma rule is a mapping"),
    "no YAML": ("title: [", State.FAILED, "not YAML"),
    "nothing": ("", State.FAILED, "an empty file"),
    "deep": ("[" * 200, State.FAILED, "nested deeper"),
    "large": ("a" * (MAX_BYTES + 1), State.FAILED, "larger than"),
    "aliases that multiply": (
        "a: &a [1,1,1,1,1,1,1,1,1,1]\n"
        + "".join(
            f"{b}: &{b} [{','.join(['*' + a] * 10)}]\n" for a, b in zip("abcdef", "bcdefg", strict=True)
        ),
        State.FAILED,
        "aliases",
    ),
    "an action of old": ({"action": "global", "title": "x"}, State.FAILED, "'action'"),
    "a filter": (
        {"title": "f", "logsource": CLOUDTRAIL, "filter": {"rules": ["x"]}},
        State.SKIPPED,
        "Sigma filter",
    ),
}


@pytest.mark.parametrize("case", NOT_TAKEN)
def test_what_is_not_taken_is_told(workspace: Workspace, tmp_path: Path, case: str) -> None:
    rule, state, reason = NOT_TAKEN[case]
    (found,) = take(workspace, tmp_path, rule)
    assert found.state is state
    assert reason in found.reason
    assert found.rule is None


def test_two_rules_of_one_id(workspace: Workspace, tmp_path: Path) -> None:
    one, two = take(workspace, tmp_path, FULL, FULL.replace("test", "stable"))
    assert one.state is State.TAKEN
    assert "is also that of rule.yml" in two.reason


def test_a_path_that_is_not_there(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(RuleError, match="no file or folder"):
        workspace.content.import_sigma([tmp_path / "none"])


def test_flows(workspace: Workspace, tmp_path: Path) -> None:
    logs = {"product": "aws", "service": "vpcflow"}
    detection = {"s": {"dstport": [22, 3389], "action": "ACCEPT", "bytes|gte": 100}, "condition": "s"}
    (taken,) = take(workspace, tmp_path, sigma(detection, logsource=logs))
    assert taken.rule is not None, taken.reason
    log = tmp_path / "flow.log"
    log.write_text(
        "version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end "
        "action log-status\n"
        "2 111122223333 eni-1 203.0.113.66 10.0.0.5 50000 22 6 10 8400 1772442000 1772442060 ACCEPT OK\n"
        "2 111122223333 eni-1 203.0.113.67 10.0.0.5 50000 22 6 10 84 1772442000 1772442060 ACCEPT OK\n"
        "2 111122223333 eni-1 203.0.113.68 10.0.0.5 50000 22 6 10 8400 1772442000 1772442060 REJECT OK\n"
    )
    workspace.ingest([log])
    rows = workspace.query(taken.rule.query, now=NOW).rows()
    assert [(row["SrcAddr"], row["DstAddr"], row["TotalBytes"]) for row in rows] == [
        ("203.0.113.66", "10.0.0.5", 8400)
    ]


# --- the command -------------------------------------------------------------------------------------------


def test_the_report_of_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pack = tmp_path / "pack"
    (pack / "sub").mkdir(parents=True)
    (pack / "good.yml").write_text(FULL)
    (pack / "sub" / "other.yml").write_text(yaml.safe_dump(sigma(GOOD, logsource={"product": "windows"})))
    home = ["--home", str(tmp_path / "home")]
    assert run([*home, "rules", "import-sigma", str(pack), "--format", "json"]) == 0
    captured = capsys.readouterr()
    assert [(row["state"], row["source"]) for row in json.loads(captured.out)] == [
        ("imported", "good.yml"),
        ("skipped", "sub/other.yml"),
    ]
    assert "1 imported, 1 skipped, 0 failed" in captured.err
    assert run([*home, "rules", "validate"]) == 0
    capsys.readouterr()
    # Nothing taken is a failure, and so is a rule that is wrong.
    assert run([*home, "rules", "import-sigma", str(pack / "sub")]) == 1
    capsys.readouterr()
    (pack / "bad.yml").write_text(yaml.safe_dump(sigma({"s": {"nowhere": 1}, "condition": "s"})))
    assert run([*home, "rules", "import-sigma", str(pack), "--format", "json"]) == 1
    bad = next(row for row in json.loads(capsys.readouterr().out) if row["state"] == "failed")
    assert bad["source"] == "bad.yml"
    assert "field 'nowhere'" in bad["reason"]


def test_without_pysigma_one_error_says_what_to_install(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['sigma'] = None\n"
        "from trailhawk.cli import run\n"
        f"sys.exit(run(['--home', {str(tmp_path)!r}, 'rules', 'import-sigma', {str(tmp_path)!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith("usage: Sigma rules need the package sigma")
    assert "pip install 'trailhawk[sigma]'" in done.stderr
