"""The table Watchlist: what happened to the watchlists, from the lake and from what is not exported yet."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from trailhawk.workspace import Workspace

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
EVENTS = (
    "Watchlist | where _DTItemType == 'watchlist-item' | sort by TimeGenerated asc, SearchKey asc"
    " | project SearchKey, _DTItemStatus, tostring(WatchlistItem.note), WatchlistAlias"
)
LISTS = "Watchlist | where _DTItemType == 'Watchlist' | sort by TimeGenerated asc | project _DTItemStatus"


class Home:
    """A workspace whose clock is an hour later at each change."""

    def __init__(self, folder: Path) -> None:
        self.now = START
        self.folder = folder
        self.workspace = Workspace.open(folder, clock=lambda: self.now)

    def load(self, text: str) -> None:
        path = self.folder / "list.csv"
        path.write_text(text)
        self.now += timedelta(hours=1)
        self.workspace.watchlists.load("vips", path, key="user", now=self.now)

    def remove(self) -> None:
        self.now += timedelta(hours=1)
        self.workspace.watchlists.remove("vips", now=self.now)

    def rows(self, query: str) -> list[tuple[object, ...]]:
        return self.workspace.query(query, now=self.now).tuples()

    def stored(self) -> int:
        return self.workspace.lake.snapshot("Watchlist").rows


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_without_watchlists_it_is_empty(home: Home) -> None:
    assert home.rows("Watchlist | count") == [(0,)]
    home.workspace.export()
    assert home.workspace.lake.snapshot("Watchlist").version == -1


def test_what_happened_is_the_same_before_and_after_each_export(home: Home) -> None:
    expected = [
        ("ann", "Create", "a", "vips"),
        ("bob", "Create", "b", "vips"),
        ("ann", "Update", "c", "vips"),
        ("bob", "Delete", "b", "vips"),
        ("ann", "Delete", "c", "vips"),
    ]
    home.load("user,note\nann,a\nbob,b\n")
    assert home.rows(EVENTS) == expected[:2]
    home.workspace.export()
    assert (home.stored(), home.rows(EVENTS)) == (3, expected[:2])
    home.load("user,note\nann,c\n")
    assert (home.stored(), home.rows(EVENTS)) == (3, expected[:4])
    home.remove()
    for _ in range(2):
        home.workspace.export()
        assert (home.stored(), home.rows(EVENTS)) == (8, expected)
    home.load("user,note\nann,a\n")
    assert home.rows(LISTS) == [("Create",), ("Update",), ("Delete",), ("Create",)]


def test_an_item_keeps_its_id_and_the_list_its_own(home: Home) -> None:
    home.load("user,note\nann,a\n")
    home.load("user,note\nann,b\n")
    assert home.rows(
        "Watchlist | summarize dcount(_DTItemId), count() by _DTItemType | sort by _DTItemType asc"
    ) == [
        ("Watchlist", 1, 2),
        ("watchlist-item", 1, 2),
    ]
    found = home.rows(
        "_GetWatchlist('vips') | join kind=inner Watchlist on $left._DTItemId == $right._DTItemId | count"
    )
    assert found == [(2,)]


def test_sentinels_own_way_of_reading_a_watchlist(home: Home) -> None:
    home.load("user,note\nann,a\nbob,b\n")
    home.workspace.export()
    home.load("user,note\nann,c\n")
    query = """
        Watchlist
        | where _DTItemType == 'watchlist-item' and WatchlistAlias == 'vips'
        | summarize arg_max(_DTTimestamp, _DTItemStatus, SearchKey, WatchlistItem) by _DTItemId
        | where _DTItemStatus != 'Delete'
        | evaluate bag_unpack(WatchlistItem)
        | project SearchKey, user, note
    """
    assert home.rows(query) == [("ann", "ann", "c")]


def test_columns_of_the_table(home: Home) -> None:
    home.load("user,note\nann,a\n")
    shown = home.rows(
        "Watchlist | where _DTItemType == 'Watchlist' | project Type, SearchKey, Source, CreatedTimeUTC"
    )
    assert shown == [("Watchlist", "user", "list.csv", home.now)]
