"""The portal's pages over the consortium's HTTP API. Run by `python -m ui`, for each visitor."""

import streamlit as st

from ui import attempts
from ui.markup import STYLE
from ui.views import contributors, institutions, ledger, models, overview, privacy

# The page's own icon: one of Streamlit's would be fetched from the internet by the browser.
_ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16" fill="#0072B2">'
    '<path d="M3 4 8 12 13 4" fill="none" stroke="#56B4E9" stroke-width="1.5"/>'
    '<circle cx="3" cy="4" r="2.5"/><circle cx="13" cy="4" r="2.5"/><circle cx="8" cy="12" r="3"/>'
    "</svg>"
)
_BRAND = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 84 18" height="36">'
    '<path d="M4 5 9 13 14 5" fill="none" stroke="#56B4E9" stroke-width="1.5"/>'
    '<g fill="#0072B2"><circle cx="4" cy="5" r="2.5"/><circle cx="14" cy="5" r="2.5"/>'
    '<circle cx="9" cy="13" r="3"/></g><text x="22" y="13" fill="#4a90c2" font-size="11.5" '
    'font-weight="700" font-family="system-ui, sans-serif">MedPoLe</text></svg>'
)
_PAGES = (
    (overview, "Overview", ":material/home:"),
    (models, "Models", ":material/monitoring:"),
    (contributors, "Contributors", ":material/groups:"),
    (privacy, "Privacy", ":material/shield:"),
    (ledger, "Ledger", ":material/receipt_long:"),
    (institutions, "Institutions", ":material/local_hospital:"),
)


def main() -> None:
    """Draws the page that was asked for, or says why it cannot."""
    st.set_page_config(page_title="MedPoLe", page_icon=_ICON, layout="wide")
    st.html(STYLE)
    st.logo(_BRAND, size="large", icon_image=_ICON)
    page = st.navigation(
        [
            st.Page(
                view.show, title=title, icon=icon, url_path=title.lower(), default=view is overview
            )
            for view, title, icon in _PAGES
        ]
    )
    with attempts.told():
        page.run()
    attempts.watch()


if __name__ == "__main__":
    main()
