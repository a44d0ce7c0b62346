"""Check 5: the update lies within reach of the current model."""

from math import fsum, sqrt

from consortium import weights as weight_forms
from consortium.rounds.checks.context import Failed, RoundContext
from consortium.rounds.checks.terms import privacy_terms
from ledger.content import Weights
from ledger.records import Participant


def step_cap(participant: Participant, parameters: int, reach: float) -> float:
    """The longest step that the contract's terms allow, but for one honest round in 200,000.

    Each of T steps moves by the learning rate times the sum of clipped gradients over the
    normaliser, at most ``reach`` clips (calibrated for the task), and by Gaussian noise. The norm
    of all noise together, in p dimensions, stays below sqrt(T) (sqrt(p) + 5) standard deviations
    (Laurent and Massart, 2000). On sampled batches the patients drawn in all T steps are binomial,
    of mean m: below m + x where x^2 = 25 (m + x / 3) (Bernstein).

    The relative distance of a wrongly un-mapped update, sqrt(2) |W_t|, fails here once it is
    longer than the cap; under strong noise that is late in a job, or never. What holds there is
    the commitment, the proof of the mapping and the score.
    """
    terms = privacy_terms(participant)
    signal = reach * terms.steps
    if not terms.full_batch:
        drawn = signal * float(terms.divisor)
        signal = (drawn + 25 / 6 + sqrt((25 / 6) ** 2 + 25 * drawn)) / float(terms.divisor)
    noise = float(terms.noise_multiplier / terms.divisor)
    longest = signal + noise * sqrt(terms.steps) * (sqrt(parameters) + 5)
    return float(terms.learning_rate * terms.clip) * longest


def check_step(context: RoundContext, participant: Participant, weights: Weights) -> None:
    """The step, update minus current model, is no longer than `step_cap`.

    Raises:
        Failed: ``StepTooLarge``.
    """
    step = weight_forms.vector(weights) - weight_forms.vector(context.model)
    cap = step_cap(participant, len(step), float(context.job.thresholds.reach))
    if sqrt(fsum((step * step).tolist())) > cap:
        raise Failed("StepTooLarge")
