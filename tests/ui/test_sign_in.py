"""Signing in and out, and the gate before everything, over an API that answers as told."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from consortium.portal import is_loopback
from ui import sign_in
from ui.gate import Gate
from ui.index import index_page, script_sources
from ui.server import PATHS, settings
from ui.sessions import LIFETIME_S, LocalDoor, Sessions
from ui.sign_in import SignIn

COOKIE, SITE = "medpole_1", "http://testserver"
DOOR = LocalDoor("the-code", "the-token-behind-it")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def api(request: httpx.Request) -> httpx.Response:
    """Whose token it is."""
    shown = request.headers["authorization"].removeprefix("Bearer ")
    if shown == "away":
        raise httpx.ConnectError("refused")
    if shown == "broken":
        return httpx.Response(503, json={})
    if shown == "known-without-role":
        return httpx.Response(403, json={})
    roles = {"good": "auditor", "institution": "institution"}
    if shown not in roles:
        return httpx.Response(401, json={})
    return httpx.Response(200, json={"name": "Ada", "role": roles[shown]})


@contextmanager
def site(
    door: LocalDoor | None = DOOR, clock: Callable[[], float] = time.monotonic
) -> Iterator[TestClient]:
    sessions = Sessions(clock)
    asked = httpx.AsyncClient(base_url="http://api", transport=httpx.MockTransport(api))

    async def inside(request: Any) -> PlainTextResponse:
        return PlainTextResponse("inside")

    async def stream(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text("inside")
        await socket.close()

    @asynccontextmanager
    async def lifespan(app: Starlette) -> Any:
        async with asked:
            yield

    routes = [*SignIn(sessions, COOKIE, asked, door).routes(), Route("/page", inside),
              WebSocketRoute("/_stcore/stream", stream)]  # fmt: skip
    gate = Middleware(Gate, sessions=sessions, cookie=COOKIE)
    app = Starlette(routes=routes, middleware=[gate], lifespan=lifespan)
    with TestClient(app, follow_redirects=False, headers={"origin": SITE}) as client:
        yield client


def inside(client: TestClient) -> bool:
    return client.get("/page").text == "inside"


def test_a_token_signs_in_and_out() -> None:
    with site() as client:
        assert client.get("/page").status_code == 401
        answer = client.post("/sign-in", data={"token": " good\n", "next": "/ledger?q=12"})
        assert (answer.status_code, answer.headers["location"]) == (303, "/ledger?q=12")
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "samesite=strict" in cookie.lower()
        assert "good" not in cookie
        assert inside(client)
        with client.websocket_connect("/_stcore/stream") as socket:
            assert socket.receive_text() == "inside"
        assert '<form method="post" action="/sign-out">' in client.get("/sign-out").text
        kept = client.cookies[COOKIE]
        assert client.post("/sign-out").headers["location"] == "/sign-in?out"
        assert COOKIE not in client.cookies
        client.cookies[COOKIE] = kept  # whoever kept the cookie is out too
        assert not inside(client)


@pytest.mark.parametrize(
    ("token", "status", "said"),
    [("wrong", 401, sign_in.REFUSED), ("", 401, sign_in.REFUSED), ("a b", 401, sign_in.REFUSED),
     ("é", 401, sign_in.REFUSED), ("x" * 30_000, 401, sign_in.REFUSED),
     ("away", 503, sign_in.AWAY), ("broken", 503, sign_in.AWAY),
     ("institution", 403, sign_in.NOT_A_PERSON), ("known-without-role", 403, sign_in.NO_ROLE)],
)  # fmt: skip
def test_who_is_not_let_in_is_told_why(token: str, status: int, said: str) -> None:
    with site() as client:
        answer = client.post("/sign-in", data={"token": token})
        assert answer.status_code == status
        assert said.split(".")[0].replace("'", "&#x27;") in answer.text
        assert "set-cookie" not in answer.headers
        assert f'value="{token}"' not in answer.text
        assert not inside(client)


def test_a_form_of_another_site_is_not_taken() -> None:
    with site() as client:
        for headers in ({"origin": "https://evil.example"}, {"origin": "null"},
                        {"origin": f"{SITE}.evil.example"}):  # fmt: skip
            answer = client.post("/sign-in", data={"token": "good"}, headers=headers)
            assert answer.status_code == 403
            assert "set-cookie" not in answer.headers
        client.post("/sign-in", data={"token": "good"})
        assert (
            client.post("/sign-out", headers={"origin": "https://evil.example"}).status_code == 403
        )
        assert inside(client)
        with (
            pytest.raises(WebSocketDisconnect),
            client.websocket_connect("/_stcore/stream", headers={"origin": "https://evil.example"}),
        ):
            pass


@pytest.mark.parametrize("where", ["//evil.example", "https://evil.example", "/\\evil.example",
                                   "/a/../b", "javascript:alert(1)", '/"><script>'])  # fmt: skip
def test_signing_in_leads_to_no_other_site(where: str) -> None:
    with site() as client:
        answer = client.post("/sign-in", data={"token": "good", "next": where})
        assert answer.headers["location"] == "/"
        assert where not in client.get("/sign-in", params={"next": where}).text


def test_the_code_signs_in_who_started_it_and_is_left_at_once() -> None:
    with site() as client:
        assert client.get("/sign-in?code=another").status_code == 403
        assert "earlier run" in client.get("/sign-in?code=another").text
        answer = client.get("/sign-in?code=the-code")
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        assert inside(client)


def test_beyond_this_machine_there_is_no_code() -> None:
    with site(door=None) as client:
        assert client.get("/sign-in?code=the-code").status_code == 403
        assert "terminal" not in client.get("/sign-in").text
    assert is_loopback("127.0.0.1")
    assert is_loopback("::1")
    assert not is_loopback("0.0.0.0")
    assert not is_loopback("192.168.1.4")


def test_a_session_ends_by_itself() -> None:
    clock = Clock()
    with site(clock=clock) as client:
        client.post("/sign-in", data={"token": "good"})
        clock.now += LIFETIME_S - 1
        assert inside(client)
        clock.now += 1
        assert not inside(client)


@pytest.mark.parametrize("path", ["/page", "/static/x.js", "/media/x", "/download/export", "/a"])
def test_without_a_cookie_there_is_nothing(path: str) -> None:
    with site() as client:
        for cookie in ("", "x" * 43):
            client.cookies[COOKIE] = cookie
            assert client.get(path).status_code == 401
            assert client.post(path).status_code == 401
            page = client.get(path, headers={"accept": "text/html"})
            assert page.headers["location"] == f"/sign-in?next={path}"
            with pytest.raises(WebSocketDisconnect), client.websocket_connect("/_stcore/stream"):
                pass


def test_every_answer_keeps_other_sites_out() -> None:
    with site() as client:
        client.post("/sign-in", data={"token": "good"})
        for path in ("/page", "/sign-in", "/sign-out", "/missing", "/sign-in?code=x"):
            headers = client.get(path).headers
            assert "frame-ancestors 'none'" in headers["content-security-policy"]
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "same-origin"


def test_the_server_leaves_nothing_to_a_configuration_file() -> None:
    given = settings("127.0.0.1", 1)
    assert given["browser.gatherUsageStats"] is False
    assert given["client.showErrorDetails"] == "none"
    assert given["logger.hideWelcomeMessage"] is True  # it would ask the internet who we are
    assert json.dumps(given)
    page = index_page()
    assert "<title>MedPoLe</title>" in page
    assert len(script_sources(page).split()) == page.count("<script>")
    assert PATHS[0] == "/"
