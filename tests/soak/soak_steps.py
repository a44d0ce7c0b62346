"""The steps at which a process may be killed, and how: production code has no hooks for it.

`install` wraps production functions in a child before its command runs. A wrapped function asks,
before and after its work, whether its process is to be killed here: the file of orders names the
step, at which passing, and whom to kill (the process itself, or a part of its PostgreSQL). What
was done is noted in a file first. Every cosignature that a witness is about to send is noted too.
"""

import contextlib
import functools
import importlib
import json
import os
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_STORE = "ledger.store:LedgerStore"
_POSTGRES = "ledger.postgres.server:EmbeddedPostgres"
_PASSWORD = "ledger.postgres.folder:DatabaseFolder.application_password"
_COMMIT = "sqlalchemy.engine.default:DefaultDialect.do_commit"
_API = "hospital_agent.ledger_api:LedgerApi"
_REPLICA = "hospital_agent.replica:Replica"
_FOLDER = "hospital_agent.folder:HospitalFolder"
_APPROVALS = "hospital_agent.approvals:Approvals"
FOUNDING = "founding"
_ANSWER = "answer:/v1/ledger/"


@dataclass(frozen=True)
class Step:
    """A place in the code: before or after ``target``, there only within ``within``."""

    occasion: str
    name: str
    when: str
    target: str
    within: str = ""

    def __str__(self) -> str:
        return f"{self.occasion}: {self.name}"


def _steps(occasion: str, *rows: tuple[str, ...]) -> list[Step]:
    return [Step(occasion, *row) for row in rows]


STEPS = [
    *_steps(
        FOUNDING,  # in this order: each run gets further than the one before
        ("password written", "after", "ledger.postgres.folder:_write_password"),
        ("initdb done", "after", "ledger.postgres.folder:_initialise"),
        ("database renamed", "after", "pathlib:Path.rename", "ledger.postgres.folder:create"),
        ("application password written", "after", _PASSWORD),
        ("database and roles made", "after", f"{_POSTGRES}._make_database"),
        ("before the migration's commit", "before", _COMMIT, "ledger.database:upgrade"),
        ("migrated", "after", "ledger.database:upgrade"),
        ("coordinator's first key", "after", "ledger.keys:write_private"),
        ("home noted", "after", "consortium.home:Home.found"),
        ("a hospital's first key", "after", "ledger.keys:write_private"),
        ("a hospital's form", "after", "hospital_agent.enrolment:write_json"),
        ("genesis signed by one", "after", "hospital_agent.simulation:sign_genesis"),
        ("genesis inserted", "before", _COMMIT, f"{_STORE}.found"),
        ("genesis committed", "after", _COMMIT, f"{_STORE}.found"),
    ),
    *_steps(
        "server's start",
        ("before PostgreSQL is launched", "before", f"{_POSTGRES}._launch"),
        ("PostgreSQL launched", "after", f"{_POSTGRES}._launch"),
        ("application password begun", "before", "ledger.postgres.folder:_write_password"),
        ("application password written", "after", "ledger.postgres.folder:_write_password"),
        ("application password renamed", "after", "pathlib:Path.rename", _PASSWORD),
        ("PostgreSQL answers", "after", f"{_POSTGRES}._await"),
        ("roles made", "after", f"{_POSTGRES}._make_database"),
        ("before the migration", "before", "ledger.database:upgrade"),
        ("migrated", "after", "ledger.database:upgrade"),
        ("before it answers", "before", "consortium.serve:create_app"),
        ("before the first step", "before", "consortium.coordinator.sequencing:Sequencing.step"),
    ),
    *_steps(
        "submission",
        ("arrived", "before", f"{_STORE}.submit"),
        ("inserted", "before", _COMMIT, f"{_STORE}.submit"),
        ("committed", "after", _COMMIT, f"{_STORE}.submit"),
        ("before the answer", "before", f"{_ANSWER}submissions"),
        ("answered", "after", f"{_ANSWER}submissions"),
    ),
    *_steps(
        "proposal",
        ("begun", "before", f"{_STORE}.propose"),
        ("before the advisory lock", "before", "ledger.store:_lock_sequence"),
        ("advisory lock taken", "after", "ledger.store:_lock_sequence"),
        ("block made", "after", "ledger.store:next_block"),
        ("block inserted", "before", "ledger.rows:_copy"),
        ("COPY done", "after", "ledger.rows:_copy"),
        ("before the commit", "before", _COMMIT, f"{_STORE}.propose"),
        ("committed", "after", _COMMIT, f"{_STORE}.propose"),
        ("returned", "after", f"{_STORE}.propose"),
    ),
    *_steps(
        "cosignature taken in",
        ("arrived", "before", f"{_STORE}.add_cosignature"),
        ("inserted", "before", _COMMIT, f"{_STORE}.add_cosignature"),
        ("committed", "after", _COMMIT, f"{_STORE}.add_cosignature"),
        ("before the answer", "before", f"{_ANSWER}blocks"),
        ("answered", "after", f"{_ANSWER}blocks"),
    ),
    *_steps(
        "co-signing",
        ("begun", "before", "hospital_agent.witness:Witness.step"),
        ("head read", "after", f"{_API}.newest"),
        ("block read", "after", f"{_API}.block"),
        ("block checked", "after", "hospital_agent.witness:check_block"),
        ("before it signs", "before", "hospital_agent.witness:cosign"),
        ("signed", "after", "hospital_agent.witness:cosign"),
        ("replica: BEGIN", "after", "sqlite:BEGIN", f"{_REPLICA}.accept"),
        ("replica: block inserted", "after", "sqlite:INSERT", f"{_REPLICA}.accept"),
        ("replica: entries inserted", "after", "hospital_agent.replica:_insert"),
        ("replica: before COMMIT", "before", "sqlite:COMMIT", f"{_REPLICA}.accept"),
        ("replica: COMMIT", "after", "sqlite:COMMIT", f"{_REPLICA}.accept"),
        ("stored", "after", f"{_REPLICA}.accept"),
        ("before it sends", "before", f"{_API}.send_cosignature"),
        ("sent", "after", f"{_API}.send_cosignature"),
        ("before the certificate", "before", f"{_REPLICA}.keep_certificate"),
        ("certificate kept", "after", f"{_REPLICA}.keep_certificate"),
        ("before heads are compared", "before", f"{_API}.heads"),
    ),
    *_steps(
        "keys taken",
        ("before", "before", f"{_FOLDER}.take_next_keys"),
        ("old keys retired", "after", "pathlib:Path.rename", f"{_FOLDER}.take_next_keys"),
        ("form replaced", "after", "pathlib:Path.replace", f"{_FOLDER}._finish_rotation"),
        ("keys renamed", "after", "pathlib:Path.rename", f"{_FOLDER}._finish_rotation"),
        ("in force", "after", f"{_FOLDER}.take_next_keys"),
    ),
    *_steps(
        "keys proposed",
        ("first key begun", "before", "ledger.keys:write_private"),
        ("first key written", "after", "ledger.keys:write_private"),
        ("all keys made", "after", f"{_FOLDER}.next_keys"),
        ("form written", "after", "hospital_agent.enrolment:write_json"),
        ("before it is kept", "before", f"{_APPROVALS}.keep"),
        ("kept", "after", f"{_APPROVALS}.keep"),
        ("sent", "after", f"{_API}.submit"),
    ),
    *_steps(
        "policy proposed",
        ("before the commit", "before", _COMMIT, f"{_STORE}.submit"),
        ("committed", "after", _COMMIT, f"{_STORE}.submit"),
    ),
    *_steps(
        "approval",
        ("before it is stored", "before", f"{_APPROVALS}.approve"),
        ("inserted", "before", "sqlite:COMMIT", f"{_APPROVALS}.approve"),
        ("stored", "after", f"{_APPROVALS}.approve"),
        ("before it is sent", "before", f"{_API}.submit"),
        ("sent", "after", f"{_API}.submit"),
    ),
    *_steps(
        "erasure",
        ("before the commit", "before", _COMMIT, f"{_STORE}.submit"),
        ("submitted", "after", f"{_STORE}.submit"),
        ("before the erasing", "before", f"{_STORE}.erase"),
        ("erased", "after", f"{_STORE}.erase"),
    ),
]  # fmt: skip
BY_NAME = {str(step): step for step in STEPS}
SELF, POSTGRES, KEEPER, BACKENDS = "itself", "PostgreSQL", "the keeper", "the backends"
STOPPED = "stopped"  # not killed: it waits there until it is told to go on


@dataclass(frozen=True)
class Order:
    """Kill ``victim`` when ``step`` is passed for the ``passing``-th time from now on."""

    number: int
    step: str
    passing: int = 1
    victim: str = SELF

    def write(self, path: Path) -> None:
        """Gives the order to the process that reads this file."""
        partial = path.with_suffix(".new")
        partial.write_text(json.dumps(self.__dict__))
        partial.replace(path)


class _Executioner:
    """Follows the orders of one process."""

    def __init__(self, orders: Path) -> None:
        self._orders = orders
        self._lock = threading.Lock()
        self._inside = threading.local()
        self._number, self._passings = 0, 0

    @contextmanager
    def around(self, target: str) -> Iterator[None]:
        """A target's own work."""
        stack: list[str] = self._inside.__dict__.setdefault("stack", [])
        self.passing("before", target)
        stack.append(target)
        try:
            yield
        finally:
            stack.pop()
        self.passing("after", target)

    def passing(self, when: str, target: str) -> None:
        """A target is about to begin, or has just come back."""
        stack = self._inside.__dict__.get("stack", [])
        try:
            order = Order(**json.loads(self._orders.read_bytes()))
        except FileNotFoundError:
            return
        step = BY_NAME[order.step]
        if (step.when, step.target) != (when, target) or (step.within and step.within not in stack):
            return
        with self._lock:
            if order.number != self._number:
                self._number, self._passings = order.number, 0
            self._passings += 1
            if self._passings != order.passing:
                return
            note(self._orders.with_suffix(".done"), json.dumps(order.__dict__))
            if order.victim in (SELF, STOPPED):
                os.kill(os.getpid(), signal.SIGKILL if order.victim == SELF else signal.SIGSTOP)
            else:
                kill_database(os.getpid(), order.victim)


def kill_database(server: int, victim: str) -> list[int]:
    """Kills a part of the PostgreSQL that a process runs; returns whom."""
    import psutil

    keepers = [p for p in psutil.Process(server).children() if "keeper.py" in str(p.cmdline())]
    main = [child for keeper in keepers for child in keeper.children()]
    others = [child for process in main for child in process.children()]
    victims = {
        KEEPER: keepers,
        POSTGRES: main + others,
        BACKENDS: [p for p in others if "medpole_app" in " ".join(p.cmdline())],
    }[victim]
    for process in victims:
        with contextlib.suppress(psutil.NoSuchProcess):  # its own parent's end ended it
            process.kill()
    return [process.pid for process in victims]


def note(path: Path, line: str) -> None:
    """Appends a line. (A killed process loses nothing that it has written to a file.)"""
    output = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(output, line.encode() + b"\n")
    os.close(output)


def install(name: str, control: Path) -> None:
    """Wraps every target in this process, which gets its orders as ``control/NAME``."""
    executioner = _Executioner(control / f"{name}.order")
    targets = {part for step in STEPS for part in (step.target, step.within) if part}
    for target in sorted(targets):
        module, _, path = target.partition(":")
        if module not in ("sqlite", "answer"):
            _wrap(executioner, target, importlib.import_module(module), path)
    _note_sending(control / f"{name}.sent")
    _wrap_answers(executioner)
    _wrap_sqlite(executioner)


def _wrap(executioner: _Executioner, target: str, owner: Any, path: str) -> None:
    *parents, last = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    function = getattr(owner, last)

    @functools.wraps(function)
    def wrapped(*arguments: Any, **options: Any) -> Any:
        with executioner.around(target):
            return function(*arguments, **options)

    setattr(owner, last, wrapped)


def _note_sending(path: Path) -> None:
    from hospital_agent.ledger_api import LedgerApi

    send = LedgerApi.send_cosignature

    def noted(self: LedgerApi, height: int, line: str) -> None:
        note(path, f"{height} {line}")
        send(self, height, line)

    LedgerApi.send_cosignature = noted  # type: ignore[method-assign]


def _wrap_answers(executioner: _Executioner) -> None:
    import consortium.serve

    create = consortium.serve.create_app

    def created(*arguments: Any, **options: Any) -> Any:
        app = create(*arguments, **options)

        async def answering(scope: Any, receive: Any, send: Callable[[Any], Any]) -> None:
            async def sending(message: Any) -> None:
                posted = scope["type"] == "http" and scope["method"] == "POST"
                target = "answer:" + "/".join(scope["path"].split("/")[:4]) if posted else ""
                if posted and message["type"] == "http.response.start":
                    executioner.passing("before", target)
                await send(message)
                if posted and message["type"] == "http.response.body":
                    executioner.passing("after", target)

            await app(scope, receive, sending)

        return answering

    consortium.serve.create_app = created


def _wrap_sqlite(executioner: _Executioner) -> None:
    class Connection(sqlite3.Connection):
        def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
            with executioner.around(f"sqlite:{sql.split(maxsplit=1)[0]}"):
                return super().execute(sql, *values)

        def __exit__(self, *error: Any) -> Any:
            with executioner.around("sqlite:leave"):
                return super().__exit__(*error)

    connect = sqlite3.connect

    def connecting(*arguments: Any, **options: Any) -> sqlite3.Connection:
        return connect(*arguments, **{"factory": Connection, **options})

    sqlite3.connect = connecting
