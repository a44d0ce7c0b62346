"""Files that the API streams, handed on through the portal with the signed-in person's token.

Chunk by chunk: an export of any size passes, and none is ever in memory as a whole.
"""

from collections.abc import AsyncIterator

import httpx
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from ui.sessions import Sessions

EXPORT, VERIFIER, ACCESS_LOG = "/download/export", "/download/verifier", "/download/access-log"
_KEPT = ("content-type", "content-length", "content-disposition")


class Downloads:
    """The routes, over one API and its sessions."""

    def __init__(self, sessions: Sessions, cookie: str, api: httpx.AsyncClient) -> None:
        self._sessions, self._cookie, self._api = sessions, cookie, api

    def routes(self) -> list[Route]:
        """All files that there are."""
        return [
            Route(EXPORT, self.export),
            Route(VERIFIER, self.verifier),
            Route(ACCESS_LOG, self.access_log),
            Route("/download/model/{model}/{name}", self.model),
            Route("/download/onnx/{model}/{name}", self.onnx),
            Route("/download/card/{model}/{name}", self.card),
        ]

    async def export(self, request: Request) -> Response:
        """All final blocks, as the API's own archive."""
        return await self._pass_on(request, "/v1/ledger/export", None)

    async def verifier(self, request: Request) -> Response:
        """The single-file verifier."""
        return await self._pass_on(request, "/v1/ledger/verifier", "verify.py")

    async def access_log(self, request: Request) -> Response:
        """Who asked the API for what; for who may see it."""
        return await self._pass_on(request, "/v1/access-log", "access.jsonl")

    async def model(self, request: Request) -> Response:
        """A model's weights; for who may have them."""
        model, name = request.path_params["model"], request.path_params["name"]
        return await self._pass_on(request, f"/v1/models/{model}", name)

    async def onnx(self, request: Request) -> Response:
        """A released model for any runtime; for who may have weights."""
        model, name = request.path_params["model"], request.path_params["name"]
        return await self._pass_on(request, f"/v1/models/{model}/onnx", name)

    async def card(self, request: Request) -> Response:
        """A released model's card."""
        model, name = request.path_params["model"], request.path_params["name"]
        return await self._pass_on(request, f"/v1/models/{model}/card", name)

    async def _pass_on(self, request: Request, path: str, name: str | None) -> Response:
        token = self._sessions.token(request.cookies.get(self._cookie))
        asked = self._api.build_request("GET", path, headers={
            "Authorization": f"Bearer {token}", "Accept-Encoding": "identity"})  # fmt: skip
        try:
            answer = await self._api.send(asked, stream=True)
        except httpx.TransportError:
            return PlainTextResponse("The API does not answer at the moment. Try again.", 503)
        if not answer.is_success:
            return PlainTextResponse(await _said(answer), answer.status_code)
        headers = {name: answer.headers[name] for name in _KEPT if name in answer.headers}
        if name is not None:
            headers["content-disposition"] = f'attachment; filename="{_plain(name)}"'
        # Set, so that nothing on the way packs it: a checker compares these very bytes.
        headers |= {"content-encoding": "identity", "cache-control": "no-store"}
        return StreamingResponse(_chunks(answer), 200, headers)


async def _chunks(answer: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for chunk in answer.aiter_raw():
            yield chunk
    finally:
        await answer.aclose()


async def _said(answer: httpx.Response) -> str:
    """The API's problem, in its words."""
    try:
        await answer.aread()
        problem = answer.json()
        return f"{problem['detail']}\nHow to resolve: {problem['resolve']}\n{problem['code']}\n"
    except (httpx.TransportError, ValueError, KeyError, TypeError):
        return f"The API answered with status {answer.status_code}.\n"
    finally:
        await answer.aclose()


def _plain(name: str) -> str:
    return "".join(c for c in name if c.isalnum() or c in "-._")[:120]
