"""A job's contract: all that a hospital must know before it spends privacy, in public constants.

`make_job` writes it; `check_job` is what every member checks before it co-signs the job: the task
is one that it has, with the same schema and defaults; the initial model is the task's own; the
noise gives the promised epsilon. Whether the hospital wants to spend that is for its own policy.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache

from consortium import tasks
from consortium import weights as weight_forms
from consortium.errors import JobInvalid
from consortium.rounds.aggregation import FEWEST, average_from
from consortium.rounds.checks import privacy_terms
from consortium.rounds.committee import committee_size
from consortium.rounds.verdict import score_terms
from consortium.tasks.errors import TaskUnknown
from ledger.content import Weights, model_hash
from ledger.quorum import quorum
from ledger.records import (
    Aggregation,
    BandedScores,
    Durations,
    Job,
    MemberForm,
    NoisedScores,
    Participant,
    Terms,
)
from privacy.accounting import check_claim
from privacy.contract import PrivacyTerms
from privacy.errors import PrivacyError
from sml.errors import MappingInvalid
from sml.groups import MappingGroup

BANDED = BandedScores(kind="banded")
DURATIONS = Durations(train=600, close=60, reveal=120, verify=600)
LONGEST_PHASE_S = 7 * 24 * 3600


@dataclass(frozen=True)
class JobOrder:
    """What a person asks for.

    ``epsilon`` decides the noise, unless ``noise`` names a noise multiplier for an institution: its
    epsilon is then what that gives. ``sample_rate`` below 1: each step on a Poisson sample.
    ``scores``: how numbers about validation patients leave. ``aggregation``: the rule by which a
    round's updates become one model.
    """

    task: str
    rounds: int
    epsilon: Decimal
    delta: Decimal
    seed: int
    durations: Durations = DURATIONS
    sample_rate: Decimal = Decimal(1)
    noise: Mapping[str, Decimal] = field(default_factory=dict)
    scores: BandedScores | NoisedScores = BANDED
    aggregation: Aggregation = "weighted-mean"


def make_job(ledger: str, name: str, order: JobOrder, declared_patients: Mapping[str, int]) -> Job:
    """The contract of a job.

    Args:
        ledger: the ledger's id.
        name: the job's id, new on this ledger.
        order: what is asked for.
        declared_patients: the round number of patients that each institution declares in
            public: the normaliser of its updates and its weight in the average.

    Raises:
        PrivacyError, TaskError: if the order cannot be kept.
    """
    task = tasks.get(order.task)
    return Job(
        v=1,
        type="job",
        ledger=ledger,
        author="coordinator",
        job=name,
        task=task.name,
        task_fingerprint=task.fingerprint(),
        rounds=order.rounds,
        seed=order.seed,
        initial_model=model_hash(initial_model(task.name, order.seed)),
        average_from=average_from(order.rounds),
        aggregation=order.aggregation,
        participants=tuple(
            Participant(
                institution=institution,
                weight=declared_patients[institution],
                terms=Terms.model_validate(
                    make_terms(order, institution, declared_patients[institution]).to_record()
                ),
            )
            for institution in sorted(declared_patients)
        ),
        thresholds=task.thresholds,
        scores=order.scores,
        committee=committee_size(len(declared_patients)),
        durations=order.durations,
    )


def make_terms(order: JobOrder, institution: str, declared_patients: int) -> PrivacyTerms:
    """One institution's terms: the task's recipe, and the noise that is asked for.

    Raises:
        PrivacyError: if the epsilon, the noise, the sample rate, the delta or the rounds cannot be
            kept.
    """
    return tasks.get(order.task).terms(
        order.rounds, order.epsilon, order.delta, declared_patients,
        sample_rate=order.sample_rate, noise_multiplier=order.noise.get(institution),
    )  # fmt: skip


def initial_model(task: str, seed: int) -> Weights:
    """The task's model before any training."""
    return weight_forms.of_module(tasks.get(task).model(seed))


def task_groups(job: Job) -> tuple[MappingGroup, ...]:
    """The axes of the job's model that the secure mapping permutes."""
    return _groups(job.task, tasks.get(job.task).code, job.seed)


# Found on a model that is built for nothing else, and asked for in every phase of a round.
@lru_cache(maxsize=32)
def _groups(task: str, code: str, seed: int) -> tuple[MappingGroup, ...]:
    from sml.model_groups import groups_for  # loads torch

    known = tasks.get(task)
    return groups_for(known.model(seed), example=known.example())


def check_job(job: Job, members: Mapping[str, MemberForm]) -> None:
    """Checks a job's contract.

    Raises:
        JobInvalid: naming the first rule that it breaks.
    """
    try:
        task = tasks.get(job.task)
    except TaskUnknown:
        raise _invalid("its task is not installed here") from None
    names: Sequence[str] = [participant.institution for participant in job.participants]
    if list(names) != sorted(set(names)) or not set(names) <= set(members):
        raise _invalid("its participants are not members, in order, each once")
    if len(names) < quorum(len(members)):
        raise _invalid("it has fewer participants than the quorum, so no round could ever end")
    if job.task_fingerprint != task.fingerprint():
        raise _invalid("its task is not the one installed here")
    if job.initial_model != model_hash(initial_model(job.task, job.seed)):
        raise _invalid("its initial model is not the task's")
    if not _mapped_exactly(job):
        raise _invalid("its model has no mapping that is exact to the bit")
    if job.thresholds != task.thresholds:
        raise _invalid("its thresholds are not the task's")
    if max(job.durations.model_dump().values()) > LONGEST_PHASE_S:
        raise _invalid("one of its phases waits longer than seven days")
    if job.committee != committee_size(len(names)):
        raise _invalid("its committee is not of the size that its participants need")
    if len(names) < FEWEST[job.aggregation]:
        raise _invalid(
            f"{job.aggregation} needs {FEWEST[job.aggregation]} participants, it has {len(names)}"
        )
    if job.average_from != average_from(job.rounds):
        raise _invalid("its rule for the released model is not the task's")
    largest = max(participant.weight for participant in job.participants)
    if len(names) > 2 and 2 * largest > sum(participant.weight for participant in job.participants):
        raise _invalid("one participant's weight is more than half of all")
    for participant in job.participants:
        if participant.terms.rounds != job.rounds:
            raise _invalid(f"the terms of {participant.institution} are for other rounds")
        if participant.weight != participant.terms.normaliser:
            raise _invalid(f"the weight of {participant.institution} is not its declared patients")
        recipe, terms = task.recipe, privacy_terms(participant)
        steps = recipe.steps(job.rounds)
        travel = recipe.learning_rate(job.rounds, steps)
        asked = (terms.steps, terms.learning_rate, terms.clip, terms.clipping)
        if asked != (steps, travel, recipe.clip, recipe.clipping):
            raise _invalid(f"the terms of {participant.institution} are not the task's recipe")
        try:
            check_claim(terms)
            score_terms(job, participant.institution)
        except PrivacyError as error:
            raise _invalid(f"the terms of {participant.institution}: {error.what}") from None


def _mapped_exactly(job: Job) -> bool:
    try:
        return all(group.exact for group in task_groups(job))
    except MappingInvalid:
        return False


def _invalid(what: str) -> JobInvalid:
    return JobInvalid(f"the job's contract does not hold: {what}", "submit a corrected job")
