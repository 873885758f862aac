"""The doctor: every link that can be wrong, told with AWS's words and the statement that is missing."""

from __future__ import annotations

import base64
import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from trailhawk.connectors.config import Access, Location, S3Settings, SqsSettings
from trailhawk.connectors.doctor import Check, Verdict, examine, trust_statement
from trailhawk.connectors.policy import may_send, sources

if TYPE_CHECKING:
    from conftest import Aws
    from trailhawk.connectors.config import ConnectorSettings

KEY = "AWSLogs/111122223333/CloudTrail/eu-west-1/2026/03/01/a.json.gz"


def checks(settings: ConnectorSettings) -> dict[str, Check]:
    return {check.name: check for check in examine(settings)}


def verdicts(settings: ConnectorSettings) -> dict[str, str]:
    return {name: check.verdict.value for name, check in checks(settings).items()}


def healthy(aws: Aws, *, prefix: str = "AWSLogs/") -> SqsSettings:
    """A bucket, a queue that is told of it, and a trail, all as they should be."""
    aws.bucket()
    aws.put("logs", KEY)
    url = aws.sqs.create_queue(QueueName="news")["QueueUrl"]
    arn = aws.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "s3.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": arn,
        "Condition": {"ArnLike": {"aws:SourceArn": "arn:aws:s3:::logs"}},
    }
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    aws.sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": json.dumps(policy)})
    notify(aws, arn, prefix=prefix)
    return SqsSettings("main", url, aws.access, prefixes=("AWSLogs/",))


def notify(aws: Aws, arn: str, *, prefix: str, events: tuple[str, ...] = ("s3:ObjectCreated:*",)) -> None:
    rules = [{"Name": "prefix", "Value": prefix}]
    told = {"QueueArn": arn, "Events": list(events), "Filter": {"Key": {"FilterRules": rules}}}
    configuration: Any = {"QueueConfigurations": [told]}
    aws.s3.put_bucket_notification_configuration(Bucket="logs", NotificationConfiguration=configuration)


def trail(aws: Aws, **changes: Any) -> Any:
    """A trail into the bucket with data events and validation, and what it can be asked with."""
    principal = {"Service": "cloudtrail.amazonaws.com"}
    statement = {"Effect": "Allow", "Principal": principal, "Action": "s3:*", "Resource": "*"}
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    aws.s3.put_bucket_policy(Bucket="logs", Policy=json.dumps(policy))
    client = aws.client("cloudtrail")
    client.create_trail(
        Name="main", S3BucketName="logs", EnableLogFileValidation=changes.get("validated", True)
    )
    if changes.get("logging", True):
        client.start_logging(Name="main")
    resources = [{"Type": "AWS::S3::Object", "Values": ["arn:aws:s3:::"]}]
    selector = {"ReadWriteType": "All", "DataResources": resources if changes.get("data", True) else []}
    client.put_event_selectors(TrailName="main", EventSelectors=[selector])
    return client


def test_all_is_well(aws: Aws) -> None:
    settings = healthy(aws)
    trail(aws)
    assert set(verdicts(settings).values()) == {"ok"}
    assert {"identity", "queue", "receive", "delete", "messages", "queue policy", "trail main"} <= set(
        verdicts(settings)
    )


def test_the_message_looked_at_stays(aws: Aws) -> None:
    settings = healthy(aws)
    list(examine(settings))
    told = aws.sqs.get_queue_attributes(
        QueueUrl=settings.queue_url, AttributeNames=["ApproximateNumberOfMessages"]
    )
    assert int(told["Attributes"]["ApproximateNumberOfMessages"]) >= 0


def test_a_queue_that_s3_may_not_write_to(aws: Aws) -> None:
    settings = dataclasses.replace(healthy(aws), buckets=("logs",))
    aws.sqs.set_queue_attributes(QueueUrl=settings.queue_url, Attributes={"Policy": ""})
    check = checks(settings)["queue policy"]
    assert check.verdict is Verdict.FAILED
    assert check.statement is not None
    assert check.statement["Condition"] == {"ArnLike": {"aws:SourceArn": "arn:aws:s3:::logs"}}
    policy = json.dumps({"Statement": [check.statement]})
    assert (
        may_send(policy, service="s3.amazonaws.com", action="sqs:SendMessage", source="arn:aws:s3:::logs")
        == "yes"
    )


@pytest.mark.parametrize(
    ("prefix", "events", "words"),
    [
        ("elsewhere/", ("s3:ObjectCreated:*",), "keys that begin with 'elsewhere/'"),
        ("AWSLogs/", ("s3:ObjectRemoved:*",), "only s3:ObjectRemoved:* are told"),
    ],
)
def test_a_notification_that_does_not_fit(aws: Aws, prefix: str, events: tuple[str, ...], words: str) -> None:
    settings = healthy(aws)
    arn = aws.sqs.get_queue_attributes(QueueUrl=settings.queue_url, AttributeNames=["QueueArn"])
    notify(aws, arn["Attributes"]["QueueArn"], prefix=prefix, events=events)
    check = checks(settings)["notification of logs"]
    assert check.verdict is Verdict.FAILED
    assert words in check.said


def test_a_bucket_that_tells_nobody(aws: Aws) -> None:
    settings = healthy(aws)
    aws.s3.put_bucket_notification_configuration(Bucket="logs", NotificationConfiguration={})
    check = checks(settings)["notification of logs"]
    assert (check.verdict, "does not tell queue" in check.said) == (Verdict.FAILED, True)


def test_a_wrong_prefix_says_what_there_is(aws: Aws) -> None:
    settings = dataclasses.replace(healthy(aws), prefixes=("AWSLogs/999/",))
    check = checks(settings)["objects of s3://logs/AWSLogs/999/"]
    assert check.verdict is Verdict.FAILED
    assert "the bucket has AWSLogs/" in check.said


def test_another_region(aws: Aws) -> None:
    settings = healthy(aws)
    there = boto3.client("s3", endpoint_url=aws.url, region_name="us-west-2")
    there.create_bucket(Bucket="far", CreateBucketConfiguration={"LocationConstraint": "us-west-2"})
    check = checks(dataclasses.replace(settings, buckets=("far",)))["region of far"]
    assert check.verdict is Verdict.FAILED
    assert "us-west-2, the queue in eu-west-1" in check.said


@pytest.mark.parametrize(
    ("changes", "name", "words"),
    [
        ({"data": False}, "trail main, data events", "no data events of S3"),
        ({"validated": False}, "trail main, validation", "validation is off"),
        ({"logging": False}, "trail main", "stopped"),
    ],
)
def test_a_trail_that_logs_too_little(aws: Aws, changes: dict[str, bool], name: str, words: str) -> None:
    settings = healthy(aws)
    trail(aws, **changes)
    check = checks(settings)[name]
    assert (check.verdict, words in check.said) == (Verdict.FAILED, True)


def test_advanced_selectors_count_as_data_events(aws: Aws) -> None:
    settings = healthy(aws)
    fields = [
        {"Field": "eventCategory", "Equals": ["Data"]},
        {"Field": "resources.type", "Equals": ["AWS::S3::Object"]},
    ]
    trail(aws, data=False).put_event_selectors(
        TrailName="main", AdvancedEventSelectors=[{"Name": "files", "FieldSelectors": fields}]
    )
    assert checks(settings)["trail main, data events"].verdict is Verdict.OK


def test_no_trail_is_no_fault(aws: Aws) -> None:
    assert checks(healthy(aws))["trail"].verdict is Verdict.UNKNOWN


def test_a_bucket_policy_that_denies(aws: Aws) -> None:
    settings = healthy(aws)
    deny = {"Sid": "OnlyHere", "Effect": "Deny", "Principal": "*", "Action": "s3:Get*", "Resource": "*"}
    condition = {"StringNotEquals": {"aws:SourceVpce": "vpce-1"}}
    policy = {"Version": "2012-10-17", "Statement": [deny | {"Condition": condition}]}
    aws.s3.put_bucket_policy(Bucket="logs", Policy=json.dumps(policy))
    check = checks(settings)["policy of logs"]
    assert check.verdict is Verdict.UNKNOWN
    assert "OnlyHere" in check.said
    assert "vpce-1" in check.said


def test_messages_outside_of_the_section(aws: Aws) -> None:
    settings = dataclasses.replace(healthy(aws), prefixes=("AWSLogs/1/",))
    aws.put("logs", KEY)
    check = checks(settings)["messages"]
    assert (check.verdict, "outside of the section" in check.said) == (Verdict.FAILED, True)


def test_redrive_before_our_tries(aws: Aws) -> None:
    settings = healthy(aws)
    dead = aws.queue(name="dead")
    arn = aws.sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 3})
    assert "redrive" not in verdicts(settings)
    assert checks(dataclasses.replace(settings, on_poison="redrive"))["redrive"].verdict is Verdict.FAILED
    aws.sqs.set_queue_attributes(QueueUrl=settings.queue_url, Attributes={"RedrivePolicy": policy})
    assert checks(settings)["redrive"].verdict is Verdict.FAILED
    assert checks(dataclasses.replace(settings, tries=2))["redrive"].verdict is Verdict.OK


def test_a_queue_with_aws_own_key(aws: Aws) -> None:
    settings = healthy(aws)
    aws.sqs.set_queue_attributes(QueueUrl=settings.queue_url, Attributes={"KmsMasterKeyId": "alias/aws/sqs"})
    assert checks(settings)["queue encryption"].verdict is Verdict.FAILED


def test_a_queue_that_is_not_there(aws: Aws) -> None:
    settings = SqsSettings("main", f"{aws.url}/123456789012/missing", aws.access, buckets=("logs",))
    found = checks(settings)
    assert found["queue"].verdict is Verdict.FAILED
    assert "no queue of this name in region eu-west-1" in found["queue"].said
    assert found["objects of s3://logs/"].verdict is Verdict.FAILED


def test_nobody_signed_in(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = healthy(aws)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    (check,) = examine(settings)
    assert check.verdict is Verdict.FAILED
    assert "no profile, environment variables or instance role" in check.said


# --- with IAM at work ---------------------------------------------------------------------------------------


def test_rights_that_are_missing(aws: Aws, limited: Any) -> None:
    """The connector's own rights fail with a statement; rights of the doctor alone are unknown."""
    settings = dataclasses.replace(healthy(aws), buckets=("logs",))
    limited("sqs:ReceiveMessage", "s3:ListBucket")
    found = checks(settings)
    assert found["identity"].said.endswith("user/reader")
    assert found["queue"].verdict is Verdict.UNKNOWN
    assert found["queue"].statement == {
        "Effect": "Allow",
        "Action": ["sqs:GetQueueAttributes"],
        "Resource": ["arn:aws:sqs:eu-west-1:123456789012:news"],
    }
    assert found["receive"].verdict is Verdict.OK
    assert found["delete"].verdict is Verdict.FAILED
    assert found["delete"].policy == f"policy of {found['identity'].said}"
    read = found["reading s3://logs/AWSLogs/"]
    assert read.verdict is Verdict.FAILED
    assert read.statement == {
        "Effect": "Allow",
        "Action": ["s3:GetObject"],
        "Resource": ["arn:aws:s3:::logs/AWSLogs/*"],
    }
    for name in ("notification of logs", "region of logs", "policy of logs", "trail"):
        assert found[name].verdict is Verdict.UNKNOWN, name
        assert found[name].statement, name


def test_a_listing_without_the_right_to_list(aws: Aws, limited: Any) -> None:
    aws.bucket()
    limited("s3:GetObject")
    check = checks(S3Settings("old", (Location("logs", "AWSLogs/"),), aws.access))[
        "objects of s3://logs/AWSLogs/"
    ]
    assert check.verdict is Verdict.FAILED
    assert check.statement == {
        "Effect": "Allow",
        "Action": ["s3:ListBucket"],
        "Resource": ["arn:aws:s3:::logs"],
    }


def test_a_role_that_may_not_be_assumed(aws: Aws, limited: Any) -> None:
    limited("s3:*")
    role = "arn:aws:iam::444455556666:role/logs"
    access = dataclasses.replace(aws.access, role_arn=role, external_id="secret-word")
    found = checks(S3Settings("old", (Location("logs"),), access))
    assert set(found) == {"identity", "role"}
    assert found["role"].verdict is Verdict.FAILED
    assert "AccessDenied" in found["role"].said
    assert found["role"].policy == f"trust policy of {role}"
    assert found["role"].statement == {
        "Effect": "Allow",
        "Principal": {"AWS": found["identity"].said},
        "Action": ["sts:AssumeRole"],
        "Condition": {"StringEquals": {"sts:ExternalId": "secret-word"}},
    }


# --- parts --------------------------------------------------------------------------------------------------


def test_trust_for_a_token(tmp_path: Path) -> None:
    claims = {"iss": "https://sts.windows.net/tenant/", "aud": ["api://x"], "sub": "object"}
    middle = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    (tmp_path / "token").write_text(f"e30.{middle}.c2ln")
    access = Access(role_arn="arn:aws:iam::1:role/r", web_identity_token_file=str(tmp_path / "token"))
    said = trust_statement(access, "")
    assert said["Principal"] == {"Federated": "arn:aws:iam::1:oidc-provider/sts.windows.net/tenant/"}
    assert said["Condition"] == {
        "StringEquals": {"sts.windows.net/tenant/:aud": "api://x", "sts.windows.net/tenant/:sub": "object"}
    }


@pytest.mark.parametrize("text", ["", "no token", "a.b.c", "a.W10.c", "é"])
def test_trust_for_what_is_no_token(tmp_path: Path, text: str) -> None:
    (tmp_path / "token").write_text(text)
    access = Access(role_arn="arn:aws:iam::1:role/r", web_identity_token_file=str(tmp_path / "token"))
    assert "ISSUER" in json.dumps(trust_statement(access, ""))


def test_a_session_is_trusted_by_its_role() -> None:
    access = Access(role_arn="arn:aws:iam::1:role/r")
    said = trust_statement(access, "arn:aws:sts::2:assumed-role/app/i-1")
    assert said["Principal"] == {"AWS": "arn:aws:iam::2:role/app"}


SEND = {"Effect": "Allow", "Principal": {"Service": "s3.amazonaws.com"}, "Action": "SQS:SendMessage"}


@pytest.mark.parametrize(
    ("statements", "answer"),
    [
        ([], "no"),
        ([SEND], "yes"),
        ([SEND | {"Action": ["sqs:*"]}], "yes"),
        ([SEND | {"Principal": "*"}], "yes"),
        ([SEND | {"Principal": {"AWS": "*"}}], "yes"),
        ([SEND | {"Principal": {"Service": "sns.amazonaws.com"}}], "no"),
        ([SEND | {"Action": "sqs:ReceiveMessage"}], "no"),
        ([SEND | {"Condition": {"ArnLike": {"aws:SourceArn": "arn:aws:s3:::lo*"}}}], "yes"),
        ([SEND | {"Condition": {"ArnEquals": {"AWS:SourceArn": ["arn:aws:s3:::other"]}}}], "no"),
        ([SEND | {"Condition": {"StringEquals": {"aws:SourceAccount": "1"}}}], "yes"),
        ([SEND | {"Condition": {"Bool": {"aws:SecureTransport": "true"}}}], "perhaps"),
        ([SEND, SEND | {"Effect": "Deny"}], "no"),
        ([SEND, SEND | {"Effect": "Deny", "Condition": {"Bool": {"aws:Secure": "false"}}}], "perhaps"),
    ],
)  # fmt: skip
def test_may_send(statements: list[object], answer: str) -> None:
    policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
    said = may_send(policy, service="s3.amazonaws.com", action="sqs:SendMessage", source="arn:aws:s3:::logs")
    assert said == answer


@pytest.mark.parametrize("policy", ["", "{", "[]", '{"Statement": 7}', '{"Statement": {"Effect": "Allow"}}'])
def test_broken_policies(policy: str) -> None:
    assert may_send(policy, service="s", action="a:b", source="") == "no"
    assert sources(policy) == []
