"""The page of an incident, and the same as data, from an incident made by hand."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from trailhawk.detect.alert import Alert
from trailhawk.detect.entities import AWS_ACCESS_KEY, AWS_BUCKET, AWS_INSTANCE, AWS_OBJECT, IP, entity
from trailhawk.detect.rule import Severity
from trailhawk.incidents.change import Change, ChangeKind
from trailhawk.incidents.incident import assemble
from trailhawk.incidents.lineage import Issue, Lineage, Use
from trailhawk.incidents.manifest import Gap, Line, Manifest
from trailhawk.incidents.report import Report
from trailhawk.incidents.timeline import Event
from trailhawk.render.console import PAGE_WIDTH
from trailhawk.render.incident import print_report, report_as_data, show_incidents, show_report, what_left
from trailhawk.render.incident_work import print_work
from trailhawk.render.output import Format

START = datetime(2026, 3, 18, 9, 0, 0, tzinfo=UTC)
KEY, SESSION = "ASIAEXAMPLE000000001", "arn:aws:sts::111122223333:assumed-role/web/i-0123456789abcdef0"
CLIENT = "aws-cli/2.15.0 Python/3.11 \x1b[31mred"

ALERT = Alert(
    id="a-1",
    rule_id="r-1",
    rule_name="Instance credentials used outside their instance",
    at=START + timedelta(hours=1),
    started_at=START,
    ended_at=START + timedelta(minutes=3),
    name="Session of role web used outside i-0123456789abcdef0",
    description="",
    severity=Severity.HIGH,
    tactics=("CredentialAccess", "Exfiltration"),
    techniques=("T1552.005", "T1530", "T9999"),
    entities=(
        entity(AWS_ACCESS_KEY, Id=KEY),
        entity(AWS_INSTANCE, Id="i-0123456789abcdef0"),
        entity(IP, Address="203.0.113.66"),
        entity(AWS_BUCKET, Name="cards"),
        entity(AWS_OBJECT, Bucket="cards", Key="a.csv"),
    ),
    custom_details=(("EventIds", ("e-1", "e-2")),),
    properties=(),
    query="AWSCloudTrail",
    rows=2,
)


def event(number: int, *, error: str = "") -> Event:
    return Event(
        at=START + timedelta(minutes=number),
        event_id=f"e-{number}",
        name="GetObject",
        service="s3",
        target="s3://cards/a.csv",
        session=SESSION,
        key=KEY,
        address="203.0.113.66",
        client=CLIENT,
        error=error,
    )


ISSUE = Issue(
    at=START - timedelta(hours=2),
    event_id="e-0",
    api="AssumeRole",
    key=KEY,
    expires="",
    role_arn="arn:aws:iam::111122223333:role/web",
    session_name="i-0123456789abcdef0",
    service="ec2.amazonaws.com",
    caller_type="AWSService",
    caller_arn="",
    caller_id="",
    caller_key="",
    caller_address="ec2.amazonaws.com",
)
USE = Use(KEY, "203.0.113.66", CLIENT, "1.0", START, START + timedelta(minutes=3), 3, 1)
STRANGE = Use("ASIAEXAMPLE000000009", "192.0.2.1", "sdk", "", START, START, 1, 0)
LINE = Line(
    bucket="cards",
    key="a.csv",
    version="",
    bytes=58_872,
    reads=1,
    denied=0,
    first=START,
    last=START,
    session=SESSION,
    access_key=KEY,
    address="203.0.113.66",
    client=CLIENT,
    source="S3 data events",
)
REPORT = Report(
    incident=assemble(1, [ALERT]),
    story=("Key [bold]x[/bold] left \u202eits instance.",),
    entities=ALERT.entities,
    alerts=(ALERT,),
    timeline=(event(1), event(2, error="AccessDenied"), event(3)),
    lineage=Lineage((ISSUE,), (USE, STRANGE)),
    manifest=Manifest((LINE,)),
    steps=(),
)


def page(*, width: int = 120, most_events: int = 50) -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=width, force_terminal=True, color_system=None, markup=False)
    print_report(console, REPORT, width=width, most_events=most_events)
    return stream.getvalue()


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120])
def test_no_line_is_wider_than_the_page_and_no_word_is_shredded(width: int) -> None:
    lines = page(width=width).splitlines()
    assert max(map(len, lines)) <= width
    if width >= 40:
        assert any("s3:GetObject" in line for line in lines)
        assert any("s3://cards/a.csv" in line for line in lines)


def test_the_page_says_everything() -> None:
    text = page()
    for expected in (
        "Incident 1  High  New",
        "Session of role web used outside i-0123456789abcdef0",
        "Key [bold]x[/bold] left \\u202eits instance.",
        "cards/a.csv",
        "Timeline: 3 events",
        "AccessDenied",
        "issued to instance i-0123456789abcdef0 by AssumeRole at 2026-03-18T07:00:00Z, event e-0",
        "used from 203.0.113.66 with aws-cli/2.15.0: 3 calls, 1 refused",
        "ASIAEXAMPLE000000009 (where it was issued is not stored)",
        "What left: 1 object, 58,872 bytes (57.5 KiB)",
        "web/i-0123456789abcdef0",
        "T1552.005 Unsecured Credentials: Cloud Instance Metadata API",
        "T9999",
        "tactics: CredentialAccess, Exfiltration",
        "Instance credentials used outside their",
    ):
        assert expected in text, expected


@pytest.mark.parametrize("width", [60, 80, 140])
def test_the_page_keeps_its_width_and_holds_no_escape(width: int) -> None:
    text = page(width=width)
    assert max(map(len, text.splitlines())) <= width
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_a_long_timeline_says_what_it_leaves_out() -> None:
    text = page(most_events=1)
    assert "2 later events not shown" in text
    assert "e-3" not in text
    assert "e-3" in page(most_events=0)


def test_data_has_the_whole_report() -> None:
    data = json.loads(json.dumps(report_as_data(REPORT)))
    assert data["number"] == 1
    assert data["techniques"][1] == {"id": "T1530", "name": "Data from Cloud Storage"}
    assert data["entities"][0] == {"type": "AwsAccessKey", "name": KEY, "Id": KEY}
    assert data["timeline"][0]["client"] == CLIENT
    assert data["lineage"]["issues"][0]["instance"] == "i-0123456789abcdef0"
    assert data["manifest"]["objects"] == 1
    assert data["manifest"]["bytes"] == 58_872
    assert data["alerts"][0]["custom_details"] == {"EventIds": ["e-1", "e-2"]}


def test_what_left_that_nobody_knows_is_no_zero() -> None:
    """A machine that reads `"objects": 0` takes it for the answer that nothing left."""
    refused = replace(LINE, bytes=0, reads=0, denied=2)
    everywhere, other = Gap("", None), Gap("other", START)
    for manifest, unknown, objects, title in (
        (Manifest((), (everywhere,)), True, None, "not known"),
        (Manifest((refused,), (other,)), True, None, "not known, 2 reads refused"),
        (Manifest((refused,)), False, 0, "0 objects, 0 bytes, 2 reads refused"),
        (Manifest((LINE,), (other,)), False, 1, "1 object, 58,872 bytes (57.5 KiB)"),
    ):
        told = json.loads(json.dumps(report_as_data(replace(REPORT, manifest=manifest))))["manifest"]
        assert (told["unknown"], told["objects"], told["bytes"] is None) == (unknown, objects, unknown)
        assert [gap["told"] for gap in told["gaps"]] == [gap.told for gap in manifest.gaps]
        assert what_left(manifest) == title


def test_printed_json_is_the_data(capsys: pytest.CaptureFixture[str]) -> None:
    show_report(REPORT, Format.JSON, most_events=0)
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert json.loads(printed) == report_as_data(REPORT)


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    show_incidents([REPORT.incident], Format.TABLE)
    assert REPORT.incident.title in capsys.readouterr().out
    show_incidents([], Format.TABLE)
    assert capsys.readouterr().out == "no incidents\n"
    show_incidents([REPORT.incident], Format.JSON)
    [data] = json.loads(capsys.readouterr().out)
    assert data["severity"] == "High"
    assert data["alert_ids"] == ["a-1"]
    assert data["last_activity"] == "2026-03-18T09:03:00Z"


def test_what_was_done_is_folded_into_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    """The sentence of a long change ran over the page, 190 columns and more."""
    before = REPORT.incident
    after = replace(before, title="the owner of the role was asked what it reads and why " * 4)
    print_work(after, [Change(1, ChangeKind.UPDATED, "ana", START, before, after)])
    shown = capsys.readouterr().out
    assert "title: the owner" in shown
    assert max(map(len, shown.splitlines())) <= PAGE_WIDTH
