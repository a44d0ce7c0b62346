"""Export, then verify: alone, offline, and against every way to change what was exported."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from ledger_examples import Consortium, coordinator_of
from sqlalchemy import Engine
from tampering import Ledger, story

from ledger import canonical
from ledger.chain import Chain
from ledger.content import digest
from ledger.disclosure import Disclosure
from ledger.errors import (
    ExportExists,
    ExportInvalid,
    GenesisMismatch,
    HeadNotReached,
    LedgerError,
    LedgerMissing,
    QuorumMissing,
    RangeInvalid,
)
from ledger.export import Exported, export_ledger
from ledger.keys import KeyRing, Role
from ledger.manifest import DOMAIN, FILES
from ledger.note import SignedHead
from ledger.reading import read_blocks
from ledger.rendering import write_renderings
from ledger.store import LedgerStore
from ledger.verify import verify_export

ONE, FOUR = Consortium(1), Consortium(4)


def fill(engine: Engine, consortium: Consortium, blocks: int) -> LedgerStore:
    """A ledger of final blocks with one entry each, after a final genesis."""
    store = LedgerStore(engine)
    store.found(consortium.founding_entry, consortium.coordinator)
    finalise(store, consortium)
    for round in range(1, blocks + 1):
        store.propose([consortium.entry(round=round)], consortium.coordinator)
        finalise(store, consortium)
    return store


def finalise(store: LedgerStore, consortium: Consortium) -> None:
    height = store.chain().header.height
    for line in consortium.cosign(store.checkpoint(height)):
        store.add_cosignature(height, line)


def write_export(store: LedgerStore, consortium: Consortium, out: Path) -> Exported:
    with store.snapshot() as snapshot:
        key = consortium.coordinator[Role.RECORD]
        return export_ledger(snapshot, "coordinator", key, out)


@pytest.fixture
def store(engine: Engine) -> LedgerStore:
    return fill(engine, FOUR, 3)


@pytest.fixture(scope="module")
def first_export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exports") / "first"


@pytest.fixture
def export(request: pytest.FixtureRequest, first_export: Path, tmp_path: Path) -> Path:
    """A copy of one export: only the first test that asks for it needs the database."""
    if not first_export.exists():
        write_export(request.getfixturevalue("store"), FOUR, first_export)
    return shutil.copytree(first_export, tmp_path / "export")


def sign_manifest(folder: Path, keys: KeyRing) -> None:
    """What a dishonest exporter does after changing files."""
    manifest = canonical.loads((folder / "manifest.json").read_bytes())
    for name in FILES:
        data = (folder / name).read_bytes()
        manifest["files"][name] = {"sha256": digest(data), "bytes": len(data)}
    write_manifest(folder, manifest, keys)


def write_manifest(folder: Path, manifest: object, keys: KeyRing) -> None:
    data, key = canonical.dumps(manifest), keys[Role.RECORD]
    signature = {
        "alg": "ed25519",
        "key": key.public.key_id,
        "sig": key.sign(DOMAIN + data).hex(),
    }
    (folder / "manifest.json").write_bytes(data)
    (folder / "manifest.sig").write_bytes(canonical.dumps(signature))


def test_what_is_exported_verifies(store: LedgerStore, export: Path) -> None:
    verified = verify_export(export, FOUR.ledger)
    assert (verified.pinned, verified.height, verified.blocks, verified.entries) == (True, 3, 4, 4)
    assert (verified.members, verified.quorum, verified.fewest_cosigners) == (4, 3, 4)
    manifest = canonical.loads((export / "manifest.json").read_bytes())
    assert "nothing is pending" in manifest["complete"]
    rows = (export / "entries.csv").read_text().splitlines()
    assert rows[1].startswith("0,0,genesis,coordinator,")
    assert rows[2].startswith("2,1,refusal,hospital-1,job-1,1,PolicyRefused,")
    assert len(rows) == 5


def test_without_a_pin_it_says_so(export: Path) -> None:
    assert not verify_export(export).pinned


def test_another_genesis_than_the_pinned_is_refused(export: Path) -> None:
    for pinned in ("0" * 64, FOUR.ledger[:-1], "", Consortium(3).ledger):
        with pytest.raises(GenesisMismatch):
            verify_export(export, pinned)


def test_what_is_pending_is_left_out_and_said(store: LedgerStore, tmp_path: Path) -> None:
    store.propose([FOUR.entry(round=9)], FOUR.coordinator)
    exported = write_export(store, FOUR, tmp_path / "out")
    assert exported.last_height == verify_export(exported.folder).height == 3
    manifest = canonical.loads((exported.folder / "manifest.json").read_bytes())
    assert "block 4 is pending" in manifest["complete"]


def test_nothing_final_is_nothing_to_export(engine: Engine, tmp_path: Path) -> None:
    store = LedgerStore(engine)
    store.found(FOUR.founding_entry, FOUR.coordinator)
    with pytest.raises(LedgerMissing):
        write_export(store, FOUR, tmp_path / "out")
    assert list(tmp_path.glob("*out*")) == []


def test_an_export_never_overwrites(store: LedgerStore, export: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportExists):
        write_export(store, FOUR, export)
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(ExportExists):
        write_export(store, FOUR, file)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert verify_export(write_export(store, FOUR, empty).folder).height == 3


def test_a_failed_export_leaves_nothing(
    store: LedgerStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ledger.export.schemas", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_export(store, FOUR, tmp_path / "out")
    assert list(tmp_path.glob("*out*")) == []


# from the database, as from memory


@pytest.fixture
def told(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> tuple[LedgerStore, Ledger]:
    """The ledger of `tampering.story` twice: stored, and in memory."""
    ledger, store = story(FOUR), LedgerStore(engine)
    for block, lines in ledger.stored:
        clock = SimpleNamespace(time=lambda block=block: block.header.time)
        monkeypatch.setattr("ledger.store.time", clock)
        if block.header.height == 0:
            assert store.found(block.entries[0], FOUR.coordinator) == block
        else:
            keys = coordinator_of(store.chain().upcoming)
            assert store.propose(block.entries, keys) == block
        for line in lines:
            store.add_cosignature(block.header.height, line)
    for disclosure in ledger.opened:
        store.disclose(disclosure)
    return store, ledger


def written(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_an_export_from_postgresql_is_the_one_from_memory_to_the_byte(
    told: tuple[LedgerStore, Ledger], tmp_path: Path
) -> None:
    store, ledger = told
    for first, last in [(0, 8), (0, 0), (1, 1), (4, 7), (6, 8), (6, 6)]:
        expected = ledger.export(tmp_path / f"memory-{first}-{last}", first, last)
        key = coordinator_of(ledger.states[last].upcoming)[Role.RECORD]
        with store.snapshot() as snapshot:
            out = tmp_path / f"{first}-{last}"
            exported = export_ledger(snapshot, "coordinator", key, out, (first, last))
        assert written(out) == written(expected)
        assert (exported.first_height, exported.last_height) == (first, last)
        found = verify_export(out, FOUR.ledger, ledger.head(last))
        assert (found.first_height, found.height, found.entries) == (first, last, exported.entries)
        assert ("start.json" in written(out)) == (first > 0)


def test_there_is_no_export_of_blocks_that_are_not_final(
    told: tuple[LedgerStore, Ledger], tmp_path: Path
) -> None:
    store, ledger = told
    keys = coordinator_of(ledger.upcoming)
    store.propose([], keys)
    for heights in [(0, 9), (9, 9), (9, None), (5, 4), (-1, 3), (0, -1), (10, 12)]:
        with store.snapshot() as snapshot, pytest.raises(RangeInvalid):
            export_ledger(snapshot, "coordinator", keys[Role.RECORD], tmp_path / "out", heights)
    assert list(tmp_path.glob("*out*")) == []


def test_an_export_says_how_complete_it_is(
    told: tuple[LedgerStore, Ledger], tmp_path: Path
) -> None:
    store, ledger = told
    keys = coordinator_of(ledger.upcoming)
    store.propose([], keys)
    said = {
        (
            0,
            None,
        ): "all entries of all final blocks from the genesis on; block 9 is pending, left out",
        (0, 8): "all entries of all final blocks from the genesis on; block 9 is pending, left out",
        (
            6,
            8,
        ): "all entries of all final blocks from block 6 on, none before it; block 9 is pending, "
        "left out",
        (0, 7): "all entries of all blocks from the genesis on, up to block 7; the ledger goes on",
        (
            6,
            7,
        ): "all entries of all blocks from block 6 on, none before it, up to block 7; the ledger "
        "goes on",
    }
    for number, (heights, sentence) in enumerate(said.items()):
        with store.snapshot() as snapshot:
            out = tmp_path / str(number)
            export_ledger(snapshot, "coordinator", keys[Role.RECORD], out, heights)
        assert verify_export(out, FOUR.ledger).complete == sentence


def test_an_export_holds_what_opens_digests_and_is_not_erased(
    told: tuple[LedgerStore, Ledger], tmp_path: Path
) -> None:
    store, ledger = told
    kept = [d for d in ledger.opened if d.digest not in ledger.erased()]
    store.disclose(Disclosure(bytes(32), "Nobody on the ledger"))
    key = coordinator_of(ledger.upcoming)[Role.RECORD]

    def opened(out: Path) -> set[str]:
        with store.snapshot() as snapshot:
            export_ledger(snapshot, "coordinator", key, out)
        verify_export(out, FOUR.ledger)
        lines = (out / "disclosures.jsonl").read_bytes().splitlines()
        return {canonical.loads(line)["value"] for line in lines}

    assert opened(tmp_path / "all") == {d.value for d in kept}
    assert store.erase(kept[0].digest)
    assert opened(tmp_path / "fewer") == {d.value for d in kept[1:]}


def test_a_member_exports_under_its_own_name(
    told: tuple[LedgerStore, Ledger], tmp_path: Path
) -> None:
    store, _ = told
    key = FOUR.members["hospital-2"][Role.RECORD]
    with store.snapshot() as snapshot:
        export_ledger(snapshot, "hospital-2", key, tmp_path / "own")
        export_ledger(snapshot, "hospital-3", key, tmp_path / "other's")
        export_ledger(snapshot, "coordinator", key, tmp_path / "coordinator's")
    assert verify_export(tmp_path / "own", FOUR.ledger).exporter == "hospital-2"
    for name in ("other's", "coordinator's"):
        with pytest.raises(ExportInvalid, match=r"manifest\.sig"):
            verify_export(tmp_path / name, FOUR.ledger)


def test_an_export_does_not_move_while_the_ledger_does(
    told: tuple[LedgerStore, Ledger], tmp_path: Path
) -> None:
    store, ledger = told
    keys = coordinator_of(ledger.upcoming)
    with store.snapshot() as snapshot:
        assert snapshot.newest() == 8
        store.propose([], keys)
        export_ledger(snapshot, "coordinator", keys[Role.RECORD], tmp_path / "out")
    assert written(tmp_path / "out") == written(ledger.export(tmp_path / "memory"))


# the tamper test: `test_tampering` has the whole matrix


NAMES = (*FILES, "manifest.json", "manifest.sig")


def offsets(name: str, size: int) -> Iterator[int]:
    """Every byte; of what is compared as a whole (schemas by their digest, the report with one made
    anew, which takes a verification each), every 97th and the edges."""
    if name in ("schemas.json", "report.html"):
        yield from sorted({*range(0, size, 97), 1, size - 2, size - 1})
    else:
        yield from range(size)


@pytest.mark.slow
def test_every_changed_byte_is_found_and_placed(engine: Engine, tmp_path: Path) -> None:
    store = fill(engine, ONE, 1)
    export = write_export(store, ONE, tmp_path / "export").folder
    verify_export(export, ONE.ledger)
    missed, unplaced = [], []
    for name in NAMES:
        path = export / name
        original = path.read_bytes()
        for offset in offsets(name, len(original)):
            data = bytearray(original)
            data[offset] ^= 0x20 if data[offset : offset + 1].isalpha() else 0x01
            path.write_bytes(data)
            try:
                verify_export(export, ONE.ledger)
                missed.append((name, offset))
            except LedgerError as error:
                if not any(file in error.what for file in NAMES):
                    unplaced.append((name, offset, error.what))
        path.write_bytes(original)
    assert missed == []
    assert unplaced == []
    verify_export(export, ONE.ledger)


def refused(export: Path, *places: str) -> LedgerError:
    with pytest.raises(LedgerError) as caught:
        verify_export(export, FOUR.ledger)
    assert any(place in caught.value.what for place in places), caught.value.what
    return caught.value


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_file_is_named(export: Path, name: str) -> None:
    (export / name).unlink()
    refused(export, f"{name} is missing")
    (export / name).mkdir()
    refused(export, f"{name} is not a file")


def test_an_extra_file_is_named(export: Path) -> None:
    (export / "notes.txt").write_text("x")
    refused(export, "notes.txt")


def test_no_folder_is_no_export(tmp_path: Path) -> None:
    with pytest.raises(ExportInvalid):
        verify_export(tmp_path / "nothing")


@pytest.mark.parametrize("name", NAMES)
def test_a_truncated_file_is_found_wherever_it_is_cut(export: Path, name: str) -> None:
    path = export / name
    data = path.read_bytes()
    lines = data.splitlines(keepends=True)
    ends = [len(b"".join(lines[:n])) for n in range(len(lines))]
    some = ends[:: len(ends) // 40 + 1]  # of a report's hundreds
    for end in {0, 1, len(data) // 3, len(data) // 2, len(data) - 1, *some}:
        if not 0 <= end < len(data):  # there are no disclosures here: test_tampering cuts some
            assert name == "disclosures.jsonl"
            continue
        path.write_bytes(data[:end])
        refused(export, name, "blocks.jsonl", "entries.jsonl")


def test_a_torn_tail_says_how_far_it_got(export: Path) -> None:
    path = export / "entries.jsonl"
    path.write_bytes(path.read_bytes()[:-1])
    error = refused(export, "entries.jsonl line 4 is torn")
    assert "height 3" in error.what
    assert "3 blocks, 3 entries" in error.what


@pytest.mark.parametrize("name", ["entries.jsonl", "blocks.jsonl", "entries.csv"])
def test_lines_cannot_be_swapped_repeated_or_left_out(export: Path, name: str) -> None:
    path = export / name
    lines = path.read_bytes().splitlines(keepends=True)
    for other in (
        [lines[0], lines[2], lines[1], *lines[3:]],
        [lines[1], lines[0], *lines[2:]],
        [*lines, lines[-1]],
        [*lines[:2], lines[1], *lines[2:]],
        [lines[0], *lines[2:]],
        lines[:-1],
        [*lines, b"\n"],
        [b"\n", *lines],
        [line.replace(b"\n", b"\r\n") for line in lines],
    ):
        path.write_bytes(b"".join(other))
        refused(export, name, "blocks.jsonl", "entries.jsonl")


@pytest.mark.parametrize("signer", ["hospital-1", "coordinator's other key"])
def test_a_manifest_signed_by_another_key_is_refused(export: Path, signer: str) -> None:
    keys = FOUR.members.get(signer) or KeyRing({Role.RECORD: FOUR.coordinator[Role.COSIGN]})
    sign_manifest(export, keys)
    refused(export, "manifest.sig")


def test_a_manifest_signed_in_another_domain_is_refused(export: Path) -> None:
    data, key = (export / "manifest.json").read_bytes(), FOUR.coordinator[Role.RECORD]
    signature = {"alg": "ed25519", "key": key.public.key_id, "sig": key.sign(data).hex()}
    (export / "manifest.sig").write_bytes(canonical.dumps(signature))
    refused(export, "manifest.json: the exporter's signature")


def change_manifest(**changed: object) -> Callable[[dict[str, object]], object]:
    return lambda manifest: {**manifest, **changed}


@pytest.mark.parametrize(
    "change",
    [
        change_manifest(ledger="0" * 64),
        change_manifest(first_height=1),
        change_manifest(last_height=4),
        change_manifest(last_height=2),
        change_manifest(entries=5),
        change_manifest(files={}),
        change_manifest(files=None),
        lambda manifest: [manifest],
        lambda manifest: "manifest",
        lambda manifest: {k: v for k, v in manifest.items() if k != "entries"},
    ],
)
def test_even_the_coordinator_cannot_sign_a_manifest_that_does_not_fit(
    export: Path, change
) -> None:
    manifest = canonical.loads((export / "manifest.json").read_bytes())
    write_manifest(export, change(manifest), FOUR.coordinator)
    refused(export, "manifest.json")


def test_not_even_the_coordinator_can_change_history(export: Path) -> None:
    """With its own keys it signs a new manifest, but no quorum signs a new head."""
    path = export / "blocks.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    for other, place in [
        ([*lines[:3], lines[3].replace(b"hospital-2", b"hospital-5")], "height 3"),
        ([lines[0], *lines[2:]], "height 1"),
    ]:
        path.write_bytes(b"".join(other))
        sign_manifest(export, FOUR.coordinator)
        refused(export, place)


def test_less_than_a_quorum_on_the_last_block_is_refused(export: Path) -> None:
    path = export / "blocks.jsonl"
    lines = path.read_bytes().splitlines()
    last = canonical.loads(lines[-1])
    last["cosignatures"] = last["cosignatures"][:2]
    path.write_bytes(b"\n".join([*lines[:-1], canonical.dumps(last), b""]))
    sign_manifest(export, FOUR.coordinator)
    with pytest.raises(QuorumMissing, match=r"height 3.*2 of 4"):
        verify_export(export)


def test_a_cut_at_an_older_final_block_is_an_older_ledger_and_needs_the_coordinator(
    export: Path, tmp_path: Path
) -> None:
    cut = tmp_path / "cut"
    shutil.copytree(export, cut)
    for name in ("blocks.jsonl", "entries.jsonl", "entries.csv"):
        lines = (cut / name).read_bytes().splitlines(keepends=True)
        (cut / name).write_bytes(b"".join(lines[:-1]))
    refused(cut, "report.html")  # it is the whole ledger's
    write_renderings(cut, chain_of(cut), 0)
    refused(cut, "manifest.json")
    manifest = canonical.loads((cut / "manifest.json").read_bytes())
    write_manifest(cut, {**manifest, "last_height": 2, "entries": 3}, FOUR.coordinator)
    sign_manifest(cut, FOUR.coordinator)
    assert verify_export(cut, FOUR.ledger).height == 2
    newest = list(read_blocks(export))[-1]
    head = SignedHead(newest[0].checkpoint, (newest[0].signature, *newest[1]))
    assert verify_export(export, FOUR.ledger, head).reaches_head == 3
    with pytest.raises(HeadNotReached, match="height 2; the head given is of height 3"):
        verify_export(cut, FOUR.ledger, head)


def chain_of(folder: Path) -> Chain:
    (first, _), *rest = read_blocks(folder)
    chain = Chain.begin(first)
    for block, _ in rest:
        chain.follow(block)
    return chain


@pytest.mark.parametrize(
    "change",
    [
        lambda block: block.update(note="x"),
        lambda block: block.pop("signature"),
        lambda block: block.update(cosignatures="x"),
        lambda block: block.update(cosignatures=[1]),
        lambda block: block.update(parent_cert=None),
        lambda block: block.update(checkpoint=7),
        lambda block: block.update(header=[]),
        lambda block: block["header"].update(count=-1),
        lambda block: block["header"].update(count=2**53 - 1),
        lambda block: block["cosignatures"].reverse(),
        lambda block: block["cosignatures"].append(block["cosignatures"][0]),
        lambda block: block["cosignatures"].append("— stranger AAAA"),
    ],
)
def test_a_malformed_block_line_is_placed(export: Path, change) -> None:
    path = export / "blocks.jsonl"
    lines = path.read_bytes().splitlines()
    block = canonical.loads(lines[2])
    change(block)
    path.write_bytes(b"\n".join([*lines[:2], canonical.dumps(block), lines[3], b""]))
    refused(export, "blocks.jsonl line 3 (height 2)")
