"""`hospital-agent data`: this hospital's patients, checked and stored on site."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from consortium.cli.output import Format, print_json, print_result
from hospital_agent.cli.options import FormatOption, HomeOption, hospital

if TYPE_CHECKING:
    from hospital_agent.data_report import TableReport

app = typer.Typer(help="This hospital's patients. They never leave it.", no_args_is_help=True)
_SOURCE = (
    "A CSV or Parquet file, a FHIR R4 Bundle (.json), NDJSON file or folder of them, a folder of "
    "DICOM images, or a database like postgresql://USER@HOST/DATABASE (no password in it)."
)
MappingOption = Annotated[
    Path | None,
    typer.Option(help="What the source's names, units and codes mean (TOML; see docs/data.md)."),
]
QueryOption = Annotated[
    Path | None, typer.Option(help="A file with the query that gives the rows of a database.")
]
LabelsOption = Annotated[
    Path | None, typer.Option(help="A CSV file with the outcomes of a folder of images.")
]
PasswordOption = Annotated[
    Path | None,
    typer.Option(help="A file that holds the database's password (or MEDPOLE_SOURCE_PASSWORD)."),
]
LookedAtOption = Annotated[
    bool,
    typer.Option(
        "--pixels-looked-at",
        help="A person has looked at every image, and none shows text or a face.",
    ),
]


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="What the cohort is called here; it stays here.")],
    home: HomeOption,
    task: Annotated[str, typer.Option(help="The task that the patients are for.")],
    source: Annotated[str, typer.Option(help=_SOURCE)],
    mapping: MappingOption = None,
    query: QueryOption = None,
    labels: LabelsOption = None,
    password_file: PasswordOption = None,
    pixels_looked_at: LookedAtOption = False,
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
    """Check a source, store its patients as this hospital's cohort for a task, allow that task.

    What neither the task nor the mapping names is dropped. The source is not needed any more.

    Example: hospital-agent data add cardiology --task heart-disease --source heart.csv
    --declared-patients 100
    """
    from hospital_agent.data import add_cohort
    from hospital_agent.sources.opening import Address

    address = Address(source, query, labels, password_file, pixels_looked_at)
    added = add_cohort(hospital(home), name, task, address, declared_patients, seed, mapping)
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
    task: Annotated[str | None, typer.Option(help="The task to check a source for.")] = None,
    source: Annotated[str | None, typer.Option(help=_SOURCE)] = None,
    mapping: MappingOption = None,
    query: QueryOption = None,
    labels: LabelsOption = None,
    password_file: PasswordOption = None,
    pixels_looked_at: LookedAtOption = False,
    format: FormatOption = Format.TABLE,
) -> None:
    """Say whether a source fits a task, and all that is wrong with it. Stores nothing.

    Numbers are bands: the report may be shown to others. Exit code 1 if it is not usable.

    Example: hospital-agent data check --source heart.csv --task heart-disease
    """
    from consortium.errors import OptionInvalid
    from hospital_agent.data import check as examined
    from hospital_agent.data import check_stored
    from hospital_agent.sources.opening import Address

    if name is not None and task is None and source is None:
        report = check_stored(hospital(home), name)
    elif name is None and task is not None and source is not None:
        address = Address(source, query, labels, password_file, pixels_looked_at)
        report = examined(task, address, mapping)
    else:
        raise OptionInvalid(
            "it is not clear what to check",
            "name a cohort, or give both --source and --task",
        )
    if format is Format.JSON:
        print_json(report.to_json())
    else:
        _print_report(report)
    if not report.usable:
        raise typer.Exit(1)


def _print_report(report: "TableReport") -> None:
    alike = report.anonymity or {}
    known: dict[str, Any] = {
        "task": report.task,
        "rows": report.rows,
        "outcome 1": report.positive,
        "duplicates": report.duplicates,
        "patients": report.patients,
        "dropped columns": list(report.dropped) or "none",
        "k, l, t": ", ".join(alike[name] for name in ("k", "l", "t")) if alike else "no column",
        "like nobody else": alike.get("alone", "no column"),
    }
    print_result(known, Format.TABLE)
    print("columns")
    _print_rows(
        [
            (column.name, f"missing: {column.missing}", column.problems[0].code)
            if column.problems
            else (column.name, f"missing: {column.missing}", "fits")
            for column in report.columns
        ]
    )
    print("identifiers" if report.identifiers else "identifiers: none found")
    _print_rows([(finding.column, finding.kind, finding.rows) for finding in report.identifiers])
    print("Safe Harbor, 45 CFR 164.514(b)(2)")
    _print_rows(
        [
            (f"{item.letter} {item.title}", item.state, item.looked_at * (item.state != "absent"))
            for item in report.safe_harbor
        ]
    )
    for problem in report.problems:
        print(f"problem: {problem.what}; {problem.resolve}")
    for text in report.warnings:
        print(f"warning: {text}")
    print("usable" if report.usable else "not usable")


def _print_rows(rows: list[tuple[str, str, str]]) -> None:
    """Rows under each other, in the terminal's width; the last column is folded."""
    from rich.console import Console
    from rich.table import Table

    if not rows:
        return
    table = Table.grid(padding=(0, 2))
    for row in rows:
        table.add_row(f"  {row[0]}", *row[1:])
    Console(markup=False, highlight=False).print(table)


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
