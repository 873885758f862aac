"""What is wrong with a connector to AWS: each link from the trail to the lake, in AWS's words and ours.

Nothing is changed, but that a message looked at counts as received once more; it is visible again at once.
What may not be asked is `unknown`, with the right that would be needed to ask; a right that the connector
itself lacks is `failed`, with the statement that gives it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from botocore import exceptions as aws

from trailhawk.connectors import credentials
from trailhawk.connectors.config import Access, ConnectorSettings, Location, S3Settings, SqsSettings
from trailhawk.connectors.diagnosis import REFUSALS, Check, Patient, Verdict, role_of
from trailhawk.connectors.notices import Notice, read
from trailhawk.connectors.policy import Statement, allow, denials, sources
from trailhawk.connectors.retry import Fault, Kind, fault_of
from trailhawk.connectors.routes import Routes
from trailhawk.connectors.sqs import PATIENCE, queue_region
from trailhawk.connectors.trails import Trails
from trailhawk.errors import UsageError
from trailhawk.words import counted

if TYPE_CHECKING:
    import boto3
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

__all__ = ["Check", "Verdict", "examine", "trust_statement"]

_FEW_RECEIPTS: Final = 10
_MOST_LISTINGS: Final = 60
_DIGESTS: Final = "CloudTrail-Digest"


def examine(settings: ConnectorSettings, *, thorough: bool = True) -> Iterator[Check]:
    """Look at a connector to AWS; without `thorough` only at what it cannot work without.

    UsageError for a connector of another kind.
    """
    if not isinstance(settings, SqsSettings | S3Settings):
        raise UsageError(
            f"connector {settings.name!r} is of type {settings.type}",
            hint=f"they look at sqs and s3; 'trailhawk connectors run {settings.name} --once' tries it",
        )
    patient = Patient(settings, thorough=thorough)
    yield from _Identity(patient).checks()
    if patient.signed_in is None:
        return
    told = False
    if isinstance(settings, SqsSettings):
        queue = _Queue(patient, settings)
        yield from queue.checks()
        told = thorough and not queue.is_for_dead_letters
    locations = patient.locations()
    if not locations:
        yield Check(
            "bucket",
            Verdict.UNKNOWN,
            "no bucket is known: the section names none, nor does the queue's policy or a message",
        )
        if told:
            yield from Routes(patient).no_bucket()
    routes = Routes(patient)
    for location in locations:
        bucket = _Bucket(patient, location)
        yield from bucket.checks()
        if told:
            yield from routes.checks(location, bucket.log, bucket.find)
    if thorough:
        yield from Trails(patient).checks()


# --- who we are ---------------------------------------------------------------------------------------------


class _Identity:
    """Sign in: the machine's or profile's own identity first, then the role."""

    def __init__(self, patient: Patient) -> None:
        self._patient = patient
        self._access = patient.access

    def checks(self) -> Iterator[Check]:
        base = credentials.session(Access(region=self._access.region, profile=self._access.profile))
        if not self._access.web_identity_token_file:
            check = self._caller("identity", base)
            yield check
            if check.verdict is Verdict.FAILED:
                return
        if not self._access.role_arn:
            self._patient.signed_in = base
            return
        try:
            credentials.assume(self._access, base)
        except REFUSALS as error:
            yield from self._not_assumed(error)
            return
        self._patient.signed_in = credentials.session(self._access)
        yield self._caller("role", self._patient.signed_in)

    def _caller(self, name: str, session: boto3.Session) -> Check:
        try:
            self._patient.arn = credentials.sts_client(session, self._access).get_caller_identity()["Arn"]
        except REFUSALS as error:
            fault = fault_of(error)
            if self._access.endpoint_url and not fault.passes:
                words = f"{fault} (a store that speaks S3 need not tell who we are)"
                return Check(name, Verdict.UNKNOWN, words)
            hint = {
                "NoCredentialsError": " (no profile, environment variables or instance role are there)",
                "InvalidClientTokenId": " (the access key does not exist, or is of another partition)",
                "ExpiredToken": " (sign in again)",
            }
            return Check(name, Verdict.FAILED, f"{fault}{hint.get(fault.code, '')}")
        return Check(name, Verdict.OK, self._patient.arn)

    def _not_assumed(self, error: Exception) -> Iterator[Check]:
        """Why a role was not given, with the statements for its trust policy and ours."""
        fault, role, caller = fault_of(error), self._access.role_arn, self._patient.arn
        if fault.code not in ("AccessDenied", "AccessDeniedException"):
            hints = {
                "No OpenIDConnect provider": " (make the provider: `trailhawk connectors setup --issuer`)",
                "Incorrect token audience": " (the provider's list of audiences lacks that of the token)",
            }
            hint = "".join(hint for words, hint in hints.items() if words in fault.words)
            yield Check("role", Verdict.FAILED, f"{fault}{hint}")
            return
        trust = trust_statement(self._access, caller)
        if self._access.web_identity_token_file:
            yield self._patient.refused("role", fault, trust, policy=f"trust policy of {role}")
            return
        own = allow(["sts:AssumeRole"], [role])
        if "no identity-based policy allows" in fault.words:
            yield self._patient.refused("role", fault, own, policy=f"policy of {caller}")
            return
        check = self._patient.refused("role", fault, trust, policy=f"trust policy of {role}")
        yield check
        if check.statement is not None:
            words = "the caller's own policies must allow it, too, unless the trust policy names the caller \
and both are of one account"
            yield Check("right to assume the role", Verdict.UNKNOWN, words, f"policy of {caller}", own)


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
    condition: dict[str, object] = {}
    if access.external_id:
        condition["StringEquals"] = {"sts:ExternalId": access.external_id}
    principal = role_of(caller) or caller
    root, slash, name = principal.partition(":role/")
    if slash and name.startswith("AWSReservedSSO_"):
        # Roles of IAM Identity Center have a path, which a session does not tell and a principal must have.
        principal = f"{root}:root"
        condition["ArnLike"] = {"aws:PrincipalArn": f"{root}:role/aws-reserved/sso.amazonaws.com/*{name}"}
    return allow(["sts:AssumeRole"], [], principal={"AWS": principal}, condition=condition or None)


def _claims(file: Path) -> dict[str, str]:
    """Issuer, audience and subject of a token, not checked; {} for what is no JSON web token."""
    claims: object = {}
    with suppress(aws.CredentialRetrievalError, IndexError, ValueError, RecursionError):
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

    def __init__(self, patient: Patient, settings: SqsSettings) -> None:
        self._patient = patient
        self._settings = settings
        self._region = queue_region(settings)
        self.is_for_dead_letters = False
        self._sqs: SQSClient = credentials.sqs_client(patient.session(), settings.access, region=self._region)
        account, name = [*urlsplit(settings.queue_url).path.strip("/").split("/"), ""][:2]
        patient.queue_arn = f"arn:{patient.partition}:sqs:{self._region}:{account}:{name}"

    def checks(self) -> Iterator[Check]:
        yield self._attributes_of()
        self._patient.found += _buckets(self._patient.queue.get("Policy", ""))
        yield from self._read()
        if self._patient.queue and self._patient.thorough:
            yield from self._redrive()
            yield from self._dead_letters()

    def _attributes_of(self) -> Check:
        try:
            asked = self._sqs.get_queue_attributes(QueueUrl=self._settings.queue_url, AttributeNames=["All"])
        except REFUSALS as error:
            fault = fault_of(error)
            if "NonExistent" in fault.code or "NonExistent" in fault.words:
                words = f"{fault} (no queue of this name in region {self._region}, account {self._account})"
                return Check("queue", Verdict.FAILED, words)
            if fault.kind is Kind.DENIED:
                return self._patient.unknown("queue", error, "sqs:GetQueueAttributes", self._arn)
            return Check("queue", Verdict.FAILED, str(fault))
        attributes = self._patient.queue = dict(asked["Attributes"].items())
        self._patient.queue_arn = attributes.get("QueueArn", self._arn)
        waiting = attributes.get("ApproximateNumberOfMessages", "?")
        flying = attributes.get("ApproximateNumberOfMessagesNotVisible", "?")
        return Check("queue", Verdict.OK, f"{self._arn}: messages that wait: {waiting}, in flight: {flying}")

    @property
    def _arn(self) -> str:
        return self._patient.queue_arn

    @property
    def _account(self) -> str:
        return self._arn.split(":")[4]

    def _read(self) -> Iterator[Check]:
        """The connector's own rights on the queue, by using them harmlessly."""
        needed = allow(
            ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility"], [self._arn]
        )
        messages = []
        # Each receipt counts: where few are allowed the doctor must not be the one that uses them up.
        most = 1 if 0 < self._most_receipts() <= _FEW_RECEIPTS else 10
        try:
            messages = self._sqs.receive_message(
                QueueUrl=self._settings.queue_url, MaxNumberOfMessages=most, VisibilityTimeout=0
            ).get("Messages", [])
        except REFUSALS as error:
            yield self._refused("receive", fault_of(error), needed)
        else:
            yield Check("receive", Verdict.OK, "messages may be received")
        # A handle that belongs to no message does nothing; the right is asked for before.
        url, handle = self._settings.queue_url, "trailhawk-doctor"
        yield self._tried(
            "delete", needed, lambda: self._sqs.delete_message(QueueUrl=url, ReceiptHandle=handle)
        )
        yield self._tried(
            "extend",
            needed,
            lambda: self._sqs.change_message_visibility(
                QueueUrl=url, ReceiptHandle=handle, VisibilityTimeout=0
            ),
        )
        if messages:
            yield self._sample([message.get("Body", "") for message in messages])

    def _tried(self, name: str, needed: Statement, ask: Callable[[], object]) -> Check:
        try:
            ask()
        except REFUSALS as error:
            fault = fault_of(error)
            if "ReceiptHandle" not in fault.code and "receipt handle" not in fault.words.lower():
                return self._refused(name, fault, needed)
        said = {"delete": "messages may be deleted", "extend": "messages may be kept invisible for longer"}
        return Check(name, Verdict.OK, said[name])

    def _refused(self, name: str, fault: Fault, needed: Statement) -> Check:
        if fault.kind is not Kind.DENIED:
            return Check(name, Verdict.FAILED, str(fault))
        key = self._patient.queue.get("KmsMasterKeyId", "")
        return self._patient.refused(name, fault, needed, key=key if key.startswith("arn:") else "")

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
        return Check(
            "messages", Verdict.OK, f"{counted(len(bodies), 'message')}, of {counted(len(notices), 'object')}"
        )

    def _takes(self, notice: Notice) -> bool:
        settings = self._settings
        return (
            (not settings.buckets or notice.bucket in settings.buckets)
            and (not settings.prefixes or notice.key.startswith(settings.prefixes))
            and notice.key.endswith(settings.suffix)
        )

    def _redrive(self) -> Iterator[Check]:
        most = self._most_receipts()
        if not most:
            if self._settings.on_poison == "redrive":
                words = 'the queue has no redrive policy, and on_poison = "redrive" relies on one'
                yield Check("redrive", Verdict.FAILED, words)
            return
        if self._settings.on_poison == "set-aside" and most <= self._settings.tries:
            words = f"messages leave the queue after {most} receipts, before tries = {self._settings.tries}: \
they are lost to the quarantine"
            yield Check("redrive", Verdict.FAILED, words)
        else:
            words = f"after {most} receipts messages go to the other queue"
            if self._settings.on_poison == "set-aside" and most <= self._settings.tries * PATIENCE:
                words += (
                    ", as they do where access is denied to all for long: move them back when it is given"
                )
            yield Check("redrive", Verdict.OK, words)

    def _dead_letters(self) -> Iterator[Check]:
        """The queues that give up their messages to this one."""
        try:
            found = self._sqs.list_dead_letter_source_queues(QueueUrl=self._settings.queue_url)["queueUrls"]
        except REFUSALS:
            return  # as for most: then it is looked at as one that is told by a bucket
        if found:
            self.is_for_dead_letters = True
            queues = ", ".join(url.rpartition("/")[2] for url in found)
            words = f"what {queues} gave up comes here; no bucket needs to tell it"
            yield Check("dead letters", Verdict.OK, words)

    def _most_receipts(self) -> int:
        """After how many receipts a message leaves for the dead letters; 0 for never or not known."""
        try:
            policy = json.loads(self._patient.queue.get("RedrivePolicy") or "{}")
            return int(policy.get("maxReceiveCount", 0))
        except (ValueError, TypeError, AttributeError):
            return 0


def _buckets(policy: str) -> list[Location]:
    """The buckets for which a queue's policy lets S3 send: `arn:aws:s3:::NAME`, or with stars before it."""
    arns = [arn.split(":", 5) for arn in sources(policy)]
    names = [arn[5] for arn in arns if len(arn) == 6 and arn[2] == "s3"]
    return [Location(name) for name in names if name and not set(name) & set("*?/")]


# --- the bucket ---------------------------------------------------------------------------------------------


class _Bucket:
    """A bucket and prefix: whether there are logs, and whether they can be read. `log` is the key of one."""

    def __init__(self, patient: Patient, location: Location) -> None:
        self._patient = patient
        self._location = location
        self._bucket = location.bucket
        self._s3: S3Client = credentials.s3_client(patient.session(), patient.access)
        self._arn = patient.bucket_arn(location.bucket)
        self._objects = patient.bucket_arn(location.bucket, f"{location.prefix}*")
        self._listings = 0
        self._seen = ""
        self.log = ""

    def checks(self) -> Iterator[Check]:
        yield self._listed()
        read = False
        key = self.log or self._seen
        if key and not key.endswith("/"):
            check = self._object(key)
            read = check.verdict is Verdict.OK
            yield check
        if isinstance(self._patient.settings, S3Settings) and self._patient.settings.versions:
            yield self._versions()
        if self._patient.thorough:
            yield from self._policy(read=read)

    def _listed(self) -> Check:
        """Whether there are logs below the prefix."""
        name, prefix = f"objects of {self._location}", self._location.prefix
        try:
            self.log = self._newest(prefix, self._patient.settings.suffix)
        except REFUSALS as error:
            fault = fault_of(error)
            if fault.kind is not Kind.DENIED:
                return Check(name, Verdict.FAILED, str(fault))
            if isinstance(self._patient.settings, S3Settings):
                return self._patient.refused(name, fault, allow(["s3:ListBucket"], [self._arn]))
            return self._patient.unknown(name, error, "s3:ListBucket", self._arn)
        if self.log:
            return Check(name, Verdict.OK, f"one is {self.log}")
        end = self._patient.settings.suffix
        wanted = f"a log that ends with {end!r}" if end else "a log"
        if self._is_partly_seen:
            words = f"{self._listings} listings showed none that is {wanted}; the rest was not looked at"
            return Check(name, Verdict.UNKNOWN, words)
        if self._seen:
            return Check(name, Verdict.FAILED, f"there are objects, as {self._seen}, but none is {wanted}")
        return Check(name, Verdict.FAILED, f"no object begins with {prefix!r}; {self._tops()}")

    def find(self, prefix: str, suffix: str) -> str | None:
        """The key of a log that begins and ends so; '' for none, None where that cannot be told: it may not
        be asked, or there is more than is looked at."""
        self._listings = 0
        with suppress(*REFUSALS):
            found = self._newest(prefix, suffix)
            return None if not found and self._is_partly_seen else found
        return None

    @property
    def _is_partly_seen(self) -> bool:
        """Whether the last search ended before all was listed."""
        return self._listings >= _MOST_LISTINGS

    def _newest(self, prefix: str, suffix: str) -> str:
        """The key of a log, of the last folder that has one (keys name the day); '' for none.

        Digests lie before the logs and are often encrypted in another way: they prove nothing of the logs.
        """
        folders: list[str] = []
        best = ""
        pages = self._s3.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=prefix, Delimiter="/"
        )
        for page in pages:
            self._listings += 1
            keys = [each.get("Key", "") for each in page.get("Contents", []) if each.get("Size")]
            logs = [key for key in keys if f"/{_DIGESTS}/" not in key]
            self._seen = self._seen or (logs or keys or [""])[-1]
            best = next((key for key in reversed(logs) if key.endswith(suffix)), "")
            folders += [each.get("Prefix", "") for each in page.get("CommonPrefixes", [])]
            if best or self._listings >= _MOST_LISTINGS:
                break
        for folder in reversed(folders):
            if best or self._listings >= _MOST_LISTINGS:
                break
            if folder.endswith(f"/{_DIGESTS}/"):
                self._seen = self._seen or folder
            else:
                best = self._newest(folder, suffix)
        return best

    def _tops(self) -> str:
        """The folders at the top of the bucket, for a prefix that does not fit."""
        try:
            page = self._s3.list_objects_v2(Bucket=self._bucket, Delimiter="/", MaxKeys=20)
        except REFUSALS as error:  # the right to list may end at the prefix
            return f"what else the bucket has may not be listed ({fault_of(error).code})"
        tops = [each.get("Prefix", "") for each in page.get("CommonPrefixes", [])]
        return f"the bucket has {', '.join(tops)}" if tops else "the bucket has no folders"

    def _object(self, key: str) -> Check:
        """Whether an object can be read, and decrypted."""
        name = f"reading {self._location}"
        try:
            self._s3.get_object(Bucket=self._bucket, Key=key, Range="bytes=0-0")["Body"].close()
        except REFUSALS as error:
            fault = fault_of(error)
            if fault.kind is not Kind.DENIED:
                return Check(name, Verdict.FAILED, f"{key}: {fault}")
            needed = allow(["s3:GetObject"], [self._objects])
            policy = f"policy of {self._patient.who} (and of the bucket, in another account)"
            # GuardDuty's exports are always encrypted with a key: the right that is forgotten most.
            kms = self._key_of(key) if "kms" in f"{fault.code} {fault.words}".lower() else ""
            return self._patient.refused(name, fault, needed, policy=policy, about=f"{key}: ", key=kms)
        return Check(name, Verdict.OK, f"{key} can be read")

    def _key_of(self, key: str) -> str:
        """The KMS key of an object; '' where that may not be known."""
        with suppress(*REFUSALS):
            return self._s3.head_object(Bucket=self._bucket, Key=key).get("SSEKMSKeyId", "")
        return ""

    def _versions(self) -> Check:
        """The rights that `versions = true` needs besides."""
        name = f"versions of {self._location}"
        needed = allow(["s3:ListBucketVersions"], [self._arn])
        try:
            page = self._s3.list_object_versions(
                Bucket=self._bucket, Prefix=self._location.prefix, MaxKeys=10
            )
            needed = allow(["s3:GetObjectVersion"], [self._objects])
            for each in page.get("Versions", [])[:1]:
                key, version = each.get("Key", ""), each.get("VersionId", "")
                # An answer without bytes: the head of an object needs the same right.
                self._s3.head_object(Bucket=self._bucket, Key=key, VersionId=version)
        except REFUSALS as error:
            fault = fault_of(error)
            if fault.kind is not Kind.DENIED:
                return Check(name, Verdict.FAILED, str(fault))
            return self._patient.refused(name, fault, needed)
        return Check(name, Verdict.OK, "overwritten and deleted versions may be listed and read")

    def _policy(self, *, read: bool) -> Iterator[Check]:
        """Statements of the bucket's policy that forbid reading to us; where that was tried, that counts."""
        name = f"policy of {self._bucket}"
        try:
            policy = self._s3.get_bucket_policy(Bucket=self._bucket)["Policy"]
        except REFUSALS as error:
            if fault_of(error).code != "NoSuchBucketPolicy":
                yield self._patient.unknown(name, error, "s3:GetBucketPolicy", self._arn)
            return
        found = denials(policy, action="s3:GetObject", resource=self._objects, principals=self._patient.names)
        for statement, answer in found:
            words = f"{statement.get('Sid') or 'a statement'} denies s3:GetObject"
            if answer == "yes" and not read:
                yield Check(name, Verdict.FAILED, f"{words} to {json.dumps(statement.get('Principal'))}")
            elif answer == "perhaps":
                where = json.dumps(statement.get("Condition"))
                now = "; not to us here and now" if read else ""
                yield Check(name, Verdict.UNKNOWN, f"{words} where {where}{now}")
