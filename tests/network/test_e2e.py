"""Everything of the demo over a real network, each part a process of its own with its own keys.

Each side on a host of its own where the machine has network namespaces. Three rounds in the suite;
`make e2e` runs ten (``E2E_ROUNDS``).
"""

import json
import os
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from agent_checks import (
    each_hospital_s_test_results_come_onto_the_ledger,
    hospitals_listen_nowhere_but_on_their_own_loopback,
    what_the_agents_log_says_no_more_than_codes,
)
from deployment import (
    COORDINATOR,
    HEART,
    Deployment,
    as_json,
    command,
    deployment,
    until,
)
from hospital_tables import BREAST, write_tables
from hospital_tables import HEART as HEART_TASK
from namespaces import hosts

ROUNDS = int(os.environ.get("E2E_ROUNDS", "3"))
TASK = HEART_TASK if HEART.is_dir() else BREAST
NEWCOMER = "hospital-5"


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("e2e")
    folder.chmod(0o755)
    tables = write_tables(folder / "tables", TASK, HEART if TASK == HEART_TASK else None)
    with (
        hosts([COORDINATOR, *tables, NEWCOMER]) as own,
        # The coordinator's own commands need no network; as processes they are in `test_compose`.
        deployment(folder, TASK, own, here=True) as made,
    ):
        print("each side on a host of its own" if own else "no network namespaces here: loopback")
        made.begin()
        made.found({name: (path, site.declared_patients) for name, (path, site) in tables.items()})
        made.start()
        made.until_ready()
        yield made


def test_everything_over_a_network(network: Deployment, tmp_path: Path) -> None:
    """One test, in this order: its parts build on each other, and on one deployment."""
    a_job_over_the_network_ends_in_a_verified_ledger(network, tmp_path)
    each_hospital_s_test_results_come_onto_the_ledger(network)
    hospitals_listen_nowhere_but_on_their_own_loopback(network)
    what_the_agents_log_says_no_more_than_codes(network)
    the_portal_s_api_answers_an_institution(network)
    a_new_hospital_is_ready_in_three_commands(network)


def a_job_over_the_network_ends_in_a_verified_ledger(network: Deployment, tmp_path: Path) -> None:
    job = network.submit(ROUNDS)
    watched = command("consortium", "job", "watch", job, "--home", network.home, seconds=200)
    assert f"{job}: finished, {ROUNDS} of {ROUNDS} rounds" in watched
    network.run("ledger", "export", "--out", tmp_path / "export", "--content")
    ledger = network.json("genesis")["fingerprint"]
    verified = as_json(
        "consortium", "ledger", "verify", tmp_path / "export", "--genesis", ledger, "--rounds"
    )
    assert verified["fewest_cosigners"] >= 3
    assert verified["rounds_derived"] == ROUNDS
    for hospital in network.hospitals.values():
        [cohort] = hospital.json("budget")
        [spent] = cohort["jobs"]
        assert (spent["rounds_charged"], spent["rounds_reserved"]) == (ROUNDS, 0)


def the_portal_s_api_answers_an_institution(network: Deployment) -> None:
    """What pages are made of, through the proxy, with an institution's own token."""
    hospital = next(iter(network.hospitals.values()))
    code = (
        "import json, sys\nfrom pathlib import Path\n"
        "from hospital_agent.connection import connect\n"
        "from hospital_agent.folder import HospitalFolder\n"
        "from hospital_agent.ledger_api import LedgerApi\n"
        "folder = HospitalFolder(Path(sys.argv[1]))\n"
        "with connect(folder) as client:\n"
        "    api = LedgerApi(client, folder)\n"
        "    print(json.dumps([api._json(p) for p in sys.argv[2:]]))\n"
    )
    paths = ("/v1/ledger/head", "/v1/jobs", "/v1/institutions", "/v1/ledger/entries?type=result")
    printed = command(
        "python", "-c", code, hospital.home, *paths, namespace=hospital.agent.namespace
    )
    head, *pages = json.loads(printed)
    jobs, institutions, results = (page["items"] for page in pages)
    assert head["final"]
    assert jobs[0]["state"] == "finished"
    assert {i["id"] for i in institutions} == set(network.hospitals)
    assert all(i["last_seen"]["version"] == version("medpole") for i in institutions)
    assert len(results) == ROUNDS


def a_new_hospital_is_ready_in_three_commands(network: Deployment) -> None:
    """From token to ready: enrol, data add, preflight; the members approve meanwhile."""
    invited = network.json(
        "institution", "invite", NEWCOMER, "--title", "Hospital 5", "--url", network.url
    )
    source, _ = next(iter(write_tables(network.folder / "tables", TASK, HEART).values()))
    before = {h.id: (h.home / "connection.json").read_bytes() for h in network.hospitals.values()}
    home = network.folder / NEWCOMER
    where = {"namespace": network.hosts.namespace(NEWCOMER) if network.hosts else None}

    begun = time.monotonic()
    command("hospital-agent", "enrol", network.url, invited["token"], "--home", home, **where)
    change = network.json("institution", "approve", NEWCOMER, "--yes")["change"]
    approve_everywhere(network, change)
    command(
        "hospital-agent", "data", "add", "cohort", "--task", TASK, "--source", source,
        "--declared-patients", "100", "--home", home, **where,
    )  # fmt: skip
    checks = until(lambda: ready(home, where), 40, "preflight says ready", every=0.5)
    took = time.monotonic() - begun

    print(f"from token to ready: {took:.1f} s")
    assert all(check["state"] != "fail" for check in checks["checks"])
    assert took < 60
    assert before == {
        h.id: (h.home / "connection.json").read_bytes() for h in network.hospitals.values()
    }


def ready(home: Path, where: dict[str, str | None]) -> object:
    try:
        return as_json("hospital-agent", "preflight", "--home", home, **where)
    except AssertionError:
        return None


def approve_everywhere(network: Deployment, change: str) -> None:
    """A person at each hospital approves, once their own copy shows the change."""
    needed = list(network.hospitals.values())[:3]
    for hospital in needed:
        until(
            lambda h=hospital: any(
                p["change"] == change for p in h.json("members", "list")["proposed"]
            ),
            20, "the change has come",
        )  # fmt: skip
        hospital.run("members", "approve", change, "--as", "Dr. Ada Example")
