"""The `hospital-agent` command: what the hospital's own people see and decide."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from consortium.cli.output import Format, print_json, print_result
from consortium.cli.run import run

app = typer.Typer(
    help="One hospital's side of the consortium: its budget, its policy, its copy of the ledger.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
policy_app = typer.Typer(help="What the data owner allows.", no_args_is_help=True)
app.add_typer(policy_app, name="policy")

HomeOption = Annotated[
    Path,
    typer.Option(
        help="This hospital's own folder (or MEDPOLE_HOSPITAL).", envvar="MEDPOLE_HOSPITAL"
    ),
]
FormatOption = Annotated[Format, typer.Option(help="How the result is printed.")]


@app.command()
def status(home: HomeOption, format: FormatOption = Format.TABLE) -> None:
    """Show who this hospital is, and how far its verified copy of the ledger goes.

    Example: hospital-agent status --home .medpole/hospitals/hospital-1
    """
    from hospital_agent.replica import Replica
    from ledger.keys import Role

    folder = _folder(home)
    replica = Replica(folder.path / "replica.sqlite")
    chain = replica.chain()
    content: dict[str, Any] = {
        "institution": folder.institution,
        "title": folder.title,
        "ledger": folder.ledger or "none yet",
        "verified and co-signed to height": replica.height(),
        "members": ", ".join(sorted(chain.members)) if chain else "none yet",
    }
    content |= {f"{role} key": folder.keys[role].public.key_id for role in Role}
    print_result(content, format)


@app.command()
def budget(home: HomeOption, format: FormatOption = Format.TABLE) -> None:
    """Show privacy spent, reserved and left, for each cohort and job.

    Example: hospital-agent budget --home .medpole/hospitals/hospital-1
    """
    from privacy.budget_status import COVERS

    folder = _folder(home)
    cohorts = [folder.budget.status(cohort) for cohort in folder.budget.cohorts()]
    if format is Format.JSON:
        print_json([_budget_json(cohort) for cohort in cohorts])
        return
    for cohort in cohorts:
        print(f"cohort {cohort.cohort}, delta {cohort.delta}")
        print(
            f"  epsilon spent {cohort.epsilon_spent}, reserved {cohort.epsilon_reserved}, "
            f"limit {cohort.epsilon_limit}; "
            f"a next job may take {cohort.epsilon_left_for_a_next_job}"
        )
        for job in cohort.jobs:
            print(
                f"  {job.job:<28} {job.rounds_charged:>5} rounds charged, "
                f"{job.rounds_reserved:>5} reserved"
            )
    print(COVERS)


def _budget_json(cohort: Any) -> dict[str, Any]:
    return {
        "cohort": cohort.cohort,
        "delta": str(cohort.delta),
        "epsilon_spent": str(cohort.epsilon_spent),
        "epsilon_reserved": str(cohort.epsilon_reserved),
        "epsilon_limit": str(cohort.epsilon_limit),
        "epsilon_left_for_a_next_job": str(cohort.epsilon_left_for_a_next_job),
        "jobs": [
            {
                "job": job.job,
                "rounds_charged": job.rounds_charged,
                "rounds_reserved": job.rounds_reserved,
            }
            for job in cohort.jobs
        ],
    }


@policy_app.command("show")
def policy_show(home: HomeOption, format: FormatOption = Format.TABLE) -> None:
    """Show what the data owner allows.

    Example: hospital-agent policy show --home .medpole/hospitals/hospital-1
    """
    from dataclasses import asdict

    from hospital_agent.policy import Policy

    print_result(asdict(Policy.read(_folder(home).path / "policy.json")), format)


@policy_app.command("set")
def policy_set(
    home: HomeOption,
    lifetime_epsilon: Annotated[
        str | None, typer.Option(help="New limit of every cohort, over all jobs.")
    ] = None,
    fewest_institutions: Annotated[
        int | None, typer.Option(help="Smallest job to take part in.", min=1)
    ] = None,
    format: FormatOption = Format.TABLE,
) -> None:
    """Change what the data owner allows. What is spent stays spent.

    Example: hospital-agent policy set --lifetime-epsilon 2 --home .medpole/hospitals/hospital-1
    """
    from dataclasses import asdict

    from hospital_agent.policy import Policy, change_policy

    folder = _folder(home)
    policy: Policy = change_policy(folder, lifetime_epsilon, fewest_institutions)
    print_result(asdict(policy), format)


def _folder(home: Path) -> Any:
    from hospital_agent.folder import open_folder

    return open_folder(home)


def main() -> None:
    """Entry point of the `hospital-agent` command."""
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    run(app)
