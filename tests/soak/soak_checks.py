"""What must hold after any crash, read from the files and the database as they lie there.

A line below is one cosignature, as text: two lines by one member at one height would be two
signatures. Members' files are read with SQL of our own, not through the code under test.
"""

import contextlib
import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from psycopg2.extensions import ISOLATION_LEVEL_REPEATABLE_READ
from soak_consortium import QUORUM, Consortium
from soak_founding import INSTITUTIONS
from soak_processes import until

from ledger.block import NO_PARENT, Header
from ledger.errors import LedgerError
from ledger.keys import PublicKey, Role
from ledger.note import SignatureLine, verify_cosignature
from ledger.verify import verify_export


@dataclass
class Stored:
    """Blocks and entries from a height on: in the database, or in one member's replica."""

    blocks: dict[int, tuple[bytes, str, str, str]]  # header, checkpoint, signature, parent_cert
    entries: dict[int, tuple[int, bytes]]  # by index: height, body
    lines: list[tuple[int, str]]  # cosignatures beside the blocks
    troubles: list[str] = field(default_factory=list)  # conflicts, evidence, stops


def in_database(consortium: Consortium, since: int) -> Stored:
    """One unmoving view of the coordinator's side."""
    with contextlib.closing(consortium.connect()) as connection:
        connection.set_session(isolation_level=ISOLATION_LEVEL_REPEATABLE_READ, autocommit=False)
        with connection.cursor() as cursor:
            return _stored(cursor, "%s", since, "cosignatures", ["conflicts"])


def in_replica(folder: Path, since: int) -> Stored:
    """A member's copy. Its witness is running, so what was left half done is undone."""
    with contextlib.closing(sqlite3.connect(folder / "replica.sqlite", timeout=30)) as connection:
        connection.execute("PRAGMA query_only = ON")
        connection.execute("BEGIN")
        return _stored(connection.cursor(), "?", since, "blocks", ["evidence", "stops"])


def _stored(cursor: Any, mark: str, since: int, signed: str, troubles: Iterable[str]) -> Stored:
    def rows(query: str) -> list[Any]:
        cursor.execute(f"{query} WHERE height >= {mark} ORDER BY height", (since,))
        return list(cursor.fetchall())

    blocks = rows("SELECT height, header, checkpoint, signature, parent_cert FROM blocks")
    entries = rows("SELECT idx, height, body FROM entries")
    line = "cosignature" if signed == "blocks" else "line"
    lines = [
        (int(h), str(text)) for h, text in rows(f"SELECT height, {line} FROM {signed}") if text
    ]
    if signed == "blocks":
        for height, text in rows("SELECT height, lines FROM certificates"):
            lines += [(int(height), part) for part in text.split("\n")]
    found = []
    for table in troubles:
        cursor.execute(f"SELECT * FROM {table}")
        found += [f"{table}: {row}" for row in cursor.fetchall()]
    return Stored(
        {int(h): (bytes(header), str(c), str(s), str(p)) for h, header, c, s, p in blocks},
        {int(index): (int(height), bytes(body)) for index, height, body in entries},
        lines,
        found,
    )


class Checks:
    """Checks one consortium again and again; remembers which signatures it has verified."""

    def __init__(self, consortium: Consortium) -> None:
        self._consortium = consortium
        self._verified: set[tuple[int, str]] = set()
        self._keys: dict[str, set[str]] = defaultdict(set)
        self._height = 0

    def check(self, acknowledged: set[str], *, everything: bool = False) -> int:
        """Raises AssertionError where something does not hold; returns the newest height.

        Without ``everything`` only what came since the last time is looked at.
        """
        since = 0 if everything else max(self._height - 3, 0)
        sent = {name: self._sent(name, since) for name in INSTITUTIONS}
        first = in_database(self._consortium, since)
        replicas = {n: in_replica(self._consortium.hospital(n), since) for n in INSTITUTIONS}
        database = in_database(self._consortium, since)
        _check_chain(database, since)
        self._check_acknowledged(database, acknowledged, everything)
        lines = [*first.lines, *database.lines, *_parents(database)]
        for name, replica in replicas.items():
            assert not replica.troubles, f"{name}: {replica.troubles}"
            _check_copy(name, replica, database)
            own = {h: text for h, text in replica.lines if _signer(text) == name}
            held = [(h, text) for h, text in first.lines if _signer(text) == name]
            for height, text in [*held, *sent[name]]:
                assert own.get(height) == text, (
                    f"{name} does not know its cosignature on block {height}:\n{text}\n{own}"
                )
            lines += [*replica.lines, *_parents(replica), *sent[name]]
        assert not database.troubles, database.troubles
        self._check_lines(database, lines)
        self._height = max(database.blocks)
        return self._height

    def _sent(self, name: str, since: int) -> list[tuple[int, str]]:
        """What left a member, or was about to."""
        path = self._consortium.control / f"{name}.sent"
        lines = path.read_text().splitlines() if path.exists() else []
        split = [line.partition(" ") for line in lines]
        return [(int(height), text) for height, _, text in split if int(height) >= since]

    def _check_acknowledged(
        self, database: Stored, acknowledged: set[str], everything: bool
    ) -> None:
        counted: Counter[str] = Counter()
        signed = Counter(height for height, _ in database.lines)
        for height, body in database.entries.values():
            record = json.loads(body).get("body", {})
            for member in _members(record):
                self._keys[member["id"]].add(member["keys"]["cosign"]["public"])
            if record.get("type") == "erasure" and signed[height] >= QUORUM:
                counted[record["disclosure"]] += 1
        assert not [digest for digest, count in counted.items() if count > 1]
        if everything:
            assert acknowledged <= set(counted), f"lost: {acknowledged - set(counted)}"
        else:
            assert not self._consortium.not_final(sorted(acknowledged))

    def _check_lines(self, database: Stored, lines: list[tuple[int, str]]) -> None:
        """By one member, at one height, one cosignature; and it holds for the one block there."""
        by_signer: dict[tuple[int, str], str] = {}
        for height, text in lines:
            if height not in database.blocks:
                continue  # the block before those that are looked at
            before = by_signer.setdefault((height, _signer(text)), text)
            assert before == text, f"signed twice at {height}: {before} and {text}"
            if (height, text) not in self._verified:
                self._verify(database.blocks[height][1], text)
                self._verified.add((height, text))

    def _verify(self, checkpoint: str, text: str) -> None:
        name = _signer(text)
        for public in self._keys[name]:
            try:
                key = PublicKey(Role.COSIGN, bytes.fromhex(public))
                verify_cosignature(text, name, key, checkpoint)
                return
            except LedgerError:
                continue
        raise AssertionError(f"a cosignature holds under no key of its member's: {text}")

    def finish(self, acknowledged: set[str], genesis: str) -> int:
        """After everybody has caught up: all of it, the API's answers, and the export."""
        consortium = self._consortium

        def complete() -> bool:
            consortium.check_all_run(without=("client",))
            database = in_database(consortium, 0)
            newest = max(database.blocks)
            signed = {_signer(text) for height, text in database.lines if height == newest}
            return signed == set(INSTITUTIONS)

        until(complete, "everybody has co-signed the newest block")
        height = self.check(acknowledged, everything=True)
        self._check_api()
        out = consortium.folder / f"export-{height}"
        consortium.command(
            "export", "consortium", "ledger", "export", "--out", out, "--home", consortium.home
        )
        verified = verify_export(out, genesis, processes=1)
        assert (verified.pinned, verified.height) == (True, height)
        return height

    def _check_api(self) -> None:
        out = self._consortium.folder / "collected.json"
        folder = self._consortium.hospital(INSTITUTIONS[0])
        self._consortium.command("collect", "collect", self._consortium.api, out, folder)
        shown = json.loads(out.read_text())
        database = in_database(self._consortium, 0)
        assert not shown["conflicts"]
        assert {name for name, _ in shown["heads"]} == set(INSTITUTIONS)
        hashes = [Header.parse(database.blocks[h][0]).hash for h in sorted(database.blocks)]
        assert [block[0] for block in shown["blocks"]] == hashes
        lines = [(h, text) for h, block in enumerate(shown["blocks"]) for text in block[1]]
        assert sorted(lines) == sorted(database.lines)
        parents = [(h - 1, text) for h, block in enumerate(shown["blocks"]) for text in block[2]]
        self._check_lines(database, lines + parents)


def _check_chain(stored: Stored, since: int) -> None:
    """Heights and indexes without a gap, every block on the one before it."""
    heights = sorted(stored.blocks)
    assert heights == list(range(since, since + len(heights))), heights
    indexes = sorted(stored.entries)
    assert indexes == list(range(indexes[0], indexes[0] + len(indexes))), "entries with gaps"
    headers = [Header.parse(stored.blocks[height][0]) for height in heights]
    parents = [header.prev for header in headers]
    assert len(set(parents)) == len(parents), "two blocks with one parent"
    before = [NO_PARENT if since == 0 else parents[0], *(header.hash for header in headers)]
    assert parents == before[:-1], "a block that does not follow the one before it"


def _check_copy(name: str, replica: Stored, database: Stored) -> None:
    """A member's blocks are the database's, from the first on, byte for byte."""
    heights = sorted(replica.blocks)
    assert heights == sorted(database.blocks)[: len(heights)], f"{name}: {heights}"
    for height, block in replica.blocks.items():
        assert block == database.blocks[height], f"{name} holds another block {height}"
    for index, entry in replica.entries.items():
        assert entry == database.entries.get(index), f"{name} holds another entry {index}"


def _parents(stored: Stored) -> list[tuple[int, str]]:
    """The lines in the certificates that blocks carry of their parents."""
    return [
        (height - 1, text)
        for height, block in stored.blocks.items()
        for text in block[3].split("\n")
        if text
    ]


def _members(record: dict[str, Any]) -> list[dict[str, Any]]:
    """The institutions whose keys a record gives."""
    rotated = [action["member"] for action in record.get("actions", []) if "member" in action]
    return [*record.get("founders", []), *rotated]


def _signer(text: str) -> str:
    return str(SignatureLine.parse(text).name)
