"""Every scalar function, called with too little or of another type, is compiled or refused with our error."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from support.catalog import NoTables
from trailhawk.errors import TrailhawkError
from trailhawk.kql.compiler import compile_query
from trailhawk.kql.functions import FUNCTIONS
from trailhawk.kql.functions.registry import _resolved
from trailhawk.kql.lower import lower
from trailhawk.kql.types import KqlType

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("argument", ["", "1", '"a"', "dynamic([1])"])
def test_no_call_ends_in_an_error_that_is_not_ours(argument: str) -> None:
    for name in [*FUNCTIONS, "coalesce", "max_of", "min_of", "case", "iff"]:
        query = f"range i from 1 to 2 step 1 | extend x = {name}({argument})"
        try:
            compiled = compile_query(query, NoTables(), now=NOW)
            lower(compiled.plan, lambda scan: "SELECT 1", lambda node, inputs: "applied")
        except TrailhawkError:
            continue


def test_what_calls_of_many_arguments_resolve_to_is_not_remembered() -> None:
    pack_array, numbers = FUNCTIONS["pack_array"], (KqlType.LONG,) * 1_000
    before = _resolved.cache_info().currsize
    found = [pack_array.resolve((*numbers, last), (False,) * 1_001) for last in KqlType]
    assert set(found) == {pack_array.resolve((KqlType.LONG,), (False,))} != {None}
    assert _resolved.cache_info().currsize <= before + 1
