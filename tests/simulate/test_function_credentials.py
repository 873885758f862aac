"""The theft of a function's key: told by CloudTrail alone, amid the function's own calls."""

from __future__ import annotations

import gzip
from datetime import date
from pathlib import Path
from typing import Any

import orjson
import pytest

from trailhawk.simulate.run import simulate

END = date(2026, 3, 20)


@pytest.mark.parametrize("variant", ["F1", "sdk"])
def test_the_key_is_issued_to_the_function_used_by_it_and_then_elsewhere(
    tmp_path: Path, variant: str
) -> None:
    made = simulate(
        "function-credentials", tmp_path, variant=variant, seed=5, days=2, events_per_day=300, end=END
    )
    truth = orjson.loads(made.truth.read_bytes())
    attack, expected = truth["attack"], truth["expected"]
    records: dict[str, Any] = {
        record["eventID"]: record
        for path in made.logs.glob("AWSLogs/*/CloudTrail/**/*.json.gz")
        for record in orjson.loads(gzip.decompress(path.read_bytes()))["Records"]
    }
    [issued] = [records[event] for event in attack["assume_role_event_ids"]]
    assert issued["userIdentity"] == {"type": "AWSService", "invokedBy": "lambda.amazonaws.com"}
    key = attack["stolen_access_key"]
    assert issued["responseElements"]["credentials"]["accessKeyId"] == key
    used = [record for record in records.values() if record["userIdentity"].get("accessKeyId") == key]
    theirs = {record["eventID"] for record in used if record["sourceIPAddress"] == attack["attacker_address"]}
    own = [record for record in used if record["eventID"] not in theirs]
    assert theirs == set(expected["event_ids"])
    assert {record["sourceIPAddress"] for record in own} == {attack["function_address"]}
    assert all("exec-env/AWS_Lambda" in record["userAgent"] for record in own)
    assert not any("exec-env" in records[event]["userAgent"] for event in theirs)
    assert max(record["eventTime"] for record in own) < attack["first"]
    assert (len(expected["objects"]), expected["bytes"]) == (4, 459_921)
    assert truth["other_logs"]["guardduty"]["attack_ids"] == []
