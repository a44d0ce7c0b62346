"""A valid contract for tests, with any field replaced."""

import dataclasses
from decimal import Decimal
from typing import Any

from privacy.contract import PrivacyTerms

_TERMS = PrivacyTerms(
    rounds=2,
    steps=3,
    sample_rate=Decimal(1),
    noise_multiplier=Decimal("12.5"),
    clip=Decimal(1),
    learning_rate=Decimal("0.5"),
    epsilon=Decimal(1),
    delta=Decimal("0.00001"),
    normaliser=100,
)


def example_terms(**changes: Any) -> PrivacyTerms:
    return dataclasses.replace(_TERMS, **changes)
