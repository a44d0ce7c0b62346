"""Tokens, certificates, transport keys and the proxy on the way, without a coordinator."""

import os
import socket
import ssl
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from commands import call, ok, refused
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tls_front import front

from consortium import tls as tls_module
from consortium.errors import (
    EnrolmentUnknown,
    InvitationExpired,
    InvitationInvalid,
    InvitationRevoked,
    InvitationUnknown,
    TransportInvalid,
)
from consortium.events import events
from consortium.invitations import NO_CA, Invitations, Token
from consortium.tls import ca_folder, make_tls, read_tls, tls_folder
from consortium.transport import SIGNATURE, TransportKeys, transport_message
from hospital_agent.connection import connect, pinned_ca
from hospital_agent.errors import AgentError, CaMismatch, FolderInvalid
from hospital_agent.folder import HospitalFolder
from hospital_agent.transport import open_transport, public_bytes, transport_form

LEDGER = "ab" * 32


def token() -> Token:
    return Token(bytes(range(32)), bytes(32), LEDGER, founder=True)


# tokens


@pytest.mark.parametrize("founder", [True, False])
def test_a_token_is_read_as_it_was_written(founder: bool) -> None:
    made = Token(os.urandom(32), os.urandom(32), os.urandom(32).hex(), founder)
    assert Token.parse(f"  {made.text()}\n") == made
    assert made.bearer not in repr(made)


def test_nothing_else_is_a_token() -> None:
    text = token().text()
    wrong = [
        "", "MPL1.", text[:-1], text + "A", text[5:], "MPL2." + text[5:], "MPL1." + text,
        text.lower(), text + "=", text[:-2] + "Ag", text[:-1] + "R", text.replace("A", "+", 1),
        text[:20] + " " + text[20:], text + "é",
    ]  # fmt: skip
    for value in wrong:
        with pytest.raises(InvitationInvalid):
            Token.parse(value)


# the table


def test_times_and_states(tmp_path: Path) -> None:
    now = [1000.0]
    found = Invitations(tmp_path, clock=lambda: now[0])
    made = found.invite("hospital-1", "Hospital 1", LEDGER, founder=True, lifetime_s=60)
    assert found.open(made.bearer, LEDGER).institution == "hospital-1"
    with pytest.raises(InvitationExpired):
        found.open(made.bearer, "cd" * 32)
    now[0] = 1059.9
    found.open(made.bearer, LEDGER)
    now[0] = 1060.0
    with pytest.raises(InvitationExpired):
        found.open(made.bearer, LEDGER)
    assert [one.state(now[0]) for one in found.all()] == ["expired"]
    found.revoke("hospital-1")
    with pytest.raises(InvitationRevoked):
        found.open(made.bearer, LEDGER)
    with pytest.raises(EnrolmentUnknown):
        found.revoke("hospital-1")
    for bearer in ("", "x", "é", made.bearer[:-1], made.bearer + "A", Token.text(made)):
        with pytest.raises(InvitationUnknown):
            found.open(bearer, LEDGER)
    codes = [event["code"] for event in events(tmp_path)]
    # Of unknown ones at most one a second: anybody can send them.
    assert codes[:3] == ["InvitationExpired", "InvitationExpired", "InvitationRevoked"]
    assert 1 <= codes.count("InvitationUnknown") <= 3
    database = tmp_path / "coordinator" / "network.sqlite"
    assert stat.S_IMODE(database.stat().st_mode) == 0o600
    assert made.secret not in database.read_bytes()


# certificates


def test_the_ca_is_made_once_and_the_server_renewed(tmp_path: Path) -> None:
    make = ("consortium", "tls", "make", "--home", tmp_path / "home")
    refused("OptionInvalid", *make)
    refused("OptionInvalid", *make, "https://medpole.example.org")
    refused("TlsMissing", "consortium", "tls", "show", "--home", tmp_path / "home")
    assert not (tmp_path / "home").exists()
    first = ok(*make, "MedPoLe.example.org", "10.1.2.3", "::1")
    folder = tls_folder(tmp_path / "home")
    assert first.value("server names") == (
        "medpole.example.org, 10.1.2.3, ::1, localhost, 127.0.0.1"
    )
    ca = ca_folder(tmp_path / "home")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(before) == {"ca.pem", "server.key", "server.pem"}  # all that a proxy is given
    assert {path.name for path in ca.iterdir()} == {"ca.key", "ca.pem"}
    assert (ca / "ca.pem").read_bytes() == before["ca.pem"]
    for path in (ca / "ca.key", folder / "server.key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = ok(*make, "--days", "30")
    assert again.value("server names") == first.value("server names")
    assert again.value("ca sha256") == first.value("ca sha256")
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert {name for name in before if before[name] != after[name]} == {"server.pem"}
    assert ok("consortium", "tls", "show", "--home", tmp_path / "home").out == again.out
    tls = read_tls(tmp_path / "home")
    assert tls.fingerprint == tls.ca.fingerprint(SHA256())
    left = tls.server.not_valid_after_utc.timestamp() - time.time()
    assert 29 * 86400 < left <= 30 * 86400
    ten_years = tls.ca.not_valid_after_utc.timestamp() - time.time()
    assert ten_years > 3650 * 86400
    assert ok(*make, "other.example.org").value("server names").startswith("other.example.org,")
    assert call(*make, "--days", "826").code == 2


def test_what_was_cut_off_is_finished_and_what_is_lost_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = tls_module.replace_file

    def killed(path: Path, data: bytes) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tls_module, "replace_file", killed)
        assert call("consortium", "tls", "make", "a.org", "--home", tmp_path).code == 130
    key = (ca_folder(tmp_path) / "ca.key").read_bytes()
    monkeypatch.setattr(tls_module, "replace_file", real)
    made, ca = make_tls(tmp_path, ["a.org"]), ca_folder(tmp_path)
    assert (ca / "ca.key").read_bytes() == key
    make = ("consortium", "tls", "make", "a.org", "--home", tmp_path)
    (ca / "ca.key").rename(tmp_path / "elsewhere")
    refused("TlsInvalid", *make)
    assert not (ca / "ca.key").exists()
    (made.folder / "server.key").rename(ca / "ca.key")
    refused("TlsInvalid", *make)  # another key than ca.pem's
    (ca / "ca.pem").write_text("x")
    refused("TlsInvalid", *make)
    ca.rename(tmp_path / "lost")
    pinned = (made.folder / "ca.pem").read_bytes()
    refused("TlsInvalid", *make)  # hospitals have pinned another
    assert (made.folder / "ca.pem").read_bytes() == pinned


@pytest.mark.parametrize("cut_off", [False, True])
def test_a_ca_beside_the_server_is_moved(tmp_path: Path, cut_off: bool) -> None:
    """As it lay in earlier versions, in the folder that a proxy is given."""
    made, ca = make_tls(tmp_path, ["a.org"]), ca_folder(tmp_path)
    key = (ca / "ca.key").read_bytes()
    (ca / "ca.key").rename(made.folder / "ca.key")
    if not cut_off:  # before the key was moved
        (ca / "ca.pem").unlink()
        ca.rmdir()
    for _ in range(2):
        assert make_tls(tmp_path, []).fingerprint == made.fingerprint
        assert (ca / "ca.key").read_bytes() == key
        assert stat.S_IMODE((ca / "ca.key").stat().st_mode) == 0o600
        assert not (made.folder / "ca.key").exists()
        (made.folder / "ca.key").write_bytes(key)  # an older backup put back
    (made.folder / "ca.key").write_bytes((made.folder / "server.key").read_bytes())
    refused("TlsInvalid", "consortium", "tls", "make", "--home", tmp_path)
    assert (ca / "ca.key").read_bytes() == key


def test_a_strict_verifier_takes_the_chain(tmp_path: Path) -> None:
    make_tls(tmp_path, ["localhost"])
    context = ssl.create_default_context(cafile=str(tls_folder(tmp_path) / "ca.pem"))
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    with (
        front(tls_folder(tmp_path), None) as tls,
        socket.create_connection(("localhost", tls.port)) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secured,
    ):
        assert secured.version() == "TLSv1.3"


# the CA that a token names


def test_the_pinned_certificate_is_found(tmp_path: Path) -> None:
    made = make_tls(tmp_path, ["localhost"])
    with front(made.folder, None) as tls:
        pem = pinned_ca(tls.url, made.fingerprint)
        assert x509.load_pem_x509_certificate(pem.encode()) == made.ca
        with pytest.raises(CaMismatch):
            pinned_ca(tls.url, NO_CA)
        assert tls.received == []


@contextmanager
def proxy(target: int, answer: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """A proxy for one connection, to a port whatever is asked for."""
    asked: list[bytes] = []

    def pump(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass

    def serve() -> None:
        inner, _ = listening.accept()
        with inner, socket.create_connection(("localhost", target)) as outer:
            asked.append(inner.recv(65536))
            inner.sendall(answer)
            back = threading.Thread(target=pump, args=(outer, inner), daemon=True)
            back.start()
            pump(inner, outer)
            outer.shutdown(socket.SHUT_RDWR)
            back.join()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listening.getsockname()[1], asked
        thread.join(10)


def test_through_a_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_tls(tmp_path, ["hospital.invalid"])
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with front(made.folder, None) as tls:
        for answer, found in [
            (b"HTTP/1.1 200 Connection established\r\n\r\n", True),
            (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", False),
        ]:
            with proxy(tls.port, answer) as (port, asked):
                monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
                if found:
                    assert "BEGIN" in pinned_ca("https://hospital.invalid:8443", made.fingerprint)
                else:
                    with pytest.raises(AgentError):
                        pinned_ca("https://hospital.invalid:8443", made.fingerprint)
            assert asked[0].startswith(b"CONNECT hospital.invalid:8443 HTTP/1.1\r\n")
        monkeypatch.setenv("HTTPS_PROXY", "socks5://127.0.0.1:1")
        with pytest.raises(AgentError, match="proxy"):
            pinned_ca("https://hospital.invalid:8443", made.fingerprint)


def test_a_folder_knows_where_it_enrolled(tmp_path: Path) -> None:
    folder = HospitalFolder.create(tmp_path / "h", "hospital-1", "Hospital 1")
    with pytest.raises(FolderInvalid):
        connect(folder)
    connect(folder, "https://127.0.0.1:1").close()
    (folder.path / "ca.pem").write_text("x")
    with pytest.raises(FolderInvalid):
        connect(folder, "https://127.0.0.1:1")


# transport keys


def test_a_transport_key_is_flowers_and_stays(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.serialization import load_ssh_private_key
    from flwr.supercore.primitives.asymmetric import public_key_to_bytes

    folder = HospitalFolder.create(tmp_path, "hospital-1", "Hospital 1")
    key = open_transport(folder)
    path = folder.path / "keys" / "transport.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    read = load_ssh_private_key(path.read_bytes(), None)
    assert isinstance(read, ec.EllipticCurvePrivateKey)
    assert public_bytes(key) == public_key_to_bytes(read.public_key())
    assert public_bytes(open_transport(folder)) == public_bytes(key)
    path.chmod(0o640)
    with pytest.raises(FolderInvalid):
        open_transport(folder)
    path.chmod(0o600)
    path.write_text("x")
    with pytest.raises(FolderInvalid):
        open_transport(folder)


def test_a_transport_key_that_does_not_hold_is_refused(tmp_path: Path) -> None:
    keys = TransportKeys(tmp_path)
    folder = HospitalFolder.create(tmp_path / "h", "hospital-1", "Hospital 1")
    form = transport_form(folder, LEDGER)
    public, proof = form["key"].encode(), bytes.fromhex(form["proof"])
    small = ec.generate_private_key(ec.SECP256R1())
    other = small.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    message = transport_message(LEDGER, "hospital-1", other)
    wrong = [
        (LEDGER, "hospital-2", public, proof),
        ("cd" * 32, "hospital-1", public, proof),
        (LEDGER, "hospital-1", public, proof[:-1]),
        (LEDGER, "hospital-1", public, b""),
        (LEDGER, "hospital-1", public + b"\n", proof),
        (LEDGER, "hospital-1", b"x", proof),
        (LEDGER, "hospital-1", other, small.sign(message, SIGNATURE)),
    ]
    for arguments in wrong:
        with pytest.raises(TransportInvalid):
            keys.put(*arguments)
    assert keys.all() == {}
    keys.put(LEDGER, "hospital-1", public, proof)
    stolen = HospitalFolder.create(tmp_path / "s", "hospital-2", "Hospital 2")
    (stolen.path / "keys").mkdir()
    key = (folder.path / "keys" / "transport.key").read_bytes()
    (stolen.path / "keys" / "transport.key").write_bytes(key)
    (stolen.path / "keys" / "transport.key").chmod(0o600)
    form = transport_form(stolen, LEDGER)
    with pytest.raises(TransportInvalid, match="another institution's"):
        keys.put(LEDGER, "hospital-2", form["key"].encode(), bytes.fromhex(form["proof"]))
    keys.put(LEDGER, "hospital-1", public, proof)
    assert keys.all() == {"hospital-1": public}
    keys.remove("hospital-1")
    keys.remove("hospital-1")
    assert keys.all() == {}
