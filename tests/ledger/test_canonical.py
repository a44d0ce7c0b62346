import json
from itertools import permutations
from typing import Any

import pytest
import rfc8785
from hypothesis import example, given
from hypothesis import strategies as st

from ledger import canonical
from ledger.errors import CanonicalInvalid

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=20,
)


# Where writers differ: what is escaped, how keys sort, where integers end, what looks like one.
ODD_TEXTS = st.sampled_from(
    ["", "__proto__", "\x00", "\x1f", "\x7f", "\x80", "\ufeff", "\u2028", "\ue000", "\uffff",
     "\U00010000", "\U0010ffff", '"', "\\", "/", "\b\f\n\r\t", "\\u0041", "<>&'", "a", "A", "é",
     "e\u0301", "1234567890123456", "-0", "1e5", "null", "NaN", ',"signatures":']
)  # fmt: skip
TEXTS = ODD_TEXTS | st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
NUMBERS = st.sampled_from(
    [sign * n for n in (0, 10**15 - 1, 10**15, 2**53 - 2, 2**53 - 1) for sign in (1, -1)]
) | st.integers(-(2**53) + 1, 2**53 - 1)
ODD_VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXTS, inner, max_size=5),
    max_leaves=12,
)


def canonical_by_rfc8785(data: bytes) -> bool:
    """Whether these bytes are what `rfc8785` writes of what they say, and hold no float."""
    floats: list[str] = []

    def note(text: str) -> float:
        floats.append(text)
        return 0.0

    try:
        value = json.loads(data.decode(), parse_float=note, parse_constant=note)
        return not floats and rfc8785.dumps(value) == data
    except (ValueError, RecursionError):
        return False


def accepted(data: bytes) -> bool:
    try:
        value = canonical.loads(data)
    except CanonicalInvalid:
        return False
    assert rfc8785.dumps(value) == canonical.dumps(value) == data
    return True


@given(ODD_VALUES)
def test_what_rfc8785_writes_is_read_as_it_was_meant(value: object) -> None:
    again = canonical.loads(rfc8785.dumps(value))
    assert again == value
    assert repr(_sorted(again)) == repr(_sorted(value))  # 1 is not True, and not 1.0


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value


EDITS = st.tuples(
    st.sampled_from(["replace", "insert", "remove", "repeat", "swap"]),
    st.integers(0, 2**16),
    st.integers(0, 12),
    st.sampled_from([bytes([b]) for b in b' \n\t"\\{}[],:-+.0159eEu/\x00\x1f\x7f\x80\xc3\xff'])
    | st.sampled_from(
        [b"\\u0041", b"\\u00e9", b"\\ud800", b"\\/", b"\\u000a", b"\\n", b".0", b"e0", b"-0", b"00",
         b"\xef\xbb\xbf", b"\xc3\xa9", b"\xed\xa0\x80", b"null", b"NaN", b'"":0,', b"9" * 16]
    )
    | st.binary(min_size=1, max_size=2),
)  # fmt: skip


def edited(data: bytes, edit: tuple[str, int, int, bytes]) -> bytes:
    how, where, length, piece = edit
    at = where % (len(data) + 1)
    end = min(at + length, len(data))
    middle = {
        "replace": piece,
        "insert": piece + data[at:end],
        "remove": b"",
        "repeat": data[at:end] * 2,
        "swap": data[at:end][::-1],
    }[how]
    return data[:at] + middle + data[end:]


@given(ODD_VALUES, st.lists(EDITS, min_size=1, max_size=2))
@example({"a": 1}, [("repeat", 0, 0, b"-")])
def test_changed_bytes_are_accepted_only_where_rfc8785_writes_the_same(
    value: object, edits: list[tuple[str, int, int, bytes]]
) -> None:
    data = rfc8785.dumps(value)
    for edit in edits:
        data = edited(data, edit)
    assert accepted(data) == canonical_by_rfc8785(data)


@given(
    ODD_VALUES, st.sampled_from([{}, {"ensure_ascii": False}, {"indent": 1}, {"sort_keys": True}])
)
def test_what_other_writers_make_is_accepted_only_where_it_is_the_same(
    value: object, options: dict[str, Any]
) -> None:
    data = json.dumps(value, **options).encode()
    assert accepted(data) == (data == rfc8785.dumps(value))
    compact = json.dumps(value, separators=(",", ":"), **options).encode()
    assert accepted(compact) == (compact == rfc8785.dumps(value))


@given(st.binary(max_size=12) | st.text("0123456789-+.eE", max_size=20).map(str.encode))
def test_any_bytes_are_accepted_only_where_rfc8785_writes_the_same(data: bytes) -> None:
    assert accepted(data) == canonical_by_rfc8785(data)


# Where UTF-8 grows by a byte, where the surrogates begin and end, where UTF-16 needs two units.
EDGES = [
    0,
    0x7F,
    0x80,
    0x7FF,
    0x800,
    0xCFFF,
    0xD000,
    0xD7FF,
    0xE000,
    0xFFFD,
    0xFFFF,
    0x10000,
    0x10FFFF,
]
CHARACTERS = [chr(i) for i in (*range(0x100), *EDGES[3:])]


@pytest.mark.parametrize("text", CHARACTERS, ids=ascii)
def test_every_character_is_written_as_rfc8785_writes_it(text: str) -> None:
    """In a key, in a value, alone or beside others: in the fast way and in the slow one."""
    for value in ([text], {text: 0}, {text: text, "~": 0, " ": 1, "": text * 3}):
        assert accepted(rfc8785.dumps(value))
    for code in (f"\\u{ord(text):04x}", f"\\u{ord(text):04X}", f"\\{text}"):
        data = f'["{code}"]'.encode()
        assert accepted(data) == canonical_by_rfc8785(data)


def test_keys_sort_as_rfc8785_sorts_them() -> None:
    """By UTF-16 code units: above the surrogates that is not the order of the characters."""
    for first, second in permutations({*CHARACTERS[::9], *map(chr, EDGES)}, 2):
        data = f'{{"{first}":0,"{second}":0}}'.encode()
        if not {first, second} & {*map(chr, range(0x20)), '"', "\\"}:
            assert accepted(data) == (first.encode("utf-16be") < second.encode("utf-16be"))
    assert accepted(rfc8785.dumps(dict.fromkeys(CHARACTERS, 0)))
    assert accepted(rfc8785.dumps(dict.fromkeys(CHARACTERS[:0x100], 0)))


@pytest.mark.parametrize("beside", ["a", "é", "\ue000", "\U00010000"], ids=ascii)
@pytest.mark.parametrize("sign", ["", "-"])
def test_integers_end_where_a_double_is_no_longer_exact(sign: str, beside: str) -> None:
    for number, allowed in [
        ("1", True), ("01", False), ("9" * 15, True), ("1" + "0" * 15, True),
        ("9007199254740991", True), ("9007199254740992", False), ("9007199254740993", False),
        ("9" * 16, False), ("1" + "0" * 16, False), ("0" * 16, False), ("0" * 16 + "1", False),
        ("9" * 400, False),
    ]:  # fmt: skip
        assert accepted(f'["{beside}",{sign}{number}]'.encode()) is allowed
        assert accepted(f'["{beside}","{sign}{number}"]'.encode())  # as a text it may be anything


@given(VALUES)
def test_what_is_written_is_read_back(value: object) -> None:
    data = canonical.dumps(value)
    assert canonical.loads(data) == value
    assert canonical.dumps(canonical.loads(data)) == data


def test_keys_are_sorted_by_utf_16_code_units() -> None:
    """The example of RFC 8785, section 3.2.3."""
    ordered = ["\r", "1", "\x80", "ö", "€", "\U0001f600", "\ufb33"]
    data = canonical.dumps(dict.fromkeys(reversed(ordered), 0))
    assert list(canonical.loads(data)) == ordered


def test_strings_are_escaped_as_rfc_8785_says() -> None:
    assert canonical.dumps('€$\x0f\nA\'B"\\\\"/') == '"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"'.encode()


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":1,"a":1}',
        b'{"a":1,"a":2}',
        b'{"b":1,"a":2}',
        b'{ "a":1}',
        b'{"a":1}\n',
        b'{"a":1.0}',
        b'{"a":1e2}',
        b'{"a":0.5}',
        b'{"a":-0}',
        b'{"a":01}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":9007199254740992}',
        b'{"a":-9007199254740992}',
        b'{"a":' + b"9" * 5000 + b"}",
        b'{"\\u0061":1}',
        b'"\\/"',
        b'"\\ud800"',
        b'"\xed\xa0\x80"',
        b'"\xff"',
        b"\xef\xbb\xbf1",
        '{"a":1}'.encode("utf-16"),
        b"[1,]",
        b"",
        b"{",
    ],
)
def test_any_other_form_is_refused(data: bytes) -> None:
    with pytest.raises(CanonicalInvalid):
        canonical.loads(data)


@pytest.mark.parametrize("value", [1.0, {"a": 0.5}, [float("nan")], 2**53, {1: 2}, b"a", {1, 2}])
def test_values_without_a_canonical_form_are_refused(value: object) -> None:
    with pytest.raises(CanonicalInvalid):
        canonical.dumps(value)


def test_deep_nesting_is_read_or_refused_and_never_breaks() -> None:
    for depth in [*range(100, 1100, 10), 5_000, 100_000]:
        data = b"[" * depth + b"]" * depth
        try:
            assert canonical.dumps(canonical.loads(data)) == data
        except CanonicalInvalid:
            assert depth > 200
    value: list[object] = []
    for _ in range(5_000):
        value = [value]
    with pytest.raises(CanonicalInvalid):
        canonical.dumps(value)
