"""What members do with a block that the coordinator proposes to them, in an arena.

They ask what a hospital's witness asks: is each entry signed by its author's key in force, and does
every record follow from the ledger before it (`check_block`)? Who finds that it does co-signs the
block's head, one at a height. Left out is what only concerns the way to them: fetching, storing,
comparing heads.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from hashlib import sha256

from consortium.enrolment import check_member
from consortium.errors import ConsortiumError
from consortium.lab.arena import Arena, Played
from consortium.rounds.checks import EarlierStep, Reveal, RoundContext, examine
from consortium.rounds.replay import check_block, steps_of
from consortium.rounds.result import RoundRecords, derive_result
from ledger.block import Header, certificate_hash, origin
from ledger.chain import check_quorum
from ledger.content import Weights, digest
from ledger.entry import Entry, sign_record
from ledger.errors import LedgerError
from ledger.keys import KeyRing, Role, SecretKey
from ledger.membership import COORDINATOR_ROLES, Membership
from ledger.merkle import Frontier
from ledger.note import Checkpoint, cosign
from ledger.records import (
    Genesis,
    Job,
    JobEnd,
    KeyForm,
    MemberForm,
    Policy,
    Proof,
    Result,
)

Block = tuple[Entry, ...]
_TIME = 1_700_000_000


class Members:
    """All members of an arena's consortium, who have the same ledger before them.

    It is a `consortium.rounds.replay.LedgerView`: rounds that were played are appended by `follow`.
    """

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._coordinator = KeyRing(
            {role: SecretKey(role, sha256(role.encode()).digest()) for role in COORDINATOR_ROLES}
        )
        forms = tuple(hospital.member() for _, hospital in sorted(arena.hospitals.items()))
        for form in forms:
            check_member(form)
        self._policy = Policy(quorum="floor((n+f)/2)+1", credits=arena.policy)
        genesis = Genesis(
            v=1, type="genesis", author="coordinator", consortium="Lab",
            coordinator={
                role: KeyForm.of(self._coordinator[role].public) for role in COORDINATOR_ROLES
            },
            founders=forms, policy=self._policy, created=_TIME,
        )  # fmt: skip
        self.membership = Membership.of_genesis(genesis, arena.job.ledger)
        self._head = arena.context.base
        self._results: list[Result] = []
        self._proofs: list[Proof] = []
        self._steps: list[EarlierStep] = []
        self._models = {arena.job.initial_model: arena.models[0]}
        self._updates: dict[str, bytes] = {}

    # what the coordinator does

    def proposed(
        self, context: RoundContext, records: RoundRecords, reveals: Mapping[str, Reveal],
        **changes: object,
    ) -> Block:  # fmt: skip
        """The block that the coordinator makes of a round's records.

        ``changes``: to its result, which otherwise follows from the records.
        """
        examined = examine(context, records.commitments, reveals)
        result, _ = derive_result(context, records, examined, self._arena.policy, self._results)
        signed = result.model_copy(update=changes)
        return (*records.all(), sign_record(signed, [self._coordinator[Role.RECORD]]))

    # what each member does

    def refuse(self, block: Block, reveals: Mapping[str, Reveal]) -> str | None:
        """The code for which an honest member does not co-sign a block; None: it does."""
        for reveal in reveals.values():
            self._updates[digest(reveal.update)] = reveal.update
        try:
            for entry in block:
                self.membership.check_entry(entry)
            check_block(self, block)
        except (LedgerError, ConsortiumError) as error:
            return error.code
        return None

    def cosigned(self, block: Block, by: Collection[str]) -> tuple[Checkpoint, list[str]]:
        """A block's head, with the cosignatures of those who were shown it."""
        frontier = Frontier()
        for entry in block:
            frontier.append(entry.leaf)
        height = len(self._results) + 1
        header = Header(
            self.ledger, 0, height, self._head, 0, len(block), frontier.size,
            frontier.root().hex(), self.membership.digest, certificate_hash(()), _TIME,
        )  # fmt: skip
        frontier.append(header.leaf)
        head = Checkpoint(
            origin(self.ledger), frontier.size, frontier.root(), 0, height,
            bytes.fromhex(header.hash),
        )  # fmt: skip
        keys = {name: self._arena.hospitals[name].keys[Role.COSIGN] for name in sorted(by)}
        return head, [cosign(name, key, head.text(), _TIME) for name, key in keys.items()]

    def not_final(self, head: Checkpoint, lines: Sequence[str]) -> str | None:
        """The code for which nobody takes a block for final; None: it is."""
        try:
            check_quorum(self.membership, head, lines)
        except LedgerError as error:
            return error.code
        return None

    def follow(self, played: Played, reveals: Mapping[str, Reveal]) -> None:
        """Goes on behind a round that was played."""
        steps = steps_of(played.context, played.examined)
        self._steps += [
            EarlierStep(name, played.result.round, steps[name]) for name in sorted(steps)
        ]
        self._results.append(played.result)
        self._models[played.result.model_after] = played.model
        for entry in played.records.proofs:
            if isinstance(entry.record, Proof):
                self._proofs.insert(0, entry.record)
        for reveal in reveals.values():
            self._updates[digest(reveal.update)] = reveal.update
        self._head = self._arena.context.base

    # the ledger that they have before them

    @property
    def ledger(self) -> str:
        """The ledger's id."""
        return self._arena.job.ledger

    @property
    def members(self) -> Mapping[str, MemberForm]:
        """The members in force."""
        return self.membership.members

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return self._policy

    @property
    def head(self) -> str:
        """Hash of the newest block."""
        return self._head

    def jobs(self) -> Sequence[Job]:
        """The arena's one job."""
        return (self._arena.job,)

    def ended(self, job: str) -> bool:
        """Never."""
        return False

    def end_of(self, job: str) -> JobEnd | None:
        """None: it is not over."""
        return None

    def evaluated(self, job: str) -> Collection[str]:
        """Nobody."""
        return ()

    def results(self, job: str) -> Sequence[Result]:
        """The job's results, oldest first."""
        return self._results

    def proofs(self, institution: str) -> Iterable[Proof]:
        """An institution's proofs, newest first."""
        return (proof for proof in self._proofs if proof.author == institution)

    def model(self, name: str) -> Weights:
        """A model by its hash."""
        return self._models[name]

    def update(self, name: str) -> bytes:
        """A revealed, mapped update by its digest."""
        return self._updates[name]

    def steps(self, job: str) -> Sequence[EarlierStep]:
        """The steps of the job's earlier reveals."""
        return self._steps
