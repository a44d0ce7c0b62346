"""The `consortium` command and its groups."""

import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from consortium.cli import (
    access_log,
    data,
    database,
    events,
    founding,
    institution,
    job,
    lab,
    ledger,
    model,
    oidc,
    reward,
    superlink,
    task,
    tls,
    token,
)
from consortium.cli.home import HomeOption, home_path
from consortium.cli.output import Format, print_json
from consortium.cli.run import print_version, run
from consortium.lab.catalogue import DEMO_CHEATS

if TYPE_CHECKING:
    from consortium.simulation.demo import DemoResult

app = typer.Typer(
    help="Hospitals train diagnostic models together; no patient's record leaves the house.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(ledger.app, name="ledger")
app.add_typer(data.app, name="data")
app.add_typer(institution.app, name="institution")
app.add_typer(institution.policy_app, name="policy")
app.add_typer(database.app, name="db")
app.add_typer(job.app, name="job")
app.add_typer(model.app, name="model")
app.add_typer(reward.app, name="reward")
app.add_typer(task.app, name="task")
app.add_typer(tls.app, name="tls")
app.add_typer(token.app, name="token")
founding.register(app)
lab.register(app)
superlink.register(app)
events.register(app)
access_log.register(app)
oidc.register(app)


@app.callback()
def main_options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=print_version,
                           is_eager=True)
    ] = False,
) -> None:  # fmt: skip
    """What every command has."""


@app.command()
def demo(
    dataset: Annotated[str, typer.Option(help="See `consortium task list`.")] = "breast-cancer",
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder that holds the dataset's files.")
    ] = None,
    hospitals: Annotated[
        int | None, typer.Option(help="How many hospitals, where they are simulated (default 4).")
    ] = None,
    rounds: Annotated[int, typer.Option(help="1 to 1000.")] = 10,
    epsilon: Annotated[str, typer.Option(help="Privacy cost of this job.")] = "1",
    lifetime_epsilon: Annotated[
        str | None,
        typer.Option(help="Limit of each hospital's cohort over all jobs (new homes: 3)."),
    ] = None,
    delta: Annotated[str | None, typer.Option(help="Default: the task's own.")] = None,
    seed: Annotated[int, typer.Option(help="Splits the data and starts the model.")] = 0,
    home: HomeOption = None,
    cheat: Annotated[
        str | None,
        typer.Option(help=f"Make a hospital, or the coordinator, cheat: {', '.join(DEMO_CHEATS)}."),
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Write the outcome as JSON.")] = None,
    compare_nonprivate: Annotated[
        bool, typer.Option(help="Run the same job without noise too, for comparison.")
    ] = False,
    portal: Annotated[
        bool, typer.Option(help="Open the portal beside it, and keep it open at the end.")
    ] = False,
    portal_port: Annotated[
        int, typer.Option(help="The portal's port on 127.0.0.1.", min=1, max=65535)
    ] = 8501,
    format: Annotated[Format, typer.Option(help="How the result is printed.")] = Format.TABLE,
) -> None:
    """Hospitals learn together on this machine, ending with a verified ledger.

    Example: consortium demo --rounds 10 --epsilon 1 --report outcome.json
    """
    from consortium.simulation.options import check_options

    started = time.monotonic()
    options = check_options(
        dataset=dataset, data_dir=data_dir, hospitals=hospitals, rounds=rounds, epsilon=epsilon,
        lifetime_epsilon=lifetime_epsilon, delta=delta, seed=seed, home=home_path(home),
        cheat=cheat, report=report, compare_nonprivate=compare_nonprivate,
        portal=portal_port if portal else None,
    )  # fmt: skip
    from consortium.cli.progress import show_progress

    with ExitStack() as shown:
        watch = shown.enter_context(show_progress(options.rounds))
        watch("Loading", None)
        from consortium.simulation.demo import run_demo

        def at_end(result: "DemoResult") -> None:
            shown.close()
            _print_outcome(result, format)

        run_demo(options, watch, started, at_end)


def _print_outcome(result: "DemoResult", format: Format) -> None:
    from consortium.simulation.report import demo_report, write_report

    options, content = result.options, demo_report(result)
    if options.report is not None:
        write_report(options.report, content)
    if format is Format.JSON:
        print_json(content)
    else:
        from consortium.cli.tables import print_demo

        print_demo(result)
    if options.portal is not None:
        print("\nThe portal stays open. Ctrl-C ends it.", file=sys.stderr, flush=True)


@app.command()
def portal(
    home: HomeOption = None,
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.", min=1, max=65535)] = 8501,
    host: Annotated[
        str, typer.Option(help="127.0.0.1, or in a container 0.0.0.0: then tokens only.")
    ] = "127.0.0.1",
) -> None:
    """Open the portal on a home's ledger, on this machine only. Its address signs you in.

    Others sign in with a token of their own (`consortium token issue`).

    Example: consortium portal --home .medpole
    """
    from consortium.portal import run_portal

    run_portal(home_path(home), port, host)


@app.command()
def serve(
    home: HomeOption = None,
    port: Annotated[
        int | None,
        typer.Option(help="Port (default: a socket in the home).", min=1, max=65535),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on, with --port; beyond this machine TLS is due.")
    ] = "127.0.0.1",
    requests_per_minute: Annotated[
        int,
        typer.Option(
            help="Of a person; an institution may 20 times that, strangers a tenth. 0: no limit.",
            min=0, max=1_000_000,
        ),
    ] = 600,
) -> None:  # fmt: skip
    """Serve the API of a home, and put together its ledger's blocks. Runs until it is stopped.

    On a draft (`consortium init`) it serves the founders until all have signed, then the ledger.
    Hospitals reach it through the reverse proxy.

    Example: consortium serve --home .medpole
    """
    from consortium.errors import OptionInvalid
    from consortium.logs import log_as_json
    from consortium.serve import serve as run_server

    if port is None and host != "127.0.0.1":
        raise OptionInvalid("--host is given without --port", "give both")
    log_as_json()
    run_server(home_path(home), port, host, requests_per_minute)


def main() -> None:
    """Entry point of the `consortium` command."""
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    run(app)
