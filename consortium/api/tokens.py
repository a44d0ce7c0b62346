"""Short-lived tokens by which an institution shows the API who it is: JWT, Ed25519 (RFC 9864).

Signed with the institution's own API key, checked against its key on the ledger; nothing secret
is shared with the coordinator, and nothing is stored on either side.
"""

import base64
import json
import time
from collections.abc import Mapping

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey
from joserfc.jws import extract_compact

from consortium.errors import TokenInvalid
from ledger.keys import PublicKey, Role, SecretKey
from ledger.records import MemberForm

LIFETIME_S = 60
LEEWAY_S = 30
_ALGORITHM = "Ed25519"


def sign_token(institution: str, ledger: str, key: SecretKey) -> str:
    """A token for one minute."""
    now = int(time.time())
    claims = {"iss": institution, "aud": ledger, "iat": now, "exp": now + LIFETIME_S}
    return jwt.encode(
        {"alg": _ALGORITHM}, claims, _jwk(key.public, key.seed), algorithms=[_ALGORITHM]
    )


def check_token(token: str, ledger: str, members: Mapping[str, MemberForm]) -> str:
    """The institution that a token belongs to.

    Raises:
        TokenInvalid: if it is malformed, expired, for another ledger or by no member.
    """
    try:
        # The issuer is read first only to find the key; nothing is trusted before it verifies.
        issuer = jwt.decode(token, _issuer_key(token, members), algorithms=[_ALGORITHM]).claims
    except (JoseError, ValueError, KeyError, TypeError):
        raise _invalid("its signature does not hold") from None
    now = time.time()
    issued, expires = issuer.get("iat"), issuer.get("exp")
    if issuer.get("aud") != ledger:
        raise _invalid("it is for another ledger")
    if not isinstance(issued, int) or not isinstance(expires, int):
        raise _invalid("it has no times")
    if now > expires + LEEWAY_S or issued > now + LEEWAY_S or expires - issued > LIFETIME_S:
        raise _invalid("it has expired, or the clocks differ")
    return str(issuer["iss"])


def _issuer_key(token: str, members: Mapping[str, MemberForm]) -> OKPKey:
    claims = json.loads(extract_compact(token.encode()).payload)
    return _jwk(members[str(claims["iss"])].key(Role.API))


def _jwk(public: PublicKey, seed: bytes | None = None) -> OKPKey:
    def encoded(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    form: dict[str, str | list[str]] = {"kty": "OKP", "crv": "Ed25519", "x": encoded(public.public)}
    if seed is not None:
        form["d"] = encoded(seed)
    return OKPKey.import_key(form)


def _invalid(what: str) -> TokenInvalid:
    return TokenInvalid(f"the token was refused: {what}", "sign a new one with the key enrolled")
