"""An export as one file: one exact form, the same bytes from command and API."""

import io
import os
import subprocess
import tarfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from ledger_examples import Consortium
from sqlalchemy import Engine
from test_export import fill, finalise
from typer.testing import CliRunner

from consortium.access import AccessTokens
from consortium.access import Role as Person
from consortium.api.app import create_app
from consortium.api.exports import AT_ONCE, exports_router
from consortium.api.local import local_api
from consortium.api.problems import add_problems
from consortium.cli.main import app as commands
from consortium.errors import RoleForbidden
from consortium.home import Home
from ledger.archive import archive, archive_size, header, is_archive, opened
from ledger.errors import ExportExists, ExportInvalid
from ledger.export import Contents, export_ledger
from ledger.keys import Role, write_private
from ledger.membership import COORDINATOR_ROLES
from ledger.store import LedgerStore
from ledger.verify import verify_export

FOUR = Consortium(4)
MANY = 3000  # entries, so that a stream is longer than what a socket's buffers hold
PATIENCE_S = 20


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("archives") / "export.tar"


@pytest.fixture
def original(request: pytest.FixtureRequest, packed: Path, tmp_path: Path) -> Path:
    """One export's folder: only the first test that asks for it needs the database."""
    folder = packed.parent / "export"
    if not folder.exists():
        store = fill(request.getfixturevalue("engine"), FOUR, 2)
        with store.snapshot() as snapshot:
            key = FOUR.coordinator[Role.RECORD]
            anything = Contents(Path, Path)  # these entries name neither updates nor models
            export_ledger(snapshot, "coordinator", key, folder, contents=anything)
        (folder / "content" / ("ab" * 32)).write_bytes(b"x" * 513)
        packed.write_bytes(b"".join(archive(folder)))
    return folder


def contents_of(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_an_archive_is_what_any_tar_unpacks(original: Path, packed: Path, tmp_path: Path) -> None:
    assert len(packed.read_bytes()) == archive_size(original)
    subprocess.run(["tar", "-xf", packed, "-C", tmp_path], check=True)
    assert contents_of(tmp_path) == contents_of(original)
    with tarfile.open(packed) as read:
        members = read.getmembers()
    names = [member.name for member in members]
    assert names[:2] == ["manifest.json", "manifest.sig"]
    assert names[2:] == sorted(names[2:])
    for member in members:
        assert member.isreg()
        assert (member.mode, member.mtime, member.uid, member.gid) == (0o644, 0, 0, 0)
        assert (member.uname, member.gname, member.pax_headers) == ("", "", {})


def test_the_same_folder_gives_the_same_bytes_again(original: Path, packed: Path) -> None:
    for path in original.rglob("*"):
        os.utime(path, (1, 2))
    assert b"".join(archive(original)) == packed.read_bytes()


def test_what_is_opened_is_the_folder_that_was_packed(original: Path, packed: Path) -> None:
    assert is_archive(packed)
    with opened(packed) as folder:
        assert contents_of(folder) == contents_of(original)
        assert folder.stat().st_mode & 0o777 == 0o700
    assert not folder.exists()
    with opened(original) as same:
        assert same == original


def member(name: str, data: bytes = b"", **attributes: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for attribute, value in attributes.items():
        setattr(info, attribute, value)
    return info, data


BEGINNING = (member("manifest.json", b"{}"), member("manifest.sig", b"{}"))
LINK = {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}
SPARSE = {"type": tarfile.GNUTYPE_SPARSE}
BAD = {
    "absolute": [*BEGINNING, member("/tmp/entries.csv", b"x")],
    "climbing": [*BEGINNING, member("../entries.csv", b"x")],
    "climbing in content": [*BEGINNING, member("content/../../x", b"x")],
    "another name": [*BEGINNING, member("notes.txt", b"x")],
    "no digest": [*BEGINNING, member("models/model", b"x")],
    "a name with an end": [*BEGINNING, member("entries.csv\n", b"x")],
    "a symbolic link": [*BEGINNING, member("entries.csv", **LINK)],
    "a hard link": [*BEGINNING, member("entries.csv", type=tarfile.LNKTYPE, linkname="start.json")],
    "a folder": [*BEGINNING, member("content", type=tarfile.DIRTYPE)],
    "a device": [*BEGINNING, member("entries.csv", type=tarfile.CHRTYPE)],
    "a sparse file": [*BEGINNING, member("entries.csv", **SPARSE)],
    "twice": [*BEGINNING, member("entries.csv"), member("entries.csv")],
    "the manifest twice": [*BEGINNING, member("manifest.json", b"{}")],
    "another order": [*BEGINNING, member("report.html"), member("entries.csv")],
    "no manifest first": [member("entries.csv", b"x")],
    "an owner": [*BEGINNING, member("entries.csv", uname="root")],
    "a program": [*BEGINNING, member("entries.csv", mode=0o755)],
    "a time": [*BEGINNING, member("entries.csv", mtime=1)],
    "more attributes": [*BEGINNING, member("entries.csv", pax_headers={"comment": "x"})],
}


def tar_of(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return file.getvalue()


@pytest.mark.parametrize("what", BAD)
def test_nothing_is_written_of_what_no_export_has(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bad.tar").write_bytes(tar_of(*BAD[what]))
    refused(tmp_path / "bad.tar", monkeypatch)


def refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []
    monkeypatch.setattr(Path, "mkdir", lambda self, **_: made.append(self))
    with pytest.raises(ExportInvalid) as failed, opened(path):
        pytest.fail("it was opened")
    monkeypatch.undo()
    assert not made
    assert "unpack it, verify the folder" in failed.value.resolve


def test_every_byte_counts(
    original: Path, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of headers, padding and end; a file's own bytes are for the verification of an export."""
    data, bad = packed.read_bytes(), tmp_path / "bad.tar"
    size = len((original / "manifest.json").read_bytes())
    places = [0, 100, 124, 148, 156, 257, 511, 512 + size, len(data) - 1, len(data) - 1024]
    for place in places:
        bad.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        refused(bad, monkeypatch)
    for cut in (1, 512, 1024, len(data) // 2, len(data) - 100, len(data) - 512):
        bad.write_bytes(data[:-cut])
        refused(bad, monkeypatch)
    for more in (b"\0", bytes(512), bytes(10240), b"x"):
        bad.write_bytes(data + more)
        refused(bad, monkeypatch)


def test_a_size_beyond_the_archive_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for size in (10_000_000, 2**40):
        (tmp_path / "bad.tar").write_bytes(header("manifest.json", size) + bytes(10240))
        refused(tmp_path / "bad.tar", monkeypatch)


@pytest.mark.parametrize("size", [8**11 - 1, 8**11, 2**40])
def test_files_of_eight_gigabytes_and_more_have_a_header_too(size: int, tmp_path: Path) -> None:
    """Sparse on the disk. What comes first is no manifest, so it is refused, as an export."""
    made, path = header("entries.jsonl", size), tmp_path / "large.tar"
    assert len(made) == (512 if size < 8**11 else 3 * 512)
    path.write_bytes(made)
    os.truncate(path, len(made) + size + 1024)
    with tarfile.open(path) as read:
        assert [(m.name, m.size) for m in read] == [("entries.jsonl", size)]
    listed = subprocess.run(["tar", "-tvf", path], capture_output=True, text=True, check=True)
    assert str(size) in listed.stdout
    with pytest.raises(ExportInvalid, match="does not belong there"), opened(path):
        pytest.fail("it was opened")


def test_memory_stays_flat(original: Path, tmp_path: Path) -> None:
    folder = tmp_path / "large"
    subprocess.run(["cp", "-r", original, folder], check=True)
    with (folder / "entries.jsonl").open("ab") as file:
        file.truncate(64 << 20)
    tracemalloc.start()
    with (tmp_path / "large.tar").open("wb") as out:
        out.writelines(archive(folder))
    with opened(tmp_path / "large.tar"):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


# command and API


@pytest.fixture
def home(
    homes: Callable[..., Path], engine: Engine, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> Home:
    """A home with a ledger of three blocks in a database of its own."""
    fill(engine, FOUR, 2)
    made = Home(homes())
    made.note({"title": "Test"})
    for role in COORDINATOR_ROLES:
        path = made.path / "coordinator" / "keys" / f"{role}.key"
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_private(path, FOUR.coordinator[role].seed.hex().encode())
    monkeypatch.setenv("DATABASE_URL", database_url)
    return made


@pytest.fixture
def client(home: Home, engine: Engine) -> Iterator[httpx.Client]:
    app = create_app(LedgerStore(engine), home.content, home.models, home=home.path)
    with local_api(app) as client:
        token = AccessTokens(home.path).issue("Ada", Person.AUDITOR)[1]
        client.headers["Authorization"] = f"Bearer {token}"
        yield client


def run(*arguments: object) -> str:
    done = CliRunner().invoke(commands, ["ledger", *map(str, arguments)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.output


def test_command_and_api_give_the_same_bytes(
    home: Home, client: httpx.Client, tmp_path: Path
) -> None:
    for number, (options, query) in enumerate(
        [((), {}), (("--from-height", 1, "--to-height", 2), {"from": 1, "to": 2})]
    ):
        path, folder = tmp_path / f"{number}.tar", tmp_path / str(number)
        assert "archive" in run("export", "--archive", path, "--home", home.path, *options)
        run("export", "--out", folder, "--home", home.path, *options)
        assert b"".join(archive(folder)) == path.read_bytes()
        answer = client.get("/v1/ledger/export", params=query)
        assert answer.content == path.read_bytes()
        assert answer.headers["content-type"] == "application/x-tar"
        assert int(answer.headers["content-length"]) == path.stat().st_size
        first, last = query.get("from", 0), query.get("to", 2)
        name = f"ledger-{FOUR.ledger[:16]}-{first}-{last}.tar"
        assert answer.headers["content-disposition"] == f'attachment; filename="{name}"'
    verifications = [
        run("verify", export, "--genesis", FOUR.ledger) for export in (tmp_path / "0", path)
    ]
    whole = run("verify", tmp_path / "0.tar", "--genesis", FOUR.ledger)
    assert whole == verifications[0]
    assert "verified against the pinned genesis" in whole
    with pytest.raises(ExportExists):
        run("export", "--archive", path, "--home", home.path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0", "0.tar", "1", "1.tar"]


def test_what_does_not_verify_as_a_folder_does_not_as_an_archive(
    original: Path, tmp_path: Path
) -> None:
    (original / "content" / ("ab" * 32)).unlink()
    (original / "content").rmdir()
    changed = tmp_path / "changed"
    subprocess.run(["cp", "-r", original, changed], check=True)
    lines = (changed / "entries.jsonl").read_bytes()
    (changed / "entries.jsonl").write_bytes(lines.replace(b'"job-1"', b'"job-12"', 1))
    (tmp_path / "changed.tar").write_bytes(b"".join(archive(changed)))
    said = []
    for export in (changed, tmp_path / "changed.tar"):
        with pytest.raises(Exception) as failed, opened(export) as folder:
            verify_export(folder)
        said.append((type(failed.value).__name__, str(failed.value)))
    assert said[0] == said[1]


def test_only_so_many_at_once_and_whoever_goes_away_leaves_nothing(
    home: Home, engine: Engine, client: httpx.Client
) -> None:
    store = LedgerStore(engine)
    entries = [FOUR.entry(round=round) for round in range(3, MANY + 3)]
    store.propose(entries, FOUR.coordinator)
    finalise(store, FOUR)
    scratch = home.path / "coordinator" / "exporting"
    (scratch / "left by a killed process").mkdir(parents=True)
    os.utime(scratch / "left by a killed process", (0, 0))
    streams = [client.stream("GET", "/v1/ledger/export") for _ in range(AT_ONCE)]
    answers = [stream.__enter__() for stream in streams]
    readers = [answer.iter_raw(1) for answer in answers]  # one that is dropped ends its stream
    assert [len(next(reader)) for reader in readers] == [1] * AT_ONCE
    assert len(list(scratch.iterdir())) == AT_ONCE  # the streams are far from their end
    busy = client.get("/v1/ledger/export")
    assert (busy.status_code, busy.json()["code"]) == (503, "ExportsBusy")
    assert int(busy.headers["retry-after"]) > 0
    for stream in streams:
        stream.__exit__(None, None, None)
    until(lambda: not list(scratch.iterdir()))
    assert client.get("/v1/ledger/export").status_code == 200
    until(lambda: not list(scratch.iterdir()))


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_both_routes_are_for_whom_the_api_says(engine: Engine, tmp_path: Path) -> None:
    def nobody() -> None:
        raise RoleForbidden("not for you", "ask the admin")

    app = FastAPI()
    app.include_router(exports_router(LedgerStore(engine), tmp_path, nobody))
    add_problems(app)
    with local_api(app) as client:
        for name in ("export", "verifier"):
            assert client.get(f"/v1/ledger/{name}").status_code == 403
    assert not list(tmp_path.iterdir())


def test_ranges_that_there_are_not_and_the_verifier(client: httpx.Client) -> None:
    for query in ({"from": 9}, {"to": 9}, {"from": 2, "to": 1}):
        answer = client.get("/v1/ledger/export", params=query)
        assert (answer.status_code, answer.json()["code"]) == (400, "RangeInvalid")
    answer = client.get("/v1/ledger/verifier")
    assert answer.text == run("verifier")
    assert answer.headers["content-type"].startswith("text/x-python")
    tag = {"If-None-Match": answer.headers["etag"]}
    assert client.get("/v1/ledger/verifier", headers=tag).status_code == 304
