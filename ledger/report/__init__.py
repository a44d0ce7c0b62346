"""An export's ``report.html``: the ledger for people, in one file without scripts or links."""

from ledger.report.page import FORM, html
from ledger.report.tally import Tally

__all__ = ["FORM", "Tally", "html"]
