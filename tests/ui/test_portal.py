"""The portal as a real process, on a home that was founded without any training."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import httpx
import psutil
import pytest
from streamlit.testing.v1 import AppTest

from consortium import tasks
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

APP = Path(__file__).parents[2] / "ui" / "app.py"
CONSORTIUM = Path(sysconfig.get_path("scripts")) / "consortium"
PAGES = ("overview", "models", "contributors", "privacy", "ledger")
PATIENCE_S = 60


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
    process: "subprocess.Popen[bytes]"
    port: int
    family: list[psutil.Process]
    api: str
    token: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str, token: str | None = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.token if token is None else token}"}
        return httpx.get(f"{self.api}{path}", headers=headers, trust_env=False)


@contextmanager
def running(home: Path) -> Iterator[Portal]:
    port, out = free_port(), home / "portal.out"
    with out.open("wb") as stdout:
        process = subprocess.Popen(
            [CONSORTIUM, "portal", "--home", home, "--port", str(port)], stdout=stdout
        )
    try:
        until(lambda: out.read_text() or process.poll() is not None, "the portal's start")
        assert out.read_text() == f"http://127.0.0.1:{port}\n"
        family = [psutil.Process(process.pid)]
        family += family[0].children(recursive=True)
        streamlit = next(p for p in family if p.cmdline()[2:4] == ["-m", "ui"])
        environment = streamlit.environ()
        yield Portal(
            process, port, family, environment["MEDPOLE_API_URL"], environment["MEDPOLE_API_TOKEN"]
        )
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


@pytest.fixture(scope="module")
def homes() -> Iterator[tuple[Path, Path]]:
    """Two equal homes, in memory where there is some: a database is 1,300 small files."""
    parent = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="medpole-test-", dir=parent))
    folder.chmod(0o711)  # the database's own account passes through
    first, second = folder / "1", folder / "2"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DATABASE_URL", raising=False)
        found_home(first, 2)
        subprocess.run(["cp", "-a", first, second], check=True)
        yield first, second
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def portal(homes: tuple[Path, Path]) -> Iterator[Portal]:
    with running(homes[0]) as started:
        yield started


@pytest.fixture
def environment(portal: Portal, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv("MEDPOLE_API_URL", portal.api)
    monkeypatch.setenv("MEDPOLE_API_TOKEN", portal.token)
    return monkeypatch


def page(name: str) -> AppTest:
    return AppTest.from_string(f"from ui.views import {name}\n{name}.show()", default_timeout=30)


def words(app: AppTest) -> str:
    shown = [*app.markdown, *app.info, *app.warning, *app.error, *app.caption, *app.title]
    return "\n".join(str(element.value) for element in shown)


def test_it_answers_on_the_loopback_address_only(portal: Portal) -> None:
    assert httpx.get(f"{portal.url}/_stcore/health", trust_env=False).text == "ok"
    if sys.platform == "linux":  # where all of 127/8 is this machine
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", portal.port), timeout=5)
    listening = {
        connection.laddr.ip
        for process in portal.family
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}


def test_the_token_is_on_no_command_line(portal: Portal) -> None:
    assert len(portal.token) >= 32
    assert not any(portal.token in part for p in portal.family for part in p.cmdline())


def test_the_api_refuses_whoever_has_no_token(portal: Portal) -> None:
    for path in (
        "/v1/ledger/head", "/v1/ledger/blocks", "/v1/ledger/blocks/0", "/v1/ledger/records/0",
        "/v1/ledger/entries", "/v1/institutions", f"/v1/models/{'0' * 64}",
    ):  # fmt: skip
        assert httpx.get(f"{portal.api}{path}", trust_env=False).status_code == 401, path
        assert portal.get(path, token=portal.token[:-1]).status_code == 401, path
    assert portal.get("/v1/ledger/head").status_code == 200


def test_the_reader_gets_no_updates(portal: Portal) -> None:
    assert portal.get(f"/v1/content/{'0' * 64}").status_code == 403


def test_blocks_are_listed_with_what_they_are_about(portal: Portal) -> None:
    blocks = portal.get("/v1/ledger/blocks").json()
    assert [(b["height"], b["type"], b["job"], b["first"], b["entries"]) for b in blocks] == [
        (0, "genesis", None, 0, 1),
        (1, "job", "breast-cancer-1", 2, 1),
    ]
    assert blocks[1]["cosigners"] == ["hospital-1", "hospital-2"]
    assert blocks[1]["hash"] == portal.get("/v1/ledger/head").json()["hash"]
    assert portal.get("/v1/ledger/blocks?from=1&limit=1").json() == blocks[1:]
    assert portal.get("/v1/ledger/blocks?from=2").json() == []
    assert portal.get("/v1/ledger/blocks?limit=101").status_code == 422


def test_every_record_is_found_by_its_index(portal: Portal) -> None:
    blocks = portal.get("/v1/ledger/blocks").json()
    found = [portal.get(f"/v1/ledger/records/{index}").json() for index in range(4)]
    assert [record["height"] for record in found] == [0, 0, 1, 1]
    assert found[0]["entry"]["body"]["type"] == "genesis"
    assert found[1]["entry"]["type"] == "block"
    assert found[2]["leaf"] == blocks[1]["leaves"][0]
    assert found[3]["entry"]["height"] == 1
    missing = portal.get("/v1/ledger/records/4")
    assert (missing.status_code, missing.json()["code"]) == (404, "LedgerMissing")


@pytest.mark.parametrize("name", PAGES)
def test_a_page_renders_before_any_round(environment: pytest.MonkeyPatch, name: str) -> None:
    app = page(name).run()
    assert not app.exception
    assert not app.error
    assert app.title


def test_the_whole_app_renders(environment: pytest.MonkeyPatch) -> None:
    app = AppTest.from_file(APP, default_timeout=30).run()
    assert not app.exception
    assert not app.error
    assert app.title[0].value == "Simulated consortium"
    assert "breast-cancer-1 has not ended: 0 of 3 rounds" in words(app)


def test_a_record_is_found_by_index_and_by_hash(
    portal: Portal, environment: pytest.MonkeyPatch
) -> None:
    block = portal.get("/v1/ledger/blocks").json()[1]
    for text, type_ in (
        ("0", "genesis"),
        (block["leaves"][0][:10], "job"),
        (block["hash"].upper(), "block"),
    ):
        app = page("ledger").run()
        app.text_input[0].set_value(text).run()
        assert not app.exception
        assert f'"type":"{type_}"' in app.json[0].value.replace(" ", ""), text
    app.text_input[0].set_value("nothing like this").run()
    assert "Nothing has this name" in words(app)


def test_an_api_that_refuses_or_is_gone_is_said_in_words(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("MEDPOLE_API_TOKEN", "wrong")
    refused = AppTest.from_file(APP, default_timeout=30).run()
    assert "How to resolve" in refused.error[0].value
    assert "TokenInvalid" in words(refused)
    environment.setenv("MEDPOLE_API_URL", f"http://127.0.0.1:{free_port()}")
    gone = AppTest.from_file(APP, default_timeout=30).run()
    assert "consortium portal" in gone.error[0].value
    assert not refused.exception
    assert not gone.exception


def test_a_port_in_use_is_said_in_words(portal: Portal, homes: tuple[Path, Path]) -> None:
    again = subprocess.run(
        [CONSORTIUM, "portal", "--home", homes[1], "--port", str(portal.port)],
        capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert again.returncode == 1
    assert again.stderr.startswith("error[PortInUse]")
    assert "--port" in again.stderr
    assert again.stdout == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_behind(homes: tuple[Path, Path], number: signal.Signals) -> None:
    with running(homes[1]) as started:
        started.process.send_signal(number)
        status = started.process.wait(PATIENCE_S)
        _, alive = psutil.wait_procs(started.family, timeout=PATIENCE_S)
    assert not alive
    assert status == (0 if number is signal.SIGTERM else -signal.SIGKILL)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", started.port), timeout=5)
