"""What the hospital's data owner allows, whatever the consortium asks for."""

from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path

from hospital_agent.errors import FolderInvalid, PolicyRefused
from hospital_agent.folder import read_json, write_json
from ledger.records import Job


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
                "the data owner may allow it: hospital-agent policy set --task",
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
