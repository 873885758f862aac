"""What the shell offers for the word being typed: names that this home knows."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import typer

from trailhawk.cli.options import home_of
from trailhawk.detect.rule import Rule
from trailhawk.detect.rulebook import files
from trailhawk.errors import TrailhawkError
from trailhawk.words import counted
from trailhawk.workspace import Workspace

Known = Callable[[Workspace], Iterable[tuple[str, str]]]
"""Names with a line about each."""


def _offered(known: Known) -> Callable[[typer.Context, str], list[tuple[str, str]]]:
    """A completion by the names of a home; none where there is no home or it cannot be read."""

    def complete(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
        root = context.find_root()
        root.obj = root.obj or root.params.get("home")  # no command has run that would have set it
        home = home_of(context)
        if not home.is_dir():
            return []
        try:
            return [
                (name, about)
                for name, about in known(Workspace(home.absolute()))
                if name.startswith(incomplete)
            ]
        except (TrailhawkError, OSError):
            return []  # in the middle of a line there is nobody to tell

    return complete


def _functions(workspace: Workspace) -> Iterable[tuple[str, str]]:
    return ((each.name, each.documentation.partition("\n")[0]) for each in workspace.functions.all())


def _watchlists(workspace: Workspace) -> Iterable[tuple[str, str]]:
    return ((each.alias, counted(each.items, "item")) for each in workspace.watchlists.all())


def _incidents(workspace: Workspace) -> Iterable[tuple[str, str]]:
    return ((str(each.number), each.title) for each in workspace.incidents.all())


def _tables(workspace: Workspace) -> Iterable[tuple[str, str]]:
    lake = workspace.lake
    for name in lake.table_names():
        table = lake.table(name)
        yield name, table.description if table else ""


def _sources(workspace: Workspace) -> Iterable[tuple[str, str]]:
    yield from _tables(workspace)
    yield from _functions(workspace)


def _rules(workspace: Workspace) -> Iterable[tuple[str, str]]:
    return ((_file(each), each.name) for each in workspace.content.rules())


def _hunts(workspace: Workspace) -> Iterable[tuple[str, str]]:
    return ((_file(each), each.name) for each in workspace.content.hunts())


def _file(rule: Rule) -> str:
    return files(rule)[0] or rule.id


functions = _offered(_functions)
watchlists = _offered(_watchlists)
incidents = _offered(_incidents)
rules = _offered(_rules)
hunts = _offered(_hunts)
tables = _offered(_tables)
sources = _offered(_sources)
"""Tables and functions: what a query begins with."""
