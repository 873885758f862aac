"""Who a connector is to AWS: a role by web identity or external id, a profile, or what the machine has.

Without a role boto3's own chain decides: environment, profile, container, instance role. A role is assumed
when first needed and again a quarter of an hour before its credentials end (ten minutes before at the very
latest), by botocore's refreshing credentials; the token file is read anew each time. When AWS says of any
credentials that they ended, or never were, all of it is done anew: whoever signed in again is found. So it is
when access is denied, now and then: that is all that is said of a session that was revoked, and a new one is
not. Then those at hand are kept until others are found.
"""

from __future__ import annotations

import datetime as dt
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import boto3
import botocore.session
from botocore import UNSIGNED
from botocore import exceptions as aws
from botocore.config import Config
from botocore.credentials import Credentials, DeferredRefreshableCredentials, ReadOnlyCredentials

from trailhawk import __version__
from trailhawk.connectors.config import Access
from trailhawk.connectors.retry import (
    CREDENTIALS,
    DENIED,
    REFUSALS,
    ForeignAnswerError,
    RedirectedError,
    asked_wait,
)
from trailhawk.errors import UsageError

if TYPE_CHECKING:
    from botocore.awsrequest import AWSRequest, AWSResponse
    from botocore.model import OperationModel
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sts import STSClient
    from mypy_boto3_sts.type_defs import AssumeRoleRequestTypeDef, CredentialsTypeDef

Client = TypeVar("Client", "S3Client", "SQSClient", "STSClient")

_MIN_TOKEN_BYTES: Final = 4  # STS takes no shorter one; a file half written has
_MAX_TOKEN_BYTES: Final = 64 * 1024
_PAGE: Final = re.compile(
    rb"(?:\xef\xbb\xbf)?(?:\s|<\?[^>]*>|<!--(?:(?!-->).)*-->)*(?:<!doctype\s+html|<html)",
    re.IGNORECASE | re.DOTALL,
)
"""How a page begins, behind its mark of order, declaration and comments."""
_LISTINGS: Final = ("ListObjectsV2", "ListObjectVersions")
_BEGINS: Final = 1024
_REDIRECTS: Final = (301, 302, 307, 308)
_LONGEST_PLACE: Final = 200
_ASSUMED: Final = "assume-role"
_DENIED_SECONDS: Final = 300.0
"""So long a session is kept at least, however often access is denied."""
_SIGNED_BY: Final = "trailhawk_signed_by"
_HOME_REGIONS: Final = {"aws-cn": "cn-north-1", "aws-us-gov": "us-gov-west-1"}
"""Where STS is asked for roles of other partitions than AWS's first."""


def session(access: Access, *, now: Callable[[], dt.datetime] | None = None) -> boto3.Session:
    """A session of boto3 with these credentials. UsageError for a profile that does not exist."""
    try:
        base = _session(access, _Sought(partial(_found, access.profile)))
    except aws.ProfileNotFound as error:
        raise UsageError(
            f"{error}", hint="`aws configure list-profiles` shows the profiles there are"
        ) from None
    if not access.role_arn:
        return base
    return _session(access, _Sought(partial(_role, access, base, now or (lambda: dt.datetime.now(dt.UTC)))))


def _session(access: Access, held: _Sought) -> boto3.Session:
    core = botocore.session.Session(profile=access.profile or None)
    core.register_component("credential_provider", held)
    return boto3.Session(botocore_session=core, region_name=access.region or None)


def config(access: Access, *, connections: int = 10) -> Config:
    """How clients behave: no retries of their own (`retry` has them), bounded waits."""
    return Config(
        retries={"total_max_attempts": 1, "mode": "standard"},
        connect_timeout=10,
        read_timeout=60,
        tcp_keepalive=True,
        max_pool_connections=connections,
        user_agent_extra=f"trailhawk/{__version__}",
        s3={"addressing_style": "path"} if access.endpoint_url else {},
    )


def s3_client(signed_in: boto3.Session, access: Access, *, connections: int = 10) -> S3Client:
    """A client for S3, with so many connections at once. It follows buckets to their regions by itself."""
    client = signed_in.client(
        "s3", endpoint_url=access.endpoint_url or None, config=config(access, connections=connections)
    )
    # Before the client looks for the bucket's region: without an end where each look is redirected, too.
    lost = "response-received.s3" if access.endpoint_url else "response-received.s3.HeadBucket"
    client.meta.events.register(lost, _is_no_redirect)
    return _looked_after(client, signed_in)


def sqs_client(signed_in: boto3.Session, access: Access, *, region: str = "") -> SQSClient:
    """A client for SQS in `region`, by default the session's; UsageError where none is known."""
    try:
        client = signed_in.client(
            "sqs",
            region_name=region or None,
            endpoint_url=access.endpoint_url or None,
            config=config(access),
        )
    except aws.NoRegionError:
        raise UsageError("no region for the queue", hint='write region = "..." in the section') from None
    return _looked_after(client, signed_in)


def sts_client(signed_in: boto3.Session, access: Access, *, signed: bool = True) -> STSClient:
    """A client for STS; without a region one that serves every account of the role's partition."""
    settings = config(access)
    partition = access.role_arn.split(":")[1] if access.role_arn else "aws"
    client = signed_in.client(
        "sts",
        region_name=signed_in.region_name or _HOME_REGIONS.get(partition, "us-east-1"),
        endpoint_url=access.endpoint_url or None,
        config=settings if signed else settings.merge(Config(signature_version=UNSIGNED)),
    )
    return _looked_after(client, signed_in)


def _looked_after(client: Client, signed_in: boto3.Session) -> Client:
    """The client; each of its answers is looked at."""
    held = signed_in.get_credentials()

    def note(request: AWSRequest, signature_version: object, **_: object) -> None:
        if isinstance(held, _Sought) and signature_version is not UNSIGNED:
            request.context[_SIGNED_BY] = held.get_frozen_credentials()

    def is_signed(parsed: Mapping[str, Any], context: Mapping[str, Any], **_: object) -> None:
        code = parsed.get("Error", {}).get("Code")
        if not isinstance(held, _Sought):
            return
        if code in CREDENTIALS:
            held.forget(context.get(_SIGNED_BY))
        elif code in DENIED and held.is_old:
            held.renew(context.get(_SIGNED_BY))

    client.meta.events.register("before-sign", note)
    client.meta.events.register("after-call", _is_of_aws)
    client.meta.events.register("after-call", is_signed)
    return client


def _is_no_redirect(event_name: str, response_dict: Mapping[str, Any] | None, **_: object) -> None:
    """RedirectedError for a redirect that says no region."""
    if response_dict is None or response_dict["status_code"] not in _REDIRECTS:
        return
    if "x-amz-bucket-region" not in (headers := response_dict["headers"]):
        operation, place = event_name.rpartition(".")[2], headers.get("Location", "another region")
        raise RedirectedError(operation=operation, place=place[:_LONGEST_PLACE])


def _is_of_aws(http_response: AWSResponse, model: OperationModel, **_: object) -> None:
    """ForeignAnswerError for a page in the place of an answer, or nothing at all: it would be a refusal of
    the object, or an empty queue or bucket. An object may be a page itself, but S3 always tells its etag;
    what others wrote may stand within any answer, as the texts of messages do."""
    status, why = http_response.status_code, ""
    if model.name == "GetObject" and status < 300:
        if "ETag" not in http_response.headers:
            why = "it has no ETag"
    elif _PAGE.match(begins := http_response.content[:_BEGINS]):
        why = f"{status} with a page in HTML"
    elif model.name in _LISTINGS and status < 300 and b"Result" not in begins:
        why = f"{status} without a listing"
    if why:
        after = asked_wait(http_response.headers)
        raise ForeignAnswerError(operation=model.name, why=why, after=after)


def assume(access: Access, base: boto3.Session) -> CredentialsTypeDef:
    """Assume the role once. ClientError in STS's words; CredentialRetrievalError for a bad token file."""
    if access.web_identity_token_file:
        return sts_client(base, access, signed=False).assume_role_with_web_identity(
            RoleArn=access.role_arn,
            RoleSessionName=access.session_name,
            DurationSeconds=access.duration,
            WebIdentityToken=token(Path(access.web_identity_token_file)),
        )["Credentials"]
    asked: AssumeRoleRequestTypeDef = {
        "RoleArn": access.role_arn,
        "RoleSessionName": access.session_name,
        "DurationSeconds": access.duration,
    }
    if access.external_id:
        asked["ExternalId"] = access.external_id
    return sts_client(base, access).assume_role(**asked)["Credentials"]


def token(file: Path) -> str:
    """The web identity token in a file."""
    try:
        with file.open("rb") as opened:
            text = opened.read(_MAX_TOKEN_BYTES + 1)
    except OSError as error:
        raise aws.CredentialRetrievalError(
            provider="web identity", error_msg=f"{file}: {error.strerror}"
        ) from None
    if len(text.strip()) < _MIN_TOKEN_BYTES or len(text) > _MAX_TOKEN_BYTES or not text.isascii():
        raise aws.CredentialRetrievalError(provider="web identity", error_msg=f"{file} holds no token")
    return text.decode().strip()


class _Sought(Credentials):
    """Credentials that are looked for when they are needed first, and again when they are forgotten."""

    method = "sought"  # botocore asks for it when a client is made: that needs no credentials yet

    def __init__(self, find: Callable[[], Credentials | None]) -> None:
        self._find = find
        self._found: Credentials | None = None
        self._given: ReadOnlyCredentials | None = None
        self._since = 0.0

    def load_credentials(self) -> Credentials:
        """As a session asks for them."""
        return self

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
        given = self._given = self._held().get_frozen_credentials()
        return given

    def __getattr__(self, name: str) -> object:
        """The key and what else credentials have: of those that are held."""
        return getattr(self._held(), name)

    def _held(self) -> Credentials:
        found = self._found
        if found is None:
            found = self._found = self._find()
            self._since = time.monotonic()
        if found is None:
            raise aws.NoCredentialsError
        return found

    @property
    def is_old(self) -> bool:
        """Whether they were found a while ago."""
        return time.monotonic() - self._since >= _DENIED_SECONDS

    def forget(self, refused: ReadOnlyCredentials | None) -> None:
        """Look anew, unless others were found since these were given: a refusal may come late."""
        if refused == self._given:
            self._found = None

    def renew(self, refused: ReadOnlyCredentials | None) -> None:
        """As `forget`, but what is held stays where nothing can be found: it may be good, and only an object
        denied."""
        if refused != self._given:
            return
        self._since = time.monotonic()
        with suppress(*REFUSALS, OSError):
            if (found := self._find()) is not None:
                found.get_frozen_credentials()  # some are fetched only when they are asked for
                self._found = found


def _found(profile: str) -> Credentials | None:
    """What boto3's own chain finds now."""
    return botocore.session.Session(profile=profile or None).get_credentials()


def _role(access: Access, base: boto3.Session, now: Callable[[], dt.datetime]) -> Credentials:
    """Those of the role, once it is assumed."""

    def fetched() -> dict[str, str]:
        try:
            made = assume(access, base)
        except (aws.ClientError, aws.ParamValidationError) as error:
            # Told apart from a refusal of the call that needed the credentials: no object is at fault.
            raise aws.CredentialRetrievalError(provider=_ASSUMED, error_msg=str(error)) from error
        if made["Expiration"] <= (moment := now()):
            words = f"the new session ended at {made['Expiration']}, and it is {moment} here: set the clock"
            raise aws.CredentialRetrievalError(provider=_ASSUMED, error_msg=words)
        return {
            "access_key": made["AccessKeyId"],
            "secret_key": made["SecretAccessKey"],
            "token": made["SessionToken"],
            "expiry_time": made["Expiration"].isoformat(),
        }

    return DeferredRefreshableCredentials(fetched, _ASSUMED, time_fetcher=now)
