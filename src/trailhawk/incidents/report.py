"""An incident told in full: story, timeline, lineage and manifest, read from the lake when it is shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from trailhawk.detect.alert import EVENT_IDS, Alert
from trailhawk.detect.entities import (
    AWS_ACCESS_KEY,
    AWS_BUCKET,
    AWS_INSTANCE,
    AWS_SESSION,
    IP,
    Entity,
    distinct,
    entity,
)
from trailhawk.engine.result import Engine
from trailhawk.incidents.advice import CONTAIN, Step, steps
from trailhawk.incidents.incident import Incident
from trailhawk.incidents.lineage import Issue, Lineage, Use, lineage, session_of
from trailhawk.incidents.manifest import ACCESS_LOGS, Callers, Manifest, manifest
from trailhawk.incidents.scope import AFTER, scope
from trailhawk.incidents.timeline import Event, timeline
from trailhawk.words import counted

_MOST_NAMES: Final = 8


@dataclass(frozen=True, slots=True)
class Report:
    """An incident with all that is known of it. `entities` are the incident's and the lineage's keys."""

    incident: Incident
    story: tuple[str, ...]
    entities: tuple[Entity, ...]
    alerts: tuple[Alert, ...]
    timeline: tuple[Event, ...]
    lineage: Lineage
    manifest: Manifest
    steps: tuple[Step, ...]

    @property
    def to_do(self) -> tuple[str, ...]:
        """Sentences about the steps that cannot wait, for where the story is told without the steps."""
        urgent = (step for step in self.steps if step.phase == CONTAIN)
        return tuple(f"To do: {step.title[0].lower()}{step.title[1:]}. {step.why}" for step in urgent)


def report(engine: Engine, incident: Incident, alerts: Sequence[Alert], *, now: datetime) -> Report:
    """What an incident is about. `alerts` are its own."""
    where = scope(alerts)
    events = timeline(engine, where, now=now)
    keys = dict.fromkeys(event.key for event in events if event.key)
    origin = lineage(engine, keys, start=where.start, end=where.end + AFTER, now=now)
    read = manifest(engine, where, _callers(incident, alerts, events), now=now)
    beside = [entity(AWS_ACCESS_KEY, Id=key) for key in (*keys, *_siblings(keys, origin))]
    entities = distinct([*incident.entities, *beside])
    untouched = _untouched(alerts, events)
    touched = (each for each in entities if each.type != AWS_INSTANCE or each.value not in untouched)
    advice = steps(touched, events, origin, read, now=now)
    return Report(
        incident=incident,
        story=tuple(_story(incident, alerts, events, origin, read)),
        entities=entities,
        alerts=tuple(alerts),
        timeline=events,
        lineage=origin,
        manifest=read,
        steps=advice,
    )


def _callers(incident: Incident, alerts: Sequence[Alert], events: Sequence[Event]) -> Callers:
    """Who is accused, from where, and the buckets that were touched."""
    sessions = {event.session for event in events if event.session}
    for alert in alerts:
        sessions |= {
            arn for each in alert.entities if each.type == AWS_SESSION and (arn := each.identifier("Arn"))
        }
    addresses = {event.address for event in events} or set(incident.values(IP))
    buckets = {event.bucket for event in events if event.bucket} | set(incident.values(AWS_BUCKET))
    return Callers(tuple(sorted(sessions)), tuple(sorted(addresses)), tuple(sorted(buckets)))


def _untouched(alerts: Iterable[Alert], events: Sequence[Event]) -> set[str]:
    """The instances that stand only in alerts of which every call was refused, but for the callers' own."""
    refused = {event.event_id for event in events if event.error}
    found: dict[str, bool] = {}
    for alert in alerts:
        ids = alert.detail(EVENT_IDS)
        for instance in alert.values(AWS_INSTANCE):
            found[instance] = found.get(instance, True) and bool(ids) and refused.issuperset(ids)
    own = {of.instance for event in events if (of := session_of(event.session))}
    return {instance for instance, is_refused in found.items() if is_refused} - own


def _siblings(keys: Iterable[str], origin: Lineage) -> list[str]:
    """The keys issued to the accused sessions beside the accused keys."""
    accused = [issue for key in keys if (issue := origin.issue_of(key))]
    sessions = {(issue.role_arn, issue.session_name) for issue in accused if issue.session_name}
    return [i.key for i in origin.issues if (i.role_arn, i.session_name) in sessions and i.key]


# --- the story ---------------------------------------------------------------------------------------------


def _story(
    incident: Incident, alerts: Sequence[Alert], events: Sequence[Event], origin: Lineage, read: Manifest
) -> Iterator[str]:
    """Sentences in the order in which one would ask: whose credentials, used where, for what, what left."""
    for key in dict.fromkeys(event.key for event in events if event.key):
        own = [event for event in events if event.key == key]
        issue = origin.issue_of(key)
        if issue is not None:
            yield _issued(issue)
        elif of := session_of(own[0].session):
            whose = f"instance {of.instance}, through EC2" if of.instance else f"session {of.name}"
            yield f"Key {key} is of role {of.role} for {whose}; the call that issued it is not stored."
        yield from _used(key, own)
        yield from _elsewhere(key, issue, own, origin)
    yield from _calls(events)
    yield from _read(read)
    yield from _denied(events)
    yield from _others(incident, alerts)


def _issued(issue: Issue) -> str:
    expires = f", valid until {issue.expires}" if issue.expires else ""
    source = f"by {issue.api} at {_time(issue.at)} (event {issue.event_id})"
    if issue.instance:
        to = f"to instance {issue.instance} through EC2"
    elif who := issue.caller_arn or issue.caller_id:
        key = f" with key {issue.caller_key}" if issue.caller_key else ""
        to = f"to {who}{key} at {issue.caller_address}"
    else:
        to = f"to {issue.service}"
    what = f" of role {issue.role}" if issue.role else f" of user {issue.user}" if issue.user else ""
    return f"Credentials {issue.key}{what} were issued {to} {source}{expires}."


def _used(key: str, events: Sequence[Event]) -> Iterator[str]:
    """From where the calls of this incident were made with one key."""
    by_address: dict[str, list[Event]] = {}
    for event in events:
        by_address.setdefault(event.address, []).append(event)
    for address, own in by_address.items():
        clients = _products(event.client for event in own)
        with_client = f" with {clients}" if clients else ""
        yield (
            f"Key {key} made {counted(len(own), 'call')} of this incident from {address}{with_client}, "
            f"{_between(own[0].at, own[-1].at)}."
        )


def _elsewhere(key: str, issue: Issue | None, events: Sequence[Event], origin: Lineage) -> Iterator[str]:
    """Where the same session's keys were used otherwise: for an instance, its own traffic."""
    keys = {key}
    if issue and issue.session_name:
        session = (issue.role_arn, issue.session_name)
        keys |= {i.key for i in origin.issues if (i.role_arn, i.session_name) == session}
    accused = {event.address for event in events}
    others = [use for use in origin.uses if use.key in keys and use.address not in accused]
    by_address: dict[str, list[Use]] = {}
    for use in others:
        by_address.setdefault(use.address, []).append(use)
    for address, uses in by_address.items():
        clients = _products(use.client for use in uses)
        own = _listed(dict.fromkeys(use.key for use in uses))
        calls = counted(sum(use.calls for use in uses), "call")
        if _is_place(address):
            yield (
                f"The session's own traffic comes from {address} with {clients} "
                f"(key {own}, {calls}) and is not part of the incident."
            )
        else:
            yield (
                f"The service {address} made {calls} for the session (key {own}); from where it was asked to "
                "is in no log."
            )


def _is_place(address: str) -> bool:
    """Whether it is an address: a service that acts for somebody stands in the log by its name."""
    return ":" in address or address.replace(".", "").isdigit()


def _calls(events: Sequence[Event]) -> Iterator[str]:
    """What was called, counted, with the buckets named."""
    if not events:
        return
    counts = Counter(event.name for event in events)
    buckets = list(dict.fromkeys(b for event in events if (b := event.bucket)))
    on = f" on {_listed(f'bucket {bucket}' for bucket in buckets)}" if buckets else ""
    yield f"Calls: {_listed(f'{name} x{n}' for name, n in counts.items())}{on}."


def _read(read: Manifest) -> Iterator[str]:
    copied = {(line.bucket, line.key) for line in read.copies}
    if copied:
        into = dict.fromkeys(line.copied_to.removeprefix("s3://").split("/", 1)[0] for line in read.copies)
        yield (
            f"{counted(len(copied), 'object')} {'was' if len(copied) == 1 else 'were'} copied to "
            f"{_listed(f'bucket {bucket}' for bucket in into)}: the log does not say how large."
        )
    if read.objects:
        within = f" within {read.seconds:,.0f} s" if read.seconds >= 1 else " within a second"
        yield (
            f"{counted(read.objects, 'object')}, {read.bytes:,} bytes, "
            f"left {_listed(f'bucket {bucket}' for bucket in read.buckets)}{within}."
        )
    elif read.denied:
        were = "was" if read.denied == 1 else "were"
        yield f"{'' if read.gaps else 'Nothing left: '}{counted(read.denied, 'read')} {were} refused."
    if any(line.source == ACCESS_LOGS for line in read.lines):
        yield "Some of it is known from S3 access logs alone, which may miss a read and name no key."
    yield from read.notes


def _denied(events: Sequence[Event]) -> Iterator[str]:
    denied = [event for event in events if event.error]
    if denied:
        codes = Counter(event.error for event in denied)
        yield f"Refused: {_listed(f'{code} x{n}' for code, n in codes.items())}."


def _others(incident: Incident, alerts: Sequence[Alert]) -> Iterator[str]:
    """What the other rules said."""
    gravest = sorted(alerts, key=lambda alert: -alert.severity.rank)
    names = list(dict.fromkeys(alert.name for alert in gravest if alert.name != incident.title))
    more = f"; and {len(names) - _MOST_NAMES} others" if len(names) > _MOST_NAMES else ""
    if names:
        yield f"Also raised: {'; '.join(names[:_MOST_NAMES])}{more}."


def _products(clients: Iterable[str]) -> str:
    """The first word of each user agent, which names the program and its version; some of very many."""
    names = list(dict.fromkeys(client.split(" ", 1)[0] for client in clients if client))
    if len(names) > _MOST_NAMES:
        names[_MOST_NAMES - 1 :] = [f"{len(names) - _MOST_NAMES + 1:,} other clients"]
    return _listed(names)


def _listed(items: Iterable[str]) -> str:
    items = list(items)
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + f" and {items[-1]}" if items else ""


def _between(first: datetime, last: datetime) -> str:
    if first == last:
        return f"at {_time(first)}"
    return f"from {_time(first)} to {_time(last)}"


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
