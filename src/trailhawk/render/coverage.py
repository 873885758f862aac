"""Coverage of ATT&CK: a matrix for the terminal, a page of HTML, a layer for the ATT&CK Navigator, JSON."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

from trailhawk.detect.coverage import Coverage, Covered, Flow, Source, Standing
from trailhawk.render.text import moment
from trailhawk.visible import visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

MARKS: Final[Mapping[Standing, str]] = {
    Standing.PROVEN: "*",
    Standing.WATCHED: "+",
    Standing.HUNTED: "?",
    Standing.BLIND: "!",
    Standing.FAILING: "x",
    Standing.OFF: "-",
    Standing.NONE: ".",
}
"""A mark each, so that the matrix says the same without colour."""

_STYLES = {
    Standing.PROVEN: "bold green",
    Standing.WATCHED: "green",
    Standing.HUNTED: "cyan",
    Standing.BLIND: "bold red",
    Standing.FAILING: "bold magenta",
    Standing.OFF: "yellow",
    Standing.NONE: "dim",
}
_NARROWEST, _GAP = 38, 2
_PIPE_WIDTH = 120
_NOTE = (
    "r rules, h hunts; those of sub-techniques count for their technique. A name is no proof, a canary is."
)
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


# --- terminal ----------------------------------------------------------------------------------------------


def print_coverage(console: Console, found: Coverage) -> None:
    """Print the matrix, tactic by tactic in as many columns as the terminal has room for, and the data."""
    width = console.width if console.is_terminal else _PIPE_WIDTH
    print_matrix(console, found, width=width)
    _print_data(console, found)


def print_matrix(console: Console, found: Coverage, *, width: int) -> None:
    """Print the blocks of the tactics side by side in this many characters, then the legend and the sums."""
    from rich.text import Text

    many = max(1, (width + _GAP) // (_NARROWEST + _GAP))
    each = (width + _GAP) // many - _GAP
    blocks = [
        [Text(_cut(f"{tactic.title} ({tactic.id})", each), style="bold"), *_lines(column, each), Text("")]
        for tactic, column in found.columns
    ]
    columns = _spread(blocks, many)
    for place in range(max(map(len, columns), default=0)):
        line = Text()
        for column in columns:
            cell = column[place] if place < len(column) else Text("")
            line.append_text(cell)
            line.append(" " * (each + _GAP - cell.cell_len))
        line.rstrip()
        console.print(line, no_wrap=True, crop=False, overflow="ignore", soft_wrap=True)
    _print_legend(console, found)


def _spread(blocks: Sequence[list[Text]], many: int) -> list[list[Text]]:
    """The blocks in order, in so many columns of about one height; none is torn apart."""
    low, high = max(map(len, blocks), default=0), sum(map(len, blocks))
    while low < high:
        middle = (low + high) // 2
        if len(_filled(blocks, middle)) <= many:
            high = middle
        else:
            low = middle + 1
    return _filled(blocks, high)


def _filled(blocks: Sequence[list[Text]], height: int) -> list[list[Text]]:
    columns: list[list[Text]] = []
    for block in blocks:
        if columns and len(columns[-1]) + len(block) <= height:
            columns[-1] += block
        else:
            columns.append(list(block))
    return columns


def _lines(column: Sequence[Covered], width: int) -> list[Text]:
    from rich.text import Text

    lines = []
    present = {covered.technique.id for covered in column}
    for covered in column:
        technique = covered.technique
        is_below = technique.parent in present
        shown = f".{technique.id.partition('.')[2]}" if is_below else technique.id
        counts = " ".join(
            f"{count}{kind}"
            for count, kind in ((len(covered.rules), "r"), (len(covered.hunts), "h"))
            if count
        )
        name = _cut(f"{shown:>5} {technique.title}", width - 3 - len(counts))
        text = f"{MARKS[covered.standing]} {name}"
        lines.append(
            Text(text + " " * (width - len(text) - len(counts)) + counts, style=_STYLES[covered.standing])
        )
    return lines


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(0, width - 2)].rstrip() + ".."


def _print_legend(console: Console, found: Coverage) -> None:
    from rich.text import Text

    counted = found.counted()
    head = f"ATT&CK {found.version}, matrix for IaaS: {len(found.matrix)} techniques and sub-techniques"
    console.print(Text(head, style="bold"), soft_wrap=True)
    for standing, count in counted.items():
        console.print(
            Text(f"{MARKS[standing]} {count:>3} {standing.value}: {standing.about}", style=_STYLES[standing]),
            soft_wrap=True,
        )
    console.print(
        _NOTE,
        soft_wrap=True,
    )
    if found.beyond:
        beyond = ", ".join(each.technique.id for each in found.beyond)
        console.print(f"Named beyond the matrix: {beyond}", soft_wrap=True)
    if found.unknown:
        console.print(visible(f"Not in our table: {', '.join(found.unknown)}"), soft_wrap=True)


def _print_data(console: Console, found: Coverage) -> None:
    from trailhawk.render.table import print_rows

    rows = data_rows(found)
    if not rows:
        return
    headings = {
        "table": "data",
        "state": "state",
        "rows": "rows, last day",
        "last": "newest event",
        "rules": "rules",
        "hunts": "hunts",
    }
    if any(row["silent"] for row in rows):
        headings["silent"] = "silent"
    console.print()
    print_rows(
        console,
        list(headings.values()),
        [[_listed(row[name]) for name in headings] for row in rows],
        right=["rows, last day", "rules", "hunts"],
    )


def _listed(value: object) -> object:
    return ", ".join(map(str, value)) if isinstance(value, list) else value


def data_rows(found: Coverage) -> list[dict[str, object]]:
    """The tables that rules or hunts need, with how their data comes and how many need them."""
    return [
        {
            "table": table.name,
            "state": table.flow.value,
            "rows": table.rows,
            "last": table.last,
            "silent": list(table.silent),
            "rules": sum(table.name in each.tables and not each.is_hunt for each in found.sources),
            "hunts": sum(table.name in each.tables and each.is_hunt for each in found.sources),
        }
        for table in found.tables
        if any(table.name in each.tables for each in found.sources)
    ]


# --- JSON --------------------------------------------------------------------------------------------------


def as_json(found: Coverage) -> dict[str, object]:
    """An object: `tactics` with their techniques, `beyond`, `unknown`, `data`, `sums`."""
    return {
        "attack": found.version,
        "at": found.at,
        "sums": {standing.value: count for standing, count in found.counted().items()},
        "tactics": [
            {
                "id": tactic.id,
                "name": tactic.title,
                "techniques": [_technique(covered) for covered in column],
            }
            for tactic, column in found.columns
        ],
        "beyond": [_technique(covered) for covered in found.beyond],
        "unknown": list(found.unknown),
        "data": data_rows(found),
    }


def _technique(covered: Covered) -> dict[str, object]:
    return {
        "id": covered.technique.id,
        "name": covered.technique.title,
        "parent": covered.technique.parent or None,
        "standing": covered.standing.value,
        "tables": list(covered.tables),
        "canary": covered.canary,
        "rules": [_source(each) for each in covered.rules],
        "hunts": [_source(each) for each in covered.hunts],
    }


def _source(source: Source) -> dict[str, object]:
    return {
        "id": source.rule.id,
        "name": source.rule.name,
        "severity": source.rule.severity.value,
        "enabled": source.enabled,
        "tables": list(source.tables),
        "data": source.flow.value,
        "canary": source.canary and {"at": source.canary.at, "passed": source.canary.passed},
        "reason": source.reason or (source.canary.reason if source.canary else ""),
    }


# --- ATT&CK Navigator --------------------------------------------------------------------------------------


def navigator(found: Coverage) -> dict[str, object]:
    """A layer of the ATT&CK Navigator, format 4.5.

    https://github.com/mitre-attack/attack-navigator/blob/master/layers/LAYERFORMATv4_5.md
    """
    return {
        "name": "Trailhawk",
        "versions": {"attack": str(found.version), "navigator": "4.9.0", "layer": "4.5"},
        "domain": "enterprise-attack",
        "description": f"Rules, hunts, data and canaries as of {moment(found.at.replace(microsecond=0))}",
        "filters": {"platforms": ["IaaS"]},
        "sorting": 0,
        "layout": {"layout": "side", "showID": True, "showName": True, "expandedSubtechniques": "annotated"},
        "hideDisabled": False,
        "techniques": [_layered(covered) for covered in (*found.matrix, *found.beyond)],
        "gradient": {"colors": ["#ffffff", "#f4a582", "#92c5de", "#1b7837"], "minValue": 0, "maxValue": 100},
        "legendItems": [
            {"label": f"{standing.score}: {standing.value}, {standing.about}", "color": _COLOURS[standing]}
            for standing in reversed(Standing)
        ],
        "metadata": [
            {"name": standing.value, "value": str(count)} for standing, count in found.counted().items()
        ],
        "selectTechniquesAcrossTactics": True,
        "selectSubtechniquesWithParent": False,
    }


def _layered(covered: Covered) -> dict[str, object]:
    technique = covered.technique
    names = [each.rule.name for each in covered.rules]
    hunts = [f"hunt: {each.rule.name}" for each in covered.hunts]
    metadata = [
        ("standing", covered.standing.value),
        ("rules", str(len(names))),
        ("hunts", str(len(hunts))),
        ("data", ", ".join(covered.tables)),
        ("last canary", moment(covered.canary) if covered.canary else ""),
    ]
    return {
        "techniqueID": technique.id,
        "score": covered.standing.score,
        "comment": visible("\n".join(names + hunts), keep="\n"),
        "enabled": True,
        "metadata": [{"name": name, "value": value} for name, value in metadata if value],
        "links": [{"label": "ATT&CK", "url": _url(technique.id)}],
        "showSubtechniques": False,
    }


def _url(number: str) -> str:
    return f"https://attack.mitre.org/techniques/{number.replace('.', '/')}/"


# --- HTML --------------------------------------------------------------------------------------------------

_COLOURS = {
    Standing.PROVEN: "#1b7837",
    Standing.WATCHED: "#7fbf7b",
    Standing.HUNTED: "#92c5de",
    Standing.BLIND: "#d6604d",
    Standing.FAILING: "#c994c7",
    Standing.OFF: "#e0b84c",
    Standing.NONE: "#e6e6e6",
}

_STYLE = """
:root { color-scheme: light dark; --line: #8886; --soft: #8882; }
body { font: 14px/1.4 system-ui, sans-serif; margin: 1.5rem; }
h1 { font-size: 1.4rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
p { margin: .3rem 0; }
.legend { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; padding: 0; margin: .8rem 0; list-style: none; }
.mark { display: inline-block; width: 1.3em; text-align: center; border-radius: .2em; color: #000;
  font-weight: 700; font-family: ui-monospace, monospace; }
.matrix { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: 1rem; }
.tactic { break-inside: avoid-column; } .tactic h3 { font-size: .95rem; margin: 0 0 .3rem; }
.tactic ul { list-style: none; margin: 0; padding: 0; }
.tactic li { border-left: .35rem solid; padding: .1rem .4rem; margin: .12rem 0; background: var(--soft); }
.tactic li.sub { margin-left: 1rem; }
.tactic li a { color: inherit; text-decoration: none; } .tactic li a:hover { text-decoration: underline; }
.n { float: right; opacity: .75; }
table { border-collapse: collapse; width: 100%; margin: .3rem 0 1rem; }
th, td { text-align: left; vertical-align: top; padding: .2rem .6rem .2rem 0;
  border-bottom: 1px solid var(--line); overflow-wrap: anywhere; }
td.r, th.r { text-align: right; }
section.technique { break-inside: avoid; }
section.technique h3 { font-size: 1rem; margin: 1.2rem 0 .2rem; }
section.technique table { table-layout: fixed; }
section.technique th:nth-child(1) { width: 3rem; } section.technique th:nth-child(3) { width: 7rem; }
section.technique th:nth-child(4) { width: 22%; } section.technique th:nth-child(5) { width: 5rem; }
section.technique th:nth-child(6) { width: 24%; }
@media print {
  body { margin: 0; font-size: 9pt; color: #000; background: #fff; }
  .matrix { grid-template-columns: repeat(4, 1fr); gap: .4rem; }
  .tactic li, .mark { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""


def page(found: Coverage) -> str:
    """One HTML file that needs no other: the matrix, the data, each technique that something names."""
    counted = found.counted()
    legend = "".join(
        f"<li>{_mark(standing)} {count} <b>{standing.value}</b>: {html.escape(standing.about)}</li>"
        for standing, count in counted.items()
    )
    matrix = "".join(
        f'<div class="tactic"><h3>{_safe(tactic.title)} <small>{_safe(tactic.id)}</small></h3><ul>'
        + "".join(map(_cell, column))
        + "</ul></div>"
        for tactic, column in found.columns
    )
    named = [covered for covered in (*found.matrix, *found.beyond) if covered.sources]
    unknown = (
        f"<p>Named, but not in our table: {_safe(', '.join(found.unknown))}</p>" if found.unknown else ""
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>ATT&amp;CK coverage</title><style>{_STYLE}</style></head><body>"
        f"<h1>ATT&amp;CK coverage</h1><p>ATT&amp;CK {found.version}, matrix for IaaS, {len(found.matrix)} "
        f"techniques and sub-techniques, as of {_when(found.at)}</p>"
        f'<ul class="legend">{legend}</ul>'
        f'<p>{_NOTE}</p>{unknown}<div class="matrix">{matrix}</div>'
        f"<h2>Data</h2>{_data_table(found)}"
        f"<h2>Techniques</h2>{''.join(map(_section, named))}</body></html>\n"
    )


def _safe(text: str) -> str:
    return html.escape(visible(text))


def _mark(standing: Standing) -> str:
    return f'<span class="mark" style="background:{_COLOURS[standing]}">{MARKS[standing]}</span>'


def _cell(covered: Covered) -> str:
    technique, standing = covered.technique, covered.standing
    counts = " ".join(
        f"{count}{kind}" for count, kind in ((len(covered.rules), "r"), (len(covered.hunts), "h")) if count
    )
    name = f"{MARKS[standing]} {_safe(technique.id)} {_safe(technique.title)}"
    if covered.sources:
        name = f'<a href="#{_safe(technique.id)}">{name}</a>'
    kind = ' class="sub"' if technique.parent else ""
    return (
        f'<li{kind} style="border-color:{_COLOURS[standing]}" title="{_safe(standing.about)}">'
        f'<span class="n">{counts}</span>{name}</li>'
    )


def _data_table(found: Coverage) -> str:
    rows = "".join(
        f"<tr><td>{_safe(str(row['table']))}</td><td>{_safe(str(row['state']))}</td>"
        f'<td class="r">{row["rows"]:,}</td><td>{_when(row["last"])}</td><td class="r">{row["rules"]}</td>'
        f'<td class="r">{row["hunts"]}</td>'
        f"<td>{_safe(str(_listed(row['silent'])))}</td></tr>"
        for row in data_rows(found)
    )
    head = '<th>table</th><th>state</th><th class="r">rows, last day</th><th>newest event</th>'
    head += '<th class="r">rules</th><th class="r">hunts</th><th>silent streams</th>'
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _section(covered: Covered) -> str:
    technique = covered.technique
    rows = "".join(
        f"<tr><td>{'hunt' if each.is_hunt else 'rule'}</td><td>{_safe(each.rule.name)}</td>"
        f"<td>{_severity(each)}</td>"
        f"<td>{_safe(', '.join(each.tables))}</td><td>{_flow(each.flow)}</td>"
        f"<td>{_canary(each)}</td></tr>"
        for each in covered.sources
    )
    head = "<th></th><th>name</th><th>severity</th><th>data needed</th><th>arriving</th><th>last canary</th>"
    return (
        f'<section class="technique" id="{_safe(technique.id)}"><h3>{_mark(covered.standing)} '
        f"{_safe(technique.id)} {_safe(technique.title)}</h3>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></section>"
    )


def _severity(source: Source) -> str:
    return ("" if source.is_hunt else _safe(source.rule.severity.value)) + (
        "" if source.enabled else " (disabled)"
    )


def _canary(source: Source) -> str:
    last = source.canary
    if last is None:
        return "none"
    return f"passed {_when(last.at)}" if last.passed else f"failed {_when(last.at)}: {_safe(last.reason)}"


def _flow(flow: Flow) -> str:
    return {Flow.ARRIVING: "yes", Flow.PARTLY: "partly", Flow.SILENT: "silent", Flow.NEVER: "never came"}[
        flow
    ]


def _when(value: object) -> str:
    return _safe(moment(value.replace(microsecond=0))) if isinstance(value, datetime) else "none"
