"""What every member checks of an institution before it stands on the ledger."""

import json
from pathlib import Path

from consortium.errors import EnrolmentInvalid
from ledger.errors import LedgerError
from ledger.keys import Role
from ledger.records import Enrol, MemberForm, possession_message
from sml.errors import SmlError
from sml.vrf import verify


def check_member(member: MemberForm) -> None:
    """Checks that the institution has a key for every role, all different, and holds each.

    Raises:
        EnrolmentInvalid: naming the role that fails.
    """
    if set(member.keys) != set(Role) or set(member.possession) != set(Role):
        raise _invalid(member.id, "it must have exactly one key for every role")
    if len({form.public for form in member.keys.values()}) != len(Role):
        raise _invalid(member.id, "one key stands in two roles")
    for role in Role:
        message = possession_message(member.id, role, member.keys)
        proof = bytes.fromhex(member.possession[role])
        try:
            if role is Role.VRF:
                verify(member.key(role).public, message, proof)
            else:
                member.key(role).verify(proof, message)
        except (SmlError, LedgerError):
            raise _invalid(member.id, f"it does not show that it holds its {role} key") from None


def read_request(path: Path, ledger: str) -> Enrol:
    """An enrolment that a hospital asks for, from the file that its agent wrote.

    Raises:
        EnrolmentInvalid: if it is no such file, is for another ledger, or a key is not shown.
    """
    try:
        content = json.loads(path.read_bytes())
        wanted, action = content["ledger"], Enrol.model_validate(content["action"])
    except (OSError, ValueError, KeyError, TypeError):
        raise EnrolmentInvalid(
            f"{path} is no enrolment that can be read", "have `hospital-agent enrol` write it anew"
        ) from None
    if wanted != ledger:
        raise EnrolmentInvalid(
            "the enrolment is for another ledger", "give the hospital this ledger's fingerprint"
        )
    check_member(action.member)
    return action


def _invalid(institution: str, what: str) -> EnrolmentInvalid:
    return EnrolmentInvalid(
        f"{institution} cannot be enrolled: {what}", "have its agent make and show its keys anew"
    )
