"""`make bench AREA=…`: measures one area and writes its figures into build/bench.json.

Each figure has a value, a unit, and the floor or peer that was measured in the same run, with the
ratio of the two.
"""

import importlib
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

AREAS = (
    "api",
    "checks",
    "demo",
    "images",
    "lab",
    "large",
    "learning",
    "ledger",
    "models",
    "pole",
    "portal",
    "privacy",
    "round",
)
OUT = Path(__file__).parents[2] / "build" / "bench.json"


@dataclass(frozen=True)
class Figure:
    """One measured figure; ``peer`` names what ``peer_value`` was measured on, in the same run."""

    value: float
    unit: str
    peer: str | None = None
    peer_value: float | None = None

    @property
    def ratio(self) -> float | None:
        return self.value / self.peer_value if self.peer_value else None


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or arguments[0] not in AREAS:
        print(f"error[AreaUnknown]: there is no benchmark {' '.join(arguments)!r}", file=sys.stderr)
        print(f"how to resolve: make bench AREA=… with {', '.join(AREAS)}", file=sys.stderr)
        return 2
    module = importlib.import_module(f"tests.benchmarks.{arguments[0]}")
    figures: dict[str, Figure] = module.measure()
    known = json.loads(OUT.read_text()) if OUT.exists() else {}
    known |= {name: asdict(figure) | {"ratio": figure.ratio} for name, figure in figures.items()}
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n")
    width = max(map(len, figures))
    for name, figure in sorted(figures.items()):
        peer = "" if figure.peer is None else f"   {figure.peer}: {figure.peer_value:.4g}"
        print(f"{name:<{width}}  {figure.value:10.4g} {figure.unit}{peer}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
