"""Flower's wire, behind one door: all that this project uses of flwr beyond its public interfaces.

| module | holds |
|---|---|
| ``bundle`` | the app bundle (FAB): what a run says it runs, the same bytes at every member |
| ``fleet`` | a hospital's connection to the SuperLink: Flower's own client of the Fleet API |
| ``link`` | the coordinator's: nodes (Control API), runs and their grid (Runtime API) |
| ``gate`` | who gets through to the SuperLink: members' nodes, and whoever holds the secret |
| ``superlink`` | Flower's SuperLink with safe settings, in this process, behind the gate |

Why not the stock processes: a SuperNode asks every 3 s, waits 1 to 10 s for objects that have not
arrived, starts a Python for each message and installs the coordinator's bundle before it looks at
it; its Runtime port has no lock, nor has the SuperLink's Control API. Tests in
``tests/network/test_flower.py`` fail loudly when flwr changes any of what is used here.
"""

from importlib.metadata import version

from consortium.errors import FlowerUnsupported

SUPPORTED = ((1, 41), (1, 42))


def check_version() -> str:
    """The installed flwr's version.

    Raises:
        FlowerUnsupported: if it is not one of those whose wire is known here.
    """
    installed = version("flwr")
    if tuple(int(part) for part in installed.split(".")[:2]) not in SUPPORTED:
        known = " or ".join(f"{a}.{b}" for a, b in SUPPORTED)
        raise FlowerUnsupported(
            f"flwr {installed} is installed, this version works with {known}",
            "pip install -c constraints.txt 'medpole[agent]', or upgrade MedPoLe",
        )
    return installed
