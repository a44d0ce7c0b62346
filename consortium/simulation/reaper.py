"""Ends Ray's processes when a simulation is gone, even after SIGKILL.

Ray's agents outlive a killed driver by minutes. So a small process of its own waits for the
simulation to end, then kills every process that carries the simulation's mark
in its environment. Run as ``python -m consortium.simulation.reaper MARK PARENT``.
"""

import os
import secrets
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

_MARK = "MEDPOLE_SIMULATION"
_SECONDS = 20.0
_POLL_SECONDS = 0.5
# Ray renames its processes with setproctitle, which otherwise overwrites the mark.
_KEEP_ENVIRONMENT = "SPT_NOENV"


@contextmanager
def reaped() -> Iterator[None]:
    """Everything that is started in this context is gone soon after it, or after this process."""
    mark = secrets.token_hex(8)
    reaper = subprocess.Popen(
        [sys.executable, "-m", __name__, mark, str(os.getpid())],
        stdin=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C in the terminal is not for it
    )
    os.environ[_MARK] = mark
    os.environ[_KEEP_ENVIRONMENT] = "1"
    try:
        yield
    finally:
        del os.environ[_MARK]
        assert reaper.stdin is not None
        reaper.stdin.close()
        reaper.wait(_SECONDS * 2)


def marked(mark: str) -> list[psutil.Process]:
    """Processes with this mark in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(_MARK) == mark:
                found.append(process)
        except psutil.Error:
            continue
    return found


def reap(mark: str) -> None:
    """Kills all marked processes, and those that they start meanwhile."""
    deadline = time.monotonic() + _SECONDS
    while (processes := marked(mark)) and time.monotonic() < deadline:
        for process in processes:
            try:
                process.kill()
            except psutil.Error:
                continue
        psutil.wait_procs(processes, timeout=1)


def wait_for_end(parent: int) -> None:
    """Returns once the simulation has closed its end of the pipe, or is gone.

    Ray's processes inherit that end, so a kill does not close it: the parent is watched too.
    """
    while os.getppid() == parent:
        if select.select([sys.stdin], [], [], _POLL_SECONDS)[0]:
            return


if __name__ == "__main__":
    wait_for_end(int(sys.argv[2]))
    reap(sys.argv[1])
