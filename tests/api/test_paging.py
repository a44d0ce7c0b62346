"""Pages of lists that grow while they are read, and looks that are shared."""

import asyncio
import threading

from consortium.api.events import _Looks
from consortium.api.pages import Order, page_of_all


def test_what_comes_meanwhile_moves_nothing() -> None:
    items = list(range(5))
    page = page_of_all(items, 2, None, Order.NEWEST)
    assert page.items == [4, 3]
    items += [5, 6]
    page = page_of_all(items, 2, page.next, Order.NEWEST)
    assert page.items == [2, 1]
    page = page_of_all(items, 2, page.next, Order.NEWEST)
    assert (page.items, page.next) == ([0], None)
    assert page_of_all([], 2, None, Order.NEWEST).items == []
    assert page_of_all(items, 2, "99", Order.OLDEST).items == []


def test_however_many_ask_there_is_one_look_and_one_that_waits() -> None:
    looked: list[int] = []
    go_on = threading.Event()

    def look() -> list[tuple[str, str]]:
        looked.append(len(looked))
        assert go_on.wait(10)
        return [("head", str(looked[-1]))]

    async def ask() -> None:
        looks = _Looks(look)
        early = [asyncio.create_task(looks.take(True)) for _ in range(50)]
        while not looked:
            await asyncio.sleep(0)
        late = [asyncio.create_task(looks.take(True)) for _ in range(50)]
        await asyncio.sleep(0)
        early.pop().cancel()
        go_on.set()
        assert {found for [(_, found)] in await asyncio.gather(*early)} == {"0"}
        assert {found for [(_, found)] in await asyncio.gather(*late)} == {"1"}
        assert await looks.take(False) == [("head", "1")]

    asyncio.run(ask())
    assert looked == [0, 1]
