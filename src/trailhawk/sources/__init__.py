"""One file a log format: which objects are its own, how they are read, its table and its column mapping."""

from __future__ import annotations

from trailhawk.sources.cloudtrail import CloudTrail
from trailhawk.sources.cloudwatch import CloudWatch
from trailhawk.sources.eks import EKS
from trailhawk.sources.envelope import Enveloped
from trailhawk.sources.guardduty import GUARDDUTY
from trailhawk.sources.load_balancer import ALB, NLB
from trailhawk.sources.network_firewall import NETWORK_FIREWALL
from trailhawk.sources.proxy import PROXY
from trailhawk.sources.route53 import ROUTE53
from trailhawk.sources.s3_access import S3_ACCESS
from trailhawk.sources.security_hub import SECURITY_HUB
from trailhawk.sources.source import BadPart, Chunk, Placed, Rows, Source
from trailhawk.sources.ssm import SsmOutput, SsmTranscript
from trailhawk.sources.unpack import Readable, Unpacked
from trailhawk.sources.vpc_flow import VpcFlow
from trailhawk.sources.waf import WAF


def _ordered(flow: VpcFlow) -> tuple[Source, ...]:
    told_by_their_start: tuple[Source, ...] = (
        flow,
        S3_ACCESS,
        PROXY,
        ALB,
        NLB,
        GUARDDUTY,
        SECURITY_HUB,
        ROUTE53,
        WAF,
        EKS,
        *NETWORK_FIREWALL,
        # CloudTrail takes much that has only one of its members.
        CloudTrail(),
    )
    return (SsmOutput(), *map(Enveloped, told_by_their_start), CloudWatch(), SsmTranscript())


SOURCES: tuple[Source, ...] = _ordered(VpcFlow())
"""Every source, in the order in which they are asked whether an object is theirs."""

TABLES = tuple({source.table.name: source.table for source in SOURCES}.values())

__all__ = ["SOURCES", "TABLES", "BadPart", "Chunk", "Placed", "Readable", "Rows", "Source", "Unpacked"]
