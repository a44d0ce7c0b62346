"""`consortium ledger verify --rounds`: what a whole quorum of liars signs is found all the same.

Every block here is co-signed by all members and exported with its contents. What is tampered with
was signed by everybody, so plain verification accepts it.
"""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rounds_examples
from exported_ledger import Ledger, Played, as_accepted, audited, rotate, with_codes
from rounds_examples import (
    Submission,
    honest_step,
    member_form,
    moved,
    names,
    submit,
)

from consortium import weights as weight_forms
from consortium.audit import RoundsVerified, verify_rounds
from consortium.errors import EnrolmentInvalid, JobInvalid, RoundInvalid
from ledger.content import digest
from ledger.entry import Entry
from ledger.errors import ContentInvalid, ContentMissing, RangeInvalid
from ledger.keys import Role
from ledger.records import (
    Evaluation,
    Measures,
    Proof,
    Result,
)
from ledger.verify import verify_export


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """After the first block of a job of two rounds."""
    with audited(tmp_path / "contents") as ledger:
        ledger.add(ledger.sign(ledger.job()))
        yield ledger


def caught(ledger: Ledger, error: type[Exception], match: str) -> None:
    """Plain verification accepts it; deriving the rounds does not."""
    out = ledger.export(ledger.root.with_name("export"))
    assert verify_export(out, ledger.id).fewest_cosigners == 4
    with pytest.raises(error, match=match) as found:
        verify_rounds(out)
    assert f"height {ledger.newest()}: " in str(found.value)


# what holds


def test_jobs_with_a_rotation_between_their_rounds_hold(ledger: Ledger, tmp_path: Path) -> None:
    first = ledger.play()
    ledger.add(*ledger.round(first))
    ledger.add(*rotate(ledger, "hospital-1"))
    ledger.add(*ledger.round(ledger.play(before=1)))
    ledger.add(ledger.end("finished"))
    ledger.add(ledger.sign(ledger.job("job-2")))
    shown = first.examined["hospital-1"].weights
    assert shown is not None
    step = weight_forms.vector(shown) - weight_forms.vector(first.context.model)
    copied = ledger.play(before=2, h4=step)
    # Un-mapped with keys that were rotated away, in another job: remembered all the same.
    assert copied.examined["hospital-4"].code == "NearCopy"
    ledger.add(*ledger.round(copied))
    ledger.add(ledger.end("stopped"))
    out = ledger.export(tmp_path / "export")
    seen: list[tuple[int, int]] = []
    verify_export(out, ledger.id)
    verified = verify_rounds(out, lambda height, last: seen.append((height, last)))
    assert verified == RoundsVerified(
        jobs=2, rounds_derived=3, reveals_checked=12, verdicts=12, blocks_without_rounds=6
    )
    assert seen == [(height, 8) for height in range(9)]


def too_few_closed(ledger: Ledger, closes: int = 2) -> Played:
    played = ledger.play()
    kept = replace(played.records, closes=played.records.closes[:closes], proofs=(), verdicts=())
    return Played(played.context, kept, {})


def test_attempts_before_a_round_hold_and_are_told_apart(ledger: Ledger, tmp_path: Path) -> None:
    for _ in range(2):
        ledger.add(*ledger.round(too_few_closed(ledger)))
    ledger.add(*ledger.round(ledger.play()))
    ledger.add(ledger.end("stopped"))
    out = ledger.export(tmp_path / "export")
    assert verify_rounds(out) == RoundsVerified(
        jobs=1, rounds_derived=1, attempts_repeated=2, reveals_checked=4, verdicts=4,
        blocks_without_rounds=3,
    )  # fmt: skip


def test_a_quorum_that_repeats_a_round_that_a_quorum_closed(ledger: Ledger) -> None:
    ledger.lie(*ledger.round(too_few_closed(ledger, closes=3), again=True))
    caught(ledger, RoundInvalid, "again do not follow")


def test_a_ledger_without_rounds_needs_no_contents(ledger: Ledger, tmp_path: Path) -> None:
    out = ledger.export(tmp_path / "export", contents=False)
    assert verify_rounds(out) == RoundsVerified(jobs=1, blocks_without_rounds=2)


def evaluation(ledger: Ledger, author: str, **changed: Any) -> Entry:
    end = ledger.view.end_of("job-1")
    nothing = Measures(**dict.fromkeys(Measures.model_fields))
    body = {
        "v": 1, "type": "evaluation", "ledger": ledger.id, "author": author, "job": "job-1",
        "model": end.model if end else "0" * 64, "noised": False, "positives": 5, "negatives": 0,
        "federated": nothing, "calibrated": nothing, "alone": nothing, "majority": None,
        "gain": None,
    }  # fmt: skip
    return ledger.sign(Evaluation.model_validate({**body, **changed}), author)


def test_evaluations_of_an_ended_job_hold_and_a_second_one_does_not(
    ledger: Ledger, tmp_path: Path
) -> None:
    ledger.add(ledger.end("stopped"))
    ledger.add(evaluation(ledger, "hospital-1"), evaluation(ledger, "hospital-2"))
    ledger.add(evaluation(ledger, "hospital-3"))
    assert verify_rounds(ledger.export(tmp_path / "first")) == RoundsVerified(
        jobs=1, evaluations=3, blocks_without_rounds=5
    )
    ledger.lie(evaluation(ledger, "hospital-2", positives=10))
    caught(ledger, RoundInvalid, "hospital-2 has evaluated job-1 before")


def test_a_quorum_that_lets_a_number_off_its_band_pass(ledger: Ledger) -> None:
    ledger.add(ledger.end("stopped"))
    ledger.lie(evaluation(ledger, "hospital-1", majority=6200))
    caught(ledger, RoundInvalid, "has not passed the release gate: majority")


# what it needs


def test_an_export_of_a_range_is_refused(ledger: Ledger, tmp_path: Path) -> None:
    ledger.add(*ledger.round(ledger.play()))
    out = ledger.export(tmp_path / "export", first=2)
    verify_export(out, ledger.id)
    with pytest.raises(RangeInvalid, match=r"begins at height 2.* every reveal") as found:
        verify_rounds(out)
    assert "--from-height" in found.value.resolve


@pytest.mark.parametrize("kind", ["content", "models"])
def test_what_is_missing_is_named(ledger: Ledger, tmp_path: Path, kind: str) -> None:
    ledger.add(*ledger.round(ledger.play()))
    out = ledger.export(tmp_path / "export")
    shutil.rmtree(out / kind)
    place = "content/[0-9a-f]{64}" if kind == "content" else f"models/{ledger.job().initial_model}"
    with pytest.raises(ContentMissing, match=f"height 2: {place} is not in this export") as found:
        verify_rounds(out)
    assert "--content" in found.value.resolve


# a quorum that lies: the coordinator's result


def lies() -> dict[str, Callable[[Ledger, Result], dict[str, Any]]]:
    def proofs(**changed: Any) -> Callable[[Ledger, Result], dict[str, Any]]:
        return lambda ledger, result: {
            "proofs": (result.proofs[0].model_copy(update=changed), *result.proofs[1:])
        }

    def model(ledger: Ledger, result: Result) -> dict[str, Any]:
        return {"model_after": ledger.keep_model(OTHER)}

    return {
        "median score": proofs(score=9100),
        "median Shapley value": proofs(shapley=125),
        "average": proofs(average=125),
        "credits": proofs(credits=500),
        "Harmful": proofs(code="Harmful"),
        "NearCopy": proofs(code="NearCopy"),
        "model": model,
        "the old model": lambda ledger, result: {"model_after": result.model_before},
        "learner": lambda ledger, result: {
            "learner": next(name for name in names(4) if name != result.learner)
        },
        "no learner": lambda ledger, result: {"learner": None},
        "fees": lambda ledger, result: {"fees": result.fees[1:]},
        "minted": lambda ledger, result: {"minted": 2000},
        "void": lambda ledger, result: {"void": True},
        "absent": lambda ledger, result: {"proofs": result.proofs[1:]},
    }


@pytest.mark.parametrize("name", lies())
def test_a_result_that_does_not_follow(ledger: Ledger, name: str) -> None:
    ledger.add(*ledger.round(ledger.play()))
    played = ledger.play(before=1)
    result = ledger.derived(played)
    ledger.lie(*ledger.round(played, **lies()[name](ledger, result)))
    caught(ledger, RoundInvalid, "do not follow.*Derived before it: 1 rounds, 4 reveals")


def test_a_proof_called_bad_that_is_not(ledger: Ledger) -> None:
    played = ledger.play()
    codes = {**dict.fromkeys(names(4), "Accepted"), "hospital-2": "NearCopy"}
    played = replace(played, records=with_codes(played.context, played.records, codes))
    ledger.lie(*ledger.round(played))
    caught(ledger, RoundInvalid, "hospital-2's proof is called NearCopy; it is not")


# a quorum that lies: a cheat that it lets pass


def wrong_key(submission: Submission) -> Submission:
    """Mapped with another's key: a replay of what that one revealed."""
    context, weights = submission.context, moved(submission.context, honest_step("x"))
    return replace(submit(context, "hospital-1", weights, "hospital-2"), spend=submission.spend)


def other_update(submission: Submission) -> Submission:
    """Its bytes were swapped, and the proof names the new ones."""
    update = submit(submission.context, "hospital-1", moved(submission.context, honest_step("x")))
    return replace(
        submission, update=update.update, committed={"update": digest(submission.update)}
    )


def cheap(submission: Submission) -> Submission:
    return replace(submission, spend={**submission.spend, "epsilon": "0.01"})


def far(submission: Submission) -> Submission:
    weights = moved(submission.context, np.full(31, 1e4))
    return replace(submit(submission.context, "hospital-1", weights), spend=submission.spend)


CHEATS = {
    "VrfProofInvalid": wrong_key, "CommitmentMismatch": other_update,
    "PrivacyClaimInvalid": cheap, "StepTooLarge": far,
}  # fmt: skip


@pytest.mark.parametrize("code", CHEATS)
def test_a_cheat_that_enters_the_model(ledger: Ledger, code: str) -> None:
    played = ledger.play(change=CHEATS[code])
    assert played.examined["hospital-1"].code == code
    weights = moved(played.context, honest_step("x"))
    played, examined = as_accepted(played, weights)
    ledger.lie(*ledger.round(played, ledger.derived(played, examined)))
    caught(ledger, RoundInvalid, "hospital-1's proof is called Accepted|model_after.* do not")


@pytest.mark.parametrize("said", ["Accepted", "NearCopy"])
@pytest.mark.parametrize("code", CHEATS)
def test_a_cheat_that_is_called_something_else(ledger: Ledger, code: str, said: str) -> None:
    played = ledger.play(change=CHEATS[code])
    codes = {**dict.fromkeys(names(4), "Accepted"), "hospital-1": said}
    played = replace(played, records=with_codes(played.context, played.records, codes))
    ledger.lie(*ledger.round(played))
    caught(ledger, RoundInvalid, f"hospital-1's proof is called {said}")


def test_a_copy_of_an_earlier_round_that_enters_the_model(ledger: Ledger) -> None:
    first = ledger.play()
    ledger.add(*ledger.round(first))
    shown = first.examined["hospital-2"].weights
    assert shown is not None
    step = weight_forms.vector(shown) - weight_forms.vector(first.context.model)
    played = ledger.play(before=1, h1=step)
    assert played.examined["hospital-1"].code == "NearCopy"
    weights = played.examined["hospital-1"].weights
    assert weights is not None
    played, examined = as_accepted(played, weights)
    ledger.lie(*ledger.round(played, ledger.derived(played, examined)))
    caught(ledger, RoundInvalid, "hospital-1's proof is called Accepted|model_after.* do not")


def test_a_mapping_drawn_with_a_key_that_was_rotated_away(ledger: Ledger) -> None:
    ledger.add(*ledger.round(ledger.play()))
    ledger.add(*rotate(ledger, "hospital-1"))
    old = "hospital-1"

    def with_old_key(submission: Submission) -> Submission:
        weights = moved(submission.context, honest_step("x"))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rounds_examples, "keys_of", ledger.keys.first)
            return replace(submit(submission.context, old, weights), spend=submission.spend)

    played = ledger.play(before=1, change=with_old_key)
    assert played.examined["hospital-1"].code == "VrfProofInvalid"
    played, examined = as_accepted(played, moved(played.context, honest_step("x")))
    ledger.lie(*ledger.round(played, ledger.derived(played, examined)))
    caught(ledger, RoundInvalid, "hospital-1's proof is called Accepted|model_after.* do not")


# a quorum that lies: files, contracts, ends, founders


@pytest.mark.parametrize("data", [b"", b"x", b"another's"])
def test_other_bytes_under_an_updates_digest(ledger: Ledger, data: bytes) -> None:
    played = ledger.play()
    ledger.add(*ledger.round(played))
    names_ = [e.record.update for e in played.records.proofs if isinstance(e.record, Proof)]
    content = ledger.root / "content"
    data = (content / names_[1]).read_bytes() if data == b"another's" else data
    (content / names_[0]).write_bytes(data)
    caught(ledger, ContentInvalid, f"content/{names_[0]} is not what the ledger names so")


OTHER = {"weight": np.ones((1, 30), np.float32), "bias": np.ones(1, np.float32)}


@pytest.mark.parametrize("data", [b"garbage", weight_forms.to_bytes(OTHER)])
@pytest.mark.parametrize("which", ["model_before", "model_after"])
def test_another_model_under_a_models_hash(ledger: Ledger, which: str, data: bytes) -> None:
    """Also under the last one, from which nothing is derived yet."""
    played = ledger.play()
    ledger.add(*ledger.round(played))
    name = getattr(ledger.derived(played), which)
    (ledger.root / "models" / name).write_bytes(data)
    caught(ledger, ContentInvalid, f"models/{name} is not what the ledger names so")


def test_another_model_under_the_released_ones_hash(tmp_path: Path) -> None:
    """A mean that is no round's model: no rule reads its file."""
    with audited(tmp_path / "contents") as ledger:
        ledger.add(ledger.sign(ledger.job(rounds=3)))
        for before in range(3):
            ledger.add(*ledger.round(ledger.play(before)))
        end = ledger.end("finished")
        ledger.add(end)
        name = end.record.body()["model"]
        (ledger.root / "models" / name).write_bytes(weight_forms.to_bytes(OTHER))
        caught(ledger, ContentInvalid, f"models/{name} is not what the ledger names so")


def test_a_contract_that_does_not_hold(tmp_path: Path) -> None:
    with audited(tmp_path / "contents") as ledger:
        job = ledger.job()
        ledger.lie(ledger.sign(job.model_copy(update={"average_from": 1})))
        caught(ledger, JobInvalid, "rule for the released model")


def test_an_end_with_another_model(ledger: Ledger) -> None:
    ledger.add(*ledger.round(ledger.play()))
    ledger.lie(ledger.end("stopped", model=ledger.job().initial_model))
    caught(ledger, RoundInvalid, "does not follow from its rounds")


def test_two_jobs_at_once(ledger: Ledger) -> None:
    ledger.lie(ledger.sign(ledger.job("job-2")))
    caught(ledger, RoundInvalid, "a job begins while another runs")


def test_a_round_played_twice(ledger: Ledger) -> None:
    entries = ledger.round(ledger.play())
    ledger.add(*entries)
    ledger.lie(*entries)
    caught(ledger, RoundInvalid, "number or attempt does not follow")


def test_a_founder_that_does_not_show_its_vrf_key(tmp_path: Path) -> None:
    """Plain verification does not check VRF proofs."""
    founders = [member_form(name) for name in names(4)]
    shown = {**founders[0].possession, Role.VRF: founders[1].possession[Role.VRF]}
    founders[0] = founders[0].model_copy(update={"possession": shown})
    with audited(tmp_path / "contents", founders) as ledger:
        caught(ledger, EnrolmentInvalid, "hold.* its vrf key")
