"""What a running job is doing right now, for whoever watches."""

import json
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from consortium.home import write_json
from ledger.records import Job

if TYPE_CHECKING:
    from consortium.coordinator.strategy import Progress

_BELIEVED_S = 60


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

    def follow(self, job: Job, progress: "Progress", here: Callable[[], Iterable[str]]) -> None:
        """What just happened in a round of ``job``; ``here`` gives the hospitals that are asked."""
        if progress.institution is not None:
            self.state_of(progress.institution, progress.state)
            return
        ends = getattr(job.durations, progress.phase, None)  # co-signing has no end
        fields: dict[str, Any] = {
            "job": job.job, "round": progress.round, "phase": progress.phase,
            "phase_ends": None if ends is None else int(time.time()) + ends,
        }  # fmt: skip
        if ends is not None:
            fields |= {"states": dict.fromkeys(sorted(here()), "asked"), "state": "running"}
        self.update(**fields, reason="")

    def running(self) -> bool:
        """Whether a round is under way, as far as the report goes.

        Believed until a minute after the end of its phase: whoever was killed reports no more.
        """
        content = self.read()
        told = max(content.get("phase_ends") or 0, content.get("time") or 0)
        return content.get("state") == "running" and time.time() < told + _BELIEVED_S

    def read(self) -> Mapping[str, Any]:
        """What was written last; empty if nothing was."""
        try:
            content = json.loads(self._path.read_bytes())
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}
