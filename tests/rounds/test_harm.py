"""Check 8, what a validator attests: how far a proof may fall."""

from dataclasses import replace

import numpy as np
from rounds_examples import make_context, make_example_job

from consortium.rounds.checks.harm import is_harmful, tolerated_drop

NAME = "hospital-1"


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
