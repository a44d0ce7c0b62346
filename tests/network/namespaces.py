"""Hosts of their own for a deployment's sides: network namespaces on one bridge, where allowed.

Each host has one address and its own loopback; what listens on 127.0.0.1 at one is nowhere else.
"""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

_NETWORK = "10.213.77"


class Hosts:
    """Namespaces by the name of their host."""

    def __init__(self, prefix: str, names: Sequence[str]) -> None:
        self._prefix = prefix
        self.addresses = {name: f"{_NETWORK}.{10 + i}" for i, name in enumerate(names)}

    def namespace(self, name: str) -> str:
        return f"{self._prefix}{list(self.addresses).index(name)}"

    def make(self) -> None:
        bridge = f"{self._prefix}b"
        _ip("link", "add", bridge, "type", "bridge")
        _ip("link", "set", bridge, "up")
        for name, address in self.addresses.items():
            space = self.namespace(name)
            _ip("netns", "add", space)
            _ip("link", "add", f"{space}v", "type", "veth", "peer", "name", "eth0", "netns", space)
            _ip("link", "set", f"{space}v", "master", bridge, "up")
            _ip("-n", space, "addr", "add", f"{address}/24", "dev", "eth0")
            _ip("-n", space, "link", "set", "eth0", "up")
            _ip("-n", space, "link", "set", "lo", "up")

    def cut(self, name: str) -> None:
        """Takes a host off the network; its processes go on."""
        _ip("link", "set", f"{self.namespace(name)}v", "down")

    def join(self, name: str) -> None:
        """Puts it back."""
        _ip("link", "set", f"{self.namespace(name)}v", "up")

    def remove(self) -> None:
        for name in self.addresses:
            subprocess.run(["ip", "netns", "del", self.namespace(name)], check=False,
                           capture_output=True)  # fmt: skip
        subprocess.run(["ip", "link", "del", f"{self._prefix}b"], check=False, capture_output=True)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@contextmanager
def hosts(names: Sequence[str]) -> Iterator[Hosts | None]:
    """Hosts for the time of the context; None where this machine allows none."""
    made = Hosts(f"mp{os.getpid() % 100000:05d}", names)
    try:
        made.make()
    except (OSError, subprocess.CalledProcessError):
        made.remove()
        yield None
        return
    try:
        yield made
    finally:
        made.remove()
