"""Threat intelligence: patterns, bundles and lists read; indicators kept, ended, told again and found."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from trailhawk.cli import run
from trailhawk.detect.intel import MAX_DATA
from trailhawk.detect.intel import store as store_module
from trailhawk.detect.intel.lists import read_list
from trailhawk.detect.intel.observable import Observable, observable, recognised
from trailhawk.detect.intel.pattern import MAX_COMPARISONS, MAX_PATTERN, parse
from trailhawk.detect.intel.stix import read_stix
from trailhawk.detect.intel.store import Imported, Options
from trailhawk.errors import NotFoundError, SourceError, UsageError
from trailhawk.workspace import Workspace

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


# --- patterns ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "equalities", "joined", "passed"),
    [
        ("[ipv4-addr:value = '203.0.113.5']", [("ipv4-addr:value", "203.0.113.5")], "", 0),
        ("[ ipv4-addr:value='a' ]", [("ipv4-addr:value", "a")], "", 0),
        ("[url:value = 'http://x/\\'y\\\\z']", [("url:value", "http://x/'y\\z")], "", 0),
        (
            "[domain-name:value IN ('a', 'b')]",
            [("domain-name:value", "a"), ("domain-name:value", "b")],
            "OR",
            0,
        ),
        ("[a:b = '1' OR a:c = '2']", [("a:b", "1"), ("a:c", "2")], "OR", 0),
        ("[a:b = '1' AND (a:c = '2' OR a:d = 3)]", [("a:b", "1"), ("a:c", "2"), ("a:d", "3")], "AND", 0),
        ("[a:b = '1'] OR [a:c = '2']", [("a:b", "1"), ("a:c", "2")], "OR", 0),
        ("([a:b = '1'] AND [a:c = '2']) WITHIN 60 SECONDS", [("a:b", "1"), ("a:c", "2")], "AND", 0),
        (
            "[a:b = '1'] FOLLOWEDBY [a:c = '2'] OR [a:d = '3']",
            [("a:b", "1"), ("a:c", "2"), ("a:d", "3")],
            "FOLLOWEDBY",
            0,
        ),
        (
            "[a:b = '1'] REPEATS 3 TIMES WITHIN 5.5 SECONDS OR [a:c = '2']",
            [("a:b", "1"), ("a:c", "2")],
            "OR",
            0,
        ),
        (
            "[a:b = '1'] START t'2026-01-01T00:00:00Z' STOP t'2026-02-01T00:00:00Z' OR [a:c = '2']",
            [("a:b", "1"), ("a:c", "2")],
            "OR",
            0,
        ),
        ("[file:hashes.'SHA-256' = 'ab']", [("file:hashes.'SHA-256'", "ab")], "", 0),
        (
            "[file:extensions.'pe'.sections[*].name = 'x']",
            [("file:extensions.'pe'.sections[*].name", "x")],
            "",
            0,
        ),
        ("[ipv4-addr:value ISSUBSET '10.1.0.0/16']", [("ipv4-addr:value", "10.1.0.0/16")], "", 0),
        (
            "[a:b = '1' AND a:c LIKE '%x' AND a:d NOT = '2' AND a:e != '3' AND a:f > 4]",
            [("a:b", "1")],
            "AND",
            4,
        ),
        ("[EXISTS a:b OR a:c MATCHES '^x']", [], "OR", 2),
        ("[a:b = '1' OR a:b = '1']", [("a:b", "1")], "OR", 0),
        ("[a:b IN ('1') OR a:c = true]", [("a:b", "1"), ("a:c", "true")], "OR", 0),
        ("[a:b = t'2026-01-01T00:00:00Z']", [("a:b", "2026-01-01T00:00:00Z")], "", 0),
    ],
)
def test_a_pattern_gives_its_equalities(
    pattern: str, equalities: list[tuple[str, str]], joined: str, passed: int
) -> None:
    found = parse(pattern)
    assert (list(found.equalities), found.joined, found.passed) == (equalities, joined, passed)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("", "'\\['"),
        ("[", "a path"),
        ("[a:b]", "an operator expected, found ']' at character 5"),
        ("[a:b = ]", "a value"),
        ("[a:b = '1'", "'\\]'"),
        ("[a:b = '1'] x", "the end expected"),
        ("[a:b = 'unclosed]", "at character"),
        ("a:b = '1'", "'\\['"),
        ("[a:b IN '1']", "'\\('"),
        ("(" * 100 + "[a:b = '1']" + ")" * 100, "deeper"),
        ("[" + "(" * 100 + "a:b = '1'" + ")" * 100 + "]", "deeper"),
        ("[a:b = '" + "x" * MAX_PATTERN + "']", "characters"),
        ("[a:b IN (" + ",".join(f"'{n}'" for n in range(MAX_COMPARISONS + 1)) + ")]", "comparisons"),
        ("[a:b \x00 '1']", "no STIX pattern at character 6"),
    ],
)
def test_what_is_no_pattern_says_where(pattern: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(pattern)


# --- observables -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "key", "value"),
    [
        ("203.0.113.5", "ipv4-addr:value", "203.0.113.5"),
        ("203.0.113.5/32", "ipv4-addr:value", "203.0.113.5"),
        ("203.0.113.77/24", "ipv4-addr:value", "203.0.113.0/24"),
        ("2001:DB8:0:0::1", "ipv6-addr:value", "2001:db8::1"),
        ("2001:db8::/32", "ipv6-addr:value", "2001:db8::/32"),
        ("203[.]0[.]113[.]5", "ipv4-addr:value", "203.0.113.5"),
        ("Evil.Example.COM.", "domain-name:value", "evil.example.com"),
        ("evil[dot]example(.)com", "domain-name:value", "evil.example.com"),
        ("*.evil.example.com", "domain-name:value", "evil.example.com"),
        ("hxxps://evil[.]example.com/A?b", "url:value", "https://evil.example.com/A?b"),
        ("hxxp[:]//x.example/", "url:value", "http://x.example/"),
        ("Eve@Example.com", "email-addr:value", "eve@example.com"),
        ("eve[at]example[.]com", "email-addr:value", "eve@example.com"),
        ("D41D8CD98F00B204E9800998ECF8427E", "file:hashes.MD5", "d41d8cd98f00b204e9800998ecf8427e"),
        ("a" * 40, "file:hashes.'SHA-1'", "a" * 40),
        ("b" * 64, "file:hashes.'SHA-256'", "b" * 64),
        ("'203.0.113.5'", "ipv4-addr:value", "203.0.113.5"),
    ],
)
def test_a_word_is_recognised(word: str, key: str, value: str) -> None:
    assert recognised(word) == Observable(key, value)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("0.0.0.0/0", "wider than /8"),
        ("::/0", "wider than /16"),
        ("localhost", "no address"),
        ("not an indicator", "no address"),
        ("1.2.3.4.5", "no address"),
        ("x" * 5000, "characters"),
        ("<script>alert(1)</script>", "no address"),
    ],
)
def test_a_word_that_is_nothing_is_refused(word: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        recognised(word)


@pytest.mark.parametrize(
    ("value", "spelt"),
    [
        ("2001:DB8:0::1", "2001:db8::1"),
        ("203.0.113.5/32", "203.0.113.5"),
        ("203.0.113.5/24", "203.0.113.0/24"),
        ("Evil.Example.", "evil.example"),
    ],
)
def test_an_end_of_a_connection_is_spelt_as_an_address(value: str, spelt: str) -> None:
    key = "network-traffic:dst_ref.value"
    assert observable(key, value) == Observable(key, spelt)


def test_stix_values_are_spelt_alike() -> None:
    assert observable("ipv4-addr:value", "203.0.113.5/32").value == "203.0.113.5"
    assert observable("file:hashes.sha256", "AB").key == "file:hashes.'SHA-256'"
    assert observable("file:hashes.'MD5'", "AB") == Observable("file:hashes.MD5", "ab")
    assert observable("domain-name:value", "A.Example.").value == "a.example"
    assert observable("user-agent:string", "Odd One") == Observable("user-agent:string", "Odd One")


# --- files -------------------------------------------------------------------------------------------------


def indicator(
    number: int = 1, pattern: str = "[ipv4-addr:value = '203.0.113.5']", **members: object
) -> dict[str, object]:
    return {
        "type": "indicator",
        "spec_version": "2.1",
        "id": f"indicator--00000000-0000-4000-8000-{number:012}",
        "created": "2026-01-01T00:00:00.000Z",
        "modified": "2026-01-01T00:00:00.000Z",
        "pattern": pattern,
        "pattern_type": "stix",
        "valid_from": "2026-01-01T00:00:00Z",
    } | members


def bundle(*objects: object) -> bytes:
    return json.dumps({"type": "bundle", "id": "bundle--1", "objects": objects}).encode()


def test_a_bundle_is_read() -> None:
    marked = indicator(
        2,
        "[domain-name:value = 'A.example' AND ipv4-addr:value = '203.0.113.6']",
        confidence=85,
        valid_until="2026-06-01T02:00:00+02:00",
        indicator_types=["malicious-activity"],
        labels=["c2", "c2"],
        object_marking_refs=["marking-definition--f88d31f6-486f-44da-b317-01333bde0b82"],
    )
    found = read_stix(bundle(indicator(), {"type": "malware", "id": "malware--1"}, marked), source="x.json")
    first, second = found.indicators.values()
    assert (found.others, found.refused) == (1, 0)
    assert first.observables == (Observable("ipv4-addr:value", "203.0.113.5"),)
    assert (first.valid_until, first.confidence, first.revoked, first.joined) == (None, None, False, "")
    assert [each.value for each in second.observables] == ["a.example", "203.0.113.6"]
    assert second.valid_until == datetime(2026, 6, 1, tzinfo=UTC)
    assert (second.confidence, second.joined, second.tlp) == (85, "AND", "amber")
    assert second.tags == ("malicious-activity", "c2")


OLD = {key: value for key, value in indicator().items() if key not in ("spec_version", "pattern_type")}


@pytest.mark.parametrize(
    "content",
    [
        json.dumps(indicator()).encode(),
        json.dumps([indicator()]).encode(),
        json.dumps({"more": False, "objects": [indicator()]}).encode(),
        json.dumps(indicator()).encode() + b"\n\n" + json.dumps({"type": "malware"}).encode() + b"\n",
        json.dumps({"type": "bundle", "spec_version": "2.0", "objects": [OLD]}).encode(),
    ],
)
def test_indicators_are_found_however_they_are_wrapped(content: bytes) -> None:
    assert len(read_stix(content, source="x.json").indicators) == 1


def test_of_two_versions_the_later_is_taken() -> None:
    later = indicator(confidence=9, modified="2026-02-01T00:00:00Z")
    for objects in ([indicator(), later], [later, indicator()]):
        (found,) = read_stix(bundle(*objects), source="x.json").indicators.values()
        assert found.confidence == 9


def test_another_language_is_kept_without_an_observable() -> None:
    (found,) = read_stix(
        bundle(indicator(pattern="rule x {}", pattern_type="yara")), source="x"
    ).indicators.values()
    assert found.observables == ()
    assert found.pattern == "rule x {}"


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"pattern": "[broken"}, "an operator|a path|at character"),
        ({"pattern": ""}, "no pattern"),
        ({"pattern": 5}, "no pattern"),
        ({"id": "indicator"}, "its id"),
        ({"id": 7}, "its id"),
        ({"valid_until": "soon"}, "valid_until is no time: 'soon'"),
        ({"modified": 5}, "modified is no time"),
        ({"confidence": 101}, "confidence"),
        ({"confidence": "high"}, "confidence"),
        ({"pattern": "[ipv4-addr:value = '0.0.0.0/0']"}, "wider"),
        ({"pattern": "[ipv4-addr:value = '']"}, "empty"),
        ({"pattern": "[ipv4-addr:value = 'x']"}, "no address"),
        ({"description": "x" * MAX_DATA}, "characters"),
    ],
)
def test_a_bad_indicator_is_refused_by_itself(members: dict[str, object], reason: str) -> None:
    import re

    found = read_stix(bundle(indicator(1) | members, indicator(2)), source="x.json")
    assert len(found.indicators) == 1
    assert found.refused == 1
    assert re.search(reason, found.reasons[0])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "x.json is no JSON"),
        (b'"text"', "it is a str"),
        (b'{"objects": [5]}', "an object without a type"),
        (b'{"a": 1}', "an object without a type"),
        (b"[" * 5000, "no JSON"),
    ],
)
def test_what_is_no_stix_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        read_stix(content, source="x.json")


def words(content: str | bytes, name: str = "list.txt", column: str = "") -> list[str]:
    raw = content if isinstance(content, bytes) else content.encode()
    found = read_list(raw, source=name, now=START, column=column)
    return [each.observables[0].value for each in found.indicators.values()]


def test_a_list_is_read() -> None:
    text = (
        "\ufeff# blocked\n203.0.113.5\n\n; more\nevil.example  # why\n0.0.0.0 host.example\n203.0.113.5\n//\n"
    )
    assert words(text) == ["203.0.113.5", "evil.example", "host.example"]


def test_a_column_of_csv_is_read() -> None:
    quoted = '# feed\n"first_seen","dst_ip","port"\n"2026-01-01","203.0.113.5","443"\n"x","203.0.113.6","1"\n'
    assert words(quoted, "feed.csv") == ["203.0.113.5", "203.0.113.6"]
    assert words("name;where\nx;a.example\n", column="Where") == ["a.example"]
    assert words("203.0.113.5,bad\n203.0.113.6,worse\n", "feed.csv") == ["203.0.113.5", "203.0.113.6"]
    assert words("a\tioc\n1\tb.example\nshort\n", "feed.tsv") == ["b.example"]


def test_a_list_that_cannot_be_read() -> None:
    with pytest.raises(UsageError, match="no column 'b'; there is a"):
        words("a\nx.example\n", column="b")
    with pytest.raises(UsageError, match="which column"):
        words("a,b\n1,x.example\n", "feed.csv")
    with pytest.raises(SourceError, match="UTF-8"):
        words(b"\xff\xfe")
    with pytest.raises(SourceError, match="NUL"):
        words(b"a\0b")
    found = read_list(b"x.example\nnothing here\n", source="l", now=START)
    assert found.reasons == [
        "line 2 ('nothing here'): no address, network, domain, URL, file hash or mail address"
    ]


# --- the table ---------------------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def later(self, **span: float) -> datetime:
        self.now += timedelta(**span)
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def workspace(tmp_path: Path, clock: Clock) -> Workspace:
    return Workspace.open(tmp_path / "home", clock=clock)


def load(
    workspace: Workspace,
    content: str | bytes,
    *,
    source: str = "cert",
    replace: bool = False,
    options: Options | None = None,
) -> Imported:
    path = workspace.home / "file"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return workspace.intel.load(path, source=source, now=workspace.clock(), options=options, replace=replace)


def counts(done: Imported) -> dict[str, int]:
    names = ("created", "updated", "unchanged", "older", "ended", "unmatchable", "refused")
    return {name: getattr(done, name) for name in names if getattr(done, name)}


def active(workspace: Workspace) -> list[str]:
    rows = workspace.query("ActiveIndicators | sort by ObservableValue asc", now=workspace.clock()).rows()
    return [str(row["ObservableValue"]) for row in rows]


def test_the_columns_hold_what_the_bundle_says(workspace: Workspace) -> None:
    given = indicator(confidence=70, labels=["c2"], valid_until="2026-06-01T00:00:00Z")
    assert counts(load(workspace, bundle(given))) == {"created": 1}
    (row,) = workspace.query("ThreatIntelIndicators", now=workspace.clock()).rows()
    expected: Mapping[str, object] = {
        "TimeGenerated": START,
        "Id": "Y2VydA==---" + str(given["id"]),
        "SourceSystem": "cert",
        "ObservableKey": "ipv4-addr:value",
        "ObservableValue": "203.0.113.5",
        "Pattern": "[ipv4-addr:value = '203.0.113.5']",
        "Confidence": 70,
        "ValidFrom": datetime(2026, 1, 1, tzinfo=UTC),
        "ValidUntil": datetime(2026, 6, 1, tzinfo=UTC),
        "IsActive": True,
        "IsDeleted": False,
        "Revoked": False,
        "Tags": "c2",
        "Data": given,
        "Type": "ThreatIntelIndicators",
    }
    assert {name: row[name] for name in expected} == expected
    assert (
        workspace.query("print base64_decode_tostring('Y2VydA==')", now=START).rows()[0]["print_0"] == "cert"
    )


def test_the_columns_are_log_analytics(workspace: Workspace) -> None:
    shared = Path(__file__).parents[2].parent / "shared" / "schemas" / "ThreatIntelIndicators.json"
    if not shared.is_file():
        pytest.skip("no schemas beside the repository")
    azure = {"_BilledSize", "_IsBillable", "_ResourceId", "_SubscriptionId"}
    wanted = {
        c["name"]: c["type"] for c in json.loads(shared.read_text())["columns"] if c["name"] not in azure
    }
    table = workspace.lake.table("ThreatIntelIndicators")
    assert table is not None
    assert {column.name: column.type.value for column in table.columns} == wanted


def test_taken_in_again_nothing_is_written(workspace: Workspace, clock: Clock) -> None:
    load(workspace, bundle(indicator(1), indicator(2, "[url:value = 'http://x']")))
    load(workspace, "203.0.113.9\n", source="list")
    clock.later(hours=1)
    assert counts(load(workspace, bundle(indicator(1), indicator(2, "[url:value = 'http://x']")))) == {
        "unchanged": 2
    }
    assert counts(load(workspace, "203.0.113.9\n", source="list")) == {"unchanged": 1}
    assert workspace.query("ThreatIntelIndicators | count", now=clock()).rows() == [{"Count": 3}]


def test_a_later_version_counts_and_the_earlier_stays(workspace: Workspace, clock: Clock) -> None:
    load(workspace, bundle(indicator()))
    clock.later(hours=1)
    changed = indicator(pattern="[ipv4-addr:value = '203.0.113.6']", modified="2026-02-01T00:00:00Z")
    assert counts(load(workspace, bundle(changed))) == {"created": 1, "ended": 1}
    assert active(workspace) == ["203.0.113.6"]
    clock.later(hours=1)
    assert counts(load(workspace, bundle(indicator()))) == {"older": 1}
    assert active(workspace) == ["203.0.113.6"]
    clock.later(hours=1)
    revoked = changed | {"revoked": True, "modified": "2026-02-02T00:00:00Z"}
    assert counts(load(workspace, bundle(revoked))) == {"updated": 1}
    assert active(workspace) == []
    count = "ThreatIntelIndicators | where ObservableValue == '203.0.113.6' | count"
    assert workspace.query(count, now=clock()).rows() == [{"Count": 2}]


def test_two_sources_know_the_same(workspace: Workspace, clock: Clock) -> None:
    load(workspace, "203.0.113.5\n", source="one")
    load(workspace, "203.0.113.5\n", source="two")
    assert active(workspace) == ["203.0.113.5", "203.0.113.5"]
    clock.later(hours=1)
    (row,) = workspace.intel.end(clock(), names=["203.0.113.5"], source="two")
    assert row["SourceSystem"] == "two"
    assert active(workspace) == ["203.0.113.5"]


def test_replace_ends_what_the_file_no_longer_holds(workspace: Workspace, clock: Clock) -> None:
    load(workspace, "203.0.113.5\n203.0.113.6\n")
    load(workspace, "198.51.100.1\n", source="other")
    clock.later(hours=1)
    assert counts(load(workspace, "203.0.113.6\n203.0.113.7\n", replace=True)) == {
        "created": 1,
        "unchanged": 1,
        "ended": 1,
    }
    assert active(workspace) == ["198.51.100.1", "203.0.113.6", "203.0.113.7"]
    clock.later(hours=1)
    assert counts(load(workspace, "203.0.113.5\n")) == {"updated": 1}  # it is back
    assert "203.0.113.5" in active(workspace)


def test_a_list_holds_for_a_time(workspace: Workspace, clock: Clock) -> None:
    options = Options(valid_for=timedelta(days=2), confidence=40, tags=("c2",))
    load(workspace, "203.0.113.5\n", options=options)
    assert active(workspace) == ["203.0.113.5"]
    clock.later(days=1)
    assert counts(load(workspace, "203.0.113.5\n", options=options)) == {"updated": 1}  # until later
    clock.later(days=1.5)
    assert active(workspace) == ["203.0.113.5"]
    clock.later(days=1)
    assert active(workspace) == []
    (row,) = workspace.intel.listed(clock(), where="true", most=10)
    assert (row["Confidence"], row["Tags"], row["ValidFrom"]) == (40, "c2", START)


def test_ended_and_removed(workspace: Workspace, clock: Clock) -> None:
    load(workspace, "203.0.113.5\n203.0.113.6\nevil.example\n")
    clock.later(hours=1)
    assert len(workspace.intel.end(clock(), names=["EVIL.example"])) == 1
    with pytest.raises(NotFoundError, match=r"no indicator in use is 'evil\.example'"):
        workspace.intel.end(clock(), names=["evil.example"])
    clock.later(hours=1)
    assert len(workspace.intel.end(clock(), source="cert", remove=True)) == 3
    assert active(workspace) == []
    with pytest.raises(NotFoundError, match="'cert'"):
        workspace.intel.end(clock(), source="cert", remove=True)


def test_told_again_before_rules_forget_it(workspace: Workspace, clock: Clock) -> None:
    """A rule sees 14 days of the table at most."""
    load(workspace, "203.0.113.5\n")
    load(workspace, "203.0.113.6\n", options=Options(valid_for=timedelta(days=3)))
    load(workspace, "203.0.113.7\n")
    workspace.intel.end(clock.later(hours=1), names=["203.0.113.7"])
    told = 0
    for day in range(1, 15):
        told += workspace.intel.republish(clock.later(days=1))
        assert told == day // 6
    assert workspace.intel.republish(clock()) == 0
    rows = workspace.query(
        "ThreatIntelIndicators | summarize Rows=count() by ObservableValue", now=clock()
    ).rows()
    assert {row["ObservableValue"]: row["Rows"] for row in rows} == {
        "203.0.113.5": 3,
        "203.0.113.6": 1,
        "203.0.113.7": 2,
    }


def test_an_import_that_loses_a_race_looks_again(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(workspace, "203.0.113.5\n")
    other = Workspace.open(workspace.home, clock=workspace.clock)
    plan = store_module._Plan
    made = 0

    def racing(*arguments: object) -> object:
        nonlocal made
        made += 1
        if made == 1:
            load(other, "203.0.113.6\n")
        return plan(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(store_module, "_Plan", racing)
    done = load(workspace, "203.0.113.6\n203.0.113.7\n")
    assert counts(done) == {"created": 1, "unchanged": 1}
    assert active(workspace) == ["203.0.113.5", "203.0.113.6", "203.0.113.7"]


def test_files_that_are_not_taken(workspace: Workspace) -> None:
    with pytest.raises(SourceError, match="holds no indicator that can be taken: line 1"):
        load(workspace, "nothing\n")
    with pytest.raises(SourceError, match="holds no indicator"):
        load(workspace, b"")
    with pytest.raises(SourceError, match="holds no indicator"):
        load(workspace, b'{"type": "bundle", "id": "bundle--1"}')
    with pytest.raises(UsageError, match="no name of a source"):
        load(workspace, "203.0.113.5", source="x\n")


# --- the commands ------------------------------------------------------------------------------------------


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = ["--home", str(tmp_path / "home")]
    file = tmp_path / "block list.txt"
    file.write_text("203.0.113.5\nevil.example\n\x1b[31mred\n")
    assert (
        run([*home, "intel", "import", str(file), "--valid-for", "30d", "--tag", "c2", "--format", "json"])
        == 1
    )
    captured = capsys.readouterr()
    (done,) = json.loads(captured.out)
    assert (done["source"], done["created"], done["refused"]) == ("block list", 2, 1)
    assert "left out: line 3" in captured.err
    assert "\x1b" not in captured.err
    assert run([*home, "intel", "list", "--format", "json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {(row["value"], row["state"], row["tags"]) for row in listed} == {
        ("203.0.113.5", "active", "c2"),
        ("evil.example", "active", "c2"),
    }
    assert run([*home, "intel", "expire", "203.0.113.5"]) == 0
    assert (
        run(
            [
                *home,
                "intel",
                "remove",
                listed[0]["id"] if listed[0]["value"] == "evil.example" else listed[1]["id"],
            ]
        )
        == 0
    )
    capsys.readouterr()
    assert run([*home, "intel", "list", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert run([*home, "intel", "list", "--all", "--value", "203", "--format", "json"]) == 0
    assert [row["state"] for row in json.loads(capsys.readouterr().out)] == ["ended"]
    assert run([*home, "intel", "expire"]) == 2
    assert run([*home, "intel", "import", str(file), "--valid-for", "long"]) == 2
    assert run([*home, "intel", "import", str(file), str(file), "--replace"]) == 2
    assert run([*home, "intel", "import", str(tmp_path / "none")]) == 1


def test_a_rule_finds_a_call_from_an_indicator(workspace: Workspace, clock: Clock, tmp_path: Path) -> None:
    """The whole road: list in, log in, rule, alert."""
    load(workspace, "203.0.113.0/24\n", options=Options(confidence=90))
    moment = clock.later(hours=1)
    call = {
        "eventVersion": "1.11",
        "eventID": "one",
        "eventTime": moment.isoformat().replace("+00:00", "Z"),
        "eventSource": "s3.amazonaws.com",
        "eventName": "ListBuckets",
        "awsRegion": "eu-central-1",
        "sourceIPAddress": "203.0.113.77",
        "recipientAccountId": "111122223333",
        "userIdentity": {
            "type": "IAMUser",
            "arn": "arn:aws:iam::111122223333:user/eve",
            "accountId": "111122223333",
        },
    }
    log = tmp_path / "log.json"
    log.write_text(json.dumps({"Records": [call]}))
    workspace.ingest([log])
    clock.later(hours=3)
    summary = workspace.detect([workspace.content.rule("calls-from-known-address")])
    (alert,) = summary.alerts
    assert alert.name == "arn:aws:iam::111122223333:user/eve called from 203.0.113.77, known to cert"
    assert alert.detail("EventIds") == ("one",)


def test_the_older_table_is_a_view(workspace: Workspace) -> None:
    shared = Path(__file__).parents[2].parent / "shared" / "schemas" / "ThreatIntelligenceIndicator.json"
    load(
        workspace,
        bundle(indicator(confidence=70, labels=["c2"]), indicator(2, "[domain-name:value = 'a.example']")),
    )
    query = (
        "ThreatIntelligenceIndicator | where Active and ExpirationDateTime > now() | sort by NetworkIP desc"
    )
    found = workspace.query(query, now=workspace.clock())
    assert [(row["NetworkIP"], row["DomainName"], row["ThreatType"]) for row in found.rows()] == [
        ("203.0.113.5", "", "c2"),
        ("", "a.example", ""),
    ]
    if shared.is_file():
        azure = {"_BilledSize", "_IsBillable"}
        wanted = {c["name"]: c["type"] for c in json.loads(shared.read_text())["columns"]}
        assert {column.name: column.type.value for column in found.columns} == {
            name: kind for name, kind in wanted.items() if name not in azure
        }
