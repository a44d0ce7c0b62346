"""What a hospital gains, in a sentence and a table: each outcome, and nothing about too few."""

from typing import Any

import pytest

from hospital_agent.gain_report import lines, outcome, sentence, shown
from ledger.records import Evaluation, parse_record

OF_A_MODEL = {"auroc": 0.9, "accuracy": 0.85, "sensitivity": 0.8, "specificity": 0.9,
              "calibration": 0.05}  # fmt: skip
BANDED = {"auroc": 9000, "accuracy": 8400, "sensitivity": 8000, "specificity": 9000,
          "calibration": 400}  # fmt: skip


def exact(value: float = 0.11, low: float = 0.042, high: float = 0.178, **changed: Any) -> dict:
    more = {"value": value, "low": low, "high": high}
    return {
        "positives": 20, "negatives": 50, "majority": 0.7,
        **dict.fromkeys(("federated", "calibrated", "alone"), OF_A_MODEL),
        "calibration": {"slope": 0.8, "intercept": -0.2},
        "gain": {"false_alarms": 5, "alone": 0.75, "federated": 0.86, "more": more},
        "ranking": {"value": 0.02, "low": -0.01, "high": 0.05}, **changed,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("interval", "what", "said"),
    [
        ((0.11, 0.042, 0.178), "more",
         "On your patients the federated model finds 11 more of 100 cases at the same false alarms "
         "than your own (95 % interval 4 to 18)."),
        ((-0.11, -0.178, -0.042), "fewer",
         "On your patients the federated model finds 11 fewer of 100 cases at the same false "
         "alarms than your own (95 % interval 4 to 18)."),
        ((0.03, -0.12, 0.21), "no difference", "it finds 3 more of 100 cases at the same false"),
        ((0.0, -0.12, 0.12), "no difference",
         "it finds as many cases at the same false alarms (95 % interval 12 fewer to 12 more)."),
        # Not one whole case of 100: the sentence would say "0 to 12".
        ((0.06, 0.004, 0.12), "no difference", "(95 % interval 0 to 12 more)"),
        ((-0.06, -0.12, -0.004), "no difference", "(95 % interval 12 fewer to 0)"),
    ],
)  # fmt: skip
def test_every_outcome_in_words(interval: tuple[float, ...], what: str, said: str) -> None:
    assert outcome(exact(*interval), 5) == what
    assert said in sentence(exact(*interval), 5)
    if what == "no difference":
        assert "can be told from this number of patients" in sentence(exact(*interval), 5)


@pytest.mark.parametrize(
    ("changed", "fewest", "why"),
    [
        ({"positives": 4}, 5, "fewer than 5 test patients with the outcome"),
        ({"negatives": 0, "gain": None}, 5, "fewer than 5 test patients without the outcome"),
        ({"positives": 0, "negatives": 4}, 5, "fewer than 5 test patients with and without"),
        ({}, 21, "fewer than 21 test patients with the outcome"),
        ({"gain": None}, 5, "your own model raises the alarm for every test patient without"),
    ],
)  # fmt: skip
def test_why_it_cannot_be_told(changed: dict, fewest: int, why: str) -> None:
    assert outcome(exact(**changed), fewest) == "not told"
    assert why in sentence(exact(**changed), fewest)


def test_at_the_floor_it_is_told_and_below_no_number_is_shown() -> None:
    assert outcome(exact(positives=5), 5) == "more"
    seen = shown(exact(positives=4), 5)
    assert (seen["positives"], seen["negatives"]) == (None, 50)
    assert seen["gain"] is seen["ranking"] is seen["majority"] is None
    assert seen["alone"]["sensitivity"] is None
    assert seen["alone"]["accuracy"] == 0.85
    nothing = shown(exact(positives=4, negatives=3), 5)
    assert {value for model in ("federated", "alone") for value in nothing[model].values()} == {
        None
    }


def released(**changed: Any) -> Evaluation:
    record = parse_record({
        "v": 1, "type": "evaluation", "ledger": "a" * 64, "author": "hospital-1", "job": "job-1",
        "model": "b" * 64, "noised": False, "positives": 20, "negatives": 50, "federated": BANDED,
        "calibrated": BANDED, "alone": BANDED, "majority": 7000,
        "gain": {"value": 1000, "low": 0, "high": 2000}, **changed,
    })  # fmt: skip
    assert isinstance(record, Evaluation)
    return record


@pytest.mark.parametrize("positives", [20, 4, 123_456])
def test_the_table_fits_a_terminal_and_says_what_was_let_out(positives: int) -> None:
    found = lines(exact(positives=positives), 5, released())
    assert max(map(len, found)) <= 80
    text = "\n".join(found)
    assert "cases found more of 100: +10 (0 to +20)" in text
    assert ("0.800 (" in text) == (positives >= 5)
    assert "Nothing of it was let out." in lines(exact(), 5, None)
    assert "cases found more of 100: nothing." in "\n".join(lines(exact(), 5, released(gain=None)))


def test_with_noise_no_gain_is_let_out() -> None:
    noised = released(noised=True)
    assert lines(exact(), 5, noised)[-1].endswith("no gain.")
