"""What has to be set up in AWS for a connector: CloudFormation, or the policies alone, with the least rights.

The template is data with the long names of CloudFormation's functions, so that any YAML reader reads it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Final, Literal

from trailhawk.connectors.policy import Statement, allow, document
from trailhawk.errors import UsageError

Value = dict[str, object]

_HEAD: Final = """\
# Trailhawk: a bucket's logs for the connector type "{type}".
# Deploy it in the account and region of the bucket:
#   aws cloudformation deploy --template-file trailhawk.yaml --stack-name trailhawk \\
#     --capabilities CAPABILITY_IAM --parameter-overrides {parameters}
"""
_EXISTING: Final = """\
# CloudFormation cannot change a bucket that is there already. Where CreateBucket is "no", tell it of the
# queue by hand (this replaces the notifications it has; add to them where there are any):
#   aws s3api put-bucket-notification-configuration --bucket YOUR-BUCKET --notification-configuration \\
#     '{"QueueConfigurations": [{"QueueArn": "QUEUE-ARN", "Events": ["s3:ObjectCreated:*"],
#       "Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": "AWSLogs/"}]}}}]}'
# A prefix can tell one place only: where it tells a topic of SNS already, give TopicArn, and the queue
# subscribes to that.
"""
_PROVIDER: Final = """\
# Where CreateProvider is "no" the provider that is there must have the audience {audience} in its list.
"""
_KEY: Final = """\
# With KmsKeyArn the key's own policy must let the role decrypt, too: see the output KeyPolicyStatement.
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
        if self.issuer and not _ISSUER.fullmatch(self.issuer):
            raise UsageError(
                f"the issuer {self.issuer!r} is no https:// address",
                hint="write it as the claim `iss` of the tokens has it, to the last slash",
            )
        if self.issuer and not 1 <= len(self.audience) <= _MOST_AUDIENCE:
            raise UsageError(f"the audience is empty, or longer than the {_MOST_AUDIENCE} that AWS takes")
        if self.subject and not self.issuer:
            raise UsageError("a subject is one of an issuer's tokens", hint="say --issuer")
        if self.issuer and not self.subject:
            raise UsageError(
                "an issuer without a subject lets everybody in that it knows", hint="say --subject"
            )

    @property
    def host(self) -> str:
        """The issuer as ARNs and condition keys write it. A slash at its end is a part of it: tokens of
        Azure have one, and AWS compares letter by letter."""
        return self.issuer.removeprefix("https://")


ConnectorType = Literal["sqs", "s3"]

_ISSUER: Final = re.compile(r"https://[A-Za-z0-9.-]+(?:/[!-~]*)?")
_MOST_AUDIENCE: Final = 255
_PARTITION: Final = "aws[a-z-]*"


def template(kind: ConnectorType, trust: Trust) -> str:
    """The CloudFormation template as YAML."""
    import yaml

    class Plain(yaml.SafeDumper):
        """Writes what is there twice twice: CloudFormation knows no aliases."""

        def ignore_aliases(self, data: object) -> bool:
            return True

    given = "BucketName=YOUR-BUCKET" + ("" if trust.issuer else " TrustedPrincipal=ARN ExternalId=WORD")
    head = _HEAD.format(type=kind, parameters=given)
    head += (_EXISTING if kind == "sqs" else "") + _KEY
    head += _PROVIDER.format(audience=trust.audience) if trust.issuer else ""
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
            **(_queue_conditions() if queue else {}),
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
            "KeyPolicyStatement": {
                "Condition": "HasKmsKey",
                "Description": "What the policy of the KMS key must have",
                "Value": _sub(json.dumps(_decrypting("${Role.Arn}", "*"))),
            },
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
        "in the policy of the KMS key": _decrypting("arn:aws:iam::ACCOUNT:role/ROLE", "*"),
        **made,
    }


def _decrypting(role: str, key: str) -> Statement:
    return allow(["kms:Decrypt"], [key], principal={"AWS": role})


_QUEUE_RIGHTS: Final = (
    "sqs:ReceiveMessage",
    "sqs:DeleteMessage",
    "sqs:ChangeMessageVisibility",
    "sqs:GetQueueAttributes",
)
_DOCTOR_RIGHTS: Final = ("s3:GetBucketNotification", "s3:GetBucketPolicy")
_TOPIC_RIGHTS: Final = (
    "sns:GetTopicAttributes",
    "sns:ListSubscriptionsByTopic",
    "sns:GetSubscriptionAttributes",
)
_TRAIL_RIGHTS: Final = (
    "cloudtrail:DescribeTrails",
    "cloudtrail:GetTrailStatus",
    "cloudtrail:GetEventSelectors",
    "cloudtrail:ListPublicKeys",
)


def _parameters(kind: ConnectorType, trust: Trust) -> Value:
    parameters: Value = {
        "BucketName": {
            **_parameter("The bucket with the logs."),
            "AllowedPattern": "[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]",
        },
        "Prefix": _parameter("How the keys of the logs begin.", "AWSLogs/"),
        "KmsKeyArn": {
            **_parameter("ARN of the KMS key that the logs are encrypted with; empty for none.", ""),
            # A right is given on a key: the ARN of an alias would give none.
            "AllowedPattern": f"(arn:{_PARTITION}:kms:[a-z0-9-]+:[0-9]{{12}}:key/[A-Za-z0-9-]+)?",
        },
        "LetDoctorLook": _yes_no(
            "Whether `trailhawk connectors doctor` may look at trail and bucket.", "yes"
        ),
    }
    if kind == "sqs":
        parameters["CreateBucket"] = _yes_no(
            "Whether the bucket is made here, for this account's CloudTrail and flow logs; no for one there.",
            "no",
        )
        parameters["Suffix"] = _parameter(
            "How the keys end, for the notification of a bucket made here; empty for any.", ".gz"
        )
        parameters["TopicArn"] = {
            **_parameter("A topic of SNS that the bucket tells already; empty for none.", ""),
            "AllowedPattern": f"(arn:{_PARTITION}:sns:[a-z0-9-]+:[0-9]{{12}}:[A-Za-z0-9_-]{{1,256}})?",
        }
    if trust.issuer:
        parameters["CreateProvider"] = _yes_no(
            f"Whether the provider {trust.host} is made here; no for one that is there.", "no"
        )
    else:
        parameters["TrustedPrincipal"] = {
            **_parameter("ARN of the role or user that Trailhawk runs as, or of its account's root."),
            # A session's ARN, as `aws sts get-caller-identity` prints it, would be trusted until it ends.
            "AllowedPattern": f"arn:{_PARTITION}:iam::[0-9]{{12}}:(root|(role|user)/.+)",
        }
        parameters["ExternalId"] = {
            **_parameter("A secret word that Trailhawk shows."),
            "MinLength": 8,
            "MaxLength": 1224,
            "AllowedPattern": "[A-Za-z0-9_+=,.@:/-]*",
        }
    return parameters


def _queue_conditions() -> Value:
    def given(name: str) -> Value:
        return {"Fn::Not": [{"Fn::Equals": [{"Ref": name}, ""]}]}

    return {
        "CreatesBucket": {"Fn::Equals": [{"Ref": "CreateBucket"}, "yes"]},
        "HasTopic": given("TopicArn"),
        "LetsDoctorLookAtTopic": {"Fn::And": [{"Condition": "LetsDoctorLook"}, {"Condition": "HasTopic"}]},
        "HasPrefix": given("Prefix"),
        "HasSuffix": given("Suffix"),
        "HasFilter": {"Fn::Or": [{"Condition": "HasPrefix"}, {"Condition": "HasSuffix"}]},
    }


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
                "PolicyDocument": {
                    "Version": "2012-10-17",
                    "Statement": [
                        # A bucket's ARN names no account, and its name may become another's.
                        _may_send("s3.amazonaws.com", bucket_arn, account={"Ref": "AWS::AccountId"}),
                        _if("HasTopic", _may_send("sns.amazonaws.com", {"Ref": "TopicArn"})),
                    ],
                },
            },
        },
        "Subscription": {
            "Type": "AWS::SNS::Subscription",
            "Condition": "HasTopic",
            "DependsOn": "QueuePolicy",
            "Properties": {
                "TopicArn": {"Ref": "TopicArn"},
                "Protocol": "sqs",
                "Endpoint": _attribute("Queue", "Arn"),
                "RawMessageDelivery": True,
                "Region": {"Fn::Select": [3, {"Fn::Split": [":", {"Ref": "TopicArn"}]}]},
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
                            "Filter": _if(
                                "HasFilter",
                                {
                                    "S3Key": {
                                        "Rules": [
                                            _if(
                                                "HasPrefix",
                                                {"Name": "prefix", "Value": {"Ref": "Prefix"}},
                                            ),
                                            _if(
                                                "HasSuffix",
                                                {"Name": "suffix", "Value": {"Ref": "Suffix"}},
                                            ),
                                        ]
                                    }
                                },
                            ),
                        }
                    ]
                },
            },
        },
        "BucketPolicy": {
            "Type": "AWS::S3::BucketPolicy",
            "Condition": "CreatesBucket",
            "DeletionPolicy": "Retain",
            "UpdateReplacePolicy": "Retain",
            "Properties": {
                "Bucket": {"Ref": "Bucket"},
                "PolicyDocument": {"Version": "2012-10-17", "Statement": _delivering(bucket_arn)},
            },
        },
    }


def _may_send(service: str, source: object, *, account: object = None) -> Value:
    """A service may send to the queue, for this source alone."""
    condition: Value = {"ArnLike": {"aws:SourceArn": source}}
    if account is not None:
        condition["StringEquals"] = {"aws:SourceAccount": account}
    return {
        "Effect": "Allow",
        "Principal": {"Service": service},
        "Action": "sqs:SendMessage",
        "Resource": _attribute("Queue", "Arn"),
        "Condition": condition,
    }


def _delivering(bucket: object) -> list[Value]:
    """What CloudTrail and the delivery of flow logs need to write into a bucket, for this account alone."""
    services = {"Service": ["cloudtrail.amazonaws.com", "delivery.logs.amazonaws.com"]}
    ours = {
        "aws:SourceArn": [
            _sub("arn:${AWS::Partition}:cloudtrail:*:${AWS::AccountId}:trail/*"),
            _sub("arn:${AWS::Partition}:logs:*:${AWS::AccountId}:*"),
        ]
    }
    # A prefix of the trail's own comes before "AWSLogs".
    objects = _sub("arn:${AWS::Partition}:s3:::${BucketName}/*AWSLogs/${AWS::AccountId}/*")
    return [
        {
            "Sid": "DeliveryLooks",
            "Effect": "Allow",
            "Principal": services,
            "Action": "s3:GetBucketAcl",
            "Resource": bucket,
            "Condition": {"ArnLike": ours},
        },
        {
            "Sid": "DeliveryWrites",
            "Effect": "Allow",
            "Principal": services,
            "Action": "s3:PutObject",
            "Resource": objects,
            "Condition": {
                "ArnLike": ours,
                "StringEquals": {"s3:x-amz-acl": "bucket-owner-full-control"},
            },
        },
        {
            "Sid": "EncryptedOnly",
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:*",
            "Resource": [bucket, _sub("arn:${AWS::Partition}:s3:::${BucketName}/*")],
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        },
    ]


def _provider(trust: Trust) -> Value:
    return {
        "Provider": {
            "Type": "AWS::IAM::OIDCProvider",
            "Condition": "CreatesProvider",
            "Properties": {"Url": trust.issuer, "ClientIdList": [trust.audience]},
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
        topic = {"Effect": "Allow", "Action": list(_TOPIC_RIGHTS), "Resource": {"Ref": "TopicArn"}}
        rights.append(_if("LetsDoctorLookAtTopic", topic))
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
