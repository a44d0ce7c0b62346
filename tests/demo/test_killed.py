"""Killed in the middle: nothing is left running, nothing is lost, the next start works."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from demo_command import CONSORTIUM, Demo

GONE_WITHIN_S = 30


def start_and_wait_for_round_two(home: Path) -> subprocess.Popen[str]:
    """A job of epsilon 1 over 500 rounds, of which a few will be spent."""
    process = subprocess.Popen(
        [str(CONSORTIUM), "demo", "--home", str(home), "--rounds", "500"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "Round 2 of" in line:
            return process
    raise AssertionError("the demo ended before its second round")


def started_by(process: subprocess.Popen[str]) -> list[psutil.Process]:
    family = psutil.Process(process.pid).children(recursive=True)
    names = {child.name() for child in family}
    assert any("postgres" in name for name in names)
    assert any("raylet" in name for name in names)
    return family


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "hows",
    [(signal.SIGKILL,), pytest.param((signal.SIGINT, signal.SIGKILL), marks=pytest.mark.slow)],
)
def test_nothing_is_left_behind(
    new_home: Callable[[], Path], hows: tuple[signal.Signals, ...]
) -> None:
    """Killed, or interrupted and then killed, in one home: each start ends the job before it."""
    home = new_home()
    for how in hows:
        killed_in_round_two(home, how)
    # What they had reserved and not spent is there again.
    report = Demo(home, "--rounds", "1").report
    assert (report["cheat"], report["rejections"]) == (None, [])
    assert [h["accepted"] for h in report["hospitals"]] == [1] * 4
    assert report["job"] == f"breast-cancer-{len(hows) + 1}"
    for hospital in report["hospitals"]:
        assert 1.0 < hospital["epsilon_spent"] < 1.2


def killed_in_round_two(home: Path, how: signal.Signals) -> None:
    process = start_and_wait_for_round_two(home)
    family = started_by(process)
    os.kill(process.pid, how)
    since = time.monotonic()
    _, stderr = process.communicate(timeout=GONE_WITHIN_S)
    assert process.returncode == (130 if how is signal.SIGINT else -9)
    if how is signal.SIGINT:
        assert stderr.splitlines()[-2].startswith("error[Interrupted]")
    _, alive = psutil.wait_procs(family, timeout=GONE_WITHIN_S - (time.monotonic() - since))
    assert not alive
