"""The committee: how large, how honest, drawn by whom; and that nobody else's verdict counts."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from rounds_examples import (
    CREDITS,
    Revealed,
    all_records,
    finding,
    honest_findings,
    make_context,
    names,
    reveal_all,
    submissions,
    submit,
    verdict,
    with_verdict,
)

from consortium.contract import check_job
from consortium.errors import JobInvalid, RoundInvalid
from consortium.rounds import replay
from consortium.rounds.checks import RoundContext, examine
from consortium.rounds.committee import RISK, committee, committee_size, corruption
from consortium.rounds.result import RoundRecords, derive_result
from ledger.quorum import faulty
from ledger.records import Proof, Result

MANY = 26


@pytest.fixture(scope="module")
def context() -> RoundContext:
    return make_context(MANY)


@pytest.fixture(scope="module")
def revealed(context: RoundContext) -> Revealed:
    return reveal_all(submissions(context))


@pytest.fixture(scope="module")
def records(context: RoundContext, revealed: Revealed) -> RoundRecords:
    return all_records(context, revealed)


def proofs_of(revealed: Revealed) -> list[Proof]:
    found = [revealed.reveals[name].proof.record for name in sorted(revealed.reveals)]
    return [proof for proof in found if isinstance(proof, Proof)]


def result_of(context: RoundContext, revealed: Revealed, records: RoundRecords) -> Result:
    examined = examine(context, revealed.commitments, revealed.reveals)
    return derive_result(context, records, examined, CREDITS, ())[0]


def test_all_judge_among_few_and_the_risk_is_kept_among_many() -> None:
    assert [committee_size(n) for n in (1, 4, 20)] == [1, 4, 20]
    assert [committee_size(n) for n in (21, 48, 64, 100, 1000)] == [21, 21, 25, 31, 45]
    for n in (*range(21, 130), 1000):
        size, liars = committee_size(n), faulty(n)
        assert corruption(n, liars, size) <= RISK
        assert size == 21 or corruption(n, liars, size - 2) > RISK  # none smaller would do


def test_the_chance_is_that_of_drawing_by_lot() -> None:
    random = np.random.default_rng(0)
    drawn = random.permuted(np.tile(np.arange(64) < 21, (20_000, 1)), axis=1)[:, :9].sum(axis=1)
    assert (drawn >= 5).mean() == pytest.approx(float(corruption(64, 21, 9)), abs=0.01)


def test_every_round_draws_anew_and_everybody_gets_their_turn(context: RoundContext) -> None:
    """A committee of three out of 26, over rounds."""
    job = context.job.model_copy(update={"committee": 3})
    turns: Counter[str] = Counter()
    for number in range(1, 31):
        at = replace(context, job=job, round=number)
        few = {name: submit(at, name, at.model) for name in names(8)}
        drawn = committee(at, proofs_of(reveal_all(few)))
        assert len(drawn) == 3
        turns.update(drawn)
    assert set(turns) == set(names(8))
    assert max(turns.values()) < 24


def test_who_did_not_draw_takes_no_seat(context: RoundContext, revealed: Revealed) -> None:
    proofs = proofs_of(revealed)
    drawn = committee(context, proofs)
    assert len(drawn) == committee_size(MANY) == 21
    assert committee(context, list(reversed(proofs))) == drawn
    taken = sorted(drawn)[0]
    # With another's proof of the mapping, however low it draws, or with none at all.
    lowest = next(p for p in proofs if p.author in drawn and p.author != taken)
    for shown in (lowest.vrf_proof, "ff" * 80, "00" * 80):
        false = [p.model_copy(update={"vrf_proof": shown}) if p.author == taken else p
                 for p in proofs]  # fmt: skip
        without = committee(context, false)
        assert taken not in without
        assert without == committee(context, [p for p in proofs if p.author != taken])
        assert len(without) == 21


def test_a_round_ends_with_the_committees_verdicts(
    context: RoundContext, revealed: Revealed, records: RoundRecords
) -> None:
    result = result_of(context, revealed, records)
    assert {outcome.code for outcome in result.proofs} == {"Accepted"}
    assert len(result.proofs) == MANY
    assert result.absent == ()  # nobody else was asked
    assert {fee.institution for fee in result.fees} == committee(context, proofs_of(revealed))
    assert {fee.credits for fee in result.fees} == {CREDITS.verdicts // 21}
    assert result.minted == CREDITS.pool


def test_half_of_the_committee_decides_nothing_and_one_more_does(
    context: RoundContext, revealed: Revealed, records: RoundRecords
) -> None:
    victim = sorted(revealed.reveals)[0]
    judges = sorted(committee(context, proofs_of(revealed)) - {victim})
    for liars, code in ((9, "Accepted"), (11, "Harmful")):
        said = records
        for liar in judges[:liars]:
            found = [finding(f.institution, **f.model_dump(exclude={"institution"}) | (
                {"harmful": True, "score": 0} if f.institution == victim else {}))
                for f in honest_findings(liar, sorted(revealed.reveals))]  # fmt: skip
            said = with_verdict(
                said, verdict(context, liar, revealed.digest, found, records.proofs)
            )
        outcome = next(
            o for o in result_of(context, revealed, said).proofs if o.institution == victim
        )
        assert outcome.code == code
        assert outcome.score == (9000 if code == "Accepted" else 0)


def test_a_verdict_by_anybody_else_is_in_no_block(
    context: RoundContext, revealed: Revealed, records: RoundRecords
) -> None:
    drawn = committee(context, proofs_of(revealed))
    outsider = sorted(set(names(MANY)) - drawn)[0]
    findings = honest_findings(outsider, sorted(revealed.reveals))
    one_more = verdict(context, outsider, revealed.digest, findings, records.proofs)
    said = replace(
        records,
        verdicts=tuple(sorted((*records.verdicts, one_more), key=lambda v: v.record.author)),
    )
    replay._check_records(context, records)
    with pytest.raises(RoundInvalid, match="not on the round's committee"):
        replay._check_records(context, said)
    assert result_of(context, revealed, said) == result_of(context, revealed, records)


def test_a_contract_with_a_committee_of_another_size_is_refused(context: RoundContext) -> None:
    check_job(context.job, context.members)
    for size in (20, 23, MANY):
        with pytest.raises(JobInvalid, match="committee"):
            check_job(context.job.model_copy(update={"committee": size}), context.members)
