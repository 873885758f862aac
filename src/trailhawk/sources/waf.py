"""AWS WAF web ACL logs as Sentinel's AWSWAF table.

Format: https://docs.aws.amazon.com/waf/latest/developerguide/logging-fields.html
"""

from __future__ import annotations

from typing import Final

from trailhawk.kql.types import KqlType
from trailhawk.sources.columns import declared
from trailhawk.sources.json_rows import Field, JsonRows, JsonSource, paths, shape

_TEXT, _TIME, _INT, _JSON = KqlType.STRING, KqlType.DATETIME, KqlType.INT, KqlType.DYNAMIC

_LINES: Final = (
    ("TimeGenerated", _TIME, "When WAF judged the request, UTC.", "timestamp"),
    ("Action", _TEXT, "What was done: ALLOW, BLOCK, CAPTCHA or CHALLENGE.", "action"),
    ("Args", _TEXT, "Query string of the request.", "httpRequest.args"),
    ("CaptchaResponse", _JSON, "How a CAPTCHA ended.", "captchaResponse"),
    ("ChallengeResponse", _JSON, "How a challenge ended.", "challengeResponse"),
    ("ClientIp", _TEXT, "Address of the client.", "httpRequest.clientIp"),
    ("Country", _TEXT, "Country of the address.", "httpRequest.country"),
    ("ExcludedRules", _JSON, "Rules of a group that were left out.", "excludedRules"),
    ("FormatVersion", _TEXT, "Version of the log's format.", "formatVersion"),
    ("Headers", _JSON, "Headers of the request.", "httpRequest.headers"),
    ("HttpMethod", _TEXT, "Method of the request.", "httpRequest.httpMethod"),
    ("HttpRequest", _JSON, "The request.", "httpRequest"),
    ("HttpSourceId", _TEXT, "Resource that WAF protects.", "httpSourceId"),
    ("HttpSourceName", _TEXT, "Kind of the resource, such as ALB.", "httpSourceName"),
    ("HttpVersion", _TEXT, "HTTP version of the request.", "httpRequest.httpVersion"),
    ("Ja3Fingerprint", _TEXT, "JA3 fingerprint of the TLS hello.", "ja3Fingerprint"),
    ("Labels", _JSON, "Labels that rules put on the request.", "labels"),
    ("NonTerminatingMatchingRules", _JSON, "Rules that matched and went on.", "nonTerminatingMatchingRules"),
    ("OversizeFields", _JSON, "Parts too large to look through.", "oversizeFields"),
    ("RateBasedRuleList", _JSON, "Rate-based rules that acted.", "rateBasedRuleList"),
    ("RequestHeadersInserted", _JSON, "Headers that WAF added.", "requestHeadersInserted"),
    ("RequestId", _TEXT, "Id of the request.", "httpRequest.requestId"),
    ("ResponseCodeSent", _INT, "Code of an answer of WAF's own.", "responseCodeSent"),
    ("RuleGroupId", _TEXT, "Rule group of the rule that ended it.", "ruleGroupId"),
    ("RuleGroupList", _JSON, "Rule groups that acted.", "ruleGroupList"),
    ("TerminatingRule", _JSON, "The rule that ended it, where the log gives it whole.", "terminatingRule"),
    ("TerminatingRuleId", _TEXT, "Id of the rule that ended it.", "terminatingRuleId"),
    ("TerminatingRuleMatchDetails", _JSON, "What that rule matched.", "terminatingRuleMatchDetails"),
    ("TerminatingRuleType", _TEXT, "Kind of that rule.", "terminatingRuleType"),
    ("Uri", _TEXT, "Path of the request.", "httpRequest.uri"),
    ("WebAclId", _TEXT, "Web ACL that judged.", "webaclId"),
)
TABLE: Final = declared(
    "AWSWAF",
    "Web requests that AWS WAF judged, one row a request.",
    _LINES,
    statistics=("ClientIp", "Action"),
)
_FIELDS: Final = [Field(name, kind, paths(place)) for name, kind, _, place in _LINES]
WAF: Final = JsonSource(
    "waf",
    TABLE,
    JsonRows(TABLE, _FIELDS, what="WAF log record"),
    framing=shape(starts="timestamp"),
    marks=(r'"webaclId"\s*:', r'"httpRequest"\s*:|"terminatingRuleId"\s*:'),
)
