"""A hospital's lifetime privacy budget, kept at the hospital, one per patient cohort.

Rules
- A cohort has one limit (epsilon, delta) over all jobs that it ever serves, and one accountant
  that counts towards it (`privacy.accounting`): mu^2 at first; the Rényi divergence at one order
  from its first job on sampled batches on, if nothing was charged before. A job may reserve only
  what is left: a valid filter even when jobs are chosen in view of earlier results.
- A round is charged before its update leaves, for that very update. Charging the same (job, round,
  attempt) again returns the stored spend and costs nothing, for the same update only: whoever has
  lost what it trained cannot show another one for the same charge. Nothing is ever given back.
- Events are appended, never changed; epsilon is derived from them (`privacy.budget_events`).
- Every operation is one SQLite transaction that takes the write lock first and is on disk when it
  returns, so killing the process anywhere never lowers what is spent, and concurrent reserves
  never oversubscribe.

Not covered: an older copy of the file put back in place. Members see it on the ledger when the
cohort's next proof declares less than its last one.

    budget = Budget(folder / "budget.sqlite")
    budget.open_cohort(cohort := new_cohort_id(), Decimal(3), Decimal("0.00001"))
    budget.reserve(cohort, "job-1", terms)
    spend = budget.charge(cohort, "job-1", round=1, attempt=1, leaves=sha256_of_the_update)
    budget.release(cohort, "job-1")
"""

import json
import os
import re
import secrets
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Final

from privacy import budget_events as events
from privacy.accounting import (
    GaussianAccountant,
    RenyiAccountant,
    check_claim,
    cost_of_job,
    epsilon_of_job,
    fits,
    shown_up,
    what_fits,
)
from privacy.budget_events import Charged, CohortState, Event, JobState
from privacy.budget_status import (
    BudgetStatus,
    CostCard,
    JobStatus,
    Reservation,
    Spend,
    cost_card,
)
from privacy.contract import PrivacyTerms, Record, check_delta, check_epsilon, decimal_text
from privacy.errors import (
    BudgetExceeded,
    CohortUnknown,
    EpsilonOutOfPolicy,
    ReservationMissing,
    RoundReplay,
    TermsChanged,
)
from privacy.renyi import order_for

_COHORT_ID: Final = re.compile(r"[0-9a-f]{32}")
_LOCK_SECONDS: Final = 30.0
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS event (
    number INTEGER PRIMARY KEY, cohort TEXT NOT NULL, kind TEXT NOT NULL, fields TEXT NOT NULL,
    previous TEXT NOT NULL, digest TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS head (
    one INTEGER PRIMARY KEY CHECK (one = 1), number INTEGER NOT NULL, digest TEXT NOT NULL
) STRICT;
CREATE TRIGGER IF NOT EXISTS event_is_final BEFORE UPDATE ON event
    BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;
CREATE TRIGGER IF NOT EXISTS event_stays BEFORE DELETE ON event
    BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;
"""


def new_cohort_id() -> str:
    """A random cohort id: it says nothing about the patients or the hospital."""
    return secrets.token_hex(16)


class Budget:
    """The budgets of a hospital's cohorts in one SQLite file, safe with several processes.

    Raises BudgetTampered when the stored history does not hold.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        path.chmod(0o600)
        with self._locked() as connection:
            for statement in _statements(_SCHEMA):
                connection.execute(statement)
            connection.execute("INSERT OR IGNORE INTO head VALUES (1, 0, ?)", (events.GENESIS,))
            _checked(connection)

    def open_cohort(self, cohort: str, epsilon_limit: Decimal, delta: Decimal) -> None:
        """Open a cohort with its lifetime limit; does nothing when it is open under the same.

        Raises CohortUnknown for an id that `new_cohort_id` did not make, TermsChanged when it is
        open under another limit or delta, EpsilonInvalid, DeltaInvalid, DeltaTooLarge.
        """
        check_epsilon(epsilon_limit)
        check_delta(delta)
        if not _COHORT_ID.fullmatch(cohort):
            raise CohortUnknown(
                f"cohort id {cohort!r} is not 32 hexadecimal digits", "make it with new_cohort_id()"
            )
        with self._locked() as connection:
            state = events.replay(_stored(connection), cohort)
            if state is None:
                fields: Record = {
                    "epsilon_limit": decimal_text(epsilon_limit),
                    "delta": decimal_text(delta),
                }
                _append(connection, cohort, events.OPEN, fields)
            elif (state.epsilon_limit, state.delta) != (epsilon_limit, delta):
                raise TermsChanged(
                    f"cohort {cohort} is open with epsilon limit {state.epsilon_limit} at delta "
                    f"{state.delta}",
                    "change the limit with set_limit; delta stays for the cohort's life",
                )

    def set_limit(self, cohort: str, epsilon_limit: Decimal) -> None:
        """Set the lifetime limit, up or down; what was spent stays spent.

        Raises CohortUnknown, EpsilonInvalid, or EpsilonOutOfPolicy for a limit below what is spent
        and reserved.
        """
        check_epsilon(epsilon_limit)
        with self._locked() as connection:
            state = _state(_stored(connection), cohort)
            taken = state.spent + state.reserved
            limit = state.accountant.limit(epsilon_limit, state.delta)
            if limit < state.accountant.counted(taken):
                lowest = shown_up(state.accountant.epsilon(taken, state.delta))
                raise EpsilonOutOfPolicy(
                    f"epsilon limit {epsilon_limit} is below what is spent and reserved",
                    f"set a limit above {lowest}, or release the jobs that hold a reserve",
                )
            if epsilon_limit != state.epsilon_limit:
                fields: Record = {"epsilon_limit": decimal_text(epsilon_limit)}
                _append(connection, cohort, events.LIMIT, fields)

    def quote(self, cohort: str, terms: PrivacyTerms) -> CostCard:
        """What a job would cost; nothing is set aside.

        Raises BudgetExceeded and AccountantFixed as `reserve` would, and what `check_claim` raises.
        """
        check_claim(terms)
        with self._locked() as connection:
            state = _state(_stored(connection), cohort)
        _take_up(state, terms)
        _check_fits(state, terms)
        return cost_card(_status(state), terms)

    def card(self, cohort: str, terms: PrivacyTerms) -> CostCard:
        """What a job would cost, whether it fits or not. Raises AccountantFixed, NoiseInvalid."""
        with self._locked() as connection:
            state = _state(_stored(connection), cohort)
        _take_up(state, terms)
        return cost_card(_status(state), terms)

    def reserve(self, cohort: str, job: str, terms: PrivacyTerms) -> Reservation:
        """Set aside what all rounds of a job cost; asking again with the same terms is free.

        A first job on sampled batches also fixes the cohort's accountant, if nothing was charged.

        Raises BudgetExceeded with what is needed, what is left and what would fit; AccountantFixed
        for sampled batches once full-batch rounds were charged; TermsChanged
        when the job holds a reserve under other terms; ReservationMissing when its reserve was
        released; NoiseInvalid for a job without noise; BudgetTampered; what `check_claim` raises.
        """
        check_claim(terms)
        cost = cost_of_job(terms)
        with self._locked() as connection:
            state = _state(_checked(connection), cohort)
            held = state.jobs.get(job)
            if held is None:
                changed = _take_up(state, terms)
                _check_fits(state, terms)
                if changed is not None:
                    _append(connection, cohort, events.RENYI, {"order": changed.order})
                _append(connection, cohort, events.RESERVE, events.reserve_fields(job, terms))
            elif held.terms != terms:
                raise TermsChanged(
                    f"job {job} was reserved under other terms",
                    "submit the changed job under a new id",
                )
            elif held.released:
                raise ReservationMissing(
                    f"the reserve of job {job} was released", "submit the job under a new id"
                )
        return Reservation(cohort, job, terms.rounds, cost)

    def charge(self, cohort: str, job: str, round: int, attempt: int, leaves: str) -> Spend:
        """Spend one reserved round; on disk when this returns. Call before the update leaves.

        round, attempt: counted by the job; they may skip but never go back. leaves: SHA-256 of what
        leaves. The same three again return the stored spend. Raises CohortUnknown,
        ReservationMissing when nothing is reserved, RoundReplay for a pair before one that was
        charged, or that was charged for something else.
        """
        with self._locked() as connection:
            state = _state(_stored(connection), cohort)
            key = (job, round, attempt)
            if (stored := state.charges.get(key)) is not None:
                if stored.leaves != leaves:
                    raise RoundReplay(
                        f"round {round}, attempt {attempt} of job {job} was charged for something "
                        "else than what would leave now",
                        "wait for the next attempt or round: what left then cannot be made again",
                    )
                return _spend(state, key, stored, replayed=True)
            held = state.jobs.get(job)
            if held is None or held.rounds_reserved < 1:
                raise ReservationMissing(
                    f"job {job} has no reserved round left for round {round}, attempt {attempt}",
                    "reserve the job first; a job that needs more rounds is a new job",
                )
            if (round, attempt) < max(held.last, (0, 0)):
                raise RoundReplay(
                    f"round {round}, attempt {attempt} of job {job} comes after round "
                    f"{held.last[0]}, attempt {held.last[1]} was charged",
                    "answer the job's current round; an earlier one cannot be trained any more",
                )
            fields: Record = {"job": job, "round": round, "attempt": attempt, "leaves": leaves}
            _append(connection, cohort, events.CHARGE, fields)
            charged = Charged(state.spent, state.spent + held.of_round, leaves)
            return _spend(state, key, charged, replayed=False)

    def release(self, cohort: str, job: str) -> None:
        """Give back what a job reserved and did not spend; nothing happens the second time.

        Raises CohortUnknown, or ReservationMissing for a job that never reserved.
        """
        with self._locked() as connection:
            state = _state(_stored(connection), cohort)
            if job not in state.jobs:
                raise ReservationMissing(
                    f"job {job} never reserved from cohort {cohort}",
                    "check the job's id in the budget's status",
                )
            if not state.jobs[job].released:
                _append(connection, cohort, events.RELEASE, {"job": job})

    def status(self, cohort: str) -> BudgetStatus:
        """What is spent, reserved and left. Raises CohortUnknown, BudgetTampered."""
        with self._locked() as connection:
            state = _state(_checked(connection), cohort)
        return _status(state)

    def cohorts(self) -> tuple[str, ...]:
        """Ids of all cohorts, in the order in which they were opened."""
        with self._locked() as connection:
            return tuple(e.cohort for e in _stored(connection) if e.kind == events.OPEN)

    @contextmanager
    def _locked(self) -> Iterator[sqlite3.Connection]:
        # A connection per operation: none is ever shared with a forked process.
        connection = sqlite3.connect(self._path, timeout=_LOCK_SECONDS, isolation_level=None)
        try:
            # EXTRA is FULL that also syncs the folder: the commit itself survives a power loss.
            connection.execute("PRAGMA synchronous = EXTRA")
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            raise events.tampered("the file is not the database that was written") from error
        finally:
            connection.close()


def _statements(script: str) -> Iterator[str]:
    statement = ""
    for line in script.splitlines():
        statement += line + "\n"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _stored(connection: sqlite3.Connection) -> Iterator[Event]:
    rows = connection.execute(
        "SELECT number, cohort, kind, fields, previous, digest FROM event ORDER BY number"
    )
    for number, cohort, kind, text, previous, digest in rows:
        try:
            fields = json.loads(text)
        except ValueError as error:
            raise events.tampered(f"event {number} is not readable") from error
        yield Event(number, cohort, kind, fields, previous, digest)


def _checked(connection: sqlite3.Connection) -> list[Event]:
    head = connection.execute("SELECT number, digest FROM head").fetchone()
    stored = list(_stored(connection))
    events.check_chain(stored, head or (0, events.GENESIS))
    return stored


def _state(stored: Iterable[Event], cohort: str) -> CohortState:
    state = events.replay(stored, cohort)
    if state is None:
        raise CohortUnknown(
            f"the budget holds no cohort {cohort}", "open it with its lifetime limit first"
        )
    return state


def _append(connection: sqlite3.Connection, cohort: str, kind: str, fields: Record) -> None:
    number, previous = connection.execute("SELECT number, digest FROM head").fetchone()
    event = Event.chained(number + 1, cohort, kind, fields, previous)
    text = events.canonical(fields).decode()
    connection.execute(
        "INSERT INTO event VALUES (?, ?, ?, ?, ?, ?)",
        (event.number, cohort, kind, text, previous, event.digest),
    )
    connection.execute("UPDATE head SET number = ?, digest = ?", (event.number, event.digest))


def _spend(
    state: CohortState, key: tuple[str, int, int], charged: Charged, replayed: bool
) -> Spend:
    costs = charged.before, charged.after
    return Spend(state.cohort, *key, state.accountant, *costs, state.delta, replayed)


def _status(state: CohortState) -> BudgetStatus:
    return BudgetStatus(
        cohort=state.cohort,
        accountant=state.accountant,
        delta=state.delta,
        epsilon_limit=state.epsilon_limit,
        limit=state.limit,
        spent=state.spent,
        reserved=state.reserved,
        jobs=tuple(_job_status(job) for job in state.jobs.values()),
    )


def _job_status(job: JobState) -> JobStatus:
    return JobStatus(
        job.job, job.terms, job.rounds_charged, job.rounds_reserved, job.spent, job.reserved
    )


def _take_up(state: CohortState, terms: PrivacyTerms) -> RenyiAccountant | None:
    """Put the state under the accountant that a job on sampled batches needs, if that may be.

    Only public constants choose it, and nothing was released yet: see `privacy.accounting`.
    """
    if terms.full_batch or state.charges or not isinstance(state.accountant, GaussianAccountant):
        return None
    curve = cost_of_job(terms).curve
    chosen = RenyiAccountant(order_for(state.epsilon_limit, state.delta, curve))
    state.accountant = chosen
    return chosen


def _check_fits(state: CohortState, terms: PrivacyTerms) -> None:
    count = state.accountant.counted
    cost = count(cost_of_job(terms))
    if not fits(count(state.spent), count(state.reserved), cost, state.limit):
        raise _exceeded(state, terms)


def _exceeded(state: CohortState, terms: PrivacyTerms) -> BudgetExceeded:
    fit = what_fits(state.accountant, terms, state.left, state.delta)
    needed, delta = shown_up(epsilon_of_job(terms, state.delta)), decimal_text(state.delta)
    what = (
        f"the job needs epsilon {decimal_text(needed)} and {decimal_text(fit.epsilon)} is left for "
        f"a next job (limit {decimal_text(state.epsilon_limit)}, delta {delta})"
    )
    if fit.noise is None or fit.epsilon <= 0:
        return BudgetExceeded(what, "release unfinished jobs or raise the cohort's limit")
    of_rounds = f"at most {fit.rounds} rounds under this noise, " if fit.rounds >= 1 else ""
    return BudgetExceeded(
        what,
        f"ask for {of_rounds}a noise multiplier of at least {fit.noise} for these rounds, or an "
        f"epsilon of at most {decimal_text(fit.epsilon)} at delta {delta}; or raise the cohort's "
        "limit",
    )
