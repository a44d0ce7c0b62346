"""A salted digest binds a value, and tells nothing of it once the salt is erased."""

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.disclosure import Disclosure
from ledger.errors import DisclosureInvalid

SALTS = st.binary(min_size=32, max_size=32)
VALUES = st.text(
    st.characters(exclude_categories=["C", "Z"], include_characters=" "), min_size=1, max_size=50
).filter(str.isprintable)


def test_the_digest_covers_the_domain_the_salt_and_the_value() -> None:
    salt = bytes(range(32))
    expected = sha256(b"medpole/disclosure/v1\n" + salt + "Zo\u00eb Miller".encode()).hexdigest()
    assert Disclosure(salt, "Zo\u00eb Miller").digest == expected


def test_the_same_value_never_has_the_same_digest_twice() -> None:
    made = [Disclosure.of("Zoe Miller") for _ in range(50)]
    assert len({d.salt for d in made}) == len({d.digest for d in made}) == 50
    assert all(len(d.salt) == 32 for d in made)


@given(SALTS, SALTS, VALUES, VALUES)
def test_a_disclosure_opens_its_own_digest_and_no_other(
    salt: bytes, other_salt: bytes, value: str, other_value: str
) -> None:
    disclosure = Disclosure(salt, value)
    disclosure.check(disclosure.digest)
    for other in (Disclosure(other_salt, value), Disclosure(salt, other_value)):
        if other != disclosure:
            with pytest.raises(DisclosureInvalid, match="another digest"):
                other.check(disclosure.digest)


def test_a_digest_has_one_spelling() -> None:
    disclosure = Disclosure(bytes(32), "Zoe Miller")
    for text in (disclosure.digest.upper(), disclosure.digest[:-1], disclosure.digest + "\n", ""):
        with pytest.raises(DisclosureInvalid):
            disclosure.check(text)


def test_no_byte_can_move_from_the_value_into_the_salt() -> None:
    """Salts of any length would open one digest with two values."""
    salt, value = b"s" * 32, "aMiller"
    with pytest.raises(DisclosureInvalid, match="length"):
        Disclosure(salt + b"a", value[1:])
    with pytest.raises(DisclosureInvalid, match="length"):
        Disclosure(salt[:-1], "s" + value)


@pytest.mark.parametrize("size", [0, 16, 31, 33, 64])
def test_a_salt_has_32_bytes(size: int) -> None:
    with pytest.raises(DisclosureInvalid, match="length"):
        Disclosure(bytes(size), "Zoe Miller")


def test_a_value_is_neither_empty_nor_long() -> None:
    Disclosure(bytes(32), "a")
    Disclosure(bytes(32), "a" * 1000)
    for value in ("", "a" * 1001):
        with pytest.raises(DisclosureInvalid, match="length"):
            Disclosure.of(value)


@pytest.mark.parametrize(
    "value",
    [
        "a\nb",
        "a\r",
        "\t",
        "\x00",
        "\x1b[31m",
        "\x7f",
        "\x9b",
        "\u2028",
        "\u202e",
        "\ud800",
        "\u200b",
    ],
    ids=ascii,
)
def test_a_value_is_one_line_that_can_be_printed(value: str) -> None:
    with pytest.raises(DisclosureInvalid, match="printable"):
        Disclosure(bytes(32), value)


def test_the_refusal_never_shows_the_value() -> None:
    with pytest.raises(DisclosureInvalid) as caught:
        Disclosure.of("Mrs Miller, 1951\n")
    with pytest.raises(DisclosureInvalid) as other:
        Disclosure.of("Mrs Miller, 1951").check("0" * 64)
    assert "Miller" not in repr(caught.value) + repr(other.value)
