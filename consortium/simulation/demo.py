"""The main job from start to end, on one machine.

Found or open the consortium; check that the job fits every hospital's budget; put its contract on
the ledger; run its rounds; end it; have each hospital evaluate what it gave out; compare what each
gained; export the ledger, and verify the export as an auditor would, against the pinned genesis.
With a portal beside it people see all that, and it stays open until they end it.
"""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from consortium import tasks
from consortium.api.app import create_app
from consortium.api.local import local_api
from consortium.contract import JobOrder, make_job
from consortium.coordinator.live import LiveState
from consortium.coordinator.sequencing import Sequencing
from consortium.coordinator.strategy import Progress, end_job, submit_job
from consortium.coordinator.view import StoreView
from consortium.errors import HomeMismatch, Interrupted
from consortium.home import Home, open_home
from consortium.job_state import job_splits
from consortium.portal import OpenPortal, portal_of
from consortium.rounds.checks import privacy_terms
from consortium.rounds.replay import released_model
from consortium.simulation.cheating import (
    CheatOutcome,
    cheat_outcome,
    cheater_of,
    strategy_of,
)
from consortium.simulation.engine import run_rounds
from consortium.simulation.founding import cosigning, found_ledger
from consortium.simulation.hospital import SimulatedHospital, hospital_class
from consortium.simulation.options import DemoOptions
from consortium.simulation.outcome import Outcome, job_outcome
from consortium.tasks.task import Site
from ledger.database import check_database, open_database
from ledger.export import export_ledger
from ledger.keys import KeyRing, Role
from ledger.records import COORDINATOR, Job
from ledger.store import LedgerStore
from ledger.verify import Verified, verify_export


@dataclass(frozen=True)
class Seconds:
    """How long the demo took: until the first round, the rounds, all of it."""

    setup: float
    rounds: float
    total: float


@dataclass(frozen=True)
class DemoResult:
    """What a demo came to, and where its export lies."""

    options: DemoOptions
    job: Job
    outcome: Outcome
    export: Path
    verified: Verified
    seconds: Seconds
    cheat: CheatOutcome | None


Watch = Callable[[str, Progress | None], None]
"""Told of each step in words, and of each round's progress."""


def run_demo(
    options: DemoOptions, watch: Watch, started: float, at_end: Callable[[DemoResult], None]
) -> None:
    """Runs one job to a verified export; ``started`` is when the command began (monotonic).

    ``at_end`` is called with the result; with a portal, this waits from then on until Ctrl-C.

    Raises:
        ConsortiumError, LedgerError, PrivacyError, TaskError: what a person has to know.
    """
    sites = tasks.get(options.dataset).sites(options.data_dir, options.hospitals)
    check_database()
    with _stoppable() as stop, open_home(options.home) as home:
        noted = home.found(options.dataset, options.seed, {s.id: s.title for s in sites})
        watch("Opening the ledger's database", None)
        with open_database(home.path) as engine:
            view = StoreView(LedgerStore(engine), home.content, home.models)
            hospitals = _hospitals(home, sites, options, int(str(noted["seed"])))
            app = create_app(view.store, home.content, home.models)
            with local_api(app) as client:
                wait_final = cosigning(view, hospitals, lambda h: h.witness(client))
                keys = home.keys
                _open_ledger(view, keys, hospitals, int(str(noted["created"])), wait_final, watch)
                with _portal(options, home, view, watch) as portal:
                    at_end(
                        _run_job(
                            options, home, view, keys, hospitals, sites, wait_final, watch, stop,
                            started, lambda hospital: hospital.release(client),
                        )
                    )  # fmt: skip
                    if portal is not None:
                        with suppress(KeyboardInterrupt):  # the way to end it: no error
                            portal.wait()


@contextmanager
def _portal(
    options: DemoOptions, home: Home, view: StoreView, watch: Watch
) -> Iterator[OpenPortal | None]:
    """The portal beside the demo, if one is wanted; tells its address at once."""
    if options.portal is None:
        yield None
        return
    watch("Opening the portal", None)
    with portal_of(home, view.store, options.portal) as portal:
        # Above what moves in a terminal: it has to stay in sight.
        print(f"The portal is open: {portal.address}", file=sys.stderr, flush=True)
        yield portal


@contextmanager
def _stoppable() -> Iterator[threading.Event]:
    """An event that Ctrl-C or a termination signal sets, besides interrupting the main thread."""
    stop = threading.Event()

    def interrupt(number: int, frame: object) -> None:
        stop.set()
        raise KeyboardInterrupt

    previous = {s: signal.signal(s, interrupt) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    except KeyboardInterrupt:
        raise Interrupted(
            "stopped", "start again with the same --home; what was acknowledged is kept"
        ) from None
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _hospitals(
    home: Home, sites: Sequence[Site], options: DemoOptions, seed: int
) -> list[SimulatedHospital]:
    make, task = hospital_class(), tasks.get(options.dataset)
    hospitals = [make(home.hospital(site.id), site.id, site.title) for site in sites]
    for hospital, site in zip(hospitals, sites, strict=True):
        hospital.admit(
            task.name, task.split(site, seed), site.declared_patients, options.lifetime_epsilon,
            options.delta,
        )  # fmt: skip
    return hospitals


def _open_ledger(
    view: StoreView,
    keys: KeyRing,
    hospitals: Sequence[SimulatedHospital],
    created: int,
    wait_final: Callable[[int], None],
    watch: Watch,
) -> None:
    """Founds the ledger, or finishes what an interrupted run left open."""
    if not view.store.exists():
        watch(f"Founding the consortium: {len(hospitals)} hospitals sign the genesis", None)
        found_ledger(view, keys, hospitals, created)
    if view.store.chain().upcoming.coordinator_key(Role.RECORD) != keys[Role.RECORD].public:
        raise HomeMismatch(
            "the database in DATABASE_URL holds another consortium's ledger",
            "use that consortium's --home, or a database of its own",
        )
    wait_final(view.store.head().header.height)
    _take_in(view, keys, wait_final)
    for job in view.jobs():
        if not view.ended(job.job):
            watch(f"Ending {job.job}, which an earlier run left unfinished", None)
            end_job(view, keys, job, wait_final)


def _take_in(view: StoreView, keys: KeyRing, wait_final: Callable[[int], None]) -> None:
    """Puts what was handed in into blocks, and has them co-signed."""
    sequencing = Sequencing(view, keys)
    while (height := sequencing.step()) is not None:
        wait_final(height)


def _run_job(
    options: DemoOptions,
    home: Home,
    view: StoreView,
    keys: KeyRing,
    hospitals: Sequence[SimulatedHospital],
    sites: Sequence[Site],
    wait_final: Callable[[int], None],
    watch: Watch,
    stop: threading.Event,
    started: float,
    release: Callable[[SimulatedHospital], None],
) -> DemoResult:
    order = JobOrder(options.dataset, options.rounds, options.epsilon, options.delta, options.seed)
    name = f"{options.dataset}-{len(view.jobs()) + 1}"
    declared = {site.id: site.declared_patients for site in sites}
    job = make_job(view.ledger, name, order, declared)
    terms = {p.institution: privacy_terms(p) for p in job.participants}
    for hospital in hospitals:
        hospital.quote(job, terms[hospital.id])
    watch(f"Submitting {name}: the contract goes on the ledger", None)
    submit_job(view, keys, job, wait_final)
    names = [hospital.id for hospital in hospitals]
    cheater = cheater_of(options.cheat, names)
    refused: dict[str, list[int]] = {}
    live = LiveState(home.path)

    def follow(progress: Progress) -> None:
        if progress.state[:1].isupper():  # a code, not a state
            refused.setdefault(progress.state, []).append(progress.round)
        live.follow(job, progress, lambda: declared)
        watch("", progress)

    strategy = strategy_of(options.cheat)(view, keys, job, wait_final, follow, stop.is_set)
    watch("Starting Flower's simulation engine", None)
    make = type(hospitals[0])
    first_round, rounds_done = run_rounds(
        strategy,
        make.client_app([hospital.path for hospital in hospitals], options.cheat, cheater),
        len(hospitals),
    )
    watch("Each hospital evaluates the released model on its own test patients", None)
    for hospital in hospitals:
        release(hospital)
    _take_in(view, keys, wait_final)
    watch("Comparing what each hospital gained", None)
    released = released_model(view, job, view.results(job.job))
    outcome = job_outcome(view, job, released, hospitals, options.compare_nonprivate)
    watch("Exporting the ledger, and verifying the export as an auditor would", None)
    with view.store.snapshot() as snapshot:
        out = home.path / "exports" / name
        exported = export_ledger(snapshot, COORDINATOR, keys[Role.RECORD], out)
    verified = verify_export(exported.folder, pinned=view.ledger)
    now = time.monotonic()
    seconds = Seconds(first_round - started, rounds_done - first_round, now - started)
    cheat = None
    if options.cheat is not None and cheater is not None:
        results, divided = view.results(job.job), job_splits(view.store, job.job)
        cheat = cheat_outcome(options.cheat, cheater, names, results, divided, refused)
    return DemoResult(options, job, outcome, exported.folder, verified, seconds, cheat)
