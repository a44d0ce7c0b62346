"""A released model's card (Mitchell et al. 2019, "Model cards for model reporting"), as Markdown.

Every line comes from the ledger or from the task that all hospitals share; nothing is measured
here, and what is not known is said.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from consortium import tasks
from consortium.rounds.evaluation import ALONE, FEDERATED, MAJORITY, Estimate, intervals
from consortium.standing import JobStanding
from consortium.tasks.errors import TaskError
from ledger.records import Evaluation


def model_card(ledger: str, job: JobStanding, evaluations: Sequence[Evaluation]) -> str:
    """The card of the model that an ended job released.

    ``ledger`` is the ledger's id, which is its fingerprint; ``evaluations`` are the job's.
    """
    end, contract = job.end, job.contract
    assert end is not None
    lines = [
        f"# Model of {contract.job}",
        "",
        f"- **Model hash:** `{end.record.model}` (names, types, shapes and values of its weights)",
        f"- **Task:** {_title(contract.task)}",
        f"- **Released:** {_day(end.time)}, by record {end.index} in block {end.height}",
        f"- **Ledger:** `{ledger}`",
        "",
        "## What it is for",
        "",
        f"It gives the probability of the outcome of the task `{contract.task}` for one patient, "
        "from the inputs that the task's schema lists. It was trained to support research among "
        "the hospitals of this consortium. It has no approval as a medical device, and nobody has "
        "shown that it is safe to decide on a patient by it.",
        "",
        "## How it came to be",
        "",
        f"The job {end.record.status} after {end.record.rounds} of {contract.rounds} rounds. "
        + _averaged(job),
        "",
        "| hospital | patients declared | proofs accepted | rejected | absent |",
        "|---|---|---|---|---|",
    ]
    for participant in contract.participants:
        account = job.accounts.get(participant.institution)
        counts = (account.accepted, account.rejected, account.absent) if account else (0, 0, 0)
        row = (participant.institution, participant.weight, *counts)
        lines.append(f"| {' | '.join(map(str, row))} |")
    lines += [
        "",
        "Numbers of patients are those that hospitals declare in public: round, not counted.",
        "",
        "## Privacy",
        "",
        "| hospital | epsilon agreed for the job | delta | noise multiplier |",
        "|---|---|---|---|",
    ]
    for participant in contract.participants:
        terms = participant.terms
        lines.append(
            f"| {participant.institution} | {terms.epsilon} | {terms.delta} | "
            f"{terms.noise_multiplier} |"
        )
    lines += [
        "",
        "Epsilon covers each patient's training record at that hospital, if the hospital adds the "
        "noise that it declares. It does not cover validation scores and test results, nor what is "
        "true of a hospital as a whole.",
        "",
        "## How it does",
        "",
        *_quality(evaluations),
        "",
        "## Limits",
        "",
        "- How well it does on patients of other hospitals than these, nobody has measured.",
        "- Quality by age, sex or origin is not released in this version.",
        f"- {_troubles(job)}",
        "",
        "## Lineage",
        "",
        f"Contract: record {job.submitted.index} (block {job.submitted.height}). First model: "
        f"`{contract.initial_model}`. Task fingerprint: `{contract.task_fingerprint}`. "
        "Export the ledger with `consortium ledger export --content` and run `consortium ledger "
        "verify FOLDER --rounds` to derive this model anew from the hospitals' proofs.",
        "",
    ]  # fmt: skip
    return "\n".join(lines)


def _title(task: str) -> str:
    try:
        return f"{tasks.get(task).title} (`{task}`)"
    except TaskError:  # of a later or an earlier version
        return f"`{task}`"


def _averaged(job: JobStanding) -> str:
    end, first = job.end, job.contract.average_from
    if end is not None and end.record.rounds >= first:
        but = "; those that left it unchanged do not count" if job.void else ""
        return f"The model is the mean of the models of rounds {first} to {end.record.rounds}{but}."
    return "It was stopped early: the model is the newest there was."


def _quality(evaluations: Sequence[Evaluation]) -> list[str]:
    if not evaluations:
        return ["No hospital has released how the model does on its test patients."]
    lines = [
        "On each hospital's own test patients, as its release gate let it out: numbers are rounded "
        "to bands, intervals (95 %) hold for any number of patients within the size band.",
        "",
        "| hospital | patients with, without | AUROC | accuracy | sensitivity | specificity "
        "| calibration error | alone: AUROC | always the more frequent: accuracy |",
        f"|{'---|' * 9}",
    ]
    for evaluation in evaluations:
        found = intervals(evaluation)
        ours, alone = found[FEDERATED], found[ALONE]
        measures = ("auroc", "accuracy", "sensitivity", "specificity", "calibration")
        cells = [
            evaluation.author, _sizes(evaluation),
            *(_estimate(ours[measure]) for measure in measures), _estimate(alone["auroc"]),
            _estimate(found[MAJORITY]["majority"]),
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _sizes(evaluation: Evaluation) -> str:
    if evaluation.noised:
        return "not said: with noise"
    return f"{_size(evaluation.positives)}, {_size(evaluation.negatives)}"


def _size(edge: int) -> str:
    return f"≥ {edge}" if edge else "< 5"


def _estimate(estimate: Estimate | None) -> str:
    if estimate is None:
        return "n/a"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.2f}"
    return f"{estimate.value:.2f} ({estimate.low:.2f}–{estimate.high:.2f})"


def _troubles(job: JobStanding) -> str:
    if not (job.rejected or job.absences or job.void or job.repeated):
        return "Every proof was accepted, and nobody was absent."
    return (
        f"{job.rejected} proofs were rejected, {job.absences} answers were missing, {job.void} "
        f"rounds left the model unchanged, {job.repeated} attempts were repeated: the ledger says "
        "whose and why."
    )


def _day(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
