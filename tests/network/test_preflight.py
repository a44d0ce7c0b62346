"""Preflight against the real API, database and SuperLink, over TLS with the consortium's own CA.

Only the reverse proxy is ours: it ends TLS and sends `/v1/fleet/*` to the SuperLink.
"""

import base64
import json
import os
import shutil
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from hospital_tables import BREAST, write_tables

sys.path.append(str(Path(__file__).parents[1] / "agent"))
from commands import Machines, call, founded, machines, ok, until

from consortium import tasks
from consortium.flower.gate import MEMBER, SUSPENDED, write_nodes
from consortium.flower.superlink import NODES
from consortium.tls import make_tls, tls_folder
from hospital_agent.cohort import Cohort
from hospital_agent.folder import HospitalFolder, write_json
from hospital_agent.preflight import NETWORK, _run, is_ready, preflight
from hospital_agent.preflight import local as preflight_local
from hospital_agent.preflight import network as preflight_network
from hospital_agent.preflight import site as preflight_site
from hospital_agent.preflight.site import Check, State
from hospital_agent.transport import open_transport, public_bytes

HOSPITALS = 3
Message = MutableMapping[str, Any]


class Router:
    """The reverse proxy: an ASGI app that sends each path where it belongs."""

    def __init__(self, api: str, superlink: str) -> None:
        self.api, self.superlink = api, superlink

    async def __call__(
        self, scope: Message, receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:  # fmt: skip
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        fleet = scope["path"].startswith("/v1/fleet/")
        transport = None if fleet else httpx.AsyncHTTPTransport(uds=self.api[len("unix:") :])
        base = self.superlink if fleet else "http://consortium"
        headers = [(n, v) for n, v in scope["headers"] if n not in (b"host", b"content-length")]
        try:
            async with httpx.AsyncClient(
                transport=transport, base_url=base, verify=False, trust_env=False
            ) as client:
                reply = await client.request(
                    scope["method"], scope["path"], headers=headers, content=body
                )
            status, content, out = reply.status_code, reply.content, reply.headers.raw
        except httpx.TransportError:
            status, content, out = 502, b"", []
        kept = [(n, v) for n, v in out if n.lower() in (b"date", b"content-type")]
        await send({"type": "http.response.start", "status": status, "headers": kept})
        await send({"type": "http.response.body", "body": content})


@contextmanager
def listening(app: Any, certificate: Path, key: Path) -> Iterator[int]:
    """An ASGI app over TLS in a thread; gives its port."""
    config = uvicorn.Config(
        app, host="127.0.0.1", port=0, log_level="error", lifespan="off", date_header=False,
        ssl_certfile=str(certificate), ssl_keyfile=str(key),
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started, "the proxy")
        yield int(server.servers[0].sockets[0].getsockname()[1])
    finally:
        server.should_exit = True
        thread.join()


@dataclass
class Site:
    """A running consortium of three, and where its parts are."""

    machines: Machines
    home: Path
    url: str
    api: str
    router: Router

    def folder(self, number: int = 1) -> Path:
        return self.machines.root / f"hospital-{number}"

    def check(self, folder: Path, url: str | None = None) -> dict[str, Check]:
        return {check.name: check for check in preflight(HospitalFolder(folder), url)}

    def follow(self, *numbers: int) -> None:
        for number in numbers:
            ok("hospital-agent", "witness", "--once", "--home", self.folder(number),
               "--api", self.api)  # fmt: skip


def make_transport(folder: Path) -> bytes:
    return public_bytes(open_transport(HospitalFolder(folder)))


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with machines() as site:
        root, home = site.root, site.root / "home"
        founded(root, home, HOSPITALS)
        make_tls(home, ["localhost"])
        tables = write_tables(root / "tables", BREAST)
        api = site.serve(home)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        out = site.start(["consortium", "superlink", "--home", home, "--port", str(port)])
        until(lambda: out.read_text().startswith("https://"), "the SuperLink")
        router = Router(api, f"https://127.0.0.1:{port}")
        nodes = {}
        tls = tls_folder(home)
        with listening(router, tls / "server.pem", tls / "server.key") as front:
            made = Site(site, home, f"https://localhost:{front}", api, router)
            for number in range(1, HOSPITALS + 1):
                folder = made.folder(number)
                nodes[make_transport(folder)] = (f"hospital-{number}", MEMBER)
                shutil.copy(tls / "ca.pem", folder / "ca.pem")
                write_json(folder / "connection.json", {"url": made.url})
            write_nodes(home / NODES, nodes)
            made.follow(1, 2, 3)
            ok("hospital-agent", "data", "add", "oncology", "--task", BREAST, "--source",
               tables["hospital-1"][0], "--declared-patients", "125",
               "--home", made.folder())  # fmt: skip
            yield made


@pytest.fixture
def copied(site: Site, tmp_path: Path) -> Path:
    """Hospital 1's folder, to be damaged."""
    return Path(shutil.copytree(site.folder(), tmp_path / "copy"))


def fails(checks: dict[str, Check], *names: str) -> None:
    """Exactly these fail, and each says how to fix it."""
    failed = {name: check for name, check in checks.items() if check.state is State.FAIL}
    assert sorted(failed) == sorted(names), failed
    assert all(check.fix for check in failed.values())


# ready


def test_a_hospital_that_can_take_part_is_ready(site: Site) -> None:
    checks = site.check(site.folder())
    assert {c.state for c in checks.values()} == {State.OK}, checks
    assert checks["api"].result.startswith("member")
    assert checks["keys"].result == "all there, 0600, as on the ledger"
    assert is_ready(list(checks.values()))


def test_the_command_prints_a_table_that_fits_and_exits_by_the_verdict(
    site: Site, copied: Path
) -> None:
    done = ok("hospital-agent", "preflight", "--home", site.folder())
    lines = done.out.splitlines()
    assert lines[-1] == "ready"
    assert max(map(len, lines)) <= 100
    shown = json.loads(
        ok("hospital-agent", "preflight", "--home", site.folder(), "--format", "json").out
    )
    assert shown["ready"] is True
    assert {check["state"] for check in shown["checks"]} == {"ok"}
    (copied / "ca.pem").unlink()
    broken = call("hospital-agent", "preflight", "--home", copied)
    assert broken.code == 1
    assert broken.out.splitlines()[-1].startswith("not ready: tls, api")
    assert max(map(len, broken.out.splitlines())) <= 100


def test_nothing_is_changed_and_nothing_secret_shown(site: Site) -> None:
    folder = site.folder()

    def contents() -> dict[Path, bytes]:
        return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}

    before = contents()
    out = ok("hospital-agent", "preflight", "--home", folder, "--format", "json").out
    assert contents() == before
    rows = sum(len(p.read_text().splitlines()) - 1 for p in folder.rglob("cohorts/*/*.csv"))
    assert str(rows) not in out
    for path in (folder / "keys").iterdir():
        assert path.read_text().splitlines()[0] not in out


# what the consortium says


def test_a_newcomer_waits_for_approvals(site: Site, tmp_path: Path) -> None:
    ledger = HospitalFolder(site.folder()).ledger
    assert ledger is not None
    folder = tmp_path / "hospital-9"
    ok("hospital-agent", "enrol", "--id", "hospital-9", "--title", "H 9", "--ledger", ledger,
       "--home", folder, "--out", tmp_path / "form.json")  # fmt: skip
    make_transport(folder)
    shutil.copy(site.folder() / "ca.pem", folder)
    checks = site.check(folder, site.url)
    fails(checks, "api", "data")
    assert "waiting for approvals" in checks["api"].result
    assert "not on the ledger yet" in checks["keys"].result
    assert checks["superlink"].state is State.WARN  # its key is not announced
    assert checks["replica"].state is State.WARN
    assert not (folder / "replica.sqlite").exists()
    assert not (folder / "budget.sqlite").exists()


def test_one_suspended_and_then_removed_is_told_so(site: Site) -> None:
    third = site.folder(3)
    assert site.check(third)["api"].state is State.OK
    for step, said in [("suspend", "suspended"), ("remove", "removed")]:
        change = ok(
            "consortium", "institution", step, "hospital-3", "--home", site.home
        ).value("change")  # fmt: skip

        def known(change: str = change) -> bool:
            site.follow(1, 2)
            return change[:8] in ok("hospital-agent", "members", "list", "--home",
                                    site.folder(1), "--format", "json").out  # fmt: skip

        until(known, "the change is in a block")
        for number in (1, 2):
            ok("hospital-agent", "members", "approve", change, "--as", "Ada",
               "--home", site.folder(number), "--api", site.api)  # fmt: skip

        def decided(said: str = said) -> bool:
            site.follow(1, 2)
            return said in site.check(third)["api"].result

        until(decided, step)
        checks = site.check(third)
        assert checks["api"].state is State.FAIL
        assert checks["api"].fix


def test_the_gate_says_that_a_node_is_suspended(site: Site) -> None:
    public = make_transport(site.folder())
    nodes = site.home / NODES
    before = nodes.read_bytes()
    write_nodes(nodes, {public: ("hospital-1", SUSPENDED)})
    try:
        check = site.check(site.folder())["superlink"]
    finally:
        nodes.write_bytes(before)
    assert (check.state, check.result) == (
        State.FAIL, "refuses this hospital: InstitutionSuspended"
    )  # fmt: skip


def test_a_superlink_that_is_away_is_not_a_refusal(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site.router, "superlink", "https://127.0.0.1:9")
    checks = site.check(site.folder())
    fails(checks, "superlink")
    assert "502" in checks["superlink"].result


def test_an_api_without_a_superlink_behind_it(site: Site) -> None:
    check = site.check(site.folder(), site.api)
    assert check["superlink"].state is State.WARN
    assert check["api"].state is State.OK
    assert check["tls"].result == "not needed: on this machine"


@pytest.mark.parametrize(("offset", "state"), [(5, "ok"), (20, "warn"), (-20, "warn")])
def test_a_clock_that_is_off(
    site: Site, monkeypatch: pytest.MonkeyPatch, offset: int, state: str
) -> None:
    real = time.time
    monkeypatch.setattr("hospital_agent.preflight.site.time.time", lambda: real() + offset)
    checks = site.check(site.folder())
    assert checks["clock"].state == state
    assert checks["api"].state is State.OK


@pytest.mark.parametrize("offset", [120, -200])
def test_a_clock_too_far_off_is_why_the_api_refuses(
    site: Site, monkeypatch: pytest.MonkeyPatch, offset: int
) -> None:
    """The token is made beforehand: the server in this test shares our clock."""
    real = time.time
    from consortium.api import tokens

    def skewed(*arguments: Any) -> str:
        with monkeypatch.context() as patch:
            patch.setattr(tokens.time, "time", lambda: real() + offset)
            return tokens.sign_token(*arguments)

    monkeypatch.setattr(preflight_site, "sign_token", skewed)
    monkeypatch.setattr(preflight_site, "_ahead", lambda now, date: AHEAD(now + offset, date))
    checks = site.check(site.folder())
    fails(checks, "clock", "api")
    assert "clocks differ" in checks["api"].result


AHEAD = preflight_site._ahead


# TLS, DNS, proxy


def certificate(
    folder: Path, names: list[str], days: int, issuer: tuple[Path, Path] | None = None
) -> tuple[Path, Path]:
    """A certificate and its key; under a CA, or its own."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, folder.name)])
    signer, by = key, name
    if issuer is not None:
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        ca = x509.load_pem_x509_certificate(issuer[0].read_bytes())
        loaded = load_pem_private_key(issuer[1].read_bytes(), None)
        assert isinstance(loaded, ec.EllipticCurvePrivateKey)
        signer, by = loaded, ca.subject
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name).issuer_name(by).public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=400)).not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), False)
        .add_extension(x509.BasicConstraints(issuer is None, None), True)
        .sign(signer, SHA256())
    )  # fmt: skip
    folder.mkdir(exist_ok=True)
    (folder / "cert.pem").write_bytes(built.public_bytes(Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    return folder / "cert.pem", folder / "key.pem"


@pytest.mark.parametrize(
    ("names", "days", "said"),
    [
        (["localhost"], 100, "99 days are left"),
        (["localhost"], 12, "11 days are left"),
        (["localhost"], -1, "has expired"),
        (["elsewhere.example"], 100, "is not for localhost"),
    ],
)
def test_what_a_certificate_may_be(
    site: Site, copied: Path, tmp_path: Path, names: list[str], days: int, said: str
) -> None:
    ca = certificate(tmp_path / "ca", ["ca"], 3000)
    shutil.copy(ca[0], copied / "ca.pem")
    with listening(site.router, *certificate(tmp_path / "leaf", names, days, ca)) as port:
        checks = site.check(copied, f"https://localhost:{port}")
    assert said in checks["tls"].result
    expected = {100: State.OK if names == ["localhost"] else State.FAIL, 12: State.WARN}
    assert checks["tls"].state is expected.get(days, State.FAIL)
    assert (checks["api"].state is State.OK) is (checks["tls"].state is not State.FAIL)


def test_another_ca_is_told_from_everything_else(site: Site, copied: Path, tmp_path: Path) -> None:
    ca = certificate(tmp_path / "other", ["ca"], 3000)
    with listening(site.router, *certificate(tmp_path / "leaf", ["localhost"], 90, ca)) as port:
        checks = site.check(copied, f"https://localhost:{port}")
    fails(checks, "tls", "api", "clock", "superlink")
    assert "another certificate authority" in checks["tls"].result


def test_a_port_without_tls_and_a_closed_one(site: Site, copied: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def talk() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"SSH-2.0-nothing\r\n")

        thread = threading.Thread(target=talk)
        thread.start()
        check = preflight_network.tls(
            preflight_site.Site(HospitalFolder(copied), f"https://localhost:{port}")
        )
        thread.join()
    assert "does not speak TLS" in check.result
    checks = site.check(copied, f"https://localhost:{port}")
    fails(checks, "tls", "api", "clock", "superlink")
    assert str(port) in checks["tls"].fix


def test_offline_everything_else_is_still_checked(site: Site) -> None:
    checks = site.check(site.folder(), "https://medpole.invalid:8443")
    fails(checks, "dns", "tls", "api", "clock", "superlink")
    assert "medpole.invalid" in checks["dns"].result
    assert {checks[n].state for n in ("keys", "data", "budget", "replica")} == {State.OK}


@contextmanager
def forward_proxy() -> Iterator[tuple[int, list[bytes]]]:
    """A proxy that understands CONNECT, once for each connection; what it was asked is kept."""
    asked: list[bytes] = []

    def copy(source: socket.socket, sink: socket.socket) -> None:
        try:
            while chunk := source.recv(65536):
                sink.sendall(chunk)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def serve(connection: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head and (chunk := connection.recv(4096)):
            head += chunk
        asked.append(head)
        host, port = head.split()[1].decode().split(":")
        with connection, socket.create_connection((host, int(port))) as target:
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=copy, args=(target, connection))
            back.start()
            copy(connection, target)
            back.join()

    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1], asked
        server.shutdown(socket.SHUT_RDWR)


def test_a_proxy_is_used_and_shown_without_its_password(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with forward_proxy() as (port, asked):
        monkeypatch.setenv("HTTPS_PROXY", f"http://ward:s3cret@127.0.0.1:{port}")
        checks = site.check(site.folder())
    fails(checks)
    assert checks["proxy"].result == f"127.0.0.1:{port}, from the environment"
    assert checks["dns"].result == "left to the proxy"
    assert "s3cret" not in repr(checks)
    assert len(asked) >= 3  # TLS, API, SuperLink
    assert {head.split()[0] for head in asked} == {b"CONNECT"}
    pair = base64.b64encode(b"ward:s3cret")
    assert all(b"Basic " + pair in head for head in asked)
    monkeypatch.setenv("NO_PROXY", "localhost")
    assert site.check(site.folder())["proxy"].result.startswith("none")


# this machine


def test_without_an_address_the_way_to_one_is_told(copied: Path) -> None:
    (copied / "connection.json").unlink()
    done = call("hospital-agent", "preflight", "--home", copied)
    assert done.code == 1
    assert done.out.splitlines()[-1] == "not ready: connection"
    assert not {check.__name__ for check in NETWORK} & {
        line.split("│")[1].strip() for line in done.out.splitlines() if line.startswith("│")
    }


def _loosen(path: Path) -> None:
    path.chmod(0o644)


DAMAGE: dict[str, tuple[str, Callable[[Path], object]]] = {
    "folder open": ("disk", lambda f: f.chmod(0o755)),
    "key open": ("keys", lambda f: _loosen(f / "keys" / "record.key")),
    "key of another": (
        "keys", lambda f: (f / "keys" / "cosign.key").write_text(os.urandom(32).hex())
    ),
    "key lost": ("keys", lambda f: (f / "keys" / "vrf.key").unlink()),
    "transport open": ("keys", lambda f: _loosen(f / "keys" / "transport.key")),
    "transport damaged": ("keys", lambda f: (f / "keys" / "transport.key").write_text("x")),
    "no patients": ("data", lambda f: shutil.rmtree(f / "cohorts")),
    "task not allowed": ("data", lambda f: (f / "policy.json").unlink()),
    "patients damaged": (
        "data", lambda f: (f / "cohorts" / BREAST / "train.csv").write_text("malignant\n19510704\n")
    ),
    "budget lost": ("budget", lambda f: (f / "budget.sqlite").unlink()),
    "budget damaged": ("budget", lambda f: (f / "budget.sqlite").write_bytes(b"x" * 9000)),
    "replica damaged": ("replica", lambda f: (f / "replica.sqlite").write_bytes(b"x" * 9000)),
    "policy damaged": ("data", lambda f: (f / "policy.json").write_text("{")),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_wrong_here_is_named(site: Site, copied: Path, damage: str) -> None:
    name, break_ = DAMAGE[damage]
    break_(copied)
    checks = site.check(copied)
    assert checks[name].state is State.FAIL
    assert checks[name].fix
    assert "19510704" not in repr(checks)
    assert not is_ready(list(checks.values()))
    if damage.endswith("lost"):  # nothing is made in place of what is lost
        assert sorted(p.name for p in copied.rglob("*") if p.name == f"{name}.sqlite") == []


def test_a_transport_key_to_be_made_is_a_warning_and_none_is_made(site: Site, copied: Path) -> None:
    (copied / "keys" / "transport.key").unlink()
    checks = site.check(copied)
    assert (checks["keys"].state, checks["superlink"].state) == (State.WARN, State.WARN)
    assert not (copied / "keys" / "transport.key").exists()


def test_too_few_patients_to_judge_is_a_warning(site: Site, copied: Path) -> None:
    path = copied / "cohorts" / BREAST / "validation.csv"
    path.write_text("\n".join(path.read_text().splitlines()[:4]) + "\n")
    check = site.check(copied)["data"]
    assert (check.state, check.result) == (State.WARN, f"{BREAST}: too few to judge models")


def test_a_budget_that_is_spent_fails(site: Site, copied: Path) -> None:
    folder = HospitalFolder(copied)
    cohort = Cohort.open(folder, BREAST).id
    terms = tasks.get(BREAST).terms(10, Decimal(3), Decimal("0.00001"), 125)
    folder.budget.reserve(cohort, "job-1", terms)
    check = site.check(copied)["budget"]
    assert check.state is State.FAIL
    assert "nothing more can be trained" in check.result


def test_little_disk_and_memory(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def free(amount: float) -> Callable[[object], object]:
        return lambda _: shutil._ntuple_diskusage(2**40, 0, int(amount * 2**30))

    place = preflight_site.Site(HospitalFolder(site.folder()), site.url)
    for amount, state in [(0.1, State.FAIL), (0.5, State.WARN), (2, State.OK)]:
        monkeypatch.setattr(shutil, "disk_usage", free(amount))
        assert preflight_local.disk(place).state is state
    for available, state in [([2**29], State.WARN), ([2**31, 2**29], State.WARN), ([], State.WARN)]:
        monkeypatch.setattr(preflight_local, "_memory", lambda available=available: iter(available))
        assert preflight_local.memory(place).state is state


def test_the_versions_asked_for_are_those_of_the_package(site: Site) -> None:
    import tomllib

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    wanted = project["project"]["optional-dependencies"]["agent"]

    def dotted(number: tuple[int, int]) -> str:
        return ".".join(map(str, number))

    for package, (least, below) in preflight_local.VERSIONS.items():
        text = f"{package}>={dotted(least)}" + (f",<{dotted(below)}" if below else "")
        assert text in wanted
    assert (
        preflight_local.versions(preflight_site.Site(HospitalFolder(site.folder()), site.url)).state
        is State.OK
    )


def test_an_error_inside_a_check_never_shows_its_text(site: Site) -> None:
    def data(_: preflight_site.Site) -> Check:
        raise ValueError("Mrs Miller, born 1951")

    check = _run(data, preflight_site.Site(HospitalFolder(site.folder()), site.url))
    assert (check.name, check.state) == ("data", State.FAIL)
    assert "Miller" not in repr(check)
