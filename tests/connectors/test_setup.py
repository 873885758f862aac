"""The CloudFormation template: it parses, holds together, and moto makes of it what a connector needs."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from trailhawk.connectors import sqs
from trailhawk.connectors.config import SqsSettings
from trailhawk.connectors.setup import ConnectorType, Trust, policies, stack, template
from trailhawk.errors import UsageError

if TYPE_CHECKING:
    from conftest import Aws, Store

BY_ID = Trust()
BY_TOKEN = Trust("https://sts.windows.net/tenant/", "api://trailhawk", "object-id")
PSEUDO = {"AWS::AccountId", "AWS::NoValue", "AWS::Partition", "AWS::Region"}


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
    used = [each[0] for each in found(read, "Fn::If")] + list(found(read["Resources"], "Condition"))
    assert {each for each in used if isinstance(each, str)} == set(read["Conditions"])
    for text in found(read, "Fn::Sub"):
        assert {part.split("}")[0] for part in text.split("${")[1:]} <= named
    assert set(read["Parameters"]) <= {*found(read, "Ref")} | {
        part.split("}")[0] for text in found(read, "Fn::Sub") for part in text.split("${")[1:]
    }, "no parameter is idle"


def test_rights_are_no_more_than_needed() -> None:
    actions = {
        action
        for statement in found(stack("sqs", BY_ID)["Resources"], "Action")
        for action in (statement if isinstance(statement, list) else [statement])
    }
    assert not any("*" in action for action in actions)
    assert not any(word in action for action in actions for word in ("Put", "DeleteObject", "CreateBucket"))


def test_a_role_by_token_names_issuer_audience_and_subject() -> None:
    role: Any = policies("s3", BY_TOKEN)["trust policy of the role"]
    (statement,) = role["Statement"]
    assert statement["Action"] == ["sts:AssumeRoleWithWebIdentity"]
    assert statement["Principal"] == {
        "Federated": "arn:aws:iam::ACCOUNT:oidc-provider/sts.windows.net/tenant"
    }
    assert statement["Condition"] == {
        "StringEquals": {
            "sts.windows.net/tenant:aud": "api://trailhawk",
            "sts.windows.net/tenant:sub": "object-id",
        }
    }


@pytest.mark.parametrize("issuer", ["http://x", "token.actions.githubusercontent.com", "https://x"])
def test_an_issuer_must_be_an_address_with_a_subject(issuer: str) -> None:
    with pytest.raises(UsageError):
        Trust(issuer)


def test_the_policies_alone() -> None:
    assert set(policies("sqs", BY_ID)) == {
        "policy of the role",
        "trust policy of the role",
        "policy of the queue",
    }
    assert "sqs:" not in json.dumps(policies("s3", BY_ID))


@pytest.mark.filterwarnings("ignore:Tried to parse AWS..SQS..QueuePolicy")  # moto does not know it
@pytest.mark.parametrize("trust", [BY_ID, BY_TOKEN], ids=["id", "token"])
def test_moto_makes_the_stack_and_logs_arrive_by_it(aws: Aws, store: Store, trust: Trust) -> None:
    given = {"BucketName": "trail", "CreateBucket": "yes", "KmsKeyArn": "arn:aws:kms:eu-west-1:1:key/k"}
    if not trust.issuer:
        given |= {"TrustedPrincipal": "arn:aws:iam::123456789012:root", "ExternalId": "a-secret-word"}
    formation = aws.client("cloudformation")
    formation.create_stack(
        StackName="trailhawk",
        TemplateBody=template("sqs", trust),
        Capabilities=["CAPABILITY_IAM"],
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in given.items()],
    )
    (made,) = formation.describe_stacks(StackName="trailhawk")["Stacks"]
    assert made["StackStatus"] == "CREATE_COMPLETE"
    outputs = {each["OutputKey"]: each["OutputValue"] for each in made["Outputs"]}
    (told,) = stack("sqs", trust)["Resources"]["Bucket"]["Properties"]["NotificationConfiguration"].values()  # type: ignore[index]
    rules = [{"Name": "prefix", "Value": "AWSLogs/"}, {"Name": "suffix", "Value": ".gz"}]
    assert [rule["Name"] for rule in told[0]["Filter"]["S3Key"]["Rules"]] == ["prefix", "suffix"]
    aws.s3.put_bucket_notification_configuration(  # moto's CloudFormation leaves it out
        Bucket="trail",
        NotificationConfiguration={
            "QueueConfigurations": [
                {
                    "QueueArn": outputs["QueueArn"],
                    "Events": [told[0]["Event"]],
                    "Filter": {"Key": {"FilterRules": rules}},  # type: ignore[typeddict-item]
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
    assert "arn:aws:kms:eu-west-1:1:key/k" in json.dumps(role)
