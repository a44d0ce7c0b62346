"""Rebuilds the database from an export: the coordinator's own, or one of a member's copy.

Nothing is taken on trust: the export is verified first, against the pinned genesis, and every
block is followed again as it is stored. What was final stays final; blocks of which members know,
and the export does not, must be restored too (from a member that has them) before anything new is
proposed: every member refuses a second block at a height that it signed.
"""

from pathlib import Path

from ledger.errors import RangeInvalid
from ledger.reading import read_blocks
from ledger.store import LedgerStore
from ledger.verify import Verified, verify_export


def restore_ledger(store: LedgerStore, export: Path, genesis: str) -> Verified:
    """Stores an export's blocks and cosignatures; what is there already is compared.

    Killed and repeated, it goes on where it was.

    Raises:
        RangeInvalid: if the export does not begin with the genesis.
        SequenceConflict: if another ledger, or another history of it, is there.
        LedgerError: if the export does not verify.
    """
    verified = verify_export(export, genesis)
    if verified.first_height != 0:
        raise RangeInvalid(
            f"the export begins at height {verified.first_height}",
            "restore from one that begins with the genesis",
        )
    for block, cosignatures in read_blocks(export):
        store.restore(block, cosignatures)
    return verified
