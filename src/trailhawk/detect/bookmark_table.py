"""HuntingBookmark: what happened to the bookmarks, as rows of Log Analytics' table.

A row for each making, change and removal, with the bookmark as it was then; `SoftDeleted` marks removal.
https://learn.microsoft.com/azure/azure-monitor/reference/tables/huntingbookmark
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

from trailhawk.kql.schema import Column, Table
from trailhawk.kql.types import KqlType
from trailhawk.lake.table import as_stored, described

if TYPE_CHECKING:
    import pyarrow as pa

    from trailhawk.detect.bookmarks import Revision

_S, _T, _B = KqlType.STRING, KqlType.DATETIME, KqlType.BOOL

HUNTING_BOOKMARK = Table(
    name="HuntingBookmark",
    description="Rows that hunters kept, with notes: a row for each change of a bookmark.",
    columns=(
        Column("TenantId", _S),
        Column("TimeGenerated", _T, "When it was made, changed or removed."),
        Column("BookmarkId", _S),
        Column("BookmarkName", _S),
        Column("BookmarkType", _S),
        Column("CreatedBy", _S, "JSON: who made it."),
        Column("CreatedTime", _T),
        Column("Entities", _S, "JSON: list of entities."),
        Column("EventTime", _T, "The time in the row."),
        Column("LastUpdatedTime", _T),
        Column("Notes", _S),
        Column("QueryEndTime", _T),
        Column("QueryResultRow", _S, "JSON: the row."),
        Column("QueryStartTime", _T),
        Column("QueryText", _S),
        Column("SoftDeleted", _B, "Whether it was removed."),
        Column("SourceSystem", _S),
        Column("Tags", _S, "JSON: list of tags."),
        Column("UpdatedBy", _S, "JSON: who changed it."),
        Column("Type", _S),
    ),
    constants={"Type": "HuntingBookmark", "SourceSystem": "Detection", "TenantId": ""},
    statistics=("TimeGenerated",),
)


def bookmark_rows(revisions: Iterable[Revision]) -> pa.Table:
    """The revisions as rows of the table's stored columns; text is never null."""
    return described(map(_row, revisions), HUNTING_BOOKMARK)


def _row(revision: Revision) -> dict[str, object]:
    from trailhawk.detect.entities import as_json

    each = revision.bookmark
    return {
        "TimeGenerated": as_stored(each.updated_at),
        "BookmarkId": each.id,
        "BookmarkName": each.name,
        "CreatedBy": _person(each.created_by),
        "CreatedTime": as_stored(each.created_at),
        "Entities": _json(as_json(each.entities)),
        "EventTime": as_stored(each.event_time),
        "LastUpdatedTime": as_stored(each.updated_at),
        "Notes": each.notes,
        "QueryEndTime": as_stored(each.query_end),
        "QueryResultRow": each.row,
        "QueryStartTime": as_stored(each.query_start),
        "QueryText": each.query,
        "SoftDeleted": revision.removed,
        "Tags": _json(each.tags),
        "UpdatedBy": _person(each.updated_by),
    }


def _person(name: str) -> str:
    return _json({"ObjectId": "", "Email": "", "Name": name})


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
