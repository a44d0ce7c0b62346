"""What a round comes to: acceptance, harm, learner, absence, a void round; and one lying member."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from rounds_examples import (
    CREDITS,
    all_records,
    finding,
    honest_findings,
    in_round,
    make_context,
    names,
    reveal_all,
    signed,
    submissions,
    verdict,
    with_verdict,
)

from consortium.errors import RoundInvalid
from consortium.rounds.aggregation import weighted_mean
from consortium.rounds.checks import Examined, RoundContext, examine
from consortium.rounds.replay import check_record
from consortium.rounds.result import RoundRecords, derive_result
from consortium.rounds.verdict import Validator, findings
from ledger.content import Weights, model_hash
from ledger.records import Finding, Outcome, Refusal, Result

LIAR, VICTIM = "hospital-4", "hospital-1"


class Round:
    """Four honest hospitals' round, to be changed."""

    def __init__(self, n: int = 4) -> None:
        self.context: RoundContext = make_context(n)
        self.revealed = reveal_all(submissions(self.context))
        self.records: RoundRecords = all_records(self.context, self.revealed)
        self.examined: dict[str, Examined] = examine(
            self.context, self.revealed.commitments, self.revealed.reveals
        )

    def say(self, author: str, **about: dict[str, Any]) -> None:
        """Replaces one member's verdict; keys are hospital_1 for hospital-1."""
        said = []
        for one in honest_findings(author, sorted(self.revealed.reveals)):
            changed = about.get(one.institution.replace("-", "_"), {})
            said.append(Finding.model_validate(one.model_dump() | changed))
        entry = verdict(self.context, author, self.revealed.digest, said)
        self.records = with_verdict(self.records, entry)

    def without(self, kind: str, *authors: str) -> None:
        kept = tuple(e for e in getattr(self.records, kind) if e.record.author not in authors)
        self.records = replace(self.records, **{kind: kept})

    def result(self, history: tuple[Result, ...] = ()) -> tuple[Result, Weights]:
        reveals = {e.record.author for e in self.records.proofs}
        examined = {name: found for name, found in self.examined.items() if name in reveals}
        return derive_result(self.context, self.records, examined, CREDITS, history)

    def outcome(self, name: str) -> Outcome:
        return next(o for o in self.result()[0].proofs if o.institution == name)


def test_an_honest_round_accepts_everybody_and_mints_its_pool() -> None:
    round = Round()
    result, model = round.result()
    assert {o.institution: o.code for o in result.proofs} == dict.fromkeys(names(4), "Accepted")
    accepted = {n: e.weights for n, e in round.examined.items() if e.weights is not None}
    mean = weighted_mean(
        accepted, {p.institution: p.weight for p in round.context.job.participants}
    )
    assert result.model_after == model_hash(model) == model_hash(mean)
    assert result.model_before == model_hash(round.context.model) != result.model_after
    assert (result.minted, result.bonus, result.void, result.absent) == (1000, 100, False, ())
    assert {p.institution: p.credits for p in result.fees} == dict.fromkeys(names(4), 50)


# acceptance


def test_one_liar_of_four_rejects_nobody() -> None:
    round = Round()
    round.say(LIAR, **{f"hospital_{i}": {"code": "NearCopy"} for i in (1, 2, 3)})
    assert {o.code for o in round.result()[0].proofs} == {"Accepted"}


def test_one_liar_of_four_lets_nobody_in() -> None:
    round = Round()
    round.examined[VICTIM] = Examined("StepTooLarge")
    for author in names(4)[:3]:
        round.say(author, hospital_1={"code": "StepTooLarge", "score": None, "harmful": None,
                                      "shapley": None})  # fmt: skip
    round.say(LIAR)
    result, model = round.result()
    assert round.outcome(VICTIM).code == "StepTooLarge"
    assert round.outcome(VICTIM).credits == 0
    assert VICTIM not in {p.institution for p in result.fees}
    others = {n: e.weights for n, e in round.examined.items() if e.weights is not None}
    assert len(others) == 3
    assert model_hash(model) == model_hash(weighted_mean(others, dict.fromkeys(others, 100)))


def test_one_liar_with_many_findings_on_one_proof_has_one_vote_at_most() -> None:
    """Findings are counted: without this rule one verdict could hold a whole quorum."""
    round = Round()
    said = honest_findings(LIAR, names(4))
    stuffed = [said[0], said[0], said[0], *said[1:]]
    for one in (stuffed, said[::-1], [*said, finding("hospital-1")]):
        entry = verdict(round.context, LIAR, round.revealed.digest, one)
        with pytest.raises(RoundInvalid, match="once, in order"):
            check_record(round.context, entry.record, round.revealed.digest)
    entry = verdict(round.context, LIAR, round.revealed.digest, said)
    check_record(round.context, entry.record, round.revealed.digest)


# who goes against the others


def against(victim: str = VICTIM, **missed: bool | None) -> Round:
    """All find that one goes against the others; ``missed`` is what each says of its patients."""
    round = Round()
    round.examined[victim] = Examined("Harmful", round.examined[victim].weights)
    for author in names(4):
        stays_out = missed.get(author.replace("-", "_"))
        harmful = None if stays_out is None else not stays_out
        round.say(author, **{victim.replace("-", "_"): {
            "code": "Harmful", "score": None, "harmful": harmful, "shapley": None}})  # fmt: skip
    return round


def test_who_goes_against_the_others_is_rejected_unless_their_patients_would_miss_it() -> None:
    out = {"hospital_2": False, "hospital_3": False, "hospital_4": False}
    result, model = against(**out).result()
    assert {o.code for o in result.proofs if o.institution == VICTIM} == {"Harmful"}
    spared, with_it = against(**out | {"hospital_2": True, "hospital_3": True}).result()
    assert {o.code for o in spared.proofs} == {"Accepted"}
    assert model_hash(with_it) == model_hash(Round().result()[1]) != model_hash(model)
    # Nobody is named for what it found, and it is paid; of this round's Shapley value none is told.
    assert {p.institution for p in spared.fees} == set(names(4))
    (own,) = (o for o in spared.proofs if o.institution == VICTIM)
    assert (own.score, own.shapley) == (None, None)
    assert spared.learner != VICTIM


def test_one_of_three_is_no_half_and_one_of_two_is() -> None:
    out = {"hospital_2": True, "hospital_3": False, "hospital_4": False}
    assert against(**out).outcome(VICTIM).code == "Harmful"
    assert against(**out | {"hospital_3": None}).outcome(VICTIM).code == "Accepted"
    assert against(hospital_1=True).outcome(VICTIM).code == "Harmful"  # its own word


@pytest.mark.parametrize(("score", "shapley"), [(10_000, 10_000), (0, -10_000)])
def test_one_liar_gives_nobody_that_is_spared_a_score(score: int, shapley: int) -> None:
    """The honest give none beside that code: a median would be the liar's own word."""
    round = against(hospital_2=True, hospital_3=True, hospital_4=True)
    round.say(LIAR, hospital_1={"code": "Harmful", "score": score, "shapley": shapley,
                                "harmful": False})  # fmt: skip
    result = round.result()[0]
    (own,) = (o for o in result.proofs if o.institution == VICTIM)
    assert (own.code, own.score, own.shapley, own.average) == ("Accepted", None, None, 0)
    assert result.learner != VICTIM


def test_nobody_is_spared_whom_this_member_does_not_find_to_go_against_the_others() -> None:
    round = against(hospital_2=True, hospital_3=True, hospital_4=True)
    round.examined[VICTIM] = Round().examined[VICTIM]
    assert round.outcome(VICTIM).code == "Harmful"


def test_who_finds_another_code_has_no_word_on_whether_it_would_be_missed() -> None:
    round = against(hospital_2=False)
    assert round.outcome(VICTIM).code == "Harmful"
    round.say(LIAR, hospital_1={"harmful": False})
    assert round.outcome(VICTIM).code == "Harmful"
    assert LIAR not in {p.institution for p in round.result()[0].fees}


def test_a_quorum_of_verdicts_is_needed() -> None:
    round = Round()
    round.without("verdicts", "hospital-4")
    assert round.outcome(VICTIM).code == "Accepted"
    round.without("verdicts", "hospital-3")
    result, model = round.result()
    assert {o.code for o in result.proofs} == {"NoQuorum"}
    assert result.void
    assert model_hash(model) == result.model_after == result.model_before
    assert (result.minted, result.fees, result.learner, result.bonus) == (0, (), None, 0)


def test_what_one_liar_says_beside_an_absent_member_is_held_against_nobody() -> None:
    """Two accept, one lies, one is away: that is no quorum, and no copy either."""
    round = Round()
    round.without("verdicts", "hospital-3")
    round.say(LIAR, hospital_1={"code": "NearCopy"})
    assert round.outcome(VICTIM).code == "NoQuorum"


def test_among_two_or_three_no_liar_is_tolerated_and_a_code_counts_at_once() -> None:
    round = Round(3)
    round.without("verdicts", "hospital-3")
    round.say("hospital-2", hospital_1={"code": "NearCopy"})
    assert round.outcome(VICTIM).code == "NearCopy"


def test_what_everybody_accepts_but_does_not_re_derive_enters_no_model() -> None:
    round = Round()
    weights = round.examined[VICTIM].weights
    round.examined[VICTIM] = Examined("NearCopy", weights)
    others = {n: e.weights for n, e in round.examined.items() if n != VICTIM}
    assert model_hash(round.result()[1]) == model_hash(
        weighted_mean({n: w for n, w in others.items() if w is not None},
                      dict.fromkeys(others, 100))
    )  # fmt: skip


# check 8, scores, Shapley values


def test_a_proof_is_harmful_when_more_than_half_of_two_others_say_so() -> None:
    round = Round()
    round.say("hospital-2", hospital_1={"harmful": True})
    assert round.outcome(VICTIM).code == "Accepted"
    round.say("hospital-3", hospital_1={"harmful": True})
    assert round.outcome(VICTIM).code == "Harmful"
    result = round.result()[0]
    assert result.learner != VICTIM
    assert VICTIM not in {p.institution for p in result.fees}


def test_half_is_not_more_than_half_and_one_alone_is_not_enough() -> None:
    round = Round()
    round.say("hospital-2", hospital_1={"harmful": True})
    round.say("hospital-3", hospital_1={"harmful": None})
    assert round.outcome(VICTIM).code == "Accepted"
    round.say("hospital-4", hospital_1={"harmful": None})
    assert round.outcome(VICTIM).code == "Accepted"


def test_ones_own_word_on_oneself_does_not_count() -> None:
    round = Round()
    round.say(VICTIM, hospital_1={"score": 10000, "shapley": 10000, "harmful": False})
    assert (round.outcome(VICTIM).score, round.outcome(VICTIM).shapley) == (9000, 100)


@pytest.mark.parametrize(
    "lie", [{"score": 0, "shapley": -10000}, {"score": 10000, "shapley": 10000}]
)
def test_one_liar_of_four_moves_no_median_beyond_the_honest(lie: dict[str, int]) -> None:
    round = Round()
    round.say("hospital-2", hospital_1={"score": 9200, "shapley": 125})
    round.say(LIAR, hospital_1=lie)
    assert round.outcome(VICTIM).score in (9000, 9200)
    assert round.outcome(VICTIM).shapley in (100, 125)


def test_abstentions_leave_the_numbers_to_the_others() -> None:
    round = Round()
    nothing = {"score": None, "harmful": None, "shapley": None}
    for author in names(4)[1:]:
        round.say(author, hospital_1=nothing)
    outcome = round.outcome(VICTIM)
    assert (outcome.code, outcome.score, outcome.shapley) == ("Accepted", None, None)


def test_the_largest_values_over_the_longest_window_still_fit_a_record() -> None:
    round = Round(2)
    past = []
    for number in range(1, 6):
        for author, other in (("hospital-1", "hospital_2"), ("hospital-2", "hospital_1")):
            round.say(author, **{other: {"score": 10000, "shapley": 10000}})
        result, _ = round.result(tuple(past))
        past.append(result.model_copy(update={"round": number}))
    assert [o.average for o in result.proofs] == [50000, 50000]


def test_the_window_sums_the_last_rounds_only() -> None:
    round = Round()
    history: list[Result] = []
    for shapley in (1000, 200, 300, 400, 500):
        for author in names(4)[1:]:
            round.say(author, hospital_1={"shapley": shapley})
        result, _ = round.result(tuple(history))
        history.append(result)
    repeated, _ = derive_result(round.context, RoundRecords(), {}, CREDITS, ())
    assert repeated.again
    result, _ = round.result(tuple(history))
    assert round.result((*history, *[repeated] * 4))[0] == result
    assert result.proofs[0].average == 200 + 300 + 400 + 500 + 500


# the learner


def test_the_learner_has_the_best_score() -> None:
    round = Round()
    for author in ("hospital-1", "hospital-2", "hospital-4"):
        round.say(author, hospital_3={"score": 9400})
    assert round.result()[0].learner == "hospital-3"


def test_a_tie_goes_to_the_lowest_vrf_proof() -> None:
    round = Round()
    draws = {e.record.author: e.record.body()["vrf_proof"] for e in round.records.proofs}
    assert round.result()[0].learner == min(draws, key=draws.__getitem__)


def test_a_score_of_zero_is_a_score() -> None:
    round = Round(2)
    for author, other in (("hospital-1", "hospital_2"), ("hospital-2", "hospital_1")):
        round.say(author, **{other: {"score": 0}})
    result, _ = round.result()
    assert result.learner is not None
    assert (result.bonus, result.minted) == (100, 1000)


def test_without_scores_there_is_no_learner_and_no_bonus() -> None:
    round = Round()
    for author in names(4):
        round.say(author, **{f"hospital_{i}": {"score": None} for i in range(1, 5)})
    result, _ = round.result()
    assert (result.learner, result.bonus, result.minted) == (None, 0, 1000)


# absence


@pytest.mark.parametrize(
    ("kinds", "phase"),
    [
        (("commitments", "closes", "proofs", "verdicts"), "train"),
        (("closes", "proofs", "verdicts"), "close"),
        (("proofs", "verdicts"), "reveal"),
        (("verdicts",), "verify"),
    ],
)
def test_who_did_not_answer_is_named_with_the_first_phase_missed(
    kinds: tuple[str, ...], phase: str
) -> None:
    round = Round()
    for kind in kinds:
        round.without(kind, LIAR)
    (absence,) = round.result()[0].absent
    assert (absence.institution, absence.phase, absence.code) == (LIAR, phase, "NoAnswer")


def test_who_refused_is_named_with_the_code() -> None:
    round = Round()
    for kind in ("commitments", "closes", "proofs", "verdicts"):
        round.without(kind, LIAR)
    body = in_round(round.context, LIAR, type="refusal", code="BudgetExceeded")
    round.records = replace(round.records, refusals=(signed(Refusal.model_validate(body)),))
    (absence,) = round.result()[0].absent
    assert (absence.phase, absence.code) == ("train", "BudgetExceeded")


def test_a_round_in_which_nobody_answered_is_void() -> None:
    context = make_context()
    result, model = derive_result(context, RoundRecords(), {}, CREDITS, ())
    assert result.void
    assert result.digest is None
    assert (result.proofs, result.minted) == ((), 0)
    assert [a.phase for a in result.absent] == ["train"] * 4
    assert model_hash(model) == result.model_before == result.model_after


# a validator's findings


def test_findings_judge_others_and_check_oneself() -> None:
    round = Round()
    random = np.random.default_rng(0)
    inputs, labels = random.normal(size=(40, 30)), np.array([0.0, 1.0] * 20)

    def predict(models: Weights) -> np.ndarray:
        return models["weight"][:, 0].astype(np.float64) @ inputs.T + models["bias"]

    round.examined["hospital-3"] = Examined("NearCopy", round.examined["hospital-3"].weights)
    said = findings(round.context, round.examined, Validator(labels, predict), "hospital-1")
    by_name = {f.institution: f for f in said}
    assert [f.institution for f in said] == names(4)
    assert by_name["hospital-1"].code == "Accepted"
    assert by_name["hospital-1"].score is by_name["hospital-1"].shapley is None
    assert by_name["hospital-2"].score is not None
    assert by_name["hospital-2"].score % 200 == 0
    assert by_name["hospital-3"].code == "NearCopy"
    assert by_name["hospital-3"].score is None
    few = Validator(np.array([1.0] * 4 + [0.0] * 36), predict)
    for one in findings(round.context, round.examined, few, "hospital-1"):
        assert (one.score, one.harmful, one.shapley) == (None, None, None)
