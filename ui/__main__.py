"""Runs the portal's Streamlit server, for as long as our standard input stays open.

Whoever starts it (`consortium portal`) holds the other end: when that process is gone, however it
died, the kernel closes it and this one ends. The options on the command line leave nothing to a
configuration file that decides who can reach the portal or what leaves the machine.
"""

import argparse
import os
import sys
import threading
from pathlib import Path

from streamlit.web import cli

_OPTIONS = (
    "--server.headless=true",
    "--server.fileWatcherType=none",
    "--server.enableXsrfProtection=true",
    "--server.enableCORS=true",
    "--browser.gatherUsageStats=false",
    "--client.toolbarMode=viewer",
    "--client.showErrorDetails=none",  # a traceback is not for the page
    "--logger.level=error",
    "--theme.light.primaryColor=#0072B2",
    "--theme.dark.primaryColor=#56B4E9",
)


def main() -> None:
    """Serves until standard input ends."""
    parser = argparse.ArgumentParser(prog="python -m ui", description=__doc__)
    parser.add_argument("--address", required=True)
    parser.add_argument("--port", required=True, type=int)
    options = parser.parse_args()
    threading.Thread(target=_end_with_input, name="parent", daemon=True).start()
    app = Path(__file__).with_name("app.py")
    where = (f"--server.address={options.address}", f"--server.port={options.port}")
    cli.main(["run", str(app), *where, *_OPTIONS])


def _end_with_input() -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os._exit(0)  # nothing here is worth saving, and nothing may hold it up


if __name__ == "__main__":
    main()
