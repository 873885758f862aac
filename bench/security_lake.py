"""Write CloudTrail's events and flow records as Amazon Security Lake would: OCSF in Parquet, a file a day.

    python bench/security_lake.py LOGS OUT                 source version 2 (OCSF 1.1)
    python bench/security_lake.py LOGS OUT --version 1     source version 1 (OCSF 1.0.0-rc.2)

LOGS are what `trailhawk simulate` writes, or a folder in AWS's layout with flow logs in the default format.

The mapping is the one that AWS documents (https://github.com/ocsf/examples, mappings/markdown/AWS), written
from CloudTrail's side: what it names goes to its place, everything else into `unmapped` under its path.
"""

from __future__ import annotations

import argparse
import datetime as dt
import gzip
import io
import ipaddress
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Event = Mapping[str, Any]
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_TEXT = pa.string()
_MAPPED = {
    *("eventVersion", "eventTime", "eventSource", "eventName", "awsRegion", "sourceIPAddress", "userAgent"),
    *("errorCode", "errorMessage", "requestID", "eventID", "apiVersion", "vpcEndpointId", "eventCategory"),
}
_MAPPED_IDENTITY = {"type", "principalId", "arn", "accountId", "accessKeyId", "userName", "invokedBy"}
_AUTHENTICATION = ("ConsoleLogin", "AssumeRole", "GetFederationToken", "GetSessionToken", "SwitchRole")
_ACCOUNT = ("User", "AccessKey", "LoginProfile", "Role", "MFADevice", "Group")


def _struct(**fields: pa.DataType) -> pa.DataType:
    return pa.struct(list(fields.items()))


def _schema(version: int) -> pa.Schema:
    """The columns of CloudTrail's tables in Security Lake's catalogue."""
    account = _struct(uid=_TEXT)
    user = {"type": _TEXT, "name": _TEXT, "uid": _TEXT, "credential_uid": _TEXT}
    product = _struct(version=_TEXT, name=_TEXT, vendor_name=_TEXT, feature=_struct(name=_TEXT))
    observable = _struct(name=_TEXT, value=_TEXT, type=_TEXT, type_id=pa.int32())
    if version == 1:
        users = _struct(**user, uuid=_TEXT, account_uid=_TEXT)
        session = _struct(created_time=pa.int64(), mfa=pa.bool_(), issuer=_TEXT)
        resource = _struct(uid=_TEXT, account_uid=_TEXT, type=_TEXT)
        request, response = _struct(uid=_TEXT), _struct(error=_TEXT, message=_TEXT)
    else:
        users = _struct(**user, uid_alt=_TEXT, account=account)
        session = _struct(created_time_dt=pa.timestamp("us"), is_mfa=pa.bool_(), issuer=_TEXT)
        resource = _struct(uid=_TEXT, account=account, type=_TEXT)
        request, response = _struct(data=_TEXT, uid=_TEXT), _struct(error=_TEXT, message=_TEXT, data=_TEXT)
    named = _struct(name=_TEXT)
    columns = {
        "metadata": _struct(
            product=product, event_code=_TEXT, uid=_TEXT, profiles=pa.list_(_TEXT), version=_TEXT
        ),
        "time": pa.int64(),
        "time_dt": pa.timestamp("us"),
        "cloud": _struct(region=_TEXT, provider=_TEXT),
        "api": _struct(response=response, operation=_TEXT, version=_TEXT, service=named, request=request),
        "dst_endpoint": _struct(svc_name=_TEXT),
        "actor": _struct(user=users, session=session, invoked_by=_TEXT, idp=named),
        "http_request": _struct(user_agent=_TEXT),
        "src_endpoint": _struct(uid=_TEXT, ip=_TEXT, domain=_TEXT),
        "resources": pa.list_(resource),
        "class_name": _TEXT,
        "class_uid": pa.int32(),
        "category_uid": pa.int32(),
        "severity_id": pa.int32(),
        "user": _struct(uid=_TEXT, name=_TEXT, **({"uuid": _TEXT} if version == 1 else {"uid_alt": _TEXT})),
        "activity_name": _TEXT,
        "activity_id": pa.int32(),
        "type_uid": pa.int64(),
        "status": _TEXT,
        "is_mfa": pa.bool_(),
        "unmapped": pa.map_(_TEXT, _TEXT),
        "observables": pa.list_(observable),
    }
    return pa.schema(list(columns.items()))


def as_ocsf(event: Event, version: int = 2) -> dict[str, Any]:
    """An event of CloudTrail as Security Lake keeps it."""
    name, source = event.get("eventName", ""), event.get("eventSource", "")
    if source in ("signin.amazonaws.com", "sts.amazonaws.com") and name.startswith(_AUTHENTICATION):
        class_uid = 3002
    elif source == "iam.amazonaws.com" and name.startswith(("Create", "Delete", "Update", "Attach", "Put")):
        class_uid = 3001 if name.endswith(_ACCOUNT) else (3005, 6003)[version - 1]
    else:
        class_uid = (3005, 6003)[version - 1]
    identity = event.get("userIdentity") or {}
    context = identity.get("sessionContext") or {}
    attributes = context.get("attributes") or {}
    created = attributes.get("creationDate")
    has_mfa = {"true": True, "false": False}.get(attributes.get("mfaAuthenticated", ""))
    address = event.get("sourceIPAddress")
    users, session, resources = (
        (_user_1, _session_1, _resources_1) if version == 1 else (_user_2, _session_2, _resources_2)
    )
    unmapped = dict(_flat("", {key: value for key, value in event.items() if key not in _MAPPED}, version))
    made: dict[str, Any] = {
        "metadata": {
            "product": {
                "version": event.get("eventVersion"),
                "name": "CloudTrail",
                "vendor_name": "AWS",
                "feature": {"name": event.get("eventCategory") or "Management, Data, and Insights"},
            },
            "event_code": None if version == 1 else event.get("eventType"),
            "uid": event.get("eventID"),
            "profiles": ["cloud"] if version == 1 else ["cloud", "datetime"],
            "version": "1.0.0-rc.2" if version == 1 else "1.1.0",
        },
        "time": int(_time(event["eventTime"]).timestamp() * 1000),
        "time_dt": None if version == 1 else _time(event["eventTime"]).replace(tzinfo=None),
        "cloud": {"region": event.get("awsRegion"), "provider": "AWS"},
        "api": {
            "operation": name,
            "version": event.get("apiVersion"),
            "service": {"name": source},
            "request": {"uid": event.get("requestID") or "''"},
            "response": {"error": event.get("errorCode"), "message": event.get("errorMessage")},
        },
        "actor": {
            "user": users(identity),
            "session": session(created, has_mfa, (context.get("sessionIssuer") or {}).get("arn")),
            "invoked_by": identity.get("invokedBy"),
            "idp": {"name": identity.get("identityProvider")},
        },
        "http_request": {"user_agent": event.get("userAgent")},
        "src_endpoint": {"uid": event.get("vpcEndpointId")} | _endpoint(address),
        "class_uid": class_uid,
        "class_name": {3001: "Account Change", 3002: "Authentication"}.get(class_uid, "API Activity"),
        "category_uid": 3 if class_uid < 6000 else 6,
        "severity_id": 1,
        "status": "Failure" if event.get("errorCode") else "Success",
        "type_uid": class_uid * 100 + 99,
        "observables": [{"name": "src_endpoint.ip", "value": address, "type": "IP Address", "type_id": 2}],
    }
    if version == 2:
        for key, place in (("requestParameters", "request"), ("responseElements", "response")):
            value = event.get(key)
            made["api"][place]["data"] = value if isinstance(value, str) else value and _json(value)
    if class_uid >= 3005:
        made["resources"] = resources(event.get("resources") or [])
        unmapped = {path: text for path, text in unmapped.items() if path not in _OF_RESOURCES}
    if class_uid == 3002 and name == "ConsoleLogin":
        made["dst_endpoint"] = {"svc_name": unmapped.pop("additionalEventData.LoginTo", None)}
        made["is_mfa"] = {"Yes": True, "No": False}.get(unmapped.pop("additionalEventData.MFAUsed", ""))
        made["status"] = (event.get("responseElements") or {}).get("ConsoleLogin", made["status"])
        unmapped.pop("responseElements.ConsoleLogin", None)
    asked = event.get("requestParameters") or {}
    if class_uid == 3002 and version == 1:
        made["user"] = {"uuid": asked.get("roleArn"), "name": asked.get("roleSessionName")}
        for path in ("requestParameters.roleArn", "requestParameters.roleSessionName"):
            unmapped.pop(path, None)
    elif class_uid == 3001:
        made["user"] = {"name": asked.get("userName") or asked.get("roleName")}
        if version == 1:
            unmapped.pop(
                "requestParameters.userName" if asked.get("userName") else "requestParameters.roleName", None
            )
    made["unmapped"] = unmapped
    return made


_OF_RESOURCES = frozenset(f"resources[].{name}" for name in ("ARN", "accountId", "type"))


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _time(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text)


def _endpoint(address: str | None) -> dict[str, str]:
    if not address:
        return {}
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return {"domain": address}
    return {"ip": address}


def _user_1(identity: Event) -> dict[str, Any]:
    return {
        "type": identity.get("type"),
        "name": identity.get("userName"),
        "uid": identity.get("principalId"),
        "uuid": identity.get("arn"),
        "account_uid": identity.get("accountId"),
        "credential_uid": identity.get("accessKeyId"),
    }


def _user_2(identity: Event) -> dict[str, Any]:
    return {
        "type": identity.get("type"),
        "name": identity.get("userName"),
        "uid_alt": identity.get("principalId"),
        "uid": identity.get("arn"),
        "account": {"uid": identity.get("accountId")},
        "credential_uid": identity.get("accessKeyId"),
    }


def _session_1(created: str | None, has_mfa: bool | None, issuer: str | None) -> dict[str, Any]:
    at = int(_time(created).timestamp() * 1000) if created else None
    return {"created_time": at, "mfa": has_mfa, "issuer": issuer}


def _session_2(created: str | None, has_mfa: bool | None, issuer: str | None) -> dict[str, Any]:
    at = _time(created).replace(tzinfo=None) if created else None
    return {"created_time_dt": at, "is_mfa": has_mfa, "issuer": issuer}


def _resources_1(resources: Iterable[Event]) -> list[dict[str, Any]]:
    return [
        {"uid": each.get("ARN"), "account_uid": each.get("accountId"), "type": each.get("type")}
        for each in resources
    ]


def _resources_2(resources: Iterable[Event]) -> list[dict[str, Any]]:
    return [
        {"uid": each.get("ARN"), "account": {"uid": each.get("accountId")}, "type": each.get("type")}
        for each in resources
    ]


def _flat(path: str, value: object, version: int) -> Iterator[tuple[str, str]]:
    """Paths and texts of what the mapping has no place for."""
    if path in ("userIdentity.sessionContext.attributes", "userIdentity.sessionContext.sessionIssuer.arn"):
        return
    if path.startswith("userIdentity.") and path.removeprefix("userIdentity.") in (
        *_MAPPED_IDENTITY,
        "identityProvider",
    ):
        return
    if version == 2 and path in ("requestParameters", "responseElements", "eventType"):
        return
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _flat(f"{path}.{name}" if path else name, inner, version)
    elif isinstance(value, list):
        together: dict[str, list[str]] = {}
        for each in value:
            for inner, text in _flat(f"{path}[]", each, version):
                together.setdefault(inner, []).append(text)
        yield from ((inner, ",".join(texts)) for inner, texts in together.items())
    elif value is not None:
        yield path, value if isinstance(value, str) else json.dumps(value)


def parquet_of(events: Iterable[Event], version: int = 2) -> bytes:
    """A Parquet file of these events of CloudTrail."""
    rows = [as_ocsf(event, version) for event in events]
    rows = [row | {"unmapped": list(row["unmapped"].items())} for row in rows]
    file = io.BytesIO()
    compression = "gzip" if version == 1 else "zstd"
    pq.write_table(pa.Table.from_pylist(rows, _schema(version)), file, compression=compression)
    return file.getvalue()


def flow_as_ocsf(fields: Mapping[str, str], version: int = 2) -> dict[str, Any]:
    """A record of a flow log as Security Lake keeps it; `fields` by the names of a header."""
    given = {name: value for name, value in fields.items() if value != "-"}
    start, end = int(given["start"]) * 1000, int(given["end"]) * 1000
    inbound = given.get("flow-direction", "ingress") == "ingress"
    watched = {"interface_uid": given.get("interface-id"), "vpc_uid": given.get("vpc-id")}
    ends = [
        {"ip": given.get(f"{end}addr"), "port": _number(given.get(f"{end}port"))} for end in ("src", "dst")
    ]
    ends[inbound] |= watched
    accepted = given.get("action") == "ACCEPT"
    account = (
        {"account_uid": given.get("account-id")}
        if version == 1
        else {"account": {"uid": given.get("account-id")}}
    )
    product = {"version": given.get("version"), "name": "Amazon VPC", "vendor_name": "AWS"}
    times: dict[str, Any] = {"time": start, "start_time": start, "end_time": end}
    if version == 2:
        times = {"time": start, "start_time_dt": _of(start), "end_time_dt": _of(end)}
    return times | {
        "metadata": {"product": product, "version": "1.0.0-rc.2" if version == 1 else "1.1.0"},
        "cloud": {"provider": "AWS", "region": given.get("region")} | account,
        "src_endpoint": ends[0],
        "dst_endpoint": ends[1],
        "connection_info": {
            "protocol_num": _number(given.get("protocol")),
            "direction_id": {"ingress": 1, "egress": 2}.get(given.get("flow-direction", ""), 0),
        },
        "traffic": {"packets": _number(given.get("packets")), "bytes": _number(given.get("bytes"))},
        "class_uid": 4001,
        "status_code": given.get("log-status"),
        ("disposition" if version == 1 else "action"): (
            "Allowed" if accepted else "Blocked" if version == 1 else "Denied"
        )
        if "action" in given
        else None,
        "activity_name": "Traffic",
    }


def _number(text: str | None) -> int | None:
    return None if text is None else int(text)


def _of(milliseconds: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(milliseconds / 1000, dt.UTC).replace(tzinfo=None)


def flows_of(records: Iterable[Mapping[str, str]], version: int = 2) -> bytes:
    """A Parquet file of these records of a flow log."""
    file = io.BytesIO()
    pq.write_table(
        pa.Table.from_pylist([flow_as_ocsf(each, version) for each in records]), file, compression="zstd"
    )
    return file.getvalue()


def write(logs: Path, out: Path, version: int = 2) -> None:
    """Write what lies in a folder of logs, with the keys that Security Lake gives, a file a day."""
    events: dict[str, list[Event]] = {}
    flows: dict[str, list[Mapping[str, str]]] = {}
    for path in sorted(logs.rglob("*.gz")):
        if "/CloudTrail/" in path.as_posix():
            for event in json.loads(gzip.decompress(path.read_bytes()))["Records"]:
                events.setdefault(event["eventTime"][:10].replace("-", ""), []).append(event)
        elif "/vpcflowlogs/" in path.as_posix():
            header, *lines = gzip.decompress(path.read_bytes()).decode().splitlines()
            for line in lines:
                record = dict(zip(header.split(), line.split(), strict=True))
                day = f"{_of(int(record['start']) * 1000):%Y%m%d}"
                flows.setdefault(day, []).append(record)
    for source, files in (
        ("CLOUD_TRAIL_MGMT", {day: parquet_of(found, version) for day, found in events.items()}),
        ("VPC_FLOW", {day: flows_of(found, version) for day, found in flows.items()}),
    ):
        for day, content in files.items():
            folder = (
                out
                / "aws"
                / source
                / f"{version}.0"
                / "region=us-east-1"
                / "accountId=all"
                / f"eventDay={day}"
            )
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{day}.gz.parquet").write_bytes(content)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("logs", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--version", type=int, choices=(1, 2), default=2)
    chosen = parser.parse_args()
    write(chosen.logs, chosen.out, chosen.version)


if __name__ == "__main__":
    main()
