"""Containment in AWS: a small closed set of actions, each of which can be planned, checked and taken back.

An action reads what is now, says which calls change it and which calls put it back, and checks what came of
it. What it acts on is a name of one kind (a role, a key, a bucket, an instance, a user) that must look like
one, and must belong to the account that our credentials are of: text of the logs becomes nothing else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import boto3
from botocore import exceptions as aws
from botocore.config import Config

from trailhawk import __version__
from trailhawk.connectors.config import Access
from trailhawk.connectors.credentials import session
from trailhawk.detect.entities import (
    AWS_ACCESS_KEY,
    AWS_BUCKET,
    AWS_INSTANCE,
    AWS_PRINCIPAL,
    AWS_SESSION,
    Entity,
)
from trailhawk.errors import TrailhawkError, UsageError

if TYPE_CHECKING:
    from trailhawk.settings import Section

REVOKED: Final = "AWSRevokeOlderSessions"
"""The name that AWS's console gives to the policy of its button "Revoke active sessions"."""
DENIED: Final = "TrailhawkDenyAll"
MOST_TARGETS: Final = 20
"""Roles, keys, buckets or instances that one step acts on; with more, it refuses."""

State = Mapping[str, Any]
"""What AWS says of a thing, as far as an action changes it; what JSON can hold."""

_BLOCKS = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
_ARN = re.compile(r"arn:aws[a-z-]*:(?:iam|sts)::(\d{12}):(role|assumed-role|user)/(.+)", re.DOTALL)


class ContainmentError(TrailhawkError):
    """AWS did not do, or may not be asked to do, what contains an incident."""

    kind = "aws"


@dataclass(frozen=True, slots=True)
class Target:
    """What an action acts on. `account` is empty where the logs do not tell whose it is."""

    name: str
    account: str = ""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of AWS's API: service and operation as boto3 has them, parameters as the API has them."""

    service: str
    operation: str
    parameters: Mapping[str, Any]

    def __str__(self) -> str:
        # The JSON is for people to read and for a log: a control character of a name stands escaped in it.
        words = self.operation.replace("_", "-")
        return f"{self.service} {words} {json.dumps(self.parameters, sort_keys=True)}"


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


@dataclass(frozen=True, slots=True)
class ResponseSettings:
    """`[respond.aws]`: who we are to AWS when we change something there, and what needs no approval."""

    access: Access = field(default_factory=Access)
    allow_without_approval: frozenset[str] = frozenset()
    isolation_security_groups: tuple[str, ...] = ()

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
        read = cls(Access.read(section), frozenset(allowed), groups)
        section.end()
        return read


# --- AWS ---------------------------------------------------------------------------------------------------


class Cloud:
    """AWS as our credentials see it. Errors of AWS and of the way there are ContainmentErrors."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._session: boto3.Session | None = None
        self._clients: dict[str, Any] = {}
        self._identity: Mapping[str, Any] | None = None

    @property
    def account(self) -> str:
        """The account that our credentials are of."""
        return str(self._caller["Account"])

    @property
    def own_names(self) -> frozenset[str]:
        """What we are ourselves: our user or role, and our key."""
        found = _ARN.fullmatch(str(self._caller["Arn"]))
        names = {_name_in(found)} if found else set()
        credentials = self._session.get_credentials() if self._session else None
        return frozenset(names | {credentials.access_key} if credentials else names)

    @property
    def _caller(self) -> Mapping[str, Any]:
        if self._identity is None:
            self._identity = self.ask("sts", "get_caller_identity")
        return self._identity

    def ask(self, service: str, operation: str, **parameters: Any) -> Mapping[str, Any]:
        """One call; the answer without its wrapping."""
        try:
            answer: dict[str, Any] = getattr(self._client(service), operation)(**parameters)
        except aws.ClientError as error:
            raise ContainmentError(f"{service} {operation.replace('_', '-')}: {_said(error)}") from error
        except aws.NoCredentialsError as error:
            raise ContainmentError(
                f"no credentials for AWS: {error}", hint="give [respond.aws] a profile or a role"
            ) from error
        except aws.BotoCoreError as error:
            raise ContainmentError(f"{service} {operation.replace('_', '-')}: {error}") from error
        answer.pop("ResponseMetadata", None)
        return answer

    def ask_or_none(
        self, missing: str, service: str, operation: str, **parameters: Any
    ) -> Mapping[str, Any] | None:
        """The same; None where AWS answers with this code: there is none."""
        try:
            return self.ask(service, operation, **parameters)
        except ContainmentError as error:
            cause = error.__cause__
            if isinstance(cause, aws.ClientError) and cause.response["Error"].get("Code") == missing:
                return None
            raise

    def make(self, call: Call) -> None:
        self.ask(call.service, call.operation, **call.parameters)

    def _client(self, service: str) -> Any:
        if self._session is None:
            self._session = session(self._access)
        if service not in self._clients:
            self._clients[service] = self._session.client(  # type: ignore[call-overload]  # by its name
                service,
                region_name=self._session.region_name or "us-east-1",
                endpoint_url=self._access.endpoint_url or None,
                config=Config(
                    # Five calls of one target at their longest end before a run counts as left.
                    retries={"total_max_attempts": 2, "mode": "standard"},
                    connect_timeout=5,
                    read_timeout=15,
                    user_agent_extra=f"trailhawk/{__version__}",
                    s3={"addressing_style": "path"} if self._access.endpoint_url else {},
                ),
            )
        return self._clients[service]


def _said(error: aws.ClientError) -> str:
    said = error.response.get("Error", {})
    return f"{said.get('Code', '')}: {said.get('Message', '')}"[:500]


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
    holds: Callable[[State], bool]
    """Whether what was read is as the action would have it."""
    rights: tuple[tuple[tuple[str, ...], str], ...]


def _arn_of(each: Entity, kinds: Sequence[str]) -> Target | None:
    if each.type not in (AWS_PRINCIPAL, AWS_SESSION):
        return None
    for _, text in each.identifiers:
        if (found := _ARN.fullmatch(text)) and found[2] in kinds:
            return Target(_name_in(found), found[1])
    return None


def _name_in(found: re.Match[str]) -> str:
    """The name in an ARN: role/PATH/NAME and user/PATH/NAME, but assumed-role/NAME/SESSION."""
    parts = found[3].split("/")
    return parts[0] if found[2] == "assumed-role" else parts[-1]


def _role_of(each: Entity) -> Target | None:
    return _arn_of(each, ("role", "assumed-role"))


def _user_of(each: Entity) -> Target | None:
    return _arn_of(each, ("user",))


def _key_of(each: Entity) -> Target | None:
    return Target(each.value) if each.type == AWS_ACCESS_KEY and each.value.startswith("AKIA") else None


def _bucket_of(each: Entity) -> Target | None:
    return Target(each.value) if each.type == AWS_BUCKET else None


def _instance_of(each: Entity) -> Target | None:
    return Target(each.value.rsplit("/", 1)[-1]) if each.type == AWS_INSTANCE else None


def _revocation(moment: datetime) -> dict[str, Any]:
    text = moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
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
    known = cloud.ask("ec2", "describe_security_groups", GroupIds=list(setting.groups))["SecurityGroups"]
    fit = [each["GroupId"] for each in known if each.get("VpcId") == before["vpc"]]
    if not fit:
        raise ContainmentError(
            f"none of the isolation security groups is in {before['vpc']}, where {instance} is",
            hint="add one of that VPC to [respond.aws] isolation_security_groups",
        )
    return tuple(
        _set_groups(interface, fit[:1])
        for interface, groups in before["interfaces"].items()
        if groups != fit[:1]
    )


def _set_groups(interface: str, groups: Sequence[str]) -> Call:
    parameters = {"NetworkInterfaceId": interface, "Groups": list(groups)}
    return Call("ec2", "modify_network_interface_attribute", parameters)


_NAME = re.compile(r"[\w+=,.@-]{1,128}", re.ASCII)
_INSTANCE_ID = re.compile(r"i-[0-9a-f]{8,17}")
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
        lambda state: state["document"] is not None and "aws:TokenIssueTime" in json.dumps(state["document"]),
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
        lambda state: state["status"] == "Inactive",
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
        lambda state: bool(state["document"] == _DENY_ALL),
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
        lambda state: bool(state["block"] == dict.fromkeys(_BLOCKS, True)),
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
        lambda state: (state["HttpTokens"], state["HttpPutResponseHopLimit"]) == ("required", 1),
        (
            (("ec2:DescribeInstances",), "*"),
            (("ec2:ModifyInstanceMetadataOptions",), _ANY_INSTANCE),
        ),
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
        lambda state: (
            len({tuple(groups) for groups in state["interfaces"].values()}) <= 1
            and all(len(groups) == 1 for groups in state["interfaces"].values())
        ),
        (
            (("ec2:DescribeInstances", "ec2:DescribeSecurityGroups"), "*"),
            (("ec2:ModifyNetworkInterfaceAttribute",), _ANY_INTERFACE),
            (("ec2:ModifyNetworkInterfaceAttribute",), _ANY_GROUP),
            (("ec2:ModifyNetworkInterfaceAttribute",), _ANY_INSTANCE),
        ),
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
    """A target that somebody named; UsageError for what is none of the action's kind."""
    if not ACTIONS[action].looks_like.fullmatch(name):
        raise UsageError(f"'{name}' is none of {ACTIONS[action].of}", hint=f"{action} acts on them")
    return Target(name)


class Containment:
    """Plans, takes and takes back actions with the credentials of the settings."""

    def __init__(self, settings: ResponseSettings, *, clock: Callable[[], datetime]) -> None:
        self._settings = settings
        self._cloud = Cloud(settings.access)
        self._clock = clock

    @property
    def allowed(self) -> frozenset[str]:
        """The actions that the settings allow without approval."""
        return self._settings.allow_without_approval

    def plan(self, action: str, of: Target) -> Plan:
        """What would be done now; nothing is changed. ContainmentError where it cannot be done."""
        act = self._checked(action, of)
        before = act.read(self._cloud, of.name)
        calls = act.calls(self._cloud, of.name, before, self._setting())
        return Plan(action, of, before, calls, act.undo(of.name, before) if calls else ())

    def apply(self, plan: Plan) -> Done:
        """Make the calls of a plan and check what came of them. ContainmentError says what did not work;
        what was done until then can be taken back by the plan's `undo`."""
        act = self._checked(plan.action, plan.target)
        for call in plan.calls:
            self._cloud.make(call)
        after = act.read(self._cloud, plan.target.name)
        if not act.holds(after):
            raise ContainmentError(
                f"{plan.action} {plan.target.name}: AWS took the calls, and it stands as before"
            )
        return Done(plan.action, plan.target, plan.before, after, plan.undo)

    def undo(self, done: Done) -> str:
        """Put back exactly what was; what was done, in words. Refused where somebody has changed it since."""
        act = self._checked(done.action, done.target)
        now = act.read(self._cloud, done.target.name)
        if not done.undo or now == done.before:
            return f"{done.target.name} stands as it did before"
        if done.after is not None and now != done.after:
            raise ContainmentError(
                f"{done.target.name} was changed by somebody since: it is left alone",
                hint="look at it and put it back by hand",
            )
        for call in done.undo:
            self._cloud.make(call)
        if act.read(self._cloud, done.target.name) != done.before:
            raise ContainmentError(f"{done.target.name}: AWS took the calls, and it is not as it was")
        return f"{done.target.name} is as it was"

    def _setting(self) -> _Setting:
        return _Setting(self._clock(), self._settings.isolation_security_groups)

    def _checked(self, action: str, of: Target) -> Action:
        act = ACTIONS[action]
        if not act.looks_like.fullmatch(of.name):
            raise ContainmentError(f"'{of.name[:100]}' is none of {act.of}")
        if of.account and of.account != self._cloud.account:
            raise _foreign(of.name, of.account, self._cloud.account)
        if of.name in self._cloud.own_names:
            raise ContainmentError(
                f"{of.name} is who we are ourselves: nobody could take it back",
                hint="do this with other credentials",
            )
        return act


def _foreign(name: str, owner: str, account: str) -> ContainmentError:
    return ContainmentError(
        f"{name} is of account {owner}, our credentials are of {account}",
        hint="give [respond.aws] a role of that account",
    )
