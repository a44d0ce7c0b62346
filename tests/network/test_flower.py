"""What this project uses of flwr beyond its public interfaces: it fails here when flwr changes."""

import inspect
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from importlib import import_module
from io import BytesIO
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from deployment import Process, free_port
from flwr.app import ConfigRecord, Message, MessageType, RecordDict
from flwr.cli.config_utils import get_fab_config
from flwr.supercore import constant
from flwr.supercore.inflatable.inflatable_utils import pull_objects
from flwr.supercore.primitives.asymmetric import public_key_to_bytes

from consortium.errors import FlowerUnsupported, LinkRefused
from consortium.flower import check_version
from consortium.flower.bundle import app_bundle, bundle_hash
from consortium.flower.fleet import Address, fleet_connection
from consortium.flower.gate import MEMBER, PUBLIC_KEY_HEADER, SUSPENDED, write_nodes
from consortium.flower.link import Link, wait_for_link
from consortium.flower.superlink import NODES, ca_certificate, superlink_secret
from consortium.tls import make_tls


def test_names_and_limits_are_those_that_are_built_on() -> None:
    handlers = import_module("flwr.superlink.servicer.fleet.fleet_handlers")
    assert handlers.HEARTBEAT_MIN_INTERVAL == 10
    assert constant.FLEET_HTTP_PUBLIC_KEY_HEADER == PUBLIC_KEY_HEADER
    assert {"initial_backoff", "backoff_cap", "max_time"} <= set(
        inspect.signature(pull_objects).parameters
    )
    assert hasattr(import_module("flwr.superlink.grid.http_grid"), "pull_objects")


def test_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_version()
    monkeypatch.setattr("consortium.flower.version", lambda _: "1.43.0")
    with pytest.raises(FlowerUnsupported):
        check_version()


def test_the_bundle_is_flower_s_form_holds_no_code_and_is_the_same_each_time() -> None:
    bundle = app_bundle()
    config = get_fab_config(bundle)
    assert config["tool"]["flwr"]["app"]["components"]["clientapp"] == (
        "hospital_agent.client_app:app"
    )
    with zipfile.ZipFile(BytesIO(bundle)) as files:
        assert sorted(files.namelist()) == [".info/CONTENT", "CODE", "pyproject.toml"]
        assert {info.compress_type for info in files.infolist()} == {zipfile.ZIP_STORED}
    app_bundle.cache_clear()
    assert app_bundle() == bundle


@pytest.fixture
def link() -> Iterator[tuple[Link, Address, Path]]:
    """A real SuperLink of ours, and the coordinator's side of it."""
    with tempfile.TemporaryDirectory(prefix="mp-", dir="/tmp") as name:
        home, port = Path(name), free_port()
        make_tls(home, ["localhost"])
        write_nodes(home / NODES, {})
        process = Process(
            "superlink", ["consortium", "superlink", "--home", home, "--port", str(port)],
            home / "log",
        ).start()  # fmt: skip
        try:
            address = Address(f"127.0.0.1:{port}", ca_certificate(home))
            made = Link(address, superlink_secret(home))
            wait_for_link(made.nodes, 60)
            yield made, address, home
            made.close()
        finally:
            process.stop()


def test_a_message_goes_to_a_hospital_and_back(link: tuple[Link, Address, Path]) -> None:
    coordinator, address, home = link
    key = ec.generate_private_key(ec.SECP384R1())
    public = public_key_to_bytes(key.public_key())
    with pytest.raises(LinkRefused) as refused, fleet_connection(address, key):
        pass
    assert refused.value.reason == "NodeUnknown"
    write_nodes(home / NODES, {public: ("hospital-1", SUSPENDED)})
    with pytest.raises(LinkRefused) as refused, fleet_connection(address, key):
        pass
    assert refused.value.reason == "InstitutionSuspended"

    write_nodes(home / NODES, {public: ("hospital-1", MEMBER)})
    coordinator.register("hospital-1", public)
    answered = threading.Event()

    def hospital() -> None:
        with fleet_connection(address, key) as connection:
            while not answered.is_set():
                connection.heartbeat()
                message = connection.receive()
                if message is None:
                    answered.wait(0.05)
                    continue
                assert bundle_hash(connection.bundle(message.metadata.run_id)) == (
                    bundle_hash(app_bundle())
                )
                connection.send(Message(message.content, reply_to=message), 0.1)

    thread = threading.Thread(target=hospital, daemon=True)
    thread.start()
    with coordinator.run() as grid:
        nodes = wait_for_nodes(grid)
        assert [(n.institution, n.online) for n in coordinator.nodes()] == [("hospital-1", True)]
        content = RecordDict({"medpole": ConfigRecord({"head": b"\x00\xff", "entries": [b"a"]})})
        [sent] = grid.push_messages(
            [Message(content, message_type=MessageType.TRAIN, dst_node_id=nodes[0])]
        )
        found: list[Message] = []
        while not found:
            found = grid.pull_messages([sent])
    answered.set()
    thread.join(10)
    assert found[0].content.config_records["medpole"]["head"] == b"\x00\xff"


def wait_for_nodes(grid: object) -> list[int]:
    waited = threading.Event()
    while not (nodes := list(grid.get_node_ids())):  # type: ignore[attr-defined]
        waited.wait(0.05)
    return nodes


def test_without_the_secret_the_coordinator_s_ports_are_closed(
    link: tuple[Link, Address, Path],
) -> None:
    _, address, _ = link
    stranger = Link(address, "0" * 64)
    for use in (stranger.nodes, lambda: stranger.register("hospital-9", b"x")):
        with pytest.raises(LinkRefused, match="CoordinatorSecretWrong"):
            use()
    stranger.close()
