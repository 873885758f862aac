"""What changes over the weeks: the marks it leaves on its day, and the list of look-alikes for the truth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random

from ..record import (
    GET_OBJECT,
    PUT_OBJECT,
    Api,
    Caller,
    Json,
    Record,
    anonymous,
    assume_role,
    call,
    console_login,
    console_user,
    instance_session,
    list_buckets,
    list_objects,
    role_session,
    s3_object,
    user,
)
from ..text import hex_id, identifier, iso, long_time
from ..world import HOME_REGION, MINUTE, PRODUCTION, SANDBOX, SECURITY, WAF, LookAlike, Person, World, at_time
from .applications import NODE
from .day import Day, spread
from .people import LAPTOP_CLI, LINUX_CLI

HIRE = "grace.mbeki"
SERVER_CLI = (
    "aws-cli/2.15.30 Python/3.9.16 Linux/6.1.134-150.224.amzn2023.x86_64 source/x86_64.amzn.2023 "
    "prompt/off command/{}"
)


def _at_console(world: World, person: Person, at: int, rng: Random) -> tuple[Caller, Record]:
    """An administrator signs in to the console five minutes before `at`."""
    address = at_time(world.office, at - 5 * MINUTE)
    login = console_login(rng, person, PRODUCTION, at - 5 * MINUTE, address)
    key = identifier(rng, "ASIA", 16)
    return console_user(person, PRODUCTION, at_time(world.office, at), key, at - 5 * MINUTE), login


def _iam(rng: Random, who: Caller, at: int, name: str, request: Json, response: Json | None = None) -> Record:
    api = Api("iam", name, read=False, version="1.10")
    return call(rng, who, at, api, request=request, response=response, host="iam.amazonaws.com")


def _ec2(
    rng: Random,
    who: Caller,
    at: int,
    name: str,
    request: Json,
    response: Json | None = None,
    *,
    region: str = HOME_REGION,
) -> Record:
    api = Api("ec2", name, read=False, version="1.10")
    return call(rng, who, at, api, region=region, request=request, response=response)


def new_hire(world: World, day: Day, rng: Random) -> Iterator[Record]:
    """A new colleague: a user in single sign-on, and an IAM user with a key in the sandbox."""
    at = world.changes["new_hire"] - 40 * MINUTE
    if not day.holds(at):
        return
    admin = world.admins[0]
    address = at_time(world.office, at)
    base = user(admin, PRODUCTION, address, LAPTOP_CLI.format("sts.assume-role"))
    role = world.roles["org-admin"]
    key, records = assume_role(rng, base, at, role, admin.name)
    yield from records
    who = role_session(role, admin.name, key, at, address, LAPTOP_CLI.format("iam.create-user"), mfa=True)
    person = next(person for person in world.developers if person.name == HIRE)
    made: Json = {
        "user": {
            "path": "/",
            "userName": HIRE,
            "userId": person.user_id,
            "arn": f"arn:aws:iam::{SANDBOX}:user/{HIRE}",
            "createDate": long_time(at + 8),
        }
    }
    yield _iam(rng, who, at + 8, "CreateUser", {"userName": HIRE}, made)
    yield _iam(rng, who, at + 15, "AddUserToGroup", {"groupName": "developers", "userName": HIRE})
    access: Json = {
        "accessKey": {
            "userName": HIRE,
            "accessKeyId": person.access_key,
            "status": "Active",
            "createDate": long_time(at + 22),
        }
    }
    yield _iam(rng, who, at + 22, "CreateAccessKey", {"userName": HIRE}, access)
    portal = replace(who, account=SECURITY)
    yield call(
        rng,
        portal,
        at + 130,
        Api("sso-directory", "CreateUser", read=False, version="1.08"),
        request={"identityStoreId": "d-9067a1b2c3", "userName": f"{HIRE}@example.com", "active": True},
        response={"user": {"userId": person.user_id.lower()}},
    )


def new_role(world: World, day: Day, rng: Random) -> Iterator[Record]:
    """A role with a modest policy, its instance profile and the instance that uses it."""
    at = world.changes["new_role"]
    if not day.holds(at):
        return
    who, login = _at_console(world, world.admins[0], at, rng)
    yield login
    role, instance = world.roles["invoice"], world.instances["invoice"]
    trust = (
        '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com",'
        f'"AWS":"arn:aws:iam::{PRODUCTION}:user/{world.deployer.name}"}},"Action":"sts:AssumeRole"}}]}}'
    )
    request: Json = {"path": "/", "roleName": role.name, "assumeRolePolicyDocument": trust}
    response: Json = {
        "role": {
            "path": "/",
            "roleName": role.name,
            "roleId": role.id,
            "arn": role.arn,
            "createDate": long_time(at),
        }
    }
    yield _iam(rng, who, at, "CreateRole", request, response)
    for place, policy in enumerate(
        (
            "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore",
            f"arn:aws:iam::{PRODUCTION}:policy/invoice-service",
        )
    ):
        yield _iam(rng, who, at + 9 + place, "AttachRolePolicy", {"roleName": role.name, "policyArn": policy})
    profile: Json = {"instanceProfileName": role.name}
    yield _iam(rng, who, at + 20, "CreateInstanceProfile", {**profile, "path": "/"})
    yield _iam(rng, who, at + 21, "AddRoleToInstanceProfile", {**profile, "roleName": role.name})
    yield _ec2(
        rng,
        who,
        instance.born - 14,
        "RunInstances",
        {
            "instancesSet": {"items": [{"imageId": "ami-0" + hex_id(rng, 16), "minCount": 1, "maxCount": 1}]},
            "instanceType": "t3.small",
            "iamInstanceProfile": {"name": role.name},
        },
        {
            "instancesSet": {
                "items": [
                    {
                        "instanceId": instance.id,
                        "privateIpAddress": instance.private,
                        "instanceType": "t3.small",
                    }
                ]
            }
        },
    )
    address = instance.address(instance.born)
    yield from _give_address(rng, who, instance.born - 4, instance.id, address)


def _give_address(
    rng: Random, who: Caller, at: int, instance: str, address: str, *, region: str = HOME_REGION
) -> Iterator[Record]:
    allocation = "eipalloc-0" + hex_id(rng, 16)
    made: Json = {"publicIp": address, "domain": "vpc", "allocationId": allocation}
    yield _ec2(rng, who, at, "AllocateAddress", {"domain": "vpc"}, made, region=region)
    given: Json = {"allocationId": allocation, "instanceId": instance, "allowReassociation": True}
    yield _ec2(rng, who, at + 2, "AssociateAddress", given, {"_return": True}, region=region)


def address_change(world: World, day: Day, rng: Random) -> Iterator[Record]:
    """The NAT gateway is replaced; office and build server get new addresses on the same day."""
    at = world.changes["address_change"]
    if day.holds(at):
        yield from gateway_replaced(world, at + 21 * MINUTE, rng)


def gateway_replaced(world: World, at: int, rng: Random) -> Iterator[Record]:
    """An administrator makes a NAT gateway with a new address; from `at` on the traffic goes through it."""
    who, login = _at_console(world, world.admins[1], at - 13 * MINUTE, rng)
    yield login
    moment = at - 9 * MINUTE
    new = world.instances["orders-1"].address(at)
    allocation, gateway = "eipalloc-0" + hex_id(rng, 16), "nat-0" + hex_id(rng, 16)
    yield _ec2(
        rng,
        who,
        moment,
        "AllocateAddress",
        {"domain": "vpc"},
        {"publicIp": new, "domain": "vpc", "allocationId": allocation},
    )
    yield _ec2(
        rng,
        who,
        moment + 40,
        "CreateNatGateway",
        {"CreateNatGatewayRequest": {"AllocationId": allocation, "SubnetId": "subnet-0" + hex_id(rng, 16)}},
        {"CreateNatGatewayResponse": {"natGateway": {"natGatewayId": gateway, "state": "pending"}}},
    )
    yield _ec2(
        rng,
        who,
        at,
        "ReplaceRoute",
        {
            "routeTableId": "rtb-0" + hex_id(rng, 16),
            "destinationCidrBlock": "0.0.0.0/0",
            "natGatewayId": gateway,
        },
        {"_return": True},
    )


def new_bucket(world: World, day: Day, rng: Random) -> Iterator[Record]:
    """A bucket is made; the invoice service fills it, the web servers and the backup read it."""
    at = world.changes["new_bucket"]
    if not day.holds(at):
        return
    who, login = _at_console(world, world.admins[0], at, rng)
    yield login
    bucket = world.buckets["invoices"]
    host = f"{bucket.name}.s3.amazonaws.com"
    for place, name in enumerate(("CreateBucket", "PutBucketEncryption", "PutBucketPublicAccessBlock")):
        yield call(
            rng,
            who,
            at + 2 * place,
            Api("s3", name, read=False),
            request={"bucketName": bucket.name, "Host": host},
            resources=[{"accountId": PRODUCTION, "type": "AWS::S3::Bucket", "ARN": bucket.arn}],
            host=host,
        )


def stop_and_start(world: World, day: Day, rng: Random) -> Iterator[Record]:
    """An instance is stopped and started: the same instance, a new public address, new credentials."""
    instance = world.instances["erp"]
    for stop, start in instance.off:
        if not day.holds(stop):
            continue
        who, login = _at_console(world, world.admins[1], stop, rng)
        yield login
        request: Json = {"instancesSet": {"items": [{"instanceId": instance.id}]}}
        for name, at, before, after in (
            ("StopInstances", stop - 3, "running", "stopping"),
            ("StartInstances", start, "stopped", "pending"),
        ):
            change: Json = {
                "instanceId": instance.id,
                "currentState": {"name": after},
                "previousState": {"name": before},
            }
            extra: Json = {"force": False} if name == "StopInstances" else {}
            yield _ec2(rng, who, at, name, {**request, **extra}, {"instancesSet": {"items": [change]}})


def elastic_address_change(world: World, day: Day, rng: Random) -> Iterator[Record]:
    """A running instance gets another elastic address, amid a session and with the same credentials."""
    at, instance = world.changes["elastic_address_change"], world.instances["catalog-2"]
    if day.holds(at):
        who, login = _at_console(world, world.admins[1], at, rng)
        yield login
        address = instance.address(world.end)
        yield from _give_address(rng, who, at - 3, instance.id, address, region=instance.region)


def operator_on_instance(world: World, day: Day, rng: Random) -> Iterator[Record]:
    """Somebody logged in to a server tries the command line there: new calls, own address."""
    for name, server in (("operator_on_instance", "orders-1"), ("operator_on_stolen", WAF)):
        at, instance = world.changes[name], world.instances[server]
        if not day.holds(at):
            continue
        caller, listing = (
            instance_session(instance, at, SERVER_CLI.format(command), key=instance.issue(at).agent_key)
            for command in ("sts.get-caller-identity", "s3.ls")
        )
        yield call(rng, caller, at, Api("sts", "GetCallerIdentity"))
        yield list_buckets(rng, listing, at + 21)
        bucket = world.buckets["documents" if server == "orders-1" else "waf-config"]
        yield list_objects(rng, listing, at + 48, bucket, delimiter="/", found=3)


def rare_role(world: World, day: Day, rng: Random) -> Iterator[Record]:
    """An administrator takes a role that nobody took for four weeks."""
    for name in ("rare_role_before", "rare_role"):
        at = world.changes[name]
        if not day.holds(at):
            continue
        admin, role = world.admins[1], world.roles["incident-response"]
        address = at_time(world.office, at)
        base = user(admin, PRODUCTION, address, LINUX_CLI.format("sts.assume-role"))
        key, records = assume_role(rng, base, at, role, admin.name)
        yield from records
        who = role_session(role, admin.name, key, at, address, LINUX_CLI.format("cloudtrail.lookup-events"))
        for place in range(3):
            yield call(
                rng, who, at + 20 + 15 * place, Api("cloudtrail", "LookupEvents"), request={"maxResults": 50}
            )


def power_policy(world: World, day: Day, rng: Random) -> Iterator[Record]:
    """A strong policy for a role that no instance uses."""
    at = world.changes["power_policy"]
    if day.holds(at):
        who, login = _at_console(world, world.admins[0], at, rng)
        yield login
        request: Json = {
            "roleName": world.roles["github"].name,
            "policyArn": "arn:aws:iam::aws:policy/PowerUserAccess",
        }
        yield _iam(rng, who, at, "AttachRolePolicy", request)


def modest_policy(world: World, day: Day, rng: Random) -> Iterator[Record]:
    """A modest policy for a role that instances use."""
    at = world.changes["modest_policy"]
    if day.holds(at):
        who, login = _at_console(world, world.admins[0], at, rng)
        yield login
        request: Json = {
            "roleName": world.roles["orders"].name,
            "policyArn": "arn:aws:iam::aws:policy/CloudWatchAgentServerPolicy",
        }
        yield _iam(rng, who, at, "AttachRolePolicy", request)


def hostile_values(world: World, day: Day, rng: Random) -> Iterator[Record]:
    """Text from strangers that tries its luck with whoever reads the log."""
    escape = "\x1b]0;owned\x07\x1b[2J\x1b[31mcurl/7.88.1"
    tag = '<script>alert("log")</script><img src=x onerror=alert(1)>'
    if day.number % 13 in (6, 9):
        agent = escape if day.number % 13 == 6 else tag
        bucket = world.buckets["assets"]
        who = anonymous(bucket.account, f"203.0.113.{rng.randint(2, 60)}", agent)
        denied = ("AccessDenied", "Access Denied")
        yield s3_object(
            rng, who, spread(rng, day, 1)[0], GET_OBJECT, bucket, "../../etc/passwd", 0, error=denied
        )
    if day.number % 17 == 11:
        instance, bucket = world.instances["media"], world.buckets["media"]
        at = spread(rng, day, 1)[0]
        who = replace(
            instance_session(instance, at, NODE), address=instance.private, endpoint=instance.endpoint
        )
        for name in (f"uploads/{tag}.jpg", "uploads/=cmd|'/C calc'!A0.csv"):
            yield s3_object(rng, who, at, PUT_OBJECT, bucket, name, 2_048)


def look_alikes(world: World) -> tuple[LookAlike, ...]:
    """Everything benign that a rule may take for an attack, with its day."""

    def entry(name: str, story: str, change: str = "", **about: object) -> LookAlike:
        at = world.changes[change or name]
        return LookAlike(name, world.day_of(at), story, {"time": iso(at), **about})

    def always(name: str, story: str, **about: object) -> LookAlike:
        return LookAlike(name, 1, story, {"time": iso(world.start), "recurs": True, **about})

    backup, waf, media = (world.instances[name] for name in ("backup", "waf", "media"))
    erp, invoice, nat = (world.instances[name] for name in ("erp", "invoice", "orders-1"))
    catalog, moved = world.instances["catalog-2"], world.analysts[1]
    listed = [
        always(
            "nightly_backup",
            "reads a whole bucket every night, more than the attack, and writes to another account",
            instance=backup.id,
            role=backup.role.name,
            address=backup.address(world.start),
            bucket=world.buckets["documents"].name,
        ),
        always(
            "stolen_role_at_home",
            "the role, session and key that get stolen read configuration from the instance's own address",
            instance=waf.id,
            role=waf.role.name,
            address=waf.address(world.start),
            bucket=world.buckets["waf-config"].name,
        ),
        always(
            "vpc_endpoint",
            "one instance reads S3 through an endpoint (private address), the rest through a NAT gateway",
            instance=media.id,
            private_address=media.private,
            endpoint=media.endpoint,
        ),
        always(
            "several_keys_at_once",
            "EC2 hands an instance up to three keys with one request id; agent and application differ in key",
        ),
        always(
            "analyst_sync",
            "analysts copy part of a bucket to their laptop with aws s3 sync, at the office or at home",
            bucket=world.buckets["analytics"].name,
            people=[person.name for person in world.analysts if "DataAnalyst" in str(person.role)],
        ),
        always(
            "hosted_jobs",
            "build jobs with a web identity token read artifacts from ever new addresses",
            addresses=list(world.runner_addresses),
            role=world.roles["github"].name,
        ),
        always(
            "function_addresses",
            "a function outside any VPC reads a bucket from changing and ever new addresses",
            addresses=list(world.lambda_addresses),
            role=world.roles["thumbnail"].name,
        ),
        always("strangers", "anonymous requests from the internet, all denied"),
        always(
            "denied_and_throttled",
            "missing permissions and limits stop developers, a monitor, a pipeline",
        ),
        entry(
            "new_hire",
            "a new colleague with a new IAM user and single sign-on user, from the office and from home",
            people=[HIRE, f"{HIRE}@example.com"],
            home_address=world.analysts[-1].home[0][1],
        ),
        entry(
            "new_role",
            "a role is made with modest policies, used by a new instance, and taken by the build server",
            role=invoice.role.name,
            instance=invoice.id,
            address=invoice.address(world.end),
            caller=world.deployer.name,
        ),
        entry(
            "address_change",
            "office, build server and the NAT gateway of two applications get new addresses, amid sessions",
            office=[address for _, address in world.office],
            build_server=[address for _, address in world.ci],
            nat=[nat.public[0][1], nat.public[1][1]],
            instances=[world.instances[name].id for name in ("orders-1", "orders-2", "orders-3", "media")],
        ),
        entry(
            "power_policy",
            "a strong policy is attached to a role that no instance uses",
            role=world.roles["github"].name,
        ),
        entry(
            "modest_policy",
            "a modest policy is attached to a role that instances use",
            role=world.roles["orders"].name,
        ),
        entry(
            "home_address_change",
            "an analyst's provider gives a new home address",
            person=moved.name,
            addresses=[address for _, address in moved.home],
        ),
        entry(
            "new_bucket",
            "a bucket is made, filled by one application, read by another and by the backup",
            bucket=world.buckets["invoices"].name,
        ),
        entry(
            "stop_and_start",
            "an instance is stopped and started: same instance id, new public address, new credentials",
            instance=erp.id,
            role=erp.role.name,
            addresses=[address for _, address in erp.public],
        ),
        entry(
            "back_from_vacation",
            "the auditor is back after 17 days, with the same role and addresses",
            person=world.analysts[2].name,
        ),
        entry(
            "elastic_address_change",
            "a running instance gets another elastic address, amid a session and with the same credentials",
            instance=catalog.id,
            role=catalog.role.name,
            addresses=[address for _, address in catalog.public],
        ),
        entry(
            "nat_failover",
            "the NAT gateway of two applications fails over to another address and back within hours",
            addresses=[nat.public[1][1], nat.public[2][1]],
        ),
        entry(
            "operator_on_instance",
            "an operator on a server uses aws-cli with the instance's role: new calls from the own address",
            instance=nat.id,
        ),
        entry(
            "operator_on_instance",
            "an operator on the web server lists buckets with the role that gets stolen, own address",
            "operator_on_stolen",
            instance=waf.id,
        ),
        entry(
            "rare_role",
            "an administrator takes a role not taken for four weeks",
            person=world.admins[1].name,
            role=world.roles["incident-response"].name,
        ),
    ]
    for member in world.fleet:
        if member.born >= world.start:
            about: Json = {
                "time": iso(member.born),
                "instance": member.id,
                "role": member.role.name,
                "address": member.address(member.born),
            }
            story = "a new member of the autoscaling group: known role, new instance, new address"
            listed.append(LookAlike("fleet_launch", world.day_of(member.born), story, about))
    return tuple(sorted(listed, key=lambda one: (one.day, one.name)))
