"""The embedded PostgreSQL as a context manager: started on entry, stopped on exit."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg2
from sqlalchemy.engine import URL

from ledger.errors import DatabaseFailed, HomeInvalid
from ledger.postgres import binaries, folder, keeper
from ledger.postgres.account import (
    Account,
    account_for_existing,
    account_for_new,
    server_environment,
)

DATABASE = "medpole"
# Crash recovery replays at most max_wal_size: seconds, on a slow disk a minute or two.
START_PATIENCE_S = 180.0

# On the command line, so that neither postgresql.conf nor ALTER SYSTEM overrides them.
_SETTINGS = {
    "listen_addresses": "",
    "port": str(folder.PORT),
    "unix_socket_permissions": "0700",
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "password_encryption": "scram-sha-256",
    "shared_buffers": "32MB",
    "max_connections": "40",
    "max_wal_size": "512MB",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "off",
    "log_destination": "stderr",
    # A log is copied into tickets and mails: no statements and no values in it.
    "log_statement": "none",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}


class EmbeddedPostgres:
    """A PostgreSQL server for one home, used by this process alone.

    ``with EmbeddedPostgres(home) as server: create_engine(server.url)``. The server ends with this
    process however that ends: within a moment, or 30 s at most. It may be entered from any thread.
    Entering raises DatabaseBusy, DatabaseMissing, DatabaseFailed or HomeInvalid.
    """

    def __init__(self, home: Path) -> None:
        self._home = Path(os.path.abspath(home))
        self._log = self._home / "postgres.log"
        self._log_start = 0
        self._owner = 0
        self._cleanup: ExitStack | None = None
        self._url = ""
        self._pid = 0
        self._version = ""

    @property
    def url(self) -> str:
        """SQLAlchemy URL over the private socket. It holds the password: do not print it."""
        return self._url

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return self._pid

    @property
    def version(self) -> str:
        """Version of the server, such as ``18.4``."""
        return self._version

    def __enter__(self) -> Self:
        self._owner = os.getpid()
        try:
            with ExitStack() as cleanup:
                self._start(cleanup)
                self._cleanup = cleanup.pop_all()
        except OSError as error:
            raise HomeInvalid(
                f"the database's folder cannot be used: {error}",
                f"Choose a --home that this account may write to (now: {self._home}).",
            ) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        cleanup, self._cleanup = self._cleanup, None
        # A forked child that unwinds its copy of this object must not stop its parent's server.
        if cleanup is not None and os.getpid() == self._owner:
            cleanup.close()

    def _start(self, cleanup: ExitStack) -> None:
        home = self._home
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        cleanup.callback(os.close, folder.lock(home / "postgres.lock", patience=1.0))
        with ExitStack() as until_kept:
            server_lock = folder.lock(
                home / "postgres.server.lock", patience=folder.SHUTDOWN_PATIENCE_S
            )
            until_kept.callback(os.close, server_lock)
            found = folder.existing(home)
            account = account_for_new() if found is None else account_for_existing(found.root)
            if found is not None and not account.can_enter(found.root):
                raise HomeInvalid(
                    f"the database's account (user id {account.uid}) cannot reach {found.root}",
                    "Move the home back to where it was made. No folder's mode was changed.",
                )
            installation = binaries.choose(
                account, None if found is None else found.major, folder.shelter
            )
            if found is None:
                found = folder.create(home, account, installation, server_lock)
            folder.clear_stale(found)
            sockets = self._socket_folder(found, account, cleanup)
            process = self._launch(
                [installation.bin / "postgres", "-D", found.data],
                sockets,
                account,
                server_lock,
                temporary=sockets != found.sockets,
            )
            cleanup.callback(self._stop, process)
        self._connect(process, sockets, found.password)

    def _socket_folder(
        self, found: folder.DatabaseFolder, account: Account, cleanup: ExitStack
    ) -> Path:
        if folder.fits_socket(found.sockets):
            return found.sockets
        for parent in (tempfile.gettempdir(), "/tmp"):  # noqa: S108 (a private folder within)
            if folder.fits_socket(Path(parent, "medpole-12345678")) and account.can_enter(
                Path(parent)
            ):
                sockets = Path(tempfile.mkdtemp(prefix="medpole-", dir=parent))
                cleanup.callback(shutil.rmtree, sockets, ignore_errors=True)
                account.own(sockets)
                return sockets
        raise HomeInvalid(
            f"the path {self._home} is too long for a database socket",
            "Choose a --home with a shorter path.",
        )

    def _launch(
        self,
        command: list[str | Path],
        sockets: Path,
        account: Account,
        server_lock: int,
        *,
        temporary: bool,
    ) -> "subprocess.Popen[str]":
        keeper.keep_short(self._log)
        log = os.open(self._log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        self._log_start = os.fstat(log).st_size
        settings = {**_SETTINGS, "unix_socket_directories": str(sockets)}
        try:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-I",
                    "-S",
                    keeper.__file__,
                    str(os.getpid()),
                    str(-1 if account.uid is None else account.uid),
                    str(-1 if account.gid is None else account.gid),
                    str(server_lock),
                    str(self._log),
                    str(sockets) if temporary else "",
                    *(str(part) for part in command),
                    *(part for name in settings for part in ("-c", f"{name}={settings[name]}")),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd="/",
                env=server_environment(),
                start_new_session=True,  # Ctrl-C is for us: we stop the server in order
                pass_fds=(server_lock,),
            )
        finally:
            os.close(log)
        assert process.stdout is not None
        with process.stdout as answer:
            self._pid = int(answer.readline() or 0)
        return process

    def _connect(self, process: "subprocess.Popen[str]", sockets: Path, password: str) -> None:
        """Wait until the server answers, and make the database where it is not there yet."""
        deadline = time.monotonic() + START_PATIENCE_S
        while True:
            try:
                connection = psycopg2.connect(
                    host=str(sockets),
                    port=folder.PORT,
                    dbname="postgres",
                    user=folder.SUPERUSER,
                    password=password,
                    connect_timeout=5,
                )
                break
            except psycopg2.OperationalError as error:
                refused = "authentication failed" in str(error)
                ended = process.poll() is not None
                if refused or ended or time.monotonic() > deadline:
                    raise self._failed(refused) from None
            time.sleep(0.02)
        try:
            connection.autocommit = True
            self._version = connection.info.parameter_status("server_version") or ""
            self._version = self._version.split(" ")[0]
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,))
                if cursor.fetchone() is None:
                    cursor.execute(f'CREATE DATABASE "{DATABASE}"')
        except psycopg2.Error:
            raise self._failed(refused=False) from None
        finally:
            connection.close()
        self._url = URL.create(
            "postgresql+psycopg2",
            username=folder.SUPERUSER,
            password=password,
            database=DATABASE,
            query={"host": str(sockets), "port": str(folder.PORT)},
        ).render_as_string(hide_password=False)

    def _failed(self, refused: bool) -> DatabaseFailed:
        if refused:
            return DatabaseFailed(
                "the embedded database refuses the password in its own folder",
                "Put the file postgres/password back from the backup of this home.",
            )
        log = self._log.read_bytes()[self._log_start :].decode(errors="replace")
        reasons = re.findall(r"(?:FATAL|PANIC): +(?!the database system is starting)(.+)", log)
        return DatabaseFailed(
            ": ".join(["the embedded database did not start", *reasons[-1:]]),
            f"The end of {self._log} says why. A full disk is the usual reason.",
        )

    def _stop(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdin is not None
        try:
            # A word besides the closing: a forked child may hold its copy of the pipe open.
            with process.stdin as order:
                order.write("stop\n")
        except BrokenPipeError:
            pass
        try:
            process.wait(keeper.PATIENCE_S + 15)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)  # the kernel then stops the server
            process.wait()
