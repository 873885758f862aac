"""Containment against moto's real HTTP server: done, seen there, taken back, seen there."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest

from trailhawk.connectors.config import Access
from trailhawk.detect.entities import (
    AWS_ACCESS_KEY,
    AWS_BUCKET,
    AWS_INSTANCE,
    AWS_PRINCIPAL,
    AWS_SESSION,
    entity,
)
from trailhawk.errors import UsageError
from trailhawk.respond.cloud import Cloud as OurCloud
from trailhawk.respond.cloud import ContainmentError
from trailhawk.respond.containment import (
    ACTIONS,
    Containment,
    Done,
    Place,
    ResponseSettings,
    Target,
    permissions,
    target,
    targets,
)
from trailhawk.settings import Section, SettingsError

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
REGION = "eu-west-1"
Rights = Callable[[str, object], None]
ACCOUNT = "123456789012"
"""The account of moto."""


class Cloud:
    """AWS as its owner sees it."""

    def __init__(self, address: str) -> None:
        self.access = Access(region=REGION, endpoint_url=address)
        self.iam: Any = self.client("iam")
        self.ec2: Any = self.client("ec2")
        self.s3: Any = self.client("s3")

    def client(self, name: str, region: str = REGION) -> Any:
        return boto3.client(  # type: ignore[call-overload]  # settings by name
            name, endpoint_url=self.access.endpoint_url, region_name=region
        )

    def role(self, name: str, path: str = "/") -> None:
        self.iam.create_role(RoleName=name, Path=path, AssumeRolePolicyDocument="{}")

    def instance(self) -> tuple[str, str]:
        made = self.ec2.run_instances(ImageId="ami-12c6146b", MinCount=1, MaxCount=1)["Instances"][0]
        return made["InstanceId"], made["VpcId"]

    def described(self, instance: str) -> Any:
        return self.ec2.describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"][0]

    def group(self, vpc: str, name: str = "isolation") -> str:
        """A security group without rules."""
        made = self.ec2.create_security_group(GroupName=name, Description="nothing", VpcId=vpc)["GroupId"]
        everything = [{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]
        self.ec2.revoke_security_group_egress(GroupId=made, IpPermissions=everything)
        return str(made)

    def containment(self, *groups: str, access: Access | None = None) -> Containment:
        settings = ResponseSettings(access or self.access, isolation_security_groups=groups)
        return Containment(settings, clock=lambda: AT, wait=lambda _: None)


@pytest.fixture
def aws(aws_account: str) -> Cloud:
    return Cloud(aws_account)


def policies(aws: Cloud, role: str) -> dict[str, Any]:
    names = aws.iam.list_role_policies(RoleName=role)["PolicyNames"]
    return {name: aws.iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"] for name in names}


def do(containment: Containment, action: str, name: str) -> Done:
    of = containment.located(action, Target(name), tuple)
    return containment.apply(containment.plan(action, of))


# --- each action -------------------------------------------------------------------------------------------


def test_sessions_of_a_role_are_revoked_and_given_back(aws: Cloud) -> None:
    aws.role("app", path="/team/")
    containment = aws.containment()
    plan = containment.plan("revoke-role-sessions", Target("app", ACCOUNT))
    assert policies(aws, "app") == {}  # a plan changes nothing
    (call,) = plan.calls
    assert (call.service, call.operation) == ("iam", "put_role_policy")
    done = containment.apply(plan)
    (document,) = policies(aws, "app").values()
    assert document["Statement"] == [
        {
            "Effect": "Deny",
            "Action": ["*"],
            "Resource": ["*"],
            "Condition": {"DateLessThan": {"aws:TokenIssueTime": "2026-03-01T12:00:00Z"}},
        }
    ]
    containment.undo(done)
    assert policies(aws, "app") == {}


def test_an_older_revocation_comes_back_as_it_was(aws: Cloud) -> None:
    aws.role("app")
    older = {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "s3:*", "Resource": "*"}]}
    aws.iam.put_role_policy(
        RoleName="app", PolicyName="AWSRevokeOlderSessions", PolicyDocument=json.dumps(older)
    )
    containment = aws.containment()
    done = do(containment, "revoke-role-sessions", "app")
    assert policies(aws, "app")["AWSRevokeOlderSessions"] != older
    containment.undo(done)
    assert policies(aws, "app") == {"AWSRevokeOlderSessions": older}


def test_what_somebody_changed_since_is_left_alone(aws: Cloud) -> None:
    aws.role("app")
    containment = aws.containment()
    done = do(containment, "revoke-role-sessions", "app")
    theirs = {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "s3:*", "Resource": "*"}]}
    aws.iam.put_role_policy(
        RoleName="app", PolicyName="AWSRevokeOlderSessions", PolicyDocument=json.dumps(theirs)
    )
    with pytest.raises(ContainmentError, match="changed by somebody since"):
        containment.undo(done)
    assert policies(aws, "app") == {"AWSRevokeOlderSessions": theirs}


def test_a_key_is_turned_off_and_on_again(aws: Cloud) -> None:
    aws.iam.create_user(UserName="ann")
    key = aws.iam.create_access_key(UserName="ann")["AccessKey"]["AccessKeyId"]
    aws.iam.create_access_key(UserName="ann")
    containment = aws.containment()
    done = do(containment, "deactivate-access-key", key)
    states = {
        each["AccessKeyId"]: each["Status"]
        for each in aws.iam.list_access_keys(UserName="ann")["AccessKeyMetadata"]
    }
    assert states.pop(key) == "Inactive"
    assert set(states.values()) == {"Active"}
    again = containment.plan("deactivate-access-key", Target(key))
    assert (again.calls, again.undo) == ((), ())
    assert "as it was" in containment.undo(done)
    assert "as it did before" in containment.undo(done)
    keys = aws.iam.list_access_keys(UserName="ann")["AccessKeyMetadata"]
    assert {each["Status"] for each in keys} == {"Active"}


def test_a_user_is_denied_everything_and_let_in_again(aws: Cloud) -> None:
    aws.iam.create_user(UserName="ann")
    containment = aws.containment()
    done = do(containment, "deny-user", "ann")
    (name,) = aws.iam.list_user_policies(UserName="ann")["PolicyNames"]
    document = aws.iam.get_user_policy(UserName="ann", PolicyName=name)["PolicyDocument"]
    assert document["Statement"] == [{"Effect": "Deny", "Action": ["*"], "Resource": ["*"]}]
    containment.undo(done)
    assert aws.iam.list_user_policies(UserName="ann")["PolicyNames"] == []


BLOCKED = dict.fromkeys(
    ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True
)


@pytest.mark.parametrize("before", [None, {**BLOCKED, "BlockPublicPolicy": False}])
def test_a_bucket_is_closed_and_opened_as_far_as_it_was(aws: Cloud, before: dict[str, bool] | None) -> None:
    aws.s3.create_bucket(Bucket="files", CreateBucketConfiguration={"LocationConstraint": REGION})
    if before is None:
        aws.s3.delete_public_access_block(Bucket="files")
    else:
        aws.s3.put_public_access_block(Bucket="files", PublicAccessBlockConfiguration=before)
    containment = aws.containment()
    done = do(containment, "block-public-access", "files")
    found = aws.s3.get_public_access_block(Bucket="files")["PublicAccessBlockConfiguration"]
    assert found == BLOCKED
    containment.undo(done)
    if before is None:
        with pytest.raises(aws.s3.exceptions.ClientError, match="NoSuchPublicAccessBlockConfiguration"):
            aws.s3.get_public_access_block(Bucket="files")
    else:
        assert aws.s3.get_public_access_block(Bucket="files")["PublicAccessBlockConfiguration"] == before


def test_an_instance_asks_for_tokens_and_no_longer(aws: Cloud) -> None:
    instance, _ = aws.instance()
    aws.ec2.modify_instance_metadata_options(
        InstanceId=instance, HttpTokens="optional", HttpPutResponseHopLimit=3, HttpEndpoint="enabled"
    )
    before = aws.described(instance)["MetadataOptions"]
    containment = aws.containment()
    done = do(containment, "require-imdsv2", instance)
    options = aws.described(instance)["MetadataOptions"]
    assert (options["HttpTokens"], options["HttpPutResponseHopLimit"]) == ("required", 1)
    assert options["HttpEndpoint"] == "enabled"
    containment.undo(done)
    assert aws.described(instance)["MetadataOptions"] == before


def test_an_instance_is_isolated_and_connected_again(aws: Cloud) -> None:
    instance, vpc = aws.instance()
    group = aws.group(vpc)
    other = aws.group(aws.ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"], "other")
    of = Target(instance, region=REGION)

    def groups() -> list[list[str]]:
        interfaces = aws.described(instance)["NetworkInterfaces"]
        return [[each["GroupId"] for each in one["Groups"]] for one in interfaces]

    before = groups()
    containment = aws.containment(other, group)  # the one of the instance's VPC is taken
    done = do(containment, "isolate-instance", instance)
    assert groups() == [[group]]
    containment.undo(done)
    assert groups() == before
    with pytest.raises(ContainmentError, match="none of the isolation security groups is in"):
        aws.containment(other).plan("isolate-instance", of)
    with pytest.raises(ContainmentError, match="no security group to isolate with"):
        aws.containment().plan("isolate-instance", of)


def test_a_group_that_lets_everything_out_isolates_nothing(aws: Cloud) -> None:
    """Such as a new one: AWS gives it a rule that lets everything out."""
    instance, vpc = aws.instance()
    new = aws.ec2.create_security_group(GroupName="new", Description="x", VpcId=vpc)["GroupId"]
    of = Target(instance, region=REGION)
    with pytest.raises(ContainmentError, match=f"{new} is open to all addresses"):
        aws.containment(new).plan("isolate-instance", of)
    good = aws.group(vpc)
    (call,) = aws.containment(new, good).plan("isolate-instance", of).calls
    assert call.parameters["Groups"] == [good]


# --- where a thing is --------------------------------------------------------------------------------------


def test_an_instance_is_acted_on_where_it_is(aws: Cloud) -> None:
    """The logs also name where its stolen credentials were used: AWS is asked, and nothing is done there."""
    far = "us-west-2"
    made = aws.client("ec2", far).run_instances(ImageId="ami-12c6146b", MinCount=1, MaxCount=1)
    instance = made["Instances"][0]["InstanceId"]
    containment = aws.containment()
    named = (Place(ACCOUNT, "ap-southeast-1"), Place("", far), Place("999988887777", REGION))
    of = containment.located("require-imdsv2", Target(instance), lambda: named)
    assert of == Target(instance, ACCOUNT, far)
    plan = containment.plan("require-imdsv2", of)
    assert {each.region for each in (*plan.calls, *plan.undo)} == {far}
    assert f"--region {far} " in str(plan.calls[0])
    done = containment.apply(plan)

    def tokens() -> str:
        found = aws.client("ec2", far).describe_instances(InstanceIds=[instance])
        return str(found["Reservations"][0]["Instances"][0]["MetadataOptions"]["HttpTokens"])

    assert tokens() == "required"
    containment.undo(done)
    assert tokens() == "optional"


def test_a_region_that_is_not_known_is_no_reason_to_try_one(aws: Cloud) -> None:
    instance, _ = aws.instance()
    nowhere = aws.containment(access=Access(endpoint_url=aws.access.endpoint_url))
    with pytest.raises(ContainmentError, match=r"the logs do not tell.*arn:aws:ec2:REGION:"):
        nowhere.located("require-imdsv2", Target(instance), tuple)
    with pytest.raises(ContainmentError, match=r"us-west-2: .*InvalidInstanceID"):
        nowhere.located("require-imdsv2", Target(instance), lambda: (Place(ACCOUNT, "us-west-2"),))
    with pytest.raises(ContainmentError, match=f"region of {instance} is not known"):
        aws.containment().plan("require-imdsv2", Target(instance))
    arn = f"arn:aws:ec2:{REGION}:{ACCOUNT}:instance/{instance}"
    named = nowhere.located("require-imdsv2", target("require-imdsv2", arn), tuple)
    assert named == Target(instance, ACCOUNT, REGION)


def test_a_text_of_the_logs_becomes_no_host(aws: Cloud) -> None:
    instance, _ = aws.instance()
    nowhere = aws.containment(access=Access(endpoint_url=aws.access.endpoint_url))
    for region in ("evil.example/", "eu-west-1.evil.example", "eu-west-1@x", "EU-WEST-1", "a" * 200):
        place = Place("", region)
        with pytest.raises(ContainmentError, match="is no region"):
            nowhere.located("require-imdsv2", Target(instance), (place,).__iter__)


def test_an_instance_of_another_account_is_left_alone(aws: Cloud) -> None:
    instance, _ = aws.instance()
    with pytest.raises(ContainmentError, match="of account 999988887777, our credentials are of"):
        aws.containment().located(
            "require-imdsv2", Target(instance), lambda: (Place("999988887777", REGION),)
        )


def test_what_was_planned_in_one_account_is_done_and_undone_in_no_other(
    aws: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settings may have come to name another account since; a user of the same name is there, too."""
    aws.iam.create_user(UserName="ann")
    containment = aws.containment()
    plan = containment.plan("deny-user", Target("ann"))
    done = containment.apply(plan)
    assert done.target.account == ACCOUNT
    other = aws.containment()
    monkeypatch.setattr(type(other._cloud), "account", "999988887777")
    for act in (lambda: other.apply(plan), lambda: other.undo(done)):
        with pytest.raises(ContainmentError, match=f"of account {ACCOUNT}, our credentials are of 9999"):
            act()
    assert aws.iam.list_user_policies(UserName="ann")["PolicyNames"] == ["TrailhawkDenyAll"]


def test_aws_may_tell_for_a_while_what_was_before(aws: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """IAM and EC2 are eventually consistent: what is read right after a call may be of before it."""
    aws.role("app")
    real, stale, waited = OurCloud.ask, list[Any](), list[float]()

    def slow(self: OurCloud, service: str, operation: str, **parameters: Any) -> Any:
        if operation == "get_role_policy" and stale:
            raise stale.pop()
        return real(self, service, operation, **parameters)

    settings = ResponseSettings(aws.access)
    containment = Containment(settings, clock=lambda: AT, wait=waited.append)
    plan = containment.plan("revoke-role-sessions", Target("app"))
    with pytest.raises(ContainmentError) as none:
        real(
            containment._cloud, "iam", "get_role_policy", RoleName="app", PolicyName="AWSRevokeOlderSessions"
        )
    monkeypatch.setattr(OurCloud, "ask", slow)
    stale += [none.value] * 2
    done = containment.apply(plan)
    assert (done.after, waited) == (
        {"document": json.loads(plan.calls[0].parameters["PolicyDocument"])},
        [0.5, 1],
    )
    stale += [none.value]
    assert "is as it was" in containment.undo(done)
    assert policies(aws, "app") == {}
    stale += [none.value] * 9
    with pytest.raises(ContainmentError, match="it stands as before"):
        containment.apply(plan)


# --- what is refused ---------------------------------------------------------------------------------------


def test_a_thing_of_another_account_is_left_alone(aws: Cloud) -> None:
    aws.role("app")  # ours has the same name
    with pytest.raises(ContainmentError, match=f"of account 999988887777, our credentials are of {ACCOUNT}"):
        aws.containment().plan("revoke-role-sessions", Target("app", "999988887777"))


def test_nobody_locks_himself_out(aws: Cloud, aws_rights: Rights) -> None:
    everything = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    aws_rights("responder", {"Version": "2012-10-17", "Statement": [everything]})
    key = os.environ["AWS_ACCESS_KEY_ID"]
    for action, name in (("deny-user", "responder"), ("deactivate-access-key", key)):
        with pytest.raises(ContainmentError, match="is who we are ourselves"):
            aws.containment().plan(action, Target(name))


def test_a_role_does_not_revoke_itself(aws: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    aws.role("app")
    arn = f"arn:aws:iam::{ACCOUNT}:role/app"
    own = aws.client("sts").assume_role(RoleArn=arn, RoleSessionName="trailhawk")["Credentials"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", own["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", own["SecretAccessKey"])
    monkeypatch.setenv("AWS_SESSION_TOKEN", own["SessionToken"])
    with pytest.raises(ContainmentError, match="app is who we are ourselves"):
        aws.containment().plan("revoke-role-sessions", Target("app"))


def test_without_credentials_it_says_what_to_do(aws: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(ContainmentError, match=r"give \[respond\.aws\] a profile or a role"):
        aws.containment().plan("deny-user", Target("ann"))


def test_who_takes_a_role_does_not_lock_out_who_he_was(aws: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the user there is no way back to the role."""
    aws.role("responder-role")
    aws.iam.create_user(UserName="responder")
    key = aws.iam.create_access_key(UserName="responder")["AccessKey"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
    access = Access(
        region=REGION,
        endpoint_url=aws.access.endpoint_url,
        role_arn=f"arn:aws:iam::{ACCOUNT}:role/responder-role",
    )
    containment = aws.containment(access=access)
    own = [("deny-user", "responder"), ("deny-user", "Responder")]
    own += [("deactivate-access-key", key["AccessKeyId"])]
    own += [("revoke-role-sessions", "responder-role")]
    for action, name in own:
        with pytest.raises(ContainmentError, match="is who we are ourselves"):
            containment.plan(action, Target(name))


def test_an_instance_does_not_isolate_itself(aws: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    instance, _ = aws.instance()
    aws.role("app")
    own = aws.client("sts").assume_role(RoleArn=f"arn:aws:iam::{ACCOUNT}:role/app", RoleSessionName=instance)[
        "Credentials"
    ]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", own["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", own["SecretAccessKey"])
    monkeypatch.setenv("AWS_SESSION_TOKEN", own["SessionToken"])
    with pytest.raises(ContainmentError, match="is who we are ourselves"):
        aws.containment().located("isolate-instance", Target(instance), tuple)


def test_sessions_of_this_very_second_end_too(aws: Cloud) -> None:
    aws.role("app")
    settings = ResponseSettings(aws.access)
    later = Containment(settings, clock=lambda: AT.replace(microsecond=1), wait=lambda _: None)
    (call,) = later.plan("revoke-role-sessions", Target("app")).calls
    assert "2026-03-01T12:00:01Z" in call.parameters["PolicyDocument"]


@pytest.mark.parametrize("name", ["app; rm -rf /", "../app", "app\n", "a" * 129, "", "{{ 7 * 7 }}", "*"])
@pytest.mark.parametrize("action", ACTIONS)
def test_a_name_that_is_none_goes_nowhere(aws: Cloud, action: str, name: str) -> None:
    with pytest.raises(ContainmentError, match="is none of"):
        aws.containment().plan(action, Target(name))
    with pytest.raises(UsageError, match="is none of"):
        target(action, name)


def test_faults_of_aws_are_told(aws: Cloud) -> None:
    aws.role("aws-made", path="/aws-service-role/ec2.amazonaws.com/")
    containment = aws.containment()
    with pytest.raises(ContainmentError, match="NoSuchEntity"):
        containment.plan("revoke-role-sessions", Target("nobody"))
    with pytest.raises(ContainmentError, match="linked to a service"):
        containment.plan("revoke-role-sessions", Target("aws-made"))
    aws.role("AWSReservedSSO_Admin_0123456789abcdef", path="/aws-reserved/sso.amazonaws.com/eu-west-1/")
    with pytest.raises(ContainmentError, match="IAM Identity Center"):
        containment.plan("revoke-role-sessions", Target("AWSReservedSSO_Admin_0123456789abcdef"))
    with pytest.raises(ContainmentError, match="NoSuchEntity"):
        containment.plan("deactivate-access-key", Target("AKIAIOSFODNN7EXAMPLE"))
    with pytest.raises(ContainmentError, match="NoSuchEntity"):
        containment.plan("deny-user", Target("nobody"))
    with pytest.raises(ContainmentError, match="InvalidInstanceID"):
        containment.plan("require-imdsv2", Target("i-0123456789abcdef0", region=REGION))


def test_targets_are_found_among_entities() -> None:
    found = [
        entity(AWS_PRINCIPAL, Arn="arn:aws:iam::111122223333:role/team/app"),
        entity(AWS_SESSION, Id="AROA:i-1", Arn="arn:aws:sts::111122223333:assumed-role/other/i-1"),
        entity(AWS_PRINCIPAL, Arn="arn:aws:iam::111122223333:user/ann"),
        entity(AWS_PRINCIPAL, Arn="arn:aws:iam::111122223333:root"),
        entity(AWS_ACCESS_KEY, Id="AKIAIOSFODNN7EXAMPLE"),
        entity(AWS_ACCESS_KEY, Id="ASIAIOSFODNN7EXAMPLE"),
        entity(AWS_BUCKET, Name="files"),
        entity(AWS_INSTANCE, Id="i-0123456789abcdef0"),
    ]
    by_action = {action: [each.name for each in targets(action, found)] for action in ACTIONS}
    assert by_action == {
        "revoke-role-sessions": ["app", "other"],
        "deactivate-access-key": ["AKIAIOSFODNN7EXAMPLE"],
        "deny-user": ["ann"],
        "block-public-access": ["files"],
        "require-imdsv2": ["i-0123456789abcdef0"],
        "isolate-instance": ["i-0123456789abcdef0"],
    }
    assert targets("revoke-role-sessions", found)[0].account == "111122223333"


def test_a_target_may_be_named_by_its_arn() -> None:
    assert target("revoke-role-sessions", "arn:aws:iam::111122223333:role/team/app") == Target(
        "app", "111122223333"
    )
    assert target("deny-user", "arn:aws-cn:iam::111122223333:user/ann") == Target("ann", "111122223333")
    instance = "arn:aws:ec2:eu-west-1:111122223333:instance/i-0123456789abcdef0"
    assert target("isolate-instance", instance) == Target("i-0123456789abcdef0", "111122223333", "eu-west-1")
    (found,) = targets("isolate-instance", [entity(AWS_INSTANCE, Id=instance)])
    assert found.region == "eu-west-1"
    for action, name in (("deny-user", "arn:aws:iam::111122223333:role/app"), ("deny-user", instance)):
        with pytest.raises(UsageError, match="is none of users"):
            target(action, name)


# --- rights ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["revoke-role-sessions", "deactivate-access-key", "deny-user"])
def test_the_printed_policy_is_enough(aws: Cloud, aws_rights: Rights, action: str) -> None:
    aws.role("app")
    aws.iam.create_user(UserName="ann")
    key = aws.iam.create_access_key(UserName="ann")["AccessKey"]["AccessKeyId"]
    name = {"revoke-role-sessions": "app", "deactivate-access-key": key, "deny-user": "ann"}[action]
    policy = permissions([action])
    if action != "revoke-role-sessions":
        for statement in policy["Statement"]:
            statement["Resource"] = "*"  # moto knows the ARN of a role, not of a user
    aws_rights("responder", policy)
    containment = aws.containment()
    done = do(containment, action, name)
    assert "as it was" in containment.undo(done)


def test_without_the_rights_aws_says_which(aws: Cloud, aws_rights: Rights) -> None:
    aws.role("app")
    aws_rights("responder", permissions(["deny-user"]))
    with pytest.raises(ContainmentError, match=r"AccessDenied.*iam:GetRole"):
        aws.containment().plan("revoke-role-sessions", Target("app"))


def test_the_policy_names_no_wildcard_of_actions() -> None:
    for statement in permissions(ACTIONS)["Statement"]:
        assert all("*" not in right for right in statement["Action"])
        assert statement["Resource"] != "*" or all(
            right.split(":")[1].startswith(("Describe", "Get")) for right in statement["Action"]
        )


def test_settings() -> None:
    def read(**values: object) -> ResponseSettings:
        return ResponseSettings.read(Section(Path("trailhawk.toml"), "respond.aws", values))

    found = read(
        role_arn="arn:aws:iam::111122223333:role/responder",
        external_id="x",
        allow_without_approval=["deny-user"],
        isolation_security_groups=["sg-0123456789abcdef0"],
    )
    assert found.allow_without_approval == {"deny-user"}
    assert found.access.role_arn.endswith("responder")
    with pytest.raises(SettingsError, match=r"respond\.aws\.allow_without_approval has 'delete-all'"):
        read(allow_without_approval=["delete-all"])
    with pytest.raises(SettingsError, match="isolation_security_groups has 'default'"):
        read(isolation_security_groups=["default"])
    with pytest.raises(SettingsError, match="no setting"):
        read(allow="x")
