"""How the agent reaches the consortium's API: outbound only, and encrypted off this machine."""

import time
from collections.abc import Callable
from urllib.parse import urlsplit

import httpx

from consortium.errors import ConsortiumError
from hospital_agent.errors import AgentError, ApiUnsafe
from hospital_agent.folder import HospitalFolder
from hospital_agent.ledger_api import LedgerApi
from hospital_agent.witness import Witness
from ledger.errors import LedgerError

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_TIMEOUT_S = 60


def connect(url: str) -> httpx.Client:
    """A client for ``unix:PATH``, ``https://…``, or ``http://`` on this machine only.

    Raises:
        ApiUnsafe: for any other URL.
    """
    if url.startswith("unix:"):
        transport = httpx.HTTPTransport(uds=url.removeprefix("unix:"))
        return httpx.Client(transport=transport, base_url="http://consortium", timeout=_TIMEOUT_S)
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise ApiUnsafe(
            "the API's address is neither https nor on this machine",
            "give --api https://HOST, or unix:PATH or http://127.0.0.1:PORT on the same machine",
        )
    return httpx.Client(base_url=url, timeout=_TIMEOUT_S)


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
