"""Who has patients for which task: the round numbers that institutions declare in public.

A job's contract takes its weights and normalisers from them (`consortium.contract`). Nothing here
is counted from a table of patients, and nothing decides: each hospital checks the contract against
what it declared.
"""

from collections.abc import Mapping
from pathlib import Path

from consortium.network import transaction


class Offers:
    """The offers of all institutions, in the coordinator's home."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def put(self, institution: str, tasks: Mapping[str, int]) -> None:
        """Replaces what an institution offers."""
        rows = [(institution, task, patients) for task, patients in tasks.items()]
        with transaction(self._home) as connection:
            connection.execute("DELETE FROM offers WHERE institution = ?", (institution,))
            connection.executemany("INSERT INTO offers VALUES (?, ?, ?)", rows)

    def for_task(self, task: str) -> dict[str, int]:
        """Declared patients by institution, of those that offer a task."""
        query = "SELECT institution, patients FROM offers WHERE task = ? ORDER BY 1"
        with transaction(self._home) as connection:
            return dict(connection.execute(query, (task,)))

    def all(self) -> dict[str, dict[str, int]]:
        """Declared patients by institution and task."""
        found: dict[str, dict[str, int]] = {}
        with transaction(self._home) as connection:
            for name, task, patients in connection.execute("SELECT * FROM offers ORDER BY 1, 2"):
                found.setdefault(name, {})[task] = patients
        return found
