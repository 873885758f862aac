"""Result columns against Microsoft's parser: `python bench/kql/binder.py [--corpus FILE] [--json FILE]`.

Three sets of queries are checked by ours and by theirs: the examples of a corpus (`--corpus`, JSON lines with
id and query), the package's rules, hunts and functions, and the queries of `binder.kql`, written for this.
Counted are the queries that both take or both refuse, and of those both take the ones with equal names and
types of result columns. A difference that KNOWN explains is listed as known; any other counts. Exit code 0
where 99 % of each set are equal, 1 where not, 2 where Microsoft's parser is not there (`npm install
@kusto/language-service-next`, and Node).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from trailhawk.engine.duckdb import DuckDBEngine
from trailhawk.errors import TrailhawkError
from trailhawk.kql.schema import HIDDEN_PREFIX
from trailhawk.kql.stored import Functions
from trailhawk.workspace import Workspace

HERE = Path(__file__).parent
SHARED = HERE.parents[2] / "shared" / "kql"
BAR = 99.0
NOW = datetime(2026, 3, 1, tzinfo=UTC)

Columns = tuple[tuple[str, str], ...]
"""Name and type of each result column."""


@dataclass(frozen=True)
class Query:
    """A query of a set, with the name it is told by."""

    name: str
    text: str


@dataclass(frozen=True)
class Known:
    """A known difference: the queries that `where` finds are compared after `alike` on both sides."""

    reason: str
    where: re.Pattern[str]
    alike: Callable[[Columns, str], Columns]


def _one_integer(columns: Columns, text: str) -> Columns:
    return tuple((name, "int or long" if kind in ("int", "long") else kind) for name, kind in columns)


def _no_covariance(columns: Columns, text: str) -> Columns:
    return tuple((re.sub(r"^covariance(p?)(if)?_.*", r"covariance\1", name), kind) for name, kind in columns)


def _no_numbers(columns: Columns, text: str) -> Columns:
    return tuple((re.sub(r"\d+$", "", name), kind) for name, kind in columns)


def _no_match(columns: Columns, text: str) -> Columns:
    return tuple(column for column in columns if column[0] != "match_id")


def _named(columns: Columns, text: str) -> Columns:
    return tuple((name if name not in ("", "print_0", "Column1") else "none", kind) for name, kind in columns)


def _any_order(columns: Columns, text: str) -> Columns:
    return tuple(sorted(columns))


def _small(columns: Columns, text: str) -> Columns:
    return tuple((name.lower(), kind) for name, kind in columns)


def _one_measure(columns: Columns, text: str) -> Columns:
    return tuple((name, "real or dynamic" if kind in ("real", "dynamic") else kind) for name, kind in columns)


def _text_or_bag(columns: Columns, text: str) -> Columns:
    return tuple(
        (name, "dynamic or what it holds" if kind in ("string", "long", "dynamic") else kind)
        for name, kind in columns
    )


def _not_split(columns: Columns, text: str) -> Columns:
    split = re.search(r"\bdiffpatterns\s*\(\s*(\w+)", text)
    return tuple(column for column in columns if not split or column[0] != split[1])


def _without_types(columns: Columns, text: str) -> Columns:
    return tuple((name.removesuffix("_" + kind), "") for name, kind in columns if kind != "unknown")


_SCAN = re.compile(r"\|\s*scan\b(?![\s\S]*\bwith_match_id\b)")
KNOWN = (
    Known(
        "the engine gives long where the parser says int",
        re.compile(r"\b(datetime_part|datetime_diff|getyear|hourofday|monthofyear|ceiling)\s*\("),
        _one_integer,
    ),
    Known("the engine names covariance* by its columns", re.compile(r"\bcovariance"), _no_covariance),
    Known("the numbers of union's clashing columns", re.compile(r"\bunion\b"), _no_numbers),
    Known("the engine gives scan's match_id where it is asked for", _SCAN, _no_match),
    Known(
        "the parser names no scalar statement and no expression of top-nested, the engine does",
        re.compile(r"^(?![\s\S]*\|)|\btop-nested\b"),
        _named,
    ),
    Known(
        "the documentation prints ipv6_lookup's columns after those of the table of networks",
        re.compile(r"\bipv6_lookup\b"),
        _any_order,
    ),
    Known(
        "the documentation prints sliding_window_counts' last column as dcount",
        re.compile(r"\bsliding_window_counts\b"),
        _small,
    ),
    Known("the documentation says jaccard_index is a real", re.compile(r"\bjaccard_index\b"), _one_measure),
    Known(
        "the documentation says strcat_array gives text and array_length a number, over map() too",
        re.compile(r"\bgraph-match\b[\s\S]*\b(strcat_array|array_length)\s*\(\s*map\b"),
        _text_or_bag,
    ),
    Known(
        "the documentation prints diffpatterns without the column that splits the rows",
        re.compile(r"\bdiffpatterns\b"),
        _not_split,
    ),
    Known(
        "the parser keeps columns of unknown type for a table that is not there",
        re.compile(r"\bisfuzzy\s*=\s*true\b"),
        _without_types,
    ),
)


@dataclass
class Figures:
    """What was found of one set."""

    queries: int = 0
    alike: int = 0
    both: int = 0
    """Taken by both."""
    equal: int = 0
    known: dict[str, list[str]] = field(default_factory=dict)
    different: list[str] = field(default_factory=list)

    @property
    def percent(self) -> float:
        """Of the queries both take, those with equal columns, known differences aside."""
        return 100 * (self.equal + sum(map(len, self.known.values()))) / max(self.both, 1)

    @property
    def percent_alike(self) -> float:
        """Of all queries, those both take or both refuse."""
        return 100 * self.alike / max(self.queries, 1)

    def told(self) -> dict[str, object]:
        """As JSON."""
        return {
            "queries": self.queries,
            "alike": self.alike,
            "both": self.both,
            "equal": self.equal,
            "known": self.known,
            "different": self.different,
            "percent_alike": round(self.percent_alike, 2),
            "percent": round(self.percent, 2),
        }


# --- the two sides ------------------------------------------------------------------------------------------


def ours(query: Query, engine: DuckDBEngine) -> Columns | str:
    """The result columns, or the error."""
    try:
        compiled = engine.compiled(query.text, now=NOW)
    except TrailhawkError as error:
        return str(error)
    return tuple((column.name, column.type.value) for column in compiled.columns)


def theirs(
    queries: Iterable[Query],
    oracle: list[str],
    tables: Mapping[str, str],
    functions: Mapping[str, str],
    environment: Mapping[str, str],
) -> Iterator[Columns | str]:
    """The result columns of each query by Microsoft's parser, or its first error."""
    lines = "".join(
        json.dumps({"id": query.name, "query": query.text, "tables": tables, "functions": functions}) + "\n"
        for query in queries
    )
    done = subprocess.run(oracle, input=lines, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"the oracle failed: {done.stderr.strip()}")
    for line in done.stdout.splitlines():
        found = json.loads(line)
        errors = [*found.get("syntax_errors", ()), *found.get("semantic_errors", ())]
        if "oracle_failure" in found or errors:
            yield str(found.get("oracle_failure") or errors[0]["message"])
        else:
            yield tuple((column["name"], column["type"]) for column in found["result_columns"] or ())


def schemas(engine: DuckDBEngine) -> dict[str, str]:
    """The workspace's tables as the parser's `(name: type, ...)`."""
    found = {}
    for name in engine.tables.table_names():
        table = engine.tables.table(name)
        if table is not None:
            found[name] = (
                "("
                + ", ".join(
                    f"['{c.name}']: {c.type.value}"
                    for c in table.columns
                    if not c.name.startswith(HIDDEN_PREFIX)
                )
                + ")"
            )
    return found


def bodies(functions: Functions) -> dict[str, str]:
    """The stored functions as the parser's `(parameters) { body }`."""
    found = {}
    for function in functions.all():
        lines = (function.text or "").splitlines()
        while lines and lines[0].startswith("//"):
            lines.pop(0)
        text = "\n".join(lines).strip()
        found[function.name] = text if function.parameters or text.startswith("(") else f"() {{ {text}\n}}"
    return found


# --- the sets -----------------------------------------------------------------------------------------------


def of_corpus(path: Path) -> list[Query]:
    """The examples of a corpus file."""
    cases = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [Query(case["id"], case["query"]) for case in cases]


def of_content(workspace: Workspace) -> list[Query]:
    """The package's rules and hunts, and a call of each function without parameters it must have."""
    found = [
        Query(rule.name, rule.query) for rule in (*workspace.content.rules(), *workspace.content.hunts())
    ]
    for function in workspace.functions.all():
        needs = [one for one in function.value.parameters if one.default is None]
        if not needs:
            found.append(Query(f"{function.name}()", f"{function.name}()"))
    return found


def of_file(path: Path) -> list[Query]:
    """The queries of a file, each under a line `=== name`."""
    blocks = path.read_text(encoding="utf-8").split("=== ")[1:]
    return [Query(name.strip(), text) for name, _, text in (block.partition("\n") for block in blocks)]


def compared(queries: list[Query], engine: DuckDBEngine, answers: Iterable[Columns | str]) -> Figures:
    """The two sides of each query side by side."""
    figures = Figures()
    for query, their in zip(queries, answers, strict=True):
        own = ours(query, engine)
        figures.queries += 1
        if isinstance(own, str) or isinstance(their, str):
            if isinstance(own, str) and isinstance(their, str):
                figures.alike += 1
            else:
                who = "ours refuses" if isinstance(own, str) else "theirs refuses"
                figures.different.append(f"{query.name}: {who}: {own if isinstance(own, str) else their}")
            continue
        figures.alike += 1
        figures.both += 1
        if own == their:
            figures.equal += 1
            continue
        reason = _reason(query, own, their)
        if reason:
            figures.known.setdefault(reason, []).append(query.name)
        else:
            figures.different.append(f"{query.name}: {_difference(own, their)}")
    return figures


def _reason(query: Query, own: Columns, their: Columns) -> str:
    """Why the columns differ, as far as that is known; '' where it is not."""
    reasons = []
    for known in KNOWN:
        if known.where.search(query.text):
            before = (own, their)
            own, their = known.alike(own, query.text), known.alike(their, query.text)
            if (own, their) != before:
                reasons.append(known.reason)
            if own == their:
                return reasons[-1]
    return ""


def _difference(own: Columns, their: Columns) -> str:
    if len(own) != len(their):
        return f"ours {_shown(own)}; theirs {_shown(their)}"
    places = [place for place, (left, right) in enumerate(zip(own, their, strict=True)) if left != right]
    return "; ".join(
        f"ours {_shown(own[place : place + 1])}, theirs {_shown(their[place : place + 1])}"
        for place in places[:6]
    )


def _shown(columns: Columns) -> str:
    return ", ".join(f"{name}: {kind}" for name, kind in columns)


def show(name: str, figures: Figures) -> None:
    """The figures of a set, and every difference."""
    print(f"\n{name}: {figures.queries} queries")
    print(f"  taken or refused alike   {figures.alike} of {figures.queries} ({figures.percent_alike:.2f} %)")
    explained = sum(map(len, figures.known.values()))
    print(f"  columns equal            {figures.equal} of {figures.both}, known differences {explained}")
    print(f"  equal, those aside       {figures.percent:.2f} % (bar {BAR:.0f} %)")
    for reason, names in figures.known.items():
        print(f"  known: {reason}: {', '.join(names)}")
    for line in figures.different:
        print(f"  different: {line}")


def main() -> int:
    """The figures of all sets; 0 where each keeps the bar, 1 where not, 2 without Microsoft's parser."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", type=Path, default=SHARED / "docs_corpus.jsonl", help="JSON lines")
    parser.add_argument("--queries", type=Path, default=HERE / "binder.kql", help="queries under === lines")
    parser.add_argument("--oracle", type=Path, default=SHARED / "kql_oracle.js", help="the oracle's script")
    parser.add_argument("--parser", type=Path, help="its folder, or npm's (default: KQL_LS or .)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    given = parser.parse_args()
    package = given.parser or Path(os.environ.get("KQL_LS", "."))
    if (installed := package / "node_modules" / "@kusto" / "language-service-next").is_dir():
        package = installed
    node = shutil.which("node")
    for there, what in (
        (node, "Node"),
        (given.oracle.exists(), f"the oracle's script {given.oracle}"),
        ((package / "bridge.js").exists(), f"Microsoft's parser in {package}"),
    ):
        if not there:
            print(f"left out: {what} is not there")
            return 2
    oracle = [str(node), str(given.oracle), "--no-features"]
    environment = {**os.environ, "KQL_LS": str(package.resolve())}
    found: dict[str, Figures] = {}
    with tempfile.TemporaryDirectory() as home:
        workspace = Workspace.open(Path(home))
        engine = workspace.engine
        tables, functions = schemas(engine), bodies(workspace.functions)
        sets = {"content": of_content(workspace), given.queries.name: of_file(given.queries)}
        if given.corpus.exists():
            sets = {"corpus": of_corpus(given.corpus), **sets}
        else:
            print(f"left out: the corpus {given.corpus} is not there")
        for name, queries in sets.items():
            apart = name == "corpus"
            answers = theirs(
                queries, oracle, {} if apart else tables, {} if apart else functions, environment
            )
            found[name] = compared(queries, engine, answers)
            show(name, found[name])
    if given.json:
        given.json.write_text(json.dumps({name: one.told() for name, one in found.items()}, indent=1))
    return 0 if all(min(one.percent, one.percent_alike) >= BAR for one in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
