"""Who looks at the page that is being drawn: by the cookie that its websocket came with."""

import os

import streamlit as st

from ui.api_client import ApiError
from ui.sessions import SESSIONS

COOKIE = "MEDPOLE_PORTAL_COOKIE"


def signed_in_token() -> str:
    """The token of the session, asked for anew each time: it may have ended meanwhile.

    Raises:
        ApiError: if nobody is signed in.
    """
    token = SESSIONS.token(st.context.cookies.get(os.environ.get(COOKIE, "")))
    if token is None:
        raise ApiError("TokenInvalid", "you are signed out", "sign in again", 401)
    return token
