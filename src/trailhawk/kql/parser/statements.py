"""Statements and the query they make."""

from __future__ import annotations

from trailhawk.errors import KqlSyntaxError, Span
from trailhawk.kql import syntax
from trailhawk.kql.lexer import END, NAME
from trailhawk.kql.parser.limits import MAX_PROBLEMS
from trailhawk.kql.parser.operators import Operators
from trailhawk.kql.parser.words import INFIX
from trailhawk.kql.syntax import Expr


class Statements(Operators):
    """Reads statements, functions and the query as a whole."""

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
        self.need("=", hint="write let name = value;")
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
