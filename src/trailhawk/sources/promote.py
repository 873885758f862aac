"""Promoted JSON paths read anew, for rows whose JSON text was changed after the source had read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from trailhawk.kql.schema import Path, json_path

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

_AT_ONCE: Final = 16 * 1024 * 1024
"""Bytes of texts read at once: DuckDB takes some ten times as much for parsing them."""


def promoted(texts: pa.ChunkedArray, path: Path) -> pa.ChunkedArray:
    """What `tostring(parse_json(text).path)` gives for each text, NULL where the path is absent.

    Text that is not JSON has no paths, nor has one that alone takes more memory than there is for it.
    """
    import duckdb
    import pyarrow as pa

    with duckdb.connect(config={"memory_limit": "1GB", "threads": 1}) as connection:
        return pa.chunked_array(_read(connection, texts, json_path(path)), pa.string())


def _read(connection: duckdb.DuckDBPyConnection, texts: pa.ChunkedArray, path: str) -> list[pa.Array]:
    """The path of each text; what is too much at once is read in halves."""
    import duckdb
    import pyarrow as pa

    if len(texts) <= 1 or texts.nbytes <= _AT_ONCE:
        connection.register("changed", pa.table({"text": texts}))
        sql = "SELECT CASE WHEN json_valid(text) THEN json_extract_string(text, ?) END AS value FROM changed"
        try:
            made: pa.Table = connection.sql(sql, params=[path]).to_arrow_table()
            return list(made["value"].cast(pa.string()).chunks)
        except (duckdb.Error, pa.ArrowException, MemoryError):
            if len(texts) <= 1:
                return [pa.nulls(len(texts), pa.string())]
        finally:
            connection.unregister("changed")
    half = len(texts) // 2
    return [*_read(connection, texts.slice(0, half), path), *_read(connection, texts.slice(half), path)]
