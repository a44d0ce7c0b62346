"""How many rows repeat another one, in memory that does not grow with the rows.

Adaptive sampling (Flajolet 1990): up to `LIMIT` different hashes all are kept and the answer is
exact; beyond that only those that end in one zero bit, in two, and so on. Rows that are alike are
kept or left together, so the share of the sample is that of all.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
LIMIT: Final = 2**20


class Repeats:
    """Counts rows by their hashes."""

    def __init__(self) -> None:
        self._mask = np.uint64(0)
        self._known: Hashes = np.zeros(0, dtype=np.uint64)
        self._counts: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self._waiting: list[Hashes] = []
        self._waiting_rows = 0

    def take(self, hashes: Hashes) -> None:
        """Counts some rows."""
        kept = hashes[(hashes & self._mask) == 0]
        self._waiting.append(kept)
        self._waiting_rows += len(kept)
        if self._waiting_rows > max(100_000, len(self._known)):
            self._merge()

    @property
    def share(self) -> float:
        """The share of rows that are the same as one before."""
        self._merge()
        rows = int(self._counts.sum())
        return (rows - len(self._known)) / rows if rows else 0.0

    @property
    def repeated(self) -> float:
        """The share of different hashes that are there more than once."""
        self._merge()
        return float((self._counts > 1).mean()) if len(self._counts) else 0.0

    def _merge(self) -> None:
        if not self._waiting:
            return
        fresh = np.concatenate(self._waiting)
        self._waiting, self._waiting_rows = [], 0
        hashes = np.concatenate([self._known, fresh])
        weights = np.concatenate([self._counts, np.ones(len(fresh), dtype=np.int64)])
        self._known, places = np.unique(hashes, return_inverse=True)
        self._counts = np.bincount(places, weights=weights).astype(np.int64)
        while len(self._known) > LIMIT:
            self._mask = (self._mask << np.uint64(1)) | np.uint64(1)
            kept = (self._known & self._mask) == 0
            self._known, self._counts = self._known[kept], self._counts[kept]
