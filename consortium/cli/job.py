"""`consortium job`: what is trained, by whom, and how far it is."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from consortium.cli.home import HomeOption, home_path
from consortium.cli.output import Format, print_json, print_result

if TYPE_CHECKING:
    from consortium.job_state import JobState

app = typer.Typer(help="Jobs: a task trained over rounds.", no_args_is_help=True)
FormatOption = Annotated[Format, typer.Option(help="How the result is printed.")]
JobArgument = Annotated[str, typer.Argument(help="The job's id.")]


@app.command()
def submit(
    task: Annotated[str, typer.Option(help="breast-cancer or heart-disease")],
    rounds: Annotated[int, typer.Option(help="Rounds.", min=1, max=1000)] = 10,
    epsilon: Annotated[
        str | None,
        typer.Option(help="Privacy cost, for each hospital: decides the noise.", show_default="1"),
    ] = None,
    noise_multiplier: Annotated[
        str | None, typer.Option(help="Decides the noise, and with it the privacy cost.")
    ] = None,
    left: Annotated[
        str | None,
        typer.Option(help="A lifetime epsilon: the job takes what each hospital has left of it, by "
                          "what its proofs declare."),
    ] = None,
    sample_rate: Annotated[
        str,
        typer.Option(help="Chance of each patient to be in a step's batch; 1 is the full batch, "
                          "best under about 1,000 patients."),
    ] = "1",
    score_noise: Annotated[
        str | None,
        typer.Option(help="Scores on validation patients leave with this much noise, in units of "
                          "what one patient can move them by, and are charged to those patients "
                          "(default: rounded, no epsilon covers them)."),
    ] = None,
    score_fewest: Annotated[
        int,
        typer.Option(help="With --score-noise: validation patients of a class below which a "
                          "hospital's scores are drawn towards one half.", min=5, max=10**9),
    ] = 500,
    aggregation: Annotated[
        str,
        typer.Option(help="How a round's updates become one model: weighted-mean, median (from 3 "
                          "hospitals on), trimmed-mean (4) or krum (5)."),
    ] = "weighted-mean",
    delta: Annotated[
        str, typer.Option(help="Of that cost; hospitals measure at their policy's delta.")
    ] = "0.00001",
    seed: Annotated[int, typer.Option(help="Starts the model.", min=0)] = 0,
    patients: Annotated[
        list[str] | None,
        typer.Option(help="ID=NUMBER: takes part with this declared number (default: all who "
                          "offer the task, as they declared)."),
    ] = None,
    phase_seconds: Annotated[
        int | None, typer.Option(help="How long each phase waits for who is slow.", min=1)
    ] = None,
    name: Annotated[str | None, typer.Option(help="The job's id (default: TASK-NUMBER).")] = None,
    home: HomeOption = None,
    format: FormatOption = Format.TABLE,
) -> None:  # fmt: skip
    """Put a job's contract on the ledger. `consortium coordinator` runs it.

    Example: consortium job submit --task heart-disease --rounds 10 --epsilon 1
    """
    from consortium.coordinator.submission import Wanted
    from consortium.coordinator.submission import submit as submit_wanted

    wanted = Wanted(
        task, rounds, epsilon, delta, seed, tuple(patients or ()), phase_seconds, name,
        noise_multiplier, left, sample_rate, score_noise, score_fewest, aggregation,
    )  # fmt: skip
    print_result(submit_wanted(home_path(home), wanted), format)


@app.command("list")
def list_(home: HomeOption = None, format: FormatOption = Format.TABLE) -> None:
    """Show all jobs.

    Example: consortium job list
    """
    states = _states(home)
    if format is Format.JSON:
        print_json([state.body() for state in states])
        return
    for state in states:
        print(f"{state.job:<28}{state.state:<14}{state.done:>4} of {state.rounds:<5}{state.reason}")
    if not states:
        print("no jobs: consortium job submit")


@app.command()
def show(job: JobArgument, home: HomeOption = None, format: FormatOption = Format.TABLE) -> None:
    """Show one job: its state, its round, what each hospital is doing, where verdicts divide.

    Example: consortium job show heart-disease-1
    """
    from dataclasses import asdict

    from consortium.coordinator.live import LiveState
    from consortium.job_state import job_splits, job_states
    from consortium.local import open_ledger

    path = home_path(home)
    with open_ledger(path, shared=True) as (_, store):
        state = _named([s for s in job_states(store, LiveState(path).read()) if s.job == job], job)
        divided = job_splits(store, job)
    if format is Format.JSON:
        print_json({**state.body(), "splits": [asdict(split) for split in divided]})
        return
    content: dict[str, Any] = {"job": state.job, "task": state.task, "state": state.state}
    content["rounds"] = f"{state.done} of {state.rounds}"
    if state.reason:
        content["reason"] = state.reason
    if not state.ended:
        content["under way"] = f"round {state.round}, attempt {state.attempt} {state.phase}"
    content |= {name: state.institutions.get(name, "") for name in state.participants}
    if state.absent:
        content["absent from the last"] = [f"{n}: {why}" for n, why in state.absent.items()]
    if state.left_out:
        content["left out of the model"] = list(state.left_out)
    if divided:
        content["verdicts divide"] = f"on {len(divided)} proofs"
    print_result(content, Format.TABLE)
    for split in divided:
        print(f"  {split.text()}")


@app.command()
def watch(
    job: JobArgument,
    home: HomeOption = None,
    every: Annotated[float, typer.Option(help="Seconds between two looks.", min=0.1)] = 0.5,
) -> None:
    """Follow a job until it ends: a line for each change. Exit code 0 if it finished, else 1.

    Example: consortium job watch heart-disease-1
    """
    import time

    from sqlalchemy.exc import DBAPIError

    from consortium.coordinator.live import LiveState
    from consortium.job_state import FINISHED, job_states
    from consortium.local import attached_ledger
    from ledger.errors import DatabaseUnreachable

    path, shown = home_path(home), ""
    with attached_ledger(path) as (_, store):
        while True:
            live = LiveState(path).read()
            try:
                state = _named([s for s in job_states(store, live) if s.job == job], job)
            except DBAPIError:
                raise DatabaseUnreachable(
                    "the database does not answer any more",
                    "start `consortium serve` again, then `consortium job watch`",
                ) from None
            line = _line(state)
            if line != shown:
                shown = line
                print(line, flush=True)
            if state.ended:
                raise SystemExit(0 if state.state == FINISHED else 1)
            time.sleep(every)


@app.command()
def stop(job: JobArgument, home: HomeOption = None, format: FormatOption = Format.TABLE) -> None:
    """End a job after the round under way; its model so far is kept.

    Example: consortium job stop heart-disease-1
    """
    from consortium.coordinator.journal import STOP

    _wish(home, job, STOP, "ends after the round under way", format)


@app.command()
def resume(job: JobArgument, home: HomeOption = None, format: FormatOption = Format.TABLE) -> None:
    """Let a paused job try its round again. After a crash nothing has to be typed.

    Example: consortium job resume heart-disease-1
    """
    from consortium.coordinator.journal import RESUME

    _wish(home, job, RESUME, "goes on, as soon as a quorum of hospitals is there", format)


def _wish(home: Any, job: str, wish: str, what: str, format: Format) -> None:
    from consortium.coordinator.journal import Journal

    state = _state(home, job)
    if state.ended:
        print_result({"job": job, "state": state.state, "what": "it is over"}, format)
        return
    Journal(home_path(home)).wish(job, wish)
    print_result({"job": job, "what": what}, format)


def _states(home: Any) -> "list[JobState]":
    from consortium.coordinator.live import LiveState
    from consortium.job_state import job_states
    from consortium.local import open_ledger

    path = home_path(home)
    with open_ledger(path, shared=True) as (_, store):
        return job_states(store, LiveState(path).read())


def _state(home: Any, job: str) -> "JobState":
    return _named([state for state in _states(home) if state.job == job], job)


def _named(found: "list[JobState]", job: str) -> "JobState":
    from consortium.errors import JobMissing

    if not found:
        raise JobMissing(f"no job is called {job[:60]!r}", "see `consortium job list`")
    return found[0]


def _line(state: "JobState") -> str:
    parts = [f"{state.job}: {state.state}, {state.done} of {state.rounds} rounds"]
    if not state.ended and state.phase:
        attempt = f", attempt {state.attempt}" if (state.attempt or 1) > 1 else ""
        parts.append(f"round {state.round}{attempt}, {state.phase}")
        parts.append(", ".join(f"{n} {s}" for n, s in sorted(state.institutions.items())))
    if state.reason:
        parts.append(state.reason)
    return "; ".join(part for part in parts if part)
