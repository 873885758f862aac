"""Sigma rule files to rules of ours: what is taken, what is passed over and why, what file comes of it.

Reference: https://sigmahq.io/sigma-specification/specification/sigma-rules-specification.html
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import yaml

from trailhawk.detect.rule import Rule
from trailhawk.detect.rule_file import load_rules, parse_rule
from trailhawk.detect.sigma.fields import LOG_SOURCES, LogSource
from trailhawk.detect.validate import Finding, Level
from trailhawk.documents import Loader
from trailhawk.errors import RuleError, UsageError
from trailhawk.files import write_whole

try:
    from sigma.collection import SigmaCollection
    from sigma.correlations import SigmaCorrelationRule
    from sigma.exceptions import SigmaError
    from sigma.policy.profiles import SafePolicy
    from sigma.rule import SigmaRule
    from sigma.rule.base import check_alias_expansion

    from trailhawk.detect.sigma.backend import TableBackend, backend_of
    from trailhawk.detect.sigma.correlation import correlation_document
except ImportError as error:
    raise UsageError(
        f"Sigma rules need the package {error.name}", hint="pip install 'trailhawk[sigma]'"
    ) from None

from trailhawk.detect.sigma.document import document, scheduled

MAX_BYTES = 1_000_000
MAX_EVENTS = 100_000
MAX_DEPTH = 40
MAX_CONDITION = 4_000
MAX_PARENTHESES = 20
MAX_QUERY = 100_000
"""Bytes of a file, tokens of its YAML and their depth, characters of a condition and of a query."""

FOLDER = "sigma"
"""Where taken rules lie below the home's `rules`."""
_SUFFIXES = (".yml", ".yaml")
_OLD = ("deprecated", "unsupported")


class State(Enum):
    TAKEN = "imported"
    SKIPPED = "skipped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one Sigma rule. `source` is its file below the path that was given."""

    source: str
    title: str
    state: State
    reason: str = ""
    rule: Rule | None = None
    warnings: tuple[Finding, ...] = ()


class _SkippedError(Exception):
    """A rule that is not for us: no fault of it or of ours."""


@dataclass(slots=True)
class _Document:
    """One YAML document: a Sigma rule or a correlation, read, and later what becomes of it."""

    source: str
    place: Path
    content: Mapping[str, Any]
    rule: SigmaRule | SigmaCorrelationRule | None = None
    outcome: Outcome | None = None

    @property
    def title(self) -> str:
        return str(self.content.get("title") or self.content.get("name") or "")[:200]

    def ends(self, state: State, reason: str) -> None:
        self.outcome = Outcome(self.source, self.title, state, reason)


def take_in(
    paths: Sequence[Path],
    home: Path,
    check: Callable[[Rule], tuple[Finding, ...]],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> list[Outcome]:
    """Write the Sigma rules under these paths into the home's rules, those that bind without an error.

    RuleError for a path that does not exist.
    """
    documents = [each for path in paths for each in _read(path)]
    collection = SigmaCollection(
        [each.rule for each in documents if each.rule is not None], resolve_references=False
    )
    backends = {source.name: backend_of(source) for source in LOG_SOURCES}
    _resolve(documents, collection)
    known = {rule.id: rule.source for rule in load_rules(_own(home), fault=lambda _: None)}
    taken: dict[str, str] = {}
    for done, each in enumerate(documents, 1):
        if each.outcome is None:
            each.outcome = _take(each, home, check, known, taken, backends)
        if progress is not None:
            progress(done, len(documents))
    return [each.outcome for each in documents if each.outcome is not None]


def _own(home: Path) -> list[Path]:
    return [folder] if (folder := home / "rules").is_dir() else []


# --- reading -----------------------------------------------------------------------------------------------


def _read(path: Path) -> Iterator[_Document]:
    if path.is_file():
        yield from _read_file(path, Path(path.name))
    elif path.is_dir():
        for file in sorted(each for each in path.rglob("*") if each.suffix in _SUFFIXES and each.is_file()):
            yield from _read_file(file, file.relative_to(path))
    else:
        raise RuleError(f"no file or folder of Sigma rules at {path}")


def _read_file(file: Path, name: Path) -> Iterator[_Document]:
    with file.open("rb") as opened:
        content = opened.read(MAX_BYTES + 1)
    source = name.as_posix()
    try:
        contents = _documents(content)
    except RuleError as error:
        yield _failed(source, {}, error.message)
        return
    for number, each in enumerate(contents, 1):
        suffix = f"-{number}" if len(contents) > 1 else ""
        found = _Document(source, name.with_name(f"{name.stem}{suffix}.yaml"), each)
        try:
            found.rule = _parsed(found)
        except _SkippedError as reason:
            found.ends(State.SKIPPED, str(reason))
        except RuleError as error:
            found.ends(State.FAILED, str(error))
        except (SigmaError, AttributeError, TypeError, ValueError, KeyError) as error:
            # pySigma meets a member of a wrong type with whatever Python raises there.
            found.ends(State.FAILED, f"no Sigma rule: {_words(error)}")
        yield found


def _failed(source: str, content: Mapping[str, Any], reason: str) -> _Document:
    found = _Document(source, Path(source), content)
    found.ends(State.FAILED, reason)
    return found


def _documents(content: bytes) -> list[Mapping[str, Any]]:
    """The YAML documents of a file, none of them hostile in size."""
    if len(content) > MAX_BYTES:
        raise RuleError(f"larger than {MAX_BYTES:,} bytes")
    try:
        _bounded(content)
        found = [each for each in yaml.load_all(content, Loader=Loader) if each is not None]
        for each in found:
            check_alias_expansion(each)
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, SigmaError) as error:
        raise RuleError(f"not YAML: {_words(error)}") from None
    if not found:
        raise RuleError("an empty file")
    for each in found:
        if not isinstance(each, dict) or not all(isinstance(key, str) for key in each):
            raise RuleError(f"a Sigma rule is a mapping, found {type(each).__name__}")
    return found


def _bounded(content: bytes) -> None:
    depth = 0
    for count, event in enumerate(yaml.parse(content, Loader=yaml.CSafeLoader)):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            raise RuleError(f"nested deeper than {MAX_DEPTH}")
        if count > MAX_EVENTS:
            raise RuleError(f"more than {MAX_EVENTS:,} YAML nodes")


def _parsed(found: _Document) -> SigmaRule | SigmaCorrelationRule:
    content = dict(found.content)
    if "action" in content:
        raise RuleError("'action' of old collections is not read", hint="write each rule in full")
    if "filter" in content and "detection" not in content:
        raise _SkippedError("a Sigma filter, no rule; write an exception of ours instead")
    if str(content.get("status", "")).lower() in _OLD:
        raise _SkippedError(f"its status is {content['status']}")
    if "correlation" in content:
        return SigmaCorrelationRule.from_dict(content, policy=SafePolicy)
    _source_of(content)
    for condition in _conditions(content):
        _check_condition(condition)
    return SigmaRule.from_dict(content, policy=SafePolicy)


def _conditions(content: Mapping[str, Any]) -> list[str]:
    detection = content.get("detection")
    found = detection.get("condition") if isinstance(detection, dict) else None
    return [str(each) for each in (found if isinstance(found, list) else [found])]


def _check_condition(condition: str) -> None:
    """A condition that its parser can read in a moment."""
    if len(condition) > MAX_CONDITION:
        raise RuleError(f"a condition of {len(condition):,} characters; {MAX_CONDITION:,} at most")
    depth = 0
    for letter in condition:
        depth += (letter == "(") - (letter == ")")
        if depth > MAX_PARENTHESES:
            raise RuleError(f"a condition with more than {MAX_PARENTHESES} open parentheses")
    if "|" in condition:
        raise RuleError(
            "its condition has an aggregation after '|', which Sigma has given up",
            hint="write it as a correlation",
        )


def _source_of(content: Mapping[str, Any]) -> LogSource:
    """The log source of a rule; _SkippedError where it is none of ours."""
    given = content.get("logsource")
    given = given if isinstance(given, dict) else {}
    wanted = (str(given.get("product", "")).lower(), str(given.get("service", "")).lower())
    for source in LOG_SOURCES:
        if wanted == (source.product, source.service) and not given.get("category"):
            return source
    named = ", ".join(f"{key} {value}" for key, value in given.items() if key != "definition") or "none"
    raise _SkippedError(
        f"log source {named[:200]}; there is {', '.join(source.name for source in LOG_SOURCES)}"
    )


def _resolve(documents: Iterable[_Document], collection: SigmaCollection) -> None:
    """Let correlations find their rules; a rule that only serves a correlation is none by itself."""
    by_rule = {id(each.rule): each for each in documents}
    for each in documents:
        if not isinstance(each.rule, SigmaCorrelationRule):
            continue
        try:
            each.rule.resolve_rule_references(collection)
        except (SigmaError, AttributeError, TypeError, ValueError, KeyError) as error:
            each.ends(State.FAILED, f"its rules: {_words(error)}")
            continue
        for reference in each.rule.rules or ():
            base = by_rule.get(id(reference.rule))
            if base is not None and not each.rule.generate and base.outcome is None:
                base.ends(State.SKIPPED, f"only a part of the correlation '{each.title}'")


# --- writing -----------------------------------------------------------------------------------------------


def _take(
    each: _Document,
    home: Path,
    check: Callable[[Rule], tuple[Finding, ...]],
    known: Mapping[str, str],
    taken: dict[str, str],
    backends: Mapping[str, TableBackend],
) -> Outcome:
    try:
        made = _made(each, backends)
        place = _place(each, str(made["id"]), known, taken)
        content = yaml.dump(made, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
        rule = parse_rule(content, source=place.as_posix())
    except _SkippedError as reason:
        return Outcome(each.source, each.title, State.SKIPPED, str(reason))
    except RuleError as error:
        return Outcome(each.source, each.title, State.FAILED, str(error))
    except (SigmaError, NotImplementedError, AttributeError, TypeError, ValueError, KeyError) as error:
        return Outcome(each.source, each.title, State.FAILED, f"not translated: {_words(error)}")
    findings = check(rule)
    errors = [f"{finding.member}: {finding.told}" for finding in findings if finding.level is Level.ERROR]
    if errors:
        return Outcome(each.source, each.title, State.FAILED, "; ".join(errors))
    file = home / "rules" / place
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, content.encode())
    taken[rule.id] = each.source
    return Outcome(each.source, each.title, State.TAKEN, rule=rule, warnings=findings)


def _made(each: _Document, backends: Mapping[str, TableBackend]) -> dict[str, object]:
    """The members of our rule's file."""
    rule = each.rule
    identity = (
        str(rule.id)
        if rule is not None and rule.id
        else str(uuid.uuid5(uuid.NAMESPACE_URL, f"sigma:{each.place.as_posix()}:{each.title}"))
    )
    if isinstance(rule, SigmaCorrelationRule):
        sources = {
            id(reference.rule): _source_of(_logsource(reference.rule)) for reference in rule.rules or ()
        }
        found = list(sources.values())
        if len({source.name for source in found}) != 1:
            raise RuleError("a correlation's rules must be of one log source")
        source = found[0]
        conditions = {
            reference.reference: _condition(reference.rule, backends[source.name])
            for reference in rule.rules or ()
        }
        made = correlation_document(rule, source, conditions)
    elif isinstance(rule, SigmaRule):
        source = _source_of(_logsource(rule))
        made = scheduled(source, _condition(rule, backends[source.name]))
    else:
        raise RuleError("no Sigma rule")
    if len(str(made["query"])) > MAX_QUERY:
        raise RuleError(f"its query would have more than {MAX_QUERY:,} characters")
    return document(rule, identity, source, each.source, made)


def _logsource(rule: SigmaRule | SigmaCorrelationRule) -> Mapping[str, Any]:
    if isinstance(rule, SigmaCorrelationRule):
        raise RuleError("a correlation of correlations is not translated")
    return {
        "logsource": {key: value for key, value in vars(rule.logsource).items() if isinstance(value, str)}
    }


def _condition(rule: SigmaRule | SigmaCorrelationRule, backend: TableBackend) -> str:
    """What a row must be, in KQL."""
    assert isinstance(rule, SigmaRule)
    found = rule.get_conversion_result() if rule._conversion_result else None
    if found is None:
        backend.convert_rule(rule)
        found = rule.get_conversion_result()
    parts = [str(each) for each in found]
    if not parts:
        raise RuleError("its condition selects nothing")
    return parts[0] if len(parts) == 1 else " or ".join(f"({part})" for part in parts)


def _place(each: _Document, identity: str, known: Mapping[str, str], taken: Mapping[str, str]) -> Path:
    """The file below the home's rules: where the rule was put before, or where its own name says."""
    if identity in taken:
        raise RuleError(f"its id {identity} is also that of {taken[identity]}")
    before = known.get(identity)
    if before is None:
        return Path(FOLDER) / each.place
    if not before.startswith(f"{FOLDER}/"):
        raise RuleError(f"its id {identity} is that of your rule {before}", hint="remove that one first")
    return Path(before)


def _words(error: Exception) -> str:
    return " ".join(str(error).split())[:500] or type(error).__name__


class _Dumper(yaml.SafeDumper):
    """Text of several lines as a block, as rules are written."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)
