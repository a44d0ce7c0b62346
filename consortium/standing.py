"""How all jobs and institutions stand: a running sum over the ledger's jobs, results and ends.

What was read once is never read again: records do not change. So looking costs what is new since
the last look, however long the ledger is.
"""

import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from consortium.rounds.progress import doubted_after, next_place
from ledger.records import ACCEPTED, Job, JobEnd, Record, Result

if TYPE_CHECKING:  # what sums an export has no database
    from ledger.listing import Listing

_AT_ONCE = 500
R = TypeVar("R", bound=Record)


@dataclass
class Account:
    """An institution's totals, over one job or all.

    ``shapley``: of its accepted proofs, in basis points of AUROC.
    """

    accepted: int = 0
    rejected: int = 0
    absent: int = 0
    learner: int = 0
    shapley: int = 0
    learning: int = 0
    verdicts: int = 0
    bonus: int = 0

    @property
    def credits(self) -> int:
        """All that it earned."""
        return self.learning + self.verdicts + self.bonus

    def __add__(self, other: "Account") -> "Account":
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Account(*(own + others for own, others in pairs))


@dataclass(frozen=True)
class Placed(Generic[R]):
    """A record with its index, and height and time of its block."""

    record: R
    index: int
    height: int
    time: int


@dataclass
class JobStanding:
    """One job. ``place`` is the round and attempt that come next; counts are over all attempts.

    ``reveals`` counts proofs by institution; ``doubted``: whose last proof was called harmful.
    """

    submitted: Placed[Job]
    done: int = 0
    place: tuple[int, int] = (1, 1)
    last: Result | None = None
    end: Placed[JobEnd] | None = None
    void: int = 0
    repeated: int = 0
    reveals: Counter[str] = field(default_factory=Counter)
    accounts: dict[str, Account] = field(default_factory=dict)
    doubted: frozenset[str] = frozenset()

    @property
    def contract(self) -> Job:
        """What was agreed."""
        return self.submitted.record

    @property
    def rejected(self) -> int:
        """Proofs that were not accepted."""
        return sum(account.rejected for account in self.accounts.values())

    @property
    def absences(self) -> int:
        """Answers that were missing."""
        return sum(account.absent for account in self.accounts.values())

    def add(self, result: Result) -> None:
        """Counts one result."""
        self.last, self.place = result, next_place([result])
        self.done += not result.again
        self.void += result.void and not result.again
        self.repeated += result.again
        codes = {proof.institution: proof.code for proof in result.proofs}
        self.doubted = doubted_after(self.doubted, codes)
        for proof in result.proofs:
            account = self._account(proof.institution)
            self.reveals[proof.institution] += 1
            account.accepted += proof.code == ACCEPTED
            account.rejected += proof.code != ACCEPTED
            account.shapley += (proof.shapley or 0) * (proof.code == ACCEPTED)
            account.learning += proof.credits
        for gone in result.absent:
            self._account(gone.institution).absent += 1
        for fee in result.fees:
            self._account(fee.institution).verdicts += fee.credits
        if result.learner is not None:
            self._account(result.learner).learner += 1
            self._account(result.learner).bonus += result.bonus

    def _account(self, institution: str) -> Account:
        account = self.accounts.get(institution)
        if account is None:
            account = self.accounts[institution] = Account()
        return account


def credits_of(result: Result, institution: str) -> int:
    """All credits that one round paid to an institution."""
    learning = sum(o.credits for o in result.proofs if o.institution == institution)
    fees = sum(fee.credits for fee in result.fees if fee.institution == institution)
    return learning + fees + (result.bonus if result.learner == institution else 0)


def enter(jobs: dict[str, JobStanding], record: Record, index: int, height: int, time: int) -> None:
    """Adds one record, in the ledger's order, to how its job stands; most kinds change nothing."""
    if isinstance(record, Job):
        jobs[record.job] = JobStanding(Placed(record, index, height, time))
    elif isinstance(record, Result):
        jobs[record.job].add(record)
    elif isinstance(record, JobEnd):
        jobs[record.job].end = Placed(record, index, height, time)


class Standing:
    """The sum over one ledger. Safe to share between threads."""

    def __init__(self, listing: "Listing") -> None:
        self._listing = listing
        self._lock = threading.Lock()
        self._past = -1
        self._jobs: dict[str, JobStanding] = {}

    def read_ahead(self) -> None:
        """Reads what there is before somebody asks: a long ledger takes seconds, once."""
        with self.jobs():
            pass

    @contextmanager
    def jobs(self) -> Iterator[Mapping[str, JobStanding]]:
        """All jobs by name, oldest first, up to the newest block; unmoved inside the context."""
        with self._lock:
            self._read_on()
            yield self._jobs

    def accounts(self, job: str | None = None) -> dict[str, Account]:
        """Totals by institution, over one job or all."""
        totals: dict[str, Account] = {}
        with self.jobs() as jobs:
            for name, standing in jobs.items():
                if job in (None, name):
                    for institution, account in standing.accounts.items():
                        totals[institution] = totals.get(institution, Account()) + account
        return totals

    def _read_on(self) -> None:
        types = ("job", "result", "job-end")
        while found := self._listing.entries(types, past=self._past, limit=_AT_ONCE):
            for listed in found:
                place = listed.index, listed.height, listed.time
                enter(self._jobs, listed.entry.stored, *place)
                self._past = listed.index
