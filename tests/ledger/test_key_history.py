"""Since when who is a member, and with which keys."""

from ledger_examples import (
    CREATED,
    Consortium,
    decided,
    enrol,
    keys_of,
    reinstate,
    remove,
    rotate,
    suspend,
)

from ledger.key_history import Decided, MemberHistory, member_histories
from ledger.keys import KeyRing, Role
from ledger.listing import Listed
from ledger.membership import Membership
from ledger.records import Action

FOUR = Consortium(4)
FOUNDED = Membership.of_genesis(FOUR.genesis, FOUR.ledger)
GENESIS = Decided(0, CREATED)


def histories(*actions: Action) -> dict[str, MemberHistory]:
    """After changes that were decided in blocks 1, 2, …, a minute apart."""
    now, changes = FOUNDED, []
    for height, action in enumerate(actions, 1):
        for entry in decided(now, action):
            index = len(changes)
            changes.append(Listed(index, height, CREATED + 60 * height, entry))
            now = now.after([entry.record])
    return member_histories(FOUNDED, CREATED, changes)


def test_founders_are_there_since_the_genesis() -> None:
    found = histories()
    assert set(found) == set(FOUR.members)
    assert {place for one in found.values() for place in (one.joined, *one.keys.values())} == {
        GENESIS
    }


def test_a_newcomer_joins_with_the_block_that_decides_it() -> None:
    found = histories(enrol(FOUR.ledger, "hospital-5"))["hospital-5"]
    assert found.joined == Decided(1, CREATED + 60)
    assert set(found.keys.values()) == {found.joined}


def test_a_key_is_as_old_as_its_rotation_and_the_others_keep_their_age() -> None:
    old, other = keys_of("hospital-1"), keys_of("hospital-1/new")
    new = KeyRing({**{role: old[role] for role in Role}, Role.COSIGN: other[Role.COSIGN]})
    found = histories(suspend("hospital-2"), rotate(FOUR.ledger, "hospital-1", old, new))
    assert found["hospital-1"].keys[Role.COSIGN] == Decided(2, CREATED + 120)
    assert found["hospital-1"].keys[Role.RECORD] == GENESIS == found["hospital-1"].joined


def test_suspended_ones_keep_their_age_and_removed_ones_are_gone() -> None:
    assert histories(suspend("hospital-2"))["hospital-2"].joined == GENESIS
    assert histories(suspend("hospital-2"), reinstate("hospital-2"))["hospital-2"].joined == GENESIS
    assert "hospital-2" not in histories(remove("hospital-2"))


def test_a_change_that_is_not_decided_changes_nothing() -> None:
    proposed, *approvals = decided(FOUNDED, enrol(FOUR.ledger, "hospital-5"))
    changes = [Listed(i, 1, CREATED + 60, e) for i, e in enumerate([proposed, *approvals[:-1]])]
    assert member_histories(FOUNDED, CREATED, changes) == histories()
