"""The records that a ledger holds: their one published form.

No floats (integers and decimal strings), no free text, no person's name, no patient's value.
`schemas` gives the JSON Schema of every type. What a record must satisfy beyond its form is
held elsewhere: signatures and membership in `ledger.chain`, a round's rules in
`consortium.rounds`.
"""

from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from ledger import canonical
from ledger.errors import RecordInvalid
from ledger.keys import PublicKey, Role

COORDINATOR = "coordinator"
ACCEPTED = "Accepted"  # the code of a proof that passed every check

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
RoleName = Annotated[Role, Field(strict=False)]
CohortId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
Hex = Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{2}){1,512}$")]
Signature = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{128}$")]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]
Title = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 .,'&()/-]{0,79}$")]
Code = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Za-z]{1,39}$")]
DecimalText = Annotated[
    str, StringConstraints(pattern=r"^(0|[1-9][0-9]{0,11})(\.[0-9]{0,39}[1-9])?$")
]
Divergences = Annotated[tuple[DecimalText, ...], Field(max_length=64, strict=False)]
Count = Annotated[int, Field(ge=0, le=2**53 - 1)]
Signed = Annotated[int, Field(ge=-(2**53) + 1, le=2**53 - 1)]
Positive = Annotated[int, Field(ge=1, le=2**53 - 1)]
Version = Annotated[int, Field(ge=1, le=1)]  # Literal[1] would take true for 1
Score = Annotated[int, Field(ge=0, le=10_000)]
Contribution = Annotated[int, Field(ge=-10_000, le=10_000)]
Banded = Annotated[int, Field(ge=0, le=10_000, multiple_of=200)]
BandedOfClass = Annotated[int, Field(ge=0, le=10_000, multiple_of=500)]
BandedDifference = Annotated[int, Field(ge=-10_000, le=10_000, multiple_of=500)]


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class KeyForm(_Form):
    """A public key as it stands on the ledger."""

    alg: Literal["ed25519"]
    public: Digest

    @staticmethod
    def of(key: PublicKey) -> "KeyForm":
        """The form of a public key."""
        return KeyForm(alg="ed25519", public=key.public.hex())


class MemberForm(_Form):
    """An institution: a public name, its keys by role, and a proof that it holds each.

    ``possession`` holds, for each role, a signature (for the VRF key: a VRF proof) over
    `possession_message`.
    """

    id: Name
    title: Title
    keys: dict[RoleName, KeyForm]
    possession: dict[RoleName, Hex]

    def key(self, role: Role) -> PublicKey:
        """The institution's public key for a role.

        Raises:
            RecordInvalid: if the institution has none.
        """
        form = self.keys.get(role)
        if form is None:
            raise RecordInvalid(
                f"{self.id} has no {role} key",
                "found the ledger with an institution that has a key for every role",
            )
        return PublicKey(role, bytes.fromhex(form.public), form.alg)


def possession_message(institution: str, role: Role, keys: dict[Role, KeyForm]) -> bytes:
    """What an institution signs with each key to show that it holds it."""
    publics = "\n".join(f"{r} {keys[r].alg} {keys[r].public}" for r in sorted(keys))
    return f"medpole/possession/v1\n{institution}\n{role}\n{publics}\n".encode()


class Record(_Form):
    """What every record says: its version, its type, its ledger and its author."""

    v: Version
    type: str
    author: Name

    def body(self) -> dict[str, Any]:
        """The record as plain JSON values."""
        return self.model_dump(mode="json")


class CreditPolicy(_Form):
    """Credits of one round: all of ``pool`` is paid out, never more (`consortium.rounds.rewards`).

    ``verdicts`` of them are for verdicts, ``learner_bonus`` for the learner, the rest is split
    by the Shapley values summed over the last ``window`` rounds.
    """

    pool: Positive
    verdicts: Count
    learner_bonus: Count
    window: Positive

    @model_validator(mode="after")
    def _within_the_pool(self) -> "CreditPolicy":
        if self.verdicts + self.learner_bonus > self.pool:
            raise ValueError("the parts are more than the pool")
        return self


class Policy(_Form):
    """What the founders agree on. ``quorum`` names the rule of `ledger.quorum`."""

    quorum: Literal["floor((n+f)/2)+1"]
    credits: CreditPolicy


class Continued(_Form):
    """The newest final block of a ledger whose quorum is gone for good, and that goes on here."""

    ledger: Digest
    height: Count
    block: Digest


class Genesis(Record):
    """The first record. Signed by the coordinator and by every founder, in order."""

    type: Literal["genesis"]
    author: Literal["coordinator"]
    consortium: Title
    coordinator: dict[RoleName, KeyForm]
    founders: Annotated[tuple[MemberForm, ...], Field(min_length=1, max_length=1000, strict=False)]
    policy: Policy
    created: Count
    continues: Continued | None = None


class LedgerRecord(Record):
    """A record of an existing ledger."""

    ledger: Digest


class Enrol(_Form):
    """A new institution; ``consent`` is its record key's signature over `consent_message`."""

    kind: Literal["enrol"]
    member: MemberForm
    consent: Signature


class Rotate(_Form):
    """New keys of an institution, signed by its old and by its new record key."""

    kind: Literal["rotate"]
    member: MemberForm
    consent: Signature
    consent_of_old: Signature


class RotateCoordinator(_Form):
    """New keys of the coordinator, signed by its old and by its new record key."""

    kind: Literal["rotate-coordinator"]
    keys: dict[RoleName, KeyForm]
    consent: Signature
    consent_of_old: Signature


class Suspend(_Form):
    """An institution neither signs nor counts until it is reinstated."""

    kind: Literal["suspend"]
    institution: Name


class Reinstate(_Form):
    """The end of a suspension."""

    kind: Literal["reinstate"]
    institution: Name


class Remove(_Form):
    """An institution leaves for good; its id and its keys are never used again."""

    kind: Literal["remove"]
    institution: Name


class SetPolicy(_Form):
    """Another policy."""

    kind: Literal["set-policy"]
    policy: Policy


Action = Annotated[
    Enrol | Rotate | RotateCoordinator | Suspend | Reinstate | Remove | SetPolicy,
    Field(discriminator="kind"),
]


class Change(LedgerRecord):
    """A change of the membership, proposed. `ledger.membership` says when it takes effect.

    ``base`` is the digest of the membership that it changes, and of no other.
    """

    type: Literal["change"]
    base: Digest
    actions: Annotated[tuple[Action, ...], Field(min_length=1, max_length=100, strict=False)]


class Approval(LedgerRecord):
    """A person at a member approves a change. Signed with that member's approval key.

    ``approver`` is a salted digest of who it was (`ledger.disclosure`).
    """

    type: Literal["approval"]
    change: Digest
    approver: Digest


class Erasure(LedgerRecord):
    """What opened a salted digest (`ledger.disclosure`) has been erased."""

    type: Literal["erasure"]
    disclosure: Digest


def consent_message(ledger: str, form: MemberForm | dict[Role, KeyForm]) -> bytes:
    """What an institution, or the coordinator, signs to stand on a ledger with these keys."""
    if isinstance(form, MemberForm):
        content = form.model_dump(mode="json")
    else:
        content = {role.value: key.model_dump(mode="json") for role, key in form.items()}
    return f"medpole/consent/v1\n{ledger}\n".encode() + canonical.dumps(content)


class Terms(_Form):
    """The public constants of one hospital's private training (`privacy.contract`)."""

    rounds: Positive
    steps: Positive
    sample_rate: DecimalText
    noise_multiplier: DecimalText
    clip: DecimalText
    clipping: Literal["flat", "automatic"]
    learning_rate: DecimalText
    normaliser: Positive
    epsilon: DecimalText
    delta: DecimalText


class Participant(_Form):
    """An institution in a job, its public weight in the average, and its terms."""

    institution: Name
    weight: Positive
    terms: Terms


class Thresholds(_Form):
    """The job's limits for the checks on a reveal (`consortium.rounds.checks`), as calibrated.

    ``false_alarm`` is the chance that an honest proof is taken for a copy of any other of its
    round, of any earlier one, and that noise alone makes it go against the others. ``reach`` is the
    longest sum of clipped gradients, in clips times declared patients; ``residual_signal`` how
    little of honest steps' signal is left when a pair is compared; ``opposition`` how far honest
    patients may pull against the others', as a part of what all declared patients could. ``drop``
    (basis points of AUROC) is how far a proof may fall below the current model on a validator's
    data, and ``drop_with_noise`` how much further where its noise is as long as the model.
    """

    false_alarm: DecimalText
    reach: DecimalText
    residual_signal: DecimalText
    opposition: DecimalText
    drop: Count
    drop_with_noise: Count


class BandedScores(_Form):
    """Scores on validation patients leave in bands; no epsilon covers them (`privacy.release`)."""

    kind: Literal["banded"]


class NoisedScores(_Form):
    """Scores leave with noise, and are charged to the patients that they are about.

    ``fewest`` and ``noise_multiplier`` are those of `privacy.noised_release`.
    """

    kind: Literal["noised"]
    fewest: Annotated[int, Field(ge=5, le=10**9)]
    noise_multiplier: DecimalText


Aggregation = Literal["weighted-mean", "median", "trimmed-mean", "krum"]
"""How a round's accepted updates become one model (`consortium.rounds.aggregation`)."""


class Durations(_Form):
    """How long each phase of a round waits for answers, in whole seconds."""

    train: Positive
    close: Positive
    reveal: Positive
    verify: Positive


class Job(LedgerRecord):
    """A job's contract. Signed by the coordinator.

    ``committee``: how many institutions' verdicts count in each round (`rounds.committee`).
    """

    type: Literal["job"]
    author: Literal["coordinator"]
    job: Name
    task: Name
    task_fingerprint: Digest
    rounds: Positive
    seed: Count
    initial_model: Digest
    average_from: Positive
    aggregation: Aggregation
    participants: Annotated[
        tuple[Participant, ...], Field(min_length=1, max_length=1000, strict=False)
    ]
    thresholds: Thresholds
    scores: Annotated[BandedScores | NoisedScores, Field(discriminator="kind")]
    committee: Positive
    durations: Durations


class RoundRecord(LedgerRecord):
    """A record of one attempt at one round of a job."""

    job: Name
    round: Positive
    attempt: Positive


class Commitment(RoundRecord):
    """A hospital binds itself to an update that it does not show yet."""

    type: Literal["commitment"]
    base: Digest
    model: Digest
    commitment: Digest


class Refusal(RoundRecord):
    """A hospital declines a round, with a code."""

    type: Literal["refusal"]
    code: Code


class Close(RoundRecord):
    """A hospital has seen the set of commitments; it signs no other for this attempt."""

    type: Literal["close"]
    digest: Digest


class Spend(_Form):
    """What a reveal cost the hospital's cohort. ``mu2`` is the squared Gaussian-DP parameter."""

    cohort: CohortId
    steps: Positive
    sample_rate: DecimalText
    noise_multiplier: DecimalText
    clip: DecimalText
    normaliser: Positive
    mu2_before: DecimalText
    mu2_after: DecimalText
    epsilon: DecimalText
    delta: DecimalText


class SampledSpend(Spend):
    """What a reveal cost a cohort that also serves jobs on sampled batches.

    ``mu2`` is of its full-batch steps; ``sampled_before`` and ``sampled_after`` are the Rényi
    divergences of the others, at the orders of `privacy.renyi`, empty before the first of them.
    ``order`` is the one that the cohort's lifetime limit is kept at.
    """

    order: Positive
    sampled_before: Divergences
    sampled_after: Divergences


class Proof(RoundRecord):
    """A proof of learning: opens a commitment and declares what it cost."""

    type: Literal["proof"]
    digest: Digest
    update: Digest
    vrf_proof: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{160}$")]
    salt: Digest
    spend: Spend | SampledSpend


class Finding(_Form):
    """One validator's finding on one proof.

    ``code`` is ``Accepted``, or the check that failed: of 1 to 7, or of 8 what the steps show.
    ``score``, ``harmful`` and ``shapley`` (basis points of AUROC) are null where the validator
    abstains. Beside the code ``Harmful``, ``harmful`` is false where its patients would miss what
    that institution taught (`consortium.rounds.checks.harm`).
    """

    institution: Name
    code: Code
    score: Score | None
    harmful: bool | None
    shapley: Contribution | None


class Verdict(RoundRecord):
    """One validator's findings on all proofs of a round; ``reveals`` is the set it was shown."""

    type: Literal["verdict"]
    digest: Digest
    reveals: Digest
    findings: Annotated[tuple[Finding, ...], Field(max_length=1000, strict=False)]


class Outcome(_Form):
    """What a round decided on one proof, and the credits it earned by learning.

    ``average`` is the sum of the proof's Shapley values over the policy's window.
    """

    institution: Name
    code: Code
    score: Score | None
    shapley: Contribution | None
    average: Signed
    credits: Count


class Payment(_Form):
    """Credits for a verdict delivered in time."""

    institution: Name
    credits: Count


class Absence(_Form):
    """Who did not answer, or refused, and in which phase."""

    institution: Name
    phase: Literal["train", "close", "reveal", "verify"]
    code: Code


class Result(RoundRecord):
    """What one attempt at a round came to. Every member derives it anew before co-signing.

    ``again``: the round is tried again: too few closed the set, so nothing was revealed.
    """

    type: Literal["result"]
    author: Literal["coordinator"]
    base: Digest
    digest: Digest | None
    model_before: Digest
    model_after: Digest
    void: bool
    again: bool
    proofs: Annotated[tuple[Outcome, ...], Field(max_length=1000, strict=False)]
    fees: Annotated[tuple[Payment, ...], Field(max_length=1000, strict=False)]
    absent: Annotated[tuple[Absence, ...], Field(max_length=1000, strict=False)]
    learner: Name | None
    bonus: Count
    minted: Count


class JobEnd(LedgerRecord):
    """A job is over; hospitals give back what they had reserved and not spent.

    ``rounds`` counts rounds, not attempts at them.
    """

    type: Literal["job-end"]
    author: Literal["coordinator"]
    job: Name
    status: Literal["finished", "stopped"]
    rounds: Count
    model: Digest


class Measures(_Form):
    """How one model does on a hospital's test patients: basis points, on their bands.

    Null: not released. `privacy.release` says what may be, and what the numbers mean.
    """

    auroc: Banded | None
    accuracy: Banded | None
    sensitivity: BandedOfClass | None
    specificity: BandedOfClass | None
    calibration: Banded | None


class Gain(_Form):
    """How many more cases the released model finds than the hospital's own, at its false alarms.

    A difference of two shares of the cases, with its 95 % interval, on their bands.
    """

    value: BandedDifference
    low: BandedDifference
    high: BandedDifference


class Evaluation(LedgerRecord):
    """What a hospital lets out of its own evaluation of a job's released model.

    ``model`` is the one that the job's end names. ``positives`` and ``negatives`` are the lower
    edges of the size bands of its test patients with and without the outcome; 0: too few to be
    counted in public. ``federated`` is the released model, ``calibrated`` the same with the
    hospital's own calibration, ``alone`` the hospital's own without the others, ``majority`` the
    accuracy of always predicting its training patients' more frequent outcome. ``gain``:
    ``federated`` beside ``alone``.

    ``noised``: the released model's AUROC and accuracy left with the noise of the job's contract,
    charged to the test patients, and nothing else: no other measure, no size.
    """

    type: Literal["evaluation"]
    job: Name
    model: Digest
    noised: bool
    positives: Count
    negatives: Count
    federated: Measures
    calibrated: Measures
    alone: Measures
    majority: Banded | None
    gain: Gain | None


AnyRecord = (
    Genesis | Change | Approval | Erasure | Evaluation
    | Job | Commitment | Refusal | Close | Proof | Verdict | Result | JobEnd
)  # fmt: skip
_TYPES: tuple[type[Record], ...] = get_args(AnyRecord)
_ADAPTER: TypeAdapter[Record] = TypeAdapter(Annotated[AnyRecord, Field(discriminator="type")])


def parse_record(body: Any) -> Record:
    """The record with this body.

    Raises:
        RecordInvalid: naming the first field that is not of the published form, never its value.
    """
    try:
        record = _ADAPTER.validate_python(body)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the record"
        raise RecordInvalid(
            f"{place} is not of the published form ({first['type']})",
            "compare it with the record's JSON Schema in an export's schemas.json",
        ) from None
    if record.body() != body:
        raise RecordInvalid(
            "the record is not in its one exact form", "send the record as it was signed"
        )
    return record


def stored_record(body: bytes) -> Record:
    """The record of a body's bytes that were checked when they were stored: at a fifth of the cost.

    Raises:
        ValidationError: if they are of no published form.
    """
    return _ADAPTER.validate_json(body)


def schemas() -> dict[str, Any]:
    """JSON Schema of every record type, by name."""
    return {
        str(form.model_fields["type"].annotation.__args__[0]): form.model_json_schema()  # type: ignore[union-attr]
        for form in _TYPES
    }
