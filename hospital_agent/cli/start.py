"""`hospital-agent start`: the agent as a service."""

from typing import Annotated

import typer

from hospital_agent.cli.options import HomeOption, hospital


def start(
    home: HomeOption,
    health_port: Annotated[
        int,
        typer.Option(help="Port of GET /health on 127.0.0.1; 0: none.", min=0, max=65535,
                     envvar="MEDPOLE_HEALTH_PORT"),
    ] = 8090,
) -> None:  # fmt: skip
    """Run this hospital's agent: its Flower node and its witness. Runs until it is stopped.

    Outbound connections only. Logs are JSON lines on standard error: codes and ids, no data.

    Example: hospital-agent start --home /srv/medpole
    """
    from consortium.logs import log_as_json
    from hospital_agent.agent import start as run_agent

    folder = hospital(home)
    log_as_json()
    run_agent(folder, health_port or None)
