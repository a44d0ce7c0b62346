"""Every cheat of the demo, played by the real participants under the real strategy, in memory."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
from consortium_in_memory import TASK, Consortium, _Noise, found, repeatable
from coordinator_in_memory import FOUR, ONE, THREE, TWO, Grid, a_run, results, start

from consortium import weights as weight_forms
from consortium.coordinator.strategy import Progress
from consortium.errors import JobPaused
from consortium.lab.catalogue import BY_NAME, CATALOGUE, DEMO_CHEATS, By, Cheat
from consortium.phases import Phase, Request
from consortium.rounds.splits import splits
from consortium.simulation.cheating import cheat_outcome, cheater_of, strategy_of
from consortium.simulation.split_commitments import SplitCommitments
from consortium.standing import credits_of
from hospital_agent.cheats import ALONE, WITH_HELP, make_participant
from hospital_agent.cohort import Cohort
from hospital_agent.folder import HospitalFolder
from hospital_agent.participant import Participant
from ledger.records import COORDINATOR, Record, Result
from privacy.noise import SeededNoise
from sml.mapping import SecureMapping
from sml.vrf import proof_to_hash

NAMES = (ONE, TWO, THREE, FOUR)
TRIALS = 10
CERTAIN = [c for c in CATALOGUE if c.demo and c.always and c.by in (By.HOSPITAL, By.PAIR)]
Plan = Callable[[int], Mapping[str, str]]
"""Who plays which cheat in a round."""


class _OtherNoise:
    """A cheat's own noise: not that of the training beside it."""

    def __new__(cls) -> SeededNoise:  # type: ignore[misc]
        return SeededNoise(_Noise.seed + 1, unsafe_no_dp=True)


class Cheating(Grid):
    """Nodes that cheat as planned. Participants stay between messages, as in a simulation."""

    def __init__(self, four: Consortium, plan: Plan) -> None:
        super().__init__(four)
        self._plan = plan
        self._made: dict[tuple[str, str | None], Participant] = {}

    def participant(self, request: Request, name: str) -> Participant:
        self.four.set_noise(name)
        cheat = self._plan(request.round).get(name)
        if (name, cheat) not in self._made:
            self._made[name, cheat] = make_participant(
                cheat, HospitalFolder(self.four.folders[name].path), _from(self.four, name)
            )
        return self._made[name, cheat]


def _from(four: Consortium, name: str) -> list[Path]:
    """All folders, from a hospital's own on: its accomplice is the next one."""
    at = NAMES.index(name)
    return [four.folders[other].path for other in NAMES[at:] + NAMES[:at]]


@pytest.fixture(autouse=True)
def _run(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with a_run():
        yield


@pytest.fixture(scope="module", autouse=True)
def _noise() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hospital_agent.cheats.updates.SecureNoise", _OtherNoise)
        yield


def timetable() -> list[dict[str, str]]:
    """Each certain cheat ten times: two pairs a round, or four hospitals, taking turns.

    The first round is honest. The longest steps come last, so that who resubmits another's does
    not resubmit one of these.
    """
    names = [c.name for c in CERTAIN if c.by is By.HOSPITAL and c.name != "scale"]
    alone = ["scale"] * TRIALS + names * TRIALS  # taken from the end
    rounds: list[dict[str, str]] = [{}]
    for c in CERTAIN:
        for trial in range(TRIALS // 2 if c.by is By.PAIR else 0):
            first = trial % 2
            rounds.append({NAMES[first]: c.name, NAMES[first + 2]: c.name})
    while alone:
        turn = len(rounds) % 4
        rounds.append({name: alone.pop() for name in NAMES[turn:] + NAMES[:turn] if alone})
    return rounds


@pytest.fixture(scope="module")
def met(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Sequence[str]]:
    """For each certain cheat what met it, trial by trial, by a ledger that all co-signed."""
    plan = timetable()
    with repeatable(), a_run():
        four = found(tmp_path_factory.mktemp("cheats"), rounds=len(plan))
        start(four, Cheating(four, lambda round: plan[round - 1]))
    assert len(four.api.cosignatures[four.newest.header.height]) == 4
    codes: dict[str, list[str]] = defaultdict(list)
    for result in results(four):
        said = {o.institution: o.code for o in result.proofs}
        said |= {a.institution: f"{a.code} in {a.phase}" for a in result.absent}
        for name, cheat in plan[result.round - 1].items():
            codes[cheat].append(said.pop(name))
            if BY_NAME[cheat].by is By.PAIR:
                codes[cheat].append(said.pop(NAMES[(NAMES.index(name) + 1) % 4]))
        codes["honest"] += said.values()
    return codes


@pytest.mark.parametrize("cheat", CERTAIN, ids=lambda cheat: cheat.name)
def test_what_is_certain_to_be_rejected_is_each_time(
    cheat: Cheat, met: Mapping[str, Sequence[str]]
) -> None:
    (code,) = cheat.codes
    where = " in reveal" if cheat.name == "no-reveal" else ""
    many = TRIALS * (2 if cheat.by is By.PAIR else 1)
    assert Counter(met[cheat.name]) == {code + where: many}


def test_beside_them_honest_hospitals_are_accepted(met: Mapping[str, Sequence[str]]) -> None:
    assert set(met["honest"]) == {"Accepted"}


def played(four: Consortium, cheats: Mapping[str, str]) -> list[Result]:
    start(four, Cheating(four, lambda _: cheats))
    return results(four)


def earned(found_: Sequence[Result], name: str) -> int:
    return sum(credits_of(result, name) for result in found_)


def test_who_does_harm_is_paid_less(four: Consortium) -> None:
    found_ = played(four, {ONE: "label-flip"})
    assert earned(found_, ONE) < fmean(earned(found_, name) for name in (TWO, THREE, FOUR))
    codes = {(o.institution == ONE, o.code) for r in found_ for o in r.proofs}
    assert codes <= {(False, "Accepted"), (True, "Accepted"), (True, "Harmful")}


def test_a_noisy_copy_is_half_a_step_from_its_original(four: Consortium) -> None:
    nodes, request = Cheating(four, lambda _: {ONE: "copy-noise"}), four.request(Phase.TRAIN)
    model, updates = four.context().model, {}
    for name in (ONE, TWO):
        participant = nodes.participant(request, name)
        assert participant.answer(request).error == ""
        trained = participant.memory.trained((four.job.job, 1, 1))
        assert trained is not None
        mapped = weight_forms.from_bytes(participant.folder.content.get(trained.update))
        mapping = SecureMapping.derive(proof_to_hash(trained.vrf_proof), four.context().groups)
        state = mapping.unmap_state(weight_forms.to_torch(mapped))
        updates[name] = weight_forms.vector(weight_forms.from_torch(state))
    step = updates[TWO] - weight_forms.vector(model)
    added = updates[ONE] - updates[TWO]
    assert np.linalg.norm(added) == pytest.approx(0.5 * np.linalg.norm(step), rel=1e-4)
    assert abs(added @ step) < 0.5 * np.linalg.norm(added) * np.linalg.norm(step)


def test_a_lying_validator_changes_nothing_and_is_not_paid_for_it(four: Consortium) -> None:
    found_ = played(four, {ONE: "replay", TWO: "lying-validator"})
    for result in found_:
        codes = {o.institution: o.code for o in result.proofs}
        first = "Accepted" if result.round == 1 else "VrfProofInvalid"
        assert codes == {ONE: first, **dict.fromkeys((TWO, THREE, FOUR), "Accepted")}
        paid = {fee.institution for fee in result.fees}
        assert paid == {THREE, FOUR} | ({ONE} if first == "Accepted" else set())
    divided = list(splits(records(four)))
    assert [(s.round, s.institution) for s in divided] == [
        (round, name) for round in (1, 2, 3) for name in (ONE, THREE, FOUR)
    ]
    assert {tuple(s.others.items()) for s in divided} == {((TWO, "NearCopy"),)}
    told = cheat_outcome("lying-validator", TWO, NAMES, found_, divided, {})
    assert told.happened == (
        "Accepted in rounds 1 to 3; its false code stood on 9 of 9 proofs of the others and was "
        "taken over on 0; no fee in rounds 1 to 3"
    )
    assert told.credits == earned(found_, TWO)
    told = cheat_outcome("replay", ONE, NAMES, found_, [], {})
    assert told.happened == "Accepted in round 1; VrfProofInvalid in rounds 2, 3"
    assert told.codes == {"Accepted": (1,), "VrfProofInvalid": (2, 3)}
    assert told.honest_mean == fmean(earned(found_, name) for name in NAMES[1:])


def records(four: Consortium) -> list[Record]:
    return [entry.record for block in four.api.blocks for entry in block.entries]


class Always(SplitCommitments):
    """Splits every attempt, not only the first."""

    def _splits(self) -> bool:
        return True


def test_nobody_reveals_to_a_coordinator_that_shows_two_sets(four: Consortium) -> None:
    refused: dict[str, list[int]] = defaultdict(list)

    def follow(progress: Progress) -> None:
        if progress.state[:1].isupper():
            refused[progress.state].append(progress.round)

    with pytest.raises(JobPaused):
        start(four, Cheating(four, lambda _: {}), Always, on_progress=follow)
    assert len(results(four)) == 3
    for name in NAMES:
        memory = Participant(HospitalFolder(four.folders[name].path)).memory
        assert not any(memory.signed((four.job.job, 1, n), "proof") for n in range(1, 4))
        assert spent(four, name) == 0
    kind = strategy_of("split-commitments")
    start(four, Cheating(four, lambda _: {}), kind, on_progress=follow)
    found_ = results(four)
    repeated = [(r.round, r.attempt) for r in found_ if r.again]
    assert repeated == [(1, n) for n in range(1, 4)] + [(2, 1), (3, 1)]
    assert not any(r.proofs for r in found_ if r.again)
    assert {o.code for r in found_ for o in r.proofs} == {"Accepted"}
    assert set(refused) == set(BY_NAME["split-commitments"].codes)
    told = cheat_outcome("split-commitments", COORDINATOR, NAMES, found_, [], refused)
    assert told.happened.startswith(
        "rounds 1 to 3 repeated: no quorum closed one set, and 0 updates were revealed; "
    )
    assert told.credits is None


def spent(four: Consortium, name: str) -> float:
    folder = HospitalFolder(four.folders[name].path)
    return folder.budget.status(Cohort.open(folder, TASK).id).epsilon_spent


def test_each_cheat_of_the_demo_is_carried_out_by_somebody() -> None:
    by_coordinator = {c.name for c in CATALOGUE if c.demo and c.by is By.COORDINATOR}
    assert {*ALONE, *WITH_HELP, *by_coordinator} == set(DEMO_CHEATS)
    assert set(WITH_HELP) == {c.name for c in CATALOGUE if c.by is By.PAIR}
    assert all(strategy_of(name) is SplitCommitments for name in by_coordinator)
    assert len(DEMO_CHEATS) == len(set(DEMO_CHEATS)) == 14


def test_who_cheats() -> None:
    assert cheater_of(None, NAMES) is None
    assert cheater_of("replay", NAMES) == ONE
    assert cheater_of("split-commitments", NAMES) == COORDINATOR
