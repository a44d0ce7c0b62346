"""What the API is measured against: a route that does nothing, served in the same way."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from fastapi import FastAPI

app = FastAPI()


@app.get("/bare")
def bare() -> dict[str, int]:
    """Answers."""
    return {"height": 1}


@contextmanager
def bare_api(socket: Path) -> Iterator[None]:
    """Serves it in a process of its own."""
    process = subprocess.Popen([sys.executable, "-m", "tests.benchmarks.bare_api", str(socket)])
    try:
        while not socket.exists():
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    uvicorn.run(app, uds=sys.argv[1], log_level="warning", ws="none", lifespan="off")
