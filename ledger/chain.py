"""The rules by which one block follows another: what every reader of a ledger checks.

`Chain` is a state machine without I/O. `Chain.begin` takes the genesis block, `follow` takes the
next block, `certify` checks that a quorum of the members in force co-signed the newest one. The
coordinator's store, every witness and the auditor's verification all use this one class.
What a round's records must say beyond form, authorship and order is not its concern.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256

from ledger import canonical
from ledger.block import NO_PARENT, Block, Header, certificate_hash, origin, policy_hash
from ledger.entry import Entry
from ledger.errors import (
    BlockInvalid,
    GenesisMismatch,
    LedgerError,
    QuorumMissing,
    SignatureInvalid,
)
from ledger.keys import PublicKey, Role
from ledger.merkle import Frontier
from ledger.note import Checkpoint, SignatureLine, verify_cosignature, verify_note
from ledger.quorum import quorum
from ledger.records import COORDINATOR, Genesis, LedgerRecord, MemberForm, Policy, Record

NO_CERTIFICATE = certificate_hash(())


def ledger_id(genesis: Genesis) -> str:
    """The ledger's id, and the fingerprint to pin: the digest of its genesis record."""
    body = canonical.dumps(genesis.body())
    return sha256(b"medpole/genesis/v1\n" + body).hexdigest()


@dataclass
class Chain:
    """What a reader knows after the newest block that it accepted."""

    ledger: str
    coordinator: dict[Role, PublicKey]
    members: dict[str, MemberForm]
    policy: Policy
    header: Header
    checkpoint: Checkpoint
    frontier: Frontier = field(repr=False)

    @staticmethod
    def begin(block: Block, pinned: str | None = None) -> "Chain":
        """Starts from the genesis block.

        Raises:
            GenesisMismatch: if ``pinned`` is another ledger's id.
            LedgerError: if the block breaks a rule.
        """
        genesis = block.entries[0].record if len(block.entries) == 1 else None
        if not isinstance(genesis, Genesis):
            raise _invalid("block 0 does not hold exactly the genesis record")
        ledger = ledger_id(genesis)
        if pinned is not None and pinned != ledger:
            raise GenesisMismatch(
                f"this ledger is {ledger[:16]}…, the pinned genesis is {pinned[:16]}…",
                "compare the fingerprint with the one your institution signed",
            )
        coordinator = {
            role: PublicKey(role, bytes.fromhex(form.public), form.alg)
            for role, form in genesis.coordinator.items()
        }
        if not {Role.RECORD, Role.COSIGN} <= set(coordinator):
            raise _invalid("the genesis lacks a key of the coordinator")
        members = {member.id: member for member in genesis.founders}
        if len(members) != len(genesis.founders) or COORDINATOR in members:
            raise _invalid("the genesis names an institution twice")
        forms = [form for member in genesis.founders for form in member.keys.values()]
        publics = [form.public for form in (*forms, *genesis.coordinator.values())]
        if len(set(publics)) != len(publics):
            # A cosignature does not cover its signer's name: one key must not count twice.
            raise _invalid("the genesis names one key twice")
        signers = [coordinator[Role.RECORD]]
        signers += [member.key(Role.RECORD) for member in genesis.founders]
        block.entries[0].verify(signers)
        empty = Header(ledger, 0, -1, NO_PARENT, 0, 0, 0, "", "", "", genesis.created)
        chain = Chain(
            ledger, coordinator, members, genesis.policy, empty,
            Checkpoint(origin(ledger), 0, b"", 0, 0, b""), Frontier(),
        )  # fmt: skip
        chain._accept(block)
        return chain

    def follow(self, block: Block) -> None:
        """Accepts the next block; on an error nothing changes.

        Raises:
            LedgerError: naming the first rule that the block breaks.
        """
        for position, entry in enumerate(block.entries):
            try:
                self.check_entry(entry)
            except LedgerError as error:
                error.what = f"entry {block.header.first + position}: {error.what}"
                raise
        self._certificate(block)
        self._accept(block)

    def check_entry(self, entry: Entry) -> None:
        """Checks one entry's form, ledger, author and signature.

        Raises:
            LedgerError: if one does not hold.
        """
        record = entry.record
        if not isinstance(record, LedgerRecord):
            raise _invalid("a second genesis")
        if record.ledger != self.ledger:
            raise _invalid("a record of another ledger")
        entry.verify([self._author_key(record)])

    def _author_key(self, record: Record) -> PublicKey:
        if record.author == COORDINATOR:
            return self.coordinator[Role.RECORD]
        member = self.members.get(record.author)
        if member is None:
            raise SignatureInvalid(
                f"{record.author} is not a member",
                "only the founders in the genesis sign records of this ledger",
            )
        return member.key(Role.RECORD)

    def _certificate(self, block: Block) -> None:
        if list(block.parent_cert) != sorted(block.parent_cert):
            raise _invalid("the parent's certificate is not sorted")
        check_quorum(self.members, self.checkpoint, block.parent_cert)

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
            policy=policy_hash(self.policy),
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
        checkpoint = Checkpoint(
            origin(self.ledger), frontier.size, frontier.root(), header.epoch, header.height,
            bytes.fromhex(header.hash),
        )  # fmt: skip
        if block.checkpoint != checkpoint:
            raise _invalid("the checkpoint is not this block's tree head")
        verify_note(
            block.signature, checkpoint.origin, self.coordinator[Role.COSIGN], checkpoint.text()
        )
        self.header, self.checkpoint, self.frontier = header, checkpoint, frontier

    def certify(self, lines: Iterable[str]) -> list[str]:
        """Checks that ``lines`` make the newest block final; returns who co-signed, sorted.

        Raises:
            QuorumMissing: if too few members of the set in force did.
            LedgerError: if a line is malformed, repeated, unknown or wrong.
        """
        return check_quorum(self.members, self.checkpoint, lines)


def check_quorum(
    members: dict[str, MemberForm], checkpoint: Checkpoint, lines: Iterable[str]
) -> list[str]:
    """Checks that a quorum of ``members`` co-signed ``checkpoint``; returns who, sorted.

    The coordinator's signature never counts.

    Raises:
        QuorumMissing: if too few did.
        LedgerError: if a line is malformed, repeated, unknown or wrong.
    """
    names: list[str] = []
    for line in lines:
        name = SignatureLine.parse(line).name
        if name not in members or name in names:
            what = "repeated" if name in names else "by no member"
            raise SignatureInvalid(f"a cosignature is {what}", "remove that line")
        verify_cosignature(line, name, members[name].key(Role.COSIGN), checkpoint.text())
        names.append(name)
    needed = quorum(len(members))
    if len(names) < needed:
        raise QuorumMissing(
            f"block {checkpoint.height} is co-signed by {len(names)} of {len(members)} "
            f"institutions; {needed} are needed",
            "wait for the missing institutions' agents to co-sign",
        )
    return sorted(names)


def _invalid(what: str) -> BlockInvalid:
    return BlockInvalid(what, "ask for the original block; if it stays wrong, keep it as evidence")
