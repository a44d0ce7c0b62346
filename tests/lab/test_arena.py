"""The consortium in memory: its rounds are those of the rules, repeatable, on real patients."""

from dataclasses import replace
from decimal import Decimal

from consortium import tasks
from consortium.contract import JobOrder, check_job
from consortium.enrolment import check_member
from consortium.lab.arena import Arena
from ledger.content import model_hash
from privacy.training import train

CHEAT = "hospital-2"


def found(seed: int = 0, **options) -> Arena:
    order = JobOrder("breast-cancer", 10, Decimal(1), Decimal("0.00001"), seed)
    return Arena.found(order, **options)


def test_honest_rounds_are_accepted_and_mint_their_pool() -> None:
    arena = found()
    check_job(arena.job, arena.context.members)
    for member in arena.context.members.values():
        check_member(member)
    for place in (1, 2):
        played = arena.play(arena.honest_submissions())
        assert set(played.codes.values()) == {"Accepted"}
        assert (played.result.round, played.result.absent) == (place, ())
        assert model_hash(arena.models[-1]) == played.result.model_after
    assert sum(arena.credits().values()) == 2 * arena.policy.pool
    assert arena.test_auroc() > 0.9


def test_the_same_seed_plays_the_same_round_and_another_one_does_not() -> None:
    results = [arena.play(arena.honest_submissions()).result for arena in map(found, (0, 0, 1))]
    assert results[0] == results[1]
    assert results[0].model_after != results[2].model_after


def test_a_copy_is_rejected_and_where_nothing_is_defended_it_is_not() -> None:
    for defended, code in ((True, "NearCopy"), (False, "Accepted")):
        arena = found(defended=defended)
        submissions = arena.honest_submissions()
        submissions[CHEAT] = arena.submit(CHEAT, arena.trained("hospital-1"))
        played = arena.play(submissions)
        assert played.codes[CHEAT] == code
        assert played.examined[CHEAT].code == "NearCopy"


def test_who_commits_and_does_not_reveal_is_absent_and_may_come_back() -> None:
    arena = found()
    others = [name for name in arena.hospitals if name != CHEAT]
    played = arena.play(arena.honest_submissions(), revealing=others)
    assert [(a.institution, a.phase) for a in played.result.absent] == [(CHEAT, "reveal")]
    assert set(arena.play(arena.honest_submissions()).codes.values()) == {"Accepted"}


def test_what_is_committed_binds() -> None:
    arena = found()
    submissions = arena.honest_submissions()
    submissions[CHEAT] = replace(submissions[CHEAT], committed={"salt": b"\x01" * 32})
    assert arena.play(submissions).codes[CHEAT] == "CommitmentMismatch"


def test_a_validator_may_lie_or_be_silent() -> None:
    arena = found()
    lie = arena.play(
        arena.honest_submissions(),
        judge=lambda name, honest: (
            None if name == "hospital-4"
            else tuple(f.model_copy(update={"harmful": True}) for f in honest)
            if name == CHEAT else honest
        ),
    )  # fmt: skip
    assert set(lie.codes.values()) == {"Accepted"}
    assert [v.record.author for v in lie.records.verdicts] == [f"hospital-{i}" for i in (1, 2, 3)]
    assert [(a.institution, a.phase) for a in lie.result.absent] == [("hospital-4", "verify")]


def test_next_to_no_noise_trains_as_without() -> None:
    arena = found(private=False, contributions=False)
    x, y = arena.hospitals[CHEAT].train
    task, terms = tasks.get("breast-cancer"), arena.participant(CHEAT).terms
    bare = task.model()
    plain = task.terms(10, None, Decimal("0.00001"), terms.normaliser)
    train(bare, task.loss, x, y, plain, arena.noise(CHEAT))
    noised = arena.trained(CHEAT)
    moved = bare.weight.detach().numpy()
    assert abs(noised["weight"] - moved).max() < 0.1 * abs(moved).max()
    assert float(terms.epsilon) > 100
