"""A hospital's connection to the SuperLink, over Flower's own client of the Fleet API.

One message at a time: pull it with its objects, answer it, push the answer with its objects. Every
request is signed with the node's key by Flower's own interceptor. Nothing is retried here: whoever
holds the connection opens it anew.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import Message
from flwr.app.message import remove_content_from_message
from flwr.common.serde import (
    fab_from_proto,
    message_from_proto,
    message_to_proto,
    run_from_proto,
)
from flwr.proto.fab_pb2 import GetFabRequest
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    DeactivateNodeRequest,
    PullMessagesRequest,
    PushMessagesRequest,
)
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.message_pb2 import ObjectTree
from flwr.proto.node_pb2 import Node
from flwr.proto.run_pb2 import GetRunRequest
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_protobuf_utils import (
    make_confirm_message_received_fn_protobuf,
    make_pull_object_fn_protobuf,
    make_push_object_fn_protobuf,
)
from flwr.supercore.inflatable.inflatable_utils import (
    ObjectPullError,
    inflate_object_from_contents,
    pull_objects,
    push_objects,
)
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from consortium.errors import LinkRefused, LinkUnreachable

HEARTBEAT_S = 4.0
"""A node that was not heard for twice as long is gone (Flower's HEARTBEAT_PATIENCE)."""
PULL_BACKOFF_S, PULL_BACKOFF_CAP_S = 0.02, 0.2
"""Objects arrive after the message that names them: how soon they are asked for again."""


@dataclass(frozen=True)
class Address:
    """Where the SuperLink is, and which certificate authority vouches for it (PEM)."""

    host_and_port: str
    ca: bytes


class FleetConnection:
    """One activated node's connection."""

    def __init__(self, client: FleetHttpClient, node: Node) -> None:
        self._client, self._node = client, node

    def heartbeat(self) -> None:
        """Says that this node is there.

        Raises:
            LinkUnreachable, LinkRefused: if the SuperLink does not take it.
        """
        with _translated():
            request = SendNodeHeartbeatRequest(node=self._node, heartbeat_interval=HEARTBEAT_S)
            if not self._client.SendNodeHeartbeat(request).success:
                raise _unknown_node()

    def receive(self) -> Message | None:
        """The next message for this node, whole, or None.

        Raises:
            LinkUnreachable, LinkRefused: if the SuperLink does not answer, or refuses.
        """
        with _translated():
            response = self._client.PullMessages(PullMessagesRequest(node=self._node))
            if not response.messages_list:
                return None
            message = message_from_proto(response.messages_list[0])
            tree: ObjectTree = response.message_object_trees[0]
            run, identity = message.metadata.run_id, message.metadata.message_id
            contents = pull_objects(
                [part.object_id for part in iterate_object_tree(tree)],
                make_pull_object_fn_protobuf(self._client.PullObject, self._node, run),
                max_time=60,
                initial_backoff=PULL_BACKOFF_S,
                backoff_cap=PULL_BACKOFF_CAP_S,
            )
            make_confirm_message_received_fn_protobuf(
                self._client.ConfirmMessageReceived, self._node, run
            )(identity)
            whole = inflate_object_from_contents(identity, contents)
            assert isinstance(whole, Message)
            whole.metadata.__dict__["_message_id"] = identity
            return whole

    def bundle(self, run_id: int) -> bytes:
        """The bytes of a run's app bundle, as the SuperLink has them: nothing is installed.

        Raises:
            LinkUnreachable, LinkRefused: as `receive`.
        """
        with _translated():
            run = run_from_proto(
                self._client.GetRun(GetRunRequest(node=self._node, run_id=run_id)).run
            )
            request = GetFabRequest(node=self._node, hash_str=run.fab_hash, run_id=run_id)
            return fab_from_proto(self._client.GetFab(request).fab).content

    def send(self, reply: Message, seconds: float) -> None:
        """Pushes an answer; ``seconds`` is how long it took to make.

        Raises:
            LinkUnreachable, LinkRefused: as `receive`.
        """
        with _translated(), no_object_id_recompute():
            reply.metadata.__dict__["_message_id"] = reply.object_id
            objects, tree = get_all_nested_objects(reply), get_object_tree(reply)
            response = self._client.PushMessages(
                PushMessagesRequest(
                    node=self._node,
                    messages_list=[message_to_proto(remove_content_from_message(reply))],
                    message_object_trees=[tree],
                    clientapp_runtime_list=[seconds],
                )
            )
            push_objects(
                objects,
                make_push_object_fn_protobuf(
                    self._client.PushObject, self._node, reply.metadata.run_id, response.session_id
                ),
                object_ids_to_push=set(response.objects_to_push),
            )


@contextmanager
def fleet_connection(
    address: Address, key: ec.EllipticCurvePrivateKey
) -> Iterator[FleetConnection]:
    """Activates the node that ``key`` identifies, for the time of the context.

    Raises:
        LinkUnreachable: if the SuperLink does not answer, or ``ca`` does not vouch for it.
        LinkRefused: if it does not let this node in.
    """
    public = public_key_to_bytes(key.public_key())
    with FleetHttpClient.from_server_address(
        address.host_and_port,
        insecure=False,
        root_certificates=address.ca,
        interceptors=[NodeAuthHttpInterceptor(key, key.public_key())],
    ) as client:
        with _translated():
            activated = client.ActivateNode(
                ActivateNodeRequest(public_key=public, heartbeat_interval=HEARTBEAT_S)
            )
        node = Node(node_id=activated.node_id)
        try:
            yield FleetConnection(client, node)
        finally:
            with suppress(httpx.HTTPError, ValueError):
                client.DeactivateNode(DeactivateNodeRequest(node_id=node.node_id))


@contextmanager
def _translated() -> Iterator[None]:
    """Flower's and httpx's errors as ours: codes, never a text that somebody else wrote."""
    try:
        yield
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        if status in (502, 503, 504):
            raise LinkUnreachable(
                f"the SuperLink is not there behind its proxy ({status})",
                "wait: the agent tries again; if it stays, ask the coordinator",
            ) from None
        code = gate_code(error.response)
        raise LinkRefused(
            f"the SuperLink refused this node ({code or status})",
            "see `hospital-agent preflight`: is this hospital a member in force, is its "
            "transport key announced, does another agent run with the same key?",
            code,
        ) from None
    except (httpx.HTTPError, ObjectPullError, ValueError) as error:
        raise LinkUnreachable(
            f"the SuperLink does not answer ({type(error).__name__})",
            "wait: the agent tries again; see `hospital-agent preflight`",
        ) from None


def gate_code(response: httpx.Response) -> str:
    """The code with which the gate refused; empty if Flower itself did."""
    try:
        content = response.json()
    except ValueError:
        return ""
    code = content.get("code") if isinstance(content, dict) else None
    return code if isinstance(code, str) else ""


def _unknown_node() -> LinkRefused:
    return LinkRefused(
        "the SuperLink does not know this node any more",
        "wait: the agent opens its connection anew",
    )
