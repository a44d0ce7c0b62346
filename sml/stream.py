"""What draws read: a stream of words for one purpose and one group, from a VRF output.

Rules that hold here:

- the seed is the ASCII text of a domain, a purpose, the group's name and its size in decimal, each
  ended by a newline, then the 64 bytes of beta. So no two purposes, groups or kinds of map share
  a draw;
- the stream is SHAKE-256 of the seed (FIPS 202), read from the start; its words are its successive
  8 bytes, big-endian.
"""

import hashlib
import re
from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from sml.errors import MappingInvalid
from sml.vrf import BETA_BYTES

GROUP_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")


def seed(domain: str, purpose: str, name: str, size: int, beta: bytes) -> bytes:
    """The seed of one draw.

    Args:
        domain: the kind of map and the version of its draw.
        purpose: which of the kind's draws.
        name: the group's name, 1 to 128 letters, digits, dots, dashes or underscores.
        size: the group's number of coordinates, at least 1.
        beta: the VRF output, 64 bytes.

    Raises:
        MappingInvalid: `beta` is not 64 bytes, or name or size is not a group's.
    """
    if len(beta) != BETA_BYTES:
        raise MappingInvalid(
            f"The VRF output has {len(beta)} bytes, not {BETA_BYTES}.",
            "Pass what `sml.vrf.verify` or `sml.vrf.proof_to_hash` returned.",
        )
    if GROUP_NAME.fullmatch(name) is None or size < 1:
        raise MappingInvalid(
            f"No group is called {name!r} and has {size} coordinates.",
            "Use letters, digits, dot, dash and underscore, and a size of at least 1.",
        )
    return f"{domain}\n{purpose}\n{name}\n{size}\n".encode("ascii") + beta


def words(seed: bytes, expected: int) -> Iterator[int]:
    """The stream's words without end; `expected` only sets how many are squeezed at first."""
    stream = hashlib.shake_256(seed)
    done, length = 0, 8 * max(expected, 1)
    while True:
        # A longer output of an XOF begins with the shorter one.
        yield from np.frombuffer(stream.digest(length), dtype=">u8")[done // 8 :].tolist()
        done, length = length, 2 * length


def first_words(seed: bytes, count: int) -> npt.NDArray[np.uint64]:
    """The stream's first words, uint64, shape (count,)."""
    stream = hashlib.shake_256(seed).digest(8 * count)
    return np.frombuffer(stream, dtype=">u8").astype(np.uint64)
