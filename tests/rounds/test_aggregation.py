import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consortium.rounds.aggregation import average_from, average_of_rounds, weighted_mean
from ledger.content import model_hash


def models(n: int, seed: int = 0) -> dict[str, dict[str, np.ndarray]]:
    random = np.random.default_rng(seed)
    return {
        f"hospital-{i}": {
            "weight": random.normal(size=(2, 3)).astype(np.float32),
            "bias": random.normal(size=2).astype(np.float32),
        }
        for i in range(n)
    }


def test_it_is_the_weighted_mean() -> None:
    updates, weights = models(3), {"hospital-0": 5, "hospital-1": 20, "hospital-2": 75}
    mean = weighted_mean(updates, weights)
    for tensor in ("weight", "bias"):
        stacked = np.stack([updates[name][tensor].astype(np.float64) for name in sorted(updates)])
        assert mean[tensor].dtype == np.float32
        np.testing.assert_allclose(mean[tensor], np.average(stacked, 0, [5, 20, 75]), rtol=1e-6)


@given(st.permutations(list(range(7))), st.lists(st.integers(1, 10**6), min_size=7, max_size=7))
def test_the_order_in_which_updates_arrive_changes_no_bit(
    order: list[int], numbers: list[int]
) -> None:
    updates = models(7)
    weights = dict(zip(updates, numbers, strict=True))
    arrived = [f"hospital-{i}" for i in order]
    shuffled = weighted_mean({n: updates[n] for n in arrived}, {n: weights[n] for n in arrived})
    assert model_hash(shuffled) == model_hash(weighted_mean(updates, weights))


def test_weights_of_those_who_are_not_there_do_not_count() -> None:
    updates = models(2)
    weights = {"hospital-0": 1, "hospital-1": 3, "hospital-9": 1000}
    np.testing.assert_allclose(
        weighted_mean(updates, weights)["bias"],
        0.25 * updates["hospital-0"]["bias"] + 0.75 * updates["hospital-1"]["bias"],
        rtol=1e-6,
    )


def test_one_update_is_its_own_mean_to_the_bit() -> None:
    update = models(1)
    assert model_hash(weighted_mean(update, {"hospital-0": 7})) == model_hash(update["hospital-0"])


def test_a_scalar_and_a_vector_of_one_have_different_hashes() -> None:
    value = np.float32(1.5)
    assert model_hash({"a": np.array(value)}) != model_hash({"a": np.array([value])})


def test_nothing_has_no_mean() -> None:
    with pytest.raises(ValueError, match="no update"):
        weighted_mean({}, {})
    with pytest.raises(ValueError, match="no update"):
        average_of_rounds([])


def test_the_released_model_is_the_mean_of_the_second_half() -> None:
    rounds = list(models(5).values())
    mean = average_of_rounds(rounds)["bias"]
    np.testing.assert_allclose(mean, np.mean([m["bias"] for m in rounds], axis=0), rtol=1e-6)
    assert [average_from(n) for n in (1, 2, 3, 10, 11)] == [1, 2, 2, 6, 6]
