"""Who gets through to the SuperLink: a lock that Flower's own ports lack.

`/v1/fleet/*` is for the nodes of members in force: Flower checks a node's signature, the gate
whether the ledger still has its institution. `/v1/control/*` and `/v1/runtime/*` are for whoever
shows the coordinator's secret. Everything else answers 404. What is refused is put on record.

The list of nodes is a file that the coordinator writes (`write_nodes`), read again when it changes.
"""

import base64
import binascii
import hmac
import json
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from pathlib import Path
from typing import Any, Final

from consortium.home import write_json

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

SECRET_HEADER: Final = "x-medpole-coordinator"  # noqa: S105 (its name)
PUBLIC_KEY_HEADER: Final = "flwr-public-key"
MEMBER, PENDING, SUSPENDED, REMOVED = "member", "pending", "suspended", "removed"
_REFUSALS = {
    PENDING: (
        "InstitutionPending",
        "the members have not approved this institution yet",
        "wait for them; nothing has to be typed here",
    ),
    SUSPENDED: ("InstitutionSuspended", "this institution is suspended", "ask the members"),
    REMOVED: ("InstitutionRemoved", "this institution has left", "enrol it anew, by another id"),
    "": ("NodeUnknown", "no member announced this node's key", "start `hospital-agent start`"),
}
_ONLINE = (
    "NodeAlreadyOnline", "a node with this key is online, or was a moment ago",
    "two agents never share a key: stop one; after a crash wait ten seconds",
)  # fmt: skip
_ACTIVATION = "/v1/fleet/activate-node"
_REPEAT_S, _MOST_TOLD = 60.0, 100  # one refused node is put on record once a minute


def write_nodes(path: Path, nodes: Mapping[bytes, tuple[str, str]]) -> None:
    """Writes which institution each public key is of, and that one's state."""
    write_json(path, {base64.b64encode(k).decode(): list(nodes[k]) for k in sorted(nodes)})


class Gate:
    """ASGI middleware in front of Flower's SuperLink.

    Args:
        app: the SuperLink.
        nodes: the file that `write_nodes` writes.
        secret: the coordinator's.
        on_refusal: told the code, the institution if known, and the caller's address.
    """

    def __init__(
        self, app: App, nodes: Path, secret: str, on_refusal: Callable[[str, str, str], None]
    ) -> None:
        self._app, self._path, self._secret = app, nodes, secret
        self._on_refusal = on_refusal
        self._nodes: dict[str, list[str]] = {}
        self._stamp: tuple[int, int] | None = None
        self._told: dict[tuple[str, ...], float] = {}
        self._activated: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets a request through, or answers it."""
        if scope["type"] == "http" and (refused := self._refusal(scope)) is not None:
            await _answer(send, *refused)
            return
        if scope["type"] == "http" and scope["path"] == _ACTIVATION:
            await self._activate(scope, receive, send)
            return
        await self._app(scope, receive, send)

    async def _activate(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Names what Flower only refuses: a second node with the key of one that is online."""
        key, refused = _public_key(scope), False

        async def watched(message: MutableMapping[str, Any]) -> None:
            nonlocal refused
            if message["type"] == "http.response.start":
                if message["status"] < 400:
                    self._activated.add(key)
                refused = message["status"] >= 400 and key in self._activated
            if not refused:
                await send(message)

        await self._app(scope, receive, watched)
        if refused:
            self._record(_ONLINE[0], self._node(key)[0], scope)
            await _answer(send, 409, *_ONLINE)

    def _refusal(self, scope: Scope) -> tuple[int, str, str, str] | None:
        path, headers = str(scope["path"]), dict(scope["headers"])
        if path.startswith("/v1/fleet/"):
            institution, state = self._node(_public_key(scope))
            if state == MEMBER:
                return None
            code, what, resolve = _REFUSALS.get(state, _REFUSALS[""])
            self._record(code, institution, scope)
            return 403, code, what, resolve
        if path.startswith(("/v1/control/", "/v1/runtime/")):
            shown = headers.get(SECRET_HEADER.encode(), b"")
            if hmac.compare_digest(shown, self._secret.encode()):
                return None
            self._record("CoordinatorSecretWrong", "", scope)
            return 403, "CoordinatorSecretWrong", "this is for the coordinator", "use its --home"
        return 404, "NotFound", "there is nothing here", "see docs/operate.md for the paths"

    def _node(self, key: str) -> tuple[str, str]:
        try:
            status = self._path.stat()
            stamp = (status.st_mtime_ns, status.st_ino)
            if stamp != self._stamp:
                self._nodes = json.loads(self._path.read_bytes())
                self._stamp = stamp
            base64.b64decode(key, validate=True)
        except (OSError, ValueError, binascii.Error):
            return "", ""
        institution, state = self._nodes.get(key, ["", ""])
        return institution, state

    def _record(self, code: str, institution: str, scope: Scope) -> None:
        what = (code, institution, _caller(scope))
        now, node = time.monotonic(), (*what, _public_key(scope))
        self._told = {k: t for k, t in self._told.items() if now - t < _REPEAT_S}
        if node not in self._told and len(self._told) < _MOST_TOLD:
            self._told[node] = now
            self._on_refusal(*what)


def _caller(scope: Scope) -> str:
    """Where it came from, as the reverse proxy says; a note for people, nothing relies on it."""
    headers: dict[bytes, bytes] = dict(scope["headers"])
    if forwarded := headers.get(b"x-forwarded-for", b"").decode("ascii", "replace"):
        return forwarded.rsplit(",", 1)[-1].strip()[:45]
    client = scope.get("client")
    return str(client[0]) if client else ""


def _public_key(scope: Scope) -> str:
    headers: dict[bytes, bytes] = dict(scope["headers"])
    return headers.get(PUBLIC_KEY_HEADER.encode(), b"").decode("ascii", "replace")


async def _answer(send: Send, status: int, code: str, what: str, resolve: str) -> None:
    problem = {
        "type": "about:blank", "code": code, "detail": what, "resolve": resolve, "status": status
    }  # fmt: skip
    body = json.dumps(problem).encode()
    headers = [(b"content-type", b"application/problem+json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
