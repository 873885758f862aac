"""What is written out of the habit of other languages, or by a slip, with what KQL has for it."""

from __future__ import annotations

from collections.abc import Sequence

from trailhawk.kql.lexer import BAD, END, HEX, LONG, NAME, NEGATED, REAL, STRING, TIMESPAN, TYPED
from trailhawk.kql.parser.words import INFIX

_GROUPED = "rows are grouped with 'summarize ... by ...'"
_CHOSEN = "columns are chosen with 'project'"
OPERATORS_ELSEWHERE = {
    "select": _CHOSEN,
    "fields": _CHOSEN,
    "columns": _CHOSEN,
    "table": _CHOSEN,
    "group": _GROUPED,
    "groupby": _GROUPED,
    "stats": _GROUPED,
    "aggregate": _GROUPED,
    "having": "write 'where' behind 'summarize'",
    "eval": "columns are computed with 'extend'",
    "drop": "columns are left out with 'project-away'",
    "rename": "columns are renamed with 'project-rename New = Old'",
    "dedup": "rows are told apart with 'distinct', or 'summarize take_any(*) by ...'",
    "rex": "texts are taken apart with 'parse', or extract()",
    "spath": "JSON is read with parse_json()",
    "head": "rows are taken with 'take'",
    "tail": "the last rows are 'sort by ... desc | take ...'",
    "offset": "rows can be numbered with row_number() and chosen with 'where'",
    "skip": "rows can be numbered with row_number() and chosen with 'where'",
    "orderby": "did you mean 'order by'?",
    "sortby": "did you mean 'sort by'?",
}
"""Operators of SQL, Splunk's language and pandas, with KQL's."""

_CHOICE = "a choice is iff(condition, value, otherwise) or case(...)"
_TABLE_FIRST = "KQL begins with the table: Table | where ... | project ..."
_LIKE = "use 'contains', 'startswith' or 'matches regex'"
_COMMENT = "a comment begins with //"
_WORDS = {
    "is": "use isnull() or isempty()",
    "like": _LIKE,
    "ilike": _LIKE,
    "rlike": _LIKE,
    "when": _CHOICE,
    "then": _CHOICE,
    "descending": "did you mean 'desc'?",
    "ascending": "did you mean 'asc'?",
    "group": "write 'by' without 'group'",
}
_CHARACTERS = {
    "&": "'&&' is written 'and'",
    "~": "without regard to case is '=~'",
    "?": f"{_CHOICE}; what takes the place of null coalesce(value, otherwise)",
    "#": _COMMENT,
    "!": "'not' is a function: not(...)",
} | dict.fromkeys("“”‘’„«»", "a text stands in straight quotes")
_TESTS = frozenset({"isnull", "isempty", "isnotnull", "isnotempty", "notnull", "notempty"})
_LISTS = frozenset(
    {"project", "extend", "distinct", "summarize", "print", "sort", "order", "by", "union"}
    | {f"project-{kind}" for kind in ("away", "keep", "rename", "reorder")}
)
"""Operators that take several things with commas between them."""
_VALUES = frozenset({NAME, STRING, LONG, HEX, REAL, TIMESPAN, TYPED})


def habit(words: Sequence[str], kinds: Sequence[str], at: int) -> str:
    """A hint for the token at this place, which cannot stand there; '' where nothing is known of it."""
    word, kind = words[at], kinds[at]
    lower, before = word.lower(), words[at - 1] if at else ""
    following = words[at + 1] if at + 1 < len(words) else ""
    if kind == BAD:
        return _character(word, following)
    if (before, word) in (("-", "-"), ("/", "*")):
        return _COMMENT
    step = _step(words, at)
    if step and step[0].lower() == "select" and kind != END:
        return _TABLE_FIRST
    if lower == "not" and following in NEGATED:
        return f"did you mean '!{following}'?"
    if before.lower() == "not" and kind == NAME:
        return "'not' is a function: not(...)"
    if before in _TESTS and kind == NAME:
        return f"it is a function: {before}(...)"
    if lower in _WORDS and kind == NAME:
        return _WORDS[lower]
    if lower != word and lower in INFIX:
        return f"did you mean '{lower}'?"
    if word == "as" and step and step[0] in _LISTS:
        return "a name stands before its value: Name = value"
    if before == "distinct" and step and step[0] == "summarize":
        return "different values are counted with dcount() or count_distinct()"
    if word == "/" and (before in INFIX or before in ("=~", "regex")):
        return "a regular expression is a text: matches regex @'...'"
    if before == "," and (word == "," or kind == END):
        return "there is a ',' too many"
    if word == "by" and before == ",":
        return "there is a ',' too many before 'by'"
    if word in INFIX and kind == NAME and before in ("or", "and", "("):
        return f"'{word}' has nothing on its left: the column is written again"
    return ""


def left_out(words: Sequence[str], kinds: Sequence[str], at: int) -> str:
    """What may be missing before the token at this place, which cannot stand there; '' where nothing is."""
    word, step = words[at], _step(words, at)
    if not step:
        return ""
    ends_value = kinds[at - 1] in _VALUES or words[at - 1] in (")", "]")
    if kinds[at] in _VALUES and ends_value:
        if step[0] == "let":
            return "did you forget the ';' before it?"
        if step[0] in _LISTS:
            return "did you forget a ','?"
    if word == "," and len(step) == 1:
        return "several tables are one with 'union A, B'"
    if word == "," and step[0] in ("take", "limit"):
        return "one number of rows is taken, from any place"
    if word == "(" and step[-1] == "count":
        return "as an operator 'count' takes nothing"
    return ""


def _character(word: str, following: str) -> str:
    if word == "!" and following in _NEAR_NEGATED:
        return f"did you mean '!{_NEAR_NEGATED[following]}'?"
    if word.isalpha():
        return "a name with other letters than A to Z is written ['name']"
    return _CHARACTERS.get(word, "")


_NEAR_NEGATED = {
    "contain": "contains",
    "include": "contains",
    "includes": "contains",
    "startwith": "startswith",
    "starts": "startswith",
    "endwith": "endswith",
    "ends": "endswith",
    "like": "contains",
}


def _step(words: Sequence[str], at: int) -> Sequence[str]:
    """The words before this place, from the last '|' or ';' on."""
    start = at
    while start and words[start - 1] not in ("|", ";"):
        start -= 1
    return words[start:at]
