"""An engine whose tables hold what a test gives, shared by all tests of a process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from trailhawk import connectors, sources
from trailhawk.detect.content import functions
from trailhawk.detect.intel.table import THREAT_INTEL
from trailhawk.detect.proof import Holding
from trailhawk.detect.security_alert import SECURITY_ALERT
from trailhawk.engine.duckdb import DuckDBEngine, Limits
from trailhawk.kql.schema import Table
from trailhawk.lake.catalog import Lake

TABLES = [*sources.TABLES, *connectors.TABLES, SECURITY_ALERT, THREAT_INTEL]


@pytest.fixture(scope="session")
def holding(tmp_path_factory: pytest.TempPathFactory) -> Holding:
    lake = Lake(Path(tmp_path_factory.mktemp("empty")), TABLES)
    return DuckDBEngine(lake, functions=functions(), limits=Limits(threads=1, few_rows=True)).holding


@pytest.fixture(scope="session")
def tables() -> Callable[[], list[Table]]:
    return lambda: TABLES
