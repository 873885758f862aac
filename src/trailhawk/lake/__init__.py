"""Tables at rest: Delta Lake tables of Parquet files, written by several processes at once."""

from trailhawk.lake.catalog import Lake, Snapshot
from trailhawk.lake.delta import ConflictError, Delta, LogError, Staged, Transaction, UncommittedError
from trailhawk.lake.table import DataFile

__all__ = [
    "ConflictError",
    "DataFile",
    "Delta",
    "Lake",
    "LogError",
    "Snapshot",
    "Staged",
    "Transaction",
    "UncommittedError",
]
