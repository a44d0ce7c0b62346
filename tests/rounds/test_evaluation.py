"""Evaluations: what members check of them, and what a reader derives from them."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rounds_examples import LEDGER, make_example_job, signed
from sklearn.metrics import roc_auc_score

from consortium.baselines import metrics
from consortium.errors import RoundInvalid
from consortium.intervals import auroc_interval, share_interval
from consortium.measures import MEASURES, calibration_error, measures
from consortium.rounds.evaluation import check_evaluation, gain_of, intervals
from consortium.rounds.replay import check_block
from ledger.entry import Entry
from ledger.errors import RecordInvalid
from ledger.records import Evaluation, Job, JobEnd, Measures, parse_record
from privacy.release import released, size_band

GOOD = {"auroc": 9600, "accuracy": 9400, "sensitivity": 8500, "specificity": 10_000,
        "calibration": 600}  # fmt: skip
NOTHING = dict.fromkeys(GOOD)
GAIN = {"value": 1000, "low": -1000, "high": 3000}
MODEL = "5e" * 32


def body(**changed: Any) -> dict[str, Any]:
    return {
        "v": 1, "type": "evaluation", "ledger": LEDGER, "author": "hospital-1", "job": "job-1",
        "model": MODEL, "noised": False, "positives": 20, "negatives": 50,
        "federated": GOOD, "calibrated": GOOD, "alone": GOOD, "majority": 6400, "gain": None,
        **changed,
    }  # fmt: skip


def entry(**changed: Any) -> Entry:
    return signed(parse_record(body(**changed)))


@dataclass
class View:
    """What is asked of the ledger before evaluations: one job, its end, who has evaluated it."""

    job: Job
    end: JobEnd | None
    evaluators: tuple[str, ...] = ()

    def jobs(self) -> Sequence[Job]:
        return [self.job]

    def end_of(self, job: str) -> JobEnd | None:
        return self.end if job == self.job.job else None

    def evaluated(self, job: str) -> Collection[str]:
        return self.evaluators


@pytest.fixture
def view() -> View:
    """After the end of a job of four hospitals."""
    end = JobEnd(
        v=1, type="job-end", ledger=LEDGER, author="coordinator", job="job-1", status="finished",
        rounds=10, model=MODEL,
    )  # fmt: skip
    return View(make_example_job(), end)


def check(view: View, entries: Sequence[Entry]) -> None:
    check_block(cast(Any, view), entries)


def test_one_of_each_participant_is_taken_in_together(view: View) -> None:
    check(view, [entry(author=f"hospital-{i}") for i in (1, 2, 3, 4)])
    check(view, [entry(federated=NOTHING, majority=None, gain=GAIN)])


CHEATS: dict[str, tuple[Callable[[View], list[Entry]], str]] = {
    "another model": (lambda view: [entry(model="6f" * 32)], "another model"),
    "a job that does not exist": (lambda view: [entry(job="job-2")], "not over"),
    "nobody's part": (lambda view: [entry(author="hospital-5")], "no part in"),
    "twice in a block": (lambda view: [entry(), entry()], "before"),
    "twice, and another one": (lambda view: [entry(), entry(majority=6200)], "before"),
    "auroc of few": (lambda view: [entry(negatives=0)], "federated, auroc is given for too few"),
    "majority of few": (
        lambda view: [entry(negatives=0, federated=NOTHING, calibrated=NOTHING, alone=NOTHING)],
        "majority is given",
    ),
    "accuracy of few": (
        lambda view: [
            entry(positives=0, negatives=0, majority=None, federated=NOTHING, calibrated=NOTHING,
                  alone={**NOTHING, "accuracy": 8000})
        ],
        "alone, accuracy is given",
    ),
    "too narrow a band for so few": (lambda view: [entry(negatives=5)], "accuracy is not on its"),
    "calibrated off its band": (
        lambda view: [entry(negatives=5, federated=NOTHING, alone=NOTHING, majority=None)],
        "calibrated, accuracy is not on its",
    ),
    "a gain of few": (
        lambda view: [entry(negatives=0, federated=NOTHING, calibrated=NOTHING, alone=NOTHING,
                            majority=None, gain=GAIN)],
        "gain is given for too few",
    ),
    "a gain off its band": (lambda view: [entry(gain={**GAIN, "high": 500})], "gain is not on its"),
    "a gain beyond its interval": (
        lambda view: [entry(gain={**GAIN, "value": 4000})], "gain is not within its interval",
    ),
    "an interval upside down": (
        lambda view: [entry(gain={"value": 0, "low": 1000, "high": -1000})], "within its interval",
    ),
    "an exact number of patients": (lambda view: [entry(positives=21)], "size band"),
}  # fmt: skip


@pytest.mark.parametrize("name", CHEATS)
def test_a_planted_cheat_is_refused(view: View, name: str) -> None:
    make, what = CHEATS[name]
    with pytest.raises(RoundInvalid, match=what):
        check(view, make(view))


def test_a_second_one_is_refused_in_a_later_block_too(view: View) -> None:
    view.evaluators = ("hospital-1",)
    check(view, [entry(author="hospital-2")])
    with pytest.raises(RoundInvalid, match="before"):
        check(view, [entry(author="hospital-2"), entry()])


def test_while_the_job_runs_there_is_nothing_to_evaluate(view: View) -> None:
    view.end = None
    with pytest.raises(RoundInvalid, match="not over"):
        check(view, [entry()])


@pytest.mark.parametrize(("measure", "value"), [
    ("auroc", 9650), ("auroc", 10_200), ("auroc", -200), ("auroc", 0.96), ("auroc", True),
    ("sensitivity", 8200), ("calibration", 100), ("specificity", "8500"),
])  # fmt: skip
def test_off_its_band_it_is_no_record(view: View, measure: str, value: Any) -> None:
    with pytest.raises(RecordInvalid):
        parse_record(body(federated={**GOOD, measure: value}))
    made = Measures.model_construct(**{**GOOD, measure: value})
    record = parse_record(body()).model_copy(update={"federated": made})
    assert isinstance(record, Evaluation)
    if isinstance(value, int) and value > 1:  # a form that let it through is not the last line
        with pytest.raises(RoundInvalid, match=f"{measure} is not on its band"):
            check_evaluation(record, view.job, view.end)


@pytest.mark.parametrize("changed", [{"value": 1200}, {"low": -10_500}, {"high": 0.3}, {"at": 0}])
def test_a_gain_of_another_form_is_no_record(changed: dict[str, Any]) -> None:
    with pytest.raises(RecordInvalid):
        parse_record(body(gain={**GAIN, **changed}))


# measures, exactly

PATIENTS = st.lists(st.tuples(st.booleans(), st.floats(-8, 8)), min_size=10, max_size=80)


def arrays(patients: list[tuple[bool, float]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([x for _, x in patients]), np.array([float(y) for y, _ in patients])


@given(PATIENTS)
def test_exact_measures_are_the_usual_ones(patients: list[tuple[bool, float]]) -> None:
    logits, outcomes = arrays(patients)
    found, known = measures(logits, outcomes), metrics(logits, outcomes)
    assert found["accuracy"] == pytest.approx(known.accuracy)
    if 0 < outcomes.sum() < len(outcomes):
        assert found["auroc"] == pytest.approx(roc_auc_score(outcomes, logits))
        both = found["sensitivity"], found["specificity"]
        assert None not in both
        share = outcomes.mean()
        weighted = both[0] * share + both[1] * (1 - share)  # type: ignore[operator]
        assert weighted == pytest.approx(known.accuracy)


def test_without_a_class_nothing_is_said_of_it() -> None:
    found = measures(np.array([2.0, -1.0]), np.ones(2))
    assert set(found) == set(MEASURES)
    assert (found["auroc"], found["specificity"]) == (None, None)
    assert (found["accuracy"], found["sensitivity"]) == (0.5, 0.5)


def test_calibration_of_known_predictions() -> None:
    logits = np.log(np.array([0.9, 0.9, 0.1, 0.1]) / np.array([0.1, 0.1, 0.9, 0.9]))
    assert calibration_error(logits, np.array([1.0, 1, 0, 0])) == pytest.approx(0.1)
    assert calibration_error(logits, np.array([1.0, 0, 0, 0])) == pytest.approx(0.25)
    assert calibration_error(np.array([1e9, -1e9]), np.array([1.0, 0])) == pytest.approx(0)


# what a reader derives


def evaluation_of(logits: np.ndarray, outcomes: np.ndarray) -> Evaluation:
    positives = int(outcomes.sum())
    counts = positives, len(outcomes) - positives
    out = Measures(**released(measures(logits, outcomes), *counts))
    record = parse_record(
        body(positives=size_band(counts[0]), negatives=size_band(counts[1]),
             federated=out.model_dump(), calibrated=NOTHING, alone=NOTHING, majority=None)
    )  # fmt: skip
    assert isinstance(record, Evaluation)
    return record


@given(PATIENTS)
def test_a_derived_interval_holds_the_exact_one(patients: list[tuple[bool, float]]) -> None:
    logits, outcomes = arrays(patients)
    exact, positives = measures(logits, outcomes), int(outcomes.sum())
    negatives = len(outcomes) - positives
    found = intervals(evaluation_of(logits, outcomes))
    sizes = {"sensitivity": positives, "specificity": negatives}
    for measure, estimate in found["federated"].items():
        value = exact[measure]
        if estimate is None or measure == "calibration":
            assert estimate is None or (estimate.low, estimate.high) == (None, None)
            continue
        assert value is not None
        low, high = (
            auroc_interval(value, positives, negatives)
            if measure == "auroc"
            else share_interval(value, sizes.get(measure, len(outcomes)))
        )
        assert estimate.low is not None
        assert estimate.high is not None
        assert estimate.low <= low + 1e-6
        assert high <= estimate.high + 1e-6
        assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
    assert set(found["alone"].values()) == {None}
    assert found["majority"] == {"majority": None}


def test_intervals_of_an_evaluation() -> None:
    record = parse_record(body())
    assert isinstance(record, Evaluation)
    found = intervals(record)
    accuracy, majority = found["federated"]["accuracy"], found["majority"]["majority"]
    assert accuracy is not None
    assert majority is not None
    assert (accuracy.value, majority.value) == (0.94, 0.64)
    # Wilson at .93 and .95 of 70 patients.
    assert accuracy.low == pytest.approx(share_interval(0.93, 70)[0])
    assert accuracy.high == pytest.approx(share_interval(0.95, 70)[1])


def test_a_gain_is_read_with_the_hospitals_own_interval() -> None:
    record, without = parse_record(body(gain=GAIN)), parse_record(body())
    assert isinstance(record, Evaluation)
    assert isinstance(without, Evaluation)
    found = gain_of(record)
    assert found is not None
    assert (found.value, found.low, found.high) == (0.1, -0.1, 0.3)
    assert gain_of(without) is None
