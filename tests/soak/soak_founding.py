"""Founds a consortium: its home, its ledger, and the folders of its hospitals."""

from collections.abc import Sequence
from pathlib import Path

INSTITUTIONS = ("hospital-1", "hospital-2", "hospital-3", "hospital-4")


def main(arguments: Sequence[str]) -> None:
    """``found HOME``, as the demo does it, without data and without a job; repeats are harmless."""
    from consortium.coordinator.view import StoreView
    from consortium.home import open_home
    from consortium.simulation.founding import found_ledger
    from hospital_agent.simulation import SimulatedHospital
    from ledger.database import open_database
    from ledger.store import LedgerStore

    titles = {name: name.replace("-", " ").capitalize() for name in INSTITUTIONS}
    with open_home(Path(arguments[0])) as home, open_database(home.path) as engine:
        noted = home.found("breast-cancer", 0, titles)
        hospitals = [SimulatedHospital(home.hospital(n), n, titles[n]) for n in INSTITUTIONS]
        view = StoreView(LedgerStore(engine), home.content, home.models)
        found_ledger(view, home.keys, hospitals, int(str(noted["created"])))
