"""Asks a server over many connections at once, each anew as soon as it is answered.

A process of its own, on the same cores: what it costs itself lowers the figures of whatever is
asked, the bare route's the most.
"""

import asyncio
import json
import re
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

CONNECTIONS = 50
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)


@dataclass(frozen=True)
class Answered:
    """How one kind of request fared; times in milliseconds."""

    per_s: float
    p50: float
    p99: float
    errors: int


class Load:
    """A load that runs; `answered` once it is over."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def answered(self) -> dict[str, Answered]:
        """By the names of the requests."""
        output, _ = self._process.communicate()
        if self._process.returncode:
            raise RuntimeError("the load ended early")
        return {name: Answered(**found) for name, found in json.loads(output).items()}


@contextmanager
def load(
    socket: Path, paths: Mapping[str, str], token: str = "", seconds: float = 20
) -> Iterator[Load]:
    """Begins to ask for ``paths`` in turn."""
    wanted = {"socket": str(socket), "paths": dict(paths), "token": token, "seconds": seconds}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.load", json.dumps(wanted)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield Load(process)
    finally:
        process.kill()
        process.wait()


class _Connection(asyncio.Protocol):
    """One connection, which asks until the time is over."""

    def __init__(self, load: "_Asking") -> None:
        self._load = load
        self._received = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        load = self._load
        if time.monotonic() >= load.end:
            self._transport.close()
            return
        self._name, request = load.requests[next(load.turn) % len(load.requests)]
        self._began = time.perf_counter()
        self._transport.write(request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self._received += data
        head = self._received.find(b"\r\n\r\n")
        length = _LENGTH.search(self._received, 0, head + 2) if head >= 0 else None
        if length is None or len(self._received) < head + 4 + int(length[1]):
            return
        self._load.took[self._name].append(time.perf_counter() - self._began)
        self._load.errors[self._name] += self._received[9:12] != b"200"
        self._received.clear()
        self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        over = time.monotonic() >= self._load.end
        self._load.errors[self._name] += not over
        self._load.open -= 1
        if self._load.open == 0:
            self._load.done.set()


class _Asking:
    """What all connections share."""

    def __init__(self, paths: dict[str, str], token: str, seconds: float) -> None:
        head = f"host: consortium\r\nauthorization: Bearer {token}\r\n\r\n"
        self.requests = [(n, f"GET {p} HTTP/1.1\r\n{head}".encode()) for n, p in paths.items()]
        self.turn, self.end = count(), time.monotonic() + seconds
        self.took: dict[str, list[float]] = defaultdict(list)
        self.errors: dict[str, int] = defaultdict(int)
        self.open, self.done = CONNECTIONS, asyncio.Event()


async def _main(socket: str, seconds: float, **more: object) -> None:
    asking = _Asking(seconds=seconds, **more)  # type: ignore[arg-type]
    loop = asyncio.get_running_loop()
    for _ in range(CONNECTIONS):
        await loop.create_unix_connection(lambda: _Connection(asking), socket)
    await asking.done.wait()
    found = {
        name: {
            "per_s": len(took) / seconds,
            "p50": 1000 * statistics.median(took),
            "p99": 1000 * statistics.quantiles(took, n=100)[-1],
            "errors": asking.errors[name],
        }
        for name, took in asking.took.items()
    }
    print(json.dumps(found))


if __name__ == "__main__":
    asyncio.run(_main(**json.loads(sys.argv[1])))
