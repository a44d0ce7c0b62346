"""The process between a coordinator and its database server.

Run as a script (``python -I -S keeper.py ...``), by the standard library alone. It starts the
server, holds the lock on the data folder open, and stops the server when the coordinator says so
or is gone, however that died: its end of our standard input closes, or our parent changes.

Why not the kernel's parent-death signal alone: it fires when the *thread* that started the child
ends, so a server started from a worker thread would stop in mid-work (measured). This process has
one thread; it sets that signal on the server for the case that the keeper itself is killed.
"""

import ctypes
import os
import select
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

LOG_LIMIT = 4 * 2**20
TICK_MS = 1000
PATIENCE_S = 20.0
_PR_SET_PDEATHSIG = 1


def main(arguments: Sequence[str]) -> int:
    """Keep one server: OWNER_PID UID GID LOCK_FD LOG SOCKETS COMMAND...

    UID and GID are -1 where no switch is wanted; SOCKETS is a folder to remove at the end, or
    empty. The server's pid is written to standard output, its log goes to standard error.
    """
    owner, uid, gid, lock = (int(argument) for argument in arguments[:4])
    log, sockets, command = Path(arguments[4]), arguments[5], arguments[6:]
    # A terminal's or a service manager's signal is the coordinator's to answer. (Handlers, not
    # SIG_IGN: an ignored signal would stay ignored in the server.)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    switch = uid >= 0
    keeper = os.getpid()
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None

    def die_with_keeper() -> None:  # after the switch of account, which clears the signal
        if libc is not None:
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
        if os.getppid() != keeper:
            os._exit(1)

    server = subprocess.Popen(
        command,
        user=uid if switch else None,
        group=gid if switch else None,
        extra_groups=[] if switch else None,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        umask=0o077,
        pass_fds=(lock,),
        preexec_fn=die_with_keeper,
    )
    print(server.pid, flush=True)
    os.close(1)
    try:
        poll = select.poll()
        poll.register(0, select.POLLIN | select.POLLHUP)
        while server.poll() is None and os.getppid() == owner and not poll.poll(TICK_MS):
            keep_short(log)
    finally:
        stop(server)
        if sockets:
            remove(Path(sockets))
    return server.returncode


def stop(server: "subprocess.Popen[bytes]") -> None:
    """Stop the server: fast, then at once without a checkpoint, then by force. Loses nothing."""
    for number, patience in (
        (signal.SIGINT, PATIENCE_S),
        (signal.SIGQUIT, 5.0),
        (signal.SIGKILL, None),
    ):
        if server.poll() is None:
            server.send_signal(number)
        try:
            server.wait(patience)
            return
        except subprocess.TimeoutExpired:
            continue


def keep_short(log: Path, limit: int = LOG_LIMIT) -> None:
    """Move a long log aside, keeping one older part; the server goes on appending to the file."""
    try:
        if log.stat().st_size > limit:
            log.with_name(log.name + ".1").write_bytes(log.read_bytes())
            os.truncate(log, 0)
    except OSError:
        pass  # a log that cannot be shortened is no reason to stop a ledger


def remove(sockets: Path) -> None:
    """Remove a temporary socket folder and what a killed server left in it."""
    try:
        for name in (".s.PGSQL.5432", ".s.PGSQL.5432.lock"):
            (sockets / name).unlink(missing_ok=True)
        sockets.rmdir()
    except OSError:
        pass


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
