"""Accounts summed from an export, and the double entry behind each round's credits."""

from pathlib import Path
from typing import Any

import pytest
from exported_ledger import Ledger, audited
from hypothesis import given, settings
from hypothesis import strategies as st
from rounds_examples import CREDITS, finding, make_context, names, reveal_all, submissions, verdict

from consortium import weights as weight_forms
from consortium.accounts import accounts_of_export
from consortium.cli.main import app
from consortium.cli.run import run
from consortium.errors import JobMissing, RoundInvalid
from consortium.rounds.checks import examine
from consortium.rounds.result import RoundRecords, derive_result
from ledger.errors import GenesisMismatch, LedgerMissing, RangeInvalid
from ledger.records import Result

CODES = st.sampled_from(["Accepted", "Accepted", "Accepted", "NearCopy", "StepTooLarge"])
FINDINGS = st.tuples(CODES, st.integers(-20, 20), st.booleans(), st.integers(0, 50))
VERDICTS = st.lists(st.lists(FINDINGS, min_size=4, max_size=4), min_size=4, max_size=4)


def played(root: Path) -> tuple[Ledger, list[Result]]:
    """Two jobs; in the second a hospital copies an earlier step, in vain."""
    results: list[Result] = []
    with audited(root) as ledger:
        ledger.add(ledger.sign(ledger.job()))
        for before in range(2):
            round = ledger.play(before=before)
            results.append(ledger.derived(round))
            ledger.add(*ledger.round(round))
        shown = round.examined["hospital-1"].weights
        assert shown is not None
        step = weight_forms.vector(shown) - weight_forms.vector(round.context.model)
        ledger.add(ledger.end("finished"))
        ledger.add(ledger.sign(ledger.job("job-2")))
        copied = ledger.play(before=2, h4=step)
        results.append(ledger.derived(copied))
        ledger.add(*ledger.round(copied))
    assert [proof.code for proof in results[-1].proofs].count("NearCopy") == 1
    return ledger, results


def earned(results: list[Result], name: str) -> dict[str, int]:
    """The long way."""
    own = [proof for result in results for proof in result.proofs if proof.institution == name]
    accepted = [proof for proof in own if proof.code == "Accepted"]
    return {
        "accepted": len(accepted),
        "rejected": len(own) - len(accepted),
        "absent": 0,
        "learner": sum(result.learner == name for result in results),
        "shapley": sum(proof.shapley or 0 for proof in accepted),
        "learning": sum(proof.credits for proof in own),
        "verdicts": sum(f.credits for r in results for f in r.fees if f.institution == name),
        "bonus": sum(result.bonus for result in results if result.learner == name),
    }


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, list[Result]]:
    root = tmp_path_factory.mktemp("accounts")
    ledger, results = played(root / "contents")
    return ledger.export(root / "export", contents=False), ledger.id, results


def test_accounts_are_the_sums_of_what_results_say(
    export: tuple[Path, str, list[Result]],
) -> None:
    folder, genesis, results = export
    accounts = accounts_of_export(folder, genesis)
    assert (accounts.ledger, accounts.height) == (genesis, 6)
    for job, of_job in ((None, results), ("job-1", results[:2]), ("job-2", results[2:])):
        totals = accounts.totals(job)
        assert {name: vars(account) for name, account in totals.items()} == {
            name: earned(of_job, name) for name in names(4)
        }
        assert sum(account.credits for account in totals.values()) == 1000 * len(of_job)
    lines = accounts.statement("hospital-1")
    assert {job: vars(account) for job, account in lines.items()} == {
        "job-1": earned(results[:2], "hospital-1"), "job-2": earned(results[2:], "hospital-1"),
    }  # fmt: skip


def test_the_command_prints_them_within_a_terminal(
    export: tuple[Path, str, list[Result]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _, results = export
    own = earned(results, "hospital-2")
    for arguments, credits in (
        (["list"], 3000),
        (["list", "--job", "job-2"], 1000),
        (["statement", "hospital-2"], own["learning"] + own["verdicts"] + own["bonus"]),
    ):
        with pytest.raises(SystemExit):
            run(app, ["reward", *arguments, "--export", str(folder)])
        lines = capsys.readouterr().out.splitlines()
        (total,) = (line for line in lines if line.startswith("│ all"))
        assert total.split("│")[-2].strip() == f"{credits:,}"
        assert max(map(len, lines)) <= 100


def test_who_and_what_is_not_there_is_named(export: tuple[Path, str, list[Result]]) -> None:
    folder, _, _ = export
    accounts = accounts_of_export(folder)
    with pytest.raises(JobMissing):
        accounts.totals("job-3")
    with pytest.raises(LedgerMissing, match="takes part in no job up to block 6"):
        accounts.statement("hospital-9")
    with pytest.raises(GenesisMismatch):
        accounts_of_export(folder, "00" * 32)


def test_a_result_that_pays_other_than_it_mints_is_named(tmp_path: Path) -> None:
    """A quorum that lies together signs it; plain verification does not look."""
    for changed in ({"minted": 999}, {"bonus": 101}, {"fees": ()}):
        with audited(tmp_path / f"{changed}") as ledger:
            ledger.add(ledger.sign(ledger.job()))
            ledger.lie(*ledger.round(ledger.play(), **changed))
            out = ledger.export(tmp_path / f"export {changed}", contents=False)
        with pytest.raises(RoundInvalid, match=r"round 1 of job-1 pays \d+ credits and mints"):
            accounts_of_export(out)


def test_an_export_that_begins_later_has_no_accounts(tmp_path: Path) -> None:
    with audited(tmp_path / "contents") as ledger:
        ledger.add(ledger.sign(ledger.job()))
        ledger.add(*ledger.round(ledger.play()))
        out = ledger.export(tmp_path / "export", first=2, contents=False)
    with pytest.raises(RangeInvalid, match="begin with the genesis"):
        accounts_of_export(out)


CONTEXT = make_context(4)
REVEALED = reveal_all(submissions(CONTEXT))
EXAMINED = examine(CONTEXT, REVEALED.commitments, REVEALED.reveals)


@given(
    st.lists(st.lists(FINDINGS, min_size=4, max_size=4), min_size=4, max_size=4), st.integers(0, 4)
)
@settings(max_examples=25, deadline=None)
def test_whatever_is_found_a_round_pays_its_pool_or_nothing(
    said: list[list[tuple[str, int, bool, int]]], validators: int
) -> None:
    proofs = tuple(REVEALED.reveals[name].proof for name in names(4))
    verdicts = []
    for author, findings in list(zip(names(4), said, strict=True))[:validators]:
        bodies: list[Any] = [
            finding(name, code=code, shapley=25 * shapley, harmful=harmful, score=200 * score)
            for name, (code, shapley, harmful, score) in zip(names(4), findings, strict=True)
        ]
        verdicts.append(verdict(CONTEXT, author, REVEALED.digest, bodies, proofs))
    records = RoundRecords(REVEALED.commitments, (), (), proofs, tuple(verdicts))
    result, _ = derive_result(CONTEXT, records, EXAMINED, CREDITS, ())
    learning = sum(proof.credits for proof in result.proofs)
    paid = learning + sum(fee.credits for fee in result.fees) + result.bonus
    assert paid == result.minted == (0 if result.void else CREDITS.pool)
    assert result.void == all(proof.code != "Accepted" for proof in result.proofs)
    rejected = {
        proof.institution for proof in result.proofs if proof.code not in ("Accepted", "NoQuorum")
    }
    assert not rejected & {fee.institution for fee in result.fees}
    assert all(proof.credits == 0 for proof in result.proofs if proof.code != "Accepted")
