"""What the hospital's data owner allows, whatever the consortium asks for."""

from dataclasses import asdict, dataclass, replace
from decimal import Decimal, InvalidOperation
from pathlib import Path

from hospital_agent.errors import FolderInvalid, PolicyInvalid, PolicyRefused
from hospital_agent.folder import HospitalFolder, read_json, write_json
from ledger.records import Job
from privacy.contract import check_epsilon


@dataclass(frozen=True)
class Policy:
    """The hospital's limits.

    ``lifetime_epsilon`` at ``delta`` bounds every cohort over all jobs; ``fewest_institutions``
    is the smallest job that the hospital takes part in; ``tasks`` are those it allows.
    """

    lifetime_epsilon: str
    delta: str
    tasks: tuple[str, ...]
    fewest_institutions: int = 1

    @staticmethod
    def read(path: Path) -> "Policy":
        """Reads ``policy.json``.

        Raises:
            FolderInvalid: if it is missing or not of this form.
        """
        try:
            content = read_json(path)
            return Policy(**{**content, "tasks": tuple(content["tasks"])})
        except (KeyError, TypeError):
            raise FolderInvalid(
                f"{path.name} is not a policy", "set it with `hospital-agent policy set`"
            ) from None

    def write(self, path: Path) -> None:
        """Writes ``policy.json``."""
        write_json(path, asdict(self))

    def check(self, job: Job, epsilon: Decimal) -> None:
        """Whether the policy allows a job that asks for ``epsilon``.

        Raises:
            PolicyRefused: naming the rule.
        """
        if job.task not in self.tasks:
            raise PolicyRefused(
                f"the policy does not allow the task {job.task}",
                "the data owner may add it to `tasks` in policy.json",
            )
        if len(job.participants) < self.fewest_institutions:
            raise PolicyRefused(
                f"the job has {len(job.participants)} institutions, "
                f"the policy asks for {self.fewest_institutions}",
                "invite more institutions, or ask the data owner",
            )
        if epsilon > Decimal(self.lifetime_epsilon):
            raise PolicyRefused(
                f"the job asks for epsilon {epsilon}, the lifetime limit is "
                f"{self.lifetime_epsilon}",
                "submit a job with a smaller epsilon",
            )


def change_policy(
    folder: HospitalFolder, lifetime_epsilon: str | None, fewest_institutions: int | None
) -> Policy:
    """Changes the policy, and with it every cohort's limit; nothing changes on an error.

    Raises:
        PolicyInvalid: if the limit is not a number.
        PrivacyError: if the limit is not allowed, or below what is spent and reserved.
    """
    path = folder.path / "policy.json"
    policy = Policy.read(path)
    if fewest_institutions is not None:
        policy = replace(policy, fewest_institutions=fewest_institutions)
    if lifetime_epsilon is not None:
        try:
            limit = Decimal(lifetime_epsilon)
        except InvalidOperation:
            raise PolicyInvalid(
                "the lifetime epsilon is not a number", "write it like 2 or 2.5"
            ) from None
        check_epsilon(limit)
        for cohort in folder.budget.cohorts():
            folder.budget.set_limit(cohort, limit)
        policy = replace(policy, lifetime_epsilon=lifetime_epsilon)
    policy.write(path)
    return policy
