"""`hospital-agent data`: this hospital's patients, checked and stored on site."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from consortium.cli.output import Format, print_json, print_result
from hospital_agent.cli.options import FormatOption, HomeOption, hospital

if TYPE_CHECKING:
    from hospital_agent.data import TableReport

app = typer.Typer(help="This hospital's patients. They never leave it.", no_args_is_help=True)
SourceOption = Annotated[Path | None, typer.Option(help="A CSV file with a header, UTF-8.")]


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="What the cohort is called here; it stays here.")],
    home: HomeOption,
    task: Annotated[str, typer.Option(help="The task that the patients are for.")],
    source: Annotated[
        Path, typer.Option(help="A CSV file with a header, UTF-8, one row for each patient.")
    ],
    declared_patients: Annotated[
        int | None,
        typer.Option(
            help="PUBLIC: about how many train (64 % of the rows), from published facts, not "
            "counted. Rounded down to a multiple of 5."
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Draws the parts (default: random).", min=0, max=2**32 - 1)
    ] = None,
    format: FormatOption = Format.TABLE,
) -> None:
    """Check a table, store it as this hospital's cohort for a task, and allow that task.

    Columns that the task does not name are dropped. The file itself is not needed any more.

    Example: hospital-agent data add cardiology --task heart-disease --source heart.csv
    --declared-patients 100
    """
    from hospital_agent.data import add_cohort

    added = add_cohort(hospital(home), name, task, source, declared_patients, seed)
    content = {
        "cohort": added.cohort.name,
        "task": added.cohort.task,
        "rows": added.report.rows,
        "outcome_1": added.report.positive,
        "declared_patients": added.cohort.declared_patients,
        "declared_is": "public: it stands in every job's contract, and no epsilon covers it",
        "dropped_columns": list(added.report.dropped),
        "warnings": list(added.report.warnings),
        "lifetime_epsilon": added.policy.lifetime_epsilon,
        "job_epsilon": added.policy.job_epsilon or "as the lifetime's",
        "tasks_allowed": list(added.policy.tasks),
        "stored_in": str(added.cohort.folder),
    }
    print_result(content, format)


@app.command()
def check(
    home: HomeOption,
    name: Annotated[
        str | None, typer.Argument(help="A cohort here; or give --source and --task.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="The task to check a file for.")] = None,
    source: SourceOption = None,
    format: FormatOption = Format.TABLE,
) -> None:
    """Say whether a table fits a task, and all that is wrong with it. Stores nothing.

    Numbers are bands: the report may be shown to others. Exit code 1 if the table is not usable.

    Example: hospital-agent data check --source heart.csv --task heart-disease
    """
    from consortium import tasks
    from consortium.errors import OptionInvalid
    from hospital_agent.data import examine, read_table, stored_table

    if name is not None and task is None and source is None:
        cohort, frame = stored_table(hospital(home), name)
        chosen = tasks.get(cohort.task)
    elif name is None and task is not None and source is not None:
        chosen, frame = tasks.get(task), read_table(source)
    else:
        raise OptionInvalid(
            "it is not clear what to check",
            "name a cohort, or give both --source and --task",
        )
    report = examine(chosen, frame)
    if format is Format.JSON:
        print_json(asdict(report) | {"usable": report.usable})
    else:
        _print_report(report)
    if not report.usable:
        raise typer.Exit(1)


def _print_report(report: "TableReport") -> None:
    known: dict[str, Any] = {
        "task": report.task,
        "rows": report.rows,
        "outcome 1": report.positive,
        "duplicates": report.duplicates,
        "dropped columns": list(report.dropped) or "none",
    }
    print_result(known, Format.TABLE)
    width = max((len(column.name) for column in report.columns), default=0)
    for column in report.columns:
        said = column.problem.removeprefix(f"{column.name}: ") or "fits"
        print(f"  {column.name:<{width}}  missing: {column.missing:<10}  {said}")
    for text in report.problems:
        print(f"problem: {text}")
    for text in report.warnings:
        print(f"warning: {text}")
    print("usable" if report.usable else "not usable")


@app.command("list")
def list_(home: HomeOption, format: FormatOption = Format.TABLE) -> None:
    """Show this hospital's cohorts: names, tasks, and what is left of their budgets.

    Example: hospital-agent data list --home /srv/medpole
    """
    from hospital_agent.cohort import Cohort
    from privacy.errors import PrivacyError

    folder, found = hospital(home), []
    for cohort in Cohort.all(folder):
        row: dict[str, Any] = {
            "name": cohort.name,
            "task": cohort.task,
            "declared_patients": cohort.declared_patients,
            "cohort": cohort.id,
        }
        try:
            status = folder.budget.status(cohort.id)
            row["epsilon_spent"] = str(status.epsilon_spent)
            row["epsilon_limit"] = str(status.epsilon_limit)
        except PrivacyError as error:
            row["epsilon_spent"] = row["epsilon_limit"] = error.code
        found.append(row)
    if format is Format.JSON:
        print_json(found)
        return
    for row in found:
        print(
            f"{row['name']}: {row['task']}, declares {row['declared_patients']} patients, epsilon "
            f"spent {row['epsilon_spent']} of {row['epsilon_limit']}; cohort {row['cohort']}"
        )
    if not found:
        print("no cohort yet: see `hospital-agent data add --help`")
