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
    from hospital_agent.gain_report import shown as without_few
    from hospital_agent.policy import Policy
    from hospital_agent.releases import Releases

    folder = hospital(home)
    release, state = Releases(folder.path / "releases.sqlite").of(job), _states(folder).get(job)
    if release is None:
        raise _unknown(job, state)
    fewest = Policy.read(folder.path / "policy.json").fewest_of_a_class
    evaluation, exact = release.evaluation, without_few(release.exact, fewest)
    if format is Format.JSON:
        print_json({"job": job, "state": state, "exact": exact, "released": evaluation.body()})
        return
    exact["majority"] = {"majority": exact["majority"]}
    shown: dict[str, Any] = {"job": job, "state": state}
    for size in ("positives", "negatives"):
        edge = getattr(evaluation, size)
        band = f"{edge} or more" if edge else "nothing" if evaluation.noised else "too few to say"
        count = f"fewer than {fewest}" if exact[size] is None else exact[size]
        shown[f"test patients, {size}"] = f"{count}, let out: {band}"
    for model, measures in models_of(evaluation).items():
        for measure, banded in measures.items():
            value = exact[model][measure]
            said = "n/a" if value is None else f"{value:.4f}"
            out = "nothing" if banded is None else f"{banded / 10_000:.2f}"
            name = "accuracy" if measure == model else measure
            shown[f"{model}, {name}"] = f"{said}, let out: {out}"
    print_result(shown, format)


@app.command()
def gain(
    job: Annotated[str, typer.Argument(help="The job's id, as `evaluation list` shows it.")],
    home: HomeOption,
    format: FormatOption = Format.TABLE,
) -> None:
    """Show what this hospital gains by a job's model: a sentence, exact numbers, what was let out.

    Where nothing was let out, the numbers are computed now; they stay here.

    Example: hospital-agent evaluation gain heart-disease-1 --home /srv/medpole
    """
    import textwrap

    from hospital_agent import gain_report
    from hospital_agent.evaluation import exactly
    from hospital_agent.policy import Policy
    from hospital_agent.releases import Releases

    folder = hospital(home)
    state = _states(folder).get(job)
    exact = None if state is None else exactly(folder, job)
    if exact is None:
        raise _unknown(job, state)
    fewest = Policy.read(folder.path / "policy.json").fewest_of_a_class
    release = Releases(folder.path / "releases.sqlite").of(job)
    evaluation = None if release is None else release.evaluation
    sentence = gain_report.sentence(exact, fewest)
    if format is Format.JSON:
        print_json({
            "job": job, "state": state, "sentence": sentence,
            "outcome": gain_report.outcome(exact, fewest),
            "exact": gain_report.shown(exact, fewest),
            "released": None if evaluation is None else evaluation.body(),
        })  # fmt: skip
        return
    together = sentence.replace("95 %", "95\u00a0%")  # never at a line's end
    print(textwrap.fill(together, 80).replace("\u00a0", " "))
    print()
    print("\n".join(gain_report.lines(exact, fewest, evaluation)))
    print(f"\n{job}: {state}")


def _unknown(job: str, state: str | None) -> Exception:
    from hospital_agent.errors import JobUnknown

    return JobUnknown(
        f"there are no test results of {job[:60]!r}: {state or 'no such job is over here'}",
        "see `hospital-agent evaluation list`",
    )


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
