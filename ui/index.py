"""The page that Streamlit's script lives in: its own, with our name, and told where its server is.

Without that the script tries every part of a page's path in turn, and each wrong one is an error in
the browser's console.
"""

import re
from base64 import b64encode
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

import streamlit
from starlette.responses import HTMLResponse
from starlette.routing import Route

_SCRIPT = "window.__streamlit = {BACKEND_BASE_URL: window.location.origin + '/'}"
_HEAD = f'<head><base href="/"><script>{_SCRIPT}</script>'
_INLINE = re.compile(r"<script>(.*?)</script>", re.DOTALL)


def index_page() -> str:
    """The whole page."""
    page = Path(streamlit.__file__).with_name("static").joinpath("index.html").read_text()
    page = re.sub(r"<title>.*?</title>", "<title>MedPoLe</title>", page)
    return page.replace("<head>", _HEAD, 1)


def script_sources(page: str) -> str:
    """The page's own scripts, by their hashes, for a Content-Security-Policy."""
    hashes = (b64encode(sha256(script.encode()).digest()) for script in _INLINE.findall(page))
    return " ".join(f"'sha256-{digest.decode()}'" for digest in hashes)


def index_routes(paths: Iterable[str], page: str) -> list[Route]:
    """The page at each of its paths."""

    async def index(_: object) -> HTMLResponse:
        return HTMLResponse(page, headers={"Cache-Control": "no-cache"})

    return [Route(path, index) for path in paths]
