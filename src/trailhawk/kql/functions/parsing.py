"""Texts of known forms read into dynamic values: XML, user agents, pairs of key and value."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING
from xml.parsers import expat

from trailhawk.errors import UnsupportedError
from trailhawk.kql.functions import expressions, sql
from trailhawk.kql.functions.dynamic import json_value
from trailhawk.kql.functions.python import Flag, Json, Text, python
from trailhawk.kql.functions.registry import AnyArg, Dynamic, String, scalar

if TYPE_CHECKING:
    from ua_parser import Parser

MAX_XML = 1 << 20
"""Bytes of XML that are read; a longer text gives null, as in Kusto."""
MAX_DEPTH = 100
"""Elements inside each other; a deeper text gives null."""
MAX_AGENT = 2_000
"""Characters of a user agent that are looked at."""
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")
_ALNUM = r"[^\W_]"
_WORD = re.compile(rf"{_ALNUM}+")
_BLANK = re.compile(r"\s")


class _Xml:
    """Builds the value of an XML text while expat reads it."""

    def __init__(self) -> None:
        self.root: dict[str, object] = {}
        self.open: list[tuple[str, dict[str, object], list[str]]] = []
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self.start
        self.parser.EndElementHandler = self.end
        self.parser.CharacterDataHandler = self.text
        self.parser.StartDoctypeDeclHandler = self.doctype

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        if len(self.open) == MAX_DEPTH:
            raise ValueError("too deep")
        found: dict[str, object] = {f"@{key}": value for key, value in attributes.items()}
        self.open.append((name, found, []))

    def text(self, text: str) -> None:
        _, found, texts = self.open[-1]
        if text.strip():
            found.setdefault("#text", None)  # its place among the members
            texts.append(text)

    def end(self, name: str) -> None:
        _, found, texts = self.open.pop()
        if texts:
            found["#text"] = _number_or_text("".join(texts).strip())
        plain = found.get("#text") if found.keys() <= {"#text"} else found
        parent = self.open[-1][1] if self.open else self.root
        known = parent.get(name)
        if name not in parent:
            parent[name] = plain
        elif isinstance(known, list):
            known.append(plain)
        else:
            parent[name] = [known, plain]

    def doctype(self, *declaration: object) -> None:
        raise ValueError("entities of its own")


def _number_or_text(text: str) -> object:
    if not _NUMBER.fullmatch(text) or len(text) > 300:
        return text
    return int(text) if text.lstrip("-").isdigit() else float(text)


@python()
def parse_xml(xml: Text) -> Json | None:
    """An XML text as a dynamic value; null where it is none.

    Attributes are "@name", text beside other parts "#text". Elements of one name become an array; a text
    that is a number becomes one.

    >>> parse_xml("<e name='value'>text<a>1</a><a/></e>")
    {"e":{"@name":"value","#text":"text","a":[1,null]}}
    >>> parse_xml("<e>")
    null
    """
    data = xml.encode()
    if len(data) > MAX_XML:
        return None
    reader = _Xml()
    try:
        reader.parser.Parse(data, True)
    except (expat.ExpatError, ValueError):
        return None
    return reader.root


@cache
def _agents() -> Parser:
    """Reads user agents by the patterns of uap-core, all of them at once and in linear time."""
    from ua_parser import Parser
    from ua_parser.loaders import load_lazy_builtins
    from ua_parser.regex import Resolver

    return Parser(Resolver(load_lazy_builtins()))


_PARTS = ("family", "major", "minor", "patch", "patch_minor")
_LABELS = ("Family", "MajorVersion", "MinorVersion", "Patch", "PatchMinor")


def _product(found: object, count: int) -> dict[str, str]:
    """A product's name and the parts of its version; '' for what is not told."""
    parts = zip(_LABELS[:count], _PARTS, strict=False)
    told = {label: getattr(found, part, None) or "" for label, part in parts}
    return told | {"Family": told["Family"] or "Other"}


@python("user_agent_parts", internal=True)
def user_agent_parts(user_agent: Text, wanted: Json) -> Json | None:
    """What parse_user_agent() gives."""
    asked = wanted if isinstance(wanted, list) else [wanted]
    parts = {part.lower() for part in asked if isinstance(part, str)}
    if not parts or not parts <= {"browser", "os", "device"}:
        return None
    found = _agents().parse(user_agent[:MAX_AGENT])
    bag: dict[str, object] = {}
    if "browser" in parts:
        bag["Browser"] = _product(found.user_agent, 4)
    if "os" in parts:
        bag["OperatingSystem"] = _product(found.os, 5)
    if "device" in parts:
        device = found.device
        bag["Device"] = {
            "Family": (device and device.family) or "Other",
            "Brand": (device and device.brand) or "",
            "Model": (device and device.model) or "",
        }
    return bag


@scalar()
def parse_user_agent(user_agent: String, look_for: AnyArg) -> Dynamic:
    """The "browser", "os" or "device" (or an array of these) that a user agent tells.

    After the patterns of uap-core, which are in the extra `trailhawk[agents]`.

    >>> parse_user_agent("Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0", "browser")
    {"Browser":{"Family":"Firefox","MajorVersion":"128","MinorVersion":"0","Patch":""}}
    >>> parse_user_agent("aws-cli/2.15.0", dynamic(["os", "device"])).Device.Family
    Other
    """
    if find_spec("ua_parser_rs") is None:
        raise UnsupportedError(
            "parse_user_agent() without its library", hint="pip install 'trailhawk[agents]'"
        )
    return user_agent_parts.overloads[0].build(user_agent, json_value(look_for))


# --- pairs of key and value --------------------------------------------------------------------------------


@python("kv_pairs", internal=True)
def kv_pairs(
    text: Text, keys: Json, between: Text, sign: Text, quotes: Json, escapes: Json, greedy: Flag
) -> Json:
    """The values of the keys in a text, as a bag: what parse-kv with delimiters reads.

    Without `between` and `sign` every character that is neither letter nor digit parts keys and values.
    """
    wanted = [key for key in keys if isinstance(key, str)] if isinstance(keys, list) else []
    reader = _Quoted(text, _texts(quotes), "".join(_texts(escapes)))
    found: dict[str, str] = {}
    pairs = _delimited(text, between, sign, reader, greedy) if sign else _loose(text, wanted, reader)
    for key, value in pairs:
        if key in wanted:
            found.setdefault(key, value)
    return found


def _texts(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str) and item] if isinstance(value, list) else []


class _Quoted:
    """Reads quoted parts of a text. `quotes` are of one character, or of an opening and a closing one."""

    def __init__(self, text: str, quotes: list[str], escapes: str) -> None:
        self.text = text
        self.closing = {quote[0]: quote[-1] for quote in quotes}
        self.escapes = escapes

    def read(self, place: int) -> tuple[str, int] | None:
        """What the quote that opens here holds, and the place after it; None where none opens, or closes."""
        closing = self.closing.get(self.text[place : place + 1])
        if closing is None:
            return None
        letters: list[str] = []
        place += 1
        while place < len(self.text):
            letter = self.text[place]
            if letter in self.escapes and place + 1 < len(self.text):
                letters.append(self.text[place + 1])
                place += 2
                continue
            if letter == closing:
                return "".join(letters), place + 1
            letters.append(letter)
            place += 1
        return None


def _delimited(
    text: str, between: str, sign: str, quoted: _Quoted, greedy: bool
) -> Iterator[tuple[str, str]]:
    """Key, sign, value, delimiter and so on. A greedy value goes on to the delimiter before the next key."""
    place, next_sign = 0, -2
    while True:
        while True:  # blanks and delimiters before a key
            if between and text.startswith(between, place):
                place += len(between)
            elif text[place : place + 1].isspace():
                place += 1
            else:
                break
        name = quoted.read(place)
        start, place = place, name[1] if name else place
        if -1 != next_sign < place:
            next_sign = text.find(sign, place)
        if next_sign < 0:
            return
        if name is None:
            end = _end(text, between, place)
            if end < next_sign:  # a piece without a sign is no pair
                place = end + 1
                continue
        key = name[0] if name else text[start:next_sign]
        place = next_sign + len(sign)
        while text[place : place + 1].isspace() and not (between and text.startswith(between, place)):
            place += 1
        value = quoted.read(place)
        if value is None and greedy:
            end = _greedy_end(text, between, sign, place)
            value = text[place:end].strip(), end
        elif value is None:
            end = _end(text, between, place)
            value = text[place:end].strip(), end
        yield key.strip(), value[0]
        place = value[1]


def _end(text: str, between: str, place: int) -> int:
    """Where the next delimiter begins: a blank if none is given."""
    if between:
        found = text.find(between, place)
        return found if found >= 0 else len(text)
    blank = _BLANK.search(text, place)
    return blank.start() if blank else len(text)


def _greedy_end(text: str, between: str, sign: str, place: int) -> int:
    """Where the last delimiter before the next sign begins; the end of the text where there is none."""
    sign_at = text.find(sign, place)
    while sign_at >= 0:
        before = text.rfind(between or " ", place, sign_at)
        if before >= 0:
            return before
        sign_at = text.find(sign, sign_at + len(sign))
    return len(text)


def _loose(text: str, keys: list[str], quoted: _Quoted) -> Iterator[tuple[str, str]]:
    """Each key as whole words, and the quoted part or the word after it."""
    if not keys:
        return
    names = "|".join(re.escape(key) for key in sorted(keys, key=len, reverse=True))
    word = re.compile(rf"(?<!{_ALNUM})(?:{names})(?!{_ALNUM})")
    found = word.search(text)
    while found:
        place = found.end()
        while place < len(text) and not text[place].isalnum() and text[place] not in quoted.closing:
            place += 1
        value = quoted.read(place)
        if value is None:
            match = _WORD.search(text, place)
            value = (match.group(), match.end()) if match else ("", len(text))
        yield found.group(), value[0]
        found = word.search(text, value[1])


@scalar("kv_regex", internal=True)
def kv_regex(text: String, pattern: String, key: String) -> String:
    """The second group of the first match whose first group is the key: what parse-kv with a regex reads."""
    pattern = expressions.regex(pattern)
    keys = sql.call("regexp_extract_all", text, pattern, 1)
    values = sql.call("regexp_extract_all", text.copy(), pattern.copy(), 2)
    return sql.text(sql.call("list_extract", values, sql.call("list_position", keys, key)))
