"""Signing in at an OpenID provider: a real one on the loopback address, with keys of its own."""

import hmac
import json
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import Depends
from joserfc import jwt
from joserfc.jwk import ECKey, OKPKey, RSAKey
from sqlalchemy import create_engine
from typer.testing import CliRunner

from consortium.access import AccessTokens, Role
from consortium.api.callers import EVERYONE, Callers
from consortium.api.local import local_api
from consortium.api.oidc import FRESH_S, STALE_S, Oidc, OidcConfig, read_oidc
from consortium.api.operations import add_operations, new_app
from consortium.cli.main import app as commands
from consortium.errors import IssuerUnreachable, OidcInvalid, RoleForbidden, TokenInvalid
from ledger.store import LedgerStore

ROLES = {"hearts-audit": "auditor", "hearts-research": "scientist", "hearts-admins": "admin"}
RSA, OTHER_RSA = RSAKey.generate_key(2048), RSAKey.generate_key(2048)
SIGNERS = [
    ("RS256", RSA), ("PS256", RSA), ("ES256", ECKey.generate_key("P-256")),
    ("EdDSA", OKPKey.generate_key("Ed25519")), ("Ed25519", OKPKey.generate_key("Ed25519")),
]  # fmt: skip


@dataclass
class Issuer:
    """A provider, and what it publishes at this moment."""

    url: str = ""
    keys: list[dict[str, Any]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    away: bool = False
    calls_itself: str | None = None

    def answer(self, path: str) -> Any:
        if path == "/jwks":
            return {"keys": self.keys}
        return {"issuer": self.calls_itself or self.url, "jwks_uri": f"{self.url}/jwks"}

    def publish(self, **keys: Any) -> None:
        self.keys = [{**key.as_dict(private=False), "kid": kid} for kid, key in keys.items()]


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    made = Issuer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.asked.append(self.path)
            if made.away:
                self.send_error(502)
                return
            content = json.dumps(made.answer(self.path)).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    made.url = f"http://127.0.0.1:{server.server_address[1]}"
    made.publish(first=RSA)
    yield made
    server.shutdown()
    server.server_close()


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def provider(issuer: Issuer, clock: Clock, **more: Any) -> Oidc:
    config = {"issuer": issuer.url, "audience": "medpole", "roles": ROLES, **more}
    return Oidc(OidcConfig.model_validate(config), clock)


def token(
    issuer: Issuer, key: Any = RSA, alg: str = "RS256", kid: str | None = "first", **claims: Any
) -> str:
    now = int(time.time())
    content = {
        "iss": issuer.url, "aud": "medpole", "sub": "ada", "iat": now, "exp": now + 300,
        "roles": ["something", "hearts-audit"], **claims,
    }  # fmt: skip
    content = {name: value for name, value in content.items() if value is not None}
    header = {"alg": alg} | ({"kid": kid} if kid else {})
    return jwt.encode(header, content, key, algorithms=[alg])


@pytest.mark.parametrize(("alg", "key"), SIGNERS)
def test_a_token_of_the_issuer_holds(issuer: Issuer, clock: Clock, alg: str, key: Any) -> None:
    issuer.publish(one=OTHER_RSA, first=key)
    caller = provider(issuer, clock).open(token(issuer, key, alg))
    assert (caller.name, caller.role) == ("ada", Role.AUDITOR)


def test_what_does_not_hold_is_refused(issuer: Issuer, clock: Clock) -> None:
    oidc, now = provider(issuer, clock), int(time.time())
    good = token(issuer)
    head, body, signature = good.split(".")
    as_secret = f"{_part({'alg': 'HS256', 'kid': 'first'})}.{body}"
    by_public_key = hmac.digest(RSA.as_pem(private=False), as_secret.encode(), "sha256")
    bad = {
        "for another audience": token(issuer, aud="another"),
        "for nobody": token(issuer, aud=None),
        "expired": token(issuer, exp=now - 31),
        "without an end": token(issuer, exp=None),
        "not valid yet": token(issuer, nbf=now + 60),
        "of tomorrow": token(issuer, iat=now + 86_400),
        "with times that are none": token(issuer, exp="tomorrow"),
        "of another issuer": token(issuer, iss=f"{issuer.url}/"),
        "by another key": token(issuer, OTHER_RSA),
        "of an unknown key": token(issuer, OTHER_RSA, kid="second"),
        "with the public key as a secret": f"{as_secret}.{_encoded(by_public_key)}",
        "not signed": f"{_part({'alg': 'none'})}.{body}.",
        "signed by none, with a signature": f"{_part({'alg': 'none'})}.{body}.{signature}",
        "changed": f"{head}.{_part({'iss': issuer.url, 'aud': 'medpole'})}.{signature}",
        "of a nameless one": token(issuer, sub=None),
        "of somebody with a control character": token(issuer, sub="a\nb"),
        "of somebody without end": token(issuer, sub="a" * 201),
        "half": good[:-20], "nothing": "", "dots": "..", "no JSON": "e30.e30.e30",
    }  # fmt: skip
    for what, text in bad.items():
        with pytest.raises(TokenInvalid) as refused:
            oidc.open(text)
        assert text[:40] not in str(refused.value) or not text, what
    assert oidc.open(good).name == "ada"
    assert oidc.open(token(issuer, aud=["x", "medpole"], exp=now - 20, nbf=now + 20)).name == "ada"
    assert oidc.open(token(issuer, kid=None)).name == "ada"  # there is but one key


def _part(content: Any) -> str:
    return _encoded(json.dumps(content).encode())


def _encoded(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def test_roles_come_from_the_claim_that_the_file_names(issuer: Issuer, clock: Clock) -> None:
    nested = provider(issuer, clock, role_claim="realm_access.roles", name_claim="email")
    both = {"roles": ["hearts-audit", "hearts-research"]}
    caller = nested.open(token(issuer, realm_access=both, email="ada@example.org"))
    assert (caller.name, caller.role) == ("ada@example.org", Role.SCIENTIST)
    with_dots = provider(issuer, clock, role_claim="https://example.org/role")
    claims = {"https://example.org/role": "hearts-admins"}
    assert with_dots.open(token(issuer, **claims)).role is Role.ADMIN
    for wrong in ([], "nobody", None, 7, {"hearts-audit": 1}, [["hearts-audit"]], ["auditor"]):
        with pytest.raises(RoleForbidden):
            provider(issuer, clock).open(token(issuer, roles=wrong))


def test_a_new_key_is_found_and_asked_for_once_a_minute(issuer: Issuer, clock: Clock) -> None:
    oidc = provider(issuer, clock)
    oidc.open(token(issuer))
    issuer.publish(second=OTHER_RSA)
    asked = len(issuer.asked)
    for _ in range(3):
        with pytest.raises(TokenInvalid):  # they were fetched a moment ago
            oidc.open(token(issuer, OTHER_RSA, kid="second"))
    assert len(issuer.asked) == asked
    clock.now += 61
    assert oidc.open(token(issuer, OTHER_RSA, kid="second")).name == "ada"
    with pytest.raises(TokenInvalid):  # the old key counts no more
        oidc.open(token(issuer))
    assert len(issuer.asked) == asked + 2


def test_keys_are_fetched_when_they_are_old_and_hold_while_the_issuer_is_away(
    issuer: Issuer, clock: Clock
) -> None:
    oidc = provider(issuer, clock)
    oidc.open(token(issuer))
    assert issuer.asked == ["/.well-known/openid-configuration", "/jwks"]
    oidc.open(token(issuer))
    assert len(issuer.asked) == 2
    issuer.away = True
    clock.now += FRESH_S + 1
    for _ in range(3):
        assert oidc.open(token(issuer)).name == "ada"
    assert len(issuer.asked) == 3  # it is not asked by everybody
    clock.now += STALE_S
    with pytest.raises(IssuerUnreachable):
        oidc.open(token(issuer))
    issuer.away = False
    clock.now += 11
    assert oidc.open(token(issuer)).name == "ada"


@pytest.mark.parametrize(
    "said",
    [{"calls_itself": "https://example.org"}, {"away": True}, {"keys": []}, {"keys": [7]},
     {"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "first"}]}],
)  # fmt: skip
def test_an_issuer_that_is_not_what_it_says_vouches_for_nobody(
    issuer: Issuer, clock: Clock, said: dict[str, Any]
) -> None:
    for name, value in said.items():
        setattr(issuer, name, value)
    with pytest.raises(IssuerUnreachable):
        provider(issuer, clock).open(token(issuer))


def test_over_the_api_an_absent_issuer_stops_its_own_tokens_only(
    issuer: Issuer, clock: Clock, tmp_path: Path
) -> None:
    store = LedgerStore(create_engine("postgresql+psycopg2://"))
    callers = Callers(store, AccessTokens(tmp_path), None, oidc=provider(issuer, clock))
    site = new_app()
    site.get("/v1/me", dependencies=[Depends(callers.only(EVERYONE))])(lambda: {})
    add_operations(site, lambda: 0, None, None)
    own = AccessTokens(tmp_path).issue("Ada", Role.AUDITOR)[1]
    with local_api(site) as client:

        def ask(text: str) -> tuple[int, str]:
            answer = client.get("/v1/me", headers={"Authorization": f"Bearer {text}"})
            return answer.status_code, answer.json().get("code", "")

        assert ask(token(issuer)) == (200, "")
        assert ask(token(issuer, aud="another")) == (401, "TokenInvalid")
        assert ask(token(issuer, roles=[])) == (403, "RoleForbidden")
        issuer.away = True
        clock.now += STALE_S + 1
        assert ask(token(issuer)) == (503, "IssuerUnreachable")
        assert ask(own) == (200, "")


@pytest.mark.parametrize(
    ("changed", "named"),
    [({"issuer": "http://login.example.org"}, "issuer"), ({"roles": {}}, "roles"),
     ({"roles": {"a": "institution"}}, "roles.a"), ({"audience": ""}, "audience"),
     ({"secret": "x"}, "secret")],
)  # fmt: skip
def test_a_file_that_cannot_be_used_says_where(
    tmp_path: Path, changed: dict[str, Any], named: str
) -> None:
    form = {"issuer": "https://login.example.org", "audience": "medpole", "roles": ROLES}
    (tmp_path / "oidc.json").write_text(json.dumps({**form, **changed}))
    with pytest.raises(OidcInvalid, match=named):
        read_oidc(tmp_path)


def test_the_command_checks_file_and_issuer(issuer: Issuer, tmp_path: Path) -> None:
    def run() -> Any:
        return CliRunner().invoke(commands, ["oidc", "--home", str(tmp_path), "--format", "json"])

    (tmp_path / "home.json").write_text("{}")
    assert isinstance(run().exception, OidcInvalid)
    form = {"issuer": issuer.url, "audience": "medpole", "roles": ROLES}
    (tmp_path / "oidc.json").write_text(json.dumps(form))
    assert json.loads(run().output)["keys"] == ["first"]
    issuer.away = True
    assert isinstance(run().exception, IssuerUnreachable)
    assert httpx.get(issuer.url).status_code == 502
