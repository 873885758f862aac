"""Pipes and their operators."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable
from difflib import get_close_matches
from typing import TypeVar

from trailhawk.errors import KqlSyntaxError, Span, UnsupportedError
from trailhawk.kql import syntax
from trailhawk.kql.lexer import END, NAME, STRING
from trailhawk.kql.parser.cursor import CLOSING, OPENING
from trailhawk.kql.parser.expressions import Expressions
from trailhawk.kql.parser.habits import OPERATORS_ELSEWHERE, habit
from trailhawk.kql.parser.limits import MAX_PROBLEMS
from trailhawk.kql.parser.words import FIND_TYPES, INFIX
from trailhawk.kql.syntax import Expr
from trailhawk.kql.types import KqlType

_Item = TypeVar("_Item")
_ROWS_OF_MVEXPAND = 128
"""Rows that the old spelling of mv-expand makes of one, where it says no limit."""


class Operators(Expressions):
    """Reads pipes and their operators."""

    @abstractmethod
    def statement(self) -> syntax.Statement:
        """A statement inside `macro-expand`, see `Statements`."""

    @abstractmethod
    def parameter(self) -> syntax.Parameter:
        """A column that `scan` declares, as a function its parameters, see `Statements`."""

    # --- pipes ----------------------------------------------------------------------------------------------

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
        is_end = self.kinds[self.at] == END or self.words[self.at] in ("|", ";", ",", *CLOSING)
        if self.found is None or self.depth or is_end or len(self.found) >= MAX_PROBLEMS - 1:
            return
        self.found.append(self.after_expression())
        self.skip_from(start)

    def skip_from(self, start: int) -> None:
        level = 0
        for place in range(start, len(self.words) - 1):
            word = self.words[place]
            if word in OPENING:
                level += 1
            elif word in CLOSING:
                level -= 1
            if level < 0 or (level == 0 and word in ("|", ";") and place >= self.at and place > start):
                self.at = max(place, self.at)
                return
        self.at = len(self.words) - 1

    def after_expression(self) -> KqlSyntaxError:
        word = self.words[self.at]
        if word == "=":
            return self.unexpected("an operator, '|' or ';'", hint="did you mean '=='?")
        if habit(self.words, self.kinds, self.at):
            return self.unexpected("'|' or ';'")
        if word in CLOSING:
            return self.unexpected("'|' or ';'", hint=f"this '{word}' closes nothing")
        if word == "by" and self.is_word("count", -1):
            return self.unexpected("'|' or ';'", hint="did you mean 'summarize count() by ...'?")
        if word in OPERATORS and self.kinds[self.at] == NAME:
            return self.unexpected("'|' or ';'", hint=f"did you forget the '|' before '{word}'?")
        return self.unexpected("'|' or ';'", near=[*INFIX, "by", "on", "asc", "desc"])

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
        method = SOURCES.get(word)
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
        method = OPERATORS.get(self.words[self.at])
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
            touching = self.is_word("|") and self.starts[self.at] == self.ends[self.at - 1]
            hint = "'||' is written 'or'" if touching else "one '|' is enough" if self.is_word("|") else ""
            return self.unexpected("an operator", hint=hint)
        word = self.text[self.starts[self.at] - self.base :][:40]
        word = (re.match(r"[\w-]+", word) or [self.words[self.at]])[0]
        close = get_close_matches(word.lower(), list(OPERATORS), n=1, cutoff=0.6)
        return KqlSyntaxError(
            f"unknown operator '{word}'",
            Span(self.starts[self.at], self.starts[self.at] + len(word)),
            hint=OPERATORS_ELSEWHERE.get(word.lower()) or (f"did you mean '{close[0]}'?" if close else ""),
            code="unknown-operator",
        )

    # --- operators ------------------------------------------------------------------------------------------

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
            kind = self.type_name(FIND_TYPES)
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
        limit = self.row_limit()
        if limit is None and self.words[start] == "mvexpand":
            limit = syntax.Literal(self.span(start), _ROWS_OF_MVEXPAND, KqlType.LONG)
        return syntax.MvExpand(self.span(start), columns, limit, properties)

    def row_limit(self) -> Expr | None:
        """`limit n` of mv-expand and mv-apply; the documentation writes `take n` too."""
        return self.expression() if self.take("limit") or self.take("take") else None

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
        limit = self.row_limit()
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
            identifier = str(self.constant_token().value)
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
        while self.kinds[self.at] == NAME and (self.is_word("=", 1) or self.words[self.at] == "by"):
            properties += self.render_property()
        if self.take("with"):
            self.need("(")
            if not self.is_word(")"):
                properties += self.render_property()
            while self.take(","):
                properties += self.render_property()
            self.need(")")
        return syntax.Render(self.span(start), chart, tuple(properties))

    def render_property(self) -> list[syntax.Property]:
        """`ycolumns=a,b` gives one property for each value."""
        start = self.at
        name = self.any_word("a property")
        if name != "by":
            self.need("=")
        found = []
        while True:
            value = self.expression() if name in syntax.TITLES else self.render_value()
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
        self.need("by", hint="write 'sort by Column desc'")
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
        self.need("by", hint="write 'top 10 by Column'")
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
                low = self.postfix()
                self.need("..")
                high = self.postfix()
            self.need("]")
        self.need("-")
        right = not left and self.take(">")
        direction = "<-" if left else "->" if right else "--"
        return syntax.GraphEdgePattern(self.span(start), name, direction, low, high)

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


_Method = Callable[[Operators, int], syntax.Operator]

SOURCES: dict[str, _Method] = {
    "print": Operators.print_,
    "range": Operators.range_,
    "union": Operators.union,
    "search": Operators.search,
    "find": Operators.find,
    "evaluate": Operators.evaluate,
    "macro-expand": Operators.macro_expand,
}
OPERATORS: dict[str, _Method] = {
    "as": Operators.as_,
    "consume": Operators.consume,
    "count": Operators.count,
    "distinct": Operators.distinct,
    "evaluate": Operators.evaluate,
    "extend": Operators.extend,
    "facet": Operators.facet,
    "filter": Operators.where,
    "find": Operators.find,
    "fork": Operators.fork,
    "getschema": Operators.getschema,
    "graph-mark-components": Operators.graph_mark_components,
    "graph-match": Operators.graph_match,
    "graph-shortest-paths": Operators.graph_match,
    "graph-to-table": Operators.graph_to_table,
    "invoke": Operators.invoke,
    "join": Operators.join,
    "limit": Operators.take_,
    "lookup": Operators.lookup,
    "make-graph": Operators.make_graph,
    "make-series": Operators.make_series,
    "mv-apply": Operators.mv_apply,
    "mvapply": Operators.mv_apply,
    "mv-expand": Operators.mv_expand,
    "mvexpand": Operators.mv_expand,
    "order": Operators.sort,
    "parse": Operators.parse_,
    "parse-kv": Operators.parse_kv,
    "parse-where": Operators.parse_,
    "partition": Operators.partition,
    "__partitionby": Operators.partition,
    "project": Operators.project,
    "project-away": Operators.project_away,
    "project-keep": Operators.project_keep,
    "project-rename": Operators.project_rename,
    "project-reorder": Operators.project_reorder,
    "reduce": Operators.reduce,
    "render": Operators.render,
    "sample": Operators.sample,
    "sample-distinct": Operators.sample_distinct,
    "scan": Operators.scan,
    "search": Operators.search,
    "serialize": Operators.serialize,
    "sort": Operators.sort,
    "summarize": Operators.summarize,
    "take": Operators.take_,
    "top": Operators.top,
    "top-hitters": Operators.top_hitters,
    "top-nested": Operators.top_nested,
    "union": Operators.union,
    "where": Operators.where,
    "assert-schema": Operators.assert_schema,
    "graph-where-edges": Operators.graph_where,
    "graph-where-nodes": Operators.graph_where,
    "project-by-names": Operators.project_by_names,
    "__executeAndCache": Operators.other,
}
