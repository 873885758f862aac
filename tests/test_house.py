"""The house rules that no other tool keeps."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer

from trailhawk.cli import app
from trailhawk.detect import content
from trailhawk.detect.rulebook import named

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "trailhawk"
LOCKS = ("requirements.lock", "requirements-dev.lock", "requirements-bench.lock")
COMPILER_LOCK = "requirements-compiler.lock"
SKIPPED = set((ROOT / ".gitignore").read_text().replace("/\n", "\n").split()) | {".git"}


def tree() -> list[Path]:
    """Every file of the project that git would keep."""
    return [
        path
        for path in sorted(ROOT.rglob("*"))
        if path.is_file() and not SKIPPED & set(path.relative_to(ROOT).parts)
    ]


def text_of(path: Path) -> str:
    return path.read_bytes().decode("utf-8", errors="replace")


@pytest.mark.parametrize("name", [*LOCKS, COMPILER_LOCK])
def test_lock_holds_no_address_and_no_path(name: str) -> None:
    text = (ROOT / name).read_text()
    assert "://" not in text
    assert "--index" not in text
    assert "--extra-index" not in text
    assert "--find-links" not in text
    assert not re.search(r"(?m)^\s*#|(^|\s)/", text)


@pytest.mark.parametrize("name", [*LOCKS, COMPILER_LOCK])
def test_lock_pins_every_package_with_hashes(name: str) -> None:
    entries = (ROOT / name).read_text().replace("\\\n", " ").splitlines()
    assert entries
    for entry in entries:
        assert re.match(r"[a-z0-9_.-]+==\S+ ", entry), entry
        assert "--hash=sha256:" in entry, entry


@pytest.mark.parametrize("name", LOCKS)
def test_lock_names_all_dependencies(name: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = project["project"]["dependencies"]
    group = name.removeprefix("requirements").removesuffix(".lock").removeprefix("-")
    wanted = wanted + project["dependency-groups"].get(group, [])
    pinned = set(re.findall(r"(?m)^([a-z0-9_.-]+)==", (ROOT / name).read_text()))
    names = {re.split(r"[\[<>=!~ ;]", one)[0].lower().replace("_", "-") for one in wanted}
    assert names <= pinned


def test_locks_agree_where_they_overlap() -> None:
    first, *others = [set(re.findall(r"(?m)^(\S+==\S+)", (ROOT / name).read_text())) for name in LOCKS]
    assert all(first <= other for other in others)


def test_no_path_of_one_machine_in_the_tree() -> None:
    # Put together here so that this file does not find itself.
    marks = ["/" + "work/", "/" + "home/" + "runner", "/" + "Users/", "/" + "root/", "C:" + "\\Users"]
    found = [(path.relative_to(ROOT), mark) for path in tree() for mark in marks if mark in text_of(path)]
    assert found == []


def test_every_room_says_what_it_is() -> None:
    for path in PACKAGE.rglob("__init__.py"):
        first = path.read_text().splitlines()[0] if path.stat().st_size else ""
        assert first.startswith('"""'), path


def test_every_module_opens_with_a_docstring() -> None:
    for path in PACKAGE.rglob("*.py"):
        assert path.read_text().startswith('"""'), path


def test_every_room_is_in_the_layers() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = {name.strip() for layer in contracts[0]["layers"] for name in layer.split("|")}
    rooms = {path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__"}
    rooms |= {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert rooms - {"content"} == layers


def make_targets() -> set[str]:
    return set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text()))


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_make_commands_of_the_pages_exist(page: str) -> None:
    found = set(re.findall(r"(?m)(?:^|`)make ([a-z-]+)", (ROOT / page).read_text()))
    assert found
    assert found <= make_targets()


def test_trailhawk_commands_of_the_pages_exist() -> None:
    root: Any = typer.main.get_command(app)
    for page in ["README.md", "CONTRIBUTING.md"]:
        for words in re.findall(r"(?m)^trailhawk ([a-z -]+)", (ROOT / page).read_text()):
            command = root
            for word in words.split():
                if word.startswith("-") or word not in getattr(command, "commands", {}):
                    break
                command = command.commands[word]
            assert not getattr(command, "commands", {}), f"{page}: trailhawk {words}"


def test_rules_that_the_pages_name_are_there() -> None:
    rules = content.rules()
    verbs = "except|propose|show|enable|backtest|precision"
    command = re.compile(rf"(?m)^ *trailhawk rules (?:{verbs}) ([a-z][a-z-]+[a-z])(?= |$)")
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for name in command.findall(page.read_text()):
            assert named(rules, name), f"{page.name}: {name}"


@pytest.mark.parametrize("kind", ["rules", "hunts"])
def test_as_much_content_is_there_as_the_first_page_says(kind: str) -> None:
    said = re.search(rf"(\d+) {kind}", (ROOT / "README.md").read_text())
    assert said
    files = len(list((PACKAGE / "content" / kind).rglob("*.yaml")))
    assert int(said[1]) <= files < 1.3 * int(said[1]), f"{files} {kind}"


def test_make_has_the_promised_commands() -> None:
    assert {"help", "demo", "test", "test-long", "check", "bench", "clean", "lock"} <= make_targets()


def decisions() -> list[Path]:
    return sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))


@pytest.mark.parametrize("page", decisions(), ids=lambda page: page.stem)
def test_decision_has_its_three_parts(page: Path) -> None:
    text = page.read_text()
    number = int(page.name[:4])
    assert re.match(rf"# {number}\. ", text)
    assert re.findall(r"(?m)^## (.+)$", text) == ["Situation", "Choice", "What follows"]


def test_decisions_have_a_number_each() -> None:
    numbers = [page.name[:4] for page in decisions()]
    assert len(numbers) == len(set(numbers))


def headings(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"(?ms)^```.*?^```", "", page.read_text())
    return {
        re.sub(r"[^\w -]", "", line).strip().replace(" ", "-").lower()
        for line in re.findall(r"(?m)^#+ (.+)$", text)
    }


def test_links_between_pages_lead_somewhere() -> None:
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)]+)", page.read_text()):
            path, _, anchor = target.partition("#")
            other = page.parent / path if path else page
            assert other.exists(), f"{page.name}: {target}"
            assert not anchor or anchor in headings(other), f"{page.name}: {target}"


def test_decisions_that_are_named_are_there() -> None:
    there = {int(page.name[:4]) for page in decisions()}
    for path in tree():
        if path.suffix in (".md", ".py"):
            for numbers in re.findall(r"\b[Dd]ecisions? (\d+(?:(?:, | and )\d+)*)", text_of(path)):
                assert {int(number) for number in re.findall(r"\d+", numbers)} <= there, f"{path}: {numbers}"


def test_a_page_names_modules_that_are_there() -> None:
    there = [path.as_posix() for path in tree() if path.suffix == ".py"]
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for name in re.findall(r"`((?:[a-z_]+/)*[a-z_0-9]+\.py)`", page.read_text()):
            assert any(path.endswith(f"/{name}") for path in there), f"{page.name}: {name}"


def test_licence_is_the_full_apache_text() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_glossary_has_one_entry_a_word() -> None:
    words = re.findall(r"(?m)^\| ([a-z ]+) \|", (ROOT / "docs" / "glossary.md").read_text())
    words = [word for word in words if word != "word"]
    assert len(words) > 40
    assert len(words) == len(set(words))
