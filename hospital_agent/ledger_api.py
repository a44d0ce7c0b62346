"""The consortium's API as the witness uses it: outbound calls, with its own signed token."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx

from consortium.api.tokens import sign_token
from consortium.api.wire import block_from_wire, cosignatures_from_wire
from hospital_agent.errors import ApiUnreachable
from hospital_agent.folder import HospitalFolder
from ledger.block import Block
from ledger.errors import CosignatureConflict, LedgerError
from ledger.note import Checkpoint, SignedHead

T = TypeVar("T")
# A key that is not in force; and where too many such requests came from here.
_ANOTHER_KEY = (httpx.codes.UNAUTHORIZED, httpx.codes.TOO_MANY_REQUESTS)


@dataclass(frozen=True)
class Heads:
    """What members have co-signed: their newest heads, and second cosignatures by one key."""

    newest: tuple[tuple[str, SignedHead], ...] = ()
    conflicts: tuple[tuple[int, str], ...] = ()


class LedgerApi:
    """A client for one hospital. Nothing that it returns is verified."""

    def __init__(self, client: httpx.Client, folder: HospitalFolder) -> None:
        self._client = client
        self._folder = folder

    @property
    def folder(self) -> HospitalFolder:
        """Whose client it is."""
        return self._folder

    def newest(self) -> Checkpoint:
        """The checkpoint of the newest block, final or not."""
        return self._read(lambda: Checkpoint.parse(self._json("/v1/ledger/head")["checkpoint"]))

    def block(self, height: int) -> tuple[Block, list[str]]:
        """A whole block, and the cosignatures on it so far."""
        content = self._json(f"/v1/ledger/blocks/{height}")
        return block_from_wire(content), cosignatures_from_wire(content)

    def consistency_proof(self, old: int, size: int) -> list[bytes]:
        """Proof that the tree of ``old`` leaves is the beginning of that of ``size``."""
        path = f"/v1/ledger/consistency?old={old}&size={size}"
        return self._read(lambda: [bytes.fromhex(step) for step in self._json(path)["proof"]])

    def heads(self) -> Heads:
        """What the members have co-signed."""
        found = self._json("/v1/ledger/heads")
        return self._read(
            lambda: Heads(
                tuple((str(h["institution"]), SignedHead.parse(h["note"])) for h in found["heads"]),
                tuple((int(c["height"]), str(c["line"])) for c in found["conflicts"]),
            )
        )

    def send_cosignature(self, height: int, line: str) -> None:
        """Hands a cosignature in; repeats are harmless.

        Raises:
            CosignatureConflict: if another one by this hospital is there already.
        """
        self._call("POST", f"/v1/ledger/blocks/{height}/cosignatures", {"line": line})

    def submit(self, entry: bytes, disclosure: dict[str, str] | None = None) -> None:
        """Hands in a change, an approval, an erasure or an evaluation; repeats are harmless."""
        body = {"entry": entry.decode(), "disclosure": disclosure}
        self._call("POST", "/v1/ledger/submissions", body)

    def put_transport(self, form: dict[str, str]) -> None:
        """Hands in the SuperNode's public key, with the proof that it is held."""
        self._call("PUT", "/v1/institutions/self/transport", form)

    def put_offers(self, offers: dict[str, int]) -> None:
        """Says in public for which tasks this hospital has patients, and how many it declares."""
        self._call("PUT", "/v1/institutions/self/offers", {"tasks": offers})

    def changes(self, known: Mapping[str, int], seconds: float) -> dict[str, int]:
        """Waits until a count differs from what is known, or the time is over; the counts then.

        ``block`` counts blocks, ``messages`` what was sent to nodes; both begin anew with the API.
        """
        asked = "&".join(f"{name}={count}" for name, count in known.items())
        found = self._json(f"/v1/ledger/changes?{asked}&seconds={seconds}")
        return self._read(lambda: {str(name): int(found[name]) for name in found})

    def fetch(self, kind: str, digest: str) -> bytes:
        """Content by its digest; kind is ``content`` or ``models``."""
        return self._call("GET", f"/v1/{kind}/{digest}", None).content

    def _json(self, path: str) -> Any:
        try:
            return self._call("GET", path, None).json()
        except ValueError:
            raise _malformed() from None

    @staticmethod
    def _read(make: Callable[[], T]) -> T:
        try:
            return make()
        except (KeyError, TypeError, ValueError, AttributeError, LedgerError):
            raise _malformed() from None

    def _call(self, method: str, path: str, body: dict[str, Any] | None) -> httpx.Response:
        """One request; keys that are being rotated are tried too, as either may be in force."""
        response: httpx.Response | None = None
        for key in self._folder.api_keys():
            token = sign_token(self._folder.institution, self._folder.ledger or "", key)
            headers = {"Authorization": f"Bearer {token}"}
            try:
                response = self._client.request(method, path, json=body, headers=headers)
            except httpx.HTTPError:
                response = None
                break
            if response.status_code not in _ANOTHER_KEY:
                break
        if response is not None and response.is_success:
            return response
        if response is not None and response.status_code == httpx.codes.CONFLICT:
            raise CosignatureConflict(
                "another cosignature by this hospital stands on that block",
                "two agents sign with one key, or one was restored: rotate this hospital's keys",
            )
        status = "no answer" if response is None else f"{response.status_code}{_said(response)}"
        raise ApiUnreachable(
            f"the consortium's API did not accept {method} {path} ({status})",
            "check that it runs, that this hospital is a member, and that the clocks agree",
        )


def _said(response: httpx.Response) -> str:
    """The API's own code and reason, if it gave any."""
    try:
        content = response.json()
        return f" {content['code']}: {content['detail']}"
    except (ValueError, KeyError, TypeError):
        return ""


def _malformed() -> ApiUnreachable:
    return ApiUnreachable(
        "the consortium's API answered something else", "run the same version on both sides"
    )
