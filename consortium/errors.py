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


class IssuerUnreachable(ConsortiumError):
    """The OpenID provider that vouches for people does not answer as it should."""


class OidcInvalid(ConsortiumError):
    """The home's oidc.json does not say what is needed to sign people in."""


class TooManyRequests(ConsortiumError):
    """Somebody asks the API more often than it answers."""

    def __init__(self, what: str, resolve: str, after_s: int = 1) -> None:
        super().__init__(what, resolve)
        self.after_s = after_s


class TokenUnknown(ConsortiumError):
    """No person's token has this id."""


class RoleForbidden(ConsortiumError):
    """The caller's role does not allow this request."""


class NotFinal(ConsortiumError):
    """A block did not become final within its time."""


class RoundInvalid(ConsortiumError):
    """A round's records or result do not follow the rules."""


class JobPaused(ConsortiumError):
    """Too few hospitals took part in one round, several attempts in a row."""


class JobInvalid(ConsortiumError):
    """A job's contract does not follow the rules."""


class RunsCutOff(ConsortiumError):
    """A process that plays the lab's runs was killed."""


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


class FlowerUnsupported(ConsortiumError):
    """The installed flwr is another version than those whose wire is known."""


class LinkUnreachable(ConsortiumError):
    """Flower's SuperLink does not answer, or is another than the one vouched for."""


class LinkRefused(ConsortiumError):
    """Flower's SuperLink does not let this node, or this coordinator, in."""

    def __init__(self, what: str, resolve: str, reason: str = "") -> None:
        super().__init__(what, resolve)
        self.reason = reason


class TlsMissing(ConsortiumError):
    """The home has no certificates for TLS."""


class StateFailed(ConsortiumError):
    """The coordinator's own state cannot be read or written."""


class TransportInvalid(ConsortiumError):
    """An institution's transport key is not shown to be held, or is of another kind."""


class InvitationInvalid(ConsortiumError):
    """What was given is no invitation's token, or cannot become one."""


class InvitationUnknown(ConsortiumError):
    """No invitation has this secret."""


class InvitationUsed(ConsortiumError):
    """Somebody has enrolled with this invitation, with other keys."""


class InvitationExpired(ConsortiumError):
    """The invitation's time is over."""


class InvitationRevoked(ConsortiumError):
    """The invitation was taken back."""


class EnrolmentUnknown(ConsortiumError):
    """No institution of this id waits to be approved."""


class TlsInvalid(ConsortiumError):
    """The coordinator's certificates are damaged, or do not fit together."""


class RequestInvalid(ConsortiumError):
    """A request does not have its route's form."""


class NotFound(ConsortiumError):
    """There is nothing at a request's path."""


class MethodNotAllowed(ConsortiumError):
    """A path does not take this method."""


class BodyTooLarge(ConsortiumError):
    """A request is longer than anything that belongs there."""


class CoordinatorRunning(ConsortiumError):
    """Another coordinator works on this home."""


class JobMissing(ConsortiumError):
    """There is no job of this name."""


class ModelMissing(ConsortiumError):
    """The ledger names no such model."""


class ModelFileInvalid(ConsortiumError):
    """A file is no model's, or not in a form that can be read."""


class ModelUnexportable(ConsortiumError):
    """A model cannot be written in the format asked for."""


class ModelUnproven(ConsortiumError):
    """A model's file is not what the ledger names."""


class ExportsBusy(ConsortiumError):
    """As many exports as the API makes at once are under way."""
