"""Session Manager and Run Command: four roads to the lines that were typed and printed."""

import datetime as dt
import json
from typing import Any

import pytest

from trailhawk.sources import framing
from trailhawk.sources.ssm import SsmOutput

READ_AT = dt.datetime(2026, 3, 2, 12)
AT = dt.datetime(2026, 3, 1, 9, 30)
SESSION = "ann-0a1b2c3d4e5f67890"
COMMAND = "0f0f0f0f-1111-4222-8333-444455556666"
PREFIX = f"ssm/{COMMAND}/i-0123456789abcdef0/awsrunShellScript/0.awsrunShellScript"


def test_a_transcript_in_s3(read: Any) -> None:
    data = b"Script started on 2026-03-01 10:30:00+0100\nsh-4.2$ whoami\r\n\x1b[0mroot \xff\n"
    found = read(data, name=f"logs/sessions/{SESSION}.log")
    assert (found.source, found.reasons) == ("ssm", [])
    assert [row["Output"] for row in found.rows] == [
        "Script started on 2026-03-01 10:30:00+0100",
        "sh-4.2$ whoami",
        "\x1b[0mroot \\xff",
    ]
    assert {(row["Kind"], row["SessionId"], row["TimeGenerated"]) for row in found.rows} == {
        ("Session", SESSION, AT)
    }
    assert [row["LineNumber"] for row in found.rows] == [1, 2, 3]


def test_a_transcript_of_windows(read: Any) -> None:
    data = b"*" * 22 + b"\r\nWindows PowerShell transcript start\r\nStart time: 20260301093000\r\nPS> dir\r\n"
    found = read(data, name=f"{SESSION}.log")
    assert {(row["SessionId"], row["TimeGenerated"]) for row in found.rows} == {(SESSION, AT)}


def test_a_transcript_that_only_its_name_tells_has_the_time_of_reading(read: Any) -> None:
    found = read(b"sh-4.2$ id\n", name=f"s3://logs/sessions/{SESSION}.log.gz")
    assert found.source == "ssm-transcript"
    assert [(row["SessionId"], row["TimeGenerated"]) for row in found.rows] == [(SESSION, READ_AT)]


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_output_of_a_command_in_s3(stream: str, read: Any) -> None:
    (row,) = read(b"uid=0(root)\n", name=f"s3://logs/{PREFIX}/{stream}").rows
    assert row == {
        "TimeGenerated": READ_AT,
        "Kind": "Command",
        "CommandId": COMMAND,
        "InstanceId": "i-0123456789abcdef0",
        "Plugin": "awsrunShellScript/0.awsrunShellScript",
        "Stream": stream,
        "LineNumber": 1,
        "Output": "uid=0(root)",
    }


@pytest.mark.parametrize("name", [f"{PREFIX}/stdout", f"sessions/{SESSION}.log"])
@pytest.mark.parametrize(
    "front",
    [
        "2026-03-01T09:30:00",
        "2026-03-01T09:30:00.000Z",
        "2026-03-01T09:30:00.000000+00:00 host",
        "2026-03-01T09:30:00.123456+00:00 host",
    ],
)
def test_what_is_printed_may_begin_with_a_time(front: str, name: str, read: Any) -> None:
    lines = [f"{front} INFO start", "root:x:0:0", '{"a":1}', f"{front} done"]
    found = read("\n".join(lines).encode(), name=name)
    assert (found.source, found.reasons) == ("ssm-transcript", [])
    assert [row["Output"] for row in found.rows] == lines
    assert {row.get("CommandId", row.get("SessionId")) for row in found.rows} in ({COMMAND}, {SESSION})


def test_a_source_that_is_told_to_read_a_line_with_a_time_reads_it(read: Any) -> None:
    (row,) = read(b"2026-03-01T09:30:00.000Z hello\n", name=f"{PREFIX}/stdout", source=SsmOutput()).rows
    assert row["Output"] == "2026-03-01T09:30:00.000Z hello"


def envelope(stream: str, *messages: str) -> bytes:
    events = [{"id": "1", "timestamp": 1772357400000, "message": message} for message in messages]
    value = {"messageType": "DATA_MESSAGE", "logGroup": "g", "logStream": stream, "logEvents": events}
    return json.dumps(value).encode()


def test_output_of_a_command_in_cloudwatch(read: Any) -> None:
    stream = f"{COMMAND}/i-0123456789abcdef0/aws-runShellScript/stdout"
    found = read(envelope(stream, "one\ntwo\n", "three"))
    assert (found.source, found.reasons) == ("ssm", [])
    assert [(row["LineNumber"], row["Output"]) for row in found.rows] == [
        (1, "one"),
        (2, "two"),
        (1, "three"),
    ]
    assert {(row["CommandId"], row["InstanceId"], row["TimeGenerated"]) for row in found.rows} == {
        (COMMAND, "i-0123456789abcdef0", AT)
    }


STREAMED = {
    "eventVersion": "1.0",
    "eventTime": "2026-03-01T09:30:00Z",
    "awsRegion": "eu-central-1",
    "target": {"id": "i-0123456789abcdef0"},
    "userIdentity": {"arn": "arn:aws:iam::111122223333:user/ann"},
    "runAsUser": "ssm-user",
    "sessionId": SESSION,
    "sessionData": ["whoami", "root\u001b[0m"],
}


def test_a_session_streamed_to_cloudwatch(read: Any) -> None:
    text = json.dumps(STREAMED)
    exported, tailed = (
        f"2026-03-01T09:30:01.000{zone} {text}\n".encode() for zone in ("Z", f"000+00:00 {SESSION}")
    )
    for data in (envelope(SESSION, text), exported, tailed, text.encode()):
        found = read(data, name=f"{SESSION}.log")
        assert (found.source, found.reasons) == ("ssm", [])
        assert found.rows[1] == {
            "TimeGenerated": AT,
            "Kind": "Session",
            "SessionId": SESSION,
            "InstanceId": "i-0123456789abcdef0",
            "UserArn": "arn:aws:iam::111122223333:user/ann",
            "RunAsUser": "ssm-user",
            "AWSRegion": "eu-central-1",
            "LineNumber": 2,
            "Output": "root\x1b[0m",
        }


def test_one_bad_piece_costs_only_itself(read: Any) -> None:
    good = json.dumps(STREAMED)
    odd = json.dumps(STREAMED | {"sessionData": "text"})
    found = read(envelope(SESSION, good, good[:100], odd, json.dumps(STREAMED | {"eventTime": "soon"}), good))
    assert len(found.rows) == 4
    assert len(found.bad) == 4


@pytest.mark.parametrize(
    "name",
    [
        "AWSLogs/111122223333/vpcflowlogs/x_fl-0e7c13bf00cf15bfe_20260301T0930Z_f12aa632.log.gz",
        "AWSLogs/111122223333/CloudTrail/x_20260301T0930Z_7xgocspSowgK0Gto.json.gz",
        "prefix2026-03-01-09-30-00-3E57427F3EXAMPLE",
        "notes.txt",
    ],
)
def test_other_names_are_no_sessions(name: str, read: Any) -> None:
    assert read(b"some text\n", name=name).source == ""


@pytest.mark.parametrize(
    "text", ['{"lines":[', '{"lines":[1,2]}', '{"Reservations": []}', '{"sessionData":["x"']
)
def test_what_a_command_prints_may_be_json(text: str, read: Any) -> None:
    found = read(envelope(f"{COMMAND}/i-0123456789abcdef0/aws-runShellScript/stdout", text, "done"))
    assert [row["Output"] for row in found.rows] == [text, "done"]
    assert found.reasons == []


@pytest.mark.parametrize("text", ['{"UserId":"AROA:i-1"}', '{\n  "Account": "1"\n}', "[\n  1\n]", '{"a'])
def test_what_a_command_prints_into_s3_may_be_json(text: str, read: Any) -> None:
    found = read(text.encode(), name=f"{PREFIX}/stdout")
    assert (found.source, found.reasons) == ("ssm-transcript", [])
    assert [row["Output"] for row in found.rows] == text.split("\n")


def test_many_short_lines_in_events_come_in_chunks_of_bounded_size() -> None:
    data = envelope(f"{COMMAND}/i-0123456789abcdef0/aws-runShellScript/stdout", *["a\n" * 10_000] * 3)
    chunks = list(SsmOutput().chunks(iter([data])))
    assert sum(len(chunk.records) for chunk in chunks) == 30_000
    assert max(len(chunk.records) for chunk in chunks) <= framing.CHUNK_RECORDS
