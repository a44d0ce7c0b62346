"""Who is signed in, as the page shows it, and the way out."""

from collections.abc import Mapping

from ui.api_client import Json
from ui.markup import Html, Tone, chip, html, small

LOCAL = "portal"
"""The name of whoever started the portal on this machine."""

_SYMBOLS = {"admin": "shield_person", "scientist": "science", "auditor": "fact_check"}


def person(me: Json, roles: Mapping[str, str]) -> Html:
    """Name, role, what the role may do, and signing out."""
    role = str(me["role"])
    name = "On this machine" if me["name"] == LOCAL else str(me["name"])
    return Html(
        f'<div class="mp-person"><b>{html(name)}</b> '
        f"{chip(role, Tone.QUIET, _SYMBOLS.get(role, 'person'))}"
        f"{small(roles.get(role, ''))}"
        '<p><a class="mp-link" href="/sign-out" target="_self">Sign out</a></p></div>'
    )
