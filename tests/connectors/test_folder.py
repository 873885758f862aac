import datetime as dt
import os
from contextlib import nullcontext
from pathlib import Path

import pytest

from trailhawk.connectors.folder import Watched, files, log_objects, open_at
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


def test_only_files_are_opened(tmp_path: Path) -> None:
    """A pipe would be waited for without end, and a device read without end."""
    logs = tmp_path / "logs"
    logs.mkdir()
    os.mkfifo(logs / "pipe.json")
    os.mkfifo(tmp_path / "pipe")
    (logs / "link.json").symlink_to(tmp_path / "pipe")
    (logs / "zero.json").symlink_to("/dev/zero")
    (logs / "log.json").touch()
    assert [path.name for path in files([logs])] == ["log.json"]
    assert [path.name for path in files([logs / "pipe.json"])] == ["pipe.json"]


def test_a_file_that_may_not_be_looked_at_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder that may be listed and not entered, where listing does not say what its files are."""
    (tmp_path / "log.json").touch()
    scandir = os.scandir

    class Closed:
        def __init__(self, entry: os.DirEntry[str]) -> None:
            self.name, self.path = entry.name, entry.path

        def is_dir(self, *, follow_symlinks: bool = True) -> bool:
            raise PermissionError(13, "Permission denied", self.path)

        is_file = is_dir
        is_symlink = stat = is_dir

    monkeypatch.setattr(os, "scandir", lambda path: nullcontext(map(Closed, scandir(path))))
    assert files([tmp_path]) == [tmp_path / "log.json"]


def test_what_cannot_be_looked_at_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that may not be listed, a path that is too long, links that lead round."""
    logs = tmp_path / "logs"
    closed = logs / "closed"
    closed.mkdir(parents=True)
    (closed / "log.json").touch()
    (logs / "round.json").symlink_to("round.json")
    (logs / "long.json").symlink_to("x" * 300)
    (logs / "log.json").touch()
    handle = os.open(logs, os.O_RDONLY)
    for _ in range(25):
        os.mkdir("x" * 200, dir_fd=handle)
        inner = os.open("x" * 200, os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = inner
    os.close(os.open("log.json", os.O_CREAT, dir_fd=handle))
    os.close(handle)
    scandir, listdir = os.scandir, os.listdir

    def asked(path: str) -> str:
        if str(path) == str(closed):
            raise PermissionError(13, "Permission denied", str(path))
        return path

    monkeypatch.setattr(os, "scandir", lambda path: scandir(asked(path)))
    monkeypatch.setattr(os, "listdir", lambda path: listdir(asked(path)))
    told = {}
    for path in files([logs]):
        [(item, _)] = log_objects(path, named=False)
        try:
            item.open().close()
        except OSError as error:
            told[path.name[:9]] = error.strerror
    assert told == {
        "closed": "Permission denied",
        "round.jso": "Too many levels of symbolic links",
        "long.json": "File name too long",
        "x" * 9: "File name too long",
    }


def test_a_file_that_is_opened_to_us_later_is_taken_then(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.touch(0o600)
    watched = Watched([tmp_path], without=None, quiet=dt.timedelta())
    now = dt.datetime(2100, 1, 1, tzinfo=dt.UTC)
    assert [watched.look(now) for _ in range(3)] == [[], [file], []]
    file.chmod(0o644)
    assert [watched.look(now) for _ in range(3)] == [[], [file], []]
