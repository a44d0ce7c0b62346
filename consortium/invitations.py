"""Invitations: a secret that is used once, and the enrolments that came in with one.

A token carries what a newcomer checks before it sends a byte: the SHA-256 of the consortium's CA
certificate and its ledger. Rules that hold here:

- Of the secret only its SHA-256 is stored; the token is shown once, to whoever invites.
- One secret enrols one institution with one set of keys. The same enrolment once more, after a
  lost answer, is answered again; another one is refused.
- While there is no genesis the draft's fingerprint stands in for the ledger: the SHA-256 of the
  coordinator's public record key. Once the ledger has begun, founders' invitations are over.
- Every refusal is on record (`consortium.events`); of unknown secrets one a second.
"""

import base64
import binascii
import os
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from consortium.enrolment import check_member
from consortium.errors import (
    ConsortiumError,
    EnrolmentInvalid,
    EnrolmentUnknown,
    InvitationExpired,
    InvitationInvalid,
    InvitationRevoked,
    InvitationUnknown,
    InvitationUsed,
)
from consortium.events import record
from consortium.network import transaction
from consortium.transport import check_transport
from ledger.errors import LedgerError
from ledger.keys import Role
from ledger.records import COORDINATOR, MemberForm, Name, Title, consent_message

NO_CA = bytes(32)
"""Stands for the CA of a consortium without TLS, all on one machine."""
LIFETIME_S = 7 * 24 * 3600
_UNKNOWN_EVERY_S = 1.0
_PREFIX = "MPL1."
_FLAGS = {b"\x00": False, b"\x01": True}
_ASK = "ask the consortium's admin for a new invitation: `consortium institution invite`"


@dataclass(frozen=True)
class Token:
    """What is given to a hospital. ``ca`` is a SHA-256, ``ledger`` 64 hex digits."""

    secret: bytes
    ca: bytes
    ledger: str
    founder: bool

    def text(self) -> str:
        """One word, to copy."""
        flag = b"\x01" if self.founder else b"\x00"
        return _PREFIX + _encoded(self.secret + self.ca + bytes.fromhex(self.ledger) + flag)

    @staticmethod
    def parse(text: str) -> "Token":
        """Reads exactly what `text` gives.

        Raises:
            InvitationInvalid: for anything else.
        """
        data = _decoded(text.strip().removeprefix(_PREFIX))
        if len(data) != 97 or data[96:] not in _FLAGS:
            raise _unreadable()
        token = Token(data[:32], data[32:64], data[64:96].hex(), _FLAGS[data[96:]])
        if token.text() != text.strip():
            raise _unreadable()
        return token

    @property
    def bearer(self) -> str:
        """What the API is shown."""
        return _encoded(self.secret)

    def __repr__(self) -> str:
        return f"Token({self.ledger[:16]})"  # the secret is in no traceback


def draft_fingerprint(public: bytes) -> str:
    """What stands for the ledger while there is no genesis, by the coordinator's record key."""
    return sha256(public).hexdigest()


@dataclass(frozen=True)
class Invitation:
    """One invitation, as it is stored. Times are seconds since 1970."""

    secret: str
    institution: str
    title: str
    ledger: str
    founder: bool
    created: int
    expires: int
    revoked: int | None
    used: int | None
    approved: int | None

    def state(self, now: float) -> str:
        """One word for people."""
        if self.revoked is not None:
            return "revoked"
        if self.used is not None:
            return "waits for approval" if self.approved is None else "approved"
        return "open" if now < self.expires else "expired"


@dataclass(frozen=True)
class Enrolment:
    """What a hospital hands in: form, consent (none before a genesis), transport key with proof."""

    form: MemberForm
    consent: str | None
    transport: bytes
    proof: bytes

    def same_keys(self, other: "Enrolment") -> bool:
        """Whether it is the same hospital's, however often it was signed."""
        return (self.form.id, self.form.keys, self.transport) == (
            other.form.id, other.form.keys, other.transport,
        )  # fmt: skip


class Invitations:
    """The invitations of one coordinator's home, and the enrolments that came in with them."""

    def __init__(self, home: Path, clock: Callable[[], float] = time.time) -> None:
        self._home = home
        self._clock = clock
        self._next_unknown = 0.0

    # the consortium's admin

    def invite(
        self, institution: str, title: str, ledger: str, *, founder: bool, ca: bytes = NO_CA,
        lifetime_s: int = LIFETIME_S,
    ) -> Token:  # fmt: skip
        """Invites an institution; its earlier invitation, if nobody used it, is revoked.

        Raises:
            InvitationInvalid: if id or title cannot stand on a ledger.
            InvitationUsed: if this institution has enrolled already.
        """
        _check_names(institution, title)
        token, now = Token(os.urandom(32), ca, ledger, founder), int(self._clock())
        with transaction(self._home) as connection:
            if any(found.used for found in _of(connection, institution)):
                raise InvitationUsed(
                    f"{institution} has enrolled with an earlier invitation",
                    f"see `consortium institution pending`; to begin anew: `consortium institution "
                    f"invitations --revoke {institution}`",
                )
            _revoke(connection, institution, now)
            connection.execute(
                "INSERT INTO invitations VALUES (?, ?, ?, ?, ?, ?, ?, NULL)",
                (_hidden(token.secret), institution, title, ledger, founder, now, now + lifetime_s),
            )
        return token

    def all(self) -> list[Invitation]:
        """All invitations, oldest first."""
        with transaction(self._home) as connection:
            return _select(connection, "ORDER BY created, institution")

    def revoke(self, institution: str) -> None:
        """Takes an institution's invitation back, and what it enrolled with it.

        Raises:
            EnrolmentUnknown: if it has none that could be taken back.
        """
        with transaction(self._home) as connection:
            if not _revoke(connection, institution, int(self._clock())):
                raise EnrolmentUnknown(
                    f"{institution} has no invitation to take back",
                    "see `consortium institution invitations`; one who is a member: `consortium "
                    "institution remove`",
                )

    def enrolments(self) -> list[tuple[Invitation, Enrolment]]:
        """What came in and was not taken back, oldest first."""
        with transaction(self._home) as connection:
            found = _select(
                connection, "WHERE received NOT NULL AND revoked IS NULL ORDER BY received"
            )
            return [(one, _enrolment(connection, one.secret)) for one in found]

    def enrolment(self, institution: str) -> tuple[Invitation, Enrolment]:
        """What an institution handed in, whether or not it was approved.

        Raises:
            EnrolmentUnknown: if there is nothing.
        """
        for invitation, enrolment in self.enrolments():
            if invitation.institution == institution:
                return invitation, enrolment
        raise EnrolmentUnknown(
            f"no enrolment of {institution} waits here",
            "see `consortium institution pending` and `consortium institution invitations`",
        )

    def approve(self, invitation: Invitation) -> None:
        """Notes that the admin compared the fingerprints; the first time counts."""
        with transaction(self._home) as connection:
            connection.execute(
                "UPDATE enrolments SET approved = ? WHERE secret = ? AND approved IS NULL",
                (int(self._clock()), invitation.secret),
            )

    # the hospital, over the API

    def open(self, bearer: str, ledger: str) -> Invitation:
        """The invitation that a secret belongs to. One that was used is shown to its holder still.

        Raises:
            InvitationUnknown, InvitationRevoked, InvitationExpired: if it admits nobody.
        """
        with transaction(self._home) as connection:
            secret = _hidden(_decoded(bearer, exact=False))
            found = _select(connection, "WHERE invitations.secret = ?", secret)
        # Compared by the hash of 32 random bytes: nothing can be learned from how long it takes.
        if not found:
            raise self._refused(InvitationUnknown("no invitation has this secret", _ASK))
        invitation = found[0]
        if invitation.revoked is not None:
            raise self._refused(InvitationRevoked("the invitation was taken back", _ASK), found[0])
        if invitation.used is not None:
            return invitation
        if self._clock() >= invitation.expires:
            raise self._refused(InvitationExpired("the invitation has expired", _ASK), found[0])
        if invitation.ledger != ledger:
            error = InvitationExpired("the ledger has begun since the invitation was made", _ASK)
            raise self._refused(error, found[0])
        return invitation

    def enrol(self, invitation: Invitation, enrolment: Enrolment) -> None:
        """Takes an enrolment in; the very same one is taken in again.

        Raises:
            EnrolmentInvalid, TransportInvalid: if it does not show what it must.
            InvitationUsed: if other keys were enrolled with this invitation.
            InvitationRevoked: if it was taken back meanwhile.
        """
        try:
            _check(invitation, enrolment)
        except ConsortiumError as error:
            raise self._refused(error, invitation) from None
        form = enrolment.form.model_dump_json()
        row = (
            invitation.secret, form, enrolment.consent, enrolment.transport, enrolment.proof,
            int(self._clock()),
        )  # fmt: skip
        with transaction(self._home) as connection:
            now = _select(connection, "WHERE invitations.secret = ?", invitation.secret)[0]
            if now.revoked is None:
                connection.execute(
                    "INSERT OR IGNORE INTO enrolments VALUES (?, ?, ?, ?, ?, ?, NULL)", row
                )
                kept = _enrolment(connection, invitation.secret)
        if now.revoked is not None:
            raise self._refused(InvitationRevoked("the invitation was taken back", _ASK), now)
        if not kept.same_keys(enrolment):
            used = InvitationUsed("the invitation has been used, with other keys", _ASK)
            raise self._refused(used, invitation)

    def _refused(
        self, error: ConsortiumError, invitation: Invitation | None = None
    ) -> ConsortiumError:
        if invitation is not None:
            record(self._home, error.code, institution=invitation.institution)
        elif (now := time.monotonic()) >= self._next_unknown:
            # Anybody can send secrets that nobody has: the disk must not fill with them.
            self._next_unknown = now + _UNKNOWN_EVERY_S
            record(self._home, error.code)
        return error


# what it takes


def _check(invitation: Invitation, enrolment: Enrolment) -> None:
    form, consent = enrolment.form, enrolment.consent
    if (form.id, form.title) != (invitation.institution, invitation.title):
        raise _invalid(invitation, "it is in another name than the invitation")
    check_member(form)
    if (consent is None) is not invitation.founder:
        raise _invalid(invitation, "a member consents to its ledger, a founder signs its genesis")
    if consent is not None:
        try:
            message = consent_message(invitation.ledger, form)
            form.key(Role.RECORD).verify(bytes.fromhex(consent), message)
        except (LedgerError, ValueError):
            raise _invalid(invitation, "it does not consent to this ledger") from None
    check_transport(invitation.ledger, form.id, enrolment.transport, enrolment.proof)


def _invalid(invitation: Invitation, what: str) -> EnrolmentInvalid:
    return EnrolmentInvalid(
        f"the enrolment of {invitation.institution} was refused: {what}",
        "run `hospital-agent enrol` with the invitation's own token, in the hospital's own folder",
    )


def _check_names(institution: str, title: str) -> None:
    try:
        TypeAdapter(Name).validate_python(institution)
        TypeAdapter(Title).validate_python(title)
    except ValidationError:
        fits = False
    else:
        fits = institution != COORDINATOR
    if not fits:
        raise InvitationInvalid(
            f"{institution[:50]!r}, {title[:90]!r} cannot stand on a ledger",
            "an id has up to 40 of a-z, 0-9 and -, and is not `coordinator`; a title up to 80 "
            "letters, digits, spaces and . , ' & ( ) / -; both begin with a letter or digit",
        )


# the table

_SELECT = """SELECT invitations.secret, institution, title, ledger, founder, created, expires,
    revoked, received, approved FROM invitations LEFT JOIN enrolments USING (secret)"""


def _select(connection: sqlite3.Connection, rest: str, *values: str) -> list[Invitation]:
    found = [Invitation(*row) for row in connection.execute(f"{_SELECT} {rest}", values)]
    return [replace(one, founder=bool(one.founder)) for one in found]  # SQLite has numbers only


def _of(connection: sqlite3.Connection, institution: str) -> list[Invitation]:
    return _select(connection, "WHERE institution = ? AND revoked IS NULL", institution)


def _revoke(connection: sqlite3.Connection, institution: str, now: int) -> int:
    return connection.execute(
        "UPDATE invitations SET revoked = ? WHERE institution = ? AND revoked IS NULL",
        (now, institution),
    ).rowcount


def _enrolment(connection: sqlite3.Connection, secret: str) -> Enrolment:
    query = "SELECT form, consent, transport, proof FROM enrolments WHERE secret = ?"
    form, consent, transport, proof = connection.execute(query, (secret,)).fetchone()
    return Enrolment(MemberForm.model_validate_json(form), consent, transport, proof)


def _hidden(secret: bytes) -> str:
    return sha256(secret).hexdigest()


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decoded(text: str, *, exact: bool = True) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        if exact:
            raise _unreadable() from None
        return b""  # the secret of no invitation


def _unreadable() -> InvitationInvalid:
    return InvitationInvalid(
        "this is no invitation's token that can be read",
        "copy it whole, from MPL1. to its end, as `consortium institution invite` printed it",
    )
