"""The consortium's HTTP API, as the portal reads it: GET only, with the reader's token."""

import os
from collections.abc import Mapping
from typing import Any

import httpx

API_URL, API_TOKEN = "MEDPOLE_API_URL", "MEDPOLE_API_TOKEN"
TIMEOUT_S = 30.0
BLOCKS_AT_ONCE = 100

Json = dict[str, Any]


class ApiError(Exception):
    """The API did not give what was asked: what happened, and how to resolve it."""

    def __init__(self, code: str, what: str, resolve: str) -> None:
        super().__init__(code, what, resolve)
        self.code, self.what, self.resolve = code, what, resolve

    def __str__(self) -> str:
        return self.what


class ApiClient:
    """One API under one token. Safe to share between threads."""

    def __init__(self, url: str, token: str) -> None:
        # No proxy of the environment comes between: the API is on this machine.
        self._http = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=TIMEOUT_S,
            trust_env=False,
        )

    def head(self) -> Json:
        """The newest block, and how many institutions have co-signed it."""
        return dict(self._get("/v1/ledger/head").json())

    def institutions(self) -> list[Json]:
        """The members in force."""
        return list(self._get("/v1/institutions").json())

    def entries(self, type: str, job: str | None = None) -> list[Json]:
        """Bodies of all records of a type, of one job or all, in ledger order."""
        query = {"type": type} if job is None else {"type": type, "job": job}
        return list(self._get("/v1/ledger/entries", query).json())

    def blocks(self, first: int, limit: int = BLOCKS_AT_ONCE) -> list[Json]:
        """Summaries of blocks from a height on, oldest first."""
        return list(self._get("/v1/ledger/blocks", {"from": first, "limit": limit}).json())

    def record(self, index: int) -> Json:
        """One record by its index in the ledger, with its signatures."""
        return dict(self._get(f"/v1/ledger/records/{index}").json())

    def model(self, name: str) -> bytes:
        """A model's safetensors file, by the model's hash."""
        return self._get(f"/v1/models/{name}").content

    def _get(self, path: str, query: Mapping[str, str | int] | None = None) -> httpx.Response:
        try:
            response = self._http.get(path, params=query)
        except httpx.TransportError as error:
            raise ApiError(
                "ApiUnreachable",
                f"the consortium's API does not answer ({type(error).__name__})",
                "start the portal again: consortium portal",
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
            str(problem.get("resolve", "start the portal again; see its terminal for the cause")),
        )


def from_environment() -> tuple[str, str]:
    """The API's URL and token, as `consortium portal` hands them over.

    Raises:
        ApiError: if they are not there.
    """
    try:
        return os.environ[API_URL], os.environ[API_TOKEN]
    except KeyError:
        raise ApiError(
            "ApiUnknown", "this page does not know its API", "start it with: consortium portal"
        ) from None
