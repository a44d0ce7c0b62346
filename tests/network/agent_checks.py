"""What holds of every hospital's agent in a deployment, whatever happened in it."""

import json
import os
from pathlib import Path

from deployment import Deployment, Hospital, until


def each_hospital_s_test_results_come_onto_the_ledger(network: Deployment) -> None:
    """By the agents themselves, once the job's end is final."""
    for hospital in network.hospitals.values():
        until(
            lambda h=hospital: first_state(h) == "on the ledger", 60,
            "the evaluation is on the ledger",
        )  # fmt: skip


def first_state(hospital: Hospital) -> str:
    """Of its oldest evaluation; there is none before it knows that a job has ended."""
    return next((e["state"] for e in hospital.json("evaluation", "list")), "")


def hospitals_listen_nowhere_but_on_their_own_loopback(network: Deployment) -> None:
    for hospital in network.hospitals.values():
        assert listening(hospital.agent.pid) <= {"127.0.0.1"}


def what_the_agents_log_says_no_more_than_codes(network: Deployment) -> None:
    for hospital in network.hospitals.values():
        for line in hospital.agent.text().splitlines():
            entry = json.loads(line)
            assert set(entry) <= {"time", "level", "part", "what", "error"}
            assert "Traceback" not in entry["what"]


def listening(pid: int) -> set[str]:
    """Addresses on which this very process listens."""
    own = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = os.readlink(descriptor)
        except OSError:
            continue
        if target.startswith("socket:["):
            own.add(target[8:-1])
    found = set()
    for name in ("tcp", "tcp6"):
        for row in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]:
            cells = row.split()
            if cells[3] == "0A" and cells[9] in own:
                raw = bytes.fromhex(cells[1].rsplit(":", 1)[0])
                found.add(".".join(str(b) for b in reversed(raw)) if len(raw) == 4 else cells[1])
    return found
