"""A consortium of four as real processes: server, PostgreSQL, sequencer, witnesses, a client."""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import psycopg2
from psycopg2 import extensions
from soak_client import acknowledged
from soak_founding import INSTITUTIONS
from soak_processes import Child, Forker, until
from soak_steps import Order, note

# Lower and all cores are busy with looking; higher, and every block takes longer to be final.
WITNESS_EVERY_S = 0.15
CLIENT_EVERY_S = 0.05
QUORUM = 3
SETTLE_S = 30.0
KILLED = -signal.SIGKILL
# What an honest member says only of a fork, a clone or an invalid block: there is none here.
_REFUSALS = re.compile(
    "ForkRefused|MemberStopped|OwnRecordChanged|CosignatureConflict|GenesisRefused"
    "|BlockInvalid|SignatureInvalid|ProofInvalid|RoundInvalid"
)


def fast_folder() -> str:
    """Memory where there is enough: a database is 1,300 small files."""
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and os.access(memory, os.W_OK)
    return str(memory) if roomy and shutil.disk_usage(memory).free > 2**30 else "/tmp"


@contextlib.contextmanager
def new_folder() -> Iterator[Path]:
    """A folder with a short path that the database's account can reach; gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="medpole-soak-", dir=fast_folder()))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Consortium:
    """All processes of one home, each known by its name. Starting one again replaces it."""

    def __init__(self, forker: Forker, folder: Path) -> None:
        self.forker, self.folder = forker, folder
        self.home, self.control = folder / "home", folder / "control"
        self.logs, self.acks = folder / "logs", folder / "acknowledged"
        for path in (self.control, self.logs):
            path.mkdir(exist_ok=True)
        self.acks.touch()
        self.api = f"unix:{self.home / 'api.sock'}"
        self.running: dict[str, Child] = {}
        self._counter = 0
        self._clients: Sequence[str] = ()

    # processes

    def start(self, name: str, program: str, *arguments: str | Path, order: bool = False) -> Child:
        """Starts a command; without ``order``, one that was left for its name is withdrawn."""
        self._counter += 1
        if not order:
            self.orders(name).unlink(missing_ok=True)
        environment = {
            "SOAK_CONTROL": str(self.control), "MEDPOLE_APPROVER_PASSPHRASE": "",
            "FLWR_TELEMETRY_ENABLED": "0",
        }  # fmt: skip
        child = self.forker.start(
            name, program, arguments, self.logs / f"{self._counter:05}-{name}.log", environment
        )
        self.running[name] = child
        return child

    def command(self, name: str, program: str, *arguments: str | Path) -> str:
        """Runs a command to its end; returns what it printed."""
        child = self.start(name, program, *arguments)
        assert child.wait() == 0, f"{name}: {child.said()}"
        return child.said()

    def found(self) -> None:
        """Founds the home and the ledger."""
        self.command("found", "found", self.home)

    def start_server(self, *, order: bool = False) -> Child:
        """Starts the server; it is not waited for."""
        return self.start("server", "consortium", "serve", "--home", self.home, order=order)

    def await_server(self) -> None:
        """Waits until the server listens."""
        server = self.running["server"]
        until(lambda: self.api in server.said() or server.poll() is not None, "the server listens")
        assert server.poll() is None, f"the server ended: {server.said()}"

    def start_witness(self, institution: str) -> Child:
        """Starts one member's witness."""
        return self.start(
            institution, "hospital-agent", "witness", "--home", self.hospital(institution),
            "--api", self.api, "--every", str(WITNESS_EVERY_S),
        )  # fmt: skip

    def start_client(self) -> Child:
        """Starts the client, for the same members as before."""
        folders = [self.hospital(name) for name in self._clients]
        return self.start("client", "client", self.api, self.acks, str(CLIENT_EVERY_S), *folders)

    def start_all(self, clients: Sequence[str] = INSTITUTIONS[:-1]) -> None:
        """Starts everything. The client hands in records by ``clients``.

        These do not rotate their keys meanwhile: what was signed with the old ones would lapse.
        """
        self._clients = clients
        self.start_server()
        self.await_server()
        for name in INSTITUTIONS:
            self.start_witness(name)
        self.start_client()
        for name in INSTITUTIONS:
            until(self.running[name].said, f"{name} has co-signed the genesis")

    def stop_all(self) -> None:
        """Ends everything in order; checks that nothing is left."""
        for name in ("client", *INSTITUTIONS):
            self.running[name].kill()
            self.running[name].wait()
        server = self.running["server"]
        server.kill(signal.SIGTERM)
        assert server.wait() in (0, KILLED), server.said()
        until(lambda: not self.forker.family(), f"nothing is left of {self.forker.family()}", 30)

    def kill_all(self) -> None:
        """Ends whatever still runs, at once."""
        for child in self.running.values():
            child.kill()
        gone = lambda: not self.forker.family()  # noqa: E731
        until(gone, "everything is gone", 60)

    def check_all_run(self, without: Sequence[str] = ()) -> None:
        """Nobody stopped by itself."""
        for name in {"server", "client", *INSTITUTIONS} - set(without):
            child = self.running[name]
            said = child.said()
            assert child.poll() is None, f"{name} ended ({child.status}): {said[-3000:]}"
            assert not _REFUSALS.search(said), f"{name} refuses: {said[-3000:]}"

    # places

    def hospital(self, institution: str) -> Path:
        """A hospital's folder."""
        return self.home / "hospitals" / institution

    def orders(self, name: str) -> Path:
        """The file in which a process looks whether it is to die."""
        return self.control / f"{name}.order"

    def done(self, name: str) -> list[Order]:
        """The orders that a process has followed."""
        path = self.orders(name).with_suffix(".done")
        lines = path.read_text().splitlines() if path.exists() else []
        return [Order(**json.loads(line)) for line in lines]

    # the database

    def connect(self) -> extensions.connection:
        """The database as its superuser, beside the server."""
        found = self.home / "postgres"
        connection = psycopg2.connect(
            host=str((found / "sockets").resolve()), port=5432, dbname="medpole", user="medpole",
            password=(found / "password").read_text().strip(), connect_timeout=5,
        )  # fmt: skip
        connection.autocommit = True
        return connection

    def genesis(self) -> str:
        """The ledger's id."""
        with contextlib.closing(self.connect()) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT header FROM blocks WHERE height = 0")
            (header,) = cursor.fetchone() or (b"{}",)
        return str(json.loads(bytes(header))["ledger"])

    def await_cosignature(self, institution: str) -> None:
        """Waits until a member has co-signed a block that is not there yet."""
        with contextlib.closing(self.connect()) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT max(height) FROM blocks")
            (height,) = cursor.fetchone() or (0,)

            def signed() -> bool:
                cursor.execute(
                    "SELECT count(*) FROM cosignatures WHERE institution = %s AND height > %s",
                    (institution, height),
                )
                return cursor.fetchone() != (0,)

            until(signed, f"{institution} co-signs a block after {height}", 10)

    def not_final(self, digests: Sequence[str]) -> list[str]:
        """Those of these erasures that stand in no final block."""
        with contextlib.closing(self.connect()) as connection, connection.cursor() as cursor:
            cursor.execute(
                "SELECT split_part(submission_key, '/', 2) FROM entries WHERE type = 'erasure' "
                "AND split_part(submission_key, '/', 2) = ANY(%s) AND height IN "
                "(SELECT height FROM cosignatures GROUP BY height HAVING count(*) >= %s)",
                (list(digests), QUORUM),
            )
            final = {row[0] for row in cursor.fetchall()}
        return [digest for digest in digests if digest not in final]

    def acknowledged(self) -> set[str]:
        """The digests of all submissions that were acknowledged so far."""
        return acknowledged(self.acks)

    def acknowledge(self, digest: str) -> None:
        """Notes what was acknowledged to another than the client."""
        note(self.acks, f"acknowledged {digest}")

    def settle(self, known: set[str], without: Sequence[str] = ()) -> set[str]:
        """Waits until all that was acknowledged so far is final; ``known`` was before."""
        pending = sorted(self.acknowledged() - known)

        def final() -> bool:
            self.check_all_run(without)
            pending[:] = self.not_final(pending)
            return not pending

        asked = set(pending)
        try:
            until(final, "all that was acknowledged is final", SETTLE_S)
        except AssertionError as error:
            said = self.running["server"].said()[-4000:]
            raise AssertionError(f"{error}: {pending}. The server said last:\n{said}") from None
        return known | asked


def some(generator: random.Random, names: Sequence[str]) -> str:
    """One of these."""
    return names[generator.randrange(len(names))]
