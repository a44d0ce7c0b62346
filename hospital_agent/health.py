"""`GET /health` on the loopback address: whether the agent works, for whoever supervises it.

Says states, codes and a height; no key, no path, no data. 200 while both parts are connected, 503
when one of them has not been for a while: a supervisor should look, not restart at once.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from consortium.errors import PortInUse
from hospital_agent.supernode import NodeState

HOST = "127.0.0.1"
PATIENCE_S = 60.0
_WELL = {"connected", "following"}


@dataclass(frozen=True)
class Health:
    """What is reported of one agent."""

    institution: str
    node: NodeState
    witness: NodeState
    height: Callable[[], int]

    def report(self) -> tuple[bool, dict[str, Any]]:
        """Whether all is well, and the report."""
        now = time.monotonic()
        parts = {"node": self.node, "witness": self.witness}
        well = all(p.state in _WELL or now - p.since < PATIENCE_S for p in parts.values())
        content: dict[str, Any] = {"institution": self.institution, "height": self.height()}
        for name, part in parts.items():
            content[name] = {"state": part.state, "for_seconds": int(now - part.since)}
        return well, {"status": "ok" if well else "degraded", **content}


@contextmanager
def serve_health(health: Health, port: int) -> Iterator[int]:
    """Serves the report for the time of the context; gives the port.

    Raises:
        PortInUse: if the port cannot be opened.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            well, content = health.report()
            status = 404 if self.path != "/health" else 200 if well else 503
            body = json.dumps(content if status != 404 else {}).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Nobody needs a line for each look."""

    try:
        server = ThreadingHTTPServer((HOST, port), Handler)
    except OSError as error:
        raise PortInUse(
            f"port {port} on {HOST} cannot be opened ({error.strerror})",
            "choose another with --health-port",
        ) from None
    thread = threading.Thread(target=server.serve_forever, args=(0.5,), daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
