"""The breach as somebody else would have recorded it: an exercise of an hour, exported by other tools.

A person deploys the exercise by console or Terraform, a proxy leaks the credentials of its instance, these
copy a bucket, and the person tears all down again; often the attacker works from that person's own address,
and the instance itself has never called AWS. What has to come of it is said in `wrong`.

All rules run over some shapes, over the others those that look at such things; `make test` takes two of
these. TRAILHAWK_SHAPES=N takes all rules everywhere, and N more shapes drawn at random.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import re
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import pytest

from trailhawk.detect.rule import Severity
from trailhawk.incidents.graph import Edge
from trailhawk.incidents.report import Report
from trailhawk.workspace import Workspace

MORE = int(os.environ.get("TRAILHAWK_SHAPES", "0"))
NEAR = ("cloudtrail/", "access/instance-", "access/exploration", "data/bucket-read", "data/bucket-transfer")
"""Where the rules lie that look at credentials of instances and at reads of buckets."""
START = datetime(2021, 5, 4, 18, 3, 11, tzinfo=UTC)
ACCOUNT = "222233334444"
OFFICE, ELSEWHERE, HOME = "203.0.113.24", "198.51.100.147", "192.0.2.31"
ROLE, INSTANCE, ROLE_ID = "exercise-WafRole-7T2KQ", "i-0d3c5b7a9f1e2d4c6", "AROAEXERCISEWAF00001"
COLLECTOR = "i-0aa1bb2cc3dd4ee5f"
BUCKET = "exercise-card-data-x81c0"
OBJECTS = {
    "2019/holders.csv": 58_101,
    "2019/holders (copy).csv": 58_101,
    "kärtchen/ünïcode.txt": 89,
    "logo.png": 249_317,
}
LARGE = {"dump.tar": 25_165_824}
PART = 8_388_608

Json = dict[str, Any]


@dataclass(frozen=True)
class Shape:
    """What differs between recordings."""

    issued: int = 1
    """How many keys EC2's AssumeRole shows for the instance; none where the recording begins later."""
    delivery: Literal["", "1.0", "2.0"] = ""
    attacker: str = OFFICE
    admin: Literal["console", "terraform", "both"] = "console"
    agent: bool = False
    """Whether the instance has a systems manager agent that calls from the instance's address."""
    boots: bool = False
    """Whether the instance fetches something from a bucket of its own when it boots."""
    collector: bool = False
    """Whether a second instance reads the trail's bucket all the time."""
    assumed: bool = False
    """Whether the person also takes a role and works with it."""
    objects: Json = field(default_factory=lambda: dict(OBJECTS))
    pause: timedelta = timedelta(minutes=9)
    """From launch to theft."""
    torn_down: bool = True
    deployed: bool = True
    """Whether the recording holds how the exercise was built; else it begins with all in place."""
    twice: bool = False
    """Whether the attacker comes back after ten minutes and takes all again."""
    downloads: bool = False
    """Whether the person reads the bucket too, with the client and from the address of the attacker's."""
    blurred: bool = False
    """Whether one address stands for all of them, as where a recording is made public."""
    asks: bool = False
    """Whether the attacker asks who they are, and is refused something."""
    version: str = "1.05"
    client: str = "aws-cli/1.18.69 Python/3.8.5 Darwin/19.6.0 botocore/1.16.19"
    form: Literal["lines", "both times", "records", "many"] = "lines"
    """JSON lines with the time moved to `@timestamp`, with both, gzip of one wrapper, of many."""


PLAIN = Shape()
LINUX = "aws-cli/1.19.62 Python/3.8.5 Linux/5.4.0-72-generic botocore/1.20.62"
NEW = "aws-cli/2.15.30 Python/3.11.8 Linux/6.5.0-kali3-amd64 exe/x86_64.kali.2024 prompt/off command/s3.sync"
CHOSEN = {
    "plain": PLAIN,
    "from elsewhere": Shape(attacker=ELSEWHERE, client=LINUX, form="records", version="1.08"),
    "terraform": Shape(admin="terraform", issued=3, client=LINUX, asks=True, form="many"),
    "begins late": Shape(issued=0, attacker=ELSEWHERE, client=LINUX, collector=True, form="both times"),
    "agent": Shape(
        agent=True,
        boots=True,
        delivery="1.0",
        version="1.11",
        client=NEW,
        form="records",
        attacker=ELSEWHERE,
    ),
    "a day later": Shape(
        pause=timedelta(hours=26),
        boots=True,
        admin="both",
        assumed=True,
        collector=True,
        objects={**OBJECTS, **LARGE},
    ),
    "boots": Shape(issued=0, delivery="1.0", boots=True, collector=True, asks=True, form="records"),
    "in place": Shape(
        deployed=False,
        twice=True,
        issued=5,
        delivery="1.0",
        blurred=True,
        torn_down=False,
        objects={"ring.txt": 89},
    ),
    "blurred": Shape(blurred=True, agent=True, downloads=True, objects={"ring.txt": 89}),
}
EVERYTHING = ("plain", "terraform", "in place", "boots")
"""Shapes over which all rules run."""
FEW = ("begins late", "blurred")
"""Shapes that `make test` takes."""


def drawn(number: int) -> Shape:
    """A shape of which everything is chosen by chance."""
    chance = random.Random(number)
    return Shape(
        issued=chance.choice([0, 1, 3]),
        delivery=chance.choice(["", "1.0", "2.0"]),
        attacker=chance.choice([OFFICE, OFFICE, ELSEWHERE]),
        admin=chance.choice(["console", "terraform", "both"]),
        agent=chance.random() < 0.3,
        boots=chance.random() < 0.3,
        collector=chance.random() < 0.5,
        assumed=chance.random() < 0.3,
        objects=chance.choice([dict(OBJECTS), {"ring.txt": 89}, {**OBJECTS, **LARGE}]),
        pause=chance.choice([timedelta(minutes=3), timedelta(minutes=50), timedelta(hours=26)]),
        torn_down=chance.random() < 0.7,
        deployed=chance.random() < 0.8,
        twice=chance.random() < 0.3,
        downloads=chance.random() < 0.3,
        asks=chance.random() < 0.4,
        version=chance.choice(["1.05", "1.07", "1.08", "1.11"]),
        client=chance.choice([PLAIN.client, LINUX, NEW]),
        form=chance.choice(["lines", "both times", "records", "many"]),
    )


class Recording:
    """The events of one exercise, and which of them are the attack."""

    def __init__(self, shape: Shape, seed: int) -> None:
        self.shape = shape
        self.chance = random.Random(seed)
        self.events: list[Json] = []
        self.attack: list[str] = []
        self.now = START
        self.taken = START
        self.keys = [self.key("ASIA") for _ in range(max(1, shape.issued))]
        self.stolen = self.chance.choice(self.keys)
        self.admin_key = self.key("ASIA")
        self.user_key = self.key("AKIA")
        if shape.deployed:
            self.deploy()
        self.settle()
        self.now += shape.pause
        self.steal()
        if shape.torn_down:
            self.tear_down()

    def key(self, kind: str) -> str:
        return kind + "".join(self.chance.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", k=16))

    def id(self) -> str:
        return str(uuid.UUID(int=self.chance.getrandbits(128), version=4))

    def event(
        self,
        who: Json,
        service: str,
        name: str,
        request: Json | None = None,
        response: Json | None = None,
        *,
        address: str,
        client: str,
        after: float = 7,
        **others: object,
    ) -> Json:
        self.now += timedelta(seconds=after)
        made = {
            "eventVersion": self.shape.version,
            "userIdentity": who,
            "eventTime": self.now.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "eventSource": f"{service}.amazonaws.com",
            "eventName": name,
            "awsRegion": "us-east-1",
            "sourceIPAddress": OFFICE if self.shape.blurred and address[0].isdigit() else address,
            "userAgent": f"[{client}]" if service == "s3" else client,
            "requestParameters": request,
            "responseElements": response,
            "requestID": self.id(),
            "eventID": self.id(),
            "eventType": "AwsApiCall",
            "recipientAccountId": ACCOUNT,
            **others,
        }
        self.events.append(made)
        return made

    # --- who calls ------------------------------------------------------------------------------------------

    def person(self, *, console: bool) -> Json:
        who: Json = {
            "type": "IAMUser",
            "principalId": "AIDAEXERCISEADMIN001",
            "arn": f"arn:aws:iam::{ACCOUNT}:user/marta",
            "accountId": ACCOUNT,
            "accessKeyId": self.admin_key if console else self.user_key,
            "userName": "marta",
        }
        if console:
            attributes = {"mfaAuthenticated": "true", "creationDate": "2021-05-04T17:20:47Z"}
            who["sessionContext"] = {"sessionIssuer": {}, "webIdFederationData": {}, "attributes": attributes}
        return who

    def session(self, role: str, role_id: str, name: str, key: str, *, is_instance: bool = True) -> Json:
        arn = f"arn:aws:iam::{ACCOUNT}:role/{role}"
        created = self.taken.strftime("%Y-%m-%dT%H:%M:%SZ")
        context: Json = {
            "sessionIssuer": {
                "type": "Role",
                "principalId": role_id,
                "arn": arn,
                "accountId": ACCOUNT,
                "userName": role,
            },
            "webIdFederationData": {},
            "attributes": {"mfaAuthenticated": "false", "creationDate": created},
        }
        if self.shape.delivery and is_instance:
            context["ec2RoleDelivery"] = self.shape.delivery
        return {
            "type": "AssumedRole",
            "principalId": f"{role_id}:{name}",
            "arn": f"arn:aws:sts::{ACCOUNT}:assumed-role/{role}/{name}",
            "accountId": ACCOUNT,
            "accessKeyId": key,
            "sessionContext": context,
        }

    # --- what happens ---------------------------------------------------------------------------------------

    def by_person(self, service: str, name: str, request: Json | None = None, **others: Any) -> Json:
        console = self.shape.admin == "console" or (self.shape.admin == "both" and self.chance.random() < 0.5)
        client = "APN/1.0 HashiCorp/1.0 Terraform/0.14.11 aws-sdk-go/1.38.25 (go1.16.3; darwin; amd64)"
        if console:
            client = {"ec2": "console.ec2.amazonaws.com", "s3": "S3Console/0.4"}.get(
                service, "console.amazonaws.com"
            )
        return self.event(
            self.person(console=console), service, name, request, address=OFFICE, client=client, **others
        )

    def on_bucket(self, name: str, bucket: str, key: str = "", **others: Any) -> Json:
        request = {
            "bucketName": bucket,
            "Host": f"{bucket}.s3.amazonaws.com",
            **({"key": key} if key else {}),
        }
        extra: Json = {
            "SignatureVersion": "SigV4",
            "AuthenticationMethod": "AuthHeader",
            "bytesTransferredOut": 0.0,
        }
        return self.by_person("s3", name, request, additionalEventData=extra, **others)

    def deploy(self) -> None:
        """What a person does, or Terraform for them, until the instance runs."""
        for service, name in (
            ("ec2", "DescribeInstanceTypes"),
            ("ec2", "DescribeAccountAttributes"),
            ("ec2", "DescribeVpcs"),
            ("sts", "GetCallerIdentity"),
            ("ec2", "DescribeImages"),
            ("iam", "ListRoles"),
            ("s3", "ListBuckets"),
        ):
            self.by_person(service, name, {} if service == "ec2" else None, after=self.chance.uniform(0, 20))
        trust = {
            "Statement": [
                {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
            ]
        }
        self.by_person("iam", "CreateRole", {"roleName": ROLE, "assumeRolePolicyDocument": json.dumps(trust)})
        self.by_person(
            "iam",
            "AttachRolePolicy",
            {"roleName": ROLE, "policyArn": "arn:aws:iam::aws:policy/AmazonS3FullAccess"},
        )
        self.by_person("iam", "CreateInstanceProfile", {"instanceProfileName": ROLE})
        self.by_person("iam", "AddRoleToInstanceProfile", {"instanceProfileName": ROLE, "roleName": ROLE})
        self.on_bucket("CreateBucket", BUCKET)
        for key in self.shape.objects:
            self.on_bucket(
                "PutObject",
                BUCKET,
                key,
                after=0.4,
                readOnly=False,
                managementEvent=False,
                eventCategory="Data",
            )
        self.on_bucket("GetBucketAcl", BUCKET)
        self.on_bucket("ListObjects", BUCKET)
        self.by_person(
            "ec2", "CreateSecurityGroup", {"groupName": "web", "groupDescription": "web", "vpcId": "vpc-1"}
        )
        ranges = {"items": [{"cidrIp": "0.0.0.0/0"}]}
        rules = [
            {"ipProtocol": "tcp", "fromPort": port, "toPort": port, "ipRanges": ranges} for port in (22, 80)
        ]
        self.by_person(
            "ec2",
            "AuthorizeSecurityGroupIngress",
            {"groupId": "sg-0a1b2c3d", "ipPermissions": {"items": rules}},
        )
        launched = {"instancesSet": {"items": [{"instanceId": INSTANCE, "privateIpAddress": "10.10.10.7"}]}}
        self.by_person(
            "ec2",
            "RunInstances",
            {"instanceType": "t2.micro", "iamInstanceProfile": {"name": ROLE}},
            response=launched,
        )

    def settle(self) -> None:
        """What happens as soon as the instance runs."""
        if not self.shape.deployed:
            for name in ("DescribeInstanceTypes", "DescribeInstances", "DescribeAddresses") * 12:
                self.by_person("ec2", name, {"filterSet": {}}, after=self.chance.uniform(0, 8))
            self.by_person(
                "ec2",
                "ModifyInstanceAttribute",
                {"instanceId": COLLECTOR, "disableApiTermination": {"value": False}},
            )
        self.taken = self.now + timedelta(seconds=4)
        self.issue(ROLE, INSTANCE, self.keys[: self.shape.issued])
        if self.shape.boots:
            own = self.session(ROLE, ROLE_ID, INSTANCE, self.keys[0])
            for key in ("nginx.conf", "index.html"):
                self.read(own, "exercise-boot-files", key, 812, address=HOME, client=LINUX)
        if self.shape.agent:
            self.agent(3)
        if self.shape.assumed:
            self.take_role()
        if self.shape.collector:
            self.collect(4)
        for name in ("DescribeInstances", "DescribeInstanceStatus", "DescribeAddresses"):
            self.by_person("ec2", name, {}, after=3)

    def issue(self, role: str, instance: str, keys: Sequence[str]) -> None:
        """EC2 takes the role for the instance: several keys may come in one second, with one request id."""
        request, arn = self.id(), f"arn:aws:iam::{ACCOUNT}:role/{role}"
        for place, key in enumerate(keys):
            made = self.event(
                {"type": "AWSService", "invokedBy": "ec2.amazonaws.com"},
                "sts",
                "AssumeRole",
                {"roleArn": arn, "roleSessionName": instance},
                {"credentials": {"accessKeyId": key, "expiration": "May 5, 2021 12:19:09 AM"}},
                address="ec2.amazonaws.com",
                client="ec2.amazonaws.com",
                after=0 if place else 4,
                sharedEventID=self.id(),
                resources=[{"ARN": arn, "accountId": ACCOUNT, "type": "AWS::IAM::Role"}],
            )
            made["requestID"] = request

    def read(self, who: Json, bucket: str, key: str, size: int, **how: Any) -> list[Json]:
        """One object read, in ranges if it is large, as the AWS CLI does."""
        parts = [min(PART, size - start) for start in range(0, size, PART)] or [0]
        arn = f"arn:aws:s3:::{bucket}"
        return [
            self.event(
                who,
                "s3",
                "GetObject",
                {
                    "bucketName": bucket,
                    "Host": f"{bucket}.s3.amazonaws.com",
                    "key": key,
                    **({"Range": "bytes=0-1"} if len(parts) > 1 else {}),
                },
                after=how.pop("after", 0.3) if not place else 0.1,
                readOnly=True,
                managementEvent=False,
                eventCategory="Data",
                additionalEventData={
                    "SignatureVersion": "SigV4",
                    "CipherSuite": "ECDHE-RSA-AES128-GCM-SHA256",
                    "bytesTransferredIn": 0.0,
                    "AuthenticationMethod": "AuthHeader",
                    "x-amz-id-2": "b64",
                    "bytesTransferredOut": float(part) if self.shape.version < "1.08" else part,
                },
                resources=[
                    {"type": "AWS::S3::Object", "ARN": f"{arn}/{key}"},
                    {"type": "AWS::S3::Bucket", "ARN": arn, "accountId": ACCOUNT},
                ],
                **how,
            )
            for place, part in enumerate(parts)
        ]

    def agent(self, times: int) -> None:
        own = self.session(ROLE, ROLE_ID, INSTANCE, self.keys[-1])
        for _ in range(times):
            self.event(
                own,
                "ssm",
                "UpdateInstanceInformation",
                {"instanceId": INSTANCE, "agentVersion": "3.0.1124.0"},
                address=HOME,
                client="aws-sdk-go/1.36.25 (go1.15.9; linux; amd64) amazon-ssm-agent/3.0.1124.0",
                after=300,
            )

    def collect(self, times: int) -> None:
        """A second instance that fetches the trail's files, as Logstash does."""
        key = f"ASIACOLLECTOR{self.chance.randrange(1000000):07d}"
        self.issue("collector", COLLECTOR, [key])
        own = self.session("collector", "AROAEXERCISECOLL0001", COLLECTOR, key)
        bucket, client = "exercise-trail-logs", "aws-sdk-ruby2/2.11.632 jruby/2.5.7 java"
        for number in range(times):
            request = {"bucketName": bucket, "Host": f"{bucket}.s3.amazonaws.com", "prefix": "AWSLogs/"}
            self.event(own, "s3", "ListObjects", request, address="192.0.2.77", client=client, after=60)
            self.read(
                own, bucket, f"AWSLogs/{number}.json.gz", 5_000 + number, address="192.0.2.77", client=client
            )

    def take_role(self) -> None:
        """The person takes a role of their own and looks around with it."""
        key = self.key("ASIA")
        self.by_person(
            "sts",
            "AssumeRole",
            {"roleArn": f"arn:aws:iam::{ACCOUNT}:role/auditor", "roleSessionName": "marta"},
            response={
                "credentials": {"accessKeyId": key},
                "assumedRoleUser": {"assumedRoleId": "AROAAUDITOR:marta"},
            },
        )
        own = self.session("auditor", "AROAEXERCISEAUDIT001", "marta", key, is_instance=False)
        for service, name in (("s3", "ListBuckets"), ("cloudtrail", "DescribeTrails")):
            self.event(own, service, name, address=OFFICE, client=LINUX)

    def steal(self) -> None:
        """With the stolen key: which buckets there are, what is in one, and all of that."""
        shape = self.shape
        before = len(self.events)
        who = self.session(ROLE, ROLE_ID, INSTANCE, self.stolen)
        how: Json = {"address": shape.attacker, "client": shape.client}
        if shape.asks:
            self.event(who, "sts", "GetCallerIdentity", **how)
            self.event(
                who,
                "iam",
                "ListUsers",
                **how,
                errorCode="AccessDenied",
                errorMessage=f"User: {who['arn']} is not authorized to perform: iam:ListUsers",
            )
        self.sync(who, how)
        if shape.twice:
            self.now += timedelta(minutes=10)
            self.sync(who, how)
        self.attack = [event["eventID"] for event in self.events[before:]]
        if shape.downloads:
            for key, size in shape.objects.items():
                self.read(self.person(console=False), BUCKET, key, size, **how)
        # The person goes on working meanwhile, and so does the instance.
        self.by_person("ec2", "DescribeInstances", {}, after=1)
        if shape.agent:
            self.agent(2)
        if shape.collector:
            self.collect(2)

    def sync(self, who: Json, how: Json) -> None:
        """Which buckets there are, what is in one, and all of that."""
        self.event(who, "s3", "ListBuckets", {"Host": "s3.amazonaws.com"}, **how)
        listing = {
            "list-type": "2",
            "bucketName": BUCKET,
            "encoding-type": "url",
            "prefix": "",
            "Host": f"{BUCKET}.s3.amazonaws.com",
        }
        for request in ({**listing, "delimiter": "/"}, listing):
            self.event(
                who,
                "s3",
                "ListObjects",
                request,
                **how,
                after=40,
                readOnly=True,
                managementEvent=False,
                eventCategory="Data",
                additionalEventData={"bytesTransferredOut": 581.0},
                resources=[
                    {"type": "AWS::S3::Object", "ARNPrefix": f"arn:aws:s3:::{BUCKET}/"},
                    {"type": "AWS::S3::Bucket", "ARN": f"arn:aws:s3:::{BUCKET}", "accountId": ACCOUNT},
                ],
            )
        for key, size in self.shape.objects.items():
            self.read(who, BUCKET, key, size, **how)

    def tear_down(self) -> None:
        self.now += timedelta(minutes=6)
        self.on_bucket("ListObjects", BUCKET)
        for key in self.shape.objects:
            self.on_bucket(
                "DeleteObject", BUCKET, key, after=0.3, managementEvent=False, eventCategory="Data"
            )
        self.on_bucket("DeleteBucket", BUCKET)
        self.by_person("ec2", "TerminateInstances", {"instancesSet": {"items": [{"instanceId": INSTANCE}]}})
        self.by_person(
            "iam", "RemoveRoleFromInstanceProfile", {"instanceProfileName": ROLE, "roleName": ROLE}
        )
        self.by_person(
            "iam",
            "DetachRolePolicy",
            {"roleName": ROLE, "policyArn": "arn:aws:iam::aws:policy/AmazonS3FullAccess"},
        )
        self.by_person("iam", "DeleteRole", {"roleName": ROLE})

    # --- how it is written ----------------------------------------------------------------------------------

    def write(self, folder: Path) -> None:
        folder.mkdir()
        events = list(self.events)
        self.chance.shuffle(events)  # files of CloudTrail are in no order
        match self.shape.form:
            case "lines" | "both times":
                lines = [json.dumps(self.exported(event)) for event in events]
                (folder / "exercise_2021-05-04.json").write_text("\n".join(lines) + "\n")
            case "records":
                self.pack(folder, events, "20210504T1900Z")
            case "many":
                for number in range(0, len(events), 9):
                    self.pack(folder, events[number : number + 9], f"20210504T{1800 + number}Z")

    def exported(self, event: Json) -> Json:
        """As Logstash writes a record: the time under its own name, members in another order."""
        at = event["eventTime"].replace("Z", ".000Z")
        members = list(event.items())
        self.chance.shuffle(members)
        made = {**dict(members), "@timestamp": at, "@version": "1"}
        if self.shape.form == "lines":
            del made["eventTime"]
        return made

    def pack(self, folder: Path, events: Sequence[Json], stamp: str) -> None:
        name = f"{ACCOUNT}_CloudTrail_us-east-1_{stamp}_{self.key('')}.json.gz"
        (folder / name).write_bytes(gzip.compress(json.dumps({"Records": list(events)}).encode()))


def wrong(recording: Recording, workspace: Workspace) -> Iterator[str]:
    """What is not as it has to be."""
    attack = set(recording.attack)
    shape = recording.shape
    marta = {f"arn:aws:iam::{ACCOUNT}:user/marta", recording.admin_key, recording.user_key}
    reports = [workspace.report(incident.number) for incident in workspace.incidents.all()]
    of_theft = [report for report in reports if attack & {event.event_id for event in report.timeline}]
    high = [report for report in reports if report.incident.severity is Severity.HIGH]
    if len(high) != 1 or of_theft != high:
        yield f"of high severity: {titles(high)}, with events of the theft: {titles(of_theft)}"
        return
    (theft,) = high
    told = {event.event_id: f"{event.name} by {event.session}" for event in theft.timeline}
    if set(told) != attack:
        more = [told[event_id] for event_id in told if event_id not in attack]
        yield f"{len(attack - set(told))} of {len(attack)} events are missing, {more} are too much"
    sizes = {line.key: line.bytes for line in theft.manifest.lines}
    times = 2 if shape.twice else 1
    if sizes != {key: size * times for key, size in shape.objects.items()} or {
        line.bucket for line in theft.manifest.lines
    } != {BUCKET}:
        yield f"manifest says {sizes}"
    yield from wrong_names(theft, recording, marta)
    reached = led_to(f"AwsInstance:{INSTANCE}", workspace.case(theft.incident.number).graph.edges)
    if missing := [key for key in shape.objects if f"AwsObject:{BUCKET}/{key}" not in reached]:
        yield f"the graph does not lead from the instance to {missing}"
    # What the person has built may be told of: a privileged role and an open port are worth a look.
    others = [report for report in reports if report is not theft]
    yield from (
        f"not of the theft, and grave: {title}"
        for title in titles(report for report in others if report.incident.severity is Severity.MEDIUM)
        if not re.search("attached to instance role|opened to everybody", title)
    )


def led_to(start: str, edges: Sequence[Edge]) -> set[str]:
    """The nodes to which edges lead from here."""
    reached, newest = {start}, {start}
    while newest:
        newest = {edge.target for edge in edges if edge.source in newest} - reached
        reached |= newest
    return reached


def titles(reports: Iterable[Report]) -> list[str]:
    return [report.incident.title for report in reports]


def wrong_names(theft: Report, recording: Recording, marta: set[str]) -> Iterator[str]:
    """What is wrong with the entities of the theft."""
    named: dict[str, set[str]] = {}
    for entity in theft.entities:
        named.setdefault(entity.type, set()).update(value for _, value in entity.identifiers)
    session = {f"{ROLE_ID}:{INSTANCE}", f"arn:aws:sts::{ACCOUNT}:assumed-role/{ROLE}/{INSTANCE}"}
    keys = {recording.stolen}
    expected = {
        "AwsSession": session,
        "AwsPrincipal": {f"arn:aws:iam::{ACCOUNT}:role/{ROLE}"},
        "AwsInstance": {INSTANCE},
        "IP": {OFFICE if recording.shape.blurred else recording.shape.attacker},
        "AwsAccount": {ACCOUNT},
    }
    for kind, values in expected.items():
        if named.get(kind, set()) != values:
            yield f"{kind}: {named.get(kind)}, not {values}"
    if BUCKET not in named.get("AwsBucket", set()):
        yield f"bucket: {named.get('AwsBucket')}"
    if not keys <= named["AwsAccessKey"] <= set(recording.keys):
        yield f"keys: {named['AwsAccessKey']}"
    text = " ".join([theft.incident.title, *theft.story])
    if any(word in text for word in marta):
        yield f"the person is named: {text}"


def examined(shape: Shape, seed: int, folder: Path, *, everything: bool) -> list[str]:
    """What is wrong with what comes of a recording of this shape."""
    recording = Recording(shape, seed)
    recording.write(folder / "logs")
    workspace = Workspace.open(folder / "home", clock=lambda: recording.now + timedelta(hours=3))
    summary = workspace.ingest([folder / "logs"], lambda _: None)
    assert summary.rows == len(recording.events)
    rules = [
        rule
        for rule in workspace.content.rules()
        if everything or any(part in Path(rule.source).as_posix() for part in NEAR)
    ]
    found = workspace.detect(rules)
    assert [rule.error for rule in found.rules if rule.error] == []
    return list(wrong(recording, workspace))


@pytest.mark.parametrize(
    "name", [name if name in FEW else pytest.param(name, marks=pytest.mark.long) for name in CHOSEN]
)
def test_the_theft_is_one_grave_incident_and_nobody_else_is_accused(name: str, tmp_path: Path) -> None:
    everything = MORE > 0 or name in EVERYTHING
    assert examined(CHOSEN[name], 1, tmp_path, everything=everything) == []


@pytest.mark.parametrize("number", range(MORE))
def test_shapes_by_chance(number: int, tmp_path: Path) -> None:
    shape = drawn(number)
    assert examined(shape, number, tmp_path, everything=True) == [], shape
