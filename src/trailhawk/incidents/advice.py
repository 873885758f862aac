"""What to do about an incident: steps in order, with the AWS CLI commands where a command does it.

Names come from logs, so each is quoted for a POSIX shell. A command changes something in AWS: it is printed
for a person to read and run, never run by this module.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from trailhawk.detect.entities import AWS_BUCKET, AWS_INSTANCE, AWS_PRINCIPAL, Entity
from trailhawk.incidents.lineage import Lineage
from trailhawk.incidents.manifest import Manifest
from trailhawk.incidents.timeline import Event

CONTAIN: Final = "Contain"
"""The phase of the steps that cannot wait."""
_REVOKED = "AWSRevokeOlderSessions"
"""The name that AWS's console gives to the policy of its button "Revoke active sessions"."""

_BLOCKS = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")


@dataclass(frozen=True, slots=True)
class Step:
    """Something to do, why, and the commands that do it (none where no command can)."""

    phase: str
    title: str
    why: str
    commands: tuple[str, ...] = ()


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
    roles = _roles(keys, entities, origin)
    instances = _instances(keys, entities, origin)
    return (
        *_contain(keys, roles, events, now),
        *_keep(instances),
        *_mend(instances, roles, read, entities),
        *_find_out(keys, read),
    )


def _aws(*words: str) -> str:
    """A command line of the AWS CLI; every word is quoted that a shell would read otherwise."""
    return shlex.join(["aws", *words])


def _roles(keys: Iterable[str], entities: Iterable[Entity], origin: Lineage) -> tuple[str, ...]:
    issued = (issue.role for key in keys if (issue := origin.issue_of(key)))
    named = (each.value.rsplit("/", 1)[-1] for each in entities if _is_role(each))
    found = dict.fromkeys(name for name in issued if name)
    return tuple(found or dict.fromkeys(named))


def _is_role(each: Entity) -> bool:
    return each.type == AWS_PRINCIPAL and ":role/" in each.value


def _instances(keys: Iterable[str], entities: Iterable[Entity], origin: Lineage) -> tuple[str, ...]:
    issued = (issue.instance for key in keys if (issue := origin.issue_of(key)))
    named = (each.value for each in entities if each.type == AWS_INSTANCE)
    return tuple(dict.fromkeys(name for name in (*issued, *named) if name))


def _contain(
    keys: Iterable[str], roles: Iterable[str], events: Iterable[Event], now: datetime
) -> Iterator[Step]:
    sessions = {event.key: event.session for event in events}
    for key in keys:
        if key.startswith("AKIA"):
            user = sessions[key].rsplit("/", 1)[-1] if ":user/" in sessions[key] else ""
            of_user = ("--user-name", user) if user else ()
            yield Step(
                CONTAIN,
                f"Deactivate access key {key}",
                "It is a long-term key: it works until someone turns it off.",
                (_aws("iam", "update-access-key", *of_user, "--access-key-id", key, "--status", "Inactive"),),
            )
    document = _denied_before(now)
    for role in roles:
        yield Step(
            CONTAIN,
            f"Revoke the sessions of role {role}",
            "Temporary credentials cannot be deleted. This denies every session issued before the moment"
            " named; the role's rightful users get new ones by themselves.",
            (
                _aws(
                    *("iam", "put-role-policy", "--role-name", role),
                    *("--policy-name", _REVOKED, "--policy-document", document),
                ),
            ),
        )
    if any(event.session.endswith(":root") for event in events):
        yield Step(
            CONTAIN,
            "Change the root user's password, delete its access keys, renew its MFA device",
            "Root cannot be denied by a policy of its own account; only its owner can do this, signed in.",
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


def _keep(instances: Iterable[str]) -> Iterator[Step]:
    for instance in instances:
        yield Step(
            "Keep the evidence",
            f"Snapshot the volumes of {instance} before anything on it changes",
            "What ran on the instance stands in no AWS log.",
            (
                _aws(
                    *("ec2", "create-snapshots", "--instance-specification", f"InstanceId={instance}"),
                    *("--description", "evidence", "--copy-tags-from-source", "volume"),
                ),
            ),
        )


def _mend(
    instances: Iterable[str], roles: Iterable[str], read: Manifest, entities: Iterable[Entity]
) -> Iterator[Step]:
    for instance in instances:
        yield Step(
            "Mend",
            f"Make {instance} ask for a metadata token (IMDSv2), one hop far",
            "A proxy that can be told to fetch an address hands out the role's credentials by one plain GET"
            " as long as version 1 of the metadata service answers. A proxy that passes PUT on as well"
            " still does: mend the proxy too.",
            (
                _aws(
                    *("ec2", "modify-instance-metadata-options", "--instance-id", instance),
                    *("--http-tokens", "required", "--http-put-response-hop-limit", "1"),
                    *("--http-endpoint", "enabled"),
                ),
            ),
        )
    for role in roles:
        yield Step(
            "Mend",
            f"Look through what role {role} may do, and take away what it does not use",
            "The loss was as large as the role's rights.",
            (
                _aws("iam", "list-attached-role-policies", "--role-name", role),
                _aws("iam", "list-role-policies", "--role-name", role),
                _aws("iam", "generate-service-last-accessed-details", "--arn", _arn(role, entities)),
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


def _arn(role: str, entities: Iterable[Entity]) -> str:
    known = (each.value for each in entities if _is_role(each) and each.value.endswith(f"/{role}"))
    return next(known, f"arn:aws:iam::ACCOUNT:role/{role}")


def _find_out(keys: Iterable[str], read: Manifest) -> Iterator[Step]:
    for key in keys:
        yield Step(
            "Find out how far it went",
            f"See all that was done with key {key}",
            "This incident holds the calls that rules told; the session may have made others.",
            (shlex.join(["trailhawk", "lineage", key]),),
        )
    if read.objects:
        yield Step(
            "Find out how far it went",
            f"Ask the owners what was in {read.objects:,} object{'' if read.objects == 1 else 's'}",
            "Names and bytes are in the manifest. Whom to tell, and by when, hangs on what was in them.",
        )
