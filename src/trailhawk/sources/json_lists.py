"""Answers of query services: tables whose rows are JSON lists, and lists of texts that are JSON themselves.

A row is a list with no other list in it, so rows are found by that alone, one after the other, in blocks.
One that is no JSON ends where the next one begins: it costs only itself, whatever the size of the answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

import msgspec

from trailhawk.sources.framing import BOM, CHUNK_BYTES
from trailhawk.sources.lines import CHUNK_LINES
from trailhawk.sources.source import MAX_RECORD_BYTES, BadPart

_MAX_WASTE: Final = 16 * 1024 * 1024  # bytes of what is held looked at in vain
_STEP: Final = 256  # bytes that a look costs too: of time, and of memory for what is refused
_NO_ITEM: Final = "record cut off or not JSON"
_RAW: Final = msgspec.json.Decoder(msgspec.Raw)
_STRING: Final = msgspec.json.Decoder(str)
_NOT_JSON: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


@dataclass(frozen=True, slots=True)
class Grammar:
    """How items are told from what stands around them.

    `whole` matches an item at its start, `begun` one whose end is not there yet, `stretch` as much as looks
    like one; `opening` are its first bytes, `next` stands before the next item. `idle` matches, from an
    opening on, what holds no item for sure, a bounded part of it (a possessive group would take all, but
    Python before 3.11.5 keeps what such a group took before it failed). `check` raises for an item that is
    no JSON.
    """

    whole: re.Pattern[bytes]
    begun: re.Pattern[bytes]
    stretch: re.Pattern[bytes]
    opening: bytes
    next: re.Pattern[bytes]
    idle: re.Pattern[bytes]
    check: Callable[[bytes], object]


_QUOTED: Final = rb'"(?:[^"\\]++|\\.)*+'
_FLAT: Final = rb'\[(?:[^"\[\]]++|%b")*+' % _QUOTED

LISTS: Final = Grammar(
    whole=re.compile(_FLAT + rb"\]", re.DOTALL),
    begun=re.compile(_FLAT + rb"(?:%b)?\\?\Z" % _QUOTED, re.DOTALL),
    stretch=re.compile(_FLAT, re.DOTALL),
    opening=b"[",
    next=re.compile(rb",\s*+(?=\[)"),
    idle=re.compile(rb'(?:\[[^"\[\]]*+(?=\[)|\[\s*+\][^"\[]*+){0,999}'),
    check=_RAW.decode,
)
"""Lists that have no list in them."""

TEXTS: Final = Grammar(
    whole=re.compile(_QUOTED + rb'"', re.DOTALL),
    begun=re.compile(_QUOTED + rb"\\?\Z", re.DOTALL),
    stretch=re.compile(_QUOTED, re.DOTALL),
    opening=b'"{',
    next=re.compile(rb',\s*+(?="\{)'),
    idle=re.compile(b""),
    check=lambda text: _RAW.decode(_STRING.decode(text)),
)
"""Texts that are JSON objects."""

LINES: Final = Grammar(
    whole=re.compile(rb'%b"(?=\s{0,999}+(?:[,\]]|\Z))' % _QUOTED, re.DOTALL),
    begun=TEXTS.begun,
    stretch=TEXTS.stretch,
    opening=b'"',
    next=re.compile(rb'(?:,\s*+|\n[^\S\n]*+)(?=")'),
    idle=re.compile(rb'(?:"\s*+"\s*+,[\s,]*+){0,999}'),
    check=_STRING.decode,
)
"""Texts of any kind."""

# What stands around the items: brackets, names of members, and values of members that hold no items.
_AROUND: Final = re.compile(
    rb"(?:[\s,{}\[\]]++"
    rb'|"(?!(?:field|value)")[A-Za-z_@-]{1,64}"\s*+:\s*+(?:%b"|[-+.\w]++|(?=[\[{]|\Z)))*+' % _QUOTED,
    re.DOTALL,
)


@dataclass
class Items:
    """Items of an answer as they stand there, where each starts, and what is no item."""

    texts: list[bytes] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    bad: list[BadPart] = field(default_factory=list)
    size: int = 0

    @property
    def are_many(self) -> bool:
        return max(len(self.texts), len(self.bad)) >= CHUNK_LINES or self.size >= CHUNK_BYTES

    def refuse(self, text: bytes, start: int, reason: str) -> None:
        self.bad.append(BadPart.of(text, start, reason))
        self.size += len(self.bad[-1].head)


def items(blocks: Iterator[bytes], grammar: Grammar) -> Iterator[Items]:
    """The items of an answer, in parts of bounded size."""
    cutter = _Cutter(grammar)
    for block in blocks:
        yield from cutter.take(block)
    yield from cutter.end()


class _Cutter:
    """Walks bytes that come in blocks; what it holds begins `_base` bytes into them.

    No item begins in the first `_past` of the bytes that it holds. A look at what proves to be no item is
    counted: after too many, an item ends where the next one begins, and where none begins, or after twice as
    many, all that is held is one bad part. So each block takes a bounded time.
    """

    def __init__(self, grammar: Grammar) -> None:
        self._grammar = grammar
        self._found = Items()
        self._held = b""
        self._base = 0
        self._past = 0
        self._wasted = 0
        self._sought: tuple[bytes, int, re.Match[bytes] | None] = (b"", 0, None)  # see _following

    def take(self, block: bytes) -> Iterator[Items]:
        if not self._base and not self._held and block.startswith(BOM):
            block, self._base = block[len(BOM) :], len(BOM)
        self._held += block
        yield from self._settle(is_last=False)
        if len(self._held) > MAX_RECORD_BYTES:
            self._around(self._past, 0)
            self._drop(self._past)

    def end(self) -> Iterator[Items]:
        yield from self._settle(is_last=True)
        self._around(len(self._held), 0)
        if self._found.texts or self._found.bad:
            yield self._found

    def _settle(self, *, is_last: bool) -> Iterator[Items]:
        self._wasted = 0
        at = 0
        while (step := self._step(max(at, self._past), is_last=is_last)) is not None:
            start, end, reason = step
            text = self._held[start:end]
            self._around(start, at)
            if reason:
                self._found.refuse(text, self._base + start, reason)
            elif text[1:-1].strip():
                self._found.texts.append(text)
                self._found.starts.append(self._base + start)
                self._found.size += len(text)
            at = end
            if self._found.are_many:
                yield self._found
                self._found = Items()
        self._drop(at)

    def _drop(self, end: int) -> None:
        self._base, self._past, self._held = self._base + end, max(0, self._past - end), self._held[end:]
        self._sought = (b"", 0, None)

    def _step(self, at: int, *, is_last: bool) -> tuple[int, int, str] | None:
        """Where the next item starts and ends, and why it is none; None where more bytes have to tell."""
        grammar, held = self._grammar, self._held
        while (at := self._opening(at)) >= 0:
            until = len(held)
            if self._wasted > _MAX_WASTE and (following := self._following(at + 1)) is not None:
                until = following
            match = grammar.whole.match(held, at, until)
            if match is not None:
                return self._whole(at, match[0])
            if grammar.begun.match(held, at, until) is not None:
                if until == len(held) and not is_last and until - at <= MAX_RECORD_BYTES:
                    self._past = at
                    return None
                return self._broken(at, until)
            stretch = grammar.stretch.match(held, at)
            self._waste((stretch.end() if stretch else at) - at)
            at = self._resumed(at, at + 1)
        self._past = max(0, len(held) - len(grammar.opening) + 1)
        return None

    def _opening(self, at: int) -> int:
        """Where the next item may start, -1 for nowhere."""
        grammar, held = self._grammar, self._held
        at = held.find(grammar.opening, at)
        while at >= 0 and (idle := grammar.idle.match(held, at)) and idle.end() > at:
            at = held.find(grammar.opening, idle.end())
        return at

    def _following(self, at: int) -> int | None:
        """Where the item behind this place begins; sought once for all places before it."""
        held, since, match = self._sought
        if held is not self._held or at < since or (match is not None and at > match.start()):
            match = self._grammar.next.search(self._held, at)
            self._sought = (self._held, at, match)
        return None if match is None else match.end()

    def _waste(self, size: int) -> None:
        self._wasted += size + _STEP

    def _resumed(self, at: int, usual: int) -> int:
        """Where to go on behind what is no item: at the usual place, unless there were too many."""
        if self._wasted <= _MAX_WASTE:
            return usual
        following = self._following(at + 1) if self._wasted <= 2 * _MAX_WASTE else None
        return len(self._held) if following is None else following

    def _whole(self, at: int, text: bytes) -> tuple[int, int, str]:
        if len(text) > MAX_RECORD_BYTES:
            return at, at + len(text), "record larger than 16 MB"
        try:
            self._grammar.check(text)
        except _NOT_JSON:
            return self._broken(at, at + len(text))
        return at, at + len(text), ""

    def _broken(self, at: int, end: int) -> tuple[int, int, str]:
        self._waste(end - at)
        following = self._following(at + 1)
        usual = end if following is None or following > end else following
        return at, self._resumed(at, usual), _NO_ITEM

    def _around(self, end: int, at: int) -> None:
        """Refuse what lies before an item, if it is not what stands around items."""
        text = self._held[at:end]
        if _AROUND.fullmatch(text) is None:
            self._found.refuse(text, self._base + at, _NO_ITEM)
