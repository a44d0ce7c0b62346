"""Runs the installed `consortium` command."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CONSORTIUM = Path(sys.executable).with_name("consortium")
ROUNDS = 3


def consortium(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(CONSORTIUM), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, **environment},
    )


@dataclass(frozen=True)
class Finished:
    """A home after one demo, what that demo reported, and what it printed."""

    home: Path
    report: dict[str, Any]
    stdout: str
    stderr: str


class Demo:
    """Runs a demo: a home after it, and its report."""

    def __init__(self, home: Path, *options: str) -> None:
        self.home = home
        self.report_path = home.parent / f"{home.name}.json"
        self.done = consortium(
            "demo", "--home", home, "--rounds", str(ROUNDS), "--report", self.report_path, *options
        )
        assert self.done.returncode == 0, self.done.stderr
        self.report: dict[str, Any] = json.loads(self.report_path.read_text())
