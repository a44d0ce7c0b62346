"""`consortium access-log`: who asked the API for what."""

import json
import sys
import time
from datetime import UTC, datetime
from typing import Annotated

import typer

from consortium.cli.duration import seconds
from consortium.cli.home import HomeOption, existing_home
from consortium.cli.output import Format


def register(app: typer.Typer) -> None:
    """Adds the command to the `consortium` command."""
    app.command()(access_log)


def access_log(
    since: Annotated[
        str | None, typer.Option(help="How far back: 30d, 24h, 30m (default: all).")
    ] = None,
    home: HomeOption = None,
    format: Annotated[
        Format, typer.Option(help="table, or json: one object a line.")
    ] = Format.TABLE,
) -> None:
    """Show who asked the API for what, oldest first. No token stands in it.

    Example: consortium access-log --since 24h --home /srv/medpole
    """
    from consortium.access_log import AccessLog

    began = 0.0 if since is None else time.time() - seconds(since, "--since")
    for line in AccessLog(existing_home(home)).lines(began):
        if format is Format.JSON:
            sys.stdout.write(line.decode())
            continue
        one = json.loads(line)
        when = datetime.fromtimestamp(one["time"], UTC).isoformat(timespec="seconds")
        who = f"{one['caller']} ({one['role']})" if one["caller"] else "-"
        print(
            f"{when}  {one['status']}  {one['method']:<6} {one['route']}  {who}  "
            f"{one['address'] or 'local'}  {one['ms']} ms  {one['bytes']} bytes  {one['request']}"
        )
