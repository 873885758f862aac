"""Tokens to syntax tree: recursive descent for statements and operators, precedence climbing for expressions.

Reference: https://learn.microsoft.com/kusto/query/ and the grammar Microsoft publishes beside it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from typing import TypeVar

from trailhawk.errors import KqlSyntaxError, LimitError, QueryError, Span, UnsupportedError
from trailhawk.kql import lexer, literals, syntax
from trailhawk.kql.lexer import BAD, END, HEX, LONG, NAME, REAL, STRING, TIMESPAN, TYPED
from trailhawk.kql.syntax import Expr
from trailhawk.kql.types import TYPE_NAMES, KqlType

MAX_DEPTH = 100
"""How deep parentheses, calls and sub-queries may nest."""
MAX_HEIGHT = 400
"""How tall the tree of one expression may grow by long chains such as `a + b + c ...` or `a.b.c ...`."""
MAX_LENGTH = 2_000_000
"""Characters in a query: Kusto's own limit."""
MAX_PROBLEMS = 20
"""How many errors `problems` collects."""

# Which keywords may stand as a name without brackets, found by asking Microsoft's parser.
_ALWAYS_NAMES = """
    __partitionby access alias best_effort bin bool consume count database dataformat
    datetime_pattern declare default distinct edges entity_group evaluate extend facet filter fork
    from getschema graph guid id inline_external_table join kind let limit lookup mvapply mvexpand
    nodes null nulls on optional order output pack parse partition pattern plotly query_parameters
    range reduce regex render restrict scan serialize sort step summarize take top typeof uuid view
    with with_node_id with_source withsource
"""
_NAMES_WHEN_DEFINED = """
    accumulate as by contains datatable earliest externaldata find has in invoke latest materialize
    mdm of print sample search set sql title to toscalar totable verbose viewers where
"""
_KEYWORDS = """
    FALSE False TRUE True accumulate and anomalychart areachart as asc bagexpansion barchart between
    bin_legacy boolean by byte card char columnchart contains contains_cs containscs datascope
    datatable date datetime decimal decodeblocks desc double dynamic earliest endswith endswith_cs
    expandoutput external_data externaldata false find first flags float has has_all has_any has_cs
    hasprefix hasprefix_cs hassuffix hassuffix_cs hotcache in int int16 int32 int64 int8 invoke in~
    isfuzzy kind ladderchart last latest like likecs linechart long materialize mdm nooptimization
    notcontains notcontainscs notlike notlikecs of or others piechart pivotchart print project real
    relaxed sample scatterchart search set simple sql stackedareachart startswith startswith_cs
    string time timechart timeline timepivot timespan title to toscalar totable treemap true uint
    uint16 uint32 uint64 uint8 ulong union uniqueid verbose viewers where with_itemindex
    with_match_id with_source with_step_name withsource
"""
_SIMPLE_NAMES = frozenset(_ALWAYS_NAMES.split())
_DEFINED_NAMES = _SIMPLE_NAMES - {"kind", "withsource", "with_source"} | frozenset(
    _NAMES_WHEN_DEFINED.split()
)
_RESERVED = frozenset(_KEYWORDS.split()) | frozenset(lexer.HYPHENATED)
NO_REFERENCE = _RESERVED - _SIMPLE_NAMES
_NO_DEFINITION = _RESERVED - _DEFINED_NAMES
PIPE_FUNCTIONS = frozenset({"toscalar", "materialize", "totable"})
CALLABLE = PIPE_FUNCTIONS | {"contains", "has", "in", "first", "last"}

# Precedence, weakest first. Only `or`, `and` and arithmetic may be chained without parentheses.
_OR, _AND, _EQUALITY, _RELATION, _SUM, _PRODUCT, _TEXT = range(1, 8)
_TEXT_OPERATORS = {
    name: name
    for word in ("has", "hasprefix", "hassuffix", "contains", "startswith", "endswith")
    for name in (word, f"!{word}", f"{word}_cs", f"!{word}_cs")
} | {
    "=~": "=~",
    "!~": "!~",
    ":": "has",
    "matches": "matches regex",
    "containscs": "contains_cs",
    "notcontains": "!contains",
    "notcontainscs": "!contains_cs",
}
_LISTS = ("in", "!in", "in~", "!in~", "has_any", "has_all")
_LIKE = ("like", "notlike", "likecs", "notlikecs")
INFIX: dict[str, tuple[int, str]] = (
    {"or": (_OR, "or"), "and": (_AND, "and")}
    | {"==": (_EQUALITY, "=="), "!=": (_EQUALITY, "!="), "<>": (_EQUALITY, "!=")}
    | {name: (_EQUALITY, name) for name in (*_LISTS, "between", "!between")}
    | {name: (_RELATION, name) for name in ("<", "<=", ">", ">=")}
    | {name: (_TEXT, name) for name in _LIKE}
    | {name: (_SUM, name) for name in "+-"}
    | {name: (_PRODUCT, name) for name in "*/%"}
    | {name: (_TEXT, op) for name, op in _TEXT_OPERATORS.items()}
)
_AFTER_STAR = frozenset({"==", "and", "or", *_TEXT_OPERATORS})

TRUTH = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_TYPES = TYPE_NAMES | {"int64": KqlType.LONG, "int8": KqlType.BOOL}
_FIND_TYPES = _TYPES | {
    "float": KqlType.REAL,
    "int16": KqlType.INT,
    "int32": KqlType.INT,
    "uint": KqlType.LONG,
    "uint16": KqlType.INT,
    "uint32": KqlType.LONG,
    "uint64": KqlType.LONG,
    "uint8": KqlType.INT,
    "ulong": KqlType.LONG,
}
_FOREIGN = {
    "&": "'&&' is written 'and'",
    "~": "without regard to case is '=~'",
    "AND": "did you mean 'and'?",
    "OR": "did you mean 'or'?",
    "is": "use isnull() or isempty()",
} | dict.fromkeys("“”‘’„«»", "a text stands in straight quotes")
"""What is written in other languages or by word processors, with what KQL has."""
_OPENING = {"(": ")", "[": "]", "{": "}"}
_CLOSING = frozenset(_OPENING.values())

_Item = TypeVar("_Item")


def parse(text: str, *, max_depth: int = MAX_DEPTH, max_length: int = MAX_LENGTH) -> syntax.Query:
    """The tree of a query. Raises KqlSyntaxError where the text is no KQL, LimitError beyond the bounds."""
    _check_length(text, max_length)
    return _guarded(_Parser(text, max_depth).query)


def parse_function(text: str, *, base: int = 0) -> syntax.Function:
    """A stored function: `(parameters) { body }`, or a query, which is one without parameters.

    Its spans count from `base`, so that texts of one compilation can be told apart. Errors as for `parse`.
    """
    _check_length(text, MAX_LENGTH)
    return _guarded(_Parser(text, MAX_DEPTH, base=base).stored_function)


def problems(
    text: str, *, max_depth: int = MAX_DEPTH, max_length: int = MAX_LENGTH
) -> tuple[QueryError, ...]:
    """Everything wrong with a query, in order: after an error reading goes on at the next `|` or `;`."""
    found: list[QueryError] = []
    try:
        _check_length(text, max_length)
        _guarded(_Parser(text, max_depth, found).query)
    except QueryError as error:
        found.append(error)
    return tuple(found)


def _check_length(text: str, max_length: int) -> None:
    if len(text) > max_length:
        raise LimitError(f"a query of {len(text):,} characters; at most {max_length:,} are read")


def _guarded(read: Callable[[], _Item]) -> _Item:
    try:
        return read()
    except RecursionError:
        raise LimitError("the query nests too deep", hint="split it with let statements") from None


class _Parser:
    """One reading of one text. `at` is the place in the tokens; every method reads one thing and moves on.

    `height` is the height of the tallest expression read since it was last set to 0, see `binary`.
    """

    def __init__(
        self, text: str, max_depth: int, found: list[QueryError] | None = None, *, base: int = 0
    ) -> None:
        self.text = text
        tokens = lexer.tokens(text)
        self.kinds = tokens.kinds
        self.words = tokens.texts
        self.base = base
        self.starts = [base + start for start in tokens.starts] if base else tokens.starts
        self.ends = [base + end for end in tokens.ends] if base else tokens.ends
        self.at = 0
        self.depth = 0
        self.max_depth = max_depth
        self.height = 0
        self.found = found

    # --- tokens --------------------------------------------------------------------------------------------

    def span(self, start: int) -> Span:
        """From the token at place `start` to the last one read."""
        return Span(self.starts[start], self.ends[self.at - 1] if self.at > start else self.starts[start])

    def here(self) -> Span:
        return Span(self.starts[self.at], self.ends[self.at])

    def is_word(self, word: str, ahead: int = 0) -> bool:
        place = self.at + ahead
        return place < len(self.words) and self.words[place] == word

    def kind(self, ahead: int = 0) -> str:
        place = self.at + ahead
        return self.kinds[place] if place < len(self.kinds) else END

    def take(self, word: str) -> bool:
        """Read this word if it comes next."""
        if self.words[self.at] == word and self.kinds[self.at] != END:
            self.at += 1
            return True
        return False

    def need(self, *words: str) -> str:
        """Read one of these words; anything else is an error."""
        word = self.words[self.at]
        if word in words and self.kinds[self.at] != END:
            self.at += 1
            return word
        raise self.unexpected(
            " or ".join(f"'{word}'" for word in words), near=words, hint=self.unclosed(words)
        )

    def unexpected(self, wanted: str, *, near: Iterable[str] = (), hint: str = "") -> KqlSyntaxError:
        """The error for the token that comes next."""
        word, kind = self.words[self.at], self.kinds[self.at]
        if kind == BAD:
            found = lexer.bad_token(self.text, self.starts[self.at] - self.base)
            return KqlSyntaxError(found, self.here(), hint=_FOREIGN.get(word, ""))
        hint = hint or _FOREIGN.get(word, "")
        shown = (
            "the end of the query" if kind == END else f"'{word if len(word) < 60 else word[:57] + '...'}'"
        )
        if not hint and kind == NAME and (close := get_close_matches(word[:60], list(near), n=1, cutoff=0.6)):
            hint = f"did you mean '{close[0]}'?"
        return KqlSyntaxError(f"expected {wanted}, found {shown}", self.here(), hint=hint)

    def unclosed(self, words: tuple[str, ...]) -> str:
        """Where one of these closing brackets is missing: the place of the one that it would close."""
        wanted = {opening for opening, closing in _OPENING.items() if closing in words}
        if not wanted or (self.kinds[self.at] != END and self.words[self.at] not in ("|", ";")):
            return ""
        level = 0
        for place in range(self.at - 1, -1, -1):
            word = self.words[place]
            if word in _CLOSING:
                level += 1
            elif word in _OPENING:
                if level == 0 and word in wanted:
                    start = self.starts[place] - self.base
                    line, column = Span(start, start).position(self.text)
                    return f"the '{word}' at {line}:{column} is not closed"
                level -= 1
        return ""

    def enter(self) -> None:
        """One level deeper; every `enter` has its `leave` unless an error ends the reading."""
        self.depth += 1
        if self.depth > self.max_depth:
            raise LimitError(
                f"more than {self.max_depth} levels of nesting",
                self.here(),
                hint="split it with let statements",
            )

    def leave(self) -> None:
        self.depth -= 1
        self.height += 1

    def listed(self, read: Callable[[], _Item]) -> tuple[_Item, ...]:
        """One or more items with commas between."""
        items = [read()]
        while self.take(","):
            items.append(read())
        return tuple(items)

    # --- statements ----------------------------------------------------------------------------------------

    def query(self) -> syntax.Query:
        statements = []
        while True:
            while self.take(";"):
                pass
            if self.kinds[self.at] == END:
                break
            statement = self.recovered(self.statement)
            if statement is not None:
                statements.append(statement)
            if self.kinds[self.at] != END and not self.take(";"):
                self.trailing()
        if not statements and not self.found:
            raise KqlSyntaxError("the query is empty", Span(0, len(self.text)))
        return syntax.Query(Span(0, len(self.text)), tuple(statements))

    def trailing(self) -> None:
        """What stands where a statement should have ended."""
        error = self.after_expression()
        if self.found is None or len(self.found) >= MAX_PROBLEMS - 1:
            raise error
        self.found.append(error)
        start = self.at
        while self.kinds[self.at] != END and self.words[self.at] != ";":
            self.at += 1
        if self.at == start:
            self.at += 1

    def after_expression(self) -> KqlSyntaxError:
        word = self.words[self.at]
        if word == "=":
            return self.unexpected("an operator, '|' or ';'", hint="did you mean '=='?")
        if word in _CLOSING:
            return self.unexpected("'|' or ';'", hint=f"this '{word}' closes nothing")
        if word == "by" and self.is_word("count", -1):
            return self.unexpected("'|' or ';'", hint="did you mean 'summarize count() by ...'?")
        if word in _OPERATORS and self.kinds[self.at] == NAME:
            return self.unexpected("'|' or ';'", hint=f"did you forget the '|' before '{word}'?")
        return self.unexpected("'|' or ';'", near=[*INFIX, "by", "on", "asc", "desc"])

    def recovered(self, read: Callable[[], _Item]) -> _Item | None:
        """Read; where problems are collected, note the error and go to the next `|` or `;` of this level."""
        if self.found is None:
            return read()
        start, depth = self.at, self.depth
        try:
            return read()
        except KqlSyntaxError as error:
            if len(self.found) >= MAX_PROBLEMS - 1:
                raise
            self.found.append(error)
            self.depth = depth
            self.skip_from(start)
            return None

    def recover_rest(self, start: int) -> None:
        """Where problems are collected: what stands between the operator just read and the next `|`."""
        is_end = self.kinds[self.at] == END or self.words[self.at] in ("|", ";", ",", *_CLOSING)
        if self.found is None or self.depth or is_end or len(self.found) >= MAX_PROBLEMS - 1:
            return
        self.found.append(self.after_expression())
        self.skip_from(start)

    def skip_from(self, start: int) -> None:
        level = 0
        for place in range(start, len(self.words) - 1):
            word = self.words[place]
            if word in _OPENING:
                level += 1
            elif word in _CLOSING:
                level -= 1
            if level < 0 or (level == 0 and word in ("|", ";") and place >= self.at and place > start):
                self.at = max(place, self.at)
                return
        self.at = len(self.words) - 1

    def statement(self) -> syntax.Statement:
        word = self.words[self.at]
        if word == "let" and self.starts_name(1):
            return self.let()
        if word == "set" and self.kind(1) == NAME:
            return self.set_option()
        if word == "declare" and self.kind(1) == NAME:
            return self.declare()
        if word == "alias" and self.is_word("database", 1):
            return self.alias()
        if word == "restrict" and self.is_word("access", 1):
            return self.restrict()
        start = self.at
        value = self.pipe()
        return syntax.ExpressionStatement(self.span(start), value)

    def let(self) -> syntax.Let:
        start = self.at
        self.need("let")
        place = self.at
        name = self.simple_name("a name")
        name_span = self.span(place)
        self.need("=")
        value = self.function() if self.is_function() else self.pipe()
        return syntax.Let(self.span(start), name, value, name_span)

    def set_option(self) -> syntax.SetOption:
        start = self.at
        self.need("set")
        name = self.any_word("the name of an option")
        value = self.property_value() if self.take("=") else None
        return syntax.SetOption(self.span(start), name, value)

    def declare(self) -> syntax.Statement:
        start = self.at
        self.need("declare")
        if self.need("query_parameters", "pattern") == "query_parameters":
            self.need("(")
            parameters = self.listed(self.parameter)
            self.need(")")
            return syntax.QueryParameters(self.span(start), parameters)
        name = self.simple_name("a name")
        if not self.take("="):
            return syntax.DeclarePattern(self.span(start), name)
        self.need("(")
        columns = self.listed(self.column)
        self.need(")")
        path = None
        if self.take("["):
            path = self.column()
            self.need("]")
        self.need("{")
        cases = []
        while not self.take("}"):
            cases.append(self.pattern_case())
            self.take(";")
        return syntax.DeclarePattern(self.span(start), name, columns, path, tuple(cases))

    def pattern_case(self) -> syntax.PatternCase:
        start = self.at
        self.need("(")
        values = self.listed(self.literal)
        self.need(")")
        path = None
        if self.take("."):
            self.need("[")
            path = self.literal()
            self.need("]")
        self.need("=")
        place = self.at
        statements, body = self.body()
        function = syntax.Function(self.span(place), (), statements, body)
        return syntax.PatternCase(self.span(start), values, path, function)

    def alias(self) -> syntax.OtherStatement:
        start = self.at
        self.at += 2
        self.simple_name("a name")
        self.need("=")
        self.expression()
        return syntax.OtherStatement(self.span(start), "alias database")

    def restrict(self) -> syntax.OtherStatement:
        start = self.at
        self.at += 2
        self.need("to")
        self.need("(")
        self.listed(self.table)
        self.need(")")
        return syntax.OtherStatement(self.span(start), "restrict access")

    def is_function(self) -> bool:
        """Whether a let's value is `(parameters) {` and not an expression in parentheses."""
        at = self.at + (self.words[self.at] == "view")
        words, kinds = self.words, self.kinds
        if words[at] != "(":
            return False
        if words[at + 1] == ")":
            return True
        if kinds[at + 1] == NAME:
            return words[at + 2] == ":" and (kinds[at + 3] == NAME or words[at + 3] == "(")
        return words[at + 1] == "[" and words[at + 3 : at + 5] == ["]", ":"]

    def function(self) -> syntax.Function:
        start = self.at
        view = self.take("view")
        self.need("(")
        parameters = () if self.is_word(")") else self.listed(self.parameter)
        self.need(")")
        statements, body = self.body()
        return syntax.Function(self.span(start), parameters, statements, body, view)

    def stored_function(self) -> syntax.Function:
        """The whole text as one function."""
        if not self.is_function():
            query = self.query()
            *before, last = query.statements
            if not isinstance(last, syntax.ExpressionStatement):
                raise KqlSyntaxError("the function has no result", last.span, hint="end it with a query")
            return syntax.Function(last.span, (), tuple(before), last.value)
        function = self.function()
        while self.take(";"):
            pass
        if self.kinds[self.at] != END:
            raise self.unexpected("the end of the function")
        return function

    def body(self) -> tuple[tuple[syntax.Statement, ...], Expr | None]:
        self.need("{")
        self.enter()
        statements: list[syntax.Statement] = []
        while not self.is_word("}"):
            statements.append(self.statement())
            if not self.take(";") and not self.is_word("}"):
                raise self.unexpected("'|', ';' or '}'", near=INFIX)
        self.leave()
        self.need("}")
        if statements and isinstance(last := statements[-1], syntax.ExpressionStatement):
            return tuple(statements[:-1]), last.value
        return tuple(statements), None

    def parameter(self) -> syntax.Parameter:
        start = self.at
        name = self.defined_name()
        self.need(":")
        if self.take("("):
            columns, is_open = self.schema_columns()
            return syntax.Parameter(self.span(start), name, None, columns, is_open)
        kind = self.type_name()
        default = self.literal() if self.take("=") else None
        return syntax.Parameter(self.span(start), name, kind, default=default)

    # --- names ---------------------------------------------------------------------------------------------

    def starts_name(self, ahead: int = 0) -> bool:
        return self.kind(ahead) == NAME or (self.is_word("[", ahead) and self.kind(ahead + 1) == STRING)

    def bracketed(self) -> str | None:
        """`['any text']`"""
        if self.words[self.at] == "[" and self.kinds[self.at + 1] == STRING:
            self.at += 1
            name = self.string()
            self.need("]")
            return name
        return None

    def name(self, wanted: str, refused: frozenset[str]) -> str:
        word = self.words[self.at]
        if self.kinds[self.at] == NAME and word not in refused:
            self.at += 1
            return word
        name = self.bracketed()
        if name is not None:
            return name
        if self.kinds[self.at] == NAME:
            raise KqlSyntaxError(
                f"expected {wanted}, found the keyword '{word}'",
                self.here(),
                hint=f"as a name write ['{word}']",
            )
        raise self.unexpected(wanted)

    def simple_name(self, wanted: str) -> str:
        """A name where keywords that could begin something else need brackets."""
        return self.name(wanted, NO_REFERENCE)

    def defined_name(self, wanted: str = "a name") -> str:
        """A name that is being given, before `=` or `:`, where more keywords may stand."""
        return self.name(wanted, _NO_DEFINITION)

    def any_word(self, wanted: str) -> str:
        if self.kinds[self.at] != NAME:
            raise self.unexpected(wanted)
        self.at += 1
        return self.words[self.at - 1]

    def column_name(self) -> syntax.Name:
        start = self.at
        name = self.simple_name("a column")
        return syntax.Name(self.span(start), name)

    def name_or_pattern(self) -> Expr:
        """A column name that may hold wildcards, or `*`."""
        start = self.at
        text = self.pattern()
        if text is None:
            return self.column_name()
        return syntax.Star(self.span(start)) if text == "*" else syntax.NamePattern(self.span(start), text)

    def pattern(self) -> str | None:
        """Touching words and stars read as one, None (and nothing read) where there is no star."""
        place, stars = self.at, 0
        while self.kinds[place] in (NAME, LONG) or self.words[place] == "*":
            if place > self.at and self.starts[place] != self.ends[place - 1]:
                break
            stars += self.words[place] == "*"
            place += 1
        if not stars:
            return None
        text = self.text[self.starts[self.at] - self.base : self.ends[place - 1] - self.base]
        self.at = place
        return text

    def type_name(self, types: dict[str, KqlType] | None = None) -> KqlType:
        types = _TYPES if types is None else types
        kind = types.get(self.words[self.at]) if self.kinds[self.at] == NAME else None
        if kind is None:
            raise self.unexpected("a type", near=types)
        self.at += 1
        return kind

    def column(self) -> syntax.ColumnDecl:
        start = self.at
        name = self.defined_name("a column's name")
        self.need(":")
        kind = self.type_name()
        return syntax.ColumnDecl(self.span(start), name, kind)

    def schema(self) -> tuple[syntax.ColumnDecl, ...]:
        """`(name: type, ...)`; a comma may stand at the end."""
        self.need("(")
        columns = []
        while not self.is_word(")"):
            columns.append(self.column())
            if not self.take(","):
                break
        self.need(")")
        return tuple(columns)

    def schema_columns(self) -> tuple[tuple[syntax.ColumnDecl, ...], bool]:
        """What follows the `(` of a tabular schema: columns, and whether `*` stands among them."""
        columns: list[syntax.ColumnDecl] = []
        is_open = False
        while not self.is_word(")"):
            if self.take("*"):
                is_open = True
            else:
                columns.append(self.column())
            if not self.take(","):
                break
        self.need(")")
        return tuple(columns), is_open

    # --- pipes ---------------------------------------------------------------------------------------------

    def pipe(self) -> Expr:
        """`source | operator | ...`; a source alone is itself."""
        start = self.at
        source: Expr | None = None
        operators: list[syntax.Operator] = []
        read = self.source_operator()
        if read is not None:
            operators.append(read())
        else:
            source = self.expression()
        return self.piped(start, source, operators)

    def piped(self, start: int, source: Expr | None, operators: list[syntax.Operator]) -> Expr:
        words = self.words
        self.recover_rest(start)
        while words[self.at] == "|":
            self.at += 1
            place = self.at
            operator = self.recovered(self.operator)
            if operator is not None:
                operators.append(operator)
                self.recover_rest(place)
            elif words[self.at] not in ("|", ";") and self.kinds[self.at] != END:
                break
        if source is not None and not operators:
            return source
        return syntax.Pipe(self.span(start), source, tuple(operators))

    def source_operator(self) -> Callable[[], syntax.Operator] | None:
        """The method that reads what comes next as a source, if an operator begins here."""
        word = self.words[self.at]
        method = _SOURCES.get(word)
        if method is None or self.kinds[self.at] != NAME:
            return None
        if word in ("range", "evaluate") and not self.starts_name(1):
            return None
        start = self.at

        def read() -> syntax.Operator:
            self.at += 1
            return method(self, start)

        return read

    def sub_pipe(self) -> syntax.Pipe:
        """`operator | operator ...`, the source being the row set at hand."""
        start = self.at
        operators = [self.operator()]
        while self.take("|"):
            operators.append(self.operator())
        return syntax.Pipe(self.span(start), None, tuple(operators))

    def closed_sub_pipe(self) -> syntax.Pipe:
        self.need("(")
        self.enter()
        pipe = self.sub_pipe()
        self.leave()
        self.need(")")
        return pipe

    def operator(self) -> syntax.Operator:
        method = _OPERATORS.get(self.words[self.at])
        if method is None or self.kinds[self.at] != NAME or self.is_hyphenated():
            raise self.unknown_operator()
        self.at += 1
        return method(self, self.at - 1)

    def is_hyphenated(self) -> bool:
        """Whether more of a name touches this keyword: `project-awy` is a slip, not `project -awy`."""
        at = self.at
        return (
            self.words[at + 1] == "-"
            and self.starts[at + 1] == self.ends[at]
            and self.kinds[at + 2] == NAME
            and self.starts[at + 2] == self.ends[at + 1]
        )

    def unknown_operator(self) -> KqlSyntaxError:
        if self.kinds[self.at] != NAME:
            return self.unexpected("an operator", hint="'||' is written 'or'" if self.is_word("|") else "")
        word = self.text[self.starts[self.at] - self.base :][:40]
        word = (re.match(r"[\w-]+", word) or [self.words[self.at]])[0]
        close = get_close_matches(word.lower(), list(_OPERATORS), n=1, cutoff=0.6)
        return KqlSyntaxError(
            f"unknown operator '{word}'",
            Span(self.starts[self.at], self.starts[self.at] + len(word)),
            hint=f"did you mean '{close[0]}'?" if close else "",
            code="unknown-operator",
        )

    def properties(self, *names: str) -> tuple[syntax.Property, ...]:
        """`name=value` for each of these names and every `hint.name=value`, in any order, commas allowed."""
        found: list[syntax.Property] = []
        while True:
            start = self.at
            word = self.words[start]
            if word == "hint" and self.is_word(".", 1) and self.kind(2) == NAME and self.is_word("=", 3):
                word = f"hint.{self.words[start + 2]}"
                self.at += 4
            elif word in names and self.is_word("=", 1):
                self.at += 2
            else:
                return tuple(found)
            value = self.property_value()
            found.append(syntax.Property(self.span(start), word, value))

    def property_value(self) -> Expr:
        start = self.at
        word = self.words[start]
        if (
            self.kinds[start] == NAME
            and word not in TRUTH
            and not (word == "dynamic" and self.is_word("(", 1))
        ):
            self.at += 1
            return syntax.Name(self.span(start), self.words[start])
        name = self.bracketed()
        if name is not None:
            return syntax.Name(self.span(start), name)
        return self.literal()

    def with_properties(self) -> tuple[syntax.Property, ...]:
        """`with (name=value, ...)`, if it is there."""
        if not self.take("with"):
            return ()
        self.need("(")
        found = []
        while not self.is_word(")"):
            found.append(self.property())
            if not self.take(","):
                break
        self.need(")")
        return tuple(found)

    def property(self) -> syntax.Property:
        start = self.at
        name = self.any_word("a property")
        self.need("=")
        value = self.property_value()
        return syntax.Property(self.span(start), name, value)

    # --- expressions ---------------------------------------------------------------------------------------

    def named(self) -> Expr:
        """An expression that may be given a name, `name = value` or `(a, b) = value`."""
        start = self.at
        words = self.words
        if self.kinds[start] == NAME:
            if words[start + 1] != "=":
                return self.binary(_OR)
        elif words[start] == "(":
            if not self.is_name_list():
                return self.binary(_OR)
        elif not (words[start] == "[" and self.kinds[start + 1] == STRING and self.bracketed_equals()):
            return self.binary(_OR)
        names: list[str] = []
        spans: list[Span] = []
        many = self.take("(")
        while True:
            place = self.at
            names.append(self.defined_name())
            spans.append(self.span(place))
            if not (many and self.take(",")):
                break
        if many:
            self.need(")")
        self.need("=")
        value = self.binary(_OR)
        return syntax.Named(self.span(start), tuple(names), value, tuple(spans))

    def bracketed_equals(self) -> bool:
        place = self.at + 2
        while self.kinds[place] == STRING:
            place += 1
        return self.words[place] == "]" and self.words[place + 1] == "="

    def is_name_list(self) -> bool:
        """Whether `(a, b) =` comes next."""
        place = self.at + 1
        while True:
            if self.kinds[place] == NAME:
                place += 1
            elif (
                self.words[place] == "[" and self.kinds[place + 1] == STRING and self.words[place + 2] == "]"
            ):
                place += 3
            else:
                return False
            if self.words[place] == ")":
                return self.words[place + 1] == "="
            if self.words[place] != ",":
                return False
            place += 1

    def expression(self) -> Expr:
        return self.binary(_OR)

    def binary(self, weakest: int) -> Expr:
        """Precedence climbing: reads operators that bind at least as tight as `weakest`.

        A chain of n operators is a tree n high, so its length counts against MAX_HEIGHT; long `and` and `or`
        chains are balanced instead and grow with the logarithm.
        """
        start = self.at
        below = self.height
        self.height = 0
        left = self.unary() if self.words[start] in ("-", "+") else self.postfix()
        tightest = _TEXT
        while True:
            found = INFIX.get(self.words[self.at])
            if found is None:
                break
            level, op = found
            if level < weakest or level > tightest:
                break
            if op == "in" and self.is_word("range", 1):  # make-series ... on x in range(a, b, c)
                break
            if level <= _AND:
                left = self.chain(start, left, level, op)
                tightest = level
                continue
            left = self.infix(start, left, level, op)
            tightest = level if level in (_SUM, _PRODUCT) else level - 1
            self.height += 1
            if self.height > MAX_HEIGHT:
                raise LimitError(
                    f"an expression of more than {MAX_HEIGHT} steps",
                    self.here(),
                    hint="use strcat() or let statements",
                )
        if below > self.height:
            self.height = below
        return left

    def infix(self, start: int, left: Expr, level: int, op: str) -> Expr:
        if op in _LIKE:
            raise UnsupportedError(f"operator '{op}'", self.here(), hint="use 'contains' or 'matches regex'")
        self.at += 1
        if level == _EQUALITY:
            if op in _LISTS:
                return self.in_list(start, left, op)
            if op in ("between", "!between"):
                return self.between(start, left, op)
        elif op == "matches regex":
            self.need("regex")
        right = self.binary(level + 1) if level < _TEXT else self.unary()
        return syntax.Binary(self.span(start), op, left, right)

    def chain(self, start: int, left: Expr, level: int, op: str) -> Expr:
        """`left and b and c ...` as a balanced tree in the same order."""
        terms = [left]
        places = [(start, self.at)]
        while self.take(op):
            place = self.at
            terms.append(self.binary(level + 1))
            places.append((place, self.at))
        self.height += len(terms).bit_length()
        if self.height > MAX_HEIGHT:
            raise LimitError(f"an expression of more than {MAX_HEIGHT} steps", self.here())
        starts = [self.starts[first] for first, _ in places]
        ends = [self.ends[last - 1] for _, last in places]
        while len(terms) > 1:
            odd = len(terms) % 2
            pairs = range(0, len(terms) - 1, 2)
            joined: list[Expr] = [
                syntax.Binary(Span(starts[i], ends[i + 1]), op, terms[i], terms[i + 1]) for i in pairs
            ]
            terms = joined + (terms[-1:] if odd else [])
            starts = starts[::2]
            ends = ends[1::2] + (ends[-1:] if odd else [])
        return terms[0]

    def in_list(self, start: int, left: Expr, op: str) -> Expr:
        self.need("(")
        self.enter()
        items: list[Expr] = [self.pipe()]
        while self.take(","):
            items.append(self.expression())
        self.leave()
        self.close()
        return syntax.InList(self.span(start), op, left, tuple(items))

    def between(self, start: int, left: Expr, op: str) -> Expr:
        self.need("(")
        self.enter()
        low = self.expression()
        self.need("..")
        high = self.expression()
        self.leave()
        self.close()
        return syntax.Between(self.span(start), left, low, high, op == "!between")

    def close(self) -> None:
        """The `)` that ends an expression."""
        if not self.take(")"):
            if self.words[self.at] == "=":
                raise self.unexpected("')'", hint="did you mean '=='?")
            raise self.unexpected("')'", near=INFIX, hint=self.unclosed((")",)))

    def unary(self) -> Expr:
        start = self.at
        op = self.words[start]
        if op == "-" or op == "+":
            self.at += 1
            operand = self.postfix()
            self.height += 1
            return syntax.Unary(self.span(start), op, operand)
        return self.postfix()

    def postfix(self) -> Expr:
        start = self.at
        node = self.primary()
        steps = 0
        while True:
            word = self.words[self.at]
            if word == ".":
                self.at += 1
                node = self.index(start, node) if self.is_index() else self.member(start, node)
            elif word == "[":
                node = self.index(start, node)
            else:
                break
            steps += 1
            self.check_path(steps)
        self.height += steps
        return node

    def check_path(self, steps: int) -> None:
        if steps + self.height > MAX_HEIGHT:
            raise LimitError(f"a path of more than {MAX_HEIGHT} steps", self.here())

    def is_index(self) -> bool:
        """`.[0]` and `.["x"]` are old spellings of the same without the dot."""
        return self.words[self.at] == "["

    def member(self, start: int, target: Expr) -> Expr:
        place = self.at
        name = self.simple_name("a member's name")
        name_span = self.span(place)
        if self.is_word("("):
            args = self.arguments(name)
            return syntax.Call(self.span(start), name, args, name_span, target)
        return syntax.Member(self.span(start), target, name)

    def index(self, start: int, target: Expr) -> Expr:
        self.need("[")
        self.enter()
        index = self.expression()
        self.leave()
        self.need("]")
        return syntax.Index(self.span(start), target, index)

    def primary(self) -> Expr:
        start = self.at
        kind = self.kinds[start]
        if kind == NAME:
            return self.word()
        if kind == STRING:
            value = self.string()
            return syntax.Literal(self.span(start), value, KqlType.STRING)
        if kind in _LITERALS:
            return self.literal_token()
        word = self.words[start]
        if word == "(":
            self.at += 1
            self.enter()
            inner = self.pipe()
            self.leave()
            self.close()
            return inner
        if word == "*" and self.star_stands():
            self.at += 1
            return syntax.Star(self.span(start))
        name = self.bracketed()
        if name is None:
            raise self.unexpected("an expression")
        if self.is_word("("):
            return self.call(start, name)
        return syntax.Name(self.span(start), name)

    def star_stands(self) -> bool:
        """`*` is an operand before a text operator: `where * has "x"`."""
        return self.words[self.at + 1] in _AFTER_STAR

    def word(self) -> Expr:
        """An expression that begins with a word."""
        start = self.at
        word = self.words[start]
        following = self.words[start + 1]
        if word in TRUTH:
            self.at += 1
            return syntax.Literal(self.span(start), TRUTH[word], KqlType.BOOL)
        if following == "(":
            if word == "dynamic":
                return self.dynamic()
            if word == "typeof":
                return self.type_of()
            if word in _ROW_SOURCES:
                return self.rows()
            if word in NO_REFERENCE and word not in CALLABLE:
                raise self.keyword()
            self.at += 1
            return self.call(start, word)
        if word in PIPE_FUNCTIONS and following == "kind":
            self.at += 2
            self.need("=")
            self.need("nooptimization")
            return syntax.Call(
                self.span(start), word, self.arguments(word), Span(self.starts[start], self.ends[start])
            )
        if word in NO_REFERENCE:
            if word in _ROW_SOURCES:
                return self.rows()
            raise self.keyword()
        self.at += 1
        return syntax.Name(self.span(start), word)

    def keyword(self) -> KqlSyntaxError:
        word = self.words[self.at]
        return KqlSyntaxError(
            f"expected an expression, found the keyword '{word}'",
            self.here(),
            hint=f"as a name write ['{word}']",
        )

    def call(self, start: int, name: str) -> syntax.Call:
        """The rest of a call whose name has just been read."""
        name_span = self.span(start)
        args = self.arguments(name)
        return syntax.Call(self.span(start), name, args, name_span)

    def arguments(self, name: str) -> tuple[Expr, ...]:
        self.need("(")
        self.enter()
        args: tuple[Expr, ...] = ()
        if name in PIPE_FUNCTIONS:
            args = (self.pipe(),)
        elif not self.is_word(")"):
            # Not listed(): every frame saved here is one less for each level of nesting.
            several = [self.argument()]
            while self.take(","):
                several.append(self.argument())
            args = tuple(several)
        self.leave()
        self.close()
        return args

    def argument(self) -> Expr:
        start = self.at
        if self.words[start] == "*" and self.words[start + 1] in (",", ")"):
            self.at += 1
            return syntax.Star(self.span(start))
        return self.named()

    def type_of(self) -> syntax.TypeOf:
        start = self.at
        self.at += 2
        if self.words[self.at + 1 : self.at + 2] == [")"]:
            kind = self.type_name()
            self.at += 1
            return syntax.TypeOf(self.span(start), kind)
        columns = self.listed(self.column)
        self.need(")")
        return syntax.TypeOf(self.span(start), None, columns)

    def rows(self) -> Expr:
        """datatable, externaldata"""
        start = self.at
        keyword = self.words[start]
        self.at += 1
        self.properties()
        columns = self.schema()
        self.need("[")
        values = []
        while not self.is_word("]"):
            values.append(self.literal())
            if not self.take(","):
                break
        self.need("]")
        if keyword == "datatable":
            return syntax.DataTable(self.span(start), columns, tuple(values))
        properties = self.with_properties()
        return syntax.ExternalData(self.span(start), columns, tuple(values), properties)

    # --- literals ------------------------------------------------------------------------------------------

    def literal(self) -> Expr:
        """A constant with its sign; anything computed is refused, as Kusto does here."""
        start = self.at
        if self.words[start] in ("-", "+") and self.kinds[start + 1] in (LONG, HEX, REAL, TIMESPAN):
            self.at += 1
            operand = self.literal_token()
            return syntax.Unary(self.span(start), self.words[start], operand)
        if self.kinds[start] == STRING:
            value = self.string()
            return syntax.Literal(self.span(start), value, KqlType.STRING)
        if self.kinds[start] in _LITERALS:
            return self.literal_token()
        if self.words[start] in TRUTH and self.kinds[start] == NAME:
            return self.word()
        if self.words[start] in ("dynamic", "typeof") and self.is_word("(", 1):
            return self.word()
        raise self.unexpected("a literal")

    def string(self) -> str:
        """One text; literals that stand side by side are one."""
        parts = []
        while self.kinds[self.at] == STRING:
            parts.append(lexer.string_value(self.words[self.at], self.here()))
            self.at += 1
        return parts[0] if len(parts) == 1 else "".join(parts)

    def literal_token(self) -> syntax.Literal:
        kind, word = self.kinds[self.at], self.words[self.at]
        span = self.here()
        self.at += 1
        if kind in (LONG, HEX):
            return syntax.Literal(span, self.known(_long(word), word, span), KqlType.LONG)
        if kind == REAL:
            return syntax.Literal(span, float(word), KqlType.REAL)
        if kind == TIMESPAN:
            found = _AMOUNT.fullmatch(word)
            ticks = literals.amount_ticks(found[1], found[2]) if found else None
            return syntax.Literal(span, self.known(ticks, word, span), KqlType.TIMESPAN)
        if not word.endswith(")"):
            raise KqlSyntaxError(f"expected ')' to end {word.partition('(')[0]}(...) on its line", span)
        name, _, body = word[:-1].partition("(")
        return self.typed(name, body.strip(), span)

    def typed(self, name: str, body: str, span: Span) -> syntax.Literal:
        """`datetime(2020-01-01)` and its like."""
        kind = _TYPED[name]
        if len(body) > 1 and body[0] == body[-1] and body[0] in "'\"":
            body = body[1:-1]
        if body == "null":
            return syntax.Literal(span, None, kind)
        value = self.known(READERS[kind](body), f"{name}({body})", span)
        return syntax.Literal(span, value, kind)

    def known(self, value: _Value | None, text: str, span: Span) -> _Value:
        if value is None:
            shown = text if len(text) < 60 else text[:57] + "..."
            raise KqlSyntaxError(f"'{shown}' is no valid value", span)
        return value

    def dynamic(self) -> syntax.Literal:
        start = self.at
        self.at += 2
        value = self.json()
        self.need(")")
        return syntax.Literal(self.span(start), value, KqlType.DYNAMIC)

    def json(self) -> _Json:
        """A JSON value, in which KQL's own literals may stand as well; these become their text."""
        kind, word = self.kinds[self.at], self.words[self.at]
        if kind == STRING:
            return self.string()
        if word == "{" or word == "[":
            self.at += 1
            self.enter()
            value = self.json_object() if word == "{" else self.json_array()
            self.leave()
            return value
        if word in ("-", "+") and self.kinds[self.at + 1] in (LONG, REAL):
            self.at += 1
            number = _number(self.words[self.at])
            self.at += 1
            return -number if word == "-" else number
        if kind in (LONG, REAL):
            self.at += 1
            return _number(word)
        if kind == NAME and (word in TRUTH or word == "null"):
            self.at += 1
            return TRUTH.get(word)
        if kind in _LITERALS:
            return _plain(self.literal_token())
        if word == "dynamic" and self.is_word("(", 1):
            self.at += 2
            self.enter()
            value = self.json()
            self.leave()
            self.need(")")
            return value
        raise self.unexpected("a JSON value")

    def json_object(self) -> _Json:
        members: dict[str, object] = {}
        if self.take("}"):
            return members
        while True:
            if self.kinds[self.at] != STRING:
                raise self.unexpected("a member's name in quotes")
            name = lexer.string_value(self.words[self.at], self.here())
            self.at += 1
            self.need(":")
            members[name] = self.json()
            if not self.take(","):
                break
        self.need("}")
        return members

    def json_array(self) -> _Json:
        if self.take("]"):
            return []
        items: list[object] = list(self.listed(self.json))
        self.need("]")
        return items

    # --- operators: each has read its keyword at place `start` ---------------------------------------------

    def as_(self, start: int) -> syntax.As:
        properties = self.properties()
        name = self.simple_name("a name")
        return syntax.As(self.span(start), name, properties)

    def assert_schema(self, start: int) -> syntax.AssertSchema:
        columns = self.schema()
        return syntax.AssertSchema(self.span(start), columns)

    def consume(self, start: int) -> syntax.Consume:
        properties = self.properties("decodeblocks")
        return syntax.Consume(self.span(start), properties)

    def count(self, start: int) -> syntax.Count:
        name = self.simple_name("a name") if self.take("as") else None
        return syntax.Count(self.span(start), name)

    def distinct(self, start: int) -> syntax.Distinct:
        self.properties()
        star = self.at
        if self.take("*"):
            values: tuple[Expr, ...] = (syntax.Star(self.span(star)),)
        else:
            values = self.listed(self.named)
        return syntax.Distinct(self.span(start), values)

    def evaluate(self, start: int) -> syntax.Evaluate:
        properties = self.properties()
        call = self.plain_call("a plugin")
        columns, is_open = None, False
        if self.take(":"):
            self.need("(")
            columns, is_open = self.schema_columns()
        return syntax.Evaluate(self.span(start), call, columns, properties, is_open)

    def plain_call(self, wanted: str) -> syntax.Call:
        start = self.at
        name = self.simple_name(wanted)
        if not self.is_word("("):
            raise self.unexpected("'('")
        call = self.call(start, name)
        steps = 0
        while self.is_word(".") and self.kind(1) == NAME:
            steps += 1
            self.check_path(steps)
            self.at += 1
            place = self.at
            name = self.simple_name("a function")
            name_span = self.span(place)
            if not self.is_word("("):
                raise self.unexpected("'('")
            args = self.arguments(name)
            call = syntax.Call(self.span(start), name, args, name_span, call)
        return call

    def extend(self, start: int) -> syntax.Extend:
        self.properties()
        values = self.listed(self.named)
        return syntax.Extend(self.span(start), values)

    def facet(self, start: int) -> syntax.Facet:
        self.need("by")
        columns = self.listed(self.entity)
        body = None
        if self.take("with"):
            place = self.at
            if self.is_word("("):
                body = self.closed_sub_pipe()
            else:
                operator = self.operator()
                body = syntax.Pipe(self.span(place), None, (operator,))
        return syntax.Facet(self.span(start), columns, body)

    def entity(self) -> Expr:
        """A column, or a path into one; a `(` after it is not its own."""
        start = self.at
        node: Expr = self.column_name()
        while True:
            self.check_path((self.at - start) // 2)
            if self.take(".") and not self.is_index():
                name = self.simple_name("a member's name")
                node = syntax.Member(self.span(start), node, name)
            elif self.is_word("["):
                node = self.index(start, node)
            else:
                return node

    def find(self, start: int) -> syntax.Find:
        properties = self.properties("withsource", "with_source", "datascope", "isfuzzy")
        tables = self.in_tables()
        properties += self.properties("withsource", "with_source", "datascope", "isfuzzy")
        if properties or tables:
            self.need("where")
        else:
            self.take("where")
        predicate = self.predicate()
        project: tuple[Expr | syntax.ColumnDecl, ...] | None = None
        smart = self.take("project-smart")
        if not smart and self.take("project"):
            project = self.listed(self.find_column)
        away: tuple[Expr, ...] = ()
        if self.take("project-away") or self.take("__projectAway"):
            away = self.listed(self.name_or_pattern)
        return syntax.Find(self.span(start), tables, predicate, project, away, properties, smart)

    def find_column(self) -> Expr | syntax.ColumnDecl:
        start = self.at
        for pack in ("pack", "pack_all"):
            if self.is_word(pack) and self.is_word("(", 1):
                self.at += 1
                return self.call(start, pack)
        name = self.defined_name("a column")
        if self.take(":"):
            kind = self.type_name(_FIND_TYPES)
            return syntax.ColumnDecl(self.span(start), name, kind)
        return syntax.Name(self.span(start), name)

    def in_tables(self) -> tuple[Expr, ...]:
        """`in (table, ...)` of search and find, if it is there."""
        if not (self.is_word("in") and self.is_word("(", 1)):
            return ()
        self.at += 2
        self.enter()
        tables = self.listed(self.table)
        self.leave()
        self.need(")")
        return tables

    def predicate(self) -> Expr:
        """An expression, or `*` for everything."""
        start = self.at
        if self.is_word("*") and not self.star_stands():
            self.at += 1
            return syntax.Star(self.span(start))
        return self.expression()

    def table(self) -> Expr:
        """A table by name, wildcard or path, a call, or a pipe in parentheses."""
        start = self.at
        text = self.pattern()
        if text is not None:
            return (
                syntax.Star(self.span(start)) if text == "*" else syntax.NamePattern(self.span(start), text)
            )
        if not self.starts_name() and not self.is_word("("):
            raise self.unexpected("a table")
        node = self.primary()
        while self.is_word(".") or self.is_word("["):
            self.check_path((self.at - start) // 2)
            if self.take(".") and not self.is_index():
                text = self.pattern()
                node = (
                    self.member(start, node) if text is None else syntax.Member(self.span(start), node, text)
                )
            else:
                node = self.index(start, node)
        return node

    def fork(self, start: int) -> syntax.Fork:
        branches = [self.branch()]
        while self.is_word("(") or self.starts_name():
            branches.append(self.branch())
        return syntax.Fork(self.span(start), tuple(branches))

    def branch(self) -> syntax.ForkBranch:
        start = self.at
        name = None
        if not self.is_word("("):
            name = self.simple_name("'('")
            self.need("=")
        body = self.closed_sub_pipe()
        return syntax.ForkBranch(self.span(start), name, body)

    def getschema(self, start: int) -> syntax.GetSchema:
        return syntax.GetSchema(self.span(start))

    def invoke(self, start: int) -> syntax.Invoke:
        call = self.plain_call("a function")
        return syntax.Invoke(self.span(start), call)

    def join(self, start: int) -> syntax.Join:
        properties = self.properties("kind", "withsource", "with_source")
        right = self.right_side()
        keys: tuple[Expr, ...] = ()
        if self.take("on"):
            keys = self.listed(self.expression)
        elif self.take("where"):
            raise UnsupportedError(
                "join with 'where' in place of 'on'", Span(self.starts[self.at - 1], self.ends[self.at - 1])
            )
        return syntax.Join(self.span(start), right, keys, properties)

    def lookup(self, start: int) -> syntax.Lookup:
        properties = self.properties("kind")
        right = self.right_side()
        self.need("on")
        keys = self.listed(self.expression)
        return syntax.Lookup(self.span(start), right, keys, properties)

    def right_side(self) -> Expr:
        if not self.starts_name() and not self.is_word("("):
            raise self.unexpected("a table or a query in parentheses")
        return self.postfix()

    def macro_expand(self, start: int) -> syntax.MacroExpand:
        self.properties("kind", "isfuzzy")
        if self.is_word("entity_group") and self.is_word("[", 1):
            self.at += 2
            self.listed(self.table)
            self.need("]")
        else:
            self.table()
        self.need("as")
        self.simple_name("a name")
        self.need("(")
        self.enter()
        while not self.is_word(")"):
            self.statement()
            if not self.take(";"):
                break
        self.leave()
        self.need(")")
        return syntax.MacroExpand(self.span(start))

    def make_series(self, start: int) -> syntax.MakeSeries:
        properties = self.properties("kind")
        columns = self.listed(self.series_column)
        self.need("on")
        axis = self.named()
        begin = end = None
        in_range = self.take("in")
        if in_range:
            self.need("range")
            self.need("(")
            begin = self.expression()
            self.need(",")
            end = self.expression()
            self.need(",")
            step = self.expression()
            self.need(")")
        else:
            begin = self.expression() if self.take("from") else None
            end = self.expression() if self.take("to") else None
            self.need("step")
            step = self.expression()
        by = self.listed(self.named) if self.take("by") else ()
        return syntax.MakeSeries(self.span(start), columns, axis, begin, end, step, by, in_range, properties)

    def series_column(self) -> syntax.MakeSeriesColumn:
        start = self.at
        value = self.named()
        default = None
        if self.take("default"):
            self.need("=")
            default = self.expression()
        return syntax.MakeSeriesColumn(self.span(start), value, default)

    def mv_expand(self, start: int) -> syntax.MvExpand:
        properties = self.properties("bagexpansion", "kind", "with_itemindex")
        columns = self.listed(self.mv_column)
        limit = self.expression() if self.take("limit") else None
        return syntax.MvExpand(self.span(start), columns, limit, properties)

    def mv_column(self) -> syntax.MvColumn:
        start = self.at
        value = self.named()
        to = None
        if self.take("to"):
            self.need("typeof")
            self.need("(")
            to = self.type_name()
            self.need(")")
        return syntax.MvColumn(self.span(start), value, to)

    def mv_apply(self, start: int) -> syntax.MvApply:
        properties = self.properties("bagexpansion", "kind", "with_itemindex")
        columns = self.listed(self.mv_column)
        limit = self.expression() if self.take("limit") else None
        if self.take("id"):
            self.literal()
        self.need("on")
        body = self.closed_sub_pipe()
        return syntax.MvApply(self.span(start), columns, limit, body, properties)

    def parse_(self, start: int) -> syntax.Parse:
        where = self.words[start] == "parse-where"
        properties = self.properties("kind", "flags")
        value = self.expression()
        self.need("with")
        parts = []
        while self.kinds[self.at] == STRING or self.is_word("*") or self.starts_name():
            parts.append(self.parse_part())
        return syntax.Parse(self.span(start), value, tuple(parts), where, properties)

    def parse_part(self) -> syntax.ParsePart:
        start = self.at
        if self.take("*"):
            return syntax.ParsePart(self.span(start))
        if self.kinds[start] == STRING:
            text = self.string()
            return syntax.ParsePart(self.span(start), syntax.Literal(self.span(start), text, KqlType.STRING))
        name = self.simple_name("a column")
        kind = self.type_name() if self.take(":") else None
        return syntax.ParsePart(self.span(start), None, name, kind)

    def parse_kv(self, start: int) -> syntax.ParseKv:
        value = self.expression()
        self.need("as")
        columns = self.schema()
        properties = self.with_properties()
        return syntax.ParseKv(self.span(start), value, columns, properties)

    def partition(self, start: int) -> syntax.Partition:
        properties = self.properties()
        if self.words[start] == "partition":
            self.need("by")
        by = self.entity()
        identifier = None
        if self.words[start] != "partition" and self.take("id"):
            identifier = str(self.literal_token().value)
        standalone = self.is_word("{")
        if not standalone:
            body = self.closed_sub_pipe()
        else:
            self.at += 1
            self.enter()
            place = self.at
            value = self.pipe()
            body = value if isinstance(value, syntax.Pipe) else syntax.Pipe(self.span(place), value, ())
            self.leave()
            self.need("}")
        return syntax.Partition(self.span(start), by, body, properties, identifier, standalone)

    def print_(self, start: int) -> syntax.Print:
        values = self.listed(self.named)
        return syntax.Print(self.span(start), values)

    def project(self, start: int) -> syntax.Project:
        values = () if self.ends_here() else self.listed(self.named)
        return syntax.Project(self.span(start), values)

    def ends_here(self) -> bool:
        """Whether this operator has ended: `project` and its kin may name no column."""
        return self.kinds[self.at] == END or self.words[self.at] in ("|", ";", ")", "}")

    def project_away(self, start: int) -> syntax.ProjectAway:
        columns = () if self.ends_here() else self.listed(self.name_or_pattern)
        return syntax.ProjectAway(self.span(start), columns)

    def project_by_names(self, start: int) -> syntax.ProjectByNames:
        values = () if self.ends_here() else self.listed(self.expression)
        return syntax.ProjectByNames(self.span(start), values)

    def project_keep(self, start: int) -> syntax.ProjectKeep:
        columns = () if self.ends_here() else self.listed(self.name_or_pattern)
        return syntax.ProjectKeep(self.span(start), columns)

    def project_rename(self, start: int) -> syntax.ProjectRename:
        values = () if self.ends_here() else self.listed(self.named)
        return syntax.ProjectRename(self.span(start), values)

    def project_reorder(self, start: int) -> syntax.ProjectReorder:
        columns = () if self.ends_here() else self.listed(self.reordered)
        return syntax.ProjectReorder(self.span(start), columns)

    def reordered(self) -> tuple[Expr, str | None]:
        column = self.name_or_pattern()
        for order in ("asc", "desc", "granny-asc", "granny-desc"):
            if self.take(order):
                return column, order
        return column, None

    def range_(self, start: int) -> syntax.RangeSource:
        name = self.simple_name("a column")
        self.need("from")
        begin = self.expression()
        self.need("to")
        end = self.expression()
        self.need("step")
        step = self.expression()
        return syntax.RangeSource(self.span(start), name, begin, end, step)

    def reduce(self, start: int) -> syntax.Reduce:
        properties = self.properties("kind")
        self.need("by")
        value = self.named()
        if self.take("with"):
            properties += self.listed(self.property)
        return syntax.Reduce(self.span(start), value, properties)

    def render(self, start: int) -> syntax.Render:
        if self.kinds[self.at] != NAME:
            raise self.unexpected("a chart")
        chart = self.words[self.at]
        self.at += 1
        properties: list[syntax.Property] = []
        if self.take("with"):
            self.need("(")
            while not self.is_word(")"):
                properties += self.render_property()
                if not self.take(","):
                    break
            self.need(")")
        else:
            while self.kinds[self.at] == NAME and (
                self.is_word("=", 1) or self.words[self.at] in ("by", "with")
            ):
                properties += self.render_property()
        return syntax.Render(self.span(start), chart, tuple(properties))

    def render_property(self) -> list[syntax.Property]:
        """`ycolumns=a,b` gives one property for each value."""
        start = self.at
        name = self.any_word("a property")
        if name not in ("by", "with"):
            self.need("=")
        found = []
        while True:
            value = self.render_value()
            found.append(syntax.Property(self.span(start), name, value))
            if not (self.is_word(",") and self.starts_name(1) and not self.is_word("=", 2)):
                return found
            self.at += 1

    def render_value(self) -> Expr:
        if (
            self.kinds[self.at] == NAME
            and self.is_word("(", 1)
            and self.words[self.at] not in ("dynamic", "typeof")
        ):
            return self.postfix()
        return self.property_value()

    def sample(self, start: int) -> syntax.Sample:
        self.properties()
        count = self.expression()
        return syntax.Sample(self.span(start), count)

    def sample_distinct(self, start: int) -> syntax.SampleDistinct:
        self.properties()
        count = self.expression()
        self.need("of")
        of = self.named()
        return syntax.SampleDistinct(self.span(start), count, of)

    def scan(self, start: int) -> syntax.Scan:
        properties = self.properties("with_match_id", "with_step_name", "kind")
        order: tuple[syntax.Ordering, ...] = ()
        partition: tuple[Expr, ...] = ()
        declared: tuple[syntax.Parameter, ...] = ()
        if self.take("order"):
            self.need("by")
            order = self.listed(self.ordering)
        if self.take("partition"):
            self.need("by")
            partition = self.listed(self.expression)
        if self.take("declare"):
            self.need("(")
            declared = self.listed(self.parameter)
            self.need(")")
        self.need("with")
        self.need("(")
        steps = []
        while not self.take(")"):
            steps.append(self.step())
        return syntax.Scan(self.span(start), tuple(steps), declared, properties, partition, order)

    def step(self) -> syntax.ScanStep:
        start = self.at
        self.need("step")
        name = self.defined_name("a step's name")
        optional = self.take("optional")
        output = "all"
        if self.take("output"):
            self.need("=")
            output = self.need("all", "last", "none")
        self.need(":")
        condition = self.expression()
        assignments = self.listed(self.assignment) if self.take("=>") else ()
        self.need(";")
        return syntax.ScanStep(self.span(start), name, condition, assignments, optional, output)

    def assignment(self) -> syntax.Named:
        start = self.at
        name = self.defined_name()
        name_span = self.span(start)
        self.need("=")
        value = self.expression()
        return syntax.Named(self.span(start), (name,), value, (name_span,))

    def search(self, start: int) -> syntax.Search:
        properties = self.properties("kind", "datascope")
        tables = self.in_tables()
        predicate = self.predicate()
        return syntax.Search(self.span(start), tables, predicate, properties)

    def serialize(self, start: int) -> syntax.Serialize:
        self.properties()
        values = () if self.ends_here() else self.listed(self.named)
        return syntax.Serialize(self.span(start), values)

    def sort(self, start: int) -> syntax.Sort:
        self.properties()
        self.need("by")
        keys = self.listed(self.ordering)
        return syntax.Sort(self.span(start), keys)

    def ordering(self) -> syntax.Ordering:
        start = self.at
        value = self.named()
        descending = nulls_first = None
        if self.is_word("asc") or self.is_word("desc"):
            descending = self.need("asc", "desc") == "desc"
        if self.take("nulls"):
            nulls_first = self.need("first", "last") == "first"
        return syntax.Ordering(self.span(start), value, descending, nulls_first)

    def summarize(self, start: int) -> syntax.Summarize:
        properties = self.properties()
        values = () if self.is_word("by") or self.ends_here() else self.listed(self.named)
        by: tuple[Expr, ...] = ()
        if self.take("by"):
            by = self.listed(self.named)
            properties += self.properties("bin")
        return syntax.Summarize(self.span(start), values, by, properties)

    def take_(self, start: int) -> syntax.Take:
        self.properties()
        count = self.expression()
        return syntax.Take(self.span(start), count)

    def top(self, start: int) -> syntax.Top:
        self.properties()
        count = self.expression()
        self.need("by")
        by = self.ordering()
        return syntax.Top(self.span(start), count, by)

    def top_hitters(self, start: int) -> syntax.TopHitters:
        count = self.expression()
        self.need("of")
        of = self.named()
        by = self.expression() if self.take("by") else None
        return syntax.TopHitters(self.span(start), count, of, by)

    def top_nested(self, start: int) -> syntax.TopNested:
        levels = [self.level(start)]
        while self.is_word(",") and self.is_word("top-nested", 1):
            self.at += 2
            levels.append(self.level(self.at - 1))
        return syntax.TopNested(self.span(start), tuple(levels))

    def level(self, start: int) -> syntax.TopNestedLevel:
        count = None if self.is_word("of") else self.expression()
        self.need("of")
        of = self.named()
        others = None
        if self.take("with"):
            self.need("others")
            self.need("=")
            others = self.expression()
        self.need("by")
        by = self.ordering()
        return syntax.TopNestedLevel(self.span(start), count, of, by, others)

    def union(self, start: int) -> syntax.Union:
        properties = self.properties(
            "kind",
            "withsource",
            "with_source",
            "isfuzzy",
            "__isFuzzy",
            "__crossDB",
            "__crossCluster",
            "datascope",
        )
        tables = self.listed(self.table)
        return syntax.Union(self.span(start), tables, properties)

    def where(self, start: int) -> syntax.Where:
        self.properties()
        predicate = self.expression()
        return syntax.Where(self.span(start), predicate)

    # --- graphs --------------------------------------------------------------------------------------------

    def make_graph(self, start: int) -> syntax.MakeGraph:
        source = self.column_name()
        self.arrow("--", ">")
        target = self.column_name()
        properties = self.properties("with_node_id")
        nodes: list[tuple[Expr, Expr]] = []
        if self.take("with"):
            nodes = list(self.listed(self.graph_nodes))
        partition, body = None, None
        if self.take("partitioned-by"):
            partition = self.entity()
            body = self.closed_sub_pipe()
        return syntax.MakeGraph(self.span(start), source, target, tuple(nodes), properties, partition, body)

    def graph_nodes(self) -> tuple[Expr, Expr]:
        nodes = self.right_side()
        self.need("on")
        return nodes, self.entity()

    def arrow(self, *parts: str) -> None:
        """These characters, whatever tokens they are."""
        for character in "".join(parts):
            self.need(character)

    def graph_match(self, start: int) -> syntax.GraphMatch:
        shortest = self.words[start] == "graph-shortest-paths"
        properties = self.properties("cycles", "output")
        patterns = self.listed(self.graph_pattern)
        where = self.expression() if self.take("where") else None
        project = self.listed(self.named) if self.take("project") else None
        return syntax.GraphMatch(self.span(start), patterns, where, project, properties, shortest)

    def graph_pattern(self) -> tuple[syntax.GraphNodePattern | syntax.GraphEdgePattern, ...]:
        parts: list[syntax.GraphNodePattern | syntax.GraphEdgePattern] = [self.graph_node()]
        while self.words[self.at] in ("-", "<"):
            parts.append(self.graph_edge())
            parts.append(self.graph_node())
        return tuple(parts)

    def graph_node(self) -> syntax.GraphNodePattern:
        start = self.at
        self.need("(")
        name = None if self.is_word(")") else self.simple_name("a node's name")
        self.need(")")
        return syntax.GraphNodePattern(self.span(start), name)

    def graph_edge(self) -> syntax.GraphEdgePattern:
        start = self.at
        left = self.take("<")
        self.need("-")
        name, low, high = None, None, None
        if self.take("["):
            name = None if self.words[self.at] in ("]", "*") else self.simple_name("an edge's name")
            if self.take("*"):
                low = self.bound()
                self.need("..")
                high = self.bound()
            self.need("]")
        self.need("-")
        right = not left and self.take(">")
        direction = "<-" if left else "->" if right else "--"
        return syntax.GraphEdgePattern(self.span(start), name, direction, low, high)

    def bound(self) -> int:
        if self.kinds[self.at] != LONG:
            raise self.unexpected("a number of steps")
        self.at += 1
        return int(self.words[self.at - 1][:9])

    def graph_mark_components(self, start: int) -> syntax.GraphMarkComponents:
        properties = self.properties("kind", "with_component_id")
        return syntax.GraphMarkComponents(self.span(start), properties)

    def graph_where(self, start: int) -> syntax.GraphWhere:
        predicate = self.expression()
        return syntax.GraphWhere(self.span(start), predicate, self.words[start] == "graph-where-edges")

    def graph_to_table(self, start: int) -> syntax.GraphToTable:
        outputs = self.listed(self.graph_output)
        return syntax.GraphToTable(self.span(start), outputs)

    def graph_output(self) -> syntax.GraphOutput:
        start = self.at
        kind = self.need("nodes", "edges")
        name = self.simple_name("a name") if self.take("as") else None
        properties = self.properties("with_node_id", "with_source_id", "with_target_id")
        return syntax.GraphOutput(self.span(start), kind, name, properties)

    def other(self, start: int) -> syntax.OtherOperator:
        return syntax.OtherOperator(self.span(start), self.words[start])


# --- literals ----------------------------------------------------------------------------------------------

_Json = str | int | float | bool | dict[str, object] | list[object] | None
_Value = bool | int | float | Decimal | str

_LITERALS = frozenset({LONG, HEX, REAL, TIMESPAN, TYPED})
_ROW_SOURCES = frozenset({"datatable", "externaldata", "external_data"})
_AMOUNT = re.compile(r"([0-9.]+)([a-z]+)")
_INTEGER = re.compile(r"([+-]?)(?:0[xX]([0-9a-fA-F]{1,16})|([0-9]{1,20}))")
_GUID = re.compile(
    r"([0-9a-fA-F]{8})-?([0-9a-fA-F]{4})-?([0-9a-fA-F]{4})-?([0-9a-fA-F]{4})-?([0-9a-fA-F]{12})"
)
_REAL = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?|[+-]?\.[0-9]+([eE][+-]?[0-9]+)?")
_TYPED = TYPE_NAMES | {"int32": KqlType.INT, "int64": KqlType.LONG}


def _integer(text: str, bits: int) -> int | None:
    found = _INTEGER.fullmatch(text)
    if found is None:
        return None
    value = int(found[2], 16) if found[2] else int(found[3])
    if found[2] and value >= 2 ** (bits - 1):
        value -= 2**bits  # 0xFFFFFFFFFFFFFFFF is -1
    value = -value if found[1] == "-" else value
    return value if -(2 ** (bits - 1)) <= value < 2 ** (bits - 1) else None


def _long(text: str) -> int | None:
    return _integer(text, 64)


def _int(text: str) -> int | None:
    return _integer(text, 32)


def _real(text: str) -> float | None:
    named = {"nan": "nan", "inf": "inf", "+inf": "inf", "-inf": "-inf"}.get(text.lower())
    return float(named or text) if named or _REAL.fullmatch(text) else None


def _decimal(text: str) -> Decimal | None:
    try:
        return Decimal(text) if _REAL.fullmatch(text) else None
    except InvalidOperation:
        return None


def _bool(text: str) -> bool | None:
    return {"true": True, "false": False, "1": True, "0": False}.get(text.lower())


def _guid(text: str) -> str | None:
    found = _GUID.fullmatch(text)
    return "-".join(found.groups()).lower() if found else None


READERS: dict[KqlType, Callable[[str], _Value | None]] = {
    KqlType.BOOL: _bool,
    KqlType.INT: _int,
    KqlType.LONG: _long,
    KqlType.REAL: _real,
    KqlType.DECIMAL: _decimal,
    KqlType.GUID: _guid,
    KqlType.DATETIME: literals.datetime_ticks,
    KqlType.TIMESPAN: literals.timespan_ticks,
}
"""What the text of a typed literal stands for, None for what is none."""


def _number(text: str) -> int | float:
    value = _long(text)
    return float(text) if value is None else value


def _plain(literal: syntax.Literal) -> _Json:
    """A KQL literal inside a dynamic one, as JSON holds it."""
    value = literal.value
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, int) and literal.type is KqlType.DATETIME:
        return literals.format_datetime(value)
    if isinstance(value, int) and literal.type is KqlType.TIMESPAN:
        return literals.format_timespan(value)
    return value


_Method = Callable[[_Parser, int], syntax.Operator]

_SOURCES: dict[str, _Method] = {
    "print": _Parser.print_,
    "range": _Parser.range_,
    "union": _Parser.union,
    "search": _Parser.search,
    "find": _Parser.find,
    "evaluate": _Parser.evaluate,
    "macro-expand": _Parser.macro_expand,
}
_OPERATORS: dict[str, _Method] = {
    "as": _Parser.as_,
    "consume": _Parser.consume,
    "count": _Parser.count,
    "distinct": _Parser.distinct,
    "evaluate": _Parser.evaluate,
    "extend": _Parser.extend,
    "facet": _Parser.facet,
    "filter": _Parser.where,
    "find": _Parser.find,
    "fork": _Parser.fork,
    "getschema": _Parser.getschema,
    "graph-mark-components": _Parser.graph_mark_components,
    "graph-match": _Parser.graph_match,
    "graph-shortest-paths": _Parser.graph_match,
    "graph-to-table": _Parser.graph_to_table,
    "invoke": _Parser.invoke,
    "join": _Parser.join,
    "limit": _Parser.take_,
    "lookup": _Parser.lookup,
    "make-graph": _Parser.make_graph,
    "make-series": _Parser.make_series,
    "mv-apply": _Parser.mv_apply,
    "mvapply": _Parser.mv_apply,
    "mv-expand": _Parser.mv_expand,
    "mvexpand": _Parser.mv_expand,
    "order": _Parser.sort,
    "parse": _Parser.parse_,
    "parse-kv": _Parser.parse_kv,
    "parse-where": _Parser.parse_,
    "partition": _Parser.partition,
    "__partitionby": _Parser.partition,
    "project": _Parser.project,
    "project-away": _Parser.project_away,
    "project-keep": _Parser.project_keep,
    "project-rename": _Parser.project_rename,
    "project-reorder": _Parser.project_reorder,
    "reduce": _Parser.reduce,
    "render": _Parser.render,
    "sample": _Parser.sample,
    "sample-distinct": _Parser.sample_distinct,
    "scan": _Parser.scan,
    "search": _Parser.search,
    "serialize": _Parser.serialize,
    "sort": _Parser.sort,
    "summarize": _Parser.summarize,
    "take": _Parser.take_,
    "top": _Parser.top,
    "top-hitters": _Parser.top_hitters,
    "top-nested": _Parser.top_nested,
    "union": _Parser.union,
    "where": _Parser.where,
    "assert-schema": _Parser.assert_schema,
    "graph-where-edges": _Parser.graph_where,
    "graph-where-nodes": _Parser.graph_where,
    "project-by-names": _Parser.project_by_names,
    "__executeAndCache": _Parser.other,
}
