"""f lying validators change no acceptance on which the honest agree; one more can.

And where verdicts divide, that is counted, and told.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from random import Random
from typing import Any

import pytest
from rounds_examples import (
    CREDITS,
    Revealed,
    all_records,
    finding,
    make_context,
    names,
    reveal_all,
    submissions,
    verdict,
)

from consortium.rounds.checks import Examined, RoundContext, examine
from consortium.rounds.result import RoundRecords, derive_result
from consortium.rounds.splits import Split, splits
from ledger.content import model_hash
from ledger.quorum import faulty
from ledger.records import ACCEPTED, Finding, Outcome, Result

SIZES = (4, 7, 10)
CODES = (ACCEPTED, "NearCopy", "StepTooLarge", "CommitmentMismatch", "UpdateNotFinite")
Says = Mapping[str, dict[str, Any]]
"""What a validator finds of each proof."""


@dataclass(frozen=True)
class Judged:
    """A round whose verdicts are still to be given: who did what is known, code by code."""

    context: RoundContext
    revealed: Revealed
    records: RoundRecords
    examined: Mapping[str, Examined]

    def decided(self, says: Mapping[str, Says]) -> tuple[Result, str, list[Split]]:
        """The result, the model's hash and the splits, given what each validator says."""
        verdicts = tuple(self._verdict(author, said) for author, said in sorted(says.items()))
        result, model = derive_result(
            self.context, replace(self.records, verdicts=verdicts), self.examined, CREDITS, ()
        )
        found = splits([*(entry.record for entry in verdicts), result])
        return result, model_hash(model), list(found)

    def _verdict(self, author: str, said: Says) -> Any:
        findings: Iterable[Finding] = (finding(name, **said[name]) for name in sorted(said))
        return verdict(
            self.context, author, self.revealed.digest, findings, self.records.proofs
        )  # fmt: skip


@lru_cache
def judged(n: int) -> Judged:
    """Of n proofs the last but one fails check 5."""
    context = make_context(n)
    revealed = reveal_all(submissions(context))
    examined = examine(context, revealed.commitments, revealed.reveals)
    assert {found.code for found in examined.values()} == {ACCEPTED}
    bad = names(n)[-2]
    examined[bad] = Examined("StepTooLarge", examined[bad].weights)
    return Judged(context, revealed, all_records(context, revealed), examined)


def honest(of: Judged, author: str, harmful: str, random: Random) -> Says:
    """Honest members agree on codes and on the one harmful proof; their patients differ."""
    said: dict[str, dict[str, Any]] = {}
    for name, found in of.examined.items():
        judges = found.code == ACCEPTED and name != author
        said[name] = {
            "code": found.code,
            "harmful": name == harmful if judges else _stays_out(found.code, name, author),
            "score": random.randrange(8000, 9001, 200) if judges else None,
            "shapley": random.randrange(-100, 301, 25) if judges else None,
        }
    return said


def _stays_out(code: str, name: str, author: str) -> bool | None:
    """What is said of a proof that goes against the others': nobody would miss what it taught."""
    return True if code == "Harmful" and name != author else None


def lies(of: Judged, random: Random) -> Says:
    return {
        name: {
            "code": random.choice(CODES),
            "harmful": random.choice((True, False, None)),
            "score": random.choice((0, 10_000, None)),
            "shapley": random.choice((-10_000, 10_000, None)),
        }
        for name in of.examined
    }


def condemns(of: Judged, victim: str) -> Says:
    """Calls one proof a copy, and harmful, and praises the one that is not in order."""
    worthless = {"code": "NearCopy", "harmful": True, "score": 0, "shapley": -10_000}
    return {name: worthless if name == victim else {} for name in of.examined}


def codes(result: Result) -> dict[str, str]:
    return {outcome.institution: outcome.code for outcome in result.proofs}


def outcome(result: Result, name: str) -> Outcome:
    return next(o for o in result.proofs if o.institution == name)


@pytest.mark.parametrize("n", SIZES)
def test_f_liars_change_no_acceptance_on_which_the_honest_agree(n: int) -> None:
    of, random = judged(n), Random(n)
    for trial in range(12):
        liars = random.sample(names(n), faulty(n))
        harmful = random.choice([*names(n), ""])
        truth = {name: honest(of, name, harmful, random) for name in names(n)}
        expected = {
            name: "Harmful" if name == harmful and found.code == ACCEPTED else found.code
            for name, found in of.examined.items()
        }
        first, model, divided = of.decided(truth)
        assert (codes(first), divided) == (expected, [])
        told: dict[str, Says] = {**truth, **{name: lies(of, random) for name in liars}}
        for silent in random.sample(liars, trial % 2):
            del told[silent]
        result, changed, _ = of.decided(told)
        assert codes(result) == expected
        assert changed == model
        _medians_lie_between_the_honest(result, truth, liars)


def _medians_lie_between_the_honest(
    result: Result, truth: Mapping[str, Says], liars: Iterable[str]
) -> None:
    for one in result.proofs:
        said = [s[one.institution] for by, s in truth.items() if by not in liars]
        for measure in ("score", "shapley"):
            values = [s[measure] for s in said if s[measure] is not None]
            if values:
                assert min(values) <= getattr(one, measure) <= max(values)


@pytest.mark.parametrize("n", SIZES)
def test_one_liar_more_can_change_it(n: int) -> None:
    of, random, victim = judged(n), Random(n), names(n)[0]
    truth = {name: honest(of, name, "", random) for name in names(n)}
    liars = names(n)[1 : faulty(n) + 2]
    told = {**truth, **{name: condemns(of, victim) for name in liars}}
    assert outcome(of.decided(told)[0], victim).code == "NearCopy"


def test_at_four_one_liar_more_can_call_a_proof_harmful() -> None:
    of, random, victim = judged(4), Random(0), names(4)[0]
    told = {name: honest(of, name, "", random) for name in names(4)}
    for many, code in ((1, ACCEPTED), (2, "Harmful")):
        liar = names(4)[many]
        told[liar] = {**told[liar], victim: {"harmful": True}}
        assert outcome(of.decided(told)[0], victim).code == code


def test_where_the_honest_abstain_liars_alone_find_no_harm() -> None:
    """At n = 7 two may lie: a majority of those who vote, and no more than may lie."""
    of, random, victim = judged(7), Random(0), names(7)[0]
    truth = {name: honest(of, name, "", random) for name in names(7)}
    abstains = {"harmful": None, "score": None, "shapley": None}
    told = {name: {**said, victim: {**said[victim], **abstains}} for name, said in truth.items()}
    for liar in names(7)[1:3]:
        told[liar] = {**truth[liar], victim: {"harmful": True}}
    assert outcome(of.decided(told)[0], victim).code == ACCEPTED
    told[names(7)[3]] = {**truth[names(7)[3]], victim: {"harmful": True}}
    assert outcome(of.decided(told)[0], victim).code == "Harmful"


def test_a_split_of_honest_verdicts_is_counted() -> None:
    of, random = judged(4), Random(0)
    truth = {name: honest(of, name, "", random) for name in names(4)}
    one, two = names(4)[:2]
    truth[two] = {**truth[two], one: {"harmful": True}}
    result, _, (split,) = of.decided(truth)
    assert outcome(result, one).code == ACCEPTED
    assert split == Split(1, 1, one, ACCEPTED, 1, 3, {})
    assert split.text() == "round 1, hospital-1: Accepted; harmful to 1 of 3"
    assert {fee.institution for fee in result.fees} == {one, two, "hospital-4"}


def test_who_finds_another_code_is_named_and_not_paid() -> None:
    of, random, liar = judged(4), Random(0), "hospital-4"
    truth = {name: honest(of, name, "", random) for name in names(4)}
    told = {**truth, liar: {**truth[liar], "hospital-1": {"code": "NearCopy"}, "hospital-3": {}}}
    result, _, (accepted, rejected) = of.decided(told)
    assert codes(result) == codes(of.decided(truth)[0])
    assert accepted == Split(1, 1, "hospital-1", ACCEPTED, 0, 3, {liar: "NearCopy"})
    assert (rejected.code, rejected.others) == ("StepTooLarge", {liar: ACCEPTED})
    assert [fee.institution for fee in result.fees] == ["hospital-1", "hospital-2"]
    assert result.minted == CREDITS.pool


def test_nobody_is_named_for_finding_what_the_steps_show() -> None:
    """Check 8's first part is a code like those of checks 1 to 7: all honest members find it."""
    of, random, against = judged(4), Random(0), "hospital-1"
    shown = {**of.examined, against: Examined("Harmful", of.examined[against].weights)}
    of = replace(of, examined=shown)
    truth = {name: honest(of, name, "", random) for name in names(4)}
    result, _, divided = of.decided(truth)
    assert outcome(result, against).code == "Harmful"
    assert divided == []
    liar = "hospital-4"
    told = {**truth, liar: {**truth[liar], against: {"code": ACCEPTED}}}
    result, _, (split,) = of.decided(told)
    assert (split.code, split.others) == ("Harmful", {liar: ACCEPTED})
    assert liar not in {fee.institution for fee in result.fees}


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("missed", [False, True])
def test_f_liars_neither_spare_nor_take_out_who_goes_against_the_others(
    n: int, missed: bool
) -> None:
    """Where all honest patients speak for it, or none; one liar more can."""
    of, liars = judged(n), (n - 1) // 3
    named = {**of.examined, "hospital-1": Examined("Harmful", of.examined["hospital-1"].weights)}
    of = replace(of, examined=named)
    says: dict[str, Says] = {}
    for name in names(n):
        said = honest(of, name, "", Random(0))
        own = None if name == "hospital-1" else not missed
        says[name] = {**said, "hospital-1": {**said["hospital-1"], "harmful": own}}
    truth = outcome(of.decided(says)[0], "hospital-1").code
    assert truth == (ACCEPTED if missed else "Harmful")
    for number, name in enumerate(reversed(names(n)), start=1):
        says[name] = {**says[name], "hospital-1": {**says[name]["hospital-1"], "harmful": missed}}
        found = outcome(of.decided(says)[0], "hospital-1").code
        if number <= liars:
            assert found == truth
    assert found != truth


def test_without_a_quorum_all_that_was_found_is_told() -> None:
    of, random = judged(4), Random(0)
    truth = {name: honest(of, name, "", random) for name in names(4)}
    truth["hospital-4"] = {**truth["hospital-4"], "hospital-1": {"code": "NearCopy"}}
    del truth["hospital-2"]
    result, _, divided = of.decided(truth)
    (split,) = (s for s in divided if s.institution == "hospital-1")
    assert outcome(result, "hospital-1").code == split.code == "NoQuorum"
    assert split.others == {
        "hospital-1": ACCEPTED, "hospital-3": ACCEPTED, "hospital-4": "NearCopy",
    }  # fmt: skip
