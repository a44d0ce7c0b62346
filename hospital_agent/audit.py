"""What `hospital-agent privacy audit` audits: a job's constants on patients that nobody is."""

from decimal import Decimal
from typing import TYPE_CHECKING, Final

from consortium import tasks
from consortium.rounds.checks import privacy_terms
from hospital_agent.errors import JobUnknown
from hospital_agent.folder import HospitalFolder
from hospital_agent.job_card import find_job
from hospital_agent.policy import Policy
from privacy.contract import PrivacyTerms

if TYPE_CHECKING:
    from torch import Tensor

_QUIET: Final = 20
_DECLARED: Final = 100


def job_terms(folder: HospitalFolder, name: str) -> tuple[str, PrivacyTerms]:
    """The task of a job on this hospital's copy of the ledger, and the hospital's terms in it.

    Raises:
        JobUnknown: if the copy holds none of this name, or the hospital has no part in it.
    """
    job = find_job(folder, name)
    for participant in job.participants:
        if participant.institution == folder.institution:
            return job.task, privacy_terms(participant)
    raise JobUnknown("this hospital has no part in the job", "name one that it takes part in")


def policy_terms(
    folder: HospitalFolder, task: str | None, epsilon: Decimal | None
) -> tuple[str, PrivacyTerms]:
    """A job by a task's recipe, of the largest epsilon that the policy gives one job.

    Without ``task`` the policy's first, or the first installed one; ``epsilon``: instead.

    Raises:
        TaskUnknown: if no such task is installed here.
        PrivacyError: if the epsilon cannot be kept.
    """
    policy = Policy.read(folder.path / "policy.json")
    chosen = tasks.get(task or min(policy.tasks or tasks.TASKS))
    wanted = epsilon or Decimal(policy.job_epsilon or policy.lifetime_epsilon)
    rounds = chosen.recipe.rounds
    return chosen.name, chosen.terms(rounds, wanted, Decimal(policy.delta), _DECLARED)


def made_up(task: str) -> "tuple[Tensor, Tensor]":
    """Inputs [21, ...] and labels [21] within the task's bounds; no patient's.

    Of twenty nothing is known but the outcome. The last is at the end of every scale, and of the
    outcome that an untrained model has least reason to expect.
    """
    import torch

    from consortium.tasks.schema import CLAMP

    x = torch.zeros(_QUIET + 1, *tasks.get(task).inputs.shape)
    x[-1] = float(CLAMP)
    y = torch.zeros(_QUIET + 1)
    y[: _QUIET // 2] = 1
    return x, y
