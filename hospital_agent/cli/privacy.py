"""`hospital-agent privacy`: an audit of this installation's own trainer."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Final

import typer

from consortium.cli.output import Format, print_json, print_text
from hospital_agent.cli.options import FormatOption, HomeOption, hospital

if TYPE_CHECKING:
    from decimal import Decimal

    from privacy.audit import Bound
    from privacy.mechanism_tests import Check

app = typer.Typer(help="Whether training here keeps what it promises.", no_args_is_help=True)

FINDS = (
    "It finds: a clip that does not bound, noise that is too narrow, repeated or seeded, steps "
    "that the claim leaves out, an update that tells more of one patient than the claim allows.",
    "It cannot find: what another adversary would see, leaks smaller than so many jobs show, what "
    "time or a refusal tells. A bound below the claim proves nothing.",
)
_LARGEST: Final = 100
"""Above it there is nothing to audit, and the accountant that the claim is held against runs on."""


@app.callback()
def _group() -> None:
    pass


@app.command()
def audit(
    home: HomeOption,
    job: Annotated[
        str | None, typer.Option(help="Audit this job's constants, from the copy of the ledger.")
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="Otherwise a job of this task (default: the policy's first).")
    ] = None,
    epsilon: Annotated[
        str | None, typer.Option(help="And of this epsilon (default: the policy's for a job).")
    ] = None,
    jobs: Annotated[
        int, typer.Option(help="Jobs trained in the two worlds.", min=100, max=10_000_000)
    ] = 8000,
    format: FormatOption = Format.TABLE,
) -> None:
    """Attack the installed trainer, and print how much it gives away at least.

    On made-up patients: no patient's data is touched, no budget is spent. Exit code 1 if anything
    is not as promised.

    Example: hospital-agent privacy audit --job heart-disease-1 --home /srv/medpole
    """
    import torch
    from rich.console import Console
    from rich.progress import Progress

    from consortium import tasks
    from consortium.errors import OptionInvalid
    from hospital_agent.audit import job_terms, made_up, policy_terms
    from privacy.audit import two_worlds
    from privacy.closed_form import stackable
    from privacy.mechanism_tests import mechanism_tests

    if job and (task or epsilon):
        raise OptionInvalid(
            "--job stands beside --task or --epsilon", "a job has its own: leave these out"
        )
    torch.set_num_threads(1)  # of so small sums threads cost more than they do
    folder = hospital(home)
    name, terms = job_terms(folder, job) if job else policy_terms(folder, task, _decimal(epsilon))
    checks: list[Check] = []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("the mechanism", total=None)
        for check in mechanism_tests(terms):
            checks.append(check)
            progress.update(bar, description=check.name)
        progress.update(bar, description="two worlds", total=jobs)
        bound = None
        if stackable(tasks.get(name).model(), tasks.get(name).example()):
            bound = two_worlds(
                tasks.get(name).model(), tasks.get(name).loss, *made_up(name), terms, jobs,
                lambda more: progress.advance(bar, more),
            )  # fmt: skip
    if format is Format.JSON:
        print_json(
            {
                "task": name,
                "terms": terms.to_record(),
                "mechanism": [asdict(check) for check in checks],
                "two_worlds": bound and asdict(bound) | {"passed": bound.passed},
                "what_it_finds": FINDS,
            }
        )
    else:
        _print(checks, bound)
    if not ((bound is None or bound.passed) and all(check.passed for check in checks)):
        raise typer.Exit(1)


def _decimal(text: str | None) -> "Decimal | None":
    from decimal import Decimal, InvalidOperation

    from consortium.errors import OptionInvalid
    from privacy.contract import check_epsilon

    if text is None:
        return None
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise OptionInvalid("--epsilon is not a number", "write it like 1 or 0.5") from None
    check_epsilon(value)
    if value > _LARGEST:
        raise OptionInvalid(
            f"--epsilon is above {_LARGEST}", "so large a one protects nobody: write it like 1"
        )
    return value


def _print(checks: "list[Check]", bound: "Bound | None") -> None:
    width = len("NOT AS PROMISED") + 2
    for check in checks:
        mark = "as promised" if check.passed else "NOT AS PROMISED"
        print_text(f"{mark:<{width}}{check.name}", " " * width)
        print_text(" " * width + f"{check.found}; promised: {check.promised}", " " * width)
    if bound is None:
        print("two worlds: not tried, they are for linear models and MLPs")
        return
    print_text(
        f"two worlds, {bound.jobs} jobs: {bound.right / bound.jobs:.1%} guessed right, the claim "
        f"allows {bound.right_claimed:.1%}"
    )
    print_text(
        f"epsilon is at least {bound.epsilon_at_least:.3f} (95 % confidence), claimed "
        f"{bound.epsilon_claimed:.3f}, both at delta {bound.delta:g}"
    )
    if not bound.passed:
        print_text("MORE THAN CLAIMED: do not train with this installation, and report it")
    elif bound.epsilon_at_least > bound.epsilon_claimed:
        print_text(
            "above the claim, as chance has it in one of twenty: run it again with more --jobs"
        )
    for text in FINDS:
        print_text(text)
