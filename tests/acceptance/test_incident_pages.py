"""A written incident: HTML that a browser shows, Markdown, GraphML; and that log text stays text in each."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest

from trailhawk.incidents.case import Case
from trailhawk.render.page import graph_data, graph_page, graphml, report_data, report_markdown, report_page
from trailhawk.workspace import Workspace

if TYPE_CHECKING:
    from playwright.sync_api import Page

DAY = datetime(2026, 3, 2, 9, tzinfo=UTC)
INSTANCE, ACCOUNT = "i-0123456789abcdef0", "111122223333"
SESSION = f"arn:aws:sts::{ACCOUNT}:assumed-role/web-role/{INSTANCE}"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/apps/web-role"
KEY, HOME, THIEF = "ASIAEXAMPLESTOLEN001", "198.51.100.20", "203.0.113.66"
HOSTILE = (
    "</script><img src=x onerror=document.title='owned'>.csv",
    "a|b`c`*d*[e](javascript:alert(1)).csv",
    "\u202etxt.exe'; rm -rf ~ #.csv",
)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

Record = dict[str, object]


def record(minute: float, name: str, **more: object) -> Record:
    return {
        "eventVersion": "1.11",
        "eventID": f"{name}-{minute}",
        "eventTime": (DAY + timedelta(minutes=minute)).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "eventSource": "s3.amazonaws.com",
        "eventName": name,
        "awsRegion": "us-east-1",
        "recipientAccountId": ACCOUNT,
        "sourceIPAddress": THIEF,
        "userAgent": "[aws-cli/2.17.20]",
        "userIdentity": {
            "type": "AssumedRole",
            "principalId": f"AROAEXAMPLEROLE000001:{INSTANCE}",
            "arn": SESSION,
            "accountId": ACCOUNT,
            "accessKeyId": KEY,
            "sessionContext": {"ec2RoleDelivery": "1.0", "sessionIssuer": {"type": "Role", "arn": ROLE}},
        },
        **more,
    }


def read(minute: float, key: str, size: int) -> Record:
    return record(
        minute,
        "GetObject",
        requestParameters={"bucketName": "cardholders", "key": key},
        additionalEventData={"bytesTransferredOut": size},
    )


RECORDS = [
    record(
        0,
        "AssumeRole",
        eventSource="sts.amazonaws.com",
        sourceIPAddress="ec2.amazonaws.com",
        userAgent="ec2.amazonaws.com",
        userIdentity={"type": "AWSService", "invokedBy": "ec2.amazonaws.com"},
        requestParameters={"roleArn": ROLE, "roleSessionName": INSTANCE},
        responseElements={"credentials": {"accessKeyId": KEY, "expiration": "Mar 2, 2026, 3:12:00 PM"}},
    ),
    record(2, "HeadObject", sourceIPAddress=HOME, requestParameters={"bucketName": "config", "key": "app"}),
    record(10, "ListBuckets"),
    *(read(11 + place / 10, key, 1_000 * (place + 1)) for place, key in enumerate(HOSTILE)),
    *(read(12 + place / 100, f"plain/{place:02}.csv", 10) for place in range(30)),
]


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    home = tmp_path_factory.mktemp("home")
    (home / "log.json").write_text(json.dumps({"Records": RECORDS}))
    workspace = Workspace(home, clock=lambda: DAY + timedelta(days=2))
    assert workspace.ingest([home / "log.json"], lambda _: None).rows == len(RECORDS)
    rules = [
        rule
        for rule in workspace.content.rules()
        if rule.name.startswith("Instance credentials used outside")
    ]
    workspace.detect(rules)
    (incident,) = workspace.incidents.all()
    workspace.incidents.comment(
        incident.number, "<b>asked</b> the owner", by="ann", now=DAY + timedelta(days=2)
    )
    return workspace.case(incident.number)


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    from playwright.sync_api import sync_playwright

    quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=quiet)
        yield chromium.new_page(viewport={"width": 1400, "height": 900})
        chromium.close()


def test_the_graph_leads_from_the_instance_to_each_object(case: Case) -> None:
    ends: dict[str, set[str]] = {}
    for edge in case.graph.edges:
        ends.setdefault(edge.source, set()).add(edge.target)
    reached, edge_of_search = {f"AwsInstance:{INSTANCE}"}, [f"AwsInstance:{INSTANCE}"]
    while edge_of_search:
        fresh = ends.get(edge_of_search.pop(), set()) - reached
        reached |= fresh
        edge_of_search += fresh
    objects = {node.id for node in case.graph.nodes if node.type == "AwsObject"}
    assert f"AwsObject:cardholders/{HOSTILE[0]}" in objects
    assert objects <= reached
    # The smallest objects are one node; no byte and no read is lost by that.
    assert len(objects) == 20
    read_edges = [edge for edge in case.graph.edges if edge.target in objects]
    assert sum(edge.bytes for edge in read_edges) == case.report.manifest.bytes == 6_300
    assert sum(edge.count for edge in read_edges) == 33


def test_expansions_answer_what_an_analyst_asks(case: Case) -> None:
    said = {(each.expansion.id, each.node): each for each in case.graph.expanded}
    roles = said["instance-roles", f"AwsInstance:{INSTANCE}"]
    assert [(edge.target, edge.says) for edge in roles.edges] == [(f"AwsPrincipal:{ROLE}", "keys by IMDSv1")]
    issued = said["key-issue", f"AwsAccessKey:{KEY}"]
    assert [node.id for node in issued.nodes] == [f"AwsInstance:{INSTANCE}"]
    readers = said["bucket-readers", "AwsBucket:cardholders"]
    assert [(edge.count, edge.bytes) for edge in readers.edges] == [(33, 6_300)]
    addresses = said["session-addresses", f"AwsSession:{SESSION}"]
    assert {node.name for node in addresses.nodes} == {HOME, THIEF}


def test_the_timeline_holds_events_alerts_and_what_people_said(case: Case) -> None:
    kinds = [each.kind.value for each in case.timeline]
    assert kinds.count("event") == 34
    assert kinds.count("alert") == len(case.report.alerts)
    assert kinds[-1] == "comment"
    assert case.timeline[-1].detail == "ann"
    assert [each.at for each in case.timeline] == sorted(each.at for each in case.timeline)
    assert "&lt;b&gt;asked&lt;/b&gt; the owner" in report_page(case)


def test_steps_name_what_to_revoke_and_quote_what_logs_say(case: Case) -> None:
    commands = [shlex.split(command) for step in case.report.steps for command in step.commands]
    assert ["aws", "iam", "put-role-policy", "--role-name", "web-role"] in [words[:5] for words in commands]
    assert ["aws", "s3api", "put-public-access-block", "--bucket", "cardholders"] in [w[:5] for w in commands]
    assert any(INSTANCE in words and "--http-tokens" in words for words in commands)


def test_evidence_names_the_log_and_its_digest(case: Case) -> None:
    (log,) = case.evidence
    assert log.location.endswith("log.json")
    assert log.events == 34
    assert re.fullmatch(r"[0-9a-f]{64}", log.sha256)


def test_the_report_opens_in_a_browser_and_asks_for_nothing(
    case: Case, browser: Page, tmp_path: Path
) -> None:
    place = tmp_path / "report.html"
    place.write_text(report_page(case), encoding="utf-8")
    asked: list[str] = []
    said: list[str] = []
    browser.on("request", lambda request: asked.append(request.url))
    browser.on("console", lambda message: said.append(message.text))
    browser.on("pageerror", lambda error: said.append(str(error)))
    browser.goto(place.as_uri())
    assert asked == [place.as_uri()]
    assert said == []
    assert browser.title().startswith("Incident 1: ")
    assert browser.locator("img, iframe, a[href^=javascript]").count() == 0
    shown = browser.inner_text("body")
    assert "</script><img src=x onerror=document.title='owned'>.csv" in shown
    assert "\u202e" not in shown
    assert "\\u202e" in shown
    assert case.evidence[0].sha256 in shown


def test_the_graph_expands_in_a_browser(case: Case, browser: Page, tmp_path: Path) -> None:
    place = tmp_path / "graph.html"
    place.write_text(graph_page(case), encoding="utf-8")
    browser.goto(place.as_uri())
    own = browser.locator("g.node").count()
    assert own == sum(1 for node in case.graph.nodes if node.type not in ("Alert", "AwsAccount"))
    browser.locator(f'g.node[data-id="AwsInstance:{INSTANCE}"] circle').first.click()
    assert INSTANCE in browser.inner_text(".graph-panel h3")
    # The session's other address is no part of the incident's calls, but the graph knows it by the key's use.
    browser.locator(f'g.node[data-id="AwsSession:{SESSION}"] circle').first.click()
    calls = browser.locator('button[data-expansion^="session-calls "]')
    calls.click()
    grown = browser.locator("g.node").count()
    assert grown == own + 3  # ListBuckets, GetObject, HeadObject
    browser.locator('button[data-expansion^="session-calls "]').click()
    assert browser.locator("g.node").count() == own
    browser.check("#graph-alerts")
    assert browser.locator("g.node").count() == len(case.graph.nodes)
    browser.fill("input[type=search]", "cardholders")
    assert "cardholders" in browser.inner_text(".graph-panel h3")


def test_what_stands_in_the_script_cannot_end_it(case: Case) -> None:
    page = graph_page(case)
    (data,) = re.findall(r'<script type="application/json" id="graph-data">(.*?)</script>', page, re.DOTALL)
    assert json.loads(data) == json.loads(json.dumps(graph_data(case.graph)))


def test_markdown_keeps_text_as_text(case: Case) -> None:
    text = report_markdown(case)
    assert "a\\|b\\`c\\`\\*d\\*\\[e\\](javascript:alert(1)).csv" in text
    assert "\u202e" not in text
    assert "<img" not in text


def test_in_markdown_every_block_stands_apart(case: Case) -> None:
    """A heading, or a word below a table, that follows its line at once would be part of it."""
    lines = report_markdown(case).splitlines()
    for before, line in pairwise(lines):
        assert not before or not line.startswith("## "), line
        assert not before.startswith("|") or not line or line.startswith("|"), line


def test_graphml_is_xml_with_every_node_and_edge(case: Case) -> None:
    root = ElementTree.fromstring(graphml(case.graph))
    spaces = {"g": "http://graphml.graphdrawing.org/xmlns"}
    nodes = {node.get("id") for node in root.iterfind(".//g:node", spaces)}
    assert {each["id"] for each in graph_data(case.graph)["nodes"]} <= nodes  # type: ignore[attr-defined]
    ends = [(edge.get("source"), edge.get("target")) for edge in root.iterfind(".//g:edge", spaces)]
    assert len(ends) >= len(case.graph.edges)
    assert all(source in nodes and target in nodes for source, target in ends)


def test_the_report_as_data_holds_everything(case: Case) -> None:
    data = json.loads(json.dumps(report_data(case)))
    assert data["manifest"]["objects"] == 33
    assert len(data["steps"]) == len(case.report.steps)
    assert data["graph"]["nodes"]
    assert data["evidence"][0]["sha256"] == case.evidence[0].sha256
