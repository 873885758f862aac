"""pySigma's Kusto backend, made exact for our tables: every field is a text, and no comparison gives null.

As it is, the backend would match other rows than Sigma means, or not compile, for a value with a wildcard
inside, a number or a boolean against a text, an absent field, `|cased`, `|fieldref`, keywords, IPv6 ranges,
and `not` of a comparison that cannot be made (an address range against the name of a service).
Reference: https://sigmahq.io/docs/basics/modifiers.html
"""

from __future__ import annotations

import json
import re
from typing import Any

from sigma.backends.kusto.kusto import KustoBackend
from sigma.conditions import (
    ConditionAND,
    ConditionFieldEqualsValueExpression,
    ConditionOR,
    ConditionValueExpression,
)
from sigma.conversion.state import ConversionState
from sigma.exceptions import SigmaFeatureNotSupportedByBackendError
from sigma.processing.pipeline import ProcessingItem, ProcessingPipeline
from sigma.processing.transformations.fields import FieldFunctionTransformation
from sigma.types import (
    Placeholder,
    SigmaBool,
    SigmaCIDRExpression,
    SigmaCompareExpression,
    SigmaFieldReference,
    SigmaNumber,
    SigmaRegularExpression,
    SigmaString,
    SpecialChars,
)

from trailhawk.detect.sigma.fields import LogSource
from trailhawk.errors import RuleError
from trailhawk.kql.printer import quoted

_MANY, _ONE = SpecialChars.WILDCARD_MULTI, SpecialChars.WILDCARD_SINGLE
_RE_FLAGS = SigmaRegularExpression.sigma_to_re_flag
_KEYWORDS = "*"
"""The field of a keyword: any column."""


def backend_of(source: LogSource) -> TableBackend:
    """The backend of a log source: fields become columns of its table, and paths into its JSON columns."""

    def column(name: str | None) -> str:
        if name is None:
            raise RuleError("a field without a name")
        expression = source.expression(name)
        if elements := source.elements(name):
            backend.elements[expression] = elements
        return expression

    mapping = ProcessingItem(FieldFunctionTransformation({}, column), identifier="trailhawk_fields")
    backend = TableBackend(ProcessingPipeline(name="trailhawk", items=[mapping]))
    return backend


class TableBackend(KustoBackend):
    """Conditions in KQL over the expressions that a log source gives for its fields."""

    in_expressions_allow_wildcards = False
    convert_and_as_in = False

    def __init__(self, processing_pipeline: ProcessingPipeline) -> None:
        super().__init__(processing_pipeline)
        self.elements: dict[str, str] = {}
        """By a field's expression: that of its values, where lists stand on its way."""

    def decide_convert_condition_as_in_expression(
        self, cond: ConditionOR | ConditionAND, state: ConversionState
    ) -> bool:
        fields = {getattr(arg, "field", None) for arg in cond.args}
        is_listed = any(field in self.elements for field in fields)
        return not is_listed and bool(super().decide_convert_condition_as_in_expression(cond, state))

    def _or_element(self, field: str, plain: str, element: str) -> str:
        """A comparison of a field; also with each of its values where it may have several."""
        elements = self.elements.get(field)
        return plain if elements is None else f"({plain} or {elements} {element})"

    def escape_and_quote_field(self, field_name: str) -> str:
        return field_name  # it is KQL already

    def convert_value_str(self, s: SigmaString | SigmaNumber, state: ConversionState) -> str:
        return quoted(_plain(s) if isinstance(s, SigmaString) else str(s))

    def convert_condition_as_in_expression(
        self, cond: ConditionOR | ConditionAND, state: ConversionState
    ) -> str:
        values = [self.convert_value_str(arg.value, state) for arg in cond.args]  # type: ignore[union-attr, arg-type]  # see decide_convert_condition_as_in_expression
        field = cond.args[0].field  # type: ignore[union-attr]
        return f"{field} in~ ({', '.join(dict.fromkeys(values))})"

    # A text, with its wildcards.

    def convert_condition_field_eq_val_str(
        self, cond: ConditionFieldEqualsValueExpression, state: ConversionState
    ) -> str:
        value = _string(cond.value)
        return self._or_element(
            cond.field, _matches(cond.field, value, cased=False), _element(value, cased=False)
        )

    def convert_condition_field_eq_val_str_case_sensitive(
        self, cond: ConditionFieldEqualsValueExpression, state: ConversionState
    ) -> str:
        value = _string(cond.value)
        return self._or_element(
            cond.field, _matches(cond.field, value, cased=True), _element(value, cased=True)
        )

    def convert_condition_val_str(self, cond: ConditionValueExpression, state: ConversionState) -> str:
        return _keyword(_string(cond.value))

    def convert_condition_val_num(self, cond: ConditionValueExpression, state: ConversionState) -> str:
        return f"{_KEYWORDS} contains {quoted(str(cond.value))}"

    # Other values.

    def convert_condition_field_eq_val_num(
        self, cond: ConditionFieldEqualsValueExpression, state: ConversionState
    ) -> str:
        number = str(cond.value)
        element = f"matches regex {quoted(f'(^|[,[{chr(34)}]){re.escape(number)}([],{chr(34)}]|$)')}"
        return self._or_element(cond.field, f"{cond.field} == {quoted(number)}", element)

    def convert_condition_field_eq_val_bool(
        self, cond: ConditionFieldEqualsValueExpression, state: ConversionState
    ) -> str:
        assert isinstance(cond.value, SigmaBool)
        word = str(cond.value.boolean).lower()
        plain = f"{cond.field} =~ {quoted(word)}"
        return self._or_element(cond.field, plain, f"contains {quoted(word)}")

    def convert_condition_field_eq_val_null(
        self, cond: ConditionFieldEqualsValueExpression, state: ConversionState
    ) -> str:
        return self.convert_condition_field_not_exists(cond, state)

    def convert_condition_field_exists(
        self, cond: ConditionFieldEqualsValueExpression, state: ConversionState
    ) -> str:
        return self._or_element(cond.field, f"isnotempty({cond.field})", '!= ""')

    def convert_condition_field_not_exists(
        self, cond: ConditionFieldEqualsValueExpression, state: ConversionState
    ) -> str:
        elements = self.elements.get(cond.field)
        is_empty = f"isempty({cond.field})"
        return is_empty if elements is None else f'({is_empty} and {elements} == "")'

    def convert_condition_field_eq_val_re(
        self, cond: ConditionFieldEqualsValueExpression, state: ConversionState
    ) -> str:
        pattern = _regex(cond.value)
        return self._or_element(
            cond.field, f"{cond.field} matches regex {pattern}", f"matches regex {pattern}"
        )

    def convert_condition_val_re(self, cond: ConditionValueExpression, state: ConversionState) -> str:
        return f"{_KEYWORDS} matches regex {_regex(cond.value)}"

    def convert_condition_field_eq_val_cidr(
        self, cond: ConditionFieldEqualsValueExpression, state: ConversionState
    ) -> str:
        assert isinstance(cond.value, SigmaCIDRExpression)
        network = cond.value.network
        # The name of a service stands where an address would: that gives null, and not(null) would be no row.
        return f"coalesce(ipv{network.version}_is_in_range({cond.field}, {quoted(str(network))}), false)"

    def convert_condition_field_compare_op_val(
        self, cond: ConditionFieldEqualsValueExpression, state: ConversionState
    ) -> str:
        value = cond.value
        assert isinstance(value, SigmaCompareExpression)
        if type(value.number) is not SigmaNumber:
            raise SigmaFeatureNotSupportedByBackendError("parts of a time are not compared")
        operator = self.compare_operators[value.op]
        return f"coalesce(todouble({cond.field}) {operator} {value.number}, false)"

    def convert_condition_field_eq_val_timestamp_part(
        self, cond: ConditionFieldEqualsValueExpression, state: ConversionState
    ) -> str:
        raise SigmaFeatureNotSupportedByBackendError("parts of a time are not compared")

    def convert_condition_field_eq_field(
        self, cond: ConditionFieldEqualsValueExpression, state: ConversionState
    ) -> str:
        other = cond.value
        assert isinstance(other, SigmaFieldReference)
        operator = {
            (False, False): "=~",
            (True, False): "startswith",
            (False, True): "endswith",
            (True, True): "contains",
        }[other.starts_with, other.ends_with]
        return f"(isnotempty({other.field}) and {cond.field} {operator} {other.field})"

    def convert_condition_field_eq_query_expr(
        self, cond: ConditionFieldEqualsValueExpression, state: ConversionState
    ) -> str:
        raise SigmaFeatureNotSupportedByBackendError("no query of another language is passed through")

    def convert_condition_query_expr(self, cond: ConditionValueExpression, state: ConversionState) -> str:
        raise SigmaFeatureNotSupportedByBackendError("no query of another language is passed through")


def _string(value: Any) -> SigmaString:
    assert isinstance(value, SigmaString)
    return value


def _plain(value: SigmaString) -> str:
    """The text of a value without wildcards; what `|expand` left open cannot be compared."""
    parts: list[str] = []
    for part in value.s:
        if isinstance(part, Placeholder):
            raise SigmaFeatureNotSupportedByBackendError(
                f"nothing says what the placeholder %{part.name}% is"
            )
        assert isinstance(part, str)
        parts.append(part)
    return "".join(parts)


def _matches(field: str, value: SigmaString, *, cased: bool) -> str:
    """A field against a text: at its start, its end or inside where there are wildcards at the ends alone."""
    parts = value.s
    if parts and all(part is _MANY for part in parts):
        return f"isnotempty({field})"
    open_start, open_end = bool(parts) and parts[0] is _MANY, bool(parts) and parts[-1] is _MANY
    inner = value[1 if open_start else 0 : len(value) - (1 if open_end else 0)]
    if inner.contains_special():
        return f"{field} matches regex {quoted(_pattern(value, cased=cased))}"
    text = quoted(_plain(inner))
    operator = {
        (False, False): "==" if cased else "=~",
        (False, True): "startswith",
        (True, False): "endswith",
        (True, True): "contains",
    }[open_start, open_end]
    return f"{field} {operator}{'_cs' if cased and operator.isalpha() else ''} {text}"


def _element(value: SigmaString, *, cased: bool) -> str:
    """The comparison with one of a list's values, which stand in JSON's quotes."""
    parts = value.s
    if parts and all(part is _MANY for part in parts):
        return '!= ""'
    body = "".join(
        {_MANY: r'(?:[^"\\]|\\.)*', _ONE: r'(?:[^"\\]|\\.)'}[part]
        if isinstance(part, SpecialChars)
        else _escaped(json.dumps(part, ensure_ascii=False)[1:-1] if isinstance(part, str) else part)
        for part in parts
    )
    flags = "s" if cased else "is"
    return f"matches regex {quoted(f'(?{flags}){chr(34)}{body}{chr(34)}')}"


def _keyword(value: SigmaString) -> str:
    """A word anywhere in a row."""
    if value.contains_special():
        return f"{_KEYWORDS} matches regex {quoted(_pattern(value, cased=False, whole=False))}"
    return f"{_KEYWORDS} contains {quoted(_plain(value))}"


def _pattern(value: SigmaString, *, cased: bool, whole: bool = True) -> str:
    """A text with wildcards as a regular expression."""
    body = "".join(
        {_MANY: ".*", _ONE: "."}[part] if isinstance(part, SpecialChars) else _escaped(part)
        for part in value.s
    )
    return f"(?{'s' if cased else 'is'}){'^' if whole else ''}{body}{'$' if whole else ''}"


def _escaped(part: Any) -> str:
    if isinstance(part, Placeholder):
        raise SigmaFeatureNotSupportedByBackendError(f"nothing says what the placeholder %{part.name}% is")
    return "".join(f"\\{letter}" if letter in r".*+?^$[](){}\|" else letter for letter in str(part))


def _regex(value: Any) -> str:
    assert isinstance(value, SigmaRegularExpression)
    flags = "".join(sorted(_RE_FLAGS[flag] for flag in value.flags))
    return quoted((f"(?{flags})" if flags else "") + str(value.regexp))
