"""What a hospital taught leaves the model when it is found harmful, and comes back with it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from exported_ledger import Ledger, audited
from rounds_examples import make_example_job, names

from consortium import weights as weight_forms
from consortium.audit import verify_rounds
from consortium.errors import ConsortiumError
from consortium.lineage import lineage_of, named_models, namings
from consortium.model_card import model_card
from consortium.rounds.aggregation import new_model
from consortium.rounds.checks import EarlierStep
from consortium.rounds.checks.terms import step_noise, unanimous_step
from consortium.rounds.released import released
from consortium.rounds.replay import check_block, released_model, revealed_step
from consortium.rounds.unlearning import Taught, corrected
from consortium.standing import JobStanding, Placed, enter
from ledger.content import model_hash
from ledger.records import Proof, Result

JOB = make_example_job()
CHEAT = "hospital-2"
HONEST = [name for name in names(4) if name != CHEAT]
WEIGHTS = {"hospital-1": 50, "hospital-2": 30, "hospital-3": 15, "hospital-4": 5}
OWN = JOB.model_copy(
    update={
        "participants": tuple(
            p.model_copy(update={"weight": WEIGHTS[p.institution]}) for p in JOB.participants
        )
    }
)
SIZE = 31


def result(round_: int, void: bool = False, **codes: str) -> Any:
    """Codes by place: h2="Harmful"; the others are accepted."""
    known = {f"hospital-{name[1:]}": code for name, code in codes.items()}
    proofs = [
        SimpleNamespace(institution=name, code=known.get(name, "Accepted")) for name in names(4)
    ]
    return SimpleNamespace(round=round_, void=void, proofs=proofs, model_after=str(round_))


def steps_of(rounds: int) -> list[EarlierStep]:
    random = np.random.default_rng(7)
    return [
        EarlierStep(name, round_, random.normal(size=SIZE))
        for round_ in range(1, rounds + 1)
        for name in names(4)
    ]


def mean(steps: Sequence[EarlierStep], round_: int, who: Sequence[str]) -> np.ndarray:
    """The weighted mean, written anew."""
    found = {s.institution: s.step for s in steps if s.round == round_ and s.institution in who}
    total = sum(WEIGHTS[name] for name in found)
    return sum((WEIGHTS[name] / total * step for name, step in found.items()), np.zeros(SIZE))


def test_as_long_as_the_same_are_left_out_nothing_moves() -> None:
    steps, results = steps_of(2), [result(1), result(2)]
    model = {"bias": np.ones(3, np.float32)}
    for who in (frozenset[str](), frozenset({CHEAT})):
        assert Taught(OWN, steps).correction(results, who, who) is None
    assert corrected(model, None) is model


def test_all_that_was_accepted_of_it_leaves_and_what_was_not_is_not_there_to_leave() -> None:
    steps = steps_of(4)
    results = [result(1), result(2, h2="NearCopy"), result(3), result(4, h2="Harmful")]
    moved = Taught(OWN, steps).correction(results, frozenset(), frozenset({CHEAT}))
    expected = sum(mean(steps, r, HONEST) - mean(steps, r, names(4)) for r in (1, 3))
    np.testing.assert_allclose(moved, expected, atol=1e-6)


def test_it_comes_back_as_if_it_had_never_been_away() -> None:
    steps, results = steps_of(3), [result(1), result(2), result(3, h2="Harmful")]
    out = Taught(OWN, steps).correction(results, frozenset(), frozenset({CHEAT}))
    back = Taught(OWN, steps).correction(results, frozenset({CHEAT}), frozenset())
    assert out is not None
    assert back is not None
    np.testing.assert_array_equal(out, -back)


def test_one_may_leave_while_another_comes_back() -> None:
    steps, results = steps_of(2), [result(1), result(2)]
    moved = Taught(OWN, steps).correction(results, frozenset({"hospital-1"}), frozenset({CHEAT}))
    expected = sum(
        mean(steps, r, HONEST) - mean(steps, r, [CHEAT, "hospital-3", "hospital-4"]) for r in (1, 2)
    )
    np.testing.assert_allclose(moved, expected, atol=1e-6)


def test_a_round_in_which_it_alone_was_accepted_leaves_nothing() -> None:
    alone = result(1, h1="NearCopy", h3="NearCopy", h4="NearCopy")
    steps = steps_of(1)
    moved = Taught(OWN, steps).correction([alone], frozenset(), frozenset({CHEAT}))
    np.testing.assert_allclose(moved, -mean(steps, 1, [CHEAT]), atol=1e-6)


def test_void_rounds_other_jobs_and_rounds_without_it_do_not_count() -> None:
    steps, who = steps_of(2), frozenset({CHEAT})
    others = [EarlierStep(s.institution, s.round, -9 * s.step, other_job=True) for s in steps]
    results = [result(1), result(2, void=True)]
    moved = Taught(OWN, [*steps, *others]).correction(results, frozenset(), who)
    np.testing.assert_array_equal(
        moved, Taught(OWN, steps).correction(results[:1], frozenset(), who)
    )
    assert Taught(OWN, steps).correction([result(1, h2="StepTooLarge")], frozenset(), who) is None
    with pytest.raises(KeyError):
        Taught(OWN, steps).correction([result(3)], frozenset(), who)


@pytest.mark.parametrize("rule", ["median", "trimmed-mean"])
def test_the_contracts_rule_decides_what_a_round_is_without_it(rule: str) -> None:
    job, steps = OWN.model_copy(update={"aggregation": rule}), steps_of(1)
    moved = Taught(job, steps).correction([result(1)], frozenset(), frozenset({CHEAT}))
    by = {s.institution: {"w": s.step} for s in steps}
    without = new_model(job, {name: by[name] for name in HONEST})["w"].astype(np.float64)
    np.testing.assert_array_equal(moved, without - new_model(job, by)["w"])


def test_a_zero_stays_a_zero_of_one_sign() -> None:
    model = {"bias": np.full(2, -0.0, np.float32)}
    moved = corrected(model, np.full(2, -0.0))["bias"]
    assert moved.tobytes() == np.zeros(2, np.float32).tobytes()


def test_nothing_of_who_is_harmful_at_the_end_is_in_what_is_given_out() -> None:
    """Also where it was found in the last round, and in one that was void besides."""
    steps = steps_of(4)
    job = OWN.model_copy(update={"average_from": 2})
    for last in (result(4, h2="Harmful"), result(4, h2="Harmful", void=True)):
        results = [result(1), result(2), result(3), last]
        # Models as `derive_result` makes them: the fourth without the cheat's steps.
        walked = [np.zeros(SIZE)]
        for r in (1, 2, 3):
            walked.append(walked[-1] + mean(steps, r, names(4)))
        clean = [np.zeros(SIZE)]
        for r in (1, 2, 3, 4):
            clean.append(clean[-1] + mean(steps, r, HONEST))
        models = {str(r): {"w": walked[r].astype(np.float32)} for r in (1, 2, 3)}
        models["4"] = {"w": clean[4].astype(np.float32)}
        given = released(job, results, steps, lambda one, m=models: m[one.model_after])
        assert given is not None
        expected = np.mean(clean[2:4] if last.void else clean[2:5], axis=0)
        np.testing.assert_allclose(given["w"], expected, atol=1e-6)


def test_without_a_round_nothing_was_made() -> None:
    assert released(OWN, [], [], lambda _: {}) is None
    assert released(OWN, [result(1, void=True)], [], lambda _: {}) is None


# the same on a ledger: rounds that members check, an export that is derived anew


WAY = (-0.3, -2.0, 2.4, -2.4)  # the cheat's steps, in those of the others


def tilted(seed: int, turned: float) -> Mapping[str, np.ndarray]:
    """Steps of one direction and the contract's noise; the cheat's are turned."""
    participant = make_example_job(rounds=4).participants[0]
    longest, noise = unanimous_step(participant), step_noise(participant)
    random = np.random.default_rng(seed)
    direction = np.ones(SIZE) / np.sqrt(SIZE)
    return {
        f"h{name[-1]}": (turned if name == CHEAT else 1) * 0.6 * longest * direction
        + noise * random.normal(size=SIZE)
        for name in names(4)
    }


@pytest.fixture
def ledger(tmp_path: Path) -> Any:
    with audited(tmp_path / "contents") as ledger:
        ledger.add(ledger.sign(ledger.job(rounds=4)))
        yield ledger


def play(ledger: Ledger, rounds: int, turned: Sequence[float]) -> list[Result]:
    for place in range(1, rounds + 1):
        played = ledger.play(place - 1, **tilted(place, turned[place - 1]))
        ledger.add(*ledger.round(played))
    return list(ledger.view.results("job-1"))


def codes(one: Result) -> dict[str, str]:
    return {proof.institution: proof.code for proof in one.proofs}


def test_a_ledger_in_which_a_cheat_is_found_comes_back_and_is_found_again(ledger: Ledger) -> None:
    results = play(ledger, 4, WAY)
    assert [codes(one)[CHEAT] for one in results] == ["Accepted", "Harmful", "Accepted", "Harmful"]
    assert all(code == "Accepted" for one in results for name, code in codes(one).items()
               if name != CHEAT)  # fmt: skip
    start = weight_forms.vector(ledger.view.model(results[0].model_before))
    steps = ledger.view.steps("job-1")

    # All declare as many patients, so that means are plain ones.
    def total(rounds: Sequence[int], who: Sequence[str]) -> np.ndarray:
        means = []
        for round_ in rounds:
            of = [s.step for s in steps if s.round == round_ and s.institution in who]
            means.append(sum(of, np.zeros(SIZE)) / len(of))
        return start + sum(means, np.zeros(SIZE))

    made = [weight_forms.vector(ledger.view.model(one.model_after)) for one in results]
    np.testing.assert_allclose(made[0], total([1], names(4)), atol=1e-5)
    np.testing.assert_allclose(made[1], total([1, 2], HONEST), atol=1e-5)
    back = total([1, 3], names(4)) + total([2], HONEST) - start
    np.testing.assert_allclose(made[2], back, atol=1e-5)
    np.testing.assert_allclose(made[3], total([1, 2, 3, 4], HONEST), atol=1e-5)
    job = ledger.view.jobs()[-1]
    given = weight_forms.vector(released_model(ledger.view, job, results))
    expected = (total([1, 2, 3], HONEST) + total([1, 2, 3, 4], HONEST)) / 2
    np.testing.assert_allclose(given, expected, atol=1e-5)
    ledger.add(ledger.end("finished"))


def test_a_model_that_keeps_what_the_cheat_taught_is_refused(ledger: Ledger) -> None:
    play(ledger, 1, (-0.3,))
    played = ledger.play(1, **tilted(2, -2.0))
    result = ledger.derived(played)
    accepted = {n: e.weights for n, e in played.examined.items() if e.code == "Accepted"}
    assert set(accepted) == set(HONEST)
    job = ledger.view.jobs()[-1]
    kept = new_model(job, {n: w for n, w in accepted.items() if w is not None})
    assert model_hash(kept) != result.model_after
    forged = ledger.round(played, result, model_after=ledger.keep_model(kept))
    with pytest.raises(ConsortiumError, match="model_after do not follow"):
        check_block(ledger.view, forged)
    check_block(ledger.view, ledger.round(played, result))


def test_its_lineage_and_its_standing_say_who_was_taken_out(ledger: Ledger) -> None:
    play(ledger, 4, WAY)
    ledger.add(ledger.end("finished"))
    records = [
        Placed(entry.record, block.header.first + position, block.header.height, 0)
        for block, _, _ in ledger.stored
        for position, entry in enumerate(block.entries)
    ]
    models = named_models(records)
    found = [lineage_of(ledger.id, one, records) for one in models if one.kind != "initial"]
    assert [(one.learned_from, one.taken_out) for one in found] == [
        (tuple(names(4)), ()), (tuple(HONEST), (CHEAT,)), (tuple(names(4)), ()),
        (tuple(HONEST), (CHEAT,)), (tuple(HONEST), (CHEAT,)),
    ]  # fmt: skip
    assert found[-1].named == namings(models, "job-1")[0]
    jobs: dict[str, JobStanding] = {}
    for one in records:
        enter(jobs, one.record, one.index, one.height, one.time)
    card = model_card(found[-1], jobs["job-1"], [])
    assert "models of rounds 3 to 4, each without what hospital-2 taught." in card
    assert "Nothing of hospital-2 is in the model" in card
    standing = JobStanding(Placed(ledger.view.jobs()[-1], 0, 0, 0))
    seen = []
    for one in (r.record for r in records if isinstance(r.record, Result)):
        standing.add(one)
        seen.append(standing.doubted)
    assert seen == [frozenset(), {CHEAT}, frozenset(), {CHEAT}]


def test_an_export_is_derived_anew_with_what_was_taken_out(ledger: Ledger, tmp_path: Path) -> None:
    play(ledger, 4, WAY)
    ledger.add(ledger.end("finished"))
    verified = verify_rounds(ledger.export(tmp_path / "export"))
    assert (verified.rounds_derived, verified.reveals_checked) == (4, 16)


def test_steps_are_the_same_to_the_bit_un_mapped_anew_from_the_ledger(ledger: Ledger) -> None:
    """As a coordinator does after a restart: models depend on them now."""
    results = play(ledger, 3, WAY)
    job, kept = ledger.view.jobs()[-1], ledger.view.steps("job-1")
    entries = [entry for block, _, _ in ledger.stored for entry in block.entries]
    anew = [
        EarlierStep(name, one.round, step)
        for one in results
        for name, entry in sorted(
            (e.record.author, e) for e in entries
            if isinstance(e.record, Proof) and e.record.round == one.round
        )
        for step in [revealed_step(ledger.view, job, one, entry, ledger.view.members)]
        if step is not None
    ]  # fmt: skip
    assert [(s.institution, s.round, s.step.tobytes()) for s in anew] == [
        (s.institution, s.round, s.step.tobytes()) for s in kept
    ]
