"""Preflight's checks of the way to the consortium: proxy, name, TLS, API, clock, SuperLink."""

import base64
import http.client
import ipaddress
import socket
import ssl
from datetime import UTC, datetime
from typing import Final
from urllib.parse import unquote

import httpx
from cryptography import x509

from consortium.api.tokens import LEEWAY_S
from hospital_agent.preflight.site import (
    PATIENCE_S,
    Check,
    Reply,
    Site,
    State,
    transport_public,
    why,
)

_CLOCK_WARN_S: Final = LEEWAY_S / 3  # beyond the leeway the API refuses every token
_DAYS_WARN: Final = 30
_OTHER_CA: Final = "another certificate authority than the one that this hospital pinned"


def proxy(site: Site) -> Check:
    """The proxy that connections take, without its password."""
    if site.proxy is None:
        return Check("proxy", State.OK, "none: connections are direct")
    shown = f"{site.proxy.hostname}:{site.proxy.port or 80}"
    if site.proxy.scheme != "http":
        return Check(
            "proxy", State.WARN, f"{shown}, of the kind {site.proxy.scheme}",
            "checks of TLS go past it; set HTTPS_PROXY=http://HOST:PORT if they fail",
        )  # fmt: skip
    return Check("proxy", State.OK, f"{shown}, from the environment")


def dns(site: Site) -> Check:
    """Whether the host's name is known here."""
    if site.parts.scheme == "unix":
        return Check("dns", State.OK, "not needed: a socket on this machine")
    if site.proxy is not None:
        return Check("dns", State.OK, "left to the proxy")
    try:
        ipaddress.ip_address(site.host)
        return Check("dns", State.OK, f"not needed: {site.host} is an address")
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(site.host, site.port, type=socket.SOCK_STREAM)
    except OSError:
        return Check(
            "dns", State.FAIL, f"{site.host} is not known",
            "ask IT for a DNS entry or a line in /etc/hosts; check the name with the coordinator",
        )  # fmt: skip
    addresses = sorted({str(entry[4][0]) for entry in found})
    return Check("dns", State.OK, f"{site.host} is {', '.join(addresses[:3])}")


def tls(site: Site) -> Check:
    """Whether the server shows a certificate of the pinned CA for its name."""
    if site.local:
        return Check("tls", State.OK, "not needed: on this machine")
    if not site.ca.exists():
        return Check("tls", State.FAIL, "ca.pem is missing", "enrol again with the same token")
    ca = x509.load_pem_x509_certificate(site.ca.read_bytes())
    try:
        with site.context().wrap_socket(_reach(site), server_hostname=site.host) as shown:
            der = shown.getpeercert(binary_form=True)
    except ssl.SSLCertVerificationError as error:
        return Check("tls", State.FAIL, *_distrusted(site, error.verify_code))
    except ssl.SSLError:
        return Check(
            "tls", State.FAIL, f"{site.host}:{site.port} does not speak TLS",
            "check the address and the port with the coordinator",
        )  # fmt: skip
    except OSError as error:
        return Check(
            "tls", State.FAIL, f"{site.host}:{site.port} cannot be reached ({why(error)})",
            f"let this machine connect out to {site.host}, TCP port {site.port}; ask the "
            "coordinator whether it runs",
        )  # fmt: skip
    assert der is not None
    leaf = x509.load_der_x509_certificate(der)
    days = min((c.not_valid_after_utc - datetime.now(UTC)).days for c in (leaf, ca))
    if days < _DAYS_WARN:
        return Check(
            "tls", State.WARN, f"the pinned CA; {days} days are left",
            "tell the coordinator to renew it: `consortium tls make`",
        )  # fmt: skip
    return Check("tls", State.OK, f"the pinned CA; {days} days are left")


def _reach(site: Site) -> socket.socket:
    """A connection to the server, through the proxy if there is one."""
    if site.proxy is None or site.proxy.scheme != "http":
        return socket.create_connection((site.host, site.port), timeout=PATIENCE_S)
    through = http.client.HTTPConnection(
        site.proxy.hostname or "", site.proxy.port or 80, timeout=PATIENCE_S
    )
    headers = {}
    if site.proxy.username is not None:
        pair = f"{unquote(site.proxy.username)}:{unquote(site.proxy.password or '')}"
        headers["Proxy-Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    through.set_tunnel(site.host, site.port, headers)
    through.connect()
    return through.sock


def _distrusted(site: Site, code: int) -> tuple[str, str]:
    if code in (9, 10):
        when = "has expired" if code == 10 else "is not valid yet"
        return (
            f"the certificate {when}",
            "check this machine's clock, then tell the coordinator: `consortium tls make`",
        )
    if code in (62, 64):
        return (
            f"the certificate is not for {site.host}",
            f"tell the coordinator: `consortium tls make {site.host}`",
        )
    way = "a proxy that opens TLS must let this host pass" if site.proxy else "nothing was sent"
    return (
        f"the server shows {_OTHER_CA}",
        f"compare the CA's SHA-256 with the coordinator by telephone; {way}",
    )


def clock(site: Site) -> Check:
    """This machine's clock against the API's."""
    reply = site.get("/v1/ledger/head")
    if reply.ahead_s is None:
        return Check(
            "clock", State.FAIL, "could not be compared: no answer from the API", "see api"
        )
    ahead = reply.ahead_s
    said = f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the API's"
    fix = "switch on time synchronisation (NTP); if it is on, tell the coordinator"
    if abs(ahead) > LEEWAY_S:
        return Check("clock", State.FAIL, f"{said}: the API refuses this hospital", fix)
    if abs(ahead) > _CLOCK_WARN_S:
        return Check("clock", State.WARN, said, fix)
    return Check("clock", State.OK, f"within {_CLOCK_WARN_S:.0f} s of the API's")


def api(site: Site) -> Check:
    """What this hospital is to the consortium."""
    reply = site.get("/v1/ledger/head")
    name = site.folder.institution
    if reply.problem:
        return Check(
            "api", State.FAIL, f"no answer: {reply.problem}",
            "solve what fails above; else ask the coordinator whether `consortium serve` runs",
        )  # fmt: skip
    if reply.status == 404 or site.folder.ledger is None:
        return Check(
            "api", State.FAIL, "the consortium is being founded",
            "sign its genesis with `hospital-agent sign-genesis`, and wait for the other founders",
        )  # fmt: skip
    if reply.status == 401:
        return _refused(site, reply)
    if reply.status >= 500:
        return Check(
            "api", State.FAIL, f"the server answers {reply.status}",
            "ask the coordinator to look at its log: API or database is down",
        )  # fmt: skip
    if reply.status != 200 or not isinstance(reply.body, dict) or "checkpoint" not in reply.body:
        return Check(
            "api", State.FAIL, f"an answer that this version does not know ({reply.status})",
            "check the address, and run the same version on both sides",
        )  # fmt: skip
    membership = site.get("/v1/ledger/membership").body
    groups = membership if isinstance(membership, dict) else {}
    for group in ("members", "suspended"):
        if any(form.get("id") == name for form in groups.get(group, ())):
            break
    else:
        return Check("api", State.FAIL, "removed", "ask the members; enrol anew by another id")
    if group == "suspended":
        return Check("api", State.FAIL, "suspended", "ask the members to reinstate this hospital")
    return Check("api", State.OK, f"member, API v1, ledger at block {reply.body.get('height')}")


def _refused(site: Site, reply: Reply) -> Check:
    if reply.ahead_s is not None and abs(reply.ahead_s) > LEEWAY_S:
        return Check("api", State.FAIL, "refused, because the clocks differ", "see clock")
    if site.on_ledger is None:
        return Check(
            "api", State.FAIL, "waiting for approvals: not a member yet",
            "ask the coordinator to approve the enrolment, and the members to approve the change",
        )  # fmt: skip
    return Check(
        "api", State.FAIL, "removed, or under other keys than these",
        "ask the members; if this folder is an old copy, restore the newest",
    )  # fmt: skip


def superlink(site: Site) -> Check:
    """Whether Flower is behind the address, and refuses whoever does not sign."""
    if site.parts.scheme == "unix":
        return Check(
            "superlink", State.WARN, "not looked for: the address is the API's socket",
            "for jobs over a network enrol with the https address",
        )  # fmt: skip
    headers = {"content-type": "application/octet-stream"}
    public = transport_public(site.folder)
    if public is not None:  # named, not signed with: nothing is activated by that
        headers["flwr-public-key"] = base64.b64encode(public).decode()
    try:
        with site.client() as client:
            response = client.post("/v1/fleet/activate-node", headers=headers)
    except (httpx.HTTPError, OSError, ValueError) as error:
        return Check(
            "superlink", State.FAIL, f"no answer: {why(error)}", "solve what fails above first"
        )
    status = response.status_code
    if status < 400:
        return Check(
            "superlink", State.FAIL, "lets in whoever does not sign",
            "tell the coordinator: run it with `consortium superlink` only",
        )  # fmt: skip
    if status in (404, 405) or status >= 500:
        return Check(
            "superlink", State.FAIL, f"not behind this address ({status})",
            "tell the coordinator: `consortium superlink` runs, and the proxy sends /v1/fleet/* "
            "to it",
        )  # fmt: skip
    return _admitted(response)


def _admitted(response: httpx.Response) -> Check:
    try:
        code = str(response.json().get("code", ""))
    except (ValueError, AttributeError):
        code = ""
    if code == "NodeUnknown":
        return Check(
            "superlink", State.WARN, "answers; it does not know this hospital's key yet",
            "start the agent: `hospital-agent start` announces the key",
        )  # fmt: skip
    if code.startswith("Institution"):
        return Check("superlink", State.FAIL, f"refuses this hospital: {code}", "see api")
    return Check("superlink", State.OK, "answers, and refuses whoever does not sign")
