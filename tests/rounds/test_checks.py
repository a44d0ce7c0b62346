"""Checks 1 to 7: honest reveals pass, and each attack fails at its own check."""

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from rounds_examples import (
    Submission,
    honest_step,
    keys_of,
    make_context,
    make_example_job,
    moved,
    reveal_all,
    spend_of,
    submissions,
    submit,
)

from consortium import weights as weight_forms
from consortium.rounds.checks import RoundContext, examine, round_alpha, step_cap
from consortium.rounds.checks.near_copy import EarlierStep
from consortium.rounds.replay import steps_of
from ledger.content import model_hash
from ledger.keys import Role
from privacy.accounting import decimal_up
from privacy.budget_status import epsilon_up
from privacy.contract import PrivacyTerms, decimal_text
from privacy.gaussian import mu_squared_of_round
from sml.vrf import prove

CHEAT = "hospital-2"


def codes(context: RoundContext, everything: dict[str, Submission]) -> dict[str, str]:
    revealed = reveal_all(everything)
    return {
        name: found.code
        for name, found in examine(context, revealed.commitments, revealed.reveals).items()
    }


def code_of(context: RoundContext, cheat: Submission) -> str:
    """What the cheat's reveal comes to beside three honest ones, which must pass."""
    found = codes(context, {**submissions(context), CHEAT: cheat})
    assert {code for name, code in found.items() if name != CHEAT} == {"Accepted"}
    return found[CHEAT]


def honest(context: RoundContext) -> Submission:
    return submissions(context)[CHEAT]


def test_honest_reveals_pass_and_un_map_to_the_bit() -> None:
    context = make_context()
    revealed = reveal_all(submissions(context))
    for name, found in examine(context, revealed.commitments, revealed.reveals).items():
        assert found.code == "Accepted"
        assert found.weights is not None
        assert model_hash(found.weights) == model_hash(moved(context, honest_step(name)))


def test_the_model_that_everybody_starts_from_may_be_zero() -> None:
    context = make_context(size=0.0)
    assert set(codes(context, submissions(context)).values()) == {"Accepted"}


# 1


def test_1_a_stranger_is_no_member() -> None:
    context = make_context()
    members = {name: form for name, form in context.members.items() if name != CHEAT}
    assert code_of(replace(context, members=members), honest(context)) == "NotAMember"


def test_1_a_member_outside_the_job_takes_no_part() -> None:
    context = make_context()
    participants = tuple(p for p in context.job.participants if p.institution != CHEAT)
    without = replace(context, job=context.job.model_copy(update={"participants": participants}))
    everything = submissions(context)
    assert codes(without, everything)[CHEAT] == "NotAMember"


def test_1_another_members_signature_does_not_hold() -> None:
    context = make_context()
    assert code_of(context, replace(honest(context), signer="hospital-1")) == "SignatureInvalid"


@pytest.mark.parametrize("changed", [{"author": "hospital-1"}, {"ledger": "00" * 32}])
def test_1_a_proof_names_its_author_and_ledger(changed: dict[str, Any]) -> None:
    context = make_context()
    assert code_of(context, replace(honest(context), proved=changed)) == "SignatureInvalid"


def test_1_another_kind_of_record_is_no_proof() -> None:
    context = make_context()
    revealed = reveal_all(submissions(context))
    own = next(c for c in revealed.commitments if c.record.author == CHEAT)
    reveals = {**revealed.reveals, CHEAT: replace(revealed.reveals[CHEAT], proof=own)}
    assert examine(context, revealed.commitments, reveals)[CHEAT].code == "SignatureInvalid"


# 2


@pytest.mark.parametrize(
    "changed",
    [
        {"salt": b"\x08" * 32},
        {"update": "00" * 32},
        {"model": "00" * 32},
        {"institution": "hospital-1"},
        {"job": "job-2"},
        {"round": 2},
        {"attempt": 2},
        {"vrf_proof": bytes(80)},
    ],
)
def test_2_what_is_shown_must_be_what_was_committed(changed: dict[str, Any]) -> None:
    context = make_context()
    assert code_of(context, replace(honest(context), committed=changed)) == "CommitmentMismatch"


@pytest.mark.parametrize(
    "changed",
    [
        {"salt": "08" * 32}, {"update": "00" * 32}, {"vrf_proof": "00" * 80}, {"round": 2},
        {"attempt": 2}, {"job": "job-2"}, {"digest": "00" * 32},
    ],
)  # fmt: skip
def test_2_the_proof_opens_exactly_that(changed: dict[str, Any]) -> None:
    context = make_context()
    assert code_of(context, replace(honest(context), proved=changed)) == "CommitmentMismatch"


def test_2_other_bytes_than_those_committed() -> None:
    context = make_context()
    revealed = reveal_all(submissions(context))
    other = revealed.reveals["hospital-1"].update
    reveals = {**revealed.reveals, CHEAT: replace(revealed.reveals[CHEAT], update=other)}
    assert examine(context, revealed.commitments, reveals)[CHEAT].code == "CommitmentMismatch"


def test_2_a_reveal_without_a_commitment_in_the_set() -> None:
    context = make_context()
    everything = submissions(context)
    late = everything.pop(CHEAT)
    revealed = reveal_all(everything)
    reveals = {**revealed.reveals, CHEAT: late.reveal(revealed.digest)}
    found = examine(context, revealed.commitments, reveals)
    assert found[CHEAT].code == "CommitmentMismatch"


# 3


def test_3_the_mapping_is_drawn_with_ones_own_key() -> None:
    context = make_context()
    weights = moved(context, honest_step(CHEAT))
    assert code_of(context, submit(context, CHEAT, weights, vrf="hospital-1")) == "VrfProofInvalid"


@pytest.mark.parametrize(
    "changed", [{"base": "00" * 32}, {"round": 2}, {"ledger": "00" * 32}, {"model": None}]
)
def test_3_the_mapping_is_drawn_for_this_very_round(changed: dict[str, Any]) -> None:
    context = make_context()
    if "model" in changed:
        changed = {"model": make_context(size=0.1).model}
    other = round_alpha(replace(context, **changed), CHEAT)
    proof = prove(keys_of(CHEAT)[Role.VRF].seed, other)
    assert code_of(context, replace(honest(context), vrf_proof=proof)) == "VrfProofInvalid"


@pytest.mark.parametrize("proof", [bytes(80), b"\xff" * 80])
def test_3_a_malformed_proof(proof: bytes) -> None:
    context = make_context()
    assert code_of(context, replace(honest(context), vrf_proof=proof)) == "VrfProofInvalid"


# 4


def bytes_of(change) -> Any:
    return lambda weights: weight_forms.to_bytes(change(weights))


@pytest.mark.parametrize(
    "make",
    [
        lambda w: b"",
        lambda w: b"\xff" * 100,
        lambda w: weight_forms.to_bytes(w)[:-1],
        lambda w: weight_forms.to_bytes(w) + b"\x00",
        lambda w: (2**40).to_bytes(8, "little") + weight_forms.to_bytes(w)[8:],
        bytes_of(lambda w: {"weight": w["weight"]}),
        bytes_of(lambda w: {**w, "more": w["bias"]}),
        bytes_of(lambda w: {"weight": w["weight"], "bais": w["bias"]}),
        bytes_of(lambda w: {**w, "weight": w["weight"].T.copy()}),
        bytes_of(lambda w: {**w, "weight": w["weight"][:, :29]}),
        bytes_of(lambda w: {**w, "weight": w["weight"].ravel()}),
        bytes_of(lambda w: {**w, "bias": w["bias"].astype(np.float64)}),
        bytes_of(lambda w: {**w, "bias": w["bias"].astype(np.float16)}),
        bytes_of(lambda w: {**w, "bias": w["bias"].astype(np.int32)}),
    ],
)
def test_4_another_form_than_the_models(make) -> None:
    context = make_context()
    update = make(moved(context, honest_step(CHEAT)))
    assert code_of(context, replace(honest(context), update=update)) == "UpdateMalformed"


@pytest.mark.parametrize("dtype", ["BF16", "F8_E4M3", "F8_E5M2", "F4", "U16", "BOOL", "X"])
def test_4_types_that_numpy_does_not_have(dtype: str) -> None:
    context = make_context()
    size = {"BF16": 2, "U16": 2, "F4": 1}.get(dtype, 1)
    head = (
        f'{{"bias":{{"dtype":"{dtype}","shape":[1],"data_offsets":[0,{size}]}},'
        f'"weight":{{"dtype":"F32","shape":[1,30],"data_offsets":[{size},{size + 120}]}}}}'
    ).encode()
    update = len(head).to_bytes(8, "little") + head + bytes(size + 120)
    assert code_of(context, replace(honest(context), update=update)) == "UpdateMalformed"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("tensor", ["weight", "bias"])
def test_4_not_finite(value: float, tensor: str) -> None:
    context = make_context()
    weights = moved(context, honest_step(CHEAT))
    weights[tensor].flat[0] = value
    assert code_of(context, submit(context, CHEAT, weights)) == "UpdateNotFinite"


# 5


def test_5_a_step_beyond_the_cap_and_one_below() -> None:
    context = make_context()
    participant = context.participant(CHEAT)
    assert participant is not None
    cap = step_cap(participant, 31, float(context.job.thresholds.reach))
    direction = honest_step(CHEAT) / np.linalg.norm(honest_step(CHEAT))
    for factor, code in [(0.999, "Accepted"), (1.001, "StepTooLarge"), (1e6, "StepTooLarge")]:
        cheat = submit(context, CHEAT, moved(context, factor * cap * direction))
        assert code_of(context, cheat) == code
    huge = moved(context, honest_step(CHEAT))
    huge["weight"][:] = np.finfo(np.float32).max
    assert code_of(context, submit(context, CHEAT, huge)) == "StepTooLarge"


def test_5_a_replayed_update_un_maps_to_garbage_where_the_model_is_long_enough() -> None:
    """A wrongly un-mapped model is sqrt(2) of its own norm away: only beyond the cap it shows."""
    context = make_context(size=8.0)
    before = replace(context, base="00" * 32)
    old = submit(before, CHEAT, moved(context, honest_step(CHEAT)))
    proof = submit(context, CHEAT, moved(context, honest_step(CHEAT))).vrf_proof
    assert code_of(context, replace(old, context=context, vrf_proof=proof)) == "StepTooLarge"


# 6


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 1), ("sample_rate", "0.5"), ("noise_multiplier", "99"), ("clip", "0.5"),
        ("normaliser", 1000), ("mu2_after", "0"), ("mu2_before", "0.000000000001"),
        ("epsilon", "0"), ("epsilon", "0.01"), ("delta", "0.5"), ("delta", "0"),
    ],
)  # fmt: skip
def test_6_a_claim_that_flatters(field: str, value: Any) -> None:
    context = make_context()
    spend = {**spend_of(context, CHEAT), field: value}
    assert code_of(context, replace(honest(context), spend=spend)) == "PrivacyClaimInvalid"


def test_6_a_claim_beyond_what_can_be_computed_is_refused_and_breaks_nothing() -> None:
    context = make_context()
    spend = spend_of(context, CHEAT)
    far = {**spend, "mu2_before": "90000", "mu2_after": "90000"}
    assert code_of(context, replace(honest(context), spend=far)) == "PrivacyClaimInvalid"


@pytest.mark.parametrize("before", [0, 1, 3, 7, 9])
def test_6_an_honest_claim_passes_in_every_round(before: int) -> None:
    context = make_context()
    cheat = replace(honest(context), spend=spend_of(context, CHEAT, before))
    assert code_of(context, cheat) == "Accepted"


@pytest.mark.parametrize("before", [1, 333, 999])
def test_6_an_honest_claim_passes_in_a_long_job_of_small_rounds(before: int) -> None:
    """mu^2 of a round is so small there that the 18 places of its spelling show."""
    context = make_context(job=make_example_job(rounds=1000, epsilon="0.02"))
    cheat = replace(honest(context), spend=spend_of(context, CHEAT, before))
    assert code_of(context, cheat) == "Accepted"


def test_6_what_other_jobs_have_spent_may_stand_before() -> None:
    context = make_context()
    participant = context.participant(CHEAT)
    assert participant is not None
    terms = PrivacyTerms.from_record(participant.terms.model_dump())
    before = Fraction(1, 7)
    after = before + mu_squared_of_round(terms)
    spend = {
        **spend_of(context, CHEAT),
        "mu2_before": decimal_up(before),
        "mu2_after": decimal_up(after),
        "epsilon": decimal_text(epsilon_up(after, terms.delta)),
    }
    assert code_of(context, replace(honest(context), spend=spend)) == "Accepted"


# 7


def test_7_two_equal_updates_are_both_named() -> None:
    context = make_context()
    copy = submit(context, CHEAT, moved(context, honest_step("hospital-1")))
    found = codes(context, {**submissions(context), CHEAT: copy})
    assert found == {
        "hospital-1": "NearCopy",
        "hospital-2": "NearCopy",
        "hospital-3": "Accepted",
        "hospital-4": "Accepted",
    }


def test_7_what_another_revealed_in_an_earlier_round() -> None:
    context = make_context()
    stolen = honest_step("hospital-3", seed=9)
    later = replace(context, earlier=[EarlierStep("hospital-3", 1, stolen)])
    assert code_of(later, submit(later, CHEAT, moved(later, stolen))) == "NearCopy"
    assert code_of(later, honest(later)) == "Accepted"


def test_7_what_was_revealed_and_rejected_can_be_copied_too() -> None:
    """Everybody has seen it, whatever check it failed at."""
    context = make_context()
    everything = submissions(context)
    poor = {**spend_of(context, "hospital-1"), "epsilon": "0"}
    everything["hospital-1"] = replace(everything["hospital-1"], spend=poor)
    everything["hospital-3"] = submit(context, "hospital-3", moved(context, honest_step(CHEAT)))
    revealed = reveal_all(everything)
    examined = examine(context, revealed.commitments, revealed.reveals)
    assert [examined[name].code for name in sorted(examined)] == [
        "PrivacyClaimInvalid",
        "NearCopy",
        "NearCopy",
        "Accepted",
    ]
    kept = steps_of(context, examined)
    assert set(kept) == set(everything)
    for name in ("hospital-1", CHEAT):
        np.testing.assert_allclose(kept[name], honest_step(name), atol=1e-6)


def test_the_first_check_that_fails_is_the_one_named() -> None:
    context = make_context()
    weights = moved(context, 1e6 * honest_step(CHEAT))
    cheat = replace(submit(context, CHEAT, weights), spend={**spend_of(context, CHEAT), "steps": 9})
    assert code_of(context, cheat) == "StepTooLarge"
    cheat = replace(cheat, vrf_proof=bytes(80))
    assert code_of(context, cheat) == "VrfProofInvalid"
    cheat = replace(cheat, committed={"round": 3})
    assert code_of(context, cheat) == "CommitmentMismatch"
    cheat = replace(cheat, signer="hospital-4")
    assert code_of(context, cheat) == "SignatureInvalid"


def test_every_member_reaches_the_same_codes_whatever_the_order() -> None:
    context = make_context()
    everything = submissions(context)
    everything[CHEAT] = replace(everything[CHEAT], vrf_proof=bytes(80))
    revealed = reveal_all(everything)
    backwards = dict(reversed(revealed.reveals.items()))
    one = examine(context, revealed.commitments, revealed.reveals)
    other = examine(context, revealed.commitments[::-1], backwards)
    assert {n: e.code for n, e in one.items()} == {n: e.code for n, e in other.items()}
