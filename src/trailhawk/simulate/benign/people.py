"""People at work: console administrators, single sign-on analysts, developers on the command line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random

from ..record import (
    ASSUME_ROLE_WITH_SAML,
    GET_OBJECT,
    HEAD_OBJECT,
    Api,
    Caller,
    Json,
    Record,
    assume_role,
    call,
    console_login,
    console_user,
    federated_user,
    list_buckets,
    list_objects,
    role_session,
    s3_object,
    sign_on_user,
    user,
)
from ..text import hex_id, identifier, opaque, uuid
from ..world import HOME_REGION, HOUR, MINUTE, PRODUCTION, SANDBOX, SECURITY, STAGING, Person, World, at_time
from .day import Day

S3_CONSOLE = (
    "S3Console/0.4, aws-internal/3 aws-sdk-java/1.12.750 Linux/5.10.228 OpenJDK_64-Bit_Server_VM/25.432"
)
LAPTOP_CLI = (
    "aws-cli/2.22.12 md/awscrt#0.22.0 ua/2.0 os/macos#24.1.0 md/arch#arm64 lang/python#3.12.8 "
    "md/pyimpl#CPython cfg/retry-mode#standard md/installer#source md/prompt#off md/command#{}"
)
LINUX_CLI = (
    "aws-cli/2.15.30 md/awscrt#0.19.19 ua/2.0 os/linux#6.8.0-49-generic md/arch#x86_64 lang/python#3.11.6 "
    "md/pyimpl#CPython cfg/retry-mode#standard md/installer#exe md/prompt#off md/command#{}"
)
TERRAFORM = (
    "APN/1.0 HashiCorp/1.0 Terraform/1.9.8 (+https://www.terraform.io) terraform-provider-aws/5.80.0 "
    "(+https://registry.terraform.io/providers/hashicorp/aws) aws-sdk-go-v2/1.32.5 os/linux lang/go#1.23.3"
)

Page = tuple[tuple[str, str, Json | None], ...]

_PAGES: tuple[Page, ...] = (
    (
        ("ec2", "DescribeInstances", {"maxResults": 1000, "instancesSet": {}, "filterSet": {}}),
        ("ec2", "DescribeVolumes", {"maxResults": 1000, "volumeSet": {}, "filterSet": {}}),
        ("ec2", "DescribeInstanceStatus", {"instancesSet": {}, "filterSet": {}, "includeAllInstances": True}),
        ("ec2", "DescribeAddresses", {"publicIpsSet": {}, "filterSet": {}, "allocationIdsSet": {}}),
    ),
    (
        (
            "ec2",
            "DescribeSecurityGroups",
            {"securityGroupSet": {}, "securityGroupIdSet": {}, "filterSet": {}},
        ),
        ("ec2", "DescribeVpcs", {"vpcSet": {}, "filterSet": {}}),
        ("ec2", "DescribeSubnets", {"subnetSet": {}, "filterSet": {}}),
    ),
    (
        ("iam", "ListRoles", {"maxItems": 1000}),
        ("iam", "ListUsers", {"maxItems": 1000}),
        ("iam", "GetAccountSummary", None),
    ),
    (
        ("monitoring", "DescribeAlarms", {"maxRecords": 100}),
        ("logs", "DescribeLogGroups", {"limit": 50}),
        ("health", "DescribeEventAggregates", {"aggregateField": "eventTypeCategory"}),
    ),
    (
        ("rds", "DescribeDBInstances", None),
        ("rds", "DescribeDBClusters", None),
        ("ce", "GetCostAndUsage", {"granularity": "DAILY", "metrics": ["UnblendedCost"]}),
    ),
    (
        ("cloudtrail", "LookupEvents", {"maxResults": 50}),
        ("cloudformation", "DescribeStacks", None),
        ("cloudformation", "ListStacks", {"stackStatusFilter": ["CREATE_COMPLETE", "UPDATE_COMPLETE"]}),
    ),
)
_OLDER = {"iam": "1.10", "health": "1.08", "rds": "1.10", "ec2": "1.10"}
_GLOBAL = {
    "iam": "iam.amazonaws.com",
    "health": "health.us-east-1.amazonaws.com",
    "ce": "ce.us-east-1.amazonaws.com",
}


def works(person: Person, day: Day, rng: Random) -> bool:
    if day.number < person.first_day or day.number in person.vacation:
        return False
    return rng.random() < (0.94 if day.workday else 0.05)


def way_out(rng: Random, *, vpn: bool) -> str:
    """The way to the internet somebody takes on a day: the office's, or from home."""
    if rng.random() < 0.62:
        return "office"
    return "vpn" if vpn else "home"


def address_of(world: World, person: Person, way: str, at: int) -> str:
    timelines = {"office": world.office, "vpn": world.vpn, "home": person.home}
    return at_time(timelines[way], at)


def open_page(rng: Random, who: Caller, at: int, page: Page) -> Iterator[Record]:
    """The calls that one page of the console makes."""
    for place, (service, name, request) in enumerate(page):
        api = Api(service, name, version=_OLDER.get(service, "1.11"))
        yield call(rng, who, at + place // 2, api, request=request, host=_GLOBAL.get(service, ""))


def administrators(world: World, day: Day, rng: Random) -> Iterator[Record]:
    """IAM users in the web console, with a second factor, from the office or through the company's VPN."""
    for person in world.admins:
        if not works(person, day, rng):
            continue
        way = way_out(rng, vpn=True)
        at = day.start + person.starts_at * HOUR + rng.randrange(40 * MINUTE)
        if rng.random() < 0.05:
            address = address_of(world, person, way, at)
            yield console_login(rng, person, PRODUCTION, at - 20, address, success=False)
        yield console_login(rng, person, PRODUCTION, at, address_of(world, person, way, at))
        since, key = at, identifier(rng, "ASIA", 16)
        for _ in range(day.times(9, least=2, most=80)):
            at += rng.randint(2 * MINUTE, 70 * MINUTE * 9 // max(9, day.times(9)))
            who = console_user(person, PRODUCTION, address_of(world, person, way, at), key, since)
            if rng.random() < 0.2:
                bucket = world.buckets[rng.choice(("documents", "assets"))]
                yield list_buckets(rng, replace(who, agent=S3_CONSOLE), at)
                yield list_objects(rng, who, at + 2, bucket, delimiter="/", found=40)
                if rng.random() < 0.4:
                    key_read, size = rng.choice(bucket.objects)
                    yield s3_object(rng, who, at + 9, GET_OBJECT, bucket, key_read, size)
            else:
                yield from open_page(rng, who, at, rng.choice(_PAGES))
        if rng.random() < 0.5:
            yield from housekeeping(world, person, way, at + 3 * MINUTE, rng)


def housekeeping(world: World, person: Person, way: str, at: int, rng: Random) -> Iterator[Record]:
    """An administrator looks after the sandbox account with a role there."""
    address = address_of(world, person, way, at)
    base = user(person, PRODUCTION, address, LAPTOP_CLI.format("sts.assume-role"))
    role = world.roles["org-admin"]
    key, records = assume_role(rng, base, at, role, person.name)
    yield from records
    who = role_session(
        role, person.name, key, at, address, LAPTOP_CLI.format("ec2.describe-instances"), mfa=True
    )
    yield call(
        rng, who, at + 4, Api("ec2", "DescribeInstances", version="1.10"), request={"instancesSet": {}}
    )
    yield call(rng, who, at + 30, Api("iam", "ListUsers", version="1.10"), host="iam.amazonaws.com")


def analysts(world: World, day: Day, rng: Random) -> Iterator[Record]:
    """Single sign-on: the portal in the security account, a role in production, then Athena and S3."""
    for person in world.analysts:
        if not works(person, day, rng):
            continue
        way = way_out(rng, vpn=False)
        at = day.start + person.starts_at * HOUR + rng.randrange(50 * MINUTE)
        for part in range(2):
            if part and rng.random() < 0.3:
                # Some carry on from home in the evening.
                way = "home"
            address = address_of(world, person, way, at)
            key, records = sign_on(world, person, at, address, rng)
            yield from records
            assert person.role is not None
            who = role_session(person.role, person.name, key, at, address, person.agent)
            if "SecurityAudit" in person.role.name:
                yield from _audit(world, who, at + 40, rng)
            else:
                for _ in range(day.times(2.4, least=1, most=30)):
                    at += rng.randint(3 * MINUTE, 25 * MINUTE)
                    who = replace(who, address=address_of(world, person, way, at))
                    yield from _athena(world, who, at, rng)
                if rng.random() < 0.22:
                    yield from _sync(world, who, at + 5 * MINUTE, rng, day)
                elif rng.random() < 0.5:
                    yield from _look_at_files(world, who, at + 2 * MINUTE, rng)
            at = max(at, day.start + (person.starts_at + 4) * HOUR) + rng.randint(20, 60) * MINUTE


def sign_on(world: World, person: Person, at: int, address: str, rng: Random) -> tuple[str, list[Record]]:
    """Through the portal to a role: the key, and the records in both accounts."""
    role = person.role
    assert role is not None
    portal = sign_on_user(person, SECURITY, address)
    details: Json = {"role_name": role.name.split("_")[1], "account_id": role.account}
    sso = [
        call(
            rng,
            portal,
            at - 9,
            Api("sso", "Authenticate", read=False, version="1.08"),
            kind="AwsServiceEvent",
        ),
        call(
            rng,
            portal,
            at - 2,
            Api("sso", "Federate", read=False, version="1.08"),
            kind="AwsServiceEvent",
            details={"relayId": uuid(rng), **details},
        ),
    ]
    provider = f"arn:aws:iam::{role.account}:saml-provider/AWSSSO_7f3a91c2d4e5b680_DO_NOT_DELETE"
    saml = federated_user(person, role.account, address, person.agent, opaque(rng, 20))
    key, records = assume_role(
        rng,
        saml,
        at,
        role,
        person.name,
        hours=8,
        request={"sAMLAssertionID": f"_{uuid(rng)}", "principalArn": provider, "durationSeconds": 28_800},
        api=ASSUME_ROLE_WITH_SAML,
    )
    return key, sso + records


def _athena(world: World, who: Caller, at: int, rng: Random) -> Iterator[Record]:
    bucket = world.buckets["analytics"]
    query = uuid(rng)
    start = Api("athena", "StartQueryExecution", read=False)
    yield call(
        rng,
        who,
        at,
        start,
        request={"queryString": "HIDDEN_DUE_TO_SECURITY_REASONS", "workGroup": "analysts"},
        response={"queryExecutionId": query},
    )
    inside = who.through("athena")
    yield call(
        rng, inside, at + 1, Api("glue", "GetTable"), request={"databaseName": "sales", "name": "orders"}
    )
    for place in range(rng.randint(1, 3)):
        key, size = rng.choice(bucket.objects)
        yield s3_object(rng, inside, at + 1 + place, GET_OBJECT, bucket, key, size)
    for place in range(rng.randint(1, 2)):
        status = Api("athena", "GetQueryExecution")
        yield call(rng, who, at + 2 + place, status, request={"queryExecutionId": query})
    yield call(
        rng,
        who,
        at + 6,
        Api("athena", "GetQueryResults"),
        request={"queryExecutionId": query, "maxResults": 50},
    )


def _sync(world: World, who: Caller, at: int, rng: Random, day: Day) -> Iterator[Record]:
    """`aws s3 sync` of a good part of a bucket to a laptop."""
    bucket = world.buckets["analytics"]
    cli = replace(who, agent=LAPTOP_CLI.format("s3.sync"))
    yield list_objects(rng, cli, at, bucket, prefix="sales/", found=160)
    chosen = rng.sample(bucket.objects, day.times(12, least=5, most=140))
    for place, (key, size) in enumerate(chosen):
        yield s3_object(rng, cli, at + 1 + place // 8, GET_OBJECT, bucket, key, size)


def sync_from_office(world: World, person: Person, at: int, rng: Random, day: Day) -> Iterator[Record]:
    """Somebody signs on at the office and copies a good part of a bucket to a laptop."""
    assert person.role is not None
    address = at_time(world.office, at)
    key, records = sign_on(world, person, at, address, rng)
    yield from records
    who = role_session(person.role, person.name, key, at, address, person.agent)
    yield from _sync(world, who, at + 4 * MINUTE, rng, day)


def _look_at_files(world: World, who: Caller, at: int, rng: Random) -> Iterator[Record]:
    cli = replace(who, agent=LAPTOP_CLI.format("s3.ls"))
    bucket = world.buckets["documents"]
    yield list_buckets(rng, cli, at)
    yield list_objects(rng, cli, at + 14, bucket, prefix="documents/", delimiter="/", found=200)
    key, size = rng.choice(bucket.objects)
    yield s3_object(
        rng, replace(who, agent=LAPTOP_CLI.format("s3.cp")), at + 40, GET_OBJECT, bucket, key, size
    )


def _audit(world: World, who: Caller, at: int, rng: Random) -> Iterator[Record]:
    """The auditor reads configuration, and lists (never reads) the cardholder bucket."""
    cli = replace(who, agent=LINUX_CLI.format("iam.get-account-authorization-details"))
    for place, name in enumerate(
        ("GetAccountAuthorizationDetails", "GenerateCredentialReport", "GetCredentialReport")
    ):
        yield call(rng, cli, at + 5 * place, Api("iam", name, version="1.10"), host="iam.amazonaws.com")
    bucket = world.buckets["cardholders"]
    yield list_buckets(rng, replace(cli, agent=LINUX_CLI.format("s3.ls")), at + 60)
    yield list_objects(
        rng, replace(cli, agent=LINUX_CLI.format("s3.ls")), at + 75, bucket, delimiter="/", found=4
    )
    key, size = bucket.objects[0]
    yield s3_object(
        rng,
        replace(cli, agent=LINUX_CLI.format("s3api.head-object")),
        at + 90,
        HEAD_OBJECT,
        bucket,
        key,
        size,
    )
    for name in ("GetBucketPolicy", "GetBucketLifecycle"):
        other = world.buckets[rng.choice(("documents", "media", "assets"))]
        error = {
            "GetBucketPolicy": ("NoSuchBucketPolicy", "The bucket policy does not exist"),
            "GetBucketLifecycle": (
                "NoSuchLifecycleConfiguration",
                "The lifecycle configuration does not exist",
            ),
        }[name]
        host = f"{other.name}.s3.{HOME_REGION}.amazonaws.com"
        yield call(
            rng,
            cli,
            at + 110,
            Api("s3", name),
            request={"bucketName": other.name, "Host": host},
            error=error,
            host=host,
        )


def developers(world: World, day: Day, rng: Random) -> Iterator[Record]:
    """IAM users of the sandbox account at their command lines; roles to look into the other accounts."""
    for person in world.developers:
        if not works(person, day, rng):
            continue
        way = way_out(rng, vpn=False)
        at = day.start + person.starts_at * HOUR + rng.randrange(90 * MINUTE)
        for _ in range(day.times(3, least=1, most=40)):
            at += rng.randint(5, 70) * MINUTE * 3 // max(3, day.times(3))
            address = address_of(world, person, way, at)
            fate = rng.random()
            if fate < 0.3:
                yield from _terraform(world, user(person, SANDBOX, address, TERRAFORM), at, rng)
            elif fate < 0.7:
                yield from _look_elsewhere(world, person, address, at, rng)
            else:
                bucket = world.buckets["scratch"]
                who = user(person, SANDBOX, address, LINUX_CLI.format("s3.cp"))
                yield list_objects(rng, who, at, bucket, prefix="tmp/", found=40)
                for key, size in rng.sample(bucket.objects, rng.randint(1, 4)):
                    yield s3_object(rng, who, at + 2, GET_OBJECT, bucket, key, size)


def _terraform(world: World, who: Caller, at: int, rng: Random) -> Iterator[Record]:
    """A plan in the sandbox, that runs into missing permissions and limits now and then."""
    yield call(rng, who, at, Api("sts", "GetCallerIdentity", version="1.08"))
    for place, name in enumerate(
        ("DescribeVpcs", "DescribeSubnets", "DescribeRouteTables", "DescribeImages")
    ):
        error = ("Client.RequestLimitExceeded", "Request limit exceeded.") if rng.random() < 0.05 else None
        api = Api("ec2", name, version="1.10")
        yield call(rng, who, at + 1 + place // 3, api, request={"filterSet": {}}, error=error)
    if rng.random() < 0.4:
        name = rng.choice(("ListPolicies", "GetRole", "ListAccountAliases"))
        arn = who.identity["arn"]
        message = (
            f"User: {arn} is not authorized to perform: iam:{name} because no identity-based policy allows it"
        )
        for retry in range(rng.randint(1, 3)):
            api = Api("iam", name, version="1.10")
            yield call(
                rng, who, at + 3 + retry, api, error=("AccessDenied", message), host="iam.amazonaws.com"
            )
    if rng.random() < 0.15:
        message = (
            "You are not authorized to perform this operation. Encoded authorization failure message: "
            + opaque(rng, 60)
        )
        yield call(
            rng,
            who,
            at + 6,
            Api("ec2", "RunInstances", read=False, version="1.10"),
            request={"instanceType": "t3.large", "instancesSet": {"items": [{"minCount": 1, "maxCount": 1}]}},
            error=("Client.UnauthorizedOperation", message),
        )


def _look_elsewhere(world: World, person: Person, address: str, at: int, rng: Random) -> Iterator[Record]:
    """The developers' read-only role in production or staging, taken from the sandbox account."""
    role = world.roles[rng.choice(("read-only", "read-only", "read-only-staging"))]
    base = user(person, SANDBOX, address, LINUX_CLI.format("sts.assume-role"))
    key, records = assume_role(rng, base, at, role, person.name)
    yield from records
    who = role_session(role, person.name, key, at, address, LINUX_CLI.format("logs.filter-log-events"))
    group = "/app/orders-api" if role.account != STAGING else "/app/orders-api-staging"
    for place in range(rng.randint(1, 4)):
        stream = Api("logs", "FilterLogEvents")
        yield call(rng, who, at + 5 + 8 * place, stream, request={"logGroupName": group, "limit": 100})
    yield call(
        rng,
        who,
        at + 50,
        Api("ecs", "DescribeServices"),
        request={"cluster": "shop", "services": [f"orders-{hex_id(rng, 4)}"]},
    )
