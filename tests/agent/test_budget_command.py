"""`hospital-agent budget` and a job's card: spent, reserved and left, on sampled batches too."""

import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from commands import ok, refused
from consortium_in_memory import TASK, Consortium, copy_of

from consortium.contract import JobOrder, make_job
from consortium.phases import Phase
from hospital_agent.budget_plot import bar
from hospital_agent.budget_view import cohort_views
from hospital_agent.job_card import job_card
from ledger.records import Job, Proof, SampledSpend
from privacy.accounting import RenyiAccountant

ONE = "hospital-1"
SVG = "{http://www.w3.org/2000/svg}"


def sampled_job(four: Consortium, name: str = "job-2", **changes: Any) -> Job:
    """A job of two rounds, each patient in every second batch."""
    order = JobOrder(TASK, 2, Decimal(1), Decimal("0.00001"), 0, sample_rate=Decimal("0.5"))
    declared = {p.institution: p.weight for p in four.job.participants}
    return make_job(four.newest.ledger, name, replace(order, **changes), declared)


@pytest.fixture(scope="module")
def after_round(founded: Consortium, tmp_path_factory: pytest.TempPathFactory) -> Consortium:
    consortium = copy_of(founded, tmp_path_factory.mktemp("sampled"))
    job = sampled_job(consortium)
    consortium.add([consortium.end_job("stopped", 0, consortium.job.initial_model)])
    consortium.add([consortium.sign(job)])
    consortium.play_round(1)
    return consortium


@pytest.fixture
def sampling(after_round: Consortium, tmp_path: Path) -> Consortium:
    """Four hospitals after the first of two rounds on sampled batches."""
    return copy_of(after_round, tmp_path / "sampling")


def shown(four: Consortium) -> dict[str, Any]:
    done = ok("hospital-agent", "budget", "--home", four.folders[ONE].path, "--format", "json")
    (cohort,) = json.loads(done.out)
    assert isinstance(cohort, dict)
    return cohort


def test_a_cohort_on_full_batches(four: Consortium, tmp_path: Path) -> None:
    before = shown(four)
    assert (before["epsilon_spent"], before["share_spent"], before["jobs"]) == ("0.0000", 0, [])
    four.play(1, Phase.REVEAL)
    cohort = shown(four)
    assert (cohort["accountant"], cohort["order"]) == ("gaussian", None)
    assert 0 < Decimal(cohort["epsilon_spent"]) < 2
    assert cohort["epsilon_spent_by_pld"] == cohort["epsilon_spent"]  # exact, both
    assert cohort["epsilon_with_reserved_by_pld"] == "2.0000"
    (job,) = cohort["jobs"]
    assert (job["job"], job["rounds_charged"], job["rounds_reserved"]) == ("job-1", 1, 2)
    assert job["share_reserved"] == pytest.approx(2 * job["share_spent"], abs=2e-4)
    plot = tmp_path / "budget.svg"
    done = ok("hospital-agent", "budget", "--home", four.folders[ONE].path, "--plot", plot)
    assert "[#" in done.out
    assert "=" in done.out.split("[#")[1]
    assert "no stopping rule" in " ".join(done.out.split())
    assert max(map(len, done.out.splitlines())) <= 80
    before = plot.read_bytes()
    for name in ("budget.png", "budget"):
        picture = ("budget", "--home", four.folders[ONE].path, "--plot", tmp_path / name)
        refused("OptionInvalid", "hospital-agent", *picture)
        assert not (tmp_path / name).exists()
    assert plot.read_bytes() == before
    labels = {title.text for title in ElementTree.parse(plot).iter(f"{SVG}title")}
    assert f"job-1: spent, {job['share_spent']:.1%}" in labels
    assert f"job-1: reserved, {job['share_reserved']:.1%}" in labels


def test_a_round_on_sampled_batches_is_accepted_by_all(sampling: Consortium) -> None:
    (view,) = cohort_views(sampling.folders[ONE])
    assert isinstance(view.status.accountant, RenyiAccountant)
    entries = [entry.record for block in sampling.api.blocks for entry in block.entries]
    proofs = [record for record in entries if isinstance(record, Proof)]
    assert {proof.author for proof in proofs} == set(sampling.folders)
    assert all(isinstance(proof.spend, SampledSpend) for proof in proofs)
    outcome = sampling.api.blocks[-1].entries[-1].record
    assert {one.code for one in outcome.proofs} == {"Accepted"}  # type: ignore[attr-defined]
    assert set(sampling.api.cosignatures[sampling.newest.header.height]) == set(sampling.folders)
    sampling.play_round(2)
    (after,) = cohort_views(sampling.folders[ONE])
    assert after.status.epsilon_spent > view.status.epsilon_spent


def test_a_cohort_on_sampled_batches(sampling: Consortium) -> None:
    home = sampling.folders[ONE].path
    cohort = shown(sampling)
    assert (cohort["accountant"], cohort["order"]) == ("renyi", 7)
    for enforced, by_pld in [("spent", "spent_by_pld"), ("reserved", "with_reserved_by_pld")]:
        assert Decimal(cohort[f"epsilon_{by_pld}"]) > 0
        assert Decimal(cohort[f"epsilon_{enforced}"]) > 0
    assert Decimal(cohort["epsilon_spent_by_pld"]) < Decimal(cohort["epsilon_spent"])
    assert len(json.loads((home / "pld.json").read_text())) == 2
    assert (home / "pld.json").stat().st_mode & 0o077 == 0
    assert shown(sampling) == cohort
    next_job = sampled_job(sampling, "job-3", epsilon=Decimal(2), sample_rate=Decimal("0.2"))
    card = job_card(sampling.folders[ONE], next_job)
    assert card.answer == "takes part"
    assert card.cost.startswith("uses 2 of ")
    assert card.by_pld.startswith("epsilon after ")
    after = Decimal(card.cost.split("epsilon after ")[1].split(",")[0])
    assert 0 < Decimal(card.by_pld.split("after ")[1].split(" ")[0].rstrip(".")) < after


def test_a_job_on_sampled_batches_after_full_ones_were_released(four: Consortium) -> None:
    four.play_round(1)
    card = job_card(four.folders[ONE], sampled_job(four))
    assert card.answer == "AccountantFixed"
    assert "full-batch" in card.cost


def test_what_is_there_shows_however_little_it_is(four: Consortium) -> None:
    four.play(1, Phase.REVEAL)
    (view,) = cohort_views(four.folders[ONE])
    (part,) = view.parts
    tiny = replace(view, parts=(replace(part, spent=1e-9, reserved=0.0),))
    assert bar(tiny, 10) == "[#.........]"
    full = replace(view, parts=(replace(part, spent=0.7, reserved=0.31),))
    assert bar(full, 10) == "[#######===]"
    assert bar(replace(view, parts=()), 10) == "[..........]"
