"""Sources of Gaussian noise: one that protects, and one that is only for repeating experiments.

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
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from torch import Tensor

from privacy.errors import NoiseInvalid, SeededNoiseForbidden

SUMMANDS: Final = 4
_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 16
_UNIFORM_BITS: Final = 53


class NoiseSource(Protocol):
    """Where the trainer takes its noise from."""

    @property
    def private(self) -> bool:
        """Whether nobody can predict the noise."""
        ...

    def normal(self, shape: tuple[int, ...], std: float) -> Tensor:
        """Independent N(0, std^2) values of `shape`, float64."""
        ...


class SecureNoise:
    """Unpredictable noise: AES-256-CTR under a fresh key per draw, Box-Muller, summed."""

    private: Final = True

    def normal(self, shape: tuple[int, ...], std: float) -> Tensor:
        """Independent N(0, std^2) values of `shape`, float64. Raises NoiseInvalid."""
        check_std(std)
        count = math.prod(shape)
        uniforms = _uniforms(2 * SUMMANDS * count).reshape(2, SUMMANDS, count)
        radius = np.sqrt(-2.0 * np.log(uniforms[0]))
        samples = radius * np.cos(2.0 * np.pi * uniforms[1])
        values = samples.sum(axis=0) * (std / math.sqrt(SUMMANDS))
        return torch.from_numpy(values).reshape(shape)


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
        self._generator = torch.Generator().manual_seed(seed)

    def normal(self, shape: tuple[int, ...], std: float) -> Tensor:
        """The next N(0, std^2) values of the seed's stream, float64. Raises NoiseInvalid."""
        check_std(std)
        return std * torch.randn(shape, generator=self._generator, dtype=torch.float64)


def check_std(std: float) -> None:
    """Raise NoiseInvalid unless `std` is finite and above 0."""
    if not (math.isfinite(std) and std > 0):
        raise NoiseInvalid(
            f"the noise's standard deviation is {std}; allowed: a finite number above 0",
            "set noise_multiplier and clip of the contract above 0",
        )


def _uniforms(count: int) -> npt.NDArray[np.float64]:
    """Values of (0, 1] with 53 random bits each, shape [count]."""
    cipher = Cipher(algorithms.AES256(os.urandom(_KEY_BYTES)), modes.CTR(os.urandom(_NONCE_BYTES)))
    stream = cipher.encryptor().update(bytes(8 * count))
    bits = np.frombuffer(stream, dtype="<u8") >> np.uint64(64 - _UNIFORM_BITS)
    return (bits.astype(np.float64) + 1.0) * 2.0**-_UNIFORM_BITS
