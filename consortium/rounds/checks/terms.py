"""What the contract's public constants say of one honest step of a hospital."""

from functools import lru_cache
from math import sqrt

from ledger.records import Participant, Terms
from privacy.contract import PrivacyTerms

_TAIL = 1.05  # measured on honest rounds: their tails are a little wider than the normal one


def privacy_terms(participant: Participant) -> PrivacyTerms:
    """The contract's terms for one institution, as the accountant takes them."""
    return _parsed(participant.terms)


# Decimals from text, asked for by every check of every proof.
@lru_cache(maxsize=1024)
def _parsed(terms: Terms) -> PrivacyTerms:
    return PrivacyTerms.from_record(terms.model_dump())


def step_noise(participant: Participant) -> float:
    """Standard deviation, at each parameter, of the chance in one round's step.

    T steps add independent noise. Below sample rate 1 the draw of the batch is chance too: along
    any direction its variance is at most q (1 - q) clip^2 for each patient, of whom there may be
    half as many again as declared.
    """
    terms = privacy_terms(participant)
    variance = float(terms.noise_multiplier * terms.noise_multiplier)
    if not terms.full_batch:
        rate = float(terms.sample_rate)
        variance += 1.5 * terms.normaliser * rate * (1 - rate)
    scale = float(terms.learning_rate * terms.clip / terms.divisor)
    return scale * sqrt(terms.steps * variance)


def unanimous_step(participant: Participant) -> float:
    """Length of one round's step, without noise, if all declared patients pull one way."""
    terms = privacy_terms(participant)
    return float(terms.learning_rate * terms.clip) * terms.steps


@lru_cache(maxsize=1024)
def noise_quantile(false_alarm: float) -> float:
    """How many standard deviations of noise an honest measure exceeds that rarely."""
    from scipy.special import ndtri  # slow to load

    return -_TAIL * float(ndtri(false_alarm))
