"""How a person's wish becomes a job on the ledger."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from itertools import combinations
from pathlib import Path
from typing import Any

from consortium import tasks
from consortium.contract import BANDED, DURATIONS, JobOrder, initial_model, make_job
from consortium.coordinator.strategy import submit_job
from consortium.coordinator.view import StoreView
from consortium.coordinator.what_is_left import noise_for_what_is_left
from consortium.errors import JobInvalid, NotFinal, OptionInvalid
from consortium.local import open_ledger
from consortium.offers import Offers
from consortium.rounds.aggregation import FEWEST
from consortium.rounds.checks.near_copy import noise_seen_through
from ledger.errors import QuorumMissing, SequenceConflict
from ledger.quorum import quorum
from ledger.records import Aggregation, BandedScores, Durations, Job, NoisedScores
from ledger.store import LedgerStore
from privacy.contract import decimal_text

_FINAL_S = 60.0
_TRIES = 5


@dataclass(frozen=True)
class Wanted:
    """What `consortium job submit` was given, not yet checked.

    One of ``epsilon``, ``noise_multiplier`` and ``left`` (a lifetime epsilon) decides the noise;
    with none of them it is an epsilon of 1.
    """

    task: str
    rounds: int
    epsilon: str | None
    delta: str
    seed: int
    patients: tuple[str, ...] = ()
    phase_seconds: int | None = None
    name: str | None = None
    noise_multiplier: str | None = None
    left: str | None = None
    sample_rate: str = "1"
    score_noise: str | None = None
    score_fewest: int = 500
    aggregation: str = "weighted-mean"


def submit(home: Path, wanted: Wanted) -> dict[str, Any]:
    """Puts the job on the ledger and waits until its members have co-signed it.

    Raises:
        OptionInvalid: if a value is none.
        JobInvalid: if another job runs, too few institutions offer the task, or a rule is broken.
        NotFinal: if no quorum co-signed within a minute; the proposal stays.
        TaskError, PrivacyError: if the order cannot be kept.
    """
    task = tasks.get(wanted.task)
    _one_of(wanted)
    order = JobOrder(
        task.name, wanted.rounds, _decimal("--epsilon", wanted.epsilon or "1"),
        _decimal("--delta", wanted.delta), wanted.seed,
        _durations(wanted.phase_seconds), _decimal("--sample-rate", wanted.sample_rate),
        scores=_scores(wanted), aggregation=_aggregation(wanted.aggregation),
    )  # fmt: skip
    with open_ledger(home, shared=True) as (local, store):
        view = StoreView(store, local.content, local.models)
        name = _name(view, task.name, wanted.name)
        members = view.members
        declared = _declared(wanted.patients) or Offers(home).for_task(task.name)
        declared = {name: n for name, n in declared.items() if name in members}
        needed = quorum(len(members))
        if len(declared) < needed:
            raise JobInvalid(
                f"{len(declared)} of {len(members)} members offer patients for {task.name}; "
                f"{needed} are needed",
                "have hospitals add data (`hospital-agent data add`) and start their agents, or "
                "name them with --patients ID=NUMBER",
            )
        job = make_job(view.ledger, name, _with_noise(view, order, wanted, declared), declared)
        for tries in range(_TRIES):
            _wait_final(store, store.chain().header.height)
            try:
                submit_job(view, local.keys, job, lambda height: _wait_final(store, height))
                break
            except (QuorumMissing, SequenceConflict):  # another process put a block there first
                if tries == _TRIES - 1:
                    raise
    return {
        "job": job.job,
        "task": job.task,
        "rounds": job.rounds,
        "epsilon": ", ".join(sorted({p.terms.epsilon for p in job.participants})),
        "participants": [
            f"{p.institution} ({p.weight}; epsilon {p.terms.epsilon}, noise "
            f"{p.terms.noise_multiplier})"
            for p in job.participants
        ],
        "copies": copies_found(job),
        "next": f"consortium job watch {job.job}",
    }


def copies_found(job: Job) -> str:
    """What the check on copies can find among the updates of this job's model."""
    parameters = sum(array.size for array in initial_model(job.task, job.seed).values())
    least = min(
        (
            noise_seen_through(a, b, parameters, job.thresholds, len(job.participants))
            for a, b in combinations(job.participants, 2)
        ),
        default=0.0,
    )
    return (
        f"with noise of up to {least:.2f} of its length added, a copy is found 19 times of 20 "
        f"({parameters} parameters; a larger model or a smaller epsilon shows more)"
    )


def _one_of(wanted: Wanted) -> None:
    given = [wanted.epsilon, wanted.noise_multiplier, wanted.left]
    if sum(value is not None for value in given) > 1:
        raise OptionInvalid(
            "more than one of --epsilon, --noise-multiplier and --left is given",
            "give one: each decides the noise",
        )


def _scores(wanted: Wanted) -> BandedScores | NoisedScores:
    if wanted.score_noise is None:
        return BANDED
    noise = _decimal("--score-noise", wanted.score_noise)
    if not (noise.is_finite() and Decimal("0.001") <= noise <= 10**6):
        raise OptionInvalid(
            f"--score-noise is {wanted.score_noise[:20]}; allowed: a number from 0.001 to 1000000",
            "write it like 20: noise on a score of 20 times what one patient can move it by",
        )
    return NoisedScores(
        kind="noised", fewest=wanted.score_fewest, noise_multiplier=decimal_text(noise)
    )


def _aggregation(wanted: str) -> Aggregation:
    for rule in FEWEST:
        if rule == wanted:
            return rule
    raise OptionInvalid(
        f"--aggregation {wanted[:20]!r} is no rule", f"choose one of {', '.join(FEWEST)}"
    )


def _with_noise(
    view: StoreView, order: JobOrder, wanted: Wanted, institutions: Iterable[str]
) -> JobOrder:
    if wanted.noise_multiplier is not None:
        noise = _decimal("--noise-multiplier", wanted.noise_multiplier)
        return replace(order, noise=dict.fromkeys(institutions, noise))
    if wanted.left is not None:
        lifetime = _decimal("--left", wanted.left)
        return replace(order, noise=noise_for_what_is_left(view, order, institutions, lifetime))
    return order


def _name(view: StoreView, task: str, wanted: str | None) -> str:
    """The job's id. One job runs at a time, under a name that no other had."""
    jobs = view.jobs()
    if running := [job.job for job in jobs if not view.ended(job.job)]:
        raise JobInvalid(
            f"{running[0]} is not over; one job runs at a time",
            f"wait (`consortium job watch {running[0]}`), or end it: `consortium job stop`",
        )
    if wanted in {job.job for job in jobs}:
        raise JobInvalid(f"there was a job {wanted} already", "choose another --name")
    return wanted or f"{task}-{len(jobs) + 1}"


def _wait_final(store: LedgerStore, height: int) -> None:
    deadline = time.monotonic() + _FINAL_S
    while True:
        try:
            store.require_final(height)
            return
        except QuorumMissing as error:
            if time.monotonic() > deadline:
                raise NotFinal(
                    error.what, "it stays proposed; see that the hospitals' agents run"
                ) from None
        time.sleep(0.1)


def _decimal(option: str, text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        raise OptionInvalid(
            f"{option} {text[:20]!r} is not a number", "write it like 1 or 0.5"
        ) from None


def _durations(seconds: int | None) -> Durations:
    if seconds is None:
        return DURATIONS
    return Durations(train=seconds, close=seconds, reveal=seconds, verify=seconds)


def _declared(patients: tuple[str, ...]) -> dict[str, int]:
    found = {}
    for text in patients:
        name, _, number = text.partition("=")
        if not name or not number.isdecimal() or int(number) < 1:
            raise OptionInvalid(
                f"--patients {text[:60]!r} is not ID=NUMBER", "write it like hospital-1=200"
            )
        found[name] = int(number)
    return found
