"""What the round rules ask of the ledger, answered from this hospital's verified copy."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

from consortium import weights as weight_forms
from hospital_agent.errors import JobUnknown
from hospital_agent.folder import HospitalFolder
from hospital_agent.replica import Replica
from ledger.chain import Chain
from ledger.content import Weights, model_hash
from ledger.errors import ContentInvalid, ContentMissing
from ledger.records import Job, JobEnd, MemberForm, Policy, Proof, Result

if TYPE_CHECKING:
    from consortium.rounds.checks.near_copy import EarlierStep

Fetch = Callable[[str, str], bytes]
"""From the consortium's API: (kind, digest) to bytes; kind is ``content`` or ``models``."""


class ReplicaView:
    """A `consortium.rounds.replay.LedgerView` over a hospital's folder.

    With ``fetch``, what is not here is fetched, checked against its digest and kept.
    """

    def __init__(self, folder: HospitalFolder, fetch: Fetch | None = None) -> None:
        self._folder = folder
        self._fetch = fetch
        self.replica = Replica(folder.path / "replica.sqlite")
        self._chain: Chain | None = None
        self._newest: tuple[str, dict[str, Proof]] = ("", {})  # proofs, up to which block

    def refresh(self) -> Chain:
        """The state after the newest block in the copy.

        Raises:
            JobUnknown: before the genesis.
        """
        chain = self._chain or self.replica.chain(self._folder.ledger)
        if chain is None:
            raise JobUnknown("this hospital knows no ledger yet", "let its witness catch up")
        for height in range(chain.header.height + 1, self.replica.height() + 1):
            chain = replace(chain)  # whoever holds the one before keeps it as it was
            # Verified before it was stored.
            chain.follow(self.replica.block(height), entries_checked=True)
        self._chain = chain
        return chain

    @property
    def ledger(self) -> str:
        """The ledger's id."""
        return self.refresh().ledger

    @property
    def members(self) -> Mapping[str, MemberForm]:
        """The members in force."""
        return self.refresh().members

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return self.refresh().policy

    @property
    def head(self) -> str:
        """Hash of the newest block."""
        return self.refresh().header.hash

    def jobs(self) -> Sequence[Job]:
        """All jobs, oldest first."""
        return self.replica.jobs()

    def ended(self, job: str) -> bool:
        """Whether a job is over."""
        return self.replica.end_of(job) is not None

    def end_of(self, job: str) -> JobEnd | None:
        """The job's end, if it is over."""
        return self.replica.end_of(job)

    def evaluated(self, job: str) -> Collection[str]:
        """The institutions whose evaluation of the job is in the copy."""
        return {entry.record.author for entry in self.replica.entries("evaluation", job)}

    def results(self, job: str) -> Sequence[Result]:
        """A job's results, oldest first."""
        return self.replica.results(job)

    def steps(self, job: str) -> "Sequence[EarlierStep]":
        """Steps of the earlier reveals of all jobs with this job's task."""
        from consortium.rounds.replay import same_task  # loads torch, as the next below

        return [
            replace(step, other_job=same != job)
            for same in same_task(self, job)
            for step in self.replica.steps(same)
        ]

    def proofs(self, institution: str) -> Iterable[Proof]:
        """An institution's proofs up to the block that was last asked for, newest first."""
        # A round asks for everybody's newest in each of its phases, and hardly ever for others.
        head = (self._chain or self.refresh()).header.hash
        if self._newest[0] != head:
            self._newest = head, self.replica.newest_proofs(self.members)
        newest = self._newest[1].get(institution)
        if newest is None:
            yield from self.replica.proofs(institution)
            return
        yield newest
        yield from islice(self.replica.proofs(institution), 1, None)

    def model(self, name: str) -> Weights:
        """A model by its hash; a job's initial model is made anew."""
        try:
            return self._folder.models.get(name)
        except (ContentMissing, ContentInvalid):
            from consortium.contract import initial_model

            for job in self.jobs():
                if job.initial_model == name:
                    self._folder.models.put(initial_model(job.task, job.seed))
                    return self._folder.models.get(name)
            if self._fetch is None:
                raise
        weights = weight_forms.from_bytes(self._fetch("models", name))
        if model_hash(weights) != name:
            raise ContentInvalid("the API sent another model", "report it to the consortium")
        self._folder.models.put(weights)
        return weights

    def update(self, name: str) -> bytes:
        """A revealed, mapped update by its digest."""
        if self._fetch is not None and not self._folder.content.has(name):
            data = self._fetch("content", name)
            if self._folder.content.put(data) != name:
                raise ContentInvalid("the API sent other content", "report it to the consortium")
        return self._folder.content.get(name)
