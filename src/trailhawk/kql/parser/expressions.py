"""Names and expressions, by precedence climbing."""

from __future__ import annotations

from abc import ABC, abstractmethod

from trailhawk.errors import KqlSyntaxError, LimitError, Span, UnsupportedError
from trailhawk.kql import lexer, literals, syntax
from trailhawk.kql.lexer import HEX, LONG, NAME, REAL, STRING, TIMESPAN
from trailhawk.kql.parser.cursor import Cursor
from trailhawk.kql.parser.habits import habit
from trailhawk.kql.parser.limits import MAX_HEIGHT
from trailhawk.kql.parser.values import (
    AMOUNT,
    LITERALS,
    READERS,
    TYPED_NAMES,
    Json,
    Moment,
    Value,
    json_number,
    json_value,
    long,
    packed,
    time_of_day,
)
from trailhawk.kql.parser.words import (
    AFTER_STAR,
    AND,
    CALLABLE,
    EQUALITY,
    INFIX,
    LIKE,
    LISTS,
    NO_DEFINITION,
    NO_REFERENCE,
    OR,
    PIPE_FUNCTIONS,
    PRODUCT,
    ROW_SOURCES,
    SUM,
    TEXTUAL,
    TRUTH,
    TYPES,
)
from trailhawk.kql.syntax import Expr
from trailhawk.kql.types import KqlType


class Expressions(Cursor, ABC):
    """Reads names, types, expressions and literals."""

    @abstractmethod
    def pipe(self) -> Expr:
        """A query in parentheses, see `Operators`."""

    # --- names ----------------------------------------------------------------------------------------------

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
        return self.name(wanted, NO_DEFINITION)

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
        types = TYPES if types is None else types
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

    # --- expressions ----------------------------------------------------------------------------------------

    def named(self) -> Expr:
        """An expression that may be given a name, `name = value` or `(a, b) = value`."""
        start = self.at
        words = self.words
        if self.kinds[start] == NAME:
            if words[start + 1] != "=":
                return self.binary(OR)
        elif words[start] == "(":
            if not self.is_name_list():
                return self.binary(OR)
        elif not (words[start] == "[" and self.kinds[start + 1] == STRING and self.bracketed_equals()):
            return self.binary(OR)
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
        value = self.binary(OR)
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
        return self.binary(OR)

    def binary(self, weakest: int) -> Expr:
        """Precedence climbing: reads operators that bind at least as tight as `weakest`.

        A chain of n operators is a tree n high, so its length counts against MAX_HEIGHT; long `and` and `or`
        chains are balanced instead and grow with the logarithm.
        """
        start = self.at
        below = self.height
        self.height = 0
        left = self.unary() if self.words[start] in ("-", "+") else self.postfix()
        tightest = TEXTUAL
        while True:
            found = INFIX.get(self.words[self.at])
            if found is None:
                break
            level, op = found
            if level < weakest or level > tightest:
                break
            if op == "in" and self.is_word("range", 1):  # make-series ... on x in range(a, b, c)
                break
            if level <= AND:
                left = self.chain(start, left, level, op)
                tightest = level
                continue
            left = self.infix(start, left, level, op)
            tightest = level if level in (SUM, PRODUCT) else level - 1
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
        if op in LIKE:
            raise UnsupportedError(f"operator '{op}'", self.here(), hint="use 'contains' or 'matches regex'")
        self.at += 1
        if level == EQUALITY:
            if op in LISTS:
                return self.in_list(start, left, op)
            if op in ("between", "!between"):
                return self.between(start, left, op)
        elif op == "matches regex":
            self.need("regex", hint="write 'matches regex'")
        right = self.binary(level + 1) if level < TEXTUAL else self.unary()
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
        self.need("(", hint=f"write {op} (one, other, ...)")
        self.enter()
        items: list[Expr] = [self.pipe()]
        while self.take(","):
            items.append(self.expression())
        self.leave()
        self.close()
        return syntax.InList(self.span(start), op, left, tuple(items))

    def between(self, start: int, left: Expr, op: str) -> Expr:
        self.need("(", hint=f"write {op} (low .. high)")
        self.enter()
        low = self.expression()
        self.need("..", hint=f"write {op} (low .. high)")
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
        if kind in LITERALS:
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
        return self.words[self.at + 1] in AFTER_STAR

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
            if word in ROW_SOURCES:
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
            if word in ROW_SOURCES:
                return self.rows()
            raise self.keyword()
        self.at += 1
        return syntax.Name(self.span(start), word)

    def keyword(self) -> KqlSyntaxError:
        word = self.words[self.at]
        known = habit(self.words, self.kinds, self.at)
        return KqlSyntaxError(
            f"expected an expression, found the keyword '{word}'",
            self.here(),
            hint=known or f"as a name write ['{word}']",
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
        if self.kinds[start] in LITERALS:
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

    def constant_token(self) -> syntax.Literal:
        """A literal whose value is known here, which that of `datetime()` is not."""
        start = self.at
        found = self.literal_token()
        if not isinstance(found, syntax.Literal):
            self.at = start
            raise self.unexpected("a constant")
        return found

    def literal_token(self) -> syntax.Literal | Moment:
        kind, word = self.kinds[self.at], self.words[self.at]
        span = self.here()
        self.at += 1
        if kind in (LONG, HEX):
            return syntax.Literal(span, self.known(long(word), word, span), KqlType.LONG)
        if kind == REAL:
            return syntax.Literal(span, float(word), KqlType.REAL)
        if kind == TIMESPAN:
            found = AMOUNT.fullmatch(word)
            ticks = literals.amount_ticks(found[1], found[2]) if found else None
            return syntax.Literal(span, self.known(ticks, word, span), KqlType.TIMESPAN)
        if not word.endswith(")"):
            raise KqlSyntaxError(f"expected ')' to end {word.partition('(')[0]}(...) on its line", span)
        name, _, body = word[:-1].partition("(")
        return self.typed(name, body.strip(), span)

    def typed(self, name: str, body: str, span: Span) -> syntax.Literal | Moment:
        """`datetime(2020-01-01)` and its like; `datetime()` is the time of the query."""
        kind = TYPED_NAMES[name]
        if kind is KqlType.DATETIME and not body:
            return syntax.Call(span, "now", (), span)
        if len(body) > 1 and body[0] == body[-1] and body[0] in "'\"":
            body = body[1:-1]
        if body == "null":
            return syntax.Literal(span, None, kind)
        value = READERS[kind](body)
        if value is None and kind is KqlType.DATETIME and (moment := time_of_day(body, span)) is not None:
            return moment
        return syntax.Literal(span, self.known(value, f"{name}({body})", span), kind)

    def known(self, value: Value | None, text: str, span: Span) -> Value:
        if value is None:
            shown = text if len(text) < 60 else text[:57] + "..."
            is_moment = text.startswith("date")
            hint = "a moment is written datetime(2024-01-31 10:00), ago(1d) or now()" if is_moment else ""
            raise KqlSyntaxError(f"'{shown}' is no valid value", span, hint=hint)
        return value

    def dynamic(self) -> Expr:
        start = self.at
        self.at += 2
        value = self.json()
        self.need(")")
        return packed(value, self.span(start))

    def json(self) -> Json:
        """A JSON value, in which KQL's own literals may stand as well.

        These become their text, but for `datetime()`, the time of the query: a call gives it.
        """
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
            number = json_number(self.words[self.at])
            self.at += 1
            return -number if word == "-" else number
        if kind in (LONG, REAL):
            self.at += 1
            return json_number(word)
        if kind == NAME and (word in TRUTH or word == "null"):
            self.at += 1
            return TRUTH.get(word)
        if kind in LITERALS:
            return json_value(self.literal_token())
        if word == "dynamic" and self.is_word("(", 1):
            self.at += 2
            self.enter()
            value = self.json()
            self.leave()
            self.need(")")
            return value
        raise self.unexpected("a JSON value")

    def json_object(self) -> Json:
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

    def json_array(self) -> Json:
        if self.take("]"):
            return []
        items: list[object] = list(self.listed(self.json))
        self.need("]")
        return items
