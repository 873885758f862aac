"""What every technique gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..logs.findings import Finding
from ..logs.proxy import WebRequest
from ..record import Record


@dataclass(frozen=True)
class Attack:
    """What an attack leaves in the logs, and what is true about it (for truth.json).

    Flow records and S3 access lines follow from the records and the web requests.
    """

    records: tuple[Record, ...]
    truth: Mapping[str, object]
    requests: tuple[WebRequest, ...] = ()
    findings: tuple[Finding, ...] = ()
