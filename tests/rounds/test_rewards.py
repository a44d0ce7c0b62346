import pytest
from hypothesis import given
from hypothesis import strategies as st

from consortium.rounds.rewards import apportion, round_credits
from ledger.records import CreditPolicy

NAMES = st.sampled_from([f"hospital-{i}" for i in range(12)])
SHARES = st.dictionaries(NAMES, st.integers(-50_000, 50_000), min_size=1)


@st.composite
def policies(draw: st.DrawFn) -> CreditPolicy:
    pool = draw(st.integers(1, 10**9))
    verdicts = draw(st.integers(0, pool))
    bonus = draw(st.integers(0, pool - verdicts))
    return CreditPolicy(pool=pool, verdicts=verdicts, learner_bonus=bonus, window=5)


@given(policies(), SHARES, st.sets(NAMES), st.booleans())
def test_a_round_mints_its_pool_and_nobody_pays(
    policy: CreditPolicy, averages: dict[str, int], verdicts: set[str], learned: bool
) -> None:
    learner = min(averages) if learned else None
    credits = round_credits(
        policy, averages=averages, verdicts=sorted(verdicts), validators=12, learner=learner
    )
    assert credits.minted == policy.pool
    assert min([*credits.learning.values(), *credits.fees.values(), credits.bonus]) >= 0
    assert credits.bonus == (policy.learner_bonus if learned else 0)
    assert set(credits.learning) == set(averages)
    assert set(credits.fees.values()) <= {policy.verdicts // 12}


@given(policies(), st.sets(NAMES))
def test_a_round_without_an_accepted_proof_mints_nothing(
    policy: CreditPolicy, verdicts: set[str]
) -> None:
    credits = round_credits(
        policy, averages={}, verdicts=sorted(verdicts), validators=12, learner=None
    )
    assert (credits.minted, credits.fees, credits.learning) == (0, {}, {})


@given(st.integers(0, 10**9), SHARES)
def test_apportionment(total: int, shares: dict[str, int]) -> None:
    parts = apportion(total, shares)
    assert sum(parts.values()) == total
    positive = {name: max(0, share) for name, share in shares.items()}
    whole = sum(positive.values())
    for name, part in parts.items():
        exact = total * positive[name] / whole if whole else total / len(shares)
        assert abs(part - exact) < 1 + 1e-6 * exact  # quota rule
    for a in parts:  # more contribution never earns less
        for b in parts:
            if positive[a] > positive[b]:
                assert parts[a] >= parts[b]


@given(st.integers(0, 10**9), SHARES)
def test_the_order_of_the_shares_does_not_matter(total: int, shares: dict[str, int]) -> None:
    backwards = dict(reversed(shares.items()))
    assert apportion(total, shares) == apportion(total, backwards)
    assert list(apportion(total, shares)) == sorted(shares)


@pytest.mark.parametrize(
    ("total", "shares", "parts"),
    [
        (700, {"a": 3, "b": 1, "c": -5}, {"a": 525, "b": 175, "c": 0}),
        (700, {"a": 0, "b": -1, "c": -5}, {"a": 234, "b": 233, "c": 233}),
        (10, {"b": 1, "a": 1, "c": 1}, {"a": 4, "b": 3, "c": 3}),
        (0, {"a": 1, "b": 0}, {"a": 0, "b": 0}),
        (1, {"a": 1, "b": 2}, {"a": 0, "b": 1}),
    ],
)
def test_known_splits(total: int, shares: dict[str, int], parts: dict[str, int]) -> None:
    assert apportion(total, shares) == parts


def test_a_forfeited_fee_goes_to_those_who_learned() -> None:
    policy = CreditPolicy(pool=1000, verdicts=200, learner_bonus=100, window=5)
    credits = round_credits(
        policy, averages={"a": 1}, verdicts=["a", "b", "c"], validators=4, learner="a"
    )
    assert credits.fees == {"a": 50, "b": 50, "c": 50}
    assert credits.learning == {"a": 750}
