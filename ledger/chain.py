"""The rules by which one block follows another: what every reader of a ledger checks.

`Chain` is a state machine without I/O. `Chain.begin` takes the genesis block, `follow` takes the
next block, `certify` checks that a quorum of the members in force co-signed the newest one;
`ledger.membership` holds how those change. The
coordinator's store, every witness and the auditor's verification all use this one class.
What a round's records must say beyond form, authorship and order is not its concern.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256

from ledger import canonical
from ledger.block import NO_PARENT, Block, Header, certificate_hash, origin
from ledger.entry import Entry, naming_type
from ledger.errors import (
    BlockInvalid,
    GenesisMismatch,
    LedgerError,
    QuorumMissing,
    SignatureInvalid,
)
from ledger.keys import Role
from ledger.membership import Membership
from ledger.merkle import Frontier
from ledger.note import Checkpoint, SignatureLine, verify_cosignature, verify_note
from ledger.records import Approval, Change, Genesis, MemberForm, Policy

NO_CERTIFICATE = certificate_hash(())
_MEMBERSHIP_TYPES = ("change", "approval")


def ledger_id(genesis: Genesis) -> str:
    """The ledger's id, and the fingerprint to pin: the digest of its genesis record."""
    body = canonical.dumps(genesis.body())
    return sha256(b"medpole/genesis/v1\n" + body).hexdigest()


@dataclass
class Chain:
    """What a reader knows after the newest block that it accepted.

    ``membership`` is in force at that block: a quorum of it makes the block final. ``upcoming`` is
    in force from the next block on. ``memberships`` holds all that ever were, by digest.
    """

    ledger: str
    membership: Membership
    upcoming: Membership
    memberships: dict[str, Membership] = field(repr=False)
    header: Header
    checkpoint: Checkpoint
    frontier: Frontier = field(repr=False)
    _certified: tuple[str, ...] | None = field(default=None, repr=False, compare=False)

    @staticmethod
    def begin(block: Block, pinned: str | None = None) -> "Chain":
        """Starts from the genesis block.

        Raises:
            GenesisMismatch: if ``pinned`` is another ledger's id.
            LedgerError: if the block breaks a rule.
        """
        chain = _before(block.entries[0] if len(block.entries) == 1 else None, pinned)
        chain._accept(block)
        return chain

    @staticmethod
    def resume(
        genesis: Entry,
        changes: Iterable[Entry],
        header: Header,
        frontier: Frontier,
        pinned: str | None = None,
    ) -> "Chain":
        """Goes on from the block with ``header``, without the blocks before it.

        ``changes`` are all changes and approvals up to that block, in order; ``frontier`` is the
        tree with that header in it. Both are verified: approvals carry signatures, and the next
        block's root and membership cannot follow from others.

        Raises:
            GenesisMismatch, LedgerError: if they do not fit together.
        """
        chain = _before(genesis, pinned)
        chain._replay(changes)
        # The last change took effect with that block, or before it.
        in_force = chain.memberships.get(header.membership)
        newest = list(chain.memberships)[-2:]
        if header.membership not in newest or in_force is None or header.ledger != chain.ledger:
            raise _invalid("the header names a membership that the changes do not give")
        if frontier.size != header.size + 1:
            raise _invalid("the tree does not end with the header")
        chain.membership, chain.header, chain.frontier = in_force, header, frontier
        chain.checkpoint = _checkpoint(header, frontier)
        return chain

    @staticmethod
    def memberships_of(
        genesis: Entry, changes: Iterable[Entry], pinned: str | None = None
    ) -> Mapping[str, Membership]:
        """All memberships that a genesis, changes and approvals give, by digest.

        Raises:
            GenesisMismatch, LedgerError: as for `resume`.
        """
        chain = _before(genesis, pinned)
        chain._replay(changes)
        return chain.memberships

    def _replay(self, changes: Iterable[Entry]) -> None:
        for entry in changes:
            if not isinstance(entry.record, Change | Approval):
                raise _invalid(f"a {entry.record.type} is no change of the membership")
            self.upcoming.check_entry(entry)
            self._go_on(self.upcoming.after([entry.record]))

    @property
    def members(self) -> Mapping[str, MemberForm]:
        """Who signs, and takes part, from the next block on."""
        return self.upcoming.members

    @property
    def policy(self) -> Policy:
        """The policy from the next block on."""
        return self.upcoming.policy

    def in_force_at(self, header: Header) -> Membership:
        """The membership in force at an accepted block: a quorum of it made the block final."""
        return self.memberships[header.membership]

    def follow(self, block: Block, *, entries_checked: bool = False) -> None:
        """Accepts the next block; on an error nothing changes.

        With ``entries_checked`` each entry was given to the upcoming membership's `check_entry`.

        Raises:
            LedgerError: naming the first rule that the block breaks.
        """
        for position, entry in enumerate(() if entries_checked else block.entries):
            try:
                self.upcoming.check_entry(entry)
            except LedgerError as error:
                error.what = f"entry {block.header.first + position}: {error.what}"
                raise
        if list(block.parent_cert) != sorted(block.parent_cert):
            raise _invalid("the parent's certificate is not sorted")
        if tuple(block.parent_cert) != self._certified:
            self.certify(block.parent_cert)
        self._accept(block)
        self._certified = None

    def _accept(self, block: Block) -> None:
        header, parent = block.header, self.header
        frontier = self.frontier.copy()
        for entry in block.entries:
            frontier.append(entry.leaf)
        genesis = parent.height < 0
        expected = Header(
            ledger=self.ledger,
            epoch=parent.epoch,
            height=parent.height + 1,
            prev=NO_PARENT if genesis else parent.hash,
            first=self.frontier.size,
            count=len(block.entries),
            size=frontier.size,
            root=frontier.root().hex(),
            membership=self.upcoming.digest,
            parent_cert=certificate_hash(block.parent_cert),
            time=header.time,
        )
        for name, value in expected.__dict__.items():
            if getattr(header, name) != value:
                raise _invalid(f"the header's {name} does not follow from the blocks before")
        if header.time < parent.time:
            raise _invalid("the header's time lies before its parent's")
        if genesis and block.parent_cert:
            raise _invalid("the genesis block has a parent's certificate")
        frontier.append(header.leaf)
        checkpoint = _checkpoint(header, frontier)
        if block.checkpoint != checkpoint:
            raise _invalid("the checkpoint is not this block's tree head")
        key = self.upcoming.coordinator_key(Role.COSIGN)
        verify_note(block.signature, checkpoint.origin, key, checkpoint.text())
        changes = naming_type(block.entries, *_MEMBERSHIP_TYPES)
        after = self.upcoming.after([entry.record for entry in changes])
        self.header, self.checkpoint, self.frontier = header, checkpoint, frontier
        self.membership = self.upcoming
        self._go_on(after)

    def _go_on(self, upcoming: Membership) -> None:
        self.upcoming = upcoming
        # A new dict: whoever holds a copy of this chain keeps theirs.
        self.memberships = {**self.memberships, upcoming.digest: upcoming}

    def certify(self, lines: Iterable[str]) -> list[str]:
        """Checks that ``lines`` make the newest block final; returns who co-signed, sorted.

        Raises:
            QuorumMissing: if too few members of the set in force did.
            LedgerError: if a line is malformed, repeated, unknown or wrong.
        """
        lines = tuple(lines)
        signers = check_quorum(self.membership, self.checkpoint, lines)
        self._certified = lines  # most often the next block's certificate: no need to do it twice
        return signers


def _before(genesis: Entry | None, pinned: str | None) -> Chain:
    """The state before the genesis block, its signatures checked."""
    record = genesis.record if genesis else None
    if genesis is None or not isinstance(record, Genesis):
        raise _invalid("block 0 does not hold exactly the genesis record")
    ledger = ledger_id(record)
    if pinned is not None and pinned != ledger:
        raise GenesisMismatch(
            f"this ledger is {ledger[:16]}…, the pinned genesis is {pinned[:16]}…",
            "compare the fingerprint with the one your institution signed",
        )
    membership = Membership.of_genesis(record, ledger)
    signers = [membership.coordinator_key(Role.RECORD)]
    genesis.verify(signers + [member.key(Role.RECORD) for member in record.founders])
    empty = Header(ledger, 0, -1, NO_PARENT, 0, 0, 0, "", "", "", record.created)
    return Chain(
        ledger, membership, membership, {membership.digest: membership}, empty,
        Checkpoint(origin(ledger), 0, b"", 0, 0, b""), Frontier(),
    )  # fmt: skip


def _checkpoint(header: Header, frontier: Frontier) -> Checkpoint:
    return Checkpoint(
        origin(header.ledger), frontier.size, frontier.root(), header.epoch, header.height,
        bytes.fromhex(header.hash),
    )  # fmt: skip


def check_quorum(membership: Membership, checkpoint: Checkpoint, lines: Iterable[str]) -> list[str]:
    """Checks that a quorum of the members co-signed ``checkpoint``; returns who, sorted.

    The coordinator's signature never counts.

    Raises:
        QuorumMissing: if too few did.
        LedgerError: if a line is malformed, repeated, unknown or wrong.
    """
    names: list[str] = []
    for line in lines:
        name = SignatureLine.parse(line).name
        if name not in membership.members or name in names:
            what = "repeated" if name in names else "by no member"
            raise SignatureInvalid(f"a cosignature is {what}", "remove that line")
        key = membership.members[name].key(Role.COSIGN)
        verify_cosignature(line, name, key, checkpoint.text())
        names.append(name)
    if len(names) < membership.quorum:
        raise QuorumMissing(
            f"block {checkpoint.height} is co-signed by {len(names)} of "
            f"{len(membership.members)} institutions; {membership.quorum} are needed",
            "wait for the missing institutions' agents to co-sign",
        )
    return sorted(names)


def _invalid(what: str) -> BlockInvalid:
    return BlockInvalid(what, "ask for the original block; if it stays wrong, keep it as evidence")
