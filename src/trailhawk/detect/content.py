"""Where the rules and functions that come with the package lie, and those of a workspace."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING

# Rules need YAML, functions do not: each is imported where it is asked for.
if TYPE_CHECKING:
    from trailhawk.detect.rule import Rule
    from trailhawk.errors import RuleError
    from trailhawk.kql.stored import Functions

    Fault = Callable[[RuleError], None]


def rules(folders: Iterable[Path] = (), *, fault: Fault | None = None) -> tuple[Rule, ...]:
    """The rules of the package and of these folders; a rule with the id of an earlier one replaces it.
    Hunts among them are left to `hunts`: a template may hold both.

    `fault` is told of files that are no rules; see `load_rules`.
    """
    from trailhawk.detect.rule import RuleKind
    from trailhawk.detect.rule_file import load_rules

    with as_file(files("trailhawk") / "content" / "rules") as own:
        found = load_rules([own, *folders], fault=fault)
    return tuple(rule for rule in found if rule.kind is not RuleKind.HUNTING)


def hunts(folders: Iterable[Path] = (), *, fault: Fault | None = None) -> tuple[Rule, ...]:
    """The hunting queries of the package and of these folders, which replace each other as rules do."""
    from trailhawk.detect.rule import RuleKind
    from trailhawk.detect.rule_file import load_rules

    with as_file(files("trailhawk") / "content" / "hunts") as own:
        found = load_rules([own, *folders], fault=fault)
    return tuple(rule for rule in found if rule.kind is RuleKind.HUNTING)


def functions(folders: Iterable[Path] = ()) -> Functions:
    """The stored functions of the package and of these folders; a later one replaces one of its name."""
    from trailhawk.kql.stored import Functions, read_functions

    with as_file(files("trailhawk") / "content" / "functions") as own:
        return Functions(function for folder in [own, *folders] for function in read_functions(folder))
