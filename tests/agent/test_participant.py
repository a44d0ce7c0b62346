"""A hospital in a round, in process: what it answers, what it refuses, what never leaves."""

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

import pytest
import torch
from consortium_in_memory import TASK, Consortium, copy_of, data

from consortium import tasks
from consortium import weights as weight_forms
from consortium.phases import Phase, Reply
from consortium.rounds.aggregation import weighted_mean
from consortium.rounds.checks import privacy_terms
from consortium.rounds.commitment import closed_set_digest
from consortium.rounds.result import RoundRecords
from consortium.weights import from_torch, of_module, to_torch
from hospital_agent.cheats import Copier
from hospital_agent.cohort import Cohort
from hospital_agent.folder import HospitalFolder
from hospital_agent.policy import Policy as HospitalPolicy
from hospital_agent.witness import Witness
from ledger.content import model_hash
from ledger.entry import Entry, sign_record
from ledger.keys import Role
from ledger.records import Commitment
from privacy.budget_status import BudgetStatus
from privacy.noise import SeededNoise
from privacy.training import train
from sml.mapping import SecureMapping
from sml.model_groups import groups_for
from sml.vrf import proof_to_hash, prove

ONE, TWO = "hospital-1", "hospital-2"


def budget(consortium: Consortium, name: str = ONE) -> BudgetStatus:
    folder = HospitalFolder(consortium.folders[name].path)
    return folder.budget.status(Cohort.open(folder, TASK).id)


def entry_of(reply: Reply) -> Entry:
    (only,) = reply.entries
    return Entry(only)


def refused(reply: Reply, code: str) -> None:
    """A code, and nothing else."""
    assert (reply.error, reply.entries, reply.content) == (code, (), ())


def test_an_honest_round_gives_every_member_the_same_model(four: Consortium) -> None:
    model = four.play_round(1)
    named = four.api.blocks[-1].entries[-1].record.body()
    assert named["model_after"] == model_hash(model)
    assert {o["code"] for o in named["proofs"]} == {"Accepted"}
    hashes = set()
    for folder in four.folders.values():
        view = Witness(folder, four.api)._view  # type: ignore[arg-type]
        hashes.add(model_hash(view.model(named["model_after"])))
        assert view.head == four.newest.header.hash
    assert hashes == {named["model_after"]}


def test_a_job_of_three_rounds_ends_and_gives_back_what_is_left(four: Consortium) -> None:
    last = [model_hash(four.play_round(n)) for n in (1, 2)][-1]
    before = budget(four)
    assert before.reserved.mu2 > 0
    # Stopped in the second half: the released model is the mean of rounds 2 to 2.
    four.add([four.end_job("stopped", 2, last)])
    after = budget(four)
    assert (after.spent.mu2, after.reserved.mu2) == (before.spent.mu2, 0)
    refused(four.participant(ONE).answer(four.request(Phase.CLOSE, 3)), "JobUnknown")


# repeated messages, crashes between phases


def test_repeated_messages_give_the_same_bytes_and_charge_once(four: Consortium) -> None:
    for phase in Phase:
        request = four.request(phase)
        first = four.ask(phase)
        for name in four.folders:
            for _ in range(2):  # a new Participant each time: as after a crash
                assert four.participant(name).answer(request) == first[name]
    status = budget(four)
    (job,) = status.jobs
    assert job.rounds_charged == 1
    assert status.spent.mu2 == job.spent.mu2 > 0


def test_nothing_is_spent_before_the_reveal(four: Consortium) -> None:
    four.play(1, Phase.CLOSE)
    status = budget(four)
    assert status.spent.mu2 == 0
    assert status.reserved.mu2 > 0
    four.ask(Phase.REVEAL)
    assert budget(four).spent.mu2 > 0


def test_only_a_hash_leaves_before_the_set_is_closed(four: Consortium) -> None:
    for phase in (Phase.TRAIN, Phase.CLOSE):
        for name, reply in four.ask(phase).items():
            assert reply.content == ()
            assert entry_of(reply).record.type == {"train": "commitment", "close": "close"}[phase]
            trained = four.participant(name).memory.trained(("job-1", 1, 1))
            assert trained is not None
            sent = reply.entries[0]
            for secret in (trained.salt.hex(), trained.update, trained.vrf_proof.hex()):
                assert secret.encode() not in sent


def test_a_crash_in_training_trains_anew_and_commits_once(
    four: Consortium, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = four.request(Phase.TRAIN)
    with monkeypatch.context() as patch:
        patch.setattr("hospital_agent.participant.sign_record", kill)
        with pytest.raises(KeyboardInterrupt):
            four.participant(ONE).answer(request)
    first = four.participant(ONE).answer(request)
    assert entry_of(first).record.type == "commitment"
    assert four.participant(ONE).answer(request) == first
    (job,) = budget(four).jobs
    assert job.rounds_charged == 0


def kill(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_crash_after_the_charge_costs_once_and_reveals_the_same(
    four: Consortium, monkeypatch: pytest.MonkeyPatch
) -> None:
    four.play(1, Phase.CLOSE)
    request = four.request(Phase.REVEAL)
    with monkeypatch.context() as patch:
        patch.setattr("hospital_agent.participant.sign_record", kill)
        with pytest.raises(KeyboardInterrupt):
            four.participant(ONE).answer(request)
    assert budget(four).jobs[0].rounds_charged == 1
    replies = four.ask(Phase.REVEAL)
    assert budget(four).jobs[0].rounds_charged == 1
    assert replies[ONE].content


def test_an_update_that_is_lost_is_not_paid_for(four: Consortium) -> None:
    four.play(1, Phase.CLOSE)
    trained = four.participant(ONE).memory.trained(("job-1", 1, 1))
    assert trained is not None
    (four.folders[ONE].path / "content" / trained.update).unlink()
    refused(four.participant(ONE).answer(four.request(Phase.REVEAL)), "ContentMissing")
    assert budget(four).spent.mu2 == 0


# the closed set


def test_a_set_without_ones_own_commitment_is_refused(four: Consortium) -> None:
    four.play(1, Phase.TRAIN)
    request = four.request(Phase.CLOSE)
    without = tuple(e for e in request.entries if Entry(e).record.author != ONE)
    reply = four.participant(ONE).answer(replace(request, entries=without))
    refused(reply, "OwnCommitmentMissing")


def test_a_set_with_another_commitment_in_ones_name_is_refused(
    four: Consortium, founded: Consortium, tmp_path
) -> None:
    """Signed with the stolen record key: still not the one that this hospital made."""
    four.play(1, Phase.TRAIN)
    thief = copy_of(founded, tmp_path / "thief")
    thief.play(1, Phase.TRAIN)
    request = four.request(Phase.CLOSE)
    others = tuple(e for e in request.entries if Entry(e).record.author != ONE)
    stolen = next(e for e in data(thief.records.commitments) if Entry(e).record.author == ONE)
    for entries in ((stolen, *others), (stolen, *request.entries)):
        reply = four.participant(ONE).answer(replace(request, entries=entries))
        assert reply.error in ("OwnCommitmentMissing", "PhaseOutOfOrder")
        assert reply.entries == ()


def test_of_two_different_sets_the_second_is_refused(four: Consortium) -> None:
    four.play(1, Phase.TRAIN)
    request = four.request(Phase.CLOSE)
    three = tuple(e for e in request.entries if Entry(e).record.author != TWO)
    first = four.participant(ONE).answer(request)
    assert entry_of(first).record.type == "close"
    refused(four.participant(ONE).answer(replace(request, entries=three)), "SetSignedAlready")
    assert four.participant(ONE).answer(request) == first


def test_the_order_of_the_set_does_not_matter(four: Consortium) -> None:
    four.play(1, Phase.TRAIN)
    request = four.request(Phase.CLOSE)
    first = four.participant(ONE).answer(request)
    again = four.participant(ONE).answer(replace(request, entries=request.entries[::-1]))
    assert first == again
    assert entry_of(first).record.body()["digest"] == closed_set_digest(four.records.commitments)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda c, r: replace(r, cosignatures=r.cosignatures[:2]), "QuorumMissing"),
        (lambda c, r: replace(r, cosignatures=()), "QuorumMissing"),
        (lambda c, r: replace(r, cosignatures=(r.cosignatures[0],) * 4), "SignatureInvalid"),
        (lambda c, r: replace(r, cosignatures=tuple(c.api.cosignatures[0].values())),
         "SignatureInvalid"),
        (lambda c, r: replace(r, entries=(*r.entries, r.entries[1])), "PhaseOutOfOrder"),
        (lambda c, r: replace(r, entries=(*r.entries, foreign(c, round=2))), "PhaseOutOfOrder"),
        (lambda c, r: replace(r, entries=(*r.entries[:3], foreign(c, round=2))), "RoundInvalid"),
        (lambda c, r: replace(r, entries=(*r.entries[:3], foreign(c, base="0" * 64))),
         "RoundInvalid"),
        (lambda c, r: replace(r, entries=(*r.entries[:3], foreign(c, ledger="0" * 64))),
         "BlockInvalid"),
        (lambda c, r: replace(r, entries=(*r.entries, b"{}")), "RecordInvalid"),
        (lambda c, r: replace(r, entries=(*r.entries[:3], r.entries[3][:-3] + b'0"}')),
         "CanonicalInvalid"),
    ],
)  # fmt: skip
def test_a_set_that_does_not_hold_is_not_signed(four: Consortium, change, code: str) -> None:
    four.play(1, Phase.TRAIN)
    refused(four.participant(ONE).answer(change(four, four.request(Phase.CLOSE))), code)
    assert entry_of(four.participant(ONE).answer(four.request(Phase.CLOSE))).record


def foreign(consortium: Consortium, **changed: object) -> bytes:
    """The fourth hospital's own commitment, to something else."""
    own = next(c.record for c in consortium.records.commitments if c.record.author == "hospital-4")
    key = consortium.folders["hospital-4"].keys[Role.RECORD]
    return sign_record(own.model_copy(update=changed), [key]).data


# the reveal


def test_a_reveal_before_a_quorum_of_closes_is_refused_and_costs_nothing(four: Consortium) -> None:
    four.play(1, Phase.CLOSE)
    request = four.request(Phase.REVEAL)
    for entries in ((), request.entries[:2]):
        refused(four.participant(ONE).answer(replace(request, entries=entries)), "PhaseOutOfOrder")
    refused(
        four.participant(ONE).answer(replace(request, entries=(request.entries[0],) * 3)),
        "PhaseOutOfOrder",
    )
    assert budget(four).spent.mu2 == 0
    assert four.participant(ONE).answer(replace(request, entries=request.entries[:3])).content


def test_closes_of_another_set_do_not_count(four: Consortium) -> None:
    """Two of four closed the set that this hospital closed: the split set is not revealed."""
    four.play(1, Phase.TRAIN)
    whole = four.request(Phase.CLOSE)
    without = tuple(e for e in whole.entries if Entry(e).record.author != ONE)
    closes = [four.participant(name).answer(whole).entries[0] for name in (ONE, TWO)]
    closes += [
        four.participant(name).answer(replace(whole, entries=without)).entries[0]
        for name in ("hospital-3", "hospital-4")
    ]
    request = replace(four.request(Phase.REVEAL), entries=tuple(closes))
    for name in four.folders:
        refused(four.participant(name).answer(request), "RoundInvalid")
        assert budget(four, name).spent.mu2 == 0


def test_phases_out_of_order_are_refused(four: Consortium) -> None:
    for phase, code in [(Phase.CLOSE, "OwnCommitmentMissing"), (Phase.REVEAL, "PhaseOutOfOrder"),
                        (Phase.VERIFY, "PhaseOutOfOrder")]:  # fmt: skip
        refused(four.participant(ONE).answer(four.request(phase)), code)
    assert budget(four).jobs == ()


# the request


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"base": "0" * 64}, "BaseUnknown"),
        ({"job": "job-2"}, "JobUnknown"),
        ({"round": 2}, "PhaseOutOfOrder"),
        ({"attempt": 2}, "PhaseOutOfOrder"),
    ],
)
def test_a_request_for_another_place_gets_a_code_and_no_signature(
    four: Consortium, changed: dict[str, object], code: str
) -> None:
    reply = four.participant(ONE).answer(replace(four.request(Phase.TRAIN), **changed))
    # Unsigned: a coordinator must not be able to draw a refusal and use it for a real round.
    assert (reply.error, reply.entries, reply.content) == (code, (), ())
    assert budget(four).jobs == ()


@pytest.mark.parametrize(
    "changed", [{"job": "Not A Name"}, {"job": ""}, {"round": 0}, {"round": -5}, {"attempt": 0}]
)
def test_a_malformed_request_is_answered_with_a_code(
    four: Consortium, changed: dict[str, object]
) -> None:
    reply = four.participant(ONE).answer(replace(four.request(Phase.TRAIN), **changed))
    assert reply.error in ("JobUnknown", "PhaseOutOfOrder")
    assert reply.entries == ()


def test_an_older_block_is_not_the_newest(four: Consortium) -> None:
    request = four.request(Phase.TRAIN)
    four.play_round(1)
    four.records = RoundRecords()
    later = replace(four.request(Phase.TRAIN, 2), base=request.base)
    assert four.participant(ONE).answer(later).error == "BaseUnknown"


# budget, policy, data


def test_a_budget_that_is_too_small_is_a_signed_refusal_and_nothing_else(four: Consortium) -> None:
    folder = four.folders[ONE]
    folder.budget.set_limit(Cohort.open(folder, TASK).id, Decimal("0.5"))
    replies = four.ask(Phase.TRAIN)
    reply = replies[ONE]
    assert (reply.error, reply.content) == ("BudgetExceeded", ())
    record = entry_of(reply).record.body()
    assert set(record) == {
        "v", "type", "ledger", "author", "job", "round", "attempt", "code",
    }  # fmt: skip
    assert record["code"] == "BudgetExceeded"
    assert budget(four).jobs == ()
    assert {r.error for n, r in replies.items() if n != ONE} == {""}


def test_the_round_goes_on_without_the_one_that_refused(four: Consortium) -> None:
    folder = four.folders[ONE]
    folder.budget.set_limit(Cohort.open(folder, TASK).id, Decimal("0.5"))
    four.play_round(1)
    result = four.api.blocks[-1].entries[-1].record.body()
    assert [(a["institution"], a["phase"], a["code"]) for a in result["absent"]] == [
        (ONE, "train", "BudgetExceeded")
    ]
    assert [o["code"] for o in result["proofs"]] == ["Accepted"] * 3
    assert budget(four).spent.mu2 == 0


@pytest.mark.parametrize(
    "policy",
    [
        HospitalPolicy("1", "0.00001", (TASK,)),
        HospitalPolicy("3", "0.00001", ("heart-disease",)),
        HospitalPolicy("3", "0.00001", (TASK,), fewest_institutions=5),
    ],
)
def test_what_the_data_owner_does_not_allow_is_refused(
    four: Consortium, policy: HospitalPolicy
) -> None:
    policy.write(four.folders[ONE].path / "policy.json")
    reply = four.participant(ONE).answer(four.request(Phase.TRAIN))
    assert (reply.error, entry_of(reply).record.body()["code"]) == ("PolicyRefused",) * 2
    assert budget(four).jobs == ()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"tasks": 7}', '{"more": 1, "tasks": []}'])
def test_a_damaged_policy_allows_nothing(four: Consortium, content: str) -> None:
    (four.folders[ONE].path / "policy.json").write_text(content)
    reply = four.participant(ONE).answer(four.request(Phase.TRAIN))
    assert reply.error == "FolderInvalid"
    assert budget(four).jobs == ()


SECRET = "Mrs Miller, born 1951, malignant"


@pytest.mark.parametrize("phase", list(Phase))
@pytest.mark.parametrize("error", [ValueError, RuntimeError, KeyError, MemoryError])
def test_the_text_of_an_error_never_leaves(
    four: Consortium, monkeypatch: pytest.MonkeyPatch, phase: Phase, error: type[Exception]
) -> None:
    if phase is not Phase.TRAIN:
        four.play(1, list(Phase)[list(Phase).index(phase) - 1])
    request = four.request(phase)
    target = {
        Phase.TRAIN: "hospital_agent.participant.train",
        Phase.CLOSE: "hospital_agent.participant.closed_set_digest",
        Phase.REVEAL: "hospital_agent.participant.privacy_terms",
        Phase.VERIFY: "hospital_agent.participant.findings",
    }[phase]
    monkeypatch.setattr(target, raising(error(SECRET)))
    reply = four.participant(ONE).answer(request)
    sent = repr(reply).encode() + b"".join(reply.entries) + b"".join(reply.content)
    assert reply.error == "InternalError"
    assert b"Miller" not in sent
    assert b"1951" not in sent


def raising(error: Exception) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


def test_a_hospital_that_cannot_sign_answers_with_a_code_only(
    four: Consortium, monkeypatch: pytest.MonkeyPatch
) -> None:
    (four.folders[ONE].path / "keys" / "record.key").write_text(SECRET)
    refused(four.participant(ONE).answer(four.request(Phase.TRAIN)), "KeyInvalid")


# verify


def test_a_verdict_is_given_once_on_the_closed_set_only(after_verify: Consortium) -> None:
    four = after_verify
    request = four.request(Phase.VERIFY)
    given = four.participant(ONE).answer(request)
    commitments = len(four.records.commitments)
    for entries in (request.entries[1:], request.entries[commitments:]):
        refused(four.participant(ONE).answer(replace(request, entries=entries)), "SetSignedAlready")
    refused(
        four.participant(ONE).answer(replace(request, content=request.content[1:])),
        "SetSignedAlready",
    )
    fewer = replace(request, entries=request.entries[:-1], content=request.content[:-1])
    assert four.participant(ONE).answer(fewer) == given


def test_no_verdict_is_given_on_an_update_that_its_proof_does_not_name(four: Consortium) -> None:
    """Else a coordinator alone could make an honest hospital look like a cheat."""
    four.play(1, Phase.REVEAL)
    request = four.request(Phase.VERIFY)
    swapped = replace(request, content=(request.content[1], *request.content[1:]))
    for name in four.folders:
        refused(four.participant(name).answer(swapped), "PhaseOutOfOrder")
        verdict = entry_of(four.participant(name).answer(request)).record.body()
        assert {f["code"] for f in verdict["findings"]} == {"Accepted"}


def test_the_two_members_of_a_pair_that_copies_are_both_named(
    four: Consortium, monkeypatch: pytest.MonkeyPatch
) -> None:
    copier = Copier(four.folders[TWO], four.folders[ONE])
    honest = Consortium.participant
    monkeypatch.setattr(
        Consortium, "participant", lambda c, name: copier if name == TWO else honest(c, name)
    )
    four.play(1)
    result = four.result()[0][-1].record.body()
    assert {o["institution"]: o["code"] for o in result["proofs"]} == {
        ONE: "NearCopy", TWO: "NearCopy", "hospital-3": "Accepted", "hospital-4": "Accepted",
    }  # fmt: skip


# the secure mapping costs nothing


def test_training_with_and_without_the_mapping_agrees(four: Consortium) -> None:
    """The same noise, mapped as the model is: three rounds of four hospitals agree to rounding."""
    task, job = tasks.get(TASK), four.job
    groups = groups_for(task.model(job.seed))
    plain = task.model(job.seed).state_dict()
    mapped_too = dict(plain)
    public = {p.institution: p.weight for p in job.participants}
    for round in range(1, 4):
        plain_updates, mapped_updates = {}, {}
        for place, participant in enumerate(job.participants):
            terms = privacy_terms(participant)
            x, y = Cohort.open(four.folders[participant.institution], TASK).tensors("train")
            proof = prove(
                four.folders[participant.institution].keys[Role.VRF].seed, f"{round}".encode()
            )
            mapping = SecureMapping.derive(proof_to_hash(proof), groups)
            seed = 100 * round + place
            model = task.model(job.seed)
            model.load_state_dict(plain)
            names = [name for name, _ in model.named_parameters()]
            train(model, task.loss, x, y, terms, SeededNoise(seed, unsafe_no_dp=True))
            plain_updates[participant.institution] = of_module(model)
            model.load_state_dict(mapping.map_state(mapped_too))
            noise = Mapped(SeededNoise(seed, unsafe_no_dp=True), mapping, names)
            train(model, task.loss, mapping.map_inputs(x), y, terms, noise)
            unmapped = from_torch(mapping.unmap_state(model.state_dict()))
            mapped_updates[participant.institution] = unmapped
        plain = to_torch(weighted_mean(plain_updates, public))
        mapped_too = to_torch(weighted_mean(mapped_updates, public))
    for name, tensor in plain.items():
        assert float(tensor.abs().max()) > 0.01
        torch.testing.assert_close(mapped_too[name], tensor, rtol=1e-5, atol=1e-5)


class Mapped:
    """Draws the noise that an un-mapped training would draw, and maps it like the model."""

    private = False

    def __init__(self, noise: SeededNoise, mapping: SecureMapping, names: list[str]) -> None:
        self._noise, self._mapping, self._names = noise, mapping, names

    def normal(self, shape: tuple[int, ...], std: float) -> torch.Tensor:
        # A step asks once for all parameters, in this order: weight, then bias.
        drawn = self._noise.normal(shape, std).split([30, 1])
        sized = {"weight": drawn[0].view(1, 30), "bias": drawn[1]}
        mapped = self._mapping.map_state({name: sized[name] for name in self._names})
        return torch.cat([mapped[name].flatten() for name in self._names])


def test_commitments_in_ones_own_name_are_what_was_trained(four: Consortium) -> None:
    reply = four.ask(Phase.TRAIN, names=[ONE])[ONE]
    record = entry_of(reply).record
    assert isinstance(record, Commitment)
    trained = four.participant(ONE).memory.trained(("job-1", 1, 1))
    assert trained is not None
    update = weight_forms.from_bytes(four.folders[ONE].content.get(trained.update))
    assert {name: array.shape for name, array in update.items()} == {
        "weight": (1, 30), "bias": (1,),
    }  # fmt: skip
