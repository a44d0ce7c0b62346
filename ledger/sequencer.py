"""How the coordinator makes the next block: pure, the same bytes for the same input."""

from collections.abc import Sequence

from ledger.block import NO_PARENT, Block, Header, certificate_hash, origin
from ledger.chain import Chain, ledger_id
from ledger.entry import Entry
from ledger.errors import LedgerError, RecordInvalid
from ledger.keys import KeyRing, Role
from ledger.membership import Membership
from ledger.merkle import Frontier
from ledger.note import Checkpoint, sign_note
from ledger.records import Genesis


def genesis_block(entry: Entry, keys: KeyRing) -> Block:
    """Block 0 over the genesis entry, which all founders have signed.

    Raises:
        RecordInvalid: if the entry is no genesis.
        MembershipInvalid: if it names an institution or a key twice.
    """
    genesis = entry.record
    if not isinstance(genesis, Genesis):
        raise RecordInvalid(
            "block 0 needs the genesis record",
            "pass the genesis entry that all founders have signed",
        )
    header = Header(
        ledger_id(genesis), 0, 0, NO_PARENT, 0, 1, 1, entry.leaf.hex(),
        Membership.of_genesis(genesis, ledger_id(genesis)).digest, certificate_hash(()),
        genesis.created,
    )  # fmt: skip
    frontier = Frontier()
    frontier.append(entry.leaf)
    return _finish(header, (entry,), (), frontier, keys)


def next_block(
    chain: Chain, entries: Sequence[Entry], parent_cert: Sequence[str], time: int, keys: KeyRing
) -> Block:
    """The block that follows the newest one of ``chain``.

    ``parent_cert`` is a quorum of cosignatures on that newest block; ``time`` is in Unix
    seconds (never earlier than the parent's: a clock that ran backwards is held at it).
    """
    parent, frontier = chain.header, chain.frontier.copy()
    first = frontier.size
    for entry in entries:
        frontier.append(entry.leaf)
    lines = tuple(sorted(parent_cert))
    header = Header(
        chain.ledger, parent.epoch, parent.height + 1, parent.hash, first, len(entries),
        frontier.size, frontier.root().hex(), chain.upcoming.digest,
        certificate_hash(lines), max(time, parent.time),
    )  # fmt: skip
    return _finish(header, tuple(entries), lines, frontier, keys)


def _finish(
    header: Header,
    entries: tuple[Entry, ...],
    parent_cert: tuple[str, ...],
    frontier: Frontier,
    keys: KeyRing,
) -> Block:
    frontier.append(header.leaf)
    checkpoint = Checkpoint(
        origin(header.ledger), frontier.size, frontier.root(), header.epoch, header.height,
        bytes.fromhex(header.hash),
    )  # fmt: skip
    signature = sign_note(checkpoint.origin, keys[Role.COSIGN], checkpoint.text())
    return Block(header, entries, checkpoint, signature, parent_cert)


def admissible(chain: Chain, submitted: Sequence[Entry]) -> list[Entry]:
    """What of ``submitted`` may stand in the next block, in order, up to the first effect.

    The rest lapsed, or waits: after a change took effect another membership is in force.
    """
    entries: list[Entry] = []
    now = chain.upcoming
    for entry in submitted:
        try:
            chain.upcoming.check_entry(entry)
            now = now.after([entry.record])
        except LedgerError:
            continue
        entries.append(entry)
        if now.digest != chain.upcoming.digest:
            break
    return entries
