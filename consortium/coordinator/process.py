"""`consortium coordinator`: runs the jobs that stand on the ledger, whatever is killed around it.

What it needs of a job is on the ledger, in the journal and at the hospitals; so it may be killed at
any point, and so may the SuperLink, the API and the database: it waits until they are back, opens a
new Flower run, and goes on in the phase where the round was.

A job goes from submitted to running; it waits while fewer than a quorum of hospitals are there; it
pauses after several attempts at one round; it ends finished or stopped. Submission, every round
and attempt with whoever was absent and why, and the end stand on the ledger.
"""

import logging
import threading
import time
from pathlib import Path

from flwr.app import Context, RecordDict
from sqlalchemy.exc import DBAPIError

from consortium.coordinator.exchange import GONE, LATE, PATIENCE_S
from consortium.coordinator.journal import RESUME, STOP, Journal
from consortium.coordinator.live import LiveState
from consortium.coordinator.nodes import Nodes
from consortium.coordinator.sequencing import Sequencing
from consortium.coordinator.server_app import make_server_app
from consortium.coordinator.strategy import Progress, ProofOfLearning, end_job
from consortium.coordinator.view import StoreView
from consortium.daemon import alone, stopping
from consortium.errors import (
    ConsortiumError,
    CoordinatorRunning,
    Interrupted,
    JobPaused,
    LinkRefused,
    LinkUnreachable,
)
from consortium.flower import check_version
from consortium.flower.fleet import Address
from consortium.flower.link import Link
from consortium.flower.superlink import ca_certificate, superlink_secret
from consortium.home import Home
from consortium.local import attached_ledger
from consortium.rounds.progress import rounds_done
from ledger.changes import Happened
from ledger.errors import DatabaseUnreachable, LedgerError, QuorumMissing
from ledger.note import SignatureLine
from ledger.quorum import quorum
from ledger.records import Job
from ledger.store import LedgerStore

_IDLE_S, _RETRY_S = 0.5, 1.0
_WISH_EVERY_S = 0.5
_NO_JOB_S = 2.0
_SAY_AFTER_S = 3.0
log = logging.getLogger("medpole.coordinator")


def coordinate(home: Path, superlink: str, patience: float = PATIENCE_S) -> None:
    """Runs jobs until Ctrl-C or a termination signal.

    ``patience``: seconds for which a hospital that is gone is waited for.

    Raises:
        CoordinatorRunning: if another coordinator works on this home.
        TlsMissing: if the home has no certificates.
        FlowerUnsupported: if another flwr is installed.
    """
    check_version()
    link = Link(Address(superlink, ca_certificate(home)), superlink_secret(home))
    told = ""
    running = CoordinatorRunning(
        f"another coordinator works on {home}", "stop it, or use another --home"
    )
    with alone(home / "coordinator" / ".coordinator.lock", running), stopping() as stop:
        log.info("coordinator: started")
        while not stop.is_set():
            try:
                with attached_ledger(home) as (local, store):
                    _Coordinator(local, store, link, stop, patience).run()
            except (ConsortiumError, LedgerError) as error:
                code = error.code
            except DBAPIError:
                code = DatabaseUnreachable.__name__
            else:
                code = ""
            if code not in ("", told):  # once, until it is something else
                log.warning("coordinator: %s", code)
            told = code
            stop.wait(_RETRY_S)
        link.close()


class _Coordinator:
    """One coordinator over an opened ledger."""

    def __init__(
        self, local: Home, store: LedgerStore, link: Link, stop: threading.Event, patience: float
    ) -> None:
        self._store, self._keys, self._link, self._stop = store, local.keys, link, stop
        self._patience = patience
        self._view = StoreView(store, local.content, local.models)
        self._journal, self._live = Journal(local.path), LiveState(local.path)
        self._nodes = Nodes(local.path, store, link)
        self._sequencing = Sequencing(self._view, self._keys)
        self._paused: tuple[str, frozenset[str]] | None = None
        self._wish: tuple[float, str | None] = (0.0, None)
        self._changes = store.changes()

    def run(self) -> None:
        """Runs jobs until stopped.

        Raises:
            DBAPIError, LedgerError: if the database is gone.
        """
        with self._changes, self._nodes.kept():
            while not self._stop.is_set():
                blocks = self._changes.counts[Happened.BLOCK]
                job = self._next_job()
                if job is None:
                    self._live.update(job=None, state="idle", reason="", states={})
                    self._changes.wait(Happened.BLOCK, blocks, _NO_JOB_S)
                elif self._may_go_on(job):
                    self._run_job(job)
                else:
                    self._stop.wait(_IDLE_S)

    def _next_job(self) -> Job | None:
        return next((job for job in self._view.jobs() if not self._view.ended(job.job)), None)

    def _may_go_on(self, job: Job) -> bool:
        """Whether enough hospitals are there, and nobody has to decide first."""
        wish = self._journal.wished(job.job)
        if wish == STOP:
            self._end(job)
            return False
        if self._paused is not None and self._paused[0] == job.job:
            here = frozenset(self._nodes.online().values())
            if wish != RESUME and not here - self._paused[1]:
                self._between_rounds()
                return False
            self._journal.granted(job.job)
            self._paused = None
        return self._quorum_here(job)

    def _quorum_here(self, job: Job) -> bool:
        """Whether enough hospitals for a round are there; says who is missing if not."""
        here = frozenset(self._nodes.online().values())
        taking_part = {p.institution for p in job.participants}
        needed = quorum(len(self._view.members))
        if len(here & taking_part) >= needed:
            return True
        missing = sorted(taking_part - here)
        self._live.update(
            job=job.job, state="waiting", rounds=job.rounds,
            reason=f"{needed} hospitals are needed; not there: {', '.join(missing)}",
            states={name: "here" if name in here else GONE for name in sorted(taking_part)},
        )  # fmt: skip
        return False

    def _between_rounds(self) -> None:
        """While a job is paused the members may still decide who takes part."""
        if (height := self._sequencing.step(between_rounds=True)) is not None:
            self._wait_final(height)

    def _run_job(self, job: Job) -> None:
        strategy = ProofOfLearning(
            self._view, self._keys, job, self._wait_final, lambda p: self._show(job, p),
            self._stop.is_set, self._journal, self._nodes, lambda: self._wished(job) == STOP,
            self._patience, lambda: self._quorum_here(job),
        )  # fmt: skip
        self._live.update(job=job.job, rounds=job.rounds, state="running", reason="")
        log.info("job: %s goes on after round %d", job.job, self._rounds_done(job))
        try:
            with self._link.run() as grid:
                context = Context(grid.run.run_id, 0, {}, RecordDict(), {})
                make_server_app(strategy)(grid, context)
        except Interrupted:
            return
        except JobPaused as error:
            self._paused = job.job, frozenset(self._nodes.online().values())
            self._live.update(state="paused", reason=error.what)
            log.warning("job: %s: %s", job.job, error.code)
        except (LinkUnreachable, LinkRefused) as error:
            self._live.update(state="reconnecting", reason=error.what)
            log.warning("job: %s: %s", job.job, error.code)
            self._stop.wait(_RETRY_S)
        else:
            self._journal.granted(job.job)
            log.info("job: %s has ended", job.job)

    def _end(self, job: Job) -> None:
        self._live.update(job=job.job, state="stopping", reason="stopped by a person")
        self._wait_final(self._store.chain().header.height)
        end_job(self._view, self._keys, job, self._wait_final)
        self._journal.granted(job.job)

    def _rounds_done(self, job: Job) -> int:
        return rounds_done(self._view.results(job.job))

    def _wished(self, job: Job) -> str | None:
        """Looked up twice a second at most."""
        now = time.monotonic()
        if now - self._wish[0] > _WISH_EVERY_S:
            self._wish = now, self._journal.wished(job.job)
        return self._wish[1]

    def _wait_final(self, height: int) -> None:
        """Waits for the members' cosignatures, however long they take; says so meanwhile.

        Raises:
            Interrupted: once the coordinator is stopped.
        """
        begun, told = time.monotonic(), False
        while True:
            cosigned = self._changes.counts[Happened.COSIGNED]
            try:
                self._store.require_final(height)
                return
            except QuorumMissing as error:
                if time.monotonic() - begun > _SAY_AFTER_S:
                    if not told:
                        log.warning("block %d: %s", height, error.code)
                    told = True
                    self._show_unsigned(height, error.what)
            self._changes.wait(Happened.COSIGNED, cosigned, _IDLE_S)
            if self._stop.is_set():
                raise Interrupted("stopped", "start again with the same --home; nothing is lost")

    def _show_unsigned(self, height: int, what: str) -> None:
        """Names whose cosignatures are missing, and who of them is gone."""
        store, here = self._store, set(self._nodes.online().values())
        members = store.chain().in_force_at(store.header(height)).members
        signed = {SignatureLine.parse(line).name for line in store.cosignatures(height)}
        states = {
            name: "co-signed" if name in signed else LATE if name in here else GONE
            for name in sorted(members)
        }
        missing = ", ".join(f"{n} ({s})" for n, s in states.items() if n not in signed)
        self._live.update(state="waiting", reason=f"{what}; missing: {missing}", states=states)

    def _show(self, job: Job, progress: Progress) -> None:
        self._live.follow(job, progress, lambda: self._nodes.online().values())
        if progress.institution is not None and progress.state not in ("answered", ""):
            log.warning("round %d: %s is %s", progress.round, progress.institution, progress.state)
        if progress.result is not None:
            codes = [outcome.code for outcome in progress.result.proofs]
            log.info(
                "round %d of %s: attempt %d, %d of %d proofs accepted, absent: %s",
                progress.round, job.job, progress.result.attempt, codes.count("Accepted"),
                len(codes), ", ".join(a.institution for a in progress.result.absent) or "nobody",
            )  # fmt: skip
