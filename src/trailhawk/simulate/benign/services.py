"""AWS services in their own name, and the noise of the internet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random

from ..record import (
    GET_OBJECT,
    PUT_OBJECT,
    Api,
    Json,
    Record,
    anonymous,
    assume_role,
    call,
    role_session,
    s3_object,
    service,
    service_itself,
)
from ..text import hex_id, iso, letters, uuid
from ..world import EU_REGION, HOME_REGION, HOUR, MINUTE, PRODUCTION, SECURITY, STAGING, World
from .day import Day, regular, spread

_CONFIG_CALLS = (
    ("ec2", "DescribeVolumes"),
    ("ec2", "DescribeSecurityGroups"),
    ("iam", "ListRoles"),
    ("s3", "GetBucketVersioning"),
    ("rds", "DescribeDBInstances"),
    ("ec2", "DescribeInstances"),
    ("lambda", "ListFunctions20150331"),
)


def recorder(world: World, day: Day, rng: Random) -> Iterator[Record]:
    """AWS Config takes its role in each account and looks at everything."""
    for name, times in (("config", 4), ("config-staging", 1), ("config-security", 1)):
        role = world.roles[name]
        for at in regular(rng, day, day.times(times, most=48)):
            config = service("config", role.account)
            key, records = assume_role(rng, config, at, role, "AWSConfig-Describe")
            yield from records
            session = role_session(role, "AWSConfig-Describe", key, at, "", "").through("config")
            # A service's session shows no access key.
            identity = {field: value for field, value in session.identity.items() if field != "accessKeyId"}
            who = replace(session, identity=identity)
            for source, call_name in rng.sample(_CONFIG_CALLS, 3):
                yield call(rng, who, at + 1, Api(source, call_name, version="1.08"))


def trails(world: World, day: Day, rng: Random) -> Iterator[Record]:
    """CloudTrail checks its bucket, load balancers deliver logs into it."""
    bucket = world.buckets["logs"]
    for at in regular(rng, day, day.times(3, most=24)):
        host = f"{bucket.name}.s3.{HOME_REGION}.amazonaws.com"
        yield call(
            rng,
            service("cloudtrail", SECURITY),
            at,
            Api("s3", "GetBucketAcl"),
            request={"bucketName": bucket.name, "Host": host, "acl": ""},
            resources=[{"accountId": SECURITY, "type": "AWS::S3::Bucket", "ARN": bucket.arn}],
            shared_id=uuid(rng),
        )
    for at in regular(rng, day, day.times(8, least=2, most=288)):
        path = f"AWSLogs/{PRODUCTION}/elasticloadbalancing/{HOME_REGION}/{iso(at)[:10].replace('-', '/')}/"
        yield s3_object(
            rng,
            service("delivery.logs", SECURITY),
            at,
            PUT_OBJECT,
            bucket,
            f"{path}{hex_id(rng, 12)}.log.gz",
            rng.randint(900, 90_000),
            shared_id=uuid(rng),
        )


def autoscaling(world: World, day: Day, rng: Random) -> Iterator[Record]:
    """The autoscaling group looks after its members; it starts and ends them on the days they change."""
    for at in regular(rng, day, day.times(4, least=1, most=96)):
        yield _as_autoscaling(world, at, "DescribeInstanceStatus", {"includeAllInstances": False}, rng)
    for member in world.fleet:
        if day.holds(member.gone):
            request: Json = {"instancesSet": {"items": [{"instanceId": member.id}]}}
            yield _as_autoscaling(world, member.gone - 30, "TerminateInstances", request, rng, read=False)


def fleet_launch(world: World, day: Day, rng: Random) -> Iterator[Record]:
    """A new member of the autoscaling group: RunInstances in the group's name."""
    for member in world.fleet:
        if day.holds(member.born):
            yield _as_autoscaling(
                world,
                member.born - 12,
                "RunInstances",
                {
                    "instancesSet": {"items": [{"minCount": 1, "maxCount": 1}]},
                    "launchTemplate": {"launchTemplateName": "web-frontend", "version": "$Latest"},
                    "iamInstanceProfile": {"name": "web-frontend"},
                },
                rng,
                read=False,
                response={"instancesSet": {"items": [launched(member.id, member.private)]}},
            )


def launched(instance: str, private: str) -> Json:
    """An instance as RunInstances answers it."""
    return {
        "instanceId": instance,
        "instanceState": {"code": 0, "name": "pending"},
        "privateIpAddress": private,
        "instanceType": "t3.small",
    }


def _as_autoscaling(
    world: World,
    at: int,
    name: str,
    request: Json,
    rng: Random,
    *,
    read: bool = True,
    response: Json | None = None,
) -> Record:
    session = role_session(world.roles["autoscaling"], "AutoScaling", "", at - 600, "", "").through(
        "autoscaling"
    )
    identity = {field: value for field, value in session.identity.items() if field != "accessKeyId"}
    who = replace(session, identity=identity)
    return call(rng, who, at, Api("ec2", name, read=read, version="1.10"), request=request, response=response)


def occasional(world: World, day: Day, rng: Random) -> Iterator[Record]:
    """Key rotation, secret rotation and the daily advice: service events, some without an identity type."""
    at = day.start + 5 * HOUR + rng.randrange(HOUR)
    role = world.roles["advisor"]
    key, records = assume_role(rng, service("trustedadvisor", PRODUCTION), at, role, "TrustedAdvisor")
    yield from records
    who = role_session(role, "TrustedAdvisor", key, at, "", "").through("trustedadvisor")
    for name in ("DescribeInstances", "DescribeSecurityGroups"):
        yield call(rng, who, at + 2, Api("ec2", name, version="1.08"))
    if day.number % 16 == 12:
        key_id = world.keys["orders"]
        yield call(
            rng,
            service_itself("kms", PRODUCTION),
            at + HOUR,
            Api("kms", "RotateKey", read=False, version="1.08"),
            resources=[
                {
                    "accountId": PRODUCTION,
                    "type": "AWS::KMS::Key",
                    "ARN": f"arn:aws:kms:{HOME_REGION}:{PRODUCTION}:key/{key_id}",
                }
            ],
            kind="AwsServiceEvent",
            details={"keyId": key_id, "rotationType": "AUTOMATIC"},
        )
    if day.number % 7 == 4:
        yield from _secret_rotation(world, at + 2 * HOUR, rng)


def _secret_rotation(world: World, at: int, rng: Random) -> Iterator[Record]:
    arn = f"arn:aws:secretsmanager:{HOME_REGION}:{PRODUCTION}:secret:prod/orders/database-Xk2p9Q"
    itself = service_itself("secretsmanager", PRODUCTION)
    for name, moment in (("RotationStarted", at), ("RotationSucceeded", at + 42)):
        api = Api("secretsmanager", name, read=False, version="1.08")
        yield call(rng, itself, moment, api, extra={"SecretId": arn}, kind="AwsServiceEvent")
    role = world.roles["rotation"]
    key, records = assume_role(rng, service("lambda", PRODUCTION), at + 3, role, "rotate-secret", hours=12)
    yield from records
    address = world.instances["orders-1"].address(at)
    who = role_session(
        role,
        "rotate-secret",
        key,
        at + 3,
        address,
        "Boto3/1.35.81 md/Botocore#1.35.81 exec-env/AWS_Lambda_python3.12",
    )
    for place, name in enumerate(("DescribeSecret", "PutSecretValue", "UpdateSecretVersionStage")):
        yield call(
            rng,
            who,
            at + 9 + 8 * place,
            Api("secretsmanager", name, read=name == "DescribeSecret"),
            request={"secretId": arn, "clientRequestToken": uuid(rng)},
            response={"aRN": arn} if name != "DescribeSecret" else None,
        )


def internet(world: World, day: Day, rng: Random) -> Iterator[Record]:
    """Strangers without credentials knock on buckets and are turned away."""
    for at in spread(rng, day, day.times(2, most=40)):
        bucket = world.buckets[rng.choice(("assets", "media", "catalog"))]
        address = f"203.0.113.{rng.randint(2, 60)}"
        agent = rng.choice(("curl/7.88.1", "Mozilla/5.0 zgrab/0.x", "python-requests/2.32.3"))
        who = anonymous(bucket.account, address, agent)
        key = rng.choice((".env", "backup.sql", ".git/config", f"{letters(rng, 5)}.zip"))
        yield s3_object(rng, who, at, GET_OBJECT, bucket, key, 0, error=("AccessDenied", "Access Denied"))


def monitors(world: World, day: Day, rng: Random) -> Iterator[Record]:
    """Checks that fail each day without anybody minding: a denied call, a throttled one."""
    role = world.roles["catalog"]
    instance = world.instances["catalog-1"]
    at = day.start + 3 * HOUR + rng.randrange(20 * MINUTE)
    issue = instance.issue(at)
    who = role_session(
        role,
        instance.id,
        issue.application_key.id,
        issue.at,
        instance.address(at),
        "Boto3/1.35.81 md/Botocore#1.35.81 ua/2.0 os/linux#6.1 lang/python#3.11.6",
        delivery=issue.application_key.delivery,
    )
    reason = "because no identity-based policy allows the cloudwatch:ListMetrics action"
    arn = role.session_arn(instance.id)
    denied = ("AccessDenied", f"User: {arn} is not authorized to perform: cloudwatch:ListMetrics {reason}")
    for retry in range(3):
        yield call(rng, who, at + retry, Api("monitoring", "ListMetrics"), region=EU_REGION, error=denied)
    staging = service("config", STAGING)
    yield call(
        rng,
        staging,
        at,
        Api("ssm", "DescribeInstanceInformation", version="1.10"),
        error=("ThrottlingException", "Rate exceeded"),
    )
