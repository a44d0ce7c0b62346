"""Puts what was submitted into blocks, as soon as there is room: between jobs, and rounds.

Woken by every submission and every cosignature; while a block is not final it waits, and a quorum
that stays away stops it: submissions are kept, never lost, never put past a missing quorum.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from consortium.coordinator.view import StoreView
from consortium.errors import ConsortiumError
from consortium.rounds.replay import check_block
from ledger.entry import Entry
from ledger.errors import LedgerError, QuorumMissing, SequenceConflict
from ledger.keys import KeyRing
from ledger.sequencer import admissible

MOST_ENTRIES, MOST_BYTES = 500, 4_000_000  # of a block: what witnesses must fetch and check
_PATIENCE_S = 5.0  # what another process submitted is seen without a wake


class Sequencing:
    """Proposes blocks over submissions while no job runs in this process."""

    def __init__(
        self, view: StoreView, keys: KeyRing, on_error: Callable[[str], None] = lambda _: None
    ) -> None:
        self._view, self._keys, self._on_error = view, keys, on_error
        self._woken = threading.Event()
        self._stopping = False

    def wake(self) -> None:
        """Something was submitted, or co-signed."""
        self._woken.set()

    def step(self, *, between_rounds: bool = False) -> int | None:
        """Proposes the next block, if there is something for it; returns its height.

        While a job runs only its coordinator does so, between two rounds: a round starts from the
        newest block.

        Raises:
            LedgerError: if it cannot be stored.
        """
        store = self._view.store
        submitted = store.submissions()
        if not submitted:  # before every job is looked at
            return None
        if not between_rounds and any(not self._view.ended(j.job) for j in self._view.jobs()):
            return None
        if store.final_height() < store.chain().header.height:
            return None
        entries: list[Entry] = []
        for entry in admissible(store.chain(), submitted):
            size = sum(len(one.data) for one in entries) + len(entry.data)
            if len(entries) == MOST_ENTRIES or size > MOST_BYTES:
                break  # the rest waits for the next one
            try:  # a block that members refuse can never be withdrawn
                check_block(self._view, [entry])
            except (ConsortiumError, LedgerError):
                continue
            entries.append(entry)
        if not entries:
            return None
        try:
            return store.propose(entries, self._keys).header.height
        except (QuorumMissing, SequenceConflict):
            return None  # another sequencer was faster

    @contextmanager
    def running(self) -> Iterator[None]:
        """Steps in a thread for the time of the context."""
        thread = threading.Thread(target=self._run, name="sequencing", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stopping = True
            self.wake()
            thread.join()

    def _run(self) -> None:
        while not self._stopping:
            try:
                while self.step() is not None:
                    pass
            except Exception as error:  # a full disk, a database away: submissions are kept
                # Not any `code`: SQLAlchemy's errors have one of their own.
                coded = isinstance(error, LedgerError | ConsortiumError)
                self._on_error(str(getattr(error, "code", "")) if coded else type(error).__name__)
            self._woken.wait(_PATIENCE_S)
            self._woken.clear()
