"""Build and deployment: a build server with a long-lived key, and hosted jobs that bring a token."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from ..record import (
    ASSUME_ROLE_WITH_TOKEN,
    GET_OBJECT,
    PUT_OBJECT,
    Api,
    Caller,
    Record,
    assume_role,
    call,
    list_objects,
    pipeline_user,
    role_session,
    s3_object,
    user,
)
from ..text import hex_id, opaque, uuid
from ..world import HOME_REGION, HOUR, PRODUCTION, Role, World, at_time
from .day import Day, spread

BUILD_SERVER = (
    "aws-cli/2.17.20 md/awscrt#0.21.2 ua/2.0 os/linux#6.1.0-28-amd64 md/arch#x86_64 lang/python#3.11.9 "
    "md/pyimpl#CPython cfg/retry-mode#standard md/installer#exe md/prompt#off md/command#{}"
)
HOSTED_JOB = (
    "aws-cli/2.22.7 md/awscrt#0.22.0 ua/2.0 os/linux#6.8.0-1017-azure md/arch#x86_64 lang/python#3.12.6 "
    "md/pyimpl#CPython exec-env/GitHubActions md/prompt#off md/command#{}"
)


def deployments(world: World, day: Day, rng: Random) -> Iterator[Record]:
    """The build server deploys to production, staging and the sandbox, each with a role there."""
    for at in spread(rng, day, day.times(4, most=60) if day.workday else 1):
        target = rng.choices(("deploy", "deploy-staging", "deploy-sandbox"), (5, 3, 2))[0]
        yield from _deploy(world, at, world.roles[target], rng)
        tried = world.changes["new_role"] + 2 * HOUR
        if target == "deploy" and at > tried:
            yield from _smoke_test(world, at + 200, rng)
    if world.day_of(world.changes["new_role"]) == day.number:
        # The role is tried out on the day it is made.
        yield from _smoke_test(world, world.changes["new_role"] + 3 * HOUR, rng)


def _server(world: World, at: int, command: str) -> Caller:
    return user(world.deployer, PRODUCTION, at_time(world.ci, at), BUILD_SERVER.format(command))


def _deploy(world: World, at: int, role: Role, rng: Random) -> Iterator[Record]:
    build = rng.randint(1000, 9999)
    yield call(
        rng,
        _server(world, at, "sts.get-caller-identity"),
        at,
        Api("sts", "GetCallerIdentity", version="1.08"),
    )
    session = f"deploy-{build}"
    key, records = assume_role(rng, _server(world, at, "sts.assume-role"), at + 2, role, session)
    yield from records

    def who(command: str, moment: int) -> Caller:
        address = at_time(world.ci, moment)
        return role_session(role, session, key, at + 2, address, BUILD_SERVER.format(command))

    artifacts = world.buckets["artifacts"]
    if role.account == PRODUCTION:
        name = f"builds/orders-{build}.zip"
        yield s3_object(rng, who("s3.cp", at), at + 6, PUT_OBJECT, artifacts, name, 18_400_000 + build)
    stack = f"arn:aws:cloudformation:{HOME_REGION}:{role.account}:stack/orders-api/{uuid(rng)}"
    change = f"deploy-{build}"
    for place, (name, read) in enumerate(
        (("CreateChangeSet", False), ("DescribeChangeSet", True), ("ExecuteChangeSet", False))
    ):
        yield call(
            rng,
            who("cloudformation.deploy", at),
            at + 9 + 6 * place,
            Api("cloudformation", name, read=read),
            request={"stackName": "orders-api", "changeSetName": change},
            response={"id": stack.replace("stack/", "changeSet/"), "stackId": stack} if place == 0 else None,
        )
    for place in range(rng.randint(1, 4)):
        error = ("Throttling", "Rate exceeded") if rng.random() < 0.06 else None
        moment = at + 30 + 15 * place
        api = Api("cloudformation", "DescribeStackEvents")
        yield call(
            rng, who("cloudformation.deploy", moment), moment, api, request={"stackName": stack}, error=error
        )
    yield from _forwarded(who("", at).through("cloudformation"), at + 34, rng)


def _forwarded(inside: Caller, at: int, rng: Random) -> Iterator[Record]:
    """What CloudFormation calls on behalf of the deployer."""
    yield call(
        rng,
        inside,
        at,
        Api("lambda", "UpdateFunctionCode20150331v2", read=False),
        request={"functionName": "thumbnailer", "publish": True, "dryRun": False},
        response={
            "functionName": "thumbnailer",
            "codeSha256": opaque(rng, 32),
            "version": str(rng.randint(20, 400)),
        },
    )
    yield call(rng, inside, at + 2, Api("ec2", "DescribeSubnets", version="1.10"), request={"filterSet": {}})
    yield call(
        rng,
        inside,
        at + 3,
        Api("ecs", "UpdateService", read=False),
        request={
            "cluster": "shop",
            "service": "orders-api",
            "taskDefinition": f"orders-api:{rng.randint(100, 900)}",
        },
    )
    if rng.random() < 0.3:
        yield call(
            rng,
            inside,
            at + 5,
            Api("iam", "GetRole", version="1.10"),
            request={"roleName": "orders-api-role"},
            host="iam.amazonaws.com",
        )


def _smoke_test(world: World, at: int, rng: Random) -> Iterator[Record]:
    """After a deployment the build server tries the invoice service's role."""
    role = world.roles["invoice"]
    key, records = assume_role(rng, _server(world, at, "sts.assume-role"), at, role, "smoke-test")
    yield from records
    who = role_session(
        role, "smoke-test", key, at, at_time(world.ci, at), BUILD_SERVER.format("s3api.list-objects-v2")
    )
    yield call(rng, who, at + 3, Api("sts", "GetCallerIdentity", version="1.08"))
    if at > world.changes["new_bucket"] + HOUR:
        yield list_objects(rng, who, at + 5, world.buckets["invoices"], prefix="2026/", found=5)


def hosted_jobs(world: World, day: Day, rng: Random) -> Iterator[Record]:
    """Jobs at a hosting company: a new address nearly every time, a token instead of a key."""
    role, bucket = world.roles["github"], world.buckets["artifacts"]
    for at in spread(rng, day, day.times(4, most=60) if day.workday else 1):
        address = rng.choice(world.runner_addresses)
        branch = rng.choice(
            ("refs/heads/main", "refs/heads/main", "pull_request", "refs/heads/release-2026.11")
        )
        subject = (
            f"repo:example/shop:{branch}" if branch == "pull_request" else f"repo:example/shop:ref:{branch}"
        )
        job = pipeline_user(
            PRODUCTION, subject, address, HOSTED_JOB.format("sts.assume-role-with-web-identity")
        )
        key, records = assume_role(
            rng, job, at, role, "GitHubActions", request={"durationSeconds": 3600}, api=ASSUME_ROLE_WITH_TOKEN
        )
        yield from records
        who = role_session(role, "GitHubActions", key, at, address, HOSTED_JOB.format("s3.cp"))
        yield call(rng, who, at + 4, Api("ecr", "GetAuthorizationToken"))
        for object_key, size in rng.sample(bucket.objects, rng.randint(1, 3)):
            yield s3_object(rng, who, at + 9, GET_OBJECT, bucket, object_key, size)
        name = f"builds/shop-{hex_id(rng, 10)}.zip"
        yield s3_object(rng, who, at + 240, PUT_OBJECT, bucket, name, rng.randint(2, 40) * 1_048_576)
