"""AWS as containment sees it: one call at a time, in a region, with the credentials of the settings.

AWS's client is loaded with the first call: who lists playbooks does not wait for it.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from trailhawk import __version__
from trailhawk.errors import TrailhawkError

if TYPE_CHECKING:
    import boto3
    from botocore import exceptions as aws

    from trailhawk.connectors.config import Access

ARN: Final = re.compile(r"arn:aws[a-z-]*:(?:iam|sts)::(\d{12}):(role|assumed-role|user)/(.+)", re.DOTALL)
"""Of a role, session or user: account, kind, and path with name."""
REGION: Final = re.compile(r"[a-z]{2}(?:-[a-z]{2,12}){1,3}-\d{1,2}")
"""What the name of a region looks like: it becomes part of a host's name, and comes from logs."""


class ContainmentError(TrailhawkError):
    """AWS did not do, or may not be asked to do, what contains an incident."""

    kind = "aws"


class ForeignError(ContainmentError):
    """A thing is of an account that is not ours: there is nothing for us to contain."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of AWS's API: service and operation as boto3 has them, parameters as the API has them; in the
    region of the settings unless it has one of its own."""

    service: str
    operation: str
    parameters: Mapping[str, Any]
    region: str = ""

    def __str__(self) -> str:
        # The JSON is for people to read and for a log: a control character of a name stands escaped in it.
        words = self.operation.replace("_", "-")
        where = f" --region {self.region}" if self.region else ""
        return f"{self.service} {words}{where} {json.dumps(self.parameters, sort_keys=True)}"


class Cloud:
    """AWS in one region, as our credentials see it. Errors of AWS and of the way there are
    ContainmentErrors."""

    def __init__(self, access: Access) -> None:
        self._who = _Who(access)
        self._region = ""

    def at(self, region: str) -> Cloud:
        """The same in another region; in that of the settings for an empty one."""
        if region and not REGION.fullmatch(region):
            raise ContainmentError(f"'{region[:100]}' is no region")
        made = copy.copy(self)
        made._region = region
        return made

    @property
    def account(self) -> str:
        """The account that our credentials are of."""
        return self._who.account

    @property
    def region(self) -> str:
        """Where it asks; empty where neither it nor the settings say."""
        return self._region or self._who.region

    def is_us(self, name: str) -> bool:
        """Whether a user, role, key or instance of this name is who we are ourselves."""
        return name.casefold() in self._who.names

    def ask(self, service: str, operation: str, **parameters: Any) -> Mapping[str, Any]:
        """One call; the answer without its wrapping."""
        return self._who.ask(service, operation, self._region, parameters)

    def ask_or_none(
        self, missing: str, service: str, operation: str, **parameters: Any
    ) -> Mapping[str, Any] | None:
        """The same; None where AWS answers with this code: there is none."""
        try:
            return self.ask(service, operation, **parameters)
        except ContainmentError as error:
            if _code(error) == missing:
                return None
            raise

    def make(self, call: Call) -> None:
        self.at(call.region).ask(call.service, call.operation, **call.parameters)


class _Who:
    """Our credentials, whose they are, and the clients that use them."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._signed_in: boto3.Session | None = None
        self._clients: dict[tuple[str, str], Any] = {}
        self._identity: Mapping[str, Any] | None = None
        self._names: frozenset[str] | None = None

    @property
    def account(self) -> str:
        return str(self._caller["Account"])

    @property
    def region(self) -> str:
        return self._session.region_name or ""

    @property
    def names(self) -> frozenset[str]:
        """Our user or role, our instance, our key, and those by which we came to be a role."""
        if self._names is None:
            self._names = self._own() | self._before()
        return self._names

    def _own(self) -> frozenset[str]:
        found = ARN.fullmatch(str(self._caller["Arn"]))
        names = {name_in(found)} if found else set()
        if found and found[3].split("/")[-1].startswith("i-"):
            names.add(found[3].split("/")[-1])  # the session of an instance has its id
        if credentials := self._session.get_credentials():
            names.add(credentials.access_key)
        return frozenset(name.casefold() for name in names)

    def _before(self) -> frozenset[str]:
        """Who we are until we take the role of the settings: without it there is no way back to the role."""
        if not self._access.role_arn or self._access.web_identity_token_file:
            return frozenset()
        return _Who(replace(self._access, role_arn="", external_id=""))._own()

    @property
    def _caller(self) -> Mapping[str, Any]:
        if self._identity is None:
            self._identity = self.ask("sts", "get_caller_identity", "", {})
        return self._identity

    def ask(
        self, service: str, operation: str, region: str, parameters: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        from botocore import exceptions as aws

        said = f"{service} {operation.replace('_', '-')}"
        try:
            answer: dict[str, Any] = getattr(self._client(service, region), operation)(**parameters)
        except aws.ClientError as error:
            raise ContainmentError(f"{said}: {_said(error)}") from error
        except aws.NoCredentialsError as error:
            raise ContainmentError(
                f"no credentials for AWS: {error}", hint="give [respond.aws] a profile or a role"
            ) from error
        except aws.BotoCoreError as error:
            raise ContainmentError(f"{said}: {error}") from error
        answer.pop("ResponseMetadata", None)
        return answer

    @property
    def _session(self) -> boto3.Session:
        from trailhawk.connectors.credentials import session

        if self._signed_in is None:
            self._signed_in = session(self._access)
        return self._signed_in

    def _client(self, service: str, region: str) -> Any:
        from botocore.config import Config

        region = region or self.region or "us-east-1"
        if (service, region) not in self._clients:
            self._clients[service, region] = self._session.client(  # type: ignore[call-overload]  # by its name
                service,
                region_name=region,
                endpoint_url=self._access.endpoint_url or None,
                config=Config(
                    # Five calls of one target at their longest end before a run counts as left.
                    retries={"total_max_attempts": 2, "mode": "standard"},
                    connect_timeout=5,
                    read_timeout=15,
                    user_agent_extra=f"trailhawk/{__version__}",
                    s3={"addressing_style": "path"} if self._access.endpoint_url else {},
                ),
            )
        return self._clients[service, region]


def name_in(found: re.Match[str]) -> str:
    """The name in an ARN: role/PATH/NAME and user/PATH/NAME, but assumed-role/NAME/SESSION."""
    parts = found[3].split("/")
    return parts[0] if found[2] == "assumed-role" else parts[-1]


def _code(error: ContainmentError) -> str:
    """AWS's code of an error, empty where it is none of AWS."""
    answer: Mapping[str, Any] = getattr(error.__cause__, "response", {})
    return str(answer.get("Error", {}).get("Code", ""))


def _said(error: aws.ClientError) -> str:
    said = error.response.get("Error", {})
    return f"{said.get('Code', '')}: {said.get('Message', '')}"[:500]
