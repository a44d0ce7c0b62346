"""The Merkle tree of RFC 6962 section 2.1 (SHA-256), with its inclusion and consistency proofs.

Leaves and inner nodes are hashed under different prefixes, so that a node can never be passed
off as a leaf. `Frontier` grows a tree in O(log n) memory. A proof is a list of roots of subtrees,
each over a span of leaves: `inclusion_path` and `consistency_path` say which, so that whoever has
frontiers of the growing tree makes a proof without all its leaves (`span_root`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import islice

from ledger.errors import ProofInvalid

EMPTY_ROOT = sha256(b"").digest()
Span = tuple[int, int]
"""Leaves from an index on, up to and without another."""


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


def span_root(span: Span, before: Frontier, leaves: Iterable[bytes]) -> bytes:
    """Root over a span of a tree that was grown further than to ``before``.

    ``span`` is one of a path's. ``before`` is the tree when it was smaller than the span's end;
    ``leaves`` are the leaf hashes from there on, up to the span's end.
    """
    first, last = span
    # The span begins at a multiple of a power of two that is no shorter than it, so of the roots
    # before its end the last are those inside it.
    inside = max(0, before.size - first)
    frontier = Frontier(inside, before.nodes[len(before.nodes) - inside.bit_count() :])
    for leaf in islice(leaves, max(0, first - before.size), None):
        frontier.append(leaf)
    assert frontier.size == last - first
    return frontier.root()


def _middle(first: int, last: int) -> int:
    """Where a subtree of at least two leaves is split: at the largest power of two within it."""
    return first + (1 << (last - first - 1).bit_length() - 1)


def inclusion_path(index: int, size: int) -> list[Span]:
    """The subtrees whose roots lead from leaf ``index`` to the root (RFC 6962 2.1.1).

    Raises:
        ProofInvalid: if there is no such leaf.
    """
    if not 0 <= index < size:
        raise _invalid(f"entry {index} cannot be in a tree of {size}")
    path: list[Span] = []
    first, last = 0, size
    while last - first > 1:
        middle = _middle(first, last)
        path.append((middle, last) if index < middle else (first, middle))
        first, last = (first, middle) if index < middle else (middle, last)
    return path[::-1]


def inclusion_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """Audit path of leaf ``index`` in the tree over ``leaves``.

    Raises:
        ProofInvalid: if there is no such leaf.
    """
    return [root(leaves[first:last]) for first, last in inclusion_path(index, len(leaves))]


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


def consistency_path(old_size: int, size: int) -> list[Span]:
    """The subtrees whose roots show that the tree of ``size`` goes on from that of ``old_size``
    (RFC 6962 2.1.2).

    Raises:
        ProofInvalid: if the old tree is the larger one.
    """
    if not 0 <= old_size <= size:
        raise _invalid(f"a tree of {old_size} is no part of a tree of {size}")
    path: list[Span] = []
    first, last = 0, size
    while 0 < old_size < last:
        middle = _middle(first, last)
        path.append((middle, last) if old_size <= middle else (first, middle))
        first, last = (first, middle) if old_size <= middle else (middle, last)
    # The old tree's own root is known to whoever asks.
    return ([(first, last)] if first else []) + path[::-1]


def consistency_proof(leaves: Sequence[bytes], old_size: int) -> list[bytes]:
    """Proof that the tree of the first ``old_size`` leaves is the beginning of that over all.

    Raises:
        ProofInvalid: if there are fewer leaves than that.
    """
    return [root(leaves[first:last]) for first, last in consistency_path(old_size, len(leaves))]


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
