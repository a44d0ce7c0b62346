"""This hospital's Flower node: asks the SuperLink for messages, and has the ClientApp answer them.

Outbound only, in this process: torch is imported once, and no port is opened. Before a run's first
message is answered, the bytes of its app bundle are compared with the bundle of the code installed
here; nothing that arrives is installed or run.

It asks when the consortium's API tells that messages were sent (`wake`). Where nobody tells, how
often it asks follows from how long nothing came: never later than an eighth of that time, at most
every 3 s. So a round is answered within hundredths of a second, and an idle agent stays idle.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from consortium.errors import ConsortiumError, LinkRefused, LinkUnreachable, RoundInvalid
from consortium.flower.bundle import app_bundle, bundle_hash
from consortium.flower.fleet import HEARTBEAT_S, Address, FleetConnection, fleet_connection
from consortium.phases import Reply, Request
from hospital_agent.client_app import make_client_app
from hospital_agent.errors import AgentError, AppDiffers
from hospital_agent.folder import HospitalFolder
from hospital_agent.participant import Participant
from hospital_agent.policy import Policy
from hospital_agent.transport import open_transport
from ledger.errors import LedgerError
from privacy.devices import CPU

SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 0.03, 3.0
_TOLD_PAUSE_S = 10.0
_CATCH_UP_S = 30.0
log = logging.getLogger("medpole.supernode")


def pause_after(idle_s: float, *, told: bool) -> float:
    """Seconds until the next look, when nothing has come for ``idle_s`` seconds.

    ``told``: somebody tells when there is something, so that looking is for what was missed.
    """
    return _TOLD_PAUSE_S if told else min(LONGEST_PAUSE_S, max(SHORTEST_PAUSE_S, idle_s / 8))


@dataclass
class NodeState:
    """What the health endpoint shows."""

    state: str = "starting"
    since: float = field(default_factory=time.monotonic)

    def now(self, state: str) -> bool:
        """Notes a state; says whether it is a new one."""
        if state == self.state:
            return False
        self.state, self.since = state, time.monotonic()
        return True


class SuperNode:
    """One hospital's node.

    Args:
        path: the hospital's folder.
        address: the SuperLink, as its reverse proxy shows it.
        announce: tells the consortium's API which transport key this node has.
        told: whether the API tells at present when messages were sent.
        catch_up: has the witness follow to the newest block; says whether it could.
    """

    def __init__(
        self,
        path: Path,
        address: Address,
        announce: Callable[[], None],
        catch_up: Callable[[], bool],
        told: Callable[[], bool] = lambda: False,
        device: str = CPU,
    ) -> None:
        self._path, self._address, self._device = path, address, device
        self._announce, self._catch_up, self._is_told = announce, catch_up, told
        self.wake = threading.Event()
        self._app: ClientApp = make_client_app(lambda _: self._participant())
        self._current: tuple[int, Participant] | None = None
        self._checked: dict[int, str] = {}
        self.state = NodeState()

    def run(self, stop: threading.Event) -> None:
        """Connects, and connects again, until ``stop`` is set."""
        failures = 0
        while not stop.is_set():
            try:
                key = open_transport(HospitalFolder(self._path))
                with fleet_connection(self._address, key) as connection:
                    failures = 0
                    self._told("connected")
                    self._serve(connection, stop)
            except LinkRefused as error:
                self._told(error.reason or error.code)
                self._announce_again(error)
            except (LinkUnreachable, AgentError, LedgerError) as error:
                self._told(error.code)
            except Exception as error:  # its text may hold anything
                self._told(type(error).__name__)
            failures += 1
            stop.wait(min(5.0, 0.25 * 2 ** min(failures, 5)))
        self.state.now("stopped")

    def _announce_again(self, refused: LinkRefused) -> None:
        """A coordinator that was set up anew, or a new member: the key may not be known yet."""
        if refused.reason in ("", "NodeUnknown"):
            try:
                self._announce()
            except (AgentError, ConsortiumError, LedgerError) as error:
                log.warning("announce: %s", error.code)

    def _told(self, state: str) -> None:
        if self.state.now(state):
            log.info("node: %s", state)

    def _serve(self, connection: FleetConnection, stop: threading.Event) -> None:
        lost = threading.Event()
        beating = threading.Thread(
            target=_beat, args=(connection, lost, stop), name="heartbeat", daemon=True
        )
        beating.start()
        last = time.monotonic()
        try:
            keys = self._keys_inode()
            while not stop.is_set() and not lost.is_set() and keys == self._keys_inode():
                self.wake.clear()
                message = connection.receive()
                if message is None:
                    idle = time.monotonic() - last
                    self.wake.wait(pause_after(idle, told=self._is_told()))
                    continue
                begun = time.monotonic()
                reply = self._answer(connection, message)
                connection.send(reply, time.monotonic() - begun)
                last = time.monotonic()
        finally:
            lost.set()

    def _answer(self, connection: FleetConnection, message: Message) -> Message:
        run = message.metadata.run_id
        if run not in self._checked:
            self._checked = {run: self._refusal_of(connection.bundle(run))}
        try:
            request = Request.from_record_dict(message.content)
        except RoundInvalid as error:
            return Message(Reply("", error=error.code).to_record_dict(), reply_to=message)
        if code := self._checked[run]:
            reply = self._participant().decline(request, code)
            _log_answer(request, reply)
            return Message(reply.to_record_dict(), reply_to=message)
        self._wait_for_base(request.base)
        context = Context(run, message.metadata.dst_node_id, {}, RecordDict(), {})
        answered: Message = self._app(message, context)
        _log_answer(request, Reply.from_record_dict(answered.content))
        return answered

    def _refusal_of(self, bundle: bytes) -> str:
        """The code with which a run is refused; empty if it runs what is installed here."""
        shown, own = bundle_hash(bundle), bundle_hash(app_bundle())
        try:
            if shown != own:
                raise AppDiffers(
                    f"the run's app bundle is {shown[:16]}…, the installed code gives {own[:16]}…",
                    "install the version that the coordinator runs; nothing was executed",
                )
            Policy.read(self._path / "policy.json").check_app(shown, own)
        except AgentError as error:
            log.warning("run refused: %s", error.code)
            return error.code
        return ""

    def _wait_for_base(self, base: str) -> None:
        """A message may come before the block from which its round starts."""
        deadline = time.monotonic() + _CATCH_UP_S
        while not self._participant().knows(base) and time.monotonic() < deadline:
            if self._catch_up():
                return
            time.sleep(SHORTEST_PAUSE_S)

    def _participant(self) -> Participant:
        """Kept between messages, and made anew after the hospital's keys were rotated."""
        keys = self._keys_inode()
        if self._current is None or self._current[0] != keys:
            self._current = keys, Participant(HospitalFolder(self._path), self._device)
        return self._current[1]

    def _keys_inode(self) -> int:
        """Another one once the keys were rotated; the transport key goes with them."""
        try:
            return (self._path / "keys").stat().st_ino
        except FileNotFoundError:  # between the two renames of a rotation
            return 0


def _log_answer(request: Request, reply: Reply) -> None:
    place = f"{request.phase} of round {request.round} of {request.job}"
    if reply.error:
        log.warning("refused: %s (%s)", place, reply.error)
    else:
        log.info("answered: %s", place)


def _beat(connection: FleetConnection, lost: threading.Event, stop: threading.Event) -> None:
    """Heartbeats, also while a message is being answered; one that fails is tried once more."""
    failures = 0
    while not lost.wait(HEARTBEAT_S * 0.75 if not failures else 0.5):
        if stop.is_set():
            return
        try:
            connection.heartbeat()
            failures = 0
        except ConsortiumError:
            failures += 1
            if failures > 1:
                lost.set()
