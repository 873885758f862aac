"""Role credentials taken from a web server through its metadata service, and a bucket read with them.

The attack of CloudGoat's `cloud_breach_s3`: a proxy that forwards to any Host hands out the instance
role's credentials (IMDSv1); the attacker looks around and copies a bucket. ATT&CK T1190, T1552.005,
T1078.004, T1580, T1619, T1530, T1567. Caught by `instance-credentials-outside-instance`.
"""

from __future__ import annotations

from random import Random

from ..logs.findings import Finding, credentials_used_outside
from ..logs.proxy import METADATA, WebRequest
from ..record import (
    GET_OBJECT,
    Api,
    Caller,
    Json,
    Record,
    call,
    instance_credentials,
    list_buckets,
    list_objects,
    role_session,
    s3_object,
)
from ..text import iso
from ..world import DAY, HOME_REGION, HOUR, MINUTE, WAF, Instance, Issue, Key, World
from .attack import Attack

ATTACKER = "203.0.113.66"
_AGENT = (
    "aws-cli/2.17.20 md/awscrt#0.21.2 ua/2.0 os/linux#6.8.11-amd64 md/arch#x86_64 lang/python#3.11.9 "
    "md/pyimpl#CPython cfg/retry-mode#standard md/installer#source md/prompt#off md/command#{command}"
)


def cloud_breach_s3(world: World, rng: Random) -> Attack:
    """V1: list, then copy everything within a second or two, on the last day at an hour of chance."""
    instance = world.instances[WAF]
    issue = _stolen_issue(instance, world, rng)
    key = issue.application_key
    lineage = instance_credentials(world.issue_rng(instance, issue), instance, issue.at)
    bucket = world.buckets["cardholders"]
    session = instance.role.session_arn(instance.id)

    def attacker(command: str) -> Caller:
        agent = _AGENT.format(command=command)
        return role_session(
            instance.role, instance.id, key.id, issue.at, ATTACKER, agent, delivery=key.delivery
        )

    at = issue.at + rng.randint(6 * MINUTE, 30 * MINUTE)
    records = [call(rng, attacker("sts.get-caller-identity"), at, Api("sts", "GetCallerIdentity"))]
    at += rng.randint(20, 90)
    records.append(list_buckets(rng, attacker("s3.ls"), at))
    at += rng.randint(25, 150)
    found = len(bucket.objects)
    records.append(list_objects(rng, attacker("s3.ls"), at, bucket, delimiter="/", found=found))
    at += rng.randint(30, 240)
    records.append(list_objects(rng, attacker("s3.sync"), at, bucket, found=found))
    for name, size in bucket.objects:
        # The client copies in parallel: all within a second or two, in no order.
        moment = at + rng.randint(0, 2)
        records.append(s3_object(rng, attacker("s3.sync"), moment, GET_OBJECT, bucket, name, size))

    truth: Json = {
        "technique": "cloud_breach_s3",
        "variant": "V1",
        "attack_techniques": ["T1190", "T1552.005", "T1078.004", "T1580", "T1619", "T1530", "T1567"],
        "account": instance.account,
        "region": HOME_REGION,
        "role": instance.role.name,
        "role_arn": instance.role.arn,
        "session_arn": session,
        "instance": instance.id,
        "interface": instance.interface,
        "stolen_access_key": key.id,
        "access_keys": [issued.id for issued in issue.keys],
        "key_delivery": {issued.id: issued.delivery for issued in issue.keys},
        "assume_role_event_ids": [record.event_id for record in lineage],
        "assume_role_request_id": issue.request_id,
        "credentials_issued": iso(issue.at),
        "instance_address": instance.address(at),
        "instance_private_address": instance.private,
        "attacker_address": ATTACKER,
        "bucket": bucket.name,
        "objects": [{"key": name, "bytes": size} for name, size in bucket.objects],
        "bytes": sum(size for _, size in bucket.objects),
        "first": iso(min(record.at for record in records)),
        "last": iso(max(record.at for record in records)),
        "events": [_event_truth(record) for record in records],
    }
    return Attack(
        tuple(records),
        truth,
        requests=_theft(world, instance, before=records[0].at),
        findings=_findings(world, instance, key, records),
    )


def _theft(world: World, instance: Instance, *, before: int) -> tuple[WebRequest, ...]:
    """The three requests that gave the credentials away: no AWS log shows them, only the proxy's own."""
    rng = world.rng("theft")
    at = before - rng.randint(150, 280)
    path = "/latest/meta-data/iam/security-credentials/"
    steps = (
        (instance.address(before), "/", 400, 157, "-"),
        (METADATA, path, 200, len(instance.role.name), f"{METADATA}:80"),
        (METADATA, path + instance.role.name, 200, 1_318, f"{METADATA}:80"),
    )
    requests: list[WebRequest] = []
    for host, asked, status, size, upstream in steps:
        port = rng.randint(32_768, 60_999)
        requests.append(
            WebRequest(at, ATTACKER, port, host, asked, status, size, "curl/8.8.0", upstream=upstream)
        )
        at += rng.randint(8, 40)
    return tuple(requests)


def _findings(world: World, instance: Instance, key: Key, records: list[Record]) -> tuple[Finding, Finding]:
    """GuardDuty's finding, and the same one exported again after the copy."""
    listed = next(record.at for record in records if record.body["eventName"] == "ListBuckets")
    last = max(record.at for record in records)
    first, second = (
        credentials_used_outside(
            world,
            instance,
            key,
            first=listed,
            last=last,
            at=last + minutes * MINUTE,
            count=count,
            address=ATTACKER,
            api=api,
        )
        for minutes, count, api in ((9, 1, "ListBuckets"), (15, len(records) - 1, "GetObject"))
    )
    return first, second


def _stolen_issue(instance: Instance, world: World, rng: Random) -> Issue:
    """A hand-over of the last day, several keys at once where there is one, with an hour of the day left."""
    last_day = world.end - DAY
    issues = instance.issues_between(last_day, world.end - HOUR)
    several = [issue for issue in issues if len(issue.keys) == 3]
    return rng.choice(several or list(issues))


def _event_truth(record: Record) -> Json:
    request = record.body["requestParameters"]
    object_key = request.get("key") if isinstance(request, dict) else None
    event: Json = {
        "event_id": record.event_id,
        "name": record.body["eventName"],
        "time": record.body["eventTime"],
    }
    return {**event, "object": object_key} if object_key else event
