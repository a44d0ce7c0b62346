"""`hospital-agent privacy audit`: what it prints, and that its exit code says what it found."""

import json
from decimal import Decimal

import pytest
import torch
from commands import call, ok
from consortium_in_memory import Consortium

from hospital_agent.cli.privacy import FINDS
from hospital_agent.policy import Policy
from privacy import closed_form
from privacy.clipping import clip_factors

ONE = "hospital-1"


def test_a_jobs_own_constants_are_audited(four: Consortium) -> None:
    home = four.folders[ONE].path
    named = ("--home", home, "--job", four.job.job, "--jobs", "1000")
    done = ok("hospital-agent", "privacy", "audit", *named, "--format", "json")
    found = json.loads(done.out)
    (own,) = (p for p in four.job.participants if p.institution == ONE)
    assert found["terms"] == own.terms.model_dump()
    assert found["task"] == four.job.task
    assert all(check["passed"] for check in found["mechanism"])
    bound = found["two_worlds"]
    assert bound["passed"]
    assert bound["jobs"] == 1000
    assert str(bound["epsilon_claimed"]).rstrip("0").rstrip(".") == own.terms.epsilon
    assert found["what_it_finds"] == list(FINDS)


def test_by_default_the_policys_limit_for_a_job_is_audited(
    four: Consortium, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = four.folders[ONE].path
    asked = ("hospital-agent", "privacy", "audit", "--home", home, "--jobs", "2000")
    done = ok(*asked)
    assert "epsilon is at least" in done.out
    policy = Policy.read(home / "policy.json")
    limit = Decimal(policy.job_epsilon or policy.lifetime_epsilon)
    assert f"claimed {limit:.3f}" in done.out
    assert all(text in " ".join(done.out.split()) for text in FINDS)
    assert "verified" not in done.out

    def doubled(squared: torch.Tensor, clip: float, clipping: str) -> torch.Tensor:
        return 4 * clip_factors(squared, clip, clipping)

    monkeypatch.setattr(closed_form, "clip_factors", doubled)
    done = call(*asked, "--epsilon", "3")
    assert done.code == 1
    assert "NOT AS PROMISED" in done.out
    assert "MORE THAN CLAIMED" in done.out


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (("--epsilon", "much"), "OptionInvalid"),
        (("--epsilon", "-1"), "EpsilonInvalid"),
        (("--epsilon", "1e9"), "OptionInvalid"),
        (("--task", "none"), "TaskUnknown"),
        (("--job", "none"), "JobUnknown"),
        (("--job", "job-1", "--epsilon", "1"), "OptionInvalid"),
    ],
)
def test_what_cannot_be_audited_is_said(
    four: Consortium, options: tuple[str, ...], code: str
) -> None:
    done = call("hospital-agent", "privacy", "audit", "--home", four.folders[ONE].path, *options)
    assert done.code == 1
    assert f"error[{code}]" in done.err
    assert "Traceback" not in done.err
