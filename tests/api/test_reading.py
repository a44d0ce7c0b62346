"""What the API says of a finished job, held against the ledger itself."""

from typing import Any

import pytest
from served_demo import Served

from consortium.api import contributions
from consortium.model_files.files import model_bytes
from consortium.model_files.formats import FileFormat
from consortium.registry import registry_of_store
from consortium.rounds.progress import rounds_done
from ledger import canonical
from ledger.chain import ledger_id
from ledger.entry import Entry
from ledger.listing import Listed
from ledger.prove import verify_proof
from ledger.records import ACCEPTED, Evaluation, Genesis, Job, JobEnd, Proof, Record, Result


def get(served: Served, path: str, **query: Any) -> Any:
    answer = served.client.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def paged(served: Served, path: str, **query: Any) -> list[Any]:
    """All items, a small page at a time."""
    items, cursor = [], None
    while True:
        page = get(served, path, **query, **({"cursor": cursor} if cursor else {}))
        items += page["items"]
        if (cursor := page["next"]) is None:
            return items


def of_type(served: Served, kind: type) -> list[Any]:
    return [r for r in records(served) if isinstance(r, kind)]


def records(served: Served) -> list[Record]:
    return [entry.record for block in served.store.blocks() for entry in block.entries]


@pytest.mark.parametrize("order", ["oldest", "newest"])
@pytest.mark.parametrize("limit", [1, 3, 7, 200])
@pytest.mark.parametrize(
    "path", ["/v1/ledger/entries", "/v1/ledger/blocks", "/v1/contributions", "/v1/models",
             "/v1/privacy/spends", "/v1/jobs"],
)  # fmt: skip
def test_pages_of_any_size_give_everything_once(
    served: Served, path: str, limit: int, order: str
) -> None:
    whole = get(served, path, limit=200, order="oldest")
    assert whole["next"] is None
    items = paged(served, path, limit=limit, order=order)
    by_result = (lambda item: item["index"]) if path == "/v1/contributions" else None
    if by_result and order == "newest":  # newest results first, each in its own order
        assert sorted(items, key=by_result) == whole["items"]
        assert [i["index"] for i in items] == sorted((i["index"] for i in items), reverse=True)
    else:
        assert items == (whole["items"] if order == "oldest" else whole["items"][::-1])


def test_entries_are_all_records_in_order(served: Served) -> None:
    found = paged(served, "/v1/ledger/entries", limit=50)
    assert [item["record"] for item in found] == [record.body() for record in records(served)]
    for item in found[:3] + found[-3:]:
        leaf = get(served, f"/v1/ledger/records/{item['index']}")
        assert leaf["entry"]["body"] == item["record"]
        assert leaf["height"] == item["height"]


def test_a_job_is_what_its_records_say(served: Served) -> None:
    (job,), (end,) = of_type(served, Job), of_type(served, JobEnd)
    results = of_type(served, Result)
    shown = get(served, f"/v1/jobs/{job.job}")
    assert shown["contract"] == job.body()
    assert shown["job"]["state"] == end.status
    assert shown["job"]["model"] == end.model
    assert shown["job"]["done"] == rounds_done(results) == job.rounds
    rejected = [p for r in results for p in r.proofs if p.code != ACCEPTED]
    assert shown["job"]["rejected"] == len(rejected) > 0
    rounds = get(served, f"/v1/jobs/{job.job}/rounds")["items"]
    assert [item["record"] for item in rounds] == [result.body() for result in results]


def test_every_credit_is_accounted_for(served: Served) -> None:
    results = of_type(served, Result)
    minted = sum(result.minted for result in results)
    accounts = get(served, "/v1/credits")["items"]
    assert sum(account["credits"] for account in accounts) == minted > 0
    listed = paged(served, "/v1/contributions", limit=5)
    for account in accounts:
        statement = get(served, f"/v1/institutions/{account['institution']}/statement")
        assert statement["credits"] == account["credits"]
        own = [c for c in listed if c["institution"] == account["institution"]]
        assert sum(c["credits"] for c in own) == account["credits"]
        assert sum(c["code"] == ACCEPTED for c in own) == account["accepted"]


def test_a_verdict_s_fee_is_shown_with_an_absence(served: Served) -> None:
    """Of who was absent from the reveal and gave a verdict all the same."""
    body = of_type(served, Result)[0].body()
    gone = next(p for p in body["proofs"] if p["institution"] != body["learner"])
    name = gone["institution"]
    body["proofs"].remove(gone)
    body["absent"] = [{"institution": name, "phase": "reveal", "code": "NoAnswer"}]
    fee = sum(f["credits"] for f in body["fees"] if f["institution"] == name)
    entry = Entry(canonical.dumps({"body": body, "signatures": []}))
    (shown,) = [c for c in contributions._of(Listed(9, 2, 0, entry)) if c.phase == "reveal"]
    assert shown.credits == fee > 0


def test_contributions_of_one_institution(served: Served) -> None:
    all_of_them = paged(served, "/v1/contributions", limit=200)
    own = paged(served, "/v1/contributions", limit=2, institution="hospital-2")
    assert own == [c for c in all_of_them if c["institution"] == "hospital-2"]


def test_privacy_is_what_the_last_proofs_declare(served: Served) -> None:
    proofs = {proof.author: proof for proof in of_type(served, Proof)}
    spendings = get(served, "/v1/privacy")["items"]
    assert {s["institution"]: s["epsilon"] for s in spendings} == {
        name: proof.spend.epsilon for name, proof in proofs.items()
    }
    assert len(paged(served, "/v1/privacy/spends", limit=3)) == len(of_type(served, Proof))


def test_a_forecast_adds_squared_mu_not_epsilon(served: Served) -> None:
    forecast = get(served, "/v1/privacy/forecast", task="breast-cancer", epsilon="1", rounds=3)
    for cost in forecast["costs"]:
        assert float(cost["epsilon_before"]) == pytest.approx(1, abs=2e-4)
        assert 1.4 < float(cost["epsilon_after"]) < 1.5  # not 2
    assert len(forecast["costs"]) == 4


def test_search_finds_by_index_and_by_hash(served: Served) -> None:
    block = served.store.block(2)
    entry = block.entries[0]
    index = block.header.first
    (found,) = get(served, "/v1/ledger/search", q=entry.leaf.hex()[:12])["items"]
    assert (found["what"], found["index"]) == ("record", index)
    (found,) = get(served, "/v1/ledger/search", q=block.header.hash)["items"]
    assert (found["what"], found["height"]) == ("block", 2)
    assert get(served, "/v1/ledger/search", q=str(index))["items"][0]["hash"] == entry.leaf.hex()
    (end,) = of_type(served, JobEnd)
    assert get(served, "/v1/ledger/search", q=end.model)["items"][0]["what"] == "model"
    assert get(served, "/v1/ledger/search", q="0" * 64)["items"] == []


def test_a_proof_from_the_api_verifies_against_the_genesis(served: Served) -> None:
    genesis = served.store.block(0).entries[0].record
    assert isinstance(genesis, Genesis)
    answer = served.client.get("/v1/ledger/proofs/2")
    assert verify_proof(answer.text, ledger_id(genesis)).pinned


@pytest.mark.parametrize(
    "path", ["/v1/ledger/records/2", "/v1/ledger/blocks/1", "/v1/ledger/proofs/2"]
)
def test_who_has_it_is_not_sent_it_again(served: Served, path: str) -> None:
    tag = served.client.get(path).headers["etag"]
    again = served.client.get(path, headers={"If-None-Match": tag})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    other = served.client.get(path, headers={"If-None-Match": '"another"'})
    assert other.status_code == 200


def test_a_model_and_its_card(served: Served) -> None:
    (end,) = of_type(served, JobEnd)
    answer = served.client.get(f"/v1/models/{end.model}")
    assert answer.content == served.home.models.path(end.model).read_bytes()
    assert "immutable" in answer.headers["cache-control"]
    onnx = served.client.get(f"/v1/models/{end.model}/onnx")
    named = registry_of_store(served.store, served.home.models.get).find(end.model)
    contract = of_type(served, Job)[0]
    weights = served.home.models.get(end.model)
    assert onnx.content == model_bytes(FileFormat.ONNX, named, contract, weights)
    for path in (f"/v1/models/{'0' * 64}/onnx", f"/v1/models/{contract.initial_model}/onnx"):
        assert served.client.get(path).json()["code"] == "ContentMissing"
    card = served.client.get(f"/v1/models/{end.model}/card").text
    assert end.model in card
    assert "| hospital-4 | " in card
    kinds = [item["kind"] for item in get(served, "/v1/models")["items"]]
    assert kinds == ["initial", "round", "round", "round", "released"]


def test_evaluations_come_with_intervals(served: Served) -> None:
    evaluations = of_type(served, Evaluation)
    items = paged(served, "/v1/evaluations", limit=3)
    assert [item["institution"] for item in items] == [e.author for e in evaluations]
    assert len(items) == 4
    (end,) = of_type(served, JobEnd)
    card = served.client.get(f"/v1/models/{end.model}/card").text
    for item, evaluation in zip(items, evaluations, strict=True):
        found = {(e["model"], e["measure"]): e for e in item["estimates"]}
        auroc = found["federated", "auroc"]
        assert auroc["value"] == evaluation.federated.auroc / 10_000
        assert auroc["low"] <= auroc["value"] <= auroc["high"]
        assert f"| {item['institution']} | ≥ {item['positives']}, ≥ {item['negatives']} |" in card
        calibrated, gain = found["calibrated", "calibration"], evaluation.gain
        assert calibrated["value"] == evaluation.calibrated.calibration / 10_000
        assert gain is not None
        assert item["gain"] == {
            "value": gain.value / 10_000, "low": gain.low / 10_000, "high": gain.high / 10_000,
        }  # fmt: skip
        cases = "{:.0f} ({:.0f} to {:.0f})".format(*(100 * item["gain"][n] for n in item["gain"]))
        assert f"| {item['institution']} | {cases} | " in card


def test_institutions_have_keys_with_an_age(served: Served) -> None:
    members = get(served, "/v1/institutions")["items"]
    assert [member["id"] for member in members] == [f"hospital-{n}" for n in range(1, 5)]
    created = served.store.header(0).time
    height = served.store.head().header.height
    for member in members:
        assert {key["since"]["time"] for key in member["keys"]} == {created}
        assert member["last_cosigned"]["height"] == height
    assert served.client.get("/v1/institutions/nobody").status_code == 404


def test_events_begin_with_how_things_are(served: Served) -> None:
    with served.client.stream("GET", "/v1/events") as answer:
        lines = answer.iter_lines()
        seen = [next(lines) for _ in range(5)]
    assert seen[0] == "event: head"
    assert f'"height": {served.store.head().header.height}' in seen[1]
    assert seen[3] == "event: job"
    assert '"state": "finished"' in seen[4]
