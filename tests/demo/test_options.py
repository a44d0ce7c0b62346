"""Whatever a person gets wrong: one clear error, before any work, and no traceback."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from demo_command import CONSORTIUM, consortium

from consortium.lab.catalogue import DEMO_CHEATS

sys.path.append(str(Path(__file__).parents[1] / "agent"))
from commands import Done, call

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--epsilon", "-1"], "OptionInvalid"),
        (["--epsilon", "nan"], "OptionInvalid"),
        (["--epsilon", "inf"], "OptionInvalid"),
        (["--epsilon", "much"], "OptionInvalid"),
        (["--epsilon", "4", "--lifetime-epsilon", "3"], "OptionInvalid"),
        (["--lifetime-epsilon", "0"], "OptionInvalid"),
        (["--delta", "2"], "OptionInvalid"),
        (["--delta", "0"], "OptionInvalid"),
        (["--rounds", "0"], "OptionInvalid"),
        (["--rounds", "1001"], "OptionInvalid"),
        (["--rounds", "ten"], "UsageError"),
        (["--hospitals", "0"], "OptionInvalid"),
        (["--seed", "-1"], "OptionInvalid"),
        (["--dataset", "unknown"], "DatasetUnknown"),
        (["--cheat", "unknown"], "CheatUnknown"),
        (["--cheat", "nan", "--hospitals", "3"], "OptionInvalid"),
        (["--report", "/no/such/folder/report.json"], "ReportUnwritable"),
        (["--report", "/"], "ReportUnwritable"),
        (["--dataset", "heart-disease"], "DataMissing"),
        (["--dataset", "heart-disease", "--data-dir", "/no/such/folder"], "DataMissing"),
        (["--data-dir", "/no/such/folder"], "OptionInvalid"),
        (["--portal", "--portal-port", "0"], "UsageError"),
        (["--unknown"], "UsageError"),
    ],
)
def test_wrong_options(options: list[str], code: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    refused(call("consortium", "demo", "--home", home, *options), code)
    assert not home.exists()


def test_cheats_are_listed_by_the_help_by_the_refusal_and_in_the_docs(tmp_path: Path) -> None:
    refusal = call("consortium", "demo", "--home", tmp_path / "home", "--cheat", "unknown").err
    help = "".join(call("consortium", "demo", "--help").out.split())  # wrapped, also at hyphens
    docs = (ROOT / "docs" / "proof-of-learning.md").read_text()
    for name in DEMO_CHEATS:
        assert f" {name}" in refusal
        assert name in help
        assert f"\n| `{name}` |" in docs


def test_the_installed_command_says_the_same(tmp_path: Path) -> None:
    options = ("demo", "--home", tmp_path / "home", "--epsilon", "-1")
    done = consortium(*options)
    assert Done(done.returncode, done.stdout, done.stderr) == call("consortium", *options)
    refused(call("consortium", *options), "OptionInvalid")


def refused(done: Done, code: str) -> None:
    assert done.code not in (0, -9)
    error, resolve = done.err.splitlines()[-2:]
    assert error.startswith(f"error[{code}]: ")
    assert resolve.startswith("how to resolve: ")
    assert "Traceback" not in done.err
    assert done.out == ""


@pytest.mark.parametrize(
    "url", ["postgresql://user:secret-word@127.0.0.1:1/medpole", "mysql://user:secret-word@db/x"]
)
def test_an_unusable_database(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    done = call("consortium", "demo", "--home", tmp_path / "home")
    assert done.code == 1
    assert done.err.splitlines()[-2].startswith("error[Database")
    assert "secret-word" not in done.err
    assert not (tmp_path / "home").exists()


Damage = Callable[[str], str]


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda text: text[: len(text) // 2], "processed.va.data"),
        (lambda text: "\n".join(line.rsplit(",", 1)[0] for line in text.split("\n")), "columns"),
        (lambda text: text.replace(",1,", ",x,", 1), "not a number"),
    ],
)
def test_a_damaged_data_file(damage: Damage, says: str, tmp_path: Path) -> None:
    source = ROOT.parent / "shared" / "data" / "heart"
    if not source.is_dir():
        pytest.skip("the UCI files are not here; the loader's own tests make some up")
    data = tmp_path / "data"
    data.mkdir()
    for path in source.glob("processed.*.data"):
        text = path.read_text()
        (data / path.name).write_text(damage(text) if ".va." in path.name else text)
    home = tmp_path / "home"
    options = ("--home", home, "--dataset", "heart-disease", "--data-dir", data)
    done = call("consortium", "demo", *options)
    refused(done, "DataCorrupt")
    assert says in done.err
    assert not home.exists()


def test_a_home_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused(call("consortium", "demo", "--home", tmp_path / "file"), "HomeInvalid")
    refused(call("consortium", "ledger", "status", "--home", tmp_path / "none"), "LedgerMissing")
    refused(call("consortium", "ledger", "verify", tmp_path / "none"), "ExportInvalid")


@pytest.mark.parametrize("command", ["consortium", "hospital-agent"])
def test_help_answers_at_once(command: str) -> None:
    program = str(CONSORTIUM.with_name(command))
    times = []
    for _ in range(5):
        start = time.monotonic()
        done = subprocess.run([program, "--help"], capture_output=True, text=True)
        times.append(time.monotonic() - start)
        assert done.returncode == 0
        assert "Usage" in done.stdout
    assert min(times) < 0.5
