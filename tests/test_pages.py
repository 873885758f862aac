"""The pages made from the code are those in the tree."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.programs import program

DOCS = Path(__file__).parent.parent / "docs"


def pages() -> dict[str, str]:
    return {name: page() for name, page in program("docs/build.py").PAGES.items()}


@pytest.mark.parametrize("name", ["commands.md"])
def test_page_is_fresh(name: str) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == pages()[name], "stale: run `make docs`"
