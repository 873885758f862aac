"""Amazon Security Lake: logs in OCSF, as Parquet or JSON lines, into the tables of the logs that they were.

An object holds the events of one of AWS's sources (keys `aws/CLOUD_TRAIL_MGMT/2.0/region=.../...gz.parquet`).
Which one, the columns in the Parquet footer tell, and in each event `metadata.product.name`: what another
product wrote in OCSF (Security Lake's custom sources) is none of ours. A record is the event as JSON, without
`observables` and what only repeats another member; it is put into AWS's own words and takes the road of the
log that it was, so that an event that comes by both roads is one row where the format kept enough.
https://docs.aws.amazon.com/security-lake/latest/userguide/internal-sources.html ,
https://schema.ocsf.io/
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Final

import orjson

from trailhawk.kql.schema import Table
from trailhawk.sources import converted, framing, parquet
from trailhawk.sources.cloudtrail import CloudTrail
from trailhawk.sources.eks import EKS
from trailhawk.sources.json_rows import Record, at, parsed, shape, text_of
from trailhawk.sources.ocsf_cloudtrail import PRODUCT, as_cloudtrail
from trailhawk.sources.ocsf_network import as_audit, as_flow, as_query, as_request
from trailhawk.sources.route53 import ROUTE53
from trailhawk.sources.security_hub import SECURITY_HUB
from trailhawk.sources.source import Chunk, Rows, Source
from trailhawk.sources.vpc_flow import VpcFlow
from trailhawk.sources.waf import WAF

if TYPE_CHECKING:
    import pyarrow as pa

_PRODUCT: Final = "metadata.product.name"
_CLASS: Final = "class_uid"
_SHOWN: Final = 64
# What says again, in words or as a list of values, what other members say.
_REPEATED: Final = ("observables", "category_name", "category_uid", "class_name", "type_name", "type_uid")


class SecurityLake:
    """The events of some products, by the road of the source whose log they were.

    `told_by` are columns that a Parquet file of these has, `without` those that it has not, which counts
    where its footer names no single product. `convert` puts an event into the words of that log. With `hub`,
    events of any product belong whose `metadata.product.uid` holds this text.
    """

    def __init__(
        self,
        name: str,
        inner: Source,
        *,
        products: Sequence[str],
        classes: Sequence[int],
        told_by: Sequence[str],
        without: Sequence[str] = (),
        convert: Callable[[Record], Record | bytes] = lambda event: event,
        hub: str = "",
    ) -> None:
        self.name = name
        self.table: Table = inner.table
        self._inner = inner
        self._products = frozenset(products)
        self._classes = frozenset(classes)
        self._told_by = frozenset((_PRODUCT, _CLASS, *told_by))
        self._without = frozenset(without)
        self._convert = convert
        self._hub = hub
        names = b"|".join(re.escape(product.encode()) for product in products)
        self._marks = (
            re.compile(rb'"product"\s*:\s*\{(?:[^{}]|\{[^{}]*\})*?"name"\s*:\s*"(?:%s)"' % names),
            re.compile(rb'"class_uid"\s*:\s*(?:%s)\b' % "|".join(map(str, classes)).encode()),
        )
        self._shape = shape(starts="metadata|time|class_uid|activity_id|activity_name|action")

    def recognises(self, name: str, head: bytes) -> bool:
        if head.startswith(parquet.MAGIC):
            columns = parquet.columns(head)
            if not self._told_by <= columns:
                return False
            product = None if self._hub else parquet.only_value(head, _PRODUCT)
            return not self._without & columns if product is None else product in self._products
        start = head.removeprefix(framing.BOM).lstrip()[:1]
        return start in (b"{", b"[") and not self._hub and all(mark.search(head) for mark in self._marks)

    def is_digest(self, head: bytes) -> bool:
        return False

    def chunks(self, blocks: Iterator[bytes]) -> Iterator[Chunk]:
        first = next(blocks, b"")
        whole = chain((first,), blocks)
        if not first.startswith(parquet.MAGIC):
            return framing.chunks(whole, self._shape)
        return parquet.chunks(whole, self._events, check=self._check, wanted=_is_wanted)

    def _check(self, columns: frozenset[str]) -> None:
        if not self._told_by <= columns:
            raise ValueError("it has not the columns of such a log of Security Lake")

    def _events(self, batch: pa.RecordBatch) -> list[bytes]:
        return [orjson.dumps(event) for event in parquet.dicts(batch)]

    def rows(self, records: Sequence[bytes]) -> Rows:
        what = f"an event of Security Lake's {self.name.partition('-')[2]}"
        return converted.rows(records, self._inner, self._converted, what=what)

    def _converted(self, text: bytes) -> Record | bytes:
        """The record in the words of the log; ValueError or TypeError where it is none."""
        event = parsed(text)
        product, uid = (text_of(at(event, ("metadata", "product", name))) for name in ("name", "uid"))
        if self._hub not in uid if self._hub else product not in self._products:
            raise ValueError(f"of the product {(product or uid)[:_SHOWN]!r}")
        if event.get(_CLASS) not in self._classes:
            raise ValueError(f"of the class {str(event.get(_CLASS))[:_SHOWN]!r}")
        return self._convert(event)


def _is_wanted(column: str) -> bool:
    return column.partition(".")[0] not in _REPEATED


SECURITY_LAKE: Final = (
    SecurityLake(
        "securitylake-eks",
        EKS,
        products=("Amazon EKS",),
        classes=(3005, 6003),
        told_by=("api.operation", "http_request.url.path"),
        without=("api.service.name",),
        convert=as_audit,
    ),
    SecurityLake(
        "securitylake-cloudtrail",
        CloudTrail(),
        products=(PRODUCT,),
        classes=(3001, 3002, 3003, 3004, 3005, 6003),
        told_by=("api.operation", "api.service.name", "metadata.uid"),
        convert=as_cloudtrail,
    ),
    SecurityLake(
        "securitylake-vpcflow",
        VpcFlow(),
        products=("Amazon VPC",),
        classes=(4001,),
        told_by=("traffic.bytes", "src_endpoint.ip", "dst_endpoint.ip"),
        convert=as_flow,
    ),
    SecurityLake(
        "securitylake-route53",
        ROUTE53,
        products=("Route 53",),
        classes=(4003,),
        told_by=("query.hostname", "rcode"),
        convert=as_query,
    ),
    SecurityLake(
        "securitylake-waf",
        WAF,
        products=("Amazon WAF", "AWS WAF"),
        classes=(4002,),
        told_by=("http_request.http_method", "metadata.product.feature.uid"),
        convert=as_request,
    ),
    SecurityLake(
        "securitylake-findings",
        SECURITY_HUB,
        products=(),
        classes=(2001, 2002, 2003, 2004),
        told_by=("metadata.product.uid", "severity_id"),
        without=("api.operation", "traffic.bytes", "query.hostname"),
        hub=":securityhub:",
    ),
)
