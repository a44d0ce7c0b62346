"""`hospital-agent preflight`: whether this hospital can take part, and what to fix."""

from typing import TYPE_CHECKING, Annotated

import typer

from consortium.cli.output import Format, print_json
from hospital_agent.cli.options import FormatOption, HomeOption, hospital

if TYPE_CHECKING:
    from hospital_agent.preflight.site import Check

WIDTH = 100


def preflight(
    home: HomeOption,
    api: Annotated[
        str | None,
        typer.Option(help="Another address than the one enrolled with.", envvar="MEDPOLE_API"),
    ] = None,
    format: FormatOption = Format.TABLE,
) -> None:
    """Check network, keys, data and budget; say how to fix what fails. Changes nothing.

    Exit code 0 and "ready", warnings or not; 1 if a check fails.

    Example: hospital-agent preflight --home /srv/medpole
    """
    from hospital_agent.preflight import is_ready, to_json
    from hospital_agent.preflight import preflight as check_all

    checks = check_all(hospital(home), api)
    if format is Format.JSON:
        print_json(to_json(checks))
    else:
        _print_table(checks)
    if not is_ready(checks):
        raise typer.Exit(1)


def _print_table(checks: "list[Check]") -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from hospital_agent.preflight import is_ready
    from hospital_agent.preflight.site import State

    console = Console()
    console = Console(width=min(console.width, WIDTH) if console.is_terminal else WIDTH)
    table = Table()
    table.add_column("check", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("result")
    table.add_column("how to fix")
    colours = {State.OK: "green", State.WARN: "yellow", State.FAIL: "bold red"}
    for check in checks:
        mark = Text(check.state, colours[check.state])
        table.add_row(check.name, mark, Text(check.result), Text(check.fix))
    console.print(table)
    failed = [check.name for check in checks if check.state is State.FAIL]
    console.print("ready" if is_ready(checks) else f"not ready: {', '.join(failed)}", style="bold")
