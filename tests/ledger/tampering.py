"""Ledgers in memory, their exports, and what a tamperer does to them.

`Ledger` is a whole ledger without a database; `story` fills one with every kind of membership
record. A `Target` is a real export of one, a `Case` one change to it. The tamperer either has no
keys, or is the exporter: `resigned` then renders and signs anew, as the coordinator could.
"""

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

from ledger_examples import (
    CREATED,
    Consortium,
    approval,
    change,
    coordinator_of,
    cosigned,
    enrol,
    keys_of,
    rotate_coordinator,
    secret_of,
    set_policy,
    suspend,
)

from ledger import canonical
from ledger.block import Block, Header
from ledger.chain import Chain
from ledger.content import digest
from ledger.disclosure import Disclosure
from ledger.entry import Entry, sign_record
from ledger.errors import LedgerError
from ledger.export import block_line, export_ledger
from ledger.keys import KeyRing, Role
from ledger.manifest import DOMAIN
from ledger.membership import Membership
from ledger.merkle import Frontier, Span, root
from ledger.note import SignedHead
from ledger.records import Action, Approval, Change, Erasure, Genesis, Refusal
from ledger.rendering import write_renderings
from ledger.sequencer import next_block

JSON = dict[str, Any]


class Other(Consortium):
    """The same institutions with the same keys found another ledger."""

    @cached_property
    def genesis(self) -> Genesis:
        return super().genesis.model_copy(update={"created": CREATED + 1})


class Forged(Consortium):
    """What an operator founds alone: the same names, keys of its own."""

    @cached_property
    def members(self) -> dict[str, KeyRing]:
        return {f"hospital-{i}": keys_of(f"invented-{i}") for i in range(1, self.n + 1)}


class Ledger:
    """A `ledger.copies.LedgerCopy` in memory: every block is final. ``states`` are after each."""

    def __init__(self, consortium: Consortium) -> None:
        self.consortium = consortium
        self.stored: list[tuple[Block, list[str]]] = []
        self.states: list[Chain] = []
        self.opened: list[Disclosure] = []
        chain = Chain.begin(consortium.founding_block)
        self._store(chain, consortium.founding_block, cosigned(chain))

    def _store(self, chain: Chain, block: Block, lines: list[str]) -> None:
        self.states.append(chain)
        self.stored.append((block, lines))

    @property
    def chain(self) -> Chain:
        return self.states[-1]

    @property
    def upcoming(self) -> Membership:
        return self.chain.upcoming

    def add(
        self, *entries: Entry, cosigners: Iterable[str] | None = None, checked: bool = False
    ) -> Block:
        """The next block, co-signed by all members in force, or by those named."""
        chain = replace(self.chain)
        time, keys = CREATED + 60 * len(self.stored), coordinator_of(chain.upcoming)
        block = next_block(chain, entries, self.stored[-1][1], time, keys)
        chain.follow(block, entries_checked=checked)
        lines = cosigned(chain, cosigners)
        chain.certify(lines)
        self._store(chain, block, lines)
        return block

    def head(self, height: int | None = None) -> SignedHead:
        block, lines = self.stored[-1 if height is None else height]
        return SignedHead(block.checkpoint, (block.signature, *lines))

    def export(self, out: Path, first: int = 0, last: int | None = None) -> Path:
        state = self.states[-1 if last is None else last]
        key = coordinator_of(state.upcoming)[Role.RECORD]
        return export_ledger(self, "coordinator", key, out, (first, last)).folder

    # a copy

    def newest(self) -> int | None:
        return len(self.stored) - 1

    def genesis(self) -> Entry:
        return self.stored[0][0].entries[0]

    def changes(self, last: int) -> list[Entry]:
        entries = (e for block, _ in self.stored[: last + 1] for e in block.entries)
        return [e for e in entries if isinstance(e.record, Change | Approval)]

    def erased(self) -> list[str]:
        records = (e.record for block, _ in self.stored for e in block.entries)
        return [r.disclosure for r in records if isinstance(r, Erasure)]

    def header(self, height: int) -> Header:
        return self.stored[height][0].header

    def frontier(self, height: int) -> Frontier:
        return self.states[height].frontier

    def blocks(self, first: int, last: int) -> Iterator[tuple[Block, list[str]]]:
        yield from self.stored[first : last + 1]

    def write_entries(self, out: IO[bytes], first: int, last: int) -> None:
        for block, _ in self.stored[first : last + 1]:
            out.writelines(entry.data + b"\n" for entry in block.entries)

    def subtrees(self, spans: Sequence[Span]) -> list[bytes]:
        blocks = (block for block, _ in self.stored)
        leaves = [x for b in blocks for x in (*(e.leaf for e in b.entries), b.header.leaf)]
        return [root(leaves[first:last]) for first, last in spans]

    def leaf(self, index: int) -> tuple[int, bytes] | None:
        for block, _ in self.stored:
            if block.header.first <= index < block.header.size:
                return block.header.height, block.entries[index - block.header.first].data
            if index == block.header.size:
                return block.header.height, block.header.data()
        return None

    def disclosures(self) -> list[Disclosure]:
        return self.opened


# a story with everything that a membership can go through


def refuse(ledger: Ledger, name: str, round: int) -> Entry:
    members = ledger.upcoming.members
    record = Refusal(
        v=1, type="refusal", ledger=ledger.chain.ledger, author=name, job="job-1", round=round,
        attempt=1, code="PolicyRefused",
    )  # fmt: skip
    return sign_record(record, [secret_of(members[name].keys[Role.RECORD])])


def erase(ledger: Ledger, opened: Disclosure) -> Entry:
    record = Erasure(
        v=1, type="erasure", ledger=ledger.chain.ledger, author="coordinator",
        disclosure=opened.digest,
    )  # fmt: skip
    return sign_record(record, [coordinator_of(ledger.upcoming)[Role.RECORD]])


def propose(ledger: Ledger, *actions: Action) -> Entry:
    record = change(ledger.upcoming, *actions)
    return sign_record(record, [coordinator_of(ledger.upcoming)[Role.RECORD]])


def approve(ledger: Ledger, proposed: Entry, *names: str) -> list[Entry]:
    """Approvals by persons of their own, whose salts and names the ledger keeps."""
    record, entries = proposed.record, []
    assert isinstance(record, Change)
    for name in names:
        value = f"A person at {name}, {len(ledger.opened)}"
        opened = Disclosure(sha256(value.encode()).digest(), value)
        ledger.opened.append(opened)
        key = secret_of(ledger.upcoming.members[name].keys[Role.APPROVAL])
        entries.append(sign_record(approval(record, name, opened.digest), [key]))
    return entries


def story(consortium: Consortium) -> Ledger:
    """Nine blocks: refusals, an enrolment with new coordinator's keys, a policy, two erasures.

    The first change is decided in block 3 (with one founder: 2), the second, proposed in block 5,
    in block 7; a third stays open. Block 6 has no entries.
    """
    ledger, founders = Ledger(consortium), list(consortium.members)
    new = f"hospital-{consortium.n + 1}"
    ledger.add(refuse(ledger, founders[0], 1), refuse(ledger, founders[-1], 2))
    old, rotated = coordinator_of(ledger.upcoming), keys_of("coordinator, rotated")
    first = propose(
        ledger,
        enrol(ledger.chain.ledger, new),
        rotate_coordinator(ledger.chain.ledger, old, rotated),
    )
    ledger.add(first, *approve(ledger, first, founders[0]))
    left = founders[1 : ledger.states[0].membership.quorum]
    few = list(ledger.upcoming.members)[: ledger.upcoming.quorum]
    ledger.add(*approve(ledger, first, *left), cosigners=few)
    ledger.add(refuse(ledger, new, 1), refuse(ledger, founders[0], 3))
    second = propose(ledger, set_policy(500))
    ledger.add(second, *approve(ledger, second, founders[0]), erase(ledger, ledger.opened[0]))
    ledger.add()
    others = [name for name in ledger.upcoming.members if name != founders[0]]
    ledger.add(*approve(ledger, second, *others[: ledger.upcoming.quorum - 1]))
    third = propose(ledger, suspend(new))
    ledger.add(third, refuse(ledger, new, 4), erase(ledger, ledger.opened[-1]))
    return ledger


# an export of it, and changes


@dataclass(frozen=True)
class Case:
    """One change: the files that the tamperer writes (None: takes away), and where it must be
    found: one of the patterns, in what verification says. ``by_exporter`` is false where the
    exporter may do so: its word is all there is.
    """

    artefact: str
    change: str
    files: Mapping[str, bytes | None]
    places: tuple[str, ...]
    by_exporter: bool = True

    def __str__(self) -> str:
        return f"{self.artefact}: {self.change}"


@dataclass
class Target:
    """An export in ``folder``, its files as they were written, and a copy to tamper with."""

    name: str
    ledger: Ledger
    folder: Path
    first: int
    last: int
    files: dict[str, bytes] = field(default_factory=dict)

    @staticmethod
    def of(ledger: Ledger, folder: Path, name: str, first: int = 0) -> "Target":
        ledger.export(folder, first)
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        return Target(name, ledger, folder, first, len(ledger.stored) - 1, files)

    @property
    def pinned(self) -> str:
        return self.ledger.chain.ledger

    @property
    def keys(self) -> KeyRing:
        """The coordinator's, in force after the last block."""
        return coordinator_of(self.ledger.states[self.last].upcoming)

    def lines(self, name: str) -> list[bytes]:
        return self.files[name].splitlines(keepends=True)

    def json(self, name: str) -> JSON:
        content: JSON = canonical.loads(self.files[name])
        return content

    def block(self, height: int) -> JSON:
        content: JSON = canonical.loads(self.lines("blocks.jsonl")[height - self.first][:-1])
        return content

    def with_block(self, height: int, content: JSON | bytes) -> bytes:
        lines = self.lines("blocks.jsonl")
        data = content if isinstance(content, bytes) else canonical.dumps(content)
        lines[height - self.first] = data + b"\n"
        return b"".join(lines)

    @cached_property
    def entries(self) -> list[tuple[int, int, Entry]]:
        """Height, index and entry of every line of ``entries.jsonl``."""
        return [
            (block.header.height, block.header.first + position, entry)
            for block, _ in self.ledger.stored[self.first : self.last + 1]
            for position, entry in enumerate(block.entries)
        ]

    def with_entry(self, number: int, data: bytes) -> bytes:
        lines = self.lines("entries.jsonl")
        lines[number] = data + b"\n"
        return b"".join(lines)

    # where a change must be found

    def place(self, name: str, data: bytes) -> tuple[str, ...]:
        """By the first line that differs: its block's height; past the end, the file."""
        ours, theirs = self.lines(name), data.splitlines(keepends=True)
        both = zip(ours, theirs, strict=False)
        number = next((n for n, (a, b) in enumerate(both) if a != b), min(len(ours), len(theirs)))
        if name == "blocks.jsonl" and number < min(len(ours), len(theirs)):
            return (rf"height {self.first + number}\b",)
        if name == "entries.jsonl" and number < len(ours):
            height, index, _ = self.entries[number]
            return (rf"height {height}\b", rf"entry (index )?{index}\b")
        return (r"entries\.jsonl", r"blocks\.jsonl")

    def put(self, folder: Path, files: Mapping[str, bytes | None]) -> None:
        """Writes ``files`` into ``folder``, which holds this export."""
        for name, data in files.items():
            if data is None:
                (folder / name).unlink(missing_ok=True)
            else:
                (folder / name).write_bytes(data)

    def restore(self, folder: Path, touched: Iterable[str]) -> None:
        for name in touched:
            if name in self.files:
                (folder / name).write_bytes(self.files[name])
            else:
                (folder / name).unlink(missing_ok=True)

    def copy(self, out: Path) -> Path:
        return Path(shutil.copytree(self.folder, out))


_RENDERED = {"entries.jsonl", "blocks.jsonl", "start.json"}


def resigned(
    target: Target, folder: Path, files: Mapping[str, bytes | None], chain: Chain | None = None
) -> set[str]:
    """What the exporter does after it wrote ``files`` into ``folder``: renders and signs anew.

    Returns what it wrote. A manifest among ``files`` is signed as it is. ``chain`` is the state
    that the report is of, where it is not that of the export.
    """
    wrote: set[str] = set()
    if _RENDERED & set(files):
        wrote |= {"entries.csv", "report.html"} - set(files)
        chain = chain or target.ledger.states[target.last]
        try:
            write_renderings(folder, chain, target.first)
        except (LedgerError, OSError):
            target.restore(folder, wrote)
        target.put(folder, {n: d for n, d in files.items() if n in ("entries.csv", "report.html")})
    if "manifest.json" not in files:
        blocks = _lines(folder / "blocks.jsonl")
        manifest = target.json("manifest.json")
        names = sorted(p.name for p in folder.iterdir() if not p.name.startswith("manifest."))
        manifest["files"] = {
            name: {
                "sha256": digest((folder / name).read_bytes()),
                "bytes": (folder / name).stat().st_size,
            }
            for name in names
        }
        manifest["last_height"] = target.first + max(blocks - 1, 0)
        manifest["entries"] = _lines(folder / "entries.jsonl")
        (folder / "manifest.json").write_bytes(canonical.dumps(manifest))
        wrote.add("manifest.json")
    if "manifest.sig" not in files and (folder / "manifest.json").exists():
        data = (folder / "manifest.json").read_bytes()
        (folder / "manifest.sig").write_bytes(signed(data, target.keys))
        wrote.add("manifest.sig")
    return wrote


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def signed(
    manifest: bytes, keys: KeyRing, role: Role = Role.RECORD, domain: bytes = DOMAIN
) -> bytes:
    """The content of ``manifest.sig`` by any key."""
    key = keys[role]
    form = {"alg": "ed25519", "key": key.public.key_id, "sig": key.sign(domain + manifest).hex()}
    return canonical.dumps(form)


def resequenced(
    target: Target,
    height: int,
    entries: Sequence[Entry] | None = None,
    cosigners: Sequence[str] | None = None,
    later: int = 0,
) -> dict[str, bytes | None]:
    """The coordinator makes block ``height`` and all that follow anew, with valid hashes, roots
    and signatures of its own; on them stand the old cosignatures, or new ones by ``cosigners``.
    """
    ledger = target.ledger
    new = list(ledger.stored[: target.last + 1])
    chain = replace(ledger.states[height - 1])
    for at in range(height, target.last + 1):
        block, lines = ledger.stored[at]
        chosen = block.entries if entries is None or at > height else entries
        keys = coordinator_of(chain.upcoming)
        made = next_block(chain, chosen, new[at - 1][1], block.header.time + later, keys)
        new[at] = made, lines
        try:
            chain._accept(made)
        except LedgerError:
            break
        if cosigners is not None:
            new[at] = made, cosigned(chain, cosigners)
    new = new[target.first :]
    return {
        "entries.jsonl": b"".join(e.data + b"\n" for block, _ in new for e in block.entries),
        "blocks.jsonl": b"".join(block_line(block, lines) + b"\n" for block, lines in new),
    }


# small changes to bytes


def flipped(data: bytes, offset: int) -> bytes:
    changed = bytearray(data)
    changed[offset] ^= 0x20 if data[offset : offset + 1].isalpha() else 0x01
    return bytes(changed)


def sampled(size: int, count: int, salt: str = "") -> list[int]:
    """``count`` offsets, one in each equal part, the same in every run."""
    count = min(count, size)
    seeds = (sha256(f"{salt}/{n}".encode()).digest() for n in range(count))
    parts = [(size * n // count, size * (n + 1) // count) for n in range(count)]
    return [
        low + int.from_bytes(seed[:4], "big") % (high - low)
        for (low, high), seed in zip(parts, seeds, strict=True)
    ]


def cuts(data: bytes) -> list[int]:
    """Where a file is cut: between lines (of many, some), inside of them, and at the edges."""
    ends = [n + 1 for n, byte in enumerate(data) if byte == 0x0A]
    ends = ends[:: len(ends) // 20 + 1]
    inside = {0, 1, len(data) // 3, len(data) - 2, len(data) - 1}
    return sorted(n for n in inside | set(ends) if 0 <= n < len(data))


def odd_forms(data: bytes) -> list[tuple[str, bytes]]:
    """The same JSON object in forms that are not canonical."""
    content = canonical.loads(data)
    first = next(iter(sorted(content)))
    value = canonical.dumps(content[first])
    backwards = b",".join(
        canonical.dumps(name) + b":" + canonical.dumps(content[name])
        for name in sorted(content, reverse=True)
    )
    letter = data.index(first[:1].encode(), 1)
    return [
        ("a duplicate key", b'{"%s":%s,' % (first.encode(), value) + data[1:]),
        ("a duplicate key with another value", b'{"%s":null,' % first.encode() + data[1:]),
        ("a space", data.replace(b":", b": ", 1)),
        ("a space before", b" " + data),
        ("a space after", data + b" "),
        ("a tab", data.replace(b",", b",\t", 1)),
        ("a carriage return", data + b"\r"),
        ("keys in another order", b"{" + backwards + b"}"),
        ("an escaped letter", data[:letter] + b"\\u%04x" % data[letter] + data[letter + 1 :]),
        ("a byte order mark", b"\xef\xbb\xbf" + data),
        ("UTF-16", data.decode().encode("utf-16")),
        ("another field", data[:-1] + b',"zz":1}'),
    ]
