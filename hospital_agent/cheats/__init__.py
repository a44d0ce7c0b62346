"""Hospitals that cheat, for simulations: each replaces one honest step. No deployment loads this.

What each does, and what is expected to come of it, stands in `consortium.lab.catalogue`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from hospital_agent.cheats.protocol import (
    DoubleCommitter,
    FalseEpsilon,
    LyingValidator,
    NoReveal,
    Replayer,
)
from hospital_agent.cheats.updates import (
    Copier,
    FreeRider,
    LabelFlipper,
    NanSender,
    NoisyCopier,
    Resubmitter,
    Scaler,
    SignFlipper,
)
from hospital_agent.folder import HospitalFolder
from hospital_agent.participant import Participant

ALONE: Mapping[str, type[Participant]] = {
    "replay": Replayer,
    "resubmit": Resubmitter,
    "free-rider": FreeRider,
    "label-flip": LabelFlipper,
    "sign-flip": SignFlipper,
    "scale": Scaler,
    "nan": NanSender,
    "false-epsilon": FalseEpsilon,
    "no-reveal": NoReveal,
    "double-commit": DoubleCommitter,
    "lying-validator": LyingValidator,
}
WITH_HELP: Mapping[str, type[Copier]] = {"copy": Copier, "copy-noise": NoisyCopier}


def make_participant(
    cheat: str | None, folder: HospitalFolder, everybody: Sequence[Path]
) -> Participant:
    """The participant for a hospital's folder, honest unless it is told to cheat.

    ``everybody``: the folders of all hospitals; the first of the others helps where help is needed.
    """
    if cheat is not None and cheat in WITH_HELP:
        helper = next(HospitalFolder(path) for path in everybody if path != folder.path)
        return WITH_HELP[cheat](folder, helper)
    return ALONE.get(cheat or "", Participant)(folder)
