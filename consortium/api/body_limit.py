"""No body is read beyond what belongs to its path, whatever it says of its length."""

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from consortium.api.problems import refused

MOST_BYTES = 32_768
MOST_BY_PATH = {"/v1/ledger/submissions": 2_000_000}  # a change may hold many members' keys


class BodyLimit:
    """Refuses a long body before it is read, and one that says nothing or lies while it is."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes one request on."""
        most, came = MOST_BY_PATH.get(scope["path"], MOST_BYTES), 0

        async def counted() -> Message:
            nonlocal came
            message = await receive()
            came += len(message.get("body", b""))
            if came > most:
                raise HTTPException(413)  # FastAPI lets this kind through, and no other
            return message

        if _declared(scope) > most:
            await refused(413)(scope, receive, send)
        else:
            await self._app(scope, counted, send)


def _declared(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value[:20])
    return 0
