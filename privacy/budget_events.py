"""What a budget stores: an append-only chain of events, from which everything else is derived.

Each event carries SHA-256(hash of the event before, canonical fields), so a changed, removed or
reordered event breaks the chain from there on, and the head stored beside it catches events lost
at its end. What this cannot catch: someone with write access to the file who rewrites chain and
head together, or puts an older copy back. Members see that when the cohort's
next proof on the ledger declares less than its last one.

`replay` folds the events of one cohort into its state; it is pure, and refuses a history that the
rules could not have produced.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Final

from privacy.accounting import (
    Accountant,
    Cost,
    GaussianAccountant,
    RenyiAccountant,
    cost_of_round,
    decimal_up,
)
from privacy.contract import PrivacyTerms, Record
from privacy.errors import BudgetTampered, PrivacyError
from privacy.renyi import Curve

GENESIS: Final = "0" * 64

OPEN: Final = "open"
LIMIT: Final = "limit"
RENYI: Final = "renyi"
RESERVE: Final = "reserve"
CHARGE: Final = "charge"
RELEASE: Final = "release"


@dataclass(frozen=True)
class Event:
    """One stored event; `fields` are integers and decimal strings."""

    number: int
    cohort: str
    kind: str
    fields: Record
    previous: str
    digest: str

    @staticmethod
    def chained(number: int, cohort: str, kind: str, fields: Record, previous: str) -> "Event":
        """The event with its hash over everything before it."""
        text = canonical([number, cohort, kind, fields, previous])
        return Event(number, cohort, kind, fields, previous, hashlib.sha256(text).hexdigest())


@dataclass
class JobState:
    """One job's part in a cohort's budget; of_round: what each of its rounds costs."""

    job: str
    terms: PrivacyTerms
    of_round: Cost
    rounds_charged: int = 0
    last: tuple[int, int] = (-1, -1)
    released: bool = False

    @property
    def rounds_reserved(self) -> int:
        """Rounds that may still be charged."""
        return 0 if self.released else self.terms.rounds - self.rounds_charged

    @property
    def spent(self) -> Cost:
        """Cost of the rounds charged."""
        return self.of_round * self.rounds_charged

    @property
    def reserved(self) -> Cost:
        """Cost of the rounds that may still be charged."""
        return self.of_round * self.rounds_reserved


@dataclass(frozen=True)
class Charged:
    """One charged round: the cohort's cost before and after, and the digest of what left for it."""

    before: Cost
    after: Cost
    leaves: str


@dataclass
class CohortState:
    """A cohort's budget after some events; costs are exact.

    charges: by job, round and attempt.
    """

    cohort: str
    epsilon_limit: Decimal
    delta: Decimal
    accountant: Accountant = field(default_factory=GaussianAccountant)
    jobs: dict[str, JobState] = field(default_factory=dict)
    spent: Cost = field(default_factory=Cost)
    charges: dict[tuple[str, int, int], Charged] = field(default_factory=dict)

    @property
    def reserved(self) -> Cost:
        """What is reserved and not yet spent, over all jobs."""
        return sum((job.reserved for job in self.jobs.values()), Cost())

    @property
    def limit(self) -> Fraction:
        """What the cohort's lifetime guarantee allows its accountant to count."""
        return self.accountant.limit(self.epsilon_limit, self.delta)

    @property
    def left(self) -> Fraction:
        """What a next job may count."""
        taken = self.accountant.counted(self.spent + self.reserved)
        return max(Fraction(0), self.limit - taken)


def canonical(value: object) -> bytes:
    """The one encoding of integers, strings and their lists and maps."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def check_chain(events: Iterable[Event], head: tuple[int, str]) -> None:
    """Raise BudgetTampered unless the events are the whole chain that ends in `head`."""
    number, previous = 0, GENESIS
    for event in events:
        number += 1
        expected = Event.chained(number, event.cohort, event.kind, event.fields, previous)
        if event != expected:
            raise tampered(f"event {number} is not the one that was written")
        previous = event.digest
    if (number, previous) != head:
        raise tampered(f"{head[0]} events were written and {number} are there")


def replay(events: Iterable[Event], cohort: str) -> CohortState | None:
    """State of `cohort` after the events, or None when it was never opened."""
    state: CohortState | None = None
    for event in events:
        if event.cohort != cohort:
            continue
        try:
            state = _apply(state, event)
        except (KeyError, ValueError, PrivacyError) as error:
            raise tampered(f"event {event.number} cannot follow from the ones before") from error
    return state


def tampered(what: str) -> BudgetTampered:
    """The error for a chain that does not hold."""
    return BudgetTampered(
        f"the budget's history does not hold: {what}",
        "train nothing on this cohort; restore the file from a backup and compare it with the "
        "spends on the public ledger",
    )


def _apply(state: CohortState | None, event: Event) -> CohortState:
    fields = event.fields
    if event.kind == OPEN and state is None:
        limit, delta = Decimal(str(fields["epsilon_limit"])), Decimal(str(fields["delta"]))
        return CohortState(event.cohort, limit, delta)
    if state is None:
        raise ValueError("not open")
    if event.kind == LIMIT:
        state.epsilon_limit = Decimal(str(fields["epsilon_limit"]))
        return state
    if event.kind == RENYI and not state.charges:
        state.accountant = RenyiAccountant(int(fields["order"]))
        return state
    job = str(fields["job"])
    if event.kind == RESERVE and job not in state.jobs:
        state.jobs[job] = _reserved(job, fields)
        state.accountant.counted(state.jobs[job].of_round)
    elif event.kind == RELEASE:
        state.jobs[job].released = True
    elif event.kind == CHARGE:
        _charge(state, state.jobs[job], fields)
    else:
        raise ValueError("unknown kind")
    return state


def reserve_fields(job: str, terms: PrivacyTerms) -> Record:
    """What a reservation stores: the terms, and the curve of a round on sampled batches.

    The curve is not derived again: what was agreed stays, and reading a budget is quick.
    """
    fields: Record = {"job": job, **terms.to_record()}
    if not terms.full_batch:
        fields["curve"] = " ".join(map(decimal_up, cost_of_round(terms).sampled))
    return fields


def _reserved(job: str, fields: Record) -> JobState:
    record = {name: value for name, value in fields.items() if name not in ("job", "curve")}
    terms = PrivacyTerms.from_record(record)
    if terms.full_batch:
        return JobState(job, terms, cost_of_round(terms))
    return JobState(job, terms, Cost(sampled=_curve(str(fields["curve"]))))


@lru_cache(maxsize=1024)
def _curve(text: str) -> Curve:
    curve = tuple(map(Fraction, text.split()))
    if not (curve and all(rho > 0 for rho in curve)):
        raise ValueError("no cost")
    return curve


def _charge(state: CohortState, job: JobState, fields: Record) -> None:
    number, attempt = int(fields["round"]), int(fields["attempt"])
    if job.rounds_reserved < 1 or (number, attempt) <= job.last:
        raise ValueError("nothing reserved")
    after = state.spent + job.of_round
    # Older files do not say what left: their rounds are never charged again for anything.
    charged = Charged(state.spent, after, str(fields.get("leaves", "")))
    state.charges[job.job, number, attempt] = charged
    state.spent = after
    job.rounds_charged += 1
    job.last = (number, attempt)
