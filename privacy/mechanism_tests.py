"""Tests of the installed mechanism, each of one part of its promise.

The real `privacy.training.train` runs on made-up patients, and what it did is read from the update
alone: whether one patient moves a step by no more than the clip, with every way that gradients are
summed; whether the noise is as wide as the contract says over steps and rounds, never used twice
and no seed's; who is drawn into a batch; and whether the claimed epsilon is what another
accountant's code finds for this noise.

Each fails by chance at most once in a million times where nothing is wrong.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Final

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional

from privacy import gaussian
from privacy.contract import PrivacyTerms
from privacy.errors import UnsupportedLayer
from privacy.noise import SecureNoise
from privacy.training import train

_CHANCE: Final = 1e-6
_WIDE: Final = 20_000
_STEPS: Final = 4
_DRAWN_FROM: Final = 1_000
_LOUD: Final = 40.0
_PLD_ERRS: Final = 1e-3
"""Of epsilon: what a privacy loss distribution's discretisation may add."""


@dataclass(frozen=True)
class Check:
    """One test: what was found, beside what was promised."""

    name: str
    passed: bool
    found: str
    promised: str


class _Hooked(nn.Linear):
    """A layer that only hooks know."""


def mechanism_tests(terms: PrivacyTerms) -> Iterator[Check]:
    """One after the other, on one job's terms. Raises NoiseInvalid on terms without noise."""
    if not terms.private:
        raise gaussian.no_noise()
    yield _clip(terms, "closed form", nn.Linear(6, 1))
    yield _clip(
        terms, "closed form of a convolution",
        nn.Sequential(nn.Unflatten(1, (1, 6)), nn.Conv1d(1, 2, 3), nn.Flatten(), nn.Linear(8, 1)),
    )  # fmt: skip
    grouped = nn.Conv1d(2, 2, 2, groups=2)  # ghost clipping knows it, the closed form does not
    yield _clip(
        terms, "ghost clipping",
        nn.Sequential(nn.Unflatten(1, (2, 3)), grouped, nn.Flatten(), nn.Linear(4, 1)),
    )  # fmt: skip
    yield _clip(terms, "hooks", _Hooked(6, 1))
    rounds = [_noise(terms) for _ in range(2)]
    yield _width(terms, torch.cat(rounds))
    yield _fresh(*rounds)
    yield _unseeded(*(_seeded_noise(terms) for _ in range(2)))
    if not terms.full_batch:
        yield _drawn(terms)
    yield _accounted(terms)


def _clip(terms: PrivacyTerms, how: str, model: nn.Module) -> Check:
    """Of the only patient there is, as loud as can be, in one step without noise."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    model = model.double()
    before = _flat(model)
    silent = _silent(terms, 1)
    x = torch.full((1, 6), _LOUD, dtype=torch.float64)
    z = model(x).detach()
    name, promised = f"one patient moves a step by at most the clip ({how})", "at most 1 clip"
    try:
        train(model, _loss, x, (z.squeeze(1) < 0).double(), silent, SecureNoise())
    except UnsupportedLayer:  # the trainer's own check of two sums
        return Check(name, False, "another sum than autograd's", promised)
    norm = float((_flat(model) - before).norm()) / _scale(silent)
    return Check(name, norm <= 1 + 1e-6, f"{norm:.4f} clips", promised)


def _width(terms: PrivacyTerms, noise: Tensor) -> Check:
    """By the sum of squares, which for true noise is chi-square."""
    sigma = float(terms.noise_multiplier) * math.sqrt(_STEPS)
    squares = float(noise.square().sum()) / sigma**2
    low, high = (stats.chi2.ppf(p, len(noise)) for p in (_CHANCE / 2, 1 - _CHANCE / 2))
    found = float(noise.square().mean().sqrt())
    return Check(
        f"the noise of {_STEPS} steps is as wide as the contract says",
        bool(low <= squares <= high), f"{found:.3f} clips", f"{sigma:.3f} clips",
    )  # fmt: skip


def _fresh(one: Tensor, other: Tensor) -> Check:
    found = abs(float(one @ other / (one.norm() * other.norm())))
    allowed = float(stats.norm.ppf(1 - _CHANCE / 2)) / math.sqrt(len(one))
    return Check(
        "no noise is used twice", found <= allowed,
        f"two rounds' correlate {found:.3f}", f"at most {allowed:.3f}, chance",
    )  # fmt: skip


def _unseeded(one: Tensor, other: Tensor) -> Check:
    same = bool((one == other).any())
    found = "values repeat" if same else "no value repeats"
    return Check("no seed repeats the noise", not same, found, "no value repeats")


def _drawn(terms: PrivacyTerms) -> Check:
    """Each patient has a weight of their own, which moves where they were drawn."""
    model = _zero(nn.Linear(_DRAWN_FROM, 1, bias=False))
    once = replace(_silent(terms, 1), sample_rate=terms.sample_rate)
    train(model, _loss, torch.eye(_DRAWN_FROM), torch.ones(_DRAWN_FROM), once, SecureNoise())
    count = int((_flat(model) != 0).sum())
    rate = float(terms.sample_rate)
    low, high = (int(stats.binom.ppf(p, _DRAWN_FROM, rate)) for p in (_CHANCE / 2, 1 - _CHANCE / 2))
    return Check(
        "a batch draws each patient with the contract's chance",
        low <= count <= high, f"{count} of {_DRAWN_FROM}", f"{low} to {high}",
    )  # fmt: skip


def _accounted(terms: PrivacyTerms) -> Check:
    """Of all rounds together, by the privacy loss distributions of `dp-accounting`."""
    from dp_accounting import dp_event  # half a second
    from dp_accounting.pld import PLDAccountant

    step: dp_event.DpEvent = dp_event.GaussianDpEvent(float(terms.noise_multiplier))
    if not terms.full_batch:
        step = dp_event.PoissonSampledDpEvent(float(terms.sample_rate), step)
    accountant = PLDAccountant().compose(step, terms.compositions)
    found = float(accountant.get_epsilon(float(terms.delta)))
    claimed = float(terms.epsilon or 0)
    return Check(
        f"the claim covers all {terms.compositions} steps",
        found <= claimed * (1 + _PLD_ERRS) + _PLD_ERRS,
        f"epsilon {found:.3f} by dp-accounting", f"epsilon {claimed:.3f}",
    )  # fmt: skip


def _noise(terms: PrivacyTerms) -> Tensor:
    """The noise of one round of steps, in clips: of a patient without gradient nothing else is."""
    model = _zero(nn.Linear(_WIDE, 1, bias=False))
    some = replace(terms, rounds=1, steps=_STEPS, epsilon=_enough(terms))
    x, y = torch.ones(1, _WIDE), torch.zeros(1)
    train(model, lambda z, y: 0 * z.squeeze(1), x, y, some, SecureNoise())
    return _flat(model) / _scale(some)


def _seeded_noise(terms: PrivacyTerms) -> Tensor:
    """The same, with every seed there is set to the same; afterwards they are as before."""
    states = torch.get_rng_state(), np.random.get_state()
    try:
        torch.manual_seed(1)
        np.random.seed(1)
        return _noise(terms)
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])


def _enough(terms: PrivacyTerms) -> Decimal:
    """An epsilon that so few steps keep: here the noise is looked at, not the claim."""
    mu = math.sqrt(_STEPS) / float(terms.noise_multiplier)
    return Decimal(math.ceil(gaussian.epsilon(mu, float(terms.delta)) * 100 + 1)) / 100


def _silent(terms: PrivacyTerms, steps: int) -> PrivacyTerms:
    return replace(
        terms, rounds=1, steps=steps, noise_multiplier=Decimal(0), epsilon=None,
        sample_rate=Decimal(1),
    )  # fmt: skip


def _scale(terms: PrivacyTerms) -> float:
    """How far one clip moves the model in one step."""
    return float(terms.learning_rate * terms.clip / terms.divisor)


def _zero(layer: nn.Linear) -> nn.Linear:
    nn.init.zeros_(layer.weight)
    return layer.double()


def _flat(model: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def _loss(logits: Tensor, y: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(logits.squeeze(1), y, reduction="none")
