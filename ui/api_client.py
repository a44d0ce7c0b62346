"""The consortium's HTTP API, as the portal reads it: GET only, with the reader's own token."""

import os
from collections.abc import Iterator, Mapping
from typing import Any

import httpx

API_URL = "MEDPOLE_API_URL"
TIMEOUT_S = 30.0
MOST = 200
"""The most items of one page."""
NEWEST = "newest"

Json = dict[str, Any]
Query = Mapping[str, Any]


class ApiError(Exception):
    """The API did not give what was asked: what happened, and how to resolve it."""

    def __init__(self, code: str, what: str, resolve: str, status: int = 0) -> None:
        super().__init__(code, what, resolve, status)
        self.code, self.what, self.resolve, self.status = code, what, resolve, status

    def __str__(self) -> str:
        return self.what

    @property
    def signed_out(self) -> bool:
        """Whether the token does not hold any more."""
        return self.status == 401

    @property
    def passing(self) -> bool:
        """Whether it may well be over by itself."""
        return self.status in (0, 429) or self.status >= 500


class ApiClient:
    """One API for all who are signed in. Safe to share between threads."""

    def __init__(self, url: str, transport: httpx.BaseTransport | None = None) -> None:
        # No proxy of the environment comes between: the API is on this machine.
        self._http = httpx.Client(
            base_url=url, timeout=TIMEOUT_S, trust_env=False, transport=transport
        )

    def get(self, token: str, path: str, query: Query | None = None) -> Any:
        """What a route answers, as plain JSON values.

        Raises:
            ApiError: if it does not.
        """
        return self._asked(token, path, query).json()

    def text(self, token: str, path: str) -> str:
        """A route's answer as text.

        Raises:
            ApiError: if there is none.
        """
        return self._asked(token, path, None).text

    def _asked(self, token: str, path: str, query: Query | None) -> httpx.Response:
        given = {name: value for name, value in (query or {}).items() if value is not None}
        try:
            response = self._http.get(
                f"/v1/{path}", params=given, headers={"Authorization": f"Bearer {token}"}
            )
        except httpx.TransportError as error:
            raise ApiError(
                "ApiUnreachable",
                f"the consortium's API does not answer ({type(error).__name__})",
                "this page tries again by itself; if it stays so, look at `consortium serve`, or "
                "start the portal again",
            ) from None
        if response.is_success:
            return response
        try:
            problem = dict(response.json())
        except (ValueError, TypeError):
            problem = {}
        raise ApiError(
            str(problem.get("code", f"Http{response.status_code}")),
            str(problem.get("detail", f"the API answered with status {response.status_code}")),
            str(problem.get("resolve", "try again; see the coordinator's log for the cause")),
            response.status_code,
        )


def items(client: ApiClient, token: str, path: str, most: int, **query: Any) -> Iterator[Json]:
    """The first ``most`` items of a list, over as many pages as that takes."""
    cursor, left = None, most
    while left > 0:
        page = client.get(token, path, {**query, "limit": min(left, MOST), "cursor": cursor})
        yield from page["items"]
        left -= len(page["items"])
        cursor = page["next"]
        if cursor is None:
            return


def from_environment() -> str:
    """The API's URL, as `consortium portal` hands it over.

    Raises:
        ApiError: if it is not there.
    """
    try:
        return os.environ[API_URL]
    except KeyError:
        raise ApiError(
            "ApiUnknown", "this page does not know its API", "start it with: consortium portal", 500
        ) from None
