"""Where the rules that come with the package lie, and the rules of a run."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.resources import as_file, files
from pathlib import Path

from trailhawk.detect.rule import Rule, load_rules


def rules(folders: Iterable[Path] = ()) -> tuple[Rule, ...]:
    """The rules of the package and of these folders; a rule with the id of an earlier one replaces it."""
    with as_file(files("trailhawk") / "content" / "rules") as own:
        return load_rules([own, *folders])
