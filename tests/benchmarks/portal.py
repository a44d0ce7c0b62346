"""The portal over a ledger of a million leaves: how long until a page is there, in Chromium.

From asking for the page's address to its last chart, in a browser that has been here before:
scripts and styles come from its cache. The server is `consortium portal`; the ledger is
`large_ledger`, which the first run makes.
"""

import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.benchmarks.large import _say
from tests.benchmarks.large_ledger import large_ledger
from tests.benchmarks.run import Figure

sys.path.append(str(Path(__file__).parents[1] / "ui"))
from browsing import PAGES, Visitor, chromium, visitor

_TIMES = 7
_BIN = Path(sys.executable).parent


def measure() -> dict[str, Figure]:
    """All figures of the area."""
    with _portal(large_ledger()) as address, chromium() as browser:
        site, _, way_in = address.rpartition("/")
        with visitor(browser, site) as somebody:
            first = _seconds(somebody, way_in)
            figures = {"portal.sign_in": Figure(first, "s")}
            for page in PAGES:
                _say(page)
                path = "" if page == PAGES[0] else page  # the first one is the home page
                began = _seconds(somebody, path)
                times = [_seconds(somebody, path) for _ in range(_TIMES)]
                figures |= {
                    f"portal.{page}.first": Figure(began, "s"),
                    f"portal.{page}": Figure(statistics.median(times), "s"),
                    f"portal.{page}.most": Figure(max(times), "s"),
                }
        return figures


def _seconds(somebody: Visitor, path: str) -> float:
    began = time.monotonic()
    somebody.open(path, calm=False)
    somebody.drawn()
    return time.monotonic() - began


@contextmanager
def _portal(home: Path) -> Iterator[str]:
    """`consortium portal` on a home; the address that signs in."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    began = time.monotonic()
    process = subprocess.Popen(
        [_BIN / "consortium", "portal", "--home", home, "--port", str(port)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        if not address:
            raise RuntimeError("the portal did not start")
        _say(f"there after {time.monotonic() - began:.1f} s")
        yield address
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
