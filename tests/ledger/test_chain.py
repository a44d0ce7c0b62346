"""Every rule by which a block follows another, broken once."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from ledger_examples import CREATED, Consortium, keys_of, member_form, with_header

from ledger.block import NO_PARENT, Block, Header, certificate_hash
from ledger.chain import Chain, check_quorum, ledger_id
from ledger.entry import Entry, assemble, record_signature, sign_record
from ledger.errors import (
    BlockInvalid,
    CanonicalInvalid,
    GenesisMismatch,
    LedgerError,
    MembershipInvalid,
    QuorumMissing,
    RecordInvalid,
    SignatureInvalid,
)
from ledger.keys import KeyRing, Role
from ledger.note import cosign, sign_note
from ledger.records import Genesis, KeyForm
from ledger.sequencer import genesis_block, next_block

FOUR = Consortium(4)


def state(chain: Chain) -> tuple[Any, ...]:
    frontier = chain.frontier
    return (
        chain.header, chain.checkpoint, frontier.size, tuple(frontier.nodes), chain.membership,
        chain.upcoming, dict(chain.memberships),
    )  # fmt: skip


@pytest.fixture
def chain() -> Chain:
    """At height 1, with one entry in its block."""
    chain = FOUR.begin()
    chain.follow(FOUR.next_block(chain, [FOUR.entry()]))
    return chain


@pytest.fixture
def block(chain: Chain) -> Block:
    """A block that follows ``chain``, over two entries."""
    return FOUR.next_block(chain, [FOUR.entry("hospital-2"), FOUR.entry("hospital-3")])


def refused(chain: Chain, block: Block, match: str | None = None) -> LedgerError:
    before = state(chain)
    with pytest.raises(LedgerError, match=match) as caught:
        chain.follow(block)
    assert state(chain) == before
    return caught.value


def test_genesis_follow_certify(chain: Chain, block: Block) -> None:
    chain.follow(block)
    assert (chain.header.height, chain.header.first, chain.header.count) == (2, 4, 2)
    assert chain.checkpoint.size == chain.header.size + 1 == 7
    names = ["hospital-1", "hospital-2", "hospital-4"]
    assert chain.certify(FOUR.cosign(chain.checkpoint, names)) == names


def test_an_empty_block_follows(chain: Chain) -> None:
    chain.follow(FOUR.next_block(chain, []))
    assert chain.header.count == 0


def test_a_clock_that_ran_backwards_is_held(chain: Chain) -> None:
    chain.follow(FOUR.next_block(chain, [], time=5))
    assert chain.header.time == CREATED + 60


HEADER_CHANGES = {
    "ledger": "0" * 64, "epoch": 1, "height": 3, "prev": "0" * 64, "first": 5, "count": 1,
    "size": 7, "root": "0" * 64, "membership": "0" * 64, "parent_cert": certificate_hash(()),
    "time": CREATED,
}  # fmt: skip


@pytest.mark.parametrize("field", HEADER_CHANGES)
def test_every_field_of_the_header_is_checked(chain: Chain, block: Block, field: str) -> None:
    assert set(HEADER_CHANGES) == set(Header.__dataclass_fields__)
    refused(chain, with_header(block, **{field: HEADER_CHANGES[field]}), field)


CHECKPOINT_CHANGES = {
    "origin": "medpole/other", "size": 8, "root": bytes(32), "epoch": 1, "height": 3,
    "block_hash": bytes(32),
}  # fmt: skip


@pytest.mark.parametrize("field", CHECKPOINT_CHANGES)
def test_every_field_of_the_checkpoint_is_checked(chain: Chain, block: Block, field: str) -> None:
    head = replace(block.checkpoint, **{field: CHECKPOINT_CHANGES[field]})
    line = sign_note(head.origin, FOUR.coordinator[Role.COSIGN], head.text())
    refused(chain, replace(block, checkpoint=head, signature=line), "checkpoint")


def test_the_coordinator_signs_the_checkpoint_itself(chain: Chain, block: Block) -> None:
    text = block.checkpoint.text()
    ours, theirs = FOUR.coordinator, FOUR.members["hospital-1"]
    for name, key in [
        (block.checkpoint.origin, ours[Role.RECORD]),
        (block.checkpoint.origin, theirs[Role.COSIGN]),
        ("coordinator", ours[Role.COSIGN]),
        ("hospital-1", theirs[Role.COSIGN]),
    ]:
        refused(chain, replace(block, signature=sign_note(name, key, text)))
    refused(
        chain, replace(block, signature=cosign(block.checkpoint.origin, ours[Role.COSIGN], text, 1))
    )
    refused(chain, replace(block, signature=""))


# the parent's certificate


def with_certificate(chain: Chain, lines: list[str]) -> Block:
    block = FOUR.next_block(chain, [])
    block = with_header(
        replace(block, parent_cert=tuple(lines)), parent_cert=certificate_hash(lines)
    )
    head = replace(block.checkpoint, block_hash=bytes.fromhex(block.header.hash))
    frontier = chain.frontier.copy()
    frontier.append(block.header.leaf)
    head = replace(head, root=frontier.root())
    line = sign_note(head.origin, FOUR.coordinator[Role.COSIGN], head.text())
    return replace(block, checkpoint=head, signature=line)


def test_a_quorum_is_enough(chain: Chain) -> None:
    names = ["hospital-2", "hospital-3", "hospital-4"]
    chain.follow(with_certificate(chain, FOUR.cosign(chain.checkpoint, names)))


def test_less_than_a_quorum_is_not(chain: Chain) -> None:
    lines = FOUR.cosign(chain.checkpoint, ["hospital-1", "hospital-2"])
    with pytest.raises(QuorumMissing, match="2 of 4"):
        chain.follow(with_certificate(chain, lines))


def test_the_certificate_must_be_on_the_very_parent(chain: Chain) -> None:
    refused(chain, with_certificate(chain, FOUR.cosign(FOUR.begin().checkpoint)), "does not hold")


def test_nobody_counts_twice(chain: Chain) -> None:
    lines = FOUR.cosign(chain.checkpoint, ["hospital-1", "hospital-2"])
    again = FOUR.cosign(chain.checkpoint, ["hospital-1"], time=CREATED + 10)
    refused(chain, with_certificate(chain, sorted(lines + again)), "repeated")


def test_the_coordinator_and_strangers_never_count(chain: Chain) -> None:
    lines = FOUR.cosign(chain.checkpoint)
    text = chain.checkpoint.text()
    for name, keys in [("coordinator", FOUR.coordinator), ("stranger", keys_of("stranger"))]:
        more = sorted([*lines, cosign(name, keys[Role.COSIGN], text, CREATED)])
        refused(chain, with_certificate(chain, more), "no member")


def test_only_the_cosign_key_counts(chain: Chain) -> None:
    lines = FOUR.cosign(chain.checkpoint, ["hospital-1", "hospital-2"])
    record = FOUR.members["hospital-3"][Role.RECORD]
    lines.append(cosign("hospital-3", record, chain.checkpoint.text(), CREATED))
    refused(chain, with_certificate(chain, sorted(lines)), "not by hospital-3")


def test_one_wrong_line_spoils_the_certificate_even_beside_a_quorum(chain: Chain) -> None:
    lines = FOUR.cosign(chain.checkpoint)
    head = replace(chain.checkpoint, size=9)
    lines[3] = FOUR.cosign(head, ["hospital-4"])[0]
    refused(chain, with_certificate(chain, sorted(lines)), "does not hold")


def test_the_certificate_is_sorted_and_the_one_that_the_header_names(chain: Chain) -> None:
    block = FOUR.next_block(chain, [])
    refused(chain, replace(block, parent_cert=block.parent_cert[::-1]), "not sorted")
    refused(chain, replace(block, parent_cert=block.parent_cert[:3]), "parent_cert")


def test_certify_needs_a_quorum_of_the_newest_block(chain: Chain) -> None:
    with pytest.raises(QuorumMissing):
        chain.certify(FOUR.cosign(chain.checkpoint, ["hospital-1", "hospital-2"]))
    with pytest.raises(QuorumMissing):
        chain.certify([])
    with pytest.raises(SignatureInvalid):
        chain.certify(FOUR.cosign(FOUR.begin().checkpoint))


def test_one_institution_is_its_own_quorum() -> None:
    one = Consortium(1)
    chain = one.begin()
    chain.follow(one.next_block(chain, [one.entry()]))
    assert check_quorum(chain.membership, chain.checkpoint, one.cosign(chain.checkpoint)) == [
        "hospital-1"
    ]


# entries


def signed_by(keys: KeyRing, role: Role = Role.RECORD, **changed: object) -> Entry:
    return sign_record(FOUR.refusal().model_copy(update=changed), [keys[role]])


@pytest.mark.parametrize(
    ("entry", "error"),
    [
        (lambda: signed_by(FOUR.members["hospital-2"]), SignatureInvalid),
        (lambda: signed_by(FOUR.members["hospital-1"], Role.COSIGN), SignatureInvalid),
        (lambda: signed_by(keys_of("stranger"), author="stranger"), SignatureInvalid),
        (lambda: signed_by(FOUR.coordinator), SignatureInvalid),
        (lambda: signed_by(FOUR.members["hospital-1"], ledger="0" * 64), BlockInvalid),
        (lambda: FOUR.founding_entry, BlockInvalid),
        (lambda: assemble(FOUR.refusal(), []), SignatureInvalid),
        (lambda: sign_record(FOUR.refusal(), [FOUR.members["hospital-1"][Role.RECORD]] * 2),
         SignatureInvalid),
        (lambda: Entry(b"{}"), RecordInvalid),
        (lambda: Entry(b"\xff"), CanonicalInvalid),
    ],
)  # fmt: skip
def test_an_entry_that_breaks_a_rule_is_named(
    chain: Chain, entry: Callable[[], Entry], error: type[LedgerError]
) -> None:
    bad = entry()
    block = FOUR.next_block(chain, [FOUR.entry("hospital-2"), bad])
    assert type(refused(chain, block, "entry 5: ")) is error
    with pytest.raises(error):
        chain.upcoming.check_entry(bad)


def test_entries_cannot_be_swapped_added_or_left_out(chain: Chain, block: Block) -> None:
    a, b = block.entries
    for entries in ((b, a), (a,), (b,), (), (a, b, b), (a, a)):
        refused(chain, replace(block, entries=entries), "follow")


def test_blocks_cannot_be_repeated_or_skipped(chain: Chain, block: Block) -> None:
    follower = FOUR.begin()
    with pytest.raises(LedgerError):
        follower.follow(block)
    chain.follow(block)
    refused(chain, block)


# the genesis


def founded(genesis: Genesis, signers: list[KeyRing] | None = None) -> Block:
    signers = [FOUR.coordinator, *FOUR.members.values()] if signers is None else signers
    return genesis_block(
        sign_record(genesis, [keys[Role.RECORD] for keys in signers]), FOUR.coordinator
    )


def with_genesis(**changed: object) -> Genesis:
    return FOUR.genesis.model_copy(update=changed)


def founded_anyway(genesis: Genesis, signers: list[KeyRing] | None = None) -> Block:
    """Block 0 over a genesis that our own sequencer makes no block of."""
    signers = [FOUR.coordinator, *FOUR.members.values()] if signers is None else signers
    entry = sign_record(genesis, [keys[Role.RECORD] for keys in signers])
    with pytest.raises(MembershipInvalid):
        genesis_block(entry, FOUR.coordinator)
    block = with_header(FOUR.founding_block, ledger=ledger_id(genesis), root=entry.leaf.hex())
    return replace(block, entries=(entry,))


def test_the_ledger_id_is_the_digest_of_the_genesis_and_can_be_pinned() -> None:
    block = FOUR.founding_block
    assert Chain.begin(block, FOUR.ledger).ledger == ledger_id(FOUR.genesis) == FOUR.ledger
    with pytest.raises(GenesisMismatch):
        Chain.begin(block, "0" * 64)
    with pytest.raises(GenesisMismatch):
        Chain.begin(block, FOUR.ledger.upper())


def test_every_founder_must_have_signed_in_order() -> None:
    ours, theirs = FOUR.coordinator, list(FOUR.members.values())
    for signers in (
        theirs, [ours, *theirs[:3]], [ours, *theirs[1:], theirs[0]], [ours, *theirs, theirs[0]],
        [ours, *theirs[:3], keys_of("stranger")],
    ):  # fmt: skip
        with pytest.raises(SignatureInvalid):
            Chain.begin(founded(FOUR.genesis, signers))


def test_the_genesis_names_each_institution_and_each_key_once() -> None:
    forms = FOUR.genesis.founders
    as_coordinator = member_form("coordinator", FOUR.members["hospital-4"])
    other_name = member_form("hospital-5", FOUR.members["hospital-1"])
    for founders, signers, what in [
        ((*forms[:3], forms[0]), [1, 2, 3, 1], "hospital-1 is, or was, an institution"),
        ((*forms[:3], as_coordinator), [1, 2, 3, 4], "coordinator is, or was, an institution"),
        ((*forms[:3], other_name), [1, 2, 3, 1], "one key stands for two"),
    ]:
        rings = [FOUR.coordinator, *(FOUR.members[f"hospital-{i}"] for i in signers)]
        with pytest.raises(MembershipInvalid, match=what):
            Chain.begin(founded_anyway(with_genesis(founders=founders), rings))


def test_a_cosign_key_shared_under_two_names_would_count_twice() -> None:
    """A cosignature/v1 covers no name: the one signature could be shown under both."""
    first, second = FOUR.genesis.founders[:2]
    borrowed = second.model_copy(
        update={"keys": {**second.keys, Role.COSIGN: first.keys[Role.COSIGN]}}
    )
    founders = (first, borrowed, *FOUR.genesis.founders[2:])
    with pytest.raises(MembershipInvalid, match="one key stands for two"):
        Chain.begin(founded_anyway(with_genesis(founders=founders)))


@pytest.mark.parametrize("role", Role)
def test_a_founder_has_no_key_in_two_roles_and_none_of_the_coordinators(role: Role) -> None:
    first, *others = FOUR.genesis.founders
    next_role = list(Role)[list(Role).index(role) - 1]
    for key in (first.keys[next_role], *FOUR.genesis.coordinator.values()):
        twice = first.model_copy(update={"keys": {**first.keys, role: key}})
        with pytest.raises(MembershipInvalid, match="one key stands for two"):
            Chain.begin(founded_anyway(with_genesis(founders=(twice, *others))))


@pytest.mark.parametrize("role", [Role.RECORD, Role.COSIGN])
def test_the_coordinator_needs_both_its_keys(role: Role) -> None:
    kept = {r: form for r, form in FOUR.genesis.coordinator.items() if r is not role}
    with pytest.raises(MembershipInvalid, match="not exactly one key for every role"):
        Chain.begin(founded_anyway(with_genesis(coordinator=kept)))


@pytest.mark.parametrize("role", [Role.VRF, Role.API, Role.APPROVAL])
def test_the_coordinator_has_no_other_key(role: Role) -> None:
    """With an approval key it could be taken for an institution."""
    key = KeyForm.of(FOUR.coordinator[role].public)
    with pytest.raises(MembershipInvalid, match="not exactly one key for every role"):
        Chain.begin(
            founded_anyway(with_genesis(coordinator={**FOUR.genesis.coordinator, role: key}))
        )


@pytest.mark.parametrize("role", Role)
def test_a_founder_needs_a_key_for_every_role(role: Role) -> None:
    first, *others = FOUR.genesis.founders
    kept = {r: form for r, form in first.keys.items() if r is not role}
    founders = (first.model_copy(update={"keys": kept}), *others)
    with pytest.raises(MembershipInvalid, match="not exactly one key for every role"):
        Chain.begin(founded_anyway(with_genesis(founders=founders)))


def test_block_0_holds_the_genesis_and_nothing_else() -> None:
    block = FOUR.founding_block
    for entries in ((), (*block.entries, FOUR.entry()), (FOUR.entry(),), block.entries * 2):
        with pytest.raises(BlockInvalid):
            Chain.begin(replace(block, entries=entries))
    for lines in (("",), tuple(FOUR.cosign(block.checkpoint))):
        with pytest.raises(BlockInvalid):
            Chain.begin(replace(block, parent_cert=lines))
    for field, value in {**HEADER_CHANGES, "height": 1, "prev": "1" * 64, "first": 1,
                         "parent_cert": "0" * 64, "size": 2, "count": 2,
                         "time": CREATED - 1}.items():  # fmt: skip
        with pytest.raises(BlockInvalid, match=field):
            Chain.begin(with_header(block, **{field: value}))
    assert block.header.prev == NO_PARENT


def test_a_genesis_signed_over_other_contents_is_refused() -> None:
    other = FOUR.genesis.model_copy(update={"consortium": "Another"})
    signatures = [
        record_signature(FOUR.genesis, keys[Role.RECORD])
        for keys in (FOUR.coordinator, *FOUR.members.values())
    ]
    with pytest.raises(SignatureInvalid):
        Chain.begin(genesis_block(assemble(other, signatures), FOUR.coordinator))


def test_the_sequencer_makes_no_genesis_of_another_record() -> None:
    with pytest.raises(RecordInvalid):
        genesis_block(FOUR.entry(), FOUR.coordinator)


# headers


def test_a_header_round_trips_and_its_hash_has_a_domain(block: Block) -> None:
    header = block.header
    assert Header.parse(header.data()) == header
    assert header.hash != header.leaf.hex()


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.replace(b'"v":1', b'"v":2'),
        lambda d: d.replace(b'"v":1', b'"v":true'),
        lambda d: d.replace(b'"type":"block"', b'"type":"black"'),
        lambda d: d.replace(b'"height":2', b'"height":"2"'),
        lambda d: d.replace(b'"epoch":0', b'"epoch":0,"epoch":0'),
        lambda d: d.replace(b'"epoch":0', b'"epoch":false'),
        lambda d: d.replace(b',"v":1', b""),
        lambda d: d.replace(b',"v":1', b',"v":1,"x":1'),
        lambda d: b"[]",
        lambda d: b"",
    ],
)
def test_a_header_in_any_other_form_is_refused(block: Block, change) -> None:
    data = change(block.header.data())
    assert data != block.header.data()
    with pytest.raises(LedgerError):
        Header.parse(data)


def test_the_sequencer_gives_the_same_bytes_for_the_same_input(chain: Chain) -> None:
    lines = FOUR.cosign(chain.checkpoint)
    made = [
        next_block(chain, [FOUR.entry()], given, CREATED + 70, FOUR.coordinator)
        for given in (lines, lines[::-1])
    ]
    assert made[0].header.data() == made[1].header.data()
    assert made[0].signature == made[1].signature
