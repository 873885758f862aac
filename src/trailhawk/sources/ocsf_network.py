"""Flow records, resolver queries, web requests and Kubernetes audit events of Security Lake (OCSF), in the
words in which AWS's own logs say them.

Mappings: https://github.com/ocsf/examples/tree/main/mappings/markdown/AWS (VPC Flowlogs, Route53, WAF, EKS
Audit Logs)
"""

from __future__ import annotations

import datetime as dt
import re
from typing import Final

from trailhawk.sources.json_rows import Record, at, text_of
from trailhawk.sources.moments import moment
from trailhawk.sources.ocsf_cloudtrail import as_json, nested

_EPOCH: Final = dt.datetime(1970, 1, 1)
_SECOND: Final = 1_000_000
_DIRECTIONS: Final[dict[object, str]] = {
    1: "ingress",
    2: "egress",
    "Inbound": "ingress",
    "Outbound": "egress",
}
# What traffic-path counts from 1 is counted from 4 in OCSF's list of boundaries.
_PATHS: Final[dict[object, int]] = {boundary: boundary - 3 for boundary in range(4, 12)}
_RCODES: Final = {"FORMERROR": "FORMERR", "NOTIMP": "NOTIMP"}
_FLOW: Final = (
    ("version", "metadata.product.version"),
    ("account-id", "cloud.account.uid|cloud.account_uid"),
    ("interface-id", "@interface_uid"),
    ("srcport", "src_endpoint.port"),
    ("dstport", "dst_endpoint.port"),
    ("protocol", "connection_info.protocol_num"),
    ("packets", "traffic.packets"),
    ("bytes", "traffic.bytes"),
    ("log-status", "status_code"),
    ("vpc-id", "@vpc_uid"),
    ("subnet-id", "@subnet_uid"),
    ("instance-id", "@instance_uid"),
    ("tcp-flags", "connection_info.tcp_flags"),
    ("type", "connection_info.protocol_ver"),
    ("region", "cloud.region"),
    ("az-id", "cloud.zone"),
    ("pkt-src-aws-service", "src_endpoint.svc_name"),
    ("pkt-dst-aws-service", "dst_endpoint.svc_name"),
)


def as_flow(event: Record) -> bytes:
    """A line of a flow log under its header, from Network Activity (4001) of Amazon VPC."""
    info = event.get("connection_info")
    direction = _DIRECTIONS.get(_key(at(info, ("direction_id",)))) or _DIRECTIONS.get(
        _key(at(info, ("direction",)))
    )
    # The interface that was watched is the end that its direction says; an unknown one is whichever has it.
    ends = ("src_endpoint", "dst_endpoint") if direction == "egress" else ("dst_endpoint", "src_endpoint")
    values: dict[str, object] = {}
    for field, place in _FLOW:
        places = [f"{end}.{place[1:]}" for end in ends] if place.startswith("@") else place.split("|")
        values[field] = _first(event, places)
    for end, address, packet in (
        ("src_endpoint", "srcaddr", "pkt-srcaddr"),
        ("dst_endpoint", "dstaddr", "pkt-dstaddr"),
    ):
        inner, outer = at(event, (end, "ip")), at(event, (end, "intermediate_ips", 0))
        values[address], values[packet] = outer or inner, inner
    values["start"] = _seconds(event, "start_time", "time")
    values["end"] = _seconds(event, "end_time")
    values["action"] = _action(event)
    values["flow-direction"] = direction
    values["traffic-path"] = _PATHS.get(_key(at(info, ("boundary_id",))))
    for name, value in nested(event.get("unmapped")).items():
        field = name.replace("_", "-")
        if field in _MORE and not isinstance(value, dict | list):
            values[field] = value
    found = {field: text for field, value in values.items() if (text := _word(value))}
    return f"{' '.join(found)}\n{' '.join(found.values())}".encode("utf-8", "replace")


_MORE: Final = frozenset(
    (
        "sublocation-id",
        "sublocation-type",
        "reject-reason",
        "resource-id",
        "encryption-status",
        "ecs-cluster-arn",
        "ecs-cluster-name",
        "ecs-container-id",
        "ecs-container-instance-arn",
        "ecs-container-instance-id",
        "ecs-second-container-id",
        "ecs-service-name",
        "ecs-task-arn",
        "ecs-task-definition-arn",
        "ecs-task-id",
    )
)
"""Fields of a flow log that OCSF has no place for, as a header names them."""


def as_query(event: Record) -> Record:
    """A record of the resolver's query log, from DNS Activity (4003) of Route 53."""
    rcode = text_of(event.get("rcode")).upper()
    answers = event.get("answers")
    source_ids = {
        "instance": at(event, ("src_endpoint", "instance_uid")),
        "resolver_endpoint": at(event, ("dst_endpoint", "instance_uid")),
        "resolver_network_interface": at(event, ("dst_endpoint", "interface_uid")),
    }
    more = nested(event.get("unmapped"))
    record: Record = {
        "version": at(event, ("metadata", "product", "version")),
        "account_id": _first(event, ["cloud.account.uid", "cloud.account_uid"]),
        "region": at(event, ("cloud", "region")),
        "vpc_id": at(event, ("src_endpoint", "vpc_uid")),
        "query_timestamp": _time(event),
        "query_name": at(event, ("query", "hostname")),
        "query_type": at(event, ("query", "type")),
        "query_class": at(event, ("query", "class")),
        "rcode": _RCODES.get(rcode, rcode),
        "answers": [_answer(each) for each in answers if isinstance(each, dict)]
        if isinstance(answers, list)
        else None,
        "srcaddr": at(event, ("src_endpoint", "ip")),
        "srcport": text_of(at(event, ("src_endpoint", "port"))),
        "transport": at(event, ("connection_info", "protocol_name")),
        "srcids": {name: value for name, value in source_ids.items() if value},
        "firewall_rule_group_id": at(event, ("firewall_rule", "uid")),
        "firewall_rule_action": _firewall(event),
    }
    return {name: value for name, value in (more | record).items() if value not in (None, "", {})}


def as_request(event: Record) -> Record:
    """A record of a web ACL's log, from HTTP Activity (4002) of AWS WAF."""
    request, rule = event.get("http_request"), event.get("firewall_rule")
    labels = at(event, ("metadata", "labels"))
    more = nested(event.get("unmapped"))
    inner: Record = {
        "clientIp": at(event, ("src_endpoint", "ip")),
        "country": at(event, ("src_endpoint", "location", "country")),
        "headers": _headers(request),
        "uri": at(request, ("url", "path")),
        "args": at(request, ("args",)) or at(request, ("url", "query_string")),
        "httpVersion": at(request, ("version",)),
        "httpMethod": at(request, ("http_method",)),
        "requestId": at(request, ("uid",)),
    }
    matched: Record = {
        "conditionType": at(rule, ("condition",)),
        "sensitivityLevel": at(rule, ("sensitivity",)),
        "location": at(rule, ("match_location",)),
        "matchedData": at(rule, ("match_details",)),
    }
    rate: Record = {
        "rateBasedRuleName": at(rule, ("name",)),
        "maxRateAllowed": at(rule, ("rate_limit",)),
    }
    record: Record = {
        "timestamp": event.get("time"),
        "formatVersion": at(event, ("metadata", "product", "version")),
        "webaclId": at(event, ("metadata", "product", "feature", "uid")),
        "terminatingRuleId": at(rule, ("uid",)),
        "terminatingRuleType": at(rule, ("type",)),
        "terminatingRuleMatchDetails": _joined(more.get("terminatingRuleMatchDetails"), matched),
        "action": _judged(event),
        "httpSourceName": at(event, ("src_endpoint", "svc_name")),
        "httpSourceId": at(event, ("src_endpoint", "uid")),
        "rateBasedRuleList": _joined(more.get("rateBasedRuleList"), rate),
        "httpRequest": _object(more.get("httpRequest"))
        | {name: value for name, value in inner.items() if value not in (None, "")},
        "labels": [{"name": label} for label in labels] if isinstance(labels, list) else None,
        "responseCodeSent": at(rule, ("status_code",)) or event.get("http_status"),
        "ja3Fingerprint": at(event, ("tls", "ja3_hash", "value")),
        "ja4Fingerprint": at(event, ("ja4_fingerprint_list", 0, "value")),
    }
    said = {name: value for name, value in record.items() if value not in (None, "")}
    return {name: value for name, value in (more | said).items() if value not in (None, "")}


_USUAL_PORTS: Final = (80, 443)


def _headers(request: object) -> list[object]:
    """The headers, those too that OCSF has places of its own for; some writers keep them twice."""
    given = at(request, ("http_headers",))
    headers: list[object] = (
        [each for each in given if isinstance(each, dict)] if isinstance(given, list) else []
    )
    there = {text_of(at(each, ("name",))).lower() for each in headers}
    host, port = text_of(at(request, ("url", "hostname"))), at(request, ("url", "port"))
    through = at(request, ("x_forwarded_for",))
    is_odd = isinstance(port, int) and port not in _USUAL_PORTS
    for name, value in (
        ("User-Agent", text_of(at(request, ("user_agent",)))),
        ("Referer", text_of(at(request, ("referrer",)))),
        ("Host", f"{host}:{port}" if host and is_odd and ":" not in host else host),
        ("X-Forwarded-For", ", ".join(map(text_of, through)) if isinstance(through, list) else ""),
    ):
        if value and name.lower() not in there:
            headers.append({"name": name, "value": value})
    return headers


def _joined(held: object, found: Record) -> object:
    """A list of the object of which OCSF keeps some members and `unmapped` the others; None for nothing."""
    said = _kept(found)
    if not said:
        return None
    others = held if isinstance(held, list) else []
    return [_object(others[0] if others else None) | said, *others[1:]]


def _object(value: object) -> Record:
    return value if isinstance(value, dict) else {}


def as_audit(event: Record) -> Record:
    """An audit event of Kubernetes with its account, from API Activity (6003) of Amazon EKS."""
    user, session = at(event, ("actor", "user")), at(event, ("actor", "session"))
    request, response = at(event, ("api", "request")), at(event, ("api", "response"))
    groups, resource = at(user, ("groups",)), at(event, ("resources", 0))
    ips = at(event, ("src_endpoint", "intermediate_ips"))
    uri, account = at(event, ("http_request", "url", "path")), _first(event, list(_ACCOUNTS))
    kind, part = _asked_for(text_of(at(resource, ("type",))), text_of(uri))
    extra = {
        "accessKeyId": at(session, ("credential_uid",)),
        "arn": account if text_of(account).startswith("arn:") else None,
        "canonicalArn": at(session, ("issuer",)),
        "principalId": at(user, ("uid_alt",)),
        "sessionName": at(session, ("uid",)),
    }
    audit: Record = {
        "kind": at(event, ("metadata", "log_name")) or "Event",
        "apiVersion": at(event, ("metadata", "product", "version")) or "audit.k8s.io/v1",
        "level": at(event, ("metadata", "log_level")),
        "auditID": at(request, ("uid",)),
        "stage": event.get("message"),
        "requestURI": uri,
        "verb": at(event, ("api", "operation")),
        "user": _kept(
            {
                "username": at(user, ("name",)),
                "uid": at(user, ("uid",)),
                "groups": [at(group, ("name",)) for group in groups] if isinstance(groups, list) else None,
                "extra": {name: [value] for name, value in _kept(extra).items()},
            }
        ),
        "sourceIPs": [
            ip for ip in (at(event, ("src_endpoint", "ip")), *(ips if isinstance(ips, list) else ())) if ip
        ],
        "userAgent": at(event, ("http_request", "user_agent")),
        "objectRef": _kept(
            {
                "resource": kind,
                "namespace": at(resource, ("namespace",)),
                "name": at(resource, ("name",)),
                "uid": at(resource, ("uid",)),
                "apiGroup": at(event, ("api", "group", "name")),
                "apiVersion": at(event, ("api", "version")),
                "resourceVersion": at(resource, ("version",)),
                "subresource": part,
            }
        ),
        "responseStatus": _kept(
            {
                "code": at(response, ("code",)),
                "message": at(response, ("message",)),
                "reason": at(response, ("error",)),
                "status": at(response, ("error_message",)),
            }
        ),
        "requestObject": _data(request),
        "responseObject": _data(response),
        "requestReceivedTimestamp": _time(event, "start_time"),
        "stageTimestamp": _time(event),
        "annotations": _annotations(event),
    }
    about: Record = {"_event": _kept(audit), "_account": _account(text_of(account))}
    cluster = at(event, ("unmapped", "eks_cluster_name"))
    return about | ({"_cluster": cluster} if isinstance(cluster, str) else {})


_ACCOUNTS: Final = ("cloud.account.uid", "cloud.account_uid")
_ACCOUNT: Final = re.compile(r"(?:arn:[^:]*:[^:]*:[^:]*:)?([0-9]{12})(?::.*)?", re.DOTALL)
_OF_NAMESPACES: Final = ("status", "finalize")


def _account(text: str) -> str:
    """The account that this is, or that of the caller whose ARN stands in its place since OCSF 1.5."""
    found = _ACCOUNT.fullmatch(text)
    return found[1] if found else ""


def _data(value: object) -> object:
    data = at(value, ("data",))
    return as_json(data) if isinstance(data, str) else data


def _asked_for(kind: str, uri: str) -> tuple[str, str]:
    """Resource and part of it, which are one word in OCSF; the address tells them apart.

    >>> _asked_for("podsexec", "/api/v1/namespaces/web/pods/p/exec?command=id")
    ('pods', 'exec')
    """
    steps = uri.partition("?")[0].strip("/").split("/", 9)
    steps = steps[{"api": 2, "apis": 3}.get(steps[0], len(steps)) :]
    if len(steps) > 2 and steps[0] == "namespaces" and steps[2] not in _OF_NAMESPACES:
        steps = steps[2:]
    resource, part = (*steps[:1], *steps[2:3]) if len(steps) > 2 else ("", "")
    if "/" in kind:
        resource, _, part = kind.partition("/")
        return resource, part
    between = kind.removeprefix(resource).removesuffix(part)
    is_it = part and kind.startswith(resource) and (kind == resource or kind.endswith(part))
    return (resource, part) if is_it and (kind == resource or len(between) <= 1) else (kind, "")


def _annotations(event: Record) -> Record:
    """The annotations, whose names have dots in them; OCSF 1.5 has a place of its own for the reason."""
    unmapped, reason = event.get("unmapped"), at(event, ("policy", "name"))
    start = "annotations."
    given = unmapped.items() if isinstance(unmapped, dict) else ()
    found = {name.removeprefix(start): value for name, value in given if name.startswith(start)}
    return found | _kept({"authorization.k8s.io/reason": reason})


def _kept(record: Record) -> Record:
    return {name: value for name, value in record.items() if value not in (None, "", {}, [])}


def _first(event: Record, places: list[str]) -> object:
    found = (at(event, place.split(".")) for place in places)
    return next(
        (value for value in found if value not in (None, "") and not isinstance(value, dict | list)), None
    )


def _key(value: object) -> int | str:
    return value if isinstance(value, int | str) else ""


def _word(value: object) -> str:
    """A value as a line of a flow log has it, where a blank would end it; '' for nothing."""
    return "" if value is None else "_".join(text_of(value).split())


def _micros(event: Record, *names: str) -> int | None:
    found = (moment(event.get(each)) for name in names for each in (name, f"{name}_dt"))
    return next((value for value in found if value is not None), None)


def _seconds(event: Record, *names: str) -> int | None:
    micros = _micros(event, *names)
    return None if micros is None else micros // _SECOND


def _time(event: Record, name: str = "time") -> str | None:
    micros = _micros(event, name)
    return None if micros is None else (_EPOCH + dt.timedelta(microseconds=micros)).isoformat() + "Z"


def _action(event: Record) -> str | None:
    """ACCEPT or REJECT; a record without traffic has neither."""
    said = {text_of(event.get(name)) for name in ("action", "disposition", "activity_name")}
    if said & {"Denied", "Blocked", "Refuse"}:
        return "REJECT"
    return "ACCEPT" if said & {"Allowed"} else None


def _answer(answer: Record) -> Record:
    names = {"Rdata": answer.get("rdata"), "Type": answer.get("type"), "Class": answer.get("class")}
    return {name: value for name, value in names.items() if value is not None}


def _firewall(event: Record) -> str | None:
    """What the DNS firewall did; without one of its rules it did nothing."""
    said = f"{text_of(event.get('disposition'))} {text_of(event.get('action'))}"
    if "Alert" in said:
        return "ALERT"
    return "BLOCK" if "Blocked" in said or "Denied" in said else None


def _judged(event: Record) -> str:
    said = text_of(event.get("disposition")) or text_of(event.get("action"))
    return {"Allowed": "ALLOW", "Blocked": "BLOCK", "Denied": "BLOCK"}.get(said, said.upper())
