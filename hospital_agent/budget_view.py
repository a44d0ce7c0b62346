"""What `hospital-agent budget` and a job's card show of a cohort's budget."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from hospital_agent.cohort import PARTS, Cohort
from hospital_agent.folder import HospitalFolder
from privacy import pld
from privacy.accounting import Cost, RenyiAccountant
from privacy.budget_status import COVERS, BudgetStatus, JobStatus
from privacy.contract import PrivacyTerms, decimal_text

OTHER_PARTS: Final = (
    "A budget of validation or test patients covers the numbers about them that left with noise, "
    "in jobs that asked for it, and nothing else of them."
)
_PARTS = {"train": "training", "validation": "validation", "test": "test"}


@dataclass(frozen=True)
class Part:
    """A job's part of a cohort's budget: shares, 0 to 1, of what the accountant may count."""

    job: JobStatus
    spent: float
    reserved: float


@dataclass(frozen=True)
class CohortView:
    """A cohort's budget, for people. ``patients``: whose it is, in words.

    Shares add up, where epsilons do not. pld_spent, pld_with_reserved: see `privacy.pld`.
    """

    patients: str
    status: BudgetStatus
    parts: tuple[Part, ...]
    pld_spent: Decimal
    pld_with_reserved: Decimal

    @property
    def spent(self) -> float:
        """Share of the lifetime budget that is spent."""
        return sum(part.spent for part in self.parts)

    @property
    def reserved(self) -> float:
        """Share that is reserved and not yet spent."""
        return sum(part.reserved for part in self.parts)

    @property
    def accountant(self) -> str:
        """What enforces the limit, in words."""
        return "Gaussian" if self.order is None else f"Rényi at order {self.order}"

    @property
    def order(self) -> int | None:
        """The order that a Rényi accountant counts at."""
        accountant = self.status.accountant
        return accountant.order if isinstance(accountant, RenyiAccountant) else None

    def body(self) -> dict[str, Any]:
        """As plain JSON values."""
        status = self.status
        return {
            "cohort": status.cohort,
            "patients": self.patients,
            "accountant": "gaussian" if self.order is None else "renyi",
            "order": self.order,
            "delta": decimal_text(status.delta),
            "epsilon_spent": str(status.epsilon_spent),
            "epsilon_reserved": str(status.epsilon_reserved),
            "epsilon_limit": str(status.epsilon_limit),
            "epsilon_left_for_a_next_job": str(status.epsilon_left_for_a_next_job),
            "epsilon_spent_by_pld": str(self.pld_spent),
            "epsilon_with_reserved_by_pld": str(self.pld_with_reserved),
            "share_spent": round(self.spent, 4),
            "share_reserved": round(self.reserved, 4),
            "jobs": [
                {
                    "job": part.job.job,
                    "epsilon": None if part.job.terms.epsilon is None
                    else decimal_text(part.job.terms.epsilon),
                    "sample_rate": decimal_text(part.job.terms.sample_rate),
                    "noise_multiplier": decimal_text(part.job.terms.noise_multiplier),
                    "steps": part.job.terms.steps,
                    "rounds_charged": part.job.rounds_charged,
                    "rounds_reserved": part.job.rounds_reserved,
                    "share_spent": round(part.spent, 4),
                    "share_reserved": round(part.reserved, 4),
                }
                for part in self.parts
            ],
        }  # fmt: skip


def covers(views: Sequence[CohortView]) -> tuple[str, ...]:
    """What the epsilons of these budgets say, and what not."""
    trained_on = all(view.patients.startswith(_PARTS["train"]) for view in views)
    return (COVERS,) if trained_on else (COVERS, OTHER_PARTS)


def cohort_views(folder: HospitalFolder) -> list[CohortView]:
    """All cohorts' budgets, oldest first. Raises what `Budget.status` raises."""
    budget = folder.budget
    known = {
        cohort.budget_of(part): f"{_PARTS[part]} patients of {cohort.name}"
        for cohort in Cohort.all(folder)
        for part in PARTS
    }
    return [
        _view(known.get(cohort, "patients that are not here"), budget.status(cohort),
              cache_of(folder))
        for cohort in budget.cohorts()
    ]  # fmt: skip


def cache_of(folder: HospitalFolder) -> Path:
    """Where epsilons by PLD are remembered."""
    return folder.path / "pld.json"


def pld_with(status: BudgetStatus, terms: PrivacyTerms, cache: Path) -> Decimal:
    """Epsilon by PLD of all that is spent and reserved, and of a job under `terms` beside it."""
    return pld.shown([*_taken(status), pld.Steps.of(terms, terms.rounds)], status.delta, cache)


def _view(patients: str, status: BudgetStatus, cache: Path) -> CohortView:
    def share(cost: Cost) -> float:
        return float(status.accountant.counted(cost) / status.limit) if status.limit else 0.0

    spent = [pld.Steps.of(job.terms, job.rounds_charged) for job in status.jobs]
    return CohortView(
        patients,
        status,
        tuple(Part(job, share(job.spent), share(job.reserved)) for job in status.jobs),
        pld.shown(spent, status.delta, cache),
        pld.shown(_taken(status), status.delta, cache),
    )


def _taken(status: BudgetStatus) -> list[pld.Steps]:
    return [
        pld.Steps.of(job.terms, job.rounds_charged + job.rounds_reserved) for job in status.jobs
    ]
