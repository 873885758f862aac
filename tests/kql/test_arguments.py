"""Every scalar function, called with too little or of another type, is compiled or refused with our error."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from support.catalog import NoTables
from trailhawk.errors import TrailhawkError
from trailhawk.kql.compiler import compile_query
from trailhawk.kql.functions import FUNCTIONS
from trailhawk.kql.lower import lower

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
