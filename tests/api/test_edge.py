"""What is around every route: ids, headers, limits, the access log, and what nobody foresaw."""

import asyncio
import json
import logging
import os
import stat
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import httpx
import pytest
from fastapi import Body, FastAPI, Request
from fastapi.responses import StreamingResponse
from sqlalchemy.exc import DataError, OperationalError

from consortium.access import Caller, Role
from consortium.access_log import FOLDER, NAME, AccessLog
from consortium.api import health, rate_limits
from consortium.api.body_limit import MOST_BY_PATH, MOST_BYTES
from consortium.api.edge import Traffic
from consortium.api.local import local_api
from consortium.api.operations import add_operations, new_app
from consortium.api.rate_limits import MOST_AT_ONCE, Buckets, RateLimits
from consortium.errors import TokenInvalid, TooManyRequests
from ledger.errors import LedgerMissing

SECRET = "patient-4711"
OF = {"Authorization": "Bearer x"}


class Site:
    """An application with a route of each kind, served on a Unix socket as the proxy finds it."""

    def __init__(self, home: Path, limits: RateLimits | None = None) -> None:
        self.home, self.limits = home, limits
        self.height: int | Exception = 7
        self.go_on = threading.Event()
        self.app = new_app()
        _routes(self.app, self)
        self.traffic: Traffic = add_operations(self.app, self._height, AccessLog(home), limits)

    def _height(self) -> int:
        if isinstance(self.height, Exception):
            raise self.height
        return self.height

    def lines(self, count: int) -> list[dict[str, object]]:
        """The log's lines, once there are so many: an answer may be here before its line is."""
        deadline = time.monotonic() + 10
        while True:
            found = [json.loads(line) for line in AccessLog(self.home).lines()]
            if len(found) >= count or time.monotonic() > deadline:
                assert len(found) == count
                return found


def _routes(app: FastAPI, site: Site) -> None:
    @app.get("/things/{thing}")
    def thing(thing: str, request: Request, limit: int = 1) -> dict[str, object]:
        if thing == "mine":
            request.state.caller = Caller("Ada", Role.AUDITOR)
        if thing == "counted" and site.limits is not None:
            request.state.over = site.limits.begin(Caller("Ada", Role.AUDITOR))
        if thing == "refused":
            raise TokenInvalid("no", "no")
        if thing == "wrong":
            raise RuntimeError(SECRET)
        if thing == "away":
            raise OperationalError("SELECT", {}, Exception(SECRET))
        if thing == "fault":
            raise DataError("SELECT", {}, Exception(SECRET))
        return {"address": request.state.address, "limit": limit}

    @app.post("/things")
    @app.post("/v1/ledger/submissions")
    def post(numbers: Annotated[dict[str, int], Body()]) -> int:
        return len(numbers)

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def parts() -> AsyncIterator[bytes]:
            yield b"first"
            await asyncio.to_thread(site.go_on.wait, 20)
            yield b"second"

        return StreamingResponse(parts())

    @app.get("/broken")
    async def broken() -> StreamingResponse:
        async def parts() -> AsyncIterator[bytes]:
            yield b"first"
            raise RuntimeError(SECRET)

        return StreamingResponse(parts())


@contextmanager
def asked(site: Site) -> Iterator[httpx.Client]:
    with local_api(site.app) as client:
        yield client


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def client(site: Site) -> Iterator[httpx.Client]:
    with asked(site) as client:
        yield client


def test_every_answer_has_an_id_and_the_headers_that_browsers_obey(client: httpx.Client) -> None:
    answers = [client.get(f"/things/{one}") for one in ("any", "refused", "wrong", "away")]
    answers += [client.get("/nothing"), client.delete("/things/x"), client.get("/things/x?limit=y")]
    answers += [client.post("/things", content=b"x" * (MOST_BYTES + 1))]
    assert [a.status_code for a in answers] == [200, 401, 500, 503, 404, 405, 422, 413]
    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"
    assert len({answer.headers["x-request-id"] for answer in answers}) == len(answers)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/nothing", None, 404, "NotFound"),
        ("GET", "/things/x/", None, 404, "NotFound"),
        ("DELETE", "/things/x", None, 405, "MethodNotAllowed"),
        ("GET", "/things/x?limit=seven", None, 422, "RequestInvalid"),
        ("POST", "/things", b'{"a": "b"}', 422, "RequestInvalid"),
        ("POST", "/things", b"{", 400, "RequestInvalid"),
        ("POST", "/things", b"\xff", 400, "RequestInvalid"),
        ("POST", "/things", b"[" * 30_000, 400, "RequestInvalid"),
        ("GET", "/things/refused", None, 401, "TokenInvalid"),
        ("GET", "/things/wrong", None, 500, "InternalError"),
        ("GET", "/things/fault", None, 500, "InternalError"),
        ("GET", "/things/away", None, 503, "DatabaseUnreachable"),
    ],
)
def test_every_error_is_a_problem(
    client: httpx.Client, method: str, path: str, body: bytes | None, status: int, code: str
) -> None:
    headers = {"Content-Type": "application/json"}
    answer = client.request(method, path, content=body, headers=headers)
    found = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, found["status"], found["code"]) == (status, status, code)
    assert found["type"] == "about:blank"
    assert set(found) - {"fields"} == {"type", "title", "status", "code", "detail", "resolve"}
    expected = {401: "www-authenticate", 405: "allow", 503: "retry-after"}.get(status)
    assert expected is None or expected in answer.headers


def test_what_is_wrong_is_named_and_not_repeated(client: httpx.Client) -> None:
    assert client.get(f"/things/x?limit={SECRET}").json()["fields"] == ["query.limit"]
    answer = client.post("/things", json={"a": SECRET})
    assert answer.json()["fields"] == ["body.a"]
    assert SECRET not in answer.text


def test_a_fault_leaves_its_id_and_nothing_of_its_text(
    client: httpx.Client, site: Site, caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    with caplog.at_level(logging.INFO):
        answer = client.get("/things/wrong")
        with pytest.raises(httpx.RemoteProtocolError):
            client.get("/broken")
    assert answer.headers["x-request-id"] in answer.json()["detail"]
    assert answer.headers["x-request-id"] in caplog.text
    assert "RuntimeError at test_edge.py" in caplog.text
    everything = answer.text + caplog.text + "".join(capfd.readouterr()) + str(site.lines(2))
    assert SECRET not in everything


def test_bodies_have_a_limit_whatever_they_say_of_themselves(client: httpx.Client) -> None:
    def chunks(size: int) -> Iterator[bytes]:
        yield b'{"a": 1}'
        for _ in range(size // 1000):
            yield b" " * 1000

    kind = {"Content-Type": "application/json"}
    for path, most in (("/things", MOST_BYTES), *MOST_BY_PATH.items()):
        fits = client.post(path, content=b'{"a": 1}'.ljust(most), headers=kind)
        assert fits.json() == 1
        for content in (b" " * (most + 1), chunks(most + 1000)):
            answer = client.post(path, content=content, headers=kind)
            assert (answer.status_code, answer.json()["code"]) == (413, "BodyTooLarge")
    assert client.request("GET", "/stream", content=b" " * (MOST_BYTES + 1)).status_code == 413


def test_a_stream_passes_as_it_comes(client: httpx.Client, site: Site) -> None:
    with client.stream("GET", "/stream") as answer:
        parts = answer.iter_raw()
        assert next(parts) == b"first"  # the second waits for us
        assert site.traffic.under_way() == {"/stream": 1}
        site.go_on.set()
        assert b"".join(parts) == b"second"
    (line,) = site.lines(1)
    assert (line["route"], line["bytes"]) == ("/stream", 11)
    assert not site.traffic.under_way()


def test_the_access_log_says_who_what_and_how_it_ended(
    client: httpx.Client, site: Site, capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    token = "mpa_0a1b2c3d_secret"
    for_log = {"X-Forwarded-For": "198.51.100.9, 192.0.2.7", "Authorization": f"Bearer {token}"}
    answer = client.get(f"/things/mine?limit=1&token={token}", headers=for_log)
    client.get(f"/{token}", headers={"X-Forwarded-For": token, "X-Request-Id": token})
    client.request(token.upper(), "/things/x")
    asyncio.run(in_process(site, token.upper(), "/things/x"))
    first, second, third = site.lines(3)
    assert first["caller"] == "Ada"
    assert first["role"] == "auditor"
    assert first["address"] == "192.0.2.7" == answer.json()["address"]
    assert (first["method"], first["route"]) == ("GET", "/things/{thing}")
    assert (first["status"], first["bytes"]) == (200, len(answer.content))
    assert first["request"] == answer.headers["x-request-id"]
    assert (second["route"], second["address"], second["caller"]) == ("-", None, None)
    assert (third["method"], third["status"]) == ("OTHER", 405)
    everything = (site.home / FOLDER / NAME).read_text() + caplog.text + str(capfd.readouterr())
    assert "secret" not in everything.lower()
    folder = site.home / FOLDER
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_full_files_are_rotated_by_several_writers_and_read_in_order(tmp_path: Path) -> None:
    logs = [AccessLog(tmp_path, most_bytes=2_000, most_files=4) for _ in range(3)]
    for number in range(600):
        logs[number % 3].write(json.dumps({"time": number}))
    files = sorted(path.name for path in (tmp_path / FOLDER).glob(f"{NAME}*"))
    assert files == [NAME, *(f"{NAME}.{number}" for number in (1, 2, 3))]
    assert all((tmp_path / FOLDER / name).stat().st_size < 2_050 for name in files)
    with (tmp_path / FOLDER / NAME).open("a") as file:
        file.write('{"time": 1')  # killed while it wrote
    times = [json.loads(line)["time"] for line in logs[0].lines()]
    assert times == list(range(times[0], 600))
    assert [json.loads(line)["time"] for line in logs[0].lines(since=590)] == list(range(590, 600))


def test_what_is_rotated_away_meanwhile_is_still_read(tmp_path: Path) -> None:
    log = AccessLog(tmp_path, most_bytes=1_000, most_files=2)
    for number in range(20):
        log.write(json.dumps({"time": number}))
    reading = log.lines()
    assert json.loads(next(reading))["time"] == 0
    for number in range(20, 400):
        log.write(json.dumps({"time": number}))
    times = [json.loads(line)["time"] for line in reading]
    assert times[:19] == list(range(1, 20))


def test_a_log_that_cannot_be_written_stops_nobody(
    client: httpx.Client, site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    (site.home / FOLDER).write_text("a file where the folder should be")
    assert [client.get("/things/x").status_code for _ in range(3)] == [200] * 3
    while site.traffic.under_way():
        pass  # the last answer may be here before it is over there
    assert caplog.text.count("cannot be written") == 1
    os.unlink(site.home / FOLDER)
    client.get("/things/x")
    site.lines(1)


def test_ready_says_whether_the_ledger_can_be_read(site: Site, client: httpx.Client) -> None:
    assert client.get("/v1/health").json()["status"] == "ok"
    assert client.get("/v1/ready").json() == {"status": "ready", "height": 7}


@pytest.mark.parametrize(
    ("error", "code"),
    [(LedgerMissing("none", "wait"), "LedgerMissing"),
     (OperationalError("SELECT", {}, Exception()), "DatabaseUnreachable")],
)  # fmt: skip
def test_not_ready_is_a_problem(
    site: Site, client: httpx.Client, error: Exception, code: str
) -> None:
    site.height = error
    answer = client.get("/v1/ready")
    assert (answer.status_code, answer.json()["code"]) == (503, code)
    assert "retry-after" in answer.headers
    assert client.get("/v1/health").status_code == 200


def test_a_database_that_hangs_keeps_nobody_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "PATIENCE_S", 0.3)
    site, hanging, looks = Site(tmp_path), threading.Event(), []

    def height() -> int:
        looks.append(1)
        hanging.wait(20)
        return 3

    site.app = new_app()
    add_operations(site.app, height, None, None)
    with asked(site) as client:
        answers = [client.get("/v1/ready") for _ in range(2)]
        assert [a.json()["code"] for a in answers] == ["DatabaseUnreachable"] * 2
        assert max(a.elapsed.total_seconds() for a in answers) < 2
        assert len(looks) == 1  # and no thread more for each who asks
        hanging.set()
        while client.get("/v1/ready").status_code != 200:
            pass


# limits


def test_a_bucket_holds_a_minute_and_refills_in_one() -> None:
    now = [1000.0]
    buckets = Buckets(60, lambda: now[0])
    assert [buckets.take("a") for _ in range(60)] == [0.0] * 60
    assert buckets.take("a") == pytest.approx(1.0)
    assert buckets.take("b") == 0.0
    now[0] += 1.0
    assert buckets.take("a") == 0.0
    assert buckets.take("a") == pytest.approx(1.0)
    now[0] += 3600.0
    assert [buckets.take("a") for _ in range(60)] == [0.0] * 60


def test_buckets_take_a_bounded_amount_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    buckets = Buckets(60, lambda: now[0])
    for number in range(500):
        buckets.take(str(number))
        now[0] += 0.01
    assert len(buckets) <= 101  # the others are full again
    monkeypatch.setattr(rate_limits, "_MOST", 50)
    for number in range(500):
        buckets.take(str(number))
    assert len(buckets) == 50


def test_each_kind_of_caller_has_its_own_limit() -> None:
    limits = RateLimits(60, lambda: 1000.0)
    allowed = {Role.INSTITUTION: 1200, Role.ADMIN: 60, Role.AUDITOR: 60}
    for role, most in allowed.items():
        for _ in range(most):
            limits.caller(Caller("x", role))
        with pytest.raises(TooManyRequests):
            limits.caller(Caller("x", role))
        limits.caller(Caller("y", role))


def test_so_many_of_a_callers_requests_are_under_way_at_most() -> None:
    limits, ada = RateLimits(60), Caller("Ada", Role.AUDITOR)
    over = [limits.begin(ada) for _ in range(MOST_AT_ONCE)]
    with pytest.raises(TooManyRequests):
        limits.begin(ada)
    limits.begin(Caller("Grace", Role.AUDITOR))
    over[0]()
    limits.begin(ada)


def test_a_request_is_under_way_until_its_answer_ends(tmp_path: Path) -> None:
    limits = RateLimits(60)
    with asked(Site(tmp_path, limits)) as client:
        for _ in range(MOST_AT_ONCE + 1):
            assert client.get("/things/counted", headers=OF).is_success


def test_a_token_where_none_is_asked_for_is_no_way_around_the_limit(tmp_path: Path) -> None:
    with asked(Site(tmp_path, RateLimits(60))) as client:
        shown = {"X-Forwarded-For": "::ffff:192.0.2.7", **OF}
        statuses = [client.get("/v1/health", headers=shown).status_code for _ in range(8)]
        assert statuses == [200] * 6 + [429] * 2
        for other in ("192.0.2.8", "::ffff:192.0.2.9"):
            assert client.get("/v1/health", headers={"X-Forwarded-For": other}).is_success


def test_strangers_are_limited_by_address_and_nobody_else_for_it(tmp_path: Path) -> None:
    with asked(Site(tmp_path, RateLimits(60))) as client:
        bad = {"X-Forwarded-For": "192.0.2.7"}
        statuses = [client.get("/things/x", headers=bad).status_code for _ in range(9)]
        assert statuses == [200] * 6 + [429] * 3
        with_token = {**bad, **OF}
        assert client.get("/things/refused", headers=with_token).status_code == 429
        assert client.get("/nothing", headers=with_token).status_code == 429
        assert client.get("/things/mine", headers=with_token).status_code == 200
        refused = client.get("/things/x", headers=bad)
        assert refused.json()["code"] == "TooManyRequests"
        assert 1 <= int(refused.headers["retry-after"]) <= 10
        assert refused.headers["x-content-type-options"] == "nosniff"
        assert client.get("/things/x", headers={"X-Forwarded-For": "192.0.2.8"}).is_success
        assert client.get("/things/x").is_success  # by the socket: the coordinator's own account
        for host in range(6):
            one = {"X-Forwarded-For": f"2001:db8::{host}"}
            assert client.get("/things/x", headers=one).is_success
        assert client.get("/things/x", headers={"X-Forwarded-For": "2001:db8::9"}).is_error


def test_an_address_said_over_tcp_is_not_believed(site: Site) -> None:
    answer = asyncio.run(in_process(site, "GET", "/things/x"))
    assert answer.json()["address"] == "203.0.113.5"


async def in_process(site: Site, method: str, path: str) -> httpx.Response:
    transport = httpx.ASGITransport(site.app, client=("203.0.113.5", 4711))
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        return await client.request(method, path, headers={"X-Forwarded-For": "192.0.2.7"})
