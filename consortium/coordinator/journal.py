"""What the coordinator must not forget of a round under way: signed answers, phases begun.

An answer is stored before anything is built on it, and a phase before it is asked: after a crash
the same set is shown again, so no hospital is ever shown two, none trains or pays twice, and the
round goes on in the phase where it was. One round at a time: what stands in a block is forgotten.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from consortium.phases import Phase, Reply
from consortium.state import transaction

_SCHEMA = (
    """CREATE TABLE IF NOT EXISTS rounds (
        job TEXT NOT NULL, round INTEGER NOT NULL, attempt INTEGER NOT NULL, base TEXT NOT NULL,
        PRIMARY KEY (job, round, attempt, base)
    ) STRICT""",
    "CREATE TABLE IF NOT EXISTS asked (phase TEXT PRIMARY KEY) STRICT",
    """CREATE TABLE IF NOT EXISTS answers (
        phase TEXT NOT NULL, institution TEXT NOT NULL, entry BLOB NOT NULL, content BLOB,
        PRIMARY KEY (phase, institution)
    ) STRICT""",
    "CREATE TABLE IF NOT EXISTS wishes (job TEXT PRIMARY KEY, wish TEXT NOT NULL) STRICT",
)
STOP, RESUME = "stop", "resume"


@dataclass(frozen=True)
class Place:
    """One attempt at a round, and the block that it starts from."""

    job: str
    round: int
    attempt: int
    base: str


class Journal:
    """The journal of one coordinator: ``coordinator/rounds.sqlite`` in its home."""

    def __init__(self, home: Path) -> None:
        self._path = home / "coordinator" / "rounds.sqlite"

    def begin(self, place: Place) -> bool:
        """Turns to a place; says whether it was under way already. Another one is forgotten."""
        row = (place.job, place.round, place.attempt, place.base)
        with transaction(self._path, _SCHEMA) as connection:
            if connection.execute("SELECT job, round, attempt, base FROM rounds").fetchall() == [
                row
            ]:
                return True
            for table in ("rounds", "asked", "answers"):
                connection.execute(f"DELETE FROM {table}")  # noqa: S608 (our own names)
            connection.execute("INSERT INTO rounds VALUES (?, ?, ?, ?)", row)
        return False

    def under_way(self) -> Place | None:
        """The place turned to last."""
        with transaction(self._path, _SCHEMA) as connection:
            row = connection.execute("SELECT job, round, attempt, base FROM rounds").fetchone()
        return Place(*row) if row else None

    def ask(self, phase: Phase) -> None:
        """Notes that a phase begins: what came before it is closed."""
        with transaction(self._path, _SCHEMA) as connection:
            connection.execute("INSERT OR IGNORE INTO asked VALUES (?)", (str(phase),))

    def asked(self) -> set[Phase]:
        """The phases that have begun."""
        with transaction(self._path, _SCHEMA) as connection:
            return {Phase(name) for (name,) in connection.execute("SELECT phase FROM asked")}

    def keep(self, phase: Phase, replies: Sequence[Reply]) -> None:
        """Stores hospitals' answers, which were checked; a hospital's first one stays."""
        if not replies:
            return
        rows = [
            (str(phase), r.institution, r.entries[0], r.content[0] if r.content else None)
            for r in replies
        ]
        with transaction(self._path, _SCHEMA) as connection:
            connection.executemany("INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?)", rows)

    def answers(self, phase: Phase) -> list[Reply]:
        """The answers to a phase that were stored."""
        query = "SELECT institution, entry, content FROM answers WHERE phase = ? ORDER BY 1"
        with transaction(self._path, _SCHEMA) as connection:
            return [
                Reply(name, (entry,), () if content is None else (content,))
                for name, entry, content in connection.execute(query, (str(phase),))
            ]

    def wish(self, job: str, wish: str) -> None:
        """Notes what a person wants of a job: `STOP` or `RESUME`."""
        with transaction(self._path, _SCHEMA) as connection:
            connection.execute("INSERT OR REPLACE INTO wishes VALUES (?, ?)", (job, wish))

    def wished(self, job: str) -> str | None:
        """What a person wants of a job, if anything."""
        with transaction(self._path, _SCHEMA) as connection:
            row = connection.execute("SELECT wish FROM wishes WHERE job = ?", (job,)).fetchone()
        return str(row[0]) if row else None

    def granted(self, job: str) -> None:
        """Forgets a wish that was fulfilled."""
        with transaction(self._path, _SCHEMA) as connection:
            connection.execute("DELETE FROM wishes WHERE job = ?", (job,))
