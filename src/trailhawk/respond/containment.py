"""Containment in AWS: a small closed set of actions, each of which can be planned, checked and taken back.

An action reads what is now, says which calls change it and which calls put it back, and checks what came of
it. What it acts on is a name of one kind (a role, a key, a bucket, an instance, a user) that must look like
one, and must belong to the account that our credentials are of: text of the logs becomes nothing else. An
instance is acted on in the region where AWS says that it is.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from trailhawk.detect.entities import (
    AWS_ACCESS_KEY,
    AWS_BUCKET,
    AWS_INSTANCE,
    AWS_PRINCIPAL,
    AWS_SESSION,
    Entity,
)
from trailhawk.errors import UsageError
from trailhawk.respond.cloud import ARN, Call, Cloud, ContainmentError, ForeignError, name_in

if TYPE_CHECKING:
    from trailhawk.connectors.config import Access
    from trailhawk.settings import Section

REVOKED: Final = "AWSRevokeOlderSessions"
"""The name that AWS's console gives to the policy of its button "Revoke active sessions"."""
DENIED: Final = "TrailhawkDenyAll"
MOST_TARGETS: Final = 20
"""Roles, keys, buckets or instances that one step acts on; with more, it refuses."""

MOST_REGIONS: Final = 20
"""Regions in which AWS is asked for one thing, the likeliest first."""
_PATIENCE_SECONDS: Final = (0.5, 1.0, 2.0, 4.0)

State = Mapping[str, Any]
"""What AWS says of a thing, as far as an action changes it; what JSON can hold."""

_BLOCKS = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")


@dataclass(frozen=True, slots=True)
class Target:
    """What an action acts on. `account` is empty where the logs do not tell whose it is, `region` where they
    do not tell where, or where that is nothing to the action."""

    name: str
    account: str = ""
    region: str = ""

    def __str__(self) -> str:
        where = ", ".join(each for each in (self.account, self.region) if each)
        return f"{self.name} in {where}" if where else self.name


@dataclass(frozen=True, slots=True)
class Place:
    """Where the logs name a thing; `account` is empty where they do not tell."""

    account: str
    region: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What an action would do to a target: how it stands, the calls, and the calls that put it back.

    Without calls there is nothing to do: it stands as the action would have it.
    """

    action: str
    target: Target
    before: State
    calls: tuple[Call, ...]
    undo: tuple[Call, ...]


@dataclass(frozen=True, slots=True)
class Done:
    """An action that was taken: how its target stood before and after, and the calls that put it back.

    `after` is None where it did not come to its end, and nobody knows which of its calls were made.
    """

    action: str
    target: Target
    before: State
    after: State | None
    undo: tuple[Call, ...]


def _of_this_machine() -> Access:
    from trailhawk.connectors.config import Access

    return Access()


_HOUR: Final = timedelta(hours=1)
APPROVAL: Final = 24 * _HOUR
"""How long a plan may wait for approval: whose key it was yesterday it need not be today."""


@dataclass(frozen=True, slots=True)
class ResponseSettings:
    """`[respond.aws]`: who we are to AWS when we change something there, what needs no approval, and how long
    a plan may wait for it."""

    access: Access = field(default_factory=_of_this_machine)
    allow_without_approval: frozenset[str] = frozenset()
    isolation_security_groups: tuple[str, ...] = ()
    approval: timedelta = APPROVAL

    @classmethod
    def read(cls, section: Section) -> ResponseSettings:
        """SettingsError for what cannot be meant."""
        allowed = section.texts("allow_without_approval")
        for name in allowed:
            if name not in ACTIONS:
                raise section.wrong(
                    "allow_without_approval", f"has '{name}'", hint=f"there is {', '.join(ACTIONS)}"
                )
        groups = section.texts("isolation_security_groups")
        for group in groups:
            if not re.fullmatch(r"sg-[0-9a-f]{8,17}", group):
                raise section.wrong("isolation_security_groups", f"has '{group}'", hint="write sg-...")
        from trailhawk.connectors.config import Access

        hours = section.number("approval_hours", APPROVAL // _HOUR, least=1, most=8_760)
        read = cls(Access.read(section), frozenset(allowed), groups, hours * _HOUR)
        section.end()
        return read


# --- the actions -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Setting:
    """What an action may need beside its target."""

    now: datetime
    groups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Action:
    """One way to contain. `rights` are IAM actions with the resources they are needed for."""

    name: str
    about: str
    of: str
    """What its targets are, for people."""
    found_in: Callable[[Entity], Target | None]
    looks_like: re.Pattern[str]
    read: Callable[[Cloud, str], State]
    calls: Callable[[Cloud, str, State, _Setting], tuple[Call, ...]]
    undo: Callable[[str, State], tuple[Call, ...]]
    holds: Callable[[State, tuple[Call, ...]], bool]
    """Whether what was read is as the calls would have it."""
    rights: tuple[tuple[tuple[str, ...], str], ...]
    finds: Callable[[Cloud, str], object] | None = None
    """Of what stands in one region alone: asks AWS for it there. ContainmentError where it is not."""


def _arn_of(each: Entity, kinds: Sequence[str]) -> Target | None:
    if each.type not in (AWS_PRINCIPAL, AWS_SESSION):
        return None
    for _, text in each.identifiers:
        if (found := ARN.fullmatch(text)) and found[2] in kinds:
            return Target(name_in(found), found[1])
    return None


def _role_of(each: Entity) -> Target | None:
    return _arn_of(each, ("role", "assumed-role"))


def _user_of(each: Entity) -> Target | None:
    return _arn_of(each, ("user",))


def _key_of(each: Entity) -> Target | None:
    return Target(each.value) if each.type == AWS_ACCESS_KEY and each.value.startswith("AKIA") else None


def _bucket_of(each: Entity) -> Target | None:
    return Target(each.value) if each.type == AWS_BUCKET else None


def _instance_of(each: Entity) -> Target | None:
    if each.type != AWS_INSTANCE:
        return None
    found = _INSTANCE_ARN.fullmatch(each.value)
    return Target(found[3], found[2], found[1]) if found else Target(each.value.rsplit("/", 1)[-1])


def _revocation(moment: datetime) -> dict[str, Any]:
    # IAM takes whole seconds here: what was issued within this one is to end, too.
    whole = moment.astimezone(UTC) + timedelta(microseconds=-moment.microsecond % 1_000_000)
    text = whole.strftime("%Y-%m-%dT%H:%M:%SZ")
    return _policy(
        {
            "Effect": "Deny",
            "Action": ["*"],
            "Resource": ["*"],
            "Condition": {"DateLessThan": {"aws:TokenIssueTime": text}},
        }
    )


def _policy(*statements: Mapping[str, Any]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def _read_role(cloud: Cloud, role: str) -> State:
    arn = str(cloud.ask("iam", "get_role", RoleName=role)["Role"]["Arn"])
    if "/aws-service-role/" in arn:
        raise ContainmentError(f"role {role} is linked to a service: only the service can change it")
    if "/aws-reserved/sso.amazonaws.com/" in arn:
        raise ContainmentError(
            f"role {role} is of IAM Identity Center, and changed there alone",
            hint="deny the person by identitystore:userId in a service control policy; end the session there",
        )
    found = cloud.ask_or_none("NoSuchEntity", "iam", "get_role_policy", RoleName=role, PolicyName=REVOKED)
    return {"document": found["PolicyDocument"] if found else None}


def _put_role(role: str, document: State) -> Call:
    parameters = {"RoleName": role, "PolicyName": REVOKED, "PolicyDocument": json.dumps(document)}
    return Call("iam", "put_role_policy", parameters)


def _undo_role(role: str, before: State) -> tuple[Call, ...]:
    if before["document"] is not None:
        return (_put_role(role, before["document"]),)
    return (Call("iam", "delete_role_policy", {"RoleName": role, "PolicyName": REVOKED}),)


def _read_user(cloud: Cloud, user: str) -> State:
    found = cloud.ask_or_none("NoSuchEntity", "iam", "get_user_policy", UserName=user, PolicyName=DENIED)
    if found is None:
        cloud.ask("iam", "get_user", UserName=user)  # no such user is an error, no such policy is none
    return {"document": found["PolicyDocument"] if found else None}


_DENY_ALL: Final = _policy({"Effect": "Deny", "Action": ["*"], "Resource": ["*"]})


def _put_user(user: str, document: State) -> Call:
    parameters = {"UserName": user, "PolicyName": DENIED, "PolicyDocument": json.dumps(document)}
    return Call("iam", "put_user_policy", parameters)


def _undo_user(user: str, before: State) -> tuple[Call, ...]:
    if before["document"] is not None:
        return (_put_user(user, before["document"]),)
    return (Call("iam", "delete_user_policy", {"UserName": user, "PolicyName": DENIED}),)


def _read_key(cloud: Cloud, key: str) -> State:
    user = str(cloud.ask("iam", "get_access_key_last_used", AccessKeyId=key).get("UserName") or "")
    if not user:
        raise ContainmentError(
            f"key {key} belongs to no user of this account: root's are deleted by root alone"
        )
    marker: dict[str, str] = {}
    while True:
        page = cloud.ask("iam", "list_access_keys", UserName=user, **marker)
        for each in page["AccessKeyMetadata"]:
            if each["AccessKeyId"] == key:
                return {"user": user, "status": each["Status"]}
        if not page.get("IsTruncated"):
            raise ContainmentError(f"key {key} is not among the keys of user {user}")
        marker = {"Marker": page["Marker"]}


def _set_key(key: str, user: str, status: str) -> tuple[Call, ...]:
    parameters = {"UserName": user, "AccessKeyId": key, "Status": status}
    return (Call("iam", "update_access_key", parameters),)


def _read_bucket(cloud: Cloud, bucket: str) -> State:
    found = cloud.ask_or_none(
        "NoSuchPublicAccessBlockConfiguration",
        "s3",
        "get_public_access_block",
        Bucket=bucket,
        ExpectedBucketOwner=cloud.account,
    )
    block = found["PublicAccessBlockConfiguration"] if found else None
    return {
        "block": {name: bool(block.get(name)) for name in _BLOCKS} if block is not None else None,
        "owner": cloud.account,
    }


def _set_bucket(bucket: str, owner: str, block: State | None) -> tuple[Call, ...]:
    which = {"Bucket": bucket, "ExpectedBucketOwner": owner}
    if block is None:
        return (Call("s3", "delete_public_access_block", which),)
    return (Call("s3", "put_public_access_block", {**which, "PublicAccessBlockConfiguration": dict(block)}),)


def _instance(cloud: Cloud, instance: str) -> Mapping[str, Any]:
    found = cloud.ask("ec2", "describe_instances", InstanceIds=[instance])
    for reservation in found["Reservations"]:
        for each in reservation["Instances"]:
            if each["InstanceId"] == instance:
                owner = str(reservation.get("OwnerId") or cloud.account)
                if owner != cloud.account:
                    raise _foreign(instance, owner, cloud.account)
                described: Mapping[str, Any] = each
                return described
    raise ContainmentError(f"there is no instance {instance}")


def _read_metadata(cloud: Cloud, instance: str) -> State:
    options = _instance(cloud, instance)["MetadataOptions"]
    return {name: options[name] for name in ("HttpTokens", "HttpPutResponseHopLimit", "HttpEndpoint")}


def _set_metadata(instance: str, options: State) -> tuple[Call, ...]:
    return (Call("ec2", "modify_instance_metadata_options", {"InstanceId": instance, **options}),)


def _read_groups(cloud: Cloud, instance: str) -> State:
    found = _instance(cloud, instance)
    return {
        "vpc": found.get("VpcId", ""),
        "interfaces": {
            each["NetworkInterfaceId"]: sorted(group["GroupId"] for group in each["Groups"])
            for each in found["NetworkInterfaces"]
        },
    }


def _isolate(cloud: Cloud, instance: str, before: State, setting: _Setting) -> tuple[Call, ...]:
    if not setting.groups:
        raise ContainmentError(
            "no security group to isolate with",
            hint="name one without rules in [respond.aws] isolation_security_groups",
        )
    # By a filter: asked for by id, one group of another region makes it an error.
    wanted = [{"Name": "group-id", "Values": list(setting.groups)}]
    known = cloud.ask("ec2", "describe_security_groups", Filters=wanted)["SecurityGroups"]
    own = [each for each in known if each.get("VpcId") == before["vpc"]]
    if not own:
        raise ContainmentError(
            f"none of the isolation security groups is in {before['vpc']}, where {instance} is",
            hint="add one of that VPC to [respond.aws] isolation_security_groups",
        )
    fit = [str(each["GroupId"]) for each in own if not _is_open(each)]
    if not fit:
        raise ContainmentError(
            f"security group {own[0]['GroupId']} is open to all addresses: it isolates nothing",
            hint="take away its rules; a new group has one that lets everything out",
        )
    return tuple(
        _set_groups(interface, fit[:1])
        for interface, groups in before["interfaces"].items()
        if groups != fit[:1]
    )


def _is_open(group: Mapping[str, Any]) -> bool:
    """Whether a security group lets anything in from everywhere, or out to everywhere."""
    rules = [*group.get("IpPermissions", ()), *group.get("IpPermissionsEgress", ())]
    ranges = [
        *(each.get("CidrIp") for rule in rules for each in rule.get("IpRanges", ())),
        *(each.get("CidrIpv6") for rule in rules for each in rule.get("Ipv6Ranges", ())),
    ]
    return any(str(each).endswith("/0") for each in ranges)


def _set_groups(interface: str, groups: Sequence[str]) -> Call:
    parameters = {"NetworkInterfaceId": interface, "Groups": list(groups)}
    return Call("ec2", "modify_network_interface_attribute", parameters)


_NAME = re.compile(r"[\w+=,.@-]{1,128}", re.ASCII)
_INSTANCE_ID = re.compile(r"i-[0-9a-f]{8,17}")
_INSTANCE_ARN = re.compile(r"arn:aws[a-z-]*:ec2:([a-z0-9-]+):(\d{12}):instance/(i-[0-9a-f]{8,17})")
_ANY_ROLE, _ANY_USER = "arn:aws:iam::*:role/*", "arn:aws:iam::*:user/*"
_ANY_INSTANCE, _ANY_INTERFACE = "arn:aws:ec2:*:*:instance/*", "arn:aws:ec2:*:*:network-interface/*"
_ANY_GROUP = "arn:aws:ec2:*:*:security-group/*"

_ALL: Final = (
    Action(
        "revoke-role-sessions",
        "Denies what was issued for the role before now; its rightful users get new sessions by themselves.",
        "roles",
        _role_of,
        re.compile(r"[\w+=,.@-]{1,64}", re.ASCII),
        _read_role,
        lambda _cloud, role, _before, setting: (_put_role(role, _revocation(setting.now)),),
        _undo_role,
        lambda state, calls: all(
            state["document"] == json.loads(call.parameters["PolicyDocument"]) for call in calls
        ),
        ((("iam:GetRole", "iam:GetRolePolicy", "iam:PutRolePolicy", "iam:DeleteRolePolicy"), _ANY_ROLE),),
    ),
    Action(
        "deactivate-access-key",
        "Turns a long-term access key off.",
        "access keys (AKIA...)",
        _key_of,
        re.compile(r"AKIA[A-Z0-9]{12,124}"),
        _read_key,
        lambda _cloud, key, before, _setting: (
            _set_key(key, before["user"], "Inactive") if before["status"] != "Inactive" else ()
        ),
        lambda key, before: _set_key(key, before["user"], before["status"]),
        lambda state, _calls: state["status"] == "Inactive",
        (
            (("iam:GetAccessKeyLastUsed",), "*"),
            (("iam:ListAccessKeys", "iam:UpdateAccessKey"), _ANY_USER),
        ),
    ),
    Action(
        "deny-user",
        "Denies a user everything, whatever its keys and however it signs in.",
        "users",
        _user_of,
        _NAME,
        _read_user,
        lambda _cloud, user, before, _setting: (
            (_put_user(user, _DENY_ALL),) if before["document"] != _DENY_ALL else ()
        ),
        _undo_user,
        lambda state, _calls: bool(state["document"] == _DENY_ALL),
        (
            (
                ("iam:GetUser", "iam:GetUserPolicy", "iam:PutUserPolicy", "iam:DeleteUserPolicy"),
                _ANY_USER,
            ),
        ),
    ),
    Action(
        "block-public-access",
        "Closes a bucket to the public, whatever its policy and lists say.",
        "buckets",
        _bucket_of,
        re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"),
        _read_bucket,
        lambda _cloud, bucket, before, _setting: (
            _set_bucket(bucket, before["owner"], dict.fromkeys(_BLOCKS, True))
            if before["block"] != dict.fromkeys(_BLOCKS, True)
            else ()
        ),
        lambda bucket, before: _set_bucket(bucket, before["owner"], before["block"]),
        lambda state, _calls: bool(state["block"] == dict.fromkeys(_BLOCKS, True)),
        ((("s3:GetBucketPublicAccessBlock", "s3:PutBucketPublicAccessBlock"), "arn:aws:s3:::*"),),
    ),
    Action(
        "require-imdsv2",
        "Makes an instance's metadata service ask for a token, one hop far.",
        "instances",
        _instance_of,
        _INSTANCE_ID,
        _read_metadata,
        lambda _cloud, instance, before, _setting: (
            _set_metadata(instance, {**before, "HttpTokens": "required", "HttpPutResponseHopLimit": 1})
            if (before["HttpTokens"], before["HttpPutResponseHopLimit"]) != ("required", 1)
            else ()
        ),
        _set_metadata,
        lambda state, _calls: (state["HttpTokens"], state["HttpPutResponseHopLimit"]) == ("required", 1),
        (
            (("ec2:DescribeInstances",), "*"),
            (("ec2:ModifyInstanceMetadataOptions",), _ANY_INSTANCE),
        ),
        finds=_instance,
    ),
    Action(
        "isolate-instance",
        "Puts each network interface of an instance into a security group that lets nothing through.",
        "instances",
        _instance_of,
        _INSTANCE_ID,
        _read_groups,
        _isolate,
        lambda _instance_id, before: tuple(
            _set_groups(interface, groups) for interface, groups in before["interfaces"].items()
        ),
        lambda state, calls: all(
            state["interfaces"].get(call.parameters["NetworkInterfaceId"]) == call.parameters["Groups"]
            for call in calls
        ),
        (
            (("ec2:DescribeInstances", "ec2:DescribeSecurityGroups"), "*"),
            (("ec2:ModifyNetworkInterfaceAttribute",), _ANY_INTERFACE),
            (("ec2:ModifyNetworkInterfaceAttribute",), _ANY_GROUP),
            (("ec2:ModifyNetworkInterfaceAttribute",), _ANY_INSTANCE),
        ),
        finds=_instance,
    ),
)

ACTIONS: Final[Mapping[str, Action]] = {each.name: each for each in _ALL}


def permissions(actions: Iterable[str]) -> Mapping[str, Any]:
    """The IAM policy that these actions need, and nothing more: to read, to do and to take back."""
    needed: dict[str, list[str]] = {"*": ["sts:GetCallerIdentity"]}
    for name in actions:
        for rights, resource in ACTIONS[name].rights:
            known = needed.setdefault(resource, [])
            known += [right for right in rights if right not in known]
    return _policy(
        *({"Effect": "Allow", "Action": rights, "Resource": resource} for resource, rights in needed.items())
    )


def targets(action: str, entities: Iterable[Entity]) -> tuple[Target, ...]:
    """What an action would act on of an incident's entities, each once."""
    find = ACTIONS[action].found_in
    return tuple(dict.fromkeys(found for each in entities if (found := find(each))))


def target(action: str, name: str) -> Target:
    """A target that somebody named, by its name or its ARN; UsageError for what is none of the action's
    kind."""
    act = ACTIONS[action]
    if act.looks_like.fullmatch(name):
        return Target(name)
    for each in (Entity(AWS_PRINCIPAL, (("Arn", name),)), Entity(AWS_INSTANCE, (("Id", name),))):
        if name.startswith("arn:") and (found := act.found_in(each)) and act.looks_like.fullmatch(found.name):
            return found
    raise UsageError(f"'{name}' is none of {act.of}", hint=f"{action} acts on them")


class Containment:
    """Plans, takes and takes back actions with the credentials of the settings."""

    def __init__(
        self,
        settings: ResponseSettings,
        *,
        clock: Callable[[], datetime],
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self._settings = settings
        self._cloud = Cloud(settings.access)
        self._clock = clock
        self._wait = wait

    @property
    def allowed(self) -> frozenset[str]:
        """The actions that the settings allow without approval."""
        return self._settings.allow_without_approval

    @property
    def approval(self) -> timedelta:
        """How long what was planned may wait for approval."""
        return self._settings.approval

    def located(self, action: str, of: Target, places: Callable[[], Iterable[Place]]) -> Target:
        """The target with its account, and with its region where it stands in one alone.

        `places` are those that the logs name for it, the likeliest first; it is in the first where AWS says
        that it is. ContainmentError where AWS says so of none, and for a thing of another account.
        """
        act = self._checked(action, of)
        own = self._cloud.account
        if act.finds is None:
            return replace(of, account=own)
        named = [Place(of.account, of.region)] if of.region else list(places())
        ours = [each.region for each in named if each.account in ("", own)]
        if named and not ours:
            raise _foreign(of.name, named[0].account, own)
        if not of.region and self._cloud.region:
            ours.append(self._cloud.region)
        refused = []
        for region in list(dict.fromkeys(ours))[:MOST_REGIONS]:
            try:
                act.finds(self._cloud.at(region), of.name)
            except ContainmentError as error:
                refused.append(f"{region}: {error.message}")
            else:
                return Target(of.name, own, region)
        raise ContainmentError(
            f"the region of {of.name} is not known: "
            + ("; ".join(refused) if refused else "the logs do not tell, and [respond.aws] names none"),
            hint=f"name it as arn:aws:ec2:REGION:{own}:instance/{of.name} in the step's targets",
        )

    def plan(self, action: str, of: Target) -> Plan:
        """What would be done now; nothing is changed. ContainmentError where it cannot be done, and where the
        target stands in one region alone and has none (`located`)."""
        act = self._checked(action, of)
        if act.finds is not None and not of.region:
            raise ContainmentError(f"the region of {of.name} is not known", hint="run the playbook anew")
        of = replace(of, account=self._cloud.account)
        cloud = self._cloud.at(of.region)
        before = act.read(cloud, of.name)
        calls = _in(of.region, act.calls(cloud, of.name, before, self._setting()))
        return Plan(action, of, before, calls, _in(of.region, act.undo(of.name, before)) if calls else ())

    def apply(self, plan: Plan) -> Done:
        """Make the calls of a plan and check what came of them. ContainmentError says what did not work;
        what was done until then can be taken back by the plan's `undo`."""
        act = self._checked(plan.action, plan.target)
        for call in plan.calls:
            self._cloud.make(call)
        after = self._read_until(act, plan.target, lambda state: act.holds(state, plan.calls))
        if not act.holds(after, plan.calls):
            raise ContainmentError(
                f"{plan.action} {plan.target.name}: AWS took the calls, and it stands as before"
            )
        return Done(plan.action, plan.target, plan.before, after, plan.undo)

    def undo(self, done: Done) -> str:
        """Put back exactly what was; what was done, in words. Refused where somebody has changed it since."""
        act = self._checked(done.action, done.target)
        # As it was before: by now, or still, for who takes back in the same breath.
        now = self._read_until(act, done.target, lambda state: not done.undo or state != done.before)
        if not done.undo or now == done.before:
            return f"{done.target.name} stands as it did before"
        if done.after is not None and now != done.after:
            raise ContainmentError(
                f"{done.target.name} was changed by somebody since: it is left alone",
                hint="look at it and put it back by hand",
            )
        for call in done.undo:
            self._cloud.make(call)
        if self._read_until(act, done.target, lambda state: state == done.before) != done.before:
            raise ContainmentError(f"{done.target.name}: AWS took the calls, and it is not as it was")
        return f"{done.target.name} is as it was"

    def _read_until(self, act: Action, of: Target, holds: Callable[[State], bool]) -> State:
        """How it stands as soon as that is so, and as it stands in the end. IAM and EC2 may still tell for a
        while what was before a call."""
        cloud = self._cloud.at(of.region)
        state = act.read(cloud, of.name)
        for seconds in _PATIENCE_SECONDS:
            if holds(state):
                break
            self._wait(seconds)
            state = act.read(cloud, of.name)
        return state

    def _setting(self) -> _Setting:
        return _Setting(self._clock(), self._settings.isolation_security_groups)

    def _checked(self, action: str, of: Target) -> Action:
        act = ACTIONS[action]
        if not act.looks_like.fullmatch(of.name):
            raise ContainmentError(f"'{of.name[:100]}' is none of {act.of}")
        if of.account and of.account != self._cloud.account:
            raise _foreign(of.name, of.account, self._cloud.account)
        if self._cloud.is_us(of.name):
            raise ContainmentError(
                f"{of.name} is who we are ourselves: nobody could take it back",
                hint="do this with other credentials",
            )
        return act


def _in(region: str, calls: Iterable[Call]) -> tuple[Call, ...]:
    return tuple(replace(each, region=region) for each in calls)


def _foreign(name: str, owner: str, account: str) -> ForeignError:
    return ForeignError(
        f"{name} is of account {owner}, our credentials are of {account}",
        hint="give [respond.aws] a role of that account",
    )
