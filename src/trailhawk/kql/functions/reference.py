"""The reference pages of the KQL functions, made from their signatures and docstrings.

`python -m trailhawk.kql.functions.reference docs/functions` writes them.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from trailhawk.kql.functions import AGGREGATES, FUNCTIONS, WINDOWS
from trailhawk.kql.functions.registry import Aggregate, Overload, Param, ScalarFunction
from trailhawk.kql.types import KqlType

_PROMPT = ">>> "


@dataclass(frozen=True, slots=True)
class Example:
    """An expression and the text of its value."""

    text: str
    result: str


@dataclass(frozen=True, slots=True)
class Entry:
    """What a page says of one function."""

    name: str
    aliases: tuple[str, ...]
    room: str
    signatures: tuple[str, ...]
    text: str
    examples: tuple[Example, ...]


def _examples(documentation: str) -> tuple[Example, ...]:
    lines = [line.strip() for line in documentation.splitlines()]
    return tuple(
        Example(line.removeprefix(_PROMPT), lines[at + 1])
        for at, line in enumerate(lines)
        if line.startswith(_PROMPT)
    )


def _text(documentation: str) -> str:
    return " ".join(documentation.partition(_PROMPT)[0].split())


def _types(types: Iterable[KqlType]) -> str:
    known = set(types)
    if known == set(KqlType):
        return "scalar"
    if known == {type_ for type_ in KqlType if type_.is_number}:
        return "number"
    return " or ".join(type_.value for type_ in KqlType if type_ in known)


def _param(param: Param) -> str:
    shown = f"{param.name}: {_types(param.types)}"
    return f"[{shown}]" if param.optional else shown


def _signature(name: str, overload: Overload) -> str:
    params = [_param(param) for param in overload.params]
    if overload.variadic is not None:
        params.append(f"{_param(overload.variadic)}, ...")
    if _room(overload) == "operators" and len(params) == 2:
        return f"{overload.params[0].name} {name} {overload.params[1].name}"
    returned = overload.returns.value if isinstance(overload.returns, KqlType) else "the widest type given"
    return f"{name}({', '.join(params)}) -> {returned}"


def _room(overload: Overload) -> str:
    return overload.build.__module__.rpartition(".")[2]


def _aliases(function: object, registered: Iterable[tuple[str, object]], own: str) -> tuple[str, ...]:
    return tuple(sorted(name for name, other in registered if other is function and name != own))


def _is_operator(function: ScalarFunction) -> bool:
    return _room(function.overloads[0]) == "operators"


def _scalar(function: ScalarFunction) -> Entry:
    return Entry(
        function.name,
        _aliases(function, FUNCTIONS.items(), function.name),
        _room(function.overloads[0]),
        tuple(_signature(function.name, overload) for overload in function.overloads),
        _text(function.documentation),
        _examples(function.documentation),
    )


def _aggregate(function: Aggregate) -> Entry:
    registered = (WINDOWS if function.window else AGGREGATES).items()
    return Entry(
        function.name,
        _aliases(function, registered, function.name),
        _room(function.overload),
        (_signature(function.name, function.overload),),
        _text(function.documentation),
        _examples(function.documentation),
    )


def documented() -> list[Entry]:
    """Every function a query can write, by name."""
    scalars = {
        id(f): f
        for f in FUNCTIONS.values()
        if not f.internal or (_is_operator(f) and ">>>" in f.documentation)
    }
    others = {id(f): f for f in (*AGGREGATES.values(), *WINDOWS.values())}
    entries = [*map(_scalar, scalars.values()), *map(_aggregate, others.values())]
    return sorted(entries, key=lambda entry: entry.name)


def examples() -> list[tuple[str, tuple[Example, ...]]]:
    """The examples of every function and operator, by its name."""
    functions = {id(function): function for function in FUNCTIONS.values()}
    found = [(function.name, _examples(function.documentation)) for function in functions.values()]
    return [(name, given) for name, given in found if given]


_MADE = "Made from the code by `make docs`."


def _section(entry: Entry) -> str:
    parts = [f"## {entry.name}", entry.text, "```text\n" + "\n".join(entry.signatures) + "\n```"]
    if entry.aliases:
        parts.append("Also written " + ", ".join(f"`{alias}`" for alias in entry.aliases) + ".")
    if entry.examples:
        shown = "\n".join(f"{example.text}\n  {example.result}" for example in entry.examples)
        parts.append(f"```kusto\n{shown}\n```")
    return "\n\n".join(parts)


def _heading(room: str) -> tuple[str, str]:
    """A page's title and text: the first sentence of its module's docstring, and what follows it there."""
    doc = inspect.getdoc(sys.modules[f"{__package__}.{room}"]) or room
    title, _, text = doc.split("\n\n")[0].replace("\n", " ").partition(". ")
    return title.rstrip("."), text


def _page(room: str, entries: list[Entry]) -> str:
    title, text = _heading(room)
    names = sorted(entries, key=lambda entry: entry.name)
    return "\n\n".join([f"# {title}", *([text] if text else []), _MADE, *map(_section, names)]) + "\n"


def _link(page: str, name: str) -> str:
    """A link to the section of this name: its anchor has no signs, so a name of signs alone has none."""
    anchor = re.sub(r"[^\w-]", "", name.replace(" ", "-")).lower()
    return f"[{name}]({page}#{anchor})" if anchor else f"[{name}]({page})"


def _index(rooms: dict[str, list[Entry]]) -> str:
    parts = ["# KQL functions", _MADE]
    for room, entries in rooms.items():
        names = ", ".join(_link(f"{room}.md", entry.name) for entry in entries)
        parts += [f"## [{_heading(room)[0]}]({room}.md)", names]
    return "\n\n".join(parts) + "\n"


def _plugins() -> dict[str, str]:
    """The documentation of the plugins of evaluate, by name."""
    from trailhawk.kql.plugins import PLUGINS  # they are made of functions, so not at the top

    return {name: inspect.getdoc(bind) or "" for name, bind in sorted(PLUGINS.items())}


def _plugin_page() -> str:
    sections = [f"## {name}\n\n{text}" for name, text in _plugins().items()]
    return "\n\n".join(["# Plugins of evaluate", _MADE, *sections]) + "\n"


def _plugin_index() -> str:
    names = ", ".join(_link("plugins.md", name) for name in _plugins())
    return f"\n## [Plugins of evaluate](plugins.md)\n\n{names}\n"


def pages() -> dict[str, str]:
    """The pages' file names and texts: one a room, one of the plugins, and the index."""
    rooms: dict[str, list[Entry]] = {}
    for entry in documented():
        rooms.setdefault(entry.room, []).append(entry)
    rooms = dict(sorted(rooms.items()))
    written = {f"{room}.md": _page(room, entries) for room, entries in rooms.items()}
    written["plugins.md"] = _plugin_page()
    return {"README.md": _index(rooms) + _plugin_index(), **written}


def main(folder: Path) -> None:
    """Write every page, and take away those of rooms that are gone."""
    folder.mkdir(parents=True, exist_ok=True)
    made = pages()
    for old in folder.glob("*.md"):
        if old.name not in made:
            old.unlink()
    for name, text in made.items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
