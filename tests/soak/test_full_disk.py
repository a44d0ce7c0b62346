"""A disk that is full, or takes no more writes: nothing is said that was not stored.

No cosignature leaves a member that its replica does not hold, no submission is acknowledged that
the database does not hold; and once there is space again, everything goes on.
"""

import contextlib
import signal
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path

import pytest
from psycopg2 import extensions
from soak_checks import Checks
from soak_consortium import Consortium
from soak_disks import PAGE, SmallDisks, full, read_only
from soak_founding import INSTITUTIONS
from soak_processes import until
from soak_steps import STOPPED, Order

CLIENTS, WITNESSES = INSTITUTIONS[:2], INSTITUTIONS[2:]
Trouble = Callable[[Path], AbstractContextManager[None]]
MIB = 2**20
THREAD_ENDS = "psycopg2's own error out of COPY ends the sequencer's thread"
BEFORE_COPY = "proposal: block inserted"


# members: two of four, so that the quorum is away


def test_members_without_space(consortium: Consortium, small_disks: SmallDisks) -> None:
    """Some pages are left, so that different writes of a transaction are the first to fail."""
    _members_in(consortium, small_disks, [partial(full, left=n * PAGE) for n in (0, 1, 2, 3, 6)])


def test_members_that_cannot_write(consortium: Consortium, small_disks: SmallDisks) -> None:
    _members_in(consortium, small_disks, [read_only])


def _members_in(
    consortium: Consortium, small_disks: SmallDisks, troubles: Sequence[Trouble]
) -> None:
    for name in WITNESSES:
        small_disks.make(consortium.hospital(name), free=2 * MIB)
    consortium.start_all(clients=CLIENTS)
    checks, known = Checks(consortium), consortium.settle(set())
    for trouble in troubles:
        with ExitStack() as held:
            for name in WITNESSES:
                held.enter_context(trouble(consortium.hospital(name)))
            until(lambda: all(_troubled(consortium)), "both fail")
            _start_again(consortium)  # it is no better
            until(lambda: any(_troubled(consortium)), "one fails again")
            _await_more(consortium)  # submissions are kept meanwhile
        _start_again(consortium)
        now = consortium.settle(known)
        checks.check(now - known)
        known = now
    _finish(consortium, checks, known)


def _troubled(consortium: Consortium) -> list[bool]:
    """Which of the two ended, or say something else than heights."""
    witnesses = [consortium.running[name] for name in WITNESSES]
    return [
        witness.poll() is not None or not all(map(str.isdigit, witness.said().split()))
        for witness in witnesses
    ]


def _start_again(consortium: Consortium) -> None:
    for name in WITNESSES:
        consortium.running[name].kill()
        consortium.running[name].wait()
        consortium.start_witness(name)


# PostgreSQL


@pytest.mark.slow
def test_a_database_without_space(consortium: Consortium, small_disks: SmallDisks) -> None:
    """It fills up while submissions, blocks and cosignatures are stored."""
    small_disks.make(consortium.home / "postgres", free=32 * MIB)
    consortium.start_all()
    checks, known = Checks(consortium), consortium.settle(set())
    for pages in (0, 4, 8):
        with full(consortium.home / "postgres", left=pages * PAGE):
            _await_refusal(consortium)
        known = _go_on(consortium, checks, known)
    _finish(consortium, checks, known)


@pytest.mark.slow
def test_a_database_without_space_for_a_block(
    consortium: Consortium, small_disks: SmallDisks
) -> None:
    """The disk fills up between a block's row and its entries."""
    small_disks.make(consortium.home / "postgres", free=32 * MIB)
    consortium.start_all()
    checks, known = Checks(consortium), consortium.settle(set())
    for name in INSTITUTIONS:  # without them submissions pile up, to a block of several pages
        consortium.running[name].kill()
        consortium.running[name].wait()
    for _ in range(10):
        _await_more(consortium)
    server, order = consortium.running["server"], Order(1, BEFORE_COPY, victim=STOPPED)
    order.write(consortium.orders("server"))
    for name in INSTITUTIONS:
        consortium.start_witness(name)
    until(lambda: order in consortium.done("server"), "a block is on its way")
    with full(consortium.home / "postgres"):
        server.kill(signal.SIGCONT)
        until(lambda: "DiskFull" in server.said() or "sequencing" in server.said(), "it fails")
    known = _go_on(consortium, checks, known)
    _finish(consortium, checks, known)


@pytest.mark.slow
def test_a_database_without_space_for_its_log(
    consortium: Consortium, small_disks: SmallDisks
) -> None:
    """PostgreSQL itself goes down then (PANIC), and recovers when it is started with space."""
    small_disks.make(consortium.home / "postgres", free=32 * MIB)
    consortium.start_all()
    checks, known = Checks(consortium), consortium.settle(set())
    with full(consortium.home / "postgres"):
        with contextlib.closing(consortium.connect()) as connection:
            connection.cursor().execute("SELECT pg_switch_wal()")
        _await_refusal(consortium)
    consortium.running["server"].kill()
    consortium.running["server"].wait()
    consortium.start_server()
    consortium.await_server()
    known = _go_on(consortium, checks, known)
    _finish(consortium, checks, known)


@pytest.mark.slow
def test_a_database_that_may_not_write(consortium: Consortium) -> None:
    consortium.start_all()
    checks, known = Checks(consortium), consortium.settle(set())
    with contextlib.closing(consortium.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("ALTER ROLE medpole_app SET default_transaction_read_only = on")
        _cut(cursor)
        _await_refusal(consortium)
        cursor.execute("ALTER ROLE medpole_app RESET default_transaction_read_only")
        _cut(cursor)
    known = _go_on(consortium, checks, known)
    _finish(consortium, checks, known)


def _await_more(consortium: Consortium) -> None:
    before = len(consortium.acknowledged())
    until(lambda: len(consortium.acknowledged()) > before + 3, "submissions are acknowledged")


def _refusals(consortium: Consortium) -> int:
    lines = consortium.acks.read_text().splitlines()
    return sum(line.startswith("refused ") for line in lines)


def _await_refusal(consortium: Consortium) -> None:
    before = _refusals(consortium)
    until(lambda: _refusals(consortium) > before, "a submission is refused")


def _cut(cursor: extensions.cursor) -> None:
    """Ends the application's connections: it makes new ones."""
    cursor.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'medpole_app'"
    )


def _go_on(consortium: Consortium, checks: Checks, known: set[str]) -> set[str]:
    """There is space again: all that was acknowledged becomes final, and more."""
    _await_more(consortium)
    now = consortium.settle(known)
    checks.check(now - known)
    return now


def _finish(consortium: Consortium, checks: Checks, known: set[str]) -> None:
    consortium.running["client"].kill()
    consortium.running["client"].wait()
    known = consortium.settle(known, without=("client",))
    checks.finish(known, consortium.genesis())
    consortium.stop_all()
