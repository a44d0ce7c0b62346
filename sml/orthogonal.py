"""Dense orthogonal maps: the paper's linear layer, for comparisons and never in a round.

Rules that hold here:

- Q is uniformly distributed over all orthogonal matrices (Haar), by the subgroup algorithm: of a
  Gaussian x in R^k take the Householder reflection R with R x = -s |x| e1, s the sign of x[0];
  then Q_k = -s R diag(1, Q_{k-1}), from Q_1 = the sign of a Gaussian (Stewart 1980, "The efficient
  generation of random orthogonal matrices"; Mezzadri 2007 on why the sign matters);
- everything is float64. A tensor of another type is mapped in float64 and rounded once;
- logarithm, cosine and matrix products round differently on different machines. So what was mapped
  and un-mapped agrees with what went in to rounding (1e-6 in float32) and **must not be hashed**:
  two validators would get two hashes. `sml.mapping` refuses this kind unless it is told that
  nothing is hashed;
- Q is exact only where the model meets the mapped coordinates with a linear layer or convolution,
  which is the input group (`sml.model_groups`): no activation commutes with it.

The draw, version 1: seed and stream are those of `sml.stream`, the domain is
`medpole/sml/orthogonal/v1`, the purpose `gaussians`. Of the stream's first n (n + 1) words the
first half gives u = (floor(word / 2^11) + 1) / 2^53, the second v = floor(word / 2^11) / 2^53; the
Gaussians are sqrt(-2 ln u) cos(2 pi v) (Box and Muller). The first is that of Q_1, the next two
those of Q_2, and so on.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from sml.errors import MappingInvalid
from sml.stream import first_words, seed
from sml.values import Values, check_axis, is_floating

DOMAIN: Final = "medpole/sml/orthogonal/v1"
_TOLERANCE: Final = 1e-10


@dataclass(frozen=True, eq=False)
class DenseOrthogonal:
    """An orthogonal matrix Q.

    Args:
        matrix: float64, shape (size, size).

    Raises:
        MappingInvalid: `matrix` is not square, or its product with its transpose is further than
            1e-10 from the identity.
    """

    # Not in the repr: before the commitments close, Q must not reach a log.
    matrix: npt.NDArray[np.float64] = field(repr=False)

    def __post_init__(self) -> None:
        matrix = np.array(self.matrix, dtype=np.float64)
        if (
            matrix.ndim != 2
            or matrix.shape[0] != matrix.shape[1]
            or not np.allclose(matrix @ matrix.T, np.eye(len(matrix)), rtol=0, atol=_TOLERANCE)
        ):
            raise MappingInvalid(
                "This array is no orthogonal matrix.",
                "Draw it from the VRF output with `DenseOrthogonal.draw`.",
            )
        matrix.flags.writeable = False
        object.__setattr__(self, "matrix", matrix)

    @classmethod
    def draw(cls, beta: bytes, name: str, size: int) -> "DenseOrthogonal":
        """Draw the matrix of one group from a VRF output, as the module's text specifies.

        Takes about size^3 operations.

        Args:
            beta: the VRF output, 64 bytes.
            name: the group's name; groups of different names are drawn independently.
            size: number of coordinates, at least 1.

        Raises:
            MappingInvalid: `beta` is not 64 bytes, or name or size is not a group's.
        """
        gaussians = _gaussians(seed(DOMAIN, "gaussians", name, size, beta), size * (size + 1) // 2)
        q = np.eye(size)
        q[-1, -1] = _sign(gaussians[0])
        start = 1
        for k in range(2, size + 1):
            x, start = gaussians[start : start + k].copy(), start + k
            s = _sign(x[0])
            x[0] += s * np.linalg.norm(x)
            x /= np.linalg.norm(x)
            block = q[-k:, -k:]
            block -= np.outer(2 * x, x @ block)
            block *= -s
        return cls(q)

    @property
    def size(self) -> int:
        """Number of coordinates."""
        return len(self.matrix)

    @cached_property
    def inverse(self) -> "DenseOrthogonal":
        """Qᵀ, which undoes Q to rounding."""
        return DenseOrthogonal(self.matrix.T)

    def apply(self, values: Values, axis: int) -> Values:
        """Act with Q along one axis of a tensor or array.

        Args:
            values: floating point, any shape with `size` entries along `axis`.
            axis: the axis to act on, counted from the front or, if negative, from the back.

        Returns:
            A new tensor or array of the same shape, dtype and device. Gradients pass through.

        Raises:
            MappingInvalid: the axis or the dtype does not fit.
        """
        check_axis(values, axis, self.size)
        if not is_floating(values):
            raise MappingInvalid(
                f"A dense group cannot act on {values.dtype}.",
                "Use floating point, or an unsigned group.",
            )
        if not isinstance(values, np.ndarray):
            import torch

            q = torch.tensor(self.matrix, device=values.device)
            mapped = values.movedim(axis, -1).double() @ q.T
            return mapped.movedim(-1, axis).to(values.dtype).contiguous()
        moved = np.moveaxis(values, axis, -1) @ self.matrix.T
        return np.ascontiguousarray(np.moveaxis(moved, -1, axis), dtype=values.dtype)


def _sign(value: float) -> float:
    return float(np.copysign(1.0, value))


def _gaussians(seed: bytes, count: int) -> npt.NDArray[np.float64]:
    uniforms = (first_words(seed, 2 * count) >> np.uint64(11)).astype(np.float64)
    u, v = (uniforms[:count] + 1) / 2**53, uniforms[count:] / 2**53
    gaussians: npt.NDArray[np.float64] = np.sqrt(-2 * np.log(u)) * np.cos(2 * np.pi * v)
    return gaussians
