"""A hospital of a simulation: the agent's own code, called in this process."""

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import httpx
from flwr.clientapp import ClientApp

from consortium import tasks
from consortium.baselines import Metrics, evaluate
from consortium.simulation.options import DEFAULT_LIFETIME_EPSILON
from consortium.tasks.task import Split
from consortium.weights import to_torch
from hospital_agent.client_app import simulation_client_app
from hospital_agent.cohort import PARTS, Cohort
from hospital_agent.enrolment import enrol, sign_genesis
from hospital_agent.evaluation import Evaluations
from hospital_agent.folder import HospitalFolder
from hospital_agent.ledger_api import LedgerApi
from hospital_agent.policy import Policy, asked, change_policy
from hospital_agent.witness import Witness
from ledger.content import Weights
from ledger.records import Genesis, Job, MemberForm
from privacy.budget_status import BudgetStatus
from privacy.contract import PrivacyTerms


class SimulatedHospital:
    """Implements `consortium.simulation.hospital.SimulatedHospital`."""

    def __init__(self, path: Path, institution: str, title: str) -> None:
        self._folder = HospitalFolder.create(path, institution, title)
        self.id, self.title, self.path = institution, title, path
        self._witness: Witness | None = None

    def admit(
        self, task: str, split: Split, declared: int, lifetime_epsilon: Decimal | None,
        delta: Decimal,
    ) -> None:  # fmt: skip
        """Stores the cohort and the policy, and opens the budget; what is there stays."""
        path = self._folder.path / "policy.json"
        if not path.exists():
            limit = lifetime_epsilon or Decimal(DEFAULT_LIFETIME_EPSILON)
            Policy(str(limit), str(delta), (task,)).write(path)
        policy = Policy.read(path)
        Cohort.add(
            self._folder, task, split, declared, Decimal(policy.lifetime_epsilon),
            Decimal(policy.delta),
        )  # fmt: skip
        if lifetime_epsilon is not None:
            change_policy(self._folder, {"lifetime_epsilon": str(lifetime_epsilon)})

    def enrol(self) -> MemberForm:
        """Makes keys and shows that it holds them."""
        return enrol(self._folder)

    def sign_genesis(self, genesis: Genesis) -> dict[str, str]:
        """Signs the genesis, if it holds this hospital as it enrolled."""
        return sign_genesis(self._folder, genesis)

    def quote(self, job: Job, terms: PrivacyTerms) -> None:
        """Raises what the policy or the budget has against the job; nothing is reserved."""
        self._folder.budget.quote(Cohort.open(self._folder, job.task).id, terms)
        policy = Policy.read(self._folder.path / "policy.json")
        policy.check(job, asked(terms, policy))

    def witness(self, client: httpx.Client) -> None:
        """Follows the ledger to its newest block and co-signs it."""
        if self._witness is None:
            self._witness = Witness(self._folder, LedgerApi(client, self._folder))
        self._witness.step()

    def release(self, client: httpx.Client) -> None:
        """Evaluates what ended jobs gave out, and hands in what the release gate lets out."""
        self.witness(client)  # whether the end is final it learns from the others' cosignatures
        Evaluations(self._folder, LedgerApi(client, self._folder)).step()

    def budget(self, task: str) -> BudgetStatus:
        """Spent, reserved and left."""
        return self._folder.budget.status(Cohort.open(self._folder, task).id)

    def parts(self, task: str) -> Split:
        """The cohort's tables."""
        cohort = Cohort.open(self._folder, task)
        return Split(*(cohort.frame(part) for part in PARTS))

    def evaluate(self, task: str, weights: Weights) -> Metrics:
        """A model on the test patients."""
        frame = Cohort.open(self._folder, task).frame("test")
        return evaluate(tasks.get(task), to_torch(weights), frame)

    @staticmethod
    def client_app(paths: Sequence[Path], cheat: str | None, cheater: str | None) -> ClientApp:
        """The Flower ClientApp that answers for these hospitals."""
        return simulation_client_app([str(path) for path in paths], cheat, cheater)
