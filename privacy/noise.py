"""Sources of chance: one that protects, and one that is only for repeating experiments.

Both give Gaussian noise, and the Poisson samples that a job with a sample rate trains on.

`SecureNoise` draws its uniforms from AES-256 in counter mode under a key that the operating system
gives anew for every draw. So seeding torch or numpy changes nothing, and processes that were
forked from one another share no noise.

Floating-point Gaussians are not Gaussians: the set of values that a sampler can reach depends on
what the noise was added to, and Mironov (2012) turns that into an attack. The guard here is that of
Holohan and Braghin (2021, "Secure random sampling in differential privacy"): each value is a
variance-preserving sum of several independent samples, which makes the search for the reachable
values infeasible in practice. Residual, stated plainly: that is a computational obstacle, no proof;
the tail ends at 8.57 standard deviations per summand (53-bit uniforms); time per draw is
not constant. An exact discrete sampler (Canonne, Kamath, Steinke 2020) would remove the first two.
"""

import math
import os
from collections.abc import Iterator
from decimal import Decimal
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from privacy.contract import check_sample_rate
from privacy.errors import NoiseInvalid, SeededNoiseForbidden

if TYPE_CHECKING:
    from torch import Tensor

SUMMANDS: Final = 4
_DRAWN_AT_ONCE: Final = 2**15
_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 16
_UNIFORM_BITS: Final = 53


class NoiseSource(Protocol):
    """Where the trainer takes its noise and its batches from."""

    @property
    def private(self) -> bool:
        """Whether nobody can predict the noise."""
        ...

    def normal(self, shape: tuple[int, ...], std: float) -> "Tensor":
        """Independent N(0, std^2) values of `shape`, float64."""
        ...

    def chosen(self, shape: tuple[int, ...], chance: Decimal) -> "Tensor":
        """Bools of `shape`, each True with `chance`, independently: a Poisson sample."""
        ...


class SecureNoise:
    """Unpredictable noise: AES-256-CTR under a fresh key per draw, Box-Muller, summed."""

    private: Final = True

    def normal(self, shape: tuple[int, ...], std: float) -> "Tensor":
        """Independent N(0, std^2) values of `shape`, float64. Raises NoiseInvalid."""
        import torch

        check_std(std)
        count = math.prod(shape)
        uniforms, angles = _uniforms(2 * SUMMANDS * count).reshape(2, SUMMANDS, count)
        # All in place, the cosine by torch: numpy's took half of the time of a draw.
        radius = np.log(uniforms, out=uniforms)
        radius *= -2.0
        np.sqrt(radius, out=radius)
        angles *= 2.0 * np.pi
        samples = torch.from_numpy(angles).cos_().mul_(torch.from_numpy(radius))
        return samples.sum(dim=0).mul_(std / math.sqrt(SUMMANDS)).view(shape)

    def chosen(self, shape: tuple[int, ...], chance: Decimal) -> "Tensor":
        """Bools of `shape`, each True with `chance`, rounded down to 53 bits.

        Raises SampleRateInvalid.
        """
        import torch

        check_sample_rate(chance)
        most = np.uint64(int(chance * 2**_UNIFORM_BITS))
        return torch.from_numpy(_bits(math.prod(shape)) < most).reshape(shape)


class SeededNoise:
    """Repeatable noise for tests and comparisons. It protects nobody: the seed reveals all of it.

    Raises SeededNoiseForbidden unless `unsafe_no_dp=True` is written out.
    """

    private: Final = False

    def __init__(self, seed: int, *, unsafe_no_dp: bool = False) -> None:
        if unsafe_no_dp is not True:
            raise SeededNoiseForbidden(
                "seeded noise was asked for; whoever knows the seed can subtract the noise",
                "use SecureNoise, or pass unsafe_no_dp=True and have the run recorded as no DP",
            )
        import torch  # where noise is drawn: who only checks its size needs none

        self._generator = torch.Generator().manual_seed(seed)

    def normal(self, shape: tuple[int, ...], std: float) -> "Tensor":
        """The next N(0, std^2) values of the seed's stream, float64. Raises NoiseInvalid."""
        import torch

        check_std(std)
        return std * torch.randn(shape, generator=self._generator, dtype=torch.float64)

    def chosen(self, shape: tuple[int, ...], chance: Decimal) -> "Tensor":
        """The next bools of the seed's stream. Raises SampleRateInvalid."""
        import torch

        check_sample_rate(chance)
        uniforms = torch.rand(shape, generator=self._generator, dtype=torch.float64)
        return uniforms < float(chance)


def normal_draws(
    noise: NoiseSource, count: int, shape: tuple[int, ...], std: float
) -> "Iterator[Tensor]":
    """So many independent draws of N(0, std^2) values of `shape`.

    From `SecureNoise` some at once: for a small model a draw is mostly its beginning.
    """
    if not isinstance(noise, SecureNoise):
        yield from (noise.normal(shape, std) for _ in range(count))
        return
    together = max(1, _DRAWN_AT_ONCE // math.prod(shape))
    for start in range(0, count, together):
        yield from noise.normal((min(together, count - start), *shape), std)


def check_std(std: float) -> None:
    """Raise NoiseInvalid unless `std` is finite and above 0."""
    if not (math.isfinite(std) and std > 0):
        raise NoiseInvalid(
            f"the noise's standard deviation is {std}; allowed: a finite number above 0",
            "set noise_multiplier and clip of the contract above 0",
        )


def _uniforms(count: int) -> npt.NDArray[np.float64]:
    """Values of (0, 1] with 53 random bits each, shape [count]."""
    values = _bits(count).astype(np.float64)
    values += 1.0
    values *= 2.0**-_UNIFORM_BITS
    return values


def _bits(count: int) -> npt.NDArray[np.uint64]:
    """Whole numbers of 53 random bits, shape [count]."""
    cipher = Cipher(algorithms.AES256(os.urandom(_KEY_BYTES)), modes.CTR(os.urandom(_NONCE_BYTES)))
    stream = cipher.encryptor().update(bytes(8 * count))
    return np.frombuffer(stream, dtype="<u8") >> np.uint64(64 - _UNIFORM_BITS)
