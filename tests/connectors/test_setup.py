"""The CloudFormation template: it parses, holds together, and moto makes of it what a connector needs."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from trailhawk.connectors import sqs
from trailhawk.connectors.config import SqsSettings
from trailhawk.connectors.doctor import Verdict, examine
from trailhawk.connectors.setup import ConnectorType, Trust, policies, stack, template
from trailhawk.errors import UsageError

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import FilterRuleTypeDef

    from support.aws import Aws, Store

BY_ID = Trust()
BY_TOKEN = Trust("https://sts.windows.net/tenant/", "api://trailhawk", "object-id")
KEY = "arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
PSEUDO = {"AWS::AccountId", "AWS::NoValue", "AWS::Partition", "AWS::Region"}


def deployed(aws: Aws, trust: Trust, given: dict[str, str]) -> dict[str, str]:
    """What the stack of a queue gives out that moto makes with these parameters."""
    formation = aws.client("cloudformation")
    formation.create_stack(
        StackName="trailhawk",
        TemplateBody=template("sqs", trust),
        Capabilities=["CAPABILITY_IAM"],
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in given.items()],
    )
    (made,) = formation.describe_stacks(StackName="trailhawk")["Stacks"]
    assert made["StackStatus"] == "CREATE_COMPLETE"
    return {each["OutputKey"]: each["OutputValue"] for each in made["Outputs"]}


def found(value: object, name: str) -> Iterator[Any]:
    """The arguments of every use of a function of CloudFormation."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == name:
                yield inner
            yield from found(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from found(inner, name)


@pytest.mark.parametrize("kind", ["sqs", "s3"])
@pytest.mark.parametrize("trust", [BY_ID, BY_TOKEN], ids=["id", "token"])
def test_a_template_parses_and_names_only_what_it_has(kind: ConnectorType, trust: Trust) -> None:
    text = template(kind, trust)
    read = yaml.safe_load(text)
    assert read == json.loads(json.dumps(stack(kind, trust)))
    assert not any(line.strip().startswith(("&", "*")) or " &id" in line for line in text.splitlines())
    named = {*read["Parameters"], *read["Resources"], *PSEUDO}
    assert set(found(read, "Ref")) <= named
    assert {resource for resource, _ in found(read, "Fn::GetAtt")} <= set(read["Resources"])
    used = [each[0] for each in found(read, "Fn::If")]
    used += [*found(read["Resources"], "Condition"), *found(read["Conditions"], "Condition")]
    assert {each for each in used if isinstance(each, str)} == set(read["Conditions"])
    for text in found(read, "Fn::Sub"):
        assert {part.split("}")[0].split(".")[0] for part in text.split("${")[1:]} <= named
    assert set(read["Parameters"]) <= {*found(read, "Ref")} | {
        part.split("}")[0] for text in found(read, "Fn::Sub") for part in text.split("${")[1:]
    }, "no parameter is idle"


def test_rights_are_no_more_than_needed() -> None:
    actions = {
        action
        for statement in found(stack("sqs", BY_ID)["Resources"], "Action")
        for action in (statement if isinstance(statement, list) else [statement])
    }
    assert {action for action in actions if "*" in action} == {"s3:*"}, "what is denied without encryption"
    actions -= {"s3:PutObject"}  # which is the services' that deliver
    assert not any(word in action for action in actions for word in ("Put", "DeleteObject", "CreateBucket"))


def test_a_role_by_token_names_issuer_audience_and_subject() -> None:
    role: Any = policies("s3", BY_TOKEN)["trust policy of the role"]
    (statement,) = role["Statement"]
    assert statement["Action"] == ["sts:AssumeRoleWithWebIdentity"]
    assert statement["Principal"] == {
        "Federated": "arn:aws:iam::ACCOUNT:oidc-provider/sts.windows.net/tenant/"
    }
    assert statement["Condition"] == {
        "StringEquals": {
            "sts.windows.net/tenant/:aud": "api://trailhawk",
            "sts.windows.net/tenant/:sub": "object-id",
        }
    }


@pytest.mark.parametrize("audience", ["", "x" * 256])
def test_an_audience_that_aws_does_not_take(audience: str) -> None:
    with pytest.raises(UsageError, match="audience"):
        Trust("https://x", audience, "subject")


@pytest.mark.parametrize("kind", ["sqs", "s3"])
def test_the_command_in_the_template_gives_all_that_has_no_default(kind: ConnectorType) -> None:
    for trust in (BY_ID, BY_TOKEN):
        command = template(kind, trust).partition("--parameter-overrides ")[2].partition("\n")[0]
        given = {each.partition("=")[0] for each in command.split()}
        parameters: Any = stack(kind, trust)["Parameters"]
        assert given == {name for name, each in parameters.items() if "Default" not in each}


@pytest.mark.parametrize(
    ("name", "value", "fits"),
    [
        ("KmsKeyArn", "", True),
        ("KmsKeyArn", KEY, True),
        ("KmsKeyArn", "alias/logs", False),
        ("KmsKeyArn", "arn:aws:kms:eu-west-1:123456789012:alias/logs", False),
        ("TrustedPrincipal", "arn:aws-cn:iam::123456789012:role/path/name", True),
        ("TrustedPrincipal", "arn:aws:sts::123456789012:assumed-role/name/session", False),
        ("TopicArn", "arn:aws:sns:eu-west-1:123456789012:news", True),
        ("TopicArn", "arn:aws:sns:eu-west-1:123456789012:news.fifo", False),
        ("BucketName", "s3://logs", False),
        ("ExternalId", "a secret", False),
    ],
)
def test_what_a_parameter_takes(name: str, value: str, fits: bool) -> None:
    parameters: Any = stack("sqs", BY_ID)["Parameters"]
    assert bool(re.fullmatch(parameters[name]["AllowedPattern"], value)) == fits


def test_nobody_sends_or_writes_for_another_account() -> None:
    """Each right of a service is bound to an ARN with the account, or to the account (confused deputy)."""
    resources: Any = stack("sqs", BY_ID)["Resources"]
    said = [
        statement
        for name in ("QueuePolicy", "BucketPolicy")
        for each in resources[name]["Properties"]["PolicyDocument"]["Statement"]
        if (statement := each.get("Fn::If", ["", each])[1])["Effect"] == "Allow"
    ]
    assert len(said) == 4
    for statement in said:
        condition = json.dumps(statement["Condition"])
        assert "aws:SourceArn" in condition
        assert "AWS::AccountId" in condition or "TopicArn" in condition


@pytest.mark.parametrize("issuer", ["http://x", "token.actions.githubusercontent.com", "https://x"])
def test_an_issuer_must_be_an_address_with_a_subject(issuer: str) -> None:
    with pytest.raises(UsageError):
        Trust(issuer)
    with pytest.raises(UsageError, match="issuer's tokens"):  # the role would be assumed by an external id
        Trust(subject="system:serviceaccount:default:trailhawk")


def test_the_policies_alone() -> None:
    assert set(policies("sqs", BY_ID)) == {
        "policy of the role",
        "trust policy of the role",
        "policy of the queue",
        "in the policy of the KMS key",
    }
    assert "sqs:" not in json.dumps(policies("s3", BY_ID))


@pytest.mark.filterwarnings("ignore:Tried to parse AWS")  # moto does not know policies of resources
@pytest.mark.parametrize("trust", [BY_ID, BY_TOKEN], ids=["id", "token"])
def test_moto_makes_the_stack_and_logs_arrive_by_it(aws: Aws, store: Store, trust: Trust) -> None:
    given = {"BucketName": "trail", "CreateBucket": "yes", "KmsKeyArn": KEY}
    if not trust.issuer:
        given |= {"TrustedPrincipal": "arn:aws:iam::123456789012:root", "ExternalId": "a-secret-word"}
    outputs = deployed(aws, trust, given)
    (told,) = stack("sqs", trust)["Resources"]["Bucket"]["Properties"]["NotificationConfiguration"].values()  # type: ignore[index]
    rules: list[FilterRuleTypeDef] = [
        {"Name": "prefix", "Value": "AWSLogs/"},
        {"Name": "suffix", "Value": ".gz"},
    ]
    condition, filters, _ = told[0]["Filter"]["Fn::If"]
    assert condition == "HasFilter"
    assert [rule["Fn::If"][1]["Name"] for rule in filters["S3Key"]["Rules"]] == ["prefix", "suffix"]
    aws.s3.put_bucket_notification_configuration(  # moto's CloudFormation leaves it out
        Bucket="trail",
        NotificationConfiguration={
            "QueueConfigurations": [
                {
                    "QueueArn": outputs["QueueArn"],
                    "Events": [told[0]["Event"]],
                    "Filter": {"Key": {"FilterRules": rules}},
                }
            ]
        },
    )
    aws.put("trail", "AWSLogs/1.json.gz")
    aws.put("trail", "elsewhere/1.json.gz")
    settings = SqsSettings("main", outputs["QueueUrl"], aws.access)
    sqs.connector(settings, store.intake()).run(threading.Event(), once=True)
    assert store.events() == ["0"]
    name = outputs["RoleArn"].rpartition("/")[2]
    role = aws.client("iam").get_role_policy(RoleName=name, PolicyName="read-logs")["PolicyDocument"]
    assert "arn:aws:s3:::trail/AWSLogs/*" in json.dumps(role)
    assert KEY in json.dumps(role)
    assert json.loads(outputs["KeyPolicyStatement"])["Principal"] == {"AWS": outputs["RoleArn"]}


@pytest.mark.filterwarnings("ignore:Tried to parse AWS")
def test_moto_makes_a_stack_for_a_topic_that_is_there(aws: Aws) -> None:
    topic = aws.client("sns").create_topic(Name="news")["TopicArn"]
    given = {"BucketName": "trail", "TopicArn": topic, "ExternalId": "a-secret-word"}
    given["TrustedPrincipal"] = "arn:aws:iam::123456789012:root"
    outputs = deployed(aws, BY_ID, given)
    assert set(outputs) == {"RoleArn", "QueueUrl", "QueueArn"}
    assert aws.s3.list_buckets()["Buckets"] == []
    name = outputs["RoleArn"].rpartition("/")[2]
    role = aws.client("iam").get_role_policy(RoleName=name, PolicyName="read-logs")["PolicyDocument"]
    assert topic in json.dumps(role)
    resources: Any = stack("sqs", BY_ID)["Resources"]
    subscription = resources["Subscription"]  # of which moto's CloudFormation knows nothing
    assert subscription["Condition"] == "HasTopic"
    assert subscription["Properties"]["Endpoint"] == {"Fn::GetAtt": ["Queue", "Arn"]}


@pytest.mark.filterwarnings("ignore:Tried to parse AWS")
def test_the_role_lets_the_doctor_look_at_all(aws: Aws, limited: Callable[..., None]) -> None:
    """With rights checked: nothing stays unknown but the trail, which is not there."""
    user = "arn:aws:iam::123456789012:user/reader"
    given = {
        "BucketName": "trail",
        "CreateBucket": "yes",
        "TrustedPrincipal": user,
        "ExternalId": "a-secret-word",
    }
    outputs = deployed(aws, BY_ID, given)
    # What moto's CloudFormation leaves out: the notification, and the queue's policy.
    arn = outputs["QueueArn"]
    resources: Any = stack("sqs", BY_ID)["Resources"]
    statement = resources["QueuePolicy"]["Properties"]["PolicyDocument"]["Statement"][0]
    statement |= {
        "Resource": arn,
        "Condition": {
            "ArnLike": {"aws:SourceArn": "arn:aws:s3:::trail"},
            "StringEquals": {"aws:SourceAccount": "123456789012"},
        },
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    aws.sqs.set_queue_attributes(QueueUrl=outputs["QueueUrl"], Attributes={"Policy": policy})
    queues: Any = {"QueueConfigurations": [{"QueueArn": arn, "Events": ["s3:ObjectCreated:*"]}]}
    aws.s3.put_bucket_notification_configuration(Bucket="trail", NotificationConfiguration=queues)
    aws.put("trail", "AWSLogs/1.json.gz")
    iam, name = aws.client("iam"), outputs["RoleArn"].rpartition("/")[2]
    # moto keeps it as Python writes it, and what CloudFormation leaves out as None.
    rights = ast.literal_eval(iam.get_role_policy(RoleName=name, PolicyName="read-logs")["PolicyDocument"])
    rights["Statement"] = [each for each in rights["Statement"] if each]
    iam.put_role_policy(RoleName=name, PolicyName="read-logs", PolicyDocument=json.dumps(rights))
    limited("sts:AssumeRole")
    access = dataclasses.replace(aws.access, role_arn=outputs["RoleArn"], external_id="a-secret-word")
    settings = SqsSettings("main", outputs["QueueUrl"], access, buckets=("trail",), prefixes=("AWSLogs/",))
    found = {check.name: check for check in examine(settings)}
    # AWS tells the region of a bucket where it refuses its head; moto does not, and asks for s3:HeadBucket.
    left = {name for name, check in found.items() if check.verdict is not Verdict.OK}
    assert left == {"trail", "region of trail"}
    assert all(found[name].verdict is Verdict.UNKNOWN for name in left)
