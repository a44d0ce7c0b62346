"""Which hospitals' nodes the SuperLink admits, and which of them are there.

The ledger says who is a member, the network's state which transport key each announced. Every
second the two are brought to the SuperLink (which forgets everything when it is started anew), the
gate's file is written, and presence is read back.
"""

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from consortium.errors import ConsortiumError, LinkRefused, LinkUnreachable
from consortium.flower.gate import MEMBER, PENDING, REMOVED, SUSPENDED, write_nodes
from consortium.flower.link import FleetNode, Link
from consortium.flower.superlink import NODES
from consortium.transport import TransportKeys
from ledger.errors import LedgerError
from ledger.membership import Membership
from ledger.store import LedgerStore

EVERY_S = 1.0
log = logging.getLogger("medpole.nodes")


class Nodes:
    """Implements `consortium.coordinator.exchange.Presence` for a deployment."""

    def __init__(self, home: Path, store: LedgerStore, link: Link) -> None:
        self._home, self._store, self._link = home, store, link
        self._keys = TransportKeys(home)
        self._online: dict[int, str] = {}
        self._seen: dict[str, float] = {}
        self._looking = time.monotonic()  # since when, without a break
        self._written: dict[bytes, tuple[str, str]] | None = None
        self._stopped = threading.Event()

    def online(self) -> Mapping[int, str]:
        """The nodes of members in force that are there, each with its institution."""
        return dict(self._online)

    def gone_for(self, name: str) -> float:
        """Seconds since this institution's node was last there.

        While nobody can look, nobody is gone: the time counts anew from when one can again.
        """
        return time.monotonic() - max(self._seen.get(name, self._looking), self._looking)

    def step(self) -> None:
        """Brings the SuperLink up to date, and reads back who is there.

        Raises:
            LinkUnreachable, LinkRefused: if the SuperLink is not there.
        """
        admitted = admitted_nodes(self._store.chain().upcoming, self._keys.all())
        if admitted != self._written:
            write_nodes(self._home / NODES, admitted)
            self._written = admitted
        wanted = {key: name for key, (name, state) in admitted.items() if state == MEMBER}
        nodes = self._link.nodes()
        self._register(wanted, nodes)
        now = time.monotonic()
        here = {n.id: wanted[n.public_key] for n in nodes if n.online and n.public_key in wanted}
        self._seen |= dict.fromkeys(here.values(), now)
        self._online = here

    def _register(self, wanted: Mapping[bytes, str], nodes: list[FleetNode]) -> None:
        """Adds nodes that are missing, and takes away those whose key was replaced.

        A suspended institution's node stays: the gate keeps it out, and its key could never be
        registered again.
        """
        present = {node.public_key for node in nodes}
        for key in sorted(set(wanted) - present):
            self._link.register(wanted[key], key)
        replaced = {name for key, name in wanted.items() if key not in present}
        for node in nodes:
            if node.institution in replaced and node.public_key not in wanted:
                self._link.unregister(node)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Steps in a thread for the time of the context."""
        thread = threading.Thread(target=self._run, name="nodes", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stopped.set()
            thread.join(5)

    def _run(self) -> None:
        told = ""
        while not self._stopped.wait(EVERY_S):
            try:
                self.step()
                said = ""
            except Exception as error:  # a database or SuperLink that is away comes back
                self._looking = time.monotonic()
                if isinstance(error, LinkUnreachable | LinkRefused):
                    self._online = {}  # it forgets its nodes when it is started anew
                coded = isinstance(error, ConsortiumError | LedgerError)
                said = str(getattr(error, "code", "")) if coded else type(error).__name__
            if said and said != told:
                log.warning("nodes: %s", said)
            told = said


def admitted_nodes(
    membership: Membership, keys: Mapping[str, bytes]
) -> dict[bytes, tuple[str, str]]:
    """What the gate makes of each transport key: whose it is, and that institution's state."""
    states = {}
    for name, key in keys.items():
        if name in membership.members:
            states[key] = (name, MEMBER)
        elif name in membership.suspended:
            states[key] = (name, SUSPENDED)
        else:
            states[key] = (name, REMOVED if name in membership.used_ids else PENDING)
    return states
