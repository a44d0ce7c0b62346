"""Refused attempts, on record: one JSON object a line in ``coordinator/events.jsonl``.

Codes, ids and addresses only: no secret, no token, nothing that a stranger wrote.
"""

import json
import os
import time
from pathlib import Path
from typing import Any

EVENTS = Path("coordinator") / "events.jsonl"


def record(home: Path, code: str, **fields: str | int | None) -> None:
    """Appends one event, whole, durably; several processes may do so at once."""
    content = {"time": int(time.time()), "code": code}
    content |= {name: value for name, value in fields.items() if value is not None}
    path = home / EVENTS
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(descriptor, json.dumps(content).encode() + b"\n")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def events(home: Path) -> list[dict[str, Any]]:
    """All events, oldest first; a line that was cut off by a crash is left out."""
    try:
        lines = (home / EVENTS).read_bytes().splitlines()
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found
