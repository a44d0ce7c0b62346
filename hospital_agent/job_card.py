"""A job as the hospital's people see it before they decide: its cost, and what the policy says."""

from dataclasses import asdict, dataclass

from consortium.rounds.checks import privacy_terms
from consortium.rounds.verdict import score_terms
from hospital_agent.budget_view import cache_of, pld_with
from hospital_agent.cohort import Cohort
from hospital_agent.decisions import APPROVE, Decision, Decisions, contract_digest
from hospital_agent.errors import AgentError, JobUnknown, PolicyRefused
from hospital_agent.folder import HospitalFolder
from hospital_agent.policy import Policy, asked
from hospital_agent.replica import Replica
from ledger.records import Job
from privacy.budget_status import COVERS
from privacy.contract import PrivacyTerms
from privacy.errors import BudgetExceeded, PrivacyError
from privacy.pld import SAYS


@dataclass(frozen=True)
class JobCard:
    """One job, in words.

    aggregation: the rule by which a round's updates become one model. state: running or over. cost:
    what it takes from the lifetime budget. by_pld: the same by PLD, which is information only.
    scores: how numbers about validation patients leave, and what that costs these. policy: "allows
    it", or the rule against it. person: who decided what. answer: what this hospital will answer
    now, "takes part" or a code.
    """

    job: str
    task: str
    contract: str
    rounds: int
    institutions: tuple[str, ...]
    aggregation: str
    state: str
    epsilon: str
    declared_patients: int | None
    cost: str
    by_pld: str
    scores: str
    policy: str
    person: str
    answer: str
    covers: str = COVERS

    @property
    def short(self) -> dict[str, object]:
        """What a list shows."""
        names = ("job", "task", "rounds", "epsilon", "state", "person", "answer")
        return {name: asdict(self)[name] for name in names}


def jobs_of(folder: HospitalFolder) -> list[Job]:
    """All jobs on this hospital's verified copy of the ledger, oldest first."""
    path = folder.path / "replica.sqlite"
    return list(Replica(path).jobs()) if path.exists() else []


def find_job(folder: HospitalFolder, name: str) -> Job:
    """A job by its id.

    Raises:
        JobUnknown: if this hospital's copy holds none of this name.
    """
    for job in jobs_of(folder):
        if job.job == name:
            return job
    raise JobUnknown(
        f"this hospital's copy of the ledger holds no job {name[:60]!r}",
        "see `hospital-agent jobs list`; a new job appears once the agent has caught up",
    )


def is_over(folder: HospitalFolder, job: Job) -> bool:
    """Whether the job's end stands on this hospital's copy."""
    return Replica(folder.path / "replica.sqlite").end_of(job.job) is not None


def job_card(folder: HospitalFolder, job: Job) -> JobCard:
    """What a person needs to decide on a job. Changes nothing."""
    policy = Policy.read(folder.path / "policy.json")
    decisions = Decisions(folder.path / "decisions.sqlite")
    over, terms = is_over(folder, job), _own_terms(folder, job)
    decision = decisions.of(job)
    ruling, answer, cost = "allows it", "takes part", "nothing: this hospital has no part in it"
    by_pld = ""
    if terms is None:
        ruling, answer = "nothing to allow", "has no part"
    else:
        try:
            policy.check(job, asked(terms, policy))
            policy.check_scores(job, score_terms(job, folder.institution))
        except PolicyRefused as error:
            ruling = f"refuses it by its rule {error.what}"
        cost = _cost(folder, job, terms)
        by_pld = _by_pld(folder, job, terms)
        answer = _answer(folder, job, terms, policy, decisions)
    return JobCard(
        job=job.job, task=job.task, contract=contract_digest(job), rounds=job.rounds,
        institutions=tuple(participant.institution for participant in job.participants),
        aggregation=job.aggregation,
        state="over" if over else "running",
        epsilon="none" if terms is None else str(asked(terms, policy)),
        declared_patients=None if terms is None else terms.normaliser,
        cost=cost, by_pld=by_pld, scores=_scores(folder, job, terms, policy), policy=ruling,
        person=_person(decision, policy, terms is not None),
        answer="is over" if over else answer,
    )  # fmt: skip


def _own_terms(folder: HospitalFolder, job: Job) -> PrivacyTerms | None:
    for participant in job.participants:
        if participant.institution == folder.institution:
            return privacy_terms(participant)
    return None


def _cost(folder: HospitalFolder, job: Job, terms: PrivacyTerms) -> str:
    try:
        cohort = Cohort.open(folder, job.task)
        status = folder.budget.status(cohort.id)
        for held in status.jobs:
            if held.job == job.job:
                return (
                    f"reserved already: {held.rounds_charged} rounds charged, "
                    f"{held.rounds_reserved} to come; epsilon spent {status.epsilon_spent}, "
                    f"limit {status.epsilon_limit}"
                )
        try:
            return folder.budget.quote(cohort.id, terms).text
        except BudgetExceeded as error:
            return f"does not fit: {folder.budget.card(cohort.id, terms).text}; {error.resolve}"
    except (AgentError, PrivacyError) as error:
        return f"unknown: {error.what}"


def _by_pld(folder: HospitalFolder, job: Job, terms: PrivacyTerms) -> str:
    try:
        status = folder.budget.status(Cohort.open(folder, job.task).id)
        if any(held.job == job.job for held in status.jobs):
            return "see `hospital-agent budget`"
        return f"epsilon after {pld_with(status, terms, cache_of(folder))}. {SAYS}"
    except (AgentError, PrivacyError) as error:
        return f"unknown: {error.what}"


def _scores(folder: HospitalFolder, job: Job, terms: PrivacyTerms | None, policy: Policy) -> str:
    cost = None if terms is None else score_terms(job, folder.institution)
    if cost is None:
        return "AUROC rounded to .02 in every round; no epsilon covers it"
    return (
        f"with noise, epsilon {asked(cost, policy)} for each validation patient over the job; "
        "charged to a budget of their own"
    )


def _answer(
    folder: HospitalFolder, job: Job, terms: PrivacyTerms, policy: Policy, decisions: Decisions
) -> str:
    """As `Participant.reserve` will answer, nothing reserved."""
    try:
        policy.check(job, asked(terms, policy))
        scores = score_terms(job, folder.institution)
        policy.check_scores(job, scores)
        decisions.check(job, policy)
        cohort = Cohort.open(folder, job.task)
        if terms.normaliser != cohort.declared_patients:
            return "PolicyRefused"
        _check_fits(folder, cohort.id, job, terms, policy)
        validation = cohort.budget_of("validation")
        if scores is not None and validation in folder.budget.cohorts():
            _check_fits(folder, validation, job, scores, policy)
    except (AgentError, PrivacyError) as error:
        return error.code
    return "takes part"


def _check_fits(
    folder: HospitalFolder, cohort: str, job: Job, terms: PrivacyTerms, policy: Policy
) -> None:
    status = folder.budget.status(cohort)
    policy.check_lifetime(status)
    if all(held.job != job.job for held in status.jobs):
        folder.budget.quote(cohort, terms)


def _person(decision: Decision | None, policy: Policy, asked_for: bool) -> str:
    if decision is not None:
        verb = "approved" if decision.answer == APPROVE else "refused"
        return f"{verb} by {decision.person}"
    return "must approve it" if policy.approval == "always" and asked_for else "need not approve"
