"""Everything the privacy package refuses, as one exception tree with stable codes.

Each error says what happened (field, value, what is allowed) and how to resolve it. Neither text
ever contains a value computed from patients.
"""


class PrivacyError(Exception):
    """Base of the package's errors: `what` happened, and how to `resolve` it."""

    def __init__(self, what: str, resolve: str) -> None:
        super().__init__(what)
        self.what = what
        self.resolve = resolve

    def __reduce__(self) -> tuple[type["PrivacyError"], tuple[str, str]]:
        return type(self), (self.what, self.resolve)

    @property
    def code(self) -> str:
        """Stable name of this kind of error, equal to the class name."""
        return type(self).__name__


class AccountantFixed(PrivacyError):
    """A cohort's budget cannot count this kind of step, and what it counts is fixed by now."""


class BudgetExceeded(PrivacyError):
    """A job needs more privacy budget than its cohort has left."""


class BudgetTampered(PrivacyError):
    """The stored events of a budget do not form the chain that was written."""


class BurnedInPixels(PrivacyError):
    """An image says, or may well hide, that its pixels show who the patient is."""


class ClipInvalid(PrivacyError):
    """The clipping norm bounds nothing: zero, negative, infinite or not a number."""


class CohortTooSmall(PrivacyError):
    """There are too few patients to train on, or to declare a size for."""


class CohortUnknown(PrivacyError):
    """The budget holds no cohort of this id."""


class DeltaInvalid(PrivacyError):
    """The delta is not a probability above 0."""


class DeltaTooLarge(PrivacyError):
    """The delta is so large that the guarantee would mean little."""


class DeviceMissing(PrivacyError):
    """The device that training was to use is not there, or torch cannot reach it."""


class DicomUnreadable(PrivacyError):
    """A file is no whole DICOM image of a kind that can be de-identified."""


class EpsilonInvalid(PrivacyError):
    """The epsilon is zero, negative, infinite or not a number."""


class EpsilonOutOfPolicy(PrivacyError):
    """The epsilon claimed does not follow from the noise, or a limit may not be set so."""


class KNotReached(PrivacyError):
    """Patients cannot be made as alike as the policy asks for."""


class NoiseInvalid(PrivacyError):
    """The noise is negative, infinite or not a number, or absent where it is required."""


class NonFiniteUpdate(PrivacyError):
    """Parameters, patients' values or losses hold NaN or infinity."""


class PublicConstantMissing(PrivacyError):
    """A contract lacks a constant that would otherwise have to come from private data."""


class PseudonymKeyInvalid(PrivacyError):
    """The key of a cohort's pseudonyms cannot be read."""


class ReservationMissing(PrivacyError):
    """A round was to be charged for which nothing is reserved."""


class ResidualIdentifier(PrivacyError):
    """A table still holds, in a column that would stay, what looks like an identifier."""


class RoundReplay(PrivacyError):
    """A round was to be charged that the job is already past."""


class SampleRateInvalid(PrivacyError):
    """The sample rate is not one that the accountant supports."""


class SeededNoiseForbidden(PrivacyError):
    """Predictable noise was asked for without saying that it protects nobody."""


class StepsInvalid(PrivacyError):
    """Rounds, steps or learning rate do not describe a training that ends."""


class TermsChanged(PrivacyError):
    """A job or cohort is asked for again under other terms than it was agreed with."""


class UnsupportedLayer(PrivacyError):
    """The model holds a layer whose gradient cannot be bounded patient by patient."""
