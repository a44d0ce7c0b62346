"""Options that the agent's commands share."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from consortium.cli.output import Format

if TYPE_CHECKING:
    from hospital_agent.folder import HospitalFolder


def _own_folder() -> Path:
    from platformdirs import user_data_path

    return user_data_path("medpole-hospital")


HomeOption = Annotated[
    Path,
    typer.Option(
        help="This hospital's own folder (or MEDPOLE_HOSPITAL, or in the user's data).",
        envvar="MEDPOLE_HOSPITAL",
        default_factory=_own_folder,
        show_default=False,
    ),
]
ApiOption = Annotated[
    str,
    typer.Option(
        help="Another API than the one enrolled at: https://…, or unix:PATH (or MEDPOLE_API).",
        envvar="MEDPOLE_API",
        default_factory=str,
        show_default=False,
    ),
]
KeyOption = Annotated[
    Path | None,
    typer.Option(help="The approving person's key file (default: in the hospital's folder)."),
]
FormatOption = Annotated[Format, typer.Option(help="How the result is printed.")]
PASSPHRASE = "MEDPOLE_APPROVER_PASSPHRASE"  # noqa: S105 (the variable's name)


def hospital(home: Path) -> "HospitalFolder":
    """The hospital's folder that a command works on."""
    from hospital_agent.folder import open_folder

    return open_folder(home)


def approver_of(folder: "HospitalFolder", key: Path | None) -> tuple[Path, str | None]:
    """The person's key file and its passphrase, asked for at a terminal where it has one."""
    import os
    import sys

    from hospital_agent.approver import is_encrypted
    from hospital_agent.enrolment import APPROVER

    path = key or folder.path / APPROVER
    passphrase = os.environ.get(PASSPHRASE)
    if passphrase is None and is_encrypted(path) and sys.stdin.isatty():
        passphrase = typer.prompt("Passphrase of the approval key", hide_input=True, err=True)
    return path, passphrase
