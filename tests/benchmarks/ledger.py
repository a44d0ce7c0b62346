"""The ledger's figures, each beside the floor that was measured in the same run.

Records are refusals signed by four members, in blocks of 500. The database is the embedded
PostgreSQL with all its durability on.
"""

import io
import math
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from sqlalchemy import Engine

from ledger import canonical
from ledger.block import Block
from ledger.chain import Chain
from ledger.database import open_database
from ledger.entry import Entry
from ledger.export import block_line, write_ledger
from ledger.keys import PublicKey, Role
from ledger.manifest import FILES, FileDigest, Manifest
from ledger.merkle import inclusion_proof, leaf_hash
from ledger.note import SignatureLine
from ledger.records import schemas
from ledger.rendering import write_renderings
from ledger.rows import insert_block
from ledger.schema import cosignatures
from ledger.store import LedgerStore
from ledger.verify import verify_export
from tests.benchmarks.run import Figure
from tests.ledger.ledger_examples import Consortium

BLOCK = 500
APPENDED, VERIFIED, HASHED, EXPORTED = 10_000, 60_000, 1_000_000, 300_000
FOUR = Consortium(4)


def measure() -> dict[str, Figure]:
    """All figures of the area."""
    figures: dict[str, Figure] = {}
    with tempfile.TemporaryDirectory(prefix="medpole-bench-", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o711)  # the database's account passes through
        for step in (_append, _export, _verify_full, _verify_hashes, _proof_size, _final):
            _say(step.__name__.strip("_").replace("_", " "))
            figures |= step(folder)
    return figures


def _say(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


# material


def _signed(count: int) -> Iterator[Entry]:
    names = list(FOUR.members)
    for number in range(count):
        yield FOUR.entry(names[number % 4], f"job-{number // 4000}", number // 4 % 1000 + 1)


def _fabricated(count: int) -> Iterator[Entry]:
    """Entries as long as real ones, with signatures that hold for nothing."""
    pattern = FOUR.entry("hospital-1", "job-123", 777).data
    head, tail = pattern.split(b"job-123")
    for number in range(count):
        yield Entry(b"%sjob-%d%s" % (head, number, tail))


def _chunks(entries: Iterator[Entry]) -> Iterator[list[Entry]]:
    chunk: list[Entry] = []
    for entry in entries:
        chunk.append(entry)
        if len(chunk) == BLOCK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _blocks(entries: Iterator[Entry]) -> Iterator[tuple[Block, list[str], Chain]]:
    """A ledger over entries that are not looked at, each block with its certificate."""
    chain = FOUR.begin()
    yield FOUR.founding_block, FOUR.cosign(chain.checkpoint), chain
    for chunk in _chunks(entries):
        block = FOUR.next_block(chain, chunk)
        chain.follow(block, entries_checked=True)
        yield block, FOUR.cosign(chain.checkpoint), chain


def _write_folder(folder: Path, entries: Iterator[Entry], renderings: bool) -> None:
    """An export without a database."""
    folder.mkdir()
    count = 0
    with (
        (folder / "entries.jsonl").open("wb") as entries_file,
        (folder / "blocks.jsonl").open("wb") as blocks_file,
    ):
        for block, lines, after in _blocks(entries):
            chain = after
            entries_file.writelines(entry.data + b"\n" for entry in block.entries)
            blocks_file.write(block_line(block, lines) + b"\n")
            count += len(block.entries)
    if renderings:
        write_renderings(folder, chain, 0)
    else:
        (folder / "entries.csv").write_text("index,height,type,author,job,round,code,leaf_hash\n")
        (folder / "report.html").touch()
    (folder / "disclosures.jsonl").touch()
    (folder / "schemas.json").write_bytes(canonical.dumps(schemas()) + b"\n")
    manifest = Manifest(
        FOUR.ledger, "coordinator", 0, chain.header.height, count, "a benchmark",
        {name: FileDigest.of(folder / name) for name in FILES},
    )  # fmt: skip
    (folder / "manifest.json").write_bytes(manifest.data())
    (folder / "manifest.sig").write_bytes(manifest.sign(FOUR.coordinator[Role.RECORD]))


# figures


def _append(folder: Path) -> dict[str, Figure]:
    """Signed records into final blocks of 500; floor: bare verification and COPY of the rows."""
    chunks = list(_chunks(_signed(APPENDED)))
    append = verify = copy = 0.0
    second = folder / "second"
    second.mkdir(mode=0o711)
    with open_database(folder) as engine, open_database(second) as empty:
        store = LedgerStore(engine)
        store.found(FOUR.founding_entry, FOUR.coordinator)
        _finalise(store)
        for chunk in chunks:  # side by side: the machine's mood is the same for all three
            fresh = [Entry(entry.data) for entry in chunk]

            def work(fresh: list[Entry] = fresh) -> None:
                store.propose(fresh, FOUR.coordinator)
                _finalise(store)

            append += _timed(work)
            messages = _messages(chunk)
            verify += _timed(lambda messages=messages: _verify(messages))  # type: ignore[misc]
        copy = _copy_floor(engine, empty)
    floor = APPENDED / (verify + copy)
    return {
        "ledger.append_per_s": Figure(APPENDED / append, "records/s", "verify + COPY", floor),
        "ledger.copy_per_s": Figure(APPENDED / copy, "rows/s"),
    }


def _finalise(store: LedgerStore) -> None:
    height = store.chain().header.height
    for line in FOUR.cosign(store.checkpoint(height)):
        store.add_cosignature(height, line)


Signed = tuple[PublicKey, bytes, bytes]


def _messages(entries: Sequence[Entry]) -> list[Signed]:
    """Key, signature and message of each entry, ready to be verified."""
    found = []
    for entry in entries:
        author = entry.record.author
        key = FOUR.members[author][Role.RECORD].public
        sig = bytes.fromhex(canonical.loads(entry.data)["signatures"][0]["sig"])
        found.append((key, sig, b"medpole/record/v1\n" + entry.body))
    return found


def _verify(signed: Sequence[Signed]) -> None:
    for key, signature, message in signed:
        key.verify(signature, message)


def _copy_floor(engine: Engine, empty: Engine) -> float:
    """The rows that were appended, block by block, into the same tables of another database."""
    taken = 0.0
    with engine.connect() as source, empty.connect() as target:
        reading, writing = source.connection.cursor(), target.connection.cursor()
        for height in range(1, APPENDED // BLOCK + 1):
            rows = io.StringIO()
            reading.copy_expert(
                f"COPY (SELECT * FROM entries WHERE height = {height}) TO STDOUT", rows
            )
            rows.seek(0)

            def work(rows: io.StringIO = rows) -> None:
                writing.copy_expert("COPY entries FROM STDIN", rows)
                target.connection.commit()

            taken += _timed(work)
    return taken


def _export(folder: Path) -> dict[str, Figure]:
    """JSONL out of PostgreSQL; the renderings apart; the most memory that it took."""
    home = folder / "export-home"
    home.mkdir(mode=0o711)
    figures: dict[str, Figure] = {}
    with open_database(home) as engine:
        with engine.begin() as connection:
            for block, lines, chain in _blocks(_fabricated(EXPORTED)):
                insert_block(connection, block, chain.frontier)
                connection.execute(
                    cosignatures.insert(),
                    [
                        {
                            "height": block.header.height,
                            "institution": SignatureLine.parse(line).name,
                            "line": line,
                        }
                        for line in lines
                    ],
                )
        store = LedgerStore(engine)
        last = chain.header.height
        with store.snapshot() as snapshot:
            half, whole = folder / "half", folder / "whole"
            half.mkdir()
            whole.mkdir()
            write_ledger(snapshot, half, 0, last // 2)
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            taken = _timed(lambda: write_ledger(snapshot, whole, 0, last))
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        figures["ledger.export_per_s"] = Figure(EXPORTED / taken, "records/s")
        figures["ledger.export_growth"] = Figure(grown / 1024, "MiB more for twice as much")
        taken = _timed(lambda: write_renderings(half, chain, 0))
        figures["ledger.render_per_s"] = Figure(EXPORTED / 2 / taken, "records/s, CSV and HTML")
    return figures


def _verify_full(folder: Path) -> dict[str, Figure]:
    """Every signature of an export, by two processes, beside bare Ed25519 by the same two."""
    export = folder / "full"
    _write_folder(export, _signed(VERIFIED), renderings=True)
    _verify_bare(_messages(list(_signed(10))))  # both processes' imports are not the figure
    half = _messages(list(_signed(VERIFIED // 2)))
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(_verify_bare, [half[:10], half[:10]]))
        bare = _timed(lambda: list(pool.map(_verify_bare, [half, half])))
    taken = _timed(lambda: verify_export(export, FOUR.ledger, processes=2))
    floor = VERIFIED / bare
    return {
        "ledger.verify_full_per_s": Figure(VERIFIED / taken, "records/s", "bare Ed25519", floor)
    }


def _verify_bare(signed: Sequence[Signed]) -> None:
    for key, signature, message in signed:
        key.verify(signature, message)


def _verify_hashes(folder: Path) -> dict[str, Figure]:
    """Structure alone; floor: reading and hashing the leaves."""
    export = folder / "hashes"
    _write_folder(export, _fabricated(HASHED), renderings=False)

    def hash_only() -> None:
        with (export / "entries.jsonl").open("rb") as file:
            for line in file:
                leaf_hash(line[:-1])

    floor = HASHED / _timed(hash_only)
    taken = _timed(lambda: verify_export(export, FOUR.ledger, signatures=False))
    return {
        "ledger.verify_hash_per_s": Figure(HASHED / taken, "records/s", "leaf hashes", floor),
        "ledger.verify_hash_10m_s": Figure(taken * 10_000_000 / HASHED, "s, extrapolated"),
    }


def _proof_size(folder: Path) -> dict[str, Figure]:
    """Hashes in an inclusion proof, beside log2 of the tree's size."""
    figures = {}
    leaves = [leaf_hash(b"%d" % number) for number in range(1_000_000)]
    for size in (1_000, 10_000, 100_000, 1_000_000):
        longest = max(len(inclusion_proof(leaves[:size], i)) for i in (0, size // 3, size - 1))
        figures[f"ledger.proof_hashes_{size}"] = Figure(
            longest, "hashes", "log2 n", math.log2(size)
        )
    return figures


def _final(folder: Path) -> dict[str, Figure]:
    """From a submission to a final block: seven witnesses in processes of their own, over HTTP."""
    from tests.benchmarks.ledger_final import times_to_final

    times = times_to_final(folder / "final", members=7, submissions=10)
    return {
        "ledger.final_s": Figure(
            statistics.median(times), "s with 7 members", "slowest", max(times)
        )
    }
