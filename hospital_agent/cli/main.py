"""The `hospital-agent` command's own part; its groups stand beside it."""

import os
import sys
from typing import Annotated, Any

import typer

from consortium.cli.output import Format, print_result
from consortium.cli.run import print_version, run
from hospital_agent.cli import (
    budget,
    data,
    evaluation,
    images,
    jobs,
    joining,
    ledger,
    members,
    policy,
    preflight,
    privacy,
    start,
)
from hospital_agent.cli.options import ApiOption, FormatOption, HomeOption, hospital

app = typer.Typer(
    help="One hospital's side of the consortium: its budget, its policy, its copy of the ledger.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(policy.app, name="policy")
app.add_typer(jobs.app, name="jobs")
app.add_typer(data.app, name="data")
app.add_typer(evaluation.app, name="evaluation")
app.command()(images.images)
app.add_typer(privacy.app, name="privacy")
app.command()(budget.budget)
app.command()(preflight.preflight)
app.command()(start.start)
app.command()(start.health)
app.add_typer(members.app, name="members")
app.add_typer(members.keys_app, name="keys")
app.add_typer(ledger.app, name="ledger")
joining.register(app)


@app.callback()
def main_options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=print_version,
                           is_eager=True)
    ] = False,
) -> None:  # fmt: skip
    """What every command has."""


@app.command()
def status(home: HomeOption, format: FormatOption = Format.TABLE) -> None:
    """Show who this hospital is, and how far its verified copy of the ledger goes.

    Example: hospital-agent status --home .medpole/hospitals/hospital-1
    """
    from hospital_agent.replica import Replica
    from ledger.keys import AGENT_ROLES

    folder = hospital(home)
    replica = Replica(folder.path / "replica.sqlite")
    chain = replica.chain()
    content: dict[str, Any] = {
        "institution": folder.institution,
        "title": folder.title,
        "ledger": folder.ledger or "none yet",
        "verified and co-signed to height": replica.height(),
        "members": ", ".join(sorted(chain.members)) if chain else "none yet",
    }
    content |= {f"{role} key": folder.keys[role].public.key_id for role in AGENT_ROLES}
    print_result(content, format)


@app.command()
def witness(
    home: HomeOption,
    api: ApiOption,
    once: Annotated[bool, typer.Option(help="Follow to the newest block, then end.")] = False,
    every: Annotated[float, typer.Option(help="Seconds between two looks.", min=0.05)] = 1.0,
) -> None:
    """Follow the ledger, derive every block anew, and co-sign it. Runs until it is stopped.

    Prints the height reached, a line each.

    Example: hospital-agent witness --home .medpole/hospitals/hospital-1 --api unix:PATH
    """
    from hospital_agent.connection import connect, witness_forever
    from hospital_agent.ledger_api import LedgerApi
    from hospital_agent.witness import Witness

    folder = hospital(home)
    with connect(folder, api) as client:
        if once:
            print(Witness(folder, LedgerApi(client, folder)).step())
            return
        witness_forever(folder, client, every, lambda height: print(height, flush=True), _tell)


def _tell(error: Any) -> None:
    print(f"error[{error.code}]: {error.what}", file=sys.stderr)
    print(f"how to resolve: {error.resolve}", file=sys.stderr, flush=True)


def main() -> None:
    """Entry point of the `hospital-agent` command."""
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    run(app)
