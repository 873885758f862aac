"""trailhawk.toml: what it may say, and how a mistake in it is told."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from trailhawk.cli import run
from trailhawk.settings import ExternalDataSettings, RunSettings, Settings, SettingsError, settings


def read(home: Path, text: str) -> Settings:
    (home / "trailhawk.toml").write_text(text)
    return settings(home)


def test_without_a_file_everything_is_at_its_default(tmp_path: Path) -> None:
    assert settings(tmp_path) == Settings()
    assert settings(tmp_path).externaldata.allow == ()


def test_a_section(tmp_path: Path) -> None:
    found = read(tmp_path, '[externaldata]\nallow = ["https://feeds.example", "lists"]\nmax_mib = 5\n')
    assert found.externaldata == ExternalDataSettings(("https://feeds.example", "lists"), max_mib=5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[externaldata\n", "is no TOML: .*line 1"),
        ("[externaldate]\n", "externaldate is no setting; did you mean 'externaldata'?"),
        ("[externaldata]\nalow = []\n", "externaldata.alow is no setting; did you mean 'allow'?"),
        ('[externaldata]\nallow = "x"\n', "externaldata.allow is a list of texts"),
        ("[externaldata]\nallow = [1]\n", "externaldata.allow is a list of texts, and 1 is none"),
        ('[externaldata]\nallow = ["ftp://x"]\n', "externaldata.allow has 'ftp://x'"),
        ("[externaldata]\nmax_mib = 0\n", "externaldata.max_mib is 0; it is from 1 to 4,096"),
        ("[externaldata]\nmax_mib = true\n", "externaldata.max_mib is a whole number"),
        ("[externaldata]\nprivate_hosts = 1\n", "externaldata.private_hosts is true or false"),
        ("externaldata = 1\n", r"externaldata is a section; write \[externaldata\]"),
        ('[connectors]\ntype = "sqs"\n', r"connectors.type is a section; write \[connectors.type\]"),
    ],
)
def test_mistakes_are_told_with_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        read(tmp_path, text)
    assert str(tmp_path / "trailhawk.toml") in str(caught.value)


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "trailhawk.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="is not UTF-8 text"):
        settings(tmp_path)


def test_externaldata_of_a_home(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "a.csv").write_text("x\n")
    words = ["--home", str(tmp_path), "query", f'externaldata(s: string)["{tmp_path}/lists/a.csv"]']
    assert run(words) == 1
    assert "not allowed: externaldata" in capsys.readouterr().err
    (tmp_path / "trailhawk.toml").write_text('[externaldata]\nallow = ["lists"]\n')
    assert run([*words, "--format", "csv"]) == 0
    assert capsys.readouterr().out == "s\nx\n"
    (tmp_path / "trailhawk.toml").write_text("[externaldata]\nallow = 1\n")
    assert run(words) == 2
    assert capsys.readouterr().err.startswith(f"settings: {tmp_path}/trailhawk.toml: externaldata.allow")


def test_the_page_has_every_setting_of_the_one_process() -> None:
    page = (Path(__file__).parent.parent / "docs" / "settings.md").read_text()
    for setting in fields(RunSettings):
        assert f"| `run.{setting.name}` | `{setting.default}` |" in page


def test_sections_of_lake_state_and_run(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        '[lake]\nurl = "s3://b/p"\nretention_days = 9\n[lake.retention]\nAWSVPCFlow = 3\n'
        '[lake.s3]\nregion = "eu-west-1"\n[state]\nurl = "postgresql://h/db"\n[run]\ndrain_seconds = 5\n',
    )
    assert (found.lake.url, found.lake.retention_days, found.lake.region) == ("s3://b/p", 9, "eu-west-1")
    assert found.lake.retention == {"AWSVPCFlow": 3}
    assert found.state.url == "postgresql://h/db"
    assert (found.run.drain_seconds, found.run.compact_seconds) == (5, 15)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[lake]\nurl = "gs://b"\n', "lake.url is 'gs://b'; write a folder or s3://bucket/prefix"),
        ('[lake]\nurl = "s3:/b"\n', "lake.url is 's3:/b'; write a folder or s3://bucket/prefix"),
        ("[lake.retention]\nIngestLedger = 1\n", "lake.retention.IngestLedger is not shortened"),
        ("[lake.retention]\nEvents = -1\n", "lake.retention.Events is -1"),
        ("[lake.s3]\nregoin = 'x'\n", "lake.s3.regoin is no setting; did you mean 'region'?"),
        ('[state]\nurl = "mysql://h/db"\n', "state.url is 'mysql:...'; write postgresql://..."),
    ],
)
def test_mistakes_in_them(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read(tmp_path, text)
    assert message in str(caught.value)
