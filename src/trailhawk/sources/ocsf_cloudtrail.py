"""CloudTrail's events as Security Lake writes them (OCSF), back in the words of CloudTrail.

Source version 2 (OCSF 1.1 and 1.5; classes 3001, 3002, 6003) keeps request and answer as JSON in
`api.request.data` and `api.response.data`. Source version 1 (OCSF 1.0.0-rc.2; classes 3001, 3002, 3005)
spreads them over `unmapped`, a map of texts under paths such as `requestParameters.bucketName`; a list there
is one text with commas, so that numbers are text and lists of lists are lost.
Mapping: https://github.com/ocsf/examples/tree/main/mappings/markdown/AWS (CloudTrail, v1.5.0 and older) ,
https://docs.aws.amazon.com/security-lake/latest/userguide/cloudtrail-query-examples.html
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Final

import orjson

from trailhawk.sources.json_rows import Record, text_of
from trailhawk.sources.moments import moment

PRODUCT: Final = "CloudTrail"
_ALL_CATEGORIES: Final = "Management, Data, and Insights"  # for an event that names none
_NOTHING: Final = ("", "''")  # the last stands for an absent requestID
_DEEPEST: Final = 30
_MOST_STEPS: Final = 100_000
"""Of all paths in `unmapped`; each may become an object."""
_MOST_PARTS: Final = 10_000
_WRITTEN_BYTES: Final = 8 * 1024
_MOST_TIMES: Final = 8
_ENTRY_BYTES: Final = 8
"""What a value in a list is in JSON beside its text and its name."""
_EPOCH: Final = dt.datetime(1970, 1, 1)
_FLAGS: Final = {"true": True, "false": False}
_NUMBER: Final = re.compile(r"-?\d{1,18}(?:\.\d{1,6})?", re.ASCII)
_OF_NUMBERS: Final = ("bytesTransferredIn", "bytesTransferredOut")
_FEDERATED: Final = frozenset(("SAMLUser", "WebIdentityUser"))
_OF_IDENTITY_CENTER: Final = "IdentityCenterUser"
_ROLES: Final = re.compile(r"Role|InstanceProfile")


def as_cloudtrail(event: Record) -> Record:
    """The event as CloudTrail writes it, from API Activity, Account Change or Authentication of OCSF.

    Members that OCSF has not kept are left out; what stands in `unmapped` is where it was.
    """
    is_old = _is_old(event)
    metadata, api, source = _part(event, "metadata"), _part(event, "api"), _part(event, "src_endpoint")
    request, response, product = _part(api, "request"), _part(api, "response"), _part(metadata, "product")
    record = nested(event.get("unmapped"))
    members = {
        "eventVersion": product.get("version"),
        "eventSource": _part(api, "service").get("name"),
        "eventName": api.get("operation"),
        "awsRegion": _part(event, "cloud").get("region"),
        "sourceIPAddress": source.get("ip") or source.get("domain"),
        "userAgent": _part(event, "http_request").get("user_agent"),
        "errorCode": response.get("error"),
        "errorMessage": response.get("message"),
        "requestID": request.get("uid"),
        "eventID": metadata.get("uid"),
        "eventType": metadata.get("event_code"),
        "apiVersion": api.get("version"),
        "vpcEndpointId": source.get("uid"),
    }
    record |= {name: value for name, value in members.items() if _is_said(value)}
    at_ = moment(event.get("time")) or moment(event.get("time_dt"))
    if at_ is not None:
        record["eventTime"] = _written(at_)
    category = _part(product, "feature").get("name")
    if _is_said(category) and category != _ALL_CATEGORIES:
        record["eventCategory"] = category
    for name in ("readOnly", "managementEvent"):
        if isinstance(flag := record.get(name), str):
            record[name] = _FLAGS.get(flag.lower(), flag)
    for name, place in (("requestParameters", request), ("responseElements", response)):
        data = place.get("data") or record.get(name)
        if isinstance(data, str):
            record[name] = as_json(data)
    record.setdefault("recipientAccountId", _account(event.get("cloud")))
    record["userIdentity"] = _identity(event, record.get("userIdentity"), is_old=is_old)
    record["resources"] = _resources(event.get("resources"), record.get("resources"))
    _additional(event, record)
    if is_old:
        _named_again(event, record)
    return {name: value for name, value in record.items() if value not in (None, "", {}, [])}


def _is_old(event: Record) -> bool:
    """Whether an event is of source version 1."""
    return text_of(_part(event, "metadata").get("version")).startswith(("1.0", "0."))


def _part(value: Record, name: str) -> Record:
    """The object that a member holds, an empty one for any other value."""
    found = value.get(name)
    return found if isinstance(found, dict) else _EMPTY


_EMPTY: Final[Record] = {}


def _is_said(value: object) -> bool:
    """Whether a place holds a value: no object, no list, no empty text."""
    return isinstance(value, bool | int | float | str) and value not in _NOTHING


def _account(value: object) -> object:
    """The account of a user, a cloud or a resource, which source version 1 has in another place; since OCSF
    1.5 a resource's is that of its owner."""
    if not isinstance(value, dict):
        return None
    owner = _part(_part(value, "owner"), "account").get("uid")
    return _part(value, "account").get("uid") or value.get("account_uid") or owner


@lru_cache(maxsize=1024)
def _written(micros: int) -> str:
    text = (_EPOCH + dt.timedelta(microseconds=micros)).isoformat()
    return f"{text}Z"


def as_json(text: str) -> object:
    """The value that JSON says, or the text where it is none."""
    if text[:1] not in ("{", "["):
        return text
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    return orjson.Fragment(text)  # as it stands there, with the digits of its numbers


def _identity(event: Record, unmapped: object, *, is_old: bool) -> Record:
    actor = _part(event, "actor")
    user, session = _part(actor, "user"), _part(actor, "session")
    kind = user.get("type")
    # uid is the principal's id in source version 1 and the ARN in version 2.
    arn, principal = ("uuid", "uid") if is_old else ("uid", "uid_alt")
    found: Record = {
        "type": kind,
        "principalId": user.get(principal),
        "arn": user.get(arn),
        "accountId": _account(user),
        "accessKeyId": user.get("credential_uid"),
        "userName": user.get("name"),
        "invokedBy": actor.get("invoked_by"),
    }
    identity = unmapped if isinstance(unmapped, dict) else {}
    behalf = _part(identity, "onBehalfOf")
    if kind == _OF_IDENTITY_CENTER:
        found["credentialId"] = found.pop("accessKeyId")
        del found["userName"]  # that of additionalEventData
        if "userId" not in behalf:  # which OCSF 1.5 keeps in the principal's place
            behalf = behalf | {"userId": found.pop("principalId")}
    behalf = behalf | {"identityStoreArn": _part(actor, "idp").get("uid") or behalf.get("identityStoreArn")}
    if behalf := {name: value for name, value in behalf.items() if _is_said(value)}:
        identity["onBehalfOf"] = behalf
    identity |= {name: value for name, value in found.items() if _is_said(value)}
    context = identity.get("sessionContext")
    context = context if isinstance(context, dict) else {}
    created = moment(session.get("created_time_dt")) or moment(session.get("created_time"))
    has_mfa = session.get("mfa" if is_old else "is_mfa")
    attributes: Record = {}
    if created is not None:
        attributes["creationDate"] = _written(created)
    if isinstance(has_mfa, bool) and created is not None:
        attributes["mfaAuthenticated"] = str(has_mfa).lower()
    if attributes:
        context["attributes"] = attributes
    if _is_said(issuer := session.get("issuer")):
        about = context.get("sessionIssuer")
        context["sessionIssuer"] = (about if isinstance(about, dict) else {}) | {"arn": issuer}
    if _is_said(provider := _part(actor, "idp").get("name")):
        if kind in _FEDERATED:
            identity["identityProvider"] = provider
        else:
            about = context.get("webIdFederationData")
            held = about if isinstance(about, dict) else {"attributes": {}}
            context["webIdFederationData"] = held | {"federatedProvider": provider}
    if context:
        identity["sessionContext"] = context
    return identity


def _resources(value: object, unmapped: object) -> list[Record] | None:
    """The resources; those that a class of OCSF has no place for stand in `unmapped`."""
    given = value if isinstance(value, list) else []
    found: list[Record] = []
    for each in given:
        if isinstance(each, dict):
            names = {"accountId": _account(each), "type": each.get("type"), "ARN": each.get("uid")}
            found.append({name: text for name, text in names.items() if _is_said(text)})
    if isinstance(unmapped, str):
        unmapped = _parsed(unmapped)
    others = [each for each in unmapped if isinstance(each, dict)] if isinstance(unmapped, list) else []
    if not found:
        return others or None
    # What only some have, such as ARNPrefix, is the part of those that have no ARN.
    lacking = found if len(others) == len(found) else [each for each in found if "ARN" not in each]
    if len(others) == len(lacking):
        for each, other in zip(lacking, others, strict=True):
            each.update({name: value for name, value in other.items() if name not in each})
    return found


def _parsed(text: str) -> object:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


def _additional(event: Record, record: Record) -> None:
    """What a sign-in has in places of its own, and the numbers that are text in `unmapped`."""
    held = record.get("additionalEventData")
    more: Record = held if isinstance(held, dict) else {}
    for name in _OF_NUMBERS:
        if isinstance(text := more.get(name), str) and _NUMBER.fullmatch(text):
            more[name] = float(text) if "." in text else int(text)
    user = _part(_part(event, "actor"), "user")
    if user.get("type") == _OF_IDENTITY_CENTER and _is_said(who := user.get("name")):
        more.setdefault("UserName", who)
    if _is_said(target := _part(event, "dst_endpoint").get("svc_name")):
        more["LoginTo"] = target
    if record.get("eventName") == "ConsoleLogin":
        if isinstance(has_mfa := event.get("is_mfa"), bool):
            more["MFAUsed"] = "Yes" if has_mfa else "No"
        if (status := event.get("status")) in ("Success", "Failure"):
            record.setdefault("responseElements", {"ConsoleLogin": status})
    if more:
        record["additionalEventData"] = more


def _named_again(event: Record, record: Record) -> None:
    """Source version 1 keeps whom an event is about only as the user, and takes it out of the request."""
    name, role = (_part(event, "user").get(each) for each in ("name", "uuid"))
    asked = record.get("requestParameters")
    if not isinstance(asked, dict) and asked is not None:
        return
    made: Record = asked or {}
    operation = text_of(record.get("eventName"))
    if operation.startswith("AssumeRole"):
        made |= {"roleArn": made.get("roleArn", role), "roleSessionName": made.get("roleSessionName", name)}
    elif event.get("class_uid") == _ACCOUNT_CHANGE:
        place = "roleName" if _ROLES.search(operation) else "userName"
        made |= {place: made.get(place, name)}
    record["requestParameters"] = {each: value for each, value in made.items() if value is not None}


_ACCOUNT_CHANGE: Final = 3001


def nested(unmapped: object) -> Record:
    """The members that `unmapped` spreads over paths, each where it was; empty texts are left out.

    Texts with commas stay whole where the lists that they would become were many times larger.

    >>> nested({"a.b": "1", "a.c": "2", "r[].ARN": "x,y", "r[].type": "t,t", "e": ""})
    {'a': {'b': '1', 'c': '2'}, 'r': [{'ARN': 'x', 'type': 't'}, {'ARN': 'y', 'type': 't'}]}
    """
    made: Record = {}
    has_lists = False
    steps_left, lists = _MOST_STEPS, _Lists()
    for path, value in _leaves(unmapped):
        if "[]" in path:
            has_lists = True
            lists.add(path, value)
        steps_left -= path.count(".")
        if "." not in path or steps_left < 0:
            if not isinstance(made.get(path), dict):
                made[path] = value
            continue
        *steps, last = path.split(".", _DEEPEST)
        here = made
        for step in steps:
            inner = here.get(step)
            if not isinstance(inner, dict):
                inner = here[step] = {}
            here = inner
        if not isinstance(here.get(last), dict):
            here[last] = value
    return _with_lists(made, 0, is_cut=lists.are_small()) if has_lists else made


class _Lists:
    """What the texts with commas would become as lists, where each value is written with its name."""

    def __init__(self) -> None:
        self._parts = self._text = self._written = 0

    def add(self, path: str, value: object) -> None:
        """A text at a path."""
        if isinstance(value, str):
            parts = value.count(",") + 1
            self._parts += parts
            self._text += len(path) + len(value)
            self._written += len(value) + parts * (len(path.rpartition(".")[2]) + _ENTRY_BYTES)

    def are_small(self) -> bool:
        """Whether the lists are no larger than a request's."""
        most = max(_WRITTEN_BYTES, _MOST_TIMES * self._text)
        return self._parts <= _MOST_PARTS and self._written <= most


def _leaves(unmapped: object) -> Iterator[tuple[str, object]]:
    """Paths and values, of a map of texts or of an object of objects."""
    if isinstance(unmapped, str):
        unmapped = _parsed(unmapped)
    for name, value in unmapped.items() if isinstance(unmapped, dict) else ():
        if value is not None and value not in _NOTHING:
            yield name, value


def _with_lists(value: Record, depth: int, *, is_cut: bool) -> Record:
    if depth > _DEEPEST:
        return value
    return {
        name: _with_lists(each, depth + 1, is_cut=is_cut) if isinstance(each, dict) else each
        for name, each in _lists(value, is_cut=is_cut)
    }


def _lists(value: Record, *, is_cut: bool) -> Iterator[tuple[str, object]]:
    """Members, those named `x[]` as lists: a text with commas is as many values, where all in it agree."""
    for name, each in value.items():
        if not name.endswith("[]"):
            yield name, each
        else:
            yield name.removesuffix("[]"), _listed(each, is_cut=is_cut)


def _listed(value: object, *, is_cut: bool) -> object:
    if isinstance(value, str):
        return value.split(",") if is_cut else value
    if not isinstance(value, Mapping):
        return value
    texts = {name: text for name, text in value.items() if isinstance(text, str) and not name.endswith("[]")}
    counts = {text.count(",") + 1 for text in texts.values()}
    if not is_cut or len(texts) < len(value) or len(counts) != 1:
        return [_with_lists(dict(value), 0, is_cut=is_cut)]
    (count,) = counts
    cut = {name: text.split(",") for name, text in texts.items()}
    return [{name: parts[place] for name, parts in cut.items()} for place in range(count)]
