"""Seven real witnesses, each a process of its own, and a real server: how long until final."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from consortium.coordinator.view import StoreView
from consortium.home import open_home
from consortium.local import open_ledger
from consortium.simulation.founding import found_ledger
from hospital_agent.simulation import SimulatedHospital
from ledger.database import open_database
from ledger.entry import sign_record
from ledger.keys import KeyRing, Role
from ledger.records import Erasure
from ledger.store import LedgerStore
from tests.ledger.ledger_examples import propose_submissions

_PATIENCE_S = 120.0


def times_to_final(home: Path, members: int, submissions: int) -> list[float]:
    """Seconds from a submission until its block is final, one after another."""
    hospitals = _found(home, members)
    with _running([_command("consortium"), "serve", "--home", str(home)]) as server:
        assert server.stdout is not None
        api = server.stdout.readline().strip()
        witnesses = [
            [
                _command("hospital-agent"), "witness", "--home", str(hospital.path), "--api", api,
                "--every", "0.2",
            ]
            for hospital in hospitals
        ]  # fmt: skip
        with _all_running(witnesses), open_ledger(home, shared=True) as (local, store):
            _wait_final(store, 0)
            return [_time_one(store, local.keys, number) for number in range(submissions)]


def _found(home: Path, members: int) -> list[SimulatedHospital]:
    names = {f"hospital-{number}": f"Hospital {number}" for number in range(1, members + 1)}
    with open_home(home) as opened, open_database(home) as engine:
        noted = opened.found("benchmark", 0, names)
        hospitals = [SimulatedHospital(opened.hospital(n), n, t) for n, t in names.items()]
        view = StoreView(LedgerStore(engine), opened.content, opened.models)
        found_ledger(view, opened.keys, hospitals, int(str(noted["created"])))
    return hospitals


def _time_one(store: LedgerStore, keys: KeyRing, number: int) -> float:
    erasure = Erasure(
        v=1, type="erasure", ledger=store.chain().ledger, author="coordinator",
        disclosure=sha256(b"%d" % number).hexdigest(),
    )  # fmt: skip
    height = store.chain().header.height + 1
    started = time.perf_counter()
    store.submit(sign_record(erasure, [keys[Role.RECORD]]))
    propose_submissions(store, keys)
    _wait_final(store, height)
    return time.perf_counter() - started


def _wait_final(store: LedgerStore, height: int) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while store.final_height() < height:
        if time.monotonic() > deadline:
            raise TimeoutError(f"block {height} did not become final")
        time.sleep(0.005)


def _command(name: str) -> str:
    return str(Path(sys.executable).parent / name)


@contextmanager
def _running(command: list[str]) -> "Iterator[subprocess.Popen[str]]":
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


@contextmanager
def _all_running(commands: list[list[str]]) -> Iterator[None]:
    processes = [
        subprocess.Popen(
            command, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        for command in commands
    ]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()
