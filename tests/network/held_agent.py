"""`hospital-agent`, held by a test at a place in a round: production code has no hooks for it.

A file in the folder that HOLD names holds the agent at the place of the same name: before it
answers a phase (`train`, `close`, `reveal`, `verify`), after it has and before it sends that
(`train.after`), or before it sends a cosignature (`co-sign`). There it writes `PLACE.reached`, and
goes on once the file is gone. The file `rounds` holds the number of the last round that it may
begin.
"""

import os
import time
from pathlib import Path
from typing import Any

from hospital_agent.cli.main import main
from hospital_agent.ledger_api import LedgerApi
from hospital_agent.participant import Participant

FOLDER = Path(os.environ["HOLD"])


def hold(place: str) -> None:
    if (FOLDER / place).exists():
        reached = FOLDER / f"{place}.reached"
        reached.touch()
        while (FOLDER / place).exists():
            time.sleep(0.01)
        reached.unlink(missing_ok=True)


def hold_round(number: int) -> None:
    allowed = FOLDER / "rounds"
    while allowed.exists() and int(allowed.read_text() or 0) < number:
        time.sleep(0.01)


answer, send = Participant.answer, LedgerApi.send_cosignature


def held_answer(self: Participant, request: Any) -> Any:
    hold_round(request.round)
    hold(str(request.phase))
    reply = answer(self, request)
    hold(f"{request.phase}.after")
    return reply


def held_send(self: LedgerApi, height: int, line: str) -> None:
    hold("co-sign")
    send(self, height, line)


Participant.answer = held_answer  # type: ignore[method-assign]
LedgerApi.send_cosignature = held_send  # type: ignore[method-assign]
main()
