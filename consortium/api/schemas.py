"""What the API answers with: one form for server, client and OpenAPI. Needs pydantic only.

Scores, Shapley values and their averages are in basis points (1/10,000) of AUROC, as they stand on
the ledger; times are seconds since 1970; hashes and keys are lower-case hex; epsilons, deltas and
noise are decimal strings. A record's ``index`` is its place among the ledger's leaves.
"""

from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

Item = TypeVar("Item")
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", examples=["0a" * 32])]
Id = Annotated[str, Field(examples=["cleveland"])]
JobId = Annotated[str, Field(examples=["heart-disease-1"])]
Height = Annotated[int, Field(ge=0, examples=[12])]
Index = Annotated[int, Field(ge=0, examples=[204])]
Seconds = Annotated[int, Field(ge=0, examples=[1_780_000_000])]
BasisPoints = Annotated[int, Field(ge=-10_000, le=10_000, examples=[8600])]
DecimalText = Annotated[str, Field(examples=["1.4652"])]


class Form(BaseModel):
    """What all answers have in common."""

    model_config = ConfigDict(frozen=True)


class Page(Form, Generic[Item]):
    """Some of many. ``next`` is the cursor that goes on; null: there is no more."""

    items: list[Item]
    next: str | None = None


class Place(Form):
    """A block: its height and its time."""

    height: Height
    time: Seconds


# operations


class Health(Form):
    """The process answers."""

    status: Literal["ok"] = "ok"
    version: Annotated[str, Field(examples=["0.1.0"])]


class Ready(Form):
    """The ledger can be read."""

    status: Literal["ready"] = "ready"
    height: Height


class Me(Form):
    """Who asks."""

    name: Annotated[str, Field(examples=["Ada Byron"])]
    role: Annotated[str, Field(examples=["auditor"])]


class Access(Form):
    """One line of the access log. ``route`` is the route's own form; no query, no token."""

    time: Annotated[float, Field(examples=[1_780_000_000.123])]
    caller: str | None
    role: str | None
    address: str | None
    method: str
    route: str
    status: int
    ms: float
    bytes: int
    request: Annotated[str, Field(examples=["1f2e3d4c5b6a7988"])]


class Problem(Form):
    """What went wrong (RFC 9457): ``code`` has a page in the documentation."""

    type: str = "about:blank"
    title: Annotated[str, Field(examples=["Not Found"])]
    status: Annotated[int, Field(examples=[404])]
    code: Annotated[str, Field(examples=["LedgerMissing"])]
    detail: Annotated[str, Field(examples=["there is no record 99"])]
    resolve: Annotated[str, Field(examples=["see /v1/ledger/head for how many"])]
    fields: list[str] | None = None


# ledger


class Head(Form):
    """The newest block. ``entries`` counts leaves before its header, ``records`` no headers."""

    ledger: Hash
    height: Height
    hash: Hash
    entries: int
    records: int
    checkpoint: str
    time: Seconds
    cosigned: int
    quorum: int
    members: int
    final: bool


class BlockSummary(Form):
    """What a list of blocks shows. A block is about its last entry: a job, a result, an end."""

    height: Height
    hash: Hash
    time: Seconds
    first: Index
    entries: int
    type: str | None
    job: str | None
    round: int | None
    cosigners: list[str]


class BlockBytes(Form):
    """A whole block, as text: whoever reads it hashes the bytes that were signed."""

    header: str
    entries: list[str]
    checkpoint: str
    signature: str
    parent_cert: list[str]
    cosignatures: list[str]


class Leaf(Form):
    """One leaf of the ledger's tree with its signatures: a record, or a block's header."""

    index: Index
    height: Height
    leaf: Hash
    entry: dict[str, Any]


class RecordItem(Form):
    """One record of a list."""

    index: Index
    height: Height
    record: dict[str, Any]


class Found(Form):
    """What a search has found: ``hash`` of a leaf, a block or a model."""

    what: Literal["record", "block", "model"]
    hash: Hash
    height: Height
    index: Index
    type: str | None = None
    job: str | None = None


class ConsistencyProof(Form):
    """Proof that an older tree is the beginning of a newer one (RFC 9162)."""

    proof: list[Hash]


class MemberHeadNote(Form):
    """The newest checkpoint that an institution co-signed, as a signed note."""

    institution: Id
    note: str


class Conflict(Form):
    """A second cosignature by one member on one block."""

    height: Height
    line: str


class MemberHeads(Form):
    """All members' newest heads, and what contradicts them."""

    heads: list[MemberHeadNote]
    conflicts: list[Conflict]


class ProposedChange(Form):
    """A change of the membership that waits for approvals."""

    change: Hash
    record: dict[str, Any]
    approved: list[str]


class MembershipForm(Form):
    """What is in force from the next block on."""

    digest: Hash
    quorum: int
    members: list[dict[str, Any]]
    suspended: list[dict[str, Any]]
    policy: dict[str, Any]
    proposed: list[ProposedChange]


# institutions


class Key(Form):
    """A public key in force, and since when. ``id`` is for people to compare."""

    role: Annotated[str, Field(examples=["record"])]
    algorithm: Annotated[str, Field(examples=["ed25519"])]
    public: Hash
    since: Place


class Seen(Form):
    """The last request with an institution's token, to the minute, and its agent's version."""

    time: Seconds
    version: str | None


class Institution(Form):
    """A member, or an institution that was suspended."""

    id: Id
    title: Annotated[str, Field(examples=["Cleveland Clinic Foundation"])]
    status: Literal["member", "suspended"]
    joined: Place
    keys: list[Key]
    last_cosigned: Place | None
    last_seen: Seen | None


class StatementLine(Form):
    """What one job brought an institution. ``credits`` is the sum of the three before it."""

    job: JobId
    task: str
    accepted: int
    rejected: int
    absent: int
    learner: Annotated[int, Field(description="rounds in which it was the learner")]
    shapley: Annotated[int, Field(description="sum over its accepted proofs")]
    learning: int
    verdicts: int
    bonus: int
    credits: int


class Statement(Form):
    """An institution's account, up to a block: every line can be recomputed from the ledger."""

    institution: Id
    height: Height
    hash: Hash
    credits: int
    lines: list[StatementLine]


# jobs and what comes out of them


class Job(Form):
    """A job, and for a running one what its coordinator reports.

    ``phase_ends`` is when whoever has not answered counts as absent; ``institutions`` says what
    each hospital does in this phase, ``absent`` who was missing from the last attempt, by code;
    ``left_out`` whose last proof was called harmful, so that nothing of theirs is in the next model
    or the one that is given out.
    """

    job: JobId
    task: Annotated[str, Field(examples=["heart-disease"])]
    state: Annotated[
        str,
        Field(description="submitted, running, waiting, paused, reconnecting, stopping, finished, "
                          "stopped", examples=["running"]),
    ]  # fmt: skip
    done: int
    rounds: int
    participants: list[str]
    epsilon: Annotated[str, Field(description="the largest agreed", examples=["1"])]
    submitted: Place
    ended: Place | None
    model: Hash | None
    round: int | None
    attempt: int | None
    phase: str
    phase_ends: int | None
    reason: str
    institutions: dict[str, str]
    absent: dict[str, str]
    left_out: list[str]
    rejected: int
    absences: int
    void: int
    repeated: int


class JobDetail(Form):
    """A job with its contract as it stands on the ledger."""

    job: Job
    index: Index
    contract: dict[str, Any]


class Contribution(Form):
    """How one hospital's proof fared in one attempt; ``phase``: absent from it.

    ``code`` is ``Accepted``, why the proof was rejected, or why there was none.
    """

    index: Index
    job: JobId
    round: int
    attempt: int
    institution: Id
    code: Annotated[str, Field(examples=["Accepted"])]
    phase: str | None
    score: BasisPoints | None
    shapley: BasisPoints | None
    credits: int
    learner: bool


class Account(Form):
    """An institution's totals over all jobs, or over one."""

    institution: Id
    accepted: int
    rejected: int
    absent: int
    learner: int
    credits: int


class ModelItem(Form):
    """A model that the ledger names: a job's first, a round's, or the one it released."""

    model: Hash
    job: JobId
    task: str
    kind: Literal["initial", "round", "released"]
    round: int | None
    index: Index
    height: Height
    time: Seconds


# privacy


class JobSpend(Form):
    """What one job has cost a cohort so far; ``epsilon``: the lifetime's after its last reveal."""

    job: JobId
    agreed: DecimalText
    delta: DecimalText
    reveals: int
    rounds_left: int
    epsilon: DecimalText


class Spending(Form):
    """What an institution's cohort has declared to have spent in its lifetime."""

    institution: Id
    cohort: str
    task: str
    epsilon: DecimalText
    delta: DecimalText
    reveals: int
    jobs: list[JobSpend]


class Spend(Form):
    """One reveal's cost, as its proof declares it and every validator recomputed it."""

    index: Index
    job: JobId
    round: int
    attempt: int
    institution: Id
    cohort: str
    epsilon: DecimalText
    delta: DecimalText
    noise_multiplier: DecimalText
    steps: int
    sample_rate: DecimalText


class Cost(Form):
    """What a job would cost one institution; its own policy and budget decide."""

    institution: Id
    declared_patients: int
    noise_multiplier: DecimalText
    epsilon_before: DecimalText
    epsilon_after: DecimalText


class Forecast(Form):
    """What a job would cost, by Gaussian-DP accounting over all that is on the ledger."""

    task: str
    rounds: int
    epsilon: DecimalText
    delta: DecimalText
    costs: list[Cost]


# evaluations


class Estimate(Form):
    """A released number with its 95 % interval, in fractions of 1; null: not released.

    ``low`` and ``high`` are the reader's: from the number's band and the size bands.
    """

    model: Annotated[
        str,
        Field(description="federated, calibrated, alone or majority", examples=["federated"]),
    ]
    measure: Annotated[str, Field(examples=["auroc"])]
    value: float | None
    low: float | None
    high: float | None


class GainItem(Form):
    """How many more of its cases the released model finds than a hospital's own model does.

    A difference of shares, at the false alarms that its own raises; with its 95 % interval.
    """

    value: float
    low: float
    high: float


class EvaluationItem(Form):
    """How a job's released model did on one hospital's test patients, as its gate let it out.

    ``positives`` and ``negatives`` are lower edges of size bands; 0: fewer than five patients, or
    than the hospital's own policy counts in public. ``gain``: null where too few, or not to be
    told. ``noised``: two numbers left with noise, charged to the test patients, and no size.
    """

    index: Index
    height: Height
    time: Seconds
    job: JobId
    institution: Id
    model: Hash
    noised: bool
    positives: int
    negatives: int
    estimates: list[Estimate]
    gain: GainItem | None
