"""The demo's outcome for people: tables that fit a terminal of 100 columns, and what they mean."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from consortium.baselines import Metrics
from consortium.simulation.cheating import CheatOutcome
from consortium.simulation.demo import DemoResult
from privacy.budget_status import COVERS


def print_demo(result: DemoResult) -> None:
    """Prints the outcome of a demo on standard output."""
    console = Console(width=None if Console().is_terminal else 100)
    job, options, outcome = result.job, result.options, result.outcome
    console.print(
        f"\n[bold]{job.job}[/bold]: {job.rounds} rounds, {len(outcome.hospitals)} hospitals, "
        f"epsilon {options.epsilon} at delta {job.participants[0].terms.delta} each"
    )
    console.print(_quality(result, "AUROC on each hospital's own test patients", "auroc"))
    console.print(_quality(result, "Accuracy on each hospital's own test patients", "accuracy"))
    console.print(_part(result))
    for rejection in outcome.rejections[:8]:
        console.print(
            f"Round {rejection.round}: the proof of {rejection.institution} was rejected, "
            f"[red]{rejection.code}[/red]"
        )
    if len(outcome.rejections) > 8:
        console.print(f"… and {len(outcome.rejections) - 8} more; --report lists all")
    if result.cheat is not None:
        console.print(_cheat(result.cheat))
    _print_ledger(console, result)


def _quality(result: DemoResult, title: str, what: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("hospital")
    table.add_column("patients", justify="right")
    columns = ["alone", "federated", "pooled*"] + (["majority"] if what == "accuracy" else [])
    for column in columns:
        table.add_column(column, justify="right")
    for row in result.outcome.hospitals:
        cells = [_interval(m, what) for m in (row.local, row.federated, row.pooled)]
        if what == "accuracy":
            cells.append(_short(row.majority, 3))
        table.add_row(row.id, str(row.n_test), *cells)
    means = result.outcome.federated
    mean = means.auroc_mean if what == "auroc" else means.accuracy_mean
    blank = [""] * (len(columns) - 2)
    table.add_section()
    table.add_row("mean", "", "", "n/a" if mean is None else _short(mean, 3), *blank)
    plain = result.outcome.nonprivate
    if plain is not None:
        mean = plain.auroc_mean if what == "auroc" else plain.accuracy_mean
        table.add_row("mean, no noise", "", "", "n/a" if mean is None else _short(mean, 3), *blank)
    return table


def _interval(metrics: Metrics, what: str) -> str:
    value = metrics.auroc if what == "auroc" else metrics.accuracy
    bounds = metrics.auroc_interval if what == "auroc" else metrics.accuracy_interval
    if value is None or bounds is None:
        return "n/a"
    return f"{_short(value, 3)} ({_short(bounds[0], 2)}–{_short(bounds[1], 2)})"


def _short(value: float, digits: int) -> str:
    """A fraction without its leading zero: every column counts in a terminal."""
    return f"{value:.{digits}f}".removeprefix("0")


def _part(result: DemoResult) -> Table:
    table = Table(title="Privacy, proofs, credits", title_justify="left", title_style="bold")
    table.add_column("hospital")
    columns = ("epsilon spent", "of limit", "next job up to", "accepted", "rejected", "credits")
    for column in columns:
        table.add_column(column, justify="right")
    for row in result.outcome.hospitals:
        budget = row.budget
        rejected = Text(str(row.rejected), "red" if row.rejected else "")
        table.add_row(
            row.id, f"{budget.epsilon_spent:.2f}", f"{budget.epsilon_limit:.2f}",
            f"{budget.epsilon_left_for_a_next_job:.2f}", str(row.accepted), rejected,
            str(row.credits),
        )  # fmt: skip
    return table


def _cheat(cheat: CheatOutcome) -> Table:
    title = f"The cheat: {cheat.name}, by {cheat.institution}"
    table = Table(title=title, title_justify="left", title_style="bold", show_header=False)
    table.add_column()
    table.add_column()
    table.add_row("it", cheat.does)
    table.add_row("expected", cheat.expected)
    table.add_row("happened", cheat.happened)
    if cheat.credits is not None:
        honest = f"{cheat.credits}; an honest hospital {cheat.honest_mean:.0f} on average"
        table.add_row("credits", honest)
    return table


def _print_ledger(console: Console, result: DemoResult) -> None:
    verified, seconds = result.verified, result.seconds
    console.print(
        "* Pooled puts all patients in one table, which only a simulation may do. In brackets: "
        "95 % intervals. n/a: fewer than five test patients of a class. Exact numbers: all data is "
        "on this machine; on the ledger they stand banded."
    )
    console.print(f"Epsilon: {COVERS[0].lower()}{COVERS[1:]}")
    console.print(
        f"\nLedger: height {verified.height}, {verified.entries} entries, every block co-signed by "
        f"at least {verified.fewest_cosigners} of {verified.members} (quorum {verified.quorum})"
    )
    if verified.members == 1:
        console.print("[yellow]One institution: no independent witness.[/yellow]")
    console.print(f"Genesis {verified.ledger}", soft_wrap=True)
    console.print(
        f"Exported and [bold green]verified[/bold green] against it: {result.export}",
        soft_wrap=True,
    )
    console.print(
        f"{seconds.total:.1f} s: {seconds.setup:.1f} s until the first round, "
        f"{seconds.rounds:.1f} s for {result.job.rounds} rounds"
    )
