"""The detection rules."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from getpass import getuser
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated

import typer

from trailhawk.cli import backtest, canary, exceptions, feedback
from trailhawk.cli.options import (
    EXIT_FAILURE,
    SEVERITIES,
    FormatOption,
    QuietOption,
    RulesOption,
    examples,
    group,
    has_place,
    left_out,
    offered,
    save,
    tell,
    workspace_of,
)
from trailhawk.errors import NotFoundError, UsageError
from trailhawk.render.output import Format, Shown, show_list, show_one
from trailhawk.render.text import members
from trailhawk.visible import visible
from trailhawk.words import counted

if TYPE_CHECKING:
    from trailhawk.detect.exceptions import RuleException
    from trailhawk.detect.rule import Rule, Severity
    from trailhawk.detect.rulebook import RuleState
    from trailhawk.detect.validate import Finding

app = group("The detection rules.")
app.add_typer(exceptions.app, name="exceptions")
app.command(
    "except",
    epilog=examples(
        "trailhawk rules except key-for-another-user --where \"Principal has 'deployer'\" --until 2027-06-30 "
        "--reason 'makes keys for customers, agreed with Ada'",
        "trailhawk rules except '*' --where \"SourceIpAddress == '203.0.113.9'\" --until 2027-01-31 "
        "--reason 'penetration test' --dry-run --last 30d",
    ),
)(exceptions.except_rule)
app.command(
    "backtest",
    epilog=examples(
        "trailhawk rules backtest large-bucket-read --last 30d",
        "trailhawk rules backtest my-rule.yaml --last 7d --rows 20",
        "trailhawk rules backtest large-bucket-read --against changed.yaml --format json",
    ),
)(backtest.backtest)
app.command(
    "canary",
    epilog=examples(
        "trailhawk rules canary",
        "trailhawk rules canary large-bucket-read root-use",
        "trailhawk rules canary --junit canaries.xml --format json",
    ),
)(canary.canary)
app.command(
    "precision",
    epilog=examples("trailhawk rules precision", "trailhawk rules precision large-bucket-read --format json"),
)(feedback.precision)
app.command(
    "propose",
    epilog=examples(
        "trailhawk rules propose large-bucket-read", "trailhawk rules propose large-bucket-read --last 90d"
    ),
)(feedback.propose)


SIGMA_STATES = ("imported", "skipped", "failed")
_TECHNIQUE = re.compile(r"T\d{4}(\.\d{3})?", re.IGNORECASE)

RuleArgument = Annotated[
    str,
    typer.Argument(
        metavar="RULE",
        help="Its id, name or file, or a part of them that only it has.",
        autocompletion=offered("rules"),
    ),
]


@app.command(
    "list",
    epilog=examples(
        "trailhawk rules list",
        "trailhawk rules list --severity High --tactic Exfiltration",
        "trailhawk rules list --technique T1562 --only trail",
        "trailhawk rules list --rules my-rules",
    ),
)
def rules_list(
    context: typer.Context,
    severity: Annotated[
        list[str] | None,
        typer.Option(
            "--severity",
            help="Informational, Low, Medium or High; may be repeated.",
            autocompletion=SEVERITIES,
        ),
    ] = None,
    tactic: Annotated[
        list[str] | None,
        typer.Option("--tactic", metavar="NAME", help="As DefenseEvasion or TA0005; may be repeated."),
    ] = None,
    technique: Annotated[
        list[str] | None,
        typer.Option(
            "--technique", metavar="ID", help="As T1562, with those below it, or T1562.008; may be repeated."
        ),
    ] = None,
    only: Annotated[
        str, typer.Option("--only", metavar="TEXT", help="Only rules whose file or name holds this text.")
    ] = "",
    folders: RulesOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """List the rules with file, severity, tactics, techniques, frequency and period.

    The file's name, without its ending, is what other commands and the docs
    call a rule by. Options of several kinds narrow the list together.
    """
    workspace = workspace_of(context)
    severities = [_severity(name) for name in severity or ()]
    tactics = set().union(*(_tactics(name) for name in tactic or ()))
    techniques = [_technique(number) for number in technique or ()]
    rules = workspace.content.rules(map(Path, folders or ()), fault=left_out)
    states = workspace.content.rule_states.of(rules)
    excepted = workspace.content.exceptions.all()
    found = [
        _listed(rule, states[rule.id], excepted)
        for rule in rules
        if (not severities or rule.severity in severities)
        and (not tactics or not tactics.isdisjoint(rule.tactics))
        and (not techniques or any(_is_below(each, techniques) for each in rule.techniques))
        and only.lower() in f"{rule.source} {rule.name}".lower()
    ]
    columns = [
        Shown("name", "rule"),
        Shown("file", "file"),
        Shown("severity", "severity"),
        Shown("state", "state"),
        Shown("tactics", "tactics", extra=True),
        Shown("techniques", "techniques", extra=True),
        Shown("frequency", "every", right=True, extra=True),
        Shown("period", "looks back", right=True, extra=True),
        Shown("exceptions", "exceptions", right=True, extra=True),
    ]
    show_list(found, columns, form, empty=f"none of {len(rules):,} rules is so" if rules else "no rules")


def _severity(name: str) -> Severity:
    from trailhawk.detect.rule import Severity

    if (found := Severity.named(name)) is None:
        names = ", ".join(each.value for each in Severity)
        raise UsageError(f"no severity '{name}'", hint=f"there are {names}")
    return found


def _tactics(name: str) -> set[str]:
    """What rules call the tactics of this name, written in any way, or of this id in any version."""
    from trailhawk.detect.attack_table import attack_table

    table = attack_table()
    wanted = "".join(filter(str.isalnum, name)).lower()
    found = {tactic.name for tactic in table.all_tactics if tactic.id.lower() == wanted}
    if wanted in table.tactic_names:
        found.add(table.tactic_names[wanted])
    if not found:
        names = ", ".join(dict.fromkeys(tactic.name for tactic in table.all_tactics))
        raise UsageError(f"no tactic '{name}'", hint=f"there are {names}")
    return found


def _technique(number: str) -> str:
    if not _TECHNIQUE.fullmatch(number.strip()):
        raise UsageError(f"no technique '{number}'", hint="they are T1562, T1562.008, ...")
    return number.strip().upper()


def _is_below(technique: str, others: Sequence[str]) -> bool:
    return any(technique == other or technique.startswith(f"{other}.") for other in others)


def _listed(rule: Rule, state: RuleState, excepted: Sequence[RuleException]) -> dict[str, object]:
    return {
        "id": rule.id,
        "name": rule.name,
        "file": PurePosixPath(rule.source).stem,
        "severity": rule.severity.value,
        "kind": rule.kind.value,
        "state": "enabled" if state.enabled else "disabled",
        "frequency": rule.frequency,
        "period": rule.period,
        "tactics": list(rule.tactics),
        "techniques": list(rule.techniques),
        "exceptions": sum(each.rule_id == rule.id for each in excepted),
        "source": rule.source,
    }


@app.command("show", epilog=examples("trailhawk rules show large-bucket-read"))
def rules_show(
    context: typer.Context,
    rule: RuleArgument,
    folders: RulesOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Show one rule: what it is for, its state, its query."""
    workspace = workspace_of(context)
    found = workspace.content.rule(rule, map(Path, folders or ()))
    state = workspace.content.rule_states.of([found])[found.id]
    excepted = workspace.content.exceptions_of(found)
    counts = workspace.content.exceptions.counts(rule_id=found.id)
    listed = [exceptions.listed(each, counts.get(each.id), workspace.clock()) for each in excepted]
    judged = workspace.incidents.precisions().get(found.id)
    if form is Format.TABLE:
        show_one(
            {
                **_listed(found, state, excepted),
                "reason": state.reason,
                "entities": [mapping.type for mapping in found.entity_mappings],
                "tests": len(found.tests),
                **({"precision": feedback.told(judged)} if judged and judged.judged else {}),
            },
            form,
        )
        for each in listed:
            took = f"{each['rows']:,} rows taken" + (f", the last at {each['last']}" if each["last"] else "")
            why = f"{each['state']} until {each['until']:%Y-%m-%d}: {each['reason']}; {took}"
            print(visible(f"\nexcept {each['id']}, {why}\n  where {each['where']}", keep="\n"))
        print(visible(f"\n{found.description}\n\n{found.query}".rstrip(), keep="\n"))
        return
    show_one(
        {
            **_listed(found, state, excepted),
            **members(state),
            "judged": feedback.listed(judged) if judged else None,
            "exceptions": listed,
            "description": found.description,
            "query": found.query,
        },
        form,
    )


@app.command("enable", epilog=examples("trailhawk rules enable large-bucket-read"))
def rules_enable(context: typer.Context, rule: RuleArgument, form: FormatOption = Format.TABLE) -> None:
    """Let a rule run."""
    _set(context, rule, True, "", form)


@app.command(
    "disable", epilog=examples("trailhawk rules disable large-bucket-read --reason 'migration week'")
)
def rules_disable(
    context: typer.Context,
    rule: RuleArgument,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; it is kept.")] = "",
    form: FormatOption = Format.TABLE,
) -> None:
    """Keep a rule from running; what it raised before stays."""
    _set(context, rule, False, reason, form)


def _set(context: typer.Context, rule: str, enabled: bool, reason: str, form: Format) -> None:
    workspace = workspace_of(context)
    found = workspace.content.rule(rule)
    state = workspace.content.rule_states.set(
        found, enabled=enabled, reason=reason, now=workspace.clock(), by=getuser()
    )
    show_one({"rule": found.name, **members(state)}, form)


@app.command(
    "import",
    epilog=examples("trailhawk rules import pack/", "trailhawk rules import one-rule.yaml template.json"),
)
def rules_import(
    context: typer.Context,
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH...", help="Files of rules (YAML, ARM JSON), and folders."),
    ],
    form: FormatOption = Format.TABLE,
) -> None:
    """Take rules and hunting queries of Sentinel into the home, as they are.

    Each is validated first: a file with an error is not taken, the others are.
    """
    workspace = workspace_of(context)
    found = workspace.content.import_rules(paths)
    if not found:
        raise _no_rules(paths)
    taken = sum(each.taken for each in found)
    _show_findings(
        [(each.source, each.rule.name if each.rule else "", each.findings) for each in found],
        form,
        told=f"{taken:,} of {counted(len(found), 'rule or hunt', 'rules and hunts')}"
        f" taken into {workspace.home}",
    )
    if any(not each.taken for each in found):
        raise typer.Exit(EXIT_FAILURE)


@app.command(
    "import-sigma",
    epilog=examples(
        "trailhawk rules import-sigma stop_logging.yml", "trailhawk rules import-sigma sigma/rules/cloud/aws"
    ),
)
def rules_import_sigma(
    context: typer.Context,
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH...", help="Files of Sigma rules (YAML), and folders."),
    ],
    form: FormatOption = Format.TABLE,
    quiet: QuietOption = False,
) -> None:
    """Take Sigma rules for CloudTrail and VPC flow logs into the home, as rules of ours.

    A rule for other logs, or one that Sigma calls deprecated, is skipped.
    Exit code 1 when a rule could not be taken for another reason, or none was.
    """
    from trailhawk.render.console import progress

    with progress("rules", quiet=quiet) as bar:
        found = workspace_of(context).content.import_sigma(paths, progress=bar)
    rows = [
        {
            "state": each.state.value,
            "source": each.source,
            "title": each.title,
            "reason": each.reason,
            "id": each.rule.id if each.rule else "",
            "file": each.rule.source if each.rule else "",
            "warnings": [finding.message for finding in each.warnings],
        }
        for each in found
    ]
    columns = [
        Shown("state", "state"),
        Shown("source", "file"),
        Shown("title", "rule"),
        Shown("reason", "reason"),
    ]
    show_list(rows, columns, form, empty="no Sigma rules")
    counts = [f"{sum(row['state'] == state for row in rows):,} {state}" for state in SIGMA_STATES]
    tell(", ".join(counts))
    if any(row["state"] == "failed" for row in rows) or not any(row["state"] == "imported" for row in rows):
        raise typer.Exit(EXIT_FAILURE)


@app.command("validate", epilog=examples("trailhawk rules validate", "trailhawk rules validate my-rules"))
def rules_validate(
    context: typer.Context,
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[PATH...]", help="Rule files and folders; all that is there unless given."),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Let a warning count as an error.")] = False,
    form: FormatOption = Format.TABLE,
) -> None:
    """Check rules and hunts without running them.

    Queries are bound against the tables of the lake, columns of entities,
    details and formats against the query's result, and times against the
    period. Exit code 1 when there is an error: something that keeps a rule
    from running. Columns that members name in vain, and tables of others that
    are not here, are warnings.
    """
    found = workspace_of(context).content.validate_rules(paths or ())
    if paths and not found:
        raise _no_rules(paths)
    _show_findings(found, form, told=f"{counted(len(found), 'rule or hunt', 'rules and hunts')} looked at")
    if any(strict or finding.level.value == "error" for *_, findings in found for finding in findings):
        raise typer.Exit(EXIT_FAILURE)


def _no_rules(paths: Sequence[Path]) -> NotFoundError:
    places = ", ".join(map(str, paths))
    return NotFoundError(f"no rules in {places}", hint="they are files that end in .yaml, .yml or .json")


def _show_findings(found: Sequence[tuple[str, str, Sequence[Finding]]], form: Format, *, told: str) -> None:
    rows = [
        {
            "source": source,
            "rule": name,
            **members(finding),
            "level": finding.level.value,
            **({"message": finding.told} if form is Format.TABLE else {}),
        }
        for source, name, findings in found
        for finding in findings
    ]
    columns = [
        Shown("level", "level"),
        Shown("source", "file"),
        Shown("member", "member"),
        Shown("message", "what is wrong"),
    ]
    show_list(rows, columns, form, empty="nothing wrong")
    tell(told)


@app.command(
    "test",
    epilog=examples(
        "trailhawk rules test",
        "trailhawk rules test my-rules --junit results.xml",
        "trailhawk rules test my-rules/strange-login.yaml",
        "trailhawk rules test --only ssm",
    ),
)
def rules_test(
    context: typer.Context,
    folders: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[PATH...]", help="Rules and hunts, or folders of them; all unless given."),
    ] = None,
    only: Annotated[
        str, typer.Option("--only", metavar="TEXT", help="Only rules whose file or name holds this text.")
    ] = "",
    excepted: Annotated[
        bool, typer.Option("--exceptions", help="Apply this home's exceptions, which tests do not see else.")
    ] = False,
    junit: Annotated[
        str, typer.Option("--junit", metavar="FILE", help="Also write the results as JUnit's XML.")
    ] = "",
    form: FormatOption = Format.TABLE,
    quiet: QuietOption = False,
) -> None:
    """Run the tests that stand inside rules and hunts.

    Each test's logs are read as their source reads them into empty tables of
    their own; then the rule runs over them, and its alerts (of a hunt: its
    rows) are compared with what the test expects. A file that is no rule has
    failed; those of the others run.
    """
    from trailhawk.detect.rule_file import named_files
    from trailhawk.errors import RuleError
    from trailhawk.render.console import progress
    from trailhawk.render.proof import junit as junit_of
    from trailhawk.render.proof import show_outcomes

    if junit:
        has_place(Path(junit))
    if folders and not any(named_files(path) for path in folders):
        raise _no_rules(folders)
    started = time.perf_counter()
    broken: list[RuleError] = []
    with progress("rules, tests", quiet=quiet) as bar:
        outcomes = workspace_of(context).content.prove(
            folders or (), only=only, excepted=excepted, progress=bar, fault=broken.append
        )
    if junit:
        save(Path(junit), junit_of(outcomes, broken))
    show_outcomes(outcomes, broken, form, seconds=time.perf_counter() - started)
    if only and not outcomes:
        hint = "see 'trailhawk rules list' and 'trailhawk hunt list'"
        raise NotFoundError(f"no rule or hunt with tests has '{only}' in its name or file", hint=hint)
    if not outcomes and not broken:
        tell("no tests there; docs/content.md shows how a rule carries its own")
    if broken or any(not outcome.passed for outcome in outcomes):
        raise typer.Exit(EXIT_FAILURE)
