"""Every institution's account, summed anew from a ledger alone: from its database or an export.

No balance is stored anywhere. What a result pays is entered into its institutions' accounts, and
compared with what it mints: one that pays more or less is named. That it follows from its verdicts
is what members derive before they co-sign, and anybody can (`consortium.audit`). Blocks that are
not final do not count.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from consortium.errors import JobMissing, RoundInvalid
from consortium.standing import Account, JobStanding, enter
from ledger.errors import LedgerMissing, RangeInvalid
from ledger.reading import read_blocks
from ledger.records import Record, Result
from ledger.verify import verify_export

if TYPE_CHECKING:  # an auditor has no database
    from ledger.store import LedgerStore

_AT_ONCE = 500
Placed = tuple[Record, int, int, int]
"""A record with its index, its height and its time."""


@dataclass(frozen=True)
class Accounts:
    """All accounts up to a final block, whose height and hash they name."""

    ledger: str
    height: int
    hash: str
    jobs: dict[str, JobStanding]

    def totals(self, job: str | None = None) -> dict[str, Account]:
        """Each institution's account, by its id, over one job or all; all participants have one.

        Raises:
            JobMissing: if there is no such job.
        """
        if job is not None and job not in self.jobs:
            raise JobMissing(f"no job is called {job[:60]!r}", "see `consortium job list`")
        found: dict[str, Account] = {}
        for name, standing in self.jobs.items():
            if job in (None, name):
                for participant in standing.contract.participants:
                    one = participant.institution
                    own = standing.accounts.get(one, Account())
                    found[one] = found.get(one, Account()) + own
        return dict(sorted(found.items()))

    def statement(self, institution: str) -> dict[str, Account]:
        """An institution's account in each job that it takes or took part in, oldest first.

        Raises:
            LedgerMissing: if there is none.
        """
        lines = {
            name: standing.accounts.get(institution, Account())
            for name, standing in self.jobs.items()
            if institution in {p.institution for p in standing.contract.participants}
        }
        if not lines:
            raise LedgerMissing(
                f"{institution[:60]!r} takes part in no job up to block {self.height}",
                "see `consortium reward list` for all",
            )
        return lines


def accounts_of_store(store: "LedgerStore") -> Accounts:
    """The accounts up to the newest final block of a database.

    Raises:
        RoundInvalid: naming the first result that pays other than it mints.
    """
    height = store.final_height()
    return Accounts(
        store.chain().ledger, height, store.header(height).hash, _summed(_stored(store, height))
    )


def _stored(store: "LedgerStore", final: int) -> Iterator[Placed]:
    past = -1
    types = ("job", "result", "job-end")
    while found := store.listing.entries(types, past=past, limit=_AT_ONCE):
        for listed in found:
            if listed.height > final:
                return
            yield listed.entry.stored, listed.index, listed.height, listed.time
        past = found[-1].index


def accounts_of_export(folder: Path, pinned: str | None = None) -> Accounts:
    """The same of an export in a folder, which is verified first.

    Args:
        folder: the export.
        pinned: the ledger's fingerprint, to compare the genesis with.

    Raises:
        LedgerError: naming the first thing that does not verify.
        RangeInvalid: if the export does not begin with the genesis.
        RoundInvalid: naming the first result that pays other than it mints.
    """
    verified = verify_export(folder, pinned)
    if verified.first_height:
        raise RangeInvalid(
            f"the export begins at height {verified.first_height}; accounts begin with the genesis",
            "export without --from-height",
        )
    hash = ""

    def exported() -> Iterator[Placed]:
        nonlocal hash
        for block, _ in read_blocks(folder):
            header = block.header
            for position, entry in enumerate(block.entries):
                yield entry.record, header.first + position, header.height, header.time
            hash = header.hash

    jobs = _summed(exported())
    return Accounts(verified.ledger, verified.height, hash, jobs)


def _summed(records: Iterable[Placed]) -> dict[str, JobStanding]:
    jobs: dict[str, JobStanding] = {}
    for record, *place in records:
        if isinstance(record, Result):
            learning = sum(outcome.credits for outcome in record.proofs)
            paid = learning + sum(fee.credits for fee in record.fees) + record.bonus
            if paid != record.minted:
                raise RoundInvalid(
                    f"round {record.round} of {record.job} pays {paid} credits and mints "
                    f"{record.minted}",
                    "derive the rounds anew: `consortium ledger verify EXPORT --rounds`",
                )
        enter(jobs, record, *place)
    return jobs
