"""The input of the random function: different rounds, different bytes."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sml import mapping
from sml.alpha import alpha
from sml.errors import MappingInvalid

ROUND: dict[str, Any] = {
    "ledger_id": "a" * 64,
    "previous_block": "b" * 64,
    "job": "heart-2026",
    "round": 7,
    "institution": "st-elsewhere",
    "model_hash": "sha256:" + "c" * 64,
}
visible = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=8)
rounds = st.tuples(visible, visible, visible, st.integers(0, 2**70), visible, visible)


def test_the_encoding_is_fixed() -> None:
    assert alpha(**ROUND) == (
        b"medpole/sml/alpha/v1\n" + b"a" * 64 + b"\n" + b"b" * 64 + b"\nheart-2026\n7\n"
        b"st-elsewhere\nsha256:" + b"c" * 64 + b"\n"
    )
    assert mapping.alpha is alpha


@given(rounds, rounds)
def test_different_rounds_differ(
    one: tuple[str, str, str, int, str, str], other: tuple[str, str, str, int, str, str]
) -> None:
    assert (alpha(*one) == alpha(*other)) == (one == other)


@given(rounds)
def test_it_decodes_to_what_went_in(fields: tuple[str, str, str, int, str, str]) -> None:
    lines = alpha(*fields).decode("ascii").split("\n")
    assert lines == ["medpole/sml/alpha/v1", *map(str, fields), ""]


@pytest.mark.parametrize("field", [f for f in ROUND if f != "round"])
@pytest.mark.parametrize("bad", ["", "a\nb", "a\n", "a b", "a\0", "\x7f", "é", "a\u2028b", "\r"])
def test_characters_that_would_break_it_are_refused(field: str, bad: str) -> None:
    with pytest.raises(MappingInvalid) as caught:
        alpha(**{**ROUND, field: bad})
    assert field in caught.value.what


@pytest.mark.parametrize("bad", [-1, True, 1.0, "1", None])
def test_the_round_is_a_number_from_0_up(bad: object) -> None:
    with pytest.raises(MappingInvalid):
        alpha(**{**ROUND, "round": bad})
