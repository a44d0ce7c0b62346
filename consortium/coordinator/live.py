"""What a running job is doing right now, for whoever watches."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from consortium.home import write_json


class LiveState:
    """The report in ``coordinator/live.json``.

    A report, not a record: the ledger holds what counts. ``states`` says of each hospital what it
    is doing: asked, answered, late, gone, back, or a code.
    """

    def __init__(self, home: Path) -> None:
        self._path = home / "coordinator" / "live.json"
        self._content: dict[str, Any] = {}

    def update(self, **fields: Any) -> None:
        """Replaces some fields; written only if that changes anything."""
        content = {**self._content, **fields}
        if content != self._content:
            self._content = content
            write_json(self._path, {**content, "time": int(time.time())})

    def state_of(self, institution: str, state: str) -> None:
        """What one hospital is doing."""
        self.update(states={**self._content.get("states", {}), institution: state})

    def read(self) -> Mapping[str, Any]:
        """What was written last; empty if nothing was."""
        try:
            content = json.loads(self._path.read_bytes())
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}
