"""Who asks, and whether their role allows it. Each route says beside itself whom it is for."""

import hmac
from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Header, Request, Security
from fastapi.concurrency import run_in_threadpool
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from consortium.access import PREFIX, AccessTokens, Caller, Role
from consortium.api.lane import Lane
from consortium.api.oidc import Oidc
from consortium.api.queries import KnownQueries
from consortium.api.rate_limits import RateLimits
from consortium.api.tokens import check_token
from consortium.errors import RoleForbidden, TokenInvalid
from consortium.last_seen import LastSeen
from ledger.membership import Membership
from ledger.records import MemberForm
from ledger.store import LedgerStore

Permission = Callable[..., Awaitable[str]]
"""A dependency of a route: lets the caller in, and gives its name."""
EVERYONE = frozenset(Role)
MEMBERS = frozenset({Role.INSTITUTION})
MODELS = frozenset({Role.ADMIN, Role.SCIENTIST, Role.INSTITUTION})
AUDITING = frozenset({Role.ADMIN, Role.AUDITOR})
BEARER = HTTPBearer(
    auto_error=False, scheme_name="token", description="An institution's or a person's token"
)
LOCAL = Caller("portal", Role.ADMIN)
"""Who holds the token that `consortium portal` makes for its own run."""


class Callers:
    """Tells callers by their tokens.

    Args:
        store: the ledger, whose members' keys count.
        tokens: the tokens of people; None: no person gets in.
        portal_token: the local portal's own.
        seen: where institutions' requests are noted, if anywhere.
        oidc: the provider at which people sign in, if there is one.
        limits: how often somebody may ask, if that is limited.
        lane: where people wait for one another.
    """

    def __init__(
        self,
        store: LedgerStore,
        tokens: AccessTokens | None,
        portal_token: str | None,
        seen: LastSeen | None = None,
        oidc: Oidc | None = None,
        limits: RateLimits | None = None,
        lane: Lane | None = None,
    ) -> None:
        self._store, self._tokens, self._portal = store, tokens, portal_token
        self._seen, self._oidc, self._limits, self._lane = seen, oidc, limits, lane
        self._queries = KnownQueries()

    def identify(self, token: str) -> Caller:
        """Whose token a request shows.

        Raises:
            TokenInvalid: if it is nobody's.
            RoleForbidden, IssuerUnreachable: if it is the provider's, and gives no role, or cannot
                be verified at the moment.
        """
        if self._portal and hmac.compare_digest(token.encode(), self._portal.encode()):
            return LOCAL
        if token.startswith(PREFIX) and self._tokens is not None:
            return self._tokens.open(token)
        if self._oidc is not None and self._oidc.issued(token):
            return self._oidc.open(token)
        chain = self._store.chain()
        try:
            name = check_token(token, chain.ledger, _readers(chain.upcoming))
        except TokenInvalid:
            # Until a change of the membership is final, those before it still co-sign.
            name = check_token(token, chain.ledger, _readers(chain.membership))
        return Caller(name, Role.INSTITUTION)

    def only(self, roles: frozenset[Role], *, waits: bool = True) -> Permission:
        """A dependency that gives the caller's name, if its role is one of these.

        ``waits``: whether people wait in the lane until their answer begins.

        Raises (when called): TokenInvalid (401), RoleForbidden (403), TooManyRequests (429),
        IssuerUnreachable (503), RequestValidationError (422).
        """

        async def permitted(
            request: Request,
            shown: Annotated[HTTPAuthorizationCredentials | None, Security(BEARER)],
            user_agent: Annotated[str, Header(include_in_schema=False)] = "",
        ) -> str:
            token = shown.credentials if shown else ""
            caller = self._tokens.remembered(token) if self._tokens else None
            if caller is None:
                caller = await run_in_threadpool(self._noted, token, user_agent)
            request.state.caller = caller
            if self._limits is not None:
                self._limits.caller(caller)
                request.state.over = self._limits.begin(caller)
            if caller.role not in roles:
                raise RoleForbidden(
                    f"this is not for the role {caller.role}",
                    f"it is for: {', '.join(sorted(roles))}",
                )
            self._queries.check(request)
            if waits and self._lane is not None and caller.role is not Role.INSTITUTION:
                request.state.leave = await self._lane.enter()
            return caller.name

        permitted.roles = roles  # type: ignore[attr-defined]
        return permitted

    def _noted(self, token: str, user_agent: str) -> Caller:
        """Whose token it is; of an institution it is noted that it asked."""
        caller = self.identify(token)
        if self._seen is not None and caller.role is Role.INSTITUTION:
            self._seen.note(caller.name, user_agent)
        return caller


class Permissions:
    """Dependencies by who is let in; each route names one."""

    def __init__(self, callers: Callers) -> None:
        self.everyone = callers.only(EVERYONE)
        self.exporting = callers.only(EVERYONE, waits=False)
        self.members = callers.only(MEMBERS)
        self.models = callers.only(MODELS)
        self.auditing = callers.only(AUDITING)


def _readers(membership: Membership) -> dict[str, MemberForm]:
    """Who gets in: a suspended institution still follows the ledger."""
    return {**membership.suspended, **membership.members}
