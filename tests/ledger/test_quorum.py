import pytest

from ledger.quorum import faulty, quorum

TABLE = [
    (1, 0, 1), (2, 0, 2), (3, 0, 2), (4, 1, 3), (5, 1, 4), (6, 1, 4), (7, 2, 5), (10, 3, 7),
    (20, 6, 14), (50, 16, 34),
]  # fmt: skip


@pytest.mark.parametrize(("n", "f", "q"), TABLE)
def test_the_table_of_the_design(n: int, f: int, q: int) -> None:
    assert (faulty(n), quorum(n)) == (f, q)


@pytest.mark.parametrize("n", range(1, 101))
def test_two_quorums_share_an_honest_member_and_the_honest_alone_are_one(n: int) -> None:
    f, q = faulty(n), quorum(n)
    assert 2 * q - n > f  # two quorums intersect in more members than may lie
    assert q <= n - f  # and liars that keep silent cannot stop the others
    assert not 2 * (q - 1) - n > f or q == 1  # no smaller number would do


@pytest.mark.parametrize("n", [5, 6, 8, 9, 20, 50])
def test_the_better_known_rule_forks(n: int) -> None:
    q = 2 * faulty(n) + 1
    assert 2 * q - n <= faulty(n)


@pytest.mark.parametrize("n", [0, -1])
def test_nobody_is_no_quorum(n: int) -> None:
    with pytest.raises(ValueError, match="at least one"):
        quorum(n)


@pytest.mark.parametrize("n", range(1, 101))
def test_one_institution_more_never_lowers_the_quorum_and_never_raises_it_by_two(n: int) -> None:
    assert 0 <= quorum(n + 1) - quorum(n) <= 1
