"""What a demo came to: for each hospital its models compared, its privacy, proofs and credits."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from statistics import fmean

from consortium import baselines, tasks
from consortium import weights as weight_forms
from consortium.baselines import Metrics
from consortium.coordinator.view import StoreView
from consortium.simulation.hospital import SimulatedHospital
from consortium.standing import credits_of
from ledger.content import Weights
from ledger.records import ACCEPTED, Job
from privacy.budget_status import BudgetStatus


@dataclass(frozen=True)
class HospitalOutcome:
    """One hospital after a job. Exact numbers: a simulation's data is all on this machine."""

    id: str
    title: str
    n_test: int
    local: Metrics
    federated: Metrics
    pooled: Metrics
    majority: float
    budget: BudgetStatus
    accepted: int
    rejected: int
    credits: int


@dataclass(frozen=True)
class Means:
    """Plain means over hospitals; AUROC over those that have one."""

    auroc_mean: float | None
    accuracy_mean: float


@dataclass(frozen=True)
class Rejection:
    """A proof that was not accepted, and why."""

    round: int
    institution: str
    code: str


@dataclass(frozen=True)
class Outcome:
    """A whole job."""

    hospitals: tuple[HospitalOutcome, ...]
    federated: Means
    nonprivate: Means | None
    rejections: tuple[Rejection, ...]


def job_outcome(
    view: StoreView,
    job: Job,
    released: Weights,
    hospitals: Sequence[SimulatedHospital],
    compare_nonprivate: bool,
) -> Outcome:
    """Compares the released model with what each hospital had without it."""
    task = tasks.get(job.task)
    results = view.results(job.job)
    splits = {hospital.id: hospital.parts(job.task) for hospital in hospitals}
    sizes = {p.institution: p.weight for p in job.participants}
    pooled = weight_forms.from_torch(
        baselines.pooled(task, list(splits.values()), sum(sizes.values()), job.rounds, job.seed)
    )
    rows = []
    for hospital in hospitals:
        split = splits[hospital.id]
        alone = weight_forms.from_torch(
            baselines.local(task, split, sizes[hospital.id], job.rounds, job.seed)
        )
        codes = [o.code for r in results for o in r.proofs if o.institution == hospital.id]
        rows.append(
            HospitalOutcome(
                id=hospital.id,
                title=hospital.title,
                n_test=len(split.test),
                local=hospital.evaluate(job.task, alone),
                federated=hospital.evaluate(job.task, released),
                pooled=hospital.evaluate(job.task, pooled),
                majority=baselines.majority(task, split),
                budget=hospital.budget(job.task),
                accepted=codes.count(ACCEPTED),
                rejected=len(codes) - codes.count(ACCEPTED),
                credits=sum(credits_of(result, hospital.id) for result in results),
            )
        )
    nonprivate = None
    if compare_nonprivate:
        delta = Decimal(job.participants[0].terms.delta)
        terms = {name: task.terms(job.rounds, None, delta, size) for name, size in sizes.items()}
        ordered = {name: splits[name] for name in sorted(splits)}
        plain = weight_forms.from_torch(
            baselines.federated(task, ordered, terms, seed=job.seed).final
        )
        nonprivate = _means([hospital.evaluate(job.task, plain) for hospital in hospitals])
    return Outcome(
        hospitals=tuple(rows),
        federated=_means([row.federated for row in rows]),
        nonprivate=nonprivate,
        rejections=tuple(
            Rejection(result.round, outcome.institution, outcome.code)
            for result in results
            for outcome in result.proofs
            if outcome.code != ACCEPTED
        ),
    )


def _means(metrics: Sequence[Metrics]) -> Means:
    aurocs = [m.auroc for m in metrics if m.auroc is not None]
    return Means(fmean(aurocs) if aurocs else None, fmean(m.accuracy for m in metrics))
