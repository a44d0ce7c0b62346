"""Where every request comes in and every answer goes out.

Each gets an id, each answer the headers that browsers obey, and whoever wants to know is told when
it is over: the access log, the metrics. Nothing is held back: a stream passes chunk by chunk.
What nobody foresaw ends here, as a code and the request's id; its text, which may hold anything,
goes nowhere.
"""

import logging
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from pathlib import Path
from secrets import token_hex

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from consortium.api.problems import internal_error
from consortium.api.schemas import Access

CLIENT_GONE = 499
NO_ROUTE = "-"
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)
Observer = Callable[[Access], None]
log = logging.getLogger("medpole.api")


class Traffic:
    """What is under way, and who is told of what is over."""

    def __init__(self, observers: Sequence[Observer] = ()) -> None:
        self._observers = observers
        self._under_way: dict[str, Scope] = {}

    def under_way(self) -> Counter[str]:
        """Requests that are not answered to the end yet, by route."""
        return Counter(route_of(scope) for scope in list(self._under_way.values()))

    def begin(self, request: str, scope: Scope) -> None:
        """A request has come in."""
        self._under_way[request] = scope

    def end(self, access: Access) -> None:
        """A request is over, once everybody has heard of it."""
        try:
            for observe in self._observers:
                observe(access)
        finally:
            del self._under_way[access.request]


class Edge:
    """The outermost of the application's middlewares."""

    def __init__(self, app: ASGIApp, traffic: Traffic) -> None:
        self._app, self._traffic = app, traffic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes one request on; ``scope["state"]`` has its ``request`` id and ``address``."""
        if scope["type"] != "http":
            return
        request, address = token_hex(8), address_of(scope)
        scope.setdefault("state", {}).update(request=request, address=address)
        answer, began = _Answer(send, scope), (time.time(), time.perf_counter())
        self._traffic.begin(request, scope)
        try:
            await self._app(scope, receive, answer)
        except ClientDisconnect:
            answer.status = answer.status or CLIENT_GONE
        except Exception as error:
            log.error("InternalError in request %s: %s", request, _where(error))
            if answer.status is not None:
                raise CutOff from None  # what has begun can only be broken off
            await internal_error(request)(scope, receive, answer)
        finally:
            _leave(scope)
            caller = scope["state"].get("caller")
            self._traffic.end(
                Access(
                    time=round(began[0], 3),
                    caller=caller and caller.name,
                    role=caller and str(caller.role),
                    address=address,
                    method=scope["method"] if scope["method"] in _METHODS else "OTHER",
                    route=route_of(scope),
                    status=answer.status or CLIENT_GONE,
                    ms=round(1000 * (time.perf_counter() - began[1]), 1),
                    bytes=answer.bytes,
                    request=request,
                )
            )


class CutOff(Exception):
    """An answer could not be sent to its end; why stands in the log, by the request's id."""


class _Answer:
    """The way out: adds the headers, counts what passes."""

    def __init__(self, send: Send, scope: Scope) -> None:
        self._send, self._scope = send, scope
        self.status: int | None = None
        self.bytes = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            _leave(self._scope)  # a stream's length is its reader's matter
            self.status = message["status"]
            headers = list(message.get("headers", ()))
            there = {name.lower() for name, _ in headers}
            headers += [header for header in _HEADERS if header[0] not in there]
            headers.append((b"x-request-id", self._scope["state"]["request"].encode()))
            message["headers"] = headers
        elif message["type"] == "http.response.body":
            self.bytes += len(message.get("body", b""))
        await self._send(message)


def _leave(scope: Scope) -> None:
    """Gives the place in the lane (`consortium.api.lane`) to whoever is next."""
    if leave := scope["state"].pop("leave", None):
        leave()


def route_of(scope: Scope) -> str:
    """The route's own form, ``/v1/ledger/blocks/{height}``: nothing that a caller wrote."""
    return getattr(scope.get("route"), "path", NO_ROUTE)


def address_of(scope: Scope) -> str | None:
    """Who asks, by address. The proxy's word for it counts on the socket in the home only.

    None: somebody on this machine, by the socket.
    """
    client = scope.get("client")
    if client is not None:
        return str(client[0])
    said = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
    try:
        return str(ip_address(said[-1].decode().rpartition(",")[2].strip())) if said else None
    except ValueError:
        return None


def _where(error: Exception) -> str:
    """The kind of an error and the line it comes from, without its text."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"
