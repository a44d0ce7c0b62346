"""People who sign in at the consortium's own OpenID provider, where ``HOME/oidc.json`` names one.

A bearer token is then also taken if it is a JWT of that issuer: signed by one of its keys, for this
audience, in its time, with a claim that names one of our roles. Keys are fetched from the issuer
(OpenID Connect Discovery), kept, and fetched again when they are old or a token names another one.
What the issuer's absence stops is its own tokens, and nothing else.
"""

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import httpx
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.jws import extract_compact
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from consortium.access import PEOPLE, Caller, Role
from consortium.errors import IssuerUnreachable, OidcInvalid, RoleForbidden, TokenInvalid
from consortium.tls import is_local

FILE = "oidc.json"
ALGORITHMS = ("RS256", "PS256", "ES256", "EdDSA", "Ed25519")
LEEWAY_S = 30
FRESH_S, STALE_S = 300.0, 3600.0
"""Keys are fetched anew after the first; while the issuer is away they hold until the second."""
_UNKNOWN_EVERY_S, _RETRY_EVERY_S = 60.0, 10.0
_TIMEOUT_S, _WAIT_S = 5.0, 1.0
_MOST_WAITING = 4  # of the threads that answer everybody, while an issuer hangs
_MOST_BYTES = 262_144
_LONGEST_NAME = 200
_UNUSABLE = (
    httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError, AttributeError,
    RecursionError,
)  # fmt: skip
Key = RSAKey | ECKey | OKPKey
_IMPORT: dict[str, Callable[[Any], Key]] = {  # public ones: a shared secret is no key here
    "RSA": RSAKey.import_key, "EC": ECKey.import_key, "OKP": OKPKey.import_key,
}  # fmt: skip
log = logging.getLogger("medpole.oidc")


def _safe(url: str) -> str:
    if not (url.startswith("https://") or is_local(url)):
        raise ValueError("it is neither https nor on this machine")
    return url


class OidcConfig(BaseModel):
    """``HOME/oidc.json``. ``roles`` says which value of the role claim stands for which role."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    issuer: Annotated[str, AfterValidator(_safe)]
    audience: Annotated[str, Field(min_length=1)]
    role_claim: str = "roles"
    name_claim: str = "sub"
    roles: Annotated[dict[str, Literal["admin", "scientist", "auditor"]], Field(min_length=1)]


def read_oidc(home: Path) -> "Oidc | None":
    """The provider that a home names; None if it names none.

    Raises:
        OidcInvalid: if the file is not what it must be.
    """
    try:
        return Oidc(OidcConfig.model_validate_json((home / FILE).read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        places = (
            ", ".join(".".join(map(str, one["loc"])) or one["type"] for one in error.errors())
            if isinstance(error, ValidationError)
            else error.strerror
        )
        raise OidcInvalid(
            f"{FILE} cannot be used ({places})",
            "docs/api.md shows what it holds; without the file nobody signs in that way",
        ) from None


class Oidc:
    """One provider. Safe to share between threads."""

    def __init__(self, config: OidcConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self.config = config
        self.keys = IssuerKeys(config.issuer, clock)

    def issued(self, token: str) -> bool:
        """Whether a token says that it is this issuer's; nothing of it is verified yet."""
        try:
            claims = json.loads(extract_compact(token.encode()).payload)
            return bool(claims["iss"] == self.config.issuer)
        except (JoseError, ValueError, KeyError, TypeError, RecursionError):
            return False

    def open(self, token: str) -> Caller:
        """The person whose token this is.

        Raises:
            TokenInvalid: if it does not hold.
            RoleForbidden: if it gives none of our roles.
            IssuerUnreachable: if the keys to tell cannot be had.
        """
        claims = self._verified(token)
        name = _claim(claims, self.config.name_claim)
        if isinstance(name, str) and name.isprintable() and 0 < len(name) <= _LONGEST_NAME:
            return Caller(name, self._role(claims))
        raise _invalid("it names nobody")

    def _verified(self, token: str) -> Mapping[str, Any]:
        try:
            header = extract_compact(token.encode()).headers()
            if header.get("alg") not in ALGORITHMS:
                raise _invalid("it is not signed in a way that is taken")
            key = self.keys.key(header.get("kid"))
            claims = jwt.decode(token, key, algorithms=ALGORITHMS).claims
        except (JoseError, ValueError, TypeError, RecursionError):
            raise _invalid("its signature does not hold") from None
        try:
            jwt.JWTClaimsRegistry(
                leeway=LEEWAY_S,
                iss={"essential": True, "value": self.config.issuer},
                aud={"essential": True, "value": self.config.audience},
                exp={"essential": True},
            ).validate(claims)
        except (JoseError, ValueError, TypeError):
            raise _invalid("it has expired, or is for somebody else") from None
        return cast(Mapping[str, Any], claims)

    def _role(self, claims: Mapping[str, Any]) -> Role:
        """The first of admin, scientist, auditor that it gives."""
        said = _claim(claims, self.config.role_claim)
        values = said if isinstance(said, list) else [said]
        given = {self.config.roles.get(value) for value in values if isinstance(value, str)}
        for role in PEOPLE:
            if role in given:
                return role
        raise RoleForbidden(
            "the token gives no role here",
            "ask the consortium's admin: the provider's role claim names none of oidc.json's",
        )


class IssuerKeys:
    """An issuer's public keys by id, as it published them last."""

    def __init__(self, issuer: str, clock: Callable[[], float]) -> None:
        self._issuer, self._clock = issuer, clock
        self._lock = threading.Lock()
        self._waiting = threading.BoundedSemaphore(_MOST_WAITING)
        self._keys: dict[str | None, Key] = {}
        self._fetched = self._asked = float("-inf")

    def key(self, id: object) -> Key:
        """The key with this id; without one the only key, if there is just one.

        Raises:
            TokenInvalid: if the issuer has no such key.
            IssuerUnreachable: if it does not say.
        """
        if self._age() > FRESH_S:  # while they hold, nobody waits for another's fetch
            self._ask(_RETRY_EVERY_S, 0 if id in self._keys and self._age() <= STALE_S else _WAIT_S)
        elif id not in self._keys:
            self._ask(_UNKNOWN_EVERY_S, _WAIT_S)
        if self._age() > STALE_S:
            raise IssuerUnreachable(
                "the provider that vouches for this token does not answer",
                "try again; tokens of the consortium's own go on: `consortium token issue`",
            )
        keys = self._keys
        if id is None and len(keys) == 1:
            return next(iter(keys.values()))
        if not isinstance(id, str) or id not in keys:
            raise _invalid("no key of its issuer has signed it")
        return keys[id]

    def fetch(self) -> None:
        """Fetches the keys.

        Raises:
            IssuerUnreachable: if they cannot be had, or are none.
        """
        try:
            self._keys = published_keys(self._issuer)
        except _UNUSABLE as error:
            raise IssuerUnreachable(
                f"{self._issuer} does not publish its keys ({type(error).__name__})",
                "check the address in oidc.json, the network and the certificate",
            ) from None
        self._fetched = self._clock()

    def ids(self) -> list[str]:
        """The ids of the keys that are known."""
        return sorted(str(id) for id in self._keys)

    def _age(self) -> float:
        return self._clock() - self._fetched

    def _ask(self, every: float, wait_s: float) -> None:
        """Fetches them, if the last try is so long ago; one at a time, nobody waits for long."""
        if not self._waiting.acquire(blocking=False):
            return
        try:
            if self._lock.acquire(timeout=wait_s):
                self._fetch_once(every)
        finally:
            self._waiting.release()

    def _fetch_once(self, every: float) -> None:
        try:
            if (now := self._clock()) >= self._asked + every:
                self._asked = now
                self.fetch()
        except IssuerUnreachable as error:
            log.warning("%s: %s", error.code, error.what)
        finally:
            self._lock.release()


def published_keys(issuer: str) -> dict[str | None, Key]:
    """What an issuer publishes: OpenID Connect Discovery 1.0, RFC 7517.

    Raises:
        httpx.HTTPError, ValueError, KeyError, TypeError: if it is not what it must be.
    """
    with httpx.Client(timeout=_TIMEOUT_S, trust_env=not is_local(issuer)) as client:
        known = _json(client, f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        if known["issuer"] != issuer:
            raise ValueError("it says that it is another issuer")
        found = _json(client, _safe(known["jwks_uri"]))["keys"]
    keys: dict[str | None, Key] = {}
    for form in found:
        imported = _IMPORT.get(form.get("kty"))
        if imported is None or form.get("use", "sig") != "sig":
            continue
        try:
            keys[form.get("kid")] = imported(form)
        except (JoseError, ValueError):
            continue  # a curve of another world
    if not keys:
        raise ValueError("it has no key that could have signed")
    return keys


def _json(client: httpx.Client, url: str) -> Any:
    deadline, data = time.monotonic() + _TIMEOUT_S, bytearray()
    with client.stream("GET", url) as response:
        response.raise_for_status()
        for chunk in response.iter_bytes():
            data += chunk
            if len(data) > _MOST_BYTES or time.monotonic() > deadline:
                raise ValueError("it is too long, or comes too slowly")
    return json.loads(data)


def _claim(claims: Mapping[str, Any], name: str) -> Any:
    """A claim by its name, or by its path: ``realm_access.roles``."""
    if name in claims:
        return claims[name]
    value: Any = claims
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _invalid(what: str) -> TokenInvalid:
    return TokenInvalid(f"the token was refused: {what}", "sign in again at the provider")
