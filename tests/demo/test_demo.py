"""The main job, end to end, as the installed command runs it."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import derived_lines
import pytest
import torch
from demo_command import CONSORTIUM, ROUNDS, Demo, Finished, consortium
from threadpoolctl import threadpool_limits

from consortium.audit import derived_results
from consortium.cli.main import app
from consortium.cli.run import run
from consortium.lab.catalogue import BY_NAME, DEMO_CHEATS
from ledger import canonical
from ledger.errors import ContentInvalid
from privacy.release import band, width

KEYS = {
    "dataset", "rounds", "hospitals", "federated", "nonprivate", "ledger", "seconds",
    "rejections", "cheat",
}  # fmt: skip


def test_the_report_says_what_happened(demo: Finished) -> None:
    report = demo.report
    assert set(report) >= KEYS
    assert report["rounds"] == ROUNDS
    assert report["cheat"]["name"] == "resubmit"
    assert [h["id"] for h in report["hospitals"]] == [f"hospital-{i}" for i in (1, 2, 3, 4)]
    for hospital in report["hospitals"]:
        assert hospital["epsilon_spent"] == pytest.approx(1, abs=1e-3)
        assert hospital["epsilon_spent"] <= 1.0001
        assert hospital["epsilon_limit"] == 3
        assert hospital["accepted"] + hospital["rejected"] == ROUNDS
        assert set(hospital["accuracy"]) == {"local", "federated", "pooled", "majority"}
        assert set(hospital["auroc"]) == {"local", "federated", "pooled"}
    assert sum(h["credits"] for h in report["hospitals"]) == 1000 * ROUNDS
    assert report["federated"]["accuracy_mean"] > 0.85
    assert report["nonprivate"]["accuracy_mean"] > 0.9
    ledger = report["ledger"]
    # genesis, job, one block a round, job's end, the hospitals' evaluations
    assert ledger["height"] == ROUNDS + 3
    assert ledger["quorum"] == 3
    assert ledger["verified"] is True
    assert ledger["final"] is True


def test_each_hospital_released_its_exact_results_on_their_bands(demo: Finished) -> None:
    lines = (Path(demo.report["ledger"]["export"]) / "entries.jsonl").read_text().splitlines()
    records = [json.loads(line)["body"] for line in lines]
    released = {r["author"]: r for r in records if r["type"] == "evaluation"}
    (end,) = (record for record in records if record["type"] == "job-end")
    assert len([r for r in records if r["type"] == "evaluation"]) == len(released) == 4
    for hospital in demo.report["hospitals"]:
        evaluation = released[hospital["id"]]
        assert evaluation["model"] == end["model"]
        sizes = evaluation["positives"], evaluation["negatives"]
        for said, model in (("federated", "federated"), ("alone", "local")):
            for measure in ("auroc", "accuracy"):
                exact = hospital[measure][model] * 10_000
                assert evaluation[said][measure] == band(exact, width(measure, *sizes))
        exact = hospital["accuracy"]["majority"] * 10_000
        assert evaluation["majority"] == band(exact, width("majority", *sizes))
        assert 5 <= sum(sizes) <= hospital["n_test"] < 2.5 * sum(sizes)


def test_results_go_to_standard_output_only(demo: Finished) -> None:
    assert "Exported and verified" in demo.stdout
    assert "Round 3 of 3" in demo.stderr
    assert "Round 3 of 3" not in demo.stdout
    lines = [line for line in demo.stdout.splitlines() if "exports/" not in line]
    assert max(map(len, lines)) <= 100


def test_the_export_verifies_alone_and_pinned(demo: Finished, tmp_path: Path) -> None:
    folder = tmp_path / "audit"
    assert consortium("ledger", "export", "--out", folder, "--home", demo.home).returncode == 0
    genesis = demo.report["ledger"]["id"]
    pinned = consortium("ledger", "verify", folder, "--genesis", genesis)
    assert pinned.returncode == 0
    assert "verified against the pinned genesis" in pinned.stdout
    unpinned = consortium("ledger", "verify", folder)
    assert unpinned.returncode == 0
    assert "consistent, not pinned" in unpinned.stdout
    other = consortium("ledger", "verify", folder, "--genesis", "0" * 64)
    assert other.returncode == 1
    assert other.stderr.startswith("error[GenesisMismatch]")
    again = consortium("ledger", "export", "--out", folder, "--home", demo.home)
    assert again.stderr.startswith("error[ExportExists]")


@pytest.fixture(scope="module")
def with_contents(demo: Finished, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export with all updates and models."""
    folder = tmp_path_factory.mktemp("export") / "audit"
    export = ("ledger", "export", "--out", folder, "--home", demo.home, "--content")
    assert consortium(*export).returncode == 0
    return folder


def test_every_round_of_the_export_is_derived_anew(demo: Finished, with_contents: Path) -> None:
    options = ("--rounds", "--genesis", demo.report["ledger"]["id"], "--format", "json")
    done = consortium("ledger", "verify", with_contents, *options)
    assert done.returncode == 0, done.stderr
    assert "Deriving every round anew" in done.stderr
    verified = json.loads(done.stdout)
    assert verified["rounds_derived"] == ROUNDS * verified["jobs"]
    assert verified["reveals_checked"] == 4 * verified["rounds_derived"]
    assert verified["evaluations"] == 4 * verified["jobs"]


def test_another_process_with_other_threads_derives_every_median_model_and_credit_to_the_bit(
    with_contents: Path,
) -> None:
    """From the export alone, and without the wide instructions."""
    narrow = {
        "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1",
        "NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX AVX2 FMA3",
    }  # fmt: skip
    there = subprocess.run(
        [sys.executable, "-W", "ignore", derived_lines.__file__, with_contents],
        capture_output=True, check=True, timeout=100, env={**os.environ, **narrow},
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    other = json.loads(there.stdout)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    with threadpool_limits(3):
        here, threads = derived_lines.lines(with_contents), derived_lines.threads()
    torch.set_num_threads(before)
    assert set(other["threads"]) == {1}
    assert max(threads) > 1
    assert threads[0] == 3
    assert len(here) == ROUNDS
    assert other["lines"] == [line.decode() for line in here]
    signed = [canonical.dumps(result.body()) for result, _ in derived_results(with_contents)]
    assert here == signed
    for line in map(canonical.loads, signed):
        assert line["minted"] > 0
        accepted = [p for p in line["proofs"] if p["code"] == "Accepted"]
        assert len(accepted) >= 3
        assert all(p["score"] is not None and p["shapley"] is not None for p in accepted)


def test_other_scores_or_another_byte_of_an_update_derive_something_else(
    with_contents: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "altered"
    shutil.copytree(with_contents, folder)
    update = next(iter((folder / "content").iterdir()))
    data = update.read_bytes()
    update.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(ContentInvalid, match=update.name):
        list(derived_results(folder))
    update.write_bytes(data)
    entries = (folder / "entries.jsonl").read_bytes().splitlines()
    for place, data in enumerate(entries):
        entry = canonical.loads(data)
        if entry["body"]["type"] == "verdict" and entry["body"]["round"] == 1:
            first = entry["body"]["findings"][0]
            if first["score"] is not None:  # not its own
                first["score"] -= 200
            entries[place] = canonical.dumps(entry)
    (folder / "entries.jsonl").write_bytes(b"".join(line + b"\n" for line in entries))
    signed, derived = next(derived_results(folder))
    score = signed.proofs[0].score
    assert score is not None
    assert derived.proofs[0].score == score - 200
    assert derived.model_after == signed.model_after


def test_a_hospital_proves_its_part_and_its_credits_from_its_own_copy(
    demo: Finished, tmp_path: Path
) -> None:
    """To somebody who has two small files, the fingerprint, and one other file: the verifier."""
    ledger, folder = demo.report["ledger"]["id"], demo.home / "hospitals" / "hospital-2"
    out = tmp_path / "receipt"
    agent = str(CONSORTIUM.with_name("hospital-agent"))
    arguments = ["ledger", "receipt", "--home", str(folder), "--round", "2", "--out", str(out)]
    done = subprocess.run(
        [agent, *arguments, "--job", "breast-cancer-1", "--format", "json"],
        capture_output=True, text=True, timeout=100, check=True,
    )  # fmt: skip
    receipt = json.loads(done.stdout)
    assert (receipt["institution"], receipt["round"]) == ("hospital-2", 2)
    alone = tmp_path / "verify.py"
    alone.write_text(consortium("ledger", "verifier").stdout)
    types = {}
    for name in ("contribution", "credits"):
        file = out / f"{name}.tlog-proof"
        proved = consortium("ledger", "verify", file, "--genesis", ledger, "--format", "json")
        types[name] = json.loads(proved.stdout)["record"]
        for pinned, status in ((ledger, 0), ("0" * 64, 1)):
            run = [sys.executable, "-I", str(alone), str(file), "--genesis", pinned]
            assert subprocess.run(run, capture_output=True, timeout=60).returncode == status
    contribution = types["contribution"]
    assert (contribution["type"], contribution["author"]) == ("proof", "hospital-2")
    own = next(o for o in types["credits"]["proofs"] if o["institution"] == "hospital-2")
    assert own["credits"] <= receipt["credits"]


def test_private_keys_stay_private(demo: Finished) -> None:
    keys = list(demo.home.rglob("*.key"))
    assert len(keys) == 4 * 4 + 2
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in keys)
    exported = "".join(p.read_text() for p in Path(demo.report["ledger"]["export"]).iterdir())
    assert not any(path.read_text().strip() in exported for path in keys)


def test_a_second_demo_goes_on_where_the_first_ended(demo: Finished) -> None:
    """In it one trains on flipped labels: caught, or paid least."""
    second = Demo(demo.home, "--cheat", "label-flip")
    assert second.report["ledger"]["id"] == demo.report["ledger"]["id"]
    assert second.report["ledger"]["height"] == demo.report["ledger"]["height"] + ROUNDS + 3
    for hospital in second.report["hospitals"]:
        assert hospital["epsilon_spent"] == pytest.approx(1.4652, abs=2e-4)
    credits = {h["id"]: h["credits"] for h in second.report["hospitals"]}
    assert credits[second.report["cheat"]["institution"]] == min(credits.values())
    height = second.report["ledger"]["height"]
    refused = consortium("demo", "--home", demo.home, "--epsilon", "2.9")
    assert refused.returncode == 1
    error, resolve = refused.stderr.splitlines()[-2:]
    assert error.startswith("error[BudgetExceeded]: the job needs epsilon 2.9 and 2.49")
    assert "rounds" in resolve
    assert "an epsilon of at most 2.49" in resolve
    status = consortium("ledger", "status", "--home", demo.home, "--format", "json")
    assert json.loads(status.stdout)["height"] == height  # nothing was trained or written
    other = consortium("demo", "--home", demo.home, "--hospitals", "3")
    assert "error[HomeMismatch]" in other.stderr


def test_a_resubmitted_update_is_caught(demo_report: dict[str, Any]) -> None:
    report = demo_report
    cheater = report["cheat"]["institution"]
    assert report["cheat"]["name"] == "resubmit"
    assert report["rounds"] == ROUNDS
    caught = [(r["round"], r["code"]) for r in report["rejections"] if r["institution"] == cheater]
    # In round 1 there is nothing to resubmit yet.
    assert caught == [(number, "NearCopy") for number in range(2, ROUNDS + 1)]


@pytest.mark.slow  # `tests/agent` plays them without Flower's engine
@pytest.mark.parametrize("name", DEMO_CHEATS)
def test_a_demo_with_any_cheat_ends_with_a_verified_ledger(
    name: str, new_home: Callable[[], Path]
) -> None:
    demo, cheat = Demo(new_home(), "--cheat", name), BY_NAME[name]
    assert demo.report["ledger"]["verified"] is True
    told = demo.report["cheat"]
    assert (told["name"], told["expected"]) == (name, cheat.expected)
    if cheat.always and cheat.codes:
        met = {code for code, rounds in told["codes"].items() if max(rounds) >= cheat.first}
        # Which node is shown the smaller set is chance; the one that it lacks says so.
        assert met - {"OwnCommitmentMissing"} == set(cheat.codes)
    assert f"The cheat: {name}, by {told['institution']}" in demo.done.stdout


@pytest.mark.slow  # `tests/rounds` and `tests/agent` have the check itself
def test_a_handed_over_copy_is_caught(new_home: Callable[[], Path]) -> None:
    report = Demo(new_home(), "--cheat", "copy", "--hospitals", "5").report
    cheater = report["cheat"]["institution"]
    caught = [r["round"] for r in report["rejections"] if r["institution"] == cheater]
    assert caught == list(range(1, ROUNDS + 1))
    credits = {h["id"]: h["credits"] for h in report["hospitals"]}
    assert credits[cheater] == 0


def test_one_hospital_alone_is_told_so(new_home: Callable[[], Path]) -> None:
    demo = Demo(new_home(), "--hospitals", "1", "--rounds", "1")
    assert "no independent witness" in demo.done.stdout
    assert demo.report["ledger"]["quorum"] == 1


def test_rewards_are_the_same_from_the_database_and_from_an_export(
    demo: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*arguments: str) -> dict[str, Any]:
        with pytest.raises(SystemExit):
            run(app, [*arguments, "--format", "json"])
        return dict(json.loads(capsys.readouterr().out))

    home, folder = ("--home", str(demo.home)), str(tmp_path / "export")
    said("ledger", "export", "--out", folder, *home)
    asked = (
        ["list"], ["list", "--job", "breast-cancer-1"], ["statement", "hospital-2"],
    )  # fmt: skip
    listed = [said("reward", *what, *home) for what in asked]
    assert listed == [said("reward", *what, "--export", folder) for what in asked]
    assert {line["institution"]: line["credits"] for line in listed[1]["lines"]} == {
        hospital["id"]: hospital["credits"] for hospital in demo.report["hospitals"]
    }
    assert listed[2]["lines"][0]["job"] == "breast-cancer-1"
