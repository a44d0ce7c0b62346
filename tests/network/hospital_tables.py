"""Each hospital's table as it would come out of its own system: a CSV with the task's columns."""

from pathlib import Path

from consortium import tasks
from consortium.tasks.task import Site

HEART, BREAST = "heart-disease", "breast-cancer"


def write_tables(
    folder: Path, task: str, data_dir: Path | None = None, hospitals: int | None = None
) -> dict[str, tuple[Path, Site]]:
    """A CSV for each site of a task, by the site's id; nothing missing is written as a number."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for site in tasks.get(task).sites(data_dir, hospitals):
        path = folder / f"{site.id}.csv"
        site.frame.to_csv(path, index=False)
        found[site.id] = (path, site)
    return found
