"""What results on the ledger say of a job's way so far."""

from types import SimpleNamespace

from consortium.rounds.progress import doubted, left_out


def result(void: bool = False, **codes: str) -> SimpleNamespace:
    proofs = [SimpleNamespace(institution=name, code=code) for name, code in codes.items()]
    return SimpleNamespace(proofs=proofs, void=void)


def test_who_was_called_harmful_last_is_doubted_until_a_proof_is_accepted() -> None:
    assert doubted([]) == frozenset()
    history = [result(a="Accepted", b="Harmful", c="Harmful"), result(a="Harmful", b="Accepted")]
    assert doubted(history) == {"a", "c"}  # c was absent, and is not forgotten


def test_another_rejection_clears_nobody() -> None:
    assert doubted([result(a="Harmful"), result(a="UpdateNotFinite")]) == {"a"}
    assert doubted([result(a="NearCopy")]) == frozenset()


def test_the_codes_of_the_round_under_way_count_last() -> None:
    history = [result(a="Harmful", b="Accepted")]
    assert doubted(history, {"a": "Accepted", "b": "Harmful"}) == {"b"}
    assert doubted(history, {}) == {"a"}


def test_a_model_leaves_out_who_was_doubted_when_it_was_made() -> None:
    assert left_out([]) == frozenset()
    history = [result(a="Accepted"), result(a="Harmful", b="Accepted")]
    assert left_out(history) == {"a"}
    later = [*history, result(void=True, b="Harmful")]
    assert (left_out(later), doubted(later)) == ({"a"}, {"a", "b"})
    assert left_out([result(void=True, a="Harmful")]) == frozenset()
