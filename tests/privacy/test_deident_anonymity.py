"""k, l and t against their definitions, the lattice against brute force, and its speed."""

import time
from itertools import product

import numpy as np
import pandas as pd
import pytest

from consortium import tasks
from privacy.deidentification.anonymity import Anonymity, check_ladder, enforce, measure
from privacy.errors import KNotReached

LADDERS = {"age": (5, 10, 20, 40), "sex": ()}


def table(rows: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "age": rng.integers(20, 95, rows).astype(float),
            "sex": rng.integers(0, 2, rows).astype(float),
            "chol": rng.normal(240, 40, rows).round(),
            "disease": rng.integers(0, 2, rows),
        }
    )
    frame.loc[frame.index % 17 == 0, "sex"] = np.nan
    return frame


def by_definition(frame: pd.DataFrame, quasi: list[str]) -> Anonymity:
    whole = frame["disease"].value_counts(normalize=True)
    groups = [group["disease"] for _, group in frame.groupby(quasi, dropna=False)]
    far = [abs(g.value_counts(normalize=True).get(1, 0.0) - whole.get(1, 0.0)) for g in groups]
    return Anonymity(
        min(map(len, groups)), min(g.nunique() for g in groups), max(far),
        sum(len(g) for g in groups if len(g) == 1) / len(frame),
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_k_l_and_t_are_those_of_the_definitions(seed: int) -> None:
    frame = table(300, seed)
    for quasi in (["age"], ["sex"], ["age", "sex"]):
        assert measure(frame, quasi, "disease").t == pytest.approx(
            by_definition(frame, quasi).t, abs=1e-12
        )
        assert measure(frame, quasi, "disease").k == by_definition(frame, quasi).k
        assert measure(frame, quasi, "disease").l == by_definition(frame, quasi).l
        assert measure(frame, quasi, "disease").alone == by_definition(frame, quasi).alone


def test_t_is_the_ordered_distance_of_the_paper() -> None:
    """Li et al. 2007, section 4.1: of salaries 3k to 11k the class {3k, 4k, 5k} is .375 away."""
    frame = pd.DataFrame({"q": [0, 0, 0, 1, 1, 1, 2, 2, 2], "s": [3, 4, 5, 6, 8, 11, 7, 9, 10]})
    assert measure(frame, ["q"], "s").t == pytest.approx(0.375)
    other = pd.DataFrame({"q": [1, 0, 1, 0, 1, 0, 1, 0, 0], "s": [3, 6, 4, 8, 5, 11, 7, 9, 10]})
    assert measure(other, ["q"], "s").t < 0.375


def brute_force(frame: pd.DataFrame, k: int, share: float) -> float:
    """The least loss of any node that reaches k, by grouping rows node by node."""
    best = np.inf
    for age, sex in product((0, 5, 10, 20, 40, None), (0, None)):
        coarse = pd.DataFrame({"age": frame["age"], "sex": frame["sex"]})
        if age is None or age:
            coarse["age"] = np.nan if age is None else np.floor(frame["age"] / age)
        if sex is None:
            coarse["sex"] = np.nan
        sizes = coarse.groupby(["age", "sex"], dropna=False)["age"].transform("size")
        if (sizes < k).sum() <= int(share * len(frame)):
            rung = [0, 5, 10, 20, 40, None].index(age)
            best = min(best, rung / 5 + (sex is None))
    return best


@pytest.mark.parametrize(("rows", "k", "share"), [(200, 5, 0.0), (300, 3, 0.1), (60, 5, 0.05)])
def test_the_lattice_reaches_k_with_the_least_loss(rows: int, k: int, share: float) -> None:
    for seed in range(4):
        frame = table(rows, seed)
        done = enforce(frame, LADDERS, "disease", k, share)
        assert done.left_out <= share
        assert done.anonymity == measure(done.frame, ["age", "sex"], "disease")
        assert done.anonymity.k >= k
        ages = [0.0, 5, 10, 20, 40, None]
        loss = ages.index(done.widths["age"]) / 5 + (done.widths["sex"] is None)
        assert loss == pytest.approx(brute_force(frame, k, share))
        untouched = frame.loc[done.kept, ["chol", "disease"]]
        pd.testing.assert_frame_equal(done.frame[["chol", "disease"]], untouched)


def test_a_bin_becomes_its_middle_and_an_alike_table_stays() -> None:
    frame = pd.DataFrame({"age": [50.0, 53, 57, 59], "disease": [0, 1, 0, 1]})
    done = enforce(frame, {"age": (5, 10)}, "disease", 4, 0)
    assert done.frame["age"].tolist() == [54.5] * 4
    same = frame.assign(age=50.0)
    assert enforce(same, {"age": (5, 10)}, "disease", 4, 0).frame["age"].tolist() == [50.0] * 4
    assert enforce(frame, {}, "disease", 4, 0).anonymity.k == 4


def test_a_bin_ends_where_no_number_is_larger() -> None:
    frame = pd.DataFrame({"age": [81.0, 88, 89, 90], "disease": [0, 1, 0, 1]})
    for width in (20, 40):
        done = enforce(frame, {"age": (width,)}, "disease", 4, 0, {"age": 90})
        assert done.frame["age"].tolist() == [85.0] * 4


def test_too_few_rows_are_refused_with_what_they_reach() -> None:
    with pytest.raises(KNotReached) as error:
        enforce(table(12, 0), LADDERS, "disease", 20, 0.1)
    assert "fewer than 20" in error.value.what
    assert "reaches 10" in error.value.resolve
    wide = pd.DataFrame(np.zeros((9, 7)), columns=list("abcdefg")).assign(disease=0)
    with pytest.raises(KNotReached, match="generalisations"):
        enforce(wide, dict.fromkeys("abcdefg", (2, 4, 8)), "disease", 2, 0)


def test_bins_must_nest() -> None:
    assert check_ladder((5, 10, 20, 40))
    assert check_ladder(())
    assert not check_ladder((5, 8))
    assert not check_ladder((10, 5))
    assert not check_ladder((0, 5))
    for task in tasks.TASKS.values():
        given = [feature.quasi_identifier for feature in task.features]
        assert all(ladder is None or check_ladder(ladder) for ladder in given)


def test_the_report_is_in_bands() -> None:
    assert Anonymity(1, 1, 0.432, 0.031).to_report() == {
        "k": "1", "l": "1", "t": "at most 0.45", "alone": "at most 5 %",
    }  # fmt: skip
    assert Anonymity(7, 2, 0.0, 0.0).to_report() == {
        "k": "at least 5", "l": "2", "t": "at most 0.00", "alone": "none",
    }  # fmt: skip
    assert [Anonymity(k, 1, 1.0, 0).to_report()["k"] for k in (2, 4, 31)] == [
        "at least 2", "at least 3", "at least 20",
    ]  # fmt: skip


def test_50000_rows_take_a_fraction_of_a_second() -> None:
    frame = table(50_000, 1)
    before = time.process_time()
    done = enforce(frame, LADDERS | {"chol": (5, 10, 20, 40, 80)}, "disease", 5, 0.02)
    spent = time.process_time() - before
    assert done.anonymity.k >= 5
    assert spent < 1, spent
