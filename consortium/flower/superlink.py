"""Flower's SuperLink with the settings that a hospital network needs, behind the gate.

TLS and node authentication always; state in memory only (the ledger and the coordinator's journal
are what counts); no dependency is installed at run time, no telemetry, no look for updates; apps
run elsewhere (`--isolation process`).
"""

import contextlib
import os
import secrets
import sys
from importlib import import_module
from pathlib import Path
from socket import socket

from consortium.errors import PortInUse, TlsMissing
from consortium.events import record
from consortium.flower import check_version
from consortium.flower.gate import Gate
from consortium.logs import log_as_json
from ledger.keys import write_private

SECRET = Path("coordinator") / "superlink.secret"
NODES = Path("coordinator") / "nodes.json"
TLS = Path("coordinator") / "tls"
_LEAST_HEARTBEAT_S = 2.0  # Flower asks for 10 s at least: then a dead node is seen after 20 s
_QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
}


def superlink_secret(home: Path) -> str:
    """The secret between the coordinator and its SuperLink, made when first asked for."""
    path = home / SECRET
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_private(path, secrets.token_hex(32).encode())
    return path.read_text().strip()


def ca_certificate(home: Path) -> bytes:
    """The consortium's CA certificate, PEM.

    Raises:
        TlsMissing: if there is none yet.
    """
    try:
        return (home / TLS / "ca.pem").read_bytes()
    except OSError:
        raise TlsMissing(
            f"there is no certificate in {home / TLS}", "make it: `consortium tls make HOST…`"
        ) from None


def serve_superlink(home: Path, host: str, port: int) -> None:
    """Serves until Ctrl-C or a termination signal. Prints its address once it listens.

    Raises:
        TlsMissing: if the home has no certificate.
        PortInUse: if the port cannot be opened.
        FlowerUnsupported: if another flwr is installed.
    """
    ca_certificate(home)
    os.environ.update(_QUIET)
    os.environ.setdefault("FLWR_HOME", str(home / "coordinator" / "flwr"))
    check_version()
    tls = home / TLS
    arguments = [
        "--host", host, "--port", str(port), "--isolation", "process", "--enable-supernode-auth",
        "--ssl-certfile", str(tls / "server.pem"), "--ssl-keyfile", str(tls / "server.key"),
        "--ssl-ca-certfile", str(tls / "ca.pem"), "--disable-runtime-dependency-installation",
    ]  # fmt: skip
    _run(arguments, home, host, port)


def _run(arguments: list[str], home: Path, host: str, port: int) -> None:
    import uvicorn
    from flwr.superlink.main import create_app

    # Its package hides the module behind a function of the same name.
    flower = import_module("flwr.superlink.cli.flower_superlink")
    handlers = import_module("flwr.superlink.servicer.fleet.fleet_handlers")
    assert handlers.HEARTBEAT_MIN_INTERVAL == 10, "flwr changed: see consortium.flower"
    vars(handlers)["HEARTBEAT_MIN_INTERVAL"] = _LEAST_HEARTBEAT_S
    sys.argv = ["flower-superlink", *arguments]
    config = flower._parse_superlink_lifespan_config()

    def on_refusal(code: str, institution: str, caller: str) -> None:
        record(home, code, institution=institution or None, caller=caller)

    gate = Gate(
        create_app(config, flower.SuperLinkLifespan),
        home / NODES, superlink_secret(home), on_refusal,
    )  # fmt: skip

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                print(f"https://{host}:{port}", flush=True)

    log_as_json()  # flwr set up its own when it was imported
    server = Server(
        uvicorn.Config(
            gate, host=host, port=port, log_level="warning", access_log=False, ws="none",
            ssl_certfile=config.ssl_certfile, ssl_keyfile=config.ssl_keyfile,
            timeout_graceful_shutdown=2, timeout_keep_alive=75,
        )
    )  # fmt: skip
    with contextlib.suppress(SystemExit):
        server.run()
    if not server.started:
        raise PortInUse(
            f"the SuperLink could not listen on {host}:{port}", "choose another --port or --host"
        )
