"""Templates of Jinja2 that can do no harm: in its sandbox, and with bounds on what they take and give.

The sandbox keeps a template from what it is not given. It does not keep it from going on for ever or from
filling the memory, so loops and calls have so many turns, and no text grows beyond its bound. What marks text
as HTML by hand is not there: what is filled in is always escaped.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from functools import cache, wraps
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
MOST_GROWN: Final = 2_000_000
"""Characters of a text, or items of a list, that a template makes."""

MOST_WIDE: Final = 1_000
"""What may be given to a filter as a width or a count."""

_WITHOUT_FILTERS: Final = ("safe", "urlize")
_WIDE_FILTERS: Final = ("format", "center", "indent", "batch", "slice", "wordwrap", "truncate")
_TEXT_METHODS: Final = re.compile(
    "capitalize|casefold|count|endswith|r?find|r?index|is[a-z]+|lower|[lr]?strip|r?partition|removeprefix"
    "|removesuffix|r?split|splitlines|startswith|swapcase|title|upper"
)
"""Methods of a text that give no longer one."""
_LEFT: Final = "_left"
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

    made = _compiled(template, shown, html)
    parts: list[str] = []
    length = 0
    try:
        for part in made.generate({**values, _LEFT: _Left(MOST_TURNS, time.monotonic() + seconds)}):
            parts.append(part)
            length += len(part)
            if length > most:
                break
    except (TemplateError, *_FAULTS) as error:
        raise UsageError(f"{error or type(error).__name__}") from None
    return "".join(parts)[:most]


def check(template: str) -> None:
    """UsageError for what is no template."""
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
    """The tree with each loop counted, and each text that is put together bounded."""
    from jinja2 import TemplateSyntaxError, nodes
    from jinja2.visitor import NodeTransformer

    def through(name: str, value: nodes.Expr | None, at: nodes.Node) -> nodes.Filter:
        return nodes.Filter(value, name, [], [], None, None, lineno=at.lineno, environment=environment)

    class Bounds(NodeTransformer):
        def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802
            self.generic_visit(node)
            node.iter = through("_counted", cast("nodes.Expr", node.iter), node)
            return node

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
    """What is left to a template while it is filled in: turns, and time until `deadline`."""

    turns: int
    deadline: float


def _spend(context: Context, turns: int) -> None:
    from jinja2.exceptions import SecurityError

    left = cast(_Left, context.resolve(_LEFT))
    left.turns -= turns
    if left.turns < 0:
        raise SecurityError(f"loops and calls take more than {MOST_TURNS:,} turns")
    if time.monotonic() > left.deadline:
        raise SecurityError("it takes too long")


def _within(value: _V) -> _V:
    from jinja2.exceptions import SecurityError

    if isinstance(value, str | list | tuple) and len(value) > MOST_GROWN:
        raise SecurityError(f"a text or list grows beyond {MOST_GROWN:,}")
    return value


def _length(value: object) -> int:
    return len(value) if isinstance(value, str | list | tuple) else 20


@cache
def _environment(shown: Shown, html: bool) -> SandboxedEnvironment:
    from jinja2 import StrictUndefined, pass_context, pass_eval_context
    from jinja2.exceptions import SecurityError
    from jinja2.filters import FILTERS
    from jinja2.runtime import markup_join
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Bounded(ImmutableSandboxedEnvironment):
        intercepted_binops = frozenset({"+", "*", "**", "%"})

        def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
            grows = {
                "+": lambda: _length(left) + _length(right),
                "*": lambda: _times(left, right),
                "**": lambda: _power(left, right),
                "%": lambda: MOST_GROWN + 1 if isinstance(left, str) else 0,
            }
            if grows[operator]() > MOST_GROWN:
                raise SecurityError(f"the result of {operator} is too large")
            _spend(context, 1)
            return super().call_binop(context, operator, left, right)

        def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
            if isinstance(obj, str) and not _TEXT_METHODS.fullmatch(attr):
                return False
            return super().is_safe_attribute(obj, attr, value)

        def wrap_str_format(self, value: Any) -> None:
            """`format` is no method of a text here: it can write a number as wide as it likes."""

        def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
            found = super().call(__context, __obj, *args, **kwargs)
            _spend(__context, len(found) if isinstance(found, range) else 1)
            return _within(found)

    @pass_context
    def counted(context: Context, items: Iterable[object]) -> Iterable[object]:
        for item in items:
            _spend(context, 1)
            yield item

    def together(items: Sequence[object]) -> str:
        texts = [item if isinstance(item, str) else str(item) for item in items]
        if sum(map(len, texts)) > MOST_GROWN:
            raise SecurityError(f"a text grows beyond {MOST_GROWN:,}")
        return markup_join(item if hasattr(item, "__html__") else str(item) for item in items)

    def joined(context: Any, items: Iterable[object], d: str = "", attribute: str | int | None = None) -> Any:
        found = list(items)
        if sum(map(_length, found)) + len(found) * len(d) > MOST_GROWN:
            raise SecurityError(f"a text grows beyond {MOST_GROWN:,}")
        return FILTERS["join"](context, found, d, attribute)

    def replaced(context: Any, text: str, old: str, new: str, count: int | None = None) -> Any:
        if _length(text) + (len(str(text)) + 1) * len(str(new)) > MOST_GROWN:
            raise SecurityError(f"a text grows beyond {MOST_GROWN:,}")
        return FILTERS["replace"](context, text, old, new, count)

    made = Bounded(
        autoescape=html,
        undefined=StrictUndefined,
        # What a macro made is markup already, of this template; a text of a log never is.
        finalize=lambda value: type(value)(shown(value)) if isinstance(value, str) else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in _WITHOUT_FILTERS:
        del made.filters[name]
    made.filters |= {name: _narrow(FILTERS[name]) for name in _WIDE_FILTERS}
    made.filters |= {"join": pass_eval_context(joined), "replace": pass_eval_context(replaced)}
    made.filters |= {"_counted": counted, "_together": together, "_within": _within}
    made.filters["time"] = lambda value: value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return made


def _narrow(filter_: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that takes no large number, be it inside of a text that says how to write something."""
    from jinja2.exceptions import SecurityError

    @wraps(filter_)
    def bounded(*given: Any, **named: Any) -> Any:
        for each in (*given, *named.values()):
            is_large = isinstance(each, int) and abs(each) > MOST_WIDE
            is_wide = filter_.__name__ == "do_format" and each is given[0] and _WIDE.search(str(each))
            if is_large or is_wide:
                raise SecurityError(f"filters take numbers up to {MOST_WIDE:,}")
        return filter_(*given, **named)

    return bounded


def _times(left: object, right: object) -> int:
    if isinstance(left, int) and isinstance(right, int):
        return left.bit_length() + right.bit_length()
    for one, other in ((left, right), (right, left)):
        if isinstance(one, str | list | tuple) and isinstance(other, int):
            return len(one) * max(other, 0)
    return 0


def _power(left: object, right: object) -> int:
    if isinstance(left, int) and isinstance(right, int):
        return left.bit_length() * abs(right)
    return 0


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
