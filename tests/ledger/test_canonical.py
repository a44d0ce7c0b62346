import pytest
from hypothesis import given
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
