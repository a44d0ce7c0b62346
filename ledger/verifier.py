"""The second verifier of a MedPoLe ledger: one file that needs Python 3.11 and `cryptography`.

    python -I verify.py DIR --genesis FINGERPRINT [--head NOTE]
    python -I verify.py FILE.tlog-proof --genesis FINGERPRINT

Written from docs/ledger.md and the standards it names; it shares no code with the first verifier.
Read it from top to bottom: canonical JSON, keys, the tree, notes, the membership, the chain of
blocks, an export, a proof file. Nothing is trusted but the fingerprint of the genesis: the genesis
gives the first keys, and changes that a quorum approved give all others. Without a fingerprint
the answer is "consistent, NOT pinned": anybody could have founded such a ledger.

Not checked: forms of records beyond what is used here, how rounds came to their results, and what
`report.html` and `schemas.json` say (their digests are). Memory grows with the membership's
history and with the number of files, not with blocks and entries.

Exit status: 0 verified; 1 not, with the first thing that fails; 2 wrong usage.
"""

import argparse
import base64
import csv
import hashlib
import io
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

Json = dict[str, Any]

LONGEST_LINE = 2**24  # no entry or block comes near; a longer line is refused, not read
LARGEST_FILE = 2**28  # of a file that is read as a whole: manifest, start, head, proof

RESOLVE = {
    "FileMissing": "give the whole export as it was made, or the proof file",
    "FileUnreadable": "check the path, its permissions and the disk",
    "FileNotListed": "take out what the exporter did not sign for",
    "LineTorn": "the copy stopped early: copy the export again",
    "GenesisDiffers": "compare the fingerprint with the founders: this is another ledger",
    "HeadInvalid": "give the note as `hospital-agent ledger head` printed it",
    "HeadNotReached": "ask for an export up to that head: newer blocks were cut off here",
    "HeadBeforeExport": "ask for an export that holds the head's height",
    "HeadDiffers": "two histories: keep the export and the head, and tell every member",
}
AGAIN = "get it again from where it came; if it fails again, keep it and tell the members"


class Failure(Exception):
    """The first thing that does not hold: a stable code, what and where, how to resolve it."""

    def __init__(self, code: str, what: str, resolve: str = "") -> None:
        super().__init__(code, what)
        self.code, self.what, self.resolve = code, what, resolve or RESOLVE.get(code, AGAIN)


def need(holds: object, code: str, what: str) -> None:
    """Go on only if it holds."""
    if not holds:
        raise Failure(code, what)


def show(text: object) -> str:
    """A text from a file, fit for any terminal."""
    short = str(text)[:1000]
    return short if short.isascii() and short.isprintable() else ascii(short)[1:-1]


def digest(*parts: bytes) -> str:
    """H: SHA-256 of the parts, one after the other, in hex."""
    return hashlib.sha256(b"".join(parts)).hexdigest()


# ------------------------------------------------------------------ canonical JSON (RFC 8785)


def _integer(text: str) -> int:
    if len(text) > 17 or abs(int(text)) >= 2**53:
        raise ValueError("beyond 2^53 - 1")
    return int(text)


def _members(pairs: list[tuple[str, Any]]) -> Json:
    """RFC 8785, 3.2.3: sorted by their names as UTF-16; strictly, so that none stands twice."""
    names = [name.encode("utf-16-be") for name, _ in pairs]
    if any(name >= following for name, following in pairwise(names)):
        raise ValueError("members out of order, or twice")
    return dict(pairs)


def _no_float(text: str) -> Any:
    raise ValueError("a float")


_JSON = json.JSONDecoder(
    object_pairs_hook=_members, parse_int=_integer, parse_float=_no_float, parse_constant=_no_float
)


def canonical(value: Any) -> bytes:
    """RFC 8785, 3.2, of a parsed value (its members are in order, and it has no float)."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def parse(data: bytes) -> Any:
    """The value of canonical JSON; any other bytes for the same value are refused."""
    try:
        value = _JSON.decode(data.decode())
        if canonical(value) == data:
            return value
    except (ValueError, RecursionError):
        pass
    raise Failure("NotCanonical", "it is not canonical JSON (RFC 8785, without floats)")


def same(one: Any, other: Any) -> bool:
    """Equal as JSON, where `true` is not 1."""
    return canonical(one) == canonical(other)


HEX32, HEX64 = re.compile("[0-9a-f]{64}"), re.compile("[0-9a-f]{128}")  # digests, signatures
NAME = re.compile("[a-z0-9][a-z0-9-]{0,39}")
Form = Mapping[str, Any]  # of each member: a type, a pattern, or the one value it may have


def fits(value: Any, kind: Any) -> bool:
    """Whether a member is of its kind; `int` stands for one from 0, `list` for one of strings."""
    if kind is int:
        return type(value) is int and value >= 0
    if kind is list:
        return isinstance(value, list) and all(isinstance(text, str) for text in value)
    if isinstance(kind, re.Pattern):
        return isinstance(value, str) and kind.fullmatch(value) is not None
    return isinstance(value, kind) if isinstance(kind, type) else same(value, kind)


def formed(value: Any, what: str, form: Form) -> Json:
    """An object with exactly the members of the form, each of its kind."""
    exact = isinstance(value, dict) and value.keys() == form.keys()
    need(exact, "FormInvalid", f"{what} has not exactly the fields {', '.join(form)}")
    for name, kind in form.items():
        need(fits(value[name], kind), "FormInvalid", f"{name} of {what} is not of the form")
    return dict(value)


def base64_bytes(line: str) -> bytes | None:
    """RFC 4648, 4, in its one exact form; None for anything else."""
    try:
        data = base64.b64decode(line, validate=True)
    except ValueError:
        return None
    return data if base64.b64encode(data).decode() == line else None


# ------------------------------------------------------------------ keys (RFC 8032)

PUBLIC_KEY: Form = {"alg": "ed25519", "public": HEX32}
SIGNATURE: Form = {"alg": "ed25519", "key": str, "sig": HEX64}
COORDINATOR_ROLES: Form = {"record": dict, "cosign": dict}
ROLES: Form = {**COORDINATOR_ROLES, "vrf": dict, "api": dict, "approval": dict}
P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P


def has_small_order(y: int) -> bool:
    """Whether the order of a point with this y divides 8: it would verify what nobody signed.

    Orders 1, 2 and 4 have y = 1, -1 and 0. Twice a point of order 8 has y = 0, so x^2 + y^2 = 0
    (RFC 8032, 5.1.4), and on the curve -x^2 + y^2 = 1 + d x^2 y^2: that is d y^4 + 2 y^2 = 1.
    """
    return y in (0, 1, P - 1) or (D * pow(y, 4, P) + 2 * y * y - 1) % P == 0


@dataclass(frozen=True)
class Key:
    """An Ed25519 public key in its role."""

    role: str
    raw: bytes

    @staticmethod
    def of(role: str, value: Any) -> "Key":
        """The key of this form. RFC 8032, 5.1.3: y is below p."""
        raw = bytes.fromhex(formed(value, f"the {role} key", PUBLIC_KEY)["public"])
        y = int.from_bytes(raw, "little") % 2**255
        weak = y >= P or has_small_order(y)
        need(not weak, "KeyInvalid", f"the {role} key is of small order, or no point's encoding")
        return Key(role, raw)

    @cached_property
    def id(self) -> str:
        """How signatures name it."""
        return digest(self.role.encode(), b"\ned25519\n", self.raw)[:16]

    @cached_property
    def _public(self) -> Ed25519PublicKey:
        return Ed25519PublicKey.from_public_bytes(self.raw)

    def note_id(self, name: str, kind: int) -> bytes:
        """C2SP signed-note, "Signatures": the key ID for this type of signature."""
        return hashlib.sha256(name.encode() + bytes([10, kind]) + self.raw).digest()[:4]

    def signed(self, message: bytes, signature: bytes) -> bool:
        """Whether the signature holds."""
        try:
            self._public.verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True

    def check(self, value: Any, message: bytes) -> None:
        """A signature as it stands under entries and manifests."""
        value = formed(value, "a signature", SIGNATURE)
        need(value["key"] == self.id, "SignatureInvalid", f"another key than the {self.role} key")
        holds = self.signed(message, bytes.fromhex(value["sig"]))
        need(holds, "SignatureInvalid", f"the signature of the {self.role} key does not hold")


KeyRing = Mapping[str, Key]  # by role


def key_ring(value: Any, roles: Form) -> KeyRing:
    """Exactly one key for every role."""
    return {role: Key.of(role, key) for role, key in formed(value, "a key set", roles).items()}


# ------------------------------------------------------------------ the tree (RFC 6962, 2.1)


def leaf_hash(data: bytes) -> bytes:
    """RFC 6962, 2.1: a leaf."""
    return hashlib.sha256(b"\0" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """RFC 6962, 2.1: an inner node."""
    return hashlib.sha256(b"\1" + left + right).digest()


@dataclass
class Tree:
    """A tree that grows, as the roots of its perfect subtrees, largest first."""

    size: int = 0
    roots: list[bytes] = field(default_factory=list)

    def append(self, node: bytes) -> None:
        """Add a leaf: equal subtrees merge as carries do in binary addition."""
        carry = self.size
        while carry & 1:
            node, carry = node_hash(self.roots.pop(), node), carry >> 1
        self.roots.append(node)
        self.size += 1

    @property
    def root(self) -> bytes:
        """The subtrees, joined from the smallest."""
        *larger, root = self.roots
        for left in reversed(larger):
            root = node_hash(left, root)
        return root


def root_of_path(leaf: bytes, index: int, size: int, path: Iterable[bytes]) -> bytes | None:
    """RFC 9162, 2.1.3.2: where an inclusion path leads; None if it has the wrong length."""
    place, last, root = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            return None
        if place & 1 or place == last:
            root = node_hash(sibling, root)
            while not place & 1 and place != 0:
                place, last = place >> 1, last >> 1
        else:
            root = node_hash(root, sibling)
        place, last = place >> 1, last >> 1
    return root if last == 0 and index < size else None


# ------------------------------------------------------------------ notes (C2SP)


def checkpoint_text(header: Json, root: bytes) -> str:
    """C2SP tlog-checkpoint, "Note text": of the tree with this header in it."""
    return (
        f"medpole/{header['ledger']}\n{header['size'] + 1}\n{base64.b64encode(root).decode()}\n"
        f"block {header['epoch']} {header['height']} {block_hash(header)}\n"
    )


def block_hash(header: Json) -> str:
    """The hash by which a block is named."""
    return digest(b"medpole/block/v1\n", canonical(header))


def signature_line(line: str) -> tuple[str, bytes]:
    """C2SP signed-note, "Signatures": the key's name; key ID and signature."""
    match = re.fullmatch("— ([^ +]+) ([A-Za-z0-9+/=]+)", line)
    blob = base64_bytes(match[2]) if match else None
    if match is None or blob is None:
        raise Failure("NoteInvalid", "a line is not the signature line of a note")
    return match[1], blob


def check_note(line: str, ledger: str, key: Key, note: str) -> None:
    """C2SP signed-note, type 0x01: the coordinator's signature."""
    name, blob = signature_line(line)
    right = name == f"medpole/{ledger}" and blob[:4] == key.note_id(name, 1)
    holds = right and key.signed(note.encode(), blob[4:])
    need(holds, "NoteInvalid", "it is not the coordinator's signature of this checkpoint")


def cosigner(line: str, members: Mapping[str, "Institution"], note: str) -> str:
    """C2SP tlog-cosignature, type 0x04: who co-signed, after verification."""
    name, blob = signature_line(line)
    need(name in members, "NoteInvalid", f"{show(name)} is no member in force, but co-signs")
    key, time = members[name].keys["cosign"], int.from_bytes(blob[4:12], "big")
    right = blob[:4] == key.note_id(name, 4) and time < 2**63
    holds = right and key.signed(f"cosignature/v1\ntime {time}\n{note}".encode(), blob[12:])
    need(holds, "NoteInvalid", f"the cosignature of {name} does not hold")
    return name


def split_note(data: bytes) -> tuple[str, list[str]]:
    """C2SP signed-note, "Format": the text, and the signature lines after the last empty line."""
    try:
        note, empty, lines = data.decode().rpartition("\n\n")
    except UnicodeDecodeError:
        raise Failure("NoteInvalid", "it is not UTF-8") from None
    need(empty and lines.endswith("\n"), "NoteInvalid", "it is not a signed note, or a torn one")
    return note + "\n", lines[:-1].split("\n")


def quorum(n: int) -> int:
    """How many of n members make a block final: any two quorums share an honest member."""
    f = (n - 1) // 3
    return (n + f) // 2 + 1


# ------------------------------------------------------------------ entries and membership


@dataclass(frozen=True)
class Entry:
    """A record's body, and the signatures under it."""

    data: bytes
    body: Json
    signatures: list[Any]

    @staticmethod
    def of(data: bytes) -> "Entry":
        """The entry of these bytes."""
        entry = formed(parse(data), "the entry", {"body": dict, "signatures": object})
        body, signatures = entry["body"], entry["signatures"]
        formed({name: body.get(name) for name in BODY}, "the body", BODY)
        need(isinstance(signatures, list), "FormInvalid", "signatures is not a list")
        return Entry(data, body, signatures)

    @cached_property
    def signed_bytes(self) -> bytes:
        """The body's bytes as they stand in the entry, since all of it is canonical."""
        return canonical(self.body)

    def check(self, *keys: Key) -> None:
        """Exactly these keys signed it, in this order."""
        exactly = len(self.signatures) == len(keys)
        need(exactly, "SignatureInvalid", f"it has not exactly {len(keys)} signature(s)")
        for signature, key in zip(self.signatures, keys, strict=True):
            key.check(signature, b"medpole/record/v1\n" + self.signed_bytes)


APPROVAL: Form = {"change": HEX32, "approver": HEX32}  # and what every body has
BODY: Form = {"v": 1, "type": str, "author": str}  # and more, by the type
BY_COORDINATOR = {"job", "result", "job-end", "change", "erasure"}
BY_MEMBER = {
    "commitment", "refusal", "close", "proof", "verdict", "change", "erasure", "approval",
    "evaluation",
}  # fmt: skip
MEMBER: Form = {"id": NAME, "title": str, "keys": dict, "possession": dict}
ACTIONS: Mapping[Any, Form] = {
    "enrol": {"member": dict, "consent": HEX64},
    "rotate": {"member": dict, "consent": HEX64, "consent_of_old": HEX64},
    "rotate-coordinator": {"keys": dict, "consent": HEX64, "consent_of_old": HEX64},
    "suspend": {"institution": NAME},
    "reinstate": {"institution": NAME},
    "remove": {"institution": NAME},
    "set-policy": {"policy": dict},
}
RULES = "MembershipInvalid"


@dataclass(frozen=True)
class Institution:
    """What stands on the ledger of an institution that was not removed."""

    title: str
    keys: KeyRing
    suspended: bool = False


def check_possession(member: Json, keys: KeyRing) -> None:
    """Every key signed that it is held; but for the VRF key, whose proof the members check."""
    shown = formed(member["possession"], "the possession", dict.fromkeys(ROLES, str))
    listed = "".join(f"{role} ed25519 {keys[role].raw.hex()}\n" for role in sorted(keys))
    for role in set(keys) - {"vrf"}:
        message = f"medpole/possession/v1\n{member['id']}\n{role}\n{listed}".encode()
        try:
            held = keys[role].signed(message, bytes.fromhex(shown[role]))
        except ValueError:
            held = False
        need(held, RULES, f"the {role} key is not shown to be held")


class Membership:
    """Who is in force, by which keys; and all ids and public keys that were ever given."""

    def __init__(self, ledger: str, genesis: Json) -> None:
        """That of the genesis."""
        self.ledger = ledger
        self.digest = digest(f"medpole/membership/v1\n{ledger}\n\n".encode())
        self.institutions: dict[str, Institution] = {}
        self.given: set[str | bytes] = {"coordinator"}
        self.coordinator = self._give(genesis.get("coordinator"), COORDINATOR_ROLES)
        founders = genesis.get("founders")
        need(founders and isinstance(founders, list), "FormInvalid", "it names no founders")
        for founder in founders or ():
            self._enrol(founder)
        self.members = self.institutions

    def changed(self, change: Json, change_digest: str) -> "Membership":
        """Another membership: this one with the change's actions, applied in order."""
        actions, after = change.get("actions"), copy(self)
        some = isinstance(actions, list) and 1 <= len(actions) <= 100
        need(some, "FormInvalid", "a change has not 1 to 100 actions")
        after.institutions, after.given = dict(self.institutions), set(self.given)
        for action in actions or ():
            after._act(action)
        after.members = {n: i for n, i in after.institutions.items() if not i.suspended}
        need(after.members, RULES, "no member would be left")
        chained = f"medpole/membership/v1\n{self.digest}\n{change_digest}\n"
        after.digest = digest(chained.encode())
        return after

    def _act(self, action: Any) -> None:
        kind = action.get("kind") if isinstance(action, dict) else None
        need(isinstance(kind, str) and kind in ACTIONS, "FormInvalid", "no such action")
        action = formed(action, f"the {kind}", {"kind": kind, **ACTIONS[kind]})
        match kind:
            case "enrol":
                self._enrol(action["member"])
                new = self.institutions[action["member"]["id"]].keys["record"]
                self._check_consent(new, action["member"], action["consent"])
            case "rotate":
                member = formed(action["member"], "the member", MEMBER)
                old = self._known(member["id"])
                need(old.title == member["title"], RULES, "a rotation keeps id and title")
                keys = self._give(member["keys"], ROLES, old.keys)
                check_possession(member, keys)
                self._check_consent(keys["record"], member, action["consent"])
                self._check_consent(old.keys["record"], member, action["consent_of_old"])
                self.institutions[member["id"]] = replace(old, keys=keys)
            case "rotate-coordinator":
                before = self.coordinator
                keys = self._give(action["keys"], COORDINATOR_ROLES, before)
                self._check_consent(keys["record"], action["keys"], action["consent"])
                self._check_consent(before["record"], action["keys"], action["consent_of_old"])
                self.coordinator = keys
            case "suspend" | "reinstate":
                old = self._known(action["institution"])
                need(old.suspended == (kind == "reinstate"), RULES, f"{kind} changes nothing")
                new_state = replace(old, suspended=kind == "suspend")
                self.institutions[action["institution"]] = new_state
            case "remove":
                self._known(action["institution"])
                del self.institutions[action["institution"]]

    def _enrol(self, form: Any) -> None:
        member = formed(form, "an institution", MEMBER)
        need(member["id"] not in self.given, RULES, "an id is given twice")
        self.given.add(member["id"])
        keys = self._give(member["keys"], ROLES)
        check_possession(member, keys)
        self.institutions[member["id"]] = Institution(member["title"], keys)

    def _give(self, form: Any, roles: Form, had: KeyRing | None = None) -> KeyRing:
        """Keys that were never given before, but for those that stay in their role."""
        keys = key_ring(form, roles)
        new = [key for role, key in keys.items() if not had or key != had[role]]
        need(new, RULES, "a rotation gives no new key")
        for key in new:
            need(key.raw not in self.given, RULES, "a public key is given twice")
            self.given.add(key.raw)
        return keys

    def _known(self, name: str) -> Institution:
        need(name in self.institutions, RULES, f"{name} is no institution of this ledger")
        return self.institutions[name]

    def _check_consent(self, key: Key, content: Any, consent: str) -> None:
        message = f"medpole/consent/v1\n{self.ledger}\n".encode() + canonical(content)
        need(key.signed(message, bytes.fromhex(consent)), RULES, "a consent does not hold")

    def signer(self, body: Json) -> Key:
        """The key that must sign this record, if its author may write it."""
        kind, author = body["type"], body["author"]
        need(kind in BY_COORDINATOR | BY_MEMBER, "FormInvalid", f"no such type: {show(kind)}")
        if author == "coordinator":
            need(kind in BY_COORDINATOR, "AuthorInvalid", f"the coordinator writes no {kind}")
            return self.coordinator["record"]
        need(kind in BY_MEMBER, "AuthorInvalid", f"only the coordinator writes a {kind}")
        need(author in self.members, "AuthorInvalid", f"{show(author)} is no member in force")
        return self.members[author].keys["approval" if kind == "approval" else "record"]

    @property
    def quorum(self) -> int:
        """How many of its members make a block final."""
        return quorum(len(self.members))

    def check_certificate(self, note: str, lines: list[str]) -> int:
        """A quorum co-signed: sorted lines, all by members in force, each once. How many."""
        need(lines == sorted(lines), "NoteInvalid", "the cosignatures are not sorted")
        names = {cosigner(line, self.members, note) for line in lines}
        need(len(names) == len(lines), "NoteInvalid", "a member co-signed twice")
        enough = f"{len(names)} of {len(self.members)} members co-signed, {self.quorum} must"
        need(len(names) >= self.quorum, "QuorumMissing", enough)
        return len(names)


# ------------------------------------------------------------------ the chain of blocks

HEADER: Form = {
    "v": 1, "type": "block", "ledger": HEX32, "epoch": 0, "height": int, "prev": HEX32,
    "first": int, "count": int, "size": int, "root": HEX32, "membership": HEX32,
    "parent_cert": HEX32, "time": int,
}  # fmt: skip


class Chain:
    """A ledger as far as it was followed."""

    def __init__(self, genesis: bytes, pinned: str | None) -> None:
        """Found it: the genesis gives the ledger's id and the first keys."""
        entry = Entry.of(genesis)
        founds = entry.body["type"] == "genesis" and entry.body["author"] == "coordinator"
        need(founds, "GenesisInvalid", "the first entry is not the coordinator's genesis")
        self.genesis, self.ledger = genesis, digest(b"medpole/genesis/v1\n", entry.signed_bytes)
        same_ledger = pinned in (None, self.ledger)
        need(same_ledger, "GenesisDiffers", f"the genesis has the fingerprint {self.ledger}")
        founded = Membership(self.ledger, entry.body)
        founders = (institution.keys["record"] for institution in founded.institutions.values())
        entry.check(founded.coordinator["record"], *founders)

        self.memberships = [founded]
        self.open: dict[str, tuple[Json, set[str]]] = {}  # by digest: a change, who approved it
        self.decided: Membership | None = None
        self.approvers: set[str] = set()
        self.erased: set[str] = set()
        self.tree, self.height, self.time, self.prev = Tree(), -1, 0, "0" * 64
        self.parent, self.checkpoint, self.certificate = founded, "", list[str]()

    @property
    def membership(self) -> Membership:
        """That in force at the next block."""
        return self.memberships[-1]

    def enter(self, entry: Entry) -> None:
        """An entry of the next block: signed by its author, and what it does to the membership."""
        body = entry.body
        need(body.get("ledger") == self.ledger, "FormInvalid", "the record is of another ledger")
        entry.check(self.membership.signer(body))
        if body["type"] == "erasure":
            self.erased.add(str(body.get("disclosure")))
        if body["type"] in ("change", "approval"):
            need(self.decided is None, RULES, "another change was decided in this block")
            propose_or_approve = self._propose if body["type"] == "change" else self._approve
            propose_or_approve(entry)

    def _propose(self, entry: Entry) -> None:
        based = entry.body.get("base") == self.membership.digest
        need(based, RULES, "the change is not based on the membership in force")
        change_digest = digest(b"medpole/change/v1\n", entry.signed_bytes)
        need(change_digest not in self.open, RULES, "the change is open already")
        self.membership.changed(entry.body, change_digest)
        self.open[change_digest] = entry.body, set()

    def _approve(self, entry: Entry) -> None:
        named = {name: entry.body.get(name) for name in APPROVAL}
        names = formed(named, "the approval", APPROVAL)
        need(names["change"] in self.open, RULES, "the approval names no open change")
        change, approved_by = self.open[names["change"]]
        need(entry.body["author"] not in approved_by, RULES, "a member approves twice")
        approved_by.add(entry.body["author"])
        self.approvers.add(names["approver"])
        if len(approved_by) == self.membership.quorum:
            self.decided = self.membership.changed(change, names["change"])

    def end_block(self) -> None:
        """What was decided is in force from the next block; all other open changes lapse."""
        if self.decided is not None:
            self.memberships.append(self.decided)
            self.open, self.decided = {}, None

    def replay(self, changes: Sequence[str]) -> None:
        """Changes and approvals of blocks that are not here: none follows a decision in its block.

        That is why a decided change may take effect at once.
        """
        for entry in (Entry.of(change.encode()) for change in changes):
            of_membership = entry.body["type"] in ("change", "approval")
            need(of_membership, RULES, "an entry is no change and no approval")
            self.enter(entry)
            self.end_block()

    def resume(self, header: Json, roots: list[bytes]) -> None:
        """Take a header and subtrees as the state; the first block bears them out or fails."""
        need(header["ledger"] == self.ledger, "HeaderInvalid", "it is of another ledger")
        self.tree = Tree(header["size"] + 1, roots)
        perfect = len(roots) == self.tree.size.bit_count()
        need(perfect, "TreeInvalid", f"a tree of {self.tree.size} has not {len(roots)} subtrees")
        known = [m for m in self.memberships[-2:] if m.digest == header["membership"]]
        need(known, RULES, "the changes do not give the membership that the header names")
        self.parent, self.height, self.time = known[0], header["height"], header["time"]
        self.prev, self.checkpoint = block_hash(header), checkpoint_text(header, self.tree.root)

    def open_block(self, header: Json, parent_cert: list[str]) -> None:
        """A header follows from the one before, whose certificate the block carries."""
        certificate = "\n".join(parent_cert).encode()
        derived = {
            "ledger": self.ledger,
            "height": self.height + 1,
            "prev": self.prev,
            "first": self.tree.size,
            "size": self.tree.size + header["count"],
            "membership": self.membership.digest,
            "parent_cert": digest(b"medpole/certificate/v1\n", certificate),
        }
        for name, value in derived.items():
            need(header[name] == value, "HeaderInvalid", f"{name} of the header is not {value}")
        need(header["time"] >= self.time, "HeaderInvalid", "its time is below its parent's")
        if header["height"] == 0:
            alone = header["count"] == 1 and not parent_cert
            need(alone, "HeaderInvalid", "block 0 has a parent, or not exactly the genesis")
        elif parent_cert != self.certificate:  # else it was checked as the parent's own
            self.parent.check_certificate(self.checkpoint, parent_cert)

    def add(self, data: bytes) -> Entry:
        """The block's next entry."""
        entry = Entry.of(data)
        if self.height >= 0:
            self.enter(entry)
        else:
            need(data == self.genesis, "GenesisInvalid", "block 0 does not hold the genesis")
        self.tree.append(leaf_hash(data))
        return entry

    def close_block(self, header: Json, note: str, signature: str, cosignatures: list[str]) -> int:
        """The entries give the root, the header the checkpoint, and a quorum co-signed it."""
        need(
            header["root"] == self.tree.root.hex(),
            "TreeInvalid",
            "the entries do not give the root of the header",
        )
        self.tree.append(leaf_hash(canonical(header)))
        self.checkpoint = checkpoint_text(header, self.tree.root)
        need(note == self.checkpoint, "NoteInvalid", "the checkpoint is not that of this block")
        check_note(signature, self.ledger, self.membership.coordinator["cosign"], note)
        cosigners = self.membership.check_certificate(note, cosignatures)
        self.prev, self.height, self.time = block_hash(header), header["height"], header["time"]
        self.parent, self.certificate = self.membership, cosignatures
        self.end_block()
        return cosigners


# ------------------------------------------------------------------ an export


@dataclass
class Progress:
    """Where verification is, and how far it got."""

    where: str
    blocks: int = 0
    entries: int = 0


@contextmanager
def opened(path: Path) -> Iterator[io.BufferedReader]:
    """A regular file, to be read."""
    need(path.exists(), "FileMissing", "there is no such file")
    need(path.is_file(), "FileUnreadable", "it is no file")
    with path.open("rb") as stream:
        yield stream


def read_whole(path: Path) -> bytes:
    """All bytes of a file that has to fit into memory."""
    with opened(path) as stream:
        fits_in = path.stat().st_size <= LARGEST_FILE
        need(fits_in, "FileUnreadable", f"it has more than {LARGEST_FILE} bytes")
        return stream.read()


def next_line(stream: io.BufferedReader) -> bytes | None:
    """The next line without its newline; None at the end."""
    line = stream.readline(LONGEST_LINE + 1)
    need(len(line) <= LONGEST_LINE, "FileUnreadable", f"a line has more than {LONGEST_LINE} bytes")
    need(not line or line.endswith(b"\n"), "LineTorn", "the file ends within a line")
    return line[:-1] if line else None


HEAD = re.compile(
    r"medpole/([0-9a-f]{64})\n[0-9]{1,16}\n[^\n]{44}\nblock 0 ([0-9]{1,16}) [0-9a-f]{64}\n"
)


class Head:
    """A head that is known from elsewhere: the export must hold its block."""

    def __init__(self, data: bytes) -> None:
        """C2SP tlog-checkpoint, with the extension line that names a block."""
        self.note, self.lines = split_note(data)
        match = HEAD.fullmatch(self.note)
        if match is None:
            raise Failure("HeadInvalid", "it is not the checkpoint of a ledger")
        self.ledger, self.height = match[1], int(match[2])

    def check(self, checkpoint: str, membership: Membership) -> None:
        """It is this block's, signed by the coordinator and otherwise by members in force."""
        need(self.note == checkpoint, "HeadDiffers", f"the head is of another block {self.height}")
        check_note(self.lines[0], self.ledger, membership.coordinator["cosign"], self.note)
        for line in self.lines[1:]:
            cosigner(line, membership.members, self.note)


CSV_HEAD = ("index", "height", "type", "author", "job", "round", "code", "leaf_hash")
MANIFEST: Form = {
    "v": 1, "type": "export", "ledger": HEX32, "exporter": str, "first_height": int,
    "last_height": int, "entries": int, "complete": str, "files": dict,
}  # fmt: skip
FILE: Form = {"sha256": HEX32, "bytes": int}
START: Form = {"v": 1, "genesis": str, "changes": list, "header": dict, "frontier": list}
BLOCK: Form = {
    "header": dict, "checkpoint": str, "signature": str, "parent_cert": list, "cosignatures": list,
}  # fmt: skip
PARTS = {
    "blocks.jsonl", "disclosures.jsonl", "entries.csv", "entries.jsonl", "report.html",
    "schemas.json",
}  # fmt: skip
FURTHER = re.compile("(content|models)/[A-Za-z0-9_-][A-Za-z0-9._-]*")


def csv_row(values: Iterable[object]) -> bytes:
    """A row of `entries.csv`: RFC 4180, but that rows end in a newline alone."""
    row = io.StringIO()
    csv.writer(row, lineterminator="\n").writerow(values)
    return row.getvalue().encode()


class Export:
    """A folder, followed entry by entry."""

    def __init__(self, folder: Path, pinned: str | None, head: Head | None, at: Progress) -> None:
        self.folder, self.head, self.at = folder, head, at
        self.manifest = self._manifest()
        first = self.manifest["first_height"]
        self.chain = self._resumed(pinned, first - 1) if first else self._begun(pinned)
        if head:
            need(head.ledger == self.chain.ledger, "HeadDiffers", "the head is of another ledger")
            held = head.height >= first - 1
            need(held, "HeadBeforeExport", f"it begins at height {first}, after the head's block")
            if head.height == first - 1:
                head.check(self.chain.checkpoint, self.chain.parent)

    def _manifest(self) -> Json:
        """What the export says that it holds; `_check_manifest` compares it with what it does."""
        manifest = formed(parse(read_whole(self._path("manifest.json"))), "the manifest", MANIFEST)
        for name, file in manifest["files"].items():
            formed(file, show(name), FILE)
        parts = PARTS | ({"start.json"} if manifest["first_height"] else set())
        lacking = show(", ".join(sorted(parts - manifest["files"].keys())))
        need(not lacking, "ManifestInvalid", f"it does not list {lacking}")
        for name in manifest["files"].keys() - parts:
            need(FURTHER.fullmatch(name), "ManifestInvalid", f"{show(name)} is no export's file")
        return manifest

    def _begun(self, pinned: str | None) -> Chain:
        self.at.where = "entries.jsonl, line 1, height 0, entry index 0"
        with opened(self.folder / "entries.jsonl") as stream:
            return Chain(next_line(stream) or b"", pinned)

    def _resumed(self, pinned: str | None, height: int) -> Chain:
        start = formed(parse(read_whole(self._path("start.json"))), "the start", START)
        chain = Chain(start["genesis"].encode(), pinned)
        chain.replay(start["changes"])
        header = formed(start["header"], "the header", {**HEADER, "height": height})
        roots = start["frontier"]
        need(all(fits(root, HEX32) for root in roots), "FormInvalid", "a subtree is no digest")
        chain.resume(header, [bytes.fromhex(root) for root in roots])
        return chain

    def _path(self, name: str) -> Path:
        self.at.where = name
        return self.folder / name

    def verify(self) -> Json:
        """All blocks; then what is made from them; then the manifest and its signature."""
        fewest = self._check_blocks()
        if self.head:
            reached = self.head.height <= self.chain.height
            need(reached, "HeadNotReached", f"the head is of height {self.head.height}")
        self._check_disclosures()
        self._check_files()
        self._check_manifest()
        membership = self.chain.membership
        return {
            "ledger": self.chain.ledger,
            "first_height": self.manifest["first_height"],
            "last_height": self.chain.height,
            "blocks": self.at.blocks,
            "entries": self.at.entries,
            "members": len(membership.members),
            "quorum": membership.quorum,
            "fewest_cosigners": fewest,
            "exporter": self.manifest["exporter"],
            "complete": self.manifest["complete"],
            "head": self.head.height if self.head else None,
        }

    def _check_blocks(self) -> int:
        """Blocks, entries and rows side by side; how many co-signed the block with the fewest."""
        at, fewest = self.at, sys.maxsize
        with (
            opened(self._path("blocks.jsonl")) as blocks,
            opened(self._path("entries.jsonl")) as entries,
            opened(self._path("entries.csv")) as rows,
        ):
            self._check_row(rows, csv_row(CSV_HEAD), "entries.csv, line 1")
            while True:
                at.where = f"blocks.jsonl, line {at.blocks + 1}, height {self.chain.height + 1}"
                line = next_line(blocks)
                if line is None:
                    break
                fewest = min(fewest, self._check_block(line, entries, rows))
                at.blocks += 1
            need(at.blocks, "BlocksMissing", "there is no block")
            at.where = f"entries.jsonl, line {at.entries + 1}"
            need(next_line(entries) is None, "EntriesLeft", "an entry is in no block")
            at.where = f"entries.csv, line {at.entries + 2}"
            need(not rows.read(1), "RenderingDiffers", "a row is of no entry")
        return fewest

    def _check_block(self, line: bytes, entries: io.BufferedReader, rows: io.BufferedReader) -> int:
        at, chain, where = self.at, self.chain, self.at.where
        block = formed(parse(line), "the block", BLOCK)
        header = formed(block["header"], "the header", HEADER)
        chain.open_block(header, block["parent_cert"])
        height, membership = header["height"], chain.membership
        for index in range(header["first"], header["size"]):
            place = f"height {height}, entry index {index}"
            at.where = f"entries.jsonl, line {at.entries + 1}, {place}"
            data = next_line(entries)
            need(data is not None, "EntriesMissing", "the block holds more entries than there are")
            entry = chain.add(data or b"")
            body = {name: entry.body.get(name, "") for name in CSV_HEAD[2:-1]}
            plain = all(fits(value, str) or fits(value, int) for value in body.values())
            need(plain, "FormInvalid", "its job, round or code is not of the form")
            row = csv_row((index, height, *body.values(), leaf_hash(entry.data).hex()))
            self._check_row(rows, row, f"entries.csv, line {at.entries + 2}, {place}")
            at.entries += 1
        at.where = where
        cosigners = chain.close_block(
            header, block["checkpoint"], block["signature"], block["cosignatures"]
        )
        if self.head and self.head.height == height:
            self.head.check(chain.checkpoint, membership)
        return cosigners

    def _check_row(self, rows: io.BufferedReader, row: bytes, where: str) -> None:
        self.at.where = where
        need(rows.read(len(row)) == row, "RenderingDiffers", "the row is not that of its entry")

    def _check_disclosures(self) -> None:
        """Each opens an approver's digest that was not erased; they are sorted by digest."""
        last, chain = "", self.chain
        with opened(self._path("disclosures.jsonl")) as stream:
            for number in range(1, sys.maxsize):
                self.at.where = f"disclosures.jsonl, line {number}"
                line = next_line(stream)
                if line is None:
                    break
                opening = formed(parse(line), "the disclosure", {"salt": HEX32, "value": str})
                salt, value = bytes.fromhex(opening["salt"]), opening["value"].encode()
                named = digest(b"medpole/disclosure/v1\n", salt, value)
                need(named in chain.approvers, "DisclosureInvalid", "no approval names its digest")
                need(named not in chain.erased, "DisclosureInvalid", "its digest was erased")
                need(named > last, "DisclosureInvalid", "they are not sorted by digest")
                last = named

    def _check_files(self) -> None:
        """Every file is as the manifest says, and there is no other."""
        files = self.manifest["files"]
        for name, file in files.items():
            with opened(self._path(name)) as stream:
                sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
                right = (sha256, stream.tell()) == (file["sha256"], file["bytes"])
            need(right, "FileDiffers", "its size or SHA-256 is not what the manifest says")
        folders = {name.split("/")[0] for name in files if "/" in name}
        known = files.keys() | folders | {"manifest.json", "manifest.sig"}
        for prefix in ("", *(f"{folder}/" for folder in sorted(folders))):
            for item in os.scandir(self.folder / prefix):
                self.at.where = show(prefix + item.name)
                need(prefix + item.name in known, "FileNotListed", "the manifest does not list it")

    def _check_manifest(self) -> None:
        """It says what the blocks say, and the exporter's record key of the end signed it."""
        manifest, chain, at = self.manifest, self.chain, self.at
        at.where = "manifest.json"
        derived = {"ledger": chain.ledger, "last_height": chain.height, "entries": at.entries}
        for name, value in derived.items():
            need(manifest[name] == value, "ManifestInvalid", f"{name} is not {value}")
        exporter, membership = manifest["exporter"], chain.membership
        keys = {name: institution.keys for name, institution in membership.institutions.items()}
        keys["coordinator"] = membership.coordinator
        need(exporter in keys, "ManifestInvalid", f"{show(exporter)} is not on the ledger")
        signature = parse(read_whole(self._path("manifest.sig")))
        keys[exporter]["record"].check(signature, b"medpole/export/v1\n" + canonical(manifest))


# ------------------------------------------------------------------ a proof file (C2SP tlog-proof)


PROOF = re.compile(
    r"c2sp\.org/tlog-proof@v1\nextra ([^\n]*)\nindex (0|[1-9][0-9]{0,15})((?:\n[^\n]+)*)"
)
EXTRA: Form = {"v": 1, "genesis": str, "changes": list, "header": dict, "entry": str}


def verify_proof(data: bytes, pinned: str | None) -> Json:
    """C2SP tlog-proof, "Format": an entry is in the tree that a quorum co-signed."""
    signed, lines = split_note(data)
    proof, _, note = signed.rpartition("\n\n")
    match = PROOF.fullmatch(proof)
    if match is None:
        raise Failure("FormInvalid", "it is not a tlog-proof with extra, index and path")
    path = [base64_bytes(line) or b"" for line in match[3].split("\n")[1:]]
    need(all(len(node) == 32 for node in path), "FormInvalid", "a line of the path is no hash")
    extra = formed(parse(base64_bytes(match[1]) or b""), "the extra", EXTRA)
    chain = Chain(extra["genesis"].encode(), pinned)
    chain.replay(extra["changes"])
    membership, header = chain.membership, formed(extra["header"], "the header", HEADER)
    need(header["ledger"] == chain.ledger, "HeaderInvalid", "the header is of another ledger")
    named = header["membership"] == membership.digest
    need(named, RULES, "the changes do not give the membership that the header names")

    entry, index = Entry.of(extra["entry"].encode()), int(match[2])
    root = root_of_path(leaf_hash(entry.data), index, header["size"] + 1, path)
    need(root is not None, "NotIncluded", "the path is not one for this index and size")
    included = note == checkpoint_text(header, root or b"")
    need(included, "NotIncluded", "entry, index, path and header do not give the checkpoint")
    check_note(lines[0], chain.ledger, membership.coordinator["cosign"], note)
    cosigners = membership.check_certificate(note, lines[1:])
    if entry.data != chain.genesis:
        check_author(entry, chain)
    return {
        "ledger": chain.ledger,
        "record": entry.body["type"],
        "author": entry.body["author"],
        "index": index,
        "height": header["height"],
        "members": len(membership.members),
        "quorum": membership.quorum,
        "fewest_cosigners": cosigners,
    }


def check_author(entry: Entry, chain: Chain) -> None:
    """Signed with the key that its author had in one of the memberships up to the checkpoint."""
    need(entry.body.get("ledger") == chain.ledger, "FormInvalid", "it is of another ledger")
    for membership in chain.memberships:
        try:
            return entry.check(membership.signer(entry.body))
        except Failure as why:
            failure = why
    raise failure


# ------------------------------------------------------------------ the command


def verify(
    path: str | Path, genesis: str | None = None, head: str | Path | None = None
) -> dict[str, Any]:
    """Verify an export's folder, or a proof file, and say what was found.

    Raises:
        Failure: the first thing that does not hold, where, and how far verification got.
    """
    path, at = Path(path), Progress(show(path))
    try:
        if path.is_dir():
            at.where = show(head)
            known = Head(read_whole(Path(head))) if head is not None else None
            result = Export(path, genesis, known, at).verify()
        else:
            need(head is None, "HeadInvalid", "a head is for an export, not for a proof file")
            result = verify_proof(read_whole(path), genesis)
    except OSError as error:
        raise _placed(Failure("FileUnreadable", show(error.strerror)), at) from None
    except RecursionError:
        raise _placed(Failure("NotCanonical", "it is nested too deeply"), at) from None
    except Failure as failure:
        raise _placed(failure, at) from None
    alone = result["members"] == 1 or result["fewest_cosigners"] == 1
    witness = {"note": "no independent witness: one institution co-signed alone"} if alone else {}
    return {"pinned": genesis is not None, **result, **witness}


def _placed(failure: Failure, at: Progress) -> Failure:
    reached = f"verified before it: {at.blocks} blocks, {at.entries} entries"
    return Failure(failure.code, f"{failure.what}, {at.where}, {reached}", failure.resolve)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit status."""
    parser = argparse.ArgumentParser(description="Verify a MedPoLe ledger's export, or a proof.")
    parser.add_argument("path", metavar="DIR|FILE.tlog-proof")
    parser.add_argument("--genesis", metavar="FINGERPRINT", help="the ledger's id, to pin it")
    parser.add_argument("--head", metavar="NOTE", help="a file: a head known from elsewhere")
    parser.add_argument("--format", choices=("table", "json"), default="table")
    given = parser.parse_args(arguments)
    if given.genesis is not None and not fits(given.genesis, HEX32):
        parser.error("--genesis: a fingerprint is 64 lower-case hex digits")
    if given.head is not None and Path(given.path).is_file():
        parser.error("--head: is for an export's folder, not for a proof file")
    try:
        result = verify(given.path, given.genesis, given.head)
    except Failure as failure:
        if given.format == "json":
            print(json.dumps({"error": vars(failure)}))
        print(f"error[{failure.code}]: {failure.what}", file=sys.stderr)
        print(f"how to resolve: {failure.resolve}", file=sys.stderr)
        return 1
    if given.format == "json":
        print(json.dumps(result))
        return 0
    pinned = "and pinned" if result.pop("pinned") else "NOT pinned"
    if result.get("head", 0) is None:
        result["head"] = "not given: newer blocks may have been cut off"
    for name, value in {"verified": f"consistent, {pinned}", **result}.items():
        print(f"{name.replace('_', ' '):18}{show(value)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
