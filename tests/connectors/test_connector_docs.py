"""docs/connectors.md names every key, with the default it has."""

from __future__ import annotations

from pathlib import Path

import pytest

from trailhawk.connectors.config import KINDS
from trailhawk.settings import Section
from trailhawk.sources import with_custom

PAGES = Path(__file__).parents[2] / "docs"
PAGE = (PAGES / "connectors.md").read_text()
NEEDED: dict[str, dict[str, object]] = {
    "sqs": {"queue_url": "https://sqs.eu-west-1.amazonaws.com/1/q"},
    "s3": {"locations": ["s3://logs"]},
    "folder": {"paths": ["."]},
}


@pytest.mark.parametrize("kind", NEEDED)
def test_every_key_is_named(kind: str) -> None:
    section = Section(Path("trailhawk.toml"), "connectors.x", NEEDED[kind])
    KINDS[kind].read("x", section)
    missing = [key for key in section._known if f"`{key}`" not in PAGE]
    assert not missing
    assert section._known


def test_every_type_is_named() -> None:
    assert all(f"| `{kind}` |" in PAGE for kind in KINDS)


def test_the_source_of_the_page_on_http_takes_no_other_logs(tmp_path: Path) -> None:
    page = PAGES / "http.md"
    described = page.read_text().rpartition("```yaml\n")[2].partition("```")[0]
    (tmp_path / "linux.yaml").write_text(described)
    source = next(each for each in with_custom(tmp_path) if each.name == "linux")
    assert source.recognises("http:Linux_CL/1", b"{}")
    assert not source.recognises("s3://logs/AWSLogs/1/CloudTrail/a.json.gz", b"{}")
    assert not source.recognises("/logs/a.json", b"{}")
