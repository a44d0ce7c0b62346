"""`consortium model`: which models a ledger names, where they come from, files of them, proofs."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from consortium.cli.home import HomeOption, home_path
from consortium.cli.output import Format, print_json, print_result
from consortium.errors import OptionInvalid, PartMissing
from consortium.model_files.formats import FileFormat, Inputs

if TYPE_CHECKING:
    from consortium.lineage import Lineage, NamedModel
    from consortium.registry import Registry

app = typer.Typer(help="Models: all that the ledger names.", no_args_is_help=True)
FormatOption = Annotated[Format, typer.Option(help="How the result is printed.")]
ModelArgument = Annotated[
    str,
    typer.Argument(
        help="A model's hash or the first 8 of its digits, or a job for what it released.",
        metavar="MODEL|JOB",
    ),
]
LedgerOption = Annotated[
    Path | None,
    typer.Option(help="An exported folder or .tar file, verified first, instead of a home."),
]
GenesisOption = Annotated[
    str | None, typer.Option(help="With --ledger: the ledger's fingerprint to compare.")
]


@app.command("list")
def list_(
    job: Annotated[str | None, typer.Option(help="Of one job (default: of all).")] = None,
    released: Annotated[bool, typer.Option(help="Only what jobs released.")] = False,
    ledger: LedgerOption = None,
    genesis: GenesisOption = None,
    home: HomeOption = None,
    format: FormatOption = Format.TABLE,
) -> None:
    """Show all models, oldest first: untrained ones, each round's, and what jobs released.

    Example: consortium model list --released
    """
    from consortium.errors import JobMissing

    with _registry(ledger, genesis, home) as registry:
        models = registry.models()
    if job is not None and all(one.job != job for one in models):
        raise JobMissing(f"no job is called {job[:60]!r}", "see `consortium job list`")
    models = [
        one for one in models if job in (None, one.job) and (one.kind == "released" or not released)
    ]
    if format is Format.JSON:
        print_json([_row(one) for one in models])
    elif models:
        _print_table(models)
    else:
        print("no models: consortium job submit")


@app.command()
def show(
    model: ModelArgument,
    ledger: LedgerOption = None,
    genesis: GenesisOption = None,
    home: HomeOption = None,
    format: FormatOption = Format.TABLE,
) -> None:
    """Show where a model comes from: job, contract, hospitals, proofs, and the records of it.

    A model is named by its hash, by the first 8 of its digits, or by the job that released it.

    Example: consortium model show heart-disease-1
    """
    with _registry(ledger, genesis, home) as registry:
        lineage = registry.lineage(registry.find(model))
    print_result(_shown(lineage) if format is Format.TABLE else lineage.body(), format)


@app.command()
def export(
    model: ModelArgument,
    out: Annotated[Path, typer.Option(help="New file to write.")],
    file_format: Annotated[
        FileFormat, typer.Option("--format", help="The weights, or with onnx all of the model.")
    ] = FileFormat.SAFETENSORS,
    inputs: Annotated[
        Inputs | None,
        typer.Option(help="What an onnx model takes: columns, or an image, as the task has them "
                          "(default), or inputs that are encoded already."),
    ] = None,
    ledger: LedgerOption = None,
    genesis: GenesisOption = None,
    home: HomeOption = None,
) -> None:  # fmt: skip
    """Write a model as a new file that says what it is, for `model verify` and for any runtime.

    Example: consortium model export heart-disease-1 --format onnx --out heart.onnx
    """
    if inputs is not None and file_format is not FileFormat.ONNX:
        raise OptionInvalid("--inputs is given without --format onnx", "give both, or neither")
    files = _files()
    with _registry(ledger, genesis, home) as registry:
        lineage = registry.lineage(registry.find(model))
        weights = registry.weights(lineage.named.model)
    named, contract = lineage.named, lineage.contract.record
    data = files.model_bytes(file_format, named, contract, weights, inputs)
    files.write_new(out, data)
    print_result(
        {
            "written": str(out), "bytes": len(data), "model": named.model, "job": named.job,
            "what": named.title, "record": named.index, "block": named.height,
        },
        Format.TABLE,
    )  # fmt: skip


@app.command()
def card(
    model: ModelArgument,
    ledger: LedgerOption = None,
    genesis: GenesisOption = None,
    home: HomeOption = None,
) -> None:
    """Print the card of a released model, as Markdown.

    Example: consortium model card heart-disease-1 > card.md
    """
    with _registry(ledger, genesis, home) as registry:
        text = registry.card(registry.find(model))
    print(text, end="")


@app.command()
def verify(
    file: Annotated[Path, typer.Argument(help="A model's file, safetensors or onnx.")],
    ledger: Annotated[Path, typer.Option(help="An exported folder or .tar file.")],
    genesis: GenesisOption = None,
    rounds: Annotated[
        bool,
        typer.Option(help="Derive the model anew from the proofs (needs export --content)."),
    ] = False,
    format: FormatOption = Format.TABLE,
) -> None:
    """Prove offline, from an exported ledger, that a file's weights came out of a job.

    Example: consortium model verify heart.onnx --ledger audit-2026 --genesis FINGERPRINT --rounds
    """
    from consortium.cli.ledger import ALONE, derived_rounds, verdict_of
    from ledger.archive import opened

    files = _files()
    from consortium.model_files.verification import trace

    found = files.read_model(file)
    from consortium.registry import registry_of_export

    with opened(ledger) as folder:
        registry = registry_of_export(folder, _pinned(genesis))
        traced = trace(found, registry)
        derived = derived_rounds(folder) if rounds else None
    verified, lineage = registry.verified, traced.lineage
    assert verified is not None
    content: dict[str, Any] = {
        "verdict": verdict_of(verified.pinned),
        "file": traced.format.value,
        **_shown(lineage),
        "graph": traced.graph,
        "label": traced.label,
        "blocks_verified": verified.blocks,
        "fewest_cosigners": verified.fewest_cosigners,
        "quorum": verified.quorum,
        "rounds_derived": "no: --rounds does" if derived is None else derived["rounds_derived"],
    }
    if verified.members == 1:
        content["warning"] = ALONE
    if format is Format.JSON:
        content = {**content, "rounds_derived": derived and derived["rounds_derived"]}
        content["lineage"] = lineage.body()
    print_result(content, format)


def _registry(
    ledger: Path | None, genesis: str | None, home: Path | None
) -> "AbstractContextManager[Registry]":
    from consortium.registry import opened_registry

    if genesis is not None and ledger is None:
        raise OptionInvalid(
            "--genesis is given without --ledger", "give both, or neither: the home's own database "
            "is not an auditor's source",
        )  # fmt: skip
    return opened_registry(home_path(home), ledger, _pinned(genesis))


def _pinned(genesis: str | None) -> str | None:
    return genesis.strip().lower() if genesis else None


def _files() -> Any:
    """The module that reads and writes models' files."""
    try:
        from consortium.model_files import files
    except ModuleNotFoundError as error:
        raise PartMissing(
            f"models' files need {error.name}, which is not installed",
            "pip install 'medpole[client]', or 'medpole[agent]' for ONNX too",
        ) from None
    return files


def _shown(lineage: "Lineage") -> dict[str, Any]:
    """A lineage for people: a line for each thing that one would ask."""
    named, contract = lineage.named, lineage.contract
    accepted = sum(proof.accepted for proof in lineage.proofs)
    content: dict[str, Any] = {
        "model": named.model,
        "what": named.title,
        "job": named.job,
        "task": contract.record.task,
        "named_by": f"record {named.index} in block {named.height}",
        "contract": f"record {contract.index} in block {contract.height}",
        "participants": list(lineage.participants),
    }
    if lineage.steps:
        first, last = lineage.steps[0], lineage.steps[-1]
        content |= {
            "rounds": f"{len(lineage.steps)}, blocks {first.height} to {last.height}",
            "proofs": f"{accepted} accepted, {len(lineage.proofs) - accepted} not",
            "learned_from": list(lineage.learned_from),
        }
    if lineage.taken_out:
        content["taken_out_again"] = list(lineage.taken_out)
    if lineage.averaged:
        content["mean_of_rounds"] = list(lineage.averaged)
    return {**content, "ledger": lineage.ledger}


def _row(one: "NamedModel") -> dict[str, Any]:
    return {
        "model": one.model, "kind": one.kind, "job": one.job, "round": one.round,
        "record": one.index, "block": one.height, "time": one.time,
    }  # fmt: skip


def _print_table(models: "list[NamedModel]") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table()
    table.add_column("job", overflow="fold")
    table.add_column("model of")
    table.add_column("hash", no_wrap=True)
    for title in ("record", "block"):
        table.add_column(title, justify="right")
    for one in models:
        style = "bold" if one.kind == "released" else None
        places = f"{one.index:,}", f"{one.height:,}"
        table.add_row(one.job, one.title, one.model[:16], *places, style=style)
    Console(width=None if Console().is_terminal else 100).print(table)
