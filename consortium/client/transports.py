"""The two ways in which a plan's steps are taken: blocking, and asynchronously (httpx)."""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
    ExitStack,
)
from typing import Any, TypeVar

import anyio
import httpx

from consortium.client.connection import Connection, failed
from consortium.client.plan import (
    Answer,
    Done,
    Emit,
    Flow,
    Get,
    Line,
    Listen,
    Plan,
    Query,
    Step,
    Wait,
    Work,
    advance,
)

T = TypeVar("T")
Item = TypeVar("Item")
Outcome = tuple[Any, Exception | None]


class SyncTransport:
    """Blocks. Safe to share between threads."""

    def __init__(self, connection: Connection) -> None:
        path = connection.socket
        self.http = httpx.Client(
            transport=httpx.HTTPTransport(uds=path) if path else None, **connection.options
        )

    def run(self, plan: Plan[T]) -> T:
        """A plan's result."""
        with _SyncSteps(self.http) as steps:
            steps.callback(plan.close)
            at = advance(plan)
            while not isinstance(at, Done):
                at = advance(plan, *steps.take(at))
            return at.value

    def iterate(self, flow: Flow[Item]) -> Generator[Item, None, None]:
        """A flow's items."""
        with _SyncSteps(self.http) as steps:
            steps.callback(flow.plan.close)
            at = advance(flow.plan)
            while not isinstance(at, Done):
                if isinstance(at, Emit):
                    yield at.item
                    at = advance(flow.plan)
                else:
                    at = advance(flow.plan, *steps.take(at))


class AsyncTransport:
    """Lets others go on while it waits, under asyncio or trio."""

    def __init__(self, connection: Connection) -> None:
        path = connection.socket
        self.http = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=path) if path else None, **connection.options
        )

    async def run(self, plan: Plan[T]) -> T:
        """A plan's result."""
        async with _AsyncSteps(self.http) as steps:
            steps.callback(plan.close)
            at = advance(plan)
            while not isinstance(at, Done):
                at = advance(plan, *await steps.take(at))
            return at.value

    async def iterate(self, flow: Flow[Item]) -> AsyncGenerator[Item, None]:
        """A flow's items."""
        async with _AsyncSteps(self.http) as steps:
            steps.callback(flow.plan.close)
            at = advance(flow.plan)
            while not isinstance(at, Done):
                if isinstance(at, Emit):
                    yield at.item
                    at = advance(flow.plan)
                else:
                    at = advance(flow.plan, *await steps.take(at))


class _SyncSteps(ExitStack):
    """Takes the steps of one plan; holds the stream that is open."""

    def __init__(self, http: httpx.Client) -> None:
        super().__init__()
        self._http = http
        self._lines: Iterator[str] = iter(())
        self._stream = self.enter_context(ExitStack())

    def take(self, step: Step) -> Outcome:
        try:
            return self._take(step), None
        except httpx.HTTPError as error:
            return None, failed(error)
        except Exception as error:
            return None, error

    def _take(self, step: Step) -> Any:
        match step:
            case Get():
                with self._stream_of(step.path, step.silence_s, step.asked) as came:
                    if step.into is None or came.status_code != 200:
                        return Answer(came.status_code, came.headers, came.read())
                    step.into.writelines(came.iter_bytes())
                    return Answer(came.status_code, came.headers)
            case Listen():
                self._stream.close()
                opened = self._stream_of(step.path, step.silence_s)
                came = self._stream.enter_context(opened)
                self._lines = came.iter_lines()
                body = b"" if came.status_code == 200 else came.read()
                return Answer(came.status_code, came.headers, body)
            case Line():
                return next(self._lines, None)
            case Wait():
                return time.sleep(step.seconds)
            case Work():
                return step.function()
            case Emit():
                raise AssertionError("a result is asked of a flow")

    def _stream_of(
        self, path: str, silence_s: float | None, query: Query | None = None
    ) -> AbstractContextManager[httpx.Response]:
        timeout = limited(self._http.timeout, silence_s)
        return self._http.stream("GET", path, params=query, timeout=timeout)


class _AsyncSteps(AsyncExitStack):
    """Takes the steps of one plan; holds the stream that is open."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        super().__init__()
        self._http = http
        self._lines: AsyncIterator[str] | None = None
        self._stream = AsyncExitStack()
        self.push_async_callback(self._stream.aclose)

    async def take(self, step: Step) -> Outcome:
        try:
            return await self._take(step), None
        except httpx.HTTPError as error:
            return None, failed(error)
        except Exception as error:
            return None, error

    async def _take(self, step: Step) -> Any:
        match step:
            case Get():
                async with self._stream_of(step.path, step.silence_s, step.asked) as came:
                    if step.into is None or came.status_code != 200:
                        return Answer(came.status_code, came.headers, await came.aread())
                    async for part in came.aiter_bytes():
                        step.into.write(part)
                    return Answer(came.status_code, came.headers)
            case Listen():
                await self._stream.aclose()
                opened = self._stream_of(step.path, step.silence_s)
                came = await self._stream.enter_async_context(opened)
                self._lines = came.aiter_lines()
                body = b"" if came.status_code == 200 else await came.aread()
                return Answer(came.status_code, came.headers, body)
            case Line():
                assert self._lines is not None
                return await anext(self._lines, None)
            case Wait():
                return await anyio.sleep(step.seconds)
            case Work():
                return await anyio.to_thread.run_sync(step.function)
            case Emit():
                raise AssertionError("a result is asked of a flow")

    def _stream_of(
        self, path: str, silence_s: float | None, query: Query | None = None
    ) -> AbstractAsyncContextManager[httpx.Response]:
        timeout = limited(self._http.timeout, silence_s)
        return self._http.stream("GET", path, params=query, timeout=timeout)


def limited(timeout: httpx.Timeout, silence_s: float | None) -> httpx.Timeout:
    """The usual time limits, but for how long nothing may come."""
    if silence_s is None:
        return timeout
    return httpx.Timeout(**{**timeout.as_dict(), "read": silence_s})
