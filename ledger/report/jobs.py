"""The report's part on jobs: contracts, rounds, outcomes, and what the codes mean."""

from collections import Counter
from collections.abc import Mapping, Sequence

from ledger.report.markup import (
    Figure,
    Html,
    bar_of,
    facts_of,
    joined,
    legend_of,
    natural_order,
    remark,
    rounded_up,
    section_of,
    table_of,
    tag_of,
)
from ledger.report.tally import Contract, Round, Sums, Tally, added_up, codes_of, outcomes_of

COLUMNS, CODES = 60, 8  # shown in a chart, in a cell

_SCORES = {
    "banded": "left each hospital rounded; no epsilon covers them",
    "noised": "left each hospital with noise, charged to a budget of those patients",
}

MEANINGS = {
    "Accepted": "passed all checks, as a quorum of the institutions attests",
    "AccountantFixed": "its privacy budget does not count steps on sampled batches",
    "BaseUnknown": "its agent had not caught up with the ledger",
    "BudgetExceeded": "its privacy budget does not cover the job",
    "CohortMissing": "it has no data for the task",
    "CohortTooSmall": "its cohort is too small for the task",
    "CommitmentMismatch": "what was revealed is not what had been committed to",
    "DeviceMissing": "the device that it trains on was not there",
    "Harmful": "its institution goes against what all others learn, and too few of them would miss "
    "what it taught; or more than half of at least two others saw the model get worse with it, on "
    "their own patients, beyond what is tolerated",
    "InternalError": "an error inside its agent, whose log says more",
    "NearCopy": "a near-copy of another update; of two in one round, which is the copy is unknown",
    "NoAnswer": "no answer in time",
    "NoQuorum": "undecided: too few verdicts to accept or to reject it; held against nobody",
    "NotAMember": "the institution does not take part in the job",
    "PolicyRefused": "its own policy does not allow the job",
    "PrivacyClaimInvalid": "what it declares to have spent is not what the contract costs",
    "RevealDropped": "it has revealed in an earlier attempt at this round, and reveals once only",
    "SignatureInvalid": "not signed with the institution's key",
    "StepTooLarge": "further from the current model than the contract's terms allow",
    "UpdateMalformed": "its tensors are not those of the model",
    "UpdateNotFinite": "it holds NaN or infinity",
    "VrfProofInvalid": "its secure mapping was not drawn for this round",
}


def jobs_section(tally: Tally, sums: dict[str, dict[str, Sums]], shown: set[str]) -> Html:
    """All jobs in an overview."""
    rows: list[Sequence[object]] = []
    for job, contract in tally.jobs.items():
        whole = added_up(sums[job].values())
        accepted, rejected, undecided = outcomes_of(codes_of(whole, "proofs"))
        rows.append(
            (
                tag_of("a", job, href=f"#{job}") if job in shown else job,
                contract.task if contract else "before this range",
                whole["rounds", "done"], whole["rounds", "void"], accepted, rejected.total(),
                undecided, whole["minted", "credits"], _status(tally, job),
            )
        )  # fmt: skip
    left = len(tally.jobs) - len(shown)
    return section_of(
        "Jobs",
        tag_of("p", f"The oldest, {left:,}, are in this table only.") if left else "",
        table_of(
            "Jobs, the oldest first",
            ("Job", "Task", "Rounds", "Void", "Accepted", "Rejected", "Undecided", "Credits",
             "Status"),
            rows,
        ),
    )  # fmt: skip


def _status(tally: Tally, job: str) -> str:
    end = tally.ends.get(job)
    return f"{end.status} in block {end.height:,}" if end else "no end recorded so far"


def job_section(job: str, tally: Tally, sums: Mapping[str, Sums]) -> Html:
    """One job in full."""
    contract, end, rounds = tally.jobs[job], tally.ends.get(job), codes_of(sums[""], "rounds")
    facts: list[tuple[str, object]] = [("Status", _status(tally, job))]
    title = f"Job {job}"
    done = f"{rounds['done']:,} with a new model, {rounds['void']:,} void"
    if rounds["again"]:
        done += f", {rounds['again']:,} tried again"
    if contract:
        title += f": {contract.task}"
        done += f", of {contract.rounds:,} in the contract"
        facts += [
            ("Task's fingerprint", tag_of("code", contract.fingerprint)),
            (
                "Tolerated",
                f"a fall of {contract.drop / 100:g} points of AUROC at another hospital, up to "
                f"{contract.drop_with_noise / 100:g} more where noise is strong",
            ),
            ("Scores on validation patients", _SCORES[contract.scores]),
            ("Model given out", f"the average of the models from round {contract.average_from:,}"),
        ]
    if end:
        facts.append(("Model's hash", tag_of("code", end.model)))
    names = [name for name in sorted(sums, key=natural_order) if name]
    return section_of(
        title,
        "" if contract else remark("Its contract stands before this range."),
        facts_of(("Rounds", done), *facts),
        _participants(job, tally, contract) if contract else "",
        table_of(
            "Proofs as the results decided on them, and who refused or did not answer",
            ("Institution", "Accepted", "Rejected", "Undecided", "Learner", "Rejected as",
             "Refused with", "Absent"),
            [_proof_row(name, sums[name]) for name in names],
        ),
        credit_table("Credits of this job", sums),
        _round_table([r for r in tally.rounds if r.job == job], rounds.total()),
        id=job,
    )  # fmt: skip


def _participants(job: str, tally: Tally, contract: Contract) -> Html:
    rows = [
        (
            name, weight, Figure(epsilon), Figure(delta),
            rounded_up(tally.spent[name, "job", job][0])
            if (name, "job", job) in tally.spent else Figure("no proof"),
        )
        for name, weight, epsilon, delta in sorted(
            contract.participants, key=lambda part: natural_order(part[0])
        )
    ]  # fmt: skip
    return table_of(
        "Participants. A job's epsilon is what the contract costs; spent is what the newest proof "
        "of this job declares for the cohort, earlier jobs included (rounded up, not proved)",
        ("Institution", "Weight", "Epsilon of the job", "Delta", "Epsilon spent"), rows,
    )  # fmt: skip


def _proof_row(name: str, sums: Sums) -> Sequence[object]:
    accepted, rejected, undecided = outcomes_of(codes_of(sums, "proofs"))
    lists = (
        _listed(codes) for codes in (rejected, codes_of(sums, "refused"), codes_of(sums, "absent"))
    )
    return name, accepted, rejected.total(), undecided, sums["rounds", "learner"], *lists


def _listed(codes: Counter[str]) -> str:
    more = [f"{len(codes) - CODES:,} other codes"] if len(codes) > CODES else []
    return ", ".join(
        [f"{code}:\N{NO-BREAK SPACE}{codes[code]:,}" for code in sorted(codes)[:CODES]] + more
    )


_ROUND = {"accepted": "one", "rejected": "two", "undecided": "three"}


def _round_table(rounds: list[Round], total: int) -> Html:
    if not rounds:
        return tag_of("p", f"Rounds: {total:,}, none of them among the newest, which are listed.")
    rows = [
        (
            f"{r.round:,}", r.height, r.accepted, r.rejected, r.undecided, r.absent, r.learner,
            r.minted, "" if r.state == "done" else r.state,
        )
        for r in rounds
    ]  # fmt: skip
    part = f"the newest {len(rounds):,} of {total:,}" if total > len(rounds) else "all of them"
    head = ("Round", "Block", *map(str.capitalize, _ROUND), "Absent", "Learner", "Credits", "")
    caption = f"Rounds one by one, {part}. Absent: from one phase or more"
    counted = [r for r in rounds if r.state != "again"]
    return joined(_columns(counted[-COLUMNS:]) if counted else "", table_of(caption, head, rows))


def _columns(rounds: list[Round]) -> Html:
    """A chart with one column a round."""
    high = max(1, *(r.accepted + r.rejected + r.undecided for r in rounds))
    drawn: list[Html] = []
    for place, r in enumerate(rounds):
        top = high
        for size, look in zip((r.accepted, r.rejected, r.undecided), _ROUND.values(), strict=True):
            top -= size
            shape = {"x": 10 * place + 1, "y": 10 * top, "width": 8, "height": 10 * size}
            drawn += [tag_of("rect", class_=look, **shape)] if size else []
    label = f"Proofs in rounds {rounds[0].round:,} to {rounds[-1].round:,}, one column each"
    return tag_of(
        "figure",
        tag_of(
            "svg", *drawn, class_="columns", viewBox=f"0 0 {10 * len(rounds)} {10 * high}",
            preserveAspectRatio="none", role="img", style=f"max-width:{3 * len(rounds)}rem",
            aria_label=f"{label}; the numbers are in the table that follows",
        ),
        tag_of("figcaption", f"{label}: ", legend_of(_ROUND)),
    )  # fmt: skip


def codes_section(tally: Tally) -> Html:
    """What the codes that occur mean."""
    found = {c for _, _, what, c in tally.counts if what in ("proofs", "refused", "absent")}
    codes = sorted({code.split(" ")[0] for code in found})
    other = "the institution's own agent gave it: see the documentation, or ask there"
    return section_of(
        "What the codes say",
        tag_of(
            "p", "An accepted proof says that this institution submitted this update for this "
            "round, that it starts from the current model, lies within reach of it and is no copy "
            "that the checks could tell, and how it scored for others. A void round has none. A "
            "round is tried again where too few closed the set, so that nothing was revealed.",
        ),
        facts_of(*((code, MEANINGS.get(code, other)) for code in codes[:100])),
    )  # fmt: skip


_CREDITS = {"learning": "one", "verdicts": "two", "bonus": "three"}


def credit_table(caption: str, sums: Mapping[str, Sums]) -> Html:
    """Credits by institution, as numbers and bars."""
    earned = {
        name: codes_of(sums[name], "credits") for name in sorted(sums, key=natural_order) if name
    }
    most = max((credits.total() for credits in earned.values()), default=0)
    rows = [
        (
            name, *(credits[kind] for kind in _CREDITS), credits.total(),
            bar_of([(look, credits[kind]) for kind, look in _CREDITS.items()], most),
        )
        for name, credits in earned.items()
    ]  # fmt: skip
    columns = zip(*(row[1:-1] for row in rows), strict=True)
    head = ("Institution", *map(str.capitalize, _CREDITS), "All", legend_of(_CREDITS))
    return table_of(caption, head, rows, *(sum(map(int, column)) for column in columns), "")
