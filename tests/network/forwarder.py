"""A TCP forwarder that can be cut like a cable: connections stay, nothing gets through."""

import contextlib
import select
import socket
import threading
from types import TracebackType


class Forwarder:
    """Listens on a port of its own, and forwards to another on this machine."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self._whole, self._ended = threading.Event(), threading.Event()
        self._whole.set()
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Forwarder":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:  # fmt: skip
        self._ended.set()
        self._whole.set()
        self._thread.join()
        for each in [self._listening, *self._pairs]:
            each.close()

    def cut(self) -> None:
        self._whole.clear()

    def join(self) -> None:
        self._whole.set()

    def _run(self) -> None:
        while not self._ended.is_set():
            ready = select.select([self._listening, *self._pairs], [], [], 0.05)[0]
            self._whole.wait()
            for each in ready:
                if each is self._listening:
                    self._accept()
                elif each in self._pairs:
                    self._forward(each)

    def _accept(self) -> None:
        near = self._listening.accept()[0]
        try:
            far = socket.create_connection(("127.0.0.1", self._target))
        except OSError:
            near.close()
            return
        self._pairs |= {near: far, far: near}

    def _forward(self, source: socket.socket) -> None:
        target, data = self._pairs[source], b""
        with contextlib.suppress(OSError):
            data = source.recv(65536)
            target.sendall(data)
        if not data:
            for each in (source, target):
                del self._pairs[each]
                each.close()
