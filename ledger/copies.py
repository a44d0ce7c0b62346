"""What exports and proofs read: one unmoving copy of a ledger, the coordinator's or a member's."""

from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Protocol

from ledger.block import Block, Header
from ledger.chain import check_quorum
from ledger.disclosure import Disclosure
from ledger.entry import Entry
from ledger.errors import QuorumMissing
from ledger.merkle import Frontier, Span
from ledger.start import Start


class LedgerCopy(Protocol):
    """A copy. Heights are those of blocks that are there."""

    def newest(self) -> int | None:
        """Height of the newest block, final or not; None before the genesis."""

    def genesis(self) -> Entry:
        """The genesis entry."""

    def changes(self, last: int) -> Sequence[Entry]:
        """All changes and approvals in blocks up to ``last``, in order."""

    def erased(self) -> Iterable[str]:
        """The salted digests that erasures name."""

    def header(self, height: int) -> Header:
        """A block's header."""

    def frontier(self, height: int) -> Frontier:
        """The tree after a block, its header included."""

    def blocks(self, first: int, last: int) -> Iterator[tuple[Block, list[str]]]:
        """Blocks without their entries, each with its cosignatures, oldest first."""

    def write_entries(self, out: IO[bytes], first: int, last: int) -> None:
        """Writes the entries of the blocks from ``first`` to ``last``, a line each."""

    def subtrees(self, spans: Sequence[Span]) -> list[bytes]:
        """Roots over spans of leaves that are there: the steps of a proof."""

    def leaf(self, index: int) -> tuple[int, bytes] | None:
        """Height and bytes of one leaf: an entry, or a block's header."""

    def disclosures(self) -> Iterable[Disclosure]:
        """What opens salted digests, as far as this copy has it."""


def start_before(copy: LedgerCopy, height: int) -> Start:
    """What somebody goes on from who reads from the block at ``height`` (> 0) on."""
    return Start(
        copy.genesis(), tuple(copy.changes(height - 1)), copy.header(height - 1),
        copy.frontier(height - 1),
    )  # fmt: skip


def final_height(copy: LedgerCopy) -> int:
    """Height of the newest block that a quorum co-signed; -1 where there is none."""
    newest = copy.newest()
    if newest is None:
        return -1
    membership = start_before(copy, newest + 1).chain().membership
    [(block, lines)] = copy.blocks(newest, newest)
    try:
        check_quorum(membership, block.checkpoint, lines)
    except QuorumMissing:
        return newest - 1
    return newest
