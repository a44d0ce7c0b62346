"""The coordinator's connection to its own SuperLink: the nodes it admits, and a run with its grid.

The SuperLink keeps its state in memory and is disposable: what a node, a run or a message there
means stands on the ledger and in the coordinator's journal. So nothing is retried or waited for
here: when the SuperLink is gone, `LinkUnreachable` says so, and the job goes on in a new run.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import httpx
from flwr.app import Message
from flwr.common.constant import SubStatus
from flwr.common.serde import fab_to_proto, run_from_proto
from flwr.proto.control_pb2 import (
    ListNodesRequest,
    ListRunsRequest,
    RegisterNodeRequest,
    StartRunRequest,
    StopRunRequest,
    UnregisterNodeRequest,
)
from flwr.proto.runtime_pb2 import (
    AcquireTaskRequest,
    PullTaskInputRequest,
    PushTaskOutputRequest,
    SendTaskHeartbeatRequest,
)
from flwr.supercore.constant import TaskType
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.fab import Fab
from flwr.supercore.inflatable.inflatable_utils import pull_objects
from flwr.supercore.interceptors import RuntimeTokenHttpInterceptor
from flwr.supercore.protobuf.client import ProtobufCall, ProtobufRequestContext
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.grid import HttpGrid, http_grid

from consortium.errors import LinkRefused, LinkUnreachable
from consortium.flower.bundle import app_bundle, bundle_hash
from consortium.flower.fleet import PULL_BACKOFF_CAP_S, PULL_BACKOFF_S, Address, gate_code
from consortium.flower.gate import SECRET_HEADER

# A reply's objects arrive after the reply: Flower would wait 1 to 10 s before it asks again.
# Nothing else goes on meanwhile, so a sender that was killed in between may not hold it up long.
http_grid.pull_objects = partial(  # type: ignore[attr-defined]
    pull_objects, initial_backoff=PULL_BACKOFF_S, backoff_cap=PULL_BACKOFF_CAP_S, max_time=15
)
_TASK_HEARTBEAT_S = 10.0
_FINISHED = "finished"
T = TypeVar("T")


@dataclass(frozen=True)
class FleetNode:
    """A node that the SuperLink knows; ``institution`` is whose it is."""

    id: int
    institution: str
    public_key: bytes
    online: bool


class Link:
    """The coordinator's side of one SuperLink.

    Args:
        address: where it listens, and the CA of its certificate.
        secret: what the gate asks of whoever uses the Control and the Runtime API.
    """

    def __init__(self, address: Address, secret: str) -> None:
        self._address, self._secret = address, secret
        self._control = ControlHttpClient.from_server_address(
            address.host_and_port,
            insecure=False,
            root_certificates=address.ca,
            interceptors=[_Secret(secret)],
        )

    def close(self) -> None:
        """Closes the connection."""
        self._control.close()

    def nodes(self) -> list[FleetNode]:
        """All nodes that are registered.

        Raises:
            LinkUnreachable, LinkRefused: if the SuperLink does not answer, or refuses.
        """
        found = _call(lambda: self._control.ListNodes(ListNodesRequest()))
        return [
            FleetNode(n.node_id, n.name, n.public_key, n.status == "online")
            for n in found.nodes_info
            if n.status != "unregistered"
        ]

    def register(self, institution: str, public_key: bytes) -> None:
        """Lets a node in. Raises as `nodes`."""
        request = RegisterNodeRequest(public_key=public_key, name=institution)
        _call(lambda: self._control.RegisterNode(request))

    def unregister(self, node: FleetNode) -> None:
        """Forgets a node; its key can never be registered again with this SuperLink."""
        _call(lambda: self._control.UnregisterNode(UnregisterNodeRequest(node_id=node.id)))

    @contextmanager
    def run(self) -> Iterator["RunGrid"]:
        """A new run of the app, for the time of the context; runs that were left over are stopped.

        Raises:
            LinkUnreachable, LinkRefused: as `nodes`.
        """
        self._stop_leftovers()
        bundle = app_bundle()
        fab = Fab(bundle_hash(bundle), bundle, {})
        started = _call(lambda: self._control.StartRun(StartRunRequest(fab=fab_to_proto(fab))))
        grid = self._acquire(started.run_id)
        try:
            with grid.kept_alive():
                yield grid
        except BaseException:
            grid.finish(SubStatus.FAILED)
            raise
        grid.finish(SubStatus.COMPLETED)

    def _stop_leftovers(self) -> None:
        runs = _call(lambda: self._control.ListRuns(ListRunsRequest())).run_dict
        for identity in runs:
            if run_from_proto(runs[identity]).status.status != _FINISHED:
                with suppress(LinkRefused):  # it has ended meanwhile
                    request = StopRunRequest(run_id=identity)
                    _call(lambda r=request: self._control.StopRun(r))  # type: ignore[misc]

    def _acquire(self, run_id: int) -> "RunGrid":
        with self._runtime() as runtime:
            while True:
                acquired = _call(
                    lambda: runtime.AcquireTask(
                        AcquireTaskRequest(supported_task_types=[TaskType.SERVER_APP])
                    )
                )
                if acquired.HasField("task") and acquired.task.run_id == run_id:
                    break
                if not acquired.HasField("task"):
                    raise LinkRefused(
                        "the SuperLink has no task for the run that it started",
                        "start the coordinator again; does another one use this SuperLink?",
                    )
        client = self._runtime(acquired.token)
        grid = RunGrid(self._address.host_and_port, client)
        grid.begin()
        return grid

    def _runtime(self, token: str | None = None) -> RuntimeHttpClient:
        interceptors: list[Any] = [_Secret(self._secret)]
        if token is not None:
            interceptors.append(RuntimeTokenHttpInterceptor(token=token))
        return RuntimeHttpClient.from_server_address(
            self._address.host_and_port,
            insecure=False,
            root_certificates=self._address.ca,
            interceptors=interceptors,
        )


class RunGrid(HttpGrid):
    """Flower's grid of one run, without its retries: they would kill the process on a 401.

    Raises `LinkUnreachable` or `LinkRefused` from every call when the SuperLink is gone, was
    started anew, or has ended the run.
    """

    def __init__(self, address: str, client: RuntimeHttpClient) -> None:
        super().__init__(address, token="-")  # noqa: S106 (the client carries the token)
        self._client = client

    def begin(self) -> None:
        """Takes the run's input: from here on it runs."""
        begun = _call(self._pull_input)
        # What Flower's `Message` takes its sender from.
        TaskIdentity.task_id, TaskIdentity.run_id = begun.task_id, begun.run.run_id
        TaskIdentity.node_id = begun.context.node_id
        self.set_run(run_from_proto(begun.run))

    def _pull_input(self) -> Any:
        return self._runtime_client.PullTaskInput(PullTaskInputRequest())

    @contextmanager
    def kept_alive(self) -> Iterator[None]:
        """Tells the SuperLink in a thread that this run is still led."""
        stopped = threading.Event()

        def beat() -> None:
            while not stopped.wait(_TASK_HEARTBEAT_S):
                with suppress(Exception):  # the next call of the grid tells
                    self._runtime_client.SendTaskHeartbeat(SendTaskHeartbeatRequest())

        thread = threading.Thread(target=beat, name="run-heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stopped.set()
            thread.join(1)

    def finish(self, status: str) -> None:
        """Ends the run, as far as the SuperLink is there to hear it."""
        with suppress(Exception):
            self._runtime_client.PushTaskOutput(
                PushTaskOutputRequest(sub_status=status, details="")
            )
        self.close()

    def get_node_ids(self) -> list[int]:
        """The nodes that are online."""
        return _call(lambda: list(HttpGrid.get_node_ids(self)))

    def push_messages(self, messages: Sequence[Message]) -> list[str]:  # type: ignore[override]
        """Sends messages; the id of each, empty for one that was not taken."""
        return _call(lambda: list(HttpGrid.push_messages(self, messages)))

    def pull_messages(self, message_ids: Sequence[str]) -> list[Message]:  # type: ignore[override]
        """The answers that have come."""
        return _call(lambda: list(HttpGrid.pull_messages(self, message_ids)))


class _Secret:
    """Shows the gate that this is the coordinator."""

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def intercept(self, context: ProtobufRequestContext, call_next: ProtobufCall) -> httpx.Response:
        """Adds the secret."""
        context.request.headers[SECRET_HEADER] = self._secret
        return call_next(context)


def wait_for_link(make: Callable[[], T], seconds: float, every: float = 0.2) -> T:
    """Tries until the SuperLink answers, or the time is over.

    Raises:
        LinkUnreachable: if it never did.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return make()
        except LinkUnreachable:
            if time.monotonic() > deadline:
                raise
        time.sleep(every)


def _call(call: Callable[[], T]) -> T:
    try:
        return call()
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        raise LinkRefused(
            f"the SuperLink refused the coordinator ({gate_code(error.response) or status})",
            "give both the same --home; if it was started anew, the job goes on in a new run",
        ) from None
    except (httpx.HTTPError, ValueError) as error:
        raise LinkUnreachable(
            f"the SuperLink does not answer ({type(error).__name__})",
            "start it: `consortium superlink`, with the same --home",
        ) from None
