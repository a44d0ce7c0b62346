"""What every member checks of an institution before it stands on the ledger."""

from consortium.errors import EnrolmentInvalid
from ledger.errors import LedgerError
from ledger.keys import Role
from ledger.records import MemberForm, possession_message
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


def _invalid(institution: str, what: str) -> EnrolmentInvalid:
    return EnrolmentInvalid(
        f"{institution} cannot be enrolled: {what}", "have its agent make and show its keys anew"
    )
