"""What the reverse proxy lets in from outside: Caddy with our file, before servers that note it."""

import contextlib
import http.client
import os
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any

import pytest
from deployment import BIN, ROOT, Process, free_port, port_open, until
from sqlalchemy import create_engine

from consortium.api.app import create_app
from consortium.api.enrolment import create_draft_app
from consortium.tls import make_tls, tls_folder
from ledger.changes import Changes
from ledger.store import LedgerStore

API_BYTES, FLEET_BYTES = 2_000_000, 256_000_000
OUTSIDE = [
    "/v1/control/start-run", "/v1/control/", "/v1/runtime/pull-messages", "/docs", "/redoc",
    "/openapi.json", "/health", "/metrics", "/config/", "/", "/v1", "/v1/", "/v2/fleet/x",
    "/api.sock", "/v1/fleet", "/v1/fleetx/y", "/v1/ledgers",
]  # fmt: skip
TRICKS = [
    "/v1/fleet/../control/start-run", "/v1/fleet/%2e%2e/control/start-run",
    "/v1/fleet/%2E%2E/runtime/x", "/v1/fleet/..%2fcontrol/start-run", "/v1/fleet/.%2e/control/x",
    "/v1/fleet/%252e%252e/control/x", "/v1/fleet/..\\control\\start-run", "//v1/control/start-run",
    "/v1//control/start-run", "/v1/./control/start-run", "/v1/control/../fleet/x",
    "/v1/ledger/../control/start-run", "/v1/jobs/%2e%2e/%2e%2e/openapi.json", "/v1/fleet/..",
    "/v1/fleet/../../openapi.json", "/V1/CONTROL/START-RUN", "/v1/Control/start-run",
    "/v1/%63ontrol/start-run", "/v1/fleet/%00", "/v1/fleet;/../control/x",
    "/v1/fleet/x?y=1/../control", "/v1/control/start-run?x=/v1/fleet/", "/v1/fleet/..?x",
    "https://localhost/v1/control/start-run", "https://localhost/v1/fleet/../control/x",
]  # fmt: skip
HARMLESS = {"/v1/fleet/x?y=1/../control"}  # a query is no path


@dataclass
class Outside:
    """Somebody on the network, and what came through to the servers behind."""

    port: int
    trusted: ssl.SSLContext
    came: list[tuple[str, str, str, int]] = field(default_factory=list)

    def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> int:
        connection = http.client.HTTPSConnection("localhost", self.port, context=self.trusted,
                                                 timeout=30)  # fmt: skip
        with contextlib.closing(connection):
            with contextlib.suppress(BrokenPipeError, ConnectionResetError, ssl.SSLError):
                connection.request(method, path, body, headers or {})  # it may answer before
            return connection.getresponse().status


def handler(name: str, outside: Outside) -> type[BaseHTTPRequestHandler]:
    class Noting(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            size = 0
            if self.headers.get("transfer-encoding") == "chunked":
                while (line := self.rfile.readline()) and (count := int(line, 16)):
                    size += len(self.rfile.read(count))
                    self.rfile.readline()
                if not line:
                    return  # cut off
            else:
                left = int(self.headers.get("content-length") or 0)
                while left and (data := self.rfile.read(min(left, 1 << 20))):
                    size, left = size + len(data), left - len(data)
                if left:
                    return  # cut off
            outside.came.append((name, self.command, self.path, size))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815

        def address_string(self) -> str:
            return name

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Noting


class UnixServer(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True


@pytest.fixture(scope="module")
def outside() -> Iterator[Outside]:
    with TemporaryDirectory(prefix="medpole-", dir="/tmp") as name, contextlib.ExitStack() as stack:
        home = Path(name) / "home"
        make_tls(home, ["localhost"])
        tls = tls_folder(home)
        made = Outside(free_port(), ssl.create_default_context(cafile=str(tls / "ca.pem")))
        own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        own.load_cert_chain(tls / "server.pem", tls / "server.key")
        superlink = ThreadingHTTPServer(("127.0.0.1", 0), handler("superlink", made))
        superlink.socket = own.wrap_socket(superlink.socket, server_side=True)
        api = UnixServer(str(home / "api.sock"), handler("api", made))
        for server in (superlink, api):
            Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
            stack.callback(server.server_close)
            stack.callback(server.shutdown)
        proxy = Process("proxy", caddy("run"), Path(name) / "log", environment(
            home, MEDPOLE_PORT=str(made.port),
            MEDPOLE_SUPERLINK=f"127.0.0.1:{superlink.server_address[1]}",
        )).start()  # fmt: skip
        stack.callback(proxy.stop)
        until(lambda: port_open(made.port), 30, "the proxy listens")
        yield made


def caddy(verb: str) -> list[str | Path]:
    return ["caddy", verb, "--config", ROOT / "Caddyfile", "--adapter", "caddyfile"]


def environment(home: Path, **more: str) -> dict[str, str]:
    return {
        "MEDPOLE_BIND": "127.0.0.1", "MEDPOLE_TLS": str(tls_folder(home)),
        "MEDPOLE_API_SOCKET": str(home / "api.sock"), **more,
    }  # fmt: skip


def test_the_file_is_valid_and_well_formed(tmp_path: Path) -> None:
    make_tls(tmp_path, ["localhost"])
    validated = subprocess.run(
        [BIN / "caddy", *caddy("validate")[1:]], capture_output=True, text=True, check=False,
        env={**os.environ, **environment(tmp_path), "XDG_DATA_HOME": str(tmp_path)},
    )  # fmt: skip
    assert validated.returncode == 0, validated.stderr
    assert "Caddyfile input is not formatted" not in validated.stderr


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("path", [*OUTSIDE, *(path for path in TRICKS if path not in HARMLESS)])
def test_nothing_else_comes_through(outside: Outside, method: str, path: str) -> None:
    outside.came.clear()
    body = b"{}" if method == "POST" else None
    assert outside.ask(method, path, body) in (400, 403, 404)
    assert outside.came == []


@pytest.mark.parametrize("path", ["/v1/fleet/activate-node", *HARMLESS])
def test_the_fleet_api_comes_through_unchanged(outside: Outside, path: str) -> None:
    outside.came.clear()
    assert outside.ask("POST", path, b"body") == 200
    assert outside.came == [("superlink", "POST", path, 4)]


def test_every_path_of_the_api_comes_through(outside: Outside, tmp_path: Path) -> None:
    nothing: Any = None
    store = LedgerStore(create_engine("postgresql+psycopg2://"))  # it connects when asked
    apps = (
        create_app(store, nothing, nothing, home=tmp_path, changes=Changes(nothing)),
        create_draft_app(tmp_path),
    )
    paths = {path for app in apps for path in app.openapi()["paths"]} - {"/{path}"}
    assert {"/v1/enrolments", "/v1/genesis", "/v1/ledger/head", "/v1/institutions"} <= paths
    for path in paths:
        outside.came.clear()
        there = path.replace("{", "").replace("}", "")
        assert outside.ask("GET", there) == 200, path
        assert outside.came == [("api", "GET", there, 0)]


@pytest.mark.parametrize(
    ("behind", "path", "most"),
    [("api", "/v1/ledger/submissions", API_BYTES), ("superlink", "/v1/fleet/x", FLEET_BYTES)],
)
def test_bodies_have_a_limit(outside: Outside, behind: str, path: str, most: int) -> None:
    def body(size: int) -> Iterator[bytes]:
        while size > 0:
            yield bytes(min(size, 1_000_000))
            size -= 1_000_000

    declared = {"Content-Length": str(most)}
    outside.came.clear()
    assert outside.ask("POST", path, body(most), declared) == 200
    assert outside.came == [(behind, "POST", path, most)]
    outside.came.clear()
    assert outside.ask("POST", path, body(most + 1), {"Content-Length": str(most + 1)}) == 413
    # In chunks, without saying how long it is; the server behind is cut off, and may be seen first.
    assert outside.ask("POST", path, body(most + 1)) in (413, 502)
    assert outside.came == []


def test_without_tls_nobody_is_answered(outside: Outside) -> None:
    outside.came.clear()
    plain = http.client.HTTPConnection("localhost", outside.port, timeout=10)
    with contextlib.closing(plain):
        plain.request("GET", "/v1/ledger/head")
        assert plain.getresponse().status == 400
    assert outside.came == []
