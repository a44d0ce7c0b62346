"""Codes of an outcome that no check of one member alone gives."""

from typing import Final

NO_QUORUM: Final = "NoQuorum"
HARMFUL: Final = "Harmful"
