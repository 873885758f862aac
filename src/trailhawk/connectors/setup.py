"""What has to be set up in AWS for a connector: CloudFormation, or the policies alone, with the least rights.

The template is data with the long names of CloudFormation's functions, so that any YAML reader reads it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from trailhawk.connectors.policy import Statement, allow, document
from trailhawk.errors import UsageError

Value = dict[str, object]

_HEAD: Final = """\
# Trailhawk: a bucket's logs for the connector type "{type}".
# Deploy it in the account and region of the bucket:
#   aws cloudformation deploy --template-file trailhawk.yaml --stack-name trailhawk \\
#     --capabilities CAPABILITY_IAM --parameter-overrides BucketName=YOUR-BUCKET
"""
_EXISTING: Final = """\
# CloudFormation cannot change a bucket that is there already. Where CreateBucket is "no", tell it of the
# queue by hand (this replaces the notifications it has; add to them where there are any):
#   aws s3api put-bucket-notification-configuration --bucket YOUR-BUCKET --notification-configuration \\
#     '{"QueueConfigurations": [{"QueueArn": "QUEUE-ARN", "Events": ["s3:ObjectCreated:*"],
#       "Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": "AWSLogs/"}]}}}]}'
"""


@dataclass(frozen=True, slots=True)
class Trust:
    """Who may assume the role: a principal of AWS with an external id, or whoever an issuer vouches for.

    `issuer` is the address of an OpenID Connect provider; '' stands for the external id. `subject` is the
    one that the tokens name: an issuer vouches for others, too.
    """

    issuer: str = ""
    audience: str = "sts.amazonaws.com"
    subject: str = ""

    def __post_init__(self) -> None:
        if self.issuer and not self.issuer.startswith("https://"):
            raise UsageError(f"the issuer {self.issuer!r} is no https:// address")
        if self.issuer and not self.subject:
            raise UsageError(
                "an issuer without a subject lets everybody in that it knows", hint="say --subject"
            )

    @property
    def host(self) -> str:
        return self.issuer.removeprefix("https://").rstrip("/")


ConnectorType = Literal["sqs", "s3"]


def template(kind: ConnectorType, trust: Trust) -> str:
    """The CloudFormation template as YAML."""
    import yaml

    class Plain(yaml.SafeDumper):
        """Writes what is there twice twice: CloudFormation knows no aliases."""

        def ignore_aliases(self, data: object) -> bool:
            return True

    head = _HEAD.format(type=kind) + (_EXISTING if kind == "sqs" else "")
    return head + yaml.dump(stack(kind, trust), Dumper=Plain, sort_keys=False, width=110, allow_unicode=True)


def stack(kind: ConnectorType, trust: Trust) -> Value:
    """The CloudFormation template as data."""
    queue = kind == "sqs"
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": f"Trailhawk: rights{' and queue' if queue else ''} to read the logs of a bucket",
        "Parameters": _parameters(kind, trust),
        "Conditions": {
            "HasKmsKey": {"Fn::Not": [{"Fn::Equals": [{"Ref": "KmsKeyArn"}, ""]}]},
            "LetsDoctorLook": {"Fn::Equals": [{"Ref": "LetDoctorLook"}, "yes"]},
            **({"CreatesBucket": {"Fn::Equals": [{"Ref": "CreateBucket"}, "yes"]}} if queue else {}),
            **(
                {"CreatesProvider": {"Fn::Equals": [{"Ref": "CreateProvider"}, "yes"]}}
                if trust.issuer
                else {}
            ),
        },
        "Resources": {
            **(_queue_resources() if queue else {}),
            **(_provider(trust) if trust.issuer else {}),
            "Role": _role(kind, trust),
        },
        "Outputs": {
            "RoleArn": {"Description": "role_arn of the connector", "Value": _attribute("Role", "Arn")},
            **(
                {
                    "QueueUrl": {"Description": "queue_url of the connector", "Value": {"Ref": "Queue"}},
                    "QueueArn": {
                        "Description": "For the bucket's notification",
                        "Value": _attribute("Queue", "Arn"),
                    },
                }
                if queue
                else {}
            ),
        },
    }


def policies(kind: ConnectorType, trust: Trust) -> dict[str, object]:
    """The policies alone, by what they are attached to; what is written large is to be filled in."""
    queue = "arn:aws:sqs:REGION:ACCOUNT:QUEUE"
    rights: list[Statement] = [
        allow(["s3:GetObject"], ["arn:aws:s3:::BUCKET/PREFIX*"]),
        allow(["s3:ListBucket"], ["arn:aws:s3:::BUCKET"], condition={"StringLike": {"s3:prefix": "PREFIX*"}}),
        allow(["kms:Decrypt"], ["arn:aws:kms:REGION:ACCOUNT:key/KEY"]),
    ]
    made: dict[str, object] = {}
    if kind == "sqs":
        rights.insert(0, allow(_QUEUE_RIGHTS, [queue]))
        made["policy of the queue"] = document(
            allow(
                ["sqs:SendMessage"],
                [queue],
                principal={"Service": "s3.amazonaws.com"},
                condition={
                    "ArnLike": {"aws:SourceArn": "arn:aws:s3:::BUCKET"},
                    "StringEquals": {"aws:SourceAccount": "ACCOUNT"},
                },
            )
        )
    principal = (
        {"Federated": f"arn:aws:iam::ACCOUNT:oidc-provider/{trust.host}"}
        if trust.issuer
        else {"AWS": "arn:aws:iam::TRAILHAWK-ACCOUNT:role/TRAILHAWK"}
    )
    return {
        "policy of the role": document(*rights),
        "trust policy of the role": document(_trust(trust, principal, "EXTERNAL-ID")),
        **made,
    }


_QUEUE_RIGHTS: Final = (
    "sqs:ReceiveMessage",
    "sqs:DeleteMessage",
    "sqs:ChangeMessageVisibility",
    "sqs:GetQueueAttributes",
)
_DOCTOR_RIGHTS: Final = ("s3:GetBucketNotification", "s3:GetBucketLocation", "s3:GetBucketPolicy")
_TRAIL_RIGHTS: Final = (
    "cloudtrail:DescribeTrails",
    "cloudtrail:GetTrailStatus",
    "cloudtrail:GetEventSelectors",
    "cloudtrail:ListPublicKeys",
)


def _parameters(kind: ConnectorType, trust: Trust) -> Value:
    parameters: Value = {
        "BucketName": _parameter("The bucket with the logs."),
        "Prefix": _parameter("How the keys of the logs begin.", "AWSLogs/"),
        "KmsKeyArn": _parameter("The KMS key that the logs are encrypted with; empty for none.", ""),
        "LetDoctorLook": _yes_no(
            "Whether `trailhawk connectors doctor` may look at trail and bucket.", "yes"
        ),
    }
    if kind == "sqs":
        parameters["CreateBucket"] = _yes_no(
            "Whether the bucket is made here; no for one that is there.", "no"
        )
        parameters["Suffix"] = _parameter(
            "How the keys end, for the notification of a bucket made here.", ".gz"
        )
    if trust.issuer:
        parameters["CreateProvider"] = _yes_no(
            f"Whether the provider {trust.host} is made here; no for one that is there.", "no"
        )
    else:
        parameters["TrustedPrincipal"] = _parameter("ARN of the role or user that Trailhawk runs as.")
        parameters["ExternalId"] = {"MinLength": 8, **_parameter("A secret word that Trailhawk shows.")}
    return parameters


def _parameter(description: str, default: str | None = None) -> Value:
    return {"Type": "String", "Description": description, **({} if default is None else {"Default": default})}


def _yes_no(description: str, default: str) -> Value:
    return {**_parameter(description, default), "AllowedValues": ["yes", "no"]}


def _queue_resources() -> Value:
    bucket_arn = _sub("arn:${AWS::Partition}:s3:::${BucketName}")
    return {
        "DeadLetters": {
            "Type": "AWS::SQS::Queue",
            "Properties": {"MessageRetentionPeriod": 1_209_600, "SqsManagedSseEnabled": True},
        },
        "Queue": {
            "Type": "AWS::SQS::Queue",
            "Properties": {
                "MessageRetentionPeriod": 1_209_600,
                "VisibilityTimeout": 300,
                "SqsManagedSseEnabled": True,
                # Far above `tries`: what cannot be taken is set aside in the quarantine before.
                "RedrivePolicy": {
                    "deadLetterTargetArn": _attribute("DeadLetters", "Arn"),
                    "maxReceiveCount": 100,
                },
            },
        },
        "QueuePolicy": {
            "Type": "AWS::SQS::QueuePolicy",
            "Properties": {
                "Queues": [{"Ref": "Queue"}],
                "PolicyDocument": document(
                    {
                        "Effect": "Allow",
                        "Principal": {"Service": "s3.amazonaws.com"},
                        "Action": "sqs:SendMessage",
                        "Resource": _attribute("Queue", "Arn"),
                        "Condition": {
                            "ArnLike": {"aws:SourceArn": bucket_arn},
                            "StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}},
                        },
                    }
                ),
            },
        },
        "Bucket": {
            "Type": "AWS::S3::Bucket",
            "Condition": "CreatesBucket",
            "DependsOn": "QueuePolicy",  # S3 sends a test event when the notification is made
            "DeletionPolicy": "Retain",
            "UpdateReplacePolicy": "Retain",
            "Properties": {
                "BucketName": {"Ref": "BucketName"},
                "PublicAccessBlockConfiguration": {
                    "BlockPublicAcls": True,
                    "BlockPublicPolicy": True,
                    "IgnorePublicAcls": True,
                    "RestrictPublicBuckets": True,
                },
                "NotificationConfiguration": {
                    "QueueConfigurations": [
                        {
                            "Event": "s3:ObjectCreated:*",
                            "Queue": _attribute("Queue", "Arn"),
                            "Filter": {
                                "S3Key": {
                                    "Rules": [
                                        {"Name": "prefix", "Value": {"Ref": "Prefix"}},
                                        {"Name": "suffix", "Value": {"Ref": "Suffix"}},
                                    ]
                                }
                            },
                        }
                    ]
                },
            },
        },
    }


def _provider(trust: Trust) -> Value:
    return {
        "Provider": {
            "Type": "AWS::IAM::OIDCProvider",
            "Condition": "CreatesProvider",
            "Properties": {"Url": trust.issuer.rstrip("/"), "ClientIdList": [trust.audience]},
        }
    }


def _role(kind: ConnectorType, trust: Trust) -> Value:
    objects = _sub("arn:${AWS::Partition}:s3:::${BucketName}/${Prefix}*")
    bucket = _sub("arn:${AWS::Partition}:s3:::${BucketName}")
    rights: list[object] = [
        {"Effect": "Allow", "Action": ["s3:GetObject"], "Resource": objects},
        {
            # Without it S3 says "access denied" of an object that was deleted; a backfill needs it anyway.
            "Effect": "Allow",
            "Action": ["s3:ListBucket"],
            "Resource": bucket,
            "Condition": {"StringLike": {"s3:prefix": _sub("${Prefix}*")}},
        },
        _if(
            "HasKmsKey",
            {"Effect": "Allow", "Action": ["kms:Decrypt"], "Resource": {"Ref": "KmsKeyArn"}},
        ),
        _if("LetsDoctorLook", {"Effect": "Allow", "Action": list(_DOCTOR_RIGHTS), "Resource": bucket}),
        _if("LetsDoctorLook", {"Effect": "Allow", "Action": list(_TRAIL_RIGHTS), "Resource": "*"}),
    ]
    if kind == "sqs":
        rights.insert(
            0, {"Effect": "Allow", "Action": list(_QUEUE_RIGHTS), "Resource": _attribute("Queue", "Arn")}
        )
    principal: Value = (
        {"Federated": _sub(f"arn:${{AWS::Partition}}:iam::${{AWS::AccountId}}:oidc-provider/{trust.host}")}
        if trust.issuer
        else {"AWS": {"Ref": "TrustedPrincipal"}}
    )
    return {
        "Type": "AWS::IAM::Role",
        "Properties": {
            "Description": "Reads logs for Trailhawk",
            "MaxSessionDuration": 3600,
            "AssumeRolePolicyDocument": document(_trust(trust, principal, {"Ref": "ExternalId"})),
            "Policies": [
                {
                    "PolicyName": "read-logs",
                    "PolicyDocument": {"Version": "2012-10-17", "Statement": rights},
                }
            ],
        },
    }


def _trust(trust: Trust, principal: object, external_id: object) -> Statement:
    if not trust.issuer:
        return allow(
            ["sts:AssumeRole"],
            [],
            principal=principal,
            condition={"StringEquals": {"sts:ExternalId": external_id}},
        )
    equals = {f"{trust.host}:aud": trust.audience, f"{trust.host}:sub": trust.subject}
    return allow(
        ["sts:AssumeRoleWithWebIdentity"], [], principal=principal, condition={"StringEquals": equals}
    )


def _sub(text: str) -> Value:
    return {"Fn::Sub": text}


def _attribute(resource: str, name: str) -> Value:
    return {"Fn::GetAtt": [resource, name]}


def _if(condition: str, value: object) -> Value:
    return {"Fn::If": [condition, value, {"Ref": "AWS::NoValue"}]}
