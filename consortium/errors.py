"""What can go wrong in the consortium. The class name is the stable code that people see."""


class ConsortiumError(Exception):
    """Base of all errors of this package: what happened, and how to resolve it."""

    def __init__(self, what: str, resolve: str) -> None:
        super().__init__(what, resolve)  # both, so that it survives pickling
        self.what = what
        self.resolve = resolve

    def __str__(self) -> str:
        return self.what

    @property
    def code(self) -> str:
        """The stable code, printed as ``error[CODE]``."""
        return type(self).__name__


class OptionInvalid(ConsortiumError):
    """A command's option has a value that cannot be used."""


class DatasetUnknown(ConsortiumError):
    """No task has this name."""


class CheatUnknown(ConsortiumError):
    """No cheat has this name."""


class ReportUnwritable(ConsortiumError):
    """The report cannot be written where it was asked for."""


class HomeMismatch(ConsortiumError):
    """This home holds another consortium than the one asked for."""


class PartMissing(ConsortiumError):
    """A part of the software that this command needs is not installed."""


class TokenInvalid(ConsortiumError):
    """A token shown to the API does not hold."""


class NotFinal(ConsortiumError):
    """A block did not become final within its time."""


class RoundInvalid(ConsortiumError):
    """A round's records or result do not follow the rules."""


class JobInvalid(ConsortiumError):
    """A job's contract does not follow the rules."""


class SimulationFailed(ConsortiumError):
    """Flower's simulation engine did not run the job to its end."""


class Interrupted(ConsortiumError):
    """Stopped by the user; what was acknowledged is kept."""


class EnrolmentInvalid(ConsortiumError):
    """An institution's enrolment does not show what it must."""


class PortInUse(ConsortiumError):
    """Another program listens on the port asked for."""


class GenesisInvalid(ConsortiumError):
    """A genesis, or a founder's signature on it, is not what it must be."""
