"""The Merkle tree of RFC 6962 section 2.1 (SHA-256), with its inclusion and consistency proofs.

Leaves and inner nodes are hashed under different prefixes, so that a node can never be passed
off as a leaf. `Frontier` grows a tree in O(log n) memory; the proofs need all leaf hashes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from ledger.errors import ProofInvalid

EMPTY_ROOT = sha256(b"").digest()


def leaf_hash(entry: bytes) -> bytes:
    """Hash of one leaf: SHA-256(0x00 || entry)."""
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node: SHA-256(0x01 || left || right)."""
    return sha256(b"\x01" + left + right).digest()


@dataclass
class Frontier:
    """The roots of the perfect subtrees of a growing tree, largest first."""

    size: int = 0
    nodes: list[bytes] = field(default_factory=list)

    def append(self, leaf: bytes) -> None:
        """Adds one leaf hash."""
        node, size = leaf, self.size
        while size & 1:
            node = node_hash(self.nodes.pop(), node)
            size >>= 1
        self.nodes.append(node)
        self.size += 1

    def root(self) -> bytes:
        """The tree's root hash (MTH of RFC 6962)."""
        if not self.nodes:
            return EMPTY_ROOT
        root = self.nodes[-1]
        for node in reversed(self.nodes[:-1]):
            root = node_hash(node, root)
        return root

    def copy(self) -> "Frontier":
        """An independent copy."""
        return Frontier(self.size, list(self.nodes))


def root(leaves: Sequence[bytes]) -> bytes:
    """Root hash of the tree over ``leaves`` (leaf hashes)."""
    frontier = Frontier()
    for leaf in leaves:
        frontier.append(leaf)
    return frontier.root()


def _split(n: int) -> int:
    """The largest power of two smaller than ``n`` (n > 1)."""
    return 1 << (n - 1).bit_length() - 1


def inclusion_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """Audit path of leaf ``index`` in the tree over ``leaves`` (RFC 6962 2.1.1).

    Raises:
        ProofInvalid: if there is no such leaf.
    """
    if not 0 <= index < len(leaves):
        raise _invalid(f"entry {index} cannot be in a tree of {len(leaves)}")
    if len(leaves) == 1:
        return []
    k = _split(len(leaves))
    if index < k:
        return [*inclusion_proof(leaves[:k], index), root(leaves[k:])]
    return [*inclusion_proof(leaves[k:], index - k), root(leaves[:k])]


def verify_inclusion(
    leaf: bytes, index: int, size: int, proof: Sequence[bytes], expected_root: bytes
) -> None:
    """Checks an audit path (RFC 9162 2.1.3.2).

    Raises:
        ProofInvalid: if the path does not lead from ``leaf`` to ``expected_root``.
    """
    if not 0 <= index < size:
        raise _invalid(f"entry {index} cannot be in a tree of {size}")
    fn, sn, node = index, size - 1, leaf
    for step in proof:
        if sn == 0:
            raise _invalid("the path is too long")
        if fn & 1 or fn == sn:
            node = node_hash(step, node)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            node = node_hash(node, step)
        fn, sn = fn >> 1, sn >> 1
    if sn != 0 or node != expected_root:
        raise _invalid(f"the path of entry {index} does not lead to the root")


def consistency_proof(leaves: Sequence[bytes], old_size: int) -> list[bytes]:
    """Proof that the tree of the first ``old_size`` leaves is a prefix (RFC 6962 2.1.2).

    Raises:
        ProofInvalid: if there are fewer leaves than that.
    """
    if not 0 <= old_size <= len(leaves):
        raise _invalid(f"a tree of {old_size} is no part of a tree of {len(leaves)}")
    if old_size in (0, len(leaves)):
        return []
    return _subproof(leaves, old_size, complete=True)


def _subproof(leaves: Sequence[bytes], m: int, *, complete: bool) -> list[bytes]:
    if m == len(leaves):
        return [] if complete else [root(leaves)]
    k = _split(len(leaves))
    if m <= k:
        return [*_subproof(leaves[:k], m, complete=complete), root(leaves[k:])]
    return [*_subproof(leaves[k:], m - k, complete=False), root(leaves[:k])]


def verify_consistency(
    old_size: int, old_root: bytes, size: int, new_root: bytes, proof: Sequence[bytes]
) -> None:
    """Checks that the tree of ``size`` extends the tree of ``old_size`` (RFC 9162 2.1.4.2).

    Raises:
        ProofInvalid: if it does not.
    """
    if old_size > size:
        raise _invalid("the new tree is smaller than the old one")
    if old_size == size or old_size == 0:
        expected = old_root == (new_root if old_size else EMPTY_ROOT)
        if proof or not expected:
            raise _invalid("the heads differ")
        return
    steps = list(proof)
    if old_size & (old_size - 1) == 0:
        steps.insert(0, old_root)
    if not steps:
        raise _invalid("the proof is empty")
    fn, sn = old_size - 1, size - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    old = new = steps[0]
    for step in steps[1:]:
        if sn == 0:
            raise _invalid("the proof is too long")
        if fn & 1 or fn == sn:
            old, new = node_hash(step, old), node_hash(step, new)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            new = node_hash(new, step)
        fn, sn = fn >> 1, sn >> 1
    if sn != 0 or old != old_root or new != new_root:
        raise _invalid("the new tree does not extend the old one")


def _invalid(what: str) -> ProofInvalid:
    return ProofInvalid(what, "ask for the proof again; if it stays wrong, keep it as evidence")
