"""What the data owner allows: defaults, limits, the command, and files of every form."""

import json
from dataclasses import asdict
from decimal import Decimal
from pathlib import Path

import pytest
from commands import ok, refused
from consortium_in_memory import TASK, Consortium

from consortium import tasks
from consortium.phases import Phase
from hospital_agent.cohort import Cohort
from hospital_agent.errors import FolderInvalid, PolicyInvalid, PolicyRefused
from hospital_agent.folder import HospitalFolder
from hospital_agent.policy import Policy, allow_task, asked, change_policy, default_policy
from privacy.errors import EpsilonInvalid, EpsilonOutOfPolicy

ONE = "hospital-1"
OLD = {"lifetime_epsilon": "3", "delta": "0.00001", "tasks": [TASK], "fewest_institutions": 2}


@pytest.fixture
def folder(tmp_path: Path) -> HospitalFolder:
    return HospitalFolder.create(tmp_path / "h", ONE, "Hospital 1")


def test_without_a_policy_no_task_is_allowed(folder: HospitalFolder, four: Consortium) -> None:
    policy = Policy.read(folder.path / "policy.json")
    assert policy == default_policy()
    assert (policy.tasks, policy.fewest_institutions, policy.job_epsilon) == ((), 3, "1")
    with pytest.raises(PolicyRefused, match=r"^tasks: "):
        policy.check(four.job, Decimal("0.1"))
    assert not (folder.path / "policy.json").exists()


def test_an_old_policy_reads_and_limits_a_job_by_the_lifetime(folder: HospitalFolder) -> None:
    path = folder.path / "policy.json"
    path.write_text(json.dumps(OLD))
    policy = Policy.read(path)
    assert policy == Policy("3", "0.00001", (TASK,), fewest_institutions=2)
    assert (policy.job_epsilon, policy.approval, policy.app) == (None, "never", "installed")
    assert (policy.evaluations, policy.evaluation_limit) == ("banded", 100)
    assert (policy.fewest_alike, policy.left_out_percent) == (0, 5)
    assert policy.fewest_of_a_class == 5


def test_what_is_written_reads_the_same(folder: HospitalFolder) -> None:
    policy = Policy("2.5", "0.0001", (TASK,), 4, "0.5", "always", ("a" * 64, "b" * 64), "none", 7)
    policy.write(folder.path / "policy.json")
    assert Policy.read(folder.path / "policy.json") == policy


@pytest.mark.parametrize(
    "changed",
    [
        {"lifetime_epsilon": 3}, {"lifetime_epsilon": "NaN"}, {"delta": "1"}, {"tasks": "all"},
        {"tasks": [1]}, {"fewest_institutions": 0}, {"fewest_institutions": True},
        {"approval": "sometimes"}, {"app": "any"}, {"app": []}, {"app": ["A" * 64]},
        {"job_epsilon": "-1"}, {"job_epsilon": "much"}, {"unheard": 1}, {"evaluations": "exact"},
        {"evaluation_limit": -1}, {"evaluation_limit": True}, {"evaluation_limit": "many"},
        {"fewest_of_a_class": 4}, {"fewest_of_a_class": True}, {"fewest_of_a_class": "10"},
        {"fewest_alike": 1}, {"fewest_alike": -5}, {"fewest_alike": True}, {"fewest_alike": "5"},
        {"left_out_percent": 51}, {"left_out_percent": -1}, {"left_out_percent": 0.05},
    ],
)  # fmt: skip
def test_a_policy_of_another_form_allows_nothing(
    folder: HospitalFolder, changed: dict[str, object]
) -> None:
    path = folder.path / "policy.json"
    path.write_text(json.dumps(OLD | changed))
    with pytest.raises(FolderInvalid):
        Policy.read(path)


@pytest.mark.parametrize(
    ("rule", "policy", "epsilon"),
    [
        ("tasks", Policy("3", "0.00001", ("heart-disease",)), "1"),
        ("fewest_institutions", Policy("3", "0.00001", (TASK,), 5), "1"),
        ("job_epsilon", Policy("3", "0.00001", (TASK,), 1, "0.9"), "0.9001"),
        ("lifetime_epsilon", Policy("3", "0.00001", (TASK,)), "3.0001"),
        ("lifetime_epsilon", Policy("3", "0.00001", (TASK,)), "Infinity"),
    ],
)
def test_a_refusal_names_the_rule(
    four: Consortium, rule: str, policy: Policy, epsilon: str
) -> None:
    with pytest.raises(PolicyRefused, match=f"^{rule}: "):
        policy.check(four.job, Decimal(epsilon))


def test_a_job_at_the_limits_is_allowed(four: Consortium) -> None:
    Policy("3", "0.00001", (TASK,), 4, "0.9").check(four.job, Decimal("0.9"))


def test_a_claim_at_a_larger_delta_does_not_look_smaller() -> None:
    policy = Policy("3", "0.00001", (TASK,), 1, "1")
    task = tasks.get(TASK)
    honest = task.terms(10, Decimal(1), Decimal("0.00001"), 100)
    assert asked(honest, policy) == 1
    flattered = task.terms(10, Decimal(1), Decimal("0.1"), 100)
    assert asked(flattered, policy) > 2
    assert asked(task.terms(10, None, Decimal("0.00001"), 100), policy) == Decimal("Infinity")


def test_only_allowed_bundles_run() -> None:
    own, other = "a" * 64, "b" * 64
    installed, listed = Policy("3", "0.1", ()), Policy("3", "0.1", (), app=(other,))
    installed.check_app(own, own)
    listed.check_app(other, own)
    for policy, bundle in [(installed, other), (listed, own)]:
        with pytest.raises(PolicyRefused, match=r"^app: "):
            policy.check_app(bundle, own)


def test_each_field_is_set_by_the_command(folder: HospitalFolder) -> None:
    ok(
        "hospital-agent", "policy", "set", "--home", folder.path, "--lifetime-epsilon", "2",
        "--job-epsilon", "0.5", "--delta", "0.0001", "--fewest-institutions", "4",
        "--approval", "always", "--allow-task", TASK, "--allow-task", "heart-disease",
        "--app", "B" * 64, "--app", "a" * 64, "--fewest-alike", "5", "--left-out-percent", "2",
    )  # fmt: skip
    expected = Policy(
        "2", "0.0001", (TASK, "heart-disease"), 4, "0.5", "always", ("b" * 64, "a" * 64),
        fewest_alike=5, left_out_percent=2,
    )  # fmt: skip
    assert Policy.read(folder.path / "policy.json") == expected
    done = ok(
        "hospital-agent", "policy", "set", "--home", folder.path, "--deny-task", "heart-disease",
        "--app", "installed", "--format", "json",
    )  # fmt: skip
    shown = json.loads(done.out)
    assert (shown["tasks"], shown["app"], shown["job_epsilon"]) == ([TASK], "installed", "0.5")
    assert json.loads(
        ok("hospital-agent", "policy", "show", "--home", folder.path, "--format", "json").out
    ) == shown  # fmt: skip


@pytest.mark.parametrize(
    ("code", "option", "value"),
    [
        ("PolicyInvalid", "--job-epsilon", "lots"),
        ("EpsilonInvalid", "--lifetime-epsilon", "0"),
        ("PolicyInvalid", "--app", "latest"),
        ("TaskUnknown", "--allow-task", "lungs"),
        ("DeltaTooLarge", "--delta", "0.5"),
        ("PolicyInvalid", "--fewest-alike", "1"),
    ],
)
def test_a_value_that_cannot_stand_changes_nothing(
    folder: HospitalFolder, code: str, option: str, value: str
) -> None:
    Policy("3", "0.00001", (TASK,)).write(folder.path / "policy.json")
    before = (folder.path / "policy.json").read_bytes()
    refused(code, "hospital-agent", "policy", "set", "--home", folder.path, option, value)
    assert (folder.path / "policy.json").read_bytes() == before


def test_the_lifetime_limit_is_every_cohorts(four: Consortium) -> None:
    folder = four.folders[ONE]
    cohort = Cohort.open(folder, TASK).id
    change_policy(folder, {"lifetime_epsilon": "2.5"})
    assert folder.budget.status(cohort).epsilon_limit == Decimal("2.5")
    with pytest.raises(EpsilonInvalid):
        change_policy(folder, {"lifetime_epsilon": "-1"})
    with pytest.raises(PolicyInvalid, match="delta"):
        change_policy(folder, {"delta": "0.0001"})
    four.ask(Phase.TRAIN)
    with pytest.raises(EpsilonOutOfPolicy):
        change_policy(folder, {"lifetime_epsilon": "1"})
    assert Policy.read(folder.path / "policy.json").lifetime_epsilon == "2.5"


def test_a_job_limit_refuses_by_a_signed_code(four: Consortium) -> None:
    folder = four.folders[ONE]
    change_policy(folder, {"job_epsilon": "1.5"})
    replies = four.ask(Phase.TRAIN)
    assert replies[ONE].error == "PolicyRefused"
    assert folder.budget.status(Cohort.open(folder, TASK).id).jobs == ()


def test_a_task_that_is_not_installed_is_never_allowed(folder: HospitalFolder) -> None:
    assert allow_task(folder, TASK).tasks == (TASK,)
    with pytest.raises(Exception, match="no task"):
        allow_task(folder, "lungs")
    assert asdict(Policy.read(folder.path / "policy.json"))["tasks"] == (TASK,)
