"""The portal as a real process, on a home that was founded without any training."""

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest
from founded import CONSORTIUM, PATIENCE_S, Portal, running
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from consortium.access import AccessTokens, Role
from consortium.api.tokens import sign_token
from hospital_agent.folder import HospitalFolder
from ledger import keys
from ledger.verifier import Failure
from ui import proving

STREAM = "/_stcore/stream"
CLOSED = ("/", "/ledger", "/static/js/index.js", "/media/x", "/_stcore/host-config",
          "/_stcore/metrics", "/_stcore/upload_file/x", "/download/export", "/download/access-log",
          f"/download/model/{'0' * 64}/x", f"/download/onnx/{'0' * 64}/x",
          "/_stcore/agent/openapi.json")  # fmt: skip


def handshake(portal: Portal, **headers: str) -> int:
    """The status that a websocket gets: 101 if it is let in."""
    try:
        with connect(
            f"ws://127.0.0.1:{portal.port}{STREAM}", additional_headers=headers,
            subprotocols=["streamlit"], proxy=None,
        ):  # fmt: skip
            return 101
    except InvalidStatus as refused:
        return refused.response.status_code


def test_it_answers_on_the_loopback_address_only(portal: Portal) -> None:
    assert httpx.get(f"{portal.url}/_stcore/health", trust_env=False).text == "ok"
    if sys.platform == "linux":  # where all of 127/8 is this machine
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", portal.port), timeout=5)
    listening = {
        connection.laddr.ip
        for process in portal.family
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}


def test_what_is_secret_is_on_no_command_line(portal: Portal) -> None:
    secrets = (portal.code, portal.environment["MEDPOLE_PORTAL_TOKEN"])
    assert all(len(secret) >= 32 for secret in secrets)
    lines = [part for process in portal.family for part in process.cmdline()]
    assert not any(secret in line for secret in secrets for line in lines)


def test_nobody_gets_anything_without_signing_in(portal: Portal) -> None:
    with portal.browser() as client:
        for path in CLOSED:
            assert client.get(path).headers["location"].startswith("/sign-in"), path
            assert client.get(path, headers={"accept": "*/*"}).status_code == 401, path
        page = client.get("/sign-in")
        assert "consortium token issue" in page.text
        assert "<script" not in page.text
    assert handshake(portal) == 403
    assert handshake(portal, Cookie=f"medpole_{portal.port}={'x' * 43}") == 403


def test_the_address_of_this_run_signs_in(portal: Portal) -> None:
    with portal.browser() as client:
        assert client.get("/sign-in?code=another").status_code == 403
        answer = client.get(f"/sign-in?code={portal.code}")
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        assert "<title>MedPoLe</title>" in client.get("/").text
        cookie = f"medpole_{portal.port}={client.cookies[f'medpole_{portal.port}']}"
        assert handshake(portal, Cookie=cookie) == 101
        assert handshake(portal, Cookie=cookie, Origin="https://evil.example") == 403
        client.post("/sign-out")
        assert handshake(portal, Cookie=cookie) == 403


def test_people_sign_in_with_tokens_and_are_out_when_those_are_taken_back(portal: Portal) -> None:
    tokens = AccessTokens(portal.home)
    issued, text = tokens.issue("Ada", Role.ADMIN)
    with portal.browser() as client:
        refused = client.post("/sign-in", data={"token": text[:-1]})
        assert refused.status_code == 401
        assert "This token was refused" in refused.text
        assert client.post("/sign-in", data={"token": text}).status_code == 303
        assert client.get("/download/access-log").status_code == 200
        tokens.revoke(issued.id)
        answer = client.get("/download/access-log")
        assert answer.status_code == 401
        assert "it is revoked" in answer.text
        assert client.post("/sign-in", data={"token": text}).status_code == 401
    assert text not in portal.output()
    assert text.split("_", 2)[2] not in portal.output()


def test_an_institution_is_no_person(portal: Portal) -> None:
    member = HospitalFolder(portal.home / "hospitals" / "hospital-1")
    status = subprocess.run(
        [CONSORTIUM, "ledger", "status", "--home", portal.home, "--format", "json"],
        capture_output=True, text=True, timeout=PATIENCE_S, check=True,
    )  # fmt: skip
    ledger = json.loads(status.stdout)["ledger"]
    token = sign_token("hospital-1", ledger, member.keys[keys.Role.API])
    with portal.browser() as client:
        answer = client.post("/sign-in", data={"token": token})
        assert answer.status_code == 403
        assert "an institution" in answer.text


def test_files_are_those_of_the_api(portal: Portal, tmp_path: Path) -> None:
    with portal.signed_in(Role.AUDITOR) as client:
        verifier = client.get("/download/verifier")
        assert verifier.content == (Path("ledger") / "verifier.py").read_bytes()
        export = client.get("/download/export")
        assert export.headers["content-type"] == "application/x-tar"
        assert int(export.headers["content-length"]) == len(export.content)
        name = export.headers["content-disposition"].split('"')[1]
        refused = client.get(f"/download/model/{'0' * 64}/x.safetensors")
        assert refused.status_code == 403
        assert "RoleForbidden" in refused.text
    (tmp_path / name).write_bytes(export.content)
    verified = subprocess.run(
        [CONSORTIUM, "ledger", "verify", tmp_path / name, "--format", "json"],
        capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert verified.returncode == 0, verified.stderr


def test_a_record_is_proved_by_its_file_alone(portal: Portal) -> None:
    given = portal.environment
    asked = httpx.get(
        f"{given['MEDPOLE_API_URL']}/v1/ledger/proofs/2", trust_env=False,
        headers={"Authorization": f"Bearer {given['MEDPOLE_PORTAL_TOKEN']}"},
    )  # fmt: skip
    found = proving.verify(asked.text, None)
    [fingerprint] = found.steps[-1].values
    assert not found.pinned
    assert found.cosigners == ("hospital-1", "hospital-2")
    told = proving.verify(asked.text, fingerprint)
    assert told.pinned
    assert [step.values for step in told.steps] == [step.values for step in found.steps]
    with pytest.raises(Failure):
        proving.verify(asked.text, "f" * 64)
    for place in range(30, len(asked.text), len(asked.text) // 40):
        other = "B" if asked.text[place] == "A" else "A"
        with pytest.raises(Failure):
            proving.verify(asked.text[:place] + other + asked.text[place + 1 :], fingerprint)


def test_a_port_in_use_is_said_in_words(portal: Portal, homes: tuple[Path, Path]) -> None:
    again = subprocess.run(
        [CONSORTIUM, "portal", "--home", homes[1], "--port", str(portal.port)],
        capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert again.returncode == 1
    assert again.stderr.startswith("error[PortInUse]")
    assert "--port" in again.stderr
    assert again.stdout == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_behind(homes: tuple[Path, Path], number: signal.Signals) -> None:
    with running(homes[1]) as started:
        started.process.send_signal(number)
        status = started.process.wait(PATIENCE_S)
        _, alive = psutil.wait_procs(started.family, timeout=PATIENCE_S)
    assert not alive
    assert status == (0 if number is signal.SIGTERM else -signal.SIGKILL)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", started.port), timeout=5)
