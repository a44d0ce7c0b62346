"""Other ways to train a job's linear model at the same epsilon: many runs of the noise at once.

As the recipe says, `train` does to the last float32 bit but rounding what
`consortium.baselines.federated` does with the same seeds; a test holds that. The rest of `Way` is
what the product does not do, here to be compared:

* `prox`: FedProx (Li et al. 2020), a pull of strength mu back to the round's model in each step;
* `server`: the mean's step as a gradient, with momentum (FedAvgM, Hsu et al. 2019) or by Adam
  (FedAdam, Reddi et al. 2021);
* `start`: a random start, each weight uniform within so much.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from consortium.recalibration import recalibration
from consortium.rounds.aggregation import average_from
from privacy.contract import AUTOMATIC_CLIPPING_STABILITY, PrivacyTerms
from privacy.noise import SeededNoise

Floats = npt.NDArray[np.float64]

ADAM_DECAY: Final = (0.9, 0.99)
ADAM_STABILITY: Final = 1e-3


@dataclass(frozen=True)
class Way:
    """What a job does besides the terms of its contract.

    average: whether the released model is the mean of the last half of the rounds' models.
    server: "mean", "momentum" or "adam"; server_rate, momentum: their constants.
    """

    average: bool = True
    prox: float = 0.0
    start: float = 0.0
    server: str = "mean"
    server_rate: float = 1.0
    momentum: float = 0.9


@dataclass(frozen=True)
class Part:
    """A hospital's training part: inputs [n, d], outcomes [n], and its terms."""

    x: Floats
    y: Floats
    terms: PrivacyTerms


def train(parts: Sequence[Part], way: Way, seeds: Sequence[int]) -> Floats:
    """The released models, [runs, d + 1], the intercept last; a seed of the noise for each run.

    parts: in the order in which a run's noise is drawn.
    """
    sources = [SeededNoise(seed, unsafe_no_dp=True) for seed in seeds]
    width = parts[0].x.shape[1] + 1
    model = _start(way.start, width, seeds)
    shares = np.array([part.terms.normaliser for part in parts], dtype=np.float64)
    shares /= shares.sum()
    server = _Server(way, model.shape)
    rounds = []
    for _ in range(parts[0].terms.rounds):
        mean = np.zeros_like(model)
        for part, share in zip(parts, shares, strict=True):
            mean += share * _float32(_trained(part, model, way.prox, sources))
        model = _float32(server.step(model, mean))
        rounds.append(model)
    released = rounds[average_from(len(rounds)) - 1 :] if way.average else rounds[-1:]
    return np.mean(released, axis=0)


def _start(spread: float, width: int, seeds: Sequence[int]) -> Floats:
    if spread == 0:
        return np.zeros((len(seeds), width))
    return np.stack([np.random.default_rng(seed).uniform(-spread, spread, width) for seed in seeds])


def _trained(part: Part, model: Floats, prox: float, sources: Sequence[SeededNoise]) -> Floats:
    """One hospital's models after a round; `privacy.training.descend`, for all runs."""
    terms, w = part.terms, model.copy()
    x = np.hstack([part.x, np.ones((len(part.x), 1))])
    norms = np.sqrt((x**2).sum(axis=1))
    clip, deviation = float(terms.clip), float(terms.noise_multiplier * terms.clip)
    rate = float(terms.learning_rate / terms.divisor)
    for _ in range(terms.steps):
        delta = 1 / (1 + np.exp(-(w @ x.T))) - part.y
        length = np.abs(delta) * norms
        if terms.clipping == "automatic":
            delta *= clip / (length + AUTOMATIC_CLIPPING_STABILITY)
        else:
            delta *= np.minimum(1.0, clip / np.maximum(length, 1e-12))
        if not terms.full_batch:
            chosen = [source.chosen((len(x),), terms.sample_rate).numpy() for source in sources]
            delta *= np.stack(chosen)
        total = delta @ x
        if terms.private:
            total += np.stack([s.normal((x.shape[1],), deviation).numpy() for s in sources])
        w = w - rate * total - prox * float(terms.learning_rate) * (w - model)
    return w


class _Server:
    """What the coordinator makes of a round's mean."""

    def __init__(self, way: Way, shape: tuple[int, ...]) -> None:
        self._way = way
        self._first, self._second = np.zeros(shape), np.zeros(shape)

    def step(self, model: Floats, mean: Floats) -> Floats:
        """The new global models, [runs, d + 1]."""
        way, moved = self._way, mean - model
        if way.server == "momentum":
            self._first = way.momentum * self._first + moved
            return model + way.server_rate * self._first
        if way.server == "adam":
            decay, decay_second = ADAM_DECAY
            self._first = decay * self._first + (1 - decay) * moved
            self._second = decay_second * self._second + (1 - decay_second) * moved**2
            return model + way.server_rate * self._first / (np.sqrt(self._second) + ADAM_STABILITY)
        return mean


def recalibrated(logits: Floats, y: Floats, others: Floats) -> Floats:
    """Logits `others` [runs, m], as the product recalibrates a model for one hospital.

    logits: [runs, n] of the patients that slope and intercept are fitted to, with outcomes y [n].
    """
    return np.stack(
        [recalibration(own, y).logits(asked) for own, asked in zip(logits, others, strict=True)]
    )


def _float32(values: Floats) -> Floats:
    return values.astype(np.float32).astype(np.float64)
