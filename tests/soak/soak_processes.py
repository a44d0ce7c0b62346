"""Real processes for a test: forked from one that has imported everything (`soak_forker`)."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import psutil

T = TypeVar("T")
TICK_S = 0.005
PATIENCE_S = 60.0


def until(condition: Callable[[], T], what: str, patience: float = PATIENCE_S) -> T:
    """The condition's answer, once it is true. Raises AssertionError if that takes too long."""
    deadline = time.monotonic() + patience
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"not within {patience:.0f} s: {what}"
        time.sleep(TICK_S)
    return answer


@dataclass
class Child:
    """One command, running or ended; ``status`` is negative for a signal."""

    forker: "Forker"
    name: str
    pid: int
    output: Path
    status: int | None = None

    def poll(self) -> int | None:
        """How it ended, or None while it runs."""
        self.forker.listen(0)
        return self.status

    def wait(self, patience: float = PATIENCE_S) -> int:
        """How it ended."""
        until(lambda: self.poll() is not None, f"{self.name} ends\n{self.said()}", patience)
        assert self.status is not None
        return self.status

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Sends a signal, if it still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def said(self) -> str:
        """All that it wrote."""
        return self.output.read_text(errors="replace") if self.output.exists() else ""


class Forker:
    """The process that imports everything once; ends with all that it started."""

    def __init__(self, log: Path) -> None:
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("soak_forker.py"))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )
        self._log, self._pending = log, b""
        self._started: list[int] = []
        self._children: dict[int, Child] = {}
        self._ready = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE_S)

    def start(
        self,
        name: str,
        program: str,
        arguments: Sequence[str | Path],
        output: Path,
        environment: Mapping[str, str],
    ) -> Child:
        """Starts a command under a name."""
        asked = {
            "name": name, "program": program, "arguments": [str(a) for a in arguments],
            "output": str(output), "environment": dict(environment),
        }  # fmt: skip
        assert self._process.stdin is not None
        until(lambda: self._ready or self.listen(1), f"imports\n{self._log.read_text()}")
        self._process.stdin.write(json.dumps(asked).encode() + b"\n")
        self._process.stdin.flush()
        until(lambda: self._started or self.listen(1), "a fork")
        child = Child(self, name, self._started.pop(), output)
        self._children[child.pid] = child
        return child

    def listen(self, patience: float) -> None:
        """Takes in what the process has to say."""
        assert self._process.stdout is not None
        source = self._process.stdout.fileno()
        while select.select([source], [], [], patience)[0]:
            data = os.read(source, 65536)
            assert data, f"the forker ended:\n{self._log.read_text()}"
            *lines, self._pending = (self._pending + data).split(b"\n")
            for line in lines:
                self._hear(json.loads(line))
            patience = 0

    def _hear(self, said: dict[str, Any]) -> None:
        if "pid" in said:
            self._started.append(said["pid"])
        self._ready = self._ready or "ready" in said
        # A child's end can be told only after its start was: both by the one thread there.
        if (child := self._children.get(said.get("ended", 0))) is not None:
            child.status = said["status"]

    def family(self) -> list[psutil.Process]:
        """All living processes that were started from here, orphans too."""
        found = []
        for process in psutil.Process(self._process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found
