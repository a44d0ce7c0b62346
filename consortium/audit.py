"""Derives every round of an exported ledger anew, exactly as each member did before it co-signed.

`ledger.verify` shows that a quorum signed each block. Here is shown that what it signed follows:
contracts, checks 1 to 7 on every reveal, models to the bit, medians, credits, a job's end. A quorum
that lies together passes the first, not the second. What stays attested are the local scores and
Shapley values behind a median: they come from patients that no auditor sees.

Blocks are read one after another. What is kept of them is what later ones are checked against: all
contracts and ends, who has evaluated which job, the running job's results, the newest proof of each
institution in each job, and, for checks 7 and 8 and for what leaves a model, the step of every
reveal.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from consortium import weights as weight_forms
from consortium.enrolment import check_member
from consortium.errors import ConsortiumError, RoundInvalid
from consortium.rounds.checks.near_copy import EarlierStep
from consortium.rounds.replay import Checked, check_block, derive_round, same_task
from ledger.block import Block
from ledger.chain import Chain
from ledger.content import Weights, digest, model_hash
from ledger.errors import ContentInvalid, ContentMissing, LedgerError, RangeInvalid
from ledger.manifest import Manifest
from ledger.reading import read_blocks
from ledger.records import (
    Evaluation,
    Job,
    JobEnd,
    MemberForm,
    Policy,
    Proof,
    Record,
    Result,
    Verdict,
)

OnBlock = Callable[[int, int], None]
"""Told after each block: its height, and the height of the export's last block."""


@dataclass(frozen=True)
class RoundsVerified:
    """What was derived anew, and holds: all of it."""

    jobs: int = 0
    rounds_derived: int = 0
    attempts_repeated: int = 0
    reveals_checked: int = 0
    verdicts: int = 0
    evaluations: int = 0
    blocks_without_rounds: int = 0

    def and_block(self, records: Sequence[Record]) -> "RoundsVerified":
        """With one more block that holds."""

        def count(kind: type[Record]) -> int:
            return sum(isinstance(record, kind) for record in records)

        repeated = sum(isinstance(record, Result) and record.again for record in records)
        return RoundsVerified(
            self.jobs + count(Job),
            self.rounds_derived + count(Result) - repeated,
            self.attempts_repeated + repeated,
            self.reveals_checked + count(Proof),
            self.verdicts + count(Verdict),
            self.evaluations + count(Evaluation),
            self.blocks_without_rounds + (count(Result) == 0),
        )


def verify_rounds(folder: Path, on_block: OnBlock | None = None) -> RoundsVerified:
    """Derives all rounds of an export that `ledger.verify.verify_export` has verified.

    Raises:
        RangeInvalid: if the export does not begin with the genesis.
        ContentMissing, ContentInvalid: naming the update or the model that is not in the export,
            or is another than the one on the ledger.
        RoundInvalid, JobInvalid, EnrolmentInvalid: naming the first block that was signed although
            it breaks a rule, the rule, and how far the derivation got.
    """
    manifest = Manifest.parse((folder / "manifest.json").read_bytes())
    if manifest.first_height != 0:
        raise RangeInvalid(
            f"the export begins at height {manifest.first_height}; to derive rounds it must begin "
            "with the genesis, for every reveal is compared with all before it",
            "export without --from-height",
        )
    view: ExportView | None = None
    derived = RoundsVerified()
    for block, _ in read_blocks(folder):
        height = block.header.height
        try:
            if view is None:
                view = ExportView(folder, _begin(block))
            else:
                view.accept(block, check_block(view, block.entries))
            records = [entry.record for entry in block.entries]
            _check_models(view, records)
        except (ConsortiumError, LedgerError) as error:
            raise _placed(error, height, derived) from None
        derived = derived.and_block(records)
        if on_block is not None:
            on_block(height, manifest.last_height)
    return derived


def derived_results(folder: Path) -> Iterator[tuple[Result, Result]]:
    """Each result on an export of a whole ledger, and the one that follows from its round.

    What follows, medians, credits, the new model's hash, is derived from the verdicts, the stored
    updates and the blocks before; `verify_rounds` is what compares the two.

    Raises:
        ContentMissing, ContentInvalid, RoundInvalid, LedgerError: where nothing can be derived.
    """
    view: ExportView | None = None
    for block, _ in read_blocks(folder):
        last = block.entries[-1].record if block.entries else None
        if view is None:
            view = ExportView(folder, _begin(block))
        elif isinstance(last, Result):
            found = derive_round(view, block.entries)
            yield last, found.result
            view.accept(block, Checked(found.model, found.steps, last.job, last.round))
        else:
            view.accept(block, check_block(view, block.entries))


def _begin(block: Block) -> Chain:
    chain = Chain.begin(block)
    for member in chain.members.values():
        check_member(member)
    return chain


def _check_models(view: "ExportView", records: Sequence[Record]) -> None:
    """The exported models are those on the ledger, also where no later block reads them."""
    for record in records:
        if isinstance(record, Result):
            view.model(record.model_after)
        elif isinstance(record, JobEnd):
            view.model(record.model)


def _placed(
    error: ConsortiumError | LedgerError, height: int, derived: RoundsVerified
) -> ConsortiumError | LedgerError:
    error.what = (
        f"height {height}: {error.what}. Derived before it: {derived.rounds_derived} rounds, "
        f"{derived.reveals_checked} reveals"
    )
    if isinstance(error, ConsortiumError):
        error.resolve = (
            "use the members' version of MedPoLe; if it fails there too, a quorum signed what the "
            "rules do not give: keep the export as evidence and ask the members"
        )
    return error


class ExportView:
    """A `consortium.rounds.replay.LedgerView` over an export, up to the newest accepted block."""

    def __init__(self, folder: Path, chain: Chain) -> None:
        """``chain`` is the state after the genesis block."""
        self._folder = folder
        self._chain = chain
        self._jobs: dict[str, Job] = {}
        self._results: dict[str, list[Result]] = {}  # of jobs that are not over
        self._newest: dict[str, dict[str, Proof]] = {}  # by institution and job, newest last
        self._steps: dict[str, list[EarlierStep]] = {}
        self._ends: dict[str, JobEnd] = {}
        self._evaluated: dict[str, set[str]] = {}

    def accept(self, block: Block, checked: Checked) -> None:
        """Goes on to the next block, which was checked against this view.

        Raises:
            LedgerError: if it does not follow from the one before.
        """
        self._chain.follow(block, entries_checked=True)
        for entry in block.entries:
            record = entry.record
            if isinstance(record, Job):
                self._jobs[record.job] = record
                self._results[record.job], self._steps[record.job] = [], []
            elif isinstance(record, Proof):
                mine = self._newest.setdefault(record.author, {})
                mine.pop(record.job, None)
                mine[record.job] = record
            elif isinstance(record, Result):
                self._results[record.job].append(record)
            elif isinstance(record, JobEnd):
                del self._results[record.job]
                self._ends[record.job] = record
            elif isinstance(record, Evaluation):
                self._evaluated.setdefault(record.job, set()).add(record.author)
        if checked.job is not None and checked.steps is not None:
            steps = checked.steps
            self._steps[checked.job] += [
                EarlierStep(name, checked.round, steps[name]) for name in sorted(steps)
            ]

    @property
    def ledger(self) -> str:
        """The ledger's id."""
        return self._chain.ledger

    @property
    def members(self) -> Mapping[str, MemberForm]:
        """The members in force at the next block."""
        return self._chain.members

    @property
    def policy(self) -> Policy:
        """The policy in force at the next block."""
        return self._chain.policy

    @property
    def head(self) -> str:
        """Hash of the newest block."""
        return self._chain.header.hash

    def jobs(self) -> Sequence[Job]:
        """All jobs, oldest first."""
        return list(self._jobs.values())

    def ended(self, job: str) -> bool:
        """Whether a job is over."""
        return job not in self._results

    def end_of(self, job: str) -> JobEnd | None:
        """The job's end, if it is over."""
        return self._ends.get(job)

    def evaluated(self, job: str) -> Collection[str]:
        """The institutions that have evaluated the job."""
        return self._evaluated.get(job, ())

    def results(self, job: str) -> Sequence[Result]:
        """The results, oldest first, of a job that is not over: no rule asks for another's."""
        return self._results[job]

    def steps(self, job: str) -> Sequence[EarlierStep]:
        """Steps of the earlier reveals of all jobs with this job's task."""
        return [
            replace(step, other_job=same != job)
            for same in same_task(self, job)
            for step in self._steps[same]
        ]

    def proofs(self, institution: str) -> Iterable[Proof]:
        """An institution's newest proof in each job, newest first."""
        return reversed(self._newest.get(institution, {}).values())

    def model(self, name: str) -> Weights:
        """A model by its hash."""
        place = f"models/{name}"
        try:
            weights = weight_forms.from_bytes(self._read(place))
        except RoundInvalid:
            raise _other(place) from None
        if model_hash(weights) != name:
            raise _other(place)
        return weights

    def update(self, name: str) -> bytes:
        """A revealed, mapped update by its digest."""
        place = f"content/{name}"
        data = self._read(place)
        if digest(data) != name:
            raise _other(place)
        return data

    def _read(self, place: str) -> bytes:
        try:
            return (self._folder / place).read_bytes()
        except FileNotFoundError:
            raise ContentMissing(
                f"{place} is not in this export", "make the export with --content"
            ) from None


def _other(place: str) -> ContentInvalid:
    return ContentInvalid(
        f"{place} is not what the ledger names so", "ask for the original export, with --content"
    )
