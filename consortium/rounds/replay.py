"""What a block's records must say beyond form and signatures: every member checks it anew.

`check_block` is what a witness asks before it co-signs, and the coordinator before it proposes.
A block holds either one job, or one attempt at one round (all that was signed, then the result),
or one job's end, or what was submitted between them: changes of the membership, approvals,
erasures, evaluations. When a change takes effect is `ledger.membership`'s concern.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from consortium import weights as weight_forms
from consortium.contract import check_job, task_groups
from consortium.enrolment import check_member
from consortium.errors import RoundInvalid
from consortium.rounds.checks import (
    Examined,
    Reveal,
    RoundContext,
    examine,
    unmapped_step,
)
from consortium.rounds.checks.near_copy import EarlierStep
from consortium.rounds.codes import HARMFUL, NO_QUORUM
from consortium.rounds.commitment import closed_set_digest, revealed_set_digest
from consortium.rounds.committee import committee
from consortium.rounds.evaluation import check_evaluation
from consortium.rounds.progress import doubted, left_out, next_place, rounds_done
from consortium.rounds.released import released
from consortium.rounds.result import (
    RoundRecords,
    derive_result,
    judged,
    spared,
)
from ledger.content import Weights, digest, model_hash
from ledger.entry import Entry
from ledger.quorum import quorum
from ledger.records import (
    ACCEPTED,
    Approval,
    Change,
    Close,
    Commitment,
    Enrol,
    Erasure,
    Evaluation,
    Job,
    JobEnd,
    MemberForm,
    Policy,
    Proof,
    Record,
    Refusal,
    Result,
    Rotate,
    Spend,
    Verdict,
)

_SUBMITTED = (Change, Approval, Erasure, Evaluation)
_HEADER_BYTES = 65536  # of a safetensors file: generous


class LedgerView(Protocol):
    """What a member knows from the blocks before: it answers from its own verified copy."""

    @property
    def ledger(self) -> str:
        """The ledger's id."""

    @property
    def members(self) -> Mapping[str, MemberForm]:
        """The members in force."""

    @property
    def policy(self) -> Policy:
        """The policy in force."""

    @property
    def head(self) -> str:
        """Hash of the newest block."""

    def jobs(self) -> Sequence[Job]:
        """All jobs, oldest first."""

    def ended(self, job: str) -> bool:
        """Whether the job is over."""

    def end_of(self, job: str) -> JobEnd | None:
        """The job's end, if it is over."""

    def evaluated(self, job: str) -> Collection[str]:
        """The institutions whose evaluation of the job is on the ledger."""

    def results(self, job: str) -> Sequence[Result]:
        """The job's results, oldest first."""

    def proofs(self, institution: str) -> Iterable[Proof]:
        """An institution's proofs, newest first."""

    def model(self, name: str) -> Weights:
        """A model by its hash."""

    def update(self, name: str) -> bytes:
        """A revealed, mapped update by its digest."""

    def steps(self, job: str) -> Sequence[EarlierStep]:
        """The steps of the job's earlier reveals."""


@dataclass(frozen=True)
class Checked:
    """What a block's check computed: the new model, and the reveals' steps by institution."""

    model: Weights | None = None
    steps: Mapping[str, np.ndarray] | None = None
    job: str | None = None
    round: int = 0


@dataclass(frozen=True)
class Derived:
    """What a round's signed records and stored updates come to, whatever its result says."""

    result: Result
    model: Weights
    steps: Mapping[str, np.ndarray]
    codes: Mapping[str, str]
    """By institution: what every member finds of its proof."""
    spared: frozenset[str] = frozenset()
    """Whose steps go against the others', and would be missed by validators' patients."""


def round_context(view: LedgerView, job: Job, round: int, attempt: int) -> RoundContext:
    """The context of the round that starts from the view's newest block."""
    results = view.results(job.job)
    codes = {(r.round, o.institution): o.code for r in results for o in r.proofs}
    return RoundContext(
        ledger=view.ledger,
        base=view.head,
        job=job,
        round=round,
        attempt=attempt,
        members=view.members,
        model=view.model(current_model(job, results)),
        groups=task_groups(job),
        earlier=[
            step if step.other_job else replace(step, code=codes[step.round, step.institution])
            for step in view.steps(job.job)
        ],
        spent=last_spends(view, job),
        doubted=doubted(results),
        left_out=left_out(results),
    )


def same_task(view: LedgerView, job: str) -> list[str]:
    """The jobs of a job's task, oldest first, itself included."""
    jobs = view.jobs()
    task = next((other.task for other in jobs if other.job == job), None)
    return [other.job for other in jobs if other.task == task]


def last_spends(view: LedgerView, job: Job) -> dict[str, Spend]:
    """What each participant declared in its newest proof for the job's task."""
    jobs = set(same_task(view, job.job))
    spends: dict[str, Spend] = {}
    for participant in job.participants:
        mine = (p for p in view.proofs(participant.institution) if p.job in jobs)
        newest = next(mine, None)
        if newest is not None:
            spends[participant.institution] = newest.spend
    return spends


def revealed_step(
    view: LedgerView, job: Job, result: Result, entry: Entry, members: Mapping[str, MemberForm]
) -> np.ndarray | None:
    """The step that a proof of an earlier round revealed; None where it cannot be un-mapped.

    ``members`` are those of that round: their keys may have been rotated since.
    """
    proof = entry.record
    assert isinstance(proof, Proof)
    context = RoundContext(
        view.ledger, result.base, job, result.round, result.attempt, members,
        view.model(result.model_before), task_groups(job),
    )  # fmt: skip
    return unmapped_step(context, proof, view.update(proof.update))


def current_model(job: Job, results: Sequence[Result]) -> str:
    """Hash of the job's newest model."""
    return results[-1].model_after if results else job.initial_model


def check_block(view: LedgerView, entries: Sequence[Entry]) -> Checked:
    """Checks one block's records against the ledger before it.

    Raises:
        RoundInvalid, JobInvalid: naming the first rule that they break.
    """
    last = entries[-1].record if entries else None
    if isinstance(last, _SUBMITTED):
        _check_submitted(view, entries)
        return Checked()
    running = [job for job in view.jobs() if not view.ended(job.job)]
    if isinstance(last, Job) and len(entries) == 1:
        if running or any(job.job == last.job for job in view.jobs()):
            raise _invalid("a job begins while another runs, or under a name already used")
        check_job(last, view.members)
        return Checked()
    job = next((job for job in running if job.job == getattr(last, "job", None)), None)
    if job is None:
        raise _invalid("the block belongs to no running job")
    if isinstance(last, JobEnd) and len(entries) == 1:
        _check_end(view, job, last)
        return Checked()
    if isinstance(last, Result):
        return _check_round(view, entries)
    raise _invalid("the block holds neither a job, a round nor a job's end")


def _check_submitted(view: LedgerView, entries: Sequence[Entry]) -> None:
    """Whoever gets keys shows that it holds each; an evaluation is the first of an ended job."""
    jobs: dict[str, Job] = {}
    before: set[tuple[str, str]] = set()
    for entry in entries:
        record = entry.record
        if not isinstance(record, _SUBMITTED):
            raise _invalid(f"a {record.type} stands beside what was submitted")
        if isinstance(record, Evaluation):
            jobs = jobs or {job.job: job for job in view.jobs()}
            place = (record.job, record.author)
            if place in before or record.author in view.evaluated(record.job):
                raise _invalid(f"{record.author} has evaluated {record.job} before")
            before.add(place)
            check_evaluation(record, jobs.get(record.job), view.end_of(record.job))
        for action in record.actions if isinstance(record, Change) else ():
            if isinstance(action, Enrol | Rotate):
                check_member(action.member)


def released_model(view: LedgerView, job: Job, results: Sequence[Result]) -> Weights:
    """The model that a job gives out (`consortium.rounds.released`); untrained without a round."""
    harmful = any(outcome.code == HARMFUL for r in results for outcome in r.proofs)
    steps = view.steps(job.job) if harmful else ()  # many, and nothing was taken out otherwise
    model = released(job, results, steps, lambda r: view.model(r.model_after))
    return view.model(job.initial_model) if model is None else model


def _check_end(view: LedgerView, job: Job, end: JobEnd) -> None:
    results = view.results(job.job)
    done = rounds_done(results)
    finished = done == job.rounds
    if (
        end.rounds != done
        or finished != (end.status == "finished")
        or end.model != model_hash(released_model(view, job, results))
    ):
        raise _invalid("the job's end does not follow from its rounds")


def derive_round(view: LedgerView, entries: Sequence[Entry]) -> Derived:
    """Derives a round anew from a block that ends in its result, of which only the place is used.

    Raises:
        RoundInvalid: if the round, or a record, is not what can follow on this ledger.
    """
    result = entries[-1].record if entries else None
    job = next((job for job in view.jobs() if job.job == getattr(result, "job", None)), None)
    if job is None or view.ended(job.job) or not isinstance(result, Result):
        raise _invalid("the block holds no round of a running job")
    signed, history = entries[:-1], view.results(job.job)
    place = (result.round, result.attempt)
    if place != next_place(history) or result.round > job.rounds:
        raise _invalid("the round's number or attempt does not follow")
    context = round_context(view, job, result.round, result.attempt)
    records = RoundRecords.sort(signed)
    if records.all() != tuple(signed):
        raise _invalid("the round's records are not in order, or of another kind")
    _check_records(context, records)
    reveals = {
        entry.record.author: Reveal(entry, view.update(entry.record.update))
        for entry in records.proofs
        if isinstance(entry.record, Proof)
    }
    examined = examine(context, records.commitments, reveals)
    derived, model = derive_result(context, records, examined, view.policy.credits, history)
    codes = {name: found.code for name, found in examined.items()}
    kept = spared(context, examined, *judged(context, records))
    return Derived(derived, model, steps_of(context, examined), codes, kept)


def _check_round(view: LedgerView, entries: Sequence[Entry]) -> Checked:
    found, result = derive_round(view, entries), entries[-1].record
    derived = found.result
    for outcome in derived.proofs:
        # These checks are exact: a quorum cannot call a proof other than every member finds it.
        own = found.codes[outcome.institution]
        allowed = {ACCEPTED, HARMFUL, NO_QUORUM} if own == ACCEPTED else {own, NO_QUORUM}
        if own == HARMFUL and outcome.institution in found.spared:
            allowed = {ACCEPTED}
        if outcome.code not in allowed:
            raise _invalid(f"{outcome.institution}'s proof is called {outcome.code}; it is not")
    if derived != result:
        changed = [n for n in derived.body() if derived.body()[n] != result.body()[n]]
        raise _invalid(f"the result's {', '.join(changed)} do not follow from the verdicts")
    return Checked(found.model, found.steps, derived.job, derived.round)


def steps_of(context: RoundContext, examined: Mapping[str, Examined]) -> dict[str, np.ndarray]:
    """The steps of all reveals that could be un-mapped, for later rounds.

    Rejected ones too: everybody has seen them.
    """
    model = weight_forms.vector(context.model)
    return {
        name: weight_forms.vector(found.weights) - model
        for name, found in examined.items()
        if found.weights is not None
    }


def check_record(context: RoundContext, record: Record, closed_set: str | None) -> None:
    """Checks that a signed record belongs into this attempt at this round.

    ``closed_set`` is the digest of the closed set, None while it is not closed.

    Raises:
        RoundInvalid: naming the rule that it breaks.
    """
    if not isinstance(record, Commitment | Refusal | Close | Proof | Verdict):
        raise _invalid(f"a {record.type} is not what a hospital signs in a round")
    place = (record.job, record.round, record.attempt)
    if place != (context.job.job, context.round, context.attempt):
        raise _invalid("a record belongs to another round")
    if context.participant(record.author) is None:
        raise _invalid(f"{record.author} does not take part in the job")
    if isinstance(record, Commitment) and (record.base, record.model) != (
        context.base,
        model_hash(context.model),
    ):
        raise _invalid(f"{record.author} committed to another block or model")
    if isinstance(record, Close | Proof | Verdict) and record.digest != closed_set:
        raise _invalid(f"{record.author} saw another set of commitments")
    if isinstance(record, Verdict):
        names = [finding.institution for finding in record.findings]
        if names != sorted(set(names)):  # else one validator could vote twice
            raise _invalid(f"{record.author} does not name each proof once, in order")


def is_update_of(record: Record, data: bytes, model: Weights) -> bool:
    """Whether ``data`` is the update that a proof names, and no longer than a model can be."""
    longest = len(weight_forms.to_bytes(model)) + _HEADER_BYTES
    return isinstance(record, Proof) and len(data) <= longest and digest(data) == record.update


def _check_records(context: RoundContext, records: RoundRecords) -> None:
    closed_set = closed_set_digest(records.commitments)
    kinds = (
        records.commitments, records.refusals, records.closes, records.proofs, records.verdicts,
    )  # fmt: skip
    for kind in kinds:
        authors = [entry.record.author for entry in kind]
        if len(set(authors)) != len(authors):
            raise _invalid("an institution signed two records of one kind")
        for entry in kind:
            check_record(context, entry.record, closed_set)
    committed = {entry.record.author for entry in records.commitments}
    closed = {entry.record.author for entry in records.closes}
    if not {entry.record.author for entry in records.proofs} <= closed <= committed:
        raise _invalid("an institution went on without a commitment, or without closing")
    seen = revealed_set_digest(records.proofs)
    judges = committee(context, [e.record for e in records.proofs if isinstance(e.record, Proof)])
    for entry in records.verdicts:
        if entry.record.author not in judges:
            raise _invalid(f"{entry.record.author} is not on the round's committee")
        if isinstance(entry.record, Verdict) and entry.record.reveals != seen:
            raise _invalid(f"{entry.record.author} verified another set of reveals")
    if records.proofs and len(closed) < quorum(len(context.members)):
        raise _invalid("updates were revealed before a quorum had closed the set")


def _invalid(what: str) -> RoundInvalid:
    return RoundInvalid(what, "the coordinator must propose what the signed records give")
