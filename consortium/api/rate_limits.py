"""Nobody keeps the API from others: how often a caller may ask in a minute.

A bucket is one number, the time at which it is full again (the generic cell rate algorithm): a
minute's worth may come at once, then as fast as it refills, and one that is full need not be kept.
So memory is bounded by those who have asked within the last minute, and by `_MOST` of them.

| who | bucket of | requests a minute |
|---|---|---|
| an institution | its id | 20 N: one that has been away fetches block after block |
| a person | name and role | N |
| who shows no token that holds | address, of IPv6 its /64 | N / 10 |

A token that holds is never refused for what others at its address did, where one is asked for:
tokens are 256 random bits or signatures, which no rate lets anybody guess; what is limited is the
work and the noise. Streams and long waits are few requests and many open connections: so it is
limited too how many of a caller's are under way at once.
"""

import math
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from consortium.access import Caller, Role
from consortium.api.problems import too_many
from consortium.errors import TooManyRequests

REQUESTS_PER_MINUTE = 600
MOST_AT_ONCE = 50
"""Requests of a person that may be under way; of an institution 20 times as many."""
_INSTITUTIONS, _STRANGERS = 20, 0.1
_WITHOUT_TOKEN = frozenset({"/v1/genesis", "/v1/genesis/signatures", "/v1/health", "/v1/ready"})
_MINUTE_S = 60.0
_MOST = 10_000


class Buckets:
    """Buckets that hold so many requests and refill in a minute. Safe to share between threads."""

    def __init__(self, per_minute: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._cost = _MINUTE_S / max(1.0, per_minute)
        self._clock = clock
        self._lock = threading.Lock()
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def take(self, key: str) -> float:
        """Takes one request out of a bucket; how many seconds to wait if it is empty, else 0."""
        with self._lock:
            now = self._clock()
            full_at = max(now, self._full_at.get(key, now)) + self._cost
            if (wait := full_at - now - _MINUTE_S) > 1e-9:
                return wait
            self._full_at[key] = full_at
            self._full_at.move_to_end(key)
            while self._full_at and (
                len(self._full_at) > _MOST or next(iter(self._full_at.values())) <= now
            ):
                self._full_at.popitem(last=False)
            return 0.0

    def __len__(self) -> int:
        return len(self._full_at)


class RateLimits:
    """The limits of one API, from ``per_minute`` for a person."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._people = Buckets(per_minute, clock)
        self._institutions = Buckets(per_minute * _INSTITUTIONS, clock)
        self._strangers = Buckets(per_minute * _STRANGERS, clock)
        self._lock = threading.Lock()
        self._under_way: Counter[Caller] = Counter()

    def caller(self, caller: Caller) -> None:
        """Counts a request of somebody who is known.

        Raises:
            TooManyRequests: if there were too many.
        """
        member = caller.role is Role.INSTITUTION
        buckets = self._institutions if member else self._people
        if wait := buckets.take(f"{caller.role} {caller.name}"):
            raise _too_many(wait)

    def begin(self, caller: Caller) -> Callable[[], None]:
        """Counts a request that is under way; returns how to say that it is over.

        Raises:
            TooManyRequests: if as many are as may be.
        """
        most = MOST_AT_ONCE * (_INSTITUTIONS if caller.role is Role.INSTITUTION else 1)
        with self._lock:
            if self._under_way[caller] >= most:
                raise TooManyRequests(
                    f"{most} requests are under way already",
                    "end streams that nobody reads, then try again",
                    1,
                )
            self._under_way[caller] += 1

        def over() -> None:
            with self._lock:
                self._under_way[caller] -= 1
                if not self._under_way[caller]:
                    del self._under_way[caller]

        return over

    def stranger(self, address: str | None) -> TooManyRequests | None:
        """Counts a request of somebody who is not known; the error to answer with, or None.

        Whoever uses the socket in the home has the coordinator's account, and no limit.
        """
        if address is None:
            return None
        wait = self._strangers.take(_network(address))
        return _too_many(wait) if wait else None


class StrangersLimit:
    """Counts requests without a token before they are looked at, refused ones with one after.

    Where no token is asked for, one that is shown changes nothing.
    """

    def __init__(self, app: ASGIApp, limits: RateLimits) -> None:
        self._app, self._limits = app, limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes one request on."""
        state, answered = scope["state"], False

        async def watched(message: Message) -> None:
            nonlocal answered
            if answered:
                return
            starts = message["type"] == "http.response.start"
            if starts and 400 <= message["status"] < 500 and "caller" not in state:
                error = self._limits.stranger(state["address"])
                if error is not None:
                    answered = True
                    return await too_many(error)(scope, receive, send)
            await send(message)

        shown = any(name == b"authorization" for name, _ in scope["headers"])
        if shown and scope["path"] not in _WITHOUT_TOKEN:
            try:
                return await self._app(scope, receive, watched)
            finally:
                if "over" in state:  # of a caller that is known
                    state["over"]()
        error = self._limits.stranger(state["address"])
        await (self._app if error is None else too_many(error))(scope, receive, send)


def _too_many(wait: float) -> TooManyRequests:
    after_s = math.ceil(wait)
    return TooManyRequests(
        "there were more requests within a minute than are answered",
        f"wait {after_s} s; see `consortium serve --requests-per-minute`",
        after_s,
    )


def _network(address: str) -> str:
    """Whoever has an IPv6 address has 2**64 of them."""
    try:
        found = ip_address(address)
    except ValueError:
        return address
    if isinstance(found, IPv6Address):
        return str(found.ipv4_mapped or int(found) >> 64)
    return address
