"""What the ledger's codes and numbers mean, in words. No page claims more than these say."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

ACCEPTED = "Accepted"

# A proof's outcome (`consortium.rounds.checks`, `consortium.rounds.result`): what it means, and
# what its hospital can do. A test holds this list complete.
PROOF_CODES = {
    ACCEPTED: ("accepted", ""),
    "NotAMember": (
        "the institution is no member, or does not take part in this job",
        "enrol it, and name it in the next job",
    ),
    "SignatureInvalid": (
        "the proof is not signed by this institution's key on the ledger",
        "check that the agent uses the keys it enrolled with",
    ),
    "CommitmentMismatch": (
        "what was revealed is not what had been committed to",
        "restore the agent's own folder; never run two agents for one hospital",
    ),
    "VrfProofInvalid": (
        "the secure mapping was not drawn with this institution's key for this round",
        "update the agent; a replay of an earlier round fails here",
    ),
    "UpdateMalformed": (
        "the update's tensors have other names, shapes or types than the model's",
        "update the agent to the consortium's version",
    ),
    "UpdateNotFinite": (
        "the update holds NaN or infinity",
        "check the hospital's data for extreme values",
    ),
    "StepTooLarge": (
        "the update lies further from the current model than the contract's terms allow",
        "check that the agent trains with the contract's terms",
    ),
    "PrivacyClaimInvalid": (
        "what it declares to have spent is not what the contract's terms cost",
        "update the agent; compare its budget with the job's terms",
    ),
    "NearCopy": (
        "it is a near-copy of another update, of this round or an earlier one; which of two in one "
        "round is the copy, the records do not tell",
        "ask both hospitals of the pair; each must submit training of its own",
    ),
    "Harmful": (
        "its steps go against what all others learn, beyond what noise explains, and too few of "
        "their patients would miss what it taught; or more than half "
        "of at least two other validators saw their AUROC fall by more than the job tolerates. All "
        "that it taught in this job is left out of the model until a proof of it is accepted again",
        "check labels and units of the hospital's data",
    ),
    "NoQuorum": (
        "too few verdicts came to accept or reject it",
        "find out which members were absent in this round",
    ),
}

# Why an institution did not answer a phase; other codes are its agent's own errors.
ABSENCE_CODES = {
    "NoAnswer": "no answer in time",
    "PolicyRefused": "its own policy does not allow this job",
    "AccountantFixed": "its privacy budget does not count steps on sampled batches",
    "BudgetExceeded": "its privacy budget does not cover this job",
    "DeviceMissing": "the device that it trains on was not there",
    "CohortMissing": "it has no data for this task",
    "CohortTooSmall": "its cohort is too small for this task",
    "JobUnknown": "it does not know the job as running",
    "BaseUnknown": "it had not caught up with the ledger",
    "OwnCommitmentMissing": "its own commitment was not in the set it was shown",
    "SetSignedAlready": "it had signed another set of commitments for this round",
    "PhaseOutOfOrder": "it was asked for a phase before the one that it needs",
    "ReservationMissing": "it has no privacy budget reserved for this job",
    "RevealDropped": "it had revealed in an earlier attempt at this round, and reveals once only",
    "InternalError": "an error inside its agent; the agent's log says more",
}

ABSENCE_REMEDY = "see the agent's status and log at that hospital"

PHASES = {"train": "training", "close": "closing", "reveal": "revealing", "verify": "verifying"}

CLAIMED = (
    "submitted by this institution for this round, and for no other",
    "starting from the current global model",
    "bounded and finite, and declaring the privacy cost that the contract's terms have",
    "no near-copy of another update, as far as a model of this size lets copies be told",
    "scored as shown by other hospitals on their own validation patients",
)
NOT_CLAIMED = (
    "that it was trained on real patients",
    "that the noise it declares was really added",
    "that the validators' own values are right: the medians can be recomputed from the ledger, "
    "the local values behind them are attested by who signed them",
)

EPSILON_COVERS = (
    "Each patient's training record at that hospital, over all of that hospital's reveals so far: "
    "whoever sees the updates and models learns little about whether one patient was in training."
)
EPSILON_DOES_NOT_COVER = (
    "validation scores and test results: they are banded or stay at the hospital, and no epsilon "
    "covers them",
    "what is true of the hospital as a whole, its prevalence say",
    "a patient of two hospitals is covered by the two epsilons together, not by each alone",
)
WHO_SEES = (
    "Every member and the coordinator see each hospital's noised update. The hospital's epsilon "
    "already covers that for each patient."
)

SOLE_INSTITUTION = (
    "There is one institution only: its signatures show that it agrees with itself. Nobody else "
    "has checked the proofs or co-signed the blocks."
)

NO_JOB = (
    "An admin submits one with `consortium job submit`; on one machine, `consortium demo` runs one."
)
NOT_YET = "It appears here by itself."
BUDGET_NOT_HERE = (
    "A cohort's lifetime limit is its hospital's own policy and not on the ledger: what is left of "
    "it only the hospital sees (`hospital-agent budget`)."
)

ROLES = {
    "admin": "Reads everything, models and access log too.",
    "scientist": "Reads everything and downloads models.",
    "auditor": "Reads everything but models' weights.",
}
MODELS_FOR = ("admin", "scientist")
ACCESS_LOG_FOR = ("admin", "auditor")
NO_MODEL = (
    "Not offered to an auditor: to check the ledger takes no model, and whoever has none can leak "
    "none. Scientists and admins can download it."
)
NO_ACCESS_LOG = "Who asked the API for what is shown to admins and auditors only."

MODELS = {
    "federated": "federated",
    "calibrated": "federated, own calibration",
    "alone": "its own alone",
    "majority": "majority",
}
GAIN = (
    "Of 100 cases, how many more the federated model finds on the hospital's test patients than "
    "the hospital's own model alone, where both raise the same false alarms: those that its own "
    "raises at probability one half. The hospital computed it, interval (95 %) included, and let "
    "out both rounded: the value to the nearest step, the interval outward."
)

STATES = {
    "submitted": "The contract is on the ledger; its first round has not begun.",
    "running": "Rounds are under way.",
    "waiting": "It waits, and goes on by itself.",
    "paused": "It waits for a person: `consortium job resume`, or a hospital that comes back.",
    "reconnecting": "The coordinator has lost the SuperLink and tries again by itself.",
    "stopping": "A person stopped it; its end is being written.",
    "finished": "All rounds are done and the model is released.",
    "stopped": "It was ended before its last round; the newest model is released.",
}


def gain(evaluation: Mapping[str, Any]) -> str:
    """What a hospital gains by the released model, as its release gate let it out."""
    found = evaluation["gain"]
    if found is None:
        if evaluation["noised"]:
            return "n/a: its results leave with noise"
        few = min(evaluation["positives"], evaluation["negatives"]) == 0
        return "n/a: too few patients" if few else "n/a: its own model alarms for everybody"
    value, low, high = (round(100 * found[name]) for name in ("value", "low", "high"))
    if low <= 0 <= high:
        return "no difference can be told from this number of patients"
    finds = f"finds about {abs(value)} {'more' if low > 0 else 'fewer'} of 100 cases"
    return f"the federated model {finds} at the same false alarms"


def proof_outcome(code: str) -> str:
    """A proof's outcome in words; a code that is not known here is shown as it stands."""
    known = PROOF_CODES.get(code)
    return known[0] if known else f"rejected with the code {code}"


def proof_remedy(code: str) -> str:
    """What the hospital can do about it."""
    return PROOF_CODES.get(code, ("", "see the code's page in the documentation"))[1]


def absence(phase: str, code: str) -> str:
    """Why an institution is named as absent."""
    why = ABSENCE_CODES.get(code, f"its agent answered {code}")
    return f"absent from {PHASES.get(phase, phase)}: {why}"


def when(seconds: int) -> str:
    """A ledger's time, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def ago(seconds: float) -> str:
    """How long ago, in the largest unit that tells something."""
    for unit, name in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= unit:
            return f"{count(int(seconds // unit), name)} ago"
    return "just now"


def left(seconds: float) -> str:
    """A time left: ``4:05``, ``1:02:03``."""
    whole = max(0, round(seconds))
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def short(digest: str) -> str:
    """The beginning of a digest, enough to recognise it and to search for it."""
    return digest[:16]


def count(number: int, what: str, many: str | None = None) -> str:
    """``1 proof``, ``2 proofs``."""
    return f"{number:,} {what if number == 1 else many or what + 's'}"
