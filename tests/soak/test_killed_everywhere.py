"""SIGKILL at every step, of every process: nothing acknowledged is lost, nothing forks.

After each kill, once everybody is up again: every acknowledged submission stands in a final block
exactly once; blocks and entries have no gap, each block its own parent; every member's copy is the
database's, byte for byte; nobody signed two things at one height; every cosignature that the server
holds, or that was ever about to be sent, is known to the member that made it; no conflict is noted.
In the end the API shows the same, the export verifies against the pinned genesis, and no process is
left. `make soak` kills 1,000 times, `make test-all` 100 (SEED, KILLS).
"""

import os

import pytest
from soak_consortium import KILLED, Consortium
from soak_kills import ROTATING, Kills
from soak_processes import until
from soak_steps import BY_NAME, FOUNDING, POSTGRES, STEPS, Order, kill_database


def test_twenty_five_kills(consortium: Consortium) -> None:
    consortium.start_all()
    print(Kills(consortium, seed=0).run(25).table())
    consortium.stop_all()


def test_the_server_without_its_database(consortium: Consortium) -> None:
    """It ends with an error, or starts PostgreSQL again: somebody has to notice."""
    consortium.start_all()
    server = consortium.running["server"]
    assert kill_database(server.pid, POSTGRES)
    before = len(consortium.acknowledged())
    until(
        lambda: server.poll() is not None or len(consortium.acknowledged()) > before + 3,
        "the server ends, or goes on", patience=5,
    )  # fmt: skip


def test_half_made_new_keys(consortium: Consortium) -> None:
    """`keys rotate`, killed and not repeated, does not keep the member from co-signing."""
    consortium.start_all()
    kills = Kills(consortium, seed=0)
    kills.half_rotation(BY_NAME["keys proposed: first key begun"])
    consortium.await_cosignature(ROTATING)
    kills.finish()
    consortium.stop_all()


@pytest.mark.parametrize(
    ("proposed", "taken"),
    [
        pytest.param(
            "keys proposed: first key begun", "keys taken: before", marks=pytest.mark.slow
        ),
        pytest.param("keys proposed: kept", "keys taken: old keys retired", marks=pytest.mark.slow),
    ],
)
def test_new_keys(proposed: str, taken: str, consortium: Consortium) -> None:
    """Between a member's old and new keys, its witness goes on, and starts again."""
    consortium.start_all()
    kills = Kills(consortium, seed=0)
    kills.rotation(BY_NAME[proposed], BY_NAME[taken])
    kills.finish()
    consortium.stop_all()


@pytest.mark.slow
def test_founding(empty_consortium: Consortium) -> None:
    """Killed at each step in turn, it ends with one genesis."""
    consortium = empty_consortium
    for number, step in enumerate((s for s in STEPS if s.occasion == FOUNDING), 1):
        order = Order(number, str(step))
        order.write(consortium.orders("found"))
        founding = consortium.start("found", "found", consortium.home, order=True)
        assert founding.wait() == KILLED, f"{step}: {founding.said()}"
        assert order in consortium.done("found")
        print(step, flush=True)
    consortium.found()
    consortium.start_all()
    Kills(consortium, seed=0).finish()
    consortium.stop_all()


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_many_kills(consortium: Consortium) -> None:
    seed, kills = int(os.environ.get("SEED", "1")), int(os.environ.get("KILLS", "100"))
    consortium.start_all()
    tally = Kills(consortium, seed, lambda line: print(line, flush=True)).run(kills)
    consortium.stop_all()
    print(f"\nseed {seed}\n{tally.table()}", flush=True)
