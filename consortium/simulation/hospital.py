"""What a simulation asks of a hospital. The hospital's agent provides it, with its own code.

`consortium` does not import `hospital_agent`; it asks the installed distribution for the entry
point ``medpole.simulation: hospital``.
"""

from collections.abc import Sequence
from decimal import Decimal
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol, cast

import httpx

from consortium.baselines import Metrics
from consortium.errors import PartMissing
from consortium.tasks.task import Split
from ledger.content import Weights
from ledger.records import Genesis, Job, MemberForm
from privacy.budget_status import BudgetStatus
from privacy.contract import PrivacyTerms


class SimulatedHospital(Protocol):
    """One hospital of a simulation: its own folder, its own keys."""

    id: str
    title: str
    path: Path

    def __init__(self, path: Path, institution: str, title: str) -> None: ...

    def admit(
        self, task: str, split: Split, declared: int, lifetime_epsilon: Decimal | None,
        delta: Decimal,
    ) -> None:  # fmt: skip
        """Stores the cohort and the policy, and opens the budget; what is there stays.

        A ``lifetime_epsilon`` that is given is the data owner's new limit.
        """

    def enrol(self) -> MemberForm:
        """Makes keys and shows that it holds them."""

    def sign_genesis(self, genesis: Genesis) -> dict[str, str]:
        """Signs the genesis, if it holds this hospital as it enrolled."""

    def quote(self, job: Job, terms: PrivacyTerms) -> None:
        """Raises what the policy or the budget has against the job; nothing is reserved."""

    def witness(self, client: httpx.Client) -> None:
        """Follows the ledger to its newest block and co-signs it."""

    def release(self, client: httpx.Client) -> None:
        """Evaluates what ended jobs gave out, and hands in what the release gate lets out."""

    def budget(self, task: str) -> BudgetStatus:
        """Spent, reserved and left."""

    def parts(self, task: str) -> Split:
        """The cohort's tables, for the comparison that only a simulation can make."""

    def evaluate(self, task: str, weights: Weights) -> Metrics:
        """A model on the test patients. Exact: in deployment this never leaves the hospital."""

    @staticmethod
    def client_app(paths: Sequence[Path], cheat: str | None, cheater: str | None) -> Any:
        """The Flower ClientApp that answers for these hospitals."""


def hospital_class() -> type[SimulatedHospital]:
    """The installed agent's simulated hospital.

    Raises:
        PartMissing: if the agent is not installed.
    """
    found = list(entry_points(group="medpole.simulation", name="hospital"))
    if not found:
        raise PartMissing(
            "the hospital's agent is not installed", "pip install 'medpole[simulation]'"
        )
    return cast("type[SimulatedHospital]", found[0].load())
