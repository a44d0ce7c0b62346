"""Both commands as people type them, and machines side by side in one short folder.

What runs until it is stopped is a process of its own, in a session that ends with the test. All
else runs in this process, through the same entry point: a start costs seconds.
"""

import contextlib
import io
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from consortium.cli.main import app as consortium_app
from consortium.cli.run import run
from hospital_agent.cli.main import app as agent_app

PATIENCE_S = 60.0
_APPS = {"consortium": consortium_app, "hospital-agent": agent_app}


@dataclass(frozen=True)
class Done:
    """What a command answered."""

    code: int
    out: str
    err: str

    def value(self, name: str) -> str:
        """The value beside a name in a printed table."""
        found = [line for line in self.out.splitlines() if line.startswith(f"{name}  ")]
        assert len(found) == 1, self.out
        return found[0].removeprefix(name).strip()


def call(*arguments: str | Path) -> Done:
    """A command in this process; the first argument is its name."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            run(_APPS[str(arguments[0])], [str(argument) for argument in arguments[1:]])
        except SystemExit as ended:
            code = ended.code
    assert isinstance(code, int)
    return Done(code, out.getvalue(), err.getvalue())


def ok(*arguments: str | Path) -> Done:
    """A command that has to succeed."""
    done = call(*arguments)
    assert done.code == 0, f"{arguments}: {done.err}"
    return done


def refused(code: str, *arguments: str | Path) -> str:
    """Why a command was refused, with this code."""
    done = call(*arguments)
    assert done.code == 1, f"{arguments}: {done.out}"
    assert done.err.count(f"error[{code}]: ") == 1, done.err
    assert "how to resolve: " in done.err
    return done.err


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"timed out: {what}")
        time.sleep(0.05)


@dataclass
class Machines:
    """A folder for all machines, and the processes on them."""

    root: Path
    processes: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    def start(self, arguments: Sequence[str | Path]) -> Path:
        """Starts a command that goes on; gives the file that its standard output goes to."""
        out = self.root / f"out-{len(self.processes)}"
        with out.open("wb") as stdout, out.with_suffix(".err").open("wb") as stderr:
            command = Path(sys.executable).with_name(str(arguments[0]))
            self.processes.append(
                subprocess.Popen(
                    [command, *arguments[1:]], stdout=stdout, stderr=stderr, start_new_session=True
                )
            )
        return out

    def serve(self, home: Path) -> str:
        """Starts the coordinator's server; gives its address once it listens."""
        out = self.start(["consortium", "serve", "--home", home])
        process = self.processes[-1]
        until(lambda: out.read_text().endswith("\n") or process.poll() is not None, "serve")
        assert process.poll() is None, out.with_suffix(".err").read_text()
        return out.read_text().strip()

    def stop(self) -> None:
        """Ends what was started, in order."""
        for process in reversed(self.processes):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self.processes.clear()


@contextlib.contextmanager
def machines() -> Iterator[Machines]:
    """A short path (sockets), open to the account that the database runs as."""
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and os.access(memory, os.W_OK)
    fast = roomy and shutil.disk_usage(memory).free > 2**30
    with pytest.MonkeyPatch.context() as patch:
        for name in ("DATABASE_URL", "MEDPOLE_MIGRATOR_URL", "MEDPOLE_API", "MEDPOLE_HOME"):
            patch.delenv(name, raising=False)
        root = Path(tempfile.mkdtemp(prefix="medpole-", dir="/dev/shm" if fast else "/tmp"))
        root.chmod(0o711)
        found = Machines(root)
        try:
            yield found
        finally:
            found.stop()
            shutil.rmtree(root, ignore_errors=True)


def enrolled(root: Path, number: int) -> Path:
    """A founder's form, its folder beside it."""
    form = root / f"form-{number}.json"
    ok(
        "hospital-agent", "enrol", "--founder", "--id", f"hospital-{number}",
        "--title", f"Hospital {number}", "--home", root / f"hospital-{number}", "--out", form,
    )  # fmt: skip
    return form


def signed(root: Path, number: int, genesis: Path, fingerprint: str) -> Path:
    """A founder's signature on a genesis."""
    out = root / f"signature-{number}.json"
    ok(
        "hospital-agent", "sign-genesis", genesis, "--home", root / f"hospital-{number}",
        "--fingerprint", fingerprint, "--out", out,
    )  # fmt: skip
    return out


def founded(root: Path, home: Path, count: int) -> str:
    """A consortium founded by hand, nothing co-signed yet; its fingerprint."""
    ok("consortium", "init", "--title", "Heart consortium", "--home", home)
    forms = [enrolled(root, number) for number in range(1, count + 1)]
    fingerprint = ok("consortium", "genesis", *forms, "--home", home).value("fingerprint")
    files = [signed(root, n, home / "genesis.json", fingerprint) for n in range(1, count + 1)]
    done = ok("consortium", "genesis", "--signatures", *files, "--home", home)
    assert done.value("final") == "True"
    return fingerprint
