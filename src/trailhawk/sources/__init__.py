"""One file a log format: which objects are its own, how they are read, its table and its column mapping."""

from trailhawk.sources.cloudtrail import CloudTrail
from trailhawk.sources.source import BadPart, Chunk, Rows, Source
from trailhawk.sources.unpack import Readable, Unpacked

SOURCES: tuple[Source, ...] = (CloudTrail(),)
"""Every source, in the order in which they are asked whether an object is theirs."""

TABLES = tuple(source.table for source in SOURCES)

__all__ = ["SOURCES", "TABLES", "BadPart", "Chunk", "Readable", "Rows", "Source", "Unpacked"]
