"""Joining over the network: with a token, at an address, by one command that can be repeated.

What a newcomer sends, and when: nothing before the server has shown the CA that the token names;
the secret only over a connection verified by that CA; its public form only once the invitation is
for the ledger that the token names. Keys are made on site and stay there. Killed anywhere and
started again with the same token it goes on with the same keys.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import httpx

from consortium import errors as consortium_errors
from consortium.enrolment import check_member
from consortium.errors import ConsortiumError
from consortium.invitations import NO_CA, Token
from consortium.tls import is_local
from consortium.transport import transport_id
from hospital_agent.connection import open_client, pinned_ca
from hospital_agent.enrolment import check_names, enrol, enrolment_action
from hospital_agent.errors import ApiUnreachable, ApiUnsafe, CaMismatch, InvitationDiffers
from hospital_agent.folder import HospitalFolder, write_json, write_text
from hospital_agent.transport import transport_form
from ledger import errors as ledger_errors
from ledger.errors import LedgerError, LedgerMissing
from ledger.keys import Role
from ledger.records import Genesis, MemberForm, parse_record

_LONGEST = 300


@dataclass(frozen=True)
class Invited:
    """What the consortium says of an invitation; it agrees with the token."""

    url: str
    ca: str | None
    token: Token
    consortium: str
    institution: str
    title: str


@dataclass(frozen=True)
class Joined:
    """What a hospital handed in."""

    form: MemberForm
    transport: str

    @property
    def fingerprints(self) -> dict[str, str]:
        """To read out by telephone."""
        keys = {f"{role} key": self.form.key(role).key_id for role in Role}
        return keys | {"transport key": self.transport}


def ask(url: str, text: str) -> Invited:
    """Finds the consortium that a token names, at an address, and asks whom it invites.

    Raises:
        InvitationInvalid: if the token cannot be read.
        ApiUnsafe: if the address is not encrypted and leaves this machine.
        CaMismatch: if another CA stands behind the address; nothing was sent.
        InvitationDiffers: if it is another consortium, or a ledger that the token does not name.
        ConsortiumError: as the consortium refused the invitation.
    """
    token, url = Token.parse(text), url.rstrip("/")
    ca = _trusted(url, token)
    with open_client(url, ca) as client:
        answer = _call(client, "GET", "/v1/invitation", token=token)
    try:
        said = (str(answer["ledger"]), answer["founder"])
        names = [str(answer[name]) for name in ("consortium", "institution", "title")]
    except (KeyError, TypeError):
        raise _malformed() from None
    if said != (token.ledger, token.founder):
        raise InvitationDiffers(
            "the consortium there has another ledger than the one the invitation names",
            "do not join; ask whoever gave you the token for the consortium's fingerprint",
        )
    check_names(*names[1:])
    check_names(names[1], names[0])  # the consortium's name has a title's form
    return Invited(url, ca, token, *names)


def _trusted(url: str, token: Token) -> str | None:
    """The CA to trust; None where nothing leaves this machine."""
    if token.ca == NO_CA:
        if not is_local(url):
            raise ApiUnsafe(
                "the invitation is for this machine only, the address is not on it",
                "give unix:PATH or http://127.0.0.1:PORT; or have it made after `consortium tls "
                "make`",
            )
        return None
    if is_local(url):
        raise CaMismatch(
            "the invitation names a CA, and this address shows none; nothing was sent",
            "give the https address that came with the token",
        )
    if not url.startswith("https://"):
        raise ApiUnsafe("the address is not https", "give the address that came with the token")
    return pinned_ca(url, token.ca)


def join(
    folder: HospitalFolder, invited: Invited, approver: Path | None, passphrase: str | None
) -> Joined:
    """Makes this hospital's keys, binds the folder to the consortium, and hands the form in.

    Raises:
        FolderInvalid: if the folder is another institution's, or bound to another ledger.
        ApproverInvalid: if the person's key does not open.
        ApiUnreachable: if the consortium does not answer; repeat it then.
        ConsortiumError: as the consortium refused it.
    """
    token, consent = invited.token, None
    form = enrol(folder, approver, passphrase)
    check_member(form)
    transport = transport_form(folder, token.ledger)
    if invited.ca is None:
        (folder.path / "ca.pem").unlink(missing_ok=True)
    else:
        write_text(folder.path / "ca.pem", invited.ca)
    connection: dict[str, Any] = {"url": invited.url}
    if token.founder:
        connection["draft"] = token.ledger
    else:
        consent = enrolment_action(folder, token.ledger).consent
    write_json(folder.path / "connection.json", connection)
    body = {"form": form.model_dump(mode="json"), "consent": consent, "transport": transport}
    with open_client(invited.url, invited.ca) as client:
        _call(client, "POST", "/v1/enrolments", body, token)
    return Joined(form, transport_id(transport["key"].encode()))


def fetch_genesis(client: httpx.Client) -> Genesis:
    """The genesis that founders are asked to sign. Nothing of it is verified.

    Raises:
        LedgerMissing: if there is none yet.
        ApiUnreachable: if there is no answer that can be read.
    """
    try:
        record = parse_record(_call(client, "GET", "/v1/genesis")["genesis"])
    except LedgerMissing:
        raise LedgerMissing(
            "the coordinator has not put the genesis together yet",
            "try again once it says that all founders are approved",
        ) from None
    except (KeyError, TypeError, LedgerError):
        raise _malformed() from None
    if not isinstance(record, Genesis):
        raise _malformed()
    return record


def send_signature(client: httpx.Client, content: dict[str, Any]) -> list[str]:
    """Hands this founder's signature in, and tells who is missing; repeats are harmless.

    Raises:
        ApiUnreachable: if there is no answer; repeat it then.
        ConsortiumError, LedgerError: as the consortium refused it.
    """
    try:
        return [
            str(name)
            for name in _call(client, "POST", "/v1/genesis/signatures", content)["missing"]
        ]
    except (KeyError, TypeError):
        raise _malformed() from None


def _call(
    client: httpx.Client, method: str, path: str, body: Any = None, token: Token | None = None
) -> Any:
    headers = {} if token is None else {"Authorization": f"Bearer {token.bearer}"}
    try:
        response = client.request(method, path, json=body, headers=headers)
    except httpx.HTTPError as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            raise CaMismatch(
                "the server's certificate does not hold for this address; nothing was sent",
                "give the address exactly as it came with the token; else the admin renews the "
                "certificate with this name: `consortium tls make HOST`",
            ) from None
        raise ApiUnreachable(
            f"the consortium's API does not answer ({type(error).__name__})",
            "check the address and the firewall, then run the same command again",
        ) from None
    try:
        content = response.json()
    except ValueError:
        content = None
    if not response.is_success:
        _refuse(response.status_code, content)
    return content


def _refuse(status: int, content: Any) -> NoReturn:
    """The consortium's own code and words, as far as they can be shown at a terminal."""
    said = content if isinstance(content, dict) else {}
    what, resolve = (_printable(said.get(name)) for name in ("detail", "resolve"))
    for module, base in ((consortium_errors, ConsortiumError), (ledger_errors, LedgerError)):
        kind = getattr(module, str(said.get("code")), None)
        if isinstance(kind, type) and issubclass(kind, base):
            raise kind(what, resolve)
    raise ApiUnreachable(
        f"the consortium's API did not accept it ({status})",
        "check the address; run the same version on both sides",
    )


def _printable(text: object) -> str:
    return "".join(c for c in str(text)[:_LONGEST] if c.isprintable())


def _malformed() -> ApiUnreachable:
    return ApiUnreachable(
        "the consortium's API answered something else", "run the same version on both sides"
    )
