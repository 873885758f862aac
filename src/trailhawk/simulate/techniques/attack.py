"""What every technique gives, and in which variants it can be told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from ..logs.findings import Finding
from ..logs.proxy import WebRequest
from ..record import Json, Record
from ..world import ORDINARY, LookAlike, Setting, World


@dataclass(frozen=True)
class Expected:
    """What a detection should say, for truth.json: so many incidents of Medium or more, the least severity
    of the gravest, and what stands in it. Without incidents nothing above Low may be raised.
    """

    incidents: int = 0
    severity: str = ""
    entities: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """By type, as incidents name them: values that must be there."""


SILENCE = Expected()


@dataclass(frozen=True)
class Attack:
    """What a variant leaves in the logs, and what is true about it (for truth.json).

    Flow records and S3 access lines follow from the records and the web requests. `background` are records
    of a benign story that belongs to the variant, `look_alikes` say what it is; `truth` is empty where
    nobody attacks.
    """

    records: tuple[Record, ...]
    truth: Mapping[str, object]
    expected: Expected = SILENCE
    requests: tuple[WebRequest, ...] = ()
    findings: tuple[Finding, ...] = ()
    background: tuple[Record, ...] = ()
    look_alikes: tuple[LookAlike, ...] = ()

    @property
    def expectation(self) -> Json:
        """`expected` with the events, objects and bytes that follow from the records."""
        read = _objects_read(self.records)
        return {
            "incidents": self.expected.incidents,
            "severity": self.expected.severity,
            "event_ids": [record.event_id for record in self.records] if self.expected.incidents else [],
            "objects": [
                {"bucket": bucket, "key": key, "bytes": size, "reads": reads}
                for (bucket, key), (size, reads) in read.items()
            ],
            "bytes": sum(size for size, _ in read.values()),
            "refused": sum("errorCode" in record.body for record in self.records),
            "entities": {kind: list(values) for kind, values in self.expected.entities.items()},
        }


def _objects_read(records: Sequence[Record]) -> dict[tuple[str, str], tuple[int, int]]:
    """(bytes, reads) of each (bucket, key) that was given out."""
    read: dict[tuple[str, str], tuple[int, int]] = {}
    for record in records:
        request, extra = record.body["requestParameters"], record.body.get("additionalEventData")
        if record.body["eventName"] != "GetObject" or "errorCode" in record.body:
            continue
        assert isinstance(request, dict)
        assert isinstance(extra, dict)
        name = str(request["bucketName"]), str(request["key"])
        size, reads = read.get(name, (0, 0))
        read[name] = size + int(extra["bytesTransferredOut"]), reads + 1
    return read


@dataclass(frozen=True)
class Variant:
    """One way an attack can go, or something benign that resembles it. `number` is the one in issues and
    notes, and as good as the name. `events` is the size of the simulation where none is asked for."""

    name: str
    number: str
    description: str
    attack: Callable[[World, Random], Attack]
    setting: Setting = ORDINARY
    events: int | None = None


@dataclass(frozen=True)
class Scenario:
    """An attack that can be simulated, by the name given on the command line; its first variant is the
    ordinary one."""

    name: str
    description: str
    variants: tuple[Variant, ...]
