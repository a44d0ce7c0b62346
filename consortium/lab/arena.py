"""A consortium in memory that plays a job's rounds, given what each hospital submits.

    >>> arena = Arena.found(JobOrder("breast-cancer", 10, Decimal(1), Decimal("0.00001"), seed=0))
    >>> submissions = arena.honest_submissions()
    >>> submissions["hospital-2"] = arena.submit("hospital-2", somebody_elses_weights)
    >>> played = arena.play(submissions)
    >>> played.codes["hospital-2"], played.result.learner, arena.credits()

A round is that of a deployment, record by record: commitments, closes, proofs and verdicts are
signed, `examine` runs checks 1 to 7, every hospital's `Validator` scores on its own validation
patients, `derive_result` decides. Then the arena stands at the next round: model, results, earlier
steps and what was declared as spent are kept as a ledger would keep them. A round is about 30 ms a
hospital with four of them, Shapley values included.

With ``defended=False`` nothing is rejected that can be un-mapped: what checks 5 to 8 are worth is
the difference. With ``private=False`` the contract's noise is next to none: over all rounds its
deviation at each parameter is the travel times the clip over 50 times the declared patients. None
at all cannot be: there is no contract without an epsilon.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from consortium import tasks
from consortium import weights as weight_forms
from consortium.contract import JobOrder, initial_model, make_job, task_groups
from consortium.founding import DEFAULT_CREDITS
from consortium.lab.hospitals import Hospital, sites_of
from consortium.lab.submission import Submission, submit
from consortium.rounds import score
from consortium.rounds.checks import (
    EarlierStep,
    Examined,
    Reveal,
    RoundContext,
    examine,
    privacy_terms,
)
from consortium.rounds.commitment import closed_set_digest, revealed_set_digest
from consortium.rounds.committee import committee
from consortium.rounds.progress import doubted, left_out
from consortium.rounds.released import released
from consortium.rounds.replay import steps_of
from consortium.rounds.result import RoundRecords, derive_result
from consortium.rounds.verdict import findings
from ledger.content import Weights
from ledger.entry import Entry, sign_record
from ledger.keys import Role
from ledger.records import (
    ACCEPTED,
    Close,
    CreditPolicy,
    Finding,
    Job,
    Participant,
    Proof,
    Result,
    Spend,
    Verdict,
)
from privacy.noise import NoiseSource, SeededNoise
from privacy.training import train

_ALL_BUT_NO_PRIVACY = 50
Findings = tuple[Finding, ...]
Judge = Callable[[str, Findings], Findings | None]
"""(validator, its honest findings) -> what it signs; None: it stays silent."""


@dataclass(frozen=True)
class Played:
    """One round: what everybody saw of it, and what it came to."""

    context: RoundContext
    records: RoundRecords
    examined: Mapping[str, Examined]
    result: Result
    model: Weights

    @property
    def codes(self) -> dict[str, str]:
        """The code of each proof, by institution."""
        return {outcome.institution: outcome.code for outcome in self.result.proofs}


class Arena:
    """A job under way among hospitals in memory.

    Args:
        hospitals: who takes part.
        job: the contract.
        defended: whether checks count.
        contributions: whether verdicts hold Shapley values; without, credits are equal shares.
    """

    def __init__(
        self,
        hospitals: Sequence[Hospital],
        job: Job,
        *,
        defended: bool = True,
        contributions: bool = True,
    ) -> None:
        self.hospitals = {hospital.name: hospital for hospital in hospitals}
        self.job = job
        self.defended = defended
        self.policy = CreditPolicy(**DEFAULT_CREDITS)
        self.models: list[Weights] = [initial_model(job.task, job.seed)]
        self.results: list[Result] = []
        self._contributions = contributions
        self._task = tasks.get(job.task)
        self._groups = task_groups(job)
        self._members = {name: h.member() for name, h in self.hospitals.items()}
        self._validators = {name: h.validator() for name, h in self.hospitals.items()}
        self._earlier: list[EarlierStep] = []
        self._spent: dict[str, Spend] = {}
        self._reveals: Counter[str] = Counter()

    @staticmethod
    def found(
        order: JobOrder,
        hospitals: int = 4,
        data_dir: Path | None = None,
        private: bool = True,
        **options: bool,
    ) -> "Arena":
        """An arena for a job among so many hospitals of the task's patients.

        Args:
            order: the job; its seed draws the hospitals' parts, the model and all noise.
            hospitals: how many; see `sites_of`.
            data_dir: where the task's files are, for a task that needs them.
            private: whether the order's epsilon decides the noise.
            options: as of `Arena`.

        Raises:
            TaskError, PrivacyError: if the task, its data or the order cannot be had.
        """
        task = tasks.get(order.task)
        sites = sites_of(task, data_dir, hospitals)
        if not private:
            steps = order.rounds * task.recipe.steps(order.rounds)
            noise = (Decimal(steps).sqrt() / _ALL_BUT_NO_PRIVACY).quantize(Decimal("0.000001"))
            order = replace(order, noise=dict.fromkeys((site.id for site in sites), noise))
        declared = {site.id: site.declared_patients for site in sites}
        ledger = sha256(f"{order.task} {hospitals} {order.seed}".encode()).hexdigest()
        job = make_job(ledger, "job-1", order, declared)
        return Arena([Hospital.of(site, task, order.seed) for site in sites], job, **options)

    def twin(self) -> "Arena":
        """The same job at its beginning: what would have been, had somebody acted otherwise."""
        return Arena(
            list(self.hospitals.values()), self.job,
            defended=self.defended, contributions=self._contributions,
        )  # fmt: skip

    @property
    def context(self) -> RoundContext:
        """What every member knows before the next round's reveals."""
        place = len(self.results) + 1
        return RoundContext(
            ledger=self.job.ledger,
            base=sha256(f"{self.job.ledger} {place}".encode()).hexdigest(),
            job=self.job,
            round=place,
            attempt=1,
            members=self._members,
            model=self.models[-1],
            groups=self._groups,
            earlier=tuple(self._earlier),
            spent=dict(self._spent),
            doubted=doubted(self.results),
            left_out=left_out(self.results),
        )

    def noise(self, name: str, purpose: str = "train") -> NoiseSource:
        """A hospital's source of noise in the next round; another one for each purpose."""
        text = f"{self.job.ledger} {len(self.results)} {name} {purpose}"
        seed = int.from_bytes(sha256(text.encode()).digest()[:6])
        return SeededNoise(seed, unsafe_no_dp=True)

    def trained(
        self, name: str, data: tuple[Tensor, Tensor] | None = None, purpose: str = "train"
    ) -> Weights:
        """A hospital's update of the current model, un-mapped, by the contract's training.

        ``data``: inputs [n, d] and labels [n] to train on instead of its own patients.
        """
        model = self._task.model(self.job.seed)
        model.load_state_dict(weight_forms.to_torch(self.models[-1]))
        participant = self.participant(name)
        x, y = self.hospitals[name].train if data is None else data
        noise = self.noise(name, purpose)
        train(model, self._task.loss, x, y, privacy_terms(participant), noise)
        return weight_forms.of_module(model)

    def submit(self, name: str, weights: Weights) -> Submission:
        """What a hospital that follows the protocol submits of an un-mapped update."""
        keys = self.hospitals[name].keys
        return submit(self.context, name, keys, weights, self._reveals[name])

    def honest_submissions(self, names: Collection[str] | None = None) -> dict[str, Submission]:
        """What honest hospitals submit in the next round; all of them, or those named."""
        wanted = sorted(self.hospitals if names is None else names)
        return {name: self.submit(name, self.trained(name)) for name in wanted}

    def play(
        self,
        submissions: Mapping[str, Submission],
        *,
        revealing: Collection[str] | None = None,
        judge: Judge = lambda _, honest: honest,
    ) -> Played:
        """Plays the next round.

        Args:
            submissions: what commits, by hospital.
            revealing: who of them opens the commitment; None: all.
            judge: what validators sign instead of their honest findings.
        """
        context = self.context
        commitments = tuple(submissions[name].commitment() for name in sorted(submissions))
        digest = closed_set_digest(commitments)
        reveals = {
            name: submission.reveal(digest)
            for name, submission in sorted(submissions.items())
            if revealing is None or name in revealing
        }
        examined = examine(context, commitments, reveals)
        records = RoundRecords(
            commitments=commitments,
            closes=tuple(self._signed(name, Close, digest=digest) for name in sorted(submissions)),
            proofs=tuple(reveal.proof for reveal in reveals.values()),
        )
        taken = examined if self.defended else _undefended(examined)
        verdicts = self._verdicts(context, records, taken, judge)
        records = replace(records, verdicts=verdicts)
        result, model = derive_result(context, records, taken, self.policy, self.results)
        self._keep(context, reveals, examined, result, model)
        return Played(context, records, examined, result, model)

    def released(self) -> Weights:
        """The model that the job gives out after the rounds played so far."""
        models = {r.model_after: m for r, m in zip(self.results, self.models[1:], strict=True)}
        found = released(self.job, self.results, self._earlier, lambda r: models[r.model_after])
        return self.models[0] if found is None else found

    def test_auroc(self, weights: Weights | None = None) -> float:
        """Mean AUROC over the hospitals whose test parts have five of either class."""
        model = self.released() if weights is None else weights
        found = [hospital.test_auroc(model) for hospital in self.hospitals.values()]
        return float(np.mean([auroc for auroc in found if auroc is not None]))

    def pooled_auroc(self, weights: Weights | None = None) -> float:
        """AUROC on the test patients of all hospitals in one table, which only a lab may do."""
        model = self.released() if weights is None else weights
        parts = [hospital.predicted(model) for hospital in self.hospitals.values()]
        labels, logits = (np.concatenate(part) for part in zip(*parts, strict=True))
        return score.auroc(labels, logits)

    def credits(self) -> dict[str, int]:
        """All credits that each hospital has earned: learning, verdicts and bonuses."""
        earned = dict.fromkeys(self.hospitals, 0)
        for result in self.results:
            for outcome in result.proofs:
                earned[outcome.institution] += outcome.credits
            for fee in result.fees:
                earned[fee.institution] += fee.credits
            if result.learner is not None:
                earned[result.learner] += result.bonus
        return earned

    def participant(self, name: str) -> Participant:
        """The hospital's part in the job."""
        return next(p for p in self.job.participants if p.institution == name)

    def _verdicts(
        self,
        context: RoundContext,
        records: RoundRecords,
        examined: Mapping[str, Examined],
        judge: Judge,
    ) -> tuple[Entry, ...]:
        digest = closed_set_digest(records.commitments)
        shown = revealed_set_digest(records.proofs)
        verdicts = []
        proofs = [e.record for e in records.proofs if isinstance(e.record, Proof)]
        for name in sorted(committee(context, proofs)):
            honest = findings(
                context, examined, self._validators[name], name,
                contributions=self._contributions,
            )  # fmt: skip
            if not self.defended:
                honest = tuple(
                    f.model_copy(update={"harmful": f.harmful and False}) for f in honest
                )
            found = judge(name, honest)
            if found is not None:
                verdicts.append(
                    self._signed(name, Verdict, digest=digest, reveals=shown, findings=found)
                )
        return tuple(verdicts)

    def _signed(self, name: str, kind: type[Close] | type[Verdict], **fields: Any) -> Entry:
        body = {
            "v": 1, "type": kind.__name__.lower(), "ledger": self.job.ledger, "author": name,
            "job": self.job.job, "round": len(self.results) + 1, "attempt": 1, **fields,
        }  # fmt: skip
        return sign_record(kind.model_validate(body), [self.hospitals[name].keys[Role.RECORD]])

    def _keep(
        self,
        context: RoundContext,
        reveals: Mapping[str, Reveal],
        examined: Mapping[str, Examined],
        result: Result,
        model: Weights,
    ) -> None:
        steps = steps_of(context, examined)
        codes = {outcome.institution: outcome.code for outcome in result.proofs}
        self._earlier += [
            EarlierStep(name, result.round, steps[name], codes[name]) for name in sorted(steps)
        ]
        for name, reveal in reveals.items():
            if isinstance(reveal.proof.record, Proof):
                self._spent[name] = reveal.proof.record.spend
                self._reveals[name] += 1
        self.results.append(result)
        self.models.append(model)


def _undefended(examined: Mapping[str, Examined]) -> dict[str, Examined]:
    return {
        name: found if found.weights is None else Examined(ACCEPTED, found.weights)
        for name, found in examined.items()
    }
