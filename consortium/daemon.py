"""What every process needs that runs until it is told to end."""

import fcntl
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path


@contextmanager
def alone(path: Path, otherwise: Exception) -> Iterator[None]:
    """Holds a lock file for as long as the context lasts; the kernel lets go of a killed one's.

    Raises:
        otherwise: if another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise otherwise from None
        yield
    finally:
        os.close(lock)


@contextmanager
def stopping() -> Iterator[threading.Event]:
    """An event that Ctrl-C or a termination signal sets."""
    stop = threading.Event()
    with ExitStack() as stack:
        for number in (signal.SIGINT, signal.SIGTERM):
            previous = signal.signal(number, lambda *_: stop.set())
            stack.callback(signal.signal, number, previous)
        yield stop
