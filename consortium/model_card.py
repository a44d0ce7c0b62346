"""A released model's card (Mitchell et al. 2019, "Model cards for model reporting"), as Markdown.

Every line comes from the ledger or from the task that all hospitals share; nothing is measured
here, and what is not known is said.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from consortium import tasks
from consortium.lineage import Lineage
from consortium.rounds.evaluation import (
    ALONE,
    CALIBRATED,
    FEDERATED,
    MAJORITY,
    Estimate,
    gain_of,
    intervals,
)
from consortium.standing import JobStanding
from consortium.tasks.errors import TaskError
from consortium.tasks.schema import Feature
from ledger.records import Aggregation, Evaluation, Job

_RULES: Final[Mapping[Aggregation, str]] = {
    "weighted-mean": "A round's model is the mean of its accepted updates, weighted by the numbers "
    "of patients that hospitals declare.",
    "median": "A round's model is the median of its accepted updates, in each coordinate.",
    "trimmed-mean": "A round's model is the mean of its accepted updates without the highest and "
    "lowest, in each coordinate; the median, where too few were accepted.",
    "krum": "A round's model is the one accepted update that lies nearest to its neighbours "
    "(Krum); the median, where too few were accepted.",
}


def model_card(lineage: Lineage, job: JobStanding, evaluations: Sequence[Evaluation]) -> str:
    """The card of the model that an ended job released.

    ``lineage`` is the model's, with proofs or without; ``evaluations`` are the job's.
    """
    end, contract = job.end, job.contract
    assert end is not None
    lines = [
        f"# Model of {contract.job}",
        "",
        f"- **Model hash:** `{end.record.model}` (names, types, shapes and values of its weights)",
        f"- **Task:** {_title(contract.task)}",
        f"- **Released:** {_day(end.time)}, by record {end.index} in block {end.height}",
        f"- **Ledger:** `{lineage.ledger}`",
        "",
        "## What it is for",
        "",
        f"It gives the probability of the outcome of the task `{contract.task}` for one patient, "
        "from the inputs that the task's schema lists. It was trained to support research among "
        "the hospitals of this consortium. It has no approval as a medical device, and nobody has "
        "shown that it is safe to decide on a patient by it.",
        "",
        "## What it learned from",
        "",
        *_data(contract),
        "",
        "## How it came to be",
        "",
        f"The job {end.record.status} after {end.record.rounds} of {contract.rounds} rounds. "
        + _averaged(job),
        "",
        _RULES[contract.aggregation],
        "",
        "| hospital | patients declared | proofs accepted | rejected | absent |",
        "|---|---|---|---|---|",
    ]
    for participant in contract.participants:
        account = job.accounts.get(participant.institution)
        counts = (account.accepted, account.rejected, account.absent) if account else (0, 0, 0)
        row = (participant.institution, participant.weight, *counts)
        lines.append(f"| {' | '.join(map(str, row))} |")
    if out := _taken_out(job):
        lines += [
            "",
            f"Nothing of {out} is in the model: the last proof was called harmful, and all that "
            "had been accepted before was taken out of every round's model.",
        ]
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
        "- That hospitals trained on the patients they say, and kept the others apart, no proof "
        "shows: proofs are about what was submitted, and how it scores elsewhere.",
        "- Quality by age, sex or origin is not released in this version.",
        f"- {_troubles(job)}",
        "",
        "## Lineage",
        "",
        *_lineage(lineage, job),
        "",
    ]  # fmt: skip
    return "\n".join(lines)


def _title(task: str) -> str:
    try:
        return f"{tasks.get(task).title} (`{task}`)"
    except TaskError:  # of a later or an earlier version
        return f"`{task}`"


def _data(contract: Job) -> list[str]:
    """What is known of the patients and inputs; nothing where the task is not the one here."""
    who = (
        "Patients of the hospitals below, who did not leave them. The protocol has each hospital "
        "keep some apart, to judge others' proofs by and to test the model on, and learn from "
        "neither."
    )
    try:
        task = tasks.get(contract.task)
    except TaskError:
        task = None
    if task is None or task.fingerprint() != contract.task_fingerprint:
        return [who, "", "Its inputs are those of another version of the task than is here."]
    if not task.features:
        shape = " x ".join(map(str, task.inputs.shape))
        return [
            who, "",
            f"The outcome is `{task.label}`, 1 or 0. The input is one image of each patient, "
            f"{shape} numbers, scaled by its own mean and deviation.",
        ]  # fmt: skip
    return [
        who, "",
        f"The outcome is the column `{task.label}`, 1 or 0. The inputs are these columns, scaled "
        "by constants that are published with the task; a missing value counts as the reference.",
        "", "| column | unit or meaning | possible | reference |", "|---|---|---|---|",
        *(f"| {' | '.join(_column(feature))} |" for feature in task.features),
    ]  # fmt: skip


def _column(feature: Feature) -> tuple[str, ...]:
    if feature.levels:
        codes = ", ".join(map(str, feature.levels))
        return f"`{feature.name}`", feature.unit, f"codes {codes}", str(feature.levels[0])
    possible = f"{feature.low} to {feature.high}"
    return f"`{feature.name}`", feature.unit, possible, str(feature.centre)


def _averaged(job: JobStanding) -> str:
    end, first = job.end, job.contract.average_from
    if end is not None and end.record.rounds >= first:
        but = "; those that left it unchanged do not count" if job.void else ""
        rounds = f"rounds {first} to {end.record.rounds}"
        without = f", each without what {out} taught" if (out := _taken_out(job)) else ""
        return f"The model is the mean of the models of {rounds}{without}{but}."
    return "It was stopped early: the model is the newest there was."


def _taken_out(job: JobStanding) -> str:
    """Whose accepted updates are not in the released model; empty: nobody's."""
    return ", ".join(name for name in sorted(job.doubted) if job.accounts[name].accepted)


def _lineage(lineage: Lineage, job: JobStanding) -> list[str]:
    """The way from the contract to the release, by the records that say so."""
    contract = lineage.contract
    accepted = sum(account.accepted for account in job.accounts.values())
    rows = [("contract", contract.index, contract.height)]
    if lineage.steps:
        first, last = lineage.steps[0], lineage.steps[-1]
        rows += [
            (f"result of round {step.round}", step.index, step.height)
            for step in ([first] if first is last else [first, last])
        ]
    rows.append(("release", lineage.named.index, lineage.named.height))
    return [
        "| what | record | block |",
        "|---|---|---|",
        *(f"| {' | '.join(map(str, row))} |" for row in rows),
        "",
        f"Of {accepted + job.rejected} proofs of learning {accepted} were accepted. Untrained "
        f"model: `{contract.record.initial_model}`. Task fingerprint: "
        f"`{contract.record.task_fingerprint}`.",
        "",
        f"`consortium model show {lineage.named.job} --format json` lists every proof. "
        "`consortium ledger export --content` writes what an auditor needs, and `consortium model "
        "verify FILE --ledger EXPORT --rounds` derives this model anew from the hospitals' proofs.",
    ]


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
    return [*lines, *_gains(evaluations)]


def _gains(evaluations: Sequence[Evaluation]) -> list[str]:
    lines = [
        "",
        "What each hospital gains: cases of 100 that the model finds more than the hospital's own "
        "model alone, at the false alarms of that (95 % interval); and the model with the "
        "hospital's own calibration, which does not leave it.",
        "",
        "| hospital | more of 100 cases | own calibration: accuracy | calibration error |",
        f"|{'---|' * 4}",
    ]
    for evaluation in evaluations:
        calibrated = intervals(evaluation)[CALIBRATED]
        cells = (
            evaluation.author, _cases(gain_of(evaluation)),
            *(_estimate(calibrated[measure]) for measure in ("accuracy", "calibration")),
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _cases(gain: Estimate | None) -> str:
    if gain is None or gain.low is None or gain.high is None:
        return "n/a"
    return f"{100 * gain.value:.0f} ({100 * gain.low:.0f} to {100 * gain.high:.0f})"


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
