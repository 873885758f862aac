"""The key of a Lambda function read from its environment, and a bucket copied with it.

A function that opens the file it is asked for gives out `/proc/self/environ`, where Lambda has put the role's
credentials; its role may read more buckets than it needs. ATT&CK T1190, T1552, T1078.004, T1580, T1619,
T1530, T1567. Caught by `function-or-task-credentials-elsewhere`.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from ..benign.applications import BOTO, LAMBDA
from ..record import (
    GET_OBJECT,
    Api,
    Caller,
    Json,
    Record,
    assume_role,
    call,
    list_buckets,
    list_objects,
    role_session,
    s3_object,
    service,
)
from ..text import iso
from ..world import DAY, HOME_REGION, HOUR, MINUTE, PRODUCTION, World
from .attack import Attack, Expected, Variant
from .steps import ATTACKER, CLI, copied, whole_bucket

_FUNCTION = "thumbnailer"
_TECHNIQUES = ("T1190", "T1552", "T1078.004", "T1580", "T1619", "T1530", "T1567")


def _by(number: str, agent: str) -> Callable[[World, Random], Attack]:
    def attack(world: World, rng: Random) -> Attack:
        return _theft(world, rng, number, agent)

    return attack


def _theft(world: World, rng: Random, number: str, agent: str) -> Attack:
    """A fresh environment of the function does its work, then its key is used elsewhere."""
    role, media, bucket = world.roles["thumbnail"], world.buckets["media"], world.buckets["cardholders"]
    issued = world.end - DAY + rng.randint(8 * HOUR, 20 * HOUR)
    key, lineage = assume_role(rng, service("lambda", PRODUCTION), issued, role, _FUNCTION, hours=12)
    home = rng.choice(world.lambda_addresses)
    own = role_session(role, _FUNCTION, key, issued, home, LAMBDA)
    work = [
        s3_object(rng, own, issued + 2 + 11 * place, GET_OBJECT, media, *rng.choice(media.objects))
        for place in range(4)
    ]

    def attacker(command: str) -> Caller:
        return role_session(role, _FUNCTION, key, issued, ATTACKER, agent.format(command=command))

    at = issued + rng.randint(6 * MINUTE, 30 * MINUTE)
    found = len(bucket.objects)
    records = [call(rng, attacker("sts.get-caller-identity"), at, Api("sts", "GetCallerIdentity"))]
    at += rng.randint(20, 90)
    records.append(list_buckets(rng, attacker("s3.ls"), at))
    at += rng.randint(30, 240)
    records.append(list_objects(rng, attacker("s3.sync"), at, bucket, found=found))
    records += copied(rng, attacker("s3.sync"), at, bucket, 0)
    session = role.session_arn(_FUNCTION)
    truth: Json = {
        "technique": "function_credentials",
        "variant": number,
        "attack_techniques": [*_TECHNIQUES],
        "account": PRODUCTION,
        "region": HOME_REGION,
        "role": role.name,
        "role_arn": role.arn,
        "session_arn": session,
        "stolen_access_key": key,
        "access_keys": [key],
        "assume_role_event_ids": [record.event_id for record in lineage],
        "credentials_issued": iso(issued),
        "function": _FUNCTION,
        "function_address": home,
        "attacker_address": ATTACKER,
        **whole_bucket(bucket, records),
    }
    entities = {
        "AwsSession": [f"{role.id}:{_FUNCTION}"],
        "AwsAccessKey": [key],
        "AwsBucket": [bucket.name],
        "IP": [ATTACKER],
    }
    background: tuple[Record, ...] = (*lineage, *work)
    return Attack(tuple(records), truth, Expected(1, "High", entities), background=background)


VARIANTS = (
    Variant("command-line", "F1", "the function's key used with the AWS command line", _by("F1", CLI)),
    Variant("sdk", "F2", "the function's key used with an SDK, outside of Lambda", _by("F2", BOTO)),
)
