"""Shapes of values: schemas and paths of dynamic values, canonical JSON, command lines, sessions of rows."""

from __future__ import annotations

import msgspec
from sqlglot import exp

from trailhawk.kql.functions import sql
from trailhawk.kql.functions.python import Duration, Json, Moment, Text, python
from trailhawk.kql.functions.registry import Bool, Datetime, Dynamic, Timespan, aggregate, window
from trailhawk.kql.functions.windows import over
from trailhawk.kql.types import KqlType


@python()
def parse_command_line(text: Text, kind: Text) -> Json | None:
    r"""The arguments of a command line, split as Windows does it; null of another kind.

    >>> parse_command_line('echo "hello world!"', "windows")
    ["echo","hello world!"]
    >>> parse_command_line(@'a "b \" c" d\\"e f"', "Windows")
    ["a","b \" c","d\\e f"]
    """
    if kind.lower() != "windows":
        return None
    return _arguments(text)


def _arguments(text: str) -> list[str]:
    """Backslashes before a quote: each pair is one, an odd one makes the quote plain."""
    found: list[str] = []
    current: list[str] = []
    quoted = started = False
    place = 0
    while place < len(text):
        letter = text[place]
        if letter == "\\":
            end = place
            while end < len(text) and text[end] == "\\":
                end += 1
            count, before_quote = end - place, end < len(text) and text[end] == '"'
            current.append("\\" * (count // 2 if before_quote else count))
            started, place = True, end
            if before_quote and count % 2:
                current.append('"')
                place += 1
            continue
        if letter == '"':
            if quoted and text[place + 1 : place + 2] == '"':
                current.append('"')
                place += 1
            else:
                quoted = not quoted
            started = True
        elif letter in " \t\r\n" and not quoted:
            if started:
                found.append("".join(current))
            current, started = [], False
        else:
            current.append(letter)
            started = True
        place += 1
    return [*found, "".join(current)] if started else found


@python()
def dynamic_to_json(value: Json) -> Text:
    """A dynamic value as JSON text with the names of bags in order.

    >>> dynamic_to_json(dynamic({"b": [1, 2], "a": {"y": null, "x": 1}}))
    {"a":{"x":1,"y":null},"b":[1,2]}
    """
    return msgspec.json.encode(value, order="sorted").decode()


@python(name_after="tree")
def treepath(value: Json) -> Json | None:
    """The paths of all that is inside a dynamic value; [0] stands for the elements of an array.

    >>> treepath(dynamic({"a": [1, 2], "b": {"c": 1}}))
    ["['a']","['a'][0]","['b']","['b']['c']"]
    """
    if not isinstance(value, dict | list):
        return None
    found: dict[str, None] = {}
    waiting: list[tuple[str, object]] = [("", value)]
    while waiting:
        path, item = waiting.pop()
        if path:
            found.setdefault(path)
        if isinstance(item, dict):
            waiting += [(f"{path}['{name}']", inner) for name, inner in reversed(item.items())]
        elif isinstance(item, list):
            waiting += [(f"{path}[0]", inner) for inner in reversed(item)]
    return list(found)


_INDEXER = "`indexer`"


def _type_of(value: object) -> str:
    if isinstance(value, bool):
        return "bool"
    return {int: "long", float: "double", str: "string"}.get(type(value), "")


def _schema(values: list[object], depth: int = 0) -> object:
    """The least schema that all values fit: a type, a bag of schemas, or an array of alternatives."""
    found: list[object] = []
    for value in values:
        name = _type_of(value)
        if name and name not in found:
            found.append(name)
    bags = [value for value in values if isinstance(value, dict)]
    lists = [value for value in values if isinstance(value, list)]
    if depth < 64 and (bags or lists):
        members: dict[str, list[object]] = {}
        for bag in bags:
            for name, inner in bag.items():
                members.setdefault(name, []).append(inner)
        if lists:
            members[_INDEXER] = [item for items in lists for item in items]
        found.append({name: _schema(inner, depth + 1) for name, inner in members.items()})
    return found[0] if len(found) == 1 else found or None


@python("schema_of", internal=True)
def schema_of(values: Json) -> Json | None:
    """The schema of several values."""
    return _schema(values) if isinstance(values, list) else None


@aggregate(prefix="schema", keeps_order=True)
def buildschema(value: Dynamic) -> Dynamic:
    """The least schema that all of the group's values fit."""
    known = exp.Where(this=sql.negate(sql.is_null(value.copy())))
    values = exp.Filter(this=exp.Anonymous(this="list", expressions=[value]), expression=known)
    return schema_of.overloads[0].build(sql.array(sql.coalesce(values, exp.Array())))


@python("session_start", internal=True)
def session_start(micros: Json, longest: Duration) -> Moment | None:
    """Where the session of the last of these moments (microseconds) began."""
    start: int | None = None
    for item in micros if isinstance(micros, list) else []:
        if not isinstance(item, int):
            start = None
        elif start is None or longest is None or (item - start) * 10 >= longest:
            start = item
    return None if start is None else start * 10


@window()
def row_window_session(
    moment: Datetime, longest: Timespan, gap: Timespan, restart: Bool | None = None
) -> Datetime:
    """When the row's session began: a new one begins after `gap`, or `longest` after its start."""
    micros = sql.epoch_us(moment)
    before = over(sql.call("lag", micros))
    distance = sql.binary(exp.Mul, sql.binary(exp.Sub, micros.copy(), before), sql.literal(10))
    begins = [sql.coalesce(sql.binary(exp.GTE, distance, gap), exp.true())]
    if restart is not None:
        begins.append(sql.coalesce(restart, exp.false()))
    run = over(exp.Sum(this=sql.cast(exp.Paren(this=sql.any_of(*begins)), KqlType.INT)), running=True)
    rows = over(sql.call("list", micros.copy()), running=True, within=run)
    return session_start.overloads[0].build(sql.array(rows), longest)
