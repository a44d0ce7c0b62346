"""Access log, metrics and description of the whole API, over a real ledger."""

import json
import logging
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from served_demo import Served
from typer.testing import CliRunner

from consortium.access import AccessTokens, Role
from consortium.access_log import FOLDER
from consortium.api.app import create_app
from consortium.api.local import local_api
from consortium.api.tokens import sign_token
from consortium.cli.main import app as commands
from consortium.events import EVENTS
from consortium.invitations import Invitations
from hospital_agent.folder import HospitalFolder
from hospital_agent.ledger_api import LedgerApi
from ledger import keys

OPEN = {"/v1/health", "/v1/ready", "/v1/genesis", "/v1/genesis/signatures"}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def lines(served: Served, client: httpx.Client, **query: Any) -> list[dict[str, Any]]:
    answer = client.get("/v1/access-log", params=query)
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in answer.text.splitlines()]


@pytest.fixture
def logged(served: Served) -> Iterator[httpx.Client]:
    """The API with everything on, served for this test alone."""
    app = create_app(
        served.store, served.home.content, served.home.models, "the-portals-own-secret",
        home=served.home.path, requests_per_minute=100_000,
    )  # fmt: skip
    with local_api(app) as client:
        client.headers.update(bearer(served.token(Role.AUDITOR)))
        yield client


def test_no_token_gets_into_a_log(
    served: Served, logged: httpx.Client, caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    home = served.home
    member = sorted(served.store.chain().members)[0]
    key = HospitalFolder(home.hospital(member)).keys[keys.Role.API]
    ledger = served.store.chain().ledger
    person = AccessTokens(home.path).issue("Ada", Role.ADMIN)[1]
    invitation = Invitations(home.path).invite("newcomer", "New", ledger, founder=False).bearer
    institution = sign_token(member, ledger, key)
    good = [person, institution, invitation, "the-portals-own-secret"]
    bad = [person[:-4], person.swapcase(), institution[:-9], f"{institution}AAAA", "mpa_x_y z",
           "eyJhbGciOiJub25lIn0.eyJpc3MiOiJ4In0."]  # fmt: skip
    with caplog.at_level(logging.DEBUG, "medpole"), caplog.at_level(logging.INFO, "uvicorn"):
        for token in good + bad:
            for path in ("/v1/ledger/head", "/v1/invitation", "/v1/nothing"):
                logged.get(path, headers=bearer(token))
            logged.get("/v1/ledger/entries", params={"token": token, "limit": token})
            logged.get(f"/v1/jobs/{token}")
            logged.get(f"/v1/models/{token}")
            logged.get(f"/{token}", headers={"X-Forwarded-For": token, "User-Agent": token})
            logged.post("/v1/ledger/submissions", json={token: token})
            logged.put("/v1/institutions/self/offers", json={"tasks": {token: token}},
                       headers=bearer(institution))  # fmt: skip
    written = [path.read_text() for path in (home.path / FOLDER).iterdir()]
    assert sum(text.count("\n") for text in written) >= 9 * len(good + bad) - 1
    events = home.path / EVENTS
    written += [events.read_text() if events.exists() else "", caplog.text, *capfd.readouterr()]
    for token in good + bad:
        for text in written:
            assert token[-20:] not in text


def test_an_agent_between_two_keys_is_not_kept_out(served: Served, tmp_path: Path) -> None:
    """While its keys change, every second request is one that does not hold."""
    member, other = sorted(served.store.chain().members)[:2]
    shutil.copytree(served.home.hospital(member), tmp_path / member)
    (tmp_path / member / "keys").rename(tmp_path / member / "keys.next")
    shutil.copytree(served.home.hospital(other) / "keys", tmp_path / member / "keys")
    app = create_app(
        served.store, served.home.content, served.home.models, home=served.home.path,
        requests_per_minute=10,
    )  # fmt: skip
    with local_api(app) as client:
        client.headers["X-Forwarded-For"] = "192.0.2.7"
        api = LedgerApi(client, HospitalFolder(tmp_path / member))
        for _ in range(5):
            assert api.newest().origin
        assert client.get("/v1/ledger/head").status_code == 429


def test_the_access_log_is_to_be_had(served: Served, logged: httpx.Client) -> None:
    began = time.time()
    logged.get("/v1/ledger/blocks/0", headers={"X-Forwarded-For": "192.0.2.7"})
    logged.get("/v1/me", headers=bearer("nobody's"))
    while len(found := lines(served, logged, **{"from": began})) < 2:
        pass  # the answer may be here before its line is
    first, second = found[:2]
    assert (first["caller"], first["role"], first["status"]) == ("Ada", "auditor", 200)
    assert (first["route"], first["address"]) == ("/v1/ledger/blocks/{height}", "192.0.2.7")
    assert (second["caller"], second["status"]) == (None, 401)
    assert lines(served, logged, **{"from": began + 3600}) == []
    assert logged.get("/v1/access-log", params={"from": "x"}).status_code == 422
    for role in (Role.SCIENTIST,):
        refused = logged.get("/v1/access-log", headers=bearer(served.token(role)))
        assert refused.json()["code"] == "RoleForbidden"


def test_the_command_shows_the_access_log(served: Served, logged: httpx.Client) -> None:
    def run(*arguments: str) -> str:
        home = str(served.home.path)
        done = CliRunner().invoke(commands, ["access-log", *arguments, "--home", home])
        assert done.exit_code == 0, done.output
        return done.output

    id = logged.get("/v1/ledger/blocks/0").headers["x-request-id"]
    while id not in (shown := run("--since", "30m")):
        pass
    (line,) = [line for line in shown.splitlines() if id in line]
    assert re.search(r"200  GET +/v1/ledger/blocks/\{height\}  Ada \(auditor\)  local", line)
    as_json = [json.loads(line) for line in run("--format", "json").splitlines()]
    assert id in [line["request"] for line in as_json]


def test_metrics_are_what_the_ledger_and_the_requests_say(
    served: Served, logged: httpx.Client
) -> None:
    def measured() -> dict[tuple[str, ...], float]:
        text = logged.get("/v1/metrics").text
        return {
            (sample.name, *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    block = "/v1/ledger/blocks/{height}"
    for _ in range(3):
        logged.get("/v1/ledger/blocks/0")
    logged.get("/v1/ledger/blocks/99999")
    while (found := measured()).get(("medpole_http_requests_total", "GET", block, "404")) != 1:
        pass
    assert found["medpole_http_requests_total", "GET", block, "200"] == 3
    assert found["medpole_http_request_seconds_count", block] == 4
    assert found["medpole_http_in_flight", "/v1/metrics"] == 1
    head = served.store.head()
    assert found["medpole_ledger_up",] == 1
    assert found["medpole_ledger_height",] == head.header.height
    assert found["medpole_ledger_cosignatures",] == head.cosigned >= head.quorum
    assert found["medpole_ledger_quorum",] == head.quorum
    assert found["medpole_ledger_block_age_seconds",] == pytest.approx(
        time.time() - head.header.time, abs=60
    )
    accounts = logged.get("/v1/credits").json()["items"]
    for account in accounts:
        name = account["institution"]
        assert found["medpole_proofs_rejected_total", name] == account["rejected"]
        assert found["medpole_absences_total", name] == account["absent"]
    assert found["process_resident_memory_bytes",] > 0
    assert not any("Ada" in labels for labels in found)


def test_open_streams_of_events_are_counted(served: Served, logged: httpx.Client) -> None:
    def streams() -> float:
        found = re.search(r"^medpole_event_streams (\S+)$", logged.get("/v1/metrics").text, re.M)
        assert found
        return float(found[1])

    assert streams() == 0
    with logged.stream("GET", "/v1/events") as stream:
        parts = stream.iter_raw()
        assert b"event: head" in next(parts)
        assert streams() == 1
    while streams():
        pass  # the server sees that we are gone


def test_the_description_has_every_route_whole(served: Served, logged: httpx.Client) -> None:
    described = logged.get("/v1/openapi.json").json()
    assert logged.get("/v1/openapi.json", headers=bearer("nobody's")).status_code == 401
    for path in ("/openapi.json", "/docs", "/redoc"):
        assert logged.get(path).status_code == 404
    assert set(described["components"]["securitySchemes"]) == {"token", "invitation"}
    tags = {tag["name"] for tag in described["tags"]}
    assert "HTTPValidationError" not in described["components"]["schemas"]
    for path, item in described["paths"].items():
        for method, operation in item.items():
            what = f"{method} {path}"
            assert operation.get("description"), what
            assert operation.get("tags"), what
            assert set(operation["tags"]) <= tags, what
            answers = operation["responses"]
            assert {"429", "500", "503"} <= set(answers), what
            assert ("security" in operation) == (path not in OPEN), what
            assert ({"401", "403"} <= set(answers)) == ("security" in operation), what
            takes = "parameters" in operation or "requestBody" in operation
            assert ("422" in answers) == takes, what
    form = described["components"]["responses"]["401"]["content"]["application/problem+json"]
    assert form["schema"] == {"$ref": "#/components/schemas/Problem"}
    assert "code" in described["components"]["schemas"]["Problem"]["properties"]
