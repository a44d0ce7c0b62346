"""The embedded PostgreSQL as a context manager: started on entry, stopped on exit.

Its superuser makes the database, its roles and its schema, and nothing else: the application has a
role that reads and appends (``migrations/roles.py``). Roles, rights and the role's password are set
at every start, in one transaction, so an older home, or one whose set-up was killed, needs no more.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, closing
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg2
from psycopg2 import extensions
from sqlalchemy.engine import URL

from ledger.errors import DatabaseFailed, DatabaseMissing, HomeInvalid
from ledger.postgres import binaries, folder, keeper
from ledger.postgres.account import (
    Account,
    account_for_existing,
    account_for_new,
    server_environment,
)
from migrations.roles import APPLICATION, GRANTS, ROLES

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


def running_url(home: Path) -> str:
    """The application's URL of the server that another process runs for this home.

    Raises DatabaseMissing where that cannot be reached, and HomeInvalid.
    """
    found = folder.existing(home)
    try:
        if found is None or not (found.sockets / f".s.PGSQL.{folder.PORT}").exists():
            raise FileNotFoundError
        password = found.application_password(account_for_existing(found.root))
    except OSError:
        raise DatabaseMissing(
            f"the database in {home} is in use, and cannot be shared from here",
            "Wait until the other process is done, and use the account that runs it.",
        ) from None
    return _url(found.sockets, APPLICATION, password)


def _url(sockets: Path, role: str, password: str) -> str:
    return URL.create(
        "postgresql+psycopg2",
        username=role,
        password=password,
        database=DATABASE,
        query={"host": str(sockets), "port": str(folder.PORT)},
    ).render_as_string(hide_password=False)


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
        self._sockets = Path()
        self._url = ""
        self._superuser_url = ""
        self._pid = 0
        self._version = ""

    @property
    def url(self) -> str:
        """The application's SQLAlchemy URL over the private socket. It holds the password."""
        return self._url

    @property
    def superuser_url(self) -> str:
        """The superuser's URL, for migrations. It holds the password: do not print it."""
        return self._superuser_url

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
        self._sockets = sockets
        self._make_database(process, found.password, found.application_password(account))

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

    def _make_database(
        self, process: "subprocess.Popen[str]", password: str, application_password: str
    ) -> None:
        """Wait until the server answers; make the database and its roles as they have to be."""
        connection = self._await(process, password)
        self._version = connection.info.parameter_status("server_version") or ""
        self._version = self._version.split(" ")[0]
        try:
            with closing(connection), connection.cursor() as cursor:
                connection.autocommit = True
                cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,))
                if cursor.fetchone() is None:
                    cursor.execute(f'CREATE DATABASE "{DATABASE}"')
            with (
                closing(self._connect(DATABASE, password)) as connection,
                connection,  # one transaction
                connection.cursor() as cursor,
            ):
                cursor.execute(ROLES)
                cursor.execute(GRANTS)
                # As psql's \password does it: the server never sees the password itself.
                verifier = extensions.encrypt_password(
                    application_password, APPLICATION, connection, "scram-sha-256"
                )
                cursor.execute(f"ALTER ROLE {APPLICATION} PASSWORD %s", (verifier,))
        except psycopg2.Error:
            raise self._failed(refused=False) from None
        self._url = self._url_of(APPLICATION, application_password)
        self._superuser_url = self._url_of(folder.SUPERUSER, password)

    def _await(self, process: "subprocess.Popen[str]", password: str) -> extensions.connection:
        deadline = time.monotonic() + START_PATIENCE_S
        while True:
            try:
                return self._connect("postgres", password)
            except psycopg2.OperationalError as error:
                refused = "authentication failed" in str(error)
                ended = process.poll() is not None
                if refused or ended or time.monotonic() > deadline:
                    raise self._failed(refused) from None
            time.sleep(0.02)

    def _connect(self, database: str, password: str) -> extensions.connection:
        return psycopg2.connect(
            host=str(self._sockets),
            port=folder.PORT,
            dbname=database,
            user=folder.SUPERUSER,
            password=password,
            connect_timeout=5,
        )

    def _url_of(self, role: str, password: str) -> str:
        return _url(self._sockets, role, password)

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
