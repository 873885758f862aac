"""Bookmarks: rows kept with notes and entities, who did what when, and the table HuntingBookmark."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest

from trailhawk.cli import run
from trailhawk.detect.bookmarks import Bookmark, bookmark, given_entity, given_mapping
from trailhawk.detect.entities import Entity
from trailhawk.errors import NotFoundError, UsageError
from trailhawk.workspace import Workspace

START: Final = datetime(2026, 3, 2, 12, tzinfo=UTC)
ROW: Final = {
    "Principal": "arn:aws:iam::111122223333:user/eve",
    "Address": "203.0.113.66",
    "StartTime": START,
}


def made(**options: object) -> Bookmark:
    settings = {
        "query": "AWSCloudTrail",
        "query_start": None,
        "query_end": START,
        "now": START,
        "by": "ann",
    } | options
    return bookmark(ROW, json.dumps({"Principal": ROW["Principal"]}), **settings)  # type: ignore[arg-type]


class Home:
    """A workspace whose clock is an hour later at each change."""

    def __init__(self, folder: Path) -> None:
        self.now = START
        self.workspace = Workspace.open(folder, clock=lambda: self.now)
        self.store = self.workspace.bookmarks

    def later(self) -> datetime:
        self.now += timedelta(hours=1)
        return self.now

    def rows(self, query: str) -> list[tuple[object, ...]]:
        return self.workspace.query(query, now=self.now).tuples()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_entities_come_from_the_mapping_and_from_the_hunter() -> None:
    found = made(
        mappings=[given_mapping("AwsPrincipal.Arn=Principal"), given_mapping("IP.Address=Address")],
        given=[given_entity("AwsBucket.Name=ledger"), given_entity("IP.Address=203.0.113.66")],
    )
    assert found.entities == (
        Entity("AwsPrincipal", (("Arn", "arn:aws:iam::111122223333:user/eve"),)),
        Entity("IP", (("Address", "203.0.113.66"),)),
        Entity("AwsBucket", (("Name", "ledger"),)),
    )
    assert found.name == "arn:aws:iam::111122223333:user/eve"
    assert found.event_time == START


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mappings": [given_mapping("AwsPrincipal.Arn=Principl")]}, "no column 'Principl'"),
        ({"notes": "x" * 10_001}, "10,001 characters"),
        ({"tags": ["x" * 65]}, "65 characters"),
        ({"tags": map(str, range(21))}, "21 tags"),
    ],
)
def test_what_cannot_be_kept_is_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        made(**options)


def test_a_row_too_large_is_refused() -> None:
    with pytest.raises(UsageError, match="65,536 bytes"):
        bookmark({}, "x" * 65_537, query="q", query_start=None, query_end=START, now=START, by="ann")


@pytest.mark.parametrize("text", ["IP", "IP.Address", "IP=1", ".Address=1", "IP.=1", "IP.Address="])
def test_an_entity_has_a_type_an_identifier_and_a_value(text: str) -> None:
    with pytest.raises(UsageError, match="is no entity"):
        given_entity(text)


def test_who_did_what_when_is_kept(home: Home) -> None:
    first = home.store.add(made(notes="odd", tags=["eve", " eve ", "case-1"]))
    home.store.change(first.id[:8], notes="very odd", now=home.later(), by="bob")
    home.store.remove(first.id, now=home.later(), by="cyd")
    history = home.store.history(first.id)
    assert [(each.bookmark.updated_by, each.bookmark.notes, each.removed) for each in history] == [
        ("ann", "odd", False),
        ("bob", "very odd", False),
        ("cyd", "very odd", True),
    ]
    assert {each.bookmark.created_by for each in history} == {"ann"}
    assert first.tags == ("eve", "case-1")
    assert home.store.all() == ()
    with pytest.raises(NotFoundError):
        home.store.one(first.id)


def test_a_bookmark_is_found_by_the_beginning_of_its_id_if_it_is_the_only_one(home: Home) -> None:
    known = [home.store.add(made(name=str(number), now=home.later())) for number in range(20)]
    assert home.store.one(known[3].id[:12]) == known[3]
    assert [each.name for each in home.store.all()] == [str(number) for number in reversed(range(20))]
    for text in ("", "zz"):
        with pytest.raises(NotFoundError):
            home.store.one(text)
    shared = next(digit for digit in "0123456789abcdef" if sum(k.id.startswith(digit) for k in known) > 1)
    with pytest.raises(NotFoundError, match="begins the ids of"):
        home.store.one(shared)


def test_the_table_is_the_same_before_and_after_each_export(home: Home) -> None:
    query = (
        "HuntingBookmark | sort by TimeGenerated asc, SoftDeleted asc | project Notes, SoftDeleted, "
        "tostring(parse_json(CreatedBy).Name), tostring(parse_json(UpdatedBy).Name), "
        "tostring(parse_json(Entities)[0].Type), tostring(parse_json(Tags)[0]), EventTime"
    )
    assert home.rows("HuntingBookmark | count") == [(0,)]
    made_one = home.store.add(
        made(notes="odd", tags=["case-1"], given=[given_entity("IP.Address=192.0.2.1")])
    )
    expected = [("odd", False, "ann", "ann", "ip", "case-1", START)]
    assert home.rows(query) == expected
    home.workspace.export()
    assert home.rows(query) == expected
    home.store.change(made_one.id, notes="very odd", now=home.later(), by="bob")
    home.store.remove(made_one.id, now=home.later(), by="cyd")
    expected += [
        ("very odd", False, "ann", "bob", "ip", "case-1", START),
        ("very odd", True, "ann", "cyd", "ip", "case-1", START),
    ]
    assert home.rows(query) == expected
    for _ in range(2):
        home.workspace.export()
        assert (home.workspace.lake.snapshot("HuntingBookmark").rows, home.rows(query)) == (3, expected)


def test_sentinels_own_way_of_reading_bookmarks(home: Home) -> None:
    kept, gone = home.store.add(made(name="kept")), home.store.add(made(name="gone"))
    home.store.remove(gone.id, now=home.later(), by="ann")
    query = (
        "HuntingBookmark | summarize arg_max(TimeGenerated, *) by BookmarkId | where SoftDeleted == false"
        " | project BookmarkId, BookmarkName"
    )
    assert home.rows(query) == [(kept.id, "kept")]


# --- the command -------------------------------------------------------------------------------------------


class Typed:
    """The command line over one home."""

    def __init__(self, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.home, self.capsys = str(home), capsys

    def __call__(self, *words: str) -> tuple[int, str]:
        code = run(["--home", self.home, "hunt", "bookmark", *words])
        said = self.capsys.readouterr()
        return code, said.out if code == 0 else said.err


@pytest.fixture
def typed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Typed:
    return Typed(tmp_path, capsys)


TWO = "datatable(Who:string, From:string) ['eve', '203.0.113.66', 'bob', '192.0.2.9']"


def test_a_row_is_kept_shown_changed_and_removed(typed: Typed) -> None:
    entity = ["--map", "Account.Name=Who", "--entity", "IP.Address=198.51.100.7"]
    code, out = typed(
        "add", "--query", TWO, "--row", "2", "--note", "odd", "--tag", "case-1", *entity, "--format", "json"
    )
    assert code == 0
    kept = json.loads(out)
    assert kept["row"] == {"Who": "bob", "From": "192.0.2.9"}
    assert kept["entities"] == [
        {"$id": "1", "Type": "account", "Name": "bob"},
        {"$id": "2", "Type": "ip", "Address": "198.51.100.7"},
    ]
    assert typed("edit", kept["id"], "--note", "very odd", "--tag", "case-2")[0] == 0
    (listed,) = json.loads(typed("list", "--format", "json")[1])
    assert (listed["notes"], listed["tags"]) == ("very odd", ["case-2"])
    assert json.loads(typed("list", "--tag", "case-1", "--format", "json")[1]) == []
    assert "very odd" in typed("show", kept["id"][:10])[1]
    assert typed("remove", kept["id"])[0] == 0
    assert json.loads(typed("list", "--format", "json")[1]) == []
    assert typed("show", kept["id"])[0] == 1


def test_a_hunts_entities_are_those_of_the_bookmark(typed: Typed, tmp_path: Path) -> None:
    (tmp_path / "hunts").mkdir()
    (tmp_path / "hunts" / "mine.yaml").write_text(
        f"id: mine\nname: mine\nquery: |\n  {TWO}\nentityMappings:\n"
        "  - {entityType: IP, fieldMappings: [{identifier: Address, columnName: From}]}\n"
    )
    code, out = typed("add", "--hunt", "mine", "--row", "1", "--format", "json")
    assert code == 0
    assert json.loads(out)["entities"] == [{"$id": "1", "Type": "ip", "Address": "203.0.113.66"}]
    code, out = typed("add", "--query", TWO, "--like", "mine", "--row", "2", "--format", "json")
    assert json.loads(out)["entities"] == [{"$id": "1", "Type": "ip", "Address": "192.0.2.9"}]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--query", TWO], 2, "2 rows"),
        (["--query", TWO, "--row", "3"], 2, "2 rows"),
        (["--query", f"{TWO} | take 0"], 2, "no row"),
        (["--query", "AWSCloudTrial"], 1, "AWSCloudTrial"),
        (["--query", TWO, "--row", "1", "--map", "IP.Address=Form"], 2, "no column 'Form'"),
        ([], 2, "give"),
        (["--query", TWO, "--hunt", "mine"], 2, "give"),
    ],
)
def test_what_is_asked_wrongly_is_told(typed: Typed, words: list[str], code: int, said: str) -> None:
    assert typed("add", *words)[0] == code
    assert said in typed("add", *words)[1]
