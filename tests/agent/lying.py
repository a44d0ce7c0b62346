"""A seeded simulation of one ledger whose coordinator lies, with as many lying members as it bears.

**The adversary** is one mind: the coordinator, and f = floor((n-1)/3) members whose keys it holds.
It grows a tree of blocks (`Proposal`), on every branch for which it can get a certificate. It
divides the honest members into camps and shows each camp another branch (`Simulation.split`);
beside that it shows anybody anything: older blocks, blocks of the other camp or of another
ledger, swapped or half-rewritten ones, other sets of cosignatures, invented heads (`TAMPERINGS`).
Its members co-sign whatever it likes, at any time, also twice.

**The honest members** keep the rules. A `WitnessMember` is the agent's own `Witness` on a folder
of its own; a `RuleMember` is the same decision without a disk, made of the same `Chain.follow` and
`check_quorum`, one block for each height: some six times faster, so that it can meet many more
schedules. Machines die at any call that a member makes to the API, before or after a cosignature
was taken, and start again from what was stored. A member whose machine was restored from a backup
(`forgets`) keeps the rules too, but it has forgotten what it signed: it is one of the f.

**What must never happen** (`Watch`), looked at after every step of every honest member:

- two honest members hold different final blocks at one height (final: a quorum of the membership
  in force at the block co-signed it);
- an honest member signs two different blocks at one height;

and at the end of a schedule, for an auditor who trusts whatever has a quorum: the adversary can
show certificates of two blocks at one height.

A schedule is made from its number alone, and a failure prints that number with all that happened.
"""

import shutil
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from random import Random

import pytest
from consortium_in_memory import CREATED, genesis_of, repeatable

from consortium.enrolment import check_member
from consortium.errors import ConsortiumError
from hospital_agent.approvals import Approvals
from hospital_agent.errors import AgentError, ForkRefused, MemberStopped
from hospital_agent.folder import HospitalFolder, write_json
from hospital_agent.ledger_api import Heads
from hospital_agent.replica import Replica
from hospital_agent.witness import Witness
from ledger.block import Block, Header
from ledger.chain import Chain, check_quorum, ledger_id
from ledger.content import digest
from ledger.entry import Entry, sign_record
from ledger.errors import LedgerError, QuorumMissing
from ledger.keys import KeyRing, PublicKey, Role, SecretKey
from ledger.membership import COORDINATOR_ROLES, change_digest
from ledger.merkle import Frontier, consistency_proof
from ledger.note import (
    Checkpoint,
    SignatureLine,
    SignedHead,
    cosign,
    sign_note,
    verify_cosignature,
)
from ledger.quorum import faulty
from ledger.records import (
    Action,
    Approval,
    Change,
    Enrol,
    Erasure,
    Genesis,
    KeyForm,
    MemberForm,
    Remove,
    Suspend,
    consent_message,
    possession_message,
)
from ledger.sequencer import genesis_block, next_block
from sml.vrf import prove

SIZES = (4, 5, 6, 7, 10)
COORDINATOR = "coordinator"
REFUSED = (LedgerError, ConsortiumError, AgentError)


class Crashed(Exception):
    """The member's machine died at this call."""


class Forked(AssertionError):
    """What must never happen has happened."""


# institutions: everything about them comes from their names


@lru_cache(maxsize=256)
def keys_of(name: str) -> KeyRing:
    return KeyRing({role: SecretKey(role, bytes.fromhex(_seed(name, role))) for role in Role})


def _seed(name: str, role: Role) -> str:
    return digest(f"{name}/{role}".encode())


@lru_cache(maxsize=256)
def form_of(name: str) -> MemberForm:
    keys = keys_of(name)
    forms = {role: KeyForm.of(keys[role].public) for role in Role}
    possession = {}
    for role in Role:
        message = possession_message(name, role, forms)
        shown = prove(keys[role].seed, message) if role is Role.VRF else keys[role].sign(message)
        possession[role] = shown.hex()
    return MemberForm(id=name, title=name.title(), keys=forms, possession=possession)


@lru_cache(maxsize=64)
def genesis_of_size(n: int, consortium: str) -> tuple[Genesis, Entry]:
    names = [f"hospital-{i}" for i in range(1, n + 1)]
    coordinator = KeyRing({role: keys_of(COORDINATOR)[role] for role in COORDINATOR_ROLES})
    genesis = genesis_of(coordinator, [form_of(name) for name in names], consortium)
    signers = [keys_of(name)[Role.RECORD] for name in (COORDINATOR, *names)]
    return genesis, sign_record(genesis, signers)


def enrolment(ledger: str, name: str) -> Enrol:
    form = form_of(name)
    consent = keys_of(name)[Role.RECORD].sign(consent_message(ledger, form))
    return Enrol(kind="enrol", member=form, consent=consent.hex())


def cosigned(name: str, block: Block, time: int = CREATED + 30) -> str:
    return _cosigned(name, block.checkpoint.text(), time)


def _warns(name: str, block: Block, line: str) -> bool:
    """Whether it signs a block once more, at another time, as one does that is stopped."""
    key = keys_of(name)[Role.COSIGN].public
    try:
        return verify_cosignature(line, name, key, block.checkpoint.text()) != CREATED + 30
    except LedgerError:
        return False


@lru_cache(maxsize=10_000)
def _cosigned(name: str, text: str, time: int) -> str:
    return cosign(name, keys_of(name)[Role.COSIGN], text, time)


# what is shown to a member


@dataclass
class Shown:
    """The API as the coordinator lets one member see it, once. Anything in it may be a lie.

    ``taken`` gets what the member sends; ``claims`` is the newest head, if not that of the last
    block; ``dies_at`` is the number of the call at which the member's machine dies, if it does.
    """

    blocks: list[Block]
    lines: list[list[str]]
    taken: Callable[[str], None]
    other_heads: list[tuple[str, SignedHead]] = field(default_factory=list)
    claims: Checkpoint | None = None
    dies_at: int | None = None
    calls: int = 0

    def _called(self) -> None:
        if self.calls == self.dies_at:
            raise Crashed
        self.calls += 1

    def newest(self) -> Checkpoint:
        self._called()
        return self.claims or self.blocks[-1].checkpoint

    def block(self, height: int) -> tuple[Block, list[str]]:
        self._called()
        at = min(height, len(self.blocks) - 1)  # a swapped tip may claim to be higher than it is
        return self.blocks[at], self.lines[at]

    def consistency_proof(self, old: int, size: int) -> list[bytes]:
        self._called()
        leaves = [
            leaf
            for block in self.blocks
            for leaf in [*(entry.leaf for entry in block.entries), block.header.leaf]
        ]
        return consistency_proof(leaves[:size], min(old, size, len(leaves)))

    def heads(self) -> Heads:
        self._called()
        return Heads(tuple(self.other_heads))

    def send_cosignature(self, height: int, line: str) -> None:
        self._called()  # stored here, and never sent
        self.taken(line)
        self._called()  # taken there, and never answered

    def fetch(self, kind: str, name: str) -> bytes:
        raise AssertionError("no block here has content")


# honest members


@dataclass(frozen=True)
class Held:
    """One block of a member's copy: whether it co-signed it, and knows that it is final."""

    height: int
    block: str
    signed: bool
    final: bool


class RuleMember:
    """The witness's decision over a block, without a disk. What it holds is its stored state."""

    def __init__(self, name: str, ledger: str, _: Path) -> None:
        self.name = name
        self._ledger = ledger
        self._chains: list[Chain] = []  # the state after each block held
        self._headers: list[bytes] = []
        self._signed: list[str | None] = []
        self._final = -1

    def step(self, api: Shown) -> None:
        """Follows, checks and co-signs what it is shown; raises what it refuses."""
        newest, known = api.newest(), len(self._chains) - 1
        if newest.height < known:
            raise ForkRefused("the ledger became shorter", "")
        for height in range(max(known, 0), newest.height + 1):
            block, lines = api.block(height)
            self._compare(block.header)
            if len(self._chains) <= height:
                try:
                    self._accept(block, lines)
                except QuorumMissing:
                    return
            line = self._signed[height]
            if line is not None:
                api.send_cosignature(height, line)
        _, lines = api.block(newest.height)
        with suppress(LedgerError):
            self._chains[-1].certify(lines)
            self._final = newest.height

    def _compare(self, header: Header) -> None:
        at = header.height
        if 0 <= at < len(self._headers) and self._headers[at] != header.data():
            raise ForkRefused(f"a second block at height {at}", "")

    def _accept(self, block: Block, lines: list[str]) -> None:
        if self._chains:
            chain = replace(self._chains[-1])
            chain.follow(block)
        else:
            chain = Chain.begin(block, self._ledger)
        line = None
        if self.name in chain.membership.members:
            line = cosigned(self.name, block)
        else:
            check_quorum(chain.membership, chain.checkpoint, lines)
        self._chains.append(chain)
        self._headers.append(block.header.data())
        self._signed.append(line)

    def restart(self) -> None:
        """After its machine died: nothing but what is stored outlives a step."""

    def approve(self, approval: Entry) -> None:
        """Its person approves a change. (Only a witness looks for what it did not sign.)"""

    def held(self) -> list[Held]:
        """Its copy, from the genesis on."""
        newest = len(self._chains) - 1
        return [
            Held(
                h, chain.header.hash, self._signed[h] is not None, h < max(newest, self._final + 1)
            )
            for h, chain in enumerate(self._chains)
        ]

    def forget(self, height: int) -> None:
        """Loses what it stored from a height on: a backup was put back."""
        del self._chains[height:], self._headers[height:], self._signed[height:]
        self._final = min(self._final, height - 1)


class WitnessMember:
    """The agent's own witness on a folder of its own."""

    def __init__(self, name: str, ledger: str, root: Path) -> None:
        self.name = name
        self._path = root / name
        HospitalFolder.create(self._path, name, name.title())
        write_json(
            self._path / "hospital.json", {"id": name, "title": name.title(), "ledger": ledger}
        )
        write_json(self._path / "member.json", form_of(name).model_dump(mode="json"))
        self._approvals = Approvals(self._path / "approvals.sqlite")
        self._replica = Replica(self._path / "replica.sqlite")
        self.restart()

    def restart(self) -> None:
        self._witness: Witness | None = None

    def step(self, api: Shown) -> None:
        if self._witness is None:
            folder = HospitalFolder(self._path)
            folder.__dict__["keys"] = keys_of(self.name)  # instead of reading them from files
            self._witness = Witness(folder, api)  # type: ignore[arg-type]
        self._witness._api = api  # type: ignore[assignment]
        self._witness.step()

    def approve(self, approval: Entry) -> None:
        self._approvals.keep(approval)

    def held(self) -> list[Held]:
        own = self._replica.own_lines()
        with self._replica.copy() as copy:
            newest = copy.newest()
            return [
                Held(shell.header.height, shell.header.hash, shell.header.height in own, bool(cert))
                for shell, cert in copy.blocks(0, -1 if newest is None else newest)
            ]

    def forget(self, height: int) -> None:
        with self._replica._connect() as connection:
            for table in ("blocks", "entries", "certificates", "evidence"):
                connection.execute(f"DELETE FROM {table} WHERE height >= ?", (height,))
            connection.execute("DELETE FROM stops")
        self.restart()


Member = RuleMember | WitnessMember


# the lying coordinator


@dataclass(eq=False)
class Proposal:
    """One block of the tree, the state after it, and the honest cosignatures that came back."""

    label: str
    block: Block
    chain: Chain
    parent: "Proposal | None"
    lines: dict[str, str] = field(default_factory=dict)

    @property
    def height(self) -> int:
        return self.block.header.height

    def path(self) -> "list[Proposal]":
        """From the genesis to here."""
        return [*(self.parent.path() if self.parent else []), self]


@dataclass
class Camp:
    """Honest members who are led along one branch."""

    members: list[str]
    tip: Proposal | None = None


@dataclass(frozen=True)
class Scenario:
    """What one schedule is played with. Everything else in it is drawn from its seed."""

    seed: int
    n: int
    liars: int
    forgets: bool = False
    changes: int = 0
    lies: bool = True
    crashes: bool = False
    rounds: int = 6
    real: bool = False

    @staticmethod
    def of(seed: int) -> "Scenario":
        """The scenario of a schedule's number; the agent's own witness plays every seventh."""
        rng, real = Random(seed), seed % 7 == 0
        n = SIZES[seed % len(SIZES)]
        forgets = rng.random() < 0.25
        return Scenario(
            seed, n, faulty(n) - forgets, forgets, rng.choice((0, 0, 1, 2)),
            crashes=rng.random() < 0.5, rounds=rng.randint(4, 8), real=real,
        )  # fmt: skip


@dataclass
class Watch:
    """Compares what the honest members hold and have signed, after each of their steps."""

    final: dict[int, tuple[str, str]] = field(default_factory=dict)
    signed: dict[tuple[str, int], str] = field(default_factory=dict)

    def look(self, member: Member) -> None:
        for held in member.held():
            if held.signed:
                self.has_signed(member.name, held.height, held.block)
            if held.final:
                block, whose = self.final.setdefault(held.height, (held.block, member.name))
                if block != held.block:
                    raise Forked(
                        f"{whose} and {member.name} hold different final blocks "
                        f"at height {held.height}"
                    )

    def has_signed(self, name: str, height: int, block: str) -> None:
        if self.signed.setdefault((name, height), block) != block:
            raise Forked(f"{name} signed two different blocks at height {height}")


@dataclass
class Outcome:
    """What came of a schedule: evidence that schedules are not empty."""

    final: int = -1  # the greatest height that an honest member knows to be final
    held: set[int] = field(default_factory=set)  # up to where honest members know it to be final
    contested: int = 0  # heights at which honest members signed different blocks
    forks_refused: int = 0
    refused: int = 0
    crashed: int = 0
    forgot: int = 0
    stopped: list[str] = field(default_factory=list)  # honest members, by nothing but lies
    broke: list[str] = field(default_factory=list)  # on an exception without a code
    changed: int = 0  # memberships after the first, in force on a final block


class Simulation:
    """One schedule."""

    def __init__(self, scenario: Scenario, root: Path) -> None:
        self.scenario = scenario
        self.rng = Random(f"schedule {scenario.seed}")
        self.trace: list[str] = []
        self.watch, self.outcome = Watch(), Outcome()
        genesis, self._founding = genesis_of_size(scenario.n, "Simulated")
        self.ledger = ledger_id(genesis)
        self.keys = keys_of(COORDINATOR)
        names = [founder.id for founder in genesis.founders]
        self.rng.shuffle(names)
        self.liars = names[: scenario.liars]
        self.forgetful = names[scenario.liars :][: scenario.forgets]
        self.plan = self._plan(names)
        kind = WitnessMember if scenario.real else RuleMember
        self.members: dict[str, Member] = {
            name: kind(name, self.ledger, root)
            for name in [*names, *self._enrolled()]
            if name not in self.liars
        }
        self.camps = [Camp([name for name in self.members if name not in self.forgetful])]
        self.tree: list[Proposal] = []
        self._approvals: dict[tuple[str, str], Entry] = {}
        self.note(f"{scenario}; lying: {self.liars}; plan: {[a.kind for a in self.plan]}")

    def note(self, what: str) -> None:
        self.trace.append(what)

    # the membership's changes: never more liars than it bears

    def _plan(self, members: list[str]) -> list[Action]:
        plan: list[Action] = []
        for i in range(self.scenario.changes):
            liars = [name for name in members if name in self.liars]
            false = len(liars) + len(self.forgetful)
            others = [n for n in members if n not in self.liars and n not in self.forgetful]
            if self.rng.random() < 0.5:
                name = f"hospital-{self.scenario.n + 1 + i}"
                members = [*members, name]
                if false < faulty(len(members)):
                    self.liars.append(name)
                plan.append(enrolment(self.ledger, name))
            elif leavers := (others if false <= faulty(len(members) - 1) else liars):
                name = self.rng.choice(leavers)
                members = [other for other in members if other != name]
                remove = self.rng.random() < 0.5
                plan.append(
                    Remove(kind="remove", institution=name)
                    if remove
                    else Suspend(kind="suspend", institution=name)
                )
        return plan

    def _enrolled(self) -> list[str]:
        return [action.member.id for action in self.plan if isinstance(action, Enrol)]

    def _entries(self, chain: Chain) -> list[Entry]:
        """What the next block holds: a change, approvals of one that is open, or an erasure."""
        now, done = chain.upcoming, len(chain.memberships) - 1
        if now.proposed:
            change, found = next(iter(now.proposed.items()))
            missing = [n for n in now.members if n not in found.approved]
            some = self.rng.randint(1, now.quorum - len(found.approved))
            return self._approvals_of(change, missing, some)
        if done < len(self.plan) and self.rng.random() < 0.5:
            record = Change(
                v=1, type="change", ledger=self.ledger, author=COORDINATOR, base=now.digest,
                actions=(self.plan[done],),
            )  # fmt: skip
            change = sign_record(record, [self.keys[Role.RECORD]])
            some = self.rng.randint(0, now.quorum)
            return [change, *self._approvals_of(change_digest(record), list(now.members), some)]
        erased = digest(f"{self.scenario.seed} {len(self.tree)}".encode())
        record = Erasure(
            v=1, type="erasure", ledger=self.ledger, author=COORDINATOR, disclosure=erased
        )
        return [sign_record(record, [self.keys[Role.RECORD]])]

    def _approvals_of(self, change: str, members: Sequence[str], count: int) -> list[Entry]:
        return [self._approval(name, change) for name in self.rng.sample(list(members), count)]

    def _approval(self, name: str, change: str) -> Entry:
        if (name, change) not in self._approvals:
            record = Approval(
                v=1, type="approval", ledger=self.ledger, author=name, change=change,
                approver=digest(name.encode()),
            )  # fmt: skip
            entry = sign_record(record, [keys_of(name)[Role.APPROVAL]])
            if name in self.members:
                self.members[name].approve(entry)
            self._approvals[name, change] = entry
        return self._approvals[name, change]

    # blocks and certificates

    def propose(self, parent: Proposal | None) -> Proposal:
        """Another block on ``parent``, which has a certificate."""
        time = CREATED + len(self.tree)  # no two blocks are the same
        if parent is None:
            block = sealed_genesis(self._founding, self.keys, time)
            chain = Chain.begin(block)
        else:
            chain = replace(parent.chain)
            certificate = self.certificate(parent)
            block = next_block(chain, self._entries(chain), certificate, time, self.keys)
            chain.follow(block)
        proposal = Proposal(f"B{len(self.tree)}", block, chain, parent)
        self.tree.append(proposal)
        on = f" on {parent.label}" if parent else ""
        kinds = "+".join(entry.record.type for entry in block.entries)
        self.note(f"propose {proposal.label} ({kinds}) at height {proposal.height}{on}")
        return proposal

    def certificate(self, proposal: Proposal) -> list[str]:
        """All cosignatures that the adversary has on a block, its own members' among them."""
        members = proposal.chain.membership.members
        lines = {name: line for name, line in proposal.lines.items() if name in members}
        lines |= {n: cosigned(n, proposal.block) for n in self.liars if n in members}
        return sorted(lines.values())

    def certified(self, proposal: Proposal) -> bool:
        return len(self.certificate(proposal)) >= proposal.chain.membership.quorum

    # leading and misleading

    def split(self) -> None:
        """Divides the honest members: evenly, or so that the greater camp still makes a quorum."""
        members = [m for camp in self.camps for m in camp.members]
        self.rng.shuffle(members)
        aside = self.rng.choice((1, len(members) // 3, len(members) // 2, len(members) // 2))
        tip = max((c.tip for c in self.camps if c.tip), key=lambda t: t.height, default=None)
        self.camps = [Camp(members[aside:], tip), Camp(members[:aside], tip)]
        self.note("split: " + " | ".join(" ".join(c.members) for c in self.camps))

    def merge(self) -> None:
        """All are led along the branch that got furthest."""
        tips = [camp.tip for camp in self.camps if camp.tip]
        tip = max(tips, key=lambda t: (t.height, len(t.lines)), default=None)
        self.camps = [Camp([m for camp in self.camps for m in camp.members], tip)]
        self.note(f"merge on {tip.label if tip else 'nothing'}")

    def run(self) -> Outcome:
        """Plays the schedule.

        Raises:
            Forked: with the seed and the trace.
        """
        try:
            for _ in range(self.scenario.rounds):
                self.round()
            for camp in self.camps:
                for name in camp.members:  # what was certified last
                    self.show(name, camp.tip)
            self._audit()
        except Forked as forked:
            trace = "\n".join(f"  {line}" for line in self.trace)
            raise Forked(f"seed {self.scenario.seed}: {forked}\n{trace}") from None
        self._count()
        return self.outcome

    def round(self) -> None:
        """Each camp's branch grows where it can, and is shown to most of the camp."""
        if self.scenario.lies and self.rng.random() < 0.4:
            self.split() if len(self.camps) == 1 else self.merge()
        for camp in self.rng.sample(self.camps, len(self.camps)):
            if camp.tip is None or self.certified(camp.tip):
                camp.tip = self.propose(camp.tip)
            elif self.scenario.lies and self.rng.random() < 0.15:
                camp.tip = self.propose(camp.tip.parent)
            followers = [*camp.members, *self.forgetful]
            for name in self.rng.sample(followers, len(followers)):
                if not self.scenario.lies or self.rng.random() < 0.9:
                    self.show(name, camp.tip)
                if self.scenario.lies and self.rng.random() < 0.15:
                    self.show(name, self.rng.choice(self.tree), tampered=True)

    def show(self, name: str, tip: Proposal | None, *, tampered: bool = False) -> None:
        """One step of one member, over what it is shown."""
        if tip is None:
            return
        member, path = self.members[name], tip.path()
        shown = Shown(
            [p.block for p in path], [self._lines_for(name, p) for p in path],
            lambda line: self._take(name, line),
        )  # fmt: skip
        what = f"{tip.label}, {tamper(self, shown)}" if tampered else tip.label
        if self.scenario.crashes and self.rng.random() < 0.2:
            shown.dies_at = self.rng.randrange(2 + 3 * len(path))
        if name in self.forgetful:
            self._make_forget(member, path)
        try:
            member.step(shown)
            result = "done"
        except Crashed:
            member.restart()
            self.outcome.crashed += 1
            result = f"died at call {shown.dies_at}"
        except REFUSED as refused:
            self.outcome.refused += 1
            self.outcome.forks_refused += isinstance(refused, ForkRefused)
            if isinstance(refused, MemberStopped) and name not in self.forgetful:
                self.outcome.stopped.append(f"seed {self.scenario.seed}: {name}: {refused}")
            result = f"{refused.code}: {refused}"
        except Forked:
            raise
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            result = f"BROKE: {error!r} at {where.filename}:{where.lineno}"
            self.outcome.broke.append(f"seed {self.scenario.seed}: {result}")
            member.restart()
        self.note(f"show {name} {what}: {result}")
        if name not in self.forgetful:
            self.watch.look(member)

    def _lines_for(self, name: str, proposal: Proposal) -> list[str]:
        """All cosignatures that the adversary has, or some of them."""
        lines = self.certificate(proposal)
        if name in self.forgetful:  # what it signed stays hidden from it: else it would stop
            lines = [line for line in lines if SignatureLine.parse(line).name != name]
        whole = not self.scenario.lies or self.rng.random() < 0.7
        return lines if whole else self.rng.sample(lines, self.rng.randint(0, len(lines)))

    def _take(self, name: str, line: str) -> None:
        """A cosignature that came back is sorted to the block that it is really over."""
        for proposal in self.tree:
            if cosigned(name, proposal.block) == line:
                proposal.lines[name] = line
                if name not in self.forgetful:
                    self.watch.has_signed(name, proposal.height, proposal.block.header.hash)
                return
        if name in self.forgetful and any(_warns(name, p.block, line) for p in self.tree):
            return
        raise Forked(f"{name} signed what nobody proposed")

    def _make_forget(self, member: Member, path: Sequence[Proposal]) -> None:
        """Puts back a backup from before the branches parted."""
        for held in member.held():
            if held.height >= len(path) or held.block != path[held.height].block.header.hash:
                member.forget(held.height)
                self.outcome.forgot += 1
                self.note(f"{member.name} is restored to before height {held.height}")
                return

    # the end

    def _audit(self) -> None:
        """Whoever trusts a quorum sees one block at each height."""
        final: dict[int, Proposal] = {}
        for proposal in self.tree:
            if self.certified(proposal):
                other = final.setdefault(proposal.height, proposal)
                if other is not proposal:
                    raise Forked(
                        f"certificates of {other.label} and {proposal.label}, both at height "
                        f"{proposal.height}"
                    )

    def _count(self) -> None:
        self.outcome.final = max(self.watch.final, default=-1)
        self.outcome.held = {
            max((held.height for held in member.held() if held.final), default=-1)
            for name, member in self.members.items()
            if name not in self.forgetful
        }
        signed: dict[int, set[str]] = {}
        for (_, height), block in self.watch.signed.items():
            signed.setdefault(height, set()).add(block)
        self.outcome.contested = sum(len(blocks) > 1 for blocks in signed.values())
        blocks = {block for block, _ in self.watch.final.values()}
        self.outcome.changed = len(
            {p.block.header.membership for p in self.tree if p.block.header.hash in blocks}
        ) - bool(blocks)


# what beside blocks a member may be shown

Tampering = Callable[[Simulation, Shown], None]


def tamper(simulation: Simulation, shown: Shown) -> str:
    """Spoils what is shown in one way; says in which."""
    if simulation.rng.random() < 0.5:
        shown.claims = shown.newest()
    how = simulation.rng.choice(TAMPERINGS)
    how(simulation, shown)
    return str(how.__doc__).rstrip(".").lower()


def _nothing(simulation: Simulation, shown: Shown) -> None:
    """Another branch, or an older block."""


def _swap(simulation: Simulation, shown: Shown) -> None:
    """Two blocks in each other's place."""
    a, b = (simulation.rng.randrange(len(shown.blocks)) for _ in range(2))
    for shuffled in (shown.blocks, shown.lines):
        shuffled[a], shuffled[b] = shuffled[b], shuffled[a]  # type: ignore[call-overload]


def _replay(simulation: Simulation, shown: Shown) -> None:
    """A block once more, as if it were the next."""
    at, tip = simulation.rng.randrange(len(shown.blocks)), shown.newest()
    shown.blocks.append(shown.blocks[at])
    shown.lines.append(shown.lines[at])
    shown.claims = replace(tip, height=tip.height + 1)


def _replace(simulation: Simulation, shown: Shown) -> None:
    """A block of another branch in between."""
    other = simulation.rng.choice(simulation.tree)
    at = min(other.height, len(shown.blocks) - 1)
    shown.blocks[at], shown.lines[at] = other.block, simulation.certificate(other)


def _other_ledger(simulation: Simulation, shown: Shown) -> None:
    """Blocks of another ledger of the same institutions."""
    elsewhere = another_ledger(simulation.scenario.n)
    first = simulation.rng.randrange(len(shown.blocks))
    for at, (block, lines) in list(enumerate(elsewhere))[first : len(shown.blocks)]:
        shown.blocks[at], shown.lines[at] = block, list(lines)


def _other_cosignatures(simulation: Simulation, shown: Shown) -> None:
    """Cosignatures on another block, or of another ledger."""
    certificates = [simulation.certificate(other) for other in simulation.tree]
    certificates += [list(lines) for _, lines in another_ledger(simulation.scenario.n)]
    shown.lines[simulation.rng.randrange(len(shown.lines))] = simulation.rng.choice(certificates)


def _repeated_cosignatures(simulation: Simulation, shown: Shown) -> None:
    """Each liar's cosignature many times, at many times."""
    at = simulation.rng.randrange(len(shown.lines))
    block = shown.blocks[at]
    shown.lines[at] = [cosigned(n, block, CREATED + t) for n in simulation.liars for t in range(5)]


def _half_another(simulation: Simulation, shown: Shown) -> None:
    """A block under the checkpoint of another."""
    other = simulation.rng.choice(simulation.tree).block
    at = simulation.rng.randrange(len(shown.blocks))
    shown.blocks[at] = replace(
        shown.blocks[at], checkpoint=other.checkpoint, signature=other.signature
    )


def _other_header(simulation: Simulation, shown: Shown) -> None:
    """A header that was changed after it was signed."""
    at = simulation.rng.randrange(len(shown.blocks))
    header = shown.blocks[at].header
    changes: tuple[dict[str, object], ...] = (
        {"time": header.time + 1}, {"epoch": 1}, {"height": header.height + 1}, {"prev": "0" * 64},
        {"membership": "0" * 64},
    )  # fmt: skip
    changed = replace(header, **simulation.rng.choice(changes))  # type: ignore[arg-type]
    shown.blocks[at] = replace(shown.blocks[at], header=changed)


def _other_parent_certificate(simulation: Simulation, shown: Shown) -> None:
    """A parent's certificate that its header does not name."""
    at = simulation.rng.randrange(len(shown.blocks))
    lines = simulation.certificate(simulation.rng.choice(simulation.tree))
    shown.blocks[at] = replace(shown.blocks[at], parent_cert=tuple(lines))


def _other_entries(simulation: Simulation, shown: Shown) -> None:
    """The entries of another block."""
    at = simulation.rng.randrange(len(shown.blocks))
    entries = simulation.rng.choice(simulation.tree).block.entries
    shown.blocks[at] = replace(shown.blocks[at], entries=entries)


def _uncertified(simulation: Simulation, shown: Shown) -> None:
    """A child of a block that has no quorum, with liars counted twice."""
    parent = simulation.rng.choice(simulation.tree)
    liars = [cosigned(n, parent.block, CREATED + t) for n in simulation.liars for t in range(9)]
    lines = simulation.certificate(parent)
    if len(lines) < parent.chain.membership.quorum:
        lines = sorted({*lines, *liars})
        entries = parent.block.entries[:1]
        child = next_block(parent.chain, entries, lines, CREATED + 200, simulation.keys)
        shown.blocks = [*(p.block for p in parent.path()), child]
        shown.lines = [*(simulation.certificate(p) for p in parent.path()), []]
        shown.claims = None


def _heads(simulation: Simulation, shown: Shown) -> None:
    """Heads of other branches, co-signed by liars and by the honest who are led there."""
    for other in simulation.rng.sample(simulation.tree, min(3, len(simulation.tree))):
        lines = {**{n: cosigned(n, other.block) for n in simulation.liars}, **other.lines}
        for name, line in lines.items():
            head = SignedHead(other.block.checkpoint, (other.block.signature, line))
            shown.other_heads.append((name, head))


TAMPERINGS: tuple[Tampering, ...] = (
    _nothing, _swap, _replay, _replace, _other_ledger, _other_cosignatures, _repeated_cosignatures,
    _half_another, _other_header, _other_parent_certificate, _other_entries, _uncertified, _heads,
)  # fmt: skip


def sealed_genesis(entry: Entry, keys: KeyRing, time: int) -> Block:
    """Block 0 at another time than that of its genesis: nothing forbids it."""
    block = genesis_block(entry, keys)
    header = replace(block.header, time=time)
    tree = Frontier()
    for leaf in (entry.leaf, header.leaf):
        tree.append(leaf)
    checkpoint = replace(block.checkpoint, root=tree.root(), block_hash=bytes.fromhex(header.hash))
    signature = sign_note(checkpoint.origin, keys[Role.COSIGN], checkpoint.text())
    return replace(block, header=header, checkpoint=checkpoint, signature=signature)


@lru_cache(maxsize=16)
def another_ledger(n: int) -> tuple[tuple[Block, tuple[str, ...]], ...]:
    """Three final blocks of another ledger of the same institutions, with the same keys."""
    genesis, entry = genesis_of_size(n, "Elsewhere")
    keys, names = keys_of(COORDINATOR), [founder.id for founder in genesis.founders]
    block = genesis_block(entry, keys)
    chain = Chain.begin(block)
    blocks = []
    for _ in range(3):
        lines = tuple(sorted(cosigned(name, block) for name in names))
        blocks.append((block, lines))
        erasure = Erasure(
            v=1, type="erasure", ledger=chain.ledger, author=COORDINATOR,
            disclosure=digest(block.header.data()),
        )  # fmt: skip
        entries = [sign_record(erasure, [keys[Role.RECORD]])]
        block = next_block(chain, entries, lines, CREATED, keys)
        chain.follow(block)
    return tuple(blocks)


# playing many


@contextmanager
def simulated() -> Iterator[None]:
    """A clock that stands, and no signature verified twice: whether one holds never changes."""
    holds: set[tuple[bytes, bytes, bytes]] = set()
    shown: set[str] = set()
    verify = PublicKey.verify

    def verify_once(key: PublicKey, signature: bytes, message: bytes) -> None:
        what = (key.public, signature, message)
        if what not in holds:
            verify(key, signature, message)
            holds.add(what)

    def check_once(member: MemberForm) -> None:
        form = member.model_dump_json()
        if form not in shown:
            check_member(member)
            shown.add(form)

    with repeatable(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(PublicKey, "verify", verify_once)
        patch.setattr("hospital_agent.witness.check_member", check_once)
        patch.setattr("consortium.rounds.replay.check_member", check_once)
        yield


def play(scenario: Scenario) -> Outcome:
    """One schedule, in a folder that is gone afterwards.

    Raises:
        Forked: with the seed and the trace.
    """
    memory = Path("/dev/shm")
    root = Path(tempfile.mkdtemp(prefix="medpole-lying-", dir=memory if memory.is_dir() else None))
    try:
        return Simulation(scenario, root).run()
    finally:
        shutil.rmtree(root)
