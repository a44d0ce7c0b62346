"""`consortium lab`: every cheat of the catalogue against the rules of a round, with figures."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from consortium.cli.output import EXIT_INTERRUPTED, Format, fail, print_json

if TYPE_CHECKING:
    from consortium.lab.options import LabOptions
    from consortium.lab.summary import Row

_SAID_EVERY_S = 10.0


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(lab)


def lab(
    attacks: Annotated[
        list[str] | None, typer.Argument(help="Names of the catalogue; none: all of it.")
    ] = None,
    task: Annotated[str, typer.Option(help="See `consortium task list`.")] = "breast-cancer",
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder that holds the task's files.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Each hospital cheats once a seed.")] = 2,
    rounds: Annotated[int, typer.Option(help="Of each job, 2 to 200.")] = 10,
    hospitals: Annotated[int, typer.Option(help="4 to 20.")] = 4,
    epsilon: Annotated[str, typer.Option(help="Privacy cost of a job.")] = "1",
    delta: Annotated[str | None, typer.Option(help="Default: the task's own.")] = None,
    private: Annotated[
        bool | None,
        typer.Option(help="With that epsilon, or with next to no noise; left out: both."),
    ] = None,
    jobs: Annotated[int, typer.Option(help="How many runs at once.")] = 2,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the table, all numbers, and pictures.")
    ] = None,
    format: Annotated[Format, typer.Option(help="How the result is printed.")] = Format.TABLE,
) -> None:
    """Attack jobs in memory, and show what is caught, what harm is done, and what it earns.

    Records, checks and patients are real; nothing is sent or stored. Every hospital cheats in turn,
    in every round of a job. Ctrl-C shows what was finished until then.

    Example: consortium lab label-flip sign-flip --seeds 10 --private --out lab
    """
    from consortium.lab.options import check_options

    options = check_options(
        attacks=attacks or [], task=task, data_dir=data_dir, seeds=seeds, rounds=rounds,
        hospitals=hospitals, epsilon=epsilon, delta=delta, private=private, jobs=jobs, out=out,
    )  # fmt: skip
    from consortium import tasks
    from consortium.errors import RunsCutOff
    from consortium.lab.hospitals import sites_of
    from consortium.lab.report import lab_report, write_files
    from consortium.lab.runs import carried_out, planned
    from consortium.lab.summary import summary

    sites_of(tasks.get(task), data_dir, hospitals)  # what is not there is said at once
    runs = planned(options.setting, options.attacks, options.seeds, options.modes)
    outcomes = []
    interrupted, cut_off = False, None
    with _progress(len(runs)) as show:
        try:
            for outcome in carried_out(options.setting, runs, jobs):
                outcomes.append(outcome)
                show(len(outcomes))
        except KeyboardInterrupt:
            interrupted = True
        except RunsCutOff as error:
            cut_off = error
    rows = summary(outcomes)
    report = lab_report(options, rows, len(outcomes), len(runs))
    if out is not None:
        write_files(out, options, rows, report)
    if format is Format.JSON:
        print_json(report)
    else:
        _print_tables(options, rows)
    if cut_off is not None:
        raise cut_off
    if interrupted:
        fail(
            "Interrupted", f"stopped after {len(outcomes)} of {len(runs)} runs",
            "start again when you are ready, with fewer seeds or attacks", EXIT_INTERRUPTED,
        )  # fmt: skip


@contextmanager
def _progress(runs: int) -> Iterator[Callable[[int], None]]:
    """Shows how many runs are done: a bar in a terminal, now and then a line elsewhere."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(file=sys.stderr)
    start = time.monotonic()
    if console.is_terminal:
        with Progress(console=console, transient=True) as bar:
            shown = bar.add_task("Playing jobs", total=runs)
            yield lambda done: bar.update(shown, completed=done)
        return
    said = start

    def line(done: int) -> None:
        nonlocal said
        now = time.monotonic()
        if now - said >= _SAID_EVERY_S or done == runs:
            said = now
            print(f"{now - start:7.1f} s  {done} of {runs} jobs", file=sys.stderr, flush=True)

    yield line


def _print_tables(options: "LabOptions", rows: "list[Row]") -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from consortium.lab.report import HEADS, LEGEND, cells, title

    console = Console(width=None if Console().is_terminal else 120)
    for private in options.modes:
        table = Table(
            title=title(options, private), title_justify="left", title_style="bold",
            box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False,
        )  # fmt: skip
        for place, head in enumerate(HEADS):
            table.add_column(
                head, justify="left" if place < 2 else "right", no_wrap=place != 1,
                min_width=23 if place == 1 else None,
            )  # fmt: skip
        for row in rows:
            if row.private == private:
                table.add_row(*cells(row))
        console.print(table)
    console.print(LEGEND)
