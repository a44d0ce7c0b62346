"""What happens on a ledger, told to whoever waits: PostgreSQL's NOTIFY, between processes.

A notification carries nothing but which of three things happened; whoever is told reads what it
is. None is ever relied on: a listener that was cut off tells all of them once it is back, and
those who wait look by themselves from time to time.
"""

import logging
import select
import threading
from collections.abc import Callable
from enum import StrEnum
from typing import cast

import psycopg2
import psycopg2.extensions
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

CHANNEL = "medpole"
_LOOK_S, _RETRY_S = 5.0, 1.0
log = logging.getLogger("medpole.changes")


class Happened(StrEnum):
    """What there is to be told."""

    BLOCK = "block"  # a block was proposed, or became final
    COSIGNED = "cosigned"  # a member co-signed
    MESSAGES = "messages"  # the coordinator has sent messages to the hospitals' nodes


def notify(connection: Connection, what: Happened) -> None:
    """Tells every listener, once the transaction of ``connection`` is committed."""
    connection.execute(text(f"NOTIFY {CHANNEL}, '{what.value}'"))


class Changes:
    """Listens in a thread. ``counts`` grow; only whether one differs from before says anything."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._changed = threading.Condition()
        self._counts = dict.fromkeys(Happened, 0)
        self._told: set[Callable[[], None]] = set()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="changes", daemon=True)

    def __enter__(self) -> "Changes":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped = True

    @property
    def counts(self) -> dict[Happened, int]:
        """How often each was told so far."""
        with self._changed:
            return dict(self._counts)

    def subscribe(self, told: Callable[[], None]) -> Callable[[], None]:
        """Has ``told`` called, in the listening thread, at each change; returns how to end that."""
        with self._changed:
            self._told.add(told)
        return lambda: self._told.discard(told)

    def wait(self, what: Happened, count: int, seconds: float) -> int:
        """Waits until a count is not ``count`` any more, or the time is over; the count then."""
        with self._changed:
            self._changed.wait_for(lambda: self._counts[what] != count, seconds)
            return self._counts[what]

    def _run(self) -> None:
        while not self._stopped:
            try:
                self._listen()
            except (DBAPIError, psycopg2.Error, OSError):  # a database that is away comes back
                log.info("changes: the database is away")
            self._tell(set(Happened))  # whatever was missed
            threading.Event().wait(_RETRY_S)

    def _listen(self) -> None:
        raw = self._engine.raw_connection()
        connection = cast("psycopg2.extensions.connection", raw.driver_connection)
        raw.detach()  # kept for itself: a pooled one would go back with its LISTEN
        try:
            connection.set_isolation_level(psycopg2.extensions.ISOLATION_LEVEL_AUTOCOMMIT)
            connection.cursor().execute(f"LISTEN {CHANNEL}")
            self._tell(set(Happened))
            while not self._stopped:
                if not select.select([connection], [], [], _LOOK_S)[0]:
                    continue
                connection.poll()
                payloads = {notice.payload for notice in connection.notifies}
                connection.notifies.clear()
                self._tell({what for what in Happened if what.value in payloads})
        finally:
            connection.close()

    def _tell(self, what: set[Happened]) -> None:
        if not what:
            return
        with self._changed:
            for each in what:
                self._counts[each] += 1
            told = list(self._told)
            self._changed.notify_all()
        for call in told:
            call()
