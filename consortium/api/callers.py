"""Who asks, and whether their role allows it. Each route says beside itself whom it is for."""

import hmac
from collections.abc import Callable
from typing import Annotated

from fastapi import Header

from consortium.access import PREFIX, AccessTokens, Caller, Role
from consortium.api.tokens import check_token
from consortium.errors import RoleForbidden, TokenInvalid
from ledger.membership import Membership
from ledger.records import MemberForm
from ledger.store import LedgerStore

EVERYONE = frozenset(Role)
MEMBERS = frozenset({Role.INSTITUTION})
MODELS = frozenset({Role.ADMIN, Role.SCIENTIST, Role.INSTITUTION})
LOCAL = Caller("portal", Role.ADMIN)
"""Who holds the token that `consortium portal` makes for its own run."""


class Callers:
    """Tells callers by their tokens.

    Args:
        store: the ledger, whose members' keys count.
        tokens: the tokens of people; None: no person gets in.
        portal_token: the local portal's own.
    """

    def __init__(
        self, store: LedgerStore, tokens: AccessTokens | None, portal_token: str | None
    ) -> None:
        self._store, self._tokens, self._portal = store, tokens, portal_token

    def identify(self, authorization: str) -> Caller:
        """Whose token a request's header shows.

        Raises:
            TokenInvalid: if it is nobody's.
        """
        token = authorization.removeprefix("Bearer ")
        if self._portal and hmac.compare_digest(token.encode(), self._portal.encode()):
            return LOCAL
        if token.startswith(PREFIX) and self._tokens is not None:
            return self._tokens.open(token)
        chain = self._store.chain()
        try:
            name = check_token(token, chain.ledger, _readers(chain.upcoming))
        except TokenInvalid:
            # Until a change of the membership is final, those before it still co-sign.
            name = check_token(token, chain.ledger, _readers(chain.membership))
        return Caller(name, Role.INSTITUTION)

    def only(self, roles: frozenset[Role]) -> Callable[..., str]:
        """A dependency that gives the caller's name, if its role is one of these.

        Raises (when called): TokenInvalid (401), RoleForbidden (403).
        """

        def permitted(authorization: Annotated[str, Header()] = "") -> str:
            caller = self.identify(authorization)
            if caller.role not in roles:
                raise RoleForbidden(
                    f"this is not for the role {caller.role}",
                    f"it is for: {', '.join(sorted(roles))}",
                )
            return caller.name

        permitted.roles = roles  # type: ignore[attr-defined]
        return permitted


def _readers(membership: Membership) -> dict[str, MemberForm]:
    """Who gets in: a suspended institution still follows the ledger."""
    return {**membership.suspended, **membership.members}
