"""Messages: what a channel is told, from templates (`template`) that a home may replace.

Log text is in every message. Each of an incident's texts is cut and on one line, so that none looks like a
line of ours, and what would be a link is none. The subject is one line without control characters; the HTML
part is escaped by the template engine; plain text is made visible; in chats, where text may be markup, what
could be a mention or a format is written with look-alikes, and what a service might take for an address is
broken.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from datetime import datetime
from functools import cache
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, cast

from trailhawk.errors import UsageError
from trailhawk.incidents.incident import Incident
from trailhawk.respond.template import check, on_one_line, render
from trailhawk.visible import visible

MOST_SUBJECT: Final = 200
MOST_TEXT: Final = 200_000
MOST_HTML: Final = 1_000_000
MOST_EACH: Final = 5_000
"""Characters of one text of an incident in a message or in what a playbook writes."""
TEMPLATES: Final = ("subject.txt", "body.txt", "body.html", "chat.txt")
"""The templates by name; a file of this name and `.j2` in the home's folder `templates` stands for ours."""

_LOOKALIKES = str.maketrans("<>@`[]|*~#&_\\", "＜＞＠｀［］｜＊～＃＆＿＼")
_LINK = re.compile(r"(?i)\b(h)tt(ps?)(:)")
_SCHEME = re.compile(r"(?i)\b([a-z][a-z0-9+.-]{0,30}):(?=//)")
_HOST_END = re.compile(r"(?i)(?<=[^\W_])[.。．｡](?=(?:[^\W\d_]{2,24}|xn--[a-z0-9-]+)(?![\w-]|\.\w))")
_CUT = "\n..."


PLAYBOOK: Final = "playbook"
"""The occasion of what a playbook says."""


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
    shown = [_shown(item) for item in items]
    context = {"items": shown, "first": shown[0], "digest": len(shown) > 1, "at": at}
    texts = {name: _rendered(name, folder, context) for name in TEMPLATES}
    text = _cut(texts["body.txt"])
    html = texts["body.html"]
    return Message(
        id=delivery,
        subject=" ".join(texts["subject.txt"].split())[:MOST_SUBJECT],
        text=text,
        # Half of a page is none: what is too long for one has the text instead.
        html=html if len(html) <= MOST_HTML else f"<!doctype html><pre>{escape(text)}</pre>",
        chat=_cut(texts["chat.txt"]),
        data=data,
        at=at,
        thread=f"incident-{items[0].incident.number}" if len(items) == 1 else "",
    )


def _shown(item: Item) -> Item:
    """What templates get of an item. What a playbook says keeps the lines that its author gave it."""
    said = item.said if item.occasion == PLAYBOOK else _harmless(item.said)
    return replace(
        item,
        incident=cast(Incident, _each_text(item.incident, _harmless)),
        said=said,
        story=tuple(map(_harmless, item.story)),
    )


def _harmless(text: str) -> str:
    return _LINK.sub(r"\1xx\2\3", _short_line(text))


def _short_line(text: str) -> str:
    return on_one_line(text if len(text) <= MOST_EACH else text[: MOST_EACH - 1] + "…")


def _each_text(value: object, change: Callable[[str], str]) -> object:
    """The same with each text inside of it changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, tuple):
        return tuple(_each_text(each, change) for each in value)
    if isinstance(value, list):
        return [_each_text(each, change) for each in value]
    if isinstance(value, dict):
        return type(value)({key: _each_text(each, change) for key, each in value.items()})
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: _each_text(getattr(value, f.name), change) for f in fields(value)})
    return value


def _cut(text: str) -> str:
    return text if len(text) <= MOST_TEXT else text[: MOST_TEXT - len(_CUT)] + _CUT


def filled(template: str, context: Mapping[str, object], *, line: bool = False) -> str:
    """A text of a playbook with its places filled in, as text that no terminal acts on; with `line` on one
    line. UsageError where the template is wrong, or names what there is not."""
    values = {name: _each_text(value, _short_line) for name, value in context.items()}
    try:
        text = render(template, values, one_line if line else _visible, most=MOST_TEXT)
    except UsageError as error:
        raise UsageError(f"the text cannot be filled in: {error.message}") from None
    return " ".join(text.split()) if line else text.strip()


def check_template(template: str) -> None:
    """UsageError for what is no template."""
    try:
        check(template)
    except UsageError as error:
        raise UsageError(f"no template: {error.message}") from None


def one_line(text: str) -> str:
    """Text for a mail header: one line, nothing that a mail program would act on."""
    return _visible(" ".join(text.split()))


def in_chat(text: str) -> str:
    """Text for a chat: no character of it is markup, no part of it becomes a link or a mention. Many services
    make a link of whatever ends as the name of a host does: that is written `evil[.]example`."""
    plain = _LINK.sub(r"\1xx\2\3", _visible(text)).translate(_LOOKALIKES)
    return _HOST_END.sub("[.]", _SCHEME.sub(_unschemed, plain))


def _unschemed(found: re.Match[str]) -> str:
    return found[0] if found[1].lower() in ("hxxp", "hxxps") else f"{found[1]}[:]"


def _visible(text: str) -> str:
    return visible(text, keep="\n\t")


_SHOWN: Final[Mapping[str, Callable[[str], str]]] = {
    "subject.txt": one_line,
    "body.txt": _visible,
    "body.html": _visible,
    "chat.txt": in_chat,
}


def _rendered(name: str, folder: Path | None, context: Mapping[str, object]) -> str:
    own = folder / f"{name}.j2" if folder else None
    source = str(own) if own and own.is_file() else name
    html = name.endswith(".html")
    try:
        text = own.read_text(encoding="utf-8") if own and own.is_file() else _shipped(name)
        return render(text, context, _SHOWN[name], html=html, most=(MOST_HTML if html else MOST_TEXT) + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"template {source}: {error}") from None
    except UsageError as error:
        raise UsageError(f"template {source}: {error.message}") from None


@cache
def _shipped(name: str) -> str:
    return files("trailhawk.respond").joinpath("templates").joinpath(f"{name}.j2").read_text(encoding="utf-8")
