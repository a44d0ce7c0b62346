"""No body is read beyond what belongs to its path, whatever it says of its length."""

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from consortium.api.problems import refused

MOST_BYTES = 32_768
MOST_BY_PATH = {"/v1/ledger/submissions": 2_000_000}  # a change may hold many members' keys
_WITH_BODY = ("POST", "PUT")


class BodyLimit:
    """Refuses a long body where it would be read: who asks may be checked before."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes one request on."""
        most = MOST_BY_PATH.get(scope["path"], MOST_BYTES)
        came, declared = 0, _declared(scope)

        async def counted() -> Message:
            nonlocal came
            if declared <= most:
                message = await receive()
                came += len(message.get("body", b""))
                if came <= most:
                    return message
            raise HTTPException(413)  # FastAPI lets this kind through, and no other

        if declared > most and scope["method"] not in _WITH_BODY:
            await refused(413)(scope, receive, send)  # nothing would read it
        else:
            await self._app(scope, counted, send)


def _declared(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value[:20])
    return 0
