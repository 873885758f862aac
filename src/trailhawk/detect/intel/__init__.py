"""Threat intelligence: indicators read from STIX bundles and plain lists into ThreatIntelIndicators.

`pattern` and `observable` say what an indicator names, `stix` and `lists` read files, `table` and `store`
keep it in the lake.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from trailhawk.detect.intel.observable import Observable

MAX_BYTES = 200_000_000
MAX_INDICATORS = 250_000
MAX_DATA = 32_768
MAX_TOLD = 20
"""Bytes and indicators of a file, characters of an indicator's own object, and refused ones told of."""


@dataclass(frozen=True, slots=True)
class Indicator:
    """One indicator as its source gives it. `data` is the whole object as JSON.

    Without `observables` nothing can be compared with it: its pattern is kept for queries of one's own.
    """

    id: str
    pattern: str
    observables: tuple[Observable, ...]
    data: str
    valid_from: datetime | None = None
    valid_until: datetime | None = None
    created: datetime | None = None
    modified: datetime | None = None
    confidence: int | None = None
    revoked: bool = False
    tags: tuple[str, ...] = ()
    tlp: str = ""
    joined: str = ""
    """How the comparisons of a compound pattern belong together: OR, AND or FOLLOWEDBY; the strictest."""


@dataclass(slots=True)
class Reading:
    """What a file held: its indicators by id, and how many others were refused, the first with why."""

    indicators: dict[str, Indicator] = field(default_factory=dict)
    refused: int = 0
    reasons: list[str] = field(default_factory=list)
    others: int = 0
    """Objects of other kinds: malware, relations, reports."""

    def refuse(self, where: str, reason: str) -> None:
        self.refused += 1
        if len(self.reasons) < MAX_TOLD:
            self.reasons.append(f"{where}: {reason}")

    def add(self, indicator: Indicator) -> None:
        """Take an indicator; of two with one id the later modified."""
        known = self.indicators.get(indicator.id)
        if known is None or (known.modified and indicator.modified and known.modified <= indicator.modified):
            self.indicators[indicator.id] = indicator


__all__ = ["MAX_BYTES", "MAX_DATA", "MAX_INDICATORS", "Indicator", "Observable", "Reading"]
