"""GuardDuty findings as its export to S3 writes them: JSON lines, a file for each export.

A finding that goes on is exported again with the same id, a higher count and a later `updatedAt`.
https://docs.aws.amazon.com/guardduty/latest/ug/guardduty_findings-structure.html
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

import orjson

from ..benign.day import Day
from ..record import Json
from ..text import hex_id, iso, uuid
from ..world import HOUR, WAF, Instance, Key, World
from .files import Bucket, stamp
from .proxy import WebRequest


class Finding(NamedTuple):
    """A finding at the moment of one export."""

    at: int
    account: str
    region: str
    body: Json


def credentials_used_outside(
    world: World,
    instance: Instance,
    key: Key,
    *,
    first: int,
    last: int,
    at: int,
    count: int,
    address: str,
    api: str,
    remote_account: str = "",
    created: int = 0,
) -> Finding:
    """`InstanceCredentialExfiltration`: an instance's credentials used from an address that is not its own.

    The type ends in `.OutsideAWS`, or in `.InsideAWS` where the address is that of a `remote_account` of AWS.
    """
    where = "InsideAWS" if remote_account else "OutsideAWS"
    kind = f"UnauthorizedAccess:IAMUser/InstanceCredentialExfiltration.{where}"
    resource: Json = {
        "resourceType": "AccessKey",
        "accessKeyDetails": {
            "accessKeyId": key.id,
            "principalId": f"{instance.role.id}:{instance.id}",
            "userType": "AssumedRole",
            "userName": instance.role.name,
        },
        "instanceDetails": _instance(instance, at),
    }
    called: Json = {
        "api": api,
        "serviceName": "s3.amazonaws.com",
        "callerType": "Remote IP",
        "remoteIpDetails": _remote(address),
        "affectedResources": {},
    }
    if remote_account:
        called["remoteAccountDetails"] = {"accountId": remote_account, "affiliated": False}
    action: Json = {"actionType": "AWS_API_CALL", "awsApiCallAction": called}
    by = f"a remote AWS account {remote_account}" if remote_account else f"external IP address {address}"
    return _finding(
        world,
        instance,
        at,
        kind=kind,
        severity=8,
        title=f"Credentials for instance role {instance.role.name} used from "
        + ("another AWS account." if remote_account else "external IP address."),
        description=(
            f"Credentials created exclusively for the EC2 instance {instance.id} using instance role "
            f"{instance.role.name} have been used from {by}."
        ),
        resource=resource,
        action=action,
        first=first,
        last=last,
        count=count,
        created=created or at,
    )


def port_probed(world: World, instance: Instance, request: WebRequest, at: int) -> Finding:
    """`Recon:EC2/PortProbeUnprotectedPort`: a known scanner knocked at an open port."""
    action: Json = {
        "actionType": "PORT_PROBE",
        "portProbeAction": {
            "blocked": False,
            "portProbeDetails": [
                {
                    "localPortDetails": {"port": 80, "portName": "HTTP"},
                    "localIpDetails": {"ipAddressV4": instance.private},
                    "remoteIpDetails": _remote(request.client),
                }
            ],
        },
    }
    return _finding(
        world,
        instance,
        at,
        kind="Recon:EC2/PortProbeUnprotectedPort",
        severity=2,
        title=f"Unprotected port on EC2 instance {instance.id} is being probed.",
        description="An EC2 instance has an open port which is being probed by a known malicious host.",
        resource={"resourceType": "Instance", "instanceDetails": _instance(instance, at)},
        action=action,
        first=request.at,
        last=request.at,
        count=1,
        created=at,
    )


def ordinary_findings(world: World, day: Day, rng: Random, requests: list[WebRequest]) -> Iterator[Finding]:
    """On some days somebody who probes the web server is on a list of known scanners."""
    probes = [request for request in requests if request.status == 400]
    if probes and rng.random() < 0.3:
        probe = rng.choice(probes)
        yield port_probed(world, world.instances[WAF], probe, probe.at + rng.randint(600, 2 * HOUR))


@dataclass
class FindingLog:
    """Takes findings in any order; `flush` writes a file for each account, region and hour of export."""

    world: World
    bucket: Bucket
    _waiting: dict[tuple[str, str, int], list[Finding]] = field(default_factory=lambda: defaultdict(list))

    def add(self, finding: Finding) -> None:
        self._waiting[finding.account, finding.region, finding.at // HOUR].append(finding)

    def flush(self) -> None:
        for (account, region, hour), findings in sorted(self._waiting.items()):
            name = uuid(self.world.rng("findings", account, region, hour))
            day = stamp("%Y/%m/%d", hour * HOUR)
            lines = [orjson.dumps(each.body).decode() for each in sorted(findings, key=lambda each: each.at)]
            self.bucket.put(f"AWSLogs/{account}/GuardDuty/{region}/{day}/{name}.jsonl.gz", lines)
        self._waiting.clear()


def _finding(
    world: World,
    instance: Instance,
    at: int,
    *,
    kind: str,
    severity: int,
    title: str,
    description: str,
    resource: Json,
    action: Json,
    first: int,
    last: int,
    count: int,
    created: int,
) -> Finding:
    account, region = instance.account, instance.region
    detector = hex_id(world.rng("detector", account, region), 32)
    identity = hex_id(world.rng("finding", kind, instance.id, first), 32)
    body: Json = {
        "schemaVersion": "2.0",
        "accountId": account,
        "region": region,
        "partition": "aws",
        "id": identity,
        "arn": f"arn:aws:guardduty:{region}:{account}:detector/{detector}/finding/{identity}",
        "type": kind,
        "resource": resource,
        "service": {
            "serviceName": "guardduty",
            "detectorId": detector,
            "action": action,
            "resourceRole": "TARGET",
            "additionalInfo": {"value": "{}", "type": "default"},
            "evidence": None,
            "eventFirstSeen": _precise(first),
            "eventLastSeen": _precise(last),
            "archived": False,
            "count": count,
        },
        "severity": severity,
        # The finding is made once and updated at each export.
        "createdAt": _precise(created),
        "updatedAt": _precise(at),
        "title": title,
        "description": description,
    }
    return Finding(at, account, region, body)


def _instance(instance: Instance, at: int) -> Json:
    return {
        "instanceId": instance.id,
        "instanceType": "t3.micro",
        "launchTime": iso(instance.born),
        "platform": None,
        "availabilityZone": f"{instance.region}a",
        "iamInstanceProfile": {
            "arn": f"arn:aws:iam::{instance.account}:instance-profile/{instance.role.name}",
            "id": instance.role.id.replace("AROA", "AIPA"),
        },
        "instanceState": "running",
        "tags": [{"key": "Name", "value": instance.name}],
        "networkInterfaces": [
            {
                "networkInterfaceId": instance.interface,
                "privateIpAddress": instance.private,
                "publicIp": instance.address(at),
                "ipv6Addresses": [],
            }
        ],
    }


def _remote(address: str) -> Json:
    return {
        "ipAddressV4": address,
        "organization": {"asn": "64496", "asnOrg": "Example Net", "isp": "Example Net", "org": "Example Net"},
        "country": {"countryName": "Netherlands"},
        "city": {"cityName": "Amsterdam"},
        "geoLocation": {"lat": 52.374, "lon": 4.8897},
    }


def _precise(at: int) -> str:
    return iso(at)[:-1] + ".000Z"
