"""Budgets of validation and test patients: opened when a job first asks for noise on their numbers.

A patient is in one part, so each part's epsilon covers its own patients, whatever the others cost.
"""

from decimal import Decimal

from hospital_agent.cohort import Cohort
from hospital_agent.folder import HospitalFolder
from hospital_agent.policy import Policy
from privacy.contract import PrivacyTerms


def reserve_of_part(
    folder: HospitalFolder, cohort: Cohort, part: str, job: str, terms: PrivacyTerms, policy: Policy
) -> None:  # fmt: skip
    """Sets a job's whole cost for the patients of another part than training's aside.

    Raises:
        PrivacyError: if it does not fit, or the budget's file is another one than the cohort's.
        PolicyRefused: if the budget promises less than the policy.
    """
    budget, name = folder.budget, cohort.budget_of(part)
    budget.status(cohort.id)  # where training's is lost, this part's may be too
    if name not in budget.cohorts():  # opened when it is first needed
        budget.open_cohort(name, Decimal(policy.lifetime_epsilon), Decimal(policy.delta))
    policy.check_lifetime(budget.status(name))
    budget.reserve(name, job, terms)
