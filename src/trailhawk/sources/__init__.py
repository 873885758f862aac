"""One file a log format: which objects are its own, how they are read, its table and its column mapping."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from itertools import takewhile
from pathlib import Path
from typing import Final

from trailhawk.kql.schema import Table
from trailhawk.sources.athena import ATHENA
from trailhawk.sources.cloudfront import CloudFront
from trailhawk.sources.cloudtrail import CloudTrail
from trailhawk.sources.cloudwatch import CloudWatch
from trailhawk.sources.converted import TableSource
from trailhawk.sources.custom import load
from trailhawk.sources.eks import EKS
from trailhawk.sources.elastic import Elastic
from trailhawk.sources.envelope import Enveloped, is_envelope
from trailhawk.sources.event_history import EVENT_HISTORY
from trailhawk.sources.guardduty import GUARDDUTY
from trailhawk.sources.held import Carried, form_of
from trailhawk.sources.json_rows import CLOUDTRAIL
from trailhawk.sources.load_balancer import ALB, CLASSIC, CONNECTION, HEALTH, NLB
from trailhawk.sources.logstash import LOGSTASH
from trailhawk.sources.network_firewall import NETWORK_FIREWALL
from trailhawk.sources.parquet import known_by
from trailhawk.sources.proxy import PROXY
from trailhawk.sources.route53 import ROUTE53
from trailhawk.sources.s3_access import S3_ACCESS
from trailhawk.sources.security_hub import SECURITY_HUB
from trailhawk.sources.security_lake import SECURITY_LAKE
from trailhawk.sources.sentinel import Exported, exported, table_of
from trailhawk.sources.source import BadPart, Chunk, Placed, Rows, Source
from trailhawk.sources.ssm import SsmOutput, SsmTranscript
from trailhawk.sources.strange import archived, strange
from trailhawk.sources.unpack import Readable, Unpacked
from trailhawk.sources.vpc_flow import VpcFlow
from trailhawk.sources.waf import WAF

_TOLD_BY_THEIR_START: tuple[Source, ...] = (
    VpcFlow(),
    S3_ACCESS,
    PROXY,
    HEALTH,
    ALB,
    NLB,
    CLASSIC,
    CONNECTION,
    CloudFront(),
    # Its findings name those of GuardDuty that they were made of.
    SECURITY_HUB,
    GUARDDUTY,
    ROUTE53,
    WAF,
    EKS,
    *NETWORK_FIREWALL,
    LOGSTASH,
    # CloudTrail takes much that has only one of its members.
    CloudTrail(),
    # Last, so that each table's own log comes first where a table is named.
    *SECURITY_LAKE,
)
SOURCES: tuple[Source, ...] = (
    SsmOutput(),
    # Rows name the ARNs and ids by which logs are told; so what says that it is a table comes first.
    *exported((*_TOLD_BY_THEIR_START, CloudWatch())),
    EVENT_HISTORY,
    *ATHENA,
    Elastic(),
    *map(Carried, _TOLD_BY_THEIR_START),
    CloudWatch(),
    SsmTranscript(),
)
"""Every source, in the order in which they are asked whether an object is theirs."""


def with_custom(folder: Path) -> tuple[Source, ...]:
    """Every source, with those that the YAML files of this folder describe; these are asked first.

    SourceError for a file that cannot be used.
    """
    found = load(folder, taken=[name for each in SOURCES for name in (each.name, each.table.name)])
    if not found.sources and not found.flow_formats:
        return SOURCES
    flow = Carried(VpcFlow(found.flow_formats))
    ours = (flow if each.name == flow.name else each for each in SOURCES)
    return (*map(Enveloped, found.sources), *ours)


def log_of(table: str, sources: Iterable[Source]) -> Source | None:
    """The source of the log that fills this table, not one of what other tools made of it."""
    own = (source for source in sources if not isinstance(source, Exported | TableSource | Elastic))
    return next((source for source in own if source.table.name == table), None)


def tables_of(sources: Iterable[Source]) -> tuple[Table, ...]:
    """Their tables, each once."""
    return tuple({source.table.name: source.table for source in sources}.values())


def source_of(sources: Iterable[Source], name: str, head: bytes) -> Source | None:
    """The first of the sources that knows an object of this name that begins so, as it reads this object:
    where nothing is around the records, it looks for nothing."""
    if table_of(head) or is_envelope(head) or form_of(head) is not None:
        return next((each for each in sources if each.recognises(name, head)), None)
    # Most objects: what would come to the same for each source was asked once.
    is_of_trail = _OF_TRAIL.match(head) is not None and CLOUDTRAIL.search(head) is not None
    for source in _plain(tuple(sources), is_of_trail):
        if source.recognises(name, head):
            return source
    return None


_OF_TRAIL: Final = re.compile(rb'\{"Records":\[\{"eventVersion":')
"""How CloudTrail's own files begin. Of the sources before it none of ours takes one with an event in it."""


@lru_cache(maxsize=8)
def _plain(sources: tuple[Source, ...], is_of_trail: bool) -> tuple[Source, ...]:
    """The sources to ask about an object around whose records nothing is."""
    bare = [_bare(each) for each in sources if not isinstance(each, Exported)]
    return tuple(each for each in bare if not (is_of_trail and each in _BEFORE_TRAIL))


def _bare(source: Source) -> Source:
    return _bare(source.inner) if isinstance(source, Carried | Enveloped) else source


_BEFORE_TRAIL: Final = frozenset(
    takewhile(lambda each: not isinstance(each, CloudTrail), map(_bare, SOURCES))
)
TABLES = tables_of(SOURCES)

__all__ = [
    "SOURCES",
    "TABLES",
    "BadPart",
    "Chunk",
    "Placed",
    "Readable",
    "Rows",
    "Source",
    "Unpacked",
    "archived",
    "known_by",
    "log_of",
    "source_of",
    "strange",
    "tables_of",
    "with_custom",
]
