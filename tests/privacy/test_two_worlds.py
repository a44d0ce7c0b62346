"""Two worlds that differ by one patient: what an attacker who sees the update can tell.

An attack on a mu-GDP mechanism has an AUC of at most Phi(mu / sqrt 2) (Dong, Roth, Su 2022). Stock
Opacus is at 1.0 on the first test below: its normaliser and number of steps follow the private n.
"""

from decimal import Decimal

import pytest
import torch
from privacy_examples import example_terms
from scipy.stats import norm
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional

from privacy import gaussian
from privacy.contract import PrivacyTerms
from privacy.noise import NoiseSource, SecureNoise, SeededNoise
from privacy.training import train

DELTA = Decimal("0.00001")
RUNS = 1500


def bce(logits: Tensor, y: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(logits.squeeze(1), y, reduction="none")


def world(n: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(11)
    x = torch.randn(97, 4, generator=generator)
    # The patient who is in one world only: as loud as a patient can be.
    x[96] = torch.tensor([40.0, 0, 0, 0])
    y = (torch.rand(97, generator=generator) > 0.5).float()
    return x[:n], y[:n]


def updates(n: int, terms: PrivacyTerms, noise: NoiseSource) -> Tensor:
    x, y = world(n)
    rows = []
    for _ in range(RUNS):
        model = nn.Linear(4, 1)
        nn.init.zeros_(model.weight)
        nn.init.zeros_(model.bias)
        train(model, bce, x, y, terms, noise)
        rows.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    return torch.stack(rows)


def attacked(terms: PrivacyTerms) -> float:
    """AUC of the likelihood-ratio attack: along the gradient of the patient who is in one world.

    Seeded, since the bounds are a few standard errors of 1,500 runs wide.
    """
    noise = SeededNoise(1, unsafe_no_dp=True)
    return auc(*(updates(n, terms, noise)[:, 0] for n in (97, 96)))


def auc(with_patient: Tensor, without: Tensor) -> float:
    labels = [1] * len(with_patient) + [0] * len(without)
    found = float(roc_auc_score(labels, torch.cat([with_patient, without])))
    return max(found, 1 - found)


def terms_of(mu: float, steps: int, clipping: str) -> PrivacyTerms:
    sigma = Decimal(round(steps**0.5 / mu, 6))
    epsilon = Decimal(round(gaussian.epsilon(mu, float(DELTA)) + 0.001, 4))
    return example_terms(
        rounds=1, steps=steps, noise_multiplier=sigma, epsilon=epsilon, clipping=clipping
    )


@pytest.mark.parametrize("clipping", ["flat", "automatic"])
def test_the_norm_of_an_update_does_not_give_n_away(clipping: str) -> None:
    terms = terms_of(0.1, 3, clipping)
    norms = [updates(n, terms, SecureNoise()).norm(dim=1) for n in (97, 96)]
    assert auc(*norms) < 0.55


@pytest.mark.parametrize("epsilon", [1.0, 3.0])
def test_the_best_attack_reaches_the_bound_and_does_not_pass_it(epsilon: float) -> None:
    mu = gaussian.mu_for(epsilon, float(DELTA))
    terms = terms_of(mu, 1, "flat")
    bound = float(norm.cdf(mu / 2**0.5))
    assert bound - 0.05 < attacked(terms) < bound + 0.03


def test_the_attack_finds_noise_that_is_too_small() -> None:
    mu = gaussian.mu_for(1.0, float(DELTA))
    buggy = terms_of(3 * mu, 1, "flat")
    assert attacked(buggy) > float(norm.cdf(mu / 2**0.5)) + 0.03
