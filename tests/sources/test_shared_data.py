"""Every file of the real data: what each becomes, counted.

A change of these numbers is a change of what is read: look at it before it is written down here. The records
of panther_labelled stand in a wrapper of its own, each in `log`; they are read out of it too.
"""

import collections
import json
from pathlib import Path
from typing import Any

import pytest

from trailhawk.sources import SOURCES

DATA = Path(__file__).parents[3] / "shared/data"
# What a folder's files become: source -> (files, records, rows); '' for files that no source knows.
FOLDERS = {
    "guardduty_samples": {"guardduty": (9, 9, 9)},
    "invictus_stratus": {"cloudtrail": (56, 2901, 2900)},
    "otrf_s3_honeybucket": {"cloudtrail": (1, 301, 301), "": (1, 1, 0)},
    "panther_labelled": {"cloudtrail": (1, 248, 0), "guardduty": (1, 4, 0), "": (2, 2, 0)},
    "stratus_detonations": {"cloudtrail": (20, 243, 243), "": (1, 1, 0)},
    "parser_samples": {
        "cloudtrail": (4, 5, 5),
        "guardduty": (1, 1, 1),
        "s3access": (2, 6, 6),
        "vpcflow": (6, 18, 16),
    },
}
NOTES = {"README.md", "LICENSE"}  # not logs, and not counted
WHY = {
    "invictus_stratus/ground_truth.json": ["no eventTime"],  # the list of the detonations, not a log
    "parser_samples/vpcflow_mixed_noheader_v2_v3_v5_v8.log": [
        "not a flow log record: 29 fields, and no header says which",
        "not a flow log record: 40 fields, and no header says which",
    ],
}
# The records inside panther_labelled: rows, and why the others are none.
PANTHER = {
    "cloudtrail": (231, {"no eventTime": 16, "eventTime is no time: 'redacted'": 1}),
    "guardduty": (4, {}),
}

pytestmark = pytest.mark.skipif(not DATA.exists(), reason="no real data beside the repository")


def files(folder: str) -> list[Path]:
    return [path for path in sorted((DATA / folder).rglob("*")) if path.is_file() and path.name not in NOTES]


def test_every_folder_is_counted() -> None:
    assert {path.name for path in DATA.iterdir() if path.is_dir()} == FOLDERS.keys()


@pytest.mark.parametrize("folder", FOLDERS)
def test_what_the_files_of_a_folder_become(folder: str, read: Any) -> None:
    counted: dict[str, list[int]] = {}
    for path in files(folder):
        found = read(path.read_bytes(), name=str(path))
        tally = counted.setdefault(found.source, [0, 0, 0])
        for place, value in enumerate((1, found.records, len(found.rows))):
            tally[place] += value
        name = str(path.relative_to(DATA))
        if found.source and folder != "panther_labelled":
            assert found.reasons == WHY.get(name, []), name
    assert {source: tuple(tally) for source, tally in counted.items()} == FOLDERS[folder]


@pytest.mark.parametrize("name", PANTHER)
def test_the_labelled_records(name: str, read: Any) -> None:
    lines = (DATA / "panther_labelled" / f"{name}.shared.jsonl").read_text().splitlines()
    data = "\n".join(json.dumps(json.loads(line)["log"]) for line in lines).encode()
    found = read(data, source=next(source for source in SOURCES if source.name == name))
    rows, reasons = PANTHER[name]
    assert found.records == len(lines)
    assert (len(found.rows), dict(collections.Counter(found.reasons))) == (rows, reasons)


def test_the_one_digest_is_known_as_one(read: Any) -> None:
    digests = [
        path.name for path in files("parser_samples") if read(path.read_bytes(), name=path.name).digest
    ]
    assert digests == ["cloudtrail_digest_otel.json"]
