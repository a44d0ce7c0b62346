"""What a person at the hospital decided about jobs: one SQLite file, always synced.

A decision is about one contract: it is kept by the job and the SHA-256 of the contract's record, so
nothing else under the same name is ever approved by it. The newest decision counts, whatever the
policy says of approvals: a person may refuse a job later, and the next round is then refused. All
earlier decisions stay in the file.
"""

import sqlite3
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final, Literal

from hospital_agent.errors import ApprovalPending, JobRefusedByPerson
from hospital_agent.policy import Policy
from hospital_agent.state import connected, transaction
from ledger import canonical
from ledger.records import Job

Answer = Literal["approve", "refuse"]
APPROVE: Final = "approve"
REFUSE: Final = "refuse"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS decisions (
    number INTEGER PRIMARY KEY, job TEXT NOT NULL, contract TEXT NOT NULL,
    answer TEXT NOT NULL CHECK (answer IN ('approve', 'refuse')), person TEXT NOT NULL,
    time INTEGER NOT NULL
) STRICT;
"""


@dataclass(frozen=True)
class Decision:
    """Who decided what, and when (seconds since 1970). Nothing of it leaves but a code."""

    answer: str
    person: str
    time: int


def contract_digest(job: Job) -> str:
    """What a decision is about: SHA-256 of the contract's canonical record."""
    return sha256(canonical.dumps(job.body())).hexdigest()


class Decisions:
    """One hospital's decisions."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with connected(self._path) as connection:
            connection.executescript(_SCHEMA)

    def _connect(self) -> AbstractContextManager[sqlite3.Connection]:
        return transaction(self._path)

    def decide(self, job: Job, answer: Answer, person: str) -> Decision:
        """Stores a person's decision; the same one again changes nothing."""
        before = self.of(job)
        if before is not None and (before.answer, before.person) == (answer, person):
            return before
        decision = Decision(answer, person, int(time.time()))
        row = (job.job, contract_digest(job), decision.answer, decision.person, decision.time)
        with self._connect() as connection:
            connection.execute(
                "INSERT INTO decisions (job, contract, answer, person, time) "
                "VALUES (?, ?, ?, ?, ?)",
                row,
            )
        return decision

    def of(self, job: Job) -> Decision | None:
        """The newest decision about this very contract, if any."""
        query = (
            "SELECT answer, person, time FROM decisions WHERE job = ? AND contract = ? "
            "ORDER BY number DESC LIMIT 1"
        )
        with self._connect() as connection:
            row = connection.execute(query, (job.job, contract_digest(job))).fetchone()
        return Decision(*row) if row else None

    def check(self, job: Job, policy: Policy) -> None:
        """Whether people allow the job, as far as the policy asks them.

        Raises:
            JobRefusedByPerson: if the newest decision is a refusal.
            ApprovalPending: if the policy wants an approval that nobody has given.
        """
        self.check_not_refused(job)
        if policy.approval == "always" and self.of(job) is None:
            raise ApprovalPending(
                f"{job.job} waits for a person's approval",
                f"see `hospital-agent jobs show {job.job}`, then `jobs approve` or `jobs refuse`",
            )

    def check_not_refused(self, job: Job) -> None:
        """Whether no person has refused the job.

        Raises:
            JobRefusedByPerson: if the newest decision is a refusal.
        """
        decision = self.of(job)
        if decision is not None and decision.answer == REFUSE:
            raise JobRefusedByPerson(
                f"a person at this hospital refused {job.job}",
                f"if that was a mistake: `hospital-agent jobs approve {job.job}`",
            )
