"""Role credentials taken from a web server through its metadata service, and a bucket read with them.

The attack of CloudGoat's `cloud_breach_s3`: a proxy that forwards to any Host hands out the instance
role's credentials (IMDSv1); the attacker looks around and copies a bucket. ATT&CK T1190, T1552.005,
T1078.004, T1580, T1619, T1530, T1567. Caught by `instance-credentials-outside-instance`; the request for the
credentials by `metadata-asked-for-through-proxy`, a public bucket by `bucket-read-without-sign-in`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

from ..benign.applications import BOTO
from ..benign.changes import gateway_replaced
from ..benign.day import day_of
from ..benign.people import sync_from_office
from ..logs.findings import Finding, credentials_used_outside
from ..logs.proxy import METADATA, WebRequest
from ..record import (
    GET_OBJECT,
    Api,
    Caller,
    Json,
    Record,
    anonymous,
    call,
    instance_credentials,
    list_buckets,
    list_objects,
    role_session,
    s3_object,
)
from ..text import iso
from ..world import (
    DAY,
    HOME_REGION,
    HOUR,
    MINUTE,
    WAF,
    Bucket,
    Instance,
    Issue,
    Key,
    LookAlike,
    Setting,
    World,
)
from .attack import Attack, Expected, Variant
from .steps import ATTACKER, CLI, copied, event_truth, whole_bucket

IN_AWS = "198.51.100.252"
"""An address of AWS, lent to somebody else's account."""
NEAR_OFFICE = "192.0.2.77"
"""In the /16 of the office's addresses."""
REMOTE_ACCOUNT = "567890123456"
_CLOUD_AGENT = (
    "aws-cli/2.17.20 md/awscrt#0.21.2 ua/2.0 os/linux#6.1.134-150.224.amzn2023.x86_64 md/arch#x86_64 "
    "exec-env/EC2 lang/python#3.11.9 md/pyimpl#CPython cfg/retry-mode#standard md/installer#exe "
    "md/prompt#off md/command#{command}"
)
_CURL = "curl/8.8.0"
_CREDENTIALS = "/latest/meta-data/iam/security-credentials/"
_TECHNIQUES = ("T1190", "T1552.005", "T1078.004", "T1580", "T1619", "T1530", "T1567")
_MONTHS_OF_STATEMENTS = tuple((f"statements/2025-{m:02d}.csv", 31_400 + 977 * m) for m in range(1, 13))
_SLOW_OBJECTS = (*_MONTHS_OF_STATEMENTS, ("statements/index.json", 2_210), ("statements/readme.txt", 611))
_LARGE_OBJECTS = (("archive/cardholders-2019.csv.gz", 41_943_567), ("archive/statements.tar", 67_111_000))


@dataclass(frozen=True)
class _Way:
    """How a variant goes about it: who is seen calling, and how fast."""

    address: str = ATTACKER
    agent: str = CLI
    wait: tuple[int, int] = (6 * MINUTE, 30 * MINUTE)
    """Between the hand-over of the credentials and their first use, seconds."""
    between: int = 0
    """Seconds from one object to the next; 0: in parallel, all within two."""
    remote_account: str = ""
    """The account of AWS that the address belongs to."""
    fetches_token: bool = False
    denied: bool = False
    """The role may list buckets, and read none but that of its configuration."""


def _by(number: str, way: _Way) -> Callable[[World, Random], Attack]:
    def attack(world: World, rng: Random) -> Attack:
        return _breach(world, rng, number, way)

    return attack


def _breach(world: World, rng: Random, number: str, way: _Way) -> Attack:
    """The whole chain, on the last day at an hour of chance."""
    instance = world.instances[WAF]
    bucket = world.buckets["cardholders"]
    issue = _stolen_issue(instance, world, rng, lasting=len(bucket.objects) * way.between)
    key = issue.application_key
    lineage = instance_credentials(world.issue_rng(instance, issue), instance, issue.at)
    session = instance.role.session_arn(instance.id)

    def attacker(command: str) -> Caller:
        agent = way.agent.format(command=command)
        return role_session(
            instance.role, instance.id, key.id, issue.at, way.address, agent, delivery=key.delivery
        )

    at = issue.at + rng.randint(*way.wait)
    records = [call(rng, attacker("sts.get-caller-identity"), at, Api("sts", "GetCallerIdentity"))]
    at += rng.randint(20, 90)
    records.append(list_buckets(rng, attacker("s3.ls"), at))
    at += rng.randint(25, 150)
    found = len(bucket.objects)
    records.append(list_objects(rng, attacker("s3.ls"), at, bucket, delimiter="/", found=found))
    at += rng.randint(30, 240)
    records.append(list_objects(rng, attacker("s3.sync"), at, bucket, found=found))
    if way.denied:
        records += _refused(world, rng, attacker("s3.sync"), at, bucket)
    else:
        records += copied(rng, attacker("s3.sync"), at, bucket, way.between)

    objects = [] if way.denied else [{"key": name, "bytes": size} for name, size in bucket.objects]
    truth: Json = {
        "technique": "cloud_breach_s3",
        "variant": number,
        "attack_techniques": [*_TECHNIQUES],
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
        "attacker_address": way.address,
        "bucket": bucket.name,
        "objects": objects,
        "bytes": 0 if way.denied else sum(size for _, size in bucket.objects),
        "first": iso(min(record.at for record in records)),
        "last": iso(max(record.at for record in records)),
        "events": [event_truth(record) for record in records],
    }
    entities = {
        "AwsSession": [f"{instance.role.id}:{instance.id}"],
        "AwsAccessKey": [key.id],
        "AwsInstance": [instance.id],
        "AwsBucket": [bucket.name],
        "IP": [way.address],
    }
    return Attack(
        tuple(records),
        truth,
        Expected(1, "High", entities),
        requests=_theft(world, instance, way, before=records[0].at),
        findings=tuple(_findings(world, instance, key, way, records)),
    )


def _refused(world: World, rng: Random, who: Caller, at: int, bucket: Bucket) -> Iterator[Record]:
    """The same copy without the right to it, then a try at other buckets."""

    def error(action: str, resource: str) -> tuple[str, str]:
        message = (
            f"User: {who.identity['arn']} is not authorized to perform: s3:{action} on resource: "
            f'"{resource}" because no identity-based policy allows the s3:{action} action'
        )
        return "AccessDenied", message

    for name, size in bucket.objects:
        denied = error("GetObject", f"{bucket.arn}/{name}")
        yield s3_object(rng, who, at + rng.randint(0, 2), GET_OBJECT, bucket, name, size, error=denied)
    for place, other in enumerate(("documents", "analytics", "invoices", "artifacts")):
        at += rng.randint(8, 25)
        target = world.buckets[other]
        yield list_objects(rng, who, at, target, error=error("ListBucket", target.arn))
        key, size = target.objects[place]
        denied = error("GetObject", f"{target.arn}/{key}")
        yield s3_object(rng, who, at + 4, GET_OBJECT, target, key, size, error=denied)


def _theft(world: World, instance: Instance, way: _Way, *, before: int) -> tuple[WebRequest, ...]:
    """The requests that gave the credentials away: no AWS log shows them, only the proxy's own."""
    rng = world.rng("theft")
    steps = [
        ("GET", instance.address(before), "/", 400, 157),
        ("GET", METADATA, _CREDENTIALS, 200, len(instance.role.name)),
        ("GET", METADATA, _CREDENTIALS + instance.role.name, 200, 1_318),
    ]
    if way.fetches_token:
        steps[1:1] = [
            ("GET", METADATA, _CREDENTIALS, 401, 329),
            ("PUT", METADATA, "/latest/api/token", 200, 56),
        ]
    at = before - rng.randint(150, 280) - 40 * (len(steps) - 3)
    return tuple(_requests(rng, at, way.address, steps))


def _requests(
    rng: Random, at: int, client: str, steps: Sequence[tuple[str, str, str, int, int]]
) -> Iterator[WebRequest]:
    """Requests to the proxy, some seconds apart: method, Host, path, status and bytes of each."""
    for method, host, path, status, size in steps:
        port = rng.randint(32_768, 60_999)
        upstream = f"{METADATA}:80" if host == METADATA else "-"
        yield WebRequest(at, client, port, host, path, status, size, _CURL, method=method, upstream=upstream)
        at += rng.randint(8, 40)


def _findings(
    world: World, instance: Instance, key: Key, way: _Way, records: Sequence[Record]
) -> Iterator[Finding]:
    """GuardDuty's finding, and the same one exported again as it goes on and at its end."""
    listed = next(record.at for record in records if record.body["eventName"] == "ListBuckets")
    last = max(record.at for record in records)
    created = min(last, listed + 10 * MINUTE) + 9 * MINUTE
    for at in (created, *range(created + 2 * HOUR, last, 2 * HOUR), last + 15 * MINUTE):
        seen = [record for record in records if listed <= record.at < at]
        yield credentials_used_outside(
            world,
            instance,
            key,
            first=listed,
            last=max(record.at for record in seen),
            at=at,
            count=1 if at == created else len(seen),
            address=way.address,
            api="ListBuckets" if at == created else "GetObject",
            remote_account=way.remote_account,
            created=created,
        )


def _stolen_issue(instance: Instance, world: World, rng: Random, *, lasting: int) -> Issue:
    """A hand-over of the last day, several keys at once where there is one, with time left in the day."""
    last_day = world.end - DAY
    issues = instance.issues_between(last_day, world.end - HOUR - lasting)
    several = [issue for issue in issues if len(issue.keys) == 3]
    return rng.choice(several or list(issues))


def _only_asked(world: World, rng: Random) -> Attack:
    """V6: the metadata service wants a token, the attacker does not know how to get one, and gives up."""
    instance = world.instances[WAF]
    at = world.end - DAY + rng.randint(8 * HOUR, 20 * HOUR)
    steps = [
        ("GET", instance.address(at), "/", 400, 157),
        ("GET", METADATA, _CREDENTIALS, 401, 329),
        ("GET", METADATA, "/latest/meta-data/", 401, 329),
        ("GET", METADATA, "/latest/user-data", 401, 329),
    ]
    requests = tuple(_requests(rng, at, ATTACKER, steps))
    truth: Json = {
        "technique": "cloud_breach_s3",
        "variant": "V6",
        "attack_techniques": ["T1190", "T1552.005"],
        "account": instance.account,
        "instance": instance.id,
        "interface": instance.interface,
        "attacker_address": ATTACKER,
        "objects": [],
        "bytes": 0,
        "first": iso(requests[0].at),
        "last": iso(requests[-1].at),
        "events": [],
    }
    return Attack((), truth, requests=requests)


def _look_alikes(world: World, rng: Random) -> Attack:
    """V8: nobody attacks. What is taken for it happens on the last day too, as far as it is not daily."""
    moved, day = world.changes["last_day_move"], day_of(world, world.days)
    at = day.start + rng.randint(14 * HOUR, 18 * HOUR)
    analyst = world.analysts[0]
    sync = tuple(sync_from_office(world, analyst, at, rng, day))
    move = tuple(gateway_replaced(world, moved, rng))
    stories = (
        (
            "analyst_sync",
            at,
            sync,
            "an analyst copies part of a bucket with aws s3 sync and a single sign-on role, at the office",
        ),
        (
            "last_day_move",
            moved,
            move,
            "the NAT gateway of two applications is replaced amid sessions, on the last day",
        ),
    )
    return Attack(
        (),
        {},
        background=sync + move,
        look_alikes=tuple(
            LookAlike(
                name,
                world.days,
                story,
                {"time": iso(moment), "event_ids": [record.event_id for record in records]},
            )
            for name, moment, records, story in stories
        ),
    )


def _public(world: World, rng: Random) -> Attack:
    """V10: the bucket is open to everybody; the attacker finds it and needs no credentials."""
    instance, bucket = world.instances[WAF], world.buckets["cardholders"]
    at = world.end - DAY + rng.randint(8 * HOUR, 20 * HOUR)
    knock = [("GET", instance.address(at), "/", 400, 157)]
    requests = tuple(_requests(rng, at - rng.randint(100, 400), ATTACKER, knock))
    listing, copying = (
        anonymous(bucket.account, ATTACKER, CLI.format(command=command)) for command in ("s3.ls", "s3.sync")
    )
    found = len(bucket.objects)
    records = [list_objects(rng, listing, at, bucket, delimiter="/", found=found)]
    at += rng.randint(30, 240)
    records.append(list_objects(rng, copying, at, bucket, found=found))
    records += copied(rng, copying, at, bucket, 0)
    truth: Json = {
        "technique": "cloud_breach_s3",
        "variant": "V10",
        "attack_techniques": ["T1619", "T1530"],
        "account": bucket.account,
        "region": bucket.region,
        "attacker_address": ATTACKER,
        **whole_bucket(bucket, records),
    }
    entities = {"AwsBucket": [bucket.name], "IP": [ATTACKER]}
    return Attack(tuple(records), truth, Expected(1, "High", entities), requests=requests)


_TOKENS = Setting(session_tokens=True)

VARIANTS = (
    Variant("plain", "V1", "list, then copy a bucket within two seconds", _by("V1", _Way())),
    Variant(
        "slow",
        "V2",
        "one object every 20 minutes, for six hours",
        _by("V2", _Way(wait=(6 * MINUTE, 10 * MINUTE), between=20 * MINUTE)),
        Setting(more_objects=_SLOW_OBJECTS),
    ),
    Variant(
        "from-aws",
        "V3",
        "the attacker calls from another account's machine in AWS",
        _by("V3", _Way(address=IN_AWS, agent=_CLOUD_AGENT, remote_account=REMOTE_ACCOUNT)),
    ),
    Variant(
        "forged",
        "V4",
        "a forged user agent, and an address in the office's /16",
        _by("V4", _Way(address=NEAR_OFFICE, agent=BOTO)),
    ),
    Variant(
        "large-objects",
        "V5",
        "two large objects beside the small ones, read in ranges",
        _by("V5", _Way()),
        Setting(more_objects=_LARGE_OBJECTS),
    ),
    Variant(
        "token-required",
        "V6",
        "the metadata service wants a session token: the attacker gets nothing",
        _only_asked,
        _TOKENS,
    ),
    Variant(
        "token-fetched",
        "V6b",
        "the metadata service wants a session token, and the proxy passes on the PUT for it",
        _by("V6b", _Way(wait=(8 * MINUTE, 30 * MINUTE), fetches_token=True)),
        _TOKENS,
    ),
    Variant(
        "denied",
        "V7",
        "the stolen role may list buckets, and every read is refused",
        _by("V7", _Way(denied=True)),
    ),
    Variant(
        "look-alikes",
        "V8",
        "no attack: what resembles one, late, repeated and disordered files",
        _look_alikes,
        Setting(last_day_move=True),
    ),
    Variant("hidden", "V9", "the same attack in a million events", _by("V9", _Way()), events=1_000_000),
    Variant("public-bucket", "V10", "the bucket is public: it is copied without credentials", _public),
)
