"""What every member checks of a block's records: each rule, broken once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from rounds_examples import (
    CREDITS,
    LEDGER,
    all_records,
    close,
    finding,
    honest_findings,
    in_round,
    keys_of,
    make_context,
    make_example_job,
    member_form,
    names,
    reveal_all,
    signed,
    submissions,
    verdict,
    with_verdict,
)
from torch import nn

from consortium.contract import check_job, initial_model
from consortium.errors import ConsortiumError, JobInvalid, RoundInvalid
from consortium.rounds import checks
from consortium.rounds.checks import Reveal, RoundContext, examine
from consortium.rounds.checks.near_copy import EarlierStep
from consortium.rounds.commitment import closed_set_digest
from consortium.rounds.progress import next_place, rounds_done
from consortium.rounds.replay import check_block, check_record, round_context
from consortium.rounds.result import RoundRecords, derive_result
from ledger.content import Weights, digest, model_hash
from ledger.entry import Entry, sign_record
from ledger.errors import RecordInvalid
from ledger.keys import Role
from ledger.records import (
    ACCEPTED,
    Durations,
    Finding,
    Job,
    JobEnd,
    MemberForm,
    Outcome,
    Policy,
    Proof,
    Refusal,
    Result,
    parse_record,
)
from sml.mapping import Kind
from sml.model_groups import groups_for

BASE = "3d" * 32
POLICY = Policy(quorum="floor((n+f)/2)+1", credits=CREDITS)


@dataclass
class View:
    """A ledger in memory, at the block that the round starts from."""

    job: Job
    head: str = BASE
    ledger: str = LEDGER
    members: Mapping[str, MemberForm] = field(
        default_factory=lambda: {name: member_form(name) for name in names(4)}
    )
    policy: Policy = POLICY
    models: dict[str, Weights] = field(default_factory=dict)
    updates: dict[str, bytes] = field(default_factory=dict)
    past: list[Result] = field(default_factory=list)
    spent: list[Proof] = field(default_factory=list)
    over: bool = False
    running: bool = True

    def jobs(self) -> Sequence[Job]:
        return [self.job] if self.running else []

    def ended(self, job: str) -> bool:
        return self.over

    def results(self, job: str) -> Sequence[Result]:
        return self.past

    def model(self, name: str) -> Weights:
        return self.models[name]

    def update(self, name: str) -> bytes:
        return self.updates[name]

    def steps(self, job: str) -> Sequence[EarlierStep]:
        return []

    def proofs(self, institution: str) -> Sequence[Proof]:
        return [proof for proof in self.spent if proof.author == institution]


@dataclass
class Play:
    """One honest round on a view, and the block that holds it."""

    view: View
    context: RoundContext
    records: RoundRecords

    def derive(self, records: RoundRecords | None = None) -> Result:
        records = records or self.records
        reveals = {
            e.record.author: Reveal(e, self.view.updates[e.record.body()["update"]])
            for e in records.proofs
        }
        examined = examine(self.context, records.commitments, reveals)
        result, model = derive_result(self.context, records, examined, CREDITS, self.view.past)
        self.view.models[model_hash(model)] = model
        return result

    def block(self, records: RoundRecords | None = None, **changed: Any) -> list[Entry]:
        """A block of records, with the result that follows from them or a changed one."""
        result = self.derive(records).model_copy(update=changed)
        return [*(records or self.records).all(), by_coordinator(result)]

    def refused(self, entries: Sequence[Entry], match: str) -> None:
        with pytest.raises((RoundInvalid, JobInvalid), match=match):
            check_block(self.view, entries)


def by_coordinator(record: Any) -> Entry:
    return sign_record(record, [keys_of("coordinator")[Role.RECORD]])


@pytest.fixture
def play() -> Play:
    job = make_context().job
    model = initial_model(job.task, job.seed)
    view = View(job, models={model_hash(model): model})
    context = round_context(view, job, 1, 1)
    everything = submissions(context)
    view.updates = {digest(s.update): s.update for s in everything.values()}
    return Play(view, context, all_records(context, reveal_all(everything)))


def test_an_honest_block_passes_and_gives_the_model_and_the_steps(play: Play) -> None:
    entries = play.block()
    checked = check_block(play.view, entries)
    assert checked.model is not None
    assert model_hash(checked.model) == entries[-1].record.body()["model_after"]
    assert set(checked.steps or {}) == set(names(4))
    assert (checked.job, checked.round) == ("job-1", 1)


@pytest.mark.parametrize("code", ["Harmful", ACCEPTED])
def test_a_block_that_spares_one_follows_from_attested_harm_and_not_from_another_code(
    play: Play, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    """A quorum may say that it would be missed; that it does not go against the others, not."""
    victim = "hospital-1"
    monkeypatch.setattr(checks, "opposed", lambda *_: frozenset({victim}))
    found = {"code": code, "harmful": False, "score": None, "shapley": None}
    for author in names(4):
        said = [
            Finding.model_validate(one.model_dump() | (found if one.institution == victim else {}))
            for one in honest_findings(author, names(4))
        ]
        entry = verdict(play.context, author, closed(play.records), said, play.records.proofs)
        play.records = with_verdict(play.records, entry)
    block = play.block()
    assert {o.code for o in block[-1].record.proofs} == {ACCEPTED}  # type: ignore[attr-defined]
    if code == ACCEPTED:
        play.refused(block, "called Accepted; it is not")
    else:
        check_block(play.view, block)


# the coordinator


def test_a_coordinator_that_adds_a_commitment_after_the_reveals(play: Play) -> None:
    """The set that hospitals closed, proved and judged under is another one then."""
    late = reveal_all(submissions(play.context, seed=5)).commitments[3]
    three = tuple(c for c in play.records.commitments if c.record.author != "hospital-4")
    others = replace(play.records, commitments=(*three, late))
    play.refused(play.block(others), "another set of commitments")


def test_a_coordinator_that_drops_a_commitment(play: Play) -> None:
    three = play.records.commitments[:3]
    play.refused(play.block(replace(play.records, commitments=three)), "another set|without")


def test_a_coordinator_that_drops_a_verdict(play: Play) -> None:
    fewer = replace(play.records, verdicts=play.records.verdicts[:3])
    entries = [*fewer.all(), play.block()[-1]]
    play.refused(entries, "do not follow from the verdicts")


def test_a_coordinator_that_rewrites_a_verdict(play: Play) -> None:
    """Its author's signature fails in `ledger.chain`; the result no longer follows either."""
    rewritten = play.records
    for author in ("hospital-3", "hospital-4"):
        said = [finding(name, code="NearCopy", score=8000) for name in names(4)]
        proofs = play.records.proofs
        entry = verdict(play.context, author, closed(play.records), said, proofs)
        rewritten = with_verdict(rewritten, entry)
    play.refused([*rewritten.all(), play.block()[-1]], "is called NearCopy; it is not")
    play.refused(play.block(rewritten), "is called NearCopy; it is not")


def test_a_weight_above_half_is_refused(play: Play) -> None:
    first, *others = play.view.job.participants
    heavy = first.terms.model_copy(update={"normaliser": 10**6})
    changed = first.model_copy(update={"weight": 10**6, "terms": heavy})
    job = play.view.job.model_copy(update={"participants": (changed, *others)})
    with pytest.raises(JobInvalid, match="more than half"):
        check_job(job, play.view.members)


def test_a_model_that_is_not_mapped_to_the_bit_is_refused(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_job(play.view.job, play.view.members)
    dense = groups_for(nn.Linear(30, 1), inputs=Kind.DENSE)
    monkeypatch.setattr("consortium.contract.task_groups", lambda job: dense)
    with pytest.raises(JobInvalid, match="exact to the bit"):
        check_job(play.view.job, play.view.members)


def test_a_coordinator_that_swaps_the_model(play: Play) -> None:
    for changed in ({"model_after": "00" * 32}, {"model_before": "00" * 32},
                    {"model_after": play.derive().model_before}):  # fmt: skip
        play.refused(play.block(**changed), "|".join(changed))


def test_a_coordinator_that_changes_credits(play: Play) -> None:
    result = play.derive()
    rich = result.proofs[0].model_copy(update={"credits": result.proofs[0].credits + 1})
    poor = result.proofs[1].model_copy(update={"credits": result.proofs[1].credits - 1})
    fee = result.fees[0].model_copy(update={"credits": 51})
    for changed in (
        {"proofs": (rich, poor, *result.proofs[2:])},
        {"fees": (fee, *result.fees[1:])},
        {"fees": result.fees[1:]},
        {"bonus": 101},
        {"minted": 1001},
        {"learner": next(n for n in names(4) if n != result.learner)},
        {"learner": None},
    ):
        play.refused(play.block(**changed), "do not follow from the verdicts")


OTHER_RESULTS: dict[str, Any] = {
    "void": True, "again": True, "digest": None, "base": "00" * 32, "ledger": "00" * 32, "absent": (
        {"institution": "hospital-1", "phase": "verify", "code": "NoAnswer"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHER_RESULTS)
def test_every_other_field_of_the_result_is_derived_too(play: Play, name: str) -> None:
    body = {**play.derive().body(), name: OTHER_RESULTS[name]}
    entry = by_coordinator(Result.model_validate(body))
    play.refused([*play.records.all(), entry], name)


def test_scores_and_shapley_values_are_the_medians(play: Play) -> None:
    result = play.derive()
    for name, value in (("score", 9400), ("shapley", 125), ("average", 125), ("code", "Harmful")):
        other: Outcome = result.proofs[0].model_copy(update={name: value})
        play.refused(play.block(proofs=(other, *result.proofs[1:])), "proofs do not follow")
    play.refused(play.block(proofs=result.proofs[1:]), "proofs do not follow")


def test_a_coordinator_that_swaps_an_update(play: Play) -> None:
    entries = play.block()
    first, second = (e.record.body()["update"] for e in play.records.proofs[:2])
    play.view.updates[first] = play.view.updates[second]
    play.refused(entries, "is called Accepted; it is not")


def played_at(view: View, round: int, attempt: int) -> Play:
    """The same hospitals at another place."""
    context = round_context(view, view.job, round, attempt)
    everything = submissions(context)
    view.updates |= {digest(s.update): s.update for s in everything.values()}
    return Play(view, context, all_records(context, reveal_all(everything)))


@pytest.mark.parametrize(("round", "attempt"), [(2, 1), (11, 1), (1, 2), (1, 7)])
def test_another_round_or_a_second_attempt(play: Play, round: int, attempt: int) -> None:
    """A second attempt would let a coordinator drop one whose updates it has seen."""
    play.refused(played_at(play.view, round, attempt).block(), "number or attempt")


# attempts


def closed_by(play: Play, count: int) -> RoundRecords:
    """What is signed where so many close the set, and nobody reveals."""
    return replace(play.records, closes=play.records.closes[:count], proofs=(), verdicts=())


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4])
def test_an_attempt_is_repeated_where_fewer_than_a_quorum_closed(play: Play, count: int) -> None:
    entries = play.block(closed_by(play, count))
    check_block(play.view, entries)
    result = entries[-1].record
    assert isinstance(result, Result)
    assert (result.void, result.proofs, result.fees, result.minted) == (True, (), (), 0)
    assert result.again == (count < 3)
    assert next_place([result]) == ((1, 2) if result.again else (2, 1))
    assert rounds_done([result]) == (not result.again)


@pytest.mark.parametrize("count", [2, 3])
def test_a_coordinator_says_neither_more_nor_less_of_it(play: Play, count: int) -> None:
    play.refused(play.block(closed_by(play, count), again=count == 3), "again do not follow")


def test_a_revealed_round_is_not_called_again(play: Play) -> None:
    play.refused(play.block(again=True), "again do not follow")
    nothing = {"again": True, "void": True, "proofs": (), "fees": (), "minted": 0, "bonus": 0,
               "learner": None, "model_after": play.derive().model_before}  # fmt: skip
    play.refused(play.block(**nothing), "again")


def again(play: Play, attempts: int) -> list[Result]:
    """So many attempts at round 1, in none of which a quorum closed."""
    result = play.derive(closed_by(play, 0))
    return [result.model_copy(update={"attempt": n}) for n in range(1, attempts + 1)]


@pytest.mark.parametrize("attempts", [1, 2])
@pytest.mark.parametrize("place", [(1, 1), (1, 2), (1, 3), (1, 4), (2, 1), (2, 2)])
def test_after_attempts_the_next_one_follows_and_no_other(
    play: Play, attempts: int, place: tuple[int, int]
) -> None:
    play.view.past = again(play, attempts)
    played = played_at(play.view, *place)
    if place == (1, attempts + 1):
        check_block(play.view, played.block())
    else:
        played.refused(played.block(), "number or attempt")


def test_a_job_ends_with_the_rounds_that_counted(play: Play) -> None:
    done = play.derive(closed_by(play, 3)).model_copy(update={"attempt": 3})
    play.view.past = [*again(play, 2), done]
    check_block(play.view, end(play, rounds=1))
    play.refused(end(play, rounds=3), "does not follow from its rounds")
    later = [done.model_copy(update={"round": n, "attempt": 1}) for n in range(2, 11)]
    play.view.past = [*again(play, 2), done, *later]
    check_block(play.view, end(play, status="finished", rounds=10))
    play.refused(end(play, status="stopped", rounds=10), "does not follow from its rounds")
    play.view.past = [*again(play, 2), done, *later[:-2]]  # ten results, eight rounds
    play.refused(end(play, status="finished", rounds=10), "does not follow from its rounds")
    play.refused(end(play, status="finished", rounds=8), "does not follow from its rounds")


def test_no_round_follows_the_last_one_or_the_jobs_end(play: Play) -> None:
    entries = play.block()
    result = play.derive()
    play.view.past = [result] * play.view.job.rounds
    play.refused(entries, "number or attempt")
    play.view.past, play.view.over = [], True
    play.refused(entries, "no running job")


# what was signed


def replaced(kind: str, author: str, entry: Entry) -> Callable[[RoundRecords], RoundRecords]:
    def change(records: RoundRecords) -> RoundRecords:
        others = [e for e in getattr(records, kind) if e.record.author != author]
        both = tuple(sorted([*others, entry], key=lambda e: e.record.author))
        return replace(records, **{kind: both})

    return change


def test_closes_before_the_reveals_need_a_quorum(play: Play) -> None:
    records, seen = play.records, []
    for count in (3, 2):
        proofs = records.proofs[:count]
        verdicts = tuple(
            verdict(
                play.context, name, closed(records), honest_findings(name, names(count)), proofs
            )
            for name in names(4)
        )
        seen.append(
            replace(records, closes=records.closes[:count], proofs=proofs, verdicts=verdicts)
        )
    check_block(play.view, play.block(seen[0]))
    play.refused(play.block(seen[1]), "before a quorum")


def test_a_reveal_without_closing(play: Play) -> None:
    three = replace(play.records, closes=play.records.closes[:3])
    play.refused(play.block(three), "without closing")


def test_verdicts_on_other_reveals(play: Play) -> None:
    """A coordinator that shows one validator fewer reveals than the others."""
    author = "hospital-4"
    fewer = play.records.proofs[:3]
    said = honest_findings(author, names(3))
    entry = verdict(play.context, author, closed(play.records), said, fewer)
    play.refused(play.block(with_verdict(play.records, entry)), "another set of reveals")


def test_spending_goes_on_where_the_last_proof_ended(play: Play) -> None:
    last = play.records.proofs[0].record
    assert isinstance(last, Proof)
    play.view.spent = [last]
    context = round_context(play.view, play.context.job, play.context.round, 1)
    assert context.spent == {last.author: last.spend}
    proofs = {e.record.author: e for e in play.records.proofs}
    reveals = {
        name: Reveal(e, play.view.updates[e.record.body()["update"]]) for name, e in proofs.items()
    }
    examined = examine(context, play.records.commitments, reveals)
    # It declares the same spending before as in its last proof, which already came on top of it.
    assert examined[last.author].code == "PrivacyClaimInvalid"
    assert all(e.code == "Accepted" for name, e in examined.items() if name != last.author)


@pytest.mark.parametrize("kind", ["closes", "verdicts"])
def test_a_record_under_another_set(play: Play, kind: str) -> None:
    make = {
        "closes": lambda: close(play.context, "hospital-2", "00" * 32),
        "verdicts": lambda: verdict(
            play.context, "hospital-2", "00" * 32, honest_findings("hospital-2", names(4))
        ),
    }[kind]
    others = replaced(kind, "hospital-2", make())(play.records)
    play.refused(play.block(others), "another set of commitments")


def test_two_records_of_one_kind_by_one_institution(play: Play) -> None:
    extra = close(play.context, "hospital-1", play.records.closes[0].record.body()["digest"])
    twice = replace(play.records, closes=(extra, *play.records.closes))
    play.refused(play.block(twice), "two records of one kind")


def test_one_verdict_with_a_whole_quorum_of_findings(play: Play) -> None:
    author = "hospital-4"
    said = honest_findings(author, names(4))
    stuffed = sorted([*said, *(finding("hospital-1", code="NearCopy") for _ in range(4))],
                     key=lambda f: f.institution)  # fmt: skip
    digest = play.records.verdicts[0].record.body()["digest"]
    entry = verdict(play.context, author, digest, stuffed, play.records.proofs)
    play.refused(play.block(with_verdict(play.records, entry)), "once, in order")


def test_a_record_by_somebody_outside_the_job(play: Play) -> None:
    digest_ = play.records.closes[0].record.body()["digest"]
    for author in ("stranger", "coordinator"):
        extra = replace(
            play.records,
            closes=tuple(
                sorted(
                    (*play.records.closes, close(play.context, author, digest_)),
                    key=lambda e: e.record.author,
                )
            ),
        )
        play.refused(play.block(extra), "does not take part")


def test_a_proof_without_a_commitment(play: Play) -> None:
    records = replace(play.records, commitments=play.records.commitments[:3], closes=(),
                      proofs=(), verdicts=())  # fmt: skip
    late = replace(records, closes=(close(
        play.context, "hospital-4", closed(records)),))  # fmt: skip
    play.refused(play.block(late), "without a commitment")


def closed(records: RoundRecords) -> str:
    return closed_set_digest(records.commitments)


@pytest.mark.parametrize("changed", [{"base": "00" * 32}, {"model": "00" * 32}])
def test_a_commitment_to_another_block_or_model(play: Play, changed: dict[str, str]) -> None:
    own = play.records.commitments[1].record
    other = sign_record(own.model_copy(update=changed), [keys_of("hospital-2")[Role.RECORD]])
    with pytest.raises(RoundInvalid, match="another block or model"):
        check_record(play.context, other.record, None)


@pytest.mark.parametrize("changed", [{"job": "job-2"}, {"round": 2}, {"attempt": 2}])
def test_a_record_of_another_round(play: Play, changed: dict[str, Any]) -> None:
    for entry in (play.records.commitments[0], play.records.closes[0], play.records.verdicts[0]):
        with pytest.raises(RoundInvalid, match="another round"):
            check_record(play.context, entry.record.model_copy(update=changed), None)


def test_records_out_of_order_or_of_another_kind(play: Play) -> None:
    entries = play.block()
    swapped = [entries[1], entries[0], *entries[2:]]
    play.refused(swapped, "not in order")
    play.refused([entries[0], *entries], "two records of one kind")
    play.refused([by_coordinator(play.view.job), *entries], "another kind")
    play.refused([entries[-1], *entries], "another kind")
    with pytest.raises(RoundInvalid, match="not what a hospital signs"):
        check_record(play.context, play.view.job, None)


def test_a_refusal_beside_three_answers(play: Play) -> None:
    body = in_round(play.context, "hospital-4", type="refusal", code="PolicyRefused")
    everything = submissions(play.context)
    everything.pop("hospital-4")
    records = all_records(play.context, reveal_all(everything))
    records = replace(
        records,
        refusals=(signed(Refusal.model_validate(body)),),
        closes=records.closes[:3],
        verdicts=records.verdicts[:3],
    )
    entries = play.block(records)
    check_block(play.view, entries)
    (absence,) = entries[-1].record.body()["absent"]
    assert absence == {"institution": "hospital-4", "phase": "train", "code": "PolicyRefused"}


def test_a_round_that_nobody_answered_can_stand(play: Play) -> None:
    checked = check_block(play.view, play.block(RoundRecords()))
    assert checked.model is not None
    assert model_hash(checked.model) == play.view.job.initial_model


# jobs and their ends


def test_a_job_begins_alone_under_a_new_name(play: Play) -> None:
    entry = by_coordinator(play.view.job)
    play.view.running = False
    check_block(play.view, [entry])
    play.view.running = True
    play.refused([entry], "another runs")
    play.view.over = True
    play.refused([entry], "already used")


def job_changes() -> dict[str, Callable[[dict[str, Any]], Any]]:
    def terms(name: str, value: Any) -> Callable[[dict[str, Any]], Any]:
        return lambda job: job["participants"][0]["terms"].update({name: value})

    return {
        "unknown task": lambda job: job.update(task="heart-attack"),
        "another task": lambda job: job.update(task="heart-disease"),
        "fingerprint": lambda job: job.update(task_fingerprint="00" * 32),
        "initial model": lambda job: job.update(initial_model="00" * 32),
        "released model": lambda job: job.update(average_from=1),
        "stranger": lambda job: job["participants"][0].update(institution="a-stranger"),
        "coordinator": lambda job: job["participants"][0].update(institution="coordinator"),
        "order": lambda job: job["participants"].reverse(),
        "twice": lambda job: job["participants"].insert(0, job["participants"][0]),
        "weight": lambda job: job["participants"][0].update(weight=10**6),
        "a phase of more than a week": lambda job: job["durations"].update(close=7 * 86400 + 1),
        "rounds": terms("rounds", 20),
        "less noise": terms("noise_multiplier", "1"),
        "no noise": terms("noise_multiplier", "0"),
        "smaller epsilon": terms("epsilon", "0.5"),
        "more steps": terms("steps", 40),
        "longer steps": terms("learning_rate", "100000"),
        "wider clip": terms("clip", "1000"),
        "other clipping": terms("clipping", "flat"),
        "sampling beyond all": terms("sample_rate", "2"),
        "smaller delta": terms("delta", "0.0000000001"),
        "large delta": terms("delta", "0.5"),
    }


@pytest.mark.parametrize("name", job_changes())
def test_a_contract_that_does_not_hold(play: Play, name: str) -> None:
    body = play.view.job.body()
    job_changes()[name](body)
    play.view.running = False
    with pytest.raises(JobInvalid):
        check_block(play.view, [by_coordinator(Job.model_validate(body))])


def test_a_phase_may_take_a_week(play: Play) -> None:
    week = Durations(train=7 * 86400, close=1, reveal=1, verify=7 * 86400)
    check_job(play.view.job.model_copy(update={"durations": week}), play.view.members)
    assert make_example_job().durations == Durations(train=600, close=60, reveal=120, verify=600)
    body = play.view.job.body()
    for changed in ({"close": 0}, {"train": 1.5}, {"verify": "60"}):
        with pytest.raises(RecordInvalid):
            parse_record({**body, "durations": {**body["durations"], **changed}})


def end(play: Play, **changed: Any) -> list[Entry]:
    body = {"v": 1, "type": "job-end", "ledger": LEDGER, "author": "coordinator", "job": "job-1",
            "status": "stopped", "rounds": 0, "model": play.view.job.initial_model}  # fmt: skip
    return [by_coordinator(JobEnd.model_validate({**body, **changed}))]


def test_a_job_ends_as_its_rounds_say(play: Play) -> None:
    check_block(play.view, end(play))
    for changed in ({"status": "finished"}, {"rounds": 1}, {"model": "00" * 32}):
        play.refused(end(play, **changed), "does not follow from its rounds")
    play.refused(end(play, job="job-2"), "no running job")
    results = []
    for number in range(1, 11):
        model = {"weight": np.full((1, 30), number, np.float32), "bias": np.ones(1, np.float32)}
        play.view.models[model_hash(model)] = model
        update = {"round": number, "model_after": model_hash(model)}
        results.append(play.derive().model_copy(update=update))
    play.view.past = results
    mean = {"weight": np.full((1, 30), 8, np.float32), "bias": np.ones(1, np.float32)}
    released = {"status": "finished", "rounds": 10, "model": model_hash(mean)}
    check_block(play.view, end(play, **released))
    play.refused(end(play, **{**released, "model": results[-1].model_after}), "does not follow")
    play.refused(end(play, **{**released, "status": "stopped"}), "does not follow")


@pytest.mark.parametrize("count", [0, 2])
def test_other_blocks_are_refused(play: Play, count: int) -> None:
    for entries in ([], end(play) * 2, [play.records.closes[0]] * count, [*play.records.all()]):
        with pytest.raises(ConsortiumError):
            check_block(play.view, entries)
