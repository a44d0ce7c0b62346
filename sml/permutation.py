"""Signed permutations: the orthogonal maps that are exact to the bit.

Rules that hold here:

- one convention for every axis: `Q[i, perm[i]] = signs[i]`, hence
  `(Q x)[i] = signs[i] * x[perm[i]]`, along whichever axis of a tensor is acted on;
- a sign is a flip of the IEEE 754 sign bit, not a multiplication: +0.0 becomes -0.0 and returns as
  +0.0, infinities, NaNs and subnormals return with the bits they had (but for NaNs in half
  precision, whose payload torch does not keep). So map and un-map are inverse to the bit, and the
  un-mapped model has the same hash at every validator (tested on the CPU, where states are mapped);
- the draw is a function of `beta`, the group's name and its size, and of nothing else.

The draw, version 1, so that another implementation gets the same bits. Seeds and streams are those
of `sml.stream`, the domain is `medpole/sml/signed-permutation/v1`.

- Purpose `permutation`: start from perm = 0, 1, ..., size - 1. For i from size - 1 down to 1: take
  words until one is below 2^64 - (2^64 mod (i + 1)); j is that word mod (i + 1); swap perm[i] and
  perm[j] (Fisher-Yates as in Durstenfeld's Algorithm 235; the rejection makes each j exactly as
  likely as every other).
- Purpose `signs`, if the group is signed: sign i is -1 where bit i mod 8 of the stream's byte
  i // 8 is set, bit 0 being the least significant; otherwise every sign is +1.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from sml.errors import MappingInvalid
from sml.stream import seed, words
from sml.values import Values, check_axis, is_floating

DOMAIN: Final = "medpole/sml/signed-permutation/v1"
_WORDS: Final = 2**64


@dataclass(frozen=True, eq=False)
class SignedPermutation:
    """An orthogonal matrix Q with one entry of +1 or -1 in each row and column.

    Args:
        perm: int64, shape (size,): row i of Q takes coordinate perm[i].
        signs: int8, shape (size,): +1 or -1, the sign of row i.

    Raises:
        MappingInvalid: `perm` is no permutation, or `signs` are not +1 and -1 of its shape.
    """

    # Not in the repr: before the commitments close, Q must not reach a log.
    perm: npt.NDArray[np.int64] = field(repr=False)
    signs: npt.NDArray[np.int8] = field(repr=False)

    def __post_init__(self) -> None:
        perm = np.array(self.perm, dtype=np.int64)
        signs = np.array(self.signs, dtype=np.int8)
        if (
            perm.ndim != 1
            or perm.shape != signs.shape
            or sorted(perm.tolist()) != list(range(perm.size))
            or not {-1, 1}.issuperset(signs.tolist())
        ):
            raise MappingInvalid(
                "These arrays are no signed permutation.",
                "Draw it from the VRF output with `SignedPermutation.draw`.",
            )
        perm.flags.writeable = signs.flags.writeable = False
        object.__setattr__(self, "perm", perm)
        object.__setattr__(self, "signs", signs)

    @classmethod
    def draw(cls, beta: bytes, name: str, size: int, *, signed: bool) -> "SignedPermutation":
        """Draw the permutation of one group from a VRF output, as the module's text specifies.

        Args:
            beta: the VRF output, 64 bytes.
            name: the group's name, 1 to 128 letters, digits, dots, dashes or underscores; groups of
                different names are drawn independently.
            size: number of coordinates, at least 1.
            signed: whether to draw signs too.

        Raises:
            MappingInvalid: `beta` is not 64 bytes, or name or size is not a group's.
        """
        perm = _shuffle(size, words(seed(DOMAIN, "permutation", name, size, beta), size))
        signs = np.ones(size, dtype=np.int8)
        if signed:
            of_signs = seed(DOMAIN, "signs", name, size, beta)
            stream = hashlib.shake_256(of_signs).digest((size + 7) // 8)
            bits = np.unpackbits(np.frombuffer(stream, np.uint8), count=size, bitorder="little")
            signs[bits == 1] = -1
        return cls._known(np.array(perm, dtype=np.int64), signs)

    @classmethod
    def _known(
        cls, perm: npt.NDArray[np.int64], signs: npt.NDArray[np.int8]
    ) -> "SignedPermutation":
        """Of new arrays that are a signed permutation by the way they were made."""
        made = object.__new__(cls)
        perm.flags.writeable = signs.flags.writeable = False
        object.__setattr__(made, "perm", perm)
        object.__setattr__(made, "signs", signs)
        return made

    @property
    def size(self) -> int:
        """Number of coordinates."""
        return int(self.perm.size)

    @cached_property
    def inverse(self) -> "SignedPermutation":
        """Qᵀ, which undoes Q."""
        back = np.argsort(self.perm)
        return SignedPermutation._known(back, self.signs[back])

    @property
    def matrix(self) -> npt.NDArray[np.float64]:
        """Q itself, shape (size, size): to look at, not to compute with."""
        matrix = np.zeros((self.size, self.size))
        matrix[np.arange(self.size), self.perm] = self.signs
        return matrix

    def apply(self, values: Values, axis: int) -> Values:
        """Act with Q along one axis of a tensor or array.

        Args:
            values: any shape with `size` entries along `axis`; floating point where a sign is -1.
            axis: the axis to act on, counted from the front or, if negative, from the back.

        Returns:
            A new tensor or array of the same shape, dtype and device. Gradients pass through.

        Raises:
            MappingInvalid: the axis or the dtype does not fit.
        """
        check_axis(values, axis, self.size)
        if self._signed and not is_floating(values):
            raise MappingInvalid(
                f"A signed group cannot act on {values.dtype}.",
                "Use floating point, or an unsigned group.",
            )
        shape = [1] * values.ndim
        shape[axis] = self.size
        if not isinstance(values, np.ndarray):
            import torch  # slow to load, and a round maps arrays

            taken = values.index_select(axis, torch.tensor(self.perm, device=values.device))
            if not self._signed:
                return taken
            flipped = torch.tensor(self.signs < 0, device=values.device)
            return torch.where(flipped.reshape(shape), -taken, taken)
        array = values.take(self.perm, axis)
        if self._signed:
            np.negative(array, out=array, where=(self.signs < 0).reshape(shape))
        return array

    @cached_property
    def _signed(self) -> bool:
        return -1 in self.signs.tolist()


def _shuffle(size: int, words: Iterable[int]) -> list[int]:
    """Durstenfeld's shuffle of 0 .. size - 1 with unbiased draws from 64-bit words."""
    words = iter(words)
    perm = list(range(size))
    for i in range(size - 1, 0, -1):
        limit = _WORDS - _WORDS % (i + 1)
        word = next(words)
        while word >= limit:
            word = next(words)
        j = word % (i + 1)
        perm[i], perm[j] = perm[j], perm[i]
    return perm
