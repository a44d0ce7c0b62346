"""A hospital evaluates what a job gave out: what leaves, what is kept, what is refused."""

import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from commands import call, ok
from consortium_in_memory import TASK, Api, Consortium, copy_of

from consortium import baselines, tasks
from consortium.rounds.evaluation import models_of
from consortium.rounds.replay import released_model
from consortium.tasks.task import Split
from consortium.weights import to_torch
from hospital_agent.cohort import PARTS, Cohort
from hospital_agent.decisions import Decisions
from hospital_agent.errors import ApiUnreachable, OwnRecordChanged, ReleasesUsedUp, StateFailed
from hospital_agent.evaluation import Evaluations, own_calibration
from hospital_agent.folder import HospitalFolder
from hospital_agent.policy import change_policy
from hospital_agent.releases import Releases
from hospital_agent.view import ReplicaView
from ledger.content import model_hash
from ledger.entry import Entry, sign_record
from ledger.keys import Role
from ledger.records import Evaluation
from privacy.release import band, size_band, width

ONE, TWO, THREE, FOUR = (f"hospital-{i}" for i in range(1, 5))


@pytest.fixture(scope="module")
def over(played: Consortium, tmp_path_factory: pytest.TempPathFactory) -> Consortium:
    """The job is stopped after its first round, and its end is final at every hospital."""
    four = copy_of(played, tmp_path_factory.mktemp("over"))
    four.add(four.result()[0])
    four.add([four.end_job("stopped", 1, model_hash(released(four)))])
    four.cosign_all()  # now all know that it is final
    return four


@pytest.fixture
def four(over: Consortium, tmp_path: Path) -> Consortium:
    return copy_of(over, tmp_path / "four")


class Desk(Api):
    """An API that takes submissions, or is away."""

    def __init__(self, away: bool = False) -> None:
        super().__init__()
        self.taken: list[bytes] = []
        self.away = away

    def submit(self, entry: bytes) -> None:
        if self.away:
            raise ApiUnreachable("no answer", "look whether it runs")
        self.taken.append(entry)


def released(four: Consortium) -> dict:
    view = ReplicaView(four.folders[ONE])
    return released_model(view, four.job, view.results(four.job.job))


def evaluations(four: Consortium, name: str, desk: Desk) -> Evaluations:
    """A fresh one: as after a crash."""
    return Evaluations(HospitalFolder(four.folders[name].path), desk)  # type: ignore[arg-type]


def handed_in(four: Consortium, name: str = ONE) -> list[Entry]:
    desk = Desk()
    evaluations(four, name, desk).step()
    return [Entry(data) for data in desk.taken]


def memory(four: Consortium, name: str = ONE) -> Releases:
    return Releases(four.folders[name].path / "releases.sqlite")


def test_what_leaves_is_the_exact_result_on_its_bands(four: Consortium) -> None:
    model, task = released(four), tasks.get(TASK)
    for name, folder in four.folders.items():
        [entry] = handed_in(four, name)
        record = entry.record
        assert isinstance(record, Evaluation)
        assert (record.author, record.job, record.model) == (name, "job-1", model_hash(model))
        cohort = Cohort.open(folder, TASK)
        split = Split(*(cohort.frame(part) for part in PARTS))
        declared = next(p.weight for p in four.job.participants if p.institution == name)
        alone = baselines.local(task, split, declared, four.job.rounds, four.job.seed)
        positives = int(task.outcomes(split.test).sum())
        sizes = size_band(positives), size_band(len(split.test) - positives)
        wide = width("accuracy", *sizes)
        for form, weights in ((record.federated, to_torch(model)), (record.alone, alone)):
            exact = baselines.evaluate(task, weights, split.test)
            assert exact.auroc is not None
            assert form.auroc == band(exact.auroc * 10_000, 200)
            assert form.accuracy == band(exact.accuracy * 10_000, wide)
        assert record.majority == band(baselines.majority(task, split) * 10_000, wide)
        assert (record.positives, record.negatives) == sizes
        four.newest.upcoming.check_entry(entry)


def test_everybodys_are_cosigned_and_nothing_is_due_after(four: Consortium) -> None:
    entries = [handed_in(four, name)[0] for name in four.folders]
    four.add(entries)
    four.cosign_all()
    assert len(four.api.cosignatures[four.newest.header.height]) == 4
    assert [handed_in(four, name) for name in four.folders] == [[]] * 4
    shown = json.loads(ok("hospital-agent", "evaluation", "list", "--home",
                          four.folders[ONE].path, "--format", "json").out)  # fmt: skip
    assert shown == [{"job": "job-1", "state": "on the ledger"}]


def test_killed_between_keeping_and_sending_it_sends_the_same_bytes(four: Consortium) -> None:
    away, back = Desk(away=True), Desk()
    assert not evaluations(four, ONE, away).step()
    kept = memory(four).of("job-1")
    assert kept is not None
    # Even where another number would come out now.
    (four.folders[ONE].path / "cohorts" / TASK / "test.csv").unlink()
    assert evaluations(four, ONE, back).step()
    assert evaluations(four, ONE, back).step()
    assert back.taken == [kept.entry.data] * 2
    assert memory(four).count(kept.cohort) == 1


def test_with_new_keys_the_same_record_is_signed_anew(four: Consortium, tmp_path: Path) -> None:
    [before] = handed_in(four)
    folder = four.newcomer("another").path
    keys = four.folders[ONE].path / "keys"
    keys.rename(tmp_path / "old")
    (folder / "keys").rename(keys)
    [after] = handed_in(four)
    assert after.data != before.data
    assert after.record == before.record
    assert memory(four).holds(before)
    assert memory(four).holds(after)


def test_before_the_end_is_final_nothing_is_evaluated(played: Consortium, tmp_path: Path) -> None:
    four = copy_of(played, tmp_path / "before")
    four.add(four.result()[0])
    assert handed_in(four) == []
    four.propose([four.end_job("stopped", 1, model_hash(released(four)))])
    four.cosign_all([ONE])
    assert handed_in(four) == []  # one signature of three
    four.cosign_all([TWO, THREE, ONE])
    assert len(handed_in(four)) == 1


def test_who_has_not_learned_does_not_evaluate(four: Consortium) -> None:
    replica = ReplicaView(four.folders[ONE]).replica
    assert replica.learned("hospital-9") == []
    assert replica.learned(ONE) == ["job-1"]


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.INFO, "medpole.evaluation"):
        yield caplog


def test_a_policy_of_none_releases_nothing_and_says_so_once(
    four: Consortium, told: pytest.LogCaptureFixture
) -> None:
    home = four.folders[ONE].path
    ok("hospital-agent", "policy", "set", "--evaluations", "none", "--home", home)
    desk = Desk()
    running = evaluations(four, ONE, desk)
    for _ in range(3):
        assert running.step()
    assert desk.taken == []
    assert memory(four).of("job-1") is None
    said = [record.message for record in told.records]
    assert said == ["evaluation of job-1: not released: ReleaseRefused"]
    shown = ok("hospital-agent", "evaluation", "list", "--home", home).out
    assert shown == "job-1: not released: ReleaseRefused\n"
    refused = call("hospital-agent", "evaluation", "show", "job-1", "--home", home)
    assert "not released: ReleaseRefused" in refused.err
    ok("hospital-agent", "policy", "set", "--evaluations", "banded", "--home", home)
    running.step()
    assert len(desk.taken) == 1
    assert memory(four).refused() == {}


def test_what_is_kept_and_has_not_left_stays_where_the_policy_says_none_meanwhile(
    four: Consortium,
) -> None:
    evaluations(four, ONE, Desk(away=True)).step()
    change_policy(four.folders[ONE], {"evaluations": "none"})
    assert handed_in(four) == []
    change_policy(four.folders[ONE], {"evaluations": "banded"})
    kept = memory(four).of("job-1")
    assert kept is not None
    assert [entry.data for entry in handed_in(four)] == [kept.entry.data]


def test_a_cohort_that_has_released_its_number_is_refused(four: Consortium) -> None:
    change_policy(four.folders[ONE], {"evaluation_limit": 0})
    assert handed_in(four) == []
    assert memory(four).refused() == {"job-1": "ReleasesUsedUp"}
    change_policy(four.folders[ONE], {"evaluation_limit": 1})
    [entry] = handed_in(four)
    release = memory(four).of("job-1")
    assert release is not None
    with pytest.raises(ReleasesUsedUp, match="allows 1"):
        memory(four).check_room(release.cohort, 1)
    assert memory(four).keep(release, 1).entry.data == entry.data  # a repeat is none


def test_what_a_person_refused_and_what_fails_is_told_by_its_code_only(
    four: Consortium, told: pytest.LogCaptureFixture
) -> None:
    Decisions(four.folders[ONE].path / "decisions.sqlite").decide(four.job, "refuse", "A. Person")
    table = four.folders[TWO].path / "cohorts" / TASK / "test.csv"
    table.write_text(table.read_text().replace("\n0", "\nSecret", 1).replace("\n1", "\nSecret", 1))
    (four.folders[THREE].path / "cohorts" / TASK / "cohort.json").unlink()
    assert [handed_in(four, name) for name in (ONE, TWO, THREE)] == [[]] * 3
    codes = [memory(four, name).refused()["job-1"] for name in (ONE, TWO, THREE)]
    assert codes[0] == "JobRefusedByPerson"
    assert codes[1] in ("DataInvalid", "InternalError")
    assert codes[2] == "CohortMissing"
    assert "Secret" not in told.text


def test_of_few_patients_leaves_what_the_rules_allow(four: Consortium) -> None:
    task = tasks.get(TASK)
    for name, kept in ((ONE, 3), (TWO, 0)):
        cohort = Cohort.open(four.folders[name], TASK)
        frame = cohort.frame("test")
        sick = frame[task.outcomes(frame) > 0.5]
        rest = frame[task.outcomes(frame) < 0.5] if name == ONE else frame.iloc[:0]
        frame = pd.concat([rest, sick.iloc[:kept]])
        frame.to_csv(cohort.folder / "test.csv", index=False)
    [one], [two] = handed_in(four, ONE), handed_in(four, TWO)
    assert isinstance(one.record, Evaluation)
    assert isinstance(two.record, Evaluation)
    assert (one.record.positives, one.record.majority) == (0, None)
    assert one.record.gain is None
    for form in (one.record.federated, one.record.calibrated, one.record.alone):
        assert (form.auroc, form.sensitivity, form.specificity) == (None, None, None)
        assert form.accuracy is not None
        assert form.calibration is not None
    numbers = [value for model in models_of(two.record).values() for value in model.values()]
    assert (two.record.positives, two.record.negatives) == (0, 0)
    assert set(numbers) == {None}
    four.add([one, two])


def test_a_policy_that_asks_for_more_patients_lets_nothing_out_about_fewer(
    four: Consortium,
) -> None:
    home = four.folders[FOUR].path  # of its test patients 6 have the outcome, 11 have not
    ok("hospital-agent", "policy", "set", "--fewest-of-a-class", "7", "--home", home)
    [entry] = handed_in(four, FOUR)
    record = entry.record
    assert isinstance(record, Evaluation)
    assert (record.positives, record.negatives, record.gain) == (0, 10, None)
    for form in (record.federated, record.calibrated, record.alone):
        assert (form.auroc, form.sensitivity, form.specificity) == (None, None, None)
        assert form.accuracy is not None
    four.add([entry])
    said = ok("hospital-agent", "evaluation", "gain", "job-1", "--home", home).out
    assert "fewer than 7 test patients with the outcome" in said.replace("\n", " ")
    shown = json.loads(ok("hospital-agent", "evaluation", "show", "job-1", "--home", home,
                          "--format", "json").out)  # fmt: skip
    exact = shown["exact"]
    assert (exact["positives"], exact["negatives"], exact["gain"]) == (None, 11, None)
    assert exact["federated"]["auroc"] is exact["majority"] is None


def test_what_is_kept_about_fewer_than_the_policy_asks_for_meanwhile_stays(
    four: Consortium,
) -> None:
    evaluations(four, FOUR, Desk(away=True)).step()
    change_policy(four.folders[FOUR], {"fewest_of_a_class": 7})
    assert handed_in(four, FOUR) == []
    assert memory(four, FOUR).refused() == {"job-1": "ReleaseRefused"}
    change_policy(four.folders[FOUR], {"fewest_of_a_class": 6})
    assert len(handed_in(four, FOUR)) == 1


def test_own_calibration_is_fitted_without_test_patients(four: Consortium) -> None:
    model, cohort = released(four), Cohort.open(four.folders[ONE], TASK)
    before = own_calibration(cohort, four.job, model)
    (cohort.folder / "test.csv").unlink()
    assert own_calibration(cohort, four.job, model) == before
    assert before.slope > 0
    frame = cohort.frame("train")
    frame[tasks.get(TASK).label] = 1
    frame.to_csv(cohort.folder / "train.csv", index=False)
    assert own_calibration(cohort, four.job, model).intercept > before.intercept + 0.5


def test_people_here_see_what_they_gain_exactly_and_what_left(four: Consortium) -> None:
    home, command = four.folders[ONE].path, ("hospital-agent", "evaluation", "gain", "job-1")
    # Where nothing may leave, it is computed for people here, and nothing is kept.
    change_policy(four.folders[ONE], {"evaluations": "none"})
    alone = ok(*command, "--home", home).out
    assert "Nothing of it was let out." in alone
    assert memory(four).of("job-1") is None
    change_policy(four.folders[ONE], {"evaluations": "banded"})
    [entry] = handed_in(four)
    record = entry.record
    assert isinstance(record, Evaluation)
    said = ok(*command, "--home", home).out
    assert max(map(len, said.splitlines())) <= 80
    assert said.splitlines()[:4] == alone.splitlines()[:4]
    assert "federated, with\n" in said
    assert "own calibration" in said
    assert "Let out, in bands; cases found more of 100:" in said
    shown = json.loads(ok(*command, "--home", home, "--format", "json").out)
    assert " ".join(said.split()).startswith(shown["sentence"])
    more, out = shown["exact"]["gain"]["more"], shown["released"]["gain"]
    assert record.gain is not None
    assert out == record.gain.model_dump()
    assert out["low"] <= more["low"] * 10_000 <= more["high"] * 10_000 <= out["high"]
    assert "calibration" not in shown["released"]
    unknown = call("hospital-agent", "evaluation", "gain", "job-9", "--home", home)
    assert "error[JobUnknown]" in unknown.err


def test_the_agents_loop_outlives_what_fails_and_ends_when_it_is_stopped(
    four: Consortium, told: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk, stop = Desk(), threading.Event()
    running, step = evaluations(four, ONE, desk), Evaluations.step
    tried = []

    def fails_once(self: Evaluations) -> bool:
        tried.append(None)
        if len(tried) == 1:
            self.wake()
            raise StateFailed("releases.sqlite cannot be written", "free space")
        stop.set()
        self.wake()
        return step(self)

    monkeypatch.setattr(Evaluations, "step", fails_once)
    running.run(stop)
    assert len(desk.taken) == 1
    assert told.records[0].message == "evaluations: StateFailed"


def test_an_evaluation_in_its_name_that_it_did_not_sign_is_not_cosigned(four: Consortium) -> None:
    [entry] = handed_in(four)
    record = entry.record.model_copy(update={"majority": 0})
    forged = sign_record(record, [four.folders[ONE].keys[Role.RECORD]])
    four.propose([forged])
    with pytest.raises(OwnRecordChanged, match="evaluation"):
        four.witness(ONE).step()
    four.cosign_all([TWO, THREE, FOUR])


def test_people_here_see_the_exact_numbers_and_what_left(four: Consortium) -> None:
    home = four.folders[FOUR].path
    assert ok("hospital-agent", "evaluation", "list", "--home", home).out == "job-1: due\n"
    handed_in(four, FOUR)
    done = ok("hospital-agent", "evaluation", "show", "job-1", "--home", home)
    assert "majority, accuracy" in done.out
    assert done.value("state") == "signed, and not on the ledger yet"
    assert done.value("test patients, positives") == "6, let out: 5 or more"
    value = done.value("federated, auroc")
    exact, out = value.split(", let out: ")
    assert abs(float(exact) - float(out)) <= 0.0101
    shown = json.loads(ok("hospital-agent", "evaluation", "show", "job-1", "--home", home,
                          "--format", "json").out)  # fmt: skip
    assert shown["exact"]["positives"] == 6
    assert shown["released"]["positives"] == 5
