"""Who a connector is: role by token or external id, profile, environment; renewed before the end."""

from __future__ import annotations

import dataclasses
import datetime as dt
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from botocore.awsrequest import AWSResponse, HeadersDict
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    UnauthorizedSSOTokenError,
)

from trailhawk.connectors import credentials
from trailhawk.connectors.config import Access
from trailhawk.connectors.retry import Kind, fault_of
from trailhawk.errors import UsageError

if TYPE_CHECKING:
    from support.aws import Aws

ROLE = "arn:aws:iam::123456789012:role/reader"


def caller(aws: Aws, access: Access, **settings: Any) -> str:
    session = credentials.session(access, **settings)
    return credentials.sts_client(session, access).get_caller_identity()["Arn"]


def test_the_environment(aws: Aws) -> None:
    assert caller(aws, aws.access).endswith("user/moto")


def test_a_role_with_an_external_id(aws: Aws) -> None:
    access = dataclasses.replace(aws.access, role_arn=ROLE, external_id="secret-word", session_name="hunt")
    assert caller(aws, access) == "arn:aws:sts::123456789012:assumed-role/reader/hunt"


def test_a_role_by_web_identity_needs_no_other_credentials(
    aws: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    (tmp_path / "token").write_text("a.b.c\n")
    access = dataclasses.replace(aws.access, role_arn=ROLE, web_identity_token_file=str(tmp_path / "token"))
    assert caller(aws, access) == "arn:aws:sts::123456789012:assumed-role/reader/trailhawk"


def test_a_profile(aws: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    (tmp_path / "shared").write_text("[hunt]\naws_access_key_id = AKID2\naws_secret_access_key = s\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "shared"))
    session = credentials.session(Access(profile="hunt"))
    found = session.get_credentials()
    assert found is not None
    assert found.get_frozen_credentials().access_key == "AKID2"
    for region in ("", "eu-west-1"):
        with pytest.raises(UsageError, match="other"):
            credentials.session(Access(profile="other", region=region))


@pytest.mark.parametrize("profile", ["", "hunt"])
def test_a_client_is_made_before_there_are_credentials(
    aws: Aws, profile: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a machine starts its role may come a moment later, and a profile's program may fail once."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    (tmp_path / "config").write_text("[profile hunt]\ncredential_process = false\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    access = dataclasses.replace(aws.access, profile=profile)
    client = credentials.sqs_client(credentials.session(access), access)
    with pytest.raises(BotoCoreError) as caught:
        client.list_queues()
    assert fault_of(caught.value).kind is Kind.CREDENTIALS
    (tmp_path / "config").write_text("[profile hunt]\naws_access_key_id = AKID2\naws_secret_access_key = s\n")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKID2")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    assert client.list_queues()["ResponseMetadata"]["HTTPStatusCode"] == 200


def clock_of(moments: list[dt.datetime]) -> Callable[[], dt.datetime]:
    return lambda: moments[0]


def test_credentials_are_renewed_before_they_end(
    aws: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a quarter of an hour of their end, with the token that the file has then."""
    tokens: list[str] = []
    real = credentials.assume

    def assume(access: Access, base: Any) -> Any:
        tokens.append(credentials.token(Path(access.web_identity_token_file)))
        return real(access, base)

    monkeypatch.setattr(credentials, "assume", assume)
    (tmp_path / "token").write_text("first")
    access = dataclasses.replace(
        aws.access, role_arn=ROLE, web_identity_token_file=str(tmp_path / "token"), duration=3600
    )
    now = [dt.datetime.now(dt.UTC)]
    session = credentials.session(access, now=clock_of(now))
    held = session.get_credentials()
    assert held is not None
    first = held.get_frozen_credentials()
    assert tokens == ["first"]
    now[0] += dt.timedelta(minutes=44)
    assert held.get_frozen_credentials() == first
    (tmp_path / "token").write_text("second")
    now[0] += dt.timedelta(minutes=2)
    assert held.get_frozen_credentials() != first
    assert tokens == ["first", "second"]


@pytest.mark.parametrize("text", [None, "", " \n", "abc", "x" * 70_000, "é"])
def test_a_token_file_without_a_token(aws: Aws, tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "token"
    if text is not None:
        file.write_text(text)
    access = dataclasses.replace(aws.access, role_arn=ROLE, web_identity_token_file=str(file))
    with pytest.raises(CredentialRetrievalError) as caught:
        caller(aws, access)
    assert str(file) in str(caught.value)
    assert fault_of(caught.value).kind is Kind.CREDENTIALS


def test_a_refusal_by_sts_is_no_refusal_of_an_object(aws: Aws, limited: Callable[..., None]) -> None:
    """It is waited out: no object is set aside for it."""
    limited("s3:*")
    access = dataclasses.replace(aws.access, role_arn=ROLE)
    session = credentials.session(access)
    with pytest.raises(CredentialRetrievalError) as caught:
        credentials.s3_client(session, access).get_object(Bucket="logs", Key="a")
    assert "AccessDenied" in str(caught.value)
    assert fault_of(caught.value).passes


def test_a_busy_sts_is_asked_again(aws: Aws) -> None:
    """Also where a run is to end at the first trouble that does not pass."""
    access = dataclasses.replace(aws.access, role_arn=ROLE)
    busy = ClientError({"Error": {"Code": "Throttling", "Message": "Rate exceeded"}}, "AssumeRole")

    def assume(_: Access, __: Any) -> Any:
        raise busy

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(credentials, "assume", assume)
        with pytest.raises(CredentialRetrievalError, match="Rate exceeded") as caught:
            caller(aws, access)
    assert fault_of(caught.value).kind is Kind.PASSING
    assert fault_of(busy).kind is Kind.PASSING


def test_a_clock_that_is_far_ahead_is_told_and_waited_for(aws: Aws) -> None:
    ahead = dt.datetime.now(dt.UTC) + dt.timedelta(hours=3)
    session = credentials.session(dataclasses.replace(aws.access, role_arn=ROLE), now=lambda: ahead)
    with pytest.raises(CredentialRetrievalError, match="set the clock") as caught:
        credentials.s3_client(session, aws.access).get_object(Bucket="logs", Key="a")
    assert fault_of(caught.value).kind is Kind.CREDENTIALS


def test_own_stores_are_asked_by_path(aws: Aws) -> None:
    client = credentials.s3_client(credentials.session(aws.access), aws.access)
    url = client.generate_presigned_url("get_object", Params={"Bucket": "logs", "Key": "a"})
    assert url.startswith(f"{aws.url}/logs/a")


@pytest.mark.parametrize(
    ("partition", "region", "endpoint"),
    [
        ("aws", "", "https://sts.amazonaws.com"),
        ("aws-cn", "", "https://sts.cn-north-1.amazonaws.com.cn"),
        ("aws-us-gov", "", "https://sts.us-gov-west-1.amazonaws.com"),
        ("aws-cn", "cn-northwest-1", "https://sts.cn-northwest-1.amazonaws.com.cn"),
    ],
)
def test_roles_of_other_partitions_are_asked_for_there(
    aws: Aws, partition: str, region: str, endpoint: str
) -> None:
    access = Access(region=region, role_arn=f"arn:{partition}:iam::111122223333:role/logs")
    base = credentials.session(Access(region=region))
    asked = credentials.sts_client(base, access).meta
    assert asked.endpoint_url.replace("sts.us-east-1.", "sts.") == endpoint


def _next_session(assumed: list[str]) -> dict[str, object]:
    """What STS gives, with a token that is added to those of before."""
    assumed.append(f"token-{len(assumed)}")
    end = dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
    return {"AccessKeyId": "K", "SecretAccessKey": "S", "SessionToken": assumed[-1], "Expiration": end}


def test_a_late_refusal_of_an_old_session_does_not_end_the_new_one(
    aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two requests are under way when the session ends; the first to be refused has it renewed."""
    assumed: list[str] = []

    def assume(access: Access, base: Any) -> Any:
        return _next_session(assumed)

    monkeypatch.setattr(credentials, "assume", assume)
    access = dataclasses.replace(aws.access, role_arn=ROLE)
    client = credentials.sts_client(credentials.session(access), access)
    sent: list[str] = []

    def answer(request: Any, **_: Any) -> Any:
        token = request.headers["X-Amz-Security-Token"].decode()
        sent.append(token)
        if len(sent) == 1:
            for _number in range(2):
                with suppress(ClientError):
                    client.get_caller_identity()
        code = "ExpiredToken" if token == "token-0" else "Throttling"
        body = f"<ErrorResponse><Error><Code>{code}</Code></Error></ErrorResponse>".encode()
        headers: Any = HeadersDict()
        return AWSResponse(request.url, 400, headers, SimpleNamespace(stream=lambda: [body]))

    client.meta.events.register("before-send", answer)
    for _ in range(2):
        with suppress(ClientError):
            client.get_caller_identity()
    assert sent == ["token-0", "token-0", "token-1", "token-1"]
    assert assumed == ["token-0", "token-1"]


@pytest.mark.parametrize("is_to_be_had", [True, False])
def test_a_session_that_was_revoked_is_renewed(
    aws: Aws, monkeypatch: pytest.MonkeyPatch, is_to_be_had: bool
) -> None:
    """Of such AWS says no more than that access is denied; where a new one is refused as well, it is kept
    for a while. So is the old one where no new one is to be had: it may be the object that is denied."""
    assumed: list[str] = []
    tried: list[float] = []

    def assume(access: Access, base: Any) -> Any:
        tried.append(time.monotonic())
        if assumed and not is_to_be_had:
            raise UnauthorizedSSOTokenError
        return _next_session(assumed)

    monkeypatch.setattr(credentials, "assume", assume)
    access = dataclasses.replace(aws.access, role_arn=ROLE)
    client = credentials.s3_client(credentials.session(access), access)
    sent: list[str] = []

    def deny(request: Any, **_: Any) -> Any:
        sent.append(request.headers["X-Amz-Security-Token"].decode())
        body = b"<Error><Code>AccessDenied</Code><Message>with an explicit deny</Message></Error>"
        headers: Any = HeadersDict()
        return AWSResponse(request.url, 403, headers, SimpleNamespace(stream=lambda: [body]))

    client.meta.events.register("before-send", deny)

    def ask() -> None:
        with pytest.raises(ClientError, match="AccessDenied"):
            client.get_object(Bucket="logs", Key="a")

    now = [time.monotonic()]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    for seconds in (0.0, 299.0, 2.0, 0.0, 290.0, 20.0, 0.0):
        now[0] += seconds
        ask()
    if is_to_be_had:
        assert sent == ["token-0"] * 3 + ["token-1"] * 3 + ["token-2"]
    else:
        assert sent == ["token-0"] * 7
    assert len(tried) == 3
