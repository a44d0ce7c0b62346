"""Homes that were founded without any training, and portals on them as real processes."""

import re
import socket
import subprocess
import sysconfig
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import httpx
import psutil
import pytest

from consortium import tasks
from consortium.access import AccessTokens, Role
from consortium.api.app import create_app
from consortium.api.local import local_api
from consortium.contract import JobOrder, make_job
from consortium.coordinator.strategy import submit_job
from consortium.coordinator.view import StoreView
from consortium.home import open_home
from consortium.simulation.founding import cosigning, found_ledger
from consortium.simulation.hospital import hospital_class
from ledger.database import open_database
from ledger.store import LedgerStore

CONSORTIUM = Path(sysconfig.get_path("scripts")) / "consortium"
PATIENCE_S = 90
_ADDRESS = re.compile(r"(http://127\.0\.0\.1:\d+)/sign-in\?code=(\S+)")


def found_home(path: Path, count: int) -> None:
    """A ledger of ``count`` hospitals: the genesis and one job, both co-signed; no round."""
    task, epsilon, delta = tasks.get("breast-cancer"), Decimal(1), Decimal("0.00001")
    sites = task.sites(None, count)
    with open_home(path) as home:
        home.found(task.name, 0, {site.id: site.title for site in sites})
        hospitals = [hospital_class()(home.hospital(s.id), s.id, s.title) for s in sites]
        for hospital, site in zip(hospitals, sites, strict=True):
            hospital.admit(task.name, task.split(site, 0), site.declared_patients, epsilon, delta)
        with open_database(home.path) as engine:
            view = StoreView(LedgerStore(engine), home.content, home.models)
            with local_api(create_app(view.store, home.content, home.models)) as client:
                wait_final = cosigning(view, hospitals, lambda hospital: hospital.witness(client))
                found_ledger(view, home.keys, hospitals, 1_780_000_000)
                wait_final(0)
                order = JobOrder(task.name, 3, epsilon, delta, 0)
                declared = {site.id: site.declared_patients for site in sites}
                job = make_job(view.ledger, "breast-cancer-1", order, declared)
                submit_job(view, home.keys, job, wait_final)


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.02)
    pytest.fail(f"timed out: {what}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Portal:
    """A portal that runs. ``output`` is all that it and its pages have written."""

    process: "subprocess.Popen[bytes]"
    home: Path
    url: str
    code: str
    family: list[psutil.Process]
    output: Callable[[], str]

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def environment(self) -> dict[str, str]:
        """What its pages were given."""
        pages = next(p for p in self.family if p.cmdline()[2:4] == ["-m", "ui"])
        return dict(pages.environ())

    def browser(self) -> httpx.Client:
        """Somebody's browser: it keeps cookies, says where a form comes from, wants pages."""
        return httpx.Client(
            base_url=self.url, trust_env=False, timeout=60,
            headers={"Accept": "text/html", "Origin": self.url},
        )  # fmt: skip

    @contextmanager
    def signed_in(self, role: Role, name: str = "Ada") -> Iterator[httpx.Client]:
        """Somebody with this role in a browser."""
        token = AccessTokens(self.home).issue(name, role)[1]
        with self.browser() as client:
            assert client.post("/sign-in", data={"token": token}).status_code == 303
            yield client


@contextmanager
def running(home: Path, *options: str) -> Iterator[Portal]:
    """`consortium portal` on a home, on a port that is free."""
    port, out, err = free_port(), home / f"portal-{time.time()}", home / "portal.err"
    with out.open("wb") as stdout, err.open("wb") as stderr:
        process = subprocess.Popen(
            [CONSORTIUM, "portal", "--home", home, "--port", str(port), *options],
            stdout=stdout, stderr=stderr,
        )  # fmt: skip
    try:
        until(lambda: "\n" in out.read_text() or process.poll() is not None, "the portal's start")
        address = _ADDRESS.fullmatch(out.read_text().strip())
        assert address, err.read_text()
        family = [psutil.Process(process.pid)]
        family += family[0].children(recursive=True)
        yield Portal(
            process, home, address[1], address[2], family,
            lambda: out.read_text() + err.read_text(),
        )  # fmt: skip
    finally:
        process.terminate()
        process.wait(PATIENCE_S)
