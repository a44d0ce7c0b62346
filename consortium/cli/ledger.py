"""`consortium ledger`: status, export, and an auditor's verification."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from consortium.cli.home import HomeOption, home_path
from consortium.cli.output import Format, print_result

app = typer.Typer(help="The co-signed ledger.", no_args_is_help=True)
FormatOption = Annotated[Format, typer.Option(help="How the result is printed.")]


@app.command()
def status(home: HomeOption = None, format: FormatOption = Format.TABLE) -> None:
    """Show the newest block, the quorum and the genesis fingerprint to compare.

    Example: consortium ledger status --home .medpole
    """
    from consortium.local import open_ledger

    with open_ledger(home_path(home)) as (_, store):
        head = store.head()
        content = {
            "ledger": head.header.ledger,
            "height": head.header.height,
            "hash": head.header.hash,
            "entries": sum(1 for _ in store.entries()) - head.header.height - 1,
            "institutions": sorted(store.chain().members),
            "cosigned": head.cosigned,
            "quorum": head.quorum,
            "final": head.final,
            "independent_witness": "yes" if len(store.chain().members) > 1 else "none",
        }
    print_result(content, format)


@app.command()
def export(
    out: Annotated[Path, typer.Option(help="New folder to write.")],
    home: HomeOption = None,
    format: FormatOption = Format.TABLE,
) -> None:
    """Write all final blocks as a folder that an auditor verifies alone.

    Example: consortium ledger export --out audit-2026
    """
    from consortium.local import open_ledger
    from ledger.export import export_ledger

    with open_ledger(home_path(home)) as (local, store):
        exported = export_ledger(store, local.keys, out.absolute())
    print_result({**asdict(exported), "folder": str(out)}, format)


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(help="Folder that was exported.")],
    genesis: Annotated[
        str | None, typer.Option(help="The ledger's fingerprint, from somebody you trust.")
    ] = None,
    format: FormatOption = Format.TABLE,
) -> None:
    """Verify an export offline: no database, no network, no trust in who wrote it.

    Example: consortium ledger verify audit-2026 --genesis FINGERPRINT
    """
    from ledger.verify import verify_export

    verified = verify_export(folder, genesis.strip().lower() if genesis else None)
    verdict = "verified against the pinned genesis" if verified.pinned else "consistent, not pinned"
    content = {"verdict": verdict, **asdict(verified)}
    if verified.members == 1:
        content["warning"] = "one institution: no independent witness"
    print_result(content, format)
