"""Preflight's checks of this machine: disk, memory, versions, keys, data, budget, copy."""

import os
import shutil
import sys
from collections.abc import Iterator
from decimal import Decimal
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from consortium import tasks
from consortium.tasks.task import JUDGEABLE
from hospital_agent.cohort import Cohort
from hospital_agent.policy import Policy
from hospital_agent.preflight.site import Check, Site, State, key_ring, transport_public
from hospital_agent.replica import Replica
from hospital_agent.state import connected
from ledger.keys import AGENT_ROLES, Role

LEAST_EPSILON: Final = Decimal("0.01")
"""No job is worth less."""

_GB: Final = 2**30
VERSIONS: Final = {"flwr": ((1, 41), (1, 43)), "torch": ((2, 9), None)}


def disk(site: Site) -> Check:
    """Free space, and a folder that is this account's alone."""
    path = site.folder.path
    free = shutil.disk_usage(path).free / _GB
    if not os.access(path, os.W_OK):
        return Check("disk", State.FAIL, f"{path} cannot be written", f"chown it, {_own(path)}")
    if path.stat().st_mode & 0o077:
        return Check("disk", State.FAIL, f"others can read {path}", _own(path))
    if free < 1:
        state = State.FAIL if free < 0.2 else State.WARN
        return Check("disk", state, f"{free:.1f} GB free", "make room: 1 GB or more")
    return Check("disk", State.OK, f"{free:.0f} GB free, the folder is closed to others")


def _own(path: Path) -> str:
    return f"chmod 700 {path}"


def memory(site: Site) -> Check:
    """What training may take."""
    del site
    free = min(_memory(), default=None)
    if free is None:
        return Check("memory", State.WARN, "unknown on this system", "see that 1 GB is free")
    if free < _GB:
        return Check(
            "memory", State.WARN, f"{free / _GB:.1f} GB available", "give the agent 1 GB or more"
        )
    return Check("memory", State.OK, f"{free / _GB:.1f} GB available")


def _memory() -> Iterator[int]:
    known = Path("/proc/meminfo")
    if known.exists():
        for line in known.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                yield int(line.split()[1]) * 1024
    limit = Path("/sys/fs/cgroup/memory.max")  # a container's
    if limit.exists() and (text := limit.read_text().strip()).isdigit():
        yield int(text)


def versions(site: Site) -> Check:
    """What is installed."""
    del site
    shown, wrong = [f"Python {sys.version_info.major}.{sys.version_info.minor}"], []
    for package, (least, below) in VERSIONS.items():
        try:
            installed = version(package)
        except PackageNotFoundError:
            wrong.append(f"{package} is missing")
            continue
        shown.append(f"{package} {installed}")
        number = tuple(int(part) for part in installed.split(".")[:2])
        if number < least or (below is not None and number >= below):
            wrong.append(f"{package} {installed} does not fit")
    if wrong:
        return Check(
            "versions", State.FAIL, "; ".join(wrong), "install medpole[agent] anew, as documented"
        )
    return Check("versions", State.OK, ", ".join(shown))


def keys(site: Site) -> Check:
    """All private keys, closed to others, and those that stand on the ledger."""
    ring = key_ring(site.folder)
    if transport_public(site.folder) is None and not site.local:
        return Check(
            "keys", State.WARN, "keys/transport.key is missing",
            "start the agent: `hospital-agent start` makes one and announces it",
        )  # fmt: skip
    form = site.on_ledger
    if form is None:
        return Check("keys", State.OK, "all there, 0600; not on the ledger yet")
    waiting = site.folder.next_keys()
    for role in AGENT_ROLES:
        held = {r[role].public for r in (ring, waiting) if r is not None}
        if form.key(role) not in held:
            return Check(
                "keys", State.FAIL, f"the {role} key is not the one on the ledger",
                "restore the newest copy of this folder, or ask the members about a rotation",
            )  # fmt: skip
    return Check("keys", State.OK, "all there, 0600, as on the ledger")


def data(site: Site) -> Check:
    """Patients for a task that is allowed, enough of each outcome to judge with."""
    policy = Policy.read(site.folder.path / "policy.json")
    cohorts = [c for c in Cohort.all(site.folder) if c.task in policy.tasks]
    if not cohorts:
        return Check(
            "data", State.FAIL, "no patients for any task that the policy allows",
            "`hospital-agent data add NAME --task TASK --source FILE.csv`",
        )  # fmt: skip
    blind = []
    for cohort in cohorts:
        for part in ("train", "test"):
            tasks.get(cohort.task).check(cohort.frame(part))
        positive = int(cohort.labels("validation").sum())
        if min(positive, len(cohort.frame("validation")) - positive) < JUDGEABLE:
            blind.append(cohort.task)
    without = sorted({*policy.tasks} - {cohort.task for cohort in cohorts})
    if blind or without:
        said = [f"{task}: too few to judge models" for task in blind]
        said += [f"{task}: allowed, no patients" for task in without]
        fix = "it takes part and learns; verdicts on models are left to the other hospitals"
        return Check(
            "data", State.WARN, "; ".join(said), fix if blind else "add them, or deny the task"
        )
    return Check("data", State.OK, f"{', '.join(c.task for c in cohorts)}: can learn and judge")


def budget(site: Site) -> Check:
    """What is left of the lifetime budgets, and whether their history holds."""
    policy = Policy.read(site.folder.path / "policy.json")
    cohorts = [c for c in Cohort.all(site.folder) if c.task in policy.tasks]
    if not cohorts:
        return Check("budget", State.WARN, "none: there are no patients yet", "see data")
    if not (site.folder.path / "budget.sqlite").exists():
        return Check(
            "budget", State.FAIL, "budget.sqlite is missing, with what was spent",
            "restore the newest copy from your backup",
        )  # fmt: skip
    left = {}
    for cohort in cohorts:
        status = site.folder.budget.status(cohort.id)  # its chain of events is checked
        left[cohort.task] = status.epsilon_left_for_a_next_job
    shown = ", ".join(f"{task}: epsilon {value} left" for task, value in left.items())
    if max(left.values()) < LEAST_EPSILON:
        return Check(
            "budget", State.FAIL, f"{shown}; nothing more can be trained",
            "the data owner may raise the limit: `hospital-agent policy set --lifetime-epsilon`",
        )  # fmt: skip
    if min(left.values()) < LEAST_EPSILON:
        return Check("budget", State.WARN, shown, "the data owner may raise the limit")
    return Check("budget", State.OK, shown)


def replica(site: Site) -> Check:
    """This hospital's own copy of the ledger."""
    path = site.folder.path / "replica.sqlite"
    if not path.exists():
        return Check(
            "replica", State.WARN, "no copy of the ledger yet",
            "start the agent: `hospital-agent start` fetches and verifies it",
        )  # fmt: skip
    copy = Replica(path)
    with connected(path) as connection:
        sound = connection.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok"
    if not sound:
        return Check(
            "replica", State.FAIL, "replica.sqlite is damaged",
            "stop the agent and restore the newest copy from your backup",
        )  # fmt: skip
    stopped = copy.stopped(key_ring(site.folder)[Role.COSIGN].public.key_id)
    if stopped is not None:
        return Check("replica", State.FAIL, stopped, "`hospital-agent keys rotate`")
    if site.chain is None:
        return Check("replica", State.WARN, "empty", "start the agent: `hospital-agent start`")
    return Check("replica", State.OK, f"verified to block {copy.height()}")
