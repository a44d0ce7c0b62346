"""The ledger as one page sees it: read from the API once for each new block.

A ledger's records never change, so what was read under a block's hash stays right for as long as
that block is the newest. Only the head itself is asked for each time a page is drawn.
"""

from dataclasses import dataclass
from typing import Any

import streamlit as st

from ui.api_client import ApiClient, from_environment
from ui.figures import rounds_done

Json = dict[str, Any]
_KEPT = 64


@st.cache_resource(show_spinner=False)
def _client(url: str, token: str) -> ApiClient:
    return ApiClient(url, token)


# Arguments with an underscore are not part of a cache's key.
@st.cache_data(show_spinner=False, max_entries=_KEPT)
def _entries(_api: ApiClient, head: str, type: str, job: str | None) -> list[Json]:
    return _api.entries(type, job)


@st.cache_data(show_spinner=False, max_entries=_KEPT)
def _institutions(_api: ApiClient, head: str) -> list[Json]:
    return _api.institutions()


@st.cache_data(show_spinner=False, max_entries=_KEPT)
def _blocks(_api: ApiClient, head: str, cosigned: int, first: int, limit: int) -> list[Json]:
    return _api.blocks(first, limit)


@st.cache_data(show_spinner=False, max_entries=4)
def _model(_api: ApiClient, name: str) -> bytes:
    return _api.model(name)


@dataclass(frozen=True)
class Snapshot:
    """The ledger under one head."""

    api: ApiClient
    head: Json

    @staticmethod
    def take() -> "Snapshot":
        """The ledger as it is now.

        Raises:
            ApiError: if the API does not answer.
        """
        api = _client(*from_environment())
        return Snapshot(api, api.head())

    @property
    def genesis(self) -> Json:
        """The first record."""
        return self._records("genesis")[0]

    @property
    def members(self) -> list[Json]:
        """The members in force, by id."""
        return sorted(_institutions(self.api, self.head["hash"]), key=lambda m: str(m["id"]))

    @property
    def jobs(self) -> list[Json]:
        """All jobs, newest first."""
        return self._records("job")[::-1]

    @property
    def ends(self) -> dict[str, Json]:
        """How each job ended, by job."""
        return {end["job"]: end for end in self._records("job-end")}

    @property
    def records(self) -> int:
        """How many records there are: leaves without the blocks' own headers."""
        return int(self.head["entries"] - self.head["height"])

    @property
    def leaves(self) -> int:
        """How many leaves there are; the newest block's header is the last."""
        return int(self.head["entries"] + 1)

    def results(self, job: str) -> list[Json]:
        """A job's results, oldest first."""
        return self._records("result", job)

    def proofs(self, job: str) -> list[Json]:
        """A job's proofs of learning, oldest first."""
        return self._records("proof", job)

    def blocks(self, first: int, limit: int) -> list[Json]:
        """Summaries of blocks, oldest first."""
        return _blocks(self.api, self.head["hash"], self.head["cosigned"], first, limit)

    def model(self, name: str) -> bytes:
        """A model's safetensors file."""
        return _model(self.api, name)

    def status(self, job: Json) -> str:
        """How far a job is, in words."""
        end = self.ends.get(job["job"])
        if end is None:
            done = rounds_done(self.results(job["job"]))
            return f"not ended: {done} of {job['rounds']} rounds"
        return f"{end['status']} after {end['rounds']} of {job['rounds']} rounds"

    def _records(self, type: str, job: str | None = None) -> list[Json]:
        return _entries(self.api, self.head["hash"], type, job)
