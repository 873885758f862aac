"""What is wrong with a connector to AWS: each link from the trail to the lake, in AWS's words and ours.

Nothing is changed. A message of the queue is looked at and is visible again at once. What may not be asked is
`unknown`, with the right that would be needed to ask; a right that the connector itself lacks is `failed`,
with the statement that gives it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from botocore import exceptions as aws

from trailhawk.connectors import credentials
from trailhawk.connectors.config import Access, ConnectorSettings, Location, S3Settings, SqsSettings
from trailhawk.connectors.notices import Notice, read
from trailhawk.connectors.policy import Statement, allow, denials, may_send, sources
from trailhawk.connectors.retry import Fault, Kind, fault_of
from trailhawk.connectors.sqs import queue_region
from trailhawk.errors import UsageError

if TYPE_CHECKING:
    import boto3
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

_REFUSALS: Final = (aws.ClientError, aws.BotoCoreError)
_CREATED: Final = "s3:ObjectCreated:"


class Verdict(StrEnum):
    """How a check ended."""

    OK = "ok"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Check:
    """One link looked at. `statement` is what is missing in the policy that `policy` names."""

    name: str
    verdict: Verdict
    said: str
    policy: str = ""
    statement: Statement | None = None


def examine(settings: ConnectorSettings, *, thorough: bool = True) -> Iterator[Check]:
    """Look at a connector to AWS; without `thorough` only at what it cannot work without.

    UsageError for a connector of another kind.
    """
    if not isinstance(settings, SqsSettings | S3Settings):
        raise UsageError(
            f"connector {settings.name!r} is of type {settings.type}", hint="the doctor knows sqs and s3"
        )
    patient = _Patient(settings, thorough)
    yield from patient.identity()
    if patient.signed_in is None:
        return
    if isinstance(settings, SqsSettings):
        yield from _Queue(patient, settings).checks()
    locations = patient.locations()
    if not locations:
        yield Check(
            "bucket",
            Verdict.UNKNOWN,
            "no bucket is known: the section names none, nor does the queue's policy or a message",
        )
    for location in locations:
        yield from _Bucket(patient, location).checks()
    if thorough:
        yield from _Trails(patient).checks()


class _Patient:
    """What the checks share: the settings, who we are, and what was found on the way."""

    def __init__(self, settings: SqsSettings | S3Settings, thorough: bool) -> None:
        self.settings = settings
        self.access: Access = settings.access
        self.thorough = thorough
        self.signed_in: boto3.Session | None = None
        self.arn = ""
        self.queue_arn = ""
        self.found: list[Location] = []
        """Buckets that the queue's policy or a message names."""

    @property
    def partition(self) -> str:
        return self.arn.split(":")[1] if self.arn.startswith("arn:") else "aws"

    @property
    def account(self) -> str:
        return self.arn.split(":")[4] if self.arn.startswith("arn:") else ""

    @property
    def who(self) -> str:
        """The role or user whose policy gives a right, by name."""
        return self.access.role_arn or self.arn or "the connector's identity"

    def bucket_arn(self, bucket: str, key: str = "") -> str:
        return f"arn:{self.partition}:s3:::{bucket}{'/' if key else ''}{key}"

    def locations(self) -> list[Location]:
        """Where logs are expected."""
        if isinstance(self.settings, S3Settings):
            return list(self.settings.locations)
        prefixes = self.settings.prefixes or ("",)
        buckets = self.settings.buckets or tuple(dict.fromkeys(each.bucket for each in self.found))
        return [Location(bucket, prefix) for bucket in buckets for prefix in prefixes]

    def session(self) -> boto3.Session:
        if self.signed_in is None:
            raise RuntimeError("nobody is signed in")
        return self.signed_in

    # Who we are

    def identity(self) -> Iterator[Check]:
        """Sign in: the machine's or profile's own identity first, then the role."""
        base = credentials.session(Access(region=self.access.region, profile=self.access.profile))
        if not self.access.web_identity_token_file:
            check = self._caller("identity", base)
            yield check
            if check.verdict is not Verdict.OK:
                return
        if not self.access.role_arn:
            self.signed_in = base
            return
        try:
            credentials.assume(self.access, base)
        except _REFUSALS as error:
            yield self._not_assumed(error)
            return
        self.signed_in = credentials.session(self.access)
        yield self._caller("role", self.signed_in)

    def _caller(self, name: str, session: boto3.Session) -> Check:
        try:
            self.arn = credentials.sts_client(session, self.access).get_caller_identity()["Arn"]
        except _REFUSALS as error:
            fault = fault_of(error)
            hint = {
                "NoCredentialsError": " (no profile, environment variables or instance role are there)",
                "InvalidClientTokenId": " (the access key does not exist, or is of another partition)",
                "ExpiredToken": " (sign in again)",
            }
            return Check(name, Verdict.FAILED, f"{fault}{hint.get(fault.code, '')}")
        return Check(name, Verdict.OK, self.arn)

    def _not_assumed(self, error: Exception) -> Check:
        """Why a role was not given, with the statement for its trust policy."""
        fault = fault_of(error)
        trust = trust_statement(self.access, self.arn)
        if isinstance(error, aws.CredentialRetrievalError) or fault.code == "ValidationError":
            return Check("role", Verdict.FAILED, str(fault))
        words = str(fault)
        if not self.access.web_identity_token_file:
            words += f"; besides, {self.arn} needs sts:AssumeRole on it in its own policies"
        return Check("role", Verdict.FAILED, words, f"trust policy of {self.access.role_arn}", trust)

    def unknown(self, name: str, error: Exception, action: str, resource: str) -> Check:
        """A question that was refused; the right to ask it is no need of the connector."""
        fault = fault_of(error)
        if fault.kind is not Kind.DENIED:
            return Check(name, Verdict.UNKNOWN, str(fault))
        return Check(
            name,
            Verdict.UNKNOWN,
            f"{fault} (to look at it)",
            f"policy of {self.who}",
            allow([action], [resource]),
        )


def trust_statement(access: Access, caller: str) -> Statement:
    """The statement of a role's trust policy that lets this connector assume it."""
    if access.web_identity_token_file:
        claims = _claims(Path(access.web_identity_token_file))
        issuer = claims.get("iss", "https://ISSUER").removeprefix("https://")
        account, partition = access.role_arn.split(":")[4], access.role_arn.split(":")[1]
        equals = {f"{issuer}:aud": claims.get("aud", "AUDIENCE")}
        if "sub" in claims:
            equals[f"{issuer}:sub"] = claims["sub"]
        return allow(
            ["sts:AssumeRoleWithWebIdentity"],
            [],
            principal={"Federated": f"arn:{partition}:iam::{account}:oidc-provider/{issuer}"},
            condition={"StringEquals": equals},
        )
    condition = {"StringEquals": {"sts:ExternalId": access.external_id}} if access.external_id else None
    return allow(["sts:AssumeRole"], [], principal={"AWS": _principal(caller)}, condition=condition)


def _principal(caller: str) -> str:
    """The role behind a session, since a trust policy names roles; else the caller."""
    parts = caller.split(":")
    if len(parts) == 6 and parts[2] == "sts" and parts[5].startswith("assumed-role/"):
        return f"arn:{parts[1]}:iam::{parts[4]}:role/{parts[5].split('/')[1]}"
    return caller


def _claims(file: Path) -> dict[str, str]:
    """Issuer, audience and subject of a token, not checked; {} for what is no JSON web token."""
    claims: object = {}
    with suppress(aws.CredentialRetrievalError, IndexError, ValueError):
        middle = credentials.token(file).split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
    if not isinstance(claims, dict):
        return {}
    audience = claims.get("aud")
    if isinstance(audience, list) and audience:
        claims["aud"] = audience[0]
    return {name: claims[name] for name in ("iss", "aud", "sub") if isinstance(claims.get(name), str)}


# --- the queue ----------------------------------------------------------------------------------------------


class _Queue:
    """The queue: whether it can be read, and whether S3 may write to it."""

    def __init__(self, patient: _Patient, settings: SqsSettings) -> None:
        self._patient = patient
        self._settings = settings
        self._region = queue_region(settings)
        self._sqs: SQSClient = credentials.sqs_client(patient.session(), settings.access, region=self._region)
        self._attributes: Mapping[str, str] = {}
        account, name = [*urlsplit(settings.queue_url).path.strip("/").split("/"), ""][:2]
        self._arn = f"arn:{patient.partition}:sqs:{self._region}:{account}:{name}"

    def checks(self) -> Iterator[Check]:
        yield self._attributes_of()
        if self._attributes:
            self._patient.found += [
                Location(arn.split(":::", 1)[1].split("/")[0])
                for arn in sources(self._attributes.get("Policy", ""))
                if ":s3:::" in arn and "*" not in arn
            ]
        yield from self._read()
        if self._attributes and self._patient.thorough:
            yield from self._senders()
            yield from self._encryption()
            yield from self._redrive()

    def _attributes_of(self) -> Check:
        try:
            asked = self._sqs.get_queue_attributes(QueueUrl=self._settings.queue_url, AttributeNames=["All"])
        except _REFUSALS as error:
            fault = fault_of(error)
            if "NonExistent" in fault.code or "NonExistent" in fault.words:
                words = f"{fault} (no queue of this name in region {self._region}, account {self._account})"
                return Check("queue", Verdict.FAILED, words)
            if fault.kind is Kind.DENIED:
                return self._patient.unknown("queue", error, "sqs:GetQueueAttributes", self._arn)
            return Check("queue", Verdict.FAILED, str(fault))
        self._attributes = dict(asked["Attributes"].items())
        self._arn = self._patient.queue_arn = self._attributes.get("QueueArn", self._arn)
        waiting = self._attributes.get("ApproximateNumberOfMessages", "?")
        flying = self._attributes.get("ApproximateNumberOfMessagesNotVisible", "?")
        return Check("queue", Verdict.OK, f"{self._arn}: {waiting} messages wait, {flying} in flight")

    @property
    def _account(self) -> str:
        return self._arn.split(":")[4]

    def _read(self) -> Iterator[Check]:
        """The connector's own rights on the queue, by using them harmlessly."""
        needed = allow(
            ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility"], [self._arn]
        )
        policy = f"policy of {self._patient.who}"
        messages = []
        try:
            messages = self._sqs.receive_message(
                QueueUrl=self._settings.queue_url, MaxNumberOfMessages=10, VisibilityTimeout=0
            ).get("Messages", [])
        except _REFUSALS as error:
            yield self._refused("receive", fault_of(error), policy, needed)
        else:
            yield Check("receive", Verdict.OK, "messages may be received")
        try:
            # A handle that belongs to no message deletes none; the right is asked for before.
            self._sqs.delete_message(QueueUrl=self._settings.queue_url, ReceiptHandle="trailhawk-doctor")
            yield Check("delete", Verdict.OK, "messages may be deleted")
        except _REFUSALS as error:
            fault = fault_of(error)
            if "ReceiptHandle" in fault.code or "receipt handle" in fault.words:
                yield Check("delete", Verdict.OK, "messages may be deleted")
            else:
                yield self._refused("delete", fault, policy, needed)
        if messages:
            yield self._sample([message.get("Body", "") for message in messages])

    def _refused(self, name: str, fault: Fault, policy: str, needed: Statement) -> Check:
        if fault.kind is Kind.DENIED:
            return Check(name, Verdict.FAILED, str(fault), policy, needed)
        return Check(name, Verdict.FAILED, str(fault))

    def _sample(self, bodies: Sequence[str]) -> Check:
        """What the messages that wait tell."""
        said = [read(body) for body in bodies]
        notices = [notice for each in said for notice in each.notices]
        faults = [fault for each in said for fault in each.faults]
        self._patient.found += [Location(notice.bucket) for notice in notices]
        if faults:
            words = f"{len(faults)} of {len(bodies)} messages are no notices of objects: {faults[0]}"
            return Check("messages", Verdict.FAILED, words)
        taken = [notice for notice in notices if self._takes(notice)]
        if notices and not taken:
            return Check(
                "messages",
                Verdict.FAILED,
                f"{notices[0].location} is outside of the section's buckets, prefixes and suffix: "
                "such objects are passed over and their messages deleted",
            )
        return Check("messages", Verdict.OK, f"{len(bodies)} messages tell of {len(notices)} objects")

    def _takes(self, notice: Notice) -> bool:
        settings = self._settings
        return (
            (not settings.buckets or notice.bucket in settings.buckets)
            and (not settings.prefixes or notice.key.startswith(settings.prefixes))
            and notice.key.endswith(settings.suffix)
        )

    def _senders(self) -> Iterator[Check]:
        """Whether the queue's policy lets the bucket, a topic or a rule of EventBridge send to it."""
        policy = self._attributes.get("Policy", "")
        for bucket in dict.fromkeys(location.bucket for location in self._patient.locations()):
            arn = self._patient.bucket_arn(bucket)
            answer = may_send(policy, service="s3.amazonaws.com", action="sqs:SendMessage", source=arn)
            others = [
                service
                for service in ("sns.amazonaws.com", "events.amazonaws.com")
                if f'"{service}"' in policy
            ]
            if answer == "yes":
                yield Check("queue policy", Verdict.OK, f"bucket {bucket} may send")
            elif others:
                yield Check("queue policy", Verdict.OK, f"{' and '.join(others)} may send")
            elif answer == "perhaps":
                words = f"whether bucket {bucket} may send depends on conditions of the policy"
                yield Check("queue policy", Verdict.UNKNOWN, words)
            else:
                yield Check(
                    "queue policy",
                    Verdict.FAILED,
                    f"nothing lets bucket {bucket} send to the queue",
                    f"policy of queue {self._arn}",
                    allow(
                        ["sqs:SendMessage"],
                        [self._arn],
                        principal={"Service": "s3.amazonaws.com"},
                        condition={"ArnLike": {"aws:SourceArn": arn}},
                    ),
                )

    def _encryption(self) -> Iterator[Check]:
        key = self._attributes.get("KmsMasterKeyId", "")
        if not key:
            return
        if key in ("alias/aws/sqs", "aws/sqs"):
            words = "the queue is encrypted with AWS's own key alias/aws/sqs, which S3 may not use: \
take SSE-SQS or a key of your own"
            yield Check("queue encryption", Verdict.FAILED, words)
            return
        needed = allow(
            ["kms:GenerateDataKey*", "kms:Decrypt"], ["*"], principal={"Service": "s3.amazonaws.com"}
        )
        words = f"the queue is encrypted with {key}: its policy must let S3 use it"
        yield Check("queue encryption", Verdict.UNKNOWN, words, f"policy of KMS key {key}", needed)

    def _redrive(self) -> Iterator[Check]:
        policy = self._attributes.get("RedrivePolicy", "")
        if not policy:
            if self._settings.on_poison == "redrive":
                words = 'the queue has no redrive policy, and on_poison = "redrive" relies on one'
                yield Check("redrive", Verdict.FAILED, words)
            return
        most = int(json.loads(policy).get("maxReceiveCount", 0))
        if self._settings.on_poison == "set-aside" and most <= self._settings.tries:
            words = f"messages leave the queue after {most} receipts, before tries = {self._settings.tries}: \
they are lost to the quarantine"
            yield Check("redrive", Verdict.FAILED, words)
        else:
            yield Check("redrive", Verdict.OK, f"after {most} receipts messages go to the other queue")


# --- the bucket ---------------------------------------------------------------------------------------------


class _Bucket:
    """A bucket and prefix: whether there are logs, whether they can be read, whether the queue is told."""

    def __init__(self, patient: _Patient, location: Location) -> None:
        self._patient = patient
        self._location = location
        self._bucket = location.bucket
        self._s3: S3Client = credentials.s3_client(patient.session(), patient.access)
        self._arn = patient.bucket_arn(location.bucket)
        self._objects = patient.bucket_arn(location.bucket, f"{location.prefix}*")

    def checks(self) -> Iterator[Check]:
        key = ""
        for check, found in self._listed():
            key = key or found
            yield check
        if key:
            yield self._object(key)
        if not self._patient.thorough:
            return
        if isinstance(self._patient.settings, SqsSettings):
            yield from self._notification()
            yield from self._region()
        yield from self._policy()

    def _listed(self) -> Iterator[tuple[Check, str]]:
        """Whether there are objects below the prefix; the key of one."""
        name = f"objects of {self._location}"
        try:
            page = self._s3.list_objects_v2(Bucket=self._bucket, Prefix=self._location.prefix, MaxKeys=100)
        except _REFUSALS as error:
            fault = fault_of(error)
            if fault.kind is not Kind.DENIED:
                yield Check(name, Verdict.FAILED, str(fault)), ""
            elif isinstance(self._patient.settings, S3Settings):
                needed = allow(["s3:ListBucket"], [self._arn])
                yield Check(name, Verdict.FAILED, str(fault), f"policy of {self._patient.who}", needed), ""
            else:
                yield self._patient.unknown(name, error, "s3:ListBucket", self._arn), ""
            return
        found = [each for each in page.get("Contents", []) if each.get("Size")]
        if found:
            yield Check(name, Verdict.OK, f"there is {found[0]['Key']}"), found[0]["Key"]
            return
        yield (
            Check(name, Verdict.FAILED, f"no object begins with {self._location.prefix!r}; {self._tops()}"),
            "",
        )

    def _tops(self) -> str:
        """The folders at the top of the bucket, for a prefix that does not fit."""
        page = self._s3.list_objects_v2(Bucket=self._bucket, Delimiter="/", MaxKeys=20)
        tops = [each.get("Prefix", "") for each in page.get("CommonPrefixes", [])]
        return f"the bucket has {', '.join(tops)}" if tops else "the bucket has no folders"

    def _object(self, key: str) -> Check:
        """Whether an object can be read, and decrypted."""
        name = f"reading {self._location}"
        try:
            self._s3.get_object(Bucket=self._bucket, Key=key, Range="bytes=0-0")["Body"].close()
        except _REFUSALS as error:
            fault = fault_of(error)
            if fault.kind is not Kind.DENIED:
                return Check(name, Verdict.FAILED, f"{key}: {fault}")
            if "kms" in f"{fault.code} {fault.words}".lower():
                # GuardDuty's exports are always encrypted so: the right that is forgotten most.
                needed = allow(["kms:Decrypt"], [self._key_of(key)])
                policy = f"policy of {self._patient.who} and of the key"
            else:
                needed = allow(["s3:GetObject"], [self._objects])
                policy = f"policy of {self._patient.who} (and of the bucket, in another account)"
            return Check(name, Verdict.FAILED, f"{key}: {fault}", policy, needed)
        return Check(name, Verdict.OK, f"{key} can be read")

    def _key_of(self, key: str) -> str:
        """The KMS key of an object, where that may be known."""
        with suppress(*_REFUSALS):
            return self._s3.head_object(Bucket=self._bucket, Key=key).get("SSEKMSKeyId", "*")
        return f"arn:{self._patient.partition}:kms:REGION:ACCOUNT:key/KEY"

    def _notification(self) -> Iterator[Check]:
        """Whether the bucket tells the queue of new objects, and of the right ones."""
        name = f"notification of {self._bucket}"
        try:
            given: Mapping[str, Any] = self._s3.get_bucket_notification_configuration(Bucket=self._bucket)
        except _REFUSALS as error:
            yield self._patient.unknown(name, error, "s3:GetBucketNotification", self._arn)
            return
        queues = given.get("QueueConfigurations", [])
        mine = [each for each in queues if each.get("QueueArn") == self._patient.queue_arn]
        topics = given.get("TopicConfigurations", [])
        if not (mine or topics or "EventBridgeConfiguration" in given):
            others = ", ".join(each.get("QueueArn", "") for each in queues)
            words = (
                f"the bucket does not tell queue {self._patient.queue_arn or 'of the section'} of anything"
            )
            yield Check(name, Verdict.FAILED, f"{words}{'; it tells ' + others if others else ''}")
            return
        if not mine:
            through = "SNS" if topics else "EventBridge"
            yield Check(name, Verdict.OK, f"the bucket tells {through}, which must pass it on to the queue")
        faults = [self._filter_fault(each) for each in [*mine, *([] if mine else topics)]]
        if faults and all(faults):
            yield Check(name, Verdict.FAILED, faults[0])
        elif mine:
            yield Check(name, Verdict.OK, "new objects below the prefix are told to the queue")

    def _filter_fault(self, configuration: Mapping[str, Any]) -> str:
        """What is wrong with a notification's events and filter; '' for nothing."""
        events = configuration.get("Events", [])
        if not any(event.startswith(_CREATED) for event in events):
            return f"only {', '.join(events)} are told, not {_CREATED}*"
        rules = {
            rule.get("Name", "").lower(): rule.get("Value", "")
            for rule in configuration.get("Filter", {}).get("Key", {}).get("FilterRules", [])
        }
        prefix, wanted = rules.get("prefix", ""), self._location.prefix
        if not (prefix.startswith(wanted) or wanted.startswith(prefix)):
            return f"the notification is for keys that begin with {prefix!r}, the section wants {wanted!r}"
        suffix, end = rules.get("suffix", ""), self._patient.settings.suffix
        if not (suffix.endswith(end) or end.endswith(suffix)):
            return f"the notification is for keys that end with {suffix!r}, the section wants {end!r}"
        return ""

    def _region(self) -> Iterator[Check]:
        """S3 tells only queues of the bucket's own region."""
        name = f"region of {self._bucket}"
        queue = self._patient.queue_arn.split(":")[3] if self._patient.queue_arn else ""
        try:
            told: str | None = self._s3.get_bucket_location(Bucket=self._bucket).get("LocationConstraint")
        except _REFUSALS as error:
            yield self._patient.unknown(name, error, "s3:GetBucketLocation", self._arn)
            return
        region = told or "us-east-1"  # which alone is told by silence
        if queue and region != queue:
            words = (
                f"the bucket is in {region}, the queue in {queue}: S3 tells only queues of its own region \
(through SNS or EventBridge it works)"
            )
            yield Check(name, Verdict.FAILED, words)
        else:
            yield Check(name, Verdict.OK, region)

    def _policy(self) -> Iterator[Check]:
        """Statements of the bucket's policy that forbid reading to some."""
        name = f"policy of {self._bucket}"
        try:
            policy = self._s3.get_bucket_policy(Bucket=self._bucket)["Policy"]
        except _REFUSALS as error:
            if fault_of(error).code != "NoSuchBucketPolicy":
                yield self._patient.unknown(name, error, "s3:GetBucketPolicy", self._arn)
            return
        for statement in denials(policy, "s3:GetObject"):
            condition = statement.get("Condition")
            words = f"{statement.get('Sid') or 'a statement'} denies s3:GetObject"
            if condition is None:
                yield Check(name, Verdict.FAILED, f"{words} to {json.dumps(statement.get('Principal'))}")
            else:
                yield Check(name, Verdict.UNKNOWN, f"{words} where {json.dumps(condition)}")


# --- the trail ----------------------------------------------------------------------------------------------


class _Trails:
    """The trails that deliver into the buckets: what they log, and whether they do."""

    def __init__(self, patient: _Patient) -> None:
        self._patient = patient
        self._buckets = {location.bucket for location in patient.locations()}

    def checks(self) -> Iterator[Check]:
        try:
            client = _cloudtrail(self._patient)
            trails = client.describe_trails().get("trailList", [])
        except _REFUSALS as error:
            yield self._patient.unknown("trail", error, "cloudtrail:DescribeTrails", "*")
            return
        mine = [trail for trail in trails if trail.get("S3BucketName") in self._buckets]
        if not mine:
            words = (
                "no trail of this account and region delivers into the bucket: it may be another account's"
            )
            yield Check("trail", Verdict.UNKNOWN, words)
        for trail in mine:
            yield from self._trail(client, trail)

    def _trail(self, client: Any, trail: Mapping[str, Any]) -> Iterator[Check]:
        arn, name = trail.get("TrailARN", ""), f"trail {trail.get('Name', '')}"
        yield self._asked(name, "cloudtrail:GetTrailStatus", arn, lambda: self._status(name, client, arn))
        yield self._asked(
            f"{name}, data events",
            "cloudtrail:GetEventSelectors",
            arn,
            lambda: self._data_events(f"{name}, data events", client.get_event_selectors(TrailName=arn)),
        )
        if trail.get("LogFileValidationEnabled"):
            yield Check(f"{name}, validation", Verdict.OK, "digest files are written")
        else:
            words = "log file validation is off: nothing proves that no file was changed or deleted"
            yield Check(f"{name}, validation", Verdict.FAILED, words)

    def _asked(self, name: str, action: str, arn: str, ask: Callable[[], Check]) -> Check:
        try:
            return ask()
        except _REFUSALS as error:
            return self._patient.unknown(name, error, action, arn)

    def _status(self, name: str, client: Any, arn: str) -> Check:
        status = client.get_trail_status(Name=arn)
        if not status.get("IsLogging"):
            return Check(name, Verdict.FAILED, "the trail is stopped")
        if error := status.get("LatestDeliveryError"):
            return Check(name, Verdict.FAILED, f"the last delivery failed: {error}")
        return Check(
            name, Verdict.OK, f"the trail logs; last delivery {status.get('LatestDeliveryTime', '?')}"
        )

    def _data_events(self, name: str, selectors: Mapping[str, Any]) -> Check:
        """Whether reads and writes of objects are logged: without them nobody sees which files left."""
        classic = [
            resource
            for selector in selectors.get("EventSelectors") or ()
            for resource in selector.get("DataResources", ())
            if resource.get("Type") == "AWS::S3::Object"
        ]
        advanced = [
            selector
            for selector in selectors.get("AdvancedEventSelectors") or ()
            if _field_is(selector, "eventCategory", "Data")
            and _field_is(selector, "resources.type", "AWS::S3::Object")
        ]
        if classic or advanced:
            return Check(name, Verdict.OK, "calls on S3 objects are logged")
        words = "no data events of S3: which objects were read or written is not logged (put-event-selectors)"
        return Check(name, Verdict.FAILED, words)


def _cloudtrail(patient: _Patient) -> Any:
    return patient.session().client(
        "cloudtrail",
        region_name=patient.session().region_name or "us-east-1",
        endpoint_url=patient.access.endpoint_url or None,
        config=credentials.config(patient.access),
    )


def _field_is(selector: Mapping[str, Any], name: str, value: str) -> bool:
    return any(
        each.get("Field") == name and value in each.get("Equals", ())
        for each in selector.get("FieldSelectors", ())
    )
