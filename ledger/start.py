"""What somebody goes on from who does not read a ledger from its genesis.

Genesis, changes and approvals, one header and the tree's frontier: `Chain.resume` verifies that
they fit together, so none of it is taken on trust.
"""

from dataclasses import dataclass
from typing import Any

from ledger import canonical
from ledger.block import Header
from ledger.chain import Chain
from ledger.entry import Entry
from ledger.errors import ExportInvalid, LedgerError
from ledger.merkle import Frontier


@dataclass(frozen=True)
class Start:
    """The state after the block with ``header``."""

    genesis: Entry
    changes: tuple[Entry, ...]
    header: Header
    frontier: Frontier

    def data(self) -> bytes:
        """Canonical bytes: the content of ``start.json``."""
        return canonical.dumps(
            {
                "v": 1,
                "genesis": self.genesis.data.decode(),
                "changes": [entry.data.decode() for entry in self.changes],
                "header": canonical.loads(self.header.data()),
                "frontier": [node.hex() for node in self.frontier.nodes],
            }
        )

    @staticmethod
    def parse(data: bytes) -> "Start":
        """Reads it; nothing is verified before `chain`.

        Raises:
            LedgerError: if it is not of exactly this form.
        """
        try:
            content: Any = canonical.loads(data)
            header = Header.parse(canonical.dumps(content["header"]))
            nodes = [bytes.fromhex(node) for node in content["frontier"]]
            start = Start(
                Entry(content["genesis"].encode()),
                tuple(Entry(entry.encode()) for entry in content["changes"]),
                header,
                Frontier(header.size + 1, nodes),
            )
            exact = content["v"] == 1 and start.data() == data
        except (AttributeError, TypeError, KeyError, ValueError):
            exact = False
        except LedgerError:
            exact = False
        if (
            not exact
            or {len(node) for node in nodes} - {32}
            or start.frontier.size.bit_count() != len(nodes)
        ):
            raise ExportInvalid("start.json: malformed", "ask for the original export")
        return start

    def chain(self, pinned: str | None = None) -> Chain:
        """The state that it gives.

        Raises:
            GenesisMismatch: if ``pinned`` is another ledger's id.
            LedgerError: if its parts do not fit together.
        """
        return Chain.resume(self.genesis, self.changes, self.header, self.frontier, pinned)
