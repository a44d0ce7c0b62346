"""`consortium events`: what was refused, and to whom."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from consortium.cli.home import HomeOption, home_path
from consortium.cli.output import Format, print_json


def register(app: typer.Typer) -> None:
    """Adds the command to the `consortium` command."""
    app.command()(events)


def events(
    newest: Annotated[int, typer.Option(help="How many to show, the newest last.", min=1)] = 50,
    code: Annotated[str | None, typer.Option(help="Only those with this code.")] = None,
    home: HomeOption = None,
    format: Annotated[Format, typer.Option(help="How the result is printed.")] = Format.TABLE,
) -> None:
    """Show refused attempts: who was turned away, when, and with which code.

    Each code has a page in docs/errors.

    Example: consortium events --newest 20 --home /srv/medpole
    """
    from consortium.events import events as on_record
    from ledger.errors import HomeInvalid

    path = home_path(home)
    if not path.is_dir():
        raise HomeInvalid(f"there is no home {path}", "name the coordinator's folder with --home")
    found = [one for one in on_record(path) if code in (None, one.get("code"))]
    found = found[-newest:]
    if format is Format.JSON:
        print_json(found)
        return
    for one in found:
        more = "  ".join(
            f"{name} {value}" for name, value in one.items() if name not in ("time", "code")
        )
        when = datetime.fromtimestamp(one["time"], UTC).isoformat(timespec="seconds")
        print(f"{when}  {one['code']:<24}{more}".rstrip())
    if not found:
        print("nothing was refused")
