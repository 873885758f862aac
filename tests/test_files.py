import errno
import os
from pathlib import Path

import pytest

from trailhawk.files import write_whole


def test_a_file_takes_the_place_of_the_old_one_and_nothing_else_is_left(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    for content in (b"one", b"", b"\xff" * 100_000):
        write_whole(file, content)
        assert file.read_bytes() == content
    assert os.listdir(tmp_path) == ["a.txt"]


def test_where_it_cannot_be_written_the_old_one_stays(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_whole(tmp_path / "none" / "a.txt", b"")
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(OSError, match="directory"):
        write_whole(folder, b"x")
    assert os.listdir(tmp_path) == ["folder"]


def test_where_there_is_no_room_the_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writing, unlike opening, does not say of which file it speaks."""

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_whole(tmp_path / "a.txt", b"x")
    assert caught.value.filename == str(tmp_path / "a.txt")
