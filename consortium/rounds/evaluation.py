"""Evaluations: what members check before one stands on the ledger, and how anybody reads it.

A hospital evaluates the model that an ended job gave out on its own test patients, once. Whether
the numbers are true nobody else can see; that they passed the release gate (`privacy.release`)
everybody can. Intervals are the reader's: an exact one would give the number of patients away.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from consortium.errors import RoundInvalid
from consortium.intervals import auroc_interval, share_interval
from ledger.records import Evaluation, Job, JobEnd, NoisedScores
from privacy.noised_release import TEST_RESULTS
from privacy.release import broken_gain_rule, broken_rule, width

FEDERATED, CALIBRATED, ALONE, MAJORITY = "federated", "calibrated", "alone", "majority"
_UNIT: Final = 10_000


@dataclass(frozen=True)
class Estimate:
    """A released number with a 95 % interval for patients like these, in fractions of 1.

    ``low`` and ``high`` are None for calibration, which is no share of patients, and with noise.
    """

    value: float
    low: float | None
    high: float | None


def models_of(evaluation: Evaluation) -> dict[str, dict[str, int | None]]:
    """The released numbers (basis points) by model and measure."""
    return {
        FEDERATED: evaluation.federated.model_dump(),
        CALIBRATED: evaluation.calibrated.model_dump(),
        ALONE: evaluation.alone.model_dump(),
        MAJORITY: {"majority": evaluation.majority},
    }


def check_evaluation(evaluation: Evaluation, job: Job | None, end: JobEnd | None) -> None:
    """Checks one evaluation against the job that it names; whether it is the first is not.

    Raises:
        RoundInvalid: naming the rule that it breaks.
    """
    who = evaluation.author
    if job is None or end is None:
        raise _invalid(f"{who} evaluates a job that is not over")
    if who not in {participant.institution for participant in job.participants}:
        raise _invalid(f"{who} evaluates a job that it has no part in")
    if evaluation.model != end.model:
        raise _invalid(f"{who} evaluates another model than the job's end names")
    if evaluation.noised:
        _check_noised(evaluation, job)
        return
    for model, measures in models_of(evaluation).items():
        rule = broken_rule(measures, evaluation.positives, evaluation.negatives)
        if rule is not None:
            raise _invalid(f"{who}'s evaluation has not passed the release gate: {model}, {rule}")
    gain = evaluation.gain
    if gain is not None:
        rule = broken_gain_rule(
            gain.value, gain.low, gain.high, evaluation.positives, evaluation.negatives
        )
        if rule is not None:
            raise _invalid(f"{who}'s evaluation has not passed the release gate: {rule}")


def _check_noised(evaluation: Evaluation, job: Job) -> None:
    said = {
        (model, measure)
        for model, measures in models_of(evaluation).items()
        for measure, value in measures.items()
        if value is not None
    }
    if not isinstance(job.scores, NoisedScores):
        raise _invalid(f"{evaluation.author}'s evaluation has noise, and the contract names none")
    beside = said - {(FEDERATED, measure) for measure in TEST_RESULTS}
    if beside or evaluation.positives or evaluation.negatives or evaluation.gain is not None:
        raise _invalid(f"{evaluation.author}'s evaluation says more than what has its noise")


def gain_of(evaluation: Evaluation) -> Estimate | None:
    """How many more of the cases are found, as a fraction of them, with the hospital's interval.

    The bounds were rounded outward, so that they hold the exact ones. None: not released.
    """
    gain = evaluation.gain
    if gain is None:
        return None
    return Estimate(gain.value / _UNIT, gain.low / _UNIT, gain.high / _UNIT)


def intervals(evaluation: Evaluation) -> dict[str, dict[str, Estimate | None]]:
    """What an evaluation says, by model (`FEDERATED`, `CALIBRATED`, `ALONE`, `MAJORITY`), measure.

    An interval reaches from the lower bound at the lower edge of the number's band to the upper
    bound at its upper edge, both for the fewest patients that the size bands allow. So it holds
    whatever the exact numbers are, and is wider than theirs. None: not released. Of what left with
    noise there is none: neither the patients nor how far they drew it to one half are known.
    """
    positives, negatives = evaluation.positives, evaluation.negatives
    fewest = {"sensitivity": positives, "specificity": negatives}

    def at(measure: str) -> Callable[[float], tuple[float, float]] | None:
        if measure == "calibration" or evaluation.noised:
            return None
        if measure == "auroc":
            return lambda value: auroc_interval(value, positives, negatives)
        patients = fewest.get(measure, positives + negatives)
        return lambda value: share_interval(value, patients)

    return {
        model: {
            measure: None if value is None else _estimate(value, evaluation, measure, at(measure))
            for measure, value in measures.items()
        }
        for model, measures in models_of(evaluation).items()
    }


def _estimate(
    value: int, evaluation: Evaluation, measure: str,
    interval: Callable[[float], tuple[float, float]] | None,
) -> Estimate:  # fmt: skip
    if interval is None:
        return Estimate(value / _UNIT, None, None)
    band = width(measure, evaluation.positives, evaluation.negatives)
    low, _ = interval(max(0.0, (value - band / 2) / _UNIT))
    _, high = interval(min(1.0, (value + band / 2) / _UNIT))
    return Estimate(value / _UNIT, low, high)


def _invalid(what: str) -> RoundInvalid:
    return RoundInvalid(what, "leave it out: members co-sign no block that holds it")
