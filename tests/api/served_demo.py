"""A recorded demo's ledger behind the API."""

from dataclasses import dataclass

import httpx
from fastapi import FastAPI

from consortium.access import AccessTokens, Role
from consortium.home import Home
from ledger.store import LedgerStore


@dataclass(frozen=True)
class Served:
    """A demo's API. ``client`` asks as an admin."""

    home: Home
    store: LedgerStore
    app: FastAPI
    client: httpx.Client

    def token(self, role: Role) -> str:
        return AccessTokens(self.home.path).issue("Ada", role)[1]
