"""The ledger, as the API shows it and as it can be proved."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from consortium.api.schemas import (
    BlockBytes,
    BlockSummary,
    Found,
    Head,
    Leaf,
    MembershipForm,
    Page,
    RecordItem,
)
from consortium.client.bound import Async, Bound, Sync, call, listing
from consortium.client.files import whole_file
from consortium.client.plan import Flow, Plan, fetch, get, pages, whole, work
from ledger.errors import GenesisMismatch

if TYPE_CHECKING:
    from ledger.prove import Proved

Order = Literal["oldest", "newest"]
EXPORTING_S = 900.0  # until the first byte: the coordinator writes all of an export before


class LedgerCalls(Bound):
    """What can be asked of a ledger."""

    @call
    def head(self) -> Plan[Head]:
        """The newest block, final or not.

        Raises:
            GenesisMismatch: if it is another ledger's than the pinned one.
        """
        return checked_head(self._genesis)

    @listing
    def blocks(self, order: Order = "oldest") -> Flow[BlockSummary]:
        """All blocks, in short."""
        return pages(Page[BlockSummary], "/v1/ledger/blocks", {"order": order})

    @call
    def block(self, height: int) -> Plan[BlockBytes]:
        """One block: the bytes that were signed."""
        return fetch(BlockBytes, f"/v1/ledger/blocks/{height}")

    @listing
    def entries(
        self,
        type: str | None = None,
        job: str | None = None,
        institution: str | None = None,
        order: Order = "oldest",
    ) -> Flow[RecordItem]:
        """Records of a type, a job, an institution, or all."""
        query = {"type": type, "job": job, "institution": institution, "order": order}
        return pages(Page[RecordItem], "/v1/ledger/entries", query)

    @call
    def record(self, index: int) -> Plan[Leaf]:
        """One record with its signatures, as the API shows it."""
        return fetch(Leaf, f"/v1/ledger/records/{index}")

    @call
    def proof(self, index: int) -> Plan[str]:
        """The file that proves one record to somebody else (``.tlog-proof``)."""
        return proof_of(index)

    @call
    def prove(self, index: int) -> "Plan[Proved]":
        """One record, proved here: by the signatures of a quorum, from the pinned genesis on.

        Without a pinned genesis the result says so (``pinned``).

        Raises:
            LedgerError: if the proof does not hold, or is another ledger's.
        """
        return proved(index, self._genesis)

    @listing
    def search(self, q: str) -> Flow[Found]:
        """What has this index, or a hash that begins with these 6 to 64 hex digits; at most 20."""
        return search(q)

    @call
    def membership(self) -> Plan[MembershipForm]:
        """Who signs from the next block on, and what is proposed."""
        return fetch(MembershipForm, "/v1/ledger/membership")

    @call
    def verifier(self) -> Plan[str]:
        """The single-file verifier's source."""
        return _text("/v1/ledger/verifier")

    @call
    def export(
        self,
        path: str | os.PathLike[str],
        first: int = 0,
        last: int | None = None,
        verify: bool = True,
    ) -> Plan[Path]:
        """Downloads blocks as one archive to a new file, verified before it has that name.

        Raises:
            FileExistsError: if there is such a file.
            LedgerError: naming what does not hold.
        """
        return _export(Path(path), first, last, verify, self._genesis)


class Ledger(LedgerCalls, Sync):
    """The ledger. Its methods block."""


class AsyncLedger(LedgerCalls, Async):
    """The ledger. Its methods are awaited."""


def checked_head(genesis: str | None) -> Plan[Head]:
    """The newest head, of the pinned ledger."""
    head = yield from fetch(Head, "/v1/ledger/head")
    check_head(head, genesis)
    return head


def search(q: str) -> Flow[Found]:
    """What has this index, or a hash that begins so."""
    return whole(Page[Found], "/v1/ledger/search", {"q": q})


def check_head(head: Head, genesis: str | None) -> None:
    """Compares a head with the pinned fingerprint; signatures are `prove`'s concern.

    Raises:
        GenesisMismatch: if it is another ledger's.
    """
    origin = head.checkpoint.partition("\n")[0]
    if genesis is not None and (head.ledger, origin) != (genesis, f"medpole/{genesis}"):
        raise GenesisMismatch(
            f"the API's ledger is {head.ledger}, not the pinned {genesis}",
            "check the address; if it is right, ask your institution which ledger is yours",
        )


def proof_of(index: int) -> Plan[str]:
    """A proof file's text, as it came."""
    return _text(f"/v1/ledger/proofs/{index}")


def proved(index: int, genesis: str | None) -> "Plan[Proved]":
    """A record that its proof file shows to be on the ledger."""
    from ledger.prove import verify_proof

    text = yield from proof_of(index)
    found = yield from work(lambda: verify_proof(text, genesis))
    if found.index != index:
        raise wrong_proof(f"the proof is of record {found.index}, not of {index}")
    return found


def wrong_proof(what: str) -> Exception:
    """The API's proof holds, and proves something else."""
    from ledger.errors import ProofInvalid

    return ProofInvalid(what, "ask again; if it stays wrong, keep it as evidence")


def _text(path: str) -> Plan[str]:
    answer = yield from get(path)
    return answer.body.decode(errors="replace")


def _export(
    path: Path, first: int, last: int | None, verify: bool, genesis: str | None
) -> Plan[Path]:
    from ledger.archive import opened
    from ledger.verify import verify_export

    with whole_file(path, new=True) as (file, partial):
        query = {"from": first, "to": last}
        yield from get("/v1/ledger/export", query, file, EXPORTING_S)
        file.flush()

        def check() -> None:
            with opened(partial) as folder:
                # Here: a notebook's process has threads, and is not to be forked.
                verify_export(folder, genesis, processes=1)

        if verify:
            yield from work(check)
    return path
