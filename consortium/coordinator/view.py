"""What the round rules ask of the ledger, answered from the coordinator's own database."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np

from consortium.contract import initial_model
from consortium.models import ModelStore
from consortium.rounds.checks.near_copy import EarlierStep
from consortium.rounds.replay import revealed_step, same_task
from ledger.content import ContentStore, Weights
from ledger.entry import Entry
from ledger.records import Job, JobEnd, MemberForm, Policy, Proof, Result
from ledger.store import LedgerStore


class StoreView:
    """A `consortium.rounds.replay.LedgerView` over the ledger's store.

    ``remember`` keeps the steps of a job's reveals, so that they are un-mapped once only.
    """

    def __init__(self, store: LedgerStore, content: ContentStore, models: ModelStore) -> None:
        self.store, self.content, self.models = store, content, models
        self._steps: dict[str, list[EarlierStep]] = {}

    @property
    def ledger(self) -> str:
        """The ledger's id."""
        return self.store.chain().ledger

    @property
    def members(self) -> Mapping[str, MemberForm]:
        """The members in force."""
        return self.store.chain().members

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return self.store.chain().policy

    @property
    def head(self) -> str:
        """Hash of the newest block."""
        return self.store.chain().header.hash

    def jobs(self) -> Sequence[Job]:
        """All jobs, oldest first."""
        return [r for e in self.store.entries("job") if isinstance(r := e.record, Job)]

    def ended(self, job: str) -> bool:
        """Whether a job is over."""
        return bool(self.store.entries("job-end", job))

    def end_of(self, job: str) -> JobEnd | None:
        """The job's end, if it is over."""
        ends = [r for e in self.store.entries("job-end", job) if isinstance(r := e.record, JobEnd)]
        return ends[0] if ends else None

    def evaluated(self, job: str) -> Collection[str]:
        """The institutions whose evaluation of the job is on the ledger."""
        return {entry.record.author for entry in self.store.entries("evaluation", job)}

    def results(self, job: str) -> Sequence[Result]:
        """A job's results, oldest first."""
        entries = [_parsed(entry.data) for entry in self.store.entries("result", job)]
        return [r for e in entries if isinstance(r := e.record, Result)]

    def steps(self, job: str) -> Sequence[EarlierStep]:
        """Steps of the earlier reveals of all jobs with this job's task."""
        return [
            replace(step, other_job=same != job)
            for same in same_task(self, job)
            for step in self._steps_of(same)
        ]

    def _steps_of(self, name: str) -> list[EarlierStep]:
        if name not in self._steps:  # after a restart: un-mapped anew from the ledger
            job = next(job for job in self.jobs() if job.job == name)
            proofs = [(e, e.record) for e in self.store.entries("proof", name)]
            self._steps[name] = [
                EarlierStep(proof.author, proof.round, step)
                for result in self.results(name)
                for entry, proof in proofs
                if isinstance(proof, Proof)
                and (proof.round, proof.attempt) == (result.round, result.attempt)
                for members in [self.store.membership_after(result.base).members]
                for step in [revealed_step(self, job, result, entry, members)]
                if step is not None
            ]
        return self._steps[name]

    def remember(self, job: str, round_: int, steps: Mapping[str, np.ndarray]) -> None:
        """Keeps a round's steps for later rounds."""
        self._steps_of(job).extend(EarlierStep(name, round_, steps[name]) for name in sorted(steps))

    def proofs(self, institution: str) -> Iterable[Proof]:
        """An institution's proofs, newest first."""
        for entry in self.store.newest_first("proof", institution):
            if isinstance(record := _parsed(entry.data).record, Proof):
                yield record

    def model(self, name: str) -> Weights:
        """A model by its hash; a job's initial model is made when first asked for."""
        for job in self.jobs():
            if job.initial_model == name:
                self.models.put(initial_model(job.task, job.seed))
        return self.models.get(name)

    def update(self, name: str) -> bytes:
        """A revealed, mapped update by its digest."""
        return self.content.get(name)


@lru_cache(maxsize=8192)
def _parsed(data: bytes) -> Entry:
    """An entry that keeps its parsed record: a job's results are read again every round."""
    return Entry(data)
