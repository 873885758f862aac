"""Tables of the user's own: what a YAML file may say, and how it is told what is wrong."""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest

from support.text import dump
from trailhawk.errors import SourceError
from trailhawk.kql.types import KqlType
from trailhawk.lake.table import stored_schema
from trailhawk.sources import SOURCES, tables_of, with_custom

OKTA = """
name: okta
table: Okta_CL
description: Sign-ins of our Okta.
objects: okta/.*\\.json(\\.gz)?$
head: '"actor"'
records: [events]
time: {from: published, format: iso}
id: uuid
columns:
  - {name: Actor, type: string, from: actor.alternateId, description: Who it was.}
  - {name: First, type: string, from: "$.target[0]['display name']"}
  - {name: Target, type: dynamic, from: $.target}
  - {name: FirstTarget, type: dynamic, from: "target[0]"}
  - {name: Tries, type: long, from: n}
  - {name: Score, type: real, from: score}
  - {name: Ok, type: bool, from: outcome.ok}
  - {name: Since, type: datetime, from: since}
"""
EVENT = {
    "published": "2026-03-01T09:30:00.5Z",
    "uuid": "u1",
    "actor": {"alternateId": "ann@example.com"},
    "target": [{"display name": "wäf", "n": 1.10}],
    "n": "7",
    "score": 0.5,
    "outcome": {"ok": True},
    "since": 1772357400,
    "more": {"a": 1},
}


def sources(folder: Path, text: str = OKTA, name: str = "okta.yaml") -> Any:
    (folder / name).write_text(text)
    return with_custom(folder)


def test_a_described_log_becomes_a_table(tmp_path: Path, read: Any) -> None:
    mine = sources(tmp_path)
    table = next(table for table in tables_of(mine) if table.name == "Okta_CL")
    assert table.description == "Sign-ins of our Okta."
    columns = {column.name: column for column in table.columns}
    assert columns["Actor"].description == "Who it was."
    assert columns["Tries"].type is KqlType.LONG
    assert stored_schema(table).names[:3] == ["TimeGenerated", "Actor", "First"]
    expected = {
        "TimeGenerated": dt.datetime(2026, 3, 1, 9, 30, 0, 500000),
        "Actor": "ann@example.com",
        "First": "wäf",
        "Target": '[{"display name":"wäf","n":1.1}]',
        "FirstTarget": '{"display name":"wäf","n":1.1}',
        "Tries": 7,
        "Score": 0.5,
        "Ok": True,
        "Since": dt.datetime(2026, 3, 1, 9, 30),
        "_th_rest": '{"more":{"a":1},"uuid":"u1"}',
    }
    for data in (dump(EVENT), dump({"events": [EVENT]}), dump([EVENT]), json.dumps(EVENT, indent=1).encode()):
        found = read(data, name="s3://logs/okta/one.json", sources=mine)
        assert (found.source, found.reasons) == ("okta", [])
        (row,) = found.rows
        row.pop("_th_id")
        assert row == expected
    assert read(dump(EVENT), name="elsewhere/one.json", sources=mine).source == ""
    assert read(dump({"a": 1}), name="okta/one.json", sources=mine).source == ""


def test_a_record_of_it_that_looks_like_what_another_tool_holds_is_its_own(tmp_path: Path, read: Any) -> None:
    """A member `message` or `_raw` in front does not make it an answer of CloudWatch or Splunk."""
    for member in ("message", "_raw", "timestamp"):
        text = f"""
name: linux
table: Linux_CL
objects: linux/
records: [events]
time: {{from: at, format: iso}}
columns:
  - {{name: Said, type: string, from: {member}}}
"""
        mine = sources(tmp_path, text, "linux.yaml")
        events = [{member: said, "at": "2026-03-01T10:00:00Z", "host": "h"} for said in ("up", '{"a": 1}')]
        for data in (dump(events), dump({"events": events}), b"\n".join(map(dump, events))):
            found = read(data, name="linux/one", sources=mine)
            assert (found.source, found.reasons) == ("linux", [])
            assert [row["Said"] for row in found.rows] == ["up", '{"a": 1}']


def test_a_bad_record_of_it_costs_only_itself(tmp_path: Path, read: Any) -> None:
    lines = [
        dump(EVENT),
        dump(EVENT)[:50],
        dump(EVENT | {"published": 1772357400}),
        dump({"uuid": 1}),
        dump(EVENT),
    ]
    found = read(b"\n".join(lines), name="okta/a.json", sources=sources(tmp_path))
    assert len(found.rows) == 2
    assert found.reasons == [
        "record cut off or not JSON",
        "published is no time: '1772357400'",
        "no published",
    ]
    assert found.rows[0]["_th_id"] == found.rows[1]["_th_id"]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("{from: published, format: epoch}", 1772357400.5),
        ("{from: published, format: epoch}", "1772357400.5"),
        ("{from: published, format: epoch-ms}", 1772357400500),
        ("{from: published, format: '%d.%m.%Y %H:%M:%S.%f'}", "01.03.2026 09:30:00.500000"),
        ("{from: published, format: '%d.%m.%Y %H:%M:%S.%f %z'}", "01.03.2026 10:30:00.500000 +0100"),
        ("{from: published}", "2026-03-01T10:30:00.500+01:00"),
        ("published", "2026-03-01 09:30:00.500"),
    ],
)
def test_formats_of_time(written: str, value: object, tmp_path: Path, read: Any) -> None:
    mine = sources(tmp_path, OKTA.replace("{from: published, format: iso}", written))
    (row,) = read(dump(EVENT | {"published": value}), name="okta/a.json", sources=mine).rows
    assert row["TimeGenerated"] == dt.datetime(2026, 3, 1, 9, 30, 0, 500000)


def test_a_format_of_flow_logs(tmp_path: Path, read: Any) -> None:
    mine = sources(
        tmp_path,
        "name: ours\nreads: vpcflow\nfields: ${version} ${interface-id} ${srcaddr} ${start} ${end}\n",
    )
    found = read(b"5 eni-0a 10.0.0.1 1772357400 1772357460\n", sources=mine)
    assert (found.source, [row["InterfaceId"] for row in found.rows]) == ("vpcflow", ["eni-0a"])
    assert [source.name for source in mine] == [source.name for source in SOURCES]


def test_no_folder_is_no_table_of_ones_own(tmp_path: Path) -> None:
    assert with_custom(tmp_path / "none") is SOURCES


def columns(line: str) -> str:
    return OKTA[: OKTA.index("columns:")] + f"columns:\n  - {line}\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[", "okta.yaml: not YAML"),
        ("- a", "okta.yaml: not the description of a source"),
        (OKTA.replace("name: okta", "name: Ok ta"), "okta.yaml: name: 'Ok ta' cannot be used"),
        (OKTA.replace("name: okta", "name: cloudtrail"), "okta.yaml: name: 'cloudtrail' exists already"),
        (OKTA.replace("Okta_CL", "Okta"), "okta.yaml: table: 'Okta' cannot be used"),
        (
            OKTA.replace("Okta_CL", "AwsBucketAPILogsRaw_CL"),
            "okta.yaml: table: 'AwsBucketAPILogsRaw_CL' exists",
        ),
        (OKTA.replace("objects:", "object:"), "okta.yaml: object: no field of a source"),
        (OKTA.replace("okta/.*", "okta/(.*"), "okta.yaml: objects: "),
        (OKTA.replace("[events]", "events"), "okta.yaml: records: a list"),
        (OKTA.replace("from: published, ", ""), "okta.yaml: time: from and format are needed"),
        (OKTA.replace("format: iso", "format: swatch"), "okta.yaml: time.format: 'swatch' is no format"),
        (OKTA.replace("id: uuid", "id: 'a['"), "okta.yaml: id: 'a[' is no JSON path"),
        (columns("{name: A, type: string}"), "okta.yaml: columns[0]: a column has name, type and from"),
        (columns("{name: A, type: text, from: a}"), "okta.yaml: columns[0].type: 'text' is no type"),
        (columns("{name: _th_a, type: string, from: a}"), "okta.yaml: columns[0].name: '_th_a'"),
        (
            columns("{name: type, type: string, from: a}"),
            "okta.yaml: columns[0].name: 'type' is there already",
        ),
        (columns("{name: A, type: string, from: a, x: 1}"), "okta.yaml: columns[0]: unknown: x"),
        (OKTA[: OKTA.index("columns:")], "okta.yaml: columns: a list"),
        ("name: f\nreads: waf\nfields: a b", "okta.yaml: reads: only vpcflow"),
        ("name: f\nreads: vpcflow\nfields: version color", "okta.yaml: fields: 'color' is no field"),
        ("name: f\nreads: vpcflow\nfields: version srcaddr", "okta.yaml: fields: each once"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError) as error:
        sources(tmp_path, text)
    assert str(error.value).startswith(told)
    assert "\n" not in str(error.value)


def test_two_files_may_not_have_one_name(tmp_path: Path) -> None:
    sources(tmp_path, OKTA, "a.yaml")
    with pytest.raises(SourceError, match=r"b.yml: name: 'okta' exists already"):
        sources(tmp_path, OKTA, "b.yml")
