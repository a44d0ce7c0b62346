"""Canonical JSON of RFC 8785, without floats: one content, one sequence of bytes, one hash.

Readers keep the bytes that they received. `loads` refuses bytes that are not already canonical,
so that two readers can never hash the same record differently; this also refuses duplicate keys.

Of most text the standard library's own writer makes the same bytes as `rfc8785`, five times as
fast (tests compare the two): below the surrogates keys sort alike, and both escape only what JSON
must.
"""

import json
import re
from typing import Any, NoReturn

import rfc8785

from ledger.errors import CanonicalInvalid

_LARGEST = 2**53 - 1
# First bytes of UTF-8 for U+D000 and above.
_UNUSUAL = re.compile(rb"[\xed-\xff]")
# Where an integer may stand that is beyond 2**53 - 1, or what looks like one in a text.
_LONG = re.compile(rb"(?:^|[\[:,])-?[0-9]{16}")
_writer = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, check_circular=False
)


def dumps(value: Any) -> bytes:
    """Canonical bytes of ``value`` (dicts, lists, strings, integers, booleans, None).

    Raises:
        CanonicalInvalid: for floats, integers beyond 2**53 - 1, and other types.
    """
    try:
        _check(value)
        data = _writer.encode(value).encode()
        return data if _is_usual(data) else rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, TypeError, UnicodeError, RecursionError) as error:
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
        value = (_exact if _LONG.search(data) else _reader).decode(data.decode())
        again = _writer.encode(value).encode() if _is_usual(data) else dumps(value)
    except (ValueError, RecursionError):
        _refuse("bytes that are not JSON")
    if again != data:
        raise CanonicalInvalid(
            "bytes are not in canonical form (RFC 8785)",
            "use the original bytes as they were signed; do not re-format them",
        )
    return value


def _is_usual(data: bytes) -> bool:
    return data.isascii() or not _UNUSUAL.search(data)


def _refuse(text: str) -> NoReturn:
    raise CanonicalInvalid(
        f"not allowed in a canonical record: {text[:40]}",
        "use integers, or decimal numbers as strings",
    )


def _integer(text: str) -> int:
    if abs(int(text[:20])) > _LARGEST:
        _refuse("an integer beyond 2**53 - 1")
    return int(text)


_reader = json.JSONDecoder(parse_float=_refuse, parse_constant=_refuse)
_exact = json.JSONDecoder(parse_float=_refuse, parse_constant=_refuse, parse_int=_integer)


def _check(value: Any) -> None:
    """Refuses what the writers would take, each in its own way."""
    if isinstance(value, str):
        return
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError
            _check(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _check(item)
    elif isinstance(value, float):
        _refuse("a float")
    elif isinstance(value, int) and not isinstance(value, bool) and abs(value) > _LARGEST:
        _refuse("an integer beyond 2**53 - 1")
