"""The kinds of faults, each a function over a running deployment that it leaves as it was."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import httpx
import psutil
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from deployment import BIN, Failed, Process, free_port, until
from faults import PATIENCE_S, SEEN_S, Faulty

from consortium.errors import LinkRefused
from consortium.flower.fleet import Address, fleet_connection
from ledger.records import Absence, Result

SIDES = ("coordinator", "superlink", "serve", "postgres")
STOPPED_S, IDLE_CPU, IDLE_BYTES = 10.0, 0.01, 500e6
FORGING = Path(__file__).parent / "forging_coordinator.py"


def absences(result: Result) -> list[tuple[str, str, str]]:
    return [(a.institution, a.phase, a.code) for a in result.absent if isinstance(a, Absence)]


# the coordinator's side


def the_coordinators_side_is_killed(
    site: Faulty,
    kills: Sequence[tuple[str, str]] = tuple(
        zip(SIDES, ("close", "reveal", "co-sign", "verify"), strict=True)
    ),
) -> None:
    """Whatever is killed in whatever phase: the round goes on, nobody pays or signs twice."""
    site.be_patient()
    job = site.submit(len(kills))
    for number, (process, place) in enumerate(kills, start=1):
        with site.phase_held(place, number):
            site.killed(process)
        result = site.await_result(job, number)
        assert (result.again, absences(result)) == (False, []), (process, place)
    site.check(job, len(kills))


# agents


def an_agent_is_killed(site: Faulty, places: Sequence[str] = ("reveal",)) -> None:
    """In any phase: the round ends with three, the missing one is named, and comes back."""
    site.be_patient(PATIENCE_S)
    victim = site.names[0]
    job = site.submit(2 * len(places))
    for index, place in enumerate(places):
        number = 2 * index + 1
        result, seen = site.agent_killed_in(job, number, victim, place)
        assert seen < SEEN_S, f"seen after {seen:.1f} s"
        phase = place.partition(".")[0]
        assert absences(result) == ([] if phase == "co-sign" else [(victim, phase, "NoAnswer")])
        assert absences(site.await_result(job, number + 1)) == []
    site.check(job, 2 * len(places), {victim: places.count("reveal.after")})


def two_agents_are_gone(site: Faulty, places: Sequence[str] = ("close",)) -> None:
    """Below the quorum it waits and says for whom; the attempt is void and costs nobody."""
    site.be_patient(PATIENCE_S)
    job, gone = site.submit(len(places) + 1), site.names[:2]
    for number, place in enumerate(places, start=1):
        with site.held(gone[0], place) as one, site.held(gone[1], place) as other:
            site.allow(number)
            until(lambda a=one, b=other: a.exists() and b.exists(), 60, f"both {place}")  # type: ignore[misc]
            for name in gone:
                site.hospital(name).agent.kill()
            live = until(
                lambda: (live := site.live()).get("state") == "waiting" and live, 60, "it waits"
            )
            assert all(f"{name} (gone)" in live["reason"] for name in gone), live
        for name in gone:
            site.hospital(name).agent.start()
        void = site.await_result(job, number)
        assert (void.again, void.void, void.proofs) == (True, True, ())
        assert absences(void) == [(name, place, "NoAnswer") for name in gone]
        again = site.await_result(job, number, attempt=2)
        assert not again.again
        # A quorum is enough to begin with: the slower of the two may come in the next round.
        assert {name for name, _, _ in absences(again)} < set(gone)
    site.check(job, len(places) + 1)


def one_hospital_is_slow(site: Faulty, places: Sequence[str] = ("verify",)) -> None:
    """It is named, and waited for: nobody who is there is dropped before the phase is over."""
    site.be_patient(PATIENCE_S)
    job, slow = site.submit(len(places)), site.names[2]
    for number, place in enumerate(places, start=1):
        with site.held(slow, place) as reached:
            site.allow(number)
            until(reached.exists, 60, f"{slow} is in {place}")
            until(lambda: site.state_of(slow) == "late", 30, f"{slow} is late")
            waited = time.monotonic()
            # longer than anybody who is gone is waited for
            until(lambda w=waited: time.monotonic() - w > PATIENCE_S + 1, 30, "patience")  # type: ignore[misc]
            assert site.live()["phase"] == place
        assert absences(site.await_result(job, number)) == []
    site.check(job, len(places))


def a_cut_network_loses_nothing(site: Faulty, seconds: float = 10) -> None:
    """Between one hospital and the coordinator, in mid-round, for longer than is noticed."""
    site.be_patient()
    job, cut = site.submit(2), site.names[-1]
    with site.held(cut, "reveal") as reached:
        site.allow(1)
        until(reached.exists, 60, "a round is under way")
        begun = time.monotonic()
        site.cable.cut()
    until(lambda: site.state_of(cut) == "gone", 20, f"{cut} is gone")
    until(lambda: time.monotonic() - begun > seconds, seconds + 1, "the cut lasts")
    site.cable.join()
    for number in (1, 2):
        result = site.await_result(job, number)
        assert (len(result.proofs), absences(result)) == (4, [])
    site.check(job, 2)


# one agent's process


def an_agent_ends_in_order(site: Faulty) -> None:
    """A termination signal ends it in mid-round too, and what it is doing is there to be seen."""
    job, name = site.submit(2), site.names[1]
    agent, port = site.hospital(name).agent, free_port()
    before = agent.arguments
    with site.held(name, "train") as reached:
        site.allow(1)
        until(reached.exists, 60, "a round is under way")
        begun = time.monotonic()
        assert agent.stop(seconds=STOPPED_S) == 0
        assert time.monotonic() - begun < STOPPED_S
    agent.arguments = [*before[:-1], str(port)]
    agent.start()
    url = f"http://127.0.0.1:{port}/health"
    until(lambda: _health(url).get("status") == "ok" and _health(url), 30, "it is well")
    health = until(
        lambda: (h := _health(url))["node"]["state"] == "connected"
        and h["witness"]["state"] == "following" and h, 30, "it is connected",
    )  # fmt: skip
    assert (health["institution"], health["status"]) == (name, "ok")
    assert set(health) == {"institution", "status", "height", "node", "witness"}
    again = subprocess.run(
        [BIN / "hospital-agent", "start", "--home", site.hospital(name).home, "--health-port", "0"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (again.returncode, "AgentRunning" in again.stderr) == (1, True), again.stderr
    agent.arguments = before
    site.check(job, 2)


def _health(url: str) -> dict[str, dict[str, str]]:
    try:
        return dict(httpx.get(url).json())
    except httpx.HTTPError:
        return {}


def an_agent_is_idle(site: Faulty, seconds: float = 5, most_cpu: float = 3 * IDLE_CPU) -> None:
    """Without a job: next to no work and little memory. Its log names no patient's value."""
    until(lambda: site.live().get("state") == "idle", 30, "no job runs")
    trees = [_tree(h.agent.pid) for h in site.made.hospitals.values()]
    before, begun = [sum(map(_cpu, tree)) for tree in trees], time.monotonic()
    until(lambda: time.monotonic() - begun > seconds, seconds + 5, "a look")
    for tree, cpu in zip(trees, before, strict=True):
        used = (sum(map(_cpu, tree)) - cpu) / (time.monotonic() - begun)
        assert used < most_cpu, f"{used:.2%} of a core"
        memory = sum(p.memory_full_info().pss for p in tree)
        assert memory < IDLE_BYTES, f"{memory / 1e6:.0f} MB"
        print(f"idle agent: {used:.2%} of a core, {memory / 1e6:.0f} MB")
    for name in site.names:
        check_log(site, name)


def _tree(pid: int) -> list[psutil.Process]:
    top = psutil.Process(pid)
    return [top, *top.children(recursive=True)]


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def check_log(site: Faulty, name: str) -> None:
    """JSON lines of codes and ids; no value with a fraction, as patients' values are here."""
    table = (site.made.folder / "tables" / f"{name}.csv").read_text()
    values = {v for line in table.splitlines()[1:] for v in line.split(",") if "." in v}
    assert len(values) > 100
    text = site.hospital(name).agent.text()
    for line in text.splitlines():
        assert set(json.loads(line)) <= {"time", "level", "part", "what", "error"}, line
    assert not any(value in text for value in values)


# who is refused


def a_stranger_is_refused(site: Faulty) -> None:
    """A node with a key of its own, which no member announced."""
    known = len(site.events())
    address = Address(
        f"localhost:{site.made.port}", (site.hospital(site.names[0]).home / "ca.pem").read_bytes()
    )
    with (
        pytest.raises(LinkRefused) as refused,
        fleet_connection(address, ec.generate_private_key(ec.SECP384R1())),
    ):
        pass
    assert refused.value.reason == "NodeUnknown"
    assert "NodeUnknown" in [event["code"] for event in site.events()[known:]]


def a_suspended_hospital_is_refused(site: Faulty) -> None:
    """By the members' decision, on the wire too; and let in again, with the same key."""
    name, known = site.names[2], len(site.events())
    log = site.hospital(name).agent.log
    _decided(site, "suspend", name)
    until(
        lambda: ("InstitutionSuspended", name) in
        [(e["code"], e.get("institution")) for e in site.events()[known:]], 30, "it is on record",
    )  # fmt: skip
    until(lambda: '"node: InstitutionSuspended"' in log.read_text(), 30, "it is told so")
    seen = len(log.read_text())
    _decided(site, "reinstate", name)
    until(lambda: '"node: connected"' in log.read_text()[seen:], 30, "it is let in again")


def _decided(site: Faulty, step: str, name: str) -> None:
    proposed = site.made.json("institution", step, name)
    change, needed = proposed["change"], proposed["approvals_needed"]
    for other in [n for n in site.names if n != name][:needed]:

        def approve(other: str = other) -> bool:
            try:
                site.hospital(other).run("members", "approve", change, "--as", "Ada")
            except Failed as error:
                if "ChangeUnknown" in str(error):
                    return False
                raise
            return True

        until(approve, 30, f"{other} knows the change", every=0.5)


def a_changed_bundle_is_refused(site: Faulty) -> None:
    """One byte of the app bundle: refused with a signature, nothing is run, the job pauses."""
    coordinator = site.made.coordinator
    coordinator.stop()
    honest = coordinator.arguments
    coordinator.arguments = ["python", FORGING, *honest[1:]]
    coordinator.start()
    job = site.submit(1)
    for attempt in (1, 2, 3):
        result = site.await_result(job, 1, attempt)
        assert (result.again, result.proofs) == (True, ())
        assert absences(result) == [(name, "train", "AppDiffers") for name in site.names]
    live = until(lambda: (live := site.live()).get("state") == "paused" and live, 30, "it pauses")
    assert "AppDiffers" in live["reason"]
    shown = site.made.json("job", "show", job)
    assert (shown["state"], shown["done"]) == ("paused", 0)
    assert all(site.charged(name, job) == 0 for name in site.names)
    coordinator.stop()
    coordinator.arguments = honest
    coordinator.start()
    assert absences(site.await_result(job, 1, attempt=4)) == []  # all four, honest again
    site.check(job, 1)


def a_clone_is_stopped(site: Faulty) -> None:
    """A copied folder: its node is refused while the first is online; both of them stop signing.

    The clone signs a block before the first does, which then finds its own key's signature there.
    """
    site.be_patient(PATIENCE_S)
    name, known = site.names[0], len(site.events())
    first = site.hospital(name)
    folder = site.made.folder / "clone"
    shutil.copytree(first.home, folder)
    arguments = [folder if each == first.home else each for each in first.agent.arguments]
    clone = Process("clone", arguments, site.made.folder / "logs" / "clone",
                    {"HOLD": os.devnull}).start()  # fmt: skip
    try:
        until(lambda: '"node: NodeAlreadyOnline"' in clone.text(), 30, "its node is refused")
        assert ("NodeAlreadyOnline", name) in [
            (event["code"], event.get("institution")) for event in site.events()[known:]
        ]
        os.killpg(clone.pid, signal.SIGSTOP)
        with site.held(name, "co-sign"):
            job = site.submit(2)
            second = time.time()  # two signatures of the same second are one and the same
            until(lambda: time.time() > second + 1.1, 5, "another second")
            os.killpg(clone.pid, signal.SIGCONT)
            until(lambda: name in site.cosigners(), 60, "the clone signs")
        for each in (first.agent, clone):
            until(lambda e=each: '"witness: MemberStopped"' in e.text(), 60, f"{each.name} stops")  # type: ignore[misc]
        assert site.conflicts()
        for number in (1, 2):
            assert absences(site.await_result(job, number)) == [(name, "train", "NoAnswer")]
        site.await_end(job)
    finally:
        clone.stop()
