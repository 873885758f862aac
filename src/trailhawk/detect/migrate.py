"""The state database of an earlier version, brought to what this one reads, step by step.

Each room that has tables keeps a number of its own. A database in which a room's tables do not stand yet is
new and has nothing to be brought over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import sqlalchemy as sa

from trailhawk.detect.store import make_tables, metadata, reading
from trailhawk.errors import StateError

Step = Callable[[sa.Connection], None]
"""What leads from one version to the next, inside of a transaction."""

_versions = sa.Table(
    "schema_versions",
    metadata,
    sa.Column("room", sa.String, primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
)


def bring_up(
    engine: sa.Engine, room: str, tables: Iterable[sa.Table], steps: Sequence[Step], *, began_as: str
) -> None:
    """Make the tables of a room, and take the steps that this database lacks, all or none.

    One that lacks nothing is left alone: nobody waits for a writer. A table that comes new into a room needs
    a step of its own. `began_as` is a table that stood there before versions were counted. StateError for a
    database of a later version, and for one that lacks a step and may only be read.
    """
    with reading(engine) as connection:
        recorded = _recorded(connection, room)
        version = _version(connection, recorded, steps, began_as)
    if recorded == len(steps):
        return
    if version > len(steps):
        raise StateError(
            "the state database was written by a later version", hint="open it with that version of trailhawk"
        )
    if _is_only_read(engine):
        if version == len(steps):
            make_tables(engine, [_versions, *tables])
            return
        raise StateError(
            "the state database was written by an earlier version and may only be read here",
            hint="let who may write the home run a command once",
        )
    make_tables(engine, [_versions, *tables])
    with engine.begin() as connection:
        version = _version(connection, _recorded(connection, room), steps, began_as)
        for step in steps[version:]:
            step(connection)
        connection.execute(sa.delete(_versions).where(_versions.c.room == room))
        connection.execute(sa.insert(_versions).values(room=room, version=len(steps)))


def _recorded(connection: sa.Connection, room: str) -> int | None:
    if not sa.inspect(connection).has_table(_versions.name):
        return None
    return connection.scalar(sa.select(_versions.c.version).where(_versions.c.room == room))


def _version(connection: sa.Connection, recorded: int | None, steps: Sequence[Step], began_as: str) -> int:
    if recorded is not None:
        return recorded
    return 0 if sa.inspect(connection).has_table(began_as) else len(steps)


def _is_only_read(engine: sa.Engine) -> bool:
    return engine.url.query.get("mode") == "ro"
