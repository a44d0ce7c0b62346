"""Hospitals that cheat, for simulations: each replaces one honest step. No deployment loads this.

- ``resubmit``: from round 2 on, another hospital's revealed step of the last round, properly
  re-mapped under the cheat's own key, instead of training.
- ``copy``: the update that a second hospital is about to commit to, handed over before the
  commitments close: two members act as one.
- ``label-flip``: trains honestly on flipped labels.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from consortium import tasks
from consortium import weights as weight_forms
from consortium.phases import Phase, Request
from consortium.rounds.checks import RoundContext
from hospital_agent.cohort import Cohort
from hospital_agent.folder import HospitalFolder
from hospital_agent.participant import Participant
from ledger.content import Weights
from ledger.records import Job
from privacy.contract import PrivacyTerms
from privacy.noise import SecureNoise
from privacy.training import train
from sml.mapping import SecureMapping
from sml.vrf import proof_to_hash


class Resubmitter(Participant):
    """Submits what another has revealed before."""

    def mapped_update(
        self, cohort: Cohort, job: Job, context: RoundContext, terms: PrivacyTerms,
        mapping: SecureMapping,
    ) -> Weights:  # fmt: skip
        """Another's last step on top of the current model."""
        stolen = self.view.replica.step_of_another(job.job, self.folder.institution)
        if stolen is None:
            return super().mapped_update(cohort, job, context, terms, mapping)
        return _mapped(mapping, _moved(context.model, stolen))


class Copier(Participant):
    """Submits what an accomplice is about to submit."""

    def __init__(self, folder: HospitalFolder, accomplice: HospitalFolder) -> None:
        super().__init__(folder)
        self._accomplice = Participant(accomplice)

    def mapped_update(
        self, cohort: Cohort, job: Job, context: RoundContext, terms: PrivacyTerms,
        mapping: SecureMapping,
    ) -> Weights:  # fmt: skip
        """The accomplice's update, un-mapped with what the accomplice hands over."""
        request = Request(Phase.TRAIN, job.job, context.round, context.attempt, context.base)
        self._accomplice.answer(request)
        theirs = self._accomplice.memory.trained((job.job, context.round, context.attempt))
        if theirs is None:
            return super().mapped_update(cohort, job, context, terms, mapping)
        update = weight_forms.from_bytes(self._accomplice.folder.content.get(theirs.update))
        their_mapping = SecureMapping.derive(proof_to_hash(theirs.vrf_proof), context.groups)
        state = their_mapping.unmap_state(weight_forms.to_torch(update))
        return weight_forms.from_torch(mapping.map_state(state))


class LabelFlipper(Participant):
    """Trains on the opposite of what its patients have."""

    def mapped_update(
        self, cohort: Cohort, job: Job, context: RoundContext, terms: PrivacyTerms,
        mapping: SecureMapping,
    ) -> Weights:  # fmt: skip
        """Trained as an honest hospital does, on flipped labels."""
        task = tasks.get(job.task)
        model = task.model(job.seed)
        model.load_state_dict(mapping.map_state(weight_forms.to_torch(context.model)))
        x, y = cohort.tensors("train")
        train(model, task.loss, mapping.map_inputs(x), 1 - y, terms, SecureNoise())
        return weight_forms.of_module(model)


CHEATS = ("resubmit", "copy", "label-flip")


def make_participant(
    cheat: str | None, folder: HospitalFolder, everybody: Sequence[Path]
) -> Participant:
    """The participant for a hospital's folder, honest unless it is told to cheat."""
    if cheat == "resubmit":
        return Resubmitter(folder)
    if cheat == "copy":
        return Copier(folder, next(HospitalFolder(p) for p in everybody if p != folder.path))
    if cheat == "label-flip":
        return LabelFlipper(folder)
    return Participant(folder)


def _moved(model: Weights, step: np.ndarray) -> Weights:
    moved, start = {}, 0
    for name in sorted(model):
        size = model[name].size
        part = step[start : start + size].reshape(model[name].shape)
        moved[name] = (model[name].astype(np.float64) + part).astype(np.float32)
        start += size
    return moved


def _mapped(mapping: SecureMapping, weights: Weights) -> Weights:
    return weight_forms.from_torch(mapping.map_state(weight_forms.to_torch(weights)))
