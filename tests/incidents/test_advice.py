"""The commands of a report: those that work for whose credentials they are, and none that cannot."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from trailhawk.detect.alert import Alert
from trailhawk.detect.entities import Entity, entity
from trailhawk.engine.result import Engine
from trailhawk.incidents.advice import CONTAIN, Step, steps
from trailhawk.incidents.incident import assemble
from trailhawk.incidents.lineage import Issue, Lineage
from trailhawk.incidents.manifest import Manifest
from trailhawk.incidents.report import report
from trailhawk.incidents.timeline import Event

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOME, OTHER = "111122223333", "444455556666"
USER = f"arn:aws:iam::{HOME}:user/ops/bob"
TEMPORARY, LONG = "ASIAEXAMPLE000000001", "AKIAEXAMPLE000000002"


def event(key: str, session: str) -> Event:
    return Event(NOW, "e", "ListBuckets", "s3", "", session, key, "192.0.2.1", "aws-cli/2", "")


def issue(
    key: str, *, api: str = "AssumeRole", role: str = "", by: str = "", by_key: str = "", user: str = ""
) -> Issue:
    return Issue(
        at=NOW,
        event_id=f"e-{key}",
        api=api,
        key=key,
        expires="",
        role_arn=role,
        session_name="i-0123456789abcdef0" if role else "",
        service="ec2.amazonaws.com" if role else "",
        caller_type="",
        caller_arn=by,
        caller_id="",
        caller_key=by_key,
        caller_address="",
        region="eu-west-1",
        user=user,
    )


def contained(*events: Event, issues: tuple[Issue, ...] = (), named: tuple[Entity, ...] = ()) -> list[Step]:
    found = steps(named, events, Lineage(issues, ()), Manifest(()), now=NOW)
    return [step for step in found if step.phase == CONTAIN]


def words(steps: list[Step]) -> list[list[str]]:
    return [shlex.split(command) for step in steps for command in step.commands]


def test_a_long_term_key_of_a_user() -> None:
    (found,) = words(contained(event(LONG, USER)))
    assert found == [
        *("aws", "iam", "update-access-key", "--user-name", "bob"),
        *("--access-key-id", LONG, "--status", "Inactive"),
    ]


def test_root_alone_turns_off_the_keys_of_root() -> None:
    found = contained(event(LONG, f"arn:aws:iam::{HOME}:root"))
    assert words(found) == []
    assert [step.title for step in found] == [
        "Change the root user's password, delete its access keys, renew its MFA device"
    ]


@pytest.mark.parametrize(
    ("session", "issues"),
    [
        (USER, ()),
        (USER, (issue(TEMPORARY, api="GetSessionToken", by=USER),)),
        (
            f"arn:aws:sts::{HOME}:federated-user/x",
            (issue(TEMPORARY, api="GetFederationToken", by=USER),),
        ),
    ],
)
def test_temporary_credentials_of_a_user(session: str, issues: tuple[Issue, ...]) -> None:
    """Neither a role nor a key ends them: their user is denied what was issued before now."""
    (found,) = words(contained(event(TEMPORARY, session), issues=issues))
    assert found[:7] == ["aws", "iam", "put-user-policy", "--user-name", "bob", "--policy-name", found[6]]
    (statement,) = json.loads(found[8])["Statement"]
    assert statement["Condition"] == {"DateLessThan": {"aws:TokenIssueTime": "2026-03-01T12:00:00Z"}}


def test_what_was_got_with_a_key_lives_on_without_it() -> None:
    issues = (issue(TEMPORARY, api="GetFederationToken", by=USER, by_key=LONG),)
    found = words(contained(event(LONG, USER), issues=issues))
    assert [command[2] for command in found] == ["update-access-key", "put-user-policy"]


def test_a_role_of_identity_center_is_changed_there_alone() -> None:
    role = f"arn:aws:iam::{HOME}:role/aws-reserved/sso.amazonaws.com/AWSReservedSSO_Admin_0123456789abcdef"
    found = contained(event(TEMPORARY, "s"), named=(entity("AwsPrincipal", Arn=role),))
    assert "put-role-policy" not in str(found)
    assert "IAM Identity Center" in found[0].title


def test_a_role_linked_to_a_service_cannot_be_changed() -> None:
    role = f"arn:aws:iam::{HOME}:role/aws-service-role/ssm.amazonaws.com/AWSServiceRoleForAmazonSSM"
    assert words(contained(event(TEMPORARY, "s"), named=(entity("AwsPrincipal", Arn=role),))) == []


def test_roles_of_two_accounts_are_told_apart() -> None:
    """A command runs in the account of who runs it: a role of the same name may be there."""
    named = tuple(entity("AwsPrincipal", Arn=f"arn:aws:iam::{each}:role/app") for each in (HOME, OTHER))
    found = contained(event(TEMPORARY, "s"), named=named)
    assert [step.title for step in found] == [
        f"Revoke the sessions of role app, in account {HOME}",
        f"Revoke the sessions of role app, in account {OTHER}",
    ]


def test_an_instance_is_looked_for_in_its_region() -> None:
    role = f"arn:aws:iam::{HOME}:role/apps/web"
    origin = Lineage((issue(TEMPORARY, role=role),), ())
    found = steps((), [event(TEMPORARY, "s")], origin, Manifest(()), now=NOW)
    ec2 = [command for command in words(list(found)) if command[1] == "ec2"]
    assert [command[3:5] for command in ec2] == [["--region", "eu-west-1"]] * 2
    details = [command for command in words(list(found)) if "--arn" in command]
    assert details[0][-1] == role


def test_a_role_that_only_the_session_names() -> None:
    (found,) = words(contained(event(TEMPORARY, f"arn:aws:sts::{HOME}:assumed-role/app/x")))
    assert found[:5] == ["aws", "iam", "put-role-policy", "--role-name", "app"]


def test_keys_and_passwords_that_the_accused_made_are_turned_off_too() -> None:
    """Nobody has used them yet, so no alert is about them: they are the way back in."""
    made = "AKIAEXAMPLE000000003"
    issues = (
        issue(made, api="CreateAccessKey", by=USER, by_key=LONG, user="backdoor"),
        issue("AKIAEXAMPLE000000004", api="CreateAccessKey", by_key="AKIAEXAMPLE000000009", user="eve"),
    )
    password = dataclasses.replace(event(LONG, USER), name="CreateLoginProfile", target="backdoor")
    refused = dataclasses.replace(
        password, name="UpdateLoginProfile", target="root-ish", error="AccessDenied"
    )
    found = words(contained(event(LONG, USER), password, refused, issues=issues))
    assert found == [
        ["aws", "iam", "update-access-key", *("--user-name", user), "--access-key-id", key, "--status", off]
        for user, key, off in (("bob", LONG, "Inactive"), ("backdoor", made, "Inactive"))
    ] + [["aws", "iam", "delete-login-profile", "--user-name", "backdoor"]]


def test_a_made_key_that_is_used_is_turned_off_once() -> None:
    made = "AKIAEXAMPLE000000003"
    issues = (issue(made, api="CreateAccessKey", by=USER, by_key=LONG, user="backdoor"),)
    back = event(made, f"arn:aws:iam::{HOME}:user/backdoor")
    found = [step.title for step in contained(event(LONG, USER), back, issues=issues)]
    assert found == [f"Deactivate access key {LONG}", f"Deactivate access key {made}"]


def test_instances_of_which_all_was_refused_need_no_care(
    engine_of: Callable[..., Engine], raised: Callable[..., Alert]
) -> None:
    """Who tries the ids of a hundred instances, and is refused, has touched none: most do not exist."""
    tried, asked, told, made_up = ("i-0aa", "i-0bb", "i-0cc", "i-0dd")

    def call(event_id: str, error: str, **request: str) -> dict[str, object]:
        return {
            "eventTime": "2026-03-01T11:40:00Z",
            "eventID": event_id,
            "eventSource": "ec2.amazonaws.com",
            "eventName": "GetPasswordData",
            "sourceIPAddress": "192.0.2.1",
            "userAgent": "aws-cli/2",
            "recipientAccountId": HOME,
            "userIdentity": {"type": "IAMUser", "principalId": "AIDA1", "arn": USER, "accessKeyId": LONG},
            "errorCode": error,
            "requestParameters": request,
        }

    engine = engine_of(
        [
            call("1", "Client.UnauthorizedOperation", instanceId=tried),
            call("2", "Client.UnauthorizedOperation", instanceId=made_up),
            call("3", "", instanceId=asked),
        ]
    )
    named = [
        raised("one", *(entity("AwsInstance", Id=i) for i in (tried, made_up, told)), details=ids("1", "2")),
        raised("two", entity("AwsInstance", Id=asked), details=ids("3")),
        raised("three", entity("AwsInstance", Id=told)),
    ]
    found = report(engine, assemble(1, named), named, now=NOW)
    assert [event.target for event in found.timeline] == [tried, made_up, asked]
    kept = [step.title.split()[4] for step in found.steps if step.phase == "Keep the evidence"]
    assert kept == [asked, told]


def ids(*of: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return (("EventIds", of),)
