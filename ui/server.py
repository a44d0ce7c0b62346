"""The portal's server: Streamlit's pages behind our own door, in one process.

The gate is the outermost layer; behind it the pages for signing in and out, downloads, and all of
Streamlit. Nothing is sent anywhere, no configuration file decides who gets in, and a page never
shows a traceback.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from starlette.middleware import Middleware
from streamlit.starlette import App

from ui.downloads import Downloads
from ui.gate import Gate
from ui.index import index_page, index_routes, script_sources
from ui.sessions import SESSIONS, LocalDoor, Sessions
from ui.sign_in import SignIn

PATIENCE_S = 30.0
PATHS = ("/", "/overview", "/models", "/contributors", "/privacy", "/ledger", "/institutions")
INK = {"light": "#1b2430", "dark": "#e6edf3"}
_THEMES = {
    "light": {
        "primaryColor": "#0072B2", "backgroundColor": "#ffffff",
        "secondaryBackgroundColor": "#f4f7f9", "textColor": INK["light"],
        "borderColor": "#d5dce3", "linkColor": "#005a8e",
    },
    "dark": {
        "primaryColor": "#56B4E9", "backgroundColor": "#0f1720",
        "secondaryBackgroundColor": "#17212b", "textColor": INK["dark"],
        "borderColor": "#32404d", "linkColor": "#7cc4ee",
    },
}  # fmt: skip
_SETTINGS = {
    "server.headless": True,
    "server.fileWatcherType": "none",
    "server.enableXsrfProtection": True,
    "server.enableCORS": True,
    "server.enableStaticServing": False,
    "server.enableAgentApi": False,
    "server.maxUploadSize": 1,  # nothing is uploaded here
    "browser.gatherUsageStats": False,
    "client.toolbarMode": "viewer",
    "client.showErrorDetails": "none",  # a traceback is not for the page
    "client.showErrorLinks": False,
    "logger.level": "error",
    "logger.hideWelcomeMessage": True,  # printed, it would ask the internet for our address
    "theme.baseRadius": "8px",
    "theme.showWidgetBorder": True,
    **{f"theme.{m}.{name}": value for m, theme in _THEMES.items() for name, value in theme.items()},
}


def portal_app(
    api_url: str, cookie: str, door: LocalDoor | None = None, sessions: Sessions = SESSIONS
) -> App:
    """The portal over an API. ``door`` lets in who started it on this machine."""
    # No proxy of the environment comes between: the API is on this machine.
    api = httpx.AsyncClient(base_url=api_url, timeout=PATIENCE_S, trust_env=False)

    @asynccontextmanager
    async def lifespan(app: App) -> AsyncIterator[dict[str, Any] | None]:
        async with api:
            yield None

    index = index_page()
    return App(
        Path(__file__).with_name("app.py"),
        lifespan=lifespan,
        routes=[
            *SignIn(sessions, cookie, api, door).routes(),
            *Downloads(sessions, cookie, api).routes(),
            *index_routes(PATHS, index),
        ],
        middleware=[
            Middleware(Gate, sessions=sessions, cookie=cookie, scripts=script_sources(index))
        ],
        on_script_error=lambda error: False,
    )


def settings(address: str, port: int) -> dict[str, Any]:
    """Streamlit's settings: all that matters is said, so that no file of somebody's can."""
    return {**_SETTINGS, "server.address": address, "server.port": port}
