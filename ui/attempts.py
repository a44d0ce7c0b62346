"""Drawing a page, and saying in words why it cannot be drawn; it tries again by itself.

A small part of the page looks every few seconds whether there is a newer block, or whether what was
wrong is over, and has the page drawn again only then.
"""

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import streamlit as st

from ui.api_client import ApiError, Json
from ui.markup import Html, Tone, chip, html, joined, notice, put, small
from ui.reader import Reader
from ui.sign_out import person
from ui.words import ROLES, SOLE_INSTITUTION, when

LOOK_S = 4
_DRAWN, _FRESH = "mp_drawn", "mp_fresh"
log = logging.getLogger("medpole.portal")
_WORDS = {
    "TokenInvalid": "Not signed in",
    "ApiUnreachable": "The consortium's API is away",
    "DatabaseUnreachable": "The ledger's database is away",
    "DatabaseMissing": "The ledger's database is away",
    "TooManyRequests": "Too many questions in a minute",
}


@contextmanager
def told() -> Iterator[None]:
    """Says in words what goes wrong while a page is drawn."""
    st.session_state[_DRAWN] = ""
    try:
        yield
    except ApiError as error:
        st.session_state[_DRAWN] = error.code
        _trouble(error)
    except Exception as error:
        st.session_state[_DRAWN] = type(error).__name__
        _log(error)
        put(
            notice(
                "This page cannot be drawn.",
                "Something went wrong in the portal. It tries again by itself; the other pages "
                "are there.",
                Tone.BAD,
                "error",
            ),
            small("How to resolve: if it stays so, report what the portal's terminal shows."),
        )


@contextmanager
def partly() -> Iterator[None]:
    """Says in a line what goes wrong in a part that is drawn anew by itself."""
    try:
        yield
    except ApiError as error:
        put(notice("Not known at the moment:", f"{error.what}. It is asked again by itself."))
    except Exception as error:
        _log(error)
        put(notice("Not known at the moment:", "something went wrong in the portal."))


def opened(title: str, lead: str) -> Reader:
    """Begins a page: its title, the ledger as it is now, and what must be known on every page.

    Raises:
        ApiError: if it cannot be read.
    """
    st.title(title)
    put(Html(f'<p class="mp-lead">{html(lead)}</p>'))
    reader = Reader.now()
    st.session_state[_DRAWN] = _state(reader.head)
    head = reader.head
    if head["members"] == 1:
        put(notice("No independent witness.", SOLE_INSTITUTION, Tone.WARN, "person_alert"))
    if not head["final"]:
        put(
            notice(
                f"Block {head['height']:,} is proposed and not final:",
                f"{head['cosigned']} of {head['quorum']} cosignatures. What it says may still be "
                "refused. Members' agents co-sign by themselves; one that is away is asked again.",
                Tone.WARN,
                "pending",
            )
        )
    return reader


def watch() -> None:
    """Draws who looks and how the ledger stands, beside the page; keeps both current."""
    st.session_state[_FRESH] = True
    with st.sidebar:
        _pulse()


@st.fragment(run_every=LOOK_S)
def _pulse() -> None:
    reader = None
    try:
        reader = Reader.now()
        state = _state(reader.head)
    except ApiError as error:
        state = error.code
    except Exception as error:
        _log(error)
        state = type(error).__name__
    if not st.session_state.pop(_FRESH, False) and state != st.session_state.get(_DRAWN):
        st.rerun(scope="app")
    if reader is None:
        put(chip(_WORDS.get(state, "The ledger is not known"), Tone.BAD, "cloud_off"))
        return
    head = reader.head
    final = chip("final", Tone.GOOD) if head["final"] else chip("not final yet", Tone.WARN)
    put(
        Html('<div class="mp-pulse">'),
        joined(Html("<span>Block "), f"{head['height']:,} ", final, Html("</span>")),
        small(f"{when(head['time'])} UTC"),
        Html("</div>"),
        person(reader.me, ROLES),
    )


def _state(head: Json) -> str:
    return f"{head['hash']}:{head['cosigned']}"


def _trouble(error: ApiError) -> None:
    if error.signed_out:
        put(
            notice(
                "You are not signed in any more.",
                joined(
                    "Your token has expired or was taken back, you signed out in another tab, or "
                    "the portal was started again. ",
                    Html('<a class="mp-link" href="/sign-in" target="_self">Sign in again</a>'),
                ),
                Tone.WARN,
                "lock",
            )
        )
        return
    title = _WORDS.get(error.code, "This cannot be shown")
    again = " This page tries again by itself." if error.passing else ""
    put(
        notice(f"{title}.", f"What happened: {error.what}.{again}", Tone.BAD, "cloud_off"),
        small(f"How to resolve: {error.resolve}. Code: {error.code}"),
    )


def _log(error: Exception) -> None:
    """The kind of an error and the line it comes from; its text, which may hold anything, not."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(last.filename).name}:{last.lineno}"
    log.error("not drawn: %s at %s", type(error).__name__, place)
