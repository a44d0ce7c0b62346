"""What a round costs: over a network beside stock Flower's, and in simulation beside plain FedAvg.

- Deployment: a whole round (private training, commit, close, reveal, verify, co-signed block in
  PostgreSQL) over TLS and the proxy, against stock Flower's FedAvg round (train and evaluate, its
  defaults) with four SuperNodes that do nothing, one after the other in one run.
- Simulation: rounds on Ray with everything above, against plain FedAvg with the same training.
- Large consortia: CPU seconds per hospital and round for 4, 16 and 64 simulated hospitals.
- Each hospital alone: CPU of its own process in a round among 20, 32 and 64 (`round_cpu`).
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.benchmarks.run import Figure

sys.path.append(str(Path(__file__).parents[1] / "network"))
from deployment import BIN, HEART, Deployment, deployment, free_port, until
from hospital_tables import BREAST, write_tables
from hospital_tables import HEART as HEART_TASK

ROUNDS, STOCK_ROUNDS, SIMULATED_ROUNDS = 8, 4, 10
LARGE_ROUNDS = 5
PARTS = os.environ.get("PARTS", "deployment,simulation,large,each").split(",")
_QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1", "RAY_USAGE_STATS_ENABLED": "0",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1", "OMP_NUM_THREADS": "1",
}  # fmt: skip


def measure() -> dict[str, Figure]:
    """All figures of the area, or of the ``PARTS`` named."""
    figures: dict[str, Figure] = {}
    parts = {
        "deployment": _deployment, "simulation": _simulation, "large": _large, "each": _each,
    }  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="medpole-bench-", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)  # the database's account passes through
        for part in PARTS:
            _say(part)
            figures |= parts[part](folder)
    return figures


def _say(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)


# over a network


def _deployment(folder: Path) -> dict[str, Figure]:
    stock = _stock_rounds(folder / "stock")
    ours = _our_rounds(folder / "ours")
    return {
        "round.deployment": Figure(ours.seconds, "s", "stock FedAvg, no work", stock.seconds),
        "round.deployment_ratio": Figure(ours.seconds / stock.seconds, "of stock"),
        "round.deployment_cpu": Figure(ours.cpu, "CPU s", "stock FedAvg, no work", stock.cpu),
        "round.agent_idle_cpu": Figure(ours.idle_cpu * 100, "% of a core"),
        "round.agent_memory": Figure(ours.memory, "MB"),
    }


class _Measured:
    """Seconds and CPU seconds a round; an idle agent's CPU (fraction of a core) and MB."""

    def __init__(self, seconds: float, cpu: float, idle: float = 0, memory: float = 0) -> None:
        self.seconds, self.cpu, self.idle_cpu, self.memory = seconds, cpu, idle, memory


def _our_rounds(folder: Path) -> _Measured:
    task = HEART_TASK if HEART.is_dir() else BREAST
    folder.mkdir(mode=0o755)
    tables = write_tables(folder / "tables", task, HEART if task == HEART_TASK else None)
    with deployment(folder / "network", task) as network:
        network.begin()
        network.found({n: (path, site.declared_patients) for n, (path, site) in tables.items()})
        network.start()
        network.until_ready()
        idle, memory = _idle(network)
        processes = [p.pid for p in network.processes()]
        before = _cpu(processes)
        job = network.submit(ROUNDS)
        log = network.coordinator
        until(lambda: f"job: {job} goes on after round 0" in log.text(), 60, "it begins", 0.01)
        begun = time.monotonic()
        until(lambda: f"job: {job} has ended" in log.text(), 300, "it ends", 0.05)
        seconds = (time.monotonic() - begun) / ROUNDS
        return _Measured(seconds, (_cpu(processes) - before) / ROUNDS, idle, memory)


def _idle(network: Deployment, seconds: float = 20) -> tuple[float, float]:
    agent = psutil.Process(next(iter(network.hospitals.values())).agent.pid)
    before, begun = sum(agent.cpu_times()[:2]), time.monotonic()
    time.sleep(seconds)  # the measurement itself
    used = sum(agent.cpu_times()[:2]) - before
    return used / (time.monotonic() - begun), agent.memory_full_info().pss / 2**20


def _cpu(pids: list[int]) -> float:
    """CPU seconds of processes and all their children, ended ones that were waited for too."""
    total = 0.0
    for pid in pids:
        process = psutil.Process(pid)
        for each in [process, *process.children(recursive=True)]:
            try:
                total += sum(each.cpu_times()[:4])
            except psutil.Error:
                continue
    return total


_CLIENT = """\
import numpy as np
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()

@app.train()
def train(message, context):
    content = RecordDict({
        "arrays": message.content["arrays"], "metrics": MetricRecord({"num-examples": 1.0})})
    return Message(content, reply_to=message)

@app.evaluate()
def evaluate(message, context):
    content = RecordDict({"metrics": MetricRecord({"num-examples": 1.0, "loss": 0.0})})
    return Message(content, reply_to=message)
"""
_SERVER = """\
import json, os, time
import numpy as np
from flwr.app import ArrayRecord
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg

app = ServerApp()

@app.main()
def main(grid, context):
    times = []
    def note(number, arrays):
        times.append(time.time())
        with open(TIMES, "w") as file:
            json.dump(times, file)
    while len(list(grid.get_node_ids())) < 4:
        time.sleep(0.2)
    FedAvg(min_train_nodes=4, min_evaluate_nodes=4, min_available_nodes=4).start(
        grid=grid, initial_arrays=ArrayRecord([np.zeros(13, np.float32), np.zeros(1, np.float32)]),
        num_rounds=ROUNDS, evaluate_fn=note)
"""
_PROJECT = """\
[project]
name = "stock"
version = "1.0.0"
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "bench"

[tool.flwr.app.components]
serverapp = "stock.server:app"
clientapp = "stock.client:app"

[tool.flwr.app.config]
"""


def _stock_rounds(folder: Path) -> _Measured:
    """Flower as it comes: its SuperLink, its four SuperNodes, its FedAvg, nothing to do."""
    from flwr.cli.build import build_fab_from_files
    from flwr.common.serde import fab_to_proto
    from flwr.proto.control_pb2 import StartRunRequest
    from flwr.supercore.control import ControlHttpClient
    from flwr.supercore.fab import Fab

    folder.mkdir(mode=0o755)
    times = folder / "times.json"
    server = f"TIMES, ROUNDS = {str(times)!r}, {STOCK_ROUNDS}\n{_SERVER}"
    files = {
        "pyproject.toml": _PROJECT, "stock/__init__.py": "", "stock/client.py": _CLIENT,
        "stock/server.py": server,
    }  # fmt: skip
    bundle, _ = build_fab_from_files({name: text.encode() for name, text in files.items()})
    port = free_port()
    with _stock_processes(folder, port) as pids:
        client = ControlHttpClient.from_server_address(
            f"127.0.0.1:{port}", insecure=True, root_certificates=None, interceptors=[]
        )
        fab = Fab("", bundle, {})
        until(lambda: _try(lambda: client.StartRun(StartRunRequest(fab=fab_to_proto(fab)))), 60,
              "the SuperLink takes a run", 0.5)  # fmt: skip
        until(lambda: len(_times(times)) > 1, 120, "the first stock round", 0.5)
        before, begun = _cpu(pids), len(_times(times))
        until(lambda: len(_times(times)) > STOCK_ROUNDS, 240, "all stock rounds", 0.5)
        measured = _times(times)
        rounds = len(measured) - begun
        cpu = (_cpu(pids) - before) / rounds
        return _Measured((measured[-1] - measured[begun - 1]) / rounds, cpu)


@contextmanager
def _stock_processes(folder: Path, port: int) -> Iterator[list[int]]:
    lines = [["flower-superlink", "--insecure", "--host", "127.0.0.1", "--port", str(port)]]
    lines += [
        ["flower-supernode", "--insecure", "--superlink", f"127.0.0.1:{port}", "--host",
         "127.0.0.1", "--port", str(free_port())]
        for _ in range(4)
    ]  # fmt: skip
    environment = {**os.environ, **_QUIET, "FLWR_HOME": str(folder / "flwr"),
                   "PATH": f"{BIN}:{os.environ['PATH']}"}  # fmt: skip
    log = (folder / "log").open("wb")
    processes = [
        subprocess.Popen([str(BIN / line[0]), *line[1:]], env=environment, stdout=log, stderr=log)
        for line in lines
    ]
    try:
        yield [process.pid for process in processes]
    finally:
        for process in processes:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
            process.kill()
            process.wait()
        log.close()


def _times(path: Path) -> list[float]:
    try:
        return list(json.loads(path.read_text()))
    except (OSError, ValueError):
        return []


def _try(action: object) -> object:
    try:
        return action()  # type: ignore[operator]
    except Exception:
        return None


# in simulation


def _simulation(folder: Path) -> dict[str, Figure]:
    home = folder / "simulated"
    report = folder / "report.json"
    subprocess.run(
        [BIN / "consortium", "demo", "--home", home, "--rounds", str(SIMULATED_ROUNDS), "--report",
         report], check=True, capture_output=True,
    )  # fmt: skip
    ours = json.loads(report.read_text())["seconds"]["rounds"]
    plain = _plain_simulation(home)
    # The first round starts the engine's actors: it is left out of neither.
    each = ours / SIMULATED_ROUNDS
    return {
        "round.simulation": Figure(each, "s", "plain FedAvg, same training", plain),
        "round.simulation_ratio": Figure(each / plain, "of plain FedAvg"),
    }


def _plain_simulation(home: Path) -> float:
    """Seconds a round of FedAvg (train and evaluate) on the same hospitals' patients."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.plain_simulation", home, str(SIMULATED_ROUNDS)],
        check=True, capture_output=True, text=True, env={**os.environ, **_QUIET},
    )  # fmt: skip
    return float(done.stdout.strip().splitlines()[-1])


# large consortia


def _large(folder: Path) -> dict[str, Figure]:
    figures = {}
    for hospitals in (4, 16, 64):
        _say(f"{hospitals} hospitals")
        begun = time.monotonic()
        home = folder / f"large-{hospitals}"
        process = subprocess.Popen(
            [BIN / "consortium", "demo", "--home", home, "--hospitals", str(hospitals), "--rounds",
             str(LARGE_ROUNDS)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stderr is not None
        cpu: list[float] = []
        wall: list[float] = []
        seen: dict[int, float] = {}
        for line in process.stderr:
            if "proofs accepted" in line:
                cpu.append(_tree_cpu(process.pid, seen))
                wall.append(time.monotonic())
        if process.wait() != 0:
            raise RuntimeError(f"{hospitals} hospitals: exit {process.returncode}")
        rounds = len(cpu) - 1  # the first one starts the engine
        figures[f"round.hospitals_{hospitals}.cpu_each"] = Figure(
            (cpu[-1] - cpu[0]) / rounds / hospitals, "CPU s a hospital and round"
        )
        figures[f"round.hospitals_{hospitals}.seconds"] = Figure(
            (wall[-1] - wall[0]) / rounds, "s a round"
        )
        figures[f"round.hospitals_{hospitals}.total"] = Figure(time.monotonic() - begun, "s")
    return figures


def _each(folder: Path) -> dict[str, Figure]:
    """Each hospital a process of its own, without Flower and without a network."""
    figures: dict[str, Figure] = {}
    all_of = {}
    for hospitals in (20, 32, 64):
        done = subprocess.run(
            [sys.executable, "-m", "tests.benchmarks.round_cpu", str(hospitals)],
            check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, **_QUIET},
        )  # fmt: skip
        found = json.loads(done.stdout)
        all_of[hospitals] = found.pop("all")
        name = f"round.cpu_per_hospital_{hospitals}"
        figures[name] = Figure(all_of[hospitals], "CPU ms a hospital and round")
        for phase, spent in found.items():
            figures[f"{name}.{phase}"] = Figure(spent, "CPU ms a hospital and round")
    figures["round.cpu_per_hospital_ratio"] = Figure(all_of[64] / all_of[20], "of 64 to 20")
    return figures


def _tree_cpu(pid: int, seen: dict[int, float]) -> float:
    """CPU seconds of a process tree so far; what has ended counts as last seen."""
    process = psutil.Process(pid)
    for each in [process, *process.children(recursive=True)]:
        try:
            seen[each.pid] = sum(each.cpu_times()[:2])
        except psutil.Error:
            continue
    return sum(seen.values())
