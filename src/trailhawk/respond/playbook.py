"""Playbooks: what is done about an incident, as a list of small steps in YAML.

    description: Tell the desk and turn the keys off.
    steps:
      - query:
          kql: |
            declare query_parameters(AwsAccessKey: dynamic, Start: datetime);
            AWSCloudTrail | where TimeGenerated >= Start and UserIdentityAccessKeyId in (AwsAccessKey)
            | summarize Calls=count() by EventName | top 10 by Calls
          as: calls
          comment: true
      - notify: {channel: desk, text: "{{ incident.title }}: {{ results.calls | length }} kinds of calls"}
      - aws: {action: deactivate-access-key}

A query gets what it knows of the incident as values of the parameters that it declares: a list of the
entities of each type under the type's name, IncidentNumber, Start and End. Texts are Jinja2 templates; text
of the logs goes into them as values and is never read as a template.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Final

import msgspec
import yaml

from trailhawk.detect.watchlists import is_alias
from trailhawk.documents import Loader
from trailhawk.errors import NotFoundError, QueryError, TrailhawkError, UsageError
from trailhawk.kql.parser import parse
from trailhawk.kql.syntax import QueryParameters
from trailhawk.respond.changing import Setting, setting
from trailhawk.respond.containment import ACTIONS, MOST_TARGETS, target
from trailhawk.respond.message import check_template

MOST_STEPS: Final = 50
MOST_BYTES: Final = 1 << 20
STEP_SECONDS: Final = 120
"""How long a step may take, and how long a rule waits for a playbook."""

GIVEN: Final = ("IncidentNumber", "Start", "End")
"""What a query can declare beside the types of entities."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_TYPE = re.compile(r"[A-Za-z][A-Za-z0-9]{0,63}")
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


class PlaybookError(TrailhawkError):
    """A playbook file that cannot be meant."""

    kind = "playbook"


# --- steps -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Query:
    """Run KQL. The rows are kept under `name`; with `comment` they are written as a comment as well."""

    kql: str
    name: str
    comment: bool
    declared: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Notify:
    channel: str
    text: str


@dataclass(frozen=True, slots=True)
class Remark:
    text: str


@dataclass(frozen=True, slots=True)
class Todo:
    title: str
    description: str


@dataclass(frozen=True, slots=True)
class Label:
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Set:
    setting: Setting


@dataclass(frozen=True, slots=True)
class Watch:
    """Put the incident's entities of a type on a watchlist."""

    alias: str
    type: str


@dataclass(frozen=True, slots=True)
class Contain:
    """Act in AWS on the incident's entities, or on what is named here."""

    action: str
    targets: tuple[str, ...]
    approval: bool


Step = Query | Notify | Remark | Todo | Label | Set | Watch | Contain

KINDS: Final[Mapping[type, str]] = {
    Query: "query",
    Notify: "notify",
    Remark: "comment",
    Todo: "task",
    Label: "label",
    Set: "set",
    Watch: "watchlist",
    Contain: "aws",
}


@dataclass(frozen=True, slots=True)
class Playbook:
    """A name, what it is for, and its steps; `source` is the text it was read from."""

    name: str
    description: str
    steps: tuple[Step, ...]
    source: str

    @property
    def actions(self) -> tuple[str, ...]:
        """The actions in AWS, each once."""
        return tuple(dict.fromkeys(each.action for each in self.steps if isinstance(each, Contain)))


# --- the file ----------------------------------------------------------------------------------------------


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class _Query(_Strict, frozen=True):
    kql: str
    name: str = msgspec.field(name="as", default="")
    comment: bool = False


class _Notify(_Strict, frozen=True):
    channel: str
    text: str = "{{ incident.title }}"


class _Task(_Strict, frozen=True):
    title: str
    description: str = ""


class _Set(_Strict, frozen=True):
    severity: str | None = None
    status: str | None = None
    owner: str | None = None
    classification: str | None = None
    reason: str | None = None
    comment: str | None = None


class _Watchlist(_Strict, frozen=True):
    alias: str
    add: str


class _Aws(_Strict, frozen=True):
    action: str
    targets: tuple[str, ...] = ()
    approval: bool = True


class _Step(_Strict, frozen=True):
    query: _Query | None = None
    notify: _Notify | str | None = None
    comment: str | None = None
    task: _Task | str | None = None
    label: tuple[str, ...] | str | None = None
    set: _Set | None = None
    watchlist: _Watchlist | None = None
    aws: _Aws | None = None


class _File(_Strict, frozen=True):
    steps: tuple[_Step, ...]
    name: str = ""
    description: str = ""


def parse_playbook(text: str, *, name: str) -> Playbook:
    """The playbook of a file's text; `name` unless it has one of its own. PlaybookError says where."""
    if len(text) > MOST_BYTES:
        raise PlaybookError(f"playbook {name} is longer than {MOST_BYTES:,} characters")
    try:
        file = msgspec.convert(yaml.load(text, Loader=Loader), _File)
    except yaml.YAMLError as error:
        raise PlaybookError(f"playbook {name}: no YAML: {' '.join(str(error).split())}") from None
    except msgspec.ValidationError as error:
        raise PlaybookError(f"playbook {name}: {error}") from None
    name = file.name or name
    if not _NAME.fullmatch(name):
        raise PlaybookError(f"'{name}' is no name", hint="use letters, digits, - . and _, 64 at most")
    if not 1 <= len(file.steps) <= MOST_STEPS:
        raise PlaybookError(f"playbook {name} has {len(file.steps)} steps", hint=f"1 to {MOST_STEPS}")
    steps = []
    for place, each in enumerate(file.steps, 1):
        try:
            steps.append(_step(each))
        except TrailhawkError as error:
            raise PlaybookError(f"playbook {name}, step {place}: {error.message}", hint=error.hint) from None
    names = [each.name for each in steps if isinstance(each, Query) and each.name]
    if len(names) != len(set(names)):
        raise PlaybookError(f"playbook {name}: two queries keep their rows under one name")
    return Playbook(name, file.description.strip(), tuple(steps), text)


def _step(file: _Step) -> Step:
    given = [name for name in file.__struct_fields__ if getattr(file, name) is not None]
    if len(given) != 1:
        raise UsageError(f"has {' and '.join(given) or 'nothing'}", hint="each step does one thing")
    if file.query is not None:
        return _query(file.query)
    if file.notify is not None:
        asked = _Notify(file.notify) if isinstance(file.notify, str) else file.notify
        return Notify(asked.channel, _template(asked.text))
    if file.comment is not None:
        return Remark(_template(file.comment))
    if file.task is not None:
        task = _Task(file.task) if isinstance(file.task, str) else file.task
        return Todo(_template(task.title), _template(task.description))
    if file.label is not None:
        texts = (file.label,) if isinstance(file.label, str) else file.label
        return Label(tuple(map(_template, texts)))
    if file.set is not None:
        return _set(file.set)
    if file.watchlist is not None:
        return _watch(file.watchlist)
    assert file.aws is not None
    return _contain(file.aws)


def _template(text: str) -> str:
    check_template(text)
    return text


def _query(file: _Query) -> Query:
    if file.name and not _WORD.fullmatch(file.name):
        raise UsageError(f"'{file.name}' is no name for rows", hint="use letters, digits and _")
    try:
        statements = parse(file.kql).statements
    except QueryError as error:
        raise UsageError(error.render(file.kql)) from None
    declared = [
        each.name for one in statements if isinstance(one, QueryParameters) for each in one.parameters
    ]
    for name in declared:
        if name not in GIVEN and not _TYPE.fullmatch(name):
            raise UsageError(f"'{name}' is nothing that is known of an incident")
    return Query(file.kql, file.name, file.comment, tuple(declared))


def _set(file: _Set) -> Set:
    found = setting(
        severity=file.severity,
        status=file.status,
        owner=file.owner,
        classification=file.classification,
        reason=file.reason,
        comment=file.comment,
    )
    if found == Setting():
        raise UsageError("sets nothing")
    return Set(found)


def _watch(file: _Watchlist) -> Watch:
    if not is_alias(file.alias):
        raise UsageError(f"'{file.alias}' is no alias of a watchlist")
    if not _TYPE.fullmatch(file.add):
        raise UsageError(f"'{file.add}' is no type of entity", hint="such as IP or AwsAccessKey")
    return Watch(file.alias, file.add)


def _contain(file: _Aws) -> Contain:
    if file.action not in ACTIONS:
        raise UsageError(f"'{file.action}' is no action", hint=f"there is {', '.join(ACTIONS)}")
    if len(file.targets) > MOST_TARGETS:
        raise UsageError(f"acts on {len(file.targets)}", hint=f"{MOST_TARGETS} at most")
    for name in file.targets:
        target(file.action, name)
    return Contain(file.action, file.targets, file.approval)


# --- a folder of them --------------------------------------------------------------------------------------


class Playbooks:
    """The playbooks of the package and of a folder, which replaces those of its names. Read when asked."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def names(self) -> tuple[str, ...]:
        """The names there are, by the alphabet."""
        with self._paths() as paths:
            return tuple(sorted(paths))

    def all(self, *, fault: Callable[[PlaybookError], None] | None = None) -> tuple[Playbook, ...]:
        """All of them. `fault` is told of those that are wrong; PlaybookError for the first without it."""
        found = []
        with self._paths() as paths:
            for name, path in sorted(paths.items()):
                try:
                    found.append(parse_playbook(_text(path), name=name))
                except PlaybookError as error:
                    if fault is None:
                        raise
                    fault(error)
        return tuple(found)

    def playbook(self, name: str) -> Playbook:
        """NotFoundError where there is none of the name, PlaybookError where it is wrong."""
        with self._paths() as paths:
            found = {each.lower(): each for each in sorted(paths)}.get(name.lower())
            if found is None:
                raise NotFoundError(f"no playbook '{name}'", hint=f"there is {', '.join(sorted(paths))}")
            return parse_playbook(_text(paths[found]), name=found)

    @contextmanager
    def _paths(self) -> Iterator[Mapping[str, Path]]:
        with as_file(files("trailhawk") / "content" / "playbooks") as own:
            yield {path.stem: path for folder in (own, self._folder) for path in _files(folder)}


def _files(folder: Path) -> Iterable[Path]:
    return sorted(path for path in folder.glob("*.y*ml") if path.suffix in (".yaml", ".yml"))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise PlaybookError(f"{path} cannot be read: {error}") from None
