"""The second verifier, on exports that are written here as docs/ledger.md says, by other code.

Blocks come from the coordinator's own code where they are right, and are forged where not:
forged ones carry everybody's true signatures, so that nothing but the broken rule is wrong.
"""

import base64
import hashlib
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ledger import verifier
from ledger.entry import Entry, sign_record
from ledger.keys import KeyRing, Role, SecretKey
from ledger.note import cosign, sign_note
from ledger.records import Change, Erasure, MemberForm
from ledger.verifier import Failure, verify
from tests.ledger.ledger_examples import (
    CREATED,
    Consortium,
    approval,
    approve,
    block_on,
    consent,
    coordinator_of,
    cosigned,
    decided,
    enrol,
    keys_of,
    member_form,
    propose,
    remove,
    rotate,
    rotate_coordinator,
    secret_of,
    set_policy,
    suspend,
)

Json = dict[str, Any]
SALTS = {name: hashlib.sha256(f"salt of {name}".encode()).digest() for name in "abc"}


def sha256(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()


def canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()


def approver(person: str) -> str:
    return sha256(b"medpole/disclosure/v1\n", SALTS[person], person.encode())


def split(n: int) -> int:
    """RFC 6962, 2.1: the largest power of two below n."""
    return 1 << (n - 1).bit_length() - 1


def tree_hash(leaves: list[bytes]) -> bytes:
    """RFC 6962, 2.1, word for word."""
    if len(leaves) == 1:
        return hashlib.sha256(b"\0" + leaves[0]).digest()
    k = split(len(leaves))
    return hashlib.sha256(b"\1" + tree_hash(leaves[:k]) + tree_hash(leaves[k:])).digest()


def path_of(m: int, leaves: list[bytes]) -> list[bytes]:
    """RFC 6962, 2.1.1, word for word."""
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if m < k:
        return [*path_of(m, leaves[:k]), tree_hash(leaves[k:])]
    return [*path_of(m - k, leaves[k:]), tree_hash(leaves[:k])]


def subtrees(leaves: list[bytes]) -> list[bytes]:
    n, roots, at = len(leaves), [], 0
    for bit in reversed(range(n.bit_length())):
        if n >> bit & 1:
            roots.append(tree_hash(leaves[at : at + (1 << bit)]))
            at += 1 << bit
    return roots


class Ledger:
    """Blocks with their certificates, and a chain of the first implementation that follows."""

    def __init__(self, n: int) -> None:
        self.consortium = Consortium(n)
        self.id = self.consortium.ledger
        self.chain = self.consortium.begin()
        self.blocks: list[Json] = []
        self.entries: list[list[bytes]] = []
        self._keep(self.consortium.founding_block)

    def add(self, *entries: Entry) -> "Ledger":
        block = block_on(self.chain, *entries)
        self.chain.follow(block)
        self._keep(block)
        return self

    def _keep(self, block: Any) -> None:
        self.blocks.append(
            {
                "header": json.loads(block.header.data()),
                "checkpoint": block.checkpoint.text(),
                "signature": block.signature,
                "parent_cert": list(block.parent_cert),
                "cosignatures": cosigned(self.chain),
            }
        )
        self.entries.append([entry.data for entry in block.entries])

    def leaves(self, height: int | None = None) -> list[bytes]:
        """Of the tree with the header of that height in it."""
        count = len(self.blocks) if height is None else height + 1
        both = zip(self.blocks[:count], self.entries, strict=False)
        return [leaf for block, own in both for leaf in (*own, canonical(block["header"]))]

    def forge(
        self,
        *entries: bytes,
        cosigners: dict[str, KeyRing] | None = None,
        coordinator: KeyRing | None = None,
        **header: Any,
    ) -> "Ledger":
        """A block that is right but for what is given, with everybody's signatures on it."""
        parent, leaves = self.blocks[-1], self.leaves()
        right = {
            "v": 1,
            "type": "block",
            "ledger": self.id,
            "epoch": 0,
            "height": parent["header"]["height"] + 1,
            "prev": sha256(b"medpole/block/v1\n", canonical(parent["header"])),
            "first": len(leaves),
            "count": len(entries),
            "size": len(leaves) + len(entries),
            "root": tree_hash([*leaves, *entries]).hex(),
            "membership": self.chain.upcoming.digest,
            "parent_cert": sha256(
                b"medpole/certificate/v1\n", "\n".join(parent["cosignatures"]).encode()
            ),
            "time": parent["header"]["time"],
        }
        header = {**right, **header}
        root = tree_hash([*leaves, *entries, canonical(header)])
        text = (
            f"medpole/{self.id}\n{right['size'] + 1}\n{base64.b64encode(root).decode()}\n"
            f"block {header['epoch']} {header['height']} "
            f"{sha256(b'medpole/block/v1', bytes([10]), canonical(header))}\n"
        )
        signer = coordinator or coordinator_of(self.chain.upcoming)
        if cosigners is None:
            cosigners = {
                name: KeyRing({Role.COSIGN: secret_of(member.keys[Role.COSIGN])})
                for name, member in self.chain.upcoming.members.items()
            }
        lines = [cosign(name, ring[Role.COSIGN], text, 9) for name, ring in cosigners.items()]
        self.blocks.append(
            {
                "header": header,
                "checkpoint": text,
                "signature": sign_note(f"medpole/{self.id}", signer[Role.COSIGN], text),
                "parent_cert": parent["cosignatures"],
                "cosignatures": sorted(lines),
            }
        )
        self.entries.append(list(entries))
        return self

    def head(self, height: int, cosigners: int = 1) -> bytes:
        block = self.blocks[height]
        lines = [block["signature"], *block["cosignatures"][:cosigners]]
        return f"{block['checkpoint']}\n{chr(10).join(lines)}\n".encode()

    def start(self, first: int) -> Json:
        texts = [e.decode() for own in self.entries[1:first] for e in own]
        return {
            "v": 1,
            "genesis": self.entries[0][0].decode(),
            "changes": [t for t in texts if json.loads(t)["body"]["type"] in MEMBERSHIP],
            "header": self.blocks[first - 1]["header"],
            "frontier": [root.hex() for root in subtrees(self.leaves(first - 1))],
        }

    def extra(self, index: int, height: int) -> Json:
        start = self.start(height)
        del start["frontier"]
        header = self.blocks[height]["header"]
        return {**start, "header": header, "entry": self.leaves()[index].decode()}

    def proof(self, index: int, height: int, **extra: Any) -> str:
        text = base64.b64encode(canonical({**self.extra(index, height), **extra})).decode()
        path = path_of(index, self.leaves(height))
        lines = ["c2sp.org/tlog-proof@v1", f"extra {text}", f"index {index}"]
        lines += [base64.b64encode(node).decode() for node in path]
        block = self.blocks[height]
        signatures = [block["signature"], *block["cosignatures"]]
        return "\n".join([*lines, "", block["checkpoint"], *signatures, ""])

    def export(self, folder: Path, first: int = 0, exporter: str = "coordinator") -> Path:
        folder.mkdir()
        blocks, entries = self.blocks[first:], self.entries[first:]
        write_lines(folder / "blocks.jsonl", map(canonical, blocks))
        write_lines(folder / "entries.jsonl", (entry for own in entries for entry in own))
        rows = ["index,height,type,author,job,round,code,leaf_hash"]
        for block, own in zip(blocks, entries, strict=True):
            for index, data in enumerate(own, block["header"]["first"]):
                body = json.loads(data)["body"]
                said = [body.get(name, "") for name in ("type", "author", "job", "round", "code")]
                row = (index, block["header"]["height"], *said, sha256(b"\0", data))
                rows.append(",".join(map(str, row)))
        write_lines(folder / "entries.csv", (row.encode() for row in rows))
        (folder / "report.html").write_text("<p>a rendering</p>")
        (folder / "schemas.json").write_text('{"job":{}}')
        named = {json.loads(e)["body"].get("approver") for own in self.entries for e in own}
        gone = {json.loads(e)["body"].get("disclosure") for own in entries for e in own}
        kept = sorted((approver(p), p) for p in SALTS if approver(p) in named - gone)
        openings = ({"salt": SALTS[p].hex(), "value": p} for _, p in kept)
        write_lines(folder / "disclosures.jsonl", map(canonical, openings))
        if first:
            (folder / "start.json").write_bytes(canonical(self.start(first)))
        manifest = {
            "v": 1,
            "type": "export",
            "ledger": self.id,
            "exporter": exporter,
            "first_height": first,
            "last_height": len(self.blocks) - 1,
            "entries": sum(map(len, entries)),
            "complete": "all of it",
            "files": {},
        }
        (folder / "manifest.json").write_bytes(canonical(manifest))
        self.resign(folder)
        return folder

    def resign(self, folder: Path, **changed: Any) -> None:
        """List the files as they are now and sign the manifest, as an exporter that lies would."""
        files = {}
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            if path.is_file() and not name.startswith("manifest"):
                data = path.read_bytes()
                files[name] = {"sha256": sha256(data), "bytes": len(data)}
        manifest = {**json.loads((folder / "manifest.json").read_bytes()), "files": files}
        data = canonical({**manifest, **changed})
        (folder / "manifest.json").write_bytes(data)
        (folder / "manifest.sig").write_bytes(canonical(self.export_signature(manifest, data)))

    def export_signature(self, manifest: Json, data: bytes) -> Json:
        exporter = manifest["exporter"]
        if exporter == "coordinator":
            key = coordinator_of(self.chain.upcoming)[Role.RECORD]
        else:
            key = secret_of(self.chain.upcoming.members[exporter].keys[Role.RECORD])
        signature = key.sign(b"medpole/export/v1\n" + data).hex()
        return {"alg": "ed25519", "key": key_id(key), "sig": signature}


MEMBERSHIP = ("change", "approval")


def key_id(key: SecretKey) -> str:
    return sha256(key.public.role.value.encode(), b"\ned25519\n", key.public.public)[:16]


def write_lines(path: Path, lines: Iterable[bytes]) -> None:
    path.write_bytes(b"".join(line + b"\n" for line in lines))


def approvals(ledger: Ledger, proposed: Entry, *people: str) -> list[Entry]:
    """Approvals by hospital-1 and so on, each by a person whose digest can be opened."""
    record, members = proposed.record, ledger.chain.upcoming.members
    assert isinstance(record, Change)
    return [
        sign_record(
            approval(record, name, approver(person)),
            [secret_of(members[name].keys[Role.APPROVAL])],
        )
        for name, person in zip(members, people, strict=False)
    ]


def full_ledger() -> Ledger:
    """Four founders; an enrolment, an erasure, changes that lapse, a rotation, a suspension."""
    ledger = Ledger(4)
    entry = ledger.consortium.entry
    ledger.add(entry("hospital-1"), entry("hospital-2"))
    enrolment = propose(ledger.chain.upcoming, enrol(ledger.id, "hospital-5"))
    ledger.add(enrolment, *approvals(ledger, enrolment, *"abc"), entry("hospital-3"))
    erasure = Erasure(
        v=1, type="erasure", ledger=ledger.id, author="hospital-2", disclosure=approver("b")
    )
    record_key = ledger.consortium.members["hospital-2"][Role.RECORD]
    ledger.add(sign_record(erasure, [record_key]))
    policy = propose(ledger.chain.upcoming, set_policy(7), author="hospital-1")
    ledger.add(policy, *approve(ledger.chain.upcoming, policy, "hospital-1"))
    old, new = ledger.consortium.coordinator, keys_of("coordinator, rotated")
    ledger.add(*decided(ledger.chain.upcoming, rotate_coordinator(ledger.id, old, new)))
    ledger.add(entry("hospital-4"))
    old, new = ledger.consortium.members["hospital-1"], keys_of("hospital-1, rotated")
    actions = (rotate(ledger.id, "hospital-1", old, new), suspend("hospital-4"))
    ledger.add(*decided(ledger.chain.upcoming, *actions))
    ledger.add(entry("hospital-2", round=2), entry("hospital-3", round=2))
    return ledger


@pytest.fixture(scope="module")
def full() -> Ledger:
    return full_ledger()


@pytest.fixture(scope="module")
def exported(full: Ledger, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """From the genesis, and from every other height."""
    home = tmp_path_factory.mktemp("exports")
    return {first: full.export(home / str(first), first) for first in range(len(full.blocks))}


@pytest.fixture
def folder(exported: dict[int, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported[0], tmp_path / "export"))


@pytest.fixture
def ranged(exported: dict[int, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported[6], tmp_path / "range"))


def refused(path: Path, code: str, *places: str, **options: Any) -> Failure:
    with pytest.raises(Failure) as caught:
        verify(path, **options)
    assert caught.value.code == code, caught.value.what
    assert all(place in caught.value.what for place in places), caught.value.what
    assert "verified before it: " in caught.value.what
    assert caught.value.resolve
    return caught.value


# what holds


def test_a_whole_export_holds(full: Ledger, folder: Path) -> None:
    assert verify(folder, full.id) == {
        "pinned": True,
        "ledger": full.id,
        "first_height": 0,
        "last_height": 8,
        "blocks": 9,
        "entries": sum(map(len, full.entries)),
        "members": 4,
        "quorum": 3,
        "fewest_cosigners": 4,
        "exporter": "coordinator",
        "complete": "all of it",
        "head": None,
    }
    assert verify(folder)["pinned"] is False


@pytest.mark.parametrize("first", range(1, 9))
def test_a_range_holds_from_every_height(
    full: Ledger, exported: dict[int, Path], first: int
) -> None:
    result = verify(exported[first], full.id)
    assert (result["first_height"], result["blocks"]) == (first, 9 - first)


@pytest.mark.parametrize(("n", "q"), [(1, 1), (2, 2), (4, 3)])
def test_the_genesis_alone_holds(n: int, q: int, tmp_path: Path) -> None:
    ledger = Ledger(n)
    result = verify(ledger.export(tmp_path / "export", exporter="hospital-1"), ledger.id)
    assert (result["members"], result["quorum"], result["exporter"]) == (n, q, "hospital-1")
    assert ("note" in result) == (n == 1)


def test_a_tree_of_any_shape_holds(tmp_path: Path) -> None:
    ledger = Ledger(1)
    for count in range(9):
        ledger.add(*(ledger.consortium.entry(round=count * 9 + i + 1) for i in range(count)))
    for first in (0, 4, 9):
        assert verify(ledger.export(tmp_path / str(first), first))["last_height"] == 9


def test_a_forged_block_without_a_lie_holds(tmp_path: Path) -> None:
    ledger = Ledger(4)
    ledger.forge(ledger.consortium.entry().data)
    assert verify(ledger.export(tmp_path / "export"), ledger.id)["blocks"] == 2


def test_a_quorum_is_enough_on_a_block(tmp_path: Path) -> None:
    ledger = Ledger(4)
    three = {n: r for n, r in ledger.consortium.members.items() if n != "hospital-3"}
    ledger.forge(cosigners=three)
    assert verify(ledger.export(tmp_path / "export"))["fewest_cosigners"] == 3


@pytest.mark.parametrize("height", [5, 6, 8])
def test_a_head_that_the_export_holds(
    full: Ledger, ranged: Path, tmp_path: Path, height: int
) -> None:
    head = tmp_path / "head"
    head.write_bytes(full.head(height))
    assert verify(ranged, full.id, head)["head"] == height


def test_every_entry_is_proved_at_every_later_height(full: Ledger, tmp_path: Path) -> None:
    entries = {e for own in full.entries for e in own}
    file = tmp_path / "one.tlog-proof"
    for index, leaf in enumerate(full.leaves()):
        for height in (5, 8):
            if leaf in entries and index < len(full.leaves(height)):
                file.write_text(full.proof(index, height))
                result = verify(file, full.id)
                assert (result["index"], result["height"]) == (index, height)
                assert result["record"] == json.loads(leaf)["body"]["type"]


def test_files_of_content_are_listed(full: Ledger, folder: Path) -> None:
    for name in ("content", "models"):
        (folder / name).mkdir()
        (folder / name / ("ab" * 32)).write_bytes(b"weights")
    full.resign(folder)
    verify(folder, full.id)
    (folder / "models" / ("ab" * 32)).write_bytes(b"Weights")
    refused(folder, "FileDiffers", "models/abab")


# other bytes in an export, with a manifest that its exporter signed for them

Tamper = Callable[[Path], None]


def on_line(name: str, number: int, tamper: Callable[[bytes], bytes]) -> Tamper:
    def apply(folder: Path) -> None:
        lines = (folder / name).read_bytes().splitlines(keepends=True)
        lines[number - 1] = tamper(lines[number - 1])
        (folder / name).write_bytes(b"".join(lines))

    return apply


def swapped(name: str, one: int, other: int) -> Tamper:
    def apply(folder: Path) -> None:
        lines = (folder / name).read_bytes().splitlines(keepends=True)
        lines[one - 1], lines[other - 1] = lines[other - 1], lines[one - 1]
        (folder / name).write_bytes(b"".join(lines))

    return apply


def appended(name: str, data: bytes) -> Tamper:
    return lambda folder: write(folder / name, (folder / name).read_bytes() + data)


def torn(name: str) -> Tamper:
    return lambda folder: write(folder / name, (folder / name).read_bytes()[:-1])


def write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def dropped(line: bytes) -> bytes:
    return b""


def twice(line: bytes) -> bytes:
    return line + line


def edit(path: Path, tamper: Callable[[Json], object]) -> None:
    value = json.loads(path.read_bytes())
    tamper(value)
    path.write_bytes(canonical(value))


ENTRY: dict[str, tuple[bytes, bytes, str]] = {
    "a body": (b"PolicyRefused", b"PolicyRefuses", "SignatureInvalid"),
    "a signature": (b'"sig":"', b'"sig":"0', "FormInvalid"),
    "a key id": (b'"key":"', b'"key":"0', "SignatureInvalid"),
    "a space": (b",", b", ", "NotCanonical"),
    "a member that stands twice": (b'"v":1}', b'"v":1,"v":1}', "NotCanonical"),
    "members out of order": (b'{"attempt":1', b'{"zz":1,"attempt":1', "NotCanonical"),
    "a float": (b'"attempt":1', b'"attempt":1.0', "NotCanonical"),
    "minus zero": (b'"attempt":1', b'"attempt":-0', "NotCanonical"),
    "an integer of 2^53": (b'"attempt":1', b'"attempt":9007199254740992', "NotCanonical"),
    "a million digits": (b'"attempt":1', b'"attempt":' + b"1" * 10**6, "NotCanonical"),
    "bytes that are not UTF-8": (b"job-1", b"job-\xff", "NotCanonical"),
    "a lone surrogate": (b"job-1", b"job-\\ud800", "NotCanonical"),
    "an escape that is not needed": (b"job-1", b"job\\u002d1", "NotCanonical"),
    "true for 1": (b'"v":1', b'"v":true', "FormInvalid"),
    "another member": (b'"signatures"', b'"more":1,"signatures"', "FormInvalid"),
    "a carriage return": (b"\n", b"\r\n", "NotCanonical"),
    "an empty line": (b"{", b"\n{", "NotCanonical"),
}


@pytest.mark.parametrize("case", ENTRY)
def test_another_entry_is_found(full: Ledger, folder: Path, case: str) -> None:
    old, new, code = ENTRY[case]
    on_line("entries.jsonl", 3, lambda line: line.replace(old, new, 1))(folder)
    full.resign(folder)
    refused(folder, code, "entries.jsonl, line 3, height 1, entry index 3, ", "1 blocks, 2 entries")


def tampered_line(at: int) -> Callable[[Json], None]:
    """Another byte of the first cosignature: of its key id, time or signature."""

    def apply(block: Json) -> None:
        _, name, text = block["cosignatures"][0].split(" ")
        blob = bytearray(base64.b64decode(text))
        blob[at] ^= 1
        block["cosignatures"][0] = f"— {name} {base64.b64encode(blob).decode()}"

    return apply


def put(**members: Any) -> Callable[[Json], object]:
    return lambda value: value.update(members)


def header(**members: Any) -> Callable[[Json], object]:
    return lambda block: block["header"].update(members)


BLOCK: dict[str, tuple[Callable[[Json], object], str, str]] = {
    "another member": (put(more=1), "FormInvalid", "the block"),
    "another member of the header": (header(more=1), "FormInvalid", "the header"),
    "its time": (header(time=CREATED + 61), "NoteInvalid", "checkpoint"),
    "its root": (header(root="0" * 64), "TreeInvalid", "root"),
    "its epoch": (header(epoch=False), "FormInvalid", "epoch"),
    "its count": (header(count=4), "HeaderInvalid", "size"),
    "a count without end": (header(count=2**53 - 1), "HeaderInvalid", "size"),
    "the checkpoint": (put(checkpoint="medpole/x\n1\n\nblock 0 0 0\n"), "NoteInvalid", ""),
    "its signature": (lambda b: b.update(signature=b["cosignatures"][0]), "NoteInvalid", ""),
    "the parent's": (lambda b: b["parent_cert"].pop(), "HeaderInvalid", "parent_cert"),
    "a cosigner's key": (tampered_line(0), "NoteInvalid", "hospital-1 does not hold"),
    "a cosignature's time": (tampered_line(11), "NoteInvalid", "hospital-1 does not hold"),
    "a time after 2^63": (tampered_line(4), "NoteInvalid", "hospital-1 does not hold"),
    "a cosignature": (tampered_line(-1), "NoteInvalid", "hospital-1 does not hold"),
    "the order": (lambda b: b["cosignatures"].reverse(), "NoteInvalid", "not sorted"),
    "a cosigner twice": (
        lambda b: b["cosignatures"].insert(0, b["cosignatures"][0]),
        "NoteInvalid",
        "twice",
    ),
    "the coordinator as cosigner": (
        lambda b: b["cosignatures"].append(b["signature"]),
        "NoteInvalid",
        "no member in force",
    ),
    "too few": (lambda b: b["cosignatures"].__delitem__([0, 1][0]), "", ""),
    "far too few": (lambda b: b.update(cosignatures=[]), "QuorumMissing", "0 of 4"),
    "a number": (put(cosignatures=[1]), "FormInvalid", "cosignatures"),
    "no line of a note": (put(cosignatures=["— a \n", "x"]), "NoteInvalid", ""),
}


@pytest.mark.parametrize("case", BLOCK)
def test_another_block_is_found(full: Ledger, folder: Path, case: str) -> None:
    tamper, code, said = BLOCK[case]

    def on_block(line: bytes) -> bytes:
        block = json.loads(line)
        tamper(block)
        return canonical(block) + b"\n"

    on_line("blocks.jsonl", 3, on_block)(folder)
    full.resign(folder)
    if not code:  # three of four are a quorum
        assert verify(folder)["fewest_cosigners"] == 3
        return
    refused(folder, code, said, "blocks.jsonl, line 3, height 2, verified before it: 2 blocks")


FILES: dict[str, tuple[Tamper, str, str]] = {
    "entries swapped": (
        swapped("entries.jsonl", 2, 3),
        "RenderingDiffers",
        "entries.csv, line 3, height 1, entry index 2",
    ),
    "an entry dropped": (
        on_line("entries.jsonl", 3, dropped),
        "RenderingDiffers",
        "entries.csv, line 4, height 1, entry index 3",
    ),
    "the last entry dropped": (
        on_line("entries.jsonl", 24, dropped),
        "EntriesMissing",
        "entries.jsonl, line 24, height 8, entry index 31, verified before it: 8 blocks, 23",
    ),
    "an entry too many": (
        appended("entries.jsonl", b"{}\n"),
        "EntriesLeft",
        "entries.jsonl, line 25, verified before it: 9 blocks, 24 entries",
    ),
    "entries torn": (torn("entries.jsonl"), "LineTorn", "line 24, height 8, entry index 31"),
    "blocks torn": (torn("blocks.jsonl"), "LineTorn", "blocks.jsonl, line 9, height 8"),
    "a block dropped": (
        on_line("blocks.jsonl", 3, dropped),
        "HeaderInvalid",
        "blocks.jsonl, line 3, height 2, verified before it: 2 blocks, 3 entries",
    ),
    "the last block dropped": (
        on_line("blocks.jsonl", 9, dropped),
        "EntriesLeft",
        "entries.jsonl, line 23, verified before it: 8 blocks, 22 entries",
    ),
    "no block": (lambda folder: write(folder / "blocks.jsonl", b""), "BlocksMissing", "0 blocks"),
    "a block twice": (on_line("blocks.jsonl", 3, twice), "HeaderInvalid", "line 4, height 3"),
    "a row": (
        on_line("entries.csv", 4, lambda line: line.replace(b"Refused", b"Refuses")),
        "RenderingDiffers",
        "entries.csv, line 4, height 1, entry index 3, verified before it: 1 blocks, 2 entries",
    ),
    "the head row": (on_line("entries.csv", 1, dropped), "RenderingDiffers", "csv, line 1,"),
    "a row too many": (appended("entries.csv", b"0\n"), "RenderingDiffers", "csv, line 26"),
    "rows torn": (torn("entries.csv"), "RenderingDiffers", "csv, line 25, height 8"),
    "a disclosure of nothing": (
        appended("disclosures.jsonl", canonical({"salt": "00" * 32, "value": "x"}) + b"\n"),
        "DisclosureInvalid",
        "no approval names its digest, disclosures.jsonl, line 3, verified before it: 9 blocks",
    ),
    "an erased disclosure": (
        appended("disclosures.jsonl", canonical({"salt": SALTS["b"].hex(), "value": "b"}) + b"\n"),
        "DisclosureInvalid",
        "erased, disclosures.jsonl, line 3",
    ),
    "a disclosure twice": (on_line("disclosures.jsonl", 2, twice), "DisclosureInvalid", "line 3"),
    "disclosures swapped": (swapped("disclosures.jsonl", 1, 2), "DisclosureInvalid", "line 2"),
    "disclosures torn": (torn("disclosures.jsonl"), "LineTorn", "disclosures.jsonl, line 2"),
}


@pytest.mark.parametrize("case", FILES)
def test_other_files_are_found(full: Ledger, folder: Path, case: str) -> None:
    tamper, code, place = FILES[case]
    tamper(folder)
    full.resign(folder)
    refused(folder, code, place, genesis=full.id)


def start(name: str, value: Callable[[Any], Any]) -> Callable[[Json], object]:
    return lambda s: s.update({name: value(s[name])})


STARTS: dict[str, tuple[Callable[[Json], object], str]] = {
    "its version": (put(v=2), "FormInvalid"),
    "another header": (header(time=CREATED), "HeaderInvalid"),
    "another height": (header(height=4), "FormInvalid"),
    "another ledger": (header(ledger="0" * 64), "HeaderInvalid"),
    "another membership": (header(membership="0" * 64), "MembershipInvalid"),
    "another subtree": (start("frontier", lambda roots: ["0" * 64, *roots[1:]]), "NoteInvalid"),
    "a subtree too many": (start("frontier", lambda roots: [*roots, "0" * 64]), "TreeInvalid"),
    "no subtree": (put(frontier=[]), "TreeInvalid"),
    "a subtree that is none": (put(frontier=["0"]), "FormInvalid"),
    "an approval left out": (start("changes", lambda c: c[:-1]), "HeaderInvalid"),
    "a change left out": (start("changes", lambda c: c[4:]), "MembershipInvalid"),
    "no change": (put(changes=[]), "MembershipInvalid"),
    "changes swapped": (start("changes", lambda c: c[::-1]), "MembershipInvalid"),
    "numbers": (put(changes=["", 1]), "FormInvalid"),
    "garbage": (put(changes=["\0"]), "NotCanonical"),
    "another's genesis": (put(genesis=Ledger(1).entries[0][0].decode()), "FormInvalid"),
    "no genesis": (lambda s: s.update(genesis=s["changes"][0]), "GenesisInvalid"),
    "no start": (lambda s: s.clear(), "FormInvalid"),
}


@pytest.mark.parametrize("case", STARTS)
def test_nothing_of_the_start_is_taken_on_trust(full: Ledger, ranged: Path, case: str) -> None:
    tamper, code = STARTS[case]
    edit(ranged / "start.json", tamper)
    full.resign(ranged)
    refused(ranged, code, "0 blocks, 0 entries")


def test_the_start_has_the_changes_and_nothing_else(full: Ledger, ranged: Path) -> None:
    refusal = full.entries[1][0].decode()
    edit(ranged / "start.json", start("changes", lambda changes: [*changes, refusal]))
    refused(ranged, "MembershipInvalid", "no change and no approval, start.json")


MANIFESTS: dict[str, tuple[Callable[[Json], object], str, str]] = {
    "its ledger": (put(ledger="0" * 64), "ManifestInvalid", "ledger is not"),
    "its last height": (put(last_height=9), "ManifestInvalid", "last_height is not 8"),
    "its entries": (put(entries=1), "ManifestInvalid", "entries is not 24"),
    "its exporter": (put(exporter="hospital-9"), "ManifestInvalid", "hospital-9"),
    "another exporter": (put(exporter="hospital-2"), "SignatureInvalid", "manifest.sig"),
    "its sentence": (put(complete="All"), "SignatureInvalid", "manifest.sig"),
    "its version": (put(v=2), "FormInvalid", "v of the manifest is not of the form, manifest.json"),
    "its first height": (put(first_height=1), "ManifestInvalid", "start.json"),
    "a file left out": (lambda m: m["files"].pop("report.html"), "ManifestInvalid", "report"),
    "a file's size": (lambda m: m["files"]["report.html"].update(bytes=1), "FileDiffers", "report"),
    "a file above": (
        lambda m: m["files"].update({"content/../../x": m["files"]["report.html"]}),
        "ManifestInvalid",
        "content/../../x is no export's file, manifest.json",
    ),
}


@pytest.mark.parametrize("case", MANIFESTS)
def test_the_manifest_is_the_exporters(folder: Path, case: str) -> None:
    tamper, code, place = MANIFESTS[case]
    edit(folder / "manifest.json", tamper)
    refused(folder, code, place)


@pytest.mark.parametrize(
    ("tamper", "code", "place"),
    [
        (appended("manifest.json", b"\n"), "NotCanonical", "manifest.json"),
        (appended("manifest.sig", b"\n"), "NotCanonical", "manifest.sig"),
        (appended("report.html", b"!"), "FileDiffers", "report.html"),
        (appended("schemas.json", b" "), "FileDiffers", "schemas.json"),
        (lambda folder: write(folder / "note.txt", b"x"), "FileNotListed", "note.txt"),
        (lambda folder: (folder / "models").mkdir(), "FileNotListed", "models"),
        (lambda f: edit(f / "manifest.sig", put(sig="0" * 128)), "SignatureInvalid", "not hold"),
        (lambda f: edit(f / "manifest.sig", put(key="0" * 16)), "SignatureInvalid", "another key"),
        (lambda f: edit(f / "manifest.sig", put(alg="none")), "FormInvalid", "manifest.sig"),
    ],
)
def test_the_exporter_signs_for_every_file_and_for_no_other(
    folder: Path, tamper: Tamper, code: str, place: str
) -> None:
    tamper(folder)
    refused(folder, code, place)


@pytest.fixture
def small(tmp_path: Path) -> tuple[Ledger, Path]:
    """One founder, an enrolment, and a range after it."""
    ledger = Ledger(1)
    proposed = propose(ledger.chain.upcoming, enrol(ledger.id, "hospital-2"))
    ledger.add(proposed, *approvals(ledger, proposed, "a")).add(ledger.consortium.entry())
    return ledger, ledger.export(tmp_path / "small", first=2)


def test_no_byte_of_an_export_can_be_another(small: tuple[Ledger, Path]) -> None:
    (ledger, folder), chance = small, random.Random(7)
    signed = {path: path.read_bytes() for path in sorted(folder.iterdir())}
    verify(folder, ledger.id)
    for path, data in signed.items():
        for _ in range(15):
            place, bit = chance.randrange(len(data)), 1 << chance.randrange(8)
            path.write_bytes(data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :])
            with pytest.raises(Failure):
                verify(folder, ledger.id)
            if path.suffix in (".jsonl", ".csv") or path.name == "start.json":
                ledger.resign(folder)
                with pytest.raises(Failure):
                    verify(folder, ledger.id)
                for other in ("manifest.json", "manifest.sig"):
                    (folder / other).write_bytes(signed[folder / other])
        path.write_bytes(data)


GARBAGE = [
    b"",
    b"\n",
    b"\0\xff\xfe" * 99 + b"\n",
    b"[" * 200_000 + b"\n",
    b'{"a":' * 900 + b"1" + b"}" * 900 + b"\n",
    b"[" * 960 + b"]" * 960,
    b"9" * 5000 + b"\n",
    b"-1e999\n",
    b"NaN\n",
    b'"\\ud800"\n',
    b"\xef\xbb\xbf{}\n",
    b"{}\n",
    b"{}",
    b"null",
    b'{"body":{},"signatures":{}}\n',
    b'{"body":{"author":[],"type":{},"v":1},"signatures":[null]}\n',
]


def test_garbage_in_any_file_is_refused_and_nothing_else_happens(
    small: tuple[Ledger, Path], tmp_path: Path
) -> None:
    ledger, folder = small
    file = tmp_path / "garbage"
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        for garbage in GARBAGE:
            path.write_bytes(garbage)
            with pytest.raises(Failure):
                verify(folder, ledger.id)
        path.unlink()
        refused(folder, "FileMissing", f"no such file, {path.name}, ")
        path.mkdir()
        refused(folder, "FileUnreadable", f"no file, {path.name}, ")
        path.rmdir()
        path.write_bytes(data)
    for garbage in GARBAGE:
        file.write_bytes(garbage)
        with pytest.raises(Failure):
            verify(file, ledger.id)
        with pytest.raises(Failure):
            verify(folder, ledger.id, file)


def test_nesting_of_every_depth_is_refused(folder: Path) -> None:
    for depth in range(sys.getrecursionlimit() - 150, sys.getrecursionlimit(), 2):
        value = '{"v":' * depth + "1" + "}" * depth
        (folder / "entries.jsonl").write_text(f'{{"body":{value},"signatures":[]}}\n')
        with pytest.raises(Failure):
            verify(folder)


def test_what_is_too_large_is_not_read(
    full: Ledger, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verifier, "LONGEST_LINE", 100)
    refused(folder, "FileUnreadable", "entries.jsonl, line 1", "more than 100 bytes")
    monkeypatch.setattr(verifier, "LARGEST_FILE", 100)
    refused(folder, "FileUnreadable", "manifest.json")


def test_another_genesis_than_the_pinned(folder: Path) -> None:
    refused(folder, "GenesisDiffers", "entries.jsonl, line 1", genesis="0" * 64)


# blocks that everybody signed, and that break a rule

HEADERS: dict[str, Any] = {
    "v": 2,
    "type": "Block",
    "ledger": "0" * 64,
    "epoch": 1,
    "height": 2,
    "prev": "0" * 64,
    "first": 3,
    "count": 2,
    "size": 4,
    "membership": "0" * 64,
    "parent_cert": "0" * 64,
    "time": CREATED - 1,
    "root": "0" * 64,
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_everybody_signed_must_follow(name: str, tmp_path: Path) -> None:
    ledger = Ledger(4)
    ledger.forge(ledger.consortium.entry().data, **{name: HEADERS[name]})
    codes = {"v": "FormInvalid", "type": "FormInvalid", "epoch": "FormInvalid"}
    code = {**codes, "root": "TreeInvalid"}.get(name, "HeaderInvalid")
    named = "size" if name == "count" else name
    refused(ledger.export(tmp_path / "export"), code, named, "line 2, height 1", "1 blocks")


def entry_of(body: Json, *keys: SecretKey) -> bytes:
    """An entry of any body, truly signed."""
    message = b"medpole/record/v1\n" + canonical(body)
    signatures = [
        {"alg": "ed25519", "key": key_id(key), "sig": key.sign(message).hex()} for key in keys
    ]
    return canonical({"body": body, "signatures": signatures})


def body_of(ledger: Ledger, type: str, author: str, **more: Any) -> Json:
    return {"v": 1, "type": type, "ledger": ledger.id, "author": author, **more}


def record_key(name: str) -> SecretKey:
    return keys_of(name)[Role.RECORD]


AUTHORS: dict[str, tuple[str, str, str, str]] = {
    "a member's job": ("job", "hospital-1", "hospital-1", "AuthorInvalid"),
    "a member's result": ("result", "hospital-1", "hospital-1", "AuthorInvalid"),
    "a coordinator's verdict": ("verdict", "coordinator", "coordinator", "AuthorInvalid"),
    "a coordinator's approval": ("approval", "coordinator", "coordinator", "AuthorInvalid"),
    "a stranger's proof": ("proof", "hospital-9", "hospital-9", "AuthorInvalid"),
    "another's name": ("proof", "hospital-1", "hospital-2", "SignatureInvalid"),
    "an unknown type": ("praise", "hospital-1", "hospital-1", "FormInvalid"),
    "a second genesis": ("genesis", "coordinator", "coordinator", "FormInvalid"),
    "an approval by a record key": ("approval", "hospital-1", "hospital-1", "SignatureInvalid"),
}


@pytest.mark.parametrize("case", AUTHORS)
def test_who_may_write_what(case: str, tmp_path: Path) -> None:
    type, author, signer, code = AUTHORS[case]
    ledger = Ledger(4)
    ledger.forge(entry_of(body_of(ledger, type, author), record_key(signer)))
    export = ledger.export(tmp_path / "export")
    refused(export, code, "entries.jsonl, line 2, height 1, entry index 2")


def test_an_entry_has_one_signature_and_its_own_ledger(tmp_path: Path) -> None:
    ledger, key = Ledger(1), record_key("hospital-1")
    body = body_of(ledger, "close", "hospital-1")
    for number, (entry, code) in enumerate([
        (entry_of(body), "SignatureInvalid"),
        (entry_of(body, key, key), "SignatureInvalid"),
        (entry_of({**body, "ledger": "0" * 64}, key), "FormInvalid"),
        (entry_of({**body, "v": 2}, key), "FormInvalid"),
        (entry_of({**body, "code": ["x"]}, key), "FormInvalid"),
        (entry_of({**body, "round": -1}, key), "FormInvalid"),
    ]):  # fmt: skip
        ledger = Ledger(1).forge(entry)
        refused(ledger.export(tmp_path / str(number)), code, "entry index 2")


def changed(ledger: Ledger, actions: list[Any], **more: Any) -> Json:
    more = {"base": ledger.chain.upcoming.digest, **more}
    return body_of(ledger, "change", "coordinator", actions=actions, **more)


def approvals_of(ledger: Ledger, body: Json, *names: str) -> list[bytes]:
    digest = sha256(b"medpole/change/v1\n", canonical(body))
    return [
        entry_of(
            body_of(ledger, "approval", name, change=digest, approver="0" * 64),
            keys_of(name)[Role.APPROVAL],
        )
        for name in names
    ]


def enrolment(ledger: Ledger, name: str, ring: KeyRing, **more: Any) -> Json:
    """An action that enrols, by keys that consent to whatever stands there."""
    member = {**member_form(name, ring).model_dump(mode="json"), **more}
    message = f"medpole/consent/v1\n{ledger.id}\n".encode() + canonical(member)
    return {"kind": "enrol", "member": member, "consent": ring[Role.RECORD].sign(message).hex()}


def ring_with(name: str, role: Role, key: KeyRing) -> KeyRing:
    own = keys_of(name)
    mixed = {r: key[r] if r == role else own[r] for r in Role}
    return KeyRing(mixed)


def weak(ledger: Ledger, public: bytes) -> Json:
    """An enrolment whose VRF key is weak."""
    ring = keys_of("hospital-5")
    keys = member_form("hospital-5", ring).model_dump(mode="json")["keys"]
    keys["vrf"]["public"] = public.hex()
    return enrolment(ledger, "hospital-5", ring, keys=keys)


def rotation(ledger: Ledger, name: str, old: str, new: str, **more: Any) -> Json:
    ring = keys_of(new)
    form = MemberForm(**{**member_form(name, ring).model_dump(), **more})
    return {
        "kind": "rotate",
        "member": form.model_dump(mode="json"),
        "consent": consent(ledger.id, form, ring),
        "consent_of_old": consent(ledger.id, form, keys_of(old)),
    }


def about(kind: str, *names: str) -> list[Json]:
    return [{"kind": kind, "institution": name} for name in names]


def alone(make: Callable[[Ledger], Json], ledger: Ledger) -> list[Any]:
    return [make(ledger)]


def exchange(ledger: Ledger, name: str, one: Role, other: Role) -> Json:
    """A rotation that gives a key of one role to another."""
    old = keys_of(name)
    keys = member_form(name, old).keys
    keys = {**keys, one: keys[other], other: keys[one]}
    form = member_form(name, old).model_copy(update={"keys": keys})
    signed = consent(ledger.id, form, old)
    member = form.model_dump(mode="json")
    return {"kind": "rotate", "member": member, "consent": signed, "consent_of_old": signed}


P = verifier.P
FOUR = [f"hospital-{i}" for i in range(1, 5)]
SMALL = "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"
SMALL_TOO = "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85"
ENROLMENTS: dict[str, tuple[Callable[[Ledger], Json], str]] = {
    "an id given": (lambda e: enrolment(e, "hospital-1", keys_of("new")), "MembershipInvalid"),
    "the other id": (lambda e: enrolment(e, "coordinator", keys_of("new")), "MembershipInvalid"),
    "an id with a space": (lambda e: enrolment(e, "new", keys_of("new"), id="a b"), "FormInvalid"),
    "a member's key": (
        lambda e: enrolment(e, "new", ring_with("new", Role.API, keys_of("hospital-1"))),
        "MembershipInvalid",
    ),
    "the coordinator's key": (
        lambda e: enrolment(e, "new", ring_with("new", Role.COSIGN, keys_of("coordinator"))),
        "MembershipInvalid",
    ),
    "no keys": (lambda e: enrolment(e, "new", keys_of("new"), keys={}), "FormInvalid"),
    "more": (lambda e: enrolment(e, "new", keys_of("new"), more=1), "FormInvalid"),
    "y = 0": (lambda e: weak(e, bytes(32)), "KeyInvalid"),
    "y = 0, x < 0": (lambda e: weak(e, bytes(31) + b"\x80"), "KeyInvalid"),
    "y = 1": (lambda e: weak(e, (1).to_bytes(32, "little")), "KeyInvalid"),
    "y = -1": (lambda e: weak(e, (P - 1).to_bytes(32, "little")), "KeyInvalid"),
    "y = p": (lambda e: weak(e, P.to_bytes(32, "little")), "KeyInvalid"),
    "order 8": (lambda e: weak(e, bytes.fromhex(SMALL)), "KeyInvalid"),
    "order 8 too": (lambda e: weak(e, bytes.fromhex(SMALL_TOO)), "KeyInvalid"),
    "no consent": (
        lambda e: {**enrolment(e, "new", keys_of("new")), "consent": "0" * 128},
        "MembershipInvalid",
    ),
}
ROTATIONS: dict[str, Callable[[Ledger], Json]] = {
    "of keys among roles": lambda e: exchange(e, "hospital-1", Role.COSIGN, Role.API),
    "without the old key": lambda e: rotation(e, "hospital-1", "hospital-2", "new"),
    "of the title": lambda e: rotation(e, "hospital-1", "hospital-1", "new", title="Other"),
    "of nobody": lambda e: rotation(e, "hospital-9", "hospital-9", "new"),
    "to the same keys": lambda e: rotation(e, "hospital-1", "hospital-1", "hospital-1"),
}
ACTIONS: dict[str, tuple[Callable[[Ledger], list[Any]], str]] = {
    "none": (lambda e: [], "FormInvalid"),
    "101": (lambda e: [{"kind": "set-policy", "policy": {}}] * 101, "FormInvalid"),
    "an unknown one": (lambda e: [{"kind": "praise"}], "FormInvalid"),
    "one that is none": (lambda e: [[]], "FormInvalid"),
    "a kind that is none": (lambda e: [{"kind": {}}], "FormInvalid"),
    "more": (lambda e: [{**about("remove", "hospital-1")[0], "v": 1}], "FormInvalid"),
    "suspend nobody": (lambda e: about("suspend", "x"), "MembershipInvalid"),
    "suspend twice": (lambda e: about("suspend", *FOUR[:1] * 2), "MembershipInvalid"),
    "reinstate a member": (lambda e: about("reinstate", FOUR[0]), "MembershipInvalid"),
    "remove nobody": (lambda e: about("remove", "x"), "MembershipInvalid"),
    "remove all": (lambda e: about("remove", *FOUR), "MembershipInvalid"),
    "suspend all": (lambda e: about("suspend", *FOUR), "MembershipInvalid"),
    "an id of one removed": (
        lambda e: [*about("remove", FOUR[0]), enrolment(e, FOUR[0], keys_of("new"))],
        "MembershipInvalid",
    ),
    "one key for two": (
        lambda e: [enrolment(e, "new", keys_of("a")), enrolment(e, "new-2", keys_of("a"))],
        "MembershipInvalid",
    ),
    **{f"enrol {name}": (partial(alone, make), code) for name, (make, code) in ENROLMENTS.items()},
    **{
        f"rotate {name}": (partial(alone, make), "MembershipInvalid")
        for name, make in ROTATIONS.items()
    },
}


@pytest.mark.parametrize("case", ACTIONS)
def test_a_change_that_everybody_approved_must_be_possible(case: str, tmp_path: Path) -> None:
    actions, code = ACTIONS[case]
    ledger = Ledger(4)
    body = changed(ledger, actions(ledger))
    approved = approvals_of(ledger, body, "hospital-1", "hospital-2", "hospital-3")
    ledger.forge(entry_of(body, record_key("coordinator")), *approved)
    export = ledger.export(tmp_path / "export")
    refused(export, code, "entries.jsonl, line 2, height 1, entry index 2")


@pytest.mark.parametrize("role", Role)
def test_a_rotation_may_keep_keys_in_their_roles(role: Role, tmp_path: Path) -> None:
    ledger, name = Ledger(4), "hospital-1"
    ring = ring_with(name, role, keys_of("new"))
    ledger.add(*decided(ledger.chain.upcoming, rotate(ledger.id, name, keys_of(name), ring)))
    assert verify(ledger.export(tmp_path / "export"), ledger.id)["blocks"] == 2


def policy_change(ledger: Ledger, **more: Any) -> tuple[Json, bytes]:
    body = changed(ledger, [{"kind": "set-policy", "policy": {}}], **more)
    return body, entry_of(body, record_key("coordinator"))


def test_the_rules_of_approval(tmp_path: Path) -> None:
    def case(number: int, line: int, *entries: bytes, code: str = "MembershipInvalid") -> None:
        ledger = Ledger(4).forge(*entries)
        export = ledger.export(tmp_path / str(number))
        refused(export, code, f"entries.jsonl, line {line}, height 1")

    ledger = Ledger(4)
    body, entry = policy_change(ledger)
    one, two, three, four = approvals_of(ledger, body, *(f"hospital-{i}" for i in range(1, 5)))
    _, other = policy_change(ledger, note=1)
    case(1, 2, one)
    case(2, 4, entry, one, one)
    case(3, 6, entry, one, two, three, four)
    case(4, 6, entry, one, two, three, other)
    case(5, 3, entry, entry)
    case(6, 2, policy_change(ledger, base="0" * 64)[1])
    stranger = approvals_of(ledger, body, "hospital-5")
    case(7, 3, entry, *stranger, code="AuthorInvalid")


def test_a_decided_change_is_in_force_from_the_next_block_only(tmp_path: Path) -> None:
    ledger = Ledger(4)
    body, entry = policy_change(ledger)
    _, lapsed = policy_change(ledger, note=1)
    three = approvals_of(ledger, body, "hospital-1", "hospital-2", "hospital-3")
    ledger.forge(lapsed, entry, *three)
    late = approvals_of(ledger, policy_change(ledger, note=1)[0], "hospital-1")
    digest = sha256(b"medpole/change/v1\n", canonical(body))
    before = ledger.chain.upcoming.digest
    after = sha256(f"medpole/membership/v1\n{before}\n{digest}\n".encode())
    refused(ledger.forge().export(tmp_path / "1"), "HeaderInvalid", "line 3, height 2")
    del ledger.blocks[2:], ledger.entries[2:]
    verify(ledger.forge(membership=after).export(tmp_path / "2"))
    del ledger.blocks[2:], ledger.entries[2:]
    ledger.forge(*late, membership=after)
    refused(ledger.export(tmp_path / "3"), "MembershipInvalid", "height 2", "no open change")


def test_who_left_or_is_suspended_neither_signs_nor_counts(tmp_path: Path) -> None:
    ledger = Ledger(4)
    ledger.add(*decided(ledger.chain.upcoming, suspend("hospital-1"), remove("hospital-2")))
    all_rings = dict(ledger.consortium.members)
    verify(ledger.forge().export(tmp_path / "ok"))
    del ledger.blocks[2:], ledger.entries[2:]
    ledger.forge(cosigners=all_rings)
    refused(ledger.export(tmp_path / "1"), "NoteInvalid", "hospital-1", "line 3, height 2")
    for number, name in enumerate(("hospital-1", "hospital-2"), 2):
        del ledger.blocks[2:], ledger.entries[2:]
        ledger.forge(ledger.consortium.entry(name).data)
        refused(ledger.export(tmp_path / str(number)), "AuthorInvalid", name, "height 2")


def test_rotated_keys_sign_no_more(full: Ledger, tmp_path: Path) -> None:
    ledger = full_ledger()
    ledger.forge(ledger.consortium.entry("hospital-1").data)
    refused(ledger.export(tmp_path / "1"), "SignatureInvalid", "height 9, entry index 33")
    del ledger.blocks[9:], ledger.entries[9:]
    ledger.forge(coordinator=ledger.consortium.coordinator)
    refused(ledger.export(tmp_path / "2"), "NoteInvalid", "line 10, height 9", "coordinator")


def test_a_certificate_of_the_parent_is_verified_at_the_start_of_a_range(tmp_path: Path) -> None:
    ledger = full_ledger()
    other = cosign("hospital-2", keys_of("hospital-2")[Role.COSIGN], "another text", 9)
    lines = sorted(
        other if " hospital-2 " in line else line for line in ledger.blocks[-1]["cosignatures"]
    )
    ledger.blocks[-1]["cosignatures"] = lines
    ledger.forge()
    refused(ledger.export(tmp_path / "1", first=9), "NoteInvalid", "height 9", "hospital-2")


def test_a_genesis_needs_all_founders(tmp_path: Path) -> None:
    ledger = Ledger(2)
    genesis = json.loads(ledger.entries[0][0])
    genesis["signatures"].pop()
    ledger.entries[0] = [canonical(genesis)]
    refused(ledger.export(tmp_path / "1"), "SignatureInvalid", "entries.jsonl, line 1, height 0")


# heads


def test_a_head_beyond_before_or_beside_the_export(
    full: Ledger, ranged: Path, tmp_path: Path
) -> None:
    head = tmp_path / "head"
    longer = full_ledger()
    longer.add(longer.consortium.entry("hospital-2"))
    cases = [
        (longer.head(9), "HeadNotReached"),
        (full.head(4), "HeadBeforeExport"),
        (Ledger(4).forge(time=CREATED + 1).head(1), "HeadBeforeExport"),
        (Ledger(1).head(0), "HeadDiffers"),
        (full.head(7).replace(b"\n28\n", b"\n29\n").replace(b"block 0 7", b"block 0 8"), None),
        (full.head(8).replace(b"block 0 8", b"block 0 7"), "HeadDiffers"),
        (full.head(8)[:-1], "NoteInvalid"),
        (full.head(8, 0), None),
        (full.blocks[8]["checkpoint"].encode(), "NoteInvalid"),
        (full.head(8).replace(b"block 0", b"block 1"), "HeadInvalid"),
        (full.head(8) + full.blocks[7]["cosignatures"][0].encode() + b"\n", "NoteInvalid"),
        (b"\xff\n\n\n", "NoteInvalid"),
    ]
    for data, code in cases:
        head.write_bytes(data)
        if data == full.head(8, 0):
            assert verify(ranged, full.id, head)["head"] == 8
        else:
            refused(ranged, code or "HeadDiffers", genesis=full.id, head=head)
    refused(ranged, "FileMissing", "nowhere", head=tmp_path / "nowhere")
    refused(ranged, "FileUnreadable", head=tmp_path)


# proofs


def test_a_proof_that_was_tampered_with(full: Ledger, tmp_path: Path) -> None:
    file = tmp_path / "one.tlog-proof"
    index, height = 11, 8
    text, lines = full.proof(index, height), full.proof(index, height).split("\n")
    other = full.extra(3, height)["entry"]
    start = full.start(height)

    def without(number: int) -> str:
        return "\n".join(line for at, line in enumerate(lines) if at != number)

    cosigners = [at for at, line in enumerate(lines) if line.startswith("— hospital")]
    cases = {
        "": "NoteInvalid",
        text[:-1]: "NoteInvalid",
        text + "x": "NoteInvalid",
        text.replace("@v1", "@v2"): "FormInvalid",
        text.replace("index 11", "index 011"): "FormInvalid",
        text.replace("index 11", "index 10"): "NotIncluded",
        text.replace("index 11", "index 9999"): "NotIncluded",
        without(1): "FormInvalid",
        without(2): "FormInvalid",
        without(4): "NotIncluded",
        without(cosigners[0]): None,
        without(cosigners[0] - 1): "NoteInvalid",
        text.replace(f"\n{lines[cosigners[0]]}\n{lines[cosigners[1]]}\n", "\n"): "QuorumMissing",
        text.replace(lines[3], lines[4], 1): "NotIncluded",
        text.replace(lines[3], "AAAA", 1): "FormInvalid",
        text.replace(lines[1], "extra ????"): "NotCanonical",
        text.replace(lines[1], "extra " + base64.b64encode(b"[]").decode()): "FormInvalid",
        full.proof(index, height, entry=other): "NotIncluded",
        full.proof(index, height, entry="\0"): "NotCanonical",
        full.proof(index, height, v=2): "FormInvalid",
        full.proof(index, height, changes=start["changes"][:5]): "MembershipInvalid",
        full.proof(index, height, changes=[]): "MembershipInvalid",
        full.proof(index, height, header=start["header"]): "MembershipInvalid",
        full.proof(index, height, genesis=start["changes"][0]): "GenesisInvalid",
    }
    for data, code in cases.items():
        file.write_text(data)
        if code is None:
            assert verify(file, full.id)["fewest_cosigners"] == 3
        else:
            refused(file, code, "one.tlog-proof", genesis=full.id)
    file.write_text(text)
    refused(file, "GenesisDiffers", genesis="0" * 64)
    header_index = full.blocks[1]["header"]["size"]
    file.write_text(full.proof(header_index, height))
    refused(file, "FormInvalid")
    chance = random.Random(3)
    whole = text.encode()
    for _ in range(150):
        place = chance.randrange(len(whole))
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(Failure):
            verify(file, full.id)


def test_a_proof_of_a_record_that_its_author_did_not_sign(tmp_path: Path) -> None:
    ledger, file = Ledger(4), tmp_path / "one.tlog-proof"
    body = body_of(ledger, "proof", "hospital-1")
    ledger.forge(entry_of(body, record_key("hospital-2")))
    file.write_text(ledger.proof(2, 1))
    refused(file, "SignatureInvalid")
    late = Ledger(4)
    late.add(*decided(late.chain.upcoming, enrol(late.id, "hospital-5")))
    late.add(late.consortium.entry())
    file.write_text(late.proof(len(late.leaves()) - 2, 2))
    verify(file, late.id)


# the command


def ran(*arguments: object) -> int:
    return verifier.main([str(argument) for argument in arguments])


def test_the_command_says_what_it_found(
    full: Ledger, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ran(folder, "--genesis", full.id) == 0
    out = capsys.readouterr().out
    assert "consistent, and pinned" in out
    assert "newer blocks may have been cut off" in out
    assert ran(folder) == 0
    assert "consistent, NOT pinned" in capsys.readouterr().out
    assert ran(folder, "--format", "json") == 0
    assert json.loads(capsys.readouterr().out)["pinned"] is False
    assert ran(Ledger(1).export(tmp_path / "one")) == 0
    assert "no independent witness" in capsys.readouterr().out
    (tmp_path / "p").write_text(full.proof(2, 8))
    assert ran(tmp_path / "p", "--genesis", full.id) == 0
    assert "refusal" in capsys.readouterr().out


def test_the_command_says_what_failed(
    full: Ledger, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ran(folder, "--genesis", "0" * 64) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("error[GenesisDiffers]: ")
    assert "entries.jsonl, line 1, height 0, entry index 0" in first
    assert first.endswith("verified before it: 0 blocks, 0 entries")
    assert second.startswith("how to resolve: ")
    assert ran(tmp_path / "nothing\x1b", "--format", "json") == 1
    told = capsys.readouterr()
    assert json.loads(told.out)["error"]["code"] == "FileMissing"
    assert "\x1b" not in told.err


def test_a_text_of_the_exporter_moves_no_terminal(
    full: Ledger, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    full.resign(folder, complete="\x1b[2Jalles; äöü \ufeff")
    assert ran(folder) == 0
    out = capsys.readouterr().out
    assert out.isascii()
    assert "\x1b" not in out


@pytest.mark.parametrize(
    "arguments", [[], ["a", "b"], ["a", "--genesis", "x"], ["a", "--format", "x"], ["a", "--x"]]
)
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        verifier.main(arguments)
    assert caught.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_a_head_is_not_for_a_proof(full: Ledger, tmp_path: Path) -> None:
    (tmp_path / "p").write_text(full.proof(2, 8))
    with pytest.raises(SystemExit) as caught:
        ran(tmp_path / "p", "--head", tmp_path / "p")
    assert caught.value.code == 2
    refused(tmp_path / "p", "HeadInvalid", head=tmp_path / "p")


ALONE = """
import runpy, sys
class Only:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names | {"cryptography", "_cffi_backend"}:
            raise ImportError("not allowed: " + name)
sys.meta_path.insert(0, Only())
file, sys.argv = sys.argv[1], sys.argv[1:]
runpy.run_path(file, run_name="__main__")
"""


def test_the_file_needs_nothing_but_cryptography(
    full: Ledger, folder: Path, tmp_path: Path
) -> None:
    file = shutil.copy(verifier.__file__, tmp_path / "verify.py")
    command = [sys.executable, "-I", "-c", ALONE, file, folder, "--genesis", full.id]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"ledger            {full.id}" in done.stdout
