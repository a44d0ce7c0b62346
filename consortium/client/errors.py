"""What the API refuses, or does not answer. Every error has the server's code and its words."""

import json
from collections.abc import Mapping


class ApiError(Exception):
    """The API did not give what was asked: what happened, and how to resolve it.

    ``code`` has a page in the documentation; ``status`` is HTTP's, None where nothing answered.
    """

    def __init__(self, code: str, what: str, resolve: str, status: int | None = None) -> None:
        super().__init__(code, what, resolve, status)  # all, so that it survives pickling
        self.code, self.what, self.resolve, self.status = code, what, resolve, status

    def __str__(self) -> str:
        return f"{self.code}: {self.what}. How to resolve: {self.resolve}"


class Invalid(ApiError):
    """The request is not what its route takes, or contradicts what is there."""


class NotAllowed(ApiError):
    """No token, one that does not hold, or one whose role may not do this."""


class NotFound(ApiError):
    """There is no such thing."""


class TooMany(ApiError):
    """Asked more often than the API answers, also after waiting as long as it said."""


class Failed(ApiError):
    """An error inside the API, whose log says more."""


class Unsafe(ApiError):
    """Others could read the token on its way, so nothing was sent."""


class Unreachable(ApiError):
    """The API, or its database, does not answer, or something else answers in its place."""


_KINDS: Mapping[int, type[ApiError]] = {
    401: NotAllowed, 403: NotAllowed, 404: NotFound, 429: TooMany, 500: Failed, 502: Unreachable,
    503: Unreachable, 504: Unreachable,
}  # fmt: skip


def refused(status: int, body: bytes) -> ApiError:
    """The error in an answer that is no success: problem details (RFC 9457), or a proxy's page."""
    try:
        problem = dict(json.loads(body))
    except (ValueError, TypeError):
        problem = {}
    kind = _KINDS.get(status, Invalid if status < 500 else Failed)
    return kind(
        str(problem.get("code", f"Http{status}")),
        str(problem.get("detail", f"the answer has status {status}")),
        str(problem.get("resolve", "ask the consortium's admin")),
        status,
    )


def unreachable(why: str) -> Unreachable:
    """Nothing answers, or not as this API does."""
    return Unreachable(
        "ApiUnreachable", f"the consortium's API does not answer as it should ({why})",
        "check the address and the network; if others cannot reach it either, tell its admin",
    )  # fmt: skip
