"""The hospital's witness: fetches each proposed block, derives it anew, and only then co-signs.

It signs a block when it follows from the one before, when every record in it re-derives (round
rules, model hash, medians, credits), when no record in this hospital's name differs from what the
hospital signed, and when no other block at that height was ever signed. What it signs is stored
before it is sent. It never signs on anybody's word, the coordinator's included. A block of a time
when this hospital was no member is followed, once a quorum made it final, and not signed; so is one
that tries a round again in which this hospital has revealed.

At every step it compares: the newest head with its own (a consistency proof), the other members'
signed heads with its own blocks, and the cosignatures in its own name with those that it stored. A
second history is kept as evidence; a cosignature that is not its own stops it, for that means that
a clone, or a later self of which a backup knows nothing, signs with the same key. It then signs the
newest block that it had signed once more, at another time: the other one finds a line that it
never stored, and stops too.
"""

import time
from collections.abc import Iterable
from dataclasses import replace
from functools import cache

from consortium.enrolment import check_member
from consortium.rounds.replay import Checked, check_block
from hospital_agent.approvals import Approvals
from hospital_agent.enrolment import read_member
from hospital_agent.errors import (
    AgentError,
    ClocksDiffer,
    EnrolmentMissing,
    ForkRefused,
    GenesisRefused,
    MemberStopped,
    OwnRecordChanged,
    RevealDropped,
)
from hospital_agent.folder import HospitalFolder
from hospital_agent.ledger_api import LedgerApi
from hospital_agent.releases import Releases
from hospital_agent.rounds import RoundMemory
from hospital_agent.view import ReplicaView
from ledger.block import Block, origin
from ledger.chain import Chain, check_quorum
from ledger.errors import (
    CosignatureConflict,
    LedgerError,
    NoteInvalid,
    ProofInvalid,
    QuorumMissing,
)
from ledger.keys import AGENT_ROLES, Role
from ledger.membership import Membership
from ledger.merkle import verify_consistency
from ledger.note import (
    Checkpoint,
    SignatureLine,
    SignedHead,
    cosign,
    verify_cosignature,
    verify_note,
)
from ledger.records import (
    Approval,
    Change,
    Close,
    Commitment,
    Enrol,
    Erasure,
    Evaluation,
    MemberForm,
    Proof,
    Refusal,
    Result,
    Rotate,
    Verdict,
)

CLOCK_TOLERANCE_S = 300
_KEYS_ROTATED = (
    "stop every agent with this key, then rotate it: `hospital-agent keys rotate`, approved by "
    "the members"
)


class Witness:
    """One hospital's witness over one consortium's API."""

    def __init__(self, folder: HospitalFolder, api: LedgerApi) -> None:
        self._folder = folder
        self._api = api
        self._memory = RoundMemory(folder.path / "rounds.sqlite")
        self._approvals = Approvals(folder.path / "approvals.sqlite")
        self._releases = Releases(folder.path / "releases.sqlite")
        self._view = ReplicaView(folder, api.fetch)
        self._replica = self._view.replica
        # By this process: repeats are harmless, and cost time.
        self._released = -1
        self._taken = -1  # the API has this hospital's cosignature
        self._warned = False

    def step(self) -> int:
        """Follows the ledger to its newest block, co-signing each; returns the height reached.

        A block that this hospital does not sign, and that is not final yet, is waited for. With a
        key that must not sign any more it follows what others made final, and signs nothing.

        Raises:
            EnrolmentMissing: if the newest final block does not hold this hospital's enrolment.
            MemberStopped: if this hospital's key must not sign any more.
            LedgerError, ConsortiumError, AgentError: if a block does not hold; it is not signed.
        """
        try:
            return self._follow()
        except MemberStopped:
            self._warn()
            raise

    def _follow(self) -> int:
        self._take_keys()
        newest = self._api.newest()
        known = self._replica.height()
        self._check_extends(newest, known)
        first = self._first_to_fetch(newest, known)
        taken, self._taken = first - 1, -1  # if this step fails, the next one looks again
        seen: tuple[int, list[str]] = (-1, [])
        for height in range(first, newest.height + 1):
            block, lines = self._api.block(height)
            self._check_own_lines(block.checkpoint, lines)
            if height:
                parent = self._replica.shell(height - 1).checkpoint
                self._check_own_lines(parent, block.parent_cert)
            # Of a block that is known already, the stored bytes are sent once more.
            try:
                line = self._replica.cosignature(block.header)
            except ForkRefused as refused:
                self._keep(block.checkpoint, (block.signature,), refused.what)
                raise
            if self._replica.height() < height:
                try:
                    line = self._accept(block, lines)
                except QuorumMissing:
                    break
            if height != self._released:
                self._release(height)
                self._released = height
            if line is not None and not self._stopped():
                self._send(height, line)
                taken = height
                lines = [*lines, line]
            seen = height, lines
        self._keep_certificate(seen)
        self._compare_heads()
        self._take_keys()
        self._check_enrolled()
        self._taken = taken
        if stopped := self._stopped():
            raise MemberStopped(stopped, _KEYS_ROTATED)
        return self._replica.height()

    def _first_to_fetch(self, newest: Checkpoint, known: int) -> int:
        """The block after the one that the API has this hospital's cosignature on; else that one.

        If the API's is another at that height, it is fetched again: for evidence.
        """
        if not 0 <= known == self._taken:
            return max(known, 0)
        if newest.height == known and newest != self._view.refresh().checkpoint:
            return known
        return known + 1

    # one block

    def _accept(self, block: Block, lines: list[str]) -> str | None:
        """Stores a block that holds, with this hospital's cosignature where it is a member."""
        if self._replica.height() < 0:
            chain, checked = self._begin(block), Checked()
        else:
            chain = replace(self._view.refresh())
            chain.follow(block)
            checked = check_block(self._view, block.entries)
            self._check_own_records(block)
        if block.header.time > time.time() + CLOCK_TOLERANCE_S:
            raise ClocksDiffer(
                "the block's time lies in the future",
                "set both clocks (NTP); a block is never signed ahead of its time",
            )
        line = None
        dropped = self._reveal_dropped(block)
        own = chain.membership.members.get(self._folder.institution)
        mine = own is not None and self._has_keys_of(own) and not self._stopped()
        if mine and not dropped:
            text = chain.checkpoint.text()
            key = self._folder.keys[Role.COSIGN]
            line = cosign(self._folder.institution, key, text, int(time.time()))
        else:
            try:
                check_quorum(chain.membership, chain.checkpoint, lines)
            except QuorumMissing:
                if not dropped:
                    raise
                raise RevealDropped(
                    "a round in which this hospital has revealed is said to have had too few "
                    "closes, and to be tried again",
                    "tell the other members: the coordinator lost the closed set, or hides it",
                ) from None
        if checked.model is not None:
            self._folder.models.put(checked.model)
        return self._replica.accept(block, line, checked, chain.frontier)

    def _begin(self, block: Block) -> Chain:
        chain = Chain.begin(block, self._folder.ledger)
        for member in chain.members.values():
            check_member(member)
        own = chain.members.get(self._folder.institution)
        mine = own is not None and self._has_keys_of(own)
        if not mine and (own is not None or self._folder.ledger is None):
            raise GenesisRefused(
                "the genesis does not hold this hospital with its own keys",
                "compare the fingerprints with the coordinator; do not join this ledger",
            )
        self._folder.pin_ledger(chain.ledger)
        return chain

    def _check_enrolled(self) -> None:
        """A head without this hospital's own enrolment is none that it accepts as the newest."""
        if self._replica.height() < 0:
            return
        if self._folder.institution not in self._view.refresh().upcoming.used_ids:
            raise EnrolmentMissing(
                "the newest final block does not hold this hospital's enrolment",
                "wait for the members' approvals; if they have decided, tell them that the "
                "coordinator shows an old ledger",
            )

    def _has_keys_of(self, form: MemberForm) -> bool:
        keys = self._folder.keys
        return all(form.key(role) == keys[role].public for role in AGENT_ROLES)

    def _check_own_records(self, block: Block) -> None:
        """Nothing in this hospital's name but what it signed."""
        for entry in block.entries:
            record = entry.record
            if isinstance(record, Change):
                self._check_own_keys(record)
            if record.author != self._folder.institution:
                continue
            if isinstance(record, Change | Approval | Erasure):
                own: bytes | None = entry.data if self._approvals.holds(entry) else None
            elif isinstance(record, Evaluation):
                own = entry.data if self._releases.holds(entry) else None
            elif isinstance(record, Commitment):
                trained = self._memory.trained((record.job, record.round, record.attempt))
                own = trained.commitment if trained else None
            elif isinstance(record, Close | Proof | Verdict | Refusal):
                place = (record.job, record.round, record.attempt)
                signed = self._memory.signed(place, record.type)
                own = signed[1] if signed else None
            else:
                continue
            if own != entry.data:
                raise _not_ours(f"a {record.type} in this hospital's name is not the one it signed")

    def _reveal_dropped(self, block: Block) -> bool:
        """Whether it tries a round again in which this hospital has revealed."""
        results = [r for entry in block.entries if isinstance(r := entry.record, Result)]
        places = [(r.job, r.round, r.attempt) for r in results if r.again]
        return any(self._memory.signed(place, "proof") for place in places)

    def _check_own_keys(self, change: Change) -> None:
        for action in change.actions:
            if (
                isinstance(action, Enrol | Rotate)
                and action.member.id == self._folder.institution
                and action.member not in self._own_forms()
            ):
                raise _not_ours("a change gives this hospital keys that it did not make")

    def _own_forms(self) -> list[MemberForm]:
        paths = [self._folder.path / name for name in ("member.json", "member.next.json")]
        return [read_member(path) for path in paths if path.exists()]

    def _release(self, height: int) -> None:
        """Gives back what a job that is over had reserved and not spent; repeats are harmless."""
        for job in self._replica.ended_at(height):  # verified, whatever the API shows now
            budget = self._folder.budget
            for cohort in budget.cohorts():
                if any(held.job == job for held in budget.status(cohort).jobs):
                    budget.release(cohort, job)

    def _send(self, height: int, line: str) -> None:
        try:
            self._api.send_cosignature(height, line)
        except CosignatureConflict:
            block, lines = self._api.block(height)
            self._check_own_lines(block.checkpoint, lines)  # stops, if there is such a line
            raise

    # this hospital's own keys

    def _take_keys(self) -> None:
        """New keys come into force with the first block after the change that gives them."""
        following = self._folder.path / "member.next.json"
        if self._replica.height() < 0 or not following.exists():
            return
        chain = self._view.refresh()
        final = bool(self._replica.certificate(chain.header.height))
        in_force = chain.upcoming if final else chain.membership
        if in_force.members.get(self._folder.institution) == read_member(following):
            self._folder.take_next_keys()

    def _check_own_lines(self, checkpoint: Checkpoint, lines: Iterable[str]) -> None:
        """Every cosignature in this hospital's name, under its present key, is one it stored."""
        name, key = self._folder.institution, self._folder.keys[Role.COSIGN].public
        if checkpoint.origin != origin(self._folder.ledger or "") or self._stopped():
            return  # the same key may stand on another ledger; a stopped one is stopped
        for line in lines:
            if _signer(line) != name or line == self._replica.own_line(checkpoint.height):
                continue
            try:
                verify_cosignature(line, name, key, checkpoint.text())
            except LedgerError:
                continue  # not by this key: by one before it, or by nobody
            what = (
                f"a cosignature on block {checkpoint.height} by this hospital's key and not by it"
            )
            self._keep(checkpoint, (line,), what, by_own_key=True)
            self._replica.stop(key.key_id, what)
            raise MemberStopped(what, _KEYS_ROTATED)

    def _warn(self) -> None:
        """Shows whoever else holds this key that there are two of them: see the module."""
        name, key = self._folder.institution, self._folder.keys[Role.COSIGN]
        lines = {} if self._warned else self._replica.own_lines()
        if not lines:
            return
        height = max(lines)
        text = self._replica.shell(height).checkpoint.text()
        try:
            signed = verify_cosignature(lines[height], name, key.public, text)
            now = max(int(time.time()), signed + 1)
            self._api.send_cosignature(height, cosign(name, key, text, now))
        except LedgerError:  # it is kept and shown, or that block was signed with the key before
            self._warned = True
        except AgentError:  # not taken, or nobody there: the next step tries again
            return

    def _stopped(self) -> str | None:
        return self._replica.stopped(self._folder.keys[Role.COSIGN].public.key_id)

    # other heads

    def _check_extends(self, newest: Checkpoint, known: int) -> None:
        if newest.height < known:
            raise ForkRefused(
                f"the ledger ends at height {newest.height}, this hospital holds {known}",
                "the coordinator lost blocks, or hides them: compare with the other institutions",
            )
        if known < 0 or newest.height <= known + 1:
            return  # following one block shows as much
        own = self._view.refresh().checkpoint
        proof = self._api.consistency_proof(own.size, newest.size)
        try:
            verify_consistency(own.size, own.root, newest.size, newest.root, proof)
        except ProofInvalid:
            # No evidence: a proof is nobody's signature. The blocks will show what they are.
            raise ForkRefused(
                "the newest head is not shown to extend the blocks that this hospital holds",
                "compare with the other institutions: `hospital-agent ledger compare`",
            ) from None

    def _compare_heads(self) -> None:
        """Keeps what contradicts; a liar's second head does not stop the honest."""
        chain, heads = self._view.refresh(), self._api.heads()
        held = cache(lambda height: self._replica.shell(height).checkpoint)
        for institution, head in heads.newest:
            height = head.checkpoint.height
            self._check_own_lines(head.checkpoint, head.lines)
            if 0 <= height <= chain.header.height and head.checkpoint != held(height):
                signed = institution in map(_signer, head.lines)
                who = institution if signed else "the coordinator"
                self._keep(
                    head.checkpoint, head.lines, f"{who} signed another block at height {height}"
                )
        for height, line in heads.conflicts:
            if 0 <= height <= chain.header.height:
                self._check_own_lines(held(height), [line])

    def _keep_certificate(self, seen: tuple[int, list[str]]) -> None:
        """Keeps what makes the newest block final; ``seen``: the last one looked at, its lines."""
        height = self._replica.height()
        if height < 0 or self._replica.certificate(height):
            return
        chain, (at, lines) = self._view.refresh(), seen
        if at != height:
            _, lines = self._api.block(height)
            self._check_own_lines(chain.checkpoint, lines)
        lines = sorted(set(lines))
        try:
            check_quorum(chain.membership, chain.checkpoint, lines)
        except LedgerError:
            return  # not final yet
        self._replica.keep_certificate(height, lines)

    def _keep(
        self, checkpoint: Checkpoint, lines: tuple[str, ...], what: str, *, by_own_key: bool = False
    ) -> None:
        """Evidence is what somebody of this ledger really signed, and what is not held here."""
        if self._replica.height() < 0:
            return
        chain, membership, own = self._view.refresh(), None, None
        if 0 <= checkpoint.height <= chain.header.height:
            shell = self._replica.shell(checkpoint.height)
            membership, own = chain.in_force_at(shell.header), shell.checkpoint
        head = SignedHead(checkpoint, lines)
        if (by_own_key or checkpoint != own) and _is_signed(head, membership or chain.upcoming):
            self._replica.keep_evidence(checkpoint.height, head, what)


def _signer(line: str) -> str | None:
    """Whose signature line it claims to be; None for what is no such line."""
    try:
        return SignatureLine.parse(line).name
    except NoteInvalid:
        return None


def _is_signed(head: SignedHead, membership: Membership) -> bool:
    """Whether all lines are signatures by the coordinator or by members."""
    text = head.checkpoint.text()
    try:
        for line in head.lines:
            name = SignatureLine.parse(line).name
            if name == f"medpole/{membership.ledger}":
                verify_note(line, name, membership.coordinator_key(Role.COSIGN), text)
            elif name in membership.members:
                key = membership.members[name].key(Role.COSIGN)
                verify_cosignature(line, name, key, text)
            else:
                return False
    except LedgerError:
        return False
    return bool(head.lines)


def _not_ours(what: str) -> OwnRecordChanged:
    return OwnRecordChanged(
        what, "somebody else holds its record key: stop the agent and tell the other members"
    )
