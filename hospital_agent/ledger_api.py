"""The consortium's API as the witness uses it: outbound calls, with its own signed token."""

from typing import Any

import httpx

from consortium.api.tokens import sign_token
from consortium.api.wire import block_from_wire
from hospital_agent.errors import ApiUnreachable
from hospital_agent.folder import HospitalFolder
from ledger.block import Block
from ledger.keys import Role


class LedgerApi:
    """A client for one hospital."""

    def __init__(self, client: httpx.Client, folder: HospitalFolder) -> None:
        self._client = client
        self._folder = folder

    def newest_height(self) -> int:
        """Height of the newest block, final or not."""
        try:
            return int(self._json("/v1/ledger/head")["height"])
        except (KeyError, TypeError, ValueError):
            raise _malformed() from None

    def block(self, height: int) -> Block:
        """A whole block. Nothing in it is trusted before it is verified."""
        return block_from_wire(self._json(f"/v1/ledger/blocks/{height}"))

    def send_cosignature(self, height: int, line: str) -> None:
        """Hands a cosignature in; repeats are harmless."""
        self._call("POST", f"/v1/ledger/blocks/{height}/cosignatures", {"line": line})

    def fetch(self, kind: str, digest: str) -> bytes:
        """Content by its digest; kind is ``content`` or ``models``."""
        return self._get(f"/v1/{kind}/{digest}").content

    def _json(self, path: str) -> Any:
        try:
            return self._get(path).json()
        except ValueError:
            raise _malformed() from None

    def _get(self, path: str) -> httpx.Response:
        return self._call("GET", path, None)

    def _call(self, method: str, path: str, body: dict[str, Any] | None) -> httpx.Response:
        token = sign_token(
            self._folder.institution, self._folder.ledger or "", self._folder.keys[Role.API]
        )
        try:
            response = self._client.request(
                method, path, json=body, headers={"Authorization": f"Bearer {token}"}
            )
            response.raise_for_status()
        except httpx.HTTPError as error:
            status = getattr(getattr(error, "response", None), "status_code", "no answer")
            raise ApiUnreachable(
                f"the consortium's API did not accept {method} {path} ({status})",
                "check that it runs, that this hospital is a member, and that the clocks agree",
            ) from None
        return response


def _malformed() -> ApiUnreachable:
    return ApiUnreachable(
        "the consortium's API answered something else", "run the same version on both sides"
    )
