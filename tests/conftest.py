"""What several rooms' tests need: an engine over CloudTrail records written in the test."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from trailhawk.engine.result import Engine

Record = Mapping[str, object]

# So that an assertion there tells as much as one in a test.
pytest.register_assert_rewrite("support")

# A test gives the same each time, on a slow machine too. New examples: pytest --hypothesis-profile default
settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")


@pytest.fixture
def engine_of(tmp_path: Path) -> Callable[[Iterable[Record]], Engine]:
    """A function that stores records in a lake and gives the engine over it; called again, it adds.

    A record without id gets one that follows from its place.
    """
    # Imported here, so that the tests of rooms below do not need these.
    from trailhawk import connectors, sources
    from trailhawk.connectors.ingest import ingest
    from trailhawk.detect.content import functions
    from trailhawk.engine.duckdb import DuckDBEngine
    from trailhawk.lake.catalog import Lake

    lake = Lake(tmp_path / "lake", [*sources.TABLES, *connectors.TABLES])
    engine = DuckDBEngine(lake, functions=functions())
    batch = 0

    def store(records: Iterable[Record]) -> Engine:
        nonlocal batch
        batch += 1
        full = [
            {"eventVersion": "1.11", "eventID": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{batch}/{n}"))} | dict(r)
            for n, r in enumerate(records)
        ]
        path = tmp_path / f"logs-{batch}.json"
        path.write_text(json.dumps({"Records": full}))
        summary = ingest(lake, [path], clock=lambda: datetime(2026, 3, 3, tzinfo=UTC))
        assert summary.rows == len(full), "every record of a test is a row"
        return engine

    return store
