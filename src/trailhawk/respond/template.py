"""Templates of Jinja2 that can do no harm: in its sandbox, and with bounds on what they take and give.

The sandbox keeps a template from what it is not given. It does not keep it from going on for ever or from
filling the memory, so loops and calls have so many turns, and each text and all of them together so many
characters. Of Jinja2's filters and functions those are there whose result is bounded by what they get. What
marks text as HTML by hand is not there: what is filled in is always escaped.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, MappingView, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import cache, wraps
from types import NoneType
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from trailhawk.errors import UsageError

if TYPE_CHECKING:
    from jinja2 import nodes
    from jinja2.runtime import Context
    from jinja2.sandbox import SandboxedEnvironment

MOST_SOURCE: Final = 200_000
MOST_TURNS: Final = 100_000
"""Turns of all loops and calls of one template together."""
MOST_SECONDS: Final = 5.0
MOST_GROWN: Final = 1_000_000
"""Characters of one text that a template makes."""
MOST_MADE: Final = 10_000_000
"""Characters of all of them together."""
MOST_ITEMS: Final = 10_000
"""Items of a list that a template makes."""

MOST_WIDE: Final = 1_000
"""What may be given to a filter as a width or a count; characters of a text that is written several times."""
MOST_BITS: Final = 10_000
"""Of a number."""
_ITEM: Final = 50
"""What an item of a list counts as, in characters."""

_TEXT_FILTERS: Final = re.findall(
    r"\w+",
    "capitalize center e escape float forceescape format indent int lower replace string title tojson trim "
    "truncate upper urlencode wordcount",
)
"""Those that make a text of what they are given."""
_OTHER_FILTERS: Final = re.findall(
    r"\w+",
    "abs batch count d default dictsort first groupby items join last length list map max min reject "
    "rejectattr reverse round select selectattr slice sort sum unique",
)
_GLOBALS: Final = ("range", "dict", "cycler", "joiner")
"""What would remember something from one turn to the next, or write without end, is not there."""
_TEXT_METHODS: Final = re.compile(
    "capitalize|casefold|count|endswith|r?find|r?index|is[a-z]+|lower|[lr]?strip|r?partition|removeprefix"
    "|removesuffix|r?split|splitlines|startswith|swapcase|title|upper"
)
"""Methods of a text that give no longer one."""
_FAULTS: Final = (
    TypeError,
    ValueError,
    ArithmeticError,
    LookupError,
    AttributeError,
    RecursionError,
    MemoryError,
)

Shown = Callable[[str], str]
"""How a text that is filled in is written."""

_V = TypeVar("_V")


def render(
    template: str,
    values: Mapping[str, object],
    shown: Shown,
    *,
    html: bool = False,
    most: int,
    seconds: float = MOST_SECONDS,
) -> str:
    """The template with its places filled in, `most` characters of it. UsageError where it is wrong, names
    what there is not, or does not come to an end."""
    from jinja2 import TemplateError

    parts: list[str] = []
    length = 0
    with _bound(seconds):
        made = _compiled(template, shown, html)
    with _bound(seconds):
        try:
            for part in made.generate(values):
                parts.append(part)
                length += len(part)
                if length > most:
                    break
        except (TemplateError, *_FAULTS) as error:
            raise UsageError(f"{error or type(error).__name__}") from None
    return "".join(parts)[:most]


def check(template: str) -> None:
    """UsageError for what is no template."""
    with _bound(MOST_SECONDS):
        _compiled(template, str, False)


def _compiled(template: str, shown: Shown, html: bool) -> Any:
    from jinja2 import TemplateError

    if len(template) > MOST_SOURCE:
        raise UsageError(f"the template is longer than {MOST_SOURCE:,} characters")
    environment = _environment(shown, html)
    try:
        return environment.from_string(_bounded(environment, environment.parse(template)))
    except (TemplateError, SyntaxError, *_FAULTS) as error:  # Python's own where loops are nested too deep
        raise UsageError(f"{error or type(error).__name__}") from None


def _bounded(environment: SandboxedEnvironment, tree: nodes.Template) -> nodes.Template:
    """The tree with each loop counted, and each text that is put together or cut out bounded."""
    from jinja2 import TemplateSyntaxError, nodes
    from jinja2.visitor import NodeTransformer

    def through(name: str, value: nodes.Expr | None, at: nodes.Node, *given: nodes.Expr) -> nodes.Filter:
        more = list(given)
        return nodes.Filter(value, name, more, [], None, None, lineno=at.lineno, environment=environment)

    class Bounds(NodeTransformer):
        def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802
            self.generic_visit(node)
            # What each turn writes by itself.
            plain = sum(len(each.data) for each in node.find_all(nodes.TemplateData))
            cost = nodes.Const(plain, lineno=node.lineno, environment=environment)
            node.iter = through("_counted", cast("nodes.Expr", node.iter), node, cost)
            return node

        def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:  # noqa: N802
            self.generic_visit(node)
            return through("_within", node, node) if isinstance(node.arg, nodes.Slice) else node

        def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
            self.generic_visit(node)
            parts = nodes.List(node.nodes, lineno=node.lineno, environment=environment)
            return through("_together", parts, node)

        def visit_AssignBlock(self, node: nodes.AssignBlock) -> nodes.Node:  # noqa: N802
            self.generic_visit(node)
            within = through("_within", node.filter, node)
            node.filter = within
            return node

        def visit_ScopedEvalContextModifier(self, node: nodes.Node) -> nodes.Node:  # noqa: N802
            raise TemplateSyntaxError("autoescape is not switched", node.lineno)

    return cast("nodes.Template", Bounds().visit(tree))


@dataclass(slots=True)
class _Left:
    """What is left to a template while it is filled in: turns, characters, and time until `deadline`."""

    turns: int
    made: int
    deadline: float


_left: ContextVar[_Left] = ContextVar("_left")


@contextmanager
def _bound(seconds: float) -> Iterator[None]:
    token = _left.set(_Left(MOST_TURNS, MOST_MADE, time.monotonic() + seconds))
    try:
        yield
    finally:
        _left.reset(token)


def _spend(*, turns: int = 0, made: int = 0) -> None:
    left = _left.get()
    left.turns -= turns
    left.made -= made
    if left.turns < 0:
        raise _refusal(f"loops and calls take more than {MOST_TURNS:,} turns")
    if left.made < 0:
        raise _refusal(f"the texts come to more than {MOST_MADE:,} characters")
    if time.monotonic() > left.deadline:
        raise _refusal("it takes too long")


def _refusal(said: str) -> Exception:
    from jinja2.exceptions import SecurityError

    return SecurityError(said)


def _fit(length: int) -> None:
    if length > MOST_GROWN:
        raise _refusal(f"a text grows beyond {MOST_GROWN:,} characters")


def _within(value: _V) -> _V:
    """The value that was made, counted."""
    if isinstance(value, str):
        _fit(len(value))
        _spend(made=len(value))
    elif isinstance(value, range):
        _spend(turns=len(value))
    elif isinstance(value, list | tuple | dict | set):
        if len(value) > MOST_ITEMS:
            raise _refusal(f"a list grows beyond {MOST_ITEMS:,} items")
        _spend(made=_ITEM * len(value))
    else:
        _spend()
    return value


def _text(value: object) -> str:
    """A value as text. Of what holds others the whole is bounded before it is written."""
    if isinstance(value, str):
        return value
    _weigh(value)
    return _within(str(value))


def _weigh(value: object) -> None:
    """Refuses what is too long to be written, and what is no value."""
    from jinja2 import Undefined

    total, within = 0, [value]
    while within:
        each = within.pop()
        total += 10
        if isinstance(each, str):
            total += len(each)
        elif isinstance(each, Mapping):
            within += [*each.keys(), *each.values()]
        elif isinstance(each, list | tuple | set | frozenset | MappingView):
            within += list(cast("Iterable[object]", each))
        elif is_dataclass(each) and not isinstance(each, type):
            within += [getattr(each, one.name) for one in fields(each)]
        elif not isinstance(each, _PLAIN | Undefined):
            raise _refusal(f"a {type(each).__name__} is not written")
        _fit(total + 10 * len(within))


_PLAIN: Final = int | float | datetime | timedelta | Enum | NoneType


@cache
def _environment(shown: Shown, html: bool) -> SandboxedEnvironment:
    from jinja2 import StrictUndefined, pass_environment, pass_eval_context
    from jinja2.filters import FILTERS
    from jinja2.runtime import markup_join
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Bounded(ImmutableSandboxedEnvironment):
        intercepted_binops = frozenset({"+", "*", "**", "%"})

        def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
            _check_operator(operator, left, right)
            return _within(super().call_binop(context, operator, left, right))

        def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
            if isinstance(obj, str) and not _TEXT_METHODS.fullmatch(attr):
                return False
            return super().is_safe_attribute(obj, attr, value)

        def wrap_str_format(self, value: Any) -> None:
            """`format` is no method of a text here: it can write a number as wide as it likes."""

        def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
            _spend(turns=1)
            return _within(super().call(__context, __obj, *args, **kwargs))

    def counted(items: Iterable[object], cost: int) -> Iterable[object]:
        for item in items:
            _spend(turns=1, made=cost)
            yield item

    def together(items: Sequence[object]) -> str:
        texts = [_text(item) for item in items]
        _fit(sum(map(len, texts)))
        return _within(markup_join(texts))

    def joined(context: Any, items: Iterable[object], d: str = "", attribute: str | int | None = None) -> Any:
        found = (
            list(items) if attribute is None else list(FILTERS["map"](context, items, attribute=attribute))
        )
        texts = [_text(item) for item in found]
        _fit(sum(map(len, texts)) + len(texts) * len(_text(d)))
        return _within(FILTERS["join"](context, texts, d))

    def summed(environment: Any, items: Iterable[object], attribute: str | int | None = None) -> Any:
        """Of numbers: lists would be put together anew with each."""
        return FILTERS["sum"](environment, items, attribute)

    def finalized(value: Any) -> Any:
        if isinstance(value, str):
            # What a macro made is markup already, of this template; a text of a log never is.
            return _within(type(value)(shown(value)))
        return value if isinstance(value, int | float | StrictUndefined) else _within(shown(_text(value)))

    made = Bounded(
        autoescape=html, undefined=StrictUndefined, finalize=finalized, trim_blocks=True, lstrip_blocks=True
    )
    made.globals = {name: made.globals[name] for name in _GLOBALS}
    made.filters = {name: _listing(FILTERS[name]) for name in _OTHER_FILTERS}
    made.filters |= {name: _writing(name, FILTERS[name]) for name in _TEXT_FILTERS}
    made.filters |= {"join": pass_eval_context(joined), "sum": pass_environment(summed)}
    made.filters |= {"_counted": counted, "_together": together, "_within": _within}
    made.filters["time"] = lambda value: value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return made


def _check_operator(operator: str, left: object, right: object) -> None:
    """Refuses what would be large, before it is."""
    if isinstance(left, int) and isinstance(right, int):
        bits = {"*": left.bit_length() + right.bit_length(), "**": left.bit_length() * abs(right)}
        if bits.get(operator, 0) > MOST_BITS:
            raise _refusal(f"the result of {operator} is too large")
    elif operator == "+" and isinstance(left, str) and isinstance(right, str):
        _fit(len(left) + len(right))
    elif operator == "*":
        for one, other in ((left, right), (right, left)):
            if isinstance(one, list | tuple):
                raise _refusal("a list is not multiplied")
            if isinstance(one, str) and isinstance(other, int) and len(one) * other > MOST_WIDE:
                raise _refusal(f"a text is multiplied up to {MOST_WIDE:,} characters")
    elif operator == "%" and isinstance(left, str):
        raise _refusal("a text is filled in with the filter format")


def _listing(filter_: Callable[..., Any]) -> Callable[..., Any]:
    """A filter of lists and numbers."""
    at = int(hasattr(filter_, "jinja_pass_arg"))

    @wraps(filter_)
    def bounded(*given: Any, **named: Any) -> Any:
        _check_numbers((*given[at + 1 :], *named.values()))
        if isinstance(given[at], list | tuple):
            # Some compare small letters, and make them of all at once.
            _fit(sum(len(each) for each in given[at] if isinstance(each, str)))
        return _within(filter_(*given, **named))

    return bounded


def _writing(name: str, filter_: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that makes a text."""
    at = int(hasattr(filter_, "jinja_pass_arg"))

    @wraps(filter_)
    def bounded(*given: Any, **named: Any) -> Any:
        value = given[at]
        if name in _AS_IT_IS:
            _weigh(value)
        else:
            value = _text(value)
        others = (*given[at + 1 :], *named.values())
        if name != "format":
            _check_numbers(others)
            _check_texts(others)
        if name == "tojson" and others:
            raise _refusal("tojson takes nothing")
        if name == "indent":
            if any(isinstance(each, str) for each in others):
                raise _refusal("indent takes a number")
            width = max((each for each in others if isinstance(each, int)), default=4)
            _fit(len(value) + (len(value.splitlines()) + 1) * width)
        if name == "replace":
            _fit(
                len(value)
                + (len(value) + 1) * max((len(each) for each in others if isinstance(each, str)), default=0)
            )
        if name == "format":
            if _WIDE.search(value):
                raise _refusal(f"filters take numbers up to {MOST_WIDE:,}")
            for each in others:
                _weigh(each)
            longest = max((len(str(each)) for each in others), default=0)
            _fit(len(value) + value.count("%") * (MOST_WIDE + longest))
        return _within(filter_(*given[:at], value, *given[at + 1 :], **named))

    return bounded


_AS_IT_IS: Final = ("tojson", "urlencode", "int", "float", "wordcount")


def _check_numbers(given: Iterable[object]) -> None:
    if any(isinstance(each, int) and abs(each) > MOST_WIDE for each in given):
        raise _refusal(f"filters take numbers up to {MOST_WIDE:,}")


def _check_texts(given: Iterable[object]) -> None:
    if any(isinstance(each, str) and len(each) > MOST_WIDE for each in given):
        raise _refusal(f"filters take texts up to {MOST_WIDE:,} characters beside what they write")


_WIDE: Final = re.compile(r"\d{4}|\*")
_LINE_END: Final = re.compile(r"[\r\n\v\f\x1c-\x1e\x85\u2028\u2029]")


def on_one_line(text: str) -> str:
    """The text with a blank for each end of a line: nothing in it can look like a line of ours."""
    first, *others = _LINE_END.split(text)
    if not others:
        return text
    *between, last = others
    within = (each.strip() for each in between)
    return " ".join([first.rstrip(), *(each for each in within if each), last.lstrip()])
