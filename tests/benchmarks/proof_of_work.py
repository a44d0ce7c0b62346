"""Proof of work at a fixed difficulty, really hashed: miners race for each next block.

As in Bitcoin (Nakamoto 2008) a block is a header of 80 bytes whose double SHA-256 lies below the
target. Each miner has a Merkle root of its own and counts up its nonce; whoever finds a block first
makes it, and all begin anew on top of it. The miners take turns on one core, so each has the same
share of its hashes. A block reaches everybody at once: there are no forks and nothing to withdraw.
Seconds are those of that core: what else runs on the machine makes no block late.
"""

import hashlib
import struct
import time
from dataclasses import dataclass
from itertools import cycle

MINERS = 4
_TURN = 256  # nonces; the mean race is thousands of turns
_HIGHEST = 2**256


@dataclass(frozen=True)
class Mined:
    """A block: its header (80 bytes), the hashes of all miners it took, and their seconds."""

    header: bytes
    hashes: int
    seconds: float

    @property
    def hash(self) -> bytes:
        """Double SHA-256 of the header, compared with the target as a big-endian number."""
        return _twice(hashlib.sha256(self.header))


class _Miner:
    """One miner's search on top of one block."""

    def __init__(self, name: int, previous: bytes, height: int) -> None:
        root = hashlib.sha256(b"miner %d, block %d" % (name, height)).digest()
        self._begin = struct.pack("<I32s32sII", 1, previous, root, height, 0)
        self._state = hashlib.sha256(self._begin)
        self.nonce = 0

    def turn(self, target: bytes) -> bytes | None:
        """Tries so many nonces; the header of a block, if one of them makes it."""
        for nonce in range(self.nonce, self.nonce + _TURN):
            state = self._state.copy()
            state.update(nonce.to_bytes(4, "little"))
            if _twice(state) < target:
                self.nonce = nonce + 1
                return self._begin + nonce.to_bytes(4, "little")
        self.nonce += _TURN
        return None


def mine(difficulty: int, blocks: int) -> list[Mined]:
    """A chain of so many blocks, each of ``difficulty`` hashes on average."""
    target = (_HIGHEST // difficulty).to_bytes(32, "big")
    chain: list[Mined] = []
    previous = bytes(32)
    for height in range(1, blocks + 1):
        begun = time.thread_time()
        miners = [_Miner(name, previous, height) for name in range(MINERS)]
        header = next(h for m in cycle(miners) if (h := m.turn(target)) is not None)
        hashes = sum(miner.nonce for miner in miners)
        chain.append(Mined(header, hashes, time.thread_time() - begun))
        previous = chain[-1].hash
    return chain


def difficulty_for(mean_s: float, measured_s: float = 5) -> int:
    """Hashes that all miners together make in ``mean_s`` seconds, measured by hashing.

    ``measured_s``: how long that is measured.
    """
    miners = [_Miner(name, bytes(32), 0) for name in range(MINERS)]
    begun = time.thread_time()
    for miner in cycle(miners):
        miner.turn(bytes(32))
        seconds = time.thread_time() - begun
        if seconds > measured_s:
            break
    return round(mean_s * sum(miner.nonce for miner in miners) / seconds)


def _twice(once: "hashlib._Hash") -> bytes:
    return hashlib.sha256(once.digest()).digest()
