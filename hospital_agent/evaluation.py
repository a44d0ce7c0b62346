"""The hospital evaluates the model that a job gave out on its own test patients, and says so once.

Beside it stand the hospital's own model alone, and the released one with the hospital's own
calibration: fitted on its training and validation patients, never on those that it is tested on.
Validation patients alone would do too, and calibrate worse: there are a fifth as many. That the
released model has learned from the training patients biases the fit little, for each job's noise
bounds what it knows of any one of them.

When the end of a job in which this hospital has revealed is final on its verified copy, the model
is derived from that copy; the numbers pass the release gate (`privacy.release`), are signed and
kept (`hospital_agent.releases`), and are handed in until they stand on the ledger. What the policy,
a person or the gate's memory refuses is noted with its code, and told once; it is looked at again
when the policy has changed, and at the next start.
"""

import logging
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from consortium import tasks
from consortium.errors import ConsortiumError
from consortium.rounds.score import banded_score
from consortium.rounds.verdict import release_noise
from consortium.tasks.errors import TaskError
from hospital_agent.cohort import PARTS, Cohort
from hospital_agent.decisions import Decisions
from hospital_agent.errors import AgentError, ApiUnreachable, MemberStopped, ReleaseRefused
from hospital_agent.folder import HospitalFolder
from hospital_agent.ledger_api import LedgerApi
from hospital_agent.part_budget import reserve_of_part
from hospital_agent.policy import Policy
from hospital_agent.releases import Release, Releases
from hospital_agent.view import ReplicaView
from ledger.content import Weights, digest, model_hash
from ledger.entry import sign_record
from ledger.errors import LedgerError
from ledger.keys import Role
from ledger.records import Evaluation, Gain, Job, Measures
from privacy.errors import PrivacyError
from privacy.noise import NoiseSource, SecureNoise
from privacy.noised_release import TEST_RESULTS, ReleaseNoise
from privacy.release import BANDS, FEWEST_OF_A_CLASS, released, released_gain, size_band

if TYPE_CHECKING:
    from consortium.gain import Difference
    from consortium.gain import Gain as ExactGain
    from consortium.recalibration import Recalibration
    from ledger.entry import Entry

_AGAIN_S = 60.0
log = logging.getLogger("medpole.evaluation")


@dataclass(frozen=True)
class Exact:
    """How models do on this hospital's test patients: fractions of 1, or None. Never leaves.

    ``calibrated``: the released model under ``calibration``, the hospital's own. ``gain``, and
    ``ranking`` for the AUROC: the released model beside the hospital's own alone.
    """

    positives: int
    negatives: int
    federated: Mapping[str, float | None]
    calibrated: Mapping[str, float | None]
    alone: Mapping[str, float | None]
    majority: float | None
    calibration: "Recalibration"
    gain: "ExactGain | None" = None
    ranking: "Difference | None" = None

    def counted(self, fewest: int) -> tuple[int, int]:
        """Test patients of each class, 0 where they are fewer than that: nothing is said then."""
        return (
            self.positives if self.positives >= fewest else 0,
            self.negatives if self.negatives >= fewest else 0,
        )


class Evaluations:
    """One hospital's evaluations, over one consortium's API."""

    def __init__(self, folder: HospitalFolder, api: LedgerApi) -> None:
        self._folder, self._api = folder, api
        self._view = ReplicaView(folder, api.fetch)
        self._releases = Releases(folder.path / "releases.sqlite")
        self._refused: dict[str, Policy | None] = {}  # by this process, and under which policy
        self._woken = threading.Event()

    def wake(self) -> None:
        """The copy of the ledger has grown, or it is time to stop."""
        self._woken.set()

    def run(self, stop: threading.Event) -> None:
        """Evaluates what is due when it is woken, until stopped."""
        while not stop.is_set():
            self._woken.clear()
            try:
                taken = self.step()
            except Exception as error:  # a full disk, say: the agent goes on without
                code = error.code if isinstance(error, AgentError) else type(error).__name__
                log.error("evaluations: %s", code)
                taken = False
            self._woken.wait(None if taken else _AGAIN_S)

    def step(self) -> bool:
        """Evaluates and hands in what is due; says whether all was taken."""
        taken, policy = True, self._policy()
        for job in self._due():
            if job in self._refused and self._refused[job] == policy:
                continue
            try:
                self._evaluate(job)
            except ApiUnreachable as error:
                log.warning("evaluation of %s: not handed in: %s", job, error.code)
                taken = False
            except (AgentError, ConsortiumError, LedgerError, PrivacyError, TaskError) as error:
                self._refuse(job, error.code)
            except Exception as error:  # its text may hold a patient's value
                log.error("evaluation of %s: %s", job, type(error).__name__)
                self._refuse(job, "InternalError")
        return taken

    def _due(self) -> list[str]:
        return self._view.replica.learned(self._folder.institution, evaluated=False)

    def _evaluate(self, job: str) -> None:
        contract, policy = self._allowed(job)  # also what is kept: it may not have left yet
        release = self._releases.of(job)
        if release is None:
            release = self._release(contract, policy)
            log.info("evaluation of %s: released", job)
        if policy.evaluations == "noised" and not release.evaluation.noised:
            raise ReleaseRefused(
                "evaluations: the policy asks for noise, and what is kept is banded",
                "the data owner may run `hospital-agent policy set --evaluations banded`",
            )
        kept = release.evaluation
        said = {"positives": kept.positives, "negatives": kept.negatives}
        if any(said[n] and release.exact[n] < policy.fewest_of_a_class for n in said):
            raise ReleaseRefused(
                "fewest_of_a_class: what is kept is about fewer patients than the policy asks for",
                "the data owner may lower it: `hospital-agent policy set --fewest-of-a-class N`",
            )
        if kept.noised:
            self._charge(contract, release)
        self._api.submit(self._signed(release.evaluation).data)

    def _refuse(self, job: str, code: str) -> None:
        self._refused[job] = self._policy()
        if self._releases.keep_refused(job, code):
            log.warning("evaluation of %s: not released: %s", job, code)

    def _policy(self) -> Policy | None:
        try:
            return Policy.read(self._folder.path / "policy.json")
        except AgentError:
            return None

    def _allowed(self, name: str) -> tuple[Job, Policy]:
        """A job whose results may leave, and the policy that lets them."""
        job = next(job for job in self._view.jobs() if job.job == name)
        policy = Policy.read(self._folder.path / "policy.json")
        policy.check_evaluation(job)
        Decisions(self._folder.path / "decisions.sqlite").check_not_refused(job)
        stopped = self._view.replica.stopped(self._folder.keys[Role.COSIGN].public.key_id)
        if stopped is not None:
            raise MemberStopped(
                stopped, "rotate this hospital's keys: `hospital-agent keys rotate`"
            )
        return job, policy

    def _release(self, job: Job, policy: Policy) -> Release:
        from consortium.rounds.replay import released_model

        view = self._view
        cohort = Cohort.open(self._folder, job.task)
        self._releases.check_room(cohort.id, policy.evaluation_limit)
        model = released_model(view, job, view.results(job.job))
        exact = evaluate(cohort, job, self._folder.institution, model)
        own, of_model = self._folder.institution, model_hash(model)
        noised = release_noise(job) if policy.evaluations == "noised" else None
        if noised is None:
            record = through_the_gate(exact, job, of_model, own, policy.fewest_of_a_class)
        else:
            self._reserve(cohort, job, policy, noised)
            record = with_noise(exact, job, of_model, own, noised, SecureNoise())
        # Kept before it leaves, and counted.
        return self._releases.keep(
            Release(cohort.id, self._signed(record), asdict(exact)), policy.evaluation_limit
        )

    def _reserve(self, cohort: Cohort, job: Job, policy: Policy, noised: ReleaseNoise) -> None:
        """Sets aside what they cost the test patients, once a job."""
        delta = next(
            p.terms.delta for p in job.participants if p.institution == self._folder.institution
        )
        terms = noised.counted_as(1, len(TEST_RESULTS), Decimal(delta))
        policy.check_scores(job, terms)
        reserve_of_part(self._folder, cohort, "test", _budgeted(job), terms, policy)

    def _charge(self, job: Job, release: Release) -> None:
        """Before they leave, and for the ones that are kept: no others leave for it."""
        test = Cohort.open(self._folder, job.task).budget_of("test")
        self._folder.budget.charge(test, _budgeted(job), 1, 1, digest(release.entry.data))

    def _signed(self, record: Evaluation) -> "Entry":
        """By the key in force: it may have been rotated since the numbers were kept."""
        return sign_record(record, [self._folder.keys[Role.RECORD]])


def _budgeted(job: Job) -> str:
    """A name of its own: what is reserved under a job's is given back at its end."""
    return f"{job.job}, test results"


def evaluate(cohort: Cohort, job: Job, institution: str, model: Weights) -> Exact:
    """A job's released model, the hospital's own alone and the more frequent outcome, exactly.

    The hospital's own is trained here by the job's recipe, without noise; neither it nor the
    calibration leaves.
    """
    from consortium import baselines
    from consortium import weights as weight_forms
    from consortium.gain import auroc_difference, gain
    from consortium.measures import MEASURES, measures
    from consortium.tasks.task import Split

    task = tasks.get(job.task)
    declared = next(p.weight for p in job.participants if p.institution == institution)
    split = Split(*(cohort.frame(part) for part in PARTS))
    own = own_calibration(cohort, job, model)
    if split.test.empty:
        nothing: dict[str, float | None] = dict.fromkeys(MEASURES)
        return Exact(0, 0, nothing, nothing, nothing, None, own)
    alone = weight_forms.from_torch(baselines.local(task, split, declared, job.rounds, job.seed))
    outcomes, predict = cohort.labels("test"), cohort.predictor("test", job.seed)
    positives = int((outcomes > 0.5).sum())
    federated, of_alone = predict(weight_forms.stack([model, alone]))
    return Exact(
        positives, len(outcomes) - positives,
        measures(federated, outcomes),
        measures(own.logits(federated), outcomes),
        measures(of_alone, outcomes),
        baselines.majority(task, split), own,
        gain(federated, of_alone, outcomes),
        auroc_difference(federated, of_alone, outcomes),
    )  # fmt: skip


def own_calibration(cohort: Cohort, job: Job, model: Weights) -> "Recalibration":
    """The hospital's own calibration of a released model, from patients that are not for tests."""
    import numpy as np

    from consortium import weights as weight_forms
    from consortium.recalibration import recalibration

    parts = ("train", "validation")
    stacked = weight_forms.stack([model])
    return recalibration(
        np.concatenate([cohort.predictor(part, job.seed)(stacked)[0] for part in parts]),
        np.concatenate([cohort.labels(part) for part in parts]),
    )


def exactly(folder: HospitalFolder, job: str) -> dict[str, Any] | None:
    """The exact results on a job's model, in `Exact`'s form, for people here.

    Those that were kept when results were let out; where none were, they are computed now from
    the verified copy, and nothing is kept. None: no such job has ended here.
    """
    from consortium.rounds.replay import released_model

    release = Releases(folder.path / "releases.sqlite").of(job)
    if release is not None:
        return dict(release.exact)
    view = ReplicaView(folder)
    if job not in view.replica.learned(folder.institution):
        return None
    contract = next(one for one in view.jobs() if one.job == job)
    model = released_model(view, contract, view.results(job))
    return asdict(evaluate(Cohort.open(folder, contract.task), contract, folder.institution, model))


def through_the_gate(
    exact: Exact, job: Job, model: str, institution: str, fewest: int = FEWEST_OF_A_CLASS
) -> Evaluation:
    """What of an evaluation leaves; ``fewest``: patients of a class that the policy asks for."""
    counts = exact.counted(fewest)
    gain = None
    if exact.gain is not None:
        more = exact.gain.more
        gain = released_gain(more.value, more.low, more.high, *counts)
    return Evaluation(
        v=1, type="evaluation", ledger=job.ledger, author=institution, job=job.job, model=model,
        noised=False, positives=size_band(counts[0]), negatives=size_band(counts[1]),
        federated=Measures(**released(exact.federated, *counts)),
        calibrated=Measures(**released(exact.calibrated, *counts)),
        alone=Measures(**released(exact.alone, *counts)),
        majority=released({"majority": exact.majority}, *counts)["majority"],
        gain=None if gain is None else Gain(value=gain[0], low=gain[1], high=gain[2]),
    )  # fmt: skip


def with_noise(
    exact: Exact, job: Job, model: str, institution: str, noised: ReleaseNoise, noise: NoiseSource
) -> Evaluation:
    """What of an evaluation leaves in the noised mode: see `privacy.noised_release`."""
    auroc, accuracy = (exact.federated[measure] for measure in TEST_RESULTS)
    patients = exact.positives + exact.negatives
    drawn = noised.drawn(0.5 if auroc is None else auroc, exact.positives, exact.negatives)
    nothing = dict.fromkeys(BANDS)
    nothing.pop("majority")
    said = {
        "auroc": banded_score(noised.score(drawn, noise)),
        "accuracy": banded_score(
            noised.accuracy(0.5 if accuracy is None else accuracy, patients, noise)
        ),
    }
    return Evaluation(
        v=1, type="evaluation", ledger=job.ledger, author=institution, job=job.job, model=model,
        noised=True, positives=0, negatives=0, federated=Measures(**nothing | said),
        calibrated=Measures(**nothing), alone=Measures(**nothing), majority=None, gain=None,
    )  # fmt: skip
