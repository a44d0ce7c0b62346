"""`consortium ledger`: status, export, proofs, and an auditor's verification."""

import sys
import time
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from consortium.cli.home import HomeOption, home_path
from consortium.cli.output import Format, print_result
from consortium.errors import OptionInvalid, PartMissing

if TYPE_CHECKING:
    from ledger.export import Exported

app = typer.Typer(help="The co-signed ledger.", no_args_is_help=True)
FormatOption = Annotated[Format, typer.Option(help="How the result is printed.")]
GenesisOption = Annotated[
    str | None, typer.Option(help="The ledger's fingerprint, from somebody you trust.")
]
ALONE = "one institution: no independent witness"


@app.command()
def status(home: HomeOption = None, format: FormatOption = Format.TABLE) -> None:
    """Show the newest block, the quorum and the genesis fingerprint to compare.

    Example: consortium ledger status --home .medpole
    """
    from consortium.local import open_ledger

    with open_ledger(home_path(home), shared=True) as (_, store):
        head, members = store.head(), sorted(store.chain().membership.members)
        content = {
            "ledger": head.header.ledger,
            "height": head.header.height,
            "hash": head.header.hash,
            "entries": head.header.size - head.header.height,  # the other leaves are headers
            "institutions": members,
            "cosigned": head.cosigned,
            "quorum": head.quorum,
            "final": head.final,
            "independent_witness": "yes" if len(members) > 1 else "none",
        }
        conflicts = store.conflicts()
    if conflicts:
        content["signed twice"] = [f"block {h}: {line.split(' ')[1]}" for h, line in conflicts]
    print_result(content, format)


@app.command()
def export(
    out: Annotated[Path | None, typer.Option(help="New folder to write.")] = None,
    archive: Annotated[Path | None, typer.Option(help="New .tar file to write instead.")] = None,
    home: HomeOption = None,
    from_height: Annotated[int, typer.Option(help="First block.", min=0)] = 0,
    to_height: Annotated[
        int | None, typer.Option(help="Last block (default: the newest final one).", min=0)
    ] = None,
    content: Annotated[
        bool, typer.Option(help="Add all updates and models, for verify --rounds.")
    ] = False,
    format: FormatOption = Format.TABLE,
) -> None:
    """Write final blocks as a folder, or as one file, that an auditor verifies alone.

    Example: consortium ledger export --out audit-2026
    """
    from consortium.local import open_ledger
    from ledger.archive import archived
    from ledger.export import Contents, export_ledger
    from ledger.keys import Role
    from ledger.records import COORDINATOR

    written = out or archive
    if written is None or (out and archive):
        raise OptionInvalid(
            "an export is written as a folder or as one file", "give one of --out and --archive"
        )
    with (
        open_ledger(home_path(home), shared=True) as (local, store),
        store.snapshot() as snapshot,
        archived(archive.absolute()) if archive else nullcontext(written.absolute()) as folder,
    ):
        contents = Contents(local.content.path, local.models.path) if content else None
        exported = export_ledger(
            snapshot, COORDINATOR, local.keys[Role.RECORD], folder, (from_height, to_height),
            contents,
        )  # fmt: skip
    print_result({"archive" if archive else "folder": str(written), **_of_range(exported)}, format)


def _of_range(exported: "Exported") -> dict[str, Any]:
    return {name: value for name, value in asdict(exported).items() if name != "folder"}


@app.command()
def verify(
    export: Annotated[
        Path, typer.Argument(help="An exported folder or .tar file, or a .tlog-proof file.")
    ],
    genesis: GenesisOption = None,
    head: Annotated[
        Path | None, typer.Option(help="A signed head that the export must reach.")
    ] = None,
    rounds: Annotated[
        bool, typer.Option(help="Derive every round anew (needs export --content).")
    ] = False,
    hashes_only: Annotated[
        bool, typer.Option(help="Leave out the signatures of single records.")
    ] = False,
    processes: Annotated[
        int | None, typer.Option(help="Default: one a core.", min=1, max=256)
    ] = None,
    format: FormatOption = Format.TABLE,
) -> None:
    """Verify an export or a proof offline: no database, no network, no trust in who wrote it.

    Example: consortium ledger verify audit-2026 --genesis FINGERPRINT
    """
    from ledger.archive import is_archive, opened
    from ledger.note import SignedHead
    from ledger.verify import verify_export

    pinned = genesis.strip().lower() if genesis else None
    if export.is_file() and not is_archive(export):
        if rounds or hashes_only or head:
            raise OptionInvalid(
                "a proof of one record takes --genesis only", "leave the other options out"
            )
        _verify_proof(export, pinned, format)
        return
    note = SignedHead.parse(head.read_text()) if head else None
    with opened(export) as folder:
        verified = verify_export(
            folder, pinned, note, processes=processes, signatures=not hashes_only
        )
        content = {"verdict": verdict_of(verified.pinned), **asdict(verified)}
        if rounds:
            content |= derived_rounds(folder)
    if verified.members == 1:
        content["warning"] = ALONE
    print_result(content, format)


def derived_rounds(export: Path) -> dict[str, Any]:
    """Derives all rounds of a verified export anew; says on standard error how far it got.

    Raises:
        PartMissing: if what it needs is not installed.
        LedgerError, ConsortiumError: as `consortium.audit.verify_rounds`.
    """
    started = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - started:7.1f} s  {text}", file=sys.stderr, flush=True)

    say("Deriving every round anew")
    try:
        from consortium.audit import verify_rounds
    except ModuleNotFoundError as error:
        raise PartMissing(
            f"deriving rounds needs {error.name}, which is not installed",
            "pip install 'medpole[agent]'",
        ) from None
    told = time.monotonic()

    def on_block(height: int, last: int) -> None:
        nonlocal told
        if time.monotonic() - told > 2:
            told = time.monotonic()
            say(f"Block {height} of {last} derived anew")

    return asdict(verify_rounds(export, on_block))


def _verify_proof(path: Path, pinned: str | None, format: Format) -> None:
    from ledger.prove import verify_proof

    proved = verify_proof(path.read_text(), pinned)
    content: dict[str, Any] = {"verdict": verdict_of(proved.pinned), **asdict(proved)}
    content["record"] = proved.record.body()
    if proved.members == 1:
        content["warning"] = ALONE
    print_result(content, format)


def verdict_of(pinned: bool) -> str:
    """What a verification came to, in words."""
    return "verified against the pinned genesis" if pinned else "consistent, not pinned"


@app.command()
def prove(
    index: Annotated[int, typer.Argument(help="The entry's index, as in entries.csv.", min=0)],
    out: Annotated[Path, typer.Option(help="New file to write, usually *.tlog-proof.")],
    home: HomeOption = None,
    format: FormatOption = Format.TABLE,
) -> None:
    """Write the proof that one record stands on the ledger, for a third party.

    Example: consortium ledger prove 17 --out record-17.tlog-proof
    """
    from consortium.local import open_ledger
    from ledger.prove import prove as make_proof

    with open_ledger(home_path(home), shared=True) as (_, store), store.snapshot() as snapshot:
        text = make_proof(snapshot, index)
    with out.open("x") as file:
        file.write(text)
    print_result({"written": str(out), "index": index, "bytes": len(text.encode())}, format)


@app.command()
def verifier() -> None:
    """Write the single-file verifier, which needs only Python and `cryptography`.

    Example: consortium ledger verifier > verify.py; python verify.py DIR --genesis FINGERPRINT
    """
    from importlib.resources import files

    print(files("ledger").joinpath("verifier.py").read_text(), end="")


@app.command()
def erase(
    digest: Annotated[str, typer.Argument(help="The salted digest, as it stands on the ledger.")],
    home: HomeOption = None,
    format: FormatOption = Format.TABLE,
) -> None:
    """Delete what opens a salted digest, for good, and record on the ledger that it is gone.

    Example: consortium ledger erase DIGEST
    """
    from consortium.local import open_ledger
    from ledger.entry import sign_record
    from ledger.keys import Role
    from ledger.records import COORDINATOR, Erasure, parse_record

    with open_ledger(home_path(home), shared=True) as (local, store):
        body = {
            "v": 1, "type": "erasure", "ledger": store.chain().ledger, "author": COORDINATOR,
            "disclosure": digest.strip().lower(),
        }  # fmt: skip
        erasure = parse_record(body)
        assert isinstance(erasure, Erasure)
        # The record first: were we killed between the two, the command can be repeated.
        store.submit(sign_record(erasure, [local.keys[Role.RECORD]]))
        erased = store.erase(erasure.disclosure)
    print_result({"disclosure": erasure.disclosure, "was_here": erased}, format)


@app.command()
def restore(
    export: Annotated[
        Path, typer.Argument(help="A whole export, folder or .tar file, whoever wrote it.")
    ],
    genesis: Annotated[str, typer.Option(help="The ledger's fingerprint.")],
    pending: Annotated[
        Path | None,
        typer.Option(help="A proposed block, as `hospital-agent ledger pending` wrote it."),
    ] = None,
    home: HomeOption = None,
    format: FormatOption = Format.TABLE,
) -> None:
    """Fill an empty database from an export, after verifying it against the fingerprint.

    Example: consortium ledger restore their-copy --genesis FINGERPRINT --home .medpole
    """
    from consortium.api.wire import block_from_wire
    from consortium.local import open_home_database
    from consortium.models import restore_contents
    from ledger.archive import opened
    from ledger.restore import restore_ledger

    with opened(export) as folder, open_home_database(home_path(home)) as (local, store):
        verified = restore_ledger(store, folder, genesis.strip().lower())
        contents = restore_contents(folder, local.content, local.models)
        if pending is not None:
            store.restore(block_from_wire(_json(pending)), (), pending=True)
        height = store.head().header.height
    content = {
        "ledger": verified.ledger, "height": height, "entries": verified.entries,
        "updates and models": contents,
    }  # fmt: skip
    print_result(content, format)


def _json(path: Path) -> Any:
    import json

    try:
        return json.loads(path.read_bytes())
    except ValueError:
        raise OptionInvalid(f"{path} is no JSON", "give the file as it was written") from None
