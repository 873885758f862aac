"""How tests of rules ended: for people, for scripts, and as JUnit's XML for CI."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from xml.etree import ElementTree

from trailhawk.detect.proof import Outcome
from trailhawk.errors import RuleError
from trailhawk.render.output import Format, print_json_list
from trailhawk.visible import visible
from trailhawk.words import counted


def show_outcomes(
    outcomes: Sequence[Outcome], broken: Sequence[RuleError], form: Format, *, seconds: float
) -> None:
    """Print what failed, the files that are no rules among it, and a closing count; JSON has every test."""
    if form is Format.JSON:
        print_json_list([*map(_unread, broken), *map(_object, outcomes)])
        return
    for error in broken:
        print(visible(f"FAILED {error.source}\n  {error}", keep="\n"))
    for outcome in outcomes:
        if not outcome.passed:
            print(visible(f"FAILED {outcome.rule.source}: {outcome.test.name}"))
            for failure in outcome.failures:
                print(visible("  " + failure.replace("\n", "\n  "), keep="\n"))
    failed = sum(not outcome.passed for outcome in outcomes)
    rules = len({outcome.rule.id for outcome in outcomes})
    unread = f", {counted(len(broken), 'file is no rule', 'files are no rules')}" if broken else ""
    print(
        f"{counted(len(outcomes), 'test')} of {counted(rules, 'rule')}:"
        f" {failed:,} failed{unread}, in {seconds:.1f} s"
    )


def _unread(error: RuleError) -> dict[str, object]:
    named = dict.fromkeys(("rule", "name"), "")
    return {
        **named,
        "source": error.source,
        "test": "",
        "passed": False,
        "failures": [str(error)],
        "seconds": 0,
    }


def _object(outcome: Outcome) -> dict[str, object]:
    return {
        "rule": outcome.rule.id,
        "name": outcome.rule.name,
        "source": outcome.rule.source,
        "test": outcome.test.name,
        "passed": outcome.passed,
        "failures": list(outcome.failures),
        "seconds": round(outcome.seconds, 4),
    }


def junit(outcomes: Iterable[Outcome], broken: Iterable[RuleError] = ()) -> str:
    """The outcomes in the form that CI systems read: a test suite a rule, a test case a test.

    A file that is no rule is a suite whose only case failed.
    """
    root = ElementTree.Element("testsuites")
    for error in broken:
        name = _plain(error.source)
        suite = ElementTree.SubElement(root, "testsuite", name=name, tests="1", failures="1", time="0")
        case = ElementTree.SubElement(suite, "testcase", classname=name, name="is a rule", time="0")
        ElementTree.SubElement(case, "failure", message=_plain(str(error)))
    for source, group in groupby(outcomes, key=lambda outcome: outcome.rule.source):
        tests = list(group)
        suite = ElementTree.SubElement(
            root,
            "testsuite",
            name=_plain(source),
            tests=str(len(tests)),
            failures=str(sum(not each.passed for each in tests)),
            time=f"{sum(each.seconds for each in tests):.3f}",
        )
        for each in tests:
            case = ElementTree.SubElement(
                suite,
                "testcase",
                classname=_plain(each.rule.name),
                name=_plain(each.test.name),
                time=f"{each.seconds:.3f}",
            )
            if not each.passed:
                failure = ElementTree.SubElement(case, "failure", message=_plain(each.failures[0]))
                failure.text = _plain("\n".join(each.failures))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _plain(text: str) -> str:
    """Text without what XML cannot hold."""
    return visible(text, keep="\n")
