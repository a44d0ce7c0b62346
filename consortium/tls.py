"""The consortium's own certificates: a CA that hospitals pin, and the server's under it.

| in ``HOME/coordinator`` | holds |
|---|---|
| ``ca/ca.key``, ``ca/ca.pem`` | the CA, made once, for ten years; invitations hold its SHA-256 |
| ``tls/ca.pem`` | its certificate once more: for whoever connects |
| ``tls/server.key`` | the server's key, made once |
| ``tls/server.pem`` | its certificate, then the CA's: what a server sends |

A proxy is given ``tls``: who breaks into it gets the server's key, and no means to make another's
certificate. Every file is whole or absent. Renewing replaces ``server.pem`` alone, so that key and
certificate fit together at every moment.
"""

import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from consortium.errors import OptionInvalid, TlsInvalid, TlsMissing
from consortium.state import replace_file
from ledger.keys import write_private

LONGEST_DAYS = 825
SOCKET, PORT = "api.sock", 8443
"""Where the API listens in a home, and the reverse proxy to the outside."""
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_CA_DAYS = 3652
_LOCAL = ("localhost", "127.0.0.1")
_LABEL = "[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?"
_DNS = re.compile(rf"(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*")
_EARLIER = timedelta(hours=1)  # for clocks that are behind


@dataclass(frozen=True)
class Tls:
    """The certificates in force."""

    folder: Path
    ca: x509.Certificate
    server: x509.Certificate

    @property
    def fingerprint(self) -> bytes:
        """SHA-256 of the CA certificate: what hospitals pin."""
        return sha256(self.ca.public_bytes(Encoding.DER)).digest()

    @property
    def names(self) -> tuple[str, ...]:
        """DNS names and addresses of the server, in the order given."""
        extension = self.server.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        return tuple(str(name.value) for name in extension.value)


def is_local(url: str) -> bool:
    """Whether an address cannot leave this machine: a Unix socket, or http on loopback."""
    parts = urlsplit(url)
    return parts.scheme == "unix" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)


def address(home: Path, url: str | None) -> tuple[str, bytes | None]:
    """Where hospitals reach the consortium, and the SHA-256 of the CA to pin; None on one machine.

    Without ``url``: the first name of the certificate, or the home's socket where there is none.

    Raises:
        OptionInvalid: if ``url`` is neither https nor on this machine.
        TlsMissing, TlsInvalid: if it is https, and there are no certificates.
    """
    if url is None:
        if not (tls_folder(home) / "ca.pem").exists():
            return f"unix:{home / SOCKET}", None
        name = read_tls(home).names[0]
        url = f"https://[{name}]:{PORT}" if ":" in name else f"https://{name}:{PORT}"
    if is_local(url):
        return url, None
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname or parts.path not in ("", "/"):
        raise OptionInvalid(
            f"--url {url[:80]!r} is no address for hospitals",
            "give https://HOST:PORT; on the same machine unix:PATH or http://127.0.0.1:PORT",
        )
    return url.rstrip("/"), read_tls(home).fingerprint


def tls_folder(home: Path) -> Path:
    """Where a server finds its certificates and its key."""
    return home / "coordinator" / "tls"


def ca_folder(home: Path) -> Path:
    """Where the CA's key is."""
    return home / "coordinator" / "ca"


def make_tls(home: Path, hosts: list[str], days: int = LONGEST_DAYS) -> Tls:
    """Makes the CA once, and a server's certificate under it; repeated, renews the latter.

    Without ``hosts`` the names stay as they are.

    Raises:
        OptionInvalid: if a name cannot stand in a certificate, or there is none.
        TlsInvalid: if what is there is damaged, or a key is missing.
    """
    folder = tls_folder(home)
    if not hosts and (folder / "server.pem").exists():
        hosts = list(read_tls(home).names)
    names = [_name(host) for host in dict.fromkeys([*(h.lower() for h in hosts), *_LOCAL])]
    if not hosts:
        raise OptionInvalid("no host is named", "name what hospitals reach: `tls make HOST`")
    if not home.exists():
        home.mkdir(parents=True, mode=0o711 if os.geteuid() == 0 else 0o700)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    ca, ca_key = _open_ca(home)
    pem = ca.public_bytes(Encoding.PEM)
    if not (folder / "ca.pem").exists() or (folder / "ca.pem").read_bytes() != pem:
        replace_file(folder / "ca.pem", pem)
    key = _open_key(folder / "server.key", make=True)
    server = _server_certificate(ca, ca_key, key, names, days)
    chain = server.public_bytes(Encoding.PEM) + pem
    replace_file(folder / "server.pem", chain)
    return Tls(folder, ca, server)


def read_tls(home: Path) -> Tls:
    """The certificates that are there.

    Raises:
        TlsMissing: if there are none.
        TlsInvalid: if they are damaged.
    """
    folder = tls_folder(home)
    if not (folder / "ca.pem").exists():
        raise TlsMissing(f"there is no CA in {folder}", "make it: `consortium tls make HOST`")
    server = _read_certificate(folder / "server.pem")
    return Tls(folder, _read_certificate(folder / "ca.pem"), server)


def _open_ca(home: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    folder, given = ca_folder(home), tls_folder(home) / "ca.pem"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    certificate, key_file = folder / "ca.pem", folder / "ca.key"
    _move_older(tls_folder(home) / "ca.key", key_file)
    if not certificate.exists() and not given.exists():
        # Or killed before it was written: nobody has pinned anything yet.
        key = _open_key(key_file, make=True)
        ca = _ca_certificate(key)
        replace_file(certificate, ca.public_bytes(Encoding.PEM))
        return ca, key
    # Another CA is not what hospitals have pinned: what is lost is not made anew.
    key = _open_key(key_file, make=False)
    ca = _read_certificate(certificate if certificate.exists() else given)
    if ca.public_key() != key.public_key():
        raise _damaged(key_file, "is not the key of ca.pem")
    if not certificate.exists():
        replace_file(certificate, given.read_bytes())
    return ca, key


def _move_older(beside_server: Path, key: Path) -> None:
    """Takes a CA's key out of the server's folder, where earlier versions had it."""
    if not beside_server.exists():
        return
    found = beside_server.read_bytes()
    if not key.exists():
        write_private(key, found)
    elif key.read_bytes() != found:
        raise _damaged(beside_server, f"is another key than {key}")
    beside_server.unlink()


def _ca_certificate(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    # A serial number of its own in the name: two consortia's CAs are told apart in a list.
    public = key.public_key()
    digest = x509.SubjectKeyIdentifier.from_public_key(public)
    name = _subject(f"MedPoLe CA {digest.digest.hex()[:16]}")
    usage = _usage(key_cert_sign=True, crl_sign=True)
    return (
        _builder(name, name, public, _CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(digest, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
        .sign(key, SHA256())
    )


def _server_certificate(
    ca: x509.Certificate, ca_key: ec.EllipticCurvePrivateKey, key: ec.EllipticCurvePrivateKey,
    names: list[x509.GeneralName], days: int,
) -> x509.Certificate:  # fmt: skip
    public = key.public_key()
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    return (
        _builder(_subject("MedPoLe coordinator"), ca.subject, public, days)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(authority, critical=False)
        .sign(ca_key, SHA256())
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLIER)
        .not_valid_after(now + timedelta(days=days))
    )


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _usage(**allowed: bool) -> x509.KeyUsage:
    names = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
        "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )  # fmt: skip
    return x509.KeyUsage(**{name: allowed.get(name, False) for name in names})


def _name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        pass
    if not _DNS.fullmatch(host):
        raise OptionInvalid(
            f"{host[:80]!r} is neither a DNS name nor an address",
            "name the host as hospitals reach it, without https:// and without a port",
        )
    return x509.DNSName(host)


def _read_certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())[0]
    except (OSError, ValueError):
        raise _damaged(path, "is missing or damaged") from None


def _open_key(path: Path, *, make: bool) -> ec.EllipticCurvePrivateKey:
    if make and not path.exists():
        new = ec.generate_private_key(ec.SECP256R1())
        pem = new.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        write_private(path, pem)
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError):
        raise _damaged(path, "is missing or damaged") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise _damaged(path, "is of another kind")
    return key


def _damaged(path: Path, what: str) -> TlsInvalid:
    return TlsInvalid(
        f"{path} {what}",
        "restore it from your backup; a new CA has to be given to every hospital (docs/operate.md)",
    )
