"""Every code that people can meet has a page in docs/errors, and every page is of such a code."""

import ast
import importlib
import inspect
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs" / "errors"
MODULES = (
    "sml.errors",
    "privacy.errors",
    "ledger.errors",
    "consortium.errors",
    "consortium.tasks.errors",
    "hospital_agent.errors",
)
HEADINGS = ["## What happened", "## Why", "## How to resolve"]
# What is called with a code as a text, and at which place: nothing else makes a code.
CALLS = {
    "consortium/cli/run.py": {"fail": 0},
    "consortium/rounds/checks/*.py": {"Failed": 0, "Examined": 0},
    "ledger/verifier.py": {"need": 1, "Failure": 0},
    "ui/api_client.py": {"ApiError": 0},
}
CODE = re.compile(r"[A-Z][A-Za-z]+")
HUMPS = re.compile(r"([A-Z][a-z]+){2,}")


def of_classes() -> set[str]:
    """The name of each class that is raised; a base alone is not."""
    codes = set()
    for name in MODULES:
        module = importlib.import_module(name)
        for kind in vars(module).values():
            if inspect.isclass(kind) and kind.__module__ == name and not _is_base(kind):
                codes.add(kind.__name__)
    return codes


def _is_base(kind: type) -> bool:
    return kind.__bases__ == (Exception,)


def of_texts() -> set[str]:
    """Codes written as texts, from the tables and the calls that hold them."""
    from consortium.flower import gate
    from consortium.rounds import codes as outcomes
    from ledger.records import ACCEPTED
    from ledger.report.jobs import MEANINGS

    codes = {ACCEPTED, outcomes.NO_QUORUM, outcomes.HARMFUL, *MEANINGS}
    in_gate = {text for text in _texts(ROOT / "consortium/flower/gate.py") if HUMPS.fullmatch(text)}
    assert {code for code, _, _ in gate._REFUSALS.values()} <= in_gate
    codes |= in_gate
    codes |= set(re.findall(r"error\[([A-Za-z]+)\]", (ROOT / "Makefile").read_text()))
    for pattern, calls in CALLS.items():
        found = set().union(*(_texts_of_calls(path, calls) for path in ROOT.glob(pattern)))
        assert found, pattern
        codes |= found
    return codes


def _texts(path: Path) -> set[str]:
    nodes = ast.walk(ast.parse(path.read_text()))
    return {n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)}


def _texts_of_calls(path: Path, calls: dict[str, int]) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in calls:
            place = calls[node.func.id]
            given = node.args[place] if len(node.args) > place else None
            if isinstance(given, ast.Constant) and isinstance(given.value, str):
                found.add(given.value)
    return {text for text in found if CODE.fullmatch(text)}


def pages() -> list[Path]:
    return sorted(path for path in PAGES.glob("*.md") if path.name != "README.md")


def test_every_code_has_a_page_and_every_page_a_code() -> None:
    codes = of_classes() | of_texts()
    names = {path.stem for path in pages()}
    assert sorted(codes - names) == []
    assert sorted(names - codes) == []


def test_every_page_says_what_why_and_how_to_resolve() -> None:
    for path in pages():
        lines = path.read_text().splitlines()
        assert lines[0] == f"# {path.stem}"
        assert [line for line in lines if line.startswith("##")] == HEADINGS, path.name
        for number, line in enumerate(lines):
            if line in HEADINGS:
                assert re.match(r"[A-Z0-9\[`*]", lines[number + 1]), f"{path.name}: {line}"
        assert len(lines) <= 16, path.name


def test_the_index_lists_every_page_once() -> None:
    listed = re.findall(r"\]\(([A-Za-z]+)\.md\)", (PAGES / "README.md").read_text())
    assert sorted(listed) == [path.stem for path in pages()]


@pytest.mark.parametrize(
    "page",
    [
        "api.md",
        "client.md",
        "models.md",
        "data.md",
        "operate.md",
        "architecture.md",
        "privacy.md",
        "recovery.md",
    ],
)
def test_links_of_the_docs_lead_somewhere(page: str) -> None:
    _check_links(ROOT / "docs" / page)


def test_links_of_the_pages_lead_somewhere() -> None:
    for path in pages():
        _check_links(path)


def test_commands_named_on_the_pages_exist() -> None:
    """Of both programs: `consortium job submit`, not one that was renamed since."""
    from typer.main import get_command

    modules = {"consortium": "consortium.cli.main", "hospital-agent": "hospital_agent.cli.main"}
    programs = {name: importlib.import_module(path).app for name, path in modules.items()}
    named = re.compile(r"`(consortium|hospital-agent)((?: [a-z][a-z-]*)+)")
    docs = [ROOT / "docs" / name for name in ("operate.md", "api.md", "data.md", "models.md")]
    for path in (*pages(), *docs):
        for program, words in named.findall(path.read_text()):
            command: object = get_command(programs[program])
            for word in words.split():
                commands = getattr(command, "commands", None)
                if commands is None:
                    break  # an argument
                assert word in commands, f"{path.name}: {program}{words}"
                command = commands[word]


def test_refused_attempts_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from consortium.cli.events import events
    from consortium.cli.output import Format
    from consortium.events import EVENTS, record

    record(tmp_path, "NodeUnknown", caller="192.0.2.7")
    record(tmp_path, "InstitutionSuspended", institution="hospital-3")
    with (tmp_path / EVENTS).open("a") as file:
        file.write('{"time": 1, "co')  # killed while it wrote
    events(newest=50, code=None, home=tmp_path, format=Format.TABLE)
    first, second = capsys.readouterr().out.splitlines()
    assert "NodeUnknown" in first
    assert "caller 192.0.2.7" in first
    assert "institution hospital-3" in second
    events(newest=1, code="NodeUnknown", home=tmp_path, format=Format.JSON)
    (one,) = json.loads(capsys.readouterr().out)
    assert (one["code"], one["caller"]) == ("NodeUnknown", "192.0.2.7")


def _check_links(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        linked = (path.parent / name).resolve() if name else path
        assert linked.exists(), f"{path.name}: {target}"
        if anchor:
            assert anchor in _anchors(linked), f"{path.name}: {target}"


def _anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}
