"""Export, then verify: alone, offline, and against every way to change what was exported."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ledger_examples import Consortium
from sqlalchemy import Engine

from ledger import canonical
from ledger.content import digest
from ledger.errors import (
    ExportExists,
    ExportInvalid,
    GenesisMismatch,
    LedgerError,
    LedgerMissing,
    QuorumMissing,
)
from ledger.export import Exported, export_ledger
from ledger.keys import KeyRing, Role
from ledger.manifest import DOMAIN, FILES
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


# the tamper test


NAMES = (*FILES, "manifest.json", "manifest.sig")


def offsets(name: str, size: int) -> Iterator[int]:
    """Every byte; of the schemas, which only their digest covers, every 97th and the edges."""
    if name == "schemas.json":
        yield from sorted({*range(0, size, 97), 1, size - 2, size - 1})
    else:
        yield from range(size)


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
    for end in {0, 1, len(data) // 3, len(data) // 2, len(data) - 1, *ends}:
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
    refused(cut, "manifest.json")
    manifest = canonical.loads((cut / "manifest.json").read_bytes())
    write_manifest(cut, {**manifest, "last_height": 2, "entries": 3}, FOUR.coordinator)
    sign_manifest(cut, FOUR.coordinator)
    assert verify_export(cut, FOUR.ledger).height == 2


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
