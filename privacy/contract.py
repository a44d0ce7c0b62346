"""The public constants of one hospital's part in one job.

Nothing here is computed from patients: sample rate, number of steps and the normaliser are agreed
in public, because a mechanism that takes them from the private n leaks n (one patient more or
fewer is then visible in the norm of an update whatever the noise). The sum of clipped gradients is
divided by the `divisor`, a declared size, never by the number of patients at hand.

Mechanism, once per step (Abadi et al. 2016, add-or-remove-one neighbours):

    batch <- each patient with chance sample_rate, independently of all others (Poisson sampling)
    w <- w - learning_rate * (sum_{i in batch} clip(g_i) + N(0, (noise_multiplier * clip)^2 I))
                           / (sample_rate * normaliser)

Sample rate 1 is the full batch. Under about 1,000 patients it is the better choice: its cost adds
up exactly, and nothing is gained by sampling.

`clipping` says which of two per-patient bounds is meant, both of norm at most `clip`:

* "flat":      g * min(1, clip / |g|)                 (Abadi et al. 2016)
* "automatic": g * clip / (|g| + 0.01)                (AUTO-S, Bu et al. 2023)

Records carry integers and decimal strings only, no binary floats: every member hashes the same
bytes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Final

from privacy.errors import (
    ClipInvalid,
    CohortTooSmall,
    DeltaInvalid,
    DeltaTooLarge,
    EpsilonInvalid,
    EpsilonOutOfPolicy,
    NoiseInvalid,
    PublicConstantMissing,
    SampleRateInvalid,
    StepsInvalid,
)

AUTOMATIC_CLIPPING_STABILITY: Final = 0.01
CLIPPINGS: Final = ("flat", "automatic")
LARGEST_COUNT: Final = 10**9
SMALLEST_SAMPLE_RATE: Final = Decimal("0.000001")
NO_EPSILON: Final = "inf"
"""How a record writes the epsilon of a job without noise."""

Record = dict[str, int | str]


def decimal_text(value: Decimal) -> str:
    """The one spelling of `value`: plain notation, no exponent, no trailing zeros, no "-0"."""
    if not value.is_finite():
        raise ValueError(f"no canonical decimal for {value}")
    if value == 0:
        return "0"
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


@dataclass(frozen=True)
class PrivacyTerms:
    """Public constants of one hospital's part in one job.

    rounds: rounds of the whole job; steps: gradient steps in each of them.
    sample_rate: chance of each patient to be in a step's batch; 1 is full batch.
    noise_multiplier: sigma; the noise on the clipped sum has standard deviation sigma * clip.
    clip: largest norm of one patient's gradient. learning_rate: of plain SGD.
    epsilon, delta: the guarantee that all rounds together keep; epsilon is None without noise.
    normaliser: declared number of patients, never the private one (see `divisor`).
    clipping: "flat" or "automatic", see the module's text.
    """

    rounds: int
    steps: int
    sample_rate: Decimal
    noise_multiplier: Decimal
    clip: Decimal
    learning_rate: Decimal
    epsilon: Decimal | None
    delta: Decimal
    normaliser: int
    clipping: str = "flat"

    @property
    def private(self) -> bool:
        """Whether noise is added at all; a job without noise is for comparison only."""
        return self.noise_multiplier > 0

    @property
    def full_batch(self) -> bool:
        """Whether every patient is in every step's batch."""
        return self.sample_rate == 1

    @property
    def divisor(self) -> Decimal:
        """What a step's sum is divided by: the size that a batch is declared to have on average."""
        return self.sample_rate * self.normaliser

    @property
    def compositions(self) -> int:
        """Noisy steps over the whole job."""
        return self.rounds * self.steps

    def to_record(self) -> Record:
        """Integers and canonical decimal strings, for hashing and for the ledger."""
        return {
            "rounds": self.rounds,
            "steps": self.steps,
            "sample_rate": decimal_text(self.sample_rate),
            "noise_multiplier": decimal_text(self.noise_multiplier),
            "clip": decimal_text(self.clip),
            "learning_rate": decimal_text(self.learning_rate),
            "epsilon": NO_EPSILON if self.epsilon is None else decimal_text(self.epsilon),
            "delta": decimal_text(self.delta),
            "normaliser": self.normaliser,
            "clipping": self.clipping,
        }

    @classmethod
    def from_record(cls, record: Mapping[str, object]) -> "PrivacyTerms":
        """The terms that `to_record` wrote; does not judge them, `validate` does.

        Raises PublicConstantMissing when a field is absent, of another type, unknown, or not in
        its canonical spelling.
        """
        fields = set(cls.__dataclass_fields__)
        if absent := sorted(fields - set(record)):
            raise PublicConstantMissing(
                f"the contract lacks {', '.join(absent)}",
                "a constant left out would have to be computed from patients: state it in the job",
            )
        if unknown := sorted(set(record) - fields):
            raise PublicConstantMissing(
                f"the contract has unknown fields: {', '.join(unknown)}",
                "the job was written by another version; update the agent or resubmit the job",
            )
        return cls(
            rounds=_integer(record, "rounds"),
            steps=_integer(record, "steps"),
            sample_rate=_decimal(record, "sample_rate"),
            noise_multiplier=_decimal(record, "noise_multiplier"),
            clip=_decimal(record, "clip"),
            learning_rate=_decimal(record, "learning_rate"),
            epsilon=None if record["epsilon"] == NO_EPSILON else _decimal(record, "epsilon"),
            delta=_decimal(record, "delta"),
            normaliser=_integer(record, "normaliser"),
            clipping=_text(record, "clipping"),
        )

    def validate(self) -> None:
        """Raise the typed error of the first field that cannot mean what a contract must mean.

        Whether the claimed epsilon follows from the noise is checked by
        `privacy.accounting.check_claim`, which needs the accountant.
        """
        _counts(self)
        check_sample_rate(self.sample_rate)
        if not (self.clip.is_finite() and self.clip > 0):
            raise ClipInvalid(
                f"clip is {self.clip}; allowed: a finite number above 0",
                "without a finite clip no noise hides a patient; 1 is a sound choice",
            )
        if self.clipping not in CLIPPINGS:
            raise ClipInvalid(
                f"clipping is {self.clipping!r}; allowed: {', '.join(CLIPPINGS)}",
                "name one of the two in the job's contract",
            )
        if not (self.learning_rate.is_finite() and self.learning_rate > 0):
            raise StepsInvalid(
                f"learning_rate is {self.learning_rate}; allowed: a finite number above 0",
                "take the task's own learning rate",
            )
        if not (self.noise_multiplier.is_finite() and self.noise_multiplier >= 0):
            raise NoiseInvalid(
                f"noise_multiplier is {self.noise_multiplier}; allowed: a finite number, "
                "0 only for a job without privacy",
                "let `privacy.accounting.calibrate` derive it from epsilon, delta and the steps",
            )
        check_delta(self.delta)
        _claim(self)


def check_sample_rate(sample_rate: Decimal) -> None:
    """Raise SampleRateInvalid unless `sample_rate` is from SMALLEST_SAMPLE_RATE to 1."""
    if not (sample_rate.is_finite() and SMALLEST_SAMPLE_RATE <= sample_rate <= 1):
        raise SampleRateInvalid(
            f"sample_rate is {sample_rate}; allowed: {SMALLEST_SAMPLE_RATE} to 1",
            "take 1 for the full batch, or a chance such as 0.1 for each patient and step",
        )


def check_delta(delta: Decimal) -> None:
    """Raise DeltaInvalid or DeltaTooLarge unless 0 < delta < 0.5."""
    if not (delta.is_finite() and delta > 0):
        raise DeltaInvalid(
            f"delta is {delta}; allowed: above 0 and below 0.5",
            "take at most one over the number of patients, such as 0.00001",
        )
    if delta >= Decimal("0.5"):
        raise DeltaTooLarge(
            f"delta is {delta}; allowed: above 0 and below 0.5",
            "take at most one over the number of patients, such as 0.00001",
        )


def check_epsilon(epsilon: Decimal) -> None:
    """Raise EpsilonInvalid unless `epsilon` is finite and above 0."""
    if not (epsilon.is_finite() and epsilon > 0):
        raise EpsilonInvalid(
            f"epsilon is {epsilon}; allowed: a finite number above 0",
            "choose an epsilon such as 1; for a comparison without noise set noise_multiplier 0",
        )


def _counts(terms: PrivacyTerms) -> None:
    for field in ("rounds", "steps"):
        value = getattr(terms, field)
        if type(value) is not int or not 1 <= value <= LARGEST_COUNT:
            raise StepsInvalid(
                f"{field} is {value!r}; allowed: a whole number from 1 to {LARGEST_COUNT}",
                f"give the job at least one of its {field}",
            )
    value = terms.normaliser
    if type(value) is not int or not 1 <= value <= LARGEST_COUNT:
        raise CohortTooSmall(
            f"normaliser is {value!r}; allowed: a whole number from 1 to {LARGEST_COUNT}",
            "declare a public round number near the size of the training part",
        )


def _claim(terms: PrivacyTerms) -> None:
    if terms.epsilon is not None:
        check_epsilon(terms.epsilon)
        if not terms.private:
            raise NoiseInvalid(
                f"noise_multiplier is 0 and epsilon is {terms.epsilon}; without noise "
                f"epsilon is {NO_EPSILON}",
                f'claim epsilon "{NO_EPSILON}", or let epsilon determine the noise',
            )
    elif terms.private:
        raise EpsilonOutOfPolicy(
            f"epsilon is {NO_EPSILON} and noise_multiplier is {terms.noise_multiplier}",
            "state the epsilon that the noise gives, or set noise_multiplier 0",
        )


def _integer(record: Mapping[str, object], field: str) -> int:
    value = record[field]
    if type(value) is not int:
        raise PublicConstantMissing(
            f"{field} is {value!r}; allowed: a whole number", f"write {field} as an integer"
        )
    return value


def _text(record: Mapping[str, object], field: str) -> str:
    value = record[field]
    if not isinstance(value, str):
        raise PublicConstantMissing(
            f"{field} is {value!r}; allowed: a string", f"write {field} as a string"
        )
    return value


def _decimal(record: Mapping[str, object], field: str) -> Decimal:
    text = _text(record, field)
    try:
        value = Decimal(text)
        canonical = decimal_text(value)
    except (InvalidOperation, ValueError):
        canonical = None
    if canonical != text:
        raise PublicConstantMissing(
            f"{field} is {text!r}; allowed: a decimal in plain notation without trailing zeros",
            f"write {field} like 0.5 or 12",
        )
    return value
