"""The noise: its moments and law, that nothing predicts it, and that seeds are named unsafe."""

import multiprocessing as mp

import numpy as np
import pytest
import torch
from scipy import stats

from privacy.errors import NoiseInvalid, SeededNoiseForbidden
from privacy.noise import SecureNoise, SeededNoise, normal_draws


def test_secure_noise_is_normal() -> None:
    values = SecureNoise().normal((200_000,), 3.0).numpy() / 3.0
    assert abs(values.mean()) < 5 / np.sqrt(len(values))
    assert abs(values.var() - 1) < 5 * np.sqrt(2 / len(values))
    assert abs(stats.skew(values)) < 0.04
    assert abs(stats.kurtosis(values)) < 0.08
    assert stats.kstest(values, "norm").pvalue > 1e-5
    assert np.abs(values).max() > 3.9


def test_neighbouring_values_are_independent() -> None:
    values = SecureNoise().normal((100_000,), 1.0).numpy()
    for lag in (1, 2, 4):
        assert abs(np.corrcoef(values[:-lag], values[lag:])[0, 1]) < 0.02
        assert abs(np.corrcoef(values[:-lag] ** 2, values[lag:] ** 2)[0, 1]) < 0.02


@pytest.mark.parametrize("shape", [(), (1,), (3, 5), (2, 3, 4), (0,)])
def test_shape_and_precision(shape: tuple[int, ...]) -> None:
    for source in (SecureNoise(), SeededNoise(1, unsafe_no_dp=True)):
        values = source.normal(shape, 1.0)
        assert values.shape == torch.Size(shape)
        assert values.dtype == torch.float64


def test_seeding_torch_and_numpy_changes_nothing() -> None:
    source = SecureNoise()
    draws = []
    for _ in range(2):
        torch.manual_seed(7)
        np.random.seed(7)
        draws.append(source.normal((8,), 1.0))
    assert not torch.equal(*draws)


def _draw(source: SecureNoise, pipe: "mp.connection.Connection") -> None:  # type: ignore[name-defined]
    pipe.send(source.normal((4,), 1.0).tolist())
    pipe.close()


def test_draws_of_some_steps_at_once_are_as_many_and_all_different() -> None:
    """More than one block of them, and blocks of one."""
    for count, size in ((70, 1000), (3, 40_000)):
        draws = list(normal_draws(SecureNoise(), count, (size,), 2.0))
        assert [tuple(draw.shape) for draw in draws] == [(size,)] * count
        values = torch.stack(draws)
        assert len(values.unique()) == values.numel()
        assert float(values.std()) == pytest.approx(2.0, rel=0.02)
    seeded = [SeededNoise(1, unsafe_no_dp=True) for _ in range(2)]
    one_by_one = [seeded[0].normal((3,), 1.0) for _ in range(4)]
    assert torch.equal(torch.stack(list(normal_draws(seeded[1], 4, (3,), 1.0))),
                       torch.stack(one_by_one))  # fmt: skip


def test_forked_processes_share_no_noise() -> None:
    context = mp.get_context("fork")
    source = SecureNoise()
    source.normal((4,), 1.0)
    seen = [tuple(source.normal((4,), 1.0).tolist())]
    for _ in range(3):
        here, there = context.Pipe()
        child = context.Process(target=_draw, args=(source, there))
        child.start()
        seen.append(tuple(here.recv()))
        child.join()
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize("std", [0.0, -1.0, float("nan"), float("inf")])
def test_a_deviation_that_hides_nothing_is_refused(std: float) -> None:
    for source in (SecureNoise(), SeededNoise(1, unsafe_no_dp=True)):
        with pytest.raises(NoiseInvalid):
            source.normal((2,), std)


def test_seeded_noise_must_be_called_unsafe() -> None:
    for asked in ({}, {"unsafe_no_dp": False}, {"unsafe_no_dp": 1}):
        with pytest.raises(SeededNoiseForbidden):
            SeededNoise(1, **asked)  # type: ignore[arg-type]
    source = SeededNoise(1, unsafe_no_dp=True)
    assert source.private is False
    assert SecureNoise().private is True
    same = SeededNoise(1, unsafe_no_dp=True)
    assert torch.equal(source.normal((3,), 2.0), same.normal((3,), 2.0))
