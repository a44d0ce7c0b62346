"""From a token to a member, over real TLS, against `consortium serve` and its database."""

import json
import os
import ssl
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from commands import Done, Machines, call, machines, ok, refused, until
from tls_front import Front, front

from consortium.events import events
from consortium.invitations import Invitations, Token
from consortium.tls import make_tls, read_tls, tls_folder
from consortium.transport import TransportKeys, transport_id
from hospital_agent import joining
from hospital_agent.connection import connect
from hospital_agent.errors import ApiUnreachable, EnrolmentMissing
from hospital_agent.folder import HospitalFolder
from hospital_agent.ledger_api import LedgerApi
from hospital_agent.transport import announce, open_transport, public_bytes, transport_form
from hospital_agent.witness import Witness
from ledger.keys import Role

TITLE = "Heart consortium"


@dataclass
class Consortium:
    """A coordinator's home, served, with TLS before it."""

    site: Machines
    home: Path
    front: Front

    def folder(self, name: str) -> Path:
        return self.site.root / name

    def invite(self, name: str, *more: str) -> Done:
        return ok(
            "consortium", "institution", "invite", name, "--title", name.title(), "--url",
            self.front.url, "--home", self.home, *more,
        )  # fmt: skip

    def token(self, name: str) -> Token:
        return Token.parse(self.invite(name).value("token"))

    def line(self, token: Token, folder: Path) -> tuple[str | Path, ...]:
        """What hospital IT runs."""
        return ("hospital-agent", "enrol", self.front.url, token.text(), "--home", folder)

    def enrol(self, name: str) -> Done:
        return ok(*self.line(self.token(name), self.folder(name)))

    def approve(self, name: str) -> Done:
        return ok("consortium", "institution", "approve", name, "--yes", "--home", self.home)

    def post(self, token: Token, content: Any) -> httpx.Response:
        """An enrolment by hand."""
        trusted = ssl.create_default_context(cafile=str(tls_folder(self.home) / "ca.pem"))
        headers = {"Authorization": f"Bearer {token.bearer}"}
        with httpx.Client(base_url=self.front.url, verify=trusted) as client:
            return client.post("/v1/enrolments", content=json.dumps(content), headers=headers)

    def recorded(self, code: str, **fields: str) -> int:
        """How often a refusal stands on record."""
        wanted = {"code": code, **fields}.items()
        return sum(wanted <= event.items() for event in events(self.home))


@pytest.fixture(scope="module")
def served() -> Iterator[Consortium]:
    """A draft that stays one."""
    with machines() as site:
        home = site.root / "home"
        ok("consortium", "init", "--title", TITLE, "--home", home)
        ok("consortium", "tls", "make", "localhost", "--home", home)
        site.serve(home)
        with front(tls_folder(home), home / "api.sock") as tls:
            yield Consortium(site, home, tls)


def secrets_of(folder: Path) -> dict[str, bytes]:
    paths = [*folder.glob("keys/*"), *folder.glob("approver.pem")]
    return {path.name: path.read_bytes() for path in paths}


def content_of(folder: HospitalFolder, token: Token) -> dict[str, Any]:
    """What the agent hands in of a founder."""
    form = json.loads((folder.path / "member.json").read_text())
    return {"form": form, "consent": None, "transport": transport_form(folder, token.ledger)}


# the whole way


def test_four_founders_by_tokens_then_a_fifth_by_approvals() -> None:
    with machines() as site:
        home, names = site.root / "home", [f"hospital-{number}" for number in range(1, 5)]
        ok("consortium", "init", "--title", TITLE, "--home", home)
        ok("consortium", "tls", "make", "localhost", "--home", home)
        api = site.serve(home)
        with front(tls_folder(home), home / "api.sock") as tls:
            founding = Consortium(site, home, tls)
            late = founding.token("late-founder")
            fingerprint = _found(founding, names)
            assert site.processes[-1].poll() is None  # the same process, the same socket
            assert api == f"unix:{home / 'api.sock'}"
            _late_ones_are_refused(founding, late)
            _a_signature_is_answered_again(founding, fingerprint)
            _fifth(founding, fingerprint, names)
            _transport_keys_are_rotated(founding)
        site.stop()


def _found(founding: Consortium, names: list[str]) -> str:
    home, drafted = founding.home, set()
    for name in names:
        enrolled, approved = founding.enrol(name), founding.approve(name)
        assert f"{TITLE} invites {name}" in enrolled.err
        drafted.add(enrolled.value("fingerprint"))
        for role in (*Role, "transport"):  # the same on both sides, to compare by telephone
            assert enrolled.value(f"{role} key") == approved.value(role)
            assert approved.value(role) in approved.err
    assert len(drafted) == 1
    sign = ("hospital-agent", "sign-genesis", "--home", founding.folder(names[0]))
    refused("LedgerMissing", *sign)
    fingerprint = ok("consortium", "genesis", "--approved", "--home", home).value("fingerprint")
    refused("OptionInvalid", *sign)  # nobody is at a terminal
    refused("GenesisRefused", *sign, "--fingerprint", "0" * 64)
    for position, name in enumerate(names):
        sign = ("hospital-agent", "sign-genesis", "--fingerprint", fingerprint)
        done = ok(*sign, "--home", founding.folder(name))
        assert done.value("missing") == ", ".join(names[position + 1 :])
    witness = ("hospital-agent", "witness", "--once", "--home")
    for name in names:
        until(lambda n=name: call(*witness, founding.folder(n)).code == 0, "the ledger is served")
    status = ok("consortium", "ledger", "status", "--home", home)
    assert (status.value("cosigned"), status.value("final")) == ("4", "True")
    assert status.value("ledger") == fingerprint
    return fingerprint


def _late_ones_are_refused(founding: Consortium, late: Token) -> None:
    refused("InvitationExpired", *founding.line(late, founding.folder("late")))
    assert not founding.folder("late").exists()
    refused(
        "InvitationInvalid", "consortium", "institution", "invite", "hospital-1", "--title", "X",
        "--url", founding.front.url, "--home", founding.home,
    )  # fmt: skip


def _a_signature_is_answered_again(founding: Consortium, fingerprint: str) -> None:
    sign = ("hospital-agent", "sign-genesis", "--fingerprint", fingerprint, "--home")
    assert ok(*sign, founding.folder("hospital-1")).value("missing") == ""
    url = f"{founding.front.url}/v1/genesis/signatures"
    forged = {"ledger": fingerprint, "institution": "hospital-1", "signature": {"sig": "00"}}
    with connect(HospitalFolder(founding.folder("hospital-1"))) as client:
        assert client.post(url, json=forged).json()["code"] == "GenesisInvalid"


def _fifth(founding: Consortium, fingerprint: str, names: list[str]) -> None:
    home, folder = founding.home, founding.folder("hospital-5")
    assert founding.enrol("hospital-5").value("fingerprint") == fingerprint
    change = founding.approve("hospital-5").value("change")
    assert founding.approve("hospital-5").value("change") == change  # a repeat is harmless
    refused("ApiUnreachable", "hospital-agent", "witness", "--once", "--home", folder)
    first = HospitalFolder(founding.folder("hospital-1"))
    with connect(first) as client, pytest.raises(EnrolmentMissing):
        # What a coordinator does that shows an old ledger to a newcomer.
        Witness(HospitalFolder(folder), LedgerApi(client, first)).step()
    witness = ("hospital-agent", "witness", "--once", "--home")

    def stepped(condition: Callable[[], bool]) -> bool:
        for name in names:  # in a hospital it runs for ever
            call(*witness, founding.folder(name))
        return condition()

    for name in names[:3]:
        approve = ("hospital-agent", "members", "approve", change[:16], "--as", f"Dr. {name}")
        at = ("--home", founding.folder(name))
        until(lambda a=approve, h=at: stepped(lambda: call(*a, *h).code == 0), "it is proposed")

    def members() -> list[str]:
        done = ok("consortium", "institution", "list", "--home", home, "--format", "json")
        return [member["id"] for member in json.loads(done.out)["members"]]

    until(lambda: stepped(lambda: members() == [*names, "hospital-5"]), "the fifth is a member")
    until(lambda: stepped(lambda: call(*witness, folder).code == 0), "the fifth follows the ledger")


def _transport_keys_are_rotated(founding: Consortium) -> None:
    folder = HospitalFolder(founding.folder("hospital-5"))
    keys = TransportKeys(founding.home)
    before = public_bytes(open_transport(folder))
    assert keys.all()["hospital-5"] == before
    (folder.path / "keys" / "transport.key").unlink()
    with connect(folder) as client:
        announce(LedgerApi(client, folder))
        announce(LedgerApi(client, folder))
        after = public_bytes(open_transport(folder))
        assert keys.all()["hospital-5"] == after != before
        assert set(keys.all()) == {f"hospital-{number}" for number in range(1, 6)}
        # Another's key, and a proof for another ledger.
        forged = transport_form(HospitalFolder(founding.folder("hospital-1")), folder.ledger or "")
        for form in (forged, transport_form(folder, "0" * 64), {"key": "x"}):
            with pytest.raises(ApiUnreachable, match="TransportInvalid"):
                LedgerApi(client, folder).put_transport(form)
        assert client.put("/v1/institutions/self/transport", json={}).status_code == 401
    assert keys.all()["hospital-5"] == after


# a token that admits nobody


def test_a_token_admits_one_set_of_keys(served: Consortium) -> None:
    token = served.token("twice")
    first = ok(*served.line(token, served.folder("twice")))
    again = ok(*served.line(token, served.folder("twice")))  # after a lost answer
    assert first.out == again.out
    refused("InvitationUsed", *served.line(token, served.folder("thief")))
    assert served.recorded("InvitationUsed", institution="twice") == 1
    _, enrolment = Invitations(served.home).enrolment("twice")
    assert enrolment.form.key(Role.RECORD).key_id == first.value("record key")
    refused(
        "InvitationUsed", "consortium", "institution", "invite", "twice", "--title", "T",
        "--url", served.front.url, "--home", served.home,
    )  # fmt: skip


def test_an_expired_token(served: Consortium) -> None:
    late = Invitations(served.home, clock=lambda: time.time() - 8 * 86400)
    real = served.token("expired")
    token = late.invite("expired", "Expired", real.ledger, founder=True, ca=real.ca)
    refused("InvitationExpired", *served.line(token, served.folder("expired")))
    assert served.recorded("InvitationExpired", institution="expired") == 1
    assert not served.folder("expired").exists()


def test_a_revoked_token_before_and_after_it_was_used(served: Consortium) -> None:
    revoke = ("consortium", "institution", "invitations", "--home", served.home, "--revoke")
    token = served.token("revoked")
    ok(*revoke, "revoked")
    refused("InvitationRevoked", *served.line(token, served.folder("revoked")))
    assert not served.folder("revoked").exists()
    served.enrol("revoked")  # by a new one
    served.approve("revoked")
    assert (served.home / "forms" / "revoked.json").exists()
    assert "revoked" in ok(*revoke, "revoked").out
    assert not (served.home / "forms" / "revoked.json").exists()
    refused("EnrolmentUnknown", *revoke, "revoked")
    refused(
        "EnrolmentUnknown", "consortium", "institution", "approve", "revoked", "--yes", "--home",
        served.home,
    )  # fmt: skip
    assert served.recorded("InvitationRevoked", institution="revoked") == 1


def test_a_new_invitation_takes_the_place_of_one_that_nobody_used(served: Consortium) -> None:
    old, new = served.token("again"), served.token("again")
    refused("InvitationRevoked", *served.line(old, served.folder("again")))
    ok(*served.line(new, served.folder("again")))


def test_a_token_that_nobody_made(served: Consortium) -> None:
    real = served.token("known")
    token = Token(os.urandom(32), real.ca, real.ledger, founder=True)
    refused("InvitationUnknown", *served.line(token, served.folder("unknown")))
    assert served.recorded("InvitationUnknown") == 1
    with connect(f"unix:{served.home / 'api.sock'}") as client:
        for headers in ({}, {"Authorization": "x"}, {"Authorization": "Bearer é%"}):
            sent = {name: value.encode() for name, value in headers.items()}
            assert client.get("/v1/invitation", headers=sent).status_code == 401


def test_the_secret_is_stored_nowhere(served: Consortium) -> None:
    token = served.token("hidden")
    ok(*served.line(token, served.folder("hidden")))
    served.approve("hidden")
    for path in [*served.home.rglob("*"), *served.folder("hidden").rglob("*")]:
        if path.is_file():
            data = path.read_bytes()
            assert token.secret not in data
            assert token.bearer.encode() not in data
            assert token.secret.hex().encode() not in data


# nothing is sent to the wrong one


def test_a_wrong_ca_gets_no_byte(served: Consortium, tmp_path: Path) -> None:
    make_tls(tmp_path, ["localhost"])
    token = served.token("wrong-ca")
    with front(tls_folder(tmp_path), None) as stranger:
        refused(
            "CaMismatch", "hospital-agent", "enrol", stranger.url, token.text(), "--home",
            tmp_path / "hospital",
        )  # fmt: skip
        until(lambda: stranger.handshakes == 1, "the handshake that shows the chain")
        assert stranger.received == []
    assert not (tmp_path / "hospital").exists()


def test_one_who_shows_the_right_ca_without_its_certificate_gets_no_byte(
    served: Consortium, tmp_path: Path
) -> None:
    tls = make_tls(tmp_path, ["localhost"])
    shown = (tls.folder / "server.pem").read_text().split("-----END CERTIFICATE-----\n")[0]
    real = (tls_folder(served.home) / "ca.pem").read_text()
    (tls.folder / "server.pem").write_text(f"{shown}-----END CERTIFICATE-----\n{real}")
    token = served.token("shown-ca")
    with front(tls.folder, None) as stranger:
        refused(
            "CaMismatch", "hospital-agent", "enrol", stranger.url, token.text(), "--home",
            tmp_path / "hospital",
        )  # fmt: skip
        assert stranger.received == []
    assert not (tmp_path / "hospital").exists()


def test_a_name_that_the_certificate_does_not_hold(served: Consortium, tmp_path: Path) -> None:
    token = served.token("other-name")
    with front(tls_folder(served.home), None, host="127.0.0.2") as other:
        refused(
            "CaMismatch", "hospital-agent", "enrol", other.url, token.text(), "--home", tmp_path
        )
        assert other.received == []


def test_another_ledger_than_the_token_names(served: Consortium, tmp_path: Path) -> None:
    real = served.token("wrong-ledger")
    for token in (
        Token(real.secret, real.ca, "0" * 64, founder=True),
        Token(real.secret, real.ca, real.ledger, founder=False),
    ):
        refused("InvitationDiffers", *served.line(token, tmp_path / "hospital"))
    assert not (tmp_path / "hospital").exists()


def test_without_tls_all_stays_on_one_machine(tmp_path: Path) -> None:
    home = tmp_path / "home"
    ok("consortium", "init", "--title", TITLE, "--home", home)
    invite = ("consortium", "institution", "invite", "hospital-1", "--title", "H", "--home", home)
    refused("TlsMissing", *invite, "--url", "https://localhost:8443")
    refused("OptionInvalid", *invite, "--url", "http://example.org:8443")
    *_, url, token = ok(*invite).value("run").split()
    assert url == f"unix:{home / 'api.sock'}"
    for elsewhere in ("https://localhost:1", "http://example.org"):
        refused("ApiUnsafe", "hospital-agent", "enrol", elsewhere, token, "--home", tmp_path / "h")
    refused("ApiUnreachable", "hospital-agent", "enrol", url, token, "--home", tmp_path / "h")
    assert not (tmp_path / "h").exists()


def test_a_token_with_a_ca_is_not_sent_where_none_is_shown(served: Consortium) -> None:
    token, folder = served.token("plain"), served.folder("plain")
    for url in (f"unix:{served.home / 'api.sock'}", "http://127.0.0.1:1"):
        refused("CaMismatch", "hospital-agent", "enrol", url, token.text(), "--home", folder)
    refused(
        "ApiUnsafe", "hospital-agent", "enrol", "http://example.org", token.text(), "--home", folder
    )
    refused(
        "ApiUnreachable", "hospital-agent", "enrol", "https://127.0.0.1:1", token.text(), "--home",
        folder,
    )  # fmt: skip
    assert not folder.exists()


# what an enrolment must show


def test_a_forged_enrolment_uses_nothing_up(served: Consortium) -> None:
    served.enrol("other")
    other = json.loads((served.folder("other") / "member.json").read_text())
    token = served.token("forged")
    ok(*served.line(token, served.folder("forged")))
    ok("consortium", "institution", "invitations", "--revoke", "forged", "--home", served.home)
    token, folder = served.token("forged"), HospitalFolder(served.folder("forged"))
    good = content_of(folder, token)

    def forged(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(json.dumps(good))
        change(content)
        return content

    for role in Role:
        wrong = other["possession"][role]
        content = forged(lambda c, r=role, w=wrong: c["form"]["possession"].update({r: w}))
        assert served.post(token, content).json()["code"] == "EnrolmentInvalid"
    for content, code in [
        (forged(lambda c: c.update(form=other)), "EnrolmentInvalid"),
        (forged(lambda c: c["form"].update(title="Another")), "EnrolmentInvalid"),
        (forged(lambda c: c.update(consent="00" * 64)), "EnrolmentInvalid"),
        (forged(lambda c: c["transport"].update(proof="00")), "TransportInvalid"),
        (
            forged(lambda c: c.update(transport=transport_form(folder, "0" * 64))),
            "TransportInvalid",
        ),
        (forged(lambda c: c["transport"].update(key="x")), "TransportInvalid"),
        (forged(lambda c: c["transport"].pop("key")), "TransportInvalid"),
        (forged(lambda c: c.pop("form")), "EnrolmentInvalid"),
        ([], "EnrolmentInvalid"),
        ("x" * 40_000, "BodyTooLarge"),
    ]:
        answer = served.post(token, content)
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["code"] == code, content
    assert served.recorded("EnrolmentInvalid", institution="forged") >= len(Role)
    assert served.recorded("TransportInvalid", institution="forged")
    assert [i.state(0) for i in Invitations(served.home).all() if i.institution == "forged"] == [
        "revoked", "open",
    ]  # fmt: skip
    assert served.post(token, good).status_code == 201


def test_who_asks_is_checked_before_the_body_is_read(served: Consortium) -> None:
    real = served.token("nobody")
    token = Token(os.urandom(32), real.ca, real.ledger, founder=True)
    assert served.post(token, "x" * 1_000_000).status_code == 401


# killed, and repeated

STEPS = ("enrol", "transport_form", "write_text", "write_json", "_call")


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_any_step_it_goes_on_with_the_same_keys(
    served: Consortium, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    name = f"killed-{step.replace('_', '')}"
    token, folder = served.token(name), served.folder(name)
    real = getattr(joining, step)

    def killed(*arguments: Any, **named: Any) -> Any:
        done = real(*arguments, **named)
        if step != "_call" or arguments[1] == "POST":  # its answer is lost
            raise KeyboardInterrupt
        return done

    with monkeypatch.context() as patch:
        patch.setattr(joining, step, killed)
        assert call(*served.line(token, folder)).code == 130
    before = secrets_of(folder)
    assert before
    done = ok(*served.line(token, folder))
    after = secrets_of(folder)
    assert {key: after[key] for key in before} == before
    _, enrolment = Invitations(served.home).enrolment(name)
    assert enrolment.form.key(Role.RECORD).key_id == done.value("record key")
    assert transport_id(enrolment.transport) == done.value("transport key")
    assert [path.name for path in folder.rglob("*.new")] == []
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in (folder / "keys").iterdir())


def test_killed_for_real_while_keys_are_made(served: Consortium) -> None:
    token, folder = served.token("sigkill"), served.folder("sigkill")
    served.site.start(list(served.line(token, folder)))
    process = served.site.processes.pop()
    until(lambda: (folder / "keys").exists() or process.poll() is not None, "keys are being made")
    process.kill()
    process.wait()
    before = secrets_of(folder)
    ok(*served.line(token, folder))
    after = secrets_of(folder)
    made = {name: data for name, data in before.items() if not name.endswith(".new")}
    assert {name: after[name] for name in made} == made


# the admin


def test_the_admin_compares_before_anything_is_approved(served: Consortium) -> None:
    served.enrol("compare")
    approve = ("consortium", "institution", "approve", "compare", "--home", served.home)
    assert "transport" in refused("OptionInvalid", *approve)  # nobody is at a terminal
    assert not (served.home / "forms" / "compare.json").exists()
    assert "compare" not in TransportKeys(served.home).all()
    pending = ("consortium", "institution", "pending", "--home", served.home, "--format", "json")
    states = {row["institution"]: row["state"] for row in json.loads(ok(*pending).out)}
    assert states["compare"] == "waits for approval"
    ok(*approve, "--yes")
    states = {row["institution"]: row["state"] for row in json.loads(ok(*pending).out)}
    assert states["compare"] == "approved"


def test_what_cannot_be_invited(served: Consortium) -> None:
    invite = ("consortium", "institution", "invite", "--home", served.home)
    for name, title in (("Hospital", "H"), ("coordinator", "H"), ("hospital-1", "<b>")):
        refused("InvitationInvalid", *invite, name, "--title", title)
    for expires in ("0d", "7", "7w", "91d", "-1d"):
        refused("OptionInvalid", *invite, "hospital-1", "--title", "H", "--expires", expires)


def test_the_address_defaults_to_the_certificates_first_name(served: Consortium) -> None:
    done = ok(
        "consortium", "institution", "invite", "default", "--title", "D", "--home", served.home
    )
    assert done.value("run").split()[2] == "https://localhost:8443"
    assert Token.parse(done.value("token")).ca == read_tls(served.home).fingerprint


def test_a_second_server_of_a_draft_is_refused(served: Consortium) -> None:
    refused("HomeInUse", "consortium", "serve", "--home", served.home)
    assert (served.home / "api.sock").exists()


def test_another_coordinator_than_the_one_who_invited(served: Consortium, tmp_path: Path) -> None:
    """The genesis of somebody who got hold of the form: the hospital does not sign it."""
    served.enrol("lured")
    served.approve("lured")
    other, form = tmp_path / "other", served.home / "forms" / "lured.json"
    ok("consortium", "init", "--title", TITLE, "--home", other)
    done = ok("consortium", "genesis", form, "--home", other)
    sign = ("hospital-agent", "sign-genesis", other / "genesis.json", "--home")
    at = ("--out", tmp_path / "out.json", "--fingerprint", done.value("fingerprint"))
    assert "another coordinator" in refused("GenesisRefused", *sign, served.folder("lured"), *at)
    assert not (tmp_path / "out.json").exists()
    mixed = ("consortium", "genesis", "--approved", form, "--home", served.home)
    refused("OptionInvalid", *mixed)
