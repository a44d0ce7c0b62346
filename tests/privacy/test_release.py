"""The release gate: nothing off the bands gets out, nothing about too few patients at all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.records import Evaluation, Gain, Measures
from privacy.release import (
    BANDS,
    band,
    broken_gain_rule,
    broken_rule,
    gain_width,
    may_leave,
    released,
    released_gain,
    size_band,
    width,
)

FRACTION = st.floats(0, 1)
MEASURES = st.fixed_dictionaries(dict.fromkeys(BANDS, st.none() | FRACTION))
FEW_OR_MANY = st.integers(0, 12) | st.integers(0, 10**6)
OF_BOTH = {"auroc", "sensitivity", "specificity", "majority"}


@given(MEASURES, FEW_OR_MANY, FEW_OR_MANY)
def test_what_leaves_is_on_its_band_and_near_and_passes_every_members_check(
    exact: dict[str, float | None], positives: int, negatives: int
) -> None:
    out = released(exact, positives, negatives)
    assert set(out) == set(exact)
    for name, value in out.items():
        known, fewest = exact[name], min(positives, negatives)
        enough = fewest >= 5 if name in OF_BOTH else max(positives, negatives) >= 5
        assert (value is None) == (known is None or not enough)
        if value is not None and known is not None:
            wide = width(name, size_band(positives), size_band(negatives))
            assert value % wide == wide % BANDS[name] == 10_000 % wide == 0
            assert 0 <= value <= 10_000
            assert abs(value - known * 10_000) <= wide / 2 + 1e-6
    assert broken_rule(out, size_band(positives), size_band(negatives)) is None


@given(st.sampled_from(sorted(BANDS)), st.integers(-100, 10_100), FEW_OR_MANY, FEW_OR_MANY)
def test_whatever_is_off_its_band_or_about_too_few_is_seen(
    name: str, value: int, positives: int, negatives: int
) -> None:
    sizes = size_band(positives), size_band(negatives)
    holds = broken_rule({name: value}, *sizes) is None
    allowed = may_leave(name, positives, negatives)
    on_band = allowed and value % width(name, *sizes) == 0 and 0 <= value <= 10_000
    assert holds == on_band


@pytest.mark.parametrize(
    ("measure", "positives", "negatives", "wide"),
    [("sensitivity", 5, 1000, 2000), ("sensitivity", 10, 5, 1000), ("sensitivity", 20, 5, 500),
     ("specificity", 1000, 5, 2000), ("accuracy", 5, 0, 2000), ("accuracy", 5, 5, 1000),
     ("accuracy", 20, 10, 400), ("accuracy", 50, 0, 200), ("majority", 5, 10, 1000),
     ("calibration", 20, 10, 400), ("auroc", 5, 5, 200), ("accuracy", 10**6, 0, 200)],
)  # fmt: skip
def test_a_band_holds_at_least_one_patient(
    measure: str, positives: int, negatives: int, wide: int
) -> None:
    assert width(measure, positives, negatives) == wide


@given(st.integers(0, 10**7))
def test_a_size_band_holds_the_number_and_tells_no_more(patients: int) -> None:
    edge = size_band(patients)
    assert edge <= patients
    assert size_band(edge) == edge
    assert edge == 0 if patients < 5 else int(str(edge)[0]) in (1, 2, 5)
    assert patients < 5 or patients < 2.5 * edge


@pytest.mark.parametrize(
    ("patients", "edge"),
    [(0, 0), (4, 0), (5, 5), (9, 5), (10, 10), (19, 10), (20, 20), (49, 20), (50, 50), (99, 50),
     (100, 100), (199, 100), (1999, 1000), (2000, 2000)],
)  # fmt: skip
def test_the_size_bands(patients: int, edge: int) -> None:
    assert size_band(patients) == edge


@given(st.tuples(*[st.floats(-1, 1)] * 3).map(sorted), FEW_OR_MANY, FEW_OR_MANY)
def test_a_gain_leaves_on_its_band_with_an_interval_that_holds_the_exact_one(
    exact: list[float], positives: int, negatives: int
) -> None:
    low, value, high = exact
    sizes = size_band(positives), size_band(negatives)
    out = released_gain(value, low, high, positives, negatives)
    assert (out is None) == (min(positives, negatives) < 5)
    if out is None:
        assert broken_gain_rule(0, 0, 0, *sizes) is not None
        return
    wide = gain_width(*sizes)
    assert abs(out[0] - value * 10_000) <= wide / 2 + 1e-6
    assert low * 10_000 - wide <= out[1] <= low * 10_000 + 1e-4
    assert high * 10_000 - 1e-4 <= out[2] <= high * 10_000 + wide
    assert broken_gain_rule(*out, *sizes) is None
    assert broken_gain_rule(out[0] + 1, out[1], out[2], *sizes) is not None


@pytest.mark.parametrize(
    ("positives", "negatives", "wide"),
    [(5, 1000, 5000), (1000, 5, 5000), (10, 20, 2000), (20, 20, 1000), (50, 50, 500),
     (10**6, 10**6, 500)],
)  # fmt: skip
def test_a_gains_band_holds_two_patients_of_the_smaller_class(
    positives: int, negatives: int, wide: int
) -> None:
    assert gain_width(positives, negatives) == wide


@pytest.mark.parametrize(
    ("gain", "rule"),
    [((0, 0, 10_500), "its interval"), ((1000, 2000, 3000), "its interval"), ((1, 0, 2), "band")],
)
def test_a_gain_that_is_no_gain_is_seen(gain: tuple[int, int, int], rule: str) -> None:
    assert rule in str(broken_gain_rule(*gain, 50, 50))


def test_a_size_off_its_band_is_seen() -> None:
    for sizes in ((6, 5), (5, 11), (1, 0)):
        assert "size band" in str(broken_rule({}, *sizes))


def test_the_records_form_has_the_gains_narrowest_band() -> None:
    wide = gain_width(10**6, 10**6)
    assert Gain(value=wide, low=-wide, high=10_000).value == wide
    with pytest.raises(ValueError, match="multiple of"):
        Gain(value=wide // 2, low=0, high=wide)


def test_the_records_form_has_the_gates_bands() -> None:
    """The form is published in every export, and `ledger` may not import the gate."""
    fields = {**Measures.model_fields, "majority": Evaluation.model_fields["majority"]}
    assert set(fields) == set(BANDS)
    good = {"auroc": None, "accuracy": None, "sensitivity": None, "specificity": None,
            "calibration": None}  # fmt: skip
    for name, narrowest in BANDS.items():
        if name in good:
            assert Measures(**{**good, name: narrowest}).model_dump()[name] == narrowest
            with pytest.raises(ValueError, match="multiple of"):
                Measures(**{**good, name: narrowest // 2})


def test_a_band_is_the_nearest() -> None:
    assert [band(value, 200) for value in (0, 99.9, 100, 9899, 9900, 10_000)] == [
        0, 0, 200, 9800, 10_000, 10_000,
    ]  # fmt: skip
