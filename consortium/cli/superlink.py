"""`consortium superlink` and `consortium coordinator`: the long-running parts beside the API."""

from typing import Annotated

import typer

from consortium.cli.home import HomeOption, home_path


def register(app: typer.Typer) -> None:
    """Adds the commands to the `consortium` command."""
    app.command()(superlink)
    app.command()(coordinator)


def superlink(
    home: HomeOption = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port.", min=1, max=65535)] = 8000,
) -> None:
    """Run Flower's SuperLink, with TLS, node authentication and a lock on its control ports.

    Hospitals reach it through the reverse proxy. It may be stopped and started at any time.

    Example: consortium superlink --home /srv/medpole
    """
    from consortium.flower.superlink import serve_superlink

    serve_superlink(home_path(home), host, port)


def coordinator(
    home: HomeOption = None,
    superlink: Annotated[
        str, typer.Option(help="HOST:PORT of the SuperLink (or MEDPOLE_SUPERLINK).",
                          envvar="MEDPOLE_SUPERLINK")
    ] = "127.0.0.1:8000",
    patience: Annotated[
        float, typer.Option(help="Seconds for which a hospital that is gone is waited for.", min=0)
    ] = 40.0,
) -> None:  # fmt: skip
    """Run the jobs that stand on the ledger, one after another. Runs until it is stopped.

    Killed at any point and started again, it goes on where it was.

    Example: consortium coordinator --home /srv/medpole
    """
    from consortium.coordinator.process import coordinate
    from consortium.logs import log_as_json

    log_as_json()
    coordinate(home_path(home), superlink, patience)
