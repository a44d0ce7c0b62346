"""What Proof of Learning costs and is worth: the SML, the Shapley values, the block intervals."""

from importlib import import_module
from importlib.util import find_spec

from tests.benchmarks.run import Figure

PARTS = [f"tests.benchmarks.pole_{part}" for part in ("sml", "accuracy", "shapley", "intervals")]


def measure() -> dict[str, Figure]:
    """All figures of the area."""
    modules = [import_module(name) for name in PARTS if find_spec(name)]
    return {name: figure for module in modules for name, figure in module.figures().items()}
