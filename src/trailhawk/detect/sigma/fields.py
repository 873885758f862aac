"""What a Sigma log source is here: its table, and the KQL of each field that a record of it has."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType

from trailhawk.errors import RuleError
from trailhawk.kql.printer import quoted
from trailhawk.kql.schema import Table
from trailhawk.kql.scope import suggestion
from trailhawk.kql.types import KqlType
from trailhawk.sources.cloudtrail import PLACES
from trailhawk.sources.cloudtrail import TABLE as CLOUDTRAIL
from trailhawk.sources.vpc_flow import TABLE as VPC_FLOW

MAX_FIELD = 300
MAX_STEPS = 20
"""Characters of a field's name, and members on the way to a nested one."""

_PLURALS = ("s", "Set", "List")
_STEP = re.compile(r"\.|\[(\d+)\]")


@dataclass(frozen=True)
class LogSource:
    """A Sigma log source that we have a table for.

    `view` is what its query reads; `columns` the column of each field. The members of `documents`, columns
    of JSON, are fields too, at any depth. `summary` is what a rule's query gives of the rows found, by the
    columns `who`; `entities` are the entity types with identifiers and their columns.
    """

    product: str
    service: str
    table: Table
    view: str
    columns: Mapping[str, str]
    documents: tuple[str, ...]
    connector: str
    who: tuple[str, ...]
    summary: tuple[str, ...]
    entities: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
    details: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    title: str = ""
    """How an alert's title ends: a format that names columns of `who`."""

    @property
    def name(self) -> str:
        return f"{self.product}/{self.service}"

    @cached_property
    def _types(self) -> Mapping[str, KqlType]:
        return {column.name: column.type for column in self.table.columns}

    def expression(self, name: str) -> str:
        """The KQL of a field, always a text, empty where a record lacks it. RuleError for an unknown one."""
        if column := self.columns.get(name):
            return _as_text(column, self._types[column])
        root, *steps = _steps(name)
        document = self.columns.get(root, "") if root in self.documents else ""
        if not steps or not document or '"' in name or "\\" in name:  # no member of AWS is called so
            raise self._unknown(name)
        members = "".join(f"[{step}]" if isinstance(step, int) else f"[{quoted(step)}]" for step in steps)
        return f"tostring(parse_json({document}){members})"

    def elements(self, name: str) -> str:
        """The KQL of a field's values where lists stand on its way: JSON values between commas, as one text.

        '' for a field on whose way no member has a plural's name: there is no list to look into. Where
        members of lists are meant, those of the last name anywhere below the first list are taken.
        """
        root, *steps = _steps(name)
        document = self.columns.get(root, "") if root in self.documents and name not in self.columns else ""
        plural = next((place for place, step in enumerate(steps) if _is_list(steps, place)), None)
        if not document or plural is None:
            return ""
        members = "".join(
            f"[{step}]" if isinstance(step, int) else f"[{quoted(step)}]" for step in steps[: plural + 1]
        )
        above = f"tostring(parse_json({document}){members})"
        if plural == len(steps) - 1:
            return above
        value = rf'"{re.escape(str(steps[-1]))}":("(?:[^"\\]|\\.)*"|\[[^\]]*\]|[^,}}\]]+)'
        return f'strcat_array(extract_all({quoted(value)}, {above}), ",")'

    def _unknown(self, name: str) -> RuleError:
        near = suggestion(name, self.columns)
        root = f"{name.partition('.')[0]}."
        known = [column for column in self.columns if column.startswith(root)]
        if not known:
            roots = {column.partition(".")[0] for column in self.columns}
            nested = {column.partition(".")[0] for column in self.columns if "." in column} | {
                *self.documents
            }
            known = [f"{each}.*" if each in nested else each for each in roots]
        listed = f"known are {', '.join(sorted(known))}"
        return RuleError(
            f"field '{name[:MAX_FIELD]}': {self.table.name} has no column for it",
            hint=f"{near} {listed}" if near else listed,
        )


def _as_text(column: str, kind: KqlType) -> str:
    """A column as the text that stands in the log: JSON's own words for true and false."""
    if kind is KqlType.BOOL:
        return f'case({column} == true, "true", {column} == false, "false", "")'
    return column if kind is KqlType.STRING else f"tostring({column})"


def _is_list(steps: list[str | int], place: int) -> bool:
    """Whether a member's name is a plural's, and no place in it is named."""
    step = steps[place]
    is_placed = place + 1 < len(steps) and isinstance(steps[place + 1], int)
    return isinstance(step, str) and step.endswith(_PLURALS) and not is_placed


def _steps(name: str) -> list[str | int]:
    """`a.b[0].c` and `a.b.0.c` as their members and places; nothing where it is no such path."""
    if len(name) > MAX_FIELD:
        return [name]
    found: list[str | int] = []
    for part in _STEP.split(name):
        if part:
            found.append(int(part) if part.isdecimal() and part.isascii() and len(part) < 6 else part)
    return found if len(found) <= MAX_STEPS else [name]


_TRAIL = LogSource(
    product="aws",
    service="cloudtrail",
    table=CLOUDTRAIL,
    view="AwsCalls",
    # A time is no text: rules ask for it by `timeframe` or a correlation's timespan.
    columns={
        place: column
        for place, column in PLACES.items()
        if column not in ("TimeGenerated", "SessionCreationDate")
    },
    documents=(
        "requestParameters",
        "responseElements",
        "additionalEventData",
        "resources",
        "serviceEventDetails",
    ),
    connector="AWS",
    who=("Principal", "Session", "SessionArn", "AccessKey", "Address", "Account"),
    summary=(
        "EventNames = make_set(EventName, 50)",
        "ErrorCodes = make_set_if(ErrorCode, isnotempty(ErrorCode), 50)",
        "EventIds = make_set(EventId, 1000)",
    ),
    entities=(
        ("AwsPrincipal", (("Arn", "Principal"),)),
        ("AwsSession", (("Id", "Session"), ("Arn", "SessionArn"))),
        ("AwsAccessKey", (("Id", "AccessKey"),)),
        ("IP", (("Address", "Address"),)),
        ("AwsAccount", (("Id", "Account"),)),
    ),
    details={"EventIds": "EventIds", "EventNames": "EventNames", "ErrorCodes": "ErrorCodes"},
    title="by {{Principal}}",
)

_FLOW_FIELDS = {
    "srcaddr": "SrcAddr",
    "dstaddr": "DstAddr",
    "srcport": "SrcPort",
    "dstport": "DstPort",
    "protocol": "Protocol",
    "packets": "Packets",
    "bytes": "Bytes",
    "action": "Action",
    "log-status": "LogStatus",
    "account-id": "AccountId",
    "interface-id": "InterfaceId",
    "instance-id": "InstanceId",
    "vpc-id": "VpcId",
    "subnet-id": "SubnetId",
    "pkt-srcaddr": "PktSrcAddr",
    "pkt-dstaddr": "PktDstAddr",
    "flow-direction": "FlowDirection",
}

_FLOWS = LogSource(
    product="aws",
    service="vpcflow",
    table=VPC_FLOW,
    view="AWSVPCFlow",
    columns=_FLOW_FIELDS,
    documents=(),
    connector="AWSS3",
    who=("SrcAddr", "DstAddr", "AccountId"),
    summary=("Ports = make_set(DstPort, 50)", "Actions = make_set(Action, 10)", "TotalBytes = sum(Bytes)"),
    entities=(
        ("IP", (("Address", "SrcAddr"),)),
        ("IP", (("Address", "DstAddr"),)),
        ("AwsAccount", (("Id", "AccountId"),)),
    ),
    details={"Ports": "Ports", "Actions": "Actions", "TotalBytes": "TotalBytes"},
    title="from {{SrcAddr}} to {{DstAddr}}",
)

LOG_SOURCES = (_TRAIL, _FLOWS)
