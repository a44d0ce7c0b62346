import contextlib
import fcntl
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import psycopg2
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from ledger.errors import DatabaseBusy, DatabaseFailed, DatabaseMissing, HomeInvalid
from ledger.postgres import EmbeddedPostgres, account, binaries, folder, keeper
from ledger.postgres import server as server_module

ROOT = Path(__file__).parents[2]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root switches accounts")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="parent-death signal")

# A coordinator: opens its home, commits one row, says so, and works on until it is stopped.
# Ctrl-C is to reach it also where a shell started these tests in the background, which ignores it.
COORDINATOR = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from pathlib import Path
from sqlalchemy import create_engine, text
from ledger.postgres import EmbeddedPostgres
with EmbeddedPostgres(Path(sys.argv[1])) as server:
    with create_engine(server.superuser_url).begin() as connection:
        connection.execute(text("CREATE TABLE kept (n int)"))
        connection.execute(text("INSERT INTO kept VALUES (1)"))
    print(server.pid, flush=True)
    time.sleep(600)
"""


def coordinator(home: Path, **options: object) -> "tuple[subprocess.Popen[str], int]":
    process = subprocess.Popen(
        [sys.executable, "-c", COORDINATOR, str(home)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        start_new_session=True,
        **options,
    )
    line = process.stdout.readline()
    assert line, process.stderr.read()
    return process, int(line)


def ask(url: str, question: str) -> object:
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            result = connection.execute(text(question))
            return result.scalar() if result.returns_rows else None
    finally:
        engine.dispose()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def await_end(home: Path, pid: int) -> float:
    """Wait until no process of a home's server is left; they all hold its lock. Seconds."""
    began = time.monotonic()
    with open(home / "postgres.server.lock", "rb") as lock:
        while time.monotonic() - began < 30:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(0.02)
                continue
            assert not running(pid)
            assert not [p for p in psutil.process_iter(["cmdline"]) if str(home) in str(p.info)]
            assert not list((home / "postgres" / "sockets").iterdir())
            return time.monotonic() - began
    pytest.fail("the server outlived its coordinator by 30 s")


def test_data_survives_a_restart(postgres_home: Path) -> None:
    with EmbeddedPostgres(postgres_home) as server:
        first = server.pid
        assert int(server.version.split(".")[0]) >= 15
        ask(server.superuser_url, "CREATE TABLE kept AS SELECT 7 AS n")
    assert not running(first)
    with EmbeddedPostgres(postgres_home) as server:
        assert ask(server.superuser_url, "SELECT n FROM kept") == 7


def test_one_object_can_be_entered_again(postgres_home: Path) -> None:
    server = EmbeddedPostgres(postgres_home)
    for _ in range(2):
        with server:
            assert ask(server.superuser_url, "SELECT 1") == 1


def test_settings_are_durable_and_private(postgres_home: Path) -> None:
    home = postgres_home
    with EmbeddedPostgres(home) as server:
        for name, value in {
            "fsync": "on",
            "full_page_writes": "on",
            "synchronous_commit": "on",
            "data_checksums": "on",
            "listen_addresses": "",
            "server_encoding": "UTF8",
            "lc_collate": "C" if server.version < "16" else None,
            "password_encryption": "scram-sha-256",
        }.items():
            assert value is None or ask(server.superuser_url, f"SHOW {name}") == value
        for path in ("postgres", "postgres/data", "postgres/sockets"):
            assert mode(home / path) == 0o700
        assert mode(home / "postgres/sockets/.s.PGSQL.5432") == 0o700
        for path in ("postgres/password", "postgres.log", "postgres.lock", "postgres.server.lock"):
            assert mode(home / path) == 0o600
        assert not psutil.Process(server.pid).net_connections("inet")
        url = make_url(server.url)
        with pytest.raises(psycopg2.OperationalError, match="authentication failed"):
            psycopg2.connect(
                host=url.query["host"], port=5432, user="medpole", password="x", dbname="medpole"
            )
        command = " ".join(psutil.Process(server.pid).cmdline())
        for secret in (url.password, make_url(server.superuser_url).password):
            assert str(secret) not in command


def test_statements_and_values_stay_out_of_the_log(postgres_home: Path) -> None:
    with EmbeddedPostgres(postgres_home) as server:
        ask(server.superuser_url, "CREATE TABLE people (name text UNIQUE)")
        ask(server.superuser_url, "INSERT INTO people VALUES ('Mustermann')")
        with pytest.raises(Exception, match="Mustermann"):
            ask(server.superuser_url, "INSERT INTO people VALUES ('Mustermann')")
    log = (postgres_home / "postgres.log").read_text()
    assert "duplicate key" in log
    assert "Mustermann" not in log


def test_alter_system_cannot_turn_durability_off(postgres_home: Path) -> None:
    with EmbeddedPostgres(postgres_home) as server:
        engine = create_engine(server.superuser_url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text("ALTER SYSTEM SET fsync = off"))
        engine.dispose()
    with EmbeddedPostgres(postgres_home) as server:
        assert ask(server.superuser_url, "SHOW fsync") == "on"


def test_killed_coordinator_leaves_nothing_and_loses_nothing(postgres_home: Path) -> None:
    process, pid = coordinator(postgres_home)
    process.kill()
    try:
        # At once, and with the killed one still a zombie: its server is waited for.
        began = time.monotonic()
        with EmbeddedPostgres(postgres_home) as server:
            assert time.monotonic() - began < 30
            assert not running(pid)
            assert ask(server.superuser_url, "SELECT n FROM kept") == 1
    finally:
        process.wait()
    process.stdout.close()
    process.stderr.close()


def test_killed_coordinator_takes_its_server_along(postgres_home: Path) -> None:
    process, pid = coordinator(postgres_home)
    process.kill()
    process.communicate()
    assert await_end(postgres_home, pid) < 30


@on_linux
def test_killed_with_its_keeper_too(postgres_home: Path) -> None:
    process, pid = coordinator(postgres_home)
    psutil.Process(pid).parent().kill()
    process.kill()
    process.communicate()
    await_end(postgres_home, pid)
    with EmbeddedPostgres(postgres_home) as server:
        assert ask(server.superuser_url, "SELECT n FROM kept") == 1


def test_everything_killed_at_once(postgres_home: Path) -> None:
    process, pid = coordinator(postgres_home)
    keeping = psutil.Process(pid).parent()
    keeping.suspend()  # else it ends the server in order, if it is faster than we are
    # The server first: where its keeper dies before it, it stops in order too.
    for victim in (*keeping.children(recursive=True), keeping, process):
        with contextlib.suppress(psutil.NoSuchProcess):  # gone with the one before it
            victim.kill()
    process.communicate()
    with EmbeddedPostgres(postgres_home) as server:
        assert ask(server.superuser_url, "SELECT n FROM kept") == 1
    assert "automatic recovery in progress" in (postgres_home / "postgres.log").read_text()


@on_linux
def test_a_reused_process_number_is_no_server(postgres_home: Path) -> None:
    """After a container's restart the old number may be anyone's, here ours."""
    with EmbeddedPostgres(postgres_home):
        pid_file = (postgres_home / "postgres/data/postmaster.pid").read_text()
    ours = "\n".join([str(os.getpid()), *pid_file.split("\n")[1:]])
    for name in ("data/postmaster.pid", "sockets/.s.PGSQL.5432.lock"):
        (postgres_home / "postgres" / name).write_text(ours)
    with EmbeddedPostgres(postgres_home) as server:
        assert ask(server.superuser_url, "SELECT 1") == 1


def test_a_server_started_by_hand_is_left_alone(postgres_home: Path) -> None:
    with EmbeddedPostgres(postgres_home) as server:
        found = folder.DatabaseFolder(postgres_home / "postgres")
        before = (found.data / "postmaster.pid").read_text()
        folder.clear_stale(found)
        assert (found.data / "postmaster.pid").read_text() == before
        assert ask(server.superuser_url, "SELECT 1") == 1


def test_killed_server_recovers(postgres_home: Path) -> None:
    with EmbeddedPostgres(postgres_home) as server:
        ask(server.superuser_url, "CREATE TABLE kept AS SELECT 7 AS n")
        os.kill(server.pid, signal.SIGKILL)
    with EmbeddedPostgres(postgres_home) as server:
        assert ask(server.superuser_url, "SELECT n FROM kept") == 7


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_to_the_terminal_group_stops_in_order(postgres_home: Path, number: int) -> None:
    process, pid = coordinator(postgres_home)
    os.killpg(process.pid, number)
    process.communicate(timeout=30)
    await_end(postgres_home, pid)
    assert "database system is shut down" in (postgres_home / "postgres.log").read_text()
    with EmbeddedPostgres(postgres_home) as server:
        assert ask(server.superuser_url, "SELECT n FROM kept") == 1


def test_a_server_started_from_a_thread_outlives_the_thread(postgres_home: Path) -> None:
    server = EmbeddedPostgres(postgres_home)
    thread = threading.Thread(target=server.__enter__)
    thread.start()
    thread.join()
    try:
        time.sleep(0.3)
        assert ask(server.superuser_url, "SELECT 1") == 1
    finally:
        server.__exit__(None, None, None)
    assert not running(server.pid)


def test_a_forked_child_does_not_stop_the_server(postgres_home: Path) -> None:
    with EmbeddedPostgres(postgres_home) as server:
        child = os.fork()
        if child == 0:
            server.__exit__(None, None, None)
            os._exit(0)
        os.waitpid(child, 0)
        assert ask(server.superuser_url, "SELECT 1") == 1


def test_a_forked_child_does_not_hold_the_server_up(postgres_home: Path) -> None:
    with EmbeddedPostgres(postgres_home) as server:
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
        began = time.monotonic()
    try:
        assert time.monotonic() - began < 5
        assert not running(server.pid)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_second_process_is_refused(postgres_home: Path) -> None:
    with EmbeddedPostgres(postgres_home) as server:
        began = time.monotonic()
        with pytest.raises(DatabaseBusy, match="another process"):
            EmbeddedPostgres(postgres_home).__enter__()
        assert time.monotonic() - began < 3
        assert ask(server.superuser_url, "SELECT 1") == 1
    process, pid = coordinator(postgres_home)
    with pytest.raises(DatabaseBusy):
        EmbeddedPostgres(postgres_home).__enter__()
    process.kill()
    process.communicate()
    await_end(postgres_home, pid)


@pytest.mark.parametrize("source", ["system", "packaged"])
def test_both_kinds_of_binaries(
    homes: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    other = {"system": "packaged_folders", "packaged": "system_folders"}[source]
    if not getattr(binaries, f"{source}_folders")():
        pytest.skip(f"no {source} PostgreSQL here")
    home = homes()
    with monkeypatch.context() as patch:
        patch.setattr(binaries, other, list)
        with EmbeddedPostgres(home) as server:
            assert ask(server.superuser_url, "SHOW data_checksums") == "on"
            assert ask(
                server.superuser_url, "SELECT pg_encoding_to_char(encoding) FROM pg_database"
            ) in {"UTF8"}
            assert ask(server.superuser_url, "SHOW lc_messages") == "C"
            major = server.version.split(".")[0]
            if source == "packaged":
                assert major == "18"
    # The folder, not the preference, decides from now on.
    with EmbeddedPostgres(home) as server:
        assert server.version.split(".")[0] == major
    monkeypatch.setattr(binaries, f"{source}_folders", list)
    if source == "packaged":
        with pytest.raises(DatabaseMissing, match="made by PostgreSQL 18"):
            EmbeddedPostgres(home).__enter__()


def test_no_binaries_at_all(homes: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "system_folders", list)
    monkeypatch.setattr(binaries, "packaged_folders", list)
    with pytest.raises(DatabaseMissing, match="no PostgreSQL 15"):
        EmbeddedPostgres(homes()).__enter__()


def test_an_old_server_is_not_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def installed(version: str) -> Path:
        place = tmp_path / version
        place.mkdir()
        (place / "initdb").touch()
        (place / "postgres").write_text(f"#!/bin/sh\necho 'postgres (PostgreSQL) {version}'\n")
        (place / "postgres").chmod(0o755)
        return place

    places = [installed(version) for version in ("14.20", "16.9", "16.14", "17.2", "19beta1")]
    monkeypatch.setattr(binaries, "system_folders", lambda: places)
    monkeypatch.setattr(binaries, "packaged_folders", list)
    anyone = account.Account()
    assert binaries.choose(anyone, None, Path).version == (17, 2)
    assert binaries.choose(anyone, 16, Path).version == (16, 14)
    with pytest.raises(DatabaseMissing, match=r"found: 17, 16, 16"):
        binaries.choose(anyone, 14, Path)


def test_an_interrupted_initdb_is_begun_anew(homes: Callable[..., Path]) -> None:
    home = homes()
    process = subprocess.Popen(
        [sys.executable, "-c", COORDINATOR, str(home)], cwd=ROOT, stderr=subprocess.DEVNULL
    )
    while not (home / "postgres.new" / "data" / "PG_VERSION").exists():
        time.sleep(0.01)
        assert process.poll() is None
    process.kill()
    process.wait()
    assert not (home / "postgres").exists()
    with EmbeddedPostgres(home) as server:
        assert ask(server.superuser_url, "SELECT 1") == 1
    assert not (home / "postgres.new").exists()


def test_failing_initdb_says_so(
    homes: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = homes()
    monkeypatch.setattr(folder, "SUPERUSER", "pg_forbidden")
    with pytest.raises(DatabaseFailed, match="pg_forbidden"):
        EmbeddedPostgres(home).__enter__()
    assert not (home / "postgres").exists()
    assert folder.lock(home / "postgres.server.lock")


def test_a_server_that_cannot_start_says_why(
    postgres_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(server_module._SETTINGS, "shared_buffers", "900TB")
    began = time.monotonic()
    with pytest.raises(DatabaseFailed, match=r"did not start: .") as caught:
        EmbeddedPostgres(postgres_home).__enter__()
    assert time.monotonic() - began < 10
    assert "postgres.log" in caught.value.resolve
    monkeypatch.undo()
    with EmbeddedPostgres(postgres_home) as server:
        assert ask(server.superuser_url, "SELECT 1") == 1


def test_a_wrong_password_file_says_so(postgres_home: Path) -> None:
    (postgres_home / "postgres" / "password").write_text("guessed\n")
    with pytest.raises(DatabaseFailed, match="refuses the password"):
        EmbeddedPostgres(postgres_home).__enter__()


@pytest.mark.parametrize("name", ["h" * 120, "with space, comma: and 'ü'"])
def test_a_home_whose_path_no_socket_can_have(homes: Callable[..., Path], name: str) -> None:
    home = homes() / name
    home.mkdir(mode=0o711)
    with EmbeddedPostgres(home) as server:
        sockets = Path(str(make_url(server.url).query["host"]))
        assert mode(sockets) == 0o700
        assert ask(server.superuser_url, "SELECT 1") == 1
    assert not sockets.exists()
    process, pid = coordinator(home)
    setting = "unix_socket_directories="
    (argument,) = (a for a in psutil.Process(pid).cmdline() if a.startswith(setting))
    sockets = Path(argument.removeprefix(setting))
    assert sockets.exists()
    process.kill()
    process.communicate()
    await_end(home, pid)
    assert not sockets.exists()


def test_a_gone_or_torn_database_is_never_replaced(homes: Callable[..., Path]) -> None:
    home = homes()
    (home / "postgres").symlink_to(home / "elsewhere")
    with pytest.raises(HomeInvalid, match="gone"):
        EmbeddedPostgres(home).__enter__()
    (home / "elsewhere").mkdir()
    (home / "elsewhere" / "precious").touch()
    with pytest.raises(HomeInvalid, match="not a complete"):
        EmbeddedPostgres(home).__enter__()
    assert (home / "elsewhere" / "precious").exists()


def test_a_home_that_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HomeInvalid, match="file"):
        EmbeddedPostgres(tmp_path / "file").__enter__()


@as_root
def test_root_below_a_closed_folder(
    tmp_path: Path, homes: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    shelter = homes() / "shelter"
    monkeypatch.setattr(folder, "SHELTER", shelter)
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    modes = {path: mode(path) for path in (closed, *closed.parents)}
    home = closed / "home"
    with EmbeddedPostgres(home) as server:
        ask(server.superuser_url, "CREATE TABLE kept AS SELECT 7 AS n")
        assert psutil.Process(server.pid).uids().effective != 0
    assert (home / "postgres").is_symlink()
    assert (home / "postgres").resolve().parent == shelter / "postgres"
    assert mode((home / "postgres").resolve()) == 0o700
    with EmbeddedPostgres(home) as server:
        assert ask(server.superuser_url, "SELECT n FROM kept") == 7
    assert modes == {path: mode(path) for path in modes}
    assert mode(home) == 0o700
    assert not (home / "postgres.new").is_symlink()


@as_root
def test_an_interrupted_initdb_of_root_is_cleared_away(
    tmp_path: Path, homes: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "SHELTER", homes())
    left = folder.SHELTER / "postgres" / "0123456789abcdef"
    (left / "data").mkdir(parents=True)
    folder.SHELTER.joinpath("postgres").chmod(0o711)
    (tmp_path / "postgres.new").symlink_to(left)
    with EmbeddedPostgres(tmp_path):
        pass
    assert not left.exists()
    assert len(list((folder.SHELTER / "postgres").iterdir())) == 1


@as_root
def test_packaged_binaries_that_the_account_cannot_reach(
    tmp_path: Path, homes: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    packaged = binaries.packaged_folders()
    if not packaged:
        pytest.skip("no packaged PostgreSQL here")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    package = max(packaged).parents[1]
    for part in (package, package.with_name(package.name + ".libs")):
        (closed / part.name).symlink_to(part)
    unreachable = closed / max(packaged).relative_to(package.parent)
    monkeypatch.setattr(binaries, "system_folders", list)
    monkeypatch.setattr(binaries, "packaged_folders", lambda: [unreachable])
    monkeypatch.setattr(folder, "SHELTER", homes("/tmp"))
    with EmbeddedPostgres(homes()) as server:
        assert psutil.Process(server.pid).exe().startswith(str(folder.SHELTER))
        assert ask(server.superuser_url, "SELECT 1") == 1
    assert [path.name for path in folder.SHELTER.glob(".new-*")] == []


@as_root
def test_without_an_account_to_lend(
    homes: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody(name: str) -> None:
        raise KeyError(name)

    monkeypatch.setattr(account.pwd, "getpwnam", nobody)
    with pytest.raises(DatabaseFailed, match="refuses to run as root"):
        EmbeddedPostgres(homes()).__enter__()


@as_root
def test_a_database_of_nobody_stays_with_nobody(
    homes: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = homes()
    nobody = account.pwd.getpwnam("nobody")
    with monkeypatch.context() as patch:
        patch.setattr(account.pwd, "getpwnam", lambda _: nobody)
        with EmbeddedPostgres(home):
            pass
    with EmbeddedPostgres(home) as server:
        assert psutil.Process(server.pid).uids().effective == nobody.pw_uid


@as_root
def test_as_an_ordinary_user(homes: Callable[..., Path]) -> None:
    nobody = account.pwd.getpwnam("nobody")
    path = os.pathsep.join([str(ROOT), *(entry for entry in sys.path if "site-packages" in entry)])
    for python in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"):
        switched = account.Account(nobody.pw_uid, nobody.pw_gid)
        try:
            if switched.run([python, "-c", "pass"], timeout=30).returncode == 0:
                break
        except OSError:
            continue
    else:
        pytest.skip("no Python that an ordinary user may run")
    home = homes()
    os.chown(home, nobody.pw_uid, nobody.pw_gid)
    home.chmod(0o700)
    process = subprocess.Popen(
        [python, "-c", COORDINATOR, str(home)],
        env={"PYTHONPATH": path, "PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"},
        cwd="/",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        user=nobody.pw_uid,
        group=nobody.pw_gid,
        extra_groups=[],
    )
    line = process.stdout.readline()
    assert line, process.stderr.read()
    assert psutil.Process(int(line)).uids().real == nobody.pw_uid
    process.kill()
    process.communicate()
    await_end(home, int(line))
    # Root coming after runs it as its owner, not as `postgres`.
    with EmbeddedPostgres(home) as server:
        assert psutil.Process(server.pid).uids().real == nobody.pw_uid
        assert ask(server.superuser_url, "SELECT n FROM kept") == 1


def test_a_long_log_is_cut(tmp_path: Path) -> None:
    log = tmp_path / "postgres.log"
    keeper.keep_short(log)
    assert not log.exists()
    log.write_bytes(b"x" * 100)
    keeper.keep_short(log, limit=100)
    assert log.stat().st_size == 100
    keeper.keep_short(log, limit=99)
    assert log.stat().st_size == 0
    assert (tmp_path / "postgres.log.1").stat().st_size == 100


def test_without_a_home_only_the_lock_file_is_needed(tmp_path: Path) -> None:
    held = folder.lock(tmp_path / "lock")
    began = time.monotonic()
    with pytest.raises(DatabaseBusy):
        folder.lock(tmp_path / "lock", patience=0.2)
    assert 0.2 <= time.monotonic() - began < 2
    os.close(held)
    os.close(folder.lock(tmp_path / "lock"))
