"""Methods that exist once and serve both ways of calling.

A method is written once, as a plan (`consortium.client.plan`). Read from a blocking object it gives
the plan's result, or a generator of a flow's items; from an asynchronous one an awaitable, or an
asynchronous generator. The type checker sees the same.
"""

import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterator
from functools import wraps
from types import GenericAlias
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, get_args, overload

from consortium.client.plan import Flow, Plan
from consortium.client.transports import AsyncTransport, SyncTransport

P = ParamSpec("P")
T = TypeVar("T")
Item = TypeVar("Item")


class Bound:
    """Something of one API: of a ledger with the fingerprint ``genesis``, where it is pinned."""

    def __init__(self, genesis: str | None, name: str = "") -> None:
        self._genesis, self._name = genesis, name

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._name!r})"


class Sync(Bound):
    """Whose methods block."""

    def __init__(self, transport: SyncTransport, genesis: str | None, name: str = "") -> None:
        super().__init__(genesis, name)
        self._transport = transport


class Async(Bound):
    """Whose methods are awaited."""

    def __init__(self, transport: AsyncTransport, genesis: str | None, name: str = "") -> None:
        super().__init__(genesis, name)
        self._transport = transport


class call(Generic[P, T]):  # noqa: N801 - a decorator, as `property` is
    """A method that gives one result: ``T``, or ``Awaitable[T]``."""

    def __init__(self, make: Callable[Concatenate[Any, P], Plan[T]]) -> None:
        self._make, self.__doc__ = make, make.__doc__

    @overload
    def __get__(self, at: Sync, owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, at: Async, owner: type) -> Callable[P, Awaitable[T]]: ...
    @overload
    def __get__(self, at: None, owner: type) -> "call[P, T]": ...
    def __get__(self, at: Sync | Async | None, owner: type) -> Any:
        if at is None:
            return self
        return _bound(
            self._make, at, at._transport.run, None if isinstance(at, Sync) else Awaitable
        )


class listing(Generic[P, Item]):  # noqa: N801
    """A method that gives items, each when it is asked for."""

    def __init__(self, make: Callable[Concatenate[Any, P], Flow[Item]]) -> None:
        self._make, self.__doc__ = make, make.__doc__

    @overload
    def __get__(self, at: Sync, owner: type) -> Callable[P, Generator[Item, None, None]]: ...
    @overload
    def __get__(self, at: Async, owner: type) -> Callable[P, AsyncGenerator[Item, None]]: ...
    @overload
    def __get__(self, at: None, owner: type) -> "listing[P, Item]": ...
    def __get__(self, at: Sync | Async | None, owner: type) -> Any:
        if at is None:
            return self
        kind = Iterator if isinstance(at, Sync) else AsyncIterator
        return _bound(self._make, at, at._transport.iterate, kind)


def _bound(
    make: Callable[..., Any], at: Bound, take: Callable[[Any], Any], kind: Any | None
) -> Any:
    @wraps(make)
    def method(*arguments: Any, **named: Any) -> Any:
        return take(make(at, *arguments, **named))

    written = inspect.signature(make)
    given = written.return_annotation  # a text, where its type is not imported
    if not isinstance(given, str):
        given = get_args(given)[-1]
        given = GenericAlias(kind, (given,)) if kind else given
    method.__signature__ = written.replace(  # type: ignore[attr-defined]  # what `help` shows
        parameters=list(written.parameters.values())[1:], return_annotation=given
    )
    return method
