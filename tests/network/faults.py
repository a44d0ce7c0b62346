"""Four hospitals whose agents can be held at a place in a round; what holds after every fault.

What is killed is killed while somebody is held, so that a phase lasts as long as a test needs it.
"""

import json
import os
import signal
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from deployment import TASK_DELTA, Deployment, Hospital, Process, as_json, deployment, until
from forwarder import Forwarder
from hospital_tables import write_tables

from consortium.coordinator.exchange import PATIENCE_S as PRODUCTION_S
from consortium.coordinator.submission import Wanted, submit
from consortium.job_state import job_states
from consortium.local import attached_ledger
from consortium.offers import Offers
from hospital_agent.folder import HospitalFolder
from ledger.note import SignatureLine
from ledger.records import Result

PHASES = ("train", "close", "reveal", "verify")
PLACES = (*PHASES, "co-sign")
SEEN_S = 10.0
PATIENCE_S = 2.0
"""For kinds that wait until who is gone is no longer waited for: in production 40 s."""
HELD = Path(__file__).parent / "held_agent.py"


class Faulty:
    """A deployment with what a test of faults needs."""

    def __init__(self, made: Deployment, cable: Forwarder) -> None:
        self.made, self.home = made, made.home
        self.cable = cable  # the last hospital's way to the coordinator
        self.fingerprint = ""
        self._holds = made.folder / "holds"

    @property
    def names(self) -> list[str]:
        return sorted(self.made.hospitals)

    def hospital(self, name: str) -> Hospital:
        return self.made.hospitals[name]

    def found(self, data: Path | None = None) -> None:
        made = self.made
        made.begin()
        tables = write_tables(made.folder / "tables", made.task, data)
        made.found({name: (path, site.declared_patients) for name, (path, site) in tables.items()})
        for hospital in made.hospitals.values():
            self._holdable(hospital)
        self.fingerprint = made.json("genesis")["fingerprint"]
        last = self.hospital(self.names[-1])
        connection = last.home / "connection.json"
        connection.write_text(connection.read_text().replace(str(made.port), str(self.cable.port)))
        self._arguments = list(made.coordinator.arguments)
        made.start()
        made.until_ready()

    def submit(self, rounds: int) -> str:
        """A job of which no round goes on before a test says so (`allow`)."""
        self.allow(0)
        wanted = Wanted(self.made.task, rounds, "0.5", TASK_DELTA[self.made.task], seed=0)

        def offered() -> bool:
            return len(Offers(self.home).for_task(self.made.task)) == len(self.names)

        until(offered, 30, "all offer the task")
        return str(submit(self.home, wanted)["job"])

    def tidy(self) -> None:
        """After a test that failed: whatever was held goes on, whatever is away starts again."""
        self.release_all()
        self.cable.join()
        self.allow(1000)
        self.made.start()
        until(lambda: self.live().get("state") == "idle", 60, "the job ends")

    def allow(self, number: int) -> None:
        """Lets rounds up to this one go on: in the others the last hospital does not train."""
        path = self._holds / self.names[-1] / "rounds"
        path.with_name("rounds.new").write_text(str(number))
        path.with_name("rounds.new").replace(path)

    def _holdable(self, hospital: Hospital) -> None:
        folder = self._holds / hospital.id
        folder.mkdir(parents=True)
        agent = hospital.agent
        agent.arguments = ["python", HELD, *agent.arguments[1:]]
        agent.environment["HOLD"] = str(folder)

    def be_patient(self, seconds: float = PRODUCTION_S) -> None:
        """How long who is gone is waited for; the coordinator starts anew with another value."""
        coordinator = self.made.coordinator
        wanted = [*self._arguments, "--patience", str(seconds)]
        if coordinator.arguments != wanted:
            coordinator.stop()
            coordinator.arguments = wanted
            coordinator.start()

    # holding

    @contextmanager
    def held(self, name: str, place: str) -> Iterator[Path]:
        """Holds one agent at a place, from when it gets there until the context ends."""
        path = self._holds / name / place
        path.touch()
        try:
            yield path.with_name(f"{place}.reached")
        finally:
            path.unlink(missing_ok=True)
            path.with_name(f"{place}.reached").unlink(missing_ok=True)

    def release_all(self) -> None:
        for path in self._holds.glob("*/*"):
            if path.name != "rounds":
                path.unlink(missing_ok=True)

    def agent_killed_in(
        self, job: str, number: int, victim: str, place: str
    ) -> tuple[Result, float]:
        """Kills one agent at a place; starts it again once the others went on without it.

        Returns the round's result, and after how many seconds the agent was seen to be gone.
        """
        agent = self.hospital(victim).agent
        with self.held(victim, place) as reached:
            self.allow(number)
            until(reached.exists, 60, f"{victim} is at {place}")
            agent.kill()
            killed = time.monotonic()
            until(lambda: self.state_of(victim) == "gone", 20, f"{victim} is gone")
            seen = time.monotonic() - killed
            result = self.await_result(job, number)
        agent.start()
        self.until_back(victim, number + 1)
        return result, seen

    @contextmanager
    def phase_held(self, place: str, number: int) -> Iterator[None]:
        """Keeps a round in a phase. Two hold up a block, one any other phase."""
        with ExitStack() as stack:
            holders = self.names[-2:] if place == "co-sign" else self.names[-1:]
            reached = [stack.enter_context(self.held(name, place)) for name in holders]
            self.allow(number)
            until(lambda: all(path.exists() for path in reached), 60, f"{place} is held")
            # A holder may still be at the block of the round before.
            until(
                lambda: (self.live()["round"], self.live()["phase"]) == (number, place),
                30, f"round {number} is in {place}",
            )  # fmt: skip
            yield

    def killed(self, process: str) -> None:
        """SIGKILL to a part of the coordinator's side, which is then started again."""
        part: Process = getattr(self.made, "serve" if process == "postgres" else process)
        if process == "postgres":
            self.kill_postgres()
            until(lambda: not part.running(), 30, "the API ends without its database")
        else:
            part.kill()
        part.start()

    def until_back(self, name: str, number: int) -> None:
        """Until a hospital that was gone takes part in a round again."""
        until(
            lambda: (self.live().get("round"), self.state_of(name)) in
            [(number, state) for state in ("back", "asked", "late")],
            60, f"{name} is back in round {number}",
        )  # fmt: skip

    # looking

    def live(self) -> dict[str, Any]:
        return self.made.live()

    def state_of(self, name: str) -> str:
        return str(self.live().get("states", {}).get(name, ""))

    def results(self, job: str) -> list[Result]:
        """All that stand in a final block."""
        with attached_ledger(self.home) as (_, store):
            final = store.final_height()
            found = store.listing.entries(("result",), job, limit=None)
            return [
                r for each in found
                if each.height <= final and isinstance(r := each.entry.record, Result)
            ]  # fmt: skip

    def await_result(self, job: str, number: int, attempt: int = 1, seconds: float = 60) -> Result:
        """The result of an attempt, once it is on the ledger."""
        self.allow(number)

        def found() -> Result | None:
            try:
                all_results = self.results(job)
            except Exception:  # the database is away
                return None
            return next((r for r in all_results if (r.round, r.attempt) == (number, attempt)), None)

        return until(found, seconds, f"round {number}, attempt {attempt} of {job}")  # type: ignore[no-any-return]

    def await_end(self, job: str, seconds: float = 120) -> dict[str, Any]:
        until(lambda: self.live().get("job") != job, seconds, f"{job} ends: {self.live()}")
        with attached_ledger(self.home) as (_, store):
            state = next(s for s in job_states(store, self.live()) if s.job == job)
        assert state.state == "finished", state
        return state.body()

    def cosigners(self) -> set[str]:
        """Who has co-signed the newest block."""
        with attached_ledger(self.home) as (_, store):
            lines = store.cosignatures(store.head().header.height)
        return {SignatureLine.parse(line).name for line in lines}

    def conflicts(self) -> list[tuple[int, str]]:
        """Second cosignatures by one member, as the API shows them."""
        with attached_ledger(self.home) as (_, store):
            return store.conflicts()

    def events(self) -> list[dict[str, Any]]:
        path = self.home / "coordinator" / "events.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def charged(self, name: str, job: str) -> int:
        """Rounds that a hospital has paid for."""
        budget = HospitalFolder(self.hospital(name).home).budget
        held = [each for c in budget.cohorts() for each in budget.status(c).jobs if each.job == job]
        return held[0].rounds_charged if held else 0

    # killing

    def kill_postgres(self) -> None:
        """The postmaster, which takes its processes with it; the API lives on."""
        pid = int((self.home / "postgres" / "data" / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGKILL)

    # what must be true

    def check(self, job: str, rounds: int, unseen: dict[str, int] | None = None) -> None:
        """A finished job: counted once everywhere, and nobody signed twice.

        Each has paid for the rounds in which it revealed. ``unseen``: rounds that one has paid for
        and was killed before it had sent what it revealed.
        """
        self.allow(rounds)
        state = self.await_end(job)
        assert (state["done"], state["rounds"]) == (rounds, rounds)
        results = self.results(job)
        for name in self.names:
            shown = sum(name in {o.institution for o in result.proofs} for result in results)
            paid = self.charged(name, job)
            assert paid == shown + (unseen or {}).get(name, 0), f"{name} paid for {paid} rounds"
        self.check_signed_once()

    def check_export(self) -> None:
        """Everything on the ledger, every round derived anew."""
        out = self.made.folder / f"export-{len(list(self.made.folder.glob('export-*')))}"
        self.made.json("ledger", "export", "--out", out, "--content")
        as_json("consortium", "ledger", "verify", out, "--genesis", self.fingerprint, "--rounds")

    def check_signed_once(self) -> None:
        assert self.conflicts() == []
        for name in self.names:
            path = self.hospital(name).home / "replica.sqlite"
            with closing(sqlite3.connect(path, timeout=30)) as replica:
                for table in ("evidence", "stops"):
                    assert replica.execute(f"SELECT * FROM {table}").fetchall() == [], name


@contextmanager
def faulty(task: str = "breast-cancer") -> Iterator[Faulty]:
    """A founded deployment, its agents connected."""
    with (
        tempfile.TemporaryDirectory(prefix="mp-", dir="/tmp") as name,
        deployment(_passable(Path(name)), task, here=True) as made,
        Forwarder(made.port) as cable,
    ):
        found = Faulty(made, cable)
        found.found()
        try:
            yield found
        finally:
            found.release_all()


def _passable(folder: Path) -> Path:
    folder.chmod(0o711)  # the database's account passes through
    return folder
