"""Regular expressions: those of KQL as the engine's RE2 takes them.

KQL's syntax has a few ways of writing that RE2 has not: groups named `(?<name>x)`, characters as `\\u00e9` or
`\\u{e9}`, the flag `x` (white space and comments are no part of the pattern) and the flag `u`. What RE2 would
read as something else is refused: classes computed from others, and edges of words of one side.
"""

from __future__ import annotations

import re
from functools import lru_cache

from sqlglot import exp

from trailhawk.errors import UnsupportedError
from trailhawk.kql.functions import sql
from trailhawk.kql.functions.registry import Sql

MOST_GROUPS = 9
"""Groups that the engine knows by number; those beyond it only by names that it is given."""
_OTHER_SYNTAX = re.compile(
    r"\(\?<|\\[uU]|\(\?[A-Za-z-]*(?:[xu]|\)[*+?{])|&&|--|~~|\[[^[]*\[|\\[<>]|\\b\{[a-z]", re.DOTALL
)
_PIECE = re.compile(
    r"""
      \\Q.*?(?:\\E|$)
    | \\[uU]\{(?P<braced>[0-9A-Fa-f]{1,8})\} | \\u(?P<short>[0-9A-Fa-f]{4}) | \\U(?P<long>[0-9A-Fa-f]{8})
    | (?P<edge>\\[<>]|\\b\{[a-z-]+\})
    | (?P<times>[*+?]|\{\d+(?:,\d*)?\})
    | \\.
    | \[:\^?\w+:\]
    | \(\?<(?P<name>[A-Za-z_]\w*)>
    | \(\?(?P<on>[A-Za-z]*)(?P<off>-[A-Za-z]+)?(?P<end>[:)])
    | .
    """,
    re.DOTALL | re.VERBOSE,
)

_SEARCHED = re.compile(r"\^?[^\\.+*?()|\[\]{}^$]*\$?")
"""A text and where it stands: of such a pattern the engine makes a search for the text."""
_OF_NOTHING = re.compile(r"(?![*+?]|\{\d).*\(\?", re.DOTALL)
"""What may have a group of nothing, `(?:)`, beside which the engine sees an edge of the text where none is,
but not where a group captures. What begins as no expression may is left out: it has to be refused still."""
_STEP = re.compile(
    r"""
    (?: (?P<character> \\[dDsSwWnrtafv] | \\x(?:\{[0-9A-Fa-f]+\}|[0-9A-Fa-f]{2}) | \\[pP](?:\{\^?\w+\}|\w)
                     | \\[^A-Za-z0-9] | [^\\.+*?()|\[\]{}^$] | \.
                     | \[\^?\]?(?:\[:\^?\w+:\]|\\.|[^\]\\])*\] )
      | (?P<place> [\^$] | \\[AbBz] | \(\?[A-Za-z-]+\)(?![*+?{]) )
      | (?P<opened> \((?:\?P<\w+>|\?[A-Za-z-]*:|(?!\?)) ) | (?P<closed> \) ) | (?P<other> \| )
    )
    (?P<times> [*+?]\?? | \{\d+(?:,\d*)?\}\?? )?
    """,
    re.DOTALL | re.VERBOSE,
)


def matches(source: Sql, pattern: Sql | str, *, fold: bool = False) -> Sql:
    """Does the pattern, in RE2's syntax, match anywhere in the source? With `fold` without regard to case.

    The engine computes what cannot fail once for each text of a column's dictionary. It holds that to match
    may fail and to extract may not, which so takes a tenth of the time where texts repeat.
    """
    known = pattern if isinstance(pattern, str) else sql.string_value(pattern)
    options = ["i"] if fold else []
    if known is None or not takes_a_character(known) or (not fold and _SEARCHED.fullmatch(known)):
        seen = f"(){known}" if known is not None and _OF_NOTHING.match(known) else pattern
        return sql.call("regexp_matches", source, seen, *options)
    found = sql.call("regexp_extract", source, pattern, 0, *options)
    return sql.binary(exp.NEQ, found, sql.literal(""))


@lru_cache(maxsize=1024)
def takes_a_character(pattern: str) -> bool:
    """Whether all that a pattern of RE2 matches has a character; false, too, where it is not plain."""
    alternatives = [[False]]  # Of the pattern and each group that is open: has it one so far?
    place = 0
    while place < len(pattern):
        step = _STEP.match(pattern, place)
        if step is None:
            return False
        place = step.end()
        if step["opened"]:
            alternatives.append([False])
        elif step["other"]:
            alternatives[-1].append(False)
        else:
            has_one = bool(step["character"])
            if step["closed"]:
                has_one = all(alternatives.pop())
                if not alternatives:
                    return False
            optional = re.match(r"[*?]|\{0*[,}]", step["times"] or "")
            alternatives[-1][-1] |= has_one and not optional
    return len(alternatives) == 1 and all(alternatives[0])


def group(source: Sql, pattern: Sql, number: int) -> Sql:
    """What a capture group of a pattern matches first; group 0 is the whole match."""
    known = regex(pattern)
    if number <= MOST_GROUPS:
        return sql.call("regexp_extract", source, known, number)
    names = [f"g{place}" for place in range(1, number + 1)]
    all_names = exp.Array(expressions=[sql.literal(name) for name in names])
    return sql.field(sql.call("regexp_extract", source, known, all_names), names[-1])


def regex(pattern: Sql) -> Sql:
    """A pattern for the engine; one that is no constant stays as the rows give it."""
    known = sql.string_value(pattern)
    return pattern if known is None else sql.literal(re2(known))


def re2(pattern: str) -> str:
    """The pattern in RE2's syntax: `(?P<n>a)` for `(?<n>a)`, `\\x{e9}` for `\\u00e9`."""
    if not _OTHER_SYNTAX.search(pattern):
        return pattern
    _refuse_computed_classes(pattern)
    shown: list[str] = []
    verbose = [False]  # Of each open group.
    in_class = comment = False
    flagged = -1  # How much there was after the last flags.
    first = 0  # The place of the first piece in the class.
    for found in _PIECE.finditer(pattern):
        piece = found.group()
        if comment:
            comment = "\n" not in piece
        elif verbose[-1] and piece.isspace():
            continue
        elif verbose[-1] and piece == "#" and not in_class:
            comment = True
        elif code := found["braced"] or found["short"] or found["long"]:
            shown.append(rf"\x{{{code}}}")
        elif in_class:
            # A ] that comes first in its class stands for itself.
            in_class = piece != "]" or shown[first:] in ([], ["^"])
            shown.append(piece)
        elif found["edge"]:
            raise UnsupportedError(f"'{piece}' in a regular expression", hint=r"take \b for a word's edge")
        elif found["end"]:
            on, off = found["on"], (found["off"] or "")[1:]
            is_verbose = ("x" in on or verbose[-1]) and "x" not in off
            if found["end"] == ":":
                verbose.append(is_verbose)
            else:
                verbose[-1] = is_verbose
            shown.append(_flags(on, off, found["end"]))
            flagged = len(shown) if found["end"] == ")" else -1
        else:
            if found["times"] and flagged == len(shown):
                raise UnsupportedError(
                    f"'{piece}' in a regular expression, after flags",
                    hint="nothing stands there to be repeated",
                )
            if piece.startswith("("):
                verbose.append(verbose[-1])
            elif piece == ")" and len(verbose) > 1:
                verbose.pop()
            shown.append(f"(?P<{found['name']}>" if found["name"] else piece)
            in_class, first = piece == "[", len(shown)
    return "".join(shown)


def _refuse_computed_classes(pattern: str) -> None:
    """Classes in classes, and what is done with them: `[a-z&&[^b]]`, `[a-z--b]`, `[a-c~~b-d]`."""
    pieces = [found.group() for found in _PIECE.finditer(pattern)]
    depth = start = 0  # How many classes are open, and where the last one's characters begin.
    operation = ""
    for place, piece in enumerate(pieces):
        if piece == "[":
            operation = operation or (piece if depth else "")
            depth, start = depth + 1, place + (2 if pieces[place + 1 : place + 2] == ["^"] else 1)
        elif piece == "]" and depth and place > start:
            depth -= 1
            if depth == 0 and operation:
                raise UnsupportedError(
                    f"'{operation}' in a class of a regular expression",
                    hint=f"name the characters that are left, or write \\{operation[0]} for the sign",
                )
        elif depth and piece in ("&", "-", "~") and pieces[start:place][-1:] == [piece]:
            leads = piece == "-" and set(pieces[start:place]) == {piece}
            operation = operation or ("" if leads else 2 * piece)


def _flags(on: str, off: str, end: str) -> str:
    """The flags that RE2 has; it has no other letters than Unicode's."""
    kept, cleared = (re.sub("[xu]", "", flags) for flags in (on, off))
    if not kept and not cleared:
        return "(?:" if end == ":" else ""
    return f"(?{kept}{f'-{cleared}' if cleared else ''}{end}"
