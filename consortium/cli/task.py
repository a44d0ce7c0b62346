"""`consortium task`: what can be trained, and how its checks were calibrated."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from consortium.cli.output import Format, print_json, print_result

if TYPE_CHECKING:
    from consortium.tasks.checklist import Item

app = typer.Typer(help="Tasks: what a job may train.", no_args_is_help=True)
FormatOption = Annotated[Format, typer.Option(help="How the result is printed.")]
TaskArgument = Annotated[str, typer.Argument(help="The task's name.")]


@app.command("list")
def list_(format: FormatOption = Format.TABLE) -> None:
    """Show all tasks.

    Example: consortium task list
    """
    from consortium.tasks import get, names

    tasks = [{"task": task.name, "title": task.title} for task in map(get, names())]
    if format is Format.JSON:
        print_json(tasks)
        return
    for task in tasks:
        print(f"{task['task']:<20}{task['title']}")


@app.command()
def show(task: TaskArgument, format: FormatOption = Format.TABLE) -> None:
    """Show a task: its table, its model, its recipe, and the limits of its checks.

    Example: consortium task show heart-disease
    """
    from consortium.tasks import get
    from consortium.tasks.thresholds import calibration_of

    known = get(task)
    model, limits = known.model(), known.thresholds
    counts = calibration_of(task, known.folder)["counts"]
    content = {
        "task": known.name,
        "title": known.title,
        "outcome": known.label,
        "inputs": [f"{f.name} {f.unit}".strip() for f in known.features]
        or "x".join(map(str, known.inputs.shape)),
        "parameters": sum(p.numel() for p in model.parameters()),
        "recipe": [
            f"{known.recipe.rounds} rounds", f"{known.recipe.total_steps} steps",
            f"travel {known.recipe.travel}", f"clip {known.recipe.clip}", known.recipe.clipping,
        ],
        "fingerprint": known.fingerprint(),
        "calibrated_on": f"{counts['steps']} honest updates",
        **limits.model_dump(),
    }  # fmt: skip
    print_result(content, format)


@app.command()
def new(
    task: Annotated[str, typer.Argument(help="Its name: small letters, digits, dashes.")],
    out: Annotated[Path, typer.Option(help="The folder of tasks that gets its folder.")] = Path(
        "tasks"
    ),
    images: Annotated[
        int | None, typer.Option(help="A task of images, of so many places along a side.")
    ] = None,
) -> None:
    """Write the folder of a new task: its definition to fill in, and a test.

    The environment variable MEDPOLE_TASKS names folders of tasks, for every command and agent.

    Example: consortium task new diabetes --out tasks
    """
    from consortium.tasks.folders import VARIABLE, task_folders
    from consortium.tasks.new import new_task

    written = new_task(task, out, images)
    for path in written:
        print(path)
    if written[0].parent.resolve() not in [folder.resolve() for folder in task_folders()]:
        print(f"export {VARIABLE}={out.resolve()}    # so that it is found")


@app.command()
def check(
    task: TaskArgument,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder that holds the task's files.")
    ] = None,
    format: FormatOption = Format.TABLE,
) -> None:
    """Tell what a task has, and what is missing before a job can train it. Exit code 1 if any is.

    Example: consortium task check diabetes
    """
    from dataclasses import asdict

    from consortium.tasks import get
    from consortium.tasks.checklist import checklist

    items = checklist(get(task), data_dir)
    if format is Format.JSON:
        print_json([asdict(item) for item in items])
    else:
        _print_items(items)
    if any(item.state == "missing" for item in items):
        raise typer.Exit(1)


def _print_items(items: "list[Item]") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    for item in items:
        table.add_row(item.name, item.state, item.found)
        if item.fix:
            table.add_row("", "", item.fix)
    Console(markup=False, highlight=False).print(table)


@app.command()
def calibrate(
    task: TaskArgument,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder that holds the task's files.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write it here instead of printing it.")] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Of four hospitals and short jobs only: to try a task.")
    ] = False,
    jobs: Annotated[int, typer.Option(help="How many processes at once.", min=1, max=64)] = 2,
) -> None:
    """Measure honest rounds of a task, and choose the limits of its checks by them. Some minutes.

    What is measured, with all inputs and seeds, is kept with the task, in the folder
    consortium/tasks/calibration. New limits are a new task: jobs that run keep theirs.

    Example: consortium task calibrate breast-cancer --out breast-cancer.json
    """
    import json
    import sys

    from consortium.lab.calibration import QUICK, WHOLE
    from consortium.lab.calibration import calibrate as measure

    content = measure(
        task, data_dir, lambda what: print(what, file=sys.stderr, flush=True),
        QUICK if quick else WHOLE, jobs,
    )  # fmt: skip
    if out is None:
        print_json(content)
    else:
        out.write_text(json.dumps(content, indent=2) + "\n")
        print(out)
