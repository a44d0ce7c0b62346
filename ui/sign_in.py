"""Signing in and out: two plain pages of our own, which need no script.

A person signs in with the token that the consortium's admin issued. It travels once, in a form's
body; the browser keeps a session's random id instead (HttpOnly, SameSite=Strict). Whoever started
the portal on this machine comes in by an address with a code, which is left at once.
"""

import re
from base64 import b64encode
from hashlib import sha256
from html import escape
from importlib.resources import files
from urllib.parse import parse_qs

import httpx
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from ui.gate import SIGN_IN, SIGN_OUT, own_origin
from ui.sessions import LIFETIME_S, LocalDoor, Sessions

MOST_BYTES = 20_000
_OWN_PATH = re.compile(r"/[a-z-]*(\?[A-Za-z0-9_=&.%-]*)?")
_PAGE = files("ui").joinpath("sign_in.html").read_text()
_STYLE = re.search(r"<style>(.*?)</style>", _PAGE, re.DOTALL)
assert _STYLE is not None
_POLICY = (
    "default-src 'none'; img-src data:; form-action 'self'; base-uri 'none'; "
    f"style-src 'sha256-{b64encode(sha256(_STYLE[1].encode()).digest()).decode()}'; "
    "frame-ancestors 'none'"
)
REFUSED = (
    "This token was refused. It is not one of this consortium's, or it has expired or was taken "
    "back. Check that you copied all of it, or ask the consortium's admin for another."
)
AWAY = "The consortium's API does not answer at the moment. Try again in a while."
NOT_A_PERSON = (
    "This is an institution's own token: it lasts a minute and is for its agent. "
    "Ask the consortium's admin for a token of your own."
)
NO_ROLE = (
    "You are known, but have no role in this consortium. Ask the consortium's admin for a token."
)
WRONG_CODE = (
    "This address is of an earlier run of the portal. Open the one that its terminal shows now."
)


class SignIn:
    """The two pages.

    Args:
        sessions: where who is signed in is kept.
        cookie: the cookie's name.
        api: asks the API whose a token is.
        door: lets in who started the portal on this machine, if there is such a way.
    """

    def __init__(
        self, sessions: Sessions, cookie: str, api: httpx.AsyncClient, door: LocalDoor | None
    ) -> None:
        self._sessions, self._cookie, self._api, self._door = sessions, cookie, api, door

    def routes(self) -> list[Route]:
        """Their routes."""
        return [
            Route(SIGN_IN, self.sign_in, methods=["GET", "POST"]),
            Route(SIGN_OUT, self.sign_out, methods=["GET", "POST"]),
        ]

    async def sign_in(self, request: Request) -> Response:
        """The form, and what comes of it."""
        code, after = request.query_params.get("code"), _own(request.query_params.get("next"))
        if request.method == "GET":
            if code is None:
                said = "You are signed out." if "out" in request.query_params else ""
                return self._form(after, said)
            if self._door is not None and self._door.opens(code):
                return self._let_in(request, self._door.token, after)
            return self._form(after, WRONG_CODE, 403)
        if not own_origin(request.headers):
            return self._form(after, "This form was sent from another site, and not taken.", 403)
        form = await _posted(request)
        token, after = form.get("token", "").strip(), _own(form.get("next"))
        why = await self._refusal(token)
        return self._let_in(request, token, after) if why is None else self._form(after, *why)

    async def sign_out(self, request: Request) -> Response:
        """Ends the session: by a form of ours only."""
        if request.method == "GET":
            return _page("Sign out", _SIGN_OUT_FORM)
        if not own_origin(request.headers):
            return self._form("/", "This form was sent from another site, and not taken.", 403)
        self._sessions.end(request.cookies.get(self._cookie))
        answer = RedirectResponse(f"{SIGN_IN}?out", 303)
        answer.delete_cookie(self._cookie)
        return answer

    async def _refusal(self, token: str) -> tuple[str, int] | None:
        """Why this token lets nobody in; None if it does."""
        if not re.fullmatch(r"[\x21-\x7e]{1,8000}", token):
            return REFUSED, 401
        try:
            answer = await self._api.get("/v1/me", headers={"Authorization": f"Bearer {token}"})
            if answer.is_success:
                return (NOT_A_PERSON, 403) if answer.json()["role"] == "institution" else None
        except (httpx.TransportError, ValueError, KeyError):
            return AWAY, 503
        return {401: (REFUSED, 401), 403: (NO_ROLE, 403)}.get(answer.status_code, (AWAY, 503))

    def _let_in(self, request: Request, token: str, after: str) -> Response:
        self._sessions.end(request.cookies.get(self._cookie))
        answer = RedirectResponse(after, 303, headers={"Cache-Control": "no-store"})
        answer.set_cookie(
            self._cookie, self._sessions.begin(token), max_age=LIFETIME_S, httponly=True,
            samesite="strict", secure=request.url.scheme == "https",
        )  # fmt: skip
        return answer

    def _form(self, after: str, said: str = "", status: int = 200) -> Response:
        kind = "bad" if status >= 400 else "note"
        note = f'<p class="{kind}" role="alert">{escape(said)}</p>' if said else ""
        local = _LOCAL if self._door is not None else ""
        return _page("Sign in", _SIGN_IN_FORM % (note, escape(after), local), status)


_SIGN_IN_FORM = """<p class="lead">Hospitals learn together; no patient's record leaves the house.
Here is what their ledger says.</p>%s
<form method="post" action="/sign-in"><input type="hidden" name="next" value="%s">
<label for="token">Your token</label>
<input id="token" name="token" type="password" autocomplete="off" autocapitalize="none"
 spellcheck="false" required autofocus placeholder="mpa_…">
<button type="submit">Sign in</button></form>
<p class="hint">No token? The consortium's admin issues one, with your name and your role:</p>
<code>consortium token issue "Ada Byron" --role auditor</code>%s
<p class="hint">Signed in already in this browser? <a href="/">Open the portal</a></p>"""
_LOCAL = """<p class="hint">Did you start this portal on this machine? Open the address that its
terminal shows: it signs you in.</p>"""
_SIGN_OUT_FORM = """<p class="lead">You will need your token to sign in again.</p>
<form method="post" action="/sign-out"><button type="submit">Sign out</button></form>
<p class="hint"><a href="/">Back to the portal</a></p>"""


def _page(title: str, content: str, status: int = 200) -> Response:
    body = _PAGE.replace("{title}", title).replace("{content}", content)
    headers = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-store"}
    return HTMLResponse(body, status, headers)


async def _posted(request: Request) -> dict[str, str]:
    """A form's fields; one that is too long, or no text, has none."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MOST_BYTES:
            return {}
    try:
        fields = parse_qs(body.decode("ascii"), errors="strict", max_num_fields=10)
    except ValueError:
        return {}
    return {name: values[-1] for name, values in fields.items()}


def _own(path: str | None) -> str:
    """Where to go after signing in: a page of this portal, never another site."""
    return path if path and _OWN_PATH.fullmatch(path) else "/"
