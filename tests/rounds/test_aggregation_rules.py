"""Median, trimmed mean and Krum: what they compute, to the bit, and what they bear."""

import os
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rounds_examples import (
    CREDITS,
    all_records,
    make_context,
    make_example_job,
    names,
    reveal_all,
    submissions,
)

from consortium.contract import check_job
from consortium.errors import JobInvalid
from consortium.rounds.aggregation import (
    FEWEST,
    coalition_models,
    new_model,
    weighted_mean,
)
from consortium.rounds.checks import examine
from consortium.rounds.result import derive_result
from ledger.content import Weights, model_hash
from ledger.quorum import faulty
from ledger.records import Aggregation, Job

RULES: tuple[Aggregation, ...] = get_args(Aggregation)
ROBUST = [rule for rule in RULES if rule != "weighted-mean"]


def job(rule: Aggregation, n: int) -> Job:
    return make_example_job(n).model_copy(update={"aggregation": rule})


def updates(n: int, seed: int = 0) -> dict[str, Weights]:
    random = np.random.default_rng(seed)
    return {
        name: {
            "weight": random.normal(size=(2, 3)).astype(np.float32),
            "bias": random.normal(size=2).astype(np.float32),
        }
        for name in names(n)
    }


def column(shown: dict[str, Weights], tensor: str = "bias") -> np.ndarray:
    return np.stack([shown[name][tensor].astype(np.float64) for name in sorted(shown)])


@pytest.mark.parametrize("n", [3, 4, 5, 6, 7, 10])
def test_the_median_is_numpys(n: int) -> None:
    shown = updates(n)
    for tensor in ("weight", "bias"):
        expected = np.median(column(shown, tensor), axis=0).astype(np.float32)
        assert (new_model(job("median", n), shown)[tensor] == expected).all()


@pytest.mark.parametrize(("n", "f"), [(4, 1), (6, 1), (7, 2), (10, 3)])
def test_the_trimmed_mean_leaves_out_as_many_of_each_end_as_may_lie(n: int, f: int) -> None:
    shown = updates(n)
    kept = np.sort(column(shown), axis=0)[f : n - f]
    model = new_model(job("trimmed-mean", n), shown)
    np.testing.assert_allclose(model["bias"], kept.mean(axis=0), rtol=1e-6)


def krum_of(shown: dict[str, Weights], f: int) -> str:
    """As Blanchard et al. write it."""
    flat = {n: np.concatenate([w[t].ravel() for t in sorted(w)]) for n, w in shown.items()}
    scores = {
        own: sum(
            sorted(float(((vector - other) ** 2).sum()) for name, other in flat.items()
                   if name != own)[: len(flat) - f - 2]
        )
        for own, vector in flat.items()
    }  # fmt: skip
    return min(scores, key=lambda name: scores[name])


@pytest.mark.parametrize(("n", "f"), [(5, 1), (7, 2), (10, 3)])
def test_krum_takes_one_update_as_it_is(n: int, f: int) -> None:
    chosen = set()
    for seed in range(8):
        shown = updates(n, seed)
        expected = krum_of(shown, f)
        assert model_hash(new_model(job("krum", n), shown)) == model_hash(shown[expected])
        chosen.add(expected)
    assert len(chosen) > 2


def test_of_two_updates_that_krum_finds_equal_it_takes_the_first() -> None:
    shown = dict.fromkeys(names(5), updates(1)["hospital-1"])
    shown["hospital-1"] = updates(1, 1)["hospital-1"]
    assert model_hash(new_model(job("krum", 5), shown)) == model_hash(shown["hospital-2"])


@pytest.mark.parametrize("rule", ROBUST)
def test_f_liars_of_seven_move_it_no_further_than_the_honest_lie_apart(rule: Aggregation) -> None:
    honest = updates(7)
    values = column({n: honest[n] for n in names(5)})
    for lie in (1e6, -1e30):
        lied = {**honest, **{n: {t: np.full_like(a, lie) for t, a in honest[n].items()}
                             for n in names(7)[5:]}}  # fmt: skip
        model = new_model(job(rule, 7), lied)["bias"]
        assert (values.min(axis=0) - 1e-6 <= model).all()
        assert (model <= values.max(axis=0) + 1e-6).all()
    assert np.abs(new_model(job("weighted-mean", 7), lied)["bias"]).max() > 1e28


@pytest.mark.parametrize("rule", RULES)
@given(order=st.permutations(list(range(7))), zeros=st.lists(st.booleans(), min_size=7, max_size=7))
@settings(max_examples=15)
def test_neither_order_nor_the_sign_of_a_zero_changes_a_bit(
    rule: Aggregation, order: list[int], zeros: list[bool]
) -> None:
    """How a sort orders -0 and 0 differs between machines."""
    shown = updates(7)
    signed = {
        name: {**weights, "zero": np.array([-0.0 if zeros[i] else 0.0], np.float32)}
        for i, (name, weights) in enumerate(shown.items())
    }
    plain = {name: {**w, "zero": np.zeros(1, np.float32)} for name, w in shown.items()}
    arrived = {names(7)[i]: signed[names(7)[i]] for i in order}
    assert model_hash(new_model(job(rule, 7), arrived)) == model_hash(
        new_model(job(rule, 7), plain)
    )


_HASHES = """
import numpy as np
from types import SimpleNamespace as New
from consortium.rounds.aggregation import FEWEST, new_model
from ledger.content import model_hash
random = np.random.default_rng(3)
updates = {f"h{i:02}": {"w": random.normal(size=(300, 40)).astype("f4")} for i in range(11)}
participants = [New(institution=name, weight=10 + i) for i, name in enumerate(updates)]
hashes = [
    model_hash(new_model(New(aggregation=rule, participants=participants), updates))
    for rule in FEWEST
]
"""


def test_the_number_of_threads_and_what_the_processor_can_do_change_no_bit() -> None:
    """Another process, with one thread and without the wide instructions."""
    here: dict[str, list[str]] = {}
    exec(_HASHES, here)
    narrow = {
        "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1",
        "NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX AVX2 FMA3",
    }  # fmt: skip
    there = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", f"{_HASHES}\nprint(*hashes)"],
        capture_output=True, text=True, check=True, env={**os.environ, **narrow},
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert there.stdout.split() == here["hashes"]
    assert len(set(here["hashes"])) == len(RULES)


# coalitions, and rounds with few updates


@pytest.mark.parametrize("rule", RULES)
def test_a_coalition_makes_what_a_round_of_its_members_would(rule: Aggregation) -> None:
    """Of any size: those too small for the rule too."""
    contract, shown = job(rule, 7), updates(7)
    coalitions = np.random.default_rng(0).random((40, 7)) < 0.6
    coalitions[:7] = np.tri(7, dtype=bool)
    models = coalition_models(contract, shown, coalitions)
    for row, coalition in enumerate(coalitions):
        members = {name: shown[name] for name, of in zip(names(7), coalition, strict=True) if of}
        own = {tensor: stack[row] for tensor, stack in models.items()}
        assert model_hash(own) == model_hash(new_model(contract, members))


def test_too_few_updates_for_the_rule_leave_the_median() -> None:
    for rule, n in (("trimmed-mean", 4), ("krum", 6), ("median", 6)):
        shown = updates(n)  # of 10 participants, of whom 3 may lie
        model = new_model(job(rule, 10), shown)  # type: ignore[arg-type]
        for tensor, values in model.items():
            expected = np.median(column(shown, tensor), axis=0)
            np.testing.assert_allclose(values, expected, rtol=1e-6)
    five = updates(5)  # more than krum needs of 6, but of 10 nine are needed
    assert model_hash(new_model(job("krum", 6), five)) == model_hash(five[krum_of(five, 1)])
    assert model_hash(new_model(job("krum", 10), five)) not in {
        model_hash(u) for u in five.values()
    }


def test_a_coalition_of_nobody_has_no_model() -> None:
    with pytest.raises(ValueError, match="no update"):
        coalition_models(job("median", 3), updates(3), np.array([[True] * 3, [False] * 3]))
    with pytest.raises(ValueError, match="no update"):
        new_model(job("median", 3), {})


# contracts and rounds


@pytest.mark.parametrize("rule", RULES)
def test_a_contract_names_no_rule_that_its_participants_are_too_few_for(rule: Aggregation) -> None:
    for n in (1, 3, 4, 5, 6, 7):
        contract, members = job(rule, n), make_context(n).members
        if n >= FEWEST[rule]:
            check_job(contract, members)
        else:
            with pytest.raises(JobInvalid, match=f"{rule} needs {FEWEST[rule]} participants"):
                check_job(contract, members)


def test_from_the_fewest_on_every_rule_bears_a_liar_and_is_none_of_the_others() -> None:
    for n in range(FEWEST["krum"], 200):
        assert n >= 2 * faulty(n) + 3
    assert 2 * faulty(4) + 3 > 4
    assert (faulty(FEWEST["trimmed-mean"]), faulty(FEWEST["trimmed-mean"] - 1)) == (1, 0)


@pytest.mark.parametrize("rule", RULES)
def test_a_rounds_model_is_made_by_the_jobs_rule(rule: Aggregation) -> None:
    context = make_context(5, job(rule, 5))
    revealed = reveal_all(submissions(context))
    examined = examine(context, revealed.commitments, revealed.reveals)
    result, model = derive_result(context, all_records(context, revealed), examined, CREDITS, ())
    accepted = {n: e.weights for n, e in examined.items() if e.weights is not None}
    assert len(accepted) == 5
    assert result.model_after == model_hash(model)
    assert model_hash(model) == model_hash(new_model(context.job, accepted))
    is_mean = model_hash(model) == model_hash(weighted_mean(accepted, dict.fromkeys(accepted, 100)))
    assert is_mean == (rule == "weighted-mean")
