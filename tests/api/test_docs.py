"""Each curl line of docs/api.md runs, and prints what the ledger says."""

import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from socket import socket
from time import monotonic, sleep

import pytest
import uvicorn
from served_demo import Served

from consortium.access import Role

DOCS = Path(__file__).parents[2] / "docs" / "api.md"
BLOCKS = re.findall(r"^```sh\n(.*?)^```", DOCS.read_text(), re.MULTILINE | re.DOTALL)
pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")


@pytest.fixture(scope="module")
def url(served: Served) -> Iterator[str]:
    """The API on a port of the loopback address."""
    with socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(
            uvicorn.Config(served.app, log_level="warning", lifespan="off", ws="none",
                           timeout_graceful_shutdown=1)
        )  # fmt: skip
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        deadline = monotonic() + 20
        while not server.started:
            assert monotonic() < deadline
            sleep(0.02)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join(10)


@pytest.fixture
def shell(served: Served, url: str, tmp_path: Path) -> "subprocess.CompletedProcess[str]":
    bin = str(Path(sys.executable).parent)
    environment = {
        "API": url,
        "TOKEN": served.token(Role.SCIENTIST),
        "PATH": f"{bin}:/usr/bin:/bin",
    }
    lines = "\n".join(BLOCKS).replace("\ncurl", '\necho; echo "== "; curl')
    return subprocess.run(
        ["bash", "-eu", "-c", lines], env=environment, cwd=tmp_path, capture_output=True, text=True,
        timeout=120,
    )  # fmt: skip


def test_every_line_runs_and_says_what_the_ledger_does(
    served: Served, shell: "subprocess.CompletedProcess[str]", tmp_path: Path
) -> None:
    assert shell.returncode == 0, (shell.stdout[-2000:], shell.stderr)
    assert len(BLOCKS) == 5
    printed = shell.stdout
    head = served.store.head().header
    assert head.hash in printed
    assert '"role":"scientist"' in printed
    assert printed.count("consistent, not pinned") == 2
    assert printed.count("event: ") == 2
    (model,) = re.findall(r'"model":"(\w{64})","round":null', printed)[:1]
    assert (tmp_path / "model.safetensors").read_bytes() == served.home.models.path(
        model
    ).read_bytes()
    answers = [json.loads(line) for line in printed.splitlines() if line.startswith('{"items"')]
    assert len(answers) >= 8
    assert all(answer["items"] for answer in answers)
