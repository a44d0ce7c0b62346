"""Who may sign, co-sign and decide: by the members in force, and never by the operator."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cache
from hashlib import sha256
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from ledger_examples import (
    CREATED,
    Consortium,
    approval,
    approve,
    block_on,
    change,
    consent,
    cosigned,
    decided,
    enrol,
    form_of,
    keys_of,
    member_form,
    propose,
    reinstate,
    remove,
    rotate,
    rotate_coordinator,
    secret_of,
    set_policy,
    suspend,
    with_header,
)

from ledger import canonical
from ledger.block import Block
from ledger.chain import Chain, ledger_id
from ledger.entry import Entry, assemble, sign_record
from ledger.errors import (
    BlockInvalid,
    GenesisMismatch,
    LedgerError,
    MembershipInvalid,
    QuorumMissing,
    SignatureInvalid,
)
from ledger.keys import KeyRing, Role, SecretKey
from ledger.membership import Membership, change_digest
from ledger.note import cosign
from ledger.records import Action, Approval, Change, MemberForm, consent_message
from ledger.sequencer import admissible, genesis_block, next_block

FOUR = Consortium(4)
LEDGER = FOUR.ledger
START = FOUR.begin().upcoming
RING = {name: keys_of(name) for name in (*FOUR.members, *(f"hospital-{i}" for i in range(5, 12)))}
NEW = {name: keys_of(f"{name}, new") for name in ("coordinator", *RING)}  # to rotate to
NEWEST = keys_of("hospital-1, newest")
COORDINATOR = FOUR.coordinator
OTHER_LEDGER = "0" * 64


def part(ring: KeyRing, *roles: Role, of: KeyRing) -> KeyRing:
    """``ring`` with ``of``'s keys in these roles."""
    return KeyRing({**ring.keys, **{role: of[role] for role in roles}})


def after(membership: Membership, *actions: Action) -> Membership:
    """What the members give themselves with one change, every signature checked."""
    now = membership
    for entry in decided(membership, *actions):
        membership.check_entry(entry)
        now = now.after([entry.record])
    assert now.digest != membership.digest
    return now


def refused(membership: Membership, *actions: Action) -> str:
    """That no such change can even be proposed; returns why."""
    with pytest.raises(MembershipInvalid) as caught:
        membership.after([change(membership, *actions)])
    assert caught.value.resolve
    return caught.value.what


def follow(chain: Chain, *entries: Entry) -> Block:
    block = block_on(chain, *entries)
    chain.follow(block)
    return block


def without(chain: Chain, *entries: Entry, match: str | None = None) -> None:
    """That no block with these entries follows, and that nothing changes by it."""
    before = replace(chain)
    with pytest.raises(LedgerError, match=match):
        chain.follow(block_on(chain, *entries))
    assert chain == before


def signed(record: Any, *keys: KeyRing, role: Role = Role.APPROVAL) -> Entry:
    return sign_record(record, [ring[role] for ring in keys])


# what takes effect, and when


OLD1, NEW1 = RING["hospital-1"], NEW["hospital-1"]


def three() -> Membership:
    """One of the four is suspended."""
    return after(START, suspend("hospital-4"))


def without_name(membership: Membership, name: str) -> dict[str, MemberForm]:
    return {other: form for other, form in membership.members.items() if other != name}


EFFECTS: dict[str, tuple[Callable[[], Membership], Action, dict[str, Any]]] = {
    "enrol": (lambda: START, enrol(LEDGER, "hospital-5"),
              {"members": {**START.members,
                           "hospital-5": member_form("hospital-5", RING["hospital-5"])}}),
    "rotate": (lambda: START, rotate(LEDGER, "hospital-1", OLD1, NEW1),
               {"members": {**START.members, "hospital-1": member_form("hospital-1", NEW1)}}),
    "rotate one that is suspended": (
        three, rotate(LEDGER, "hospital-4", RING["hospital-4"], NEW["hospital-4"]),
        {"suspended": {"hospital-4": member_form("hospital-4", NEW["hospital-4"])}}),
    "rotate the coordinator": (
        lambda: START, rotate_coordinator(LEDGER, COORDINATOR, NEW["coordinator"]),
        {"coordinator": form_of(NEW["coordinator"])}),
    "suspend": (lambda: START, suspend("hospital-4"),
                {"members": without_name(START, "hospital-4"),
                 "suspended": {"hospital-4": START.members["hospital-4"]}}),
    "reinstate": (three, reinstate("hospital-4"), {"members": START.members, "suspended": {}}),
    "remove": (lambda: START, remove("hospital-1"), {"members": without_name(START, "hospital-1")}),
    "remove one that is suspended": (three, remove("hospital-4"), {"suspended": {}}),
    "set the policy": (lambda: START, set_policy(7), {"policy": set_policy(7).policy}),
}  # fmt: skip


@pytest.mark.parametrize("name", EFFECTS)
def test_a_change_takes_effect_with_the_last_approval_that_it_needs(name: str) -> None:
    found, action, effect = EFFECTS[name]
    base = found()
    proposed, *approvals = decided(base, action)
    assert len(approvals) == base.quorum > 1
    now = base
    for entry in (proposed, *approvals):
        assert replace(now, proposed={}) == base
        now.check_entry(entry)
        now = now.after([entry.record])
    assert now.digest != base.digest
    assert not now.proposed
    for part_of in ("members", "suspended", "coordinator", "policy"):
        assert getattr(now, part_of) == effect.get(part_of, getattr(base, part_of))
        assert (part_of in effect) == (getattr(now, part_of) != getattr(base, part_of))


def test_nothing_of_the_old_membership_is_touched() -> None:
    kept = deepcopy(START)
    for base, action, _ in EFFECTS.values():
        after(base(), action)
    assert kept == START == Membership.of_genesis(FOUR.genesis, LEDGER)


def test_the_quorum_follows_the_members() -> None:
    now, numbers = Consortium(1).begin().upcoming, []
    for i in range(2, 9):
        numbers.append((len(now.members), now.quorum))
        now = after(now, enrol(now.ledger, f"hospital-{i}"))
    for i in range(2, 9):
        numbers.append((len(now.members), now.quorum))
        now = after(now, suspend(f"hospital-{i}") if i % 2 else remove(f"hospital-{i}"))
    up = [(1, 1), (2, 2), (3, 2), (4, 3), (5, 4), (6, 4), (7, 5)]
    assert numbers == [*up, (8, 6), *up[:0:-1]]
    assert (list(now.members), now.quorum) == (["hospital-1"], 1)


@pytest.mark.parametrize("by", ["coordinator", "hospital-3"])
def test_the_coordinator_and_every_member_may_propose(by: str) -> None:
    proposed = propose(START, suspend("hospital-1"), author=by)
    START.check_entry(proposed)
    now = START.after(
        [proposed.record, *(e.record for e in approve(START, proposed, *FOUR.members)[:3])]
    )
    assert list(now.suspended) == ["hospital-1"]


def test_a_member_may_approve_what_is_done_to_it() -> None:
    proposed = propose(START, remove("hospital-1"))
    approvals = approve(START, proposed, "hospital-1", "hospital-2", "hospital-3")
    assert "hospital-1" not in START.after([e.record for e in (proposed, *approvals)]).members


def test_approvals_may_come_in_many_blocks() -> None:
    chain = FOUR.begin()
    proposed = propose(chain.upcoming, enrol(LEDGER, "hospital-5"))
    follow(chain, proposed)
    for entry in approve(chain.upcoming, proposed, "hospital-4", "hospital-2"):
        follow(chain, FOUR.entry(round=chain.header.height), entry)
        assert chain.upcoming.digest == START.digest
    follow(chain)
    follow(chain, *approve(chain.upcoming, proposed, "hospital-1"))
    assert "hospital-5" in chain.members


def test_the_old_quorum_certifies_the_deciding_block_and_the_new_one_the_next() -> None:
    chain = FOUR.begin()
    block = follow(chain, *decided(chain.upcoming, enrol(LEDGER, "hospital-5")))
    assert block.header.membership == START.digest
    three = ["hospital-1", "hospital-2", "hospital-4"]
    text = chain.checkpoint.text()
    fifth = cosign("hospital-5", RING["hospital-5"][Role.COSIGN], text, CREATED)
    assert chain.certify(cosigned(chain, three)) == three
    with pytest.raises(QuorumMissing, match="2 of 4"):
        chain.certify(cosigned(chain, three[:2]))
    with pytest.raises(SignatureInvalid, match="by no member"):
        chain.certify(sorted([*cosigned(chain, three), fifth]))

    block = block_on(chain)
    assert block.header.membership == chain.upcoming.digest != START.digest
    with pytest.raises(BlockInvalid, match="membership"):
        chain.follow(with_header(block, membership=START.digest))
    chain.follow(block)
    with pytest.raises(QuorumMissing, match="3 of 5 institutions; 4"):
        chain.certify(cosigned(chain, three))
    assert chain.certify(cosigned(chain, [*three, "hospital-5"])) == [*three, "hospital-5"]


def test_who_left_certifies_the_block_that_decided_it_and_no_later_one() -> None:
    for action in (remove("hospital-4"), suspend("hospital-4")):
        chain = FOUR.begin()
        follow(chain, *decided(chain.upcoming, action))
        assert "hospital-4" in chain.certify(cosigned(chain))
        fourth = RING["hospital-4"][Role.COSIGN]
        follow(chain)
        line = cosign("hospital-4", fourth, chain.checkpoint.text(), CREATED)
        with pytest.raises(SignatureInvalid, match="by no member"):
            chain.certify(sorted([*cosigned(chain), line]))
        assert chain.certify(cosigned(chain, ["hospital-1", "hospital-3"]))  # 2 of 3


def certified(chain: Chain, first: KeyRing) -> list[str]:
    """By hospital-1 with this ring, and by two others."""
    line = cosign("hospital-1", first[Role.COSIGN], chain.checkpoint.text(), CREATED)
    return chain.certify(sorted([*cosigned(chain, ["hospital-2", "hospital-3"]), line]))


def test_keys_count_from_the_block_after_their_rotation_and_the_old_ones_no_longer() -> None:
    chain = FOUR.begin()
    entries = decided(chain.upcoming, rotate(LEDGER, "hospital-1", OLD1, NEW1))
    by_old, by_new = (sign_record(FOUR.refusal(), [ring[Role.RECORD]]) for ring in (OLD1, NEW1))
    without(chain, *entries, by_new, match="not signed by the keys")
    follow(chain, *entries, by_old)
    assert "hospital-1" in certified(chain, OLD1)
    with pytest.raises(LedgerError, match="not by hospital-1"):
        certified(chain, NEW1)

    without(chain, by_old, match="not signed by the keys")
    follow(chain, by_new)
    assert "hospital-1" in certified(chain, NEW1)
    with pytest.raises(LedgerError, match="not by hospital-1"):
        certified(chain, OLD1)

    proposed, record = propose(chain.upcoming, set_policy(1)), change(chain.upcoming, set_policy(1))
    without(chain, proposed, signed(approval(record, "hospital-1"), OLD1), match="not signed by")
    follow(chain, proposed, signed(approval(record, "hospital-1"), NEW1))


def test_the_coordinators_keys_count_from_the_block_after_their_rotation() -> None:
    chain, old, new = FOUR.begin(), COORDINATOR, NEW["coordinator"]
    entries = decided(chain.upcoming, rotate_coordinator(LEDGER, old, new))
    early = next_block(chain, entries, cosigned(chain), CREATED + 60, new)
    with pytest.raises(LedgerError, match="not signed by"):
        chain.follow(early)
    follow(chain, *entries)
    late = next_block(chain, [], cosigned(chain), CREATED + 60, old)
    with pytest.raises(LedgerError, match="not signed by"):
        chain.follow(late)
    signed = [sign_record(change(chain.upcoming, remove("hospital-1")), [ring[Role.RECORD]])
              for ring in (old, new)]  # fmt: skip
    without(chain, signed[0], match="not signed by the keys")
    follow(chain, signed[1])


def test_who_is_suspended_signs_no_records_until_reinstated() -> None:
    chain, entry = FOUR.begin(), FOUR.entry("hospital-4")
    follow(chain, *decided(chain.upcoming, suspend("hospital-4")), entry)
    without(chain, entry, match="hospital-4 is not a member")
    proposed = propose(START, set_policy(1), author="hospital-4")
    without(chain, proposed, match="hospital-4 is not a member")
    follow(chain, *decided(chain.upcoming, reinstate("hospital-4")))
    follow(chain, FOUR.entry("hospital-4", round=2))


def test_records_beside_the_deciding_approval_are_by_the_old_members() -> None:
    chain = FOUR.begin()
    entries = decided(chain.upcoming, enrol(LEDGER, "hospital-5"), remove("hospital-4"))
    fifth = sign_record(FOUR.refusal("hospital-5"), [RING["hospital-5"][Role.RECORD]])
    without(chain, *entries, fifth, match="entry 6: hospital-5 is not a member")
    follow(chain, *entries, FOUR.entry("hospital-4"))
    follow(chain, fifth)
    without(chain, FOUR.entry("hospital-4", round=2), match="hospital-4 is not a member")


def test_the_policy_counts_from_the_next_block_on() -> None:
    chain = FOUR.begin()
    follow(chain, *decided(chain.upcoming, set_policy(7)))
    assert chain.membership.policy == FOUR.genesis.policy
    assert chain.policy.credits.pool == 7
    header = chain.header
    follow(chain)
    assert chain.membership.policy.credits.pool == 7
    assert chain.in_force_at(header).policy == FOUR.genesis.policy
    assert chain.in_force_at(chain.header).policy.credits.pool == 7


def test_the_digest_chains_every_change_from_the_genesis_on() -> None:
    def chained(before: str, change: str) -> str:
        return sha256(f"medpole/membership/v1\n{before}\n{change}\n".encode()).hexdigest()

    now, expected = START, chained(LEDGER, "")
    for action in (suspend("hospital-1"), reinstate("hospital-1"), suspend("hospital-1")):
        assert now.digest == expected
        body = canonical.dumps(change(now, action).body())
        expected = chained(expected, sha256(b"medpole/change/v1\n" + body).hexdigest())
        now = after(now, action)
    assert now.digest == expected


def test_every_header_names_the_membership_in_force_at_it() -> None:
    chain, memberships = FOUR.begin(), [START.digest]
    for action in (None, suspend("hospital-1"), None, reinstate("hospital-1"), None, None):
        block = follow(chain, *(decided(chain.upcoming, action) if action else []))
        memberships.append(block.header.membership)
        assert chain.membership.digest == block.header.membership
        assert chain.in_force_at(block.header).members == chain.membership.members
        assert block.header.data().count(block.header.membership.encode()) == 1
    first, second, third = dict.fromkeys(memberships)
    assert memberships == [first, first, first, second, second, third, third]


def test_the_other_open_changes_lapse() -> None:
    chain = FOUR.begin()
    base = chain.upcoming
    lapsing = propose(base, suspend("hospital-1"))
    follow(chain, lapsing, *approve(base, lapsing, "hospital-2", "hospital-3"))
    assert len(chain.upcoming.proposed) == 1
    follow(chain, *decided(base, set_policy(7)))
    assert not chain.upcoming.proposed
    last = approve(base, lapsing, "hospital-4")
    without(chain, *last, match="no change that is open")
    without(chain, lapsing, match="another membership")
    again = propose(chain.upcoming, suspend("hospital-1"))
    without(chain, again, *last, match="no change that is open")
    follow(chain, again, *approve(base, again, "hospital-2", "hospital-3"))
    assert "hospital-1" in chain.members
    follow(chain, *approve(base, again, "hospital-4"))
    assert "hospital-1" in chain.upcoming.suspended


def test_several_changes_may_be_open_and_each_counts_its_own_approvals() -> None:
    first, second = propose(START, suspend("hospital-1")), propose(START, suspend("hospital-2"))
    entries = [first, second]
    entries += approve(START, first, "hospital-3", "hospital-4")
    entries += approve(START, second, "hospital-3", "hospital-4")
    now = START.after([e.record for e in entries])
    assert now.digest == START.digest
    assert list(now.after([approve(START, second, "hospital-1")[0].record]).suspended) == [
        "hospital-2"
    ]
    assert list(now.after([approve(START, first, "hospital-1")[0].record]).suspended) == [
        "hospital-1"
    ]


def test_after_an_effect_no_change_and_no_approval_stands_in_the_same_block() -> None:
    entries = decided(START, set_policy(7))
    then = after(START, set_policy(7))
    for more in (
        propose(then, suspend("hospital-1")), propose(START, suspend("hospital-1")), entries[0],
        *approve(START, entries[0], "hospital-4"),
    ):  # fmt: skip
        without(FOUR.begin(), *entries, more, match="took effect before this record")
    follow(FOUR.begin(), *entries, FOUR.entry())


def test_a_block_that_is_refused_for_another_reason_changes_no_membership() -> None:
    chain = FOUR.begin()
    block = block_on(chain, *decided(chain.upcoming, suspend("hospital-1")))
    before = replace(chain)
    for broken in (
        replace(block, signature=""),
        replace(block, parent_cert=()),
        with_header(block, time=1),
        replace(block, entries=block.entries[:-1]),
    ):
        with pytest.raises(LedgerError):
            chain.follow(broken)
        assert chain == before
    chain.follow(block)
    assert chain != before
    assert before.upcoming == START


# approvals that do not count


@dataclass
class Open:
    """A chain with one change open that lacks one approval; hospital-4 is suspended."""

    chain: Chain
    proposed: Entry
    change: Change
    lapsed: Change


@pytest.fixture
def almost() -> Open:
    chain = FOUR.begin()
    lapsed = propose(chain.upcoming, set_policy(1))
    follow(chain, lapsed)
    follow(chain, *decided(chain.upcoming, suspend("hospital-4"), enrol(LEDGER, "hospital-5")))
    follow(chain, *decided(chain.upcoming, enrol(LEDGER, "hospital-6"), remove("hospital-1")))
    proposed = propose(chain.upcoming, set_policy(9))
    follow(chain, proposed, *approve(chain.upcoming, proposed, "hospital-2", "hospital-3"))
    assert sorted(chain.members) == [f"hospital-{i}" for i in (2, 3, 5, 6)]
    assert isinstance(proposed.record, Change)
    assert isinstance(lapsed.record, Change)
    return Open(chain, proposed, proposed.record, lapsed.record)


def test_the_last_approval_may_be_any_other_members(almost: Open) -> None:
    for name in ("hospital-5", "hospital-6"):
        chain = replace(almost.chain)
        follow(chain, signed(approval(almost.change, name), RING[name]))
        assert chain.policy.credits.pool == 9


BAD_APPROVALS: dict[str, tuple[Callable[[Open], Entry], str]] = {
    "again": (lambda o: signed(approval(o.change, "hospital-2"), RING["hospital-2"]),
              "hospital-2 approved this change already"),
    "again, by another person there": (
        lambda o: signed(approval(o.change, "hospital-2", "1" * 64), RING["hospital-2"]),
        "hospital-2 approved this change already"),
    "by one who is suspended": (
        lambda o: signed(approval(o.change, "hospital-4"), RING["hospital-4"]),
        "hospital-4 is not a member"),
    "by one who was removed": (
        lambda o: signed(approval(o.change, "hospital-1"), RING["hospital-1"]),
        "hospital-1 is not a member"),
    "by a stranger": (lambda o: signed(approval(o.change, "hospital-7"), RING["hospital-7"]),
                      "hospital-7 is not a member"),
    "by a stranger under a member's name": (
        lambda o: signed(approval(o.change, "hospital-5"), RING["hospital-7"]), "not signed by"),
    "by one member for another": (
        lambda o: signed(approval(o.change, "hospital-5"), RING["hospital-6"]), "not signed by"),
    "by the coordinator": (
        lambda o: signed(approval(o.change, "coordinator"), COORDINATOR, role=Role.RECORD),
        "coordinator is not a member"),
    "by the coordinator for a member": (
        lambda o: signed(approval(o.change, "hospital-5"), COORDINATOR, role=Role.RECORD),
        "not signed by"),
    "by the agent, with its record key": (
        lambda o: signed(approval(o.change, "hospital-5"), RING["hospital-5"], role=Role.RECORD),
        "not signed by"),
    "by the agent, with its cosign key": (
        lambda o: signed(approval(o.change, "hospital-5"), RING["hospital-5"], role=Role.COSIGN),
        "not signed by"),
    "by nobody": (lambda o: assemble(approval(o.change, "hospital-5"), []), "not signed by"),
    "by two": (lambda o: signed(approval(o.change, "hospital-5"), RING["hospital-5"],
                                RING["hospital-6"]), "not signed by"),
    "of an unknown change": (
        lambda o: signed(approval(change(o.chain.upcoming, set_policy(10)), "hospital-5"),
                         RING["hospital-5"]), "no change that is open"),
    "of a change that lapsed": (
        lambda o: signed(approval(o.lapsed, "hospital-5"), RING["hospital-5"]),
        "no change that is open"),
    "on another ledger": (
        lambda o: signed(approval(o.change, "hospital-5").model_copy(
            update={"ledger": OTHER_LEDGER}), RING["hospital-5"]), "another ledger"),
    "taken from another ledger": (
        lambda o: moved(signed(approval(o.change, "hospital-5").model_copy(
            update={"ledger": OTHER_LEDGER}), RING["hospital-5"]), ledger=LEDGER),
        "does not hold"),
    "of another change, re-labelled": (
        lambda o: moved(signed(approval(o.lapsed, "hospital-5"), RING["hospital-5"]),
                        change=change_digest(o.change)), "does not hold"),
    "of another member, re-labelled": (
        lambda o: moved(signed(approval(o.change, "hospital-2"), RING["hospital-2"]),
                        author="hospital-5"), "not signed by"),
    "signed for another purpose": (
        lambda o: re_signed(signed(approval(o.change, "hospital-5"), RING["hospital-5"])),
        "does not hold"),
}  # fmt: skip


def moved(entry: Entry, **changed: object) -> Entry:
    """The same signatures under a changed body."""
    content = canonical.loads(entry.data)
    content["body"].update(changed)
    return Entry(canonical.dumps(content))


def re_signed(entry: Entry) -> Entry:
    """The same body under a signature by the same key that covers no domain line."""
    content = canonical.loads(entry.data)
    key = RING[content["body"]["author"]][Role.APPROVAL]
    content["signatures"][0]["sig"] = key.sign(canonical.dumps(content["body"])).hex()
    return Entry(canonical.dumps(content))


@pytest.mark.parametrize("name", BAD_APPROVALS)
def test_an_approval_does_not_count(almost: Open, name: str) -> None:
    make, why = BAD_APPROVALS[name]
    entry = make(almost)
    without(almost.chain, entry, match=why)
    without(almost.chain, FOUR.entry("hospital-2"), entry, match=why)
    assert admissible(almost.chain, [entry]) == []
    good = signed(approval(almost.change, "hospital-5"), RING["hospital-5"])
    without(almost.chain, entry, good, match=why)  # nor beside a good one


def test_no_member_counts_twice_within_one_block() -> None:
    proposed = propose(START, set_policy(9))
    first = signed(approval(change(START, set_policy(9)), "hospital-1"), RING["hospital-1"])
    other = signed(
        approval(change(START, set_policy(9)), "hospital-1", "1" * 64), RING["hospital-1"]
    )
    for twice in ([first, first], [first, other]):
        without(FOUR.begin(), proposed, *twice, match="hospital-1 approved this change already")


def test_an_approval_stands_after_its_change() -> None:
    proposed, first, *others = decided(START, set_policy(9))
    without(FOUR.begin(), first, proposed, *others, match="no change that is open")
    chain = FOUR.begin()
    without(chain, first, match="no change that is open")
    follow(chain, proposed, first)


# changes that cannot be proposed


@pytest.mark.parametrize(
    "base", ["0" * 64, LEDGER, START.digest, Consortium(5).begin().upcoming.digest]
)
def test_a_change_names_the_very_membership_that_it_changes(base: str) -> None:
    chain = FOUR.begin()
    follow(chain, *decided(chain.upcoming, set_policy(9)))
    record = change(chain.upcoming, suspend("hospital-1"))
    key = COORDINATOR[Role.RECORD]
    stale = sign_record(record.model_copy(update={"base": base}), [key])
    without(chain, stale, match="made for another membership")
    follow(chain, sign_record(record, [key]))


def test_an_effect_that_was_undone_is_another_membership() -> None:
    """Else approvals of then would count for now."""
    proposed, *approvals = decided(START, remove("hospital-1"))
    again = after(after(START, suspend("hospital-4")), reinstate("hospital-4"))
    assert again.members.keys() == START.members.keys()
    with pytest.raises(MembershipInvalid, match="another membership"):
        again.after([proposed.record, *(e.record for e in approvals)])


@pytest.mark.parametrize(
    ("author", "ring", "role", "why"),
    [
        ("hospital-1", RING["hospital-1"], Role.APPROVAL, "not signed by"),
        ("hospital-1", RING["hospital-2"], Role.RECORD, "not signed by"),
        ("coordinator", COORDINATOR, Role.COSIGN, "not signed by"),
        ("coordinator", RING["hospital-1"], Role.RECORD, "not signed by"),
        ("hospital-5", RING["hospital-5"], Role.RECORD, "hospital-5 is not a member"),
    ],
)
def test_a_change_is_signed_by_its_authors_record_key(
    author: str, ring: KeyRing, role: Role, why: str
) -> None:
    record = change(START, set_policy(9), author=author)
    without(FOUR.begin(), signed(record, ring, role=role), match=why)


IMPOSSIBLE: dict[str, tuple[Callable[[], list[Action]], str]] = {
    "suspend a stranger": (lambda: [suspend("hospital-5")], "cannot be changed by suspend"),
    "suspend the coordinator": (lambda: [suspend("coordinator")], "cannot be changed by suspend"),
    "suspend twice": (lambda: [suspend("hospital-1")] * 2, "cannot be changed by suspend"),
    "reinstate a member": (lambda: [reinstate("hospital-1")], "cannot be changed by reinstate"),
    "reinstate a stranger": (lambda: [reinstate("hospital-5")], "cannot be changed by reinstate"),
    "reinstate one that left": (lambda: [remove("hospital-1"), reinstate("hospital-1")],
                                "cannot be changed by reinstate"),
    "remove a stranger": (lambda: [remove("hospital-5")], "cannot be changed by remove"),
    "remove twice": (lambda: [remove("hospital-1")] * 2, "cannot be changed by remove"),
    "remove the coordinator": (lambda: [remove("coordinator")], "cannot be changed by remove"),
    "suspend all": (lambda: [suspend(name) for name in FOUR.members], "no institution would"),
    "remove all": (lambda: [remove(name) for name in FOUR.members], "no institution would"),
    "leave only suspended ones": (
        lambda: [suspend("hospital-1"), *(remove(f"hospital-{i}") for i in (2, 3, 4))],
        "no institution would"),
    "rotate a stranger": (
        lambda: [rotate(LEDGER, "hospital-5", RING["hospital-5"], NEW["hospital-5"])],
        "hospital-5 cannot be given these keys"),
    "rotate one that left": (
        lambda: [remove("hospital-1"),
                 rotate(LEDGER, "hospital-1", RING["hospital-1"], NEW["hospital-1"])],
        "hospital-1 cannot be given these keys"),
    "rotate to the same keys": (
        lambda: [rotate(LEDGER, "hospital-1", RING["hospital-1"], RING["hospital-1"])],
        "hospital-1 cannot be given these keys"),
    "rename in a rotation": (
        lambda: [renamed("hospital-1", RING["hospital-1"], NEW["hospital-1"])],
        "hospital-1 cannot be given these keys"),
    "rotate the coordinator as an institution": (
        lambda: [rotate(LEDGER, "coordinator", COORDINATOR, NEW["coordinator"])],
        "coordinator cannot be given these keys"),
    "one bad action after good ones": (
        lambda: [set_policy(9), enrol(LEDGER, "hospital-5"), suspend("hospital-6")],
        "cannot be changed by suspend"),
    "one bad action before good ones": (
        lambda: [suspend("hospital-5"), enrol(LEDGER, "hospital-5")],
        "cannot be changed by suspend"),
}  # fmt: skip


def renamed(name: str, old: KeyRing, new: KeyRing) -> Action:
    form = member_form(name, new).model_copy(update={"title": "Another"})
    action = rotate(LEDGER, name, old, new)
    consents = {"consent": consent(LEDGER, form, new), "consent_of_old": consent(LEDGER, form, old)}
    return action.model_copy(update={"member": form, **consents})


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_what_cannot_take_effect_is_not_even_proposed(name: str) -> None:
    actions, why = IMPOSSIBLE[name]
    assert why in refused(START, *actions())
    without(FOUR.begin(), propose(START, *actions()), match=why)


def test_the_last_member_in_force_stays() -> None:
    one = Consortium(1).begin().upcoming
    two = after(Consortium(2).begin().upcoming, suspend("hospital-2"))
    for membership in (one, two):
        for action in (suspend("hospital-1"), remove("hospital-1")):
            assert "no institution would be left" in refused(membership, action)
    assert list(after(two, suspend("hospital-1"), reinstate("hospital-2")).members) == [
        "hospital-2"
    ]


def test_several_actions_take_effect_together_in_their_order() -> None:
    actions: list[Action] = [
        remove("hospital-1"), enrol(LEDGER, "hospital-5"), suspend("hospital-5"),
        rotate(LEDGER, "hospital-2", RING["hospital-2"], NEW["hospital-2"]),
        suspend("hospital-2"), reinstate("hospital-2"), set_policy(1), set_policy(2),
        rotate_coordinator(LEDGER, COORDINATOR, NEW["coordinator"]),
    ]  # fmt: skip
    now = after(START, *actions)
    assert sorted(now.members) == ["hospital-2", "hospital-3", "hospital-4"]
    assert list(now.suspended) == ["hospital-5"]
    assert now.members["hospital-2"].keys == member_form("hospital-2", NEW["hospital-2"]).keys
    assert now.policy.credits.pool == 2
    assert now.coordinator == form_of(NEW["coordinator"])
    assert now.quorum == 2


def test_the_quorum_that_decides_is_the_one_before_the_change() -> None:
    """Leaving one alone takes three of the four, not one of the one."""
    proposed, *approvals = decided(START, *(remove(f"hospital-{i}") for i in (2, 3, 4)))
    now = START
    for n, entry in enumerate((proposed, *approvals)):
        now = now.after([entry.record])
        assert len(now.members) == (4 if n < 3 else 1)


# ids and keys are given once


ROTATION = rotate(LEDGER, "hospital-1", OLD1, NEW1)
GONE: dict[str, Callable[[], Membership]] = {
    "in force": lambda: START,
    "removed": lambda: after(START, remove("hospital-1")),
    "suspended": lambda: after(START, suspend("hospital-1")),
    "removed while suspended": lambda: after(START, suspend("hospital-1"), remove("hospital-1")),
    "rotated": lambda: after(START, ROTATION),
    "rotated while suspended": lambda: after(START, suspend("hospital-1"), ROTATION),
    "removed after it was rotated": lambda: after(after(START, ROTATION), remove("hospital-1")),
}


@pytest.mark.parametrize("how", GONE)
def test_no_id_and_no_key_of_any_institution_is_given_to_another(how: str) -> None:
    now = GONE[how]()
    assert "is, or was, an institution" in refused(now, enrol(LEDGER, "hospital-1", keys_of("x")))
    rings = [OLD1, *([NEW1] if "rotated" in how else [])]
    for old_role in Role:
        for role in Role:
            for ring in rings:
                key = KeyRing({role: ring[old_role]})
                fifth = part(RING["hospital-5"], role, of=key)
                assert "one key stands for two" in refused(now, enrol(LEDGER, "hospital-5", fifth))
        key = KeyRing({Role.COSIGN: rings[0][old_role]})
        fresh = part(keys_of("fresh"), Role.COSIGN, of=key)
        for action in (rotate(LEDGER, "hospital-2", RING["hospital-2"], fresh),
                       rotate_coordinator(LEDGER, COORDINATOR, fresh)):  # fmt: skip
            assert "one key stands for two" in refused(now, action)


def test_a_key_that_was_rotated_away_never_comes_back() -> None:
    old, new = RING["hospital-1"], NEW["hospital-1"]
    now = after(START, rotate(LEDGER, "hospital-1", old, new))
    for role in Role:
        back = part(NEWEST, role, of=old)
        assert "one key stands for two" in refused(now, rotate(LEDGER, "hospital-1", new, back))
    assert "one key stands for two" in refused(now, rotate(LEDGER, "hospital-1", new, old))
    after(now, rotate(LEDGER, "hospital-1", new, NEWEST))


def test_one_key_may_be_rotated_and_the_others_stay() -> None:
    for role in Role:
        ring = part(RING["hospital-1"], role, of=NEW["hospital-1"])
        now = after(START, rotate(LEDGER, "hospital-1", RING["hospital-1"], ring))
        kept = {r for r in Role if now.members["hospital-1"].keys[r]
                == START.members["hospital-1"].keys[r]}  # fmt: skip
        assert kept == set(Role) - {role}
        assert "one key" in refused(now, rotate(LEDGER, "hospital-1", ring, RING["hospital-1"]))


def test_the_coordinators_keys_are_given_once() -> None:
    now = after(START, rotate_coordinator(LEDGER, COORDINATOR, NEW["coordinator"]))
    for ring in (COORDINATOR, NEW["coordinator"]):
        for old_role in (Role.RECORD, Role.COSIGN):
            for role in Role:
                fifth = part(RING["hospital-5"], role, of=KeyRing({role: ring[old_role]}))
                assert "one key stands for two" in refused(now, enrol(LEDGER, "hospital-5", fifth))
    assert "one key stands for two" in refused(
        now, rotate_coordinator(LEDGER, NEW["coordinator"], COORDINATOR)
    )
    half = part(NEW["coordinator"], Role.COSIGN, of=keys_of("fresh"))
    assert after(now, rotate_coordinator(LEDGER, NEW["coordinator"], half)).coordinator == form_of(
        half
    )


def test_no_key_stands_in_two_roles_or_twice_in_one_change() -> None:
    ring = RING["hospital-5"]
    for role in Role:
        other = list(Role)[list(Role).index(role) - 1]
        twice = part(ring, role, of=KeyRing({role: ring[other]}))
        assert "one key stands for two" in refused(START, enrol(LEDGER, "hospital-5", twice))
        assert "one key stands for two" in refused(
            START, rotate(LEDGER, "hospital-1", RING["hospital-1"],
                          part(NEWEST, role, of=KeyRing({role: NEWEST[other]}))))  # fmt: skip
        sixth = part(RING["hospital-6"], role, of=ring)
        assert "one key stands for two" in refused(
            START, enrol(LEDGER, "hospital-5"), enrol(LEDGER, "hospital-6", sixth)
        )
    same = KeyRing({Role.RECORD: NEWEST[Role.RECORD], Role.COSIGN: NEWEST[Role.RECORD]})
    assert "one key" in refused(START, rotate_coordinator(LEDGER, COORDINATOR, same))
    assert "is, or was" in refused(
        START, enrol(LEDGER, "hospital-5"), enrol(LEDGER, "hospital-5", RING["hospital-6"])
    )
    assert "is, or was" in refused(
        START, enrol(LEDGER, "hospital-5"), remove("hospital-5"),
        enrol(LEDGER, "hospital-5", RING["hospital-6"]),
    )  # fmt: skip


@pytest.mark.parametrize("name", ["coordinator", "hospital-1"])
def test_nobody_is_enrolled_under_the_coordinators_or_a_members_name(name: str) -> None:
    assert "is, or was" in refused(START, enrol(LEDGER, name, keys_of("fresh")))


@pytest.mark.parametrize("role", Role)
def test_a_key_for_every_role_is_needed(role: Role) -> None:
    def lacking(action: Any, ring: KeyRing, old: KeyRing | None) -> Action:
        keys = {r: form for r, form in action.member.keys.items() if r is not role}
        form = action.member.model_copy(update={"keys": keys})
        update: dict[str, Any] = {"member": form, "consent": consent(LEDGER, form, ring)}
        if old:
            update["consent_of_old"] = consent(LEDGER, form, old)
        changed: Action = action.model_copy(update=update)
        return changed

    new, old = NEW["hospital-1"], RING["hospital-1"]
    enrolled = lacking(enrol(LEDGER, "hospital-5"), RING["hospital-5"], None)
    rotated = lacking(rotate(LEDGER, "hospital-1", old, new), new, old)
    why = "not signed" if role is Role.RECORD else "not exactly one key for every role"
    assert why in refused(START, enrolled)
    assert why in refused(START, rotated)


@pytest.mark.parametrize("roles", [[Role.RECORD], [Role.COSIGN], list(Role), []])
def test_the_coordinator_rotates_to_exactly_two_keys(roles: list[Role]) -> None:
    forms = {r: member_form("x", NEW["coordinator"]).keys[r] for r in roles}
    sigs = {"consent": consent(LEDGER, forms, NEW["coordinator"]),
            "consent_of_old": consent(LEDGER, forms, COORDINATOR)}  # fmt: skip
    action = rotate_coordinator(LEDGER, COORDINATOR, NEW["coordinator"])
    refused(START, action.model_copy(update={"keys": forms, **sigs}))


# consent


NOT_CONSENTED: dict[str, Callable[[Any, KeyRing], str]] = {
    "nobody": lambda form, ring: "0" * 128,
    "a member": lambda form, ring: consent(LEDGER, form, RING["hospital-2"]),
    "the coordinator of another ledger": lambda form, ring: consent(LEDGER, form, keys_of("x")),
    "it with another of its keys": lambda form, ring: consent(
        LEDGER, form, KeyRing({Role.RECORD: ring[Role.COSIGN]})),
    "it with its approval key": lambda form, ring: consent(
        LEDGER, form, KeyRing({Role.RECORD: ring[Role.APPROVAL]})),
    "it for another ledger": lambda form, ring: consent(OTHER_LEDGER, form, ring),
    "it for other keys": lambda form, ring: consent(LEDGER, other_form(form), ring),
    "it without the domain": lambda form, ring: ring[Role.RECORD].sign(
        consent_message(LEDGER, form).split(b"\n", 1)[1]).hex(),
}  # fmt: skip


def other_form(form: Any) -> Any:
    if isinstance(form, MemberForm):
        return member_form(form.id, NEWEST)
    return form_of(NEWEST)


@pytest.mark.parametrize("who", NOT_CONSENTED)
def test_new_keys_need_the_consent_of_the_record_keys_before_and_after(who: str) -> None:
    sign = NOT_CONSENTED[who]
    fifth, first = enrol(LEDGER, "hospital-5"), rotate(LEDGER, "hospital-1", OLD1, NEW1)
    ours = rotate_coordinator(LEDGER, COORDINATOR, NEW["coordinator"])
    cases: list[tuple[Any, str, Any, KeyRing]] = [
        (fifth, "consent", fifth.member, RING["hospital-5"]),
        (first, "consent", first.member, NEW1),
        (first, "consent_of_old", first.member, OLD1),
        (ours, "consent", ours.keys, NEW["coordinator"]),
        (ours, "consent_of_old", ours.keys, COORDINATOR),
    ]
    for action, which, form, ring in cases:
        forged = action.model_copy(update={which: sign(form, ring)})
        assert "not signed by the record keys" in refused(START, forged)
        assert after(START, action)


def test_neither_consent_stands_for_the_other() -> None:
    actions: list[Any] = [
        rotate(LEDGER, "hospital-1", OLD1, NEW1),
        rotate_coordinator(LEDGER, COORDINATOR, NEW["coordinator"]),
    ]
    for action in actions:
        for update in (
            {"consent": action.consent_of_old},
            {"consent_of_old": action.consent},
            {"consent": action.consent_of_old, "consent_of_old": action.consent},
        ):
            assert "not signed by" in refused(START, action.model_copy(update=update))


def test_the_key_before_is_the_one_in_force_and_no_older_one() -> None:
    now = after(START, rotate(LEDGER, "hospital-1", OLD1, NEW1))
    assert "not signed by" in refused(now, rotate(LEDGER, "hospital-1", OLD1, NEWEST))
    after(now, rotate(LEDGER, "hospital-1", NEW1, NEWEST))
    after(START, rotate(LEDGER, "hospital-1", OLD1, NEW1),
          rotate(LEDGER, "hospital-1", NEW1, NEWEST))  # fmt: skip
    new = NEW["coordinator"]
    now = after(START, rotate_coordinator(LEDGER, COORDINATOR, new))
    assert "not signed by" in refused(now, rotate_coordinator(LEDGER, COORDINATOR, NEWEST))
    after(now, rotate_coordinator(LEDGER, new, NEWEST))


# going on without the blocks


@dataclass
class History:
    """Blocks with open, lapsed and decided changes, and the state after each."""

    blocks: list[Block] = field(default_factory=list)
    states: list[Chain] = field(default_factory=list)

    def changes(self, height: int) -> list[Entry]:
        """All changes and approvals up to a block."""
        entries = (entry for block in self.blocks[1 : height + 1] for entry in block.entries)
        return [e for e in entries if e.record.type in ("change", "approval")]

    def resume(self, height: int, changes: Iterable[Entry] | None = None, **other: Any) -> Chain:
        state = self.states[height]
        given = {"header": state.header, "frontier": state.frontier.copy(), **other}
        changes = self.changes(height) if changes is None else changes
        return Chain.resume(FOUR.founding_entry, changes, pinned=LEDGER, **given)


@pytest.fixture(scope="module")
def history() -> History:
    chain = FOUR.begin()
    history = History([FOUR.founding_block], [replace(chain)])

    def add(*entries: Entry) -> None:
        history.blocks.append(follow(chain, *entries))
        history.states.append(replace(chain))

    def now() -> Membership:
        return chain.upcoming

    add(FOUR.entry())
    lapsing = propose(now(), remove("hospital-2"))
    fifth = propose(now(), enrol(LEDGER, "hospital-5"), set_policy(5))
    add(lapsing, FOUR.entry("hospital-3"), *approve(now(), lapsing, "hospital-1", "hospital-3"))
    add(fifth, *approve(now(), fifth, "hospital-1"))
    add(*approve(now(), fifth, "hospital-4"))
    add(FOUR.entry("hospital-2"), *approve(now(), fifth, "hospital-2"), FOUR.entry("hospital-4"))
    add(FOUR.entry(round=2))
    add(*decided(now(), rotate(LEDGER, "hospital-1", OLD1, NEW1), suspend("hospital-4"),
                 rotate_coordinator(LEDGER, COORDINATOR, NEW["coordinator"])))  # fmt: skip
    add(*decided(now(), remove("hospital-4")))
    unfinished = propose(now(), suspend("hospital-3"), author="hospital-5")
    add(unfinished, *approve(now(), unfinished, "hospital-5", "hospital-1"))
    add()
    return history


HEIGHTS = range(11)
DECIDING = (5, 7, 8)


def plain(membership: Membership) -> Membership:
    """Without what is open: it counts in the upcoming membership only."""
    return replace(membership, proposed={})


def seen(chain: Chain) -> tuple[Any, ...]:
    return (
        chain.ledger, plain(chain.membership), chain.upcoming, chain.header, chain.checkpoint,
        chain.frontier, {d: plain(m) for d, m in chain.memberships.items()},
    )  # fmt: skip


def test_the_history_holds_what_it_is_for(history: History) -> None:
    assert len(history.blocks) == len(history.states) == len(HEIGHTS)
    digests = [state.upcoming.digest for state in history.states]
    effects = tuple(h for h in HEIGHTS if h and digests[h] != digests[h - 1])
    assert effects == DECIDING
    assert [len(history.states[h].upcoming.proposed) for h in HEIGHTS] == [
        0, 0, 1, 2, 2, 0, 0, 0, 0, 1, 1,
    ]  # fmt: skip


@pytest.mark.parametrize("height", HEIGHTS)
def test_going_on_from_any_block_is_as_having_followed_all(history: History, height: int) -> None:
    chain = history.resume(height)
    assert seen(chain) == seen(history.states[height])
    for block in history.blocks[height + 1 :]:
        chain.follow(block)
        assert seen(chain) == seen(history.states[block.header.height])


def test_who_resumes_certifies_by_the_membership_of_that_block(history: History) -> None:
    for height in DECIDING:
        chain, state = history.resume(height), history.states[height]
        assert chain.certify(cosigned(state)) == sorted(state.membership.members)
        assert chain.in_force_at(state.header).members == state.membership.members
        assert chain.members != chain.membership.members or height == 8


@pytest.mark.parametrize("height", HEIGHTS)
def test_the_changes_alone_give_all_memberships_up_to_a_block(
    history: History, height: int
) -> None:
    changes = history.changes(height)
    found = Chain.memberships_of(FOUR.founding_entry, changes, LEDGER)
    expected = history.states[height].memberships
    assert {d: plain(m) for d, m in found.items()} == {d: plain(m) for d, m in expected.items()}
    assert list(found) == list(expected)
    with pytest.raises(GenesisMismatch):
        Chain.memberships_of(FOUR.founding_entry, changes, OTHER_LEDGER)


def variants(changes: Sequence[Entry]) -> Iterator[list[Entry]]:
    """The list with one left out, two in the other order, one again, cut short."""
    for i in range(len(changes)):
        yield [*changes[:i], *changes[i + 1 :]]
        yield [*changes[: i + 1], *changes[i:]]
        yield [*changes[:i]]
        for j in range(i + 1, min(i + 4, len(changes))):
            yield [*changes[:i], changes[j], *changes[i + 1 : j], changes[i], *changes[j + 1 :]]


@pytest.mark.parametrize("height", [4, 5, 8, 9])
def test_other_changes_give_no_other_membership(history: History, height: int) -> None:
    """Whoever is lied to stops, at once or at the next block, or knows what is true."""
    stopped = 0
    for changes in variants(history.changes(height)):
        try:
            chain = history.resume(height, changes)
            for block in history.blocks[height + 1 :]:
                chain.follow(block)
        except LedgerError:
            stopped += 1
        else:
            true = history.states[-1]
            assert (plain(chain.upcoming), plain(chain.membership)) == (
                plain(true.upcoming), plain(true.membership))  # fmt: skip
    assert stopped > height


@pytest.mark.parametrize("height", DECIDING)
def test_a_missing_or_surplus_decision_is_seen_at_once_or_at_the_next_block(
    history: History, height: int
) -> None:
    changes = history.changes(height)
    short = history.resume(height, changes[:-1])
    with pytest.raises(LedgerError, match="membership does not follow" if height == 5 else None):
        short.follow(history.blocks[height + 1])
    with pytest.raises(BlockInvalid, match="names a membership that the changes do not give"):
        history.resume(height + 1, history.changes(height)[:-1])
    with pytest.raises(LedgerError):
        history.resume(height - 1, changes).follow(history.blocks[height])


FORGED: dict[str, Callable[[Entry], Entry]] = {
    "no signature": lambda e: assemble(e.record, []),
    "signed by invented keys": lambda e: sign_record(e.record, [keys_of("x")[Role.APPROVAL]]),
    "signed by the coordinator": lambda e: sign_record(e.record, [COORDINATOR[Role.RECORD]]),
    "another approver": lambda e: moved(e, approver="0" * 64),
    "another member": lambda e: moved(
        e, author="hospital-3" if e.record.author != "hospital-3" else "hospital-1"
    ),
    "another change": lambda e: moved(e, change="0" * 64),
    "another ledger": lambda e: moved(e, ledger=OTHER_LEDGER),
    "a second genesis": lambda e: FOUR.founding_entry,
    "no entry": lambda e: Entry(b"{}"),
}


@pytest.mark.parametrize("how", FORGED)
def test_a_forged_approval_is_refused_when_going_on(history: History, how: str) -> None:
    last = HEIGHTS[-1]
    changes = history.changes(last)
    for i, entry in enumerate(changes):
        if entry.record.type == "approval":
            forged = FORGED[how](entry)
            with pytest.raises(LedgerError):
                history.resume(last, [*changes[:i], forged, *changes[i + 1 :]])
            with pytest.raises(LedgerError):
                Chain.memberships_of(FOUR.founding_entry, [*changes[:i], forged], LEDGER)


def test_the_header_and_the_tree_belong_to_the_ledger_and_to_each_other(history: History) -> None:
    state, earlier = history.states[6], history.states[4]
    for header in (replace(state.header, membership="0" * 64),
                   replace(state.header, ledger=OTHER_LEDGER)):  # fmt: skip
        with pytest.raises(BlockInvalid, match="names a membership"):
            history.resume(6, header=header)
    with pytest.raises(BlockInvalid, match="does not end with the header"):
        history.resume(6, frontier=earlier.frontier)
    with pytest.raises(GenesisMismatch):
        Chain.resume(FOUR.founding_entry, [], state.header, state.frontier, pinned=OTHER_LEDGER)
    with pytest.raises(BlockInvalid, match="genesis"):
        Chain.resume(FOUR.entry(), [], state.header, state.frontier)
    five = Consortium(5)
    with pytest.raises(GenesisMismatch):
        Chain.resume(five.founding_entry, [], state.header, state.frontier, pinned=LEDGER)
    with pytest.raises(BlockInvalid):
        Chain.resume(five.founding_entry, [], state.header, state.frontier)
    wrong = state.frontier.copy()
    wrong.nodes[-1] = bytes(32)
    chain = history.resume(6, frontier=wrong)
    with pytest.raises(LedgerError):
        chain.follow(history.blocks[7])


# what of a queue may stand in the next block


def test_the_next_block_takes_what_stands_up_to_the_first_effect() -> None:
    chain = FOUR.begin()
    base = chain.upcoming
    first, second = propose(base, set_policy(1)), propose(base, suspend("hospital-4"))
    waiting = [
        FOUR.entry(), first, *approve(base, first, "hospital-1"), second,
        *approve(base, second, "hospital-1", "hospital-2"), *approve(base, first, "hospital-2"),
        *approve(base, second, "hospital-3"), FOUR.entry("hospital-4"),
        *approve(base, first, "hospital-3"), FOUR.entry("hospital-2"),
    ]  # fmt: skip
    taken = admissible(chain, waiting)
    assert taken == waiting[:8]
    follow(chain, *taken)
    assert list(chain.upcoming.suspended) == ["hospital-4"]
    rest = admissible(chain, waiting[8:])
    assert rest == [waiting[-1]]  # hospital-4 is suspended, and the first change lapsed
    follow(chain, *rest)


def test_what_breaks_a_rule_is_left_out_and_stops_nothing() -> None:
    chain = FOUR.begin()
    proposed, *approvals = decided(chain.upcoming, set_policy(1))
    stranger = sign_record(FOUR.refusal("hospital-5"), [RING["hospital-5"][Role.RECORD]])
    bad = [stranger, approvals[0], FOUR.founding_entry, Entry(b"{}"), Entry(b"\xff")]
    queue = [*bad, proposed, *bad[2:], approvals[0], approvals[0], stranger, *approvals[1:]]
    assert admissible(chain, queue) == [proposed, *approvals]
    assert admissible(chain, []) == admissible(chain, bad) == []
    assert admissible(chain, [FOUR.entry()] * 2) == [FOUR.entry()] * 2


def test_a_change_for_the_next_membership_waits_for_the_next_block() -> None:
    chain = FOUR.begin()
    first = decided(chain.upcoming, set_policy(1))
    then = after(chain.upcoming, set_policy(1))
    second = decided(then, enrol(LEDGER, "hospital-5"))
    queue = [*first, *second]
    assert admissible(chain, queue) == first
    follow(chain, *first)
    assert admissible(chain, queue) == second  # what stands on the ledger already lapsed


# the attack: an administrator alone makes a quorum of invented hospitals


INVENTED = {f"invented-{i}": keys_of(f"invented-{i}") for i in range(1, 10)}
ENROL_ALL = [enrol(LEDGER, name, ring) for name, ring in INVENTED.items()]


class Administrator:
    """Holds the coordinator's keys and the invented hospitals', and writes any block.

    ``helped`` hospitals (one less than the quorum) really approve all that is proposed.
    """

    def __init__(self) -> None:
        self.chain = FOUR.begin()
        self.helped = list(FOUR.members)[: self.now.quorum - 1]
        assert len(self.helped) == 2

    @property
    def now(self) -> Membership:
        return self.chain.upcoming

    def help(self, proposed: Entry) -> list[Entry]:
        return approve(self.now, proposed, *self.helped)

    def tries(self, *entries: Entry, match: str | None = None) -> None:
        """Puts entries into a block, together, one after the other, and what is admissible."""
        without(self.chain, *entries, match=match)
        begun = replace(self.chain)
        for entry in entries:
            with suppress(LedgerError):
                follow(self.chain, entry)
        self.fails()
        self.chain = begun
        follow(self.chain, *admissible(self.chain, entries))
        self.fails()

    def fails(self) -> None:
        for membership in (self.chain.membership, self.now, *self.chain.memberships.values()):
            assert membership.digest == START.digest
            assert membership.members == START.members
            assert membership.coordinator == START.coordinator
            assert membership.quorum == 3


@pytest.fixture
def admin() -> Administrator:
    return Administrator()


def test_an_administrator_alone_proposes_in_vain(admin: Administrator) -> None:
    proposed = propose(admin.now, *ENROL_ALL)
    follow(admin.chain, proposed, *admin.help(proposed))
    for _ in range(3):
        follow(admin.chain)
    admin.fails()


def test_an_administrator_forges_approvals_in_vain(admin: Administrator) -> None:
    proposed = propose(admin.now, *ENROL_ALL)
    record = change(admin.now, *ENROL_ALL)
    rings = [COORDINATOR, *INVENTED.values()]
    for name in ("hospital-3", "hospital-4"):
        forged = [sign_record(approval(record, name), [ring[role]])
                  for ring in rings for role in Role]  # fmt: skip
        forged.append(assemble(approval(record, name), []))
        theirs = secret_of(START.members[name].keys[Role.APPROVAL]).public
        for sig in ("00" * 64, "ff" * 64, "01" + "00" * 63):
            line = {"alg": theirs.algorithm, "key": theirs.key_id, "sig": sig}
            forged.append(assemble(approval(record, name), [line]))
        for entry in forged:
            without(admin.chain, proposed, *admin.help(proposed), entry)
        admin.tries(proposed, *admin.help(proposed), *forged)


def test_an_administrator_approves_as_invented_hospitals_in_vain(admin: Administrator) -> None:
    proposed = propose(admin.now, *ENROL_ALL)
    record = change(admin.now, *ENROL_ALL)
    invented = [signed(approval(record, name), ring) for name, ring in INVENTED.items()]
    admin.tries(proposed, *admin.help(proposed), *invented, match="is not a member")
    as_one = [signed(approval(record, "coordinator"), COORDINATOR, role=role)
              for role in (Role.RECORD, Role.COSIGN, Role.APPROVAL)]  # fmt: skip
    admin.tries(proposed, *admin.help(proposed), *as_one, match="is not a member")


def test_an_administrator_shows_real_approvals_again_in_vain(admin: Administrator) -> None:
    proposed = propose(admin.now, *ENROL_ALL)
    real = admin.help(proposed)
    admin.tries(proposed, *real, *real, match="already")
    for entry in real:
        for name in ("hospital-3", "hospital-4", "invented-1", "coordinator"):
            admin.tries(proposed, *real, moved(entry, author=name))
        admin.tries(proposed, *real, moved(entry, approver="1" * 64))
        content = canonical.loads(entry.data)
        twice = {**content, "signatures": content["signatures"] * 2}
        admin.tries(proposed, *real, Entry(canonical.dumps(twice)))
        admin.tries(proposed, *real, Entry(entry.data + b" "), Entry(b" " + entry.data))


def test_an_administrator_takes_approvals_of_another_change_in_vain(admin: Administrator) -> None:
    """Three hospitals agree that a fourth be suspended; nobody that invented ones be enrolled."""
    harmless = propose(admin.now, suspend("hospital-4"))
    real = approve(admin.now, harmless, "hospital-1", "hospital-2", "hospital-3")
    wanted = propose(admin.now, *ENROL_ALL)
    digest = change_digest(change(admin.now, *ENROL_ALL))
    admin.tries(wanted, *real, match="no change that is open")
    admin.tries(wanted, *(moved(entry, change=digest) for entry in real), match="does not hold")


def test_an_administrator_swaps_the_change_under_its_approvals_in_vain(
    admin: Administrator,
) -> None:
    harmless = propose(admin.now, suspend("hospital-4"))
    real = approve(admin.now, harmless, "hospital-1", "hospital-2", "hospital-3")
    base = change(admin.now, suspend("hospital-4"))
    for update in (
        {"actions": (suspend("hospital-4"), *ENROL_ALL)}, {"actions": tuple(ENROL_ALL)},
        {"author": "hospital-1"}, {"actions": (suspend("hospital-3"),)},
    ):  # fmt: skip
        swapped = sign_record(base.model_copy(update=update), [COORDINATOR[Role.RECORD]])
        admin.tries(swapped, *real)
    begun = replace(admin.chain)
    follow(admin.chain, harmless, *real[:2])
    swapped = sign_record(
        base.model_copy(update={"actions": tuple(ENROL_ALL)}), [COORDINATOR[Role.RECORD]]
    )
    without(admin.chain, moved(harmless, actions=swapped.record.body()["actions"]), real[2])
    follow(admin.chain, real[2])  # the third completes what the three saw
    assert set(admin.chain.members) == {"hospital-1", "hospital-2", "hospital-3"}
    assert INVENTED.keys().isdisjoint(admin.chain.upcoming.suspended)
    admin.chain = begun


def test_an_administrator_takes_approvals_of_another_ledger_in_vain(admin: Administrator) -> None:
    """A rehearsal with the same hospitals, the same keys, and everybody's approval."""
    rehearsal = FOUR.genesis.model_copy(update={"created": CREATED - 1})
    signers = [COORDINATOR, *FOUR.members.values()]
    entry = sign_record(rehearsal, [ring[Role.RECORD] for ring in signers])
    there = Chain.begin(genesis_block(entry, COORDINATOR)).upcoming
    assert there.ledger == ledger_id(rehearsal) != LEDGER
    assert there.digest != START.digest
    actions = [enrol(there.ledger, name, ring) for name, ring in INVENTED.items()]
    proposed, *real = decided(there, *actions)
    assert INVENTED.keys() <= there.after([e.record for e in (proposed, *real)]).members.keys()
    admin.tries(proposed, *real, match="another ledger")
    here = propose(admin.now, *ENROL_ALL)
    digest = change_digest(change(admin.now, *ENROL_ALL))
    admin.tries(here, *real, match="another ledger")
    admin.tries(here, *(moved(e, ledger=LEDGER, change=digest) for e in real), match="not hold")
    # and the same change under the same digest cannot be had: it names ledger and base
    same = change(admin.now, *ENROL_ALL).model_copy(update={"ledger": there.ledger})
    assert change_digest(same) != digest
    with pytest.raises(MembershipInvalid, match="not signed by the record keys"):
        admin.now.after([change(admin.now, *actions)])


def test_an_administrator_rewrites_the_genesis_in_vain(admin: Administrator) -> None:
    forms = [member_form(name, ring) for name, ring in INVENTED.items()]
    key = COORDINATOR[Role.RECORD]
    state = admin.chain
    for founders in (tuple(forms), (*FOUR.genesis.founders, *forms)):
        genesis = FOUR.genesis.model_copy(update={"founders": founders})
        rings = [INVENTED.get(form.id) or keys_of("forged") for form in founders]
        entry = sign_record(genesis, [key, *(ring[Role.RECORD] for ring in rings)])
        with pytest.raises(GenesisMismatch):
            Chain.begin(genesis_block(entry, COORDINATOR), LEDGER)
        with pytest.raises(GenesisMismatch):
            Chain.resume(entry, [], state.header, state.frontier, LEDGER)
        with pytest.raises(LedgerError):
            Chain.resume(entry, [], state.header, state.frontier)
    with pytest.raises(SignatureInvalid):  # with the real ones in it, they must have signed
        Chain.begin(genesis_block(entry, COORDINATOR))
    # beside the genesis, or after it
    admin.tries(entry, match="a second genesis")
    swapped = moved(FOUR.founding_entry, founders=[form.model_dump(mode="json") for form in forms])
    with pytest.raises(LedgerError):
        Chain.begin(replace(FOUR.founding_block, entries=(swapped,)), LEDGER)


def test_an_administrator_rotates_a_members_keys_without_its_old_key_in_vain(
    admin: Administrator,
) -> None:
    """Even with a quorum's approval: members are shown digests, and may be misled."""
    thief = INVENTED["invented-1"]
    form = member_form("hospital-3", thief)
    real = rotate(LEDGER, "hospital-3", RING["hospital-3"], NEW["hospital-3"])
    for old in (COORDINATOR, thief, *(RING[name] for name in admin.helped)):
        stolen = rotate(LEDGER, "hospital-3", old, thief)
        assert "not signed by the record keys" in refused(admin.now, stolen)
        admin.tries(*decided(admin.now, stolen), match="not signed by the record keys")
    replayed = real.model_copy(update={"member": form, "consent": consent(LEDGER, form, thief)})
    admin.tries(*decided(admin.now, replayed), match="not signed by the record keys")
    same_record = part(thief, Role.RECORD, of=KeyRing(
        {Role.RECORD: RING["hospital-3"][Role.RECORD]}))  # fmt: skip
    form = member_form("hospital-3", same_record)
    kept = real.model_copy(update={"member": form})  # its cosign key alone is exchanged
    admin.tries(*decided(admin.now, kept), match="not signed by the record keys")
    # and with the old key's consent it still takes a quorum
    admin.tries(propose(admin.now, real), *admin.help(propose(admin.now, real)),
                *(signed(approval(change(admin.now, real), name), thief)
                  for name in ("hospital-3", "hospital-4")), match="not signed by")  # fmt: skip


@pytest.mark.parametrize("leave", [suspend, remove])
def test_an_administrator_shrinks_the_quorum_in_vain(
    admin: Administrator, leave: Callable[[str], Action]
) -> None:
    for names in (["hospital-4"], ["hospital-3", "hospital-4"],
                  ["hospital-2", "hospital-3", "hospital-4"]):  # fmt: skip
        proposed = propose(admin.now, *map(leave, names))
        admin.tries(proposed, *admin.help(proposed), *admin.help(proposed), match="already")
        both = propose(admin.now, *map(leave, names), *ENROL_ALL)
        record = change(admin.now, *map(leave, names), *ENROL_ALL)
        invented = [signed(approval(record, name), ring) for name, ring in INVENTED.items()]
        admin.tries(both, *admin.help(both), *invented, match="is not a member")
    swapped = propose(admin.now, *ENROL_ALL, *map(leave, FOUR.members))
    admin.tries(swapped, *admin.help(swapped), *admin.help(swapped), match="already")


def test_an_administrator_gathers_approvals_over_time_in_vain(admin: Administrator) -> None:
    """Two approve today; after another change the third does; no three ever saw one membership."""
    today = propose(admin.now, *ENROL_ALL)
    two = admin.help(today)
    third = approve(admin.now, today, "hospital-3")
    follow(admin.chain, today, *two)
    follow(admin.chain, *decided(admin.now, set_policy(1)))
    for entries in ([*third], [today], [today, *third], [today, *two, *third], [*two, *third]):
        without(admin.chain, *entries)
    again = propose(admin.now, *ENROL_ALL)
    digest = change_digest(change(admin.now, *ENROL_ALL))
    follow(admin.chain, again, *approve(admin.now, again, "hospital-3"))
    without(admin.chain, *two, match="no change that is open")
    without(admin.chain, *(moved(e, change=digest) for e in two), match="does not hold")
    assert admin.now.members == START.members


def test_an_administrator_names_an_invented_membership_in_the_header_in_vain(
    admin: Administrator,
) -> None:
    """And certifies it with invented hospitals' cosignatures."""
    then = admin.now.after([e.record for e in decided(admin.now, *ENROL_ALL)])
    proposed = propose(admin.now, *ENROL_ALL)
    block = block_on(replace(admin.chain, upcoming=then), proposed)
    assert block.header.membership == then.digest
    with pytest.raises(BlockInvalid, match="membership does not follow"):
        admin.chain.follow(block)
    follow(admin.chain, proposed, *admin.help(proposed))
    text = admin.chain.checkpoint.text()
    lines = [cosign(name, ring[Role.COSIGN], text, CREATED) for name, ring in INVENTED.items()]
    real = cosigned(admin.chain, admin.helped)
    for certificate in (lines, [*real, *lines], [*real, lines[0]]):
        with pytest.raises(SignatureInvalid, match="by no member"):
            admin.chain.certify(sorted(certificate))
        forged = next_block(admin.chain, [], certificate, CREATED + 60, COORDINATOR)
        with pytest.raises(SignatureInvalid, match="by no member"):
            admin.chain.follow(forged)
    for name in ("hospital-3", "hospital-4"):
        line = cosign(name, INVENTED["invented-1"][Role.COSIGN], text, CREATED)
        with pytest.raises(LedgerError, match=f"not by {name}"):
            admin.chain.certify(sorted([*real, line]))
    with pytest.raises(QuorumMissing, match="2 of 4"):
        admin.chain.certify(real)
    admin.fails()


def test_an_administrator_borrows_names_and_keys_in_vain(admin: Administrator) -> None:
    """A real hospital's one cosignature under two names would count for two."""
    ring = INVENTED["invented-1"]
    for role in Role:
        borrowed = part(ring, role, of=RING["hospital-1"])
        form = member_form("invented-1", borrowed)
        signers = [borrowed, ring] if role is Role.RECORD else [borrowed]
        for signer in signers:
            action = enrol(LEDGER, "invented-1", borrowed).model_copy(
                update={"consent": consent(LEDGER, form, signer)}
            )
            admin.tries(*decided(admin.now, action))
    for name in ("hospital-1", "coordinator"):
        admin.tries(*decided(admin.now, enrol(LEDGER, name, ring)), match="is, or was")


def test_an_administrator_hides_an_approvals_type_in_vain(admin: Administrator) -> None:
    """Membership is read from the entries that may be changes: none may look like another."""
    proposed, *approvals = decided(admin.now, *ENROL_ALL)
    assert all(entry.names_type("approval") for entry in approvals)
    for find, by in (
        (b'"type":"approval"', b'"type":"\\u0061pproval"'),
        (b'"type":"approval"', b'"\\u0074ype":"approval"'),
        (b'"type":"approval"', b'"type": "approval"'),
        (b'"type":"approval"', b'"type":"refusal"'),
        (b'"type":"approval"', b'"type":"approval","type":"approval"'),
    ):
        for entry in approvals:
            hidden = Entry(entry.data.replace(find, by))
            assert hidden.data != entry.data
            admin.tries(proposed, *admin.help(proposed), hidden)


@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_an_administrator_mixes_all_that_in_vain(data: st.DataObject) -> None:
    admin = Administrator()
    record = change(admin.now, *ENROL_ALL)
    proposed = propose(admin.now, *ENROL_ALL)
    smaller = propose(admin.now, remove("hospital-3"), remove("hospital-4"))
    everybody = approve(admin.now, propose(admin.now, set_policy(1)), *FOUR.members)
    pool = [
        proposed, smaller, *admin.help(proposed), *admin.help(smaller), *everybody,
        *(signed(approval(record, name), ring) for name, ring in list(INVENTED.items())[:3]),
        *(moved(entry, change=change_digest(record)) for entry in everybody[2:]),
        signed(approval(record, "coordinator"), COORDINATOR, role=Role.RECORD),
        *(signed(approval(record, name), COORDINATOR) for name in ("hospital-3", "hospital-4")),
    ]  # fmt: skip
    blocks = data.draw(st.lists(st.lists(st.sampled_from(pool), max_size=8), max_size=4))
    for entries in blocks:
        try:
            follow(admin.chain, *entries)
        except LedgerError:
            follow(admin.chain, *admissible(admin.chain, entries))
    admin.fails()


# random histories against a model


VERSIONS = {
    name: [keys_of(name), *(keys_of(f"{name}, version {v}") for v in (1, 2, 3))]
    for name in ("coordinator", *(f"hospital-{i}" for i in range(1, 7)))
}
NAMES = [name for name in VERSIONS if name != "coordinator"]
Deed = tuple[Any, ...]  # a kind with its arguments


@dataclass
class Rules:
    """The rules in other words: names and numbers of keys, no signature and no digest."""

    members: dict[str, int]  # the version of its keys
    suspended: dict[str, int] = field(default_factory=dict)
    coordinator: int = 0
    pool: int = 1000
    given: set[tuple[str, int]] = field(default_factory=set)
    names: set[str] = field(default_factory=set)
    number: int = 0
    open: dict[int, tuple[list[Deed], set[str]]] = field(default_factory=dict)

    def copy(self) -> "Rules":
        return deepcopy(self)

    def needed(self) -> int:
        n = len(self.members)
        return next(q for q in count(1) if 2 * q - n > (n - 1) // 3)

    def changed(self, deeds: list[Deed]) -> "Rules | None":
        """What the deeds make of it, or None."""
        new = self.copy()
        if not all(new.do(*deed) for deed in deeds) or not new.members:
            return None
        new.number, new.open = self.number + 1, {}
        return new

    def do(self, kind: str, *given: Any) -> bool:
        if kind == "set-policy":
            self.pool = given[0]
            return True
        if kind == "enrol":
            name, version, consenting = given
            good = name not in self.names and (name, version) not in self.given
            if good := good and version == consenting:
                self.members[name] = version
                self.names.add(name)
                self.given.add((name, version))
            return good
        if kind == "rotate":
            name, old, version, consenting = given
            here = next((g for g in (self.members, self.suspended) if name in g), {name: -1})
            if name == "coordinator":
                here = {name: self.coordinator}
            good = here[name] == old and (name, version) not in self.given
            if good := good and version == consenting:
                here[name] = version
                self.given.add((name, version))
                self.coordinator = here.get("coordinator", self.coordinator)
            return good
        (name,) = given
        source, target = {"suspend": (self.members, self.suspended),
                          "reinstate": (self.suspended, self.members)}.get(
            kind, (self.members if name in self.members else self.suspended, {}))  # fmt: skip
        if name not in source:
            return False
        target[name] = source.pop(name)
        return True


def action_of(ledger: str, kind: str, *given: Any) -> Action:
    form: Any
    if kind == "enrol":
        name, version, consenting = given
        form = member_form(name, VERSIONS[name][version])
        sig = consent(ledger, form, VERSIONS[name][consenting])
        return enrol(ledger, name, VERSIONS[name][version]).model_copy(update={"consent": sig})
    if kind == "rotate":
        name, old, version, consenting = given
        rings = VERSIONS[name]
        if name == "coordinator":
            action: Any = rotate_coordinator(ledger, rings[old], rings[version])
            form = action.keys
        else:
            action = rotate(ledger, name, rings[old], rings[version])
            form = action.member
        sig = consent(ledger, form, rings[consenting])
        made: Action = action.model_copy(update={"consent": sig})
        return made
    if kind == "set-policy":
        return set_policy(given[0])
    makes: dict[str, Callable[[str], Action]] = {
        "suspend": suspend, "reinstate": reinstate, "remove": remove,
    }  # fmt: skip
    return makes[kind](given[0])


KINDS = ["enrol", "rotate", "suspend", "reinstate", "enrol", "rotate", "remove", "set-policy"]
SELDOM = st.sampled_from([False] * 9 + [True])


def drawn_deed(draw: Callable[..., Any], rules: Rules) -> Deed:
    """Mostly one that could be right."""
    kind, astray = draw(st.sampled_from(KINDS)), draw(SELDOM)
    held = {"coordinator": rules.coordinator, **rules.members, **rules.suspended}
    if kind == "set-policy":
        return kind, draw(st.integers(1, 9))
    likely = {
        "enrol": set(NAMES) - rules.names,
        "rotate": set(held),
        "reinstate": set(rules.suspended),
    }.get(kind, set(rules.members))
    every = VERSIONS if kind == "rotate" else NAMES
    name = draw(st.sampled_from(sorted(every if astray or not likely else likely)))
    if kind not in ("enrol", "rotate"):
        return kind, name
    old = held.get(name, 0)
    fresh = [v for v in range(4) if v != old and (astray or (name, v) not in rules.given)]
    version = draw(st.sampled_from(fresh or [3]))
    consenting = draw(st.integers(0, 3)) if astray else version
    if kind == "enrol":
        return kind, name, version, consenting
    return kind, name, draw(st.integers(0, 3)) if astray else old, version, consenting


@cache
def form_at(name: str, version: int) -> MemberForm:
    return member_form(name, VERSIONS[name][version])


class Compared:
    """The code and the model, given the same records."""

    def __init__(self, founders: int) -> None:
        self.founding = Consortium(founders)
        self.now = self.founding.begin().upcoming
        names = dict.fromkeys(self.founding.members, 0)
        given = {(name, 0) for name in (*names, "coordinator")}
        self.rules = Rules(names, given=given, names=set(names))
        self.bases = [self.now.digest]
        self.changes: list[tuple[Change, list[Deed], int]] = []
        self.taken: list[Entry] = []

    def proposes(self, author: str, version: int, number: int, deeds: list[Deed]) -> None:
        """A change of membership ``number``, signed with the author's keys of a version."""
        actions = tuple(action_of(self.now.ledger, *deed) for deed in deeds)
        record = change(self.now, *actions, author=author)
        record = record.model_copy(update={"base": self.bases[number]})
        if any(record == other for other, _, _ in self.changes):
            return
        self.changes.append((record, deeds, number))
        rules, new = self.rules, None
        held = {**rules.members, "coordinator": rules.coordinator}.get(author)
        if version == held and number == rules.number and rules.changed(deeds):
            new = rules.copy()
            new.open[len(self.changes) - 1] = (deeds, set())
        self.compare(record, VERSIONS[author][version][Role.RECORD], new)

    def approves(self, author: str, version: int, role: Role, which: int) -> None:
        rules, new = self.rules, None
        deeds, approved = rules.open.get(which, ([], {author}))
        if rules.members.get(author) == version and role is Role.APPROVAL:
            if author not in approved and len(approved) + 1 >= rules.needed():
                new = rules.changed(deeds)
            elif author not in approved:
                new = rules.copy()
                new.open[which] = (deeds, {*approved, author})
        record = approval(self.changes[which][0], author)
        self.compare(record, VERSIONS[author][version][role], new)

    def compare(self, record: Change | Approval, key: SecretKey, new: Rules | None) -> None:
        entry = sign_record(record, [key])
        try:
            self.now.check_entry(entry)
            self.now = self.now.after([record])
        except LedgerError:
            assert new is None
            return
        assert new is not None
        self.taken.append(entry)
        if new.number > self.rules.number:
            assert self.now.digest not in self.bases
            self.bases.append(self.now.digest)
        self.rules = new
        self.looks_right(self.now)

    def looks_right(self, now: Membership) -> None:
        rules = self.rules
        assert now.members == {name: form_at(name, v) for name, v in rules.members.items()}
        assert now.suspended == {name: form_at(name, v) for name, v in rules.suspended.items()}
        assert now.coordinator == form_of(VERSIONS["coordinator"][rules.coordinator])
        assert now.policy.credits.pool == rules.pool
        assert now.quorum == rules.needed()
        assert now.digest == self.bases[rules.number]
        assert {digest: set(p.approved) for digest, p in now.proposed.items()} == {
            change_digest(self.changes[which][0]): approved
            for which, (_, approved) in rules.open.items()
        }

    def in_blocks(self) -> None:
        """The same records on a ledger, block by block, and then from the newest one on."""
        chain, waiting = self.founding.begin(), self.taken
        while waiting:
            entries = admissible(chain, waiting)
            assert entries == waiting[: len(entries)] != []
            follow(chain, *entries)
            waiting = waiting[len(entries) :]
        self.looks_right(chain.upcoming)
        assert list(chain.memberships) == self.bases
        again = Chain.resume(self.founding.founding_entry, self.taken, chain.header, chain.frontier)
        assert seen(again) == seen(chain)


class RandomHistoriesGoAsASimpleModelSays(RuleBasedStateMachine):
    @initialize(founders=st.integers(1, 5))
    def found(self, founders: int) -> None:
        self.both = Compared(founders)

    @rule(
        data=st.data(), deeds=st.sampled_from([1, 1, 1, 2, 3]), by=st.integers(0, 9),
        first=st.integers(0, 9), many=st.sampled_from([0, 1, 2, 6]),
    )  # fmt: skip
    def propose(self, data: st.DataObject, deeds: int, by: int, first: int, many: int) -> None:
        rules = self.both.rules
        held = {"coordinator": rules.coordinator, **rules.members}
        author = sorted(held)[by % len(held)]
        drawn = [drawn_deed(data.draw, rules) for _ in range(deeds)]
        self.both.proposes(author, held[author], rules.number, drawn)
        if self.both.rules.open:
            self.approve(len(self.both.rules.open) - 1, first, many)

    @precondition(lambda self: self.both.rules.open)
    @rule(which=st.integers(0, 9), first=st.integers(0, 9), many=st.integers(1, 6))
    def approve(self, which: int, first: int, many: int) -> None:
        """By one member after the other, until it is decided."""
        rules = self.both.rules
        which = list(rules.open)[which % len(rules.open)]
        names = sorted(rules.members)
        for i in range(many):
            if self.both.rules.number == rules.number:
                name = names[(first + i) % len(names)]
                self.both.approves(name, rules.members[name], Role.APPROVAL, which)

    @precondition(lambda self: self.both.changes)
    @rule(data=st.data(), author=st.sampled_from(sorted(VERSIONS)), version=st.integers(0, 3))
    def propose_astray(self, data: st.DataObject, author: str, version: int) -> None:
        number = data.draw(st.integers(0, self.both.rules.number))
        deed = drawn_deed(data.draw, self.both.rules)
        self.both.proposes(author, version, number, [deed])

    @precondition(lambda self: self.both.changes)
    @rule(
        data=st.data(), author=st.sampled_from(sorted(VERSIONS)), version=st.integers(0, 3),
        role=st.sampled_from([Role.APPROVAL, Role.APPROVAL, Role.RECORD]),
    )  # fmt: skip
    def approve_astray(self, data: st.DataObject, author: str, version: int, role: Role) -> None:
        which = data.draw(st.integers(0, len(self.both.changes) - 1))
        self.both.approves(author, version, role, which)

    def teardown(self) -> None:
        if hasattr(self, "both"):
            self.both.in_blocks()


TestRandomHistories = RandomHistoriesGoAsASimpleModelSays.TestCase
TestRandomHistories.settings = settings(
    max_examples=30, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
