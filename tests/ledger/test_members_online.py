"""People's decisions about members, over the real API and database, with real witnesses.

Only the processes are missing: the API listens on a socket, each hospital has its folder, and its
witness is called in turn.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine

from consortium.api.app import create_app
from consortium.api.local import local_api
from consortium.coordinator import sequencing
from consortium.coordinator.sequencing import Sequencing
from consortium.coordinator.view import StoreView
from consortium.models import ModelStore
from consortium.simulation.founding import found_ledger
from hospital_agent.approvals import Approvals
from hospital_agent.approver import open_approver
from hospital_agent.enrolment import APPROVER, enrolment_action, rotation
from hospital_agent.errors import ApiUnreachable, MemberStopped, OwnRecordChanged
from hospital_agent.folder import HospitalFolder
from hospital_agent.ledger_api import LedgerApi
from hospital_agent.replica import Replica
from hospital_agent.simulation import SimulatedHospital
from hospital_agent.witness import Witness
from ledger.content import ContentStore
from ledger.entry import Entry, sign_record
from ledger.errors import MembershipInvalid, QuorumMissing
from ledger.keys import KeyRing, Role
from ledger.membership import change_digest
from ledger.prove import verify_proof
from ledger.records import Action, Change, Erasure, Remove, Suspend
from ledger.store import LedgerStore


@dataclass
class Online:
    """The coordinator's side, and the hospitals' folders."""

    root: Path
    keys: KeyRing
    view: StoreView
    client: httpx.Client
    folders: dict[str, HospitalFolder] = field(default_factory=dict)

    @property
    def store(self) -> LedgerStore:
        return self.view.store

    def api(self, name: str) -> LedgerApi:
        return LedgerApi(self.client, self.folders[name])

    def step(self, *names: str) -> None:
        for name in names or self.folders:
            Witness(self.folders[name], self.api(name)).step()

    def settle(self) -> None:
        """Blocks over what was submitted, co-signed by everybody, until nothing is left."""
        self.step()
        proposing = Sequencing(self.view, self.keys)
        while proposing.step() is not None:
            self.step()

    def propose(self, *actions: Action) -> str:
        membership = self.store.chain().upcoming
        change = Change(
            v=1, type="change", ledger=membership.ledger, author="coordinator",
            base=membership.digest, actions=actions,
        )  # fmt: skip
        self.store.submit(sign_record(change, [self.keys[Role.RECORD]]))
        self.settle()
        return change_digest(change)

    def approval(self, name: str, change: str) -> Entry:
        folder = self.folders[name]
        key = open_approver(folder.path / APPROVER, None)
        approvals = Approvals(folder.path / "approvals.sqlite")
        return approvals.approve(self.view.ledger, name, change, f"Dr. {name}", key)[0]

    def approve(self, change: str, *names: str) -> None:
        for name in names:
            self.api(name).submit(self.approval(name, change).data)
        self.settle()

    def erasure(self, *numbers: int) -> None:
        for number in numbers:
            record = Erasure(
                v=1, type="erasure", ledger=self.view.ledger, author="coordinator",
                disclosure=f"{number:064x}",
            )  # fmt: skip
            self.store.submit(sign_record(record, [self.keys[Role.RECORD]]))
        self.settle()

    def newcomer(self, name: str) -> Action:
        folder = HospitalFolder.create(self.root / name, name, name.title())
        action = enrolment_action(folder, self.view.ledger)
        self.folders[name] = folder
        return action

    def cosigners(self) -> set[str]:
        head = self.store.chain().header.height
        return {line.split(" ")[1] for line in self.store.cosignatures(head)}


@pytest.fixture
def online(engine: Engine, homes: Callable[..., Path]) -> Iterator[Online]:
    root = homes()  # in memory where there is some: every step is synced
    keys = KeyRing.open(root / "keys", (Role.RECORD, Role.COSIGN))
    content, models = ContentStore(root / "content"), ModelStore(root / "models")
    view = StoreView(LedgerStore(engine), content, models)
    names = [f"hospital-{number}" for number in range(1, 5)]
    hospitals = [SimulatedHospital(root / name, name, name.title()) for name in names]
    found_ledger(view, keys, hospitals, 1_750_000_000)
    with local_api(create_app(view.store, content, models)) as client:
        folders = {name: HospitalFolder(root / name) for name in names}
        yield Online(root, keys, view, client, folders)


FOUR = [f"hospital-{number}" for number in range(1, 5)]


def test_a_newcomer_counts_once_a_quorum_of_people_approved(online: Online) -> None:
    online.settle()
    action = online.newcomer("hospital-5")
    newcomer = online.folders.pop("hospital-5")
    change = online.propose(action)
    online.approve(change, *FOUR[:2])
    assert sorted(online.store.chain().members) == FOUR
    online.approve(change, FOUR[2])
    assert sorted(online.store.chain().members) == [*FOUR, "hospital-5"]
    online.folders["hospital-5"] = newcomer
    online.erasure(1)
    assert online.cosigners() == {*FOUR, "hospital-5"}
    assert online.store.head().quorum == 4
    replica = Replica(newcomer.path / "replica.sqlite")
    height = online.store.chain().header.height
    assert (replica.height(), list(replica.own_lines())) == (height, [height])


def test_without_the_newcomer_the_new_quorum_holds_and_less_does_not(online: Online) -> None:
    online.settle()
    action = online.newcomer("hospital-5")
    del online.folders["hospital-5"]
    online.approve(online.propose(action), *FOUR[:3])
    online.erasure(1)  # four of five
    height = online.store.chain().header.height
    assert online.store.final_height() == height
    del online.folders["hospital-4"]
    online.erasure(2)
    with pytest.raises(QuorumMissing, match="3 of 5"):
        online.store.require_final(height + 1)


def test_the_admin_alone_enrols_nobody(online: Online) -> None:
    """The coordinator's keys, an invented hospital with all its keys, and two real approvals."""
    online.settle()
    action = online.newcomer("invented")
    invented = online.folders.pop("invented")
    change = online.propose(action)
    online.approve(change, *FOUR[:2])
    for name, folder in [("invented", invented), ("coordinator", invented)]:
        key = open_approver(folder.path / APPROVER, None)
        entry, _ = Approvals(online.root / f"{name}.sqlite").approve(
            online.view.ledger, name, change, "nobody", key
        )
        with pytest.raises(Exception, match="not a member"):
            online.store.submit(entry)
    agents = sign_record(online.approval(FOUR[2], change).record, [
        online.folders[FOUR[2]].keys[Role.RECORD]
    ])  # fmt: skip
    with pytest.raises(Exception, match="not signed by the keys"):
        online.store.submit(agents)
    online.settle()
    assert sorted(online.store.chain().members) == FOUR


def test_rotated_keys_come_into_force_by_themselves(online: Online) -> None:
    online.settle()
    folder = online.folders["hospital-4"]
    before = {role: folder.keys[role].public for role in (Role.RECORD, Role.COSIGN, Role.API)}
    membership = online.store.chain().upcoming
    entry = rotation(folder, membership.digest, folder.path / APPROVER, None)
    Approvals(folder.path / "approvals.sqlite").keep(entry)
    online.api("hospital-4").submit(entry.data)
    online.settle()
    record = entry.record
    assert isinstance(record, Change)
    online.approve(change_digest(record), *FOUR[:3])
    online.erasure(1)
    online.settle()
    again = HospitalFolder(folder.path)
    assert {role: again.keys[role].public for role in before} != before
    assert all(again.keys[role].public != key for role, key in before.items())
    online.folders["hospital-4"] = again
    online.erasure(2)
    assert online.cosigners() == set(FOUR)
    assert not (folder.path / "keys.next").exists()
    assert list(folder.path.glob("keys.retired-*"))


def test_one_suspended_follows_and_does_not_sign_until_it_is_back(online: Online) -> None:
    from ledger.records import Reinstate

    online.settle()
    suspend = Suspend(kind="suspend", institution="hospital-4")
    online.approve(online.propose(suspend), *FOUR[:3])
    online.erasure(1)
    assert online.cosigners() == set(FOUR[:3])
    assert online.store.head().quorum == 2
    height = online.store.chain().header.height
    assert Replica(online.folders["hospital-4"].path / "replica.sqlite").height() == height
    reinstate = Reinstate(kind="reinstate", institution="hospital-4")
    online.approve(online.propose(reinstate), *FOUR[:2])
    online.erasure(2)
    assert online.cosigners() == set(FOUR)


def test_one_removed_is_out_of_the_api_too(online: Online) -> None:
    online.settle()
    change = online.propose(Remove(kind="remove", institution="hospital-4"))
    online.approve(change, *FOUR[:3])
    removed = online.folders.pop("hospital-4")
    online.erasure(1)
    with pytest.raises(ApiUnreachable, match="401"):
        LedgerApi(online.client, removed).newest()


def test_a_clone_is_found_and_both_are_stopped(online: Online, tmp_path: Path) -> None:
    import shutil

    online.settle()
    original = online.folders["hospital-4"]
    clone = HospitalFolder(Path(shutil.copytree(original.path, tmp_path / "clone")))
    record = Erasure(
        v=1, type="erasure", ledger=online.view.ledger, author="coordinator", disclosure="0" * 64
    )
    online.store.propose([sign_record(record, [online.keys[Role.RECORD]])], online.keys)
    online.step("hospital-4")
    from unittest import mock

    with mock.patch("hospital_agent.witness.time.time", return_value=1_900_000_000):
        with pytest.raises(MemberStopped):
            Witness(clone, LedgerApi(online.client, clone)).step()
        with pytest.raises(MemberStopped):  # for good
            Witness(clone, LedgerApi(online.client, clone)).step()
    assert online.store.conflicts() or Replica(clone.path / "replica.sqlite").evidence()


def test_nobody_hands_in_for_another(online: Online) -> None:
    online.settle()
    change = online.propose(Suspend(kind="suspend", institution="hospital-4"))
    entry = online.approval("hospital-1", change)
    with pytest.raises(ApiUnreachable, match="400"):
        online.api("hospital-2").submit(entry.data)
    online.api("hospital-1").submit(entry.data)
    online.api("hospital-1").submit(entry.data)  # a repeat is harmless
    assert len(online.store.submissions()) == 1


def test_an_approval_that_its_person_did_not_make_is_not_signed_over(online: Online) -> None:
    online.settle()
    change = online.propose(Suspend(kind="suspend", institution="hospital-4"))
    key = open_approver(online.folders["hospital-1"].path / APPROVER, None)
    entry, _ = Approvals(online.root / "elsewhere.sqlite").approve(
        online.view.ledger, "hospital-1", change, "somebody else", key
    )
    online.store.propose([entry], online.keys)
    with pytest.raises(OwnRecordChanged):
        online.step("hospital-1")
    online.step(*FOUR[1:])


def test_what_lapsed_is_refused_and_never_stops_the_rest(online: Online) -> None:
    online.settle()
    first = online.propose(Suspend(kind="suspend", institution="hospital-4"))
    late = online.approval("hospital-4", first)
    online.approve(first, *FOUR[:3])
    online.erasure(1)
    with pytest.raises(MembershipInvalid, match="no change that is open"):
        online.store.chain().upcoming.after([late.record])
    with pytest.raises(ApiUnreachable):
        online.api("hospital-4").submit(late.data)


def test_a_block_takes_no_more_than_witnesses_can_check_and_the_rest_waits(
    online: Online, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sequencing, "MOST_ENTRIES", 2)
    online.settle()
    first = online.store.head().header.height + 1
    online.erasure(1, 2, 3, 4, 5)
    assert [len(block.entries) for block in online.store.blocks(first)] == [2, 2, 1]
    monkeypatch.setattr(sequencing, "MOST_BYTES", 1 + len(online.store.entries("erasure")[0].data))
    online.erasure(6, 7)
    assert [len(block.entries) for block in online.store.blocks(first + 3)] == [1, 1]


def test_the_api_shows_heads_membership_and_proofs(online: Online) -> None:
    online.settle()
    online.erasure(1)
    api = online.api("hospital-1")
    heads = api.heads()
    assert [name for name, _ in heads.newest] == FOUR
    newest = api.newest()
    assert {head.checkpoint for _, head in heads.newest} == {newest}
    first = online.store.checkpoint(0)
    assert api.consistency_proof(first.size, newest.size)

    def get(path: str) -> Any:
        from consortium.api.tokens import sign_token

        key = online.folders["hospital-1"].keys[Role.API]
        token = sign_token("hospital-1", online.view.ledger, key)
        return online.client.get(path, headers={"Authorization": f"Bearer {token}"})

    proof = get("/v1/ledger/proofs/2")
    assert verify_proof(proof.text, online.view.ledger).record.type == "erasure"
    assert get("/v1/ledger/proofs/1").status_code == 404  # a header
    assert get("/v1/ledger/proofs/99").status_code == 404
    assert get("/v1/ledger/consistency?old=9&size=2").status_code == 400
    assert get("/v1/ledger/membership").json()["quorum"] == 3
    assert online.client.get("/v1/ledger/heads").status_code == 401
