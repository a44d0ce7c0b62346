"""When an institution last asked the API for something, and with which version of the agent.

A report for people, to the minute: it decides nothing.
"""

import logging
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

from consortium.errors import StateFailed
from consortium.network import transaction

GRAIN_S = 60
_AGENT = re.compile(r"medpole-agent/([0-9A-Za-z.+-]{1,40})(?: |$)")
log = logging.getLogger("medpole.api")


class LastSeen:
    """One coordinator's report. Safe to share between threads."""

    def __init__(self, home: Path, clock: Callable[[], float] = time.time) -> None:
        self._home, self._clock = home, clock
        self._lock = threading.Lock()
        self._noted: dict[str, int] = {}

    def note(self, institution: str, user_agent: str) -> None:
        """An institution asked; stored once a minute at most.

        A disk that does not take it stops nobody.
        """
        now = int(self._clock()) // GRAIN_S * GRAIN_S
        with self._lock:
            if self._noted.get(institution) == now:
                return
            self._noted[institution] = now
        found = _AGENT.match(user_agent)
        try:
            with transaction(self._home) as connection:
                connection.execute(
                    "INSERT INTO last_seen VALUES (?, ?, ?) ON CONFLICT (institution) DO UPDATE "
                    "SET time = excluded.time, version = excluded.version",
                    (institution, now, found[1] if found else None),
                )
        except StateFailed as error:
            log.warning("when institutions were seen is not kept: %s", error.what)

    def all(self) -> dict[str, tuple[int, str | None]]:
        """Time (seconds since 1970) and version, by institution."""
        with transaction(self._home) as connection:
            rows = connection.execute("SELECT institution, time, version FROM last_seen")
            return {name: (time, version) for name, time, version in rows}
