"""Watchlists: files of every kind taken in or refused, versions kept, and queries that read them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from trailhawk.cli import run
from trailhawk.detect.content import rules
from trailhawk.detect.watchlists import MAX_BYTES, MAX_LINE, read_csv
from trailhawk.engine.result import TimeRange
from trailhawk.errors import BindingError, NotFoundError, SourceError, TrailhawkError, UsageError
from trailhawk.workspace import Workspace

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
ADMINS = 'Arn,Name,Since\narn:a,"Ann, A.",2024\narn:b,Bob,2025\n'


class Clock:
    """Each look is an hour later."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        self.now += timedelta(hours=1)
        return self.now


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.open(tmp_path / "home", clock=Clock())


def load(workspace: Workspace, alias: str, text: str | bytes, key: str | None = None) -> dict[str, int]:
    path = workspace.home / f"{alias}.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    done = workspace.watchlists.load(alias, path, key=key, now=workspace.clock())
    names = ("created", "updated", "deleted", "unchanged")
    return {name: getattr(done, name) for name in names if getattr(done, name)}


def rows(workspace: Workspace, query: str, window: TimeRange | None = None) -> list[list[object]]:
    return [list(row.values()) for row in workspace.query(query, now=START, window=window).rows()]


# --- queries -----------------------------------------------------------------------------------------------


def test_a_query_reads_the_items(workspace: Workspace) -> None:
    load(workspace, "admins", ADMINS)
    assert rows(
        workspace, "_GetWatchlist('admins') | project SearchKey, Arn, Name, Since | sort by Arn asc"
    ) == [
        ["arn:a", "arn:a", "Ann, A.", "2024"],
        ["arn:b", "arn:b", "Bob", "2025"],
    ]


def test_the_columns_are_known_and_typed_while_binding(workspace: Workspace) -> None:
    load(workspace, "admins", ADMINS, "Name")
    assert rows(workspace, "_GetWatchlist('admins') | getschema | project ColumnName, ColumnType") == [
        ["_DTItemId", "string"],
        ["LastUpdatedTimeUTC", "datetime"],
        ["SearchKey", "string"],
        ["Arn", "string"],
        ["Name", "string"],
        ["Since", "string"],
    ]
    assert rows(workspace, "_GetWatchlist('admins') | where SearchKey == 'Bob' | project Arn") == [["arn:b"]]
    with pytest.raises(BindingError) as caught:
        workspace.query("_GetWatchlist('admins') | where Nam == 'Bob'", now=START)
    assert caught.value.hint == "did you mean 'Name'?"


@pytest.mark.parametrize(
    "query",
    [
        "print x = 'arn:b' | where x in ((_GetWatchlist('admins') | project Arn)) | count",
        "let l = _GetWatchlist('admins'); print x = 'arn:b' | join l on $left.x == $right.SearchKey | count",
        "let alias = 'admins'; _GetWatchlist(alias) | where Name == 'Bob' | count",
        "let s = toscalar(_GetWatchlist('admins') | summarize make_set(Name)); print a = tostring(s) | count",
        "union _GetWatchlist('admins'), _GetWatchlist('admins') | where Name == 'Bob' | distinct Arn | count",
        "_GetWatchlistAlias | count",
        "_GetWatchlistAlias() | where WatchlistAlias == 'admins' | count",
        "_GetWatchlist(watchlistAlias='admins') | where Arn == 'arn:a' | count",
    ],
)
def test_where_a_watchlist_may_stand(workspace: Workspace, query: str) -> None:
    load(workspace, "admins", ADMINS)
    assert rows(workspace, query) == [[1]]


def test_the_time_range_is_ignored(workspace: Workspace) -> None:
    load(workspace, "times", "TimeGenerated,Name\n1999-01-01,a\n")
    long_ago = TimeRange(START - timedelta(days=900), START - timedelta(days=800))
    assert rows(workspace, "_GetWatchlist('times') | count", long_ago) == [[1]]


@pytest.mark.parametrize(
    ("query", "message", "hint"),
    [
        ("_GetWatchlist('admin')", "there is no watchlist 'admin'", "did you mean 'admins'?"),
        ("_GetWatchlist('zzz')", "there is no watchlist 'zzz'", "'trailhawk watchlist list' shows them"),
        ("_GetWatchlist()", "_GetWatchlist() takes the alias of a watchlist", ""),
        ("_GetWatchlist(7)", "the alias of a watchlist is a text", ""),
        ("_GetWatchlst('admins')", "there is no function '_GetWatchlst'", "did you mean '_GetWatchlist'?"),
    ],
)
def test_what_is_not_there(workspace: Workspace, query: str, message: str, hint: str) -> None:
    load(workspace, "admins", ADMINS)
    with pytest.raises(BindingError) as caught:
        workspace.query(query, now=START)
    assert (caught.value.message, caught.value.hint) == (message, hint)


def test_the_hidden_table_cannot_be_named(workspace: Workspace) -> None:
    load(workspace, "admins", ADMINS)
    name = workspace.watchlists.watchlist("admins").table.name
    for query in (name, f"table('{name}')", f"union {name}", f"union {name[:-1]}*"):
        with pytest.raises(BindingError):
            workspace.query(query, now=START)
    shown = [name for name in workspace.engine.tables.table_names() if "atchlist" in name]
    assert shown == ["Watchlist"]


# --- versions ----------------------------------------------------------------------------------------------


def test_an_import_again_changes_what_changed_and_keeps_what_was(workspace: Workspace) -> None:
    assert load(workspace, "admins", ADMINS) == {"created": 2}
    first = {item.key: item for item in workspace.watchlists.items("admins", 1)}
    assert load(workspace, "admins", ADMINS) == {"unchanged": 2}
    changed = "Arn,Name,Since\narn:b,Bobby,2025\narn:c,Cas,2026\n"
    assert load(workspace, "admins", changed) == {"created": 1, "updated": 1, "deleted": 1}
    last = {item.key: item for item in workspace.watchlists.items("admins", 3)}
    assert list(last) == ["arn:b", "arn:c"]
    assert last["arn:b"].id == first["arn:b"].id
    assert last["arn:b"].updated_at - first["arn:b"].updated_at == timedelta(hours=2)
    assert {item.key: item for item in workspace.watchlists.items("admins", 2)} == first
    query = "_GetWatchlist('admins') | project Name, LastUpdatedTimeUTC | sort by Name asc"
    at = START + timedelta(hours=3)
    assert rows(workspace, query) == [["Bobby", at], ["Cas", at]]


def test_other_columns_and_another_key(workspace: Workspace) -> None:
    load(workspace, "admins", ADMINS, "Name")
    assert load(workspace, "admins", "Name,Team\nBob,x\n") == {"updated": 1, "deleted": 1}
    assert workspace.watchlists.watchlist("admins").key == "Name"
    assert rows(workspace, "_GetWatchlist('admins') | project Name, Team") == [["Bob", "x"]]
    assert load(workspace, "admins", "Team\ny\n") == {"created": 1, "deleted": 1}
    assert workspace.watchlists.watchlist("admins").key == "Team"


def test_items_of_the_same_key_are_told_apart_by_their_place(workspace: Workspace) -> None:
    load(workspace, "twice", "k,v\na,1\na,2\n")
    assert load(workspace, "twice", "k,v\na,1\na,3\n") == {"updated": 1, "unchanged": 1}
    assert load(workspace, "twice", "k,v\na,1\n") == {"deleted": 1, "unchanged": 1}
    assert rows(workspace, "_GetWatchlist('twice') | project v") == [["1"]]


def test_a_removed_watchlist_is_out_of_use_and_its_history_stays(workspace: Workspace) -> None:
    load(workspace, "admins", ADMINS)
    workspace.watchlists.remove("admins", now=workspace.clock())
    assert workspace.watchlists.all() == ()
    assert rows(workspace, "_GetWatchlistAlias | count") == [[0]]
    with pytest.raises(BindingError, match="no watchlist"):
        workspace.query("_GetWatchlist('admins')", now=START)
    with pytest.raises(NotFoundError):
        workspace.watchlists.remove("admins", now=START)
    assert len(workspace.watchlists.items("admins", 1)) == 2
    assert load(workspace, "admins", ADMINS) == {"created": 2}
    assert workspace.watchlists.watchlist("admins").version == 3


def test_the_history_tells_every_version(workspace: Workspace) -> None:
    load(workspace, "admins", ADMINS)
    load(workspace, "admins", ADMINS.replace("Bob", "Bert") + "arn:c,Cleo,2026\n")
    workspace.watchlists.remove("admins", now=workspace.clock())
    load(workspace, "admins", ADMINS)
    told = [
        (v.version, v.items, v.created, v.updated, v.deleted, v.removed)
        for v in workspace.watchlists.history("admins")
    ]
    assert told == [
        (1, 2, 2, 0, 0, False),
        (2, 3, 1, 1, 0, False),
        (3, 0, 0, 0, 3, True),
        (4, 2, 2, 0, 0, False),
    ]
    with pytest.raises(NotFoundError):
        workspace.watchlists.history("nobody")


def test_a_version_that_never_was(workspace: Workspace) -> None:
    load(workspace, "admins", ADMINS)
    with pytest.raises(NotFoundError, match="no version 9"):
        workspace.watchlists.watchlist("admins", version=9)


# --- files -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "columns", "values"),
    [
        (b"a,b\n1,2\n", ("a", "b"), [("1", "2")]),
        (b"\xef\xbb\xbfa,b\r\n1,2\r\n", ("a", "b"), [("1", "2")]),
        (b"a,b\r1,2", ("a", "b"), [("1", "2")]),
        (b"\n a , b \n\n1,2\n\n", ("a", "b"), [("1", "2")]),
        (b'a,b\n"x ""y"", z","two\nlines"\n', ("a", "b"), [('x "y", z', "two\nlines")]),
        ("a,IP Address\nä,=1+1\n".encode(), ("a", "IP Address"), [("ä", "=1+1")]),
        (b"a\n", ("a",), []),
        (b"a,b\n,\n", ("a", "b"), [("", "")]),
    ],
)
def test_files_that_are_read(content: bytes, columns: tuple[str, ...], values: list[tuple[str, ...]]) -> None:
    sheet = read_csv(content, source="x.csv")
    assert (sheet.columns, sheet.key, list(sheet.rows)) == (columns, columns[0], values)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "x.csv is empty"),
        (b"\n\n", "x.csv is empty"),
        (b"a" * (MAX_BYTES + 1), "x.csv is larger than 3,800,000 bytes"),
        (b"a\n" + b"b" * (MAX_LINE + 1), "x.csv, line 2: longer than 10,240 characters"),
        ("a,b\n1,2\n".encode("utf-16"), "x.csv is not UTF-8 text"),
        (b"a\n\xff\n", "x.csv is not UTF-8 text"),
        (b"a\n\0\n", "x.csv is not text: it holds NUL characters"),
        (b"a,b\n1,2\n1\n", "x.csv, line 3: 1 values for 2 columns"),
        (b"a\n1,2\n", "x.csv, line 2: 2 values for 1 columns"),
        (b'a\n"1\n2\n', "x.csv, line 3: unexpected end of data"),
        (b'a\n"1"2\n', "x.csv, line 2: ',' expected after '\"'"),
        (b"a,,b\n", "x.csv: column 2 has no name"),
        (b"Name,a,name\n", "x.csv: two columns are called 'Name' and 'name'"),
        (b"a,searchkey\n", "x.csv: a column cannot be called 'searchkey'"),
        (b"_DTItemId\n", "x.csv: a column cannot be called '_DTItemId'"),
        (b"_th_x\n", "x.csv: a column cannot be called '_th_x'"),
    ],
)
def test_files_that_are_refused(content: bytes, message: str) -> None:
    with pytest.raises(SourceError) as caught:
        read_csv(content, source="x.csv")
    assert caught.value.message == message


def test_a_quoted_value_of_many_lines_has_its_bound(workspace: Workspace) -> None:
    with pytest.raises(SourceError, match="field larger"):
        read_csv(b'a\n"' + b"x\n" * 100_000 + b'"\n', source="x.csv")


def test_a_key_that_is_no_column() -> None:
    with pytest.raises(UsageError, match=r"x.csv has no column 'nam'; did you mean 'Name'\?"):
        read_csv(b"Arn,Name\n", source="x.csv", key="nam")
    with pytest.raises(UsageError, match="there is Arn, Name"):
        read_csv(b"Arn,Name\n", source="x.csv", key="zzzz")


@pytest.mark.parametrize("alias", ["", "-a", "a b", "a'b", "a" * 65, "../a", "ä"])
def test_aliases_that_are_refused(workspace: Workspace, tmp_path: Path, alias: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a\n1\n")
    with pytest.raises(UsageError, match="is no alias"):
        workspace.watchlists.load(alias, path, key=None, now=START)


def test_a_file_that_is_refused_changes_nothing(workspace: Workspace) -> None:
    load(workspace, "admins", ADMINS)
    for text in ("Arn,Name\n1\n", "", "Arn,arn\n"):
        with pytest.raises(TrailhawkError):
            load(workspace, "admins", text)
    assert workspace.watchlists.watchlist("admins").version == 1


def test_a_full_file_is_taken_in(workspace: Workspace) -> None:
    lines = "".join(f"key-{n},{'v' * 40}\n" for n in range(70_000))
    assert load(workspace, "full", "k,v\n" + lines) == {"created": 70_000}
    assert rows(workspace, "_GetWatchlist('full') | summarize count(), dcount(_DTItemId) > 60000") == [
        [70_000, True]
    ]


# --- the command line --------------------------------------------------------------------------------------


def test_the_command_of_the_history(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "list.csv").write_text(ADMINS)
    home = ["--home", str(tmp_path / "home"), "watchlist"]
    assert run([*home, "import", "admins", str(tmp_path / "list.csv")]) == 0
    assert run([*home, "remove", "admins"]) == 0
    capsys.readouterr()
    assert run([*home, "history", "admins", "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [(each["version"], each["removed"], each["source"]) for each in told] == [
        (1, False, "list.csv"),
        (2, True, "list.csv"),
    ]


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = ["--home", str(tmp_path / "home")]
    path = tmp_path / "admins.csv"
    path.write_text(ADMINS)
    assert run([*home, "watchlist", "list"]) == 0
    assert capsys.readouterr().out == "no watchlists\n"
    assert run([*home, "watchlist", "import", "admins", str(path), "--key", "Name"]) == 0
    assert run([*home, "watchlist", "show", "admins", "--version", "1"]) == 0
    assert run([*home, "watchlist", "list", "--format", "json"]) == 0
    assert run([*home, "query", "_GetWatchlist('admins') | count", "--format", "csv"]) == 0
    assert run([*home, "watchlist", "remove", "admins"]) == 0
    out = capsys.readouterr()
    assert "Ann, A." in out.out
    assert out.err == ""
    assert run([*home, "watchlist", "show", "admins"]) == 1
    assert run([*home, "watchlist", "import", "admins", str(path), "--key", "Nme"]) == 2
    assert run([*home, "watchlist", "import", "admins", str(tmp_path / "none.csv")]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "not found: there is no watchlist 'admins'; 'trailhawk watchlist list' shows them",
        "usage: admins.csv has no column 'Nme'; did you mean 'Name'?",
        f"error: {tmp_path / 'none.csv'}: No such file or directory",
    ]


# --- rules -------------------------------------------------------------------------------------------------

RULE = """
id: 5a0c2f3e-1111-4222-8333-944455556677
name: An admin signed in
severity: Low
queryFrequency: 1h
queryPeriod: 1h
triggerOperator: gt
triggerThreshold: 0
query: |
  imAuthentication(starttime=todatetime('{{StartTimeISO}}'), eventtype_in=dynamic(["Logon"]))
  | where TargetUserId in ((_GetWatchlist('admins') | project SearchKey))
"""


def test_a_rule_may_use_stored_functions_and_watchlists(workspace: Workspace, tmp_path: Path) -> None:
    def sign_in(place: int, user: str) -> dict[str, object]:
        return {
            "eventVersion": "1.11",
            "userIdentity": {"type": "IAMUser", "userName": user, "principalId": f"AIDA{user.upper()}"},
            "eventTime": f"2026-03-01T0{place}:30:00Z",
            "eventSource": "signin.amazonaws.com",
            "eventName": "ConsoleLogin",
            "sourceIPAddress": "192.0.2.1",
            "responseElements": {"ConsoleLogin": "Success"},
            "eventID": f"00000000-0000-4000-8000-00000000000{place}",
            "recipientAccountId": "111122223333",
        }

    logs = tmp_path / "logs"
    logs.mkdir()
    users = ["ann", "bob", "ann", "cas"]
    (logs / "a.json").write_text(
        json.dumps({"Records": [sign_in(place, user) for place, user in enumerate(users, 1)]})
    )
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "admin.yaml").write_text(RULE)
    workspace.ingest([logs], lambda _: None)
    load(workspace, "admins", "Id,Name\nAIDAANN,Ann\n")
    found = [rule for rule in rules([tmp_path / "rules"]) if rule.name == "An admin signed in"]
    summary = workspace.detect(found)
    assert [rule.failed for rule in summary.rules] == [0]
    assert [alert.at.hour for alert in workspace.alerts.alerts()] == [2, 4]
