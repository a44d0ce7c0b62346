"""What the hospital's data owner allows, whatever the consortium asks for.

A hospital without ``policy.json`` has the default: sane limits, and no task until its data is
there. A policy that cannot be read allows nothing.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final

from consortium import tasks
from hospital_agent.errors import FolderInvalid, PolicyInvalid, PolicyRefused, ReleaseRefused
from hospital_agent.folder import HospitalFolder, read_json, write_json
from ledger.records import Job, NoisedScores
from privacy.accounting import epsilon_of_job, shown_up
from privacy.budget_status import BudgetStatus
from privacy.contract import PrivacyTerms, check_delta, check_epsilon
from privacy.errors import PrivacyError
from privacy.release import FEWEST_OF_A_CLASS

APPROVALS: Final = ("never", "always")
ONE_CLASS: Final = ("allowed", "refused")
INSTALLED: Final = "installed"
EVALUATIONS: Final = ("banded", "noised", "none")
SCORES: Final = ("banded", "noised")
EVALUATION_LIMIT: Final = 100
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Policy:
    """The hospital's limits.

    ``lifetime_epsilon`` at ``delta`` bounds every cohort over all jobs, ``job_epsilon`` one job
    (None: as much as the lifetime allows); ``fewest_institutions`` is the smallest job that the
    hospital takes part in; ``tasks`` are those it allows. ``approval``: whether a person must
    approve each job ("never", "always"). ``scores``: "noised" refuses jobs whose scores on
    validation patients leave in bands, which no epsilon covers; "banded" allows both. ``app``:
    which model code may run: the app built from this agent's own package ("installed"), or the
    bundles with these SHA-256. ``evaluations``: whether test results of released models leave in
    bands ("banded"), only with noise, in jobs whose contract names it ("noised"), or not at all
    ("none"); ``evaluation_limit``: of how many jobs, over a cohort's life. ``fewest_of_a_class``:
    test patients with and without the outcome below which no result about them is shown or leaves
    in bands (5 at least). ``fewest_alike``: the k
    that a table must reach in its quasi-identifiers before it is stored, by coarser values and by
    leaving out at most ``left_out_percent`` of its rows (0: k is reported and nothing is changed).
    ``one_class``: whether a table may be stored whose training part holds one outcome only.
    """

    lifetime_epsilon: str
    delta: str
    tasks: tuple[str, ...]
    fewest_institutions: int = 1
    job_epsilon: str | None = None
    approval: str = "never"
    app: str | tuple[str, ...] = INSTALLED
    evaluations: str = "banded"
    evaluation_limit: int = EVALUATION_LIMIT
    fewest_alike: int = 0
    left_out_percent: int = 5
    one_class: str = "allowed"
    scores: str = "banded"
    fewest_of_a_class: int = FEWEST_OF_A_CLASS

    @staticmethod
    def read(path: Path) -> "Policy":
        """Reads ``policy.json``; the default policy where there is none.

        Raises:
            FolderInvalid: if it is damaged or not of this form.
        """
        if not path.exists():
            return default_policy()
        content = read_json(path)
        try:
            for name in ("tasks", "app"):
                if isinstance(content.get(name), list):
                    content[name] = tuple(content[name])
            policy = Policy(**content)
            _check(policy)
        except (TypeError, PolicyInvalid, PrivacyError):
            raise FolderInvalid(
                f"{path.name} is not a policy",
                f"correct it by hand, or move {path} away and set it anew with "
                "`hospital-agent policy set`",
            ) from None
        return policy

    def write(self, path: Path) -> None:
        """Writes ``policy.json``."""
        write_json(path, asdict(self))

    def check(self, job: Job, epsilon: Decimal) -> None:
        """Whether the policy allows a job that asks for ``epsilon`` (see `asked`).

        Raises:
            PolicyRefused: naming the rule.
        """
        if job.task not in self.tasks:
            raise PolicyRefused(
                f"tasks: the policy does not allow the task {job.task}",
                f"the data owner may run `hospital-agent policy set --allow-task {job.task}`",
            )
        if len(job.participants) < self.fewest_institutions:
            raise PolicyRefused(
                f"fewest_institutions: the job has {len(job.participants)} institutions, "
                f"the policy asks for {self.fewest_institutions}",
                "invite more institutions, or ask the data owner",
            )
        self._check_epsilon(epsilon, "the job asks")

    def _check_epsilon(self, epsilon: Decimal, who: str) -> None:
        limits = {"job_epsilon": self.job_epsilon, "lifetime_epsilon": self.lifetime_epsilon}
        for rule, limit in limits.items():
            if limit is not None and epsilon > Decimal(limit):
                raise PolicyRefused(
                    f"{rule}: {who} for epsilon {epsilon} at delta {self.delta}, "
                    f"the limit is {limit}",
                    "submit a job with a smaller epsilon, or ask the data owner",
                )

    def check_scores(self, job: Job, terms: PrivacyTerms | None) -> None:
        """Whether the policy allows what a job's verdicts say of validation patients.

        ``terms``: what they cost (`consortium.rounds.verdict.score_terms`); None: they leave in
        bands.

        Raises:
            PolicyRefused: naming the rule.
        """
        if terms is not None:
            self._check_epsilon(asked(terms, self), "its scores ask")
        elif self.scores == "noised":
            raise PolicyRefused(
                "scores: the policy asks for noise on scores, and the job's leave in bands",
                "submit the job with --score-noise, or the data owner may run "
                "`hospital-agent policy set --scores banded`",
            )

    def check_lifetime(self, budget: BudgetStatus) -> None:
        """Whether a cohort's budget, which is what refuses, promises all that this policy does.

        Raises:
            PolicyRefused: if its limit is higher: ``policy.json`` was written by hand.
        """
        lifetime, delta = Decimal(self.lifetime_epsilon), Decimal(self.delta)
        if budget.epsilon_limit > lifetime or budget.delta > delta:
            raise PolicyRefused(
                f"lifetime_epsilon: {lifetime} at delta {delta}, and the budget of cohort "
                f"{budget.cohort} goes up to {budget.epsilon_limit} at delta {budget.delta}",
                "the data owner sets both with `hospital-agent policy set --lifetime-epsilon "
                "EPSILON`; delta stays what the budget says",
            )

    def check_evaluation(self, job: Job) -> None:
        """Whether the policy lets this hospital's test results on a job's model out.

        Raises:
            ReleaseRefused: naming the rule.
        """
        if self.evaluations == "none":
            raise ReleaseRefused(
                "evaluations: the policy releases none",
                "the data owner may run `hospital-agent policy set --evaluations banded`",
            )
        if self.evaluations == "noised" and not isinstance(job.scores, NoisedScores):
            raise ReleaseRefused(
                "evaluations: the policy asks for noise, and the job's contract names none",
                "submit jobs with --score-noise, or the data owner may run "
                "`hospital-agent policy set --evaluations banded`",
            )
        if job.task not in self.tasks:
            raise ReleaseRefused(
                f"tasks: the policy does not allow the task {job.task}",
                f"the data owner may run `hospital-agent policy set --allow-task {job.task}`",
            )

    def check_app(self, bundle: str, installed: str) -> None:
        """Whether an app bundle of this SHA-256 may run here; ``installed``: that of the own one.

        Raises:
            PolicyRefused: naming the rule.
        """
        allowed = (installed,) if isinstance(self.app, str) else self.app
        if bundle not in allowed:
            raise PolicyRefused(
                f"app: the policy does not allow the app bundle {bundle}",
                "run the same version on both sides, or ask the data owner to allow this bundle",
            )


def default_policy() -> Policy:
    """What holds until the data owner decides: no task is allowed before its data is added."""
    return Policy(
        lifetime_epsilon="3", delta="0.00001", tasks=(), fewest_institutions=3, job_epsilon="1"
    )


def asked(terms: PrivacyTerms, policy: Policy) -> Decimal:
    """The epsilon that a whole job costs at the policy's delta, rounded up; infinite without noise.

    A job may claim its epsilon at a larger delta, where it looks smaller.
    """
    if not terms.private:
        return Decimal("Infinity")
    return shown_up(epsilon_of_job(terms, Decimal(policy.delta)))


def change_policy(folder: HospitalFolder, changes: Mapping[str, Any]) -> Policy:
    """Changes fields of the policy, and with the lifetime limit every cohort's.

    Raises:
        PolicyInvalid: if a value cannot stand in a policy.
        PrivacyError: if the limit is not allowed, or below what is spent and reserved.
    """
    path = folder.path / "policy.json"
    before = Policy.read(path)
    policy = replace(before, **changes)
    _check(policy)
    cohorts = folder.budget.cohorts()
    if cohorts and Decimal(policy.delta) != Decimal(before.delta):
        raise PolicyInvalid("delta stays for a cohort's life", "leave it as it is")
    if "lifetime_epsilon" in changes:
        for cohort in cohorts:
            folder.budget.set_limit(cohort, Decimal(policy.lifetime_epsilon))
    policy.write(path)
    return policy


def allow_task(folder: HospitalFolder, task: str) -> Policy:
    """Adds a task to those allowed.

    Raises:
        TaskError: if no such task is installed here.
    """
    tasks.get(task)
    allowed = Policy.read(folder.path / "policy.json").tasks
    return change_policy(folder, {"tasks": tuple(sorted({*allowed, task}))})


def _check(policy: Policy) -> None:
    for name in ("lifetime_epsilon", "delta", "job_epsilon"):
        value = getattr(policy, name)
        if value is None and name == "job_epsilon":
            continue
        try:
            number = Decimal(value) if isinstance(value, str) else None
        except InvalidOperation:
            number = None
        if number is None:
            raise PolicyInvalid(f"{name} is not a number", "write it like 2 or 0.00001")
        (check_delta if name == "delta" else check_epsilon)(number)
    if type(policy.fewest_institutions) is not int or policy.fewest_institutions < 1:
        raise PolicyInvalid("fewest_institutions is not a number from 1 on", "write it like 3")
    if policy.evaluations not in EVALUATIONS:
        raise PolicyInvalid(
            "evaluations is no choice that there is", f"choose one of: {', '.join(EVALUATIONS)}"
        )
    if policy.scores not in SCORES:
        raise PolicyInvalid(
            "scores is no choice that there is", f"choose one of: {', '.join(SCORES)}"
        )
    if type(policy.evaluation_limit) is not int or policy.evaluation_limit < 0:
        raise PolicyInvalid("evaluation_limit is not a number from 0 on", "write it like 100")
    if type(policy.fewest_of_a_class) is not int or policy.fewest_of_a_class < FEWEST_OF_A_CLASS:
        raise PolicyInvalid(
            f"fewest_of_a_class is not a number from {FEWEST_OF_A_CLASS} on", "write it like 10"
        )
    if type(policy.fewest_alike) is not int or policy.fewest_alike < 0 or policy.fewest_alike == 1:
        raise PolicyInvalid("fewest_alike is neither 0 nor a number from 2 on", "write it like 5")
    if type(policy.left_out_percent) is not int or not 0 <= policy.left_out_percent <= 50:
        raise PolicyInvalid("left_out_percent is not a number from 0 to 50", "write it like 5")
    if policy.one_class not in ONE_CLASS:
        raise PolicyInvalid(
            "one_class is no choice that there is", f"choose one of: {', '.join(ONE_CLASS)}"
        )
    if not _texts(policy.tasks):
        raise PolicyInvalid("tasks is not a list of names", 'write it like ["heart-disease"]')
    if policy.approval not in APPROVALS:
        raise PolicyInvalid(
            "approval is no choice that there is", f"choose one of: {', '.join(APPROVALS)}"
        )
    bundles = isinstance(policy.app, tuple) and policy.app and _texts(policy.app)
    if policy.app != INSTALLED and not (bundles and all(map(_DIGEST.fullmatch, policy.app))):
        raise PolicyInvalid(
            "app is neither `installed` nor SHA-256 digests",
            "a digest has 64 hexadecimal digits, in small letters",
        )


def _texts(value: object) -> bool:
    return isinstance(value, tuple) and all(isinstance(text, str) for text in value)
