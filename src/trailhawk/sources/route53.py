"""Route 53 Resolver query logs as Sentinel's AWSRoute53Resolver table.

Format: https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/resolver-query-logs-format.html
"""

from __future__ import annotations

from typing import Final

from trailhawk.kql.types import KqlType
from trailhawk.sources.columns import declared
from trailhawk.sources.json_rows import Field, JsonRows, JsonSource, paths, shape

_TEXT, _TIME, _JSON = KqlType.STRING, KqlType.DATETIME, KqlType.DYNAMIC

_LINES: Final = (
    ("TimeGenerated", _TIME, "When the resolver got the query, UTC.", "query_timestamp"),
    ("AccountId", _TEXT, "Account of the VPC that asked.", "account_id"),
    ("Answers", _JSON, "The answers, with their types and classes.", "answers"),
    (
        "FirewallDomainListId",
        _TEXT,
        "Domain list of the DNS firewall that matched.",
        "firewall_domain_list_id",
    ),
    ("FirewallRuleAction", _TEXT, "What the DNS firewall did: ALERT or BLOCK.", "firewall_rule_action"),
    ("FirewallRuleGroupId", _TEXT, "Rule group of the DNS firewall that matched.", "firewall_rule_group_id"),
    ("LogType", _TEXT, "Type of the log, where the record names one.", "log_type"),
    ("QueryClass", _TEXT, "Class of the query, mostly IN.", "query_class"),
    ("QueryName", _TEXT, "Name asked for, with its final dot.", "query_name"),
    ("QueryType", _TEXT, "Type asked for, such as A.", "query_type"),
    ("Rcode", _TEXT, "Answer's code, such as NOERROR.", "rcode"),
    ("Region", _TEXT, "Region of the VPC.", "region"),
    ("SrcAddr", _TEXT, "Address that asked.", "srcaddr"),
    ("SrcIds", _JSON, "Instance and resolver endpoint that asked.", "srcids"),
    ("SrcPort", _TEXT, "Port that asked.", "srcport"),
    ("Transport", _TEXT, "UDP, TCP or DOH.", "transport"),
    ("Version", _TEXT, "Version of the log's format.", "version"),
    ("VpcId", _TEXT, "VPC that asked.", "vpc_id"),
)
TABLE: Final = declared(
    "AWSRoute53Resolver",
    "DNS queries of VPCs to the Route 53 Resolver, one row a query.",
    _LINES,
    promoted={"SrcIds": "instance"},
    statistics=("QueryName", "SrcAddr"),
)


_FIELDS: Final = [Field(name, kind, paths(place)) for name, kind, _, place in _LINES]
ROUTE53: Final = JsonSource(
    "route53",
    TABLE,
    JsonRows(TABLE, _FIELDS, what="resolver query"),
    framing=shape(starts="version|query_timestamp"),
    marks=(r'"query_timestamp"\s*:', r'"query_name"\s*:'),
)
