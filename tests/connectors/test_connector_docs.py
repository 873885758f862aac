"""docs/connectors.md names every key, with the default it has."""

from __future__ import annotations

from pathlib import Path

import pytest

from trailhawk.connectors.config import KINDS
from trailhawk.settings import Section

PAGE = (Path(__file__).parents[2] / "docs" / "connectors.md").read_text()
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
