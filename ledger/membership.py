"""Who may sign, co-sign and decide, and how that changes: by the members, never by the operator.

A `Membership` is what is in force: coordinator's keys, members, suspended members, policy. It has
a digest, chained from the genesis on, that every block header names. A `Change` is proposed on the
ledger against one such digest; it is decided once the approval keys of a quorum of that very
membership's institutions have approved it on the ledger. The block that holds the last approval is
still certified by the old membership; the next block is the first under the new one. Changes that
were proposed against the old one lapse: nobody's approval counts towards what they did not see.

Pure: a membership is never changed, each step gives a new one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256

from ledger import canonical
from ledger.entry import Entry
from ledger.errors import BlockInvalid, LedgerError, MembershipInvalid, SignatureInvalid
from ledger.keys import PublicKey, Role
from ledger.quorum import quorum
from ledger.records import (
    COORDINATOR,
    Action,
    Approval,
    Change,
    Enrol,
    Erasure,
    Genesis,
    Job,
    JobEnd,
    KeyForm,
    LedgerRecord,
    MemberForm,
    Policy,
    Record,
    Reinstate,
    Remove,
    Result,
    Rotate,
    RotateCoordinator,
    SetPolicy,
    Suspend,
    consent_message,
    possession_message,
)

COORDINATOR_ROLES = (Role.RECORD, Role.COSIGN)
_BY_COORDINATOR = (Change, Erasure, Job, JobEnd, Result)


@dataclass(frozen=True)
class Proposed:
    """A change that waits for approvals; ``approved`` names the institutions that gave theirs."""

    change: Change
    approved: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Membership:
    """What is in force on one ledger, and the changes proposed to it (by their digest).

    ``consortium`` is its name, as founded; ``digest`` is lower-case hex of 32 bytes. ``used_ids``
    and ``used_keys`` are never given again.
    """

    consortium: str
    ledger: str
    digest: str
    coordinator: Mapping[Role, KeyForm]
    members: Mapping[str, MemberForm]
    suspended: Mapping[str, MemberForm]
    policy: Policy
    used_ids: frozenset[str] = field(repr=False)
    used_keys: frozenset[str] = field(repr=False)
    proposed: Mapping[str, Proposed] = field(default_factory=dict)

    @staticmethod
    def of_genesis(genesis: Genesis, ledger: str) -> "Membership":
        """What the founders agreed on.

        Raises:
            MembershipInvalid: if the genesis names an institution or a key twice, or lacks one.
        """
        start = Membership(
            genesis.consortium, ledger, _chained(ledger, ""), {}, {}, {}, genesis.policy,
            frozenset({COORDINATOR}), frozenset(),
        )  # fmt: skip
        start = start._with_coordinator(genesis.coordinator)
        for member in genesis.founders:
            start = start._with_member(member)
        return start

    def coordinator_key(self, role: Role) -> PublicKey:
        """The coordinator's public key for a role."""
        form = self.coordinator[role]
        return PublicKey(role, bytes.fromhex(form.public), form.alg)

    @cached_property
    def quorum(self) -> int:
        """How many institutions must co-sign a block, or approve a change."""
        return quorum(len(self.members))

    # what one record must satisfy

    def check_entry(self, entry: Entry) -> None:
        """Checks one entry's form, ledger, author and signature.

        Raises:
            LedgerError: if one does not hold.
        """
        record = entry.record
        if not isinstance(record, LedgerRecord):
            raise BlockInvalid("a second genesis", "leave it out: a ledger has one")
        if record.ledger != self.ledger:
            raise BlockInvalid("a record of another ledger", "leave it out")
        entry.verify([self._author_key(record)])

    def _author_key(self, record: Record) -> PublicKey:
        role = Role.APPROVAL if isinstance(record, Approval) else Role.RECORD
        if record.author == COORDINATOR and isinstance(record, _BY_COORDINATOR):
            return self.coordinator_key(role)
        member = self.members.get(record.author)
        if member is None:
            raise SignatureInvalid(
                f"{record.author} is not a member",
                "only members in force sign records: see `consortium institution list`",
            )
        return member.key(role)

    # how it changes

    def after(self, records: Iterable[Record]) -> "Membership":
        """What is in force after a block with these records, in their order.

        Raises:
            MembershipInvalid: if a change or an approval breaks a rule.
        """
        now = self
        for record in records:
            if isinstance(record, Change | Approval) and now.digest != self.digest:
                raise _invalid(
                    "a change took effect before this record in its block",
                    "put it into the next block, if it still applies",
                )
            if isinstance(record, Change):
                now = now._propose(record)
            elif isinstance(record, Approval):
                now = now._approve(record)
        return now

    def _propose(self, change: Change) -> "Membership":
        digest = change_digest(change)
        if digest in self.proposed:
            raise _invalid("this change is proposed already", "leave it out: it is open")
        if change.base != self.digest:
            raise _invalid(
                "the change was made for another membership than the one in force",
                "propose it anew: see `consortium institution list`",
            )
        self._changed_by(change)  # what cannot take effect is not proposed
        return replace(self, proposed={**self.proposed, digest: Proposed(change)})

    def _approve(self, approval: Approval) -> "Membership":
        found = self.proposed.get(approval.change)
        if found is None:
            raise _invalid(
                "an approval of no change that is open",
                "see `hospital-agent members list` for the changes that are",
            )
        if approval.author in found.approved:
            raise _invalid(f"{approval.author} approved this change already", "leave it out")
        found = replace(found, approved=found.approved | {approval.author})
        if len(found.approved) >= self.quorum:
            return self._changed_by(found.change)
        return replace(self, proposed={**self.proposed, approval.change: found})

    def _changed_by(self, change: Change) -> "Membership":
        """The membership that a change gives; what was proposed to this one lapses."""
        changed = self
        for action in change.actions:
            changed = changed._apply(action)
        if not changed.members:
            raise _invalid("no institution would be left", "leave one member in force")
        digest = _chained(self.digest, change_digest(change))
        return replace(changed, digest=digest, proposed={})

    def _apply(self, action: Action) -> "Membership":
        if isinstance(action, SetPolicy):
            return replace(self, policy=action.policy)
        if isinstance(action, Enrol):
            _check_consent(self.ledger, action.member, action.member.keys, action.consent)
            return self._with_member(action.member)
        if isinstance(action, Rotate):
            return self._rotate(action)
        if isinstance(action, RotateCoordinator):
            old = dict(self.coordinator)
            if action.keys == old:
                raise _invalid("the coordinator has these keys already", "make new ones")
            _check_consent(self.ledger, action.keys, old, action.consent_of_old)
            _check_consent(self.ledger, action.keys, action.keys, action.consent)
            return self._with_coordinator(action.keys)
        return self._move(action)

    def _rotate(self, action: Rotate) -> "Membership":
        new = action.member
        old = self.members.get(new.id) or self.suspended.get(new.id)
        if old is None or old.title != new.title or old.keys == new.keys:
            raise _invalid(
                f"{new.id} cannot be given these keys",
                "rotate the keys of an institution in force, and nothing else of it",
            )
        _check_consent(self.ledger, new, old.keys, action.consent_of_old)
        _check_consent(self.ledger, new, new.keys, action.consent)
        publics = self._new_keys(new.keys, set(Role), old.keys)
        _check_possession(new)
        used = self.used_keys | publics
        if new.id in self.members:
            return replace(self, used_keys=used, members={**self.members, new.id: new})
        return replace(self, used_keys=used, suspended={**self.suspended, new.id: new})

    def _move(self, action: Suspend | Reinstate | Remove) -> "Membership":
        members, suspended, name = dict(self.members), dict(self.suspended), action.institution
        if isinstance(action, Suspend) and name in members:
            suspended[name] = members.pop(name)
        elif isinstance(action, Reinstate) and name in suspended:
            members[name] = suspended.pop(name)
        elif isinstance(action, Remove) and (name in members or name in suspended):
            members.pop(name, None)
            suspended.pop(name, None)
        else:
            raise _invalid(
                f"{name} cannot be changed by {action.kind}",
                "see `consortium institution list` for who is a member, and who is suspended",
            )
        return replace(self, members=members, suspended=suspended)

    def _with_member(self, member: MemberForm) -> "Membership":
        if member.id in self.used_ids:
            raise _invalid(f"{member.id} is, or was, an institution of this ledger", "use another")
        publics = self._new_keys(member.keys, set(Role), {})
        _check_possession(member)
        return replace(
            self, members={**self.members, member.id: member},
            used_ids=self.used_ids | {member.id}, used_keys=self.used_keys | publics,
        )  # fmt: skip

    def _with_coordinator(self, keys: Mapping[Role, KeyForm]) -> "Membership":
        publics = self._new_keys(keys, set(COORDINATOR_ROLES), self.coordinator)
        return replace(self, coordinator=dict(keys), used_keys=self.used_keys | publics)

    def _new_keys(
        self, keys: Mapping[Role, KeyForm], roles: set[Role], kept: Mapping[Role, KeyForm]
    ) -> frozenset[str]:
        """A cosignature does not cover its signer's name: no key may ever stand for two."""
        publics = _publics(keys.values())
        if set(keys) != roles:
            raise _invalid("not exactly one key for every role", "make the keys with this version")
        new = _publics(form for role, form in keys.items() if kept.get(role) != form)
        if len(publics) != len(keys) or new & self.used_keys:
            raise _invalid("one key stands for two roles or institutions", "make new keys")
        return publics


def _check_possession(member: MemberForm) -> None:
    """Whoever gets a key on the ledger holds it. (A VRF key makes no signatures: its proof is
    checked by the members, `consortium.enrolment`.)"""
    for role in member.keys:
        proof = bytes.fromhex(member.possession.get(role, ""))
        if role is Role.VRF:
            continue
        try:
            member.key(role).verify(proof, possession_message(member.id, role, member.keys))
        except LedgerError:
            raise _invalid(
                f"{member.id} does not show that it holds its {role} key",
                "have its agent make and show its keys anew",
            ) from None


def change_digest(change: Change) -> str:
    """What an approval names: the digest of a proposed change."""
    return sha256(b"medpole/change/v1\n" + canonical.dumps(change.body())).hexdigest()


def _chained(before: str, change: str) -> str:
    return sha256(f"medpole/membership/v1\n{before}\n{change}\n".encode()).hexdigest()


def _publics(forms: Iterable[KeyForm]) -> frozenset[str]:
    return frozenset(form.public for form in forms)


def _check_consent(
    ledger: str, form: MemberForm | dict[Role, KeyForm], keys: Mapping[Role, KeyForm], sig: str
) -> None:
    signer = keys.get(Role.RECORD)
    try:
        if signer is None:
            raise _invalid("no record key", "make the keys with this version")
        key = PublicKey(Role.RECORD, bytes.fromhex(signer.public), signer.alg)
        key.verify(bytes.fromhex(sig), consent_message(ledger, form))
    except LedgerError:
        raise _invalid(
            "new keys are not signed by the record keys that they need",
            "sign them with the record key before and the record key after",
        ) from None


def _invalid(what: str, resolve: str) -> MembershipInvalid:
    return MembershipInvalid(what, resolve)
