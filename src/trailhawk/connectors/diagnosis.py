"""What the doctor's checks share: how one ended, who the connector is, and what a refusal of AWS means."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from botocore import exceptions as aws

from trailhawk.connectors import credentials
from trailhawk.connectors.config import Access, Location, S3Settings, SqsSettings
from trailhawk.connectors.policy import Statement, allow
from trailhawk.connectors.retry import Fault, Kind, fault_of

if TYPE_CHECKING:
    import boto3

REFUSALS: Final = (aws.ClientError, aws.BotoCoreError)

# "Troubleshoot access denied error messages", IAM user guide: which kind of policy is told of most refusals.
_KIND: Final = (
    r"(?P<kind>identity-based policy|resource-based policy|permissions boundary|session policy"
    r"|service control policy|resource control policy|VPC endpoint policy)"
)
_EXPLICIT: Final = re.compile(rf"with an explicit deny(?: in an? {_KIND})?")
_IMPLICIT: Final = re.compile(rf"because no {_KIND} allows")
_ACTION: Final = re.compile(r"not authorized to perform:? (?P<action>[a-z0-9-]+:[A-Za-z0-9]+)")
_KEY: Final = re.compile(r"arn:aws[a-z-]*:kms:[a-z0-9-]*:\d*:key/[A-Za-z0-9-]+")
# Not about rights: the key is off, waits for its deletion, or is gone.
_KEY_STATES: Final = {
    "KmsDisabled", "KMS.DisabledException", "KMS.NotFoundException", "KMS.KMSInvalidStateException",
}  # fmt: skip


class Verdict(StrEnum):
    """How a check ended."""

    OK = "ok"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Check:
    """One link looked at. `statement` is what is missing in the policy that `policy` names."""

    name: str
    verdict: Verdict
    said: str
    policy: str = ""
    statement: Statement | None = None


class Patient:
    """The settings, who the connector is, and what was found on the way."""

    def __init__(self, settings: SqsSettings | S3Settings, *, thorough: bool) -> None:
        self.settings = settings
        self.access: Access = settings.access
        self.thorough = thorough
        self.signed_in: boto3.Session | None = None
        self.arn = ""
        self.queue_arn = ""
        self.queue: Mapping[str, str] = {}
        """The queue's attributes; empty where they may not be asked."""
        self.found: list[Location] = []
        """Buckets that the queue's policy or a message names."""

    @property
    def partition(self) -> str:
        return self.arn.split(":")[1] if self.arn.startswith("arn:") else "aws"

    @property
    def account(self) -> str:
        return self.arn.split(":")[4] if self.arn.startswith("arn:") else ""

    @property
    def who(self) -> str:
        """The role or user whose policy gives a right, by name."""
        return self.access.role_arn or self.arn or "the connector's identity"

    @property
    def names(self) -> frozenset[str]:
        """How a policy may name the connector."""
        account = {self.account, f"arn:{self.partition}:iam::{self.account}:root"} if self.account else set()
        return frozenset({self.arn, self.access.role_arn, role_of(self.arn), *account} - {""})

    def bucket_arn(self, bucket: str, key: str = "") -> str:
        return f"arn:{self.partition}:s3:::{bucket}{'/' if key else ''}{key}"

    def locations(self) -> list[Location]:
        """Where logs are expected."""
        if isinstance(self.settings, S3Settings):
            return list(self.settings.locations)
        prefixes = self.settings.prefixes or ("",)
        buckets = self.settings.buckets or tuple(dict.fromkeys(each.bucket for each in self.found))
        return [Location(bucket, prefix) for bucket in buckets for prefix in prefixes]

    def session(self) -> boto3.Session:
        if self.signed_in is None:
            raise RuntimeError("nobody is signed in")
        return self.signed_in

    def client(self, service: str, region: str = "") -> Any:
        """A client of another service than S3 and SQS, by default in the region of the queue."""
        queue = self.queue_arn.split(":")[3] if self.queue_arn else ""
        return self.session().client(  # type: ignore[call-overload]  # by name
            service,
            region_name=region or self.session().region_name or queue or "us-east-1",
            endpoint_url=self.access.endpoint_url or None,
            config=credentials.config(self.access),
        )

    @cached_property
    def trails(self) -> list[Mapping[str, Any]]:
        """The trails that this account and region know of; raises what AWS refuses with."""
        found: list[Mapping[str, Any]] = self.client("cloudtrail").describe_trails().get("trailList", [])
        return found

    def trails_into(self, bucket: str) -> list[Mapping[str, Any]]:
        return [trail for trail in self.trails if trail.get("S3BucketName") == bucket]

    def refused(
        self,
        name: str,
        fault: Fault,
        needed: Statement,
        *,
        policy: str = "",
        about: str = "",
        key: str = "",
    ) -> Check:
        """A right that the connector lacks; `needed` is the statement that gives it, in `policy`, by default
        that of the connector. `about` goes before AWS's words; `key` is the KMS key where it is known."""
        words = f"{about}{fault}"
        policy = policy or f"policy of {self.who}"
        if fault.code in _KEY_STATES:
            return Check(name, Verdict.FAILED, f"{words} (the key, not a right: see its state)")
        if explicit := _EXPLICIT.search(fault.words):
            kind = explicit["kind"] or "policy"
            return Check(name, Verdict.FAILED, f"{words} (no statement helps but to change that {kind})")
        action = _ACTION.search(fault.words)
        if "kms" in f"{fault.code} {action['action'] if action else fault.words}".lower():
            told = _KEY.search(fault.words)
            needed = allow(["kms:Decrypt"], [told.group() if told else key or self._some_key])
            policy = f"policy of {self.who} and of the key"
        if implicit := _IMPLICIT.search(fault.words):
            policy = self._policy_of(implicit["kind"], policy)
        return Check(name, Verdict.FAILED, words, policy, needed)

    @property
    def _some_key(self) -> str:
        return f"arn:{self.partition}:kms:REGION:ACCOUNT:key/KEY"

    def _policy_of(self, kind: str, policy: str) -> str:
        if kind in ("identity-based policy", "resource-based policy"):
            return policy
        return f"{kind} that holds for {self.who}"

    def unknown(self, name: str, error: Exception, action: str, resource: str) -> Check:
        """A question that was refused; the right to ask it is no need of the connector."""
        fault = fault_of(error)
        if fault.kind is not Kind.DENIED:
            return Check(name, Verdict.UNKNOWN, str(fault))
        words = f"{fault} (to look at it)"
        if _EXPLICIT.search(fault.words):
            return Check(name, Verdict.UNKNOWN, words)
        return Check(name, Verdict.UNKNOWN, words, f"policy of {self.who}", allow([action], [resource]))


def role_of(caller: str) -> str:
    """The role behind a session; '' for another caller. AWS leaves the role's path out."""
    parts = caller.split(":")
    if len(parts) == 6 and parts[2] == "sts" and parts[5].startswith("assumed-role/"):
        return f"arn:{parts[1]}:iam::{parts[4]}:role/{parts[5].split('/')[1]}"
    return ""
