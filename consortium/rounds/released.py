"""The model that a job gives out."""

from collections.abc import Callable, Sequence

from consortium.rounds.aggregation import average_of_rounds
from consortium.rounds.checks.near_copy import EarlierStep
from consortium.rounds.progress import doubted, left_out
from consortium.rounds.unlearning import Taught, corrected
from ledger.content import Weights
from ledger.records import Job, Result


def released(
    job: Job,
    results: Sequence[Result],
    steps: Sequence[EarlierStep],
    model_of: Callable[[Result], Weights],
) -> Weights | None:
    """The mean of the models of the job's rounds from `average_from` on; the newest before that.

    Void rounds do not count. Each model is taken without whoever is left out after the last
    result: nothing of a hospital whose last proof was called harmful is in the mean.

    Args:
        job: its contract.
        results: all of the job's, oldest first.
        steps: what its rounds revealed, as of `Taught`.
        model_of: the model after a round (float32 arrays by name), from its result.

    Returns:
        Float32 arrays by name; None if no round has made a model.
    """
    made = [place for place, result in enumerate(results) if not result.void]
    averaged = [place for place in made if results[place].round >= job.average_from]
    taught, after, models = Taught(job, steps), doubted(results), []
    for place in averaged or made[-1:]:
        held = results[: place + 1]
        change = taught.correction(held, left_out(held), after)
        models.append(corrected(model_of(results[place]), change))
    return average_of_rounds(models) if models else None
