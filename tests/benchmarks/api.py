"""The read API under load, and a running job beside it.

- Fifty connections ask for the head, an entry with its proof, and a page of entries, each for
  twenty seconds; in the same run they ask a bare FastAPI route, and a bare SELECT is timed.
- Jobs run on a deployment (`consortium serve`, the coordinator, four agents, TLS, the proxy), by
  turns alone and while fifty connections ask for the same three, each again as soon as it is
  answered; with the limits of requests a minute off.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import text

from consortium.access import AccessTokens, Role
from ledger.database import attached_database
from tests.benchmarks.bare_api import bare_api
from tests.benchmarks.load import Answered, load
from tests.benchmarks.run import Figure

sys.path.append(str(Path(__file__).parents[1] / "network"))
from deployment import HEART, Deployment, deployment, until
from hospital_tables import BREAST, write_tables
from hospital_tables import HEART as HEART_TASK

SECONDS, BESIDE_S, ROUNDS, TURNS = 20.0, 60.0, 20, 2
_SELECT = text("SELECT height, body FROM entries WHERE idx = :index")


def measure() -> dict[str, Figure]:
    """All figures of the area."""
    with tempfile.TemporaryDirectory(prefix="medpole-bench-", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)  # the database's account passes through
        with _network(folder) as network:
            beside = _beside(network)  # first: its jobs fill the ledger
            return beside | _alone(network, folder)


def _say(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)


@contextmanager
def _network(folder: Path) -> Iterator[Deployment]:
    task = HEART_TASK if HEART.is_dir() else BREAST
    tables = write_tables(folder / "tables", task, HEART if task == HEART_TASK else None)
    with deployment(folder / "network", task, here=True) as made:
        made.serve.arguments = [*made.serve.arguments, "--requests-per-minute", "0"]
        made.begin()
        made.found({n: (path, site.declared_patients) for n, (path, site) in tables.items()})
        made.start()
        made.until_ready()
        yield made


def _alone(network: Deployment, folder: Path) -> dict[str, Figure]:
    """Each route for itself, beside what nothing of ours could do faster."""
    with bare_api(folder / "bare.sock"):
        bare = _answered(folder / "bare.sock", {"bare": "/bare"}, "")["bare"]
    select = _select_per_s(network.home)
    figures = {"api.bare.per_s": Figure(bare.per_s, "requests/s", "one SELECT", select)}
    for name, path in _paths().items():
        found = _answered(network.home / "api.sock", {name: path}, _token(network))[name]
        if found.errors:
            raise RuntimeError(f"{found.errors} errors: {path}")
        figures |= {
            f"api.{name}.per_s": Figure(found.per_s, "requests/s", "bare route", bare.per_s),
            f"api.{name}.p50": Figure(found.p50, "ms", "bare route", bare.p50),
            f"api.{name}.p99": Figure(found.p99, "ms", "bare route", bare.p99),
        }
    return figures


def _paths() -> dict[str, str]:
    return {
        "head": "/v1/ledger/head",
        "proof": "/v1/ledger/proofs/20",
        "page": "/v1/ledger/entries?limit=50",
    }


def _answered(socket: Path, paths: dict[str, str], token: str) -> dict[str, Answered]:
    _say(f"load: {', '.join(paths)}")
    with load(socket, paths, token, SECONDS) as asking:
        return asking.answered()


def _token(network: Deployment) -> str:
    return AccessTokens(network.home).issue("bench", Role.ADMIN)[1]


def _select_per_s(home: Path) -> float:
    """One entry by its index, as SQLAlchemy and psycopg2 get it, over one connection."""
    with attached_database(home) as engine, engine.connect() as connection:
        number, end = 0, time.monotonic() + 3
        while time.monotonic() < end:
            connection.execute(_SELECT, {"index": number % 20}).one()
            number += 1
        return number / 3


def _beside(network: Deployment) -> dict[str, Figure]:
    socket, token = network.home / "api.sock", _token(network)
    alone: list[float] = []
    beside: list[float] = []
    answers: list[dict[str, Answered]] = []
    for _ in range(TURNS):
        _say("a job alone")
        alone += _rounds(network)
        _say("a job beside the load")
        with load(socket, _paths(), token, BESIDE_S) as asking:
            beside += _rounds(network)
            answers.append(asking.answered())
    return {
        "api.beside.round": Figure(
            statistics.median(beside), "s a round", "without the load", statistics.median(alone)
        ),
        "api.beside.per_s": Figure(
            statistics.mean(sum(a.per_s for a in found.values()) for found in answers), "requests/s"
        ),
        "api.beside.p99": Figure(max(a.p99 for found in answers for a in found.values()), "ms"),
        "api.beside.errors": Figure(
            sum(a.errors for found in answers for a in found.values()), "errors"
        ),
    }


def _rounds(network: Deployment) -> list[float]:
    """Seconds of each round of a job, from its beginning to the next one's."""
    began: dict[int, float] = {}
    job = network.submit(ROUNDS)

    def ended() -> bool:
        live = network.live()
        if live.get("job") == job and "round" in live:
            began.setdefault(int(live["round"]), time.monotonic())
        return bool(began) and live.get("job") != job

    until(ended, 300, f"{job} ends", every=0.01)
    return [began[number + 1] - began[number] for number in sorted(began)[1:-1]]
