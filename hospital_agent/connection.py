"""How the agent reaches the consortium's API: outbound only, and encrypted off this machine.

A hospital trusts one CA, its consortium's, and no public one. The invitation says which, by its
SHA-256: the certificate is taken from a handshake in which nothing else is sent, and everything
after that goes over connections verified by it.

| in the hospital's folder | holds |
|---|---|
| ``connection.json`` | the API's ``url``; a founder's ``draft`` fingerprint |
| ``ca.pem`` | the CA's certificate; absent where all run on one machine |
"""

import hmac
import socket
import ssl
import time
from collections.abc import Callable
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from consortium.errors import ConsortiumError
from consortium.tls import is_local
from hospital_agent.errors import AgentError, ApiUnreachable, ApiUnsafe, CaMismatch, FolderInvalid
from hospital_agent.folder import HospitalFolder, read_json
from hospital_agent.ledger_api import LedgerApi
from ledger.errors import LedgerError

_TIMEOUT_S, _HANDSHAKE_S = 60, 20
_LONGEST_ANSWER = 65_536


def connect(where: HospitalFolder | str, api: str = "") -> httpx.Client:
    """A client for a hospital's consortium, or for a URL: ``unix:PATH``, ``https://…``, or
    ``http://`` on this machine only.

    ``api`` takes the place of the folder's own URL. With a folder only its CA is trusted.

    Raises:
        ApiUnsafe: for any other URL.
        FolderInvalid: if the folder names no URL, and none is given.
    """
    if isinstance(where, str):
        return open_client(where, None)
    return open_client(api or address_of(where), _read_ca(where.path / "ca.pem"))


def address_of(folder: HospitalFolder) -> str:
    """The API's URL that a hospital enrolled at.

    Raises:
        FolderInvalid: if it enrolled by files.
    """
    path = folder.path / "connection.json"
    if not path.exists():
        raise FolderInvalid(
            "this hospital was not enrolled over a network, and does not know where the API is",
            "give --api https://HOST:PORT or unix:PATH, or set MEDPOLE_API",
        )
    return str(read_json(path).get("url", ""))


def open_client(url: str, ca: str | None) -> httpx.Client:
    """A client for a URL, which trusts nothing but ``ca`` (PEM) where it is given.

    Raises:
        ApiUnsafe: if the URL is neither https nor on this machine.
        FolderInvalid: if ``ca`` is no certificate.
    """
    headers = {"User-Agent": f"medpole-agent/{version('medpole')}"}
    if url.startswith("unix:"):
        transport = httpx.HTTPTransport(uds=url.removeprefix("unix:"))
        return httpx.Client(
            transport=transport, base_url="http://consortium", timeout=_TIMEOUT_S, headers=headers
        )
    if is_local(url):
        return httpx.Client(base_url=url, timeout=_TIMEOUT_S, headers=headers)
    if urlsplit(url).scheme != "https":
        raise ApiUnsafe(
            "the API's address is neither https nor on this machine",
            "give --api https://HOST, or unix:PATH or http://127.0.0.1:PORT on the same machine",
        )
    try:
        verify = True if ca is None else ssl.create_default_context(cadata=ca)
    except (ssl.SSLError, ValueError):
        raise FolderInvalid("ca.pem is damaged", "restore it from your backup") from None
    # Longer than two looks are apart: a handshake costs more than what is asked.
    limits = httpx.Limits(keepalive_expiry=60)
    return httpx.Client(
        base_url=url, timeout=_TIMEOUT_S, verify=verify, limits=limits, headers=headers
    )


def _read_ca(path: Path) -> str | None:
    return path.read_text() if path.exists() else None


def pinned_ca(url: str, digest: bytes) -> str:
    """The certificate (PEM) with this SHA-256, out of the chain that a server shows.

    Only a TLS handshake is done for it, and no byte of the application is sent.

    Raises:
        CaMismatch: if the server shows no such certificate.
        ApiUnreachable: if it cannot be reached, or speaks no TLS.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 443
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False  # nothing is trusted yet: the certificate alone is looked for
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            _open_socket(host, port) as plain,
            context.wrap_socket(plain, server_hostname=host) as secured,
        ):
            chain = _shown_chain(secured)
    except (OSError, ValueError) as error:
        raise ApiUnreachable(
            f"{host}:{port} does not answer as it should ({type(error).__name__})",
            "check the address, DNS and the firewall: outbound TCP to that port is all it takes",
        ) from None
    for certificate in chain:
        if hmac.compare_digest(sha256(certificate).digest(), digest):
            return ssl.DER_cert_to_PEM_cert(certificate)
    raise CaMismatch(
        f"{host}:{port} shows another CA than the invitation names; nothing was sent",
        "check the address; if a firewall opens TLS, except this host; else ask for the "
        "invitation anew, and compare `consortium tls show`",
    )


def _shown_chain(secured: ssl.SSLSocket) -> list[bytes]:
    """The certificates (DER) that a server sent, unverified. Public from Python 3.13 on."""
    public = getattr(secured, "get_unverified_chain", None)
    if public is not None:
        return [bytes(certificate) for certificate in public()]
    import _ssl

    inner: Any = getattr(secured, "_sslobj", None)
    if not hasattr(inner, "get_unverified_chain"):
        raise ApiUnreachable(
            "this Python cannot show a server's certificates", "use Python 3.11 to 3.13"
        )
    encoding = _ssl.ENCODING_DER
    return [certificate.public_bytes(encoding) for certificate in inner.get_unverified_chain()]


def _open_socket(host: str, port: int) -> socket.socket:
    """Straight to the host, or through the proxy of the environment, as httpx goes."""
    proxies = getproxies()
    proxy = proxies.get("https") or proxies.get("all")
    if not proxy or proxy_bypass(host):
        return socket.create_connection((host, port), _HANDSHAKE_S)
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    if parts.scheme != "http" or parts.username is not None:
        raise ApiUnreachable(
            "the proxy of this environment is of a kind that enrolment cannot use",
            "have the proxy let this host through without a password, or set NO_PROXY for it",
        )
    opened = socket.create_connection((parts.hostname or "", parts.port or 80), _HANDSHAKE_S)
    try:
        name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        opened.sendall(f"CONNECT {name} HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
        answer = b""
        # One byte at a time: what follows the answer belongs to TLS.
        while not answer.endswith(b"\r\n\r\n"):
            byte = opened.recv(1)
            if not byte or len(answer) > _LONGEST_ANSWER:
                raise OSError("the proxy does not answer")
            answer += byte
        if answer.split(b" ")[1:2] != [b"200"]:
            raise OSError("the proxy refuses")
    except BaseException:
        opened.close()
        raise
    return opened


def witness_forever(
    folder: HospitalFolder,
    client: httpx.Client,
    every: float,
    on_height: Callable[[int], None],
    on_refusal: Callable[[LedgerError | ConsortiumError | AgentError], None],
) -> None:
    """Follows and co-signs. What is refused stays refused, and is told once.

    It goes on looking: a liar, or an API that is away, must not end an honest witness; and one that
    is stopped follows until its keys are rotated.
    """
    from hospital_agent.witness import Witness  # loads torch, which enrolling does without

    witness = Witness(folder, LedgerApi(client, folder))
    reached, told = -1, ""
    while True:
        try:
            height = witness.step()
        except (LedgerError, ConsortiumError, AgentError) as error:
            height = reached
            if error.what != told:
                told = error.what
                on_refusal(error)
        else:
            told = ""
        if height != reached:
            reached = height
            on_height(height)
        time.sleep(every)
