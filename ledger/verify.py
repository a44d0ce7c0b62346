"""Verification of an export, offline: no database, no network, no trust in who wrote it.

In this order: the genesis (against the pinned fingerprint) or, for a range, what it goes on from;
every block (entries' form and signatures by the keys in force, Merkle root, header, checkpoint, the
certificate of the block before, the quorum on it); the renderings, made anew and compared; what
opens salted digests; the signed manifest and the digest of every file (``schemas.json`` stands on
the exporter's word alone, and so does a ``report.html`` that another version of this software made:
the answer says so). The first thing that fails is named, with how far verification got.

Entries are verified in processes of their own, a part of the ledger at a time; the order of
blocks, and what is reported first, do not depend on how many.
"""

import os
import re
from collections import deque
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NoReturn

from ledger import canonical
from ledger.block import Block, Header
from ledger.chain import Chain
from ledger.disclosure import Disclosure
from ledger.entry import Entry, naming_type
from ledger.errors import HeadDiffers, HeadNotReached, LedgerError, RangeInvalid
from ledger.keys import Role
from ledger.manifest import START, FileDigest, Manifest, check_signature, files_in, invalid
from ledger.membership import Membership
from ledger.note import SignatureLine, SignedHead, verify_cosignature, verify_note
from ledger.reading import lines, read_blocks
from ledger.records import COORDINATOR, Approval, Erasure
from ledger.rendering import COLUMNS, row
from ledger.rendering import line as line_of
from ledger.report import FORM, Tally, html
from ledger.start import Start

REPORT_FORM = re.compile(rb"MedPoLe report, form ([0-9]{1,9})")
_PART_ENTRIES = 1000
_SMALL = 5_000_000  # bytes of entries that are verified before other processes would have begun


@dataclass(frozen=True)
class Verified:
    """What holds: all of it. ``pinned`` tells whether the genesis was compared."""

    ledger: str
    pinned: bool
    first_height: int
    height: int
    blocks: int
    entries: int
    members: int
    quorum: int
    fewest_cosigners: int
    exporter: str
    complete: str
    signatures_checked: bool = True
    report_compared: bool = True
    reaches_head: int | None = None


def verify_export(
    folder: Path,
    pinned: str | None = None,
    head: SignedHead | None = None,
    *,
    processes: int | None = None,
    signatures: bool = True,
) -> Verified:
    """Verifies the export in ``folder``.

    ``head`` is a head known from elsewhere, that the export must reach. ``processes`` defaults to
    one a core. Without ``signatures`` those of the entries are not checked, nor their renderings
    (the tree, headers, certificates and the manifest are).

    Raises:
        LedgerError: naming the first thing that fails, with how far verification got.
    """
    if not folder.is_dir():
        raise invalid(f"{folder} is not a folder")
    names = files_in(folder)
    run = _Run(folder, pinned, head, signatures)
    with _executor(folder, processes, signatures) as executor:
        chain = run.follow(executor)
    if signatures:
        run.check_rest_of_renderings(chain)
    _check_disclosures(folder, run.approvers, run.erased)
    manifest = _check_manifest(folder, names, chain, run)
    if head is not None:
        _check_head(head, run, chain.header.height)
    return Verified(
        ledger=chain.ledger,
        pinned=pinned is not None,
        first_height=run.first,
        height=chain.header.height,
        blocks=run.blocks,
        entries=run.entries,
        members=len(chain.membership.members),
        quorum=chain.membership.quorum,
        fewest_cosigners=run.fewest,
        exporter=manifest.exporter,
        complete=manifest.complete,
        signatures_checked=signatures,
        report_compared=signatures and run.report_compared,
        reaches_head=head.checkpoint.height if head else None,
    )


def _executor(
    folder: Path, processes: int | None, signatures: bool
) -> AbstractContextManager[Executor | None]:
    count = processes or os.cpu_count() or 1
    small = (folder / "entries.jsonl").stat().st_size < _SMALL
    if not signatures or (small and processes is None) or count < 2:
        return nullcontext()
    return ProcessPoolExecutor(count)


# entries, a part at a time


@dataclass
class _Part:
    """Entries of successive blocks under one membership, to be verified in any process."""

    membership: Membership
    blocks: list[tuple[Header, tuple[bytes, ...]]] = field(default_factory=list)
    size: int = 0

    def add(self, block: Block) -> None:
        self.blocks.append((block.header, tuple(entry.data for entry in block.entries)))
        self.size += len(block.entries)


@dataclass
class _Checked:
    """A part's renderings, and the first thing that failed in it."""

    rendering: bytes
    tally: Tally
    failed: tuple[int, LedgerError] | None = None


def check_part(part: _Part) -> _Checked:
    """Verifies form, ledger, author and signature of every entry, and renders it."""
    rendered: list[bytes] = []
    tally = Tally()
    for header, datas in part.blocks:
        for position, data in enumerate(datas):
            entry = Entry(data)
            try:
                if header.height:  # the genesis was checked when the chain began
                    part.membership.check_entry(entry)
                rendered.append(row(header, position, entry))
                tally.add(header, entry)
            except LedgerError as error:
                error.what = f"entry {header.first + position}: {error.what}"
                return _Checked(b"".join(rendered), tally, (header.height, error))
    return _Checked(b"".join(rendered), tally)


@dataclass
class _Run:
    """One verification on its way."""

    folder: Path
    pinned: str | None
    head: SignedHead | None
    signatures: bool
    first: int = 0
    blocks: int = 0
    entries: int = 0
    fewest: int = 0
    at_head: Membership | None = None
    report_compared: bool = True
    tally: Tally = field(default_factory=Tally)
    approvers: set[str] = field(default_factory=set)
    erased: set[str] = field(default_factory=set)
    _pending: deque[tuple[_Part, "Future[_Checked] | None"]] = field(default_factory=deque)
    _done: tuple[int, int] = (0, 0)

    def follow(self, executor: Executor | None) -> Chain:
        chain = self._begin()
        part: _Part | None = None
        with (self.folder / "entries.csv").open("rb") as rendering:
            if rendering.readline() != line_of(*COLUMNS):
                raise invalid("entries.csv: its head is not that of an export")
            source = read_blocks(self.folder)
            while True:
                block: Block | None = None
                try:
                    block, cosignatures = next(source, (None, []))
                    if block is None:
                        break
                    chain = self._accept(chain, block, cosignatures)
                except LedgerError as error:
                    self._fail(error, chain, block, part, executor, rendering)
                if part is None or part.membership is not chain.membership:
                    self._send(part, executor, rendering)
                    part = _Part(chain.membership)
                part.add(block)
                if part.size >= _PART_ENTRIES:
                    self._send(part, executor, rendering)
                    part = None
            if chain is None:
                raise invalid("blocks.jsonl holds no block")
            self._send(part, executor, rendering)
            self._drain(0, rendering)
            self._rest = rendering.read(1)
        return chain

    _rest: bytes = b""

    def check_rest_of_renderings(self, chain: Chain) -> None:
        if self._rest:
            raise invalid("entries.csv holds more rows than there are entries")
        found = (self.folder / "report.html").read_bytes()
        if found == html(chain, self.tally, self.first):
            return
        form = REPORT_FORM.search(found)
        if form is None or int(form[1]) == FORM:
            raise invalid("report.html is not what the signed entries say")
        self.report_compared = False

    def _begin(self) -> Chain | None:
        path = self.folder / START
        if not path.exists():
            return None
        start = Start.parse(path.read_bytes())
        try:
            chain = start.chain(self.pinned)
        except LedgerError as error:
            error.what = f"{START}: {error.what}"
            raise
        self.first = chain.header.height + 1
        self._reach(chain)
        self._note(start.changes)
        return chain

    def _accept(self, chain: Chain | None, block: Block, cosignatures: list[str]) -> Chain:
        if chain is None:
            chain = Chain.begin(block, self.pinned)
        else:
            chain.follow(block, entries_checked=True)
        signers = chain.certify(cosignatures)
        self.fewest = min(self.fewest or len(signers), len(signers))
        self.blocks += 1
        self.entries += len(block.entries)
        self._note(block.entries)
        self._reach(chain)
        return chain

    def _reach(self, chain: Chain) -> None:
        """Compares the head given with the block at its height."""
        if self.head is None or self.head.checkpoint.height != chain.header.height:
            return
        if self.head.checkpoint != chain.checkpoint:
            raise HeadDiffers(
                f"the head given names another block at height {chain.header.height}",
                "keep both: signed by the same keys, they prove that the ledger was forked",
            )
        self.at_head = chain.membership

    def _note(self, entries: tuple[Entry, ...]) -> None:
        for entry in naming_type(entries, "approval", "erasure"):
            record = entry.record
            if isinstance(record, Approval):
                self.approvers.add(record.approver)
            if isinstance(record, Erasure):
                self.erased.add(record.disclosure)

    def _send(self, part: _Part | None, executor: Executor | None, rendering: BinaryIO) -> None:
        if part is None or not self.signatures:
            return
        self._pending.append((part, executor.submit(check_part, part) if executor else None))
        self._drain(8 if executor else 0, rendering)

    def _drain(self, left: int, rendering: BinaryIO) -> None:
        while len(self._pending) > left:
            part, future = self._pending.popleft()
            checked = future.result() if future else check_part(part)
            blocks, entries = self._done
            if checked.failed:
                height, error = checked.failed
                before = [datas for header, datas in part.blocks if header.height < height]
                self._done = blocks + len(before), entries + sum(map(len, before))
                raise self._placed(error, height)
            self._compare(checked.rendering, rendering)
            self.tally.merge(checked.tally)
            self._done = blocks + len(part.blocks), entries + part.size

    def _compare(self, expected: bytes, rendering: BinaryIO) -> None:
        found = rendering.read(len(expected))
        if found == expected:
            return
        pairs = zip(expected.splitlines(), [*found.splitlines(), *[b""] * 2], strict=False)
        differing = next((e for e, f in pairs if e != f), b"?")
        index = differing.split(b",")[0].decode()
        raise invalid(f"entries.csv: the row of {index} is not what the signed entries say")

    def _fail(
        self,
        error: LedgerError,
        chain: Chain | None,
        block: Block | None,
        part: _Part | None,
        executor: Executor | None,
        rendering: BinaryIO,
    ) -> NoReturn:
        """Raises what fails first: in an earlier part, in this block's entries, or ``error``."""
        self._send(part, executor, rendering)
        self._drain(0, rendering)
        height = self.first + self._done[0] if self.signatures else self.first + self.blocks
        if self.signatures and block is not None and chain is not None:
            accepted = chain.header is block.header
            own = _Part(chain.membership if accepted else chain.upcoming)
            own.add(block)
            failed = check_part(own).failed
            if failed is not None:
                raise self._placed(failed[1], height) from None
        raise self._placed(error, height) from None

    def _placed(self, error: LedgerError, height: int) -> LedgerError:
        blocks, entries = self._done if self.signatures else (self.blocks, self.entries)
        error.what = (
            f"blocks.jsonl line {height - self.first + 1} (height {height}): {error.what}. "
            f"Verified before it: {blocks} blocks, {entries} entries"
        )
        return error


def _check_head(head: SignedHead, run: _Run, last: int) -> None:
    """The export reaches the head given, has that very block there, and its signatures hold."""
    height = head.checkpoint.height
    if height < run.first - 1:
        raise RangeInvalid(
            f"the head given is of height {height}, the export begins at {run.first}",
            "compare it with an export that begins before it",
        )
    if run.at_head is None:
        raise HeadNotReached(
            f"the export ends at height {last}; the head given is of height {height}: what came "
            "after was cut off",
            "ask for an export that reaches it",
        )
    checkpoint, membership = head.checkpoint, run.at_head
    text, names = checkpoint.text(), [SignatureLine.parse(line).name for line in head.lines]
    try:
        for name, line in zip(names, head.lines, strict=True):
            if name == checkpoint.origin:
                verify_note(line, name, membership.coordinator_key(Role.COSIGN), text)
            elif name in membership.members:
                verify_cosignature(line, name, membership.members[name].key(Role.COSIGN), text)
            else:
                raise invalid(f"{name[:40]} is not in force there")
        if len(set(names)) != len(names):
            raise invalid("somebody signed it twice")
    except LedgerError as error:
        error.what = f"the head given: {error.what}"
        raise


def _check_disclosures(folder: Path, approvers: set[str], erased: set[str]) -> None:
    before = ""
    with (folder / "disclosures.jsonl").open("rb") as file:
        for number, line in enumerate(lines(file, "disclosures.jsonl"), 1):
            place = f"disclosures.jsonl line {number}"
            try:
                content = canonical.loads(line)
                disclosure = Disclosure(bytes.fromhex(content["salt"]), content["value"])
                form = {"salt": disclosure.salt.hex(), "value": disclosure.value}
            except (LedgerError, TypeError, KeyError, ValueError, AttributeError):
                raise invalid(f"{place}: malformed") from None
            if canonical.dumps(form) != line or disclosure.digest <= before:
                raise invalid(f"{place}: not in its one exact form or order")
            if disclosure.digest not in approvers - erased:
                raise invalid(f"{place}: it opens nothing that stands on this ledger unerased")
            before = disclosure.digest


def _check_manifest(folder: Path, names: set[str], chain: Chain, run: _Run) -> Manifest:
    manifest = Manifest.parse((folder / "manifest.json").read_bytes())
    expected = (chain.ledger, run.first, chain.header.height, run.entries)
    stated = (manifest.ledger, manifest.first_height, manifest.last_height, manifest.entries)
    if stated != expected:
        raise invalid("manifest.json: its range or ledger is not that of the blocks")
    signers = {**chain.upcoming.suspended, **chain.upcoming.members}
    if manifest.exporter == COORDINATOR:
        key = chain.upcoming.coordinator_key(Role.RECORD)
    elif manifest.exporter in signers:
        key = signers[manifest.exporter].key(Role.RECORD)
    else:
        raise invalid("manifest.json: the exporter is neither the coordinator nor a member")
    check_signature(manifest, (folder / "manifest.sig").read_bytes(), key)
    if set(manifest.files) != names:
        raise invalid("manifest.json: it does not list exactly the files of an export")
    for name in sorted(names):
        if manifest.files[name] != FileDigest.of(folder / name):
            raise invalid(f"{name} differs from what the signed manifest lists")
    return manifest
