"""The trails that deliver into a connector's buckets: whether they run, what they log and prove."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from trailhawk.connectors.diagnosis import REFUSALS, Check, Patient, Verdict

_ALL_OBJECTS: Final = re.compile(r"arn:aws[a-z-]*:s3(?::::?)?")
"""As classic selectors write every object of every bucket."""
_OBJECT: Final = "AWS::S3::Object"


@dataclass(frozen=True, slots=True)
class _Logged:
    """A kind of events that a trail logs."""

    category: str
    reads: bool
    writes: bool
    whole: bool
    """Whether it is about all objects and calls, and not about some that a selector names."""


class Trails:
    """The trails that deliver into the buckets of a connector."""

    def __init__(self, patient: Patient) -> None:
        self._patient = patient
        self._buckets = list(dict.fromkeys(location.bucket for location in patient.locations()))

    def checks(self) -> Iterator[Check]:
        try:
            client = self._patient.client("cloudtrail")
            mine = [trail for bucket in self._buckets for trail in self._patient.trails_into(bucket)]
        except REFUSALS as error:
            yield self._patient.unknown("trail", error, "cloudtrail:DescribeTrails", "*")
            return
        if not mine:
            words = (
                "no trail of this account and region delivers into the bucket: it may be another account's"
            )
            yield Check("trail", Verdict.UNKNOWN, words)
            return
        logged: list[_Logged] = []
        asked = True
        for trail in mine:
            yield self._status(client, trail)
            arn, name = trail.get("TrailARN", ""), f"trail {trail.get('Name', '')}"
            try:
                logged += _logged(client.get_event_selectors(TrailName=arn))
            except REFUSALS as error:
                asked = False
                yield self._patient.unknown(f"{name}, events", error, "cloudtrail:GetEventSelectors", arn)
            yield _validation(name, trail)
        # What one trail leaves out another may log: together they are what the lake gets.
        yield from _events(logged, whole=asked)

    def _status(self, client: Any, trail: Mapping[str, Any]) -> Check:
        arn, name = trail.get("TrailARN", ""), f"trail {trail.get('Name', '')}"
        try:
            status = client.get_trail_status(Name=arn)
        except REFUSALS as error:
            return self._patient.unknown(name, error, "cloudtrail:GetTrailStatus", arn)
        if not status.get("IsLogging"):
            return Check(name, Verdict.FAILED, "the trail is stopped")
        if fault := status.get("LatestDeliveryError"):
            return Check(name, Verdict.FAILED, f"the last delivery failed: {fault}")
        if fault := status.get("LatestDigestDeliveryError"):
            return Check(name, Verdict.FAILED, f"the last delivery of a digest failed: {fault}")
        where = "all regions" if trail.get("IsMultiRegionTrail") else f"only {trail.get('HomeRegion', '?')}"
        of = "the organisation, " if trail.get("IsOrganizationTrail") else ""
        last = status.get("LatestDeliveryTime", "?")
        return Check(name, Verdict.OK, f"the trail logs {of}{where}; last delivery {last}")


def _validation(name: str, trail: Mapping[str, Any]) -> Check:
    if trail.get("LogFileValidationEnabled"):
        return Check(f"{name}, validation", Verdict.OK, "digest files are written")
    words = "log file validation is off: nothing proves that no file was changed or deleted"
    return Check(f"{name}, validation", Verdict.FAILED, words)


def _logged(selectors: Mapping[str, Any]) -> Iterator[_Logged]:
    """What a trail's selectors, of the one kind or the other, let through."""
    classic: Iterable[Mapping[str, Any]] = selectors.get("EventSelectors") or ()
    advanced: Iterable[Mapping[str, Any]] = selectors.get("AdvancedEventSelectors") or ()
    if not classic and not advanced:  # as a trail is made
        yield _Logged("Management", reads=True, writes=True, whole=True)
    for selector in classic:
        kind = selector.get("ReadWriteType", "All")
        reads, writes = kind in ("All", "ReadOnly"), kind in ("All", "WriteOnly")
        if selector.get("IncludeManagementEvents", True):
            yield _Logged("Management", reads, writes, whole=True)
        for resource in selector.get("DataResources", ()):
            values = resource.get("Values", ())
            if resource.get("Type") == _OBJECT and values:
                yield _Logged("Data", reads, writes, any(map(_ALL_OBJECTS.fullmatch, values)))
    for selector in advanced:
        yield from _advanced(selector.get("FieldSelectors", ()))


def _advanced(fields: Iterable[Mapping[str, Any]]) -> Iterator[_Logged]:
    tests = {str(each.get("Field", "")): each for each in fields}
    category = tests.get("eventCategory", {}).get("Equals", [""])[0]
    if category == "Data" and _OBJECT not in tests.get("resources.type", {}).get("Equals", ()):
        return
    read_only = tests.get("readOnly", {})
    reads, writes = (
        (not read_only.get("Equals") or value in read_only["Equals"])
        and value not in read_only.get("NotEquals", ())
        for value in ("true", "false")
    )
    narrowing = {"Equals", "StartsWith", "EndsWith"}
    others = set(tests) - {"eventCategory", "resources.type", "readOnly"}
    # What is left out by name is the trail's own bucket or a loud caller; what is let in by name is little.
    yield _Logged(category, reads, writes, not any(narrowing & set(tests[name]) for name in others))


def _events(logged: Iterable[_Logged], *, whole: bool) -> Iterator[Check]:
    """What is said of the events of all trails together; not `whole` where one could not be asked."""
    failed = Verdict.FAILED if whole else Verdict.UNKNOWN
    by_kind = {kind: [each for each in logged if each.category == kind] for kind in ("Management", "Data")}
    management, data = by_kind["Management"], by_kind["Data"]
    name = "management events"
    if not management:
        yield Check(name, failed, "no management events are logged: neither sign-ins nor changes are seen")
    elif not all(_both(management)):
        kind = "writes" if _both(management)[1] else "reads"
        yield Check(name, failed, f"only {kind} are logged: half of what an intruder does is not seen")
    else:
        yield Check(name, Verdict.OK, "reads and writes are logged")
    name = "data events"
    if not data:
        words = "no data events of S3: which objects were read or written is not logged (put-event-selectors)"
        yield Check(name, failed, words)
    elif not all(_both(data)):
        done, left = ("written", "read") if _both(data)[1] else ("read", "written")
        yield Check(name, failed, f"S3 objects that are {done} are logged, not those that are {left}")
    else:
        some = "" if any(each.whole for each in data) else ", of those that the selectors name"
        yield Check(name, Verdict.OK, f"calls on S3 objects are logged{some}")


def _both(logged: Iterable[_Logged]) -> tuple[bool, bool]:
    found = list(logged)
    return any(each.reads for each in found), any(each.writes for each in found)
