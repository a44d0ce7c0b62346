"""Canonical JSON of RFC 8785, without floats: one content, one sequence of bytes, one hash.

Readers keep the bytes that they received. `loads` refuses bytes that are not already canonical,
so that two readers can never hash the same record differently; this also refuses duplicate keys.
"""

import json
from typing import Any, NoReturn

import rfc8785

from ledger.errors import CanonicalInvalid

_LARGEST = 2**53 - 1


def dumps(value: Any) -> bytes:
    """Canonical bytes of ``value`` (dicts, lists, strings, integers, booleans, None).

    Raises:
        CanonicalInvalid: for floats, integers beyond 2**53 - 1, and other types.
    """
    try:
        _refuse_floats(value)
        return rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, UnicodeError, RecursionError) as error:
        raise CanonicalInvalid(
            f"a value has no canonical form: {type(error).__name__}",
            "use strings, integers, booleans, lists and objects only",
        ) from None


def loads(data: bytes) -> Any:
    """The value of canonical bytes.

    Raises:
        CanonicalInvalid: if ``data`` is not JSON, not canonical, or holds a float or a
            duplicate key.
    """
    try:
        value = json.loads(data, parse_float=_refuse, parse_constant=_refuse)
    except (ValueError, RecursionError):
        value = _refuse("bytes that are not JSON")
    if dumps(value) != data:
        raise CanonicalInvalid(
            "bytes are not in canonical form (RFC 8785)",
            "use the original bytes as they were signed; do not re-format them",
        )
    return value


def _refuse(text: str) -> NoReturn:
    raise CanonicalInvalid(
        f"not allowed in a canonical record: {text[:40]}",
        "use integers, or decimal numbers as strings",
    )


def _refuse_floats(value: Any) -> None:
    if isinstance(value, float):
        _refuse("a float")
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > _LARGEST:
        _refuse("an integer beyond 2**53 - 1")
    if isinstance(value, dict):
        for item in value.values():
            _refuse_floats(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _refuse_floats(item)
