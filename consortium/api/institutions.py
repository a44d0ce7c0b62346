"""The API for institutions: who they are, their keys, when they were seen, what they earned."""

from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query

from consortium.api.callers import Permissions
from consortium.api.pages import Cursor, Limit, Order, page_of_all
from consortium.api.schemas import (
    Account,
    Institution,
    Key,
    Page,
    Place,
    Seen,
    Statement,
    StatementLine,
)
from consortium.last_seen import LastSeen
from consortium.standing import Account as Totals
from consortium.standing import Standing
from ledger.chain import Chain
from ledger.errors import LedgerMissing
from ledger.key_history import MemberHistory, member_histories
from ledger.note import cosigned_at
from ledger.records import Name as RecordName
from ledger.store import LedgerStore

Name = Annotated[RecordName, Path(examples=["cleveland"])]
JobName = Annotated[RecordName, Query()]


def institutions_router(
    store: LedgerStore, standing: Standing, allowed: Permissions, seen: LastSeen | None
) -> APIRouter:
    """The routes. ``seen``: where requests are noted, if anywhere."""
    router = APIRouter(
        prefix="/v1", tags=["institutions"], dependencies=[Depends(allowed.everyone)]
    )
    histories = _Histories(store)

    def described() -> list[Institution]:
        chain = store.chain()
        cosigned = {
            head.institution: Place(height=head.checkpoint.height, time=cosigned_at(head.line))
            for head in store.member_heads()
        }
        noted = seen.all() if seen else {}
        return [
            _institution(name, history, name in chain.upcoming.suspended, cosigned, noted)
            for name, history in sorted(histories.after(chain).items())
        ]

    @router.get("/institutions")
    def institutions(limit: Limit = 50, cursor: Cursor = None) -> Page[Institution]:
        """Members and suspended institutions, by id; a cursor is a position."""
        return page_of_all(described(), limit, cursor, Order.OLDEST)

    @router.get("/institutions/{institution}")
    def institution(institution: Name) -> Institution:
        """One institution."""
        return _named(described(), institution)

    @router.get("/institutions/{institution}/statement")
    def statement(institution: Name) -> Statement:
        """What each job brought an institution; removed ones keep theirs."""
        head = store.chain().header
        lines = []
        with standing.jobs() as jobs:
            for name, job in jobs.items():
                account = job.accounts.get(institution)
                if account is not None:
                    counts = _counts(account)
                    lines.append(StatementLine(job=name, task=job.contract.task, **counts))
        if not lines:
            _named(described(), institution)
        return Statement(
            institution=institution, height=head.height, hash=head.hash, lines=lines,
            credits=sum(line.credits for line in lines),
        )  # fmt: skip

    @router.get("/credits")
    def credits(
        job: JobName | None = None, limit: Limit = 50, cursor: Cursor = None
    ) -> Page[Account]:
        """Totals of all institutions, over one job or all; a cursor is a position."""
        found = [
            Account(
                institution=name, accepted=total.accepted, rejected=total.rejected,
                absent=total.absent, learner=total.learner, credits=total.credits,
            )
            for name, total in sorted(standing.accounts(job).items())
        ]  # fmt: skip
        return page_of_all(found, limit, cursor, Order.OLDEST)

    return router


class _Histories:
    """Read anew once the membership has changed."""

    def __init__(self, store: LedgerStore) -> None:
        self._store = store
        self._known: tuple[str, dict[str, MemberHistory]] = ("", {})

    def after(self, chain: Chain) -> dict[str, MemberHistory]:
        digest, found = self._known
        if digest != chain.upcoming.digest:
            changes = self._store.listing.entries(("change", "approval"), limit=None)
            founded = next(iter(chain.memberships.values()))
            created = self._store.header(0).time
            found = member_histories(founded, created, changes)
            self._known = chain.upcoming.digest, found
        return found


def _institution(
    name: str, history: MemberHistory, suspended: bool, cosigned: Mapping[str, Place],
    noted: Mapping[str, tuple[int, str | None]],
) -> Institution:  # fmt: skip
    keys = []
    for role, decided in sorted(history.keys.items()):
        form = history.form.keys[role]
        place = Place(height=decided.height, time=decided.time)
        keys.append(Key(role=role, algorithm=form.alg, public=form.public, since=place))
    seen = noted.get(name)
    return Institution(
        id=name, title=history.form.title, status="suspended" if suspended else "member",
        joined=Place(height=history.joined.height, time=history.joined.time), keys=keys,
        last_cosigned=cosigned.get(name),
        last_seen=Seen(time=seen[0], version=seen[1]) if seen else None,
    )  # fmt: skip


def _named(found: list[Institution], name: str) -> Institution:
    for one in found:
        if one.id == name:
            return one
    raise LedgerMissing(f"no institution is called {name}", "see /v1/institutions for all")


def _counts(account: Totals) -> dict[str, int]:
    return {**vars(account), "credits": account.credits}
