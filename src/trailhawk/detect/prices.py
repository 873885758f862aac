"""What logs cost, from a file that anybody can change."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path

import yaml

from trailhawk.documents import Loader
from trailhawk.errors import UsageError

PRICES = Path(__file__).parent.parent / "content" / "prices.yaml"


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars for so many bytes; `what` says of what, `source` and `date` where and when it was read."""

    what: str
    usd: float
    bytes: int
    source: str
    date: str

    def of(self, size: float) -> float:
        """The price of so many bytes."""
        return size / self.bytes * self.usd


@dataclass(frozen=True, slots=True)
class Prices:
    """The price of a byte ingested by Sentinel, and that of a byte kept in S3 for a month."""

    sentinel: Price
    s3: Price


def prices(path: Path = PRICES) -> Prices:
    """The prices of a file; UsageError with the place of what is wrong in it."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8-sig"), Loader=Loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"no price file {path}: {' '.join(str(error).split())}") from None
    found = content if isinstance(content, dict) else {}
    return Prices(_price(found, "sentinel_analytics", path), _price(found, "s3_standard", path))


def _price(content: dict[str, object], name: str, path: Path) -> Price:
    entry = content.get(name)
    if not isinstance(entry, dict):
        raise UsageError(f"{path}: no {name}", hint=f"see {PRICES}")
    usd, size = entry.get("usd"), entry.get("bytes")
    if not isinstance(usd, int | float) or isinstance(usd, bool) or usd < 0:
        raise UsageError(f"{path}: {name}.usd is no amount of money: {usd!r}")
    if not isinstance(size, int) or size <= 0:
        raise UsageError(f"{path}: {name}.bytes is no number of bytes: {size!r}")
    when = entry.get("date", "")
    return Price(
        what=str(entry.get("what", name)),
        usd=float(usd),
        bytes=size,
        source=str(entry.get("source", "")),
        date=when.isoformat() if isinstance(when, date) else str(when),
    )
