"""A demo's live progress on standard error: round, phase and each hospital's state."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from consortium.coordinator.strategy import Progress
    from consortium.simulation.demo import Watch

PHASES = ("train", "close", "reveal", "verify", "co-sign")
_DOING = {"train": "training", "close": "closing", "reveal": "revealing", "verify": "verifying"}
_DONE = {"train": "committed", "close": "closed", "reveal": "revealed", "verify": "verified"}


@contextmanager
def show_progress(rounds: int) -> Iterator["Watch"]:
    """A watcher for the demo: a live table in a terminal, a line for each step elsewhere."""
    console = Console(file=sys.stderr)
    board = _Board(rounds)
    if not console.is_terminal:
        yield _Lines(rounds)
        return
    with Live(get_renderable=board.render, console=console, refresh_per_second=8, transient=True):
        yield board


class _Lines:
    def __init__(self, rounds: int) -> None:
        self._rounds, self._start = rounds, time.monotonic()

    def __call__(self, message: str, progress: "Progress | None") -> None:
        if progress is None:
            self._print(message)
        elif progress.phase == "final" and progress.result is not None:
            codes = [o.code for o in progress.result.proofs]
            self._print(
                f"Round {progress.round} of {self._rounds}: "
                f"{codes.count('Accepted')} of {len(codes)} proofs accepted, block co-signed"
            )

    def _print(self, text: str) -> None:
        print(f"{time.monotonic() - self._start:7.1f} s  {text}", file=sys.stderr, flush=True)


class _Board:
    def __init__(self, rounds: int) -> None:
        self._rounds, self._start = rounds, time.monotonic()
        self._message = ""
        self._round, self._phase = 0, ""
        self._first_round: float | None = None
        self._states: dict[str, str] = {}
        self._accepted: dict[str, int] = {}
        self._score: dict[str, str] = {}
        self._last: dict[str, str] = {}

    def __call__(self, message: str, progress: "Progress | None") -> None:
        if progress is None:
            self._message = message
            return
        if self._first_round is None and progress.institution:
            self._first_round = time.monotonic()
        self._round = progress.round
        if progress.institution:
            answered = _DONE.get(self._phase, self._phase)
            state = answered if progress.state == "answered" else progress.state
            self._states[progress.institution] = state
        elif progress.result is not None:
            for outcome in progress.result.proofs:
                accepted = outcome.code == "Accepted"
                self._accepted[outcome.institution] = self._accepted.get(
                    outcome.institution, 0
                ) + int(accepted)
                self._last[outcome.institution] = outcome.code
                score = outcome.score
                self._score[outcome.institution] = "" if score is None else f"{score / 10000:.2f}"
        else:
            self._phase = progress.phase
            if progress.phase in _DONE:
                self._states = dict.fromkeys(self._states, _DOING[progress.phase])

    def render(self) -> Any:
        elapsed = time.monotonic() - self._start
        if not self._states:
            return Text(f"{self._message} … {elapsed:.0f} s")
        done = self._round - 1
        left = ""
        if self._first_round is not None and done:
            each = (time.monotonic() - self._first_round) / done
            left = f", about {max(0.0, each * (self._rounds - done)):.0f} s left"
        table = Table(box=None, pad_edge=False, header_style="dim")
        for column, width in (("hospital", 14), ("now", 11), ("last round", 20)):
            table.add_column(column, min_width=width)
        table.add_column("accepted", justify="right")
        table.add_column("score", justify="right")
        for name, state in sorted(self._states.items()):
            last = self._last.get(name, "")
            style = "red" if last not in ("", "Accepted") else "green"
            accepted = str(self._accepted.get(name, 0))
            table.add_row(name, state, Text(last, style), accepted, self._score.get(name))
        phases = "  ".join(f"[{p}]" if p == self._phase else f" {p} " for p in PHASES)
        head = f"Round {self._round} of {self._rounds}  {phases}   {elapsed:.0f} s{left}"
        bar = Padding(ProgressBar(self._rounds, done, width=60), (0, 0, 1, 0))
        return Group(Text(head), bar, table)
