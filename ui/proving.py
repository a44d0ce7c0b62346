"""One record's proof, verified in the portal's own process, and what was done in words.

By the single-file verifier: the very file that the portal offers for download, written apart from
the code that makes proofs, so whoever doubts this page runs the same on a machine of their own. It
answers yes or no; the steps here only show the numbers that it went through.
"""

from dataclasses import dataclass
from typing import Any

from ledger import verifier
from ui.words import count


@dataclass(frozen=True)
class Step:
    """One step of a verification: what was checked, and the values it was checked on."""

    title: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Verification:
    """A proof that holds. ``pinned``: under the fingerprint that the reader was told."""

    steps: tuple[Step, ...]
    pinned: bool
    cosigners: tuple[str, ...]
    quorum: int
    members: int


def verify(proof: str, told: str | None) -> Verification:
    """Verifies a proof file; ``told`` is the fingerprint that the reader got from elsewhere.

    Raises:
        ledger.verifier.Failure: the first thing that does not hold.
    """
    data = proof.encode()
    found = verifier.verify_proof(data, told)
    signed, lines = verifier.split_note(data)
    head, _, _ = signed.rpartition("\n\n")
    extra = _extra(head)
    path = head.split("\n")[3:]
    entry = verifier.Entry.of(extra["entry"].encode())
    leaf, index = verifier.leaf_hash(entry.data), int(found["index"])
    header = extra["header"]
    root = verifier.root_of_path(
        leaf, index, header["size"] + 1, [verifier.base64_bytes(line) or b"" for line in path]
    )
    assert root is not None
    cosigners = tuple(verifier.signature_line(line)[0] for line in lines[1:])
    changes = len(extra["changes"])
    steps = (
        Step(
            "The record's own bytes are hashed to a leaf",
            (f"{len(entry.data):,} bytes, SHA-256", leaf.hex()),
        ),
        Step(
            f"{len(path)} hashes lead from this leaf to the root of the tree",
            (f"leaf {index:,} of {header['size'] + 1:,}, root", root.hex()),
        ),
        Step(
            "The checkpoint names this root, and the block that it ends with",
            (f"block {header['height']:,}", verifier.block_hash(header)),
        ),
        Step("The coordinator signed the checkpoint", (verifier.signature_line(lines[0])[0],)),
        Step(
            f"{len(cosigners)} of {found['members']} members co-signed it: the quorum is "
            f"{found['quorum']}",
            (", ".join(cosigners),),
        ),
        Step(
            "All these keys follow from the genesis",
            (
                f"through {count(changes, 'record')} of changes and approvals"
                if changes
                else "no member, key or policy has changed since",
            ),
        ),
        Step(
            "The record is signed by its author, with a key that was its own",
            (str(found["author"]),),
        ),
        Step(
            "The genesis has the fingerprint that you were told"
            if told
            else "The genesis has this fingerprint: compare it with what you were told",
            (str(found["ledger"]),),
        ),
    )
    return Verification(steps, told is not None, cosigners, found["quorum"], found["members"])


def _extra(head: str) -> Any:
    line = head.split("\n")[1].removeprefix("extra ")
    return verifier.parse(verifier.base64_bytes(line) or b"")
