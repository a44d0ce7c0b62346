"""Contracts: canonical records, and a typed error that names field, value and what to do."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from privacy_examples import example_terms

from privacy import errors
from privacy.contract import PrivacyTerms, decimal_text

NAN, INF = Decimal("nan"), Decimal("inf")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"rounds": 0}, errors.StepsInvalid),
        ({"rounds": True}, errors.StepsInvalid),
        ({"steps": -1}, errors.StepsInvalid),
        ({"steps": 10**10}, errors.StepsInvalid),
        ({"learning_rate": Decimal(0)}, errors.StepsInvalid),
        ({"learning_rate": NAN}, errors.StepsInvalid),
        ({"sample_rate": Decimal("1.25")}, errors.SampleRateInvalid),
        ({"sample_rate": NAN}, errors.SampleRateInvalid),
        ({"clip": Decimal(0)}, errors.ClipInvalid),
        ({"clip": INF}, errors.ClipInvalid),
        ({"clip": NAN}, errors.ClipInvalid),
        ({"clipping": "none"}, errors.ClipInvalid),
        ({"noise_multiplier": Decimal(-1)}, errors.NoiseInvalid),
        ({"noise_multiplier": INF}, errors.NoiseInvalid),
        ({"noise_multiplier": Decimal(0)}, errors.NoiseInvalid),
        ({"epsilon": None}, errors.EpsilonOutOfPolicy),
        ({"epsilon": Decimal(0)}, errors.EpsilonInvalid),
        ({"epsilon": NAN}, errors.EpsilonInvalid),
        ({"epsilon": INF}, errors.EpsilonInvalid),
        ({"delta": Decimal(0)}, errors.DeltaInvalid),
        ({"delta": NAN}, errors.DeltaInvalid),
        ({"delta": Decimal("0.5")}, errors.DeltaTooLarge),
        ({"normaliser": 0}, errors.CohortTooSmall),
    ],
)
def test_each_bad_constant_has_its_own_error(
    changes: dict[str, object], expected: type[errors.PrivacyError]
) -> None:
    with pytest.raises(expected) as caught:
        example_terms(**changes).validate()
    assert type(caught.value) is expected
    assert caught.value.code == expected.__name__
    assert next(iter(changes)) in caught.value.what
    assert caught.value.resolve


def test_no_noise_is_an_explicit_mode() -> None:
    terms = example_terms(noise_multiplier=Decimal(0), epsilon=None)
    terms.validate()
    assert not terms.private
    assert terms.to_record()["epsilon"] == "inf"
    assert PrivacyTerms.from_record(terms.to_record()) == terms


positive = st.decimals("0.000001", "1000000", places=6)


@given(
    rounds=st.integers(1, 1000),
    noise=positive,
    clip=positive,
    rate=positive,
    clipping=st.sampled_from(["flat", "automatic"]),
)
def test_records_round_trip_and_hold_no_float(
    rounds: int, noise: Decimal, clip: Decimal, rate: Decimal, clipping: str
) -> None:
    terms = example_terms(
        rounds=rounds, noise_multiplier=noise, clip=clip, learning_rate=rate, clipping=clipping
    )
    record = terms.to_record()
    assert all(type(value) in (int, str) for value in record.values())
    assert not any("E" in str(value) for value in record.values())
    again = PrivacyTerms.from_record(record)
    assert again == terms
    assert again.to_record() == record


@pytest.mark.parametrize(
    ("value", "text"),
    [("1E+2", "100"), ("1.500", "1.5"), ("0.00001", "0.00001"), ("-0", "0"), ("1E-7", "0.0000001")],
)
def test_one_spelling_per_decimal(value: str, text: str) -> None:
    assert decimal_text(Decimal(value)) == text


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("clip", "1.0"),
        ("clip", "1e0"),
        ("clip", "nan"),
        ("clip", 1.0),
        ("clip", "one"),
        ("rounds", "2"),
        ("rounds", True),
        ("clipping", 3),
    ],
)
def test_a_record_in_another_spelling_is_refused(field: str, value: object) -> None:
    with pytest.raises(errors.PublicConstantMissing, match=field):
        PrivacyTerms.from_record({**example_terms().to_record(), field: value})


def test_a_missing_or_unknown_constant_is_named() -> None:
    record = dict(example_terms().to_record())
    with pytest.raises(errors.PublicConstantMissing, match="batch"):
        PrivacyTerms.from_record({**record, "batch": 4})
    del record["normaliser"]
    with pytest.raises(errors.PublicConstantMissing, match="normaliser"):
        PrivacyTerms.from_record(record)
