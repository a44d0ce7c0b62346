"""Keys of small order, under which anybody could sign; clocks that are a day off."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from consortium_in_memory import CREATED, Consortium, make_genesis, place_keys

from consortium.errors import EnrolmentInvalid
from consortium.phases import Phase
from hospital_agent.approver import open_approver
from hospital_agent.enrolment import APPROVER, enrol, sign_genesis
from hospital_agent.errors import ClocksDiffer
from hospital_agent.folder import HospitalFolder
from ledger.keys import AGENT_ROLES, KeyRing, Role
from ledger.records import KeyForm, MemberForm, possession_message
from sml.vrf import prove

ONE = "hospital-1"
DAY = 24 * 3600
IDENTITY = (1).to_bytes(32, "little")
ORDER_8 = bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a")
MINUS_ONE = (2**255 - 20).to_bytes(32, "little")


def forged(folder: HospitalFolder, role: Role, point: bytes) -> MemberForm:
    """A member that shows all its keys but one, which is a point of small order."""
    honest = enrol(folder)
    keys = {**honest.keys, role: KeyForm(alg="ed25519", public=point.hex())}
    ring = KeyRing({each: folder.keys[each] for each in AGENT_ROLES})
    approval = open_approver(folder.path / APPROVER, None)
    possession = {}
    for other in Role:
        message = possession_message(honest.id, other, keys)
        if other is role:
            shown = IDENTITY + bytes(48 if role is Role.VRF else 32)
        elif other is Role.VRF:
            shown = prove(ring[other].seed, message)
        else:
            shown = (ring[other] if other in AGENT_ROLES else approval).sign(message)
        possession[other] = shown.hex()
    return honest.model_copy(update={"keys": keys, "possession": possession})


def test_no_founder_has_a_key_of_small_order(tmp_path: Path) -> None:
    """Under the identity these "signatures" and this "proof" hold for every message."""
    place_keys(tmp_path / "coordinator", "coordinator")
    keys = KeyRing.open(tmp_path / "coordinator", (Role.RECORD, Role.COSIGN))
    folders = [
        HospitalFolder.create(tmp_path / name, name, name.title()) for name in (ONE, "hospital-2")
    ]
    for folder in folders:
        place_keys(folder.path / "keys", folder.institution)
    genesis = make_genesis(keys, folders)
    first = genesis.founders[0]
    for role in Role:
        for point in (IDENTITY, MINUS_ONE, ORDER_8):
            bad = genesis.model_copy(update={"founders": (first, forged(folders[1], role, point))})
            with pytest.raises(EnrolmentInvalid, match=f"its {role.value} key"):
                sign_genesis(folders[0], bad)
    assert folders[0].ledger is None
    sign_genesis(folders[0], genesis)


@pytest.mark.parametrize("off", [-DAY, DAY])
def test_a_member_whose_clock_is_a_day_off(
    after_verify: Consortium, monkeypatch: pytest.MonkeyPatch, off: int
) -> None:
    """Behind, it signs nothing that is dated in its future; ahead, nothing seems wrong to it."""
    four = after_verify
    four.propose(four.result()[0])
    clock = SimpleNamespace(time=lambda: CREATED + 60 + off)
    with monkeypatch.context() as patch:
        patch.setattr("hospital_agent.witness.time", clock)
        if off < 0:
            with pytest.raises(ClocksDiffer):
                four.witness(ONE).step()
        else:
            four.witness(ONE).step()
    signed = four.api.cosignatures.get(four.newest.header.height, {})
    assert (ONE in signed) == (off > 0)
    four.cosign_all()  # its clock is right again
    assert set(four.api.cosignatures[four.newest.header.height]) == set(four.folders)


@pytest.mark.parametrize("off", [-DAY, DAY])
def test_a_coordinator_whose_clock_is_a_day_off(after_verify: Consortium, off: int) -> None:
    """Behind, its blocks are dated as their parents, never before; ahead, nobody signs them."""
    four, parent = after_verify, after_verify.newest.header
    block = four.propose(four.result()[0], time=CREATED + 60 + off)
    if off > 0:
        for name in four.folders:
            with pytest.raises(ClocksDiffer):
                four.witness(name).step()
        assert four.api.cosignatures.get(block.header.height, {}) == {}
        return
    assert block.header.time == parent.time
    four.cosign_all()
    assert set(four.api.cosignatures[block.header.height]) == set(four.folders)
    four.records, four.updates = type(four.records)(), {}
    assert four.ask(Phase.TRAIN, 2)[ONE].error == ""
