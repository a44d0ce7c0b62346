"""`hospital-agent ledger`: what this hospital's own verified copy proves, without the operator."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from consortium.cli.output import Format, print_json, print_result
from hospital_agent.cli.options import FormatOption, HomeOption, hospital

app = typer.Typer(help="This hospital's own verified copy of the ledger.", no_args_is_help=True)


@app.command()
def head(
    home: HomeOption,
    height: Annotated[int | None, typer.Option(help="Default: the newest final one.")] = None,
) -> None:
    """Print a signed head, to compare with others' and to verify exports against (--head).

    Example: hospital-agent ledger head --home .medpole/hospitals/hospital-1 > head.note
    """
    from hospital_agent.receipt import signed_head
    from hospital_agent.replica import Replica

    with Replica(hospital(home).path / "replica.sqlite").copy() as copy:
        print(signed_head(copy, height).text(), end="")


@app.command()
def compare(
    note: Annotated[Path, typer.Argument(help="A head that another institution printed.")],
    home: HomeOption,
    format: FormatOption = Format.TABLE,
) -> None:
    """Compare another institution's head with this hospital's copy.

    Example: hospital-agent ledger compare head.note --home .medpole/hospitals/hospital-1
    """
    from hospital_agent.receipt import compare_head
    from hospital_agent.view import ReplicaView

    print_result({"agrees at height": compare_head(ReplicaView(hospital(home)), note)}, format)


@app.command()
def evidence(home: HomeOption, format: FormatOption = Format.TABLE) -> None:
    """Show every signed head that contradicts this hospital's copy, whole.

    Example: hospital-agent ledger evidence --home .medpole/hospitals/hospital-1
    """
    from hospital_agent.replica import Replica

    found = Replica(hospital(home).path / "replica.sqlite").evidence()
    if format is Format.JSON:
        print_json([{"height": h, "what": what, "note": note} for h, note, what in found])
        return
    for height, note, what in found:
        print(f"height {height}: {what}\n{note}")
    if not found:
        print("none")


@app.command()
def export(
    out: Annotated[Path, typer.Option(help="New folder to write.")],
    home: HomeOption,
    from_height: Annotated[int, typer.Option(help="First block.", min=0)] = 0,
    to_height: Annotated[int | None, typer.Option(help="Last block.", min=0)] = None,
    content: Annotated[bool, typer.Option(help="Add all updates and models.")] = False,
    format: FormatOption = Format.TABLE,
) -> None:
    """Export this hospital's own copy, signed by it: no need of the operator.

    Example: hospital-agent ledger export --out our-copy
    """
    from hospital_agent.replica import Replica
    from ledger.export import Contents, export_ledger
    from ledger.keys import Role

    folder = hospital(home)
    contents = Contents(folder.content.path, folder.models.path) if content else None
    with Replica(folder.path / "replica.sqlite").copy() as copy:
        exported = export_ledger(
            copy, folder.institution, folder.keys[Role.RECORD], out.absolute(),
            (from_height, to_height), contents,
        )  # fmt: skip
    print_result({**asdict(exported), "folder": str(out)}, format)


@app.command()
def pending(
    out: Annotated[Path, typer.Option(help="New file to write.")],
    home: HomeOption,
    format: FormatOption = Format.TABLE,
) -> None:
    """Write the newest block of this hospital's copy, final or not, to restore a database with.

    Example: hospital-agent ledger pending --out pending.json
    """
    import json

    from consortium.api.wire import block_to_wire
    from hospital_agent.errors import ReceiptMissing
    from hospital_agent.replica import Replica

    replica = Replica(hospital(home).path / "replica.sqlite")
    height = replica.height()
    if height < 0:
        raise ReceiptMissing("this copy holds no block", "let the witness catch up")
    wire = block_to_wire(replica.block(height), replica.certificate(height))
    with out.open("x") as file:
        json.dump(wire, file)
    print_result({"written": str(out), "height": height}, format)


@app.command()
def receipt(
    out: Annotated[Path, typer.Option(help="New folder to write.")],
    job: Annotated[str, typer.Option(help="The job's id.")],
    round: Annotated[int, typer.Option(help="The round.", min=1)],
    home: HomeOption,
    format: FormatOption = Format.TABLE,
) -> None:
    """Write proofs of this hospital's contribution and credits in a round, for a third party.

    Each file is verified by `consortium ledger verify FILE --genesis FINGERPRINT`.

    Example: hospital-agent ledger receipt --job breast-cancer-1 --round 3 --out receipt
    """
    from hospital_agent.receipt import write_receipt
    from hospital_agent.replica import Replica

    folder = hospital(home)
    with Replica(folder.path / "replica.sqlite").copy() as copy:
        written = write_receipt(copy, folder.institution, job, round, out)
    print_result(asdict(written), format)
