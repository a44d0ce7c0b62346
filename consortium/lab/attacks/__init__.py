"""Who cheats, and how: for each name of `consortium.lab.catalogue` a class that does it."""

from collections.abc import Mapping

from consortium.lab.attacks.attack import Absent, Attack, Honest, Trial
from consortium.lab.attacks.coordinator import (
    AddedCommitment,
    ForkedBlock,
    RewrittenVerdict,
    SplitCommitments,
    SwappedModel,
)
from consortium.lab.attacks.protocol import (
    DoubleCommit,
    FalseEpsilon,
    LateReveal,
    LyingValidators,
    NoReveal,
    OneLiarMore,
    Replay,
    WrongShape,
)
from consortium.lab.attacks.updates import (
    Copy,
    CopyNoise,
    Frame,
    FreeRider,
    LabelFlip,
    Nan,
    Resubmit,
    Scale,
    SignFlip,
)

__all__ = ["ATTACKS", "COMPARED", "Attack", "Trial"]

ATTACKS: Mapping[str, type[Attack]] = {
    "replay": Replay,
    "resubmit": Resubmit,
    "copy": Copy,
    "copy-noise": CopyNoise,
    "free-rider": FreeRider,
    "label-flip": LabelFlip,
    "sign-flip": SignFlip,
    "frame": Frame,
    "scale": Scale,
    "nan": Nan,
    "wrong-shape": WrongShape,
    "false-epsilon": FalseEpsilon,
    "no-reveal": NoReveal,
    "late-reveal": LateReveal,
    "double-commit": DoubleCommit,
    "lying-validator": LyingValidators,
    "one-liar-more": OneLiarMore,
    "split-commitments": SplitCommitments,
    "added-commitment": AddedCommitment,
    "rewritten-verdict": RewrittenVerdict,
    "swapped-model": SwappedModel,
    "forked-block": ForkedBlock,
}

COMPARED: Mapping[str, type[Attack]] = {"honest": Honest, "absent": Absent}
"""What the attacks are compared with: nobody cheats, and who would have cheated stays away."""
