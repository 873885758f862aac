"""One CloudTrail record of each kind of caller, with the fields CloudTrail writes and in its order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from random import Random
from typing import NamedTuple

from .text import hex_id, identifier, iso, long_time, opaque, s3_request_id, uuid
from .world import Bucket, Instance, Issue, Key, Person, Role

Json = dict[str, object]
ANONYMOUS = "ANONYMOUS_PRINCIPAL"
"""The account of somebody who did not sign in."""


class Record(NamedTuple):
    """One record before it is written: when, whose trail takes it, its event id, and the JSON object."""

    at: int
    account: str
    region: str
    event_id: str
    body: Json


@dataclass(frozen=True)
class Api:
    """One API of one service. `data` marks data events (object and item level)."""

    service: str
    name: str
    read: bool = True
    data: bool = False
    version: str = "1.11"

    @property
    def source(self) -> str:
        return f"{self.service}.amazonaws.com"


@dataclass(frozen=True)
class Caller:
    """Who calls and from where: the `userIdentity` and what stands beside it."""

    identity: Mapping[str, object]
    account: str
    address: str
    agent: str
    endpoint: str = ""
    console: bool = False

    @property
    def forwarded(self) -> bool:
        """A service calls on the caller's behalf, or for itself: there is no client TLS to tell of."""
        return self.address.endswith(".amazonaws.com") or self.address == "AWS Internal"

    def through(self, service: str) -> Caller:
        """The same principal when a service makes the call for it (CloudFormation, Athena, ...)."""
        name = f"{service}.amazonaws.com"
        return replace(
            self,
            identity={**self.identity, "invokedBy": name},
            address=name,
            agent=name,
            endpoint="",
            console=False,
        )


_OLD_CLIENTS = ("aws-cli/1.18", "Boto/2", "APN/1.0", "S3Console", "Mozilla")


def _tls(agent: str) -> tuple[str, str]:
    """TLS version and cipher that a client agrees on."""
    if agent.startswith(_OLD_CLIENTS):
        return "TLSv1.2", "ECDHE-RSA-AES128-GCM-SHA256"
    return "TLSv1.3", "TLS_AES_128_GCM_SHA256"


def call(
    rng: Random,
    who: Caller,
    at: int,
    api: Api,
    *,
    region: str = "us-east-1",
    account: str = "",
    request: Json | None = None,
    response: Json | None = None,
    resources: list[Json] | None = None,
    extra: Json | None = None,
    error: tuple[str, str] | None = None,
    host: str = "",
    shared_id: str = "",
    request_id: str = "",
    kind: str = "AwsApiCall",
    api_version: str = "",
    details: Json | None = None,
) -> Record:
    """The record of one call. `error` is (errorCode, errorMessage); `account` is whose trail takes it."""
    event_id = uuid(rng)
    recipient = account or who.account
    s3 = api.service == "s3"
    body: Json = {
        "eventVersion": api.version,
        "userIdentity": who.identity,
        "eventTime": iso(at),
        "eventSource": api.source,
        "eventName": api.name,
        "awsRegion": region,
        "sourceIPAddress": who.address,
        # S3 wraps the client's user agent in brackets; other services do not.
        "userAgent": f"[{who.agent}]" if s3 and not who.forwarded else who.agent,
    }
    if error:
        body["errorCode"], body["errorMessage"] = error
    body["requestParameters"] = request
    body["responseElements"] = response
    if extra is not None:
        body["additionalEventData"] = extra
    body["requestID"] = request_id or (s3_request_id(rng) if s3 else uuid(rng))
    body["eventID"] = event_id
    body["readOnly"] = api.read
    if resources is not None:
        body["resources"] = resources
    body["eventType"] = kind
    if api_version:
        body["apiVersion"] = api_version
    body["managementEvent"] = not api.data
    body["recipientAccountId"] = recipient
    if details is not None:
        body["serviceEventDetails"] = details
    if shared_id:
        body["sharedEventID"] = shared_id
    if who.endpoint:
        body["vpcEndpointId"] = who.endpoint
        body["vpcEndpointAccountId"] = who.account
    body["eventCategory"] = "Data" if api.data else "Management"
    if not who.forwarded:
        version, cipher = _tls(who.agent)
        body["tlsDetails"] = {
            "tlsVersion": version,
            "cipherSuite": cipher,
            "clientProvidedHostHeader": host or f"{api.service}.{region}.amazonaws.com",
        }
    if who.console:
        body["sessionCredentialFromConsole"] = "true"
    return Record(at, recipient, region, event_id, body)


# Who calls.


def user(person: Person, account: str, address: str, agent: str) -> Caller:
    """An IAM user with a long-lived access key."""
    return Caller(
        {
            "type": "IAMUser",
            "principalId": person.user_id,
            "arn": f"arn:aws:iam::{account}:user/{person.name}",
            "accountId": account,
            "accessKeyId": person.access_key,
            "userName": person.name,
        },
        account,
        address,
        agent,
    )


def console_user(
    person: Person, account: str, address: str, key: str, since: int, *, with_mfa: bool = True
) -> Caller:
    """An IAM user in the web console: a temporary key per sign-in."""
    base = user(person, account, address, person.agent)
    context: Json = {
        "attributes": {"creationDate": iso(since), "mfaAuthenticated": "true" if with_mfa else "false"}
    }
    return replace(
        base, identity={**base.identity, "accessKeyId": key, "sessionContext": context}, console=True
    )


def role_session(
    role: Role,
    session: str,
    key: str,
    since: int,
    address: str,
    agent: str,
    *,
    delivery: str = "",
    mfa: bool = False,
) -> Caller:
    """A session of a role. `delivery` is that of an instance's credentials ("1.0", "2.0")."""
    context: Json = {
        "sessionIssuer": {
            "type": "Role",
            "principalId": role.id,
            "arn": role.arn,
            "accountId": role.account,
            "userName": role.name,
        },
        "attributes": {"creationDate": iso(since), "mfaAuthenticated": "true" if mfa else "false"},
    }
    if delivery:
        context["ec2RoleDelivery"] = delivery
    identity: Json = {
        "type": "AssumedRole",
        "principalId": f"{role.id}:{session}",
        "arn": role.session_arn(session),
        "accountId": role.account,
        "accessKeyId": key,
        "sessionContext": context,
    }
    return Caller(identity, role.account, address, agent)


@lru_cache(maxsize=4096)
def _instance_identity(role: Role, instance: str, key: Key, since: int) -> Caller:
    return role_session(role, instance, key.id, since, "", "", delivery=key.delivery)


def instance_session(
    instance: Instance, at: int, agent: str, *, issue: Issue | None = None, key: Key | None = None
) -> Caller:
    """An instance's own use of its role at a moment, from the address it has then.

    The credentials are the newest, and of those the application's key, unless others are given.
    """
    issue = issue or instance.issue(at)
    caller = _instance_identity(instance.role, instance.id, key or issue.application_key, issue.at)
    return Caller(caller.identity, caller.account, instance.address(at), agent)


def service(name: str, account: str) -> Caller:
    """An AWS service in its own name."""
    host = f"{name}.amazonaws.com"
    return Caller({"type": "AWSService", "invokedBy": host}, account, host, host)


def foreign(who: Caller, account: str) -> Caller:
    """A caller of another account as the owner of the resource sees it."""
    return replace(
        who,
        identity={
            "type": "AWSAccount",
            "principalId": who.identity["principalId"],
            "accountId": who.account,
        },
        account=account,
        endpoint="",
    )


def federated_user(person: Person, account: str, address: str, agent: str, provider: str) -> Caller:
    """Somebody from single sign-on about to take a role (AssumeRoleWithSAML)."""
    identity: Json = {
        "type": "SAMLUser",
        "principalId": f"{provider}:{person.name}",
        "userName": person.name,
        "identityProvider": provider,
    }
    return Caller(identity, account, address, agent)


def pipeline_user(account: str, subject: str, address: str, agent: str) -> Caller:
    """A hosted build job about to take a role with its own token (AssumeRoleWithWebIdentity)."""
    provider = f"arn:aws:iam::{account}:oidc-provider/token.actions.githubusercontent.com"
    identity: Json = {
        "type": "WebIdentityUser",
        "principalId": f"{provider}:sts.amazonaws.com:{subject}",
        "userName": subject,
        "identityProvider": provider,
    }
    return Caller(identity, account, address, agent)


def sign_on_user(person: Person, account: str, address: str) -> Caller:
    """Somebody in the single sign-on portal: a user of the identity store, not of an account."""
    identity: Json = {
        "type": "IdentityCenterUser",
        "accountId": account,
        "onBehalfOf": {
            "userId": person.user_id.lower(),
            "identityStoreArn": f"arn:aws:identitystore::{account}:identitystore/d-9067a1b2c3",
        },
        "credentialId": person.access_key.lower(),
    }
    return Caller(identity, account, address, person.agent)


def anonymous(account: str, address: str, agent: str) -> Caller:
    """Somebody on the internet without any credentials."""
    identity: Json = {"type": "AWSAccount", "principalId": "", "accountId": ANONYMOUS}
    return Caller(identity, account, address, agent)


def service_itself(name: str, account: str) -> Caller:
    """A service that acts within an account without any principal (AwsServiceEvent); has no `type`."""
    host = f"{name}.amazonaws.com"
    return Caller({"accountId": account, "invokedBy": host}, account, host, host)


# Calls whose record has a shape of its own.

ASSUME_ROLE = Api("sts", "AssumeRole", version="1.08")
ASSUME_ROLE_WITH_SAML = Api("sts", "AssumeRoleWithSAML", version="1.08")
ASSUME_ROLE_WITH_TOKEN = Api("sts", "AssumeRoleWithWebIdentity", version="1.08")


def credentials(rng: Random, key: str, expires: int) -> Json:
    return {
        "accessKeyId": key,
        "sessionToken": "IQoJb3JpZ2luX2VjE" + opaque(rng, 240),
        "expiration": long_time(expires),
    }


def instance_credentials(rng: Random, instance: Instance, at: int) -> list[Record]:
    """EC2 takes credentials for an instance: one AssumeRole a key, all with one request id."""
    issue = instance.issue(at)
    return [
        call(
            rng,
            service("ec2", instance.account),
            issue.at,
            ASSUME_ROLE,
            region=instance.region,
            request={"roleArn": instance.role.arn, "roleSessionName": instance.id},
            response={
                "credentials": credentials(rng, key.id, issue.at + 6 * 3600 + 15 * 60 + rng.randint(0, 1200))
            },
            resources=[_role_resource(instance.role)],
            shared_id=uuid(rng),
            request_id=issue.request_id,
        )
        for key in issue.keys
    ]


def _role_resource(role: Role) -> Json:
    return {"accountId": role.account, "type": "AWS::IAM::Role", "ARN": role.arn}


def assume_role(
    rng: Random,
    who: Caller,
    at: int,
    role: Role,
    session: str,
    *,
    hours: int = 1,
    request: Json | None = None,
    region: str = "us-east-1",
    api: Api = ASSUME_ROLE,
) -> tuple[str, list[Record]]:
    """AssumeRole (or a sibling) by any caller: the new key, and the record in each account that sees it."""
    key = identifier(rng, "ASIA", 16)
    elsewhere = who.account != role.account
    shared = uuid(rng) if elsewhere or who.forwarded else ""
    request_id = uuid(rng)
    full_request: Json = {"roleArn": role.arn, "roleSessionName": session, **(request or {})}
    response: Json = {
        "credentials": credentials(rng, key, at + hours * 3600),
        "assumedRoleUser": {"assumedRoleId": f"{role.id}:{session}", "arn": role.session_arn(session)},
    }
    seen_by = (who, foreign(who, role.account)) if elsewhere else (who,)
    return key, [
        call(
            rng,
            caller,
            at,
            api,
            region=region,
            request=full_request,
            response=response,
            resources=[_role_resource(role)],
            shared_id=shared,
            request_id=request_id,
        )
        for caller in seen_by
    ]


GET_OBJECT = Api("s3", "GetObject", data=True)
HEAD_OBJECT = Api("s3", "HeadObject", data=True)
PUT_OBJECT = Api("s3", "PutObject", read=False, data=True)
LIST_OBJECTS = Api("s3", "ListObjects", data=True)
LIST_BUCKETS = Api("s3", "ListBuckets")


def _transfer(rng: Random, who: Caller, bytes_in: int, bytes_out: int) -> Json:
    transfer: Json = {
        "SignatureVersion": "SigV4",
        "CipherSuite": _tls(who.agent)[1],
        "bytesTransferredIn": bytes_in,
        "AuthenticationMethod": "AuthHeader",
        "x-amz-id-2": opaque(rng, 57),
        "bytesTransferredOut": bytes_out,
    }
    if who.identity.get("accountId") == ANONYMOUS:  # signs nothing
        del transfer["SignatureVersion"], transfer["AuthenticationMethod"]
    return transfer


def _bucket_host(bucket: Bucket) -> str:
    return f"{bucket.name}.s3.{bucket.region}.amazonaws.com"


def _bucket_resource(bucket: Bucket) -> Json:
    return {"accountId": bucket.account, "type": "AWS::S3::Bucket", "ARN": bucket.arn}


def s3_object(
    rng: Random,
    who: Caller,
    at: int,
    api: Api,
    bucket: Bucket,
    key: str,
    size: int,
    *,
    error: tuple[str, str] | None = None,
    account: str = "",
    shared_id: str = "",
) -> Record:
    """An object-level call: `size` bytes out of the bucket, or into it for PutObject."""
    request: Json = {"bucketName": bucket.name, "Host": _bucket_host(bucket), "key": key}
    write = api is PUT_OBJECT
    sent = 0 if write or api is HEAD_OBJECT else size
    if error:
        sent = 0 if api is HEAD_OBJECT else 243
    return call(
        rng,
        who,
        at,
        api,
        region=bucket.region,
        account=account,
        request=request,
        response={"x-amz-server-side-encryption": "AES256"} if write and not error else None,
        extra=_transfer(rng, who, size if write and not error else 0, sent),
        resources=[{"type": "AWS::S3::Object", "ARN": f"{bucket.arn}/{key}"}, _bucket_resource(bucket)],
        error=error,
        host=_bucket_host(bucket),
        shared_id=shared_id,
    )


def list_objects(
    rng: Random,
    who: Caller,
    at: int,
    bucket: Bucket,
    *,
    prefix: str = "",
    delimiter: str = "",
    found: int = 0,
    error: tuple[str, str] | None = None,
) -> Record:
    """A listing (CloudTrail says ListObjects for version 2 too) that gives `found` keys."""
    request: Json = {"list-type": "2", "bucketName": bucket.name, "encoding-type": "url", "prefix": prefix}
    if delimiter:
        request["delimiter"] = delimiter
    request["Host"] = _bucket_host(bucket)
    return call(
        rng,
        who,
        at,
        LIST_OBJECTS,
        region=bucket.region,
        request=request,
        extra=_transfer(rng, who, 0, 243 if error else 310 + 318 * found),
        resources=[
            {"type": "AWS::S3::Object", "ARNPrefix": f"{bucket.arn}/{prefix}"},
            _bucket_resource(bucket),
        ],
        error=error,
        host=_bucket_host(bucket),
    )


def list_buckets(rng: Random, who: Caller, at: int, *, found: int = 12) -> Record:
    host = "s3.us-east-1.amazonaws.com"
    return call(
        rng,
        who,
        at,
        LIST_BUCKETS,
        request={"Host": host},
        extra=_transfer(rng, who, 0, 360 + 130 * found),
        host=host,
    )


def console_login(
    rng: Random, person: Person, account: str, at: int, address: str, *, success: bool = True
) -> Record:
    """A sign-in to the web console with a second factor, or a mistyped password."""
    who = user(person, account, address, person.agent)
    identity = {name: value for name, value in who.identity.items() if name != "accessKeyId"}
    record = call(
        rng,
        replace(who, identity=identity),
        at,
        Api("signin", "ConsoleLogin", read=False, version="1.08"),
        response={"ConsoleLogin": "Success" if success else "Failure"},
        extra={
            "LoginTo": "https://console.aws.amazon.com/console/home?hashArgs=%23&isauthcode=true&state="
            f"hashArgsFromTB_us-east-1_{hex_id(rng, 16)}",
            "MobileVersion": "No",
            "MFAIdentifier": f"arn:aws:iam::{account}:mfa/{person.name}",
            "MFAUsed": "Yes" if success else "No",
        },
        host="us-east-1.signin.aws.amazon.com",
        kind="AwsConsoleSignIn",
    )
    del record.body["requestID"]  # sign-in records have none
    if not success:
        record.body["errorMessage"] = "Failed authentication"
    return record
