"""Who may ask the API for what: the table in docs/api.md, held against the running API."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from sqlalchemy import Engine
from typer.testing import CliRunner

from consortium.access import PEOPLE, AccessTokens, Role
from consortium.api.app import create_app
from consortium.api.local import local_api
from consortium.api.tokens import sign_token
from consortium.cli.main import app as commands
from consortium.coordinator.view import StoreView
from consortium.errors import TokenInvalid, TokenUnknown
from consortium.home import Home
from consortium.network import transaction
from consortium.simulation.founding import found_ledger
from hospital_agent.folder import HospitalFolder
from hospital_agent.simulation import SimulatedHospital
from ledger import keys
from ledger.store import LedgerStore

TABLE = Path(__file__).parents[2] / "docs" / "api.md"
NAMES = [f"hospital-{number}" for number in range(1, 5)]
FILLED = {
    "height": "0", "index": "0", "digest": "0" * 64, "model": "0" * 64, "job": "job-1",
    "institution": NAMES[0],
}  # fmt: skip


@dataclass
class Served:
    """The API of a founded home."""

    home: Path
    app: FastAPI
    client: httpx.Client
    institution: str

    @property
    def tokens(self) -> AccessTokens:
        return AccessTokens(self.home)

    def token(self, role: Role) -> str:
        return self.institution if role is Role.INSTITUTION else self.tokens.issue("Ada", role)[1]

    def ask(self, method: str, path: str, token: str) -> httpx.Response:
        filled = re.sub(r"\{(\w+)\}", lambda found: FILLED[found[1]], path)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        waits = {"seconds": 0} if path == "/v1/ledger/changes" else {}
        asked = {"params": waits, "headers": headers}
        with self.client.stream(method, filled, **asked) as answer:
            if answer.headers.get("content-type", "").startswith("text/event-stream"):
                answer.close()  # it never ends
            else:
                answer.read()
        return answer


@pytest.fixture
def served(engine: Engine, homes: Callable[..., Path]) -> Iterator[Served]:
    home = Home(homes())
    home.note({"title": "Test"})
    ring = home.make_keys()
    view = StoreView(LedgerStore(engine), home.content, home.models)
    hospitals = [SimulatedHospital(home.hospital(n), n, n.title()) for n in NAMES]
    found_ledger(view, ring, hospitals, 1_750_000_000)
    folder = HospitalFolder(home.hospital(NAMES[0]))
    token = sign_token(NAMES[0], view.ledger, folder.keys[keys.Role.API])
    with view.store.changes() as changes:
        app = create_app(view.store, home.content, home.models, home=home.path, changes=changes)
        with local_api(app) as client:
            yield Served(home.path, app, client, token)


def declared(app: FastAPI) -> dict[tuple[str, str], frozenset[Role]]:
    """The roles that each route names; none for those that are opened by an invitation."""
    found = {}
    for route in flat(app.routes):
        roles = [getattr(d.call, "roles", frozenset()) for d in route.dependant.dependencies]
        for method in route.methods:
            found[method, route.path] = frozenset[Role]().union(*roles)
    documented = {
        (method.upper(), path) for path, item in app.openapi()["paths"].items() for method in item
    }
    assert set(found) == documented  # none was missed
    return found


def flat(routes: Sequence[object]) -> Iterator[APIRoute]:
    """All routes, those of included routers too."""
    for route in routes:
        if isinstance(route, APIRoute):
            yield route
        elif included := getattr(route, "original_router", None):
            yield from flat(included.routes)


def rendered(app: FastAPI) -> str:
    """The truth table, as it stands in the docs."""
    lines = [f"| request | {' | '.join(Role)} |", f"|---|{'---|' * len(Role)}"]
    for (method, path), roles in sorted(declared(app).items(), key=lambda item: item[0][::-1]):
        marks = ["yes" if role in roles else "–" for role in Role]
        lines.append(f"| `{method} {path}` | {' | '.join(marks)} |")
    return "\n".join(lines)


def test_the_table_in_the_docs_is_what_the_routes_declare(served: Served) -> None:
    assert rendered(served.app) in TABLE.read_text(), f"put this in:\n{rendered(served.app)}"


def test_every_route_keeps_to_the_table(served: Served) -> None:
    without = {path for (_, path), roles in declared(served.app).items() if not roles}
    assert without == {
        "/v1/invitation", "/v1/enrolments", "/v1/genesis", "/v1/genesis/signatures",
        "/v1/health", "/v1/ready",
    }  # fmt: skip
    tokens = {role: served.token(role) for role in Role}
    for (method, path), roles in declared(served.app).items():
        for role, token in tokens.items():
            if not roles:
                continue
            answer = served.ask(method, path, token)
            assert answer.status_code < 500, (method, path, answer.text)
            allowed = answer.status_code not in (401, 403)
            assert allowed == (role in roles), (method, path, role, answer.text)
            if not allowed:
                assert answer.json()["code"] == "RoleForbidden"
                assert answer.headers["content-type"] == "application/problem+json"


def test_tokens_that_do_not_hold_are_refused_on_every_route(served: Served) -> None:
    revoked, text = served.tokens.issue("Ada", Role.ADMIN)
    served.tokens.revoke(revoked.id)
    expired = AccessTokens(served.home, lambda: 1_000.0).issue("Ada", Role.ADMIN)[1]
    valid = served.tokens.issue("Ada", Role.ADMIN)[1]
    bad = {
        "revoked": text, "expired": expired, "unknown": f"mpa_{valid[4:].swapcase()}",
        "no token": "", "half a token": valid[:20], "of an institution": f"{served.institution}x",
    }  # fmt: skip
    for (method, path), roles in declared(served.app).items():
        for what, token in bad.items():
            answer = served.ask(method, path, token)
            if roles:
                assert answer.status_code == 401, (method, path, what)
                assert answer.json()["code"] == "TokenInvalid"
            assert token[12:] not in answer.text or not token
    assert served.ask("GET", "/v1/ledger/head", valid).status_code == 200


def test_only_a_hash_is_stored(served: Served) -> None:
    _, text = served.tokens.issue("Ada", Role.AUDITOR)
    secret = text.split("_", 2)[2]  # it may hold underscores
    with transaction(served.home) as connection:
        (stored,) = connection.execute("SELECT * FROM access_tokens").fetchall()
    assert not any(secret in str(value) for value in stored)


def test_a_token_lives_as_long_as_it_says(tmp_path: Path) -> None:
    now = [1_000.0]
    tokens = AccessTokens(tmp_path, lambda: now[0])
    token, text = tokens.issue("Ada", Role.SCIENTIST, lifetime_s=60)
    now[0] = 1_059.0
    assert tokens.open(text).name == "Ada"
    now[0] = 1_060.0
    with pytest.raises(TokenInvalid, match="expired"):
        tokens.open(text)
    tokens.revoke(token.id)
    for id in (token.id, "nobody"):
        with pytest.raises(TokenUnknown):
            tokens.revoke(id)


def test_the_command_issues_lists_and_revokes(served: Served) -> None:
    def run(*arguments: str) -> str:
        done = CliRunner().invoke(commands, ["token", *arguments, "--home", str(served.home)])
        assert done.exit_code == 0, done.output
        return done.output

    for role in PEOPLE:
        printed = run("issue", "Ada Byron", "--role", role)
        text = re.findall(r"mpa_\S+", printed)[0]
        assert served.ask("GET", "/v1/ledger/head", text).status_code == 200
        listed = run("list")
        assert text not in listed
        (id,) = re.findall(rf"^(\w+)  {role} ", listed, re.MULTILINE)
        run("revoke", id)
        assert served.ask("GET", "/v1/ledger/head", text).status_code == 401


@pytest.mark.parametrize(
    "arguments",
    [["token", "list"], ["token", "revoke", "0a1b2c3d"],
     ["token", "issue", "Ada", "--role", "admin"], ["institution", "pending"],
     ["institution", "invitations"], ["institution", "approve", "north"],
     ["institution", "invite", "north", "--title", "North", "--url", "https://localhost"]],
)  # fmt: skip
def test_a_mistyped_home_is_not_made(tmp_path: Path, arguments: list[str]) -> None:
    home = tmp_path / "mistyped"
    done = CliRunner().invoke(commands, [*arguments, "--home", str(home)])
    assert type(done.exception).__name__ == "HomeInvalid"
    assert not home.exists()


@pytest.mark.parametrize(
    "arguments",
    [["Ada", "--role", "institution"], ["Ada", "--role", "boss"], ["", "--role", "admin"],
     ["Ada", "--role", "admin", "--expires", "91d"]],
)  # fmt: skip
def test_what_is_no_token_is_not_issued(served: Served, arguments: list[str]) -> None:
    done = CliRunner().invoke(commands, ["token", "issue", *arguments, "--home", str(served.home)])
    assert done.exit_code != 0
    assert type(done.exception).__name__ == "OptionInvalid"
    assert served.tokens.all() == []
