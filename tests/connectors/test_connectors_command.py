"""`trailhawk connectors`: as it is typed, against moto's server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from trailhawk.cli import run
from trailhawk.connectors import sqs

if TYPE_CHECKING:
    from support.aws import Aws


@pytest.fixture
def home(aws: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with a queue and a listing of the bucket `logs`."""
    monkeypatch.setattr(sqs, "_BUSY_POLL_SECONDS", 0)
    queue = aws.queue(aws.bucket())
    (tmp_path / "trailhawk.toml").write_text(
        f"""
        [connectors.news]
        type = "sqs"
        queue_url = "{queue}"
        region = "eu-west-1"
        endpoint_url = "{aws.url}"
        buckets = ["logs"]

        [connectors.old]
        type = "s3"
        locations = ["s3://logs/AWSLogs/"]
        region = "eu-west-1"
        endpoint_url = "{aws.url}"
        """
    )
    return tmp_path


def said(home: Path, capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    assert run(["--home", str(home), "connectors", *words]) == code
    return capsys.readouterr().out


def test_list(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(said(home, capsys, "list", "--format", "json"))
    assert [(each["name"], each["type"]) for each in found] == [("news", "sqs"), ("old", "s3")]
    assert found[1]["where"] == "s3://logs/AWSLogs/"
    assert "no connectors" in said(home / "empty", capsys, "list")


def test_run_once(aws: Aws, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    aws.put("logs", "AWSLogs/1.json")
    told = json.loads(said(home, capsys, "run", "news", "--once", "--format", "json"))
    assert (told["objects"], told["rows"]) == (1, 1)
    told = json.loads(said(home, capsys, "run", "old", "--once", "--format", "json"))
    assert (told["objects"], told["skipped"]) == (1, 1)


def test_a_name_that_is_not_there(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--home", str(home), "connectors", "run", "other"]) == 1
    assert "no connector 'other'; there is news, old" in capsys.readouterr().err


def test_a_source_that_is_not_there(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its messages would be received again and again, up to the dead letters."""
    with (home / "trailhawk.toml").open("a") as file:
        file.write('\n[connectors.far]\ntype = "s3"\nlocations = ["s3://logs"]\nsource = "cloud-trail"\n')
    for command in ("run", "test", "doctor"):
        assert run(["--home", str(home), "connectors", command, "far"]) == 1
        words = "connector far: no log source 'cloud-trail'; did you mean 'cloudtrail'?"
        assert words in capsys.readouterr().err


def test_test_and_doctor(aws: Aws, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    aws.put("logs", "AWSLogs/1.json")
    assert "failed" not in said(home, capsys, "test", "old")
    text = said(home, capsys, "doctor", "news", code=1)
    assert "lacks, for queue policy:" in text
    assert '"aws:SourceArn": "arn:aws:s3:::logs"' in text
    checks = json.loads(said(home, capsys, "doctor", "news", "--format", "json", code=1))
    assert {"identity", "queue", "receive"} <= {check["name"] for check in checks}
    assert {check["verdict"] for check in checks} <= {"ok", "failed", "unknown"}


def test_the_doctor_knows_only_aws(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (home / "trailhawk.toml").open("a") as file:
        file.write('\n[connectors.files]\ntype = "folder"\npaths = ["logs"]\n')
    assert run(["--home", str(home), "connectors", "doctor", "files"]) == 2
    assert "of type folder" in capsys.readouterr().err


def test_setup(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert yaml.safe_load(said(home, capsys, "setup"))["Resources"]["Queue"]["Type"] == "AWS::SQS::Queue"
    assert "policy of the role" in json.loads(said(home, capsys, "setup", "--format", "policies"))
    assert run(["connectors", "setup", "--issuer", "https://token.example"]) == 2
    assert "say --subject" in capsys.readouterr().err


def test_sigterm_stores_what_was_read_and_ends(aws: Aws, home: Path) -> None:
    aws.put("logs", "AWSLogs/1.json")
    with subprocess.Popen(
        [
            sys.executable,
            "-m",
            "trailhawk",
            "--home",
            str(home),
            "connectors",
            "run",
            "news",
            "--format",
            "json",
        ],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        for _ in range(1200):
            if aws.waiting(aws.sqs.get_queue_url(QueueName="news")["QueueUrl"]) != (2, 0):
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert json.loads(out)["name"] == "news"
    assert aws.waiting(aws.sqs.get_queue_url(QueueName="news")["QueueUrl"])[1] == 0
