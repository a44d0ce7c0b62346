"""Whoever waits is told, between processes, and told once more after the database was away."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from ledger_examples import Consortium
from sqlalchemy import Engine, text

from ledger.changes import Changes, Happened, notify
from ledger.store import LedgerStore


@pytest.fixture
def listening(engine: Engine) -> Iterator[Changes]:
    with Changes(engine) as changes:
        # It listens from its first "everything may have changed" on.
        assert changes.wait(Happened.MESSAGES, 0, 10) == 1
        yield changes


def tell(engine: Engine, what: Happened) -> None:
    with engine.begin() as connection:
        notify(connection, what)


@pytest.mark.parametrize("what", list(Happened))
def test_one_thing_that_happens_changes_one_count(
    engine: Engine, listening: Changes, what: Happened
) -> None:
    before = listening.counts
    tell(engine, what)
    assert listening.wait(what, before[what], 10) == before[what] + 1
    assert listening.counts == {**before, what: before[what] + 1}


def test_nothing_happens_and_nothing_is_told(listening: Changes) -> None:
    """A listener that fails again and again would tell everything each time it starts."""
    before, calls = listening.counts, []
    listening.subscribe(lambda: calls.append(1))
    assert listening.wait(Happened.BLOCK, before[Happened.BLOCK], 2.5) == before[Happened.BLOCK]
    assert (listening.counts, calls) == (before, [])


def test_what_is_rolled_back_has_not_happened(engine: Engine, listening: Changes) -> None:
    before = listening.counts[Happened.BLOCK]
    with suppress(RuntimeError), engine.begin() as connection:
        notify(connection, Happened.BLOCK)
        raise RuntimeError
    tell(engine, Happened.COSIGNED)
    listening.wait(Happened.COSIGNED, 1, 10)
    assert listening.counts[Happened.BLOCK] == before


def test_a_listener_that_was_cut_off_tells_everything_once_it_is_back(
    engine: Engine, admin_engine: Engine, listening: Changes
) -> None:
    before = listening.counts
    with admin_engine.connect() as connection:
        ended = connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE query LIKE 'LISTEN%' AND datname = :name"
            ),
            {"name": engine.url.database},
        ).scalars()
        assert list(ended) == [True]
    for what in Happened:
        assert listening.wait(what, before[what], 20) > before[what]
    listening_again(engine, listening)


def listening_again(engine: Engine, listening: Changes) -> None:
    """Told of the next thing too: it listens anew."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        before = listening.counts
        tell(engine, Happened.COSIGNED)
        listening.wait(Happened.COSIGNED, before[Happened.COSIGNED], 2)
        now = listening.counts
        if now[Happened.COSIGNED] > before[Happened.COSIGNED] and (
            now[Happened.BLOCK] == before[Happened.BLOCK]
        ):
            return
    raise AssertionError("it does not listen any more")


def test_subscribers_are_called_until_they_end_it(engine: Engine, listening: Changes) -> None:
    called = threading.Event()
    end: Callable[[], None] = listening.subscribe(called.set)
    tell(engine, Happened.BLOCK)
    assert called.wait(10)
    end()
    called.clear()
    before = listening.counts[Happened.BLOCK]
    tell(engine, Happened.BLOCK)
    listening.wait(Happened.BLOCK, before, 10)
    assert not called.is_set()


def test_a_ledger_tells_of_blocks_cosignatures_and_of_what_became_final(
    engine: Engine, listening: Changes
) -> None:
    four, store = Consortium(4), LedgerStore(engine)
    store.found(four.founding_entry, four.coordinator)
    lines = four.cosign(store.checkpoint(0))
    for count, line in enumerate(lines[:3], start=1):
        before = listening.counts
        store.add_cosignature(0, line)
        cosigned = listening.wait(Happened.COSIGNED, before[Happened.COSIGNED], 10)
        assert cosigned == before[Happened.COSIGNED] + 1
        final = count == 3  # of four, three are the quorum
        assert listening.counts[Happened.BLOCK] == before[Happened.BLOCK] + int(final)
        store.add_cosignature(0, line)  # a repeat is no news
    before = listening.counts
    store.propose([four.entry()], four.coordinator)
    assert listening.wait(Happened.BLOCK, before[Happened.BLOCK], 10) == before[Happened.BLOCK] + 1
    assert listening.counts[Happened.COSIGNED] == before[Happened.COSIGNED]
