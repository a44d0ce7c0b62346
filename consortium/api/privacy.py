"""The API for privacy spent: what proofs on the ledger declare, and what a next job would add.

A hospital's lifetime limit is its own policy, and not here.
"""

from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, Query

from consortium import tasks
from consortium.api.callers import Permissions
from consortium.api.pages import Cursor, Limit, Order, page_of, page_of_all, past
from consortium.api.schemas import Cost, Forecast, JobSpend, Page, Spend, Spending
from consortium.errors import OptionInvalid
from consortium.offers import Offers
from consortium.rounds.checks import declared_spend
from consortium.standing import JobStanding, Standing
from ledger.listing import Listed
from ledger.records import Name as RecordName
from ledger.records import Proof
from ledger.store import LedgerStore
from privacy.accounting import Accountant, GaussianAccountant, cost_of_job
from privacy.accounting import Cost as JobCost
from privacy.contract import decimal_text

Name = Annotated[RecordName | None, Query()]
Number = Annotated[str, Query(pattern=r"^[0-9]{1,6}(\.[0-9]{1,12})?$", examples=["1"])]
MOST_ROUNDS = 10_000
_NOTHING = GaussianAccountant(), JobCost(), JobCost()


def privacy_router(
    store: LedgerStore, standing: Standing, allowed: Permissions, home: Path | None
) -> APIRouter:
    """The routes. ``home`` knows what institutions offer; without it counts what they agreed to."""
    router = APIRouter(
        prefix="/v1/privacy", tags=["privacy"], dependencies=[Depends(allowed.everyone)]
    )
    newest = _NewestSpends(store)

    def spendings() -> list[Spending]:
        with standing.jobs() as jobs:
            return list(_spendings(jobs, newest))

    @router.get("")
    def spent(
        task: Name = None, institution: Name = None, limit: Limit = 50, cursor: Cursor = None
    ) -> Page[Spending]:
        """What each institution's cohorts have declared to have spent; a cursor is a position."""
        found = [
            one for one in spendings()
            if task in (None, one.task) and institution in (None, one.institution)
        ]  # fmt: skip
        return page_of_all(found, limit, cursor, Order.OLDEST)

    @router.get("/spends")
    def spends(
        job: Name = None, institution: Name = None, limit: Limit = 50, cursor: Cursor = None,
        order: Order = Order.OLDEST,
    ) -> Page[Spend]:  # fmt: skip
        """Every reveal's cost, by the proof that declares it; a cursor is an index."""
        found = store.listing.entries(
            ("proof",), job, institution, past=past(cursor), limit=limit + 1,
            newest_first=order is Order.NEWEST,
        )  # fmt: skip
        return page_of([_spend(one) for one in found], limit, lambda item: str(item.index))

    @router.get("/forecast")
    def forecast(
        task: Annotated[RecordName, Query()],
        epsilon: Number,
        delta: Number = "0.00001",
        rounds: Annotated[int | None, Query(ge=1, le=MOST_ROUNDS)] = None,
    ) -> Forecast:
        """What a job would cost each institution that has patients for its task.

        On full batches, over all that the institution's cohort has declared on this ledger so far:
        by Gaussian differential privacy, which adds up exactly, or by Rényi's where the cohort has
        also served jobs on sampled batches.
        """
        recipe = tasks.get(task)
        count = recipe.recipe.rounds if rounds is None else rounds
        agreed, limit = _number("epsilon", epsilon), _number("delta", delta)
        with standing.jobs() as jobs:
            before = {
                name: newest.of(job, name) for job in jobs.values() if job.contract.task == task
                for name in job.reveals
            }  # fmt: skip
            declared = _declared(jobs, task, home)
        costs = []
        for name, patients in sorted(declared.items()):
            terms = recipe.terms(count, agreed, limit, patients)
            last = before.get(name)
            accountant, _, spent = declared_spend(last.spend) if last else _NOTHING
            costs.append(
                Cost(
                    institution=name, declared_patients=patients,
                    noise_multiplier=decimal_text(terms.noise_multiplier),
                    epsilon_before=_shown(accountant, spent, limit),
                    epsilon_after=_shown(accountant, spent + cost_of_job(terms), limit),
                )
            )  # fmt: skip
        return Forecast(task=task, rounds=count, epsilon=epsilon, delta=delta, costs=costs)

    return router


class _NewestSpends:
    """An institution's last proof of a job; looked up once for each number of reveals."""

    def __init__(self, store: LedgerStore) -> None:
        self._store = store
        self._known: dict[tuple[str, str], tuple[int, Proof]] = {}

    def of(self, job: JobStanding, institution: str) -> Proof:
        key, reveals = (job.contract.job, institution), job.reveals[institution]
        known = self._known.get(key)
        if known is None or known[0] != reveals:
            found = self._store.listing.newest_of_job("proof", *key)
            assert found is not None
            assert isinstance(found.entry.record, Proof)
            known = self._known[key] = reveals, found.entry.record
        return known[1]


def _spendings(jobs: Mapping[str, JobStanding], newest: _NewestSpends) -> Iterator[Spending]:
    cohorts: dict[tuple[str, str, str], list[tuple[JobStanding, Proof]]] = {}
    for job in jobs.values():
        for name in job.reveals:
            proof = newest.of(job, name)
            key = name, job.contract.task, proof.spend.cohort
            cohorts.setdefault(key, []).append((job, proof))
    for (name, task, cohort), found in sorted(cohorts.items()):
        last = found[-1][1].spend
        yield Spending(
            institution=name, cohort=cohort, task=task, epsilon=last.epsilon, delta=last.delta,
            reveals=sum(job.reveals[name] for job, _ in found),
            jobs=[_job_spend(name, job, proof) for job, proof in found],
        )  # fmt: skip


def _job_spend(name: str, job: JobStanding, proof: Proof) -> JobSpend:
    terms = next(p.terms for p in job.contract.participants if p.institution == name)
    left = 0 if job.end else job.contract.rounds - job.done
    return JobSpend(
        job=job.contract.job, agreed=terms.epsilon, delta=terms.delta, reveals=job.reveals[name],
        rounds_left=left, epsilon=proof.spend.epsilon,
    )  # fmt: skip


def _spend(listed: Listed) -> Spend:
    proof = listed.entry.record
    assert isinstance(proof, Proof)
    spend = proof.spend
    return Spend(
        index=listed.index, job=proof.job, round=proof.round, attempt=proof.attempt,
        institution=proof.author, cohort=spend.cohort, epsilon=spend.epsilon, delta=spend.delta,
        noise_multiplier=spend.noise_multiplier, steps=spend.steps, sample_rate=spend.sample_rate,
    )  # fmt: skip


def _declared(jobs: Mapping[str, JobStanding], task: str, home: Path | None) -> dict[str, int]:
    """Declared patients by institution: what is offered now, else what was last agreed to."""
    agreed = {
        participant.institution: participant.weight
        for job in jobs.values() if job.contract.task == task
        for participant in job.contract.participants
    }  # fmt: skip
    return (Offers(home).for_task(task) if home else {}) or agreed


def _number(name: str, text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        raise OptionInvalid(f"{name} is no number", "give a decimal number, such as 1") from None


def _shown(accountant: Accountant, cost: JobCost, delta: Decimal) -> str:
    return f"{accountant.epsilon(cost, delta):.4f}"
