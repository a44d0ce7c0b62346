"""CPU of each hospital in a round of many: each a process of its own, nothing shared but bytes.

`python -m tests.benchmarks.round_cpu 64` plays rounds of 64 hospitals with the agent's own code
(`tests/agent/consortium_in_memory.py`; no Flower, no network), and prints CPU milliseconds per
hospital and round by phase, on average over all hospitals and the measured rounds.
"""

import cProfile
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "agent"))

WARM, MEASURED = 1, 2
ONE = "hospital-1"
PROFILED = os.environ.get("PROFILED")  # a file: of one hospital's measured rounds


def _hospital(pipe: Connection, folder: Any, api: Any) -> None:
    """One hospital's process: answers (what to do, its argument) with what came of it and ms."""
    from hospital_agent.folder import HospitalFolder
    from hospital_agent.participant import Participant
    from hospital_agent.witness import Witness

    own = HospitalFolder(folder)
    witness = Witness(own, api)
    participant = Participant(own)
    profile = cProfile.Profile(time.process_time) if PROFILED and own.institution == ONE else None
    while (asked := pipe.recv()) is not None:
        kind, argument = asked
        if kind == "block":
            api.blocks, api.cosignatures = argument.blocks, argument.cosignatures
            api.content, api.sent = argument.content, []
        if profile and argument.measured:
            profile.enable()
        begun = time.process_time()
        found = witness.step() if kind == "block" else participant.answer(argument.request)
        spent = time.process_time() - begun
        if profile:
            profile.disable()
        pipe.send((api.sent if kind == "block" else found, spent * 1000))
    if profile:
        profile.dump_stats(str(PROFILED))


class _Asked:
    def __init__(self, measured: bool, **what: Any) -> None:
        self.measured = measured
        self.__dict__.update(what)


def milliseconds(
    hospitals: int, say: Callable[[str], None] = lambda text: None
) -> dict[str, float]:
    """CPU ms per hospital and round, by phase, and ``all`` together."""
    import torch
    from consortium_in_memory import CREATED, found

    from consortium.phases import Phase
    from consortium.rounds.result import RoundRecords
    from hospital_agent import witness
    from ledger.content import digest
    from ledger.entry import Entry

    torch.set_num_threads(1)
    fork = multiprocessing.get_context("fork")
    totals: dict[str, float] = {}
    witness.time = SimpleNamespace(time=lambda: CREATED + 30)  # type: ignore[assignment]
    with tempfile.TemporaryDirectory() as root:
        consortium = found(Path(root), hospitals, WARM + MEASURED)
        say(f"{hospitals} hospitals are founded")
        children = {}
        for name, folder in consortium.folders.items():
            here, there = fork.Pipe()
            fork.Process(target=_hospital, args=(there, folder.path, consortium.api)).start()
            children[name] = here

        def ask_all(kind: str, measured: bool, **what: Any) -> dict[str, Any]:
            asked = {}
            for name, pipe in children.items():  # one after the other: a machine has few cores
                pipe.send(("block" if kind == "block" else "phase", _Asked(measured, **what)))
                asked[name], spent = pipe.recv()
                if measured:
                    totals[kind] = totals.get(kind, 0.0) + spent / hospitals / MEASURED
            return asked

        for number in range(1, WARM + MEASURED + 1):
            measured = number > WARM
            consortium.records, consortium.updates = RoundRecords(), {}
            for phase in Phase:
                replies = ask_all(str(phase), measured, request=consortium.request(phase, number))
                entries = [*consortium.records.all()]
                for name, reply in replies.items():
                    entries += [Entry(entry) for entry in reply.entries]
                    if phase is Phase.REVEAL:
                        consortium.updates[name] = reply.content[0]
                        key = ("content", digest(reply.content[0]))
                        consortium.api.content[key] = reply.content[0]
                consortium.records = RoundRecords.sort(entries)
            entries, _ = consortium.result(number)
            consortium.propose(entries)
            api = consortium.api
            sent = ask_all(
                "block", measured, blocks=api.blocks, cosignatures=api.cosignatures,
                content=api.content,
            )  # fmt: skip
            for lines in sent.values():
                for height, line in lines:
                    api.send_cosignature(height, line)
            say(f"round {number}: { ({k: round(v) for k, v in totals.items()}) }")
        for pipe in children.values():
            pipe.send(None)
    return totals | {"all": sum(totals.values())}


if __name__ == "__main__":
    print(json.dumps(milliseconds(int(sys.argv[1]), lambda text: print(text, file=sys.stderr))))
