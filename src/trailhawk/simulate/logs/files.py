"""Where a log file lies in a bucket, and what was written."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from time import gmtime, strftime

from isal import igzip


def stamp(form: str, at: int) -> str:
    """A moment (seconds since 1970) in UTC, in a form of strftime without locale-dependent names."""
    return strftime(form, gmtime(at))


@dataclass
class Tally:
    """What was written of one kind."""

    files: int = 0
    records: int = 0
    bytes: int = 0


@dataclass
class Bucket:
    """A folder that stands for a bucket; `put` writes an object under its key."""

    folder: Path
    tally: Tally = field(default_factory=Tally)

    def put(self, key: str, lines: list[str], *, header: str = "", compress: bool = True) -> None:
        """Write lines as one object. `header` is a line before them that is no record."""
        text = "".join(line + "\n" for line in ([header] if header else []) + lines).encode()
        content = igzip.compress(text, 1, mtime=0) if compress else text
        path = self.folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        self.tally.files += 1
        self.tally.records += len(lines)
        self.tally.bytes += len(content)
