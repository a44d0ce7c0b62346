"""A committee through participants and witnesses: three of four give the verdicts, all co-sign.

A real one is of 21 at least; the rule for its size is all that is replaced here.
"""

from decimal import Decimal

import pytest
from consortium_in_memory import TASK, Consortium

from consortium.contract import JobOrder, make_job
from consortium.phases import Phase
from consortium.rounds.committee import committee
from ledger.records import Proof, Result


def test_who_is_not_on_the_committee_gives_no_verdict_and_cosigns_the_round(
    four: Consortium, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consortium.contract.committee_size", lambda _: 3)
    order = JobOrder(TASK, 1, Decimal(1), Decimal("0.00001"), 0)
    declared = {p.institution: p.weight for p in four.job.participants}
    four.add([four.end_job("stopped", 0, four.job.initial_model)])
    four.add([four.sign(make_job(four.newest.ledger, "job-2", order, declared))])
    four.play(1, Phase.REVEAL)
    proofs = [r for entry in four.records.proofs if isinstance(r := entry.record, Proof)]
    judges = committee(four.context(), proofs)
    (outsider,) = set(four.folders) - judges
    silent = sorted(judges)[0]
    replies = four.ask(Phase.VERIFY, names=sorted({*four.folders} - {silent}))
    assert replies[outsider].error == "NotOnCommittee"
    assert replies[outsider].entries == ()
    entries, _ = four.result()
    result = entries[-1].record
    assert isinstance(result, Result)
    assert {outcome.code for outcome in result.proofs} == {"Accepted"}
    (absence,) = result.absent  # and nobody misses the outsider's
    assert (absence.institution, absence.phase) == (silent, "verify")
    four.add(entries)
    assert set(four.api.cosignatures[four.newest.header.height]) == set(four.folders)
