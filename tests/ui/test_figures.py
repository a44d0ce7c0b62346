"""Rows and charts out of records."""

import pytest
from made_up import HOSPITALS, evaluation, job, outcome, result, results

from ui import charts, figures, words
from ui.views.contributors import statement_csv
from ui.words import ago, left


def test_reasons_are_gathered_by_hospital() -> None:
    assert [row[:3] for row in figures.trouble_rows(results())] == [
        ("north", "3", "Harmful"),
        ("south", "2–3", "NearCopy"),
        ("west", "2", "NoAnswer"),
        ("west", "3", "BudgetExceeded"),
    ]


def test_credits_are_learning_fees_and_bonus() -> None:
    rows = figures.credit_rows(results(), ["north", "south"], {"north": 900, "south": 300})
    north = rows[rows["hospital"] == "north"]
    assert list(north["earned"]) == [450, 450, 0]
    assert list(north["total"]) == [450, 900, 900]
    assert list(rows[rows["hospital"] == "south"]["total"]) == [300, 300, 300]


def test_what_was_earned_before_the_first_round_shown_counts() -> None:
    rows = figures.credit_rows(results()[1:], ["north"], {"north": 900})
    assert list(rows["total"]) == [900, 900]


def test_an_attempt_that_is_repeated_is_no_round() -> None:
    absent = [{"institution": "west", "phase": "close", "code": "NoAnswer"}]
    repeated = [
        result(4, [], None, attempt=n, void=True, again=True, fees=[], absent=absent, minted=0)
        for n in (1, 2)
    ]
    everything = [*results(), *repeated]
    assert list(figures.credit_rows(everything, ["north"], {})["round"]) == [1, 2, 3]
    assert [row[-1] for row in figures.round_rows(everything)[:3]] == [
        "unchanged (tried again)", "unchanged (tried again)", "unchanged (void)",
    ]  # fmt: skip
    assert "4" in {rounds for _, rounds, *_ in figures.trouble_rows(everything)}


def test_repeated_attempts_have_places_of_their_own_in_what_was_spent() -> None:
    spends = [
        {"round": r, "attempt": a, "institution": "north", "epsilon": e, "delta": "0.1",
         "noise_multiplier": "9"}
        for r, a, e in ((1, 1, "0.2"), (1, 2, "0.4"), (2, 1, "0.9"))
    ]  # fmt: skip
    rows = figures.spend_rows(spends)
    assert list(rows["step"]) == [1, 2, 3]
    assert list(rows["epsilon"]) == [0.2, 0.4, 0.9]


def test_jobs_that_have_not_ended_stand_in_the_order_in_which_they_run() -> None:
    jobs = [job("submitted", job="c"), job("running", job="b"), job("finished", job="a")]
    assert [one["job"] for one in figures.running(jobs)] == ["b", "c"]


def test_what_a_hospital_does_not_release_is_on_no_chart() -> None:
    found = [evaluation("north", 0.92), evaluation("south", None)]
    rows = figures.estimate_rows(found, "auroc")
    assert set(rows["hospital"]) == {"north"}
    assert list(figures.estimate_rows(found, "calibration")["low"]) == [0.92, 0.92, 0.92]
    assert set(figures.estimate_rows(found, "accuracy")["model"]) == {
        "federated", "federated, own calibration", "its own alone", "majority",
    }  # fmt: skip
    chart = charts.estimate_chart(rows, "AUROC").to_dict()
    assert all("tooltip" in layer["encoding"] for layer in chart["layer"])


@pytest.mark.parametrize(
    ("gain", "says"),
    [
        (
            (0.2, 0.1, 0.4),
            "the federated model finds about 20 more of 100 cases at the same false alarms",
        ),
        (
            (-0.2, -0.3, -0.1),
            "the federated model finds about 20 fewer of 100 cases at the same false alarms",
        ),
        ((0.2, 0.0, 0.4), "no difference can be told from this number of patients"),
        ((0.0, -0.2, 0.2), "no difference can be told from this number of patients"),
    ],
)
def test_a_gain_in_words(gain: tuple[float, float, float], says: str) -> None:
    one = evaluation("north", 0.9, dict(zip(("value", "low", "high"), gain, strict=True)))
    assert words.gain(one) == says
    rows = figures.gain_rows([one, evaluation("south", 0.9)])
    assert list(rows["hospital"]) == ["north"]
    assert list(rows["value"]) == [round(100 * gain[0])]
    chart = charts.gain_chart(rows).to_dict()
    assert chart["layer"][1]["encoding"]["x"]["scale"]["domain"] == [-100, 100]


def test_why_there_is_no_gain_in_words() -> None:
    few = evaluation("north", 0.9)
    assert words.gain(few) == "n/a: too few patients"
    assert words.gain(few | {"negatives": 5}) == "n/a: its own model alarms for everybody"
    assert "noise" in words.gain(few | {"noised": True})


@pytest.mark.parametrize("count", [1, 4, 12])
def test_charts_have_a_tooltip_and_a_colour_for_every_hospital(count: int) -> None:
    names = [f"hospital-{number}" for number in range(count)]
    rounds = [result(r, [outcome(name) for name in names], names[0]) for r in (1, 2)]
    chart = charts.score_chart(figures.proof_rows(rounds), names).to_dict()
    assert any("tooltip" in layer["encoding"] for layer in chart["layer"])
    scale = chart["layer"][0]["encoding"]["color"]["scale"]
    assert (scale["domain"], len(scale["range"])) == (names, count)
    assert set(scale["range"]) <= set(charts.PALETTE)


def test_a_statement_is_a_table_for_a_spreadsheet() -> None:
    line = {"job": "job-1", "task": "t", "accepted": 1, "rejected": 0, "absent": 0, "learner": 1,
            "learning": 5, "verdicts": 6, "bonus": 7, "credits": 18}  # fmt: skip
    place = {"institution": HOSPITALS[0], "height": 4, "hash": "b" * 64}
    head, row = statement_csv({**place, "lines": [line]}).splitlines()
    assert head.startswith("institution,height,hash,job")
    assert row == f"north,4,{'b' * 64},job-1,t,1,0,0,1,5,6,7,18"


def test_times_in_words() -> None:
    assert [ago(s) for s in (3, 61, 7_300, 200_000)] == [
        "just now", "1 minute ago", "2 hours ago", "2 days ago",
    ]  # fmt: skip
    assert [left(s) for s in (-3, 65, 3_725)] == ["0:00", "1:05", "1:02:05"]
