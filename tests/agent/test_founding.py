"""A consortium founded by hand: file by file, by the commands that people type."""

import io
import json
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import Machines, call, enrolled, founded, machines, ok, refused, signed, until

from consortium.errors import HomeMismatch
from consortium.founding import founding, read_genesis
from consortium.home import Home, open_home
from hospital_agent.folder import HospitalFolder
from ledger.chain import ledger_id
from ledger.keys import Role
from ledger.records import Continued

ALONE = "one institution: no independent witness"


@pytest.fixture(autouse=True)
def _repeatable() -> None:
    """The clock is the real one here, as in the processes beside."""


@pytest.fixture
def site() -> Iterator[Machines]:
    with machines() as found:
        yield found


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """For what needs no database."""
    ok("consortium", "init", "--title", "Heart consortium", "--home", tmp_path / "home")
    return tmp_path


def drafted(root: Path, count: int) -> str:
    """A genesis that nobody has signed yet; its fingerprint."""
    forms = [enrolled(root, number) for number in range(1, count + 1)]
    done = ok("consortium", "genesis", *forms, "--home", root / "home")
    return done.value("fingerprint")


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# the whole way


def test_three_founders_by_hand_until_block_0_is_final(
    site: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, home = site.root, site.root / "home"
    init = ("consortium", "init", "--title", "Heart consortium", "--pool", "500", "--home", home)
    assert ok(*init).value("pool") == "500"
    forms = [enrolled(root, number) for number in (3, 1, 2)]
    fingerprint = ok("consortium", "genesis", *forms, "--home", home).value("fingerprint")
    genesis = root / "carried.json"
    genesis.write_bytes((home / "genesis.json").read_bytes())
    files = [signed(root, number, genesis, fingerprint) for number in (1, 2, 3)]

    done = ok("consortium", "genesis", "--signatures", files[2], files[0], "--home", home)
    assert (done.value("missing"), done.value("final")) == ("hospital-2", "False")
    assert not (home / "postgres").exists()
    refused("LedgerMissing", "consortium", "ledger", "status", "--home", home)
    assert not (home / "postgres").exists()
    last = ("consortium", "genesis", "--signatures", files[1], "--home", home)
    with monkeypatch.context() as patch:

        def killed(*_: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(Home, "note", killed)  # block 0 is stored, and we are gone
        assert call(*last).code == 130
    assert founding(home).final is False
    for _ in range(2):
        assert ok(*last).value("final") == "True"

    api = site.serve(home)
    assert ok("consortium", "genesis", "--home", home).value("final") == "True"
    site.start(["hospital-agent", "witness", "--home", root / "hospital-1", "--api", api])
    for number in (2, 3):
        folder = root / f"hospital-{number}"
        ok("hospital-agent", "witness", "--home", folder, "--api", api, "--once")

    def status() -> dict[str, object]:
        return json.loads(
            ok("consortium", "ledger", "status", "--home", home, "--format", "json").out
        )

    until(lambda: status()["cosigned"] == 3, "all three co-sign block 0")
    assert status()["ledger"] == fingerprint
    assert (status()["height"], status()["final"]) == (0, True)
    assert ok("consortium", "policy", "show", "--home", home).value("pool") == "500"
    assert HospitalFolder(root / "hospital-1").ledger == fingerprint
    # Keys of another consortium are not taken for this one's.
    key = home / "coordinator" / "keys" / f"{Role.RECORD}.key"
    key.write_text("11" * 32)
    refused("HomeMismatch", "consortium", "ledger", "status", "--home", home)
    key.unlink()
    ok("consortium", "ledger", "status", "--home", home)  # reading needs none
    refused("KeyInvalid", "consortium", "ledger", "erase", "0" * 64, "--home", home)
    assert not key.exists()
    site.stop()
    with open_home(home) as opened, pytest.raises(HomeMismatch):
        opened.found("breast-cancer", 0, {"hospital-1": "Hospital 1"})  # as `consortium demo` does


def test_one_founder_is_told_that_nobody_else_watches(site: Machines) -> None:
    home = site.root / "home"
    fingerprint = founded(site.root, home, 1)
    done = ok("consortium", "genesis", "--home", home)
    assert (done.value("warning"), done.value("final")) == (ALONE, "True")
    done = ok(
        "hospital-agent", "sign-genesis", home / "genesis.json", "--fingerprint", fingerprint,
        "--home", site.root / "hospital-1", "--out", site.root / "again.json",
    )  # fmt: skip
    assert done.value("warning") == ALONE
    assert "quorum: 1 of 1" in done.err


# repeated, and refused


def test_every_step_can_be_repeated(root: Path) -> None:
    fingerprint = drafted(root, 2)
    signature = signed(root, 1, root / "home" / "genesis.json", fingerprint)
    ok("consortium", "genesis", "--signatures", signature, "--home", root / "home")
    before = files_of(root)
    ok("consortium", "init", "--title", "Heart consortium", "--home", root / "home")
    assert drafted(root, 2) == fingerprint
    signed(root, 1, root / "home" / "genesis.json", fingerprint)
    ok("consortium", "genesis", "--signatures", signature, "--home", root / "home")
    assert files_of(root) == before
    assert not [name for name in before if name.endswith(".new")]


def test_init_refuses_what_cannot_stand_on_a_ledger_and_another_draft(tmp_path: Path) -> None:
    init = ("consortium", "init", "--home", tmp_path / "home", "--title")
    refused("OptionInvalid", *init, "<script>")
    refused("OptionInvalid", *init, "Heart", "--pool", "100", "--verdicts", "101")
    assert not (tmp_path / "home").exists()
    ok(*init, "Heart")
    refused("HomeMismatch", *init, "Lungs")
    refused("HomeMismatch", *init, "Heart", "--pool", "2000")


def test_an_id_or_a_title_that_cannot_stand_on_a_ledger_makes_nothing(tmp_path: Path) -> None:
    enrol = ("hospital-agent", "enrol", "--home", tmp_path / "h", "--out", tmp_path / "form.json")
    for id, title in (("Hospital", "H"), ("coordinator", "H"), ("hospital-1", "<b>")):
        refused("OptionInvalid", *enrol, "--founder", "--id", id, "--title", title)
    named = (*enrol, "--id", "hospital-1", "--title", "H")
    refused("OptionInvalid", *named)
    refused("OptionInvalid", *named, "--founder", "--ledger", "0" * 64)
    refused("FolderInvalid", *named, "--ledger", "0" * 64, "--old", tmp_path)
    refused("OptionInvalid", *named, "--ledger", "not-a-fingerprint")
    assert list(tmp_path.iterdir()) == []


def test_a_form_holds_no_secret_and_shows_every_key(root: Path) -> None:
    form = enrolled(root, 1)
    content = json.loads(form.read_text())
    assert set(content["possession"]) == set(content["keys"]) == set(Role)
    for path in (root / "hospital-1" / "keys").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert path.read_text().strip() not in form.read_text()
    assert not (root / "hospital-1" / "replica.sqlite").exists()


@pytest.mark.parametrize("role", list(Role))
def test_a_form_with_a_key_that_is_not_held_is_refused(root: Path, role: Role) -> None:
    form, other = enrolled(root, 1), enrolled(root, 2)
    content = json.loads(form.read_text())
    content["possession"][role] = json.loads(other.read_text())["possession"][role]
    form.write_text(json.dumps(content))
    genesis = ("consortium", "genesis", form, other, "--home", root / "home")
    assert "hospital-1" in refused("EnrolmentInvalid", *genesis)
    assert not (root / "home" / "genesis.json").exists()


def test_forms_that_do_not_fit_together_are_refused(root: Path) -> None:
    form = enrolled(root, 1)
    home = ("--home", root / "home")
    refused("MembershipInvalid", "consortium", "genesis", form, form, *home)
    refused("EnrolmentInvalid", "consortium", "genesis", root / "nothing.json", *home)
    form.write_text("{")
    refused("EnrolmentInvalid", "consortium", "genesis", form, *home)
    refused("LedgerMissing", "consortium", "genesis", *home)
    refused("LedgerMissing", "consortium", "genesis", "--signatures", form, *home)
    refused("OptionInvalid", "consortium", "genesis", form, *home, "--continues", root)
    refused("LedgerMissing", "consortium", "genesis", "--home", root / "elsewhere")
    assert not (root / "home" / "genesis.json").exists()


def test_another_genesis_takes_the_place_of_one_that_nobody_has_signed_only(root: Path) -> None:
    home = root / "home"
    first = drafted(root, 1)
    second = drafted(root, 2)
    assert first != second
    signature = signed(root, 1, home / "genesis.json", second)
    ok("consortium", "genesis", "--signatures", signature, "--home", home)
    form = root / "form-1.json"
    assert second in refused("GenesisInvalid", "consortium", "genesis", form, "--home", home)
    assert ledger_id(read_genesis(home / "genesis.json")) == second


def test_a_founder_signs_only_the_fingerprint_that_it_was_told(root: Path) -> None:
    fingerprint = drafted(root, 2)
    genesis, folder, out = root / "home" / "genesis.json", root / "hospital-1", root / "out.json"
    sign = ("hospital-agent", "sign-genesis", genesis, "--home", folder, "--out", out)
    assert fingerprint in refused("GenesisRefused", *sign, "--fingerprint", "0" * 64)
    refused("OptionInvalid", *sign)  # nobody is at a terminal
    outsider = enrolled(root, 3)
    assert outsider.exists()
    refused(
        "GenesisRefused", "hospital-agent", "sign-genesis", genesis, "--home", root / "hospital-3",
        "--out", out, "--fingerprint", fingerprint,
    )  # fmt: skip
    refused("GenesisInvalid", "hospital-agent", "sign-genesis", outsider, *sign[3:])
    refused("GenesisRefused", *sign, "--fingerprint", fingerprint, "--old", folder)
    assert not out.exists()
    assert HospitalFolder(folder).ledger is None
    done = ok(*sign, "--fingerprint", f" {fingerprint.upper()} ")
    for shown in ("Heart consortium", fingerprint, "hospital-2", "'Hospital 2'", "2 of 2", "1000"):
        assert shown in done.err
        assert shown in done.out
    assert HospitalFolder(folder).ledger == fingerprint


@pytest.mark.parametrize(("answer", "signs"), [("y\n", True), ("n\n", False), ("\n", False)])
def test_at_a_terminal_it_asks(
    root: Path, monkeypatch: pytest.MonkeyPatch, answer: str, signs: bool
) -> None:
    drafted(root, 1)
    terminal = io.StringIO(answer)
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", terminal)
    out = root / "out.json"
    sign = ("hospital-agent", "sign-genesis", root / "home" / "genesis.json", "--out", out)
    done = call(*sign, "--home", root / "hospital-1")
    assert "Sign?" in done.err
    assert (done.code == 0, out.exists()) == (signs, signs)
    assert signs or "error[GenesisRefused]" in done.err


def test_a_founder_of_one_ledger_signs_no_other(root: Path, tmp_path: Path) -> None:
    signed(root, 1, root / "home" / "genesis.json", drafted(root, 1))
    other = tmp_path / "other"
    ok("consortium", "init", "--title", "Other", "--home", other)
    done = ok("consortium", "genesis", root / "form-1.json", "--home", other)
    refused(
        "FolderInvalid", "hospital-agent", "sign-genesis", other / "genesis.json", "--out",
        root / "out.json", "--home", root / "hospital-1", "--fingerprint",
        done.value("fingerprint"),
    )  # fmt: skip
    assert not (root / "out.json").exists()


def test_signatures_that_do_not_hold_are_refused_and_none_is_kept(root: Path) -> None:
    home, fingerprint = root / "home", drafted(root, 3)
    good, other = (signed(root, n, home / "genesis.json", fingerprint) for n in (1, 2))
    content = json.loads(other.read_text())
    take = ("consortium", "genesis", "--home", home, "--signatures")
    wrong = [
        content | {"institution": "hospital-3"},
        content | {"institution": "hospital-9"},
        content | {"ledger": "0" * 64},
        content | {"signature": content["signature"] | {"sig": "00" * 64}},
        content | {"signature": content["signature"] | {"sig": "x"}},
        content | {"signature": []},
        [],
    ]
    for value in wrong:
        other.write_text(json.dumps(value))
        refused("GenesisInvalid", *take, good, other)
        assert founding(home).signed == ()
    ok(*take, good)
    # One that was damaged since is found before anything is founded.
    kept = home / "signatures" / "hospital-1.json"
    rest = [signed(root, n, home / "genesis.json", fingerprint) for n in (2, 3)]
    kept.write_text(json.dumps(content | {"institution": "hospital-1"}))
    refused("GenesisInvalid", *take, *rest)
    assert not (home / "postgres").exists()


def test_what_it_continues_is_part_of_the_fingerprint(root: Path) -> None:
    first = drafted(root, 1)
    genesis = read_genesis(root / "home" / "genesis.json")
    old = Continued(ledger="1" * 64, height=7, block="2" * 64)
    assert ledger_id(genesis.model_copy(update={"continues": old})) != first
