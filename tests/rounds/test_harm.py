"""Check 8: what a validator calls harmful."""

from consortium.rounds.checks.harm import is_harmful


def test_harmful_is_a_drop_beyond_the_tolerance() -> None:
    assert not is_harmful(0.75, 0.90, 1501)
    assert is_harmful(0.74, 0.90, 1500)
    assert not is_harmful(0.95, 0.90, 0)
