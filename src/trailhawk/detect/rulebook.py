"""The rules of a home: which are there, which are enabled, and new ones taken in from elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path, PurePosixPath

import sqlalchemy as sa

from trailhawk.detect.rule import Rule, RuleKind
from trailhawk.detect.rule_file import is_copy, named_files, other_id, parse_rules, rule_files
from trailhawk.detect.store import Moment, make_tables, metadata, reading
from trailhawk.detect.validate import Finding, Level
from trailhawk.errors import NotFoundError, RuleError
from trailhawk.files import write_whole

_states = sa.Table(
    "rule_states",
    metadata,
    sa.Column("rule_id", sa.String, primary_key=True),
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("reason", sa.String, nullable=False),
    sa.Column("at", Moment, nullable=False),
    sa.Column("by", sa.String, nullable=False),
)


@dataclass(frozen=True, slots=True)
class RuleState:
    """Whether a rule runs, and who said so when and why; nobody did where `at` is None."""

    enabled: bool
    reason: str = ""
    at: datetime | None = None
    by: str = ""


class RuleStates:
    """Which rules are enabled, in the state database."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        make_tables(engine, [_states])

    def of(self, rules: Iterable[Rule]) -> dict[str, RuleState]:
        """The state of each of these rules by id; a rule is enabled unless its file or somebody says else."""
        with reading(self._engine) as connection:
            rows = connection.execute(sa.select(_states)).all()
        stored = {row.rule_id: RuleState(row.enabled, row.reason, row.at, row.by) for row in rows}
        return {rule.id: stored.get(rule.id) or RuleState(_is_on(rule)) for rule in rules}

    def set(self, rule: Rule, *, enabled: bool, reason: str, now: datetime, by: str) -> RuleState:
        """Enable or disable a rule."""
        state = RuleState(enabled, reason, now, by)
        with self._engine.begin() as connection:
            connection.execute(sa.delete(_states).where(_states.c.rule_id == rule.id))
            connection.execute(
                sa.insert(_states).values(rule_id=rule.id, enabled=enabled, reason=reason, at=now, by=by)
            )
        return state


def _is_on(rule: Rule) -> bool:
    return dict(rule.extra).get("enabled") is not False


def named(rules: Iterable[Rule], text: str) -> Rule:
    """The one rule of this id, name or file, or the only one whose name or file holds the text.

    NotFoundError where there is none or more than one.
    """
    rules = tuple(rules)
    wanted = text.strip().lower()
    exact = [rule for rule in rules if wanted in map(str.lower, (rule.id, rule.name, *files(rule)))]
    found = exact or [rule for rule in rules if wanted in f"{rule.name}\n{rule.source}".lower()]
    if len(found) == 1:
        return found[0]
    if not found:
        raise _no_such(rules, text)
    if exact:  # published packs hold rules of one name
        ids = ", ".join(f"{rule.id} ({rule.source})" for rule in found[:5])
        raise NotFoundError(f"'{text}' is what {len(found)} rules are called: {ids}", hint="give the id")
    names = ", ".join(f"'{rule.name}'" for rule in found[:5])
    raise NotFoundError(
        f"'{text}' is part of {len(found)} rules: {names}", hint="give the id or the whole name"
    )


def files(rule: Rule) -> tuple[str, str]:
    """What its file is called: without its folder and ending, as commands and docs do, and whole."""
    return PurePosixPath(rule.source).stem, rule.source


def _no_such(rules: Sequence[Rule], text: str) -> NotFoundError:
    """That none of the rules is called so, with the nearest name and the command that lists them."""
    names = {name.lower(): rule.name for rule in rules for name in (rule.name, rule.id)}
    names |= {stem.lower(): stem for rule in rules if (stem := files(rule)[0])}
    near = get_close_matches(text.strip().lower(), names, n=1)
    meant = f"did you mean '{names[near[0]]}'? " if near else ""
    are_hunts = {rule.kind is RuleKind.HUNTING for rule in rules}
    if are_hunts == {True}:
        return NotFoundError(f"no hunt '{text}'", hint=f"{meant}see 'trailhawk hunt list'")
    if are_hunts == {True, False}:
        hint = f"{meant}see 'trailhawk rules list' and 'trailhawk hunt list'"
        return NotFoundError(f"no rule or hunt '{text}'", hint=hint)
    return NotFoundError(f"no rule '{text}'", hint=f"{meant}see 'trailhawk rules list'")


# --- taking rules in ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of one rule of a file: `findings` of level error mean that it was not taken."""

    source: str
    rule: Rule | None
    findings: tuple[Finding, ...] = ()
    replaced: bool = False

    @property
    def taken(self) -> bool:
        return all(finding.level is not Level.ERROR for finding in self.findings)


def take_in(
    paths: Sequence[Path], home: Path, check: Callable[[Rule], tuple[Finding, ...]]
) -> Iterator[Imported]:
    """Copy the rule files under these paths into the home: rules into `rules`, hunts into `hunts`.

    A file is taken when none of its rules has an error. It replaces the file that held its rules before; a
    copy of a rule that this import took already is left out. RuleError for a path that does not exist.
    """
    intake = _Intake(home, check, _held(home))
    for path in paths:
        for file, name in named_files(path):
            yield from intake.take(file, name)


def read(paths: Sequence[Path], fault: Callable[[RuleError], None]) -> list[Rule]:
    """The rules of all files under these paths; what is none is told to `fault`."""
    found: list[Rule] = []
    for path in paths:
        for file, name in named_files(path):
            try:
                found += parse_rules(file.read_bytes(), source=name.as_posix())
            except RuleError as error:
                error.source = name.as_posix()
                fault(error)
    return found


def _held(home: Path) -> dict[Path, frozenset[str]]:
    """The rule files of a home with the ids they hold."""
    found = {}
    for folder in (home / "rules", home / "hunts"):
        for file in rule_files(folder) if folder.is_dir() else ():
            try:
                found[file] = frozenset(rule.id for rule in parse_rules(file.read_bytes(), source=file.name))
            except RuleError:
                continue  # it holds no rules; what is wrong with it is told where rules are loaded
    return found


@dataclass
class _Intake:
    """One import: what the home held before by file, and what came since."""

    home: Path
    check: Callable[[Rule], tuple[Finding, ...]]
    held: dict[Path, frozenset[str]]
    came: dict[str, Rule] = field(default_factory=dict)
    written: set[Path] = field(default_factory=set)

    def take(self, file: Path, name: Path) -> Iterator[Imported]:
        source = name.as_posix()
        content = file.read_bytes()
        try:
            rules = parse_rules(content, source=source)
        except RuleError as error:
            yield Imported(source, None, (Finding(Level.ERROR, "file", str(error)),))
            return
        if all(self._came(rule) for rule in rules):
            yield from (Imported(source, rule, tuple(shared_id(rule, self.came))) for rule in rules)
            return
        ids = frozenset(rule.id for rule in rules)
        old = [each for each in self.held if self.held[each] <= ids]
        found = [
            Imported(source, rule, (*self.check(rule), *shared_id(rule, self.came)), bool(old))
            for rule in rules
        ]
        if all(each.taken for each in found):
            self._keep(name, content, rules, old)
        yield from found

    def _came(self, rule: Rule) -> bool:
        other = self.came.get(rule.id)
        return other is not None and is_copy(rule, other)

    def _keep(self, name: Path, content: bytes, rules: Sequence[Rule], old: Sequence[Path]) -> None:
        """Write the file in place of the old ones, and beside one of its name that holds other rules."""
        folders = sorted({"hunts" if rule.kind is RuleKind.HUNTING else "rules" for rule in rules})
        places = [self._place(self.home / folder / name, rules, old) for folder in folders]
        for place in places:
            place.parent.mkdir(parents=True, exist_ok=True)
            write_whole(place, content)
            self.written.add(place)
        for each in old:
            del self.held[each]
            if each not in places:
                each.unlink()
        self.came = {rule.id: rule for rule in rules} | self.came

    def _place(self, wanted: Path, rules: Sequence[Rule], old: Sequence[Path]) -> Path:
        if wanted in self.written or (wanted in self.held and wanted not in old):
            return wanted.with_name(f"{wanted.stem}-{rules[0].id[:8]}{wanted.suffix}")
        return wanted


def shared_id(rule: Rule, before: Mapping[str, Rule]) -> Iterator[Finding]:
    """That one of the rules `before` has this rule's id."""
    other = before.get(rule.id)
    if other is None:
        return
    if is_copy(rule, other):
        yield Finding(Level.WARNING, "id", f"the same rule as {other.source}: left out")
        return
    known = f"the later of them by its file is known here as {other_id(rule)}"
    yield Finding(Level.WARNING, "id", f"{rule.id} is also that of {other.source}: {known}")
