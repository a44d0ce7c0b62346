"""Two worlds: how much the installed trainer gives away of one patient, measured from outside.

The adversary of the definition: one patient is in one world and not in the other; whole jobs are
trained in worlds that a fair coin chooses, and whoever sees the end of a job guesses its world.
Each guess is right with the same chance, independently, so a count of right ones bounds that chance
from below (Clopper, Pearson 1934), and the chance bounds epsilon from below:

* full batches: no test on a mu-GDP mechanism is right more often than Phi(mu / 2) (Dong, Roth, Su
  2022), so mu is at least 2 Phi^-1(chance), as in Nasr et al. 2023 (arXiv:2302.07956);
* sampled batches, which are not Gaussian: (epsilon, delta) allows at most
  1 - (1 - delta) / (1 + exp(epsilon)), as in Nasr et al. 2021.

Guesses that are right more often than the claim allows, by more than chance does once in a million
audits, are an alarm: there is a bug. A bound at 95 % above the claim is none yet: a trainer that
uses its claim up is above it in one of twenty. A bound below it proves nothing: this adversary is
one of many.

Jobs go through `privacy.training.descend`, thousands at once: the very steps that `train` takes.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Final

import torch
from scipy import stats
from torch import Tensor, nn

from privacy import gaussian
from privacy.closed_form import PerPatientLoss, stackable, stacked
from privacy.contract import PrivacyTerms
from privacy.errors import UnsupportedLayer
from privacy.noise import SecureNoise
from privacy.training import clipped_gradient, descend, trainable

CONFIDENCE: Final = 0.95
ALARM: Final = 1 - 1e-6
"""Confidence of an alarm."""
_AT_ONCE: Final = 500

Progress = Callable[[int], None]
"""Hears how many jobs more were trained."""


@dataclass(frozen=True)
class Bound:
    """What the guesses prove with 95 % confidence, beside what the contract claims.

    right_at_least: chance of a right guess; right_claimed: the best chance that the claim allows.
    epsilon_at_least: at `delta`, what the chance proves. passed: False if the chance is above what
    the claim allows by more than chance does once in a million audits.
    """

    jobs: int
    right: int
    right_at_least: float
    right_claimed: float
    epsilon_at_least: float
    epsilon_claimed: float
    delta: float
    passed: bool


def two_worlds(
    model: nn.Module,
    loss: PerPatientLoss,
    x: Tensor,
    y: Tensor,
    terms: PrivacyTerms,
    jobs: int = 8000,
    progress: Progress = lambda more: None,
) -> Bound:
    """Trains `jobs` whole jobs from `model`, and guesses whether the last patient was in each.

    model, loss: a linear model or MLP. x: [n, d], y: [n], made up; the others are best quiet, and
    the last one loud. The guess looks along the way that the last patient moves the model when
    there is no noise, and its threshold lies halfway: neither is fitted to what is judged.

    Raises UnsupportedLayer for another model, NoiseInvalid without noise.
    """
    if terms.epsilon is None:
        raise gaussian.no_noise()
    if not stackable(model, x):
        raise UnsupportedLayer(
            "only linear models and MLPs are trained by the thousand at once",
            "audit a linear model or MLP; the mechanism tests cover the rest of the trainer",
        )
    whole = replace(terms, rounds=1, steps=terms.compositions)
    # Without noise a sampled job moves on average as one on full batches does.
    quiet = replace(whole, noise_multiplier=Decimal(0), epsilon=None, sample_rate=Decimal(1))
    model = model.double()
    inside, outside = (x, y), (x[:-1], y[:-1])
    ends = [_ends(model, loss, *world, quiet, 1)[0] for world in (inside, outside)]
    way, threshold = ends[0] - ends[1], float((ends[0] + ends[1]) @ (ends[0] - ends[1]) / 2)
    right = done = 0
    while done < jobs:
        count = min(_AT_ONCE, jobs - done)
        heads = int(SecureNoise().chosen((count,), Decimal("0.5")).sum())
        guessed = _ends(model, loss, *inside, whole, heads) @ way > threshold
        right += int(guessed.sum())
        guessed = _ends(model, loss, *outside, whole, count - heads) @ way <= threshold
        right += int(guessed.sum())
        done += count
        progress(count)
    return _bound(terms, jobs, right)


def _bound(terms: PrivacyTerms, jobs: int, right: int) -> Bound:
    epsilon, delta = float(terms.epsilon or 0), float(terms.delta)
    chance = _at_least(jobs, right, CONFIDENCE)
    if terms.full_batch:
        claimed = float(stats.norm.cdf(gaussian.mu_for(epsilon, delta) / 2))
        found = gaussian.epsilon(max(0.0, 2 * float(stats.norm.ppf(chance))), delta)
    else:
        claimed = min(1 - (1 - delta) / (1 + math.exp(epsilon)), _best_on_samples(terms))
        found = math.log(max(1.0, (chance - delta) / (1 - chance)))
    passed = _at_least(jobs, right, ALARM) <= claimed
    return Bound(jobs, right, chance, claimed, found, epsilon, delta, passed)


def _at_least(jobs: int, right: int, confidence: float) -> float:
    return float(stats.beta.ppf(1 - confidence, right, jobs - right + 1)) if right else 0.0


def _best_on_samples(terms: PrivacyTerms) -> float:
    """The best chance of a right guess against the contract's noise: delta at epsilon 0 is how far
    apart the worlds are.
    """
    from dp_accounting import dp_event  # half a second that full batches do without
    from dp_accounting.pld import PLDAccountant

    noise = dp_event.GaussianDpEvent(float(terms.noise_multiplier))
    step = dp_event.PoissonSampledDpEvent(float(terms.sample_rate), noise)
    accountant = PLDAccountant().compose(step, terms.compositions)
    return (1 + float(accountant.get_delta(0.0))) / 2


def _ends(
    model: nn.Module, loss: PerPatientLoss, x: Tensor, y: Tensor, terms: PrivacyTerms, runs: int
) -> Tensor:
    """Where `runs` jobs end, [runs, parameters]."""
    many = stacked(model, runs)
    gradient = clipped_gradient(many, loss, x.double(), y.double(), terms)
    descend(trainable(many), gradient, terms, SecureNoise(), (runs, len(x)))
    return torch.cat([p.detach().flatten(1) for p in trainable(many)], dim=1)
