"""The tamper matrix: every artefact of an export, changed in every way, is refused, and placed.

In two strengths. *No keys*: whoever holds a copy of the export changes it. *Exporter*: the
coordinator does, and renders and signs the export anew, so that only what members signed protects.
What the exporter may still do is in `EXPORTERS_WORD`, each with its reason, and passes: so the
list cannot grow unseen. All of it against both verifiers.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from ledger_examples import CREATED, Consortium, coordinator_of, keys_of, secret_of, set_policy
from tampering import (
    JSON,
    Case,
    Forged,
    Other,
    Target,
    cuts,
    flipped,
    odd_forms,
    resequenced,
    resigned,
    sampled,
    signed,
    story,
)

from ledger import canonical, verifier
from ledger.disclosure import Disclosure
from ledger.entry import Entry, record_signature, sign_record
from ledger.errors import HeadNotReached, LedgerError
from ledger.keys import KeyRing, PublicKey, Role, SecretKey
from ledger.note import Checkpoint, SignatureLine, SignedHead, cosign, sign_note
from ledger.prove import prove, verify_proof
from ledger.records import Approval, Change, Enrol, Erasure, Genesis, Refusal
from ledger.start import Start
from ledger.tlog_proof import TlogProof
from ledger.verify import REPORT_FORM, verify_export

DOCUMENT = "|".join(["entries.jsonl", "blocks.jsonl", "start.json", "entries.csv", "report.html"])
Verify = Callable[[Path, str | None, Path | None], None]


def by_package(path: Path, pinned: str | None, head: Path | None) -> None:
    if path.is_file():
        verify_proof(path.read_bytes().decode(), pinned)
        return
    note = SignedHead.parse(head.read_bytes().decode()) if head else None
    verify_export(path, pinned, note)


def by_one_file(path: Path, pinned: str | None, head: Path | None) -> None:
    verifier.verify(path, pinned, head)


VERIFIERS = {"ledger.verify": by_package, "ledger/verifier.py": by_one_file}
REFUSALS = (LedgerError, verifier.Failure)


# every change, artefact by artefact


def entry_flips(target: Target, every: int = 0) -> Iterator[Case]:
    for number, (height, index, entry) in enumerate(target.entries):
        data = entry.data
        split = data.rindex(b',"signatures":')
        for artefact, low, high in (
            ("entry body", 0, split),
            ("entry signature", split, len(data)),
        ):
            chosen = [low + o for o in sampled(high - low, 3, f"{target.name}{number}")]
            for offset in range(low, high) if every else chosen:
                # The genesis is checked as the start of the chain, not as an entry of a block.
                place = rf"entry (index )?{index}\b" if height else r"height 0\b|line 1\b"
                yield Case(
                    artefact, f"flip of byte {offset} of entry {index}",
                    {"entries.jsonl": target.with_entry(number, flipped(data, offset))}, (place,),
                )  # fmt: skip


def one_of_each(target: Target) -> Iterator[tuple[int, int, int, Entry]]:
    """Line, height, index and entry: the first of each type that the export holds."""
    seen: set[str] = set()
    for number, (height, index, entry) in enumerate(target.entries):
        if entry.record.type not in seen:
            seen.add(entry.record.type)
            yield number, height, index, entry


def author_keys(target: Target, height: int, entry: Entry) -> KeyRing:
    membership = target.ledger.states[height].membership
    if entry.record.author == "coordinator":
        ring = coordinator_of(membership).keys
    else:
        forms = membership.members[entry.record.author].keys
        ring = {role: secret_of(form) for role, form in forms.items()}
    return KeyRing(ring)


def other_record(target: Target, entry: Entry) -> Any:
    record = entry.record
    if isinstance(record, Refusal):
        return record.model_copy(update={"code": "JobUnknown"})
    if isinstance(record, Approval):
        return record.model_copy(update={"change": "1" * 64})
    if isinstance(record, Erasure):
        return record.model_copy(update={"disclosure": "1" * 64})
    if isinstance(record, Change):
        others = [a for a in record.actions if not isinstance(a, Enrol)]
        return record.model_copy(update={"actions": (*others, *others)})
    assert isinstance(record, Genesis)
    return record.model_copy(update={"consortium": "Another"})


def entry_rewrites(target: Target) -> Iterator[Case]:
    """Same place in the order, another content or other signatures."""
    for number, height, index, entry in one_of_each(target):
        content = canonical.loads(entry.data)
        signatures = content["signatures"]
        keys = author_keys(target, height, entry)
        own = signatures[0]
        sound = Role.APPROVAL if isinstance(entry.record, Approval) else Role.RECORD
        body = entry.body

        def by(key: SecretKey, message: bytes, own: JSON = own, name: str | None = None) -> JSON:
            return {**own, "key": name or key.public.key_id, "sig": key.sign(message).hex()}

        right = keys[sound]
        domain = b"medpole/record/v1\n"
        other = other_record(target, entry)
        strangers = {
            "a stranger's": keys_of("stranger")[Role.RECORD],
            "hospital-1's cosign": keys_of("hospital-1")[Role.COSIGN],
            "hospital-1's api": keys_of("hospital-1")[Role.API],
            "the former coordinator's": keys_of("coordinator")[Role.COSIGN],
            **{f"the author's {role}": key for role, key in keys.keys.items() if role != sound},
        }
        swapped = target.entries[number - 1][2] if number else target.entries[-1][2]
        lists: dict[str, Any] = {
            "no signature": [],
            "a repeated signature": [*signatures, own],
            "a further signature": [*signatures, by(keys_of("x")[Role.RECORD], domain + body)],
            "another algorithm": [{**own, "alg": "ml-dsa-44"}, *signatures[1:]],
            "another key id": [{**own, "key": "0" * 16}, *signatures[1:]],
            "upper-case hex": [{**own, "sig": own["sig"].upper()}, *signatures[1:]],
            "a longer signature": [{**own, "sig": own["sig"] + "00"}, *signatures[1:]],
            "a shorter signature": [{**own, "sig": own["sig"][:-2]}, *signatures[1:]],
            "a further field": [{**own, "time": 1}, *signatures[1:]],
            "a signature without key": [{"sig": own["sig"]}],
            "signatures that are no list": own,
            "another entry's signature": [canonical.loads(swapped.data)["signatures"][0]],
            "a signature over the body alone": [by(right, body)],
            "a signature over another domain": [by(right, b"medpole/export/v1\n" + body)],
            "a signature over another type's domain": [by(right, b"cosignature/v1\n" + body)],
        }
        if len(signatures) > 1:
            lists["signatures in another order"] = signatures[::-1]
            lists["a founder's signature left out"] = signatures[:-1]
        for what, key in strangers.items():
            lists[f"a signature by {what} key"] = [by(key, domain + body), *signatures[1:]]
            named = by(key, domain + body, name=own["key"])
            lists[f"{what} key under the right one's name"] = [named, *signatures[1:]]
        place = (rf"entry (index )?{index}\b",) if height else (r"height 0\b|line 1\b",)
        datas = {what: canonical.dumps({**content, "signatures": s}) for what, s in lists.items()}
        datas |= dict(odd_forms(entry.data))
        datas |= {f"body with {what}": b'{"body":' + form + entry.data[len(body) + 8 :]
                  for what, form in odd_forms(body)}  # fmt: skip
        datas["another content, signature kept"] = canonical.dumps(
            {**content, "body": other.body()}
        )
        datas["another content, signed by a stranger"] = sign_record(
            other, [keys_of("stranger")[Role.RECORD]] * len(signatures)
        ).data
        datas["an empty line"] = b""
        datas["half of it"] = entry.data[: len(entry.data) // 2]
        for what, data in datas.items():
            artefact = "entry body" if "body" in what or "content" in what else "entry signature"
            yield Case(
                f"{artefact} ({entry.record.type})", f"{what}, entry {index}",
                {"entries.jsonl": target.with_entry(number, data)}, place,
            )  # fmt: skip


def line_orders(target: Target, other: Target) -> Iterator[Case]:
    """Lines of entries and blocks, whole: left out, repeated, moved, cut, from another ledger."""
    for name in ("entries.jsonl", "blocks.jsonl"):
        lines, theirs = target.lines(name), other.lines(name)
        changes: dict[str, list[bytes]] = {}
        for n, line in enumerate(lines):
            changes[f"line {n} left out"] = [*lines[:n], *lines[n + 1 :]]
            changes[f"line {n} twice"] = [*lines[: n + 1], *lines[n:]]
            changes[f"line {n} of another ledger"] = [*lines[:n], theirs[n], *lines[n + 1 :]]
            changes[f"all from line {n} on of another ledger"] = [*lines[:n], *theirs[n:]]
            changes[f"line {n} at the end"] = [*lines[:n], *lines[n + 1 :], line]
            for m in range(n + 1, len(lines)):
                if m in (n + 1, len(lines) - 1):
                    moved = [*lines]
                    moved[n], moved[m] = moved[m], moved[n]
                    changes[f"lines {n} and {m} swapped"] = moved
        changes["backwards"] = lines[::-1]
        changes["nothing"] = []
        changes["an empty line before"] = [b"\n", *lines]
        changes["an empty line after"] = [*lines, b"\n"]
        changes["CRLF"] = [line.replace(b"\n", b"\r\n") for line in lines]
        changes["its last newline twice, as CR"] = [*lines[:-1], lines[-1][:-1] + b"\r"]
        for what, changed in changes.items():
            data = b"".join(changed)
            if data != target.files[name]:
                yield Case(_artefact(name), what, {name: data}, target.place(name, data))
        data = target.files[name]
        for end in cuts(data):
            torn = data[:end]
            yield Case(_artefact(name), f"cut at {end}", {name: torn}, target.place(name, torn))
        for extra in (b"x", b"{}", b"{}\n", b"\x00", lines[0]):
            more = data + extra
            yield Case(
                _artefact(name), f"{extra[:4]!r} after its end", {name: more},
                target.place(name, more),
            )  # fmt: skip


def _artefact(name: str) -> str:
    return {"entries.jsonl": "order of leaves", "blocks.jsonl": "order of blocks"}.get(name, name)


def middle_and_last(target: Target) -> tuple[int, ...]:
    """Heights: in the middle (of a range, its first, whose parent is not in it), and the last."""
    return (max(target.first, 4), target.last)


def header_changes(target: Target, other: Target) -> Iterator[Case]:
    """Every field, with and without the coordinator's signature on what then follows from it."""
    for height in middle_and_last(target):
        block = target.block(height)
        header = block["header"]
        ours = target.ledger.stored[height][0].header
        place = (rf"height {height}\b",)
        before = target.ledger.stored[height - 1][0].header
        values: dict[str, list[Any]] = {
            "v": [2, True, "1"], "type": ["Block", None], "ledger": [other.pinned, "0" * 64],
            "epoch": [1, -1, False], "height": [height + 1, height - 1, str(height), -1],
            "prev": ["0" * 64, ours.prev.upper(), before.prev], "first": [ours.first + 1, -1],
            "count": [ours.count + 1, ours.count - 1, -1, 2**53 - 1, True],
            "size": [ours.size + 1, ours.size - 1], "root": ["0" * 64, before.root],
            "membership": ["0" * 64, target.ledger.states[0].membership.digest],
            "parent_cert": ["0" * 64, before.parent_cert],
            "time": [ours.time + 1, before.time - 1, -1, str(ours.time), 2**53],
        }  # fmt: skip
        for field, options in values.items():
            for value in options:
                if value == header[field] and type(value) is type(header[field]):
                    continue
                changed = {**block, "header": {**header, field: value}}
                what = f"{field} is {str(value)[:8]} at {height}"
                try:
                    files = {"blocks.jsonl": target.with_block(height, changed)}
                except LedgerError:  # no canonical form: written as plain JSON
                    data = target.lines("blocks.jsonl")[height - target.first][:-1]
                    old = canonical.dumps({field: header[field]})[1:-1]
                    new = b'"%s":%d' % (field.encode(), value)
                    files = {"blocks.jsonl": target.with_block(height, data.replace(old, new, 1))}
                yield Case("header", what, files, place)
                if type(value) is type(header[field]):
                    again = _checkpoint_again(target, changed, height)
                    if again is not None:
                        files = {"blocks.jsonl": target.with_block(height, again)}
                        yield Case("header", f"{what}, signed by the coordinator", files, place)
            without = {k: v for k, v in header.items() if k != field}
            files = {"blocks.jsonl": target.with_block(height, {**block, "header": without})}
            yield Case("header", f"no {field} at {height}", files, place)
        others: dict[str, Any] = {
            "another field": {**header, "note": 1}, "a list": [header], "null": None,
            "the parent's": target.ledger.stored[height - 1][0].header.data(),
            "another ledger's": other.ledger.stored[height][0].header.data(),
        }  # fmt: skip
        for what, value in others.items():
            value = canonical.loads(value) if isinstance(value, bytes) else value
            files = {"blocks.jsonl": target.with_block(height, {**block, "header": value})}
            yield Case("header", f"{what} at {height}", files, place)
        line = target.lines("blocks.jsonl")[height - target.first][:-1]
        start, data = line.index(b'"header":') + 9, canonical.dumps(header)
        for what, form in odd_forms(data):
            odd = line[:start] + form + line[start + len(data) :]
            files = {"blocks.jsonl": target.with_block(height, odd)}
            yield Case("header", f"{what} at {height}", files, place)
        for what, form in odd_forms(line):
            files = {"blocks.jsonl": target.with_block(height, form)}
            yield Case("block line", f"{what} at {height}", files, place)


def _checkpoint_again(target: Target, block: JSON, height: int) -> JSON | None:
    """The block with a checkpoint that follows from its changed header, signed."""
    from ledger.block import Header
    from ledger.chain import _checkpoint

    try:
        header = Header.parse(canonical.dumps(block["header"]))
        frontier = target.ledger.states[height - 1].frontier.copy()
        for entry in target.ledger.stored[height][0].entries:
            frontier.append(entry.leaf)
        frontier.append(header.leaf)
        checkpoint = _checkpoint(header, frontier)
        return {**block, **_signed_by_coordinator(target, checkpoint, height)}
    except LedgerError:
        return None


def _signed_by_coordinator(target: Target, checkpoint: Checkpoint, height: int) -> JSON:
    key = coordinator_of(target.ledger.states[height].membership)[Role.COSIGN]
    text = checkpoint.text()
    return {"checkpoint": text, "signature": sign_note(checkpoint.origin, key, text)}


def checkpoint_changes(target: Target, other: Target) -> Iterator[Case]:
    for height in middle_and_last(target):
        block, place = target.block(height), (rf"height {height}\b",)
        head = target.ledger.stored[height][0].checkpoint
        before = target.ledger.stored[height - 1][0].checkpoint
        theirs = other.ledger.stored[height][0].checkpoint
        changes: dict[str, Checkpoint] = {
            "another origin": replace(head, origin=theirs.origin),
            "a larger tree": replace(head, size=head.size + 1),
            "a smaller tree": replace(head, size=head.size - 1),
            "another root": replace(head, root=bytes(32)),
            "the root before": replace(head, root=before.root),
            "another epoch": replace(head, epoch=1),
            "another height": replace(head, height=height + 1),
            "another block": replace(head, block_hash=bytes(32)),
            "the parent's": before,
            "another ledger's": theirs,
        }
        for what, changed in changes.items():
            text = {**block, "checkpoint": changed.text()}
            both = {**block, **_signed_by_coordinator(target, changed, height)}
            yield _block_case(target, height, "checkpoint", what, text, place)
            yield _block_case(
                target, height, "checkpoint", f"{what}, signed by the coordinator", both, place
            )
        for what, text in {
            "a further line": head.text() + "more\n", "no last newline": head.text()[:-1],
            "a leading zero": head.text().replace(f"\n{head.size}\n", f"\n0{head.size}\n"),
            "no block line": head.text().rsplit("block", 1)[0], "empty": "", "no text": 7,
            "upper-case hash": head.text().replace(head.block_hash.hex(), "AB" * 32),
        }.items():  # fmt: skip
            changed_block = {**block, "checkpoint": text}
            yield _block_case(target, height, "checkpoint", what, changed_block, place)


def _block_case(
    target: Target, height: int, artefact: str, what: str, block: JSON, place: tuple[str, ...]
) -> Case:
    files = {"blocks.jsonl": target.with_block(height, block)}
    return Case(artefact, f"{what} at {height}", files, place)


def signature_changes(target: Target, other: Target) -> Iterator[Case]:
    """The coordinator's line on its own checkpoint."""
    for height in middle_and_last(target):
        block, place = target.block(height), (rf"height {height}\b",)
        head = target.ledger.stored[height][0].checkpoint
        ring = coordinator_of(target.ledger.states[height].membership)
        text, name = head.text(), head.origin
        blob = SignatureLine.parse(block["signature"]).blob
        lines = {
            "by its record key": sign_note(name, ring[Role.RECORD], text),
            "by its former key": sign_note(name, keys_of("coordinator")[Role.COSIGN], text),
            "by a member": sign_note(name, keys_of("hospital-1")[Role.COSIGN], text),
            "in a member's name": sign_note("hospital-1", ring[Role.COSIGN], text),
            "in another name": sign_note("coordinator", ring[Role.COSIGN], text),
            "as a cosignature": cosign(name, ring[Role.COSIGN], text, CREATED),
            "over other text": sign_note(name, ring[Role.COSIGN], text + "x"),
            "over a record's domain": sign_note(
                name, ring[Role.COSIGN], "medpole/record/v1\n" + text),
            "of the block before": target.ledger.stored[height - 1][0].signature,
            "of another ledger": other.ledger.stored[height][0].signature,
            "a member's cosignature": block["cosignatures"][0],
            "of no bytes": str(SignatureLine(name, b"")),
            "with a byte more": str(SignatureLine(name, blob + b"\0")),
            "with another key's hint": str(SignatureLine(name, bytes(4) + blob[4:])),
            "two lines": block["signature"] + "\n" + block["signature"],
            "with a newline": block["signature"] + "\n",
            "empty": "",
        }  # fmt: skip
        for what, line in lines.items():
            if line != block["signature"]:
                changed = {**block, "signature": line}
                yield _block_case(target, height, "coordinator's signature", what, changed, place)
        for what, value in {"null": None, "a list": [block["signature"]]}.items():
            changed = {**block, "signature": value}
            yield _block_case(target, height, "coordinator's signature", what, changed, place)


def certificate_changes(target: Target, other: Target) -> Iterator[Case]:
    """Cosignatures on a block, and the certificate of its parent that it carries."""
    for height in middle_and_last(target):
        for artefact, field, signed_at in (
            ("cosignature", "cosignatures", height),
            ("parent certificate", "parent_cert", height - 1),
        ):
            for what, lines in _certificates(target, other, signed_at, target.block(height)[field]):
                changed = {**target.block(height), field: lines}
                place = (rf"height {height}\b",)
                yield _block_case(target, height, artefact, what, changed, place)


def _certificates(
    target: Target, other: Target, height: int, lines: list[str]
) -> Iterator[tuple[str, Any]]:
    membership = target.ledger.states[height].membership
    head = target.ledger.stored[height][0].checkpoint
    text, quorum = head.text(), membership.quorum
    first = SignatureLine.parse(lines[0])
    own = secret_of(membership.members[first.name].keys[Role.COSIGN])
    rest = lines[1:]
    for offset in sampled(len(lines[0]), 6, f"{height}"):
        changed = flipped(lines[0].encode(), min(offset + 4, len(lines[0].encode()) - 1))
        yield f"flip at {offset}", sorted([changed.decode(errors="replace"), *rest])
    yield "fewer than a quorum", lines[: quorum - 1]
    yield "none", []
    yield "null", None
    yield "one text", "\n".join(lines)
    yield "not a text among them", [*lines, 7]
    if len(lines) > 1:
        yield "not sorted", lines[::-1]
        renamed = str(SignatureLine(SignatureLine.parse(lines[1]).name, first.blob))
        yield "one under another member's name", sorted([renamed, lines[0], *lines[2:]])
        yield "two under each other's name", sorted([
            renamed, str(SignatureLine(first.name, SignatureLine.parse(lines[1]).blob)), *lines[2:],
        ])  # fmt: skip
    yield "one twice", sorted([*lines, lines[0]])
    again = cosign(first.name, own, text, CREATED + 77)
    yield "a member's second one", sorted([*lines, again])
    yield "one twice instead of a quorum", [lines[0]] * quorum if quorum > 1 else [lines[0]] * 2
    stranger = cosign("stranger", keys_of("stranger")[Role.COSIGN], text, CREATED)
    ring = coordinator_of(membership)
    ours = cosign("coordinator", ring[Role.COSIGN], text, CREATED)
    for what, line in {
        "a stranger's": stranger,
        "the coordinator's": ours,
        "the coordinator's, as a note": sign_note(head.origin, ring[Role.COSIGN], text),
    }.items():
        yield f"{what} added", sorted([*lines, line])
        yield f"{what} instead of one", sorted([line, *lines[1:quorum]])
    hospitals = membership.members[first.name].keys
    blob = first.blob
    replaced = {
        "by its record key": cosign(first.name, secret_of(hospitals[Role.RECORD]), text, CREATED),
        "by its approval key": cosign(first.name, secret_of(hospitals[Role.APPROVAL]), text, 1),
        "by the coordinator": cosign(first.name, ring[Role.COSIGN], text, CREATED),
        "as a plain note": sign_note(first.name, own, text),
        "over another text": cosign(first.name, own, text + "x", CREATED),
        "with another time": str(SignatureLine(first.name, blob[:4] + bytes(8) + blob[12:])),
        "with another hint": str(SignatureLine(first.name, bytes(4) + blob[4:])),
        "with a byte more": str(SignatureLine(first.name, blob + b"\0")),
        "cut": str(SignatureLine(first.name, blob[:-1])),
        "of another block": target.ledger.stored[height - 1][1][0],
        "of another ledger": other.ledger.stored[height][1][0],
        "with a space more": lines[0] + " ",
        "with a carriage return": lines[0] + "\r",
        "empty": "",
    }
    for what, line in replaced.items():
        yield f"one {what}", sorted([line, *rest])
        if len(lines) > quorum:
            yield f"a quorum, and one {what}", sorted([*lines[1:], line])
    yield "all of the block before", target.ledger.stored[height - 1][1]
    yield "all of another ledger", other.ledger.stored[height][1]


def forgeries(target: Target, forged: Target, other: Target) -> Iterator[Case]:
    """Coherent histories that the coordinator makes alone. Its own signatures hold on all of it."""
    last = target.last
    for height in range(max(target.first, 1), last + 1):
        place = (rf"height {height}\b",)
        entries = target.ledger.stored[height][0].entries
        chain = target.ledger.states[height - 1]
        keys = coordinator_of(chain.upcoming)
        gone = Erasure(v=1, type="erasure", ledger=target.pinned, author="coordinator",
                       disclosure="2" * 64)  # fmt: skip
        more = [*entries, sign_record(gone, [keys[Role.RECORD]])]
        names = list(chain.upcoming.members)[: chain.upcoming.quorum - 1]
        ways: dict[str, dict[str, Any]] = {
            "at another time": {"later": 1},
            "with an entry more": {"entries": more},
            "with another ledger's entries": {
                "entries": other.ledger.stored[height][0].entries, "later": 1,
            },
        }  # fmt: skip
        if entries:
            ways["with an entry fewer"] = {"entries": entries[:-1]}
            ways["without entries"] = {"entries": (), "later": 1}
        if len(entries) > 1:
            ways["in another order"] = {"entries": entries[::-1]}
        if names:
            ways["co-signed by a minority"] = {"later": 1, "cosigners": names}
        ways["co-signed by nobody"] = {"later": 1, "cosigners": []}
        for what, way in ways.items():
            yield Case("history", f"made anew from {height} on, {what}",
                       resequenced(target, height, **way), place)  # fmt: skip
    genesis = (r"start\.json|height 0\b|line 1\b",)
    names = [name for name in forged.files if name in target.files]
    for source, what in ((forged, "an operator's own"), (other, "another")):
        both = {n: source.files[n] for n in names}
        yield Case("genesis", f"{what} ledger, whole", dict(both), genesis)
        if "start.json" in target.files:
            start = {"start.json": source.files["start.json"]}
            yield Case("start.json", f"{what} ledger's", start, genesis)
    if target.first == 0:
        yield from _genesis_changes(target)


def _genesis_changes(target: Target) -> Iterator[Case]:
    genesis = target.ledger.genesis().record
    assert isinstance(genesis, Genesis)
    credits = genesis.policy.credits
    founders = genesis.founders
    invented = Forged(target.ledger.consortium.n).genesis.founders
    changes: dict[str, Any] = {
        "the policy": {"policy": genesis.policy.model_copy(update={
            "credits": credits.model_copy(update={"pool": credits.pool + 1})})},
        "an invented founder": {"founders": (*founders[:-1], invented[-1])},
        "a further founder": {"founders": (*founders, Forged(9).genesis.founders[8])},
        "the title": {"consortium": "Other"},
        "the time": {"created": CREATED + 1},
        "the coordinator's keys": {"coordinator": {
            role: form.model_copy(update={"public": keys_of("x")[role].public.public.hex()})
            for role, form in genesis.coordinator.items()}},
    }  # fmt: skip
    if len(founders) > 1:
        changes["a founder left out"] = {"founders": founders[:-1]}
        changes["founders in another order"] = {"founders": founders[::-1]}
    for what, update in changes.items():
        record = genesis.model_copy(update=update)
        content = canonical.loads(target.ledger.genesis().data)
        old = canonical.dumps({**content, "body": record.body()})
        again = record_signature(record, target.ledger.consortium.coordinator[Role.RECORD])
        own = [again, *content["signatures"][1:]]
        new = canonical.dumps({"body": record.body(), "signatures": own})
        for how, data in (("signatures kept", old), ("the coordinator signed", new)):
            yield Case("genesis", f"{what}, {how}",
                       {"entries.jsonl": target.with_entry(0, data)},
                       (r"height 0\b|line 1\b",))  # fmt: skip


def start_changes(target: Target, other: Target, every: int = 0) -> Iterator[Case]:
    if "start.json" not in target.files:
        foreign = other.ledger.states[0], other.ledger.stored[0][0]
        start = Start(target.ledger.genesis(), (), target.ledger.header(0), foreign[0].frontier)
        place = (r"start\.json|line 1\b",)
        yield Case("start.json", "added to a whole export", {"start.json": start.data()}, place)
        return
    data, content = target.files["start.json"], target.json("start.json")
    near = (rf"start\.json|height {target.first}\b|line 1\b",)
    for offset in range(len(data)) if every else sampled(len(data), 40, target.name):
        yield Case(
            "start.json", f"flip of byte {offset}", {"start.json": flipped(data, offset)}, near
        )
    for end in (0, 1, len(data) // 2, len(data) - 1):
        yield Case("start.json", f"cut at {end}", {"start.json": data[:end]}, near)
    for extra in (b"\n", b" ", b"{}"):
        yield Case("start.json", f"{extra!r} after its end", {"start.json": data + extra}, near)
    for what, form in odd_forms(data):
        yield Case("start.json", what, {"start.json": form}, near)
    for what, form in odd_forms(canonical.dumps(content["header"])):
        start = data.replace(canonical.dumps(content["header"]), form)
        yield Case("start.json", f"header with {what}", {"start.json": start}, near)
    yield Case("start.json", "left out", {"start.json": None}, (r"start\.json|line 1\b",))
    changes, nodes, header = content["changes"], content["frontier"], content["header"]
    ledger, height = target.ledger, target.first
    refusal = ledger.stored[1][0].entries[0].data.decode()
    edits: dict[str, JSON] = {
        "another version": {"v": 2}, "true for its version": {"v": True},
        "another genesis": {"genesis": other.json("start.json")["genesis"]},
        "no genesis": {"genesis": ""}, "null for the genesis": {"genesis": None},
        "a change for the genesis": {"genesis": changes[0]},
        "no changes": {"changes": []}, "null for changes": {"changes": None},
        "changes backwards": {"changes": changes[::-1]},
        "a change in it twice": {"changes": [changes[0], *changes]},
        "an approval in it twice": {"changes": [*changes[:2], *changes[1:]]},
        "another ledger's changes": {"changes": other.json("start.json")["changes"]},
        "an entry that is no change": {"changes": [*changes, refusal]},
        "the genesis among the changes": {"changes": [content["genesis"], *changes]},
        "no nodes": {"frontier": []}, "nodes backwards": {"frontier": nodes[::-1]},
        "a node more": {"frontier": [*nodes, nodes[0]]}, "a node fewer": {"frontier": nodes[:-1]},
        "a short node": {"frontier": [*nodes[:-1], nodes[-1][:-2]]},
        "an upper-case node": {"frontier": [nodes[0].upper(), *nodes[1:]]},
        "another ledger's nodes": {"frontier": other.json("start.json")["frontier"]},
        "the tree before": {"frontier": [n.hex() for n in ledger.frontier(height - 2).nodes]},
        "the header before": {"header": canonical.loads(ledger.header(height - 2).data())},
        "the header after": {"header": canonical.loads(ledger.header(height).data())},
        "another ledger's header": {"header": other.json("start.json")["header"]},
        "null for the header": {"header": None},
        "another time": {"header": {**header, "time": header["time"] + 1}},
        "another root": {"header": {**header, "root": "0" * 64}},
        "a size of -1": {"header": {**header, "size": -1}, "frontier": []},
        "a text for the size": {"header": {**header, "size": str(header["size"])}},
        "no field": {"header": {k: v for k, v in header.items() if k != "prev"}},
    }  # fmt: skip
    for n in range(len(changes)):
        edits[f"without change {n}"] = {"changes": [*changes[:n], *changes[n + 1 :]]}
        entry = Entry(changes[n].encode())
        odd = canonical.loads(entry.data)
        for role in Role:
            key = keys_of("coordinator")[role] if n == 0 else keys_of("hospital-1")[role]
            again = {**odd, "signatures": [record_signature(entry.record, key)]}
            data = canonical.dumps(again).decode()
            if data != changes[n]:
                edits[f"change {n} by another {role} key"] = {
                    "changes": [*changes[:n], data, *changes[n + 1 :]]
                }
    for what, edit in edits.items():
        start = canonical.dumps({**content, **edit})
        if start == target.files["start.json"]:
            continue
        # What is left out of the changes is missed when it would count, in a block of the export.
        anywhere = (r"start\.json|height \d",) if "change" in what else near
        yield Case("start.json", what, {"start.json": start}, anywhere)


def disclosure_changes(target: Target, every: int = 0) -> Iterator[Case]:
    name, place = "disclosures.jsonl", (r"disclosures\.jsonl",)
    data, lines = target.files[name], target.lines(name)
    yield from _file_changes(target, name, place, every, 25)
    stray = Disclosure(bytes(32), "A stray name")
    erased = target.ledger.opened[-1]

    def form(found: Disclosure) -> bytes:
        return canonical.dumps({"salt": found.salt.hex(), "value": found.value}) + b"\n"

    def ordered(extra: bytes) -> bytes:
        def key(line: bytes) -> str:
            content = canonical.loads(line[:-1])
            return Disclosure(bytes.fromhex(content["salt"]), content["value"]).digest

        return b"".join(sorted([*lines, extra], key=key))

    changes = {
        "a stray one": ordered(form(stray)), "an erased one put back": ordered(form(erased)),
        "CRLF": data.replace(b"\n", b"\r\n"), "an empty line": data + b"\n",
        "not JSON": data + b"x\n", "a list": data + b"[]\n", "null": b"null\n" + data,
    }  # fmt: skip
    if lines:
        content = canonical.loads(lines[0][:-1])
        changes |= {
            "one twice": lines[0] + data,
            "a field more": canonical.dumps({**content, "a": 1}) + b"\n" + b"".join(lines[1:]),
            "a salt in upper case": lines[0].replace(
                content["salt"].encode(), content["salt"].upper().encode()) + b"".join(lines[1:]),
            "a number for the value": canonical.dumps({**content, "value": 7}) + b"\n",
            "a short salt": canonical.dumps({**content, "salt": "00"}) + b"\n",
            "another name": canonical.dumps({**content, "value": "Somebody else"}) + b"\n",
        }  # fmt: skip
        for what, odd in odd_forms(lines[0][:-1]):
            changes[what] = odd + b"\n" + b"".join(lines[1:])
    if len(lines) > 1:
        changes["another order"] = b"".join(lines[::-1])
        a, b = (canonical.loads(line[:-1]) for line in lines[:2])
        changes["salts swapped"] = (
            canonical.dumps({**a, "salt": b["salt"]}) + b"\n"
            + canonical.dumps({**b, "salt": a["salt"]}) + b"\n" + b"".join(lines[2:])
        )  # fmt: skip
    for what, changed in changes.items():
        if changed != data:
            yield Case("disclosures", what, {name: changed}, place)


def _file_changes(
    target: Target, name: str, place: tuple[str, ...], every: int, samples: int
) -> Iterator[Case]:
    data = target.files[name]
    # All of a report costs a whole verification: of its bytes, every 7th.
    step = 7 if name == "report.html" else 1
    flips = range(0, len(data), step) if every else sampled(len(data), samples, target.name)
    form = REPORT_FORM.search(data) if name == "report.html" else None
    for offset in flips:
        other_form = form is not None and offset in range(*form.span(1))
        changed = {name: flipped(data, offset)}
        yield Case(name, f"flip of byte {offset}", changed, place, not other_form)
    for end in cuts(data) if data else ():
        some_left_out = name == "disclosures.jsonl" and (end == 0 or data[:end].endswith(b"\n"))
        yield Case(name, f"cut at {end}", {name: data[:end]}, place, not some_left_out)
    for extra in (b"x", b" ", b"\0"):
        yield Case(name, f"{extra!r} after its end", {name: data + extra}, place)


def rendering_changes(target: Target, other: Target, every: int = 0) -> Iterator[Case]:
    for name in ("entries.csv", "report.html"):
        place = (re.escape(name),)
        yield from _file_changes(target, name, place, every, 30)
        lines = target.lines(name)
        changes = {
            "CRLF": target.files[name].replace(b"\n", b"\r\n"),
            "another ledger's": other.files[name],
            "backwards": b"".join(lines[::-1]), "nothing": b"",
            "quoted": target.files[name].replace(b"refusal", b'"refusal"'),
            "a line twice": b"".join([*lines[:2], *lines[1:]]),
            "the first line left out": b"".join(lines[1:]),
            "the last line twice": b"".join([*lines, lines[-1]]),
            "an empty line": target.files[name] + b"\n",
            "another code": target.files[name].replace(b"PolicyRefused", b"JobUnknown"),
            "a further row": target.files[name] + b"99,9,refusal,hospital-1,job-1,1,Late,00\n",
            "a carriage return at its end": target.files[name][:-1] + b"\r",
        }  # fmt: skip
        for what, changed in changes.items():
            if changed != target.files[name]:
                yield Case(name, what, {name: changed}, place)


def manifest_changes(target: Target, other: Target, every: int = 0) -> Iterator[Case]:
    name, place = "manifest.json", (r"manifest\.json",)
    data, content = target.files[name], target.json(name)
    sentence = canonical.dumps(content["complete"])
    says = range(data.index(sentence) + 1, data.index(sentence) + len(sentence) - 1)
    for offset in range(len(data)) if every else sampled(len(data), 40, target.name):
        yield Case(name, f"flip of byte {offset}", {name: flipped(data, offset)},
                   (r"manifest\.(json|sig)|" + DOCUMENT + "|schemas|disclosures",),
                   by_exporter=offset not in says)  # fmt: skip
    for end in (0, 1, len(data) // 2, len(data) - 1):
        yield Case(name, f"cut at {end}", {name: data[:end]}, place)
    for what, form in [*odd_forms(data), ("a newline after", data + b"\n")]:
        yield Case(name, what, {name: form}, place)
    files = content["files"]
    edits: dict[str, JSON] = {
        "another ledger": {"ledger": other.pinned}, "no exporter": {"exporter": ""},
        "an exporter who is no member": {"exporter": "hospital-99"},
        "a member as the exporter": {"exporter": "hospital-1"},
        "a list for the exporter": {"exporter": ["coordinator"]},
        "an object for the exporter": {"exporter": {}}, "null for the exporter": {"exporter": None},
        "a later first block": {"first_height": target.first + 1},
        "an earlier first block": {"first_height": target.first - 1},
        "a later last block": {"last_height": target.last + 1},
        "an earlier last block": {"last_height": target.last - 1},
        "an entry more": {"entries": content["entries"] + 1},
        "a text for the entries": {"entries": str(content["entries"])},
        "no files": {"files": {}}, "null for the files": {"files": None},
        "a list for the files": {"files": []}, "another version": {"v": 2},
        "true for its version": {"v": True}, "another type": {"type": "import"},
        "a file more": {"files": {**files, "notes.txt": files["entries.csv"]}},
        "a file above": {"files": {**files, "../notes.txt": files["entries.csv"]}},
        "false for the first block": {"first_height": False if target.first == 0 else None},
        "a number for the sentence": {"complete": 7}, "null for the sentence": {"complete": None},
        "a text for a file": {"files": {**files, "entries.csv": "x"}},
        "a field more of a file": {
            "files": {**files, "entries.csv": {**files["entries.csv"], "a": 1}}},
    }  # fmt: skip
    for file, form in files.items():
        edits[f"without {file}"] = {"files": {k: v for k, v in files.items() if k != file}}
        edits[f"another size of {file}"] = {
            "files": {**files, file: {**form, "bytes": form["bytes"] + 1}}
        }
        edits[f"another digest of {file}"] = {
            "files": {**files, file: {**form, "sha256": "0" * 64}}
        }
        edits[f"an upper-case digest of {file}"] = {
            "files": {**files, file: {**form, "sha256": form["sha256"].upper()}}
        }
    anywhere = (r"manifest\.(json|sig)|start\.json|" + "|".join(map(re.escape, files)),)
    for what, edit in edits.items():
        yield Case(name, what, {name: canonical.dumps({**content, **edit})}, anywhere)
    for field in content:
        without = {k: v for k, v in content.items() if k != field}
        yield Case(name, f"without {field}", {name: canonical.dumps(without)}, place)
    for what, value in {"a list": [content], "a text": "manifest", "null": None}.items():
        yield Case(name, what, {name: canonical.dumps(value)}, place)


def signature_file_changes(target: Target, other: Target, every: int = 0) -> Iterator[Case]:
    name, place = "manifest.sig", (r"manifest\.(sig|json)",)
    yield from _file_changes(target, name, place, every, 30)
    manifest, content = target.files["manifest.json"], target.json(name)
    strangers = {
        "a stranger": signed(manifest, keys_of("stranger")),
        "a member": signed(manifest, keys_of("hospital-1")),
        "the former coordinator's key": signed(manifest, keys_of("coordinator")),
        "the coordinator's other key": signed(manifest, target.keys, Role.COSIGN),
        "no domain": signed(manifest, target.keys, domain=b""),
        "a record's domain": signed(manifest, target.keys, domain=b"medpole/record/v1\n"),
        "another manifest": other.files[name],
        "a later manifest": signed(manifest + b" ", target.keys),
    }
    changes = {f"by {what}": data for what, data in strangers.items()}
    changes |= {
        what: canonical.dumps(value)
        for what, value in {
            "another algorithm": {**content, "alg": "ml-dsa-44"}, "no key": {**content, "key": ""},
            "upper-case hex": {**content, "sig": content["sig"].upper()},
            "a field more": {**content, "a": 1}, "a list": [content], "null": None, "{}": {},
            "a number for the signature": {**content, "sig": 7},
            "an empty signature": {**content, "sig": ""},
            "hex with spaces": {**content, "sig": content["sig"][:2] + " " + content["sig"][2:]},
        }.items()
    }  # fmt: skip
    changes |= dict(odd_forms(target.files[name]))
    for what, changed in changes.items():
        yield Case(name, what, {name: changed}, place)


def folder_changes(target: Target) -> Iterator[Case]:
    """Files left out, emptied, added, or another export's."""
    for name in target.files:
        if name != "start.json":
            yield Case(name, "left out", {name: None}, (re.escape(name) + r"|line 1\b",))
        if name not in ("schemas.json", "disclosures.jsonl"):
            swapped = next(v for k, v in target.files.items() if k != name)
            yield Case(name, "another file's content", {name: swapped},
                       (re.escape(name), r"line 1\b", r"height \d"))  # fmt: skip
    yield Case("folder", "a file more", {"notes.txt": b"x"}, (r"notes\.txt",))
    yield Case("folder", "a hidden file more", {".notes": b"x"}, (r"\.notes",))


def schema_changes(target: Target) -> Iterator[Case]:
    """They stand on the exporter's word."""
    for case in _file_changes(target, "schemas.json", (r"schemas\.json",), 0, 30):
        yield replace(case, by_exporter=False)


def matrix(target: Target, other: Target, forged: Target) -> Iterator[Case]:
    yield from entry_flips(target)
    yield from entry_rewrites(target)
    yield from line_orders(target, other)
    yield from header_changes(target, other)
    yield from checkpoint_changes(target, other)
    yield from signature_changes(target, other)
    yield from certificate_changes(target, other)
    yield from forgeries(target, forged, other)
    yield from start_changes(target, other)
    yield from disclosure_changes(target)
    yield from rendering_changes(target, other)
    yield from manifest_changes(target, other)
    yield from signature_file_changes(target, other)
    yield from folder_changes(target)
    yield from schema_changes(target)


def every_byte(target: Target, other: Target, forged: Target) -> Iterator[Case]:
    del forged
    yield from entry_flips(target, 1)
    for name in ("blocks.jsonl",):
        data = target.files[name]
        for offset in range(len(data)):
            changed = flipped(data, offset)
            place = target.place(name, changed)
            yield Case("blocks", f"flip of byte {offset}", {name: changed}, place)
    yield from start_changes(target, other, 1)
    yield from disclosure_changes(target, 1)
    yield from rendering_changes(target, other, 1)
    yield from manifest_changes(target, other, 1)
    yield from signature_file_changes(target, other, 1)


# running it


# What an exporter could repair, by rendering and signing anew. Nothing else that fails depends on
# renderings or manifest, so that for it, both strengths are one.
_REPAIRABLE = re.compile(r"csv|html|manifest")


class Found:
    """What verification made of the cases: how many, and which got by it, or were not placed."""

    def __init__(self, verify: Verify, *, exporter: bool = True) -> None:
        self.verify = verify
        self.exporter = exporter
        self.counts: Counter[str] = Counter()
        self.passed: list[str] = []
        self.misplaced: list[str] = []
        self.crashed: list[str] = []

    def run(
        self, cases: Iterable[Case], target: Target, folder: Path, *, at_once: bool = False
    ) -> None:
        """Each without keys and then, where that could help, or ``at_once``, as the exporter."""
        for case in cases:
            name = f"{target.name}: {case}"
            target.put(folder, case.files)
            touched = set(case.files)
            found = None if at_once else self._check(name, case, target, folder)
            self.counts[case.artefact] += 1
            if self.exporter and case.by_exporter and self._could_help(found, case):
                touched |= resigned(target, folder, case.files)
                self._check(f"{name}, signed anew", case, target, folder)
            target.restore(folder, touched)
        self.verify(folder, target.pinned, None)  # else the cases would say nothing

    def _could_help(self, found: str | None, case: Case) -> bool:
        unread = self.verify is by_one_file and "report.html" in case.files
        return not unread and (found is None or bool(_REPAIRABLE.search(found)))

    def _check(self, name: str, case: Case, target: Target, folder: Path) -> str | None:
        try:
            self.verify(folder, target.pinned, None)
            self.passed.append(name)
        except REFUSALS as refusal:
            placed = any(re.search(place, refusal.what) for place in case.places)
            if not placed:
                self.misplaced.append(f"{name}: {refusal.what} (not {case.places})")
            return str(refusal.what)
        except Exception as error:
            self.crashed.append(f"{name}: {error!r}")
        return None

    def check(self, record: Callable[[str, object], None]) -> None:
        record("tampered", self.counts.total())
        print(f"{self.counts.total()} tampered exports: {dict(self.counts)}")
        assert self.passed == []
        assert self.crashed == []
        assert self.misplaced == []


Made = dict[str, tuple[Target, Target, Target]]


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """By name: an export, the same of another ledger with the same keys, and of a forged one."""
    folder, made = tmp_path_factory.mktemp("targets"), {}
    for n in (1, 4):
        ledgers = [story(kind(n)) for kind in (Consortium, Other, Forged)]
        for first in (0, 6):
            name = f"{n} founders, from block {first}"
            ours, other, forged = (
                Target.of(ledger, folder / f"{n}-{first}-{kind}", name, first)
                for kind, ledger in enumerate(ledgers)
            )
            made[name] = ours, other, forged
    return made


@pytest.fixture(scope="module", autouse=True)
def _each_signature_once() -> Iterator[None]:
    """Ed25519 is pure: a signature that held holds again. Half of all time would go there."""
    held: set[tuple[bytes, bytes, bytes]] = set()
    verify, signed_by = PublicKey.verify, verifier.Key.signed

    def once(self: PublicKey, signature: bytes, message: bytes) -> None:
        asked = (self.public, signature, message)
        if self.algorithm != "ed25519" or asked not in held:
            verify(self, signature, message)
            held.add(asked)

    def signed_once(self: verifier.Key, message: bytes, signature: bytes) -> bool:
        asked = (self.raw, signature, message)
        if asked not in held and signed_by(self, message, signature):
            held.add(asked)
        return asked in held

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PublicKey, "verify", once)
        patch.setattr(verifier.Key, "signed", signed_once)
        yield


def run_all(
    targets: Made,
    tmp_path: Path,
    verify: str,
    kind: Callable[..., Iterable[Case]],
    names: Iterable[str],
    *,
    at_once: bool = False,
) -> Found:
    found = Found(VERIFIERS[verify])
    for number, (name, made) in enumerate(targets.items()):
        if name not in names:
            continue
        folder = made[0].copy(tmp_path / str(number))
        found.run(kind(*made), made[0], folder, at_once=at_once)
    return found


@pytest.mark.parametrize("verify", VERIFIERS)
def test_no_change_of_an_export_gets_by(
    targets: Made, tmp_path: Path, verify: str, record_property: Callable[[str, object], None]
) -> None:
    """Every sixth case; `test_none_at_all` takes all."""

    def some(*made: Target) -> Iterator[Case]:
        return islice(matrix(*made), list(VERIFIERS).index(verify), None, 6)

    run_all(targets, tmp_path, verify, some, targets).check(record_property)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("at_once", [False, True], ids=["no keys first", "the exporter at once"])
@pytest.mark.parametrize("verify", VERIFIERS)
def test_none_at_all(
    targets: Made,
    tmp_path: Path,
    verify: str,
    at_once: bool,
    record_property: Callable[[str, object], None],
) -> None:
    found = run_all(targets, tmp_path, verify, matrix, targets, at_once=at_once)
    found.check(record_property)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("verify", VERIFIERS)
def test_no_flip_of_any_byte(
    targets: Made, tmp_path: Path, verify: str, record_property: Callable[[str, object], None]
) -> None:
    names = ("1 founders, from block 0", "4 founders, from block 6")
    run_all(targets, tmp_path, verify, every_byte, names).check(record_property)


# what the exporter may do: each passes, and is known by its reason

Change_ = Callable[[Target], dict[str, bytes | None]]


def _other_schemas(target: Target) -> dict[str, bytes | None]:
    return {"schemas.json": b"{}\n"}


def _other_form(target: Target) -> dict[str, bytes | None]:
    form = REPORT_FORM.search(target.files["report.html"])
    assert form is not None
    newer = b"MedPoLe report, form %d" % (int(form[1]) + 1)
    return {"report.html": target.files["report.html"].replace(form[0], newer) + b"anything"}


def _other_sentence(target: Target) -> dict[str, bytes | None]:
    manifest = {**target.json("manifest.json"), "complete": "whatever the exporter says"}
    return {"manifest.json": canonical.dumps(manifest)}


def _fewer_disclosures(target: Target) -> dict[str, bytes | None]:
    return {"disclosures.jsonl": b"".join(target.lines("disclosures.jsonl")[1:])}


def _fewer_cosignatures(target: Target) -> dict[str, bytes | None]:
    """On the last block; those on others stand in the next one's header as well."""
    block = target.block(target.last)
    quorum = target.ledger.states[target.last].membership.quorum
    lines = block["cosignatures"][:quorum]
    if lines == block["cosignatures"]:
        return {}
    return {"blocks.jsonl": target.with_block(target.last, {**block, "cosignatures": lines})}


def _undecided_change(target: Target) -> dict[str, bytes | None]:
    if "start.json" not in target.files:
        return {}
    start = target.json("start.json")
    keys = coordinator_of(target.ledger.states[target.first - 1].upcoming)
    record = Change(
        v=1, type="change", ledger=target.pinned, author="coordinator",
        base=target.ledger.states[target.first - 1].upcoming.digest,
        actions=(set_policy(7),),
    )  # fmt: skip
    entry = sign_record(record, [keys[Role.RECORD]]).data.decode()
    return {"start.json": canonical.dumps({**start, "changes": [*start["changes"], entry]})}


def _erased_before_the_range(target: Target) -> dict[str, bytes | None]:
    if "start.json" not in target.files:
        return {}
    erased = target.ledger.opened[0]
    kept = [d for d in target.ledger.opened if d.digest not in target.ledger.erased()]
    forms = [
        canonical.dumps({"salt": d.salt.hex(), "value": d.value}) + b"\n"
        for d in sorted([*kept, erased], key=lambda d: d.digest)
    ]
    return {"disclosures.jsonl": b"".join(forms)}


EXPORTERS_WORD: dict[str, tuple[Change_, str]] = {
    "other schemas": (_other_schemas, "no verification reads them"),
    "a report of another form": (
        _other_form, "only the version that made it could make it anew; `report_compared` is false"
    ),
    "another sentence": (_other_sentence, "how complete an export is, only a head can show"),
    "fewer disclosures": (_fewer_disclosures, "nothing signed says which are still kept"),
    "fewer cosignatures": (_fewer_cosignatures, "a quorum is left: the block is as final"),
    "an undecided change": (
        _undecided_change, "what is open before a range binds nobody, and no header names it"
    ),
    "an erased name, before the range": (
        _erased_before_the_range, "the erasure stands in a block that a range does not hold"
    ),
}  # fmt: skip


@pytest.mark.parametrize("verify", VERIFIERS)
@pytest.mark.parametrize("what", EXPORTERS_WORD)
def test_what_stands_on_the_exporters_word_is_this(
    targets: Made, tmp_path: Path, what: str, verify: str
) -> None:
    for number, (target, *_) in enumerate(targets.values()):
        files = EXPORTERS_WORD[what][0](target)
        if files:
            folder = target.copy(tmp_path / str(number))
            target.put(folder, files)
            with pytest.raises(REFUSALS):
                VERIFIERS[verify](folder, target.pinned, None)
            state = None
            if "start.json" in files:
                start = Start.parse(files["start.json"] or b"").chain()
                for block, _ in target.ledger.blocks(target.first, target.last):
                    start.follow(block)
                state = start
            resigned(target, folder, files, state)
            VERIFIERS[verify](folder, target.pinned, None)


@pytest.mark.parametrize("verify", VERIFIERS)
def test_a_coherent_cut_is_an_older_ledger_and_only_a_head_shows_it(
    targets: Made, tmp_path: Path, verify: str
) -> None:
    for number, (target, *_) in enumerate(targets.values()):
        head = tmp_path / f"head-{number}"
        head.write_text(target.ledger.head().text())
        VERIFIERS[verify](target.folder, target.pinned, head)
        for last in range(target.first, target.last):
            cut = target.ledger.export(tmp_path / f"{number}-{last}", target.first, last)
            VERIFIERS[verify](cut, target.pinned, None)
            with pytest.raises(REFUSALS) as caught:
                VERIFIERS[verify](cut, target.pinned, head)
            assert caught.value.code == HeadNotReached.__name__
            assert re.search(rf"height {target.last}\b", caught.value.what)


# the head note


def head_changes(target: Target, other: Target) -> Iterator[tuple[str, str]]:
    """Notes that are not the head of this ledger's last block, or are not signed as it is."""
    head = target.ledger.head()
    text, checkpoint, (ours, *lines) = head.text(), head.checkpoint, head.lines
    state = target.ledger.states[target.last]
    ring = coordinator_of(state.membership)
    body = checkpoint.text()
    for offset in sampled(len(text.encode()), 60, target.name):
        yield f"flip of byte {offset}", flipped(text.encode(), offset).decode(errors="replace")
    for end in (0, 1, len(body) - 1, len(body), len(body) + 1, len(text) - 1, len(text) // 2):
        yield f"cut at {end}", text[:end]
    changed = {
        "a larger tree": replace(checkpoint, size=checkpoint.size + 1),
        "another root": replace(checkpoint, root=bytes(32)),
        "another block": replace(checkpoint, block_hash=bytes(32)),
        "a later height": replace(checkpoint, height=checkpoint.height + 1),
        "an earlier height": replace(checkpoint, height=checkpoint.height - 1),
        "another epoch": replace(checkpoint, epoch=1),
        "another origin": other.ledger.head().checkpoint,
        "the block before's": target.ledger.head(target.last - 1).checkpoint,
    }
    for what, other_head in changed.items():
        key = ring[Role.COSIGN]
        again = sign_note(other_head.origin, key, other_head.text())
        yield f"{what}, signatures kept", SignedHead(other_head, head.lines).text()
        if what != "the block before's":
            yield f"{what}, signed by the coordinator", SignedHead(other_head, (again,)).text()
    yield "another ledger's", other.ledger.head().text()
    stranger = cosign("stranger", keys_of("stranger")[Role.COSIGN], body, CREATED)
    name = SignatureLine.parse(lines[0]).name
    own = secret_of(state.membership.members[name].keys[Role.RECORD])
    blob = SignatureLine.parse(lines[0]).blob
    signatures = {
        "signed by nobody": (), "a stranger's line": (ours, stranger),
        "only a stranger's line": (stranger,),
        "the coordinator's record key": (sign_note(checkpoint.origin, ring[Role.RECORD], body),),
        "the coordinator's former key": (
            sign_note(checkpoint.origin, keys_of("coordinator")[Role.COSIGN], body),),
        "a member's record key": (ours, cosign(name, own, body, CREATED)),
        "a plain note by a member": (ours, sign_note(name, own, body)),
        "another time": (ours, str(SignatureLine(name, blob[:4] + bytes(8) + blob[12:]))),
        "the block before's signature": (target.ledger.stored[target.last - 1][0].signature,),
        "the block before's cosignature": (ours, target.ledger.stored[target.last - 1][1][0]),
        "another ledger's cosignature": (ours, other.ledger.stored[target.last][1][0]),
    }  # fmt: skip
    for what, found in signatures.items():
        yield what, SignedHead(checkpoint, tuple(found)).text()
    for what, odd in {
        "CRLF": text.replace("\n", "\r\n"), "an empty line more": text + "\n",
        "no empty line": text.replace("\n\n", "\n"), "a space": text.replace("— ", "—  ", 1),
        "text before": "x\n" + text, "twice": text + text,
    }.items():  # fmt: skip
        yield what, odd


@pytest.mark.parametrize("verify", VERIFIERS)
def test_no_change_of_a_head_gets_by(
    targets: Made, tmp_path: Path, verify: str, record_property: Callable[[str, object], None]
) -> None:
    passed, misplaced, count, note = [], [], 0, tmp_path / "head"
    for target, other, _ in targets.values():
        for what, text in head_changes(target, other):
            note.write_bytes(text.encode())
            count += 1
            try:
                VERIFIERS[verify](target.folder, target.pinned, note)
                passed.append(f"{target.name}: {what}")
            except REFUSALS as refusal:
                # Reported: ledger.verify places a head's wrong signature in blocks.jsonl.
                placed = "head" in refusal.what or refusal.code in (
                    "NoteInvalid",
                    "SignatureInvalid",
                )
                if not placed:
                    misplaced.append(f"{target.name}: {what}: {refusal.what}")
    record_property("tampered", count)
    print(f"{count} tampered heads")
    assert passed == []
    assert misplaced == []


# one record's proof


def proof_changes(target: Target, other: Target) -> Iterator[tuple[str, str]]:
    index = target.ledger.stored[4][0].header.first
    text, theirs = prove(target.ledger, index), prove(other.ledger, index)
    for offset in sampled(len(text.encode()), 120, target.name):
        yield f"flip of byte {offset}", flipped(text.encode(), offset).decode(errors="replace")
    for end in sampled(len(text), 12, "cut"):
        yield f"cut at {end}", text[:end]
    proof = TlogProof.parse(text)
    extra: JSON = canonical.loads(proof.extra or b"")
    foreign = TlogProof.parse(theirs)
    last, hashes, lines = target.ledger.chain, proof.hashes, proof.signatures
    members, quorum = last.membership.members, last.membership.quorum
    stranger = cosign("stranger", keys_of("stranger")[Role.COSIGN], proof.checkpoint, CREATED)
    elsewhere = target.ledger.stored[1][0].entries[0].data.decode()
    changes: dict[str, TlogProof] = {
        "another index": replace(proof, index=index + 1),
        "an index beyond": replace(proof, index=10**6),
        "no path": replace(proof, hashes=()), "a shorter path": replace(proof, hashes=hashes[:-1]),
        "a longer path": replace(proof, hashes=(*hashes, hashes[0])),
        "a path backwards": replace(proof, hashes=hashes[::-1]),
        "another ledger's path": replace(proof, hashes=foreign.hashes),
        "another ledger's checkpoint": replace(
            proof, checkpoint=foreign.checkpoint, signatures=foreign.signatures),
        "another ledger's signatures": replace(proof, signatures=foreign.signatures),
        "another ledger's extra": replace(proof, extra=foreign.extra),
        "no extra": replace(proof, extra=None),
        "too few cosignatures": replace(proof, signatures=lines[:quorum]),
        "only the coordinator's": replace(proof, signatures=lines[:1]),
        "no coordinator's": replace(proof, signatures=lines[1:]),
        "the coordinator's last": replace(proof, signatures=(*lines[1:], lines[0])),
        "one cosignature twice": replace(proof, signatures=(*lines[:2], *lines[1:])),
        "a stranger's added": replace(proof, signatures=(*lines, stranger)),
        "the checkpoint before": replace(
            proof, checkpoint=target.ledger.stored[-2][0].checkpoint.text()),
        "the head before": replace(
            proof, checkpoint=target.ledger.stored[-2][0].checkpoint.text(),
            signatures=target.ledger.head(target.last - 1).lines),
    }  # fmt: skip
    if len(lines) > 2:
        changes["cosignatures backwards"] = replace(proof, signatures=(lines[0], *lines[:0:-1]))
    del members
    body = canonical.loads(extra["entry"].encode())
    edits: dict[str, Any] = {
        "another entry": {"entry": elsewhere},
        "another ledger's entry": {"entry": other.ledger.stored[4][0].entries[0].data.decode()},
        "another content": {"entry": canonical.dumps(
            {**body, "body": {**body["body"], "code": "JobUnknown"}}).decode()},
        "no signature": {"entry": canonical.dumps({**body, "signatures": []}).decode()},
        "a header": {"entry": target.ledger.header(4).data().decode()},
        "a spaced entry": {"entry": extra["entry"] + " "}, "null for the entry": {"entry": None},
        "another genesis": {"genesis": other.ledger.genesis().data.decode()},
        "null for the genesis": {"genesis": None}, "no changes": {"changes": []},
        "null for the changes": {"changes": None},
        "changes backwards": {"changes": extra["changes"][::-1]},
        "an approval fewer": {"changes": extra["changes"][:1]},
        "an entry that is no change": {"changes": [*extra["changes"], elsewhere]},
        "another version": {"v": 2}, "true for the version": {"v": True}, "a field more": {"a": 1},
        "the header before": {"header": canonical.loads(target.ledger.header(7).data())},
        "another ledger's header": {"header": canonical.loads(other.ledger.header(8).data())},
        "another time": {"header": {**extra["header"], "time": extra["header"]["time"] + 1}},
        "another membership": {"header": {
            **extra["header"], "membership": target.ledger.states[0].membership.digest}},
        "null for the header": {"header": None},
    }  # fmt: skip
    for what, edit in edits.items():
        changes[what] = replace(proof, extra=canonical.dumps({**extra, **edit}))
    for what, odd in odd_forms(proof.extra or b""):
        changes[f"extra with {what}"] = replace(proof, extra=odd)
    for what, changed in changes.items():
        yield what, changed.text()
    for what, odd_text in {
        "CRLF": text.replace("\n", "\r\n"), "a newline more": text + "\n", "text after": text + "x",
        "another version of the form": text.replace("@v1", "@v2", 1), "nothing": "",
    }.items():  # fmt: skip
        yield what, odd_text


@pytest.mark.parametrize("verify", VERIFIERS)
def test_no_change_of_a_proof_gets_by(
    targets: Made, tmp_path: Path, verify: str, record_property: Callable[[str, object], None]
) -> None:
    passed, crashed, count, file = [], [], 0, tmp_path / "proof.tlog-proof"
    for target, other, _ in targets.values():
        if target.first:
            continue
        file.write_text(prove(target.ledger, target.ledger.stored[4][0].header.first))
        VERIFIERS[verify](file, target.pinned, None)
        with pytest.raises(REFUSALS):
            VERIFIERS[verify](file, other.pinned, None)
        for what, text in proof_changes(target, other):
            file.write_bytes(text.encode())
            count += 1
            try:
                VERIFIERS[verify](file, target.pinned, None)
                passed.append(f"{target.name}: proof: {what}")
            except REFUSALS:
                pass
            except Exception as error:
                crashed.append(f"{target.name}: {what}: {error!r}")
    record_property("tampered", count)
    print(f"{count} tampered proofs")
    assert passed == []
    assert crashed == []


def test_the_matrix_names_every_artefact(targets: Made) -> None:
    """Who adds a file to exports adds its changes here."""
    for target, other, forged in targets.values():
        touched = {name for case in matrix(target, other, forged) for name in case.files}
        assert set(target.files) <= touched
