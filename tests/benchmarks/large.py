"""The API over a ledger of a million leaves: no answer costs more because the ledger is long.

Milliseconds are medians of one request at a time, beside a bare FastAPI route of the same run. The
server is `consortium serve`; the ledger is `large_ledger`, which the first run makes.
"""

import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from consortium.access import AccessTokens, Role
from tests.benchmarks.bare_api import bare_api
from tests.benchmarks.large_ledger import large_ledger
from tests.benchmarks.run import Figure

_TIMES = 30
_BIN = Path(sys.executable).parent


def measure() -> dict[str, Figure]:
    """All figures of the area."""
    home = large_ledger()
    figures: dict[str, Figure] = {}
    with tempfile.TemporaryDirectory(prefix="mp-", dir="/tmp") as folder:
        socket = Path(folder) / "bare.sock"
        with bare_api(socket), _client(socket) as client:
            bare = _median_ms(client, ["/bare"])
    with served(home) as pid, _client(home / "api.sock", _token(home)) as client:
        _say("what is asked first")
        for name, path in _FIRST.items():
            figures[f"large.first.{name}"] = Figure(_ms(client, path), "ms")
        for name, paths in _paths(client).items():
            _say(name)
            figures[f"large.{name}"] = Figure(_median_ms(client, paths), "ms", "bare route", bare)
        figures |= _deep(figures)
        _say("export")
        figures |= _export(client, pid)
    return figures


def _say(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)


# What sums over the whole ledger, and is kept from then on.
_FIRST = {"head": "/v1/ledger/head", "jobs": "/v1/jobs", "privacy": "/v1/privacy"}


def _paths(client: httpx.Client) -> dict[str, list[str]]:
    """What is measured, by name; several paths are asked for in turn."""
    head = client.get("/v1/ledger/head").json()
    leaves, height = int(head["entries"]), int(head["height"])
    job = client.get("/v1/jobs?order=newest&limit=1").json()["items"][0]["job"]
    places = [leaves * part // 997 for part in range(1, 997, 33)]
    records = [index for index in places if _is_record(client, index)]
    found = client.get(f"/v1/ledger/records/{records[0]}").json()["leaf"]
    lists = {
        "entries": ("/v1/ledger/entries?limit=50", leaves),
        "results": ("/v1/ledger/entries?type=result&limit=50", leaves),
        "one_hospital": ("/v1/ledger/entries?institution=hospital-2&limit=50", leaves),
        "blocks": ("/v1/ledger/blocks?limit=50", height),
        "contributions": ("/v1/contributions?limit=50", leaves),
        "spends": ("/v1/privacy/spends?limit=50", leaves),
        "models": ("/v1/models?limit=50", leaves),
    }
    paths = {
        "head": ["/v1/ledger/head"],
        "record": [f"/v1/ledger/records/{index}" for index in records],
        "proof": [f"/v1/ledger/proofs/{index}" for index in records],
        "consistency": [f"/v1/ledger/consistency?old={old}&size={leaves}" for old in places],
        "search": [f"/v1/ledger/search?q={found[:8]}"],
        "heads": ["/v1/ledger/heads"],
        "jobs": ["/v1/jobs?limit=50"],
        "job": [f"/v1/jobs/{job}"],
        "job_rounds": [f"/v1/jobs/{job}/rounds?limit=50"],
        "credits": ["/v1/credits"],
        "privacy": ["/v1/privacy"],
        "institutions": ["/v1/institutions"],
        "statement": ["/v1/institutions/hospital-1/statement"],
        "one_job": [f"/v1/ledger/entries?job={job}&limit=50"],
        "rare_type": ["/v1/ledger/entries?type=job-end&limit=50"],
    }
    for name, (path, end) in lists.items():
        paths[f"{name}.start"] = [path]
        paths[f"{name}.middle"] = [f"{path}&cursor={end // 2}"]
        paths[f"{name}.deep"] = [f"{path}&cursor={end - end // 100}"]
        paths[f"{name}.newest"] = [f"{path}&order=newest"]
    return paths


def _is_record(client: httpx.Client, index: int) -> bool:
    return "body" in client.get(f"/v1/ledger/records/{index}").json()["entry"]


def _deep(figures: dict[str, Figure]) -> dict[str, Figure]:
    """The dearest of a list's places beside its start."""
    found = {}
    for name in [name[:-6] for name in figures if name.endswith(".start")]:
        start = figures[f"{name}.start"].value
        most = max(figures[f"{name}.{place}"].value for place in ("middle", "deep", "newest"))
        found[f"{name}.most_of_start"] = Figure(most / start, "of the start")
    return found


def _median_ms(client: httpx.Client, paths: list[str]) -> float:
    return statistics.median(_ms(client, paths[n % len(paths)]) for n in range(_TIMES))


def _ms(client: httpx.Client, path: str) -> float:
    began = time.perf_counter()
    client.get(path).raise_for_status()
    return 1000 * (time.perf_counter() - began)


def _export(client: httpx.Client, pid: int) -> dict[str, Figure]:
    """Half of it as a stream: how fast, and the most memory that the server took more than before.

    A quarter first, so that whatever grows with the ledger shows.
    """
    height = int(client.get("/v1/ledger/head").json()["height"])
    grown, taken, size = [], 0.0, 0
    for last in (height // 4, height // 2):
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak begins anew
        before, began, size = _peak_mb(pid), time.monotonic(), 0
        with client.stream("GET", f"/v1/ledger/export?to={last}", timeout=600) as answer:
            for chunk in answer.raise_for_status().iter_raw():
                size += len(chunk)
        taken = time.monotonic() - began
        grown.append(_peak_mb(pid) - before)
    return {
        "large.export_mb_per_s": Figure(size / 1e6 / taken, "MB/s"),
        "large.export_seconds": Figure(taken, "s"),
        "large.export_memory": Figure(grown[1], "MB more at most", "half as much", grown[0]),
    }


def _peak_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) / 1024


def _token(home: Path) -> str:
    return AccessTokens(home).issue("bench", Role.ADMIN)[1]


@contextmanager
def _client(socket: Path, token: str = "") -> Iterator[httpx.Client]:
    transport = httpx.HTTPTransport(uds=str(socket))
    headers = {"authorization": f"Bearer {token}"} if token else {}
    with httpx.Client(
        transport=transport, base_url="http://consortium", timeout=60, headers=headers
    ) as client:
        yield client


@contextmanager
def served(home: Path) -> Iterator[int]:
    """`consortium serve` on a home, without limits; its process id."""
    process = subprocess.Popen(
        [_BIN / "consortium", "serve", "--home", home, "--requests-per-minute", "0"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        if not process.stdout.readline():
            raise RuntimeError("the API did not start")
        yield process.pid
    finally:
        process.terminate()
        process.wait(60)
