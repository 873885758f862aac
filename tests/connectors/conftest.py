"""What the tests of the connectors share: an AWS of their own and a lake that objects go to."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import boto3
import pytest

from support.aws import REGION, Aws, Store
from trailhawk import connectors, sources
from trailhawk.connectors.config import Access
from trailhawk.lake import Lake


@pytest.fixture(scope="session", autouse=True)
def _models_read_once(aws_models_read_once: None) -> None:
    """For the tests with a server of their own too."""


@pytest.fixture
def aws(aws_account: str) -> Aws:
    """An empty AWS of one test."""
    made = {"endpoint_url": aws_account, "region_name": REGION}
    return Aws(
        aws_account,
        Access(region=REGION, endpoint_url=aws_account),
        s3=boto3.client("s3", **made),  # type: ignore[call-overload]  # settings by name
        sqs=boto3.client("sqs", **made),  # type: ignore[call-overload]
    )


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake", [*sources.TABLES, *connectors.TABLES])


@pytest.fixture
def store(lake: Lake, tmp_path: Path) -> Store:
    return Store(lake, tmp_path / "connectors")


@pytest.fixture
def stop() -> threading.Event:
    return threading.Event()


@pytest.fixture
def limited(aws_rights: Callable[[str, object], None]) -> Callable[..., None]:
    """A function that signs in a user who may only do these actions."""

    def sign_in(*actions: str) -> None:
        statement = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
        aws_rights("reader", {"Version": "2012-10-17", "Statement": [statement]})

    return sign_in
