"""Where a command's local state lies: ``--home``, else ``MEDPOLE_HOME``, else the user's data."""

import os
from pathlib import Path
from typing import Annotated

import typer

HomeOption = Annotated[
    Path | None,
    typer.Option(help="Folder of all local state (default: MEDPOLE_HOME, or the user's data)."),
]


def home_path(option: Path | None) -> Path:
    """The home folder that a command uses, as an absolute path."""
    if option is not None:
        return option.absolute()
    if named := os.environ.get("MEDPOLE_HOME"):
        return Path(named).absolute()
    from platformdirs import user_data_path

    return user_data_path("medpole")


def existing_home(option: Path | None) -> Path:
    """The same, of a home that is there: nothing is made of a mistyped one.

    Raises:
        HomeInvalid: if there is none.
    """
    from ledger.errors import HomeInvalid

    path = home_path(option)
    if not (path / "home.json").exists():
        raise HomeInvalid(f"there is no home {path}", "name the coordinator's folder with --home")
    return path
