"""Messages: what a channel is told, from templates (Jinja2, sandboxed) that a home may replace.

Log text is in every message. The subject is one line without control characters; the HTML part is escaped by
the template engine; plain text is made visible; in chats, where text may be markup, what could be a link, a
mention or a format is written with look-alikes, and addresses of pages are made unusable as links.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from trailhawk.errors import UsageError
from trailhawk.incidents.incident import Incident
from trailhawk.visible import visible

if TYPE_CHECKING:
    from jinja2.sandbox import SandboxedEnvironment

MOST_SUBJECT: Final = 200
MOST_TEXT: Final = 200_000
TEMPLATES: Final = ("subject.txt", "body.txt", "body.html", "chat.txt")
"""The templates by name; a file of this name and `.j2` in the home's folder `templates` stands for ours."""

_LOOKALIKES = str.maketrans("<>@`[]|*~#&", "＜＞＠｀［］｜＊～＃＆")
_LINK = re.compile(r"(?i)\b(h)tt(ps?)(:)")


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to tell: an incident as it stands, what happened to it, and the sentences of its story."""

    incident: Incident
    occasion: str
    said: str
    at: datetime
    story: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Message:
    """What is sent. `id` is the delivery's: the same whenever the same message is tried again."""

    id: str
    subject: str
    text: str
    html: str
    chat: str
    data: Mapping[str, Any]
    at: datetime
    thread: str = ""
    """What messages about one incident share."""


def message(
    delivery: str, items: Sequence[Item], *, at: datetime, folder: Path | None = None, data: Mapping[str, Any]
) -> Message:
    """The message about one thing or, as a digest, about several. UsageError where a template is wrong."""
    context = {"items": items, "first": items[0], "digest": len(items) > 1, "at": at}
    texts = {name: _rendered(name, folder, context) for name in TEMPLATES}
    return Message(
        id=delivery,
        subject=" ".join(texts["subject.txt"].split())[:MOST_SUBJECT],
        text=texts["body.txt"][:MOST_TEXT],
        html=texts["body.html"][:MOST_TEXT],
        chat=texts["chat.txt"][:MOST_TEXT],
        data=data,
        at=at,
        thread=f"incident-{items[0].incident.number}" if len(items) == 1 else "",
    )


def filled(template: str, context: Mapping[str, object], *, line: bool = False) -> str:
    """A text of a playbook with its places filled in, as text that no terminal acts on; with `line` on one
    line. UsageError where the template is wrong, or names what there is not."""
    from jinja2 import TemplateError

    try:
        text = _environment("subject.txt" if line else "body.txt").from_string(template).render(context)
    except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
        raise UsageError(f"the text cannot be filled in: {error}") from None
    return (" ".join(text.split()) if line else text.strip())[:MOST_TEXT]


def check_template(template: str) -> None:
    """UsageError for what is no template."""
    from jinja2 import TemplateSyntaxError

    try:
        _environment("body.txt").parse(template)
    except TemplateSyntaxError as error:
        raise UsageError(f"no template: {error}") from None


def one_line(text: str) -> str:
    """Text for a mail header: one line, nothing that a mail program would act on."""
    return _visible(" ".join(text.split()))


def in_chat(text: str) -> str:
    """Text for a chat: no character of it is markup, no part of it becomes a link or a mention."""
    return _LINK.sub(r"\1xx\2\3", _visible(text)).translate(_LOOKALIKES)


def _visible(text: str) -> str:
    return visible(text, keep="\n\t")


def _rendered(name: str, folder: Path | None, context: Mapping[str, object]) -> str:
    from jinja2 import TemplateError

    own = folder / f"{name}.j2" if folder else None
    source = str(own) if own and own.is_file() else name
    try:
        text = own.read_text(encoding="utf-8") if own and own.is_file() else _shipped(name)
        return _environment(name).from_string(text).render(context)
    except (TemplateError, OSError, UnicodeDecodeError, TypeError, ValueError, ArithmeticError) as error:
        raise UsageError(f"template {source}: {error}") from None


@cache
def _shipped(name: str) -> str:
    return files("trailhawk.respond").joinpath("templates").joinpath(f"{name}.j2").read_text(encoding="utf-8")


@cache
def _environment(name: str) -> SandboxedEnvironment:
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    finalize = in_chat if name == "chat.txt" else one_line if name == "subject.txt" else _visible
    made = ImmutableSandboxedEnvironment(
        autoescape=name.endswith(".html"),
        undefined=StrictUndefined,
        finalize=lambda value: finalize(value) if isinstance(value, str) else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["time"] = lambda value: value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return made
