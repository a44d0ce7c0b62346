"""`hospital-agent jobs`: what jobs would cost this hospital, and what a person decides on them."""

from typing import TYPE_CHECKING, Annotated

import typer

from consortium.cli.output import Format, print_json, print_result
from hospital_agent.cli.options import FormatOption, HomeOption, hospital

if TYPE_CHECKING:
    from pathlib import Path

    from hospital_agent.decisions import Answer

app = typer.Typer(help="Jobs: their cost here, and a person's decision.", no_args_is_help=True)
JobArgument = Annotated[str, typer.Argument(help="The job's id, as `jobs list` shows it.")]
PersonOption = Annotated[
    str, typer.Option("--as", help="Who decides. Kept at this hospital, never sent.")
]


@app.command("list")
def list_(home: HomeOption, format: FormatOption = Format.TABLE) -> None:
    """Show the jobs on this hospital's verified copy of the ledger, the newest first.

    Example: hospital-agent jobs list --home /srv/medpole
    """
    from hospital_agent.job_card import job_card, jobs_of

    folder = hospital(home)
    cards = [job_card(folder, job).short for job in reversed(jobs_of(folder))]
    if format is Format.JSON:
        print_json(cards)
        return
    for card in cards:
        print(
            f"{card['job']}: {card['task']}, {card['rounds']} rounds, epsilon {card['epsilon']}, "
            f"{card['state']}; a person: {card['person']}; this hospital: {card['answer']}"
        )
    if not cards:
        print("no job on this hospital's copy of the ledger")


@app.command()
def show(job: JobArgument, home: HomeOption, format: FormatOption = Format.TABLE) -> None:
    """Show what a job would spend of the lifetime budget, and what the policy says.

    Example: hospital-agent jobs show heart-disease-1 --home /srv/medpole
    """
    from dataclasses import asdict

    from hospital_agent.job_card import find_job, job_card

    folder = hospital(home)
    print_result(asdict(job_card(folder, find_job(folder, job))), format)


@app.command()
def approve(
    job: JobArgument, home: HomeOption, name: PersonOption, format: FormatOption = Format.TABLE
) -> None:
    """Approve this very contract. What the policy or the budget refuses stays refused.

    A round that was refused meanwhile stays so; the hospital takes part from the next one on.

    Example: hospital-agent jobs approve heart-disease-1 --as "Dr. Ada Example"
    """
    _decide(home, job, "approve", name, format)


@app.command()
def refuse(
    job: JobArgument, home: HomeOption, name: PersonOption, format: FormatOption = Format.TABLE
) -> None:
    """Refuse this very contract, or what is left of a job that runs. It can be approved later.

    The consortium sees the code JobRefusedByPerson, signed, on the ledger; not who, nor why.

    Example: hospital-agent jobs refuse heart-disease-1 --as "Dr. Ada Example"
    """
    _decide(home, job, "refuse", name, format)


def _decide(home: "Path", name: str, answer: "Answer", person: str, format: Format) -> None:
    from consortium.errors import OptionInvalid
    from hospital_agent.decisions import Decisions
    from hospital_agent.errors import JobUnknown
    from hospital_agent.job_card import find_job, is_over, job_card

    folder, who = hospital(home), " ".join(person.split())
    if not 0 < len(who) <= 100:
        raise OptionInvalid("--as names nobody, or too long", "give a name of up to 100 letters")
    job = find_job(folder, name)
    if is_over(folder, job):
        raise JobUnknown(f"{job.job} is over", "see `hospital-agent jobs list` for those running")
    Decisions(folder.path / "decisions.sqlite").decide(job, answer, who)
    card = job_card(folder, job)
    shown = ("job", "contract", "person", "policy", "cost", "answer")
    print_result({field: getattr(card, field) for field in shown}, format)
