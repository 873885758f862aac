"""What runs on instances and functions: the applications, their agents, the nightly backup."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random

from ..record import (
    GET_OBJECT,
    HEAD_OBJECT,
    PUT_OBJECT,
    Api,
    Caller,
    Json,
    Record,
    assume_role,
    call,
    foreign,
    instance_credentials,
    instance_session,
    list_objects,
    role_session,
    s3_object,
    service,
)
from ..text import hex_id, iso, letters, uuid
from ..world import HOME_REGION, HOUR, MINUTE, PRODUCTION, WAF, Bucket, Instance, Issue, World
from .day import Day, regular, spread

SSM_AGENT = "aws-sdk-go/1.55.5 (go1.23.7; linux; amd64) amazon-ssm-agent/3.3.2299.0"
JAVA = "aws-sdk-java/2.29.29 md/io#async ua/2.1 os/Linux#6.1.134 lang/java#21.0.6 exec-env/AWS_EC2"
BOTO = "Boto3/1.35.81 md/Botocore#1.35.81 ua/2.0 os/linux#6.1.134-150.224.amzn2023.x86_64 lang/python#3.11.6"
NODE = "aws-sdk-js/3.716.0 ua/2.1 os/linux#6.1.134 lang/js md/nodejs#22.12.0 api/s3#3.716.0"
GO = "aws-sdk-go-v2/1.32.7 ua/2.1 os/linux lang/go#1.23.4 md/GOOS#linux md/GOARCH#arm64 api/s3#1.71.1"
OLD_CLI = "aws-cli/1.18.147 Python/2.7.18 Linux/4.14.355-276.618.amzn2.x86_64 botocore/1.18.6"
BACKUP_CLI = (
    "aws-cli/2.17.20 md/awscrt#0.21.2 ua/2.0 os/linux#6.1.134-150.224.amzn2023.x86_64 md/arch#x86_64 "
    "lang/python#3.11.9 md/pyimpl#CPython cfg/retry-mode#standard md/installer#exe md/command#s3.sync"
)
LAMBDA = "Boto3/1.35.81 md/Botocore#1.35.81 os/linux#5.10 lang/python#3.12.8 exec-env/AWS_Lambda_python3.12"

PART_SIZE = 8 * 1024 * 1024
MOST_PARTS = 5
DYNAMO_VERSION = "2012-08-10"
GET_ITEM = Api("dynamodb", "GetItem", data=True)
QUERY = Api("dynamodb", "Query", data=True)
PUT_ITEM = Api("dynamodb", "PutItem", read=False, data=True)
UPDATE_ITEM = Api("dynamodb", "UpdateItem", read=False, data=True)
SEND_MESSAGE = Api("sqs", "SendMessage", read=False, data=True)
RECEIVE_MESSAGE = Api("sqs", "ReceiveMessage", read=False, data=True)
DELETE_MESSAGE = Api("sqs", "DeleteMessage", read=False, data=True)
DECRYPT = Api("kms", "Decrypt")
GET_SECRET = Api("secretsmanager", "GetSecretValue")


# The fixed skeleton: every day, whatever the size of the simulation.


def credential_issues(world: World, day: Day, rng: Random) -> Iterator[Record]:
    """EC2 renews the credentials of every instance."""
    for instance in world.everything_running():
        for issue in instance.issues_between(day.start, day.end):
            yield from instance_credentials(world.issue_rng(instance, issue), instance, issue.at)


def agents(world: World, day: Day, rng: Random) -> Iterator[Record]:
    """The Systems Manager agent of each instance reports, with a key of its own (IMDSv2)."""
    times = day.times(11, least=3, most=96)
    for instance in world.everything_running():
        for at in regular(rng, day, times):
            if not instance.runs(at) or instance.issues[0].at > at:
                continue
            issue = _held(instance, at, rng.choice((0, 0, 10 * MINUTE, 20 * MINUTE)))
            who = instance_session(instance, at, SSM_AGENT, issue=issue, key=issue.agent_key)
            yield _agent_report(rng, instance, who, at)
            if rng.random() < 0.06:
                yield call(
                    rng,
                    who,
                    at + 2,
                    Api("ssm", "ListInstanceAssociations"),
                    region=instance.region,
                    request={"instanceId": instance.id, "maxResults": 20},
                )


def _held(instance: Instance, at: int, age: int) -> Issue:
    """Credentials taken up `age` seconds ago and kept since, unless the instance was started in between."""
    started = any(at - age < up <= at for _, up in instance.off)
    return instance.issue(at if started else at - age)


def _agent_report(rng: Random, instance: Instance, who: Caller, at: int) -> Record:
    name = "ip-" + instance.private.replace(".", "-")
    zone = "ec2.internal" if instance.region == HOME_REGION else f"{instance.region}.compute.internal"
    request: Json = {
        "instanceId": instance.id,
        "agentVersion": "3.3.2299.0",
        "agentStatus": "Active",
        "platformType": "Linux",
        "platformName": "Amazon Linux",
        "platformVersion": "2" if instance.name == WAF else "2023",
        "iPAddress": instance.private,
        "computerName": f"{name}.{zone}",
        "agentName": "amazon-ssm-agent",
        "availabilityZone": f"{instance.region}a",
        "availabilityZoneId": "use1-az4" if instance.region == HOME_REGION else "euw1-az2",
        "sSMConnectionChannel": "ssmmessages",
    }
    return call(
        rng,
        who,
        at,
        Api("ssm", "UpdateInstanceInformation", read=False, version="1.10"),
        region=instance.region,
        request=request,
    )


def waf_config(world: World, day: Day, rng: Random) -> Iterator[Record]:
    """The web server whose role gets stolen fetches its rules: same role, same session, own address."""
    instance, bucket = world.instances[WAF], world.buckets["waf-config"]
    for at in regular(rng, day, day.times(12, least=4, most=96), jitter=90):
        who = instance_session(instance, at, f"{OLD_CLI} command/s3.sync")
        yield list_objects(rng, who, at, bucket, prefix="waf/", found=2)
        for key, size in bucket.objects:
            if rng.random() < 0.4:
                yield s3_object(rng, who, at + 1, GET_OBJECT, bucket, key, size)


def backup(world: World, day: Day, rng: Random) -> Iterator[Record]:
    """The nightly backup reads whole buckets from its own instance and writes to another account."""
    instance = world.instances["backup"]
    at = day.start + 2 * HOUR + rng.randint(5, 12) * MINUTE
    most = day.times(60, least=12, most=900)
    yield from _back_up(world, rng, instance, at, world.buckets["documents"], most)
    created = world.changes["new_bucket"]
    if created < at:
        share = max(3, most // 8)
        yield from _back_up(world, rng, instance, at + 20 * MINUTE, world.buckets["invoices"], share)


def _back_up(
    world: World, rng: Random, instance: Instance, at: int, bucket: Bucket, most: int
) -> Iterator[Record]:
    target = world.buckets["backups"]
    objects = bucket.objects[-most:]
    yield list_objects(rng, instance_session(instance, at, BACKUP_CLI), at, bucket, found=len(objects))
    for place, (key, size) in enumerate(objects):
        moment = at + 2 + place * 2 // 3
        who = instance_session(instance, moment, BACKUP_CLI)
        # The client fetches a large object in parts, each a GetObject of its own.
        left, part = size * 6, max(PART_SIZE, size * 6 // MOST_PARTS + 1)
        while left > 0:
            yield s3_object(rng, who, moment, GET_OBJECT, bucket, key, min(left, part))
            left -= part
        if place % 20 == 19:
            shared = uuid(rng)
            name = f"{bucket.name}/{iso(at)[:10]}/part-{place // 20:04d}.tar.zst"
            for seen_by in (who, foreign(who, target.account)):
                yield s3_object(
                    rng, seen_by, moment + 1, PUT_OBJECT, target, name, 9_000_000 + place, shared_id=shared
                )


def erp(world: World, day: Day, rng: Random) -> Iterator[Record]:
    """An old application that keeps the cardholder files, on IMDSv1; stopped and started once."""
    instance, bucket = world.instances["erp"], world.buckets["cardholders"]
    for at in spread(rng, day, day.times(5, least=2, most=40)):
        if not instance.runs(at) or instance.issue(at).at > at:
            continue
        who = instance_session(instance, at, "Boto/2.49.0 Python/2.7.18 Linux/4.14.355-276.618.amzn2.x86_64")
        key, size = rng.choice(bucket.objects[:3])
        yield s3_object(rng, who, at, GET_OBJECT, bucket, key, size)
        yield s3_object(rng, who, at + 3, PUT_OBJECT, bucket, key, size)


def collector(world: World, day: Day, rng: Random) -> Iterator[Record]:
    """The security team's log collector reads new log files from the archive."""
    instance, bucket = world.instances["collector"], world.buckets["logs"]
    for at in regular(rng, day, day.times(14, least=4, most=288)):
        who = instance_session(instance, at, GO)
        day_path = iso(at)[:10].replace("-", "/")
        prefix = f"AWSLogs/{PRODUCTION}/elasticloadbalancing/{HOME_REGION}/{day_path}/"
        yield list_objects(rng, who, at, bucket, prefix=prefix, found=rng.randint(1, 4))
        yield s3_object(
            rng,
            who,
            at + 1,
            GET_OBJECT,
            bucket,
            f"{prefix}{hex_id(rng, 12)}.log.gz",
            rng.randint(900, 90_000),
        )


def invoice(world: World, day: Day, rng: Random) -> Iterator[Record]:
    """The service with the new role: fills the new bucket once there is one."""
    instance, bucket = world.instances["invoice"], world.buckets["invoices"]
    for at in spread(rng, day, day.times(14, least=3, most=400)):
        if not instance.runs(at) or instance.issue(at).at > at:
            continue
        who = instance_session(instance, at, JAVA)
        yield _item(rng, who, at, GET_ITEM, "invoices")
        if at > world.changes["new_bucket"] + HOUR:
            key, size = rng.choice(bucket.objects)
            yield s3_object(rng, who, at + 1, PUT_OBJECT, bucket, key, size)


# The volume: applications that fill the day up to its size.


def orders(world: World, day: Day, rng: Random, count: int) -> Iterator[Record]:
    """Three instances behind one NAT gateway, one role: tables, a queue, secrets, documents."""
    fleet = [world.instances[f"orders-{number}"] for number in (1, 2, 3)]
    bucket = world.buckets["documents"]
    for at in spread(rng, day, max(1, count // 5)):
        who = instance_session(rng.choice(fleet), at, JAVA)
        yield _item(rng, who, at, GET_ITEM, "customers")
        yield _item(rng, who, at, rng.choice((PUT_ITEM, UPDATE_ITEM)), "orders")
        yield _message(rng, who, at + 1, SEND_MESSAGE, "order-events")
        fate = rng.random()
        if fate < 0.35:
            key, size = rng.choice(bucket.objects)
            yield s3_object(rng, who, at + 1, GET_OBJECT, bucket, key, size)
            yield s3_object(rng, who, at + 2, PUT_OBJECT, bucket, key, size)
        elif fate < 0.6:
            yield from _secret(rng, world, who, at + 1, "prod/orders/database")
        elif fate < 0.9:
            yield _decrypt(rng, world, who, at + 1, "orders", {"purpose": "order-token"})
            yield _item(rng, who, at + 1, QUERY, "orders")
        elif fate < 0.93:
            error = (
                "ProvisionedThroughputExceededException",
                "The level of configured provisioned throughput for the table was exceeded.",
            )
            yield _item(rng, who, at + 1, QUERY, "orders", error=error)


def media(world: World, day: Day, rng: Random, count: int) -> Iterator[Record]:
    """S3 through a VPC endpoint (private address), everything else through the NAT gateway."""
    instance, bucket = world.instances["media"], world.buckets["media"]
    for at in spread(rng, day, max(1, count // 4)):
        who = instance_session(instance, at, NODE)
        inside = replace(who, address=instance.private, endpoint=instance.endpoint)
        key, size = rng.choice(bucket.objects)
        yield _message(rng, who, at, RECEIVE_MESSAGE, "media-jobs")
        yield s3_object(rng, inside, at + 1, GET_OBJECT, bucket, key, size)
        name = key.replace("uploads/", "derived/").replace(
            ".jpg", rng.choice((".webp", "@2x.webp", " (small).webp"))
        )
        yield s3_object(rng, inside, at + 2, PUT_OBJECT, bucket, name, size // 3)
        yield _message(rng, who, at + 3, DELETE_MESSAGE, "media-jobs")


def web(world: World, day: Day, rng: Random, count: int) -> Iterator[Record]:
    """The autoscaled web servers, each with its own public address."""
    assets, invoices = world.buckets["assets"], world.buckets["invoices"]
    for at in spread(rng, day, max(1, count * 2 // 5)):
        ready = [member for member in world.fleet if member.runs(at) and member.issues[0].at <= at]
        who = instance_session(rng.choice(ready), at, BOTO)
        bucket = invoices if at > world.changes["new_bucket"] + 2 * HOUR and rng.random() < 0.25 else assets
        key, size = rng.choice(bucket.objects)
        fate = rng.random()
        if fate < 0.04:
            missing = ("NoSuchKey", "The specified key does not exist.")
            yield s3_object(
                rng, who, at, GET_OBJECT, bucket, f"static/img/{letters(rng, 6)}.png", 0, error=missing
            )
            continue
        yield s3_object(rng, who, at, GET_OBJECT, bucket, key, size)
        yield _item(rng, who, at + 1, GET_ITEM, "sessions")
        if fate > 0.7:
            yield s3_object(rng, who, at + 1, HEAD_OBJECT, bucket, key, size)
        elif fate > 0.5:
            yield from _secret(rng, world, who, at + 1, "prod/web/session-key")


def catalog(world: World, day: Day, rng: Random, count: int) -> Iterator[Record]:
    """Two instances in another region that work through their files in bursts."""
    bucket = world.buckets["catalog"]
    runs = max(1, min(24, count // 10))
    for start in regular(rng, day, runs, jitter=300):
        instance = world.instances[rng.choice(("catalog-1", "catalog-2"))]
        yield list_objects(
            rng, instance_session(instance, start, GO), start, bucket, prefix="catalog/", found=200
        )
        for place in range(max(1, count // runs - 1)):
            at = start + 1 + place * 2
            who = instance_session(instance, at, GO)
            key, size = rng.choice(bucket.objects)
            api = PUT_OBJECT if place % 4 == 3 else GET_OBJECT
            yield s3_object(rng, who, at, api, bucket, key, size)


def staging(world: World, day: Day, rng: Random, count: int) -> Iterator[Record]:
    """Test runs in the staging account, mostly on working days."""
    instance, bucket = world.instances["staging"], world.buckets["staging"]
    runs = max(1, min(16, count // 10))
    for start in spread(rng, day, runs):
        for place in range(max(1, count // runs // 2)):
            at = start + place * 3
            who = instance_session(instance, at, JAVA)
            key, size = rng.choice(bucket.objects)
            yield s3_object(rng, who, at, GET_OBJECT, bucket, key, size)
            yield _item(rng, who, at + 1, PUT_ITEM, "orders-test")


def functions(world: World, day: Day, rng: Random, count: int) -> Iterator[Record]:
    """A function outside any VPC: its calls come from changing addresses of the provider."""
    role, bucket = world.roles["thumbnail"], world.buckets["media"]
    known = world.lambda_addresses[: 4 + day.number * 2 // 3]
    runs = max(1, min(60, count // 8))
    for start in spread(rng, day, runs):
        key, records = assume_role(rng, service("lambda", PRODUCTION), start, role, "thumbnailer", hours=12)
        yield from records
        address = rng.choice(known)
        who = role_session(role, "thumbnailer", key, start, address, LAMBDA)
        for place in range(max(1, count // runs // 2)):
            at = start + 2 + place * 11
            object_key, size = rng.choice(bucket.objects)
            yield s3_object(rng, who, at, GET_OBJECT, bucket, object_key, size)
            yield s3_object(
                rng, who, at + 1, PUT_OBJECT, bucket, object_key.replace("uploads/", "thumbs/"), size // 40
            )


# Calls that several applications make.


def _item(
    rng: Random, who: Caller, at: int, api: Api, table: str, *, error: tuple[str, str] | None = None
) -> Record:
    request: Json = {"tableName": table}
    if api is QUERY:
        request["keyConditionExpression"] = "#pk = :pk"
    else:
        request["key"] = {"id": hex_id(rng, 12)}
    return call(
        rng,
        who,
        at,
        api,
        request=request,
        resources=[
            {
                "accountId": who.account,
                "type": "AWS::DynamoDB::Table",
                "ARN": f"arn:aws:dynamodb:{HOME_REGION}:{who.account}:table/{table}",
            }
        ],
        error=error,
        api_version=DYNAMO_VERSION,
    )


def _message(rng: Random, who: Caller, at: int, api: Api, queue: str) -> Record:
    request: Json = {"queueUrl": f"https://sqs.{HOME_REGION}.amazonaws.com/{who.account}/{queue}"}
    response: Json | None = None
    if api is SEND_MESSAGE:
        request["messageBody"] = "HIDDEN_DUE_TO_SECURITY_REASONS"
        response = {"mD5OfMessageBody": hex_id(rng, 32), "messageId": uuid(rng)}
    elif api is DELETE_MESSAGE:
        request["receiptHandle"] = "AQEB" + hex_id(rng, 40)
    else:
        request |= {"maxNumberOfMessages": 10, "waitTimeSeconds": 20}
    return call(
        rng,
        who,
        at,
        api,
        request=request,
        response=response,
        resources=[
            {
                "accountId": who.account,
                "type": "AWS::SQS::Queue",
                "ARN": f"arn:aws:sqs:{HOME_REGION}:{who.account}:{queue}",
            }
        ],
    )


def _decrypt(rng: Random, world: World, who: Caller, at: int, alias: str, context: Json) -> Record:
    return call(
        rng,
        who,
        at,
        DECRYPT,
        request={"encryptionAlgorithm": "SYMMETRIC_DEFAULT", "encryptionContext": context},
        resources=[
            {
                "accountId": who.account,
                "type": "AWS::KMS::Key",
                "ARN": f"arn:aws:kms:{HOME_REGION}:{who.account}:key/{world.keys[alias]}",
            }
        ],
    )


def _secret(rng: Random, world: World, who: Caller, at: int, name: str) -> Iterator[Record]:
    """Reading a secret, and the decryption that Secrets Manager asks KMS for on the caller's behalf."""
    arn = f"arn:aws:secretsmanager:{HOME_REGION}:{who.account}:secret:{name}-Xk2p9Q"
    yield call(rng, who, at, GET_SECRET, request={"secretId": name})
    context: Json = {"SecretARN": arn, "SecretVersionId": uuid(rng)}
    yield _decrypt(rng, world, who.through("secretsmanager"), at, "secrets", context)
