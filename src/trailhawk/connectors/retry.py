"""Which of AWS's refusals pass, and how long to wait for it."""

from __future__ import annotations

import enum
import random
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from botocore import exceptions as aws
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from trailhawk.connectors.pace import SlowBodyError

T = TypeVar("T")

_GONE: Final = {"NoSuchKey", "NoSuchVersion", "404", "NotFound", "MethodNotAllowed"}
DENIED: Final = {
    "AccessDenied", "AccessDeniedException", "403", "Forbidden", "UnauthorizedOperation",
    "AuthorizationError", "AWS.SimpleQueueService.AccessDenied", "KmsAccessDenied", "KmsDisabled",
    "KMS.DisabledException", "KMS.NotFoundException", "KMS.KMSInvalidStateException",
    "KMS.AccessDeniedException",
}  # fmt: skip
CREDENTIALS: Final = {
    "ExpiredToken", "ExpiredTokenException", "InvalidAccessKeyId", "InvalidClientTokenId",
    "SignatureDoesNotMatch", "InvalidToken", "TokenRefreshRequired", "UnrecognizedClientException",
    "IDPCommunicationError", "InvalidIdentityToken", "RequestTimeTooSkewed", "RequestExpired",
}  # fmt: skip
_PASSING: Final = {
    "SlowDown", "Throttling", "ThrottlingException", "ThrottledException", "RequestThrottled",
    "RequestLimitExceeded", "RequestThrottledException", "TooManyRequestsException", "BandwidthLimitExceeded",
    "RequestTimeout", "RequestTimeoutException", "InternalError", "InternalFailure", "ServiceUnavailable",
    "OverLimit",
    "KMS.ThrottlingException", "KmsThrottled", "OperationAborted", "PriorRequestNotComplete",
    "TransactionInProgressException",
}  # fmt: skip
# A bucket asked for in another region than its own, where an endpoint keeps the client from following it, or
# an account that may not use the service: no object is at fault, and no waiting helps.
_SETUP: Final = {
    "PermanentRedirect", "AuthorizationHeaderMalformed", "Redirect", "TemporaryRedirect", "301", "307",
    "IllegalLocationConstraintException", "AccountProblem", "NotSignedUp", "OptInRequired",
    "AllAccessDisabled",
}  # fmt: skip
# What a profile's credentials are made with, on the way to the call that needs them.
_SIGNING_IN: Final = {
    "AssumeRole", "AssumeRoleWithWebIdentity", "AssumeRoleWithSAML", "GetSessionToken", "GetRoleCredentials",
    "CreateToken", "CreateOAuth2Token",
}  # fmt: skip
_UNSIGNED: Final = (
    aws.NoCredentialsError,
    aws.PartialCredentialsError,
    aws.CredentialRetrievalError,
    aws.MetadataRetrievalError,
    aws.RefreshWithMFAUnsupportedError,
    aws.SSOError,
    aws.TokenRetrievalError,
    aws.NoAuthTokenError,
    aws.UnknownCredentialError,
    aws.ProfileNotFound,
    aws.ConfigParseError,
)
_BROKEN: Final = (
    aws.ConnectionError,
    aws.HTTPClientError,
    aws.IncompleteReadError,
    aws.ReadTimeoutError,
    aws.ResponseStreamingError,
    aws.ChecksumError,
    aws.FlexibleChecksumError,
    ResponseParserError,
    HTTPError,
    SlowBodyError,
    ConnectionError,
    TimeoutError,
)

_LONGEST_ASKED: Final = 300.0

REFUSALS: Final = (aws.BotoCoreError, aws.ClientError, ResponseParserError, HTTPError)
"""What the client raises where a service, or what stands before it, does not give what was asked for: also an
answer that is none of AWS's, and an end of the encryption in the midst of a body."""


class ForeignAnswerError(aws.BotoCoreError):
    """An answer that a proxy or a page to sign in at gave in the service's place."""

    fmt = "the answer to {operation} is none of AWS's: {why}; a proxy or a login page may stand before it"


class RedirectedError(aws.BotoCoreError):
    """A redirect that says no region, so that the client finds no way: one to HTTPS, say."""

    fmt = "{operation} is answered with a redirect to {place}; see endpoint_url and region"


class Kind(enum.Enum):
    """What a refusal means to whoever asked."""

    GONE = "gone"
    DENIED = "denied"
    CREDENTIALS = "credentials"
    SETUP = "setup"
    PASSING = "passing"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Fault:
    """A refusal: what it means, and the service's code and words. Where it asks to be left alone for a while,
    `after` is how long, in seconds."""

    kind: Kind
    code: str
    words: str
    after: float = 0.0

    def __str__(self) -> str:
        return f"{self.code}: {self.words}" if self.words else self.code

    @property
    def passes(self) -> bool:
        """Whether to ask again later: the object is not at fault."""
        return self.kind in (Kind.PASSING, Kind.CREDENTIALS, Kind.SETUP)


def fault_of(error: Exception) -> Fault:
    """What an error of the AWS client, or of the network below it, means."""
    if isinstance(error, aws.ClientError):
        said = error.response.get("Error", {})
        code = said.get("Code", "") or "Unknown"
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        kind = _kind(code, status)
        if error.operation_name in _SIGNING_IN and kind is not Kind.PASSING:
            kind = Kind.CREDENTIALS
        headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        return Fault(kind, code, said.get("Message", ""), asked_wait(headers))
    if isinstance(error, _UNSIGNED):
        refused = error.__cause__
        is_passing = isinstance(refused, aws.ClientError) and fault_of(refused).kind is Kind.PASSING
        kind = Kind.PASSING if is_passing else Kind.CREDENTIALS
        return Fault(kind, type(error).__name__, str(error))
    if isinstance(error, RedirectedError):
        return Fault(Kind.SETUP, type(error).__name__, str(error))
    if isinstance(error, ForeignAnswerError):
        return Fault(Kind.PASSING, type(error).__name__, str(error), error.kwargs.get("after", 0.0))
    kind = Kind.PASSING if isinstance(error, _BROKEN) else Kind.OTHER
    return Fault(kind, type(error).__name__, str(error))


def asked_wait(headers: Mapping[str, str]) -> float:
    """How long an answer asks to wait, in seconds; 0 where it does not. Stores that speak S3 do, and what
    stands before them; of its two forms the date needs a clock that agrees, and is not read."""
    text = headers.get("retry-after", "")
    return min(float(text), _LONGEST_ASKED) if text.isascii() and text.isdigit() else 0.0


def _kind(code: str, status: int) -> Kind:
    for codes, kind in (
        (_GONE, Kind.GONE),
        (CREDENTIALS, Kind.CREDENTIALS),
        (_PASSING, Kind.PASSING),
        (_SETUP, Kind.SETUP),
        (DENIED, Kind.DENIED),
    ):
        if code in codes:
            return kind
    return Kind.PASSING if status == 429 or status >= 500 else Kind.OTHER


@dataclass(frozen=True, slots=True)
class Waits:
    """Growing waits in seconds: the nth at most `first` * 2**n, never above `longest`, with full jitter.

    The jitter spreads many workers that failed at one moment (AWS Architecture Blog, "Exponential Backoff And
    Jitter"); a tenth of the wait is always kept.
    """

    rng: random.Random
    first: float = 0.5
    longest: float = 60.0

    def wait(self, attempt: int) -> float:
        """How long to wait after this failed attempt, counted from 0."""
        longest: float = min(self.longest, self.first * 2.0 ** min(attempt, 30))
        return longest * (0.1 + 0.9 * self.rng.random())


def retried(
    ask: Callable[[], T],
    waits: Waits,
    stop: threading.Event,
    *,
    attempts: int | None,
    told: Callable[[Fault], None] = lambda _: None,
) -> T:
    """The answer to `ask`, asked again after each refusal that passes.

    Gives up after `attempts` (None: never) or when `stop` is set, with the last error, and at once where the
    set-up is at fault. `told` hears every refusal that is waited out.
    """
    attempt = 0
    while True:
        try:
            return ask()
        except (*REFUSALS, OSError) as error:
            fault = fault_of(error)
            attempt += 1
            if not fault.passes or fault.kind is Kind.SETUP or attempt == attempts:
                raise
            told(fault)
            if stop.wait(fault.after + waits.wait(attempt - 1)):
                raise
