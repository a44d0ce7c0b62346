"""Verification in many processes, in one, and in parts: one answer, and one first failure."""

import json
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ledger_examples import Consortium, keys_of
from tampering import Ledger, Other, Target, flipped, resigned, story

from ledger import canonical, verify
from ledger.chain import Chain
from ledger.entry import sign_record
from ledger.errors import (
    GenesisMismatch,
    HeadDiffers,
    HeadNotReached,
    LedgerError,
    QuorumMissing,
    SignatureInvalid,
)
from ledger.keys import Role
from ledger.note import SignedHead, sign_note
from ledger.verify import Verified, verify_export

FOUR = Consortium(4)
Outcome = tuple[str, str] | Verified


@pytest.fixture(scope="module")
def ledger() -> Ledger:
    return story(FOUR)


@pytest.fixture(scope="module")
def whole(ledger: Ledger, tmp_path_factory: pytest.TempPathFactory) -> Target:
    return Target.of(ledger, tmp_path_factory.mktemp("exports") / "whole", "whole")


@pytest.fixture(scope="module")
def ranged(ledger: Ledger, tmp_path_factory: pytest.TempPathFactory) -> Target:
    return Target.of(ledger, tmp_path_factory.mktemp("exports") / "range", "range", 6)


@pytest.fixture
def folder(whole: Target, tmp_path: Path) -> Path:
    """A copy of the whole export, to be changed."""
    return whole.copy(tmp_path / "export")


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two entries a part, and processes for any export: as a large one is verified."""
    monkeypatch.setattr(verify, "_PART_ENTRIES", 2)
    monkeypatch.setattr(verify, "_SMALL", 0)


def outcome(folder: Path, **options: Any) -> Outcome:
    try:
        return verify_export(folder, **options)
    except LedgerError as error:
        return error.code, error.what


class Late(Executor):
    """Runs what it was given only when it is asked for, as the slowest of processes would."""

    def submit(self, run: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        future: Future[Any] = Future()
        future.result = lambda timeout=None: run(*args, **kwargs)  # type: ignore[method-assign]
        return future


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch, small_parts: None) -> None:
    def executor(*_: object) -> AbstractContextManager[Executor]:
        return nullcontext(Late())

    monkeypatch.setattr(verify, "_executor", executor)


def entry_line(target: Target, height: int, position: int = 0) -> int:
    """The line of one of a block's entries."""
    return next(n for n, (at, _, _) in enumerate(target.entries) if at == height) + position


def spoil_entry(folder: Path, target: Target, height: int, position: int = 0) -> int:
    """Breaks the signature of an entry; returns its index."""
    number = entry_line(target, height, position)
    data = target.entries[number][2].data
    path = folder / "entries.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[number] = flipped(data, data.rindex(b'"sig":"') + 20) + b"\n"
    path.write_bytes(b"".join(lines))
    return target.entries[number][1]


def spoil_block(folder: Path, height: int, field: str = "signature") -> None:
    path = folder / "blocks.jsonl"
    lines = path.read_bytes().splitlines()
    block = canonical.loads(lines[height])
    block[field] = "" if field == "signature" else []
    lines[height] = canonical.dumps(block)
    path.write_bytes(b"\n".join([*lines, b""]))


# one answer


def test_many_processes_find_what_one_finds(
    whole: Target, ranged: Target, small_parts: None
) -> None:
    for target in (whole, ranged):
        one = verify_export(target.folder, target.pinned, target.ledger.head(), processes=1)
        many = verify_export(target.folder, target.pinned, target.ledger.head(), processes=3)
        assert one == many
        assert (one.first_height, one.height, one.reaches_head) == (target.first, 8, 8)


def test_the_size_of_parts_changes_nothing(
    whole: Target, monkeypatch: pytest.MonkeyPatch, late: None
) -> None:
    expected = verify_export(whole.folder, whole.pinned)
    for size in (1, 3, 7, 1000):
        monkeypatch.setattr(verify, "_PART_ENTRIES", size)
        assert verify_export(whole.folder, whole.pinned) == expected


def test_small_exports_need_no_other_process(
    whole: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "ProcessPoolExecutor", None)  # nobody calls it
    verify_export(whole.folder, whole.pinned)
    verify_export(whole.folder, whole.pinned, processes=1)
    verify_export(whole.folder, whole.pinned, processes=3, signatures=False)
    monkeypatch.setattr(verify, "_SMALL", 0)
    monkeypatch.setattr(verify.os, "cpu_count", lambda: 2)
    with pytest.raises(TypeError):
        verify_export(whole.folder, whole.pinned)


def test_an_error_from_another_process_is_whole(
    whole: Target, folder: Path, small_parts: None
) -> None:
    index = spoil_entry(folder, whole, 4)
    with pytest.raises(SignatureInvalid) as caught:
        verify_export(folder, whole.pinned, processes=2)
    assert f"blocks.jsonl line 5 (height 4): entry {index}: " in caught.value.what
    assert "Verified before it: 4 blocks, 7 entries" in caught.value.what
    assert caught.value.resolve.startswith("ask its owner")


Spoil = Callable[[Path, Target], object]
FAILURES: dict[str, tuple[Spoil, str]] = {
    "an entry in 3, a block in 5": (
        lambda f, t: (spoil_entry(f, t, 3), spoil_block(f, 5)), r"height 3\): entry"),
    "a block in 3, an entry in 5": (
        lambda f, t: (spoil_block(f, 3), spoil_entry(f, t, 5)), r"height 3\): a signature line"),
    "an entry and its own block": (
        lambda f, t: (spoil_entry(f, t, 5, 1), spoil_block(f, 5)), r"height 5\): entry"),
    "an entry and its block's quorum": (
        lambda f, t: (spoil_entry(f, t, 5, 1), spoil_block(f, 5, "cosignatures")),
        r"height 5\): entry"),
    "two entries of a block": (
        lambda f, t: (spoil_entry(f, t, 5, 1), spoil_entry(f, t, 5, 2)), r"height 5\): entry 15"),
    "a block's quorum": (lambda f, t: spoil_block(f, 4, "cosignatures"), r"height 4\): block 4 is"),
    "an entry after a block without any": (
        lambda f, t: spoil_entry(f, t, 7), r"height 7\): entry"),
    "the last entry": (lambda f, t: spoil_entry(f, t, 8, 2), r"height 8\): entry"),
    "the genesis": (lambda f, t: spoil_entry(f, t, 0), r"height 0\)"),
    "an approval that decides": (lambda f, t: spoil_entry(f, t, 3, 1), r"height 3\): entry"),
    "a torn line and an entry before": (
        lambda f, t: (spoil_entry(f, t, 2), tear(f, "entries.jsonl")), r"height 2\): entry"),
    "a torn line of blocks and an entry before": (
        lambda f, t: (spoil_entry(f, t, 7), tear(f, "blocks.jsonl")), r"height 7\): entry"),
    "a row and an entry in a later block": (
        lambda f, t: (spoil_row(f, 2), spoil_entry(f, t, 8)), r"entries.csv: the row of "),
}  # fmt: skip


def tear(folder: Path, name: str) -> None:
    path = folder / name
    path.write_bytes(path.read_bytes()[:-1])


def spoil_row(folder: Path, number: int) -> None:
    path = folder / "entries.csv"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[number] = lines[number].replace(b"refusal", b"refused")
    path.write_bytes(b"".join(lines))


@pytest.mark.parametrize("what", FAILURES)
def test_the_first_failure_is_named_and_does_not_depend_on_processes(
    whole: Target, folder: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    spoil, place = FAILURES[what]
    spoil(folder, whole)
    monkeypatch.setattr(verify, "_PART_ENTRIES", 2)
    found = [outcome(folder, pinned=whole.pinned, processes=1)]
    monkeypatch.setattr(verify, "_executor", lambda *_: nullcontext(Late()))
    found.append(outcome(folder, pinned=whole.pinned))
    assert found[0] == found[1]
    code, text = found[0]
    assert code != "Verified"
    with pytest.raises(LedgerError, match=place):
        verify_export(folder, whole.pinned)
    assert text


@pytest.mark.slow
@pytest.mark.parametrize("what", FAILURES)
def test_nor_on_real_processes(whole: Target, folder: Path, what: str, small_parts: None) -> None:
    FAILURES[what][0](folder, whole)
    one = outcome(folder, pinned=whole.pinned, processes=1)
    assert outcome(folder, pinned=whole.pinned, processes=2) == one


@pytest.mark.parametrize("what", ["an entry in 3, a block in 5", "a block in 3, an entry in 5"])
def test_real_processes_keep_the_order(
    whole: Target, folder: Path, small_parts: None, what: str
) -> None:
    FAILURES[what][0](folder, whole)
    with pytest.raises(LedgerError, match=FAILURES[what][1]):
        verify_export(folder, whole.pinned, processes=2)


# without signatures


def test_without_signatures_the_tree_and_the_quorum_still_hold(whole: Target, folder: Path) -> None:
    found = verify_export(whole.folder, whole.pinned, whole.ledger.head(), signatures=False)
    checked = verify_export(whole.folder, whole.pinned, whole.ledger.head())
    assert replace(found, signatures_checked=True, report_compared=True) == checked
    assert not found.signatures_checked
    assert not found.report_compared
    for spoil, place in [
        (lambda: spoil_entry(folder, whole, 4), r"height 4\): the header's root"),
        (lambda: spoil_block(folder, 5), "height 5"),
        (lambda: spoil_block(folder, 5, "cosignatures"), "height 5"),
        (lambda: tear(folder, "entries.jsonl"), r"height 8\).*torn"),
        (lambda: tear(folder, "manifest.sig"), "manifest.sig"),
    ]:
        spoil()
        with pytest.raises(LedgerError, match=place):
            verify_export(folder, whole.pinned, signatures=False)
        whole.restore(folder, whole.files)


def test_without_signatures_what_a_quorum_signed_is_taken_as_it_is(tmp_path: Path) -> None:
    """An entry whose author did not sign it, in a block that the members did."""
    ledger = Ledger(FOUR)
    ledger.add(FOUR.entry())
    unsigned = sign_record(FOUR.refusal("hospital-2"), [keys_of("stranger")[Role.RECORD]])
    ledger.add(unsigned, checked=True)
    ledger.add(FOUR.entry("hospital-3"))
    folder = ledger.export(tmp_path / "export")
    with pytest.raises(SignatureInvalid, match=r"height 2\): entry 4"):
        verify_export(folder, FOUR.ledger)
    assert verify_export(folder, FOUR.ledger, signatures=False).height == 3


# ranges


def test_every_range_verifies_and_says_what_it_is(ledger: Ledger, tmp_path: Path) -> None:
    for first in range(9):
        for last in range(first, 9):
            folder = ledger.export(tmp_path / f"{first}-{last}", first, last)
            found = verify_export(folder, ledger.chain.ledger)
            assert (found.first_height, found.height) == (first, last)
            assert found.blocks == last - first + 1
            blocks = ledger.stored[first : last + 1]
            assert found.entries == sum(block.header.count for block, _ in blocks)
            assert found.fewest_cosigners == min(len(lines) for _, lines in blocks)
            membership = ledger.states[last].membership
            assert (found.members, found.quorum) == (len(membership.members), membership.quorum)


def test_a_range_is_pinned_to_its_genesis(ranged: Target) -> None:
    assert verify_export(ranged.folder, ranged.pinned).pinned
    with pytest.raises(GenesisMismatch, match=r"start\.json"):
        verify_export(ranged.folder, "0" * 64)
    assert not verify_export(ranged.folder).pinned


def test_a_range_that_begins_at_the_end_of_a_change(ledger: Ledger, tmp_path: Path) -> None:
    """Block 3 decides the first change: block 4 is the first under it, in every way."""
    for first in (3, 4):
        folder = ledger.export(tmp_path / str(first), first, 4)
        found = verify_export(folder, ledger.chain.ledger)
        assert (found.members, found.quorum) == (5, 4)


# heads


def test_a_head_is_reached_or_not(whole: Target, ranged: Target, tmp_path: Path) -> None:
    ledger = whole.ledger
    for height in range(9):
        assert verify_export(whole.folder, head=ledger.head(height)).reaches_head == height
    for height in (6, 7, 8):
        assert verify_export(ranged.folder, head=ledger.head(height)).reaches_head == height
    cut = ledger.export(tmp_path / "cut", 0, 5)
    assert verify_export(cut, head=ledger.head(5)).reaches_head == 5
    with pytest.raises(HeadNotReached, match="height 5; the head given is of height 6"):
        verify_export(cut, head=ledger.head(6))


def test_another_head_at_a_height_that_is_there_is_evidence(whole: Target) -> None:
    other = story(Other(4))
    with pytest.raises(HeadDiffers, match="height 4"):
        verify_export(whole.folder, head=other.head(4))
    fork = replace(whole.ledger.head().checkpoint, root=bytes(32))
    line = sign_note(fork.origin, whole.keys[Role.COSIGN], fork.text())
    with pytest.raises(HeadDiffers, match="height 8"):
        verify_export(whole.folder, head=SignedHead(fork, (line,)))


def test_a_head_is_compared_before_later_blocks_are_read(whole: Target, folder: Path) -> None:
    spoil_block(folder, 7)
    with pytest.raises(HeadDiffers):
        verify_export(folder, head=story(Other(4)).head(4))
    with pytest.raises(LedgerError, match="height 7"):
        verify_export(folder, head=whole.ledger.head(4))


# what it says


def test_the_fewest_cosigners_are_those_of_the_weakest_block(whole: Target) -> None:
    assert [len(lines) for _, lines in whole.ledger.stored] == [4, 4, 4, 3, 5, 5, 5, 5, 5]
    assert verify_export(whole.folder).fewest_cosigners == 3


def test_less_than_a_quorum_is_not_final_however_it_is_signed(whole: Target, folder: Path) -> None:
    block = whole.block(8)
    kept = {**block, "cosignatures": block["cosignatures"][:3]}
    files = {"blocks.jsonl": whole.with_block(8, kept)}
    whole.put(folder, files)
    resigned(whole, folder, files)
    with pytest.raises(QuorumMissing, match=r"height 8\): block 8 is co-signed by 3 of 5"):
        verify_export(folder, whole.pinned)


def test_a_report_is_of_the_whole_export_and_of_its_range(whole: Target, ranged: Target) -> None:
    """Its tally is added up from parts; that of a range is another."""
    assert whole.files["report.html"] != ranged.files["report.html"]
    for target in (whole, ranged):
        folder = target.folder
        assert verify_export(folder).height == 8


# memory


def large(entries: int, block: int) -> Ledger:
    """A ledger of that many refusals by one hospital; of its states only the last is kept."""
    ledger = Ledger(Consortium(1))
    consortium = ledger.consortium
    for start in range(0, entries, block):
        rounds = range(start + 1, min(start + block, entries) + 1)
        ledger.add(*(consortium.entry(round=round) for round in rounds), checked=True)
        ledger.states[:-1] = [ledger.states[0]] * (len(ledger.states) - 1)
    return ledger


def peak(folder: Path, pinned: str, signatures: bool) -> int:
    tracemalloc.start()
    verify_export(folder, pinned, processes=1, signatures=signatures)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most


def test_memory_does_not_grow_with_the_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "_PART_ENTRIES", 100)
    monkeypatch.setattr(verify.Membership, "check_entry", lambda self, entry: entry.record)
    peaks = []
    for entries in (400, 4000):
        ledger = large(entries, 50)
        folder = ledger.export(tmp_path / str(entries))
        peaks.append(peak(folder, ledger.chain.ledger, True))
    piece = 1 << 20  # of a file, for its digest
    assert peaks[1] < peaks[0] + piece + 100_000
    assert (tmp_path / "4000" / "entries.jsonl").stat().st_size > piece * 1.3


# Not ru_maxrss: a process inherits that of the one which started it.
_MEASURE = """
import re, sys
from pathlib import Path
from ledger.verify import verify_export
if __name__ == "__main__":
    verify_export(Path(sys.argv[1]), sys.argv[2], processes=int(sys.argv[3]))
    print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("processes", [1, 2])
def test_memory_of_a_large_export(tmp_path: Path, processes: int) -> None:
    """In kB, of the process that an auditor starts."""
    script = tmp_path / "measure.py"
    script.write_text(_MEASURE)
    used = []
    for entries in (1_000, 20_000):
        ledger = large(entries, 200)
        folder = ledger.export(tmp_path / str(entries))
        command = [sys.executable, script, folder, ledger.chain.ledger, str(processes)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        used.append(json.loads(done.stdout))
    assert used[1] < used[0] + 8_000, used


@pytest.fixture(autouse=True)
def _no_state(whole: Target) -> Iterator[None]:
    """A test that changed the shared export would spoil the others."""
    yield
    assert {p.name: p.read_bytes() for p in whole.folder.iterdir()} == whole.files


def test_the_chain_of_a_range_is_that_of_the_whole(ranged: Target) -> None:
    """What a reader goes on from gives the very state that following from the genesis gives."""
    from ledger.start import Start

    resumed = Start.parse(ranged.files["start.json"]).chain(ranged.pinned)
    followed: Chain = ranged.ledger.states[5]
    assert resumed.checkpoint == followed.checkpoint
    assert resumed.frontier == followed.frontier
    assert resumed.upcoming == followed.upcoming
    assert resumed.membership.members == followed.membership.members
    assert resumed.membership.digest == followed.membership.digest
    assert resumed.memberships.keys() == followed.memberships.keys()
