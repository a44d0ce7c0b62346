"""The portal's door: nobody gets through without a session, be it a page, a file or the websocket.

What is open: signing in and out, and the word that the server is alive. Each answer carries the
headers that keep other sites out; they let pages load from this server and from nowhere else.
"""

from urllib.parse import quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ui.sessions import Sessions

SIGN_IN, SIGN_OUT, ALIVE = "/sign-in", "/sign-out", "/_stcore/health"
_OPEN = {SIGN_IN, SIGN_OUT, ALIVE}
# Charts are compiled in the browser (Vega), Streamlit's styles are written by its script.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-eval' %s; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; object-src 'none'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'none'"
)
_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",  # with less, a browser's own form has no origin to show
}


class Gate:
    """The outermost of the portal's middlewares.

    Args:
        app: what is behind it.
        sessions: who is signed in.
        cookie: the name of the cookie that holds a session's id.
        scripts: what may run besides scripts of this server's files, as a policy names it.
    """

    def __init__(self, app: ASGIApp, sessions: Sessions, cookie: str, scripts: str = "") -> None:
        self._app, self._sessions, self._cookie = app, sessions, cookie
        self._headers = {**_HEADERS, "content-security-policy": _POLICY % scripts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes one request or websocket on, or refuses it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return

        async def headed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)

        connection = HTTPConnection(scope)
        path, headers = scope["path"], connection.headers
        known = self._sessions.token(connection.cookies.get(self._cookie)) is not None
        if scope["type"] == "websocket":
            if known and own_origin(headers):
                await self._app(scope, receive, send)
            else:
                await send({"type": "websocket.close", "code": 1008})
        elif known or path in _OPEN:
            await self._app(scope, receive, headed)
        elif scope["method"] == "GET" and "text/html" in headers.get("accept", ""):
            query = scope["query_string"].decode("latin-1")
            asked = quote(f"{path}?{query}" if query else path)
            where = SIGN_IN if path == "/" else f"{SIGN_IN}?next={asked}"
            await RedirectResponse(where, 303)(scope, receive, headed)
        else:
            await PlainTextResponse("sign in first", 401)(scope, receive, headed)


def own_origin(headers: Headers) -> bool:
    """Whether a request comes from one of our own pages, or from no page at all.

    A browser names the origin with every form it posts and every websocket it opens.
    """
    origin = headers.get("origin")
    if origin is None:
        return headers.get("sec-fetch-site", "none") in ("none", "same-origin")
    return urlsplit(origin).netloc == headers.get("host")
