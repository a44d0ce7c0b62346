"""docs/tasks.md, followed to the letter: its file is written, its commands are run."""

import os
import re
import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs" / "tasks.md"


def test_the_tutorial_ends_with_a_verified_ledger(tmp_path: Path) -> None:
    text = DOCS.read_text()
    first, then = re.findall(r"```sh\n(.*?)```", text, re.S)
    (code,) = re.findall(r"```python\n(.*?)```", text, re.S)
    assert len(code.splitlines()) < 40
    tmp_path.chmod(0o711)  # PostgreSQL runs as another user when this runs as root
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    def run(commands: str) -> str:
        done = subprocess.run(
            ["sh", "-euc", commands], cwd=tmp_path, env=environment, text=True,
            capture_output=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    run(first)
    (tmp_path / "tasks/diabetes/task.py").write_text(code)
    printed = run(first.splitlines()[1] + "\n" + then)
    assert "Exported and verified" in printed
    assert "diabetes-1: 4 rounds, 4 hospitals" in printed
