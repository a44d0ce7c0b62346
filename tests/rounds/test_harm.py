"""Check 8, what a validator attests: how far a proof may fall."""

from dataclasses import replace
from typing import Any

import numpy as np
from rounds_examples import make_context, make_example_job

from consortium import weights as weight_forms
from consortium.rounds.checks import EarlierStep, Examined, RoundContext
from consortium.rounds.checks.harm import (
    held_harmful,
    held_missed,
    is_harmful,
    is_missed,
    tolerated_drop,
)
from consortium.rounds.verdict import Validator, findings
from ledger.content import Weights
from ledger.records import Finding

NAME = "hospital-1"
LABELS = np.repeat([0.0, 1.0], 10)


def test_harmful_is_a_drop_beyond_the_tolerance() -> None:
    assert not is_harmful(0.75, 0.90, 1501)
    assert is_harmful(0.74, 0.90, 1500)
    assert not is_harmful(0.95, 0.90, 0)


def test_what_is_tolerated_rises_with_the_noise_over_the_model() -> None:
    context = make_context(size=8.0)
    drop = context.job.thresholds.drop
    little, more = (
        tolerated_drop(replace(context, job=make_example_job(epsilon=epsilon)), NAME)
        for epsilon in ("3", "0.5")
    )
    assert drop < little < more < 10_000
    longer = {name: 10 * array for name, array in context.model.items()}
    assert tolerated_drop(replace(context, model=longer), NAME) < tolerated_drop(context, NAME)


def test_of_a_model_of_zeros_nothing_is_said() -> None:
    context = make_context(size=0.0)
    assert not np.any(context.model["weight"])
    assert tolerated_drop(context, NAME) == 10_000
    assert not is_harmful(0.0, 1.0, 10_000)


def test_missed_is_who_makes_the_model_better_by_a_tenth() -> None:
    assert is_missed(0.851, 0.75)
    assert not is_missed(0.85, 0.75)
    assert not is_missed(0.5, 0.9)
    assert not is_missed(0.9, 0.75, deviation=0.02)
    assert is_missed(0.9, 0.7, deviation=0.02)


def votes(*harmful: bool | None) -> list[Finding]:
    return [
        Finding(institution=NAME, code="Harmful", score=None, harmful=one, shapley=None)
        for one in harmful
    ]


def test_half_of_those_who_judge_are_enough_to_be_missed_and_more_than_half_to_be_harmful() -> None:
    assert held_missed(votes(False, True, None), liars=0)
    assert not held_missed(votes(False, True, True), liars=0)
    assert held_missed(votes(False, False, True), liars=0)
    assert not held_missed(votes(None, None, None), liars=0)
    assert not held_missed(votes(False, True, None), liars=1)
    assert not held_missed([], liars=0)
    assert not held_harmful(votes(False, True), liars=1)


def test_friends_alone_do_not_make_one_missed() -> None:
    for size, friends in ((4, 0), (7, 1), (10, 2), (21, 10)):
        honest: list[bool | None] = [True] * (size - friends - 1)
        assert not held_missed(votes(*[False] * friends, *honest), friends)
        assert not held_missed(votes(*[False] * friends, *[None] * len(honest)), friends)


def predict(models: Weights) -> np.ndarray:
    """Right if a model's numbers add up to more than 0, wrong if to less."""
    total = sum(array.reshape(len(array), -1).sum(axis=1) for array in models.values())
    return np.outer(total, 2 * LABELS - 1)


def named(pull: float, **changes: Any) -> RoundContext:
    """After a round in which one pulled so far and the three others by one the other way."""
    context = make_context()
    size = len(weight_forms.vector(context.model))
    steps = [EarlierStep(f"hospital-{i}", 1, np.full(size, -1.0)) for i in (2, 3, 4)]
    model = {n: np.full_like(a, (pull - 3) / 4) for n, a in context.model.items()}
    earlier = (EarlierStep(NAME, 1, np.full(size, pull)), *steps)
    return replace(context, **({"model": model, "earlier": earlier} | changes))


def said(
    context: RoundContext, by: str = "hospital-2", few: bool = False, step: float = 0.0
) -> Finding:
    """What one validator finds of it once it is said to go against the others."""
    update = {name: array + np.float32(step) for name, array in context.model.items()}
    examined = {NAME: Examined("Harmful", update)}
    validator = Validator(LABELS[:12] if few else LABELS, predict)
    (found,) = findings(context, examined, validator, by, contributions=False)
    return found


def test_a_validator_says_whether_its_patients_would_miss_what_one_taught() -> None:
    assert said(named(4.0)).harmful is False  # .25 with it, -1 without
    assert said(named(2.0)).harmful is True  # -.25 with it
    assert (said(named(4.0)).code, said(named(4.0)).score) == ("Harmful", None)
    assert said(named(4.0), by=NAME).harmful is None
    assert said(named(4.0), few=True).harmful is None


def test_what_it_submits_now_counts_too() -> None:
    """Nobody is spared for what it taught once, whose step of this round undoes it."""
    assert said(named(4.0), step=-0.9).harmful is False  # .25 less a fourth of that
    assert said(named(4.0), step=-1.1).harmful is True


def test_of_whom_nothing_was_accepted_nothing_is_missed() -> None:
    context = named(4.0)
    rejected = [replace(step, code="NearCopy") for step in context.earlier[:1]]
    assert said(replace(context, earlier=(*rejected, *context.earlier[1:]))).harmful is True


def test_who_is_left_out_already_is_judged_by_the_model_with_it() -> None:
    without = {n: np.full_like(a, -1.0) for n, a in named(4.0).model.items()}
    assert said(named(4.0, model=without, left_out=frozenset({NAME}))).harmful is False
    # Doubted in a round that made no model: what it taught is in the newest one.
    assert said(named(4.0, doubted=frozenset({NAME}))).harmful is False
    good = {n: np.full_like(a, 3.0) for n, a in named(4.0).model.items()}
    assert said(named(4.0, model=good)).harmful is True  # with it, and without
