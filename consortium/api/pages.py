"""Lists come in pages: a cursor says where the next one begins, and deep ones cost no more."""

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Annotated, TypeVar

from fastapi import Query

from consortium.api.schemas import Page

MOST = 200
T = TypeVar("T")

Limit = Annotated[int, Query(ge=1, le=MOST, description="the most items of one page")]
Cursor = Annotated[
    str | None,
    Query(
        pattern=r"^[0-9]{1,15}(-[0-9]{1,9})?$", description="`next` of the page before",
        examples=["204"],
    ),
]  # fmt: skip


class Order(StrEnum):
    """From which end a list is read."""

    OLDEST = "oldest"
    NEWEST = "newest"


def past(cursor: str | None) -> int | None:
    """The index, height or position that a page comes after."""
    return None if cursor is None else int(cursor.partition("-")[0])


def page_of(found: Sequence[T], limit: int, cursor: Callable[[T], str]) -> Page[T]:
    """A page out of one item more than it holds, if there are so many."""
    items = list(found[:limit])
    return Page[T](items=items, next=cursor(items[-1]) if len(found) > limit else None)


def page_of_all(found: Sequence[T], limit: int, cursor: str | None, order: Order) -> Page[T]:
    """A page out of a list that is short enough to be in memory; the cursor is a position.

    Positions count from the oldest, whichever end the list is read from: what comes moves none.
    """
    place = past(cursor)
    if order is Order.NEWEST:
        end = len(found) if place is None else min(place, len(found))
        first = max(0, end - limit)
        return Page[T](items=list(found[first:end])[::-1], next=str(first) if first else None)
    first = place or 0
    more = first + limit < len(found)
    return Page[T](
        items=list(found[first : first + limit]), next=str(first + limit) if more else None
    )
