"""What can go wrong at a hospital. The class name is the code; only the code ever leaves."""


class AgentError(Exception):
    """Base of all errors of this package: what happened, and how to resolve it."""

    def __init__(self, what: str, resolve: str) -> None:
        super().__init__(what, resolve)  # both, so that it survives pickling
        self.what = what
        self.resolve = resolve

    def __str__(self) -> str:
        return self.what

    @property
    def code(self) -> str:
        """The stable code, printed as ``error[CODE]`` and sent as a refusal."""
        return type(self).__name__


class FolderInvalid(AgentError):
    """The hospital's folder lacks something, or cannot be used."""


class PolicyRefused(AgentError):
    """The hospital's own policy does not allow this job."""


class PolicyInvalid(AgentError):
    """A value cannot stand in a policy."""


class ReleaseRefused(AgentError):
    """The hospital's own policy does not let its test results out."""


class ReleasesUsedUp(AgentError):
    """A cohort has released as many evaluations as the policy allows in its lifetime."""


class CohortMissing(AgentError):
    """There is no data for the job's task here."""


class JobUnknown(AgentError):
    """The job is not on the final ledger that this hospital knows."""


class BaseUnknown(AgentError):
    """The round does not start from the newest block that this hospital knows."""


class OwnCommitmentMissing(AgentError):
    """The closed set does not hold this hospital's own commitment, unchanged."""


class SetSignedAlready(AgentError):
    """This hospital has signed another set of commitments for this attempt."""


class PhaseOutOfOrder(AgentError):
    """A phase was asked for before the one that it needs."""


class NotOnCommittee(AgentError):
    """A verdict was asked of a hospital that is not on the round's committee."""


class MemberStopped(AgentError):
    """This hospital's cosign key signed what its state does not know: it must be rotated."""


class ApproverInvalid(AgentError):
    """The person's approval key cannot be used."""


class ApiUnsafe(AgentError):
    """The API's address would send tokens unencrypted over a network."""


class ChangeUnknown(AgentError):
    """No change that is open has this id."""


class ReceiptMissing(AgentError):
    """This hospital's copy does not hold what is to be shown."""


class StateFailed(AgentError):
    """This hospital's own state cannot be read or written."""


class ClocksDiffer(AgentError):
    """A block is dated ahead of this hospital's clock."""


class ForkRefused(AgentError):
    """Another block at a height that this hospital has co-signed: evidence of a fork."""


class OwnRecordChanged(AgentError):
    """A block holds a record in this hospital's name that it did not sign."""


class RevealDropped(AgentError):
    """A round in which this hospital has revealed its update is tried again."""


class ApiUnreachable(AgentError):
    """The consortium's API does not answer."""


class GenesisRefused(AgentError):
    """The genesis does not hold this hospital as it enrolled."""


class ApprovalPending(AgentError):
    """The policy asks for a person's approval of the job, and nobody has given it yet."""


class JobRefusedByPerson(AgentError):
    """A person at this hospital has refused the job."""


class CohortExists(AgentError):
    """There is data for this task, or under this name, already."""


class CohortNameInvalid(AgentError):
    """A cohort cannot be called so."""


class DeclaredPatientsInvalid(AgentError):
    """The number of patients to declare in public is missing or too small."""


class SourceUnsupported(AgentError):
    """Data of this kind cannot be read, or what reads it is not installed."""


class TableUnreadable(AgentError):
    """A file is no table that could be read."""


class SourceEmpty(TableUnreadable):
    """A source holds no row."""


class DelimiterWrong(TableUnreadable):
    """A text file's columns are separated by something else than was said."""


class EncodingWrong(TableUnreadable):
    """A text file is not, or not all, in the encoding that was said."""


class TooManyColumns(TableUnreadable):
    """A table has far more columns than measurements of a patient."""


class SourceTooLarge(TableUnreadable):
    """A file holds, or says that it holds, more than would ever be read."""


class LabelsMissing(AgentError):
    """A source does not say which patients have the outcome."""


class DecimalComma(AgentError):
    """A column's numbers have a comma before their decimals."""


class MappingFileInvalid(AgentError):
    """A mapping file cannot be read, or does not fit the source or the task."""


class UnitUnknown(AgentError):
    """A unit is missing, or nobody here knows it."""


class UnitUnconvertible(AgentError):
    """A unit cannot be converted to the task's with what the mapping says."""


class ValueUnmapped(AgentError):
    """A column holds codes that the mapping does not list."""


class PatientRepeated(AgentError):
    """Patients have several rows, and nothing says which one counts."""


class PatientUnnamed(AgentError):
    """A column names the patients, and is empty in some rows."""


class ImageUnreadable(AgentError):
    """An image cannot be read, or is not of a kind that a task takes."""


class DatabaseUnreadable(AgentError):
    """A hospital's database does not answer, or not to this query."""


class SecretInAddress(AgentError):
    """A password stands in a database's address, where others can see it."""


class FhirInvalid(TableUnreadable):
    """A file is no FHIR Bundle and no line of it a resource."""


class FhirVersionUnsupported(AgentError):
    """FHIR data is of another version than R4."""


class AppDiffers(AgentError):
    """A run's app bundle is not the one that the code installed here gives."""


class CaMismatch(AgentError):
    """Another CA than the invitation's stands behind the address; nothing was sent."""


class InvitationDiffers(AgentError):
    """The consortium at the address has another ledger than the invitation names."""


class EnrolmentMissing(AgentError):
    """The newest block of the ledger does not hold this hospital's enrolment."""


class AgentRunning(AgentError):
    """Another agent uses this hospital's folder."""


class AgentSilent(AgentError):
    """No agent answers here when asked how it is."""
