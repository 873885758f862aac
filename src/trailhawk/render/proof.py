"""How tests of rules ended: for people, for scripts, and as JUnit's XML for CI."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from xml.etree import ElementTree

from trailhawk.detect.proof import Outcome
from trailhawk.render.output import Format, print_json_list
from trailhawk.visible import visible


def show_outcomes(outcomes: Sequence[Outcome], form: Format, *, seconds: float) -> None:
    """Print what failed and a closing count; JSON has every test."""
    if form is Format.JSON:
        print_json_list(map(_object, outcomes))
        return
    for outcome in outcomes:
        if not outcome.passed:
            print(visible(f"FAILED {outcome.rule.source}: {outcome.test.name}"))
            for failure in outcome.failures:
                print(visible("  " + failure.replace("\n", "\n  "), keep="\n"))
    failed = sum(not outcome.passed for outcome in outcomes)
    rules = len({outcome.rule.id for outcome in outcomes})
    print(f"{len(outcomes):,} tests of {rules:,} rules: {failed:,} failed, in {seconds:.1f} s")


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


def junit(outcomes: Iterable[Outcome]) -> str:
    """The outcomes in the form that CI systems read: a test suite a rule, a test case a test."""
    root = ElementTree.Element("testsuites")
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
