"""The portal: five pages over the consortium's HTTP API. Run by `python -m ui`."""

import streamlit as st

from ui.api_client import ApiError
from ui.snapshot import Snapshot
from ui.views import contributors, ledger, models, overview, privacy
from ui.words import SOLE_INSTITUTION

# The page's own icon: one of Streamlit's would be fetched from the internet by the browser.
_ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16" fill="#0072B2">'
    '<path d="M3 4 8 12 13 4" fill="none" stroke="#56B4E9" stroke-width="1.5"/>'
    '<circle cx="3" cy="4" r="2.5"/><circle cx="13" cy="4" r="2.5"/><circle cx="8" cy="12" r="3"/>'
    "</svg>"
)


def main() -> None:
    """Draws the page that was asked for, or says why it cannot."""
    st.set_page_config(page_title="MedPoLe", page_icon=_ICON, layout="wide")
    page = st.navigation(
        [
            st.Page(overview.show, title="Overview", icon=":material/home:", url_path="overview",
                    default=True),
            st.Page(models.show, title="Models", icon=":material/monitoring:", url_path="models"),
            st.Page(contributors.show, title="Contributors", icon=":material/groups:",
                    url_path="contributors"),
            st.Page(privacy.show, title="Privacy", icon=":material/shield:", url_path="privacy"),
            st.Page(ledger.show, title="Ledger", icon=":material/receipt_long:",
                    url_path="ledger"),
        ]
    )  # fmt: skip
    try:
        _notices(Snapshot.take())
        page.run()
    except ApiError as error:
        st.error(f"**{error.what}**\n\nHow to resolve: {error.resolve}", icon=":material/error:")
        st.caption(f"Code: {error.code}")


def _notices(snapshot: Snapshot) -> None:
    """What must be known on every page."""
    head = snapshot.head
    if len(snapshot.members) == 1:
        st.warning(SOLE_INSTITUTION, icon=":material/person_alert:")
    if not head["final"]:
        st.warning(
            f"Block {head['height']} is proposed and **not final**: {head['cosigned']} of "
            f"{head['quorum']} cosignatures. What it says may still be refused.",
            icon=":material/pending:",
        )


if __name__ == "__main__":
    main()
