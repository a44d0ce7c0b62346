"""`docs/recovery.md`: every command of the page is run, in its order, and what it refuses."""

import json
import re
import shlex
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import httpx
import pytest
from commands import Done, Machines, call, enrolled, founded, machines, ok, refused, until

from consortium.api.app import create_app
from consortium.api.local import local_api
from consortium.coordinator.sequencing import Sequencing
from consortium.coordinator.view import StoreView
from consortium.founding import read_genesis
from consortium.local import open_ledger
from hospital_agent.connection import connect
from hospital_agent.errors import AgentError, ForkRefused
from hospital_agent.folder import HospitalFolder
from hospital_agent.ledger_api import LedgerApi
from hospital_agent.replica import Replica
from hospital_agent.witness import Witness
from ledger.content import digest
from ledger.entry import sign_record
from ledger.errors import LedgerError
from ledger.keys import KeyRing, Role
from ledger.records import Erasure
from ledger.store import LedgerStore
from privacy.budget import new_cohort_id
from privacy.contract import PrivacyTerms
from privacy.errors import ReservationMissing
from privacy.gaussian import calibrate

PAGE = Path(__file__).parents[2] / "docs" / "recovery.md"
DELTA = Decimal("0.00001")


@pytest.fixture(autouse=True)
def _repeatable() -> None:
    """The clock is the real one here, as in the processes beside."""


# a consortium, and its coordinator in this process


@dataclass
class Coordinator:
    """An opened ledger with its API; blocks are made when they are asked for."""

    store: LedgerStore
    keys: KeyRing
    sequencing: Sequencing
    client: httpx.Client

    def submit(self, word: str) -> None:
        """Hands in a record, which the next block will hold."""
        erasure = Erasure(
            v=1, type="erasure", ledger=self.store.chain().ledger, author="coordinator",
            disclosure=digest(word.encode()),
        )  # fmt: skip
        self.store.submit(sign_record(erasure, [self.keys[Role.RECORD]]))

    def witness(self, folder: Path) -> int:
        hospital = HospitalFolder(folder)
        return Witness(hospital, LedgerApi(self.client, hospital)).step()


@contextmanager
def opened(home: Path) -> Iterator[Coordinator]:
    with open_ledger(home) as (local, store):
        view = StoreView(store, local.content, local.models)
        with local_api(create_app(store, local.content, local.models)) as client:
            yield Coordinator(store, local.keys, Sequencing(view, local.keys), client)


@dataclass(frozen=True)
class Template:
    """Three hospitals at height 3, with a backup of what there was at height 1."""

    root: Path
    ledger: str


@pytest.fixture(scope="module")
def template() -> Iterator[Template]:
    with machines() as site:
        srv, backup = site.root / "srv", site.root / "backup"
        srv.mkdir(mode=0o711)
        backup.mkdir(mode=0o711)
        home = srv / "medpole"
        ledger = founded(srv, home, 3)
        hospitals = [srv / f"hospital-{number}" for number in (1, 2, 3)]
        with opened(home) as coordinator:
            for height in range(4):
                if height:
                    coordinator.submit(f"block {height}")
                    assert coordinator.sequencing.step() == height
                for hospital in (*hospitals, *hospitals):  # twice: all know that it is final
                    assert coordinator.witness(hospital) == height
                if height == 1:
                    shutil.copy(hospitals[2] / "replica.sqlite", backup / "replica-3.sqlite")
        shutil.copytree(home / "coordinator", backup / "coordinator")
        ok(
            "hospital-agent", "ledger", "export", "--to-height", "1", "--home", hospitals[1],
            "--out", backup / "export",
        )  # fmt: skip
        yield Template(site.root, ledger)


@pytest.fixture
def site(template: Template) -> Iterator[Machines]:
    with machines() as found:
        for name in ("srv", "backup"):  # cp: the database belongs to another account
            subprocess.run(["cp", "-a", template.root / name, found.root], check=True)
        yield found


def hospital(site: Machines, number: int) -> Path:
    return site.root / "srv" / f"hospital-{number}"


def replica(folder: Path) -> Replica:
    return Replica(folder / "replica.sqlite")


# the page


@dataclass
class Page:
    """The commands of one section, as they stand on the page, and what is printed below them."""

    section: str
    site: Machines
    patch: pytest.MonkeyPatch
    names: dict[str, str] = field(default_factory=dict)

    def commands(self) -> list[tuple[str, list[str]]]:
        text = PAGE.read_text()
        address = re.findall(r"^\$ export MEDPOLE_API=.*$", text, re.MULTILINE)[0]
        part = next(p for p in text.split("\n## ") if p.startswith(f"({self.section})"))
        found: list[tuple[str, list[str]]] = [(address.removeprefix("$ "), [])]
        for block in re.findall(r"```console\n(.*?)```", part, re.DOTALL):
            for line in block.splitlines():
                if line.startswith("$ "):
                    found.append((line.removeprefix("$ "), []))
                else:
                    found[-1][1].append(line)
        assert len(found) > 1
        return found

    def place(self, text: str) -> str:
        """A line of the page in this test's folder, with the names that were printed before."""
        for name, value in self.names.items():
            text = re.sub(rf"\b{name}\b", value, text)
        return re.sub(r"(?<![\w/])/(srv|backup)\b", rf"{self.site.root}/\1", text)

    def run(self, command: str, expected: list[str]) -> None:
        arguments = shlex.split(self.place(command))
        if arguments[0] == "export":
            self.patch.setenv(*arguments[1].split("=", 1))
        elif arguments[-1] == "&":
            home = Path(arguments[arguments.index("--home") + 1])
            assert arguments[:-1] == ["consortium", "serve", "--home", str(home)]
            self.site.serve(home)
        elif arguments[0] in ("mkdir", "cp"):
            subprocess.run(arguments, check=True)
        else:
            self.check(self.answered(arguments), expected)

    @staticmethod
    def answered(arguments: list[str]) -> Done:
        """What a command says; an approval waits until the hospital knows of the change."""
        done: list[Done] = []

        def tried() -> bool:
            done.append(call(*arguments))
            return "error[ChangeUnknown]" not in done[-1].err

        until(tried, " ".join(arguments))
        return done[-1]

    def check(self, done: Done, expected: list[str]) -> None:
        failing = [line for line in expected if line.startswith("error[")]
        assert done.code == len(failing), done.err
        assert all(line in done.err for line in failing), done.err
        for line in expected:
            name, _, value = line.partition("  ")
            if line in failing:
                continue
            if not value:
                assert line in done.out.splitlines()
            elif value.strip().isupper():
                self.names[value.strip()] = done.value(name)
            else:
                assert done.value(name) == self.place(value.strip())


@pytest.fixture
def page(
    template: Template, site: Machines, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Page]:
    return lambda section: Page(section, site, monkeypatch, {"FINGERPRINT": template.ledger})


def test_a_and_c_on_one_ledger(site: Machines, page: Callable[[str], Page]) -> None:
    """(a) starts what is not running; (c) a hospital restored from a backup gets new keys."""
    start = page("a")
    for command, expected in start.commands():
        start.run(command, expected)
    third, home = hospital(site, 3), site.root / "srv" / "medpole"
    shutil.copy(site.root / "backup" / "replica-3.sqlite", third / "replica.sqlite")
    old = HospitalFolder(third).keys[Role.COSIGN].public
    stopping = threading.Event()

    def keep_cosigning() -> None:
        with connect(f"unix:{home}/api.sock") as client:
            folders = [HospitalFolder(hospital(site, number)) for number in (1, 2)]
            witnesses = [Witness(folder, LedgerApi(client, folder)) for folder in folders]
            while not stopping.wait(0.05):
                for witness in witnesses:
                    with suppress(AgentError, LedgerError):
                        witness.step()

    def status(*arguments: str) -> dict[str, object]:
        done = ok("consortium", *arguments, "--home", home, "--format", "json")
        return json.loads(done.out)

    thread = threading.Thread(target=keep_cosigning)
    thread.start()
    try:
        rotation = page("c")
        *commands, (last, nothing) = rotation.commands()
        for command, expected in commands:
            rotation.run(command, expected)

        def decided() -> bool:
            forms = json.loads(
                ok("consortium", "institution", "list", "--home", home, "--format", "json").out
            )["members"]
            key = next(form["keys"]["cosign"] for form in forms if form["id"] == "hospital-3")
            return key["public"] != old.public.hex() and bool(status("ledger", "status")["final"])

        until(decided, "the rotation is decided and final")
        assert replica(third).stopped(old.key_id)
        # hospital-3 signed nothing since: blocks 2 and 3 it had signed before it was restored.
        done = [rotation.answered(shlex.split(rotation.place(last))) for _ in range(2)][-1]
        rotation.check(done, nothing)
        height = status("ledger", "status")["height"]
        ok("consortium", "ledger", "erase", "0" * 64, "--home", home)
        until(lambda: status("ledger", "status")["height"] != height, "the next block")
        ok(*shlex.split(rotation.place(last)))
        assert HospitalFolder(third).keys[Role.COSIGN].public != old
        until(lambda: status("ledger", "status")["cosigned"] == 3, "hospital-3 co-signs again")
    finally:
        stopping.set()
        thread.join()


def test_b_the_database_is_lost(
    site: Machines, page: Callable[[str], Page], template: Template
) -> None:
    home, lost = site.root / "srv" / "medpole", site.root / "lost"
    home.rename(lost)
    restoring = page("b")
    for command, expected in restoring.commands():
        if command.startswith("hospital-agent status"):
            _served_too_early(site, home, template.ledger)
        restoring.run(command, expected)
    until(
        lambda: ok("consortium", "ledger", "status", "--home", home).value("final") == "True",
        "block 3 is final",
    )
    ok("consortium", "ledger", "erase", "0" * 64, "--home", home)
    witness = ("hospital-agent", "witness", "--once", "--home")
    until(lambda: ok(*witness, hospital(site, 1)).out == "4\n", "the ledger goes on")
    ok(*witness, hospital(site, 2))
    assert ok("consortium", "ledger", "status", "--home", home).value("final") == "True"


def _served_too_early(site: Machines, home: Path, ledger: str) -> None:
    """With the shorter export only: no member signs; the longer one is no use any more."""
    early = site.root / "srv" / "early"
    subprocess.run(["cp", "-a", home, early], check=True)
    with opened(early) as coordinator:
        assert coordinator.store.head().final  # nothing tells the coordinator
        for number in (1, 2, 3):
            with pytest.raises(ForkRefused, match="ends at height 1, this hospital holds 3"):
                coordinator.witness(hospital(site, number))
        coordinator.submit("instead")
        assert coordinator.sequencing.step() == 2
        for number in (1, 2, 3):
            with pytest.raises(ForkRefused):
                coordinator.witness(hospital(site, number))
        coordinator.submit("and then")
        assert coordinator.sequencing.step() is None  # for nobody has co-signed block 2
    longer = site.root / "longer"
    ok("hospital-agent", "ledger", "export", "--out", longer, "--home", hospital(site, 2))
    restore = ("consortium", "ledger", "restore", longer, "--genesis", ledger, "--home", early)
    refused("SequenceConflict", *restore)
    refused("GenesisMismatch", *restore[:5], "0" * 64, *restore[6:])


def test_d_the_quorum_is_gone(
    site: Machines, page: Callable[[str], Page], template: Template
) -> None:
    ceremony = page("d")
    for command, expected in ceremony.commands():
        ceremony.run(command, expected)
    continued = read_genesis(site.root / "srv" / "medpole-2" / "genesis.json").continues
    assert continued is not None
    newest = replica(hospital(site, 2)).block(3).header
    assert (continued.ledger, continued.height) == (template.ledger, 3)
    assert continued.block == newest.hash


# what a founder's own copy refuses


@pytest.fixture
def continuing(site: Machines, template: Template) -> Callable[..., tuple[Path, str]]:
    """Writes a genesis of hospital-4 alone, that continues up to a height."""
    home = site.root / "new"
    ok("consortium", "init", "--title", "New", "--home", home)
    form = enrolled(site.root / "srv", 4)

    def write(to_height: int, **changed: object) -> tuple[Path, str]:
        export = site.root / f"export-{to_height}"
        ok(
            "hospital-agent", "ledger", "export", "--to-height", str(to_height), "--out", export,
            "--home", hospital(site, 2),
        )  # fmt: skip
        genesis = ("consortium", "genesis", form, "--continues", export, "--home", home)
        ok(*genesis, "--genesis", template.ledger)
        path = home / "genesis.json"
        content = json.loads(path.read_text())
        content["continues"] |= changed
        path.write_text(json.dumps(content))
        return path, ok("consortium", "genesis", "--home", home).value("fingerprint")

    return write


def sign(site: Machines, genesis: tuple[Path, str], *more: str | Path) -> tuple[str | Path, ...]:
    return (
        "hospital-agent", "sign-genesis", genesis[0], "--fingerprint", genesis[1],
        "--home", hospital(site, 4), "--out", site.root / "out.json", *more,
    )  # fmt: skip


def test_what_is_continued_is_compared_with_the_old_copy(
    site: Machines, continuing: Callable[..., tuple[Path, str]]
) -> None:
    old = ("--old", hospital(site, 1))
    behind = refused("GenesisRefused", *sign(site, continuing(2), *old))
    assert "from block 2" in behind
    assert "final to block 3" in behind
    shutil.rmtree(site.root / "export-2")
    for changed in ({"block": "0" * 64}, {"ledger": "0" * 64}):
        refused("GenesisRefused", *sign(site, continuing(3, **changed), *old))
        shutil.rmtree(site.root / "export-3")
    genesis = continuing(3)
    third = hospital(site, 3)
    shutil.copy(site.root / "backup" / "replica-3.sqlite", third / "replica.sqlite")
    short = refused("GenesisRefused", *sign(site, genesis, "--old", third))
    assert "ends at 1" in short
    (third / "replica.sqlite").unlink()
    refused("FolderInvalid", *sign(site, genesis, "--old", third))
    assert not (third / "replica.sqlite").exists()
    assert not (site.root / "out.json").exists()
    done = ok(*sign(site, genesis))
    assert done.value("compared").startswith("with no copy")
    assert f"from block 3, {replica(hospital(site, 1)).block(3).header.hash}" in done.out
    assert ok(*sign(site, genesis, *old)).value("compared").startswith("agrees")


def test_only_a_verified_export_is_continued(site: Machines, template: Template) -> None:
    home, export = site.root / "new", site.root / "backup" / "export"
    ok("consortium", "init", "--title", "New", "--home", home)
    genesis = (
        "consortium", "genesis", enrolled(site.root / "srv", 4), "--home", home,
        "--continues", export,
    )  # fmt: skip
    refused("OptionInvalid", *genesis)
    refused("GenesisMismatch", *genesis, "--genesis", "0" * 64)
    with (export / "entries.jsonl").open("ab") as file:
        file.write(b"{}\n")
    refused("ExportInvalid", *genesis, "--genesis", template.ledger)
    assert not (home / "genesis.json").exists()


def test_a_founder_takes_its_patients_and_what_they_have_spent_along(tmp_path: Path) -> None:
    old = HospitalFolder.create(tmp_path / "old", "hospital-1", "Hospital 1")
    (old.path / "policy.json").write_text("{}")
    (old.path / "cohorts" / "task").mkdir(parents=True)
    (old.path / "cohorts" / "task" / "train.csv").write_text("age\n")
    terms = PrivacyTerms(
        rounds=2, steps=3, sample_rate=Decimal(1), noise_multiplier=calibrate(Decimal(1), DELTA, 6),
        clip=Decimal(1), learning_rate=Decimal(1), epsilon=Decimal(1), delta=DELTA, normaliser=9,
    )  # fmt: skip
    cohort = new_cohort_id()
    old.budget.open_cohort(cohort, Decimal(3), DELTA)
    old.budget.reserve(cohort, "job-1", terms)
    spent = old.budget.charge(cohort, "job-1", 1, 1, "u")
    enrol = (
        "hospital-agent", "enrol", "--founder", "--id", "hospital-1", "--title", "Hospital 1",
        "--home", tmp_path / "new", "--out", tmp_path / "form.json", "--old",
    )  # fmt: skip
    refused("FolderInvalid", *enrol, tmp_path / "new")
    ok(*enrol, old.path)
    new = HospitalFolder(tmp_path / "new")
    assert (new.path / "cohorts" / "task" / "train.csv").read_text() == "age\n"
    assert new.keys[Role.RECORD].public != old.keys[Role.RECORD].public
    status = new.budget.status(cohort)
    assert status.epsilon_spent == spent.epsilon > 0
    assert status.reserved.mu2 == 0
    # A job of the same name would find its charges, and release something new for nothing.
    with pytest.raises(ReservationMissing):
        new.budget.reserve(cohort, "job-1", terms)
    with pytest.raises(ReservationMissing):
        old.budget.charge(cohort, "job-1", 2, 1, "u")
    new.budget.reserve(cohort, "job-2", terms)
    ok(*enrol, old.path)
    assert new.budget.status(cohort).reserved.mu2 > 0  # what is there stays
