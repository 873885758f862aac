"""Watchlist: what happened to the watchlists, as rows of Log Analytics' table.

A row for each version of a list (`_DTItemType` is Watchlist) and for each item that a version made, changed
or deleted (watchlist-item), as `_DTItemStatus` says: Create, Update or Delete.
https://learn.microsoft.com/azure/azure-monitor/reference/tables/watchlist
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from trailhawk.kql.schema import Column, Table
from trailhawk.kql.types import KqlType
from trailhawk.lake.table import as_stored, described

if TYPE_CHECKING:
    import pyarrow as pa

    from trailhawk.detect.watchlists import Change, Revision

_S, _T, _D = KqlType.STRING, KqlType.DATETIME, KqlType.DYNAMIC
LIST_TYPE, ITEM_TYPE = "Watchlist", "watchlist-item"

WATCHLIST = Table(
    name="Watchlist",
    description="What happened to the watchlists and their items.",
    columns=(
        Column("TenantId", _S),
        Column("TimeGenerated", _T, "When it happened."),
        Column("AzureTenantId", _S),
        Column("CorrelationId", _S, "The version of the watchlist that this belongs to."),
        Column("CreatedBy", _D),
        Column("CreatedTimeUTC", _T, "For what was created: when."),
        Column("DefaultDuration", _S),
        Column("_DTItemId", _S, "Id of the watchlist or of the item."),
        Column("_DTItemStatus", _S, "Create, Update or Delete."),
        Column("_DTItemType", _S, "Watchlist or watchlist-item."),
        Column("_DTTimestamp", _T, "When it happened."),
        Column("EntityMapping", _D),
        Column("LastUpdatedTimeUTC", _T, "When it happened."),
        Column("Notes", _S),
        Column("Provider", _S),
        Column("SearchKey", _S, "An item's key; of a watchlist the name of the column."),
        Column("Source", _S, "File that the watchlist came from."),
        Column("SourceSystem", _S),
        Column("Tags", _S),
        Column("TimeToLive", _T),
        Column("UpdatedBy", _D),
        Column("WatchlistAlias", _S, "The name that queries use."),
        Column("WatchlistCategory", _S),
        Column("WatchlistId", _S, "Id of the watchlist."),
        Column("WatchlistItem", _D, "The item's values by column."),
        Column("WatchlistItemId", _S, "Id of the item."),
        Column("WatchlistName", _S),
        Column("Type", _S),
    ),
    constants={"Type": "Watchlist", "SourceSystem": "Detection", "TenantId": ""},
    statistics=("TimeGenerated",),
)
_STATUS = {"Created": "Create", "Updated": "Update", "Deleted": "Delete"}


def watchlist_rows(revisions: Iterable[Revision]) -> pa.Table:
    """What these versions did, as rows of the table's stored columns; text is never null."""
    return described((row for each in revisions for row in _rows(each)), WATCHLIST)


def _rows(revision: Revision) -> Iterator[dict[str, object]]:
    status = "Deleted" if revision.removed else "Created" if revision.first else "Updated"
    common: dict[str, object] = {
        "CorrelationId": f"{revision.alias}/{revision.version}",
        "Provider": "Trailhawk",
        "Source": revision.source,
        "WatchlistAlias": revision.alias,
        "WatchlistId": str(uuid.uuid5(uuid.NAMESPACE_URL, f"watchlist:{revision.alias}")),
        "WatchlistName": revision.alias,
    }
    yield (
        common
        | _what(status, revision.at)
        | {
            "_DTItemId": common["WatchlistId"],
            "_DTItemType": LIST_TYPE,
            "SearchKey": revision.search_key,
        }
    )
    for change in revision.changes:
        yield common | _what(change.status, change.at) | _item(change)


def _item(change: Change) -> dict[str, object]:
    return {
        "_DTItemId": change.item_id,
        "_DTItemType": ITEM_TYPE,
        "SearchKey": change.key,
        "WatchlistItem": change.body,
        "WatchlistItemId": change.item_id,
    }


def _what(status: str, at: datetime) -> dict[str, object]:
    moment = as_stored(at)
    return {
        "TimeGenerated": moment,
        "CreatedTimeUTC": moment if status == "Created" else None,
        "LastUpdatedTimeUTC": moment,
        "_DTTimestamp": moment,
        "_DTItemStatus": _STATUS[status],
    }
