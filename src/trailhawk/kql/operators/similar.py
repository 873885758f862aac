"""reduce: texts grouped by the terms they share.

The clustering of Vaarandi, "A Data Clustering Algorithm for Mining Patterns From Event Logs": a term is
frequent at its place if enough texts have it there; texts with the same frequent terms are one group.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from trailhawk.errors import BindingError
from trailhawk.kql import syntax
from trailhawk.kql.operators.registry import step
from trailhawk.kql.operators.shared import HasProperties, carried, refs, scope_of
from trailhawk.kql.plan import Apply, Frame, Node, OutColumn, Project
from trailhawk.kql.records import replace
from trailhawk.kql.scope import Env
from trailhawk.kql.types import KqlType

if TYPE_CHECKING:
    from trailhawk.kql.binder import Binder

_T = KqlType
_THRESHOLD = 0.1
_OTHERS = "others"
_SEPARATORS = re.compile(r"([^0-9A-Za-z])")


def _split(text: str, separators: re.Pattern[str]) -> list[str]:
    """Terms at even places, the separators between them at odd ones."""
    return separators.split(text)


def patterns(texts: Sequence[str], threshold: float, characters: str) -> list[str]:
    """The pattern of each text, 'others' for what no group has room for.

    A group has more than `threshold` of the texts. `characters` separate terms, if not everything that is
    neither letter nor digit; those given separate no more where a term is left open.
    """
    separators = re.compile(f"([{re.escape(characters)}])") if characters else _SEPARATORS
    least = threshold * len(texts)
    parts = [_split(text, separators) for text in texts]
    counts = Counter((place, term) for terms in parts for place, term in enumerate(terms[::2]) if term)
    shown = [
        _pattern(terms, [counts[place, term] > least for place, term in enumerate(terms[::2])], characters)
        for terms in parts
    ]
    sizes = Counter(shown)
    return [text if text != _OTHERS and sizes[text] > least else _OTHERS for text in shown]


def _pattern(terms: Sequence[str], frequent: Sequence[bool], characters: str) -> str:
    """The text with `*` for what is not frequent; empty terms between separators stay."""
    known = [is_frequent or not term for term, is_frequent in zip(terms[::2], frequent, strict=True)]
    if not any(frequent):
        return _OTHERS
    pieces: list[str] = []
    for place, piece in enumerate(terms):
        if place % 2 == 0:
            pieces.append(piece if known[place // 2] else "*")
        elif characters and not (known[place // 2] and known[place // 2 + 1]):
            pieces.append("*")
        else:
            pieces.append(piece)
    return re.sub(r"\*+", "*", "".join(pieces))


def grouped(texts: Iterable[str], found: Iterable[str]) -> dict[str, tuple[int, str]]:
    """For each pattern: how many texts it has, and one of them; the others have none to stand for them."""
    groups: dict[str, tuple[int, str]] = {}
    for text, pattern in zip(texts, found, strict=True):
        count, first = groups.get(pattern, (0, "" if pattern == _OTHERS else text))
        groups[pattern] = (count + 1, first)
    return dict(sorted(groups.items(), key=lambda item: (item[0] == _OTHERS, -item[1][0], item[0])))


@step(syntax.Reduce)
def reduce(binder: Binder, node: Node, operator: syntax.Reduce, env: Env) -> Node:
    """A row for each group of similar texts; with kind=source each row with its group."""
    of = operator.value.value if isinstance(operator.value, syntax.Named) else operator.value
    bound = binder.scalars.bind(of, scope_of(node, env))
    value = binder.scalars.convert(bound, _T.STRING, of.span)
    options = _options(binder, operator, env)
    threshold, characters = options.get("threshold", _THRESHOLD), options.get("characters", "")
    if isinstance(threshold, str) or not 0 <= threshold <= 1:
        raise BindingError("the threshold of reduce is a number from 0 to 1", operator.span)
    share, separators = float(threshold), str(characters)
    kind = options.get("kind")
    if kind not in (None, "source"):
        raise BindingError(f"there is no kind of reduce '{kind}'", operator.span, hint="source")
    text = OutColumn(binder.new_id(), "", _T.STRING)
    names = (("Pattern", _T.STRING), ("Count", _T.LONG), ("Representative", _T.STRING))
    fresh = tuple(OutColumn(binder.new_id(), name, type_) for name, type_ in names)
    passed = node.columns if kind == "source" else carried(binder, node)
    given = Project((*passed, text), node, (*refs(passed), value))
    own = tuple(replace(column, id=binder.new_id()) for column in passed)
    width = len(carried(binder, node))
    parts = [passed.index(column) for column in carried(binder, node)]

    def run(inputs: tuple[Frame, ...]) -> list[list[object]]:
        rows = inputs[0].rows()
        by_part: dict[tuple[object, ...], list[tuple[object, ...]]] = {}
        for row in rows:
            by_part.setdefault(tuple(row[place] for place in parts), []).append(row)
        result: list[tuple[object, ...]] = []
        for part, members in by_part.items():
            texts = [str(row[-1]) for row in members]
            found = patterns(texts, share, separators)
            groups = grouped(texts, found)
            if kind == "source":
                result += [
                    (*row[:-1], pattern, *groups[pattern])
                    for row, pattern in zip(members, found, strict=True)
                ]
            else:
                result += [(*part, pattern, *sizes) for pattern, sizes in groups.items()]
        width_all = len(own) + len(fresh)
        return [[row[place] for row in result] for place in range(width_all)]

    applied = Apply((*own, *fresh), (given,), (given.columns,), run, "reduce")
    if kind == "source" or not width:
        return applied
    kept = (*fresh, *own)
    return Project(kept, applied, refs(kept))


def _options(binder: Binder, operator: HasProperties, env: Env) -> dict[str, float | str]:
    """reduce's options by name, their values constants."""
    found: dict[str, float | str] = {}
    for item in operator.properties:
        if isinstance(item.value, syntax.Name) and item.name == "kind":
            found["kind"] = item.value.text
            continue
        value = binder.scalars.constant(item.value, env, f"reduce's {item.name}").value
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise BindingError(f"reduce's {item.name} is a number or a text", item.span)
        found[item.name.lower()] = value
    return found
