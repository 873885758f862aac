"""What to do about an incident: steps in order, with the AWS CLI commands where a command does it.

Names come from logs, so each is quoted for a POSIX shell. A command changes something in AWS: it is printed
for a person to read and run, never run by this module.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from trailhawk.detect.entities import AWS_BUCKET, AWS_INSTANCE, AWS_PRINCIPAL, Entity
from trailhawk.incidents.lineage import Lineage, session_of
from trailhawk.incidents.manifest import Manifest
from trailhawk.incidents.timeline import Event
from trailhawk.words import counted

CONTAIN: Final = "Contain"
"""The phase of the steps that cannot wait."""
_REVOKED = "AWSRevokeOlderSessions"
"""The name that AWS's console gives to the policy of its button "Revoke active sessions"."""

_UNKNOWN = "arn:aws:iam::ACCOUNT:role/"
_BLOCKS = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")


@dataclass(frozen=True, slots=True)
class Step:
    """Something to do, why, and the commands that do it (none where no command can)."""

    phase: str
    title: str
    why: str
    commands: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Role:
    name: str
    arn: str
    """Empty where the logs name the role without its ARN."""

    @property
    def account(self) -> str:
        return (self.arn.split(":") + [""] * 5)[4]


@dataclass(frozen=True, slots=True)
class _Instance:
    id: str
    region: str
    """Empty where the call that issued its credentials is not stored."""


def steps(
    entities: Iterable[Entity],
    events: Iterable[Event],
    origin: Lineage,
    read: Manifest,
    *,
    now: datetime,
) -> tuple[Step, ...]:
    """What to do, the most urgent first: contain, keep the evidence, mend, find out how far it went."""
    entities, events = tuple(entities), tuple(events)
    keys = tuple(dict.fromkeys(event.key for event in events if event.key))
    roles = _roles(events, entities, origin)
    instances = _instances(keys, entities, origin)
    return (
        *_contain(roles, events, origin, now),
        *_keep(instances),
        *_mend(instances, roles, read, entities),
        *_find_out(keys, read),
    )


def _aws(*words: str) -> str:
    """A command line of the AWS CLI; every word is quoted that a shell would read otherwise."""
    return shlex.join(["aws", *words])


def _roles(events: Sequence[Event], entities: Iterable[Entity], origin: Lineage) -> tuple[_Role, ...]:
    """As the calls say that issued the keys; else as alerts name them; else as the sessions do."""
    issued = (issue.role_arn for event in events if (issue := origin.issue_of(event.key)))
    named = (each.value for each in entities if each.type == AWS_PRINCIPAL and ":role/" in each.value)
    worn = (of.role_arn for event in events if (of := session_of(event.session)))
    found = dict.fromkeys(filter(None, issued)) or dict.fromkeys(named) or dict.fromkeys(worn)
    return tuple(_Role(arn.rsplit("/", 1)[-1], arn if arn.startswith("arn:") else "") for arn in found)


def _instances(keys: Iterable[str], entities: Iterable[Entity], origin: Lineage) -> tuple[_Instance, ...]:
    found: dict[str, _Instance] = {}
    for key in keys:
        if (issue := origin.issue_of(key)) and issue.instance:
            found.setdefault(issue.instance, _Instance(issue.instance, issue.region))
    for each in entities:
        if each.type == AWS_INSTANCE:
            found.setdefault(each.value, _Instance(each.value, ""))
    return tuple(found.values())


def _user_in(arn: str) -> str:
    """The name of a user, empty for the ARN of anything else."""
    return arn.rsplit("/", 1)[-1] if ":user/" in arn else ""


def _users(events: Sequence[Event], origin: Lineage) -> tuple[str, ...]:
    """Whose temporary credentials are used, or were got with a key that is: they outlive that key."""
    used = {event.key: event.session for event in events if event.key}
    own = [
        _user_in(session) or _user_in(issue.caller_arn if (issue := origin.issue_of(key)) else "")
        for key, session in used.items()
        if not key.startswith("AKIA") and ":assumed-role/" not in session
    ]
    got = [
        _user_in(issue.caller_arn)
        for issue in origin.issues
        if issue.caller_key in used and issue.api in ("GetSessionToken", "GetFederationToken")
    ]
    return tuple(dict.fromkeys(user for user in (*own, *got) if user))


def _contain(
    roles: Sequence[_Role], events: Sequence[Event], origin: Lineage, now: datetime
) -> Iterator[Step]:
    for key, session in {event.key: event.session for event in events}.items():
        if key.startswith("AKIA") and not session.endswith(":root"):
            yield Step(
                CONTAIN,
                f"Deactivate access key {key}",
                "It is a long-term key: it works until someone turns it off.",
                (_deactivated(key, _user_in(session)),),
            )
    yield from _left_behind(events, origin)
    document = _denied_before(now)
    for user in _users(events, origin):
        yield Step(
            CONTAIN,
            f"Revoke the sessions of user {user}",
            "Temporary credentials cannot be deleted, and outlive the key they were got with. This denies"
            " all that were issued for the user before the moment named, the console's among them.",
            (
                _aws(
                    *("iam", "put-user-policy", "--user-name", user),
                    *("--policy-name", _REVOKED, "--policy-document", document),
                ),
            ),
        )
    several = len({role.account for role in roles}) > 1
    for role in roles:
        where = f", in account {role.account}" if several and role.account else ""
        yield _revoked(role, where, document)
    if any(event.session.endswith(":root") for event in events):
        yield Step(
            CONTAIN,
            "Change the root user's password, delete its access keys, renew its MFA device",
            "Root cannot be denied by a policy of its own account; only its owner can do this, signed in.",
        )


def _deactivated(key: str, user: str) -> str:
    of_user = ("--user-name", user) if user else ()
    return _aws("iam", "update-access-key", *of_user, "--access-key-id", key, "--status", "Inactive")


def _left_behind(events: Sequence[Event], origin: Lineage) -> Iterator[Step]:
    """The ways back in that the accused credentials made: keys not used yet, and passwords of the console."""
    used = {event.key for event in events if event.key}
    for issue in origin.issues:
        is_made = issue.api == "CreateAccessKey" and issue.caller_key in used
        if is_made and issue.user and issue.key not in used:
            yield Step(
                CONTAIN,
                f"Deactivate access key {issue.key} of user {issue.user}",
                f"It was made with key {issue.caller_key}, and works whatever becomes of that one.",
                (_deactivated(issue.key, issue.user),),
            )
    passwords = (e for e in events if e.name in ("CreateLoginProfile", "UpdateLoginProfile") and not e.error)
    for user in dict.fromkeys(event.target for event in passwords if event.target):
        yield Step(
            CONTAIN,
            f"Take the console password of user {user} away",
            "It was set in this incident: who knows it signs in without any key.",
            (_aws("iam", "delete-login-profile", "--user-name", user),),
        )


def _revoked(role: _Role, where: str, document: str) -> Step:
    # https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_temp_control-access_disable-perms.html
    if role.name.startswith("AWSReservedSSO_"):
        return Step(
            CONTAIN,
            f"End the sessions of role {role.name}{where} in IAM Identity Center",
            "The role belongs to a permission set, and IAM refuses to change it. Deny the person by condition"
            " key identitystore:userId in a service control policy, take away the assignments, and delete the"
            " person's session. The command tells which identity store that is.",
            (_aws("sso-admin", "list-instances"),),
        )
    if role.name.startswith("AWSServiceRoleFor"):
        return Step(
            CONTAIN,
            f"Look at the service that role {role.name}{where} is linked to",
            "Nobody but the service can change the role or assume it: what was done was asked of it.",
        )
    return Step(
        CONTAIN,
        f"Revoke the sessions of role {role.name}{where}",
        "Temporary credentials cannot be deleted. This denies every session issued before the moment"
        " named; the role's rightful users get new ones by themselves.",
        (
            _aws(
                *("iam", "put-role-policy", "--role-name", role.name),
                *("--policy-name", _REVOKED, "--policy-document", document),
            ),
        ),
    )


def _denied_before(now: datetime) -> str:
    moment = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    statement = {
        "Effect": "Deny",
        "Action": ["*"],
        "Resource": ["*"],
        "Condition": {"DateLessThan": {"aws:TokenIssueTime": moment}},
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def _ec2(operation: str, instance: _Instance, *words: str) -> str:
    region = ("--region", instance.region) if instance.region else ()
    return _aws("ec2", operation, *region, *words)


def _keep(instances: Iterable[_Instance]) -> Iterator[Step]:
    for instance in instances:
        yield Step(
            "Keep the evidence",
            f"Snapshot the volumes of {instance.id} before anything on it changes",
            "What ran on the instance stands in no AWS log.",
            (
                _ec2(
                    "create-snapshots",
                    instance,
                    *("--instance-specification", f"InstanceId={instance.id}"),
                    *("--description", "evidence", "--copy-tags-from-source", "volume"),
                ),
            ),
        )


def _mend(
    instances: Iterable[_Instance], roles: Iterable[_Role], read: Manifest, entities: Iterable[Entity]
) -> Iterator[Step]:
    for instance in instances:
        yield Step(
            "Mend",
            f"Make {instance.id} ask for a metadata token (IMDSv2), one hop far",
            "A proxy that can be told to fetch an address hands out the role's credentials by one plain GET"
            " as long as version 1 of the metadata service answers. A proxy that passes PUT on as well"
            " still does: mend the proxy too.",
            (
                _ec2(
                    "modify-instance-metadata-options",
                    instance,
                    *("--instance-id", instance.id),
                    *("--http-tokens", "required", "--http-put-response-hop-limit", "1"),
                    *("--http-endpoint", "enabled"),
                ),
            ),
        )
    for role in roles:
        yield Step(
            "Mend",
            f"Look through what role {role.name} may do, and take away what it does not use",
            "The loss was as large as the role's rights.",
            (
                _aws("iam", "list-attached-role-policies", "--role-name", role.name),
                _aws("iam", "list-role-policies", "--role-name", role.name),
                _aws(
                    "iam", "generate-service-last-accessed-details", "--arn", role.arn or _UNKNOWN + role.name
                ),
            ),
        )
    for bucket in read.buckets or dict.fromkeys(e.value for e in entities if e.type == AWS_BUCKET):
        yield Step(
            "Mend",
            f"Close bucket {bucket} to the public, and see who its policy lets in",
            "So that nobody reads it another way in the meantime.",
            (
                _aws(
                    *("s3api", "put-public-access-block", "--bucket", bucket),
                    *("--public-access-block-configuration", ",".join(f"{each}=true" for each in _BLOCKS)),
                ),
                _aws("s3api", "get-bucket-policy", "--bucket", bucket),
            ),
        )


def _find_out(keys: Iterable[str], read: Manifest) -> Iterator[Step]:
    for key in keys:
        yield Step(
            "Find out how far it went",
            f"See all that was done with key {key}",
            "This incident holds the calls that rules told; the session may have made others.",
            (shlex.join(["trailhawk", "entity", key]), shlex.join(["trailhawk", "lineage", key])),
        )
    if read.besides:
        yield Step(
            "Find out how far it went",
            "Look through the reads that no alert names: they may be the owner's or the thief's",
            read.besides.told,
            (shlex.join(["trailhawk", "query", "--format", "csv", read.besides.query]),),
        )
    if read.objects:
        yield Step(
            "Find out how far it went",
            f"Ask the owners what was in {counted(read.objects, 'object')}",
            "Names and bytes are in the manifest. Whom to tell, and by when, hangs on what was in them.",
        )
