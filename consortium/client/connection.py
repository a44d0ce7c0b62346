"""Where the API is, and how to show one's token there and nowhere else."""

import os
import ssl
from collections.abc import Generator
from dataclasses import dataclass
from importlib.metadata import version
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from consortium.client.errors import Unsafe, unreachable
from consortium.errors import OptionInvalid

_VARIABLE = "MEDPOLE_TOKEN"
_SOCKET = "unix:"


class _Token(httpx.Auth):
    """Shows a token with each request; nothing prints it."""

    def __init__(self, token: str) -> None:
        self._token = token

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers["Authorization"] = f"Bearer {self._token}"
        yield request


@dataclass(frozen=True)
class Connection:
    """One API. ``socket`` is its Unix socket's path, where it is asked on its own machine."""

    url: str
    socket: str | None
    options: dict[str, Any]

    @staticmethod
    def to(
        url: str, token: str | None, ca: str | os.PathLike[str] | None, timeout: float
    ) -> "Connection":
        """Checks where a token would go before anything is sent.

        Raises:
            Unsafe: if others could read it on its way.
            OptionInvalid: if the URL, or the file of ``ca``, cannot be used.
        """
        shown = os.environ.get(_VARIABLE) if token is None else token
        options: dict[str, Any] = {
            "auth": _Token(shown.strip()) if shown else None,
            "timeout": timeout,
            "headers": {"User-Agent": f"medpole-client/{version('medpole')}"},
        }
        if url.startswith(_SOCKET):
            path = "/" + url.removeprefix(_SOCKET).lstrip("/")
            return Connection(f"unix://{path}", path, {**options, "base_url": "http://consortium"})
        parts = urlsplit(url)
        if parts.username or parts.password or not parts.hostname:
            raise OptionInvalid(
                "the URL names no host, or a password",
                "give https://HOST, or unix:///HOME/api.sock on the coordinator's machine",
            )
        local = parts.scheme == "http" and _is_local(parts.hostname)
        if parts.scheme != "https" and not local:
            raise Unsafe(
                "ApiUnsafe",
                "the API's address is neither https nor on this machine",
                "give https://HOST, or unix:///HOME/api.sock on the coordinator's machine",
            )
        options |= {"base_url": url, "trust_env": not local}
        if ca is not None:
            options["verify"] = _trusting(Path(ca))
        return Connection(url, None, options)


def _is_local(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _trusting(ca: Path) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca)
    except OSError:  # an SSLError is one too
        raise OptionInvalid(
            f"{ca} is no file of certificates", "give the consortium's CA as PEM"
        ) from None


def failed(error: httpx.HTTPError) -> Exception:
    """What went wrong on the way, by its kind alone: no header, no token."""
    return unreachable(type(error).__name__)
