"""A small consortium whose keys come from its names: everything in it is the same every time."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256

from ledger.block import Block, Header
from ledger.chain import Chain, ledger_id
from ledger.entry import Entry, sign_record
from ledger.keys import KeyRing, Role, SecretKey
from ledger.membership import COORDINATOR_ROLES, Membership, change_digest
from ledger.note import Checkpoint, cosign
from ledger.records import (
    COORDINATOR,
    Action,
    Approval,
    Change,
    CreditPolicy,
    Enrol,
    Genesis,
    KeyForm,
    MemberForm,
    Policy,
    Refusal,
    Reinstate,
    Remove,
    Rotate,
    RotateCoordinator,
    SetPolicy,
    Suspend,
    consent_message,
    possession_message,
)
from ledger.sequencer import admissible, genesis_block, next_block
from ledger.store import LedgerStore

CREATED = 1_750_000_000
APPROVER = sha256(b"a person").hexdigest()
_secrets: dict[str, SecretKey] = {}  # every secret key made here, by its public key


def keys_of(name: str) -> KeyRing:
    ring = {role: SecretKey(role, sha256(f"{name}/{role}".encode()).digest()) for role in Role}
    _secrets.update((key.public.public.hex(), key) for key in ring.values())
    return KeyRing(ring)


def secret_of(form: KeyForm) -> SecretKey:
    """The secret key of a public one that `keys_of` made."""
    return _secrets[form.public]


def member_form(name: str, keys: KeyRing) -> MemberForm:
    forms = {role: KeyForm.of(keys[role].public) for role in Role}
    possession = {
        role: keys[role].sign(possession_message(name, role, forms)).hex() for role in Role
    }
    return MemberForm(id=name, title=name.title(), keys=forms, possession=possession)


@dataclass(frozen=True)
class Consortium:
    """Founders ``hospital-1`` to ``hospital-n`` and their coordinator."""

    n: int

    @cached_property
    def coordinator(self) -> KeyRing:
        return keys_of("coordinator")

    @cached_property
    def members(self) -> dict[str, KeyRing]:
        return {f"hospital-{i}": keys_of(f"hospital-{i}") for i in range(1, self.n + 1)}

    @cached_property
    def genesis(self) -> Genesis:
        roles = (Role.RECORD, Role.COSIGN)
        return Genesis(
            v=1,
            type="genesis",
            author="coordinator",
            consortium="Example",
            coordinator={role: KeyForm.of(self.coordinator[role].public) for role in roles},
            founders=tuple(member_form(name, keys) for name, keys in self.members.items()),
            policy=Policy(
                quorum="floor((n+f)/2)+1",
                credits=CreditPolicy(pool=1000, verdicts=200, learner_bonus=100, window=5),
            ),
            created=CREATED,
        )

    @property
    def ledger(self) -> str:
        return ledger_id(self.genesis)

    @cached_property
    def founding_entry(self) -> Entry:
        signers = [self.coordinator, *self.members.values()]
        return sign_record(self.genesis, [keys[Role.RECORD] for keys in signers])

    @cached_property
    def founding_block(self) -> Block:
        return genesis_block(self.founding_entry, self.coordinator)

    def begin(self) -> Chain:
        return Chain.begin(self.founding_block)

    def refusal(self, name: str = "hospital-1", job: str = "job-1", round: int = 1) -> Refusal:
        return Refusal(
            v=1,
            type="refusal",
            ledger=self.ledger,
            author=name,
            job=job,
            round=round,
            attempt=1,
            code="PolicyRefused",
        )

    def entry(self, name: str = "hospital-1", job: str = "job-1", round: int = 1) -> Entry:
        return sign_record(self.refusal(name, job, round), [self.members[name][Role.RECORD]])

    def cosign(
        self, checkpoint: Checkpoint, names: Iterable[str] | None = None, time: int = CREATED + 9
    ) -> list[str]:
        return sorted(
            cosign(name, self.members[name][Role.COSIGN], checkpoint.text(), time)
            for name in (self.members if names is None else names)
        )

    def next_block(self, chain: Chain, entries: Iterable[Entry], time: int = CREATED + 60) -> Block:
        lines = self.cosign(chain.checkpoint)
        return next_block(chain, list(entries), lines, time, self.coordinator)


def with_header(block: Block, **changed: object) -> Block:
    header: Header = replace(block.header, **changed)  # type: ignore[arg-type]
    return replace(block, header=header)


# changes of the membership


def form_of(ring: KeyRing) -> dict[Role, KeyForm]:
    """The coordinator's keys as they stand on the ledger."""
    return {role: KeyForm.of(ring[role].public) for role in COORDINATOR_ROLES}


def consent(ledger: str, form: MemberForm | dict[Role, KeyForm], ring: KeyRing) -> str:
    return ring[Role.RECORD].sign(consent_message(ledger, form)).hex()


def enrol(ledger: str, name: str, ring: KeyRing | None = None) -> Enrol:
    ring = ring or keys_of(name)
    form = member_form(name, ring)
    return Enrol(kind="enrol", member=form, consent=consent(ledger, form, ring))


def rotate(ledger: str, name: str, old: KeyRing, new: KeyRing) -> Rotate:
    form = member_form(name, new)
    return Rotate(
        kind="rotate",
        member=form,
        consent=consent(ledger, form, new),
        consent_of_old=consent(ledger, form, old),
    )


def rotate_coordinator(ledger: str, old: KeyRing, new: KeyRing) -> RotateCoordinator:
    form = form_of(new)
    return RotateCoordinator(
        kind="rotate-coordinator",
        keys=form,
        consent=consent(ledger, form, new),
        consent_of_old=consent(ledger, form, old),
    )


def suspend(name: str) -> Suspend:
    return Suspend(kind="suspend", institution=name)


def reinstate(name: str) -> Reinstate:
    return Reinstate(kind="reinstate", institution=name)


def remove(name: str) -> Remove:
    return Remove(kind="remove", institution=name)


def set_policy(pool: int) -> SetPolicy:
    shares = CreditPolicy(pool=pool, verdicts=0, learner_bonus=0, window=1)
    return SetPolicy(kind="set-policy", policy=Policy(quorum="floor((n+f)/2)+1", credits=shares))


def coordinator_of(membership: Membership) -> KeyRing:
    """The coordinator's keys in force."""
    return KeyRing({role: secret_of(form) for role, form in membership.coordinator.items()})


def change(membership: Membership, *actions: Action, author: str = COORDINATOR) -> Change:
    return Change(
        v=1,
        type="change",
        ledger=membership.ledger,
        author=author,
        base=membership.digest,
        actions=actions,
    )


def approval(proposed: Change, name: str, approver: str = APPROVER) -> Approval:
    return Approval(
        v=1,
        type="approval",
        ledger=proposed.ledger,
        author=name,
        change=change_digest(proposed),
        approver=approver,
    )


def propose(membership: Membership, *actions: Action, author: str = COORDINATOR) -> Entry:
    """A change, signed with its author's record key in force."""
    proposed = change(membership, *actions, author=author)
    if author == COORDINATOR:
        return sign_record(proposed, [coordinator_of(membership)[Role.RECORD]])
    return sign_record(proposed, [secret_of(membership.members[author].keys[Role.RECORD])])


def approve(membership: Membership, proposed: Entry, *names: str) -> list[Entry]:
    """Approvals of a change, each signed with that member's approval key in force."""
    record = proposed.record
    assert isinstance(record, Change)
    return [
        sign_record(
            approval(record, name), [secret_of(membership.members[name].keys[Role.APPROVAL])]
        )
        for name in names
    ]


def decided(membership: Membership, *actions: Action) -> list[Entry]:
    """A change with just as many approvals as it needs."""
    proposed = propose(membership, *actions)
    names = list(membership.members)[: membership.quorum]
    return [proposed, *approve(membership, proposed, *names)]


def cosigned(chain: Chain, names: Iterable[str] | None = None) -> list[str]:
    """Cosignatures on the newest block by members in force at it (all, or those named)."""
    text, members = chain.checkpoint.text(), chain.membership.members
    return sorted(
        cosign(name, secret_of(members[name].keys[Role.COSIGN]), text, CREATED + 9)
        for name in (members if names is None else names)
    )


def block_on(chain: Chain, *entries: Entry) -> Block:
    """The block that follows, by the coordinator and the members in force."""
    keys = coordinator_of(chain.upcoming)
    return next_block(chain, entries, cosigned(chain), CREATED + 60, keys)


def propose_submissions(store: LedgerStore, keys: KeyRing) -> Block | None:
    """The next block over what was handed in and still applies; None where that is nothing."""
    entries = admissible(store.chain(), store.submissions())
    return store.propose(entries, keys) if entries else None
