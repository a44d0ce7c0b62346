"""`hospital-agent`, with the CPU time that its threads spend in the SML added up.

`python -m tests.benchmarks.timed_agent FILE start …`. Each round begins with the proof of the
hospital's own mapping: there a line goes into FILE, with the process's CPU seconds so far and, for
each part of the SML, its calls and CPU seconds so far. The difference of two lines is what lies
between.
"""

import functools
import json
import os
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

Function = Callable[..., Any]


class Meter:
    """Calls and CPU seconds by part; calls within a timed call are its own."""

    def __init__(self, file: Path) -> None:
        self.parts: dict[str, list[float]] = defaultdict(lambda: [0, 0.0])
        self._file, self._lock, self._inside = file, threading.Lock(), threading.local()

    def timed(self, part: str, function: Function) -> Function:
        """The function, its calls counted under a part."""

        @functools.wraps(function)
        def call(*arguments: Any, **options: Any) -> Any:
            if getattr(self._inside, "now", False):
                return function(*arguments, **options)
            self._inside.now, begun = True, time.thread_time()
            try:
                return function(*arguments, **options)
            finally:
                self._inside.now = False
                with self._lock:
                    self.parts[part][0] += 1
                    self.parts[part][1] += time.thread_time() - begun

        return call

    def marking(self, function: Function) -> Function:
        """The function, each call of it the beginning of a round."""

        @functools.wraps(function)
        def call(*arguments: Any, **options: Any) -> Any:
            line = json.dumps({"cpu": sum(os.times()[:4]), "parts": self.parts})
            with self._file.open("a") as out:
                out.write(line + "\n")
            return function(*arguments, **options)

        return call


def put_in_place(meter: Meter) -> None:
    """Before anything imports these functions by name."""
    import sml.vrf

    sml.vrf.evaluate = meter.marking(meter.timed("prove", sml.vrf.evaluate))
    sml.vrf.verify = meter.timed("verify", sml.vrf.verify)

    from sml.mapping import SecureMapping

    for name, part in (
        ("derive", "derive"), ("map_state", "map"), ("map_inputs", "map"), ("unmap_state", "unmap"),
    ):  # fmt: skip
        setattr(SecureMapping, name, meter.timed(part, getattr(SecureMapping, name)))

    import consortium.contract
    from consortium.rounds import checks

    # The model is hashed in it; commitments, which need that too, find it done.
    checks.mapping.round_alpha = meter.timed("alpha", checks.round_alpha)
    checks.round_alpha = checks.mapping.round_alpha

    consortium.contract.task_groups = meter.timed("groups", consortium.contract.task_groups)


if __name__ == "__main__":
    put_in_place(Meter(Path(sys.argv.pop(1))))
    from hospital_agent.cli.main import app

    app()
