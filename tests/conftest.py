"""What several rooms' tests need: an engine over CloudTrail records written in the test, and an AWS."""

from __future__ import annotations

import ctypes
import functools
import json
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from trailhawk.engine.result import Engine

Record = Mapping[str, object]

# So that an assertion there tells as much as one in a test.
pytest.register_assert_rewrite("support")

# A test gives the same each time, on a slow machine too. New examples: pytest --hypothesis-profile default
settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")


@pytest.fixture(scope="session", autouse=True)
def simulated_primes_found_once() -> Iterator[None]:
    """A simulation's key follows from its seed, and most tests take the same; to find its primes is most of
    the time of a small simulation."""
    from trailhawk.simulate import digest

    found: dict[object, tuple[int, tuple[Any, ...]]] = {}
    find = digest._prime

    def prime(rng: Random, bits: int) -> int:
        start = rng.getstate(), bits
        if start not in found:
            found[start] = find(rng, bits), rng.getstate()
        number, end = found[start]
        rng.setstate(end)
        return number

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digest, "_prime", prime)
        yield


@pytest.fixture(scope="session", autouse=True)
def disk_not_waited_for() -> Iterator[None]:
    """What is synced outlives a loss of power, which no test makes, and to wait for it is a good part of the
    time of a test with a lake. One that counts these calls or lets them fail puts its own in their place."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda file: None)
        yield


@pytest.fixture
def compiled() -> ctypes.CDLL:
    """The compiled kernel. A machine without a compiler skips the test, unless it is to test everything."""
    from trailhawk.native import kernel

    found = kernel.library()
    if found is None and not os.environ.get("CI"):
        pytest.skip("there is no compiled kernel (make setup tells why)")
    assert found is not None, "there is no compiled kernel (make setup tells why)"
    return found


@pytest.fixture
def engine_of(tmp_path: Path) -> Callable[[Iterable[Record]], Engine]:
    """A function that stores records in a lake and gives the engine over it; called again, it adds.

    A record without id gets one that follows from its place.
    """
    # Imported here, so that the tests of rooms below do not need these.
    from trailhawk import connectors, sources
    from trailhawk.connectors.ingest import ingest
    from trailhawk.detect.content import functions
    from trailhawk.engine.duckdb import DuckDBEngine
    from trailhawk.lake.catalog import Lake

    lake = Lake(tmp_path / "lake", [*sources.TABLES, *connectors.TABLES])
    engine = DuckDBEngine(lake, functions=functions())
    batch = 0

    def store(records: Iterable[Record]) -> Engine:
        nonlocal batch
        batch += 1
        full = [
            {"eventVersion": "1.11", "eventID": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{batch}/{n}"))} | dict(r)
            for n, r in enumerate(records)
        ]
        path = tmp_path / f"logs-{batch}.json"
        path.write_text(json.dumps({"Records": full}))
        summary = ingest(lake, [path], clock=lambda: datetime(2026, 3, 3, tzinfo=UTC))
        assert summary.rows == len(full), "every record of a test is a row"
        return engine

    return store


@pytest.fixture(scope="session")
def aws_models_read_once() -> Iterator[None]:
    """What botocore knows of the services is kept between sessions, of which each test makes several: reading
    it, and looking for what there is, is most of the time that tests with AWS take."""
    from botocore.loaders import JSONFileLoader, Loader

    find, found = Loader.list_available_services, dict[object, Any]()

    def services(loader: Loader, type_name: str) -> Any:
        asked = type_name, *loader.search_paths
        if asked not in found:
            found[asked] = find(loader, type_name)
        return found[asked]

    with pytest.MonkeyPatch.context() as patch:
        kept = functools.cache(functools.partial(JSONFileLoader.load_file, JSONFileLoader()))
        patch.setattr(JSONFileLoader, "load_file", lambda _, file_path: kept(file_path))
        patch.setattr(Loader, "list_available_services", services)
        yield


@pytest.fixture(scope="session")
def aws_server(aws_models_read_once: None) -> Iterator[str]:
    """The address of a server that speaks S3, SQS, STS, IAM, EC2 and more."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def aws_account(aws_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The server's address: it holds nothing, and the environment has credentials for it and no others."""
    from support.aws import tell_moto

    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_DEFAULT_REGION", "AWS_REGION", "AWS_ROLE_ARN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    tell_moto(aws_server, "reset")
    return aws_server


@pytest.fixture
def aws_rights(aws_account: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, object], None]]:
    """A function that signs in a new user with this policy; from then on moto checks rights."""
    import boto3

    from support.aws import tell_moto

    def sign_in(user: str, policy: object) -> None:
        iam = boto3.client("iam", endpoint_url=aws_account, region_name="eu-west-1")
        iam.create_user(UserName=user)
        iam.put_user_policy(UserName=user, PolicyName="p", PolicyDocument=json.dumps(policy))
        key = iam.create_access_key(UserName=user)["AccessKey"]
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
        tell_moto(aws_account, "reset-auth", "0")

    yield sign_in
    tell_moto(aws_account, "reset-auth", "inf")
