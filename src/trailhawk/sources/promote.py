"""Promoted JSON paths read anew, for rows whose JSON text was changed after the source had read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trailhawk.kql.schema import Path, json_path

if TYPE_CHECKING:
    import pyarrow as pa


def promoted(texts: pa.ChunkedArray, path: Path) -> pa.ChunkedArray:
    """What `tostring(parse_json(text).path)` gives for each text, NULL where the path is absent.

    Text that is not JSON has no paths.
    """
    import duckdb
    import pyarrow as pa

    with duckdb.connect(config={"memory_limit": "1GB", "threads": 1}) as connection:
        connection.register("changed", pa.table({"text": texts}))
        sql = "SELECT CASE WHEN json_valid(text) THEN json_extract_string(text, ?) END AS value FROM changed"
        made: pa.Table = connection.sql(sql, params=[json_path(path)]).to_arrow_table()
        return made["value"].cast(pa.string())
