"""`hospital-agent start`: the whole agent as one process. Outbound connections only.

| thread | does |
|---|---|
| node | asks the SuperLink for messages and answers them (`hospital_agent.supernode`) |
| witness | follows the ledger, derives every block anew, co-signs (`hospital_agent.witness`) |
| evaluation | evaluates what ended jobs gave out (`hospital_agent.evaluation`) |
| changes | asks the API to tell when there is something to look at, and wakes node and witness |
| health | answers `GET /health` on the loopback address (`hospital_agent.health`) |

Each goes on by itself when the other end is away. A termination signal ends them in order: a
message under way is answered first, unless that takes longer than `_STOP_S`. It is asked again
then, and whoever was killed instead loses nothing either: what was signed is stored.
"""

import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from urllib.parse import urlsplit

import httpx

from consortium.daemon import alone, stopping
from consortium.errors import ConsortiumError
from consortium.flower import check_version
from consortium.flower.fleet import Address
from hospital_agent.cohort import Cohort
from hospital_agent.connection import address_of, connect
from hospital_agent.errors import AgentError, AgentRunning, ApiUnsafe, MemberStopped
from hospital_agent.evaluation import Evaluations
from hospital_agent.folder import HospitalFolder
from hospital_agent.health import Health, serve_health
from hospital_agent.ledger_api import LedgerApi
from hospital_agent.supernode import NodeState, SuperNode, pause_after
from hospital_agent.transport import announce
from hospital_agent.witness import Witness
from ledger.errors import LedgerError
from privacy.devices import CPU, device_of

_OFFERS_EVERY_S = 10.0
_WAIT_S, _RETRY_S = 25.0, 2.0
_UNTOLD_S = 30.0  # the witness looks by itself, whatever it is told
_STOP_S = 8.0  # who supervises kills after ten
log = logging.getLogger("medpole.agent")


def start(folder: HospitalFolder, health_port: int | None, device: str = CPU) -> None:
    """Runs the agent until Ctrl-C or a termination signal; it trains on ``device``.

    Raises:
        DeviceMissing: if torch does not reach the device.
        AgentRunning: if another agent uses this folder.
        FolderInvalid: if the hospital has not enrolled over a network.
        ApiUnsafe: if it enrolled without TLS: a SuperLink always has it.
        FlowerUnsupported: if another flwr is installed.
        PortInUse: if the health endpoint's port cannot be opened.
    """
    os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
    check_version()
    device_of(device)
    address = superlink_address(folder)
    running = AgentRunning(
        f"another agent uses {folder.path}", "stop it; two agents never share a folder"
    )
    with (
        alone(folder.path / ".agent.lock", running),
        stopping() as stop,
        connect(folder) as client,
    ):
        evaluations = Evaluations(folder, LedgerApi(client, folder))
        watch = Watch(folder, client, evaluations.wake)
        node = SuperNode(
            folder.path, address, watch.announce, watch.catch_up, watch.is_told, device
        )
        health = Health(folder.institution, node.state, watch.state, watch.height)
        with ExitStack() as stack:
            if health_port is not None:
                stack.enter_context(serve_health(health, health_port))
            threads = [
                threading.Thread(target=watch.run, args=(stop,), name="witness", daemon=True),
                threading.Thread(target=node.run, args=(stop,), name="node", daemon=True),
                threading.Thread(
                    target=evaluations.run, args=(stop,), name="evaluation", daemon=True
                ),
                threading.Thread(
                    target=watch.listen, args=(stop, node.wake), name="changes", daemon=True
                ),
            ]
            for thread in threads:
                thread.start()
            log.info("agent: %s started", folder.institution)
            while not stop.wait(1.0):
                if not all(thread.is_alive() for thread in threads):
                    log.error("agent: a part has ended by itself")
                    break
            stop.set()
            watch.nudge()
            node.wake.set()
            evaluations.wake()
            deadline = time.monotonic() + _STOP_S
            for thread in threads[:3]:  # the last waits for the API, and holds nothing
                thread.join(max(0.0, deadline - time.monotonic()))
        log.info("agent: stopped")


def superlink_address(folder: HospitalFolder) -> Address:
    """Where the SuperLink is: behind the same address as the API, vouched for by the same CA.

    Raises:
        FolderInvalid: if the folder names no address.
        ApiUnsafe: if it has no CA.
    """
    parts = urlsplit(address_of(folder))
    ca = folder.path / "ca.pem"
    if parts.scheme != "https" or not ca.exists():
        raise ApiUnsafe(
            "this hospital enrolled without TLS; rounds need the consortium's network address",
            "enrol with an https:// address; `hospital-agent witness` works without",
        )
    return Address(f"{parts.hostname}:{parts.port or 443}", ca.read_bytes())


class Watch:
    """The witness in a thread, and what else is told to the API from time to time."""

    def __init__(
        self, folder: HospitalFolder, client: httpx.Client, grown: Callable[[], None]
    ) -> None:
        """``grown`` is called when the copy may have grown, or more of it may be final."""
        self._folder, self._api, self._grown = folder, LedgerApi(client, folder), grown
        self._witness = Witness(folder, self._api)
        self._lock = threading.Lock()
        self._nudged = threading.Event()
        self._height = -1
        self._offered: dict[str, int] | None = None
        self._listening = False
        self.state = NodeState()

    def height(self) -> int:
        """How far this hospital's verified copy goes."""
        return self._height

    def announce(self) -> None:
        """Tells which transport key this hospital's node has.

        Raises:
            AgentError: if the API does not take it.
        """
        announce(self._api)
        self._offered = None  # whoever forgot the key has forgotten the offers too

    def catch_up(self) -> bool:
        """Follows to the newest block at once; says whether it could."""
        return self._step()

    def nudge(self) -> None:
        """Has the witness look at once, in its own thread."""
        self._nudged.set()

    def is_told(self) -> bool:
        """Whether the API tells at present when there is something to look at."""
        return self._listening

    def listen(self, stop: threading.Event, wake: threading.Event) -> None:
        """Waits for the API to tell of blocks, and of messages for this hospital's node."""
        known = {"block": -1, "messages": -1}
        while not stop.is_set():
            try:
                counts = self._api.changes(known, _WAIT_S)
            except (AgentError, LedgerError):
                self._listening = False
                known = {"block": -1, "messages": -1}
                stop.wait(_RETRY_S)
                continue
            self._listening = True
            if counts.get("block") != known["block"]:
                self._nudged.set()
            if counts.get("messages") != known["messages"]:
                wake.set()
            known |= counts

    def run(self, stop: threading.Event) -> None:
        """Follows the ledger until stopped; what is refused is told once."""
        last, offered = time.monotonic(), float("-inf")
        nudged, looked = True, last
        while not stop.is_set():
            before, now = self._height, time.monotonic()
            if nudged or not self._listening or now - looked > _UNTOLD_S:
                self._nudged.clear()
                self._step()
                looked = now
            if self._height != before:
                last = now
            if now - offered > _OFFERS_EVERY_S:
                offered = now
                self._offer()
            idle = now - last
            pause = _OFFERS_EVERY_S if self._listening else pause_after(idle, told=False)
            nudged = self._nudged.wait(pause)
        self.state.now("stopped")

    def _step(self) -> bool:
        with self._lock:
            try:
                self._height = self._witness.step()
            except MemberStopped as error:  # follows, signs nothing
                self._told(error.code)
            except (LedgerError, ConsortiumError, AgentError) as error:
                self._told(error.code)
                return False
            except Exception as error:  # its text may hold anything
                self._told(type(error).__name__)
                return False
            else:
                self._told("following")
        self._grown()
        return True

    def _told(self, state: str) -> None:
        if self.state.now(state):
            (log.info if state == "following" else log.warning)("witness: %s", state)

    def _offer(self) -> None:
        try:
            cohorts = Cohort.all(self._folder)
            offered = {cohort.task: cohort.declared_patients for cohort in cohorts}
            if offered != self._offered:
                self._api.put_offers(offered)
                self._offered = offered
        except (LedgerError, ConsortiumError, AgentError) as error:
            log.info("offers: %s", error.code)
