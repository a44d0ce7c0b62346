"""What never changes is told apart by an entity tag, and not sent to whoever has it (RFC 9110)."""

import re
from collections.abc import Callable

from fastapi import Request, Response

IMMUTABLE = "private, max-age=31536000, immutable"
REVALIDATED = "private, no-cache"
_TAG = re.compile(r'(?:W/)?"([^"]*)"')


def tagged(
    request: Request, tag: str, make: Callable[[], Response], *, final: bool = True
) -> Response:
    """The answer under its tag; 304 without a body, and without ``make``, if the caller has it.

    ``final``: it can never be another one, so nobody needs to ask again.
    """
    headers = {"ETag": f'"{tag}"', "Cache-Control": IMMUTABLE if final else REVALIDATED}
    known = request.headers.get("if-none-match", "")
    if known.strip() == "*" or tag in _TAG.findall(known):
        return Response(status_code=304, headers=headers)
    response = make()
    response.headers.update(headers)
    return response
