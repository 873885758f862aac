"""How canaries ended: for people, for scripts, and as JUnit's XML for CI."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from trailhawk.detect.canary import Canary, Entry
from trailhawk.detect.proof import Outcome
from trailhawk.render.output import Format, print_json_list
from trailhawk.render.proof import junit as junit_of_outcomes
from trailhawk.visible import visible
from trailhawk.words import counted


def show_canaries(sent: Sequence[Canary], form: Format, *, seconds: float) -> None:
    """Print what did not fire or came in at a table, and a closing count; JSON has every rule."""
    if form is Format.JSON:
        print_json_list(map(_object, sent))
        return
    for each in sent:
        if each.failed:
            print(visible(f"FAILED {each.rule.source}: {each.rule.name}"))
            print(visible(f"  at {each.stage.value if each.stage else ''}: {each.reason}"))
        if each.note:
            print(visible(f"{each.rule.source}: {each.note}"))
    untested = [each for each in sent if each.test is None]
    for each in untested:
        print(visible(f"{each.rule.source}: {each.reason}"))
    failed = sum(each.failed for each in sent)
    tables = sum(each.entry is Entry.TABLE for each in sent)
    print(
        f"{counted(len(sent) - len(untested), 'canary', 'canaries')}: {failed:,} failed, "
        f"{tables:,} entered at the table, {counted(len(untested), 'rule')} without a positive test, "
        f"in {seconds:.1f} s"
    )


def _object(each: Canary) -> dict[str, object]:
    state = "untested" if each.test is None else "passed" if each.passed else "failed"
    return {
        "rule": each.rule.id,
        "name": each.rule.name,
        "source": each.rule.source,
        "test": each.test.name if each.test else None,
        "state": state,
        "stage": each.stage.value if each.stage else None,
        "reason": each.reason,
        "entry": each.entry.value,
        "note": each.note,
        "seconds": round(each.seconds, 4),
    }


def junit(sent: Iterable[Canary]) -> str:
    """A test suite a rule with one case; rules without a positive test are left out."""
    return junit_of_outcomes(
        Outcome(each.rule, each.test, () if each.passed else (each.reason,), each.seconds)
        for each in sent
        if each.test is not None
    )
