import os
from pathlib import Path

import pytest

from trailhawk.connectors.folder import files, log_objects, open_at
from trailhawk.errors import UsageError


def test_days_come_in_order_across_accounts(tmp_path: Path) -> None:
    names = (
        "AWSLogs/1/CloudTrail/eu-west-1/2026/03/02/1_CloudTrail_eu-west-1_20260302T0005Z_a.json.gz",
        "AWSLogs/1/CloudTrail/eu-west-1/2026/03/01/1_CloudTrail_eu-west-1_20260301T0005Z_a.json.gz",
        "AWSLogs/2/CloudTrail/eu-west-1/2026/03/01/2_CloudTrail_eu-west-1_20260301T0005Z_a.json.gz",
    )
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    assert [path.relative_to(tmp_path).as_posix() for path in files([tmp_path])] == [
        names[1],
        names[2],
        names[0],
    ]


def test_links_and_hidden_things(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    (logs / "inner").mkdir(parents=True)
    (logs / ".git").mkdir()
    for name in ("a.json", "inner/b.json", ".hidden", ".git/c.json"):
        (logs / name).touch()
    (logs / "inner/round").symlink_to(logs)
    (logs / "again.json").symlink_to(logs / "a.json")
    (logs / "broken.json").symlink_to(tmp_path / "nowhere")
    found = [path.name for path in files([logs, logs / "a.json"])]
    assert found == ["a.json", "broken.json", "b.json"]
    assert [path.name for path in files([logs / ".hidden"])] == [".hidden"]
    assert [path.name for path in files([tmp_path], without=logs)] == []


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file or folder"):
        files([tmp_path / "nowhere"])


def test_a_name_that_is_no_utf8_has_a_location_that_leads_back(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system has names of UTF-8 only")
    file = folder / "x.json"
    file.write_bytes(b"{}")
    [(item, size)] = log_objects(file)
    assert size == 2
    assert item.location == f"{tmp_path}/caf\\xe9/x.json"
    assert item.location.encode()
    with open_at(item.location) as found:
        assert found.read() == b"{}"
