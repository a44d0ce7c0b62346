"""What can go wrong with a ledger. The class name is the stable code that people see."""


class LedgerError(Exception):
    """Base of all ledger errors: what happened, and how to resolve it."""

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


class CanonicalInvalid(LedgerError):
    """Bytes are not the one canonical (RFC 8785) form of their content."""


class RecordInvalid(LedgerError):
    """A record does not have the published form."""


class SignatureInvalid(LedgerError):
    """A signature is missing, unknown, repeated or wrong."""


class KeyInvalid(LedgerError):
    """A key file or public key cannot be used."""


class ProofInvalid(LedgerError):
    """A Merkle proof does not prove what it claims."""


class NoteInvalid(LedgerError):
    """A signed note, checkpoint or cosignature is malformed."""


class BlockInvalid(LedgerError):
    """A block does not follow from the one before it."""


class QuorumMissing(LedgerError):
    """Fewer institutions than the quorum have co-signed."""


class GenesisMismatch(LedgerError):
    """The ledger is not the one that was pinned."""


class ExportInvalid(LedgerError):
    """An export differs from its signed manifest."""


class ExportExists(LedgerError):
    """The folder to export into holds something already."""


class ContentMissing(LedgerError):
    """Content named on the ledger is not in the content store."""


class ContentInvalid(LedgerError):
    """Content does not have the digest it is stored under."""


class LedgerMissing(LedgerError):
    """There is no ledger here yet."""


class SequenceConflict(LedgerError):
    """Another block took this place, or the block before it is not final."""


class DatabaseUnreachable(LedgerError):
    """The configured database does not answer."""


class DatabaseMissing(LedgerError):
    """No PostgreSQL was found and none is configured."""


class DatabaseUnsafe(LedgerError):
    """The database would acknowledge what it may lose."""


class DatabaseBusy(LedgerError):
    """Another process uses this data folder."""


class DatabaseFailed(LedgerError):
    """The embedded database did not start."""


class HomeInvalid(LedgerError):
    """The home folder cannot be used."""


class HomeInUse(HomeInvalid):
    """Another process uses the home folder."""


class MembershipInvalid(LedgerError):
    """A change of the members or the policy, or an approval of one, breaks a rule."""


class CosignatureConflict(LedgerError):
    """One member co-signed one block twice: two agents use its key, or one was restored."""


class DisclosureInvalid(LedgerError):
    """A disclosure does not open the salted digest that it is for."""


class DatabaseBehind(LedgerError):
    """The database's schema is older than this version's, and this account may not change it."""


class RangeInvalid(LedgerError):
    """There are no such final blocks."""


class HeadNotReached(LedgerError):
    """An export ends before a head that is known from elsewhere."""


class HeadDiffers(LedgerError):
    """A head that is known from elsewhere names another block at its height."""
