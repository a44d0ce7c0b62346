"""`hospital-agent budget`: privacy spent, reserved and left."""

from pathlib import Path
from typing import Annotated

import typer

from consortium.cli.output import Format, print_json, print_text
from consortium.errors import OptionInvalid
from hospital_agent.cli.options import FormatOption, HomeOption, hospital


def budget(
    home: HomeOption,
    plot: Annotated[
        Path | None, typer.Option(help="Also draw it into this SVG file.", dir_okay=False)
    ] = None,
    format: FormatOption = Format.TABLE,
) -> None:
    """Show privacy spent, reserved and left, for each cohort and job.

    Epsilons do not add up; the shares of the lifetime budget do.

    Example: hospital-agent budget --home .medpole/hospitals/hospital-1 --plot budget.svg
    """
    from hospital_agent.budget_plot import bar, svg
    from hospital_agent.budget_view import cohort_views, covers
    from privacy.pld import SAYS

    if plot is not None and plot.suffix.lower() != ".svg":
        raise OptionInvalid(f"--plot {plot.name} is no SVG's name", "let it end in .svg")
    views = cohort_views(hospital(home))
    if plot is not None:
        plot.write_text(svg(views), encoding="utf-8")
    if format is Format.JSON:
        print_json([view.body() for view in views])
        return
    for view in views:
        cohort = view.status
        print(f"{view.patients}: delta {cohort.delta}, enforced by: {view.accountant}")
        print(f"  cohort {cohort.cohort}")
        print(
            f"  epsilon spent {cohort.epsilon_spent}, reserved {cohort.epsilon_reserved}, "
            f"limit {cohort.epsilon_limit}; "
            f"a next job may take {cohort.epsilon_left_for_a_next_job}"
        )
        print(f"  {bar(view)} {view.spent:.1%} spent, {view.reserved:.1%} reserved")
        print(
            f"  by PLD: epsilon spent {view.pld_spent}, with what is reserved "
            f"{view.pld_with_reserved}"
        )
        for part in view.parts:
            print(
                f"  {part.job.job:<28}{part.job.rounds_charged:>5} rounds charged "
                f"{part.spent:>6.1%}, {part.job.rounds_reserved:>5} reserved {part.reserved:>6.1%}"
            )
    if not views:
        print("no cohort yet: `hospital-agent data add`")
    for text in (SAYS, *covers(views)):
        print_text(text)
