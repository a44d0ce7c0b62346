"""What pages read, as the signed-in person: each time who that is and the newest block, the rest
once for each new block.

Records never change, so what was read under a block's hash stays right for as long as that block is
the newest. It is the same for every role that may sign in; what is not (a model's weights) does not
come this way. Nothing here reads all of a long list: pages show the newest, and say so.
"""

from dataclasses import dataclass
from typing import Any

import streamlit as st

from ui.api_client import NEWEST, ApiClient, Json, from_environment, items
from ui.signed_in import signed_in_token

JOBS_SHOWN, ROUNDS_SHOWN, SPENDS_SHOWN = 100, 200, 400
MEMBERS_SHOWN = 1_000
_KEPT, _KEPT_S = 256, 600


@st.cache_resource(show_spinner=False)
def _client(url: str) -> ApiClient:
    return ApiClient(url)


# Arguments with an underscore are not part of a cache's key.
@st.cache_data(show_spinner=False, max_entries=_KEPT, ttl=_KEPT_S)
def _under(head: str, _api: ApiClient, _token: str, path: str, query: tuple[Any, ...]) -> Any:
    return _api.get(_token, path, dict(query))


@st.cache_data(show_spinner=False, max_entries=_KEPT, ttl=_KEPT_S)
def _list_under(
    head: str, _api: ApiClient, _token: str, path: str, most: int, query: tuple[Any, ...]
) -> list[Json]:
    return list(items(_api, _token, path, most, **dict(query)))


@dataclass(frozen=True)
class Reader:
    """The ledger under one head, for one person."""

    api: ApiClient
    token: str
    me: Json
    head: Json

    @staticmethod
    def now() -> "Reader":
        """The ledger as it is now, and who looks.

        Raises:
            ApiError: if the API does not answer, or the person is not signed in any more.
        """
        api, token = _client(from_environment()), signed_in_token()
        return Reader(api, token, api.get(token, "me"), api.get(token, "ledger/head"))

    # what moves without a block: asked each time

    def jobs_now(self, most: int = JOBS_SHOWN) -> list[Json]:
        """The newest jobs, with what their coordinator reports at this moment."""
        return list(items(self.api, self.token, "jobs", most, order=NEWEST))

    def institutions(self) -> list[Json]:
        """Members and suspended institutions, by id."""
        return list(items(self.api, self.token, "institutions", MEMBERS_SHOWN))

    def forecast(self, task: str, epsilon: str, delta: str, rounds: int) -> Json:
        """What a job would cost each hospital."""
        query = {"task": task, "epsilon": epsilon, "delta": delta, "rounds": rounds}
        return dict(self.api.get(self.token, "privacy/forecast", query))

    def proof(self, index: int) -> str:
        """The file that proves one record."""
        return self.api.text(self.token, f"ledger/proofs/{index}")

    def search(self, text: str) -> list[Json]:
        """What has this index, or a hash that begins like this."""
        return list(self.api.get(self.token, "ledger/search", {"q": text})["items"])

    # what stands on the ledger: asked once for each head

    @property
    def genesis(self) -> Json:
        """The first record."""
        return dict(self._list("ledger/entries", 1, type="genesis")[0]["record"])

    @property
    def membership(self) -> Json:
        """Who signs from the next block on, the policy, and proposed changes."""
        return dict(self._once("ledger/membership"))

    @property
    def conflicts(self) -> list[Json]:
        """Second cosignatures by one member on one block."""
        return list(self._once("ledger/heads")["conflicts"])

    def jobs(self) -> list[Json]:
        """The newest jobs, newest first."""
        return self._list("jobs", JOBS_SHOWN, order=NEWEST)

    def job(self, name: str) -> Json:
        """A job with its contract."""
        return dict(self._once(f"jobs/{name}"))

    def results(self, job: str) -> list[Json]:
        """A job's newest results, oldest of them first."""
        found = self._list(f"jobs/{job}/rounds", ROUNDS_SHOWN, order=NEWEST)
        return [item["record"] for item in reversed(found)]

    def credits(self, job: str | None = None) -> list[Json]:
        """Totals by institution, over one job or all."""
        return self._list("credits", MEMBERS_SHOWN, job=job)

    def statement(self, institution: str) -> Json:
        """What each job brought an institution."""
        return dict(self._once(f"institutions/{institution}/statement"))

    def evaluations(self, job: str) -> list[Json]:
        """What hospitals let out of how a job's model did on their test patients."""
        return self._list("evaluations", MEMBERS_SHOWN, job=job)

    def spendings(self, task: str | None = None) -> list[Json]:
        """What each cohort has spent in its lifetime."""
        return self._list("privacy", MEMBERS_SHOWN, task=task)

    def spends(self, job: str) -> list[Json]:
        """A job's newest reveals with their costs, oldest of them first."""
        return self._list("privacy/spends", SPENDS_SHOWN, job=job, order=NEWEST)[::-1]

    def blocks(self, cursor: str | None, limit: int) -> Json:
        """A page of blocks, newest first."""
        # Cosignatures come after the block: the newest blocks are asked for each time.
        query = {"order": NEWEST, "limit": limit, "cursor": cursor}
        if cursor is None:
            return dict(self.api.get(self.token, "ledger/blocks", query))
        return dict(self._once("ledger/blocks", **query))

    def record(self, index: int) -> Json:
        """One leaf with its signatures."""
        return dict(self._once(f"ledger/records/{index}"))

    def card(self, model: str) -> str:
        """A released model's card, in Markdown."""
        return self.api.text(self.token, f"models/{model}/card")

    def _once(self, path: str, **query: Any) -> Any:
        return _under(self.head["hash"], self.api, self.token, path, tuple(query.items()))

    def _list(self, path: str, most: int, **query: Any) -> list[Json]:
        return _list_under(
            self.head["hash"], self.api, self.token, path, most, tuple(query.items())
        )
