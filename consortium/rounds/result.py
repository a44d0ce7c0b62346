"""What a round comes to: derived from the signed records alone, by every member, to the bit.

Acceptance: checks 1 to 7 need as many ``Accepted`` verdicts as the quorum; every member's verdict
counts there, and a failed check is named only when more say so than may lie. Check 8 and the scores
use the other members' verdicts only: a proof is ``Harmful`` when more than half of at least two
others say so, and more than may lie, or when its steps go against the others' and few of them would
miss what it taught (`spared`); its score and its Shapley value are the lower medians of the
others'. The learner is the accepted proof with the best score; a tie goes to the lowest VRF proof,
which nobody can choose.

The model takes up what was accepted, and leaves out all that hospitals taught whose last proof was
called harmful (`consortium.rounds.unlearning`).

A verdict is paid that judges all reveals, and in checks 1 to 7 finds what every member finds.

The local values behind a median are attested by their validators, not recomputable by others.

An attempt in which fewer members than the quorum closed the set is repeated: no honest hospital can
have revealed, so it has cost nobody anything. Once a quorum closed, the round counts, void or not.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from consortium.rounds.aggregation import new_model
from consortium.rounds.checks import Examined, RoundContext
from consortium.rounds.checks.harm import held_harmful, held_missed
from consortium.rounds.codes import HARMFUL, NO_QUORUM
from consortium.rounds.commitment import closed_set_digest
from consortium.rounds.committee import committee, liars_borne, votes_needed
from consortium.rounds.progress import doubted, left_out
from consortium.rounds.rewards import round_credits
from consortium.rounds.score import lower_median
from consortium.rounds.unlearning import Taught, corrected
from ledger.content import Weights, model_hash
from ledger.entry import Entry
from ledger.quorum import quorum
from ledger.records import (
    ACCEPTED,
    Absence,
    Close,
    Commitment,
    CreditPolicy,
    Finding,
    Outcome,
    Payment,
    Proof,
    Refusal,
    Result,
    Verdict,
)


@dataclass(frozen=True)
class RoundRecords:
    """All that hospitals signed in one attempt at a round."""

    commitments: tuple[Entry, ...] = ()
    refusals: tuple[Entry, ...] = ()
    closes: tuple[Entry, ...] = ()
    proofs: tuple[Entry, ...] = ()
    verdicts: tuple[Entry, ...] = ()

    @staticmethod
    def sort(entries: Sequence[Entry]) -> "RoundRecords":
        """The records of a block by kind, each kind in the order of its authors."""
        kinds = {
            "commitments": Commitment,
            "refusals": Refusal,
            "closes": Close,
            "proofs": Proof,
            "verdicts": Verdict,
        }
        ordered = sorted(entries, key=lambda entry: entry.record.author)
        return RoundRecords(
            **{
                name: tuple(entry for entry in ordered if isinstance(entry.record, kind))
                for name, kind in kinds.items()
            }
        )

    def all(self) -> tuple[Entry, ...]:
        """All entries in the order in which a block holds them."""
        return self.commitments + self.refusals + self.closes + self.proofs + self.verdicts


def derive_result(
    context: RoundContext,
    records: RoundRecords,
    examined: Mapping[str, Examined],
    policy: CreditPolicy,
    history: Sequence[Result],
) -> tuple[Result, Weights]:
    """The attempt's result and the new global model.

    Args:
        context: the attempt at the round.
        records: what hospitals signed.
        examined: checks 1 to 7 on the reveals, recomputed by whoever derives.
        policy: how credits are split.
        history: the job's earlier results, oldest first.
    """
    judges, verdicts = judged(context, records)
    needed = quorum(len(context.members))
    votes, liars = votes_needed(context), liars_borne(context)
    shapley: dict[str, int | None] = {}
    scores: dict[str, int | None] = {}
    codes: dict[str, str] = {}
    kept = spared(context, examined, judges, verdicts)
    for name, found in _said(verdicts, examined).items():
        codes[name] = ACCEPTED if name in kept else _code([f for _, f in found], votes, liars)
        others = [finding for author, finding in found if author != name]
        if codes[name] == ACCEPTED and name not in kept and held_harmful(others, liars):
            codes[name] = HARMFUL
        scores[name] = lower_median([f.score for f in others if f.score is not None])
        shapley[name] = lower_median([f.shapley for f in others if f.shapley is not None])
        if name in kept:  # whoever gives one beside that code lies
            scores[name] = shapley[name] = None
    accepted = {
        name: weights
        for name, found_ in examined.items()
        if codes[name] == ACCEPTED
        and found_.code == (HARMFUL if name in kept else ACCEPTED)
        and (weights := found_.weights) is not None
    }
    void = not accepted
    model = context.model
    if not void:
        after = doubted(history, codes)
        taught = Taught(context.job, context.earlier)
        change = taught.correction(history, left_out(history), after)
        model = corrected(new_model(context.job, accepted), change)
    averages = _averages(accepted, shapley, policy, history)
    learner = _learner(accepted, scores, records)
    rejected = {name for name, code in codes.items() if code not in (ACCEPTED, NO_QUORUM)}
    own = {name: found.code for name, found in examined.items()}
    right = [v.author for v in verdicts if {f.institution: f.code for f in v.findings} == own]
    credits = round_credits(
        policy,
        averages={} if void else averages,
        verdicts=[author for author in right if author not in rejected],
        validators=min(context.job.committee, len(context.job.participants)),
        learner=learner,
    )
    result = Result(
        v=1,
        type="result",
        ledger=context.ledger,
        author="coordinator",
        job=context.job.job,
        round=context.round,
        attempt=context.attempt,
        base=context.base,
        digest=closed_set_digest(records.commitments) if records.commitments else None,
        model_before=model_hash(context.model),
        model_after=model_hash(model),
        void=void,
        again=len(records.closes) < needed,
        proofs=tuple(
            Outcome(
                institution=name,
                code=code,
                score=scores[name],
                shapley=shapley[name],
                average=averages.get(name, 0),
                credits=credits.learning.get(name, 0),
            )
            for name, code in codes.items()
        ),
        fees=tuple(Payment(institution=n, credits=c) for n, c in credits.fees.items()),
        absent=_absent(context, records, judges),
        learner=None if void else learner,
        bonus=credits.bonus,
        minted=credits.minted,
    )
    return result, model


def judged(context: RoundContext, records: RoundRecords) -> tuple[frozenset[str], list[Verdict]]:
    """The round's committee, and the verdicts of its members."""
    judges = committee(context, [p.record for p in records.proofs if isinstance(p.record, Proof)])
    found = [v.record for v in records.verdicts if isinstance(v.record, Verdict)]
    return judges, [verdict for verdict in found if verdict.author in judges]


def spared(
    context: RoundContext,
    examined: Mapping[str, Examined],
    judges: frozenset[str],
    verdicts: Sequence[Verdict],
) -> frozenset[str]:
    """Whose proofs are accepted though they go against the others': their steps would be missed.

    Args:
        context: the attempt at the round.
        examined: checks 1 to 8 on the reveals, recomputed by whoever derives.
        judges: the round's committee.
        verdicts: theirs.
    """
    votes, liars = votes_needed(context), liars_borne(context)
    named = [name for name, each in examined.items() if each.code == HARMFUL]
    found = []
    for name, said in _said(verdicts, named).items():
        others = [f for author, f in said if author != name and f.code == HARMFUL]
        against = _code([finding for _, finding in said], votes, liars) == HARMFUL
        friends = max(0, liars - 1) if name in judges else liars
        if against and held_missed(others, friends):
            found.append(name)
    return frozenset(found)


def _said(
    verdicts: Sequence[Verdict], names: Iterable[str]
) -> dict[str, list[tuple[str, Finding]]]:
    """Who says what of each of these proofs."""
    said: dict[str, list[tuple[str, Finding]]] = {name: [] for name in sorted(names)}
    for verdict in verdicts:
        for finding in verdict.findings:
            if finding.institution in said:
                said[finding.institution].append((verdict.author, finding))
    return said


def _code(found: Sequence[Finding], needed: int, liars: int) -> str:
    codes = [finding.code for finding in found]
    if codes.count(ACCEPTED) >= needed:
        return ACCEPTED
    failures = sorted(code for code in codes if code != ACCEPTED)
    worst = max(failures, key=failures.count, default=NO_QUORUM)
    # What only liars may have said is held against nobody.
    return worst if failures.count(worst) > liars else NO_QUORUM


def _averages(
    accepted: Mapping[str, Weights],
    shapley: Mapping[str, int | None],
    policy: CreditPolicy,
    history: Sequence[Result],
) -> dict[str, int]:
    rounds = [result for result in history if not result.again]
    recent = rounds[-(policy.window - 1) :] if policy.window > 1 else []
    past = [outcome for result in recent for outcome in result.proofs if outcome.code == ACCEPTED]
    return {
        name: (shapley[name] or 0)
        + sum(outcome.shapley or 0 for outcome in past if outcome.institution == name)
        for name in sorted(accepted)
    }


def _learner(
    accepted: Mapping[str, Weights], scores: Mapping[str, int | None], records: RoundRecords
) -> str | None:
    draws = {p.record.author: p.record.vrf_proof for p in records.proofs
             if isinstance(p.record, Proof)}  # fmt: skip
    scored = [
        (-score, draws[name], name) for name in accepted if (score := scores[name]) is not None
    ]
    return min(scored)[2] if scored else None


def _absent(
    context: RoundContext, records: RoundRecords, judges: frozenset[str]
) -> tuple[Absence, ...]:
    """Who did not answer a phase that was asked: none is, once too few answered the one before."""
    refused = {r.record.author: r.record.code for r in records.refusals
               if isinstance(r.record, Refusal)}  # fmt: skip
    needed = quorum(len(context.members))
    phases = [("train", records.commitments)]
    if len(records.commitments) >= needed:
        phases.append(("close", records.closes))
    if len(records.closes) >= needed:
        phases.append(("reveal", records.proofs))
    if records.proofs:
        phases.append(("verify", records.verdicts))
    absent: list[Absence] = []
    for participant in context.job.participants:
        name = participant.institution
        for phase, entries in phases:
            asked = phase != "verify" or name in judges
            if asked and name not in {entry.record.author for entry in entries}:
                code = refused.get(name, "NoAnswer")
                absent.append(
                    Absence.model_validate({"institution": name, "phase": phase, "code": code})
                )
                break
    return tuple(absent)
