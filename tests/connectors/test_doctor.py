"""The doctor: every link that can be wrong, told with AWS's words and the statement that is missing."""

from __future__ import annotations

import base64
import dataclasses
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import boto3
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trailhawk.connectors.config import Access, Location, S3Settings, SqsSettings
from trailhawk.connectors.doctor import Check, Verdict, examine, trust_statement
from trailhawk.connectors.patterns import fits
from trailhawk.connectors.policy import denials, like, may_send, sources

if TYPE_CHECKING:
    from support.aws import Aws
    from trailhawk.connectors.config import ConnectorSettings

KEY = "AWSLogs/111122223333/CloudTrail/eu-west-1/2026/03/01/a.json.gz"
QUEUE = "arn:aws:sqs:eu-west-1:1:news"
SEND = {"Effect": "Allow", "Principal": {"Service": "s3.amazonaws.com"}, "Action": "SQS:SendMessage"}
DENY = {"Effect": "Deny", "Principal": "*", "Action": "sqs:*"}
NOBODY_ELSE = {"Effect": "Deny", "Action": "sqs:*"}


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


def notify(
    aws: Aws, arn: str, *, prefix: str, suffix: str = "", events: tuple[str, ...] = ("s3:ObjectCreated:*",)
) -> None:
    rules = [{"Name": "prefix", "Value": prefix}]
    if suffix:
        rules.append({"Name": "suffix", "Value": suffix})
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
    assert check.statement["Condition"] == {
        "ArnLike": {"aws:SourceArn": "arn:aws:s3:::logs"},
        "StringEquals": {"aws:SourceAccount": "123456789012"},
    }
    policy = json.dumps({"Statement": [check.statement]})
    said = may_send(
        policy,
        service="s3.amazonaws.com",
        action="sqs:SendMessage",
        resource="arn:aws:sqs:eu-west-1:123456789012:news",
        source="arn:aws:s3:::logs",
        account="123456789012",
    )
    assert said == "yes"


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
        ({"data": False}, "data events", "no data events of S3"),
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
    assert checks(settings)["data events"].verdict is Verdict.OK


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
    found = checks(dataclasses.replace(settings, tries=2))["redrive"]
    assert found.verdict is Verdict.OK
    assert "move them back" in found.said
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 100})
    aws.sqs.set_queue_attributes(QueueUrl=settings.queue_url, Attributes={"RedrivePolicy": policy})
    assert checks(settings)["redrive"].said == "after 100 receipts messages go to the other queue"


def test_a_queue_for_dead_letters_is_told_by_no_bucket(aws: Aws, between: Refusals) -> None:
    settings = healthy(aws)
    dead = aws.queue(name="dead")
    arn = aws.sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 9})
    aws.sqs.set_queue_attributes(QueueUrl=settings.queue_url, Attributes={"RedrivePolicy": policy})
    access = dataclasses.replace(aws.access, endpoint_url=between.url)
    given = dataclasses.replace(settings, queue_url=dead, access=access, buckets=("logs",))
    found = checks(given)
    assert "what news gave up" in found["dead letters"].said
    assert not {"notification of logs", "queue policy"} & found.keys()
    assert "dead letters" not in checks(settings)
    between.refuse_target("ListDeadLetterSourceQueues", "no")
    assert checks(given)["notification of logs"].verdict is Verdict.FAILED


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
    for name in ("notification of logs", "policy of logs", "trail"):
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
    assert set(found) == {"identity", "role", "right to assume the role"}
    own = found["right to assume the role"]
    assert own.policy == f"policy of {found['identity'].said}"
    assert own.statement == {"Effect": "Allow", "Action": ["sts:AssumeRole"], "Resource": [role]}
    assert found["role"].verdict is Verdict.FAILED
    assert "AccessDenied" in found["role"].said
    assert found["role"].policy == f"trust policy of {role}"
    assert found["role"].statement == {
        "Effect": "Allow",
        "Principal": {"AWS": found["identity"].said},
        "Action": ["sts:AssumeRole"],
        "Condition": {"StringEquals": {"sts:ExternalId": "secret-word"}},
    }


# --- what AWS says and moto does not ------------------------------------------------------------------------


@dataclasses.dataclass
class Refusals:
    """A server between us and moto that refuses some requests as AWS does, and passes on the others."""

    url: str
    answers: list[tuple[Callable[[str, str, bytes], bool], int, str, str]] = dataclasses.field(
        default_factory=list
    )

    def refuse(
        self, which: Callable[[str, str, bytes], bool], code: str, words: str, status: int = 403
    ) -> None:
        """Refuse requests of this method, path and body with these words."""
        self.answers.append((which, status, code, words))

    def tell(self, which: Callable[[str, str, bytes], bool], text: str) -> None:
        """Answer with this text."""
        self.answers.append((which, 200, "", text))

    def refuse_s3(self, method: str, part: str, words: str, code: str = "AccessDenied") -> None:
        self.refuse(lambda asked, path, _: asked == method and part in path, code, words)

    def refuse_target(self, target: str, words: str, code: str = "AccessDenied") -> None:
        """Refuse an operation of a service that speaks JSON, or of one by its query."""
        name = target.encode()
        self.refuse(lambda _, path, body: target in path or b"Action=" + name in body, code, words)


@pytest.fixture
def between(aws: Aws) -> Iterator[Refusals]:
    """In front of moto; `aws.access` of settings must lead to its `url`."""
    made = Refusals("")

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            target = self.headers.get("X-Amz-Target", "").rpartition(".")[2]
            for which, status, code, words in made.answers:
                if which(self.command, target or self.path, body):
                    self._refuse(status, code, words, json_wanted=bool(target))
                    return
            headers = {key: value for key, value in self.headers.items() if key.lower() != "content-length"}
            asked = Request(f"{aws.url}{self.path}", body or None, headers, method=self.command)
            try:
                with urlopen(asked) as answer:
                    self._send(answer.status, answer.headers.items(), answer.read())
            except HTTPError as error:
                with error:
                    self._send(error.code, error.headers.items(), error.read())

        def _refuse(self, status: int, code: str, words: str, *, json_wanted: bool) -> None:
            text = json.dumps({"__type": code, "message": words}) if code else words
            if code and not json_wanted:
                error = f"<Code>{code}</Code><Message>{escape(words)}</Message>"
                text = f"<Error>{error}</Error>"
                if "Action=" in self.path or self.headers.get("Content-Type", "").startswith(
                    "application/x-www-form"
                ):
                    text = f"<ErrorResponse><Error>{error}</Error></ErrorResponse>"
            region = [("x-amz-bucket-region", "eu-west-1")] if self.command == "HEAD" else []
            self._send(status, region, text.encode())

        def _send(self, status: int, headers: Iterable[tuple[str, str]], body: bytes) -> None:
            self.send_response(status)
            for key, value in headers:
                if key.lower() not in ("content-length", "transfer-encoding", "connection", "date", "server"):
                    self.send_header(key, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _answer  # noqa: N815  # the base class names them

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield made
    server.shutdown()
    server.server_close()


def through(settings: SqsSettings, between: Refusals) -> SqsSettings:
    """The same connector, asking the server in between."""
    url = settings.queue_url.replace(settings.access.endpoint_url, between.url)
    access = dataclasses.replace(settings.access, endpoint_url=between.url)
    return dataclasses.replace(settings, queue_url=url, access=access)


ME = "User: arn:aws:sts::123456789012:user/moto is not authorized to perform"
KEY_ARN = "arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"


@pytest.mark.parametrize(
    ("words", "said", "policy", "statement"),
    [
        (
            f'{ME}: kms:Decrypt on resource: "{KEY_ARN}" because no identity-based policy allows it',
            "kms:Decrypt",
            "and of the key",
            ["kms:Decrypt", KEY_ARN],
        ),
        (
            f'{ME}: s3:GetObject on resource: "x" because no resource-based policy allows it',
            "resource-based",
            "(and of the bucket, in another account)",
            ["s3:GetObject", "arn:aws:s3:::logs/AWSLogs/*"],
        ),
        (
            f'{ME}: s3:GetObject on resource: "x" because no VPC endpoint policy allows it',
            "VPC endpoint",
            "VPC endpoint policy that holds for",
            ["s3:GetObject", "arn:aws:s3:::logs/AWSLogs/*"],
        ),
        (
            f'{ME}: s3:GetObject on resource: "x" with an explicit deny in a service control policy',
            "no statement helps but to change that service control policy",
            "",
            None,
        ),
        ("Access Denied", "Access Denied", "policy of", ["s3:GetObject", "arn:aws:s3:::logs/AWSLogs/*"]),
    ],
)  # fmt: skip
def test_the_policy_that_aws_says_it_is(
    aws: Aws, between: Refusals, words: str, said: str, policy: str, statement: list[str] | None
) -> None:
    settings = through(healthy(aws), between)
    between.refuse_s3("GET", KEY.rpartition("/")[2], words)
    check = checks(settings)["reading s3://logs/AWSLogs/"]
    assert check.verdict is Verdict.FAILED
    assert said in check.said
    assert policy in check.policy
    wanted: object = statement and dict(
        zip(("Action", "Resource"), ([each] for each in statement), strict=True)
    )
    assert check.statement == (statement and {"Effect": "Allow", **wanted})  # type: ignore[dict-item]


def test_a_key_that_is_off_lacks_no_right(aws: Aws, between: Refusals) -> None:
    settings = through(healthy(aws), between)
    between.refuse_s3("GET", KEY.rpartition("/")[2], f"{KEY_ARN} is disabled.", "KMS.DisabledException")
    check = checks(settings)["reading s3://logs/AWSLogs/"]
    assert (check.verdict, check.statement) == (Verdict.FAILED, None)
    assert "see its state" in check.said


def test_the_key_of_a_queue_is_told_from_the_queue(aws: Aws, between: Refusals) -> None:
    settings = through(healthy(aws), between)
    words = f"{ME}: kms:Decrypt on resource: {KEY_ARN} because no identity-based policy allows it"
    between.refuse_target("ReceiveMessage", words, "KMS.AccessDeniedException")
    check = checks(settings)["receive"]
    assert check.statement == {"Effect": "Allow", "Action": ["kms:Decrypt"], "Resource": [KEY_ARN]}
    assert "and of the key" in check.policy


def test_digests_prove_nothing_of_the_logs(aws: Aws, between: Refusals) -> None:
    """They come before the logs in a listing, and may be encrypted without the key that the logs have."""
    settings = through(healthy(aws), between)
    for day in range(1, 4):
        aws.put("logs", f"AWSLogs/111122223333/CloudTrail-Digest/eu-west-1/2026/03/0{day}/d.json.gz")
    between.refuse_s3("GET", KEY.rpartition("/")[2], f"{ME}: kms:Decrypt on resource: {KEY_ARN}")
    found = checks(settings)
    assert KEY in found["objects of s3://logs/AWSLogs/"].said
    assert found["reading s3://logs/AWSLogs/"].statement == {
        "Effect": "Allow",
        "Action": ["kms:Decrypt"],
        "Resource": [KEY_ARN],
    }


def test_digests_alone_are_no_logs(aws: Aws) -> None:
    settings = dataclasses.replace(healthy(aws), prefixes=("AWSLogs/2/",))
    aws.put("logs", "AWSLogs/2/CloudTrail-Digest/eu-west-1/2026/03/01/d.json.gz")
    check = checks(settings)["objects of s3://logs/AWSLogs/2/"]
    assert (check.verdict, "CloudTrail-Digest" in check.said) == (Verdict.FAILED, True)


def test_a_hundred_empty_folders_are_no_bucket_without_logs(aws: Aws) -> None:
    settings = healthy(aws)
    for number in range(120):
        aws.s3.put_object(Bucket="logs", Key=f"AWSLogs/0000{number:03}/", Body=b"")
    assert checks(settings)["objects of s3://logs/AWSLogs/"].verdict is Verdict.OK


def test_what_was_not_looked_at_is_not_said_to_be_missing(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log lies behind more folders than are listed."""
    from trailhawk.connectors import doctor

    settings = healthy(aws)
    most = doctor._MOST_LISTINGS
    monkeypatch.setattr(doctor, "_MOST_LISTINGS", 6)
    for number in range(8):
        aws.s3.put_object(Bucket="logs", Key=f"AWSLogs/9{number:03}/CloudTrail/", Body=b"")
    check = checks(settings)["objects of s3://logs/AWSLogs/"]
    assert (check.verdict, "the rest was not looked at" in check.said) == (Verdict.UNKNOWN, True)
    for number in range(8):
        aws.put("logs", f"AWSLogs/9{number:03}/CloudTrail/a.txt")
    asked = aws.sqs.get_queue_attributes(QueueUrl=settings.queue_url, AttributeNames=["QueueArn"])
    notify(aws, asked["Attributes"]["QueueArn"], prefix="AWSLogs/", suffix=".json.gz")
    settings = dataclasses.replace(settings, suffix=".gz")
    found = checks(settings)
    assert found["objects of s3://logs/AWSLogs/"].verdict is Verdict.UNKNOWN
    assert found["notification of logs"].verdict is Verdict.OK
    monkeypatch.setattr(doctor, "_MOST_LISTINGS", most)
    assert checks(settings)["objects of s3://logs/AWSLogs/"].verdict is Verdict.OK


def test_a_right_to_list_that_ends_at_the_prefix(aws: Aws, between: Refusals) -> None:
    """As `connectors setup` gives it: what else there is may not be listed."""
    settings = through(dataclasses.replace(healthy(aws), prefixes=("AWSLogs/999/",)), between)
    between.refuse(
        lambda method, path, _: method == "GET" and "list-type" in path and "prefix=AWSLogs" not in path,
        "AccessDenied",
        "Access Denied",
    )
    check = checks(settings)["objects of s3://logs/AWSLogs/999/"]
    assert check.verdict is Verdict.FAILED
    assert "may not be listed (AccessDenied)" in check.said


def test_a_notification_is_found_without_asking_the_queue_for_its_name(aws: Aws, between: Refusals) -> None:
    settings = through(dataclasses.replace(healthy(aws), buckets=("logs",)), between)
    between.refuse_target("GetQueueAttributes", "Access to the resource is denied.")
    found = checks(settings)
    assert found["queue"].verdict is Verdict.UNKNOWN
    assert found["notification of logs"].verdict is Verdict.OK
    assert "queue policy" not in found


def test_a_denial_that_does_not_hit_us(aws: Aws, between: Refusals) -> None:
    settings = through(healthy(aws), between)
    deny = {"Effect": "Deny", "Action": "s3:*", "Resource": ["arn:aws:s3:::logs", "arn:aws:s3:::logs/*"]}
    encrypted = deny | {"Principal": "*", "Condition": {"Bool": {"aws:SecureTransport": "false"}}}
    others = deny | {"Principal": {"AWS": "arn:aws:iam::999:root"}}
    policy = {"Version": "2012-10-17", "Statement": [encrypted, others]}
    aws.s3.put_bucket_policy(Bucket="logs", Policy=json.dumps(policy))
    assert "policy of logs" not in checks(settings)
    between.refuse_s3("GET", KEY.rpartition("/")[2], "Access Denied")
    assert "policy of logs" not in checks(settings)
    policy["Statement"] = [deny | {"Sid": "Us", "Principal": {"AWS": "123456789012"}}]
    aws.s3.put_bucket_policy(Bucket="logs", Policy=json.dumps(policy))
    check = checks(settings)["policy of logs"]
    assert (check.verdict, "Us denies s3:GetObject" in check.said) == (Verdict.FAILED, True)


def test_a_queue_that_cannot_be_kept_waiting(aws: Aws, limited: Any) -> None:
    settings = dataclasses.replace(healthy(aws), buckets=("logs",))
    limited("sqs:ReceiveMessage", "sqs:DeleteMessage", "s3:ListBucket", "s3:GetObject")
    found = checks(settings)
    assert (found["delete"].verdict, found["extend"].verdict) == (Verdict.OK, Verdict.FAILED)


def test_few_receipts_are_not_used_up(aws: Aws) -> None:
    settings = healthy(aws)
    for number in range(5):
        aws.put("logs", f"AWSLogs/{number}.json.gz")
    dead = aws.queue(name="dead")
    arn = aws.sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 5})
    aws.sqs.set_queue_attributes(QueueUrl=settings.queue_url, Attributes={"RedrivePolicy": policy})
    assert checks(dataclasses.replace(settings, buckets=("logs",)))["messages"].said.startswith("1 message,")


def test_a_suffix_that_no_log_has(aws: Aws) -> None:
    settings = healthy(aws)
    arn = aws.sqs.get_queue_attributes(QueueUrl=settings.queue_url, AttributeNames=["QueueArn"])
    rules = [{"Name": "suffix", "Value": ".json"}]
    told = {
        "QueueArn": arn["Attributes"]["QueueArn"],
        "Events": ["s3:ObjectCreated:*"],
        "Filter": {"Key": {"FilterRules": rules}},
    }
    configuration: Any = {"QueueConfigurations": [told]}
    aws.s3.put_bucket_notification_configuration(Bucket="logs", NotificationConfiguration=configuration)
    check = checks(settings)["notification of logs"]
    assert (check.verdict, "none does, they are as " + KEY in check.said) == (Verdict.FAILED, True)
    aws.s3.delete_object(Bucket="logs", Key=KEY)  # of a bucket without logs nobody knows what they are as
    check = checks(dataclasses.replace(settings, buckets=("logs",)))["notification of logs"]
    assert (check.verdict, "but only keys that end with '.json'" in check.said) == (Verdict.OK, True)


def test_a_notification_of_less_than_the_section_wants(aws: Aws) -> None:
    settings = healthy(aws, prefix="AWSLogs/111122223333/")
    check = checks(settings)["notification of logs"]
    assert check.verdict is Verdict.OK
    assert "but only keys that begin with 'AWSLogs/111122223333/'" in check.said


def test_a_fifo_queue(aws: Aws) -> None:
    aws.bucket()
    aws.put("logs", KEY)
    url = aws.sqs.create_queue(QueueName="news.fifo", Attributes={"FifoQueue": "true"})["QueueUrl"]
    found = list(examine(SqsSettings("main", url, aws.access, buckets=("logs",))))
    assert any("S3 cannot tell a FIFO queue" in check.said for check in found)


def test_a_statement_for_another_queue(aws: Aws) -> None:
    settings = dataclasses.replace(healthy(aws), buckets=("logs",))
    statement = SEND | {"Resource": "arn:aws:sqs:eu-west-1:123456789012:old"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    aws.sqs.set_queue_attributes(QueueUrl=settings.queue_url, Attributes={"Policy": policy})
    assert checks(settings)["queue policy"].verdict is Verdict.FAILED


def test_the_bucket_in_a_policy_with_stars(aws: Aws) -> None:
    """AWS's own examples write `arn:aws:s3:*:*:NAME`."""
    settings = healthy(aws)
    statement = SEND | {"Condition": {"ArnLike": {"aws:SourceArn": "arn:aws:s3:*:*:logs"}}}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement | {"Resource": "*"}]})
    aws.sqs.set_queue_attributes(QueueUrl=settings.queue_url, Attributes={"Policy": policy})
    assert checks(settings)["queue policy"].said == "bucket logs may send"


# --- through SNS and EventBridge ----------------------------------------------------------------------------


def by_topic(
    aws: Aws,
    *,
    subscribed: bool = True,
    sender: str = "sns.amazonaws.com",
    attributes: dict[str, str] | None = None,
) -> Any:
    """A bucket that tells a topic, and a queue that subscribes to it; settings and the topic's ARN."""
    settings = dataclasses.replace(healthy(aws), buckets=("logs",))
    arn = aws.sqs.get_queue_attributes(QueueUrl=settings.queue_url, AttributeNames=["QueueArn"])
    queue = arn["Attributes"]["QueueArn"]
    sns = aws.client("sns")
    topic = sns.create_topic(Name="news")["TopicArn"]
    policy = {"Statement": [SEND | {"Action": "sns:Publish", "Resource": topic}]}
    sns.set_topic_attributes(TopicArn=topic, AttributeName="Policy", AttributeValue=json.dumps(policy))
    told = {"TopicArn": topic, "Events": ["s3:ObjectCreated:*"]}
    configuration: Any = {"TopicConfigurations": [told]}
    aws.s3.put_bucket_notification_configuration(Bucket="logs", NotificationConfiguration=configuration)
    if subscribed:
        sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue, Attributes=attributes or {})
    statement = SEND | {"Principal": {"Service": sender}, "Resource": queue}
    statement["Condition"] = {"ArnLike": {"aws:SourceArn": topic}}
    sent = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    aws.sqs.set_queue_attributes(QueueUrl=settings.queue_url, Attributes={"Policy": sent})
    return settings, topic


def test_through_a_topic(aws: Aws) -> None:
    settings, _ = by_topic(aws)
    trail(aws)
    assert set(verdicts(settings).values()) == {"ok"}
    assert "region of logs" not in verdicts(settings)


@pytest.mark.parametrize(
    ("attributes", "verdict", "words"),
    [
        ({"FilterPolicy": '{"kind":["log"]}'}, "failed", "nothing passes"),
        ({"FilterPolicy": '{"a":["b"]}', "FilterPolicyScope": "MessageBody"}, "unknown", '{"a":["b"]}'),
    ],
)
def test_a_subscription_that_filters(aws: Aws, attributes: dict[str, str], verdict: str, words: str) -> None:
    settings, _ = by_topic(aws, attributes=attributes)
    check = checks(settings)["topic news"]
    assert (check.verdict.value, words in check.said) == (verdict, True)


def test_a_topic_that_the_queue_does_not_read(aws: Aws) -> None:
    settings, topic = by_topic(aws, subscribed=False)
    assert checks(settings)["topic news"].said.startswith(f"the queue does not subscribe to {topic}")


def test_a_topic_that_may_not_send(aws: Aws) -> None:
    settings, topic = by_topic(aws, sender="s3.amazonaws.com")
    check = checks(settings)["queue policy"]
    assert check.verdict is Verdict.FAILED
    assert check.statement is not None
    assert check.statement["Principal"] == {"Service": "sns.amazonaws.com"}
    assert check.statement["Condition"] == {
        "ArnLike": {"aws:SourceArn": topic},
        "StringEquals": {"aws:SourceAccount": "123456789012"},
    }


def test_the_topic_of_the_trail(aws: Aws) -> None:
    """CloudTrail tells a topic of its files; the bucket itself tells nobody."""
    settings, topic = by_topic(aws)
    aws.s3.put_bucket_notification_configuration(Bucket="logs", NotificationConfiguration={})
    trail(aws)
    aws.client("cloudtrail").update_trail(Name="main", SnsTopicName="news")
    found = checks(settings)
    assert f"CloudTrail tells topic {topic}" in found["notification of logs"].said
    assert found["topic news"].verdict is Verdict.OK


def by_rule(aws: Aws, between: Refusals, pattern: Mapping[str, object], **target: object) -> SqsSettings:
    settings = dataclasses.replace(healthy(aws), buckets=("logs",))
    arn = aws.sqs.get_queue_attributes(QueueUrl=settings.queue_url, AttributeNames=["QueueArn"])
    queue = arn["Attributes"]["QueueArn"]
    between.tell(  # moto takes it and does not tell it again
        lambda method, path, _: method == "GET" and path.endswith("?notification"),
        "<NotificationConfiguration><EventBridgeConfiguration/></NotificationConfiguration>",
    )
    events = aws.client("events")
    rule = events.put_rule(Name="news", EventPattern=json.dumps(pattern))["RuleArn"]
    events.put_targets(Rule="news", Targets=[{"Id": "queue", "Arn": queue, **target}])
    statement = SEND | {"Principal": {"Service": "events.amazonaws.com"}, "Resource": queue}
    statement["Condition"] = {"ArnEquals": {"aws:SourceArn": rule}}
    sent = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    aws.sqs.set_queue_attributes(QueueUrl=settings.queue_url, Attributes={"Policy": sent})
    return through(settings, between)


NEW = {"source": ["aws.s3"], "detail-type": ["Object Created"]}


def test_through_eventbridge(aws: Aws, between: Refusals) -> None:
    settings = by_rule(aws, between, NEW | {"detail": {"bucket": {"name": ["logs"]}}})
    trail(aws)
    assert set(verdicts(settings).values()) == {"ok"}
    aws.client("events").disable_rule(Name="news")
    assert checks(settings)["rule news"].said == "the rule is disabled"
    aws.client("events").remove_targets(Rule="news", Ids=["queue"])
    assert "has the queue as its target" in checks(settings)["rule"].said


@pytest.mark.parametrize(
    ("pattern", "target", "verdict"),
    [
        (NEW | {"detail": {"bucket": {"name": ["other"]}}}, {}, "failed"),
        (NEW | {"detail": {"object": {"key": [{"prefix": "AWSLogs/"}]}}}, {}, "ok"),
        (NEW | {"detail": {"object": {"key": [{"prefix": "x/"}]}}}, {}, "failed"),
        (NEW | {"account": ["1"]}, {}, "unknown"),
        (NEW, {"InputPath": "$.detail"}, "failed"),
    ],
)
def test_rules(
    aws: Aws, between: Refusals, pattern: dict[str, object], target: dict[str, object], verdict: str
) -> None:
    assert verdicts(by_rule(aws, between, pattern, **target))["rule news"] == verdict


@pytest.mark.parametrize(
    ("choice", "answer"),
    [
        ("a/b.gz", "yes"),
        ("a/b", "no"),
        ({"prefix": "a/"}, "yes"),
        ({"suffix": ".json"}, "no"),
        ({"wildcard": "a/*.gz"}, "yes"),
        ({"wildcard": "a/?.gz"}, "no"),
        ({"equals-ignore-case": "A/B.GZ"}, "yes"),
        ({"anything-but": ["c"]}, "yes"),
        ({"anything-but": "a/b.gz"}, "no"),
        ({"anything-but": {"prefix": "a"}}, "perhaps"),
        ({"exists": True}, "yes"),
        ({"exists": False}, "no"),
        ({"numeric": [">", 1]}, "perhaps"),
    ],
)
def test_patterns_of_eventbridge(choice: object, answer: str) -> None:
    event = {"detail": {"object": {"key": "a/b.gz"}}, "resources": ["x", "y"]}
    assert fits(json.dumps({"detail": {"object": {"key": [choice]}}}), event) == answer
    assert (
        fits(json.dumps({"detail": {"object": {"key": ["no", choice]}}, "resources": ["y"]}), event) == answer
    )


@pytest.mark.parametrize(
    ("pattern", "answer"),
    [("", "no"), ("{", "no"), ("[]", "no"), ("{}", "yes"), ('{"$or": []}', "perhaps"), ('{"a": 1}', "no")],
)
def test_patterns_that_are_none(pattern: str, answer: str) -> None:
    assert fits(pattern, {"a": "b"}) == answer


def test_a_queue_with_a_key_of_ones_own(aws: Aws) -> None:
    settings = dataclasses.replace(healthy(aws), buckets=("logs",))
    kms = aws.client("kms")
    key = kms.create_key()["KeyMetadata"]
    aws.sqs.set_queue_attributes(QueueUrl=settings.queue_url, Attributes={"KmsMasterKeyId": key["Arn"]})
    check = checks(settings)["queue encryption"]
    assert (check.verdict, "kms:GenerateDataKey" in check.said) == (Verdict.FAILED, True)
    assert check.statement is not None
    policy = {"Version": "2012-10-17", "Statement": [check.statement]}
    kms.put_key_policy(KeyId=key["KeyId"], PolicyName="default", Policy=json.dumps(policy))
    assert checks(settings)["queue encryption"].verdict is Verdict.OK
    kms.disable_key(KeyId=key["KeyId"])
    assert "is Disabled" in checks(settings)["queue encryption"].said


# --- more of trails and identity ----------------------------------------------------------------------------


Fields = dict[str, tuple[str, str]]
DATA: Fields = {"eventCategory": ("Equals", "Data"), "resources.type": ("Equals", "AWS::S3::Object")}
MANAGEMENT: Fields = {"eventCategory": ("Equals", "Management")}
WRITES: Fields = {"readOnly": ("Equals", "false")}
READS: Fields = {"readOnly": ("Equals", "true")}


def advanced(fields: Fields) -> dict[str, object]:
    return {"FieldSelectors": [{"Field": name, how: [value]} for name, (how, value) in fields.items()]}


@pytest.mark.parametrize(
    ("selectors", "name", "verdict", "words"),
    [
        ([DATA], "management events", "failed", "no management events"),
        ([DATA], "data events", "ok", "calls on S3 objects are logged"),
        ([MANAGEMENT], "data events", "failed", "no data events"),
        ([MANAGEMENT | WRITES], "management events", "failed", "only writes"),
        ([DATA | WRITES], "data events", "failed", "not those that are read"),
        ([DATA | WRITES, DATA | READS], "data events", "ok", "calls on S3 objects"),
        ([DATA | {"resources.ARN": ("StartsWith", "arn:aws:s3:::x/")}], "data events", "ok", "of those that"),
        ([DATA | {"resources.ARN": ("NotStartsWith", "arn:aws:s3:::x/")}], "data events", "ok", "are logged"),
    ],
)  # fmt: skip
def test_what_advanced_selectors_let_through(
    aws: Aws, selectors: list[Fields], name: str, verdict: str, words: str
) -> None:
    settings = healthy(aws)
    told = [advanced(fields) for fields in selectors]
    trail(aws, data=False).put_event_selectors(TrailName="main", AdvancedEventSelectors=told)
    check = checks(settings)[name]
    assert (check.verdict.value, words in check.said) == (verdict, True)


def test_classic_selectors_of_writes_alone(aws: Aws) -> None:
    settings = healthy(aws)
    resources = [{"Type": "AWS::S3::Object", "Values": ["arn:aws:s3"]}]
    selector = {"ReadWriteType": "WriteOnly", "DataResources": resources}
    trail(aws).put_event_selectors(TrailName="main", EventSelectors=[selector])
    found = checks(settings)
    assert found["data events"].said == "S3 objects that are written are logged, not those that are read"
    assert found["management events"].verdict is Verdict.FAILED


def test_two_trails_together(aws: Aws) -> None:
    """One logs management events, the other calls on objects: nothing is missing."""
    settings = healthy(aws)
    client = trail(aws, data=False)
    client.create_trail(Name="files", S3BucketName="logs", EnableLogFileValidation=True)
    client.start_logging(Name="files")
    client.put_event_selectors(TrailName="files", AdvancedEventSelectors=[advanced(DATA)])
    assert set(verdicts(settings).values()) == {"ok"}


def test_a_store_that_does_not_tell_who_we_are(aws: Aws, between: Refusals) -> None:
    """MinIO and others speak S3 and know no GetCallerIdentity."""
    aws.bucket()
    aws.put("logs", KEY)
    between.refuse_target("GetCallerIdentity", "Unsupported action", "InvalidParameterValue")
    access = dataclasses.replace(aws.access, endpoint_url=between.url)
    found = list(examine(S3Settings("old", (Location("logs"),), access), thorough=False))
    assert [check.verdict.value for check in found] == ["unknown", "ok", "ok"]


@pytest.mark.parametrize(
    ("code", "words", "said", "statements"),
    [
        ("ValidationError", "The requested DurationSeconds exceeds the MaxSessionDuration", "MaxSession", 0),
        ("RegionDisabledException", "STS is not activated in this region", "not activated", 0),
        ("AccessDenied", "is not authorized to perform: sts:AssumeRole on resource: r", "AccessDenied", 2),
        ("AccessDenied", "x because no identity-based policy allows it", "no identity", 1),
        ("AccessDenied", "x with an explicit deny in an identity-based policy", "change that identity", 0),
    ],
)  # fmt: skip
def test_why_a_role_is_not_given(
    aws: Aws, between: Refusals, code: str, words: str, said: str, statements: int
) -> None:
    between.refuse_target("AssumeRole", words, code)
    access = dataclasses.replace(
        aws.access, endpoint_url=between.url, role_arn="arn:aws:iam::444455556666:role/logs"
    )
    found = list(examine(S3Settings("old", (Location("logs"),), access)))
    assert any(said in check.said for check in found)
    assert sum(check.statement is not None for check in found) == statements


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("No OpenIDConnect provider found in your account for https://x", "connectors setup --issuer"),
        ("Incorrect token audience", "list of audiences lacks"),
    ],
)
def test_a_token_that_is_not_taken(
    aws: Aws, between: Refusals, tmp_path: Path, words: str, said: str
) -> None:
    between.refuse_target("AssumeRoleWithWebIdentity", words, "InvalidIdentityToken")
    (tmp_path / "token").write_text("a.b.c")
    access = dataclasses.replace(
        aws.access,
        endpoint_url=between.url,
        role_arn="arn:aws:iam::444455556666:role/logs",
        web_identity_token_file=str(tmp_path / "token"),
    )
    (check,) = examine(S3Settings("old", (Location("logs"),), access))
    assert (check.statement, said in check.said) == (None, True)


def test_versions_need_rights_of_their_own(aws: Aws, between: Refusals) -> None:
    aws.bucket(versions=True)
    aws.put("logs", KEY)
    access = dataclasses.replace(aws.access, endpoint_url=between.url)
    settings = S3Settings("old", (Location("logs", "AWSLogs/"),), access, versions=True)
    assert checks(settings)["versions of s3://logs/AWSLogs/"].verdict is Verdict.OK
    between.refuse_s3("HEAD", "versionId", "")
    check = checks(settings)["versions of s3://logs/AWSLogs/"]
    assert check.statement is not None
    assert check.statement["Action"] == ["s3:GetObjectVersion"]
    between.refuse_s3("GET", "versions", "Access Denied")
    check = checks(settings)["versions of s3://logs/AWSLogs/"]
    assert check.statement == {
        "Effect": "Allow",
        "Action": ["s3:ListBucketVersions"],
        "Resource": ["arn:aws:s3:::logs"],
    }


def test_a_session_of_identity_center_is_trusted_by_its_path() -> None:
    access = Access(role_arn="arn:aws:iam::1:role/r", external_id="secret-word")
    said = trust_statement(access, "arn:aws:sts::2:assumed-role/AWSReservedSSO_Admin_0123456789abcdef/ann")
    assert said["Principal"] == {"AWS": "arn:aws:iam::2:root"}
    assert said["Condition"] == {
        "StringEquals": {"sts:ExternalId": "secret-word"},
        "ArnLike": {
            "aws:PrincipalArn": "arn:aws:iam::2:role/aws-reserved/sso.amazonaws.com/*"
            "AWSReservedSSO_Admin_0123456789abcdef"
        },
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
        ([SEND | {"Condition": {"ArnLike": {"aws:SourceArn": "arn:aws:s3:*:*:logs"}}}], "yes"),
        # Only operators with "Like", and those of ARNs, know wildcards.
        ([SEND | {"Condition": {"StringEquals": {"aws:SourceArn": "arn:aws:s3:*:*:logs"}}}], "no"),
        ([SEND | {"Condition": {"StringEquals": {"aws:SourceAccount": "1"}}}], "yes"),
        ([SEND | {"Condition": {"StringEquals": {"aws:SourceAccount": "2"}}}], "no"),
        ([SEND | {"Condition": {"StringEquals": {"aws:PrincipalOrgID": "o-1"}}}], "perhaps"),
        ([SEND | {"Condition": {"Bool": {"aws:SecureTransport": "true"}}}], "yes"),
        ([SEND | {"Resource": QUEUE}], "yes"),
        ([SEND | {"Resource": "arn:aws:sqs:eu-west-1:1:*"}], "yes"),
        ([SEND | {"Resource": "arn:aws:sqs:eu-west-1:1:other"}], "no"),
        ([SEND, DENY], "no"),
        ([SEND, DENY | {"Condition": {"Bool": {"aws:Secure": "false"}}}], "perhaps"),
        ([DENY | {"Condition": {"Bool": {"aws:Secure": "false"}}}, SEND], "perhaps"),
        ([SEND, DENY | {"Condition": {"Bool": {"aws:SecureTransport": "false"}}}], "yes"),
        ([SEND, DENY | {"Condition": {"ArnNotLike": {"aws:SourceArn": "arn:aws:s3:::logs"}}}], "yes"),
        ([SEND, DENY | {"Condition": {"ArnNotLike": {"aws:SourceArn": "arn:aws:s3:::other"}}}], "no"),
        ([SEND, NOBODY_ELSE | {"NotPrincipal": {"AWS": "arn:aws:iam::1:role/r"}}], "no"),
        ([SEND, NOBODY_ELSE | {"NotPrincipal": {"Service": "s3.amazonaws.com"}}], "yes"),
        ([SEND, {"Effect": "Deny", "Principal": "*", "NotAction": "sqs:ReceiveMessage"}], "no"),
        ([SEND, {"Effect": "Deny", "Principal": "*", "NotAction": "sqs:Send*"}], "yes"),
    ],
)  # fmt: skip
def test_may_send(statements: list[object], answer: str) -> None:
    policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
    said = may_send(
        policy,
        service="s3.amazonaws.com",
        action="sqs:SendMessage",
        resource=QUEUE,
        source="arn:aws:s3:::logs",
        account="1",
    )
    assert said == answer


@pytest.mark.parametrize(
    ("pattern", "text", "fits_it"),
    [
        ("", "", True),
        ("*", "", True),
        ("a*", "abc", True),
        ("*c", "abc", True),
        ("a*b*c", "a12b34c", True),
        ("a*b*c", "a12c34b", False),
        ("ab*b", "ab", False),
        ("a?c", "abc", True),
        ("a?*", "a", False),
        ("a[b]c", "abc", False),
        ("*a" * 40 + "b", "a" * 3000, False),
    ],
)
def test_patterns_of_policies(pattern: str, text: str, fits_it: bool) -> None:
    assert like(pattern, text) == fits_it


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from(["*", "Deny", "Allow", "sqs:*", "aws:SourceArn"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["Statement", "Effect", "Principal", "NotAction", "Condition", "StringLike", "prefix"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(JSON)
def test_any_json_as_policy_or_pattern(value: object) -> None:
    policy = json.dumps({"Statement": value})
    assert may_send(policy, service="s", action="a:b", source="x") in ("yes", "no", "perhaps")
    assert isinstance(denials(policy, action="a:b"), list)
    assert isinstance(sources(policy), list)
    assert fits(json.dumps(value), {"Statement": {"Effect": "x"}, "prefix": ["y"]}) in (
        "yes",
        "no",
        "perhaps",
    )


@pytest.mark.parametrize(
    "policy",
    ["[" * 100_000, "1" * 5000, "", "{", "[]", '{"Statement": 7}', '{"Statement": {"Effect": "Allow"}}'],
)
def test_broken_policies(policy: str) -> None:
    assert may_send(policy, service="s", action="a:b", source="") == "no"
    assert sources(policy) == []
