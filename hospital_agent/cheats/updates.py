"""Cheats that submit another update than an honest hospital trains."""

from math import sqrt

import numpy as np
from torch import Tensor

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
from sml.mapping import SecureMapping
from sml.vrf import proof_to_hash

COPY_NOISE = 0.5  # the added noise's length, in lengths of the step that is copied
SCALE = 100.0


class Resubmitter(Participant):
    """Submits what another has revealed before."""

    def mapped_update(
        self, cohort: Cohort, job: Job, context: RoundContext, terms: PrivacyTerms,
        mapping: SecureMapping,
    ) -> Weights:  # fmt: skip
        """Another's last step on top of the current model."""
        shown = self.view.replica.steps(job.job)
        others = [past.step for past in shown if past.institution != self.folder.institution]
        if not others:
            return super().mapped_update(cohort, job, context, terms, mapping)
        return _mapped(mapping, _moved(context.model, others[-1]))


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
        return _mapped(mapping, self.disguised(context, weight_forms.from_torch(state)))

    def disguised(self, context: RoundContext, update: Weights) -> Weights:
        """What is done to the copy: nothing."""
        return update


class NoisyCopier(Copier):
    """Submits what an accomplice is about to submit, with noise."""

    def disguised(self, context: RoundContext, update: Weights) -> Weights:
        """Noise of `COPY_NOISE` times the step's length, in a random direction."""
        step = weight_forms.vector(update) - weight_forms.vector(context.model)
        noise = SecureNoise().normal(step.shape, 1.0).numpy()
        length = COPY_NOISE * float(np.linalg.norm(step) / np.linalg.norm(noise))
        return _moved(context.model, step + length * noise)


class FreeRider(Participant):
    """Submits the current model with noise."""

    def mapped_update(
        self, cohort: Cohort, job: Job, context: RoundContext, terms: PrivacyTerms,
        mapping: SecureMapping,
    ) -> Weights:  # fmt: skip
        """As much noise as the contract's steps add: less would be too little to look trained."""
        deviation = float(terms.learning_rate * terms.noise_multiplier * terms.clip / terms.divisor)
        model = weight_forms.vector(context.model)
        noise = SecureNoise().normal(model.shape, deviation * sqrt(terms.steps)).numpy()
        return _mapped(mapping, _moved(context.model, noise))


class LabelFlipper(Participant):
    """Trains on the opposite of what its patients have."""

    def mapped_update(
        self, cohort: Cohort, job: Job, context: RoundContext, terms: PrivacyTerms,
        mapping: SecureMapping,
    ) -> Weights:  # fmt: skip
        """Trained as an honest hospital does, on flipped labels."""
        return super().mapped_update(_Flipped(**vars(cohort)), job, context, terms, mapping)


class _Flipped(Cohort):
    def tensors(self, part: str) -> tuple[Tensor, Tensor]:
        x, y = super().tensors(part)
        return x, 1 - y


class SignFlipper(Participant):
    """Goes as far as it should, the other way."""

    factor = -1.0

    def mapped_update(
        self, cohort: Cohort, job: Job, context: RoundContext, terms: PrivacyTerms,
        mapping: SecureMapping,
    ) -> Weights:  # fmt: skip
        """The trained step times ``factor``."""
        start = _mapped(mapping, context.model)
        trained = super().mapped_update(cohort, job, context, terms, mapping)
        step = weight_forms.vector(trained) - weight_forms.vector(start)
        return _moved(start, self.factor * step)


class Scaler(SignFlipper):
    """Goes much further than it should."""

    factor = SCALE


class NanSender(Participant):
    """Puts a NaN into its update."""

    def mapped_update(
        self, cohort: Cohort, job: Job, context: RoundContext, terms: PrivacyTerms,
        mapping: SecureMapping,
    ) -> Weights:  # fmt: skip
        """The trained update with one number that is none."""
        trained = super().mapped_update(cohort, job, context, terms, mapping)
        first, *_ = sorted(trained)
        spoilt = trained[first].copy()
        spoilt.flat[0] = np.nan
        return {**trained, first: spoilt}


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
