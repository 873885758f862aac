"""How a bucket's news reaches the queue: direct, through SNS or EventBridge, or by CloudTrail's own topic.

Which of them is the way is seen in the bucket's notification configuration ("Amazon S3 Event Notifications",
S3 user guide) and in the trails; each link of that way is then looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from botocore import exceptions as aws

from trailhawk.connectors import credentials
from trailhawk.connectors.config import Location
from trailhawk.connectors.diagnosis import REFUSALS, Check, Patient, Verdict
from trailhawk.connectors.patterns import fits
from trailhawk.connectors.policy import Statement, allow, may_send

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_CREATED: Final = "s3:ObjectCreated:"
_S3, _SNS, _EVENTS = "s3.amazonaws.com", "sns.amazonaws.com", "events.amazonaws.com"
_AWS_KEYS: Final = ("alias/aws/sqs", "aws/sqs")

Find = Callable[[str, str], str | None]
"""The key of a log of the bucket that begins and ends so; '' for none, or where that may not be asked."""


class Routes:
    """The ways to the queue of a connector."""

    def __init__(self, patient: Patient) -> None:
        self._patient = patient
        self._s3: S3Client = credentials.s3_client(patient.session(), patient.access)
        self._told: list[Check] = []

    def checks(self, location: Location, log: str, find: Find) -> Iterator[Check]:
        """Look at the ways from a bucket and prefix, of which `log` is a key if one is known. What was told
        of another prefix is not told again."""
        for check in self._checks(location, log, find):
            if check not in self._told:
                self._told.append(check)
                yield check

    def _checks(self, location: Location, log: str, find: Find) -> Iterator[Check]:
        name = f"notification of {location.bucket}"
        try:
            given: Mapping[str, Any] = self._s3.get_bucket_notification_configuration(Bucket=location.bucket)
        except REFUSALS as error:
            arn = self._patient.bucket_arn(location.bucket)
            yield self._patient.unknown(name, error, "s3:GetBucketNotification", arn)
            yield from self._region(location.bucket, direct=False)
            yield from self._any_sender(location.bucket)
            return
        ways = list(self._ways(name, location, log, find, given))
        if not ways:
            others = ", ".join(each.get("QueueArn", "") for each in given.get("QueueConfigurations", []))
            told = f"; it tells {others}" if others else ""
            words = f"the bucket does not tell queue {self._patient.queue_arn} of anything{told} \
(`trailhawk connectors setup` prints the command that makes it)"
            yield Check(name, Verdict.FAILED, words)
            yield from self._direct(location.bucket)  # which is to be made
            return
        whole = [way for way in ways if not any(check.verdict is Verdict.FAILED for check in way)]
        for way in whole[:1] or ways:
            yield from way

    def _ways(
        self, name: str, location: Location, log: str, find: Find, given: Mapping[str, Any]
    ) -> Iterator[list[Check]]:
        """What is said of each way that there is, the shortest first."""
        queues: Sequence[Mapping[str, Any]] = given.get("QueueConfigurations", [])
        mine = [each for each in queues if each.get("QueueArn") == self._patient.queue_arn]
        if mine:
            yield [*self._filters(name, location, mine, find, "the queue"), *self._direct(location.bucket)]
        topics: dict[str, list[Mapping[str, Any]]] = {}
        for each in given.get("TopicConfigurations", []):
            topics.setdefault(each.get("TopicArn", ""), []).append(each)
        for topic, configurations in topics.items():
            filters = self._filters(name, location, configurations, find, f"topic {topic}")
            yield [*filters, *self._topic(topic, location.bucket)]
        if "EventBridgeConfiguration" in given:
            yield list(self._bridge(name, location, log))
        if not mine and not topics and "EventBridgeConfiguration" not in given:
            for topic in self._trail_topics(location.bucket):
                words = f"the bucket tells nobody itself; CloudTrail tells topic {topic} of its files"
                yield [Check(name, Verdict.OK, words), *self._topic(topic, "")]

    def _trail_topics(self, bucket: str) -> list[str]:
        try:
            trails = self._patient.trails_into(bucket)
        except REFUSALS:
            return []  # which the check of the trails says
        return list(dict.fromkeys(trail["SnsTopicARN"] for trail in trails if trail.get("SnsTopicARN")))

    # The bucket's side

    def _filters(
        self,
        name: str,
        location: Location,
        configurations: Sequence[Mapping[str, Any]],
        find: Find,
        whom: str,
    ) -> Iterator[Check]:
        """What the configurations that tell of a bucket leave out of what the section wants."""
        faults = [self._filter_fault(each, location, find) for each in configurations]
        if all(faults):
            yield Check(name, Verdict.FAILED, faults[0])
            return
        good = [each for each, fault in zip(configurations, faults, strict=True) if not fault]
        told = [_narrow(each, location, self._patient.settings.suffix) for each in good]
        notes = list(dict.fromkeys(note for each in told for note in each))
        words = f"new objects below the prefix are told to {whom}"
        yield Check(name, Verdict.OK, words if not all(told) else f"{words}, but only {' and '.join(notes)}")

    def _filter_fault(self, configuration: Mapping[str, Any], location: Location, find: Find) -> str:
        """Why a configuration tells of nothing that the section wants; '' if it does."""
        events = configuration.get("Events", [])
        if not any(event.startswith(_CREATED) for event in events):
            return f"only {', '.join(events)} are told, not {_CREATED}*"
        prefix, suffix = _rules(configuration)
        wanted, end = location.prefix, self._patient.settings.suffix
        if not (prefix.startswith(wanted) or wanted.startswith(prefix)):
            return f"the notification is for keys that begin with {prefix!r}, the section wants {wanted!r}"
        if not (suffix.endswith(end) or end.endswith(suffix)):
            return f"the notification is for keys that end with {suffix!r}, the section wants {end!r}"
        below = max(prefix, wanted, key=len)
        there = find(below, "") if suffix else ""
        if there and not there.endswith(suffix) and find(below, suffix) == "":
            return f"the notification is for keys that end with {suffix!r}; none does, they are as {there}"
        return ""

    def _direct(self, bucket: str) -> Iterator[Check]:
        if self._patient.queue.get("FifoQueue") == "true":
            words = "S3 cannot tell a FIFO queue: take a standard queue, or go through EventBridge"
            yield Check("queue policy", Verdict.FAILED, words)
        yield from self._region(bucket, direct=True)
        yield from self._may_send(_S3, self._patient.bucket_arn(bucket), f"bucket {bucket}", bucket)

    def _region(self, bucket: str, *, direct: bool) -> Iterator[Check]:
        """S3 itself tells only queues of the bucket's own region. Not `direct` where that may be the way."""
        name, queue = f"region of {bucket}", _part(self._patient.queue_arn, 3)
        try:
            answer: Mapping[str, Any] = self._s3.head_bucket(Bucket=bucket)["ResponseMetadata"]
        except aws.ClientError as error:  # a refusal tells the region, too
            answer = error.response["ResponseMetadata"]
        except aws.BotoCoreError as error:
            yield self._patient.unknown(name, error, "s3:ListBucket", self._patient.bucket_arn(bucket))
            return
        region = answer.get("HTTPHeaders", {}).get("x-amz-bucket-region", "")
        if not region:
            yield Check(name, Verdict.UNKNOWN, "the store does not tell it")
        elif queue and region != queue:
            words = (
                f"the bucket is in {region}, the queue in {queue}: S3 tells only queues of its own region \
(through SNS or EventBridge it works)"
            )
            yield Check(name, Verdict.FAILED if direct else Verdict.UNKNOWN, words)
        else:
            yield Check(name, Verdict.OK, region)

    # SNS

    def _topic(self, topic: str, bucket: str) -> Iterator[Check]:
        """Whether a topic takes the bucket's news and hands them on; '' for CloudTrail's own."""
        name = f"topic {topic.rpartition(':')[2]}"
        client = self._patient.client("sns", _part(topic, 3))
        if bucket:
            yield from self._topic_policy(client, name, topic, bucket)
        try:
            pages = client.get_paginator("list_subscriptions_by_topic").paginate(TopicArn=topic)
            mine = [
                each
                for page in pages
                for each in page["Subscriptions"]
                if each["Protocol"] == "sqs" and each["Endpoint"] == self._patient.queue_arn
            ]
        except REFUSALS as error:
            yield self._patient.unknown(name, error, "sns:ListSubscriptionsByTopic", topic)
        else:
            if not mine:
                words = f"the queue does not subscribe to {topic} (aws sns subscribe --protocol sqs)"
                yield Check(name, Verdict.FAILED, words)
                return
            yield self._subscription(client, name, mine[0]["SubscriptionArn"])
        yield from self._may_send(_SNS, topic, f"topic {topic}", bucket, account=_part(topic, 4))

    def _topic_policy(self, client: Any, name: str, topic: str, bucket: str) -> Iterator[Check]:
        try:
            policy = client.get_topic_attributes(TopicArn=topic)["Attributes"].get("Policy", "")
        except REFUSALS as error:
            yield self._patient.unknown(f"{name}, policy", error, "sns:GetTopicAttributes", topic)
            return
        arn = self._patient.bucket_arn(bucket)
        said = may_send(
            policy,
            service=_S3,
            action="sns:Publish",
            resource=topic,
            source=arn,
            account=self._owner(bucket),
        )
        if said == "no":
            words = f"nothing lets bucket {bucket} publish to the topic"
            needed = self._sending("sns:Publish", topic, _S3, arn, self._owner(bucket))
            yield Check(f"{name}, policy", Verdict.FAILED, words, f"policy of topic {topic}", needed)

    def _subscription(self, client: Any, name: str, arn: str) -> Check:
        if not arn.startswith("arn:"):  # "PendingConfirmation"
            return Check(name, Verdict.FAILED, f"the queue's subscription is not confirmed: {arn}")
        try:
            attributes = client.get_subscription_attributes(SubscriptionArn=arn)["Attributes"]
        except REFUSALS as error:
            return self._patient.unknown(name, error, "sns:GetSubscriptionAttributes", arn)
        policy = attributes.get("FilterPolicy", "")
        if attributes.get("PendingConfirmation") == "true":
            return Check(name, Verdict.FAILED, "the queue's subscription is not confirmed")
        if not policy or policy == "{}":
            return Check(name, Verdict.OK, "hands on to the queue")
        if attributes.get("FilterPolicyScope", "MessageAttributes") == "MessageAttributes":
            words = (
                f"the subscription's filter {policy} is about attributes, of which S3 and CloudTrail give \
none: nothing passes"
            )
            return Check(name, Verdict.UNKNOWN if "exists" in policy else Verdict.FAILED, words)
        return Check(name, Verdict.UNKNOWN, f"the subscription hands on what fits the filter {policy}")

    # EventBridge

    def _bridge(self, name: str, location: Location, log: str) -> Iterator[Check]:
        """Whether a rule of EventBridge hands the bucket's events on."""
        yield Check(name, Verdict.OK, "the bucket tells EventBridge")
        client, queue = self._patient.client("events"), self._patient.queue_arn
        try:
            pages = client.get_paginator("list_rule_names_by_target").paginate(TargetArn=queue)
            rules = [rule for page in pages for rule in page["RuleNames"]]
            found = [self._rule(client, rule, location, log) for rule in rules]
        except REFUSALS as error:
            yield self._patient.unknown("rule", error, f"events:{_operation(error)}", "*")
            yield from self._may_send(_EVENTS, "", "EventBridge", location.bucket)
            return
        if not found:
            region = client.meta.region_name
            words = (
                f"no rule of the default bus in {region} has the queue as its target; one of another bus, \
region or account may"
            )
            may = may_send(
                self._patient.queue.get("Policy", ""),
                service=_EVENTS,
                action="sqs:SendMessage",
                source="",
            )
            failed = self._patient.queue and may == "no"
            yield Check("rule", Verdict.FAILED if failed else Verdict.UNKNOWN, words)
            return
        good = [each for each in found if each[0].verdict is not Verdict.FAILED] or found
        for check, arn in good:
            yield check
            yield from self._may_send(_EVENTS, arn, check.name, location.bucket, account=_part(arn, 4))

    def _rule(self, client: Any, rule: str, location: Location, log: str) -> tuple[Check, str]:
        """What is to be said of a rule that has the queue as target, and its ARN."""
        name, told = f"rule {rule}", client.describe_rule(Name=rule)
        pages = client.get_paginator("list_targets_by_rule").paginate(Rule=rule)
        targets = [each for page in pages for each in page["Targets"]]
        mine = [each for each in targets if each["Arn"] == self._patient.queue_arn]
        pattern = told.get("EventPattern", "")
        fit = fits(pattern, self._event(location, log))
        if told.get("State") == "DISABLED":
            check = Check(name, Verdict.FAILED, "the rule is disabled")
        elif fit == "no":
            words = f"the rule's pattern {pattern} is not for new objects of the bucket"
            check = Check(name, Verdict.FAILED, words)
        elif any({"Input", "InputPath", "InputTransformer"} & set(each) for each in mine):
            words = "the rule's target changes the event: hand on the matched event as it is"
            check = Check(name, Verdict.FAILED, words)
        elif fit == "perhaps":
            words = f"the rule hands on what fits its pattern {pattern}"
            check = Check(name, Verdict.UNKNOWN, words)
        else:
            check = Check(name, Verdict.OK, "hands new objects of the bucket on to the queue")
        return check, told.get("Arn", "")

    def _event(self, location: Location, log: str) -> dict[str, object]:
        """The event of a new object as far as it is known ("EventBridge event message structure")."""
        detail: dict[str, object] = {"bucket": {"name": location.bucket}}
        if log:
            detail["object"] = {"key": log}
        return {
            "source": "aws.s3",
            "detail-type": "Object Created",
            "resources": [self._patient.bucket_arn(location.bucket)],
            "detail": detail,
        }

    # The queue's side

    def _may_send(
        self, service: str, source: str, who: str, bucket: str, *, account: str | None = None
    ) -> Iterator[Check]:
        """Whether the queue's policy and its key let a service send to it."""
        if not self._patient.queue:
            return  # which the check of the queue says
        queue, policy = self._patient.queue_arn, self._patient.queue.get("Policy", "")
        account = self._owner(bucket) if account is None else account
        answer = may_send(
            policy,
            service=service,
            action="sqs:SendMessage",
            resource=queue,
            source=source,
            account=account,
        )
        if answer == "yes":
            yield Check("queue policy", Verdict.OK, f"{who} may send")
        elif answer == "perhaps":
            words = f"whether {who} may send depends on conditions of the policy"
            yield Check("queue policy", Verdict.UNKNOWN, words)
        else:
            needed = self._sending("sqs:SendMessage", queue, service, source, account)
            words = f"nothing lets {who} send to the queue, or something forbids it"
            yield Check("queue policy", Verdict.FAILED, words, f"policy of queue {queue}", needed)
        yield from self._encryption(service, source, account)

    def no_bucket(self) -> Iterator[Check]:
        """What can be said of the queue alone."""
        yield from self._any_sender("")

    def _any_sender(self, bucket: str) -> Iterator[Check]:
        """Whether the queue's policy lets anybody send, where the way is not known."""
        policy = self._patient.queue.get("Policy", "")
        for service in (_SNS, _EVENTS):
            if may_send(policy, service=service, action="sqs:SendMessage", source="") != "no":
                yield Check("queue policy", Verdict.OK, f"{service} may send, under conditions")
                yield from self._encryption(service, "", "")
                return
        arn = self._patient.bucket_arn(bucket or "BUCKET")
        yield from self._may_send(_S3, arn, f"bucket {bucket}" if bucket else "S3", bucket)

    def _sending(self, action: str, resource: str, service: str, source: str, account: str) -> Statement:
        condition: dict[str, object] = {"ArnLike": {"aws:SourceArn": source}} if source else {}
        if account:
            condition["StringEquals"] = {"aws:SourceAccount": account}
        return allow([action], [resource], principal={"Service": service}, condition=condition or None)

    def _owner(self, bucket: str) -> str:
        """The account that owns a bucket if it is ours; '' for another or where that may not be asked."""
        account = self._patient.account
        prefixes = [each.prefix for each in self._patient.locations() if each.bucket == bucket]
        if not (prefixes and account):
            return ""
        try:
            # A listing below the prefix: the right to list may end there.
            self._s3.list_objects_v2(
                Bucket=bucket, Prefix=prefixes[0], MaxKeys=1, ExpectedBucketOwner=account
            )
        except REFUSALS:
            return ""
        return account

    def _encryption(self, service: str, source: str, account: str) -> Iterator[Check]:
        """Whether a service may use the KMS key of the queue."""
        name, key = "queue encryption", self._patient.queue.get("KmsMasterKeyId", "")
        if not key:
            return
        words = "the queue is encrypted with AWS's own key alias/aws/sqs, which no other service may use: \
take SSE-SQS or a key of your own"
        if key in _AWS_KEYS or key.endswith(":alias/aws/sqs"):
            yield Check(name, Verdict.FAILED, words)
            return
        needed = self._sending("kms:Decrypt", "*", service, source, account)
        needed = {**needed, "Action": ["kms:GenerateDataKey", "kms:Decrypt"]}
        where = f"policy of KMS key {key}"
        client = self._patient.client("kms", _part(key, 3))
        try:
            told = client.describe_key(KeyId=key)["KeyMetadata"]
            if told.get("KeyManager") == "AWS":
                yield Check(name, Verdict.FAILED, words)
                return
            if told.get("KeyState") != "Enabled":
                yield Check(name, Verdict.FAILED, f"KMS key {key} is {told.get('KeyState')}")
                return
            policy = client.get_key_policy(KeyId=told["Arn"], PolicyName="default")["Policy"]
        except REFUSALS as error:
            said = self._patient.unknown(name, error, "kms:GetKeyPolicy", key).said
            words = f"{said}; the key's policy must let {service} use it"
            yield Check(name, Verdict.UNKNOWN, words, where, needed)
            return
        for action in ("kms:GenerateDataKey", "kms:Decrypt"):
            answer = may_send(policy, service=service, action=action, source=source, account=account)
            if answer == "no":
                words = f"nothing lets {service} do {action} with KMS key {key}"
                yield Check(name, Verdict.FAILED, words, where, needed)
                return
        yield Check(name, Verdict.OK, f"{service} may use KMS key {key}")


def _operation(error: Exception) -> str:
    """The operation that was refused, as a policy names it."""
    return error.operation_name if isinstance(error, aws.ClientError) else "ListRuleNamesByTarget"


def _part(arn: str, place: int) -> str:
    """A part of an ARN, as its region (3) or account (4); '' of what is none."""
    parts = arn.split(":", 5)
    return parts[place] if len(parts) == 6 else ""


def _rules(configuration: Mapping[str, Any]) -> tuple[str, str]:
    """The prefix and suffix that a notification is for."""
    rules = {
        rule.get("Name", "").lower(): rule.get("Value", "")
        for rule in configuration.get("Filter", {}).get("Key", {}).get("FilterRules", [])
    }
    return rules.get("prefix", ""), rules.get("suffix", "")


def _narrow(configuration: Mapping[str, Any], location: Location, end: str) -> list[str]:
    """How a notification tells of less than the section wants, which is keys that end so."""
    prefix, suffix = _rules(configuration)
    events = [event for event in configuration.get("Events", []) if event.startswith(_CREATED)]
    notes = [f"keys that begin with {prefix!r}"] if len(prefix) > len(location.prefix) else []
    if len(suffix) > len(end):
        notes.append(f"keys that end with {suffix!r}")
    if f"{_CREATED}*" not in events:
        notes.append(f"by {', '.join(sorted(events))}")
    return notes
