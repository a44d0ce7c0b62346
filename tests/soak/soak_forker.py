"""A process that imports MedPoLe once and forks the commands that a test wants to run.

Importing torch takes seconds, a fork milliseconds. Nothing has been started when it forks (no
event loop, no thread of Python's), so a child is what `consortium` or `hospital-agent` would be
after its imports: it gets arguments, an environment and a session of its own, and runs the very
command. It takes in orphans and buries them, so that whatever is left behind is found below it.

Run as ``python soak_forker.py``; one JSON object a line in both directions. To it: ``name``,
``program``, ``arguments``, ``environment``, ``output``. From it: ``ready``; ``pid`` of the child
just asked for; ``ended`` (a pid) with ``status``, negative for a signal. It ends, and all of its
family with it, when its standard input does.
"""

import contextlib
import ctypes
import gc
import importlib
import json
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_IMPORTED_LATE = (
    "numpy", "torch", "uvicorn.protocols.http.auto", "consortium.membership_text",
    "consortium.serve", "hospital_agent.approver", "hospital_agent.connection",
    "hospital_agent.simulation", "ledger.export", "ledger.postgres",
)  # fmt: skip
_NATIVE = {"jemalloc_bg_thd"}  # pyarrow's allocator, which knows of forks


def _programs() -> dict[str, Callable[[list[str]], None]]:
    """All that can be run, with everything imported that the commands import late."""
    for module in _IMPORTED_LATE:
        importlib.import_module(module)
    import soak_client
    import soak_founding

    from consortium.cli.main import app as consortium_app
    from consortium.cli.run import run
    from hospital_agent.cli.main import app as agent_app

    return {
        "consortium": lambda arguments: run(consortium_app, arguments),
        "hospital-agent": lambda arguments: run(agent_app, arguments),
        "found": soak_founding.main,
        "client": soak_client.main,
        "collect": soak_client.collect,
    }


def main() -> None:
    """Forks on request until standard input ends."""
    for name in _THREADS:
        os.environ[name] = "1"
    os.environ.pop("DATABASE_URL", None)  # each home has a database of its own
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)
    programs = _programs()
    names = {
        Path(f"/proc/self/task/{task}/comm").read_text().strip()
        for task in os.listdir("/proc/self/task")
        if int(task) != os.getpid()
    }
    assert names <= _NATIVE, f"a fork would not be sound beside {names}"
    gc.collect()
    gc.freeze()
    wake, waker = os.pipe()
    for end in (wake, waker):
        os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waker)
    _say(ready=True)
    pending = b""
    while True:
        select.select([0, wake], [], [])
        with contextlib.suppress(BlockingIOError):
            os.read(wake, 4096)
        _bury()
        if not select.select([0], [], [], 0)[0]:
            continue
        data = os.read(0, 65536)
        if not data:
            break
        *lines, pending = (pending + data).split(b"\n")
        for line in lines:
            _fork(json.loads(line), programs, libc, (wake, waker))
    _end_family()


def _fork(
    asked: dict[str, Any],
    programs: dict[str, Callable[[list[str]], None]],
    libc: ctypes.CDLL,
    ours: tuple[int, int],
) -> None:
    parent, pid = os.getpid(), os.fork()
    if pid:
        _say(pid=pid)
        return
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        os.setsid()
        for end in ours:
            os.close(end)
        output = os.open(asked["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for number, source in ((0, nothing), (1, output), (2, output)):
            os.dup2(source, number)
        os.environ.update(asked["environment"])
        if "SOAK_CONTROL" in os.environ:
            import soak_steps

            soak_steps.install(asked["name"], Path(os.environ["SOAK_CONTROL"]))
        programs[asked["program"]](asked["arguments"])
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _bury() -> bool:
    """Takes the status of every process below that ended; says whether any is left."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return False
        if pid == 0:
            return True
        _say(ended=pid, status=os.waitstatus_to_exitcode(status))


def _end_family() -> None:
    import psutil

    while _bury():
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                process.kill()
        time.sleep(0.01)


def _say(**content: object) -> None:
    with contextlib.suppress(BrokenPipeError):
        os.write(1, json.dumps(content).encode() + b"\n")


if __name__ == "__main__":
    main()
