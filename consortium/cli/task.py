"""`consortium task`: what can be trained, and how its checks were calibrated."""

from pathlib import Path
from typing import Annotated

import typer

from consortium.cli.output import Format, print_json, print_result

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
def calibrate(
    task: TaskArgument,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder that holds the task's files.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write it here instead of printing it.")] = None,
) -> None:
    """Measure honest rounds of a task, and choose the limits of its checks by them. Some minutes.

    What is measured, with all inputs and seeds, is kept with the task, in the folder
    consortium/tasks/calibration. New limits are a new task: jobs that run keep theirs.

    Example: consortium task calibrate breast-cancer --out breast-cancer.json
    """
    import json
    import sys

    from consortium.lab.calibration import calibrate as measure

    content = measure(task, data_dir, lambda what: print(what, file=sys.stderr, flush=True))
    if out is None:
        print_json(content)
    else:
        out.write_text(json.dumps(content, indent=2) + "\n")
        print(out)
