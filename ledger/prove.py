"""One record, proved to a third party: a small file, verified offline against the genesis.

A C2SP tlog-proof whose ``extra`` holds the record, and what leads from the genesis to the
membership that co-signed the checkpoint (`ledger.membership`). The reader needs the fingerprint,
nothing else.
"""

from dataclasses import dataclass
from typing import Any

from ledger import canonical, merkle
from ledger.block import Header
from ledger.chain import Chain, check_quorum
from ledger.copies import LedgerCopy, final_height
from ledger.entry import Entry
from ledger.errors import CanonicalInvalid, LedgerError, LedgerMissing, ProofInvalid
from ledger.keys import Role
from ledger.membership import Membership
from ledger.note import verify_note
from ledger.records import Genesis, Record
from ledger.tlog_proof import TlogProof


@dataclass(frozen=True)
class Proved:
    """What a proof file proves: that ``record`` stands at ``index`` of this ledger's tree."""

    ledger: str
    pinned: bool
    index: int
    record: Record
    height: int
    size: int
    cosigners: tuple[str, ...]
    quorum: int
    members: int


def prove(copy: LedgerCopy, index: int, final: int | None = None) -> str:
    """The proof file of one entry, under the newest final checkpoint.

    ``final`` is its height, where that is known: finding out costs as much as the proof.

    Raises:
        LedgerMissing: if there is no such entry in a final block.
    """
    height = final_height(copy) if final is None else final
    found = copy.leaf(index) if height >= 0 else None
    if found is None or found[0] > height:
        raise LedgerMissing(
            f"there is no entry {index} in a final block", "see `consortium ledger status`"
        )
    if b'"type":"block"' in found[1]:
        raise LedgerMissing(f"entry {index} is a block's header", "name the index of a record")
    [(block, lines)] = copy.blocks(height, height)
    size = block.checkpoint.size
    extra = canonical.dumps(
        {
            "v": 1,
            "genesis": copy.genesis().data.decode(),
            "changes": [entry.data.decode() for entry in copy.changes(height - 1)],
            "header": canonical.loads(block.header.data()),
            "entry": found[1].decode(),
        }
    )
    hashes = tuple(copy.subtrees(merkle.inclusion_path(index, size)))
    lines = [block.signature, *lines]
    return TlogProof(index, hashes, block.checkpoint.text(), tuple(lines), extra).text()


def verify_proof(text: str, pinned: str | None = None) -> Proved:
    """Verifies a proof file.

    Raises:
        GenesisMismatch: if ``pinned`` is another ledger's id.
        LedgerError: naming what does not hold.
    """
    proof = TlogProof.parse(text)
    genesis, changes, header, entry = _extra(proof.extra or b"")
    memberships = Chain.memberships_of(genesis, changes, pinned)
    in_force = memberships.get(header.membership)
    if in_force is None or header.ledger != in_force.ledger:
        raise _invalid("the header names a membership that the changes do not give")
    checkpoint = proof.verify_entry(entry.data)
    named = (checkpoint.block_hash.hex(), checkpoint.height, checkpoint.size)
    if named != (header.hash, header.height, header.size + 1):
        raise _invalid("the checkpoint does not name the header")
    signature, *cosignatures = proof.signatures
    key = in_force.coordinator_key(Role.COSIGN)
    verify_note(signature, f"medpole/{in_force.ledger}", key, checkpoint.text())
    if checkpoint.origin != f"medpole/{in_force.ledger}" or cosignatures != sorted(cosignatures):
        raise _invalid("the checkpoint is another ledger's, or its cosignatures are not sorted")
    cosigners = check_quorum(in_force, checkpoint, cosignatures)
    _check_author(entry, genesis, list(memberships.values()))
    return Proved(
        in_force.ledger, pinned is not None, proof.index, entry.record, checkpoint.height,
        checkpoint.size, tuple(cosigners), in_force.quorum, len(in_force.members),
    )  # fmt: skip


def _extra(data: bytes) -> tuple[Entry, list[Entry], Header, Entry]:
    try:
        content: Any = canonical.loads(data)
        if type(content["v"]) is not int or content["v"] != 1 or len(content) != 5:
            raise _invalid("its extra data are of another version")
        return (
            Entry(content["genesis"].encode()),
            [Entry(entry.encode()) for entry in content["changes"]],
            Header.parse(canonical.dumps(content["header"])),
            Entry(content["entry"].encode()),
        )
    except (CanonicalInvalid, TypeError, KeyError, AttributeError, UnicodeError):
        raise _invalid("its extra data are malformed") from None


def _check_author(entry: Entry, genesis: Entry, memberships: list[Membership]) -> None:
    """Signed by the key that its author had, at some time up to the checkpoint."""
    if isinstance(entry.record, Genesis):
        if entry.data != genesis.data:
            raise _invalid("the entry is another genesis")
        return
    for number, membership in enumerate(memberships, 1):
        try:
            membership.check_entry(entry)
            return
        except LedgerError:
            if number == len(memberships):
                raise


def _invalid(what: str) -> ProofInvalid:
    return ProofInvalid(what, "ask for the proof again; if it stays wrong, keep it as evidence")
