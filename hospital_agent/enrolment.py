"""Joining a consortium: keys made on site, a proof that each is held, the genesis signed."""

from consortium.enrolment import check_member
from hospital_agent.errors import GenesisRefused
from hospital_agent.folder import HospitalFolder
from ledger.chain import ledger_id
from ledger.entry import record_signature
from ledger.keys import Role
from ledger.records import Genesis, KeyForm, MemberForm, possession_message
from sml.vrf import prove


def enrol(folder: HospitalFolder) -> MemberForm:
    """The institution's public form: its keys, and proof that it holds each of them."""
    keys = {role: KeyForm.of(folder.keys[role].public) for role in Role}
    possession = {
        role: _possession(folder, role, possession_message(folder.institution, role, keys))
        for role in Role
    }
    return MemberForm(id=folder.institution, title=folder.title, keys=keys, possession=possession)


def _possession(folder: HospitalFolder, role: Role, message: bytes) -> str:
    key = folder.keys[role]
    # The VRF key never makes a plain signature: it shows itself by a proof.
    return (prove(key.seed, message) if role is Role.VRF else key.sign(message)).hex()


def sign_genesis(folder: HospitalFolder, genesis: Genesis) -> dict[str, str]:
    """Signs the genesis and binds this hospital's folder to that ledger.

    Raises:
        GenesisRefused: if the genesis does not hold this hospital as it enrolled.
        EnrolmentInvalid: if another founder does not show that it holds its keys.
        FolderInvalid: if the hospital belongs to another ledger.
    """
    if enrol(folder) not in genesis.founders:
        raise GenesisRefused(
            "the genesis does not hold this hospital as it enrolled",
            "compare the fingerprints with the coordinator; do not join this ledger",
        )
    for member in genesis.founders:
        check_member(member)
    folder.pin_ledger(ledger_id(genesis))
    return record_signature(genesis, folder.keys[Role.RECORD])
