"""Runs the portal's server, for as long as our standard input stays open.

Whoever starts it (`consortium portal`) holds the other end: when that process is gone, however it
died, the kernel closes it and this one ends. What is secret comes through the environment, for a
command line is open to every account of the machine.
"""

import argparse
import logging
import os
import sys
import threading

from ui.api_client import API_URL
from ui.server import portal_app, settings
from ui.sessions import LocalDoor

CODE, TOKEN = "MEDPOLE_PORTAL_CODE", "MEDPOLE_PORTAL_TOKEN"
COOKIE = "MEDPOLE_PORTAL_COOKIE"


def main() -> None:
    """Serves until standard input ends."""
    parser = argparse.ArgumentParser(prog="python -m ui", description=__doc__)
    parser.add_argument("--address", required=True)
    parser.add_argument("--port", required=True, type=int)
    options = parser.parse_args()
    threading.Thread(target=_end_with_input, name="parent", daemon=True).start()
    logging.disable(logging.INFO)  # of the server's own: that it has started, and the like
    code, token = os.environ.pop(CODE, ""), os.environ.pop(TOKEN, "")
    door = LocalDoor(code, token) if code and token else None
    # Browsers send a host's cookies to all its ports: two portals must not share a name.
    cookie = os.environ.setdefault(COOKIE, f"medpole_{options.port}")
    portal_app(os.environ[API_URL], cookie, door).run(
        config=settings(options.address, options.port)
    )


def _end_with_input() -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os._exit(0)  # nothing here is worth saving, and nothing may hold it up


if __name__ == "__main__":
    main()
