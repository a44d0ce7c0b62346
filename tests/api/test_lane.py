"""People wait for one another; while a job runs they leave most of a core alone."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

from consortium.api.lane import SHARE, WIDTH, Lane


def test_a_few_at_a_time_in_order() -> None:
    inside: list[int] = []
    entered: list[int] = []

    async def visit(lane: Lane, number: int) -> None:
        leave = await lane.enter()
        inside.append(number)
        entered.append(number)
        assert len(inside) <= WIDTH
        await asyncio.sleep(0)
        inside.remove(number)
        leave()

    run(lambda lane: [visit(lane, number) for number in range(40)])
    assert entered == list(range(40))


def test_while_a_job_runs_one_at_a_time_and_then_rest() -> None:
    busy = 0.0

    async def visit(lane: Lane) -> None:
        nonlocal busy
        leave = await lane.enter()
        began = time.monotonic()
        await asyncio.sleep(0.01)
        busy += time.monotonic() - began
        leave()

    began = time.monotonic()
    run(lambda lane: [visit(lane) for _ in range(6)], running=True)
    took = time.monotonic() - began
    assert busy < 1.5 * SHARE * took  # nobody rests after the last one


def test_who_goes_away_keeps_no_place() -> None:
    async def all_of_it() -> None:
        lane = Lane(lambda: False)
        places = [await lane.enter() for _ in range(WIDTH)]
        gone, let_in, last = (asyncio.create_task(lane.enter()) for _ in range(3))
        await asyncio.sleep(0)
        gone.cancel()
        places[0]()
        let_in.cancel()  # before it has heard that it is its turn
        places[1]()
        (await last)()
        for leave in places[2:]:
            leave()
        await asyncio.wait_for(asyncio.gather(*(lane.enter() for _ in range(WIDTH))), 5)

    asyncio.run(all_of_it())


def run(visits: Callable[[Lane], list[Coroutine[Any, Any, None]]], running: bool = False) -> None:
    async def all_of_them() -> None:
        await asyncio.gather(*visits(Lane(lambda: running)))

    asyncio.run(all_of_them())
