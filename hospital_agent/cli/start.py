"""`hospital-agent start` and `health`: the agent as a service."""

from typing import Annotated

import typer

from consortium.cli.output import Format, print_result
from hospital_agent.cli.options import FormatOption, HomeOption, hospital

HealthPortOption = Annotated[
    int,
    typer.Option(
        help="Port of GET /health on 127.0.0.1; 0: none.", min=0, max=65535,
        envvar="MEDPOLE_HEALTH_PORT",
    ),
]  # fmt: skip
DeviceOption = Annotated[
    str,
    typer.Option(
        help="Where training computes: cpu, cuda, or cuda:N for one of several GPUs.",
        envvar="MEDPOLE_DEVICE",
    ),
]
PATIENCE_S = 5


def start(
    home: HomeOption, health_port: HealthPortOption = 8090, device: DeviceOption = "cpu"
) -> None:
    """Run this hospital's agent: its Flower node and its witness. Runs until it is stopped.

    Outbound connections only. Logs are JSON lines on standard error: codes and ids, no data.

    Example: hospital-agent start --home /srv/medpole
    """
    from consortium.logs import log_as_json
    from hospital_agent.agent import start as run_agent

    folder = hospital(home)
    log_as_json()
    run_agent(folder, health_port or None, device)


def health(health_port: HealthPortOption = 8090, format: FormatOption = Format.TABLE) -> None:
    """Ask the agent that runs on this machine how it is. Exit code 0 if well, else 1.

    Example: hospital-agent health
    """
    import http.client
    import json

    from hospital_agent.errors import AgentSilent

    connection = http.client.HTTPConnection("127.0.0.1", health_port, timeout=PATIENCE_S)
    try:
        connection.request("GET", "/health")
        answer = connection.getresponse()
        report = json.loads(answer.read())
    except (OSError, ValueError, http.client.HTTPException):
        raise AgentSilent(
            f"no agent answers on port {health_port} of this machine",
            "start it: hospital-agent start; or name its --health-port",
        ) from None
    for part in ("node", "witness"):
        if isinstance(state := report.get(part), dict):
            report[part] = f"{state.get('state')} for {state.get('for_seconds')} s"
    print_result(report, format)
    if answer.status != 200:
        raise typer.Exit(1)
