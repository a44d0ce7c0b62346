"""`hospital-agent evaluation`: how released models do here, exactly, and what was let out of it."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from consortium.cli.output import Format, print_json, print_result
from hospital_agent.cli.options import FormatOption, HomeOption, hospital

if TYPE_CHECKING:
    from hospital_agent.folder import HospitalFolder

app = typer.Typer(
    help="Test results of released models: exact here, banded outside.", no_args_is_help=True
)


@app.command("list")
def list_(home: HomeOption, format: FormatOption = Format.TABLE) -> None:
    """Show what was let out about each job that is over, or why nothing was.

    Example: hospital-agent evaluation list --home /srv/medpole
    """
    jobs = _states(hospital(home))
    if format is Format.JSON:
        print_json([{"job": job, "state": state} for job, state in jobs.items()])
        return
    for job, state in jobs.items():
        print(f"{job}: {state}")
    if not jobs:
        print("no job is over in which this hospital has learned")


@app.command()
def show(
    job: Annotated[str, typer.Argument(help="The job's id, as `evaluation list` shows it.")],
    home: HomeOption,
    format: FormatOption = Format.TABLE,
) -> None:
    """Show a job's test results: exact, which never leave, and as they were let out.

    Example: hospital-agent evaluation show heart-disease-1 --home /srv/medpole
    """
    from consortium.rounds.evaluation import models_of
    from hospital_agent.errors import JobUnknown
    from hospital_agent.releases import Releases

    folder = hospital(home)
    release, state = Releases(folder.path / "releases.sqlite").of(job), _states(folder).get(job)
    if release is None:
        raise JobUnknown(
            f"there are no test results of {job[:60]!r}: {state or 'no such job is over here'}",
            "see `hospital-agent evaluation list`",
        )
    evaluation, exact = release.evaluation, dict(release.exact)
    exact["majority"] = {"majority": exact["majority"]}
    if format is Format.JSON:
        print_json({"job": job, "state": state, "exact": release.exact,
                    "released": evaluation.body()})  # fmt: skip
        return
    shown: dict[str, Any] = {"job": job, "state": state}
    for size in ("positives", "negatives"):
        edge = getattr(evaluation, size)
        band = f"{edge} or more" if edge else "nothing" if evaluation.noised else "fewer than 5"
        shown[f"test patients, {size}"] = f"{exact[size]}, let out: {band}"
    for model, measures in models_of(evaluation).items():
        for measure, banded in measures.items():
            value = exact[model][measure]
            said = "not defined" if value is None else f"{value:.4f}"
            out = "nothing" if banded is None else f"{banded / 10_000:.2f}"
            name = "accuracy" if measure == model else measure
            shown[f"{model}, {name}"] = f"{said}, let out: {out}"
    print_result(shown, format)


def _states(folder: "HospitalFolder") -> dict[str, str]:
    """Each job that is over, oldest first, and what became of its evaluation."""
    from hospital_agent.releases import Releases
    from hospital_agent.replica import Replica

    path = folder.path / "replica.sqlite"
    if not path.exists():
        return {}
    replica, releases = Replica(path), Releases(folder.path / "releases.sqlite")
    refused = releases.refused()
    due = set(replica.learned(folder.institution, evaluated=False))
    states = {}
    for job in replica.learned(folder.institution):
        if job not in due:
            states[job] = "on the ledger"
        elif releases.of(job) is not None:
            states[job] = "signed, and not on the ledger yet"
        else:
            states[job] = f"not released: {refused[job]}" if job in refused else "due"
    return states
