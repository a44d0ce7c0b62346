"""`hospital-agent images`: a folder of DICOM images without who the patients are."""

from pathlib import Path
from typing import Annotated

import typer

from consortium.cli.output import Format, print_result
from hospital_agent.cli.options import FormatOption, HomeOption, hospital


def images(
    source: Annotated[Path, typer.Argument(help="The folder of DICOM images, with its folders.")],
    out: Annotated[Path, typer.Option(help="The folder to make; it must not be there yet.")],
    task: Annotated[str, typer.Option(help="The task they are for: its key makes pseudonyms.")],
    home: HomeOption,
    shift_dates: Annotated[
        bool,
        typer.Option(
            "--shift-dates",
            help="Keep dates, moved by a keyed number of days for each patient (beyond Safe "
            "Harbor's letter). Default: dates go.",
        ),
    ] = False,
    pixels_looked_at: Annotated[
        bool,
        typer.Option(
            "--pixels-looked-at",
            help="A person has looked at every image, and none shows text or a face.",
        ),
    ] = False,
    format: FormatOption = Format.TABLE,
) -> None:
    """Copy DICOM images without identifiers, under this hospital's own pseudonyms.

    One image that cannot be de-identified stops all of it, and nothing is left behind.

    Example: hospital-agent images export/ --task heart-disease --out clean/ --home /srv/medpole
    """
    from rich.console import Console
    from rich.progress import Progress

    from consortium import tasks
    from hospital_agent.images import copy_images

    folder, name = hospital(home), tasks.get(task).name
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("de-identifying", total=None)
        copied = copy_images(
            folder, name, source, out, looked_at=pixels_looked_at, shift_dates=shift_dates,
            told=lambda done, of: progress.update(bar, completed=done, total=of),
        )  # fmt: skip
    content = {"images": copied.images, "patients": copied.patients, "written to": str(copied.out)}
    content["dates"] = "moved by key" if shift_dates else "removed"
    print_result(content, format)
