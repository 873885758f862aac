"""`[connectors.NAME]` in trailhawk.toml: what is read, and how mistakes are named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trailhawk.connectors.config import (
    Access,
    ConnectorSettings,
    Location,
    S3Settings,
    SqsSettings,
    connectors,
)
from trailhawk.settings import SettingsError, settings

QUEUE = "https://sqs.eu-west-1.amazonaws.com/111122223333/logs"


def read(folder: Path, text: str) -> dict[str, ConnectorSettings]:
    (folder / "trailhawk.toml").write_text(text)
    return connectors(settings(folder).connectors)


def test_a_queue(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        f"""
        [connectors.main]
        type = "sqs"
        queue_url = "{QUEUE}"
        role_arn = "arn:aws:iam::111122223333:role/reader"
        external_id = "x"
        region = "eu-west-1"
        prefixes = ["AWSLogs/"]
        tries = 3
        """,
    )
    access = Access("eu-west-1", role_arn="arn:aws:iam::111122223333:role/reader", external_id="x")
    assert found == {"main": SqsSettings("main", QUEUE, access, prefixes=("AWSLogs/",), tries=3)}
    assert (found["main"].type, found["main"].where) == ("sqs", QUEUE)


def test_a_listing_of_several_buckets(tmp_path: Path) -> None:
    text = """
        [connectors.old]
        type = "s3"
        locations = ["s3://one/AWSLogs/", "s3://two"]
        since_days = 90
    """
    found = read(tmp_path, text)["old"]
    locations = (Location("one", "AWSLogs/"), Location("two"))
    assert found == S3Settings("old", locations, since_days=90)
    assert found.where == "s3://one/AWSLogs/, s3://two/"


def test_none(tmp_path: Path) -> None:
    assert read(tmp_path, "") == {}
    assert connectors(settings(tmp_path / "missing").connectors) == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('type = "kinesis"', ("connectors.main.type is 'kinesis'", "there is")),
        ("", ("connectors.main.type is missing",)),
        ('type = "sqs"', ("connectors.main.queue_url is ''", "https://sqs.")),
        (
            f'type = "sqs"\nqueue_url = "{QUEUE}"\nvisibility = 3',
            ("connectors.main.visibility", "did you mean"),
        ),
        (
            f'type = "sqs"\nqueue_url = "{QUEUE}"\ntries = 0',
            ("connectors.main.tries is 0", "from 1 to 1,000"),
        ),
        (f'type = "sqs"\nqueue_url = "{QUEUE}"\non_poison = "drop"', ("on_poison is 'drop'", "redrive")),
        (
            f'type = "sqs"\nqueue_url = "{QUEUE}"\nexternal_id = "x"',
            ("external_id is given without role_arn",),
        ),
        (
            f'type = "sqs"\nqueue_url = "{QUEUE}"\nsession_seconds = 900',
            ("session_seconds is 900", "from 1,800"),
        ),
        (
            f'type = "sqs"\nqueue_url = "{QUEUE}"\nsession_name = "my session"',
            ("session_name is 'my session'",),
        ),
        (
            f'type = "sqs"\nqueue_url = "{QUEUE}"\nendpoint_url = "store:9000"',
            ("endpoint_url is 'store:9000'",),
        ),
        (f'type = "sqs"\nqueue_url = "{QUEUE}"\nbuckets = ["s3://logs"]', ("buckets has 's3://logs'",)),
        (
            f'type = "sqs"\nqueue_url = "{QUEUE}"\nprefixes = ["s3://logs/AWSLogs/"]',
            ("prefixes has 's3://logs/AWSLogs/'", "without their bucket"),
        ),
        (
            f'type = "sqs"\nqueue_url = "{QUEUE}"\nrole_arn = "reader"',
            ("role_arn is 'reader'", "arn:aws:iam::"),
        ),
        ('type = "s3"', ("connectors.main.locations is missing", "s3://BUCKET")),
        ('type = "s3"\nlocations = ["logs/x"]', ("locations has 'logs/x'", "s3://BUCKET")),
        ('type = "s3"\nlocations = ["s3:///x"]', ("locations has 's3:///x'",)),
        ('type = "s3"\nlocations = "s3://a"', ("locations is a list of texts",)),
    ],
)
def test_mistakes_name_file_and_key(tmp_path: Path, text: str, words: tuple[str, ...]) -> None:
    with pytest.raises(SettingsError) as caught:
        read(tmp_path, f"[connectors.main]\n{text}")
    message = str(caught.value)
    assert str(tmp_path / "trailhawk.toml") in message
    assert all(word in message for word in words), message


def test_a_name_must_be_one(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no name for a connector"):
        read(tmp_path, '[connectors."a/b"]\ntype = "sqs"')


def test_two_sections_of_one_queue_want_the_same(tmp_path: Path) -> None:
    """Each would delete the messages of what the other wants."""

    def section(name: str, *prefixes: str) -> str:
        return (
            f'[connectors.{name}]\ntype = "sqs"\nqueue_url = "{QUEUE}"\nprefixes = {json.dumps(prefixes)}\n'
        )

    assert set(read(tmp_path, section("one", "a/", "b/") + section("two", "b/", "a/"))) == {"one", "two"}
    with pytest.raises(SettingsError, match=r"connectors\.two\.queue_url is the queue of one, too"):
        read(tmp_path, section("one", "a/") + section("two", "b/"))
