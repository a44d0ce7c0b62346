"""Four hospitals and a coordinator in one process: no Flower, no PostgreSQL, no network.

The hospitals are the agent's own code on their own folders. Only the network's edge is ours: a
ledger API that hands out blocks and takes cosignatures, and a coordinator that lies when told to.
"""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import pytest

from consortium import tasks
from consortium import weights as weight_forms
from consortium.contract import JobOrder, make_job
from consortium.phases import Phase, Reply, Request
from consortium.rounds.checks import Reveal, RoundContext, examine
from consortium.rounds.replay import round_context
from consortium.rounds.result import RoundRecords, derive_result
from hospital_agent.approvals import Approvals
from hospital_agent.approver import open_approver
from hospital_agent.cohort import Cohort
from hospital_agent.enrolment import enrol, sign_genesis
from hospital_agent.folder import HospitalFolder
from hospital_agent.ledger_api import Heads
from hospital_agent.participant import Participant
from hospital_agent.policy import Policy as HospitalPolicy
from hospital_agent.view import ReplicaView
from hospital_agent.witness import Witness
from ledger.block import Block
from ledger.chain import Chain
from ledger.content import Weights, digest, model_hash
from ledger.entry import Entry, assemble, record_signature, sign_record
from ledger.errors import CosignatureConflict
from ledger.keys import KeyRing, Role
from ledger.membership import change_digest
from ledger.merkle import consistency_proof
from ledger.note import Checkpoint, SignatureLine, SignedHead
from ledger.records import (
    Action,
    Change,
    CreditPolicy,
    Erasure,
    Genesis,
    Job,
    JobEnd,
    KeyForm,
    MemberForm,
    Policy,
    Record,
)
from ledger.sequencer import genesis_block, next_block
from privacy.noise import SeededNoise

TASK, CREATED = "breast-cancer", 1_750_000_000


class _Noise:
    """One stream for each hospital and round, set when its participant is made."""

    seed = 0

    def __new__(cls) -> SeededNoise:  # type: ignore[misc]
        return SeededNoise(cls.seed, unsafe_no_dp=True)


@contextmanager
def repeatable() -> Iterator[None]:
    """The same first round in every run: no honest pair is a false alarm on some days only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hospital_agent.participant.SecureNoise", _Noise)
        patch.setattr("hospital_agent.witness.time", SimpleNamespace(time=lambda: CREATED + 30))
        yield


@dataclass
class Api:
    """What a witness sees of the consortium: `hospital_agent.ledger_api.LedgerApi` in memory."""

    blocks: list[Block] = field(default_factory=list)
    cosignatures: dict[int, dict[str, str]] = field(default_factory=dict)
    content: dict[tuple[str, str], bytes] = field(default_factory=dict)
    sent: list[tuple[int, str]] = field(default_factory=list)
    other_heads: list[tuple[str, SignedHead]] = field(default_factory=list)
    conflicts: list[tuple[int, str]] = field(default_factory=list)

    def newest(self) -> Checkpoint:
        return self.blocks[-1].checkpoint

    def block(self, height: int) -> tuple[Block, list[str]]:
        return self.blocks[height], sorted(self.cosignatures.get(height, {}).values())

    def consistency_proof(self, old: int, size: int) -> list[bytes]:
        leaves = [
            leaf
            for block in self.blocks
            for leaf in [*(entry.leaf for entry in block.entries), block.header.leaf]
        ]
        return consistency_proof(leaves[:size], old)

    def heads(self) -> Heads:
        newest = {
            name: SignedHead(self.blocks[height].checkpoint, (self.blocks[height].signature, line))
            for height in sorted(self.cosignatures)
            if height < len(self.blocks)
            for name, line in self.cosignatures[height].items()
        }
        return Heads(tuple(newest.items()) + tuple(self.other_heads), tuple(self.conflicts))

    def send_cosignature(self, height: int, line: str) -> None:
        self.sent.append((height, line))
        first = self.cosignatures.setdefault(height, {}).setdefault(
            SignatureLine.parse(line).name, line
        )
        if first != line:
            self.conflicts.append((height, line))
            raise CosignatureConflict("another cosignature stands on that block", "")

    def fetch(self, kind: str, name: str) -> bytes:
        return self.content[kind, name]


@dataclass
class Consortium:
    """The coordinator's side, with the hospitals' folders at hand."""

    root: Path
    keys: KeyRing
    folders: dict[str, HospitalFolder]
    api: Api
    chain: Chain | None = None
    witnesses: dict[str, Witness] = field(default_factory=dict)
    records: RoundRecords = field(default_factory=RoundRecords)
    updates: dict[str, bytes] = field(default_factory=dict)
    attempt: int = 1

    @property
    def newest(self) -> Chain:
        assert self.chain is not None
        return self.chain

    def participant(self, name: str) -> Participant:
        """A fresh one each time: as after a crash."""
        self.set_noise(name)
        return Participant(HospitalFolder(self.folders[name].path))

    def set_noise(self, name: str) -> None:
        """What a hospital draws next, in this round."""
        _Noise.seed = int.from_bytes(digest(f"{name} {len(self.api.blocks)}".encode())[:6].encode())

    def witness(self, name: str) -> Witness:
        if name not in self.witnesses:
            self.witnesses[name] = Witness(self.folders[name], self.api)  # type: ignore[arg-type]
        return self.witnesses[name]

    def cosign_all(self, names: Iterable[str] | None = None) -> None:
        for name in self.folders if names is None else names:
            self.witness(name).step()

    # blocks

    def propose(self, entries: Sequence[Entry], time: int = CREATED + 60) -> Block:
        lines = sorted(self.api.cosignatures[self.newest.header.height].values())
        block = next_block(self.newest, entries, lines, time, self.keys)
        self.newest.follow(block)
        self.api.blocks.append(block)
        return block

    def sign(self, record: Record) -> Entry:
        return sign_record(record, [self.keys[Role.RECORD]])

    def add(self, entries: Sequence[Entry]) -> None:
        self.propose(entries)
        self.cosign_all()

    # changes of the membership

    def newcomer(self, name: str) -> HospitalFolder:
        """A hospital that nobody has enrolled yet."""
        folder = HospitalFolder.create(self.root / name, name, name.title())
        place_keys(folder.path / "keys", name)
        self.folders[name] = folder
        return folder

    def change(self, *actions: Action) -> Entry:
        """A change proposed by the coordinator to the membership in force."""
        now = self.newest.upcoming
        return self.sign(
            Change(
                v=1, type="change", ledger=now.ledger, author="coordinator", base=now.digest,
                actions=actions,
            )
        )  # fmt: skip

    def approvals(self, change: Entry, names: Iterable[str]) -> list[Entry]:
        """What a person at each hospital hands in."""
        record = change.record
        assert isinstance(record, Change)
        return [
            Approvals(folder.path / "approvals.sqlite").approve(
                record.ledger, folder.institution, change_digest(record), "A. Person",
                open_approver(folder.path / "approver.pem", None),
            )[0]
            for folder in (self.folders[name] for name in names)
        ]  # fmt: skip

    def decided(self, change: Entry) -> list[Entry]:
        """A change with just as many approvals as it needs, the youngest members' first."""
        now = self.newest.upcoming
        return [change, *self.approvals(change, list(now.members)[-now.quorum :])]

    def erasure(self, what: str) -> Entry:
        """A record that says nothing of a round."""
        return self.sign(
            Erasure(
                v=1, type="erasure", ledger=self.newest.ledger, author="coordinator",
                disclosure=digest(what.encode()),
            )
        )  # fmt: skip

    # rounds

    @property
    def job(self) -> Job:
        return ReplicaView(next(iter(self.folders.values()))).jobs()[-1]

    def context(self, round: int = 1) -> RoundContext:
        view = ReplicaView(next(iter(self.folders.values())))
        return round_context(view, self.job, round, self.attempt)

    def request(self, phase: Phase, round: int = 1) -> Request:
        """What an honest coordinator asks, given what it has heard."""
        records, base = self.records, self.newest.header.hash
        request = Request(phase, self.job.job, round, self.attempt, base)
        if phase is Phase.CLOSE:
            lines = tuple(self.api.cosignatures[self.newest.header.height].values())
            return replace(request, entries=data(records.commitments), cosignatures=lines)
        if phase is Phase.REVEAL:
            return replace(request, entries=data(records.closes))
        if phase is Phase.VERIFY:
            return replace(
                request,
                entries=data(records.commitments) + data(records.proofs),
                content=tuple(self.updates[p.record.author] for p in records.proofs),
            )
        return request

    def ask(
        self, phase: Phase, round: int = 1, names: Iterable[str] | None = None
    ) -> dict[str, Reply]:
        """One phase with everybody; what they answer is kept."""
        request = self.request(phase, round)
        replies = {
            name: self.participant(name).answer(request)
            for name in (self.folders if names is None else names)
        }
        entries = [*self.records.all()]
        for name, reply in replies.items():
            entries += [Entry(entry) for entry in reply.entries]
            if phase is Phase.REVEAL and reply.content:
                self.updates[name] = reply.content[0]
                self.api.content["content", digest(reply.content[0])] = reply.content[0]
        self.records = RoundRecords.sort(entries)
        return replies

    def play(self, round: int = 1, until: Phase = Phase.VERIFY) -> None:
        """All phases up to one, honestly."""
        if until is Phase.TRAIN or round > 1:
            self.records, self.updates = RoundRecords(), {}
        for phase in Phase:
            self.ask(phase, round)
            if phase is until:
                break

    def result(self, round: int = 1) -> tuple[list[Entry], Weights]:
        """The round's entries with the result that follows from them, and the new model."""
        context = self.context(round)
        reveals = {
            p.record.author: Reveal(p, self.updates[p.record.author]) for p in self.records.proofs
        }
        examined = examine(context, self.records.commitments, reveals)
        view = ReplicaView(next(iter(self.folders.values())))
        result, model = derive_result(
            context, self.records, examined, view.policy.credits, view.results(self.job.job)
        )
        self.api.content["models", model_hash(model)] = weight_forms.to_bytes(model)
        return [*self.records.all(), self.sign(result)], model

    def play_round(self, round: int = 1) -> Weights:
        """A whole round, its block co-signed by everybody."""
        self.records, self.updates = RoundRecords(), {}
        self.play(round)
        entries, model = self.result(round)
        self.add(entries)
        return model

    def end_job(self, status: str, rounds: int, model: str) -> Entry:
        return self.sign(
            JobEnd.model_validate(
                {
                    "v": 1, "type": "job-end", "ledger": self.newest.ledger,
                    "author": "coordinator", "job": self.job.job, "status": status,
                    "rounds": rounds, "model": model,
                }
            )
        )  # fmt: skip


def data(entries: Iterable[Entry]) -> tuple[bytes, ...]:
    return tuple(entry.data for entry in entries)


def make_genesis(keys: KeyRing, folders: Sequence[HospitalFolder]) -> Genesis:
    return genesis_of(keys, [enrol(folder) for folder in folders])


def genesis_of(
    keys: KeyRing, founders: Iterable[MemberForm], consortium: str = "In memory"
) -> Genesis:
    return Genesis(
        v=1,
        type="genesis",
        author="coordinator",
        consortium=consortium,
        coordinator={role: KeyForm.of(keys[role].public) for role in (Role.RECORD, Role.COSIGN)},
        founders=tuple(founders),
        policy=Policy(
            quorum="floor((n+f)/2)+1",
            credits=CreditPolicy(pool=1000, verdicts=200, learner_bonus=100, window=5),
        ),
        created=CREATED,
    )


def place_keys(folder: Path, name: str) -> None:
    """Keys that come from the name."""
    folder.mkdir(parents=True, mode=0o700)
    for role in Role:
        path = folder / f"{role}.key"
        path.touch(0o600)
        path.write_text(digest(f"{name}/{role}".encode()))


def found(root: Path, hospitals: int = 4, rounds: int = 3, epsilon: str = "2") -> Consortium:
    """Folders, cohorts, budgets, a final genesis, and a final job of some rounds."""
    place_keys(root / "coordinator", "coordinator")
    keys = KeyRing.open(root / "coordinator", (Role.RECORD, Role.COSIGN))
    task = tasks.get(TASK)
    folders: dict[str, HospitalFolder] = {}
    declared: dict[str, int] = {}
    for site in task.sites(None, hospitals):
        folder = HospitalFolder.create(root / site.id, site.id, site.title)
        place_keys(folder.path / "keys", site.id)
        HospitalPolicy("3", "0.00001", (TASK,)).write(folder.path / "policy.json")
        Cohort.add(
            folder, TASK, task.split(site, 1), site.declared_patients, Decimal(3),
            Decimal("0.00001"),
        )  # fmt: skip
        folders[site.id], declared[site.id] = folder, site.declared_patients
    consortium = Consortium(root, keys, folders, Api())
    genesis = make_genesis(keys, list(folders.values()))
    signatures = [record_signature(genesis, keys[Role.RECORD])]
    signatures += [sign_genesis(folder, genesis) for folder in folders.values()]
    block = genesis_block(assemble(genesis, signatures), keys)
    consortium.chain = Chain.begin(block)
    consortium.api.blocks.append(block)
    consortium.cosign_all()
    order = JobOrder(TASK, rounds, Decimal(epsilon), Decimal("0.00001"), 0)
    consortium.add([consortium.sign(make_job(consortium.newest.ledger, "job-1", order, declared))])
    return consortium


def copy_of(template: Consortium, root: Path) -> Consortium:
    """The same consortium in another folder: founding takes longer than copying."""
    shutil.copytree(template.root, root, dirs_exist_ok=True)
    api = Api(
        list(template.api.blocks),
        {height: dict(lines) for height, lines in template.api.cosignatures.items()},
        dict(template.api.content),
    )
    newest = template.newest
    return Consortium(
        root,
        template.keys,
        {name: HospitalFolder(root / name) for name in template.folders},
        api,
        replace(newest),
        {},
        template.records,
        dict(template.updates),
    )
