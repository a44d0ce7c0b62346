"""`hospital-agent policy`: what the data owner allows."""

from enum import StrEnum
from typing import Annotated, Any

import typer

from consortium.cli.output import Format, print_result
from hospital_agent.cli.options import FormatOption, HomeOption, hospital

app = typer.Typer(help="What the data owner allows.", no_args_is_help=True)


class Approval(StrEnum):
    """Whether a person must approve each job."""

    NEVER = "never"
    ALWAYS = "always"


class Released(StrEnum):
    """Whether test results of released models leave, and how."""

    BANDED = "banded"
    NOISED = "noised"
    NONE = "none"


class Scores(StrEnum):
    """How scores on validation patients may leave."""

    BANDED = "banded"
    NOISED = "noised"


class OneClass(StrEnum):
    """Whether a table whose training part holds one outcome only may be stored."""

    ALLOWED = "allowed"
    REFUSED = "refused"


@app.command()
def show(home: HomeOption, format: FormatOption = Format.TABLE) -> None:
    """Show what the data owner allows.

    Example: hospital-agent policy show --home .medpole/hospitals/hospital-1
    """
    from dataclasses import asdict

    from hospital_agent.policy import Policy

    print_result(asdict(Policy.read(hospital(home).path / "policy.json")), format)


@app.command("set")
def set_(
    home: HomeOption,
    lifetime_epsilon: Annotated[
        str | None, typer.Option(help="New limit of every cohort, over all jobs.")
    ] = None,
    job_epsilon: Annotated[str | None, typer.Option(help="Largest epsilon of one job.")] = None,
    delta: Annotated[
        str | None, typer.Option(help="Of all epsilons here; only before there is data.")
    ] = None,
    fewest_institutions: Annotated[
        int | None, typer.Option(help="Smallest job to take part in.", min=1)
    ] = None,
    approval: Annotated[
        Approval | None, typer.Option(help="Whether a person must approve each job.")
    ] = None,
    allow_task: Annotated[list[str] | None, typer.Option(help="Allow a task; repeatable.")] = None,
    deny_task: Annotated[
        list[str] | None, typer.Option(help="Allow a task no longer; repeatable.")
    ] = None,
    app_bundle: Annotated[
        list[str] | None,
        typer.Option(
            "--app",
            help="Model code that may run: `installed`, or a bundle's SHA-256; repeatable.",
        ),
    ] = None,
    scores: Annotated[
        Scores | None,
        typer.Option(
            help="noised: refuse jobs whose scores on validation patients leave in bands, which "
            "no epsilon covers."
        ),
    ] = None,
    evaluations: Annotated[
        Released | None,
        typer.Option(
            help="Whether test results leave in bands, only with noise (in jobs with --score-noise)"
            ", or not at all."
        ),
    ] = None,
    evaluation_limit: Annotated[
        int | None,
        typer.Option(help="Of how many jobs test results leave, over a cohort's life.", min=0),
    ] = None,
    fewest_of_a_class: Annotated[
        int | None,
        typer.Option(
            help="Test patients of each class below which no result is shown or leaves.", min=5
        ),
    ] = None,
    fewest_alike: Annotated[
        int | None,
        typer.Option(
            help="k: how many patients must be alike in age, sex and the like before a table is "
            "stored. Coarser values change what is trained on. 0: reported only.",
            min=0,
        ),
    ] = None,
    left_out_percent: Annotated[
        int | None,
        typer.Option(help="Rows that may be left out to reach k, in per cent.", min=0, max=50),
    ] = None,
    one_class: Annotated[
        OneClass | None,
        typer.Option(help="Whether patients of one outcome only may be stored for training."),
    ] = None,
    format: FormatOption = Format.TABLE,
) -> None:
    """Change what the data owner allows. What is spent stays spent.

    Example: hospital-agent policy set --lifetime-epsilon 2 --home .medpole/hospitals/hospital-1
    """
    from dataclasses import asdict

    from consortium import tasks
    from hospital_agent.policy import INSTALLED, Policy, change_policy

    folder = hospital(home)
    given: dict[str, Any] = {
        "lifetime_epsilon": lifetime_epsilon,
        "job_epsilon": job_epsilon,
        "delta": delta,
        "fewest_institutions": fewest_institutions,
        "approval": None if approval is None else approval.value,
        "scores": None if scores is None else scores.value,
        "evaluations": None if evaluations is None else evaluations.value,
        "evaluation_limit": evaluation_limit,
        "fewest_of_a_class": fewest_of_a_class,
        "fewest_alike": fewest_alike,
        "left_out_percent": left_out_percent,
        "one_class": None if one_class is None else one_class.value,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    if allow_task or deny_task:
        allowed = {*Policy.read(folder.path / "policy.json").tasks}
        allowed |= {tasks.get(name).name for name in allow_task or ()}
        changes["tasks"] = tuple(sorted(allowed - {*(deny_task or ())}))
    if app_bundle:
        digests = tuple(text.strip().lower() for text in app_bundle)
        changes["app"] = INSTALLED if digests == (INSTALLED,) else digests
    print_result(asdict(change_policy(folder, changes)), format)
