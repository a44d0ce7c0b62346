"""`GET /v1/access-log`: the access log as a stream, for whoever audits."""

from collections.abc import Callable, Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from fastapi.responses import StreamingResponse

from consortium.access_log import AccessLog
from consortium.api.callers import Permission
from consortium.api.schemas import Access

_CHUNK = 65_536
MEDIA_TYPE = "application/x-ndjson"
_LINES: dict[int | str, dict[str, Any]] = {
    200: {"description": "one `Access` a line", "content": {MEDIA_TYPE: {"schema": {}}}}
}


def access_log_router(access_log: AccessLog, auditing: Permission) -> APIRouter:
    """The route. ``auditing`` is the dependency that says who asks."""
    router = APIRouter(prefix="/v1", tags=["operations"])

    @router.get(
        "/access-log", dependencies=[Depends(auditing)], response_class=StreamingResponse,
        responses=_LINES,
    )  # fmt: skip
    def lines(
        since: Annotated[
            float, Query(alias="from", ge=0, le=1e11, description="seconds since 1970")
        ] = 0,
    ) -> StreamingResponse:
        """Who asked for what, one JSON object a line, oldest first. No token stands in it."""
        return StreamingResponse(_chunks(access_log.lines(since)), media_type=MEDIA_TYPE)

    return router


def observer(access_log: AccessLog) -> Callable[[Access], None]:
    """Writes each request's line."""
    return lambda access: access_log.write(access.model_dump_json())


def _chunks(lines: Iterator[bytes]) -> Iterator[bytes]:
    """Lines by the thousand: each chunk costs a change of threads."""
    chunk = bytearray()
    for line in lines:
        chunk += line
        if len(chunk) >= _CHUNK:
            yield bytes(chunk)
            chunk.clear()
    yield bytes(chunk)
