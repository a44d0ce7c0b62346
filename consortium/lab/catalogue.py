"""The catalogue of cheats: who cheats, what is done, and what is expected to come of it.

Data only, and light to import: the demo reads it (``--cheat``, help, outcome), and so does
the lab. What carries a cheat out is in `hospital_agent.cheats` and `consortium.simulation`.
"""

from dataclasses import dataclass
from enum import StrEnum


class By(StrEnum):
    """Whose honest step is replaced."""

    HOSPITAL = "hospital"
    PAIR = "pair"  # a hospital, with another's help
    VALIDATOR = "validator"
    COORDINATOR = "coordinator"


@dataclass(frozen=True)
class Cheat:
    """One way to cheat.

    ``does`` goes on after "it". ``codes`` are those that the ledger, or whoever
    refuses, is expected to give; none: nothing is rejected. ``always``: one of them is given each
    time, from round ``first`` on; otherwise often, and ``expected`` says what holds the rest.
    ``demo``: whether `consortium demo --cheat` has it.
    """

    name: str
    by: By
    does: str
    expected: str
    codes: tuple[str, ...] = ()
    always: bool = True
    first: int = 1
    demo: bool = True


CATALOGUE = (
    Cheat(
        "replay", By.HOSPITAL,
        "sends what was revealed in an earlier round once more, the proof of its mapping included: "
        "its own in even rounds, another's in odd ones",
        "rejected: the mapping was drawn for another round",
        ("VrfProofInvalid",), first=2,
    ),
    Cheat(
        "resubmit", By.HOSPITAL,
        "submits what another hospital revealed in the round before, mapped anew as its own",
        "rejected: an exact copy is always found",
        ("NearCopy",), first=2,
    ),
    Cheat(
        "copy", By.PAIR,
        "submits another's update, handed over before the commitments closed",
        "both are rejected: nobody can copy by then without help",
        ("NearCopy",),
    ),
    Cheat(
        "copy-noise", By.PAIR,
        "submits another's update, handed over before the commitments closed, with noise of half "
        "its length added",
        "both are rejected where model and noise are large enough to tell; else accepted",
        ("NearCopy",), always=False,
    ),
    Cheat(
        "free-rider", By.HOSPITAL,
        "trains on nobody: the current model with as much noise as the contract asks for",
        "not rejected: earns less than the others, as a rule",
        ("Harmful",), always=False,
    ),
    Cheat(
        "label-flip", By.HOSPITAL,
        "trains on the opposite of what its patients have",
        "rejected once its steps go against the others' by more than noise; until then earns less",
        ("Harmful",), always=False,
    ),
    Cheat(
        "sign-flip", By.HOSPITAL,
        "trains honestly and goes as far the other way",
        "rejected once its steps go against the others' by more than noise; until then earns less",
        ("Harmful",), always=False,
    ),
    Cheat(
        "frame", By.HOSPITAL,
        "goes against all that the largest of the others taught, and along with the rest's",
        "often accepted, and the other named in its place; what that one taught stays in the model "
        "if validators' patients would miss it",
        ("Harmful",), always=False, demo=False,
    ),
    Cheat(
        "scale", By.HOSPITAL,
        "trains honestly and goes a hundred times as far",
        "rejected: the step is longer than the contract's terms allow",
        ("StepTooLarge",),
    ),
    Cheat(
        "nan", By.HOSPITAL,
        "puts a NaN into its update",
        "rejected",
        ("UpdateNotFinite",),
    ),
    Cheat(
        "wrong-shape", By.HOSPITAL,
        "submits an update of another shape than the model's",
        "rejected",
        ("UpdateMalformed",), demo=False,
    ),
    Cheat(
        "false-epsilon", By.HOSPITAL,
        "declares half of the epsilon that it has spent",
        "rejected: every member recomputes it",
        ("PrivacyClaimInvalid",),
    ),
    Cheat(
        "no-reveal", By.HOSPITAL,
        "commits, closes, and never opens its commitment",
        "named as absent from the reveal; the round goes on without it",
        ("NoAnswer",),
    ),
    Cheat(
        "late-reveal", By.HOSPITAL,
        "opens its commitment when the reveals have been shown",
        "named as absent from the reveal; the round goes on without it",
        ("NoAnswer",), demo=False,
    ),
    Cheat(
        "double-commit", By.HOSPITAL,
        "signs two commitments, and opens the one that is not in the closed set",
        "rejected: only what the closed set holds can be opened",
        ("CommitmentMismatch",),
    ),
    Cheat(
        "lying-validator", By.VALIDATOR,
        "calls its own proof accepted and all others copies, harmful and worthless",
        "changes no acceptance on which the honest agree; is named, and not paid for its verdicts",
    ),
    Cheat(
        "one-liar-more", By.VALIDATOR,
        "lies like that together with as many others as make f + 1 of n",
        "not held back: more liars than a consortium of this size bears decide what is accepted",
        demo=False,
    ),
    Cheat(
        "split-commitments", By.COORDINATOR,
        "shows one half of the hospitals another set of commitments than the other, and asks for "
        "the reveals all the same",
        "nobody reveals without a quorum on one set; the attempt is repeated, and costs nothing",
        ("PhaseOutOfOrder", "RoundInvalid"),
    ),
    Cheat(
        "added-commitment", By.COORDINATOR,
        "adds a commitment to the set when the reveals are known",
        "no hospital gives a verdict on another set than it closed",
        ("SetSignedAlready", "RoundInvalid"), demo=False,
    ),
    Cheat(
        "rewritten-verdict", By.COORDINATOR,
        "rewrites a verdict that a hospital signed",
        "no witness co-signs",
        ("SignatureInvalid",), demo=False,
    ),
    Cheat(
        "swapped-model", By.COORDINATOR,
        "puts another model into the result than the accepted updates give",
        "no witness co-signs",
        ("RoundInvalid",), demo=False,
    ),
    Cheat(
        "forked-block", By.COORDINATOR,
        "shows two halves of the hospitals two blocks at one height",
        "neither becomes final: no hospital co-signs a second block at a height",
        ("ForkRefused", "QuorumMissing"), demo=False,
    ),
)  # fmt: skip

BY_NAME = {cheat.name: cheat for cheat in CATALOGUE}
DEMO_CHEATS = tuple(cheat.name for cheat in CATALOGUE if cheat.demo)
