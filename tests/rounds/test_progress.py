"""What results on the ledger say of a job's way so far."""

from types import SimpleNamespace

from consortium.rounds.progress import doubted


def result(**codes: str) -> SimpleNamespace:
    proofs = [SimpleNamespace(institution=name, code=code) for name, code in codes.items()]
    return SimpleNamespace(proofs=proofs)


def test_who_was_called_harmful_last_is_doubted_until_a_proof_is_accepted() -> None:
    assert doubted([]) == frozenset()
    history = [result(a="Accepted", b="Harmful", c="Harmful"), result(a="Harmful", b="Accepted")]
    assert doubted(history) == {"a", "c"}  # c was absent, and is not forgotten


def test_another_rejection_clears_nobody() -> None:
    assert doubted([result(a="Harmful"), result(a="UpdateNotFinite")]) == {"a"}
    assert doubted([result(a="NearCopy")]) == frozenset()
