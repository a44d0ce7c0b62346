"""Check 7 through its public function; what the threshold is worth is measured elsewhere."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rounds_examples import make_example_job, names

from consortium.rounds.checks import near_copy
from consortium.rounds.checks.near_copy import (
    EarlierStep,
    correlation,
    near_copies,
    noise_seen_through,
    repeats_itself,
    residual,
    threshold,
)

JOB = make_example_job(5)
PARTICIPANTS = {p.institution: p for p in JOB.participants}
LIMITS_OF_JOB, SIZE = JOB.thresholds, 241
SIGNAL = float(LIMITS_OF_JOB.residual_signal)


def steps_of(seed: int, signal: float = 0.2, size: int = SIZE) -> dict[str, np.ndarray]:
    """Five honest steps: a signal that all share, and noise of one's own."""
    random = np.random.default_rng(seed)
    shared = signal * random.normal(size=size)
    return {name: shared + random.normal(size=size) for name in names(5)}


def found(steps: dict[str, np.ndarray], earlier: list[EarlierStep] | None = None) -> frozenset[str]:
    return near_copies(steps, earlier or [], PARTICIPANTS, LIMITS_OF_JOB)


def copied(step: np.ndarray, added: float, seed: int = 99) -> np.ndarray:
    """With noise of ``added`` times its norm."""
    noise = np.random.default_rng(seed).normal(size=len(step))
    return step + added * np.linalg.norm(step) / np.linalg.norm(noise) * noise


@pytest.mark.parametrize("seed", range(5))
def test_honest_steps_are_no_copies(seed: int) -> None:
    assert found(steps_of(seed)) == frozenset()


@pytest.mark.parametrize("added", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("scale", [1.0, 0.01, 50.0, -1.0])
def test_a_copy_is_found_and_both_are_named(added: float, scale: float) -> None:
    steps = steps_of(1)
    steps["hospital-4"] = scale * copied(steps["hospital-2"], added)
    assert found(steps) == {"hospital-2", "hospital-4"}


def test_the_threshold_leaves_room_for_honest_pairs_only() -> None:
    one, other = JOB.participants[:2]
    noise = 3.719 / np.sqrt(SIZE)  # what pure noise reaches once in 10,000 pairs, about
    limit = threshold(one, other, SIZE, 1e-4, SIGNAL)
    assert noise < limit < 1
    assert threshold(one, other, SIZE, 1e-6, SIGNAL) > limit
    assert threshold(one, other, 14, 1e-4, SIGNAL) > limit


def test_false_alarms_of_pure_noise_are_as_rare_as_agreed() -> None:
    random, alarms, rounds = np.random.default_rng(7), 0, 4000
    often = LIMITS_OF_JOB.model_copy(update={"false_alarm": "0.01"})
    for _ in range(rounds):
        steps = {name: random.normal(size=31) for name in names(5)}
        alarms += len(near_copies(steps, [], PARTICIPANTS, often)) > 0
    # Each of five at 1 % against all others: a pair in 2.5 % of rounds. Room for signal: fewer.
    assert alarms / rounds < 0.025


def test_of_an_earlier_step_only_the_later_is_named() -> None:
    before, steps = steps_of(1), steps_of(2)
    earlier = [EarlierStep(name, 1, step) for name, step in before.items()]
    assert found(steps, earlier) == frozenset()
    steps["hospital-4"] = copied(before["hospital-2"], 0.2)
    assert found(steps, earlier) == {"hospital-4"}


def test_ones_own_earlier_step_again_is_a_copy_too() -> None:
    before, steps = steps_of(1), steps_of(2)
    steps["hospital-4"] = before["hospital-4"]
    earlier = [EarlierStep(name, 1, step) for name, step in before.items()]
    assert found(steps, earlier) == {"hospital-4"}


@pytest.mark.parametrize("other_job", [False, True])
def test_without_noise_to_tell_by_ones_own_earlier_steps_say_nothing(other_job: bool) -> None:
    quiet = {
        p.institution: p.model_copy(
            update={"terms": p.terms.model_copy(update={"noise_multiplier": "0.01"})}
        )
        for p in JOB.participants
    }
    assert repeats_itself(quiet["hospital-1"], SIZE)
    assert not repeats_itself(PARTICIPANTS["hospital-1"], SIZE)
    steps = steps_of(0)
    own = [EarlierStep("hospital-1", 1, steps["hospital-1"], other_job)]
    assert near_copies(steps, own, quiet, LIMITS_OF_JOB) == frozenset()
    assert near_copies(steps, own, PARTICIPANTS, LIMITS_OF_JOB) == {"hospital-1"}
    another = [EarlierStep("hospital-2", 1, steps["hospital-1"], other_job)]
    assert near_copies(steps, another, quiet, LIMITS_OF_JOB) == {"hospital-1"}


def test_three_equal_steps_are_all_named() -> None:
    steps = steps_of(1)
    steps["hospital-5"] = steps["hospital-4"] = steps["hospital-1"]
    assert found(steps) == {"hospital-1", "hospital-4", "hospital-5"}


def test_zero_steps_are_nobodys_copy_and_divide_nothing() -> None:
    steps = {name: np.zeros(SIZE) for name in names(5)}
    assert found(steps, [EarlierStep("hospital-1", 1, np.zeros(SIZE))]) == frozenset()
    assert correlation(np.zeros(3), np.ones(3)) == 0


def test_nobody_and_one() -> None:
    assert found({}) == frozenset()
    assert found({"hospital-1": np.ones(SIZE)}) == frozenset()


def test_the_residual_has_nothing_of_the_mean_of_those_outside() -> None:
    steps = list(steps_of(3).values())
    left = residual(steps[0], steps[2:])
    assert abs(float(left @ np.sum(steps[2:], axis=0))) < 1e-9 * SIZE
    assert np.array_equal(residual(steps[0], []), steps[0])


def test_the_order_of_the_steps_changes_nothing() -> None:
    steps = steps_of(1)
    steps["hospital-4"] = copied(steps["hospital-2"], 0.3)
    earlier = [EarlierStep(n, 1, s) for n, s in steps_of(7).items()]
    backwards = dict(reversed(steps.items()))
    assert found(steps, earlier) == found(backwards, earlier[::-1])


LIMITS = {name: 0.3 + 0.1 * place for place, name in enumerate(names(5))}


def copies_earlier(step: np.ndarray, outside: list[np.ndarray], earlier: list[EarlierStep]) -> bool:
    limits = np.array([LIMITS[past.institution] for past in earlier])
    steps = np.stack([past.step for past in earlier])
    return near_copy._copies_earlier(step, outside, steps, limits, limits.tolist().__getitem__)


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.0, 3.0), st.integers(0, 4), st.floats(-4, 4))
def test_the_fast_pre_pass_agrees_with_the_exact_path(
    seed: int, added: float, whose: int, magnitude: float
) -> None:
    """Steps of any size, and copies with any noise: those near the limit among them."""
    earlier = [
        EarlierStep(name, 1, 10.0**magnitude * step)
        for past in range(3)
        for name, step in steps_of(seed + past + 1, size=31).items()
    ]
    steps = steps_of(seed, size=31)
    steps["hospital-3"] = copied(earlier[whose].step, added, seed)
    for name, step in steps.items():
        outside = [other for n, other in steps.items() if n != name]
        own = residual(step, outside)
        exact = any(
            abs(correlation(own, residual(past.step, outside))) > LIMITS[past.institution]
            for past in earlier
        )
        assert copies_earlier(step, outside, earlier) == exact


@pytest.mark.parametrize("shift", [-1e-7, -1e-9, -1e-15, 0.0, 1e-15, 1e-9, 1e-7])
def test_a_step_at_the_very_limit_is_decided_by_the_exact_sums(shift: float) -> None:
    steps = steps_of(5, size=31)
    outside = [step for name, step in steps.items() if name != "hospital-1"]
    own = residual(steps["hospital-1"], outside)
    aside = residual(residual(np.random.default_rng(3).normal(size=31), outside), [own])
    aside *= np.linalg.norm(own) / np.linalg.norm(aside)
    angle = np.arccos(LIMITS["hospital-2"]) + shift
    past = np.cos(angle) * own + np.sin(angle) * aside
    decided = correlation(own, residual(past, outside)) > LIMITS["hospital-2"]
    earlier = [EarlierStep("hospital-2", 1, past)]
    assert copies_earlier(steps["hospital-1"], outside, earlier) == decided
    if abs(shift) >= 1e-9:
        assert decided == (shift < 0)


@pytest.mark.parametrize("seed", range(40))
def test_the_first_pass_decides_as_the_exact_sums_do(seed: int) -> None:
    """Every pair, of steps of very different lengths, copies and opposites among them."""
    random = np.random.default_rng(seed)
    size, count = int(random.integers(3, 60)), int(random.integers(2, 9))
    steps = [random.normal(size=size) * 10.0 ** random.integers(-4, 5) for _ in range(count)]
    steps[0] = steps[-1] + random.normal(size=size) * 10.0 ** random.integers(-6, 1)
    if seed % 3 == 0:
        steps[1] = -steps[-1]
    if seed % 5 == 0:
        steps[0] = np.zeros(size)
    rough = near_copy._rough_correlations(np.stack(steps))
    for a in range(count):
        for b in range(a + 1, count):
            outside = [s for i, s in enumerate(steps) if i not in (a, b)]
            exact = abs(
                near_copy.correlation(
                    near_copy.residual(steps[a], outside), near_copy.residual(steps[b], outside)
                )
            )
            # Said to be sure: then right. Not sure: infinity, and the exact sums decide.
            assert rough[a, b] == np.inf or abs(rough[a, b] - exact) < near_copy._ROUGH


def test_who_took_part_in_another_job_only_is_compared_too() -> None:
    steps = steps_of(9)
    earlier = [EarlierStep("hospital-9", 1, steps["hospital-2"].copy(), other_job=True)]
    assert near_copies(steps, earlier, PARTICIPANTS, LIMITS_OF_JOB) == {"hospital-2"}
    other = EarlierStep("hospital-9", 1, steps_of(10)["hospital-2"], other_job=True)
    assert near_copies(steps, [other], PARTICIPANTS, LIMITS_OF_JOB) == frozenset()


@pytest.mark.parametrize("size", [31, 241])
def test_what_noise_may_hide_is_what_hides_one_copy_in_twenty(size: int) -> None:
    one, other = JOB.participants[:2]
    limit = threshold(one, other, size, 1e-4 / 4, SIGNAL)
    added = noise_seen_through(one, other, size, LIMITS_OF_JOB, 5)
    random = np.random.default_rng(4)
    own = random.normal(size=(2000, size))
    noise = random.normal(size=own.shape)
    copies = own + added * noise  # of equal length
    found = [abs(correlation(a, b)) > limit for a, b in zip(own, copies, strict=True)]
    assert 0.92 < np.mean(found) < 0.98
