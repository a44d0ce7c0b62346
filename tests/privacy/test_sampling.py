"""Poisson sampling in the trainer: who is drawn, from where, and what a step then is."""

import dataclasses
from decimal import Decimal

import pytest
import torch
from privacy_examples import example_terms
from scipy import stats
from test_training import bce, cross_entropy, data, linear, mlp
from torch import Tensor, nn

from privacy import closed_form, errors
from privacy.closed_form import stacked
from privacy.noise import SecureNoise, SeededNoise
from privacy.training import clipped_gradient, descend, train, trainable

SAMPLED = example_terms(sample_rate=Decimal("0.25"), steps=3)


class Scripted:
    """Batches as written down, noise of one value."""

    private = False

    def __init__(self, batches: Tensor, value: float) -> None:
        self._batches, self._value = list(batches), value
        self.asked: list[tuple[tuple[int, ...], Decimal]] = []

    def chosen(self, shape: tuple[int, ...], chance: Decimal) -> Tensor:
        self.asked.append((shape, chance))
        return self._batches.pop(0)

    def normal(self, shape: tuple[int, ...], std: float) -> Tensor:
        return torch.full(shape, self._value * std, dtype=torch.float64)


def test_a_step_sums_its_batch_and_divides_by_a_public_constant() -> None:
    x, y = data(n=8)
    batches = torch.zeros(2, 8, dtype=torch.bool)
    batches[0, [1, 4]] = True  # and nobody in the second step
    noise = Scripted(batches, 0.01)
    terms = dataclasses.replace(SAMPLED, steps=2, noise_multiplier=Decimal(20))
    model, expected = linear().double(), linear().double()
    train(model, bce, x, y, terms, noise)
    rate = 0.5 / (0.25 * 100)
    sums = closed_form.clipped_sum(expected, bce, x[[1, 4]], y[[1, 4]], 1.0, "flat")
    for old, new, total in zip(expected.parameters(), model.parameters(), sums, strict=True):
        assert torch.allclose(new, old - rate * (total + 2 * 0.01 * 20), rtol=0, atol=1e-13)
    assert noise.asked == [((8,), Decimal("0.25"))] * 2


def test_a_convolutional_model_takes_the_same_batches() -> None:
    x, y = data(n=8, d=6)
    model = nn.Sequential(nn.Unflatten(1, (1, 6)), nn.Conv1d(1, 1, 6), nn.Flatten()).double()
    plain = nn.Linear(6, 1).double()
    for mine, theirs in zip(plain.parameters(), model.parameters(), strict=True):
        mine.data = theirs.detach().clone().view(mine.shape)
    for one in (model, plain):
        train(one, bce, x, y, SAMPLED, SeededNoise(4, unsafe_no_dp=True))
    for mine, theirs in zip(plain.parameters(), model.parameters(), strict=True):
        assert torch.allclose(mine.flatten(), theirs.flatten(), rtol=0, atol=1e-12)


def test_each_is_drawn_with_the_rate_and_by_nobodys_seed() -> None:
    source, shape = SecureNoise(), (400, 250)
    draws = []
    for _ in range(2):
        torch.manual_seed(3)
        draws.append(source.chosen(shape, Decimal("0.2")))
    assert not torch.equal(*draws)
    for drawn in (*draws, SeededNoise(1, unsafe_no_dp=True).chosen(shape, Decimal("0.2"))):
        assert drawn.dtype == torch.bool
        assert stats.binomtest(int(drawn.sum()), drawn.numel(), 0.2).pvalue > 1e-7
        sizes = drawn.sum(dim=1).double()  # of independent draws: 250 * .2 * .8
        assert 25 < float(sizes.var()) < 60
    assert source.chosen((5,), Decimal(1)).all()


@pytest.mark.parametrize("rate", ["0", "1.5", "NaN"])
def test_a_chance_that_is_none_is_refused(rate: str) -> None:
    for source in (SecureNoise(), SeededNoise(1, unsafe_no_dp=True)):
        with pytest.raises(errors.SampleRateInvalid):
            source.chosen((2,), Decimal(rate))


class OneRunOf:
    """What one run of many draws: the rows of recorded draws."""

    private = False

    def __init__(self, draws: list[Tensor], run: int) -> None:
        self._draws = [draw[run] for draw in draws]

    def normal(self, shape: tuple[int, ...], std: float) -> Tensor:
        return self._draws.pop(0)

    def chosen(self, shape: tuple[int, ...], chance: Decimal) -> Tensor:
        return self._draws.pop(0)


class Recorded:
    """Remembers what it drew."""

    private = True

    def __init__(self) -> None:
        self.draws: list[Tensor] = []
        self._source = SecureNoise()

    def normal(self, shape: tuple[int, ...], std: float) -> Tensor:
        self.draws.append(self._source.normal(shape, std))
        return self.draws[-1]

    def chosen(self, shape: tuple[int, ...], chance: Decimal) -> Tensor:
        self.draws.append(self._source.chosen(shape, chance))
        return self.draws[-1]


@pytest.mark.parametrize("rate", ["1", "0.25"])
@pytest.mark.parametrize("make", [linear, mlp])
def test_many_runs_at_once_are_the_trainer_run_many_times(make: object, rate: str) -> None:
    x, y = data(n=30, classes=3 if make is mlp else 2)
    loss = cross_entropy if make is mlp else bce
    terms = dataclasses.replace(SAMPLED, sample_rate=Decimal(rate), clipping="automatic")
    model = make().double()  # type: ignore[operator]
    many, source = stacked(model, 3), Recorded()
    gradient = clipped_gradient(many, loss, x, y, terms)
    descend(trainable(many), gradient, terms, source, (3, 30))
    for run in range(3):
        one = make().double()  # type: ignore[operator]
        train(one, loss, x, y, terms, OneRunOf(source.draws, run))
        for a, b in zip(one.parameters(), many.parameters(), strict=True):
            assert torch.allclose(a, b[run], rtol=0, atol=1e-12)
