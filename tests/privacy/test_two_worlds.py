"""Two worlds that differ by one patient: what an attacker who sees the update can tell.

An attack on a mu-GDP mechanism has an AUC of at most Phi(mu / sqrt 2) (Dong, Roth, Su 2022). 4,000
runs a world go through the trainer's own steps at once; `test_training.py` holds that these are the
steps of `train`, and the slow test below calls `train` itself. Stock Opacus fails the same attack.
"""

import warnings
from collections.abc import Callable
from decimal import Decimal

import pytest
import torch
from privacy_examples import example_terms
from scipy.stats import norm, rankdata
from torch import Tensor, nn
from torch.nn import functional

from privacy import closed_form, gaussian, opacus_training
from privacy.contract import PrivacyTerms
from privacy.noise import SecureNoise
from privacy.training import clipped_gradient, descend, train, trainable

DELTA = Decimal("0.00001")
RUNS = 4000
WIDTH = 60
PAIRS = [(97, 96), (100, 99)]


class OtherLinear(nn.Linear):
    """A layer that ghost clipping is not used for."""


def linear() -> nn.Module:
    return nn.Linear(WIDTH, 1)


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(WIDTH, 2), nn.Tanh(), nn.Linear(2, 1))


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, WIDTH)), nn.Conv1d(1, 2, 5, stride=5), nn.Tanh(), nn.Flatten(),
        nn.Linear(2 * WIDTH // 5, 1),
    )  # fmt: skip


def grouped() -> nn.Module:
    """Not in closed form."""
    return nn.Sequential(
        nn.Unflatten(1, (2, WIDTH // 2)), nn.Conv1d(2, 2, 5, stride=5, groups=2), nn.Tanh(),
        nn.Flatten(), nn.Linear(2 * WIDTH // 10, 1),
    )  # fmt: skip


def small_cnn() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 6, 10)), nn.Conv2d(1, 2, 3), nn.GroupNorm(2, 2), nn.ReLU(),
        nn.MaxPool2d(2), nn.Conv2d(2, 3, 2), nn.GroupNorm(1, 3), nn.Tanh(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 1),
    )  # fmt: skip


def hooked() -> nn.Module:
    return OtherLinear(WIDTH, 1)


def bce(logits: Tensor, y: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(logits.squeeze(1), y, reduction="none")


def world(n: int, larger: int) -> tuple[Tensor, Tensor]:
    """The first n patients of `larger`; the last one of these is as loud as a patient can be."""
    generator = torch.Generator().manual_seed(11)
    x = torch.randn(larger, WIDTH, generator=generator, dtype=torch.float64)
    x[-1] = 0
    x[-1, 0] = 40
    y = (torch.rand(larger, generator=generator) > 0.5).double()
    y[-1] = 1
    return x[:n], y[:n]


def start_of(make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    model = make().double()
    if make is linear or make is hooked:
        for parameter in model.parameters():
            nn.init.zeros_(parameter)
    return model


def updates(
    make: Callable[[], nn.Module], patients: tuple[Tensor, Tensor], terms: PrivacyTerms
) -> Tensor:
    """What 4,000 runs release, [runs, parameters]: each from the same start, of one round.

    Only linear models and MLPs are stacked. Of others one step's sum, which all runs share, is
    computed once; noise, normaliser and step are each run's own.
    """
    x, y = patients
    model = start_of(make)
    begin = torch.cat([p.detach().flatten() for p in model.parameters()])
    many = closed_form.stacked(model, RUNS)
    if closed_form.stackable(model, x):
        gradient = clipped_gradient(many, bce, x, y, terms)
    else:
        assert terms.steps == 1
        assert terms.full_batch
        once = clipped_gradient(model, bce, x, y, terms)(None)

        def gradient(batch: Tensor | None) -> list[Tensor]:
            return [part.expand(RUNS, *part.shape) for part in once]

    descend(trainable(many), gradient, terms, SecureNoise(), (RUNS, len(x)))
    return torch.cat([p.detach().flatten(1) for p in many.parameters()], dim=1) - begin


def auc(with_patient: Tensor, without: Tensor) -> float:
    ranks = rankdata(torch.cat([with_patient, without]))
    count = len(with_patient)
    wins = float(ranks[:count].sum()) - count * (count + 1) / 2
    found = wins / (count * len(without))
    return max(found, 1 - found)


def terms_of(mu: float, steps: int, clipping: str, rate: str = "1") -> PrivacyTerms:
    sigma = Decimal(round(steps**0.5 / mu, 6))
    epsilon = Decimal(round(gaussian.epsilon(mu, float(DELTA)) + 0.001, 4))
    return example_terms(
        rounds=1, steps=steps, noise_multiplier=sigma, epsilon=epsilon, clipping=clipping,
        sample_rate=Decimal(rate),
    )  # fmt: skip


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize(
    ("make", "steps", "clipping", "rate"),
    [
        (linear, 3, "flat", "1"),
        (mlp, 3, "automatic", "1"),
        (linear, 3, "automatic", "0.2"),
        (small_cnn, 1, "flat", "1"),
        (grouped, 1, "flat", "1"),
        (hooked, 1, "automatic", "1"),
    ],
    ids=["closed-form", "closed-form-mlp", "poisson", "closed-form-cnn", "ghost", "hooks"],
)
def test_the_norm_of_an_update_does_not_give_n_away(
    make: Callable[[], nn.Module], steps: int, clipping: str, rate: str, pair: tuple[int, int]
) -> None:
    model, x = start_of(make), world(2, 2)[0]
    assert closed_form.supports(model, x) == (make not in (grouped, hooked))
    assert opacus_training.supports_ghost(model) == (make is not hooked)
    terms = terms_of(0.1, steps, clipping, rate)
    norms = [updates(make, world(n, pair[0]), terms).norm(dim=1) for n in pair]
    assert auc(*norms) < 0.55


@pytest.mark.parametrize("epsilon", [1.0, 3.0])
@pytest.mark.parametrize("make", [linear, small_cnn, grouped, hooked])
def test_the_best_attack_reaches_the_bound_and_does_not_pass_it(
    make: Callable[[], nn.Module], epsilon: float
) -> None:
    mu = gaussian.mu_for(epsilon, float(DELTA))
    # Normalised images are never loud: automatic clipping makes everybody's gradient a clip long.
    terms = terms_of(mu, 1, "automatic" if make is small_cnn else "flat")
    bound = float(norm.cdf(mu / 2**0.5))
    assert bound - 0.05 < attacked(make, terms) < bound + 0.03


def attacked(make: Callable[[], nn.Module], terms: PrivacyTerms) -> float:
    """AUC of the likelihood-ratio attack: along the gradient of the patient who is in one world."""
    x, y = world(97, 97)
    loud = clipped_gradient(start_of(make), bce, x[-1:], y[-1:], terms)(None)
    direction = torch.cat([part.flatten() for part in loud])
    return auc(*(updates(make, world(n, 97), terms) @ direction for n in (97, 96)))


def test_on_a_sample_the_best_attack_does_as_well_as_the_draw_allows() -> None:
    mu = gaussian.mu_for(3.0, float(DELTA))
    drawn = 0.5
    bound = (1 - drawn) / 2 + drawn * float(norm.cdf(mu / 2**0.5))
    assert bound - 0.03 < attacked(linear, terms_of(mu, 1, "flat", str(drawn))) < bound + 0.03


def test_the_attack_finds_noise_that_is_too_small() -> None:
    mu = gaussian.mu_for(1.0, float(DELTA))
    buggy = terms_of(3 * mu, 1, "flat")
    assert attacked(linear, buggy) > float(norm.cdf(mu / 2**0.5)) + 0.03


def test_stock_opacus_gives_n_away() -> None:
    """The first test's attack, on what `make_private` makes of n: steps and normaliser from it."""
    norms = [torch.stack([stock_update(n) for _ in range(25)]) for n in (97, 96)]
    assert auc(*norms) > 0.7


def stock_update(n: int) -> Tensor:
    """The norm of one epoch's update, batches of 16, epsilon about a quarter."""
    from opacus import PrivacyEngine
    from torch.utils.data import DataLoader, TensorDataset

    x, y = world(n, 97)
    model = nn.Linear(WIDTH, 1).double()
    begin = [p.detach().clone() for p in model.parameters()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, optimizer, loader = PrivacyEngine().make_private(
            module=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.5),
            data_loader=DataLoader(TensorDataset(x, y), batch_size=16), noise_multiplier=8.0,
            max_grad_norm=1.0,
        )  # fmt: skip
        for part, labels in loader:
            optimizer.zero_grad()
            bce(model(part), labels).mean().backward()
            optimizer.step()
    pairs = zip(model.parameters(), begin, strict=True)
    return torch.cat([(p.detach() - old).flatten() for p, old in pairs]).norm()


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize(
    ("make", "steps", "rate"),
    [(linear, 3, "1"), (linear, 3, "0.2"), (convolutional, 2, "1"), (convolutional, 2, "0.2"),
     (grouped, 2, "1"), (grouped, 2, "0.2"), (hooked, 2, "1")],
    ids=["closed-form", "poisson", "convolution", "convolution-poisson", "ghost", "ghost-poisson",
         "hooks"],
)  # fmt: skip
def test_the_norm_does_not_give_n_away_through_train_itself(
    make: Callable[[], nn.Module], steps: int, rate: str, pair: tuple[int, int]
) -> None:
    terms = terms_of(0.1, steps, "flat", rate)
    norms = []
    for n in pair:
        x, y = world(n, pair[0])
        rows = []
        for _ in range(RUNS):
            model = start_of(make)
            begin = [p.detach().clone() for p in model.parameters()]
            train(model, bce, x, y, terms, SecureNoise())
            moved = zip(model.parameters(), begin, strict=True)
            rows.append(torch.cat([(p.detach() - old).flatten() for p, old in moved]).norm())
        norms.append(torch.stack(rows))
    assert auc(*norms) < 0.55
