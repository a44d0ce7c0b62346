"""What pages run on goes away: they say so in words, and are back by themselves."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from browsing import Visitor, chromium, visitor
from founded import CONSORTIUM, PATIENCE_S, free_port, until

from consortium.api.app import create_app
from consortium.local import attached_ledger


@contextmanager
def serving(app: Any, port: int) -> Iterator[None]:
    config = uvicorn.Config(
        app, port=port, log_level="critical", lifespan="off", ws="none",
        timeout_graceful_shutdown=1,
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until(lambda: server.started, "the API")
    yield
    server.should_exit = True
    thread.join(PATIENCE_S)


@contextmanager
def pages(port: int, api: int) -> Iterator[str]:
    """The portal's pages alone, on an API of somebody else's; gives the address that signs in."""
    given = {
        "MEDPOLE_API_URL": f"http://127.0.0.1:{api}", "MEDPOLE_PORTAL_CODE": "the-code",
        "MEDPOLE_PORTAL_TOKEN": "the-token",
    }  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "ui", "--address", "127.0.0.1", "--port", str(port)],
        env={**os.environ, **given}, stdin=subprocess.PIPE,
    )  # fmt: skip
    site = f"http://127.0.0.1:{port}"
    try:
        until(lambda: answers(f"{site}/_stcore/health"), "the pages")
        yield f"{site}/sign-in?code=the-code"
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(PATIENCE_S)


def answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def opens(person: Visitor, address: str) -> None:
    person.page.goto(address)
    person.settled()
    person.says("Under way")


def is_back(person: Visitor) -> None:
    person.page.locator(".mp-metrics").first.wait_for(timeout=1000 * PATIENCE_S)
    person.says("breast-cancer-1")
    assert not person.page.query_selector_all(".mp-notice.mp-bad")
    assert not person.complaints, person.complaints


@pytest.mark.timeout(400)
def test_who_is_away_is_named_and_comes_back(homes: tuple[Path, Path]) -> None:
    home, port, api = homes[1], free_port(), free_port()
    with (
        serve(home) as server,
        attached_ledger(home) as (local, store),
        chromium() as browser,
        pages(port, api) as address,
        visitor(browser, f"http://127.0.0.1:{port}") as person,
    ):
        app = create_app(store, local.content, local.models, "the-token", home=home)
        with serving(app, api):
            opens(person, address)
        person.says("The consortium's API is away")
        person.says("This page tries again by itself")
        person.screenshot("api-away")
        with serving(app, api):
            is_back(person)
            server.terminate()  # the database goes with it
            person.says("The ledger's database is away")
            person.screenshot("database-away")
            server.wait(PATIENCE_S)
            with serve(home):
                is_back(person)


@contextmanager
def serve(home: Path) -> Iterator["subprocess.Popen[bytes]"]:
    (home / "api.sock").unlink(missing_ok=True)
    with (home / "serve.log").open("ab") as log:
        process = subprocess.Popen([CONSORTIUM, "serve", "--home", home], stdout=log, stderr=log)
    try:
        until(lambda: (home / "api.sock").exists(), "consortium serve")
        yield process
    finally:
        process.terminate()
        process.wait(PATIENCE_S)
