"""A consortium as it is deployed: every part a process of its own, over TLS, through the proxy.

Nothing here is ours but starting, stopping and killing: the commands are those that people and
the compose files run. `Process` restarts what has ended, as `restart: unless-stopped` does.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent))
sys.path.append(str(Path(__file__).parents[1] / "agent"))
from commands import call
from namespaces import Hosts

ROOT = Path(__file__).parents[2]
COORDINATOR = "coordinator"
BIN = Path(sys.executable).parent
HEART = ROOT.parent / "shared" / "data" / "heart"
TASK_DELTA = {"heart-disease": "0.001", "breast-cancer": "0.00001"}


class Failed(AssertionError):
    """A command did not do what was expected of it."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(condition: Callable[[], Any], seconds: float, what: str, every: float = 0.1) -> Any:
    """Waits for a condition, never for a time; returns what it gave."""
    deadline = time.monotonic() + seconds
    while True:
        if found := condition():
            return found
        if time.monotonic() > deadline:
            raise Failed(f"not within {seconds} s: {what}")
        time.sleep(every)


def command(
    *arguments: str | Path,
    environment: dict[str, str] | None = None,
    expect: int = 0,
    seconds: float = 120,
    namespace: str | None = None,
    here: bool = False,
) -> str:
    """Runs a command of ours; its standard output.

    ``here``: in this process, where a test is about something else: a start costs a second.
    """
    name, *rest = map(str, arguments)
    if here:
        ran = call(name, *rest)
        if ran.code != expect:
            raise Failed(f"{name} {' '.join(rest[:3])} … exit {ran.code}\n{ran.err[-3000:]}")
        return ran.out if expect == 0 else ran.err
    there = ["ip", "netns", "exec", namespace] if namespace else []
    done = subprocess.run(
        [*there, str(BIN / name), *rest], capture_output=True, text=True, timeout=seconds,
        check=False, env={**os.environ, **(environment or {})}, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    if done.returncode != expect:
        raise Failed(f"{name} {' '.join(rest[:3])} … exit {done.returncode}\n{done.stderr[-3000:]}")
    return done.stdout if expect == 0 else done.stderr


def as_json(*arguments: str | Path, **options: Any) -> Any:
    return json.loads(command(*arguments, "--format", "json", **options))


@dataclass
class Process:
    """One long-running process, its log in a file."""

    name: str
    arguments: Sequence[str | Path]
    log: Path
    environment: dict[str, str] = field(default_factory=dict)
    namespace: str | None = None
    process: subprocess.Popen[bytes] | None = None
    kept: bool = False
    restarts: int = 0

    def start(self) -> "Process":
        first, *rest = map(str, self.arguments)
        line = [str(BIN / first), *rest]
        if self.namespace:
            line = ["ip", "netns", "exec", self.namespace, *line]
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                line, stdout=out, stderr=out, stdin=subprocess.DEVNULL,
                env={**os.environ, "OMP_NUM_THREADS": "1", **self.environment},
                start_new_session=True,
            )  # fmt: skip
        return self

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def kill(self) -> None:
        """SIGKILL to the process, and to whatever it started."""
        self.kept = False
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def terminate(self) -> None:
        self.kept = False
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()

    def stop(self, seconds: float = 20) -> int:
        self.terminate()
        if self.process is None:
            return 0
        if self.process.poll() is None:
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.kill()
        return self.process.returncode

    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def text(self) -> str:
        return self.log.read_text() if self.log.exists() else ""


@dataclass
class Hospital:
    """One hospital's own side."""

    id: str
    home: Path
    agent: Process
    here: bool = False

    def run(self, *arguments: str | Path, **options: Any) -> str:
        where = {"namespace": self.agent.namespace, "here": self.here, **options}
        return command("hospital-agent", *arguments, "--home", self.home, **where)

    def json(self, *arguments: str | Path, **options: Any) -> Any:
        where = {"namespace": self.agent.namespace, "here": self.here, **options}
        return as_json("hospital-agent", *arguments, "--home", self.home, **where)


class Deployment:
    """A coordinator's side with its processes, and hospitals as they join.

    With ``hosts`` the coordinator's side and each hospital run on a host of their own. Commands
    that end run in this process if ``here``, but for those of a hospital on its own host.
    """

    def __init__(
        self,
        folder: Path,
        task: str = "heart-disease",
        hosts: Hosts | None = None,
        *,
        here: bool = False,
    ) -> None:
        self.folder, self.task, self.home = folder, task, folder / "consortium"
        self.port, self.superlink_port = free_port(), free_port()
        self.hosts, self.here = hosts, here
        self.host = hosts.addresses[COORDINATOR] if hosts else "localhost"
        own = hosts.namespace(COORDINATOR) if hosts else None
        self.url = f"https://{self.host}:{self.port}"
        self.hospitals: dict[str, Hospital] = {}
        self._stopping = threading.Event()
        logs = folder / "logs"
        logs.mkdir(parents=True)
        self.serve = Process("serve", ["consortium", "serve", "--home", self.home], logs / "serve")
        self.superlink = Process(
            "superlink",
            ["consortium", "superlink", "--home", self.home, "--port", str(self.superlink_port)],
            logs / "superlink",
        )
        self.coordinator = Process(
            "coordinator",
            ["consortium", "coordinator", "--home", self.home,
             "--superlink", f"127.0.0.1:{self.superlink_port}"],
            logs / "coordinator",
        )  # fmt: skip
        self.proxy = Process(
            "proxy",
            ["caddy", "run", "--config", ROOT / "Caddyfile", "--adapter", "caddyfile"],
            logs / "proxy",
            {
                "MEDPOLE_PORT": str(self.port),
                "MEDPOLE_BIND": self.host if hosts else "127.0.0.1",
                "MEDPOLE_TLS": str(self.home / "coordinator" / "tls"),
                "MEDPOLE_SUPERLINK": f"127.0.0.1:{self.superlink_port}",
                "MEDPOLE_API_SOCKET": str(self.home / "api.sock"),
            },
        )
        for process in (self.serve, self.superlink, self.coordinator, self.proxy):
            process.namespace = own

    # the coordinator's side

    def run(self, *arguments: str | Path, **options: Any) -> str:
        where = {"here": self.here, **options}
        return command("consortium", *arguments, "--home", self.home, **where)

    def json(self, *arguments: str | Path, **options: Any) -> Any:
        where = {"here": self.here, **options}
        return as_json("consortium", *arguments, "--home", self.home, **where)

    def processes(self) -> list[Process]:
        agents = [hospital.agent for hospital in self.hospitals.values()]
        return [self.serve, self.superlink, self.coordinator, self.proxy, *agents]

    def begin(self) -> None:
        """A draft, certificates, and what founders need to enrol."""
        self.run("init", "--title", "Test consortium")
        self.run("tls", "make", self.host)
        self.serve.start()
        self.proxy.start()
        until(lambda: (self.home / "api.sock").exists(), 30, "the API listens")
        until(lambda: listens(self.proxy.pid, self.port), 30, "the proxy listens")

    def enrol(self, id: str) -> Hospital:
        """A hospital by invitation: keys made at its side."""
        invited = self.json("institution", "invite", id, "--title", id.title(), "--url", self.url)
        home = self.folder / id
        agent = Process(
            id, ["hospital-agent", "start", "--home", home, "--health-port", "0"],
            self.folder / "logs" / id, namespace=self.hosts.namespace(id) if self.hosts else None,
        )  # fmt: skip
        hospital = Hospital(id, home, agent, self.here and self.hosts is None)
        hospital.run("enrol", self.url, invited["token"])
        self.run("institution", "approve", id, "--yes")
        self.hospitals[id] = hospital
        return hospital

    def found(self, sources: dict[str, tuple[Path, int]]) -> None:
        """A ledger founded by hospitals with data, every one enrolled over the network."""
        for id in sources:
            self.enrol(id)
        genesis = self.json("genesis", "--approved")
        for hospital in self.hospitals.values():
            hospital.run("sign-genesis", "--fingerprint", genesis["fingerprint"])
        self.superlink.start()
        for id, (source, declared) in sources.items():
            self.add_data(self.hospitals[id], source, declared)

    def add_data(self, hospital: Hospital, source: Path, declared: int) -> None:
        hospital.run(
            "data", "add", "cohort", "--task", self.task, "--source", source,
            "--declared-patients", str(declared),
        )  # fmt: skip
        hospital.run("policy", "set", "--job-epsilon", "3", "--fewest-institutions", "3",
                     "--lifetime-epsilon", "10")  # fmt: skip

    def start(self) -> None:
        """All processes that do not run yet."""
        for process in self.processes():
            if not process.running():
                process.start()

    def until_ready(self) -> None:
        """Every agent connected and following; every hospital's offer known."""

        def ready() -> bool:
            return all(
                '"node: connected"' in h.agent.text() and '"witness: following"' in h.agent.text()
                for h in self.hospitals.values()
            )

        until(ready, 60, "all agents are connected")

    def submit(self, rounds: int, *more: str) -> str:
        def try_it() -> str | None:
            try:
                found = self.json("job", "submit", "--task", self.task, "--rounds", str(rounds),
                                  *more)  # fmt: skip
            except Failed as error:
                if "JobInvalid" in str(error) and "offer patients" in str(error):
                    return None
                raise
            return str(found["job"])

        return str(until(try_it, 30, "a quorum offers the task", every=0.5))

    def job(self, name: str) -> Any:
        return self.json("job", "show", name)

    def live(self) -> dict[str, Any]:
        """What the coordinator reports, read from its file: cheap enough to look often."""
        try:
            return dict(json.loads((self.home / "coordinator" / "live.json").read_text()))
        except (OSError, ValueError):
            return {}

    def keep(self) -> None:
        """Restarts whatever has ended, until `close`: as a container engine does."""
        for process in self.processes():
            process.kept = True

        def watch() -> None:
            while not self._stopping.wait(0.5):
                for process in self.processes():
                    if process.kept and not process.running():
                        process.restarts += 1
                        process.start()

        threading.Thread(target=watch, daemon=True).start()

    def close(self) -> None:
        self._stopping.set()
        ending = list(reversed(self.processes()))
        for process in ending:
            process.terminate()
        for process in ending:
            process.stop()


def listens(pid: int, port: int) -> bool:
    """Whether something listens on a TCP port where this process runs, whichever host that is."""
    rows = [
        row.split()
        for name in ("tcp", "tcp6")
        for row in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]
    ]
    return any(row[3] == "0A" and int(row[1].rsplit(":", 1)[1], 16) == port for row in rows)


def port_open(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def deployment(
    folder: Path, task: str = "heart-disease", hosts: Hosts | None = None, *, here: bool = False
) -> Iterator[Deployment]:
    """A deployment that is ended, whatever happens."""
    made = Deployment(folder, task, hosts, here=here)
    try:
        yield made
    except BaseException:
        for process in made.processes():
            print(f"--- {process.name}\n{process.text()[-2500:]}")
        raise
    finally:
        made.close()
