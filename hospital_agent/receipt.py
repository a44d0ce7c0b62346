"""What a hospital shows others from its own copy: a signed head, its contributions, its credits."""

from dataclasses import dataclass
from pathlib import Path

from hospital_agent.errors import ForkRefused, ReceiptMissing
from hospital_agent.replica_copy import ReplicaCopy
from hospital_agent.view import ReplicaView
from ledger.copies import final_height
from ledger.keys import Role
from ledger.note import SignatureLine, SignedHead, verify_cosignature, verify_note
from ledger.prove import prove
from ledger.records import Proof, Result


@dataclass(frozen=True)
class Receipt:
    """Where the proofs lie, and what they say."""

    folder: str
    ledger: str
    institution: str
    job: str
    round: int
    code: str
    credits: int


def signed_head(copy: ReplicaCopy, height: int | None = None) -> SignedHead:
    """A final head with the cosignatures known here (default: the newest).

    Raises:
        ReceiptMissing: if there is no final block at that height here.
    """
    final = final_height(copy)
    at = final if height is None else height
    if not 0 <= at <= final:
        raise ReceiptMissing(
            f"no final block at height {at} is known here", "let the witness catch up"
        )
    [(block, lines)] = copy.blocks(at, at)
    return SignedHead(block.checkpoint, (block.signature, *lines))


def compare_head(view: ReplicaView, path: Path) -> int:
    """Checks that another's signed head is one of this copy's; returns its height.

    Raises:
        NoteInvalid, SignatureInvalid: if it is no head that members of this ledger signed.
        ReceiptMissing: if this copy does not reach it.
        ForkRefused: if it names another block; it is kept as evidence.
    """
    head = SignedHead.parse(path.read_text())
    chain = view.refresh()
    height = head.checkpoint.height
    if height > chain.header.height:
        raise ReceiptMissing(
            f"this copy ends at height {chain.header.height}, the head is of {height}",
            "let the witness catch up, then compare again",
        )
    block = view.replica.block(height)
    membership = chain.in_force_at(block.header)
    for line in head.lines:
        name = SignatureLine.parse(line).name
        if name in membership.members:
            key = membership.members[name].key(Role.COSIGN)
            verify_cosignature(line, name, key, head.checkpoint.text())
        else:
            key = membership.coordinator_key(Role.COSIGN)
            verify_note(line, block.checkpoint.origin, key, head.checkpoint.text())
    if head.checkpoint != block.checkpoint:
        view.replica.keep_evidence(height, head, "a head that another institution showed")
        raise ForkRefused(
            f"the head names another block at height {height}: the ledger was forked",
            "it is kept: see `hospital-agent ledger evidence`; tell the other institutions",
        )
    return height


def write_receipt(copy: ReplicaCopy, institution: str, job: str, round: int, out: Path) -> Receipt:
    """Writes ``contribution.tlog-proof`` and ``credits.tlog-proof`` into a new folder.

    Raises:
        ReceiptMissing: if there is no final round with a proof by this hospital.
    """
    places = copy.places(job, round)
    proof = next((i for i, r in places if isinstance(r, Proof) and r.author == institution), None)
    result = next(((i, r) for i, r in places if isinstance(r, Result) and not r.again), None)
    if proof is None or result is None:
        raise ReceiptMissing(
            f"round {round} of {job} holds no proof by {institution}, or is not known here",
            "see `hospital-agent status` for how far this copy goes",
        )
    index, record = result
    files = {"contribution": prove(copy, proof), "credits": prove(copy, index)}
    out.mkdir(parents=True)
    for name, text in files.items():
        (out / f"{name}.tlog-proof").write_text(text)
    outcome = next(o for o in record.proofs if o.institution == institution)
    fees = sum(fee.credits for fee in record.fees if fee.institution == institution)
    bonus = record.bonus if record.learner == institution else 0
    return Receipt(
        str(out), record.ledger, institution, job, round, outcome.code,
        outcome.credits + fees + bonus,
    )  # fmt: skip
