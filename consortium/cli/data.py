"""`consortium data`: public datasets."""

from pathlib import Path
from typing import Annotated

import typer

from consortium.errors import DatasetUnknown

app = typer.Typer(help="Public datasets for demos and benchmarks.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Public datasets for demos and benchmarks."""


@app.command()
def fetch(
    dataset: Annotated[str, typer.Argument(help="heart-disease")],
    out: Annotated[Path, typer.Option(help="Folder to write into.")] = Path("heart-data"),
) -> None:
    """Fetch a dataset from its public source, checking every file's md5.

    Example: consortium data fetch heart-disease --out heart-data
    """
    if dataset != "heart-disease":
        raise DatasetUnknown(
            f"there is nothing to fetch for {dataset[:60]!r}",
            "heart-disease is fetched; breast-cancer comes with the installation",
        )
    from consortium.data_fetch import fetch as fetch_files

    for path in fetch_files(out):
        print(path)
