"""Hospitals that submit another update than they should; all else they do as the protocol asks."""

from math import sqrt

import numpy as np
from numpy.typing import NDArray

from consortium import weights as weight_forms
from consortium.lab.attacks.attack import Attack
from consortium.lab.submission import Submission
from consortium.rounds.checks import privacy_terms
from consortium.rounds.checks.terms import step_noise
from ledger.content import Weights

COPY_NOISE = 0.5  # the added noise's length, in lengths of the step that is copied
SCALE = 100.0


class OtherUpdate(Attack):
    """Submits `update` instead of what it should have trained."""

    def submissions(self) -> dict[str, Submission]:
        """Honest ones, and the cheat's."""
        others = [name for name in self.arena.hospitals if name != self.cheat]
        submissions = self.arena.honest_submissions(others)
        submissions[self.cheat] = self.arena.submit(self.cheat, self.update())
        return submissions

    def update(self) -> Weights:
        """The cheat's update, un-mapped."""
        return self.arena.trained(self.cheat)

    def moved(self, step: NDArray[np.float64]) -> Weights:
        """The current model after a step."""
        model = self.arena.models[-1]
        return weight_forms.of_vector(weight_forms.vector(model) + step, model)

    def step(self, name: str) -> NDArray[np.float64]:
        """The step that a hospital's honest training takes."""
        trained = weight_forms.vector(self.arena.trained(name))
        return trained - weight_forms.vector(self.arena.models[-1])


class Resubmit(OtherUpdate):
    """What another hospital revealed in the round before, on top of the current model."""

    def update(self) -> Weights:
        """Another's last step; in the first round there is none."""
        shown = self.last.examined[self.other].weights if self.last is not None else None
        if self.last is None or shown is None:
            return super().update()
        start = weight_forms.vector(self.last.context.model)
        return self.moved(weight_forms.vector(shown) - start)


class Copy(OtherUpdate):
    """What the accomplice is about to submit, handed over before the commitments closed."""

    @property
    def guilty(self) -> tuple[str, ...]:
        """The accomplice too."""
        return (self.cheat, self.other)

    def update(self) -> Weights:
        """The accomplice's."""
        return self.arena.trained(self.other)


class CopyNoise(Copy):
    """The same, with noise of half its length."""

    def update(self) -> Weights:
        """In a random direction."""
        step = self.step(self.other)
        noise = self.arena.noise(self.cheat, "disguise").normal(step.shape, 1.0).numpy()
        length = COPY_NOISE * float(np.linalg.norm(step) / np.linalg.norm(noise))
        return self.moved(step + length * noise)


class FreeRider(OtherUpdate):
    """Trains on nobody: as much noise as the contract's steps add, on the current model."""

    def update(self) -> Weights:
        """The current model with that noise."""
        terms = privacy_terms(self.arena.participant(self.cheat))
        deviation = float(terms.learning_rate * terms.noise_multiplier * terms.clip / terms.divisor)
        size = weight_forms.vector(self.arena.models[-1]).shape
        noise = self.arena.noise(self.cheat, "free-rider")
        return self.moved(noise.normal(size, deviation * sqrt(terms.steps)).numpy())


class LabelFlip(OtherUpdate):
    """Trains on the opposite of what its patients have."""

    def update(self) -> Weights:
        """By the contract's training, noise included."""
        x, y = self.arena.hospitals[self.cheat].train
        return self.arena.trained(self.cheat, (x, 1 - y))


class SignFlip(OtherUpdate):
    """Trains honestly and goes as far the other way."""

    factor = -1.0

    def update(self) -> Weights:
        """The trained step times ``factor``."""
        return self.moved(self.factor * self.step(self.cheat))


class Frame(OtherUpdate):
    """Answers to what is public: goes against all that the largest of the others taught, and along
    with all that the rest did, as far as its own training would go.
    """

    def update(self) -> Weights:
        """Nothing is public in the first round: it goes back then."""
        own = self.step(self.cheat)
        sums: dict[str, NDArray[np.float64]] = {}
        for past in self.arena.context.earlier:
            if past.institution != self.cheat:
                sums[past.institution] = sums.get(past.institution, 0) + past.step
        if len(sums) < 2:
            return self.moved(-own)
        parts = {name: self.arena.participant(name) for name in sums}
        victim = max(sorted(sums), key=lambda name: parts[name].weight)
        zero = np.zeros_like(own)
        rest = sum((sums[n] / step_noise(parts[n]) ** 2 for n in sums if n != victim), zero)
        way = _unit(rest) - _unit(sums[victim])
        return self.moved(float(np.linalg.norm(own)) * _unit(way))


def _unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = vector / np.linalg.norm(vector)
    return found


class Scale(SignFlip):
    """Trains honestly and goes a hundred times as far."""

    factor = SCALE


class Nan(OtherUpdate):
    """One number is none."""

    def update(self) -> Weights:
        """Trained, then spoilt."""
        step = self.step(self.cheat)
        step[0] = np.nan
        return self.moved(step)
