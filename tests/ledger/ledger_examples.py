"""A small consortium whose keys come from its names: everything in it is the same every time."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256

from ledger.block import Block, Header
from ledger.chain import Chain, ledger_id
from ledger.entry import Entry, sign_record
from ledger.keys import KeyRing, Role, SecretKey
from ledger.note import Checkpoint, cosign
from ledger.records import (
    CreditPolicy,
    Genesis,
    KeyForm,
    MemberForm,
    Policy,
    Refusal,
    possession_message,
)
from ledger.sequencer import genesis_block, next_block

CREATED = 1_750_000_000


def keys_of(name: str) -> KeyRing:
    return KeyRing(
        {role: SecretKey(role, sha256(f"{name}/{role}".encode()).digest()) for role in Role}
    )


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
