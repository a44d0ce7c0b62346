"""The release gate's second mode: numbers about patients leave with noise, and are charged.

What `privacy.release` lets out in bands no epsilon covers. Here each number gets Gaussian noise for
what one patient may move it by, and its cost goes on the budget of the very patients it is about.

The AUROC itself moves by as much as one over the patients of the smaller class, which is private.
What is noised is therefore the AUROC drawn towards one half where a class has fewer patients than a
public ``fewest``: with n+ and n- patients of each class

    1/2 + (AUROC - 1/2) n+ n- / (max(n+, fewest) max(n-, fewest))

One patient more or fewer moves it by at most 1 / fewest, whatever n+ and n- are. Below ``fewest``
a patient's share of the numerator is at most n- / 2, and the divisor at least fewest n-. From
there on it is a mean over that class of numbers within 1 of each other, so that one more of them
moves it by at most 1 / (n+ + 1). A difference of two such numbers, and so a Shapley value, which
is a weighted mean of differences, moves by at most 2 / fewest.

So nobody abstains: that a hospital has too few patients of a class is no longer to be seen.
A number counts as one full-batch step of a noise multiplier (`counted_as`), and k of them together
as k steps (Dong, Roth, Su 2022: Gaussian mechanism and its composition).
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from privacy.accounting import claiming
from privacy.contract import PrivacyTerms
from privacy.noise import NoiseSource

TEST_RESULTS: Final = ("auroc", "accuracy")
"""What leaves of a released model on test patients, in this mode."""


@dataclass(frozen=True)
class ReleaseNoise:
    """Public constants of a job: how wide the noise on its scores is.

    ``fewest``: patients of a class below which the AUROC is drawn towards one half; the noise on
    a number has a standard deviation of ``multiplier`` times what one patient moves it by.
    """

    fewest: int
    multiplier: Decimal

    def drawn(self, auroc: float, positives: int, negatives: int) -> float:
        """An AUROC over so many patients of each class, drawn towards one half, without noise."""
        share = positives / max(positives, self.fewest) * negatives / max(negatives, self.fewest)
        return 0.5 + (auroc - 0.5) * share

    @property
    def deviation(self) -> float:
        """Standard deviation of the noise on a score."""
        return float(self.multiplier) / self.fewest

    def score(self, value: float, noise: NoiseSource) -> float:
        """A `drawn` AUROC with its noise."""
        return self._noised(value, 1, noise)

    def accuracy(self, value: float, patients: int, noise: NoiseSource) -> float:
        """An accuracy over so many patients, drawn towards one half below twice ``fewest``, noised.

        One patient moves it by at most 1 / (2 fewest).
        """
        share = patients / max(patients, 2 * self.fewest)
        return self._noised(0.5 + (value - 0.5) * share, 0.5, noise)

    def difference(self, value: float, noise: NoiseSource) -> float:
        """A weighted mean of differences of two `drawn` ones, with its noise."""
        return self._noised(value, 2, noise)

    def _noised(self, value: float, patients: float, noise: NoiseSource) -> float:
        return value + noise.normal((1,), self.deviation * patients).item()

    def counted_as(self, rounds: int, numbers: int, delta: Decimal) -> PrivacyTerms:
        """The terms of a job that lets out ``numbers`` of these in each of its ``rounds``.

        Raises:
            PrivacyError: if the constants cannot be those of a job.
        """
        return claiming(
            PrivacyTerms(
                rounds=rounds, steps=numbers, sample_rate=Decimal(1),
                noise_multiplier=self.multiplier, clip=Decimal(1), learning_rate=Decimal(1),
                epsilon=None, delta=delta, normaliser=self.fewest,
            )
        )  # fmt: skip
