"""What every technique gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..record import Record


@dataclass(frozen=True)
class Attack:
    """What an attack leaves in the logs, and what is true about it (for truth.json)."""

    records: tuple[Record, ...]
    truth: Mapping[str, object]
