"""What stands before the API: TLS ended with the consortium's certificates, bytes passed on.

A real TLS server in a thread, without a reverse proxy's rules: those have their own tests.
"""

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path


class Front:
    """Where it listens; what it received, decrypted, is kept."""

    def __init__(self, context: ssl.SSLContext, target: Path | None, host: str) -> None:
        self.received: list[bytes] = []
        self.port = 0
        self.handshakes = 0
        self._context, self._target, self._host = context, target, host
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="tls-front", daemon=True)

    @property
    def url(self) -> str:
        """What hospitals are given."""
        return f"https://{self._host}:{self.port}"

    def start(self) -> None:
        """Returns once it listens."""
        self._thread.start()
        assert self._ready.wait(10)

    def stop(self) -> None:
        """Returns once it has ended."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        starting = asyncio.start_server(self._serve, self._host, 0, ssl=self._context)
        server = self._loop.run_until_complete(starting)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.handshakes += 1
        if self._target is None:
            with contextlib.suppress(OSError):
                while data := await reader.read(65536):
                    self.received.append(data)
            writer.close()
            return
        try:
            inner_reader, inner_writer = await asyncio.open_unix_connection(str(self._target))
        except OSError:
            writer.close()
            return
        await asyncio.gather(
            self._pass(reader, inner_writer, keep=True), self._pass(inner_reader, writer)
        )

    async def _pass(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, keep: bool = False
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                if keep:
                    self.received.append(data)
                sink.write(data)
                await sink.drain()
        with contextlib.suppress(OSError):
            sink.close()


@contextlib.contextmanager
def front(tls: Path, target: Path | None, host: str = "localhost") -> Iterator[Front]:
    """TLS with a folder's certificates; ``target`` is the API's socket, None for a deaf one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls / "server.pem", tls / "server.key")
    made = Front(context, target, host)
    made.start()
    try:
        yield made
    finally:
        made.stop()
