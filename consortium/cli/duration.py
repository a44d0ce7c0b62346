"""Durations and times as people write and read them."""

import re
from datetime import UTC, datetime

_UNITS = {"m": 60, "h": 3600, "d": 86400}
_LONGEST_S = 90 * _UNITS["d"]


def seconds(text: str, option: str = "--expires") -> int:
    """Seconds of ``30m``, ``12h`` or ``7d``; at most 90 days. ``option``: where it was given.

    Raises:
        OptionInvalid: for anything else.
    """
    from consortium.errors import OptionInvalid

    if (
        not re.fullmatch(r"[1-9][0-9]{0,3}[mhd]", text)
        or (length := int(text[:-1]) * _UNITS[text[-1]]) > _LONGEST_S
    ):
        raise OptionInvalid(f"{option} is {text[:20]!r}", "give 30m, 12h or 7d; at most 90d")
    return length


def when(time: int) -> str:
    """A time (seconds since 1970) in UTC."""
    return datetime.fromtimestamp(time, UTC).isoformat(timespec="seconds")
