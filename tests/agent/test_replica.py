"""A hospital's copy of the ledger, its memory of rounds, and its folder."""

import sqlite3
import stat
from pathlib import Path

import numpy as np
import pytest
from consortium_in_memory import Consortium

from consortium import weights as weight_forms
from consortium.rounds.replay import Checked
from hospital_agent.errors import FolderInvalid, ForkRefused, StateFailed
from hospital_agent.folder import HospitalFolder
from hospital_agent.replica import Replica
from hospital_agent.rounds import RoundMemory, Trained
from hospital_agent.view import ReplicaView
from ledger.chain import Chain
from ledger.content import ContentStore
from ledger.errors import ContentInvalid, ContentMissing, LedgerError

ONE = "hospital-1"
PLACE = ("job-1", 1, 1)


def replica_of(consortium: Consortium, name: str = ONE) -> Replica:
    return Replica(consortium.folders[name].path / "replica.sqlite")


def test_nothing_is_known_before_the_genesis(tmp_path: Path) -> None:
    replica = Replica(tmp_path / "replica.sqlite")
    assert replica.chain() is None
    assert replica.height() == -1
    assert replica.jobs() == []
    assert replica.end_of("job-1") is None
    assert list(replica.steps("job-1")) == []


def test_the_copy_is_the_chain_that_a_reader_of_every_block_has(four: Consortium) -> None:
    four.play_round(1)
    read = Chain.begin(four.api.blocks[0])
    for block in four.api.blocks[1:]:
        read.follow(block)
    for name in four.folders:
        copied = replica_of(four, name).chain()
        assert copied is not None
        assert copied.header == read.header == four.newest.header
        assert copied.checkpoint == read.checkpoint
        assert copied.frontier == read.frontier
        assert copied.members == read.members


def test_jobs_results_steps_and_ends_are_found(four: Consortium) -> None:
    four.play_round(1)
    replica = replica_of(four)
    assert [job.job for job in replica.jobs()] == ["job-1"]
    assert [result.round for result in replica.results("job-1")] == [1]
    assert replica.results("job-2") == []
    assert len(replica.steps("job-1")) == 4
    assert replica.end_of("job-1") is None
    model = replica.results("job-1")[0].model_after
    four.add([four.end_job("stopped", 1, model)])
    end = replica.end_of("job-1")
    assert end is not None
    assert end.status == "stopped"


def test_a_stored_block_is_stored_once_and_answers_with_the_first_line(four: Consortium) -> None:
    four.play(1)
    block = four.propose(four.result()[0])
    replica, frontier = replica_of(four), four.newest.frontier
    assert replica.cosignature(block.header) is None
    assert replica.accept(block, "first", Checked(), frontier) == "first"
    assert replica.accept(block, "second", Checked(), frontier) == "first"
    assert replica.cosignature(block.header) == "first"
    assert replica_of(four).height() == 2


def test_a_second_block_at_a_height_is_refused_and_changes_nothing(
    four: Consortium,
) -> None:
    four.play(1)
    block = four.propose(four.result()[0])
    replica, frontier = replica_of(four), four.newest.frontier
    replica.accept(block, "line", Checked(), frontier)
    other = four.api.blocks[1]
    changed = type(block)(
        type(block.header)(**{**block.header.__dict__, "time": block.header.time + 1}),
        other.entries, block.checkpoint, block.signature, block.parent_cert,
    )  # fmt: skip
    for ask in (
        lambda: replica.cosignature(changed.header),
        lambda: replica.accept(changed, "other", Checked(), frontier),
    ):
        with pytest.raises(ForkRefused):
            ask()
    assert replica.cosignature(block.header) == "line"
    assert len(replica.jobs()) == 1


def test_a_block_is_stored_whole_or_not_at_all(four: Consortium) -> None:
    four.play(1)
    block = four.propose(four.result()[0])
    replica = replica_of(four)
    broken = Checked(None, {"hospital-1": np.zeros(3)}, None, 1)  # a step without a job
    with pytest.raises(StateFailed):
        replica.accept(block, "line", broken, four.newest.frontier)
    assert replica.height() == 1
    assert replica.cosignature(block.header) is None
    chain = replica.chain()
    assert chain is not None
    assert chain.header.height == 1


def _changed(column: str, old: str, new: str) -> str:
    return f"{column} = CAST(replace({column}, '{old}', '{new}') AS BLOB)"


@pytest.mark.parametrize(
    "damage",
    [
        "blocks SET frontier = zeroblob(length(frontier)) WHERE height = 1",
        "blocks SET frontier = substr(frontier, 2) WHERE height = 1",
        "blocks SET {} WHERE height = 1".format(_changed("header", '"time":1', '"time":2')),
        "blocks SET header = substr(header, 2) WHERE height = 1",
        "entries SET {} WHERE idx = 0".format(_changed("body", "In memory", "Elsewhere")),
    ],
)
def test_a_copy_that_was_changed_on_disk_signs_nothing(four: Consortium, damage: str) -> None:
    four.play(1)
    entries = four.result()[0]
    four.witnesses.clear()  # a restart: the copy is read anew
    with sqlite3.connect(four.folders[ONE].path / "replica.sqlite") as connection:
        assert connection.execute(f"UPDATE {damage}").rowcount == 1
    four.propose(entries)
    with pytest.raises((LedgerError, ForkRefused)):
        four.witness(ONE).step()
    assert 2 not in four.api.cosignatures


# the memory of rounds


def test_what_was_trained_and_signed_first_stays(tmp_path: Path) -> None:
    memory = RoundMemory(tmp_path / "rounds.sqlite")
    assert memory.trained(PLACE) is None
    assert memory.signed(PLACE, "close") is None
    first = Trained("a" * 64, b"proof", b"salt", b"commitment")
    assert memory.keep_trained(PLACE, first) == first
    assert memory.keep_trained(PLACE, Trained("b" * 64, b"p", b"s", b"c")) == first
    assert memory.keep_signed(PLACE, "close", "d1", b"one") == ("d1", b"one")
    assert memory.keep_signed(PLACE, "close", "d2", b"two") == ("d1", b"one")
    assert memory.keep_signed(PLACE, "verdict", "d2", b"two") == ("d2", b"two")
    again = RoundMemory(tmp_path / "rounds.sqlite")
    assert again.trained(PLACE) == first
    assert again.trained(("job-1", 1, 2)) is None
    assert again.trained(("job-1", 2, 1)) is None
    assert "salt" not in repr(first)


@pytest.mark.parametrize("kind", [Replica, RoundMemory])
def test_commits_are_synced_with_their_folder(tmp_path: Path, kind) -> None:
    """With less, SQLite's own documents say, a commit may be rolled back by a power loss."""
    store = kind(tmp_path / "db.sqlite")
    with store._connect() as connection:
        assert connection.execute("PRAGMA synchronous").fetchone()[0] == 3
        assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "delete"


# the folder


def test_a_folder_is_closed_to_others_even_if_it_was_open(tmp_path: Path) -> None:
    path = tmp_path / "hospital"
    path.mkdir(mode=0o755)
    path.chmod(0o755)
    HospitalFolder.create(path, "hospital-1", "Hospital 1")
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert stat.S_IMODE((path / "hospital.json").stat().st_mode) == 0o600


def test_a_folder_is_one_institutions(tmp_path: Path) -> None:
    HospitalFolder.create(tmp_path / "h", "hospital-1", "Hospital 1")
    assert HospitalFolder.create(tmp_path / "h", "hospital-1", "Hospital 1").title == "Hospital 1"
    with pytest.raises(FolderInvalid, match="hospital-1"):
        HospitalFolder.create(tmp_path / "h", "hospital-2", "Hospital 2")


def test_a_folder_is_bound_to_one_ledger_for_good(tmp_path: Path) -> None:
    folder = HospitalFolder.create(tmp_path / "h", "hospital-1", "Hospital 1")
    assert folder.ledger is None
    folder.pin_ledger("a" * 64)
    folder.pin_ledger("a" * 64)
    with pytest.raises(FolderInvalid):
        folder.pin_ledger("b" * 64)
    assert HospitalFolder(tmp_path / "h").ledger == "a" * 64


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff"])
def test_a_damaged_folder_says_so(tmp_path: Path, content: bytes) -> None:
    HospitalFolder.create(tmp_path / "h", "hospital-1", "Hospital 1")
    (tmp_path / "h" / "hospital.json").write_bytes(content)
    with pytest.raises(FolderInvalid):
        HospitalFolder(tmp_path / "h").institution  # noqa: B018


# content and models


def test_content_is_what_its_name_says_or_nothing(tmp_path: Path) -> None:
    store = ContentStore(tmp_path / "content")
    name = store.put(b"update")
    assert store.put(b"update") == name
    assert store.get(name) == b"update"
    assert store.has(name)
    assert [p.name for p in (tmp_path / "content").iterdir()] == [name]
    with pytest.raises(ContentMissing):
        store.get("0" * 64)
    (tmp_path / "content" / name).write_bytes(b"updat3")
    with pytest.raises(ContentInvalid):
        store.get(name)


def test_a_model_that_the_api_sends_is_checked(four: Consortium) -> None:
    model = four.play_round(1)
    name = replica_of(four).results("job-1")[0].model_after
    (four.folders[ONE].path / "models" / f"{name}.safetensors").unlink()
    with pytest.raises(ContentMissing):
        ReplicaView(four.folders[ONE]).model(name)
    other = {key: array + 1 for key, array in model.items()}
    for sent in (weight_forms.to_bytes(other), b"no model"):
        with pytest.raises(Exception) as caught:
            ReplicaView(four.folders[ONE], lambda *_, s=sent: s).model(name)
        assert getattr(caught.value, "code", "") in ("ContentInvalid", "RoundInvalid")
    good = ReplicaView(four.folders[ONE], lambda *_: weight_forms.to_bytes(model)).model(name)
    assert set(good) == set(model)
